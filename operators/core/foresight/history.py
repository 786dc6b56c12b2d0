"""What prices have done together: standardised returns of past hours, hour by hour for all instruments.

Filtered historical simulation (Barone-Adesi, Giannopoulos and Vosper 1999; Hull and White 1998) draws from returns over
the volatility that was forecast for them, and takes them times the volatility of now: an hour of the past counts with
what all instruments did in it at once, and as large as such an hour would be today.

Scenarios are :data:`SCENARIOS` hours. Until so many have passed, the rest are drawn from the prior, once and for all: a
Student t of four degrees, a common factor with the prior correlation of ``factor``. So a loss is never small because
nothing has been seen, and it becomes that of the market hour by hour. What an instrument did in an hour in which it had
no price is the mean of what the others did, and the prior's own rest.
"""

from math import sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import totals
from seawall.operators.core.foresight.factor import PRIOR
from seawall.operators.core.foresight.horizon import Outcome

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
SCENARIOS: Final = 500
READY_MIN: Final = 100  # hours of its own before an instrument is more than warming: one beyond the 99 % level
UNITS_MAX: Final = 20.0  # deviations
ROOT_HALF: Final = 0.7071067811865476  # a Student t of 4 degrees has a variance of 2
COMMON: Final = -1  # the number of the common factor's draws; instruments count from 0


class History:
    """Standardised returns of the last :data:`SCENARIOS` hours, NaN where an instrument had no price."""

    def __init__(self) -> None:
        self._ring: NDArray[np.float32] = np.full((SCENARIOS, 0), np.nan, dtype=np.float32)
        self.seen = 0

    def learn(self, outcome: Outcome) -> None:
        """Take an hour that ended."""
        known = outcome.known
        if not known.any():
            return
        more = len(known) - self._ring.shape[1]
        if more > 0:
            fresh = np.full((SCENARIOS, more), np.nan, dtype=np.float32)
            self._ring = np.concatenate([self._ring, fresh], axis=1)
        units = np.where(known, outcome.returns, np.nan) / np.sqrt(np.where(known, outcome.forecast, 1.0))
        self._ring[self.seen % SCENARIOS] = np.clip(units, -UNITS_MAX, UNITS_MAX)
        self.seen += 1

    def known(self, instruments: I8) -> I8:
        """Return how many hours are known of each instrument."""
        return np.asarray(np.count_nonzero(np.isfinite(self._of(instruments)), axis=0), dtype=np.int64)

    def units(self, instruments: I8) -> F8:
        """Return the moves of instruments in units of their deviation, shape (scenarios, instruments)."""
        own = self._of(instruments)
        rest = sqrt(1.0 - PRIOR * PRIOR) * np.stack([draws(at) for at in instruments.tolist()], axis=1)
        return np.where(np.isfinite(own), own, self._common()[:, None] + rest)

    def _of(self, instruments: I8) -> F8:
        found = np.full((SCENARIOS, len(instruments)), np.nan)
        inside = instruments < self._ring.shape[1]
        found[:, inside] = self._ring[:, instruments[inside]]
        return found

    def _common(self) -> F8:
        """Return what the market did in each scenario: the mean of what is known of it, else the prior's."""
        known = np.isfinite(self._ring)
        count = np.count_nonzero(known, axis=1)
        mean = totals(np.where(known, self._ring, 0.0).astype(np.float64)) / np.maximum(count, 1)
        return np.where(count > 0, mean, PRIOR * draws(COMMON))

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        return [self._ring.copy(), self.seen]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self._ring, self.seen = state


def draws(number: int) -> F8:
    """Return one prior move per scenario: the quantiles of a Student t(4) of variance 1, in an order of its own.

    The order is that of a fixed mixing function (splitmix64) of number and scenario.
    """
    order = np.argsort(_mixed(number), kind="stable")
    found = np.empty(SCENARIOS)
    found[order] = student((np.arange(SCENARIOS) + 0.5) / SCENARIOS)
    return found


def student(probability: F8) -> F8:
    """Return quantiles of a Student t of four degrees, scaled to a variance of 1.

    With ``u = t / sqrt(4 + t^2)`` its distribution is ``1/2 + 3/4 (u - u^3/3)``, which is halved down to the last bit.

    Examples
    --------
    >>> student(np.array([0.01, 0.5, 0.95])).round(6).tolist()
    [-2.649497, 0.0, 1.507437]
    """
    target = (probability - 0.5) * 4.0 / 3.0
    low, high = np.full(len(target), -1.0), np.full(len(target), 1.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = middle - middle * middle * middle / 3.0 < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    u = 0.5 * (low + high)
    found: F8 = 2.0 * u / np.sqrt(1.0 - u * u) * ROOT_HALF
    return found


def _mixed(number: int) -> NDArray[np.uint64]:
    """Return a well mixed number per scenario."""
    start = np.uint64((number * 0x9E3779B97F4A7C15) % (1 << 64))
    x = np.arange(1, SCENARIOS + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03) + start
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))
