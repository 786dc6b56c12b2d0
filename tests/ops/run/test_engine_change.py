"""A change of engine (`seawall.ops.run`): states leave Bytewax's recovery store and come back into one."""

import contextlib
import hashlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from seawall.connectors.bus import RecordWriter, open_bus, written_topics
from seawall.connectors.keys import open_signer
from seawall.connectors.signatures import CommandSigner
from seawall.operators.core.pipeline import FirmPipeline, ShardPipeline, UnsignedCommands, check_aligned
from seawall.operators.core.portfolio import FIRM_KEY
from seawall.ops.run._engine_change import FIRM_STEPS, JOURNAL, SHARD_STEPS, STORE, read_store, write_store
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
        rows = store.execute("select distinct step_id, state_key from snaps where ser_change is not null").fetchall()
    wide = {step for step, key in rows if key == FIRM_KEY}
    assert wide == set(FIRM_STEPS.values())
    assert {step for step, key in rows if key != FIRM_KEY} == {*SHARD_STEPS.values(), JOURNAL, "risk.records"}


def test_the_states_of_a_recovery_store_make_up_those_of_the_keyed_steps_and_a_store_of_them_holds_the_same(
    whole: Path, tmp_path: Path
) -> None:
    parts, places = read_store(whole.parent / "recovery", SHARDS)
    told = [places[shard][0] - 1 for shard in range(SHARDS)]
    shards = [ShardPipeline.of(parts[shard], told[shard], UnsignedCommands()) for shard in range(SHARDS)]
    firm = FirmPipeline.of(parts[SHARDS], told, UnsignedCommands())
    check_aligned(shards, firm)
    assert [shard.seq for shard in shards] == told
    assert {shard: state.parts() for shard, state in enumerate(shards)} | {SHARDS: firm.parts()} == parts
    write_store(tmp_path / "recovery", parts, places)
    assert read_store(tmp_path / "recovery", SHARDS) == (parts, places)


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
            writers[audited.partition].append(audited.records)
    for writer in writers:
        writer.flush()
        writer.close()
    bus.close()
    parts = {shard: state.parts() for shard, state in enumerate(states)} | {SHARDS: firm.parts()}
    places = {shard: (state.seq + 1, hashlib.sha256(last[shard]).hexdigest()) for shard, state in enumerate(states)}
    write_store(path.parent / "recovery", parts, places)


def test_a_folder_without_a_recovery_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no recovery store of Bytewax"):
        read_store(tmp_path / "recovery", SHARDS)


def test_a_change_of_engine_needs_kafka_and_an_engine_that_exists(whole: Path) -> None:
    for engine, text in (("flink", "Flink reads from Kafka"), ("spark", "an engine is one of bytewax, flink")):
        done = run_command("migrate", whole, "--to", engine)
        assert (done.returncode, text in done.stderr) == (2, True), done.stderr
    assert "name the configuration with the other bus" in run_command("migrate", whole).stderr
