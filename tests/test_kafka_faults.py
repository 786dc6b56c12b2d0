"""What becomes of a run when the cluster fails: recovered without loss, or stopped with one line that says what to do.

| fault | outcome |
|---|---|
| broker down at start | stops: start the cluster, or correct bus |
| broker down in the middle (`SEAWALL_OUTAGE_S`, 5 s by default) and restarted | waits, goes on, nothing lost |
| leader killed, one of three brokers | goes on with the next leader, nothing lost |
| our topic deleted | stops: make it with seawall topics create |
| records of the journal expired | stops: lengthen retention, restore from a backup |
| live records expired unread | stops: retention took it |
| message larger than the topic allows | stops, nothing written: set max.message.bytes |
| disk of the broker full | stops or waits; after there is room and a restart everything is there |
| clock of the broker off by a day | records are taken: our topics carry the broker's time |
| somebody else's record on our topic, without headers | stops and names it; `verify` and `replay` find it: exit 1 |

Authentication and access control: `test_kafka_security.py`; fencing, changed partitions: `test_kafka_bus.py`; poison
messages: `test_kafka_kills.py`.
"""

import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from test_kafka_bus import append, bus_url, opened
from test_kafka_kills import Running

from seawall.connectors.bus import open_bus
from seawall.ops.kafka.cluster import Cluster
from seawall.schemas.errors import BusError
from seawall_testing import crisis, kafka_live
from seawall_testing.kafka import Broker, on_kafka, require_broker
from seawall_testing.runs import Contents, contents, differences, seawall

pytestmark = pytest.mark.kafka
OUTAGE_S = float(os.environ.get("SEAWALL_OUTAGE_S", "5"))
UNUSED = "127.0.0.1:9"  # the discard port: nobody listens there


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contents]:
    """The inputs with their key, and what the embedded bus makes of them."""
    path = crisis.write_crisis(tmp_path_factory.mktemp("whole") / "run", 20, per_second=60, shards=4)
    done = seawall("run", path)
    assert done.returncode == 0, done.stderr
    return path.parent, contents(path.parent)


def finished(broker: Broker, original: Path, folder: Path) -> tuple[Path, str]:
    """Run on Kafka to the end; return configuration and address."""
    url = broker.url("fault")
    path = on_kafka(original, folder, url)
    done = seawall("run", path)
    assert done.returncode == 0, done.stderr
    return path, url


def physical(url: str, topic: str) -> str:
    return f"{url.rpartition('/')[2]}.{topic}"


def stops(path: Path, *said: str) -> None:
    """Check that a run stops with one line that says all this."""
    done = seawall("run", path)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("seawall: ") and all(text in last for text in said), done.stderr


