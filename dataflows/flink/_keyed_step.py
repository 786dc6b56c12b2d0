"""Adapter for Flink: any keyed step as a ``KeyedProcessFunction`` whose state is bytes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pyflink.common import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, ValueStateDescriptor

from seawall.dataflows.flink._changelog_state import ChangelogState, Store

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
