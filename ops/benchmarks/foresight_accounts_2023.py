"""How likely each Hyperliquid account of early 2023 was to come to margin ratio 1, forecast as the stream went.

python ops/benchmarks/foresight_accounts_2023.py [--data DIR] [--dir DIR] [--plot FILE.png] [--shards N]

The export is run with forecasts enabled, initial margin 0.02 and maintenance 0.01 of notional. Once per hour every
account that has a margin and is below 1 counts: the last probability that stood on the topic ``forecasts`` before the
hour, against whether it came to 1 (equity at or below 0 counts) within the horizon after it. Everything is prequential:
nothing was learned before it was known. Two baselines on the same hours: the rate of outcomes known so far, and the
margin ratio alone through the same calibration with the same delay. Differences have a paired bootstrap by account.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seawall.connectors.bus import open_bus, read_all
from seawall.connectors.hyperliquid_accounts import convert
from seawall.operators.core.conduct import ConductState
from seawall.operators.core.exposure import ExposureState
from seawall.operators.core.foresight.calibration import Logistic, probability
from seawall.operators.core.foresight.foresight import ForesightState
from seawall.operators.core.foresight.models import PRECISION
from seawall.operators.core.foresight.scores import BOUNDS
from seawall.ops import run as runner
from seawall.schemas.configuration import load_configuration
from seawall.schemas.measures import ACCOUNT
from seawall.schemas.slices import decode_slice

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "hyperliquid_accounts_2023"
HOUR_US = 3_600_000_000
HORIZONS_S = (3600, 86_400)
RATIO, MARGIN = ACCOUNT.index("margin_ratio"), ACCOUNT.index("maintenance_margin")
BOOTSTRAPS = 1000


class Hours(NamedTuple):
    """Account-hours: when, whose, the margin ratio, and by horizon the probability that stood."""

    time_us: Any
    account: Any
    ratio: Any
    said: dict[int, Any]


def sequence(folder: Path, data: Path, shards: int) -> Any:
    """Convert the export and write its journal; return the bus."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "seawall.db").exists():
        convert(data / "non_mm_trades.csv.gz", data / "non_mm_ledger_updates.csv.gz", folder)
        (folder / "desk.toml").write_text(
            f"shards = {shards}\nexposure_change_min = 1\n[inputs]\nevents = ['reference.jsonl', 'events.jsonl']\n"
            "[forecasts]\nenabled = true\n"
        )
        runner.run(load_configuration(folder / "desk.toml"), ["sequence"])
    configuration = load_configuration(folder / "desk.toml")
    return open_bus(configuration.bus, configuration.directory)


