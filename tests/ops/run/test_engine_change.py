"""A change of engine (`seawall.ops.run`): states leave Bytewax's recovery store and come back into one."""

import contextlib
import hashlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from seawall.connectors.bus import RecordWriter, engine_key, open_bus, written_topics
from seawall.connectors.keys import open_signer
from seawall.connectors.signatures import CommandSigner
from seawall.operators.core.pipeline import FirmPipeline, Pipeline, ShardPipeline
from seawall.ops.run._engine_change import JOURNAL, STEPS, STORE, read_store, write_store
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.records import decode_slice
from seawall_testing import crisis
from seawall_testing.command_line import bus_contents, differences, run_command
from seawall_testing.pipeline import journal_in_order

SHARDS = 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = crisis.write_crisis(tmp_path_factory.mktemp("whole"), 6, per_second=20, shards=SHARDS)
    done = run_command("run", path)
    assert done.returncode == 0, done.stderr
    return path


def test_every_state_that_risk_keeps_is_known_by_its_step(whole: Path) -> None:
    with contextlib.closing(sqlite3.connect(whole.parent / "recovery" / STORE)) as store:
        rows = set(store.execute("select distinct step_id, state_key from snaps where ser_change is not null"))
    shard, firm = STEPS
    states = {(shard, engine_key(partition)) for partition in range(SHARDS)} | {(firm, engine_key(SHARDS))}
    assert {row for row in rows if row[0] in STEPS} == states
    assert {step for step, _ in rows} == {shard, firm, JOURNAL, "risk.records"}


def test_the_states_of_a_recovery_store_are_those_of_the_pipelines_and_a_store_of_them_holds_the_same(
    whole: Path, tmp_path: Path
) -> None:
    states, places = read_store(whole.parent / "recovery", SHARDS)
    risk = Pipeline.restore(states)
    assert [shard.seq for shard in risk.shards] == [place[0] - 1 for place in places]
    assert risk.snapshots() == states
    write_store(tmp_path / "recovery", states, places)
    assert read_store(tmp_path / "recovery", SHARDS) == (states, places)


def test_bytewax_goes_on_from_a_store_of_states_that_another_engine_left(whole: Path, tmp_path: Path) -> None:
    for pattern in ("*.jsonl*", "*.toml", "keys"):
        for found in whole.parent.glob(pattern):
            (shutil.copytree if found.is_dir() else shutil.copy)(found, tmp_path / found.name)
    path = tmp_path / whole.name
    assert run_command("run", path, "--only", "market", "--only", "sequence").returncode == 0
    decide_half(path)
    done = run_command("run", path, "--only", "risk", "--only", "seal")
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(tmp_path), bus_contents(whole.parent)) == []
    assert not list(tmp_path.glob("recovery.unsound*"))  # the store was taken, not the journal replayed


def decide_half(path: Path) -> None:
    """Decide on the first half of a journal with the keyed steps, and leave their states as a recovery store."""
    configuration = load_configuration(path)
    bus = open_bus(configuration.bus, path.parent)
    signer = CommandSigner(open_signer(configuration.signer, path.parent), bus)
    states = [ShardPipeline(shard, signer) for shard in range(SHARDS)]
    firm = FirmPipeline(SHARDS, signer)
    writers = []
    for partition in range(SHARDS + 1):
        topics = written_topics(partition, SHARDS)
        writers.append(RecordWriter(bus, bus.writer([(topic, partition) for topic in topics]), topics, partition))
    last = {}
    values = journal_in_order(bus, SHARDS)
    for value in values[: len(values) // 2]:
        shard = decode_slice(value).shard
        last[shard], taken = value, states[shard].step(value)
        for audited in [*taken.items, *(firm.step(taken.message).items if taken.message else ())]:
            writers[audited.moment.partition].append(audited.records)
    for writer in writers:
        writer.flush()
        writer.close()
    bus.close()
    places = [(state.seq + 1, hashlib.sha256(last[shard]).hexdigest()) for shard, state in enumerate(states)]
    write_store(path.parent / "recovery", [state.snapshot() for state in (*states, firm)], places)


def test_a_folder_without_a_recovery_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no recovery store of Bytewax"):
        read_store(tmp_path / "recovery", SHARDS)


def test_a_change_of_engine_needs_kafka_and_an_engine_that_exists(whole: Path) -> None:
    for engine, text in (("flink", "Flink reads from Kafka"), ("spark", "an engine is one of bytewax, flink")):
        done = run_command("migrate", whole, "--to", engine)
        assert (done.returncode, text in done.stderr) == (2, True), done.stderr
    assert "name the configuration with the other bus" in run_command("migrate", whole).stderr
