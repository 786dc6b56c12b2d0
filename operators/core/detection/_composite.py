"""Composite detector of one key: a dense score of lasting deviations, and alert candidates for values never seen.

Each column is seen through five views; every view keeps moments and a range that refuse to learn a crisis. Two plainer
detectors stand beside it: the largest deviation of all features, and a breaker on a range that is left.
"""

from math import inf, sqrt
from typing import NamedTuple, Self

from seawall.operators.core.base import pack_numbers, unpack_numbers
from seawall.operators.core.detection._samples import Sample, Score, ScoreState
from seawall.operators.core.detection._statistics import (
    BINS,
    GATE_RANK,
    UNUSUAL_RANK,
    WARM_ROWS,
    RankHistogram,
    RobustMoments,
    ordered_total,
    squared_distance,
    updated_moments,
)

# Five views of one series, each with moments and a range that refuse to learn a crisis.
#
# The views are the classical ones: the **level** itself; its **drift** from a slow running mean; its deviation from the
# **hour** of the day's usual level; its **change** since the last row; its **volatility**. Each keeps
#
# * robust moments: mean and variance that a crisis hardly moves;
# * the range of all it has seen, as a circuit breaker has: leaving it by some share of its width is evidence. A range
#   at most doubles per row, so that one spike does not blind it, and shrinks by 2e-5 per row, half in 35,000.
#
# References
# ----------
# CME Group, Dynamic Circuit Breakers: a band around a look-back high and low.

VIEWS = ("level", "drift", "hour", "change", "volatility")
DRIFT_RATE = 0.01
VOLATILITY_RATE = 0.05
HOUR_RATE = 0.2  # a memory of about five days for each hour of the day
HOURS = 24
RANGE_DECAY = 1e-5  # per row and side
EVIDENCE_HALF = 0.2  # leaving the range by a fifth of its width is half of full evidence
HOUR_US = 3_600_000_000
UNKNOWN_VALUE = inf  # of a level that was never seen; no usable value reaches it, and unlike NaN it equals itself

_LEVEL, _DRIFT, _HOUR, _CHANGE, _VOLATILITY = range(5)
COLUMN_NUMBERS = 5 * len(VIEWS) + HOURS + 6  # of one column's state


class ViewReadings(NamedTuple):
    """One row seen through the five views; None where a view has no opinion yet."""

    values: tuple[float | None, ...]
    distances: tuple[float, ...]  # squared standard deviations from the mean, at most DISTANCE_MAX
    evidence: tuple[float, ...]  # 0..1: how far outside the range


