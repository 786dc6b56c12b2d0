"""Formulas of SA-CCR, one function per paragraph of CRE52, and the add-ons of trades in hedging sets.

`exposure_at_default` calls them for the trades of a document, and the credit book for the positions of a shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seawall.operators.core.base import exp, log, normal_cdf, sum_by
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
# Amounts are in one currency, times in years, rates and volatilities fractions. Nothing here validates its input.
#
# References
# ----------
# Basel Framework CRE52 (version effective 1 January 2023); the paragraph stands in each docstring.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]


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


def replacement_cost(surplus: ArrayLike, uncalled: ArrayLike = 0.0) -> F8:
    """Return the replacement cost of netting sets (CRE52.10; margined CRE52.18).

    Parameters
    ----------
    surplus
        V - C: market value less collateral.
    uncalled
        TH + MTA - NICA of a margined set: what may stay uncalled; 0 for one that is not margined.

    Examples
    --------
    >>> float(replacement_cost(80.0 - 79.5, 0.0 + 1.0 - 0.0))
    1.0
    """
    cost: F8 = np.maximum(np.maximum(surplus, uncalled), 0.0)
    return cost


def joint_replacement_cost(values: F8, collateral: float) -> float:
    """Return the replacement cost of netting sets that share one margin agreement (CRE52.75)."""
    owed = float(np.add.accumulate(np.maximum(values, 0.0))[-1])
    owing = float(np.add.accumulate(np.minimum(values, 0.0))[-1])
    return max(owed - max(collateral, 0.0), 0.0) + max(owing - min(collateral, 0.0), 0.0)


def pfe_multiplier(surplus: ArrayLike, add_on: ArrayLike) -> F8:
    """Return what excess collateral and negative value leave of the add-on, in [0.05, 1] (CRE52.23).

    ``surplus`` is V - C.

    Examples
    --------
    >>> round(float(pfe_multiplier(-20.0, 282.1288318596666)), 6)
    0.965208
    """
    short = np.minimum(np.asarray(surplus, np.float64), 0.0)
    width = 2.0 * (1.0 - MULTIPLIER_FLOOR) * np.asarray(add_on, np.float64)
    with np.errstate(divide="ignore"):
        exponent = np.divide(short, width, out=np.where(short < 0, -np.inf, 0.0), where=width > 0)
    multiplier: F8 = np.minimum(1.0, MULTIPLIER_FLOOR + (1.0 - MULTIPLIER_FLOOR) * exp(exponent))
    return multiplier


def exposure(replacement: ArrayLike, potential: ArrayLike) -> F8:
    """Return the exposure at default of replacement cost and potential future exposure (CRE52.1)."""
    return ALPHA * np.add(replacement, potential, dtype=np.float64)


# Hedging sets: what nets fully is an entity, and the entities of a hedging set offset in part (CRE52.55-52.71).
#
# With ``A = factor x effective notional`` of an entity, the add-on of a hedging set is ``sqrt((sum r A)^2 + sum (1 -
# r^2) A^2)``. A pair is the one entity of its hedging set, with ``r = 1``, which makes that ``|A|``: one formula serves
# every class but interest rates, whose three maturity buckets have their own (CRE52.57).


class HedgingSets:
    """Hedging sets of any number of netting sets, and the entities in them.

    Attributes
    ----------
    of, factor, correlation
        By entity: its hedging set, supervisory factor and correlation (1 where the class has none).
    rates
        By hedging set: whether it is of interest rates.
    """

    def __init__(self, of: I8, factor: F8, correlation: F8, rates: B1) -> None:
        self.of, self.factor, self.rates = of, factor, rates
        self.correlation = np.where(correlation > 0, correlation, 1.0)
        self._some_rates = bool(rates.any())
        self._plain = not self._some_rates and len(of) == len(rates) and bool((self.correlation == 1.0).all())

    def parts(self, size: F8) -> tuple[F8, F8]:
        """Return the systematic part of each hedging set, not squared, and its idiosyncratic part (CRE52.61)."""
        of, r, count = self.of, self.correlation, len(self.rates)
        return sum_by(of, r * size, count), sum_by(of, (1.0 - r * r) * size * size, count)

    def add_ons(self, effective: F8, bucket: I8 | None, offset: bool = True) -> F8:
        """Return the add-on of every hedging set.

        Parameters
        ----------
        effective : float64, shape (entities,)
            Sum of the effective notionals of the trades of each entity, in one currency, either sign.
        bucket : int64, shape (entities,)
            Maturity buckets 0, 1 and 2, needed where a set is of interest rates.
        offset
            Whether long and short positions offset across these buckets (CRE52.57(5)).

        Examples
        --------
        >>> factor, correlation = np.array([0.32, 0.2, 0.4]), np.array([0.5, 0.8, 0.0])
        >>> sets = HedgingSets(np.array([0, 0, 1]), factor, correlation, np.zeros(2, dtype=bool))
        >>> sets.add_ons(np.array([100.0, -100.0, -5.0]), None).round(6).tolist()
        [30.199338, 2.0]
        """
        size = effective * self.factor
        if self._plain:
            return np.abs(size)
        systematic, own = self.parts(size)
        total = np.sqrt(systematic * systematic + own)
        if self._some_rates and bucket is not None:
            total = np.where(self.rates, self._rates(size, bucket, offset), total)
        return total

    def _rates(self, size: F8, bucket: I8, offset: bool) -> F8:
        """Return the add-ons as of interest rates: three buckets that offset in part (CRE52.57)."""
        short, middle, long = (sum_by(self.of, np.where(bucket == at, size, 0.0), len(self.rates)) for at in range(3))
        if not offset:
            return np.abs(short) + np.abs(middle) + np.abs(long)
        squares = short * short + middle * middle + long * long
        adjacent = ADJACENT_BUCKETS * (short * middle + middle * long)
        return np.sqrt(np.maximum(squares + adjacent + DISTANT_BUCKETS * short * long, 0.0))


def maturity_bucket(years: ArrayLike) -> I8:
    """Return the maturity bucket of interest rates: below one year 0, up to five 1, beyond 2 (CRE52.57)."""
    end = np.asarray(years, np.float64)
    return (end >= 1.0).astype(np.int64) + (end > 5.0)


def supervisory_row(asset_class: str, subclass: str, regime: CryptoRegime) -> SupervisoryRow:
    """Return the supervisor's parameters of a risk factor (CRE52.72; those of crypto assets are the regime's)."""
    if asset_class == "CRYPTO":
        return regime.parameters
    return SUPERVISORY[asset_class, subclass if asset_class not in ("FX", "IR") else ""]


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
    row: SupervisoryRow


@dataclass(frozen=True, slots=True)
class AddOns:
    """The add-ons of one netting set, in its currency, and every step on the way."""

    total: float
    by_class: dict[str, float]
    intermediates: dict[str, float | list[float]]


def size_trade(trade: SaccrTrade, maturity_factor: float, regime: CryptoRegime) -> SizedTrade:
    """Return a trade's adjusted notional, supervisory delta and effective notional (CRE52.30-52.43)."""
    row = supervisory_row(trade.asset_class, trade.subclass, regime)
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
    return SizedTrade(trade, duration, adjusted, delta, maturity_factor, effective, factor, row)


