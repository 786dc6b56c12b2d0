"""Gated learning: what looks wrong is not learned, and what stays wrong for too long becomes the new normal.

A detector that keeps learning through an incident falls to chance on it; one that never learns what it flags locks in
after a lasting level shift. So learning is held while scores are unusual, and meanwhile a clone that has seen nothing
learns everything in the background. Either calm returns and the clone is dropped, or the time box runs out and the
clone takes over.
"""

from typing import Generic, Self, TypeVar

from seawall.operators.core.detection.flat import HEAD_BYTES, from_bytes, to_bytes
from seawall.operators.core.detection.samples import Detector, Sample, Score, State

BOX_ROWS = 1000  # how long an incident may last before it is a regime; longer than a detector's warm-up
CALM_ROWS = 50  # ordinary rows in a row that end an incident

_TAG = "gated01"
_HEAD = 5

D = TypeVar("D", bound=Detector)


class Gated(Generic[D]):
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

    def __init__(self, detector: D, level: float = 0.99, hold: bool = True, box_rows: int = BOX_ROWS) -> None:
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
        unusual = score.state is State.READY and score.value >= self._level
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
        return to_bytes(_TAG, [self._rows, self._calm, self.swaps, len(front), len(back)]) + front + back

    def restore(self, data: bytes) -> None:
        """Take over a state of the same detector."""
        at = HEAD_BYTES + 8 * _HEAD
        rows, calm, swaps, front, back = (int(number) for number in from_bytes(_TAG, data[:at], _HEAD))
        self._rows, self._calm, self.swaps = rows, calm, swaps
        self.detector.restore(data[at : at + front])
        self.background = self.detector.fresh() if back else None
        if self.background is not None:
            self.background.restore(data[at + front : at + front + back])
