"""Detection on published data, beside clocks, breakers and River's own models; and what it costs.

python ops/bench/detection.py nab | skab | crash | pump | market | cost
"""

import math
import random
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import _harness as bench
import numpy as np
from numpy.typing import NDArray
from river import anomaly, stats

from seawall.connectors.venues import read_bars
from seawall.operators.core import detection
from seawall.operators.core.base import pack
from seawall.operators.core.detection import (
    REFRACTORY_ROWS,
    UNUSUAL_SCORE,
    AlertPolicy,
    AlertSource,
    Composite,
    CompositeArray,
    Detector,
    DeviationDetector,
    GatedDetector,
    HalfSpaceForest,
    LifecycleModels,
    ModelKey,
    ModelScope,
    ResidualBreaker,
    Sample,
    make_models,
    observe,
)
from seawall.operators.core.detection import WARM_ROWS as LEARNING_ROWS
from seawall.operators.core.detection import _shared_forest as forests
from seawall.operators.core.market import GroupBatcher, GroupState
from seawall.operators.river import RiverDetector, half_space_trees, loda, one_class_svm
from seawall.ops.reports import Drawn, detect_csv, draw_detection, parse_row_time
from seawall.schemas.configuration import MarketTerms
from seawall.schemas.decoding import decode_event
from seawall.schemas.events import Signal

Floats = NDArray[np.float64]
Table = tuple[list[str], list[list[str]]]  # a header and rows
MINUTE_US = 60_000_000
HOUR_US, DAY_US, WEEK_US = 60 * MINUTE_US, 24 * 60 * MINUTE_US, 7 * 24 * 60 * MINUTE_US
app = bench.suite(__doc__)


def detected(path: Path, columns: int) -> Floats:
    """Return the scores of ``seawall detect`` for the columns behind the first one, which is the time."""
    header, _ = read_table(path)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.csv"
        detect_csv(path, header[0], header[1 : 1 + columns], out)
        return np.array([float(row["anomaly_score"]) for row in bench.read_csv(out)])


def observed(detector: Detector, samples: Sequence[Sample]) -> Floats:
    """Return a detector's scores of samples in order."""
    return np.array([observe(detector, sample).value for sample in samples])


def of_river(estimator: Any, rows: Sequence[dict[str, float]]) -> Floats:
    """Return the scores of an estimator of River's, untouched, each row scored and then learned."""
    scores = []
    for row in rows:
        scores.append(float(estimator.score_one(row)))
        estimator.learn_one(row)
    return np.array(scores)


def read_table(path: Path) -> Table:
    """Return header and rows of a file, whatever divides its columns."""
    delimiter = ";" if path.suffix == ".gz" else ","
    rows = [list(row.values()) for row in bench.read_csv(path, delimiter)]
    return list(bench.read_csv(path, delimiter)[0]), rows


# --- scores -----------------------------------------------------------------------------------------------------------
# NAB v1.1 (Lavin & Ahmad, 2015): the first 15 % of a file (at most 750 rows) are not scored; a window counts once, more
# the earlier it is hit; a false alarm costs more the farther it lies from the last window; 0 is what silence earns, 100
# a perfect detector. VUS-PR (Paparrizos et al., VLDB 2022): area under precision and recall with labels that fade out
# over a buffer, averaged over buffer lengths.

PROFILES = {"standard": (1.0, 0.11), "low FP": (1.0, 0.22), "low FN": (2.0, 0.11)}  # cost of a miss, of a false alarm
BUFFER_ROWS_MAX = 100


@dataclass(frozen=True)
class Labelled:
    """One file: what each row is worth, which window it lies in (-1: none), and which rows count."""

    worth: Floats
    window: NDArray[np.int64]
    counts: NDArray[np.bool_]
    windows: int


def label(times: Sequence[str], spans: Sequence[tuple[str, str]]) -> Labelled:
    """Lay NAB's windows over the rows of a file."""
    worth, window = np.full(len(times), -1.0), np.full(len(times), -1)
    for number, (begin, end) in enumerate(spans):
        left, right = times.index(begin), times.index(end)
        width = right - left + 1
        for row in range(left, right + 1):
            worth[row] = _sigmoid(-(right - row + 1) / width) / _sigmoid(-1.0)
            window[row] = number
        for row in range(right + 1, len(times)):
            worth[row] = _sigmoid((row - right) / (width - 1))
    probation = min(int(0.15 * len(times)), 750)
    return Labelled(worth, window, np.arange(len(times)) >= probation, len(spans))


