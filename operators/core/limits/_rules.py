"""Limit rules: scaling with the market, one limit as rules to evaluate, and the policy in force at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import power
from seawall.schemas.evidence import LimitDocument
from seawall.schemas.measures import DRAWDOWN, LOOSEN_PER_S, STEP_MAX, TIGHTEN_PER_S

# Limits that adapt to markets by rule: fast to tighten, slow to loosen, never in a big step, never below their floor.
#
# 1. The *target* of a limit is ``clamp(base x volatility ratio x depth ratio x rating, floor, ceiling)``.
# 2. The volatility in the ratio is 0.75 of today's and 0.25 of a stressed one. In calm markets that keeps limits below
#    what calm alone would allow, and so they have less far to fall when calm ends: the argument, by analogy, of the
#    margin rule in RTS 153/2013 Art. 28(1)(b), at least 25 % weight to stressed observations.
# 3. The *effective* bound moves from where it is towards the target, at most ``tighten_per_s`` (or ``loosen_per_s``) of
#    its base per second of event time and at most ``step_max`` of its base per evaluation: no "disruptive or big step
#    changes" (the same article).
# 4. What is not known does not loosen: a missing volatility, depth or rating counts as 1, and the bound may then only
#    tighten.
#
# A limit with direction ``below`` (a value must not fall under it) is the mirror image: its base is divided by the
# factors, tightening raises it, and its tightest value is the ceiling.
#
# References
# ----------
# Commission Delegated Regulation (EU) 153/2013, Art. 28. Commission Delegated Regulation (EU) 2017/589 (RTS 6), Art.
# 15(4): limits adjusted to price and liquidity levels. The powers and speeds that stand as defaults are our choice.

F8 = NDArray[np.float64]
CURRENT_WEIGHT: Final = 0.75
STRESSED_WEIGHT: Final = 0.25
VOLATILITY_POWER: Final = 1.0


class Binding(IntEnum):
    """Term that determined an effective bound."""

    FORMULA = 0
    FLOOR = 1
    CEILING = 2
    TIGHTENING_SPEED = 3
    LOOSENING_SPEED = 4
    STEP = 5
    MISSING_INPUT = 6


@dataclass(frozen=True, slots=True)
class ScalingRules:
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
class ScalingInputs:
    """Inputs that each limit adapts to, arrays of shape (limits,); NaN where it is not known.

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
class EffectiveBounds:
    """Effective bounds with all that explains them, arrays of shape (limits,); ``binding`` as in :class:`Binding`."""

    effective: F8
    target: F8
    blended_volatility: F8
    volatility_ratio: F8
    depth_ratio: F8
    rating: F8
    binding: NDArray[np.int8]

    def explain(self, scaling: ScalingRules, limit: int) -> dict[str, Any]:
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


def rating_factors(ratings: Sequence[str | None], table: Mapping[str, float]) -> F8:
    """Return the factor of each rating: 1 where no table is given, the table's smallest for a rating it does not know.

    Examples
    --------
    >>> rating_factors(["A", "BB", None, "?"], {"A": 1.0, "BB": 0.5, "CCC": 0.1}).tolist()
    [1.0, 0.5, 0.1, 0.1]
    """
    unknown = min(table.values(), default=1.0)
    return np.array([unknown if rating is None else table.get(rating, unknown) for rating in ratings], np.float64)


def effective_bounds(
    scaling: ScalingRules, market: ScalingInputs, previous: F8 | None, elapsed_s: float
) -> EffectiveBounds:
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
    >>> rules = ScalingRules(*(one(x) for x in (100.0, 20.0, 150.0, 1.0, 0.5, 0.01, 0.0005, 0.1)), one(False))
    >>> calm_to_wild = ScalingInputs(*(one(x) for x in (1.0, 1.0, 0.5, 4.0, 4.0, 1.0)))
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
    return EffectiveBounds(effective, target, blended, factors[0], factors[1], factors[2], binding)


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


# One limit as the rules that it stands for, oriented so that larger is always worse.
#
# A limit is scope x measure x direction with the levels warning, soft and hard. A scope enters a level as soon as its
# measure reaches it and leaves it only beyond ``exit_ratio``. With ``window_s`` the measure is its change over that
# time. With ``scaling`` the levels move with the market between ``floor`` and ``ceiling``, which bound the highest
# level that the limit has; the others move in proportion. A limit past its validity counts at the tightest it names:
# time alone never loosens.

