"""What part of a balance is an independent amount, and what is segregated: kept beside balances, which are one number.

Most transfers are neither, so nothing is kept for them. Together with the balances this gives the holdings of every
netting set, from our side (``valuation/csa``): what an account of ours holds there we have posted, what a client's
account holds with us they have.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.book import Balances
from seawall.operators.core.valuation.csa import Holdings

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
KINDS = ((True, False), (False, True), (True, True))  # (independent, segregated), in the order of ``Pledges.parts``


class Pledges:
    """Independent and segregated parts of balances, by (account, asset)."""

    def __init__(self) -> None:
        self.parts = {kind: Balances() for kind in KINDS}

    def take(self, key: int, amount: float, independent: bool, segregated: bool) -> None:
        """Take a transfer that is either or both; a negative amount gives back."""
        if independent or segregated:
            self.parts[independent, segregated].add(key, amount)

    def holdings(
        self,
        balances: Balances,
        sign: F8,
        netting_set: I8,
        worth: F8,
        haircut: Callable[[I8, I8, F8], F8],
    ) -> Holdings:
        """Return what is held by netting set.

        Parameters
        ----------
        balances
            All amounts; what is neither independent nor segregated is what the parts leave of them.
        sign, netting_set
            By account: 1 for our own, -1 for clients'; the number of its set.
        worth
            By asset, in the reporting currency.
        haircut
            Of netting sets, assets and values, elementwise.
        """
        rows = balances.rows
        account, asset, amount = rows["account"], rows["asset"], rows["amount"]
        independent = segregated = np.zeros(len(account), dtype=bool)
        parts = [(kind, part) for kind, part in self.parts.items() if part.rows.size]
        if parts:
            amount = amount.copy()
            for _, part in parts:
                np.subtract.at(amount, balances.places(part), part.rows["amount"])
            sizes = [len(account), *(part.rows.size for _, part in parts)]
            account, asset, amount = (
                np.concatenate([first, *(part.rows[name] for _, part in parts)])
                for name, first in (("account", account), ("asset", asset), ("amount", amount))
            )
            independent = np.repeat([False, *(kind[0] for kind, _ in parts)], sizes)
            segregated = np.repeat([False, *(kind[1] for kind, _ in parts)], sizes)
        of, value = netting_set[account], -sign[account] * amount * worth[asset]
        return Holdings(
            netting_set=of,
            value=value,
            haircut=haircut(of, asset, value),
            independent=independent,
            segregated=segregated,
        )

    def snapshot(self) -> list[Any]:
        """Return the state for :func:`snapshot.pack`."""
        return [part.snapshot() for part in self.parts.values()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        for part, rows in zip(self.parts.values(), state, strict=True):
            part.restore(rows)