def nab_raw(file: Labelled, scores: Floats, threshold: float, profile: str) -> float:
    """Return what a file earns above silence at ``threshold``."""
    miss, false_alarm = PROFILES[profile]
    hit = (scores >= threshold) & file.counts
    earned = float(file.worth[hit & (file.window < 0)].sum()) * false_alarm
    for number in range(file.windows):
        rows = hit & (file.window == number)
        if rows.any():
            earned += max(float(file.worth[rows].max()), -miss) + miss
    return earned


def nab_score(files: Sequence[Labelled], scores: Sequence[Floats], profile: str) -> tuple[float, float]:
    """Return the score with one threshold fitted on all files, and with each file's fitted on all others."""
    # Only the highest 4,000 distinct scores: a threshold below them alarms on so many rows that it earns less than 0.
    levels = np.concatenate(([np.inf], np.unique(np.concatenate(scores))[::-1][:4000]))
    table = np.array(
        [[nab_raw(file, own, t, profile) for t in levels] for file, own in zip(files, scores, strict=True)]
    )
    whole = table.sum(axis=0)
    left_out = sum(row[int(np.argmax(whole - row))] for row in table)
    scale = 100.0 / (sum(file.windows for file in files) * (1.0 + PROFILES[profile][0]))
    return float(whole.max()) * scale, float(left_out) * scale


