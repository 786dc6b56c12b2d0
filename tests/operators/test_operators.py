"""Each operator stands alone in anyone's dataflow, and all of them together are the dataflow ``risk``.

What an operator gives in the engine is what its core state gives without one.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow, _CoreOperator
from bytewax.testing import TestingSink, TestingSource, cluster_main, run_main

import seawall.operators as sw
from seawall.connectors.bus import _bytewax, engine_key, open_bus
from seawall.connectors.bus._bytewax import shard_count
from seawall.connectors.keys import _key_files, _signers
from seawall.connectors.signatures import CommandSigner
from seawall.dataflows import risk, seal
from seawall.operators.core.base import MeasuredSlice, Outputs
from seawall.operators.core.pipeline import UnsignedCommands
from seawall.ops.run._recovery import own_error
from seawall.ops.verify import verify
from seawall.schemas.configuration import load_configuration
from seawall.schemas.configuration._configuration import content_sha256
from seawall.schemas.errors import BusError, InvariantError
from seawall.schemas.evidence import _envelopes
from seawall.schemas.records import decode_slice
from seawall_testing import crisis
from seawall_testing.desk import sequence
from seawall_testing.pipeline import PipelineRun, journal_in_order, run_pipeline

SHARDS = 2
Step = Callable[[Any], Any]


@pytest.fixture
def crisis_pipeline(tmp_path: Path) -> PipelineRun:
    return run_pipeline(
        tmp_path / "core", *crisis.records(2), limits=crisis.LIMITS, playbook=crisis.PLAYBOOK, shards=SHARDS
    )


def keyed(values: Iterable[bytes]) -> list[tuple[str, bytes]]:
    return [(engine_key(decode_slice(value).shard), value) for value in values]


def through(items: Iterable[Any], *wires: Step, batch_size: int = 7) -> list[Any]:
    """Return what comes out of a dataflow of one source, some operators and one sink."""
    out: list[Any] = []
    flow = Dataflow("theirs")
    stream: Any = op.input("theirs", flow, TestingSource(list(items), batch_size))
    for wire in wires:
        stream = wire(stream)
    op.output("out", stream, TestingSink(out))
    run_main(flow)
    return out


def exposure(stream: Any) -> Any:
    return sw.aggregate_exposure("exposure", stream)


def limits(stream: Any) -> Any:
    return sw.enforce_limits("limits", stream)


def mitigation(stream: Any) -> Any:
    return sw.plan_mitigation("mitigation", stream)


def in_order(records: Iterable[Any]) -> list[tuple[str, bytes]]:
    """Return records partition by partition: the engine keeps the order of each key and no other."""
    return sorted(((r.id, r.value) for r in records), key=lambda item: int(item[0].partition("-")[0]))


def by_place(found: Iterable[Any], topic: str) -> dict[int, list[Any]]:
    """Return the records of a topic by partition, of bundles in any order between partitions."""
    places: dict[int, list[Any]] = {}
    for audited in found:
        places.setdefault(audited.moment.partition, []).extend(audited.records.get(topic, []))
    return places


def items_of(measured: Iterable[MeasuredSlice]) -> list[tuple[str, MeasuredSlice]]:
    """Return measured slices as the items of a stream, each with its key."""
    return [(one.measures.moment.key, one) for one in measured]


# --- one by one -------------------------------------------------------------------------------------------------------


def test_aggregate_exposure_alone_gives_a_frame_per_slice_and_one_per_second_across_shards(
    crisis_pipeline: PipelineRun,
) -> None:
    frames: list[tuple[str, MeasuredSlice]] = through(keyed(crisis_pipeline.values), exposure)
    moments = [one.measures.moment for _, one in frames]
    per_shard = {f"{s}": [f.seq for f in moments if f.key == f"{s}"] for s in range(SHARDS)}
    assert per_shard == {f"{s}": list(range(sum(p.shard == s for p in crisis_pipeline.slices))) for s in range(SHARDS)}
    wide = [f for f in moments if f.key == "all"]
    seconds = sorted({piece.as_of_us for piece in crisis_pipeline.slices if piece.second})
    assert [f.as_of_us for f in wide] == seconds
    assert wide == [f.measures.moment for f in crisis_pipeline.measured if f.measures.moment.key == "all"]


def test_aggregate_exposure_measures_what_its_core_measures(crisis_pipeline: PipelineRun) -> None:
    frames: list[tuple[str, MeasuredSlice]] = through(keyed(crisis_pipeline.values), exposure)
    wanted = {f.measures.moment[:3]: f for f in crisis_pipeline.measured}
    assert len(frames) == len(wanted)
    for _, one in frames:
        twin = wanted[one.measures.moment[:3]]
        assert one.outputs.records == twin.outputs.records
        tables = {kind: table.values.tobytes() for kind, table in one.measures.tables.items()}
        assert tables == {kind: table.values.tobytes() for kind, table in twin.measures.tables.items()}


def test_aggregate_exposure_stops_at_a_slice_that_is_missing(crisis_pipeline: PipelineRun) -> None:
    values = [value for value in crisis_pipeline.values if decode_slice(value).shard == 0]
    with pytest.raises(RuntimeError) as caught:
        through(keyed([values[0], *values[2:]]), exposure)
    known = own_error(caught.value, [])
    assert isinstance(known, InvariantError)
    assert "shard 0 stands at slice 0 and was given 2" in str(known)


def test_aggregate_exposure_takes_any_key_that_is_one_per_shard(crisis_pipeline: PipelineRun) -> None:
    items = [(f"desk-{decode_slice(value).shard}", value) for value in crisis_pipeline.values]
    frames = through(items, exposure)
    assert sum(len(records) for _, f in frames for records in f.outputs.records.values()) > 0
    assert sorted(key for key, _ in items_of(f for _, f in frames)) == sorted(
        key for key, _ in items_of(crisis_pipeline.measured)
    )


def test_enforce_limits_alone_reports_the_breaches_of_frames(crisis_pipeline: PipelineRun) -> None:
    enforced: list[tuple[str, MeasuredSlice]] = through(items_of(crisis_pipeline.measured), limits)
    found = in_order(record for _, one in enforced for record in one.breaches.records)
    assert found == in_order(crisis_pipeline.records("breaches"))
    assert len(found) > 10


def test_plan_mitigation_alone_gives_the_commands_of_the_journals_playbook(crisis_pipeline: PipelineRun) -> None:
    planned: list[tuple[str, Outputs]] = through(items_of(crisis_pipeline.measured), limits, mitigation)
    found = in_order(record for _, plan in planned for record in plan.records.get("commands", ()))
    assert found == in_order(crisis_pipeline.records("commands"))
    assert len(found) > 10


def test_plan_mitigation_with_its_own_playbook_uses_that_and_not_the_journals(crisis_pipeline: PipelineRun) -> None:
    rule = {
        "id": "mine",
        "when": {"limit": "margin", "level": "hard"},
        "commands": [{"kind": "HALT_TRADING", "target": "counterparty"}],
        "cooldown_s": 0,
    }
    own = {"version": 42, "sha256": content_sha256([rule]), "rules": [rule]}
    planned: list[tuple[str, Outputs]] = through(
        items_of(crisis_pipeline.measured), limits, lambda up: sw.plan_mitigation("mine", up, own)
    )
    commands = [json.loads(record.value) for _, plan in planned for record in plan.records.get("commands", ())]
    hard = {scope.removeprefix("account:") for scope, _, level in crisis_pipeline.breaches("margin") if level == "hard"}
    assert {command["target"]["id"] for command in commands} == {n if n in crisis.CLIENTS else "hub" for n in hard}
    assert {command["type"] for command in commands} == {"HALT_TRADING"}
    assert {command["policy"]["version"] for command in commands} == {42}


def test_sign_commands_gives_every_command_an_envelope_that_the_public_key_verifies(
    crisis_pipeline: PipelineRun, tmp_path: Path
) -> None:
    signer = _key_files.new_key(tmp_path / "keys" / "dev.pem")
    out: dict[str, list[Any]] = {"commands": [], "audit": [], "records": []}
    flow = Dataflow("theirs")
    planned = mitigation(limits(op.input("frames", flow, TestingSource(items_of(crisis_pipeline.measured)))))
    signed = sw.sign_commands("sign", planned, CommandSigner(signer))
    op.output("to-commands", signed.commands, TestingSink(out["commands"]))
    op.output("to-audit", signed.audit, TestingSink(out["audit"]))
    op.output("to-all", signed.records, TestingSink(out["records"]))
    run_main(flow)
    public = _key_files.public_keys(tmp_path / "keys" / "dev.pem")
    commands = [record for _, records in out["commands"] for record in records]
    for record in commands:
        assert _envelopes.verify_envelope(record.value, record.dsse, public, _envelopes.COMMAND_TYPE) == record.value
    assert [record.value for record in commands] == [record.value for record in crisis_pipeline.records("commands")]
    assert [r.value for _, records in out["audit"] for r in records] == [
        r.value for r in crisis_pipeline.records("audit")
    ]
    assert [audited.moment for _, audited in out["records"]] == [audited.moment for audited in crisis_pipeline.audited]


def test_sign_commands_keys_its_streams_by_the_partition_that_their_records_go_to(crisis_pipeline: PipelineRun) -> None:
    out: list[Any] = []
    flow = Dataflow("theirs")
    planned = mitigation(limits(op.input("frames", flow, TestingSource(items_of(crisis_pipeline.measured)))))
    op.output("out", sw.sign_commands("sign", planned, UnsignedCommands()).commands, TestingSink(out))
    run_main(flow)
    assert {partition for partition, _ in out} == {"0", "1", str(SHARDS)}
    assert all(record.id.startswith(f"{partition}-") for partition, records in out for record in records)


def test_record_audit_alone_chains_one_record_per_decision_and_one_per_slice(crisis_pipeline: PipelineRun) -> None:
    wires: list[Step] = [limits, mitigation]
    found: list[tuple[str, Outputs]] = through(
        items_of(crisis_pipeline.measured), *wires, lambda up: sw.record_audit("audit", up)
    )
    records = in_order(record for _, audited in found for record in audited.records["audit"])
    assert records == in_order(crisis_pipeline.records("audit"))
    chains: dict[Any, str] = {}
    values = [value for _, value in records]
    for value in values:
        content = json.loads(value)
        assert content["prev"] == chains.get(content["shard"], "genesis")
        chains[content["shard"]] = hashlib.sha256(b"\0" + value).hexdigest()
    slices = [v for v in map(json.loads, values) if v["kind"] in ("slice", "second")]
    assert len(slices) == len(crisis_pipeline.measured)


@pytest.mark.parametrize("batch_size", [1, 2, 13, 10_000])
def test_how_the_engine_batches_has_no_effect(crisis_pipeline: PipelineRun, batch_size: int) -> None:
    found = through(keyed(crisis_pipeline.values), exposure, limits, mitigation, _sign, batch_size=batch_size)
    for topic in ("exposures", "alerts", "breaches", "commands", "audit", "rejects"):
        assert by_place((audited for _, audited in found), topic) == by_place(crisis_pipeline.audited, topic)


def _sign(up: Any) -> Any:
    return sw.sign_commands("sign", up, UnsignedCommands()).records


def test_the_operators_are_listed_and_an_unknown_name_is_an_attribute_error() -> None:
    assert set(dir(sw)) == set(sw.__all__)
    assert all(callable(getattr(sw, name)) for name in sw.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'agregate_exposure'"):
        _ = sw.agregate_exposure


# --- composed by hand -------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A run whose journal is written and nothing else, with a key."""
    path = crisis.write_crisis(tmp_path / "run", 2, shards=SHARDS)
    sequence(path, open_bus("sqlite:seawall.db", path.parent))
    _key_files.new_key(path.parent / "keys" / "dev.pem")
    return path


