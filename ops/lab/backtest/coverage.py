"""Whether a value at risk was exceeded as often as it said, and at no times of its own.

A *hit* is an observation whose loss exceeds the value at risk that was forecast for it; ``p`` is how often that should
happen (0.01 for ``var_99``). Observations must not overlap: a loss that is in two of them is counted twice, and the
tests believe in more evidence than there is.

References
----------
Kupiec (1995), proportion of failures; Christoffersen (1998), interval forecast evaluation; Basel Committee, MAR32.9
and MAR99 (the traffic light); values in ``risk_vectors.json`` of the project's vectors.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import erfc, exp, inf, lgamma, log, log1p, sqrt
from typing import NamedTuple

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
