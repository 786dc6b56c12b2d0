"""Health of a run: is it alive, and does it keep up? Judged from outside its dataflows, by the records they leave.

Signs of life
-------------
- Epochs: the engine's recovery stores say how far each worker has come. A sink or a source that hangs, in whatever
  process, holds up the epoch of all.
- The journal: with live inputs it has a slice at least every second, whatever arrives.
- Decisions: where the journal is ahead of the audit, the audit must grow.
- Threads: with live inputs none of them ever ends.
- The start: with live inputs a process is ready only when journal and audit have grown since it began.

A sign that did not move for ``stuck_s`` is stuck: the run is not alive. A reader that is too far behind, or further and
further, is not ready: it works, but too slowly. A bus that cannot be read is a reason too, and so is a look that never
came back.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from seawall.connectors.bus import Bus, Replica, decided_slices, open_bus
from seawall.ops.run._preparation import MARKET_RECOVERY, SEAL_RECOVERY, recovery_store
from seawall.ops.run._worker_progress import WorkerProgress
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import SeawallError
from seawall.schemas.records import decode_slice

log = logging.getLogger("seawall")
STORE = "part-0.sqlite3"
JOURNAL, AUDIT = "the journal", "the audit"
GROWING_MIN = 100  # records in a window: less than that comes and goes
Clock = Callable[[], float]


class StallDetector:
    """Something that must not stand still: its last value, since when it has that, and whether it ever had another."""

    def __init__(self, name: str, now: float) -> None:
        self.name, self.since, self.begun = name, now, False
        self._value: object = None

    def look(self, value: object, now: float, idle: bool = False) -> None:
        """Take the value of now; ``idle``: it need not move."""
        self.begun = self.begun or (self._value is not None and value != self._value)
        if value != self._value or idle:
            self._value, self.since = value, now


class LagTrend:
    """Lag of a reader in records, and its change over the window."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, int]] = deque()
        self.records = 0

    def look(self, records: int, now: float) -> None:
        """Take the lag of now."""
        self.records = records
        self._seen.append((now, records))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self._window_s:
            self._seen.popleft()

    def growth(self) -> int:
        """Return by how much it grew where the later half of a whole window lies above the earlier one; else 0."""
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        if ended - began < self._window_s or last - first < GROWING_MIN:
            return 0
        middle = (began + ended) / 2
        earlier = max(records for at, records in self._seen if at <= middle)
        later = min(records for at, records in self._seen if at > middle)
        return last - first if later > earlier else 0


