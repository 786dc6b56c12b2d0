"""The same inputs and key give the same topics on Kafka as on the embedded bus: values, keys, headers, offsets."""

import importlib.util
import os
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from seawall.connectors.bus import cluster_of, open_bus, read_all, topic_partitions
from seawall.dataflows import Sequencer
from seawall.schemas.configuration import load_configuration
from seawall.schemas.records import decode_slice
from seawall_testing.clusters import kafka_broker
from seawall_testing.clusters.kafka_broker import Broker, on_kafka
from seawall_testing.command_line import bus_contents, differences, seawall
from seawall_testing.crisis import CrisisRuns
from seawall_testing.paths import SHARED

pytestmark = pytest.mark.kafka
HYPERLIQUID = SHARED / "tools" / "acceptance" / "hyperliquid.py"


def same_on_kafka(folder: Path, broker: Broker, tmp_path: Path, *options: str) -> Path:
    """Run what ran in a folder on Kafka too and compare every record; return the configuration on Kafka."""
    path = on_kafka(folder, tmp_path / "kafka", broker.url())
    done = seawall("run", path, *options, timeout=600)
    assert done.returncode == 0, done.stderr
    url = path.read_text().splitlines()[0].split('"')[1]
    found, wanted = bus_contents(path.parent, url=url), bus_contents(folder)
    assert differences(found, wanted) == []
    assert {"journal", "audit", "checkpoints"} <= {topic for topic, _ in found}
    return path


@pytest.fixture(scope="module")
def embedded(crisis_run: CrisisRuns) -> Path:
    """The folder of a finished run on the embedded bus."""
    return crisis_run(20, per_second=30, shards=4).folder


def test_a_run_on_kafka_equals_the_run_on_the_embedded_bus_and_a_second_run_changes_nothing(
    embedded: Path, broker: Broker, tmp_path: Path
) -> None:
    path = same_on_kafka(embedded, broker, tmp_path)
    for command in ("verify", "replay", "run"):
        done = seawall(command, path)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    url = path.read_text().splitlines()[0].split('"')[1]
    assert differences(bus_contents(path.parent, url=url), bus_contents(embedded)) == []


@pytest.mark.parametrize("options", [("--workers", "2"), ("--processes", "2")], ids=["2 workers", "2 processes"])
def test_workers_and_processes_change_no_byte_on_kafka(
    embedded: Path, broker: Broker, tmp_path: Path, options: tuple[str, str]
) -> None:
    same_on_kafka(embedded, broker, tmp_path, *options)


def test_what_waits_on_topics_is_cut_by_event_time_in_whatever_batches_it_comes(broker: Broker, tmp_path: Path) -> None:
    """A minute of fills, as after an outage: none is late, and each is in the slice of its own time."""
    url, count = broker.url("backlog"), 12_000
    path, topic = kafka_broker.write_kafka_desk(tmp_path / "run", url), kafka_broker.input_topics(url)[0]
    first = (time.time_ns() // 1_000_000_000 - 120) * 1_000_000
    times = {f"f{n}": first + n * 5_000 for n in range(count)}
    producer = Producer({"bootstrap.servers": kafka_broker.servers(url), "enable.idempotence": True})
    for n, (name, at_us) in enumerate(times.items()):
        producer.produce(topic, kafka_broker.encoded_fill(name, at_us), partition=n % kafka_broker.PARTITIONS)
    assert producer.flush(60) == 0
    bus = open_bus(url, path.parent)
    configuration = load_configuration(path)
    cluster_of(bus).provide(topic_partitions(configuration), make=True)
    sequencer, deadline = Sequencer(configuration, bus), time.monotonic() + 90
    while sequencer.events < count or not sequencer._following.cut_us:
        assert time.monotonic() < deadline, sequencer.events
        sequencer.step()
    sequencer.close()
    assert sequencer.late == 0
    bus = open_bus(url, path.parent)
    slices = [decode_slice(stored.value) for shard in range(4) for stored in read_all(bus, "journal", shard)]
    bus.close()
    ends = {name: piece.as_of_us for piece in slices if piece.fills is not None for name in piece.fills.id}
    slice_us = configuration.slice_ms * 1000
    wanted = {name: (at_us // slice_us + 1) * slice_us for name, at_us in times.items()}
    assert [(name, ends[name], wanted[name]) for name in times if ends[name] != wanted[name]] == []


@pytest.mark.soak
def test_the_demo_through_kafka_equals_the_demo(broker: Broker, tmp_path: Path) -> None:
    done = seawall("demo", "--dir", tmp_path / "demo", timeout=280)
    assert done.returncode == 0, done.stderr
    same_on_kafka(tmp_path / "demo", broker, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not HYPERLIQUID.exists(), reason="the account data of Hyperliquid is not here")
def test_the_hyperliquid_accounts_through_kafka_equal_the_embedded_run(broker: Broker, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("hyperliquid", HYPERLIQUID)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / "embedded"
    folder.mkdir()
    fills = None if os.environ.get("SEAWALL_ACCOUNTS") else 5_000  # the whole export takes minutes
    module.write(folder, fills)
    done = seawall("run", folder / "desk.toml", timeout=900)
    assert done.returncode == 0, done.stderr
    same_on_kafka(folder, broker, tmp_path)
