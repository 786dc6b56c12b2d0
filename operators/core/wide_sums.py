"""What a shard adds to the scopes that span shards: firm, groups, underlyings and venues, at the end of a second."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.account_values import AccountValues
from seawall.operators.core.book import Positions
from seawall.operators.core.columns import sum_by
from seawall.operators.core.directory import Directory
from seawall.operators.core.options import OptionSheet
from seawall.schemas.measures import COUNTERPARTY, UNDERLYING

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]


class WideSums:
    """The sums of one shard; positions and their values are the ledger's."""

    def __init__(self, directory: Directory, positions: Positions, sheet: OptionSheet, values: AccountValues) -> None:
        self._directory, self._positions, self._sheet, self._values = directory, positions, sheet, values

    def of(self, counterparty: F8, account_sums: tuple[F8, F8, F8]) -> dict[str, F8]:
        """Return the sums by kind of scope, each of shape (measures, scopes), of the book as it was last measured.

        Scopes are numbered as in the directory, alike in all shards.

        Parameters
        ----------
        counterparty
            The table of counterparties.
        account_sums
            Gross notional, net notional and P&L by account, from our side.
        """
        arrays, directory = self._directory.arrays, self._directory
        firm = [2, 3, 4, 0, 5, 6, 7, 8] if len(counterparty) > len(COUNTERPARTY) else [2, 3, 4, 0]
        sums = {
            "firm": _totals(counterparty[firm]),
            "underlying": self._by_underlying(arrays),
            "venue": _by(arrays["venue_or_none"], account_sums, len(directory.venues)),
            "group": np.zeros((len(counterparty), 0)),
        }
        if directory.groups:
            sums["group"] = _by(arrays["group"], tuple(counterparty), len(directory.groups))
        return sums

    def _by_underlying(self, arrays: dict[str, Any]) -> F8:
        signed, held, spent, notional = self._values.robust
        rows, count = self._positions.rows, len(self._directory.underlyings)
        of = arrays["underlying"][rows["instrument"]]
        sign, stake = arrays["sign"][rows["account"]], arrays["stake"][rows["account"]]
        sums = np.zeros((len(UNDERLYING), count))
        sums[:4] = _by(of, (notional, sign * signed, stake * (held - spent), stake * signed), count)
        if self._directory.has_option:
            at, option = self._values.options()
            units = stake[at] * rows["size"][at] * self._sheet.scale()[option]
            greeks = self._sheet.greeks
            sums[4:6] = _by(of[at], (units * greeks[1][option], units * greeks[2][option]), count)
        return sums


def _by(of: I8, columns: tuple[F8, ...], count: int) -> F8:
    """Return the sum of each column by number, shape (columns, count); numbers from ``count`` on are left out."""
    sums = np.empty((len(columns), count))
    for at, column in enumerate(columns):
        sums[at] = sum_by(of, column, count)[:count]
    return sums


def _totals(rows: F8) -> F8:
    """Return the sum of each row, first to last."""
    totals: F8 = rows.cumsum(axis=1)[:, -1] if rows.shape[1] else np.zeros(len(rows))
    return totals
