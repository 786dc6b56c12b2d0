"""Samples, scores, the protocol that every detector keeps, and gated learning.

Three steps per sample, always in this order: ``score`` (changes nothing), a decision whether to learn, ``learn``.
`GatedDetector` makes that decision: what looks wrong is not learned, and what stays wrong becomes the new normal.
"""

from enum import StrEnum
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

from seawall.operators.core.base import PACKED_HEAD_BYTES, pack_numbers, unpack_numbers

# Samples, scores, and the protocol that every detector keeps.
#
# Three steps per sample, always in this order: ``score`` (changes nothing, may be repeated, may run in shadow), a
# decision whether to learn, ``learn``. A sample that holds anything but usable numbers is answered INVALID and is never
# learned: one NaN would stay in a running mean for ever. Warm-up is a state of the score, not a score of zero.

VALUE_MAX = 1e100  # beyond it a square overflows, and infinity minus infinity poisons a mean as NaN does


class ScoreState(StrEnum):
    """State of a score: may it be used."""

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
    state: ScoreState
    contributions: tuple[float, ...] = ()
    detail: Any = None


INVALID_SCORE = Score(0.0, ScoreState.INVALID)


class Detector(Protocol):
    """Score and learn, as two separate steps.

    Attributes
    ----------
    names
        What the contributions of a score refer to.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Names that the contributions of a score refer to."""

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
    """Return whether every value is finite and small enough to be squared.

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
        return INVALID_SCORE
    score = detector.score(sample)
    detector.learn(sample, score)
    return score


# Gated learning: what looks wrong is not learned, and what stays wrong for too long becomes the new normal.
#
# A detector that keeps learning through an incident falls to chance on it; one that never learns what it flags locks in
# after a lasting level shift. So learning is held while scores are unusual, and meanwhile a clone that has seen nothing
# learns everything in the background. Either calm returns and the clone is dropped, or the time box runs out and the
# clone takes over.

GATE_ROWS_MAX = 1000  # how long an incident may last before it is a regime; longer than a detector's warm-up
CALM_ROWS = 50  # ordinary rows in a row that end an incident

_TAG = "gated01"
_HEAD = 5

D = TypeVar("D", bound=Detector)


class GatedDetector(Generic[D]):
    """A detector that learns behind a gate.

    Parameters
    ----------
    detector
        The one that answers.
    level
        Scores from here on are unusual.
    hold
        Whether unusual rows are kept from the detector; False for one whose own learning already discounts them.
    """

    def __init__(self, detector: D, level: float = 0.99, hold: bool = True, box_rows: int = GATE_ROWS_MAX) -> None:
        self.detector = detector
        self.background: D | None = None
        self.swaps = 0
        self._level, self._hold, self._box_rows = level, hold, box_rows
        self._rows = 0
        self._calm = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the detector behind the gate."""
        return self.detector.names

    def score(self, sample: Sample) -> Score:
        """Answer as the detector does."""
        return self.detector.score(sample)

    def learn(self, sample: Sample, score: Score) -> None:
        """Decide whether ``sample`` is learned, and whether the background takes over."""
        unusual = score.state is ScoreState.READY and score.value >= self._level
        if not (unusual and self._hold):
            self.detector.learn(sample, score)
        if self.background is None:
            if not unusual:
                return
            self.background, self._rows, self._calm = self.detector.fresh(), 0, 0
        self.background.learn(sample, self.background.score(sample))
        self._rows += 1
        self._calm = 0 if unusual else self._calm + 1
        if self._calm >= CALM_ROWS:
            self.background = None
        elif self._rows >= self._box_rows:
            self.detector, self.background = self.background, None
            self.swaps += 1

    def fresh(self) -> Self:
        """Make one that has seen nothing, with the same gate."""
        return type(self)(self.detector.fresh(), self._level, self._hold, self._box_rows)

    def snapshot(self) -> bytes:
        """Encode detector, clone and gate; twice a detector's bytes while an incident lasts."""
        front = self.detector.snapshot()
        back = self.background.snapshot() if self.background is not None else b""
        return pack_numbers(_TAG, [self._rows, self._calm, self.swaps, len(front), len(back)]) + front + back

    def restore(self, data: bytes) -> None:
        """Take over a state of the same detector."""
        at = PACKED_HEAD_BYTES + 8 * _HEAD
        rows, calm, swaps, front, back = (int(number) for number in unpack_numbers(_TAG, data[:at], _HEAD))
        self._rows, self._calm, self.swaps = rows, calm, swaps
        self.detector.restore(data[at : at + front])
        self.background = self.detector.fresh() if back else None
        if self.background is not None:
            self.background.restore(data[at + front : at + front + back])
