"""Implied volatility from option marks: bracketed, vectorised, and independent of what else is in the array.

Newton's method on the logarithm of the out-of-the-money value, which is nearly straight where the plain value is flat,
kept inside a bracket that halves whenever a step would leave it, until the value is the mark's up to its own rounding.
An element that has converged is frozen, so its bits do not depend on its neighbours.

A mark can have no volatility at all; then the answer is a state, never a number that looks like one.

References
----------
S. Manaster and G. Koehler, "The calculation of implied variances from the Black-Scholes model", Journal of Finance 37
(1982): the starting point. P. Jäckel, "By implication", Wilmott (2006): the logarithm.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seawall.operators.core.valuation.arithmetic import exp, log
from seawall.operators.core.valuation.normal import normal_cdf, normal_density

F8 = NDArray[np.float64]
VOLATILITY_MIN = 1e-4
VOLATILITY_MAX = 50.0  # 5,000 % a year; crypto options have been quoted above 1,000 %
ROUNDS_MAX = 100  # bisection alone needs 60; Newton 4 to 8
STEP_MIN = 1e-15  # relative
ROUNDING = 1e-15  # of the larger of the two terms of a value: closer to the mark than this is chance


class MarkState(IntEnum):
    """Why a mark has, or has not, an implied volatility."""

    OK = 0
    MISSING = 1  # mark, forward, strike or expiry is NaN, or not above 0
    BELOW_INTRINSIC = 2  # no time value: nothing to invert
    ABOVE_BOUND = 3  # at least the forward (call) or the strike (put)
    OUT_OF_RANGE = 4  # below VOLATILITY_MIN or above VOLATILITY_MAX


class Implied(NamedTuple):
    """Volatilities (fractions per year^½, NaN where there is none) and the state of each mark."""

    volatility: F8
    state: NDArray[np.int8]


def implied_volatility(
    value: ArrayLike, forward: ArrayLike, strike: ArrayLike, expiry: ArrayLike, call: ArrayLike, rate: ArrayLike = 0.0
) -> Implied:
    """Return the volatility at which Black-76 gives ``value``.

    Parameters
    ----------
    value
        Mark in quote currency per unit of underlying; a mark in coin times its forward.
    forward, strike, expiry, call, rate
        As in ``options.black_value``; the expiry above 0.

    Returns
    -------
    Implied
        With the shape of the broadcast arguments. Reproduces ``value`` to about 1e-14 of the forward; where that leaves
        the volatility open (deep in or out of the money), it is one of those that do.

    Examples
    --------
    >>> volatility, state = implied_volatility([7.965567455405804, 0.0], 100.0, 100.0, 1.0, True)
    >>> round(float(volatility[0]), 9), state.tolist()
    (0.2, [0, 2])
    """
    arrays = np.broadcast_arrays(value, forward, strike, expiry, call, rate)
    mark, f, k, t, years_rate = (np.asarray(arrays[i], np.float64).reshape(-1) for i in (0, 1, 2, 3, 5))
    is_call = np.asarray(arrays[4], np.bool_).reshape(-1)
    with np.errstate(all="ignore"):
        present = np.isfinite(mark) & (f > 0) & (k > 0) & (t > 0) & np.isfinite(f + k + t + years_rate)
        undiscounted = mark / np.asarray(exp(-years_rate * t))
        payoff = np.maximum(np.where(is_call, f - k, k - f), 0.0)
        # by parity the time value is that of the out-of-the-money side; scaled by sqrt(FK) it depends on x and s only
        scale = np.sqrt(f * k)
        target = (undiscounted - payoff) / scale
        x = -np.abs(np.asarray(log(f / k)))
        state = np.full(mark.shape, MarkState.OK, np.int8)
        state[undiscounted >= np.where(is_call, f, k)] = MarkState.ABOVE_BOUND
        state[target <= 0] = MarkState.BELOW_INTRINSIC
        state[~present] = MarkState.MISSING
        root = np.sqrt(t)
        low, high = VOLATILITY_MIN * root, VOLATILITY_MAX * root
        outside = (target < _scaled(x, low)[0]) | (target > _scaled(x, high)[0])
        state[(state == MarkState.OK) & outside] = MarkState.OUT_OF_RANGE
        volatility = np.full(mark.shape, np.nan)
        at = np.flatnonzero(state == MarkState.OK)
        volatility[at] = _solve(target[at], x[at], low[at], high[at]) / root[at]
    shape = arrays[0].shape
    return Implied(volatility.reshape(shape), state.reshape(shape))


def _scaled(x: F8, s: F8) -> tuple[F8, F8, F8]:
    """Return the out-of-the-money value over sqrt(FK), its slope in ``s`` and its rounding error.

    ``x <= 0`` is the log-moneyness and ``s`` the total volatility.
    """
    d1 = x / s + 0.5 * s
    half = np.asarray(exp(0.5 * x))
    near = half * np.asarray(normal_cdf(d1))
    value = near - np.asarray(normal_cdf(d1 - s)) / half
    return np.maximum(value, 0.0), half * np.asarray(normal_density(d1)), ROUNDING * near


def _solve(target: F8, x: F8, low: F8, high: F8) -> F8:
    """Return the total volatilities with the scaled values ``target``, each inside its bracket."""
    low, high = low.copy(), high.copy()
    s = np.minimum(
        np.maximum(np.sqrt(-2.0 * x), np.maximum(2.5 * target, low)), high
    )  # the inflection, or near the money
    open_ = np.arange(len(s))
    for _ in range(ROUNDS_MAX):
        if not len(open_):
            break
        here, aim = s[open_], target[open_]
        value, slope, rounding = _scaled(x[open_], here)
        below = value < aim
        low[open_] = np.where(below, here, low[open_])
        high[open_] = np.where(below, high[open_], here)
        step = np.asarray(log(value / aim)) * (value / slope)
        candidate = here - step
        inside = (candidate > low[open_]) & (candidate < high[open_])
        following = np.where(inside, candidate, 0.5 * (low[open_] + high[open_]))
        found = np.abs(value - aim) <= rounding
        s[open_] = np.where(found, here, following)
        open_ = open_[~found & (np.abs(following - here) > STEP_MIN * here)]
    return s
