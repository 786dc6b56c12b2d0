"""Registry of venues: from a venue's name to a reader of its messages."""

import difflib
from typing import Any

from seawall.connectors.venues._binance import Binance
from seawall.connectors.venues._bitmex_bybit import Bitmex, Bybit
from seawall.connectors.venues._deribit_okx import Deribit, Okx
from seawall.connectors.venues._kraken_dydx import Dydx, KrakenFutures
from seawall.connectors.venues._messages import Message, read_messages
from seawall.connectors.venues._reader import Reader
from seawall.schemas.errors import UsageError

VENUES: dict[str, type[Reader]] = {
    reader.venue: reader for reader in (Binance, Bitmex, Bybit, Deribit, Dydx, KrakenFutures, Okx)
}

__all__ = ["VENUES", "Message", "Reader", "open_venue", "read_messages"]


def open_venue(name: str, **options: Any) -> Reader:
    """Return a new reader of a venue's messages.

    Parameters
    ----------
    name
        One of ``VENUES``.
    **options
        As of ``Reader``: ``names``, ``levels``, ``depth_interval_us``.

    Raises
    ------
    UsageError
        There is no such venue; names the nearest one.
    """
    found = VENUES.get(name.lower().replace("-", "_"))
    if found is None:
        near = difflib.get_close_matches(name.lower(), VENUES, 1, 0.4)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(VENUES)}"
        raise UsageError(f"no venue {name} is known; {hint}")
    return found(**options)
