"""Backtest: convert the history, watch the market, play every variant, and sum up; each step is kept by content hash.

1. Every file of the history becomes input records.
2. Every instrument group of ``market`` becomes signals.
3. Every variant is played over both, while signals are still being made: a play follows them. A step that was made
   before, of the same bytes and terms, is taken from the cache.
4. Results are plain values, for a report, a gate in CI or the cache, and lines for a terminal.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from seawall.ops.lab.backtest._history import conversion_jobs, converted_file, read_lines, write_signals
from seawall.ops.lab.backtest._plan import BacktestPlan, History, Variant, file_sha256
from seawall.ops.lab.backtest._play import FIGURES, VariantPlay, detection_quality, reactions_of_plan
from seawall.ops.lab.backtest._stream import make_book, read_stream, survey_market
from seawall.ops.lab.backtest._var_tests import evaluate_figures
from seawall.ops.lab.backtest._work import Cache, GrowingFile, Job, Workers, progress_reporter
from seawall.ops.lab.report import compared_variants
from seawall.schemas.configuration import journaled_configuration
from seawall.schemas.errors import UsageError

# What a variant came to, as plain values: everything a report, a gate in CI or a cache needs of it.

Json = dict[str, Any]
LISTED_MAX = 5_000  # breaches and commands listed one by one; all are counted
SCOPES_MAX = 40  # counterparties whose figures are tested, of most observations


def summarise_variant(name: str, played: VariantPlay, clients: list[str]) -> Json:
    """Return the result of one variant.

    Parameters
    ----------
    clients
        Accounts of clients: what they cannot pay is the firm's loss.
    """
    result, trace = played.result, played.trace
    delays = sorted(result.delays_s())
    return {
        "name": name,
        "journal_sha256": played.sha256,
        "slices": played.slices,
        "records": played.records,
        "rejected": played.rejected,
        "loss": result.loss(clients),
        "shortfall": result.shortfall(clients),
        "closed_out": played.closed_out,
        "shortfall_max": result.shortfall_max,
        "clients": len(clients),
        "insolvent": sum(result.equity.get(one, 0.0) < 0 for one in clients),
        "paper_pnl": result.firm.get("pnl", 0.0),
        "peak_exposure": result.peaks.get("firm", 0.0),
        "breach_levels": dict(Counter(f"{one['limit']} {one['level']}" for one in result.breaches)),
        "command_kinds": dict(Counter(one["type"] for one in result.commands)),
        "withheld": dict(Counter(one["kind"] for one in result.withheld)),
        "delay_s": {"median": delays[len(delays) // 2], "most": delays[-1]} if delays else {},
        "dropped": result.dropped,
        "equity": result.equity,
        "breaches": [_breach(one) for one in result.breaches[:LISTED_MAX]],
        "commands": [_command(one) for one in result.commands[:LISTED_MAX]],
        "trace": {
            "times_us": trace.times_us,
            "worst_us": trace.worst_us,
            "firm": trace.firm,
            "shortfall": trace.shortfall,
            "hours": {account: sorted(hours.items()) for account, hours in trace.hours.items()},
        },
        "verdicts": variant_verdicts(played),
    }


def variant_verdicts(played: VariantPlay) -> list[Json]:
    """Return what the tests say of the figures that ran live, firm first."""
    found = []
    rows = played.hourly.rows
    parties = sorted((scope for scope in rows if scope != "firm"), key=lambda scope: (-len(rows[scope]), scope))
    for every in FIGURES:
        for scope in ("firm", *parties[:SCOPES_MAX]):
            observed = played.hourly.observations(scope, every)
            if observed:
                found.append(evaluate_figures(scope, every, observed).as_dict())
    return found


def _breach(one: Json) -> Json:
    kept = ("as_of_us", "limit", "scope", "measure", "value", "bound", "level", "previous_level", "cause")
    return {name: one[name] for name in kept}


def _command(one: Json) -> Json:
    target = f"{one['target']['scope']}:{one['target']['id']}"
    return {"as_of_us": one["iat_us"], "type": one["type"], "target": target, "rule": one["reason"].get("rule", "")}


# A whole backtest: convert, watch the market, play every variant; each step in processes, each kept by content hash.

SIGNALS = ".signals.jsonl"
TAIL_BYTES = 1 << 18
EVER_US = 1 << 62
ALERT_FIELDS_KEPT = ("kind", "scope", "text", "score")  # of an alert
POINTS_MAX = 400  # of an instrument's price in a result


class Prepared(NamedTuple):
    """History ready to be played: converted files, signals per group, the hash of both, and its period.

    Signals stand at ``parts`` while they are made.
    """

    files: list[Path]
    signals: list[Path]
    parts: list[Path]
    sha256: str
    inputs: list[Json]
    period_us: tuple[int, int]

    @property
    def growing(self) -> list[GrowingFile]:
        """The signals, to be read while they are made."""
        return list(map(GrowingFile, self.signals, self.parts))


def backtest(plan: BacktestPlan, cache: Cache, workers: Workers) -> Json:
    """Run a plan and return its result as plain values.

    Raises
    ------
    UsageError
        The plan or a file of its history cannot be used.
    """
    ready, watching = begin_preparation(plan, cache, workers)
    keys = [play_key(plan, variant, ready) for variant in plan.variants]
    seen = Job("judging detection", *ready.period_us, _market_report, (ready.growing, plan))
    *_, (lines, prices, alerts) = workers.run([*watching, *_playing(plan.variants, keys, plan, ready, cache), seen])
    variants = _played(plan.variants, keys, cache)
    return {
        "plan": {"file": plan.path.name, "sha256": file_sha256(plan.path)},
        "configuration": plan.configuration.path.name,
        "period_us": list(ready.period_us),
        "inputs": ready.inputs,
        "signals": [{"group": group, "sha256": file_sha256(path)} for group, path in enumerate(ready.signals)],
        "detection": lines | {"terms": plan.detection},
        "alerts": alerts,
        "prices": prices,
        "limits": plan.configuration.limits,
        "assumptions": {"reactions": plan.reactions, "book": plan.book},
        "variants": {found["name"]: found for found in variants},
    }


def prepare_history(plan: BacktestPlan, cache: Cache, workers: Workers) -> Prepared:
    """Convert the history and watch its market, in processes."""
    ready, watching = begin_preparation(plan, cache, workers)
    workers.run(watching)
    return ready


def begin_preparation(plan: BacktestPlan, cache: Cache, workers: Workers) -> tuple[Prepared, list[Job]]:
    """Convert the history, in processes; return what is ready then, and the jobs that watch its market."""
    jobs = conversion_jobs(plan.history)
    reading = [Job(f"reading {names[0].name}", 0, 1, convert_job, (one, names, cache)) for one, names in jobs]
    files: list[Path] = workers.run(reading)
    inputs = [{"file": name.name, "sha256": file_sha256(name)} for _, names in jobs for name in names]
    names = [path.name for path in files]
    spans = [span for span in (_span(path, plan) for path in files) if span[1] > 0]
    if not spans or plan.first_us >= plan.last_us:
        raise UsageError(f"{plan.path.name}: the history has no event between from and to; correct them or its files")
    first_us, last_us = min(first for first, _ in spans), max(last for _, last in spans)
    terms = plan.configuration.market
    content = ["signals", names, plan.first_us, plan.last_us, msgspec.to_builtins(terms)]
    keys = [Cache.key([*content, group]) for group in range(terms.groups)]
    owner = os.getpid()
    watching = [
        Job(f"watching group {group}", first_us, last_us, _watch, (plan, files, cache, key, group, owner))
        for group, key in enumerate(keys)
    ]
    signals = [cache.path(key, SIGNALS) for key in keys]
    parts = [cache.part(key, SIGNALS, owner) for key in keys]
    digest = hashlib.sha256("".join([*names, *keys]).encode()).hexdigest()
    return Prepared(files, signals, parts, digest, inputs, (first_us, last_us)), watching


def _playing(
    variants: tuple[Variant, ...], keys: list[str], plan: BacktestPlan, ready: Prepared, cache: Cache
) -> list[Job]:
    return [
        Job(f"playing {variant.name}", *ready.period_us, play_job, (plan, variant, ready, cache, key))
        for variant, key in zip(variants, keys, strict=True)
    ]


def _played(variants: tuple[Variant, ...], keys: list[str], cache: Cache) -> list[Json]:
    found = [orjson.loads(cache.path(key, ".play.json").read_bytes()) for key in keys]
    return [one | {"name": variant.name} for one, variant in zip(found, variants, strict=True)]


def play_key(plan: BacktestPlan, variant: Variant, ready: Prepared) -> str:
    """Return what names the result of one variant."""
    return Cache.key(
        ["play", ready.sha256, plan.terms(), journaled_configuration(variant.configuration, None), variant.obeys]
    )


def market_series(signals: Sequence[Path | GrowingFile]) -> tuple[dict[str, tuple[list[int], list[float]]], list[Json]]:
    """Return each instrument's times and prices, and all alerts, as the signals tell them."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    alerts: list[Json] = []
    for path in signals:
        for time_us, _, _, line in read_lines(path, 0, EVER_US):
            signal = orjson.loads(line)
            for row in signal.get("instruments", ()):
                times, prices = series.setdefault(row["instrument"], ([], []))
                times.append(time_us)
                prices.append(row["price"])
            for alert in signal.get("alerts", ()):
                alerts.append(
                    {"as_of_us": time_us, **{name: alert[name] for name in ALERT_FIELDS_KEPT if name in alert}}
                )
    return series, sorted(alerts, key=lambda alert: (alert["as_of_us"], alert["scope"]))


