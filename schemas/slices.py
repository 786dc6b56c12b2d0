"""One journal record: a slice, everything that one shard learns in one interval of event time.

See architecture.md, "Slices".

A slice is columnar: equal-length lists, one per field, so that a whole slice becomes arrays in a few calls. Columns in
which every row has its default are left out. Field order is that of the classes, so equal slices have equal bytes.

Instruments and accounts travel as their **ordinals**: the place, from 0, of the first reference record of that id among
those of its type in the journal. Every shard receives every reference record, so ordinals agree everywhere.
"""

from typing import Any

import msgspec

from seawall.schemas.events import Account, Asset, Counterparty, Event, Instrument, NettingSet, Schedule

SLICE_BYTES_MAX = 512 * 1024
"""No journal record is larger: Kafka's default limit is 1 MB."""

Reference = Asset | Instrument | Schedule | Counterparty | NettingSet | Account


class Marks(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Prices, the last per (instrument, kind, venue) of the slice.

    ``kind`` and ``venue`` are empty when all rows are ``mark`` and without venue; ``implied_volatility`` is empty when
    no row has one, and -1 marks a row that has none.
    """

    instrument: list[int]
    price: list[float]
    time_us: list[int]
    kind: list[str] = []
    venue: list[str] = []
    implied_volatility: list[float] = []


class Fills(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Fills of the shard's accounts in merge order; ``quantity`` in increments, bought positive."""

    id: list[str]
    account: list[int]
    instrument: list[int]
    quantity: list[int]
    price: list[float]
    fee: list[float] = []
    fee_asset: list[str] = []
    venue: list[str] = []
    source: list[str] = []
    action: list[str] = []
    ref: list[str] = []
    strategy: list[str] = []
    trader: list[str] = []


class Transfers(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Collateral movements of the shard's accounts in merge order."""

    id: list[str]
    account: list[int]
    asset: list[str]
    amount: list[float]
    purpose: list[str] = []
    segregated: list[bool] = []
    held_by: list[str] = []


class Rejects(msgspec.Struct, kw_only=True):
    """Records rejected since the last tick: how many, and SHA-256 over (4-byte big-endian length, value) of each."""

    count: int
    sha256: str


class Slice(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One slice of one shard.

    Attributes
    ----------
    shard, seq
        Whose it is, and its place, contiguous from 0.
    as_of_us, cut_us
        Exclusive end of the interval, a multiple of the slice length; the clock at the cut, or ``as_of_us`` for
        bounded inputs.
    more
        The next slice has the same ``as_of_us``; limits are evaluated on the last of them.
    second, end
        The last slice of a second of event time, in every shard; the last of a bounded run.
    configuration
        A change of configuration; always in slice 0.
    reference, marks, events
        What every shard must know; ``events`` also carries what only this shard must, in merge order.
    fills, transfers
        Movements in this shard's accounts.
    originals
        ``fill:<index>`` or ``transfer:<index>`` to the original text, of corrections, busts and ids seen before.
    late
        Events that arrived after their interval was cut.
    rejects
        Records rejected since the last tick.
    sources
        Per source ``[next line or offset, next byte, highest event time]`` after this tick.
    taken
        ``[topic, partition, offset, sha256]`` of records taken from ``signals`` and ``acknowledgements``.
    """

    shard: int
    seq: int
    as_of_us: int
    cut_us: int
    more: bool = False
    second: bool = False
    end: bool = False
    configuration: dict[str, Any] | None = None
    reference: list[Reference] = []
    marks: Marks | None = None
    fills: Fills | None = None
    transfers: Transfers | None = None
    events: list[Event] = []
    originals: dict[str, str] = {}
    late: int = 0
    rejects: Rejects | None = None
    sources: dict[str, list[int]] = {}
    taken: list[list[str | int]] = []


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Slice)


def encode_slice(slice_: Slice) -> bytes:
    """Return the journal value of a slice."""
    return _ENCODER.encode(slice_)


def decode_slice(value: bytes) -> Slice:
    """Return the slice of a journal value.

    Raises
    ------
    msgspec.DecodeError
        When the value is not a slice, or has a field of another type.
    """
    try:
        return _DECODER.decode(value)
    except (UnicodeDecodeError, RecursionError) as error:  # which the decoder lets through
        raise msgspec.DecodeError(str(error)) from None
