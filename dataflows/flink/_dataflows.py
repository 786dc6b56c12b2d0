"""Adapter for Flink: any keyed step as a ``KeyedProcessFunction`` whose state is bytes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pyflink.common import Types
from pyflink.datastream import DataStream, KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, ValueStateDescriptor

from seawall.connectors.bus import Bus, KeptSnapshot, RecordWriter, check_outputs_stored, open_bus, written_topics
from seawall.connectors.keys import SEALER_KEYS_FILE, Trust, open_signer
from seawall.connectors.signatures import CommandSigner
from seawall.dataflows._journal import load_compatible
from seawall.dataflows._log_publishing import LogPublisher
from seawall.dataflows.flink._changelog_state import ChangelogState, Step, Store, open_changelog_state
from seawall.dataflows.flink._key_routing import GROUPS, flink_key, partition_of
from seawall.operators.core.audit import SealState, origin_of
from seawall.operators.core.pipeline import FirmPipeline, ShardMessage, ShardPipeline, StepResult
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import SnapshotError

# The coat for Flink: any keyed step as a ``KeyedProcessFunction`` whose state is bytes.
#
# PyFlink tells a function neither of checkpoints nor of restores, so all that a new process needs is in Flink's state
# after every value (`seawall.dataflows.flink._changelog_state`): one value state with the last snapshot, one list state
# with the values since. The live state, with its arrays, stays in this object; a failure makes a new one.
#
# A timer of processing time sends on what waits for the transaction before it, so that records leave at once when
# values come seldom, and many in one transaction when they come fast. It decides nothing: what is written depends on
# the values.

PUMP_MS = 4
BYTES = Types.PICKLED_BYTE_ARRAY  # a value state of plain bytes cannot be read before it was written

Open = Callable[[int, Store], ChangelogState]


class FlinkStore:
    """The state of whichever key Flink is at: a snapshot, and the values after it."""

    def __init__(self, context: RuntimeContext) -> None:
        self._snapshot = context.get_state(ValueStateDescriptor("snapshot", BYTES()))
        self._tail = context.get_list_state(ListStateDescriptor("tail", BYTES()))

    def read(self) -> tuple[bytes | None, Iterable[bytes]]:
        """Return the last snapshot, if any, and the values since."""
        return self._snapshot.value(), list(self._tail.get() or ())

    def put(self, snapshot: bytes) -> None:
        """Keep a snapshot and forget the values before it."""
        self._snapshot.update(snapshot)
        self._tail.clear()

    def add(self, value: bytes) -> None:
        """Keep one more value."""
        self._tail.add(value)


class StepFunction(KeyedProcessFunction):
    """Runs one step per key; what it tells the next step comes out as bytes.

    Parameters
    ----------
    prepare
        Called where the function runs; returns what opens the keeper of a partition.
    partition_of
        The partition of a key.
    """

    def __init__(self, prepare: Callable[[], Open], partition_of: Callable[[int], int]) -> None:
        self._prepare, self._partition_of = prepare, partition_of

    def open(self, runtime_context: RuntimeContext) -> None:
        """Find the state, and what opens keepers; they open with their key's first value or timer."""
        self._store = FlinkStore(runtime_context)
        self._open = self._prepare()
        self._keepers: dict[int, ChangelogState] = {}
        self._timed: set[int] = set()

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        """Take one value."""
        key = ctx.get_current_key()
        keeper = self._keepers.get(key) or self._resume(key)
        message = keeper.take(value)
        self._pump(key, keeper, ctx)
        if message is not None:
            yield message

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        """Send on what waited; after a restore, take again what was taken and make its outputs durable."""
        key = ctx.get_current_key()
        self._timed.discard(key)
        self._pump(key, self._keepers.get(key) or self._resume(key), ctx)
        return iter(())

    def close(self) -> None:
        """Make everything durable and let the partitions go."""
        for keeper in getattr(self, "_keepers", {}).values():
            keeper.close()

    def _resume(self, key: int) -> ChangelogState:
        keeper = self._keepers[key] = self._open(self._partition_of(key), self._store)
        return keeper

    def _pump(self, key: int, keeper: ChangelogState, ctx: KeyedProcessFunction.Context) -> None:
        if keeper.sink.pump() and key not in self._timed:
            timers = ctx.timer_service()
            timers.register_processing_time_timer(timers.current_processing_time() + PUMP_MS)
            self._timed.add(key)


# Dataflows on Flink: ``risk`` and ``seal``, as steps on keyed streams.
#
# ``risk`` keys the journal by shard and gives what the shards say to the firm step. ``seal`` keys the audit by
# partition; each partition is one log, published as on Bytewax.

# ``risk`` on Flink: the journal keyed by shard, then the second operator on what the shards tell it.

SHARD_AT = len(b'{"shard":')


