"""A stream of one's own records, cut into the slices that a journal would hold: the sequencer's rules without a bus.

1. Records count in order of arrival, each at the highest event time so far, as the lines of one file do; those of
   before the first time wait for it, and join its slice.
2. ``Slicer`` checks, numbers and cuts them. The first slice carries the configuration.
3. What was given out is folded again, a block at a time, as ``sequence`` folds the journal on its start. A snapshot is
   that fold and the records after it, so that a restart continues as the sequencer does: at the same record.

Nothing is written down here: whoever wants to replay keeps what comes out.
"""

from collections import deque
from typing import Any, NamedTuple

import msgspec

from seawall.operators.core.rejects import RECORD_BYTES_MAX, Place, refuse_record
from seawall.operators.core.sequence import Slicer
from seawall.operators.core.snapshot import pack, unpack
from seawall.operators.core.standing import Standing
from seawall.operators.core.ticks import Item
from seawall.schemas.configuration import Configuration, journaled
from seawall.schemas.decode import decode_event
from seawall.schemas.errors import Reason, Rejected, invariant
from seawall.schemas.events import NO_TIME
from seawall.schemas.records import Record

SCHEMA = "slicing/1"
FOLD_SLICES = 1_000  # given out between two folds
PLACE = Place("stream", 0)
_encode = msgspec.json.Encoder().encode


class Cut(NamedTuple):
    """What some records ended: slices as (shard, value), and records for the topic ``rejects``."""

    slices: list[tuple[int, bytes]]
    rejects: list[Record]


class SlicingState:
    """The state of the cut: ``step(record) -> Cut``, and ``finish() -> Cut`` where the stream ends.

    Parameters
    ----------
    configuration
        Shards, slice length, limits, playbook and the rest that slices carry; its inputs, bus and keys are not used.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._folded = Standing(configuration.shards)
        self._unfolded: list[tuple[int, bytes]] = []
        self._waiting: deque[tuple[int, bytes]] = deque()  # number and bytes of records that no folded slice covers
        self._slicer: Slicer | None = None
        self._early: list[Item] = []
        self._number, self._high_us, self._rejects = 0, NO_TIME, 0

    def step(self, record: Any) -> Cut:
        """Take a record: JSON bytes or text, a dict, or an event of ``schemas.events``."""
        raw = record.encode() if isinstance(record, str) else record
        item = self._item(raw if isinstance(raw, bytes) else _encode(raw))
        self._waiting.append((item[2], item[6]))
        if self._slicer is None:
            self._early.append(item)
            if self._high_us == NO_TIME:
                return Cut([], [])
            self._begin(Standing(self._configuration.shards))
        else:
            self._slicer.add((item,))
        return self._taken()

    def finish(self) -> Cut:
        """End the last slice at the next full second; the stream may go on all the same."""
        if self._slicer is None:
            if not self._early:
                return Cut([], [])
            self._begin(Standing(self._configuration.shards))
        assert self._slicer is not None
        self._slicer.finish()
        return self._taken()

    def _item(self, raw: bytes) -> Item:
        number, late = self._number, 0
        self._number += 1
        try:
            if len(raw) > RECORD_BYTES_MAX:
                raise Rejected(Reason.RECORD_MUST_NOT_EXCEED_256_KIB, f"the record has {len(raw)} bytes")
            event = decode_event(raw)
        except Rejected as rejected:
            return (self._high_us, 0, number, 0, 0, refuse_record(PLACE, number, rejected, raw), raw)
        if event.event_time_us != NO_TIME:
            late = int(event.event_time_us < self._high_us)
            self._high_us = max(self._high_us, event.event_time_us)
        return (self._high_us, 0, number, 0, late, event, raw)

    def _begin(self, standing: Standing) -> None:
        """Begin to cut where a journal stands, with the records that wait."""
        first = next((item[0] for item in self._early if item[0] != NO_TIME), NO_TIME)
        last = standing.configuration
        key_set = None if last is None else last["limits"].get("key_set")  # none is read here: the last one stands
        event = journaled(self._configuration, last, key_set)
        self._slicer = Slicer(standing, event, [PLACE], self._configuration.slice_ms * 1000, first)
        self._slicer.add(self._early)
        self._early = []

    def _taken(self) -> Cut:
        assert self._slicer is not None
        if not self._slicer.steps:
            return Cut([], [])
        cut = Cut([], [])
        for slices, refused in self._slicer.steps:
            cut.slices.extend((shard, value) for shard, _, value in slices)
            for found in refused:
                cut.rejects.append(Record("sequence", found.value, found.id, self._rejects))
                self._rejects += 1
        self._slicer.steps.clear()
        self._unfolded += cut.slices
        if len(self._unfolded) >= FOLD_SLICES:
            self._fold()
        return cut

    def _fold(self) -> None:
        """Take what was given out into the fold, and let go of the records that it covers."""
        for shard, value in self._unfolded:
            self._folded.apply(shard, value)
        self._unfolded = []
        covered = self._folded.positions.get(PLACE.key, [0])[0]
        while self._waiting and self._waiting[0][0] < covered:
            self._waiting.popleft()

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the fold of what was given out, and the records after it."""
        self._fold()
        waiting = [raw for _, raw in self._waiting]
        state = {"folded": self._folded.snapshot(), "waiting": waiting, "number": self._number}
        return pack(SCHEMA, state | {"rejects": self._rejects})

    @classmethod
    def restore(cls, data: bytes, configuration: Configuration) -> "SlicingState":
        """Return the state of a snapshot.

        Raises
        ------
        SnapshotError
            It cannot be read.
        UsageError
            The configuration changed what never may.
        """
        state = unpack(SCHEMA, data)
        self = cls(configuration)
        self._folded.restore(state["folded"])
        self._high_us = self._folded.positions.get(PLACE.key, [0, 0, NO_TIME])[2]
        self._number = state["number"] - len(state["waiting"])
        self._early = [self._item(raw) for raw in state["waiting"]]
        self._waiting.extend((item[2], item[6]) for item in self._early)
        self._rejects = state["rejects"]
        if self._folded.as_of_us or self._high_us != NO_TIME:
            standing = Standing(configuration.shards)
            standing.restore(state["folded"])
            self._begin(standing)
            invariant(not self._taken().slices, "a restart of slice_time gives no slice out again")
        return self
