"""Limits that adapt to markets by rule: fast to tighten, slow to loosen, never in a big step, never below their floor.

1. The *target* of a limit is ``clamp(base x volatility ratio x depth ratio x rating, floor, ceiling)``.
2. The volatility in the ratio is 0.75 of today's and 0.25 of a stressed one. In calm markets that keeps limits below
   what calm alone would allow, and so they have less far to fall when calm ends: the argument, by analogy, of the
   margin rule in RTS 153/2013 Art. 28(1)(b), at least 25 % weight to stressed observations.
3. The *effective* bound moves from where it is towards the target, at most ``tighten_per_s`` (or ``loosen_per_s``) of
   its base per second of event time and at most ``step_max`` of its base per evaluation: no "disruptive or big step
   changes" (the same article).
4. What is not known does not loosen: a missing volatility, depth or rating counts as 1, and the bound may then only
   tighten.

A limit with direction ``below`` (a value must not fall under it) is the mirror image: its base is divided by the
factors, tightening raises it, and its tightest value is the ceiling.

References
----------
Commission Delegated Regulation (EU) 153/2013, Art. 28. Commission Delegated Regulation (EU) 2017/589 (RTS 6), Art.
15(4): limits adjusted to price and liquidity levels. The powers and speeds that stand as defaults are our choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.valuation.arithmetic import power

F8 = NDArray[np.float64]
CURRENT_WEIGHT: Final = 0.75
STRESSED_WEIGHT: Final = 0.25
VOLATILITY_POWER: Final = 1.0
DEPTH_POWER: Final = 0.5


class Binding(IntEnum):
    """What determined an effective bound."""

    FORMULA = 0
    FLOOR = 1
    CEILING = 2
    TIGHTENING_SPEED = 3
    LOOSENING_SPEED = 4
    STEP = 5
    MISSING_INPUT = 6


@dataclass(frozen=True, slots=True)
class Scaling:
    """The rules of many limits, arrays of shape (limits,); speeds and step are fractions of ``base``."""

    base: F8
    floor: F8
    ceiling: F8
    volatility_power: F8
    depth_power: F8
    tighten_per_s: F8
    loosen_per_s: F8
    step_max: F8
    below: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Market:
    """What each limit adapts to, arrays of shape (limits,); NaN where it is not known.

    ``volatility``, ``stressed`` and ``volatility_reference`` in one unit, ``depth`` and ``depth_reference`` in one
    unit; ``rating`` is a factor, see :func:`rating_factors`.
    """

    volatility: F8
    stressed: F8
    volatility_reference: F8
    depth: F8
    depth_reference: F8
    rating: F8


@dataclass(frozen=True, slots=True)
class Bounds:
    """Effective bounds with all that explains them, arrays of shape (limits,); ``binding`` as in :class:`Binding`."""

    effective: F8
    target: F8
    blended_volatility: F8
    volatility_ratio: F8
    depth_ratio: F8
    rating: F8
    binding: NDArray[np.int8]

    def explain(self, scaling: Scaling, limit: int) -> dict[str, Any]:
        """Return the factors of one effective bound; ``base`` times (``below``: divided by) them gives ``formula``."""
        factor = float(self.volatility_ratio[limit] * self.depth_ratio[limit] * self.rating[limit])
        base = float(scaling.base[limit])
        blended = float(self.blended_volatility[limit])
        return {
            "base": base,
            "volatility": None if np.isnan(blended) else blended,
            "volatility_ratio": float(self.volatility_ratio[limit]),
            "depth_ratio": float(self.depth_ratio[limit]),
            "rating": float(self.rating[limit]),
            "formula": base / factor if scaling.below[limit] else base * factor,
            "floor": float(scaling.floor[limit]),
            "ceiling": float(scaling.ceiling[limit]),
            "target": float(self.target[limit]),
            "effective": float(self.effective[limit]),
            "binding": Binding(int(self.binding[limit])).name.lower(),
        }


def scaling_fault(base: float, floor: float, ceiling: float, tighten_per_s: float, loosen_per_s: float) -> str | None:
    """Return the rule that a scaling breaks, None where it breaks none.

    Examples
    --------
    >>> scaling_fault(100.0, 120.0, 150.0, 0.01, 0.001)
    'BASE_MUST_LIE_BETWEEN_FLOOR_AND_CEILING'
    """
    if not 0 < floor <= ceiling < float("inf"):
        return "FLOOR_MUST_BE_POSITIVE_AND_NOT_ABOVE_CEILING"
    if not floor <= base <= ceiling:
        return "BASE_MUST_LIE_BETWEEN_FLOOR_AND_CEILING"
    if not 0 < loosen_per_s <= tighten_per_s:
        return "LOOSENING_MUST_NOT_BE_FASTER_THAN_TIGHTENING"
    return None


def rating_factors(ratings: Sequence[str | None], table: Mapping[str, float]) -> F8:
    """Return the factor of each rating: 1 where no table is given, the table's smallest for a rating it does not know.

    Examples
    --------
    >>> rating_factors(["A", "BB", None, "?"], {"A": 1.0, "BB": 0.5, "CCC": 0.1}).tolist()
    [1.0, 0.5, 0.1, 0.1]
    """
    unknown = min(table.values(), default=1.0)
    return np.array([unknown if rating is None else table.get(rating, unknown) for rating in ratings], np.float64)


def effective_bounds(scaling: Scaling, market: Market, previous: F8 | None, elapsed_s: float) -> Bounds:
    """Return the effective bound of every limit and what determined it.

    Parameters
    ----------
    scaling, market
        Rules and inputs, limit by limit.
    previous : float64, shape (limits,), or None
        Effective bounds of the last evaluation; NaN (or None for all) where a limit is new: it starts at its target.
    elapsed_s
        Event time since then, in seconds, not negative.

    Examples
    --------
    >>> one = lambda x: np.array([x])
    >>> rules = Scaling(*(one(x) for x in (100.0, 20.0, 150.0, 1.0, 0.5, 0.01, 0.0005, 0.1)), one(False))
    >>> calm_to_wild = Market(*(one(x) for x in (1.0, 1.0, 0.5, 4.0, 4.0, 1.0)))
    >>> bounds = effective_bounds(rules, calm_to_wild, one(100.0), 5.0)
    >>> float(bounds.target[0]), float(bounds.effective[0]), bounds.explain(rules, 0)["binding"]
    (50.0, 95.0, 'tightening_speed')
    """
    blended = CURRENT_WEIGHT * market.volatility + STRESSED_WEIGHT * market.stressed
    volatility_ratio = _ratio(market.volatility_reference, blended, scaling.volatility_power)
    depth_ratio = _ratio(market.depth, market.depth_reference, scaling.depth_power)
    known = ~(np.isnan(volatility_ratio) | np.isnan(depth_ratio) | np.isnan(market.rating))
    factors = [np.where(np.isnan(x), 1.0, x) for x in (volatility_ratio, depth_ratio, market.rating)]
    product = factors[0] * factors[1] * factors[2]
    with np.errstate(divide="ignore"):
        formula = np.where(scaling.below, scaling.base / product, scaling.base * product)
    target = np.minimum(np.maximum(formula, scaling.floor), scaling.ceiling)
    binding = np.where(formula < scaling.floor, Binding.FLOOR, np.where(formula > scaling.ceiling, Binding.CEILING, 0))

    start = np.where(np.isnan(previous), target, previous) if previous is not None else target
    sign = np.where(scaling.below, -1.0, 1.0)
    change = sign * (target - start)  # negative tightens
    held = ~known & (change > 0)
    speed = np.where(change < 0, scaling.tighten_per_s, scaling.loosen_per_s) * elapsed_s
    most = np.minimum(speed, scaling.step_max) * scaling.base
    slowed = ~held & (np.abs(change) > most)
    moved = start + sign * np.where(held, 0.0, np.where(change < 0, -most, most))
    effective = np.where(held | slowed, moved, target)
    effective = np.minimum(np.maximum(effective, scaling.floor), scaling.ceiling)  # a new version may have moved them
    by_speed = np.where(change < 0, Binding.TIGHTENING_SPEED, Binding.LOOSENING_SPEED)
    binding = np.where(slowed, np.where(speed > scaling.step_max, Binding.STEP, by_speed), binding)
    binding = np.where(held, Binding.MISSING_INPUT, binding).astype(np.int8)
    return Bounds(effective, target, blended, factors[0], factors[1], factors[2], binding)


def _ratio(above: F8, below: F8, exponent: F8) -> F8:
    """Return ``min(1, above / below) ^ exponent``; NaN where it is not known. Powers of 1, 0.5 and 0 are exact."""
    with np.errstate(divide="ignore", invalid="ignore"):
        usable = (above >= 0) & (below > 0)
        ratio = np.where(usable, np.minimum(above / below, 1.0), np.nan)
    result = np.where(exponent == 0.5, np.sqrt(ratio), ratio)
    result = np.where((exponent == 0.0) & ~np.isnan(ratio), 1.0, result)
    other = np.flatnonzero((exponent != 1.0) & (exponent != 0.5) & (exponent != 0.0))
    result[other] = power(ratio[other], exponent[other])
    return result
