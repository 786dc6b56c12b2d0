"""The formulas of SA-CCR, one function per paragraph of CRE52, elementwise over numbers or arrays.

The document path (``saccr``) calls them with numbers and the book with whole columns, so that both give the same bits.
Amounts are in one currency, times in years, rates and volatilities fractions. Nothing here validates its input.

References
----------
Basel Framework CRE52 (version effective 1 January 2023); the paragraph stands in each docstring.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seawall.operators.core.saccr.saccr_parameters import (
    ALPHA,
    BUSINESS_DAYS_PER_YEAR,
    DURATION_RATE,
    MATURITY_FLOOR_DAYS,
    MULTIPLIER_FLOOR,
)
from seawall.operators.core.valuation.arithmetic import exp, log
from seawall.operators.core.valuation.normal import normal_cdf

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]


def supervisory_duration(start: ArrayLike, end: ArrayLike) -> F8:
    """Return the supervisory duration in years, floored at ten business days (CRE52.34).

    Examples
    --------
    >>> round(float(supervisory_duration(0.0, 10.0)), 6)
    7.869387
    """
    begun = np.maximum(start, 0.0)
    duration = (exp(-DURATION_RATE * begun) - exp(-DURATION_RATE * np.asarray(end, np.float64))) / DURATION_RATE
    return np.maximum(duration, MATURITY_FLOOR_DAYS / BUSINESS_DAYS_PER_YEAR)


def option_delta(
    price: ArrayLike, strike: ArrayLike, volatility: ArrayLike, expiry: ArrayLike, call: ArrayLike, bought: ArrayLike
) -> F8:
    """Return the supervisory delta of an option (CRE52.40); ``call`` and ``bought`` are booleans.

    Examples
    --------
    >>> round(float(option_delta(0.06, 0.05, 0.5, 1.0, False, True)), 4)
    -0.2694
    """
    spread = np.asarray(volatility, np.float64) * np.sqrt(np.asarray(expiry, np.float64))
    score = log(np.asarray(price, np.float64) / np.asarray(strike, np.float64)) / spread + 0.5 * spread
    long = np.where(call, 1.0, -1.0)
    held = np.where(bought, 1.0, -1.0)
    delta: F8 = long * held * normal_cdf(long * score)
    return delta


def tranche_delta(attachment: ArrayLike, detachment: ArrayLike, bought: ArrayLike) -> F8:
    """Return the supervisory delta of a CDO tranche, positive where protection is bought (CRE52.41).

    Examples
    --------
    >>> float(tranche_delta(0.0, 0.0, False))
    -15.0
    """
    below = 1.0 + 14.0 * np.asarray(attachment, np.float64)
    above = 1.0 + 14.0 * np.asarray(detachment, np.float64)
    delta: F8 = np.where(bought, 1.0, -1.0) * (15.0 / (below * above))
    return delta


def maturity_factor(maturity: ArrayLike) -> F8:
    """Return the maturity factor of an unmargined trade (CRE52.48).

    A contract that is settled, and so reset to value 0, every day has the smallest maturity (CRE52.32 FAQ 1).
    """
    floor = MATURITY_FLOOR_DAYS / BUSINESS_DAYS_PER_YEAR
    return np.sqrt(np.minimum(np.maximum(maturity, floor), 1.0))


def margined_maturity_factor(margin_period_days: ArrayLike) -> F8:
    """Return the maturity factor of a margined trade (CRE52.52)."""
    factor: F8 = 1.5 * np.sqrt(np.asarray(margin_period_days, np.float64) / BUSINESS_DAYS_PER_YEAR)
    return factor


def replacement_cost(value: ArrayLike, collateral: ArrayLike) -> F8:
    """Return the replacement cost of an unmargined netting set (CRE52.10)."""
    return np.maximum(np.subtract(value, collateral, dtype=np.float64), 0.0)


def margined_replacement_cost(
    value: ArrayLike,
    collateral: ArrayLike,
    threshold: ArrayLike,
    minimum_transfer_amount: ArrayLike,
    net_independent_amount: ArrayLike,
) -> F8:
    """Return the replacement cost of a margined netting set (CRE52.18).

    Examples
    --------
    >>> float(margined_replacement_cost(80.0, 79.5, 0.0, 1.0, 0.0))
    1.0
    """
    uncalled = np.add(threshold, minimum_transfer_amount, dtype=np.float64)
    cost: F8 = np.maximum(replacement_cost(value, collateral), np.subtract(uncalled, net_independent_amount))
    return cost


def joint_replacement_cost(values: F8, collateral: float) -> float:
    """Return the replacement cost of netting sets that share one margin agreement (CRE52.75)."""
    owed = float(np.add.accumulate(np.maximum(values, 0.0))[-1])
    owing = float(np.add.accumulate(np.minimum(values, 0.0))[-1])
    return max(owed - max(collateral, 0.0), 0.0) + max(owing - min(collateral, 0.0), 0.0)


def pfe_multiplier(value: ArrayLike, collateral: ArrayLike, add_on: ArrayLike) -> F8:
    """Return what excess collateral and negative value leave of the add-on, in [0.05, 1] (CRE52.23).

    Examples
    --------
    >>> round(float(pfe_multiplier(-20.0, 0.0, 282.1288318596666)), 6)
    0.965208
    """
    surplus = np.minimum(np.subtract(value, collateral, dtype=np.float64), 0.0)
    width = 2.0 * (1.0 - MULTIPLIER_FLOOR) * np.asarray(add_on, np.float64)
    with np.errstate(divide="ignore"):
        exponent = np.divide(surplus, width, out=np.where(surplus < 0, -np.inf, 0.0), where=width > 0)
    multiplier: F8 = np.minimum(1.0, MULTIPLIER_FLOOR + (1.0 - MULTIPLIER_FLOOR) * exp(exponent))
    return multiplier


def exposure(replacement: ArrayLike, potential: ArrayLike) -> F8:
    """Return the exposure at default of replacement cost and potential future exposure (CRE52.1)."""
    return ALPHA * np.add(replacement, potential, dtype=np.float64)


def pair_add_ons(netting_set: I8, pair: I8, effective_notional: F8, factor: ArrayLike, sets: int) -> F8:
    """Return the add-on of each netting set in a class with one hedging set per pair (FX: CRE52.59; crypto: OSFI 4.2).

    Parameters
    ----------
    netting_set, pair : int64, shape (trades,)
        Numbers of the netting set (below ``sets``) and of the pair; any order.
    effective_notional : float64, shape (trades,)
        Adjusted notional x delta x maturity factor.
    factor
        Supervisory factor, one for all.

    Returns
    -------
    float64, shape (sets,)

    Examples
    --------
    >>> pair_add_ons(np.array([0, 0, 0]), np.array([7, 7, 9]), np.array([100.0, -40.0, -5.0]), 0.4, 2).tolist()
    [26.0, 0.0]
    """
    keys = (netting_set << 32) | pair
    hedging_sets, member = np.unique(keys, return_inverse=True)
    net = np.bincount(member, weights=effective_notional, minlength=len(hedging_sets))
    return np.bincount(hedging_sets >> 32, weights=np.abs(net) * factor, minlength=sets).astype(np.float64)
