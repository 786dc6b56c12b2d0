"""Writers of partitions on a cluster: one in fenced transactions, and one that keeps the offsets of what it copies.

`KafkaWriter` makes one transaction per flush:

1. A lock of this host is taken per partition, so that a second run on it is refused and not fought.
2. ``init_transactions`` fences an earlier writer of the same name on any host and ends what it left open; only then is
   read how many records are stored.
3. What is appended waits in memory. Who submits it hands it to a thread of its own, which produces and commits it while
   the dataflow goes on; the next call, or the snapshot, waits for it and raises what went wrong. A flush commits.

A transaction that cannot be committed is aborted: readers never see a part of it, and a replay makes it again. Where
all that was wrong is that the cluster did not know a topic for a moment, the writer itself makes it again.

`OffsetPreservingWriter` copies other people's records to a cluster, each to the offset that it has on the bus it comes
from: the journal names such records by their offsets. Transactions would put marks between them, so they are produced
without: idempotent, acknowledged by all replicas, and each delivery report is held against the offset that it must get.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message

from seawall.connectors.bus.kafka._clients import Clients, Headers, RecordBatches
from seawall.connectors.bus.kafka._cluster import allowed_call_s, is_deadline_over, is_numbered
from seawall.connectors.bus.kafka._partition_reader import NUMBER
from seawall.connectors.bus.kafka._point_reader import PointReader
from seawall.connectors.bus.kafka._topics import ASK_AGAIN_S, UNKNOWN, PartitionLoss
from seawall.connectors.files import lock_partition
from seawall.schemas.errors import BusError, Gap, PartitionLocked


class OffsetPreservingWriter:
    """The one writer of partitions that nobody else writes meanwhile; what it flushed stands.

    Parameters
    ----------
    clients
        Of the cluster.
    end_of
        Returns the offset after the last record of a partition.
    partitions
        Topic and partition.
    """

    def __init__(self, clients: Clients, end_of: Callable[[str, int], int], partitions: list[tuple[str, int]]) -> None:
        self._clients = clients
        self._ends = {place: end_of(*place) for place in partitions}
        self._names = {topic: clients.address.topic(topic) for topic, _ in partitions}
        self._producer, what = clients.plain_producer(), f"{partitions[0][0]}/{partitions[0][1]}"
        self._batches = RecordBatches(self._producer, what, clients.address.terms.outage_s)
        self._failures: list[BusError] = []

    def append(self, topic: str, partition: int, key: str, value: bytes, headers: dict[str, str]) -> None:
        """Hand one record to the client; ``flush`` says whether it stands, and where it must."""
        offset = self._ends[topic, partition]
        self._ends[topic, partition] = offset + 1
        pairs: Headers = [(name, text.encode()) for name, text in headers.items()]

        def delivered(error: KafkaError | None, message: Any) -> None:
            place = f"{topic}/{partition}"
            if error is not None:
                self._failures.append(self._clients.failed(f"{place} cannot be written", error))
            elif message.offset() != offset:
                text = f"record {offset} of {place} came to stand at {message.offset()}: somebody else writes there"
                self._failures.append(BusError(f"{text}; make the topic anew, and keep others from it until this ends"))

        try:
            self._batches.add(self._names[topic], partition, key.encode(), value, pairs, delivered)
        except KafkaException as error:
            raise self._clients.failed(f"{topic}/{partition} cannot be written", error) from error

    def submit(self) -> None:
        """Make everything appended durable, as ``flush``."""
        self.flush()

    def is_idle(self) -> bool:
        """Return True: ``submit`` waits for its records."""
        return True

    def flush(self) -> None:
        """Wait until everything appended stands where it must; raises BusError where it does not."""
        try:
            self._batches.flush()
        except KafkaException as error:  # of what ends the client, as where it may not write at all
            raise self._clients.failed("the copy cannot be written", error) from error
        if self._failures:
            raise self._failures[0]

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record, those not flushed yet included."""
        return self._ends[topic, partition]

    def close(self) -> None:
        """Let go of the client."""
        with contextlib.suppress(KafkaException, SystemError):  # of a client that has ended
            self._producer.purge()
            self._producer.flush(1)


