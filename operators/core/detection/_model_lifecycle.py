"""Model lifecycle of one key: start, trial of a challenger, promotion, rollback, retraining.

`ModelLifecycle` holds at most two detectors at a time, `Trial` judges them on identical inputs, and `PageHinkley`
notices that the champion's scores have drifted.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, Protocol, Self

from seawall.operators.core.base import pack_numbers, pack_parts, unpack_numbers, unpack_parts
from seawall.operators.core.detection._model_spec import POOL_STRIDE, ModelEvent, ModelFamily
from seawall.operators.core.detection._samples import Detector, Sample, Score, ScoreState

# Page and Hinkley's test, two-sided: whether the mean of a model's scores has moved.
#
# References
# ----------
# Page, E. S. (1954). Continuous inspection schemes. Biometrika 41.

_PAGE_HINKLEY_TAG = "pagehk01"


class PageHinkley:
    """Cumulative deviation of the scores from their mean, both ways; five floats of state.

    Parameters
    ----------
    slack
        Deviation per row that is not counted.
    threshold
        Cumulated deviation at which the distribution has moved.

    Examples
    --------
    >>> drift = PageHinkley()
    >>> any(drift.update(0.1 + 0.01 * (row % 3)) for row in range(2000))
    False
    >>> any(drift.update(0.9) for row in range(200))
    True
    """

    __slots__ = ("_down", "_mean", "_rows", "_rows_min", "_slack", "_threshold", "_up", "drifts")

    def __init__(self, slack: float = 0.05, threshold: float = 25.0, rows_min: int = 150) -> None:
        self._slack, self._threshold, self._rows_min = slack, threshold, rows_min
        self._rows = self._mean = self._up = self._down = 0.0
        self.drifts = 0

    def update(self, score: float) -> bool:
        """Count one score; whether the distribution has moved since the last time. Restarts after it has."""
        self._rows += 1.0
        self._mean += (score - self._mean) / self._rows
        self._up = max(0.0, self._up + score - self._mean - self._slack)
        self._down = max(0.0, self._down + self._mean - score - self._slack)
        if self._rows < self._rows_min or max(self._up, self._down) <= self._threshold:
            return False
        self._rows = self._mean = self._up = self._down = 0.0
        self.drifts += 1
        return True

    def snapshot(self) -> bytes:
        """Encode the state."""
        return pack_numbers(_PAGE_HINKLEY_TAG, self.numbers())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same parameters."""
        self.take(unpack_numbers(_PAGE_HINKLEY_TAG, data, 5))

    def numbers(self) -> list[float]:
        """Return the state as a flat list."""
        return [self._rows, self._mean, self._up, self._down, self.drifts]

    def take(self, numbers: list[float]) -> None:
        """Take over what ``numbers`` returned."""
        self._rows, self._mean, self._up, self._down, drifts = numbers
        self.drifts = int(drifts)


# Champion and challenger on identical inputs: the shadow record of a trial, and the rule that ends it.
#
# Nothing labels a market while it happens. Two things can be judged all the same:
#
# * **noise**: in ordinary times well below one row in ten is unusual. A model that calls more has fallen behind its
#   market;
# * **incidents that a circuit-breaker rule confirmed**: did the model call a row unusual in the ten rows up to the
#   trip?
#
# A rival is promoted when the champion is noisy, it is at most half as noisy and catches no fewer confirmed incidents;
# or when it catches more of them and is not the noisier one beyond that level. A tie keeps the champion.
#
# References
# ----------
# Federal Reserve, SR 11-7, Supervisory Guidance on Model Risk Management: outcomes analysis, benchmarking, parallel
# runs.

NOISY_RATE = 0.1  # of unusual rows in ordinary times: beyond it a model says too much to be heeded
LEAD_ROWS = 10  # a call this long before a trip counts as its warning
INCIDENT_ROWS = 60  # after a trip, in which calls are no noise


class TrialVerdict(NamedTuple):
    """Verdict on the rival: better or not, with the figures behind it."""

    promote: bool
    text: str


