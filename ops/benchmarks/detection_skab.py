"""SKAB: ``seawall detect`` on eight sensors at once, rows after 400 of each experiment, pooled.

Run as ``python ops/benchmarks/detection_skab.py FOLDER``, a folder of labelled experiments (``*_N.csv.gz``).
"""

import csv
import gzip
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from detection_metrics import Floats, average_precision

from seawall.operators.core.detection.deviations import Deviation
from seawall.operators.core.detection.gates import Gated
from seawall.operators.core.detection.rivers import RiverDetector, half_space_trees, loda
from seawall.operators.core.detection.samples import Detector, Sample, observe
from seawall.ops.detect import detect_csv

LEARNED_ROWS = 400
SENSORS = 8

Rows = list[list[str]]


def read(path: Path) -> tuple[list[str], Rows]:
    with gzip.open(path, "rt", newline="") as file:
        header, *rows = csv.reader(file, delimiter=";")
    return header, rows


def ours(path: Path) -> Floats:
    header, _ = read(path)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.csv"
        detect_csv(path, header[0], header[1 : 1 + SENSORS], out)
        with out.open(newline="") as result:
            return np.array([float(row["anomaly_score"]) for row in csv.DictReader(result)])


def stream(make: Callable[[tuple[str, ...]], Detector]) -> Callable[[Path], Floats]:
    def run(path: Path) -> Floats:
        header, rows = read(path)
        detector = make(tuple(header[1 : 1 + SENSORS]))
        samples = (Sample(None, tuple(map(float, row[1 : 1 + SENSORS]))) for row in rows)
        return np.array([observe(detector, sample).value for sample in samples])

    return run


def river(build: Callable[[], Any]) -> Callable[[Path], Floats]:
    def run(path: Path) -> Floats:
        header, rows = read(path)
        estimator, scores = build(), []
        for row in rows:
            sensors = dict(zip(header[1 : 1 + SENSORS], map(float, row[1 : 1 + SENSORS]), strict=True))
            scores.append(float(estimator.score_one(sensors)))
            estimator.learn_one(sensors)
        return np.array(scores)

    return run


DETECTORS: dict[str, Callable[[Path], Floats]] = {
    "HalfSpaceTrees": river(half_space_trees),
    "LODA": river(loda),
    "LODA, gated": stream(lambda names: Gated(RiverDetector(names, loda))),
    "largest z, gated": stream(lambda names: Gated(Deviation(names))),
    "seawall detect": ours,
}


def main(folder: Path) -> None:
    paths = sorted(folder.glob("*_[0-9]*.csv.gz"))
    labels = np.concatenate([[int(float(row[9])) for row in read(path)[1][LEARNED_ROWS:]] for path in paths])
    print(f"{len(paths)} experiments, {len(labels)} rows, base rate {labels.mean():.3f}")
    for name, run in DETECTORS.items():
        scores = np.concatenate([run(path)[LEARNED_ROWS:] for path in paths])
        print(f"{name:20} PR-AUC {average_precision(labels, scores):.3f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
