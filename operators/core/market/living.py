"""The models of a group: one per instrument and family of features, each with a life of its own (``detection.lives``).

* A new instrument answers with what its asset class knows, as soon as that is enough, while its own model warms up.
  Asset classes are the kinds of instruments (``spot``, ``perpetual``, ...), "" where no reference record says.
* A model whose scores have drifted is retrained beside the one that answers, takes over after a trial, and is rolled
  back where it turns out worse. With ``challenger``, half-space trees that the asset class shares challenge each model.
* All that happens is told (``drain``), and stands in the group's signals.

The composites among the models, champions and rivals alike, are seats of one array and judged together.

Notes
-----
State: 300 bytes per family and 220 per feature, 80 for the life; twice that while a rival is tried.
"""

from typing import Any

import numpy as np

from seawall.operators.core.detection.composite import CANDIDATE_SCORE, UNUSUAL_SCORE, Composite
from seawall.operators.core.detection.kinds import Family, Kind
from seawall.operators.core.detection.lives import TERMS, Life, Role, Terms, page_hinkley
from seawall.operators.core.detection.lives import Told as Happened
from seawall.operators.core.detection.members import ClassTrees
from seawall.operators.core.detection.page_hinkley import PageHinkley
from seawall.operators.core.detection.samples import Detector, Sample, Score, State
from seawall.operators.core.detection.trials import Trial
from seawall.operators.core.market.models import Judgement, Told
from seawall.operators.core.market.seats import Seat, Seats

NOBODY = -1
WIDE, NARROW, DRIFT = 6, 4, 5  # numbers of one life, by the kind that holds them
TAUGHT_MAX = 8  # members that teach their class in one interval: a class of a thousand learns no better from more


class LivingModels:
    """Models by slot; keeps the protocol ``Models`` of a group.

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
    >>> models = LivingModels(("spread_bp",))
    >>> slot = models.take("perpetual")
    >>> models.observe([slot], 0, [(1.0,)], [False])[0].ready
    False
    """

    def __init__(self, columns: tuple[str, ...], challenger: bool = False, terms: Terms = TERMS) -> None:
        self._columns, self._challenger, self._terms = columns, challenger, terms
        self._seats = Seats(columns)
        self._classes: dict[str, _Class] = {}
        self._lives: dict[int, tuple[str, Life]] = {}
        self._free: list[int] = []
        self._told: list[Told] = []

    def take(self, asset_class: str = "") -> int:
        """Return a slot for a new member of an asset class."""
        slot = self._free.pop() if self._free else len(self._lives)
        life = Life(self._class(asset_class), self._terms, page_hinkley, slot)
        self._lives[slot] = asset_class, life
        self._note(slot, life, life.start())
        return slot

    def give_back(self, slot: int) -> None:
        """Forget the models of a slot; its class keeps what it learned from them."""
        _, life = self._lives.pop(slot)
        for seat in _seats_of(life):
            self._seats.give_back(seat)
        self._free.append(slot)

    def observe(
        self, slots: list[int], time_us: int, rows: list[tuple[float, ...]], tripped: list[bool]
    ) -> list[Judgement]:
        """Score and learn one row for each of ``slots``, in their order; an unusable row leaves no trace."""
        for known in self._classes.values():
            known.may_learn = TAUGHT_MAX
        limit = self._seats.value_max
        usable = [all(-limit <= value <= limit for value in row) for row in rows]
        seats: list[Seat] = []
        given: list[tuple[float, ...]] = []
        for slot, row, good in zip(slots, rows, usable, strict=True):
            found = _seats_of(self._lives[slot][1]) if good else []
            seats += found
            given += [row] * len(found)
        if seats:
            self._seats.observe(seats, time_us, given)
        return [
            self._judge(slot, Sample(time_us, row), trip) if good else Judgement(0.0, False, {})
            for slot, row, trip, good in zip(slots, rows, tripped, usable, strict=True)
        ]

    def drain(self) -> list[Told]:
        """Return what has happened to models since the last call."""
        told, self._told = self._told, []
        return told

    def _judge(self, slot: int, sample: Sample, tripped: bool) -> Judgement:
        life = self._lives[slot][1]
        held = _seats_of(life)
        champion = life.champion
        score, told = life.observe(sample, tripped)
        if told is not None:
            kept = {seat.place for seat in _seats_of(life)}
            for seat in held:
                if seat.place not in kept:
                    self._seats.give_back(seat)
            self._note(slot, life, told)
        ready = score.state is State.READY
        explains = score.value >= CANDIDATE_SCORE and isinstance(champion, Seat)
        return Judgement(score.value, ready, self._explain(sample, score) if explains else {})

    def _note(self, slot: int, life: Life, told: Happened | None) -> None:
        if told is not None:
            self._told.append(Told(slot, told.event, life.version, told.text))

    def _explain(self, sample: Sample, answer: Score) -> dict[str, float]:
        """Return the share of each feature in a score."""
        score = self._seats.again(sample, answer)
        shares = dict.fromkeys(self._columns, 0.0)
        for name, share in zip(self._seats.names, score.contributions, strict=True):
            shares[name.rpartition(" ")[0]] += share
        return {name: share for name, share in shares.items() if share > 0.0}

    def _class(self, name: str) -> "_Class":
        known = self._classes.get(name)
        if known is None:
            known = self._classes[name] = _Class(self._columns, self._seats, self._challenger)
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
        tried = [_tried(slot, life) for slot, (_, life) in self._lives.items() if life.role is not Role.NONE]
        return [self._seats.snapshot(), classes, columns, tried, self._free]

    def restore(self, state: list[Any]) -> None:
        """Take over a state of the same columns, challenger and terms."""
        seats, classes, columns, tried, free = state
        for name, known in classes:
            self._class(name).restore(known)
        names = list(self._classes)
        for wide, narrow, taught_us, drift in zip(*(column.tolist() for column in columns), strict=True):
            slot, champion, rival, version, rows, drifts = wide
            life = Life(self._class(names[narrow[0]]), self._terms, page_hinkley)
            life.take(narrow[1:], [version, rows, drifts], taught_us)
            _drift_of(life).take(drift)
            if champion != NOBODY:
                life.champion = self._seats.at(champion)
            life.rival = self._seats.at(rival) if rival != NOBODY else None
            self._lives[slot] = names[narrow[0]], life
        for each in tried:
            self._take_trial(*each)
        self._free = list(free)
        self._seats.restore(seats)  # at last: a life that is made takes a seat

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


