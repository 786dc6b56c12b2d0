"""The bus on a real broker: records stand at the offsets that the embedded bus gives them; one writer per partition."""

import ctypes
import random
import threading
import time
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Producer
from confluent_kafka.cimpl import NewTopic

from seawall.connectors.bus import cluster_of, open_bus, skip_foreign_records
from seawall.connectors.bus.kafka import KafkaBus, _partition_reader
from seawall.schemas.configuration._sections import COMPRESSIONS
from seawall.schemas.errors import BusError, Gap, PartitionLocked, UsageError
from seawall_testing.clusters.kafka_broker import Broker, append_numbered, bus_url, flush_seen, open_kafka_bus
from seawall_testing.command_line import wait_for

pytestmark = pytest.mark.kafka


def test_records_stand_where_the_embedded_bus_has_them_whatever_transactions_they_came_in(
    broker: Broker, tmp_path: Path
) -> None:
    rng = random.Random(3)
    kafka, sqlite = open_kafka_bus(broker, tmp_path), open_bus("sqlite:bus.db", tmp_path)
    places = [("journal", 0), ("journal", 1), ("commands", 1)]
    writers = [kafka.writer(places), sqlite.writer(places)]
    for _ in range(40):
        topic, partition = rng.choice(places[:2] if rng.random() < 0.9 else places[2:])
        count = rng.choice([1, 1, 2, 70])
        for writer in writers:
            append_numbered(writer, topic, partition, count)
            writer.flush()
    flush_seen(kafka, writers[0], *places)
    for topic, partition in places:
        end = sqlite.end(topic, partition)
        assert kafka.end(topic, partition) == writers[0].end(topic, partition) == end
        for at in [0, 1, end - 1, end, end + 5, *(rng.randrange(end) for _ in range(10))]:
            wanted = sqlite.read(topic, partition, at, 100)
            assert kafka.read(topic, partition, at, 100)[: len(wanted)] == wanted
            assert bool(kafka.read(topic, partition, at, 100)) == (at < end)
    assert kafka.topics() == sqlite.topics() == ["commands", "journal"]
    assert kafka.partitions("commands") == [1]
    for bus in (kafka, sqlite):
        bus.close()


def test_a_record_among_thousands_of_transactions_is_found_by_its_number(broker: Broker, tmp_path: Path) -> None:
    bus = open_kafka_bus(broker, tmp_path)
    writer = bus.writer([("journal", 0)])
    for count in [1] * 300 + [4000]:
        append_numbered(writer, "journal", 0, count, size=0)
        writer.submit()
    flush_seen(bus, writer, ("journal", 0))
    fresh = open_bus(bus_url(bus), tmp_path)
    for number in (4299, 2500, 301, 299, 150, 3999):
        assert fresh.read("journal", 0, number, 1)[0].value == b"%d" % number
    assert fresh.end("journal", 0) == 4300


def test_a_transaction_that_was_never_committed_leaves_nothing(broker: Broker, tmp_path: Path) -> None:
    bus = open_kafka_bus(broker, tmp_path)
    writer = bus.writer([("commands", 0)])
    append_numbered(writer, "commands", 0, 3)
    writer.flush()
    append_numbered(writer, "commands", 0, 2)
    writer.close()
    again = bus.writer([("commands", 0)])
    assert again.end("commands", 0) == 3
    append_numbered(again, "commands", 0, 1)
    flush_seen(bus, again, ("commands", 0))
    assert [stored.offset for stored in bus.read("commands", 0, 0)] == [0, 1, 2, 3]


def test_who_interrupts_a_flush_leaves_nothing_that_readers_wait_for(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = open_kafka_bus(broker, tmp_path)
    writer: Any = bus.writer([("commands", 0)])
    append_numbered(writer, "commands", 0, 3)
    writer.flush()
    append_numbered(writer, "commands", 0, 2)

    def interrupt(_: Any) -> None:
        assert writer._producer.flush(20) == 0  # the records are on the cluster, in an open transaction
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "_patiently", interrupt)
    with pytest.raises(KeyboardInterrupt):
        writer.flush()
    wait_for(lambda: not cluster_of(bus).has_open_transaction("commands", 0), 20)
    assert len(bus.read("commands", 0, 0)) == 3
    writer.close()


