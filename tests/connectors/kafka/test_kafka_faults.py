"""What becomes of a run when the cluster fails: recovered without loss, or stopped with one line that says what to do.

The table of `ops/docs/manual/kafka.md` has every fault and its outcome. Authentication and access control are in
`test_kafka_security.py`, fencing in `test_kafka_bus.py`, poison messages and kills in `test_kafka_kills.py`.
"""

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from seawall.connectors.bus import Bus, cluster_of, open_bus, read_all
from seawall.connectors.bus.kafka import Address, _provision
from seawall.connectors.bus.kafka._clients import Clients
from seawall.ops.kafka.cluster import Cluster
from seawall.schemas.errors import BusError
from seawall.schemas.records import decode_slice
from seawall_testing.clusters import kafka_broker
from seawall_testing.clusters.kafka_broker import (
    Broker,
    append_numbered,
    bus_url,
    flush_seen,
    on_kafka,
    open_kafka_bus,
    require_broker,
)
from seawall_testing.command_line import RunProcess, bus_contents, differences, seawall, wait_for
from seawall_testing.crisis import CrisisRun, CrisisRuns

pytestmark = pytest.mark.kafka
OUTAGE_S = float(os.environ.get("SEAWALL_OUTAGE_S", "5"))
UNUSED = "127.0.0.1:9"  # the discard port: nobody listens there


@pytest.fixture(scope="module")
def uninterrupted(crisis_run: CrisisRuns) -> CrisisRun:
    """The inputs with their key, and what an uninterrupted run on the embedded bus makes of them."""
    return crisis_run(20, per_second=60, shards=4)


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


def test_a_broker_that_is_down_at_the_start_stops_the_run_in_one_line(uninterrupted: CrisisRun, tmp_path: Path) -> None:
    path = on_kafka(uninterrupted.folder, tmp_path / "run", f"kafka://{UNUSED}/x")
    path.write_text(path.read_text() + "[kafka]\noutage_s = 5\n")
    done = seawall("run", path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "start the cluster, or correct bus" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_broker_that_dies_while_topics_are_made_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_provision, "CALL_S", 1.0)
    clients = Clients(Address.parse(f"kafka://{UNUSED}/x", tmp_path))
    for ask in (
        lambda: _provision.create_topics(clients, {"journal": 1}),
        lambda: _provision.check_topics(clients, {"x.audit": 1}, {"audit": 1}),
    ):
        with pytest.raises(BusError, match=r"topics cannot be listed: .*start the cluster, or correct bus"):
            ask()


@pytest.mark.timeout(600)
def test_a_broker_that_is_down_in_the_middle_is_waited_for_and_nothing_is_lost(
    uninterrupted: CrisisRun, broker: Broker, tmp_path: Path
) -> None:
    cluster, url = broker.own(), broker.url("outage")
    path = on_kafka(uninterrupted.folder, tmp_path / "run", url)
    running = RunProcess(path, [])
    until_journaled(url, path.parent, 50)
    cluster.kill()
    time.sleep(OUTAGE_S)
    cluster.start()
    assert running.wait(200) == 0, running.said()
    assert differences(bus_contents(path.parent, url=url), uninterrupted.records) == []


HURRIED = """
from seawall.connectors.bus.kafka import _topics
from seawall.ops.cli import main

assert _topics.CALL_S == 30
_topics.CALL_S = 1.0
main()
"""


@pytest.mark.timeout(600)
def test_who_follows_new_partitions_waits_for_a_broker_that_is_down_for_longer_than_one_question_may_take(
    broker: Broker, tmp_path: Path
) -> None:
    """A question takes 30 s where a cluster does not answer, here a second, and the outage is several of them."""
    cluster, url = broker.own(), broker.url("waits")
    path = kafka_broker.write_kafka_desk(tmp_path / "run", url)
    feed, running = kafka_broker.Feed(url, per_second=50), RunProcess(path, [], [sys.executable, "-c", HURRIED])
    feed.start()
    try:
        until_journaled(url, path.parent, 40)
        cluster.kill()
        time.sleep(OUTAGE_S)
        cluster.start()
        feed.finish()
        ends_with_each_once(url, path.parent, feed, running)
    finally:
        running.kill()
        feed.finish()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stands still"])
