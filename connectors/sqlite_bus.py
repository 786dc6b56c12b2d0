"""The embedded bus: one SQLite file, no server, readable while it runs.

One table ``records`` holds every topic. Writers append in one immediate transaction per flush; a partition's writer
holds a lock of the operating system, which dies with its process. ``synchronous=FULL`` in WAL mode makes a flush survive
a loss of power, not only of the process.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path

import orjson

from seawall.connectors.bus import READ_BYTES_MAX, READ_RECORDS_MAX
from seawall.schemas.errors import BusError, PartitionLocked
from seawall.schemas.records import Stored

BUSY_MS = 120_000
SCHEMA = """
create table if not exists records (
  topic text not null, "partition" integer not null, "offset" integer not null,
  key text not null, headers text not null, value blob not null,
  primary key (topic, "partition", "offset")
)
"""
INSERT = 'insert into records (topic, "partition", "offset", key, headers, value) values (?, ?, ?, ?, ?, ?)'
READ = (
    'select "offset", key, headers, value from records where topic = ? and "partition" = ? and "offset" >= ? '
    'order by "offset" limit ?'
)
END = 'select max("offset") from records where topic = ? and "partition" = ?'


class SqliteBus:
    """All topics in one SQLite file.

    Parameters
    ----------
    path
        The database file; made where it does not exist.

    Raises
    ------
    BusError
        The file is no database, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self.connection()

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        found = getattr(self._local, "connection", None)
        if found is None:
            found = self._local.connection = self.connect()
            with self._guard:
                self._open.append(found)
        connection: sqlite3.Connection = found
        return connection

    def connect(self) -> sqlite3.Connection:
        """Return a new connection."""
        try:
            connection = sqlite3.connect(
                self.path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            connection.execute(f"pragma busy_timeout = {BUSY_MS}")
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")
            connection.execute(SCHEMA)
        except sqlite3.Error as error:
            hint = "restore it from a backup, or move it away to start anew"
            raise BusError(f"{self.path.name} cannot be opened as a bus ({error}); {hint}") from error
        return connection

    def topics(self) -> list[str]:
        """Return the topics that have records, sorted."""
        return [row[0] for row in self._ask("select distinct topic from records order by topic")]

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic that have records, sorted."""
        ask = 'select distinct "partition" from records where topic = ? order by "partition"'
        return [row[0] for row in self._ask(ask, topic)]

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last durable record, 0 where there is none."""
        last = self._ask(END, topic, partition)[0][0]
        return 0 if last is None else int(last) + 1

    def read(
        self, topic: str, partition: int, offset: int, records_max: int = READ_RECORDS_MAX, bytes_max: int = READ_BYTES_MAX
    ) -> list[Stored]:
        """Return records from ``offset`` on, in order; at least one where there is one, none at the end."""
        found: list[Stored] = []
        size = 0
        try:
            for at, key, headers, value in self.connection().execute(READ, (topic, partition, offset, records_max)):
                raw = value if isinstance(value, bytes) else str(value).encode()
                found.append(Stored(at, str(key), _headers(headers), raw))
                size += len(raw)
                if size >= bytes_max:
                    break
        except sqlite3.Error as error:
            raise BusError(f"{self.path.name} cannot be read ({error}); restore it from a backup") from error
        return found

    def writer(self, partitions: Iterable[tuple[str, int]]) -> "SqliteWriter":
        """Become the writer of partitions; raises PartitionLocked where somebody else is."""
        return SqliteWriter(self, list(partitions))

    def close(self) -> None:
        """Close all connections."""
        with self._guard:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()

    def _ask(self, sql: str, *args: object) -> list[tuple[object, ...]] | list[tuple[int | str | None, ...]]:
        try:
            return self.connection().execute(sql, args).fetchall()
        except sqlite3.Error as error:
            raise BusError(f"{self.path.name} cannot be read ({error}); restore it from a backup") from error


class SqliteWriter:
    """The one writer of some partitions; its flush is one transaction."""

    def __init__(self, bus: SqliteBus, partitions: list[tuple[str, int]]) -> None:
        self._name = bus.path.name
        self._locks: list[int] = []
        try:
            for topic, partition in partitions:
                self._locks.append(_lock(bus.path, topic, partition))
        except PartitionLocked:
            self._unlock()
            raise
        self._connection = bus.connect()
        self._ends = {place: bus.end(*place) for place in partitions}
        self._buffer: list[tuple[str, int, int, str, str, bytes]] = []

    def append(self, topic: str, partition: int, key: str, value: bytes, headers: dict[str, str]) -> None:
        """Take one record; it stays in memory until ``flush``."""
        offset = self._ends[topic, partition]
        self._ends[topic, partition] = offset + 1
        self._buffer.append((topic, partition, offset, key, orjson.dumps(headers).decode(), value))

    def flush(self) -> None:
        """Write everything appended in one transaction; raises BusError, with nothing written, when it cannot."""
        if not self._buffer:
            return
        try:
            self._connection.execute("begin immediate")
            self._connection.executemany(INSERT, self._buffer)
            self._connection.execute("commit")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            raise BusError(f"{self._name} cannot be written ({error}); free disk space or check its folder") from error
        self._buffer.clear()

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record, those not flushed yet included."""
        return self._ends[topic, partition]

    def close(self) -> None:
        """Let the partitions go; what was not flushed is not written."""
        self._buffer.clear()
        self._connection.close()
        self._unlock()

    def _unlock(self) -> None:
        for descriptor in self._locks:
            os.close(descriptor)
        self._locks.clear()


def _lock(path: Path, topic: str, partition: int) -> int:
    """Take the lock of a partition: a file of its own, locked by the operating system while its descriptor is open."""
    folder = path.with_name(path.name + ".locks")
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / f"{topic}-{partition}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 32).decode(errors="replace") or "unknown"
        os.close(descriptor)
        text = f"partition {partition} of {topic} in {path.name} is being written by process {holder}"
        raise PartitionLocked(f"{text}; wait for that run to end, or stop it") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _headers(text: object) -> dict[str, str]:
    """Return a record's headers; text that is no JSON object becomes a header of its own, for ``verify`` to name."""
    try:
        found = orjson.loads(text)  # type: ignore[arg-type]
    except (orjson.JSONDecodeError, TypeError):
        found = None
    return found if isinstance(found, dict) else {"unreadable": str(text)}
