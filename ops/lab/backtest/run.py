"""A whole backtest: convert, watch the market, play every variant; each step in processes, each kept by content hash.

1. Every file of the history becomes input records.
2. Every instrument group of ``market`` becomes signals.
3. Every variant is played over both, while signals are still being made: a play follows them. What a step made before,
   of the same bytes and terms, is taken from the cache.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from seawall.ops.lab.backtest.detection import quality
from seawall.ops.lab.backtest.history import converted, jobs, lines
from seawall.ops.lab.backtest.plan import History, Plan, Variant, file_sha256, sha256_of
from seawall.ops.lab.backtest.play import Backtest, world_of
from seawall.ops.lab.backtest.results import Json, summary
from seawall.ops.lab.backtest.signals import write_signals
from seawall.ops.lab.backtest.stream import make_book, stream, survey
from seawall.ops.lab.cache import Cache
from seawall.ops.lab.growing import Growing
from seawall.ops.lab.workers import Job, Workers, teller
from seawall.schemas.configuration import journaled
from seawall.schemas.errors import UsageError

SIGNALS = ".signals.jsonl"
TAIL_BYTES = 1 << 18
EVER_US = 1 << 62
KEPT = ("kind", "scope", "text", "score")  # of an alert
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
    def growing(self) -> list[Growing]:
        """The signals, to be read while they are made."""
        return list(map(Growing, self.signals, self.parts))


def backtest(plan: Plan, cache: Cache, workers: Workers) -> Json:
    """Run a plan and return its result as plain values.

    Raises
    ------
    UsageError
        The plan or a file of its history cannot be used.
    """
    ready, watching = begin(plan, cache, workers)
    keys = [play_key(plan, variant, ready) for variant in plan.variants]
    seen = Job("judging detection", *ready.period_us, _market_told, (ready.growing, plan))
    *_, (told, prices, alerts) = workers.run([*watching, *_playing(plan.variants, keys, plan, ready, cache), seen])
    variants = _played(plan.variants, keys, cache)
    return {
        "plan": {"file": plan.path.name, "sha256": file_sha256(plan.path)},
        "configuration": plan.configuration.path.name,
        "period_us": list(ready.period_us),
        "inputs": ready.inputs,
        "signals": [{"group": group, "sha256": file_sha256(path)} for group, path in enumerate(ready.signals)],
        "detection": told | {"terms": plan.detection},
        "alerts": alerts,
        "prices": prices,
        "limits": plan.configuration.limits,
        "assumptions": {"reactions": plan.reactions, "book": plan.book},
        "variants": {found["name"]: found for found in variants},
    }


def prepare(plan: Plan, cache: Cache, workers: Workers) -> Prepared:
    """Convert the history and watch its market, in processes."""
    ready, watching = begin(plan, cache, workers)
    workers.run(watching)
    return ready


def begin(plan: Plan, cache: Cache, workers: Workers) -> tuple[Prepared, list[Job]]:
    """Convert the history, in processes; return what is ready then, and the jobs that watch its market."""
    asked = jobs(plan.history)
    reading = [Job(f"reading {names[0].name}", 0, 1, convert_job, (one, names, cache)) for one, names in asked]
    files: list[Path] = workers.run(reading)
    inputs = [{"file": name.name, "sha256": file_sha256(name)} for _, names in asked for name in names]
    names = [path.name for path in files]
    spans = [span for span in (_span(path, plan) for path in files) if span[1] > 0]
    if not spans or plan.first_us >= plan.last_us:
        raise UsageError(f"{plan.path.name}: the history has no event between from and to; correct them or its files")
    first_us, last_us = min(first for first, _ in spans), max(last for _, last in spans)
    terms = plan.configuration.market
    content = ["signals", names, plan.first_us, plan.last_us, msgspec.to_builtins(terms)]
    keys = [sha256_of([*content, group]) for group in range(terms.groups)]
    owner = os.getpid()
    watching = [
        Job(f"watching group {group}", first_us, last_us, _watch, (plan, files, cache, key, group, owner))
        for group, key in enumerate(keys)
    ]
    signals = [cache.path(key, SIGNALS) for key in keys]
    parts = [cache.part(key, SIGNALS, owner) for key in keys]
    digest = hashlib.sha256("".join([*names, *keys]).encode()).hexdigest()
    return Prepared(files, signals, parts, digest, inputs, (first_us, last_us)), watching


def _playing(variants: tuple[Variant, ...], keys: list[str], plan: Plan, ready: Prepared, cache: Cache) -> list[Job]:
    return [
        Job(f"playing {variant.name}", *ready.period_us, play_job, (plan, variant, ready, cache, key))
        for variant, key in zip(variants, keys, strict=True)
    ]


def _played(variants: tuple[Variant, ...], keys: list[str], cache: Cache) -> list[Json]:
    found = [orjson.loads(cache.path(key, ".play.json").read_bytes()) for key in keys]
    return [one | {"name": variant.name} for one, variant in zip(found, variants, strict=True)]


def play_key(plan: Plan, variant: Variant, ready: Prepared) -> str:
    """Return what names the result of one variant."""
    return sha256_of(["play", ready.sha256, plan.terms(), journaled(variant.configuration, None), variant.obeys])


def market_series(signals: Sequence[Path | Growing]) -> tuple[dict[str, tuple[list[int], list[float]]], list[Json]]:
    """Return each instrument's times and prices, and all alerts, as the signals tell them."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    alerts: list[Json] = []
    for path in signals:
        for time_us, _, _, line in lines(path, 0, EVER_US):
            signal = orjson.loads(line)
            for row in signal.get("instruments", ()):
                times, prices = series.setdefault(row["instrument"], ([], []))
                times.append(time_us)
                prices.append(row["price"])
            for alert in signal.get("alerts", ()):
                alerts.append({"as_of_us": time_us, **{name: alert[name] for name in KEPT if name in alert}})
    return series, sorted(alerts, key=lambda alert: (alert["as_of_us"], alert["scope"]))


