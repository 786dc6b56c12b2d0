"""Rank calibration: the share of past values that lie below a new one, from a histogram of fixed size.

Detectors differ in scale (HalfSpaceTrees: normal .960, far outlier .988), so a score is comparable between detectors
and instruments only as a rank among its own past. Values are counted in logarithmic bins, four per doubling; past
``TOTAL_MAX`` all counts are halved, so old regimes fade. Unusual values count a tenth: a crisis must not become the
yardstick by which the next one is measured, but a lasting change must, in time. What that takes from the upper end is
given back when a rank is told, so a rank of .9 means one ordinary row in ten.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from math import sqrt

EDGE_LOWEST = 2.0**-10
EDGES_PER_DOUBLING = 4
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
RECENT_MAX = 250
NEAR = 9  # bins that are sooner added one by one than all at once


def _edges() -> tuple[float, ...]:
    half = sqrt(2.0)  # not a power: those may differ between hosts in the last bit
    steps = (1.0, sqrt(half), half, half * sqrt(half))
    return tuple(EDGE_LOWEST * 2**octave * step for octave in range(DOUBLINGS) for step in steps)


EDGES = _edges()
BINS = len(EDGES) + 1


class Ranks:
    """Histogram of past values, zero and above.

    Examples
    --------
    >>> ranks = Ranks()
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
        if -NEAR < index - at < NEAR:
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


class RecentRanks:
    """Exact rank among the last ``RECENT_MAX`` values, for scores of any scale and sign.

    Examples
    --------
    >>> ranks = RecentRanks()
    >>> for value in (0.961, 0.960, 0.962, 0.960):
    ...     ranks.learn(value)
    >>> ranks.of(0.988), ranks.of(0.960)
    (1.0, 0.25)
    """

    __slots__ = ("_sorted", "recent")

    def __init__(self, recent: list[float] | None = None) -> None:
        self.recent = deque(recent or [])
        self._sorted = sorted(self.recent)

    def of(self, value: float) -> float:
        """Return the share of recent values below ``value``, ties counted half; 0 when there are none."""
        ordered = self._sorted
        if not ordered:
            return 0.0
        below = bisect_left(ordered, value)
        if below == len(ordered) or ordered[below] != value:  # no ties, as for nearly every score: one search is enough
            return below / len(ordered)
        return (below + bisect_right(ordered, value)) / (2 * len(ordered))

    def learn(self, value: float) -> None:
        """Count ``value`` and forget the oldest beyond the bound."""
        self.recent.append(value)
        insort(self._sorted, value)
        if len(self.recent) > RECENT_MAX:
            del self._sorted[bisect_left(self._sorted, self.recent.popleft())]
