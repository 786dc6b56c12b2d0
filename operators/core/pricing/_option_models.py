"""Option models: Black-76 values and greeks of European options, and the volatility that a mark implies.

Every function is elementwise over arrays that broadcast. NaN in (a mark that is missing) is NaN out, so the caller
keeps the state of the mark and masks by it.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seawall.operators.core.base import exp, log, normal_cdf, normal_density

# European options on a forward: value, greeks and settlement, in quote currency and in coin.
#
# An option is valued by Black-76 on its own forward, never on the index: the forward of an expiry months away stands
# percents above or below it. Coin-settled (inverse) options are quoted as value / forward coins per unit of underlying,
# and pay ``max(S - K, 0) / S`` coins, as on Deribit.
#
# Units
# -----
# Forward, strike and value: quote currency per unit of underlying. Expiry: years. Volatility: a fraction per year^½
# (0.6, not 60). Delta: value per unit of forward. Gamma: delta per unit of forward. Vega: value per 1.00 of volatility
# (a hundredth of it per volatility point). Theta: value per year of passing time at the same forward (a 365th per day).
# All per unit of underlying, long one option.
#
# Every function is elementwise over arrays that broadcast; NaN in (a mark that is missing) is NaN out, so the caller
# keeps the state of the mark and masks by it.
#
# References
# ----------
# F. Black, "The pricing of commodity contracts", Journal of Financial Economics 3 (1976). Deribit, "Inverse options"
# (settlement in coin, mark price in coin).

F8 = NDArray[np.float64]
DAYS_PER_YEAR = 365.0
MICROSECONDS_PER_YEAR = DAYS_PER_YEAR * 86_400e6


class OptionValuation(NamedTuple):
    """Value and greeks of one unit of each option, in the units of the module."""

    value: F8
    delta: F8
    gamma: F8
    vega: F8
    theta: F8


def black_value(
    forward: ArrayLike,
    strike: ArrayLike,
    expiry: ArrayLike,
    volatility: ArrayLike,
    call: ArrayLike,
    rate: ArrayLike = 0.0,
) -> F8:
    """Return the value of European options in quote currency.

    Parameters
    ----------
    forward, strike
        Above 0.
    expiry
        Years to expiry; at 0 and below the value is what settlement at the forward would pay.
    volatility
        At 0 the value is the discounted payoff at the forward.
    call
        True for calls, False for puts.
    rate
        Continuously compounded discount rate per year; 0 for options without an upfront discount, as on Deribit.

    Examples
    --------
    >>> round(float(black_value(100.0, 100.0, 1.0, 0.2, True)), 6)
    7.965567
    """
    f, k, _, sign, discount, d1, d2 = _terms(forward, strike, expiry, volatility, call, rate)
    near, far = _chances(sign, d1, d2)
    value: F8 = np.maximum(discount * sign * (f * near - k * far), 0.0)
    return value


def black_valuation(
    forward: ArrayLike,
    strike: ArrayLike,
    expiry: ArrayLike,
    volatility: ArrayLike,
    call: ArrayLike,
    rate: ArrayLike = 0.0,
) -> OptionValuation:
    """Return value and greeks of European options in quote currency; parameters as in :func:`black_value`.

    An option at or past its expiry, or without volatility, has the delta of its payoff and no other greek.

    Examples
    --------
    >>> valuation = black_valuation(100.0, 100.0, 1.0, 0.2, False)
    >>> round(float(valuation.delta), 6), round(float(valuation.vega), 6)
    (-0.460172, 39.695255)
    """
    f, k, t, sign, discount, d1, d2 = _terms(forward, strike, expiry, volatility, call, rate)
    near, far = _chances(sign, d1, d2)
    value = np.maximum(discount * sign * (f * near - k * far), 0.0)
    root = np.sqrt(np.maximum(t, 0.0))
    spread = np.asarray(volatility, np.float64) * root
    density = np.where(spread > 0, discount * np.asarray(normal_density(d1)), 0.0 * value)
    with np.errstate(divide="ignore", invalid="ignore"):
        gamma = np.where(spread > 0, density / (f * spread), 0.0 * value)
        decay = np.where(spread > 0, f * density * np.asarray(volatility) / (2.0 * root), 0.0 * value)
    theta = np.where(t > 0, np.asarray(rate, np.float64) * value - decay, 0.0 * value)
    return OptionValuation(value, discount * sign * near, gamma, f * density * root, theta)


def settlement_value(price: ArrayLike, strike: ArrayLike, call: ArrayLike, inverse: ArrayLike = False) -> F8:
    """Return what one unit pays at expiry at settlement mark ``price``: quote currency, or coin where ``inverse``.

    Examples
    --------
    >>> settlement_value(50_000.0, [40_000.0, 60_000.0], [True, False], [False, True]).tolist()
    [10000.0, 0.2]
    """
    s = np.asarray(price, np.float64)
    payoff = np.maximum(np.where(call, 1.0, -1.0) * (s - np.asarray(strike, np.float64)), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        paid: F8 = np.where(inverse, payoff / s, payoff)
    return paid


def years_to_expiry(expiry_us: ArrayLike, as_of_us: ArrayLike) -> F8:
    """Return years of 365 days from ``as_of_us`` to ``expiry_us`` (microseconds), 0 past expiry."""
    left = np.subtract(expiry_us, as_of_us, dtype=np.int64)
    years: F8 = np.maximum(left, 0) / MICROSECONDS_PER_YEAR
    return years


def _chances(sign: F8, d1: F8, d2: F8) -> tuple[F8, F8]:
    """Return the two probabilities of a Black value: one call for both, since few options cost as much as many."""
    near, far = np.asarray(normal_cdf(np.stack([sign * d1, sign * d2])))
    return near, far


def _terms(
    forward: ArrayLike, strike: ArrayLike, expiry: ArrayLike, volatility: ArrayLike, call: ArrayLike, rate: ArrayLike
) -> tuple[F8, F8, F8, F8, F8, F8, F8]:
    """Return forward, strike, expiry, sign, discount factor, d1 and d2; the last two infinite without time value."""
    f, k = np.asarray(forward, np.float64), np.asarray(strike, np.float64)
    t = np.asarray(expiry, np.float64)
    sign: F8 = np.where(call, 1.0, -1.0)
    left = np.maximum(t, 0.0)
    discount = np.asarray(exp(-np.asarray(rate, np.float64) * left) if np.any(rate) else 1.0)
    spread = np.asarray(volatility, np.float64) * np.sqrt(left)
    with np.errstate(divide="ignore", invalid="ignore"):
        moneyness = np.asarray(log(f / k))
        certain = np.where(moneyness > 0, np.inf, np.where(moneyness < 0, -np.inf, 0.0 * moneyness))
        score = np.where(spread > 0, moneyness / spread, certain + 0.0 * spread)
        return f, k, t, sign, discount, score + 0.5 * spread, score - 0.5 * spread


# Implied volatility from option marks: bracketed, vectorised, and independent of what else is in the array.
#
# Newton's method on the logarithm of the out-of-the-money value, which is nearly straight where the plain value is
# flat, kept inside a bracket that halves whenever a step would leave it, until the value is the mark's up to its own
# rounding. An element that has converged is frozen, so its bits do not depend on its neighbours.
#
# A mark can have no volatility at all; then the answer is a state, never a number that looks like one.
#
# References
# ----------
# S. Manaster and G. Koehler, "The calculation of implied variances from the Black-Scholes model", Journal of Finance 37
# (1982): the starting point. P. Jäckel, "By implication", Wilmott (2006): the logarithm.

VOLATILITY_MIN = 1e-4
VOLATILITY_MAX = 50.0  # 5,000 % a year; crypto options have been quoted above 1,000 %
ROUNDS_MAX = 100  # bisection alone needs 60; Newton 4 to 8
STEP_MIN = 1e-15  # relative
ROUNDING = 1e-15  # of the larger of the two terms of a value: closer to the mark than this is chance


class MarkState(IntEnum):
    """State of a mark: it has an implied volatility, or the reason why not."""

    OK = 0
    MISSING = 1  # mark, forward, strike or expiry is NaN, or not above 0
    BELOW_INTRINSIC = 2  # no time value: nothing to invert
    ABOVE_BOUND = 3  # at least the forward (call) or the strike (put)
    OUT_OF_RANGE = 4  # below VOLATILITY_MIN or above VOLATILITY_MAX


class ImpliedVolatilities(NamedTuple):
    """Volatilities (fractions per year^½, NaN where there is none) and the state of each mark."""

    volatility: F8
    state: NDArray[np.int8]


def implied_volatility(
    value: ArrayLike, forward: ArrayLike, strike: ArrayLike, expiry: ArrayLike, call: ArrayLike, rate: ArrayLike = 0.0
) -> ImpliedVolatilities:
    """Return the volatility at which Black-76 gives ``value``.

    Parameters
    ----------
    value
        Mark in quote currency per unit of underlying; a mark in coin times its forward.
    forward, strike, expiry, call, rate
        As in `black_value`; the expiry above 0.

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
    return ImpliedVolatilities(volatility.reshape(shape), state.reshape(shape))


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
        next_guess = np.where(inside, candidate, 0.5 * (low[open_] + high[open_]))
        found = np.abs(value - aim) <= rounding
        s[open_] = np.where(found, here, next_guess)
        open_ = open_[~found & (np.abs(next_guess - here) > STEP_MIN * here)]
    return s
