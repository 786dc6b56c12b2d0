"""OHLCV files as exchanges publish them: CSV rows in, ``bar`` events out.

Understood without being told:

- a header with the usual names (``open_time``, ``timestamp``, ``Open time``, ``date``, ``Close``, ``Volume BTC``, …),
  also below a line that only names the publisher;
- no header: twelve columns are Binance's klines, seven Kraken's OHLCVT, six time, open, high, low, close, volume;
- times in seconds, milliseconds, microseconds or nanoseconds since the epoch, by their size, or as ISO 8601 text, UTC
  where no zone is written; the time is that of the bar's opening unless its column says that it closes;
- newest first: rows are put into the order of time.

The interval of a bar is the difference that most neighbouring times have. A row that breaks a rule is left out and
counted by name with its line; a repetition of a whole row is counted and given once; missing bars are counted.
"""

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from seawall.connectors.venues._messages import Unreadable, as_decimal
from seawall.schemas import events as ev
from seawall.schemas.decoding import check_event
from seawall.schemas.errors import Rejected, UsageError

OPENED = ("open_time", "opentime", "open_time_ms", "unix", "timestamp", "ts", "time", "t", "datetime", "date", "start")
CLOSED = ("close_time", "closetime", "close_time_ms", "end")
PRICES = ("open", "high", "low", "close")
HEADERLESS = {12: "binance klines", 7: "kraken ohlcvt", 6: "time and ohlcv"}
PREAMBLE_LINES_MAX = 3
INTERVAL_ROWS = 10_000  # rows from whose times the interval is found
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_spaces = re.compile(r"[\s\-]+")


class Columns(NamedTuple):
    """Columns in which a file keeps the values of a bar."""

    time: int
    time_closes: bool
    open: int
    high: int
    low: int
    close: int
    volume: int


class Bars(NamedTuple):
    """Bars of a file."""

    events: list[ev.Bar]
    skipped: Counter[str]
    first_line: dict[str, int]
    interval_us: int
    missing: int


class _Row(NamedTuple):
    time_us: int
    values: tuple[str, str, str, str, str]


def read_bars(
    path: Path,
    venue: str,
    instrument: str,
    interval_us: int = 0,
    stamp: Literal["", "open", "close"] = "",
) -> Bars:
    """Read an OHLCV file, plain or gzipped (``.gz``), whole.

    Parameters
    ----------
    venue, instrument
        What the file does not say.
    interval_us
        Of a bar; 0 finds it in the times.
    stamp
        Whether a row's time is that of the bar's opening or closing; empty goes by the column's name.

    Raises
    ------
    UsageError
        The file cannot be read, its columns are not known, or its interval cannot be found.
    """
    lines = _read(path)
    columns, first = _columns(lines, path)
    skipped: Counter[str] = Counter()
    first_line: dict[str, int] = {}

    def skip(name: str, line: int) -> None:
        skipped[name] += 1
        first_line.setdefault(name, line)

    rows: dict[_Row, int] = {}
    for line, cells in enumerate(lines[first:], first + 1):
        try:
            row = _row(cells, columns) if cells else None
        except Unreadable as error:
            skip(f"malformed: {error}", line)
            continue
        if row is not None and row in rows:
            skip("repeated: the same row again", line)
        elif row is not None:
            rows[row] = line
    ordered = sorted(rows, key=lambda row: row.time_us)
    interval_us = interval_us or _interval([row.time_us for row in ordered], path)
    closes = columns.time_closes if not stamp else stamp == "close"
    events = []
    for row in ordered:
        close_us = row.time_us if closes else row.time_us + interval_us
        try:
            events.append(_bar(row, venue, instrument, close_us, interval_us))
        except Unreadable as error:
            skip(f"malformed: {error}", rows[row])
        except Rejected as rejected:
            skip(f"malformed: {rejected.reason.value}", rows[row])
    steps = [(b.event_time_us - a.event_time_us) // interval_us for a, b in pairwise(events)]
    return Bars(events, skipped, first_line, interval_us, sum(step - 1 for step in steps if step > 1))


def _read(path: Path) -> list[list[str]]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return list(csv.reader(io.StringIO(content.decode("utf-8-sig")), strict=True))
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; name an OHLCV file") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path.name} cannot be read: {error}") from None


def _columns(lines: list[list[str]], path: Path) -> tuple[Columns, int]:
    """Return the columns and how many lines stand before the first row."""
    for number, cells in enumerate(lines[: PREAMBLE_LINES_MAX + 1]):
        found = _by_name([_spaces.sub("_", cell.strip().lower()) for cell in cells])
        if found is not None:
            return found, number + 1
    width = len(lines[0]) if lines else 0
    if width in HEADERLESS and _is_number(lines[0][1]):
        return Columns(0, False, 1, 2, 3, 4, 5), 0
    wanted = "a time, open, high, low, close and volume"
    raise UsageError(
        f"{path.name} line 1: no header with {wanted}, and {width} columns are of no known file without one"
    )


def _by_name(names: list[str]) -> Columns | None:
    if any(name not in names for name in PRICES):
        return None
    times = [(name, False) for name in OPENED if name in names] + [(name, True) for name in CLOSED if name in names]
    volumes = [name for name in names if name in ("volume", "vol", "base_volume")]
    volumes += [name for name in names if name.startswith("volume_") and not name.endswith(("usd", "usdt"))]
    if not times or not volumes:
        return None
    time, closes = times[0]
    return Columns(names.index(time), closes, *(names.index(name) for name in (*PRICES, volumes[0])))


def _row(cells: list[str], columns: Columns) -> _Row:
    if len(cells) <= max(columns):
        raise Unreadable("a row with too few columns")
    time, _, *places = columns
    values = [as_decimal(cells[place].strip(), name) for place, name in zip(places, (*PRICES, "volume"), strict=True)]
    return _Row(_time_us(cells[time].strip()), (values[0], values[1], values[2], values[3], values[4]))


def _time_us(text: str) -> int:
    """Return a time in microseconds; numbers are told apart by their size, which holds from 1973 to 5138."""
    if _is_number(text):
        number = int(text.partition(".")[0])
        if number < 100_000_000_000:
            fraction = (text.partition(".")[2] + "000000")[:6]
            return number * 1_000_000 + int(fraction)
        for limit, factor, divisor in ((10**14, 1_000, 1), (10**17, 1, 1), (10**20, 1, 1_000)):
            if number < limit:
                return number * factor // divisor
        raise Unreadable("time is beyond the year 5138")
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Unreadable("time is neither a number nor ISO 8601") from None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _interval(times: list[int], path: Path) -> int:
    steps = Counter(b - a for a, b in pairwise(times[:INTERVAL_ROWS]) if b > a)
    if not steps:
        raise UsageError(f"{path.name} has no two times to find the interval from; give --interval-s")
    return max(steps.items(), key=lambda item: (item[1], -item[0]))[0]


def _bar(row: _Row, venue: str, instrument: str, close_us: int, interval_us: int) -> ev.Bar:
    opened, high, low, closed, volume = row.values
    if not float(low) <= min(float(opened), float(closed)) <= max(float(opened), float(closed)) <= float(high):
        raise Unreadable("open or close outside low to high")
    bar = ev.Bar(
        event_time_us=close_us,
        venue=venue,
        instrument=instrument,
        open=opened,
        high=high,
        low=low,
        close=closed,
        volume=volume,
        interval_us=interval_us,
    )
    check_event(bar)
    return bar


def _is_number(text: str) -> bool:
    return bool(text) and text.isascii() and text.replace(".", "", 1).isdigit()