def test_a_second_writer_on_this_host_is_refused_and_one_on_another_host_fences_the_first(
    broker: Broker, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    bus = open_kafka_bus(broker, here)
    first = bus.writer([("journal", 0), ("journal", 1)])
    append_numbered(first, "journal", 0, 1)
    first.flush()
    with pytest.raises(PartitionLocked, match="partition 0 of journal"):
        bus.writer([("journal", 0), ("journal", 1)])
    second = open_bus(bus_url(bus), there).writer([("journal", 0), ("journal", 1)])
    assert second.end("journal", 0) == 1
    append_numbered(first, "journal", 0, 1)
    append_numbered(first, "journal", 1, 1)
    with pytest.raises(PartitionLocked, match="another writer took over, and this one wrote nothing"):
        first.flush()
    append_numbered(second, "journal", 0, 1)
    flush_seen(bus, second, ("journal", 0))
    assert (bus.end("journal", 0), bus.end("journal", 1)) == (2, 0)


def test_a_follower_gets_every_record_once_and_in_order_while_the_writer_goes_on(
    broker: Broker, tmp_path: Path
) -> None:
    bus = open_kafka_bus(broker, tmp_path)
    writer, follower, offset = bus.writer([("journal", 0)]), bus.follow("journal"), 0
    for count in (1, 700, 3, 1, 50):
        append_numbered(writer, "journal", 0, count)
        writer.flush()
        end, deadline = writer.end("journal", 0), time.monotonic() + 120
        while offset < end:
            for stored in follower.poll(0, offset, 300):
                assert stored.offset == offset
                offset += 1
            assert time.monotonic() < deadline
        assert follower.poll(0, offset) == []


def test_who_has_read_one_record_or_all_asks_the_broker_for_nothing_more(broker: Broker, tmp_path: Path) -> None:
    """It waits 1 ms at the end of a partition, so it would ask hundreds of times a second for as long as it lives."""
    bus = open_kafka_bus(broker, tmp_path)
    assert isinstance(bus, KafkaBus)
    writer = bus.writer([("journal", 0)])
    append_numbered(writer, "journal", 0, 2000)
    flush_seen(bus, writer, ("journal", 0))
    end = writer.end("journal", 0)
    for at, count, left in [(0, 1, 2000), (end - 1, 1, 1), (end - 300, 300, 300), (end, 300, 0)]:
        assert len(bus.read("journal", 0, at, count)) == min(count, left)
        assert bus.reader._client().assignment() == []
    assert len(bus.read("journal", 0, 0, 500)) == 500
    assert len(bus.reader._client().assignment()) == 1  # whoever reads on finds the next ones there
    assert [record.offset for record in bus.read("journal", 0, 500, 500)] == list(range(500, 1000))
    writer.close()
    bus.close()


def test_who_writes_rests_while_the_broker_does_not_answer(broker: Broker, tmp_path: Path) -> None:
    cluster, bus = broker.own(), open_kafka_bus(broker, tmp_path)
    writer = cluster_of(bus).copier([("acknowledgements", 0)])
    append_numbered(writer, "acknowledgements", 0, 1)
    writer.flush()  # the client knows the leader, and is known
    more = threading.Thread(target=append_numbered, args=(writer, "acknowledgements", 0, 3_000, 1_000))
    cluster.pause()
    try:
        more.start()
        time.sleep(1)
        before = time.process_time()
        time.sleep(2)
        took = time.process_time() - before
    finally:
        cluster.resume()
    more.join()
    flush_seen(bus, writer, ("acknowledgements", 0))
    assert took < 0.5, f"{took:.2f} s of processor in 2 s of waiting"  # 2 s of 2 s where two batches are on their way
    assert bus.end("acknowledgements", 0) == 3_001
    writer.close()


def test_who_asks_again_for_partitions_is_not_held_by_a_cluster_that_takes_its_time(
    broker: Broker, tmp_path: Path
) -> None:
    bus = open_kafka_bus(broker, tmp_path)
    assert isinstance(bus, KafkaBus)
    follower = bus.follow("commands")
    assert follower.partitions() == []
    writer = bus.writer([("commands", 1)])
    append_numbered(writer, "commands", 1, 1)
    writer.flush()
    writer.close()
    with bus.reader._lock:  # whoever asks the cluster waits here
        assert [follower.partitions() for _ in range(3)] == [[]] * 3
    deadline = time.monotonic() + 120
    while follower.partitions() != [1]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    bus.close()


def test_a_record_that_somebody_else_wrote_to_our_topic_is_named_and_not_read(broker: Broker, tmp_path: Path) -> None:
    bus = open_kafka_bus(broker, tmp_path)
    writer = bus.writer([("commands", 0)])
    append_numbered(writer, "commands", 0, 2)
    flush_seen(bus, writer, ("commands", 0))
    producer = Producer({"bootstrap.servers": broker.address})
    producer.produce(f"{bus_url(bus).rpartition('/')[2]}.commands", b"{}", partition=0)
    assert producer.flush(20) == 0
    assert len(bus.read("commands", 0, 0, 2)) == 2
    with pytest.raises(Gap, match=r"offset 3 of .*commands/0 on the cluster has no seawall-n"):
        bus.read("commands", 0, 2)


def test_who_only_looks_passes_over_a_record_of_somebody_else_and_tells_of_it(broker: Broker, tmp_path: Path) -> None:
    bus = open_kafka_bus(broker, tmp_path)
    writer, told = bus.writer([("commands", 0)]), list[tuple[str, int, str]]()
    append_numbered(writer, "commands", 0, 2)
    flush_seen(bus, writer, ("commands", 0))
    producer = Producer({"bootstrap.servers": broker.address})
    for headers in ([], [("seawall-n", b"1")]):
        producer.produce(f"{bus_url(bus).rpartition('/')[2]}.commands", b"{}", partition=0, headers=headers)
    assert producer.flush(20) == 0
    append_numbered(writer, "commands", 0, 1)
    writer.flush()
    looker = open_bus(bus_url(bus), tmp_path)
    wait_for(lambda: not cluster_of(looker).has_open_transaction("commands", 0))
    skip_foreign_records(looker, lambda *what: told.append(what))
    assert [stored.value[:1] for stored in looker.read("commands", 0, 0)] == [b"0", b"1", b"2"]
    assert looker.end("commands", 0) == 3 and looker.partitions("commands") == [0]
    assert {what[:2] for what in told} == {("commands", 0)}
    texts = {text.split(" on the cluster ")[1].split(":")[0] for *_, text in told}
    assert texts == {"has no seawall-n", "is number 1 where 2 belongs"}


def test_records_are_numbered_as_they_stand_or_not_taken(broker: Broker, tmp_path: Path) -> None:
    writer = open_kafka_bus(broker, tmp_path).writer([("commands", 0)])
    with pytest.raises(Gap, match="numbered 7 cannot follow 0 records"):
        writer.append("commands", 0, "k", b"v", {"seawall-id": "0-7-0", "seawall-n": "7"})
    with pytest.raises(BusError, match="partition 1 of commands is not this writer's"):
        writer.append("commands", 1, "k", b"v", {})


def test_topics_that_are_missing_or_have_other_partitions_are_refused_by_name(broker: Broker, tmp_path: Path) -> None:
    bus = open_bus(broker.url("few"), tmp_path)
    with pytest.raises(UsageError, match=r"has no topic few-.*journal; make them with: seawall topics create"):
        cluster_of(bus).provide({"journal": 2}, make=False)
    cluster_of(bus).provide({"journal": 2}, make=True)
    with pytest.raises(UsageError, match="journal has 2 partitions where the configuration needs 3"):
        cluster_of(bus).provide({"journal": 3}, make=True)
    with pytest.raises(UsageError, match="no topic no-such-fills; correct"):
        cluster_of(bus).provide({"no-such-fills": 0}, make=True)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_a_run_writes_is_compressed_as_it_says(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    said: list[str] = []

    def made(settings: dict[str, Any]) -> Producer:
        said.append(settings["compression.type"])
        return Producer(settings)

    monkeypatch.setattr("seawall.connectors.bus.kafka._clients.Producer", made)
    (tmp_path / "desk.toml").write_text(f'[kafka]\ncompression = "{compression}"\n')
    bus = open_bus(f"{broker.url(f'pressed-{compression}')}?settings=desk.toml", tmp_path)
    cluster_of(bus).provide({"commands": 1}, make=True)
    writer = bus.writer([("commands", 0)])
    append_numbered(writer, "commands", 0, 3)
    flush_seen(bus, writer, ("commands", 0))
    assert len(bus.read("commands", 0, 0)) == 3
    assert said == [compression]
    writer.close()
    bus.close()


class Sender:
    """Somebody else, who writes to a topic."""

    def __init__(self, bus: KafkaBus) -> None:
        self._producer = Producer({"bootstrap.servers": bus.address.servers, "enable.idempotence": True})
        self.topic = f"{bus.address.prefix}-fills"
        admin = bus.clients.admin()  # it lives until the answer is there
        admin.create_topics([NewTopic(self.topic, 1, 1)])[self.topic].result(30)

    def send(self, count: int) -> None:
        for _ in range(count):
            self._producer.produce(self.topic, b"{}", partition=0)
        assert self._producer.flush(30) == 0


def followed(broker: Broker, folder: Path) -> tuple[KafkaBus, Sender]:
    bus = open_bus(broker.url("follow"), folder)
    assert isinstance(bus, KafkaBus)
    return bus, Sender(bus)


def test_a_look_gives_all_that_has_come_up_to_what_is_asked_for(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        _partition_reader, "ANSWER_S", 60.0
    )  # a busy machine takes longer than its tenth of a second for a look
    bus, sender = followed(broker, tmp_path)
    follower = bus.follow(sender.topic)
    sender.send(6000)
    assert len(follower.poll(0, 0, 10)) == 10
    time.sleep(3)  # all of them have come meanwhile, in batches of the client's own
    assert [len(follower.poll(0, offset, 2000)) for offset in (10, 2010)] == [2000, 2000]
    assert follower.may_lag(0)  # it is known where the topic ends
    assert len(follower.poll(0, 4010, 5000)) == 1990
    bus.close()


def test_who_did_not_look_for_a_while_is_told_that_more_may_be_there_until_it_came(
    broker: Broker, tmp_path: Path
) -> None:
    bus, sender = followed(broker, tmp_path)
    follower = bus.follow(sender.topic)
    sender.send(10)
    read = len(follower.poll(0, 0))
    looked, quiet = time.monotonic(), 0
    for _ in range(40):  # a record in silence says nothing of others
        sender.send(1)
        while not (found := follower.poll(0, read)):
            looked = time.monotonic()
            time.sleep(0.01)
        quiet += not follower.may_lag(0) or time.monotonic() - looked > _partition_reader.ANSWER_S / 2
        read, looked = read + len(found), time.monotonic()
    assert quiet > 30
    sender.send(20)
    time.sleep(0.5)  # the client has asked for what comes next, and asks for no more while that waits
    sender.send(30)
    time.sleep(0.5)
    read += len(follower.poll(0, read))
    assert follower.may_lag(0)
    deadline = time.monotonic() + 120
    while follower.may_lag(0) or read < 100:
        read += len(follower.poll(0, read))
        assert time.monotonic() < deadline, read
    assert read == 100
    bus.close()


def send_raw(address: str, topic: str, value: bytes, header: bytes) -> None:
    """Send a record with a header whose name may be any bytes, which only librdkafka itself takes."""
    files = sorted((Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs").glob("librdkafka-*.so*"))
    if not files:
        pytest.skip("this build of confluent-kafka brings no librdkafka of its own, which the test calls")
    library, code, said = ctypes.CDLL(str(files[0])), ctypes.c_int, ctypes.create_string_buffer(512)
    library.rd_kafka_conf_new.restype = library.rd_kafka_new.restype = ctypes.c_void_p
    settings = ctypes.c_void_p(library.rd_kafka_conf_new())
    assert library.rd_kafka_conf_set(settings, b"bootstrap.servers", address.encode(), said, 512) == 0, said.value
    client = ctypes.c_void_p(library.rd_kafka_new(0, settings, said, 512))
    what = [code(1), ctypes.c_char_p(topic.encode()), code(3), code(0)]  # topic, partition
    what += [code(4), ctypes.c_char_p(value), ctypes.c_size_t(len(value)), code(7), code(2)]  # value, to be copied
    what += [code(9), ctypes.c_char_p(header), ctypes.c_char_p(b"v"), ctypes.c_ssize_t(1), code(0)]  # header, the end
    assert library.rd_kafka_producev(client, *what) == 0
    assert library.rd_kafka_flush(client, 20_000) == 0
    library.rd_kafka_destroy(client)


def test_a_record_with_a_header_whose_name_is_no_text_is_read_like_any_other(broker: Broker, tmp_path: Path) -> None:
    bus = open_kafka_bus(broker, tmp_path)
    assert isinstance(bus, KafkaBus)
    name = f"{bus.address.prefix}-fills"
    admin = bus.clients.admin()
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    headers = [b"fine"] * 20 + [b"na\xffme", b"fine"]  # Python checks less in what was called often
    for header in headers:
        send_raw(broker.address, name, header, header)
    found = bus.read(name, 0, 0)
    assert [stored.value for stored in found] == headers
    assert [set(stored.headers) for stored in found] == [{"fine"}] * 20 + [{"unreadable"}, {"fine"}]
    send_raw(broker.address, bus.address.topic("journal"), b"x", b"na\xffme")
    with pytest.raises(Gap, match="has no seawall-n: somebody else wrote there"):
        bus.read("journal", 0, 0)
    bus.close()
