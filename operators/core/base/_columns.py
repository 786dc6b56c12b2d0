"""Columns: growing numpy arrays, and sums in order of rows.

The order of rows decides the order of floating-point sums, so it is part of the state: rows are appended, and removed
only by :meth:`Columns.keep`, which preserves order. Both are functions of the journal alone.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

# Growing columns: numpy arrays of one length that grow together and keep the order in which rows came.

GROW_MIN = 64


def int_array(values: list[int]) -> NDArray[np.int64]:
    """Return a list as an array; ``np.array`` looks at every item twice and takes half as long again."""
    return np.fromiter(values, np.int64, len(values))


def float_array(values: list[float]) -> NDArray[np.float64]:
    """Return a list as an array."""
    return np.fromiter(values, np.float64, len(values))


# The sum of the weights of each number below ``count``, in order of rows (architecture.md, "Same bits"): numpy's own
# function under a name that says so, because a call in between would be a tenth of all that a slice makes.
SumBy = Callable[[NDArray[np.int64], NDArray[np.float64], int], NDArray[np.float64]]
sum_by: SumBy = cast(SumBy, np.bincount)


def ordered_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum over the last axis, first to last, 0 where it is empty.

    ``np.sum`` adds in pairs, and the built-in ``sum`` compensates rounding from Python 3.12 on: other bits.
    """
    if not values.shape[-1]:
        return np.zeros(values.shape[:-1])
    sums: NDArray[np.float64] = values.cumsum(axis=-1)[..., -1]
    return sums


class Columns(dict[str, NDArray[Any]]):
    """Named arrays with ``size`` rows in use: ``columns["name"]`` is a view of these rows.

    It is a dict because a slice reads seventy columns: a method of ours for that would be a sixth of all its calls.

    Parameters
    ----------
    fields
        Name and numpy dtype of each column.
    """

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__()
        self._data: dict[str, NDArray[Any]] = {name: np.zeros(GROW_MIN, dtype) for name, dtype in fields.items()}
        self._set_size(0)

    def append(self, count: int, **values: Any) -> int:
        """Add ``count`` rows (columns that are not given are zero); return the index of the first."""
        first, size = self.size, self.size + count
        for name, array in self._data.items():
            if size > len(array):
                self._data[name] = np.zeros(max(size, 2 * len(array)), array.dtype)
                self._data[name][:first] = array[:first]
            self._data[name][first:size] = values.get(name, 0)
        self._set_size(size)
        return first

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Remove the rows where ``mask`` is false; the others keep their order."""
        kept = {name: view[mask] for name, view in self.items()}
        size = int(np.count_nonzero(mask))
        for name, values in kept.items():
            self._data[name][:size] = values
        self._set_size(size)

    def snapshot(self, without: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
        """Return a copy of the rows in use, without the columns that can be derived."""
        return {name: view.copy() for name, view in self.items() if name not in without}

    def restore(self, columns: dict[str, NDArray[Any]]) -> None:
        """Take the rows of a snapshot."""
        self._set_size(0)
        self.append(len(next(iter(columns.values()))), **columns)

    def _set_size(self, size: int) -> None:
        self.size = size
        self.update({name: array[:size] for name, array in self._data.items()})
