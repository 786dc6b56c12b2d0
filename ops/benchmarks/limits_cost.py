"""Cost of limits per slice: 50,000 cells as named limits, as starred ones, scaling with the market, and per window.

python ops/benchmarks/limits_cost.py [--limits 50000]

The baseline of the same run is a bare numpy comparison of as many numbers with as many bounds.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from seawall.operators.core.frames import Frame, Markets, Table
from seawall.operators.core.limits import LimitsState
from seawall.schemas.thresholds import check_limits

SLICES = 60
MEASURES = ("equity", "gross_notional")
NAN = np.array([np.nan])


def limits_of(form: str, count: int) -> list[dict[str, Any]]:
    if form == "starred":
        base = {"scope": "account:*", "measure": "gross_notional", "soft": 1.5, "hard": 2.0}
        return [{"id": f"l{at}", **base} for at in range(2)]
    limits = [
        {"id": f"l{at}", "scope": f"account:a{at // 2}", "measure": MEASURES[at % 2], "soft": 1.5, "hard": 2.0}
        for at in range(count)
    ]
    if form == "scaled":
        return [{**limit, "floor": 1.0, "scaling": {"reference_volatility": 0.5}} for limit in limits]
    return [{**limit, "window_s": 60} for limit in limits] if form == "windows" else limits


def frames(count: int, limits: list[dict[str, Any]], seconds: bool) -> Callable[[int, np.ndarray], Frame]:
    names = [f"a{at}" for at in range(count)]
    section = {"version": 1, "sha256": "", "limits": check_limits(limits, "limits")}

    def frame(seq: int, values: np.ndarray) -> Frame:
        market = Markets(["BTC"], np.array([0.5 + 0.01 * seq]), NAN, NAN, NAN, NAN)
        return Frame(
            key="0", partition=0, seq=seq, as_of_us=(1_000_000 if seconds else 100_000) * (seq + 1), cut_us=0,
            decides=True, inputs=[], configuration={"limits": section} if not seq else None,
            tables={"account": Table(names, MEASURES, values)}, markets=market if seconds else None,
        )  # fmt: skip

    return frame


def measure(form: str, count: int) -> tuple[float, float, int]:
    """Return milliseconds per slice, and of the snapshot with its bytes."""
    accounts = count // 2
    frame = frames(accounts, limits_of(form, count), form == "scaled")
    state, random = LimitsState("0", 0), np.random.default_rng(7)
    values = 0.4 * random.random((2, accounts))
    state.step(frame(0, values))
    pieces = [frame(seq, values + 0.001 * seq) for seq in range(1, SLICES)]
    started = time.perf_counter()
    for piece in pieces:
        state.step(piece)
    spent = (time.perf_counter() - started) / len(pieces) * 1e3
    state.snapshot()
    started = time.perf_counter()
    size = len(state.snapshot())
    return spent, (time.perf_counter() - started) * 1e3, size


def bare(count: int) -> float:
    values, bounds = np.random.default_rng(7).random(count), np.full(count, 1.5)
    started = time.perf_counter()
    for _ in range(1000):
        (values >= bounds).nonzero()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limits", type=int, default=50_000)
    count = parser.parse_args().limits
    print(f"{count:,} cells; baseline, a bare comparison: {bare(count):.3f} ms")
    print(f"{'form':<10} {'ms per slice':>12} {'snapshot ms':>12} {'snapshot kB':>12}")
    for form in ("starred", "named", "windows", "scaled"):
        spent, saving, size = measure(form, count)
        print(f"{form:<10} {spent:12.3f} {saving:12.2f} {size / 1e3:12.0f}")


if __name__ == "__main__":
    main()
