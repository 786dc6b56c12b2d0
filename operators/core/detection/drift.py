"""Drift detection, for the life of models and never for alerts.

As alarms on NAB, ADWIN and KSWIN score what a blind clock scores. What they are good for: noticing that a detector's
score distribution has moved, so that a challenger should be trained.

References
----------
Page, E. S. (1954). Continuous inspection schemes. Biometrika 41.
"""

from collections.abc import Callable
from typing import Any

from seawall.operators.core.detection.flat import from_bytes, to_bytes
from seawall.operators.core.detection.graphs import decode_graph, encode_graph

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
        return to_bytes(_TAG, [self._rows, self._mean, self._up, self._down, self.drifts])

    def restore(self, data: bytes) -> None:
        """Take over a state of the same parameters."""
        self._rows, self._mean, self._up, self._down, drifts = from_bytes(_TAG, data, 5)
        self.drifts = int(drifts)


class RiverDrift:
    """Any River drift detector with the same ``update``: ADWIN costs 0.1 µs and 2 kB, KSWIN 130 µs.

    Parameters
    ----------
    build
        Makes a new one, seeded where it takes a seed.

    Examples
    --------
    >>> from river import drift
    >>> adwin = RiverDrift(drift.ADWIN)
    >>> any(adwin.update(0.0) for row in range(500)), any(adwin.update(1.0) for row in range(500))
    (False, True)
    """

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build
        self._detector = build()

    def update(self, score: float) -> bool:
        """Count one score; whether the distribution has moved."""
        self._detector.update(score)
        return bool(self._detector.drift_detected)

    def snapshot(self) -> bytes:
        """Encode the state."""
        return encode_graph(self._detector, self._build())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same detector."""
        self._detector = decode_graph(data, self._build())
