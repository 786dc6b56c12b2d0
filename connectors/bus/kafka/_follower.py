"""Following one topic of a cluster: what has arrived, told by consumers of its own and without a question to it.

1. Each partition has a consumer, whose request waits at the broker for records, and a cursor into what came.
2. Which partitions have records is asked beside, and answered as of the last time: a cluster under load takes tens of
   milliseconds for it, in which whoever asks would follow nothing. What went wrong is raised by the next call.
3. Of a topic of others its id is held against the one that its reader noted (``TopicIds``).
"""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future

from seawall.connectors.bus._protocol import READ_BYTES_MAX, READ_RECORDS_MAX
from seawall.connectors.bus.kafka._clients import Clients
from seawall.connectors.bus.kafka._cluster import is_numbered
from seawall.connectors.bus.kafka._partition_reader import PartitionReader, wait_for
from seawall.connectors.bus.kafka._point_reader import PointReader
from seawall.connectors.bus.kafka._topics import TopicIds
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
