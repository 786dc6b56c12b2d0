"""Effective notionals of positions and the price of every underlying, as SA-CCR and its neighbours take them."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.book import Positions
from seawall.operators.core.credit.factors import Factors
from seawall.operators.core.directory import Directory
from seawall.operators.core.marks import Marks
from seawall.operators.core.options import OptionSheet
from seawall.operators.core.saccr import saccr_formulas as formulas
from seawall.operators.core.saccr.saccr_parameters import BUSINESS_DAYS_PER_YEAR, MATURITY_FLOOR_DAYS
from seawall.operators.core.valuation.options import years_to_expiry

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
DAILY: Final = float(formulas.maturity_factor(0.0))  # of contracts that are settled every day (CRE52.32 FAQ 1)
YEARS_MIN: Final = MATURITY_FLOOR_DAYS / BUSINESS_DAYS_PER_YEAR


class Notionals:
    """What depends on directory and book; made again when either is numbered anew."""

    def __init__(self, directory: Directory, positions: Positions, sheet: OptionSheet, factors: Factors) -> None:
        self._directory, self._positions, self._sheet, self._factors = directory, positions, sheet, factors
        records = directory.instrument_records
        self._expiry_us = np.array([r.expiry_us for r in records], dtype=np.int64)
        arrays = directory.arrays
        sets = arrays["netting_set"]
        houses = np.bincount(sets, arrays["sign"] > 0, len(directory.netting_sets))
        total = np.bincount(sets, minlength=len(directory.netting_sets))
        self._mixed = bool(((houses > 0) & (houses < total)).any())
        self._marked = _representatives(directory)
        self._found: tuple[I8, tuple[I8, I8, I8, I8, F8 | float]] | None = None
        self._priced, self._known = -1, (np.zeros(0), np.zeros(0))

    def prices(self, marks: Marks) -> F8:
        """Return the mark of every underlying, by number: its spot's, or the first contract's on it; NaN for none."""
        prices = marks.rows["price"][marks.across()[np.maximum(self._marked, 0)]]
        return np.where(self._marked >= 0, prices, np.nan)

    def bucket(self, as_of_us: int) -> I8:
        """Return the maturity bucket of every instrument, for interest rates (CRE52.57)."""
        if not self._factors.rates.any():
            return np.zeros(len(self._expiry_us), dtype=np.int64)
        years = years_to_expiry(self._expiry_us, as_of_us)
        return (years >= 1.0).astype(np.int64) + (years > 5.0)

    def turned(self, signed: F8) -> F8:
        """Return signed notionals of positions from our side, or all of them turned where no set has both sides."""
        return signed * self._directory.arrays["sign"][self._positions.rows["account"]] if self._mixed else signed

    def effective(self, turned: F8, rows: I8, margined: B1, as_of_us: int) -> tuple[F8, F8]:
        """Return the effective notionals of positions as unmargined and by the terms of their sets.

        Neither has the maturity factor common to a set: that of daily settlement, or of the margin period where the set
        is ``margined``. Options have their supervisory delta and, where their set is not margined, their own maturity;
        only in that the two differ, so without options they are one array.

        Parameters
        ----------
        turned
            By position: signed notional, of :meth:`turned`.
        rows
            The positions wanted; the same array as long as they are the same.
        """
        effective = turned[rows]
        if self._factors.rates.any():
            years = years_to_expiry(self._expiry_us, as_of_us)
            duration = np.where(self._factors.rates, formulas.supervisory_duration(0.0, years), 1.0)
            effective = effective * duration[self._positions.rows["instrument"][rows]]
        if not self._directory.has_option:
            return effective, effective
        at, held, option, of_set, sign = self._options(rows)
        delta, ratio = self._figures()
        units = self._positions.rows["size"][held] * (self._sheet.scale() * self._sheet.greeks[3] * delta)[option]
        by_terms = effective.copy()
        effective[at] = units * ratio[option] * sign
        by_terms[at] = units * np.where(margined[of_set], 1.0, ratio[option]) * sign
        return effective, by_terms

    def _options(self, rows: I8) -> tuple[I8, I8, I8, I8, F8 | float]:
        """Return of the options among rows: their places there, rows, rows in the sheet, netting sets and signs."""
        if self._found is None or self._found[0] is not rows:
            arrays, positions = self._directory.arrays, self._positions.rows
            number, account = positions["instrument"][rows], positions["account"][rows]
            at = arrays["option"][number].nonzero()[0]
            sign = arrays["sign"][account[at]] if self._mixed else 1.0
            found = (at, rows[at], self._sheet.terms.row[number[at]], arrays["netting_set"][account[at]], sign)
            self._found = rows, found
        return self._found[1]

    def _figures(self) -> tuple[F8, F8]:
        """Return, by option, the supervisory delta of a bought one and its maturity factor over that of a day."""
        if self._priced == self._sheet.repriced:
            return self._known
        terms, priced, greeks = self._sheet.terms, self._sheet.priced.rows, self._sheet.greeks
        left = years_to_expiry(terms.expiry_us, priced["us"])
        forward = np.where(greeks[3] > 0, greeks[3], terms.strike)
        volatility = self._factors.volatility[terms.instrument]
        delta = formulas.option_delta(forward, terms.strike, volatility, np.maximum(left, YEARS_MIN), terms.call, True)
        self._known = delta, formulas.maturity_factor(left) / DAILY
        self._priced = self._sheet.repriced
        return self._known


def _representatives(directory: Directory) -> I8:
    """Return by underlying the instrument whose mark is its price, -1 for none: spot first, then the first contract."""
    found = np.full(len(directory.underlyings), -1, dtype=np.int64)
    spots = set[str]()
    for number, record in enumerate(directory.instrument_records):
        name = record.underlying or record.base
        at = directory.underlyings.get(name)
        if at is None or record.kind == "option":
            continue
        if found[at] < 0 or (record.kind == "spot" and name not in spots):
            found[at] = number
        if record.kind == "spot":
            spots.add(name)
    return found