def vus_pr(labels: NDArray[np.int64], scores: Floats, thresholds: int = 250) -> float:
    """Return the volume under the precision-recall surface over buffers of 0 to 100 rows."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    cuts = ranked[np.unique(np.linspace(0, len(labels) - 1, thresholds).astype(int))]
    predicted = np.searchsorted(-ranked, -cuts, side="right")
    edges = np.diff(np.concatenate(([0], labels, [0])))
    begins, ends = np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()
    spans = [(begin, end - 1) for begin, end in zip(begins, ends, strict=True)]
    areas = []
    for buffer in range(0, BUFFER_ROWS_MAX + 1, 10):
        soft, half = _soften(labels, spans, buffer), buffer // 2
        peaks = np.array([scores[max(0, a - half) : b + half + 1].max() for a, b in spans])
        found = (peaks[None, :] >= cuts[:, None]).mean(axis=1)
        true = np.cumsum(soft[order])[predicted - 1]
        recall = np.minimum(true / ((labels.sum() + soft.sum()) / 2), 1.0) * found
        areas.append(float((np.diff(np.concatenate(([0.0], recall))) * true / predicted).sum()))
    return float(np.mean(areas))


def _sigmoid(distance: float) -> float:
    return -1.0 if distance > 3.0 else 2.0 / (1.0 + math.exp(5.0 * distance)) - 1.0


def _soften(labels: NDArray[np.int64], spans: Sequence[tuple[int, int]], buffer: int) -> Floats:
    soft = labels.astype(float)
    for begin, end in spans:
        for step in range(1, buffer // 2 + 1):
            fade = math.sqrt(1.0 - step / buffer)
            for row in (begin - step, end + step):
                if 0 <= row < len(soft):
                    soft[row] = max(soft[row], fade)
    return soft


# --- nab --------------------------------------------------------------------------------------------------------------

CLOCK_ROWS, LAGS = 400, 8


def running_range(values: list[float]) -> Floats:
    """Score how far a value leaves the range so far, as a share of it; 150 rows of warm-up."""
    scores, low, high = [], math.inf, -math.inf
    for row, value in enumerate(values):
        excess = max(value - high, low - value, 0.0) if row >= LEARNING_ROWS else 0.0
        scores.append(excess / (high - low) if excess and high > low else float(excess > 0.0))
        low, high = min(low, value), max(high, value)
    return np.array(scores)


def broken(view: str, path: Path) -> Floats:
    """Return the scores of a breaker on the first column."""
    samples = [Sample(parse_row_time(row[0].split(".")[0]), (float(row[1]),)) for row in read_table(path)[1]]
    return observed(ResidualBreaker(("value",), view), samples)


def values_of(path: Path) -> list[float]:
    return [float(row[1]) for row in read_table(path)[1]]


def lagged(path: Path) -> list[dict[str, float]]:
    """Return the last eight values of each row."""
    values = values_of(path)
    padded = [values[0]] * (LAGS - 1) + values
    return [{f"lag{lag}": padded[row + lag] for lag in range(LAGS)} for row in range(len(values))]


NAB: dict[str, Callable[[Path], Floats]] = {
    "blind clock": lambda path: np.array([float(row % CLOCK_ROWS == 0) for row in range(len(values_of(path)))]),
    "running range breaker": lambda path: running_range(values_of(path)),
    "level breaker": lambda path: broken("level", path),
    "EW residual breaker": lambda path: broken("drift", path),
    "LODA, 8 lags": lambda path: of_river(loda(), lagged(path)),
    "HalfSpaceTrees, 8 lags": lambda path: of_river(half_space_trees(), lagged(path)),
    "seawall detect": lambda path: detected(path, 1),
}


def records(scores: Floats) -> Floats:
    """Keep the scores that exceed all of the last 120 rows: without it every dense score earns 0 as an alarm."""
    kept = np.zeros(len(scores))
    for row, score in enumerate(scores):
        past = scores[max(0, row - REFRACTORY_ROWS) : row]
        kept[row] = score if row == 0 or score > past.max() else 0.0
    return kept


@app.command()
def nab(corpus: Path = bench.DATA / "nab", files_max: int = 0) -> None:
    """Run ``seawall detect`` on every file of NAB, against a blind clock, the running range breaker, LODA and HST.

    CORPUS holds ``data/`` and ``labels/combined_windows.json``. Each threshold is fitted once on all files, as NAB
    does, and once per file on all others (leave one out); only the second figure says what to expect elsewhere. LODA
    and HalfSpaceTrees are River's own, untouched; every row of the table passes the same refractory rule before NAB
    scores it, none before VUS-PR.
    """
    spans = bench.read_json(bench.need(corpus / "labels" / "combined_windows.json"))
    names = [name for name in sorted(spans) if spans[name]][:files_max] or sorted(spans)
    paths, files = [corpus / "data" / name for name in names], []
    for name, path in zip(names, paths, strict=True):
        windows = [(begin.split(".")[0], end.split(".")[0]) for begin, end in spans[name]]
        files.append(label([row[0].split(".")[0] for row in read_table(path)[1]], windows))
    print(f"{len(files)} files, {sum(file.windows for file in files)} windows")
    print(f"{'':24}" + "".join(f"{profile:>8} {'LOO':>5}" for profile in PROFILES) + "  VUS-PR")
    for name, score in NAB.items():
        scores = [score(path) for path in paths]
        sparse = [records(own) for own in scores]
        cells = [f"{value:6.1f}" for profile in PROFILES for value in nab_score(files, sparse, profile)]
        dense = [
            vus_pr((file.window[file.counts] >= 0).astype(int), own[file.counts])
            for file, own in zip(files, scores, strict=True)
            if (file.window[file.counts] >= 0).any()
        ]
        print(f"{name:24} {' '.join(cells)}  {np.mean(dense):6.3f}", flush=True)


# --- skab -------------------------------------------------------------------------------------------------------------

LEARNED_ROWS, SENSORS = 400, 8


def sensed(path: Path) -> list[dict[str, float]]:
    """Return the sensors of each row, by name."""
    header, rows = read_table(path)
    names = header[1 : 1 + SENSORS]
    return [dict(zip(names, map(float, row[1 : 1 + SENSORS]), strict=True)) for row in rows]


def gated(make: Callable[[tuple[str, ...]], Any], path: Path) -> Floats:
    """Return the scores of a detector that learns through a gate."""
    rows = sensed(path)
    return observed(GatedDetector(make(tuple(rows[0]))), [Sample(None, tuple(row.values())) for row in rows])


SKAB: dict[str, Callable[[Path], Floats]] = {
    "HalfSpaceTrees": lambda path: of_river(half_space_trees(), sensed(path)),
    "LODA": lambda path: of_river(loda(), sensed(path)),
    "LODA, gated": lambda path: gated(lambda names: RiverDetector(names, loda), path),
    "largest z, gated": lambda path: gated(DeviationDetector, path),
    "seawall detect": lambda path: detected(path, SENSORS),
}


@app.command()
def skab(folder: Path = bench.DATA / "skab", files_max: int = 0) -> None:
    """Run ``seawall detect`` on eight sensors at once, rows after 400 of each labelled experiment, pooled."""
    paths = sorted(bench.need(folder).glob("*_[0-9]*.csv.gz"))[: files_max or None]
    labels = np.concatenate([[int(float(row[9])) for row in read_table(path)[1][LEARNED_ROWS:]] for path in paths])
    print(f"{len(paths)} experiments, {len(labels)} rows, base rate {labels.mean():.3f}")
    for name, score in SKAB.items():
        scores = np.concatenate([score(path)[LEARNED_ROWS:] for path in paths])
        print(f"{name:20} PR-AUC {bench.average_precision(labels, scores):.3f}", flush=True)


# --- crash and pump ---------------------------------------------------------------------------------------------------

STREAMS = {
    "score": (AlertSource.SCORE, AlertSource.BOTH),
    "rule": (AlertSource.RULE, AlertSource.BOTH),
    "delivered": tuple(AlertSource),
}
LEAD_US, SEARCH_US = 5 * MINUTE_US, 60 * MINUTE_US


class Watched:
    """One file of bars as ``seawall detect --price close`` judges it."""

    def __init__(self, path: Path) -> None:
        bars = bench.read_bars(path)
        self.columns = [name for name in ("close", "volume") if getattr(bars, name).any()]
        values = zip(*(getattr(bars, name).tolist() for name in self.columns), strict=True)
        self.times, self.closes, self.rows = bars.time_us.tolist(), bars.close.tolist(), list[Drawn]()
        watch = AlertPolicy(tuple(self.columns), "close")
        for number, (time_us, row) in enumerate(zip(self.times, values, strict=True), 1):
            score, alert, _ = watch.observe(Sample(time_us, row))
            self.rows.append(Drawn(number, Sample(time_us, row), score.value, alert))

    def raised(self, stream: str) -> list[int]:
        """Return the times of a stream's alerts."""
        return [when for when, row in zip(self.times, self.rows, strict=True) if row.alert in STREAMS[stream]]

    def largest_fall(self) -> tuple[int, int, float]:
        """Return the rows of begin and end of the largest fall within a day, and its depth."""
        best, highest = (0, 0, 0.0), deque[int]()
        for row, close in enumerate(self.closes):
            while highest and self.times[row] - self.times[highest[0]] > DAY_US:
                highest.popleft()
            while highest and self.closes[highest[-1]] <= close:
                highest.pop()
            highest.append(row)
            depth = 1.0 - close / self.closes[highest[0]]
            best = (highest[0], row, depth) if depth > best[2] else best
        return best