def _sampled(times_us: list[int], prices: list[float]) -> list[list[float]]:
    """Return at most twice ``POINTS_MAX`` points: of each stretch the lowest and the highest price."""
    step = max(-(-len(times_us) // POINTS_MAX), 1)
    kept: set[int] = {0, len(prices) - 1}
    for at in range(0, len(prices), step):
        stretch = range(at, min(at + step, len(prices)))
        kept |= {min(stretch, key=prices.__getitem__), max(stretch, key=prices.__getitem__)}
    return [[times_us[at], prices[at]] for at in sorted(kept)]


def _span(path: Path, plan: BacktestPlan) -> tuple[int, int]:
    """Return the first and last event time of a converted file within the period; the last is 0 where it has none."""
    first = next((time_us for time_us, _, _, _ in read_lines(path, 0, EVER_US) if time_us >= 0), 0)
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        tail = file.read().splitlines()
    last = next((found for line in reversed(tail) if (found := _time_of(line))), 0)
    return max(first, plan.first_us), min(last, plan.last_us)


def _time_of(line: bytes) -> int:
    try:
        found: Any = orjson.loads(line).get("event_time_us", 0)
        return int(found)
    except (orjson.JSONDecodeError, AttributeError, ValueError):
        return 0  # the first line of the tail may be half a one


# --- in the processes -------------------------------------------------------------------------------------------------


def convert_job(place: int, one: History, files: tuple[Path, ...], cache: Cache) -> Path:
    """Convert files in a process, unless that was done."""
    return converted_file(one, files, cache)


def _watch(place: int, plan: BacktestPlan, files: list[Path], cache: Cache, key: str, group: int, owner: int) -> bool:
    def build(part: Path) -> None:
        write_signals(
            files, plan.first_us, plan.last_us, plan.configuration.market, group, part, progress_reporter(place)
        )

    return cache.make(key, SIGNALS, build, owner)[1]


def _market_report(place: int, signals: list[GrowingFile], plan: BacktestPlan) -> tuple[Json, Json, list[Json]]:
    """Return how good detection was, prices to be drawn, and all alerts."""
    series, alerts = market_series(signals)
    prices = {name: _sampled(*found) for name, found in sorted(series.items())}
    return detection_quality(series, alerts, plan.detection).as_dict(), prices, alerts


def play_job(place: int, plan: BacktestPlan, variant: Variant, ready: Prepared, cache: Cache, key: str) -> bool:
    """Play one variant in a process, unless that was done; tell whether it was."""

    def build(part: Path) -> None:
        market = survey_market(ready.files, ready.growing, plan, cache)
        book = make_book(plan, market)
        played = VariantPlay(variant, reactions_of_plan(plan, book, variant.obeys), progress_reporter(place))
        played.run(read_stream(plan, ready.files, ready.growing, market, book))
        clients = [name for name in sorted(played.result.equity) if not name.startswith("house/")]
        part.write_bytes(orjson.dumps(summarise_variant(variant.name, played, clients)))

    return cache.make(key, ".play.json", build)[1]


# What a backtest came to, in lines for a terminal and in figures for gates.

RESULT_FIGURES = (
    "loss",
    "shortfall",
    "shortfall_max",
    "closed_out",
    "insolvent",
    "peak_exposure",
    "rejected",
    "slices",
)


def result_figures(result: Json) -> Json:
    """Return the figures that gates and ``--json`` name: of each variant, of detection, and what mitigation saved."""
    found: Json = {name: {key: one[key] for key in RESULT_FIGURES} for name, one in result["variants"].items()}
    for name, one in result["variants"].items():
        found[name]["breaches"] = sum(one["breach_levels"].values())
        found[name]["hard"] = sum(n for level, n in one["breach_levels"].items() if level.endswith(" hard"))
        found[name]["commands"] = sum(one["command_kinds"].values())
        found[name]["refused"] = sum(len(verdict["refused"]) for verdict in one["verdicts"])
    found["detection"] = {key: value for key, value in result["detection"].items() if key not in ("terms", "lead_s")}
    pair = compared_variants(result)
    if pair is not None:
        found["saved"] = pair[0]["loss"] - pair[1]["loss"]
        found["saved_worst"] = pair[0]["shortfall_max"] - pair[1]["shortfall_max"]
    return found
