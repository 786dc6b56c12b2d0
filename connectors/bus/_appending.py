"""Appending exactly once: records that a replay makes again, and states on the topic ``snapshots``. Knows no engine.

A record's number in its partition (``seawall-n``) decides: a record that is already stored is compared and dropped, the
next one is appended, anything else stops. So an engine may give the same slices as often as it likes. The topic
``snapshots`` holds states of keyed steps as one engine left them, for another engine to begin with.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, Self

from seawall.connectors.bus._protocol import Bus, Writer
from seawall.schemas.errors import Divergence, Gap, SnapshotError
from seawall.schemas.records import Record, Stored

# Appending once what a replay makes again: the part of every sink that knows no engine.

log = logging.getLogger("seawall")
DERIVED = ("exposures", "alerts", "breaches", "commands", "audit", "rejects", "state", "forecasts")
COMPARED = ("seawall-id", "seawall-n", "dsse")
TAIL_RECORDS = 500


def written_topics(partition: int, last: int, topics: Iterable[str] = DERIVED) -> list[str]:
    """Return the topics in which a partition is ours; the ``last`` one of rejects is the sequencer's.

    See architecture.md, "Exactly once".
    """
    return [topic for topic in topics if topic != "rejects" or partition < last]


def decided_slices(bus: Bus, shard: int) -> int:
    """Return the number of slices of a shard that the audit has decisions on."""
    end = bus.end("audit", shard)
    last = bus.read("audit", shard, end - 1, 1) if end else []
    return int(last[0].headers["seawall-id"].split("-")[1]) + 1 if last else 0


class RecordWriter:
    """Writes one partition of several topics, all records of some slices in one transaction.

    Parameters
    ----------
    bus
        Where what stands is read; it stays open.
    writer
        Of these partitions; closed with this.
    topics, partition
        What is written.
    stands
        What stands on a topic stands: a record that differs from it is counted and dropped (``signals``).

    Raises
    ------
    Divergence, Gap
        What stands on the topic is not what the journal gives; both are named.
    """

    def __init__(self, bus: Bus, writer: Writer, topics: Sequence[str], partition: int, stands: bool = False) -> None:
        self._bus, self._place, self._stands = bus, (topics, partition), stands
        self._writer = writer

    @cached_property
    def _appenders(self) -> dict[str, "Appender"]:
        """What stands is looked at when it is needed: until then writers of other partitions open as well."""
        topics, partition = self._place
        return {topic: Appender(self._bus, self._writer, topic, partition, self._stands) for topic in topics}

    def append(self, records: Mapping[str, Sequence[Record]]) -> None:
        """Take the records of one slice by topic; they stay in memory until ``submit`` or ``flush``."""
        for topic, some in records.items():
            append = self._appenders[topic].append
            for record in some:
                append(record)

    def submit(self) -> None:
        """Begin to make what was taken durable; the next call here waits for it and raises."""
        self._writer.submit()

    def pump(self) -> bool:
        """Submit what was taken, where no transaction is under way; tell whether anything is not durable yet."""
        if not self._writer.is_idle():
            return True
        self._writer.submit()
        return not self._writer.is_idle()

    def flush(self) -> None:
        """Make everything that was taken durable."""
        self._writer.flush()

    def close(self) -> None:
        """Let the partitions go; what was not submitted is not written."""
        self._writer.close()


class Appender:
    """Appends to one partition what does not stand there yet; compares what does.

    Attributes
    ----------
    differing
        Records that differ from what stands and were dropped; only with ``stands``, without which they raise.
    """

    def __init__(self, bus: Bus, writer: Writer, topic: str, partition: int, stands: bool = False) -> None:
        self._bus, self._writer, self._topic, self._partition = bus, writer, topic, partition
        self._stands, self.differing = stands, 0
        self._end = writer.end(topic, partition)
        self._stood = self._end
        self._ahead: list[Stored] = []

    def append(self, record: Record) -> None:
        """Append a record, or compare it with the one that stands in its place."""
        if record.n == self._end:
            self._writer.append(self._topic, self._partition, record.key, record.value, record.headers())
            self._end += 1
        elif record.n < self._stood:
            self._compare(record)
        else:
            text = f"record {record.id} of {self._topic}/{self._partition} is number {record.n}, but {self._end} stand"
            raise Gap(f"{text}: records are missing; move the folder recovery away to replay the journal")

    def _compare(self, record: Record) -> None:
        if not self._ahead or self._ahead[0].offset != record.n:
            self._ahead = self._bus.read(self._topic, self._partition, record.n, 500)
        stored = self._ahead.pop(0)
        wanted = record.headers()
        same = stored.key == record.key and stored.value == record.value
        if not same or any(stored.headers.get(name, "") != wanted.get(name, "") for name in COMPARED):
            if self._stands:
                self.differing += 1
                log.warning("%s/%d: %s stands, what came again differs", self._topic, self._partition, record.id)
                return
            where = f"offset {stored.offset} of {self._topic}/{self._partition}"
            text = f"{where} holds {stored.headers.get('seawall-id')}, which differs from record {record.id}"
            text = f"{text} that the journal gives; run `seawall verify` to see which is wrong"
            raise Divergence(f"{text}: where it holds, another version decided, and only that one can go on")


def check_outputs_stored(bus: Bus, partition: int, offset: int) -> None:
    """Check that what a recovered state has written stands: the audit up to its slice, and what the audit last names.

    Raises
    ------
    SnapshotError
        Outputs were cut behind the state's back; replaying the journal writes them again.
    """
    end = check_audit_stored(bus, partition, offset)
    wanted = {topic: b'"%s":[' % topic.encode() for topic in DERIVED if topic != "audit"}
    while wanted and end > 0:
        start = max(0, end - TAIL_RECORDS)
        for stored in reversed(bus.read("audit", partition, start, end - start)):
            for topic in [topic for topic, mark in wanted.items() if mark in stored.value]:
                found = json.loads(stored.value)
                if found["kind"] == "slice":
                    del wanted[topic]
                    _check_tail(
                        bus, topic, partition, f"{partition}-{found['seq']}-{found['body']['topics'][topic][0] - 1}"
                    )
        end = start


def check_audit_stored(bus: Bus, partition: int, offset: int) -> int:
    """Check that the audit goes up to a recovered state's slice; return its end."""
    end = bus.end("audit", partition)
    last = bus.read("audit", partition, end - 1, 1) if end else []
    seq = int(last[0].headers.get("seawall-id", "0-0-0").split("-")[1]) if last else -1
    if seq < offset - 1:
        raise SnapshotError(f"the recovery store stands at slice {offset}, audit/{partition} ends with slice {seq}")
    return end


