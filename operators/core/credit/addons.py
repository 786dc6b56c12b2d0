"""SA-CCR add-ons of a whole book: one pass over positions, one over what nets, one over netting sets (CRE52.30-52.73).

1. Every position belongs to a *group*, which nets fully: its netting set and the entity its instrument stands on. In a
   set that is not enforceable every position is a group of its own.
2. The effective notional of a group is the sum of its positions'; ``A`` is that times the supervisory factor.
3. Groups of one hedging set add up by the formula of ``factors``; hedging sets of one netting set add up plainly.

Most positions are *lone*: linear, the only one of their group, in a class whose hedging sets have one entity. Their
add-on is the size of their notional times their factor, so that one sum over positions serves; all others are *joint*
and take the whole way. Groups are numbered in order of their first position, which makes the sums those of the journal.
They follow from positions and directory and are no state.
"""

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.book import Positions
from seawall.operators.core.columns import sum_by
from seawall.operators.core.credit.factors import Factors
from seawall.operators.core.index import Numbers
from seawall.operators.core.saccr.saccr_parameters import ADJACENT_BUCKETS, DISTANT_BUCKETS

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
ALONE = 1 << 60  # keys of positions that net with nothing


class Groups:
    """Which positions net with each other, and what each group stands on.

    Attributes
    ----------
    set_of, is_lone, factor_of
        By position: its netting set; 1.0 and its supervisory factor if it is lone, otherwise 0.
    joint, joint_of
        The rows of joint positions, and the group of each, numbered among groups of joint positions.
    netting_set, instrument
        By group of joint positions: its set, and an instrument that stands for it.
    """

    def __init__(self, factors: Factors, option: B1, netting_set: I8, enforceable: B1, sets: int) -> None:
        self._factors, self._netting_set, self._enforceable, self.sets = factors, netting_set, enforceable, sets
        self._may_be_lone = (factors.correlation == 1.0) & ~factors.rates & ~option
        self._numbers = Numbers()
        self._of, self._group_set, self._group_instrument = (np.zeros(0, dtype=np.int64) for _ in range(3))
        self.set_of: I8 = np.zeros(0, dtype=np.int64)
        self._epoch = -1
        self._split(np.zeros(0, dtype=np.int64))

    def fits(self, positions: Positions) -> bool:
        """Tell whether the groups are of these positions, of which more may have come since."""
        return self._epoch in (-1, positions.epoch)

    def extend(self, positions: Positions) -> None:
        """Take the positions that came since the last call."""
        rows, first = positions.rows, len(self._of)
        self._epoch = positions.epoch
        if rows.size == first:
            return
        instrument = rows["instrument"][first:]
        of_set = self._netting_set[rows["account"][first:]]
        keys = np.where(
            self._enforceable[of_set],
            (of_set << 24) | self._factors.entity[instrument],
            ALONE | np.arange(first, rows.size),
        )
        group, new = self._numbers.take(keys)
        self._of = np.concatenate([self._of, group])
        self._group_set = np.concatenate([self._group_set, of_set[new]])
        self._group_instrument = np.concatenate([self._group_instrument, instrument[new]])
        self.set_of = np.concatenate([self.set_of, of_set])
        self._split(rows["instrument"])

    def _split(self, instrument: I8) -> None:
        """Tell lone positions from joint ones; derive the columns by group of the latter and by hedging set."""
        figures = self._factors
        joint = (np.bincount(self._of) > 1) | ~self._may_be_lone[self._group_instrument]
        lone = ~joint[self._of]
        self.is_lone = lone.astype(np.float64)
        self.factor_of = np.where(lone, figures.factor[instrument], 0.0)
        self.joint = np.flatnonzero(~lone)
        self.joint_of = (joint.cumsum() - 1)[self._of[self.joint]]
        self.netting_set, self.instrument = self._group_set[joint], self._group_instrument[joint]
        self.factor, self.correlation = figures.factor[self.instrument], figures.correlation[self.instrument]
        self.rates = figures.rates[self.instrument]
        self.plain = bool((self.correlation == 1.0).all()) and not bool(self.rates.any())
        if not self.plain:
            cells = (self.netting_set << 24) | figures.hedging_set[self.instrument]
            cells = np.where(self._enforceable[self.netting_set], cells, ALONE | np.arange(len(cells)))
            _, first, self.cell = np.unique(cells, return_index=True, return_inverse=True)
            self.cell_set, self.cell_rates = self.netting_set[first], self.rates[first]

    def class_factors(self, margin_class: I8, classes: int) -> F8 | None:
        """Return the supervisory factor that lone positions of each margin class have; None where one has several.

        ``margin_class`` is by instrument.
        """
        may = self._may_be_lone
        least, most = np.full(classes, np.inf), np.zeros(classes)
        np.minimum.at(least, margin_class[may], self._factors.factor[may])
        np.maximum.at(most, margin_class[may], self._factors.factor[may])
        return most if bool(((least == most) | (most == 0.0)).all()) else None

    def net(self, amounts: F8) -> F8:
        """Return the sum of amounts by joint position of each of their groups."""
        return sum_by(self.joint_of, amounts, len(self.netting_set))

    def add_ons(self, effective: F8, bucket: I8) -> F8:
        """Return what joint positions add to each netting set, without the maturity factor that it has in common.

        Parameters
        ----------
        effective
            By joint position: effective notional, in the reporting currency, either sign.
        bucket
            By instrument: the maturity bucket 0, 1 or 2; used for interest rates only.
        """
        if not len(self.joint):
            return np.zeros(self.sets)
        size = self.net(effective) * self.factor
        if self.plain:
            return sum_by(self.netting_set, np.abs(size), self.sets)
        count = len(self.cell_set)
        systematic = sum_by(self.cell, self.correlation * size, count)
        own = sum_by(self.cell, (1.0 - self.correlation * self.correlation) * size * size, count)
        total = np.sqrt(systematic * systematic + own)
        if self.cell_rates.any():
            total = np.where(self.cell_rates, self._rates(size, bucket[self.instrument], count), total)
        return sum_by(self.cell_set, total, self.sets)

    def _rates(self, size: F8, bucket: I8, cells: int) -> F8:
        """Return the add-on of each hedging set of interest rates: three buckets that offset in part (CRE52.57)."""
        short, middle, long = (sum_by(self.cell, np.where(bucket == at, size, 0.0), cells) for at in range(3))
        squares = short * short + middle * middle + long * long
        adjacent = ADJACENT_BUCKETS * (short * middle + middle * long)
        return np.sqrt(np.maximum(squares + adjacent + DISTANT_BUCKETS * short * long, 0.0))
