"""Sealing: checkpoints of an audit partition's log, and the check of records against them.

Decides on both sides of the evidence. Writing: a checkpoint stands after every 256th leaf, after the record of a slice
(or second) that the sequencer cut a second past the last sealed one by its clock, and after the last record of a
bounded run: a function of the partition, whose records state that clock, so that a sealer that starts again writes the
same ones (decision 0013). A slice's clock stands in its own audit record, the last of the slice, so whole slices are
sealed.
Reading: every record carries the leaf hash of the one before it, and every checkpoint is the root over all before it.
The chain names the record; only the signed root finds a cut tail, or a history that was written anew.

References
----------
RFC 6962; Crosby and Wallach, "Efficient data structures for tamper-evident logging" (USENIX Security 2009).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import msgspec

from seawall.operators.core.base import pack, unpack
from seawall.schemas.errors import Divergence
from seawall.schemas.transparency import TILE_WIDTH, Checkpoint, CompactRange, LogEdge, TileFile, leaf_hash

SCHEMA = "seal/2"
SEAL_EVERY_US = 1_000_000
GENESIS = "genesis"


def origin_of(issuer: str, environment: str, partition: int) -> str:
    """Return the name of the log over one audit partition; also the name of the key that signs its checkpoints.

    Examples
    --------
    >>> origin_of("risk/desk", "prod", 3)
    'risk/desk/audit/prod/3'
    """
    return f"{issuer}/audit/{environment}/{partition}"


# The body of a slice's (or second's) record ends with its topics, the clock where one was read, and the mark of the end
# (`audit.slice_decision`). To look at the last bytes costs a tenth of what decoding the record does; no text inside a
# record can look like them, because quotes inside texts are escaped.
_BEGIN, _PLAIN = b'{"shard":', b"}}}"
_TAIL = re.compile(rb'\}(?:,"cut_us":([0-9]{1,18}))?(,"end":true)?\}\}\Z')
_TAIL_BYTES_MAX = 64


@dataclass(slots=True)
class SealRule:
    """Rule of where checkpoints are: ``due(entries, size) -> sizes``, for the records of one partition in order."""

    sealed_us: int = -1
    clock_us: int = -1

    def due(self, entries: Sequence[bytes], size: int) -> list[int]:
        """Return the sizes of the log at which a checkpoint stands; ``size`` is that before these records."""
        sizes = []
        full = range(size // TILE_WIDTH * TILE_WIDTH + TILE_WIDTH, size + len(entries) + 1, TILE_WIDTH)
        telling = [at for at, entry in enumerate(entries, size + 1) if not entry.endswith(_PLAIN)]
        for at in sorted({*full, *telling}) if telling else full:
            tail = _TAIL.search(entries[at - size - 1], len(entries[at - size - 1]) - _TAIL_BYTES_MAX)
            clock, end = tail.groups() if tail else (None, None)
            self.clock_us = int(clock) if clock else self.clock_us
            passed = clock and abs(self.clock_us - self.sealed_us) >= SEAL_EVERY_US
            if passed or end or not at % TILE_WIDTH:
                self.sealed_us = self.clock_us
                sizes.append(at)
        return sizes


class Sealed(NamedTuple):
    """Output for some records: tiles now full, checkpoints, and the partial tiles that the last of them needs.

    ``number`` counts the checkpoints of the partition before these.
    """

    partition: int
    number: int
    files: list[TileFile]
    checkpoints: list[Checkpoint]
    partial: list[TileFile]


class SealState:
    """The sealer of one audit partition: ``step(entries) -> Sealed``. Costs about 2 µs per record.

    Parameters
    ----------
    origin
        The log's name (`origin_of`).
    """

    def __init__(self, origin: str, partition: int) -> None:
        self.origin, self.partition = origin, partition
        self.edge, self.rule, self.count = LogEdge(), SealRule(), 0

    @property
    def size(self) -> int:
        """The number of records taken: the offset of the next one."""
        return self.edge.size

    def step(self, entries: Sequence[bytes]) -> Sealed:
        """Take the partition's next records; `Divergence` when one is no audit record."""
        strange = [at for at, entry in enumerate(entries, self.size) if not entry.startswith(_BEGIN)]
        if strange:
            raise Divergence(f"record {strange[0]} is no audit record; run seawall verify")
        edge, files, checkpoints, taken = self.edge, [], [], 0
        first = edge.size
        for size in self.rule.due(entries, first):
            files += edge.extend(entries[taken : size - first])
            checkpoints.append(Checkpoint(self.origin, size, edge.root()))
            taken = size - first
        files += edge.extend(entries[taken:])
        partial = list(edge.partial_tiles(checkpoints[-1].size)) if checkpoints else []
        self.count += len(checkpoints)
        return Sealed(self.partition, self.count - len(checkpoints), files, checkpoints, partial)

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        times = [self.rule.sealed_us, self.rule.clock_us]
        state = {"origin": self.origin, "partition": self.partition, "times": times, "count": self.count}
        return pack(SCHEMA, {**state, "edge": self.edge.snapshot()})

    @classmethod
    def restore(cls, data: bytes) -> "SealState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(state["origin"], state["partition"])
        self.edge, self.count = LogEdge.restore(state["edge"]), state["count"]
        self.rule.sealed_us, self.rule.clock_us = state["times"]
        return self


class LogFault(StrEnum):
    """Fault of a partition's log."""

    CHAIN = "CHAIN"  # a record does not follow the one before it
    ROOT = "ROOT"  # the records are not those that were sealed
    TRUNCATED = "TRUNCATED"  # fewer records than were sealed
    SPLIT = "SPLIT"  # two checkpoints of one size
    TILES = "TILES"  # a tile is not that of the records


@dataclass(frozen=True, slots=True)
class LogFinding:
    """One thing found: at which leaf (or size), what, and in words."""

    at: int
    fault: LogFault
    text: str


class _Link(msgspec.Struct):
    prev: str


def check_partition(entries: Iterable[bytes], checkpoints: Sequence[Checkpoint]) -> Iterator[LogFinding]:
    """Yield what is wrong with a partition, given its records in order and its verified checkpoints by size.

    Streams: memory does not grow with the partition. About 3 µs per record.
    """
    expected = _by_size(checkpoints)
    yield from (
        LogFinding(size, LogFault.SPLIT, f"two roots for {size} records")
        for size, roots in expected.items()
        if len(roots) > 1
    )
    tree, prev, decoder = CompactRange(), GENESIS, msgspec.json.Decoder(_Link)
    for index, entry in enumerate(entries):
        try:
            link = decoder.decode(entry).prev
        except (msgspec.DecodeError, UnicodeDecodeError):
            link = ""
        if link != prev:
            yield LogFinding(
                index, LogFault.CHAIN, f"record {index} names {link[:16]!r} as the one before it, not {prev[:16]!r}"
            )
        leaf = leaf_hash(entry)
        prev = leaf.hex()
        tree.append(leaf)
        if tree.size in expected and tree.root() not in expected[tree.size]:
            yield LogFinding(tree.size, LogFault.ROOT, f"the first {tree.size} records are not those that were sealed")
    missing = [size for size in expected if size > tree.size]
    if missing:
        yield LogFinding(tree.size, LogFault.TRUNCATED, f"{tree.size} records stand, {max(missing)} were sealed")


def _by_size(checkpoints: Sequence[Checkpoint]) -> dict[int, set[bytes]]:
    found: dict[int, set[bytes]] = {}
    for checkpoint in checkpoints:
        found.setdefault(checkpoint.size, set()).add(checkpoint.root)
    return found
