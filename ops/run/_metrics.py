"""Metrics of a run and of its records, named by Prometheus's conventions, units in the names, labels bounded.

Labels are names of dataflows, stages, topics, partitions and of closed lists; those that users name (limits, alerts of
their own) are bounded by the tally. Nothing is labelled by account or counterparty: these belong to the console.

The tally counts alerts, breaches, commands, answers, rejects and seals on the topics, from outside the dataflows, so it
costs a slice nothing. Small topics are read whole, so that levels and unanswered commands are right after a restart;
counters take what came since this process began, so that a restart is no burst. Of large topics only the end is asked.
"""

import ctypes
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

import seawall
from seawall.connectors.bus import Bus
from seawall.connectors.keys import read_key_sets
from seawall.ops.run.worker import WorkerMetrics
from seawall.schemas.configuration import Configuration
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import Rejected, SeawallError
from seawall.schemas.events import Acknowledgement
from seawall.schemas.records import Stored
from seawall.schemas.telemetry import AGE_S, WORK_S, Telemetry, Timing

# How far this host's clock may be off, as its kernel knows it from the time service that disciplines it.
#
# The kernel's answer is that of ``ntp_adjtime(2)`` asked with nothing to change: the offset that is being corrected,
# the largest error it vouches for, and whether any service disciplines the clock at all.

UNSYNCHRONISED = 5  # TIME_ERROR, the state that is returned
NANO = 0x2000  # STA_NANO: the offset counts nanoseconds


class ClockState(NamedTuple):
    """Seconds the clock is being corrected by, the largest error in seconds, and whether a service disciplines it."""

    offset_s: float
    error_max_s: float
    synchronised: bool


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),  # more than the kernel writes
    )


def clock_state() -> ClockState | None:
    """Return what the kernel says of the clock, None where it does not say."""
    try:
        ask = ctypes.CDLL(None, use_errno=True).ntp_adjtime
    except (AttributeError, OSError):
        return None
    found = _Timex()
    state = ask(ctypes.byref(found))
    if state < 0:
        return None
    unit = 1e-9 if found.status & NANO else 1e-6
    return ClockState(found.offset * unit, found.maxerror * 1e-6, state != UNSYNCHRONISED)


# Counts from outside the dataflows, of the topics: alerts, breaches, commands, answers, rejects, seals.

LABELS_MAX = 200  # values of one label; what comes after counts as OTHER
OTHER = "other"
COMMANDS_MAX = 10_000  # remembered, to know what is answered and when
SCOPES_MAX = 100_000  # at a level
LOOK_S = 0.5  # that one look may take; the next goes on
ANSWER_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


@dataclass(slots=True)
class IssuedCommand:
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
    """Records on the topics that the dataflows of a process write.

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
        self.issued: OrderedDict[str, IssuedCommand] = OrderedDict()
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
        self.issued[command["id"]] = IssuedCommand(command["type"], command["iat_us"], command["exp_us"])
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
            for change in orjson.loads(stored.value)["models"]:
                self.models.add(change["family"], change["event"])

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


# Everything that is measured, as metrics: named by Prometheus's conventions, units in the names, labels bounded.

KEYS_READ_S = 60.0
TOTALS = {
    "events": "Records that the sequencer took into the journal since it started.",
    "late_events": "Records that came after their interval was cut, and went into the next one.",
}


class WorkCollector(Collector):
    """Metrics of the dataflows of this process, and of its worker processes."""

    def __init__(self, telemetry: Telemetry, workers: WorkerMetrics | None = None) -> None:
        self._telemetry, self._workers = telemetry, workers

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of now, all processes added up."""
        numbers = [self._telemetry.numbers(), *(self._workers.numbers() if self._workers else ())]
        yield InfoMetricFamily("seawall_build", "The version that runs.", value={"version": seawall.__version__})
        yield from self._stages([part for one in numbers for part in one["parts"]])
        for name, text in TOTALS.items():
            found = [one["totals"][name] for one in numbers if name in one["totals"]]
            if found:
                yield CounterMetricFamily(f"seawall_{name}", text, value=sum(found))
        used: dict[str, float] = {}
        for limit, share in ((n, s) for one in numbers for by in one["utilisation"].values() for n, s in by.items()):
            if limit in used or len(used) < LABELS_MAX:
                used[limit] = max(used.get(limit, 0.0), share)
        yield _gauge(
            "seawall_limit_utilisation_ratio",
            "How much of a limit is used on the scope that uses most of it.",
            ("limit",),
            {(limit,): share for limit, share in used.items()},
        )

    def _stages(self, parts: list[list[Any]]) -> Iterator[Metric]:
        slices: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        work, snapshots, ages = dict[str, Timing](), dict[str, Timing](), dict[str, Timing]()
        for stage, taken, size, worked, snapped, aged in parts:
            slices[stage] += taken
            sizes[stage] += size
            for into, numbers, bounds in ((work, worked, WORK_S), (snapshots, snapped, WORK_S), (ages, aged, AGE_S)):
                into.setdefault(stage, Timing(bounds)).merge(*numbers)
        yield _counter(
            "seawall_stage_slices", "Slices that a stage took.", ("stage",), {(s,): n for s, n in slices.items()}
        )
        text = "Seconds that a stage took for a batch of slices."
        yield _histogram("seawall_stage_batch_seconds", text, "stage", work)
        text = "Seconds that taking a snapshot of a stage's state, or making what it wrote durable, took."
        yield _histogram("seawall_snapshot_seconds", text, "stage", snapshots)
        kept = {(stage,): size for stage, size in sizes.items() if size}
        yield _gauge("seawall_snapshot_bytes", "Bytes of the last snapshots of a stage's states.", ("stage",), kept)
        text = "Seconds from the cut of a live slice until a stage was done with it."
        yield _histogram("seawall_slice_age_seconds", text, "stage", ages)


