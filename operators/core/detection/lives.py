"""The life of one key's model: start, trial, promotion, rollback, retrain. At most two detectors at a time.

The **champion** answers. Beside it there may be one **rival**, which sees identical inputs and answers nobody:

1. A new key starts with a detector that its asset class lends, and its own, which has seen nothing, as the rival; as
   soon as that one is warm it takes over. Without a class to borrow from, its own warms up as champion.
2. Where the family has a second kind of detector, one of it is the standing **challenger**, tried again and again.
3. When the distribution of the champion's scores moves (a drift detector, which never alerts), a **successor** of the
   same kind starts to learn from nothing.
4. A trial lasts ``trial_rows`` rows on which both were ready; then the rule in ``trials`` decides. What was replaced
   stays as rival for ``rollback_rows``, and by the same rule may come back.

A crisis moves the scores as well, and a successor that knows nothing else finds it normal. It cannot take over before
its warm-up and its trial are over, rows in a confirmed incident do not count, and the model from before the crisis is
the one that rollback returns to.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, Protocol

from seawall.operators.core.detection.flat import from_parts, to_parts
from seawall.operators.core.detection.kinds import POOL_STRIDE, Family
from seawall.operators.core.detection.models import Event
from seawall.operators.core.detection.page_hinkley import PageHinkley
from seawall.operators.core.detection.samples import Detector, Sample, Score, State
from seawall.operators.core.detection.trials import TRIAL_NUMBERS, Trial

DRIFT_STRIDE = 20  # rows between two that the drift detector sees: a smoothed score's neighbours say the same again
POOL_EVERY_US = 1_000_000  # a member teaches its class once a second of event time: one that floods does not own it

_TAG = "life__02"
_HEAD = 8


def page_hinkley() -> PageHinkley:
    """Make the usual drift detector of a model's life.

    A composite's mean score wanders by 0.1 in ordinary times, so that much is not counted; scores that stay at 0.5
    are drift after some 400 rows. A false alarm costs a trial and changes no answer.
    """
    return PageHinkley(slack=0.1, threshold=3.0, rows_min=50)


class Drift(Protocol):
    """A drift detector for the life of models."""

    def update(self, score: float) -> bool:
        """Count one score; whether the distribution has moved."""

    def snapshot(self) -> bytes:
        """Encode the state."""

    def restore(self, data: bytes) -> None:
        """Take over what ``snapshot`` gave."""


class Terms(NamedTuple):
    """How long trials last, in rows on which both models were ready."""

    trial_rows: int = 1000
    rollback_rows: int = 500


TERMS = Terms()


class Role(IntEnum):
    """Why there is a rival."""

    NONE = 0
    OWN = 1  # the key's own model, while a lent one answers
    CHALLENGER = 2  # of another kind than the champion
    SUCCESSOR = 3  # of the champion's kind, retrained
    PREVIOUS = 4  # the champion before this one


class Told(NamedTuple):
    """What one row changed in a model's life."""

    event: Event
    text: str


