"""Core states with the items they are given: what suites of properties, and every engine, are run with.

Nothing here needs an engine or a test runner, so it loads wherever `seawall.operators.core` does.
"""

import hashlib
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import msgspec

from seawall.operators.core.audit import AuditState
from seawall.operators.core.base import Audited, Enforced, Frame, Planned, Signed
from seawall.operators.core.detection import AccountBehaviourState
from seawall.operators.core.limits import LimitsState
from seawall.operators.core.mitigation import MitigationState
from seawall.operators.core.portfolio import ExposureState, FirmState
from seawall.schemas.records import decode_slice, encode_slice
from seawall_testing.pipeline import PipelineRun


@dataclass
class StateCase:
    """A state: how it is made, restored and stepped, and the items of one key."""

    name: str
    make: Callable[[Any], Any]
    restore: Callable[[bytes], Any]
    step: Callable[[Any, Any], Any]
    items: list[Any]

    def run(self, items: Iterable[Any], state: Any = None) -> tuple[Any, list[Any]]:
        """Return the state after some items, and the fingerprint of each output."""
        found = []
        for item in items:
            if state is None:
                state = self.make(item)
            found.append(fingerprint(self.step(state, item)))
        return state, found


def fingerprint(item: Any) -> Any:
    """Return what an output says, as plain values that compare by content."""
    match item:
        case Frame():
            tables = {k: (t.names[: t.values.shape[1]], t.measures, t.values.tobytes()) for k, t in item.tables.items()}
            head = (item.key, item.partition, item.seq, item.as_of_us, item.cut_us, item.decides, item.second)
            tail = (item.inputs, item.configuration, item.news, item.decisions, item.records)
            head = (*head, fingerprint(item.activity))
            return (head, tables, deepcopy(tail), fingerprint(item.summary))
        case Enforced():
            return (fingerprint(item.frame), deepcopy(item.breaches), list(item.records))
        case Planned():
            return (fingerprint(item.enforced), list(item.commands), list(item.state), list(item.releases))
        case Signed():
            return (fingerprint(item.planned), list(item.commands), list(item.state))
        case Audited():
            return (item.key, item.partition, item.seq, deepcopy(item.records))
        case msgspec.Struct():
            return fingerprint(msgspec.structs.asdict(item))
        case list() | tuple():
            return [fingerprint(part) for part in item]
        case dict():
            return {key: fingerprint(part) for key, part in item.items()}
        case _:
            return item.tobytes() if hasattr(item, "tobytes") else item


def core_state_cases(ran: PipelineRun, shards: int) -> list[StateCase]:
    """Return every core state as a subject, with the items that a run gave it."""
    found = [_exposure(ran, shard) for shard in range(shards)]
    found += [_conduct(ran, shard) for shard in range(shards)]
    summaries = [frame.summary for frame in ran.frames if frame.summary is not None]
    found.append(StateCase("firm", lambda _: FirmState(), FirmState.restore, FirmState.step, summaries))
    for key in [*map(str, range(shards)), "all"]:
        frames = [frame for frame in ran.frames if frame.key == key]
        found += _deciders(key, frames)
    return found


def cases_by_name(run: PipelineRun, shards: int) -> dict[str, StateCase]:
    """Return the cases of a run by their names."""
    return {case.name: case for case in core_state_cases(run, shards)}


def _exposure(ran: PipelineRun, shard: int) -> StateCase:
    def step(state: ExposureState, value: bytes) -> Any:
        return state.step(decode_slice(value), hashlib.sha256(value).hexdigest())

    values = [encode_slice(piece) for piece in ran.slices if piece.shard == shard]
    return StateCase(f"exposure-{shard}", lambda _: ExposureState(shard), ExposureState.restore, step, values)


def _conduct(ran: PipelineRun, shard: int) -> StateCase:
    frames = [frame for frame in ran.exposed if frame.partition == shard]
    return StateCase(
        f"conduct-{shard}",
        lambda _: AccountBehaviourState(shard),
        AccountBehaviourState.restore,
        AccountBehaviourState.step,
        frames,
    )


def _deciders(key: str, frames: list[Frame]) -> list[StateCase]:
    partition = frames[0].partition
    limits, mitigation = LimitsState(key, partition), MitigationState(key, partition)
    enforced = [limits.step(frame) for frame in frames]
    planned = [mitigation.step(item) for item in enforced]
    signed = [Signed(item, item.commands) for item in planned]

    def subject(name: str, kind: Any, items: list[Any]) -> StateCase:
        return StateCase(f"{name}-{key}", lambda _: kind(key, partition), kind.restore, kind.step, items)

    return [
        subject("limits", LimitsState, frames),
        subject("mitigation", MitigationState, enforced),
        subject("audit", AuditState, signed),
    ]
