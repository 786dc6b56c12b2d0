"""NAB: ``seawall detect`` on every file of a corpus, against a blind clock, the running range breaker, LODA and HST.

Run as ``python ops/benchmarks/detection_nab.py CORPUS`` where CORPUS holds ``data/`` and
``labels/combined_windows.json``. Each threshold is fitted once on all files, as NAB does, and once per file on all
others (leave one out); only the second figure says what to expect elsewhere. LODA and HalfSpaceTrees are River's own,
untouched; every row of the table passes the same refractory rule before NAB scores it, none before VUS-PR.
"""

import csv
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from detection_metrics import PROFILES, Floats, Labelled, label, nab, vus_pr

from seawall.operators.core.detection.composite import REFRACTORY_ROWS
from seawall.operators.core.detection.deviations import ResidualBreaker
from seawall.operators.core.detection.moments import WARM_ROWS
from seawall.operators.core.detection.rivers import half_space_trees, loda
from seawall.operators.core.detection.samples import Detector, Sample, observe
from seawall.ops.detect import detect_csv, parse_time

CLOCK_ROWS = 400
LAGS = 8


def read(path: Path) -> tuple[list[str], list[float]]:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [row[0].split(".")[0] for row in rows], [float(row[1]) for row in rows]


def ours(path: Path) -> Floats:
    with path.open(newline="") as file, tempfile.TemporaryDirectory() as folder:
        header = next(csv.reader(file))
        out = Path(folder) / "out.csv"
        detect_csv(path, header[0], header[1:2], out)
        with out.open(newline="") as result:
            return np.array([float(row["anomaly_score"]) for row in csv.DictReader(result)])


def clock(path: Path) -> Floats:
    rows = len(read(path)[0])
    return np.array([float(row % CLOCK_ROWS == 0) for row in range(rows)])


def running_range(path: Path) -> Floats:
    """Score how far a value leaves the range so far, as a share of it; 150 rows of warm-up."""
    scores, low, high = [], math.inf, -math.inf
    for row, value in enumerate(read(path)[1]):
        excess = max(value - high, low - value, 0.0) if row >= WARM_ROWS else 0.0
        scores.append(excess / (high - low) if excess and high > low else float(excess > 0.0))
        low, high = min(low, value), max(high, value)
    return np.array(scores)


def breaker(view: str) -> Callable[[Path], Floats]:
    def run(path: Path) -> Floats:
        return stream(ResidualBreaker(("value",), view), path)

    return run


def river(build: Callable[[], Any]) -> Callable[[Path], Floats]:
    def run(path: Path) -> Floats:
        estimator, scores = build(), []
        values = read(path)[1]
        padded = [values[0]] * (LAGS - 1) + values
        for row in range(len(values)):
            lags = {f"lag{lag}": padded[row + lag] for lag in range(LAGS)}
            scores.append(float(estimator.score_one(lags)))
            estimator.learn_one(lags)
        return np.array(scores)

    return run


def records(scores: Floats) -> Floats:
    """Keep the scores that exceed all of the last 120 rows: without it every dense score earns 0 as an alarm."""
    kept = np.zeros(len(scores))
    for row, score in enumerate(scores):
        past = scores[max(0, row - REFRACTORY_ROWS) : row]
        kept[row] = score if row == 0 or score > past.max() else 0.0
    return kept


def stream(detector: Detector, path: Path) -> Floats:
    samples = (Sample(parse_time(time), (value,)) for time, value in zip(*read(path), strict=True))
    return np.array([observe(detector, sample).value for sample in samples])


DETECTORS: dict[str, Callable[[Path], Floats]] = {
    "blind clock": clock,
    "running range breaker": running_range,
    "level breaker": breaker("level"),
    "EW residual breaker": breaker("drift"),
    "LODA, 8 lags": river(loda),
    "HalfSpaceTrees, 8 lags": river(half_space_trees),
    "seawall detect": ours,
}


def row(files: list[Labelled], scores: list[Floats]) -> str:
    sparse = [records(own) for own in scores]
    cells = [f"{value:6.1f}" for profile in PROFILES for value in nab(files, sparse, profile)]
    dense = [
        vus_pr((file.window[file.counts] >= 0).astype(int), own[file.counts])
        for file, own in zip(files, scores, strict=True)
        if (file.window[file.counts] >= 0).any()
    ]
    return " ".join(cells) + f"  {np.mean(dense):6.3f}"


def main(corpus: Path) -> None:
    spans = json.loads((corpus / "labels" / "combined_windows.json").read_text())
    paths = [corpus / "data" / name for name in sorted(spans)]
    files = []
    for name, path in zip(sorted(spans), paths, strict=True):
        windows = [(begin.split(".")[0], end.split(".")[0]) for begin, end in spans[name]]
        files.append(label(read(path)[0], windows))
    print(f"{len(files)} files, {sum(file.windows for file in files)} windows")
    print(f"{'':24}" + "".join(f"{profile:>8} {'LOO':>5}" for profile in PROFILES) + "  VUS-PR")
    for name, run in DETECTORS.items():
        print(f"{name:24} {row(files, [run(path) for path in paths])}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
