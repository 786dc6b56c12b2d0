"""dYdX v3 channels.

==================================  ==================================================================
channel                             becomes
==================================  ==================================================================
``v3_trades``                       ``trade``, and ``liquidation`` where the taker's order was one; the first message
                                    holds trades before the subscription
``v3_orderbook``                    ``depth``
``v3_markets``                      ``instrument`` where it is described in full; ``mark`` (the oracle price, which
                                    margins accounts; also of kind ``index``), ``open_interest``, predicted ``funding``
==================================  ==================================================================

Messages of a connection are numbered without gaps (``message_id``) but may overtake one another; levels carry offsets,
and an older offset never replaces a newer one. While a number is missing no book is published; one that stays missing
over ``OVERTAKEN_MAX`` messages was lost, and every book with it. Books and markets carry no time: theirs is that of
receipt. Books cross for moments, because orders and cancels arrive apart; crossed they are held.
"""

from typing import Any

from seawall.connectors.venues.messages import (
    Unreadable,
    as_decimal,
    decimal,
    field,
    iso_time,
    listed,
    side,
    text,
    whole,
)
from seawall.connectors.venues.reader import Levels, Reader, pairs
from seawall.schemas import events as ev

OVERTAKEN_MAX = 64
OFFSETS_MAX = 200_000  # levels per book whose last offset is remembered
FUNDING_INTERVAL_US = 3_600_000_000


