"""Tiles: a transparency log as plain files that only ever grow.

Decides where each hash and each record of a log stands: ``tile/<level>/<number>[.p/<width>]`` holds 256 hashes (or the
width, where it is not full yet), ``tile/entries/<number>`` the records themselves, each after its length in two bytes.

`LogEdge` is the sealer's state: the right edge of a growing log. Its snapshot is exact and small: at most 255 records,
and 255 hashes per level above them.

References
----------
c2sp.org/tlog-tiles.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple, Self

from seawall.schemas.transparency._merkle import (
    HASH_SIZE,
    CompactRange,
    HashAt,
    fold_peaks,
    leaf_hash,
    node_hash,
    parents,
)

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
ENTRY_BYTES_MAX = 65_535  # an entry's length is a uint16
ENTRIES = "entries"
_TILE_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)((?:/x[0-9]{3})*/[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")

TileFile = tuple[str, bytes]
"""A path below the log's root, and what stands there."""


class Tile(NamedTuple):
    """Place of a tile: ``level`` is a number, or `ENTRIES`; ``width`` is how many hashes or records it holds.

    Examples
    --------
    >>> Tile(0, 1234067, 5).path
    'tile/0/x001/x234/067.p/5'
    """

    level: int | str
    number: int
    width: int = TILE_WIDTH

    @classmethod
    def parse(cls, path: str) -> Self:
        """Return the tile of a path; ``ValueError`` for any spelling but the canonical one."""
        match = _TILE_PATH.fullmatch(path)
        if match is None:
            raise ValueError(f"not a tile path: {path!r}")
        level: int | str = match[1] if match[1] == ENTRIES else int(match[1])
        found = cls(level, int(re.sub(r"[x/]", "", match[2])), int(match[3]) if match[3] else TILE_WIDTH)
        if found.path != path or (isinstance(level, int) and level > 63) or found.width > TILE_WIDTH:
            raise ValueError(f"not a canonical tile path: {path!r}")
        return found

    @classmethod
    def of_log(cls, size: int) -> Iterator[Self]:
        """Yield each tile that a log of ``size`` records has, those of its records beside level 0.

        Examples
        --------
        >>> [tuple(tile) for tile in Tile.of_log(258)]
        [('entries', 0, 256), (0, 0, 256), ('entries', 1, 2), (0, 1, 2), (1, 0, 1)]
        """
        level, hashes = 0, size
        while hashes:
            for number in range(-(-hashes // TILE_WIDTH)):
                width = min(TILE_WIDTH, hashes - number * TILE_WIDTH)
                if level == 0:
                    yield cls(ENTRIES, number, width)
                yield cls(level, number, width)
            level, hashes = level + 1, hashes // TILE_WIDTH

    @property
    def path(self) -> str:
        """The path below the log's root."""
        number = self.number
        groups = [f"{number % 1000:03d}"]
        while number := number // 1000:
            groups.append(f"x{number % 1000:03d}")
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{self.level}/{'/'.join(reversed(groups))}{partial}"

    @property
    def full(self) -> Self:
        """The tile that this one becomes once it is full."""
        return self._replace(width=TILE_WIDTH)

    def is_held(self, length: int) -> bool:
        """Return whether a file of so many bytes can hold it."""
        return length > self.width if self.level == ENTRIES else length >= self.width * HASH_SIZE

    def cut(self, full: bytes) -> bytes:
        """Return its hashes out of those of the full tile; of records, which have no fixed length, all of them."""
        return full if self.level == ENTRIES else full[: self.width * HASH_SIZE]


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Return an entry bundle: each record after its length in two bytes."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes) -> list[bytes]:
    """Return the records of an entry bundle; ``ValueError`` when it is cut."""
    entries, at = [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise ValueError("the entry bundle ends within a record")
        entries.append(data[at + 2 : end])
        at = end
    return entries


@dataclass(slots=True)
class LogEdge:
    """The right edge of a growing log: per level the hashes of the tile that is not full yet, and its entries.

    Roots of perfect subtrees are kept, so that a root costs a few dozen hashes at any size: ``nodes`` those within the
    open tile of level 0, by height from 1 on, computed when a root is asked for; ``peaks`` those of the levels above.
    """

    levels: list[list[bytes]] = field(default_factory=lambda: [[]])
    nodes: list[list[bytes]] = field(default_factory=lambda: [[] for _ in range(TILE_HEIGHT)])
    peaks: list[list[bytes]] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)
    full_tiles: int = 0

    @property
    def size(self) -> int:
        """The number of records in the log."""
        return self.full_tiles * TILE_WIDTH + len(self.entries)

    def extend(self, entries: Sequence[bytes]) -> list[TileFile]:
        """Take records; return the tiles that they complete, mostly none. Costs about 1.5 µs per record."""
        longest = max(map(len, entries), default=0)
        if longest > ENTRY_BYTES_MAX:
            raise ValueError(f"a log entry is at most {ENTRY_BYTES_MAX} bytes, this one has {longest}")
        files: list[TileFile] = []
        at = 0
        while at < len(entries):
            taken = entries[at : at + TILE_WIDTH - len(self.entries)]
            self.entries += taken
            self.levels[0] += map(leaf_hash, taken)
            at += len(taken)
            if len(self.entries) == TILE_WIDTH:
                files += self._complete()
        return files

    def partial_tiles(self, size: int | None = None) -> Iterator[TileFile]:
        """Yield the tiles that are not full at ``size``, the present size or one a little before.

        With the full ones they are all that a checkpoint of this size needs; a tile that has become full since is left
        out, because whoever asks for part of it is sent the whole (C2SP tlog-tiles).
        """
        leaves = self.size if size is None else size
        for level, hashes in enumerate(self.levels):
            number, width = divmod(leaves >> (TILE_HEIGHT * level), TILE_WIDTH)
            if width and number == self.size >> (TILE_HEIGHT * (level + 1)):
                yield Tile(level, number, width).path, b"".join(hashes[:width])
                if level == 0:
                    yield Tile(ENTRIES, number, width).path, encode_bundle(self.entries[:width])

    def root(self) -> bytes:
        """Return the root of the log as it stands."""
        self._grow()
        width, heights = len(self.levels[0]), [self.levels[0], *self.nodes]
        open_tile = [heights[h][(width >> h) - 1] for h in range(TILE_HEIGHT - 1, -1, -1) if width >> h & 1]
        return fold_peaks([peak for level in reversed(self.peaks) for peak in level] + open_tile)

    def snapshot(self) -> bytes:
        """Return the whole state as bytes: full tiles, the hashes above them, and the records that fill none yet."""
        upper = b"".join(len(hashes).to_bytes(2, "big") + b"".join(hashes) for hashes in self.levels[1:])
        head = self.full_tiles.to_bytes(8, "big") + bytes([len(self.levels) - 1])
        return head + upper + encode_bundle(self.entries)

    @classmethod
    def restore(cls, snapshot: bytes) -> "LogEdge":
        """Return the log of a snapshot; ``ValueError`` when the bytes are not one."""
        edge, at = cls(full_tiles=int.from_bytes(snapshot[:8], "big")), 9
        if len(snapshot) < at:
            raise ValueError("not a snapshot of a log")
        for _ in range(snapshot[8]):
            end = at + 2 + HASH_SIZE * int.from_bytes(snapshot[at : at + 2], "big")
            edge._restore_level([snapshot[i : i + HASH_SIZE] for i in range(at + 2, end, HASH_SIZE)])
            at = end
        widths = [edge.full_tiles >> (TILE_HEIGHT * i) & 0xFF for i in range(len(edge.levels) - 1)]
        if at > len(snapshot) or [len(hashes) for hashes in edge.levels[1:]] != widths:
            raise ValueError("not a snapshot of a log")
        edge.extend(decode_bundle(snapshot[at:]))
        return edge

    def _restore_level(self, hashes: list[bytes]) -> None:
        growing = CompactRange()
        for value in hashes:
            growing.append(value)
        self.levels.append(hashes)
        self.peaks.append(growing.peaks)

    def _grow(self) -> None:
        """Compute the nodes that the leaves of the open tile complete, a row of each height at a time."""
        low = self.levels[0]
        for high in self.nodes:
            fresh = iter(low[2 * len(high) : len(low) & ~1])
            high += [sha256(b"\x01" + left + next(fresh)).digest() for left in fresh]
            low = high

    def _complete(self) -> list[TileFile]:
        """Return what is full now, the record bundle first; each full tile's root goes one level up."""
        self._grow()
        number, (root,) = self.full_tiles, self.nodes[-1]
        files = [
            (Tile(ENTRIES, number).path, encode_bundle(self.entries)),
            (Tile(0, number).path, b"".join(self.levels[0])),
        ]
        self.entries, self.full_tiles, self.levels[0] = [], number + 1, []
        for high in self.nodes:
            high.clear()
        return files + self._raise(root, 1)

    def _raise(self, root: bytes, level: int) -> list[TileFile]:
        """Take the root of a full tile into the level above it; return the tiles that this completes."""
        if level == len(self.levels):
            self._restore_level([])
        hashes, growing = self.levels[level], CompactRange(len(self.levels[level]), self.peaks[level - 1])
        growing.append(root)
        hashes.append(root)
        if len(hashes) < TILE_WIDTH:
            self.peaks[level - 1] = growing.peaks
            return []
        self.levels[level], self.peaks[level - 1] = [], []
        number = (self.full_tiles >> (TILE_HEIGHT * level)) - 1
        return [(Tile(level, number).path, b"".join(hashes)), *self._raise(growing.root(), level + 1)]


def tile_hashes(read: Callable[[str], bytes], size: int) -> HashAt:
    """Answer for the perfect subtrees of a log of ``size`` records from its tiles.

    Parameters
    ----------
    read
        Returns the bytes at a path. Called once per tile; what it raises passes through.
    """
    tiles: dict[str, list[bytes]] = {}

    def tile(level: int, number: int) -> list[bytes]:
        width = min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - number * TILE_WIDTH)
        path = Tile(level, number, width).path
        if path not in tiles:
            data = read(path)
            if len(data) != width * HASH_SIZE:
                raise ValueError(f"{path} has {len(data)} bytes instead of {width * HASH_SIZE}")
            tiles[path] = [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]
        return tiles[path]

    def hash_at(level: int, index: int) -> bytes:
        height = level % TILE_HEIGHT
        number, first = divmod(index << height, TILE_WIDTH)
        return _subtree(tile(level // TILE_HEIGHT, number)[first : first + (1 << height)])

    return hash_at


def _subtree(hashes: Sequence[bytes]) -> bytes:
    """Return the root of a perfect subtree."""
    while len(hashes) > 2:
        hashes = parents(hashes)
    return node_hash(hashes[0], hashes[1]) if len(hashes) == 2 else hashes[0]
