"""History of a backtest as input records, and the market signals made from it.

History is files of bars, raw venue messages, funding, account fills or input records. Each file is converted once, by
the code of ``seawall convert``, and kept under the hash of its bytes and options. Records for the market dataflow
become signals, a process per group, by the steps of the live dataflow; all others go to the sequencer's step unchanged.
No command changes what a market did, so variants share the signals; they are kept under the hash of the history and of
the market's terms.
"""

import csv
import gzip
import heapq
import io
import re
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Any

import msgspec

from seawall.connectors.venues import ConvertOptions, convert_bars, convert_messages
from seawall.connectors.venues.hyperliquid import convert as convert_accounts
from seawall.operators.core.market import GroupBatcher, GroupState
from seawall.ops.lab.backtest._plan import History, file_sha256
from seawall.ops.lab.backtest._work import Cache, GrowingFile
from seawall.schemas.configuration import MarketTerms
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import Rejected, UsageError
from seawall.schemas.events import Event, Mark

# History: files of bars, raw venue messages, funding, account fills or input records, as lines of input records.
#
# Each file is converted once, by what ``seawall convert`` runs, and kept under the hash of its bytes and options. What
# the market dataflow reads of it becomes signals (``signals``); all else goes to the sequencer's step as it stands.

RAW = ("trade", "quote", "depth", "bar", "liquidation")
"""Records for ``market`` only: the sequencer checks and drops them."""
REST = ".rest.jsonl"
FUNDING_COLUMNS = (
    ("funding_time_ms", "fundingTime", "calc_time"),
    ("funding_rate", "fundingRate", "last_funding_rate"),
)
FUNDING_INTERVAL_US = 8 * 3_600_000_000
_type = re.compile(rb'"type"\s*:\s*"([a-z_]+)"').search
_time = re.compile(rb'"event_time_us"\s*:\s*"?(-?[0-9]+)').search
_encode = msgspec.json.Encoder().encode

Line = tuple[int, int, int, bytes]
"""Effective time in microseconds (-1 before the first), number of the file, number of the line, content."""


def conversion_jobs(history: tuple[History, ...]) -> list[tuple[History, tuple[Path, ...]]]:
    """Return what is converted together: single files, or the two of an account export."""
    found: list[tuple[History, tuple[Path, ...]]] = []
    for one in history:
        if one.format == "hyperliquid_accounts":
            if len(one.files) != 2:
                raise UsageError("hyperliquid_accounts: files must name the trades, then the ledger updates")
            found.append((one, one.files))
        else:
            found += [(one, (file,)) for file in one.files]
    return found


def converted_file(one: History, files: tuple[Path, ...], cache: Cache) -> Path:
    """Return the file of input records that some files are, converting them where that was not done yet."""
    options = [one.format, one.venue, one.pattern, one.instrument, one.terms, one.names, one.interval_s, one.stamp]
    key = Cache.key(["history", options, [[file.name, file_sha256(file)] for file in files]])

    def build(part: Path) -> None:
        with part.open("wb") as out:
            _convert(one, files, out)

    path = cache.make(key, ".jsonl", build)[0]
    cache.make(key, REST, lambda part: _write_rest(path, part))
    return path


def other_records_file(path: Path) -> Path:
    """Return the file of the records of a converted file that are not for ``market`` alone."""
    return path.with_suffix(REST)


def _write_rest(path: Path, part: Path) -> None:
    with path.open("rb") as source, part.open("wb") as out:
        out.writelines(line for line in source if record_type(line) not in RAW)


def read_lines(source: Path | GrowingFile, number: int, last_us: int) -> Iterator[Line]:
    """Yield the lines of a converted file before ``last_us``, each at the highest time so far in it."""
    high = -1
    with closing(_read(source)) as found:
        for count, line in enumerate(found):
            found_us = _time(line)
            high = high if found_us is None else max(high, int(found_us[1]))
            if high >= last_us:
                return
            if line.strip():
                yield high, number, count, line.rstrip(b"\n")


def _read(source: Path | GrowingFile) -> Generator[bytes, None, None]:
    if isinstance(source, GrowingFile):
        yield from source.lines()
    else:
        with source.open("rb") as file:
            yield from file


def record_type(line: bytes) -> str:
    """Return the type of a record, read off its bytes."""
    found = _type(line)
    return "" if found is None else found[1].decode()


