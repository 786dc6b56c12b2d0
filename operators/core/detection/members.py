"""A key among the trees of its asset class: one forest for all members, a scale and a calibration for each.

A member's values are told in standard deviations from its own robust mean, four to either side filling the trees'
range of 0..1, so that members of different size share masses. Its score is the forest's, as a rank among the member's
own past. Rows that look unusual to the member are kept from the forest, for ``BOX_ROWS`` at most: what lasts longer is
normal.

State: 0.6 kB and 24 bytes per feature for a key; 102 kB for the class.
"""

from math import sqrt
from typing import NamedTuple, Self

from seawall.operators.core.detection.flat import from_bytes, to_bytes
from seawall.operators.core.detection.forest import SEED, Forest
from seawall.operators.core.detection.gates import BOX_ROWS
from seawall.operators.core.detection.moments import WARM_ROWS, Moments
from seawall.operators.core.detection.ranks import BINS, GATE_RANK, Ranks
from seawall.operators.core.detection.samples import Detector, Sample, Score, State

REACH = 4.0  # standard deviations to either side of the mean that the trees can tell apart
LONELY_MIN = 1e-6  # of a row that no tree knows, the share of the greatest mass that it is said to have

_TAG = "member01"
_HEAD = 2


class Place(NamedTuple):
    """Where a row lies: squared distance per feature, its position in the trees, and how lonely it is there."""

    squares: list[float]
    row: tuple[float, ...]
    loneliness: float


class Member:
    """One key's detector over its class's forest.

    Parameters
    ----------
    names
        The features.
    forest
        The class's; shared, and not part of the member's snapshot.
    """

    def __init__(self, names: tuple[str, ...], forest: Forest) -> None:
        self._names, self._forest = names, forest
        self._moments = [Moments() for _ in names]
        self._ranks = Ranks()
        self._unusual_rows = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """The features."""
        return self._names

    def score(self, sample: Sample) -> Score:
        """Answer for one usable sample; changes nothing."""
        squares, row = [], []
        for moments, value in zip(self._moments, sample.values, strict=True):
            squares.append(moments.distance(value))
            wide = 2.0 * REACH * sqrt(moments.variance)
            place = 0.5 + (value - moments.mean) / wide if wide > 0.0 else 0.5
            row.append(min(max(place, 0.0), 1.0))
        loneliness = 1.0 / max(1.0 - self._forest.score(row), LONELY_MIN)
        found = Place(squares, tuple(row), loneliness)
        if self._moments[0].count < WARM_ROWS or self._ranks.total < WARM_ROWS:
            return Score(0.0, State.WARMING, (), found)
        return Score(self._ranks.of(loneliness), State.READY, (), found)

    def learn(self, sample: Sample, score: Score) -> None:
        """Take in a sample, and let the class take it in unless it is unusual."""
        place: Place = score.detail
        for moments, value, squared in zip(self._moments, sample.values, place.squares, strict=True):
            moments.learn(value, squared)
        warm = self._moments[0].count >= WARM_ROWS
        unusual = score.state is State.READY and score.value > GATE_RANK
        self._unusual_rows = self._unusual_rows + 1.0 if unusual else 0.0
        if warm and (not unusual or self._unusual_rows > BOX_ROWS):
            self._forest.learn(place.row)
        if warm and place.loneliness > 1.0:
            self._ranks.learn(place.loneliness, score.value)

    def fresh(self) -> Self:
        """Make one of the same class that has seen nothing."""
        return type(self)(self._names, self._forest)

    def snapshot(self) -> bytes:
        """Encode the member, without its class."""
        moments = [number for each in self._moments for number in (each.mean, each.variance, each.count)]
        return to_bytes(_TAG, [self._unusual_rows, self._ranks.total, *self._ranks.counts, *moments])

    def restore(self, data: bytes) -> None:
        """Take over the state of a member with the same features."""
        numbers = from_bytes(_TAG, data, _HEAD + BINS + 3 * len(self._names))
        self._unusual_rows, total = numbers[:_HEAD]
        self._ranks.load(numbers[_HEAD : _HEAD + BINS], total)
        rest = numbers[_HEAD + BINS :]
        self._moments = [Moments(*rest[at : at + 3]) for at in range(0, len(rest), 3)]


class ClassTrees:
    """The kind whose detectors share one forest per asset class; see ``kinds.Kind``.

    Parameters
    ----------
    names
        The features.
    seed
        Equal seeds give equal trees.
    """

    unusual = GATE_RANK

    def __init__(self, names: tuple[str, ...], seed: int = SEED) -> None:
        self._names, self._forest = names, Forest(len(names), seed=seed)

    def make(self) -> Detector:
        """Make a member of the class."""
        return Member(self._names, self._forest)

    def snapshot(self) -> bytes:
        """Encode the forest."""
        return self._forest.snapshot()

    def restore(self, data: bytes) -> None:
        """Take over the state of a forest of the same features and seed."""
        self._forest.restore(data)