def test_a_broker_that_is_down_at_the_start_stops_the_run_in_one_line(
    wanted: tuple[Path, Contents], tmp_path: Path
) -> None:
    path = on_kafka(wanted[0], tmp_path / "run", f"kafka://{UNUSED}/x")
    path.write_text(path.read_text() + "[kafka]\noutage_s = 5\n")
    done = seawall("run", path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "start the cluster, or correct bus" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.timeout(600)
def test_a_broker_that_is_down_in_the_middle_is_waited_for_and_nothing_is_lost(
    wanted: tuple[Path, Contents], broker: Broker, tmp_path: Path
) -> None:
    cluster, url = broker.own(), broker.url("outage")
    path = on_kafka(wanted[0], tmp_path / "run", url)
    running = Running(path, [])
    until_journaled(url, path.parent, 50)
    cluster.kill()
    time.sleep(OUTAGE_S)
    cluster.start()
    assert running.wait(200) == 0, running.said()
    assert differences(contents(path.parent, url=url), wanted[1]) == []


def until_journaled(url: str, folder: Path, records: int) -> None:
    bus, deadline = open_bus(url, folder), time.monotonic() + 60
    while time.monotonic() < deadline:
        if sum(bus.end("journal", partition) for partition in bus.partitions("journal")) >= records:
            break
        time.sleep(0.05)
    bus.close()


@pytest.mark.timeout(600)
def test_the_death_of_a_leader_among_three_brokers_loses_nothing(wanted: tuple[Path, Contents], tmp_path: Path) -> None:
    require_broker()
    cluster = Cluster(tmp_path / "cluster", brokers=3)
    try:
        cluster.start()
        url = f"kafka://{cluster.address()}/three"
        path = on_kafka(wanted[0], tmp_path / "run", url)
        running = Running(path, [])
        until_journaled(url, path.parent, 50)
        topics = AdminClient({"bootstrap.servers": cluster.address()}).list_topics(timeout=20).topics
        assert {len(part.replicas) for part in topics["three.journal"].partitions.values()} == {3}
        cluster.kill(topics["three.journal"].partitions[0].leader)
        assert running.wait(200) == 0, running.said()
        assert differences(contents(path.parent, url=url), wanted[1]) == []
        assert seawall("verify", path).returncode == 0
    finally:
        cluster.stop()


def test_a_topic_that_was_deleted_is_named_and_a_new_one_is_filled_again(
    wanted: tuple[Path, Contents], broker: Broker, tmp_path: Path
) -> None:
    path, url = finished(broker, wanted[0], tmp_path / "run")
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.delete_topics([physical(url, "commands")])[physical(url, "commands")].result(30)
    time.sleep(0.5)
    stops(path, f"the cluster has no topic {physical(url, 'commands')}", "seawall topics create")
    assert seawall("topics", "create", path).returncode == 0
    done = seawall("run", path)
    assert done.returncode == 0, done.stderr
    assert differences(contents(path.parent, url=url), wanted[1]) == []


def test_a_journal_whose_records_expired_is_refused(
    wanted: tuple[Path, Contents], broker: Broker, tmp_path: Path
) -> None:
    path, url = finished(broker, wanted[0], tmp_path / "run")
    expire(broker, physical(url, "journal"), 20)
    stops(path, "journal/0 begins with number", "have expired", "lengthen the topic's retention")


def expire(broker: Broker, topic: str, before: int) -> None:
    """Delete records as retention does."""
    admin = AdminClient({"bootstrap.servers": broker.address})
    for made in admin.delete_records([TopicPartition(topic, 0, before)]).values():
        made.result(30)


def test_live_records_that_expired_before_they_were_read_stop_the_run(broker: Broker, tmp_path: Path) -> None:
    url = broker.url("expired")
    path = kafka_live.write_live(tmp_path / "run", url)
    feed, running = kafka_live.Feed(url, per_second=100), Running(path, [])
    feed.start()
    until_journaled(url, path.parent, 20)
    while not kafka_live.journaled_fills(url, path.parent):
        time.sleep(0.2)
    assert running.stop() == 0, running.said()
    time.sleep(1)
    feed.finish()
    expire(broker, kafka_live.input_topics(url)[0], -1)
    code = Running(path, []).wait(60)
    assert code == 2, running.said()
    assert "retention took it, or the topic was made anew" in running.said()


def test_a_record_larger_than_its_topic_allows_stops_the_writer_and_leaves_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    url = broker.url("narrow")
    admin = AdminClient({"bootstrap.servers": broker.address})
    narrow = NewTopic(physical(url, "commands"), 1, 1, config={"max.message.bytes": "1000"})
    admin.create_topics([narrow])[physical(url, "commands")].result(30)
    bus = open_bus(url, tmp_path)
    writer = bus.writer([("commands", 0)])
    append(writer, "commands", 0, 2)
    append(writer, "commands", 0, 1, size=5000)
    with pytest.raises(BusError, match=r"commands/0 cannot be written: .*MSG_SIZE_TOO_LARGE.* set max\.message\.bytes"):
        writer.flush()
    writer.close()
    assert bus.end("commands", 0) == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Cluster]:
    """A broker of one's own, to be harmed."""
    require_broker()
    cluster = Cluster(tmp_path / "cluster")
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.mark.timeout(600)
def test_a_broker_whose_disk_is_full_loses_nothing_that_was_committed(small: Cluster, tmp_path: Path) -> None:
    """No file may grow beyond a bound, so that appends fail as on a full disk; then the bound is lifted."""
    (tmp_path / "short.toml").write_text("[kafka]\noutage_s = 10\n")
    url = f"kafka://{small.address()}/full?settings=short.toml"
    bus = open_bus(url, tmp_path)
    bus.provide({"journal": 1}, make=True)
    writer = bus.writer([("journal", 0)])
    append(writer, "journal", 0, 500, size=200)
    writer.flush()
    resource.prlimit(small.pids()[1], resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    append(writer, "journal", 0, 2000, size=1000)
    with pytest.raises(BusError, match="journal/0 cannot be written"):
        writer.flush()
    writer.close()
    small.kill()
    small.start()
    again = open_bus(url, tmp_path)
    writer = again.writer([("journal", 0)])
    assert writer.end("journal", 0) == 500
    append(writer, "journal", 0, 10)
    writer.flush()
    assert len(again.read("journal", 0, 0)) == 510


def test_a_broker_whose_clock_is_a_day_behind_takes_our_records(broker: Broker, tmp_path: Path) -> None:
    """Its clock against ours is ours against its: records stamped a day ahead, on our topic and on a usual one."""
    bus = opened(broker, tmp_path)
    usual = broker.url("usual").rpartition("/")[2]
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(usual, 1, 1)])[usual].result(30)
    refused: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})
    ahead = int((time.time() + 86_400) * 1000)
    for topic in (usual, f"{bus_url(bus).rpartition('/')[2]}.acknowledgements"):
        producer.produce(topic, b"{}", partition=0, timestamp=ahead, on_delivery=lambda e, _: refused.append(e))
        assert producer.flush(30) == 0
    assert refused[0] is not None and refused[0].code() == KafkaError.INVALID_TIMESTAMP
    assert refused[1] is None
    assert len(bus.read("acknowledgements", 0, 0)) == 1