def replay(bus: Any, shard: int) -> tuple[Hours, dict[str, list[int]]]:
    """Replay one shard; return its account-hours, and when each account came to ratio 1."""
    exposure, conduct, foresight = ExposureState(shard), ConductState(shard), ForesightState(shard)
    rows: dict[str, list[Any]] = {"time": [], "account": [], "ratio": [], **{str(h): [] for h in HORIZONS_S}}
    came: dict[str, list[int]] = {}
    standing: dict[tuple[str, int], float] = {}
    values, names = np.zeros((len(ACCOUNT), 0)), []
    there: set[str] = set()
    hour = None
    for stored in read_all(bus, "journal", shard):
        piece = decode_slice(stored.value)
        while hour is not None and hour < piece.as_of_us:
            for at in np.flatnonzero((values[MARGIN] > 0) & (values[RATIO] < 1.0)).tolist():
                rows["time"].append(hour)
                rows["account"].append(names[at])
                rows["ratio"].append(values[RATIO, at])
                for horizon in HORIZONS_S:
                    rows[str(horizon)].append(standing.get((names[at], horizon), np.nan))
            hour += HOUR_US
        frame = foresight.step(conduct.step(exposure.step(piece, "")))
        if hour is None:
            hour = (piece.as_of_us // HOUR_US + 1) * HOUR_US
        for record in frame.records.get("forecasts", ()):
            for row in json.loads(record.value)["forecasts"]:
                if row["scope"].startswith("account:") and row["level"] == "hard":
                    standing[row["scope"][8:], row["horizon_s"]] = row["probability"]
        if frame.decides:
            values, names = frame.tables["account"].values, frame.tables["account"].names
            now = {names[at] for at in np.flatnonzero(values[RATIO] >= 1.0).tolist()}
            for name in now - there:
                came.setdefault(name, []).append(frame.as_of_us)
            there = now
    said = {horizon: np.array(rows[str(horizon)]) for horizon in HORIZONS_S}
    return Hours(np.array(rows["time"]), np.array(rows["account"]), np.array(rows["ratio"]), said), came


def outcomes(hours: Hours, came: dict[str, list[int]], horizon_us: int) -> tuple[Any, Any]:
    """Return whether a crossing followed each account-hour within the horizon, and how long after (NaN: none)."""
    found, lead = np.zeros(len(hours.time_us)), np.full(len(hours.time_us), np.nan)
    for at, (time, name) in enumerate(zip(hours.time_us.tolist(), hours.account.tolist(), strict=True)):
        after = [one - time for one in came.get(name, ()) if time < one <= time + horizon_us]
        if after:
            found[at], lead[at] = 1.0, after[0] / HOUR_US
    return found, lead


def baselines(hours: Hours, came: Any, horizon_us: int) -> tuple[Any, Any]:
    """Return the prequential base rate, and the calibrated margin ratio, of every account-hour."""
    weight = HOUR_US / horizon_us
    ratio = np.clip(hours.ratio, 1e-9, 1 - 1e-9)
    terms = np.stack([np.ones(len(ratio)), np.clip(np.log(ratio / (1 - ratio)), -8, 3)])
    model, hits, count = Logistic((0.0, 1.0), PRECISION), 0.5, 10.0
    rate, said = np.zeros(len(ratio)), np.zeros(len(ratio))
    times = np.unique(hours.time_us)
    learned = 0
    order = {time: np.flatnonzero(hours.time_us == time) for time in times.tolist()}
    for time in times.tolist():
        while times[learned] + horizon_us < time:
            due = order[times[learned]]
            model.learn(terms[:, due], came[due], np.full(len(due), weight))
            hits, count = hits + weight * came[due].sum(), count + weight * len(due)
            learned += 1
        at = order[time]
        rate[at], said[at] = hits / count, probability(model.log_odds(terms[:, at]))
    return rate, said


def log_loss(came: Any, said: Any) -> Any:
    bounded = np.clip(said, 1e-6, 1 - 1e-6)
    return -(came * np.log(bounded) + (1 - came) * np.log(1 - bounded))


def area(came: Any, said: Any) -> float:
    """Return the area under precision and recall (average precision, ties together)."""
    order = np.argsort(-said, kind="stable")
    came, said = came[order], said[order]
    last = np.append(said[1:] != said[:-1], True)
    hits, seen = came.cumsum()[last], np.arange(1, len(came) + 1)[last]
    return float(np.sum(np.diff(np.append(0.0, hits / came.sum())) * hits / seen))


def bootstrap(hours: Hours, came: Any, ours: Any, other: Any) -> tuple[Any, Any]:
    """Return the 2.5, 50 and 97.5 % points of the differences (ours less theirs) in log loss and in area."""
    draw = np.random.default_rng(20230501)
    groups = [np.flatnonzero(hours.account == name) for name in np.unique(hours.account)]
    losses = log_loss(came, ours) - log_loss(came, other)
    loss, areas = [], []
    for _ in range(BOOTSTRAPS):
        at = np.concatenate([groups[i] for i in draw.integers(0, len(groups), len(groups))])
        if came[at].any():
            loss.append(losses[at].mean())
            areas.append(area(came[at], ours[at]) - area(came[at], other[at]))
    points = [0.025, 0.5, 0.975]
    return np.quantile(loss, points).round(4).tolist(), np.quantile(areas, points).round(4).tolist()


def reliability(came: Any, said: Any) -> list[tuple[float, float, int, float, float]]:
    """Return by bin: bounds, count, mean forecast, share that came."""
    edges, rows = [0.0, *BOUNDS, 1.0], []
    bins = np.searchsorted(BOUNDS, said, side="right")
    for at in range(len(BOUNDS) + 1):
        inside = bins == at
        if inside.any():
            rows.append((edges[at], edges[at + 1], int(inside.sum()), said[inside].mean(), came[inside].mean()))
    return rows


def false_alarms(hours: Hours, came: Any, said: Any, threshold: float) -> tuple[float, int, int]:
    """Return alarms (from below to above a threshold) without an outcome per account-day, caught and all accounts."""
    alarms = 0
    for name in np.unique(hours.account):
        at = np.flatnonzero(hours.account == name)
        above = said[at] >= threshold
        rising = above & ~np.append(False, above[:-1])
        alarms += int((rising & (came[at] == 0)).sum())
    broke = np.unique(hours.account[came > 0])
    caught = {name for name in broke if (said[(hours.account == name) & (came > 0)] >= threshold).any()}
    return alarms / (len(came) / 24), len(caught), len(broke)


def report(hours: Hours, came_at: dict[str, list[int]], horizon_s: int) -> None:
    came, lead = outcomes(hours, came_at, horizon_s * 1_000_000)
    rate, ratio = baselines(hours, came, horizon_s * 1_000_000)
    unknown = np.isnan(hours.said[horizon_s])
    said = np.where(unknown, rate, hours.said[horizon_s])
    accounts = len(set(hours.account[came > 0].tolist()))
    print(f"\n## Within {horizon_s // 3600} h\n")
    print(f"{len(came):,} account-hours, {int(came.sum())} positives from {accounts} accounts;")
    print(f"{int(unknown.sum())} hours before a first forecast count with the base rate.\n")
    print("| model | log loss | area |\n|---|---|---|")
    models = {"foresight": said, "base rate": rate, "ratio, calibrated": ratio, "ratio, raw": hours.ratio}
    for name, one in models.items():
        loss = f"{log_loss(came, one).mean():.5f}" if name != "ratio, raw" else ""
        print(f"| {name} | {loss} | {area(came, one):.4f} |")
    for name, one in (("base rate", rate), ("calibrated ratio", ratio)):
        loss, areas = bootstrap(hours, came, said, one)
        print(f"\nagainst the {name}: log loss {loss}, area {areas} (2.5, 50 and 97.5 % of {BOOTSTRAPS} bootstraps)")
    print("\n| forecast | account-hours | mean forecast | came |\n|---|---|---|---|")
    for low, high, count, mean, share in reliability(came, said):
        print(f"| {low:g} to {high:g} | {count:,} | {mean:.4f} | {share:.4f} |")
    print(
        "\n| alarm at | false alarms per account-day | accounts caught | longest lead, median (h) |\n|---|---|---|---|"
    )
    for threshold in (0.1, 0.2, 0.3, 0.5):
        per_day, caught, all_of = false_alarms(hours, came, said, threshold)
        leads = [
            np.nanmax(lead[(hours.account == name) & (came > 0) & (said >= threshold)])
            for name in np.unique(hours.account[(came > 0) & (said >= threshold)])
        ]
        median = f"{np.median(leads):.1f}" if leads else ""
        print(f"| {threshold:g} | {per_day:.4f} | {caught} of {all_of} | {median} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--dir", type=Path, default=None, help="where to run; a new folder by default")
    parser.add_argument("--shards", type=int, default=1)
    options = parser.parse_args()
    folder = options.dir or Path(tempfile.mkdtemp(prefix="seawall-foresight-"))
    bus = sequence(folder, options.data, options.shards)
    parts = [replay(bus, shard) for shard in range(options.shards)]
    hours = Hours(
        *(np.concatenate([getattr(part, name) for part, _ in parts]) for name in ("time_us", "account", "ratio")),
        {horizon: np.concatenate([part.said[horizon] for part, _ in parts]) for horizon in HORIZONS_S},
    )
    came = {name: times for _, one in parts for name, times in one.items()}
    for horizon in reversed(HORIZONS_S):
        report(hours, came, horizon)
    print(f"journal in {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
