"""Reading one partition in order: batches of records, each at the offset that it has on every bus.

Transactions leave holes in a cluster's offsets, so those are no proof of anything. Seawall's own records carry how many
stand before them (``seawall-n``): that number is their offset here, and what does not follow the one before is named
and stops the reader. Records of other people are at the offset that the cluster gives them.
"""

import time
from collections import deque
from functools import partial
from operator import methodcaller
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from seawall.connectors.bus._protocol import headers_by_name
from seawall.connectors.bus.kafka._clients import Clients
from seawall.connectors.bus.kafka._cluster import CALL_S_MIN, is_deadline_over, is_numbered
from seawall.connectors.bus.kafka._topics import SILENT_S, UNKNOWN, PartitionLoss
from seawall.schemas.errors import BusError, Gap
from seawall.schemas.records import Stored

CHUNK = 500
ANSWER_S = 0.1  # of a cluster; who looks this often knows what is there
PASSING = (
    # The client reconnects by itself; whoever waits has a deadline of his own.
    *(KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE),
    KafkaError._DESTROY_BROKER,
    # It asks after a consumer group that nobody uses, and needs no right to.
    KafkaError.GROUP_AUTHORIZATION_FAILED,
)
NUMBER = "seawall-n"
_stored = partial(tuple.__new__, Stored)  # its own constructor costs twice as much
# Where a header's name is no UTF-8 the client returns a tuple with a hole and an error besides, which Python 3.11 and
# 3.12 look for after a call from C alone: after `message.headers()` it ends the process (SIGSEGV).
_headers = methodcaller("headers")


