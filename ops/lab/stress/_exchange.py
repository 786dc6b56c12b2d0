"""Liquidation cascades on exchanges: forced orders consume books, prices follow, and margin goes with them.

Each *market* is an asset at a venue. Accounts hold positions in markets, with cash and coins as collateral; coins are
valued by the market that their account's venue goes by, so collateral falls with what is held against it. One round:

1. A market's mark is ``oracle_weight`` of the way from its own last price to the oracle, the mean of the last prices of
   its asset at all venues, weighted by depth. So a fall at one venue reaches those that share the oracle.
2. An account whose maintenance margin is above its equity is liquidated: all its positions are closed, and of its coins
   what its debts need is sold.
3. Forced orders of a market walk its book together. ``refill`` of what they have moved comes back before the next.
4. A position closed at worse than its bankruptcy price leaves a hole, which the venue's insurance fund fills, smallest
   first. What it cannot fill is not sent to the book: positions on the other side are closed against it at that
   bankruptcy price (auto-deleveraging), the highest of profit x leverage first. A hedge can be taken away so.

It ends when nobody is liquidated. Books are the cumulative quantity within each distance from the mark, continued at
the last density. All arrays are float64, shaped as stated; the same inputs give the same cascade.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.schemas.errors import UsageError

# Order books as what can be sold and bought within each distance of the price, for many markets at once.

F8 = NDArray[np.float64]


class Books(NamedTuple):
    """Cumulative depth.

    Attributes
    ----------
    distance : float64, shape (levels,)
        Fractions of the price, ascending from above 0.
    bids, asks : float64, shape (markets, levels)
        Units within each distance, growing along the levels.
    """

    distance: F8
    bids: F8
    asks: F8

    @property
    def near(self) -> F8:
        """Return what stands at the first distance, both sides: the weight of a market in an oracle."""
        return np.asarray(self.bids[:, 0] + self.asks[:, 0])

    def thinned(self, factor: F8 | float) -> "Books":
        """Return the books with this much of their depth left."""
        left = np.broadcast_to(np.asarray(factor, dtype=np.float64), (len(self.bids),))[:, None]
        return Books(self.distance, self.bids * left, self.asks * left)


def make_books(distance: F8, bids: F8, asks: F8) -> Books:
    """Return checked books.

    Raises
    ------
    UsageError
        Distances or depths that do not grow from above 0: such a book has no density to go on at.
    """
    for name, side in (("distance", distance[None]), ("bids", bids), ("asks", asks)):
        wrong = ~(np.diff(side, axis=1, prepend=0.0) > 0).all(axis=1)
        if wrong.any():
            raise UsageError(
                f"{name}, row {int(wrong.argmax())}: must grow from above 0, level by level; merge equal ones"
            )
    return Books(distance, bids, asks)


def walk_books(books: Books, price: F8, orders: F8) -> tuple[F8, F8]:
    """Return the average price that market orders meet and the last one, each of shape (markets,).

    Parameters
    ----------
    price, orders : float64, shape (markets,)
        Prices before, and units: above 0 bought, below 0 sold. A seller finds nobody below a price of 0, and gives the
        rest away at 0.
    """
    average, last = price.astype(np.float64).copy(), price.astype(np.float64).copy()
    for at in orders.nonzero()[0].tolist():
        sells = bool(orders[at] < 0)
        away, mean = _distance(books.distance, (books.bids if sells else books.asks)[at], abs(orders[at]), sells)
        sign = -1.0 if sells else 1.0
        average[at], last[at] = price[at] * (1 + sign * mean), price[at] * (1 + sign * away)
    return average, last


def _distance(distance: F8, depth: F8, units: float, sells: bool) -> tuple[float, float]:
    """Return how far an order goes, and how far it goes on average; a sale at most the whole price."""
    edges, amounts = np.concatenate([[0.0], distance]), np.concatenate([[0.0], depth])
    if units > amounts[-1]:
        density = (amounts[-1] - amounts[-2]) / (edges[-1] - edges[-2])
        edges, amounts = np.append(edges, edges[-1] + (units - amounts[-1]) / density), np.append(amounts, units)
    away, filled = float(np.interp(units, amounts, edges)), units
    if sells and away > 1:
        away, filled = 1.0, float(np.interp(1.0, edges, amounts))
    inside = amounts < filled
    edges, amounts = np.append(edges[inside], away), np.append(amounts[inside], filled)
    cost = float((np.diff(amounts) * (edges[1:] + edges[:-1]) / 2).sum())
    return away, (cost + away * (units - filled)) / units


# Liquidation cascades on exchanges: forced orders consume books, prices follow, and margin goes with them.

I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
ROUNDS_MAX: Final = 500


class Markets(NamedTuple):
    """Instruments and the venues that they trade on.

    Attributes
    ----------
    asset, venue : int64, shape (markets,)
        Numbers of each.
    price : float64, shape (markets,)
        Last prices.
    books : Books
        Of the markets.
    oracle_weight : float64, shape (markets,)
        0: marked by its own last price; 1: by the oracle alone.
    fund : float64, shape (venues,)
        The insurance fund of each venue.
    refill
        The share of a move that comes back before the next round.
    """

    asset: I8
    venue: I8
    price: F8
    books: Books
    oracle_weight: F8
    fund: F8
    refill: float = 0.0


class Accounts(NamedTuple):
    """Accounts and what they hold.

    Attributes
    ----------
    position : float64, shape (accounts, markets)
        Units, signed; each account trades at the markets of one venue.
    entry : float64, shape (accounts, markets)
        Average prices of opening, for the ranking of auto-deleveraging.
    cash : float64, shape (accounts,)
        In the reporting currency, so that equity is cash + position x (mark - entry) + coins.
    coins : float64, shape (accounts, markets)
        Units posted, valued by that market's mark.
    haircut, maintenance : float64, shape (markets,)
        Of coins as collateral, and of notional as maintenance margin.
    required : float64, shape (accounts,)
        Maintenance margin beside that, which does not move with prices; an account that is closed needs none.
    """

    position: F8
    entry: F8
    cash: F8
    coins: F8
    haircut: F8
    maintenance: F8
    required: F8 | float = 0.0


class Round(NamedTuple):
    """One round: marks before it, units forced per market (sold below 0), and how many accounts were liquidated."""

    mark: F8
    forced: F8
    liquidated: int


class Cascade(NamedTuple):
    """End of a cascade.

    Attributes
    ----------
    mark, price : float64, shape (markets,)
        At the end.
    equity : float64, shape (accounts,)
        At the last marks, after holes were filled.
    liquidated : bool, shape (accounts,)
        Whether an account was.
    deleveraged : float64, shape (accounts, markets)
        Units taken from accounts by auto-deleveraging; the change of their position.
    fund_used : float64, shape (venues,)
        What funds paid.
    unfilled : float64, shape (venues,)
        Holes that neither fund nor other side could fill: socialised.
    hole : float64, shape (accounts,)
        What was left unpaid of accounts that were closed by the book.
    rounds
        In order.
    """

    mark: F8
    price: F8
    equity: F8
    liquidated: B1
    deleveraged: F8
    fund_used: F8
    unfilled: F8
    hole: F8
    rounds: tuple[Round, ...]


class _State:
    """State that changes during a cascade."""

    def __init__(self, markets: Markets, accounts: Accounts, shock: F8) -> None:
        self.price, self.fund = markets.price * (1 + shock), markets.fund.copy()
        self.position, self.entry = accounts.position.copy(), accounts.entry.copy()
        self.cash, self.coins = accounts.cash.copy(), accounts.coins.copy()
        self.liquidated = np.zeros(len(self.cash), dtype=bool)
        self.hole = np.zeros(len(self.cash))
        self.deleveraged, self.unfilled = np.zeros_like(self.position), np.zeros_like(self.fund)


def liquidate(markets: Markets, accounts: Accounts, shock: F8) -> Cascade:
    """Follow a shock, a fraction of the last price by market, until nobody is liquidated any more."""
    state = _State(markets, accounts, shock)
    rounds: list[Round] = []
    home = _home(markets, accounts)
    for _ in range(ROUNDS_MAX):
        mark = _marks(markets, state.price)
        due = _due(accounts, state, mark)
        if not due.any():
            break
        forced = _close(markets, accounts, state, mark, due, home)
        rounds.append(Round(mark, forced, int(due.sum())))
    mark = _marks(markets, state.price)
    used = markets.fund - state.fund
    equity = _equity(state, mark, np.zeros_like(mark))
    return Cascade(
        mark, state.price, equity, state.liquidated, state.deleveraged, used, state.unfilled, state.hole, tuple(rounds)
    )


def _marks(markets: Markets, price: F8) -> F8:
    weight = markets.books.near
    assets = int(markets.asset.max()) + 1
    oracle = np.bincount(markets.asset, weight * price, assets) / np.bincount(markets.asset, weight, assets)
    return np.asarray(price + markets.oracle_weight * (oracle[markets.asset] - price))


def _home(markets: Markets, accounts: Accounts) -> I8:
    """Return the venue of each account: that of the first market in which it has anything."""
    return np.asarray(markets.venue[((accounts.position != 0) | (accounts.coins != 0)).argmax(axis=1)])


def _equity(state: _State, mark: F8, haircut: F8) -> F8:
    gained = (state.position * (mark - state.entry)).sum(axis=1)
    return np.asarray(state.cash + gained + (state.coins * mark * (1 - haircut)).sum(axis=1))


def _due(accounts: Accounts, state: _State, mark: F8) -> B1:
    margin = (np.abs(state.position) * mark * accounts.maintenance).sum(axis=1)
    margin = margin + np.where(state.liquidated, 0.0, accounts.required)
    return np.asarray((margin > 0) & (_equity(state, mark, accounts.haircut) < margin))


def _close(markets: Markets, accounts: Accounts, state: _State, mark: F8, due: B1, home: I8) -> F8:
    """Close what is due, by the book or against the other side; return the units forced per market."""
    at = due.nonzero()[0]
    state.liquidated |= due
    orders, coins = -state.position[at], _coins_needed(state, at, mark)
    forced = orders.sum(axis=0) - coins.sum(axis=0)
    met, _ = walk_books(markets.books, state.price, forced)
    hole = -_left(state, at, met, coins)
    taken = _beyond_fund(state, home[at], hole)
    if taken.any():
        _deleverage(state, at[taken], mark, home)
        at, coins = at[~taken], coins[~taken]
        forced = (-state.position[at]).sum(axis=0) - coins.sum(axis=0)
    met, last = walk_books(markets.books, state.price, forced)
    left = _left(state, at, met, coins)
    state.hole[at] += np.maximum(-left, 0.0)
    paid = np.bincount(home[at], np.maximum(-left, 0.0), len(state.fund))
    state.unfilled += np.maximum(paid - state.fund, 0.0)
    state.fund = np.maximum(state.fund - paid, 0.0)
    state.coins[at] = np.where((left < 0)[:, None], 0.0, state.coins[at] - coins)
    state.cash[at] = np.maximum(left, 0.0) - (state.coins[at] * met).sum(axis=1)
    state.position[at] = 0.0
    state.price = last + markets.refill * (state.price - last)
    return np.asarray(forced)


def _coins_needed(state: _State, at: I8, mark: F8) -> F8:
    """Return the coins to sell of each account: what its cash and realised loss leave open, alike of all coins."""
    debt = -(state.cash[at] + (state.position[at] * (mark - state.entry[at])).sum(axis=1))
    worth = (state.coins[at] * mark).sum(axis=1)
    share = np.clip(debt / np.where(worth > 0, worth, 1.0), 0.0, 1.0)
    return np.asarray(state.coins[at] * np.where(worth > 0, share, 0.0)[:, None])


def _left(state: _State, at: I8, met: F8, coins: F8) -> F8:
    """Return what accounts have left once closed at the prices met: below 0 is a hole."""
    gained = (state.position[at] * (met - state.entry[at])).sum(axis=1)
    return np.asarray(state.cash[at] + gained + (state.coins[at] * met).sum(axis=1))


def _beyond_fund(state: _State, home: I8, hole: F8) -> B1:
    """Return whose hole its venue's fund cannot fill when the smallest are filled first."""
    order = np.lexsort((hole, home))
    need = np.maximum(hole[order], 0.0)
    running = need.cumsum()
    first = np.concatenate([[True], home[order][1:] != home[order][:-1]]) if len(order) else np.zeros(0, dtype=bool)
    base = np.maximum.accumulate(np.where(first, running - need, 0.0))
    beyond = np.zeros(len(hole), dtype=bool)
    beyond[order] = (need > 0) & (running - base > state.fund[home[order]])
    return beyond