def describe(watched: Watched, stream: str) -> str:
    """Return when the first alert of a stream came against the fall, and how many come in a quiet week."""
    times, closes, alerts = watched.times, watched.closes, watched.raised(stream)
    first_row, last_row, depth = watched.largest_fall()
    begin, end = times[first_row], times[last_row]
    seen = [when for when in alerts if begin - HOUR_US <= when <= end]
    quiet = [when for when in alerts if not begin - DAY_US <= when <= end + DAY_US]
    busy_us = min(times[-1], end + DAY_US) - max(times[0], begin - DAY_US)
    weeks = (times[-1] - times[0] - busy_us) / WEEK_US
    rate = f"{len(quiet) / weeks:5.1f} a quiet week" if weeks > 0.2 else "no quiet time"
    text = f"fell {100 * depth:5.1f} % in {(end - begin) // MINUTE_US:5d} min"
    if not seen:
        return f"{text}: no alert; {rate}"
    gone = (closes[first_row] - closes[times.index(seen[0])]) / (closes[first_row] - closes[last_row])
    after, before = (seen[0] - begin) // MINUTE_US, (end - seen[0]) // MINUTE_US
    return f"{text}: first alert at {after:5d} min ({before:5d} min before the low), {100 * gone:4.0f} % gone; {rate}"