LEVELS: Final = ("none", "warning", "soft", "hard")
DEFAULT_DENY: Final[dict[str, Any]] = {
    "id": "default-deny",
    "scope": "account:*",
    "measure": "uncovered_position",
    "direction": "above",
    "hard": 1.0,
    "exit_ratio": 1.0,
    "dwell_s": 0,
}
UNVALUED: Final[dict[str, Any]] = {**DEFAULT_DENY, "id": "unvalued_position", "measure": "unvalued_position"}
UTILISATION_MAX: Final = 1_000_000.0
_SPEEDS: Final = {"tighten_per_s": TIGHTEN_PER_S, "loosen_per_s": LOOSEN_PER_S, "step_max": STEP_MAX}


class Limit:
    """One limit; ``order`` is its place among all limits in force, ``expired`` says that its validity has passed."""

    def __init__(self, document: dict[str, Any], order: int = 0, expired: bool = False) -> None:
        self.id: str = document["id"]
        self.order, self.expired = order, expired
        self.scope: str = document["scope"]
        self.kind, _, self.name = self.scope.partition(":")
        self.name = self.name or self.kind
        self.measure: str = document["measure"]
        self.below = document.get("direction", "above") == "below"
        self.sign = -1.0 if self.below else 1.0
        # A drawdown is how far P&L has fallen within the window, as a positive number.
        falls = self.measure == DRAWDOWN
        self.source = "pnl" if falls else self.measure
        self.reading = -1.0 if falls else self.sign
        self.dwell_us = int(float(document.get("dwell_s", 0)) * 1_000_000)
        self.window_us = int(float(document.get("window_s", 0)) * 1_000_000)
        self.scaling: dict[str, Any] | None = document.get("scaling")
        self.bounds = [document.get(level) for level in LEVELS[1:]]
        self.base = float(next(b for b in reversed(self.bounds) if b is not None))
        self.floor = float(document.get("floor", self.base))
        self.ceiling = float(document.get("ceiling", self.base))
        if expired and self.scaling is None:
            self.bounds = [None, None, next(b for b in self.bounds if b is not None)]
        ratio = float(document.get("exit_ratio", 1.0))
        self.enter = np.array([np.inf if b is None else self.sign * float(b) for b in self.bounds])
        self.leave = np.array([np.inf if b is None else self.sign * self._exit(float(b), ratio) for b in self.bounds])
        self.lowest = float(self.enter.min())

    @property
    def starred(self) -> bool:
        """Return whether the limit is on every scope of its kind."""
        return self.name in ("*", "firm")

    @property
    def identity(self) -> tuple[str, str, str, bool, int]:
        """Fields that must stay for a scope to keep its level when limits change."""
        return self.id, self.kind, self.measure, self.below, self.window_us

    def scope_of(self, name: str) -> str:
        """Return the scope of a name of its kind, as breaches tell it."""
        return "firm" if self.kind == "firm" else f"{self.kind}:{name}"

    @property
    def tightest(self) -> float:
        """The tightest value of a scaled limit's highest level."""
        return self.ceiling if self.below else self.floor

    def setting(self, name: str) -> float:
        """Return a number of the limit's scaling, the default where it says nothing."""
        scaling = self.scaling or {}
        if name in _SPEEDS:
            return float(scaling.get(name, _SPEEDS[name]))
        return float(scaling.get(name, VOLATILITY_POWER if name == "volatility_power" else 0.0))

    def utilisation(self, value: float, bound: float) -> float:
        """Return how much of a bound is used, at most 1,000,000: the share is 1 exactly at the bound."""
        forward = self.below == (bound < 0)
        over, under = (value, bound) if forward else (bound, value)
        if under * (1.0 if bound >= 0 else -1.0) > 0:
            return min(max(over / under, 0.0), UTILISATION_MAX)
        return UTILISATION_MAX if self.sign * value > self.sign * bound else 0.0

    def _exit(self, bound: float, ratio: float) -> float:
        """Return the bound beyond which a level is left: on the safe side of the bound, whatever its sign."""
        return bound * ratio if self.below == (bound < 0) else bound / ratio


def covering_scopes(name: str, owners: tuple[str, ...]) -> set[str]:
    """Return the scopes of limits that cover an account: those that name what it is part of, or all of its kind."""
    return {f"account:{name}", *owners, *(f"{owner.partition(':')[0]}:*" for owner in owners)}


def covers_every_account(scopes: set[str]) -> bool:
    """Return whether limits of these scopes leave no account uncovered, whatever accounts there are."""
    return not scopes.isdisjoint({"account:*", "counterparty:*", "netting_set:*", "firm"})


