"""Limit forecasts: the probability of a breach by scope, level (soft, hard) and horizon.

Any kind of scope, any measure that moves with prices. `LimitHistory` is the past of one limit as its forecasts need it.
"""

import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import MeasureTable, exp, log
from seawall.operators.core.forecasts._markets import HORIZONS_S
from seawall.operators.core.forecasts._models import (
    PRIOR_INTERCEPT,
    PRIOR_SLOPE,
    LevelModels,
    ModelLayout,
    leading_terms,
    sample_forecasts,
)
from seawall.operators.core.forecasts._sensitivities import LevelGap, health_deviation, standardised_distance
from seawall.operators.core.limits import Policy
from seawall.schemas.measures import FORECASTS

# History of one limit as forecasts need it: when scopes came to its levels, what they used of it, what was said.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
LIMIT_LEVELS: Final = ("soft", "hard")
MEASURED_S: Final = (3600, 86_400)
TREND_SHIFT: Final = 0.02  # of use: what a trend from nothing counts from
MARGIN_LIMIT: Final = ("account:*", "margin_ratio", "above")  # forecast with accounts' habits (`MarginForecasts`)
LIMIT_LAYOUT: Final = ModelLayout(
    ("constant", "distance", "concentration", "trend", "utilisation"),
    ("structural", "utilisation", "full", "pool", "record"),
    ([0, 1], [0, 4], [0, 1, 2, 3]),
    ((PRIOR_INTERCEPT, PRIOR_SLOPE), (0.0, 1.0), (PRIOR_INTERCEPT, PRIOR_SLOPE, 0.0, 0.0)),
)


class ForecastRule(NamedTuple):
    """A limit as it is forecast: ``bounds`` by level, those of :data:`LIMIT_LEVELS` that it has."""

    id: str
    kind: str
    name: str
    measure: str
    below: bool
    bounds: dict[str, float]

    def there(self, values: F8, bound: float) -> B1:
        """Return which values have come to a level."""
        return values <= bound if self.below else values >= bound


class UnderlyingForecasts(NamedTuple):
    """Market inputs by horizon: deviations of underlyings, correlations with the factor, missing prices."""

    spread: dict[int, F8]
    rho: F8
    cold: B1


class LimitHistory:
    """One rule's past: when scopes came to each level, what they used of it on average, what was written last."""

    def __init__(self, rule: ForecastRule) -> None:
        self.rule = rule
        self.models = {
            (level, horizon): LevelModels(horizon, LIMIT_LAYOUT) for level in rule.bounds for horizon in HORIZONS_S
        }
        # by level: since when, whether there; then the mean use of the highest level, and the probability written last
        self.rows: F8 = np.zeros((2 * len(LIMIT_LEVELS) + 2, 0))
        self.measured: F8 = np.zeros((len(MEASURED_S), 0))

    def grow(self, count: int) -> None:
        """Make room for scopes."""
        more = count - self.rows.shape[1]
        if more > 0:
            self.rows = np.concatenate([self.rows, np.zeros((len(self.rows), more))], axis=1)
            self.measured = np.concatenate([self.measured, np.zeros((len(MEASURED_S), more))], axis=1)

    def settle(self, values: F8, as_of_us: int) -> None:
        """Score what is due, then note who came to a level."""
        self.grow(len(values))
        for (level, _), models in self.models.items():
            models.resolve(as_of_us, self.rows[2 * LIMIT_LEVELS.index(level)])
        for level, bound in self.rule.bounds.items():
            since, stood = self.rows[2 * LIMIT_LEVELS.index(level)], self.rows[2 * LIMIT_LEVELS.index(level) + 1]
            there = self.rule.there(values, bound)
            came = (there & (stood == 0.0)).nonzero()[0]
            since[came], stood[:] = as_of_us, there
            if len(came):
                for horizon in HORIZONS_S:
                    self.models[level, horizon].record.broke(came)

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        models = [[level, horizon, one.snapshot()] for (level, horizon), one in self.models.items()]
        return [self.rule._asdict(), models, self.rows.copy(), self.measured.copy()]


