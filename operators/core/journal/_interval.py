"""Batch interval in the making: content common to all shards, content of each shard alone, and signals."""

import hashlib
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import msgspec

from seawall.operators.core.journal._rejects import RejectRecord
from seawall.schemas import events as ev
from seawall.schemas.errors import invariant
from seawall.schemas.records import SLICE_BYTES_MAX, Fills, Marks, Rejects, Transfers

# One interval in the making: what every shard learns in it, and what each shard learns alone.
#
# The parts that all shards share (reference records, marks, source positions) are encoded once; a shard's slice is
# those bytes joined with its own, in the field order of ``schemas/records.py``, so that the result equals
# ``encode_slice`` of the slice it stands for. Sizes are kept as upper bounds of the encoded bytes, so that a slice is
# closed before it grows too large for the bus.

SIZE_MAX = SLICE_BYTES_MAX - 16 * 1024
HEAD_BYTES = 256
FILL_BYTES = 180  # numbers, quotes and defaulted columns of one fill, without its texts
TRANSFER_BYTES = 110
MARK_BYTES = 130
TAKEN_BYTES = 180
REJECTS_BYTES_MAX = 1 << 20

Row = tuple[Any, ...]
_encode = msgspec.json.Encoder().encode
_FILL_DEFAULTS = (0.0, "", "", "order", "new", "", "", "")
_TRANSFER_DEFAULTS = ("deposit", False, "", -1, 0)
_FILL_ABSENT = ("0", *_FILL_DEFAULTS[1:])
_FILL_OPTIONAL = ("fee", "fee_asset", "venue", "source", "action", "ref", "strategy", "trader")
OPTIONS, TIME = 5, 6  # of a row of a fill
ACTION, REF = 4, 5  # of its options
NEVER_US = -1
_fill_fields = attrgetter("fee", "fee_asset", "venue", "source", "action", "ref_fill_id", "strategy", "trader")
_TRANSFER_OPTIONAL = ("purpose", "segregated", "held_by", "instrument", "interval_end_us")


class ShardContent:
    """Content of one shard alone, and the events that it sees, in merge order."""

    __slots__ = ("events", "fill_ids", "fills", "last_us", "late", "ordered", "size", "transfer_ids", "transfers")

    def __init__(self) -> None:
        self.fills: list[Row] = []
        self.transfers: list[Row] = []
        self.fill_ids: set[str] = set()
        self.transfer_ids: set[str] = set()
        self.events: list[bytes] = []
        self.last_us = NEVER_US
        self.ordered = True  # fills came in order of event time, and none names another
        self.late = 0
        self.size = 0

    def add_fill(self, row: Row, time_us: int, original: str) -> None:
        """Add a fill (`fills_of`), with its original text where that is kept."""
        self.fills.append((*row, time_us, original))
        self.fill_ids.add(row[0])
        self.ordered = self.ordered and time_us >= self.last_us and not original
        self.last_us = time_us

    def add_transfer(self, row: Row, original: str) -> None:
        """Add a transfer (`transfers_of`), with its original text where that is kept."""
        self.transfers.append((*row, original))
        self.transfer_ids.add(row[0])

    def close(self) -> None:
        """Bring fills into the order of the slice: nothing is added any more."""
        if not self.ordered:
            self.fills = in_time_order(self.fills)

    def encoded(self, shared_late: int, timed: bool) -> bytes:
        """Return the fields from ``fills`` to ``late``; ``timed``: with the times of fills."""
        parts = []
        if self.fills:
            parts += [b',"fills":', _encode(fills_of(self.fills, timed))]
        if self.transfers:
            parts += [b',"transfers":', _encode(transfers_of(self.transfers))]
        if self.events:
            parts += [b',"events":[', b",".join(self.events), b"]"]
        named = (("fill", self.fills), ("transfer", self.transfers))
        originals = {f"{kind}:{at}": row[-1] for kind, rows in named for at, row in enumerate(rows) if row[-1]}
        if originals:
            parts += [b',"originals":', _encode(originals)]
        late = self.late + shared_late
        if late:
            parts.append(b',"late":%d' % late)
        return b"".join(parts)


