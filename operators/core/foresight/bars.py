"""Bars of event time, from the marks as they stand at the end of each second in which anything happened."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight.volatility import Bar

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]


class Bars:
    """The open bar of every instrument, ``length_s`` long; rows are numbered as in the directory."""

    def __init__(self, length_s: int) -> None:
        self._length_us = length_s * 1_000_000
        self.index = -1
        self._rows: F8 = np.zeros((4, 0))  # close, high, low, event time of the last mark taken
        self._seen: NDArray[np.bool_] = np.zeros(0, dtype=bool)

    def sample(self, price: F8, time_us: I8, as_of_us: int) -> tuple[Bar, int] | None:
        """Take marks (NaN: none) as they stand before ``as_of_us``; return the bar that this time completes."""
        self._grow(len(price))
        index = (as_of_us - 1) // self._length_us
        done = None
        if index != self.index:
            if self.index >= 0:
                close, high, low = self._rows[:3].copy()
                done = Bar(close, high, low, self._seen), self.index
            self.index, self._seen = index, np.zeros(len(self._seen), dtype=bool)
        fresh = (time_us > self._rows[3]) & (price > 0)
        close, high, low, last = self._rows
        first = fresh & ~self._seen
        high[:] = np.where(first, price, np.where(fresh, np.maximum(high, price), high))
        low[:] = np.where(first, price, np.where(fresh, np.minimum(low, price), low))
        close[:] = np.where(fresh, price, close)
        last[:] = np.where(fresh, time_us, last)
        self._seen = self._seen | fresh
        return done

    def _grow(self, count: int) -> None:
        more = count - len(self._seen)
        if more > 0:
            self._rows = np.concatenate([self._rows, np.zeros((4, more))], axis=1)
            self._seen = np.append(self._seen, np.zeros(more, dtype=bool))

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        return [self.index, self._rows.copy(), self._seen.copy()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self.index, self._rows, self._seen = state
