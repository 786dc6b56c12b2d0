"""Detector views: each row of a 32-bit `CompositeArray` as a detector of its own.

All rows that have something to judge advance together (``DetectorViews.observe``); then the lifecycle of each model
asks its views one by one, as it would ask any detector, and is given what the array has answered and learned. So
challengers cost a row more, and trials, promotion and rollback are the same code for them as for every other detector.
"""

from array import array
from typing import Any, Self

import numpy as np

from seawall.operators.core.base import pack_numbers, unpack_numbers
from seawall.operators.core.detection._composite import CANDIDATE_SCORE, UNUSUAL_SCORE, Composite
from seawall.operators.core.detection._composite_array import ARRAY_BATCH_MIN, CompositeArray
from seawall.operators.core.detection._model_lifecycle import (
    TRIAL_TERMS,
    ChallengerRole,
    ModelLifecycle,
    PageHinkley,
    Trial,
    TrialTerms,
    new_page_hinkley,
)
from seawall.operators.core.detection._model_lifecycle import LifecycleChange as Happened
from seawall.operators.core.detection._model_spec import Judgement, ModelFamily, ModelKind, ModelReport
from seawall.operators.core.detection._samples import Detector, Sample, Score, ScoreState
from seawall.operators.core.detection._shared_forest import SharedForestKind

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


# Model lifecycles of a group: one model per instrument and family of features (`ModelLifecycle`).
#
# * A new instrument answers with what its asset class knows, as soon as that is enough, while its own model warms up.
#   Asset classes are the kinds of instruments (``spot``, ``perpetual``, ...), "" where no reference record says.
# * A model whose scores have drifted is retrained beside the one that answers, takes over after a trial, and is rolled
#   back where it turns out worse. With ``challenger``, half-space trees that the asset class shares challenge each
#   model.
# * All that happens is reported (``drain``), and stands in the group's signals.
#
# The composites among the models, champions and challengers alike, are rows of one array and judged together.
#
# Notes
# -----
# State: 300 bytes per family and 220 per feature, 80 for the lifecycle; twice that while a challenger is tried.

NO_ROW = -1
WIDE, NARROW, DRIFT = 6, 4, 5  # numbers of one life, by the kind that holds them
TAUGHT_MAX = 8  # members that teach their class in one interval: a class of a thousand learns no better from more


class LifecycleModels:
    """Models by slot: the `FamilyModels` of a group that live, learn and are replaced.

    Parameters
    ----------
    columns
        Names of the features of a family.
    challenger
        Whether half-space trees of the asset class challenge each composite: 1 kB more per model, 100 kB per class.
    terms
        How long trials last.

    Examples
    --------
    >>> models = LifecycleModels(("spread_bp",))
    >>> slot = models.take("perpetual")
    >>> models.observe([slot], 0, [(1.0,)], [False])[0].ready
    False
    """

    def __init__(self, columns: tuple[str, ...], challenger: bool = False, terms: TrialTerms = TRIAL_TERMS) -> None:
        self._columns, self._challenger, self._terms = columns, challenger, terms
        self._views = DetectorViews(columns)
        self._classes: dict[str, _AssetClass] = {}
        self._lives: dict[int, tuple[str, ModelLifecycle]] = {}
        self._free: list[int] = []
        self._reports: list[ModelReport] = []

    def take(self, asset_class: str = "") -> int:
        """Return a slot for a new member of an asset class."""
        slot = self._free.pop() if self._free else len(self._lives)
        life = ModelLifecycle(self._class(asset_class), self._terms, new_page_hinkley, slot)
        self._lives[slot] = asset_class, life
        self._note(slot, life, life.start())
        return slot

    def give_back(self, slot: int) -> None:
        """Forget the models of a slot; its class keeps what it learned from them."""
        _, life = self._lives.pop(slot)
        for view in _views_of(life):
            self._views.give_back(view)
        self._free.append(slot)

    def observe(
        self, slots: list[int], time_us: int, rows: list[tuple[float, ...]], tripped: list[bool]
    ) -> list[Judgement]:
        """Score and learn one row for each of ``slots``, in their order; an unusable row leaves no trace."""
        for known in self._classes.values():
            known.may_learn = TAUGHT_MAX
        limit = self._views.value_max
        usable = [all(-limit <= value <= limit for value in row) for row in rows]
        views: list[DetectorView] = []
        given: list[tuple[float, ...]] = []
        for slot, row, good in zip(slots, rows, usable, strict=True):
            found = _views_of(self._lives[slot][1]) if good else []
            views += found
            given += [row] * len(found)
        if views:
            self._views.observe(views, time_us, given)
        return [
            self._judge(slot, Sample(time_us, row), trip) if good else Judgement(0.0, False, {})
            for slot, row, trip, good in zip(slots, rows, tripped, usable, strict=True)
        ]

    def drain(self) -> list[ModelReport]:
        """Return what has happened to models since the last call."""
        reported, self._reports = self._reports, []
        return reported

    def _judge(self, slot: int, sample: Sample, tripped: bool) -> Judgement:
        life = self._lives[slot][1]
        held = _views_of(life)
        champion = life.champion
        score, reported = life.observe(sample, tripped)
        if reported is not None:
            kept = {view.place for view in _views_of(life)}
            for view in held:
                if view.place not in kept:
                    self._views.give_back(view)
            self._note(slot, life, reported)
        ready = score.state is ScoreState.READY
        explains = score.value >= CANDIDATE_SCORE and isinstance(champion, DetectorView)
        return Judgement(score.value, ready, self._explain(sample, score) if explains else {})

    def _note(self, slot: int, life: ModelLifecycle, reported: Happened | None) -> None:
        if reported is not None:
            self._reports.append(ModelReport(slot, reported.event, life.version, reported.text))

    def _explain(self, sample: Sample, answer: Score) -> dict[str, float]:
        """Return the share of each feature in a score."""
        score = self._views.again(sample, answer)
        shares = dict.fromkeys(self._columns, 0.0)
        for name, share in zip(self._views.names, score.contributions, strict=True):
            shares[name.rpartition(" ")[0]] += share
        return {name: share for name, share in shares.items() if share > 0.0}

    def _class(self, name: str) -> "_AssetClass":
        known = self._classes.get(name)
        if known is None:
            known = self._classes[name] = _AssetClass(self._columns, self._views, self._challenger)
        return known

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> list[Any]:
        """Return the array, what classes know, and the lives: numbers by column, and apart what only few lives have."""
        classes = [[name, known.snapshot()] for name, known in self._classes.items()]
        order = {name: number for number, name in enumerate(self._classes)}
        count = len(self._lives)
        wide = (number for item in self._lives.items() for number in _wide(*item))
        narrow = (number for name, life in self._lives.values() for number in (order[name], *life.narrow()))
        drifts = (number for _, life in self._lives.values() for number in _drift_of(life).numbers())
        taught = (life.taught_us for _, life in self._lives.values())
        columns = [
            np.fromiter(wide, np.int32, WIDE * count).reshape(count, WIDE),
            np.fromiter(narrow, np.uint8, NARROW * count).reshape(count, NARROW),
            np.fromiter(taught, np.int64, count),
            np.fromiter(drifts, np.float64, DRIFT * count).reshape(count, DRIFT),
        ]
        tried = [
            _trial_state(slot, life) for slot, (_, life) in self._lives.items() if life.role is not ChallengerRole.NONE
        ]
        return [self._views.snapshot(), classes, columns, tried, self._free]

    def restore(self, state: list[Any]) -> None:
        """Take over a state of the same columns, challenger and terms."""
        views, classes, columns, tried, free = state
        for name, known in classes:
            self._class(name).restore(known)
        names = list(self._classes)
        for wide, narrow, taught_us, drift in zip(*(column.tolist() for column in columns), strict=True):
            slot, champion, rival, version, rows, drifts = wide
            life = ModelLifecycle(self._class(names[narrow[0]]), self._terms, new_page_hinkley)
            life.take(narrow[1:], [version, rows, drifts], taught_us)
            _drift_of(life).take(drift)
            if champion != NO_ROW:
                life.champion = self._views.at(champion)
            life.rival = self._views.at(rival) if rival != NO_ROW else None
            self._lives[slot] = names[narrow[0]], life
        for each in tried:
            self._take_trial(*each)
        self._free = list(free)
        self._views.restore(views)  # at last: a life that is made takes a seat

    def _take_trial(self, slot: int, trial: list[float], champion: bytes | None, rival: bytes | None) -> None:
        """Give a life its trial back, and those of its detectors that have no seat."""
        name, life = self._lives[slot]
        life.trial, kinds = Trial.of(trial), self._class(name).kinds
        if champion is not None:
            life.champion = kinds[life.champion_kind].make()
            life.champion.restore(champion)
        if rival is not None:
            life.rival = kinds[life.rival_kind].make()
            life.rival.restore(rival)


