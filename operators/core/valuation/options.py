"""European options on a forward: value, greeks and settlement, in quote currency and in coin.

An option is valued by Black-76 on its own forward, never on the index: the forward of an expiry months away stands
percents above or below it. Coin-settled (inverse) options are quoted as value / forward coins per unit of underlying,
and pay ``max(S - K, 0) / S`` coins, as on Deribit.

Units
-----
Forward, strike and value: quote currency per unit of underlying. Expiry: years. Volatility: a fraction per year^½
(0.6, not 60). Delta: value per unit of forward. Gamma: delta per unit of forward. Vega: value per 1.00 of volatility
(a hundredth of it per volatility point). Theta: value per year of passing time at the same forward (a 365th per day).
All per unit of underlying, long one option.

Every function is elementwise over arrays that broadcast; NaN in (a mark that is missing) is NaN out, so the caller
keeps the state of the mark and masks by it.

References
----------
F. Black, "The pricing of commodity contracts", Journal of Financial Economics 3 (1976). Deribit, "Inverse options"
(settlement in coin, mark price in coin).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seawall.operators.core.valuation.arithmetic import exp, log
from seawall.operators.core.valuation.normal import normal_cdf, normal_density

F8 = NDArray[np.float64]
DAYS_PER_YEAR = 365.0
MICROSECONDS_PER_YEAR = DAYS_PER_YEAR * 86_400e6


class Valuation(NamedTuple):
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


def black(
    forward: ArrayLike,
    strike: ArrayLike,
    expiry: ArrayLike,
    volatility: ArrayLike,
    call: ArrayLike,
    rate: ArrayLike = 0.0,
) -> Valuation:
    """Return value and greeks of European options in quote currency; parameters as in :func:`black_value`.

    An option at or past its expiry, or without volatility, has the delta of its payoff and no other greek.

    Examples
    --------
    >>> valuation = black(100.0, 100.0, 1.0, 0.2, False)
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
    return Valuation(value, discount * sign * near, gamma, f * density * root, theta)


def in_coin(valuation: Valuation, forward: ArrayLike) -> Valuation:
    """Return value and greeks of coin-settled options: derivatives of value / forward, in coin.

    ``delta`` is coin per quote-currency unit of forward. ``forward * delta`` is the premium-adjusted delta in coins:
    what is left of the exposure when the premium itself lies in coin.

    Examples
    --------
    >>> round(float(in_coin(black(100.0, 80.0, 0.0, 0.5, True), 100.0).value), 12)
    0.2
    """
    f = np.asarray(forward, np.float64)
    value = valuation.value / f
    delta = (valuation.delta - value) / f
    gamma = (valuation.gamma - 2.0 * delta) / f
    return Valuation(value, delta, gamma, valuation.vega / f, valuation.theta / f)


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
    discount = np.asarray(exp(-np.asarray(rate, np.float64) * left))
    spread = np.asarray(volatility, np.float64) * np.sqrt(left)
    with np.errstate(divide="ignore", invalid="ignore"):
        moneyness = np.asarray(log(f / k))
        certain = np.where(moneyness > 0, np.inf, np.where(moneyness < 0, -np.inf, 0.0 * moneyness))
        score = np.where(spread > 0, moneyness / spread, certain + 0.0 * spread)
        return f, k, t, sign, discount, score + 0.5 * spread, score - 0.5 * spread
