"""Alerts from scores: a level, persistence, a refractory period, and one sentence that says why.

A score is dense, an alert is sparse. The level must be reached for ``persistence_rows`` in a row, as price limits ask
for seconds outside the band and not for one print; after an alert ``refractory_rows`` must pass before the next.
"""

from collections.abc import Sequence
from typing import NamedTuple

from seawall.operators.core.detection.flat import from_bytes, to_bytes
from seawall.operators.core.detection.samples import Score, State

SHARE_MIN = 0.15  # a contribution below it is not worth a clause
CLAUSES_MAX = 3

_TAG = "alarms01"


class AlarmRule(NamedTuple):
    """When a score becomes an alert."""

    level: float
    persistence_rows: int = 1
    refractory_rows: int = 0


class Alarm:
    """The state of one alarm rule for one key: two counters.

    Examples
    --------
    >>> alarm = Alarm(AlarmRule(level=0.9, persistence_rows=2, refractory_rows=3))
    >>> [alarm.rings(Score(value, State.READY)) for value in (0.95, 0.1, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95)]
    [False, False, False, True, False, False, False, True]
    """

    __slots__ = ("_quiet", "_run", "rule")

    def __init__(self, rule: AlarmRule) -> None:
        self.rule = rule
        self._run = 0
        self._quiet = rule.refractory_rows + 1

    def rings(self, score: Score) -> bool:
        """Count one score; whether it is the one that alerts."""
        high = score.state is State.READY and score.value >= self.rule.level
        self._run = min(self._run + 1, self.rule.persistence_rows) if high else 0
        self._quiet = min(self._quiet + 1, self.rule.refractory_rows + 1)
        if self._run < self.rule.persistence_rows or self._quiet <= self.rule.refractory_rows:
            return False
        self._quiet = 0
        return True

    def snapshot(self) -> bytes:
        """Encode the two counters."""
        return to_bytes(_TAG, [self._run, self._quiet])

    def restore(self, data: bytes) -> None:
        """Take over the counters of the same rule."""
        self._run, self._quiet = (int(number) for number in from_bytes(_TAG, data, 2))


def explain(names: Sequence[str], score: Score) -> str:
    """Say in one sentence which features made the score.

    Examples
    --------
    >>> explain(("price level", "price change"), Score(0.7, State.READY, (0.25, 0.75)))
    'score 0.70: price change (75 %), price level (25 %)'
    >>> explain(("price level",), Score(0.0, State.WARMING))
    'no score: warming'
    """
    if score.state is not State.READY:
        return f"no score: {score.state}"
    order = sorted(range(len(score.contributions)), key=lambda index: (-score.contributions[index], index))
    told = [index for index in order[:CLAUSES_MAX] if score.contributions[index] >= SHARE_MIN]
    clauses = ", ".join(f"{names[index]} ({100 * score.contributions[index]:.0f} %)" for index in told)
    return f"score {score.value:.2f}: {clauses or 'many small deviations'}"
