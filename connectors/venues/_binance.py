"""Binance's instruments: from ``exchangeInfo``, or from a futures symbol alone."""

import re
from collections import deque
from typing import Any
from urllib.parse import parse_qs, urlsplit

from seawall.connectors.venues._messages import (
    Unreadable,
    decimal,
    eight_utc,
    field,
    is_zero,
    listed,
    milliseconds,
    side,
    split_quote,
    text,
    whole,
)
from seawall.connectors.venues._reader import Reader, pairs
from seawall.schemas import events as ev

GONE = frozenset({"SETTLING", "CLOSE", "DELIVERED"})
KINDS: dict[str, Any] = {"SPOT": "spot", "PERPETUAL": "perpetual"}

_dated = re.compile(r"(.+)_(\d{2})(\d{2})(\d{2})").fullmatch


def instrument_record(item: Any, instrument: str) -> ev.Instrument:
    """Return the record of an entry of ``exchangeInfo``, spot or futures.

    Raises
    ------
    Unreadable
        The entry lacks what a record needs.
    """
    steps = [f for f in listed(item, "filters") if isinstance(f, dict) and f.get("filterType") == "LOT_SIZE"]
    if len(steps) != 1:
        raise Unreadable("an instrument without one LOT_SIZE filter")
    kind = KINDS.get(item.get("contractType", "SPOT"), "future")
    base, quote = text(item, "baseAsset"), text(item, "quoteAsset")
    settlement = quote if kind == "spot" else text(item, "marginAsset")
    return ev.Instrument(
        instrument=instrument,
        kind=kind,
        base=base,
        quote=quote,
        settlement=settlement,
        quantity_increment=decimal(steps[0], "stepSize"),
        contract_size=decimal(item, "contractSize") if "contractSize" in item else "1",
        inverse=settlement == base,
        expiry_us=milliseconds(item, "deliveryDate") if kind == "future" else 0,
        status="closed" if item.get("status") in GONE else "active",
    )


def terms_of_symbol(symbol: str) -> dict[str, Any] | None:
    """Read a futures symbol: ``SUSHIUSDT`` is a perpetual, ``BTCUSDT_210924`` expires on that day at 08:00 UTC.

    Examples
    --------
    >>> terms_of_symbol("BTCUSDT_210924")["expiry_us"], terms_of_symbol("ETHBTC")
    (1632470400000000, None)
    """
    dated = _dated(symbol)
    pair = split_quote(dated[1] if dated else symbol, ("USDT", "BUSD", "USDC"))
    if pair is None:
        return None
    terms: dict[str, Any] = {"kind": "perpetual", "base": pair[0], "quote": pair[1], "settlement": pair[1]}
    if dated:
        terms |= {"kind": "future", "expiry_us": eight_utc(dated[2], dated[3], dated[4])}
    return terms


# Binance spot and USD-margined futures, market streams and the REST answers that go with them.
#
# ============================================  ==================================================================
# message                                       becomes
# ============================================  ==================================================================
# ``aggTrade``, ``trade``                       ``trade`` (``m``: the buyer was the maker, so the taker sold)
# ``bookTicker``                                ``quote``
# ``depthUpdate`` after a REST ``depth``        ``depth``; ``@depth5/10/20`` streams are snapshots each
# ``kline`` that is closed                      ``bar``
# ``markPriceUpdate``                           ``mark``, ``mark`` of kind ``index``, predicted ``funding``
# ``forceOrder``                                ``liquidation``
# REST ``openInterest``, ``exchangeInfo``       ``open_interest``, ``instrument``
# ============================================  ==================================================================
#
# Changes carry the first and last update they hold (``U``, ``u``) and, for futures, the last one before (``pu``). They
# are kept until a snapshot (``lastUpdateId``) arrives, as Binance's "How to manage a local order book correctly" asks.

FUNDING_INTERVAL_US = 8 * 3_600_000_000  # the message has none; 8 h wherever Binance has not announced another
WAITING_MAX = 1_000  # changes kept per symbol until a snapshot arrives; older ones a snapshot could not need

