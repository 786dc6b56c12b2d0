"""Operators that begin with a stream of one's own: ``slice_time``, ``watch_market`` and ``detect``.

``slice_time`` makes the slices that all risk operators work on, ``watch_market`` scores raw venue records by instrument
group, and ``detect`` scores any keyed stream of numbers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from seawall.operators.core.detection import (
    ALERT_SCORE,
    UNUSUAL_SCORE,
    AlertRule,
    Composite,
    DetectionResult,
    Detector,
    GatedDetector,
    ModelsFactory,
    SingleDetector,
)
from seawall.operators.core.journal import SlicingOutput, SlicingState
from seawall.operators.core.market import GroupState
from seawall.operators.stateful import StepLogic, call_logged, keep_state, single_output
from seawall.schemas.configuration import Configuration, MarketTerms
from seawall.schemas.records import Record

# ``slice_time``: a stream of one's own records in, slices and rejects out.

STREAM_KEY = "stream"


@dataclass(frozen=True)
class SlicedStreams:
    """Outputs of ``slice_time``: slices keyed by their shard, and ``(partition, records)`` for ``rejects``."""

    slices: KeyedStream[bytes]
    rejects: KeyedStream[list[Record]]


@operator
def slice_time(step_id: str, up: KeyedStream[Any], configuration: Configuration) -> SlicedStreams:
    """Cut records into slices, the unit that every other operator works on, without a journal.

    See architecture.md, "Slices".

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        ``(key, record)`` in order of event time, whatever the keys: they are not used, because a slice ends for all
        at once. A record is one of contract.md, "Input records" as JSON (bytes or text), as a dict, or as an event of
        ``schemas.events``; who and what comes before what names it.
    configuration
        Shards, slice length, limits and playbook (``load_configuration``); its inputs, bus and keys are not used.

    Returns
    -------
    Sliced
        The slices that ``seawall run`` would journal of a file with these records, sources apart. A slice ends when a
        record of a later interval comes, or the stream ends. What cannot be accepted is kept in ``rejects``.

    Notes
    -----
    One key, hence one worker, does it. As long as the stream comes in the same order again, so do the slices, byte for
    byte; only a journal also keeps what an order that no one can repeat was. Late records go into the next slice,
    counted. State: the directory, ``fill_memory`` ids per shard, and the records of two slices.
    """

    def make(_: Any) -> SlicingState:
        return SlicingState(configuration)

    def restore(data: bytes) -> SlicingState:
        return SlicingState.restore(data, configuration)

    one = op.map("one", up, lambda item: (STREAM_KEY, item[1]))
    cuts = op.stateful_batch("cut", one, lambda resume: _SlicingLogic(resume, make, restore, _slice_record))
    slices = op.flat_map("slices", cuts, lambda item: [(str(shard), value) for shard, value in item[1].slices])
    partition = str(configuration.shards)
    rejects = op.flat_map("rejects", cuts, lambda item: [(partition, item[1].rejects)] if item[1].rejects else [])
    return SlicedStreams(slices, rejects)


class _SlicingLogic(StepLogic):
    """A step that also ends the last slice when the stream ends."""

    def on_eof(self) -> tuple[list[Any], bool]:
        """End the last slice."""
        cuts = [] if self._state is None else [call_logged(self._state.finish)]
        return [cut for cut in cuts if cut != SlicingOutput([], [])], StatefulBatchLogic.RETAIN


def _slice_record(state: SlicingState, record: Any) -> list[SlicingOutput]:
    cut = state.step(record)
    return [cut] if cut.slices or cut.rejects else []


# ``watch_market``: raw venue records by instrument group in, signals out, one per group and interval.


@operator
def watch_market(
    step_id: str, up: KeyedStream[Any], terms: MarketTerms, make_models: ModelsFactory | None = None
) -> KeyedStream[list[Record]]:
    """Mark, score and judge instruments, group by group.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        ``(key, (group, item))``: what a ``Cutter`` gives, in order per group; any key that is one per group.
    terms
        How to cut, score and judge.
    make_models
        Makes the models of a family of features, such as ``river_models`` of ``seawall.operators.river`` with any River
        estimator; composites with lives where it is None.

    Returns
    -------
    KeyedStream[list[Record]]
        The records of the topic ``signals``, per interval and group; nothing where nothing happened.
    """

    def make(value: tuple[int, Any]) -> GroupState:
        return GroupState(value[0], terms, make_models)

    def restore(data: bytes) -> GroupState:
        return GroupState.restore(data, terms, make_models)

    return keep_state("group", up, make, restore, _score_group)


def _score_group(state: GroupState, value: tuple[int, Any]) -> Iterable[list[Record]]:
    records = state.step(value[1])
    return [records] if records else []


# ``detect``: anomaly scores and alerts for any keyed stream of numbers (a module of that name would hide it).

RULE = AlertRule(level=ALERT_SCORE)


@operator
def detect(
    step_id: str,
    up: KeyedStream[Any],
    columns: tuple[str, ...],
    rule: AlertRule = RULE,
    make: Callable[[], Detector] | None = None,
) -> KeyedStream[DetectionResult]:
    """Score each sample of each key, then learn it; alert rarely, early and with a reason.

    Parameters
    ----------
    step_id
        Unique id of the step; it names the state in the recovery store, so it must not change.
    up
        ``(key, (time_us, values))``: event time in microseconds or None, and one number per column. NaN, infinities and
        numbers whose square overflows are answered with the state ``invalid`` and leave no trace.
    columns
        Names of the values, for explanations.
    rule
        When a score is an alert.
    make
        Makes the detector of a new key; anything that keeps the protocol ``Detector``, such as ``river_detector`` of
        ``seawall.operators.river`` with any River estimator. Default: the gated composite of `seawall detect`.

    Returns
    -------
    KeyedStream[Detected]
        One answer per sample, in order.

    Notes
    -----
    State: about 0.5 kB per column and 0.6 kB per key, however long it runs; nothing is ever evicted, so give it keys
    that are bounded. A restart continues bit for bit.

    Examples
    --------
    >>> import bytewax.operators as op
    >>> from bytewax.dataflow import Dataflow
    >>> from bytewax.testing import TestingSink, TestingSource, run_main
    >>> import seawall.operators as sw
    >>> rows = [("pump-1", (None, (20.0 + row % 7,))) for row in range(600)] + [("pump-1", (None, (90.0,)))]
    >>> found = []
    >>> flow = Dataflow("pumps")
    >>> samples = op.input("samples", flow, TestingSource(rows))
    >>> op.output("found", sw.detect("detect", samples, ("pressure",)), TestingSink(found))
    >>> run_main(flow)
    >>> [(key, answer.alert) for key, answer in found if answer.alert][-1][1].startswith("score 0.8")
    True
    """
    build = make or (lambda: GatedDetector(Composite(columns), level=UNUSUAL_SCORE, hold=False))

    def begin(_: Any) -> SingleDetector:
        return SingleDetector(build(), rule)

    def restore(data: bytes) -> SingleDetector:
        return SingleDetector.restore(data, build, rule)

    return keep_state("key", up, begin, restore, single_output(SingleDetector.step))
