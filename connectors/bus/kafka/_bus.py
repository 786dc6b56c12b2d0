"""The bus on Apache Kafka: topics of a cluster with the offsets that the embedded bus would give them."""

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from seawall.connectors.bus._protocol import ANY_PARTITIONS, READ_BYTES_MAX, READ_RECORDS_MAX, TOPICS, Writer
from seawall.connectors.bus.kafka._clients import Clients
from seawall.connectors.bus.kafka._cluster import is_numbered, parse_address
from seawall.connectors.bus.kafka._follower import KafkaFollower
from seawall.connectors.bus.kafka._point_reader import PointReader
from seawall.connectors.bus.kafka._provision import TopicFinding, check_topics, create_topics, provide_topics
from seawall.connectors.bus.kafka._topics import TopicIds
from seawall.connectors.bus.kafka._writers import KafkaWriter, OffsetPreservingWriter
from seawall.schemas.records import Stored


class KafkaBus:
    """All topics of one journal on a cluster.

    Parameters
    ----------
    url
        ``kafka://HOST:PORT,…[/PREFIX][?settings=FILE]``.
    base
        The folder that ``settings`` is relative to, where the locks of this host are too.

    Raises
    ------
    UsageError
        The URL or the settings are wrong.
    """

    def __init__(self, url: str, base: Path) -> None:
        self._base = base
        self.address = parse_address(url, base)
        self.clients = Clients(self.address)
        self.reader = PointReader(self.clients)
        self._followers: list[KafkaFollower] = []
        self._guard = threading.Lock()
        self._filled: set[tuple[str, int]] = set()
        self._asker = ThreadPoolExecutor(1, thread_name_prefix="partitions")
        self._ids: dict[str, TopicIds] = {}  # of readers

    def topics(self) -> list[str]:
        """Return Seawall's topics that have records, sorted."""
        names = {self.address.name(name) for name in self.reader.partitions()}
        return sorted(name for name in names if name in TOPICS and self.partitions(name))

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic that have records, sorted."""
        physical = self.address.topic(topic)
        count = self.reader.partitions(physical).get(physical, 0)
        return [partition for partition in range(count) if self._is_filled(topic, partition)]

    def follow(self, topic: str, reader: str = "", begun: bool = False) -> KafkaFollower:
        """Return a follower of a topic; a reader's notices where a topic of others is no longer the one it read."""
        ids = self._ids_of(reader) if reader and topic not in TOPICS else None
        found = KafkaFollower(self.clients, self.reader, topic, self.partitions, self._asker, ids, begun)
        with self._guard:
            self._followers.append(found)
        return found

    def pin_topic(self, topic: str, reader: str, begun: bool = False) -> None:
        """Note which topic of others is read; raise where it was deleted and made anew since records were taken."""
        if topic not in TOPICS:  # ours: who copies a run to a cluster may make them anew, with the offsets of before
            self._ids_of(reader).begin(topic, begun)

    def start(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that retention left."""
        return self.reader.start(topic, partition)

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last durable record, 0 where there is none."""
        return self.reader.end(topic, partition)

    def skip_foreign_records(self, tell: Callable[[str, int, str], None]) -> None:
        """From now on skip records of others on our topics, and tell topic, partition and what."""
        self.clients.tell_stranger = tell

    def has_open_transaction(self, topic: str, partition: int) -> bool:
        """Tell whether a transaction is under way there."""
        return not self.reader.is_settled(topic, partition)

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        records_max: int = READ_RECORDS_MAX,
        bytes_max: int = READ_BYTES_MAX,
    ) -> list[Stored]:
        """Return records from ``offset`` on, in order; at least one where there is one, none at the end."""
        return self.reader.read(topic, partition, offset, records_max, bytes_max)

    def identity(self) -> str:
        """Return the id of the cluster and the prefix of our topics there."""
        return f"kafka:{self.reader.cluster()}/{self.address.prefix}"

    fences = True

    def writer(self, partitions: Iterable[tuple[str, int]], take: bool = False) -> KafkaWriter:
        """Become the writer of partitions; raises PartitionLocked where another process of this host is.

        With ``take`` that one is fenced, as one on another host always is.
        """
        locks = None if take else self._base / f"kafka-{self.address.prefix}"
        return KafkaWriter(self.clients, self.reader, list(partitions), locks)

    def copier(self, partitions: Iterable[tuple[str, int]], take: bool = False) -> Writer:
        """Become the writer of partitions that keeps the offsets of what is copied from another bus."""
        wanted = list(partitions)
        if is_numbered(wanted[0][0]):
            return self.writer(wanted, take)
        return OffsetPreservingWriter(self.clients, self.end, wanted)

    def provide(self, partitions: Mapping[str, int], make: bool) -> list[str]:
        """Check that topics exist with so many partitions; with ``make``, make them where none does, and name these."""
        return provide_topics(self.clients, self.reader.partitions(), partitions, make)

    def create(self, partitions: Mapping[str, int]) -> list[str]:
        """Make what is missing, whatever else exists; name it."""
        standing = self.reader.partitions()
        missing = {
            topic: n
            for topic, n in partitions.items()
            if n != ANY_PARTITIONS and self.address.topic(topic) not in standing
        }
        if missing:
            create_topics(self.clients, missing)
        self.provide(partitions, make=False)
        return [self.address.topic(topic) for topic in missing]

    def unsafe(self, partitions: Mapping[str, int]) -> list[TopicFinding]:
        """Return what is unsafe about topics: other partitions, records that are lost by age, size or compaction."""
        return check_topics(self.clients, self.reader.partitions(), partitions)

    def close(self) -> None:
        """Let go of all clients."""
        self._asker.shutdown(cancel_futures=True)
        self.reader.close()
        with self._guard:
            for follower in self._followers:
                follower.close()
            self._followers.clear()

    def _ids_of(self, reader: str) -> TopicIds:
        """Return the ids of the topics that a reader took records of."""
        if reader not in self._ids:
            folder = self._base / f"kafka-{self.address.prefix}.topics" / self.reader.cluster() / reader
            self._ids[reader] = TopicIds(self.clients, folder)
        return self._ids[reader]

    def _is_filled(self, topic: str, partition: int) -> bool:
        """Tell whether a partition has records; what has some once has some for ever."""
        place = topic, partition
        if place not in self._filled:
            high = self.reader.bounds(topic, partition)[1]
            if high and (not is_numbered(topic) or self.reader.end(topic, partition)):
                self._filled.add(place)
        return place in self._filled
