"""Bytewax sink of the bus: no record is lost and none is written twice.

A worker appends the records of whole slices in one transaction. What a replay makes again is compared with what is
stored and dropped. `DeadlineTimer` bounds how long a record may wait for the transaction that makes it durable.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from seawall.connectors.bus._appending import DERIVED, RecordWriter, written_topics
from seawall.connectors.bus._engine import failures, noting_failures
from seawall.connectors.bus._factory import open_bus
from seawall.connectors.bus._journal_source import shard_count
from seawall.connectors.bus._protocol import Bus, Writer
from seawall.connectors.bus._replica import Replica, ReplicaPartition
from seawall.schemas.errors import BusError
from seawall.schemas.telemetry import Part, current_telemetry

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
        telemetry, places = current_telemetry(), [(topic, partition) for topic in topics]

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
