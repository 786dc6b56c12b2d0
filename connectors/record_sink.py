"""The bus as a Bytewax sink: nothing lost, nothing twice.

It reads its partition back: what a replay produces again is compared with what stands and dropped, so the record count
in ``seawall-n`` decides, never an offset or a clock (architecture.md, "Exactly once").
"""

import threading
import time
from pathlib import Path
from typing import Any

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from seawall.connectors.appending import DERIVED, RecordWriter, written_topics
from seawall.connectors.bus import Bus, Writer, open_bus
from seawall.connectors.failures import failures, noted
from seawall.connectors.journal_source import shard_count
from seawall.connectors.late import Late
from seawall.connectors.replica import Replica, ReplicaPartition
from seawall.schemas.errors import BusError
from seawall.schemas.telemetry import Part, watching

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
        Follow who writes until this process may (``replica.py``); only for a sink of all topics.
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

    @noted
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> StatefulSinkPartition[Any, None]:
        """Become the writer of one partition of each topic."""
        bus = open_bus(self._url, self._base)
        partition, last = int(for_part), len(self.list_parts()) - 1
        topics = written_topics(partition, last, self._topics)
        telemetry, places = watching(), [(topic, partition) for topic in topics]

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
        self._late = Late(self._submit)

    @noted
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

    @noted
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
