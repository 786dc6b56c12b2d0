"""BitMEX realtime tables (``table``, ``action``, ``data``).

============================  ==================================================================
table                         becomes
============================  ==================================================================
``trade``                     ``trade``; the partial holds trades before the subscription
``quote``                     ``quote``
``orderBookL2``, ``_25``      ``depth``: levels have ids; updates and deletes name the id only
``funding``                   settled ``funding``
``liquidation``               ``liquidation``, when it is inserted
``instrument``                ``instrument`` where it is described in full; ``mark``, ``mark`` of kind ``index``,
                              ``open_interest`` and predicted ``funding`` where they change
============================  ==================================================================

Sizes are contracts. Books carry no sequence numbers: a change of an id that is not there, or an insert of one that is,
shows that something was lost. In 2021 they carry no time either, so theirs is that of receipt.
"""

from typing import Any

from seawall.connectors.venues.messages import Unreadable, decimal, iso_time, listed, product, side, text, whole
from seawall.connectors.venues.reader import Levels, Reader
from seawall.connectors.venues.terms import asset
from seawall.schemas import events as ev

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
