"""One key's state on an engine that keeps bytes: a snapshot now and then, and the values taken since.

An engine whose Python has no hook at a checkpoint must hold, after every value, all that a new process needs. Writing a
whole book back for each slice is out of the question, so what is held is the last snapshot and the values after it.
Whoever starts again restores the snapshot and takes those values once more; what they give is compared with what stands
on the topics, and appended where a crash came between. So a value need not wait until its outputs are durable: only a
snapshot, after which its values are forgotten, must. Messages to the next step are not sent again, because the engine's
checkpoint holds that step's state of the same moment.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from seawall.operators.core.pipeline import StepResult

# A snapshot of a book takes as long as some dozens of slices, and so does taking the values after it again.
TAIL_VALUES_MAX = 256
TAIL_BYTES_MAX = 8 * 1024 * 1024


class Step(Protocol):
    """A state of one key."""

    def step(self, value: Any) -> StepResult:
        """Apply one value."""

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""


class Sink(Protocol):
    """Sink of a key's items; compares what is stored with what comes again."""

    def write(self, items: list[Any]) -> None:
        """Take the items of one value; they may stay in memory until ``flush``."""

    def pump(self) -> bool:
        """Send on what waits, where that needs no waiting; tell whether anything is not durable yet."""

    def flush(self) -> None:
        """Make everything taken durable."""

    def close(self) -> None:
        """Let the partition go."""


class Store(Protocol):
    """State that the engine keeps for one key."""

    def read(self) -> tuple[bytes | None, Iterable[bytes]]:
        """Return the last snapshot, if any, and the values since."""

    def put(self, snapshot: bytes) -> None:
        """Keep a snapshot and forget the values before it."""

    def add(self, value: bytes) -> None:
        """Keep one more value."""


class ChangelogState:
    """A state, its sink, and when its next snapshot is due.

    Parameters
    ----------
    state
        At its snapshot, or new.
    sink
        Where its items go.
    store
        What the engine keeps for the key.
    read
        Reads what the state takes from a value's bytes.
    """

    def __init__(
        self,
        state: Step,
        sink: Sink,
        store: Store,
        tail_values_max: int = TAIL_VALUES_MAX,
        read: Callable[[bytes], Any] = bytes,
    ) -> None:
        self.state, self.sink, self._store, self._read = state, sink, store, read
        self._tail_values_max = tail_values_max
        self._values = self._bytes = 0
        self._fresh = True

    @property
    def is_fresh(self) -> bool:
        """Return whether nothing was taken yet: what comes first may lie before a state that another engine left."""
        return self._fresh

    def close(self) -> None:
        """Let everything go."""
        self.sink.close()

    def resume(self, values: Iterable[bytes]) -> None:
        """Take the values after the snapshot once more."""
        for value in values:
            self._apply(value)

    def take(self, value: bytes) -> bytes | None:
        """Take the next value; return the message for the next step."""
        taken = self._apply(value)
        if taken.end:  # nothing may come after it that would notice a loss
            self.sink.flush()
        if self._values >= self._tail_values_max or self._bytes >= TAIL_BYTES_MAX:
            self.sink.flush()
            self._store.put(self.state.snapshot())
            self._values = self._bytes = 0
        else:
            self._store.add(value)
        return None if taken.message is None else taken.message.encode()

    def _apply(self, value: bytes) -> StepResult:
        taken = self.state.step(self._read(value))
        self.sink.write(taken.items)
        self._values += 1
        self._fresh = False
        self._bytes += len(value)
        return taken


def open_changelog_state(
    store: Store, make: Callable[[], Step], restore: Callable[[bytes], Step], open_sink: Callable[[Step], Sink]
) -> ChangelogState:
    """Return the keeper of a key as the engine's bytes say: from its snapshot, or new."""
    snapshot, values = store.read()
    state = make() if snapshot is None else restore(snapshot)
    keeper = ChangelogState(state, open_sink(state), store)
    keeper.resume(values)
    return keeper
