"""``slice_time``: a stream of one's own records in, slices and rejects out."""

from dataclasses import dataclass
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from seawall.operators._coat import StepLogic, logged
from seawall.operators.core.slicing import Cut, SlicingState
from seawall.schemas.configuration import Configuration
from seawall.schemas.records import Record

KEY = "stream"


@dataclass(frozen=True)
class Sliced:
    """What ``slice_time`` gives: slices keyed by their shard, and ``(partition, records)`` for ``rejects``."""

    slices: KeyedStream[bytes]
    rejects: KeyedStream[list[Record]]


@operator
def slice_time(step_id: str, up: KeyedStream[Any], configuration: Configuration) -> Sliced:
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

    one = op.map("one", up, lambda item: (KEY, item[1]))
    cuts = op.stateful_batch("cut", one, lambda resume: _Cutter(resume, make, restore, _step))
    slices = op.flat_map("slices", cuts, lambda item: [(str(shard), value) for shard, value in item[1].slices])
    partition = str(configuration.shards)
    rejects = op.flat_map("rejects", cuts, lambda item: [(partition, item[1].rejects)] if item[1].rejects else [])
    return Sliced(slices, rejects)


class _Cutter(StepLogic):
    """A step that also ends the last slice when the stream ends."""

    def on_eof(self) -> tuple[list[Any], bool]:
        """End the last slice."""
        cuts = [] if self._state is None else [logged(self._state.finish)]
        return [cut for cut in cuts if cut != Cut([], [])], StatefulBatchLogic.RETAIN


def _step(state: SlicingState, record: Any) -> list[Cut]:
    cut = state.step(record)
    return [cut] if cut.slices or cut.rejects else []
