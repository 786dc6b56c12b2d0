"""Every operator of Seawall as cases of `seawall_testing.conformance`: a small crisis, a market that crashes."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from seawall.operators.core.desired import DesiredState, tell
from seawall.operators.core.detection.alarms import AlarmRule
from seawall.operators.core.detection.composite import Composite
from seawall.operators.core.firm import KEY
from seawall.operators.core.foresight.foresight import ForesightState
from seawall.operators.core.foresight.wide import WideForesightState
from seawall.operators.core.frames import Planned
from seawall.operators.core.keyed_risk import FirmRisk, ShardRisk
from seawall.operators.core.market.group import GroupState
from seawall.operators.core.market.lone import LoneDetector
from seawall.operators.core.risk import Decider, Unsigned
from seawall.operators.core.sealing import SealState, origin_of
from seawall.operators.core.slicing import SlicingState
from seawall.schemas.configuration import load_configuration
from seawall.schemas.markets import MarketTerms
from seawall.schemas.slices import encode_slice
from seawall_testing import crisis, markets
from seawall_testing.desk import lines
from seawall_testing.ran import Ran, run_core
from seawall_testing.subjects import Subject, subjects

SHARDS = 2
SECONDS = 2
KEEN = {"level": 0.2, "persistence": 1, "refractory_s": 0.2, "warm_up": 2, "window_s": 1}
TERMS = MarketTerms(groups=1)


def own() -> list[Subject]:
    """Return a case, or one per key, of every operator that decides."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"limits": crisis.LIMITS, "playbook": crisis.PLAYBOOK}
        ran = run_core(
            Path(folder),
            *crisis.records(SECONDS),
            **files,
            shards=SHARDS,
            conduct=KEEN,
            forecasts={"enabled": True},
        )
        configuration = load_configuration(Path(folder) / "desk.toml")
    found = [subject for subject in subjects(ran, SHARDS) if subject.items]
    found += [*_foresight(ran), _desired(ran), *_keyed(ran), *_sealing(ran), _detect(), _market()]
    records = lines(*crisis.records(SECONDS)).splitlines()
    restore: Callable[[bytes], Any] = lambda data: SlicingState.restore(data, configuration)  # noqa: E731
    found.append(Subject("slice_time", lambda _: SlicingState(configuration), restore, SlicingState.step, records))
    return found


def _foresight(ran: Ran) -> Iterable[Subject]:
    for shard in range(SHARDS):
        frames = [frame for frame in ran.conduct_frames if frame.partition == shard]
        make: Callable[[Any], Any] = lambda frame: ForesightState(frame.partition)  # noqa: E731
        yield Subject(f"foresight-{shard}", make, ForesightState.restore, ForesightState.step, frames)
    make = lambda _: WideForesightState(SHARDS)  # noqa: E731
    yield Subject("systemic", make, WideForesightState.restore, WideForesightState.step, ran.wide_frames)


def _desired(ran: Ran) -> Subject:
    """Return the publisher of state, with what shards tell and plans of seconds, in the order of the core."""
    deciders = {key: Decider(key, at, Unsigned()) for at, key in enumerate([*map(str, range(SHARDS)), KEY])}
    planned = [deciders[frame.key].plan(frame) for frame in ran.frames]
    items: list[Any] = []
    for plan in planned:
        told = plan if plan.enforced.frame.key == KEY else tell(plan)
        items += [] if told is None else [told]
    assert any(isinstance(item, Planned) for item in items)
    return Subject("desired", lambda _: DesiredState(), DesiredState.restore, DesiredState.step, items)


def _keyed(ran: Ran) -> Iterable[Subject]:
    """Yield the two steps that Flink runs, with the bytes that it carries."""
    signer, messages = Unsigned(), []
    shards = [ShardRisk(shard, signer) for shard in range(SHARDS)]
    values = [(piece.shard, encode_slice(piece)) for piece in ran.slices]
    for shard, value in values:
        message = shards[shard].step(value).message
        messages += [] if message is None else [message]
    for shard in range(SHARDS):
        own = [value for of, value in values if of == shard]
        make: Callable[[Any], Any] = lambda _, shard=shard: ShardRisk(shard, signer)  # noqa: E731
        yield Subject(f"risk-shard-{shard}", make, lambda data: ShardRisk.restore(data, signer), ShardRisk.step, own)
    restore: Callable[[bytes], Any] = lambda data: FirmRisk.restore(data, signer)  # noqa: E731
    yield Subject("risk-firm", lambda _: FirmRisk(SHARDS, signer), restore, FirmRisk.step, messages)


def _sealing(ran: Ran) -> Iterable[Subject]:
    for partition in range(SHARDS + 1):
        audited = [one for one in ran.audited if one.partition == partition]
        values = [record.value for one in audited for record in one.records["audit"]]
        origin = origin_of("risk/dev", "dev", partition)
        make: Callable[[Any], Any] = lambda _, where=(origin, partition): SealState(*where)  # noqa: E731
        step: Callable[[Any, Any], Any] = lambda state, value: state.step([value])  # noqa: E731
        yield Subject(f"seal-{partition}", make, SealState.restore, step, values)


def _detect() -> Subject:
    rule = AlarmRule(level=0.8)
    samples = [(at * 1_000_000, (float(at % 7), at * 31 % 17 / 4 + 40 * (at == 250))) for at in range(300)]

    def detector() -> Composite:
        return Composite(("pressure", "flow"))

    return Subject(
        "detect",
        lambda _: LoneDetector(detector(), rule),
        lambda data: LoneDetector.restore(data, detector, rule),
        LoneDetector.step,
        samples,
    )


def _market() -> Subject:
    given = [item for _, item in markets.items(markets.market(90, crash_at=70), TERMS)]
    return Subject(
        "market",
        lambda _: GroupState(0, TERMS),
        lambda data: GroupState.restore(data, TERMS),
        lambda state, item: list(state.step(item)),
        given,
    )
