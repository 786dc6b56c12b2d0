"""Everything that is measured, as metrics: named by Prometheus's conventions, units in the names, labels bounded.

Labels are names of dataflows, stages, topics, partitions and of closed lists; those that users name (limits, alerts of
their own) are bounded by the tally. Nothing is labelled by account or counterparty: these belong to the console.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

import seawall
from seawall.connectors.limit_documents import read_key_sets
from seawall.ops.metrics.clock import clock_state
from seawall.ops.metrics.tally import LABELS_MAX, Counts, Tally
from seawall.ops.metrics.workers import Workers
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import SeawallError
from seawall.schemas.telemetry import AGE_S, WORK_S, Telemetry, Timing

KEYS_READ_S = 60.0
TOTALS = {
    "events": "Records that the sequencer took into the journal since it started.",
    "late_events": "Records that came after their interval was cut, and went into the next one.",
}


class WorkCollector(Collector):
    """What the dataflows of this process, and of its worker processes, say of their work."""

    def __init__(self, telemetry: Telemetry, workers: Workers | None = None) -> None:
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
    """What a tally has counted on the topics."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of the last look."""
        tally = self._tally
        yield _counted("seawall_alerts", "Alerts written.", ("kind", "severity"), tally.alerts)
        yield _counted("seawall_breaches", "Changes of a limit's level written.", ("limit", "level"), tally.breaches)
        standing = Counter(tally.levels.copy().values())
        text = "Limits on scopes that stand at a level."
        found = {(level,): standing[level] for level in ("warning", "soft", "hard")}
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
    """What is read at the time of asking: the clock of this host, and until when keys are good."""

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