_partial_book = re.compile(r"@depth(5|10|20)(@|$)").search


class Binance(Reader):
    """Reader of Binance's messages."""

    venue = "binance"
    title = "Binance"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waiting: dict[str, deque[dict[str, Any]]] = {}
        self._kinds = {
            "aggTrade": self._trade,
            "trade": self._trade,
            "bookTicker": self._quote,
            "kline": self._bar,
            "markPriceUpdate": self._mark,
            "forceOrder": self._liquidation,
        }

    def handle(self, body: Any) -> None:
        """Take a message: of a stream, of a combined stream, or an answer."""
        stream = ""
        if isinstance(body, dict) and "stream" in body:
            stream, body = text(body, "stream"), field(body, "data")
        if isinstance(body, list):  # the streams of all symbols send lists
            self.each(body, lambda item: self._take(item, stream))
        else:
            self._take(body, stream)

    def _take(self, body: Any, stream: str) -> None:
        if not isinstance(body, dict):
            raise Unreadable("a message that is no object")
        kind = body.get("e")
        if _partial_book(stream):
            self._snapshot(body, stream.partition("@")[0].upper())
        elif kind == "depthUpdate":
            self._depth(body)
        elif kind in self._kinds:
            self._kinds[kind](body)
        elif kind is None and "u" in body and "b" in body:  # spot's book ticker has no type
            self._quote(body)
        elif kind is None:
            self._answer(body)
        else:
            self.skip(f"unknown: event {str(kind)[:40]}")

    def _answer(self, body: dict[str, Any]) -> None:
        if "lastUpdateId" in body:
            symbol = parse_qs(urlsplit(self.url()).query).get("symbol", [""])[0]
            if not symbol:
                raise Unreadable("a snapshot without the address that it answers, which names the symbol")
            self._snapshot(body, symbol.upper())
        elif "openInterest" in body:
            self._open_interest(body)
        elif "symbols" in body:
            self.each(listed(body, "symbols"), self._instrument)
        elif "result" in body or "id" in body:
            self.skip("control: answer to a subscription")
        else:
            self.skip(f"unknown: answer with {', '.join(sorted(body)[:4])}")

    # --- market events ------------------------------------------------------------------------------------------------

    def _trade(self, body: dict[str, Any]) -> None:
        taker: Any = "sell" if field(body, "m") is True else "buy"
        if body.get("X") in ("INSURANCE_FUND", "ADL"):
            self.skip("trade: of the insurance fund or an auto-deleveraging, not of the market")
            return
        self.emit(
            ev.Trade(
                event_time_us=milliseconds(body, "T"),
                venue=self.venue,
                instrument=self.instrument(text(body, "s")),
                price=decimal(body, "p"),
                quantity=decimal(body, "q"),
                side=taker,
            )
        )

    def _quote(self, body: dict[str, Any]) -> None:
        time_us = milliseconds(body, "T") if "T" in body else self.received_us()
        bid, ask = decimal(body, "b"), decimal(body, "a")
        if is_zero(bid) or is_zero(ask):
            self.skip("quote: one side is empty")
            return
        self.emit(
            ev.Quote(
                event_time_us=time_us,
                venue=self.venue,
                instrument=self.instrument(text(body, "s")),
                bid=bid,
                ask=ask,
                bid_size=decimal(body, "B"),
                ask_size=decimal(body, "A"),
            )
        )

    def _bar(self, body: dict[str, Any]) -> None:
        bar = field(body, "k")
        if field(bar, "x") is not True:
            self.skip("bar: its interval is still open")
            return
        opened_us, closed_us = milliseconds(bar, "t"), milliseconds(bar, "T") + 1_000  # T is the last millisecond
        self.emit(
            ev.Bar(
                event_time_us=closed_us,
                venue=self.venue,
                instrument=self.instrument(text(bar, "s")),
                open=decimal(bar, "o"),
                high=decimal(bar, "h"),
                low=decimal(bar, "l"),
                close=decimal(bar, "c"),
                volume=decimal(bar, "v"),
                interval_us=closed_us - opened_us,
            )
        )

    def _mark(self, body: dict[str, Any]) -> None:
        head: dict[str, Any] = {"event_time_us": milliseconds(body, "E"), "venue": self.venue}
        head["instrument"] = self.instrument(text(body, "s"))
        self.emit(ev.Mark(price=decimal(body, "p"), **head))
        if "i" in body:
            self.emit(ev.Mark(price=decimal(body, "i"), kind="index", **head))
        if body.get("r"):  # empty for dated futures
            rate = decimal(body, "r")
            self.emit(ev.Funding(rate=rate, interval_us=FUNDING_INTERVAL_US, kind="predicted", **head))

    def _liquidation(self, body: dict[str, Any]) -> None:
        order = field(body, "o")
        self.emit(
            ev.Liquidation(
                event_time_us=milliseconds(order, "T"),
                venue=self.venue,
                instrument=self.instrument(text(order, "s")),
                side=side(order, "S"),
                price=decimal(order, "p"),
                quantity=decimal(order, "q"),
            )
        )

    def _open_interest(self, body: dict[str, Any]) -> None:
        self.emit(
            ev.OpenInterest(
                event_time_us=milliseconds(body, "time"),
                venue=self.venue,
                instrument=self.instrument(text(body, "symbol")),
                quantity=decimal(body, "openInterest"),
            )
        )

    # --- books --------------------------------------------------------------------------------------------------------

    def _snapshot(self, body: dict[str, Any], symbol: str) -> None:
        time_us = milliseconds(body, "T") if "T" in body else self.received_us()
        bids, asks = ("bids", "asks") if "bids" in body else ("b", "a")
        with self.keeping(symbol, time_us):
            last = whole(body, "lastUpdateId" if "lastUpdateId" in body else "u")
            levels = pairs(field(body, bids), bids), pairs(field(body, asks), asks)
        waiting = self._waiting.pop(symbol, deque())
        self.begin_book(symbol, *levels, last, time_us)
        for change in waiting:
            self._change(change, symbol, after_snapshot=True)

    def _depth(self, body: dict[str, Any]) -> None:
        symbol = text(body, "s")
        if self.book(symbol).state == "live":
            self._change(body, symbol)
        if self.book(symbol).state != "live":
            self._waiting.setdefault(symbol, deque(maxlen=WAITING_MAX)).append(body)
            self.skip("depth: waits for a snapshot of its book")

    def _change(self, body: dict[str, Any], symbol: str, after_snapshot: bool = False) -> None:
        """Apply one change; the first after a snapshot may begin before it, any other must follow its predecessor."""
        book, time_us = self.book(symbol), milliseconds(body, "T" if "T" in body else "E")
        with self.keeping(symbol, time_us):
            first, last = whole(body, "U"), whole(body, "u")
            bids, asks = pairs(field(body, "b"), "b"), pairs(field(body, "a"), "a")
            previous = whole(body, "pu") if "pu" in body else first - 1
        if book.state != "live" or last <= book.sequence:
            return  # lost on the way, or older than the snapshot
        if previous != book.sequence and not first <= book.sequence + 1 <= last:
            self.lose_book(symbol, f"update {previous} follows {book.sequence}", time_us)
            return
        for price, size in bids:
            book.bids.set(price, size)
        for price, size in asks:
            book.asks.set(price, size)
        book.sequence = last
        self.publish(symbol, time_us)

    # --- reference ----------------------------------------------------------------------------------------------------

    def _instrument(self, item: Any) -> None:
        self.describe(instrument_record(item, self.instrument(text(item, "symbol"))))

    def terms(self, symbol: str) -> dict[str, Any] | None:
        """Read a futures symbol."""
        return terms_of_symbol(symbol)
