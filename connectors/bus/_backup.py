"""Backups as objects that never change: segments of topics, files by their hash, and a chain of manifests.

    manifests/00000001.json                     what this backup added, and where every partition ended
    topics/commands/0/00000000000000000000.gz   records as JSON lines, as `seawall dump` prints them, gzip
    files/SHA-256                               configuration, limits, playbook, inputs, public keys

The layout fits a folder or any object storage: names are only ever added, the manifest last, so a backup that was
killed is not there. A manifest names the SHA-256 of each of its objects and of the manifest before it.
``backup:FOLDER`` is a bus to read from, so a backup can be dumped and verified as it is.
"""

import base64
import bisect
import fcntl
import gzip
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from seawall.connectors.bus._protocol import READ_BYTES_MAX, READ_RECORDS_MAX, FileBus, Writer
from seawall.connectors.files import write_atomically
from seawall.schemas.errors import BackupError, UsageError
from seawall.schemas.records import Stored

BACKUP_FORMAT = "seawall-backup/1"
SEGMENT_RECORDS_MAX, SEGMENT_BYTES_MAX = 5_000, 8 * 1024 * 1024
Partition = tuple[str, int]


class BackupSegment(NamedTuple):
    """``size`` records of a partition from offset ``first`` on, in one object."""

    topic: str
    partition: int
    first: int
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The object's name."""
        return f"topics/{self.topic}/{self.partition}/{self.first:020d}.gz"


class BackupStore:
    """The objects of one backup in a folder.

    Raises
    ------
    BackupError
        A manifest is missing, changed or of another format; each names the object.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifests = list(self._manifests())

    def _manifests(self) -> Iterator[dict[str, Any]]:
        paths, before = sorted((self.folder / "manifests").glob("*.json")), ""
        for number, path in enumerate(paths, 1):
            data = path.read_bytes()
            try:
                found = orjson.loads(data)
            except orjson.JSONDecodeError as error:
                raise BackupError(f"{path} is unreadable ({error}); bring it back from another copy") from error
            if found.get("format") != BACKUP_FORMAT:
                raise BackupError(
                    f"{path} is of format {found.get('format')!r}, not {BACKUP_FORMAT!r}; read it with its version"
                )
            if found["number"] != number or found["before"] != before:
                raise BackupError(f"{path} does not follow the manifest before it; bring the missing one back")
            before = hashlib.sha256(data).hexdigest()
            yield found | {"sha256": before}

    @property
    def ends(self) -> dict[Partition, int]:
        """Where each partition ended at the last backup."""
        if not self.manifests:
            return {}
        return {(topic, partition): end for topic, partition, end in self.manifests[-1]["ends"]}

    def segments(self) -> dict[Partition, list[BackupSegment]]:
        """All segments by partition, in order."""
        found: dict[Partition, list[BackupSegment]] = {}
        for manifest in self.manifests:
            for segment in (BackupSegment(*one) for one in manifest["segments"]):
                found.setdefault((segment.topic, segment.partition), []).append(segment)
        return found

    def get(self, name: str, sha256: str) -> bytes:
        """Return an object; raises BackupError where it is missing or changed."""
        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            text = f"{self.folder / name} cannot be read ({error.strerror})"
            raise BackupError(f"{text}; bring it back from another copy") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BackupError(f"{self.folder / name} is not what was backed up; bring it back from another copy")
        return data

    def put(self, name: str, data: bytes) -> str:
        """Write an object, whole or not at all; return its SHA-256."""
        write_atomically([(self.folder / name, data)])
        return hashlib.sha256(data).hexdigest()

    def add(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Write the next manifest, after which the backup is there."""
        number = len(self.manifests) + 1
        before = self.manifests[-1]["sha256"] if self.manifests else ""
        whole = {"format": BACKUP_FORMAT, "number": number, "before": before, **manifest}
        sha256 = self.put(f"manifests/{number:08d}.json", orjson.dumps(whole))
        self.manifests.append(whole | {"sha256": sha256})
        return self.manifests[-1]

    def records(self, segment: BackupSegment) -> list[Stored]:
        """Return the records of a segment."""
        lines = gzip.decompress(self.get(segment.name, segment.sha256)).splitlines()
        if len(lines) != segment.size:
            raise BackupError(f"{segment.name} holds {len(lines)} records, not {segment.size}; bring it back")
        return [_stored(line) for line in lines]


