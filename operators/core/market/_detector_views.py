"""Detector views: each row of a 32-bit `CompositeArray` as a detector of its own.

All rows that have something to judge advance together (``DetectorViews.observe``); then the lifecycle of each model
asks its views one by one, as it would ask any detector, and is given what the array has answered and learned. So
challengers cost a row more, and trials, promotion and rollback are the same code for them as for every other detector.
"""

from array import array
from typing import Any, Self

import numpy as np

from seawall.operators.core.base import pack_numbers, unpack_numbers
from seawall.operators.core.detection import ARRAY_BATCH_MIN, Composite, CompositeArray, Sample, Score, ScoreState

ARRAY_ROWS_MIN = 16
BITS = 32

_TAG = "seat__01"


class DetectorView:
    """One row of the array, as a detector. ``answer`` is what it said of the row that is being judged."""

    __slots__ = ("_views", "answer", "place")

    def __init__(self, views: "DetectorViews", place: int) -> None:
        self._views, self.place = views, place
        self.answer = Score(0.0, ScoreState.WARMING)

    @property
    def names(self) -> tuple[str, ...]:
        """Column and view of each contribution."""
        return self._views.names

    def score(self, sample: Sample) -> Score:
        """Return what ``DetectorViews.observe`` found."""
        return self.answer

    def learn(self, sample: Sample, score: Score) -> None:
        """Do nothing: ``DetectorViews.observe`` has learned the row."""

    def fresh(self) -> Self:
        """Take another seat."""
        return type(self)(self._views, self._views.take().place)

    def snapshot(self) -> bytes:
        """Encode which row it is."""
        return pack_numbers(_TAG, [self.place])

    def restore(self, data: bytes) -> None:
        """Take over a row."""
        self.place = int(unpack_numbers(_TAG, data, 1)[0])


class DetectorViews:
    """The array, which doubles when it is full.

    Examples
    --------
    >>> seats = DetectorViews(("spread_bp",))
    >>> seat = seats.take()
    >>> seats.observe([seat], 0, [(1.0,)])
    >>> seat.answer.state
    <ScoreState.WARMING: 'warming'>
    """

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._bank = CompositeArray(ARRAY_ROWS_MIN, columns, BITS)
        self._blank = self._bank.state[0].copy()
        self._single = Composite(columns)
        self._made = 0
        self._free: list[int] = []

    @property
    def names(self) -> tuple[str, ...]:
        """Column and view of each contribution."""
        return self._single.names

    @property
    def value_max(self) -> float:
        """Numbers beyond it cannot be judged."""
        return self._bank.value_max

    def take(self, numbers: list[float] | None = None) -> DetectorView:
        """Return a seat that has seen nothing, or begins with the state of a composite."""
        if self._free:
            place = self._free.pop()
        else:
            place, self._made = self._made, self._made + 1
            self._grow()
        self._bank.state[place] = self._blank if numbers is None else numbers
        return DetectorView(self, place)

    def give_back(self, view: DetectorView) -> None:
        """Let somebody else have a seat."""
        self._free.append(view.place)

    def at(self, place: int) -> DetectorView:
        """Return the seat of a row."""
        return DetectorView(self, place)

    def observe(self, views: list[DetectorView], time_us: int, rows: list[tuple[float, ...]]) -> None:
        """Score and learn one row for each seat; each then holds its answer, with the state before it as detail."""
        if len(views) < ARRAY_BATCH_MIN:
            for view, row in zip(views, rows, strict=True):
                self._observe_one(view, Sample(time_us, row))
            return
        places = np.array([view.place for view in views], np.int64)
        before = self._bank.state[places]
        batch = self._bank.observe(places, np.full(len(views), time_us, np.int64), np.array(rows, np.float64))
        ready = batch.ready.tolist()
        for at, (view, value) in enumerate(zip(views, batch.values.tolist(), strict=True)):
            view.answer = Score(value, ScoreState.READY if ready[at] else ScoreState.WARMING, (), before[at])

    def _observe_one(self, view: DetectorView, sample: Sample) -> None:
        """Do the same for one seat in plain Python, without the cost of small arrays."""
        state, single, rounded = self._bank.state[view.place], self._single, self.rounded(sample)
        before = state.copy()
        single.take(before.tolist())
        score = single.score(rounded)
        single.learn(rounded, score)
        state[:] = single.numbers()
        view.answer = Score(score.value, score.state, (), before)

    def again(self, sample: Sample, answer: Score) -> Score:
        """Judge a row once more as a seat did, with what its answer was made of."""
        self._single.take(answer.detail.tolist())
        return self._single.score(self.rounded(sample))

    def rounded(self, sample: Sample) -> Sample:
        """Return a sample as the array sees it."""
        return Sample(sample.time_us, tuple(array("f", sample.values)))

    def snapshot(self) -> list[Any]:
        """Return the rows that were ever taken, and which of them are free."""
        whole, self._bank.state = self._bank.state, self._bank.state[: self._made]
        data = self._bank.snapshot()
        self._bank.state = whole
        return [data, self._made, self._free]

    def restore(self, state: list[Any]) -> None:
        """Take over a state of the same columns."""
        self._bank.restore(state[0])
        self._made, self._free = state[1], list(state[2])
        self._grow()

    def _grow(self) -> None:
        have = len(self._bank.state)
        if self._made > have or not have:
            more = max(have, self._made - have, ARRAY_ROWS_MIN)
            self._bank.state = np.concatenate([self._bank.state, np.tile(self._blank, (more, 1))])
