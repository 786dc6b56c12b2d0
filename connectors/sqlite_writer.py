"""Writing partitions of the embedded bus: one immediate transaction per flush.

A partition's writer holds a lock of the operating system, which dies with its process.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson

from seawall.connectors.locks import lock_partition
from seawall.schemas.errors import BusError

if TYPE_CHECKING:
    from seawall.connectors.sqlite_bus import SqliteBus

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
            patiently(lambda: self._connection.execute("begin immediate"))
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


def patiently(step: Callable[[], object]) -> None:
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