class _ArrayKind:
    """The kind of the composites: made by taking a seat; what they share is the array, which is saved once."""

    unusual = UNUSUAL_SCORE

    def __init__(self, views: DetectorViews) -> None:
        self._views = views

    def make(self) -> DetectorView:
        """Take a seat."""
        return self._views.take()

    def snapshot(self) -> bytes:
        """Nothing is shared within a class."""
        return b""

    def restore(self, data: bytes) -> None:
        """Nothing is shared within a class."""


class _AssetClass(ModelFamily):
    """An asset class whose members have seats; its pool is a composite of its own.

    Attributes
    ----------
    may_learn
        How many more members may teach it in this interval.
    """

    def __init__(self, columns: tuple[str, ...], views: DetectorViews, challenger: bool) -> None:
        kinds: tuple[ModelKind, ...] = (
            (_ArrayKind(views), SharedForestKind(columns)) if challenger else (_ArrayKind(views),)
        )
        super().__init__(lambda: kinds, Composite(columns))
        self._views, self.may_learn = views, 0

    def lend(self) -> Detector | None:
        """Return a seat that begins with the class's experience; None while there is too little of it."""
        lent = super().lend()
        return self._views.take(lent.numbers()) if isinstance(lent, Composite) else None

    def learn(self, sample: Sample, score: Score) -> None:
        """Learn a member's row, as its composite judged it."""
        if self.may_learn > 0 and score.state is ScoreState.READY:
            self.may_learn -= 1
            super().learn(self._views.rounded(sample), self._views.again(sample, score))


def _drift_of(life: ModelLifecycle) -> PageHinkley:
    assert isinstance(life.drift, PageHinkley)
    return life.drift


def _views_of(life: ModelLifecycle) -> list[DetectorView]:
    return [detector for detector in (life.champion, life.rival) if isinstance(detector, DetectorView)]


def _wide(slot: int, known: tuple[str, ModelLifecycle]) -> tuple[int, ...]:
    life = known[1]
    champion, rival = life.champion, life.rival
    places = (d.place if isinstance(d, DetectorView) else NO_ROW for d in (champion, rival))
    return slot, *places, *life.counts()


def _trial_state(slot: int, life: ModelLifecycle) -> list[Any]:
    """Return the trial of a life, and the state of its detectors that have no seat."""
    unseated = (None if d is None or isinstance(d, DetectorView) else d.snapshot() for d in (life.champion, life.rival))
    return [slot, life.trial.numbers(), *unseated]