class Monitor(threading.Thread):
    """Looks at a run now and then.

    Parameters
    ----------
    configuration
        The run's; its ``health`` says how often, and what is too long.
    dataflows
        Which of them this process runs.
    threads
        Those that must not end while inputs are live; may grow.
    stopped
        Tells that the run is stopping: then nothing more is asked of it.
    clock
        Seconds.
    replica
        What this process is where several run the same: its epochs are in a store of its own.

    Attributes
    ----------
    stuck, behind
        Why the run is not alive, and why it is alive but not ready, in one line each.
    """

    def __init__(
        self,
        configuration: Configuration,
        dataflows: set[str],
        threads: list[threading.Thread],
        stopped: Callable[[], bool],
        clock: Clock = time.monotonic,
        replica: Replica | None = None,
    ) -> None:
        super().__init__(name="health", daemon=True)
        self._configuration, self._terms = configuration, configuration.health
        self._dataflows, self._threads, self._stopped, self._clock = dataflows, threads, stopped, clock
        self._live = bool(configuration.topics)
        self._bus: Bus | None = None
        self._moving: dict[str, StallDetector] = {}
        self._lags: dict[tuple[str, str, int], LagTrend] = {}
        stores = {"risk": recovery_store(configuration, replica), "market": configuration.directory / MARKET_RECOVERY}
        if replica is None:  # one that waits for its turn to seal has no epochs
            stores["seal"] = recovery_store(configuration, None, SEAL_RECOVERY)
        self._frontiers = {name: WorkerProgress(stores[name] / STORE) for name in sorted(dataflows & stores.keys())}
        self._enough = threading.Event()
        self._made_at = clock()
        self._looked_at: float | None = None
        self.stuck: list[str] = []
        self.behind: list[str] = []

    def run(self) -> None:
        """Look until told to end."""
        while not self._enough.is_set():
            try:
                self.look()
            except Exception as error:  # no process can be started, say: what lasts is told as a look that did not end
                log.warning("a look at the run failed: %r", error)
            self._enough.wait(self._terms.check_s)
        for frontier in self._frontiers.values():
            frontier.close()
        if self._bus is not None:
            self._bus.close()

    def end(self) -> None:
        """Look no more."""
        self._enough.set()

    def look(self) -> None:
        """Look once; what is found stands until the next look."""
        now = self._clock()
        stuck = []
        try:
            self._look_at_bus(now)
        except (SeawallError, msgspec.MsgspecError) as error:
            stuck.append(f"the bus cannot be read: {error}")
        for name, ask in self._frontiers.items():
            self._look_at_store(name, ask, now)
        limit = self._terms.stuck_s
        stuck += [
            f"{name} has not moved for {now - one.since:.0f} s, more than {limit:g}"
            for name, one in self._moving.items()
            if now - one.since > limit
        ]
        if self._live and not self._stopped():
            stuck += [f"the thread {one.name} has ended" for one in self._threads if not one.is_alive()]
        self.stuck, self.behind = stuck, self._late()
        self._looked_at = now

    def answers(self) -> tuple[list[str], list[str]]:
        """Return why the run is not alive, and why it is not ready; both empty where all is well."""
        now, seen = self._clock(), self._looked_at
        which, began = ("first", self._made_at) if seen is None else ("last", seen)
        if now - began > self._terms.stuck_s + self._terms.check_s:
            return [f"the {which} look at the run began {now - began:.0f} s ago and did not end"], []
        starting = ["the run is starting"] if seen is None else []
        stopping = ["the run is stopping"] if self._stopped() else []
        return list(self.stuck), [*starting, *stopping, *self.behind]

    def lags(self) -> dict[tuple[str, str, int], int]:
        """Return records behind, by dataflow, topic and partition."""
        return {place: lag.records for place, lag in self._lags.copy().items()}

    def ages(self) -> dict[str, float]:
        """Return seconds since each thing that must move did."""
        now = self._clock()
        return {name: max(0.0, now - one.since) for name, one in self._moving.copy().items()}

    # --- what is looked at ------------------------------------------------------------------------------------------

    def _look_at_bus(self, now: float) -> None:
        bus = self._bus = self._bus or open_bus(self._configuration.bus, self._configuration.directory)
        shards = self._configuration.shards
        journal = [bus.end("journal", shard) for shard in range(shards)]
        if "sequence" in self._dataflows:
            self._move(JOURNAL, tuple(journal), now, idle=not self._live or self._stopped())
            self._look_at_inputs(bus, journal[0], now)
        if "risk" in self._dataflows:
            decided = [decided_slices(bus, shard) for shard in range(shards)]
            for shard, (end, done) in enumerate(zip(journal, decided, strict=True)):
                self._lag("risk", "journal", shard, max(0, end - done), now)
            self._move(AUDIT, tuple(decided), now, idle=decided == journal or self._stopped())

    def _look_at_inputs(self, bus: Bus, end: int, now: float) -> None:
        """Compare live topics with where the journal's last slice says they were taken up to."""
        last = bus.read("journal", 0, end - 1, 1) if end else []
        taken = decode_slice(last[0].value).sources if last else {}
        for topic in self._configuration.topics:
            for partition in bus.partitions(topic):
                position = taken.get(f"{topic}/{partition}", [0])[0]
                self._lag("sequence", topic, partition, max(0, bus.end(topic, partition) - position), now)

    def _look_at_store(self, name: str, ask: WorkerProgress, now: float) -> None:
        """Ask a recovery store how far its workers have come; one that is not there yet has nothing to move."""
        found = ask()
        if found is not None:
            self._move(f"the epoch of {name}", found, now, idle=not self._live or self._stopped())

    def _move(self, name: str, value: object, now: float, idle: bool) -> None:
        self._moving.setdefault(name, StallDetector(name, now)).look(value, now, idle)

    def _lag(self, dataflow: str, topic: str, partition: int, records: int, now: float) -> None:
        self._lags.setdefault((dataflow, topic, partition), LagTrend(self._terms.window_s)).look(records, now)

    def _late(self) -> list[str]:
        found = []
        for (dataflow, topic, partition), lag in self._lags.items():
            place = f"{dataflow} is {lag.records:,} records behind {topic}/{partition}"
            if lag.records > self._terms.lag_max:
                found.append(f"{place}, more than {self._terms.lag_max:,}")
            elif grown := lag.growth():
                found.append(f"{place}, {grown:,} more than {self._terms.window_s:g} s ago")
        return found + [f"{name} has not grown yet since this process began" for name in self._not_begun()]

    def _not_begun(self) -> list[str]:
        """Return what live inputs must have moved before a process counts as ready: until then it is still starting.

        One that only decides need not wait for a sequencer that is down, where it has decided on all there is.
        """
        alone = "sequence" not in self._dataflows
        decided = alone and not any(lag.records for lag in self._lags.values())
        names = [name for name in (JOURNAL, AUDIT) if self._live and not (name == AUDIT and decided)]
        return [name for name in names if name in self._moving and not self._moving[name].begun]
