"""What forecasts cost: a second of event time of one shard, and the liquidation map against a bare multiply-and-add.

python ops/benchmarks/foresight_cost.py [--positions 250000] [--accounts 10000] [--seconds 30]

A second: 20,000 fills and marks have moved every account; marks are sampled, all accounts forecast for every horizon,
what moved written, and the state put in bytes, as it is once a second. Its CPU time is its share of a core, live.
The map: from rows of positions to what is forced at 101 steps of every underlying, alone; the rival is ``a * x + b``
over an array of positions times steps, in the same run, best of five.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from seawall.operators.core.activity import Activity
from seawall.operators.core.foresight.foresight import ForesightState
from seawall.operators.core.foresight.liquidation import STEPS, liquidation_map
from seawall.operators.core.foresight.passage import paired
from seawall.operators.core.frames import Frame, Holdings, Table
from seawall.schemas.measures import ACCOUNT

UNDERLYINGS, T0, SECOND, RATE = 50, 1_700_000_000_000_000, 1_000_000, 0.01
CONFIGURATION = {"forecasts": {"enabled": True}, "limits": {"limits": []}}


def best(call: Callable[[], object], rounds: int = 5) -> float:
    """Return the least CPU seconds of several calls."""
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return min(taken)


def holdings(positions: int, accounts: int, price: np.ndarray, time_us: int, draw: np.random.Generator) -> Holdings:
    account = np.sort(draw.integers(0, accounts, positions))
    instrument = draw.integers(0, UNDERLYINGS, positions)
    gain = draw.normal(size=positions) * 1000 * price[instrument] / 100
    names = [f"U{at}" for at in range(UNDERLYINGS)]
    numbers, linear = np.arange(UNDERLYINGS), np.ones(UNDERLYINGS, dtype=bool)
    times, unknown = np.full(UNDERLYINGS, time_us), np.full(UNDERLYINGS, np.nan)
    paid = np.zeros(accounts)
    margin = RATE * np.abs(gain)
    return Holdings(account, instrument, gain, margin, price, times, numbers, linear, names, names, unknown, paid)


def second(positions: int, accounts: int, seconds: int) -> float:
    """Return the CPU seconds that a second of event time takes."""
    draw = np.random.default_rng(1)
    price = np.full(UNDERLYINGS, 100.0)
    state, names, taken = ForesightState(0), [f"a{at}" for at in range(accounts)], []
    for at in range(seconds + 3):
        price = price * np.exp(0.0003 * draw.standard_normal(UNDERLYINGS))
        held = holdings(positions, accounts, price, T0 + at * SECOND, np.random.default_rng(2))
        gross = np.bincount(held.account, np.abs(held.gain), accounts)
        values = np.zeros((len(ACCOUNT), accounts))
        equity = gross * (0.02 + 0.5 * np.linspace(0, 1, accounts) ** 2)
        for name, row in {"equity": equity, "gross_notional": gross, "maintenance_margin": RATE * gross}.items():
            values[ACCOUNT.index(name)] = row
        values[ACCOUNT.index("margin_ratio")] = RATE * gross / np.maximum(equity, 1e-9)
        filled = draw.integers(0, accounts, 20_000)
        activity = Activity(filled, [], [], [], np.zeros(accounts, dtype=np.int64), None)
        frame = Frame(
            "0", 0, at, T0 + (at + 1) * SECOND, 0, True, [], CONFIGURATION if at == 0 else None,
            {"account": Table(names, ACCOUNT, values)}, second=True, activity=activity, holdings=held,
        )  # fmt: skip
        started = time.process_time()
        state.step(frame)
        state.snapshot()
        taken.append(time.process_time() - started)
    return float(np.median(taken[3:]))


def measure_map(positions: int, accounts: int) -> None:
    """Print what a map costs, and its rival."""
    one = holdings(positions, accounts, np.full(UNDERLYINGS, 100.0), T0, np.random.default_rng(2))
    health, steps = np.random.default_rng(3).normal(30.0, 40.0, accounts) * 1000, np.array(STEPS)
    pairs = paired(one.account, one.underlying[one.instrument], one.gain, one.margin)
    rows = best(lambda: paired(one.account, one.underlying[one.instrument], one.gain, one.margin))
    drawn = best(lambda: liquidation_map(pairs, health, pairs.gain - pairs.margin, UNDERLYINGS, steps))
    rival = best(lambda: one.gain[:, None] * steps[None, :] + 1.0)
    print(f"{positions:,} positions, {accounts:,} accounts: rows {1e3 * rows:.1f} ms, map {1e3 * drawn:.1f} ms,")
    print(f"  multiply and add {1e3 * rival:.1f} ms, ratio {(rows + drawn) / rival:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=250_000)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args()
    for part in (10, 1):
        measure_map(options.positions // part, options.accounts // part)
    taken = second(options.positions, options.accounts, options.seconds)
    print(f"a second of {options.positions:,} positions, {options.accounts:,} accounts: {1e3 * taken:.1f} ms of CPU,")
    print(f"  {100 * taken:.1f} % of a core in real time")


if __name__ == "__main__":
    main()
