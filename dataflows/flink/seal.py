"""``seal`` on Flink: the audit keyed by partition, each the log that `seawall.dataflows.publishing` writes."""

from typing import Any

from pyflink.common import Types
from pyflink.datastream import DataStream

from seawall.connectors.keys import SEALERS
from seawall.connectors.signers import open_signer
from seawall.dataflows.flink.function import BYTES, Open, StepFunction
from seawall.dataflows.flink.placement import GROUPS, flink_key, partition_of
from seawall.dataflows.flink.risk import SHARD_AT
from seawall.dataflows.joins import load_joined
from seawall.dataflows.keeping import Keeper, Store, open_keeper
from seawall.dataflows.publishing import LogPublisher, open_log
from seawall.operators.core.keyed_risk import Taken
from seawall.operators.core.sealing import SealState, origin_of
from seawall.schemas.configuration import Configuration

ALL = b'"all"'


class SealStep:
    """The sealer of one partition, a record at a time."""

    def __init__(self, state: SealState) -> None:
        self._state = state
        self.snapshot = state.snapshot

    def step(self, value: bytes) -> Taken:
        """Take the partition's next audit record."""
        sealed = self._state.step([value])
        return Taken([sealed] if sealed.files or sealed.checkpoints else [], None, False)


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


def build(records: DataStream, path: str, configuration: Configuration) -> None:
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
    configuration = load_joined(path)  # a host of tasks has a file of its own
    signer = open_signer(configuration.sealer, configuration.directory, SEALERS)

    def make(partition: int) -> SealStep:
        origin = origin_of(configuration.issuer, configuration.environment, partition)
        return SealStep(SealState(origin, partition))

    def restore(data: bytes) -> SealStep:
        return SealStep(SealState.restore(data))

    def open_partition(partition: int, store: Store) -> Keeper:
        def open_sink(_: Any) -> LogFolderSink:
            return LogFolderSink(open_log(configuration, partition, signer, take=True))

        return open_keeper(store, lambda: make(partition), restore, open_sink)

    return open_partition
