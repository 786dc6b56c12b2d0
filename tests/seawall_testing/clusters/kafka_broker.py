"""A real Kafka broker for tests, runs of a configuration on it, and a producer that feeds a desk whatever is killed."""

import itertools
import json
import os
import random
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from seawall.connectors.bus import Bus, Writer, cluster_of, open_bus, read_all
from seawall.ops.kafka.cluster import Cluster, missing
from seawall.schemas.records import decode_slice
from seawall_testing.command_line import wait_for
from seawall_testing.desk import Json, account, instrument, lines
from seawall_testing.pipeline import write_configuration

# A real broker for tests, and runs of a configuration on it.

CLIENTS = ("risk", "market", "sequence", "stranger")
USERS = {"risk": "risk-secret", "stranger": "stranger-secret"}
INPUTS = ("*.jsonl", "*.jsonl.gz", "limits.toml", "playbook.toml", "desk.toml", "keys")
_numbers = itertools.count()


class Broker:
    """Where tests find a broker; ``cluster`` is None where it is somebody else's, which nobody may kill."""

    def __init__(self, address: str, cluster: Cluster | None) -> None:
        self.address, self.cluster = address, cluster

    def url(self, name: str = "t") -> str:
        """Return the address of a bus with a prefix that no other test has."""
        return f"kafka://{self.address}/{name}-{os.getpid()}-{next(_numbers)}"

    def drop(self, url: str) -> None:
        """Delete the topics of a bus: a broker that is killed again and again reads all that it has at each start."""
        prefix, admin = url.rpartition("/")[2] + ".", AdminClient({"bootstrap.servers": self.address})
        topics = [topic for topic in admin.list_topics(timeout=60).topics if topic.startswith(prefix)]
        for deleted in admin.delete_topics(topics).values():
            deleted.result(60)

    def own(self) -> Cluster:
        """Return the cluster; skip where it may not be touched."""
        if self.cluster is None:
            pytest.skip("SEAWALL_TEST_KAFKA names somebody else's broker, which is not to be stopped")
        return self.cluster

    def close(self) -> None:
        """Stop what was started."""
        if self.cluster is not None:
            self.cluster.stop()


def open_broker(paths: pytest.TempPathFactory) -> Broker:
    """Return a broker; skip, or fail in continuous integration, where none can be had."""
    if given := os.environ.get("SEAWALL_TEST_KAFKA"):
        return Broker(given, None)
    require_broker()
    cluster = Cluster(paths.mktemp("kafka"), clients=CLIENTS, users=USERS)
    cluster.start()
    return Broker(cluster.address(), cluster)


def require_broker() -> None:
    """Skip where no broker can run; in continuous integration that is a failure."""
    if lacking := missing():
        report = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        report(f"no broker can run here: {lacking} is missing; set SEAWALL_TEST_KAFKA=host:port to use another")


def on_kafka(original: Path, folder: Path, url: str) -> Path:
    """Copy a configuration with its inputs and keys so that it runs on a cluster; return the configuration's path."""
    folder.mkdir(parents=True)
    for pattern in INPUTS:
        for path in original.glob(pattern):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
    text = (original / ("desk.toml" if (original / "desk.toml").exists() else "run.toml")).read_text()
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("bus ="))
    (folder / "desk.toml").write_text(f'bus = "{url}"\n{text}')
    return folder / "desk.toml"


# A desk whose fills and marks come from topics, and a producer that feeds it whatever is killed meanwhile.

ACCOUNTS = tuple(f"client-{number}" for number in range(8))
LIMITS = [
    {"id": "gross", "scope": "account:*", "measure": "gross_notional", "warning": 500, "soft": 1000, "hard": 5000}
]
RULES = [
    {
        "id": "reduce",
        "when": {"limit": "gross", "level": "soft"},
        "commands": [{"kind": "REDUCE_ONLY", "target": "account"}],
        "cooldown_s": 1,
    }
]
PARTITIONS = 2


def write_kafka_desk(folder: Path, url: str, topic_settings: dict[str, str] | None = None, **top: object) -> Path:
    """Write a desk that follows the topics of `input_topics`, and make those, with some settings of their own."""
    reference = lines(instrument(), *(account(name) for name in ACCOUNTS))
    path = write_configuration(folder, {"reference.jsonl": reference}, LIMITS, RULES, shards=4, **top)
    topics = input_topics(url)
    text = path.read_text().replace("[inputs]\n", f"[inputs]\ntopics = {json.dumps(topics)}\n")
    path.write_text(f'bus = "{url}"\n{text}')
    admin = AdminClient({"bootstrap.servers": servers(url)})
    wanted = [NewTopic(name, PARTITIONS, -1, config=topic_settings or {}) for name in topics]
    for made in admin.create_topics(wanted).values():
        made.result(30)
    return path


