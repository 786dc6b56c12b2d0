"""Statistical tests of value at risk and expected shortfall, and the verdict on the figures of one scope.

A *hit* is an observation whose loss exceeds the value at risk that was forecast for it; ``p`` is how often that should
happen (0.01 for ``var_99``). Observations are one hour, or one day, and must not overlap: a loss that is in two of them
is counted twice, and the tests believe in more evidence than there is. With fewer than 600 hours, or 250 days, the
tests would accept nearly anything; the verdict then says so and gives none.

Expected shortfall is tested by ``Z2 = sum(X I / (N p ES)) + 1``, with the profit and loss X, I where it is below minus
the value at risk, and ES positive. It is 0 on average where the forecasts are right and negative where they understate
risk. How negative it becomes by chance depends on the tail, so critical values are simulated: the number of hits is
binomial, and the weight of each is drawn from the tail alone, which is the same experiment at a fraction of the draws.

References
----------
Kupiec (1995), proportion of failures; Christoffersen (1998), interval forecast evaluation; Basel Committee, MAR32.9
and MAR99 (the traffic light); values in ``risk_vectors.json`` of the project's vectors. Acerbi and Szekely (2014),
"Back-testing expected shortfall", test 2; critical values as MathWorks ``esbacktest``.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import erfc, exp, inf, lgamma, log, log1p, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

# Tests of value at risk: exceeded as often as it says, and not in clusters (Kupiec, Christoffersen).

AMBER, RED = 0.95, 0.9999  # cumulative probability of so many hits or fewer, from which on a zone begins
MULTIPLIERS = (1.5, 1.5, 1.5, 1.5, 1.5, 1.7, 1.76, 1.83, 1.88, 1.92, 2.0)  # MAR32.9, 250 days at 99 %


class Outcome(NamedTuple):
    """One test: its statistic, and how likely one as large is where the forecasts are right."""

    statistic: float
    p_value: float


class Light(NamedTuple):
    """The zone of a count of hits; ``multiplier`` only for 250 observations at 99 %, where Basel gives one."""

    zone: str
    cumulative: float
    amber_from: int
    red_from: int
    multiplier: float | None


def kupiec(observations: int, hits: int, p: float) -> Outcome:
    """Test whether hits are as frequent as they should be (likelihood ratio, one degree of freedom).

    Raises
    ------
    ValueError
        There are no observations, more hits than observations, or ``p`` lies outside (0, 1).

    Examples
    --------
    >>> round(kupiec(250, 10, 0.01).statistic, 2)
    12.96
    """
    _check(observations, hits, p)
    rate = hits / observations
    ratio = 2 * (_log_likelihood(observations, hits, rate) - _log_likelihood(observations, hits, p))
    ratio = max(ratio, 0.0)  # rounding, where the rate is what it should be
    return Outcome(ratio, chi2_1(ratio))


def binomial(observations: int, hits: int, p: float) -> Outcome:
    """Test the same by the normal approximation, two-sided."""
    _check(observations, hits, p)
    z = (hits - observations * p) / sqrt(observations * p * (1 - p))
    return Outcome(z, erfc(abs(z) / sqrt(2)))


def transitions(hits: Sequence[bool]) -> tuple[int, int, int, int]:
    """Return how often no hit follows none, a hit none, none a hit, and a hit a hit."""
    counts = [0, 0, 0, 0]
    for before, after in pairwise(hits):
        counts[2 * bool(before) + bool(after)] += 1
    return counts[0], counts[1], counts[2], counts[3]


def independence(hits: Sequence[bool]) -> Outcome:
    """Test whether a hit makes the next one no more likely (Christoffersen, one degree of freedom)."""
    n00, n01, n10, n11 = transitions(hits)
    moves = n00 + n01 + n10 + n11
    if not moves:
        raise ValueError("independence needs two observations or more")
    after_none = n01 / (n00 + n01) if n00 + n01 else 0.0
    after_hit = n11 / (n10 + n11) if n10 + n11 else 0.0
    apart = _log_likelihood(n00 + n01, n01, after_none) + _log_likelihood(n10 + n11, n11, after_hit)
    ratio = max(2 * (apart - _log_likelihood(moves, n01 + n11, (n01 + n11) / moves)), 0.0)
    return Outcome(ratio, chi2_1(ratio))


def conditional_coverage(hits: Sequence[bool], p: float) -> Outcome:
    """Test both at once: as frequent as they should be, and independent (two degrees of freedom)."""
    ratio = kupiec(len(hits), sum(map(bool, hits)), p).statistic + independence(hits).statistic
    return Outcome(ratio, exp(-ratio / 2))


def traffic_light(observations: int, hits: int, p: float) -> Light:
    """Return Basel's zone of a count of hits.

    Amber begins where so many hits or fewer have a probability of 95 % or more, red at 99.99 %.

    Examples
    --------
    >>> traffic_light(250, 5, 0.01).zone, traffic_light(250, 5, 0.01).multiplier
    ('amber', 1.7)
    """
    _check(observations, hits, p)
    amber, red = zone_bounds(observations, p)
    zone = "red" if hits >= red else "amber" if hits >= amber else "green"
    known = observations == 250 and p == 0.01
    multiplier = MULTIPLIERS[min(hits, len(MULTIPLIERS) - 1)] if known else None
    return Light(zone, cumulative(observations, hits, p), amber, red, multiplier)


@lru_cache(maxsize=256)
def zone_bounds(observations: int, p: float) -> tuple[int, int]:
    """Return the fewest hits of the amber and of the red zone, 1 or more: without a hit the light is green."""
    total, amber, hits = _probability(observations, 0, p), -1, 1
    while hits < observations:
        total += _probability(observations, hits, p)
        if amber < 0 and total >= AMBER:
            amber = hits
        if total >= RED:
            break
        hits += 1
    return (amber if amber >= 0 else hits), hits


def cumulative(observations: int, hits: int, p: float) -> float:
    """Return the probability of so many hits or fewer."""
    return min(sum(_probability(observations, count, p) for count in range(hits + 1)), 1.0)


def chi2_1(statistic: float) -> float:
    """Return the probability of a chi-squared value as large, with one degree of freedom."""
    return erfc(sqrt(statistic / 2))


def _probability(observations: int, hits: int, p: float) -> float:
    ways = lgamma(observations + 1) - lgamma(hits + 1) - lgamma(observations - hits + 1)
    return exp(ways + hits * log(p) + (observations - hits) * log1p(-p))


def _log_likelihood(observations: int, hits: int, rate: float) -> float:
    """Return the logarithm of the likelihood of a rate; what did not happen has none to bear."""
    found = 0.0
    if hits:
        found += hits * (log(rate) if rate > 0 else -inf)
    if observations - hits:
        found += (observations - hits) * (log1p(-rate) if rate < 1 else -inf)
    return found


def _check(observations: int, hits: int, p: float) -> None:
    if observations < 1 or not 0 <= hits <= observations:
        raise ValueError(f"{hits} hits of {observations} observations: take one observation or more, and no more hits")
    if not 0 < p < 1:
        raise ValueError(f"p is {p}: a probability between 0 and 1 is needed")


# Test of expected shortfall: as deep as losses beyond the value at risk go (Acerbi and Szekely's second test).

TRIALS = 100_000
SEED = 20_140_401
Floats = NDArray[np.float64]


class Shortfall(NamedTuple):
    """The statistic, its critical value at ``level``, and how often chance alone gives one as low."""

    statistic: float
    critical: float
    p_value: float


def z2(pnl: Sequence[float], var: Sequence[float], es: Sequence[float], p: float) -> float:
    """Return the statistic of observations.

    Parameters
    ----------
    pnl
        Profit and loss of each.
    var, es
        What was forecast for it, both positive, at the probability ``p`` of being exceeded.

    Raises
    ------
    ValueError
        Lengths differ, nothing is given, or a forecast of expected shortfall is not positive.
    """
    gained, at_risk, expected = (np.asarray(values, dtype=np.float64) for values in (pnl, var, es))
    if not len(gained) or not len(gained) == len(at_risk) == len(expected):
        raise ValueError("profit and loss, value at risk and expected shortfall need one value per observation")
    if (expected <= 0).any():
        raise ValueError("expected shortfall must be positive: leave observations without exposure out")
    hit = gained < -at_risk
    return float((gained[hit] / expected[hit]).sum() / (len(gained) * p) + 1)


def acerbi_szekely(
    pnl: Sequence[float], var: Sequence[float], es: Sequence[float], p: float, level: float = 0.05, tail: float = np.inf
) -> Shortfall:
    """Test expected shortfall against what chance gives.

    Parameters
    ----------
    level
        How often a right forecast may be refused.
    tail
        Degrees of freedom of the t distribution that losses follow; infinite: normal.
    """
    statistic = z2(pnl, var, es, p)
    drawn = null_distribution(len(pnl), p, tail)
    return Shortfall(statistic, float(np.quantile(drawn, level)), float((drawn <= statistic).mean()))


@lru_cache(maxsize=16)
def null_distribution(observations: int, p: float, tail: float = np.inf, trials: int = TRIALS) -> Floats:
    """Return Z2 of so many trials in which the forecasts are right; the same draws each time."""
    rng = np.random.default_rng(SEED)
    hits = rng.binomial(observations, p, trials)
    depth = _quantile(rng.uniform(0.0, p, int(hits.sum())), tail) / _expected(p, tail)
    ends = np.cumsum(hits)
    summed = np.concatenate([[0.0], np.cumsum(depth)])
    found: Floats = 1 - (summed[ends] - summed[ends - hits]) / (observations * p)
    found.flags.writeable = False
    return found


def _quantile(at: Floats, tail: float) -> Floats:
    """Return how deep the loss is that is exceeded with these probabilities, positive."""
    found: Floats = -special.ndtri(at) if np.isinf(tail) else -special.stdtrit(tail, at)
    return found


def _expected(p: float, tail: float) -> float:
    """Return the expected shortfall at ``p`` of the unit normal or t distribution."""
    at = float(_quantile(np.array([p]), tail)[0])
    if np.isinf(tail):
        return float(np.exp(-at * at / 2) / np.sqrt(2 * np.pi) / p)
    log_scale = special.gammaln((tail + 1) / 2) - special.gammaln(tail / 2)
    density = np.exp(log_scale) / np.sqrt(tail * np.pi) * (1 + at * at / tail) ** (-(tail + 1) / 2)
    return float(density * (tail + at * at) / (tail - 1) / p)


# The verdict on risk figures of one scope: all tests on its observations, or why there are too few of them.
#
# An observation is one hour, or one day, of what was held at its beginning: the figures that were forecast then and the
# profit or loss until its end. Hours do not overlap. With fewer than 600 of them, or 250 days, the tests would accept
# nearly anything; the verdict then says so and gives none.

OBSERVATIONS_MIN = {"hour": 600, "day": 250}
LEVEL = 0.05
VAR_P, ES_P = 0.01, 0.025
HOUR_US = 3_600_000_000
LENGTHS = {"hour": HOUR_US, "day": 24 * HOUR_US}


class Observation(NamedTuple):
    """Forecast at a time, and the outcome until the next; amounts in the reporting currency."""

    time_us: int
    pnl: float
    var_99: float
    es_975: float
    var_975: float


class FigureTests(NamedTuple):
    """Every test of one scope's figures."""

    hits: int
    kupiec: Outcome
    binomial: Outcome
    independence: Outcome
    conditional: Outcome
    light: Light
    shortfall: Shortfall


class Verdict(NamedTuple):
    """Verdict of the tests on one scope; ``tests`` is None where there are too few observations."""

    scope: str
    every: str
    observations: int
    tests: FigureTests | None
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
        described = {"scope": self.scope, "every": self.every, "observations": self.observations, "reason": self.reason}
        return described | {"refused": self.refused, "tests": tests}


def evaluate_figures(scope: str, every: str, observed: Sequence[Observation]) -> Verdict:
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
    count, least = len(observed), OBSERVATIONS_MIN[every]
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
    found = FigureTests(
        total, kupiec(count, total, VAR_P), binomial(count, total, VAR_P), independence(hits),
        conditional_coverage(hits, VAR_P), traffic_light(count, total, VAR_P), deep,
    )  # fmt: skip
    return Verdict(scope, every, count, found, "")