def _convert(one: History, files: tuple[Path, ...], out: IO[bytes]) -> None:
    if one.format == "events":
        _copy(files[0], out)
    elif one.format == "funding":
        _funding(files[0], one, out)
    elif one.format == "hyperliquid_accounts":
        with tempfile.TemporaryDirectory() as folder:
            convert_accounts(files[0], files[1], Path(folder))
            for name in ("reference.jsonl", "events.jsonl"):
                out.write((Path(folder) / name).read_bytes())
    elif one.format == "ohlcv":
        instrument, terms = _named(files[0], one)
        if terms:
            out.write(_encode({"type": "instrument", "instrument": instrument, **terms}) + b"\n")
        convert_bars(files[0], one.venue, instrument, one.interval_s, one.stamp, out)
    else:
        convert_messages(one.format, files[0], ConvertOptions(one.names, describe=True), out)


def _named(file: Path, one: History) -> tuple[str, dict[str, Any]]:
    """Return the instrument of a file and its terms, with what ``pattern`` finds in the file's name filled in."""
    found = re.fullmatch(one.pattern or ".*", file.name)
    if found is None:
        raise UsageError(f"{file.name}: pattern {one.pattern!r} does not match; correct pattern or files")
    try:
        named = found.groupdict()
        filled = {key: value.format(**named) if isinstance(value, str) else value for key, value in one.terms.items()}
        return one.instrument.format(**named), filled
    except (KeyError, IndexError) as error:
        raise UsageError(f"{file.name}: pattern has no group named {error}; write (?P<name>…)") from None


def _copy(file: Path, out: IO[bytes]) -> None:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as source:
            for line in source:
                out.write(line if line.endswith(b"\n") else line + b"\n")
    except (OSError, EOFError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None


def _funding(file: Path, one: History, out: IO[bytes]) -> None:
    """Write a table of funding rates as ``funding`` records; times are in milliseconds."""
    instrument, terms = _named(file, one)
    if terms:
        out.write(_encode({"type": "instrument", "instrument": instrument, **terms}) + b"\n")
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    rows = csv.DictReader(io.StringIO(content.decode()))
    time, rate = (next((n for n in names if n in (rows.fieldnames or ())), "") for names in FUNDING_COLUMNS)
    if not (time and rate):
        raise UsageError(f"{file.name} line 1: no columns of time and rate; name them funding_time_ms and funding_rate")
    interval_us = one.interval_s * 1_000_000 or FUNDING_INTERVAL_US
    found = sorted(_funding_row(row[time], row[rate], f"{file.name} line {rows.line_num}") for row in rows)
    for time_us, value in found:
        record = {"type": "funding", "event_time_us": time_us, "venue": one.venue, "instrument": instrument}
        out.write(_encode({**record, "rate": value, "interval_us": interval_us}) + b"\n")


def _funding_row(time: str, rate: str, place: str) -> tuple[int, str]:
    try:
        return int(time) * 1000, f"{Decimal(rate):f}"
    except (ValueError, InvalidOperation):
        raise UsageError(f"{place}: {time!r}, {rate!r} are no time in milliseconds and rate") from None


# The market stage of a backtest: history in, the signals that ``market`` would write out, a process per group.

KINDS = {*RAW, "funding", "open_interest", "venue_status", "instrument", "notice", "mark"}
REPORTED_EVERY = 2_000


def market_events(files: list[Path], first_us: int, last_us: int) -> Iterator[tuple[int, Event]]:
    """Yield the market's records of all files in merge order, with their effective times.

    What lies before ``first_us`` only describes instruments.
    """
    for time_us, _, _, line in heapq.merge(*(read_lines(path, number, last_us) for number, path in enumerate(files))):
        kind = record_type(line)
        if kind not in KINDS or (time_us < first_us and kind != "instrument"):
            continue
        try:
            event = decode_event(line)
        except Rejected:
            continue  # `market` skips what it cannot read; the sequencer's step rejects it by name
        if not isinstance(event, Mark) or event.venue:
            yield time_us, event


def write_signals(
    files: list[Path],
    first_us: int,
    last_us: int,
    terms: MarketTerms,
    group: int,
    out: Path,
    tell: Callable[[int], None],
) -> None:
    """Write the signals of one group, a line each.

    Parameters
    ----------
    tell
        Is given the event time that was reached, for a progress bar.
    """
    cutter, state = GroupBatcher(terms.groups, terms.interval_us), GroupState(group, terms)
    with out.open("wb") as file:

        def step() -> None:
            for number, item in cutter.take():
                if number == group:
                    file.writelines(record.value + b"\n" for record in state.step(item))

        for count, (time_us, event) in enumerate(market_events(files, first_us, last_us)):
            cutter.add(time_us, event)
            step()
            if count % REPORTED_EVERY == 0:
                tell(time_us)
        cutter.finish()
        step()
