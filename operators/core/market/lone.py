"""One detector with its alarm, for a key of anybody's stream: samples in; score, state and alert out."""

from collections.abc import Callable
from typing import Any, NamedTuple

from seawall.operators.core.detection.alarms import Alarm, AlarmRule, explain
from seawall.operators.core.detection.samples import Detector, Sample, Score, observe
from seawall.operators.core.snapshot import pack, unpack

SCHEMA = "detect/1"


class Detected(NamedTuple):
    """The answer to one sample; ``alert`` is one sentence, empty unless the alarm rings."""

    sample: Sample
    score: Score
    alert: str


class LoneDetector:
    """A detector and an alarm: ``step(sample) -> Detected``."""

    def __init__(self, detector: Detector, rule: AlarmRule) -> None:
        self._detector, self._alarm = detector, Alarm(rule)

    def step(self, sample: Any) -> Detected:
        """Score a sample, then learn it; ``sample`` is (time in µs or None, values)."""
        sample = Sample(*sample)
        score = observe(self._detector, sample)
        rings = self._alarm.rings(score)
        return Detected(sample, score._replace(detail=None), explain(self._detector.names, score) if rings else "")

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return pack(SCHEMA, {"detector": self._detector.snapshot(), "alarm": self._alarm.snapshot()})

    @classmethod
    def restore(cls, data: bytes, make: Callable[[], Detector], rule: AlarmRule) -> "LoneDetector":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(make(), rule)
        self._detector.restore(state["detector"])
        self._alarm.restore(state["alarm"])
        return self