class ColumnViews:
    """The state of one series: 55 floats, 440 bytes.

    Examples
    --------
    >>> column = ColumnViews()
    >>> for row in range(400):
    ...     column.learn(100.0 + row % 5, None, column.look(100.0 + row % 5, None))
    >>> looks = column.look(110.0, None)
    >>> round(looks.evidence[0], 2), looks.distances[2]
    (0.88, 0.0)
    """

    __slots__ = ("count", "energy", "high", "hour", "hour_count", "hour_mean", "hour_sum", "last", "low",
                 "mean", "slow", "variance")  # fmt: skip

    def __init__(self) -> None:
        self.mean = [0.0] * 5
        self.variance = [0.0] * 5
        self.count = [0.0] * 5
        self.low = [0.0] * 5
        self.high = [0.0] * 5
        self.hour_mean = [UNKNOWN_VALUE] * HOURS
        self.hour = -1.0
        self.hour_sum = 0.0
        self.hour_count = 0.0
        self.last = UNKNOWN_VALUE
        self.slow = 0.0
        self.energy = 0.0

    def look(self, value: float, time_us: int | None) -> ViewReadings:
        """See ``value`` through the five views; changes nothing."""
        values = self._values(value, time_us)
        distances, evidence = [0.0] * 5, [0.0] * 5
        for view, seen in enumerate(values):
            count = self.count[view]
            if seen is None or count == 0.0:
                continue
            distances[view] = squared_distance(self.mean[view], self.variance[view], count, seen)
            if count > WARM_ROWS and not self.low[view] <= seen <= self.high[view]:
                evidence[view] = _evidence(seen, self.low[view], self.high[view])
        return ViewReadings(values, tuple(distances), tuple(evidence))

    def learn(self, value: float, time_us: int | None, looks: ViewReadings) -> None:
        """Take in ``value``, of which ``looks`` is what ``look`` answered."""
        for view, seen in enumerate(looks.values):
            if seen is not None:
                self.count[view] = count = self.count[view] + 1.0
                self.mean[view], self.variance[view] = updated_moments(
                    self.mean[view], self.variance[view], count, seen, looks.distances[view]
                )
                self._learn_range(view, seen)
        first = self.last == UNKNOWN_VALUE
        change = 0.0 if first else value - self.last
        self.slow = value if first else self.slow + DRIFT_RATE * (value - self.slow)
        self.energy += VOLATILITY_RATE * (change * change - self.energy)
        self.last = value
        if time_us is not None:
            self._learn_hour(value, time_us // HOUR_US % HOURS)

    def numbers(self) -> list[float]:
        """Return the state as a flat list of fixed length."""
        scalars = [self.hour, self.hour_sum, self.hour_count, self.last, self.slow, self.energy]
        arrays = self.mean + self.variance + self.count + self.low + self.high
        return arrays + self.hour_mean + scalars

    def take(self, numbers: list[float]) -> None:
        """Take over a state that ``numbers`` returned."""
        self.mean, self.variance, self.count, self.low, self.high = (numbers[at : at + 5] for at in range(0, 25, 5))
        self.hour_mean = numbers[25 : 25 + HOURS]
        self.hour, self.hour_sum, self.hour_count, self.last, self.slow, self.energy = numbers[25 + HOURS :]

    def lend(self) -> None:
        """Forget what belongs to one series in time and keep what is usual: how a series like it may begin.

        Volatility begins at its mean. Counts fall to those of a column that has just warmed up, so that the new
        series' own rows soon outweigh the borrowed ones.
        """
        self.hour, self.hour_sum, self.hour_count = -1.0, 0.0, 0.0
        self.last, self.slow, self.energy = UNKNOWN_VALUE, 0.0, self.mean[_VOLATILITY] * self.mean[_VOLATILITY]
        self.count = [min(count, WARM_ROWS + 1.0) for count in self.count]

    def _values(self, value: float, time_us: int | None) -> tuple[float | None, ...]:
        first = self.last == UNKNOWN_VALUE
        change = 0.0 if first else value - self.last
        drift = 0.0 if first else value - self.slow
        level = UNKNOWN_VALUE if time_us is None else self.hour_mean[time_us // HOUR_US % HOURS]
        energy = self.energy + VOLATILITY_RATE * (change * change - self.energy)
        return value, drift, None if level == UNKNOWN_VALUE else value - level, change, sqrt(energy)

    def _learn_range(self, view: int, seen: float) -> None:
        low, high = self.low[view], self.high[view]
        if self.count[view] == 1.0:
            self.low[view] = self.high[view] = seen
            return
        width = high - low
        if self.count[view] > WARM_ROWS and width > 0.0:
            low, high = low + RANGE_DECAY * width, high - RANGE_DECAY * width
            seen = min(max(seen, low - width), high + width)
        self.low[view], self.high[view] = min(low, seen), max(high, seen)

    def _learn_hour(self, value: float, hour: int) -> None:
        if hour != self.hour:
            if self.hour_count > 0.0:
                left, level = int(self.hour), self.hour_sum / self.hour_count
                usual = self.hour_mean[left]
                self.hour_mean[left] = level if usual == UNKNOWN_VALUE else usual + HOUR_RATE * (level - usual)
            self.hour, self.hour_sum, self.hour_count = float(hour), 0.0, 0.0
        self.hour_sum += value
        self.hour_count += 1.0


def _evidence(seen: float, low: float, high: float) -> float:
    excess = seen - high if seen > high else low - seen
    return excess / (excess + EVIDENCE_HALF * (high - low or excess))


# The composite detector: what is unusual for long (dense score) and what has never been seen (alert candidate).
#
# One score in two halves, since one number cannot serve two purposes:
#
# * **0 … 0.495**, dense: the distance of the row from its robust mean, in squared standard deviations over all columns
#   and views, smoothed over about twenty rows and ranked among its own past; half that rank. The level counts as much
#   as the four other views together: they are its shadows, and several columns describe one machine by their levels.
#   The highest hundredth is one rank: it is made of too few rows to be told apart.
# * **0.5 … 1**, an alert candidate: the evidence of the five breakers, averaged with equal weights. Views that agree
#   say more than one that shouts, so each saturates. Of neighbouring rows only records count: a candidate
#   must exceed the last one or lie ``REFRACTORY_ROWS`` after it.
#
# Alerting on a score of 0.52 or more means: one view left its range by 5 % of its width, or several by less.

ALERT_SCORE = 0.52
UNUSUAL_SCORE = 0.5 * GATE_RANK  # what a gate calls an incident, and what is not learned in full
CANDIDATE_SCORE = 0.5
EVIDENCE_MIN = 0.01  # mean over views: what leaves a range by less than that is dust
REFRACTORY_ROWS = 120
SMOOTHING = 0.05
VIEW_WEIGHTS = (0.5, 0.125, 0.125, 0.125, 0.125)

KEY_NUMBERS = 5

_TAG = "compos02"


def composite_size(columns: int) -> int:
    """Return how many numbers the state of a composite of that many columns has."""
    return KEY_NUMBERS + BINS + COLUMN_NUMBERS * columns


class JudgedRow(NamedTuple):
    """Parts of a score; ``learn`` needs them again, and an explanation quotes them."""

    looks: list[ViewReadings]
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
    >>> from seawall.operators.core.detection._samples import observe
    >>> detector = Composite(("price",))
    >>> scores = [observe(detector, Sample(None, (100.0 + row % 7,))) for row in range(600)]
    >>> scores[20].state, scores[-1].value < 0.5
    (<ScoreState.WARMING: 'warming'>, True)
    >>> score = detector.score(Sample(None, (150.0,)))
    >>> score.value > 0.8, detector.names[score.contributions.index(max(score.contributions))]
    (True, 'price level')
    """

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns
        self._names = tuple(f"{column} {view}" for column in columns for view in VIEWS)
        self._states = [ColumnViews() for _ in columns]
        self._ranks = RankHistogram()
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
        detail: JudgedRow = score.detail
        for state, value, looks in zip(self._states, sample.values, detail.looks, strict=True):
            state.learn(value, sample.time_us, looks)
        self._smoothed = detail.smoothed
        self._ranks.learn(detail.smoothed, detail.rank if score.state is ScoreState.READY else 0.0)
        self._rows += 1.0
        self._last_age += 1.0
        if score.value >= CANDIDATE_SCORE:
            self._last_evidence, self._last_age = detail.evidence, 0.0

    def fresh(self) -> Self:
        """Make one that has seen nothing."""
        return type(self)(self.columns)

    def lend(self) -> Self:
        """Make one for a new key, which begins with what is usual for this one (``ColumnViews.lend``)."""
        lent = self.fresh()
        lent.take(self.numbers())
        for state in lent._states:
            state.lend()
        lent._last_evidence, lent._last_age = 0.0, REFRACTORY_ROWS + 1.0
        lent._rows = min(lent._rows, WARM_ROWS + 0.0)
        return lent

    def snapshot(self) -> bytes:
        """Encode the state; its length depends on the number of columns only."""
        return pack_numbers(_TAG, self.numbers())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same columns."""
        self.take(unpack_numbers(_TAG, data, composite_size(len(self._states))))

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
            at = KEY_NUMBERS + BINS + COLUMN_NUMBERS * index
            state.take(numbers[at : at + COLUMN_NUMBERS])

    def _look(self, sample: Sample) -> list[ViewReadings]:
        return [state.look(value, sample.time_us) for state, value in zip(self._states, sample.values, strict=True)]

    def _judge(self, looks: list[ViewReadings]) -> Score:
        weighted = [w * d for look in looks for w, d in zip(VIEW_WEIGHTS, look.distances, strict=True)]
        distance = ordered_total(weighted) / len(looks)
        smoothed = self._smoothed + SMOOTHING * (distance - self._smoothed)
        rank = self._ranks.of(smoothed)
        evidence = max(ordered_total(look.evidence) for look in looks) / (len(VIEWS) * self._chance)
        detail = JudgedRow(looks, smoothed, rank, evidence)
        if self._rows < WARM_ROWS:
            return Score(0.0, ScoreState.WARMING, (), detail)
        record = evidence > self._last_evidence or self._last_age >= REFRACTORY_ROWS
        if evidence < EVIDENCE_MIN or not record:
            return Score(0.5 * min(rank, UNUSUAL_RANK), ScoreState.READY, _shares(weighted), detail)
        shares = _shares([found for look in looks for found in look.evidence])
        return Score(0.5 + 0.5 * evidence, ScoreState.READY, shares, detail)


def _shares(parts: list[float]) -> tuple[float, ...]:
    whole = ordered_total(parts)
    return tuple(part / whole for part in parts) if whole > 0.0 else tuple(parts)


# The Gaussian detector done right, and the range breaker on an exponentially weighted residual.
#
# River's GaussianScorer says 1.0 of a constant stream's unchanged value and of everything beyond 8.3 standard
# deviations, and its windowed variance turns negative. Here the score is the rank of the largest squared z over the
# features, with robust moments: it is ordered however far out a value lies (to ten standard deviations), and a constant
# feature says 0 until it moves. Monotone in |z|, it is StandardAbsoluteDeviation as well.

_DEVIATION_TAG = "deviat01"
_BREAKER_TAG = "resbrk01"


class DeviationDetector:
    """Rank of the largest squared z over the features.

    Examples
    --------
    >>> from seawall.operators.core.detection._samples import observe
    >>> detector = DeviationDetector(("spread",))
    >>> for row in range(300):
    ...     score = observe(detector, Sample(None, (1.0 + row % 3,)))
    >>> detector.score(Sample(None, (30.0,))).value
    1.0
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._moments = [RobustMoments() for _ in names]
        self._ranks = RankHistogram()

    @property
    def names(self) -> tuple[str, ...]:
        """The features."""
        return self._names

    def score(self, sample: Sample) -> Score:
        """Answer for one usable sample; changes nothing."""
        squares = [moments.distance(value) for moments, value in zip(self._moments, sample.values, strict=True)]
        if self._moments[0].count < WARM_ROWS:
            return Score(0.0, ScoreState.WARMING, (), squares)
        whole = 0.0
        for square in squares:
            whole += square
        shares = tuple([square / whole for square in squares]) if whole > 0.0 else tuple(squares)
        return Score(self._ranks.of(max(squares)), ScoreState.READY, shares, squares)

    def learn(self, sample: Sample, score: Score) -> None:
        """Take in a sample; the further out, the less."""
        for moments, value, squared in zip(self._moments, sample.values, score.detail, strict=True):
            moments.learn(value, squared)
        self._ranks.learn(max(score.detail), score.value)

    def fresh(self) -> Self:
        """Make one that has seen nothing."""
        return type(self)(self._names)

    def snapshot(self) -> bytes:
        """Encode the state."""
        return pack_numbers(_DEVIATION_TAG, self.numbers())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same features."""
        self.take(unpack_numbers(_DEVIATION_TAG, data, 1 + BINS + 3 * len(self._names)))

    def numbers(self) -> list[float]:
        """Return the state as a flat list: ranks, then mean, variance and count of each feature."""
        moments = [number for each in self._moments for number in (each.mean, each.variance, each.count)]
        return [self._ranks.total, *self._ranks.counts, *moments]

    def take(self, numbers: list[float]) -> None:
        """Take over what ``numbers`` returned."""
        self._ranks.load(numbers[1 : 1 + BINS], numbers[0])
        rest = numbers[1 + BINS :]
        self._moments = [RobustMoments(*rest[at : at + 3]) for at in range(0, len(rest), 3)]


class ResidualBreaker:
    """Breaker on the first value's distance from its slow mean: how far it leaves its past range.

    Parameters
    ----------
    names
        One feature.
    view
        Which view of it: ``drift`` for the residual, ``level`` for the plain running range.
    """

    def __init__(self, names: tuple[str], view: str = "drift") -> None:
        self._names = names
        self._view = view
        self._column = ColumnViews()

    @property
    def names(self) -> tuple[str, ...]:
        """The feature."""
        return self._names

    def score(self, sample: Sample) -> Score:
        """Answer for one usable sample; changes nothing."""
        looks = self._column.look(sample.values[0], sample.time_us)
        if self._column.count[0] < WARM_ROWS:
            return Score(0.0, ScoreState.WARMING, (), looks)
        return Score(looks.evidence[VIEWS.index(self._view)], ScoreState.READY, (1.0,), looks)

    def learn(self, sample: Sample, score: Score) -> None:
        """Widen the range by at most its own width."""
        self._column.learn(sample.values[0], sample.time_us, score.detail)

    def fresh(self) -> Self:
        """Make one that has seen nothing."""
        return type(self)((self._names[0],), self._view)

    def snapshot(self) -> bytes:
        """Encode the state."""
        return pack_numbers(_BREAKER_TAG, self._column.numbers())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same view."""
        self._column.take(unpack_numbers(_BREAKER_TAG, data, COLUMN_NUMBERS))
