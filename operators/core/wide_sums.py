"""What a shard adds to the scopes that span shards, at the end of a second.

Firm, groups, underlyings and venues always; instruments, assets, issuers and strategies where a limit names one of
their kind. An asset is what all accounts hold of it; from our side, what a client has with us is owed and counts
negative. An issuer stands for its assets, for those pegged to them, and for the contracts on any of these.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.account_values import AccountValues
from seawall.operators.core.book import Balances, Positions
from seawall.operators.core.columns import sum_by, totals
from seawall.operators.core.directory import Directory
from seawall.operators.core.marks import Marks
from seawall.operators.core.options import OptionSheet
from seawall.operators.core.strategies import StrategyBook
from seawall.schemas.measures import COUNTERPARTY, HOLDING, INSTRUMENT, UNDERLYING

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
NOBODY = -1


class WideSums:
    """The sums of one shard; positions and their values are the ledger's."""

    def __init__(
        self,
        directory: Directory,
        marks: Marks,
        positions: Positions,
        balances: Balances,
        sheet: OptionSheet,
        values: AccountValues,
        strategies: StrategyBook,
    ) -> None:
        self._directory, self._marks, self._sheet, self._values = directory, marks, sheet, values
        self._positions, self._balances, self._strategies = positions, balances, strategies
        self.asked: set[str] = set()  # kinds of scope that limits name

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
            "firm": totals(counterparty[firm]),
            "underlying": self._by_underlying(arrays),
            "venue": _by(arrays["venue_or_none"], account_sums, len(directory.venues)),
            "group": np.zeros((len(counterparty), 0)),
        }
        if directory.groups:
            sums["group"] = _by(arrays["group"], tuple(counterparty), len(directory.groups))
            if len(counterparty) > len(COUNTERPARTY):  # a flag is no amount: the strongest of a group's counts
                strongest = np.zeros(len(directory.groups) + 1)
                np.maximum.at(strongest, arrays["group"], counterparty[-1])
                sums["group"][-1] = strongest[:-1]
        return sums

    def named(self) -> dict[str, tuple[list[str], F8]]:
        """Return names and sums, of shape (measures, scopes), of each kind of scope that was asked for."""
        makers = {
            "instrument": self._by_instrument,
            "asset": self._by_asset,
            "issuer": self._by_issuer,
            "strategy": self._by_strategy,
        }
        return {kind: make() for kind, make in makers.items() if kind in self.asked}

    def _by_strategy(self) -> tuple[list[str], F8]:
        return list(self._strategies.names), self._strategies.sums()

    def _by_instrument(self) -> tuple[list[str], F8]:
        signed, held, spent, notional = self._values.robust
        rows, arrays = self._positions.rows, self._directory.arrays
        names = [record.instrument for record in self._directory.instrument_records]
        sign, stake = arrays["sign"][rows["account"]], arrays["stake"][rows["account"]]
        sums = np.zeros((len(INSTRUMENT), len(names)))
        sums[:3] = _by(rows["instrument"], (notional, sign * signed, stake * (held - spent)), len(names))
        return names, sums

    def _by_asset(self) -> tuple[list[str], F8]:
        rows, arrays, count = self._balances.rows, self._directory.arrays, len(self._directory.assets)
        worth = rows["amount"] * self._marks.asset_worth[rows["asset"]]
        account = rows["account"]
        given = arrays["client"][account] * np.maximum(worth, 0.0)
        sums = np.zeros((len(HOLDING), count))
        sums[:3] = _by(rows["asset"], (np.abs(worth), arrays["sign"][account] * worth, given), count)
        return list(self._directory.assets), sums

    def _by_issuer(self) -> tuple[list[str], F8]:
        """Return the sums of assets by issuer, with the notionals of contracts on them."""
        names: dict[str, int] = {}
        issuers = [self._directory.issuer(asset) for asset in self._directory.assets]
        of = np.array([names.setdefault(name, len(names)) if name else NOBODY for name in issuers], dtype=np.int64)
        _, held = self._by_asset()
        issued, count = of != NOBODY, len(names)
        sums = np.zeros((len(HOLDING), count))
        sums[:3] = _by(of[issued], tuple(held[:3, issued]), count)
        records = self._directory.instrument_records
        assets = np.array([self._directory.assets.get(r.underlying or r.base, 0) for r in records], dtype=np.int64)
        rows, (signed, _, _, notional) = self._positions.rows, self._values.robust
        on = of[assets][rows["instrument"]]
        at = (on != NOBODY).nonzero()[0]
        ours = self._directory.arrays["sign"][rows["account"][at]] * signed[at]
        sums[:2] += _by(on[at], (notional[at], ours), count)
        return list(names), sums

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
