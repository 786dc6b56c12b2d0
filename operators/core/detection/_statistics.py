"""Statistics of one series: robust exponentially weighted moments, and rank calibration by histogram.

Ranks exist for one key and for many keys at once, with the same operations in the same order, so with equal results.
"""

from bisect import bisect_right
from collections.abc import Iterable
from math import sqrt

import numpy as np
from numpy.typing import NDArray

# Robust exponentially weighted moments of one series.
#
# Welford's form, because E[x²] − E[x]² cancels: at 1e10 ± 100 it is ten times too large and at times negative. A row
# z standard deviations out learns with weight min(1, (2 / z)²), the Cauchy-like weight of robust regression, so that an
# incident hardly moves what it is measured against and yet nothing is shut out for ever.
#
# References
# ----------
# West, D. H. D. (1979). Updating mean and variance estimates: an improved method. CACM 22(9).
# Huber, P. J. (1981). Robust Statistics.

WARM_ROWS = 150  # before that every row is learned in full and nothing is evidence
LEARN_RATE = 0.001  # a memory of about 1,000 rows
ORDINARY_Z2 = 4.0  # up to two standard deviations learn in full
DISTANCE_MAX = 100.0  # ten standard deviations: beyond, farther is not more unusual


def ordered_total(parts: Iterable[float]) -> float:
    """Add from left to right. The built-in ``sum`` compensates rounding from Python 3.12 on: other bits than 3.11."""
    result = 0.0
    for part in parts:
        result += part
    return result


def squared_distance(mean: float, variance: float, count: float, value: float) -> float:
    """Return the squared standard deviations between ``value`` and ``mean``, at most ``DISTANCE_MAX``.

    A constant series has no variance: its unchanged value lies at 0, any other at the maximum once it is warm.

    Examples
    --------
    >>> [squared_distance(*row) for row in ((0.0, 4.0, 200.0, 6.0), (5.0, 0.0, 200.0, 5.0), (5.0, 0.0, 200.0, 5.1))]
    [9.0, 0.0, 100.0]
    """
    gap = value - mean
    if variance > 0.0:
        squared = gap * gap / variance
        return squared if squared < DISTANCE_MAX else DISTANCE_MAX
    return DISTANCE_MAX if gap != 0.0 and count >= WARM_ROWS else 0.0


def updated_moments(mean: float, variance: float, count: float, value: float, squared: float) -> tuple[float, float]:
    """Return mean and variance after ``value``, whose distance was ``squared``, as the ``count``-th one."""
    rate = LEARN_RATE if count * LEARN_RATE > 1.0 else 1.0 / count
    if squared > ORDINARY_Z2 and count > WARM_ROWS and variance > 0.0:
        rate *= ORDINARY_Z2 / squared
    gap = value - mean
    return mean + rate * gap, (1.0 - rate) * (variance + rate * gap * gap)


class RobustMoments:
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
        self.mean, self.variance = updated_moments(self.mean, self.variance, self.count, value, squared)


# Rank calibration: the share of past values that lie below a new one, from a histogram of fixed size.
#
# Detectors differ in scale (HalfSpaceTrees: normal .960, far outlier .988), so a score is comparable between detectors
# and instruments only as a rank among its own past. Values are counted in logarithmic bins, four per doubling; past
# ``TOTAL_MAX`` all counts are halved, so old regimes fade. Unusual values count a tenth: a crisis must not become the
# yardstick by which the next one is measured, but a lasting change must, in time. What that takes from the upper end is
# given back when a rank is told, so a rank of .9 means one ordinary row in ten.

EDGE_LOWEST = 2.0**-10
DOUBLINGS = 17
TOTAL_MAX = 200_000.0  # 20,000 ordinary rows
UNUSUAL_RANK = 0.99
ORDINARY_WEIGHT, UNUSUAL_WEIGHT = 10.0, 1.0  # whole numbers, so that their sums are exact in any order
# From KNEE of the weighted histogram on, what is learned counts a tenth. So the hundredth above it stands for ten
# hundredths, of 109 in all; either side is stretched to the share of the rows that it stands for.
KNEE = 0.99
_ROWS = KNEE + (1.0 - KNEE) * (ORDINARY_WEIGHT / UNUSUAL_WEIGHT)
BELOW_KNEE, ABOVE_KNEE = 1.0 / _ROWS, ORDINARY_WEIGHT / UNUSUAL_WEIGHT / _ROWS
GATE_RANK = KNEE * BELOW_KNEE  # .908: one ordinary row in eleven lies above, and is not let into the yardstick in full
NEAR_RANKS = 9  # bins that are sooner added one by one than all at once


