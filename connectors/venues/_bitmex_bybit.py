"""BitMEX realtime tables, and Bybit's public topics of 2021, which follow their example.

BitMEX sends tables (``table``, ``action``, ``data``); Bybit sends ``realtime`` and ``realtime_public``. Both quote
inverse contracts in whole dollars.
"""

from typing import Any

from seawall.connectors.venues._messages import (
    Unreadable,
    asset,
    decimal,
    field,
    iso_time,
    listed,
    milliseconds,
    product,
    scaled,
    side,
    split_quote,
    text,
    whole,
)
from seawall.connectors.venues._reader import Levels, Reader
from seawall.schemas import events as ev

# BitMEX realtime tables (``table``, ``action``, ``data``).
#
# ============================  ==================================================================
# table                         becomes
# ============================  ==================================================================
# ``trade``                     ``trade``; the partial holds trades before the subscription
# ``quote``                     ``quote``
# ``orderBookL2``, ``_25``      ``depth``: levels have ids; updates and deletes name the id only
# ``funding``                   settled ``funding``
# ``liquidation``               ``liquidation``, when it is inserted
# ``instrument``                ``instrument`` where it is described in full; ``mark``, ``mark`` of kind ``index``,
#                               ``open_interest`` and predicted ``funding`` where they change
# ============================  ==================================================================
#
# Sizes are contracts. Books carry no sequence numbers: a change of an id that is not there, or an insert of one that
# is, shows that something was lost. In 2021 they carry no time either, so theirs is that of receipt.

FUNDING_INTERVAL_US = 8 * 3_600_000_000  # of the predicted rate in ``instrument``; ``funding`` states its own
TYPES = {"FFWCSX": "perpetual", "FFCCSX": "future", "IFXXXP": "spot"}
UNITS = {"XBt": "0.00000001", "USDt": "0.000001"}  # what a multiplier counts in


