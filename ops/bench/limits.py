"""Limits: their cost per slice, their course through 19 May 2021, and the accounts that crossed them in 2023.

python ops/bench/limits.py cost | may_2021 | crossings
"""

import csv
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import _harness as bench
import numpy as np

from seawall.connectors.bus import Bus, read_all
from seawall.connectors.venues.hyperliquid import convert
from seawall.operators.core.base import Events, MarketConditions, Measures, MeasureTable, Moment
from seawall.operators.core.limits import LimitsState
from seawall.operators.core.portfolio import ExposureState, FirmState
from seawall.schemas.measures import check_limits
from seawall.schemas.records import decode_slice

app = bench.suite(__doc__)

# --- cost -------------------------------------------------------------------------------------------------------------

SLICES = 60
PAIR = ("equity", "gross_notional")
FORMS = ("starred", "named", "windows", "scaled")
NAN = np.array([np.nan])


def limits_of(form: str, count: int) -> list[bench.Json]:
    """Return so many limits of a form, two of them where a star stands for all accounts."""
    if form == "starred":
        starred = {"scope": "account:*", "measure": "gross_notional", "soft": 1.5, "hard": 2.0}
        return [{"id": f"l{at}", **starred} for at in range(2)]
    more: bench.Json = {"scaled": {"floor": 1.0, "scaling": {"reference_volatility": 0.5}}, "windows": {"window_s": 60}}
    fields = {"soft": 1.5, "hard": 2.0, **more.get(form, {})}
    return [{"id": f"l{at}", "scope": f"account:a{at // 2}", "measure": PAIR[at % 2], **fields} for at in range(count)]


