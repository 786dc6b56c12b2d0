"""Rows of the embedded bus as a reader gets them, and those that no writer of Seawall wrote.

SQLite takes any value in any column: a text where an offset belongs sorts behind all numbers, and minus one before the
first. Such rows are never read; ``strange_rows`` finds them.
"""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import orjson

from seawall.connectors.bus import TOPICS, by_name

READ = """
select "offset", key, headers, value from records
where topic = ? and "partition" = ? and "offset" >= ? and typeof("offset") = 'integer' order by "offset" limit ?
"""
END = """
select "offset" from records
where topic = ? and "partition" = ? and "offset" >= 0 and typeof("offset") = 'integer' order by "offset" desc limit 1
"""
TOPICS_THERE = "select distinct topic from records where typeof(topic) = 'text' order by topic"
PARTITIONS_THERE = """
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
    return by_name(json.loads(text, object_pairs_hook=list))


def strange_rows(connection: sqlite3.Connection) -> Iterator[tuple[str, int, str]]:
    """Yield topic, partition and what is wrong of rows whose columns hold what no writer puts there."""
    for topic, partition, offset, *types in connection.execute(STRANGE, OURS):
        columns = zip(COLUMNS, TYPES, types, strict=True)
        wrong = [f"{name} is {found}" for name, wanted, found in columns if found != wanted]
        numbers = ("partition", partition), ("offset", offset)
        wrong += [f"{name} is negative" for name, number in numbers if isinstance(number, int) and number < 0]
        what = f"the row of partition {partition!r} and offset {offset!r} is no record: {', '.join(wrong)}"
        yield str(topic), partition if isinstance(partition, int) else 0, what