def test_a_run_that_is_stopped_while_the_cluster_does_not_answer_ends_before_orchestrators_kill_it(
    broker: Broker, tmp_path: Path, killed: bool
) -> None:
    """They wait 40 s and more (``ops/deploy``), and a cluster is waited for for 300; `RunProcess` gives up before."""
    cluster, url = broker.own(), broker.url("stopped")
    path = kafka_broker.write_kafka_desk(tmp_path / "run", url)
    feed, running = kafka_broker.Feed(url, per_second=50), RunProcess(path, [])
    feed.start()
    try:
        until_journaled(url, path.parent, 40)
        (cluster.kill if killed else cluster.pause)()
        time.sleep(2)
        began = time.monotonic()
        code = running.stop()
        print(f"stopped after {time.monotonic() - began:.0f} s")
        (cluster.start if killed else cluster.resume)()
        assert code == 2, running.said()
        told = [line for line in running.said().splitlines() if line.startswith("seawall: ")]
        assert told and "the cluster" in told[-1] and "Traceback" not in running.said(), running.said()
        feed.finish()
        running = RunProcess(path, [])
        ends_with_each_once(url, path.parent, feed, running)
    finally:
        running.kill()
        feed.finish()


def ends_with_each_once(url: str, folder: Path, feed: kafka_broker.Feed, running: RunProcess) -> None:
    """Wait for every fill of a feed, stop the run, and check that each was journaled once."""
    until_all(url, folder, feed, running)
    assert running.stop() == 0, running.said()
    found = kafka_broker.journaled_fills(url, folder)
    assert set(found) == set(feed.sent) and set(found.values()) == {1}


def until_all(url: str, folder: Path, feed: kafka_broker.Feed, running: RunProcess) -> None:
    """Wait until every fill of a feed is journaled by a run that goes on."""
    deadline = time.monotonic() + 120
    while kafka_broker.journaled_fills(url, folder).total() < len(feed.sent):
        assert time.monotonic() < deadline and running.wait(0) is None, running.said()
        time.sleep(0.2)


def until_journaled(url: str, folder: Path, records: int) -> None:
    deadline = time.monotonic() + 120
    while slices(url, folder) < records and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    """Three brokers, to be harmed."""
    require_broker()
    cluster = Cluster(tmp_path / "cluster", brokers=3)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill_all()


def kill_leader(cluster: Cluster, topic: str) -> None:
    """Kill the broker that leads the first partition of a topic that all three have."""
    parts = AdminClient({"bootstrap.servers": cluster.address()}).list_topics(timeout=20).topics[topic].partitions
    assert {len(part.replicas) for part in parts.values()} == {3}
    cluster.kill(parts[0].leader)


@pytest.mark.timeout(600)
def test_the_death_of_a_leader_among_three_brokers_loses_nothing(
    uninterrupted: CrisisRun, three: Cluster, tmp_path: Path
) -> None:
    url = f"kafka://{three.address()}/three"
    path = on_kafka(uninterrupted.folder, tmp_path / "run", url)
    running = RunProcess(path, [])
    try:
        until_journaled(url, path.parent, 50)
        kill_leader(three, "three.journal")
        assert running.wait(200) == 0, running.said()
    finally:
        running.kill()
    assert differences(bus_contents(path.parent, url=url), uninterrupted.records) == []
    assert seawall("verify", path).returncode == 0


@pytest.mark.timeout(600)
def test_who_asked_a_leader_that_died_what_is_settled_hears_it_from_the_next(three: Cluster, tmp_path: Path) -> None:
    """A reader has two clients, and each knows leaders for itself: both have to look for the new one."""
    bus = open_bus(f"kafka://{three.address()}/asked", tmp_path)
    cluster_of(bus).provide({"journal": 1}, make=True)
    writer = bus.writer([("journal", 0)])
    append_numbered(writer, "journal", 0, 3)
    writer.flush()
    until_settled(bus)
    kill_leader(three, "asked.journal")
    until_settled(bus)
    assert len(bus.read("journal", 0, 0)) == 3
    writer.close()
    bus.close()


def until_settled(bus: Bus) -> None:
    """Wait far less than the five minutes after which a client looks for leaders by itself."""
    deadline = time.monotonic() + 120
    while cluster_of(bus).has_open_transaction("journal", 0):
        assert time.monotonic() < deadline
    assert time.monotonic() < deadline


def test_a_topic_that_was_deleted_is_named_and_a_new_one_is_filled_again(
    uninterrupted: CrisisRun, broker: Broker, tmp_path: Path
) -> None:
    path, url = finished(broker, uninterrupted.folder, tmp_path / "run")
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.delete_topics([physical(url, "commands")])[physical(url, "commands")].result(30)
    time.sleep(0.5)
    stops(path, f"the cluster has no topic {physical(url, 'commands')}", "seawall topics create")
    assert seawall("topics", "create", path).returncode == 0
    done = seawall("run", path)
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(path.parent, url=url), uninterrupted.records) == []


