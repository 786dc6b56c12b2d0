"""The lab: speed of a backtest, cost of sweeps of defaults, and systemic stress through two crashes.

python ops/bench/lab.py backtest | contagion | systemic
"""

import resource
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import _harness as bench
import numpy as np
from _bank_networks import read_network

from seawall.operators.core.forecasts import INDICATOR_WEIGHTS, STRESS_ALARM, MarketState, SystemicStress
from seawall.ops.lab.backtest import REST, SIGNALS, Cache, Workers, load_backtest_plan, read_lines
from seawall.ops.lab.backtest import backtest as run_backtest
from seawall.ops.lab.stress import (
    Shocks,
    contagion_outcome,
    debtrank,
    eisenberg_noe,
    estimate_losses,
    furfine,
    joint_failures,
    settle_scenarios,
)

app = bench.suite(__doc__)

# --- backtest ---------------------------------------------------------------------------------------------------------

DAYS = [7, 14, 30]
START = "2021-04-20T20:42"
TABLES = f"""
[mitigation]
playbook = "{bench.OPS / "playbooks" / "client_default.toml"}"
[conduct]
enabled = false
[market]
groups = 1
"""
MARGIN = {"warning": 0.5, "soft": 0.6, "hard": 0.75, "exit_ratio": 0.9, "dwell_s": 30}
LIMITS = bench.limit("client-margin", "account:*", "margin_ratio", **MARGIN)
LIMITS += bench.limit("client-exposure", "counterparty:*", "current_exposure", hard=250_000_000)
PLAN = """
configuration = "desk.toml"
from = "{start}"
to = "{end}"
[[history]]
format = "ohlcv"
files = ["{data}/crash_may_2021/*.csv.gz"]
pattern = "BINANCE-(?P<base>[A-Z]+)USDT-.*"
venue = "BINANCE"
instrument = "{{base}}-PERP"
[history.terms]
kind = "perpetual"
base = "{{base}}"
quote = "USD"
settlement = "USD"
quantity_increment = "0.000001"
maintenance_margin_rate = "0.03"
[book]
accounts = "{data}/hyperliquid_accounts_2023"
clients = {clients}
[reactions]
depth_share = 0.01
"""


def played(folder: Path, data: Path, days: int, clients: int, processes: int) -> list[object]:
    """Run one length from nothing; return its row."""
    end = (datetime.fromisoformat(START) + timedelta(days=days)).isoformat()
    top = "shards = 1\nslice_ms = 1000\nexposure_change_min = 0.01\nmark_max_age_s = 3600"
    bench.write_desk(folder, top, limits=LIMITS, tables=TABLES)
    (folder / "plan.toml").write_text(PLAN.format(start=START, end=end, data=data, clients=clients))
    plan, cache = load_backtest_plan(folder / "plan.toml"), Cache(folder / "cache")
    plan = plan._replace(variants=plan.variants[-1:])
    processor = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    with bench.spending(lambda: bench.used_s(*processor)) as spent, Workers(processes) as workers:
        found = run_backtest(plan, cache, workers)
    (result,) = found["variants"].values()
    bars = sum(
        plan.first_us <= time_us and b'"bar"' in line[:40]
        for number, path in enumerate(cache.folder.glob("*.jsonl"))
        if not path.name.endswith((REST, SIGNALS))
        for time_us, _, _, line in read_lines(path, number, plan.last_us)
    )
    span, commands = days * 86_400, sum(result["command_kinds"].values())
    row = [days, f"{bars:,}", result["clients"], f"{spent.wall:.1f}", f"{spent.cpu:.1f}", f"{span / spent.wall:,.0f}"]
    return [*row, f"{span / (spent.cpu / processes):,.0f}", f"{spent.cpu / bars * 1e6:.0f}", commands]


@app.command()
def backtest(data: Path = bench.DATA, days: list[int] = DAYS, clients: int = 250, processes: int = 2) -> None:
    """Tell how fast a backtest is: weeks and a month of minute bars of eight pairs, with 250 accounts, to its commands.

    For each length nothing is taken from a cache: the files are converted, one instrument group is watched, one variant
    (the shipped client playbook, obeyed) is played while it is, and detection is judged. Printed: bars in the period,
    seconds by the clock from plan to result, processor time of all processes, how many times faster than real time by
    the clock and by processor time divided by the processes (what an idle machine takes at best), and processor
    microseconds per bar, which are the same for all lengths where the cost is linear in events.
    """
    bench.need(data / "crash_may_2021")
    print(f"load of the machine before: {bench.load()}")
    head = "days | bars | clients | s by the clock | processor s | times real time | … if idle | µs per bar | commands"
    with tempfile.TemporaryDirectory() as name:
        bench.table(head, (played(Path(name) / str(one), data, one, clients, processes) for one in days))


