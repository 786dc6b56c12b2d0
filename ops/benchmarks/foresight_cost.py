"""What forecasts cost: a second of event time of one shard, and the liquidation map against a bare multiply-and-add.

python ops/benchmarks/foresight_cost.py [--positions 250000] [--accounts 10000] [--seconds 60]

A second: 20,000 fills and marks have moved every account; marks are sampled, all accounts forecast for every horizon,
what moved written, and the state put in bytes, as it is once a second. Its CPU time is its share of a core, live: the
mean of a minute with its end. Measured with forecasts off, on, with soft and hard limits on equity and leverage of all
accounts and gross notional of all counterparties, with losses of all counterparties, and with both.
A minute: both maps of a shard (alone, with betas), and what the second operator makes of them and of markets: cascades,
indicators of 48 known assets, a network of 48, records, state in bytes; a sixtieth of it falls on a second.
The map: from rows of positions to what is forced at 101 steps of every underlying, alone; the rival is ``a * x + b``
over an array of positions times steps, in the same run, best of five. At a tenth, a half and the whole of the book.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from seawall.operators.core.activity import Activity
from seawall.operators.core.foresight.cascades import shard_map
from seawall.operators.core.foresight.foresight import ForesightState
from seawall.operators.core.foresight.liquidation import STEPS, liquidation_map
from seawall.operators.core.foresight.markets import Markets
from seawall.operators.core.foresight.passage import paired
from seawall.operators.core.foresight.wide import WideForesightState
from seawall.operators.core.frames import Factors, Frame, Holdings, LossBook, Owned, Table
from seawall.schemas.measures import ACCOUNT

UNDERLYINGS, T0, SECOND, RATE = 50, 1_700_000_038_000_000, 1_000_000, 0.01  # a minute ends at the second second
WARM = (
    3  # seconds before the first that counts; the first minute ends within them, in which all is written as in an hour
)
PARTS = {  # of a configuration, by what is measured
    "off": (),
    "on": ("enabled",),
    "on, limits": ("enabled", "limits"),
    "on, losses": ("enabled", "losses"),
    "on, limits, losses": ("enabled", "limits", "losses"),
}
LIMITS = [
    {"id": "equity", "scope": "account:*", "measure": "equity", "direction": "below", "soft": 5e3, "hard": 0.0},
    {"id": "leverage", "scope": "account:*", "measure": "leverage", "direction": "above", "soft": 20.0, "hard": 50.0},
    {
        "id": "gross",
        "scope": "counterparty:*",
        "measure": "gross_notional",
        "direction": "above",
        "soft": 1e5,
        "hard": 1e6,
    },
]


def configuration(parts: tuple[str, ...]) -> dict[str, Any]:
    """Return what a shard is told of a configuration with these parts."""
    section = {part: True for part in ("enabled", "losses") if part in parts}
    limits = LIMITS if "limits" in parts else []
    return {"forecasts": section, "limits": {"version": 1, "sha256": "", "limits": limits}}


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
    owner, one = np.arange(accounts), np.ones(accounts)
    owned = Owned(owner, owner, np.zeros_like(owner), np.zeros_like(owner), -one, -one, one > 0, 1, 0)
    fixed = (times, numbers, linear, names, names, unknown, paid, gain, owned)
    return Holdings(account, instrument, gain, margin, price, *fixed)


def loss_book(held: Holdings, names: list[str]) -> LossBook:
    """Return the same book as losses see it, each account that of a counterparty of its own."""
    count = len(held.price)
    none, no = np.full(count, -1), np.zeros(count, dtype=bool)
    under = [held.underlyings[at] for at in held.underlying.tolist()]
    factors = Factors(np.arange(count), none, np.zeros(count, dtype=np.int64), no, no, under, ["USD"] * count)
    owner, bare = np.arange(len(names)), np.zeros(len(names), dtype=bool)
    return LossBook(held.account, held.instrument, -held.gain, names, owner, bare, factors, np.zeros((8, count)))


def tables(held: Holdings, names: list[str]) -> dict[str, Table]:
    """Return the measures of accounts and counterparties, some of them near their margins."""
    accounts = len(names)
    gross = np.bincount(held.account, np.abs(held.gain), accounts)
    equity = gross * (0.02 + 0.5 * np.linspace(0, 1, accounts) ** 2)
    values = np.zeros((len(ACCOUNT), accounts))
    found = {"equity": equity, "gross_notional": gross, "maintenance_margin": RATE * gross}
    found |= {"margin_ratio": RATE * gross / np.maximum(equity, 1e-9), "leverage": gross / np.maximum(equity, 1e-9)}
    for name, row in found.items():
        values[ACCOUNT.index(name)] = row
    parties = Table(names, ("gross_notional",), gross[None])
    return {"account": Table(names, ACCOUNT, values), "counterparty": parties}


def second(positions: int, accounts: int, seconds: int, parts: tuple[str, ...]) -> float:
    """Return the mean CPU seconds that a second of event time takes."""
    draw, price = np.random.default_rng(1), np.full(UNDERLYINGS, 100.0)
    state, names, taken = ForesightState(0), [f"a{at}" for at in range(accounts)], []
    for at in range(seconds + WARM):
        price = price * np.exp(0.0003 * draw.standard_normal(UNDERLYINGS))
        held = holdings(positions, accounts, price, T0 + at * SECOND, np.random.default_rng(2))
        held = held._replace(losses=loss_book(held, names) if "losses" in parts else None)
        filled = draw.integers(0, accounts, 20_000)
        activity = Activity(filled, [], [], [], np.zeros(accounts, dtype=np.int64), None)
        ends = (T0 + (at + 1) * SECOND) % (60 * SECOND) == 0
        frame = Frame(
            "0", 0, at, T0 + (at + 1) * SECOND, 0, True, [], configuration(parts) if at == 0 else None,
            tables(held, names), second=True, activity=activity, holdings=held if "enabled" in parts else None,
            partial={"foreseen": {}} if ends else {},
        )  # fmt: skip
        started = time.process_time()
        state.step(frame)
        state.snapshot()
        taken.append(time.process_time() - started)
    return float(np.mean(taken[WARM:]))


def minute(positions: int, accounts: int) -> tuple[float, float]:
    """Return the CPU seconds that a minute of event time takes in a shard, and in the second operator."""
    draw, markets = np.random.default_rng(4), Markets()
    price = np.full(UNDERLYINGS, 100.0)
    book = holdings(positions, accounts, price, T0, np.random.default_rng(2))
    values = np.zeros((len(ACCOUNT), accounts))
    values[ACCOUNT.index("equity")] = 30_000.0 + draw.normal(0.0, 40_000.0, accounts)
    markets.sample(book, T0)
    drawn = best(lambda: shard_map(book, values, markets))
    told = {"map": list(shard_map(book, values, markets)), "depth": np.full(UNDERLYINGS, 1e6)}
    nodes = [f"n{at}" for at in range(48)]
    claims = [(*draw.choice(nodes, 2, replace=False).tolist(), float(draw.random())) for _ in range(500)]
    told |= {"claims": claims, "own_funds": dict.fromkeys(nodes, 5.0), "house": 5.0, "collateral": np.ones(3)}
    told |= {"funding": np.full(UNDERLYINGS, 1e-4), "interest": np.full(UNDERLYINGS, 10.0)}
    state, taken = WideForesightState(1), []
    names = [f"U{at}" for at in range(UNDERLYINGS)]
    for at in range(90 * 60):
        price = price * np.exp(0.001 * draw.standard_normal(UNDERLYINGS))
        if at % 60 and at < 80 * 60:  # until all is known hours are enough
            continue
        tables = {"underlying": Table(names, ("gross_notional",), np.zeros((1, UNDERLYINGS)))}
        tables["firm"] = Table(["firm"], ("gross_notional",), np.zeros((1, 1)))
        frame = Frame(
            "all", 1, at, T0 + at * 60 * SECOND, 0, True, [], configuration(("enabled",)) if at == 0 else None, tables,
            foreseen=[{**told, "price": price}],
        )  # fmt: skip
        started = time.process_time()
        state.step(frame)
        state.snapshot()
        taken.append(time.process_time() - started)
    return drawn, float(np.mean(sorted(taken[-600:])[:-10]))  # with hours among them, without the host's worst


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
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    for part in (10, 2, 1):
        measure_map(options.positions // part, options.accounts // part)
    shard, wide = minute(options.positions, options.accounts)
    print(f"a minute of {options.positions:,} positions: {1e3 * shard:.1f} ms in a shard, {1e3 * wide:.1f} ms in the")
    print(f"  second operator; {1e6 * (shard + wide) / 60:.0f} µs of CPU per second of event time")
    for name, parts in PARTS.items():
        taken = second(options.positions, options.accounts, options.seconds, parts)
        whole = taken + (wide / 60 if parts else 0.0)
        print(f"{name:<20} {1e3 * taken:7.2f} ms a second, with the second operator {100 * whole:.2f} % of a core")


if __name__ == "__main__":
    main()