def aggregate_add_ons(sized: Sequence[SizedTrade], bucket_offset: bool = True) -> AddOns:
    """Return the add-ons of the trades of one netting set.

    Parameters
    ----------
    sized
        Its trades.
    bucket_offset
        Whether long and short positions offset across maturity buckets of interest rates (CRE52.57(5)).
    """
    names: dict[tuple[str, str], int] = {}
    entities: dict[tuple[int, str, int], int] = {}
    of_trade, first = [], list[SizedTrade]()
    for one in sized:
        trade, place = one.trade, (one.trade.asset_class, _set_name(one.trade))
        bucket = int(maturity_bucket(trade.end)) if trade.asset_class == "IR" else 0
        entity = names.setdefault(place, len(names)), trade.entity, bucket
        of_trade.append(entities.setdefault(entity, len(entities)))
        if of_trade[-1] == len(first):
            first.append(one)
    of, _, buckets = (np.array(column) for column in zip(*entities, strict=True))
    factor, correlation = np.array([one.factor for one in first]), np.array([one.row.correlation for one in first])
    sets = HedgingSets(of, factor, correlation, np.array([asset_class == "IR" for asset_class, _ in names]))
    net = sum_by(np.array(of_trade), np.array([one.effective for one in sized]), len(entities))
    add_on = sets.add_ons(net, buckets, bucket_offset)
    by_class: dict[str, float] = {}
    for (asset_class, _), amount in zip(names, add_on.tolist(), strict=True):
        by_class[asset_class] = by_class.get(asset_class, 0.0) + amount
    total = 0.0
    for amount in by_class.values():
        total += amount
    return AddOns(total, by_class, _steps(list(names), list(entities), sets, net, add_on))


def _steps(
    names: list[tuple[str, str]], entities: list[tuple[int, str, int]], sets: HedgingSets, net: F8, add_on: F8
) -> dict[str, float | list[float]]:
    """Return the figures on the way to the add-ons of hedging sets, by name."""
    steps: dict[str, float | list[float]] = {}
    size = net * sets.factor
    systematic, own = sets.parts(size)
    for number, (asset_class, name) in enumerate(names):
        members = [at for at, (of, _, _) in enumerate(entities) if of == number]
        if asset_class == "IR":
            held = {entities[at][2]: float(net[at]) for at in members}
            steps[f"{name}.buckets"] = [held.get(bucket, 0.0) for bucket in range(3)]
            steps[f"{name}.effective_notional"] = float(add_on[number] / sets.factor[members[0]])
        elif asset_class in ("FX", "CRYPTO"):
            steps[f"{name}.effective_notional"] = float(net[members[0]])
        else:
            for at in members:
                steps[f"{name}.{entities[at][1]}.effective_notional"] = float(net[at])
                steps[f"{name}.{entities[at][1]}.addon"] = float(size[at])
            steps[f"{name}.systematic_sq"] = float(systematic[number] * systematic[number])
            steps[f"{name}.idiosyncratic"] = float(own[number])
        steps[f"{name}.addon"] = float(add_on[number])
    return steps


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
