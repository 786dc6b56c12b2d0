"""Sealing: when an audit partition's log gets a checkpoint, and whether records still are what was sealed.

Decides on both sides of the evidence. Writing: a checkpoint stands after the first leaf, after every 256th, after the
first leaf whose slice lies a second of event time past the last sealed one, and after the last of a bounded run: a
function of the partition and not of a clock, so that a sealer that starts again writes the same ones (DESIGN §6).
Reading: every record carries the leaf hash of the one before it, and every checkpoint is the root over all before it.
The chain names the record; only the signed root finds a cut tail, or a history that was written anew.

References
----------
RFC 6962; Crosby and Wallach, "Efficient data structures for tamper-evident logging" (USENIX Security 2009).
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from seawall.schemas.errors import invariant
from seawall.schemas.evidence.merkle import CompactRange, leaf_hash
from seawall.schemas.evidence.tiles import File, LogEdge
from seawall.schemas.evidence.tlog import Checkpoint

SEAL_EVERY_US = 1_000_000
GENESIS = "genesis"
_HEAD = struct.Struct(">q")


@dataclass(slots=True)
class SealState:
    """The sealer of one partition: ``step(entry, as_of_us, last) -> (files, checkpoint)``.

    The snapshot describes the log at its last multiple of 256 leaves; after `restore` the caller reads the partition
    again from ``size`` on. Checkpoints of sizes that are published already then come again, and must be equal.
    """

    origin: str
    edge: LogEdge = field(default_factory=LogEdge)
    sealed_as_of_us: int = -1
    tile_as_of_us: int = -1

    @property
    def size(self) -> int:
        """The number of records taken: the offset of the next one."""
        return self.edge.size

    def step(self, entry: bytes, as_of_us: int, last: bool = False) -> tuple[Iterable[File], Checkpoint | None]:
        """Take one record; return the tiles that it completes, and the checkpoint if one is due.

        Parameters
        ----------
        as_of_us
            Event time of the record's slice; never falls within a partition.
        last
            Whether this is the last record of a bounded run.
        """
        files = self.edge.append(entry)
        full = not self.edge.levels[0]
        if full:
            self.tile_as_of_us = as_of_us
        passed_us = as_of_us - self.sealed_as_of_us
        invariant(passed_us >= 0, "event time falls within an audit partition")
        due = passed_us >= SEAL_EVERY_US or self.sealed_as_of_us < 0
        if not (full or due or last):
            return files, None
        self.sealed_as_of_us = as_of_us
        return files, Checkpoint(self.origin, self.size, self.edge.root())

    def snapshot(self) -> bytes:
        """Return the state at the last multiple of 256 leaves."""
        return _HEAD.pack(self.tile_as_of_us) + self.edge.snapshot()

    @classmethod
    def restore(cls, origin: str, snapshot: bytes) -> "SealState":
        """Return the sealer of a snapshot; ``ValueError`` when the bytes are not one."""
        if len(snapshot) < _HEAD.size:
            raise ValueError("not a snapshot of a log")
        (as_of_us,) = _HEAD.unpack_from(snapshot)
        return cls(origin, LogEdge.restore(snapshot[_HEAD.size :]), as_of_us, as_of_us)


class Fault(StrEnum):
    """What is wrong with a partition."""

    CHAIN = "CHAIN"  # a record does not follow the one before it
    ROOT = "ROOT"  # the records are not those that were sealed
    TRUNCATED = "TRUNCATED"  # fewer records than were sealed
    SPLIT = "SPLIT"  # two checkpoints of one size


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: at which leaf (or size), what, and in words."""

    at: int
    fault: Fault
    text: str


class _Link(msgspec.Struct):
    prev: str


def check_partition(entries: Iterable[bytes], checkpoints: Sequence[Checkpoint]) -> Iterator[Finding]:
    """Yield what is wrong with a partition, given its records in order and its verified checkpoints by size.

    Streams: memory does not grow with the partition. About 3 µs per record.
    """
    expected = _by_size(checkpoints)
    yield from (
        Finding(size, Fault.SPLIT, f"two roots for {size} records")
        for size, roots in expected.items()
        if len(roots) > 1
    )
    tree, prev, decoder = CompactRange(), GENESIS, msgspec.json.Decoder(_Link)
    for index, entry in enumerate(entries):
        try:
            link = decoder.decode(entry).prev
        except msgspec.DecodeError:
            link = ""
        if link != prev:
            yield Finding(
                index, Fault.CHAIN, f"record {index} names {link[:16]!r} as the one before it, not {prev[:16]!r}"
            )
        leaf = leaf_hash(entry)
        prev = leaf.hex()
        tree.append(leaf)
        if tree.size in expected and tree.root() not in expected[tree.size]:
            yield Finding(tree.size, Fault.ROOT, f"the first {tree.size} records are not those that were sealed")
    missing = [size for size in expected if size > tree.size]
    if missing:
        yield Finding(tree.size, Fault.TRUNCATED, f"{tree.size} records stand, {max(missing)} were sealed")


def _by_size(checkpoints: Sequence[Checkpoint]) -> dict[int, set[bytes]]:
    found: dict[int, set[bytes]] = {}
    for checkpoint in checkpoints:
        found.setdefault(checkpoint.size, set()).add(checkpoint.root)
    return found
