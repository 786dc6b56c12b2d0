"""Whether the live system has moved away from what it was calibrated to.

Two questions, both answered from what the live run published: are the values in force still those that were calibrated,
and do scores still fall where they fell? The second is the population stability index over the deciles of the
calibration: ``sum((a - e) ln(a / e))`` with the shares now and then; 0.1 is worth a look, from 0.25 on the calibration
no longer describes the market (the thresholds are those that credit scoring uses).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from seawall.connectors.bus import open_bus, read_all
from seawall.ops.lab.calibrate.study import Study, apply
from seawall.ops.limits import standing
from seawall.schemas.configuration import Configuration

Json = dict[str, Any]
LOOK, DRIFTED = 0.1, 0.25
SHARE_MIN = 1e-4  # of an empty decile: the index would be infinite
SCORES_MIN = 1_000


class Drift(NamedTuple):
    """What moved: values that differ from those calibrated, and the stability index of scores (None: too few)."""

    differs: list[str]
    scores: int
    stability: float | None

    @property
    def found(self) -> bool:
        """Whether a person should look."""
        return bool(self.differs) or (self.stability is not None and self.stability >= DRIFTED)

    def as_dict(self) -> Json:
        """Return the drift as JSON values."""
        return {**self._asdict(), "drift": self.found}

    def lines(self) -> list[str]:
        """Return the drift for a person."""
        told = [f"differs from what was calibrated: {line}" for line in self.differs]
        if self.stability is None:
            told.append(f"scores: {self.scores} are too few to compare, at least {SCORES_MIN} are needed")
        else:
            said = (
                "no drift"
                if self.stability < LOOK
                else "worth a look"
                if self.stability < DRIFTED
                else "drifted: calibrate"
            )
            told.append(f"scores: stability index {self.stability:.3f} over {self.scores:,} scores: {said}")
        return told


def drift(study: Study, evidence: Json, live: Configuration) -> Drift:
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
    wanted = {limit["id"]: limit for limit in apply(study.plan.configuration, values).limits}
    in_force = standing(live).policy.limits
    found = []
    for name in {path.split(".")[1] for path in values}:
        for field, value in wanted[name].items():
            stands = in_force.get(name, {}).get(field)
            if stands != value:
                found.append(f"limit {name}: {field} is {stands}, calibrated {value}")
    return sorted(found)