class Trial:
    """Two models on identical inputs, as ten counters.

    Examples
    --------
    >>> trial = Trial()
    >>> for row in range(1000):
    ...     trial.count(champion=row % 5 == 0, rival=row % 100 == 0, tripped=False)
    >>> trial.verdict().text
    'unusual rows 1.0 % against 20.0 %, incidents caught 0 against 0 of 0, in 1,000 rows'
    """

    __slots__ = ("caught_champion", "caught_rival", "incidents", "rows", "since_champion", "since_rival", "since_trip",
                 "unusual_champion", "unusual_rival")  # fmt: skip

    def __init__(self) -> None:
        self.rows = self.unusual_champion = self.unusual_rival = 0.0
        self.incidents = self.caught_champion = self.caught_rival = 0.0
        self.since_champion = self.since_rival = LEAD_ROWS + 1.0
        self.since_trip = INCIDENT_ROWS + 1.0

    def count(self, champion: bool, rival: bool, tripped: bool) -> None:
        """Count one row: which of the two called it unusual, and whether a rule tripped on it."""
        self.since_champion = 0.0 if champion else self.since_champion + 1.0
        self.since_rival = 0.0 if rival else self.since_rival + 1.0
        if tripped and self.since_trip >= INCIDENT_ROWS:
            self.incidents += 1.0
            self.caught_champion += self.since_champion <= LEAD_ROWS
            self.caught_rival += self.since_rival <= LEAD_ROWS
        self.since_trip = 0.0 if tripped else self.since_trip + 1.0
        if self.since_trip > INCIDENT_ROWS:
            self.rows += 1.0
            self.unusual_champion += champion
            self.unusual_rival += rival

    def verdict(self) -> TrialVerdict:
        """Judge the rows so far."""
        rows = max(self.rows, 1.0)
        champion, rival = self.unusual_champion / rows, self.unusual_rival / rows
        more = self.caught_rival > self.caught_champion and rival <= max(champion, NOISY_RATE)
        calmer = self.caught_rival >= self.caught_champion and champion > NOISY_RATE and rival <= champion / 2.0
        caught = f"{self.caught_rival:.0f} against {self.caught_champion:.0f} of {self.incidents:.0f}"
        rates = f"{100 * rival:.1f} % against {100 * champion:.1f} %"
        return TrialVerdict(
            more or calmer, f"unusual rows {rates}, incidents caught {caught}, in {self.rows:,.0f} rows"
        )

    def numbers(self) -> list[float]:
        """Return the counters as a flat list."""
        return [getattr(self, name) for name in self.__slots__]

    @classmethod
    def of(cls, numbers: list[float]) -> Self:
        """Make a trial of what ``numbers`` returned."""
        trial = cls()
        for name, number in zip(cls.__slots__, numbers, strict=True):
            setattr(trial, name, number)
        return trial


TRIAL_NUMBERS = len(Trial.__slots__)


# Lifecycle of one key's model: start, trial, promotion, rollback, retrain. At most two detectors at a time.
#
# The **champion** answers. Beside it there may be one **rival**, which sees identical inputs and answers nobody:
#
# 1. A new key starts with a detector that its asset class lends, and its own, which has seen nothing, as the rival; as
#    soon as that one is warm it takes over. Without a class to borrow from, its own warms up as champion.
# 2. Where the family has a second kind of detector, one of it is the standing **challenger**, tried again and again.
# 3. When the distribution of the champion's scores moves (a drift detector, which never alerts), a **successor** of the
#    same kind starts to learn from nothing.
# 4. A trial lasts ``trial_rows`` rows on which both were ready; then the rule of `Trial` decides. What was replaced
#    stays as rival for ``rollback_rows``, and by the same rule may come back.
#
# A crisis moves the scores as well, and a successor that knows nothing else finds it normal. It cannot take over before
# its warm-up and its trial are over, rows in a confirmed incident do not count, and the model from before the crisis is
# the one that rollback returns to.

DRIFT_STRIDE = 20  # rows between two that the drift detector sees: a smoothed score's neighbours say the same again
POOL_EVERY_US = 1_000_000  # a member teaches its class once a second of event time: one that floods does not own it

_LIFECYCLE_TAG = "life__02"
_HEAD = 8


