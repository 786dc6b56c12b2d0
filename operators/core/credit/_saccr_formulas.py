"""Formulas of SA-CCR, one function per paragraph of CRE52, and the add-ons of a netting set's trades.

The document path (`exposure_at_default`) calls the formulas with numbers and the credit book with whole columns, so
that both give the same bits.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seawall.operators.core.base import exp, log, normal_cdf
from seawall.operators.core.credit._saccr_inputs import (
    ADJACENT_BUCKETS,
    ALPHA,
    BASIS_FACTOR,
    BUSINESS_DAYS_PER_YEAR,
    DIGITAL_COLLAR,
    DISTANT_BUCKETS,
    DURATION_RATE,
    MATURITY_FLOOR_DAYS,
    MULTIPLIER_FLOOR,
    SUPERVISORY,
    VOLATILITY_FACTOR,
    CryptoRegime,
    OptionTerms,
    SaccrTrade,
    SupervisoryRow,
)

# The formulas of SA-CCR, one function per paragraph of CRE52, elementwise over numbers or arrays.
#
# The document path (`exposure_at_default`) calls them with numbers and the book with whole columns, so that both give
# the same bits. Amounts are in one currency, times in years, rates and volatilities fractions. Nothing here validates
# its input.
#
# References
# ----------
# Basel Framework CRE52 (version effective 1 January 2023); the paragraph stands in each docstring.

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


# From trades to the add-ons of a netting set: effective notionals, hedging sets, asset classes (CRE52.30-52.73).
#
# Sums run in the order of the trades and the hedging sets in the order of their first trade, so equal input gives equal
# bits. The names of the intermediates are those of ``vectors/saccr_examples.json``: ``IR.USD.effective_notional``,
# ``CR.Firm A.addon``, ``CO.Energy.addon``; basis and volatility sets carry ``.basis:NAME`` and ``.volatility``.

SET_FACTORS = {"plain": 1.0, "basis": BASIS_FACTOR, "volatility": VOLATILITY_FACTOR}


@dataclass(frozen=True, slots=True)
class SizedTrade:
    """A trade with what the add-on needs; ``duration`` in years, None for classes that have a price instead."""

    trade: SaccrTrade
    duration: float | None
    adjusted: float
    delta: float
    maturity_factor: float
    effective: float
    factor: float
    correlation: float


@dataclass(frozen=True, slots=True)
class AddOns:
    """The add-ons of one netting set, in its currency, and every step on the way."""

    total: float
    by_class: dict[str, float]
    intermediates: dict[str, float | list[float]]


def size_trade(trade: SaccrTrade, maturity_factor: float, regime: CryptoRegime) -> SizedTrade:
    """Return a trade's adjusted notional, supervisory delta and effective notional (CRE52.30-52.43)."""
    row = regime.parameters if trade.asset_class == "CRYPTO" else SUPERVISORY[trade.asset_class, trade.subclass]
    factor = row.factor * SET_FACTORS[trade.transaction]
    duration = None
    adjusted = trade.notional
    if trade.asset_class in ("IR", "CR"):
        duration = float(supervisory_duration(trade.start, trade.end))
        adjusted = trade.notional * duration
    delta = _delta(trade, row)
    effective = adjusted * delta * maturity_factor
    if trade.option is not None and trade.option.digital_payoff is not None:
        cap = trade.option.digital_payoff / factor  # CRE52.42(3)
        effective = min(max(effective, -cap), cap)
    return SizedTrade(trade, duration, adjusted, delta, maturity_factor, effective, factor, row.correlation)


def aggregate_add_ons(sized: Iterable[SizedTrade], bucket_offset: bool = True) -> AddOns:
    """Return the add-ons of the trades of one netting set.

    Parameters
    ----------
    sized
        Its trades.
    bucket_offset
        Whether long and short positions offset across maturity buckets of interest rates (CRE52.57(5)).
    """
    sets: dict[tuple[str, str], list[SizedTrade]] = {}
    for one in sized:
        sets.setdefault((one.trade.asset_class, _set_name(one.trade)), []).append(one)
    by_class: dict[str, float] = {}
    steps: dict[str, float | list[float]] = {}
    for (asset_class, name), members in sets.items():
        if asset_class == "IR":
            add_on = _rates(name, members, bucket_offset, steps)
        elif asset_class in ("FX", "CRYPTO"):
            add_on = _pair(name, members, steps)
        else:
            add_on = _single_factor(name, members, steps)
        by_class[asset_class] = by_class.get(asset_class, 0.0) + add_on
    total = 0.0
    for add_on in by_class.values():
        total += add_on
    return AddOns(total, by_class, steps)


