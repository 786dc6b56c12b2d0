"""Ticks: ends intervals, writes them as slices, and keeps the journal's positions.

Rules it keeps
--------------
- A **tick** is the end of an interval, a multiple of the slice length. A record belongs to the first tick after its
  effective time, and to one later than any that was cut before.
- A tick is written when the next one is known, so that it can say whether it is the last of its second. The last tick
  of a second of event time goes to every shard; a bounded run ends with one at a full second.
- A tick that would make a slice too large is written in **steps**: slices with ``more``, and at last one without for
  every shard that had one. What a step holds depends on the records alone.
- Positions in a step cover exactly the records in it and before it, so a restart continues at the same record.
"""

from typing import Any, NamedTuple

from seawall.operators.core.journal._interval import SIZE_MAX, BatchInterval, ShardContent
from seawall.operators.core.journal._journal_state import JournalState
from seawall.operators.core.journal._rejects import ConvertedRecord, RecordSource, RejectRecord
from seawall.schemas import events as ev
from seawall.schemas.errors import Reason, Rejected
from seawall.schemas.events import NO_TIME

SECOND_US = 1_000_000
EVENT_BYTES_MAX = 320 * 1024
POSITION_BYTES = 80
UNKNOWN_US = -2

MergedRecord = tuple[int, int, int, int, int, ev.Event | RejectRecord | ConvertedRecord | None, bytes]
"""Effective time, number of the source, line or offset, next byte, 1 when late, the record, its bytes.

None stands for a record that a mapping skips: nothing but its place counts.
"""


class WriteStep(NamedTuple):
    """Content of one transaction: slices as (shard, seq, value), and rejected records."""

    slices: list[tuple[int, int, bytes]]
    rejects: list[RejectRecord]


