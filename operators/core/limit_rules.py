"""One limit as the rules that it stands for, oriented so that larger is always worse.

A limit is scope x measure x direction with the levels warning, soft and hard. A scope enters a level as soon as its
measure reaches it and leaves it only beyond ``exit_ratio``. With ``window_s`` the measure is its change over that time.
With ``scaling`` the levels move with the market between ``floor`` and ``ceiling``, which bound the highest level that
the limit has; the others move in proportion. A limit past its validity counts at the tightest it names: time alone
never loosens.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.valuation.limit_scaling import VOLATILITY_POWER
from seawall.schemas.thresholds import LOOSEN_PER_S, STEP_MAX, TIGHTEN_PER_S

F8 = NDArray[np.float64]
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
        """Whether the limit is on every scope of its kind."""
        return self.name in ("*", "firm")

    @property
    def identity(self) -> tuple[str, str, str, bool, int]:
        """What must stay for a scope to keep its level when limits change."""
        return self.id, self.kind, self.measure, self.below, self.window_us

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


def covering(name: str, owners: tuple[str, ...]) -> set[str]:
    """Return the scopes of limits that cover an account: those that name what it is part of, or all of its kind."""
    return {f"account:{name}", *owners, *(f"{owner.partition(':')[0]}:*" for owner in owners)}


def covers_all(scopes: set[str]) -> bool:
    """Return whether limits of these scopes leave no account uncovered, whatever accounts there are."""
    return not scopes.isdisjoint({"account:*", "counterparty:*", "netting_set:*", "firm"})
