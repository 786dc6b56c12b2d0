"""Distances: the price move at which an account is liquidated, of straight lines and parabolas."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
DISTANCE_MAX: Final = 1_000_000.0  # stands for infinity, as the largest ratio does (contract.md, "Ratios")
# Liquidation distance: the relative move of prices that takes the margin ratio of an account to 1.
#
# Health is equity less maintenance margin; an account is liquidated where health is 0. In spot, linear and inverse
# contracts health is a straight line in the move, so one division finds the point. (An inverse position's coin profit
# ``size x (1/entry - 1/price)`` times the coin's price is linear in that price.) Options count by their delta.
#
# A move is a fraction of today's price: -0.2 is a fall by a fifth. It can fall by at most 1 and rise without bound; an
# account that no move of that side liquidates is at infinity there.


def nearest_distance(equity: F8, maintenance: F8, slope: F8) -> F8:
    """Return the size of the nearest move that takes each margin ratio to 1, where health is a straight line in it.

    1,000,000 where there is none, and where there is no maintenance margin (no positions, or none that need one).

    Parameters
    ----------
    slope : float64
        Change of health per move of 1: for a linear position its signed notional less its maintenance margin, for an
        inverse one what it cost, with the other sign, for a coin balance its value after haircut.

    Examples
    --------
    >>> nearest_distance(np.array([20.0, 20.0, 1.0, 5.0]), np.array([10.0, 10.0, 2.0, 0.0]), np.full(4, 50.0)).tolist()
    [0.2, 0.2, 0.0, 1000000.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        move = (equity - maintenance) / np.abs(slope)
    move = np.minimum(np.fmax(move, 0.0), DISTANCE_MAX)  # 0 / 0 is an account that is there already
    move[((slope > 0) & (move > 1.0)) | (maintenance <= 0)] = DISTANCE_MAX
    return move


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
