"""Bybit's public topics of 2021 (``realtime`` and ``realtime_public``).

=========================================  ==================================================================
topic                                      becomes
=========================================  ==================================================================
``trade.SYMBOL``                           ``trade``
``orderBookL2_25``, ``orderBook_200``      ``depth``
``instrument_info``                        ``mark`` (also of kind ``index``), ``open_interest``, predicted ``funding``
``candle.N``, ``klineV2.N``, confirmed     ``bar``
=========================================  ==================================================================

``cross_seq`` grows but skips numbers, so a lost change shows by itself only: a level changed or deleted that is not
there, one inserted that is, or a number that does not grow.
"""

from typing import Any

from seawall.connectors.venues.messages import (
    Unreadable,
    decimal,
    field,
    listed,
    milliseconds,
    scaled,
    side,
    text,
    whole,
)
from seawall.connectors.venues.reader import Levels, Reader
from seawall.connectors.venues.terms import split_quote
from seawall.schemas import events as ev

FUNDING_INTERVAL_US = 8 * 3_600_000_000


class Bybit(Reader):
    """Reader of Bybit's messages."""

    venue = "bybit"
    title = "Bybit"
    sequenced = False

    def handle(self, body: Any) -> None:
        """Take a message of a topic; the rest of the protocol is control."""
        if not isinstance(body, dict):
            raise Unreadable("a message that is no object")
        if "topic" not in body:
            self.skip(
                "control: answer" if "success" in body or "ret_msg" in body else "unknown: message without a topic"
            )
            return
        topic = text(body, "topic")
        name, symbol = topic.partition(".")[0], topic.rpartition(".")[2]
        if name == "trade":
            self.each(listed(body, "data"), self._trade)
        elif name in ("orderBookL2_25", "orderBook_200"):
            self._book_message(body, symbol)
        elif name == "instrument_info":
            self._info(body)
        elif name in ("candle", "klineV2"):
            self.each(listed(body, "data"), lambda bar: self._bar(bar, symbol))
        else:
            self.skip(f"unknown: topic {name[:40]}")

    def _trade(self, item: Any) -> None:
        self.emit(
            ev.Trade(
                event_time_us=milliseconds(item, "trade_time_ms"),
                venue=self.venue,
                instrument=self.instrument(text(item, "symbol")),
                price=decimal(item, "price"),
                quantity=decimal(item, "size"),
                side=side(item, "side"),
            )
        )

    def _bar(self, bar: Any, symbol: str) -> None:
        if field(bar, "confirm") is not True:
            self.skip("bar: its interval is still open")
            return
        start, end = whole(bar, "start"), whole(bar, "end")
        self.emit(
            ev.Bar(
                event_time_us=end * 1_000_000,
                venue=self.venue,
                instrument=self.instrument(symbol),
                open=decimal(bar, "open"),
                high=decimal(bar, "high"),
                low=decimal(bar, "low"),
                close=decimal(bar, "close"),
                volume=decimal(bar, "volume"),
                interval_us=(end - start) * 1_000_000,
            )
        )

    def _info(self, body: dict[str, Any]) -> None:
        data = field(body, "data")
        rows = listed(data, "update") if body.get("type") == "delta" else [data]
        self.each(rows, lambda row: self._state(row, whole(body, "timestamp_e6")))

    def _state(self, row: Any, time_us: int) -> None:
        """Take what a row has: a change holds only what changed."""
        head: dict[str, Any] = {"event_time_us": time_us, "venue": self.venue}
        head["instrument"] = self.instrument(text(row, "symbol"))
        for name, kind in (("mark_price", "mark"), ("index_price", "index")):
            price = _either(row, name, "_e4", 4)
            if price:
                self.emit(ev.Mark(price=price, kind=kind, **head))  # type: ignore[arg-type]
        if quantity := _either(row, "open_interest", "_e8", 8):
            self.emit(ev.OpenInterest(quantity=quantity, **head))
        if rate := _either(row, "predicted_funding_rate", "_e6", 6):
            self.emit(ev.Funding(rate=rate, interval_us=FUNDING_INTERVAL_US, kind="predicted", **head))

    # --- books --------------------------------------------------------------------------------------------------------

    def _book_message(self, body: dict[str, Any], symbol: str) -> None:
        time_us = whole(body, "timestamp_e6")
        with self.keeping(symbol, time_us):
            sequence, data = whole(body, "cross_seq"), field(body, "data")
            if text(body, "type") == "snapshot":
                self._snapshot(
                    symbol, data if isinstance(data, list) else listed(data, "order_book"), sequence, time_us
                )
            elif self.book(symbol).state == "live":
                self._change(symbol, data, sequence)
                self.publish(symbol, time_us)
            else:
                self.skip("depth: waits for a snapshot of its book")

    def _snapshot(self, symbol: str, rows: list[Any], sequence: int, time_us: int) -> None:
        sides: dict[str, Levels] = {"buy": [], "sell": []}
        for row in rows:
            sides[side(row, "side")].append((decimal(row, "price"), decimal(row, "size")))
        self.begin_book(symbol, sides["buy"], sides["sell"], sequence, time_us)

    def _change(self, symbol: str, data: Any, sequence: int) -> None:
        """Apply deletes, updates and inserts, in this order: a price may leave one side and enter the other."""
        book = self.book(symbol)
        if sequence <= book.sequence:
            raise Unreadable("cross_seq does not grow")
        for action in ("delete", "update", "insert"):
            for row in listed(data, action):
                price, ladder = decimal(row, "price"), book.ladder(side(row, "side"))
                if (price in ladder) == (action == "insert"):
                    raise Unreadable(f"{action} of a level that is {'' if action == 'insert' else 'not '}there")
                ladder.set(price, "0" if action == "delete" else decimal(row, "size"))
        book.sequence = sequence

    def terms(self, symbol: str) -> dict[str, Any] | None:
        """Read a symbol: ``BTCUSDT`` is a linear perpetual, ``BTCUSD`` an inverse one in contracts of 1 USD."""
        if pair := split_quote(symbol, ("USDT",)):
            return {"kind": "perpetual", "base": pair[0], "quote": "USDT", "settlement": "USDT"}
        if pair := split_quote(symbol, ("USD",)):
            return {"kind": "perpetual", "base": pair[0], "quote": "USD", "settlement": pair[0], "inverse": True}
        return None


def _either(row: Any, name: str, suffix: str, places: int) -> str:
    """Return a field that is sent plainly or as an integer scaled by a power of ten; empty where it is neither."""
    if row.get(name) not in (None, ""):
        return decimal(row, name)
    return scaled(whole(row, name + suffix), places) if row.get(name + suffix) is not None else ""
