"""Fit of a study: every candidate over every block, the choice of walk-forward, and whether it was better.

Limits and playbooks are judged by the cost of acting, on the plan's last variant; a detector by its misses and false
alarms. The two do not share parameters, so each is fitted on its own. Every play is kept by content hash, so a
scheduled run only plays what is new. A detector's threshold does not change what models learn, so history need not be
watched again: a score of ``alert_score`` or more is an alert, unless the instrument had one within ``refractory_s``.
The rules' own alerts stay. This is what ``market`` does; a test holds the two together.
"""

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from seawall.connectors.bus import open_bus, read_all
from seawall.ops.lab.backtest._history import read_lines
from seawall.ops.lab.backtest._plan import BacktestPlan, Variant, file_sha256
from seawall.ops.lab.backtest._play import detection_quality
from seawall.ops.lab.backtest._run import Prepared, play_job, play_key, prepare_history
from seawall.ops.lab.backtest._study import (
    ALERT_SCORE,
    Block,
    JudgedFold,
    Parameter,
    Study,
    apply_values,
    blocks,
    candidates,
    cheapest_candidate,
    walk_forward,
)
from seawall.ops.lab.backtest._work import Cache, Job, Workers, code_sha256
from seawall.ops.reports import RequestedChanges, read_limits
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import UsageError

# The alerts that a detector would have raised with other thresholds, from the scores that it gave.

Json = dict[str, Any]
ANOMALY = "anomaly"
EVER_US = 1 << 62


class ScoredSignals(NamedTuple):
    """Scored signals: (time, instrument, score) of all that was ready, the rules' alerts, and prices."""

    scores: list[tuple[int, str, float]]
    others: list[Json]
    series: dict[str, tuple[list[int], list[float]]]


def read_scores(signals: list[Path]) -> ScoredSignals:
    """Read the scores, the rules' alerts and the prices of signals."""
    found = ScoredSignals([], [], {})
    for path in signals:
        for time_us, _, _, line in read_lines(path, 0, EVER_US):
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


def alerts_at_threshold(found: ScoredSignals, alert_score: float, refractory_s: float) -> list[Json]:
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


# Running a study: every candidate over every block, what walk-forward would have chosen, and whether that was better.

SIGN_LEAST = 5  # folds below which no count of better ones means much: one half to the fifth is 3 %


class Fit(NamedTuple):
    """The result of one part of a study."""

    part: str
    names: tuple[str, ...]
    candidates: list[dict[str, float]]
    costs: list[list[float]]
    judged: list[JudgedFold]
    chosen: int

    @property
    def train_gain(self) -> float:
        """Mean saving per block where it was fitted: what fitting promises."""
        return sum(one.train_default - one.train for one in self.judged) / len(self.judged)

    @property
    def test_gain(self) -> float:
        """Mean saving per block where it was not fitted: what it kept."""
        return sum(one.test_default - one.test for one in self.judged) / len(self.judged)

    @property
    def beats(self) -> bool:
        """Return whether walk-forward choices cost less out of sample in all, and in no fewer folds less than more."""
        better = sum(one.test < one.test_default for one in self.judged)
        worse = sum(one.test > one.test_default for one in self.judged)
        return self.test_gain > 0 and better >= worse and self.chosen != 0

    def sentence(self) -> str:
        """Return plainly what came out."""
        better = sum(one.test < one.test_default for one in self.judged)
        worse = sum(one.test > one.test_default for one in self.judged)
        count = len(self.judged)
        verb = "beats" if self.beats else "does not beat"
        quality = (
            f"{self.part}: calibration {verb} the values in force out of sample: {self.test_gain:+,.4g} saved per "
            f"block where judged, {self.train_gain:+,.4g} where fitted; "
            f"better in {better}, worse in {worse} of {count} folds"
        )
        return quality if count >= SIGN_LEAST else f"{quality}; {count} folds are too few to be sure"

    def as_dict(self) -> Json:
        """Return the fit as JSON values."""
        return {
            "part": self.part, "names": list(self.names), "beats": self.beats, "said": self.sentence(),
            "train_gain": self.train_gain, "test_gain": self.test_gain,
            "in_force": self.candidates[0], "chosen": self.candidates[self.chosen],
            "folds": [
                {"train": list(one.fold.train), "test": one.fold.test, "chosen": self.candidates[one.chosen],
                 "cost_train": one.train, "cost_train_in_force": one.train_default, "cost_test": one.test,
                 "cost_test_in_force": one.test_default, "rank_of_chosen_in_test": one.test_rank}
                for one in self.judged
            ],
            "costs": [
                {"values": values, "by_block": row} for values, row in zip(self.candidates, self.costs, strict=True)
            ],
        }  # fmt: skip


