"""Following one topic of a cluster: what has arrived, told by consumers of its own and without a question to it.

1. Each partition has a consumer, whose request waits at the broker for records, and a cursor into what came.
2. Which partitions have records is asked beside, and answered as of the last time: a cluster under load takes tens of
   milliseconds for it, in which whoever asks would follow nothing. What went wrong is raised by the next call.
3. Of a topic of others its id is held against the one that its reader noted (``TopicIds``).
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

from seawall.connectors.bus._protocol import ANY_PARTITIONS, READ_BYTES_MAX, READ_RECORDS_MAX, TOPICS, Writer
from seawall.connectors.bus.kafka._clients import Clients
from seawall.connectors.bus.kafka._cluster import Address, is_numbered
from seawall.connectors.bus.kafka._partition_reader import PartitionReader, wait_for
from seawall.connectors.bus.kafka._point_reader import PointReader
from seawall.connectors.bus.kafka._provision import TopicFinding, check_topics, create_topics, provide_topics
from seawall.connectors.bus.kafka._topics import TopicIds
from seawall.connectors.bus.kafka._writers import KafkaWriter, OffsetPreservingWriter
from seawall.schemas.errors import BusError
from seawall.schemas.records import Stored

# A follower's request waits at the broker for records: it hears of them at once, and asks twice a second in silence.
FOLLOW_MS = 500


class KafkaFollower:
    """Follower of one topic.

    Parameters
    ----------
    clients, reader
        Of the cluster.
    topic
        What is followed.
    partitions
        Asks the cluster which partitions of a topic have records.
    asker
        Whose thread asks beside.
    ids, begun
        The ids of the topics that its reader took records of, and whether it took any; None keeps to no topic.
    """

    def __init__(
        self,
        clients: Clients,
        reader: PointReader,
        topic: str,
        partitions: Callable[[str], list[int]],
        asker: Executor,
        ids: TopicIds | None = None,
        begun: bool = False,
    ) -> None:
        self._clients, self._reader, self._topic = clients, reader, topic
        self._list, self._asker = partitions, asker
        self._asked: Future[list[int]] | None = None
        self._known: list[int] = []
        self._ids, self._begun, self._pinned = ids, begun, False
        self._cursors: dict[int, PartitionReader] = {}

    def partitions(self, wait: bool = False) -> list[int]:
        """Return the partitions that have records, as of the last time this was asked; begin to ask again."""
        if wait:
            return self._pin(self._list(self._topic))
        if self._asked is None or self._asked.done():
            self._known = self._pin(self._list(self._topic) if self._asked is None else self._asked.result())
            self._asked = self._asker.submit(self._look)
        return self._known

    def poll(
        self, partition: int, offset: int, records_max: int = READ_RECORDS_MAX, bytes_max: int = READ_BYTES_MAX
    ) -> list[Stored]:
        """Return what has arrived from ``offset`` on; none where all that did was read."""
        cursor = self._cursors.get(partition)
        if cursor is None or not cursor.holds(offset):
            cursor = self._go(partition, offset)
        found = cursor.take(offset, records_max, bytes_max)
        size = sum(len(stored.value) for stored in found)
        while len(found) < records_max and size < bytes_max:
            try:
                if not cursor.fill(0) and (found or not self._lags(cursor)):
                    break
            except BusError:
                if not found:
                    raise
                break  # what came before it is good; the next call raises again
            more = cursor.take(offset, records_max - len(found), bytes_max - size)
            found += more
            size += sum(len(stored.value) for stored in more)
        return found

    def may_lag(self, partition: int) -> bool:
        """Tell whether the last answer may have been all that was asked for, and not all that is there."""
        cursor = self._cursors.get(partition)
        return cursor is not None and cursor.may_have_more()

    def close(self) -> None:
        """Let go of the consumers."""
        for cursor in self._cursors.values():
            with contextlib.suppress(RuntimeError):  # it is closed already
                cursor.close()
        self._cursors.clear()

    def _look(self) -> list[int]:
        """Return the partitions that have records; raise where the topic is no longer the one that was read."""
        if self._ids is not None and self._pinned:
            self._ids.check(self._topic, begun=True)
        return self._list(self._topic)

    def _pin(self, found: list[int]) -> list[int]:
        """Keep to the topic that is there once it has records; what of it was made anew before is followed."""
        if self._ids is not None and found and not self._pinned:
            self._ids.begin(self._topic, self._begun)
            self._pinned = True
        return found

    def _go(self, partition: int, offset: int) -> PartitionReader:
        """Return the cursor of a partition, from an offset on."""
        cursor = self._cursors.get(partition)
        if cursor is None:
            consumer = self._clients.consumer(FOLLOW_MS, paced=not is_numbered(self._topic))
            cursor = self._cursors[partition] = PartitionReader(consumer, self._clients, self._topic, partition)
        at, number = self._reader.locate(self._topic, partition, offset)
        cursor.known_end = self._reader.bounds(self._topic, partition)[1]
        cursor.go(at, number)
        return cursor

    def _lags(self, cursor: PartitionReader) -> bool:
        """Wait for what is known to be there; False where a follower has caught up."""
        deadline = time.monotonic() + self._clients.address.terms.outage_s
        what = f"{cursor.topic}/{cursor.partition} cannot be read"
        return not cursor.is_caught_up() and wait_for(cursor, deadline, what)


# The bus on Apache Kafka: topics of a cluster with the offsets that the embedded bus would give them.


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
        self.address = Address.parse(url, base)
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
