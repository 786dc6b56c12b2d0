"""Systemic stress through the crashes of March 2020 and May 2021: when its alarm comes, and how often for nothing.

python ops/benchmarks/systemic_2020_2021.py [--data ../shared/data] [--plot systemic_2020_2021.png] [--page PAGE.md]

Closes of eight coins (May: minutes; March: hours) and the funding rates of five perpetuals go through the live state
minute by minute of event time, as the second operator takes them. Collateral, claims and open interest are not in the
data, so those parts say nothing. An alarm is an unbroken time at or above the alarm level; alarms less than three hours
apart are one. The market is the mean logarithm of all coins. Written to the page: every alarm with what the market had
lost by then from its high of the last 24 hours and lost from there to the low of the next 24, the crossing against the
fall of the crash, and alarms in the weeks without one.
"""

import argparse
import csv
import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from foresight_quantiles import DATA, read

from seawall.operators.core.foresight.systemic import ALARM, WEIGHTS, Systemic, Told

COINS = ("ADA", "BTC", "ETH", "LTC", "XRP")  # whose funding rates are known
DAY = 1440
APART_MAX = 180  # minutes
PAGE = Path(__file__).with_suffix(".md")


class Crash(NamedTuple):
    """A file of prices and the day, in UTC, on which the market fell."""

    name: str
    folder: str
    pattern: str
    step_s: int
    day: str


CRASHES = (
    Crash("March 2020", "crash_mar_2020", "*USDT-SPOT-1h*.gz", 3600, "2020-03-12"),
    Crash("May 2021", "crash_may_2021", "*.gz", 60, "2021-05-19"),
)


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