def limit_terms(course: LimitHistory, gap: LevelGap, active: I8, seen: UnderlyingForecasts) -> dict[int, F8]:
    """Return by horizon the terms of the calibration, in the order of :data:`LIMIT_LAYOUT`."""
    count, held, left = len(gap.gap), gap.held, gap.gap[active]
    size = np.abs(held.gain)
    total, squares = np.bincount(held.account, size, count), np.bincount(held.account, size * size, count)
    focus = np.where(total > 0, squares / np.where(total > 0, total * total, 1.0), 1.0)[active]
    use = level_utilisation(gap)[active]
    spreads = (health_deviation(held, gap.level, seen.spread[horizon], seen.rho, count) for horizon in HORIZONS_S)
    near = [standardised_distance(left, spread[active]) for spread in spreads]
    shares = [
        (use + TREND_SHIFT) / (course.rows[-2, active] + TREND_SHIFT),
        np.maximum(use, 1e-9) / np.maximum(1.0 - use, 1e-9),
    ]
    *logs, trend, odds = log(np.stack([*near, *shares]))
    fixed = (focus - 1.0, trend, np.minimum(np.maximum(odds, -8.0), 3.0))
    return {
        horizon: np.stack([np.ones(len(active)), -one, *fixed]) for horizon, one in zip(HORIZONS_S, logs, strict=True)
    }


def warming_scopes(gap: LevelGap, seen: UnderlyingForecasts) -> B1:
    """Return whose volatilities are not known."""
    cold = seen.cold[gap.held.underlying]
    return np.asarray(np.bincount(gap.held.account, np.abs(gap.held.gain) * cold, len(gap.gap)) > 0)


def is_forecastable(limit: dict[str, Any]) -> bool:
    """Tell whether a limit can be forecast here."""
    kind = limit["scope"], limit["measure"], limit["direction"]
    return (
        kind != MARGIN_LIMIT
        and "window_s" not in limit
        and limit["measure"] not in FORECASTS
        and ("soft" in limit or "hard" in limit)
    )


def forecast_rule(limit: dict[str, Any]) -> ForecastRule:
    """Return a limit as it is forecast."""
    kind, _, name = limit["scope"].partition(":")
    bounds: dict[str, float] = {level: float(limit[level]) for level in LIMIT_LEVELS if level in limit}
    return ForecastRule(limit["id"], kind, name, limit["measure"], limit["direction"] == "below", bounds)


def rule_values(rule: ForecastRule, tables: dict[str, MeasureTable]) -> F8 | None:
    """Return a rule's measure by scope, None where it is not computed."""
    table = tables.get(rule.kind)
    if table is None or rule.measure not in table.measures:
        return None
    return np.asarray(table.values[table.measures.index(rule.measure)])


def exposed_scopes(gap: LevelGap) -> B1:
    """Return which scopes hold anything that a gap moves with."""
    moved = np.abs(gap.level * gap.held.gain - gap.held.margin)
    return np.asarray(np.bincount(gap.held.account, moved, len(gap.gap)) > 0)


def level_utilisation(gap: LevelGap) -> F8:
    """Return how much of the way to a level is used, 0 to 1."""
    return np.minimum(np.maximum(1.0 - gap.gap / np.maximum(gap.scale, 1e-9), 0.0), 1.0)


# Limit forecasts: probability of each limit's scopes to come to its soft and hard level within each horizon.
#
# Procedure
# ---------
# 1. Whenever measures change: forecasts whose horizon is past are scored and learned from; then who has just come to a
#    level is noted (as `MarginForecasts` does for accounts' margins).
# 2. Once a minute: the gap to every level over the deviation of what the whole book makes of it is the distance of
#    first passage; every limit and horizon calibrates it on its own outcomes.
# 3. What is in danger and moved is written, once an hour everything, and a bounded number is kept to learn from.
#
# Levels are those that the limit states; one that scales with the market is forecast at its base. A limit on a change
# over a window, on a forecast, or on a measure that is no sum over what is held has no forecast. The
# measures ``breach_probability_1h`` and ``_24h`` of a scope are those of the likeliest of its limits at its hard level,
# or soft where it has no hard one: 1 where it is there, 0 where no limit is on it.

GapLookup = Callable[[str, str, bool, float], LevelGap | None]  # of kind of scope, measure, direction below, level

ENDANGERED: Final = 0.01
FORECAST_CHANGE_MIN: Final = 0.05
DAY_S: Final = 86_400.0
HOUR_US: Final = 3_600_000_000


