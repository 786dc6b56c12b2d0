"""The loop of ``DeviationBank``, with numba where it is installed: one call for a row, or for a batch.

Compiled on the first row, in memory and without fast-math, from the operations of ``Deviation`` in their order; so
results are equal with and without, to the last bit. A row of work is one number per feature, as many squared
distances, and the score.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from seawall.operators.core.detection import moments, ranks
from seawall.operators.core.detection.samples import VALUE_MAX

TOTAL, COUNTS, MOMENTS = 0, 1, 1 + ranks.BINS  # where each begins in a key's row: one number, BINS, three a feature
UNUSABLE, WARMING, READY = -1, 0, 1
_EDGES = np.array(ranks.EDGES)


class Kernels(NamedTuple):
    """``one(state, key, work)`` returns whether its score may be used; ``many(state, keys, work, told)`` writes it."""

    one: Callable[..., Any]
    many: Callable[..., Any]


@cache
def compiled() -> Kernels | None:
    """Return the compiled loops; None where numba is not installed."""
    try:
        from numba import njit
    except ImportError:
        return None
    distance, rank, learn, count = njit(_distance), njit(_rank), njit(_learn), njit(_count)

    def one(state: Any, key: int, work: Any) -> Any:  # pragma: no cover  (numba runs it)
        if not 0 <= key < len(state):
            raise IndexError("a key outside of the bank")
        row, width = state[key], len(work) // 2
        for at in range(width):
            if not -VALUE_MAX <= work[at] <= VALUE_MAX:
                return UNUSABLE
        ready = row[MOMENTS + 2] >= moments.WARM_ROWS
        largest = distance(row, work, width)
        place = np.searchsorted(_EDGES, largest, side="right")
        score = rank(row, largest, place) if ready else 0.0
        learn(row, work, width)
        count(row, place, score)
        work[2 * width] = score
        return READY if ready else WARMING

    single = njit(nogil=True)(one)

    def many(state: Any, keys: Any, work: Any, told: Any) -> None:  # pragma: no cover  (numba runs it)
        for line in range(len(keys)):
            told[line] = single(state, keys[line], work[line])

    return Kernels(single, njit(nogil=True)(many))


def _distance(row: Any, work: Any, width: int) -> Any:  # pragma: no cover  (numba runs these four)
    """Write the squared distance of each feature, as ``moments.distance`` says it; return the largest."""
    largest = 0.0
    for at in range(width):
        place = MOMENTS + 3 * at
        gap, variance = work[at] - row[place], row[place + 1]
        squared = 0.0
        if variance > 0.0:
            squared = min(gap * gap / variance, moments.DISTANCE_MAX)
        elif gap != 0.0 and row[place + 2] >= moments.WARM_ROWS:
            squared = moments.DISTANCE_MAX
        work[width + at] = squared
        largest = max(largest, squared)
    return largest


def _rank(row: Any, value: float, place: int) -> Any:  # pragma: no cover
    """Return the rank of a value, as ``ranks.Ranks.of`` says it."""
    if row[TOTAL] == 0.0:
        return 0.0
    below = 0.0
    for at in range(COUNTS, COUNTS + place):
        below += row[at]
    inside = 1.0
    if place == 0:
        inside = value / _EDGES[0]
    elif place < len(_EDGES):
        inside = (value - _EDGES[place - 1]) / (_EDGES[place] - _EDGES[place - 1])
    share = (below + inside * row[COUNTS + place]) / row[TOTAL]
    if share <= ranks.KNEE:
        return share * ranks.BELOW_KNEE
    return min(ranks.GATE_RANK + (share - ranks.KNEE) * ranks.ABOVE_KNEE, 1.0)


def _learn(row: Any, work: Any, width: int) -> None:  # pragma: no cover
    """Take in a row, as ``moments.learned`` does it."""
    for at in range(width):
        place = MOMENTS + 3 * at
        row[place + 2] += 1.0
        variance, count, squared = row[place + 1], row[place + 2], work[width + at]
        rate = moments.LEARN_RATE if count * moments.LEARN_RATE > 1.0 else 1.0 / count
        if squared > moments.ORDINARY_Z2 and count > moments.WARM_ROWS and variance > 0.0:
            rate *= moments.ORDINARY_Z2 / squared
        gap = work[at] - row[place]
        row[place] += rate * gap
        row[place + 1] = (1.0 - rate) * (variance + rate * gap * gap)


def _count(row: Any, place: int, score: float) -> None:  # pragma: no cover
    """Count a value, as ``ranks.Ranks.learn`` does it."""
    weight = ranks.UNUSUAL_WEIGHT if score > ranks.GATE_RANK else ranks.ORDINARY_WEIGHT
    row[COUNTS + place] += weight
    row[TOTAL] += weight
    if row[TOTAL] > ranks.TOTAL_MAX:
        row[TOTAL] = 0.0
        for at in range(COUNTS, COUNTS + ranks.BINS):
            row[at] = row[at] // 2.0
            row[TOTAL] += row[at]
