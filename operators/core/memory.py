"""The memory of fills and transfers: the last ``fill_memory`` ids of a shard and what they said (CONTRACT §3).

Ids lie in chunks of about a thousand. A full chunk is encoded once and its bytes are reused by every snapshot, so that a
snapshot costs a copy and not a walk over the memory. Ids are found by the interpreter's own hash of their text: it differs
between processes, so it is never stored, and what is found is compared with the text, so it never decides anything.
"""

from bisect import bisect_right
from typing import Any

import msgspec
import numpy as np

from seawall.operators.core.index import ABSENT, Index

CHUNK = 1000
POSITIVE = (1 << 63) - 1
Content = tuple[Any, ...]


class Memory:
    """Ids in order of arrival, each with its content, at least the last ``size_max`` of them.

    Parameters
    ----------
    size_max
        Ids to remember. Whole chunks are forgotten, so up to ``CHUNK`` more may be known.
    width
        Number of content columns.
    """

    def __init__(self, size_max: int, width: int) -> None:
        self.size_max, self._width = size_max, width
        self._starts: list[int] = [0]
        self._chunks: list[list[list[Any]]] = [self._empty()]
        self._encoded: list[bytes] = []
        self._amended: dict[str, Content | None] = {}
        self._index = Index()
        self._collided: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return self._place(name) is not None

    def content(self, name: str) -> Content | None:
        """Return what an id stands for now: None where it is not remembered or was undone."""
        if name in self._amended:
            return self._amended[name]
        return self.original(name)

    def original(self, name: str) -> Content | None:
        """Return what an id said when it came, whatever happened to it since."""
        place = self._place(name)
        if place is None:
            return None
        chunk = bisect_right(self._starts, place) - 1
        at = place - self._starts[chunk]
        return tuple(column[at] for column in self._chunks[chunk][1:])

    def add_new(self, names: list[str], columns: tuple[list[Any], ...]) -> bool:
        """Remember ids with their content columns, unless any is known or stands twice: then nothing, and False."""
        hashes = np.fromiter(map(hash, names), np.int64, len(names)) & POSITIVE
        if (self._index.find(hashes) != ABSENT).any() or len(set(names)) != len(names):
            return False
        start = self._end()
        self._index.put(hashes, np.arange(start, start + len(names)))
        self._append(names, columns)
        return True

    def add(self, name: str, content: Content) -> None:
        """Remember one id that is not remembered yet."""
        key = hash(name) & POSITIVE
        if self._index.find_one(key) != ABSENT:
            self._rebuild()  # drops ids forgotten meanwhile, of which this may be one
        if self._index.find_one(key) == ABSENT:
            self._index.put_one(key, self._end())
        else:
            self._collided[name] = self._end()
        self._append([name], tuple([value] for value in content))

    def amend(self, name: str, content: Content | None) -> None:
        """Replace what an id stands for now (a correction), or undo it (a bust: None)."""
        self._amended[name] = content

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values and bytes."""
        return {
            "starts": list(self._starts),
            "sealed": list(self._encoded),
            "open": msgspec.msgpack.encode(self._chunks[-1]),
            "amended": [[name, None if c is None else list(c)] for name, c in self._amended.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self._starts, self._encoded = list(state["starts"]), list(state["sealed"])
        self._chunks = [msgspec.msgpack.decode(raw) for raw in [*self._encoded, state["open"]]]
        self._amended = {name: None if c is None else tuple(c) for name, c in state["amended"]}
        self._rebuild()

    def _place(self, name: str) -> int | None:
        place = self._index.find_one(hash(name) & POSITIVE)
        if place >= self._starts[0]:
            chunk = bisect_right(self._starts, place) - 1
            if self._chunks[chunk][0][place - self._starts[chunk]] == name:
                return place
        return self._collided.get(name)

    def _end(self) -> int:
        return self._starts[-1] + len(self._chunks[-1][0])

    def _append(self, names: list[str], columns: tuple[list[Any], ...]) -> None:
        chunk = self._chunks[-1]
        chunk[0].extend(names)
        for column, values in zip(chunk[1:], columns, strict=True):
            column.extend(values)
        if len(chunk[0]) >= CHUNK:
            self._seal()

    def _seal(self) -> None:
        end = self._end()
        self._encoded.append(msgspec.msgpack.encode(self._chunks[-1]))
        self._chunks.append(self._empty())
        self._starts.append(end)
        while len(self._starts) > 1 and end - self._starts[1] >= self.size_max:
            for name in self._amended.keys() & set(self._chunks[0][0]):
                del self._amended[name]
            del self._chunks[0], self._starts[0], self._encoded[0]
        if self._index.count > 2 * (end - self._starts[0]) + CHUNK:
            self._rebuild()

    def _rebuild(self) -> None:
        """Index what is remembered anew."""
        names = [name for chunk in self._chunks for name in chunk[0]]
        hashes = np.fromiter(map(hash, names), np.int64, len(names)) & POSITIVE
        distinct, first = np.unique(hashes, return_index=True)
        self._index = Index()
        self._index.put(distinct, first + self._starts[0])
        twice = set(range(len(names))) - set(first.tolist()) if len(first) != len(names) else set()
        self._collided = {names[at]: at + self._starts[0] for at in twice}

    def _empty(self) -> list[list[Any]]:
        return [[] for _ in range(self._width + 1)]