log = logging.getLogger("seawall")
VISIBLE_S = 0.002
CALL_S = 10.0
Waiting = tuple[str, int, bytes, bytes, Headers]


class KafkaWriter:
    """The one writer of some partitions; its flush is one transaction.

    Parameters
    ----------
    clients
        Of the cluster.
    reader
        Says how many records stand.
    partitions
        Topic and partition; the first names the transactions.
    lock
        Beside which file the locks of this host are; None takes none.

    Raises
    ------
    PartitionLocked
        Another process of this host writes there.

    Notes
    -----
    What the cluster refuses is raised at the first use: the writer opens in its own thread.
    """

    def __init__(
        self, clients: Clients, reader: PointReader, partitions: list[tuple[str, int]], lock: Path | None
    ) -> None:
        self._clients, self._reader = clients, reader
        self._names = {topic: clients.address.topic(topic) for topic, _ in partitions}
        self._what = f"{partitions[0][0]}/{partitions[0][1]}"
        self._locks: list[int] = []
        self._buffer: list[Waiting] = []
        self._written: set[tuple[str, int]] = set()
        self._undelivered: list[KafkaError] = []
        self._pending: Future[None] | None = None
        self._broken: BaseException | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"commit {self._what}")
        try:
            if lock is not None:
                for topic, partition in partitions:
                    self._locks.append(lock_partition(lock, topic, partition))
        except BaseException:
            self._release()
            raise
        self._ends: dict[tuple[str, int], int] = {}
        self._opening = self._thread.submit(self._open, partitions)

    def append(self, topic: str, partition: int, key: str, value: bytes, headers: dict[str, str]) -> None:
        """Take one record; it stays in memory until ``submit`` or ``flush``."""
        place = topic, partition
        number = self._opened().get(place)
        if number is None:
            raise BusError(f"partition {partition} of {topic} is not this writer's; name it when opening the writer")
        if is_numbered(topic) and headers.get(NUMBER) != str(number):
            raise Gap(f"{topic}/{partition}: a record numbered {headers.get(NUMBER)} cannot follow {number} records")
        self._ends[place] = number + 1
        self._written.add(place)
        pairs: Headers = [(name, text.encode()) for name, text in headers.items()]
        self._buffer.append((self._names[topic], partition, key.encode(), value, pairs))

    def submit(self) -> None:
        """Begin to commit what was appended; wait for the transaction before it and raise what became of that."""
        self._opened()
        self._settle()
        if self._buffer:
            records, self._buffer = self._buffer, []
            self._pending = self._thread.submit(self._commit, records)

    def is_idle(self) -> bool:
        """Tell whether no transaction is under way; what became of the last one is raised by the next call."""
        return self._pending is None or self._pending.done()

    def flush(self) -> None:
        """Commit everything appended in one transaction; raises BusError, with nothing written, when it cannot.

        It is committed here, where no other thread has to wake for it and back.
        """
        self._opened()
        self._settle()
        if self._buffer:
            records, self._buffer = self._buffer, []
            try:
                self._commit(records)
            except BaseException as error:
                self._broken = error
                if not isinstance(error, BusError):  # who interrupts leaves nothing open that readers would wait for
                    self._abort()
                raise

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record, those not flushed yet included."""
        return self._opened()[topic, partition]

    def close(self) -> None:
        """Let the partitions go, once everybody sees what was committed; what was not submitted is not written.

        Where the cluster refused a writer that then had nothing to write, that is logged.
        """
        self._buffer.clear()
        try:
            self._await_visible()
        finally:
            self._release()
        refused = self._opening.exception()
        if refused is not None and not self._ends:
            log.error("%s", refused)  # the engine aborts where this raises

    def _await_visible(self) -> None:
        """Wait until the cluster shows the last transaction: it says that it is committed a moment before."""
        if self._broken is None and self._pending is not None:
            self._settle()
        deadline = time.monotonic() + CALL_S
        for place in self._written if self._broken is None else ():
            while not self._reader.is_settled(*place) and time.monotonic() < deadline:
                time.sleep(VISIBLE_S)
        self._written.clear()

    def _release(self) -> None:
        self._thread.shutdown(wait=True)
        for descriptor in self._locks:
            os.close(descriptor)
        self._locks.clear()

    def _settle(self) -> None:
        if self._broken is None and self._pending is not None:
            self._broken = self._pending.exception()
        self._pending = None
        if self._broken is not None:
            raise self._broken

    # --- transactions -----------------------------------------------------------------------------------------------

    def _open(self, partitions: list[tuple[str, int]]) -> None:
        """Fence earlier writers, then look how many records stand; half a second, so other writers open meanwhile."""
        producer = self._producer = self._clients.producer(f"{self._names[partitions[0][0]]}-{partitions[0][1]}")
        try:
            self._patiently(lambda: producer.init_transactions(allowed_call_s(CALL_S)))
        except KafkaException as error:
            raise self._failed(error) from error
        self._ends = {place: self._reader.end(*place) for place in partitions}

    def _opened(self) -> dict[tuple[str, int], int]:
        """Return how many records stand in each partition, once the writer is the only one; raises what went wrong."""
        if not self._ends:
            self._opening.result()
        return self._ends

    def _commit(self, records: list[Waiting]) -> None:
        """Produce and commit some records, or abort; no other transaction of this writer is under way."""
        deadline = time.monotonic() + self._clients.address.terms.outage_s
        while True:
            try:
                self._transact(records)
                return
            except (KafkaException, BusError) as error:
                failure = error if isinstance(error, BusError) else self._failed(error)
                passing = isinstance(error, KafkaException) and self._is_unknown(error)
                aborted = not isinstance(failure, PartitionLocked) and self._abort()
                if not (
                    passing and aborted and not is_deadline_over(deadline) and self._await_named(records, deadline)
                ):
                    raise failure from error
                self._undelivered.clear()

    def _transact(self, records: list[Waiting]) -> None:
        producer = self._producer
        producer.begin_transaction()
        batches = RecordBatches(producer, self._what, self._clients.address.terms.outage_s)
        for record in records:
            batches.add(*record, self._delivered)
        self._patiently(lambda: producer.commit_transaction(allowed_call_s(CALL_S)))

    def _is_unknown(self, error: KafkaException) -> bool:
        """Tell whether all that was wrong is that the cluster, or the client, did not know a partition."""
        told = self._told() or [error.args[0]]
        return not error.args[0].fatal() and all(one.code() in UNKNOWN for one in told)

    def _await_named(self, records: list[Waiting], deadline: float) -> bool:
        """Wait until the cluster names all partitions of some records; False where it does not in time."""
        absence = PartitionLoss((topic, partition) for topic, partition, *_ in records)
        while not absence.is_over(self._producer):
            if absence.is_final or is_deadline_over(deadline):
                return False
            time.sleep(ASK_AGAIN_S)
        return True

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._undelivered.append(error)

    def _patiently(self, step: Callable[[], Any]) -> None:
        """Repeat a step that may be repeated while the cluster does not answer, at most ``outage_s``."""
        deadline = time.monotonic() + self._clients.address.terms.outage_s
        while True:
            try:
                step()
                return
            except KafkaException as error:
                if not error.args[0].retriable() or is_deadline_over(deadline):
                    raise

    def _abort(self) -> bool:
        """End a transaction without its records; False where that fails too: the next writer of the name ends it."""
        try:
            self._producer.abort_transaction(allowed_call_s(CALL_S))
        except KafkaException:
            self._producer.purge()
            return False
        return True

    def _failed(self, error: KafkaException) -> BusError:
        """Return what went wrong: what a delivery report says is the cause of what the transaction says."""
        cause, told = error.args[0], self._told()
        fatal = cause.fatal() or not told
        return self._clients.failed(f"{self._what} cannot be written", cause if fatal else told[0], self._producer)

    def _told(self) -> list[KafkaError]:
        """Return what delivery reports say went wrong, but for what the producer itself took back."""
        own = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)
        return [one for one in self._undelivered if one.code() not in own]
