"""Effective bounds of limits that scale with the market, once per second of event time, cell by cell.

The rule itself is `effective_bounds`; here its inputs are gathered. What a cell adapts to is the *basket*
of its limit: the underlying that the scope is, those that ``scaling.underlyings`` names, or all of them; the plain
mean of what is known of its members. ``reference_volatility`` and ``reference_depth`` of the limit come before what
was observed; of two stressed volatilities the larger counts. A power of 0 leaves a factor out.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import Columns, MarketConditions, ordered_sums
from seawall.operators.core.limits._rules import (
    EffectiveBounds,
    Limit,
    ScalingInputs,
    ScalingRules,
    effective_bounds,
    rating_factors,
)

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
REPORTED_CHANGE_MIN: Final = 0.01  # of base: what the audit hears of
EXPIRED: Final = "expired"
_BOUNDS: Final = ("target", "blended_volatility", "volatility_ratio", "depth_ratio", "rating", "binding")
_FIXED: Final = ("base", "floor", "ceiling")
_SETTINGS: Final = ("volatility_power", "depth_power", "tighten_per_s", "loosen_per_s", "step_max")
_OBSERVED: Final = ("volatility", "stressed", "reference", "depth", "depth_reference")
_OVERRIDES: Final = ("stressed_volatility", "reference_volatility", "reference_depth")
_RULES: Final = (*_FIXED, *_SETTINGS, *_OVERRIDES, "below", "held")


class ScaledBounds:
    """The cells whose limits scale; ``effective`` is the bound of the highest level, NaN before the first second."""

    def __init__(self, limits: list[Limit]) -> None:
        self.limits = limits
        fields = {"cell": "i8", "limit": "i8", "column": "i8", "effective": "f8", "told": "f8"}
        self.columns = Columns({**fields, **dict.fromkeys(_BOUNDS, "f8")})
        self._scales = np.array([limit.scaling is not None for limit in limits], dtype=bool)
        self._rules = {name: _of_each(limits, name) for name in _RULES} if self._scales.any() else {}
        self._has_ratings = any((limit.scaling or {}).get("rating") for limit in limits)
        self._scaling: ScalingRules | None = None
        self._overrides: dict[str, F8] = {}
        self._baskets: list[tuple[str, ...]] = []
        self._basket: I8 = np.zeros(0, dtype=np.int64)
        self._rated: tuple[Any, F8] = (None, np.zeros(0))

    def __bool__(self) -> bool:
        return self.columns.size > 0

    def add(self, limit: I8, column: I8, first: int) -> None:
        """Add those of new cells, numbered from ``first``, whose limits scale."""
        at = np.flatnonzero(self._scales[limit])
        nothing = dict.fromkeys(("effective", "told", *_BOUNDS), np.nan)
        self.columns.append(len(at), cell=first + at, limit=limit[at], column=column[at], **nothing)
        self._scaling = None
        self._pin()

    def scales(self, count: int) -> F8 | None:
        """Return what each of ``count`` cells' bounds are multiplied by, None where all are 1."""
        if not self:
            return None
        result = np.ones(count)
        effective = self.columns["effective"] / self._of("base")
        result[self.columns["cell"]] = np.where(np.isnan(effective), 1.0, effective)
        return result

    def _pin(self) -> None:
        """Hold the bounds of limits past their validity at the tightest: they loosen from there when renewed."""
        if not self:
            return
        tightest = self._of("held")
        held = ~np.isnan(tightest)
        self.columns["effective"][held] = tightest[held]

    # --- moving -----------------------------------------------------------------------------------------------------

    def update(self, markets: MarketConditions, names: list[str], ratings: dict[str, str], elapsed_s: float) -> None:
        """Move every bound towards its target.

        Parameters
        ----------
        markets
            What is known of each underlying.
        names, ratings
            The scopes by column; the rating of each scope that has one.
        elapsed_s
            Event time since the last update.
        """
        if self._scaling is None:
            self._prepare(names)
        assert self._scaling is not None
        market = self._market(markets, names, ratings)
        bounds = effective_bounds(self._scaling, market, self.columns["effective"], elapsed_s)
        self.columns["effective"][:] = bounds.effective
        for name in _BOUNDS:
            self.columns[name][:] = getattr(bounds, name)
        self._pin()

    def _prepare(self, names: list[str]) -> None:
        """Gather the settings of the cells' limits, and number their baskets."""
        rules = {name: self._of(name) for name in (*_FIXED, *_SETTINGS)}
        self._scaling = ScalingRules(**rules, below=self._of("below") > 0)
        self._overrides = {name: self._of(name) for name in _OVERRIDES}
        baskets: dict[tuple[str, ...], int] = {}
        pairs = zip(self.columns["limit"].tolist(), self.columns["column"].tolist(), strict=True)
        self._basket = np.array(
            [baskets.setdefault(_basket(self.limits[limit], names[column]), len(baskets)) for limit, column in pairs],
            dtype=np.int64,
        )
        self._baskets = list(baskets)
        self._rated = (None, np.zeros(0))

    def _market(self, markets: MarketConditions, names: list[str], ratings: dict[str, str]) -> ScalingInputs:
        seen = np.array([_mean(markets, basket) for basket in self._baskets])[self._basket]
        volatility, stressed, reference, depth, depth_reference = seen.T
        own, scaling = self._overrides, self._scaling
        assert scaling is not None
        stressed = np.fmax(stressed, own["stressed_volatility"])
        reference = np.where(np.isnan(own["reference_volatility"]), reference, own["reference_volatility"])
        depth_reference = np.where(np.isnan(own["reference_depth"]), depth_reference, own["reference_depth"])
        still, level = scaling.volatility_power == 0, scaling.depth_power == 0
        return ScalingInputs(
            volatility=np.where(still, 1.0, volatility),
            stressed=np.where(still, 1.0, np.where(np.isnan(stressed), volatility, stressed)),
            volatility_reference=np.where(still, 1.0, reference),
            depth=np.where(level, 1.0, depth),
            depth_reference=np.where(level, 1.0, depth_reference),
            rating=self._ratings(names, ratings),
        )

    def _ratings(self, names: list[str], ratings: dict[str, str]) -> F8:
        """Return the factor of each cell's rating, found anew when ratings or cells change."""
        if self._rated[0] is not ratings:
            factors = np.ones(self.columns.size)
            pairs = zip(self.columns["limit"].tolist(), self.columns["column"].tolist(), strict=True)
            for at, (limit, column) in enumerate(pairs if self._has_ratings else ()):
                table = (self.limits[limit].scaling or {}).get("rating")
                if table:
                    factors[at] = rating_factors([ratings.get(names[column])], table)[0]
            self._rated = (ratings, factors)
        return self._rated[1]

    # --- explaining -------------------------------------------------------------------------------------------------

    def explain(self, cell: int) -> dict[str, Any] | None:
        """Return the factors of a cell's effective bound; None where its limit does not scale or nothing is known."""
        at = int(np.searchsorted(self.columns["cell"], cell))
        if at >= self.columns.size or self.columns["cell"].item(at) != cell:
            return None
        return self.factors(at)

    def factors(self, at: int) -> dict[str, Any] | None:
        """Return the factors of one effective bound, by its place here."""
        limit = self.limits[self.columns["limit"].item(at)]
        if limit.expired:
            return {"base": limit.base, "effective": limit.tightest, "binding": EXPIRED}
        row = {name: self.columns[name].item(at) for name in (*_BOUNDS, "effective")}
        if np.isnan(row["effective"]):
            return None
        one = {name: np.array([value]) for name, value in row.items()}
        bounds = EffectiveBounds(**{**one, "binding": np.array([int(row["binding"])], dtype=np.int8)})
        fixed = {name: np.array([getattr(limit, name)]) for name in _FIXED}
        rules = {name: np.array([limit.setting(name)]) for name in _SETTINGS}
        return bounds.explain(ScalingRules(**fixed, **rules, below=np.array([limit.below])), 0)

    def moved(self) -> tuple[I8, F8]:
        """Return the places whose bound moved by 1 % of its base since it was last told of, and by how much."""
        base = self._of("base")
        reported = np.where(np.isnan(self.columns["told"]), base, self.columns["told"])
        change = (self.columns["effective"] - reported) / base
        at = np.flatnonzero(np.abs(change) >= REPORTED_CHANGE_MIN)
        self.columns["told"][at] = self.columns["effective"][at]
        return at, change[at]

    # --- state ------------------------------------------------------------------------------------------------------

    def take_from(self, other: "ScaledBounds", kept: dict[int, int]) -> None:
        """Take over the bounds of cells that stay: they move on from where they are."""
        place = {cell: at for at, cell in enumerate(self.columns["cell"].tolist())}
        for at, cell in enumerate(other.columns["cell"].tolist()):
            now = place.get(kept.get(cell, -1))
            if now is not None:
                for name in ("effective", "told", *_BOUNDS):
                    self.columns[name][now] = other.columns[name][at]
        self._pin()

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays."""
        return self.columns.snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.columns.restore(state)
        self._scaling = None

    def _of(self, name: str) -> F8:
        """Return a rule of each cell's limit."""
        found: F8 = self._rules[name][self.columns["limit"]]
        return found