def _check_tail(bus: Bus, topic: str, partition: int, wanted: str) -> None:
    end = bus.end(topic, partition)
    last = bus.read(topic, partition, end - 1, 1) if end else []
    found = last[0].headers.get("seawall-id") if last else "none"
    if found != wanted:
        raise SnapshotError(f"the last record of {topic}/{partition} is {found}, the audit names {wanted}")


# The topic ``snapshots``: states of keyed steps as one engine left them, for another one to go on from.
#
# A state is cut into records that fit on any bus, written in one transaction. A record's id names partition, the place
# at which the state stands, and its part; of two states at one place the later counts. The state itself carries its
# checksum and version.

SNAPSHOTS_TOPIC = "snapshots"
PART_BYTES = 512 * 1024
READ_PARTS = 8


class KeptSnapshot(NamedTuple):
    """A state and the place at which it stands: the last slice or second taken."""

    seq: int
    data: bytes

    def publish(self, bus: Bus, partition: int) -> None:
        """Append the state of a partition; nothing where its last one is the same."""
        writer = bus.writer([(SNAPSHOTS_TOPIC, partition)])
        try:
            end = writer.end(SNAPSHOTS_TOPIC, partition)
            last = bus.read(SNAPSHOTS_TOPIC, partition, end - 1, 1) if end else []
            if last and _position(last[0].headers)[0] == self.seq and self.latest(bus, partition) == self:
                return
            parts = range(0, len(self.data), PART_BYTES)
            for at, first in enumerate(parts):
                headers = {"seawall-id": f"{partition}-{self.seq}-{at}", "seawall-n": str(end + at)}
                writer.append(
                    SNAPSHOTS_TOPIC, partition, str(partition), self.data[first : first + PART_BYTES], headers
                )
            writer.flush()
        finally:
            writer.close()

    @classmethod
    def latest(cls, bus: Bus, partition: int, seq: int | None = None) -> Self | None:
        """Return the last state of a partition, or the one at ``seq``; None where there is none.

        Raises
        ------
        SnapshotError
            Parts of it are not there.
        """
        end = bus.end(SNAPSHOTS_TOPIC, partition)
        while end:
            found, last = _position(bus.read(SNAPSHOTS_TOPIC, partition, end - 1, 1)[0].headers)
            first = end - 1 - last
            if seq is None or found == seq:
                return cls(found, _joined(bus, partition, first, found, last))
            end = first
        return None


def _joined(bus: Bus, partition: int, first: int, seq: int, last: int) -> bytes:
    found: list[bytes] = []
    while len(found) <= last:
        for stored in bus.read(SNAPSHOTS_TOPIC, partition, first + len(found), min(READ_PARTS, last + 1 - len(found))):
            if _position(stored.headers) != (seq, len(found)):
                raise SnapshotError(
                    f"{SNAPSHOTS_TOPIC}/{partition} offset {stored.offset} is no part of the state at {seq}"
                )
            found.append(stored.value)
    return b"".join(found)


def _position(headers: dict[str, str]) -> tuple[int, int]:
    """Return the place and the part that a record's id names."""
    _, seq, part = headers["seawall-id"].rsplit("-", 2)
    return int(seq), int(part)
