"""Columns and indexes: growing numpy arrays, sums in order of rows, and look-ups of many 64-bit keys at once.

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


# An index from 64-bit keys to row numbers, looked up a thousand at a time.
#
# Open addressing with linear probing in two arrays. A dict of a hundred thousand entries costs 0.4 us per look-up,
# almost all of it cache misses; here a batch costs a few gathers. The order of insertion never shows: look-ups return
# what was put.

I8 = NDArray[np.int64]
ABSENT = -1
_EMPTY = -(1 << 63)  # no key has this value: keys are non-negative or hashes shifted away from it
_FIBONACCI = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio (Knuth, TAOCP 3, §6.4)
_SIZE_MIN = 1 << 8


class KeyIndex:
    """Keys (int64, distinct) and the row number of each.

    Parameters
    ----------
    expected
        How many keys will come: with room for them from the start none is moved later.
    """

    def __init__(self, expected: int = 0) -> None:
        self.count = 0
        self._allocate(max(_SIZE_MIN, 1 << (3 * expected).bit_length()))

    def find(self, keys: I8) -> I8:
        """Return the row of each key, ``ABSENT`` where there is none."""
        at = self._home(keys)
        there = self._keys[at]
        found = np.where(there == keys, self._rows[at], ABSENT)
        left = np.flatnonzero((there != keys) & (there != _EMPTY))
        keys, at = keys[left], (at[left] + 1) & self._mask
        while len(left):
            there = self._keys[at]
            hit = there == keys
            found[left[hit]] = self._rows[at[hit]]
            going = ~hit & (there != _EMPTY)
            left, keys, at = left[going], keys[going], (at[going] + 1) & self._mask
        return found

    def find_one(self, key: int) -> int:
        """Return the row of one key, ``ABSENT`` where there is none."""
        at = (((key & 0xFFFFFFFFFFFFFFFF) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF) >> self._shift
        while True:
            there = self._keys.item(at)
            if there == key:
                return self._rows.item(at)
            if there == _EMPTY:
                return ABSENT
            at = (at + 1) & self._mask

    def put_one(self, key: int, row: int) -> None:
        """Add one key that is not there yet."""
        if 3 * (self.count + 1) > len(self._keys):
            self._reserve(1)
        self.count += 1
        at = (((key & 0xFFFFFFFFFFFFFFFF) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF) >> self._shift
        while self._keys.item(at) != _EMPTY:
            at = (at + 1) & self._mask
        self._keys[at], self._rows[at] = key, row

    def put_new(self, keys: I8, rows: I8) -> bool:
        """Add keys, unless any is there or stands twice among them: then nothing, and False."""
        self._reserve(len(keys))
        at = self._home(keys)
        placed: list[I8] = []
        while len(keys):
            there = self._keys[at]
            if (there == keys).any():
                for places in placed:  # what this call has added is taken back
                    self._keys[places] = _EMPTY
                return False
            free = there == _EMPTY
            places, wanted = at[free], rows[free]
            self._keys[places], self._rows[places] = keys[free], wanted
            lost = self._rows[places] != wanted  # several at one place: the last one has it
            placed.append(places[~lost])
            if not lost.any():
                keys, rows, at = keys[~free], rows[~free], (at[~free] + 1) & self._mask
                continue
            again = ~free
            at = np.where(free, at, (at + 1) & self._mask)
            again[np.flatnonzero(free)[lost]] = True
            keys, rows, at = keys[again], rows[again], at[again]
        self.count += sum(map(len, placed))
        return True

    def put(self, keys: I8, rows: I8) -> None:
        """Add keys that are not there yet and are distinct."""
        self._reserve(len(keys))
        self.count += len(keys)
        at = self._home(keys)
        while len(keys):
            free = self._keys[at] == _EMPTY
            self._keys[at[free]] = keys[free]  # of several at one place the last stays; the others probe on
            won = self._keys[at] == keys
            self._rows[at[won]] = rows[won]
            keys, rows, at = keys[~won], rows[~won], (at[~won] + 1) & self._mask

    def _reserve(self, more: int) -> None:
        if 3 * (self.count + more) <= len(self._keys):
            return
        used = self._keys != _EMPTY
        keys, rows = self._keys[used], self._rows[used]
        size = len(self._keys)
        while 6 * (self.count + more) > size:
            size *= 2
        self._allocate(size)
        self.count = 0
        self.put(keys, rows)

    def _allocate(self, size: int) -> None:
        self._keys = np.full(size, _EMPTY, dtype=np.int64)
        self._rows = np.zeros(size, dtype=np.int64)
        self._mask = size - 1
        self._shift = 64 - (size.bit_length() - 1)

    def _home(self, keys: I8) -> I8:
        spread = keys.view(np.uint64) * _FIBONACCI
        return (spread >> np.uint64(self._shift)).view(np.int64)


class KeyNumbers:
    """Numbers from 0 for keys, in the order in which they first came."""

    def __init__(self) -> None:
        self.count = 0
        self._index = KeyIndex()

    def take(self, keys: I8) -> tuple[I8, I8]:
        """Return the number of each key, and the places of those that came for the first time."""
        first = np.unique(keys, return_index=True)[1]
        first.sort()
        new = first[self._index.find(keys[first]) == ABSENT]
        self._index.put(keys[new], np.arange(self.count, self.count + len(new)))
        self.count += len(new)
        return self._index.find(keys), new
