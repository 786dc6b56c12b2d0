"""Exponentially weighted volatility of underlyings, and the potential exposure that follows from it without simulation.

1. Once a second of event time every underlying's price is compared with the one before; the squared log return, per
   second that passed, enters an exponentially weighted mean with a half-life of ``HALF_LIFE_S``.
2. The value of a netting set moves with its deltas. Underlyings share one factor with the correlation ``CORRELATION``,
   which gives the standard deviation over the margin period.
3. The potential exposure is what the exposure is above today's at the quantile ``QUANTILE``: ``max(V - C + q s, 0)``
   less ``max(V - C, 0)``.

It stands beside SA-CCR's, whose factors do not know today's market.

References
----------
J.P. Morgan/Reuters, RiskMetrics Technical Document (1996): exponentially weighted moving averages.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import Columns
from seawall.operators.core.valuation.arithmetic import exp, log

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
HALF_LIFE_S: Final = 86_400.0  # a day: long enough to hold a night, short enough to know a crash
QUANTILE: Final = 2.3263478740408408  # of the normal distribution at 99 %
CORRELATION: Final = 0.7  # between crypto underlyings, conservative for a book of longs (our choice)
SECONDS_PER_BUSINESS_DAY: Final = 86_400.0 * 365.0 / 250.0
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
            keep = np.asarray(exp(-LN2 * passed / HALF_LIFE_S))
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
    >>> day = 1.0 / np.sqrt(SECONDS_PER_BUSINESS_DAY)
    >>> potential_exposure(np.array([0.0, -100.0]), np.full(2, 10.0 * day), np.ones(2)).round(6).tolist()
    [23.263479, 0.0]
    """
    spread = QUANTILE * deviation * np.sqrt(period_days * SECONDS_PER_BUSINESS_DAY)
    return np.maximum(surplus + spread, 0.0) - np.maximum(surplus, 0.0)


def deviations(shared: F8, own: F8) -> F8:
    """Return the standard deviation of each netting set's value, per second^½.

    Parameters
    ----------
    shared, own
        By set: the sum, and the sum of squares, of the moves of what nets fully: its delta times the volatility of its
        underlying per second^½.
    """
    return np.sqrt(CORRELATION * shared * shared + (1.0 - CORRELATION) * own)
