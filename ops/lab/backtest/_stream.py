"""Input stream of a backtest: reference data, a book of clients, other history, and the market's signals, in one order.

Order is (event time, source, line), sources in the order of the plan, signals last, as the sequencer merges files
before topics. Where the history has no order books, depth is assumed: a share of what was traded in the hour before.

The clients are accounts of Hyperliquid's export: of each its net position per coin when it was largest, long or short
as it was, and its deposits. Leverage is kept within bounds, sizes are scaled to a book of ``notional`` gross. A coin
that the history has keeps its market; the others take turns with those that the export does not have. Positions are
opened at the first price of their instrument. The house is short what a client is long with it, and is hedged by
holding the same as all clients together at one venue: the firm is flat, and it can only lose what clients cannot pay
and what forced trades cost.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from seawall.connectors.venues.hyperliquid import read_holders
from seawall.ops.lab.backtest._history import Line, other_records_file, read_lines, record_type
from seawall.ops.lab.backtest._plan import BacktestPlan
from seawall.ops.lab.backtest._work import Cache, GrowingFile
from seawall.schemas.errors import UsageError

# A book of clients to put through a history: real accounts of another time, scaled to this market.

Json = dict[str, Any]
LEVERAGE_MIN = 1.0


class Client(NamedTuple):
    """Deposits of a client, and the notional of its positions by coin, signed."""

    account: str
    equity: float
    notionals: dict[str, float]


def select_clients(folder: Path, coins: list[str], terms: Mapping[str, Any]) -> list[Client]:
    """Return the clients of a book, largest first.

    Parameters
    ----------
    folder
        Where the two files of the export are.
    coins
        Base assets that the history has, in order.
    terms
        The plan's ``[book]``.
    """
    known = read_holders(folder)
    chosen = known[: terms["clients"]]
    if not chosen or not coins:
        raise UsageError(f"[book] accounts: {folder} has no account that paid in and traded, or the history no coin")
    scale = terms["notional"] / sum(one.gross for one in chosen)
    taken = {coin for one in known for coin in one.notionals}
    others = [coin for coin in coins if coin not in taken] or coins
    found = []
    for number, one in enumerate(chosen):
        mapped: dict[str, float] = defaultdict(float)
        for place, (coin, notional) in enumerate(sorted(one.notionals.items())):
            mapped[coin if coin in coins else others[(number + place) % len(others)]] += notional * scale
        leverage = min(max(one.gross / one.paid, LEVERAGE_MIN), terms["leverage_max"])
        found.append(Client(f"client-{number:03}/main", one.gross * scale / leverage, dict(mapped)))
    return found


def client_reference_records(book: list[Client], hedged_at: str) -> Iterator[Json]:
    """Yield who the clients are, and our account at the venue where they are hedged."""
    venue = hedged_at.rpartition("/")[2]
    yield {"type": "counterparty", "counterparty": venue, "name": venue, "role": "venue"}
    yield {"type": "account", "account": hedged_at, "counterparty": venue, "holder": "house", "venue": venue}
    for client in book:
        name = client.account.partition("/")[0]
        yield {"type": "counterparty", "counterparty": name, "name": name, "role": "client"}
        yield {"type": "netting_set", "netting_set": name, "counterparty": name, "close_out": True}
        yield {"type": "account", "account": client.account, "counterparty": name, "holder": "counterparty",
               "netting_set": name}  # fmt: skip


def opening_records(
    book: list[Client], prices: Mapping[str, tuple[str, float]], at_us: int, hedged_at: str, hedged: float = 1.0
) -> Iterator[Json]:
    """Yield what clients and the house hold at first; the house holds the share ``hedged`` of what clients do.

    Parameters
    ----------
    prices
        Coin -> its instrument and first price.
    """
    house: dict[str, float] = defaultdict(float)
    for client in book:
        yield _balance(client.account, client.equity, at_us)
        for coin, notional in sorted(client.notionals.items()):
            instrument, price = prices[coin]
            house[coin] += notional * hedged
            yield _position(client.account, instrument, notional, price, at_us)
    yield _balance(hedged_at, sum(client.equity for client in book), at_us)
    for coin, notional in sorted(house.items()):
        yield _position(hedged_at, *prices[coin][:1], notional, prices[coin][1], at_us)


def _balance(account: str, amount: float, at_us: int) -> Json:
    return {"type": "balance_report", "event_time_us": at_us, "account": account, "asset": "USD",
            "amount": f"{amount:.2f}", "kind": "opening"}  # fmt: skip


def _position(account: str, instrument: str, notional: float, price: float, at_us: int) -> Json:
    return {"type": "position_report", "event_time_us": at_us, "account": account, "instrument": instrument,
            "quantity": f"{notional / price:.6f}", "entry_price": f"{price:.8f}", "kind": "opening"}  # fmt: skip


# The one stream that a backtest plays: reference, book, what history says beside markets, and the market's signals.

HOUR_US = 3_600_000_000
EVER_US = 1 << 62
BANDS = 8  # of depth in a signal
UNITS_PLACES = 6
EPHEMERAL = ("funding", "open_interest", "venue_status", "notice", "order")  # of no account before the period begins


class MarketSurvey(NamedTuple):
    """Market data known before the stream begins: first prices, and each hour's traded quantity."""

    coins: dict[str, str]  # base -> instrument
    first: dict[str, float]  # instrument -> first price
    from_us: int  # when all of them have one
    traded: dict[tuple[str, int], float]  # instrument, hour -> quantity