def evaluated(form: str, count: int) -> tuple[LimitsState, list[Measures]]:
    """Return a state that has seen its first slice, and the slices to come."""
    names, scaled = [f"a{at}" for at in range(count // 2)], form == "scaled"
    section = {"version": 1, "sha256": "", "limits": check_limits(limits_of(form, count), "limits")}
    values, found = 0.4 * np.random.default_rng(7).random((2, count // 2)), list[Measures]()
    for seq in range(SLICES):
        market = MarketConditions(["BTC"], np.array([0.5 + 0.01 * seq]), NAN, NAN, NAN, NAN)
        moment = Moment("0", 0, seq, (1_000_000 if scaled else 100_000) * (seq + 1), 0)
        table = MeasureTable(names, PAIR, values + 0.001 * seq)
        found.append(Measures(moment, {"account": table}, markets=market if scaled else None))
    state = LimitsState("0", 0)
    state.step(found[0], Events({"limits": section}))
    return state, found[1:]


@app.command()
def cost(limits: int = 50_000) -> None:
    """Tell what 50,000 cells cost a slice: as named limits, as starred ones, scaling with the market, and per window.

    The baseline of the same run is a bare numpy comparison of as many numbers with as many bounds. All forms take
    turns, slice by slice; figures are means of processor time.
    """
    values, bounds = np.random.default_rng(7).random(limits), np.full(limits, 1.5)
    bare = bench.least({"": lambda: np.flatnonzero(values >= bounds)}, 1000)[""]
    print(f"{limits:,} cells; baseline, a bare comparison: {1e3 * bare:.3f} ms")
    print(f"{'form':<10} {'ms per slice':>12} {'to bare':>8} {'snapshot ms':>12} {'snapshot kB':>12}")
    ready = {form: evaluated(form, limits) for form in FORMS}
    works = {form: lambda at, one=one: one[0].step(one[1][at], Events()) for form, one in ready.items()}
    for form, spent in bench.in_turns(works, SLICES - 1).items():
        state, mean = ready[form][0], float(np.mean(spent))
        state.snapshot()
        with bench.spending() as saving:
            size = len(state.snapshot())
        print(f"{form:<10} {1e3 * mean:12.3f} {mean / bare:8.1f} {1e3 * saving.cpu:12.2f} {size / 1e3:12.0f}")


# --- may 2021 ---------------------------------------------------------------------------------------------------------

NOTIONAL = 1_000_000.0  # of each coin, at the first mark
SPEEDS = {"tighten_per_s": 0.001, "loosen_per_s": 0.0001, "step_max": 0.05}
CUT = '{ kind = "REDUCE_POSITION", target = "account" }, { kind = "REDUCE_ONLY", target = "account" }'
PLAYBOOK = bench.RULE.format(id="cut", limit="account", level="soft", commands=CUT)
PLAYBOOK += bench.RULE.format(
    id="hedge", limit="coin", level="soft", commands='{ kind = "HEDGE", target = "underlying" }'
)


class Moved(NamedTuple):
    """Course of one scope's bound: (event time, effective bound) per second, and its last factors."""

    times: list[int]
    bounds: list[float]
    factors: dict[str, Any]


class Result(NamedTuple):
    """Result of a run."""

    moved: dict[str, Moved]
    breaches: list[bench.Json]
    commands: list[bench.Json]
    withheld: list[bench.Json]


def scaled_limits(coins: int, reference: float | None) -> str:
    """Return a limit per coin and one per account, as shares of what they hold at first."""
    known = {} if reference is None else {"reference_volatility": reference}
    usual = {"exit_ratio": 0.95, "dwell_s": 60, "scaling": {**known, "stressed_volatility": 3.0, **SPEEDS}}
    coin, account = NOTIONAL, NOTIONAL / 2 * coins
    levels = {"warning": 1.4 * coin, "soft": 1.7 * coin, "hard": 2.0 * coin, "floor": 0.6 * coin}
    text = bench.limit("coin", "underlying:*", "gross_notional", **levels, **usual)
    levels = {"soft": 1.8 * account, "hard": 2.2 * account, "floor": 0.8 * account}
    return text + bench.limit("account", "account:*", "gross_notional", **levels, **usual)


def held(prices: dict[str, list[tuple[int, float]]]) -> Iterator[bench.Json]:
    """Yield the desk: two accounts that hold every coin from the first minute on, and the marks."""
    rate = {"quantity_increment": "0.0001", "maintenance_margin_rate": "0.01"}
    yield from (bench.instrument(f"{coin}-PERP", coin, **rate) for coin in prices)
    yield from bench.party("venue", "venue", "house", "venue-account")
    yield from bench.party("client", account="client-account")
    first = min(found[0][0] for found in prices.values())
    for name in ("venue", "client"):
        yield {"type": "collateral", "event_time_us": first, "transfer_id": f"t-{name}", "account": f"{name}-account",
               "asset": "USD", "amount": "10000000"}  # fmt: skip
    opened = set[str]()
    for at, coin, price in sorted((at, coin, price) for coin, found in prices.items() for at, price in found):
        yield bench.mark(at, f"{coin}-PERP", f"{price:.8f}")
        for name, side in (("venue", "sell"), ("client", "buy")) if coin not in opened else ():
            what, quantity = (f"{name}-{coin}", f"{name}-account", f"{coin}-PERP"), f"{NOTIONAL / 2 / price:.4f}"
            yield bench.fill(at, *what, side, quantity, f"{price:.8f}")
        opened.add(coin)


def run(
    folder: Path,
    data: Path,
    first: str = "2021-05-16",
    last: str = "2021-05-20",
    coins: tuple[str, ...] = (),
    reference: float | None = None,
) -> Result:
    """Run the desk from ``first`` up to ``last`` and return what happened.

    ``coins`` are all by default; ``reference`` is the volatility that counts as normal, by default what is observed.
    """
    prices = {}
    for path in sorted(data.glob("*.csv.gz")):
        bars = bench.read_bars(path, bench.micros(first), bench.micros(last))
        if not coins or bench.coin_of(path) in coins:
            closes = zip((bars.time_us + 60_000_000).tolist(), bars.close.tolist(), strict=True)
            prices[bench.coin_of(path)] = list(closes)
    top = "shards = 1\nexposure_change_min = 0.05\nmark_max_age_s = 120"
    bounds = scaled_limits(len(prices), reference)
    bus = bench.run_desk(bench.write_desk(folder, top, held(prices), limits=bounds, playbook=PLAYBOOK))
    breaches, commands, audit = (bench.read_topic(bus, topic) for topic in ("breaches", "commands", "audit"))
    withheld = [record["body"] for record in audit if record["kind"] == "withheld"]
    moved = paths([stored.value for stored in read_all(bus, "journal", 0)])
    bus.close()
    return Result(moved, breaches, commands, withheld)


def paths(values: list[bytes]) -> dict[str, Moved]:
    """Return how every scaled bound moved, second by second, from the journal of one shard."""
    exposure, limits, firm, wide = ExposureState(0), LimitsState("0", 0), FirmState(), LimitsState("all", 1)
    found: dict[str, Moved] = {}
    for value in values:
        measured = exposure.step(decode_slice(value), hashlib.sha256(value).hexdigest())
        limits.step(measured.measures, measured.events)
        _note(found, limits, measured.measures)
        for second in firm.step(measured.summary) if measured.summary is not None else ():
            wide.step(second.measures, second.events)
            _note(found, wide, second.measures)
    return found


def _note(found: dict[str, Moved], state: LimitsState, measures: Measures) -> None:
    for table, cells in state.evaluated(measures) if measures.markets is not None else ():
        columns = cells.scaled.columns
        for at, effective in enumerate(columns["effective"].tolist()):
            limit = cells.limits[columns["limit"].item(at)]
            if not np.isnan(effective):
                scope = f"{limit.kind}:{table.names[columns['column'].item(at)]}"
                moved = found.setdefault(scope, Moved([], [], {}))
                moved.times.append(measures.moment.as_of_us)
                moved.bounds.append(effective)
                moved.factors.update(cells.scaled.factors(at) or {})


def speeds(moved: Moved) -> tuple[float, float]:
    """Return the fastest rise and fall of a bound, as shares of its base per second."""
    per_s = np.diff(moved.bounds) / moved.factors["base"] / (np.diff(moved.times) / 1e6)
    return max(float(per_s.max(initial=0.0)), 0.0), max(float(-per_s.min(initial=0.0)), 0.0)


@app.command("may_2021")
def may_2021(data: Path = bench.DATA / "crash_may_2021", first: str = "2021-05-16", last: str = "2021-05-20") -> None:
    """Tell how limits that scale with the market moved through 19 May 2021, on minute bars of eight Binance pairs.

    The closes become marks, and a house account and a client hold one unit of each coin's worth throughout: nobody
    trades, so every breach is by price or by a bound that moved. `seawall run` does the work in a new folder. What is
    printed comes from the topics and from the limits' own state, replayed:

    1. per underlying: the gross-notional bound before, its least value and when, its value at the end, its factors;

    2. the fastest rise and fall of any bound between two seconds, beside the speeds that the limit allows, and whether
    any bound was ever below its floor or above its ceiling;

    3. breaches by cause, and the commands to trade in our own account: asked for by the playbook, given, withheld.
    """
    with tempfile.TemporaryDirectory(prefix="seawall-may-") as name:
        result = run(Path(name), bench.need(data), first, last)
    rows, outside = [], []
    for scope, (times, bounds, factors) in sorted(result.moved.items()):
        least, rates = int(np.argmin(bounds)), speeds(result.moved[scope])
        money = [f"{value:,.0f}" for value in (factors["base"], bounds[0], bounds[least])]
        when, last_bound = bench.utc(times[least], "%m-%d %H:%M"), f"{bounds[-1]:,.0f}"
        rows.append(
            [scope, *money, when, last_bound, f"{factors['volatility_ratio']:.2f}", *map("{:.6f}".format, rates)]
        )
        if min(bounds) < factors["floor"] or max(bounds) > factors["ceiling"]:
            outside.append(scope)
    bench.table("scope | base | first | least | at (UTC) | last | vol. ratio | rise/s | fall/s", rows)
    causes = {cause: sum(b["cause"] == cause for b in result.breaches) for cause in ("active", "passive")}
    kinds = sorted({(command["type"], command["target"]["id"]) for command in result.commands})
    print(f"\nallowed: rise {SPEEDS['loosen_per_s']} and fall {SPEEDS['tighten_per_s']} of base per second")
    print(f"bounds below their floor or above their ceiling: {outside or 'none'}")
    print(f"changes of level: {causes}; commands: {kinds}")
    print(f"withheld: {sorted({(body['kind'], body['target']) for body in result.withheld})}")


# --- crossings --------------------------------------------------------------------------------------------------------

LEVELS = {"warning": 0.8, "soft": 0.95, "hard": 1.0}


class Crossing(NamedTuple):
    """One account: when it first crossed each level in microseconds (None: never), how often, what it had before."""

    account: str
    times: tuple[int | None, ...]
    often: int
    equity: float
    notional: float


def crossings_of(folder: Path, data: Path, shards: int = 2) -> list[Crossing]:
    """Convert and run the export in a folder; return the crossings, earliest first."""
    top, inputs = f"shards = {shards}\nexposure_change_min = 0.05", "events = ['reference.jsonl', 'events.jsonl']"
    path = bench.write_desk(folder, top, (), inputs, bench.limit("margin", "account:*", "margin_ratio", **LEVELS))
    convert(data / "non_mm_trades.csv.gz", data / "non_mm_ledger_updates.csv.gz", folder)
    bus, first, often = bench.run_desk(path), dict[str, dict[str, int]](), dict[str, int]()
    levels = list(LEVELS)
    for breach in bench.read_topic(bus, "breaches"):
        if breach["limit"] == "margin" and breach["level"] != "none":
            name = breach["scope"].partition(":")[2]
            often[name] = often.get(name, 0) + (breach["previous_level"] == "none")
            for level in levels[: levels.index(breach["level"]) + 1]:
                first.setdefault(name, {}).setdefault(level, breach["as_of_us"])
    before = stood_before(bus, shards, {name: times["warning"] for name, times in first.items()})
    bus.close()
    found = [
        Crossing(name, tuple(times.get(level) for level in levels), often[name], *before.get(name, (0.0, 0.0)))
        for name, times in first.items()
    ]
    return sorted(found, key=lambda crossing: (crossing.times[0] or 0, crossing.account))


def stood_before(bus: Bus, shards: int, wanted: dict[str, int]) -> dict[str, tuple[float, float]]:
    """Return equity and gross notional of each account in the last slice before a time, replayed."""
    found = {}
    for shard in range(shards):
        state, waiting = ExposureState(shard), dict(wanted)
        for stored in read_all(bus, "journal", shard):
            piece = decode_slice(stored.value)
            table = state.ledger.tables.get("account") if state.ledger is not None else None
            for name in [name for name, at in waiting.items() if at <= piece.as_of_us]:
                del waiting[name]
                if table is not None and name in table.names[: table.values.shape[1]]:
                    column = table.values[:, table.names.index(name)].tolist()
                    found[name] = tuple(column[table.measures.index(measure)] for measure in PAIR)
            state.step(piece, "")
    return found


@app.command()
def crossings(data: Path = bench.ACCOUNTS_2023, folder: Path | None = None, csv_file: Path | None = None) -> None:
    """Tell when the margin ratio of each Hyperliquid account of early 2023 crossed 0.8, 0.95 and 1.

    The export is converted and run with a margin limit on every account (warning 0.8, soft 0.95, hard 1.0); the table
    is read from the topic ``breaches``. A jump over levels crosses all of them at once. Equity and notional are those
    of the slice before the first crossing, replayed. The export has no margin rates: 0.02 initial and 0.01 maintenance,
    those of 50 times leverage, stand in for them. It runs in FOLDER, a new one by default.
    """
    found = crossings_of(folder or Path(tempfile.mkdtemp(prefix="seawall-margin-")), bench.need(data))
    reached = [f"reached {ratio:g} (UTC)" for ratio in LEVELS.values()]
    head = ["account", *reached, "times", "equity before", "notional before"]
    rows = [[c.account, *map(bench.utc, c.times), c.often, f"{c.equity:.2f}", f"{c.notional:.2f}"] for c in found]
    if csv_file is not None:
        with csv_file.open("w", newline="") as file:
            csv.writer(file).writerows([head, *rows])
    bench.table(" | ".join(head), rows)
    counts = [sum(c.times[at] is not None for c in found) for at in range(3)]
    print(f"\n{counts[0]} accounts reached 0.8, {counts[1]} reached 0.95, {counts[2]} reached 1.0", file=sys.stderr)


if __name__ == "__main__":
    app()
