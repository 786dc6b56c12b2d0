"""The one loop that pays to compile: rows through half-space trees, with numba where it is installed.

Compiled on the first batch, in memory and without fast-math; whole numbers in, whole numbers out, so results are equal
with and without.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np


@cache
def compiled() -> Callable[..., Any] | None:
    """Return the compiled walk of rows through trees; None where numba is not installed."""
    try:
        from numba import njit
    except ImportError:
        return None
    kernel: Callable[..., Any] = njit(nogil=True)(walk)
    return kernel


def walk(
    rows: Any, features: Any, thresholds: Any, latest: Any, reference: Any, height: int, size_min: float
) -> Any:  # pragma: no cover  (numba runs it)
    """Do for one row after another what ``forest`` does for all at once."""
    totals = np.zeros(len(rows))
    for line in range(len(rows)):
        total = 0
        for tree in range(len(features)):
            node = 0
            weight = 1
            searching = True
            for depth in range(height + 1):
                latest[tree, node] += 1
                if searching:
                    mass = reference[tree, node]
                    total += mass * weight
                    searching = mass >= size_min
                    weight *= 2
                if depth < height:
                    node = 2 * node + (1 if rows[line, features[tree, node]] < thresholds[tree, node] else 2)
        totals[line] = total
    return totals
