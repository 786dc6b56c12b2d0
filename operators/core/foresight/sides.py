"""The deviation that quantiles of losses and of gains are multiples of: one for each side, pooled over all forecasters.

The mixture that forecasts a variance follows whoever was right of late, and after a shock leaps to twice what comes:
right for the mean of squares, too much for a tail. So quantiles stand on the plain mean of all deviations, that of the
mixture included (averaging quantiles: Lichtendahl, Grushka-Cockayne and Winkler, "Is It Better to Average
Probabilities or Quantiles?", Management Science 59, 2013; equal weights, since weights learned from a few shocks are
worse: Timmermann, "Forecast Combinations", Handbook of Economic Forecasting 2006). Among them are, for each side, those
of its own bad news: twice the mean square of falls, or of rises (realised semivariance: Barndorff-Nielsen, Kinnebrock
and Shephard 2010; Patton and Sheppard, "Good Volatility, Bad Volatility", Rev. Econ. Stat. 97, 2015), where that is
above the variance of the same half-life: bad news widens a side, good news does not narrow the other.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import totals
from seawall.operators.core.foresight.linear import mean
from seawall.operators.core.valuation.arithmetic import exp, log

F8 = NDArray[np.float64]
B1 = NDArray[np.bool_]
SIDES: Final = 2  # falls, rises


class Sides:
    """The mean squares of falls and rises of every instrument over one horizon.

    Parameters
    ----------
    halves
        Half-lives in horizons, the slowest last.
    """

    def __init__(self, halves: F8) -> None:
        self._gain = (1.0 - exp(-0.6931471805599453 / halves))[None, :, None]
        self.squares: F8 = np.zeros((SIDES, len(halves), 0))

    def grow(self, more: int) -> None:
        """Make room for further instruments."""
        self.squares = np.concatenate([self.squares, np.zeros((*self.squares.shape[:2], more))], axis=2)

    def learn(self, returns: F8, at: NDArray[np.int64]) -> None:
        """Take the log returns of the instruments ``at``, over a horizon that ended."""
        fall, square = returns < 0, returns * returns
        both = 2.0 * np.stack([np.where(fall, square, 0.0), np.where(fall, 0.0, square)])[:, None]
        last = self.squares[:, :, at]
        self.squares[:, :, at] = last + self._gain * (both - last)

    def deviations(self, own: F8, others: F8, known: B1) -> F8:
        """Return the deviation on each side, shape (2, instruments).

        Parameters
        ----------
        own
            Variances of each instrument at the half-lives of this, shape (half-lives, instruments).
        others
            All variances that are forecast, shape (forecasters, instruments).
        known
            Which instruments tell of the market.
        """
        sides = np.maximum(self.squares, own)
        if not known.any():
            market = sides
        else:
            slowest = log(own[-1])
            ratio = mean((log(sides) - slowest)[:, :, known])
            market = exp(slowest + ratio[:, :, None])
        shared = totals(np.sqrt(others).T)
        apart = totals(np.sqrt(np.concatenate([sides, market], axis=1)).transpose(0, 2, 1))
        return np.asarray((shared + apart) / (len(others) + 2 * own.shape[0]))