class Dydx(Reader):
    """Reader of dYdX's messages."""

    venue = "dydx"
    title = "dYdX"
    may_cross = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connection = ""
        self._next_id = -1
        self._missing: set[int] = set()
        self._held: dict[str, int] = {}  # symbol -> time of its last change that was not published
        self._offsets: dict[str, dict[tuple[str, float], int]] = {}

    def handle(self, body: Any) -> None:
        """Take a message of a channel; the rest of the protocol is control."""
        kind = text(body, "type")
        if "message_id" in body:
            self._number(body)
        if kind in ("subscribed", "channel_data", "channel_batch_data"):
            channel, contents = text(body, "channel"), field(body, "contents")
            parts = contents if kind == "channel_batch_data" and isinstance(contents, list) else [contents]
            self.each(parts, lambda part: self._take(channel, part, body, kind == "subscribed"))
        elif kind in ("connected", "unsubscribed", "pong"):
            self.skip(f"control: {kind}")
        else:
            self.skip(f"unknown: type {kind[:40]}")
        if not self._missing:
            self._publish_held()

    def _take(self, channel: str, contents: Any, body: dict[str, Any], first: bool) -> None:
        if channel == "v3_trades":
            symbol = text(body, "id")
            self.each(listed(contents, "trades"), lambda item: self._trade(item, symbol))
        elif channel == "v3_orderbook":
            self._book_message(text(body, "id"), contents, first)
        elif channel == "v3_markets":
            markets = contents.get("markets", contents) if isinstance(contents, dict) else {}
            self.each(markets.items(), self._market)
        else:
            self.skip(f"unknown: channel {channel[:40]}")

    # --- numbers ------------------------------------------------------------------------------------------------------

    def _number(self, body: dict[str, Any]) -> None:
        """Follow the numbers of the connection."""
        number, connection = whole(body, "message_id"), str(body.get("connection_id", ""))
        if connection != self._connection:
            self.lose_books("a new connection", self.received_us())
            self._connection, self._next_id = connection, number
            self._missing.clear()
        self._missing.discard(number)
        if number > self._next_id + OVERTAKEN_MAX:
            self._lose(self._next_id)
        elif number >= self._next_id:
            self._missing.update(range(self._next_id, number))
        self._next_id = max(self._next_id, number + 1)
        if self._missing and min(self._missing) < number - OVERTAKEN_MAX:
            self._lose(min(self._missing))

    def _lose(self, number: int) -> None:
        self._missing.clear()
        self._held.clear()
        self.lose_books(f"message {number} of the connection is missing", self.received_us())

    def _publish_held(self) -> None:
        for symbol, time_us in self._held.items():
            self.publish(symbol, time_us)
        self._held.clear()

    # --- books --------------------------------------------------------------------------------------------------------

    def _book_message(self, symbol: str, contents: Any, first: bool) -> None:
        time_us = self.received_us()
        with self.keeping(symbol, time_us):
            if first:
                self._snapshot(symbol, contents, time_us)
            elif self.book(symbol).state == "live":
                self._change(symbol, contents)
                self._held[symbol] = time_us
            else:
                self.skip("depth: waits for a snapshot of its book")

    def _snapshot(self, symbol: str, contents: Any, time_us: int) -> None:
        offsets: dict[tuple[str, float], int] = {}
        sides: list[Levels] = []
        for name in ("bids", "asks"):
            levels = [(decimal(item, "price"), decimal(item, "size")) for item in listed(contents, name)]
            for item, (price, _) in zip(contents[name], levels, strict=True):
                offsets[name, float(price)] = whole(item, "offset") if "offset" in item else 0
            sides.append(levels)
        self._offsets[symbol] = offsets
        self._held.pop(symbol, None)
        self.begin_book(symbol, sides[0], sides[1], -1, time_us)

    def _change(self, symbol: str, contents: Any) -> None:
        book, offsets, offset = self.book(symbol), self._offsets[symbol], whole(contents, "offset")
        for name, ladder in (("bids", book.bids), ("asks", book.asks)):
            for price, size in pairs(listed(contents, name), name):
                level = (name, float(price))
                if offsets.get(level, -1) < offset:
                    offsets[level] = offset
                    ladder.set(price, size)
                else:
                    self.skip("depth: a level older than what is known of it")
        if len(offsets) > OFFSETS_MAX:
            raise Unreadable(f"more than {OFFSETS_MAX} levels since the snapshot")

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _trade(self, item: Any, symbol: str) -> None:
        head: dict[str, Any] = {"event_time_us": iso_time(item, "createdAt"), "venue": self.venue}
        head |= {"instrument": self.instrument(symbol), "side": side(item, "side")}
        head |= {"price": decimal(item, "price"), "quantity": decimal(item, "size")}
        self.emit(ev.Trade(**head))
        if item.get("liquidation") is True:
            self.emit(ev.Liquidation(**head))

    def _market(self, named: tuple[str, Any]) -> None:
        symbol, market = named
        if not isinstance(market, dict):
            raise Unreadable("a market that is no object")
        head: dict[str, Any] = {"event_time_us": self.received_us(), "venue": self.venue}
        head["instrument"] = self.instrument(symbol)
        if "stepSize" in market and "baseAsset" in market:
            self._terms(market, head["instrument"])
        for name, kind in (("oraclePrice", "mark"), ("indexPrice", "index")):
            if market.get(name) is not None:
                self.emit(ev.Mark(price=decimal(market, name), kind=kind, **head))  # type: ignore[arg-type]
        if market.get("openInterest") is not None:
            self.emit(ev.OpenInterest(quantity=decimal(market, "openInterest"), **head))
        if market.get("nextFundingRate") is not None:
            rate = as_decimal(market["nextFundingRate"], "nextFundingRate")
            self.emit(ev.Funding(rate=rate, interval_us=FUNDING_INTERVAL_US, kind="predicted", **head))

    def _terms(self, market: dict[str, Any], instrument: str) -> None:
        if market.get("type", "PERPETUAL") != "PERPETUAL":
            self.skip(f"instrument: type {str(market['type'])[:40]} that no record of the contract describes")
            return
        self.describe(
            ev.Instrument(
                instrument=instrument,
                kind="perpetual",
                base=text(market, "baseAsset"),
                quote=text(market, "quoteAsset"),
                settlement="USDC",
                quantity_increment=decimal(market, "stepSize"),
                initial_margin_rate=decimal(market, "initialMarginFraction"),
                maintenance_margin_rate=decimal(market, "maintenanceMarginFraction"),
                status="closed" if market.get("status") == "OFFLINE" else "active",
            )
        )

    def terms(self, symbol: str) -> dict[str, Any] | None:
        """Read a symbol: ``ETH-USD`` is a linear perpetual, settled in USDC."""
        base, dash, quote = symbol.partition("-")
        if not (base and dash and quote == "USD"):
            return None
        return {"kind": "perpetual", "base": base, "quote": quote, "settlement": "USDC"}
