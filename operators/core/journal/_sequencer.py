"""Sequencer: records in merge order go in, slices come out; `SlicingState` does the same without a bus."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, get_args

import msgspec

from seawall.operators.core.base import pack, unpack
from seawall.operators.core.journal._interval import (
    FILL_BYTES,
    MARK_BYTES,
    REJECTS_BYTES_MAX,
    TAKEN_BYTES,
    TRANSFER_BYTES,
    fill_options,
    journaled_signal,
    marks_of_signal,
    transfer_options,
)
from seawall.operators.core.journal._journal_state import JournalState
from seawall.operators.core.journal._rejects import RECORD_BYTES_MAX, ConvertedRecord, RecordSource, RejectRecord
from seawall.operators.core.journal._ticks import EVENT_BYTES_MAX, UNKNOWN_US, IntervalClock, MergedRecord
from seawall.schemas import events as ev
from seawall.schemas.configuration import Configuration, journaled_configuration
from seawall.schemas.decimals import parse_quantity
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import Reason, Rejected, invariant
from seawall.schemas.events import NO_TIME
from seawall.schemas.records import REDRIVE, Record, Reference

# The sequencer's core: records in merge order go in, slices come out.
#
# Each record is checked against what was taken before it and put into the open interval: of every shard, or of the
# shard that owns its account. A rejected record makes no tick of its own; it is counted in the next one. Ticks are cut
# by `IntervalClock`.

WITNESSED = ("signals", "acknowledgements")
"""Topics of which slices say what was taken; of ``redrive`` too."""
FOREIGN_BYTES = 1024  # what any one record may take in a slice beside its text
REFERENCE = get_args(Reference)
RAW = (ev.Trade, ev.Quote, ev.Depth, ev.Bar, ev.OpenInterest, ev.Liquidation)
EVERYWHERE = (ev.VenueStatus, ev.Notice, ev.Acknowledgement)

Handler = Callable[[Any, MergedRecord], None]

_encode = msgspec.json.Encoder().encode


class RecordSequencer(IntervalClock):
    """Cuts a merged stream of records into slices; parameters as of ``IntervalClock``."""

    def __init__(
        self,
        standing: JournalState,
        configuration: dict[str, Any] | None,
        places: list[RecordSource],
        slice_us: int,
        first_us: int,
    ) -> None:
        super().__init__(standing, configuration, places, slice_us, first_us)
        self._admission = standing.admission
        self._handlers = self._wire()

    def add(self, items: Iterable[MergedRecord]) -> None:
        """Take the next records in merge order, and pass over those of which nothing but the place counts."""
        handlers, last = self._handlers, self._last
        for item in items:
            event = item[5]
            if event is None:
                self._skip(item)
                continue
            if item[0] >= self._interval.as_of_us:
                self._move(item[0])
            try:
                handlers[type(event)](event, item)
            except Rejected as rejected:
                self._refuse(self.places[item[1]].reject(item[2], rejected, item[6]), item)
            last[item[1]] = item
            self.records += 1
            if self._interval.rejects_size > REJECTS_BYTES_MAX:
                self._close_early(every_shard=True)

    def adopt(self, document: dict[str, Any]) -> None:
        """Take a limit document of the configuration into the open interval; raise Rejected where it may not be."""
        if self._interval.as_of_us == UNKNOWN_US:
            self._move(NO_TIME)
        as_of_us = self._interval.as_of_us
        self._admission.check_limits(document, as_of_us)
        encoded = _encode(ev.Limit(event_time_us=as_of_us - 1, document=document))
        self._room(len(encoded) + 1).add_event(encoded, None, 0)
        self._admission.policy.apply(document, as_of_us)

    def _wire(self) -> dict[type[Any], Handler]:
        handlers: dict[type[Any], Handler] = {
            ev.Mark: self._mark,
            ev.Fill: self._fill,
            ev.Collateral: self._transfer,
            ev.Funding: self._funding,
            ev.Obligation: self._obligation,
            ev.Limit: self._limit,
            ev.Release: self._release,
            ev.Order: self._order,
            ev.PositionReport: self._position_report,
            ev.BalanceReport: self._balance_report,
            ev.Signal: self._signal,
            RejectRecord: self._refuse,
            ConvertedRecord: self._foreign,
        }
        handlers |= dict.fromkeys(REFERENCE, self._reference)
        handlers |= dict.fromkeys(RAW, self._market)
        handlers |= dict.fromkeys(EVERYWHERE, self._everywhere)
        handlers[ev.OpenInterest] = self._open_interest
        return handlers

    def _refuse(self, record: RejectRecord, item: MergedRecord) -> None:
        self.rejected += 1
        witness = self._witness(item)
        interval = self._room(TAKEN_BYTES) if witness else self._interval
        interval.add_taken(witness)
        interval.add_reject(record)

    def _foreign(self, foreign: ConvertedRecord, item: MergedRecord) -> None:
        """Take a record that was mapped or redriven; what is redriven is witnessed in the slices that it goes into."""
        place, inner = self.places[item[1]], (*item[:5], foreign.event, foreign.line)
        redriven = place.name == REDRIVE
        if redriven and not self._interval.has_room(size := len(foreign.line) + FOREIGN_BYTES):
            self._room(min(size, EVENT_BYTES_MAX))
        try:
            self._handlers[type(foreign.event)](foreign.event, inner)
        except Rejected as rejected:
            self._refuse(place.reject(item[2], rejected, foreign.original), inner)
        if redriven:
            sha256 = hashlib.sha256(item[6]).hexdigest()
            self._interval.add_taken([place.name, place.partition, item[2], sha256])
            self._interval.broadcast = True

    def _reference(self, event: Any, item: MergedRecord) -> None:
        self._admission.check(event)
        encoded = _encode(event)
        interval = self._room(len(encoded))
        self._admission.apply(event)
        interval.add_reference(encoded, self._is_late(item))

    def _market(self, event: Any, item: MergedRecord) -> None:
        """Raw market events are for ``market``; here they only must be well-formed."""
        self._admission.instrument(event.instrument)

    def _open_interest(self, event: ev.OpenInterest, item: MergedRecord) -> None:
        """Open interest is for ``market`` too, unless a margin schedule is scaled by it or forecasts are made."""
        self._market(event, item)
        if self._admission.foresees or (event.venue, event.instrument) in self._admission.scaled:
            self._event(event, None, item)

    def _mark(self, event: ev.Mark, item: MergedRecord) -> None:
        known = self._admission.instruments.get(event.instrument) or self._admission.instrument(event.instrument)
        key = (known[0], event.kind, event.venue)
        interval = self._interval
        if key not in interval.marks:
            interval = self._room(MARK_BYTES + len(event.venue))
        volatility = float(event.implied_volatility) if event.implied_volatility else -1.0
        # One that is stamped after it was read counts from then: for a day those after it would be older than it.
        time_us = item[0] if NO_TIME < item[0] < event.event_time_us else event.event_time_us
        interval.add_mark(key, (float(event.price), time_us, volatility), self._is_late(item))

    def _fill(self, event: ev.Fill, item: MergedRecord) -> None:
        admission, name = self._admission, event.fill_id
        ordinal, shard = admission.accounts.get(event.account) or admission.account(event.account)
        instrument, scale = admission.instruments.get(event.instrument) or admission.instrument(event.instrument)
        quantity = parse_quantity(event.quantity, scale)
        options = fill_options(event)
        again = self.standing.fills[shard].has(name) or name in self._interval.own[shard].fill_ids
        size = FILL_BYTES + len(name) + (sum(map(len, options[1:])) if options is not None else 0)
        original = item[6].decode() if again or event.action != "new" else ""
        own = self._own(size + (_text_bytes(item[6]) if original else 0), shard)
        signed = quantity if event.side == "buy" else -quantity
        row = (name, ordinal, instrument, signed, float(event.price), options)
        # A late one applies where it arrives: behind settled funding of its slice that it comes after.
        own.add_fill(row, item[0] + self._interval.settles if item[4] else event.event_time_us, original)
        own.late += self._is_late(item)

    def _transfer(self, event: ev.Collateral, item: MergedRecord) -> None:
        ordinal, shard = self._admission.account(event.account)
        instrument = self._admission.instrument(event.instrument).ordinal if event.instrument else -1
        options = transfer_options(event, instrument)
        name = event.transfer_id
        again = self.standing.transfers[shard].has(name) or name in self._interval.own[shard].transfer_ids
        size = TRANSFER_BYTES + len(name) + len(event.asset) + len(event.held_by)
        original = item[6].decode() if again else ""
        own = self._own(size + (_text_bytes(item[6]) if original else 0), shard)
        own.add_transfer((name, ordinal, event.asset, float(event.amount), options), original)
        own.late += self._is_late(item)

    def _everywhere(self, event: Any, item: MergedRecord) -> None:
        self._event(event, None, item)

    def _limit(self, event: ev.Limit, item: MergedRecord) -> None:
        as_of_us = self._interval.as_of_us
        self._admission.check_limits(event.document, as_of_us)
        self._event(event, None, item)
        self._admission.policy.apply(event.document, as_of_us)

    def _release(self, event: ev.Release, item: MergedRecord) -> None:
        self._admission.check_release(event.document, self._interval.as_of_us)
        self._event(event, None, item)

    def _funding(self, event: ev.Funding, item: MergedRecord) -> None:
        self._admission.instrument(event.instrument)
        self._event(event, None, item)
        self._interval.settles = self._interval.settles or event.kind == "settled"

    def _obligation(self, event: ev.Obligation, item: MergedRecord) -> None:
        self._admission.check_party(event.from_)
        self._admission.check_party(event.to)
        self._event(event, None, item)

    def _order(self, event: ev.Order, item: MergedRecord) -> None:
        known = self._admission.account(event.account)
        parse_quantity(event.open_quantity, self._admission.instrument(event.instrument).scale)
        self._event(event, known.shard, item)

    def _position_report(self, event: ev.PositionReport, item: MergedRecord) -> None:
        known = self._admission.account(event.account)
        instrument = self._admission.positioned(event.instrument)
        if event.kind == "opening":
            parse_quantity(event.quantity, instrument.scale)
        self._event(event, known.shard, item)

    def _balance_report(self, event: ev.BalanceReport, item: MergedRecord) -> None:
        self._event(event, self._admission.account(event.account).shard, item)

    def _event(self, event: ev.Event, shard: int | None, item: MergedRecord) -> None:
        encoded = _encode(event)
        witness = self._witness(item)
        size = len(encoded) + (TAKEN_BYTES if witness else 1)
        if shard is None:
            self._room(size)
        else:
            self._own(size, shard)
        self._interval.add_taken(witness)
        self._interval.add_event(encoded, shard, self._is_late(item))

    def _signal(self, event: ev.Signal, item: MergedRecord) -> None:
        """Take a signal as a whole or, where it does not fit the slice, into the next: a restart must cut alike."""
        marks = marks_of_signal(event, self._admission.instruments)
        kept = journaled_signal(event, self._admission.instruments, self._admission.by_venue)
        encoded = _encode(kept) if kept is not None else b""
        size = len(encoded) + sum(MARK_BYTES + len(key[2]) for key, _ in marks)
        interval = self._room(size + TAKEN_BYTES)
        late = self._is_late(item)
        interval.add_taken(self._witness(item))
        for key, value in marks:
            interval.add_mark(key, value, 0)
        if kept is not None:
            interval.add_event(encoded, None, 0)
        interval.late += late

    def _witness(self, item: MergedRecord) -> list[str | int]:
        """Return the entry of a record that slices say was taken, empty for others."""
        place = self.places[item[1]]
        if place.partition < 0 or place.name not in WITNESSED:
            return []
        return [place.name, place.partition, item[2], hashlib.sha256(item[6]).hexdigest()]

    def _is_late(self, item: MergedRecord) -> int:
        """Tell whether a record is earlier than its predecessor, or than an interval that was cut."""
        late = 1 if item[4] or 0 <= item[0] < self._interval.as_of_us - self.slice_us else 0
        self.late += late
        return late


def _text_bytes(original: bytes) -> int:
    """Return how many bytes an original takes as a JSON string, key included."""
    return len(_encode(original.decode())) + 32


# A stream of one's own records, cut into the slices that a journal would hold: the sequencer's rules without a bus.
#
# 1. Records count in order of arrival, each at the highest event time so far, as the lines of one file do; those of
#    before the first time wait for it, and join its slice.
# 2. `RecordSequencer` checks, numbers and cuts them. The first slice carries the configuration.
# 3. What was given out is folded again, a block at a time, as ``sequence`` folds the journal on its start. A snapshot
#    is that fold and the records after it, so that a restart continues as the sequencer does: at the same record.
#
# Nothing is written down here: whoever wants to replay keeps what comes out.

SCHEMA = "slicing/1"
FOLD_SLICES = 1_000  # given out between two folds
STREAM_SOURCE = RecordSource("stream", 0)


class SlicingOutput(NamedTuple):
    """Output for some records: slices as (shard, value), and records for the topic ``rejects``."""

    slices: list[tuple[int, bytes]]
    rejects: list[Record]


class SlicingState:
    """The state of the cut: ``step(record) -> SlicingOutput``, and ``finish() -> SlicingOutput`` where the stream ends.

    Parameters
    ----------
    configuration
        Shards, slice length, limits, playbook and the rest that slices carry; its inputs, bus and keys are not used.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._folded = JournalState(configuration.shards)
        self._unfolded: list[tuple[int, bytes]] = []
        self._waiting: deque[tuple[int, bytes]] = deque()  # number and bytes of records that no folded slice covers
        self._slicer: RecordSequencer | None = None
        self._early: list[MergedRecord] = []
        self._number, self._high_us, self._rejects = 0, NO_TIME, 0

    def step(self, record: Any) -> SlicingOutput:
        """Take a record: JSON bytes or text, a dict, or an event of ``schemas.events``."""
        raw = record.encode() if isinstance(record, str) else record
        item = self._item(raw if isinstance(raw, bytes) else _encode(raw))
        self._waiting.append((item[2], item[6]))
        if self._slicer is None:
            self._early.append(item)
            if self._high_us == NO_TIME:
                return SlicingOutput([], [])
            self._begin(JournalState(self._configuration.shards))
        else:
            self._slicer.add((item,))
        return self._taken()

    def finish(self) -> SlicingOutput:
        """End the last slice at the next full second; the stream may go on all the same."""
        if self._slicer is None:
            if not self._early:
                return SlicingOutput([], [])
            self._begin(JournalState(self._configuration.shards))
        assert self._slicer is not None
        self._slicer.finish()
        return self._taken()

    def _item(self, raw: bytes) -> MergedRecord:
        number, late = self._number, 0
        self._number += 1
        try:
            if len(raw) > RECORD_BYTES_MAX:
                raise Rejected(Reason.RECORD_MUST_NOT_EXCEED_256_KIB, f"the record has {len(raw)} bytes")
            event = decode_event(raw)
        except Rejected as rejected:
            return (self._high_us, 0, number, 0, 0, STREAM_SOURCE.refuse(number, rejected, raw), raw)
        if event.event_time_us != NO_TIME:
            late = int(event.event_time_us < self._high_us)
            self._high_us = max(self._high_us, event.event_time_us)
        return (self._high_us, 0, number, 0, late, event, raw)

    def _begin(self, standing: JournalState) -> None:
        """Begin to cut where a journal stands, with the records that wait."""
        first = next((item[0] for item in self._early if item[0] != NO_TIME), NO_TIME)
        last = standing.configuration
        key_set = None if last is None else last["limits"].get("key_set")  # none is read here: the last one stands
        event = journaled_configuration(self._configuration, last, key_set)
        self._slicer = RecordSequencer(standing, event, [STREAM_SOURCE], self._configuration.slice_ms * 1000, first)
        self._slicer.add(self._early)
        self._early = []

    def _taken(self) -> SlicingOutput:
        assert self._slicer is not None
        if not self._slicer.steps:
            return SlicingOutput([], [])
        cut = SlicingOutput([], [])
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
        covered = self._folded.positions.get(STREAM_SOURCE.key, [0])[0]
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
        self._high_us = self._folded.positions.get(STREAM_SOURCE.key, [0, 0, NO_TIME])[2]
        self._number = state["number"] - len(state["waiting"])
        self._early = [self._item(raw) for raw in state["waiting"]]
        self._waiting.extend((item[2], item[6]) for item in self._early)
        self._rejects = state["rejects"]
        if self._folded.as_of_us or self._high_us != NO_TIME:
            standing = JournalState(configuration.shards)
            standing.restore(state["folded"])
            self._begin(standing)
            invariant(not self._taken().slices, "a restart of slice_time gives no slice out again")
        return self
