"""Readers of venue messages: what messages become, what is said of what is left out, and when a book is not trusted."""

import doctest
import importlib
import json
import pkgutil
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from seawall.connectors import venues
from seawall.connectors.venues import VENUES, Message, Reader, open_venue, read_messages
from seawall.connectors.venues._reader import Ladder
from seawall.schemas import events as ev
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import UsageError
from seawall_testing.paths import SHARED

DATA = SHARED / "data" / "raw_venue_messages_2021"
NOW = 1_626_992_741_062_170

RECORDINGS = {
    "BINANCE_FUTURES.ws.1.0.gz": ("binance", 1_535, {"quote": 613, "trade": 91, "bar": 4}),
    "BITMEX.ws.1.0.gz": ("bitmex", 2_120, {"quote": 436, "trade": 27, "depth": 1_979}),
    "BYBIT.ws.25.0.gz": ("bybit", 3_342, {"trade": 101, "depth": 3_260}),
    "DERIBIT.0.gz": ("deribit", 4, {"instrument": 1_017}),
    "DERIBIT.ws.1.0.gz": ("deribit", 136, {"mark": 89, "quote": 76, "open_interest": 89, "depth": 46}),
    "DYDX.ws.1.0.gz": ("dydx", 4_733, {"depth": 4_689, "trade": 1_026}),
    "KRAKEN_FUTURES.ws.1.0.gz": ("kraken_futures", 7_175, {"depth": 7_024, "trade": 1_003, "quote": 107}),
    "OKX.0.gz": ("okx", 25, {"instrument": 1_479}),
}


def recording(name: str) -> Iterator[Message]:
    if not (DATA / name).exists():
        pytest.skip(f"the recorded messages are not here: {name}")
    return read_messages(DATA / name)


def send(reader: Reader, *bodies: Any, received_us: int = NOW, url: str = "") -> list[Any]:
    """Return the events of messages, each as the record that its JSON line decodes to."""
    found: list[Any] = []
    for line, body in enumerate(bodies, 1):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        found += reader.read(Message(received_us, url, content, line))
    return [decode_event(msgspec.json.encode(event)) for event in found]


# --- all venues -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_message_of_a_recording_becomes_events_or_is_left_out_by_name(name: str) -> None:
    venue, messages, wanted = RECORDINGS[name]
    reader, found = open_venue(venue, levels=5), Counter[str]()
    for message in recording(name):
        for event in reader.read(message):
            decode_event(msgspec.json.encode(event))
            found[str(type(event).__struct_config__.tag)] += 1
    assert reader.messages == messages
    assert found == wanted
    assert not reader.lost
    assert not [kind for kind in reader.skipped if kind.startswith(("malformed", "unknown", "book lost"))]


@pytest.mark.parametrize("name", ["BITMEX.ws.1.0.gz", "KRAKEN_FUTURES.ws.1.0.gz"])
def test_every_quote_that_a_venue_sends_was_the_best_of_its_book(name: str) -> None:
    reader = open_venue(RECORDINGS[name][0])
    bests: dict[str, set[tuple[float, float]]] = {}
    quotes = 0
    for message in recording(name):
        for event in reader.read(message):
            if isinstance(event, ev.Depth) and event.bids and event.asks:
                best = float(event.bids[0][0]), float(event.asks[0][0])
                bests.setdefault(event.instrument, set()).add(best)
            elif isinstance(event, ev.Quote) and event.instrument in bests:
                quotes += 1
                assert (float(event.bid), float(event.ask)) in bests[event.instrument]
    assert quotes > 100


@pytest.mark.parametrize("name", ["KRAKEN_FUTURES.ws.1.0.gz", "DYDX.ws.1.0.gz", "DERIBIT.ws.1.0.gz"])
def test_a_message_that_is_lost_is_noticed_and_its_book_gives_no_depth_any_more(name: str) -> None:
    messages = list(recording(name))
    place = b'"feed":"book",' if "KRAKEN" in name else b'"type":"change"' if "DERIBIT" in name else b"channel_data"
    missing = next(i for i, m in enumerate(messages) if i > 90 and place in m.content)
    reader, after = open_venue(RECORDINGS[name][0]), Counter[str]()
    for number, message in enumerate(messages):
        for event in reader.read(message) if number != missing else []:
            if isinstance(event, ev.VenueStatus):
                assert event.status == "degraded"
                after.clear()
            elif isinstance(event, ev.Depth):
                after[event.instrument] += 1
    assert reader.lost
    assert not [symbol for symbol in reader.lost if after[symbol]]


