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
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import orjson

from seawall.connectors.bus._protocol import READ_BYTES_MAX, READ_RECORDS_MAX, Bus, Writer
from seawall.connectors.files import write_atomically
from seawall.schemas.errors import BackupError, Gap, UsageError
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

    def lock(self) -> int:
        """Keep other backups away until the descriptor is closed; raises BackupError where one is at work."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise BackupError(f"another backup to {self.folder} is at work; wait for it") from error
        return descriptor

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

    def put_records(self, bus: Bus, topic: str, partition: int, first: int, end: int) -> Iterator[BackupSegment]:
        """Write the records of a partition from ``first`` to before ``end`` as segments.

        Raises
        ------
        Gap
            Records that no backup has are gone from the source, or its offsets have gaps.
        """
        if (start := bus.start(topic, partition)) > first:
            text = f"{topic}/{partition} begins at {start}, and no backup holds {first} to {start - 1}"
            raise Gap(f"{text}: retention took them; back up to a new folder, and more often than records expire")
        while first < end:
            found = bus.read(topic, partition, first, min(SEGMENT_RECORDS_MAX, end - first), SEGMENT_BYTES_MAX)
            if not found or [stored.offset for stored in found] != list(range(first, first + len(found))):
                raise Gap(f"{topic}/{partition} has no record {first}, or gaps after it; run `seawall verify`")
            data = gzip.compress(b"".join(map(_line, found)), 6, mtime=0)
            segment = BackupSegment(topic, partition, first, len(found), "")
            yield segment._replace(sha256=self.put(segment.name, data))
            first += len(found)

    def records(self, segment: BackupSegment) -> list[Stored]:
        """Return the records of a segment."""
        lines = gzip.decompress(self.get(segment.name, segment.sha256)).splitlines()
        if len(lines) != segment.size:
            raise BackupError(f"{segment.name} holds {len(lines)} records, not {segment.size}; bring it back")
        return [_stored(line) for line in lines]


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


class BackupBus:
    """A backup as a bus that is read only: ``backup:FOLDER``.

    Raises
    ------
    UsageError
        There is no backup, or somebody writes to it as to a bus.
    """

    fences = False

    def __init__(self, folder: Path) -> None:
        self._store = BackupStore(folder)
        if not self._store.manifests:
            raise UsageError(f"{folder} holds no backup; it is a folder that `seawall backup` has written")
        self._segments, self._ends = self._store.segments(), self._store.ends
        self._held: dict[Partition, tuple[BackupSegment, list[Stored]]] = {}

    def topics(self) -> list[str]:
        """Return the topics that have records, sorted."""
        return sorted({topic for topic, _ in self._segments})

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic that have records, sorted."""
        return sorted(partition for name, partition in self._segments if name == topic)

    def known_partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic that have records: nobody has to wait for that here."""
        return self.partitions(topic)

    def keep_to(self, topic: str, begun: bool, reader: str) -> None:
        """Do nothing: nothing changes here."""

    def start(self, topic: str, partition: int) -> int:
        """Return the offset of the first record."""
        found = self._segments.get((topic, partition))
        return found[0].first if found else 0

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record of the last backup."""
        return self._ends.get((topic, partition), 0)

    def is_settled(self, topic: str, partition: int) -> bool:
        """Return True: nothing is under way."""
        return True

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
            self._held[place] = segment, self._store.records(segment)
        found, size = [], 0
        for stored in self._held[place][1][offset - segment.first :][:records_max]:
            found.append(stored)
            size += len(stored.value)
            if size >= bytes_max:
                break
        return found

    tail = read

    def may_have_more(self, topic: str, partition: int) -> bool:
        """Return False: what was returned is what is there."""
        return False

    def pass_over(self, tell: Callable[[str, int, str], None]) -> None:
        """Do nothing: every record has an offset, and is read."""

    def identity(self) -> str:
        """Return the folder, links followed."""
        return f"backup:{self._store.folder.resolve()}"

    def provide(self, partitions: Mapping[str, int], make: bool) -> list[str]:
        """Do nothing: what was backed up is there."""
        return []

    def writer(self, partitions: Iterable[Partition], take: bool = False) -> Writer:
        """Refuse: a backup is not written as a bus."""
        self._refuse()

    def copier(self, partitions: Iterable[Partition]) -> Writer:
        """Refuse: a backup is not written as a bus."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UsageError("a backup is only read; restore it to a bus of its own with `seawall restore`")

    def close(self) -> None:
        """Let go of what was read."""
        self._held.clear()