class IntervalClock:
    """Intervals of a merged stream of records, written as steps.

    Parameters
    ----------
    standing
        Where the journal stands; changed in place.
    configuration
        A configuration event that is still to be journaled, or None.
    places
        The sources, by number.
    slice_us
        Length of an interval.
    first_us
        Effective time of the first record that has one: records before it join its tick.
    """

    def __init__(
        self,
        standing: JournalState,
        configuration: dict[str, Any] | None,
        places: list[RecordSource],
        slice_us: int,
        first_us: int,
    ) -> None:
        self.standing, self.places, self.slice_us = standing, places, slice_us
        self.steps: list[WriteStep] = []
        self.records = self.rejected = self.late = 0
        self._last: list[MergedRecord | None] = [None] * len(places)
        self._keys = [place.key for place in places]
        self._reserve = sum(len(name) + POSITION_BYTES for name in {*self._keys, *standing.positions})
        self._floor = standing.as_of_us + slice_us if standing.as_of_us else self._tick(max(first_us, 0))
        self._sealed: BatchInterval | None = None
        self._interval = self._new(standing.as_of_us if standing.open else UNKNOWN_US)
        if configuration is not None:
            standing.configure(configuration)
            self._interval.configure(configuration)

    def add_place(self, place: RecordSource) -> int:
        """Take a source that appeared; return its number."""
        self.places.append(place)
        self._keys.append(place.key)
        self._last.append(None)
        self._reserve += len(place.key) + POSITION_BYTES
        return len(self.places) - 1

    def _skip(self, item: MergedRecord) -> None:
        """Move a source's position past a record that is none of ours; it moves no time."""
        number, before = item[1], self._last[item[1]]
        high_us = before[0] if before else self.standing.positions.get(self._keys[number], [0, 0, NO_TIME])[2]
        self._last[number] = (high_us, *item[1:])

    # --- ticks ------------------------------------------------------------------------------------------------------

    def cut(self, as_of_us: int, cut_us: int) -> None:
        """Write all that was taken, and the end of the last second before ``as_of_us``, by a clock (live inputs)."""
        if (self._interval.as_of_us == UNKNOWN_US and self._floor > as_of_us) or self._interval.as_of_us > as_of_us:
            return
        self._flush(cut_us)
        boundary = as_of_us // SECOND_US * SECOND_US
        if boundary > self.standing.as_of_us:
            self._emit(self._carry(boundary), boundary + SECOND_US, cut_us=cut_us)
        self._floor = max(self._floor, as_of_us + self.slice_us)

    def finish(self) -> None:
        """End a bounded run: write what was taken, the last tick at a full second."""
        interval, standing = self._interval, self.standing
        if interval.as_of_us == UNKNOWN_US:
            interval.as_of_us = -(-self._floor // SECOND_US) * SECOND_US
            if standing.ended and not interval.touched() and not interval.rejects:
                return
        if interval.touched() or standing.open:
            self._move(interval.as_of_us)
            interval = self._interval
            interval.as_of_us = 0
        last = self._sealed
        needed = interval.as_of_us if interval.rejects or last is None else 0
        end_us = -(-max(needed, last.as_of_us if last else 0) // SECOND_US) * SECOND_US
        if last is not None and last.as_of_us == end_us:
            self._emit(last, end_us, end=True)
            self._sealed = None
            return
        if last is not None:
            self._emit(last, end_us)
            self._sealed = None
        self._emit(self._carry(end_us), end_us, end=True)

    def _move(self, effective_us: int) -> None:
        """Begin the interval of a record; seal the one before, whose flags wait for this one to be written."""
        interval = self._interval
        unknown = interval.as_of_us == UNKNOWN_US
        if not unknown and (interval.touched() or self.standing.open):
            self._write_sealed(interval.as_of_us)
            self._sealed = interval
            interval.sources = self._positions()
            self._floor = interval.as_of_us + self.slice_us
            interval = self._next(0)
        interval.as_of_us = max(self._tick(effective_us), self._floor)

    def _close_early(self, every_shard: bool = False) -> None:
        """Write the interval so far with ``more`` and go on with the same tick."""
        interval = self._interval
        self._write_sealed(interval.as_of_us)
        interval.sources = self._positions()
        interval.broadcast = interval.broadcast or every_shard
        self._next(interval.as_of_us)
        self._emit(interval, 0, more=True)

    def _flush(self, cut_us: int) -> None:
        interval = self._interval
        known = interval.as_of_us != UNKNOWN_US
        if self._sealed is not None:
            self._emit(self._sealed, interval.as_of_us, cut_us=cut_us)
            self._sealed = None
        if interval.touched() or self.standing.open:
            if not known:
                interval.as_of_us = self._floor
            interval.sources = self._positions()
            self._next(UNKNOWN_US)
            self._emit(interval, interval.as_of_us + 1, cut_us=cut_us)
            self._floor = interval.as_of_us + self.slice_us

    def _carry(self, as_of_us: int) -> BatchInterval:
        """Return the open interval, which holds nothing but rejects, as a tick at ``as_of_us``."""
        interval = self._interval
        interval.as_of_us = as_of_us
        interval.sources = self._positions()
        self._next(UNKNOWN_US)
        self._floor = as_of_us + self.slice_us
        return interval

    def _write_sealed(self, next_us: int) -> None:
        if self._sealed is not None:
            self._emit(self._sealed, next_us)
            self._sealed = None

    def _emit(
        self, interval: BatchInterval, next_us: int, more: bool = False, end: bool = False, cut_us: int | None = None
    ) -> None:
        """Encode one step; ``next_us`` is the tick after it."""
        standing, as_of_us = self.standing, interval.as_of_us
        if standing.second_open and _second(as_of_us) != _second(standing.as_of_us) and not standing.open:
            self._end_second(cut_us)
        second = not more and (end or _second(next_us) != _second(as_of_us))
        everywhere = second or interval.broadcast
        own, waiting = interval.own, standing.open
        shards = [s for s in range(len(own)) if everywhere or own[s].size or s in waiting]
        flags = (b',"more":true' if more else b"") + (b',"second":true' if second else b"")
        flags += b',"end":true' if end else b""
        numbered = [(shard, standing.seqs[shard]) for shard in shards]
        slices = interval.encode(numbered, as_of_us if cut_us is None else cut_us, flags)
        for shard in shards:
            standing.seqs[shard] += 1
        self.steps.append(WriteStep(slices, interval.rejects))
        standing.as_of_us, standing.ended = as_of_us, end
        if more:
            waiting.update(shards)
        else:
            waiting.clear()
            standing.second_open = not second

    def _end_second(self, cut_us: int | None) -> None:
        """End the second that a clock's cut left open, before a tick of a later one."""
        standing = self.standing
        empty = self._new(-(-standing.as_of_us // SECOND_US) * SECOND_US)
        empty.sources = standing.positions
        standing.second_open = False
        self._emit(empty, empty.as_of_us + 1, cut_us=cut_us)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _room(self, size: int, shard: int | None = None) -> BatchInterval:
        """Return the interval with room for ``size`` bytes, closing it early where there is none."""
        if size > EVENT_BYTES_MAX:
            raise Rejected(Reason.RECORD_MUST_FIT_A_SLICE, f"it takes {size} bytes, at most {EVENT_BYTES_MAX}")
        if not self._interval.has_room(size, shard):
            self._close_early()
        return self._interval

    def _own(self, size: int, shard: int) -> ShardContent:
        """Return a shard's part of the interval with ``size`` more bytes counted, as ``_room`` makes room for them."""
        interval = self._interval
        own = interval.own[shard]
        if size > EVENT_BYTES_MAX or interval.size + own.size + size > SIZE_MAX:
            interval = self._room(size, shard)
            own = interval.own[shard]
        own.size += size
        interval.largest = max(interval.largest, own.size)
        return own

    def _positions(self) -> dict[str, list[int]]:
        """Return the position after the last record of each source, configured ones first."""
        known = self.standing.positions
        for key, item in zip(self._keys, self._last, strict=True):
            if item is not None:
                known[key] = [item[2] + 1, item[3], item[0]]
        first = {key: known[key] for key in self._keys if key in known}
        return first | {key: known[key] for key in sorted(known) if key not in first}

    def _next(self, as_of_us: int) -> BatchInterval:
        """Begin another interval; ids of the one before are remembered in the order of its slices, as a fold does."""
        standing = self.standing
        for own, fills, transfers in zip(self._interval.own, standing.fills, standing.transfers, strict=True):
            if own.fills:
                own.close()
                fills.add([row[0] for row in own.fills], standing.ids_max)
            if own.transfers:
                transfers.add([row[0] for row in own.transfers], standing.ids_max)
        self._interval = self._new(as_of_us)
        return self._interval

    def _new(self, as_of_us: int) -> BatchInterval:
        return BatchInterval(as_of_us, self.standing.admission.shards, self._reserve)

    def _tick(self, time_us: int) -> int:
        return (time_us // self.slice_us + 1) * self.slice_us


def _second(as_of_us: int) -> int:
    return (as_of_us - 1) // SECOND_US
