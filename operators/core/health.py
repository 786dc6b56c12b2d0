"""How far accounts are from liquidation: ratios, and the straight lines by which health follows the market."""

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.account_values import AccountValues
from seawall.operators.core.book import Balances, Positions
from seawall.operators.core.columns import sum_by
from seawall.operators.core.directory import Directory
from seawall.operators.core.margin import MarginBook
from seawall.operators.core.options import OptionSheet
from seawall.operators.core.valuation.liquidation_distance import nearest_distance
from seawall.schemas.measures import RATIO_MAX

F8 = NDArray[np.float64]


class Health:
    """The distances of the shard's accounts; positions, balances and their values are the ledger's."""

    def __init__(
        self,
        directory: Directory,
        positions: Positions,
        balances: Balances,
        sheet: OptionSheet,
        margins: MarginBook,
        values: AccountValues,
    ) -> None:
        self._directory, self._positions, self._balances = directory, positions, balances
        self._sheet, self._margins, self._values = sheet, margins, values

    def distance(self, account: F8, count: int) -> F8:
        """Return the move of all coins together that takes each margin ratio to 1, by the straight lines of health."""
        moves = self._directory.arrays["moves"]
        coins = any(moves.item(asset) for asset in self._balances.assets)
        directory = self._directory
        slope = self._slope(count) if coins or directory.has_coin else account[2] - self._required_slope(account[5])
        return nearest_distance(account[0], account[5], slope)

    def _required_slope(self, maintenance: F8) -> F8:
        """Return what maintenance margins gain per move of 1, where everything is settled in cash.

        A rated one grows with the price, but not an option's, whose notional is counted by its delta.
        """
        directory, arrays, rows = self._directory, self._directory.arrays, self._positions.rows
        needs = maintenance
        if directory.has_option:
            at, _ = self._values.options()
            rate = arrays["class_maintenance"][arrays["class"][rows["instrument"][at]]]
            needs = maintenance - sum_by(rows["account"][at], self._values.margined[2][at] * rate, len(maintenance))
        if directory.has_schedule or directory.has_scenario:
            needs = self._margins.slopes(needs)
        return needs

    def _slope(self, count: int) -> F8:
        """Return what each account's health gains per move of 1 of all assets but currencies and stablecoins.

        A linear contract gains with its price, unless its quote asset moves alike, and its profit with the asset that
        it settles in; an inverse one loses what it cost (``liquidation_distance``); an option goes by its delta.
        """
        arrays, rows, balances = self._directory.arrays, self._positions.rows, self._balances.rows
        number, (held, spent, notional) = rows["instrument"], self._values.margined
        moves = arrays["moves"]
        slope = np.where(moves[arrays["quote"]][number], 0.0, held)
        slope += np.where(moves[arrays["settlement"]][number], held - spent, 0.0)
        inverse = arrays["inverse"][number]
        slope = np.where(inverse, -spent, slope)
        required = np.where(inverse, 0.0, notional * arrays["class_maintenance"][arrays["class"][number]])
        if self._directory.has_option:
            at, of = self._values.options()
            delta = rows["size"][at] * self._sheet.scale()[of] * self._sheet.greeks[0][of]
            slope[at] = np.where(self._sheet.terms.coin[of], delta - spent[at], delta)
            required[at] = 0.0
        coins = np.where(moves[balances["asset"]], self._values.lent_there, 0.0)
        needs = sum_by(rows["account"], required, count)
        if self._directory.has_schedule or self._directory.has_scenario:
            needs = self._margins.slopes(needs)
        return sum_by(rows["account"], slope, count) - needs + sum_by(balances["account"], coins, count)


def fill_ratios(account: F8) -> None:
    """Fill margin ratio and leverage by CONTRACT §3: 0 without positions, 1,000,000 at most and without equity."""
    equity, ratios = account[0], account[6:8]
    has_equity = equity > 0
    ratios[0], ratios[1] = account[5], account[1]
    used = ratios > 0
    ratios /= np.where(has_equity, equity, 1.0)
    np.minimum(ratios, RATIO_MAX, out=ratios)
    ratios[:, ~has_equity] = RATIO_MAX
    ratios[~used] = 0.0