def new_page_hinkley() -> PageHinkley:
    """Make the usual drift detector of a model's life.

    A composite's mean score wanders by 0.1 in ordinary times, so that much is not counted; scores that stay at 0.5
    are drift after some 400 rows. A false alarm costs a trial and changes no answer.
    """
    return PageHinkley(slack=0.1, threshold=3.0, rows_min=50)


class DriftDetector(Protocol):
    """A drift detector for the life of models."""

    def update(self, score: float) -> bool:
        """Count one score; whether the distribution has moved."""

    def snapshot(self) -> bytes:
        """Encode the state."""

    def restore(self, data: bytes) -> None:
        """Take over what ``snapshot`` gave."""


class TrialTerms(NamedTuple):
    """Length of trials, in rows on which both models were ready."""

    trial_rows: int = 1000
    rollback_rows: int = 500


TRIAL_TERMS = TrialTerms()


class ChallengerRole(IntEnum):
    """Role of a challenger: the reason why there is one."""

    NONE = 0
    OWN = 1  # the key's own model, while a lent one answers
    CHALLENGER = 2  # of another kind than the champion
    SUCCESSOR = 3  # of the champion's kind, retrained
    PREVIOUS = 4  # the champion before this one


class LifecycleChange(NamedTuple):
    """Change that one row made in a model's life."""

    event: ModelEvent
    text: str


