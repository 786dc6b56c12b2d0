"""What a detector is shown and what it answers: samples, scores, and the protocol that every detector keeps.

Three steps per sample, always in this order: ``score`` (changes nothing, may be repeated, may run in shadow), a
decision whether to learn, ``learn``. A sample that holds anything but usable numbers is answered INVALID and is never
learned: one NaN would stay in a running mean for ever. Warm-up is a state of the score, not a score of zero.
"""

from enum import StrEnum
from typing import Any, NamedTuple, Protocol, Self

VALUE_MAX = 1e100  # beyond it a square overflows, and infinity minus infinity poisons a mean as NaN does


class State(StrEnum):
    """Whether a score may be used."""

    READY = "ready"
    WARMING = "warming"
    INVALID = "invalid"


class Sample(NamedTuple):
    """One observation: event time in microseconds (None where unknown) and one value per feature."""

    time_us: int | None
    values: tuple[float, ...]


class Score(NamedTuple):
    """The answer to one sample.

    Attributes
    ----------
    value
        0..1: how unusual the sample is, as a rank among the detector's own past or as evidence, as it says.
    state
        READY, WARMING or INVALID; ``value`` is 0 unless READY.
    contributions
        Share of each of the detector's ``names`` in the score; they add up to 1, or to 0 where nothing is unusual.
    detail
        What ``learn`` needs again; opaque to everyone else.
    """

    value: float
    state: State
    contributions: tuple[float, ...] = ()
    detail: Any = None


INVALID = Score(0.0, State.INVALID)


class Detector(Protocol):
    """Score and learn, as two separate steps.

    Attributes
    ----------
    names
        What the contributions of a score refer to.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """What the contributions of a score refer to."""

    def score(self, sample: Sample) -> Score:
        """Answer without changing anything: equal calls give equal answers."""

    def learn(self, sample: Sample, score: Score) -> None:
        """Take in a sample together with the score that this detector gave it."""

    def fresh(self) -> Self:
        """Make a detector with the same parameters that has seen nothing."""

    def snapshot(self) -> bytes:
        """Encode the whole state; a detector restored from it continues bit for bit."""

    def restore(self, data: bytes) -> None:
        """Take over the state in ``data``; raises SnapshotError when it is not this detector's."""


def is_usable(sample: Sample) -> bool:
    """Whether every value is finite and small enough to be squared.

    Examples
    --------
    >>> is_usable(Sample(0, (1.0, float("nan")))), is_usable(Sample(0, (1e9,)))
    (False, True)
    """
    for value in sample.values:  # noqa: SIM110  a plain loop is half the cost of all(...), paid for every event
        if not -VALUE_MAX <= value <= VALUE_MAX:
            return False
    return True


def observe(detector: Detector, sample: Sample) -> Score:
    """Score ``sample``, then learn it; an unusable one is answered INVALID and leaves no trace."""
    if not is_usable(sample):
        return INVALID
    score = detector.score(sample)
    detector.learn(sample, score)
    return score
