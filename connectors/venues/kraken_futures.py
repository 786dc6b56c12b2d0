"""Kraken Futures feeds (WebSocket v1).

==================================  ==================================================================
feed                                becomes
==================================  ==================================================================
``trade``, ``trade_snapshot``       ``trade``, and ``liquidation`` where its type says so
``book_snapshot``, ``book``         ``depth``; ``seq`` counts a product's changes without gaps
``ticker``                          ``quote``, ``mark`` (also of kind ``index``), ``open_interest`` and
                                    predicted ``funding``
``ticker_lite``                     ``quote``, at the time of receipt
==================================  ==================================================================

Quantities are contracts: USD for the inverse ones (``PI_``, ``FI_``), the base asset for the linear ones (``PF_``,
``FF_``).
"""

import re
from typing import Any

from seawall.connectors.venues.messages import Unreadable, decimal, listed, milliseconds, side, text, whole
from seawall.connectors.venues.reader import Levels, Reader
from seawall.connectors.venues.terms import eight_utc, split_quote
from seawall.schemas import events as ev

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
