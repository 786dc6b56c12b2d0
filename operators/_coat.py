"""The coat: any core state as a stateful Bytewax step.

Bytewax does not tell a builder its key, so a state is made when its first value arrives, from that value. Snapshots are
the state's own bytes (DESIGN §8): nothing of ours is ever pickled but ``bytes``.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import bytewax.operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic

log = logging.getLogger("seawall")
In = TypeVar("In")
Out = TypeVar("Out")


class State(Protocol):
    """A core state: it can say what it is in bytes."""

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""


class StepLogic(StatefulBatchLogic[Any, Any, bytes]):
    """Runs ``step(state, value) -> outputs`` for every value of one key.

    Parameters
    ----------
    resume
        Snapshot bytes, or None for a key not seen before.
    make
        Builds a state from the first value.
    restore
        Builds a state from snapshot bytes.
    step
        Applies one value to the state.
    """

    def __init__(
        self,
        resume: bytes | None,
        make: Callable[[Any], Any],
        restore: Callable[[bytes], Any],
        step: Callable[[Any, Any], Iterable[Any]],
    ) -> None:
        self._state = None if resume is None else logged(restore, resume)
        self._make, self._step = make, step

    def on_batch(self, values: list[Any]) -> tuple[list[Any], bool]:
        """Apply a batch of values in order."""
        if self._state is None:
            self._state = self._make(values[0])
        out: list[Any] = []
        for value in values:
            out.extend(logged(self._step, self._state, value))
        return out, StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        """Return the state's own bytes."""
        assert self._state is not None
        data: bytes = self._state.snapshot()
        return data


def keep_state(
    step_id: str,
    up: KeyedStream[Any],
    make: Callable[[Any], Any],
    restore: Callable[[bytes], Any],
    step: Callable[[Any, Any], Iterable[Any]],
) -> KeyedStream[Any]:
    """Keep one core state per key, made from its first value, and give every value of the key to it (`StepLogic`)."""
    return op.stateful_batch(step_id, up, lambda resume: StepLogic(resume, make, restore, step))


def one(step: Callable[[Any, Any], Out]) -> Callable[[Any, Any], list[Out]]:
    """Return a step that gives one item per value as the list that the engine takes."""
    return lambda state, value: [step(state, value)]


failures: list[BaseException] = []
"""What was raised inside the engine of this process: in a cluster the engine loses exceptions (DESIGN §8)."""


def logged(call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except Exception as error:
        failures.append(error)
        log.error("%s: %s", type(error).__name__, error)
        raise
