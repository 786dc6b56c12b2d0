"""Reading of the embedded bus: its rows as a reader gets them, and files that this user may not write.

SQLite takes any value in any column: a text where an offset belongs sorts behind all numbers, and minus one before the
first. Such rows are never read; ``strange_rows`` finds them. A bus that this user may not write (another user's run, or
evidence on a read-only disk) is opened for reading only, and opened again when the file changes.
"""

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import orjson

import seawall
from seawall.connectors.bus._protocol import READ_BYTES_MAX, READ_RECORDS_MAX, TOPICS, FileBus, headers_by_name
from seawall.connectors.files import lock_partition
from seawall.schemas.errors import BusError
from seawall.schemas.records import Stored

# Rows of the embedded bus as a reader gets them, and those that no writer of Seawall wrote.

READ = """
select "offset", key, headers, value from records
where topic = ? and "partition" = ? and "offset" >= ? and typeof("offset") = 'integer' order by "offset" limit ?
"""
END = """
select "offset" from records
where topic = ? and "partition" = ? and "offset" >= 0 and typeof("offset") = 'integer' order by "offset" desc limit 1
"""
TOPICS_STORED = "select distinct topic from records where typeof(topic) = 'text' order by topic"
PARTITIONS_STORED = """
select distinct "partition" from records
where topic = ? and "partition" >= 0 and typeof("partition") = 'integer' order by "partition"
"""
ROWS_MAX = 1000
LAYOUT = 1  # of the bus, in its `pragma user_version`; stores of before say 0 and are laid out alike
# A value that is text is strange on our topics only: others may write theirs, and acknowledgements, with any tool.
OURS = tuple(topic for topic in TOPICS if topic != "acknowledgements")
COLUMNS = ("topic", "partition", "offset", "key", "headers", "value")
TYPES = ("text", "integer", "integer", "text", "text", "blob")
STRANGE = f"""
select topic, "partition", "offset", {", ".join(f'typeof("{name}")' for name in COLUMNS)} from records
where typeof(topic) <> 'text'
  or typeof("partition") <> 'integer' or "partition" < 0
  or typeof("offset") <> 'integer' or "offset" < 0
  or topic in ({", ".join("?" * len(OURS))})
    and (typeof(key) <> 'text' or typeof(headers) <> 'text' or typeof(value) <> 'blob')
limit {ROWS_MAX}
"""


def read_headers(text: Any) -> dict[str, str]:
    """Return a record's headers; what is no text, or stands twice, goes by another name, for ``verify`` to name."""
    try:
        found = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        found = None
    if not isinstance(found, dict):
        return {"unreadable": str(text)}
    if wrong := {name for name, value in found.items() if not isinstance(value, str)}:
        texts = {f"{name} (no text)": orjson.dumps(found[name]).decode() for name in sorted(wrong)}
        return {name: value for name, value in found.items() if name not in wrong} | texts
    if orjson.dumps(found).decode() == text:  # as a writer spells them, so that no name stands twice
        return found
    return headers_by_name(json.loads(text, object_pairs_hook=list))


def strange_rows(connection: sqlite3.Connection) -> Iterator[tuple[str, int, str]]:
    """Yield topic, partition and what is wrong of rows whose columns hold what no writer puts there."""
    for topic, partition, offset, *types in connection.execute(STRANGE, OURS):
        columns = zip(COLUMNS, TYPES, types, strict=True)
        wrong = [f"{name} is {found}" for name, wanted, found in columns if found != wanted]
        numbers = ("partition", partition), ("offset", offset)
        wrong += [f"{name} is negative" for name, number in numbers if isinstance(number, int) and number < 0]
        what = f"the row of partition {partition!r} and offset {offset!r} is no record: {', '.join(wrong)}"
        yield str(topic), partition if isinstance(partition, int) else 0, what


# Reading an embedded bus that this user may not write: somebody else's run, or evidence on a read-only medium.
#
# SQLite reads a write-ahead log through shared memory, the file ``-shm``. Where a run keeps that there, a reader takes
# part in it and sees whole transactions. Where there is neither log nor shared memory, SQLite would make them, which a
# reader must not: it may not be able to, and files of its own would shut the run's user out. Then the file is opened as
# one that never changes, with a stamp by which the reader finds out that it did after all.

Stamp = tuple[object, ...]
"""What is seen of the files of a bus from outside: equal as long as nobody writes."""