def test_a_journal_whose_records_expired_is_refused(uninterrupted: CrisisRun, broker: Broker, tmp_path: Path) -> None:
    path, url = finished(broker, uninterrupted.folder, tmp_path / "run")
    expire(broker, physical(url, "journal"), 20)
    stops(path, "journal/0 begins with number", "have expired", "lengthen the topic's retention")


def expire(broker: Broker, topic: str, before: int) -> None:
    """Delete records as retention does."""
    admin = AdminClient({"bootstrap.servers": broker.address})
    for made in admin.delete_records([TopicPartition(topic, 0, before)]).values():
        made.result(30)


def test_live_records_that_expired_before_they_were_read_stop_the_run(broker: Broker, tmp_path: Path) -> None:
    url = broker.url("expired")
    path = kafka_broker.write_kafka_desk(tmp_path / "run", url)
    feed, running = kafka_broker.Feed(url, per_second=100), RunProcess(path, [])
    feed.start()
    until_journaled(url, path.parent, 20)
    while not kafka_broker.journaled_fills(url, path.parent):
        time.sleep(0.2)
    assert running.stop() == 0, running.said()
    time.sleep(1)
    feed.finish()
    expire(broker, kafka_broker.input_topics(url)[0], -1)
    code = RunProcess(path, []).wait(60)
    assert code == 2, running.said()
    assert "retention took it, or the topic was made anew" in running.said()


def made_anew(broker: Broker, topic: str, records: int) -> None:
    """Delete a topic, make it again under its name, and send it fills that were never sent before."""
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.delete_topics([topic])[topic].result(30)
    deadline = time.monotonic() + 120
    while True:  # what is deleted stays in the way for a moment
        try:
            admin.create_topics([NewTopic(topic, kafka_broker.PARTITIONS, -1)])[topic].result(30)
            break
        except KafkaException:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    producer = Producer({"bootstrap.servers": broker.address})
    for n in range(records):
        producer.produce(topic, kafka_broker.encoded_fill(f"anew{n}"), partition=n % kafka_broker.PARTITIONS)
    assert producer.flush(60) == 0


@pytest.mark.parametrize("runs", [True, False])
def test_a_topic_of_others_that_was_made_anew_is_not_read_on_in_its_middle(
    broker: Broker, tmp_path: Path, runs: bool
) -> None:
    """Its first records would be passed over without a word: its offsets go beyond those that were reached."""
    url = broker.url("anew")
    path, topic = kafka_broker.write_kafka_desk(tmp_path / "run", url), kafka_broker.input_topics(url)[0]
    producer = Producer({"bootstrap.servers": broker.address})
    for n in range(20):
        producer.produce(topic, kafka_broker.encoded_fill(f"f{n}"), partition=n % kafka_broker.PARTITIONS)
    assert producer.flush(60) == 0
    running = RunProcess(path, [])
    notes = f"kafka-*.topics/*/*/{topic}"
    try:
        wait_for(lambda: kafka_broker.journaled_fills(url, path.parent).total() == 20)
        wait_for(lambda: len(list(path.parent.glob(notes))) == 2)  # of sequence and of market
        if not runs:
            assert running.stop() == 0, running.said()
        made_anew(broker, topic, 400)
        if not runs:
            running = RunProcess(path, [])
        stops_of(running, topic, "made anew")  # under a run the cluster may refuse the offset first
    finally:
        running.kill()
    for _ in range(2):  # nobody notes the new one by himself
        stops(path, f"the topic {topic} was deleted and made anew since it was read", "remove", f"/{topic}")
    shutil.rmtree(path.parent / "recovery-market")  # who lost what he had read notes the new one, for himself alone
    stops(path, f"the topic {topic} was deleted and made anew since it was read")
    for note in path.parent.glob(notes):
        note.unlink()
    running = RunProcess(path, [])
    try:
        wait_for(lambda: f"{topic} is read on at the offsets of a run of before, but nothing in" in running.said())
        wait_for(lambda: "anew399" in kafka_broker.journaled_fills(url, path.parent))
        assert running.stop() == 0, running.said()
    finally:
        running.kill()