def test_a_record_of_somebody_else_on_the_journal_stops_the_run_and_is_named(
    wanted: tuple[Path, Contents], broker: Broker, tmp_path: Path
) -> None:
    path, url = finished(broker, wanted[0], tmp_path / "run")
    producer = Producer({"bootstrap.servers": broker.address})
    producer.produce(physical(url, "journal"), b"{}", partition=1)
    assert producer.flush(30) == 0
    stops(path, f"of {physical(url, 'journal')}/1 on the cluster has no seawall-n", "somebody else wrote there")
    for command in ("verify", "replay"):
        done = seawall(command, path)
        assert done.returncode == 1 and f"of {physical(url, 'journal')}/1 on the cluster has no" in done.stdout


def test_two_runs_of_one_journal_on_two_hosts_do_not_both_write(broker: Broker, tmp_path: Path) -> None:
    """The second fences the first, which stops in one line; folders stand for hosts."""
    url = broker.url("twice")
    path = kafka_live.write_live(tmp_path / "one", url)
    feed, first = kafka_live.Feed(url, per_second=50), Running(path, ["--only", "sequence"])
    feed.start()
    try:
        until_journaled(url, path.parent, 20)
        other = on_kafka(path.parent, tmp_path / "two", url)
        second = Running(other, ["--only", "sequence"])
        assert first.wait(60) == 2, first.said()
        assert "another writer took over, and this one wrote nothing" in first.said()
        threading.Event().wait(1)
        feed.finish()
        deadline = time.monotonic() + 60
        while kafka_live.journaled_fills(url, path.parent).total() < len(feed.sent) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert second.stop() == 0, second.said()
    finally:
        feed.finish()
    found = kafka_live.journaled_fills(url, path.parent)
    assert set(found) == set(feed.sent) and set(found.values()) == {1}