class Bitmex(Reader):
    """Reader of BitMEX's messages."""

    venue = "bitmex"
    title = "BitMEX"
    sequenced = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._prices: dict[str, dict[int, str]] = {}  # symbol -> level id -> price

    def handle(self, body: Any) -> None:
        """Take a message of a table; the rest of the protocol is control."""
        if not isinstance(body, dict):
            raise Unreadable("a message that is no object")
        if "table" not in body:
            known = body.keys() & {"info", "success", "subscribe", "error"}
            self.skip(f"control: {sorted(known)[0]}" if known else "unknown: message without a table")
            return
        table, action, data = text(body, "table"), text(body, "action"), listed(body, "data")
        if table in ("orderBookL2", "orderBookL2_25"):
            self._book_rows(action, data, body)
        elif table == "liquidation" and action not in ("insert", "partial"):
            self.skip(f"liquidation: {action} of an order that was reported when it was inserted")
        else:
            take = {"trade": self._trade, "quote": self._quote, "funding": self._funding}.get(table)
            take = {"liquidation": self._liquidation, "instrument": self._instrument}.get(table, take)
            if take is None:
                self.skip(f"unknown: table {table[:40]}")
            else:
                self.each(data, take)

    def _head(self, row: Any) -> dict[str, Any]:
        time_us = iso_time(row, "timestamp") if "timestamp" in row else self.received_us()
        return {"event_time_us": time_us, "venue": self.venue, "instrument": self.instrument(text(row, "symbol"))}

    def _trade(self, row: Any) -> None:
        taker = side(row, "side")
        self.emit(ev.Trade(price=decimal(row, "price"), quantity=decimal(row, "size"), side=taker, **self._head(row)))

    def _quote(self, row: Any) -> None:
        if row.get("bidPrice") is None or row.get("askPrice") is None:
            self.skip("quote: one side is empty")
            return
        self.emit(
            ev.Quote(
                bid=decimal(row, "bidPrice"),
                ask=decimal(row, "askPrice"),
                bid_size=decimal(row, "bidSize"),
                ask_size=decimal(row, "askSize"),
                **self._head(row),
            )
        )

    def _funding(self, row: Any) -> None:
        """Take a settled rate; its interval is written as a time of the day 2000-01-01."""
        interval = iso_time(row, "fundingInterval") - 946_684_800_000_000
        self.emit(ev.Funding(rate=decimal(row, "fundingRate"), interval_us=interval, **self._head(row)))

    def _liquidation(self, row: Any) -> None:
        price, quantity = decimal(row, "price"), decimal(row, "leavesQty")
        self.emit(ev.Liquidation(side=side(row, "side"), price=price, quantity=quantity, **self._head(row)))

    # --- instruments --------------------------------------------------------------------------------------------------

    def _instrument(self, row: Any) -> None:
        head = self._head(row)
        if "typ" in row and "lotSize" in row:
            self._terms(row)
        for name, kind in (("markPrice", "mark"), ("indicativeSettlePrice", "index")):
            if row.get(name) is not None:
                self.emit(ev.Mark(price=decimal(row, name), kind=kind, **head))  # type: ignore[arg-type]
        if row.get("openInterest") is not None:
            self.emit(ev.OpenInterest(quantity=decimal(row, "openInterest"), **head))
        if row.get("fundingRate") is not None:
            rate = decimal(row, "fundingRate")
            self.emit(ev.Funding(rate=rate, interval_us=FUNDING_INTERVAL_US, kind="predicted", **head))

    def _terms(self, row: Any) -> None:
        kind: Any = TYPES.get(text(row, "typ"))
        if kind is None or row.get("isQuanto") is True:
            self.skip("instrument: quanto or of a type that no record of the contract describes")
            return
        settlement = text(row, "settlCurrency")
        if settlement not in UNITS:
            raise Unreadable("settlCurrency is neither XBt nor USDt")
        multiplier = decimal(row, "multiplier").removeprefix("-")  # negative: inverse
        self.describe(
            ev.Instrument(
                instrument=self.instrument(text(row, "symbol")),
                kind=kind,
                base=asset(text(row, "underlying")),
                quote=asset(text(row, "quoteCurrency")),
                settlement=asset(settlement),
                quantity_increment=decimal(row, "lotSize"),
                contract_size=product(multiplier, UNITS[settlement]),
                inverse=row.get("isInverse") is True,
                expiry_us=iso_time(row, "expiry") if kind == "future" else 0,
                initial_margin_rate=decimal(row, "initMargin") if row.get("initMargin") is not None else "",
                maintenance_margin_rate=decimal(row, "maintMargin") if row.get("maintMargin") is not None else "",
            )
        )

    # --- books --------------------------------------------------------------------------------------------------------

    def _book_rows(self, action: str, data: list[Any], body: dict[str, Any]) -> None:
        """Apply the rows of a message to the books they name."""
        symbols = list(dict.fromkeys(text(row, "symbol") for row in data))
        if action == "partial" and not data:  # an empty book still names its symbol
            symbols = [text(body.get("filter"), "symbol")]
        for symbol in symbols:
            rows = [row for row in data if row["symbol"] == symbol]
            time_us = iso_time(rows[0], "timestamp") if rows and "timestamp" in rows[0] else self.received_us()
            with self.keeping(symbol, time_us):
                if action == "partial":
                    self._partial(symbol, rows, time_us)
                elif self.book(symbol).state == "live":
                    self._change(symbol, action, rows)
                    self.publish(symbol, time_us)
                else:
                    self.skip("depth: waits for a snapshot of its book")

    def _partial(self, symbol: str, rows: list[Any], time_us: int) -> None:
        sides: dict[str, Levels] = {"buy": [], "sell": []}
        for row in rows:
            sides[side(row, "side")].append((decimal(row, "price"), decimal(row, "size")))
        self._prices[symbol] = {whole(row, "id"): decimal(row, "price") for row in rows}
        self.begin_book(symbol, sides["buy"], sides["sell"], -1, time_us)

    def _change(self, symbol: str, action: str, rows: list[Any]) -> None:
        book, prices = self.book(symbol), self._prices[symbol]
        for row in rows:
            level, ladder = whole(row, "id"), book.ladder(side(row, "side"))
            if action == "insert":
                prices[level] = decimal(row, "price")
            elif action not in ("update", "delete"):
                raise Unreadable(f"action {action[:20]} of a book")
            price = prices.get(level, "")
            if not price or (price in ladder) == (action == "insert"):
                raise Unreadable(f"{action} of a level that is {'' if action == 'insert' else 'not '}there")
            ladder.set(price, "0" if action == "delete" else decimal(row, "size"))
            if action == "delete":
                del prices[level]


# Bybit's public topics of 2021 (``realtime`` and ``realtime_public``).
#
# =========================================  ==================================================================
# topic                                      becomes
# =========================================  ==================================================================
# ``trade.SYMBOL``                           ``trade``
# ``orderBookL2_25``, ``orderBook_200``      ``depth``
# ``instrument_info``                        ``mark`` (also of kind ``index``), ``open_interest``, predicted ``funding``
# ``candle.N``, ``klineV2.N``, confirmed     ``bar``
# =========================================  ==================================================================
#
# ``cross_seq`` grows but skips numbers, so a lost change shows by itself only: a level changed or deleted that is not
# there, one inserted that is, or a number that does not grow.


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