class TopicCollector(Collector):
    """Metrics of the topics, from a tally."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of the last look."""
        tally = self._tally
        yield _counted("seawall_alerts", "Alerts written.", ("kind", "severity"), tally.alerts)
        yield _counted("seawall_breaches", "Changes of a limit's level written.", ("limit", "level"), tally.breaches)
        levels = Counter(tally.levels.copy().values())
        text = "Limits on scopes that stand at a level."
        found = {(level,): levels[level] for level in ("warning", "soft", "hard")}
        yield _gauge("seawall_standing_breaches", text, ("level",), found)
        yield _counted("seawall_commands", "Commands written.", ("kind",), tally.commands)
        text = "Answers of subscribers to commands."
        yield _counted("seawall_acknowledgements", text, ("kind", "outcome"), tally.answers)
        text = "Seconds from a command to its first answer."
        yield _histogram("seawall_acknowledgement_delay_seconds", text, "", {"": tally.answer_delay})
        waiting = {(kind,): count for kind, count in tally.waiting(time.time_ns() // 1000).items()}
        text = "Commands in force that nobody has answered."
        yield _gauge("seawall_unanswered_commands", text, ("kind",), waiting)
        yield _counted("seawall_rejected_records", "Records rejected.", ("reason",), tally.rejects)
        text = "What happened in the lives of learned models: drifts, promotions, rollbacks."
        yield _counted("seawall_model_events", text, ("family", "event"), tally.models)
        text = "Log loss of forecasts, by the figures written last."
        labels = ("shard", "level", "horizon_s", "model")
        yield _gauge("seawall_forecast_log_loss", text, labels, dict(sorted(tally.forecasts.copy().items())))
        yield from self._positions()

    def _positions(self) -> Iterator[Metric]:
        ends = sorted(self._tally.ends.copy().items())
        for topic, name, text in (
            ("journal", "seawall_journal_slices", "Slices in the journal, by shard."),
            ("audit", "seawall_audit_chain_records", "Records in the hash chain of an audit partition."),
        ):
            found = {(str(partition),): end for (one, partition), end in ends if one == topic}
            yield _gauge(name, text, ("partition",), found)
        sealed = {(str(partition),): size for partition, size in sorted(self._tally.sealed.copy().items())}
        text = "Records of an audit partition under its last signed checkpoint."
        yield _gauge("seawall_sealed_records", text, ("partition",), sealed)


class HostCollector(Collector):
    """Metrics read when they are scraped: the clock of this host, and until when keys are good."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._keys: list[Metric] = []
        self._read_at = float("-inf")

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of now; keys are read again each minute."""
        state = clock_state()
        if state is not None:
            text = "Seconds that the clock is being corrected by."
            yield GaugeMetricFamily("seawall_clock_offset_seconds", text, value=state.offset_s)
            text = "The largest error of the clock that its time service vouches for."
            yield GaugeMetricFamily("seawall_clock_error_max_seconds", text, value=state.error_max_s)
            text = "1 where a time service disciplines the clock."
            yield GaugeMetricFamily("seawall_clock_synchronised", text, value=state.synchronised)
        if time.monotonic() - self._read_at > KEYS_READ_S:
            self._read_at, self._keys = time.monotonic(), list(self._key_metrics())
        yield from self._keys

    def _key_metrics(self) -> Iterator[Metric]:
        try:
            sets = read_key_sets(self._configuration) if self._configuration.key_set is not None else []
        except SeawallError:
            return  # a run whose key sets cannot be read says so itself
        if sets:
            text = "When the key set in force expires, as seconds since the epoch."
            last = sets[-1].document
            yield GaugeMetricFamily("seawall_key_set_expiry_timestamp_seconds", text, value=last.exp_us / 1e6)
            found = {(k.kid, "+".join(k.roles)): k.exp_us / 1e6 for k in last.keys if k.status != "revoked"}
            text = "When a key of the set expires, as seconds since the epoch."
            yield _gauge("seawall_key_expiry_timestamp_seconds", text, ("kid", "roles"), found)


def _gauge(name: str, text: str, labels: Sequence[str], values: Mapping[Any, float]) -> Metric:
    found = GaugeMetricFamily(name, text, labels=labels)
    for label, value in values.items():
        found.add_metric(label, value)
    return found


def _counter(name: str, text: str, labels: Sequence[str], values: Mapping[Any, int]) -> Metric:
    found = CounterMetricFamily(name, text, labels=labels)
    for label, value in values.items():
        found.add_metric(label, value)
    return found


def _counted(name: str, text: str, labels: Sequence[str], counts: Counts) -> Metric:
    return _counter(name, text, labels, dict(sorted(counts.of.copy().items())))


def _histogram(name: str, text: str, label: str, timings: dict[str, Timing]) -> Metric:
    found = HistogramMetricFamily(name, text, labels=[label] if label else [])
    for value, timing in timings.items():
        if not sum(timing.counts) and label:
            continue
        buckets, up_to = [], 0
        for bound, count in zip((*map(repr, timing.bounds), "+Inf"), timing.counts, strict=True):
            up_to += count
            buckets.append((bound, float(up_to)))
        found.add_metric([value] if label else [], buckets, timing.total)
    return found