def _delta(trade: SaccrTrade, row: SupervisoryRow) -> float:
    if trade.tranche is not None:
        return float(tranche_delta(*trade.tranche, trade.long))
    if trade.option is None:
        return 1.0 if trade.long else -1.0
    option = trade.option
    if option.digital_payoff is None:
        return _option_delta(option, row, 1.0, option.bought)
    # a digital is a collar: the leg nearer to the money as bought (or sold), the other one against it
    low, high = DIGITAL_COLLAR
    near, far = (low, high) if option.call else (high, low)
    return _option_delta(option, row, near, option.bought) + _option_delta(option, row, far, not option.bought)


def _option_delta(option: OptionTerms, row: SupervisoryRow, moneyness: float, bought: bool) -> float:
    volatility = row.volatility if option.volatility is None else option.volatility
    price, strike = option.price + option.shift, option.strike * moneyness + option.shift
    return float(option_delta(price, strike, volatility, option.expiry, option.call, bought))


def _set_name(trade: SaccrTrade) -> str:
    """Return the name of a trade's hedging set (CRE52.45-52.47)."""
    name = f"{trade.asset_class}.{trade.hedging_set}" if trade.hedging_set else trade.asset_class
    if trade.transaction == "basis":
        return f"{name}.basis:{trade.basis}"
    return f"{name}.volatility" if trade.transaction == "volatility" else name


def _rates(name: str, members: list[SizedTrade], offset: bool, steps: dict[str, float | list[float]]) -> float:
    """CRE52.57: three maturity buckets that offset in part."""
    buckets = [0.0, 0.0, 0.0]
    for one in members:
        buckets[0 if one.trade.end < 1.0 else 1 if one.trade.end <= 5.0 else 2] += one.effective
    short, middle, long = buckets
    if offset:
        squares = short * short + middle * middle + long * long
        adjacent = ADJACENT_BUCKETS * short * middle + ADJACENT_BUCKETS * middle * long
        effective = math.sqrt(max(squares + adjacent + DISTANT_BUCKETS * short * long, 0.0))
    else:
        effective = abs(short) + abs(middle) + abs(long)
    steps[f"{name}.buckets"], steps[f"{name}.effective_notional"] = buckets, effective
    steps[f"{name}.addon"] = add_on = members[0].factor * effective
    return add_on


def _pair(name: str, members: list[SizedTrade], steps: dict[str, float | list[float]]) -> float:
    """CRE52.59: longs and shorts of one pair offset fully."""
    effective = 0.0
    for one in members:
        effective += one.effective
    steps[f"{name}.effective_notional"] = effective
    steps[f"{name}.addon"] = add_on = members[0].factor * abs(effective)
    return add_on


def _single_factor(name: str, members: list[SizedTrade], steps: dict[str, float | list[float]]) -> float:
    """CRE52.61, 52.66 and 52.70: full offset per entity, offset by correlation between entities."""
    entities: dict[str, float] = {}
    rows: dict[str, SizedTrade] = {}
    for one in members:
        entities[one.trade.entity] = entities.get(one.trade.entity, 0.0) + one.effective
        rows[one.trade.entity] = one
    systematic = idiosyncratic = 0.0
    for entity, effective in entities.items():
        row = rows[entity]
        add_on = row.factor * effective
        steps[f"{name}.{entity}.effective_notional"], steps[f"{name}.{entity}.addon"] = effective, add_on
        systematic += row.correlation * add_on
        idiosyncratic += (1.0 - row.correlation * row.correlation) * (add_on * add_on)
    steps[f"{name}.systematic_sq"], steps[f"{name}.idiosyncratic"] = systematic * systematic, idiosyncratic
    steps[f"{name}.addon"] = total = math.sqrt(systematic * systematic + idiosyncratic)
    return total