class Life:
    """Champion and rival of one key in one family."""

    __slots__ = ("_family", "_make_drift", "_rows", "_terms", "champion", "champion_kind", "drift",
                 "drifts", "rival", "rival_kind", "role", "taught_us", "trial", "version")  # fmt: skip

    def __init__(self, family: Family, terms: Terms, make_drift: Callable[[], Drift], number: int = 0) -> None:
        self._family, self._terms, self._make_drift = family, terms, make_drift
        self.drift = make_drift()
        self.champion, self.champion_kind = family.kinds[0].make(), 0
        self.rival: Detector | None = None
        self.rival_kind, self.role = 0, Role.NONE
        self.trial = Trial()
        self.version, self.taught_us, self.drifts = 0, 0, 0
        self._rows = number % POOL_STRIDE  # members that begin together do not all teach at once

    def start(self) -> Told | None:
        """Begin as a new key: with the class's experience where there is enough of it."""
        lent = self._family.lend()
        if lent is None:
            self._challenge()
            return None
        self._enter(self.champion, 0, Role.OWN)
        self.champion = lent
        return Told(Event.STARTED_FROM_CLASS, "answers with its asset class's experience until it has its own")

    def observe(self, sample: Sample, tripped: bool) -> tuple[Score, Told | None]:
        """Answer one usable sample, let both models learn it, and decide what becomes of them."""
        score = self.champion.score(sample)
        self.champion.learn(sample, score)
        shadow = None
        if self.rival is not None:
            shadow = self.rival.score(sample)
            self.rival.learn(sample, shadow)
        self._rows += 1
        self._teach(sample, score, shadow)
        told = self._decide(score, shadow, tripped)
        if self._rows % DRIFT_STRIDE == 0 and score.state is State.READY and self.drift.update(score.value):
            told = self._retrain() or told
        return score, told

    def _teach(self, sample: Sample, score: Score, shadow: Score | None) -> None:
        if self._rows % POOL_STRIDE or self.role is Role.OWN:
            return
        if sample.time_us is not None and 0 <= sample.time_us - self.taught_us < POOL_EVERY_US:
            return
        self.taught_us = sample.time_us or 0
        if self.champion_kind == 0:
            self._family.learn(sample, score)
        elif shadow is not None and self.rival_kind == 0:
            self._family.learn(sample, shadow)

    def _decide(self, score: Score, shadow: Score | None, tripped: bool) -> Told | None:
        if shadow is None or shadow.state is not State.READY:
            return None
        if self.role is Role.OWN:
            self._swap()
            self._challenge()
            return Told(Event.WARMED_UP, "its own model is warm")
        if score.state is not State.READY:
            return None
        kinds = self._family.kinds
        called = score.value >= kinds[self.champion_kind].unusual
        self.trial.count(called, shadow.value >= kinds[self.rival_kind].unusual, tripped)
        limit = self._terms.rollback_rows if self.role is Role.PREVIOUS else self._terms.trial_rows
        return self._judge() if self.trial.rows >= limit else None

    def _judge(self) -> Told:
        verdict, role = self.trial.verdict(), self.role
        if not verdict.promote:
            self._dismiss()
            return Told(Event.KEPT, verdict.text)
        self._swap()
        if role is Role.PREVIOUS:
            self._dismiss()
            return Told(Event.ROLLED_BACK, verdict.text)
        self._enter(self.rival, self.rival_kind, Role.PREVIOUS)
        return Told(Event.PROMOTED, verdict.text)

    def _retrain(self) -> Told | None:
        self.drifts += 1
        if self.role not in (Role.NONE, Role.CHALLENGER):
            return None  # one trial at a time
        self._enter(self._family.kinds[self.champion_kind].make(), self.champion_kind, Role.SUCCESSOR)
        return Told(Event.DRIFTED, "the distribution of its scores has moved; a successor learns from nothing")

    def _swap(self) -> None:
        assert self.rival is not None
        self.champion, self.rival = self.rival, self.champion
        self.champion_kind, self.rival_kind = self.rival_kind, self.champion_kind
        self.version += 1
        self.drift = self._make_drift()  # another model's scores are another distribution

    def _dismiss(self) -> None:
        """End a trial: a rival of another kind goes on as challenger, one of the champion's kind is dropped."""
        if self.rival_kind != self.champion_kind:
            self._enter(self.rival, self.rival_kind, Role.CHALLENGER)
        else:
            self._challenge()

    def _challenge(self) -> None:
        kinds = self._family.kinds
        if len(kinds) == 1:
            self._enter(None, 0, Role.NONE)
        else:
            other = 1 - min(self.champion_kind, 1)
            self._enter(kinds[other].make(), other, Role.CHALLENGER)

    def _enter(self, rival: Detector | None, kind: int, role: Role) -> None:
        self.rival, self.rival_kind, self.role, self.trial = rival, kind, role, Trial()

    def narrow(self) -> tuple[int, int, int]:
        """Return kinds of the two models and the rival's role, each below 256."""
        return self.champion_kind, self.rival_kind, self.role

    def counts(self) -> tuple[int, int, int]:
        """Return version, rows and drifts."""
        return self.version, self._rows, self.drifts

    def take(self, narrow: list[int], counts: list[int], taught_us: int) -> None:
        """Take over all but models, trial and drift detector."""
        self.champion_kind, self.rival_kind, self.role = narrow[0], narrow[1], Role(narrow[2])
        self.version, self._rows, self.drifts = counts
        self.taught_us = taught_us

    def snapshot(self) -> bytes:
        """Encode both models, the trial and the drift detector."""
        rival = b"" if self.rival is None else self.rival.snapshot()
        head = [*self.narrow(), *self.counts(), self.taught_us]
        numbers = [*head, self.rival is not None, *self.trial.numbers()]
        return to_parts(_TAG, numbers, [self.champion.snapshot(), rival, self.drift.snapshot()])

    def restore(self, data: bytes) -> None:
        """Take over the state of a life in the same family."""
        numbers, (champion, rival, drift) = from_parts(_TAG, data, _HEAD + TRIAL_NUMBERS, 3)
        whole = [int(number) for number in numbers[:_HEAD]]
        self.take(whole[:3], whole[3:6], whole[6])
        self.trial = Trial.of(numbers[_HEAD:])
        self.drift.restore(drift)
        self.champion = self._family.kinds[self.champion_kind].make()
        self.champion.restore(champion)
        self.rival = self._family.kinds[self.rival_kind].make() if whole[-1] else None
        if self.rival is not None:
            self.rival.restore(rival)