class BatchInterval:
    """The content of one step of one tick, over all shards.

    Parameters
    ----------
    as_of_us
        Exclusive end of the interval; 0 while it is not known.
    shards
        How many shards there are.
    size
        Bytes to set aside for source positions.
    """

    def __init__(self, as_of_us: int, shards: int, size: int = 0) -> None:
        self.as_of_us = as_of_us
        self.own = [ShardContent() for _ in range(shards)]
        self.configuration: dict[str, Any] | None = None
        self.reference: list[bytes] = []
        self.marks: dict[tuple[int, str, str], tuple[float, int, float]] = {}
        self.rejects: list[RejectRecord] = []
        self.rejects_size = 0
        self.taken: list[list[str | int]] = []
        self.sources: dict[str, list[int]] = {}
        self.broadcast = False
        self.late = 0
        self.settles = False  # funding, which what was traded before it pays
        self.size = HEAD_BYTES + size
        self.largest = 0

    def touched(self) -> bool:
        """Tell whether any shard learns anything."""
        return self.broadcast or self.largest > 0

    def has_room(self, size: int, shard: int | None = None) -> bool:
        """Tell whether ``size`` more bytes fit, into one shard or into all."""
        own = self.largest if shard is None else self.own[shard].size
        return self.size + own + size <= SIZE_MAX

    def add_event(self, encoded: bytes, shard: int | None, late: int) -> None:
        """Add an event to one shard, whose bytes are counted already, or to all."""
        if shard is not None:
            own = self.own[shard]
            own.events.append(encoded)
            own.late += late
            return
        self.size += len(encoded) + 1
        self.broadcast = True
        self.late += late
        for own in self.own:
            own.events.append(encoded)

    def add_reference(self, encoded: bytes, late: int) -> None:
        """Add a reference record."""
        self.size += len(encoded) + 1
        self.broadcast = True
        self.late += late
        self.reference.append(encoded)

    def add_mark(self, key: tuple[int, str, str], value: tuple[float, int, float], late: int) -> None:
        """Add a mark; of two in one interval the later one stays, at equal times the one that came last."""
        before = self.marks.get(key)
        if before is None:
            self.size += MARK_BYTES + len(key[2])
            self.broadcast = True
        if before is None or value[1] >= before[1]:
            self.marks[key] = value
        self.late += late

    def add_reject(self, record: RejectRecord) -> None:
        """Add a rejected record."""
        self.rejects.append(record)
        self.rejects_size += len(record.value)

    def add_taken(self, entry: list[str | int]) -> None:
        """Say that a record was taken from a topic; nothing where ``entry`` is empty."""
        if entry:
            self.size += TAKEN_BYTES
            self.taken.append(entry)

    def configure(self, configuration: dict[str, Any]) -> None:
        """Begin the interval with a change of configuration."""
        self.configuration = configuration
        self.size += len(_encode(configuration)) + 32
        self.broadcast = True

    # --- encoding ---------------------------------------------------------------------------------------------------

    def encode(self, numbered: list[tuple[int, int]], cut_us: int, flags: bytes) -> list[tuple[int, int, bytes]]:
        """Return (shard, seq, value) of the slices of ``numbered`` (shard, seq).

        ``flags`` are the encoded fields between ``cut_us`` and ``configuration``.
        """
        lead, tail = self._lead(), self._tail()
        times = b',"as_of_us":%d,"cut_us":%d%s' % (self.as_of_us, cut_us, flags)
        slices = []
        for shard, seq in numbered:
            own = self.own[shard].encoded(self.late, self.settles)
            value = b'{"shard":%d,"seq":%d%s%s%s%s' % (shard, seq, times, lead, own, tail)
            invariant(len(value) <= SLICE_BYTES_MAX, f"slice {seq} of shard {shard} has {len(value)} bytes")
            slices.append((shard, seq, value))
        return slices

    def _lead(self) -> bytes:
        parts = []
        if self.configuration is not None:
            parts += [b',"configuration":', _encode(self.configuration)]
        if self.reference:
            parts += [b',"reference":[', b",".join(self.reference), b"]"]
        if self.marks:
            parts += [b',"marks":', _encode(marks_of(self.marks))]
        return b"".join(parts)

    def _tail(self) -> bytes:
        parts = []
        if self.rejects:
            parts += [b',"rejects":', _encode(summary_of(self.rejects))]
        if self.sources:
            parts += [b',"sources":', _encode(self.sources)]
        if self.taken:
            parts += [b',"taken":', _encode(self.taken)]
        return b"".join(parts) + b"}"


def marks_of(marks: dict[tuple[int, str, str], tuple[float, int, float]]) -> Marks:
    """Return marks as columns, those with nothing but defaults empty."""
    instrument, kind, venue = (list(column) for column in zip(*marks, strict=True))
    price, time_us, volatility = (list(column) for column in zip(*marks.values(), strict=True))
    return Marks(
        instrument=instrument,
        price=price,
        time_us=time_us,
        kind=kind if any(k != "mark" for k in kind) else [],
        venue=venue if any(venue) else [],
        implied_volatility=volatility if any(v >= 0 for v in volatility) else [],
    )


def in_time_order(rows: list[Row]) -> list[Row]:
    """Return fills in order of event time and then of arrival.

    A correction stands behind what it corrects, and an id that comes again behind its first fill: which of two is the
    first was decided when they came.
    """
    times: dict[str, int] = {}
    for row in rows:
        times.setdefault(row[0], row[TIME])
    came: set[str] = set()
    keys: list[tuple[int, bool, int]] = []
    for at, row in enumerate(rows):
        action, ref = row[OPTIONS][ACTION : REF + 1] if row[OPTIONS] is not None else ("new", "")
        time_us, again = max(row[TIME], times[row[0]], times.get(ref, NEVER_US)), row[0] in came
        if not again:
            came.add(row[0])
            times[row[0]] = time_us
        keys.append((time_us, again or action != "new", at))
    return [rows[at] for _, _, at in sorted(keys)]


