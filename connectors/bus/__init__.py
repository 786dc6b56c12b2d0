"""Bus: partitioned, append-only topics, on SQLite or Kafka, and their Bytewax source and sink.

`open_bus` opens the bus that a URL names; `source` and `sink` wire it into a dataflow. Names are loaded when they are
asked for: whoever only reads a bus needs neither Bytewax nor librdkafka.
"""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.connectors.bus._appending import (
        DERIVED,
        SNAPSHOTS_TOPIC,
        KeptSnapshot,
        RecordWriter,
        check_outputs_stored,
        decided_slices,
        written_topics,
    )
    from seawall.connectors.bus._backup import BackupBus, BackupStore, lock_backup
    from seawall.connectors.bus._bytewax import POLL, JournalSource, RecordSink, sink, source
    from seawall.connectors.bus._engine import (
        engine_key,
        failures,
        noting_failures,
    )
    from seawall.connectors.bus._factory import open_bus
    from seawall.connectors.bus._protocol import (
        ANY_PARTITIONS,
        READ_RECORDS_MAX,
        TOPICS,
        Bus,
        Cluster,
        Follower,
        ReadingFollower,
        Unclustered,
        Writer,
        cluster_of,
        read_all,
        skip_foreign_records,
        topic_partitions,
    )
    from seawall.connectors.bus._replica import Patience, Replica
    from seawall.connectors.bus._sqlite import SqliteBus

_HOMES = {
    "ANY_PARTITIONS": "seawall.connectors.bus._protocol",
    "BackupBus": "seawall.connectors.bus._backup",
    "BackupStore": "seawall.connectors.bus._backup",
    "Bus": "seawall.connectors.bus._protocol",
    "Cluster": "seawall.connectors.bus._protocol",
    "DERIVED": "seawall.connectors.bus._appending",
    "Follower": "seawall.connectors.bus._protocol",
    "JournalSource": "seawall.connectors.bus._bytewax",
    "KeptSnapshot": "seawall.connectors.bus._appending",
    "POLL": "seawall.connectors.bus._bytewax",
    "Patience": "seawall.connectors.bus._replica",
    "READ_RECORDS_MAX": "seawall.connectors.bus._protocol",
    "ReadingFollower": "seawall.connectors.bus._protocol",
    "RecordSink": "seawall.connectors.bus._bytewax",
    "RecordWriter": "seawall.connectors.bus._appending",
    "Replica": "seawall.connectors.bus._replica",
    "SNAPSHOTS_TOPIC": "seawall.connectors.bus._appending",
    "SqliteBus": "seawall.connectors.bus._sqlite",
    "TOPICS": "seawall.connectors.bus._protocol",
    "Unclustered": "seawall.connectors.bus._protocol",
    "Writer": "seawall.connectors.bus._protocol",
    "check_outputs_stored": "seawall.connectors.bus._appending",
    "cluster_of": "seawall.connectors.bus._protocol",
    "decided_slices": "seawall.connectors.bus._appending",
    "engine_key": "seawall.connectors.bus._engine",
    "failures": "seawall.connectors.bus._engine",
    "lock_backup": "seawall.connectors.bus._backup",
    "noting_failures": "seawall.connectors.bus._engine",
    "open_bus": "seawall.connectors.bus._factory",
    "read_all": "seawall.connectors.bus._protocol",
    "sink": "seawall.connectors.bus._bytewax",
    "skip_foreign_records": "seawall.connectors.bus._protocol",
    "source": "seawall.connectors.bus._bytewax",
    "topic_partitions": "seawall.connectors.bus._protocol",
    "written_topics": "seawall.connectors.bus._appending",
}
__all__ = [
    "ANY_PARTITIONS",
    "DERIVED",
    "POLL",
    "READ_RECORDS_MAX",
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
    "lock_backup",
    "noting_failures",
    "open_bus",
    "read_all",
    "sink",
    "skip_foreign_records",
    "source",
    "topic_partitions",
    "written_topics",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