class Fitted(NamedTuple):
    """All parts of a study, with the blocks and the history that they stand on."""

    fits: list[Fit]
    blocks: list[Block]
    ready: Prepared
    scores: ScoredSignals


def fit_study(study: Study, cache: Cache, workers: Workers) -> Fitted:
    """Run a study.

    Raises
    ------
    UsageError
        The history is too short for its blocks.
    """
    ready = prepare_history(study.plan, cache, workers)
    try:
        cut = blocks(*ready.period_us, study.blocks, study.embargo_us)
    except ValueError as error:
        raise UsageError(f"{study.path.name}: {error}") from None
    found = read_scores(ready.signals)
    acting = tuple(one for one in study.parameters if not one.name.startswith("market."))
    detecting = tuple(one for one in study.parameters if one.name.startswith("market."))
    fits = []
    if acting:
        fits.append(_fitted("limits and playbook", study, acting, _play_costs(study, ready, cut, cache, workers)))
    if detecting:
        fits.append(_fitted("detector", study, detecting, lambda tried: _detector_costs(study, found, cut, tried)))
    return Fitted(fits, cut, ready, found)


Costs = Callable[[Sequence[dict[str, float]]], list[list[float]]]


def _fitted(part: str, study: Study, parameters: tuple[Parameter, ...], costs_of: Costs) -> Fit:
    tried = candidates(study, parameters)
    costs = costs_of(tried)
    chosen = cheapest_candidate([sum(row) for row in costs])
    return Fit(part, tuple(one.name for one in parameters), tried, costs, walk_forward(costs), chosen)


def _play_costs(study: Study, ready: Prepared, cut: list[Block], cache: Cache, workers: Workers) -> Costs:
    def costs_of(tried: Sequence[dict[str, float]]) -> list[list[float]]:
        last = study.plan.variants[-1]
        pairs: list[tuple[BacktestPlan, Variant]] = []
        for values in tried:
            variant = last._replace(configuration=apply_values(last.configuration, values))
            for block in cut:
                pairs.append((study.plan._replace(first_us=block.first_us, last_us=block.last_us), variant))
        keys = [play_key(plan, variant, ready) for plan, variant in pairs]
        workers.run(
            (
                Job("", plan.first_us, plan.last_us, play_job, (plan, variant, ready, cache, key))
                for (plan, variant), key in zip(pairs, keys, strict=True)
            ),
            f"playing {len(tried)} candidates over {len(cut)} blocks",
        )
        flat = [_cost(cache, key, study.objective) for key in keys]
        return [flat[at : at + len(cut)] for at in range(0, len(flat), len(cut))]

    return costs_of


def _cost(cache: Cache, key: str, objective: dict[str, float]) -> float:
    found = orjson.loads(cache.path(key, ".play.json").read_bytes())
    commands = sum(found["command_kinds"].values())
    return float(found["loss"] + objective["close_out"] * found["closed_out"] + objective["command"] * commands)


def _detector_costs(
    study: Study, found: ScoredSignals, cut: list[Block], tried: Sequence[dict[str, float]]
) -> list[list[float]]:
    refractory_s = study.plan.configuration.market.refractory_s
    raised = [alerts_at_threshold(found, values[ALERT_SCORE], refractory_s) for values in tried]
    return [[_detector_cost(study, found, block, quality) for block in cut] for quality in raised]


