"""Cost: µs per event of each detector alone in River and here, by batch; state per key; snapshots of 10,000 keys.

Run as ``python ops/benchmarks/detection_cost.py``. "River" calls an estimator's ``score_one`` and ``learn_one`` with
ready dictionaries; "here" takes samples and adds guard, warm-up, rank calibration and, where it says so, the gate. A
batch of N is one event for each of N keys; River has no batches, and a HalfSpaceTrees object for each of 1,024 keys
would take 3 GB. CPU time, best of seven.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from river import anomaly, stats

from seawall.operators.core.detection import forest as forests
from seawall.operators.core.detection import kernels
from seawall.operators.core.detection.bank import Bank
from seawall.operators.core.detection.composite import UNUSUAL_SCORE, Composite
from seawall.operators.core.detection.deviation_bank import DeviationBank
from seawall.operators.core.detection.deviations import Deviation
from seawall.operators.core.detection.factory import make_models
from seawall.operators.core.detection.forest import Forest
from seawall.operators.core.detection.gates import Gated
from seawall.operators.core.detection.models import ModelKey, Scope
from seawall.operators.core.detection.one_class import OneClass
from seawall.operators.core.detection.rivers import RiverDetector, half_space_trees, loda, one_class_svm
from seawall.operators.core.detection.samples import Detector, Sample, observe
from seawall.operators.core.market.living import LivingModels
from seawall.operators.core.snapshot import pack

ROWS = 1500
WARM_ROWS = 400
FEATURES = 5
KEYS = 10_000
BATCHES = (1, 32, 1024)

NAMES = tuple(f"feature{number}" for number in range(FEATURES))


def samples(rows: int) -> list[Sample]:
    chance = random.Random(1)
    return [Sample(row * 60_000_000, tuple(chance.gauss(100.0, 1.0) for _ in NAMES)) for row in range(rows)]


def best(action: Callable[[], int]) -> float:
    """Return the least CPU time per event, in µs, of seven runs; ``action`` returns how many events it took."""
    results = []
    for _ in range(7):
        begin = time.process_time()
        events = action()
        results.append((time.process_time() - begin) / events * 1e6)
    return min(results)


def river(build: Callable[[], Any], target: bool = False) -> float:
    rows: list[tuple[Any, ...]] = [(dict(zip(NAMES, sample.values, strict=True)),) for sample in samples(ROWS)]
    if target:
        rows = [(None, sample.values[0]) for sample in samples(ROWS)]
    estimator = build()
    for row in rows[:WARM_ROWS]:
        estimator.learn_one(*row)

    def action() -> int:
        for row in rows:
            estimator.score_one(*row)
            estimator.learn_one(*row)
        return ROWS

    return best(action)


def here(make: Callable[[], Detector], batch: int, width: int = FEATURES) -> float:
    rows = [Sample(sample.time_us, sample.values[:width]) for sample in samples(max(ROWS // batch, 2))]
    detectors = [make() for _ in range(batch)]
    for row in (rows * WARM_ROWS)[: WARM_ROWS if batch == 1 else 2]:
        for detector in detectors:
            observe(detector, row)

    def action() -> int:
        for row in rows:
            for detector in detectors:
                observe(detector, row)
        return batch * len(rows)

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


def deviations(batch: int) -> float:
    """Time the largest z of 1,024 keys with one feature that arrive ``batch`` at a time."""
    bank, keys = DeviationBank(max(BATCHES), NAMES[:1]), np.arange(max(BATCHES))
    singly = [sample.values[:1] for sample in samples(max(BATCHES))]
    rows = np.array(singly)
    for _ in range(WARM_ROWS):
        bank.observe(keys, rows)

    def action() -> int:
        if batch == 1:
            for key, values in enumerate(singly):
                bank.observe_one(key, values)
            return max(BATCHES)
        for begin in range(0, max(BATCHES), batch):
            bank.observe(keys[begin : begin + batch], rows[begin : begin + batch])
        return max(BATCHES)

    return best(action)


def living(batch: int) -> float:
    """Time models with lives, as ``market`` has them, of 1,024 instruments that arrive ``batch`` at a time."""
    models, count = LivingModels(NAMES), max(BATCHES)
    slots = [models.take() for _ in range(count)]
    rows = [sample.values for sample in samples(count)]

    def action() -> int:
        for begin in range(0, count, batch):
            part = slice(begin, begin + batch)
            models.observe(slots[part], 60_000_000, rows[part], [False] * batch)
        return count

    return best(action)


def forest(batch: int) -> float:
    """Time the trees of one asset class, of whose keys ``batch`` arrive at a time."""
    trees, rows = Forest(FEATURES), np.random.default_rng(1).random((2048, FEATURES))
    trees.observe(rows[:600])

    def action() -> int:
        for begin in range(0, len(rows), batch):
            trees.observe(rows[begin : begin + batch])
        return len(rows)

    return best(action)


def line(name: str, alone: float | None, costs: list[float | None], size: int) -> None:
    cells = "".join(f"{'-' if cost is None else f'{cost:.1f}':>9}" for cost in costs)
    ratio = f"{costs[0] / alone:.2f}" if alone and costs[0] else "-"
    print(f"{name:40}{'-' if alone is None else f'{alone:.1f}':>9}{cells}{ratio:>7}{size:>12,}", flush=True)


def table() -> None:
    print(f"{'µs per event of 5 features':40}{'River':>9}" + "".join(f"{batch:>9}" for batch in BATCHES), end="")
    print(f"{'ratio':>7}{'state bytes':>12}")
    alone = {build: river(build) for build in (half_space_trees, loda, one_class_svm)}
    deviation = river(lambda: anomaly.StandardAbsoluteDeviation(stats.Mean()), target=True)
    gaussian = river(lambda: anomaly.GaussianScorer(window_size=None, grace_period=100), target=True)
    rows: list[tuple[str, float | None, Callable[[], Detector], tuple[int, ...], int]] = [
        ("HalfSpaceTrees of River", alone[half_space_trees], lambda: RiverDetector(NAMES, half_space_trees), (1,), 5),
        ("LODA of River", alone[loda], lambda: RiverDetector(NAMES, loda), BATCHES, 5),
        ("OneClassSVM of River", alone[one_class_svm], lambda: RiverDetector(NAMES, one_class_svm), BATCHES, 5),
        ("OneClassSVM, plain", alone[one_class_svm], lambda: OneClass(NAMES), BATCHES, 5),
        ("AbsoluteDeviation by protocol, 1 feature", deviation, lambda: Deviation(NAMES[:1]), BATCHES, 1),
        ("GaussianScorer by protocol, 1 feature", gaussian, lambda: Deviation(NAMES[:1]), BATCHES, 1),
        ("largest z", None, lambda: Deviation(NAMES), BATCHES, 5),
        ("composite", None, lambda: Composite(NAMES), BATCHES, 5),
        ("composite, gated", None, lambda: Gated(Composite(NAMES), UNUSUAL_SCORE, hold=False), BATCHES, 5),
    ]
    for name, base, make, batches, width in rows:
        costs = [here(make, batch, width) if batch in batches else None for batch in BATCHES]
        detector = make()
        for sample in samples(300):
            observe(detector, Sample(sample.time_us, sample.values[:width]))
        line(name, base, list(costs), len(detector.snapshot()))
    line("composite, bank", None, [banked(batch) for batch in BATCHES], len(Composite(NAMES).snapshot()))
    in_bank: list[float | None] = [deviations(batch) for batch in BATCHES]
    line("AbsoluteDeviation in a bank, 1 feature", deviation, in_bank, 592)
    line("GaussianScorer in a bank, 1 feature", gaussian, in_bank, 592)
    line("composite with a life, in market", None, [living(batch) for batch in BATCHES], 300 + 220 * FEATURES)
    bare = river(lambda: anomaly.HalfSpaceTrees(n_trees=25, height=8, seed=7))
    if kernels.compiled() is not None:
        line("trees of a class, numba", bare, [forest(batch) for batch in BATCHES], len(Forest(FEATURES).snapshot()))
    forests.compiled = lambda: None  # type: ignore[assignment]
    line("trees of a class, numpy", bare, [forest(batch) for batch in BATCHES], len(Forest(FEATURES).snapshot()))


def snapshots() -> None:
    """Time packing and restoring the models of 10,000 keys."""
    bank = Bank(KEYS, NAMES)
    begin = time.process_time()
    whole = bank.snapshot()
    print(f"\n{KEYS:,} keys of 5 columns in a bank: {1e3 * (time.process_time() - begin):.0f} ms, {len(whole):,} bytes")
    lives = LivingModels(NAMES)
    for _ in range(KEYS):
        lives.take()
    begin = time.process_time()
    whole = pack("lives", {"state": lives.snapshot()})
    print(f"{KEYS:,} keys of 5 columns in market: {1e3 * (time.process_time() - begin):.0f} ms, ", end="")
    print(f"{len(whole) / KEYS:,.0f} bytes a key")
    models, rows = make_models(NAMES), samples(2)
    for number in range(KEYS):
        for row in rows:
            models.observe(ModelKey(Scope.INSTRUMENT, f"key{number}", "perpetual"), row)
    begin = time.process_time()
    data = models.snapshot()
    packed = time.process_time()
    make_models(NAMES).restore(data)
    restored = time.process_time()
    print(f"{KEYS:,} keys of 5 columns in a registry: {1e3 * (packed - begin):.0f} ms, ", end="")
    print(f"{len(data) / KEYS:,.0f} bytes a key; restored in {1e3 * (restored - packed):.0f} ms")


if __name__ == "__main__":
    table()
    snapshots()
