"""Crashes: when the first alert came against the fall, and how often ``seawall detect`` alerts in a quiet week.

Run as ``python ops/benchmarks/detection_crash.py FOLDER [PLOTS]``, a folder of gzipped OHLCV CSVs. The fall is the
largest one within 24 hours, from its highest to its lowest close. An alert up to an hour before its start counts as a
warning; everything from a day before the start to a day after the end is not quiet. Beside it stands the plain
circuit-breaker rule: a move of 7 % against the past hour.
"""

import csv
import gzip
import sys
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from seawall.operators.core.detection.breakers import LookBackBand
from seawall.ops.detect import detect_csv

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
COLUMNS = ("close", "volume")
BAND = 0.07  # of the look-back rule: the first step of the daytime limits of US equity index futures


@dataclass(frozen=True)
class Fall:
    start: int
    end: int
    depth: float


def largest_fall(times: list[int], closes: list[float]) -> Fall:
    best = Fall(0, 0, 0.0)
    highest: deque[int] = deque()
    for row, close in enumerate(closes):
        while highest and (times[row] - times[highest[0]] > DAY_MS):
            highest.popleft()
        while highest and closes[highest[-1]] <= close:
            highest.pop()
        highest.append(row)
        depth = 1.0 - close / closes[highest[0]]
        if depth > best.depth:
            best = Fall(highest[0], row, depth)
    return best


def run(path: Path, plot: Path | None) -> tuple[list[int], list[float], list[int]]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.csv"
        with gzip.open(path, "rt", newline="") as file:
            rows = list(csv.DictReader(file))
        time = next(name for name in rows[0] if name.startswith("open_time"))
        columns = [name for name in COLUMNS if any(float(row[name]) for row in rows)]
        detect_csv(path, time, columns, out, plot)
        with out.open(newline="") as result:
            alerts = [index for index, row in enumerate(csv.DictReader(result)) if row["alert"] == "1"]
    return [int(row[time]) for row in rows], [float(row["close"]) for row in rows], alerts


def describe(times: list[int], closes: list[float], alerts: list[int]) -> str:
    fall = largest_fall(times, closes)
    seen = [row for row in alerts if times[fall.start] - HOUR_MS <= times[row] <= times[fall.end]]
    quiet = [row for row in alerts if not times[fall.start] - DAY_MS <= times[row] <= times[fall.end] + DAY_MS]
    busy_ms = min(times[-1], times[fall.end] + DAY_MS) - max(times[0], times[fall.start] - DAY_MS)
    weeks = (times[-1] - times[0] - busy_ms) / (7 * DAY_MS)
    rate = f"{len(quiet) / weeks:5.1f} a quiet week" if weeks > 0.2 else "no quiet time"
    text = f"fell {100 * fall.depth:5.1f} % in {(times[fall.end] - times[fall.start]) // MINUTE_MS:5d} min"
    if not seen:
        return f"{text}: no alert; {rate}"
    first = seen[0]
    gone = (closes[fall.start] - closes[first]) / (closes[fall.start] - closes[fall.end])
    after = (times[first] - times[fall.start]) // MINUTE_MS
    before = (times[fall.end] - times[first]) // MINUTE_MS
    return f"{text}: first alert at {after:5d} min ({before:5d} min before the low), {100 * gone:4.0f} % gone; {rate}"


def trips(times: list[int], closes: list[float]) -> list[int]:
    band = LookBackBand(BAND)
    return [row for row, close in enumerate(closes) if band.check(times[row] * 1000, close)]


def main(folder: Path, plots: Path | None) -> None:
    for path in sorted(folder.glob("*.csv.gz")):
        name = path.name.removesuffix(".csv.gz")
        plot = plots / f"{name}.png" if plots is not None else None
        times, closes, alerts = run(path, plot)
        print(f"{name:46} detect   {describe(times, closes, alerts)}", flush=True)
        print(f"{'':46} 7 % rule {describe(times, closes, trips(times, closes))}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