# --- contagion --------------------------------------------------------------------------------------------------------

QUARTERS = ("2019Q4", "2022Q4", "2023Q1")
SAMPLE, ROUNDS = 40, 3


@app.command()
def contagion(folder: Path = bench.DATA / "interbank_networks", joint: int = 1_000, quarters: int = 3) -> None:
    """Tell what a full default sweep and 1,000 joint shocks cost on the bank networks, and whether they are right.

    Of each quarter and model: seconds of the sweep (each of 4,548 banks failing once) by the clock and the processor,
    the worst bank, and the greatest difference from the slow reference on a sample, in units of the largest amount.
    """
    sys.path.insert(0, str(bench.OPS.parent / "tests"))
    from seawall_testing.reference_models import slow_clearing, slow_debtrank, slow_furfine  # noqa: PLC0415 - of the tests, put on the path above

    slow_of = {eisenberg_noe: slow_clearing, furfine: slow_furfine, debtrank: slow_debtrank}
    for quarter in QUARTERS[:quarters]:
        files = (bench.need(folder / f"ai4risk_{kind}_{quarter}.csv.gz") for kind in ("nodes", "edge"))
        loaded = read_network(*files)
        network = loaded.network
        print(
            f"{quarter}: {network.nodes:,} banks, {len(network.amount):,} claims, {loaded.negative_claims} below 0 left"
            f" out, {loaded.insolvent} banks without equity"
        )
        for make, slow in slow_of.items():
            model, times = make(network), []
            for _ in range(ROUNDS):
                with bench.spending() as spent:
                    found = contagion_outcome(model, Shocks.sweep(model))
                times.append((spent.wall, spent.cpu))
            with bench.spending() as drawing:
                shocks = joint_failures(model, np.full(network.nodes, 0.02), 0.2, joint, 1)
                tail = estimate_losses(contagion_outcome(model, shocks).contagion).shortfall
            nodes = np.random.default_rng(7).choice(network.nodes, SAMPLE, replace=False)
            shocks = Shocks.failing(model, np.arange(SAMPLE), nodes, SAMPLE)
            passed = np.concatenate([rest.passed for rest in settle_scenarios(model, shocks)])
            off = max(np.abs(passed[at] - slow(network, int(node))).max() for at, node in enumerate(nodes))
            worst, (wall, cpu) = int(found.contagion.argmax()), min(times)
            print(
                f"  {make.__name__:14} sweep {wall:.2f} s ({cpu:.2f} s CPU), {found.rounds} rounds; worst bank"
                f" {network.names[worst]}: {found.contagion[worst]:,.0f}, {found.failures[worst]} further failures;"
                f" off by {float(off / model.scale.max()):.1e}\n"
                f"  {'':14} {joint:,} joint shocks {drawing.wall:.1f} s; 99 % shortfall {tail.value:,.0f}"
                f" [{tail.low:,.0f}, {tail.high:,.0f}]"
            )


# --- systemic ---------------------------------------------------------------------------------------------------------

COINS = ("ADA", "BTC", "ETH", "LTC", "XRP")  # whose funding rates are known
DAY, APART_MAX = 1440, 180  # minutes
MONDAY = 4 * DAY  # 5 January 1970
QUIET = 0.05
CRASHES = (  # name, folder, files, seconds of a bar, the day on which the market fell
    ("March 2020", "crash_mar_2020", "*USDT-SPOT-1h*.gz", 3600, "2020-03-12"),
    ("May 2021", "crash_may_2021", "*.gz", 60, "2021-05-19"),
)
COLOURS = {"turbulence": "tab:blue", "absorption_ratio": "tab:orange", "funding_stretch": "tab:green"}


class Run(NamedTuple):
    """By sample: minute, composite, values and scores of the parts, the market's mean logarithm."""

    minute: Any
    stress: Any
    values: Any
    scores: Any
    market: Any


class Alarm(NamedTuple):
    """Minutes of begin and end, the highest composite, the market's loss before and the further one after."""

    begin: int
    end: int
    highest: float
    before: float
    after: float


