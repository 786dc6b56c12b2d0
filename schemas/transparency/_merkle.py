"""RFC 6962 Merkle trees: roots, a tree that only grows, inclusion and consistency proofs.

Decides whether a record stands where a signed root says, and whether one root extends another. Everything here is a
pure function of hashes; tiles, checkpoints and signatures are in `tlog` and `note`.

A *perfect subtree* is named ``(level, index)`` and covers the leaves ``[index << level, (index + 1) << level)``. Each
proof is a list of roots of leaf ranges, and each range is a row of perfect subtrees; so whoever can answer for perfect
subtrees (a list of leaf hashes, or a folder of tiles) can prove anything.

References
----------
RFC 6962 §2.1 (leaf 0x00, node 0x01, the empty tree is SHA-256 of nothing); RFC 9162 §2.1.3.2 and §2.1.4.2 for the
verification algorithms, whose length checks are all kept.
"""

import hashlib
from collections.abc import Callable, Sequence

from seawall.schemas.errors import VerificationError

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
SIZE_MAX = 1 << 63  # sizes travel as signed 64-bit integers in other implementations

_LEAF = hashlib.sha256(b"\x00").copy  # a fifth faster than to begin anew with a copy of the record: this runs for each

HashAt = Callable[[int, int], bytes]
"""Returns the hash of the perfect subtree ``(level, index)``."""


class ProofError(VerificationError):
    """The proof does not lead to the root it was given for."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of one record (RFC 6962 §2.1: ``SHA-256(0x00 || entry)``)."""
    found = _LEAF()
    found.update(entry)
    return found.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node (``SHA-256(0x01 || left || right)``)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def parents(hashes: Sequence[bytes]) -> list[bytes]:
    """Return the nodes one level up; an odd last hash has no parent yet and is left out."""
    sha256 = hashlib.sha256
    return [sha256(b"\x01" + hashes[i] + hashes[i + 1]).digest() for i in range(0, len(hashes) - 1, 2)]


class CompactRange:
    """A tree that only grows, kept as the roots of its perfect subtrees: at most log2(size) hashes.

    Appending costs one inner hash on average (about 1 µs). The snapshot is ``size`` in 8 bytes, big endian, then the
    roots from the largest subtree to the smallest.

    Examples
    --------
    >>> tree = CompactRange()
    >>> for entry in (b"a", b"b", b"c"):
    ...     tree.append(leaf_hash(entry))
    >>> CompactRange.restore(tree.snapshot()).root() == tree.root()
    True
    """

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if not 0 <= size < SIZE_MAX or len(peaks) != size.bit_count() or any(len(p) != HASH_SIZE for p in peaks):
            raise ValueError(f"a tree of {size} leaves is not described by {len(peaks)} subtree roots")
        self.size = size
        self.peaks = list(peaks)

    def append(self, leaf: bytes) -> None:
        """Take one more leaf hash."""
        size, peaks, sha256 = self.size, self.peaks, hashlib.sha256
        while size & 1:  # each trailing one bit is a subtree that the new leaf completes
            leaf = sha256(b"\x01" + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of the tree as it stands."""
        return fold_peaks(self.peaks)

    def snapshot(self) -> bytes:
        """Return the state as bytes, equal for equal trees."""
        return self.size.to_bytes(8, "big") + b"".join(self.peaks)

    @classmethod
    def restore(cls, snapshot: bytes) -> "CompactRange":
        """Return the tree of a snapshot; ``ValueError`` when the bytes are not one."""
        size, rest = int.from_bytes(snapshot[:8], "big"), snapshot[8:]
        return cls(size, [rest[i : i + HASH_SIZE] for i in range(0, len(rest), HASH_SIZE)])


def range_root(begin: int, end: int, hash_at: HashAt) -> bytes:
    """Return the RFC 6962 root over ``[begin, end)``; ``begin`` is a multiple of a power of two >= the width."""
    return fold_peaks([hash_at(level, index) for level, index in perfect_subtrees(begin, end)])


def perfect_subtrees(begin: int, end: int) -> list[tuple[int, int]]:
    """Return the perfect subtrees that make up ``[begin, end)``, left to right."""
    found = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        found.append((level, begin >> level))
        begin += 1 << level
    return found


def inclusion_proof(index: int, size: int, hash_at: HashAt) -> list[bytes]:
    """Return the audit path of a leaf in the tree of ``size`` leaves, its sibling first (RFC 6962 §2.1.1)."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        other = (middle, end) if index < middle else (begin, middle)
        path.append(range_root(*other, hash_at))
        begin, end = (begin, middle) if index < middle else (middle, end)
    return path[::-1]


def consistency_proof(old_size: int, size: int, hash_at: HashAt) -> list[bytes]:
    """Return the proof that the tree of ``size`` leaves extends that of ``old_size`` (RFC 6962 §2.1.2)."""
    if not 0 <= old_size <= size:
        raise ValueError(f"a tree of {size} leaves does not extend one of {old_size}")
    if old_size in (0, size):
        return []
    path: list[bytes] = []
    begin, end, known = 0, size, True  # known: the old tree is exactly [0, end), so its root need not be told
    while old_size != end:
        middle = begin + _split(end - begin)
        if old_size <= middle:
            path.append(range_root(middle, end, hash_at))
            end = middle
        else:
            path.append(range_root(begin, middle, hash_at))
            begin, known = middle, False
    return ([] if known else [range_root(begin, end, hash_at)]) + path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise `ProofError` unless the leaf is at ``index`` of the tree with this root (RFC 9162 §2.1.3.2)."""
    _check_hashes(leaf, root, *proof)
    if not 0 <= index < size < SIZE_MAX:
        raise ProofError(f"index {index} is outside a tree of {size} leaves")
    position, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("the inclusion proof is too long")
        if position & 1 or position == last:
            value = node_hash(sibling, value)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise ProofError("the inclusion proof is too short")
    if value != root:
        raise ProofError(f"leaf {index} is not in the tree of {size} leaves with root {root.hex()}")


def verify_consistency(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Raise `ProofError` unless the second tree extends the first (RFC 9162 §2.1.4.2).

    Every tree extends the empty one, so that a proof from it says nothing: asking for one is refused, as it is by
    other implementations.
    """
    if not 0 < old_size <= size < SIZE_MAX:
        raise ProofError(f"a tree of {size} leaves does not extend one of {old_size}")
    if old_size == size:
        if proof or old_root != root:
            raise ProofError(f"two roots, or a proof, for one size of {size} leaves")
        return
    _check_hashes(old_root, root, *proof)
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        raise ProofError("the consistency proof is empty")
    position, last = old_size - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("the consistency proof is too long")
        if position & 1 or position == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise ProofError("the consistency proof is too short")
    if before != old_root or after != root:
        raise ProofError(f"the tree of {size} leaves does not extend that of {old_size}")


def _split(width: int) -> int:
    """Return the largest power of two smaller than ``width``."""
    return 1 << ((width - 1).bit_length() - 1)


def fold_peaks(hashes: Sequence[bytes]) -> bytes:
    """Return the root of subtrees given largest first."""
    if not hashes:
        return EMPTY_ROOT
    value = hashes[-1]
    for left in reversed(hashes[:-1]):
        value = node_hash(left, value)
    return value


def _check_hashes(*hashes: bytes) -> None:
    if any(len(value) != HASH_SIZE for value in hashes):
        raise ProofError("a hash in the proof is not 32 bytes")
