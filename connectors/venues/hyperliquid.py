"""Hyperliquid's account export (``non_mm_trades.csv``, ``non_mm_ledger_updates.csv``) as input files of this project.

The export is public (github.com/hyperliquid-dex/historical_data): one row per leg of a trade and per deposit or
withdrawal, by account. What becomes of it:

- every user: a client counterparty with one account of the same name at the venue ``hyperliquid``;
- every coin: a linear perpetual ``COIN-PERP`` in USD, its increment the smallest that all sizes are multiples of;
- a trade: a ``mark`` of kind ``last`` at its price, then a ``fill`` (``Bid`` buys, ``Ask`` sells) named ``f<row>``;
- a ledger row: a ``collateral`` movement in USD named ``t<row>``. Rows count from 0 in each file.

Events are in order of time; within one time transfers come before trades, and rows keep their order. Files are read
twice and never held whole, except one whose rows are not in order of time, which is sorted in memory.
"""

import csv
import gzip
import heapq
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple

from seawall.schemas.decimals import PATTERN
from seawall.schemas.errors import UsageError
from seawall.schemas.events import IDENTIFIER_PATTERN

VENUE = "hyperliquid"
_TRADES, _LEDGER = "non_mm_trades.csv.gz", "non_mm_ledger_updates.csv.gz"
_TRADE_COLUMNS = ("time", "user", "coin", "side", "px", "sz")
_LEDGER_COLUMNS = ("time", "user", "delta_usd")
_SIDES = {"Bid": "buy", "Ask": "sell"}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_decimal = re.compile(PATTERN).fullmatch
_identifier = re.compile(IDENTIFIER_PATTERN).fullmatch


class Row(NamedTuple):
    """One checked row: its number from 0, its time, and the wanted columns by name."""

    number: int
    time_us: int
    values: dict[str, str]


class Converted(NamedTuple):
    """Result of a conversion: what was written."""

    fills: int
    transfers: int
    accounts: int
    instruments: int


class Holder(NamedTuple):
    """An account of the export: what it paid in, and the notionals of its positions when they were largest."""

    user: str
    paid: float
    gross: float
    notionals: dict[str, float]


class _Survey(NamedTuple):
    """Findings of a first reading of a file."""

    ordered: bool
    users: set[str]
    places: dict[str, int]  # coin -> decimal places of its sizes, in order of first trade


def convert(
    trades: Path,
    ledger: Path,
    folder: Path,
    initial_margin_rate: str = "0.02",
    maintenance_margin_rate: str = "0.01",
) -> Converted:
    """Write ``reference.jsonl`` and ``events.jsonl`` into a folder.

    Parameters
    ----------
    trades, ledger
        The two files of the export, plain or gzipped (``.gz``). Columns beyond those used are ignored.
    folder
        Made when it is not there. The two files appear when they are complete.
    initial_margin_rate, maintenance_margin_rate
        Fractions of notional, given to every instrument: the export has none.

    Returns
    -------
    Converted
        Counts of what was written.

    Raises
    ------
    UsageError
        A file is missing or is not such an export; names file, line and column.
    """
    rates = {"initial_margin_rate": initial_margin_rate, "maintenance_margin_rate": maintenance_margin_rate}
    traded, moved = _survey(trades, _TRADE_COLUMNS), _survey(ledger, _LEDGER_COLUMNS)
    users = sorted(traded.users | moved.users)
    folder.mkdir(parents=True, exist_ok=True)
    with _replacing(folder / "reference.jsonl") as file:
        for record in _reference(users, traded.places, rates):
            file.write(_line(record))
    transfers = (((r.time_us, 0), _transfer(r)) for r in _in_order(ledger, _LEDGER_COLUMNS, moved))
    fills = (((r.time_us, 1), _trade(r)) for r in _in_order(trades, _TRADE_COLUMNS, traded))
    counts = {"collateral": 0, "fill": 0}
    with _replacing(folder / "events.jsonl") as file:
        for _, records in heapq.merge(transfers, fills, key=lambda item: item[0]):
            counts[records[-1]["type"]] += 1
            file.writelines(map(_line, records))
    return Converted(counts["fill"], counts["collateral"], len(users), len(traded.places))


def read_holders(folder: Path) -> list[Holder]:
    """Return the accounts of the export that paid in and traded, those that held most first."""
    paid: dict[str, float] = defaultdict(float)
    for row in _rows(folder / _LEDGER, _LEDGER_COLUMNS):
        paid[row.values["user"]] += max(float(row.values["delta_usd"]), 0.0)
    held: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    most: dict[str, Holder] = {}
    for row in sorted(_rows(folder / _TRADES, _TRADE_COLUMNS), key=lambda row: row.time_us):
        found = row.values
        user, mine = found["user"], held[found["user"]]
        sign = 1 if _SIDES[found["side"]] == "buy" else -1
        mine[found["coin"]] += sign * float(found["sz"]) * float(found["px"])
        gross = sum(map(abs, mine.values()))
        if gross > (most[user].gross if user in most else 0.0):
            most[user] = Holder(user, paid[user], gross, dict(mine))
    return sorted((one for one in most.values() if one.paid > 0), key=lambda one: (-one.gross, one.user))