def _edges() -> tuple[float, ...]:
    half = sqrt(2.0)  # not a power: those may differ between hosts in the last bit
    steps = (1.0, sqrt(half), half, half * sqrt(half))
    return tuple(EDGE_LOWEST * 2**octave * step for octave in range(DOUBLINGS) for step in steps)


EDGES = _edges()
BINS = len(EDGES) + 1


class RankHistogram:
    """Histogram of past values, zero and above.

    Examples
    --------
    >>> ranks = RankHistogram()
    >>> for value in range(100):
    ...     ranks.learn(float(value))
    >>> ranks.of(1000.0), 0.4 < ranks.of(50.0) < 0.6
    (1.0, True)
    """

    __slots__ = ("_at", "_below", "counts", "total")

    def __init__(self) -> None:
        self.load([0.0] * BINS, 0.0)

    def load(self, counts: list[float], total: float) -> None:
        """Take over a histogram."""
        self.counts, self.total = counts, total
        self._at, self._below = 0, 0.0  # a bin, and how many lie below it

    def of(self, value: float) -> float:
        """Return the share of the past below ``value``, interpolated inside its bin; 0 when there is no past."""
        if self.total == 0.0:
            return 0.0
        index = bisect_right(EDGES, value)
        below = self._count_below(index)
        if index == 0:
            inside = value / EDGES[0]
        elif index == len(EDGES):
            inside = 1.0
        else:
            inside = (value - EDGES[index - 1]) / (EDGES[index] - EDGES[index - 1])
        share = (below + inside * self.counts[index]) / self.total
        if share <= KNEE:
            return share * BELOW_KNEE
        return min(GATE_RANK + (share - KNEE) * ABOVE_KNEE, 1.0)

    def learn(self, value: float, rank: float = 0.0) -> None:
        """Count ``value``, whose rank was ``rank``: a tenth when that lay above ``GATE_RANK``."""
        weight = UNUSUAL_WEIGHT if rank > GATE_RANK else ORDINARY_WEIGHT
        index = bisect_right(EDGES, value)
        self.counts[index] += weight
        self.total += weight
        if index < self._at:
            self._below += weight
        if self.total > TOTAL_MAX:
            counts = [count // 2.0 for count in self.counts]
            self.load(counts, sum(counts))

    def _count_below(self, index: int) -> float:
        """Return how many lie below a bin, from where the last answer was: counts are whole, so their order is free."""
        at, below, counts = self._at, self._below, self.counts
        if -NEAR_RANKS < index - at < NEAR_RANKS:
            while at < index:
                below += counts[at]
                at += 1
            while at > index:
                at -= 1
                below -= counts[at]
        else:
            below = sum(counts[:index])
        self._at, self._below = index, below
        return below


# Rank calibration of many keys at once: as `RankHistogram` of one key, with one row for each key.
#
# The operations are the same, in the same order; counts are whole numbers, whose sums are exact in any order.

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_EDGES = np.array(EDGES)
_BINS = np.arange(BINS)


def bin_indices(values: Floats) -> Ints:
    """Return the bin of each value."""
    return np.searchsorted(_EDGES, values, side="right")


def batch_ranks(counts: Floats, total: Floats, values: Floats, bins: Ints) -> Floats:
    """Return the rank of each value among the past of its key; 0 where there is none.

    Parameters
    ----------
    counts, total
        Shape (rows, bins) and (rows,): the histograms.
    values, bins
        Shape (rows,), and ``bin_indices`` them.
    """
    below = np.add.reduce(np.where(bins[:, None] > _BINS, counts, 0.0), axis=1)
    lower, upper = _EDGES[np.maximum(bins, 1) - 1], _EDGES[np.minimum(bins, len(_EDGES) - 1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.where(bins == len(_EDGES), 1.0, (values - lower) / (upper - lower))
        inside = np.where(bins == 0, values / _EDGES[0], inside)
        share = (below + inside * counts[np.arange(len(counts)), bins]) / total
        above = np.minimum(GATE_RANK + (share - KNEE) * ABOVE_KNEE, 1.0)
        rank = np.where(share <= KNEE, share * BELOW_KNEE, above)
    return np.where(total == 0.0, 0.0, rank)


def learn_batch_ranks(counts: Floats, total: Floats, bins: Ints, unusual: NDArray[np.bool_]) -> None:
    """Count a value for each key, in place: a tenth where it was unusual."""
    weight = np.where(unusual, UNUSUAL_WEIGHT, ORDINARY_WEIGHT)
    counts[np.arange(len(counts)), bins] += weight
    total += weight
    full = np.flatnonzero(total > TOTAL_MAX)
    if len(full):
        counts[full] = counts[full] // 2.0
        total[full] = np.add.reduce(counts[full], axis=1)