def test_a_topic_that_was_made_anew_before_anything_was_read_is_followed(broker: Broker, tmp_path: Path) -> None:
    url = broker.url("anew")
    path, topic = kafka_broker.write_kafka_desk(tmp_path / "run", url), kafka_broker.input_topics(url)[1]
    bus, other = open_bus(url, path.parent), open_bus(url, path.parent)
    wait_for(lambda: _noted(bus, topic, False, path.parent))
    made_anew(broker, topic, 2)
    cluster_of(bus).pin_topic(topic, "reader", begun=False)
    follower = bus.follow(topic, "reader", begun=True)
    assert follower.partitions() == [0, 1]
    made_anew(broker, topic, 2)
    with pytest.raises(BusError, match="was deleted and made anew since it was read"):
        wait_for(lambda: follower.partitions() == [])
    cluster_of(other).pin_topic(topic, "other", begun=False)  # who reads nothing yet hides nothing from those who did
    with pytest.raises(BusError, match="was deleted and made anew since it was read"):
        cluster_of(bus).pin_topic(topic, "reader", begun=True)
    bus.close()
    other.close()


def _noted(bus: Bus, topic: str, begun: bool, folder: Path) -> bool:
    """Ask for the id of a topic; tell whether the cluster told it."""
    cluster_of(bus).pin_topic(topic, "reader", begun)
    return len(list(folder.glob(f"kafka-*.topics/*/reader/{topic}"))) == 1


def test_a_record_larger_than_its_topic_allows_stops_the_writer_and_leaves_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    url = broker.url("narrow")
    admin = AdminClient({"bootstrap.servers": broker.address})
    narrow = NewTopic(physical(url, "commands"), 1, 1, config={"max.message.bytes": "1000"})
    admin.create_topics([narrow])[physical(url, "commands")].result(30)
    bus = open_bus(url, tmp_path)
    writer = bus.writer([("commands", 0)])
    append_numbered(writer, "commands", 0, 2)
    append_numbered(writer, "commands", 0, 1, size=5000)
    with pytest.raises(BusError, match=r"commands/0 cannot be written: .*MSG_SIZE_TOO_LARGE.* set max\.message\.bytes"):
        writer.flush()
    writer.close()
    assert bus.end("commands", 0) == 0


def stopped_live(broker: Broker, folder: Path) -> tuple[Path, str, kafka_broker.Feed]:
    """Run a live desk for a while and stop it cleanly; its feed is still to be finished."""
    url = broker.url("live")
    path = kafka_broker.write_kafka_desk(folder, url)
    feed, running = kafka_broker.Feed(url, per_second=100), RunProcess(path, [])
    feed.start()
    until_journaled(url, path.parent, 60)
    assert running.stop() == 0, running.said()
    return path, url, feed


def test_after_a_clean_stop_risk_goes_on_from_its_last_snapshot_and_reads_no_slice_before_it(
    broker: Broker, tmp_path: Path
) -> None:
    """All slices that it has decided on, but the last of each shard, are deleted: whoever asks for one stops."""
    path, url, feed = stopped_live(broker, tmp_path / "run")
    name = physical(url, "journal")
    ends = [kafka_broker.end_on_cluster(broker.address, TopicPartition(name, shard)) for shard in range(4)]
    sequencing = RunProcess(path, ["--only", "sequence"])
    until_journaled(url, path.parent, slices(url, path.parent) + 20)
    assert sequencing.stop() == 0, sequencing.said()
    feed.finish()
    last = [TopicPartition(name, shard, end - 2) for shard, end in enumerate(ends)]  # behind it stands an end mark
    admin = AdminClient({"bootstrap.servers": broker.address})
    for made in admin.delete_records(last).values():
        made.result(30)
    running, deadline = RunProcess(path, ["--only", "risk"]), time.monotonic() + 120
    while kafka_broker.undecided(url, path.parent) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert running.stop() == 0, running.said()
    assert kafka_broker.undecided(url, path.parent) == 0
    shutil.rmtree(path.parent / "recovery")
    stops_of(RunProcess(path, ["--only", "risk"]), "have expired")


def slices(url: str, folder: Path) -> int:
    """Return how many slices are journaled."""
    bus = open_bus(url, folder)
    try:
        return sum(bus.end("journal", partition) for partition in bus.partitions("journal"))
    finally:
        bus.close()


def stops_of(running: RunProcess, *said: str) -> None:
    """Check that a run stops by itself and says all this."""
    assert running.wait(60) == 2, running.said()
    assert all(text in running.said() for text in said), running.said()