class ModelLifecycle:
    """Champion and rival of one key in one family."""

    __slots__ = ("_family", "_make_drift", "_rows", "_terms", "champion", "champion_kind", "drift",
                 "drifts", "rival", "rival_kind", "role", "taught_us", "trial", "version")  # fmt: skip

    def __init__(
        self, family: ModelFamily, terms: TrialTerms, make_drift: Callable[[], DriftDetector], number: int = 0
    ) -> None:
        self._family, self._terms, self._make_drift = family, terms, make_drift
        self.drift = make_drift()
        self.champion, self.champion_kind = family.kinds[0].make(), 0
        self.rival: Detector | None = None
        self.rival_kind, self.role = 0, ChallengerRole.NONE
        self.trial = Trial()
        self.version, self.taught_us, self.drifts = 0, 0, 0
        self._rows = number % POOL_STRIDE  # members that begin together do not all teach at once

    def start(self) -> LifecycleChange | None:
        """Begin as a new key: with the class's experience where there is enough of it."""
        lent = self._family.lend()
        if lent is None:
            self._challenge()
            return None
        self._enter(self.champion, 0, ChallengerRole.OWN)
        self.champion = lent
        return LifecycleChange(
            ModelEvent.STARTED_FROM_CLASS, "answers with its asset class's experience until it has its own"
        )

    def observe(self, sample: Sample, tripped: bool) -> tuple[Score, LifecycleChange | None]:
        """Answer one usable sample, let both models learn it, and decide what becomes of them."""
        score = self.champion.score(sample)
        self.champion.learn(sample, score)
        shadow = None
        if self.rival is not None:
            shadow = self.rival.score(sample)
            self.rival.learn(sample, shadow)
        self._rows += 1
        self._teach(sample, score, shadow)
        change = self._decide(score, shadow, tripped)
        if self._rows % DRIFT_STRIDE == 0 and score.state is ScoreState.READY and self.drift.update(score.value):
            change = self._retrain() or change
        return score, change

    def _teach(self, sample: Sample, score: Score, shadow: Score | None) -> None:
        if self._rows % POOL_STRIDE or self.role is ChallengerRole.OWN:
            return
        if sample.time_us is not None and 0 <= sample.time_us - self.taught_us < POOL_EVERY_US:
            return
        self.taught_us = sample.time_us or 0
        if self.champion_kind == 0:
            self._family.learn(sample, score)
        elif shadow is not None and self.rival_kind == 0:
            self._family.learn(sample, shadow)

    def _decide(self, score: Score, shadow: Score | None, tripped: bool) -> LifecycleChange | None:
        if shadow is None or shadow.state is not ScoreState.READY:
            return None
        if self.role is ChallengerRole.OWN:
            self._swap()
            self._challenge()
            return LifecycleChange(ModelEvent.WARMED_UP, "its own model is warm")
        if score.state is not ScoreState.READY:
            return None
        kinds = self._family.kinds
        called = score.value >= kinds[self.champion_kind].unusual
        self.trial.count(called, shadow.value >= kinds[self.rival_kind].unusual, tripped)
        limit = self._terms.rollback_rows if self.role is ChallengerRole.PREVIOUS else self._terms.trial_rows
        return self._judge() if self.trial.rows >= limit else None

    def _judge(self) -> LifecycleChange:
        verdict, role = self.trial.verdict(), self.role
        if not verdict.promote:
            self._dismiss()
            return LifecycleChange(ModelEvent.KEPT, verdict.text)
        self._swap()
        if role is ChallengerRole.PREVIOUS:
            self._dismiss()
            return LifecycleChange(ModelEvent.ROLLED_BACK, verdict.text)
        self._enter(self.rival, self.rival_kind, ChallengerRole.PREVIOUS)
        return LifecycleChange(ModelEvent.PROMOTED, verdict.text)

    def _retrain(self) -> LifecycleChange | None:
        self.drifts += 1
        if self.role not in (ChallengerRole.NONE, ChallengerRole.CHALLENGER):
            return None  # one trial at a time
        self._enter(self._family.kinds[self.champion_kind].make(), self.champion_kind, ChallengerRole.SUCCESSOR)
        return LifecycleChange(
            ModelEvent.DRIFTED, "the distribution of its scores has moved; a successor learns from nothing"
        )

    def _swap(self) -> None:
        assert self.rival is not None
        self.champion, self.rival = self.rival, self.champion
        self.champion_kind, self.rival_kind = self.rival_kind, self.champion_kind
        self.version += 1
        self.drift = self._make_drift()  # another model's scores are another distribution

    def _dismiss(self) -> None:
        """End a trial: a rival of another kind goes on as challenger, one of the champion's kind is dropped."""
        if self.rival_kind != self.champion_kind:
            self._enter(self.rival, self.rival_kind, ChallengerRole.CHALLENGER)
        else:
            self._challenge()

    def _challenge(self) -> None:
        kinds = self._family.kinds
        if len(kinds) == 1:
            self._enter(None, 0, ChallengerRole.NONE)
        else:
            other = 1 - min(self.champion_kind, 1)
            self._enter(kinds[other].make(), other, ChallengerRole.CHALLENGER)

    def _enter(self, rival: Detector | None, kind: int, role: ChallengerRole) -> None:
        self.rival, self.rival_kind, self.role, self.trial = rival, kind, role, Trial()

    def narrow(self) -> tuple[int, int, int]:
        """Return kinds of the two models and the rival's role, each below 256."""
        return self.champion_kind, self.rival_kind, self.role

    def counts(self) -> tuple[int, int, int]:
        """Return version, rows and drifts."""
        return self.version, self._rows, self.drifts

    def take(self, narrow: list[int], counts: list[int], taught_us: int) -> None:
        """Take over all but models, trial and drift detector."""
        self.champion_kind, self.rival_kind, self.role = narrow[0], narrow[1], ChallengerRole(narrow[2])
        self.version, self._rows, self.drifts = counts
        self.taught_us = taught_us

    def snapshot(self) -> bytes:
        """Encode both models, the trial and the drift detector."""
        rival = b"" if self.rival is None else self.rival.snapshot()
        head = [*self.narrow(), *self.counts(), self.taught_us]
        numbers = [*head, self.rival is not None, *self.trial.numbers()]
        return pack_parts(_LIFECYCLE_TAG, numbers, [self.champion.snapshot(), rival, self.drift.snapshot()])

    def restore(self, data: bytes) -> None:
        """Take over the state of a life in the same family."""
        numbers, (champion, rival, drift) = unpack_parts(_LIFECYCLE_TAG, data, _HEAD + TRIAL_NUMBERS, 3)
        whole = [int(number) for number in numbers[:_HEAD]]
        self.take(whole[:3], whole[3:6], whole[6])
        self.trial = Trial.of(numbers[_HEAD:])
        self.drift.restore(drift)
        self.champion = self._family.kinds[self.champion_kind].make()
        self.champion.restore(champion)
        self.rival = self._family.kinds[self.rival_kind].make() if whole[-1] else None
        if self.rival is not None:
            self.rival.restore(rival)
