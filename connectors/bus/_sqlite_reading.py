"""Reading of the embedded bus: its rows as a reader gets them, and files that this user may not write.

SQLite takes any value in any column: a text where an offset belongs sorts behind all numbers, and minus one before the
first. Such rows are never read; ``strange_rows`` finds them. A bus that this user may not write (another user's run, or
evidence on a read-only disk) is opened for reading only, and opened again when the file changes.
"""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from seawall.connectors.bus._protocol import TOPICS, headers_by_name

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
