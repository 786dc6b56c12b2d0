"""Strict reads at any offset: they find every durable record, whoever wrote it a moment ago.

1. A read that goes on where the last one ended only waits for the next batch.
2. Any other place is looked for: between two offsets of the cluster whose numbers are known, in halves. A record takes
   at least one offset, so its number bounds where another can stand.
3. The end is the end only when the cluster's own end of committed records says so as well.
"""

import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from seawall.connectors.bus.kafka._clients import Clients
from seawall.connectors.bus.kafka._cluster import allowed_call_s, is_deadline_over, is_numbered
from seawall.connectors.bus.kafka._partition_reader import PartitionReader, wait_for
from seawall.connectors.bus.kafka._topics import MOVING, MOVING_S, UNKNOWN, PartitionLoss, TopicListing
from seawall.schemas.errors import Gap
from seawall.schemas.records import Stored

WAIT_MS = 1  # one connection answers in turn: whatever is asked after a fetch at the end of a partition waits for it
ASK_S = 3.0  # a leader that died is asked until then; a new one is only looked for afterwards
NEAR = 500  # records closer than this are read past
Partition = tuple[str, int]


class PointReader:
    """One consumer that reads wherever it is asked to; safe for several threads, one at a time.

    Parameters
    ----------
    clients
        Of the cluster.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._consumer: Consumer | None = None
        self._written: Consumer | None = None  # sees what is not committed too
        self._cursor: PartitionReader | None = None
        self._listing = TopicListing(clients)
        self._known: dict[Partition, tuple[int, int]] = {}  # number of a record to come, and an offset not after it
        self._lock = threading.RLock()

    def read(self, topic: str, partition: int, offset: int, records_max: int, bytes_max: int) -> list[Stored]:
        """Return records from ``offset`` on, in order; at least one where there is one, none at the end."""
        with self._lock:
            cursor = self._cursor
            if cursor is None or (cursor.topic, cursor.partition) != (topic, partition) or not cursor.holds(offset):
                cursor = self._go(topic, partition, offset)
            found = cursor.take(offset, records_max, bytes_max)
            size = sum(len(stored.value) for stored in found)
            while len(found) < records_max and size < bytes_max:
                if not self._more(cursor):
                    self._rest()
                    break
                found += cursor.take(offset, records_max - len(found), bytes_max - size)
                size = sum(len(stored.value) for stored in found)
            if cursor.number is not None:
                self._known[topic, partition] = cursor.number, cursor.offset
            if records_max == 1 or (not cursor.has_more() and cursor.is_caught_up()):
                self._rest()  # who wants one record seldom wants the next
            return found

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last durable record, 0 where there never was one."""
        with self._lock:
            low, high = self.bounds(topic, partition)
            if not is_numbered(topic) or high == 0:
                return high
            return self._last(topic, partition, low, high) + 1

    def start(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that retention left, the end where it left none."""
        with self._lock:
            low, high = self.bounds(topic, partition)
            if not is_numbered(topic) or low == 0:
                return low
            found = self._probe(topic, partition, low)
            return high if found is None else found[1]

    def locate(self, topic: str, partition: int, offset: int) -> tuple[int, int | None]:
        """Return an offset of the cluster at or shortly before a record, and the number of the one that comes there."""
        with self._lock:
            return self._locate(topic, partition, offset)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the cluster's first offset and the one after all that is committed."""
        with self._lock:
            return self._bounds(self._client(), topic, partition)

    def is_settled(self, topic: str, partition: int) -> bool:
        """Tell whether no transaction is under way: readers of committed records see all that was written."""
        with self._lock:
            if self._written is None:
                self._written = self._clients.consumer(WAIT_MS, committed=False)
            high = self._bounds(self._written, topic, partition)[1]
            return self.bounds(topic, partition)[1] >= high

    def partitions(self, topic: str | None = None) -> dict[str, int]:
        """Return how many partitions each topic has, or one of them, by its name on the cluster.

        Raises
        ------
        BusError
            It does not answer, refuses, or the one that is asked for was deleted.
        """
        with self._lock:
            return self._listing.partitions(self._client(), topic)

    def cluster(self) -> str:
        """Return the id of the cluster."""
        with self._lock:
            return self._listing.cluster(self._client())

    def close(self) -> None:
        """Let go of the consumer."""
        with self._lock:
            for consumer in (self._consumer, self._written):
                if consumer is not None:
                    consumer.close()
            self._consumer = self._written = self._cursor = None

    def _client(self) -> Consumer:
        if self._consumer is None:
            self._consumer = self._clients.consumer(WAIT_MS)
        return self._consumer

    def _more(self, cursor: PartitionReader) -> bool:
        """Wait for the next batch; False where the partition ends, by the word of the cluster now."""
        while not wait_for(cursor, self._deadline(), f"{cursor.topic}/{cursor.partition} cannot be read"):
            if cursor.offset >= self.bounds(cursor.topic, cursor.partition)[1]:
                return False
            cursor.ended = False
        return True

    def _bounds(self, client: Consumer, topic: str, partition: int) -> tuple[int, int]:
        """Return the bounds that a client sees, where need be once it knows the leader or the topic again."""
        place = TopicPartition(self._clients.address.topic(topic), partition)
        deadline, absence = self._deadline(), PartitionLoss([(place.topic, partition)])
        while True:
            try:
                return client.get_watermark_offsets(place, timeout=allowed_call_s(ASK_S))
            except KafkaException as error:
                code = error.args[0].code()
                if code not in (*MOVING, *UNKNOWN) or absence.is_final or is_deadline_over(deadline):
                    raise self._clients.failed(f"{topic}/{partition} cannot be read", error, client) from error
                time.sleep(MOVING_S)
                absence.is_over(client)  # renews what this client knows of leaders: each has it for itself

    def _deadline(self) -> float:
        return time.monotonic() + self._clients.address.terms.outage_s

    def _rest(self) -> None:
        """Stop fetching: at the end of a partition a consumer would ask the broker hundreds of times a second."""
        if self._cursor is not None:
            self._cursor.stop()
        self._cursor = None

    def _new(self, topic: str, partition: int) -> PartitionReader:
        self._cursor = PartitionReader(self._client(), self._clients, topic, partition)
        return self._cursor

    def _go(self, topic: str, partition: int, offset: int) -> PartitionReader:
        at, number = self._locate(topic, partition, offset) if is_numbered(topic) else (offset, offset)
        cursor = self._new(topic, partition)
        cursor.go(at, number)
        return cursor

    # --- numbers and offsets of the cluster -------------------------------------------------------------------------

    def _locate(self, topic: str, partition: int, number: int) -> tuple[int, int | None]:
        """Return an offset of the cluster at or before a record, and the number of the record that comes there."""
        known = self._known.get((topic, partition))
        if known is not None and 0 <= number - known[0] <= NEAR:
            return known[1], known[0]
        if not is_numbered(topic):
            return number, number
        low, high = self.bounds(topic, partition)
        if low == 0 and number <= NEAR:
            return 0, 0
        first = self._probe(topic, partition, low)
        if first is None:
            return high, None
        if first[1] > number:
            text = f"{topic}/{partition} begins with number {first[1]}; the records from {number} on have expired"
            raise Gap(f"{text}: lengthen the topic's retention, and restore them from a backup")
        return self._between(topic, partition, number, first, high)

    def _between(
        self, topic: str, partition: int, number: int, below: tuple[int, int], high: int
    ) -> tuple[int, int | None]:
        """Narrow down where a record stands, from one that is at or before it and an offset that is after it."""
        at, found = below
        while number - found > NEAR:
            lowest = at + number - found
            middle = (lowest + high) // 2
            probe = self._probe(topic, partition, middle) if lowest < high else None
            if probe is None or probe[1] > number:
                high = middle if probe is None else min(middle, probe[0] - (probe[1] - number) + 1)
                if high <= lowest:
                    probe = self._probe(topic, partition, lowest)
                    if probe is None or probe[1] > number:
                        break  # the record is not there: what follows is read, and says so
                    at, found = probe
            else:
                at, found = probe
        return at, found

    def _probe(self, topic: str, partition: int, offset: int) -> tuple[int, int] | None:
        """Return offset on the cluster and number of the first record at or after an offset; None where none is."""
        cursor = self._new(topic, partition)
        cursor.go(offset, None)
        if not self._more(cursor):
            self._rest()
            return None
        first = cursor.take(0, 1, 1)[0]
        found = cursor.first_offset
        self._rest()
        return found, first.offset

    def _last(self, topic: str, partition: int, low: int, high: int) -> int:
        """Return the number of the last committed record.

        Raises
        ------
        Gap
            Retention took every record, so nobody knows how many there were.
        """
        known = self._known.get((topic, partition), (0, low))
        back = 4
        while True:
            at = max(known[1], low, high - back)
            cursor = self._new(topic, partition)
            cursor.go(at, None)
            last = None
            while self._more(cursor):
                last = cursor.take(0, 1 << 30, 1 << 60)[-1].offset
            end, offset = cursor.number, cursor.offset
            self._rest()
            if last is not None and end is not None:
                self._known[topic, partition] = end, offset
                return last
            if at == known[1] and known[0]:
                return known[0] - 1
            if at == low:
                if low == 0:
                    return -1
                text = f"every record of {topic}/{partition} has expired, so where it ends is unknown"
                raise Gap(f"{text}; set retention.ms to -1 and restore it from a backup")
            back *= 4
