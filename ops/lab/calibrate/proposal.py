"""What a study proposes: an unsigned limit document with its evidence; nothing is signed or applied here.

Written into a folder:

- ``evidence.json``: every candidate, block, fold and cost, the hashes of history and plan, what is in force and what
  was chosen, and what the market looked like, against which drift is measured later;
- ``limits.toml``: the limits to change, for ``seawall limits propose WHERE --file limits.toml --reason calibration``;
- ``document.json``: the bytes that a maker would sign. Its comment names the SHA-256 of ``evidence.json``;
- ``settings.json``: values of the playbook and of ``[market]`` that a person may take over into those files.

The last three only where calibration beats what is in force out of sample.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from seawall.ops.lab.backtest.plan import code_sha256, file_sha256
from seawall.ops.lab.calibrate.fit import Fitted
from seawall.ops.lab.calibrate.study import Study, apply
from seawall.ops.limits import DAY_US, VALID_DAYS, Changes, make_proposal, standing

Json = dict[str, Any]
DECILES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def evidence_of(study: Study, fitted: Fitted) -> Json:
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
        "reference": reference_of([score for _, _, score in fitted.scores.scores]),
    }


def reference_of(scores: list[float]) -> Json:
    """Return how scores were distributed: the deciles that later ones are counted between."""
    edges = np.quantile(scores, DECILES).tolist() if scores else []
    return {"scores": len(scores), "deciles": edges}


def write(study: Study, fitted: Fitted, folder: Path, now_us: int) -> list[Path]:
    """Write evidence and, where calibration is better, proposals; return the files.

    Parameters
    ----------
    now_us
        When the document is made, microseconds since the epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    evidence = json.dumps(evidence_of(study, fitted), indent=1, sort_keys=True).encode() + b"\n"
    written = [_write(folder / "evidence.json", evidence)]
    chosen: dict[str, float] = {}
    for one in fitted.fits:
        chosen |= one.candidates[one.chosen] if one.beats else {}
    limits = _changed_limits(study, {name: v for name, v in chosen.items() if name.startswith("limits.")})
    if limits:
        written.append(_write(folder / "limits.toml", _toml(limits).encode()))
        written.append(_write(folder / "document.json", _document(study, limits, evidence, now_us)))
    settings = {name: value for name, value in chosen.items() if not name.startswith("limits.")}
    if settings:
        written.append(_write(folder / "settings.json", json.dumps(settings, indent=1, sort_keys=True).encode()))
    return written


def _changed_limits(study: Study, values: dict[str, float]) -> list[Json]:
    before = {limit["id"]: limit for limit in study.plan.configuration.limits}
    after = apply(study.plan.configuration, values).limits if values else []
    return [limit for limit in after if limit != before[limit["id"]]]


def _document(study: Study, limits: list[Json], evidence: bytes, now_us: int) -> bytes:
    configuration = study.plan.configuration
    policy = standing(configuration).policy
    comment = f"calibrated on {study.plan.path.name}; evidence sha256 {hashlib.sha256(evidence).hexdigest()}"
    times = (now_us, now_us, now_us + VALID_DAYS * DAY_US)
    return make_proposal(configuration, policy, Changes(limits, [], []), "calibration", comment, times)


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


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