def _deleverage(state: _State, at: I8, mark: F8, home: I8) -> None:
    """Close positions against the other side at their bankruptcy prices, the most profitable and leveraged first."""
    equity = _equity(state, mark, np.zeros_like(mark))
    for account in at.tolist():
        state.cash[account] += float((state.coins[account] * mark).sum())  # the venue takes coins at their mark
        state.coins[account] = 0.0
        gross = float((np.abs(state.position[account]) * mark).sum())
        moved = equity[account] / gross if gross else 0.0  # of each notional: what equity still bears, or no more
        for market in state.position[account].nonzero()[0].tolist():
            units = float(state.position[account, market])
            price = float(mark[market] * (1 - np.sign(units) * moved))
            _match(state, account, market, price, mark, equity, home)
        _settle(state, account, mark, home)


def _match(state: _State, account: int, market: int, price: float, mark: F8, equity: F8, home: I8) -> None:
    units = state.position[account, market]
    held = state.position[:, market]
    gain = held * (mark[market] - state.entry[:, market])
    able = (held * units < 0) & (gain > 0) & ~state.liquidated & (home == home[account])
    profit = np.where(able, gain / np.where(able, np.abs(held) * state.entry[:, market], 1.0), 0.0)
    leverage = np.where(able, np.abs(held) * mark[market] / np.maximum(equity, 1e-9), 0.0)
    order = np.argsort(-(profit * leverage), kind="stable")[: int(able.sum())]
    size = np.abs(held[order])
    part = np.clip(abs(units) - (size.cumsum() - size), 0.0, size)
    change = np.sign(units) * part
    state.cash[order] += -change * (price - state.entry[order, market])
    state.position[order, market] += change
    state.deleveraged[order, market] += change
    closed = np.sign(units) * part.sum()
    state.cash[account] += closed * (price - state.entry[account, market])
    state.position[account, market] -= closed


def _settle(state: _State, account: int, mark: F8, home: I8) -> None:
    """Close what nobody could be found for at the mark; the hole, if any, is shared by all."""
    left = float(state.cash[account] + (state.position[account] * (mark - state.entry[account])).sum())
    state.position[account] = 0.0
    state.unfilled[home[account]] += max(-left, 0.0)
    state.cash[account] = max(left, 0.0)
