"""Cascades: forced liquidation of books at each move of a price, and default of counterparties on what they owe.

`liquidation_map` says what present books are forced to sell, `cascade_ends` where a move ends once that feeds back, and
`debt_rank_centralities` what the default of each counterparty costs all others.
"""

from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import ForecastInputs, ordered_sums
from seawall.operators.core.forecasts._markets import MarketForecasts, underlying_deviations
from seawall.operators.core.forecasts._sensitivities import SensitivityRows, sum_sensitivities
from seawall.schemas.measures import ACCOUNT

# Liquidation map: what present books would be forced to sell and buy at each move of an underlying.
#
# An account is liquidated where its health is at or below 0, and health is a straight line in the move
# (`health_deviation`), so each account and underlying has one move from which on it is. All steps at once then cost one
# sum over the books and a running sum over the steps: nothing is revalued step by step.
#
# Two maps: the underlying *alone*, and with all others following by their *beta*, as the one common factor has them:
# ``rho_v rho_u sigma_v / sigma_u``. What is forced is the account's whole exposure to that underlying, at today's
# prices.
#
# The *cascade*: what is sold moves the price by its share in the depth within 50 basis points, which liquidates more.
# The multiplier is the move that it ends at over the move that it began with; what does not end before the price is
# gone, or has doubled, diverges. Beyond the map nothing more is forced than at its edge.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
MAP_STEPS: Final = tuple(at / 100 for at in range(-50, 51))
DEPTH_SPAN: Final = 0.005  # the move within which depth is measured
DEPTH_UNKNOWN: Final = 0.01  # of what is exposed: an underlying without a known depth is taken to be thin
CASCADE_ROUNDS_MAX: Final = 500
END_MOVE_MAX: Final = 1.0


class LiquidationMap(NamedTuple):
    """Notional forced at each of :data:`MAP_STEPS`, shape (underlyings, steps)."""

    sold: F8
    bought: F8


def liquidation_map(held: SensitivityRows, health: F8, slope: F8, underlyings: int, steps: F8) -> LiquidationMap:
    """Return what is forced by a move of each underlying.

    Parameters
    ----------
    held
        What accounts hold, one row per account and underlying; ``gain`` is the signed exposure that is closed.
    health : float64, shape (accounts,)
        Equity less maintenance margin today.
    slope : float64, shape (rows,)
        What the account's health gains per move of 1 of that row's underlying: its own, or with all that follow.
    steps : float64, shape (steps,)
        Moves, ascending.
    """
    start = health[held.account]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -start / slope
    count = len(steps)
    falls = slope > 0
    until = np.where(falls, np.searchsorted(steps, crossing, side="right"), 0)
    since = np.where(slope < 0, np.searchsorted(steps, crossing, side="left"), count)
    since = np.where((slope == 0) & (start <= 0), 0, since)
    size = np.abs(held.gain)
    parts = []
    for side in (held.gain > 0, held.gain < 0):
        weight = np.where(side, size, 0.0)
        low = _sum_by_step(held.underlying, until, weight, underlyings, count)[:, ::-1].cumsum(axis=1)[:, ::-1]
        high = _sum_by_step(held.underlying, since, weight, underlyings, count).cumsum(axis=1)
        parts.append(low[:, 1:] + high[:, :-1])
    return LiquidationMap(*parts)


def beta_slopes(held: SensitivityRows, volatility: F8, rho: F8, accounts: int) -> F8:
    """Return what each row's account gains per move of 1 of its underlying when all others follow by their beta."""
    own = held.gain - held.margin
    shared = own * (rho * volatility)[held.underlying]
    common = np.bincount(held.account, shared, accounts)[held.account] - shared
    return np.asarray(own + (rho / volatility)[held.underlying] * common)


