"""Dependence of credit exposure on markets: potential exposure at today's volatility, and correlations."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import Columns, exp, log

# Exponentially weighted volatility of underlyings, and the potential exposure that follows from it without simulation.
#
# 1. Once a second of event time every underlying's price is compared with the one before; the squared log return, per
#    second that passed, enters an exponentially weighted mean with a half-life of ``VOLATILITY_HALF_LIFE_S``.
# 2. The value of a netting set moves with its deltas. Underlyings share one factor with the correlation
#    ``FACTOR_CORRELATION``, which gives the standard deviation over the margin period.
# 3. The potential exposure is what the exposure is above today's at the quantile ``EXPOSURE_QUANTILE``: ``max(V - C + q
#    s, 0)`` less ``max(V - C, 0)``.
#
# It stands beside SA-CCR's, whose factors do not know today's market.
#
# References
# ----------
# J.P. Morgan/Reuters, RiskMetrics Technical Document (1996): exponentially weighted moving averages.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
VOLATILITY_HALF_LIFE_S: Final = 86_400.0  # a day: long enough to hold a night, short enough to know a crash
EXPOSURE_QUANTILE: Final = 2.3263478740408408  # of the normal distribution at 99 %
FACTOR_CORRELATION: Final = 0.7  # between crypto underlyings, conservative for a book of longs (our choice)
SECONDS_PER_DAY: Final = 86_400.0  # markets of crypto assets do not close
LN2: Final = 0.6931471805599453


class EwVolatility:
    """Price, time and variance per second of every underlying, by number."""

    def __init__(self) -> None:
        self.rows = Columns({"price": "f8", "us": "i8", "variance": "f8", "weight": "f8"})

    def see(self, prices: F8, as_of_us: int) -> None:
        """Take the prices of this second, NaN where there is none."""
        rows = self.rows
        if len(prices) > rows.size:
            rows.append(len(prices) - rows.size, price=np.nan)
        known = np.isfinite(prices)
        both = known & np.isfinite(rows["price"]) & (as_of_us > rows["us"])
        at = both.nonzero()[0]
        if len(at):
            passed = (as_of_us - rows["us"][at]) / 1e6
            change = np.asarray(log(prices[at] / rows["price"][at]))
            keep = np.asarray(exp(-LN2 * passed / VOLATILITY_HALF_LIFE_S))
            rows["variance"][at] = keep * rows["variance"][at] + (1.0 - keep) * (change * change / passed)
            rows["weight"][at] = keep * rows["weight"][at] + (1.0 - keep)
        rows["price"][known], rows["us"][known] = prices[known], as_of_us

    def per_second(self) -> F8:
        """Return the volatility of every underlying per second^½; 0 where only one price was seen."""
        weight = self.rows["weight"]
        return np.sqrt(np.where(weight > 0, self.rows["variance"] / np.where(weight > 0, weight, 1.0), 0.0))

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`."""
        return self.rows.snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.rows.restore(state)


def potential_exposure(surplus: F8, deviation: F8, period_days: F8) -> F8:
    """Return the potential exposure at the quantile, of value less collateral and its deviation per second^½.

    Examples
    --------
    >>> day = 1.0 / np.sqrt(SECONDS_PER_DAY)
    >>> potential_exposure(np.array([0.0, -100.0]), np.full(2, 10.0 * day), np.ones(2)).round(6).tolist()
    [23.263479, 0.0]
    """
    spread = EXPOSURE_QUANTILE * deviation * np.sqrt(period_days * SECONDS_PER_DAY)
    return np.maximum(surplus + spread, 0.0) - np.maximum(surplus, 0.0)


def value_deviations(shared: F8, own: F8) -> F8:
    """Return the standard deviation of each netting set's value, per second^½.

    Parameters
    ----------
    shared, own
        By set: the sum, and the sum of squares, of the moves of what nets fully: its delta times the volatility of its
        underlying per second^½.
    """
    return np.sqrt(FACTOR_CORRELATION * shared * shared + (1.0 - FACTOR_CORRELATION) * own)


