"""What `flink_throughput.py` asks of a broker: fills as single events, ends of topics, ages of audit records."""

import time

import orjson
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from risk_throughput import DECODE, SHARDS

from seawall.connectors.kafka.address import parse_address


def event_topics(address):
    """Make a topic of events and one of exposures; return their names."""
    names = [f"{kind}-{time.time_ns()}" for kind in ("events", "exposures")]
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.create_topics([NewTopic(name, SHARDS, 1) for name in names]).values():
        future.result()
    return names


def fill_events(producer, topic, live, events):
    """Produce the fills of slices, one record each."""
    made = 0
    while made < events:
        for shard, value in live:
            fills = DECODE(value).fills
            for account, instrument, quantity, price in zip(
                fills.account, fills.instrument, fills.quantity, fills.price, strict=True
            ):
                if made == events:
                    break
                fill = {"account": str(account), "instrument": instrument, "quantity": quantity, "price": price}
                producer.produce(topic, orjson.dumps(fill), partition=shard)
                made += 1
            producer.flush()


def ends(consumer, topic):
    """Return how many records a topic of plain records has."""
    marks = (consumer.get_watermark_offsets(TopicPartition(topic, k), timeout=30) for k in range(SHARDS))
    return sum(high for _, high in marks)


class Latency:
    """When slices were appended, and when a reader of committed records saw the last audit record of each."""

    def __init__(self, configuration, bus):
        address = parse_address(configuration.bus, configuration.directory)
        settings = {"bootstrap.servers": address.servers, "group.id": "ages", "isolation.level": "read_committed"}
        self._consumer = Consumer({**settings, "fetch.wait.max.ms": 5, "enable.auto.commit": False})
        topic = address.topic("audit")
        places = [TopicPartition(topic, k) for k in range(SHARDS)]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, timeout=30)[1]
        self._consumer.assign(places)
        self._appended, self._seen = {}, {}

    def appended(self, now, items):
        """Note that slices are appended now."""
        for shard, value in items:
            self._appended[shard, DECODE(value).seq] = now

    def poll_until(self, due):
        """Read until a moment."""
        while (left := due - time.monotonic()) > 0:
            message = self._consumer.poll(min(left, 0.05))
            if message is not None and message.error() is None:
                shard, seq = dict(message.headers())["seawall-id"].decode().split("-")[:2]
                self._seen[int(shard), int(seq)] = time.monotonic()

    def ages(self, seconds):
        """Read until every slice was seen or so long; return their ages in order."""
        deadline = time.monotonic() + seconds
        while self._appended.keys() - self._seen.keys() and time.monotonic() < deadline:
            self.poll_until(time.monotonic() + 0.1)
        self._consumer.close()
        missing = len(self._appended.keys() - self._seen.keys())
        if missing:
            raise RuntimeError(f"{missing} slices were not decided in {seconds} s")
        return sorted(self._seen[place] - now for place, now in self._appended.items())
