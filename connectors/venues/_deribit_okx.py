"""Deribit's subscriptions and instrument lists (JSON-RPC, API v2), and OKX's instrument lists.

Of OKX only ``GET /api/v5/public/instruments`` is read: every kind becomes ``instrument`` events.
"""

from typing import Any

from seawall.connectors.venues._messages import (
    Unreadable,
    decimal,
    field,
    hundredth,
    is_zero,
    listed,
    milliseconds,
    product,
    side,
    text,
    whole,
)
from seawall.connectors.venues._reader import Reader, pairs
from seawall.schemas import events as ev

# Deribit's subscriptions and its instrument lists (JSON-RPC, API v2).
#
# ==================================  ==================================================================
# message                             becomes
# ==================================  ==================================================================
# ``ticker``                          ``mark`` (options with implied volatility), ``quote``, ``open_interest``; for
#                                     futures ``mark`` of kind ``index``; for perpetuals predicted ``funding``
# ``trades``                          ``trade``, and ``liquidation`` where one side was forced
# ``book``                            ``depth``; changes name the one before them (``prev_change_id``)
# ``platform_state``                  ``venue_status``
# ``get_instruments``                 ``instrument``
# ==================================  ==================================================================
#
# Amounts are USD for inverse futures and the base asset for everything else, so no contract size comes in. Options of
# the coin-margined books are quoted in the coin; their index is no price of theirs and is left out.

FUNDING_INTERVAL_US = 8 * 3_600_000_000  # Deribit quotes its continuous funding per eight hours
ACTIONS = frozenset({"new", "change", "delete"})
OTHER_SIDE: dict[str, Any] = {"buy": "sell", "sell": "buy"}


class Deribit(Reader):
    """Reader of Deribit's messages."""

    venue = "deribit"
    title = "Deribit"

    def handle(self, body: Any) -> None:
        """Take a notification of a channel, or an answer."""
        if not isinstance(body, dict):
            raise Unreadable("a message that is no object")
        if body.get("method") == "subscription":
            self._notification(field(body, "params"))
        elif body.get("method") in ("heartbeat", "test_request"):
            self.skip("control: heartbeat")
        elif isinstance(body.get("result"), list) and any(isinstance(item, dict) for item in body["result"]):
            self.each(body["result"], self._instrument)
        elif "result" in body:
            self.skip("control: answer to a request")
        else:
            self.skip("unknown: message that is no subscription and no answer")

    def _notification(self, params: Any) -> None:
        channel, data = text(params, "channel"), field(params, "data")
        kind = channel.partition(".")[0]
        if kind == "ticker":
            self._ticker(data)
        elif kind == "trades":
            self.each(data if isinstance(data, list) else [data], self._trade)
        elif kind == "book":
            self._book_message(data)
        elif kind == "platform_state":
            self._platform(data)
        else:
            self.skip(f"unknown: channel {kind[:40]}")

    def _head(self, data: Any) -> dict[str, Any]:
        head: dict[str, Any] = {"event_time_us": milliseconds(data, "timestamp"), "venue": self.venue}
        return head | {"instrument": self.instrument(text(data, "instrument_name"))}

    def _ticker(self, data: Any) -> None:
        head, volatility = self._head(data), ""
        if data.get("mark_iv") is not None:
            volatility = hundredth(decimal(data, "mark_iv"))
        self.emit(ev.Mark(price=decimal(data, "mark_price"), implied_volatility=volatility, **head))
        if not volatility and data.get("index_price") is not None:
            self.emit(ev.Mark(price=decimal(data, "index_price"), kind="index", **head))
        self._quote(data, head)
        if data.get("open_interest") is not None:
            self.emit(ev.OpenInterest(quantity=decimal(data, "open_interest"), **head))
        if data.get("current_funding") is not None:
            rate = decimal(data, "current_funding")
            self.emit(ev.Funding(rate=rate, interval_us=FUNDING_INTERVAL_US, kind="predicted", **head))

    def _quote(self, data: Any, head: dict[str, Any]) -> None:
        """Take the best prices; a side without orders is sent as zero or null."""
        bid, ask = data.get("best_bid_price"), data.get("best_ask_price")
        if bid is None or ask is None or is_zero(str(bid)) or is_zero(str(ask)):
            self.skip("quote: one side is empty")
            return
        self.emit(
            ev.Quote(
                bid=decimal(data, "best_bid_price"),
                ask=decimal(data, "best_ask_price"),
                bid_size=decimal(data, "best_bid_amount"),
                ask_size=decimal(data, "best_ask_amount"),
                **head,
            )
        )

    def _trade(self, item: Any) -> None:
        head, taker = self._head(item), side(item, "direction")
        print_: dict[str, Any] = {"price": decimal(item, "price"), "quantity": decimal(item, "amount")}
        self.emit(ev.Trade(side=taker, **print_, **head))
        forced = item.get("liquidation") or ""
        if "T" in forced:
            self.emit(ev.Liquidation(side=taker, **print_, **head))
        if "M" in forced:
            self.emit(ev.Liquidation(side=OTHER_SIDE[taker], **print_, **head))

    def _platform(self, data: Any) -> None:
        if "locked" in data:
            locked = data["locked"] not in (False, "false")
            status: Any = "degraded" if locked else "up"
            detail = f"locked: {str(data['locked'])[:80]}"
        else:
            status = "down" if field(data, "maintenance") is True else "up"
            detail = f"maintenance: {status == 'down'}".lower()
        event_time_us = self.received_us()
        self.emit(ev.VenueStatus(event_time_us=event_time_us, venue=self.venue, status=status, detail=detail))

    # --- books --------------------------------------------------------------------------------------------------------

    def _book_message(self, data: Any) -> None:
        symbol, time_us = text(data, "instrument_name"), milliseconds(data, "timestamp")
        with self.keeping(symbol, time_us):
            sequence = whole(data, "change_id")
            if data.get("type") == "change":
                self._change(symbol, data, sequence, time_us)
                return
            grouped = "type" not in data  # a channel of few levels sends the whole book each time
            sides = [
                pairs(listed(data, name), name) if grouped else [(p, s) for _, p, s in _changes(data, name)]
                for name in ("bids", "asks")
            ]
            self.begin_book(symbol, sides[0], sides[1], sequence, time_us)

    def _change(self, symbol: str, data: Any, sequence: int, time_us: int) -> None:
        book = self.book(symbol)
        if book.state != "live":
            self.skip("depth: waits for a snapshot of its book")
            return
        previous = whole(data, "prev_change_id")
        if previous != book.sequence:
            self.lose_book(symbol, f"change {previous} follows {book.sequence}", time_us)
            return
        for name, ladder in (("bids", book.bids), ("asks", book.asks)):
            for action, price, size in _changes(data, name):
                ladder.set(price, "0" if action == "delete" else size)
        book.sequence = sequence
        self.publish(symbol, time_us)

    # --- reference ----------------------------------------------------------------------------------------------------

    def _instrument(self, item: Any) -> None:
        kind, period = text(item, "kind"), text(item, "settlement_period")
        if kind not in ("future", "option"):
            self.skip(f"instrument: kind {kind[:40]} that no record of the contract describes")
            return
        base, quote = text(item, "base_currency"), text(item, "quote_currency")
        settlement = item.get("settlement_currency") or base
        strike = {}
        if kind == "option":
            strike = {"strike": decimal(item, "strike"), "option_type": text(item, "option_type")}
            quote = item.get("counter_currency", "USD") if quote == base else quote  # of the strike
        perpetual = period == "perpetual"
        self.describe(
            ev.Instrument(
                instrument=self.instrument(text(item, "instrument_name")),
                kind="perpetual" if perpetual else kind,  # type: ignore[arg-type]
                base=base,
                quote=quote,
                settlement=settlement,
                quantity_increment=decimal(item, "min_trade_amount"),
                inverse=settlement == base,
                expiry_us=0 if perpetual else milliseconds(item, "expiration_timestamp"),
                status="active" if field(item, "is_active") is True else "closed",
                **strike,  # type: ignore[arg-type]
            )
        )