class Plan(NamedTuple):
    """Plan of a job, given when it is submitted: the configuration, and the states on ``snapshots`` it begins with.

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
            KeptSnapshot(self._state.seq, self._state.snapshot()).publish(self._bus, self._partition)
        finally:
            self._writer.close()


def shard_of(value: bytes) -> int:
    """Return the key of a journal value: its shard is its first field."""
    return flink_key(int(value[SHARD_AT : value.index(b",")]))


def build_risk(slices: DataStream, plan: Plan, configuration: Configuration) -> None:
    """Wire both operators behind a stream of journal values."""
    shards = configuration.shards
    reported = (
        slices.key_by(shard_of, key_type=Types.INT())
        .process(StepFunction(lambda: _shards(plan), partition_of), output_type=BYTES())
        .name("risk of shards")
        .uid("risk-shards")
        .set_max_parallelism(GROUPS)
    )
    (
        reported.key_by(lambda _: shards, key_type=Types.INT())
        .process(StepFunction(lambda: _firm(plan), partition_of), output_type=BYTES())
        .name("risk of the firm")
        .uid("risk-firm")
        .set_parallelism(1)
        .set_max_parallelism(GROUPS)
    )


def _shards(plan: Plan) -> Open:
    """Return what opens the keeper of a shard."""
    configuration, bus, signer = _opened(plan)

    def restore(data: bytes) -> ShardPipeline:
        return ShardPipeline.restore(data, signer)

    def open_shard(shard: int, store: Store) -> ChangelogState:
        snapshot, values = store.read()
        begin = _begin(bus, plan, shard, store) if snapshot is None else snapshot
        state = ShardPipeline(shard, signer) if begin is None else restore(begin)
        keeper = _Journaled(state, RiskSink(bus, shard, configuration.shards, state), store)
        _check(bus, shard, state.seq)
        keeper.resume(values)
        return keeper

    return open_shard


def _firm(plan: Plan) -> Open:
    """Return what opens the keeper of the second operator."""
    configuration, bus, signer = _opened(plan)

    def open_firm(_: int, store: Store) -> ChangelogState:
        shards = configuration.shards
        snapshot, values = store.read()
        begin = _begin(bus, plan, shards, store) if snapshot is None else snapshot
        state = FirmPipeline(shards, signer) if begin is None else FirmPipeline.restore(begin, signer)
        keeper = ChangelogState(state, RiskSink(bus, shards, shards, state), store, read=ShardMessage.decode)
        _check(bus, shards, state.seq)
        keeper.resume(values)
        return keeper

    return open_firm


class _Journaled(ChangelogState):
    """Of a state that began on ``snapshots``, the slices that it has already are left out."""

    def take(self, value: bytes) -> bytes | None:
        state: Step = self.state
        assert isinstance(state, ShardPipeline)
        if self.is_fresh and ShardPipeline.place(value) <= state.seq:
            return None
        return super().take(value)


def _opened(plan: Plan) -> tuple[Configuration, Bus, CommandSigner]:
    configuration = load_compatible(plan.path)  # a host of tasks has a file of its own
    base = configuration.directory
    bus = open_bus(configuration.bus, base)
    return (
        configuration,
        bus,
        CommandSigner(open_signer(configuration.signer, base), bus, Trust.load(configuration).issuers),
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
    found = KeptSnapshot.latest(bus, partition, plan.begins[partition])
    if found is None:
        text = f"snapshots/{partition} has no state at {plan.begins[partition]}, with which the job began"
        raise SnapshotError(f"{text}: submit the job again")
    store.put(found.data)
    return found.data


def _check(bus: Bus, partition: int, seq: int) -> None:
    """Hold a state against what stands: outputs that it has written and that are gone stop it."""
    if seq >= 0:
        check_outputs_stored(bus, partition, seq + 1)


# ``seal`` on Flink: the audit keyed by partition, each the log that `seawall.dataflows._log_publishing` writes.

ALL = b'"all"'


class SealStep:
    """The sealer of one partition, a record at a time."""

    def __init__(self, state: SealState) -> None:
        self._state = state
        self.snapshot = state.snapshot

    def step(self, value: bytes) -> StepResult:
        """Take the partition's next audit record."""
        sealed = self._state.step([value])
        return StepResult([sealed] if sealed.files or sealed.checkpoints else [], None, False)


class LogFolderSink:
    """Publishes what a sealer gives, at once."""

    def __init__(self, publisher: LogPublisher) -> None:
        self.write, self.close = publisher.publish, publisher.close

    def pump(self) -> bool:
        """Return False: everything taken is durable."""
        return False

    def flush(self) -> None:
        """Do nothing: everything taken is durable."""


def partition_key(value: bytes, shards: int) -> int:
    """Return the key of an audit record: its shard is its first field, ``all`` is the partition after the shards'."""
    shard = value[SHARD_AT : value.index(b",")]
    return flink_key(shards if shard == ALL else int(shard))


def build_seal(records: DataStream, path: str, configuration: Configuration) -> None:
    """Wire the sealer behind a stream of audit records."""
    shards = configuration.shards
    (
        records.key_by(lambda value: partition_key(value, shards), key_type=Types.INT())
        .process(StepFunction(lambda: _logs(path), partition_of), output_type=BYTES())
        .name("seal")
        .uid("seal")
        .set_max_parallelism(GROUPS)
    )


def _logs(path: str) -> Open:
    """Return what opens the keeper of a log."""
    configuration = load_compatible(path)  # a host of tasks has a file of its own
    signer = open_signer(configuration.sealer, configuration.directory, SEALER_KEYS_FILE)

    def make(partition: int) -> SealStep:
        origin = origin_of(configuration.issuer, configuration.environment, partition)
        return SealStep(SealState(origin, partition))

    def restore(data: bytes) -> SealStep:
        return SealStep(SealState.restore(data))

    def open_partition(partition: int, store: Store) -> ChangelogState:
        def open_sink(_: Any) -> LogFolderSink:
            return LogFolderSink(LogPublisher.open(configuration, partition, signer, take=True))

        return open_changelog_state(store, lambda: make(partition), restore, open_sink)

    return open_partition
