"""From trades to the add-ons of a netting set: effective notionals, hedging sets, asset classes (CRE52.30-52.73).

Sums run in the order of the trades and the hedging sets in the order of their first trade, so equal input gives equal
bits. The names of the intermediates are those of ``vectors/saccr_examples.json``: ``IR.USD.effective_notional``,
``CR.Firm A.addon``, ``CO.Energy.addon``; basis and volatility sets carry ``.basis:NAME`` and ``.volatility``.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from seawall.operators.core.saccr import saccr_formulas as formulas
from seawall.operators.core.saccr.saccr_document import Option, Trade
from seawall.operators.core.saccr.saccr_parameters import (
    ADJACENT_BUCKETS,
    BASIS_FACTOR,
    DIGITAL_COLLAR,
    DISTANT_BUCKETS,
    SUPERVISORY,
    VOLATILITY_FACTOR,
    CryptoRegime,
    Supervisory,
)

SET_FACTORS = {"plain": 1.0, "basis": BASIS_FACTOR, "volatility": VOLATILITY_FACTOR}


@dataclass(frozen=True, slots=True)
class Sized:
    """A trade with what the add-on needs; ``duration`` in years, None for classes that have a price instead."""

    trade: Trade
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


def size_trade(trade: Trade, maturity_factor: float, regime: CryptoRegime) -> Sized:
    """Return a trade's adjusted notional, supervisory delta and effective notional (CRE52.30-52.43)."""
    row = regime.parameters if trade.asset_class == "CRYPTO" else SUPERVISORY[trade.asset_class, trade.subclass]
    factor = row.factor * SET_FACTORS[trade.transaction]
    duration = None
    adjusted = trade.notional
    if trade.asset_class in ("IR", "CR"):
        duration = float(formulas.supervisory_duration(trade.start, trade.end))
        adjusted = trade.notional * duration
    delta = _delta(trade, row)
    effective = adjusted * delta * maturity_factor
    if trade.option is not None and trade.option.digital_payoff is not None:
        cap = trade.option.digital_payoff / factor  # CRE52.42(3)
        effective = min(max(effective, -cap), cap)
    return Sized(trade, duration, adjusted, delta, maturity_factor, effective, factor, row.correlation)


def aggregate(sized: Iterable[Sized], bucket_offset: bool = True) -> AddOns:
    """Return the add-ons of the trades of one netting set.

    Parameters
    ----------
    sized
        Its trades.
    bucket_offset
        Whether long and short positions offset across maturity buckets of interest rates (CRE52.57(5)).
    """
    sets: dict[tuple[str, str], list[Sized]] = {}
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


def _delta(trade: Trade, row: Supervisory) -> float:
    if trade.tranche is not None:
        return float(formulas.tranche_delta(*trade.tranche, trade.long))
    if trade.option is None:
        return 1.0 if trade.long else -1.0
    option = trade.option
    if option.digital_payoff is None:
        return _option_delta(option, row, 1.0, option.bought)
    # a digital is a collar: the leg nearer to the money as bought (or sold), the other one against it
    low, high = DIGITAL_COLLAR
    near, far = (low, high) if option.call else (high, low)
    return _option_delta(option, row, near, option.bought) + _option_delta(option, row, far, not option.bought)


def _option_delta(option: Option, row: Supervisory, moneyness: float, bought: bool) -> float:
    volatility = row.volatility if option.volatility is None else option.volatility
    price, strike = option.price + option.shift, option.strike * moneyness + option.shift
    return float(formulas.option_delta(price, strike, volatility, option.expiry, option.call, bought))


def _set_name(trade: Trade) -> str:
    """Return the name of a trade's hedging set (CRE52.45-52.47)."""
    name = f"{trade.asset_class}.{trade.hedging_set}" if trade.hedging_set else trade.asset_class
    if trade.transaction == "basis":
        return f"{name}.basis:{trade.basis}"
    return f"{name}.volatility" if trade.transaction == "volatility" else name


def _rates(name: str, members: list[Sized], offset: bool, steps: dict[str, float | list[float]]) -> float:
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


def _pair(name: str, members: list[Sized], steps: dict[str, float | list[float]]) -> float:
    """CRE52.59: longs and shorts of one pair offset fully."""
    effective = 0.0
    for one in members:
        effective += one.effective
    steps[f"{name}.effective_notional"] = effective
    steps[f"{name}.addon"] = add_on = members[0].factor * abs(effective)
    return add_on


def _single_factor(name: str, members: list[Sized], steps: dict[str, float | list[float]]) -> float:
    """CRE52.61, 52.66 and 52.70: full offset per entity, offset by correlation between entities."""
    entities: dict[str, float] = {}
    rows: dict[str, Sized] = {}
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
