"""The bus as a Bytewax source: every record of a topic, from where the recovered state stands.

Its snapshot is the next offset and the hash of the record before it, which tells a state of another journal; the engine
keeps it together with the state of the same epoch.
"""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from seawall.connectors.bus._appending import (
    DERIVED,
    RecordWriter,
    check_audit_stored,
    check_outputs_stored,
    written_topics,
)
from seawall.connectors.bus._engine import engine_key, failures, noting_failures
from seawall.connectors.bus._factory import open_bus
from seawall.connectors.bus._protocol import Bus, Writer, cluster_of
from seawall.connectors.bus._replica import Replica, ReplicaPartition
from seawall.schemas.errors import BusError, SnapshotError
from seawall.schemas.records import Stored, decode_slice
from seawall.schemas.telemetry import Part, Telemetry

BATCH_RECORDS = 128
BATCH_BYTES = 512 * 1024  # large slices travel a few at a time, while what they touch is still in the caches
# Bytewax lets a partition whose epoch is over wait for all others, and counts that wait towards its next epoch: it then
# gets one batch per epoch, for ever (measured: 128 slices a second beside a partition that did 6,000). Such a partition
# is known by the pause between its calls, and asks for more each time.
STALL_S = 0.3
# Within an epoch nothing holds a source back (measured: 9,000 slices a second read, 2,000 processed, epochs of 8 s): a
# partition reads no more than this between two snapshots.
EPOCH_RECORDS_MAX = 4096
EPOCH_BYTES_MAX = 64 * 1024 * 1024
POLL = timedelta(milliseconds=5)
SETTLE = timedelta(milliseconds=50)
ENDS = b'"end":true'

Resume = int | tuple[int, str]


def shard_count(url: str, base: Path) -> int:
    """Return the number of shards that the journal on a bus was written with.

    Raises
    ------
    BusError
        The journal is empty.
    """
    bus = open_bus(url, base)
    first = bus.read("journal", 0, 0, 1)
    bus.close()
    if not first:
        raise BusError("the journal is empty: run `sequence` first, or give the number of partitions")
    configuration = decode_slice(first[0].value).configuration or {}
    return int(configuration["shards"])


class JournalSource(FixedPartitionedSource[tuple[str, bytes], Resume]):
    """Reads a topic, partition by partition, as ``(engine_key(partition), value)``.

    Parameters
    ----------
    url
        The bus; relative paths are relative to ``base``.
    topic
        The topic, mostly ``journal``.
    partitions
        Their number; None asks the journal.
    base
        The folder that relative paths start from.
    finished
        Tells that no more records will come; None: a partition ends after a record with ``"end": true``.
    follow
        Never end.
    poll
        How long to wait at the end of what there is before looking again.
    replica
        The outputs are another's for now: they may be ahead of the recovered state.
    """

    def __init__(  # noqa: PLR0913 - all that a source may be told, by name
        self,
        url: str,
        topic: str,
        partitions: int | None = None,
        base: Path = Path(),
        finished: Callable[[], bool] | None = None,
        stopped: Callable[[], bool] = lambda: False,
        follow: bool = False,
        poll: timedelta = POLL,
        replica: bool = False,
    ) -> None:
        self._url, self._topic, self._base = url, topic, base
        self._partitions, self.poll = partitions, poll
        self._finished, self._stopped, self._follow = finished, stopped, follow
        self.replica = replica

    def list_parts(self) -> list[str]:
        """Return the partitions as text."""
        count = self._partitions or shard_count(self._url, self._base)
        return [str(partition) for partition in range(count)]

    @noting_failures
    def build_part(self, step_id: str, for_part: str, resume_state: Resume | None) -> "_Partition":
        """Return a reader that starts where the recovered state stands."""
        bus = open_bus(self._url, self._base)
        return _Partition(self, bus, self._topic, int(for_part), resume_state or 0)

    def over(self, last: bytes) -> bool:
        """Tell whether a partition that has no more records is done; ``last`` is its last value."""
        if self._finished is not None:
            return self._finished()
        return not self._follow and ENDS in last

    def stop(self) -> bool:
        """Tell whether everything is to stop."""
        return self._stopped()


