"""Composite detectors of many keys in one array: single rows in plain Python, batches in numpy, with equal results.

One row of the array is one key's state in the flat layout of ``Composite``, so a snapshot of all keys is one copy of
memory. Below ``ARRAY_BATCH_MIN`` rows a key is taken out, asked as a ``Composite``, and put back: numpy's cost per call
would be larger than the work. From there on all rows advance together, with the same operations in the same order, so
that batch size never shows in a score, to the last bit.

An array may keep 32-bit numbers, for half the memory: what comes in and what is kept is rounded to them after each row,
the arithmetic between is the same, and so is what a restart continues with. Fit for ratios, basis points and standard
deviations; a price of nine digits would not be.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import pack_numbers, unpack_numbers
from seawall.operators.core.detection import _composite, _statistics
from seawall.operators.core.detection import _composite as one
from seawall.operators.core.detection._samples import VALUE_MAX, Sample, ScoreState, observe
from seawall.operators.core.detection._statistics import batch_ranks, bin_indices, learn_batch_ranks

ARRAY_BATCH_MIN = 16
NO_TIME = -1

VALUE_MAX_32 = 1e18  # beyond it a square is infinite in 32 bits

_TAGS = {"<f8": "bank__02", "<f4": "bank4_01"}
_SMOOTHED, _ROWS, _LAST_EVIDENCE, _LAST_AGE, _TOTAL = range(one.KEY_NUMBERS)
_COUNTS = slice(one.KEY_NUMBERS, one.KEY_NUMBERS + _statistics.BINS)
_HOUR_MEAN = 25
_HOUR, _HOUR_SUM, _HOUR_COUNT, _LAST, _SLOW, _ENERGY = range(25 + _composite.HOURS, _composite.COLUMN_NUMBERS)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class BatchScores(NamedTuple):
    """The answers to a batch: values 0..1, and which rows were ready (of the others the value is 0)."""

    values: Floats
    ready: NDArray[np.bool_]


class CompositeArray:
    """The composites of ``keys`` keys with the same columns.

    Parameters
    ----------
    keys, columns
        How many, and the names of their values.
    bits
        64, or 32 to keep numbers of half the size.
    """

    def __init__(self, keys: int, columns: tuple[str, ...], bits: int = 64) -> None:
        self._composite = one.Composite(columns)
        self._width = len(columns)
        self._kind = f"<f{bits // 8}"
        self.value_max = VALUE_MAX if bits == 64 else VALUE_MAX_32
        self.state: NDArray[np.floating] = np.tile(np.array(self._composite.numbers(), self._kind), (keys, 1))

    def observe(self, keys: Ints, times_us: Ints, values: Floats) -> BatchScores:
        """Score and learn one row for each of ``keys``, which must differ.

        Parameters
        ----------
        keys, times_us
            Shape (rows,); ``NO_TIME`` where a time is unknown.
        values
            Shape (rows, columns). A row that holds an unusable number is not ready and leaves no trace.
        """
        usable = np.asarray((np.abs(values) <= self.value_max).all(axis=1))
        values = np.where(usable[:, None], values, np.nan).astype(self._kind).astype(np.float64)
        if len(keys) < ARRAY_BATCH_MIN:
            return self._observe_singly(keys, times_us, values)
        result = BatchScores(np.zeros(len(keys)), np.zeros(len(keys), bool))
        state = self.state[keys[usable]].astype(np.float64)
        result.values[usable], result.ready[usable] = _advance(state, times_us[usable], values[usable])
        self.state[keys[usable]] = state
        return result

    def snapshot(self) -> bytes:
        """Encode the state of all keys."""
        return (
            pack_numbers(_TAGS[self._kind], [float(len(self.state))])
            + self.state.astype(self._kind, copy=False).tobytes()
        )

    def restore(self, data: bytes) -> None:
        """Take over the state of a bank of the same shape."""
        tag = _TAGS[self._kind]
        head = len(pack_numbers(tag, [0.0]))
        keys = int(unpack_numbers(tag, data[:head], 1)[0])
        self.state = np.frombuffer(data, self._kind, offset=head).reshape(keys, one.composite_size(self._width)).copy()

    def _observe_singly(self, keys: Ints, times_us: Ints, values: Floats) -> BatchScores:
        result = BatchScores(np.zeros(len(keys)), np.zeros(len(keys), bool))
        for row, key in enumerate(keys.tolist()):
            self._composite.take(self.state[key].tolist())
            time_us = int(times_us[row])
            score = observe(
                self._composite, Sample(None if time_us == NO_TIME else time_us, tuple(values[row].tolist()))
            )
            self.state[key] = self._composite.numbers()
            result.values[row], result.ready[row] = score.value, score.state is ScoreState.READY
        return result


def _advance(state: Floats, times_us: Ints, values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Score all rows, then learn them into ``state``, as ``Composite`` does with one."""
    hours = np.where(times_us == NO_TIME, -1, times_us // _composite.HOUR_US % _composite.HOURS)
    distance, evidence = np.zeros(len(state)), np.full(len(state), -np.inf)
    looks = []
    for index in range(values.shape[1]):
        begin = one.KEY_NUMBERS + _statistics.BINS + _composite.COLUMN_NUMBERS * index
        column = state[:, begin : begin + _composite.COLUMN_NUMBERS]
        look = _read_views(column, values[:, index], hours)
        looks.append((column, look))
        evidence = np.maximum(evidence, _ordered_sum(look.evidence))
        for view, weight in enumerate(one.VIEW_WEIGHTS):
            distance = distance + weight * look.distances[:, view]
    evidence = evidence / (len(_composite.VIEWS) * np.sqrt(float(len(looks))))
    smoothed = state[:, _SMOOTHED] + one.SMOOTHING * (distance / len(looks) - state[:, _SMOOTHED])
    bins = bin_indices(smoothed)
    rank = batch_ranks(state[:, _COUNTS], state[:, _TOTAL], smoothed, bins)
    ready = state[:, _ROWS] >= _statistics.WARM_ROWS
    record = (evidence > state[:, _LAST_EVIDENCE]) | (state[:, _LAST_AGE] >= one.REFRACTORY_ROWS)
    candidate = ready & record & (evidence >= one.EVIDENCE_MIN)
    score = np.where(
        candidate, 0.5 + 0.5 * evidence, np.where(ready, 0.5 * np.minimum(rank, _statistics.UNUSUAL_RANK), 0.0)
    )
    for index, (column, look) in enumerate(looks):
        _learn(column, values[:, index], hours, look)
    learn_batch_ranks(state[:, _COUNTS], state[:, _TOTAL], bins, ready & (rank > _statistics.GATE_RANK))
    state[:, _SMOOTHED] = smoothed
    state[:, _ROWS] += 1.0
    state[:, _LAST_AGE] = np.where(candidate, 0.0, state[:, _LAST_AGE] + 1.0)
    state[:, _LAST_EVIDENCE] = np.where(candidate, evidence, state[:, _LAST_EVIDENCE])
    return score, ready


class _BatchReadings(NamedTuple):
    values: Floats
    known: NDArray[np.bool_]
    distances: Floats
    evidence: Floats


def _read_views(column: Floats, value: Floats, hours: Ints) -> _BatchReadings:
    rows = np.arange(len(column))
    first = column[:, _LAST] == _composite.UNKNOWN_VALUE
    change = np.where(first, 0.0, value - column[:, _LAST])
    energy = column[:, _ENERGY] + _composite.VOLATILITY_RATE * (change * change - column[:, _ENERGY])
    drift = np.where(first, 0.0, value - column[:, _SLOW])
    level = np.where(hours < 0, _composite.UNKNOWN_VALUE, column[rows, _HOUR_MEAN + np.maximum(hours, 0)])
    unusual = np.where(level == _composite.UNKNOWN_VALUE, 0.0, value - level)
    seen = np.stack([value, drift, unusual, change, np.sqrt(energy)], axis=1)
    known = np.ones(seen.shape, bool)
    known[:, 2] = level != _composite.UNKNOWN_VALUE
    mean, variance, count, low, high = (column[:, at : at + 5] for at in range(0, 25, 5))
    gap = seen - mean
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        squared = np.minimum(gap * gap / variance, _statistics.DISTANCE_MAX)
        constant = np.where((gap != 0.0) & (count >= _statistics.WARM_ROWS), _statistics.DISTANCE_MAX, 0.0)
        distances = np.where(known & (count > 0.0), np.where(variance > 0.0, squared, constant), 0.0)
        excess = np.where(seen > high, seen - high, low - seen)
        width = high - low
        found = excess / (excess + _composite.EVIDENCE_HALF * np.where(width == 0.0, excess, width))
    outside = known & (count > _statistics.WARM_ROWS) & ((seen < low) | (seen > high))
    return _BatchReadings(seen, known, distances, np.where(outside, found, 0.0))


def _learn(column: Floats, value: Floats, hours: Ints, look: _BatchReadings) -> None:
    first = column[:, _LAST] == _composite.UNKNOWN_VALUE
    _learn_moments(column, look)
    change = np.where(first, 0.0, value - column[:, _LAST])
    column[:, _SLOW] = np.where(first, value, column[:, _SLOW] + _composite.DRIFT_RATE * (value - column[:, _SLOW]))
    column[:, _ENERGY] += _composite.VOLATILITY_RATE * (change * change - column[:, _ENERGY])
    column[:, _LAST] = value
    _learn_hour(column, value, hours)


def _learn_moments(column: Floats, look: _BatchReadings) -> None:
    mean, variance, count, low, high = (column[:, at : at + 5] for at in range(0, 25, 5))
    seen, known = look.values, look.known
    after = count + 1.0
    rate = np.where(after * _statistics.LEARN_RATE > 1.0, _statistics.LEARN_RATE, 1.0 / after)
    warm = after > _statistics.WARM_ROWS
    far = (look.distances > _statistics.ORDINARY_Z2) & warm & (variance > 0.0)
    rate = np.where(far, rate * (_statistics.ORDINARY_Z2 / np.where(far, look.distances, 1.0)), rate)
    gap = seen - mean
    width = high - low
    shrink = warm & (width > 0.0)
    inner_low = np.where(shrink, low + _composite.RANGE_DECAY * width, low)
    inner_high = np.where(shrink, high - _composite.RANGE_DECAY * width, high)
    clipped = np.where(shrink, np.minimum(np.maximum(seen, inner_low - width), inner_high + width), seen)
    opened = after == 1.0
    new_low = np.where(opened, seen, np.minimum(inner_low, clipped))
    new_high = np.where(opened, seen, np.maximum(inner_high, clipped))
    variance[known] = ((1.0 - rate) * (variance + rate * gap * gap))[known]
    mean[known] = (mean + rate * gap)[known]
    low[known], high[known], count[known] = new_low[known], new_high[known], after[known]


def _learn_hour(column: Floats, value: Floats, hours: Ints) -> None:
    timed = hours >= 0
    left = timed & (hours != column[:, _HOUR])
    rows = np.flatnonzero(left & (column[:, _HOUR_COUNT] > 0.0))
    slot = column[rows, _HOUR].astype(int)
    usual, level = column[rows, _HOUR_MEAN + slot], column[rows, _HOUR_SUM] / column[rows, _HOUR_COUNT]
    known = usual != _composite.UNKNOWN_VALUE
    moved = usual + _composite.HOUR_RATE * (level - np.where(known, usual, level))
    column[rows, _HOUR_MEAN + slot] = np.where(known, moved, level)
    column[left, _HOUR] = hours[left]
    column[left, _HOUR_SUM] = column[left, _HOUR_COUNT] = 0.0
    column[timed, _HOUR_SUM] += value[timed]
    column[timed, _HOUR_COUNT] += 1.0


def _ordered_sum(parts: Floats) -> Floats:
    result = np.zeros(len(parts))
    for index in range(parts.shape[1]):
        result = result + parts[:, index]
    return result
