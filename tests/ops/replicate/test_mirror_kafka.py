"""Two regions with a real broker each: one is lost with its run and its mirror, and the desk goes on in the other."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from confluent_kafka import Producer

from seawall.connectors.bus import TOPICS, Bus, open_bus
from seawall.ops.kafka.cluster import Cluster
from seawall_testing import crisis
from seawall_testing.clusters import kafka_broker
from seawall_testing.clusters.kafka_broker import Broker, require_broker
from seawall_testing.command_line import CLI, Contents, bus_contents, differences, seawall, wait_for
from seawall_testing.desk import account, lines
from seawall_testing.live_runs import LIVE_LIMITS, check_verifies
from seawall_testing.pipeline import toml_tables

pytestmark = pytest.mark.kafka
WAIT_S = 180.0
GATEWAY = [sys.executable, "-m", "seawall.ops.demo.order_gateway", "--issuer", "risk/dev", "--environment", "dev"]


@pytest.fixture
def lost(tmp_path: Path) -> Iterator[Cluster]:
    """The broker of the region that will be lost."""
    require_broker()
    cluster = Cluster(tmp_path / "west")
    cluster.start()
    yield cluster
    cluster.stop()


def write_desk(folder: Path, url: str, **top: object) -> Path:
    path = kafka_broker.write_kafka_desk(folder, url, **top)
    (folder / "limits.toml").write_text(toml_tables("limit", LIVE_LIMITS))
    with (folder / "reference.jsonl").open("ab") as reference:
        reference.write(lines(account("late")))
    return path


def count(bus: Bus, topic: str) -> int:
    return sum(bus.end(topic, partition) for partition in bus.partitions(topic))


def start(*words: object, stderr: IO[bytes] | None = None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([*CLI, *map(str, words)], stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True)


def obeyed(path: Path, gateway: Path) -> str:
    """Let a subscriber have all commands of a run; return what it refused."""
    jwks = gateway.with_suffix(".jwks")
    jwks.write_text(seawall("keys", "export", path).stdout)
    words = [*GATEWAY, "--jwks", str(jwks), "--database", str(gateway), "--at", "event"]
    said = seawall("dump", path, "commands").stdout
    done = subprocess.run(words, input=said, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


class Feed(kafka_broker.Feed):
    """Ends with its test, whatever becomes of that."""

    def __init__(self, url: str, per_second: int) -> None:
        super().__init__(url, per_second)
        self.daemon = True

    def stop(self) -> None:
        self._done.set()


def epochs(found: Contents) -> set[int]:
    return {
        json.loads(value)["epoch"]
        for (topic, _), records in found.items()
        for *_, value in records
        if topic == "commands"
    }


def test_a_region_is_lost_and_the_run_goes_on_in_the_other(lost: Cluster, broker: Broker, tmp_path: Path) -> None:
    west, east = f"kafka://{lost.address()}/desk", broker.url("east")
    path, gateway = write_desk(tmp_path / "desk", west), tmp_path / "gateway.db"
    first, second = open_bus(west, tmp_path), open_bus(east, tmp_path)
    feed, running = Feed(west, per_second=40), [start("run", path)]
    feed.start()
    try:
        # 1. A run, its mirror, and a subscriber. The mirror is killed first, so that something is lost for certain.
        wait_for(lambda: count(first, "commands") > 0, WAIT_S)
        for _ in range(2):
            stood = count(second, "audit")
            running.append(start("mirror", path, "--to", east, "--follow"))
            wait_for(lambda: count(second, "audit") > stood, WAIT_S)  # noqa: B023
            time.sleep(0.3)
            running[-1].kill()
            running[-1].wait()
        mirrored = bus_contents(tmp_path, TOPICS, east)
        cut = count(first, "journal")
        wait_for(lambda: count(first, "journal") > cut + 4, WAIT_S)
        feed.finish()
        wait_for(lambda: kafka_broker.journaled_fills(west, tmp_path).total() >= len(feed.sent), WAIT_S)
        assert obeyed(path, gateway) == ""
        whole = bus_contents(tmp_path, TOPICS, west)
        assert all(records == whole[place][: len(records)] for place, records in mirrored.items())
        # 2. The region is gone.
        running[0].kill()
        lost.kill_all()
        running[0].wait()
        # 3. The other one goes on under the next epoch, with topics of its own; producers send again what is not there.
        standby = write_desk(tmp_path / "standby", east, epoch=2)
        shutil.copytree(path.parent / "keys", standby.parent / "keys")
        running.append(start("run", standby))
        there = kafka_broker.journaled_fills(east, tmp_path)
        assert 0 < there.total() < len(feed.sent)
        sent = [*feed.sent, *(f"late-{number}" for number in range(10))]
        producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})
        for name in (name for name in sent if name not in there):
            owner = b"late" if name.startswith("late") else kafka_broker.ACCOUNTS[0].encode()
            value = kafka_broker.encoded_fill(name).replace(kafka_broker.ACCOUNTS[0].encode(), owner)
            producer.produce(kafka_broker.input_topics(east)[0], value, partition=0)
        assert producer.flush(WAIT_S) == 0
        wait_for(lambda: 2 in epochs(bus_contents(tmp_path, ["commands"], east)), WAIT_S)
        wait_for(lambda: kafka_broker.journaled_fills(east, tmp_path).total() >= len(sent), WAIT_S)
        running[-1].send_signal(signal.SIGTERM)
        assert running[-1].wait(WAIT_S) == 0
    finally:
        feed.stop()
        for process in running:
            process.kill()
            process.wait()
        first.close()
        second.close()
    found = bus_contents(tmp_path, TOPICS, east)
    assert all(records == found[place][: len(records)] for place, records in mirrored.items())
    assert set(kafka_broker.journaled_fills(east, tmp_path)) == set(sent)
    assert set(kafka_broker.journaled_fills(east, tmp_path).values()) == {1}
    assert epochs(found) == {1, 2}
    assert obeyed(standby, gateway) == ""
    check_verifies(standby)


def test_a_mirror_waits_for_a_broker_and_is_fenced_by_a_run_that_begins_on_the_copy(
    lost: Cluster, broker: Broker, tmp_path: Path
) -> None:
    west, east = f"kafka://{lost.address()}/desk", broker.url("east")
    path = write_desk(tmp_path / "desk", west)
    first, second = open_bus(west, tmp_path), open_bus(east, tmp_path)
    feed, running = Feed(west, per_second=20), [start("run", path)]
    feed.start()
    said, told = (tmp_path / "said").open("wb+"), (tmp_path / "told").open("wb+")
    try:
        wait_for(lambda: count(first, "audit") > 0, WAIT_S)
        words = [*CLI, "mirror", str(path), "--to", east, "--follow", "--lag-s", "1"]
        running.append(subprocess.Popen(words, stderr=said))
        wait_for(lambda: count(second, "audit") > 0, WAIT_S)
        lost.kill()
        time.sleep(3)
        lost.start_broker(1)
        stood = count(first, "journal")
        wait_for(lambda: count(second, "journal") > stood, WAIT_S)
        standby = write_desk(tmp_path / "standby", east, epoch=2)
        shutil.copytree(path.parent / "keys", standby.parent / "keys")
        running.append(start("run", standby, stderr=told))
        assert running[1].wait(WAIT_S) == 2
        ending = (tmp_path / "said").read_text().splitlines()[-1]  # a mirror that comes late finds what the run wrote
        assert "another writer took over" in ending or "on the target is not what the source has there" in ending
        feed.finish()
        stood = count(second, "journal")
        # From here on the copy has a history of its own.
        wait_for(lambda: running[2].poll() is not None or count(second, "journal") > stood + 4, WAIT_S)
        assert running[2].poll() is None, (tmp_path / "told").read_text()
        refused = seawall("mirror", path, "--to", east, timeout=WAIT_S)
        assert refused.returncode == 2 and "on the target" in refused.stderr, refused.stderr
        running[2].send_signal(signal.SIGTERM)
        assert running[2].wait(WAIT_S) == 0
    finally:
        feed.stop()
        for process in running:
            process.kill()
            process.wait()
        for one in (first, second, said, told):
            one.close()
    check_verifies(standby)


def test_a_finished_run_is_mirrored_between_a_cluster_and_the_embedded_bus_byte_for_byte(
    broker: Broker, tmp_path: Path
) -> None:
    path = crisis.write_crisis(tmp_path / "desk", 3)
    assert seawall("run", path).returncode == 0
    east = broker.url("east")
    assert seawall("mirror", path, "--to", east).returncode == 0
    assert differences(bus_contents(path.parent, TOPICS, east), bus_contents(path.parent)) == []
