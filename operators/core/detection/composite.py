"""The composite detector: what is unusual for long (dense score) and what has never been seen (alert candidate).

One score in two halves, since one number cannot serve two purposes:

* **0 … 0.495**, dense: the distance of the row from its robust mean, in squared standard deviations over all columns
  and views, smoothed over about twenty rows and ranked among its own past; half that rank. The level counts as much as
  the four other views together: they are its shadows, and several columns describe one machine by their levels. The
  highest hundredth is one rank: it is made of too few rows to be told apart.
* **0.5 … 1**, an alert candidate: the evidence of the five breakers, averaged with equal weights. Views that agree say
  more than one that shouts, so each saturates. Of neighbouring rows only records count: a candidate
  must exceed the last one or lie ``REFRACTORY_ROWS`` after it.

Alerting on a score of 0.52 or more means: one view left its range by 5 % of its width, or several by less.
"""

from math import sqrt
from typing import NamedTuple, Self

from seawall.operators.core.detection.flat import from_bytes, to_bytes
from seawall.operators.core.detection.moments import WARM_ROWS, total
from seawall.operators.core.detection.ranks import BINS, GATE_RANK, UNUSUAL_RANK, Ranks
from seawall.operators.core.detection.samples import Sample, Score, State
from seawall.operators.core.detection.views import NUMBERS, VIEWS, Column, Looks

ALERT_SCORE = 0.52
UNUSUAL_SCORE = 0.5 * GATE_RANK  # what a gate calls an incident, and what is not learned in full
CANDIDATE_SCORE = 0.5
EVIDENCE_MIN = 0.01  # mean over views: what leaves a range by less than that is dust
REFRACTORY_ROWS = 120
SMOOTHING = 0.05
VIEW_WEIGHTS = (0.5, 0.125, 0.125, 0.125, 0.125)

KEY_NUMBERS = 5

_TAG = "compos02"


def size(columns: int) -> int:
    """Return how many numbers the state of a composite of that many columns has."""
    return KEY_NUMBERS + BINS + NUMBERS * columns


class Judged(NamedTuple):
    """What a score was made of; ``learn`` needs it again, and an explanation quotes it."""

    looks: list[Looks]
    smoothed: float
    rank: float
    evidence: float


class Composite:
    """Online detector of a group of columns that belong to one key.

    Parameters
    ----------
    columns
        Names of the values in a sample, in order.

    Notes
    -----
    State: 440 bytes per column and 604 for the key, however long it runs. About 12 µs per row and column.

    Examples
    --------
    >>> from seawall.operators.core.detection.samples import observe
    >>> detector = Composite(("price",))
    >>> scores = [observe(detector, Sample(None, (100.0 + row % 7,))) for row in range(600)]
    >>> scores[20].state, scores[-1].value < 0.5
    (<State.WARMING: 'warming'>, True)
    >>> score = detector.score(Sample(None, (150.0,)))
    >>> score.value > 0.8, detector.names[score.contributions.index(max(score.contributions))]
    (True, 'price level')
    """

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns
        self._names = tuple(f"{column} {view}" for column in columns for view in VIEWS)
        self._states = [Column() for _ in columns]
        self._ranks = Ranks()
        self._chance = sqrt(len(columns))  # the largest of many is large by chance
        self._smoothed = 0.0
        self._rows = 0.0
        self._last_evidence = 0.0
        self._last_age = REFRACTORY_ROWS + 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """Column and view of each contribution."""
        return self._names

    def score(self, sample: Sample) -> Score:
        """Answer for one usable sample; changes nothing."""
        return self._judge(self._look(sample))

    def learn(self, sample: Sample, score: Score) -> None:
        """Take in a sample; the further out a view was, the less it learns."""
        detail: Judged = score.detail
        for state, value, looks in zip(self._states, sample.values, detail.looks, strict=True):
            state.learn(value, sample.time_us, looks)
        self._smoothed = detail.smoothed
        self._ranks.learn(detail.smoothed, detail.rank if score.state is State.READY else 0.0)
        self._rows += 1.0
        self._last_age += 1.0
        if score.value >= CANDIDATE_SCORE:
            self._last_evidence, self._last_age = detail.evidence, 0.0

    def fresh(self) -> Self:
        """Make one that has seen nothing."""
        return type(self)(self.columns)

    def lend(self) -> Self:
        """Make one for a new key of the same kind, which begins with what is usual for this one (``Column.lend``)."""
        lent = self.fresh()
        lent.take(self.numbers())
        for state in lent._states:
            state.lend()
        lent._last_evidence, lent._last_age = 0.0, REFRACTORY_ROWS + 1.0
        lent._rows = min(lent._rows, WARM_ROWS + 0.0)
        return lent

    def snapshot(self) -> bytes:
        """Encode the state; its length depends on the number of columns only."""
        return to_bytes(_TAG, self.numbers())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same columns."""
        self.take(from_bytes(_TAG, data, size(len(self._states))))

    def numbers(self) -> list[float]:
        """Return the state as a flat list: key, ranks, then the columns."""
        numbers = [self._smoothed, self._rows, self._last_evidence, self._last_age, self._ranks.total]
        numbers += self._ranks.counts
        for state in self._states:
            numbers += state.numbers()
        return numbers

    def take(self, numbers: list[float]) -> None:
        """Take over a state that ``numbers`` returned."""
        self._smoothed, self._rows, self._last_evidence, self._last_age, total = numbers[:KEY_NUMBERS]
        self._ranks.load(numbers[KEY_NUMBERS : KEY_NUMBERS + BINS], total)
        for index, state in enumerate(self._states):
            at = KEY_NUMBERS + BINS + NUMBERS * index
            state.take(numbers[at : at + NUMBERS])

    def _look(self, sample: Sample) -> list[Looks]:
        return [state.look(value, sample.time_us) for state, value in zip(self._states, sample.values, strict=True)]

    def _judge(self, looks: list[Looks]) -> Score:
        weighted = [w * d for look in looks for w, d in zip(VIEW_WEIGHTS, look.distances, strict=True)]
        distance = total(weighted) / len(looks)
        smoothed = self._smoothed + SMOOTHING * (distance - self._smoothed)
        rank = self._ranks.of(smoothed)
        evidence = max(total(look.evidence) for look in looks) / (len(VIEWS) * self._chance)
        detail = Judged(looks, smoothed, rank, evidence)
        if self._rows < WARM_ROWS:
            return Score(0.0, State.WARMING, (), detail)
        record = evidence > self._last_evidence or self._last_age >= REFRACTORY_ROWS
        if evidence < EVIDENCE_MIN or not record:
            return Score(0.5 * min(rank, UNUSUAL_RANK), State.READY, _shares(weighted), detail)
        shares = _shares([found for look in looks for found in look.evidence])
        return Score(0.5 + 0.5 * evidence, State.READY, shares, detail)


def _shares(parts: list[float]) -> tuple[float, ...]:
    whole = total(parts)
    return tuple(part / whole for part in parts) if whole > 0.0 else tuple(parts)
