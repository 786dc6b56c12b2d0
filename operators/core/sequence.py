"""The sequencer's core: records in merge order go in, slices come out.

Each record is checked against what was taken before it and put into the open interval: of every shard, or of the shard
that owns its account. A rejected record makes no tick of its own; it is counted in the next one. Ticks are cut in
``ticks.py``.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from seawall.operators.core.interval import (
    FILL_BYTES,
    MARK_BYTES,
    REJECTS_BYTES_MAX,
    TAKEN_BYTES,
    TRANSFER_BYTES,
    fill_options,
    transfer_options,
)
from seawall.operators.core.market.journaled import journaled_signal, marks_of_signal
from seawall.operators.core.rejects import Foreign, Place, RejectRecord, reject_record
from seawall.operators.core.standing import Standing
from seawall.operators.core.ticks import EVENT_BYTES_MAX, UNKNOWN_US, Item, Ticks
from seawall.schemas import events as ev
from seawall.schemas.decimals import parse_quantity
from seawall.schemas.errors import Rejected
from seawall.schemas.events import NO_TIME
from seawall.schemas.redrives import REDRIVE

WITNESSED = ("signals", "acknowledgements")
"""Topics of which slices say what was taken; of ``redrive`` too."""
FOREIGN_BYTES = 1024  # what any one record may take in a slice beside its text
REFERENCE = (ev.Asset, ev.Instrument, ev.Schedule, ev.Counterparty, ev.NettingSet, ev.Account)
RAW = (ev.Trade, ev.Quote, ev.Depth, ev.Bar, ev.OpenInterest, ev.Liquidation)
EVERYWHERE = (ev.VenueStatus, ev.Notice, ev.Acknowledgement)

Handler = Callable[[Any, Item], None]

_encode = msgspec.json.Encoder().encode


class Slicer(Ticks):
    """Cuts a merged stream of records into slices; parameters as of ``Ticks``."""

    def __init__(
        self,
        standing: Standing,
        configuration: dict[str, Any] | None,
        places: list[Place],
        slice_us: int,
        first_us: int,
    ) -> None:
        super().__init__(standing, configuration, places, slice_us, first_us)
        self._admission = standing.admission
        self._handlers = self._wire()

    def add(self, items: Iterable[Item]) -> None:
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
                self._refuse(reject_record(self.places[item[1]], item[2], rejected, item[6]), item)
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
            Foreign: self._foreign,
        }
        handlers |= dict.fromkeys(REFERENCE, self._reference)
        handlers |= dict.fromkeys(RAW, self._market)
        handlers |= dict.fromkeys(EVERYWHERE, self._everywhere)
        handlers[ev.OpenInterest] = self._open_interest
        return handlers

    def _refuse(self, record: RejectRecord, item: Item) -> None:
        self.rejected += 1
        witness = self._witness(item)
        interval = self._room(TAKEN_BYTES) if witness else self._interval
        interval.add_taken(witness)
        interval.add_reject(record)

    def _foreign(self, foreign: Foreign, item: Item) -> None:
        """Take a record that was mapped or redriven; what is redriven is witnessed in the slices that it goes into."""
        place, inner = self.places[item[1]], (*item[:5], foreign.event, foreign.line)
        redriven = place.name == REDRIVE
        if redriven and not self._interval.has_room(size := len(foreign.line) + FOREIGN_BYTES):
            self._room(min(size, EVENT_BYTES_MAX))
        try:
            self._handlers[type(foreign.event)](foreign.event, inner)
        except Rejected as rejected:
            self._refuse(reject_record(place, item[2], rejected, foreign.original), inner)
        if redriven:
            sha256 = hashlib.sha256(item[6]).hexdigest()
            self._interval.add_taken([place.name, place.partition, item[2], sha256])
            self._interval.broadcast = True

    def _reference(self, event: Any, item: Item) -> None:
        self._admission.check(event)
        encoded = _encode(event)
        interval = self._room(len(encoded))
        self._admission.apply(event)
        interval.add_reference(encoded, self._is_late(item))

    def _market(self, event: Any, item: Item) -> None:
        """Raw market events are for ``market``; here they only must be well-formed."""
        self._admission.instrument(event.instrument)

    def _open_interest(self, event: ev.OpenInterest, item: Item) -> None:
        """Open interest is for ``market`` too, unless a margin schedule is scaled by it or forecasts are made."""
        self._market(event, item)
        if self._admission.foresees or (event.venue, event.instrument) in self._admission.scaled:
            self._event(event, None, item)

    def _mark(self, event: ev.Mark, item: Item) -> None:
        known = self._admission.instruments.get(event.instrument) or self._admission.instrument(event.instrument)
        key = (known[0], event.kind, event.venue)
        interval = self._interval
        if key not in interval.marks:
            interval = self._room(MARK_BYTES + len(event.venue))
        volatility = float(event.implied_volatility) if event.implied_volatility else -1.0
        # One that is stamped after it was read counts from then: for a day those after it would be older than it.
        time_us = item[0] if NO_TIME < item[0] < event.event_time_us else event.event_time_us
        interval.add_mark(key, (float(event.price), time_us, volatility), self._is_late(item))

    def _fill(self, event: ev.Fill, item: Item) -> None:
        admission, name = self._admission, event.fill_id
        ordinal, shard = admission.accounts.get(event.account) or admission.account(event.account)
        instrument, scale = admission.instruments.get(event.instrument) or admission.instrument(event.instrument)
        quantity = parse_quantity(event.quantity, scale)
        options, memory = fill_options(event), self.standing.fills[shard]
        again = memory.has(name)
        size = FILL_BYTES + len(name) + (sum(map(len, options[1:])) if options is not None else 0)
        if again or event.action != "new":
            own = self._own(size + _text_bytes(item[6]), shard)
            own.originals[f"fill:{len(own.fills)}"] = item[6].decode()
        else:
            own = self._own(size, shard)
        if not again:
            memory.add(name, self.standing.ids_max)
        signed = quantity if event.side == "buy" else -quantity
        own.fills.append((name, ordinal, instrument, signed, float(event.price), options))
        own.late += self._is_late(item)

    def _transfer(self, event: ev.Collateral, item: Item) -> None:
        ordinal, shard = self._admission.account(event.account)
        options = transfer_options(event)
        memory, name = self.standing.transfers[shard], event.transfer_id
        size = TRANSFER_BYTES + len(name) + len(event.asset) + len(event.held_by)
        if memory.has(name):
            own = self._own(size + _text_bytes(item[6]), shard)
            own.originals[f"transfer:{len(own.transfers)}"] = item[6].decode()
        else:
            own = self._own(size, shard)
            memory.add(name, self.standing.ids_max)
        own.transfers.append((name, ordinal, event.asset, float(event.amount), options))
        own.late += self._is_late(item)

    def _everywhere(self, event: Any, item: Item) -> None:
        self._event(event, None, item)

    def _limit(self, event: ev.Limit, item: Item) -> None:
        as_of_us = self._interval.as_of_us
        self._admission.check_limits(event.document, as_of_us)
        self._event(event, None, item)
        self._admission.policy.apply(event.document, as_of_us)

    def _release(self, event: ev.Release, item: Item) -> None:
        self._admission.check_release(event.document, self._interval.as_of_us)
        self._event(event, None, item)

    def _funding(self, event: ev.Funding, item: Item) -> None:
        self._admission.instrument(event.instrument)
        self._event(event, None, item)

    def _obligation(self, event: ev.Obligation, item: Item) -> None:
        self._admission.check_party(event.from_)
        self._admission.check_party(event.to)
        self._event(event, None, item)

    def _order(self, event: ev.Order, item: Item) -> None:
        known = self._admission.account(event.account)
        parse_quantity(event.open_quantity, self._admission.instrument(event.instrument).scale)
        self._event(event, known.shard, item)

    def _position_report(self, event: ev.PositionReport, item: Item) -> None:
        known = self._admission.account(event.account)
        instrument = self._admission.instrument(event.instrument)
        if event.kind == "opening":
            parse_quantity(event.quantity, instrument.scale)
        self._event(event, known.shard, item)

    def _balance_report(self, event: ev.BalanceReport, item: Item) -> None:
        self._event(event, self._admission.account(event.account).shard, item)

    def _event(self, event: ev.Event, shard: int | None, item: Item) -> None:
        encoded = _encode(event)
        witness = self._witness(item)
        size = len(encoded) + (TAKEN_BYTES if witness else 1)
        if shard is None:
            self._room(size)
        else:
            self._own(size, shard)
        self._interval.add_taken(witness)
        self._interval.add_event(encoded, shard, self._is_late(item))

    def _signal(self, event: ev.Signal, item: Item) -> None:
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

    def _witness(self, item: Item) -> list[str | int]:
        """Return the entry of a record that slices say was taken, empty for others."""
        place = self.places[item[1]]
        if place.partition < 0 or place.name not in WITNESSED:
            return []
        return [place.name, place.partition, item[2], hashlib.sha256(item[6]).hexdigest()]

    def _is_late(self, item: Item) -> int:
        """Tell whether a record is earlier than its predecessor, or than an interval that was cut."""
        late = 1 if item[4] or 0 <= item[0] < self._interval.as_of_us - self.slice_us else 0
        self.late += late
        return late


def _text_bytes(original: bytes) -> int:
    """Return how many bytes an original takes as a JSON string, key included."""
    return len(_encode(original.decode())) + 32
