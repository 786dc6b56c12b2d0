"""What a full default sweep and 1,000 joint shocks cost on the bank networks, and whether they are right.

    python ops/benchmarks/contagion.py shared/data/interbank_networks [--joint 1000]

Of each quarter and model: seconds of the sweep (each of 4,548 banks failing once) by the clock and the processor, the
worst bank, and the greatest difference from the slow reference on a sample, in units of the largest amount.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from seawall.ops.lab.cascade.contagion import Model, Shocks, outcome, spread
from seawall.ops.lab.cascade.models import debtrank, eisenberg_noe, furfine
from seawall.ops.lab.cascade.network import Network, read_network
from seawall.ops.lab.cascade.shocks import estimate, joint_failures

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from seawall_testing.contagion import slow_clearing, slow_debtrank, slow_furfine

QUARTERS = ("2019Q4", "2022Q4", "2023Q1")
MODELS = ((eisenberg_noe, slow_clearing), (furfine, slow_furfine), (debtrank, slow_debtrank))
SAMPLE = 40


def difference(model: Model, network: Network, slow: object, seed: int) -> float:
    """Return the greatest difference from the slow reference over a sample of failing banks."""
    nodes = np.random.default_rng(seed).choice(network.nodes, SAMPLE, replace=False)
    shocks = Shocks.failing(model, np.arange(SAMPLE), nodes, SAMPLE)
    passed = np.concatenate([rest.passed for rest in spread(model, shocks)])
    wrong = [np.abs(passed[at] - slow(network, int(node))).max() for at, node in enumerate(nodes)]  # type: ignore[operator]
    return float(max(wrong) / model.scale.max())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--joint", type=int, default=1_000)
    chosen = parser.parse_args()
    for quarter in QUARTERS:
        files = (chosen.folder / f"ai4risk_{kind}_{quarter}.csv.gz" for kind in ("nodes", "edge"))
        loaded = read_network(*files)
        network = loaded.network
        print(
            f"{quarter}: {network.nodes:,} banks, {len(network.amount):,} claims, {loaded.negative_claims} below 0 left"
            f" out, {loaded.insolvent} banks without equity"
        )
        for make, slow in MODELS:
            model, best = make(network), (np.inf, np.inf)
            for _ in range(3):
                clock, used = time.perf_counter(), time.process_time()
                found = outcome(model, Shocks.sweep(model))
                best = min(best, (time.perf_counter() - clock, time.process_time() - used))
            clock = time.perf_counter()
            odds = np.full(network.nodes, 0.02)
            joint = outcome(model, joint_failures(model, odds, 0.2, chosen.joint, 1))
            drawn = time.perf_counter() - clock
            worst, tail = int(found.contagion.argmax()), estimate(joint.contagion).shortfall
            print(
                f"  {make.__name__:14} sweep {best[0]:.2f} s ({best[1]:.2f} s CPU), {found.rounds} rounds; worst bank"
                f" {network.names[worst]}: {found.contagion[worst]:,.0f}, {found.failures[worst]} further failures;"
                f" off by {difference(model, network, slow, 7):.1e}\n"
                f"  {'':14} {chosen.joint:,} joint shocks {drawn:.1f} s; 99 % shortfall {tail.value:,.0f}"
                f" [{tail.low:,.0f}, {tail.high:,.0f}]"
            )


if __name__ == "__main__":
    main()
