"""Merkle trees whose leaves are all at hand, for tests."""

from collections.abc import Iterable, Sequence

from seawall.schemas.transparency._merkle import CompactRange, HashAt, parents


def hashes_of(leaf_hashes: Sequence[bytes]) -> HashAt:
    """Answer for the perfect subtrees of a tree whose leaf hashes are all at hand."""
    levels = [list(leaf_hashes)]
    while len(levels[-1]) > 1:
        levels.append(parents(levels[-1]))
    return lambda level, index: levels[level][index]


def tree_root(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the RFC 6962 root over these leaf hashes."""
    growing = CompactRange()
    for leaf in leaf_hashes:
        growing.append(leaf)
    return growing.root()
