"""Venue formats: raw messages in, events out (contract.md, "Input records").

`open_venue` returns the reader of a venue's messages. Messages come from recordings (`read_messages`) or from anything
else that has bytes and a time of receipt. `read_bars` reads OHLCV files; ``hyperliquid`` reads account exports.

Examples
--------
>>> from seawall.connectors.venues import Message, open_venue
>>> reader = open_venue("bybit")
>>> trade = b'{"topic":"trade.BCHUSDT","data":[{"symbol":"BCHUSDT","price":"1053.90","size":0.14,'
>>> trade += b'"trade_time_ms":"1618677785116","side":"Buy"}]}'
>>> [event.price for event in reader.read(Message(1618677786799668, "", trade, 1))]
['1053.90']
"""

from seawall.connectors.venues._bars import read_bars
from seawall.connectors.venues._messages import Message, read_messages
from seawall.connectors.venues._reader import Reader
from seawall.connectors.venues._registry import VENUES, open_venue

__all__ = ["VENUES", "Message", "Reader", "open_venue", "read_bars", "read_messages"]