class LimitForecasts:
    """The forecasts of the limits on some kinds of scope.

    Parameters
    ----------
    kinds
        Of scope.
    """

    def __init__(self, kinds: Iterable[str]) -> None:
        self._kinds = frozenset(kinds)
        self._policy = Policy()
        self._courses: dict[tuple[Any, ...], LimitHistory] = {}
        self._until_us = -1  # when the limits in force change by themselves; before the first look: at once
        self._us = 0
        self._encoded: bytes | None = None
        self.others: frozenset[str] = frozenset()  # kinds of scope, not among these, that limits are on

    def __bool__(self) -> bool:
        return bool(self._courses)

    def configure(self, section: dict[str, Any]) -> None:
        """Take the limits of a configuration."""
        self._policy.configure(section)
        self._until_us, self._encoded = -1, None

    def apply(self, documents: list[dict[str, Any]], as_of_us: int) -> None:
        """Take journaled documents."""
        for document in documents:
            self._policy.apply(document, as_of_us)
            self._until_us, self._encoded = -1, None

    def look(self, as_of_us: int) -> list[dict[str, Any]] | None:
        """Take the limits in force, before the measures of a slice, and return them; None where none has changed."""
        if as_of_us < self._until_us:
            return None
        found, until_us = self._policy.in_force(as_of_us)
        in_force = [limit for limit, _ in found]
        self._until_us = (1 << 62) if until_us is None else until_us
        self._take([forecast_rule(limit) for limit in in_force if is_forecastable(limit)])
        return in_force

    def settle(self, tables: dict[str, MeasureTable], as_of_us: int) -> None:
        """Score and note outcomes on the measures of a slice."""
        for course in self._courses.values():
            values = rule_values(course.rule, tables)
            if values is not None:
                course.settle(values, as_of_us)

    def forecast(
        self, lean: GapLookup, tables: dict[str, MeasureTable], seen: UnderlyingForecasts, as_of_us: int
    ) -> list[dict[str, Any]]:
        """Forecast everything; return what is to be written."""
        rows: list[dict[str, Any]] = []
        hourly = as_of_us // HOUR_US != self._us // HOUR_US
        elapsed_s, self._us = (as_of_us - self._us) / 1e6 if self._us else 0.0, as_of_us
        for course in self._courses.values():
            values = rule_values(course.rule, tables)
            if values is not None:
                rows += self._forecast(course, values, tables[course.rule.kind].names, lean, seen, elapsed_s, hourly)
        return rows

    def probabilities(self, kind: str, count: int) -> F8:
        """Return the measures ``breach_probability_…`` of each scope of a kind."""
        found = np.zeros((len(MEASURED_S), count))
        for course in self._courses.values():
            if course.rule.kind == kind:
                known = min(count, course.measured.shape[1])
                found[:, :known] = np.maximum(found[:, :known], course.measured[:, :known])
        return found

    def scores(self) -> list[dict[str, Any]]:
        """Return how good forecasts have been, as it is published."""
        return [
            {"limit": course.rule.id, **models.row(course.rule.measure, level)}
            for course in self._courses.values()
            for (level, _), models in course.models.items()
        ]

    # --- parts ------------------------------------------------------------------------------------------------------

    def _take(self, rules: list[ForecastRule]) -> None:
        """Take the limits in force; what is known of those that stay is kept."""
        self.others = frozenset(rule.kind for rule in rules) - self._kinds
        fresh = {}
        for rule in rules:
            if rule.kind in self._kinds:
                key = (*rule[:5], tuple(rule.bounds.items()))
                fresh[key] = self._courses.get(key) or LimitHistory(rule)
        self._courses = fresh

    def _forecast(
        self,
        course: LimitHistory,
        values: F8,
        names: list[str],
        lean: GapLookup,
        seen: UnderlyingForecasts,
        elapsed_s: float,
        hourly: bool,
    ) -> list[dict[str, Any]]:
        rule, count = course.rule, len(values)
        course.grow(count)
        gaps = {level: lean(rule.kind, rule.measure, rule.below, bound) for level, bound in rule.bounds.items()}
        highest = next(reversed(rule.bounds))
        last = gaps[highest]
        if last is None:
            return []
        mine = np.array([rule.kind == "firm" or rule.name in ("*", name) for name in names[:count]], dtype=bool)
        course.measured[:] = rule.there(values, rule.bounds[highest]) & mine
        self._use(course, last, elapsed_s)
        said = {}
        for level, gap in gaps.items():
            assert gap is not None
            active = (mine & ~rule.there(values, rule.bounds[level]) & exposed_scopes(gap) & (gap.gap > 0)).nonzero()[0]
            for horizon, about in limit_terms(course, gap, active, seen).items():
                said[level, horizon] = active, about, course.models[level, horizon].forecast(about, active)
        for at, horizon in enumerate(MEASURED_S):
            active, _, models = said[highest, horizon]
            course.measured[at, active] = models[course.models[highest, horizon].scores.champion]
        rows = self._rows(course, said, names, warming_scopes(last, seen), hourly)
        if hourly:
            self._keep(course, said)
        return rows

    def _use(self, course: LimitHistory, gap: LevelGap, elapsed_s: float) -> None:
        """Move the mean use of the highest level on."""
        keep = float(exp(-elapsed_s / DAY_S)) if elapsed_s else 0.0
        mean = course.rows[-2]
        mean[:] = keep * mean + (1.0 - keep) * level_utilisation(gap)

    def _rows(
        self,
        course: LimitHistory,
        said: dict[tuple[str, int], tuple[I8, F8, F8]],
        names: list[str],
        cold: B1,
        hourly: bool,
    ) -> list[dict[str, Any]]:
        now, last = course.measured[-1], course.rows[-1]
        active = next(reversed(said.values()))[0]
        moved = np.abs(now - last) > FORECAST_CHANGE_MIN * np.maximum(last, ENDANGERED)
        chosen = np.zeros(len(now), dtype=bool)
        chosen[active] = hourly | (moved & ((now >= ENDANGERED) | (last >= ENDANGERED)))[active]
        last[chosen] = now[chosen]
        rows = []
        for (level, horizon), (of, about, models) in said.items():
            own, at = course.models[level, horizon], chosen[of].nonzero()[0]
            why, champion = leading_terms(LIMIT_LAYOUT, own.contributions(about, of)[:, at]), own.scores.champion
            for place, reason in zip(at.tolist(), why, strict=True):
                number = of.item(place)
                scope = course.rule.kind if course.rule.kind == "firm" else f"{course.rule.kind}:{names[number]}"
                rows.append(
                    {
                        "scope": scope,
                        "measure": course.rule.measure,
                        "level": level,
                        "horizon_s": horizon,
                        "probability": models.item(champion, place),
                        "state": "no_volatility" if cold[number] else own.state,
                        "model": LIMIT_LAYOUT.names[champion],
                        "contributions": reason,
                        "limit": course.rule.id,
                    }
                )
        return rows

    def _keep(self, course: LimitHistory, said: dict[tuple[str, int], tuple[I8, F8, F8]]) -> None:
        """Keep a bounded number of forecasts to learn from."""
        for key, (active, about, models) in said.items():
            chosen, weights = sample_forecasts(models[-1])
            course.models[key].expect(active, models, self._us)
            course.models[key].wait(active[chosen], self._us, about[:, chosen], models[:, chosen], weights)

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays; the limits' texts are encoded once per change."""
        if self._encoded is None:
            self._encoded = zlib.compress(msgspec.json.encode(self._policy.snapshot()), 1)
        courses = [course.snapshot() for course in self._courses.values()]
        return {"policy": self._encoded, "courses": courses, "us": [self._until_us, self._us]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self._policy.restore(msgspec.json.decode(zlib.decompress(state["policy"])))
        self._until_us, self._us = state["us"]
        for rule, models, rows, measured in state["courses"]:
            course = LimitHistory(ForecastRule(**rule))
            for level, horizon, one in models:
                course.models[level, horizon].restore(one)
            course.rows, course.measured = rows, measured
            self._courses[(*course.rule[:5], tuple(course.rule.bounds.items()))] = course
        in_force, _ = self._policy.in_force(self._until_us - 1)  # the same as at the last look, whenever that was
        self.others = (
            frozenset(forecast_rule(limit).kind for limit, _ in in_force if is_forecastable(limit)) - self._kinds
        )
