"""Obligations and working orders: debts beside positions, and the exposure that orders could still add."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import sum_by
from seawall.operators.core.holdings import Positions
from seawall.schemas import events as ev

# Obligations: what counterparties owe us beside positions and collateral, as loans, withdrawals and settlements that
# are outstanding. What is owed otherwise, by the house or from one counterparty to another, is kept for contagion
# alone.
#
# Settlement exposure is the sum of what a counterparty owes the house and has not paid. A margin call is not part of
# it, because what it asks for is current exposure already, nor is an estimate, which nobody owes yet.

HOUSE = "house"
COUNTED = frozenset({"loan", "withdrawal", "settlement"})
OPEN = frozenset({"open", "failed"})


class Debt(NamedTuple):
    """One debt to the house, in its asset."""

    counterparty: str
    asset: int
    amount: float


class Claim(NamedTuple):
    """Debt of one party to another, in its asset; either may be the house."""

    borrower: str
    lender: str
    asset: int
    amount: float


class Obligations:
    """Open obligations by id: to the house, and by the house or among others."""

    def __init__(self) -> None:
        self._owed: dict[str, Debt] = {}
        self._others: dict[str, Claim] = {}

    def take(self, event: ev.Obligation, asset: int) -> None:
        """Take the state of an obligation of which this shard has the debtor; one that is paid or at 0 is gone."""
        counts = event.kind in COUNTED and event.status in OPEN and float(event.amount) > 0
        if counts and event.to == HOUSE:
            self._others.pop(event.obligation_id, None)
            self._owed[event.obligation_id] = Debt(event.from_, asset, float(event.amount))
        elif counts:
            self._owed.pop(event.obligation_id, None)
            self._others[event.obligation_id] = Claim(event.from_, event.to, asset, float(event.amount))
        else:
            self._owed.pop(event.obligation_id, None)
            self._others.pop(event.obligation_id, None)

    def owed(self) -> list[Debt]:
        """Return all debts, in order of their first record."""
        return list(self._owed.values())

    def claims(self) -> list[Claim]:
        """Return what anybody owes anybody, in order of their first record, debts to the house first."""
        ours = [Claim(owed.counterparty, HOUSE, owed.asset, owed.amount) for owed in self._owed.values()]
        return ours + list(self._others.values())

    def snapshot(self) -> list[Any]:
        """Return the state for :func:`snapshot.pack`."""
        return [[[name, *one] for name, one in kept.items()] for kept in (self._owed, self._others)]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        owed, others = state
        self._owed = {name: Debt(*one) for name, *one in owed}
        self._others = {name: Claim(*one) for name, *one in others}


# Working orders, counted at their worst case: as if all of one side were filled and none of the other.
#
# For every account and instrument that is ``max(|position + bought|, |position - sold|)``; orders that may only reduce
# add nothing. An order stands until its open quantity is 0. Its id is one of its account and instrument: venues number
# orders by instrument, and each from the same numbers.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
ORDERS_MAX = 1_000_000


class WorkingOrders:
    """The open orders of a shard's accounts: signed units by account, instrument and id."""

    def __init__(self) -> None:
        self._orders: dict[tuple[int, int, str], int] = {}
        self.seen = False
        self._pairs: tuple[I8, I8, I8, I8] | None = None  # as long as no order changes

    def take(self, event: ev.Order, account: int, instrument: int, units: int) -> bool:
        """Take an order's state; return False where there is no room for one more."""
        self.seen, self._pairs = True, None
        order = account, instrument, event.order_id
        if units == 0 or event.reduce_only:
            self._orders.pop(order, None)
            return True
        if len(self._orders) >= ORDERS_MAX and order not in self._orders:
            return False
        self._orders[order] = units if event.side == "buy" else -units
        return True

    def __len__(self) -> int:
        return len(self._orders)

    def pairs(self) -> tuple[I8, I8, I8, I8]:
        """Return account, instrument, units bought and units sold of every pair with orders.

        Sums are of integers, so they do not depend on the order of orders.
        """
        if self._pairs is None:
            self._pairs = self._added()
        return self._pairs

    def worst_case(self, positions: Positions, notional: F8, rate: F8, accounts: int) -> F8:
        """Return by how much gross notional and initial margin of every account exceed today's in the worst case.

        Parameters
        ----------
        positions
            What is held.
        notional, rate
            By instrument: of one unit, in the reporting currency; the initial margin as a fraction of it.
        """
        of, number, bought, sold = self.pairs()
        more = worst_case_growth(positions.units_of(of, number), bought, sold) * notional[number]
        return np.stack([sum_by(of, more, accounts), sum_by(of, more * rate[number], accounts)])

    def _added(self) -> tuple[I8, I8, I8, I8]:
        rows = [(account, instrument, units) for (account, instrument, _), units in self._orders.items()]
        account, instrument, units = np.array(rows, dtype=np.int64).reshape(-1, 3).T
        keys, first, member = np.unique((account << 24) | instrument, return_index=True, return_inverse=True)
        bought, sold = np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.int64)
        np.add.at(bought, member, np.maximum(units, 0))
        np.add.at(sold, member, np.maximum(-units, 0))
        return account[first], instrument[first], bought, sold

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`."""
        return {"orders": [[name, a, i, units] for (a, i, name), units in self._orders.items()], "seen": self.seen}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self._orders = {(account, instrument, name): units for name, account, instrument, units in state["orders"]}
        self.seen = state["seen"]
        self._pairs = None


def worst_case_growth(held: I8, bought: I8, sold: I8) -> I8:
    """Return by how many units the worst case exceeds what is held.

    Examples
    --------
    >>> worst_case_growth(np.array([5, 5, -5]), np.array([2, 0, 0]), np.array([3, 12, 3])).tolist()
    [2, 2, 3]
    """
    size = np.abs(held)
    growth: I8 = np.maximum(np.maximum(np.abs(held + bought), np.abs(held - sold)), size) - size
    return growth
