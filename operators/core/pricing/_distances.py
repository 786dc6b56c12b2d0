"""Distances: the price move at which an account is liquidated, of straight lines and parabolas."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
DISTANCE_MAX: Final = 1_000_000.0  # stands for infinity, as the largest ratio does (contract.md, "Ratios")
# Liquidation distance: the relative move of prices that takes the margin ratio of an account to 1.
#
# Health is equity less maintenance margin; an account is liquidated where health is 0. In spot, linear and inverse
# contracts health is a straight line in the move, so one division finds the point. (An inverse position's coin profit
# ``size x (1/entry - 1/price)`` times the coin's price is linear in that price.) Options count by their delta.
#
# A move is a fraction of today's price: -0.2 is a fall by a fifth. It can fall by at most 1 and rise without bound; an
# account that no move of that side liquidates is at infinity there.


class LiquidationDistance(NamedTuple):
    """The nearest fall (negative, or -inf) and the nearest rise (positive, or inf) at which health is 0."""

    down: F8
    up: F8

    @property
    def nearest(self) -> F8:
        """Return the size of the smaller of the two moves: 0 where an account is already there, inf where none is."""
        return np.minimum(-self.down, self.up)


def linear_distance(health: F8, slope: F8) -> LiquidationDistance:
    """Return the distance of accounts whose health is a straight line in the move.

    Parameters
    ----------
    health : float64
        Equity less maintenance margin today.
    slope : float64
        Change of health per move of 1: for a linear position its signed notional less its maintenance margin, for an
        inverse one what it cost, with the other sign, for a coin balance its value after haircut.

    Examples
    --------
    >>> distance = linear_distance(np.array([10.0, 10.0, -1.0]), np.array([100.0, 0.0, 5.0]))
    >>> distance.down.tolist(), distance.up.tolist(), distance.nearest.tolist()
    ([-0.1, -inf, 0.0], [inf, inf, 0.0], [0.1, inf, 0.0])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        move = -health / slope
    down = np.where((move < 0) & (move >= -1.0), move, -np.inf)
    up = np.where((move > 0) & np.isfinite(move), move, np.inf)
    over = health <= 0
    unknown = np.isnan(health) | np.isnan(slope)
    down = np.where(unknown, np.nan, np.where(over, 0.0, down))
    return LiquidationDistance(down, np.where(unknown, np.nan, np.where(over, 0.0, up)))


def nearest_root(health: F8, slope: F8, curve: F8) -> F8:
    """Return the size of the nearest move at which ``health + slope m + curve m^2`` is 0, 1,000,000 for none.

    Prices fall by no more than all of themselves.

    Examples
    --------
    >>> nearest_root(np.array([6.0, 6.0, 1.0]), np.array([-5.0, 7.0, 0.0]), np.array([1.0, 2.0, 1.0])).tolist()
    [2.0, 1000000.0, 1000000.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = slope * slope - 4.0 * curve * health
        part = -0.5 * (slope + np.copysign(np.sqrt(turn), slope))
        roots = np.stack([part / curve, health / part])
    sizes = np.where(np.isfinite(roots) & (roots >= -1.0), np.abs(roots), DISTANCE_MAX)
    return np.where(health <= 0, 0.0, np.minimum(sizes.min(axis=0), DISTANCE_MAX))


def liquidation_distances(
    account: I8, underlying: I8, slope: F8, moves: NDArray[np.bool_], health: F8
) -> tuple[LiquidationDistance, I8, I8, LiquidationDistance]:
    """Return how far each account is from liquidation: (a) all non-fiat assets together, (b) each underlying alone.

    Parameters
    ----------
    account, underlying : int64, shape (rows,)
        Of every position and every balance; any order.
    slope : float64, shape (rows,)
        As in :func:`linear_distance`, row by row.
    moves : bool, shape (rows,)
        False for fiat, which stays as it is.
    health : float64, shape (accounts,)

    Returns
    -------
    tuple
        The distance of each account with all together; then account, underlying and distance of each pair in use.

    Examples
    --------
    >>> zero = np.zeros(2, np.int64)
    >>> rows = (zero, np.array([1, 2]), np.array([50.0, -40.0]), np.ones(2, bool))
    >>> together, _, alone, single = liquidation_distances(*rows, np.array([5.0]))
    >>> together.down.tolist(), alone.tolist(), single.down.tolist(), single.up.tolist()
    ([-0.5], [1, 2], [-0.1, -inf], [inf, 0.125])
    """
    moved = np.where(moves, slope, 0.0)
    together = linear_distance(health, _totals(account, moved, len(health)))
    at = np.flatnonzero(moves)
    keys, member = np.unique((account[at] << 32) | underlying[at], return_inverse=True)
    of = keys >> 32
    single = linear_distance(health[of], _totals(member, moved[at], len(keys)))
    return together, of, keys & 0xFFFFFFFF, single


def _totals(group: I8, values: F8, groups: int) -> F8:
    """Return the sum of each group, added in the order of the rows."""
    return np.bincount(group, weights=values, minlength=groups).astype(np.float64)