def _detector_cost(study: Study, found: ScoredSignals, block: Block, raised: Sequence[Json]) -> float:
    series = {}
    for name, (times, prices) in found.series.items():
        inside = slice(bisect_left(times, block.first_us), bisect_left(times, block.last_us))
        if times[inside]:
            series[name] = times[inside], prices[inside]
    mine = [one for one in raised if block.first_us <= one["as_of_us"] < block.last_us]
    quality = detection_quality(series, mine, study.plan.detection)
    return study.objective["missed"] * (quality.episodes - quality.told) + study.objective["false"] * quality.false


# Proposal of a study, an unsigned limit document with its evidence, and drift away from an earlier calibration.
#
# Nothing is signed or applied here. Written into a folder:
#
# - ``evidence.json``: every candidate, block, fold and cost, the hashes of history and plan, the values in force and
#   the chosen ones, and the distribution of scores, against which drift is measured later;
# - ``limits.toml``: the limits to change, for ``seawall limits propose WHERE --file limits.toml --reason calibration``;
# - ``document.json``: the bytes that a maker would sign. Its comment names the SHA-256 of ``evidence.json``;
# - ``settings.json``: values of the playbook and of ``[market]`` that a person may take over into those files.
#
# The last three only where calibration beats the values in force out of sample.
#
# Drift answers two questions from what the live run published: are the values in force still those that were
# calibrated, and do scores still fall where they fell? The second is the population stability index over the deciles of
# the calibration: ``sum((a - e) ln(a / e))`` with the shares now and then; 0.1 is worth a look, from 0.25 on the
# calibration no longer describes the market (the thresholds are those that credit scoring uses).

# Proposals: an unsigned limit document with its evidence; nothing is signed or applied here.


DECILES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def study_evidence(study: Study, fitted: Fitted) -> Json:
    """Return what a proposal rests on, as JSON values; the same bytes give the same evidence."""
    return {
        "study": {"file": study.path.name, "sha256": file_sha256(study.path)},
        "plan": {"file": study.plan.path.name, "sha256": file_sha256(study.plan.path)},
        "code_sha256": code_sha256(),
        "inputs": fitted.ready.inputs,
        "period_us": list(fitted.ready.period_us),
        "blocks": [list(block) for block in fitted.blocks],
        "embargo_us": study.embargo_us,
        "objective": study.objective,
        "fits": [one.as_dict() for one in fitted.fits],
        "reference": score_reference([score for _, _, score in fitted.scores.scores]),
    }


def score_reference(scores: list[float]) -> Json:
    """Return how scores were distributed: the deciles that later ones are counted between."""
    edges = np.quantile(scores, DECILES).tolist() if scores else []
    return {"scores": len(scores), "deciles": edges}