def cascade_ends(forced: LiquidationMap, depth: F8, steps: F8) -> F8:
    """Return where a move of each step ends once impact has fed back, shape (underlyings, steps); infinite: nowhere.

    Between two steps what is forced is taken to grow in proportion. ``depth`` is the notional that is visible within
    :data:`DEPTH_SPAN` of the price.
    """
    net = forced.bought - forced.sold
    impact, start = (DEPTH_SPAN / depth)[:, None], net[:, len(steps) // 2 : len(steps) // 2 + 1]
    moved = np.tile(steps, (len(net), 1))
    moving = np.arange(len(net))  # underlyings that have not come to rest
    for _ in range(CASCADE_ROUNDS_MAX):
        before = moved[moving]
        pushed = steps + impact[moving] * (_interpolate_rows(steps, net[moving], before) - start[moving])
        further = np.where(steps < 0, np.minimum(pushed, before), np.maximum(pushed, before))
        moved[moving] = further
        moving = moving[(further != before).any(axis=1)]
        if not len(moving):
            break
    return np.where(moved <= -END_MOVE_MAX, -np.inf, np.where(moved >= END_MOVE_MAX, np.inf, moved))


def cascade_multipliers(ends: F8, steps: F8) -> F8:
    """Return how many times its size each move becomes; 1 at no move."""
    size = np.where(steps == 0, 1.0, steps)
    return np.where(steps == 0, 1.0, np.abs(ends / size))


def first_divergence(ends: F8, steps: F8) -> F8:
    """Return the smallest move at which each underlying does not come to rest, NaN where it always does."""
    size = np.where(np.isinf(ends), np.abs(steps), np.inf)
    at = size.argmin(axis=1)
    return np.where(np.isinf(ends).any(axis=1), steps[at], np.nan)


def depths_or_default(known: F8, exposed: F8) -> tuple[F8, NDArray[np.bool_]]:
    """Return the depth of each underlying, the stated default where it is unknown, and where it is known.

    Parameters
    ----------
    known
        NaN where it is not.
    exposed
        Notional held of each underlying, long and short together.
    """
    good = np.isfinite(known) & (known > 0)
    return np.where(good, known, np.maximum(DEPTH_UNKNOWN * exposed, 1.0)), good


def _sum_by_step(underlying: I8, place: I8, weight: F8, underlyings: int, count: int) -> F8:
    """Return the weights by underlying and place, 0 to ``count``."""
    width = count + 1
    sums = np.bincount(underlying * width + place, weight, underlyings * width)
    return np.asarray(sums.reshape(underlyings, width))


def _interpolate_rows(steps: F8, rows: F8, moved: F8) -> F8:
    """Return rows at moves between their steps, and at their ends beyond them; one row of moves for each."""
    at = np.clip(np.searchsorted(steps, moved, side="right") - 1, 0, len(steps) - 2)
    part = np.clip((moved - steps[at]) / (steps[at + 1] - steps[at]), 0.0, 1.0)
    low, high = (np.take_along_axis(rows, place, axis=1) for place in (at, at + 1))
    return np.asarray(low + part * (high - low))


# Contagion: what the default of each counterparty would cost all others, by linear DebtRank on what is owed now.
#
# A loss of own funds makes the claims on whoever lost them worth less in proportion, which costs his creditors, and so
# on until nothing moves: ``h(t+1) = min(1, h(t) + Lambda (h(t) - h(t-1)))`` with ``Lambda_ij = A_ij / E_i`` for what i
# has lent to j. The centrality of j is the share of everybody else's own funds that is lost when j defaults.
#
# References
# ----------
# M. Bardoscia, S. Battiston, F. Caccioli, G. Caldarelli, "DebtRank: a microscopic foundation for shock propagation",
# PLoS ONE 10 (2015). S. Battiston, M. Puliga, R. Kaushik, P. Tasca, G. Caldarelli, "DebtRank: too central to fail?",
# Scientific Reports 2 (2012).

NODES_MAX: Final = 48  # those with the largest claims and debts
CONTAGION_ROUNDS_MAX: Final = 200
LOSS_CHANGE_MIN: Final = 1e-10  # a share of own funds below which nothing is passed on
HOUSE_NODE: Final = "house"

Claim = tuple[str, str, float]  # who owes, whom, amount in the reporting currency


class ClaimsNetwork(NamedTuple):
    """Nodes by name, what each has lent to each (lender, borrower), and own funds, NaN where nobody told of them."""

    names: list[str]
    claims: F8
    own_funds: F8


def claims_network(claims: list[Claim], own_funds: dict[str, float]) -> ClaimsNetwork:
    """Return the largest nodes of a list of claims and what they owe each other."""
    size: dict[str, float] = {}
    for borrower, lender, amount in claims:
        for name in (borrower, lender):
            size[name] = size.get(name, 0.0) + amount
    names = sorted(sorted(size, key=lambda name: (-size[name], name))[:NODES_MAX])
    numbers = {name: number for number, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)))
    for borrower, lender, amount in claims:
        if borrower in numbers and lender in numbers and borrower != lender:
            matrix[numbers[lender], numbers[borrower]] += amount
    funds = np.array([own_funds.get(name, np.nan) for name in names], dtype=np.float64)
    return ClaimsNetwork(names, matrix, funds)