class PartitionReader:
    """A place in a partition, and the records that came from there on.

    Parameters
    ----------
    consumer
        Nobody else's while this cursor is in use.
    clients
        Of the cluster.
    topic, partition
        What is read.
    """

    def __init__(self, consumer: Consumer, clients: Clients, topic: str, partition: int) -> None:
        self._consumer, self._clients = consumer, clients
        self.topic, self.partition = topic, partition
        self._numbered, self._physical = is_numbered(topic), clients.address.topic(topic)
        self._ready: deque[Stored] = deque()
        self._failure: BusError | None = None
        self._absence: PartitionLoss | None = None
        self._heard_at = time.monotonic()  # when anything arrived, or the cluster named the partition
        self._unknown_at: float | None = None  # since when nothing but that it is unknown arrives
        self.number: int | None = None  # of the next record to arrive; None: whatever comes
        self.offset = 0  # on the cluster, after the last that arrived
        self.first_offset = -1  # on the cluster, of the first that arrived since `go`
        self.known_end = 0  # on the cluster, after what is known to be there
        self.ended = False
        self._asked_at, self._stale = time.monotonic(), False

    def go(self, offset: int, number: int | None) -> None:
        """Read on from an offset of the cluster, where the record with ``number`` stands; None: not known."""
        self._ready.clear()
        self._failure = self._absence = self._unknown_at = None
        self.number, self.offset, self.first_offset, self.ended = number, offset, -1, False
        self._asked_at, self._stale = time.monotonic(), False
        self._consumer.assign([TopicPartition(self._physical, self.partition, offset)])

    def stop(self) -> None:
        """Read nothing more until ``go``."""
        self._consumer.unassign()

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def holds(self, offset: int) -> bool:
        """Tell whether a record is among those that arrived, or the next to arrive."""
        return offset == self.number or (
            bool(self._ready) and self._ready[0].offset <= offset <= self._ready[-1].offset
        )

    def has_more(self) -> bool:
        """Tell whether records arrived that nobody took yet."""
        return bool(self._ready)

    def take(self, offset: int, records_max: int, bytes_max: int) -> list[Stored]:
        """Return what arrived from ``offset`` on."""
        ready, size = self._ready, 0
        while ready and ready[0].offset < offset:
            ready.popleft()
        found: list[Stored] = []
        for stored in ready:
            if len(found) >= records_max or size >= bytes_max:
                break
            found.append(stored)
            size += len(stored[3])
        if len(found) == len(ready):
            ready.clear()
        else:
            for _ in found:
                ready.popleft()
        return found

    def is_caught_up(self) -> bool:
        """Tell whether all that the cluster had when it last answered has arrived; a transaction's end mark is nothing.

        Before its first answer to us, ``known_end`` says what it had.
        """
        place = TopicPartition(self._physical, self.partition)
        known = self._consumer.get_watermark_offsets(place, cached=True)
        self.known_end = max(self.known_end, -1 if known is None else known[1])
        return self.ended or self.known_end <= self.offset + 1

    def may_have_more(self) -> bool:
        """Tell whether records may stand behind the last that came: known ones, or because it was asked for long ago.

        The client of somebody else's topic asks once it has nothing left: who was busy meanwhile gets what the cluster
        had then. The next answer tells, or that none comes for ``ANSWER_S``.
        """
        if self._numbered or self._absence is not None:  # of one that is away nothing comes that could tell
            return False
        return self._stale or (time.monotonic() - self._heard_at < ANSWER_S and not self.is_caught_up())

    def fill(self, timeout_s: float) -> bool:
        """Wait until records arrive or the end is reached, at most a while; tell whether any record arrived.

        Raises
        ------
        BusError
            The cluster refuses: the partition is gone, the offset has expired, or we may not read.
        Gap
            A record is not the one that follows.
        """
        if self._failure is not None:
            raise self._failure
        if self._absence is not None and not self._is_back(self._absence):
            time.sleep(timeout_s)
            return False
        first = self._consumer.poll(timeout_s)
        now = time.monotonic()
        if first is None:
            if not self._stale or now - self._asked_at > ANSWER_S:
                self._stale, self._asked_at = False, now
            if now - self._heard_at > SILENT_S:
                self._absence = PartitionLoss([(self._physical, self.partition)])
            return False
        self._heard_at = now
        before = len(self._ready)
        messages = [first, *self._consumer.consume(CHUNK, 0)]
        if len(messages) <= CHUNK:  # nothing is left: only now does the client ask for more
            self._stale, self._asked_at = now - self._asked_at > ANSWER_S, now
        try:
            self._take_in(messages)
        except BusError as error:
            self._failure = error  # what came before it is good
            if len(self._ready) == before:
                raise
        return len(self._ready) > before

    def _take_in(self, messages: list[Message]) -> None:
        """Make records of messages; raises at the first that may not stand where it is, which is not passed."""
        ready, numbered = self._ready.append, self._numbered
        for message in messages:
            error = message.error()
            if error is not None:
                self._heed(error, message)
                continue
            at: Any = message.offset()
            headers = message_headers(message)
            number = self._number(at, headers) if numbered else at
            self.ended, self.offset, self._unknown_at = False, at + 1, None
            if number is None:
                continue
            self.number = number + 1
            if self.first_offset < 0:
                self.first_offset = at
            key, value = message.key(), message.value()
            name = key.decode(errors="replace") if isinstance(key, bytes) else key or ""
            value = value if isinstance(value, bytes) else (value or "").encode()
            ready(_stored((number, name, headers, value)))

    def _heed(self, error: KafkaError, message: Message) -> None:
        """Take what the client says in the place of a record: the end, a partition that is gone, or what passes."""
        if error.code() == KafkaError._PARTITION_EOF:
            self.ended, self.offset = True, max(self.offset, message.offset() or 0)
            self._unknown_at = None
        elif error.code() in UNKNOWN:
            self._lose(error)
        elif error.code() not in PASSING:
            raise self._failed(error)

    def _lose(self, error: KafkaError) -> None:
        """Begin to watch a partition that the client calls unknown; raise where it does for as long as an outage."""
        now = time.monotonic()
        self._unknown_at = self._unknown_at or now
        if now - self._unknown_at > self._clients.address.terms.outage_s:
            raise self._failed(error)
        self._absence = PartitionLoss([(self._physical, self.partition)])

    def _is_back(self, absence: PartitionLoss) -> bool:
        """Read on where the cluster names the partition again; raise where it was deleted."""
        if absence.is_final:
            raise self._failed(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        if not absence.is_over(self._consumer):
            return False
        if self._unknown_at is not None:
            self._consumer.assign([TopicPartition(self._physical, self.partition, self.offset)])
        self._absence, self._heard_at = None, time.monotonic()
        return True

    def _failed(self, error: KafkaError) -> BusError:
        return self._clients.failed(f"{self.topic}/{self.partition} cannot be read at {self.number}", error)

    def _number(self, at: int, headers: dict[str, str]) -> int | None:
        """Return the number of a record that follows; of another one raise, or tell of it and return what stands."""
        text = headers.get(NUMBER, "")
        number = int(text) if text.isdecimal() else None
        if number is not None and self.number in (None, number):
            return number
        what = f"the record at offset {at} of {self._physical}/{self.partition} on the cluster "
        if number is None:
            what += f"has no {NUMBER}: somebody else wrote there; see who may with `seawall topics acl`"
        else:
            what += f"is number {text} where {self.number} belongs: records are missing, added or repeated"
        if self._clients.tell_stranger is None:
            raise Gap(what)
        self._clients.tell_stranger(self.topic, self.partition, what)
        return number if number is not None and self.number is not None and number > self.number else None


def wait_for(cursor: PartitionReader, deadline: float, what: str) -> bool:
    """Fill a cursor until a record arrives; False at the end of what the cluster has sent so far.

    Raises
    ------
    BusError
        Neither came before the deadline (of the monotonic clock).
    """
    least = time.monotonic() + CALL_S_MIN  # also where the process is to end: a cluster that answers is no outage
    while not cursor.fill(0.05):
        if cursor.ended:
            return False
        if time.monotonic() > least and is_deadline_over(deadline):
            raise BusError(f"{what}: the cluster does not answer; see whether it is up and its partitions have leaders")
    return True


def message_headers(message: Message) -> dict[str, str]:
    """Return a message's headers; where the client cannot read them, only that."""
    try:
        found = _headers(message)
    except SystemError as error:
        return {"unreadable": str(error.__cause__ or error)}
    return read_headers(found) if found else {}


def read_headers(found: Any) -> dict[str, str]:
    """Return a message's headers; what is no text, or stands twice, is told under another name besides."""
    try:
        headers = {name: (value or b"").decode() for name, value in found}
    except UnicodeDecodeError:
        unreadable = ("unreadable", repr(found))
        return headers_by_name(
            [*((name, (value or b"").decode(errors="replace")) for name, value in found), unreadable]
        )
    return (
        headers
        if len(headers) == len(found)
        else headers_by_name((name, (value or b"").decode()) for name, value in found)
    )
