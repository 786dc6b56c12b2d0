"""Adapter for Flink: any keyed step as a ``KeyedProcessFunction`` whose state is bytes, and keys that spread evenly.

Flink sends a key to a subtask by a murmur hash of it; plain numbers would put several shards on one subtask.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from pyflink.common import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, ValueStateDescriptor

from seawall.dataflows.flink._changelog_state import ChangelogState, Store

# Keys that Flink spreads evenly over its subtasks.
#
# Flink puts a key into one of ``max parallelism`` groups, ``murmur(hash) mod groups``, and a subtask takes a run of
# groups. Two of four shards on one of four subtasks halve a cluster, so a shard's key is the first number whose group
# is the one that the shard is to have: groups are taken in the order of the van der Corput sequence, which fills any
# number of subtasks evenly.

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


# The coat for Flink: any keyed step as a ``KeyedProcessFunction`` whose state is bytes.
#
# PyFlink tells a function neither of checkpoints nor of restores, so all that a new process needs is in Flink's state
# after every value (`seawall.dataflows.flink._changelog_state`): one value state with the last snapshot, one list state
# with the values since. The live state, with its arrays, stays in this object; a failure makes a new one.
#
# A timer of processing time sends on what waits for the transaction before it, so that records leave at once when
# values come seldom, and many in one transaction when they come fast. It decides nothing: what is written depends on
# the values.

PUMP_MS = 4
BYTES = Types.PICKLED_BYTE_ARRAY  # a value state of plain bytes cannot be read before it was written

Open = Callable[[int, Store], ChangelogState]


class FlinkStore:
    """The state of whichever key Flink is at: a snapshot, and the values after it."""

    def __init__(self, context: RuntimeContext) -> None:
        self._snapshot = context.get_state(ValueStateDescriptor("snapshot", BYTES()))
        self._tail = context.get_list_state(ListStateDescriptor("tail", BYTES()))

    def read(self) -> tuple[bytes | None, Iterable[bytes]]:
        """Return the last snapshot, if any, and the values since."""
        return self._snapshot.value(), list(self._tail.get() or ())

    def put(self, snapshot: bytes) -> None:
        """Keep a snapshot and forget the values before it."""
        self._snapshot.update(snapshot)
        self._tail.clear()

    def add(self, value: bytes) -> None:
        """Keep one more value."""
        self._tail.add(value)


class StepFunction(KeyedProcessFunction):
    """Runs one step per key; what it tells the next step comes out as bytes.

    Parameters
    ----------
    prepare
        Called where the function runs; returns what opens the keeper of a partition.
    partition_of
        The partition of a key.
    """

    def __init__(self, prepare: Callable[[], Open], partition_of: Callable[[int], int]) -> None:
        self._prepare, self._partition_of = prepare, partition_of

    def open(self, runtime_context: RuntimeContext) -> None:
        """Find the state, and what opens keepers; they open with their key's first value or timer."""
        self._store = FlinkStore(runtime_context)
        self._open = self._prepare()
        self._keepers: dict[int, ChangelogState] = {}
        self._timed: set[int] = set()

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        """Take one value."""
        key = ctx.get_current_key()
        keeper = self._keepers.get(key) or self._resume(key)
        message = keeper.take(value)
        self._pump(key, keeper, ctx)
        if message is not None:
            yield message

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        """Send on what waited; after a restore, take again what was taken and make its outputs durable."""
        key = ctx.get_current_key()
        self._timed.discard(key)
        self._pump(key, self._keepers.get(key) or self._resume(key), ctx)
        return iter(())

    def close(self) -> None:
        """Make everything durable and let the partitions go."""
        for keeper in getattr(self, "_keepers", {}).values():
            keeper.close()

    def _resume(self, key: int) -> ChangelogState:
        keeper = self._keepers[key] = self._open(self._partition_of(key), self._store)
        return keeper

    def _pump(self, key: int, keeper: ChangelogState, ctx: KeyedProcessFunction.Context) -> None:
        if keeper.sink.pump() and key not in self._timed:
            timers = ctx.timer_service()
            timers.register_processing_time_timer(timers.current_processing_time() + PUMP_MS)
            self._timed.add(key)
