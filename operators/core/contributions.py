"""Contributions: what came into accounts or left them without being earned or lost, at what it was worth then.

P&L is what an account is worth less these. What comes in an asset that nothing prices yet is worth nothing so far, and
contributes what it is worth at its first price: it is no profit then.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.marks import Marks


class Contributions:
    """Net contributions of the accounts of one shard.

    Attributes
    ----------
    worth
        By account, in the reporting currency.
    """

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self.worth: NDArray[np.float64] = np.zeros(0)
        self._unpriced: dict[tuple[int, int], float] = {}  # amounts by account and asset

    def __bool__(self) -> bool:
        """Tell whether anything waits for a price."""
        return bool(self._unpriced)

    def grow(self, more: int) -> None:
        """Make room for more accounts."""
        self.worth = np.append(self.worth, np.zeros(more))

    def add(self, account: int, asset: int, amount: float) -> None:
        """Take an amount of an asset that came into an account, or (negative) left it."""
        self._marks.price()
        price = self._marks.asset_prices.item(asset)
        if price == price:  # noqa: PLR0124 (no NaN)
            self.worth[account] += amount * price
        else:
            self._unpriced[account, asset] = self._unpriced.get((account, asset), 0.0) + amount

    def price(self) -> bool:
        """Value what waits for a price and has one now; tell whether anything was."""
        waiting, self._unpriced = self._unpriced, {}
        for (account, asset), amount in waiting.items():
            self.add(account, asset, amount)
        return len(self._unpriced) < len(waiting)

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`."""
        return {"worth": self.worth.copy(), "unpriced": [[*key, amount] for key, amount in self._unpriced.items()]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.worth = state["worth"]
        self._unpriced = {(account, asset): amount for account, asset, amount in state["unpriced"]}
