"""Quantiles of returns through the crashes of March 2020 and May 2021, against EWMA(0.94) with Student-t(4) tails.

python ops/benchmarks/foresight_quantiles.py [--data ../shared/data]

Forecasts are made and scored as the stream goes, from the first that is not warming; a horizon that was not observed
for four fifths of its bars (an outage) counts for neither. The rival's variance is ``0.94 v + 0.06 r^2`` of the returns
of that horizon, begun with the mean of the first 20 squares. Printed per horizon: coverage, mean pinball loss and its
ratio to the rival's by level, QLIKE against squared returns, of the random walk (the last squared return) too; for the
day a 90 % interval of the coverage by a bootstrap of whole days, all instruments together, and the worst day.
"""

import argparse
import csv
import gzip
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seawall.operators.core.foresight.horizon import Outcome
from seawall.operators.core.foresight.quantiles import LEVELS, STUDENT_4
from seawall.operators.core.foresight.volatility import Bar, VolatilityForecasts

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BOOTSTRAPS = 2000
FLOOR = 1e-8  # of a squared return, for the random walk's QLIKE


class Bars(NamedTuple):
    """Bars of several instruments on one grid: times in seconds, prices (times, instruments, high low close), NaN."""

    step_s: int
    time_s: Any
    prices: Any


def read(folder: Path, pattern: str, step_s: int) -> Bars:
    """Return the bars of all files on the grid from the first to the last."""
    found = []
    for path in sorted(folder.glob(pattern)):
        with gzip.open(path, "rt", newline="") as file:
            rows = list(csv.DictReader(file))
        time = next(name for name in rows[0] if name.startswith("open_time"))
        times = np.array([int(row[time]) // 1000 for row in rows])
        found.append((times, np.array([[float(row[name]) for name in ("high", "low", "close")] for row in rows])))
    first, last = min(times[0] for times, _ in found), max(times[-1] for times, _ in found)
    grid = np.arange(first, last + step_s, step_s)
    prices = np.full((len(grid), len(found), 3), np.nan)
    for at, (times, values) in enumerate(found):
        prices[(times - first) // step_s, at] = values
    return Bars(step_s, grid, prices)


def forecast(bars: Bars, horizons_s: tuple[int, ...]) -> dict[int, list[Outcome]]:
    """Return every horizon that ended, in order."""
    forecasts, found = VolatilityForecasts(bars.step_s, horizons_s), {horizon: [] for horizon in horizons_s}
    for time, values in zip(bars.time_s.tolist(), bars.prices, strict=True):
        seen = ~np.isnan(values[:, 2])
        high, low, close = np.where(seen[:, None], values, 1.0).T
        for horizon, outcome in forecasts.observe(Bar(close, high, low, seen), time // bars.step_s).items():
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
    off, levels = returns - quantiles, np.array(LEVELS)[:, None]
    return np.maximum(levels * off, (levels - 1) * off).mean(axis=1)


def qlike(returns: Any, variance: Any) -> float:
    return float((np.log(variance) + returns**2 / variance).mean())


def interval(below: Any, known: Any) -> Any:
    """Return the 5 and 95 % points of the coverage by level, drawing whole days with replacement."""
    draw, days = np.random.default_rng(1), len(known)
    found = []
    for _ in range(BOOTSTRAPS):
        at = draw.integers(0, days, days)
        found.append(below[:, at].sum(axis=(1, 2)) / known[at].sum())
    return np.quantile(found, [0.05, 0.95], axis=0)


def report(name: str, horizon_s: int, outcomes: list[Outcome]) -> None:
    returns, known = (np.array([getattr(one, field) for one in outcomes]) for field in ("returns", "known"))
    variance = np.array([one.forecast for one in outcomes])
    ours = np.array([one.quantiles for one in outcomes]).transpose(1, 0, 2)
    weighted, walk = rivals(returns, known)
    theirs = np.sqrt(weighted)[None] * np.array(STUDENT_4)[:, None, None]
    below = (returns <= ours) & known
    loss, other = pinball(returns[known], ours[:, known]), pinball(returns[known], theirs[:, known])
    cover = below.sum(axis=(1, 2)) / known.sum()
    print(f"\n{name}, {horizon_s:,} s: {int(known.sum()):,} outcomes")
    print("  level     ", "  ".join(f"{level:8.2f}" for level in LEVELS))
    print("  coverage %", "  ".join(f"{100 * share:8.2f}" for share in cover))
    print("  rival's % ", "  ".join(f"{100 * (returns <= theirs)[:, known].mean(axis=1)[at]:8.2f}" for at in range(4)))
    print("  pinball   ", "  ".join(f"{one:8.2e}" for one in loss))
    print("  to rival's", "  ".join(f"{one:8.4f}" for one in loss / other))
    figures = [qlike(returns[known], one[known]) for one in (variance, weighted, walk)]
    print("  QLIKE {:.4f}, EWMA(0.94) {:.4f}, random walk {:.4f}".format(*figures))
    if horizon_s == 86_400:
        low, high = interval(below, known)
        spans = [f"{level:g}: {100 * a:.1f} to {100 * b:.1f}" for level, a, b in zip(LEVELS, low, high, strict=True)]
        print(f"  90 % of block bootstraps: {', '.join(spans)}")
        worst = np.unravel_index(np.argmin(np.where(known, returns, np.inf)), returns.shape)
        print(f"  worst day {returns[worst]:.3f}, its 1 % quantile {ours[0][worst]:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    march = read(options.data / "crash_mar_2020", "*SPOT-1h*.gz", 3600)
    for horizon, outcomes in forecast(march, (3600,)).items():
        report("March 2020", horizon, outcomes)
    may = options.data / "crash_may_2021"
    minutes = read(may, "*.gz", 60)
    for horizon, outcomes in forecast(minutes, (60, 600, 3600)).items():
        report("May 2021", horizon, outcomes)
    for horizon, outcomes in forecast(hourly(minutes), (86_400,)).items():
        report("May 2021", horizon, outcomes)


def hourly(minutes: Bars) -> Bars:
    """Return the bars of whole hours, as the stream forecasts a day from."""
    hours = minutes.time_s // 3600
    prices = []
    for hour in range(hours[0], hours[-1] + 1):
        inside = minutes.prices[hours == hour]
        known = ~np.isnan(inside[:, :, 2])
        high = np.where(known, inside[:, :, 0], -np.inf).max(axis=0)
        low = np.where(known, inside[:, :, 1], np.inf).min(axis=0)
        last = known.shape[0] - 1 - np.argmax(known[::-1], axis=0)
        close = inside[last, np.arange(inside.shape[1]), 2]
        prices.append(np.stack([high, low, close], axis=1))
    return Bars(3600, np.arange(hours[0], hours[-1] + 1) * 3600, np.array(prices))


if __name__ == "__main__":
    main()