def _changes(data: Any, name: str) -> list[tuple[str, str, str]]:
    """Return the action, price and size of each level in a message."""
    found = []
    for item in listed(data, name):
        if not isinstance(item, list) or len(item) != 3 or item[0] not in ACTIONS:
            raise Unreadable(f"{name} has a level that is no action, price and size")
        found.append((item[0], *pairs([item[1:]], name)[0]))
    return found


# OKX's instrument lists (``GET /api/v5/public/instruments``): every kind becomes ``instrument`` records.
#
# Quantities are contracts of ``ctVal`` times ``ctMult``, of the base asset or, for inverse ones, of USD. Options are
# quoted and settled in the coin. A list that was fetched again says nothing new and is counted as repeated.

KINDS: dict[str, Any] = {"SPOT": "spot", "SWAP": "perpetual", "FUTURES": "future", "OPTION": "option"}
OPTION_TYPES = {"C": "call", "P": "put"}


class Okx(Reader):
    """Reader of OKX's instrument lists."""

    venue = "okx"
    title = "OKX"

    def handle(self, body: Any) -> None:
        """Take an answer with a list of instruments."""
        if isinstance(body, dict) and "event" in body:
            self.skip(f"control: {str(body['event'])[:40]}")
        elif isinstance(body, dict) and "code" in body:
            if body["code"] not in ("0", 0):
                self.skip(f"control: error {str(body['code'])[:20]}")
            else:
                self.each(listed(body, "data"), self._instrument)
        else:
            self.skip("unknown: message that is no list of instruments")

    def _instrument(self, item: Any) -> None:
        name = text(item, "instType")
        if name not in KINDS:
            self.skip(f"instrument: type {name[:40]} that no record of the contract describes")
            return
        kind = KINDS[name]
        terms = self._spot(item) if kind == "spot" else self._contract(item, kind)
        self.describe(
            ev.Instrument(
                instrument=self.instrument(text(item, "instId")),
                kind=kind,
                quantity_increment=decimal(item, "lotSz"),
                status="closed" if item.get("state") == "expired" else "active",
                **terms,
            )
        )

    def _spot(self, item: Any) -> dict[str, Any]:
        quote = text(item, "quoteCcy")
        return {"base": text(item, "baseCcy"), "quote": quote, "settlement": quote}

    def _contract(self, item: Any, kind: str) -> dict[str, Any]:
        base, dash, quote = text(item, "uly").partition("-")
        if not dash or not base or not quote:
            raise Unreadable("uly is no pair of assets")
        settlement = text(item, "settleCcy")
        terms: dict[str, Any] = {"base": base, "quote": quote, "settlement": settlement}
        terms["contract_size"] = product(decimal(item, "ctVal"), decimal(item, "ctMult"))
        if kind == "option":
            if item.get("optType") not in OPTION_TYPES:
                raise Unreadable("optType is neither C nor P")
            terms |= {
                "inverse": settlement == base,
                "strike": decimal(item, "stk"),
                "option_type": OPTION_TYPES[item["optType"]],
            }
        elif item.get("ctType") not in ("linear", "inverse"):
            raise Unreadable("ctType is neither linear nor inverse")
        else:
            terms["inverse"] = item["ctType"] == "inverse"
        if kind in ("future", "option"):
            terms["expiry_us"] = milliseconds(item, "expTime")
        return terms
