"""Cost: µs per event of each detector alone and behind guard, score and gate; state bytes; snapshots of 10,000 keys.

Run as ``python ops/benchmarks/detection_cost.py``. "Alone" calls a River estimator's own ``score_one`` and
``learn_one``; "here" is the same estimator behind the protocol. CPU time, best of three.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from seawall.operators.core.detection.bank import Bank
from seawall.operators.core.detection.composite import UNUSUAL_SCORE, Composite
from seawall.operators.core.detection.deviations import Deviation
from seawall.operators.core.detection.gates import Gated
from seawall.operators.core.detection.rivers import RiverDetector, half_space_trees, loda, one_class_svm
from seawall.operators.core.detection.samples import Detector, Sample, observe

ROWS = 1500
FEATURES = 5
KEYS = 10_000
BATCHES = (1, 32, 1024)

NAMES = tuple(f"feature{number}" for number in range(FEATURES))


def samples(rows: int) -> list[Sample]:
    chance = random.Random(1)
    return [Sample(row * 60_000_000, tuple(chance.gauss(100.0, 1.0) for _ in NAMES)) for row in range(rows)]


def best(action: Callable[[], int]) -> float:
    """Return the least CPU time per event, in µs, of three runs; ``action`` returns how many events it took."""
    results = []
    for _ in range(3):
        begin = time.process_time()
        events = action()
        results.append((time.process_time() - begin) / events * 1e6)
    return min(results)


def alone(build: Callable[[], Any]) -> float:
    rows = [dict(zip(NAMES, sample.values, strict=True)) for sample in samples(ROWS)]

    estimator = build()
    for row in rows[:400]:
        estimator.learn_one(row)

    def action() -> int:
        for row in rows:
            estimator.score_one(row)
            estimator.learn_one(row)
        return ROWS

    return best(action)


def here(make: Callable[[], Detector], keys: int) -> float:
    """Time rounds of one event for each of ``keys`` keys: a batch of market events of that many instruments."""
    rows = samples(max(ROWS // keys, 2))
    detectors = [make() for _ in range(keys)]
    for row in rows[: 400 // keys + 1]:
        for detector in detectors:
            observe(detector, row)

    def action() -> int:
        for row in rows:
            for detector in detectors:
                observe(detector, row)
        return keys * len(rows)

    return best(action)


def banked(batch: int) -> float:
    """Time composites of 1,024 keys that arrive ``batch`` at a time."""
    bank = Bank(max(BATCHES), NAMES)
    rows = np.array([sample.values for sample in samples(max(BATCHES))])
    times = np.full(max(BATCHES), 60_000_000)
    keys = np.arange(max(BATCHES))

    def action() -> int:
        for begin in range(0, max(BATCHES), batch):
            part = slice(begin, begin + batch)
            bank.observe(keys[part], times[part], rows[part])
        return max(BATCHES)

    return best(action)


def snapshots() -> None:
    """Time packing and restoring the state of 10,000 keys, each by itself and as one bank."""
    detectors = [Composite(NAMES[:1]) for _ in range(KEYS)]
    begin = time.process_time()
    data = [detector.snapshot() for detector in detectors]
    packed = time.process_time()
    for detector, saved in zip(detectors, data, strict=True):
        detector.restore(saved)
    restored = time.process_time()
    bank = Bank(KEYS, NAMES[:1])
    banked_begin = time.process_time()
    whole = bank.snapshot()
    banked_end = time.process_time()
    print(f"\nsnapshot of {KEYS:,} keys of one column: {1000 * (packed - begin):.0f} ms, {len(data[0]):,} bytes each")
    print(f"restore {1000 * (restored - packed):.0f} ms; ", end="")
    print(f"as one bank {1000 * (banked_end - banked_begin):.0f} ms, {len(whole):,} bytes")


def main() -> None:
    print(f"{'µs per event of 5 features':28}{'River alone':>12}{'here':>8}{'ratio':>7}{'state bytes':>13}")
    for name, build in (("HalfSpaceTrees", half_space_trees), ("LODA", loda), ("OneClassSVM", one_class_svm)):
        detector = RiverDetector(NAMES, build)
        for sample in samples(400):
            observe(detector, sample)
        base, ours = alone(build), here(lambda build=build: RiverDetector(NAMES, build), 1)  # type: ignore[misc]
        print(f"{name:28}{base:12.1f}{ours:8.1f}{ours / base:7.2f}{len(detector.snapshot()):13,}", flush=True)
    print(f"\n{'µs per event, by batch':28}" + "".join(f"{batch:>9}" for batch in BATCHES) + f"{'state bytes':>13}")
    makers: dict[str, Callable[[], Detector]] = {
        "composite, 5 columns": lambda: Composite(NAMES),
        "composite, 5 columns, gated": lambda: Gated(Composite(NAMES), UNUSUAL_SCORE, hold=False),
        "largest z, 5 features": lambda: Deviation(NAMES),
    }
    for name, make in makers.items():
        costs = "".join(f"{here(make, batch):9.1f}" for batch in BATCHES)
        print(f"{name:28}{costs}{len(make().snapshot()):13,}", flush=True)
    print(f"{'composite, 5 columns, bank':28}" + "".join(f"{banked(batch):9.1f}" for batch in BATCHES))
    snapshots()


if __name__ == "__main__":
    main()