def lock_backup(folder: Path) -> int:
    """Keep other backups away until the descriptor is closed; raises BackupError where one is at work."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise BackupError(f"another backup to {folder} is at work; wait for it") from error
    return descriptor


def _line(stored: Stored) -> bytes:
    line: dict[str, Any] = {"offset": stored.offset, "key": stored.key, "headers": stored.headers}
    try:
        line["value"] = stored.value.decode()
    except UnicodeDecodeError:
        line["value_base64"] = base64.b64encode(stored.value).decode()
    return orjson.dumps(line) + b"\n"


def _stored(line: bytes) -> Stored:
    found = orjson.loads(line)
    value = found["value"].encode() if "value" in found else base64.b64decode(found["value_base64"])
    return Stored(found["offset"], found["key"], found["headers"], value)


class BackupWriter:
    """Appends to partitions of a backup, in segments; the next manifest makes them part of it."""

    def __init__(self, store: BackupStore, partitions: Iterable[Partition], added: list[BackupSegment]) -> None:
        self._store, self._added = store, added
        self._ends = {place: store.ends.get(place, 0) for place in partitions}
        self._buffer: dict[Partition, list[Stored]] = {}
        self._bytes: Counter[Partition] = Counter()

    def append(self, topic: str, partition: int, key: str, value: bytes, headers: dict[str, str]) -> None:
        """Take one record; a segment that is full is written."""
        place = topic, partition
        records = self._buffer.setdefault(place, [])
        records.append(Stored(self._ends[place], key, headers, value))
        self._ends[place] += 1
        self._bytes[place] += len(value)
        if len(records) >= SEGMENT_RECORDS_MAX or self._bytes[place] >= SEGMENT_BYTES_MAX:
            self._write(place)

    def submit(self) -> None:
        """Do nothing: small segments are objects of their own for ever."""

    def is_idle(self) -> bool:
        """Return True: nothing is under way."""
        return True

    def flush(self) -> None:
        """Write what was appended."""
        for place in list(self._buffer):
            self._write(place)

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record, those not flushed yet included."""
        return self._ends[topic, partition]

    def close(self) -> None:
        """Let go of what was not flushed."""
        self._buffer.clear()

    def _write(self, place: Partition) -> None:
        records = self._buffer.pop(place)
        del self._bytes[place]
        segment = BackupSegment(*place, records[0].offset, len(records), "")
        data = gzip.compress(b"".join(map(_line, records)), 6, mtime=0)
        self._added.append(segment._replace(sha256=self._store.put(segment.name, data)))


class BackupBus(FileBus):
    """A backup as a bus that is read only: ``backup:FOLDER``.

    Parameters
    ----------
    folder
        Of the backup.
    adding
        Whether the next backup is made: there may be none yet, and records may be copied to it.

    Attributes
    ----------
    store
        The objects.
    added
        Segments that were written and that no manifest names yet.

    Raises
    ------
    UsageError
        There is no backup, or somebody writes to it as to a bus.
    """

    def __init__(self, folder: Path, adding: bool = False) -> None:
        self.store, self._adding = BackupStore(folder), adding
        if not self.store.manifests and not adding:
            raise UsageError(f"{folder} holds no backup; it is a folder that `seawall backup` has written")
        self.added: list[BackupSegment] = []
        self._segments, self._ends = self.store.segments(), self.store.ends
        self._held: dict[Partition, tuple[BackupSegment, list[Stored]]] = {}

    def topics(self) -> list[str]:
        """Return the topics that have records, sorted."""
        return sorted({topic for topic, _ in self._segments})

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic that have records, sorted."""
        return sorted(partition for name, partition in self._segments if name == topic)

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record of the last backup."""
        return self._ends.get((topic, partition), 0)

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        records_max: int = READ_RECORDS_MAX,
        bytes_max: int = READ_BYTES_MAX,
    ) -> list[Stored]:
        """Return records from ``offset`` on, in order; at most those of one segment."""
        place = topic, partition
        segments = self._segments.get(place, [])
        at = bisect.bisect_right(segments, offset, key=lambda segment: segment.first) - 1
        if at < 0 or offset >= self.end(*place):
            return []
        segment = segments[at]
        if place not in self._held or self._held[place][0] != segment:
            self._held[place] = segment, self.store.records(segment)
        found, size = [], 0
        for stored in self._held[place][1][offset - segment.first :][:records_max]:
            found.append(stored)
            size += len(stored.value)
            if size >= bytes_max:
                break
        return found

    def identity(self) -> str:
        """Return the folder, links followed."""
        return f"backup:{self.store.folder.resolve()}"

    def writer(self, partitions: Iterable[Partition], take: bool = False) -> Writer:
        """Become the writer of segments of the next backup; refuse where none is made."""
        if not self._adding:
            raise UsageError("a backup is only read; restore it to a bus of its own with `seawall restore`")
        return BackupWriter(self.store, partitions, self.added)

    def close(self) -> None:
        """Let go of what was read."""
        self._held.clear()
