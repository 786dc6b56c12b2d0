"""Structural probability: that a book's joint move takes an account over a level at any time within a horizon.

Health at a level L is ``L x equity - maintenance margin``, linear in the moves of underlyings for spot, linear and
inverse contracts (``liquidation_distance``). Its standard deviation follows from forecast volatilities and one common
factor: an underlying moves by ``rho`` with the market and by the rest alone, so a covariance always exists, however
few the returns that it was learned from. The distance is health in units of that deviation, and the probability of
first passage is twice that of ending beyond it (the reflection principle), with the tails of a
Student t of four degrees of freedom.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
ROOT_HALF_4: Final = 1.4142135623730951  # a Student t of 4 degrees has a variance of 2
DISTANCE_MAX: Final = 400.0
DISTANCE_MIN: Final = 0.05


def first_passage(distance: F8) -> F8:
    """Return the probability that a path of t(4) tails reaches a level ``distance`` standard deviations away.

    Examples
    --------
    >>> first_passage(np.array([0.0, 1.0, 4.0])).round(4).tolist()
    [1.0, 0.2302, 0.0048]
    """
    x = np.maximum(distance, 0.0) * ROOT_HALF_4
    u = x / np.sqrt(4.0 + x * x)
    tail: F8 = 1.0 - 1.5 * (u - u * u * u / 3.0)
    return np.minimum(np.maximum(tail, 0.0), 1.0)


class Exposed(NamedTuple):
    """What accounts hold, one row per account and underlying: gain of equity and of margin per move of 1."""

    account: I8
    underlying: I8
    gain: F8
    margin: F8


def paired(account: I8, underlying: I8, gain: F8, margin: F8) -> Exposed:
    """Return rows added up by account and underlying, in order of both."""
    keys, member = np.unique((account << 32) | underlying, return_inverse=True)
    count = len(keys)
    sums = [np.bincount(member, part, count).astype(np.float64) for part in (gain, margin)]
    return Exposed(keys >> 32, keys & 0xFFFFFFFF, sums[0], sums[1])


def deviation(held: Exposed, level: float, volatility: F8, rho: F8, accounts: int) -> F8:
    """Return the standard deviation of each account's health at a level over a horizon.

    Parameters
    ----------
    volatility, rho : float64, shape (underlyings,)
        Over that horizon, as fractions; and the correlation with the common factor.
    """
    moved = (level * held.gain - held.margin) * volatility[held.underlying]
    shared = rho[held.underlying]
    common = np.bincount(held.account, moved * shared, accounts)
    alone = np.bincount(held.account, moved * moved * (1.0 - shared * shared), accounts)
    result: F8 = np.sqrt(common * common + alone)
    return result


def distance(health: F8, spread: F8) -> F8:
    """Return health in units of its deviation, held within bounds; far where nothing moves."""
    safe = np.where(spread > 0, spread, 1.0)
    units = np.where(spread > 0, health / safe, DISTANCE_MAX)
    return np.minimum(np.maximum(units, DISTANCE_MIN), DISTANCE_MAX)
