"""``sequence``: raw records in; the journal and the rejects out.

The only dataflow that looks at clocks and at arrival order; it writes down what it chose (architecture.md, "The journal
rule"). With bounded inputs not even it chooses: the journal is a function of the bytes of inputs and configuration,
wherever it was killed.

1. On start, fold the journal: directory, ordinals, ids, positions, the last tick.
2. Merge the files from there by (effective time, place in ``events``, line), and after them the signals that ``market``
   has made of them; cut, and write whole steps.
3. Then follow the live topics and the signals, cutting by the clock.

Run by ``seawall run``, or on its own: ``python -m bytewax.run "seawall.dataflows.sequence:flow('desk.toml')"``.
"""

import logging
import threading
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from seawall.connectors.bus import Bus, open_bus
from seawall.connectors.feeds import load_feeds
from seawall.dataflows.adopting import Adoption
from seawall.dataflows.bounded import Bounded
from seawall.dataflows.clocks import ahead_s, clock_of
from seawall.dataflows.folding import fold
from seawall.dataflows.following import Following
from seawall.dataflows.inputs import Clock
from seawall.dataflows.journaling import JournalWriter
from seawall.dataflows.upgrading import check_drained
from seawall.operators.core.sequence import Slicer
from seawall.operators.core.standing import Standing
from seawall.operators.core.ticks import Item
from seawall.schemas.configuration import Configuration, journaled, load_configuration
from seawall.schemas.events import NO_TIME
from seawall.schemas.telemetry import watching

if TYPE_CHECKING:
    from bytewax.dataflow import Dataflow

log = logging.getLogger("seawall")
BATCH = 1000


class Sequencer:
    """Writes the journal of one configuration.

    Parameters
    ----------
    configuration
        What to read and how to cut it.
    bus
        Where journal and rejects stand, and live topics.
    standing
        What an earlier fold of this journal returned.
    take
        Fence whoever cuts this journal, where the bus can.
    clock
        Microseconds since the epoch; None: the machine's. With bounded inputs it decides only what lies in the future.

    Raises
    ------
    ClockError
        The machine's clock jumps while live topics are followed.
    UsageError
        An input cannot be read, or the configuration changed what never may.
    PartitionLocked
        Another sequencer of this journal is alive.

    Notes
    -----
    Each transaction is of whole steps over all shards, so after a crash all shards stand at the same tick.
    """

    def __init__(
        self,
        configuration: Configuration,
        bus: Bus,
        clock: Clock | None = None,
        take: bool = False,
        standing: Standing | None = None,
    ) -> None:
        self._live = bool(configuration.topics)
        clock = clock or clock_of(configuration)
        shards = configuration.shards
        written = [("journal", shard) for shard in range(shards)]
        writer = bus.writer([*written, ("rejects", shards)], take)
        self._journal = JournalWriter(writer, shards, clock)
        try:
            writer.end("journal", 0)  # from here on no earlier sequencer writes: what is folded is all there is
            self.standing = fold(bus, shards, standing)
            self._adoption = Adoption(configuration, self.standing, clock)
            if self._live:
                self._check_clock(clock())
            event = journaled(configuration, self.standing.configuration, self._adoption.take_keys())
            check_drained(bus, shards, self.standing.configuration)
            inputs = configuration, bus, self.standing, clock, load_feeds(configuration)
            bounded, self._following = Bounded(*inputs), Following(*inputs)
            first = NO_TIME if self.standing.as_of_us else self._first_time(bounded)
            self._slicer = Slicer(self.standing, event, bounded.places, configuration.slice_ms * 1000, first)
            self._adoption.adopt(self._slicer)
            self.standing.admission.check_measures()
        except BaseException:
            self.close()
            raise
        self._merged: Iterator[Item] | None = bounded.items()
        telemetry = watching()
        if telemetry is not None:
            telemetry.totals |= {"events": lambda: self.events, "late_events": lambda: self.late}

    @property
    def slices(self) -> int:
        """Slices cut."""
        return self._journal.slices

    @property
    def events(self) -> int:
        """Records taken, rejected ones left out."""
        return self._slicer.records - self._slicer.rejected

    @property
    def rejected(self) -> int:
        """Records rejected."""
        return self._slicer.rejected

    @property
    def late(self) -> int:
        """Records earlier than their predecessors, or than an interval that was cut."""
        return self._slicer.late

    def run(self, stop: threading.Event) -> None:
        """Work until bounded inputs end or ``stop`` is set; flush and let the journal go."""
        try:
            while not stop.is_set() and self.step():
                if (rest_s := self._following.rest_s()) > 0:
                    stop.wait(rest_s)
            self._journal.flush(self._following.cut_us)
        finally:
            self.close()

    def step(self) -> bool:
        """Do a bounded amount of work; return False when bounded inputs are finished and there are no live ones."""
        if self._merged is None:
            self._follow()
            return True
        before = self._slicer.records
        self._slicer.add(islice(self._merged, BATCH))
        if self._slicer.records - before == BATCH:
            self._journal.append(self._slicer.steps)
            self._journal.submit_if_due()
            return True
        self._merged = None
        if not self._live:
            self._slicer.finish()
        self._journal.append(self._slicer.steps)
        self._journal.flush()
        return self._live

    def close(self) -> None:
        """Let the journal go; what was not flushed is not written."""
        self._journal.close()

    def _follow(self) -> None:
        """Take what has arrived on live topics, and write what the clock cuts of it."""
        following = self._following
        if following.is_due():
            self._adoption.adopt_arrived(self._slicer)
            following.discover(self._slicer)
        following.take(self._slicer)
        self._journal.append(self._slicer.steps)
        (self._journal.submit if following.behind else self._journal.flush)(following.cut_us)

    def _check_clock(self, now_us: int) -> None:
        """Say so where the journal is ahead of the clock: nothing is cut until the clock is there."""
        if ahead := ahead_s(self.standing.as_of_us, now_us):
            text = "the journal ends %s s after what this machine's clock says, and no slice is cut until it is there"
            log.warning(f"{text}; see to its time service (chronyc tracking, timedatectl)", f"{ahead:,.0f}")

    def _first_time(self, bounded: Bounded) -> int:
        """Return the first event time of all files; where none has one, that of the live topics, or the clock."""
        found = bounded.first_time()
        if found is None and self._live:
            return self._following.first_time()
        return found or 0


def flow(path: str) -> "Dataflow":
    """Return the dataflow of a configuration file, for ``bytewax.run``."""
    from seawall.dataflows.driver import build

    configuration = load_configuration(path)
    return build(configuration, lambda: Sequencer(configuration, open_bus(configuration.bus, configuration.directory)))
