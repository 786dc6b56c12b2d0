"""Rank calibration of many keys at once: what ``ranks.Ranks`` does with one histogram, with one row for each key.

The operations are the same, in the same order; counts are whole numbers, whose sums are exact in any order.
"""

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.detection import ranks

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_EDGES = np.array(ranks.EDGES)
_BINS = np.arange(ranks.BINS)


def bins_of(values: Floats) -> Ints:
    """Return the bin of each value."""
    return np.searchsorted(_EDGES, values, side="right")


def rank_of(counts: Floats, total: Floats, values: Floats, bins: Ints) -> Floats:
    """Return the rank of each value among the past of its key; 0 where there is none.

    Parameters
    ----------
    counts, total
        Shape (rows, bins) and (rows,): the histograms.
    values, bins
        Shape (rows,), and ``bins_of`` them.
    """
    below = np.add.reduce(np.where(bins[:, None] > _BINS, counts, 0.0), axis=1)
    lower, upper = _EDGES[np.maximum(bins, 1) - 1], _EDGES[np.minimum(bins, len(_EDGES) - 1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.where(bins == len(_EDGES), 1.0, (values - lower) / (upper - lower))
        inside = np.where(bins == 0, values / _EDGES[0], inside)
        share = (below + inside * counts[np.arange(len(counts)), bins]) / total
        above = np.minimum(ranks.GATE_RANK + (share - ranks.KNEE) * ranks.ABOVE_KNEE, 1.0)
        rank = np.where(share <= ranks.KNEE, share * ranks.BELOW_KNEE, above)
    return np.where(total == 0.0, 0.0, rank)


def learn_rank(counts: Floats, total: Floats, bins: Ints, unusual: NDArray[np.bool_]) -> None:
    """Count a value for each key, in place: a tenth where it was unusual."""
    weight = np.where(unusual, ranks.UNUSUAL_WEIGHT, ranks.ORDINARY_WEIGHT)
    counts[np.arange(len(counts)), bins] += weight
    total += weight
    full = np.flatnonzero(total > ranks.TOTAL_MAX)
    if len(full):
        counts[full] = counts[full] // 2.0
        total[full] = np.add.reduce(counts[full], axis=1)
