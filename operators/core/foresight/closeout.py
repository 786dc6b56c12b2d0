"""What is lost when an account comes to its level and is closed out: slippage, the market's move meanwhile, netting.

At the level an account's equity is its maintenance margin over the level. Closing moves each price linearly in visible
depth, so selling a notional costs half of its final impact, at most half of the notional. Prices move on meanwhile,
over :data:`CLOSING_S`, as the whole book does and with the tails of a Student t(4). Of a client's account we lose what
that leaves below zero, less what we owe it in the same netting set where that nets (collateral of its other accounts
included); of our own what closing costs, at most what is in it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import sum_by
from seawall.operators.core.foresight.liquidation import DEPTH_SPAN, depths
from seawall.operators.core.foresight.passage import ROOT_HALF_4, Exposed, deviation
from seawall.operators.core.frames import Owned

F8 = NDArray[np.float64]
CLOSING_S: Final = 600
IMPACT_MAX: Final = 0.5  # of a notional


def loss_given_breach(held: Exposed, equity: F8, at_level: F8, owned: Owned, depth: F8, volatility: F8, rho: F8) -> F8:
    """Return the expected loss of closing out each account once it has come to its level.

    Parameters
    ----------
    held
        What accounts hold; ``gain`` is the signed exposure that is closed.
    equity, at_level : float64, shape (accounts,)
        Now, and as it will be at the level.
    depth, volatility, rho : float64, shape (underlyings,)
        Visible notional within 50 bp (NaN: unknown, 1 % of what is exposed); deviation over :data:`CLOSING_S`;
        correlation with the common factor.
    """
    count = len(equity)
    cost = closing_cost(held, depth, count)
    moved = deviation(held._replace(margin=np.zeros(len(held.gain))), 1.0, volatility, rho, count)
    sets = int(owned.netting_set.max(initial=-1)) + 1
    ours = owned.sign[:count] * equity
    of = owned.netting_set[:count]
    owed = np.where(owned.nets[:count], np.maximum(ours - sum_by(of, ours, sets)[of], 0.0), 0.0)
    beyond = shortfall(at_level + owed - cost, moved)
    return np.where(owned.sign[:count] < 0, beyond, np.minimum(cost, at_level))


def closing_cost(held: Exposed, depth: F8, accounts: int) -> F8:
    """Return what slippage takes of each account that is closed at once."""
    size = np.abs(held.gain)
    known, _ = depths(depth, sum_by(held.underlying, size, len(depth)))
    impact = np.minimum(0.5 * DEPTH_SPAN * size / known[held.underlying], IMPACT_MAX)
    return sum_by(held.account, size * impact, accounts)


def shortfall(room: F8, spread: F8) -> F8:
    """Return the mean of what a t(4) move of deviation ``spread`` takes beyond ``room``.

    Examples
    --------
    >>> shortfall(np.array([0.0, -5.0, 3.0]), np.array([1.0, 0.0, 1.0])).round(4).tolist()
    [0.3536, 5.0, 0.0076]
    """
    safe = np.where(spread > 0, spread, 1.0)
    y = room / safe * ROOT_HALF_4
    q = np.sqrt(1.0 + 0.25 * y * y)
    density = 0.375 / (q * q * q * q * q)
    u = 0.5 * y / q
    above = 0.5 - 0.75 * (u - u * u * u / 3.0)
    mean = (density * (4.0 + y * y) / 3.0 - y * above) / ROOT_HALF_4 * safe
    return np.where(spread > 0, np.maximum(mean, 0.0), np.maximum(-room, 0.0))
