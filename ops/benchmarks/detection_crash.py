"""Crashes: when the first alert came against the fall, and how often there are alerts in a quiet week.

Run as ``python ops/benchmarks/detection_crash.py FOLDER [PLOTS]``, a folder of gzipped OHLCV CSVs; PLOTS is a folder
for two pictures of each, the whole series and the fall. The fall is the largest one within 24 hours, from its highest
to its lowest close. An alert up to an hour before its start counts as a warning; everything from a day before the start
to a day after the end is not quiet. Three streams: the learned score, the plain circuit-breaker rule (7 % against the
past hour), and what ``seawall detect --price close`` delivers, which is one or the other.
"""

import csv
import gzip
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from seawall.operators.core.detection.samples import Sample
from seawall.operators.core.detection.watch import Source, Watch
from seawall.ops.detect_plot import Drawn, draw

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
COLUMNS = ("close", "volume")
STREAMS = {"score": (Source.SCORE, Source.BOTH), "rule": (Source.RULE, Source.BOTH), "delivered": tuple(Source)}


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


def run(path: Path) -> tuple[list[str], list[Drawn]]:
    """Return the columns and every row of one file as ``seawall detect --price close`` judges it."""
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    time = next(name for name in rows[0] if name.startswith("open_time"))
    columns = [name for name in COLUMNS if any(float(row[name]) for row in rows)]
    watch, found = Watch(tuple(columns), "close"), []
    for number, row in enumerate(rows, 1):
        sample = Sample(int(row[time]) * 1000, tuple(float(row[name]) for name in columns))
        score, alert, _ = watch.observe(sample)
        found.append(Drawn(number, sample, score.value, alert))
    return columns, found


def raised(rows: list[Drawn], sources: tuple[Source, ...]) -> list[int]:
    return [index for index, row in enumerate(rows) if row.alert in sources]


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


def main(folder: Path, plots: Path | None) -> None:
    for path in sorted(folder.glob("*.csv.gz")):
        name = path.name.removesuffix(".csv.gz")
        columns, rows = run(path)
        times, closes = [(row.sample.time_us or 0) // 1000 for row in rows], [row.sample.values[0] for row in rows]
        for stream, sources in STREAMS.items():
            print(f"{name:46} {stream:9} {describe(times, closes, raised(rows, sources))}", flush=True)
        if plots is not None:
            fall = largest_fall(times, closes)
            span = times[fall.start] - DAY_MS, times[fall.end] + DAY_MS // 2
            near = [row for row, when in zip(rows, times, strict=True) if span[0] <= when <= span[1]]
            fall_us = times[fall.start] * 1000, times[fall.end] * 1000
            draw(plots / f"{name}.png", name, columns, rows, fall_us)
            draw(plots / f"{name}-fall.png", f"{name}, the fall (shaded)", columns, near, fall_us)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