class _Seated:
    """The kind of the composites: made by taking a seat; what they share is the array, which is saved once."""

    unusual = UNUSUAL_SCORE

    def __init__(self, seats: Seats) -> None:
        self._seats = seats

    def make(self) -> Seat:
        """Take a seat."""
        return self._seats.take()

    def snapshot(self) -> bytes:
        """Nothing is shared within a class."""
        return b""

    def restore(self, data: bytes) -> None:
        """Nothing is shared within a class."""


class _Class(Family):
    """An asset class whose members have seats; its pool is a composite of its own.

    Attributes
    ----------
    may_learn
        How many more members may teach it in this interval.
    """

    def __init__(self, columns: tuple[str, ...], seats: Seats, challenger: bool) -> None:
        kinds: tuple[Kind, ...] = (_Seated(seats), ClassTrees(columns)) if challenger else (_Seated(seats),)
        super().__init__(lambda: kinds, Composite(columns))
        self._seats, self.may_learn = seats, 0

    def lend(self) -> Detector | None:
        """Return a seat that begins with the class's experience; None while there is too little of it."""
        lent = super().lend()
        return self._seats.take(lent.numbers()) if isinstance(lent, Composite) else None

    def learn(self, sample: Sample, score: Score) -> None:
        """Learn a member's row, as its composite judged it."""
        if self.may_learn > 0 and score.state is State.READY:
            self.may_learn -= 1
            super().learn(self._seats.rounded(sample), self._seats.again(sample, score))


def _drift_of(life: Life) -> PageHinkley:
    assert isinstance(life.drift, PageHinkley)
    return life.drift


def _seats_of(life: Life) -> list[Seat]:
    return [detector for detector in (life.champion, life.rival) if isinstance(detector, Seat)]


def _wide(slot: int, known: tuple[str, Life]) -> tuple[int, ...]:
    life = known[1]
    champion, rival = life.champion, life.rival
    places = (d.place if isinstance(d, Seat) else NOBODY for d in (champion, rival))
    return slot, *places, *life.counts()


def _tried(slot: int, life: Life) -> list[Any]:
    """Return the trial of a life, and the state of its detectors that have no seat."""
    unseated = (None if d is None or isinstance(d, Seat) else d.snapshot() for d in (life.champion, life.rival))
    return [slot, life.trial.numbers(), *unseated]
