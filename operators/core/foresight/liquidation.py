"""The liquidation map: what present books would be forced to sell and buy at each move of an underlying.

An account is liquidated where its health is at or below 0, and health is a straight line in the move (``passage``), so
each account and underlying has one move from which on it is. All steps at once then cost one sum over the books and a
running sum over the steps: nothing is revalued step by step.

Two maps: the underlying *alone*, and with all others following by their *beta*, as the one common factor has them:
``rho_v rho_u sigma_v / sigma_u``. What is forced is the account's whole exposure to that underlying, at today's prices.

The *cascade*: what is sold moves the price by its share in the depth within 50 basis points, which liquidates more. The
multiplier is the move that it ends at over the move that it began with; what does not end before the price is gone, or
has doubled, diverges. Beyond the map nothing more is forced than at its edge.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight.passage import Exposed

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
STEPS: Final = tuple(at / 100 for at in range(-50, 51))
DEPTH_SPAN: Final = 0.005  # the move within which depth is measured
DEPTH_UNKNOWN: Final = 0.01  # of what is exposed: an underlying without a known depth is taken to be thin
ROUNDS_MAX: Final = 500
END_MAX: Final = 1.0


class LiquidationMap(NamedTuple):
    """Notional forced at each of :data:`STEPS`, shape (underlyings, steps)."""

    sold: F8
    bought: F8


def liquidation_map(held: Exposed, health: F8, slope: F8, underlyings: int, steps: F8) -> LiquidationMap:
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
        low = _gathered(held.underlying, until, weight, underlyings, count)[:, ::-1].cumsum(axis=1)[:, ::-1]
        high = _gathered(held.underlying, since, weight, underlyings, count).cumsum(axis=1)
        parts.append(low[:, 1:] + high[:, :-1])
    return LiquidationMap(*parts)


def beta_slopes(held: Exposed, volatility: F8, rho: F8, accounts: int) -> F8:
    """Return what each row's account gains per move of 1 of its underlying when all others follow by their beta."""
    own = held.gain - held.margin
    shared = own * (rho * volatility)[held.underlying]
    common = np.bincount(held.account, shared, accounts)[held.account] - shared
    return np.asarray(own + (rho / volatility)[held.underlying] * common)


def cascade(forced: LiquidationMap, depth: F8, steps: F8) -> F8:
    """Return where a move of each step ends once impact has fed back, shape (underlyings, steps); infinite: nowhere.

    Between two steps what is forced is taken to grow in proportion. ``depth`` is the notional that is visible within
    :data:`DEPTH_SPAN` of the price.
    """
    net = forced.bought - forced.sold
    impact, start = (DEPTH_SPAN / depth)[:, None], net[:, len(steps) // 2 : len(steps) // 2 + 1]
    moved = np.tile(steps, (len(net), 1))
    moving = np.arange(len(net))  # underlyings that have not come to rest
    for _ in range(ROUNDS_MAX):
        before = moved[moving]
        pushed = steps + impact[moving] * (_between(steps, net[moving], before) - start[moving])
        further = np.where(steps < 0, np.minimum(pushed, before), np.maximum(pushed, before))
        moved[moving] = further
        moving = moving[(further != before).any(axis=1)]
        if not len(moving):
            break
    return np.where(moved <= -END_MAX, -np.inf, np.where(moved >= END_MAX, np.inf, moved))


def multipliers(ends: F8, steps: F8) -> F8:
    """Return how many times its size each move becomes; 1 at no move."""
    size = np.where(steps == 0, 1.0, steps)
    return np.where(steps == 0, 1.0, np.abs(ends / size))


def first_divergence(ends: F8, steps: F8) -> F8:
    """Return the smallest move at which each underlying does not come to rest, NaN where it always does."""
    size = np.where(np.isinf(ends), np.abs(steps), np.inf)
    at = size.argmin(axis=1)
    return np.where(np.isinf(ends).any(axis=1), steps[at], np.nan)


def depths(known: F8, exposed: F8) -> tuple[F8, NDArray[np.bool_]]:
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


def _gathered(underlying: I8, place: I8, weight: F8, underlyings: int, count: int) -> F8:
    """Return the weights by underlying and place, 0 to ``count``."""
    width = count + 1
    sums = np.bincount(underlying * width + place, weight, underlyings * width)
    return np.asarray(sums.reshape(underlyings, width))


def _between(steps: F8, rows: F8, moved: F8) -> F8:
    """Return rows at moves between their steps, and at their ends beyond them; one row of moves for each."""
    at = np.clip(np.searchsorted(steps, moved, side="right") - 1, 0, len(steps) - 2)
    part = np.clip((moved - steps[at]) / (steps[at + 1] - steps[at]), 0.0, 1.0)
    low, high = (np.take_along_axis(rows, place, axis=1) for place in (at, at + 1))
    return np.asarray(low + part * (high - low))