def debt_rank_losses(claims: F8, own_funds: F8, shocks: F8) -> F8:
    """Return the share of own funds that each node has lost once shocks have gone through, shape (shocks, nodes).

    Parameters
    ----------
    claims : float64, shape (nodes, nodes)
        What the row has lent to the column.
    own_funds : float64, shape (nodes,)
        Whoever has none, or of whom nobody knows, passes on only what it is shocked with itself.
    shocks : float64, shape (shocks, nodes)
        Shares of own funds that are lost at first.
    """
    known = np.isfinite(own_funds) & (own_funds > 0)
    weight = np.where(known[:, None], claims / np.where(known, own_funds, 1.0)[:, None], 0.0)
    lost, fresh = shocks.copy(), shocks.copy()
    for _ in range(CONTAGION_ROUNDS_MAX):
        passed = np.zeros(lost.shape)
        for borrower in range(len(own_funds)):
            passed += fresh[:, borrower : borrower + 1] * weight[:, borrower]
        after = np.minimum(1.0, lost + passed)
        fresh = after - lost
        lost = after
        if not (fresh > LOSS_CHANGE_MIN).any():
            break
    return lost


def debt_rank_centralities(of: ClaimsNetwork) -> F8:
    """Return the share of all others' own funds that each node's default would cost, 0 where nobody's are known."""
    funds = np.where(np.isfinite(of.own_funds) & (of.own_funds > 0), of.own_funds, 0.0)
    lost = debt_rank_losses(of.claims, of.own_funds, np.eye(len(funds)))
    others = ordered_sums(funds) - funds
    paid = ordered_sums(lost * funds) - funds * lost.diagonal()
    return np.where(others > 0, paid / np.where(others > 0, others, 1.0), 0.0)


# Liquidation maps in the stream: each shard maps its own books, the firm adds the maps up and cascades.
#
# What is forced is a sum over accounts, and an account stands in one shard, so maps add up. Volatilities and betas are
# the same in all shards. Once per minute of event time in which anything happened.
#
# Measures of an underlying, and of the firm the worst of all underlyings:
#
# - ``cascade_multiplier``: how many times its size a move becomes once what it forces has fed back, the worst of moves
#   of up to 20 % either way; 100 where one does not come to rest, and never more.
# - ``cascade_distance``: the size of the smallest move that does not come to rest, 1 where every move of the map does.
#
# Where nothing is exposed, and before the first map, they are 1.

B1 = NDArray[np.bool_]
DAY_S: Final = 86_400
EQUITY, MARGIN = ACCOUNT.index("equity"), ACCOUNT.index("maintenance_margin")
MOVE_MAX: Final = 0.2  # the moves that the multiplier is the worst of
MULTIPLIER_MAX: Final = 100.0
MAP_CHANGE_MIN: Final = (
    0.05  # of what is exposed: a map that moved by less since it was written last is not written again
)
MEASURED_STEPS = np.abs(np.array(MAP_STEPS)) <= MOVE_MAX


class ShardLiquidationMap(NamedTuple):
    """Forced trades of the books of one shard, or of several.

    ``forced`` has shape (4, underlyings, steps): sold and bought by a move of the underlying alone, then with all
    others following by their beta. ``exposed`` is the notional held of each underlying, long and short together.
    """

    forced: F8
    exposed: F8

    @classmethod
    def of_book(cls, book: ForecastInputs, accounts: F8, markets: MarketForecasts) -> Self:
        """Return the map of one shard's books; ``accounts`` are the values of its table."""
        steps, count = np.array(MAP_STEPS), len(book.underlyings)
        by_underlying = markets.of_underlyings(book)
        volatility, rho = underlying_deviations(markets, by_underlying, DAY_S), markets.rho_of(by_underlying)
        held = sum_sensitivities(book.account, book.underlying[book.instrument], book.gain, book.margin)
        health = accounts[EQUITY] - accounts[MARGIN]
        alone = liquidation_map(held, health, held.gain - held.margin, count, steps)
        slopes = beta_slopes(held, volatility, rho, len(health))
        followed = liquidation_map(held, health, slopes, count, steps)
        return cls(np.stack([*alone, *followed]), _exposed(held, count))

    @classmethod
    def sum(cls, parts: list["ShardLiquidationMap"]) -> Self:
        """Return the sum of the maps of shards, in order of shard; one may know more underlyings."""
        count = max(len(part.exposed) for part in parts)
        forced, exposed = np.zeros((4, count, len(MAP_STEPS))), np.zeros(count)
        for part in parts:
            known = len(part.exposed)
            forced[:, :known] += part.forced
            exposed[:known] += part.exposed
        return cls(forced, exposed)

    def cascade(self, known: F8) -> "CascadeMap":
        """Return what becomes of moves of each underlying, with the depths that are known (NaN: the stated default)."""
        steps = np.array(MAP_STEPS)
        depth, good = depths_or_default(known, self.exposed)
        ends = cascade_ends(LiquidationMap(self.forced[2], self.forced[3]), depth, steps)
        return CascadeMap(self, depth, good, cascade_multipliers(ends, steps), first_divergence(ends, steps))

    def exposed_underlyings(self) -> list[int]:
        """Return the underlyings of which anything is held."""
        return [int(at) for at in (self.exposed > 0).nonzero()[0]]


