"""River's drift detectors, for the life of models and never for alerts.

As alarms on NAB, ADWIN and KSWIN score what a blind clock scores. What they are good for: noticing that a detector's
score distribution has moved, so that a challenger should be trained. ``page_hinkley`` has the usual one, without River.
"""

from collections.abc import Callable
from typing import Any

from seawall.operators.core.detection.graphs import decode_graph, encode_graph


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
