"""The memory of fills and transfers: the last ``fill_memory`` ids of a shard and what they said (CONTRACT §3).

Ids lie in chunks of about a thousand. A full chunk is encoded once and its bytes are reused by every snapshot, so that a
snapshot costs a copy and not a walk over the memory.
"""

from bisect import bisect_right
from typing import Any

import msgspec

CHUNK = 1000
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
        self._place: dict[str, int] = {}
        self._starts: list[int] = [0]
        self._chunks: list[list[list[Any]]] = [self._empty()]
        self._encoded: list[bytes] = []
        self._amended: dict[str, Content | None] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._place

    def known(self, names: list[str]) -> bool:
        """Tell whether any of ``names`` is remembered or stands twice among them."""
        return not self._place.keys().isdisjoint(names) or len(set(names)) != len(names)

    def content(self, name: str) -> Content | None:
        """Return what an id said: None where it is not remembered or was undone."""
        if name in self._amended:
            return self._amended[name]
        return self.original(name)

    def original(self, name: str) -> Content | None:
        """Return what an id said when it came, whatever happened to it since."""
        place = self._place.get(name)
        if place is None:
            return None
        chunk = bisect_right(self._starts, place) - 1
        at = place - self._starts[chunk]
        return tuple(column[at] for column in self._chunks[chunk][1:])

    def add(self, names: list[str], columns: tuple[list[Any], ...]) -> None:
        """Remember new ids, in order, with their content columns."""
        chunk = self._chunks[-1]
        start = self._starts[-1] + len(chunk[0])
        self._place.update(zip(names, range(start, start + len(names)), strict=True))
        chunk[0].extend(names)
        for column, values in zip(chunk[1:], columns, strict=True):
            column.extend(values)
        if len(chunk[0]) >= CHUNK:
            self._seal(start + len(names))

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
        self._place = {}
        for start, chunk in zip(self._starts, self._chunks, strict=True):
            self._place.update(zip(chunk[0], range(start, start + len(chunk[0])), strict=True))

    def _seal(self, end: int) -> None:
        self._encoded.append(msgspec.msgpack.encode(self._chunks[-1]))
        self._chunks.append(self._empty())
        self._starts.append(end)
        while len(self._starts) > 1 and end - self._starts[1] >= self.size_max:
            for name in self._chunks[0][0]:
                del self._place[name]
                self._amended.pop(name, None)
            del self._chunks[0], self._starts[0], self._encoded[0]

    def _empty(self) -> list[list[Any]]:
        return [[] for _ in range(self._width + 1)]
