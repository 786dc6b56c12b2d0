"""One key's state on an engine that keeps bytes, Flink: killed anywhere, the same topics."""

from collections import deque
from pathlib import Path

import pytest

from seawall.connectors.bus import KeptSnapshot, RecordWriter, written_topics
from seawall.connectors.bus._appending import PART_BYTES
from seawall.dataflows.flink import _key_routing
from seawall.dataflows.flink._changelog_state import ChangelogState, Step
from seawall.operators.core.base import pack
from seawall.operators.core.pipeline import FirmPipeline, Pipeline, ShardMessage, ShardPipeline, UnsignedCommands
from seawall.schemas.errors import InvariantError, SnapshotError
from seawall_testing import crisis
from seawall_testing.desk import sequence
from seawall_testing.pipeline import MemoryBus, journal_in_order

SHARDS = 2


class FakeStore:
    """What an engine's checkpoint holds for one key."""

    def __init__(self) -> None:
        self.snapshot: bytes | None = None
        self.values: list[bytes] = []

    def read(self) -> tuple[bytes | None, list[bytes]]:
        return self.snapshot, list(self.values)

    def put(self, snapshot: bytes) -> None:
        self.snapshot, self.values = snapshot, []

    def add(self, value: bytes) -> None:
        self.values.append(value)

    def copy(self) -> "FakeStore":
        other = FakeStore()
        other.snapshot, other.values = self.snapshot, list(self.values)
        return other


class LossySink:
    """Writes when told to, as a cluster does: what was not flushed is gone with the process."""

    def __init__(self, bus: MemoryBus, partition: int) -> None:
        topics = written_topics(partition, SHARDS)
        writer = bus.writer([(topic, partition) for topic in topics])
        self._writer = RecordWriter(bus, writer, topics, partition)
        self.flush, self.pump, self.close = self._writer.flush, self._writer.pump, self._writer.close

    def write(self, items: list[object]) -> None:
        for audited in items:
            self._writer.append(audited.records)


class Engine:
    """A toy engine of two steps: aligned checkpoints of stores, source places and what is between the steps."""

    def __init__(self, bus: MemoryBus, values: list[bytes], stores: list[FakeStore], at: int = 0) -> None:
        self.bus, self.values, self.at, self.stores = bus, values, at, stores
        self.keepers: dict[int, ChangelogState] = {}

    def keeper(self, partition: int) -> ChangelogState:
        if partition not in self.keepers:
            store = self.stores[partition]
            snapshot, tail = store.read()
            state: Step
            if partition == SHARDS:
                state = (
                    FirmPipeline(SHARDS, UnsignedCommands())
                    if snapshot is None
                    else FirmPipeline.restore(snapshot, UnsignedCommands())
                )
            elif snapshot is None:
                state = ShardPipeline(partition, UnsignedCommands())
            else:
                state = ShardPipeline.restore(snapshot, UnsignedCommands())
            keeper = self.keepers[partition] = ChangelogState(
                state, LossySink(self.bus, partition), store, 7, ShardMessage.decode if partition == SHARDS else bytes
            )
            keeper.resume(tail)
        return self.keepers[partition]

    def step(self) -> None:
        value = self.values[self.at]
        message = self.keeper(int(value[9:10])).take(value)
        if message is not None:
            self.keeper(SHARDS).take(message)
        self.at += 1

    def checkpoint(self) -> tuple[list[FakeStore], int]:
        return [store.copy() for store in self.stores], self.at


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("keeping")
    bus, path = MemoryBus(), crisis.write_crisis(folder, 4, per_second=12, shards=SHARDS)
    sequence(Path(path), bus)
    return journal_in_order(bus, SHARDS)


@pytest.fixture(scope="module")
def plain_records(values: list[bytes]) -> dict[tuple[str, int], list[bytes]]:
    found: dict[tuple[str, int], list[bytes]] = {}
    risk = Pipeline(SHARDS)
    for value in values:
        for audited in risk.step(value):
            for topic, records in audited.records.items():
                found.setdefault((topic, audited.moment.partition), []).extend(record.value for record in records)
    assert {"audit", "exposures", "state"} <= {topic for topic, _ in found}
    return {place: records for place, records in found.items() if records}


def written(bus: MemoryBus) -> dict[tuple[str, int], list[bytes]]:
    return {place: [stored.value for stored in records] for place, records in bus.records.items() if records}