# --- reading ----------------------------------------------------------------------------------------------------------


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """Yield the checked rows of one file of the export.

    Raises
    ------
    UsageError
        Naming file, line and column.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise UsageError(f"{path.name} line 1: no column {', '.join(missing)}; is it the account export?")
            for number, found in enumerate(reader):
                values = {name: found[name] for name in columns}
                place = f"{path.name} line {reader.line_num}"
                for name, value in values.items():
                    _check(name, value, place)
                yield Row(number, _time_us(values["time"], place), values)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; name the export's file") from None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path.name} cannot be read: {error}") from None


def _check(name: str, value: str | None, place: str) -> None:
    """Refuse what no record of the contract could carry."""
    wanted = ""
    if value is None or value == "":
        wanted = "is empty"
    elif name in ("user", "coin") and _identifier(value) is None:
        wanted = f"is {value!r}, which does not match {IDENTIFIER_PATTERN}"
    elif name == "side" and value not in _SIDES:
        wanted = f"is {value!r}, neither Bid nor Ask"
    elif name in ("px", "sz", "delta_usd") and _decimal(value) is None:
        wanted = f"is {value!r}, which is not a plain decimal"
    elif name in ("px", "sz") and not float(value) > 0:
        wanted = f"is {value}, which is not positive"
    if wanted:
        raise UsageError(f"{place}, column {name}: {wanted}")


def _time_us(text: str, place: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{place}, column time: {text!r} is not an ISO 8601 time") from None
    if time.tzinfo is None:
        raise UsageError(f"{place}, column time: {text!r} has no time zone; the export's times end in Z")
    return (time - _EPOCH) // _MICROSECOND


def _survey(path: Path, columns: tuple[str, ...]) -> _Survey:
    users: set[str] = set()
    places: dict[str, int] = {}

    def times() -> Iterator[int]:
        for row in _rows(path, columns):
            users.add(row.values["user"])
            if "coin" in columns:
                coin, fraction = row.values["coin"], row.values["sz"].partition(".")[2]
                places[coin] = max(places.get(coin, 0), len(fraction))
            yield row.time_us

    disordered = sum(later < earlier for earlier, later in pairwise(times()))
    return _Survey(disordered == 0, users, places)


def _in_order(path: Path, columns: tuple[str, ...], survey: _Survey) -> Iterator[Row]:
    rows = _rows(path, columns)
    return rows if survey.ordered else iter(sorted(rows, key=lambda row: row.time_us))


# --- records ----------------------------------------------------------------------------------------------------------


def _reference(users: list[str], places: dict[str, int], rates: dict[str, str]) -> Iterator[dict[str, Any]]:
    for coin, count in places.items():
        increment = f"0.{'1':0>{count}}" if count else "1"
        terms = {
            "kind": "perpetual",
            "base": coin,
            "quote": "USD",
            "settlement": "USD",
            "quantity_increment": increment,
        }
        yield {"type": "instrument", "instrument": f"{coin}-PERP", **terms, **rates}
    yield {"type": "counterparty", "counterparty": VENUE, "name": "Hyperliquid", "role": "venue"}
    for user in users:
        yield {"type": "counterparty", "counterparty": user, "name": user, "role": "client"}
        yield {"type": "account", "account": user, "counterparty": user, "holder": "counterparty", "venue": VENUE}


def _transfer(row: Row) -> list[dict[str, Any]]:
    head = {"type": "collateral", "event_time_us": row.time_us, "transfer_id": f"t{row.number}"}
    return [head | {"account": row.values["user"], "asset": "USD", "amount": row.values["delta_usd"]}]


def _trade(row: Row) -> list[dict[str, Any]]:
    time_us, values = row.time_us, row.values
    instrument = f"{values['coin']}-PERP"
    mark = {"type": "mark", "event_time_us": time_us, "instrument": instrument, "price": values["px"], "kind": "last"}
    fill = {"type": "fill", "event_time_us": time_us, "fill_id": f"f{row.number}", "account": values["user"]}
    fill |= {"instrument": instrument, "side": _SIDES[values["side"]], "quantity": values["sz"], "price": values["px"]}
    return [mark, fill]


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing under another name; it takes its own when the block ends without an error."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
