"""Account values: values of positions and balances, by a fixed number of vector operations over the book.

An account with a venue is margined at that venue's own marks, exposures are at the marks across venues (contract.md,
"Prices"); where no venue prices anything apart the two are one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import sum_by
from seawall.operators.core.holdings import Balances, Directory, Positions, PositionSubset
from seawall.operators.core.pricing._marks import Marks
from seawall.operators.core.pricing._option_sheet import OptionSheet

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
EMPTY: F8 = np.zeros(0)


class AccountValues:
    """Values of the shard's positions and balances, in the reporting currency, as of the last call.

    Attributes
    ----------
    robust
        By position, at the marks across venues: signed notional, worth, entry cost, absolute notional.
    margined
        By position, at the marks of its account's venue: worth, entry cost, absolute notional.
    lent_there
        By balance: what it counts as collateral, at its account's venue.
    by_class
        Gross notional by account and margin class, shape (accounts, classes); None where a venue's marks stand apart
        from those across venues.
    """

    def __init__(
        self, directory: Directory, marks: Marks, positions: Positions, balances: Balances, sheet: OptionSheet
    ) -> None:
        self._directory, self._marks, self._positions = directory, marks, positions
        self._balances, self._sheet = balances, sheet
        self.robust: tuple[F8, F8, F8, F8] = (EMPTY, EMPTY, EMPTY, EMPTY)
        self.margined: tuple[F8, F8, F8] = (EMPTY, EMPTY, EMPTY)
        self.lent_there: F8 = EMPTY
        self.by_class: F8 | None = None
        self._option_rows = PositionSubset()
        self._options: tuple[Any, Any, I8] = (None, None, np.zeros(0, dtype=np.int64))
        self._held, self._spare, self._signs = np.zeros(0), np.zeros(0), np.zeros(0)

    def value_positions(self, account: F8, count: int) -> tuple[F8, F8, F8]:
        """Fill the rows of positions of ``account``; return gross, net and unrealised at the marks across venues."""
        arrays, rows, marks, bins = self._directory.arrays, self._positions.rows, self._marks, self._positions.bins
        owner, at = rows["account"], rows["mark"]
        held, scratch = self._scratch(len(owner))
        np.take(marks.unit, at, out=held, mode="clip")
        np.multiply(rows["size"], held, out=held)
        spent = rows["cost"] if marks.at_par else rows["cost"] * marks.worth[at]
        notional = np.abs(held, out=scratch)
        signed = self.signed(held, notional) if self._directory.has_inverse or self._directory.has_option else held
        worths, net = self._worths_and_nets(held, signed, count)
        # One sum per margin class serves gross notional and both margins.
        gross = sum_by(rows["bin"], notional, count * bins).reshape(count, bins)
        account[2] = net
        account[3] = worths - sum_by(owner, spent, count)
        _across(gross, arrays["class_initial"], account[4])
        _across(gross, arrays["class_maintenance"], account[5])
        _across(gross, None, account[1])
        self.robust, self.margined = (signed, held, spent, notional), (held, spent, notional)
        self.by_class = None if marks.venue_priced else gross
        if not marks.venue_priced:
            return account[1], net, account[3].copy()
        at = marks.across()[rows["instrument"]]
        held = rows["size"] * marks.unit[at]
        notional = np.abs(held)
        signed = self.signed(held, notional)
        spent = rows["cost"] * marks.worth[at]
        self.robust = (signed, held, spent, notional)
        worths, net = self._worths_and_nets(held, signed, count)
        return sum_by(owner, notional, count), net, worths - sum_by(owner, spent, count)

    def _worths_and_nets(self, held: F8, signed: F8, count: int) -> tuple[F8, F8]:
        """Return what positions are worth and their signed notionals by account; what is alike is summed once."""
        owner = self._positions.rows["account"]
        if self._directory.has_inverse:
            return sum_by(owner, held, count), sum_by(owner, signed, count)
        if signed is held or not self._directory.has_option:
            total = sum_by(owner, held, count)
            return total, total
        at, _ = self.options()
        worth, of = held[at], owner[at]
        held[at] = 0.0
        alike = sum_by(owner, held, count)
        held[at] = worth
        return alike + sum_by(of, worth, count), alike + sum_by(of, signed[at], count)

    def signed(self, held: F8, notional: F8) -> F8:
        """Return signed notionals of positions worth ``held``; those of options, in ``notional`` too, by underlying.

        An option's gross notional is that of what it is an option on, its net notional is weighted with its delta.
        """
        rows, directory = self._positions.rows, self._directory
        if len(self._signs) < len(held):
            self._signs = np.empty(2 * len(held))
        signed = self._signs[: len(held)]
        np.copyto(signed, held)
        if directory.has_inverse:
            signed = np.where(directory.arrays["inverse"][rows["instrument"]], -held, held)
        if directory.has_option:
            at, of = self.options()
            units = rows["size"][at] * self._sheet.scale()[of]
            signed[at], notional[at] = units * self._sheet.greeks[0][of], np.abs(units) * self._sheet.greeks[3][of]
        return signed

    def options(self) -> tuple[I8, I8]:
        """Return the rows of option positions, and the row of the option sheet of each."""
        at = self._option_rows.of(self._positions, self._directory.arrays["option"])
        if self._options[0] is not at or self._options[1] is not self._sheet.terms:
            self._options = at, self._sheet.terms, self._sheet.terms.row[self._positions.rows["instrument"][at]]
        return at, self._options[2]

    def _scratch(self, size: int) -> tuple[F8, F8]:
        """Return two arrays that live until the next valuation: fresh ones cost as much as the arithmetic."""
        if len(self._held) < size:
            self._held, self._spare = np.empty(2 * size), np.empty(2 * size)
        return self._held[:size], self._spare[:size]

    def value_balances(self, count: int) -> tuple[F8, F8, F8]:
        """Return the collateral of every account after haircuts, at its venue's marks and across; and its worth before.

        The worth before haircuts is that of the marks across venues.
        """
        rows, directory = self._balances.rows, self._directory
        asset, owner = rows["asset"], rows["account"]
        worth = rows["amount"] * self._marks.asset_worth[asset]
        total = sum_by(owner, worth, count)
        self.lent_there = self._lent(worth) if directory.has_haircut else worth
        lent = sum_by(owner, self.lent_there, count) if directory.has_haircut else total
        if not self._marks.priced_apart:
            return lent, lent, total
        there = rows["amount"] * self._marks.worth_at(directory.arrays["venue"][owner], asset)
        self.lent_there = self._lent(there)
        return sum_by(owner, self.lent_there, count), lent, total

    def _lent(self, worth: F8) -> F8:
        """Return what balances count as collateral: less their haircut where they are positive."""
        haircut = self._directory.arrays["haircut"][self._balances.rows["asset"]]
        return np.where(worth > 0, worth * (1.0 - haircut), worth)

    def unit_notionals(self) -> F8:
        """Return the notional of one unit of every instrument at the marks across venues; of options by underlying."""
        notional = np.abs(self._marks.unit[self._marks.across()])
        if self._directory.has_option:
            terms, forward = self._sheet.terms, self._sheet.forwards()
            price = np.where(np.isnan(forward), terms.strike, forward)
            arrays = self._directory.arrays
            worth = self._marks.asset_worth[arrays["settlement"][terms.instrument]]
            coins = np.where(terms.coin, 1.0, price)
            notional[terms.instrument] = arrays["size"][terms.instrument] * coins * worth
        return notional


def _across(gross: F8, rates: F8 | None, out: F8) -> None:
    """Sum over margin classes of gross notional times a rate (1 where there is none), class by class in order."""
    out[:] = gross[:, 0] if rates is None else gross[:, 0] * rates[0]
    for at in range(1, gross.shape[1]):
        out += gross[:, at] if rates is None else gross[:, at] * rates[at]
