"""Contract terms as venues write them into symbols."""

from datetime import UTC, datetime

from seawall.connectors.venues.messages import Unreadable

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
