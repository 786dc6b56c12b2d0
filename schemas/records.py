"""Records on the bus, and the versions that may read and write them.

- ``Record`` is appended and ``Stored`` is read back, on every topic.
- ``Slice`` is one record of the topic ``journal``: everything that one shard learns in one interval of event time.
- ``Redrive`` is one record of the topic ``redrive``: a rejected record that is sent in again (contract.md, "Rejects").
- A journal names the version of Seawall that decides from each slice on. A process of another series stops at the first
  slice that is not its own to decide, and a journal never goes back to an older version.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

import seawall
from seawall.schemas.errors import Reason, Rejected, UsageError, VersionMismatch
from seawall.schemas.events import (
    Account,
    Asset,
    CollateralSchedule,
    Counterparty,
    Event,
    Instrument,
    NettingSet,
    Schedule,
)

# Records on the bus: what is appended, and what is read back.
#
# A derived record carries two headers (contract.md, "Output records"): ``seawall-id``, unique within its topic and a
# function of the journal, and ``seawall-n``, the number of records before it in its partition. Signed records carry
# ``dsse`` too.


class Record(NamedTuple):
    """One record to append: ``n`` is its place in its partition, ``dsse`` its detached envelope or empty."""

    key: str
    value: bytes
    id: str
    n: int
    dsse: str = ""

    def headers(self) -> dict[str, str]:
        """Return the record's headers in their fixed order."""
        headers = {"seawall-id": self.id, "seawall-n": str(self.n)}
        if self.dsse:
            headers["dsse"] = self.dsse
        return headers


class Stored(NamedTuple):
    """One record as a bus returns it."""

    offset: int
    key: str
    headers: dict[str, str]
    value: bytes


# One journal record: a slice, everything that one shard learns in one interval of event time.
#
# See architecture.md, "Slices".
#
# A slice is columnar: equal-length lists, one per field, so that a whole slice becomes arrays in a few calls. Columns
# in which every row has its default are left out. Field order is that of the classes, so equal slices have equal bytes.
#
# Instruments and accounts travel as their **ordinals**: the place, from 0, of the first reference record of that id
# among those of its type in the journal. Every shard receives every reference record, so ordinals agree everywhere.

SLICE_BYTES_MAX = 512 * 1024
"""No journal record is larger: Kafka's default limit is 1 MB."""

Reference = Asset | Instrument | Schedule | CollateralSchedule | Counterparty | NettingSet | Account


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
    """Fills of the shard's accounts in order of event time; ``quantity`` in increments, bought positive.

    A correction stands behind what it corrects. ``time_us`` is there where the slice settles funding, which what was
    traded before it pays.
    """

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
    time_us: list[int] = []


class Transfers(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Collateral movements of the shard's accounts in merge order; ``instrument`` is -1 where none is named."""

    id: list[str]
    account: list[int]
    asset: list[str]
    amount: list[float]
    purpose: list[str] = []
    segregated: list[bool] = []
    held_by: list[str] = []
    instrument: list[int] = []
    interval_end_us: list[int] = []


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


# Records of the topic ``redrive``: rejected records on their way in again (architecture.md, "Failure").
#
# Who sends one says why; the original bytes travel along, and what replaces them where they were corrected. Slices name
# each one that was taken, with its hash, so a redrive is evidence like any input.

REDRIVE = "redrive"
"""The topic; it has one partition."""


class Redrive(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A rejected record that is to be taken again.

    Attributes
    ----------
    reject
        ``PARTITION/OFFSET`` of the record on ``rejects``.
    source
        The file or topic it first came from: its mapping counts; empty where it is an input record already.
    reason
        Why it was rejected.
    by, why, at_us
        Who sent it, what was fixed, and when by their clock.
    original, original_base64
        Its bytes; the second where they are not UTF-8.
    replacement
        What stands in for them: an input record, in the form of its source.
    """

    reject: str
    source: str = ""
    reason: str
    by: str
    why: str
    at_us: int
    original: str = ""
    original_base64: str = ""
    replacement: str = ""

    def content(self) -> bytes:
        """Return the bytes that are to be taken."""
        if self.replacement:
            return self.replacement.encode()
        return base64.b64decode(self.original_base64) if self.original_base64 else self.original.encode()

    @classmethod
    def decode(cls, value: bytes) -> "Redrive":
        """Decode a record of the topic.

        Raises
        ------
        Rejected
            It is none.
        """
        try:
            found = _REDRIVE_DECODER.decode(value)
            found.content()
        except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
            raise Rejected(Reason.REDRIVE_MUST_BE_WELL_FORMED, str(error)[:200]) from None
        return found


_REDRIVE_DECODER = msgspec.json.Decoder(Redrive)


# Versions: what may work beside what, and who decides from where on.
#
# `seawall.__version__` is ``MAJOR.MINOR.PATCH``. A release that changes any byte that follows from a journal raises
# MINOR (or MAJOR), one that changes none raises PATCH only. The journal's ``configuration`` events carry the version
# (``code``) that decides from their slice on, so who disagrees is known before anything is emitted:
#
# - a process of another version that decides otherwise stops at the first slice that is not its own to decide;
# - a journal never goes back to an older version; a newer one takes over once all that was cut is decided.
#
# What a process keeps for itself (recovery stores, snapshots) carries layouts of its own: what cannot be read is set
# aside and derived again from the journal. What is exchanged carries a format that is checked where it is read.

_RELEASE = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})\.[0-9]{1,6}")


def release_series(code: str) -> tuple[int, int] | None:
    """Return what two versions share that decide alike; None for a journal that no release has cut.

    Examples
    --------
    >>> release_series("1.4.2"), release_series("test")
    ((1, 4), None)
    """
    found = _RELEASE.match(code)
    return None if found is None else (int(found[1]), int(found[2]))


def decides_alike(code: str) -> bool:
    """Return whether this program gives the bytes that ``code`` gives; what no release has cut is not judged."""
    return release_series(code) in (None, release_series(seawall.__version__))


def check_decided_alike(configuration: Mapping[str, Any], shard: int, seq: int) -> None:
    """Check that a slice is this program's to decide.

    Parameters
    ----------
    configuration
        The configuration event in force at the slice.
    shard, seq
        Of the slice.

    Raises
    ------
    VersionMismatch
        Another version decides there.
    """
    code = str(configuration.get("code", ""))
    if decides_alike(code):
        return
    where, own = f"slice {seq} of shard {shard} is decided by Seawall {code}", seawall.__version__
    if release_series(code) > release_series(own):  # type: ignore[operator]
        raise VersionMismatch(f"{where}, and this process is {own}: stop it and install {code} here too")
    text = f"{where}, and this process is {own}, which decides otherwise"
    to = "{}.{}".format(*release_series(own) or ("", ""))
    raise VersionMismatch(
        f"{text}: let {code} decide on all that it has cut, stop it, and run `seawall migrate DESK.toml --to {to}`"
    )


def check_not_older(code: str) -> None:
    """Check that this program may cut a journal on that ``code`` has cut so far.

    Raises
    ------
    UsageError
        The journal is a later version's.
    """
    there, own = release_series(code), release_series(seawall.__version__)
    if there is not None and own is not None and there > own:
        text = f"the journal was cut by Seawall {code}, and this is {seawall.__version__}, which is older"
        raise UsageError(f"{text}: install {code}; a journal never goes back")
