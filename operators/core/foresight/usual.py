"""What is usual: exponentially weighted mean and deviation of some values, and how far from them one lies today."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
WARM: Final = 48.0  # weight of observations from which a deviation is known


class Usual:
    """Mean and deviation of values that are observed once an hour; values are numbered, more may come.

    Parameters
    ----------
    fade
        Weight of an observation an hour later.
    floor
        The least deviation: what moves by less has not moved.

    References
    ----------
    D. H. D. West, "Updating mean and variance estimates", Communications of the ACM 22 (1979).
    """

    def __init__(self, fade: float, floor: float) -> None:
        self._fade, self._floor = fade, floor
        self._rows: F8 = np.zeros((3, 0))  # weight, mean, variance

    def stretch(self, values: F8) -> F8:
        """Return by how many deviations each value differs from its mean, NaN where one of them is unknown."""
        self._grow(len(values))
        weight, mean, variance = self._rows[:, : len(values)]
        off = (values - mean) / np.maximum(np.sqrt(variance), self._floor)
        return np.where(weight >= WARM, off, np.nan)

    def learn(self, values: F8) -> None:
        """Take the values of an hour; NaN is none."""
        self._grow(len(values))
        known = np.isfinite(values).nonzero()[0]
        weight, mean, variance = self._rows[:, known]
        before = self._fade * weight
        weight = before + 1.0
        off = values[known] - mean
        after = mean + off / weight
        variance = (before * variance + off * (values[known] - after)) / weight
        self._rows[:, known] = np.stack([weight, after, variance])

    def _grow(self, count: int) -> None:
        more = count - self._rows.shape[1]
        if more > 0:
            self._rows = np.concatenate([self._rows, np.zeros((3, more))], axis=1)

    def snapshot(self) -> Any:
        """Return the state as an array."""
        return self._rows.copy()

    def restore(self, state: Any) -> None:
        """Take the state of a snapshot."""
        self._rows = state
