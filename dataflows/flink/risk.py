"""``risk`` on Flink: the journal keyed by shard, then the second operator on what the shards tell it."""

from typing import Any, NamedTuple

from pyflink.common import Types
from pyflink.datastream import DataStream

from seawall.connectors.appending import RecordWriter, check_outputs, written_topics
from seawall.connectors.bus import Bus, open_bus
from seawall.connectors.signatures import CommandSigner
from seawall.connectors.signers import open_signer
from seawall.connectors.snapshots import latest, publish
from seawall.connectors.trust import load_trust
from seawall.dataflows.flink.function import BYTES, Open, StepFunction
from seawall.dataflows.flink.placement import GROUPS, flink_key, partition_of
from seawall.dataflows.joins import load_joined
from seawall.dataflows.keeping import Keeper, Step, Store
from seawall.operators.core.keyed_risk import FirmRisk, ShardRisk
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import SnapshotError

SHARD_AT = len(b'{"shard":')


class Plan(NamedTuple):
    """What a job is told when it is submitted: the configuration, and the states on ``snapshots`` it begins with.

    ``begins`` holds the place of the state of each partition, the second operator's last; none: begin at the start.
    """

    path: str
    begins: tuple[int, ...] = ()


class RiskSink:
    """Writes the records of one partition of every topic, and on closing its state on ``snapshots``."""

    def __init__(self, bus: Bus, partition: int, last: int, state: Any) -> None:
        self._bus, self._partition, self._state = bus, partition, state
        topics = written_topics(partition, last)
        # Of a task that Flink cancelled nobody closes the writer: whoever runs now fences it.
        writer = bus.writer([(topic, partition) for topic in topics], take=True)
        self._writer = RecordWriter(bus, writer, topics, partition)
        self.flush, self.pump = self._writer.flush, self._writer.pump

    def write(self, items: list[Any]) -> None:
        """Take the records of some slices."""
        for audited in items:
            self._writer.append(audited.records)

    def close(self) -> None:
        """Make everything durable, tell the state, and let the partition go."""
        try:
            self._writer.flush()
            publish(self._bus, self._partition, self._state.seq, self._state.snapshot())
        finally:
            self._writer.close()


def shard_of(value: bytes) -> int:
    """Return the key of a journal value: its shard is its first field."""
    return flink_key(int(value[SHARD_AT : value.index(b",")]))


def build(slices: DataStream, plan: Plan, configuration: Configuration) -> None:
    """Wire both operators behind a stream of journal values."""
    shards = configuration.shards
    told = (
        slices.key_by(shard_of, key_type=Types.INT())
        .process(StepFunction(lambda: _shards(plan), partition_of), output_type=BYTES())
        .name("risk of shards")
        .uid("risk-shards")
        .set_max_parallelism(GROUPS)
    )
    (
        told.key_by(lambda _: shards, key_type=Types.INT())
        .process(StepFunction(lambda: _firm(plan), partition_of), output_type=BYTES())
        .name("risk of the firm")
        .uid("risk-firm")
        .set_parallelism(1)
        .set_max_parallelism(GROUPS)
    )


def _shards(plan: Plan) -> Open:
    """Return what opens the keeper of a shard."""
    configuration, bus, signer = _opened(plan)

    def restore(data: bytes) -> ShardRisk:
        return ShardRisk.restore(data, signer)

    def open_shard(shard: int, store: Store) -> Keeper:
        snapshot, values = store.read()
        begin = _begin(bus, plan, shard, store) if snapshot is None else snapshot
        state = ShardRisk(shard, signer) if begin is None else restore(begin)
        keeper = _Journaled(state, RiskSink(bus, shard, configuration.shards, state), store)
        _check(bus, shard, state.seq)
        keeper.resume(values)
        return keeper

    return open_shard


def _firm(plan: Plan) -> Open:
    """Return what opens the keeper of the second operator."""
    configuration, bus, signer = _opened(plan)

    def open_firm(_: int, store: Store) -> Keeper:
        shards = configuration.shards
        snapshot, values = store.read()
        begin = _begin(bus, plan, shards, store) if snapshot is None else snapshot
        state = FirmRisk(shards, signer) if begin is None else FirmRisk.restore(begin, signer)
        keeper = Keeper(state, RiskSink(bus, shards, shards, state), store)
        _check(bus, shards, state.seq)
        keeper.resume(values)
        return keeper

    return open_firm


class _Journaled(Keeper):
    """Of a state that began on ``snapshots``, the slices that it has already are left out."""

    def take(self, value: bytes) -> bytes | None:
        state: Step = self.state
        assert isinstance(state, ShardRisk)
        if self.is_fresh and ShardRisk.place(value) <= state.seq:
            return None
        return super().take(value)


def _opened(plan: Plan) -> tuple[Configuration, Bus, CommandSigner]:
    configuration = load_joined(plan.path)  # a host of tasks has a file of its own
    base = configuration.directory
    bus = open_bus(configuration.bus, base)
    return (
        configuration,
        bus,
        CommandSigner(open_signer(configuration.signer, base), bus, load_trust(configuration).issuers),
    )


def _begin(bus: Bus, plan: Plan, partition: int, store: Store) -> bytes | None:
    """Keep and return the state that a job begins with, None where it begins at the start of the journal.

    Raises
    ------
    SnapshotError
        The state that was there when the job was submitted is there no more.
    """
    if not plan.begins:
        return None
    found = latest(bus, partition, plan.begins[partition])
    if found is None:
        text = f"snapshots/{partition} has no state at {plan.begins[partition]}, with which the job began"
        raise SnapshotError(f"{text}: submit the job again")
    store.put(found.data)
    return found.data


def _check(bus: Bus, partition: int, seq: int) -> None:
    """Hold a state against what stands: outputs that it has written and that are gone stop it."""
    if seq >= 0:
        check_outputs(bus, partition, seq + 1)
