"""Keys: an index from keys to rows, and the memory of ids that is built on it (contract.md, "Memory of fills")."""

from bisect import bisect_right
from collections.abc import Collection, Iterator
from itertools import compress, repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import encode_part, float_array, int_array

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


# Fill memory: a shard's last ids of fills and transfers, each with its content.
#
# Ids lie in chunks of about a thousand; a slice with ``WHOLE_MIN`` of them or more becomes a chunk as it is, without a
# copy. A chunk that is full never changes, so it is encoded once and not for every snapshot, which all slices wait for.
# Ids are found by the interpreter's own hash of their text: it differs between processes, so it is never stored,
# and what is found is compared with the text, so it never decides anything. The index has two generations: when the
# younger one is full it becomes the older, and what was older is forgotten whole: nothing is ever removed one by one.

CHUNK = 1000
WHOLE_MIN = 64
POSITIVE = (1 << 63) - 1
Content = tuple[Any, ...]
Column = list[Any] | NDArray[Any] | None


class FillMemory:
    """Ids in order of arrival, each with its content: exactly the last ``size_max`` of them are known.

    Parameters
    ----------
    size_max
        Ids to remember.
    defaults
        One per content column: what a column that is None says.
    keeps_forgotten
        Whether what is forgotten waits in ``forgotten`` until somebody takes it from there.

    Attributes
    ----------
    forgotten
        What stood of ids that are forgotten, in order of arrival: the content columns of one chunk after another.
    """

    def __init__(self, size_max: int, defaults: Content, keeps_forgotten: bool = False) -> None:
        self.size_max, self._defaults, self._keeps_forgotten = size_max, defaults, keeps_forgotten
        self.forgotten: list[list[Any]] = []
        self._starts: list[int] = [0]
        self._chunks: list[list[Any]] = [self._empty()]
        self._encoded: list[msgspec.Raw] = []  # of the chunks but the last
        self._amended: dict[str, Content | None] = {}
        self._young, self._old, self._old_end = KeyIndex(), KeyIndex(), 0
        self._collided: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return self._place(name) is not None

    def content(self, name: str) -> Content | None:
        """Return what an id stands for now: None where it is not remembered or was undone."""
        content = self.original(name)
        return self._amended.get(name, content) if content is not None else None

    def original(self, name: str) -> Content | None:
        """Return what an id said when it came, whatever happened to it since."""
        place = self._place(name)
        if place is None:
            return None
        chunk = bisect_right(self._starts, place) - 1
        at = place - self._starts[chunk]
        columns = zip(self._chunks[chunk][1:], self._defaults, strict=True)
        return tuple(default if column is None else _item(column, at) for column, default in columns)

    def add_new(self, names: list[str], columns: tuple[Column, ...]) -> bool:
        """Remember ids with their content columns, unless any is known or stands twice: then nothing, and False.

        A column is as long as ``names``, or None where every row has the default.
        """
        hashes = np.fromiter(map(hash, names), np.int64, len(names)) & POSITIVE
        start = self._end()
        if (self._old.find(hashes) >= self._floor()).any():
            return False
        if not self._young.put_new(hashes, np.arange(start, start + len(names))):
            return False
        if len(names) >= WHOLE_MIN:
            if self._chunks[-1][0]:
                self._open(start)
            self._chunks[-1] = [names, *columns]
            self._open(self._end())
        else:
            chunk = self._chunks[-1]
            chunk[0].extend(names)
            for into, column, default in zip(chunk[1:], columns, self._defaults, strict=True):
                into.extend(_listed(column, default, len(names)))
            if len(chunk[0]) >= CHUNK:
                self._open(self._end())
        return True

    def add(self, name: str, content: Content) -> None:
        """Remember one id that is not remembered yet."""
        key = hash(name) & POSITIVE
        end = self._end()
        if self._young.find_one(key) == ABSENT and self._old.find_one(key) < self._starts[0]:
            self._young.put_one(key, end)
        else:
            self._collided[name] = end  # another id has its hash
        chunk = self._chunks[-1]
        chunk[0].append(name)
        for column, value in zip(chunk[1:], content, strict=True):
            column.append(value)
        if len(chunk[0]) >= CHUNK:
            self._open(end + 1)

    def amend(self, name: str, content: Content | None) -> None:
        """Replace what an id stands for now (a correction), or undo it (a bust: None)."""
        self._amended[name] = content

    def in_force(self, wanted: Collection[tuple[int, int]]) -> Iterator[Content]:
        """Yield what stands of the ids whose content begins with one of these pairs, in order of arrival."""
        keys = np.array([first << 32 | second for first, second in wanted])
        amended = [name for name, content in self._amended.items() if content and content[:2] in wanted]
        places = [place for name in amended if (place := self._place(name)) is not None]
        for start, chunk in zip(self._starts, self._chunks, strict=True):
            first, second = (int_array(_listed(chunk[at], self._defaults[at - 1], len(chunk[0]))) for at in (1, 2))
            chosen = np.isin(first << 32 | second, keys)
            chosen[[place - start for place in places if 0 <= place - start < len(chosen)]] = True
            if chosen.any():
                yield from (content for content in self._in_force(chunk, chosen) if content[:2] in wanted)

    def _in_force(self, chunk: list[Any], chosen: NDArray[np.bool_]) -> Iterator[Content]:
        """Yield what stands of some ids of a chunk."""
        names, *columns = chunk
        pairs = zip(columns, self._defaults, strict=True)
        said = [repeat(d) if column is None else compress(_listed(column, d, 0), chosen) for column, d in pairs]
        for name, *content in zip(compress(names, chosen), *said, strict=False):
            now = self._amended.get(name, tuple(content))
            if now is not None:
                yield now

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`: plain values, arrays, and chunks that are encoded already."""
        return {
            "starts": list(self._starts),
            "chunks": list(self._encoded),
            "open": [list(column) for column in self._chunks[-1]],
            "amended": [[name, None if c is None else list(c)] for name, c in self._amended.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self._starts = list(state["starts"])
        self._chunks = [*state["chunks"], state["open"]]
        self._encoded = list(map(encode_part, state["chunks"]))
        self._amended = {name: None if c is None else tuple(c) for name, c in state["amended"]}
        self._rebuild()

    def _place(self, name: str) -> int | None:
        key = hash(name) & POSITIVE
        floor = self._floor()
        for index in (self._young, self._old):
            place = index.find_one(key)
            if place >= floor:
                chunk = bisect_right(self._starts, place) - 1
                if self._chunks[chunk][0][place - self._starts[chunk]] == name:
                    return place
        place = self._collided.get(name, ABSENT)
        return place if place >= floor else None

    def _floor(self) -> int:
        """Return the place of the oldest id that counts as remembered: exactly the last ``size_max`` do."""
        return max(self._starts[0], self._end() - self.size_max)

    def _end(self) -> int:
        return self._starts[-1] + len(self._chunks[-1][0])

    def _open(self, start: int) -> None:
        """Open a new chunk at place ``start``; forget the oldest chunks that are no longer needed."""
        names, *columns = self._chunks[-1]
        self._chunks[-1] = [names, *map(_closed, columns, self._defaults)]
        self._encoded.append(encode_part(self._chunks[-1]))
        self._chunks.append(self._empty())
        self._starts.append(start)
        while len(self._starts) > 1 and start - self._starts[1] >= self.size_max:
            gone = self._chunks[0]
            amended = self._amended.keys() & set(gone[0]) if self._amended else set()
            if self._keeps_forgotten and amended:
                rows = list(self._in_force(gone, np.ones(len(gone[0]), dtype=bool)))
                self.forgotten.append([[row[at] for row in rows] for at in range(len(self._defaults))])
            elif self._keeps_forgotten:
                pairs = zip(gone[1:], self._defaults, strict=True)
                self.forgotten.append([[d] * len(gone[0]) if column is None else column for column, d in pairs])
            for name in amended:
                del self._amended[name]
            del self._chunks[0], self._encoded[0], self._starts[0]
        if self._young.count >= self.size_max and self._starts[0] >= self._old_end:
            self._old, self._young, self._old_end = self._young, KeyIndex(self._young.count), start
            self._collided = {name: at for name, at in self._collided.items() if at >= self._starts[0]}

    def _rebuild(self) -> None:
        """Index what is remembered anew."""
        names = [name for chunk in self._chunks for name in chunk[0]]
        hashes = np.fromiter(map(hash, names), np.int64, len(names)) & POSITIVE
        distinct, first = np.unique(hashes, return_index=True)
        self._young, self._old, self._old_end = KeyIndex(), KeyIndex(), 0
        self._young.put(distinct, first + self._starts[0])
        twice = set(range(len(names))) - set(first.tolist()) if len(first) != len(names) else set()
        self._collided = {names[at]: at + self._starts[0] for at in twice}

    def _empty(self) -> list[Any]:
        return [[] for _ in range(len(self._defaults) + 1)]


def _item(column: list[Any] | NDArray[Any], at: int) -> Any:
    return column[at] if isinstance(column, list) else column.item(at)


def _closed(column: Column, default: Any) -> Column:
    """Return a column that no longer grows: None where it says nothing, numbers as an array."""
    if not isinstance(column, list):
        return column
    if column.count(default) == len(column):
        return None
    if isinstance(default, int):
        return int_array(column)
    return float_array(column) if isinstance(default, float) else column


def _listed(column: Column, default: Any, count: int) -> list[Any]:
    if column is None:
        return [default] * count
    return column if isinstance(column, list) else column.tolist()
