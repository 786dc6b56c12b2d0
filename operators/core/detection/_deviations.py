"""Deviation detectors: the rank of the largest squared z over the features, and a breaker on a range that is left."""

from typing import Self

from seawall.operators.core.base import pack_numbers, unpack_numbers
from seawall.operators.core.detection._composite import COLUMN_NUMBERS, VIEWS, ColumnViews
from seawall.operators.core.detection._samples import Sample, Score, ScoreState
from seawall.operators.core.detection._statistics import BINS, WARM_ROWS, RankHistogram, RobustMoments

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