def write_proposal(study: Study, fitted: Fitted, folder: Path, now_us: int) -> list[Path]:
    """Write evidence and, where calibration is better, proposals; return the files.

    Parameters
    ----------
    now_us
        When the document is made, microseconds since the epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    evidence = json.dumps(study_evidence(study, fitted), indent=1, sort_keys=True).encode() + b"\n"
    written = [_write_file(folder / "evidence.json", evidence)]
    chosen: dict[str, float] = {}
    for one in fitted.fits:
        chosen |= one.candidates[one.chosen] if one.beats else {}
    limits = _changed_limits(study, {name: v for name, v in chosen.items() if name.startswith("limits.")})
    if limits:
        written.append(_write_file(folder / "limits.toml", _toml(limits).encode()))
        written.append(_write_file(folder / "document.json", _document(study, limits, evidence, now_us)))
    settings = {name: value for name, value in chosen.items() if not name.startswith("limits.")}
    if settings:
        written.append(_write_file(folder / "settings.json", json.dumps(settings, indent=1, sort_keys=True).encode()))
    return written


def _changed_limits(study: Study, values: dict[str, float]) -> list[Json]:
    before = {limit["id"]: limit for limit in study.plan.configuration.limits}
    after = apply_values(study.plan.configuration, values).limits if values else []
    return [limit for limit in after if limit != before[limit["id"]]]


def _document(study: Study, limits: list[Json], evidence: bytes, now_us: int) -> bytes:
    configuration = study.plan.configuration
    comment = f"calibrated on {study.plan.path.name}; evidence sha256 {hashlib.sha256(evidence).hexdigest()}"
    changes = RequestedChanges(limits, [], [])
    return read_limits(configuration).propose(configuration, changes, "calibration", comment, now_us)


def _toml(limits: list[Json]) -> str:
    return "\n".join(
        "[[limit]]\n" + "".join(f"{name} = {_value(value)}\n" for name, value in limit.items()) for limit in limits
    )


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_value(part)}" for name, part in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


def _write_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# Drift: the live system moves away from what it was calibrated to.

LOOK, DRIFTED = 0.1, 0.25
SHARE_MIN = 1e-4  # of an empty decile: the index would be infinite
SCORES_MIN = 1_000


class Drift(NamedTuple):
    """Drift: values that differ from those calibrated, and the stability index of scores (None: too few)."""

    differs: list[str]
    scores: int
    stability: float | None

    @property
    def found(self) -> bool:
        """Return whether a person should look."""
        return bool(self.differs) or (self.stability is not None and self.stability >= DRIFTED)

    def as_dict(self) -> Json:
        """Return the drift as JSON values."""
        return {**self._asdict(), "drift": self.found}

    def lines(self) -> list[str]:
        """Return the drift for a person."""
        differences = [f"differs from what was calibrated: {line}" for line in self.differs]
        if self.stability is None:
            differences.append(f"scores: {self.scores} are too few to compare, at least {SCORES_MIN} are needed")
        else:
            said = (
                "no drift"
                if self.stability < LOOK
                else "worth a look"
                if self.stability < DRIFTED
                else "drifted: calibrate"
            )
            differences.append(f"scores: stability index {self.stability:.3f} over {self.scores:,} scores: {said}")
        return differences


def measure_drift(study: Study, evidence: Json, live: Configuration) -> Drift:
    """Compare a live run with the evidence of its calibration."""
    bus = open_bus(live.bus, live.directory)
    try:
        scores = [
            row["score"]
            for group in bus.partitions("signals")
            for stored in read_all(bus, "signals", group)
            for row in orjson.loads(stored.value).get("instruments", ())
            if row.get("state") == "ready"
        ]
    finally:
        bus.close()
    edges = evidence["reference"]["deciles"]
    index = stability(scores, edges) if len(scores) >= SCORES_MIN and edges else None
    return Drift(_differs(study, evidence, live), len(scores), index)


def stability(values: Sequence[float], edges: Sequence[float]) -> float:
    """Return the population stability index of values against shares that were equal between edges.

    Examples
    --------
    >>> round(stability([0.5, 1.5, 2.5, 3.5], [1.0, 2.0, 3.0]), 3)
    0.0
    """
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[sum(value >= edge for edge in edges)] += 1
    expected = 1 / len(counts)
    shares = [max(count / len(values), SHARE_MIN) for count in counts]
    return sum((share - expected) * math.log(share / expected) for share in shares)


def _differs(study: Study, evidence: Json, live: Configuration) -> list[str]:
    """Return the limits in force that are not what was calibrated, where calibration was better."""
    values = {
        name: value for one in evidence["fits"] if one["beats"] for name, value in one["chosen"].items()
        if name.startswith("limits.")
    }  # fmt: skip
    if not values:
        return []
    wanted = {limit["id"]: limit for limit in apply_values(study.plan.configuration, values).limits}
    in_force = read_limits(live).policy.limits
    found = []
    for name in {path.split(".")[1] for path in values}:
        for field, value in wanted[name].items():
            current = in_force.get(name, {}).get(field)
            if current != value:
                found.append(f"limit {name}: {field} is {current}, calibrated {value}")
    return sorted(found)