# Correlations of underlyings with what counterparties issued, exponentially weighted, for wrong-way risk.
#
# Once a minute of event time the log return of every underlying enters its variance, and its product with the return of
# each *proxy*, an asset that somebody issued, their covariance, both with a half-life of ``CORRELATION_HALF_LIFE_S``. A
# minute, because marks of different markets do not come at the same moment and shorter returns would look less alike
# than they are. A correlation counts once both were seen for ``SAMPLES_MIN`` minutes.

CORRELATION_HALF_LIFE_S: Final = 86_400.0
MINUTE_US: Final = 60_000_000
SAMPLES_MIN: Final = 60


class ReturnCorrelations:
    """Variances of underlyings by number, and their covariances with each proxy, itself an underlying.

    Attributes
    ----------
    found
        What `correlations` returned last, None once anything has moved it: it is read in every slice.
    """

    def __init__(self) -> None:
        self.proxies: list[int] = []
        self._rows = Columns({"price": "f8", "variance": "f8", "samples": "i8"})
        self._covariance: F8 = np.zeros((0, 0))
        self._last_us = 0
        self.found: F8 | None = None

    def watch(self, proxies: list[int]) -> None:
        """Take the proxies that are known by now; those that were stay in their places."""
        self.proxies += [number for number in proxies if number not in self.proxies]
        self.found = None

    def see(self, prices: F8, as_of_us: int) -> None:
        """Take prices, NaN where there is none; only the first of a minute counts."""
        if not self.proxies or as_of_us // MINUTE_US == self._last_us // MINUTE_US:
            return
        self._reserve(len(prices))
        rows, self.found = self._rows, None
        known = np.isfinite(prices)
        at = (known & np.isfinite(rows["price"])).nonzero()[0]
        if len(at):
            keep = float(exp(-LN2 * (as_of_us - self._last_us) / 1e6 / CORRELATION_HALF_LIFE_S))
            change = np.zeros(rows.size)
            change[at] = log(prices[at] / rows["price"][at])
            rows["variance"][at] = keep * rows["variance"][at] + (1.0 - keep) * (change[at] * change[at])
            for row, proxy in enumerate(self.proxies):
                joint = keep * self._covariance[row, at] + (1.0 - keep) * (change[at] * change[proxy])
                self._covariance[row, at] = joint
            rows["samples"][at] += 1
        rows["price"][known], self._last_us = prices[known], as_of_us

    def correlations(self) -> F8:
        """Return the correlation of each proxy with each underlying, 0 where it is not known yet."""
        if self.found is None:
            self.found = self._correlated()
        return self.found

    def _correlated(self) -> F8:
        rows = self._rows
        self._reserve(max([rows.size, *(proxy + 1 for proxy in self.proxies)]))
        variance, warm = rows["variance"], rows["samples"] >= SAMPLES_MIN
        spread = np.sqrt(variance[self.proxies][:, None] * variance[None, :])
        counts = warm[self.proxies][:, None] & warm[None, :] & (spread > 0)
        return np.where(counts, np.clip(self._covariance / np.where(counts, spread, 1.0), -1.0, 1.0), 0.0)

    def _reserve(self, count: int) -> None:
        if count > self._rows.size:
            self._rows.append(count - self._rows.size, price=np.nan)
        more = (len(self.proxies) - len(self._covariance), self._rows.size - self._covariance.shape[1])
        if more[0] or more[1]:
            self._covariance = np.pad(self._covariance, ((0, more[0]), (0, more[1])))

    def snapshot(self) -> list[Any]:
        """Return the state for :func:`snapshot.pack`."""
        return [list(self.proxies), self._rows.snapshot(), self._covariance.copy(), self._last_us]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self.proxies = list(state[0])
        self._rows.restore(state[1])
        self._covariance, self._last_us, self.found = state[2], state[3], None
