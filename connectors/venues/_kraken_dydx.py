"""Kraken Futures feeds (WebSocket v1), and dYdX v3 channels."""

import re
from typing import Any

from seawall.connectors.venues._messages import (
    Unreadable,
    as_decimal,
    decimal,
    eight_utc,
    field,
    iso_time,
    listed,
    milliseconds,
    side,
    split_quote,
    text,
    whole,
)
from seawall.connectors.venues._reader import Levels, Reader, pairs
from seawall.schemas import events as ev

# Kraken Futures feeds (WebSocket v1).
#
# ==================================  ==================================================================
# feed                                becomes
# ==================================  ==================================================================
# ``trade``, ``trade_snapshot``       ``trade``, and ``liquidation`` where its type says so
# ``book_snapshot``, ``book``         ``depth``; ``seq`` counts a product's changes without gaps
# ``ticker``                          ``quote``, ``mark`` (also of kind ``index``), ``open_interest`` and
#                                     predicted ``funding``
# ``ticker_lite``                     ``quote``, at the time of receipt
# ==================================  ==================================================================
#
# Quantities are contracts: USD for the inverse ones (``PI_``, ``FI_``), the base asset for the linear ones (``PF_``,
# ``FF_``).

FUNDING_INTERVAL_US = 3_600_000_000
FORCED = frozenset({"liquidation", "termination"})
SETTLES_AT = 15  # o'clock UTC, as in the ``maturityTime`` of its tickers

_symbol = re.compile(r"([PF])([IF])_([A-Z0-9]+?)(?:_(\d{2})(\d{2})(\d{2}))?").fullmatch


class KrakenFutures(Reader):
    """Reader of Kraken Futures' messages."""

    venue = "kraken_futures"
    title = "Kraken Futures"

    def handle(self, body: Any) -> None:
        """Take a message of a feed; the rest of the protocol is control."""
        if not isinstance(body, dict):
            raise Unreadable("a message that is no object")
        feed = body.get("feed")
        if "event" in body:
            self.skip(f"control: {str(body['event'])[:40]}")
        elif feed == "book":
            self._change(body)
        elif feed == "book_snapshot":
            self._snapshot(body)
        elif feed == "trade":
            self._trade(body)
        elif feed == "trade_snapshot":
            self.each(listed(body, "trades"), self._trade)
        elif feed == "ticker":
            self._ticker(body)
        elif feed == "ticker_lite":
            self._quote(body, self.received_us())
        elif feed == "heartbeat":
            self.skip("control: heartbeat")
        else:
            self.skip(f"unknown: feed {str(feed)[:40]}")

    def _head(self, body: Any, time_us: int) -> dict[str, Any]:
        instrument = self.instrument(text(body, "product_id"))
        return {"event_time_us": time_us, "venue": self.venue, "instrument": instrument}

    def _trade(self, body: Any) -> None:
        head = self._head(body, milliseconds(body, "time"))
        head |= {"side": side(body, "side"), "price": decimal(body, "price"), "quantity": decimal(body, "qty")}
        self.emit(ev.Trade(**head))
        if body.get("type") in FORCED:
            self.emit(ev.Liquidation(**head))

    def _quote(self, body: Any, time_us: int) -> None:
        if not body.get("bid") or not body.get("ask"):
            self.skip("quote: one side is empty")
            return
        sizes: dict[str, Any] = {
            name: decimal(body, name) for name in ("bid_size", "ask_size") if body.get(name) is not None
        }
        head = self._head(body, time_us)
        self.emit(ev.Quote(bid=decimal(body, "bid"), ask=decimal(body, "ask"), **sizes, **head))

    def _ticker(self, body: Any) -> None:
        time_us = milliseconds(body, "time")
        head = self._head(body, time_us)
        self._quote(body, time_us)
        for name, kind in (("markPrice", "mark"), ("index", "index")):
            if body.get(name) is not None:
                self.emit(ev.Mark(price=decimal(body, name), kind=kind, **head))  # type: ignore[arg-type]
        if body.get("openInterest") is not None:
            self.emit(ev.OpenInterest(quantity=decimal(body, "openInterest"), **head))
        if body.get("relative_funding_rate") is not None:
            rate = decimal(body, "relative_funding_rate")
            self.emit(ev.Funding(rate=rate, interval_us=FUNDING_INTERVAL_US, kind="predicted", **head))

    # --- books --------------------------------------------------------------------------------------------------------

    def _snapshot(self, body: Any) -> None:
        symbol, time_us = text(body, "product_id"), milliseconds(body, "timestamp")
        with self.keeping(symbol, time_us):
            self.begin_book(symbol, _levels(body, "bids"), _levels(body, "asks"), whole(body, "seq"), time_us)

    def _change(self, body: Any) -> None:
        symbol, time_us = text(body, "product_id"), milliseconds(body, "timestamp")
        with self.keeping(symbol, time_us):
            book, sequence = self.book(symbol), whole(body, "seq")
            if book.state != "live":
                self.skip("depth: waits for a snapshot of its book")
            elif sequence <= book.sequence:
                self.skip("depth: older than the snapshot of its book")
            elif sequence != book.sequence + 1:
                self.lose_book(symbol, f"seq {sequence} follows {book.sequence}", time_us)
            else:
                book.ladder(side(body, "side")).set(decimal(body, "price"), decimal(body, "qty"))
                book.sequence = sequence
                self.publish(symbol, time_us)

    def terms(self, symbol: str) -> dict[str, Any] | None:
        """Read a product id: ``PI_XBTUSD`` is inverse, ``FI_XBTUSD_210924`` dated, ``PF_`` linear."""
        found = _symbol(symbol)
        pair = split_quote(found[3], ("USDT", "USD", "EUR")) if found else None
        if found is None or pair is None:
            return None
        inverse = found[2] == "I"
        terms: dict[str, Any] = {"kind": "perpetual", "base": pair[0], "quote": pair[1], "inverse": inverse}
        terms["settlement"] = pair[0] if inverse else pair[1]
        if found[1] == "F":
            if found[4] is None:
                return None
            terms |= {"kind": "future", "expiry_us": eight_utc(found[4], found[5], found[6], SETTLES_AT)}
        return terms


def _levels(body: Any, name: str) -> Levels:
    return [(decimal(item, "price"), decimal(item, "qty")) for item in listed(body, name)]


# dYdX v3 channels.
#
# ==================================  ==================================================================
# channel                             becomes
# ==================================  ==================================================================
# ``v3_trades``                       ``trade``, and ``liquidation`` where the taker's order was one; the first message
#                                     holds trades before the subscription
# ``v3_orderbook``                    ``depth``
# ``v3_markets``                      ``instrument`` where it is described in full; ``mark`` (the oracle price, which
#                                     margins accounts; also of kind ``index``), ``open_interest``, predicted
# ``funding`` ==================================  ==================================================================
#
# Messages of a connection are numbered without gaps (``message_id``) but may overtake one another; levels carry
# offsets, and an older offset never replaces a newer one. While a number is missing no book is published; one that
# stays missing over ``OVERTAKEN_MAX`` messages was lost, and every book with it. Books and markets carry no time:
# theirs is that of receipt. Books cross for moments, because orders and cancels arrive apart; crossed they are held.

OVERTAKEN_MAX = 64
OFFSETS_MAX = 200_000  # levels per book whose last offset is remembered


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