@pytest.mark.parametrize("venue", VENUES)
def test_what_is_no_message_is_counted_and_ends_nothing(venue: str) -> None:
    reader = open_venue(venue)
    odd = [b"", b"pong", b"\xff\xfe", b"[" * 5_000, b"null", b"[]", b"7", b'"x"', b"{}", b'{"a":1e999}']
    assert send(reader, *odd) == []
    assert reader.messages == len(odd)
    assert all(name.startswith(("malformed", "unknown", "control")) for name in reader.skipped)


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_damaged_message_costs_itself_only(name: str) -> None:
    """Cut every tenth message in half: nothing is raised, and each is counted."""
    reader, damaged = open_venue(RECORDINGS[name][0], levels=5), 0
    for number, message in enumerate(recording(name)):
        cut = number % 10 == 5
        damaged += cut
        content = message.content[: len(message.content) // 2] if cut else message.content
        for event in reader.read(message._replace(content=content)):
            decode_event(msgspec.json.encode(event))
    malformed = sum(count for kind, count in reader.skipped.items() if kind.startswith("malformed: not JSON"))
    assert malformed == damaged


def test_a_name_replaces_a_symbol() -> None:
    reader = open_venue("dydx", names={"ETH-USD": "ETH-PERP"})
    trade = {"side": "BUY", "size": "0.1", "price": "4215.6", "createdAt": "2021-10-28T18:03:50.076Z"}
    body = {"type": "channel_data", "message_id": 1, "id": "ETH-USD", "channel": "v3_trades"}
    assert send(reader, body | {"contents": {"trades": [trade]}})[0].instrument == "ETH-PERP"


def test_an_unknown_venue_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean bitmex"):
        open_venue("bitmax")


def test_one_bad_item_of_a_list_costs_only_itself() -> None:
    reader = open_venue("bybit")
    good = {"symbol": "X", "price": "1", "size": 2.5, "trade_time_ms": 1_700_000_000_001, "side": "Buy"}
    found = send(reader, {"topic": "trade.X", "data": [good, good | {"price": "0"}, good | {"side": "Up"}, good]})
    assert [(trade.price, trade.quantity) for trade in found] == [("1", "2.5")] * 2
    assert reader.skipped == {
        "malformed: trade: PRICE_MUST_BE_POSITIVE": 1,
        "malformed: side is neither buy nor sell": 1,
    }


def test_kinds_of_what_is_left_out_are_bounded() -> None:
    reader = open_venue("binance")
    send(reader, *({"e": f"kind{number}"} for number in range(1_000)))
    assert len(reader.skipped) <= 201
    assert reader.skipped.total() == 1_000


def test_the_examples_of_the_docstrings_hold() -> None:
    names = [f"{venues.__name__}.{found.name}" for found in pkgutil.iter_modules(venues.__path__)]
    results = [doctest.testmod(importlib.import_module(name)) for name in [venues.__name__, *names]]
    assert sum(result.attempted for result in results) >= 8
    assert not sum(result.failed for result in results)


# --- books ------------------------------------------------------------------------------------------------------------


def test_a_ladder_keeps_the_texts_of_prices_and_orders_them_as_numbers() -> None:
    bids = Ladder(descending=True)
    for price, size in (("9.5", "1"), ("10.0", "2"), ("10", "3"), ("9.50", "0"), ("8", "0")):
        bids.set(price, size)
    assert bids.best(5) == [("10", "3")]


def kraken(seq: int, price: float, qty: float, side: str = "buy") -> dict[str, Any]:
    body = {"feed": "book", "product_id": "PI_XBTUSD", "side": side, "seq": seq, "price": price, "qty": qty}
    return body | {"timestamp": 1_626_994_927_744 + seq}


def kraken_snapshot(seq: int) -> dict[str, Any]:
    levels = {"bids": [{"price": 99.5, "qty": 1.0}], "asks": [{"price": 100.5, "qty": 2.0}]}
    return {"feed": "book_snapshot", "product_id": "PI_XBTUSD", "timestamp": 1_626_994_927_744, "seq": seq, **levels}


def test_a_gap_is_a_feed_state_until_the_next_snapshot() -> None:
    reader = open_venue("kraken_futures")
    found = send(
        reader, kraken(9, 99.0, 1.0), kraken_snapshot(10), kraken(11, 99.6, 3.0), kraken(13, 99.7, 1.0),
        kraken(14, 99.8, 1.0), kraken_snapshot(20), kraken(20, 90.0, 9.0), kraken(21, 99.5, 0),
    )  # fmt: skip
    assert [type(event).__name__ for event in found] == [
        "Depth", "Depth", "VenueStatus", "VenueStatus", "Depth", "Depth",
    ]  # fmt: skip
    assert found[1].bids == [("99.6", "3.0"), ("99.5", "1.0")]
    assert (found[2].status, found[3].status) == ("degraded", "up")
    assert "seq 13 follows 11" in found[2].detail
    assert found[-1].bids == []
    assert found[-1].asks == [("100.5", "2.0")]
    assert reader.skipped == {
        "depth: waits for a snapshot of its book": 2,
        "book lost: seq 13 follows 11": 1,
        "depth: older than the snapshot of its book": 1,
    }


def test_a_crossed_book_is_not_given_out() -> None:
    reader = open_venue("kraken_futures")
    found = send(reader, kraken_snapshot(10), kraken(11, 100.6, 1.0))
    assert [type(event).__name__ for event in found] == ["Depth", "VenueStatus"]
    assert reader.lost == {"PI_XBTUSD": "bids at or above asks"}


def test_an_unreadable_change_loses_the_book_it_belongs_to() -> None:
    reader = open_venue("kraken_futures")
    found = send(reader, kraken_snapshot(10), kraken(11, 99.0, 1.0) | {"qty": None})
    assert [type(event).__name__ for event in found] == ["Depth", "VenueStatus"]
    assert reader.skipped["malformed: no field qty"] == 1


def test_depth_held_back_by_its_interval_comes_at_the_end() -> None:
    reader = open_venue("kraken_futures", depth_interval_us=1_000_000, levels=1)
    found = send(reader, kraken_snapshot(10), *(kraken(seq, 99.0 + seq / 100, 1.0) for seq in range(11, 16)))
    assert len(found) == 1
    last = reader.finish()
    assert [(event.bids, event.event_time_us) for event in last if isinstance(event, ev.Depth)] == [
        ([("99.5", "1.0")], 1_626_994_927_759_000)
    ]


# --- Binance ----------------------------------------------------------------------------------------------------------


def change(first: int, last: int, previous: int, bids: list[list[str]]) -> dict[str, Any]:
    at = {"E": 1_700_000_000_002, "T": 1_700_000_000_001}
    data = {"e": "depthUpdate", **at, "s": "X", "U": first, "u": last, "pu": previous, "b": bids, "a": []}
    return {"stream": "x@depth@100ms", "data": data}


SNAPSHOT = {
    "lastUpdateId": 100,
    "E": 1_700_000_000_001,
    "T": 1_700_000_000_001,
    "bids": [["9", "1"]],
    "asks": [["10", "2"]],
}


def test_binance_changes_wait_for_a_snapshot_and_then_follow_it() -> None:
    reader = open_venue("binance")
    assert send(reader, change(80, 90, 79, [["5", "5"]]), change(95, 105, 90, [["9", "3"]])) == []
    found = send(reader, SNAPSHOT, url="https://fapi.binance.com/fapi/v1/depth?symbol=X&limit=1000")
    found += send(reader, change(106, 110, 105, [["9.5", "1"]]), change(112, 113, 111, [["9.6", "1"]]))
    assert [event.bids for event in found if isinstance(event, ev.Depth)] == [
        [("9", "1")],
        [("9", "3")],
        [("9.5", "1"), ("9", "3")],
    ]
    assert found[-1].status == "degraded"
    assert "update 111 follows 110" in found[-1].detail


def test_a_snapshot_older_than_the_changes_kept_for_it_is_not_used() -> None:
    reader = open_venue("binance")
    send(reader, change(103, 105, 102, [["9", "3"]]))
    found = send(reader, SNAPSHOT, url="https://fapi.binance.com/fapi/v1/depth?symbol=X")
    assert isinstance(found[-1], ev.VenueStatus)
    assert list(reader.lost) == ["X"]


def test_binance_messages_become_events() -> None:
    at_ms = 1_700_000_000_000
    bar = {
        "t": at_ms,
        "T": at_ms + 59_999,
        "s": "X",
        "i": "1m",
        "o": "1",
        "c": "2",
        "h": "3",
        "l": "1",
        "v": "5",
        "x": True,
    }
    order = {"s": "X", "S": "SELL", "p": "9", "ap": "9", "q": "2", "z": "2", "T": at_ms}
    found = send(
        open_venue("binance"),
        {"e": "aggTrade", "s": "X", "p": "1.0", "q": "3", "T": at_ms, "m": True},
        {"u": 1, "s": "X", "b": "1", "B": "2", "a": "3", "A": "4"},
        {"e": "kline", "s": "X", "k": bar},
        [{"e": "markPriceUpdate", "E": at_ms, "s": "X", "p": "9", "i": "8", "r": "-0.0001", "T": at_ms}],
        {"e": "forceOrder", "E": at_ms, "o": order},
        {"openInterest": "7", "symbol": "X", "time": at_ms},
    )
    assert [type(event).__name__ for event in found] == [
        "Trade", "Quote", "Bar", "Mark", "Mark", "Funding", "Liquidation", "OpenInterest",
    ]  # fmt: skip
    assert found[0].side == "sell"
    assert (found[1].event_time_us, found[1].ask_size) == (NOW, "4")
    assert (found[2].event_time_us, found[2].interval_us) == (1000 * at_ms + 60_000_000, 60_000_000)
    assert (found[5].rate, found[5].kind) == ("-0.0001", "predicted")


def test_binance_lists_its_instruments() -> None:
    filters = [{"filterType": "PRICE_FILTER"}, {"filterType": "LOT_SIZE", "stepSize": "0.001"}]
    spot = {"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": filters, "status": "TRADING"}
    coin = spot | {"symbol": "BTCUSD_210924", "quoteAsset": "USD", "contractType": "CURRENT_QUARTER"}
    coin |= {"marginAsset": "BTC", "contractSize": 100, "deliveryDate": 1_632_470_400_000}
    found = send(open_venue("binance"), {"symbols": [spot, coin, {"symbol": "BAD", "filters": []}]})
    assert [(i.instrument, i.kind, i.settlement, i.inverse, i.contract_size) for i in found] == [
        ("BTCUSDT", "spot", "USDT", False, "1"),
        ("BTCUSD_210924", "future", "BTC", True, "100"),
    ]


# --- BitMEX and Bybit: books without sequence numbers -----------------------------------------------------------------


def bitmex(action: str, *rows: dict[str, Any]) -> dict[str, Any]:
    return {"table": "orderBookL2", "action": action, "data": [{"symbol": "XBTUSD", **row} for row in rows]}


PARTIAL = bitmex(
    "partial",
    {"id": 1, "side": "Sell", "size": 5, "price": 101},
    {"id": 2, "side": "Buy", "size": 7, "price": 100.5},
)


def test_bitmex_levels_are_found_by_their_ids() -> None:
    found = send(
        open_venue("bitmex"), PARTIAL, bitmex("update", {"id": 2, "side": "Buy", "size": 9}),
        bitmex("insert", {"id": 3, "side": "Buy", "size": 1, "price": 100}), bitmex("delete", {"id": 2, "side": "Buy"}),
    )  # fmt: skip
    assert [event.bids for event in found] == [
        [("100.5", "7")], [("100.5", "9")], [("100.5", "9"), ("100", "1")], [("100", "1")],
    ]  # fmt: skip
    assert found[-1].asks == [("101", "5")]


@pytest.mark.parametrize(
    "wrong",
    [
        bitmex("update", {"id": 4, "side": "Buy", "size": 9}),
        bitmex("delete", {"id": 1, "side": "Buy"}),
        bitmex("insert", {"id": 2, "side": "Buy", "size": 1, "price": 100.5}),
        bitmex("mend", {"id": 2, "side": "Buy"}),
        b'{"table":"orderBo',
    ],
)
def test_a_change_that_does_not_fit_shows_that_one_was_lost(wrong: Any) -> None:
    reader = open_venue("bitmex")
    found = send(reader, PARTIAL, wrong, bitmex("update", {"id": 2, "side": "Buy", "size": 3}), PARTIAL)
    assert [type(event).__name__ for event in found] == ["Depth", "VenueStatus", "VenueStatus", "Depth"]
    assert [event.status for event in found[1:3]] == ["degraded", "up"]


def test_bitmex_tables_become_events() -> None:
    head = {"timestamp": "2021-07-22T22:36:10.014Z", "symbol": "XBTUSD"}
    terms = {"typ": "FFWCSX", "underlying": "XBT", "quoteCurrency": "USD", "settlCurrency": "XBt", "lotSize": 100}
    terms |= {"multiplier": -100_000_000, "isInverse": True, "isQuanto": False, "initMargin": 0.01, "maintMargin": 5e-3}
    state = {"markPrice": 32180.5, "openInterest": 9, "fundingRate": 0.0001}
    rate = {"fundingInterval": "2000-01-01T08:00:00.000Z", "fundingRate": 1e-4}
    found = send(
        open_venue("bitmex"),
        {"table": "instrument", "action": "partial", "data": [head | terms | state]},
        {"table": "instrument", "action": "partial", "data": [head | terms | {"isQuanto": True}]},
        {"table": "funding", "action": "insert", "data": [head | rate]},
        {"table": "quote", "action": "insert", "data": [head | {"bidPrice": None, "bidSize": None, "askPrice": 1}]},
        {"table": "liquidation", "action": "insert", "data": [
            {"symbol": "XBTUSD", "side": "Sell", "price": 32000, "leavesQty": 500}]},
    )  # fmt: skip
    assert [type(event).__name__ for event in found] == [
        "Instrument", "Mark", "OpenInterest", "Funding", "Funding", "Liquidation",
    ]  # fmt: skip
    perpetual = found[0]
    assert (perpetual.base, perpetual.settlement, float(perpetual.contract_size)) == ("BTC", "BTC", 1.0)
    assert (perpetual.maintenance_margin_rate, perpetual.inverse) == ("0.005", True)
    assert (found[4].rate, found[4].interval_us, found[4].kind) == ("0.0001", 28_800_000_000, "settled")
    assert (found[5].event_time_us, found[5].side, found[5].quantity) == (NOW, "sell", "500")


def test_bybit_topics_become_events() -> None:
    row = {"symbol": "BTCUSD", "mark_price": "8088.72", "index_price_e4": 80_881_300, "open_interest": 12}
    row |= {"predicted_funding_rate_e6": -100}
    at_s = 1_700_000_000
    bar = {
        "start": at_s,
        "end": at_s + 60,
        "open": 1,
        "close": 2,
        "high": 2.5,
        "low": 1,
        "volume": "3",
        "confirm": True,
    }
    found = send(
        open_venue("bybit"),
        {"topic": "instrument_info.100ms.BTCUSD", "type": "snapshot", "data": row, "timestamp_e6": f"{at_s}000005"},
        {"topic": "instrument_info.100ms.BTCUSD", "type": "delta", "timestamp_e6": at_s * 1_000_000 + 6, "data": {
            "delete": [], "update": [{"symbol": "BTCUSD", "open_interest_e8": 150_000_000}], "insert": []}},
        {"topic": "candle.1.BTCUSDT", "data": [bar, bar | {"confirm": False}]},
    )  # fmt: skip
    assert [type(event).__name__ for event in found] == [
        "Mark",
        "Mark",
        "OpenInterest",
        "Funding",
        "OpenInterest",
        "Bar",
    ]
    assert (found[1].price, found[3].rate, found[4].quantity) == ("8088.1300", "-0.000100", "1.50000000")
    assert (found[5].event_time_us, found[5].interval_us, found[5].high) == ((at_s + 60) * 1_000_000, 60_000_000, "2.5")


# --- Deribit, dYdX, OKX -----------------------------------------------------------------------------------------------


def test_deribit_tells_which_side_was_liquidated() -> None:
    trade = {
        "instrument_name": "BTC-PERPETUAL",
        "timestamp": NOW // 1000,
        "price": 32000.5,
        "amount": 10,
        "direction": "buy",
    }
    params = {"channel": "trades.BTC-PERPETUAL.raw", "data": [trade, trade | {"liquidation": "M"}]}
    found = send(open_venue("deribit"), {"jsonrpc": "2.0", "method": "subscription", "params": params})
    assert [(type(event).__name__, event.side) for event in found] == [
        ("Trade", "buy"), ("Trade", "buy"), ("Liquidation", "sell"),
    ]  # fmt: skip


def test_a_deribit_option_has_no_index_of_its_own_and_a_perpetual_has_funding() -> None:
    option = {
        "instrument_name": "O",
        "timestamp": NOW // 1000,
        "mark_price": 0.001972,
        "mark_iv": 120.74,
        "index_price": 2006.7,
    }
    option |= {"best_bid_price": 0.0, "best_ask_price": 0.0025}
    perpetual = {"instrument_name": "P", "timestamp": NOW // 1000, "mark_price": 32000, "index_price": 31990}
    perpetual |= {"current_funding": -2e-05, "open_interest": 7}
    states = [{"channel": "ticker.X.raw", "data": data} for data in (option, perpetual)]
    found = send(open_venue("deribit"), *({"method": "subscription", "params": params} for params in states))
    assert [(type(event).__name__, event.instrument) for event in found] == [
        ("Mark", "O"), ("Mark", "P"), ("Mark", "P"), ("OpenInterest", "P"), ("Funding", "P"),
    ]  # fmt: skip
    assert (found[0].implied_volatility, found[4].rate) == ("1.2074", "-0.00002")


def dydx(number: int, offset: int, bids: list[list[str]]) -> dict[str, Any]:
    contents = {"offset": str(offset), "bids": bids, "asks": []}
    head = {"connection_id": "c", "message_id": number, "id": "ETH-USD", "channel": "v3_orderbook"}
    return {"type": "channel_data", **head, "contents": contents}


def dydx_book() -> dict[str, Any]:
    bids = [{"price": "9", "offset": "5", "size": "1"}, {"price": "8", "offset": "6", "size": "0"}]
    head = {"connection_id": "c", "message_id": 1, "id": "ETH-USD", "channel": "v3_orderbook"}
    return {"type": "subscribed", **head, "contents": {"bids": bids, "asks": []}}


def test_dydx_messages_that_overtake_one_another_give_the_same_book() -> None:
    straight, turned = open_venue("dydx"), open_venue("dydx")
    first, second, third = dydx(2, 10, [["9", "2"]]), dydx(3, 11, [["9", "3"]]), dydx(4, 12, [["8", "4"]])
    wanted = send(straight, dydx_book(), first, second, third)
    found = send(turned, dydx_book(), third, second, first)
    assert found[-1].bids == wanted[-1].bids == [("9", "3"), ("8", "4")]
    assert len(found) == 2  # while a number was missing nothing was published


def test_a_dydx_message_that_never_comes_loses_every_book() -> None:
    reader = open_venue("dydx")
    found = send(reader, dydx_book(), *(dydx(number, number, [["9", "2"]]) for number in range(3, 80)))
    assert [type(event).__name__ for event in found] == ["Depth", "VenueStatus"]
    assert "message 2 of the connection is missing" in found[1].detail


def test_dydx_markets_become_instruments_and_marks() -> None:
    market = {"baseAsset": "ETH", "quoteAsset": "USD", "stepSize": "0.001", "type": "PERPETUAL", "status": "ONLINE"}
    market |= {"initialMarginFraction": "0.10", "maintenanceMarginFraction": "0.05"}
    market |= {"oraclePrice": "4215", "indexPrice": "4216", "openInterest": "10", "nextFundingRate": "0.00001"}
    body = {"type": "subscribed", "connection_id": "c", "message_id": 1, "channel": "v3_markets"}
    found = send(open_venue("dydx"), body | {"contents": {"markets": {"ETH-USD": market}}})
    kinds = [type(event).__name__ for event in found]
    assert kinds == ["Instrument", "Mark", "Mark", "OpenInterest", "Funding"]
    assert (found[0].settlement, found[1].price, found[4].interval_us) == ("USDC", "4215", 3_600_000_000)


def test_okx_contracts_have_the_size_of_value_times_multiplier() -> None:
    option = {"instType": "OPTION", "instId": "BTC-USD-220514-22000-C", "uly": "BTC-USD", "settleCcy": "BTC"}
    option |= {"ctVal": "1", "ctMult": "0.1", "lotSz": "1", "optType": "C", "stk": "22000", "expTime": "1652515200000"}
    swap = {"instType": "SWAP", "instId": "BTC-USD-SWAP", "uly": "BTC-USD", "settleCcy": "BTC", "ctVal": "100"}
    swap |= {"ctMult": "1", "lotSz": "1", "ctType": "inverse"}
    reader = open_venue("okx")
    found = send(reader, {"code": "0", "data": [option, swap, option, {"instType": "SWAP"}]})
    assert [(i.kind, i.contract_size, i.inverse, i.quote) for i in found] == [
        ("option", "0.1", True, "USD"),
        ("perpetual", "100", True, "USD"),
    ]
    assert reader.skipped == {"repeated: instrument as described before": 1, "malformed: no field uly": 1}
