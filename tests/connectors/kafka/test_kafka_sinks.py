"""What the engine's own Kafka sink loses without a word when the broker does not answer, and what ours does instead.

One flow, one outage: the broker is killed after half of the records. The stock sink's records time out, nobody is told,
and the run ends well with records missing. Ours waits the outage out, or stops with an error and gives the rest when it
runs again. A broker that only stands still would not do for the first: what already lies in its socket is written when
it goes on, even though the sink had given it up.
"""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.testing import run_main
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from seawall.connectors.bus import cluster_of, open_bus, sink
from seawall.ops.kafka.cluster import Cluster
from seawall.schemas.errors import BusError, SeawallError
from seawall.schemas.records import Record
from seawall_testing.clusters.kafka_broker import Broker

pytestmark = pytest.mark.kafka
RECORDS, BATCH = 200, 20


class Numbers(DynamicSource[int]):
    """Numbers in batches; ``halfway`` is called before the second half."""

    def __init__(self, halfway: Any) -> None:
        self._halfway = halfway

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Numbers":
        return _Numbers(self._halfway)


class _Numbers(StatelessSourcePartition[int]):
    def __init__(self, halfway: Any) -> None:
        self._halfway, self._next = halfway, 0

    def next_batch(self) -> list[int]:
        if self._next == RECORDS // 2:
            self._halfway()
        if self._next == RECORDS:
            raise StopIteration
        self._next += BATCH
        return list(range(self._next - BATCH, self._next))


def outage(cluster: Cluster, seconds: float, killed: bool = True) -> Any:
    """Return a step that kills the broker, or stops it where it stands, and brings it back after a while."""

    def begin() -> None:
        (cluster.kill if killed else cluster.pause)()
        threading.Timer(seconds, cluster.start if killed else cluster.resume).start()

    return begin


def stock_flow(address: str, topic: str, halfway: Any) -> Dataflow:
    flow = Dataflow("stock")
    numbers = op.input("numbers", flow, Numbers(halfway))
    messages = op.map("message", numbers, lambda number: KafkaSinkMessage(key=None, value=b"%d" % number))
    op.output("out", messages, KafkaSink([address], topic, add_config={"message.timeout.ms": "1000"}))
    return flow


def our_flow(url: str, base: Path, halfway: Any) -> Dataflow:
    flow = Dataflow("ours")
    numbers = op.input("numbers", flow, Numbers(halfway))
    records = op.map("record", numbers, lambda n: ("0", [Record("k", b"%d" % n, f"0-{n}-0", n)]))
    op.output("out", records, sink_at(url, base))
    return flow


def sink_at(url: str, base: Path) -> Any:
    from seawall.connectors.bus import RecordSink

    assert sink(url, "commands", 1).__class__ is RecordSink
    return RecordSink(url, "commands", 1, base)


def stored(address: str, topic: str) -> list[bytes]:
    """Return the values of a topic as any consumer finds them."""
    settings = {"bootstrap.servers": address, "group.id": "look", "enable.partition.eof": True}
    consumer = Consumer({**settings, "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    return list(_until_end(consumer))


def _until_end(consumer: Consumer) -> Iterator[bytes]:
    while True:
        message = consumer.poll(20)
        assert message is not None
        if message.error():
            consumer.close()
            return
        yield message.value()


@pytest.fixture
def topic(broker: Broker) -> str:
    name = broker.url("stock").rpartition("/")[2]
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    return name


def test_the_stock_sink_loses_records_in_an_outage_and_the_run_ends_well(broker: Broker, topic: str) -> None:
    cluster = broker.own()
    run_main(stock_flow(broker.address, topic, cluster.kill))
    cluster.start()
    found = stored(broker.address, topic)
    assert len(set(found)) < RECORDS, "the stock sink lost nothing: this test no longer shows what it is for"


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stands still"])
def test_our_sink_waits_the_same_outage_out_and_loses_nothing(broker: Broker, tmp_path: Path, killed: bool) -> None:
    url = broker.url("ours")
    cluster_of(open_bus(url, tmp_path)).provide({"commands": 1}, make=True)
    run_main(our_flow(url, tmp_path, outage(broker.own(), 4, killed)))
    wait_for_broker(broker)
    assert stored(broker.address, f"{url.rpartition('/')[2]}.commands") == [b"%d" % n for n in range(RECORDS)]


def test_our_sink_stops_with_an_error_when_the_outage_is_longer_than_configured_and_another_run_gives_the_rest(
    broker: Broker, tmp_path: Path
) -> None:
    (tmp_path / "short.toml").write_text("[kafka]\noutage_s = 5\n")
    url = broker.url("short")
    short = f"{url}?settings=short.toml"
    cluster_of(open_bus(url, tmp_path)).provide({"commands": 1}, make=True)
    with pytest.raises(Exception) as failure:
        run_main(our_flow(short, tmp_path, outage(broker.own(), 12, killed=False)), epoch_interval=timedelta(seconds=1))
    assert isinstance(cause(failure.value), BusError)
    wait_for_broker(broker)
    run_main(our_flow(url, tmp_path, lambda: None))  # it waits as long as usual: the broker may take a while to settle
    assert stored(broker.address, f"{url.rpartition('/')[2]}.commands") == [b"%d" % n for n in range(RECORDS)]


def cause(error: BaseException | None) -> SeawallError | None:
    """Return our error behind one that the engine raised."""
    while error is not None and not isinstance(error, SeawallError):
        error = error.__cause__ or error.__context__
    return error


def wait_for_broker(broker: Broker) -> None:
    """Wait until the broker answers again."""
    admin, deadline = AdminClient({"bootstrap.servers": broker.address}), time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            admin.list_topics(timeout=5)
            return
        except Exception:
            time.sleep(0.2)
    raise AssertionError("the broker does not come back")
