"""A partition that is unknown for a moment is waited for; one that was deleted is named, with what to do.

A topic is taken from a real broker and made again a moment later, which clients see as they see a broker that has just
started and does not know its topics yet.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from seawall.connectors.bus import Bus, Follower, open_bus
from seawall.connectors.bus.kafka import _partition_reader, _topics
from seawall.schemas.errors import BusError
from seawall_testing.clusters.kafka_broker import Broker, append_numbered, flush_seen, open_kafka_bus

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
GONE = "a topic that was deleted is lost"
AWAY_S = 2.0


class Topic:
    """A topic of somebody else on a broker, or one of ours, to be taken away and made again."""

    def __init__(self, broker: Broker, name: str, partitions: int = 1) -> None:
        self._admin, self._name, self._partitions = AdminClient({"bootstrap.servers": broker.address}), name, partitions

    def make(self) -> None:
        self._admin.create_topics([NewTopic(self._name, self._partitions, 1)])[self._name].result(60)

    def delete(self) -> None:
        self._admin.delete_topics([self._name])[self._name].result(60)
        while self._name in self._admin.list_topics(timeout=60).topics:
            time.sleep(0.05)


def later(step: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(AWAY_S, step)
    timer.start()
    return timer


def until_raised(step: Callable[[], object]) -> None:
    """Repeat a step that ends by raising; the test's time-out bounds it."""
    while True:
        step()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_topics, "UNKNOWN_S", 120.0)
    monkeypatch.setattr(_partition_reader, "SILENT_S", 0.5)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_topics, "UNKNOWN_S", 1.0)
    monkeypatch.setattr(_partition_reader, "SILENT_S", 0.5)


def followed(broker: Broker, folder: Path) -> tuple[Bus, Topic, Follower, str]:
    """Follow a topic of somebody else that has no records yet."""
    url = broker.url("absence")
    name = f"{url.rpartition('/')[2]}-fills"
    topic, bus = Topic(broker, name), open_bus(url, folder)
    topic.make()
    follower = bus.follow(name)
    assert follower.poll(0, 0) == []
    return bus, topic, follower, name


@pytest.mark.usefixtures("patient")
def test_a_follower_waits_for_a_partition_that_is_unknown_for_a_moment(broker: Broker, tmp_path: Path) -> None:
    bus, topic, follower, name = followed(broker, tmp_path)
    topic.delete()
    timer = later(topic.make)
    while timer.is_alive():
        assert follower.poll(0, 0) == []
    producer = Producer({"bootstrap.servers": broker.address})
    producer.produce(name, b"first", partition=0)
    assert producer.flush(60) == 0
    found: list[bytes] = []
    while not found:
        found = [stored.value for stored in follower.poll(0, 0)]
    assert found == [b"first"]
    bus.close()


@pytest.mark.usefixtures("impatient")
def test_a_follower_of_a_deleted_topic_stops_and_names_it(broker: Broker, tmp_path: Path) -> None:
    bus, topic, follower, name = followed(broker, tmp_path)
    topic.delete()
    with pytest.raises(BusError, match=f"{name}/0 cannot be read at 0: .*{GONE}"):
        until_raised(lambda: follower.poll(0, 0))
    bus.close()


@pytest.mark.usefixtures("patient")
def test_a_transaction_into_a_topic_that_is_unknown_for_a_moment_is_made_again(broker: Broker, tmp_path: Path) -> None:
    url = broker.url("absence")
    bus = open_kafka_bus(broker, tmp_path, url)
    writer, topic = (
        bus.writer([("journal", 0), ("commands", 0)]),
        Topic(broker, f"{url.rpartition('/')[2]}.commands", 2),
    )
    append_numbered(writer, "journal", 0, 3)
    writer.flush()
    topic.delete()
    timer = later(topic.make)
    append_numbered(writer, "journal", 0, 1)
    append_numbered(writer, "commands", 0, 2)
    flush_seen(bus, writer, ("journal", 0), ("commands", 0))
    timer.join()
    assert [stored.offset for stored in bus.read("journal", 0, 0)] == [0, 1, 2, 3]
    assert [stored.offset for stored in bus.read("commands", 0, 0)] == [0, 1]
    writer.close()
    bus.close()


@pytest.mark.usefixtures("impatient")
def test_a_writer_to_a_deleted_topic_stops_and_has_written_nothing(broker: Broker, tmp_path: Path) -> None:
    url = broker.url("absence")
    bus = open_kafka_bus(broker, tmp_path, url)
    writer, topic = (
        bus.writer([("journal", 0), ("commands", 0)]),
        Topic(broker, f"{url.rpartition('/')[2]}.commands", 2),
    )
    append_numbered(writer, "journal", 0, 1)
    append_numbered(writer, "commands", 0, 1)
    topic.delete()
    with pytest.raises(BusError, match=f"journal/0 cannot be written: .*{GONE}"):
        writer.flush()
    assert bus.end("journal", 0) == 0
    with pytest.raises(BusError, match=f"commands/0 cannot be read: .*{GONE}"):
        bus.end("commands", 0)
    bus.close()


@pytest.mark.usefixtures("patient")
def test_partitions_that_were_seen_are_looked_for_again_before_they_count_as_gone(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, topic, _, name = followed(broker, tmp_path)
    assert bus.partitions(name) == []  # none has records
    reader = bus.reader  # type: ignore[attr-defined]
    topic.delete()
    timer = later(topic.make)
    assert reader.partitions(name) == {name: 1}
    timer.join()
    topic.delete()
    monkeypatch.setattr(_topics, "UNKNOWN_S", 1.0)
    with pytest.raises(BusError, match=f"the topic {name} cannot be read: .*{GONE}"):
        reader.partitions(name)
    assert reader.partitions(name) == {}  # what is known to be gone is not waited for again
    bus.close()