def composed(folder: Path) -> Dataflow:
    """Return the example of the design, on the embedded bus."""
    url, signer = f"sqlite:{folder}/seawall.db", CommandSigner(_signers.open_signer("file:keys/dev.pem", folder))
    flow = Dataflow("desk")
    slices = op.input("journal", flow, _bytewax.source(url, "journal"))
    exposures = sw.aggregate_exposure("exposure", slices)
    breaches = sw.enforce_limits("limits", exposures)
    plan = sw.plan_mitigation("mitigation", breaches)
    signed = sw.sign_commands("sign", plan, signer)
    op.output("commands", signed.commands, _bytewax.sink(url, "commands"))
    op.output("audit", signed.audit, _bytewax.sink(url, "audit"))
    return flow


def contents(path: Path, topics: Iterable[str] | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Return every record on a run's bus, by topic."""
    opened = open_bus("sqlite:seawall.db", path.parent)
    return {
        topic: [
            (p, r.offset, r.key, tuple(r.headers.items()), r.value)
            for p in opened.partitions(topic)
            for r in opened.read(topic, p, 0, 1_000_000, 1 << 40)
        ]
        for topic in (opened.topics() if topics is None else topics)
    }


def plain_topic(path: Path, topic: str) -> dict[int, list[bytes]]:
    found = PipelineRun(journal_in_order(open_bus("sqlite:seawall.db", path.parent), SHARDS), SHARDS)
    return {place: [r.value for r in records] for place, records in by_place(found.audited, topic).items() if records}


def test_the_composition_of_the_design_writes_commands_and_audit(journal: Path) -> None:
    run_main(composed(journal.parent))
    found = contents(journal)
    assert set(found) == {"journal", "rejects", "commands", "audit"}
    for topic in ("commands", "audit"):
        by_partition: dict[int, list[bytes]] = {}
        for partition, *_, value in found[topic]:
            by_partition.setdefault(partition, []).append(value)
        assert by_partition == plain_topic(journal, topic)


def test_the_composition_run_again_without_recovery_adds_nothing(journal: Path) -> None:
    run_main(composed(journal.parent))
    once = contents(journal)
    run_main(composed(journal.parent))
    assert contents(journal) == once


def test_the_composition_on_two_workers_writes_the_same(journal: Path) -> None:
    cluster_main(composed(journal.parent), [], 0, worker_count_per_proc=2)
    twice = contents(journal)
    assert {topic: len(records) for topic, records in twice.items()}["commands"] > 10
    run_main(composed(journal.parent))  # compares every record with what stands, and stops at a difference
    assert contents(journal) == twice


def test_a_source_without_a_journal_says_that_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(BusError, match="the journal is empty"):
        shard_count("sqlite:seawall.db", tmp_path)


# --- the dataflow -----------------------------------------------------------------------------------------------------

STEP_IDS = """
risk.journal
risk.pipeline.shard
risk.pipeline.told
risk.pipeline.tell.flat_map_batch
risk.pipeline.firm
risk.pipeline.decided
risk.records
"""


def core_steps(operators: Iterable[Any]) -> list[str]:
    """Return the ids of the steps that the engine runs, of which the stateful ones name rows of the recovery store."""
    return [
        found
        for one in operators
        for found in ([one.step_id] if isinstance(one, _CoreOperator) else core_steps(one.substeps))
    ]


def test_the_dotted_step_ids_are_frozen_because_they_are_the_state_schema(journal: Path) -> None:
    assert core_steps(risk.flow(str(journal)).substeps) == STEP_IDS.split()
    assert core_steps(seal.flow(str(journal)).substeps) == ["seal.audit", "seal.seal.log", "seal.log"]


def test_risk_runs_by_its_dotted_name(journal: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bytewax.run", f"seawall.dataflows.risk:flow('{journal}')"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = contents(journal)
    assert set(found) == {"journal", "exposures", "alerts", "breaches", "commands", "audit", "rejects", "state"}
    opened = open_bus("sqlite:seawall.db", journal.parent)
    configuration = load_configuration(journal)
    public = _key_files.public_keys(journal.parent / "keys" / "dev.pem")
    report = verify(opened, public, configuration.environment, configuration.issuer)
    assert report.good, [str(finding) for finding in report.findings]


def test_sequence_runs_by_its_dotted_name(tmp_path: Path) -> None:
    path = crisis.write_crisis(tmp_path / "run", 1)
    command = [sys.executable, "-m", "bytewax.run", f"seawall.dataflows.sequence:flow('{path}')"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    twin = crisis.write_crisis(tmp_path / "twin", 1)
    sequence(twin, open_bus("sqlite:seawall.db", twin.parent))
    assert contents(path) == contents(twin)