class CascadeMap(NamedTuple):
    """The maps of all underlyings, and what becomes of their moves; shapes (underlyings,) and (underlyings, steps)."""

    books: ShardLiquidationMap
    depth: F8
    depth_known: B1
    grown: F8
    diverges_at: F8

    def row(self, at: int, name: str) -> dict[str, Any]:
        """Return the map of one underlying as it is published; null stands for a multiplier without bound."""
        sides = ("alone_sold", "alone_bought", "with_betas_sold", "with_betas_bought")
        forced = {side: self.books.forced[place, at].tolist() for place, side in enumerate(sides)}
        grown, first = self.grown[at].tolist(), self.diverges_at.item(at)
        return {
            "scope": f"underlying:{name}",
            "depth": self.depth.item(at),
            "depth_known": bool(self.depth_known[at]),
            **forced,
            "cascade_multiplier": [value if value < np.inf else None for value in grown],
            "diverges_at": None if np.isnan(first) else first,
        }


def underlying_depths(book: ForecastInputs, markets: MarketForecasts) -> F8:
    """Return the visible depth of each underlying: that of the instrument that stands for it, NaN where unknown."""
    by_underlying = markets.of_underlyings(book)
    return (
        np.where(by_underlying >= 0, book.depth[np.maximum(by_underlying, 0)], np.nan)
        if len(by_underlying)
        else np.zeros(0)
    )


def cascade_measures(found: CascadeMap) -> F8:
    """Return ``cascade_multiplier`` and ``cascade_distance`` of each underlying, shape (2, underlyings)."""
    worst = np.minimum(found.grown[:, MEASURED_STEPS].max(axis=1, initial=1.0), MULTIPLIER_MAX)
    return np.stack([worst, np.where(np.isnan(found.diverges_at), 1.0, np.abs(found.diverges_at))])


def moved_underlyings(now: ShardLiquidationMap, last: ShardLiquidationMap) -> list[int]:
    """Return the underlyings whose map is no longer what was written last; ``last`` may know fewer of them."""
    before = _grown_map(last, now)
    change = np.abs(now.forced - before.forced).max(axis=(0, 2), initial=0.0)
    size = np.maximum(now.exposed, before.exposed)
    wanted = (change > MAP_CHANGE_MIN * size) | ((now.exposed > 0) != (before.exposed > 0))
    return [int(at) for at in wanted.nonzero()[0]]


def record_written_map(now: ShardLiquidationMap, last: ShardLiquidationMap, at: list[int]) -> ShardLiquidationMap:
    """Return what is written last once the maps of some underlyings are."""
    kept = _grown_map(last, now)
    kept.forced[:, at], kept.exposed[at] = now.forced[:, at], now.exposed[at]
    return kept


def empty_shard_map() -> ShardLiquidationMap:
    """Return the map of no books."""
    return ShardLiquidationMap(np.zeros((4, 0, len(MAP_STEPS))), np.zeros(0))


def _grown_map(last: ShardLiquidationMap, now: ShardLiquidationMap) -> ShardLiquidationMap:
    """Return a copy of ``last`` with as many underlyings as ``now``."""
    return ShardLiquidationMap.sum([last, ShardLiquidationMap(np.zeros_like(now.forced), np.zeros_like(now.exposed))])


def _exposed(held: SensitivityRows, count: int) -> F8:
    return np.bincount(held.underlying, np.abs(held.gain), count).astype(np.float64)