def fills_of(rows: list[Row], timed: bool = False) -> Fills:
    """Return fills as columns; a row is id, account, instrument, quantity, price, options, time and original."""
    names, account, instrument, quantity, price, options, times, _ = (
        list(column) for column in zip(*rows, strict=True)
    )
    optional = _columns(_FILL_OPTIONAL, options, _FILL_DEFAULTS)
    if timed:
        optional["time_us"] = times
    return Fills(id=names, account=account, instrument=instrument, quantity=quantity, price=price, **optional)


def transfers_of(rows: list[Row]) -> Transfers:
    """Return transfers as columns; a row is id, account, asset, amount, options and original."""
    names, account, asset, amount, options, _ = (list(column) for column in zip(*rows, strict=True))
    optional = _columns(_TRANSFER_OPTIONAL, options, _TRANSFER_DEFAULTS)
    return Transfers(id=names, account=account, asset=asset, amount=amount, **optional)


def fill_options(event: ev.Fill) -> Row | None:
    """Return the optional columns of a fill, None when all have their defaults."""
    options = _fill_fields(event)
    return None if options == _FILL_ABSENT else (float(options[0]), *options[1:])


def transfer_options(event: ev.Collateral, instrument: int) -> Row | None:
    """Return the optional columns of a transfer, None when all have their defaults; the instrument is an ordinal."""
    row = (event.purpose, event.segregated, event.held_by, instrument, event.interval_end_us)
    return None if row == _TRANSFER_DEFAULTS else row


def summary_of(rejects: list[RejectRecord]) -> Rejects:
    """Return count and SHA-256 of rejected values."""
    digest = hashlib.sha256()
    for record in rejects:
        digest.update(len(record.value).to_bytes(4, "big"))
        digest.update(record.value)
    return Rejects(count=len(rejects), sha256=digest.hexdigest())


def _columns(names: tuple[str, ...], options: list[Row | None], defaults: Row) -> dict[str, list[Any]]:
    """Return the optional columns in which any row differs from its default."""
    if not any(options):
        return {}
    columns = zip(*(row or defaults for row in options), strict=True)
    return {
        name: list(column)
        for name, column, default in zip(names, columns, defaults, strict=True)
        if any(value != default for value in column)
    }


# Signals in the journal: marks as marks, and as an event what risk decides on.
#
# The robust mark stands above every single venue's (contract.md, "Prices": exposures and stress use it); with one venue
# there is none, and a venue's own ``mark`` record is in the journal already, so only mids and lasts are added.
# Instruments that no reference record describes are passed over: their raw records were rejected.

MarkKey = tuple[int, str, str]
MarkValue = tuple[float, int, float]
NO_VOLATILITY = -1.0
ROBUST = "robust"


def marks_of_signal(signal: ev.Signal, instruments: Mapping[str, Any]) -> list[tuple[MarkKey, MarkValue]]:
    """Return the marks of a signal as (ordinal, kind, venue) and (price, time, no volatility)."""
    found: list[tuple[MarkKey, MarkValue]] = []
    for row in signal.instruments:
        known = instruments.get(row.instrument)
        if known is None:
            continue
        if row.source == ROBUST:
            found.append(((known.ordinal, ROBUST, ""), (row.price, row.time_us, NO_VOLATILITY)))
        for venue in row.venues:
            if venue.kind != "mark":
                found.append(((known.ordinal, venue.kind, venue.venue), (venue.price, venue.time_us, NO_VOLATILITY)))
    return found


def journaled_signal(signal: ev.Signal, instruments: Mapping[str, Any], by_venue: bool = False) -> ev.Signal | None:
    """Return alerts, and depth, volatility and score of the instruments scored; None where there are none of these.

    ``by_venue``: with the books of single venues, which only a playbook that weighs venues needs.
    """
    rows = [
        ev.SignalRow(
            instrument=row.instrument,
            price=row.price,
            source=row.source,
            time_us=row.time_us,
            venues=row.venues if by_venue else [],
            depth=row.depth,
            realised_volatility=row.realised_volatility,
            ew_volatility=row.ew_volatility,
            state=row.state,
            score=row.score,
        )
        for row in signal.instruments
        if row.state and row.instrument in instruments
    ]
    if not (rows or signal.alerts):
        return None
    return ev.Signal(
        event_time_us=signal.event_time_us,
        group=signal.group,
        groups=signal.groups,
        seq=signal.seq,
        instruments=rows,
        alerts=signal.alerts,
    )
