"""Counts what stands on the topics, from outside the dataflows: alerts, breaches, commands, answers, rejects, seals.

Topics on which little stands are read whole, so that what *stands* (levels, unanswered commands) is right after a
restart; *counters* take what came since this process began, so that a restart is no burst. Of large topics only the end
is asked. Nothing here costs a slice anything.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import orjson

from seawall.connectors.bus import Bus
from seawall.schemas.configuration import Configuration
from seawall.schemas.decode import decode_event
from seawall.schemas.errors import Rejected
from seawall.schemas.events import Acknowledgement
from seawall.schemas.records import Stored
from seawall.schemas.telemetry import Timing

LABELS_MAX = 200  # values of one label; what comes after counts as OTHER
OTHER = "other"
COMMANDS_MAX = 10_000  # remembered, to know what is answered and when
SCOPES_MAX = 100_000  # at a level
LOOK_S = 0.5  # that one look may take; the next goes on
ANSWER_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


@dataclass(slots=True)
class Issued:
    """A command that was issued, and whether anybody has answered it."""

    kind: str
    iat_us: int
    exp_us: int
    answered: bool = False


class Counts:
    """Counters by labels, bounded in number: labels that come after the bound are counted together."""

    def __init__(self) -> None:
        self.of: Counter[tuple[str, ...]] = Counter()

    def add(self, *labels: str) -> None:
        """Count one."""
        if labels not in self.of and len(self.of) >= LABELS_MAX:
            labels = (OTHER,) * len(labels)
        self.of[labels] += 1


class Tally:
    """What stands on the topics that the dataflows of a process write.

    Parameters
    ----------
    configuration
        The run's.
    dataflows
        Which of them this process runs: only what these write is counted, so that sums over processes are right.
    bus
        The bus; only the thread that looks uses it.
    clock
        Seconds, for how long a look takes.
    """

    def __init__(
        self, configuration: Configuration, dataflows: set[str], bus: Bus, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._configuration, self._bus, self._clock = configuration, bus, clock
        self._dataflows, self._readers = dataflows, self._wanted(dataflows)
        self._offsets: dict[tuple[str, int], int] = {}
        self._counted_from = {place: bus.end(*place) for place in self._places()}
        self.alerts, self.breaches, self.commands = Counts(), Counts(), Counts()
        self.answers, self.rejects, self.models = Counts(), Counts(), Counts()
        self.answer_delay = Timing(ANSWER_S)
        self.levels: dict[tuple[str, str], str] = {}
        self.issued: OrderedDict[str, Issued] = OrderedDict()
        self.forecasts: dict[tuple[str, str, str, str], float] = {}
        self.sealed: dict[int, int] = {}
        self.ends: dict[tuple[str, int], int] = {}

    def _wanted(self, dataflows: set[str]) -> dict[str, Callable[[Stored, bool], None]]:
        found: dict[str, Callable[[Stored, bool], None]] = {}
        if dataflows & {"risk", "sequence"}:
            found["rejects"] = self._reject
        if "risk" in dataflows:
            found |= {"alerts": self._alert, "breaches": self._breach, "commands": self._command}
            found |= {"acknowledgements": self._answer}
            if self._configuration.forecasts["enabled"]:
                found["forecasts"] = self._forecast
        if "market" in dataflows:
            found["signals"] = self._signal
        return found

    def _places(self) -> Iterator[tuple[str, int]]:
        shards = self._configuration.shards
        for topic in self._readers:
            for partition in self._bus.partitions(topic):
                if topic != "rejects" or ("sequence" if partition == shards else "risk") in self._dataflows:
                    yield topic, partition

    def look(self) -> None:
        """Read on from where the last look ended, for a bounded time."""
        until = self._clock() + LOOK_S
        for topic, partition in self._places():
            take, offset = self._readers[topic], self._offset(topic, partition)
            first = self._counted_from.get((topic, partition), 0)
            while self._clock() < until and (found := self._bus.read(topic, partition, offset)):
                for stored in found:
                    take(stored, stored.offset >= first)
                offset = self._offsets[topic, partition] = found[-1].offset + 1
        self._look_at_ends()

    def _offset(self, topic: str, partition: int) -> int:
        """Return where to read on: large topics from where this process began, small ones from their start."""
        known = self._offsets.get((topic, partition))
        if known is not None:
            return known
        if topic in ("signals", "forecasts"):
            return self._counted_from.get((topic, partition), 0)
        return self._bus.start(topic, partition)

    def _look_at_ends(self) -> None:
        shards = self._configuration.shards
        for topic, dataflow, count in (("journal", "sequence", shards), ("audit", "risk", shards + 1)):
            for partition in range(count if dataflow in self._dataflows else 0):
                self.ends[topic, partition] = self._bus.end(topic, partition)
        for partition in self._bus.partitions("checkpoints") if "seal" in self._dataflows else ():
            last = self._bus.read("checkpoints", partition, self._bus.end("checkpoints", partition) - 1, 1)
            self.sealed[partition] = int(last[0].value.split(b"\n")[1]) if last else 0

    # --- topics -----------------------------------------------------------------------------------------------------

    def _alert(self, stored: Stored, counts: bool) -> None:
        if counts:
            alert = orjson.loads(stored.value)
            self.alerts.add(alert["kind"], str(alert["severity"]))

    def _breach(self, stored: Stored, counts: bool) -> None:
        breach = orjson.loads(stored.value)
        place = breach["limit"], breach["scope"]
        if breach["level"] == "none":
            self.levels.pop(place, None)
        elif place in self.levels or len(self.levels) < SCOPES_MAX:
            self.levels[place] = breach["level"]
        if counts:
            self.breaches.add(breach["limit"], breach["level"])

    def _command(self, stored: Stored, counts: bool) -> None:
        command = orjson.loads(stored.value)
        self.issued[command["id"]] = Issued(command["type"], command["iat_us"], command["exp_us"])
        if len(self.issued) > COMMANDS_MAX:
            self.issued.popitem(last=False)
        if counts:
            self.commands.add(command["type"])

    def _answer(self, stored: Stored, counts: bool) -> None:
        """Take an answer; what is no acknowledgement ``sequence`` rejects, and so it is counted there."""
        try:
            answer = decode_event(stored.value)
        except Rejected:
            return
        if not isinstance(answer, Acknowledgement) or answer.command_id not in self.issued:
            return  # long ago, or never ours
        command = self.issued[answer.command_id]
        if counts:
            self.answers.add(command.kind, answer.outcome)
            if not command.answered:
                self.answer_delay.observe(max(0.0, (answer.event_time_us - command.iat_us) / 1e6))
        command.answered = True

    def _reject(self, stored: Stored, counts: bool) -> None:
        if counts:
            self.rejects.add(orjson.loads(stored.value)["reason"])

    def _signal(self, stored: Stored, counts: bool) -> None:
        if counts and b'"models":[{' in stored.value:
            for told in orjson.loads(stored.value)["models"]:
                self.models.add(told["family"], told["event"])

    def _forecast(self, stored: Stored, _: bool) -> None:
        if b'"scores"' not in stored.value:
            return
        value = orjson.loads(stored.value)
        for row in value["scores"]:
            for model, figures in row["models"].items():
                place = str(value["shard"]), row["level"], str(row["horizon_s"]), model
                if place in self.forecasts or len(self.forecasts) < LABELS_MAX:
                    self.forecasts[place] = figures["log_loss"]

    def waiting(self, now_us: int) -> Counter[str]:
        """Return the commands in force that nobody has answered, by kind."""
        issued = self.issued.copy().values()
        return Counter(one.kind for one in issued if not one.answered and one.exp_us > now_us)
