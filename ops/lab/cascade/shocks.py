"""Joint shocks drawn at random, from a seed, and what can be said of the losses that they come to.

Failures are tied by one common factor: a node fails when ``sqrt(rho) Z + sqrt(1 - rho) e`` falls below the quantile of
its own probability (Vasicek 2002; the Basel formula). The same seed gives the same scenarios, whatever the model.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrik, ndtri

from seawall.ops.lab.cascade.contagion import Model, Shocks
from seawall.schemas.errors import UsageError

F8 = NDArray[np.float64]
DRAWN_AT_ONCE: Final = 200


class Estimate(NamedTuple):
    """A figure with the interval that holds it with the stated confidence."""

    value: float
    low: float
    high: float


class Losses(NamedTuple):
    """What a sample of losses says of their distribution."""

    mean: Estimate
    quantile: Estimate
    shortfall: Estimate
    scenarios: int


def joint_failures(model: Model, probability: F8, correlation: float, count: int, seed: int) -> Shocks:
    """Return scenarios in which nodes are made to fail together.

    Parameters
    ----------
    probability : float64, shape (nodes,)
        Of failing, from 0 to 1.
    correlation
        Of the nodes' worth, from 0 to below 1.
    """
    if not 0 <= correlation < 1:
        raise UsageError(f"correlation {correlation} must be at or above 0 and below 1")
    wrong = ~((probability >= 0) & (probability <= 1))
    if wrong.any():
        row = int(wrong.argmax())
        raise UsageError(f"probability, node {row}: {probability[row]} must lie between 0 and 1")
    draw, bar = np.random.default_rng(seed), ndtri(probability)
    scenario, node = [], []
    for first in range(0, count, DRAWN_AT_ONCE):
        size = min(DRAWN_AT_ONCE, count - first)
        common, own = draw.standard_normal((size, 1)), draw.standard_normal((size, len(bar)))
        fell = (np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own < bar).nonzero()
        scenario.append(fell[0] + first)
        node.append(fell[1])
    return Shocks.failing(model, np.concatenate(scenario), np.concatenate(node), count)


def estimate(losses: F8, level: float = 0.99, confidence: float = 0.95) -> Losses:
    """Return mean, quantile and expected shortfall of losses with their confidence intervals.

    Mean and shortfall have intervals of the normal approximation, the quantile that of the order statistics whose ranks
    are binomial (no assumption on the distribution; as wide as the sample where it is too small to say).
    """
    if len(losses) < 2:
        raise UsageError(f"{len(losses)} scenarios say nothing of a distribution; run at least 2")
    count, ordered = len(losses), np.sort(losses)
    z = float(ndtri(0.5 + confidence / 2))
    mean = float(losses.mean())
    error = z * float(losses.std(ddof=1)) / count**0.5
    at = min(int(np.ceil(level * count)) - 1, count - 1)
    low, high = (int(np.ceil(bdtrik(0.5 + side * confidence / 2, count, level))) for side in (-1, 1))
    quantile = float(ordered[at])
    tail = ordered[at:]
    worst = float(tail.mean())
    spread = (float(tail.var()) + level * (worst - quantile) ** 2) / len(tail)  # of the mean of a tail cut at a guess
    return Losses(
        Estimate(mean, mean - error, mean + error),
        Estimate(quantile, float(ordered[max(low - 1, 0)]), float(ordered[min(high, count - 1)])),
        Estimate(worst, worst - z * spread**0.5, worst + z * spread**0.5),
        count,
    )
