"""Robust exponentially weighted moments of one series.

Welford's form, because E[x²] − E[x]² cancels: at 1e10 ± 100 it is ten times too large and at times negative. A row
z standard deviations out learns with weight min(1, (2 / z)²), the Cauchy-like weight of robust regression, so that an
incident hardly moves what it is measured against and yet nothing is shut out for ever.

References
----------
West, D. H. D. (1979). Updating mean and variance estimates: an improved method. CACM 22(9).
Huber, P. J. (1981). Robust Statistics.
"""

from collections.abc import Iterable

WARM_ROWS = 150  # before that every row is learned in full and nothing is evidence
LEARN_RATE = 0.001  # a memory of about 1,000 rows
ORDINARY_Z2 = 4.0  # up to two standard deviations learn in full
DISTANCE_MAX = 100.0  # ten standard deviations: beyond, farther is not more unusual


def total(parts: Iterable[float]) -> float:
    """Add from left to right. The built-in ``sum`` compensates rounding from Python 3.12 on: other bits than 3.11."""
    result = 0.0
    for part in parts:
        result += part
    return result


def distance(mean: float, variance: float, count: float, value: float) -> float:
    """Return the squared standard deviations between ``value`` and ``mean``, at most ``DISTANCE_MAX``.

    A constant series has no variance: its unchanged value lies at 0, any other at the maximum once it is warm.

    Examples
    --------
    >>> distance(0.0, 4.0, 200.0, 6.0), distance(5.0, 0.0, 200.0, 5.0), distance(5.0, 0.0, 200.0, 5.1)
    (9.0, 0.0, 100.0)
    """
    gap = value - mean
    if variance > 0.0:
        squared = gap * gap / variance
        return squared if squared < DISTANCE_MAX else DISTANCE_MAX
    return DISTANCE_MAX if gap != 0.0 and count >= WARM_ROWS else 0.0


def learned(mean: float, variance: float, count: float, value: float, squared: float) -> tuple[float, float]:
    """Return mean and variance after ``value``, whose distance was ``squared``, as the ``count``-th one."""
    rate = LEARN_RATE if count * LEARN_RATE > 1.0 else 1.0 / count
    if squared > ORDINARY_Z2 and count > WARM_ROWS and variance > 0.0:
        rate *= ORDINARY_Z2 / squared
    gap = value - mean
    return mean + rate * gap, (1.0 - rate) * (variance + rate * gap * gap)


class Moments:
    """Mean and variance of one series, with the above as methods."""

    __slots__ = ("count", "mean", "variance")

    def __init__(self, mean: float = 0.0, variance: float = 0.0, count: float = 0.0) -> None:
        self.mean, self.variance, self.count = mean, variance, count

    def distance(self, value: float) -> float:
        """Return how far ``value`` lies out, in squared standard deviations; 0 before the first."""
        gap = value - self.mean
        if self.variance > 0.0:  # as ``distance``, without the cost of a call
            squared = gap * gap / self.variance
            return squared if squared < DISTANCE_MAX else DISTANCE_MAX
        return DISTANCE_MAX if gap != 0.0 and self.count >= WARM_ROWS else 0.0

    def learn(self, value: float, squared: float) -> None:
        """Take in ``value``, of which ``distance`` said ``squared``."""
        self.count += 1.0
        self.mean, self.variance = learned(self.mean, self.variance, self.count, value, squared)