def test_new_partitions_of_an_input_are_followed_and_those_of_our_own_topics_are_refused(
    broker: Broker, tmp_path: Path
) -> None:
    path, url, feed = stopped_live(broker, tmp_path / "run")
    running, fills = RunProcess(path, []), kafka_broker.input_topics(url)[0]
    time.sleep(1)
    grow(broker, fills, kafka_broker.PARTITIONS + 1)
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})
    for number in range(20):
        producer.produce(fills, kafka_broker.encoded_fill(f"new-{number}"), partition=kafka_broker.PARTITIONS)
    assert producer.flush(30) == 0
    feed.finish()
    wanted, deadline = {*feed.sent, *(f"new-{number}" for number in range(20))}, time.monotonic() + 120
    while set(kafka_broker.journaled_fills(url, path.parent)) != wanted and time.monotonic() < deadline:
        time.sleep(0.3)
    assert running.stop() == 0, running.said()
    found = kafka_broker.journaled_fills(url, path.parent)
    assert set(found) == wanted and set(found.values()) == {1}
    grow(broker, physical(url, "commands"), 9)
    stops(path, "commands has 9 partitions where the configuration needs 5", "use another prefix in bus")


def grow(broker: Broker, topic: str, partitions: int) -> None:
    """Add partitions to a topic, and wait until they are known."""
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)
    deadline = time.monotonic() + 120
    while len(admin.list_topics(timeout=10).topics[topic].partitions) < partitions:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[tuple[Cluster, Path]]:
    """A broker with a disk of its own, of 64 MiB, in memory."""
    require_broker()
    disk = tmp_path / "cluster" / "data-1"
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "seawall", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount one; the test with a limit on files stands in for it")
    cluster = Cluster(tmp_path / "cluster", extra={"log.index.size.max.bytes": "65536"})
    try:
        cluster.start()
        yield cluster, disk
    finally:
        cluster.stop()
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.timeout(600)
def test_a_run_whose_broker_has_no_space_left_stops_and_goes_on_byte_for_byte_once_there_is(
    uninterrupted: CrisisRun, narrow: tuple[Cluster, Path], tmp_path: Path
) -> None:
    cluster, disk = narrow
    url = f"kafka://{cluster.address()}/full"
    path = on_kafka(uninterrupted.folder, tmp_path / "run", url)
    path.write_text(path.read_text() + "[kafka]\noutage_s = 10\n")
    running = RunProcess(path, [])
    until_journaled(url, path.parent, 50)
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space left"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))
    stops_of(running, "seawall: ")
    ballast.unlink()
    cluster.stop()
    cluster.start()
    done = seawall("run", path)
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(path.parent, url=url), uninterrupted.records) == []


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
    cluster_of(bus).provide({"journal": 1}, make=True)
    writer = bus.writer([("journal", 0)])
    append_numbered(writer, "journal", 0, 500, size=200)
    writer.flush()
    resource.prlimit(small.pids()[1], resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    append_numbered(writer, "journal", 0, 2000, size=1000)
    with pytest.raises(BusError, match="journal/0 cannot be written"):
        writer.flush()
    writer.close()
    small.kill()
    small.start()
    again = open_bus(url, tmp_path)
    writer = again.writer([("journal", 0)])
    assert writer.end("journal", 0) == 500
    append_numbered(writer, "journal", 0, 10)
    flush_seen(again, writer, ("journal", 0))
    assert len(again.read("journal", 0, 0)) == 510


def test_a_broker_whose_clock_is_a_day_behind_takes_our_records(broker: Broker, tmp_path: Path) -> None:
    """Its clock against ours is ours against its: records stamped a day ahead, on our topic and on a usual one."""
    bus = open_kafka_bus(broker, tmp_path)
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


DAY_S = 86_400
# Of the clocks only that which people set: what waits for a time to pass keeps to the other one.
ANOTHER_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long off_s(void) {
    const char *text = getenv("CLOCK_OFF_S");
    return text ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*ask)(clockid_t, struct timespec *);
    if (!ask) ask = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = ask(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += off_s();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return failed;
}
"""


@pytest.fixture(params=[-DAY_S, DAY_S])
def off_s(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


@pytest.fixture
def elsewhen(off_s: int, tmp_path: Path) -> Iterator[Cluster]:
    """A broker whose clock is a day behind or ahead: a library before the system's gives its process another one."""
    require_broker()
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a broker under another clock needs a compiler for C, cc, which is not installed")
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(ANOTHER_CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    clock = {"LD_PRELOAD": str(library), "CLOCK_OFF_S": str(off_s)}
    cluster = Cluster(tmp_path / "cluster", environment=clock)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def broker_time_s(cluster: Cluster, topic: str) -> float:
    """Return when the first record of a topic came, by the clock of its broker, which stamps it."""
    reader = Consumer({"bootstrap.servers": cluster.address(), "group.id": "look", "log_level": 0})
    reader.assign([TopicPartition(topic, 0, 0)])
    message = reader.poll(30)
    reader.close()
    assert message is not None and message.error() is None
    kind, stamp_ms = message.timestamp()
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    return stamp_ms / 1000


@pytest.mark.timeout(600)
def test_a_broker_whose_clock_is_off_by_a_day_changes_no_byte(
    uninterrupted: CrisisRun, elsewhen: Cluster, off_s: int, tmp_path: Path
) -> None:
    url, before = f"kafka://{elsewhen.address()}/elsewhen", time.time()
    path = on_kafka(uninterrupted.folder, tmp_path / "run", url)
    done = seawall("run", path)
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(path.parent, url=url), uninterrupted.records) == []
    assert seawall("verify", path).returncode == 0
    told_s = broker_time_s(elsewhen, physical(url, "journal")) - before
    assert abs(told_s - off_s) < 600


@pytest.mark.timeout(600)
def test_live_records_of_a_broker_whose_clock_is_off_by_a_day_are_cut_by_their_own_times(
    elsewhen: Cluster, tmp_path: Path
) -> None:
    """Its clock is nobody's: records keep the times that they tell, and slices are cut by the run's clock."""
    url = f"kafka://{elsewhen.address()}/elsewhen"
    stamped = {"message.timestamp.type": "LogAppendTime"}  # else it refuses records of a producer that is an hour ahead
    path = kafka_broker.write_kafka_desk(tmp_path / "run", url, topic_settings=stamped)
    feed, running = kafka_broker.Feed(url, per_second=100), RunProcess(path, [])
    feed.start()
    try:
        deadline = time.monotonic() + 120
        while kafka_broker.journaled_fills(url, path.parent).total() < 300:
            assert time.monotonic() < deadline and running.wait(0.2) is None, running.said()
        feed.finish()
        while kafka_broker.journaled_fills(url, path.parent).total() < len(feed.sent):
            assert time.monotonic() < deadline and running.wait(0.2) is None, running.said()
        assert running.stop() == 0, running.said()
    finally:
        feed.finish()
        running.kill()
    found = kafka_broker.journaled_fills(url, path.parent)
    assert set(found) == set(feed.sent) and set(found.values()) == {1}
    for command in ("verify", "replay"):
        assert seawall(command, path).returncode == 0
    bus = open_bus(url, path.parent)
    cuts = [decode_slice(stored.value).cut_us for shard in range(4) for stored in read_all(bus, "journal", shard)]
    bus.close()
    assert 0 <= time.time() - max(cuts) / 1e6 < 600 and 0 <= time.time() - min(cuts) / 1e6 < 600


def test_a_record_of_somebody_else_on_the_journal_stops_the_run_and_is_named(
    uninterrupted: CrisisRun, broker: Broker, tmp_path: Path
) -> None:
    path, url = finished(broker, uninterrupted.folder, tmp_path / "run")
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
    path = kafka_broker.write_kafka_desk(tmp_path / "one", url)
    feed, first = kafka_broker.Feed(url, per_second=50), RunProcess(path, ["--only", "sequence"])
    feed.start()
    try:
        until_journaled(url, path.parent, 20)
        other = on_kafka(path.parent, tmp_path / "two", url)
        second = RunProcess(other, ["--only", "sequence"])
        assert first.wait(60) == 2, first.said()
        # Fenced while its commit is under way, the broker may answer that with an error it has no name for.
        fenced = ("another writer took over, and this one wrote nothing", "EndTxn commit failed: Unknown broker error")
        assert any(text in first.said() for text in fenced) and "let one run only" in first.said(), first.said()
        threading.Event().wait(1)
        feed.finish()
        deadline = time.monotonic() + 120
        while kafka_broker.journaled_fills(url, path.parent).total() < len(feed.sent) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert second.stop() == 0, second.said()
    finally:
        feed.finish()
    found = kafka_broker.journaled_fills(url, path.parent)
    assert set(found) == set(feed.sent) and set(found.values()) == {1}
