"""Venue formats: raw messages in, events of contract.md, "Input records" out.

One module per venue says what it understands; ``reader.py`` says what they share. Messages come from recordings
(``recording.py``) or from anything else that has bytes and a time of receipt. ``bars.py`` reads OHLCV files.

Examples
--------
>>> from seawall.connectors.venues import Message, open_venue
>>> reader = open_venue("bybit")
>>> trade = b'{"topic":"trade.BCHUSDT","data":[{"symbol":"BCHUSDT","price":"1053.90","size":0.14,'
>>> trade += b'"trade_time_ms":"1618677785116","side":"Buy"}]}'
>>> [event.price for event in reader.read(Message(1618677786799668, "", trade, 1))]
['1053.90']
"""

import difflib
from typing import Any

from seawall.connectors.venues.binance import Binance
from seawall.connectors.venues.bitmex import Bitmex
from seawall.connectors.venues.bybit import Bybit
from seawall.connectors.venues.deribit import Deribit
from seawall.connectors.venues.dydx import Dydx
from seawall.connectors.venues.kraken_futures import KrakenFutures
from seawall.connectors.venues.okx import Okx
from seawall.connectors.venues.reader import Reader
from seawall.connectors.venues.recording import Message, read_messages
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
