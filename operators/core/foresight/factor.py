"""One common factor: how much each instrument moves with the market, learned from horizons that ended.

The factor is the mean of all standardised returns of a horizon. A correlation that few returns support lies near the
prior of 0.7 that potential exposure uses, too.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight.horizon import Outcome
from seawall.operators.core.foresight.linear import mean

F8 = NDArray[np.float64]
PRIOR: Final = 0.7
PRIOR_COUNT: Final = 50.0
FADE: Final = 0.998
RHO_MAX: Final = 0.98


class Factor:
    """Correlations of all instruments with the common factor."""

    def __init__(self) -> None:
        self._sums: F8 = np.zeros((4, 0))  # count, with the factor, own square, the factor's square

    def learn(self, outcome: Outcome) -> None:
        """Take the returns of one horizon."""
        self.grow(len(outcome.returns))
        at = outcome.known.nonzero()[0]
        if len(at) < 2:
            return
        units = np.minimum(np.maximum(outcome.returns[at] / np.sqrt(outcome.forecast[at]), -6.0), 6.0)
        common = float(mean(units))
        new = np.stack([np.ones(len(at)), units * common, units * units, np.full(len(at), common * common)])
        self._sums[:, at] = FADE * self._sums[:, at] + new

    def rho(self) -> F8:
        """Return the correlation of each instrument with the factor."""
        count, with_it, own, its = self._sums
        scale = np.sqrt(own * its)
        found = np.where(scale > 0, with_it / np.where(scale > 0, scale, 1.0), PRIOR)
        blended = (count * found + PRIOR_COUNT * PRIOR) / (count + PRIOR_COUNT)
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
