"""The alerts that a detector would have raised with other thresholds, from the scores that it gave.

A threshold does not change what models learn, so history need not be watched again: a score of ``alert_score`` or
more is an alert, unless the instrument had one within ``refractory_s``. The rules' own alerts stay as they were. This
is what ``market`` does (``operators/core/market/group.py``); a test holds the two together.
"""

from pathlib import Path
from typing import Any, NamedTuple

import orjson

from seawall.ops.lab.backtest.history import lines

Json = dict[str, Any]
ANOMALY = "anomaly"
EVER_US = 1 << 62


class Scored(NamedTuple):
    """What is needed of signals: (time, instrument, score) of all that was ready, the rules' alerts, and prices."""

    scores: list[tuple[int, str, float]]
    others: list[Json]
    series: dict[str, tuple[list[int], list[float]]]


def scored(signals: list[Path]) -> Scored:
    """Read the scores, the rules' alerts and the prices of signals."""
    found = Scored([], [], {})
    for path in signals:
        for time_us, _, _, line in lines(path, 0, EVER_US):
            signal = orjson.loads(line)
            for row in signal.get("instruments", ()):
                times, prices = found.series.setdefault(row["instrument"], ([], []))
                times.append(time_us)
                prices.append(row["price"])
                if row.get("state") == "ready":
                    found.scores.append((time_us, row["instrument"], row["score"]))
            for alert in signal.get("alerts", ()):
                if alert["kind"] != ANOMALY:
                    found.others.append({"as_of_us": time_us, "scope": alert["scope"], "kind": alert["kind"]})
    found.scores.sort()
    return found


def alerts(found: Scored, alert_score: float, refractory_s: float) -> list[Json]:
    """Return all alerts with these thresholds, in order of time."""
    refractory_us = int(refractory_s * 1_000_000)
    said: dict[str, int] = {}
    raised: list[Json] = []
    for time_us, name, score in found.scores:
        last = said.get(name)
        if score >= alert_score and (last is None or time_us - last >= refractory_us):
            said[name] = time_us
            raised.append({"as_of_us": time_us, "scope": f"instrument:{name}", "kind": ANOMALY})
    return sorted([*raised, *found.others], key=lambda one: (one["as_of_us"], one["scope"]))