def test_killed_after_every_value_and_restored_from_an_older_checkpoint_the_topics_are_those_of_one_run(
    values: list[bytes], plain_records: dict[tuple[str, int], list[bytes]]
) -> None:
    bus = MemoryBus()
    engine = Engine(bus, values, [FakeStore() for _ in range(SHARDS + 1)])
    checkpoints = deque([engine.checkpoint()], maxlen=4)
    killed = 0
    while engine.at < len(values):
        if killed < engine.at:  # each place is killed at once, from a checkpoint up to four values old
            stores, at = checkpoints[0]
            killed = engine.at
            engine = Engine(bus, values, [store.copy() for store in stores], at)
        engine.step()
        if engine.at > killed:
            checkpoints.append(engine.checkpoint())
    for keeper in engine.keepers.values():
        keeper.sink.flush()
    assert killed > 30
    assert written(bus) == plain_records


def test_the_end_of_a_bounded_run_is_durable_at_once(
    values: list[bytes], plain_records: dict[tuple[str, int], list[bytes]]
) -> None:
    bus = MemoryBus()
    engine = Engine(bus, values, [FakeStore() for _ in range(SHARDS + 1)])
    while engine.at < len(values):
        engine.step()
    assert written(bus) == plain_records


def test_a_second_operator_that_lost_its_state_stops(values: list[bytes]) -> None:
    engine = Engine(MemoryBus(), values, [FakeStore() for _ in range(SHARDS + 1)])
    for _ in range(len(values) // 2):
        engine.step()
    stores, at = engine.checkpoint()
    stores[SHARDS] = FakeStore()
    again = Engine(engine.bus, values, stores, at)
    with pytest.raises(SnapshotError, match="the second operator stands at slice -1 of shard"):
        while again.at < len(values):
            again.step()


def test_a_shard_that_lost_its_state_stops(values: list[bytes]) -> None:
    engine = Engine(MemoryBus(), values, [FakeStore() for _ in range(SHARDS + 1)])
    for _ in range(len(values) // 2):
        engine.step()
    stores, at = engine.checkpoint()
    again = Engine(engine.bus, values, [FakeStore(), FakeStore(), stores[SHARDS]], at)
    with pytest.raises(InvariantError, match="stands at slice -1 and was given"):
        again.step()


def test_states_of_one_moment_join_and_others_do_not(values: list[bytes]) -> None:
    engine = Engine(MemoryBus(), values, [FakeStore() for _ in range(SHARDS + 1)])
    for _ in range(len(values) // 2):
        engine.step()
    data = [engine.keeper(partition).state.snapshot() for partition in range(SHARDS + 1)]
    shards = [ShardPipeline.restore(one, UnsignedCommands()) for one in data[:SHARDS]]
    FirmPipeline.restore(data[SHARDS], UnsignedCommands()).check_aligned(shards)
    shards[0].told += 1
    with pytest.raises(InvariantError, match="the second operator has heard"):
        FirmPipeline.restore(data[SHARDS], UnsignedCommands()).check_aligned(shards)


def test_a_published_state_is_found_by_its_place_and_written_once() -> None:
    bus = MemoryBus()
    states = {5: b"small", 9: pack("large/1", {"body": bytes(range(256)) * (PART_BYTES // 100)}), 12: b"last"}
    for seq, data in states.items():
        KeptSnapshot(seq, data).publish(bus, 3)
        KeptSnapshot(seq, data).publish(bus, 3)
    assert bus.end("snapshots", 3) == 5
    newest = KeptSnapshot.latest(bus, 3)
    assert newest is not None and (newest.seq, newest.data) == (12, b"last")
    for seq, data in states.items():
        found = KeptSnapshot.latest(bus, 3, seq)
        assert found is not None and found.data == data
    assert KeptSnapshot.latest(bus, 3, 4) is None
    assert KeptSnapshot.latest(bus, 0) is None


def test_keys_spread_shards_evenly_over_the_subtasks_of_a_cluster() -> None:
    for shards, subtasks in ((4, 1), (4, 2), (4, 4), (8, 2), (8, 4), (8, 8), (64, 16)):
        keys = [_key_routing.flink_key(shard) for shard in range(shards)]
        assert [_key_routing.partition_of(key) for key in keys] == list(range(shards))
        load = [_key_routing.key_group(key) * subtasks // _key_routing.GROUPS for key in keys]
        assert [load.count(subtask) for subtask in range(subtasks)] == [shards // subtasks] * subtasks
