"""The bus as a Bytewax source: every record of a topic, from where the recovered state stands.

Its snapshot is the next offset and the hash of the record before it, which tells a state of another journal; the engine
keeps it together with the state of the same epoch.
"""

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from seawall.connectors.bus._appending import DERIVED, check_audit_stored, check_outputs_stored
from seawall.connectors.bus._clusters import cluster_of
from seawall.connectors.bus._engine import engine_key, noting_failures
from seawall.connectors.bus._factory import open_bus
from seawall.connectors.bus._protocol import Bus
from seawall.schemas.errors import BusError, SnapshotError
from seawall.schemas.records import Stored, decode_slice

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