def _sampled(times_us: list[int], prices: list[float]) -> list[list[float]]:
    """Return at most twice ``POINTS_MAX`` points: of each stretch the lowest and the highest price."""
    step = max(-(-len(times_us) // POINTS_MAX), 1)
    kept: set[int] = {0, len(prices) - 1}
    for at in range(0, len(prices), step):
        stretch = range(at, min(at + step, len(prices)))
        kept |= {min(stretch, key=prices.__getitem__), max(stretch, key=prices.__getitem__)}
    return [[times_us[at], prices[at]] for at in sorted(kept)]


def _span(path: Path, plan: Plan) -> tuple[int, int]:
    """Return the first and last event time of a converted file within the period; the last is 0 where it has none."""
    first = next((time_us for time_us, _, _, _ in lines(path, 0, EVER_US) if time_us >= 0), 0)
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
    return converted(one, files, cache)


def _watch(place: int, plan: Plan, files: list[Path], cache: Cache, key: str, group: int, owner: int) -> bool:
    def build(part: Path) -> None:
        write_signals(files, plan.first_us, plan.last_us, plan.configuration.market, group, part, teller(place))

    return cache.make(key, SIGNALS, build, owner)[1]


def _market_told(place: int, signals: list[Growing], plan: Plan) -> tuple[Json, Json, list[Json]]:
    """Return how good detection was, prices to be drawn, and all alerts."""
    series, alerts = market_series(signals)
    prices = {name: _sampled(*found) for name, found in sorted(series.items())}
    return quality(series, alerts, plan.detection).as_dict(), prices, alerts


def play_job(place: int, plan: Plan, variant: Variant, ready: Prepared, cache: Cache, key: str) -> bool:
    """Play one variant in a process, unless that was done; tell whether it was."""

    def build(part: Path) -> None:
        market = survey(ready.files, ready.growing, plan, cache)
        book = make_book(plan, market)
        played = Backtest(variant, world_of(plan, book, variant.obeys), teller(place))
        played.run(stream(plan, ready.files, ready.growing, market, book))
        clients = [name for name in sorted(played.result.equity) if not name.startswith("house/")]
        part.write_bytes(orjson.dumps(summary(variant.name, played, clients)))

    return cache.make(key, ".play.json", build)[1]
