"""Forecasts: quantiles of returns through two crashes, which accounts came to margin ratio 1, and what they cost.

python ops/bench/forecasts.py quantiles | accounts | cost
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _harness as bench
import msgspec
import numpy as np

from seawall.connectors.bus import Bus, open_bus, read_all
from seawall.connectors.venues.hyperliquid import convert
from seawall.operators.core.base import (
    AccountActivity,
    Events,
    ForecastInputs,
    LossBook,
    MeasuredSlice,
    Measures,
    MeasureTable,
    Moment,
    Outputs,
    Ownership,
    RiskFactors,
    ShardForecast,
    ShardSummary,
)
from seawall.operators.core.detection import AccountBehaviourState
from seawall.operators.core.forecasts import (
    CALIBRATION_BOUNDS,
    MAP_STEPS,
    PRIOR_PRECISION,
    QUANTILE_LEVELS,
    STUDENT_4_QUANTILES,
    FirmForecastState,
    ForecastState,
    HorizonOutcome,
    MarketForecasts,
    OnlineLogistic,
    PriceBar,
    ShardLiquidationMap,
    VolatilityForecasts,
    liquidation_map,
    logistic_probability,
    sum_sensitivities,
)
from seawall.operators.core.portfolio import ExposureState
from seawall.schemas.configuration import load_configuration
from seawall.schemas.measures import ACCOUNT
from seawall.schemas.records import decode_slice

app = bench.suite(__doc__)

# --- quantiles --------------------------------------------------------------------------------------------------------

DAYS_DRAWN, DAY_S = 2000, 86_400
FLOOR = 1e-8  # of a squared return, for the random walk's QLIKE


def forecast(bars: bench.Grid, horizons_s: tuple[int, ...]) -> dict[int, list[HorizonOutcome]]:
    """Return every horizon that ended, in order."""
    forecasts = VolatilityForecasts(bars.step_s, horizons_s)
    found: dict[int, list[HorizonOutcome]] = {horizon: [] for horizon in horizons_s}
    for time, values in zip(bars.time_s.tolist(), bars.prices, strict=True):
        seen = ~np.isnan(values[:, 2])
        high, low, close = np.where(seen[:, None], values, 1.0).T
        for horizon, outcome in forecasts.observe(PriceBar(close, high, low, seen), time // bars.step_s).items():
            found[horizon].append(outcome)
    return found


def rivals(returns: Any, known: Any) -> tuple[Any, Any]:
    """Return the variances of EWMA(0.94) and of the random walk, instrument by instrument."""
    weighted, walk = np.full(returns.shape, np.nan), np.full(returns.shape, np.nan)
    for at in range(returns.shape[1]):
        squares = returns[known[:, at], at] ** 2
        variance, steps = float(squares[:20].mean()), []
        for square in squares.tolist():
            steps.append(variance)
            variance = 0.94 * variance + 0.06 * square
        weighted[known[:, at], at] = steps
        walk[known[:, at], at] = np.maximum(np.append(squares[:1], squares[:-1]), FLOOR)
    return weighted, walk


def pinball(returns: Any, quantiles: Any) -> Any:
    """Return the mean pinball loss by level; ``quantiles`` has shape (levels, cases)."""
    off, levels = returns - quantiles, np.array(QUANTILE_LEVELS)[:, None]
    return np.maximum(levels * off, (levels - 1) * off).mean(axis=1)


def qlike(returns: Any, variance: Any) -> float:
    """Return the quasi-likelihood loss of variances against squared returns."""
    return float((np.log(variance) + returns**2 / variance).mean())


def report_quantiles(name: str, horizon_s: int, outcomes: list[HorizonOutcome]) -> None:
    """Print what the forecasts of a horizon are worth."""
    returns, known = (np.array([getattr(one, field) for one in outcomes]) for field in ("returns", "known"))
    variance = np.array([one.forecast for one in outcomes])
    ours = np.array([one.quantiles for one in outcomes]).transpose(1, 0, 2)
    weighted, walk = rivals(returns, known)
    theirs = np.sqrt(weighted)[None] * np.array(STUDENT_4_QUANTILES)[:, None, None]
    below = (returns <= ours) & known
    loss, other = pinball(returns[known], ours[:, known]), pinball(returns[known], theirs[:, known])
    rows = {
        "coverage %": (100 * below.sum(axis=(1, 2)) / known.sum(), "8.2f"),
        "rival's %": (100 * (returns <= theirs)[:, known].mean(axis=1), "8.2f"),
        "pinball": (loss, "8.2e"),
        "to rival's": (loss / other, "8.4f"),
    }
    print(f"\n{name}, {horizon_s:,} s: {int(known.sum()):,} outcomes")
    for what, (values, form) in {"level": (QUANTILE_LEVELS, "8.2f"), **rows}.items():
        print(f"  {what:10}", "  ".join(f"{value:{form}}" for value in values))
    figures = [qlike(returns[known], one[known]) for one in (variance, weighted, walk)]
    print("  QLIKE {:.4f}, EWMA(0.94) {:.4f}, random walk {:.4f}".format(*figures))
    if horizon_s == DAY_S:
        draw, days = np.random.default_rng(1), len(known)
        drawn = [draw.integers(0, days, days) for _ in range(DAYS_DRAWN)]
        found = [below[:, at].sum(axis=(1, 2)) / known[at].sum() for at in drawn]
        low, high = np.quantile(found, [0.05, 0.95], axis=0)
        spans = [
            f"{level:g}: {100 * a:.1f} to {100 * b:.1f}" for level, a, b in zip(QUANTILE_LEVELS, low, high, strict=True)
        ]
        print(f"  90 % of block bootstraps: {', '.join(spans)}")
        worst = np.unravel_index(np.argmin(np.where(known, returns, np.inf)), returns.shape)
        print(f"  worst day {returns[worst]:.3f}, its 1 % quantile {ours[0][worst]:.3f}")


@app.command()
def quantiles(data: Path = bench.DATA, march_only: bool = False) -> None:
    """Score quantiles of returns through March 2020 and May 2021 against EWMA(0.94) with Student-t(4) tails.

    Forecasts are made and scored as the stream goes, from the first that is not warming; a horizon that was not
    observed for four fifths of its bars (an outage) counts for neither. The rival's variance is ``0.94 v + 0.06 r^2``
    of the returns of that horizon, begun with the mean of the first 20 squares. Printed per horizon: coverage, mean
    pinball loss and its ratio to the rival's by level, QLIKE against squared returns, of the random walk (the last
    squared return) too; for the day a 90 % interval of the coverage by a bootstrap of whole days, all instruments
    together, and the worst day.
    """
    march = bench.read_grid(bench.need(data / "crash_mar_2020"), "*SPOT-1h*.gz", 3600)
    for horizon, outcomes in forecast(march, (3600,)).items():
        report_quantiles("March 2020", horizon, outcomes)
    if march_only:
        return
    may = bench.read_grid(bench.need(data / "crash_may_2021"), "*.gz", 60)
    for horizon, outcomes in (forecast(may, (60, 600, 3600)) | forecast(hourly(may), (DAY_S,))).items():
        report_quantiles("May 2021", horizon, outcomes)


def hourly(minutes: bench.Grid) -> bench.Grid:
    """Return the bars of whole hours, as the stream forecasts a day from."""
    hours, prices = minutes.time_s // 3600, []
    for hour in range(hours[0], hours[-1] + 1):
        inside = minutes.prices[hours == hour]
        known = ~np.isnan(inside[:, :, 2])
        high = np.where(known, inside[:, :, 0], -np.inf).max(axis=0)
        low = np.where(known, inside[:, :, 1], np.inf).min(axis=0)
        last = known.shape[0] - 1 - np.argmax(known[::-1], axis=0)
        prices.append(np.stack([high, low, inside[last, np.arange(inside.shape[1]), 2]], axis=1))
    return bench.Grid(3600, np.arange(hours[0], hours[-1] + 1) * 3600, np.array(prices))


# --- accounts ---------------------------------------------------------------------------------------------------------

HOUR_US, HORIZONS_S, BOOTSTRAPS = 3_600_000_000, (3600, DAY_S), 1000
RATIO, MARGIN = ACCOUNT.index("margin_ratio"), ACCOUNT.index("maintenance_margin")
Crossings = dict[str, list[int]]


class Hours(NamedTuple):
    """Account-hours: when, whose, the margin ratio, and by horizon the probability that stood."""

    time_us: Any
    account: Any
    ratio: Any
    said: dict[int, Any]


def sequence(folder: Path, data: Path, shards: int) -> Bus:
    """Convert the export and write its journal, if there is none yet; return the bus."""
    if not (folder / "seawall.db").exists():
        inputs, on = "events = ['reference.jsonl', 'events.jsonl']", "[forecasts]\nenabled = true\n"
        path = bench.write_desk(folder, f"shards = {shards}\nexposure_change_min = 1", (), inputs, tables=on)
        convert(data / "non_mm_trades.csv.gz", data / "non_mm_ledger_updates.csv.gz", folder)
        return bench.run_desk(path, ["sequence"])
    configuration = load_configuration(folder / "desk.toml")
    return open_bus(configuration.bus, configuration.directory)


def replay(bus: Bus, shard: int) -> tuple[list[tuple[Any, ...]], Crossings]:
    """Replay one shard; return its account-hours (time, account, ratio, what was said), and who came to 1 when."""
    exposure, conduct, foresight = ExposureState(shard), AccountBehaviourState(shard), ForecastState(shard)
    rows, came, standing = list[tuple[Any, ...]](), Crossings(), dict[tuple[str, int], float]()
    values, names, there, hour = np.zeros((len(ACCOUNT), 0)), list[str](), set[str](), 0
    for stored in read_all(bus, "journal", shard):
        piece = decode_slice(stored.value)
        while 0 < hour < piece.as_of_us:
            for at in np.flatnonzero((values[MARGIN] > 0) & (values[RATIO] < 1.0)).tolist():
                said = (standing.get((names[at], horizon), np.nan) for horizon in HORIZONS_S)
                rows.append((hour, names[at], values[RATIO, at], *said))
            hour += HOUR_US
        measures, _, outputs, *_ = foresight.step(conduct.step(exposure.step(piece, "")))
        hour = hour or (piece.as_of_us // HOUR_US + 1) * HOUR_US
        for record in outputs.records.get("forecasts", ()):
            for row in json.loads(record.value)["forecasts"]:
                if row["scope"].startswith("account:") and row["level"] == "hard":
                    standing[row["scope"][8:], row["horizon_s"]] = row["probability"]
        if measures.moment.decides:
            values, names = measures.tables["account"].values, measures.tables["account"].names
            now = {names[at] for at in np.flatnonzero(values[RATIO] >= 1.0).tolist()}
            for name in now - there:
                came.setdefault(name, []).append(measures.moment.as_of_us)
            there = now
    return rows, came


def outcomes_of(hours: Hours, came: Crossings, horizon_us: int) -> tuple[Any, Any]:
    """Return whether a crossing followed each account-hour within the horizon, and how long after (NaN: none)."""
    found, lead = np.zeros(len(hours.time_us)), np.full(len(hours.time_us), np.nan)
    for at, (time, name) in enumerate(zip(hours.time_us.tolist(), hours.account.tolist(), strict=True)):
        after = [one - time for one in came.get(name, ()) if time < one <= time + horizon_us]
        if after:
            found[at], lead[at] = 1.0, after[0] / HOUR_US
    return found, lead


def baselines(hours: Hours, came: Any, horizon_us: int) -> tuple[Any, Any]:
    """Return the prequential base rate, and the calibrated margin ratio, of every account-hour."""
    weight, ratio = HOUR_US / horizon_us, np.clip(hours.ratio, 1e-9, 1 - 1e-9)
    terms = np.stack([np.ones(len(ratio)), np.clip(np.log(ratio / (1 - ratio)), -8, 3)])
    model, hits, count, learned = OnlineLogistic((0.0, 1.0), PRIOR_PRECISION), 0.5, 10.0, 0
    rate, said, times = np.zeros(len(ratio)), np.zeros(len(ratio)), np.unique(hours.time_us)
    order = {time: np.flatnonzero(hours.time_us == time) for time in times.tolist()}
    for time, at in order.items():
        while times[learned] + horizon_us < time:
            due = order[times[learned]]
            model.learn(terms[:, due], came[due], np.full(len(due), weight))
            hits, count = hits + weight * came[due].sum(), count + weight * len(due)
            learned += 1
        rate[at], said[at] = hits / count, logistic_probability(model.log_odds(terms[:, at]))
    return rate, said


def log_loss(came: Any, said: Any) -> Any:
    bounded = np.clip(said, 1e-6, 1 - 1e-6)
    return -(came * np.log(bounded) + (1 - came) * np.log(1 - bounded))


def bootstrap(hours: Hours, came: Any, ours: Any, other: Any) -> list[list[float]]:
    """Return the 2.5, 50 and 97.5 % points of the differences (ours less theirs) in log loss and in area."""
    draw, losses, found = np.random.default_rng(20230501), log_loss(came, ours) - log_loss(came, other), []
    groups = [np.flatnonzero(hours.account == name) for name in np.unique(hours.account)]
    for _ in range(BOOTSTRAPS):
        at = np.concatenate([groups[i] for i in draw.integers(0, len(groups), len(groups))])
        if came[at].any():
            areas = [bench.average_precision(came[at], said[at]) for said in (ours, other)]
            found.append((losses[at].mean(), areas[0] - areas[1]))
    return [np.quantile(one, [0.025, 0.5, 0.975]).round(4).tolist() for one in zip(*found, strict=True)]


def alarms(hours: Hours, came: Any, lead: Any, said: Any, threshold: float) -> Sequence[object]:
    """Return false alarms (from below to above a threshold, no outcome) per account-day, who was caught, and when."""
    false, leads = 0, list[float]()
    for name in np.unique(hours.account):
        at = np.flatnonzero(hours.account == name)
        above = said[at] >= threshold
        false += int((above & ~np.append(False, above[:-1]) & (came[at] == 0)).sum())
        if (caught := above & (came[at] > 0)).any():
            leads.append(float(np.nanmax(lead[at][caught])))
    of = len(np.unique(hours.account[came > 0]))
    median = f"{np.median(leads):.1f}" if leads else ""
    return f"{threshold:g}", f"{false / (len(came) / 24):.4f}", f"{len(leads)} of {of}", median


def report_accounts(hours: Hours, came_at: Crossings, horizon_s: int) -> None:
    """Print what the probabilities of a horizon are worth."""
    came, lead = outcomes_of(hours, came_at, horizon_s * 1_000_000)
    rate, ratio = baselines(hours, came, horizon_s * 1_000_000)
    unknown = np.isnan(hours.said[horizon_s])
    said = np.where(unknown, rate, hours.said[horizon_s])
    print(f"\n## Within {horizon_s // 3600} h\n")
    accounts = len(np.unique(hours.account[came > 0]))
    print(f"{len(came):,} account-hours, {int(came.sum())} positives from {accounts} accounts;")
    print(f"{int(unknown.sum())} hours before a first forecast count with the base rate.\n")
    models = {"foresight": said, "base rate": rate, "ratio, calibrated": ratio, "ratio, raw": hours.ratio}
    losses = {name: f"{log_loss(came, one).mean():.5f}" for name, one in models.items() if name != "ratio, raw"}
    rows = [(name, losses.get(name, ""), f"{bench.average_precision(came, one):.4f}") for name, one in models.items()]
    bench.table("model | log loss | area", rows)
    for name, one in (("base rate", rate), ("calibrated ratio", ratio)):
        loss, areas = bootstrap(hours, came, said, one)
        print(f"\nagainst the {name}: log loss {loss}, area {areas} (2.5, 50 and 97.5 % of {BOOTSTRAPS} bootstraps)")
    print()
    edges, bins = [0.0, *CALIBRATION_BOUNDS, 1.0], np.searchsorted(CALIBRATION_BOUNDS, said, side="right")
    inside = {f"{edges[at]:g} to {edges[at + 1]:g}": bins == at for at in range(len(edges) - 1) if (bins == at).any()}
    bench.table(
        "forecast | account-hours | mean forecast | came",
        ((name, f"{at.sum():,}", f"{said[at].mean():.4f}", f"{came[at].mean():.4f}") for name, at in inside.items()),
    )
    print()
    bench.table(
        "alarm at | false alarms per account-day | accounts caught | longest lead, median (h)",
        (alarms(hours, came, lead, said, threshold) for threshold in (0.1, 0.2, 0.3, 0.5)),
    )


@app.command()
def accounts(data: Path = bench.ACCOUNTS_2023, folder: Path | None = None, shards: int = 1) -> None:
    """Tell how likely each Hyperliquid account of early 2023 was to come to margin ratio 1, as the stream went.

    The export is run with forecasts enabled, initial margin 0.02 and maintenance 0.01 of notional. Once per hour every
    account that has a margin and is below 1 counts: the last probability that stood on the topic ``forecasts`` before
    the hour, against whether it came to 1 (equity at or below 0 counts) within the horizon after it. Everything is
    prequential: nothing was learned before it was known. Two baselines on the same hours: the rate of outcomes known so
    far, and the margin ratio alone through the same calibration with the same delay. Differences have a paired
    bootstrap by account. The journal is kept in FOLDER, a new one by default.
    """
    folder = folder or Path(tempfile.mkdtemp(prefix="seawall-foresight-"))
    bus = sequence(folder, bench.need(data), shards)
    parts = [replay(bus, shard) for shard in range(shards)]
    time_us, account, ratio, *said = (
        np.array(one) for one in zip(*(row for rows, _ in parts for row in rows), strict=True)
    )
    hours = Hours(time_us, account, ratio, dict(zip(HORIZONS_S, said, strict=True)))
    came = {name: times for _, one in parts for name, times in one.items()}
    for horizon in reversed(HORIZONS_S):
        report_accounts(hours, came, horizon)
    print(f"journal in {folder}", file=sys.stderr)


# --- cost -------------------------------------------------------------------------------------------------------------

UNDERLYINGS, T0, SECOND, RATE = 50, 1_700_000_038_000_000, 1_000_000, 0.01  # a minute ends at the second second
WARM = 3  # seconds before the first that counts; the first minute ends within them, in which all is written
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
    {"id": "gross", "scope": "counterparty:*", "measure": "gross_notional", "direction": "above", "soft": 1e5,
     "hard": 1e6},
]  # fmt: skip
UNDERLYING_NAMES = [f"U{at}" for at in range(UNDERLYINGS)]


def configuration(parts: tuple[str, ...]) -> bench.Json:
    """Return what a shard is told of a configuration with these parts."""
    section = {part: True for part in ("enabled", "losses") if part in parts}
    limits = LIMITS if "limits" in parts else []
    return {"forecasts": section, "limits": {"version": 1, "sha256": "", "limits": limits}}


def holdings(positions: int, accounts: int, price: Any, time_us: int) -> ForecastInputs:
    draw = np.random.default_rng(2)
    account = np.sort(draw.integers(0, accounts, positions))
    instrument = draw.integers(0, UNDERLYINGS, positions)
    gain = draw.normal(size=positions) * 1000 * price[instrument] / 100
    numbers, linear = np.arange(UNDERLYINGS), np.ones(UNDERLYINGS, dtype=bool)
    times, unknown = np.full(UNDERLYINGS, time_us), np.full(UNDERLYINGS, np.nan)
    owner, one = np.arange(accounts), np.ones(accounts)
    owned = Ownership(owner, owner, np.zeros_like(owner), np.zeros_like(owner), -one, -one, one > 0, 1, 0)
    fixed = (times, numbers, linear, UNDERLYING_NAMES, UNDERLYING_NAMES, unknown, np.zeros(accounts), gain, owned)
    return ForecastInputs(account, instrument, gain, RATE * np.abs(gain), price, *fixed)


def loss_book(held: ForecastInputs, names: list[str]) -> LossBook:
    """Return the same book as losses see it, each account that of a counterparty of its own."""
    count = len(held.price)
    none, no = np.full(count, -1), np.zeros(count, dtype=bool)
    under = [held.underlyings[at] for at in held.underlying.tolist()]
    factors = RiskFactors(np.arange(count), none, np.zeros(count, dtype=np.int64), no, no, under, ["USD"] * count)
    owner, plain = np.arange(len(names)), np.zeros(len(names), dtype=bool)
    return LossBook(held.account, held.instrument, -held.gain, names, owner, plain, factors, np.zeros((8, count)))


def tables(held: ForecastInputs, names: list[str]) -> dict[str, MeasureTable]:
    """Return the measures of accounts and counterparties, some of them near their margins."""
    accounts = len(names)
    gross = np.bincount(held.account, np.abs(held.gain), accounts)
    equity, values = gross * (0.02 + 0.5 * np.linspace(0, 1, accounts) ** 2), np.zeros((len(ACCOUNT), accounts))
    found = {"equity": equity, "gross_notional": gross, "maintenance_margin": RATE * gross}
    found |= {"margin_ratio": RATE * gross / np.maximum(equity, 1e-9), "leverage": gross / np.maximum(equity, 1e-9)}
    for name, row in found.items():
        values[ACCOUNT.index(name)] = row
    parties = MeasureTable(names, ("gross_notional",), gross[None].astype(np.float64))
    return {"account": MeasureTable(names, ACCOUNT, values), "counterparty": parties}


def stepped(state: Any, measured: MeasuredSlice) -> float:
    """Return the processor seconds of a step and of the state in bytes after it."""
    with bench.spending() as spent:
        state.step(measured)
        state.snapshot()
    return spent.cpu


def measured_of(moment: Moment, parts: tuple[str, ...], tables: dict[str, MeasureTable]) -> MeasuredSlice:
    """Return what was measured at a moment, with a configuration where parts of one are named."""
    events = Events(configuration(parts) if parts else None)
    return MeasuredSlice(Measures(moment, tables), events, Outputs(moment, {}))


def second(positions: int, accounts: int, seconds: int, parts: tuple[str, ...]) -> float:
    """Return the mean CPU seconds that a second of event time takes."""
    draw, price, taken = np.random.default_rng(1), np.full(UNDERLYINGS, 100.0), []
    state, names = ForecastState(0), [f"a{at}" for at in range(accounts)]
    for at in range(seconds + WARM):
        price = price * np.exp(0.0003 * draw.standard_normal(UNDERLYINGS))
        held = holdings(positions, accounts, price, T0 + at * SECOND)
        held = held._replace(losses=loss_book(held, names) if "losses" in parts else None)
        activity = AccountActivity(
            draw.integers(0, accounts, 20_000), [], [], [], np.zeros(accounts, dtype=np.int64), None
        )
        now = T0 + (at + 1) * SECOND
        measured = measured_of(Moment("0", 0, at, now, 0, second=True), parts if at == 0 else (), tables(held, names))
        measured = measured._replace(
            events=measured.events._replace(activity=activity), summary=summary(at, now),
            holdings=held if "enabled" in parts else None,
        )  # fmt: skip
        taken.append(stepped(state, measured))
    return float(np.mean(taken[WARM:]))


def summary(at: int, now: int) -> ShardSummary:
    """Return what a shard tells the firm of a second, once a minute with inputs of systemic forecasts."""
    asked = ShardForecast(collateral=np.zeros(3), claims=[], own_funds={}, house=0.0)
    return ShardSummary(
        shard=0, seq=at, as_of_us=now, cut_us=0, end=False, configuration=None, news=[], alerts=[], sums={}, named={},
        names=None, fills=[], digest="", markets=None, limit_documents=[],
        forecast=asked if now % (60 * SECOND) == 0 else None,
    )  # fmt: skip


def minute(positions: int, accounts: int) -> tuple[float, float]:
    """Return the CPU seconds that a minute of event time takes in a shard, and in the second operator."""
    draw, markets, price = np.random.default_rng(4), MarketForecasts(), np.full(UNDERLYINGS, 100.0)
    book, values = holdings(positions, accounts, price, T0), np.zeros((len(ACCOUNT), accounts))
    values[ACCOUNT.index("equity")] = 30_000.0 + draw.normal(0.0, 40_000.0, accounts)
    markets.sample(book, T0)
    drawn = bench.least({"": lambda: ShardLiquidationMap.of_book(book, values, markets)}, 5)[""]
    nodes = [f"n{at}" for at in range(48)]
    claims = [(*draw.choice(nodes, 2, replace=False).tolist(), float(draw.random())) for _ in range(500)]
    told = ShardForecast(
        collateral=np.ones(3), claims=claims, own_funds=dict.fromkeys(nodes, 5.0), house=5.0,
        funding=np.full(UNDERLYINGS, 1e-4), interest=np.full(UNDERLYINGS, 10.0), depth=np.full(UNDERLYINGS, 1e6),
        liquidations=tuple(ShardLiquidationMap.of_book(book, values, markets)),
    )  # fmt: skip
    firm = {"underlying": MeasureTable(UNDERLYING_NAMES, ("gross_notional",), np.zeros((1, UNDERLYINGS)))}
    firm["firm"] = MeasureTable(["firm"], ("gross_notional",), np.zeros((1, 1)))
    state, taken = FirmForecastState(1), []
    for at in range(90 * 60):
        price = price * np.exp(0.001 * draw.standard_normal(UNDERLYINGS))
        if at % 60 == 0 or at >= 80 * 60:  # until all is known hours are enough
            moment = Moment("all", 1, at, T0 + at * 60 * SECOND, 0)
            measured = measured_of(moment, ("enabled",) if at == 0 else (), dict(firm))
            seen = [msgspec.structs.replace(told, price=price)]
            taken.append(stepped(state, measured._replace(forecasts=seen)))
    return drawn, float(np.mean(sorted(taken[-600:])[:-10]))  # with hours among them, without the host's worst


def measure_map(positions: int, accounts: int) -> None:
    """Print what a map costs, and its rival."""
    one = holdings(positions, accounts, np.full(UNDERLYINGS, 100.0), T0)
    health, steps = np.random.default_rng(3).normal(30.0, 40.0, accounts) * 1000, np.array(MAP_STEPS)
    pairs = sum_sensitivities(one.account, one.underlying[one.instrument], one.gain, one.margin)
    works = {
        "rows": lambda: sum_sensitivities(one.account, one.underlying[one.instrument], one.gain, one.margin),
        "map": lambda: liquidation_map(pairs, health, pairs.gain - pairs.margin, UNDERLYINGS, steps),
        "rival": lambda: one.gain[:, None] * steps[None, :] + 1.0,
    }
    rows, drawn, rival = bench.least(works, 5).values()
    print(f"{positions:,} positions, {accounts:,} accounts: rows {1e3 * rows:.1f} ms, map {1e3 * drawn:.1f} ms,")
    print(f"  multiply and add {1e3 * rival:.1f} ms, ratio {(rows + drawn) / rival:.2f}")


@app.command()
def cost(positions: int = 250_000, accounts: int = 10_000, seconds: int = 60) -> None:
    """Tell what forecasts cost: a second of event time of one shard, and the map against a bare multiply-and-add.

    A second: 20,000 fills and marks have moved every account; marks are sampled, all accounts forecast for every
    horizon, what moved written, and the state put in bytes, as it is once a second. Its CPU time is its share of a
    core, live: the mean of a minute with its end. Measured with forecasts off, on, with soft and hard limits on equity
    and leverage of all accounts and gross notional of all counterparties, with losses of all counterparties, and with
    both.

    A minute: both maps of a shard (alone, with betas), and what the second operator makes of them and of markets:
    cascades, indicators of 48 known assets, a network of 48, records, state in bytes; a sixtieth of it falls on a
    second.

    The map: from rows of positions to what is forced at 101 steps of every underlying, alone; the rival is ``a * x +
    b`` over an array of positions times steps, in turns, best of five. At a tenth, a half and the whole of the book.
    """
    for part in (10, 2, 1):
        measure_map(positions // part, accounts // part)
    shard, wide = minute(positions, accounts)
    print(f"a minute of {positions:,} positions: {1e3 * shard:.1f} ms in a shard, {1e3 * wide:.1f} ms in the")
    print(f"  second operator; {1e6 * (shard + wide) / 60:.0f} µs of CPU per second of event time")
    for name, parts in PARTS.items():
        taken = second(positions, accounts, seconds, parts)
        whole = taken + (wide / 60 if parts else 0.0)
        print(f"{name:<20} {1e3 * taken:7.2f} ms a second, with the second operator {100 * whole:.2f} % of a core")


if __name__ == "__main__":
    app()
