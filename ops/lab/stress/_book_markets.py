"""Liquidation cascade on a run's own book: what a move of prices forces its accounts to sell, and where that ends.

Everything is in money of the reporting currency, so a market is one underlying and its price begins at 1. A position
counts by its gain per move of 1, as in the distance to liquidation: options by their delta, inverse contracts by the
straight line of their profit. Coins are worth what they are before haircut. What the journal does not say is assumed:

1. All forced orders of one underlying go to one book: the depth that signals had within 50 basis points at all venues,
   continued at that density. An underlying without a known depth is taken to be thin, as forecasts take it, and named.
2. The maintenance margin of an account stays what it was when last measured, until the account is closed.
3. An account that is closed gives up all its positions at once, and of its coins what its debts need.
4. What a closed account cannot pay is not put on others: insurance funds and auto-deleveraging are the venues', whose
   other accounts no run knows. For clients it is the firm's loss, for our own accounts the venue's.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.portfolio import Ledger
from seawall.ops.lab.stress._exchange import Accounts, Markets, liquidate, make_books
from seawall.schemas.errors import UsageError
from seawall.schemas.events import Instrument, SignalRow
from seawall.schemas.measures import ACCOUNT

F8 = NDArray[np.float64]
Json = dict[str, Any]
SPAN: Final = 0.005  # of the depth that is used, the second band of a signal
BAND: Final = 1
DEPTH_UNKNOWN: Final = 0.01  # of all that is held, within the span; as forecasts assume
EQUITY, MAINTENANCE = ACCOUNT.index("equity"), ACCOUNT.index("maintenance_margin")


class Row(NamedTuple):
    """A position: its account, its instrument, the number of its underlying, and what it gains per move of 1."""

    account: int
    instrument: str
    underlying: int
    gain: float


class BookMarkets(NamedTuple):
    """A book's markets, one per underlying, and its accounts.

    ``marked_by`` is the instrument whose move an underlying takes, ``rows`` are the positions; no depth is known of
    ``unknown``.
    """

    markets: Markets
    accounts: Accounts
    underlyings: tuple[str, ...]
    marked_by: Mapping[str, str]
    names: tuple[str, ...]
    house: tuple[bool, ...]
    rows: tuple[Row, ...]
    unknown: tuple[str, ...]


class Move(NamedTuple):
    """What a scenario does by one of its steps.

    ``price`` has moves and ``depth`` what is left, both by instrument; ``haircut`` is by asset.
    """

    at_us: int
    price: Mapping[str, float]
    depth: Mapping[str, float]
    haircut: Mapping[str, float]


def book_markets(
    ledgers: Iterable[Ledger], signals: Mapping[str, SignalRow], depth: Mapping[str, float]
) -> BookMarkets:
    """Return the markets and accounts of a book, as its ledgers were last measured.

    Parameters
    ----------
    signals
        The last signal of each instrument that has one.
    depth
        By instrument: the share of its depth that is left; 1 where it is not named.

    Raises
    ------
    UsageError
        Nobody holds anything.
    """
    ledgers = [ledger for ledger in ledgers if ledger.directory.own]
    for ledger in ledgers:
        if not ledger.tables:
            ledger.measure(None)  # it comes from a snapshot
    names = tuple(name for ledger in ledgers for name in ledger.directory.own_names)
    records = {one.instrument: one for ledger in ledgers for one in ledger.directory.instrument_records}
    underlyings = tuple(sorted({_underlying(one) for one in records.values()}))
    rows = tuple(_positions(ledgers, records, underlyings))
    coins, short = _coins(ledgers, underlyings, len(names))
    if not rows and not coins.any():
        raise UsageError("nobody in this book holds anything; a cascade needs positions or coins")
    position = short
    for row in rows:
        position[row.account, row.underlying] += row.gain
    haircut = np.array([_haircut(ledgers, name) for name in underlyings])
    tables = [ledger.tables["account"].values for ledger in ledgers]
    equity, required = (np.concatenate([table[at] for table in tables]) for at in (EQUITY, MAINTENANCE))
    cash = equity - (coins * (1 - haircut)).sum(axis=1)
    held = np.abs(position).sum(axis=0) + coins.sum(axis=0)
    bids, asks = _depth(records, underlyings, signals, depth)
    unknown = (bids <= 0) | (asks <= 0)
    thin = np.maximum(DEPTH_UNKNOWN * held, 1.0)
    books = make_books(np.array([SPAN]), np.where(unknown, thin, bids)[:, None], np.where(unknown, thin, asks)[:, None])
    size = len(underlyings)
    fund = np.array([1e3 * (float(held.sum()) + 1.0)])  # more than any hole: nothing is deleveraged
    markets = Markets(np.arange(size), np.zeros(size, dtype=np.int64), np.ones(size), books, np.zeros(size), fund)
    accounts = Accounts(position, np.ones_like(position), cash, coins, haircut, np.zeros(size), required)
    house = tuple(
        ledger.directory.account_records[number].holder == "house"
        for ledger in ledgers
        for number in ledger.directory.own
    )
    named = tuple(name for at, name in enumerate(underlyings) if unknown[at] and held[at] > 0)
    marked_by = {_underlying(one): name for name, one in sorted(records.items(), key=_spot_last)}
    return BookMarkets(markets, accounts, underlyings, marked_by, names, house, rows, named)


def book_cascade(ledgers: Sequence[Ledger], signals: Mapping[str, SignalRow], moves: Iterable[Move]) -> Json:
    """Return the cascade that each step of a scenario starts; every step begins with the book as it is.

    Returns
    -------
    Json
        ``steps``, each with the first moves (``shock``) and the last (``end``) by underlying, ``forced`` volume in
        money by round, the accounts that were ``liquidated``, and holes of ``clients`` and ``house`` accounts.
    """
    steps: list[Json] = []
    unknown: tuple[str, ...] = ()
    for move in moves:
        book = book_markets(ledgers, signals, move.depth)
        steps.append(_step(book, move))
        unknown = book.unknown
    return {"steps": steps, "depth_unknown": list(unknown)}


def _step(book: BookMarkets, move: Move) -> Json:
    """Follow one step. An instrument that moves apart from its underlying changes the cash of those who hold it."""
    shock = np.array([move.price.get(book.marked_by[name], 0.0) for name in book.underlyings])
    cash = book.accounts.cash.copy()
    for row in book.rows:
        cash[row.account] += row.gain * (move.price.get(row.instrument, 0.0) - shock[row.underlying])
    now = zip(book.underlyings, book.accounts.haircut.tolist(), strict=True)
    haircut = np.array([move.haircut.get(name, before) for name, before in now])
    found = liquidate(book.markets, book.accounts._replace(cash=cash, haircut=haircut), shock)
    closed = [
        {"account": book.names[at], "house": book.house[at], "hole": float(found.hole[at])}
        for at in found.liquidated.nonzero()[0].tolist()
    ]
    return {
        "at_us": move.at_us,
        "shock": _named(book, shock),
        "end": _named(book, found.price - 1.0),
        "rounds": [{"liquidated": one.liquidated, "forced": _named(book, one.forced)} for one in found.rounds],
        "liquidated": closed,
        "clients": sum(one["hole"] for one in closed if not one["house"]),
        "house": sum(one["hole"] for one in closed if one["house"]),
    }


def _named(book: BookMarkets, values: F8) -> Json:
    return {name: float(value) for name, value in zip(book.underlyings, values, strict=True) if value != 0}


def _underlying(record: Instrument) -> str:
    return record.underlying or record.base


def _spot_last(item: tuple[str, Instrument]) -> tuple[bool, str]:
    """Order spot instruments behind all others, so that a later one, which counts, is spot where there is any."""
    name, record = item
    return record.kind == "spot", name


def _positions(
    ledgers: Iterable[Ledger], records: Mapping[str, Instrument], underlyings: Sequence[str]
) -> Iterable[Row]:
    first = 0
    for ledger in ledgers:
        gain, rows, names = ledger.health.gains()[0], ledger.positions.rows, list(ledger.directory.instruments)
        for account, instrument, value in zip(rows["account"], rows["instrument"], gain, strict=True):
            if value:
                name = names[int(instrument)]
                yield Row(first + int(account), name, underlyings.index(_underlying(records[name])), float(value))
        first += len(ledger.directory.own)


def _coins(ledgers: Iterable[Ledger], underlyings: Sequence[str], accounts: int) -> tuple[F8, F8]:
    """Return by account and underlying what coins are worth, and apart from them what is owed in coins (below 0)."""
    coins, short = np.zeros((accounts, len(underlyings))), np.zeros((accounts, len(underlyings)))
    number, first = {name: at for at, name in enumerate(underlyings)}, 0
    for ledger in ledgers:
        rows, assets = ledger.balances.rows, list(ledger.directory.assets)
        worth = rows["amount"] * ledger.marks.asset_worth[rows["asset"]]
        for account, asset, value in zip(rows["account"], rows["asset"], worth, strict=True):
            at = number.get(assets[int(asset)])
            if at is not None:
                (coins if value > 0 else short)[first + int(account), at] += value
        first += len(ledger.directory.own)
    return coins, short


def _haircut(ledgers: Iterable[Ledger], asset: str) -> float:
    found = [ledger.directory.asset_records.get(asset) for ledger in ledgers]
    return max((float(one.haircut) for one in found if one is not None), default=0.0)


def _depth(
    records: Mapping[str, Instrument],
    underlyings: Sequence[str],
    signals: Mapping[str, SignalRow],
    left: Mapping[str, float],
) -> tuple[F8, F8]:
    """Return what all venues had within the span on each side, in money, by underlying."""
    sides = np.zeros((2, len(underlyings)))
    for name, row in signals.items():
        if name not in records or not row.depth:
            continue
        record, half = records[name], len(row.depth) // 2
        unit = float(record.contract_size) * (1.0 if record.inverse else row.price) * left.get(name, 1.0)
        at = underlyings.index(_underlying(record))
        sides[:, at] += row.depth[BAND] * unit, row.depth[half + BAND] * unit
    return sides[0], sides[1]
