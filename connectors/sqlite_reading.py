"""Reading an embedded bus that this user may not write: somebody else's run, or evidence on a read-only medium.

SQLite reads a write-ahead log through shared memory, the file ``-shm``. Where a run keeps that there, a reader takes
part in it and sees whole transactions. Where there is neither log nor shared memory, SQLite would make them, which a
reader must not: it may not be able to, and files of its own would shut the run's user out. Then the file is opened as
one that never changes, with a stamp by which the reader finds out that it did after all.
"""

import sqlite3
from pathlib import Path

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
            return _opened(path, ""), None
        except sqlite3.OperationalError:
            if has_log:
                raise
    return _opened(path, "&immutable=1"), stamp


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a bus: number, size and time of the file, and which files stand beside it; empty of none."""
    if not path.exists():
        return ()
    found = path.stat()
    beside = [path.with_name(path.name + end).exists() for end in ("-wal", "-shm")]
    return found.st_ino, found.st_size, found.st_mtime_ns, *beside


def _opened(path: Path, options: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode=ro{options}"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("select 1 from sqlite_schema").fetchall()  # opens the files, which connecting does not
    except sqlite3.Error:
        connection.close()
        raise
    return connection
