"""What is known of every account beside its book: what it usually holds, how it trades, pays in, and has broken before.

Everything is weighted exponentially in event time and moves once per minute; between two looks an account is taken to
have stood as at the first.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.valuation.arithmetic import exp, log

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
DAY_S: Final = 86_400.0
GROSS, RATIO, FILLS, PAID, BREACHES, LAST_GROSS, LAST_RATIO, LAST_PAID = range(8)
TIMES_S: Final = (DAY_S, DAY_S, DAY_S, 3 * DAY_S, 30 * DAY_S)  # of the first five
TREND_SHIFT: Final = 0.02  # a ratio below it is as good as none


class Habits(NamedTuple):
    """Per account: mean square of gross notional over a day, mean margin ratio, fills a day, sums paid in, breaches."""

    gross_square: F8
    ratio: F8
    fills: F8
    paid: F8
    breaches: F8


class Accounts:
    """Habits of the accounts of one shard, by number."""

    def __init__(self) -> None:
        self._rows: F8 = np.zeros((8, 0))
        self._us = 0

    def look(self, as_of_us: int, gross: F8, ratio: F8, contributed: F8, filled: I8) -> None:
        """Move to a time: what stood since the last look is taken in, then what stands now is noted.

        ``filled`` holds the account of every fill since.
        """
        self.grow(len(gross))
        rows, elapsed = self._rows, (as_of_us - self._us) / 1e6 if self._us else 0.0
        keep = exp(-elapsed / np.array(TIMES_S))
        for mean, last in ((GROSS, LAST_GROSS), (RATIO, LAST_RATIO)):
            now = rows[last] * rows[last] if mean == GROSS else rows[last]
            rows[mean] = keep[mean] * rows[mean] + (1.0 - keep[mean]) * now
        for count in (FILLS, PAID, BREACHES):
            rows[count] *= keep[count]
        rows[FILLS] += np.bincount(filled, minlength=len(gross))[: len(gross)]
        rows[PAID] += np.maximum(contributed - rows[LAST_PAID], 0.0)
        rows[LAST_GROSS], rows[LAST_RATIO], rows[LAST_PAID] = gross, ratio, contributed
        self._us = as_of_us

    def broke(self, accounts: I8) -> None:
        """Note that accounts crossed their level."""
        self._rows[BREACHES, accounts] += 1.0

    def habits(self) -> Habits:
        """Return what is usual."""
        return Habits(*self._rows[:LAST_GROSS])

    def grow(self, count: int) -> None:
        """Make room for accounts."""
        more = count - self._rows.shape[1]
        if more > 0:
            self._rows = np.concatenate([self._rows, np.zeros((8, more))], axis=1)

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        return [self._rows.copy(), self._us]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self._rows, self._us = state


def expected_growth(gross: F8, gross_square: F8, horizon_s: float) -> F8:
    """Return by how much a book's risk over a horizon differs from that of the book as it stands.

    Positions go back to what is usual within a day: the mean square over the horizon is a mixture of today's and the
    usual one, ``1 - (1 - exp(-h)) / h`` of the latter with ``h`` in days. Who is small today and was large yesterday
    will be large.
    """
    days = horizon_s / DAY_S
    usual = 1.0 - (1.0 - float(exp(-days))) / days
    safe = np.where(gross > 0, gross, 1.0)
    mixed = (1.0 - usual) + usual * gross_square / (safe * safe)
    return np.where(gross > 0, np.sqrt(mixed), 1.0)


def terms(distance: F8, ratio: F8, concentration: F8, equity: F8, habits: Habits) -> F8:
    """Return the terms of the calibration, shape (7, accounts), in the order of ``models.TERMS``."""
    near = -log(distance)
    trend = log((ratio + TREND_SHIFT) / (habits.ratio + TREND_SHIFT))
    paid = log(1.0 + habits.paid / np.maximum(equity, 1e-9))
    rate, broken = log(1.0 + habits.fills) / 3.0, log(1.0 + habits.breaches)
    odds = np.minimum(np.maximum(log(np.maximum(ratio, 1e-9) / np.maximum(1.0 - ratio, 1e-9)), -8.0), 3.0)
    return np.stack([np.ones(len(near)), near, concentration - 1.0, trend, paid, rate, broken, odds])
