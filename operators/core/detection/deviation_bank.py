"""The largest z of many keys in one array: what ``Deviation`` says of one, with equal results to the last bit.

A row of one feature costs 3 µs in plain Python, three times what River's own scorers without guard and calibration
take. With numba (the extra ``fast``) guard, score, calibration and learning are one compiled call, for a row or for a
batch; without, a batch is a few operations for all keys together.
"""

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.detection import moments, ranks
from seawall.operators.core.detection.bank import BATCH_MIN, Batch
from seawall.operators.core.detection.deviation_kernel import COUNTS, MOMENTS, READY, TOTAL, compiled
from seawall.operators.core.detection.deviations import Deviation
from seawall.operators.core.detection.flat import from_bytes, to_bytes
from seawall.operators.core.detection.rank_batches import Floats, Ints, bins_of, learn_rank, rank_of
from seawall.operators.core.detection.samples import VALUE_MAX, Sample, State, observe

_TAG = "devbnk01"


class DeviationBank:
    """``Deviation`` detectors of ``keys`` keys with the same features.

    Examples
    --------
    >>> bank = DeviationBank(100, ("spread",))
    >>> keys = np.arange(100)
    >>> for row in range(300):
    ...     batch = bank.observe(keys, np.full((100, 1), 1.0 + row % 3))
    >>> bool(batch.ready.all()), bank.observe(keys, np.full((100, 1), 30.0)).values.tolist() == [1.0] * 100
    (True, True)
    """

    def __init__(self, keys: int, names: tuple[str, ...]) -> None:
        self._single = Deviation(names)
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

    def observe(self, keys: Ints, values: Floats) -> Batch:
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
            return Batch(work[:, -1], told == READY)
        result = Batch(np.zeros(len(keys)), np.zeros(len(keys), bool))
        if len(keys) < BATCH_MIN:
            for row, key in enumerate(keys.tolist()):
                self._single.take(self.state[key].tolist())
                score = observe(self._single, Sample(None, tuple(values[row].tolist())))
                self.state[key] = self._single.numbers()
                result.values[row], result.ready[row] = score.value, score.state is State.READY
            return result
        usable = (np.abs(values) <= VALUE_MAX).all(axis=1)
        state = self.state[keys[usable]]
        result.values[usable], result.ready[usable] = _advance(state, values[usable])
        self.state[keys[usable]] = state
        return result

    def snapshot(self) -> bytes:
        """Encode the state of all keys."""
        return to_bytes(_TAG, [float(len(self.state))]) + self.state.astype("<f8", copy=False).tobytes()

    def restore(self, data: bytes) -> None:
        """Take over the state of a bank with the same features."""
        head = len(to_bytes(_TAG, [0.0]))
        keys = int(from_bytes(_TAG, data[:head], 1)[0])
        self.state = np.frombuffer(data, "<f8", offset=head).reshape(keys, self.state.shape[1]).copy()


def _advance(state: Floats, values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Score all rows, then learn them into ``state``, as ``Deviation`` does with one."""
    mean, variance, count = (state[:, MOMENTS + at :: 3] for at in range(3))
    counts, total = state[:, COUNTS:MOMENTS], state[:, TOTAL]
    gap, known = values - mean, variance > 0.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        squares = np.minimum(gap * gap / variance, moments.DISTANCE_MAX)
    if not known.all():
        constant = np.where((gap != 0.0) & (count >= moments.WARM_ROWS), moments.DISTANCE_MAX, 0.0)
        squares = np.where(known, squares, constant)
    ready = count[:, 0] >= moments.WARM_ROWS
    largest = squares.max(axis=1)
    bins = bins_of(largest)
    score = np.where(ready, rank_of(counts, total, largest, bins), 0.0)
    learn_rank(counts, total, bins, score > ranks.GATE_RANK)
    count += 1.0
    rate = np.where(count * moments.LEARN_RATE > 1.0, moments.LEARN_RATE, 1.0 / count)
    far = (squares > moments.ORDINARY_Z2) & (count > moments.WARM_ROWS) & known
    rate = np.where(far, rate * (moments.ORDINARY_Z2 / np.where(far, squares, 1.0)), rate)
    variance[:] = (1.0 - rate) * (variance + rate * gap * gap)
    mean += rate * gap
    return score, ready