class _Partition(StatefulSourcePartition[tuple[str, bytes], Resume]):
    def __init__(self, source: JournalSource, bus: Bus, topic: str, partition: int, resume: Resume) -> None:
        offset, digest = (resume, "") if isinstance(resume, int) else resume  # stores of before had no hash
        end = bus.end(topic, partition)
        if offset > end:
            text = f"the recovery store stands at offset {offset} of {topic}/{partition}, which ends at {end}"
            raise BusError(f"{text}: they do not join; move the folder recovery away to replay the journal")
        self._unchecked = offset > 0 and topic == "journal"
        self._source, self._bus, self._topic, self._key = source, bus, topic, engine_key(partition)
        self._partition, self._offset = partition, offset
        self._follower = bus.follow(topic)
        self._awake: datetime | None = None
        self._asked, self._batch = time.monotonic(), BATCH_RECORDS
        self._records_left, self._bytes_left = EPOCH_RECORDS_MAX, EPOCH_BYTES_MAX
        self._last = bus.read(topic, partition, offset - 1, 1)[0].value if offset else b""
        if digest and digest != _digest(self._last):
            text = f"the recovery store has taken another record {offset - 1} of {topic}/{partition} than stands there"
            raise SnapshotError(f"{text}: they do not join")

    @noting_failures
    def next_batch(self) -> list[tuple[str, bytes]]:
        """Return the next records; none at the end of what there is."""
        if self._source.stop():
            raise StopIteration
        if self._unchecked and not self._check():
            return []
        if self._records_left <= 0 or self._bytes_left <= 0:
            self._awake = datetime.now(UTC) + self._source.poll
            return []
        done = self._source.over(self._last)
        found = self._read(self._records_max(), strictly=done)
        if not found:
            if done:
                raise StopIteration
            self._awake = datetime.now(UTC) + self._source.poll
            return []
        self._awake = None
        self._offset += len(found)
        self._last = found[-1].value
        self._records_left -= len(found)
        self._bytes_left -= sum(len(record.value) for record in found)
        return [(self._key, record.value) for record in found]

    def _read(self, records_max: int, strictly: bool) -> list[Stored]:
        """Return the next records; ``strictly``: the end is the end only where everything durable was read."""
        if strictly:
            return self._bus.read(self._topic, self._partition, self._offset, records_max, BATCH_BYTES)
        return self._follower.poll(self._partition, self._offset, records_max, BATCH_BYTES)

    def _check(self) -> bool:
        """Check what the recovered state has written, as soon as the sinks have ended what a killed run left open."""
        cluster = cluster_of(self._bus)
        if not self._source.replica and any(cluster.has_open_transaction(topic, self._partition) for topic in DERIVED):
            self._awake = datetime.now(UTC) + SETTLE
            return False
        if self._source.replica:
            check_audit_stored(self._bus, self._partition, self._offset)
        else:
            check_outputs_stored(self._bus, self._partition, self._offset)
        self._unchecked = False
        return True

    def _records_max(self) -> int:
        """Return how many records to read: more each time the engine made this partition wait."""
        now = time.monotonic()
        stalled = self._awake is None and now - self._asked > STALL_S
        self._asked = now
        self._batch = min(2 * self._batch, EPOCH_RECORDS_MAX) if stalled else max(self._batch // 2, BATCH_RECORDS)
        return self._batch

    def next_awake(self) -> datetime | None:
        """Return when to look again."""
        return self._awake

    def snapshot(self) -> Resume:
        """Return the offset of the next record and the hash of the one before; the engine asks once per epoch."""
        self._records_left, self._bytes_left = EPOCH_RECORDS_MAX, EPOCH_BYTES_MAX
        return self._offset, _digest(self._last)

    def close(self) -> None:
        """Let go of the bus."""
        self._bus.close()


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def source(url: str, topic: str, partitions: int | None = None, **options: Any) -> JournalSource:
    """Return a Bytewax source of ``(partition, value)`` that remembers its offsets in the recovery store."""
    return JournalSource(url, topic, partitions, **options)


# Bytewax sink of the bus: no record is lost and none is written twice.
#
# A worker appends the records of whole slices in one transaction. What a replay makes again is compared with what is
# stored and dropped. `DeadlineTimer` bounds how long a record may wait for the transaction that makes it durable.

# A call that is made later, unless somebody makes it before: what holds work back bounds by it for how long.


class DeadlineTimer:
    """Calls something at a time, in a thread of its own, unless that is called off.

    What it raises is passed over: whoever calls it next is to meet that again.

    Parameters
    ----------
    call
        What to call.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call, self._due, self._ended = call, 0.0, False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def call_at(self, due: float) -> None:
        """Call it at a time of the monotonic clock, or at the one that was asked for before."""
        with self._changed:
            if self._due:
                return
            self._due = due
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="late", daemon=True)
                self._thread.start()
            self._changed.notify()

    def call_off(self) -> None:
        """Do not call it, unless it is being called now."""
        with self._changed:
            self._due = 0.0

    def end(self) -> None:
        """Never call it again; wait where it is being called."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._is_due():
            with contextlib.suppress(Exception):
                self._call()

    def _is_due(self) -> bool:
        """Wait for the time; False at the end."""
        with self._changed:
            while not self._ended:
                left = self._due - time.monotonic()
                if self._due and left <= 0:
                    self._due = 0.0
                    return True
                self._changed.wait(left if self._due else None)
        return False


# The bus as a Bytewax sink: nothing lost, nothing twice.
#
# It reads its partition back: what a replay produces again is compared with what stands and dropped, so the record
# count in ``seawall-n`` decides, never an offset or a clock (architecture.md, "Exactly once").

URGENT = frozenset(("commands", "breaches", "alerts", "state"))  # topics whose records somebody acts on
# A transaction costs a cluster as much for one slice as for five, and a command waits for the one that is under way.
QUIET_S = 0.05


class RecordSink(FixedPartitionedSink[Any, None]):
    """Writes records once: appends what is new, compares and drops what stands.

    Items are ``(partition, records)``, where ``records`` is a list for a sink of one topic, or a bundle with
    ``records`` by topic for a sink of all (``topic`` None).

    Raises
    ------
    PartitionLocked
        Another process writes here.
    Divergence, Gap
        What stands on the topic is not what the journal gives; both are named.

    Parameters
    ----------
    stands
        What stands on the topic stands: a record that differs from it is counted and dropped (``signals``).
    replica
        Follow who writes until this process may (``_replica.py``); only for a sink of all topics.
    """

    def __init__(
        self,
        url: str,
        topic: str | None = None,
        partitions: int | None = None,
        base: Path = Path(),
        stands: bool = False,
        replica: Replica | None = None,
    ) -> None:
        self._replica = replica
        self._url, self._base, self._stands = url, base, stands
        self._topics = DERIVED if topic is None else (topic,)
        self._one = topic
        self._partitions = partitions

    def list_parts(self) -> list[str]:
        """Return the partitions as text: one per shard and that of the second operator."""
        count = self._partitions or shard_count(self._url, self._base) + 1
        return [str(partition) for partition in range(count)]

    def part_fn(self, item_key: str) -> int:
        """Return the partition of an item: its key names it, as a number or as ``engine_key`` writes it."""
        return int(item_key.rstrip("."))

    @noting_failures
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> StatefulSinkPartition[Any, None]:
        """Become the writer of one partition of each topic."""
        bus = open_bus(self._url, self._base)
        partition, last = int(for_part), len(self.list_parts()) - 1
        topics = written_topics(partition, last, self._topics)
        telemetry, places = Telemetry.current(), [(topic, partition) for topic in topics]

        def begin(writer: Writer) -> _SinkPartition:
            place = bus, writer, (topics, partition), self._one, self._stands
            if telemetry is None:
                return _SinkPartition(*place)
            return _WatchedSinkPartition(telemetry.part(self._one or "write"), *place)

        if self._replica is not None:
            return ReplicaPartition(bus, places, begin, self._replica)
        return begin(bus.writer(places))


class _SinkPartition(StatefulSinkPartition[Any, None]):
    def __init__(self, bus: Bus, writer: Writer, place: tuple[list[str], int], one: str | None, stands: bool) -> None:
        self._bus, self._one = bus, one
        self._writer = RecordWriter(bus, writer, *place, stands)
        self._submitted_at = float("-inf")
        self._guard = threading.Lock()  # of the writer: what waits too long is submitted by another thread
        self._whole = True  # what was appended is of whole slices
        self._late = DeadlineTimer(self._submit)

    @noting_failures
    def write_batch(self, items: list[Any]) -> None:
        """Write the records of some slices in one transaction, which a cluster commits while the next slices come.

        Of a sink of all topics, slices without anything that is acted on go with those that come within ``QUIET_S``.
        """
        urgent = self._one is not None
        with self._guard:
            self._whole = False  # and stays so where a slice is refused: nobody writes a part of it
            for item in items:
                records = {self._one: item} if self._one else item.records
                self._writer.append(records)
                urgent = urgent or not URGENT.isdisjoint(records)
            self._whole = True
        due = self._submitted_at + QUIET_S
        if urgent or time.monotonic() >= due:
            self._late.call_off()
            self._submit()
        else:
            self._late.call_at(due)

    def _submit(self) -> None:
        with self._guard:
            if self._whole:
                self._writer.submit()
                self._submitted_at = time.monotonic()

    @noting_failures
    def snapshot(self) -> None:
        """Return nothing, once all is durable: the topic itself says what stands on it."""
        self._late.call_off()
        with self._guard:
            self._writer.flush()

    def close(self) -> None:
        """Let the partitions go; what goes wrong is noted, because the engine aborts the process where this raises.

        What its states stand on was flushed before; what a failed transaction held is made again.
        """
        self._late.end()
        try:
            self._writer.close()
        except BusError as error:
            failures.append(error)
        self._bus.close()


class _WatchedSinkPartition(_SinkPartition):
    """Says how long batches and the wait for what is durable took."""

    def __init__(self, part: Part, *place: Any) -> None:
        super().__init__(*place)
        self._part = part

    def write_batch(self, items: list[Any]) -> None:
        began = time.perf_counter()
        super().write_batch(items)
        self._part.work.observe(time.perf_counter() - began)
        self._part.slices += len(items)

    def snapshot(self) -> None:
        began = time.perf_counter()
        super().snapshot()
        self._part.snapshots.observe(time.perf_counter() - began)


def sink(url: str, topic: str | None = None, partitions: int | None = None) -> RecordSink:
    """Return a Bytewax sink that writes each record once, whatever is replayed; without a topic, of all topics."""
    return RecordSink(url, topic, partitions)