def connect_to_read(path: Path) -> tuple[sqlite3.Connection, Stamp | None]:
    """Return a connection that reads, and the stamp of a file that was opened as one that never changes.

    Raises
    ------
    sqlite3.Error
        The file cannot be read; or there is a log but no shared memory, and none can be made: a reader of the file
        alone would miss what stands in the log.
    """
    log = path.with_name(path.name + "-wal")
    stamp = stamp_of(path)
    has_log = log.exists() and log.stat().st_size > 0
    if has_log or path.with_name(path.name + "-shm").exists():
        try:
            return _open_to_read(path, ""), None
        except sqlite3.OperationalError:
            if has_log:
                raise
    return _open_to_read(path, "&immutable=1"), stamp


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a bus: number, size and time of the file, and which files stand beside it; empty of none."""
    if not path.exists():
        return ()
    found = path.stat()
    beside = [path.with_name(path.name + end).exists() for end in ("-wal", "-shm")]
    return found.st_ino, found.st_size, found.st_mtime_ns, *beside


def _open_to_read(path: Path, options: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode=ro{options}"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("select 1 from sqlite_schema").fetchall()  # opens the files, which connecting does not
    except sqlite3.Error:
        connection.close()
        raise
    return connection


# Embedded bus: one SQLite file, no server, readable while it runs.
#
# One table ``records`` holds every topic. Writers append in one immediate transaction per flush. A partition's writer
# holds a lock of the operating system, which dies with its process. ``synchronous=FULL`` in WAL mode makes a flush
# survive a loss of power, not only of the process: subscribers may have obeyed a command, so the journal that led to it
# must not be lost. The price is one fsync per flush. With 100 records of 600 bytes in a flush, 124,000 records a second
# went in on a quiet machine (165,000 with NORMAL) and 22,000 on a busy one (53,000 to 81,000), where an fsync takes 4
# ms; with 1,000 records 89,000 there (107,000). So flush many records at once. Pages of 8 to 32 KiB gained nothing and
# a table WITHOUT ROWID wrote a third slower: both stay as SQLite has them.

BUSY_MS = 120_000
# SQLite's own busy handler sleeps up to 100 ms between tries: of four writing threads one then waited 0.9 to 2.3 s for
# a flush, against 0.2 to 0.4 s with this.
RETRY_S = 0.001
INSERT = 'insert into records (topic, "partition", "offset", key, headers, value) values (?, ?, ?, ?, ?, ?)'


class SqliteWriter:
    """The one writer of some partitions; its flush is one transaction."""

    def __init__(self, bus: "SqliteBus", partitions: list[tuple[str, int]]) -> None:
        self._bus = bus
        self._locks: list[int] = []
        self._buffer: list[tuple[str, int, int, str, str, bytes]] = []
        try:
            for topic, partition in partitions:
                self._locks.append(lock_partition(bus.path, topic, partition))
            self._ends = {place: bus.end(*place) for place in partitions}
            self._connection = bus.connect()
            self._connection.execute("pragma busy_timeout = 0")
        except BaseException:
            self._unlock()
            raise

    def append(self, topic: str, partition: int, key: str, value: bytes, headers: dict[str, str]) -> None:
        """Take one record; it stays in memory until ``flush``."""
        offset = self._ends.get((topic, partition))
        if offset is None:
            raise BusError(f"partition {partition} of {topic} is not this writer's; name it when opening the writer")
        self._ends[topic, partition] = offset + 1
        self._buffer.append((topic, partition, offset, key, orjson.dumps(headers).decode(), value))

    def flush(self) -> None:
        """Write everything appended in one transaction; raises BusError, with nothing written, when it cannot."""
        if not self._buffer:
            return
        try:
            retry_while_busy(lambda: self._connection.execute("begin immediate"))
            self._connection.executemany(INSERT, self._buffer)
            self._connection.execute("commit")
        except sqlite3.Error as error:
            failure = self._bus.failed("written", error)
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("rollback")
            raise failure from error
        self._buffer.clear()

    submit = flush

    def is_idle(self) -> bool:
        """Return True: what was submitted is durable."""
        return True

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


def retry_while_busy(step: Callable[[], object]) -> None:
    """Repeat a step while another connection holds the file, at most ``BUSY_MS``."""
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            step()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)


T = TypeVar("T")
SCHEMA = """
create table if not exists records (
  topic text not null, "partition" integer not null, "offset" integer not null,
  key text not null, headers text not null, value blob not null,
  primary key (topic, "partition", "offset")
)
"""
HINTS = {
    sqlite3.SQLITE_BUSY: "another process holds it; wait for it, or stop it",
    sqlite3.SQLITE_CANTOPEN: "check that its folder exists and may be written",
    sqlite3.SQLITE_CONSTRAINT: "somebody wrote to the partition without its lock; run `seawall verify`",
    sqlite3.SQLITE_FULL: "free disk space",
    sqlite3.SQLITE_IOERR: "check the disk",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
}


class SqliteBus(FileBus):
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
        if found is not None and self._is_outdated():
            with self._guard:
                self._open.remove(found)
            found.close()
            found = None
        if found is None:
            found, self._local.stamp = self._connect()
            self._local.connection = found
            with self._guard:
                self._open.append(found)
        connection: sqlite3.Connection = found
        return connection

    def connect(self) -> sqlite3.Connection:
        """Return a new connection; of a file that may not be written, one that reads."""
        return self._connect()[0]

    def _connect(self) -> tuple[sqlite3.Connection, Stamp | None]:
        """Return a new connection, and the stamp by which its reader knows that it is outdated."""
        try:
            if not self._is_writable():
                connection, stamp = connect_to_read(self.path)
                self._version_of(connection)
                return connection, stamp
            connection = sqlite3.connect(
                self.path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            # Two processes that make the same file collide here, and SQLite does not wait for each other by itself.
            retry_while_busy(lambda: connection.execute("pragma journal_mode = wal"))
            connection.execute("pragma synchronous = full")
            self._check_version(connection)
            retry_while_busy(lambda: connection.execute(SCHEMA))
        except sqlite3.Error as error:
            raise self.failed("opened as a bus", error) from error
        return connection, None

    def _is_writable(self) -> bool:
        return not self.path.exists() or (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK))

    def _is_outdated(self) -> bool:
        """Tell whether somebody wrote to the file that this thread opened as one that never changes."""
        stamp: Stamp | None = getattr(self._local, "stamp", None)
        return stamp is not None and stamp != stamp_of(self.path)

    def _asked(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Return the answer to a question; it is asked again where the file changed under it."""
        while True:
            connection = self.connection()
            try:
                found = ask(connection)
            except sqlite3.Error as error:
                if not self._is_outdated():
                    raise self.failed("read", error) from error
                continue
            if not self._is_outdated():
                return found

    def _check_version(self, connection: sqlite3.Connection) -> None:
        """Number a store that has no number; raise BusError where a later version made it."""
        if not self._version_of(connection):
            retry_while_busy(lambda: connection.execute(f"pragma user_version = {LAYOUT}"))

    def _version_of(self, connection: sqlite3.Connection) -> int:
        (found,) = connection.execute("pragma user_version").fetchone()
        if found > LAYOUT:
            connection.close()
            text = f"{self.path} is an embedded bus of layout {found}, and Seawall {seawall.__version__} reads up to"
            raise BusError(f"{text} {LAYOUT}: install the version that wrote it, or a later one")
        return int(found)

    def failed(self, what: str, error: sqlite3.Error) -> BusError:
        """Return the error that says in one line what could not be done and what to do next."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        other = "restore it from a backup, or move it away to start anew"
        if not self._is_writable():
            other = "this user may not write it; read it as the run's user before you take it for damaged"
        hint = HINTS.get(code, other)
        return BusError(f"{self.path} cannot be {what} ({error}); {hint}")

    def topics(self) -> list[str]:
        """Return the topics that have records, sorted."""
        return [row[0] for row in self._ask(TOPICS_STORED)]

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic that have records, sorted."""
        return [row[0] for row in self._ask(PARTITIONS_STORED, topic)]

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last durable record, 0 where there is none."""
        last = self._ask(END, topic, partition)
        return int(last[0][0]) + 1 if last else 0

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        records_max: int = READ_RECORDS_MAX,
        bytes_max: int = READ_BYTES_MAX,
    ) -> list[Stored]:
        """Return records from ``offset`` on, in order; at least one where there is one, none at the end."""

        def ask(connection: sqlite3.Connection) -> list[Stored]:
            found: list[Stored] = []
            size = 0
            for at, key, headers, value in connection.execute(READ, (topic, partition, offset, records_max)):
                raw = value if isinstance(value, bytes) else str(value).encode()
                found.append(Stored(at, str(key), read_headers(headers), raw))
                size += len(raw)
                if size >= bytes_max:
                    break
            return found

        return self._asked(ask)

    def skip_foreign_records(self, tell: Callable[[str, int, str], None]) -> None:
        """Tell of rows that no writer wrote and nobody reads: offsets that are negative or texts, and the like."""
        for row in self._asked(lambda connection: list(strange_rows(connection))):
            tell(*row)

    def identity(self) -> str:
        """Return the file, links followed."""
        return f"sqlite:{self.path.resolve()}"

    def writer(self, partitions: Iterable[tuple[str, int]], take: bool = False) -> SqliteWriter:
        """Become the writer of partitions; raises PartitionLocked where a process that lives is, also with ``take``."""
        return SqliteWriter(self, list(partitions))

    def close(self) -> None:
        """Close all connections."""
        with self._guard:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()

    def _ask(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        return self._asked(lambda connection: connection.execute(sql, args).fetchall())
