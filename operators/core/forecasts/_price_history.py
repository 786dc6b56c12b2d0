"""Joint history of prices: the common factor of all instruments, and standardised returns of past hours."""

from math import sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import ordered_mean, ordered_sums
from seawall.operators.core.forecasts._volatility import HorizonOutcome

# Common factor: how much each instrument moves with the market, learned from horizons that ended.
#
# The factor is the mean of all standardised returns of a horizon. A correlation that few returns support lies near the
# prior of 0.7 that potential exposure uses, too.

F8 = NDArray[np.float64]
CORRELATION_PRIOR: Final = 0.7
CORRELATION_PRIOR_COUNT: Final = 50.0
CORRELATION_FADE: Final = 0.998
RHO_MAX: Final = 0.98


class CommonFactor:
    """Correlations of all instruments with the common factor."""

    def __init__(self) -> None:
        self._sums: F8 = np.zeros((4, 0))  # count, with the factor, own square, the factor's square

    def learn(self, outcome: HorizonOutcome) -> None:
        """Take the returns of one horizon."""
        self.grow(len(outcome.returns))
        at = outcome.known.nonzero()[0]
        if len(at) < 2:
            return
        units = np.minimum(np.maximum(outcome.returns[at] / np.sqrt(outcome.forecast[at]), -6.0), 6.0)
        common = float(ordered_mean(units))
        new = np.stack([np.ones(len(at)), units * common, units * units, np.full(len(at), common * common)])
        self._sums[:, at] = CORRELATION_FADE * self._sums[:, at] + new

    def rho(self) -> F8:
        """Return the correlation of each instrument with the factor."""
        count, with_it, own, its = self._sums
        scale = np.sqrt(own * its)
        found = np.where(scale > 0, with_it / np.where(scale > 0, scale, 1.0), CORRELATION_PRIOR)
        blended = (count * found + CORRELATION_PRIOR_COUNT * CORRELATION_PRIOR) / (count + CORRELATION_PRIOR_COUNT)
        return np.asarray(np.minimum(np.maximum(blended, -RHO_MAX), RHO_MAX))

    def grow(self, count: int) -> None:
        """Make room for instruments."""
        more = count - self._sums.shape[1]
        if more > 0:
            self._sums = np.concatenate([self._sums, np.zeros((4, more))], axis=1)

    def snapshot(self) -> F8:
        """Return the state as an array."""
        return self._sums.copy()

    def restore(self, state: F8) -> None:
        """Take the state of a snapshot."""
        self._sums = state


# Joint returns of prices: standardised returns of past hours, hour by hour for all instruments.
#
# Filtered historical simulation (Barone-Adesi, Giannopoulos and Vosper 1999; Hull and White 1998) draws from returns
# over the volatility that was forecast for them, and takes them times the volatility of now: an hour of the past counts
# with what all instruments did in it at once, and as large as such an hour would be today.
#
# Scenarios are :data:`SCENARIOS` hours. Until so many have passed, the rest are drawn from the prior, once and for all:
# a Student t of four degrees, a common factor with the prior correlation of `CommonFactor`. So a loss is never small
# because nothing has been seen, and it becomes that of the market hour by hour. What an instrument did in an hour in
# which it had no price is the mean of what the others did, and the prior's own rest.

I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
SCENARIOS: Final = 500
READY_MIN: Final = 100  # hours of its own before an instrument is more than warming: one beyond the 99 % level
UNITS_MAX: Final = 20.0  # deviations
ROOT_HALF: Final = 0.7071067811865476  # a Student t of 4 degrees has a variance of 2
COMMON_DRAW: Final = -1  # the number of the common factor's draws; instruments count from 0


class ReturnHistory:
    """Standardised returns of the last :data:`SCENARIOS` hours, NaN where an instrument had no price."""

    def __init__(self) -> None:
        self._ring: NDArray[np.float32] = np.full((SCENARIOS, 0), np.nan, dtype=np.float32)
        self.seen = 0

    def learn(self, outcome: HorizonOutcome) -> None:
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
        rest = sqrt(1.0 - CORRELATION_PRIOR * CORRELATION_PRIOR) * np.stack(
            [prior_draws(at) for at in instruments.tolist()], axis=1
        )
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
        mean = ordered_sums(np.where(known, self._ring, 0.0).astype(np.float64)) / np.maximum(count, 1)
        return np.where(count > 0, mean, CORRELATION_PRIOR * prior_draws(COMMON_DRAW))

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        return [self._ring.copy(), self.seen]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self._ring, self.seen = state


def prior_draws(number: int) -> F8:
    """Return one prior move per scenario: the quantiles of a Student t(4) of variance 1, in an order of its own.

    The order is that of a fixed mixing function (splitmix64) of number and scenario.
    """
    order = np.argsort(_mixed_numbers(number), kind="stable")
    found = np.empty(SCENARIOS)
    found[order] = student_4_quantiles((np.arange(SCENARIOS) + 0.5) / SCENARIOS)
    return found


def student_4_quantiles(probability: F8) -> F8:
    """Return quantiles of a Student t of four degrees, scaled to a variance of 1.

    With ``u = t / sqrt(4 + t^2)`` its distribution is ``1/2 + 3/4 (u - u^3/3)``, which is halved down to the last bit.

    Examples
    --------
    >>> student_4_quantiles(np.array([0.01, 0.5, 0.95])).round(4).tolist()
    [-2.6495, -0.0, 1.5074]
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


def _mixed_numbers(number: int) -> NDArray[np.uint64]:
    """Return a well mixed number per scenario."""
    start = np.uint64((number * 0x9E3779B97F4A7C15) % (1 << 64))
    x = np.arange(1, SCENARIOS + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03) + start
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))
