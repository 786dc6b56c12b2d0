"""How underlyings move with what counterparties issued: exponentially weighted correlations, for wrong-way risk.

Once a minute of event time the log return of every underlying enters its variance, and its product with the return of
each *proxy*, an asset that somebody issued, their covariance, both with a half-life of ``HALF_LIFE_S``. A minute,
because marks of different markets do not come at the same moment and shorter returns would look less alike than they
are. A correlation counts once both were seen for ``SAMPLES_MIN`` minutes.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import Columns
from seawall.operators.core.valuation.arithmetic import exp, log

F8 = NDArray[np.float64]
HALF_LIFE_S: Final = 86_400.0
MINUTE_US: Final = 60_000_000
SAMPLES_MIN: Final = 60
LN2: Final = 0.6931471805599453


class Comovement:
    """Variances of underlyings by number, and their covariances with each proxy, itself an underlying."""

    def __init__(self) -> None:
        self.proxies: list[int] = []
        self._rows = Columns({"price": "f8", "variance": "f8", "samples": "i8"})
        self._covariance: F8 = np.zeros((0, 0))
        self._last_us = 0
        self._found: F8 | None = None  # the correlations, as long as nothing moves them: they are asked for every slice

    def watch(self, proxies: list[int]) -> None:
        """Take the proxies that are known by now; those that were stay in their places."""
        self.proxies += [number for number in proxies if number not in self.proxies]
        self._found = None

    def see(self, prices: F8, as_of_us: int) -> None:
        """Take prices, NaN where there is none; only the first of a minute counts."""
        if not self.proxies or as_of_us // MINUTE_US == self._last_us // MINUTE_US:
            return
        self._reserve(len(prices))
        rows, self._found = self._rows, None
        known = np.isfinite(prices)
        at = (known & np.isfinite(rows["price"])).nonzero()[0]
        if len(at):
            keep = float(exp(-LN2 * (as_of_us - self._last_us) / 1e6 / HALF_LIFE_S))
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
        if self._found is None:
            self._found = self._correlated()
        return self._found

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
        self._covariance, self._last_us, self._found = state[2], state[3], None
