"""Bus: partitioned, append-only topics, on SQLite or Kafka, and their Bytewax source and sink.

`open_bus` opens the bus that a URL names; `source` and `sink` wire it into a dataflow. Names are loaded when they are
asked for: whoever only reads a bus needs neither Bytewax nor librdkafka.
"""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.connectors.bus._appending import DERIVED as DERIVED
    from seawall.connectors.bus._appending import SNAPSHOTS_TOPIC as SNAPSHOTS_TOPIC
    from seawall.connectors.bus._appending import KeptSnapshot as KeptSnapshot
    from seawall.connectors.bus._appending import RecordWriter as RecordWriter
    from seawall.connectors.bus._appending import check_outputs_stored as check_outputs_stored
    from seawall.connectors.bus._appending import decided_slices as decided_slices
    from seawall.connectors.bus._appending import latest_snapshot as latest_snapshot
    from seawall.connectors.bus._appending import publish_snapshot as publish_snapshot
    from seawall.connectors.bus._appending import written_topics as written_topics
    from seawall.connectors.bus._backup import BackupBus as BackupBus
    from seawall.connectors.bus._backup import BackupStore as BackupStore
    from seawall.connectors.bus._backup import lock_backup as lock_backup
    from seawall.connectors.bus._clusters import Cluster as Cluster
    from seawall.connectors.bus._clusters import Unclustered as Unclustered
    from seawall.connectors.bus._clusters import cluster_of as cluster_of
    from seawall.connectors.bus._clusters import skip_foreign_records as skip_foreign_records
    from seawall.connectors.bus._engine import engine_key as engine_key
    from seawall.connectors.bus._engine import failures as failures
    from seawall.connectors.bus._engine import is_recovery_sound as is_recovery_sound
    from seawall.connectors.bus._engine import noting_failures as noting_failures
    from seawall.connectors.bus._engine import open_recovery as open_recovery
    from seawall.connectors.bus._engine import own_error as own_error
    from seawall.connectors.bus._engine import recovery_store_error as recovery_store_error
    from seawall.connectors.bus._engine import set_recovery_aside as set_recovery_aside
    from seawall.connectors.bus._factory import open_bus as open_bus
    from seawall.connectors.bus._journal_source import POLL as POLL
    from seawall.connectors.bus._journal_source import JournalSource as JournalSource
    from seawall.connectors.bus._journal_source import source as source
    from seawall.connectors.bus._protocol import ANY_PARTITIONS as ANY_PARTITIONS
    from seawall.connectors.bus._protocol import READ_BYTES_MAX as READ_BYTES_MAX
    from seawall.connectors.bus._protocol import READ_RECORDS_MAX as READ_RECORDS_MAX
    from seawall.connectors.bus._protocol import TOPICS as TOPICS
    from seawall.connectors.bus._protocol import Bus as Bus
    from seawall.connectors.bus._protocol import Follower as Follower
    from seawall.connectors.bus._protocol import ReadingFollower as ReadingFollower
    from seawall.connectors.bus._protocol import Writer as Writer
    from seawall.connectors.bus._protocol import headers_by_name as headers_by_name
    from seawall.connectors.bus._protocol import read_all as read_all
    from seawall.connectors.bus._protocol import topic_partitions as topic_partitions
    from seawall.connectors.bus._record_sink import RecordSink as RecordSink
    from seawall.connectors.bus._record_sink import sink as sink
    from seawall.connectors.bus._replica import RETRY_S as RETRY_S
    from seawall.connectors.bus._replica import Patience as Patience
    from seawall.connectors.bus._replica import Replica as Replica
    from seawall.connectors.bus._sqlite import SqliteBus as SqliteBus

_HOMES = {
    "ANY_PARTITIONS": "seawall.connectors.bus._protocol",
    "BackupBus": "seawall.connectors.bus._backup",
    "BackupStore": "seawall.connectors.bus._backup",
    "Bus": "seawall.connectors.bus._protocol",
    "Cluster": "seawall.connectors.bus._clusters",
    "DERIVED": "seawall.connectors.bus._appending",
    "Follower": "seawall.connectors.bus._protocol",
    "JournalSource": "seawall.connectors.bus._journal_source",
    "KeptSnapshot": "seawall.connectors.bus._appending",
    "POLL": "seawall.connectors.bus._journal_source",
    "Patience": "seawall.connectors.bus._replica",
    "READ_BYTES_MAX": "seawall.connectors.bus._protocol",
    "READ_RECORDS_MAX": "seawall.connectors.bus._protocol",
    "RETRY_S": "seawall.connectors.bus._replica",
    "ReadingFollower": "seawall.connectors.bus._protocol",
    "RecordSink": "seawall.connectors.bus._record_sink",
    "RecordWriter": "seawall.connectors.bus._appending",
    "Replica": "seawall.connectors.bus._replica",
    "SNAPSHOTS_TOPIC": "seawall.connectors.bus._appending",
    "SqliteBus": "seawall.connectors.bus._sqlite",
    "TOPICS": "seawall.connectors.bus._protocol",
    "Unclustered": "seawall.connectors.bus._clusters",
    "Writer": "seawall.connectors.bus._protocol",
    "check_outputs_stored": "seawall.connectors.bus._appending",
    "cluster_of": "seawall.connectors.bus._clusters",
    "decided_slices": "seawall.connectors.bus._appending",
    "engine_key": "seawall.connectors.bus._engine",
    "failures": "seawall.connectors.bus._engine",
    "headers_by_name": "seawall.connectors.bus._protocol",
    "is_recovery_sound": "seawall.connectors.bus._engine",
    "latest_snapshot": "seawall.connectors.bus._appending",
    "lock_backup": "seawall.connectors.bus._backup",
    "noting_failures": "seawall.connectors.bus._engine",
    "open_bus": "seawall.connectors.bus._factory",
    "open_recovery": "seawall.connectors.bus._engine",
    "own_error": "seawall.connectors.bus._engine",
    "publish_snapshot": "seawall.connectors.bus._appending",
    "read_all": "seawall.connectors.bus._protocol",
    "recovery_store_error": "seawall.connectors.bus._engine",
    "set_recovery_aside": "seawall.connectors.bus._engine",
    "sink": "seawall.connectors.bus._record_sink",
    "skip_foreign_records": "seawall.connectors.bus._clusters",
    "source": "seawall.connectors.bus._journal_source",
    "topic_partitions": "seawall.connectors.bus._protocol",
    "written_topics": "seawall.connectors.bus._appending",
}
__all__ = [
    "ANY_PARTITIONS",
    "DERIVED",
    "POLL",
    "READ_BYTES_MAX",
    "READ_RECORDS_MAX",
    "RETRY_S",
    "SNAPSHOTS_TOPIC",
    "TOPICS",
    "BackupBus",
    "BackupStore",
    "Bus",
    "Cluster",
    "Follower",
    "JournalSource",
    "KeptSnapshot",
    "Patience",
    "ReadingFollower",
    "RecordSink",
    "RecordWriter",
    "Replica",
    "SqliteBus",
    "Unclustered",
    "Writer",
    "check_outputs_stored",
    "cluster_of",
    "decided_slices",
    "engine_key",
    "failures",
    "headers_by_name",
    "is_recovery_sound",
    "latest_snapshot",
    "lock_backup",
    "noting_failures",
    "open_bus",
    "open_recovery",
    "own_error",
    "publish_snapshot",
    "read_all",
    "recovery_store_error",
    "set_recovery_aside",
    "sink",
    "skip_foreign_records",
    "source",
    "topic_partitions",
    "written_topics",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
