"""Values of foreign records: where they stand, and how each becomes what a field of an input record takes.

Decoded records hold texts, integers, ``Decimal`` (every JSON number with a point or an exponent, by its text),
booleans, None, lists and objects; from Avro also times. Nothing is a float: scaling is exact.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any

from seawall.schemas.decimals import malformed, number_text
from seawall.schemas.errors import Reason, Rejected

Value = Any
Convert = Callable[[Value], Value]
ABSENT = object()
UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 0}
NS_PER_US = 1_000
TEXT_MAX = 60
INTEGER_END = 10**20  # what a decimal string can hold before the point
_EXACT = Context(prec=120, traps=[Inexact, InvalidOperation, Overflow])
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def find(record: Value, path: tuple[str, ...]) -> Value:
    """Return what stands at a path, ``ABSENT`` where nothing does; in a list a segment is a position from 0."""
    for segment in path:
        if isinstance(record, dict):
            record = record.get(segment, ABSENT)
        elif isinstance(record, list) and segment.isdigit() and int(segment) < len(record):
            record = record[int(segment)]
        else:
            return ABSENT
    return record


def text_of(value: Value) -> str:
    """Return a text, an integer or a boolean as text: identifiers are often numbers elsewhere."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{shown(value)} is no text")


def decimal_of(value: Value) -> str:
    """Return a number, or a text that is one, as a decimal string."""
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        return number_text(str(value))
    raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{shown(value)} is no number")


def integer_of(value: Value) -> int:
    """Return a whole number, or a text that is one."""
    try:
        number = Decimal(decimal_of(value))
    except InvalidOperation:  # pragma: no cover - decimal_of has checked it
        raise malformed(str(value)) from None
    if number != int(number):
        raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{shown(value)} is no whole number")
    return int(number)


def boolean_of(value: Value) -> bool:
    """Return a boolean, or one of the texts true and false."""
    found = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
    if isinstance(found, bool):
        return found
    raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{shown(value)} is neither true nor false")


def plain_of(value: Value) -> Value:
    """Return a list or an object as it is, its numbers as decimal strings."""
    if isinstance(value, list):
        return [plain_of(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain_of(item) for name, item in value.items()}
    return decimal_of(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else value


def time_reader(unit: str, zone: str) -> Convert:
    """Return what makes microseconds since the epoch of a time.

    Parameters
    ----------
    unit
        ``s``, ``ms``, ``us``, ``ns`` since the epoch (``ns`` rounded down), or ``iso``.
    zone
        ``UTC`` where ISO times without an offset are meant so; empty: such times are rejected.
    """
    if unit == "iso":
        return lambda value: _iso_us(value, zone)

    def read(value: Value) -> int:
        if type(value) is int:
            return value * UNITS[unit] if unit != "ns" else value // NS_PER_US
        if isinstance(value, datetime):
            return _micros(value, zone)
        number = _decimal(value)
        exact = _EXACT.divide(number, Decimal(NS_PER_US)) if unit == "ns" else _EXACT.multiply(number, UNITS[unit])
        return int(exact // 1)

    return read


def _iso_us(value: Value, zone: str) -> int:
    if isinstance(value, datetime):
        return _micros(value, zone)
    try:
        found = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{shown(value)} is no ISO 8601 time") from None
    return _micros(found, zone)


def _micros(found: datetime, zone: str) -> int:
    if found.tzinfo is None and zone != "UTC":
        raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{found} has no offset; say zone = 'UTC' if that is meant")
    past = (found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH
    return (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds


def scaled(value: Value, factor: Decimal) -> Value:
    """Return a number times a factor, exactly."""
    return _EXACT.multiply(_decimal(value), factor)


def absolute(value: Value) -> Value:
    """Return a number without its sign."""
    return abs(_decimal(value))


def sign_of(value: Value) -> str:
    """Return ``positive`` or ``negative``; zero has no side."""
    number = _decimal(value)
    if not number:
        raise Rejected(Reason.FIELD_MUST_HAVE_A_KNOWN_VALUE, "0 is neither positive nor negative")
    return "positive" if number > 0 else "negative"


def pairs_of(value: Value, members: tuple[str, ...]) -> list[list[str]]:
    """Return a list of objects or lists as a list of pairs, such as the levels of a book."""
    if not isinstance(value, list):
        raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{shown(value)} is no list")
    pairs = []
    for item in value:
        pair = [find(item, (member,)) for member in members]
        if ABSENT in pair:
            raise Rejected(Reason.FIELD_MUST_BE_PRESENT, f"{shown(item)} has no {' and '.join(members)}")
        pairs.append([decimal_of(one) for one in pair])
    return pairs


def shown(value: Value) -> str:
    """Return a value for an error message, cut short."""
    text = repr(str(value) if isinstance(value, Decimal | date) else value)
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "…"


def _decimal(value: Value) -> Decimal:
    if type(value) is int and -INTEGER_END < value < INTEGER_END:
        return Decimal(value)
    try:
        return Decimal(decimal_of(value))
    except InvalidOperation:  # pragma: no cover - decimal_of has checked it
        raise malformed(str(value)) from None
