"""How likely each limit's scopes come to its soft and hard level within each horizon: any kind of scope, any measure
that moves with prices.

Procedure
---------
1. Whenever measures change: forecasts whose horizon is past are scored and learned from; then who has just come to a
   level is noted (as ``foresight`` does for accounts' margins).
2. Once a minute: the gap to every level over the deviation of what the whole book makes of it is the distance of first
   passage (``passage``); every limit and horizon calibrates it on its own outcomes (``limit_courses``).
3. What is in danger and moved is written, once an hour everything, and a bounded number is kept to learn from.

Levels are those that the limit states; one that scales with the market is forecast at its base. A limit on a change
over a window, on a forecast, or on a measure that is no sum over what is held (``leanings``) has no forecast. The
measures ``breach_probability_1h`` and ``_24h`` of a scope are those of the likeliest of its limits at its hard level,
or soft where it has no hard one: 1 where it is there, 0 where no limit is on it.
"""

import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight.leanings import Gap
from seawall.operators.core.foresight.limit_courses import (
    LAYOUT,
    MEASURED_S,
    Course,
    Rule,
    Seen,
    cold_of,
    has_forecast,
    moves,
    rule_of,
    terms_of,
    used,
    values_of,
)
from seawall.operators.core.foresight.models import reasons, sampled
from seawall.operators.core.frames import Table
from seawall.operators.core.policy import Policy
from seawall.operators.core.valuation.arithmetic import exp

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
Lean = Callable[[str, str, bool, float], Gap | None]  # of kind of scope, measure, direction below, level
B1 = NDArray[np.bool_]
ENDANGERED: Final = 0.01
MOVED: Final = 0.05
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
        self._courses: dict[tuple[Any, ...], Course] = {}
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
        """Take the limits in force, before the measures of a frame, and return them; None where none has changed."""
        if as_of_us < self._until_us:
            return None
        found, until_us = self._policy.in_force(as_of_us)
        standing = [limit for limit, _ in found]
        self._until_us = (1 << 62) if until_us is None else until_us
        self._take([rule_of(limit) for limit in standing if has_forecast(limit)])
        return standing

    def settle(self, tables: dict[str, Table], as_of_us: int) -> None:
        """Score and note outcomes on the measures of a frame."""
        for course in self._courses.values():
            values = values_of(course.rule, tables)
            if values is not None:
                course.settle(values, as_of_us)

    def forecast(self, lean: Lean, tables: dict[str, Table], seen: Seen, as_of_us: int) -> list[dict[str, Any]]:
        """Forecast everything; return what is to be written."""
        rows: list[dict[str, Any]] = []
        hourly = as_of_us // HOUR_US != self._us // HOUR_US
        elapsed_s, self._us = (as_of_us - self._us) / 1e6 if self._us else 0.0, as_of_us
        for course in self._courses.values():
            values = values_of(course.rule, tables)
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

    def _take(self, rules: list[Rule]) -> None:
        """Take the limits in force; what is known of those that stay is kept."""
        self.others = frozenset(rule.kind for rule in rules) - self._kinds
        fresh = {}
        for rule in rules:
            if rule.kind in self._kinds:
                key = (*rule[:5], tuple(rule.bounds.items()))
                fresh[key] = self._courses.get(key) or Course(rule)
        self._courses = fresh

    def _forecast(
        self,
        course: Course,
        values: F8,
        names: list[str],
        lean: Lean,
        seen: Seen,
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
            active = (mine & ~rule.there(values, rule.bounds[level]) & moves(gap) & (gap.gap > 0)).nonzero()[0]
            for horizon, about in terms_of(course, gap, active, seen).items():
                said[level, horizon] = active, about, course.models[level, horizon].forecast(about, active)
        for at, horizon in enumerate(MEASURED_S):
            active, _, models = said[highest, horizon]
            course.measured[at, active] = models[course.models[highest, horizon].scores.champion]
        rows = self._rows(course, said, names, cold_of(last, seen), hourly)
        if hourly:
            self._keep(course, said)
        return rows

    def _use(self, course: Course, gap: Gap, elapsed_s: float) -> None:
        """Move the mean use of the highest level on."""
        keep = float(exp(-elapsed_s / DAY_S)) if elapsed_s else 0.0
        mean = course.rows[-2]
        mean[:] = keep * mean + (1.0 - keep) * used(gap)

    def _rows(
        self, course: Course, said: dict[tuple[str, int], tuple[I8, F8, F8]], names: list[str], cold: B1, hourly: bool
    ) -> list[dict[str, Any]]:
        now, last = course.measured[-1], course.rows[-1]
        active = next(reversed(said.values()))[0]
        moved = np.abs(now - last) > MOVED * np.maximum(last, ENDANGERED)
        chosen = np.zeros(len(now), dtype=bool)
        chosen[active] = hourly | (moved & ((now >= ENDANGERED) | (last >= ENDANGERED)))[active]
        last[chosen] = now[chosen]
        rows = []
        for (level, horizon), (of, about, models) in said.items():
            own, at = course.models[level, horizon], chosen[of].nonzero()[0]
            why, champion = reasons(LAYOUT, own.contributions(about, of)[:, at]), own.scores.champion
            for place, told in zip(at.tolist(), why, strict=True):
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
                        "model": LAYOUT.names[champion],
                        "contributions": told,
                        "limit": course.rule.id,
                    }
                )
        return rows

    def _keep(self, course: Course, said: dict[tuple[str, int], tuple[I8, F8, F8]]) -> None:
        """Keep a bounded number of forecasts to learn from."""
        for key, (active, about, models) in said.items():
            chosen, weights = sampled(models[-1])
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
            course = Course(Rule(**rule))
            for level, horizon, one in models:
                course.models[level, horizon].restore(one)
            course.rows, course.measured = rows, measured
            self._courses[(*course.rule[:5], tuple(course.rule.bounds.items()))] = course
        standing, _ = self._policy.in_force(self._until_us - 1)  # the same as at the last look, whenever that was
        self.others = frozenset(rule_of(limit).kind for limit, _ in standing if has_forecast(limit)) - self._kinds
