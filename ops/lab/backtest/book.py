"""A book of clients to put through a history: real accounts of another time, scaled to this market.

The clients are accounts of Hyperliquid's export: of each its net position per coin when it was largest, long or short
as it was, and what it had paid in. Leverage is kept within bounds, sizes are scaled to a book of ``notional`` gross. A
coin that the history has keeps its market; the others take turns with those that the export does not have. Positions
are opened at the first price of their instrument. What a client is long with us we are short, so the house is hedged by
holding the same as all clients together at one venue: the firm is flat, and all that it can lose is what clients cannot
pay, and what forced trades cost.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from seawall.connectors.hyperliquid_accounts import LEDGER_COLUMNS, SIDES, TRADE_COLUMNS, read_rows
from seawall.schemas.errors import UsageError

Json = dict[str, Any]
LEVERAGE_MIN = 1.0
TRADES, LEDGER = "non_mm_trades.csv.gz", "non_mm_ledger_updates.csv.gz"


class Client(NamedTuple):
    """What a client has paid in, and the notional of its positions by coin, signed."""

    account: str
    equity: float
    notionals: dict[str, float]


class Holder(NamedTuple):
    """An account of the export: what it paid in, and the notionals of its positions when they were largest."""

    user: str
    paid: float
    gross: float
    notionals: dict[str, float]


def clients(folder: Path, coins: list[str], terms: Mapping[str, Any]) -> list[Client]:
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
    known = holders(folder)
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


def holders(folder: Path) -> list[Holder]:
    """Return the accounts of the export that paid in and traded, those that held most first."""
    paid: dict[str, float] = defaultdict(float)
    for row in read_rows(folder / LEDGER, LEDGER_COLUMNS):
        paid[row.values["user"]] += max(float(row.values["delta_usd"]), 0.0)
    held: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    most: dict[str, Holder] = {}
    for row in sorted(read_rows(folder / TRADES, TRADE_COLUMNS), key=lambda row: row.time_us):
        found = row.values
        user, mine = found["user"], held[found["user"]]
        sign = 1 if SIDES[found["side"]] == "buy" else -1
        mine[found["coin"]] += sign * float(found["sz"]) * float(found["px"])
        gross = sum(map(abs, mine.values()))
        if gross > (most[user].gross if user in most else 0.0):
            most[user] = Holder(user, paid[user], gross, dict(mine))
    return sorted((one for one in most.values() if one.paid > 0), key=lambda one: (-one.gross, one.user))


def reference(book: list[Client], hedged_at: str) -> Iterator[Json]:
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


def openings(
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
