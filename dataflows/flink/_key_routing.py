"""Key routing: keys that Flink spreads evenly over its subtasks.

Flink puts a key into one of ``max parallelism`` groups, ``murmur(hash) mod groups``, and a subtask takes a run of
groups. Two of four shards on one of four subtasks halve a cluster, so a shard's key is the first number whose group is
the one that the shard is to have: groups are taken in the order of the van der Corput sequence, which fills any number
of subtasks evenly.
"""

from functools import cache

GROUPS = 128
"""The maximum parallelism of every operator; part of the state, so it never changes."""

_MASK = 0xFFFFFFFF


@cache
def flink_key(partition: int) -> int:
    """Return the key of a partition; never that of another one, because keys agree with partitions modulo 65,536."""
    wanted = int(f"{partition % GROUPS:07b}"[::-1], 2)
    key = partition
    while key_group(key) != wanted:
        key += 1 << 16
    return key


def partition_of(key: int) -> int:
    """Return the partition that a key is of."""
    return key & 0xFFFF


def key_group(key: int) -> int:
    """Return the group of a key: the hash of a row of one integer is that integer (``RowUtils.deepHashCodeRow``)."""
    return _murmur(key) % GROUPS


def _murmur(code: int) -> int:
    """Return Flink's ``MathUtils.murmurHash`` of a hash code (MurmurHash3 of one word, seed 0)."""
    code = _rotated(code * 0xCC9E2D51 & _MASK, 15) * 0x1B873593 & _MASK
    code = (_rotated(code, 13) * 5 + 0xE6546B64) & _MASK
    code ^= 4
    code = (code ^ code >> 16) * 0x85EBCA6B & _MASK
    code = (code ^ code >> 13) * 0xC2B2AE35 & _MASK
    code ^= code >> 16
    if code < 1 << 31:
        return code
    return 0 if code == 1 << 31 else (1 << 32) - code


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & _MASK