def encoded_fill(name: str, at_us: int = 0) -> bytes:
    """Return a fill, of now where no time is given."""
    body = {"type": "fill", "event_time_us": at_us or time.time_ns() // 1000, "fill_id": name, "account": ACCOUNTS[0]}
    return json.dumps({**body, "instrument": "ETH-PERP", "side": "buy", "quantity": "0.5", "price": "100"}).encode()


def end_on_cluster(address: str, place: TopicPartition) -> int:
    """Return the cluster's own offset after all that stands in a partition."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "look", "log_level": 0})
    try:
        return consumer.get_watermark_offsets(place, timeout=30)[1]
    finally:
        consumer.close()


def input_topics(url: str) -> list[str]:
    """Return the names of the topics that a desk follows."""
    prefix = url.rpartition("/")[2]
    return [f"{prefix}-fills", f"{prefix}-prices"]


def servers(url: str) -> str:
    """Return the brokers that an address names."""
    return url.removeprefix("kafka://").partition("/")[0]


class Feed(threading.Thread):
    """Sends fills with ids of their own, marks, and now and then a record that nobody can read."""

    def __init__(self, url: str, per_second: int, seed: int = 1) -> None:
        super().__init__(name="feed")
        self._fills, self._prices = input_topics(url)
        self._per_second, self._rng = per_second, random.Random(seed)
        settings = {"enable.idempotence": True, "linger.ms": 5, "delivery.timeout.ms": 120_000, "log_level": 0}
        self._producer = Producer({"bootstrap.servers": servers(url), **settings})
        self._done = threading.Event()
        self.sent: list[str] = []
        self.bad = 0
        self.failed: list[KafkaError] = []

    def run(self) -> None:
        number = 0
        while not self._done.wait(0.05):
            for _ in range(max(1, self._per_second // 20)):
                number += 1
                self._send(number)
            self._producer.poll(0)
        assert self._producer.flush(120) == 0

    def finish(self) -> None:
        """Stop sending; return when everything is on the topics."""
        self._done.set()
        self.join()
        assert self.failed == []

    def _send(self, number: int) -> None:
        now, rng = time.time_ns() // 1000, self._rng
        body: Json = {"type": "fill", "event_time_us": now, "fill_id": f"f{number}", "account": rng.choice(ACCOUNTS)}
        body |= {"instrument": "ETH-PERP", "side": rng.choice(["buy", "sell"]), "quantity": "0.5", "price": "100"}
        partition = number % PARTITIONS
        self._produce(self._fills, json.dumps(body).encode(), partition)
        self.sent.append(body["fill_id"])
        price = f"{100 + rng.random():.2f}"
        mark = {"type": "mark", "event_time_us": now, "instrument": "ETH-PERP", "price": price}
        self._produce(self._prices, json.dumps(mark).encode(), partition)
        if number % 50 == 0:
            self.bad += 1
            self._produce(self._fills, b'{"type":"fill","fill_id":"poison-%d"' % number, partition)

    def _produce(self, topic: str, value: bytes, partition: int) -> None:
        self._producer.produce(topic, value, partition=partition, on_delivery=self._delivered)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.failed.append(error)


def journaled_fills(url: str, folder: Path) -> Counter[str]:
    """Return how often each fill stands in the journal."""
    bus, found = open_bus(url, folder), Counter[str]()
    try:
        for shard in bus.partitions("journal"):
            for stored in read_all(bus, "journal", shard):
                piece = decode_slice(stored.value)
                found.update(piece.fills.id if piece.fills is not None else ())
    finally:
        bus.close()
    return found


def undecided(url: str, folder: Path) -> int:
    """Return how many slices of the journal, as it stands, risk has not decided on yet."""
    bus = open_bus(url, folder)
    try:
        return sum(bus.end("journal", shard) - _decided(bus, shard) for shard in bus.partitions("journal"))
    finally:
        bus.close()


def _decided(bus: Bus, shard: int) -> int:
    end = bus.end("audit", shard)
    last = bus.read("audit", shard, end - 1, 1) if end else []
    return int(last[0].headers["seawall-id"].split("-")[1]) + 1 if last else 0


def rejected(url: str, folder: Path) -> Counter[str]:
    """Return how often each original stands among the rejects."""
    bus, found = open_bus(url, folder), Counter[str]()
    try:
        for partition in bus.partitions("rejects"):
            for stored in read_all(bus, "rejects", partition):
                found[msgspec.json.decode(stored.value)["original"]] += 1
    finally:
        bus.close()
    return found


BUS_TOPICS = {"journal": 2, "commands": 2, "acknowledgements": 1}


def open_kafka_bus(broker: Broker, folder: Path, url: str | None = None) -> Bus:
    bus = open_bus(url or broker.url("bus"), folder)
    cluster_of(bus).provide(BUS_TOPICS, make=True)
    return bus


def append_numbered(writer: Writer, topic: str, partition: int, count: int, size: int = 20) -> None:
    for _ in range(count):
        number = writer.end(topic, partition)
        headers = {"seawall-id": f"{partition}-{number}-0", "seawall-n": str(number)}
        value = b"%d" % number + random.Random(number).randbytes(size)  # which compression leaves as large
        writer.append(topic, partition, f"key-{number}", value, headers)


def flush_seen(bus: Bus, writer: Writer, *places: tuple[str, int]) -> None:
    """Flush, and wait until readers see it: a cluster shows a moment later what it says is committed."""
    writer.flush()
    for topic, partition in places:
        wait_for(lambda place=(topic, partition): bus.end(*place) >= writer.end(*place))


def bus_url(bus: Bus) -> str:
    """Return the address that a bus was opened with."""
    address = bus.address  # type: ignore[attr-defined]
    return f"kafka://{address.servers}/{address.prefix}"
