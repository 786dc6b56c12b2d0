"""Page and Hinkley's test, two-sided: whether the mean of a model's scores has moved.

References
----------
Page, E. S. (1954). Continuous inspection schemes. Biometrika 41.
"""

from seawall.operators.core.detection.flat import from_bytes, to_bytes

_TAG = "pagehk01"


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
        return to_bytes(_TAG, self.numbers())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same parameters."""
        self.take(from_bytes(_TAG, data, 5))

    def numbers(self) -> list[float]:
        """Return the state as a flat list."""
        return [self._rows, self._mean, self._up, self._down, self.drifts]

    def take(self, numbers: list[float]) -> None:
        """Take over what ``numbers`` returned."""
        self._rows, self._mean, self._up, self._down, drifts = numbers
        self.drifts = int(drifts)
