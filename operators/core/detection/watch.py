"""What is delivered for one series: an alert where a circuit-breaker rule trips or the learned score rings.

Each is early where the other is late. The rule knows how far a price may move in an hour, whatever the weeks before
were like; the score knows this series, and sees what is small and has never been. The rule decides, the score explains,
and an alert says which of the two it was. The rule needs to know which column is a price: for a temperature or a load
there is no such thing as 7 % in an hour, so without one the score stands alone.
"""

from enum import StrEnum
from typing import NamedTuple

from seawall.operators.core.detection.alarms import Alarm, AlarmRule, explain
from seawall.operators.core.detection.breakers import LookBackBand
from seawall.operators.core.detection.composite import ALERT_SCORE, UNUSUAL_SCORE, Composite
from seawall.operators.core.detection.flat import from_parts, to_parts
from seawall.operators.core.detection.gates import Gated
from seawall.operators.core.detection.samples import Sample, Score, observe

QUIET_US = 3_600_000_000  # after an alert by the rule: within its look-back it would tell of the same move again
BAND = 0.07  # of the look-back rule: the first step of the daytime limits of US equity index futures

_TAG = "watch_01"


class Source(StrEnum):
    """What raised an alert."""

    RULE = "rule"
    SCORE = "score"
    BOTH = "both"


class Watched(NamedTuple):
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
    alert: Source | None
    text: str


class Watch:
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
    >>> watch = Watch(("close",), "close")
    >>> found = [watch.observe(Sample(row * 60_000_000, (100.0 - row % 3,))) for row in range(10)]
    >>> watch.observe(Sample(10 * 60_000_000, (92.0,)))[1:]
    (<Source.RULE: 'rule'>, 'price 92 is 8.0 % below its 60-minute high 100')
    """

    def __init__(self, columns: tuple[str, ...], price: str | None = None, band: float = BAND) -> None:
        self._detector = Gated(Composite(columns), level=UNUSUAL_SCORE, hold=False)
        self._alarm = Alarm(AlarmRule(level=ALERT_SCORE))
        self._at = None if price is None else columns.index(price)
        self._rule = LookBackBand(band)
        self._quiet_until_us = 0

    def observe(self, sample: Sample) -> Watched:
        """Judge one sample by both and learn it; a price that is usable is judged whatever the other columns hold."""
        score = observe(self._detector, sample)
        rings = self._alarm.rings(score)
        tripped = self._trips(sample)
        why = explain(self._detector.names, score) if rings else ""
        if tripped is None:
            return Watched(score, Source.SCORE if rings else None, why)
        return Watched(score, Source.BOTH, f"{tripped}; {why}") if rings else Watched(score, Source.RULE, tripped)

    def _trips(self, sample: Sample) -> str | None:
        if self._at is None or sample.time_us is None:
            return None
        tripped = self._rule.check(sample.time_us, sample.values[self._at])
        if tripped is None or sample.time_us < self._quiet_until_us:
            return None
        self._quiet_until_us = sample.time_us + QUIET_US
        return tripped

    def snapshot(self) -> bytes:
        """Encode detector, alarm and rule."""
        return to_parts(
            _TAG, [self._quiet_until_us], [part.snapshot() for part in (self._detector, self._alarm, self._rule)]
        )

    def restore(self, data: bytes) -> None:
        """Take over the state of a watch of the same columns."""
        (quiet_until_us,), (detector, alarm, rule) = from_parts(_TAG, data, 1, 3)
        self._detector.restore(detector)
        self._alarm.restore(alarm)
        self._rule.restore(rule)
        self._quiet_until_us = int(quiet_until_us)
