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
from seawall.operators.core.base import Breaches, MeasuredSlice, Measures, Outputs, add_outputs
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
        case Measures():
            tables = {k: (t.names[: t.values.shape[1]], t.measures, t.values.tobytes()) for k, t in item.tables.items()}
            return (deepcopy(item.moment), tables)
        case MeasuredSlice():
            events = item.events._replace(causes=None)
            found = (item.measures, events, item.outputs, item.summary, item.breaches)
            return [fingerprint(part) for part in found]
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
    summaries = [one.summary for one in ran.measured if one.summary is not None]
    found.append(StateCase("firm", lambda _: FirmState(), FirmState.restore, FirmState.step, summaries))
    for key in [*map(str, range(shards)), "all"]:
        found += _deciders(key, [one for one in ran.measured if one.measures.moment.key == key])
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
    exposed = [one for one in ran.exposed if one.measures.moment.partition == shard]
    return StateCase(
        f"conduct-{shard}",
        lambda _: AccountBehaviourState(shard),
        AccountBehaviourState.restore,
        AccountBehaviourState.step,
        exposed,
    )


def _deciders(key: str, measured: list[MeasuredSlice]) -> list[StateCase]:
    partition = measured[0].measures.moment.partition
    limits, mitigation = LimitsState(key, partition), MitigationState(key, partition)
    enforced = [one._replace(breaches=enforce(limits, one)) for one in measured]
    planned = [add_outputs(one.outputs, one.breaches, plan(mitigation, one)) for one in enforced]

    def subject(name: str, kind: Any, step: Any, items: list[Any]) -> StateCase:
        return StateCase(f"{name}-{key}", lambda _: kind(key, partition), kind.restore, step, items)

    return [
        subject("limits", LimitsState, enforce, measured),
        subject("mitigation", MitigationState, plan, enforced),
        subject("audit", AuditState, AuditState.step, planned),
    ]


def enforce(state: LimitsState, measured: MeasuredSlice) -> Breaches:
    """Return the breaches of a slice."""
    return state.step(measured.measures, measured.events)


def plan(state: MitigationState, measured: MeasuredSlice) -> Outputs:
    """Return what mitigation says of a slice whose limits have been enforced."""
    return state.step(measured.measures, measured.events, measured.breaches)