def replay(data: Path, folder: str, pattern: str, step_s: int) -> Run:
    """Play a file through the live state."""
    bars = bench.read_grid(bench.need(data / folder), pattern, step_s)
    price, minutes, funding = bars.prices[:, :, 2].copy(), (bars.time_s + step_s) // 60, []
    for at in range(1, len(price)):
        price[at] = np.where(np.isnan(price[at]), price[at - 1], price[at])
    for coin in COINS:
        rows = bench.read_csv(data / "funding_rates" / f"BINANCE-{coin}USDT-PERP-8h.csv.gz")
        at = np.searchsorted([int(row["funding_time_ms"]) // 60_000 for row in rows], minutes, side="right") - 1
        known = np.array([float(row["funding_rate"]) for row in rows])
        funding.append(np.where(at >= 0, known[np.maximum(at, 0)], np.nan))
    state, seen = SystemicStress(), []
    for minute, now, rates in zip(minutes.tolist(), price, np.array(funding).T, strict=True):
        state.look(minute, MarketState(now, rates, np.full(1, np.nan), np.zeros(3), [], {}))
        parts = state.parts.values()
        seen.append([state.stress, *(part.value for part in parts), *(part.score for part in parts)])
    rows_seen, count, market = np.array(seen), len(INDICATOR_WEIGHTS), np.log(price).mean(axis=1)
    first = int(np.isfinite(market).argmax())  # before, some coin has no price yet
    market[:first] = market[first]
    return Run(minutes, rows_seen[:, 0], rows_seen[:, 1 : 1 + count], rows_seen[:, 1 + count :], market)


def alarms(run: Run) -> list[Alarm]:
    """Return the alarms in order."""
    up, found = np.flatnonzero(run.stress >= STRESS_ALARM), []
    groups = np.split(up, np.flatnonzero(np.diff(run.minute[up]) > APART_MAX) + 1) if len(up) else []
    for group in groups:
        first, now = group[0], run.minute[group[0]]
        past = run.market[(run.minute > now - DAY) & (run.minute <= now)]
        next_day = run.market[(run.minute >= now) & (run.minute < now + DAY)]
        before = float(np.expm1(run.market[first] - past.max()))
        after = float(np.expm1(next_day.min() - run.market[first]))
        found.append(Alarm(int(now), int(run.minute[group[-1]]), float(run.stress[group].max()), before, after))
    return found


def text(minute: int) -> str:
    return bench.utc(60_000_000 * minute, "%d %b %H:%M")


def report(name: str, day: str, run: Run) -> None:
    """Print a crash's part of the page."""
    found, begin = alarms(run), bench.micros(day) // 60_000_000
    of_day = (run.minute >= begin) & (run.minute < begin + 2 * DAY)
    low = int(run.minute[of_day][run.market[of_day].argmin()])
    high = run.market[(run.minute >= begin - DAY) & (run.minute <= low)].max()
    first = next(one for one in found if one.begin >= begin)
    lost = float(np.expm1(run.market[int(np.flatnonzero(run.minute == first.begin)[0])] - high))
    whole = float(np.expm1(run.market[of_day].min() - high))
    print(
        f"## {name}\n\nFrom its high of the day before to its low ({text(low)} UTC) the market lost {-whole:.1%}. The "
        f"alarm came {text(first.begin)} UTC, {(low - first.begin) / 60:.1f} hours before the low, when {-lost:.1%} "
        f"were lost: {(whole - lost) / whole:.0%} of the fall were still to come.\n"
    )
    rows = [
        [text(one.begin), text(one.end), f"{one.highest:.2f}", f"{-one.before:.1%}", f"{-one.after:.1%}"]
        for one in found
    ]
    bench.table("alarm (UTC) | until | highest | market below its 24 h high | further loss within 24 h", rows)
    known, within = run.values[:, 0] > 0, [range(one.begin, one.end + 1) for one in found]
    days = len(np.unique(run.minute[known] // DAY))
    bad = len(np.unique([minute // DAY for minute in run.minute.tolist() if any(minute in one for one in within)]))
    quiet = sum(one.before > -QUIET and one.after > -QUIET for one in found)
    print(
        f"\n{days} days from the first turbulence that is known, {bad} with an alarm; of {len(found)} alarms {quiet} "
        f"with less than 5 % lost before and after. Weeks (Monday to Sunday) in which no day fell by 10 % from its "
        f"high: {', '.join(weeks(run, found)) or 'none'}.\nThe composite's median is "
        f"{np.median(run.stress[known]):.2f}, its 95 % quantile {np.quantile(run.stress[known], 0.95):.2f}.\n"
    )


def weeks(run: Run, found: list[Alarm]) -> list[str]:
    """Return, for each quiet week of which anything is known, when it began and how many alarms began in it."""
    said = []
    for week in np.unique((run.minute[run.values[:, 0] > 0] - MONDAY) // (7 * DAY)).tolist():
        begin = MONDAY + week * 7 * DAY
        inside = (run.minute >= begin) & (run.minute < begin + 7 * DAY)
        days = [run.market[inside & (run.minute // DAY == day)] for day in np.unique(run.minute[inside] // DAY)]
        if all((one - np.maximum.accumulate(one)).min() > np.log(0.9) for one in days):
            count = sum(begin <= one.begin < begin + 7 * DAY for one in found)
            said.append(f"that of {text(begin)[:6]} with {count} alarm{'s' if count != 1 else ''}")
    return said


def plot(path: Path, runs: dict[str, Run]) -> None:
    """Draw market, composite and scores of both crashes."""
    import matplotlib as mpl  # noqa: PLC0415 - extra lab

    mpl.use("Agg")
    from matplotlib import dates, pyplot  # noqa: PLC0415 - extra lab

    ticks: Any = dates
    figure, axes = pyplot.subplots(3, 2, figsize=(15, 9), sharex="col", height_ratios=(2, 2, 1.6))
    for column, (name, run) in enumerate(runs.items()):
        times = np.array(60 * run.minute, dtype="datetime64[s]")
        market, stress, scores = axes[:, column]
        market.plot(times, 100 * np.exp(run.market - run.market[0]), color="black", linewidth=0.8)
        market.set(title=name, ylabel="market, first day = 100", yscale="log")
        market.yaxis.set_major_formatter("{x:.0f}")
        market.yaxis.set_minor_formatter("{x:.0f}")
        stress.plot(times, run.stress, color="tab:red", linewidth=0.8)
        stress.axhline(STRESS_ALARM, color="0.4", linestyle="--", linewidth=0.8)
        stress.text(times[len(times) // 50], STRESS_ALARM + 0.02, f"alarm {STRESS_ALARM}", color="0.3")
        stress.set(ylabel="systemic stress", ylim=(0, 1))
        for part, colour in COLOURS.items():
            scores.plot(
                times, run.scores[:, list(INDICATOR_WEIGHTS).index(part)], linewidth=0.8, color=colour, label=part
            )
        scores.set(ylabel="scores of parts", ylim=(0, 1.05))
        scores.legend(loc="upper left", fontsize=8)
        scores.xaxis.set_major_locator(ticks.DayLocator(bymonthday=(1, 5, 9, 13, 17, 21, 25)))
        scores.xaxis.set_major_formatter(ticks.DateFormatter("%d %b"))
        for one in alarms(run):
            span = np.array([60 * one.begin, 60 * max(one.end, one.begin + 60)], dtype="datetime64[s]")
            for axis in (market, stress):
                axis.axvspan(*span, color="tab:red", alpha=0.15)
    figure.tight_layout()
    figure.savefig(path, dpi=70)


@app.command()
def systemic(data: Path = bench.DATA, picture: Path | None = None) -> None:
    """Tell when systemic stress gave its alarm through March 2020 and May 2021, and how often for nothing.

    Closes of eight coins (May: minutes; March: hours) and the funding rates of five perpetuals go through the live
    state minute by minute of event time, as the second operator takes them. Collateral, claims and open interest are
    not in the data, so those parts say nothing. An alarm is an unbroken time at or above the alarm level; alarms less
    than three hours apart are one. The market is the mean logarithm of all coins. Printed for the page: every alarm
    with what the market had lost by then from its high of the last 24 hours and lost from there to the low of the next
    24, the crossing against the fall of the crash, and alarms in the weeks without one. PICTURE is where to draw it all
    (``ops/docs/benchmarks/systemic-2020-2021.png``).
    """
    runs = {}
    for name, folder, pattern, step_s, day in CRASHES:
        runs[name] = replay(data, folder, pattern, step_s)
        report(name, day, runs[name])
    if picture is not None:
        plot(picture, runs)


if __name__ == "__main__":
    app()
