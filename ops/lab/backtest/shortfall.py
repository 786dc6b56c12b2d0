"""Whether an expected shortfall was as deep as losses beyond the value at risk went: Acerbi and Szekely's second test.

``Z2 = sum(X I / (N p ES)) + 1`` over observations, with the profit and loss X, I where it is below minus the value at
risk, and ES positive. It is 0 on average where the forecasts are right and negative where they understate risk. How
negative it becomes by chance depends on the tail, so critical values are simulated: the number of hits is binomial, and
what each weighs is drawn from the tail alone, which is the same experiment at a fraction of the draws.

References
----------
Acerbi and Szekely (2014), "Back-testing expected shortfall", test 2; critical values as MathWorks ``esbacktest``.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

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


def critical_value(observations: int, p: float, level: float, tail: float = np.inf) -> float:
    """Return below which Z2 refuses; ``p`` is the forecasts' (0.025 for ``es_975``), ``level`` the test's.

    Examples
    --------
    >>> round(critical_value(250, 0.025, 0.05), 1)
    -0.7
    """
    return float(np.quantile(null_distribution(observations, p, tail), level))


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
