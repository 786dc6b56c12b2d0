"""Venue messages: recordings of them, their fields, and contract terms in their symbols.

A recording holds one message per line, with the time at which it was received. Fields are read strictly and exact to
the last digit. Symbols are split into base and quote asset, and dates into times of expiry.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import msgspec

from seawall.schemas.decimals import number_text
from seawall.schemas.errors import Rejected, UsageError

# Fields of venue messages: read strictly, exact to the last digit.
#
# JSON numbers stay the text that was sent (a venue's ``0.1`` never passes through a float). A field that is not what it
# must be raises ``Unreadable`` with its name, and only that message or item is skipped.

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


# Contract terms as venues write them into symbols.

ASSETS = {"XBT": "BTC", "XDG": "DOGE", "XBt": "BTC", "USDt": "USDT"}
"""Assets that a venue calls otherwise than all others do."""


def asset(name: str) -> str:
    """Return the common ticker of an asset."""
    return ASSETS.get(name, name)


def split_quote(symbol: str, quotes: tuple[str, ...]) -> tuple[str, str] | None:
    """Split a symbol without a separator at the quote asset that ends it.

    Examples
    --------
    >>> split_quote("SUSHIUSDT", ("USDT", "USD")), split_quote("USDT", ("USDT",))
    (('SUSHI', 'USDT'), None)
    """
    for quote in quotes:
        base = symbol.removesuffix(quote)
        if base and base != symbol:
            return asset(base), quote
    return None


def eight_utc(year: str, month: str, day: str, hour: int = 8) -> int:
    """Return eight o'clock UTC of a day with a two-digit year, in microseconds: when dated futures settle.

    Raises
    ------
    Unreadable
        There is no such day.
    """
    try:
        time = datetime(2000 + int(year), int(month), int(day), hour, tzinfo=UTC)
    except ValueError:
        raise Unreadable(f"{year}{month}{day} is no day") from None
    return int(time.timestamp()) * 1_000_000


# Recordings of venue messages: one message per line, with the time at which it was received.
#
# Understood lines, as public recorders write them:
#
# - ``<Unix seconds>: <JSON>``: a message received;
# - ``<URL> -> <Unix seconds>: <JSON>``: the answer to a request;
# - ``<URL> <- <Unix seconds>: <JSON>`` (sent), ``<URL> <-> <Unix seconds>`` (opened) and ``configuration: <JSON>``: no
#   message;
# - ``<JSON>`` alone: a message whose time of receipt is not known.
#
# Files may be gzipped. Lines are read one at a time; one over 64 MiB ends the reading with an error.

LINE_BYTES_MAX = 64 << 20

_received = re.compile(rb"(\d{1,12}(?:\.\d{1,9})?): (.*)", re.DOTALL).fullmatch
_answered = re.compile(rb"(\S+) -> (\d{1,12}(?:\.\d{1,9})?): (.*)", re.DOTALL).fullmatch
_sent = re.compile(rb"(\S+ <- \d[\d.]*: .*|\S+ <-> \d[\d.]*|configuration: .*)", re.DOTALL).fullmatch


class Message(NamedTuple):
    """What a venue sent: when it was received (-1: not known), the address it answers, its bytes, its line from 1."""

    received_us: int
    url: str
    content: bytes
    line: int


def read_messages(path: Path) -> Iterator[Message]:
    """Yield the messages of a recording; every other line than those listed above is yielded as a message, too.

    Raises
    ------
    UsageError
        The file is missing, cannot be read, or has a line over 64 MiB.
    """
    try:
        with _open(path) as file:
            line = 0
            while content := file.readline(LINE_BYTES_MAX):
                line += 1
                if len(content) == LINE_BYTES_MAX:
                    raise UsageError(f"{path.name} line {line} is over 64 MiB; is it a recording of messages?")
                message = _message(content.strip(), line)
                if message is not None:
                    yield message
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; name a recording") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path.name} cannot be read: {error}") from None


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _message(content: bytes, line: int) -> Message | None:
    if found := _received(content):
        return Message(_microseconds(found[1]), "", found[2], line)
    if not content or _sent(content):
        return None
    if found := _answered(content):
        return Message(_microseconds(found[2]), found[1].decode(errors="replace"), found[3], line)
    return Message(-1, "", content, line)


def _microseconds(seconds: bytes) -> int:
    return int(Decimal(seconds.decode()) * 1_000_000)
