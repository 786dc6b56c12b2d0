"""How assets move together: returns of an hour against what is usual, as turbulence and as an absorption ratio.

Turbulence is the Mahalanobis distance of the returns of the last 60 minutes from none, by the covariance of all hours
before the one in which they began, per asset: 1 on average. It is seen every minute, learned from once an hour.

The absorption ratio is the share of the first fifth of the eigenvectors in the variance of all standardised returns:
how much one cause explains. It is taken over about a day, and compared with what it usually is.

Correlations lie between those observed and none, ``n / (n + hours)`` of the latter and at least a twentieth, so a
covariance can be inverted however few the hours and however alike the assets; the state then says ``singular``.

References
----------
M. Kritzman, Y. Li, "Skulls, financial turbulence, and risk management", Financial Analysts Journal 66 (2010).
M. Kritzman, Y. Li, S. Page, R. Rigobon, "Principal components as a measure of systemic risk", Journal of Portfolio
Management 37 (2011).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight.linear import eigenvalues, mahalanobis
from seawall.operators.core.foresight.usual import Usual
from seawall.operators.core.valuation.arithmetic import log

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
ASSETS_MAX: Final = 48  # the first underlyings that came to be priced
HOUR_MIN: Final = 60  # minutes
FADES: Final = (0.99711590, 0.97153194)  # per hour: half-lives of ten days and of one
WARM_HOURS: Final = 48.0
SHARE_MIN: Final = 0.05  # of no correlation
CLIP: Final = 6.0  # deviations: what is learned of a single hour
SINGULAR: Final = 1e-9  # of the mean eigenvalue
SHIFT_MIN: Final = 0.01  # the least deviation of the absorption ratio
WARMING, CONSTANT, IS_SINGULAR, READY = "warming", "constant", "singular", "ready"


class Comovement:
    """Turbulence and absorption ratio of the prices of some assets; assets are numbered, more may come."""

    def __init__(self) -> None:
        self._minutes: list[int] = []  # of the prices kept: those of the last hour, and the last before
        self._prices: list[F8] = []  # logarithms
        self._last: F8 = np.zeros(0)  # logarithms of prices at the last full hour
        self._hour = -1
        self._pending: F8 = np.zeros(0)  # the returns of the last full hour, not learned yet
        self._sums = [np.zeros((0, 0)) for _ in FADES]  # of products, long and short
        self._weights: F8 = np.zeros(0)  # hours known of each, faded as the long sums
        self._usual = Usual(FADES[0], SHIFT_MIN)
        self.turbulence, self.absorption, self.shift = 0.0, 0.0, 0.0
        self.state = self.absorption_state = WARMING

    def look(self, minute: int, price: F8) -> None:
        """Take prices (NaN: none) as they stand at the end of a minute of event time."""
        now = log(price[:ASSETS_MAX])
        self._grow(len(now))
        hour = minute // HOUR_MIN
        if hour != self._hour:
            self._end_hour(now, hour)
        self.state, self.turbulence = self._turbulence(minute, now)
        self._minutes.append(minute)
        self._prices.append(now)

    # --- a minute ---------------------------------------------------------------------------------------------------

    def _turbulence(self, minute: int, now: F8) -> tuple[str, float]:
        while len(self._minutes) > 1 and self._minutes[1] <= minute - HOUR_MIN:
            del self._minutes[0], self._prices[0]
        if not self._minutes:
            return WARMING, 0.0
        elapsed = max(minute - self._minutes[0], HOUR_MIN)
        then = np.append(self._prices[0], np.full(len(now) - len(self._prices[0]), np.nan))
        returns = (now - then) * float(np.sqrt(HOUR_MIN / elapsed))
        known = np.isfinite(returns) & (self._weights >= WARM_HOURS)
        variance = self._sums[0].diagonal() / np.maximum(self._weights, 1.0)
        at = (known & (variance > 0)).nonzero()[0]
        if len(at) < 2:
            return (CONSTANT if np.count_nonzero(known) >= 2 else WARMING), 0.0
        units = returns[at] / np.sqrt(variance[at])
        correlation, singular = self._correlation(0, at)
        return (IS_SINGULAR if singular else READY), mahalanobis(correlation, units) / len(at)

    # --- an hour ----------------------------------------------------------------------------------------------------

    def _end_hour(self, now: F8, hour: int) -> None:
        """Learn the hour before the one that ends; the returns of the one that ends wait."""
        if self._hour >= 0:
            self._learn(self._pending)
            self._pending = (now - self._last) / float(np.sqrt(hour - self._hour))
            self.absorption_state, self.absorption, self.shift = self._absorption()
        self._last, self._hour = now, hour

    def _learn(self, returns: F8) -> None:
        returns = np.append(returns, np.full(len(self._last) - len(returns), np.nan))
        known = np.isfinite(returns)
        deviation = np.sqrt(self._sums[0].diagonal() / np.maximum(self._weights, 1.0))
        most = np.where(self._weights >= WARM_HOURS, CLIP * np.maximum(deviation, 1e-6), np.inf)
        taken = np.where(known, np.minimum(np.maximum(np.where(known, returns, 0.0), -most), most), 0.0)
        for at, fade in enumerate(FADES):
            self._sums[at] = fade * self._sums[at] + taken[:, None] * taken[None, :]
        self._weights = FADES[0] * self._weights + known

    def _absorption(self) -> tuple[str, float, float]:
        """Return the state, the ratio of the last day, and by how many deviations it is more than usual."""
        at = ((self._weights >= WARM_HOURS) & (self._sums[1].diagonal() > 0)).nonzero()[0]
        if len(at) < 2:
            return (CONSTANT if np.count_nonzero(self._weights >= WARM_HOURS) >= 2 else WARMING), 0.0, 0.0
        sums = self._sums[1][np.ix_(at, at)]
        scale = np.sqrt(sums.diagonal())
        found = eigenvalues(sums / (scale[:, None] * scale[None, :]))
        first = -(-len(at) // 5)
        ratio = float(found[:first].cumsum()[-1] / found.cumsum()[-1])
        shift = self._usual.stretch(np.array([ratio])).item(0)
        self._usual.learn(np.array([ratio]))
        return (READY, ratio, shift) if shift == shift else (WARMING, ratio, 0.0)  # noqa: PLR0124 (known)

    def _correlation(self, at: int, of: I8) -> tuple[F8, bool]:
        """Return the correlations of some assets, drawn to none, and whether those observed are singular."""
        sums = self._sums[at][np.ix_(of, of)]
        scale = np.sqrt(sums.diagonal())
        observed = sums / (scale[:, None] * scale[None, :])
        hours = float(self._weights[of].min())
        share = max(len(of) / (len(of) + hours), SHARE_MIN)
        drawn = (1.0 - share) * observed
        drawn[np.arange(len(of)), np.arange(len(of))] = 1.0
        return drawn, _is_singular(observed)

    def _grow(self, count: int) -> None:
        more = count - len(self._last)
        if more > 0:
            none = np.full(more, np.nan)
            self._last, self._pending = np.append(self._last, none), np.append(self._pending, none)
            self._sums = [np.pad(sums, ((0, more), (0, more))) for sums in self._sums]
            self._weights = np.append(self._weights, np.zeros(more))

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> list[Any]:
        """Return the state as plain values and arrays."""
        learned = [self._last, self._pending, *self._sums, self._weights, self._usual.snapshot()]
        said = [self.turbulence, self.absorption, self.shift, self.state, self.absorption_state]
        return [list(self._minutes), list(self._prices), self._hour, learned, said]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self._minutes, self._prices, self._hour, learned, said = state
        self._last, self._pending, long, short, self._weights, usual = learned
        self._sums = [long, short]
        self._usual.restore(usual)
        self.turbulence, self.absorption, self.shift, self.state, self.absorption_state = said


def _is_singular(correlation: F8) -> bool:
    """Tell whether a correlation matrix has a pivot of nothing: some asset is a sum of others."""
    left = correlation.copy()
    for at in range(len(left)):
        pivot = left.item(at, at)
        if pivot < SINGULAR:
            return True
        left[at + 1 :, at + 1 :] -= left[at + 1 :, at : at + 1] * left[at : at + 1, at + 1 :] / pivot
    return False
