"""Alerts: from scores to few messages, one series at a time.

`AlertState` turns scores into alerts by a rule, `AlertPolicy` joins a learned score with a circuit-breaker rule, and
`SingleDetector` is a detector with its alert for one key of any stream.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from seawall.operators.core.base import pack, pack_numbers, pack_parts, unpack, unpack_numbers, unpack_parts
from seawall.operators.core.detection._breakers import LookBackBand
from seawall.operators.core.detection._composite import ALERT_SCORE, UNUSUAL_SCORE, Composite
from seawall.operators.core.detection._samples import Detector, GatedDetector, Sample, Score, ScoreState, observe

# Alerts from scores: a level, persistence, a refractory period, and one sentence that says why.
#
# A score is dense, an alert is sparse. The level must be reached for ``persistence_rows`` in a row, as price limits ask
# for seconds outside the band and not for one print; after an alert ``refractory_rows`` must pass before the next.

SHARE_MIN = 0.15  # a contribution below it is not worth a clause
CLAUSES_MAX = 3

_ALERT_TAG = "alarms01"


class AlertRule(NamedTuple):
    """Rule by which a score becomes an alert."""

    level: float
    persistence_rows: int = 1
    refractory_rows: int = 0


class AlertState:
    """The state of one alarm rule for one key: two counters.

    Examples
    --------
    >>> alarm = AlertState(AlertRule(level=0.9, persistence_rows=2, refractory_rows=3))
    >>> [alarm.rings(Score(value, ScoreState.READY)) for value in (0.95, 0.1, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95)]
    [False, False, False, True, False, False, False, True]
    """

    __slots__ = ("_quiet", "_run", "rule")

    def __init__(self, rule: AlertRule) -> None:
        self.rule = rule
        self._run = 0
        self._quiet = rule.refractory_rows + 1

    def rings(self, score: Score) -> bool:
        """Count one score; whether it is the one that alerts."""
        high = score.state is ScoreState.READY and score.value >= self.rule.level
        self._run = min(self._run + 1, self.rule.persistence_rows) if high else 0
        self._quiet = min(self._quiet + 1, self.rule.refractory_rows + 1)
        if self._run < self.rule.persistence_rows or self._quiet <= self.rule.refractory_rows:
            return False
        self._quiet = 0
        return True

    def snapshot(self) -> bytes:
        """Encode the two counters."""
        return pack_numbers(_ALERT_TAG, [self._run, self._quiet])

    def restore(self, data: bytes) -> None:
        """Take over the counters of the same rule."""
        self._run, self._quiet = (int(number) for number in unpack_numbers(_ALERT_TAG, data, 2))


def explain_score(names: Sequence[str], score: Score) -> str:
    """Say in one sentence which features made the score.

    Examples
    --------
    >>> explain_score(("price level", "price change"), Score(0.7, ScoreState.READY, (0.25, 0.75)))
    'score 0.70: price change (75 %), price level (25 %)'
    >>> explain_score(("price level",), Score(0.0, ScoreState.WARMING))
    'no score: warming'
    """
    if score.state is not ScoreState.READY:
        return f"no score: {score.state}"
    order = sorted(range(len(score.contributions)), key=lambda index: (-score.contributions[index], index))
    named = [index for index in order[:CLAUSES_MAX] if score.contributions[index] >= SHARE_MIN]
    clauses = ", ".join(f"{names[index]} ({100 * score.contributions[index]:.0f} %)" for index in named)
    return f"score {score.value:.2f}: {clauses or 'many small deviations'}"


# Alert policy of one series: an alert where a circuit-breaker rule trips or the learned score rings.
#
# Each is early where the other is late. The rule knows how far a price may move in an hour, whatever the weeks before
# were like; the score knows this series, and sees what is small and has never been. The rule decides, the score
# explains, and an alert says which of the two it was. The rule needs to know which column is a price: for a temperature
# or a load there is no such thing as 7 % in an hour, so without one the score stands alone.

REFRACTORY_US = 3_600_000_000  # after an alert by the rule: within its look-back it would tell of the same move again
PRICE_BAND = 0.07  # of the look-back rule: the first step of the daytime limits of US equity index futures

_POLICY_TAG = "watch_01"


class AlertSource(StrEnum):
    """Origin of an alert: a rule or a score."""

    RULE = "rule"
    SCORE = "score"
    BOTH = "both"


class AlertDecision(NamedTuple):
    """The answer to one sample.

    Attributes
    ----------
    score
        Of the composite.
    alert
        What raised an alert; None for no alert.
    text
        Why, in one sentence for each source; "" for no alert.
    """

    score: Score
    alert: AlertSource | None
    text: str


class AlertPolicy:
    """A composite behind its gate, its alarm, and a look-back band around one of its columns.

    Parameters
    ----------
    columns
        Names of a sample's values, judged together.
    price
        The one of them that is a price; None for no rule.
    band
        Move against the past hour that trips the rule, as a fraction.

    Examples
    --------
    >>> watch = AlertPolicy(("close",), "close")
    >>> found = [watch.observe(Sample(row * 60_000_000, (100.0 - row % 3,))) for row in range(10)]
    >>> watch.observe(Sample(10 * 60_000_000, (92.0,)))[1:]
    (<AlertSource.RULE: 'rule'>, 'price 92 is 8.0 % below its 60-minute high 100')
    """

    def __init__(self, columns: tuple[str, ...], price: str | None = None, band: float = PRICE_BAND) -> None:
        self._detector = GatedDetector(Composite(columns), level=UNUSUAL_SCORE, hold=False)
        self._alarm = AlertState(AlertRule(level=ALERT_SCORE))
        self._at = None if price is None else columns.index(price)
        self._rule = LookBackBand(band)
        self._quiet_until_us = 0

    def observe(self, sample: Sample) -> AlertDecision:
        """Judge one sample by both and learn it; a price that is usable is judged whatever the other columns hold."""
        score = observe(self._detector, sample)
        rings = self._alarm.rings(score)
        tripped = self._trips(sample)
        why = explain_score(self._detector.names, score) if rings else ""
        if tripped is None:
            return AlertDecision(score, AlertSource.SCORE if rings else None, why)
        return (
            AlertDecision(score, AlertSource.BOTH, f"{tripped}; {why}")
            if rings
            else AlertDecision(score, AlertSource.RULE, tripped)
        )

    def _trips(self, sample: Sample) -> str | None:
        if self._at is None or sample.time_us is None:
            return None
        tripped = self._rule.check(sample.time_us, sample.values[self._at])
        if tripped is None or sample.time_us < self._quiet_until_us:
            return None
        self._quiet_until_us = sample.time_us + REFRACTORY_US
        return tripped

    def snapshot(self) -> bytes:
        """Encode detector, alarm and rule."""
        return pack_parts(
            _POLICY_TAG, [self._quiet_until_us], [part.snapshot() for part in (self._detector, self._alarm, self._rule)]
        )

    def restore(self, data: bytes) -> None:
        """Take over the state of a watch of the same columns."""
        (quiet_until_us,), (detector, alarm, rule) = unpack_parts(_POLICY_TAG, data, 1, 3)
        self._detector.restore(detector)
        self._alarm.restore(alarm)
        self._rule.restore(rule)
        self._quiet_until_us = int(quiet_until_us)


# One detector with its alarm, for a key of anybody's stream: samples in; score, state and alert out.

SCHEMA = "detect/1"


class DetectionResult(NamedTuple):
    """The answer to one sample; ``alert`` is one sentence, empty unless the alarm rings."""

    sample: Sample
    score: Score
    alert: str


class SingleDetector:
    """A detector and an alarm: ``step(sample) -> DetectionResult``."""

    def __init__(self, detector: Detector, rule: AlertRule) -> None:
        self._detector, self._alarm = detector, AlertState(rule)

    def step(self, sample: Any) -> DetectionResult:
        """Score a sample, then learn it; ``sample`` is (time in µs or None, values)."""
        sample = Sample(*sample)
        score = observe(self._detector, sample)
        rings = self._alarm.rings(score)
        return DetectionResult(
            sample, score._replace(detail=None), explain_score(self._detector.names, score) if rings else ""
        )

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return pack(SCHEMA, {"detector": self._detector.snapshot(), "alarm": self._alarm.snapshot()})

    @classmethod
    def restore(cls, data: bytes, make: Callable[[], Detector], rule: AlertRule) -> "SingleDetector":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(make(), rule)
        self._detector.restore(state["detector"])
        self._alarm.restore(state["alarm"])
        return self
