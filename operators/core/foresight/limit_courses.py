"""The past of one limit as forecasts need it: when scopes came to its levels, what they used of it, what was said."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight.leanings import Gap
from seawall.operators.core.foresight.markets import HORIZONS_S
from seawall.operators.core.foresight.models import INTERCEPT, SLOPE, Layout, Models
from seawall.operators.core.foresight.passage import deviation, distance
from seawall.operators.core.frames import Table
from seawall.operators.core.valuation.arithmetic import log
from seawall.schemas.measures import FORECASTS

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
LEVELS: Final = ("soft", "hard")
MEASURED_S: Final = (3600, 86_400)
SHIFT: Final = 0.02  # of use: what a trend from nothing counts from
MARGIN: Final = ("account:*", "margin_ratio", "above")  # forecast with accounts' habits, in ``margins``
LAYOUT: Final = Layout(
    ("constant", "distance", "concentration", "trend", "utilisation"),
    ("structural", "utilisation", "full", "pool", "record"),
    ([0, 1], [0, 4], [0, 1, 2, 3]),
    ((INTERCEPT, SLOPE), (0.0, 1.0), (INTERCEPT, SLOPE, 0.0, 0.0)),
)


class Rule(NamedTuple):
    """A limit as it is forecast: ``bounds`` by level, those of :data:`LEVELS` that it has."""

    id: str
    kind: str
    name: str
    measure: str
    below: bool
    bounds: dict[str, float]

    def there(self, values: F8, bound: float) -> B1:
        """Return which values have come to a level."""
        return values <= bound if self.below else values >= bound


class Seen(NamedTuple):
    """What forecasts need of markets: by horizon the deviation of each underlying, its correlation with the factor,
    and whether it has too few prices.
    """

    spread: dict[int, F8]
    rho: F8
    cold: B1


class Course:
    """One rule's past: when scopes came to each level, what they used of it on average, what was written last."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.models = {(level, horizon): Models(horizon, LAYOUT) for level in rule.bounds for horizon in HORIZONS_S}
        # by level: since when, whether there; then the mean use of the highest level, and the probability written last
        self.rows: F8 = np.zeros((2 * len(LEVELS) + 2, 0))
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
            models.resolve(as_of_us, self.rows[2 * LEVELS.index(level)])
        for level, bound in self.rule.bounds.items():
            since, stood = self.rows[2 * LEVELS.index(level)], self.rows[2 * LEVELS.index(level) + 1]
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


def terms_of(course: Course, gap: Gap, active: I8, seen: Seen) -> dict[int, F8]:
    """Return by horizon the terms of the calibration, in the order of :data:`LAYOUT`."""
    count, held, left = len(gap.gap), gap.held, gap.gap[active]
    size = np.abs(held.gain)
    total, squares = np.bincount(held.account, size, count), np.bincount(held.account, size * size, count)
    focus = np.where(total > 0, squares / np.where(total > 0, total * total, 1.0), 1.0)[active]
    use = used(gap)[active]
    spreads = (deviation(held, gap.level, seen.spread[horizon], seen.rho, count) for horizon in HORIZONS_S)
    near = [distance(left, spread[active]) for spread in spreads]
    shares = [
        (use + SHIFT) / (course.rows[-2, active] + SHIFT),
        np.maximum(use, 1e-9) / np.maximum(1.0 - use, 1e-9),
    ]
    *logs, trend, odds = log(np.stack([*near, *shares]))
    fixed = (focus - 1.0, trend, np.minimum(np.maximum(odds, -8.0), 3.0))
    return {
        horizon: np.stack([np.ones(len(active)), -one, *fixed]) for horizon, one in zip(HORIZONS_S, logs, strict=True)
    }


def cold_of(gap: Gap, seen: Seen) -> B1:
    """Return whose volatilities are not known."""
    cold = seen.cold[gap.held.underlying]
    return np.asarray(np.bincount(gap.held.account, np.abs(gap.held.gain) * cold, len(gap.gap)) > 0)


def has_forecast(limit: dict[str, Any]) -> bool:
    """Tell whether a limit can be forecast here."""
    kind = limit["scope"], limit["measure"], limit["direction"]
    return (
        kind != MARGIN
        and "window_s" not in limit
        and limit["measure"] not in FORECASTS
        and ("soft" in limit or "hard" in limit)
    )


def rule_of(limit: dict[str, Any]) -> Rule:
    """Return a limit as it is forecast."""
    kind, _, name = limit["scope"].partition(":")
    bounds: dict[str, float] = {level: float(limit[level]) for level in LEVELS if level in limit}
    return Rule(limit["id"], kind, name, limit["measure"], limit["direction"] == "below", bounds)


def values_of(rule: Rule, tables: dict[str, Table]) -> F8 | None:
    """Return a rule's measure by scope, None where it is not computed."""
    table = tables.get(rule.kind)
    if table is None or rule.measure not in table.measures:
        return None
    return np.asarray(table.values[table.measures.index(rule.measure)])


def moves(gap: Gap) -> B1:
    """Return which scopes hold anything that a gap moves with."""
    moved = np.abs(gap.level * gap.held.gain - gap.held.margin)
    return np.asarray(np.bincount(gap.held.account, moved, len(gap.gap)) > 0)


def used(gap: Gap) -> F8:
    """Return how much of the way to a level is used, 0 to 1."""
    return np.minimum(np.maximum(1.0 - gap.gap / np.maximum(gap.scale, 1e-9), 0.0), 1.0)
