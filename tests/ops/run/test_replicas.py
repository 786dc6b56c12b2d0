"""Hot replicas on live topics: who is killed or hangs is replaced; nothing is missing, nothing twice."""

import base64
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seawall.connectors.bus import Bus, Patience, Replica, Unclustered, open_bus
from seawall.connectors.bus._replica import ReplicaPartition
from seawall.ops.run._standby import wait_to_seal
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import Divergence, PartitionLocked
from seawall.schemas.records import Record, Stored
from seawall.schemas.transparency import Checkpoint
from seawall_testing.clusters import kafka_broker
from seawall_testing.clusters.kafka_broker import Broker
from seawall_testing.command_line import CLI, seawall
from seawall_testing.desk import account, instrument, lines
from seawall_testing.live_runs import EmbeddedFeed
from seawall_testing.pipeline import MemoryBus, write_configuration

WAIT_S = 120.0
TOPICS = ("desk-fills", "desk-prices")


class Process:
    """One replica of everything but ``market``."""

    def __init__(self, path: Path, name: str, *options: str) -> None:
        self.name = name
        self.errors = path.with_name(f"{name}.err").open("ab+")
        parts = ["--only", "sequence", "--only", "risk", "--only", "seal", "--replica", name, *options]
        self.process = subprocess.Popen(
            [*CLI, "run", str(path), *parts], stdout=subprocess.DEVNULL, stderr=self.errors, start_new_session=True
        )

    def said(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def until(what: Callable[[], bool], *processes: Process) -> None:
    """Wait until something holds; say what the processes said where it does not come."""
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, "\n".join(f"{one.name}: {one.said()}" for one in processes)
        time.sleep(0.05)


def decided(bus: Bus) -> int:
    return sum(bus.end("audit", partition) for partition in bus.partitions("audit"))


def check_everything_once(path: Path, url: str, feed: kafka_broker.Feed) -> None:
    """Every fill once in the journal, every record as the journal gives it."""
    found = kafka_broker.journaled_fills(url, path.parent)
    assert set(found) == set(feed.sent) and set(found.values()) == {1}
    for command in ("verify", "replay"):
        done = seawall(command, path)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert len(feed.sent) > 200


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[tuple[Path, Bus, EmbeddedFeed]]:
    """A desk that follows topics of the embedded bus, which are being written."""
    reference = lines(instrument(), *(account(name) for name in kafka_broker.ACCOUNTS))
    inputs = {"reference.jsonl": reference}
    path = write_configuration(tmp_path / "run", inputs, kafka_broker.LIMITS, kafka_broker.RULES, shards=2)
    path.write_text(path.read_text().replace("[inputs]\n", f"[inputs]\ntopics = {json.dumps(TOPICS)}\n"))
    assert seawall("keys", "new", path.parent / "keys/dev.pem").returncode in (0, 2)
    bus = open_bus("sqlite:seawall.db", path.parent)
    feed = EmbeddedFeed(bus, TOPICS, per_second=100)
    feed.start()
    yield path, bus, feed
    feed.finish()
    bus.close()


@pytest.mark.soak
def test_a_replica_takes_over_from_a_killed_one_and_nothing_is_missing_or_twice(
    embedded: tuple[Path, Bus, EmbeddedFeed],
) -> None:
    path, bus, feed = embedded
    holder = Process(path, "a")
    until(lambda: decided(bus) > 0, holder)
    standby = Process(path, "b")
    names = iter("cdef")
    try:
        for _ in range(3):
            until_followed(path, standby)
            holder.kill()
            until_decided(bus, decided(bus) + 20, standby)
            holder, standby = standby, Process(path, next(names))
        until_followed(path, standby)
        feed.finish()
        sent = len(feed.sent)
        until(lambda: kafka_broker.journaled_fills("sqlite:seawall.db", path.parent).total() == sent, holder)
        for one in (standby, holder):
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(WAIT_S) == 0, one.said()
    finally:
        for one in (standby, holder):
            one.kill()
    assert "appends to partition 0 from now on" in holder.said()
    assert "cuts the journal from now on" in holder.said()
    check_everything_once(path, "sqlite:seawall.db", feed)


def until_followed(path: Path, replica: Process) -> None:
    """Wait until a replica has computed something and kept it."""
    store = path.with_name(f"recovery-{replica.name}") / "part-0.sqlite3"
    until(lambda: store.exists() and store.stat().st_size > 100_000, replica)


def holds_all(replica: Process) -> bool:
    """Tell whether a replica appends to every partition: of four shards, and of the firm."""
    return all(f"appends to partition {partition} " in replica.said() for partition in range(5))


def until_decided(bus: Bus, records: int, replica: Process) -> None:
    until(lambda: decided(bus) > records, replica)


@pytest.mark.kafka
def test_on_a_cluster_one_that_hangs_is_displaced_and_writes_nothing_when_it_wakes(
    broker: Broker, tmp_path: Path
) -> None:
    url = broker.url("replicas")
    path = kafka_broker.write_kafka_desk(tmp_path / "run", url)
    bus = open_bus(url, path.parent)
    feed = kafka_broker.Feed(url, per_second=100)
    feed.start()
    holder = Process(path, "a", "--takeover-s", "1")
    try:
        until(lambda: decided(bus) > 0, holder)
        standby = Process(path, "b", "--takeover-s", "1")
        until_followed(path, standby)
        holder.process.send_signal(signal.SIGSTOP)
        until_decided(bus, decided(bus) + 20, standby)
        holder.process.send_signal(signal.SIGCONT)
        assert holder.process.wait(WAIT_S) == 2, holder.said()
        feed.finish()
        sent = len(feed.sent)
        until(lambda: kafka_broker.journaled_fills(url, path.parent).total() == sent, standby)
        until(lambda: holds_all(standby), standby)
        standby.process.send_signal(signal.SIGTERM)
        assert standby.process.wait(WAIT_S) == 0, standby.said()
    finally:
        feed.finish()
        holder.kill()
        standby.kill()
        bus.close()
    check_everything_once(path, url, feed)


@pytest.mark.kafka
def test_on_a_cluster_the_last_replica_ends_only_once_it_has_sealed_what_a_killed_one_left(
    broker: Broker, tmp_path: Path
) -> None:
    url = broker.url("replicas")
    path = kafka_broker.write_kafka_desk(tmp_path / "run", url)
    bus = open_bus(url, path.parent)
    feed = kafka_broker.Feed(url, per_second=100)
    feed.start()
    holder = Process(path, "a", "--takeover-s", "1")
    try:
        until(lambda: decided(bus) > 0, holder)
        standby = Process(path, "b", "--takeover-s", "1")
        until_followed(path, standby)
        until(lambda: len(feed.sent) > 200, holder)
        feed.finish()
        sent = len(feed.sent)
        until(lambda: kafka_broker.journaled_fills(url, path.parent).total() == sent, holder)
        holder.kill()
        standby.process.send_signal(signal.SIGTERM)
        assert standby.process.wait(WAIT_S) == 0, standby.said()
    finally:
        feed.finish()
        holder.kill()
        standby.kill()
        bus.close()
    check_everything_once(path, url, feed)


# --- who waits to seal ------------------------------------------------------------------------------------------------


class Unsealed(Unclustered, MemoryBus):
    """A bus that fences, with audit records of which ``sealed`` are, and more with every look."""

    fences = True

    def __init__(self, sealed: int, each: int) -> None:
        MemoryBus.__init__(self)
        Unclustered.__init__(self, self)
        self.sealed, self.each = sealed, each

    def end(self, topic: str, partition: int) -> int:
        return {"audit": 10, "checkpoints": int(self.sealed > 0)}[topic] if partition == 0 else 0

    def read(self, topic: str, *_: int) -> list[Stored]:  # type: ignore[override]
        self.sealed = min(10, self.sealed + self.each)
        text = Checkpoint("o", self.sealed, bytes(32)).text()
        return [Stored(0, "", {}, f"{text}\n\u2014 o {base64.b64encode(bytes(68)).decode()}\n".encode())]


@pytest.mark.parametrize(
    ("sealed", "each", "finished", "stopped", "seals"),
    [
        pytest.param(10, 0, True, False, False, id="all is sealed"),
        pytest.param(4, 1, True, False, False, id="somebody seals it"),
        pytest.param(4, 0, True, False, True, id="nobody seals what the last one audited"),
        pytest.param(4, 0, True, True, False, id="it failed"),
        pytest.param(4, 0, False, False, True, id="nobody seals while it runs"),
    ],
)
def test_a_replica_ends_once_what_stands_is_sealed_by_whomever(
    tmp_path: Path, sealed: int, each: int, finished: bool, stopped: bool, seals: bool
) -> None:
    configuration = load_configuration(
        write_configuration(tmp_path / "run", {"reference.jsonl": b""}, [], [], shards=1)
    )
    replica = Replica("b", 0.1, lambda: True)
    assert wait_to_seal(configuration, Unsealed(sealed, each), replica, lambda: finished, lambda: stopped) == seals


# --- the follower alone -----------------------------------------------------------------------------------------------


class Bundle:
    def __init__(self, seq: int, value: bytes) -> None:
        self.records = {
            "audit": [Record("0", value, f"0-{seq}-0", seq)],
            "alerts": [Record("0", b"alert %d" % seq, f"0-{seq}-0", seq)],
        }


class Sink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.taken: list[Bundle] = []

    def write_batch(self, items: list[Bundle]) -> None:
        self.taken += items

    def snapshot(self) -> None:
        pass

    def close(self) -> None:
        pass


class HeldBus(MemoryBus):
    """A bus whose partitions somebody else writes, until ``free``."""

    free = False

    def writer(self, partitions, take=False):  # type: ignore[no-untyped-def]
        if not self.free:
            raise PartitionLocked("held")
        return super().writer(partitions)


def follower(bus: MemoryBus, stopped: bool = False) -> tuple[ReplicaPartition, Sink]:
    sink, replica = Sink(), Replica("b", 0.0, lambda: stopped)
    return ReplicaPartition(bus, [("alerts", 0), ("audit", 0)], lambda writer: sink, replica), sink


def append(bus: MemoryBus, bundle: Bundle) -> None:
    writer = MemoryBus.writer(bus, [("audit", 0), ("alerts", 0)])
    for topic, records in bundle.records.items():
        for record in records:
            writer.append(topic, 0, record.key, record.value, record.headers())
    writer.flush()


def test_a_follower_that_computed_something_else_than_the_holder_stops_and_names_both() -> None:
    bus = HeldBus()
    one, sink = follower(bus)
    append(bus, Bundle(0, b"what the holder says"))
    with pytest.raises(Divergence, match=r"audit/0 offset 0 holds 0-0-0, which is not what replica b computed"):
        one.write_batch([Bundle(0, b"what the follower says")])
    assert sink.taken == []


def test_a_follower_leaves_out_what_the_holder_appends_while_it_is_displaced() -> None:
    late = Bundle(0, b"slice 0")

    class Displaced(MemoryBus):
        def writer(self, partitions, take=False):  # type: ignore[no-untyped-def]
            append(self, late)
            return super().writer(partitions)

    one, sink = follower(Displaced())
    time.sleep(0.03)
    one.write_batch([late, Bundle(1, b"slice 1")])
    assert [bundle.records["audit"][0].n for bundle in sink.taken] == [1]


def test_a_follower_appends_only_what_the_holder_left_out() -> None:
    bus = HeldBus()
    one, sink = follower(bus)
    bundles = [Bundle(seq, b"slice %d" % seq) for seq in range(6)]
    one.write_batch(bundles[:2])
    for bundle in bundles[:4]:
        append(bus, bundle)
    one.write_batch(bundles[2:5])
    assert sink.taken == []
    bus.free = True
    time.sleep(0.03)
    one.write_batch(bundles[5:])
    assert sink.taken == bundles[4:]


def test_a_follower_that_is_behind_catches_up_by_comparing() -> None:
    bus = HeldBus()
    one, sink = follower(bus)
    bundles = [Bundle(seq, b"slice %d" % seq) for seq in range(40)]
    for bundle in bundles:
        append(bus, bundle)
    for bundle in bundles:
        one.write_batch([bundle])
    one.snapshot()
    assert sink.taken == []


def test_patience_ends_only_while_somebody_looks_on() -> None:
    now = [0.0]
    patience = Patience(2.0, lambda: now[0])
    now[0] = 60.0  # this process was stopped: what the others did meanwhile was not seen
    assert not patience.ends()
    for now[0] in (60.5, 61.0):
        assert not patience.ends()
    now[0] = 61.5
    assert patience.ends()
    patience.begin()
    assert [patience.ends() for now[0] in (70.0, 80.0, 90.0, 100.0)] == [False, False, False, True]


def test_a_follower_that_is_stopped_appends_what_a_holder_that_is_gone_left_out() -> None:
    bus = HeldBus()
    one, sink = follower(bus, stopped=True)
    bundles = [Bundle(seq, b"slice %d" % seq) for seq in range(3)]
    one.write_batch(bundles)
    bus.free = True
    one.snapshot()
    assert sink.taken == bundles
