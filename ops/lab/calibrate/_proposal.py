"""Proposal of a study, an unsigned limit document with its evidence, and drift away from an earlier calibration.

Nothing is signed or applied here. Written into a folder:

- ``evidence.json``: every candidate, block, fold and cost, the hashes of history and plan, the values in force and the
  chosen ones, and the distribution of scores, against which drift is measured later;
- ``limits.toml``: the limits to change, for ``seawall limits propose WHERE --file limits.toml --reason calibration``;
- ``document.json``: the bytes that a maker would sign. Its comment names the SHA-256 of ``evidence.json``;
- ``settings.json``: values of the playbook and of ``[market]`` that a person may take over into those files.

The last three only where calibration beats the values in force out of sample.

Drift answers two questions from what the live run published: are the values in force still those that were calibrated,
and do scores still fall where they fell? The second is the population stability index over the deciles of the
calibration: ``sum((a - e) ln(a / e))`` with the shares now and then; 0.1 is worth a look, from 0.25 on the calibration
no longer describes the market (the thresholds are those that credit scoring uses).
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from seawall.connectors.bus import open_bus, read_all
from seawall.ops.lab.backtest import code_sha256, file_sha256
from seawall.ops.lab.calibrate._fit import Fitted
from seawall.ops.lab.calibrate._study import Study, apply_values
from seawall.ops.reports import DAY_US, RequestedChanges, make_proposal, read_limits
from seawall.schemas.configuration import Configuration
from seawall.schemas.evidence import LIMITS_VALID_DAYS

# Proposals: an unsigned limit document with its evidence; nothing is signed or applied here.

Json = dict[str, Any]
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
    policy = read_limits(configuration).policy
    comment = f"calibrated on {study.plan.path.name}; evidence sha256 {hashlib.sha256(evidence).hexdigest()}"
    times = (now_us, now_us, now_us + LIMITS_VALID_DAYS * DAY_US)
    return make_proposal(configuration, policy, RequestedChanges(limits, [], []), "calibration", comment, times)


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
