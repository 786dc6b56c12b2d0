"""Fields of venue messages: read strictly, exact to the last digit.

JSON numbers stay the text that was sent (a venue's ``0.1`` never passes through a float). A field that is not what it
must be raises ``Unreadable`` with its name, and only that message or item is skipped.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import msgspec

from seawall.schemas.decimals import number_text
from seawall.schemas.errors import Rejected

DIGITS_MAX = 30
NOT_JSON = "not JSON"
SIDES: Mapping[str, Any] = {"buy": "buy", "sell": "sell", "bid": "buy", "ask": "sell"}

_decoder = msgspec.json.Decoder(float_hook=str)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Unreadable(Exception):
    """A message or an item that its reader cannot take; the text names the rule."""


# What reading fields of another type than a venue documents raises, where no rule names the field.
SHAPELESS = (Unreadable, TypeError, AttributeError)


def told(error: Exception) -> str:
    """Return what is wrong with a message: the rule that it breaks, or that something in it is of another type."""
    return str(error) if isinstance(error, Unreadable) else f"a field is of another type ({str(error)[:60]})"


def decode(content: bytes) -> Any:
    """Decode one JSON text; numbers with a fraction or an exponent become their text.

    Raises
    ------
    Unreadable
        It is no JSON.
    """
    try:
        return _decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise Unreadable(f"{NOT_JSON}: {str(error)[:80]}") from None


def field(body: Any, name: str) -> Any:
    """Return a field that must be there and not null."""
    found = body.get(name) if isinstance(body, dict) else None
    if found is None:
        raise Unreadable(f"no field {name}")
    return found


def text(body: Any, name: str) -> str:
    """Return a text that is not empty."""
    found = field(body, name)
    if not isinstance(found, str) or not found:
        raise Unreadable(f"{name} is no text")
    return found


def listed(body: Any, name: str) -> list[Any]:
    """Return a list."""
    found = field(body, name)
    if not isinstance(found, list):
        raise Unreadable(f"{name} is no list")
    return found


def decimal(body: Any, name: str) -> str:
    """Return a decimal string (contract.md, "Encoding"), whether it was sent as a number or as a text."""
    return as_decimal(field(body, name), name)


def as_decimal(value: Any, name: str) -> str:
    """Return the decimal string of a value; an exponent is written out."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise Unreadable(f"{name} is no number")
    try:
        return number_text(value)
    except Rejected as rejected:
        raise Unreadable(f"{name}: {rejected.reason.value}") from None


def is_zero(value: str) -> bool:
    """Tell whether a decimal string is zero."""
    return not value.strip("0.-")


def hundredth(value: str) -> str:
    """Return a hundredth of a decimal string: a percentage as a fraction, exactly.

    Examples
    --------
    >>> hundredth("120.74"), hundredth("5"), hundredth("-0.5")
    ('1.2074', '0.05', '-0.005')
    """
    sign, digits = ("-", value[1:]) if value.startswith("-") else ("", value)
    whole, _, fraction = digits.partition(".")
    whole = whole.rjust(3, "0")
    return f"{sign}{whole[:-2].lstrip('0') or '0'}.{whole[-2:]}{fraction}"


def scaled(value: int, places: int) -> str:
    """Return an integer divided by a power of ten, exactly.

    Examples
    --------
    >>> scaled(100, 6), scaled(-25, 1), scaled(7, 0)
    ('0.000100', '-2.5', '7')
    """
    if not places:
        return str(value)
    sign, digits = ("-" if value < 0 else ""), str(abs(value)).rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


def product(*factors: str) -> str:
    """Return the exact product of decimal strings.

    Examples
    --------
    >>> product("0.1", "1"), product("100", "1")
    ('0.1', '100')
    """
    result = Decimal(1)
    with localcontext() as context:
        context.prec = 80
        for factor in factors:
            result *= Decimal(factor)
    return as_decimal(format(result, "f"), "product")


def whole(body: Any, name: str) -> int:
    """Return an integer, sent as a number or as its digits."""
    found = field(body, name)
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    if isinstance(found, str) and len(found) <= DIGITS_MAX and found.removeprefix("-").isdecimal() and found.isascii():
        return int(found)
    raise Unreadable(f"{name} is no integer")


def milliseconds(body: Any, name: str) -> int:
    """Return a time sent in Unix milliseconds, in microseconds."""
    return whole(body, name) * 1_000


def iso_time(body: Any, name: str) -> int:
    """Return an ISO 8601 time with a zone, in microseconds since the epoch."""
    found = text(body, name)
    try:
        time = datetime.fromisoformat(found)
    except ValueError:
        raise Unreadable(f"{name} is no ISO 8601 time") from None
    if time.tzinfo is None:
        raise Unreadable(f"{name} has no time zone")
    return (time - _EPOCH) // _MICROSECOND


def side(body: Any, name: str) -> Any:
    """Return ``buy`` or ``sell``."""
    found = SIDES.get(text(body, name).lower())
    if found is None:
        raise Unreadable(f"{name} is neither buy nor sell")
    return found
