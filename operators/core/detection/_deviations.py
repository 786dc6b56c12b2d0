"""Deviation detectors: the rank of the largest squared z over the features, for one key or for an array of keys.

`DeviationDetector` keeps the protocol for one key, `DeviationArray` gives the same scores for many keys at a cost close
to River's own scorers (compiled where numba is installed), and `ResidualBreaker` alerts when a range is left.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import pack_numbers, unpack_numbers
from seawall.operators.core.detection import _statistics
from seawall.operators.core.detection._composite import COLUMN_NUMBERS, VIEWS, ColumnViews
from seawall.operators.core.detection._composite_array import ARRAY_BATCH_MIN, BatchScores
from seawall.operators.core.detection._samples import VALUE_MAX, Sample, Score, ScoreState, observe
from seawall.operators.core.detection._statistics import (
    BINS,
    WARM_ROWS,
    Floats,
    Ints,
    RankHistogram,
    RobustMoments,
    batch_ranks,
    bin_indices,
    learn_batch_ranks,
)

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


# The loop of ``DeviationArray``, with numba where it is installed: one call for a row, or for a batch.
#
# Compiled on the first row, in memory and without fast-math, from the operations of ``DeviationDetector`` in their
# order; so results are equal with and without, to the last bit. A row of work is one number per feature, as many
# squared distances, and the score.

TOTAL, COUNTS, MOMENT_NUMBERS = (
    0,
    1,
    1 + _statistics.BINS,
)  # where each begins in a key's row: one number, BINS, three a feature
UNUSABLE, WARMING, READY = -1, 0, 1
_EDGES = np.array(_statistics.EDGES)


class DeviationLoops(NamedTuple):
    """``one(state, key, work)`` returns whether its score may be used; ``many(state, keys, work, told)`` writes it."""

    one: Callable[..., Any]
    many: Callable[..., Any]


@cache
def compiled() -> DeviationLoops | None:
    """Return the compiled loops; None where numba is not installed."""
    try:
        from numba import njit  # noqa: PLC0415 - extra fast
    except ImportError:
        return None
    distance, rank, learn, count = njit(_distance), njit(_rank), njit(_learn), njit(_count)

    def one(state: Any, key: int, work: Any) -> Any:  # pragma: no cover  (numba runs it)
        if not 0 <= key < len(state):
            raise IndexError("a key outside of the bank")
        row, width = state[key], len(work) // 2
        for at in range(width):
            if not -VALUE_MAX <= work[at] <= VALUE_MAX:
                return UNUSABLE
        ready = row[MOMENT_NUMBERS + 2] >= _statistics.WARM_ROWS
        largest = distance(row, work, width)
        place = np.searchsorted(_EDGES, largest, side="right")
        score = rank(row, largest, place) if ready else 0.0
        learn(row, work, width)
        count(row, place, score)
        work[2 * width] = score
        return READY if ready else WARMING

    single = njit(nogil=True)(one)

    def many(state: Any, keys: Any, work: Any, told: Any) -> None:  # pragma: no cover  (numba runs it)
        for line in range(len(keys)):
            told[line] = single(state, keys[line], work[line])

    return DeviationLoops(single, njit(nogil=True)(many))


def _distance(row: Any, work: Any, width: int) -> Any:  # pragma: no cover  (numba runs these four)
    """Write the squared distance of each feature, as ``squared_distance`` says it; return the largest."""
    largest = 0.0
    for at in range(width):
        place = MOMENT_NUMBERS + 3 * at
        gap, variance = work[at] - row[place], row[place + 1]
        squared = 0.0
        if variance > 0.0:
            squared = min(gap * gap / variance, _statistics.DISTANCE_MAX)
        elif gap != 0.0 and row[place + 2] >= _statistics.WARM_ROWS:
            squared = _statistics.DISTANCE_MAX
        work[width + at] = squared
        largest = max(largest, squared)
    return largest


def _rank(row: Any, value: float, place: int) -> Any:  # pragma: no cover
    """Return the rank of a value, as ``RankHistogram.of`` says it."""
    if row[TOTAL] == 0.0:
        return 0.0
    below = 0.0
    for at in range(COUNTS, COUNTS + place):
        below += row[at]
    inside = 1.0
    if place == 0:
        inside = value / _EDGES[0]
    elif place < len(_EDGES):
        inside = (value - _EDGES[place - 1]) / (_EDGES[place] - _EDGES[place - 1])
    share = (below + inside * row[COUNTS + place]) / row[TOTAL]
    if share <= _statistics.KNEE:
        return share * _statistics.BELOW_KNEE
    return min(_statistics.GATE_RANK + (share - _statistics.KNEE) * _statistics.ABOVE_KNEE, 1.0)


def _learn(row: Any, work: Any, width: int) -> None:  # pragma: no cover
    """Take in a row, as ``updated_moments`` does it."""
    for at in range(width):
        place = MOMENT_NUMBERS + 3 * at
        row[place + 2] += 1.0
        variance, count, squared = row[place + 1], row[place + 2], work[width + at]
        rate = _statistics.LEARN_RATE if count * _statistics.LEARN_RATE > 1.0 else 1.0 / count
        if squared > _statistics.ORDINARY_Z2 and count > _statistics.WARM_ROWS and variance > 0.0:
            rate *= _statistics.ORDINARY_Z2 / squared
        gap = work[at] - row[place]
        row[place] += rate * gap
        row[place + 1] = (1.0 - rate) * (variance + rate * gap * gap)


def _count(row: Any, place: int, score: float) -> None:  # pragma: no cover
    """Count a value, as ``RankHistogram.learn`` does it."""
    weight = _statistics.UNUSUAL_WEIGHT if score > _statistics.GATE_RANK else _statistics.ORDINARY_WEIGHT
    row[COUNTS + place] += weight
    row[TOTAL] += weight
    if row[TOTAL] > _statistics.TOTAL_MAX:
        row[TOTAL] = 0.0
        for at in range(COUNTS, COUNTS + _statistics.BINS):
            row[at] = row[at] // 2.0
            row[TOTAL] += row[at]


# The largest z of many keys in one array: what ``DeviationDetector`` says of one, with equal results to the last bit.
#
# A row of one feature costs 3 µs in plain Python, three times what River's own scorers without guard and calibration
# take. With numba (the extra ``fast``) guard, score, calibration and learning are one compiled call, for a row or for a
# batch; without, a batch is a few operations for all keys together.

_ARRAY_TAG = "devbnk01"


class DeviationArray:
    """``DeviationDetector`` detectors of ``keys`` keys with the same features.

    Examples
    --------
    >>> bank = DeviationArray(100, ("spread",))
    >>> keys = np.arange(100)
    >>> for row in range(300):
    ...     batch = bank.observe(keys, np.full((100, 1), 1.0 + row % 3))
    >>> bool(batch.ready.all()), bank.observe(keys, np.full((100, 1), 30.0)).values.tolist() == [1.0] * 100
    (True, True)
    """

    def __init__(self, keys: int, names: tuple[str, ...]) -> None:
        self._single = DeviationDetector(names)
        self.state: Floats = np.tile(np.array(self._single.numbers()), (keys, 1))
        self._width = len(names)
        self._work = np.zeros(2 * len(names) + 1)  # of one row, for the compiled loop

    def observe_one(self, key: int, values: tuple[float, ...]) -> float | None:
        """Score and learn one row of one key, at the cost of one call.

        Returns
        -------
        float | None
            0..1; None while the key warms up, and of a row that holds an unusable number, which leaves no trace.
        """
        kernels = compiled()
        if kernels is None:
            batch = self.observe(np.array([key]), np.array([values]))
            return float(batch.values[0]) if batch.ready[0] else None
        work, at = self._work, 0
        for value in values:
            work[at] = value
            at += 1  # noqa: SIM113  enumerate costs a tuple
        return work.item(-1) if kernels.one(self.state, key, work) == READY else None

    def observe(self, keys: Ints, values: Floats) -> BatchScores:
        """Score and learn one row for each of ``keys``, which must differ.

        Parameters
        ----------
        keys
            Shape (rows,).
        values
            Shape (rows, features). A row that holds an unusable number is not ready and leaves no trace.
        """
        kernels = compiled()
        if kernels is not None:
            work, told = np.zeros((len(keys), 2 * self._width + 1)), np.zeros(len(keys), np.int64)
            work[:, : self._width] = values
            kernels.many(self.state, keys, work, told)
            return BatchScores(work[:, -1], told == READY)
        result = BatchScores(np.zeros(len(keys)), np.zeros(len(keys), bool))
        if len(keys) < ARRAY_BATCH_MIN:
            for row, key in enumerate(keys.tolist()):
                self._single.take(self.state[key].tolist())
                score = observe(self._single, Sample(None, tuple(values[row].tolist())))
                self.state[key] = self._single.numbers()
                result.values[row], result.ready[row] = score.value, score.state is ScoreState.READY
            return result
        usable = (np.abs(values) <= VALUE_MAX).all(axis=1)
        state = self.state[keys[usable]]
        result.values[usable], result.ready[usable] = _advance(state, values[usable])
        self.state[keys[usable]] = state
        return result

    def snapshot(self) -> bytes:
        """Encode the state of all keys."""
        return pack_numbers(_ARRAY_TAG, [float(len(self.state))]) + self.state.astype("<f8", copy=False).tobytes()

    def restore(self, data: bytes) -> None:
        """Take over the state of a bank with the same features."""
        head = len(pack_numbers(_ARRAY_TAG, [0.0]))
        keys = int(unpack_numbers(_ARRAY_TAG, data[:head], 1)[0])
        self.state = np.frombuffer(data, "<f8", offset=head).reshape(keys, self.state.shape[1]).copy()


def _advance(state: Floats, values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Score all rows, then learn them into ``state``, as ``DeviationDetector`` does with one."""
    mean, variance, count = (state[:, MOMENT_NUMBERS + at :: 3] for at in range(3))
    counts, total = state[:, COUNTS:MOMENT_NUMBERS], state[:, TOTAL]
    gap, known = values - mean, variance > 0.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        squares = np.minimum(gap * gap / variance, _statistics.DISTANCE_MAX)
    if not known.all():
        constant = np.where((gap != 0.0) & (count >= _statistics.WARM_ROWS), _statistics.DISTANCE_MAX, 0.0)
        squares = np.where(known, squares, constant)
    ready = count[:, 0] >= _statistics.WARM_ROWS
    largest = squares.max(axis=1)
    bins = bin_indices(largest)
    score = np.where(ready, batch_ranks(counts, total, largest, bins), 0.0)
    learn_batch_ranks(counts, total, bins, score > _statistics.GATE_RANK)
    count += 1.0
    rate = np.where(count * _statistics.LEARN_RATE > 1.0, _statistics.LEARN_RATE, 1.0 / count)
    far = (squares > _statistics.ORDINARY_Z2) & (count > _statistics.WARM_ROWS) & known
    rate = np.where(far, rate * (_statistics.ORDINARY_Z2 / np.where(far, squares, 1.0)), rate)
    variance[:] = (1.0 - rate) * (variance + rate * gap * gap)
    mean += rate * gap
    return score, ready
