"""Recorded prices as a path: the change since the first row, at the seconds since then."""

import csv
import gzip
from pathlib import Path

from seawall.schemas.errors import UsageError

TIMES = {"open_time_ms": 1_000, "time_ms": 1_000, "time_us": 1_000_000, "time": 1, "timestamp": 1}


def read_path(path: Path, from_ms: int, to_ms: int) -> list[tuple[float, float]]:
    """Return (seconds, change) of the rows of a CSV whose time lies in [from_ms, to_ms); 0: without a bound.

    Raises
    ------
    UsageError
        The file cannot be read, has no column of times or ``close``, a row that is no number or not above 0, or fewer
        than two rows in the interval.
    """
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}; name an existing file") from error
    column = next((name for name in TIMES if rows and name in rows[0]), "")
    if not column or "close" not in rows[0]:
        raise UsageError(f"{path.name}: needs a column close and one of {', '.join(TIMES)}")
    found = []
    for line, row in enumerate(rows, 2):
        try:
            at_s, price = float(row[column]) / TIMES[column], float(row["close"])
        except ValueError as error:
            raise UsageError(f"{path.name}, line {line}: {error}; give numbers") from error
        if price <= 0:
            raise UsageError(f"{path.name}, line {line}: close is {price}; it must be above 0")
        if from_ms <= at_s * 1_000 and (not to_ms or at_s * 1_000 < to_ms):
            found.append((at_s, price))
    if len(found) < 2:
        raise UsageError(f"{path.name}: {len(found)} rows in the interval; a path needs 2")
    start_s, base = found[0]
    return [(at_s - start_s, price / base - 1) for at_s, price in found[1:]]
