"""Venue formats: raw messages in, events out (contract.md, "Input records").

`open_venue` returns the reader of a venue's messages. Messages come from recordings (`read_messages`) or from anything
else that has bytes and a time of receipt. `read_bars` reads OHLCV files; `convert_messages` and `convert_bars` write
input records; ``hyperliquid`` reads account exports.

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
from seawall.connectors.venues._conversion import (
    VENUES,
    ConversionResult,
    ConvertOptions,
    convert_bars,
    convert_messages,
    open_venue,
)
from seawall.connectors.venues._messages import Message, read_messages
from seawall.connectors.venues._reader import Reader

__all__ = [
    "VENUES",
    "ConversionResult",
    "ConvertOptions",
    "Message",
    "Reader",
    "convert_bars",
    "convert_messages",
    "open_venue",
    "read_bars",
    "read_messages",
]
