"""Stateful steps: any core state as a stateful Bytewax step.

Bytewax does not tell a builder its key, so a state is made when its first value arrives, from that value. Snapshots are
the state's own bytes (architecture.md, "Bytewax"): nothing of ours is ever pickled but ``bytes``.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import bytewax.operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic

from seawall.schemas.errors import SnapshotError
from seawall.schemas.telemetry import UTILISATION_S, Part, Telemetry

log = logging.getLogger("seawall")
In = TypeVar("In")
Out = TypeVar("Out")
# What the states are called where a run is watched; their step ids are frozen (architecture.md, "Bytewax").
STAGES = {"shard": "exposure", "accounts": "conduct", "books": "forecast", "levels": "limits", "plan": "mitigation"}
STAGES |= {"desired": "state", "chain": "audit", "group": "market", "key": "detect"}
CutTime = Callable[[Any], int]
UtilisationProbe = Callable[[Any, Any], tuple[str, dict[str, float]]]


class State(Protocol):
    """A core state: it can say what it is in bytes."""

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""


def restore_state(restore: Callable[[bytes], Any], data: bytes) -> Any:
    """Return the state of a snapshot.

    Raises
    ------
    SnapshotError
        It cannot be read, or it lacks what this program keeps: another one wrote it.
    """
    try:
        return restore(data)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        text = f"a snapshot is laid out otherwise than this version keeps it ({type(error).__name__}: {error})"
        raise SnapshotError(text) from error


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
        self._state = None if resume is None else call_logged(restore_state, restore, resume)
        self._make, self._step = make, step

    def on_batch(self, values: list[Any]) -> tuple[list[Any], bool]:
        """Apply a batch of values in order."""
        if self._state is None:
            self._state = call_logged(self._make, values[0])
        out: list[Any] = []
        for value in values:
            out.extend(call_logged(self._step, self._state, value))
        return out, StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        """Return the state's own bytes."""
        assert self._state is not None
        data: bytes = self._state.snapshot()
        return data


class MeasuredLogic(StepLogic):
    """A `StepLogic` that also says how long it took and how large it is.

    Parameters
    ----------
    stage
        What it is called.
    cut_us
        Says when a value's slice was cut: its age is taken once the step is done.
    look
        Says how much of each limit is used, of the state and its last output; asked now and then.
    """

    def __init__(
        self, telemetry: Telemetry, stage: str, cut_us: CutTime | None, look: UtilisationProbe | None, *step: Any
    ) -> None:
        super().__init__(*step)
        self._telemetry, self._part = telemetry, telemetry.part(stage)
        self._cut_us = cut_us if telemetry.live else None
        self._look, self._looked_at = look, float("-inf")

    def on_batch(self, values: list[Any]) -> tuple[list[Any], bool]:
        """Apply a batch of values in order."""
        began, part = time.perf_counter(), self._part
        found = super().on_batch(values)
        ended = time.perf_counter()
        part.work.observe(ended - began)
        part.slices += len(values)
        if self._cut_us is not None:
            now = time.time()
            for value in values:
                part.ages.observe(now - self._cut_us(value) / 1e6)
        if self._look is not None and ended - self._looked_at > UTILISATION_S and found[0]:
            self._looked_at = ended
            key, used = self._look(self._state, found[0][-1])
            self._telemetry.utilisation[key] = used
        return found

    def snapshot(self) -> bytes:
        """Return the state's own bytes."""
        began = time.perf_counter()
        data = super().snapshot()
        self._part.snapshots.observe(time.perf_counter() - began)
        self._part.snapshot_bytes = len(data)
        return data


def keep_state(
    step_id: str,
    up: KeyedStream[Any],
    make: Callable[[Any], Any],
    restore: Callable[[bytes], Any],
    step: Callable[[Any, Any], Iterable[Any]],
    cut_us: CutTime | None = None,
    look: UtilisationProbe | None = None,
) -> KeyedStream[Any]:
    """Keep one core state per key, made from its first value, and give every value of the key to it (`StepLogic`).

    ``cut_us`` and ``look`` are for those who watch (`MeasuredLogic`).
    """
    telemetry, stage = Telemetry.current(), STAGES.get(step_id, step_id)
    if telemetry is None:
        return op.stateful_batch(step_id, up, lambda resume: StepLogic(resume, make, restore, step))
    given = make, restore, step
    return op.stateful_batch(step_id, up, lambda resume: MeasuredLogic(telemetry, stage, cut_us, look, resume, *given))


def timed(stage: str, call: Callable[[In], Out]) -> Callable[[In], Out]:
    """Return a step without a state that says how long it took where somebody watches."""
    telemetry = Telemetry.current()
    return call if telemetry is None else _timed(telemetry.part(stage), call)


def _timed(part: Part, call: Callable[[In], Out]) -> Callable[[In], Out]:
    def step(value: In) -> Out:
        began = time.perf_counter()
        found = call(value)
        part.work.observe(time.perf_counter() - began)
        part.slices += 1
        return found

    return step


def single_output(step: Callable[[Any, Any], Out]) -> Callable[[Any, Any], list[Out]]:
    """Return a step that gives one item per value as the list that the engine takes."""
    return lambda state, value: [step(state, value)]


failures: list[BaseException] = []
"""What was raised inside the engine of this process: in a cluster the engine loses exceptions.

See architecture.md, "Bytewax".
"""


def call_logged(call: Callable[..., Any], *args: Any) -> Any:
    """Return what a call returns; what it raises is kept in ``failures`` and logged, then raised again."""
    try:
        return call(*args)
    except Exception as error:
        failures.append(error)
        log.error("%s: %s", type(error).__name__, error)
        raise