@app.command()
def crash(folder: Path = bench.DATA / "crash_may_2021", plots: Path | None = None, files_max: int = 0) -> None:
    """Tell when the first alert came against the fall, and how often there are alerts in a quiet week.

    FOLDER has gzipped OHLCV CSVs; PLOTS is a folder for two pictures of each, the whole series and the fall. The fall
    is the largest one within 24 hours, from its highest to its lowest close. An alert up to an hour before its start
    counts as a warning; everything from a day before the start to a day after the end is not quiet. Three streams: the
    learned score, the plain circuit-breaker rule (7 % against the past hour), and what ``seawall detect --price close``
    delivers, which is one or the other.
    """
    for path in sorted(bench.need(folder).glob("*.csv.gz"))[: files_max or None]:
        name, watched = path.name.removesuffix(".csv.gz"), Watched(path)
        for stream in STREAMS:
            print(f"{name:46} {stream:9} {describe(watched, stream)}", flush=True)
        if plots is not None:
            begin, end = (watched.times[row] for row in watched.largest_fall()[:2])
            near = [row for row in watched.rows if begin - DAY_US <= (row.sample.time_us or 0) <= end + DAY_US // 2]
            draw_detection(plots / f"{name}.png", name, watched.columns, watched.rows, (begin, end))
            draw_detection(
                plots / f"{name}-fall.png", f"{name}, the fall (shaded)", watched.columns, near, (begin, end)
            )


@app.command()
def pump(folder: Path = bench.DATA / "pump_and_dump", files_max: int = 0) -> None:
    """Tell which labelled pumps are found, minutes after their start, and false alerts per instrument-day.

    FOLDER holds ``series_labels.csv`` and ``series/``. A pump is found by an alert from five minutes before its
    announcement (insiders buy first) to sixty after. Labels are incomplete: some of the false alerts are pumps that
    nobody listed.
    """
    paths = sorted((bench.need(folder) / "series").glob("*.csv.gz"))[: files_max or None]
    known, names = bench.read_csv(folder / "series_labels.csv"), {path.name for path in paths}
    labels = [row for row in known if row["series_file"] in names]
    found, false, days = dict.fromkeys(STREAMS, 0), dict.fromkeys(STREAMS, 0), 0.0
    for path in paths:
        watched, stamps = Watched(path), [row["label_time_utc"] for row in labels if row["series_file"] == path.name]
        days += (watched.times[-1] - watched.times[0]) / DAY_US
        pumps = [int(datetime.fromisoformat(stamp).timestamp() * 1e6) for stamp in stamps]
        for stream in STREAMS:
            alerts = watched.raised(stream)
            for at in pumps:
                hits = [when for when in alerts if at - LEAD_US <= when <= at + SEARCH_US]
                found[stream] += bool(hits)
                said = f"found after {(hits[0] - at) / MINUTE_US:+.1f} min" if hits else "missed"
                print(f"{path.name:48} {bench.utc(at, '%Y-%m-%d %H:%M')} {stream:9} {said}")
            false[stream] += sum(not any(at - LEAD_US <= when <= at + SEARCH_US for at in pumps) for when in alerts)
    for stream in STREAMS:
        rate = f"{false[stream] / days:.2f} false alerts per instrument-day over {days:.0f} days"
        print(f"{stream:9} {found[stream]} of {len(labels)} pumps found; {rate}")


# --- market -----------------------------------------------------------------------------------------------------------

TERMS = MarketTerms(groups=1, score_s=60, stale_s=600)
SYMBOLS = ["BTCUSDT", "ETHUSDT", "DOGEUSDT"]


@app.command()
def market(folder: Path = bench.DATA / "crash_may_2021", day: str = "2021-05-19", symbol: list[str] = SYMBOLS) -> None:
    """Run the core of ``market`` on published bars: when rule and score first alerted in a crash, how often before.

    FOLDER has gzipped one-minute OHLCV files, DAY is that of the crash, and the SYMBOLs are watched together at one
    venue, scored by the minute. Tells what happened in models' lives too, and what the group's state and a row cost.
    """
    paths = [(name, path) for name in symbol for path in sorted(bench.need(folder).glob(f"*{name}*1m*.csv.gz"))]
    bars = [bar for name, path in paths for bar in read_bars(path, "exchange", name, MINUTE_US).events]
    bars.sort(key=lambda bar: (bar.event_time_us, bar.instrument))
    cutter, group, values = GroupBatcher(1, TERMS.interval_us), GroupState(0, TERMS), list[bytes]()
    with bench.spending() as spent:
        for bar in bars:
            cutter.add(bar.event_time_us, bar)
            values += [record.value for _, item in cutter.take() for record in group.step(item)]
        cutter.finish()
        values += [record.value for _, item in cutter.take() for record in group.step(item)]
    signals = [signal for signal in map(decode_event, values) if isinstance(signal, Signal)]
    begin = bench.micros(day)
    for name in symbol:
        told = [(s.event_time_us, alert) for s in signals for alert in s.alerts if alert.scope == f"instrument:{name}"]
        first: dict[str, str] = {}
        for at, alert in told:
            if begin <= at < begin + DAY_US:
                first.setdefault(alert.kind, f"{alert.kind} {bench.utc(at, '%H:%M')}")
        weeks = [sum(begin - n * WEEK_US <= at < begin - (n - 1) * WEEK_US for at, _ in told) for n in (4, 3, 2, 1)]
        print(f"{name:10} {', '.join(first.values()) or 'no alert'}; alerts a week before: {weeks}")
    lives = Counter(f"{model.family} {model.event}" for signal in signals for model in signal.models)
    print("lives of models:", ", ".join(f"{what} {count}" for what, count in sorted(lives.items())))
    size = len(group.snapshot()) / len(symbol)
    print(f"{len(bars):,} bars, {spent.cpu / len(bars) * 1e6:.0f} µs each; {size:,.0f} bytes of state each")


# --- cost -------------------------------------------------------------------------------------------------------------

ROWS, WARM_ROWS, FEATURES, ROUNDS = 1500, 400, 5, 7
BATCHES = (1, 32, 1024)
MANY = max(BATCHES)
NAMES = tuple(f"feature{number}" for number in range(FEATURES))


def samples(rows: int, width: int = FEATURES) -> list[Sample]:
    """Return rows that nothing is unusual about."""
    chance = random.Random(1)
    found = [tuple(chance.gauss(100.0, 1.0) for _ in NAMES) for _ in range(rows)]
    return [Sample(row * MINUTE_US, values[:width]) for row, values in enumerate(found)]


def micros_each(action: Callable[[], object], events: int) -> float:
    """Return the least processor time per event, in µs, of seven runs."""
    return bench.least({"": action}, ROUNDS)[""] / events * 1e6


def alone(estimator: Any, target: bool = False) -> float:
    """Time an estimator of River's, with ready dictionaries."""
    rows: list[tuple[Any, ...]] = [(dict(zip(NAMES, sample.values, strict=True)),) for sample in samples(ROWS)]
    rows = [(None, sample.values[0]) for sample in samples(ROWS)] if target else rows
    for row in rows[:WARM_ROWS]:
        estimator.learn_one(*row)
    return micros_each(lambda: [(estimator.score_one(*row), estimator.learn_one(*row)) for row in rows], ROWS)


def here(make: Callable[[], Detector], batch: int, width: int) -> float:
    """Time detectors behind our protocol: guard, warm-up, rank calibration and, where it says so, the gate."""
    rows, detectors = samples(max(ROWS // batch, 2), width), [make() for _ in range(batch)]
    for row in (rows * WARM_ROWS)[: WARM_ROWS if batch == 1 else 2]:
        for detector in detectors:
            observe(detector, row)
    return micros_each(lambda: [observe(one, row) for row in rows for one in detectors], batch * len(rows))


def parts(batch: int, count: int = MANY) -> list[slice]:
    """Return the slices of a batch's size that make up all keys."""
    return [slice(begin, begin + batch) for begin in range(0, count, batch)]


def banked(batch: int) -> float:
    """Time composites of 1,024 keys that arrive ``batch`` at a time."""
    bank, rows = CompositeArray(MANY, NAMES), np.array([sample.values for sample in samples(MANY)])
    times, keys = np.full(MANY, MINUTE_US), np.arange(MANY)
    return micros_each(lambda: [bank.observe(keys[p], times[p], rows[p]) for p in parts(batch)], MANY)


def living(batch: int) -> float:
    """Time models with lives, as ``market`` has them, of 1,024 instruments that arrive ``batch`` at a time."""
    models = LifecycleModels(NAMES)
    slots, rows = [models.take() for _ in range(MANY)], [sample.values for sample in samples(MANY)]
    calm = [False] * batch
    return micros_each(lambda: [models.observe(slots[p], MINUTE_US, rows[p], calm) for p in parts(batch)], MANY)


def forest(batch: int) -> float:
    """Time the trees of one asset class, of whose keys ``batch`` arrive at a time."""
    trees, rows = HalfSpaceForest(FEATURES), np.random.default_rng(1).random((2048, FEATURES))
    trees.observe(rows[:600])
    return micros_each(lambda: [trees.observe(rows[p]) for p in parts(batch, len(rows))], len(rows))


def line(name: str, base: float | None, costs: Sequence[float | None], size: int) -> None:
    cells = "".join(f"{'-' if cost is None else f'{cost:.1f}':>9}" for cost in costs)
    ratio = f"{costs[0] / base:.2f}" if base and costs[0] else "-"
    print(f"{name:40}{'-' if base is None else f'{base:.1f}':>9}{cells}{ratio:>7}{size:>12,}", flush=True)


@app.command()
def cost(keys: int = 10_000) -> None:
    """Tell µs per event of each detector alone in River and here, by batch; state per key; snapshots of 10,000 keys.

    "River" calls an estimator's ``score_one`` and ``learn_one`` with ready dictionaries; "here" takes samples and adds
    guard, warm-up, rank calibration and, where it says so, the gate. A batch of N is one event for each of N keys;
    River has no batches, and a HalfSpaceTrees object for each of 1,024 keys would take 3 GB. CPU time, best of seven.
    """
    print(f"{'µs per event of 5 features':40}{'River':>9}" + "".join(f"{batch:>9}" for batch in BATCHES), end="")
    print(f"{'ratio':>7}{'state bytes':>12}")
    trees, projections, svm = (alone(build()) for build in (half_space_trees, loda, one_class_svm))
    absolute = alone(anomaly.StandardAbsoluteDeviation(stats.Mean()), target=True)
    scorer: Any = anomaly.GaussianScorer
    gaussian = alone(scorer(window_size=None, grace_period=100), target=True)
    rows: list[tuple[str, float | None, Callable[[], Detector], int, int]] = [
        ("HalfSpaceTrees of River", trees, lambda: RiverDetector(NAMES, half_space_trees), 1, 5),
        ("LODA of River", projections, lambda: RiverDetector(NAMES, loda), MANY, 5),
        ("OneClassSVM of River", svm, lambda: RiverDetector(NAMES, one_class_svm), MANY, 5),
        ("AbsoluteDeviation by protocol, 1 feature", absolute, lambda: DeviationDetector(NAMES[:1]), MANY, 1),
        ("GaussianScorer by protocol, 1 feature", gaussian, lambda: DeviationDetector(NAMES[:1]), MANY, 1),
        ("largest z", None, lambda: DeviationDetector(NAMES), MANY, 5),
        ("composite", None, lambda: Composite(NAMES), MANY, 5),
        ("composite, gated", None, lambda: GatedDetector(Composite(NAMES), UNUSUAL_SCORE, hold=False), MANY, 5),
    ]
    for name, base, make, batch_max, width in rows:
        detector = make()
        observed(detector, samples(300, width))
        costs = [here(make, batch, width) if batch <= batch_max else None for batch in BATCHES]
        line(name, base, costs, len(detector.snapshot()))
    line("composite, bank", None, [*map(banked, BATCHES)], len(Composite(NAMES).snapshot()))
    line("composite with a life, in market", None, [*map(living, BATCHES)], 300 + 220 * FEATURES)
    bare, size = alone(anomaly.HalfSpaceTrees(n_trees=25, height=8, seed=7)), len(HalfSpaceForest(FEATURES).snapshot())
    if detection.compiled() is not None:
        line("trees of a class, numba", bare, [*map(forest, BATCHES)], size)
    module: Any = forests
    module.compiled = lambda: None
    line("trees of a class, numpy", bare, [*map(forest, BATCHES)], size)
    snapshots(keys)


def snapshots(keys: int) -> None:
    """Time packing and restoring the models of many keys."""
    bank, lives, models, rows = CompositeArray(keys, NAMES), LifecycleModels(NAMES), make_models(NAMES), samples(2)
    for number in range(keys):
        lives.take()
        for row in rows:
            models.observe(ModelKey(ModelScope.INSTRUMENT, f"key{number}", "perpetual"), row)
    for where, make in (
        ("a bank", bank.snapshot),
        ("market", lambda: pack("lives", {"state": lives.snapshot()})),
        ("a registry", models.snapshot),
    ):
        with bench.spending() as packing:
            whole = make()
        print(
            f"{keys:,} keys of 5 columns in {where}: {1e3 * packing.cpu:.0f} ms, {len(whole) / keys:,.0f} bytes a key"
        )
    with bench.spending() as restoring:
        make_models(NAMES).restore(whole)
    print(f"those of a registry restored in {1e3 * restoring.cpu:.0f} ms")


if __name__ == "__main__":
    app()