def _of_each(limits: list[Limit], name: str) -> F8:
    """Return a rule of every limit; ``held`` is the tightest bound of those past their validity, NaN of others."""
    if name == "held":
        return np.array([limit.tightest if limit.expired else np.nan for limit in limits])
    if name in _OVERRIDES:
        return np.array([float((limit.scaling or {}).get(name, np.nan)) for limit in limits])
    if name in _SETTINGS:
        return np.array([limit.setting(name) for limit in limits])
    return np.array([float(getattr(limit, name)) for limit in limits])


def _basket(limit: Limit, name: str) -> tuple[str, ...]:
    """Return the underlyings that a cell adapts to; none stands for all."""
    named = (limit.scaling or {}).get("underlyings")
    if named:
        return tuple(named)
    return (name,) if limit.kind == "underlying" else ()


def _mean(markets: MarketConditions, basket: tuple[str, ...]) -> list[float]:
    """Return the mean of each quantity over the members of a basket of which it is known; NaN where of none."""
    wanted = range(len(markets.names)) if not basket else [markets.names.index(n) for n in basket if n in markets.names]
    return [_plain_mean([getattr(markets, name).item(at) for at in wanted]) for name in _OBSERVED]


def _plain_mean(values: list[float]) -> float:
    known = [value for value in values if value == value]  # noqa: PLR0124 (no NaN)
    return float(ordered_sums(np.array(known))) / len(known) if known else float("nan")
