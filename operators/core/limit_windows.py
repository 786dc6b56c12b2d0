"""Limits per time window: how far a measure has moved within the last ``window_s``, for many cells at once.

The window is kept as :data:`BUCKETS` equal parts, each with the best value seen in it, and the part that is running. So
it looks back at least ``window_s`` and at most one part longer, and costs the same memory however many slices there
are. A cell begins with the first value that it is given: what stood before is not known to have moved.

References
----------
FIX 5.0 SP2: RiskLimitVelocityPeriod (2336).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
BUCKETS: Final = 12
_SLOTS: Final = BUCKETS + 1
NEW: Final = -1


class Windows:
    """The windows of some cells, in the order in which they were added; values are oriented: larger is worse."""

    def __init__(self) -> None:
        self.cell: I8 = np.zeros(0, dtype=np.int64)
        self._width: I8 = np.zeros(0, dtype=np.int64)
        self._ring: F8 = np.zeros((_SLOTS, 0))
        self._last: F8 = np.zeros(0)
        self._bucket: I8 = np.zeros(0, dtype=np.int64)

    def add(self, cells: I8, window_us: I8) -> None:
        """Add cells with their window lengths."""
        more = len(cells)
        self.cell = np.append(self.cell, cells)
        self._width = np.append(self._width, np.maximum(window_us // BUCKETS, 1))
        self._ring = np.concatenate([self._ring, np.zeros((_SLOTS, more))], axis=1)
        self._last = np.append(self._last, np.zeros(more))
        self._bucket = np.append(self._bucket, np.full(more, NEW, dtype=np.int64))

    def change(self, values: F8, as_of_us: int) -> F8:
        """Take the values at ``as_of_us``; return how much worse each is than the best one in its window."""
        bucket = (as_of_us - 1) // self._width
        step = bucket - self._bucket
        if step.any():
            self._turn(values, step)
            self._bucket = bucket
        at = bucket % _SLOTS
        places = np.arange(len(values))
        self._ring[at, places] = np.minimum(self._ring[at, places], values)
        self._last = values.copy()
        moved: F8 = values - self._ring.min(axis=0)
        return moved

    def _turn(self, values: F8, step: I8) -> None:
        """Begin new parts; in those that passed in silence the last value stood."""
        new = self._bucket == NEW
        self._ring[:, new] = values[new]
        self._last[new] = values[new]
        for passed in range(1, _SLOTS + 1):
            which = np.flatnonzero(~new & (step >= passed))
            if not len(which):
                return
            self._ring[(self._bucket[which] + passed) % _SLOTS, which] = self._last[which]

    def standing(self) -> dict[int, float]:
        """Return how far each cell's measure has moved in its window, as of the last value."""
        moved = (self._last - self._ring.min(axis=0)).tolist() if len(self.cell) else []
        return dict(zip(self.cell.tolist(), moved, strict=True))

    def take_from(self, other: "Windows", cells: dict[int, int]) -> None:
        """Take over the history of cells that stay: from their number in ``other`` to their number here."""
        place = {cell: at for at, cell in enumerate(self.cell.tolist())}
        pairs = [(at, place[cells[cell]]) for at, cell in enumerate(other.cell.tolist()) if cell in cells]
        if pairs:
            before, after = (np.array(part, dtype=np.int64) for part in zip(*pairs, strict=True))
            self._ring[:, after] = other._ring[:, before]
            self._last[after] = other._last[before]
            self._bucket[after] = other._bucket[before]

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        return [self.cell, self._width, self._ring.copy(), self._last.copy(), self._bucket.copy()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self.cell, self._width, self._ring, self._last, self._bucket = state
