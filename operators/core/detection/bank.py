"""Composite detectors of many keys in one array: single rows in plain Python, batches in numpy, with equal results.

One row of the array is one key's state in the flat layout of ``Composite``, so a snapshot of all keys is one copy of
memory. Below ``BATCH_MIN`` rows a key is taken out, asked as a ``Composite``, and put back: numpy's cost per call would
be larger than the work. From there on all rows advance together, with the same operations in the same order, so that
batch size never shows in a score, to the last bit.

A bank may keep 32-bit numbers, for half the memory: what comes in and what is kept is rounded to them after each row,
the arithmetic between is the same, and so is what a restart continues with. Fit for ratios, basis points and standard
deviations; a price of nine digits would not be.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.detection import composite as one
from seawall.operators.core.detection import moments, ranks, views
from seawall.operators.core.detection.flat import from_bytes, to_bytes
from seawall.operators.core.detection.rank_batches import bins_of, learn_rank, rank_of
from seawall.operators.core.detection.samples import VALUE_MAX, Sample, State, observe

BATCH_MIN = 16
NO_TIME = -1

VALUE_MAX_32 = 1e18  # beyond it a square is infinite in 32 bits

_TAGS = {"<f8": "bank__02", "<f4": "bank4_01"}
_SMOOTHED, _ROWS, _LAST_EVIDENCE, _LAST_AGE, _TOTAL = range(one.KEY_NUMBERS)
_COUNTS = slice(one.KEY_NUMBERS, one.KEY_NUMBERS + ranks.BINS)
_HOUR_MEAN = 25
_HOUR, _HOUR_SUM, _HOUR_COUNT, _LAST, _SLOW, _ENERGY = range(25 + views.HOURS, views.NUMBERS)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Batch(NamedTuple):
    """The answers to a batch: values 0..1, and which rows were ready (of the others the value is 0)."""

    values: Floats
    ready: NDArray[np.bool_]


class Bank:
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

    def observe(self, keys: Ints, times_us: Ints, values: Floats) -> Batch:
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
        if len(keys) < BATCH_MIN:
            return self._observe_singly(keys, times_us, values)
        result = Batch(np.zeros(len(keys)), np.zeros(len(keys), bool))
        state = self.state[keys[usable]].astype(np.float64)
        result.values[usable], result.ready[usable] = _advance(state, times_us[usable], values[usable])
        self.state[keys[usable]] = state
        return result

    def snapshot(self) -> bytes:
        """Encode the state of all keys."""
        return (
            to_bytes(_TAGS[self._kind], [float(len(self.state))]) + self.state.astype(self._kind, copy=False).tobytes()
        )

    def restore(self, data: bytes) -> None:
        """Take over the state of a bank of the same shape."""
        tag = _TAGS[self._kind]
        head = len(to_bytes(tag, [0.0]))
        keys = int(from_bytes(tag, data[:head], 1)[0])
        self.state = np.frombuffer(data, self._kind, offset=head).reshape(keys, one.size(self._width)).copy()

    def _observe_singly(self, keys: Ints, times_us: Ints, values: Floats) -> Batch:
        result = Batch(np.zeros(len(keys)), np.zeros(len(keys), bool))
        for row, key in enumerate(keys.tolist()):
            self._composite.take(self.state[key].tolist())
            time_us = int(times_us[row])
            score = observe(
                self._composite, Sample(None if time_us == NO_TIME else time_us, tuple(values[row].tolist()))
            )
            self.state[key] = self._composite.numbers()
            result.values[row], result.ready[row] = score.value, score.state is State.READY
        return result


def _advance(state: Floats, times_us: Ints, values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Score all rows, then learn them into ``state``, as ``Composite`` does with one."""
    hours = np.where(times_us == NO_TIME, -1, times_us // views.HOUR_US % views.HOURS)
    distance, evidence = np.zeros(len(state)), np.full(len(state), -np.inf)
    looks = []
    for index in range(values.shape[1]):
        begin = one.KEY_NUMBERS + ranks.BINS + views.NUMBERS * index
        column = state[:, begin : begin + views.NUMBERS]
        look = _look(column, values[:, index], hours)
        looks.append((column, look))
        evidence = np.maximum(evidence, _add(look.evidence))
        for view, weight in enumerate(one.VIEW_WEIGHTS):
            distance = distance + weight * look.distances[:, view]
    evidence = evidence / (len(views.VIEWS) * np.sqrt(float(len(looks))))
    smoothed = state[:, _SMOOTHED] + one.SMOOTHING * (distance / len(looks) - state[:, _SMOOTHED])
    bins = bins_of(smoothed)
    rank = rank_of(state[:, _COUNTS], state[:, _TOTAL], smoothed, bins)
    ready = state[:, _ROWS] >= moments.WARM_ROWS
    record = (evidence > state[:, _LAST_EVIDENCE]) | (state[:, _LAST_AGE] >= one.REFRACTORY_ROWS)
    candidate = ready & record & (evidence >= one.EVIDENCE_MIN)
    score = np.where(candidate, 0.5 + 0.5 * evidence, np.where(ready, 0.5 * np.minimum(rank, ranks.UNUSUAL_RANK), 0.0))
    for index, (column, look) in enumerate(looks):
        _learn(column, values[:, index], hours, look)
    learn_rank(state[:, _COUNTS], state[:, _TOTAL], bins, ready & (rank > ranks.GATE_RANK))
    state[:, _SMOOTHED] = smoothed
    state[:, _ROWS] += 1.0
    state[:, _LAST_AGE] = np.where(candidate, 0.0, state[:, _LAST_AGE] + 1.0)
    state[:, _LAST_EVIDENCE] = np.where(candidate, evidence, state[:, _LAST_EVIDENCE])
    return score, ready


class _Look(NamedTuple):
    values: Floats
    known: NDArray[np.bool_]
    distances: Floats
    evidence: Floats


def _look(column: Floats, value: Floats, hours: Ints) -> _Look:
    rows = np.arange(len(column))
    first = column[:, _LAST] == views.UNKNOWN
    change = np.where(first, 0.0, value - column[:, _LAST])
    energy = column[:, _ENERGY] + views.VOLATILITY_RATE * (change * change - column[:, _ENERGY])
    drift = np.where(first, 0.0, value - column[:, _SLOW])
    level = np.where(hours < 0, views.UNKNOWN, column[rows, _HOUR_MEAN + np.maximum(hours, 0)])
    unusual = np.where(level == views.UNKNOWN, 0.0, value - level)
    seen = np.stack([value, drift, unusual, change, np.sqrt(energy)], axis=1)
    known = np.ones(seen.shape, bool)
    known[:, 2] = level != views.UNKNOWN
    mean, variance, count, low, high = (column[:, at : at + 5] for at in range(0, 25, 5))
    gap = seen - mean
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        squared = np.minimum(gap * gap / variance, moments.DISTANCE_MAX)
        constant = np.where((gap != 0.0) & (count >= moments.WARM_ROWS), moments.DISTANCE_MAX, 0.0)
        distances = np.where(known & (count > 0.0), np.where(variance > 0.0, squared, constant), 0.0)
        excess = np.where(seen > high, seen - high, low - seen)
        width = high - low
        found = excess / (excess + views.EVIDENCE_HALF * np.where(width == 0.0, excess, width))
    outside = known & (count > moments.WARM_ROWS) & ((seen < low) | (seen > high))
    return _Look(seen, known, distances, np.where(outside, found, 0.0))


def _learn(column: Floats, value: Floats, hours: Ints, look: _Look) -> None:
    first = column[:, _LAST] == views.UNKNOWN
    _learn_moments(column, look)
    change = np.where(first, 0.0, value - column[:, _LAST])
    column[:, _SLOW] = np.where(first, value, column[:, _SLOW] + views.DRIFT_RATE * (value - column[:, _SLOW]))
    column[:, _ENERGY] += views.VOLATILITY_RATE * (change * change - column[:, _ENERGY])
    column[:, _LAST] = value
    _learn_hour(column, value, hours)


def _learn_moments(column: Floats, look: _Look) -> None:
    mean, variance, count, low, high = (column[:, at : at + 5] for at in range(0, 25, 5))
    seen, known = look.values, look.known
    after = count + 1.0
    rate = np.where(after * moments.LEARN_RATE > 1.0, moments.LEARN_RATE, 1.0 / after)
    warm = after > moments.WARM_ROWS
    far = (look.distances > moments.ORDINARY_Z2) & warm & (variance > 0.0)
    rate = np.where(far, rate * (moments.ORDINARY_Z2 / np.where(far, look.distances, 1.0)), rate)
    gap = seen - mean
    width = high - low
    shrink = warm & (width > 0.0)
    inner_low = np.where(shrink, low + views.RANGE_DECAY * width, low)
    inner_high = np.where(shrink, high - views.RANGE_DECAY * width, high)
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
    known = usual != views.UNKNOWN
    moved = usual + views.HOUR_RATE * (level - np.where(known, usual, level))
    column[rows, _HOUR_MEAN + slot] = np.where(known, moved, level)
    column[left, _HOUR] = hours[left]
    column[left, _HOUR_SUM] = column[left, _HOUR_COUNT] = 0.0
    column[timed, _HOUR_SUM] += value[timed]
    column[timed, _HOUR_COUNT] += 1.0


def _add(parts: Floats) -> Floats:
    result = np.zeros(len(parts))
    for index in range(parts.shape[1]):
        result = result + parts[:, index]
    return result
