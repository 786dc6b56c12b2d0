"""Each account's own record: how often it has broken, against how often it was forecast to.

Accounts differ in what no term tells: some stand near their margin for weeks and never break, some break again and
again. Let an account's rate be the forecast one times a factor of its own, from a gamma distribution of mean 1 and
shape :data:`SHAPE`. After ``k`` breaches where ``e`` were expected the factor's mean is ``(k + SHAPE) / (e + SHAPE)``:
the credibility of actuaries (Buhlmann and Gisler 2005), the frailty of survival analysis (Vaupel and others 1979).
What was expected is known at once, without waiting for a horizon to end: an hour survived counts when it is past. Both
fade with a month.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.valuation.arithmetic import exp, log

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
SHAPE: Final = 5.0  # breaches that the prior weighs: as many as make a model ready
FADE_S: Final = 30 * 86_400.0
EXPECTED, BROKEN, RATE = range(3)


class Record:
    """Breaches expected and come of every account, and the rate (per second) that is expected now."""

    def __init__(self) -> None:
        self._rows: F8 = np.zeros((3, 0))
        self._us = 0

    def log_odds(self, accounts: I8) -> F8:
        """Return what their record adds to the log-odds of accounts."""
        known = np.minimum(accounts, self._rows.shape[1] - 1)
        if not self._rows.shape[1]:
            return np.zeros(len(accounts))
        rows = np.where(accounts < self._rows.shape[1], self._rows[:, known], 0.0)
        return log((rows[BROKEN] + SHAPE) / (rows[EXPECTED] + SHAPE))

    def expect(self, accounts: I8, rate: F8, as_of_us: int) -> None:
        """Take in what was expected since the last call, then what is now, of these accounts alone."""
        elapsed_s, self._us = (as_of_us - self._us) / 1e6 if self._us else 0.0, as_of_us
        rows = self._rows
        rows[EXPECTED] += rows[RATE] * elapsed_s
        rows[: BROKEN + 1] *= float(exp(-elapsed_s / FADE_S))
        if len(accounts):
            self._grow(int(accounts.max()) + 1)
        self._rows[RATE] = 0.0
        self._rows[RATE, accounts] = rate

    def broke(self, accounts: I8) -> None:
        """Note that accounts have come to their level."""
        self._grow(int(accounts.max()) + 1)
        self._rows[BROKEN, accounts] += 1.0

    def _grow(self, count: int) -> None:
        more = count - self._rows.shape[1]
        if more > 0:
            self._rows = np.concatenate([self._rows, np.zeros((3, more))], axis=1)

    def snapshot(self) -> list[object]:
        """Return the state as arrays."""
        return [self._rows.copy(), self._us]

    def restore(self, state: list[object]) -> None:
        """Take the state of a snapshot."""
        rows, us = state
        assert isinstance(rows, np.ndarray)
        assert isinstance(us, int)
        self._rows, self._us = rows, us
