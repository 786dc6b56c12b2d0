"""Every operator of Seawall as cases of `seawall_testing.conformance`: a small crisis, a market that crashes."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from seawall.operators.core.audit import SealState, origin_of
from seawall.operators.core.base import Outputs
from seawall.operators.core.detection import AlertRule, Composite, SingleDetector
from seawall.operators.core.forecasts import FirmForecastState, ForecastState
from seawall.operators.core.journal import SlicingState
from seawall.operators.core.market import GroupState
from seawall.operators.core.mitigation import DesiredState, shard_commands
from seawall.operators.core.pipeline import Decider, FirmPipeline, ShardMessage, ShardPipeline, UnsignedCommands
from seawall.operators.core.portfolio import FIRM_KEY
from seawall.schemas.configuration import MarketTerms, load_configuration
from seawall.schemas.records import encode_slice
from seawall_testing import crisis, market_data
from seawall_testing.core_states import StateCase, core_state_cases
from seawall_testing.desk import lines
from seawall_testing.pipeline import PipelineRun, run_pipeline

SHARDS = 2
SECONDS = 2
KEEN = {"level": 0.2, "persistence": 1, "refractory_s": 0.2, "warm_up": 2, "window_s": 1}
TERMS = MarketTerms(groups=1)


def own() -> list[StateCase]:
    """Return a case, or one per key, of every operator that decides."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"limits": crisis.LIMITS, "playbook": crisis.PLAYBOOK}
        ran = run_pipeline(
            Path(folder),
            *crisis.records(SECONDS),
            **files,
            shards=SHARDS,
            conduct=KEEN,
            forecasts={"enabled": True},
        )
        configuration = load_configuration(Path(folder) / "desk.toml")
    found = [subject for subject in core_state_cases(ran, SHARDS) if subject.items]
    found += [*_foresight(ran), _desired(ran), *_keyed(ran), *_sealing(ran), _detect(), _market()]
    records = lines(*crisis.records(SECONDS)).splitlines()
    restore: Callable[[bytes], Any] = lambda data: SlicingState.restore(data, configuration)  # noqa: E731
    found.append(StateCase("slice_time", lambda _: SlicingState(configuration), restore, SlicingState.step, records))
    return found


def _foresight(ran: PipelineRun) -> Iterable[StateCase]:
    for shard in range(SHARDS):
        watched = [one for one in ran.watched if one.measures.moment.partition == shard]
        make: Callable[[Any], Any] = lambda one: ForecastState(one.measures.moment.partition)  # noqa: E731
        yield StateCase(f"foresight-{shard}", make, ForecastState.restore, ForecastState.step, watched)
    make = lambda _: FirmForecastState(SHARDS)  # noqa: E731
    yield StateCase("systemic", make, FirmForecastState.restore, FirmForecastState.step, ran.wide)


def _desired(ran: PipelineRun) -> StateCase:
    """Return the publisher of state, with what shards tell and plans of seconds, in the order of the core."""
    deciders = {
        key: Decider(key, at, UnsignedCommands()) for at, key in enumerate([*map(str, range(SHARDS)), FIRM_KEY])
    }
    planned = [deciders[one.measures.moment.key].plan(one) for one in ran.measured]
    items: list[Any] = []
    for plan in planned:
        if plan.moment.key == FIRM_KEY:
            items.append(plan)
        elif (told := shard_commands(plan)).second or told.commands:
            items.append(told)
    assert any(isinstance(item, Outputs) for item in items)
    return StateCase("desired", lambda _: DesiredState(), DesiredState.restore, DesiredState.step, items)


def _keyed(ran: PipelineRun) -> Iterable[StateCase]:
    """Yield the two steps that Flink runs, with the bytes that it carries."""
    signer, messages = UnsignedCommands(), []
    shards = [ShardPipeline(shard, signer) for shard in range(SHARDS)]
    values = [(piece.shard, encode_slice(piece)) for piece in ran.slices]
    for shard, value in values:
        message = shards[shard].step(value).message
        messages += [] if message is None else [ShardMessage.decode(message.encode())]
    for shard in range(SHARDS):
        own = [value for of, value in values if of == shard]
        make: Callable[[Any], Any] = lambda _, shard=shard: ShardPipeline(shard, signer)  # noqa: E731
        yield StateCase(
            f"risk-shard-{shard}", make, lambda data: ShardPipeline.restore(data, signer), ShardPipeline.step, own
        )
    restore: Callable[[bytes], Any] = lambda data: FirmPipeline.restore(data, signer)  # noqa: E731
    yield StateCase("risk-firm", lambda _: FirmPipeline(SHARDS, signer), restore, FirmPipeline.step, messages)


def _sealing(ran: PipelineRun) -> Iterable[StateCase]:
    for partition in range(SHARDS + 1):
        audited = [one for one in ran.audited if one.moment.partition == partition]
        values = [record.value for one in audited for record in one.records["audit"]]
        origin = origin_of("risk/dev", "dev", partition)
        make: Callable[[Any], Any] = lambda _, where=(origin, partition): SealState(*where)  # noqa: E731
        step: Callable[[Any, Any], Any] = lambda state, value: state.step([value])  # noqa: E731
        yield StateCase(f"seal-{partition}", make, SealState.restore, step, values)


def _detect() -> StateCase:
    rule = AlertRule(level=0.8)
    samples = [(at * 1_000_000, (float(at % 7), at * 31 % 17 / 4 + 40 * (at == 250))) for at in range(300)]

    def detector() -> Composite:
        return Composite(("pressure", "flow"))

    return StateCase(
        "detect",
        lambda _: SingleDetector(detector(), rule),
        lambda data: SingleDetector.restore(data, detector, rule),
        SingleDetector.step,
        samples,
    )


def _market() -> StateCase:
    given = [item for _, item in market_data.group_items(market_data.market(90, crash_at=70), TERMS)]
    return StateCase(
        "market",
        lambda _: GroupState(0, TERMS),
        lambda data: GroupState.restore(data, TERMS),
        lambda state, item: list(state.step(item)),
        given,
    )
