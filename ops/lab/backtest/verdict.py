"""The verdict on risk figures of one scope: all tests on its observations, or why there are too few of them.

An observation is one hour, or one day, of what was held at its beginning: the figures that were forecast then and the
profit or loss until its end. Hours do not overlap. With fewer than 600 of them, or 250 days, the tests would accept
nearly anything; the verdict then says so and gives none.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from seawall.ops.lab.backtest.coverage import (
    Light,
    Outcome,
    binomial,
    conditional_coverage,
    independence,
    kupiec,
    traffic_light,
)
from seawall.ops.lab.backtest.shortfall import Shortfall, acerbi_szekely

LEAST = {"hour": 600, "day": 250}
LEVEL = 0.05
VAR_P, ES_P = 0.01, 0.025
HOUR_US = 3_600_000_000
LENGTHS = {"hour": HOUR_US, "day": 24 * HOUR_US}


class Observation(NamedTuple):
    """What was forecast at a time, and what followed until the next; amounts in the reporting currency."""

    time_us: int
    pnl: float
    var_99: float
    es_975: float
    var_975: float


class Tests(NamedTuple):
    """Every test of one scope's figures."""

    hits: int
    kupiec: Outcome
    binomial: Outcome
    independence: Outcome
    conditional: Outcome
    light: Light
    shortfall: Shortfall


class Verdict(NamedTuple):
    """What the tests say of one scope; ``tests`` is None where there are too few observations for them to mean much."""

    scope: str
    every: str
    observations: int
    tests: Tests | None
    reason: str

    @property
    def refused(self) -> list[str]:
        """The tests that refuse the figures, at 5 %; red for the traffic light."""
        if self.tests is None:
            return []
        found = {name: getattr(self.tests, name).p_value for name in ("kupiec", "independence", "conditional")}
        found["shortfall"] = self.tests.shortfall.p_value
        refused = [name for name, p_value in found.items() if p_value < LEVEL]
        return refused + (["traffic light"] if self.tests.light.zone == "red" else [])

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        tests = None
        if self.tests is not None:
            tests = {
                name: value._asdict() if hasattr(value, "_asdict") else value
                for name, value in self.tests._asdict().items()
            }
        told = {"scope": self.scope, "every": self.every, "observations": self.observations, "reason": self.reason}
        return told | {"refused": self.refused, "tests": tests}


def verdict(scope: str, every: str, observed: Sequence[Observation]) -> Verdict:
    """Test the figures of one scope, where the observations suffice.

    Parameters
    ----------
    every
        ``hour`` or ``day``: what the observations are.

    Raises
    ------
    ValueError
        Observations overlap, or are not in order.
    """
    for before, after in pairwise(observed):
        if after.time_us - before.time_us < LENGTHS[every]:
            raise ValueError(f"{scope}: two observations of one {every} begin less than one {every} apart")
    count, least = len(observed), LEAST[every]
    if count < least:
        reason = f"{count} observations of one {every} give the tests no power; at least {least} are needed"
        return Verdict(scope, every, count, None, reason)
    hits = [one.pnl < -one.var_99 for one in observed]
    total = sum(hits)
    deep = acerbi_szekely(
        [one.pnl for one in observed],
        [one.var_975 for one in observed],
        [one.es_975 for one in observed],
        ES_P,
        LEVEL,
    )
    found = Tests(
        total, kupiec(count, total, VAR_P), binomial(count, total, VAR_P), independence(hits),
        conditional_coverage(hits, VAR_P), traffic_light(count, total, VAR_P), deep,
    )  # fmt: skip
    return Verdict(scope, every, count, found, "")


def non_overlapping(observed: Sequence[Observation], every: str) -> list[Observation]:
    """Return the observations that begin at least one ``every`` after the last that was kept."""
    kept: list[Observation] = []
    for one in observed:
        if not kept or one.time_us - kept[-1].time_us >= LENGTHS[every]:
            kept.append(one)
    return kept