# The limits in force: a fold of limits files and of signed limit documents, and what of them holds at a time.
#
# Documents amend what stands: they set and remove limits, and override some until a time. The sequencer has verified
# them before they were journaled (``schemas/evidence/_limit_documents.py``); here they are only applied. Rules for
# time:
#
# - A limit counts from ``valid_from_us``. Past ``valid_to_us`` it counts at its tightest.
# - An override holds until its ``valid_to_us``; then the limit that it stood for holds again.
# - Past the validity of the whole policy, every limit counts at its tightest, until a document renews it.

LimitFields = dict[str, Any]


class Policy:
    """Limits in force, and the documents that set them.

    Attributes
    ----------
    version, sha256
        Of the last document or limits file.
    valid_to_us
        Until when the policy as a whole holds; None without an end.
    unratified
        Versions that a maker tightened alone and that no checker has signed yet.
    """

    def __init__(self) -> None:
        self.version = 0
        self.sha256: str | None = None
        self.valid_to_us: int | None = None
        self.limits: dict[str, LimitFields] = {}
        self.overrides: dict[str, LimitFields] = {}
        self.unratified: list[int] = []

    def configure(self, section: dict[str, Any]) -> None:
        """Take the limits of a configuration event; those of signed documents stay where the section has none."""
        if not section.get("documents"):
            self.version, self.sha256 = section["version"], section["sha256"]
            self.limits = {limit["id"]: limit for limit in section["limits"]}
            self.overrides, self.unratified, self.valid_to_us = {}, [], None

    def apply(self, envelope: dict[str, Any], as_of_us: int) -> dict[str, Any]:
        """Take a journaled envelope; return what the audit hears."""
        document, signers = LimitDocument.of_envelope(envelope)
        if document.sha256 == self.sha256:
            self.unratified = [version for version in self.unratified if version > document.version]
            return _document_outcome(document, "ratified", signers)
        for name in document.remove:
            self.limits.pop(name, None)
            self.overrides.pop(name, None)
        for limit in document.set:
            self.limits[limit["id"]] = limit
            self.overrides.pop(limit["id"], None)
        self.overrides = {k: v for k, v in self.overrides.items() if v["valid_to_us"] > as_of_us}
        self.overrides |= {limit["id"]: limit for limit in document.override}
        self.version, self.sha256, self.valid_to_us = document.version, document.sha256, document.valid_to_us
        self.unratified = [] if len(signers) > 1 else [*self.unratified, document.version]
        return _document_outcome(document, "approved" if len(signers) > 1 else "tightened", signers)

    def in_force(self, as_of_us: int) -> tuple[list[tuple[LimitFields, bool]], int | None]:
        """Return the limits that hold at a time, each with whether it is past its validity, and when that changes."""
        times = [self.valid_to_us] if self.valid_to_us is not None else []
        expired = self.valid_to_us is not None and as_of_us >= self.valid_to_us
        found: list[tuple[LimitFields, bool]] = []
        for limit in self._in_force(as_of_us, times):
            start, end = limit.get("valid_from_us", 0), limit.get("valid_to_us")
            times += [time for time in (start, end) if time is not None]
            if as_of_us >= start:
                found.append((limit, expired or (end is not None and as_of_us >= end)))
        return found, min((time for time in times if time > as_of_us), default=None)

    def _in_force(self, as_of_us: int, times: list[int]) -> list[LimitFields]:
        """Return the limits with the overrides that hold in their places; add the ends of these to ``times``."""
        if not self.overrides:
            return list(self.limits.values())
        live = {name: limit for name, limit in self.overrides.items() if limit["valid_to_us"] > as_of_us}
        times += [limit["valid_to_us"] for limit in live.values()]
        return [live.get(name, limit) for name, limit in self.limits.items()]

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "version": self.version,
            "sha256": self.sha256,
            "valid_to_us": self.valid_to_us,
            "limits": list(self.limits.values()),
            "overrides": list(self.overrides.values()),
            "unratified": self.unratified,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.version, self.sha256, self.valid_to_us = state["version"], state["sha256"], state["valid_to_us"]
        self.limits = {limit["id"]: limit for limit in state["limits"]}
        self.overrides = {limit["id"]: limit for limit in state["overrides"]}
        self.unratified = list(state["unratified"])


def _document_outcome(document: LimitDocument, outcome: str, signers: list[str]) -> dict[str, Any]:
    return {
        "version": document.version,
        "sha256": document.sha256,
        "outcome": outcome,
        "reason": document.reason,
        "keys": signers,
    }