def survey_market(
    files: list[Path], signals: Sequence[Path | GrowingFile], plan: BacktestPlan, cache: Cache
) -> MarketSurvey:
    """Read off what the book and the assumed depth need; what does not depend on the period only once."""
    share = bool(plan.reactions["depth_share"])
    key = Cache.key(["survey", [path.name for path in files], share])
    path, _ = cache.make(key, ".survey.json", lambda part: _describe(files, share, part))
    found = orjson.loads(path.read_bytes())
    traded = {(name, hour): quantity for name, hour, quantity in found["traded"]}
    first, from_us = _first_prices(signals, set(found["coins"].values()), plan)
    return MarketSurvey(found["coins"], first, from_us, traded)


def _describe(files: list[Path], share: bool, part: Path) -> None:
    """Write which coins the history has, and what was traded of each instrument in each hour."""
    coins: dict[str, str] = {}
    traded: dict[tuple[str, int], float] = {}
    for number, path in enumerate(files):
        for _, _, _, line in read_lines(path if share else other_records_file(path), number, EVER_US):
            kind = record_type(line)
            if kind == "instrument":
                found = orjson.loads(line)
                coins.setdefault(found["base"], found["instrument"])
            elif kind in ("bar", "trade"):
                found = orjson.loads(line)
                key = found["instrument"], found["event_time_us"] // HOUR_US
                traded[key] = traded.get(key, 0.0) + float(found.get("volume") or found.get("quantity") or 0)
    listed = [[name, hour, quantity] for (name, hour), quantity in sorted(traded.items())]
    part.write_bytes(orjson.dumps({"coins": coins, "traded": listed}))


def _first_prices(
    signals: Sequence[Path | GrowingFile], instruments: set[str], plan: BacktestPlan
) -> tuple[dict[str, float], int]:
    first: dict[str, float] = {}
    from_us = 0
    for path in signals:
        for time_us, _, _, line in _within(path, 0, plan):
            for row in orjson.loads(line).get("instruments", ()):
                if row["instrument"] in instruments and row["instrument"] not in first:
                    first[row["instrument"]] = row["price"]
                    from_us = max(from_us, time_us)
            if from_us and time_us > from_us + HOUR_US:
                break
    return first, from_us


def make_book(plan: BacktestPlan, market: MarketSurvey) -> list[Client]:
    """Return the clients of the plan's book; none where it has none."""
    if not plan.book:
        return []
    known = sorted(coin for coin, instrument in market.coins.items() if instrument in market.first)
    if not known:
        raise UsageError(f"{plan.path.name} [book]: the history describes no instrument with a price; add terms")
    return select_clients(plan.path.parent / plan.book["accounts"], known, plan.book)


def read_stream(
    plan: BacktestPlan,
    files: list[Path],
    signals: Sequence[Path | GrowingFile],
    market: MarketSurvey,
    book: list[Client],
) -> Iterator[tuple[int, Json | bytes]]:
    """Yield times and records."""
    head = list(client_reference_records(book, plan.reactions["hedged_at"])) if book else []
    sources: list[Iterable[tuple[int, int, int, Json | bytes]]] = [
        [(-1, -1, at, record) for at, record in enumerate(head)]
    ]
    sources += [_others(path, number, plan) for number, path in enumerate(files)]
    prices = {coin: (name, market.first[name]) for coin, name in market.coins.items() if name in market.first}
    place = len(files)
    for group, path in enumerate(signals):
        sources.append(_deepened(path, place + group, plan, market))
    if book:
        opened = opening_records(book, prices, market.from_us, plan.reactions["hedged_at"], plan.book["hedged"])
        sources.append([(market.from_us, place + len(signals), at, record) for at, record in enumerate(opened)])
    for time_us, _, _, record in heapq.merge(*sources, key=lambda item: item[:3]):
        yield time_us, record


def _others(path: Path, number: int, plan: BacktestPlan) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield the records that are not for ``market`` alone; what books are made of, also from before the period."""
    for time_us, place, count, line in read_lines(other_records_file(path), number, plan.last_us):
        if time_us >= plan.first_us or record_type(line) not in EPHEMERAL:
            yield time_us, place, count, line


def _within(path: Path | GrowingFile, number: int, plan: BacktestPlan) -> Iterator[Line]:
    """Yield the signals of a period; one is told at the end of its interval."""
    for line in read_lines(path, number, plan.last_us + 1):
        if line[0] > plan.first_us:
            yield line


def _deepened(
    path: Path | GrowingFile, number: int, plan: BacktestPlan, market: MarketSurvey
) -> Iterator[tuple[int, int, int, Json | bytes]]:
    share = plan.reactions["depth_share"]
    for time_us, place, count, line in _within(path, number, plan):
        if not share:
            yield time_us, place, count, line
            continue
        signal = orjson.loads(line)
        for row in signal.get("instruments", ()):
            if not row.get("depth"):
                units = market.traded.get((row["instrument"], time_us // HOUR_US - 1), 0.0)
                row["depth"] = [round(share * units, UNITS_PLACES)] * BANDS
        yield time_us, place, count, signal
