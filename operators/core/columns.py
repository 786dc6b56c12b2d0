"""Growing columns: numpy arrays of one length that grow together and keep the order in which rows came.

The order of rows decides the order of floating-point sums, so it is part of the state: rows are appended, and removed
only by :meth:`Columns.keep`, which preserves order. Both are functions of the journal alone.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

GROW_MIN = 64


def integers(values: list[int]) -> NDArray[np.int64]:
    """Return a list as an array; ``np.array`` looks at every item twice and takes half as long again."""
    return np.fromiter(values, np.int64, len(values))


def reals(values: list[float]) -> NDArray[np.float64]:
    """Return a list as an array."""
    return np.fromiter(values, np.float64, len(values))


def sum_by(of: NDArray[np.int64], weights: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the sum of the weights of each number below ``count``, in order of rows (architecture.md, "Same bits")."""
    return np.asarray(np.bincount(of, weights, count), dtype=np.float64)


def totals(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum over the last axis, first to last, 0 where it is empty.

    ``np.sum`` adds in pairs, and the built-in ``sum`` compensates rounding from Python 3.12 on: other bits.
    """
    if not values.shape[-1]:
        return np.zeros(values.shape[:-1])
    sums: NDArray[np.float64] = values.cumsum(axis=-1)[..., -1]
    return sums


class Columns:
    """Named arrays with ``size`` rows in use.

    Parameters
    ----------
    fields
        Name and numpy dtype of each column. Reading ``columns["name"]`` gives a view of the rows in use.
    """

    def __init__(self, fields: dict[str, str]) -> None:
        self._data: dict[str, NDArray[Any]] = {name: np.zeros(GROW_MIN, dtype) for name, dtype in fields.items()}
        self._views: dict[str, NDArray[Any]] = {}
        self.size = 0
        self._see()

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._views[name]

    def append(self, count: int, **values: Any) -> int:
        """Add ``count`` rows (columns that are not given are zero); return the index of the first."""
        first, size = self.size, self.size + count
        for name, array in self._data.items():
            if size > len(array):
                self._data[name] = np.zeros(max(size, 2 * len(array)), array.dtype)
                self._data[name][:first] = array[:first]
            self._data[name][first:size] = values.get(name, 0)
        self.size = size
        self._see()
        return first

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Remove the rows where ``mask`` is false; the others keep their order."""
        kept = {name: view[mask] for name, view in self._views.items()}
        self.size = int(np.count_nonzero(mask))
        for name, values in kept.items():
            self._data[name][: self.size] = values
        self._see()

    def snapshot(self, without: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
        """Return a copy of the rows in use, without the columns that can be derived."""
        return {name: view.copy() for name, view in self._views.items() if name not in without}

    def restore(self, columns: dict[str, NDArray[Any]]) -> None:
        """Take the rows of a snapshot."""
        self.size = 0
        self.append(len(next(iter(columns.values()))), **columns)

    def _see(self) -> None:
        self._views = {name: array[: self.size] for name, array in self._data.items()}