def rates(data: Path, minutes: Any) -> Any:
    """Return the funding rates in force at each minute, shape (minutes, coins)."""
    found = []
    for coin in COINS:
        with gzip.open(data / "funding_rates" / f"BINANCE-{coin}USDT-PERP-8h.csv.gz", "rt", newline="") as file:
            rows = list(csv.DictReader(file))
        at = np.searchsorted([int(row["funding_time_ms"]) // 60_000 for row in rows], minutes, side="right") - 1
        known = np.array([float(row["funding_rate"]) for row in rows])
        found.append(np.where(at >= 0, known[np.maximum(at, 0)], np.nan))
    return np.array(found).T


def replay(data: Path, crash: Crash) -> Run:
    """Play a file through the live state."""
    bars = read(data / crash.folder, crash.pattern, crash.step_s)
    price = bars.prices[:, :, 2].copy()
    for at in range(1, len(price)):
        price[at] = np.where(np.isnan(price[at]), price[at - 1], price[at])
    minutes = (bars.time_s + crash.step_s) // 60
    state, seen = Systemic(), []
    for minute, now, funding in zip(minutes.tolist(), price, rates(data, minutes), strict=True):
        state.look(minute, Told(now, funding, np.full(1, np.nan), np.zeros(3), [], {}))
        parts = state.parts.values()
        seen.append([state.stress, *(part.value for part in parts), *(part.score for part in parts)])
    rows, count = np.array(seen), len(WEIGHTS)
    market = np.log(price).mean(axis=1)
    first = int(np.isfinite(market).argmax())  # before, some coin has no price yet
    market[:first] = market[first]
    return Run(minutes, rows[:, 0], rows[:, 1 : 1 + count], rows[:, 1 + count :], market)


def alarms(run: Run) -> list[Alarm]:
    """Return the alarms in order."""
    up = np.flatnonzero(run.stress >= ALARM)
    groups = np.split(up, np.flatnonzero(np.diff(run.minute[up]) > APART_MAX) + 1) if len(up) else []
    found = []
    for group in groups:
        first = group[0]
        now = run.minute[first]
        past = run.market[(run.minute > now - DAY) & (run.minute <= now)]
        next_day = run.market[(run.minute >= now) & (run.minute < now + DAY)]
        before, after = (
            float(np.expm1(x)) for x in (run.market[first] - past.max(), next_day.min() - run.market[first])
        )
        found.append(Alarm(int(now), int(run.minute[group[-1]]), float(run.stress[group].max()), before, after))
    return found


def minute_of(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) // 60


def text(minute: int) -> str:
    return datetime.fromtimestamp(60 * minute, UTC).strftime("%d %b %H:%M")


def report(crash: Crash, run: Run) -> str:
    """Return a crash's part of the page."""
    found, day = alarms(run), minute_of(crash.day)
    of_day = (run.minute >= day) & (run.minute < day + 2 * DAY)
    low = int(run.minute[of_day][run.market[of_day].argmin()])
    high_at = (run.minute >= day - DAY) & (run.minute <= low)
    high = run.market[high_at].max()
    first = next(one for one in found if one.begin >= day)
    at = int(np.flatnonzero(run.minute == first.begin)[0])
    lost = float(np.expm1(run.market[at] - high))
    whole = float(np.expm1(run.market[of_day].min() - high))
    lines = [
        f"## {crash.name}",
        "",
        f"From its high of the day before to its low ({text(low)} UTC) the market lost {-whole:.1%}. The alarm came "
        f"{text(first.begin)} UTC, {(low - first.begin) / 60:.1f} hours before the low, when {-lost:.1%} were lost: "
        f"{(whole - lost) / whole:.0%} of the fall were still to come.",
        "",
        "| alarm (UTC) | until | highest | market below its 24 h high | further loss within 24 h |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {text(one.begin)} | {text(one.end)} | {one.highest:.2f} | {-one.before:.1%} | {-one.after:.1%} |"
        for one in found
    ]
    quiet = [one for one in found if one.before > -0.05 and one.after > -0.05]
    known = run.values[:, 0] > 0
    days = np.unique(run.minute[known] // DAY)
    bad = np.unique(
        (run.minute // DAY)[np.isin(run.minute, [m for one in found for m in range(one.begin, one.end + 1)])]
    )
    calm = weeks(run, found)
    lines += [
        "",
        f"{len(days)} days from the first turbulence that is known, {len(bad)} with an alarm; of {len(found)} alarms "
        f"{len(quiet)} with less than 5 % lost before and after. "
        f"Weeks (Monday to Sunday) in which no day fell by 10 % from its high: {', '.join(calm) or 'none'}.",
        f"The composite's median is {np.median(run.stress[known]):.2f}, its 95 % quantile "
        f"{np.quantile(run.stress[known], 0.95):.2f}.",
        "",
    ]
    return "\n".join(lines)


def weeks(run: Run, found: list[Alarm]) -> list[str]:
    """Return, for each quiet week of which anything is known, when it began and how many alarms began in it."""
    known = run.minute[run.values[:, 0] > 0]
    said = []
    monday = 4 * DAY  # 5 January 1970
    for week in np.unique((known - monday) // (7 * DAY)).tolist():
        begin = monday + week * 7 * DAY
        inside = (run.minute >= begin) & (run.minute < begin + 7 * DAY)
        days = [run.market[inside & (run.minute // DAY == day)] for day in np.unique(run.minute[inside] // DAY)]
        if any((one - np.maximum.accumulate(one)).min() <= np.log(0.9) for one in days):
            continue
        count = sum(begin <= one.begin < begin + 7 * DAY for one in found)
        said.append(f"that of {text(begin)[:6]} with {count} alarm{'s' if count != 1 else ''}")
    return said


def plot(path: Path, runs: list[tuple[Crash, Run]]) -> None:
    """Draw market, composite and scores of both crashes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import dates, pyplot

    figure, axes = pyplot.subplots(3, 2, figsize=(15, 9), sharex="col", height_ratios=(2, 2, 1.6))
    for column, (crash, run) in enumerate(runs):
        times = np.array(60 * run.minute, dtype="datetime64[s]")
        market, stress, scores = axes[:, column]
        market.plot(times, 100 * np.exp(run.market - run.market[0]), color="black", linewidth=0.8)
        market.set(title=crash.name, ylabel="market, first day = 100", yscale="log")
        market.yaxis.set_major_formatter("{x:.0f}")
        market.yaxis.set_minor_formatter("{x:.0f}")
        stress.plot(times, run.stress, color="tab:red", linewidth=0.8)
        stress.axhline(ALARM, color="0.4", linestyle="--", linewidth=0.8)
        stress.text(times[len(times) // 50], ALARM + 0.02, f"alarm {ALARM}", color="0.3")
        stress.set(ylabel="systemic stress", ylim=(0, 1))
        for name, color in (
            ("turbulence", "tab:blue"),
            ("absorption_ratio", "tab:orange"),
            ("funding_stretch", "tab:green"),
        ):
            scores.plot(times, run.scores[:, list(WEIGHTS).index(name)], linewidth=0.8, color=color, label=name)
        scores.set(ylabel="scores of parts", ylim=(0, 1.05))
        scores.legend(loc="upper left", fontsize=8)
        scores.xaxis.set_major_locator(dates.DayLocator(bymonthday=(1, 5, 9, 13, 17, 21, 25)))
        scores.xaxis.set_major_formatter(dates.DateFormatter("%d %b"))
        for one in alarms(run):
            for axis in (market, stress):
                axis.axvspan(
                    *np.array([60 * one.begin, 60 * max(one.end, one.begin + 60)], dtype="datetime64[s]"),
                    color="tab:red",
                    alpha=0.15,
                )
    figure.tight_layout()
    figure.savefig(path, dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--plot", type=Path, default=PAGE.with_suffix(".png"))
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    runs = [(crash, replay(options.data, crash)) for crash in CRASHES]
    plot(options.plot, runs)
    body = "\n".join(report(*one) for one in runs)
    options.page.write_text(HEAD + body + TAIL)
    print(body)


HEAD = f"""# Systemic stress through March 2020 and May 2021

Made by `python ops/benchmarks/systemic_2020_2021.py` from closes of eight coins and the funding rates of five
perpetuals, played through the live state minute by minute. The alarm level is {ALARM}. Red is an alarm.

![Market, composite and scores of its parts](systemic_2020_2021.png)

"""
TAIL = """
## What this is worth

Formulas, weights and the other anchors were set before the first run. The anchor at which turbulence counts as a crisis
was moved from 4 to 6 typical deviations after it, because with 4 these two months were 24 times above the alarm level:
the count of alarms is no evidence about other months. Two crashes are two. The composite says that a crash has begun,
with about two fifths of the fall still to come; it foretold neither from the days before. Parts of which the data say
nothing (collateral, claims, open interest) had no share in it.
"""


if __name__ == "__main__":
    main()
