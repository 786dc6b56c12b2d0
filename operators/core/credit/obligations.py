"""What counterparties owe us beside positions and collateral: loans, withdrawals and settlements that are outstanding.
What is owed otherwise, by the house or from one counterparty to another, is kept for contagion alone.

Settlement exposure is the sum of what a counterparty owes the house and has not paid. A margin call is not part of it,
because what it asks for is current exposure already, nor is an estimate, which nobody owes yet.
"""

from typing import Any, NamedTuple

from seawall.schemas import events as ev

HOUSE = "house"
COUNTED = frozenset({"loan", "withdrawal", "settlement"})
OPEN = frozenset({"open", "failed"})


class Owed(NamedTuple):
    """One debt to the house, in its asset."""

    counterparty: str
    asset: int
    amount: float


class Claim(NamedTuple):
    """What one owes another, in its asset; either may be the house."""

    borrower: str
    lender: str
    asset: int
    amount: float


class Obligations:
    """What is owed by obligation id: to the house, and by the house or among others."""

    def __init__(self) -> None:
        self._owed: dict[str, Owed] = {}
        self._others: dict[str, Claim] = {}

    def take(self, event: ev.Obligation, asset: int) -> None:
        """Take the state of an obligation of which this shard has the debtor; one that is paid or at 0 is gone."""
        counts = event.kind in COUNTED and event.status in OPEN and float(event.amount) > 0
        if counts and event.to == HOUSE:
            self._others.pop(event.obligation_id, None)
            self._owed[event.obligation_id] = Owed(event.from_, asset, float(event.amount))
        elif counts:
            self._owed.pop(event.obligation_id, None)
            self._others[event.obligation_id] = Claim(event.from_, event.to, asset, float(event.amount))
        else:
            self._owed.pop(event.obligation_id, None)
            self._others.pop(event.obligation_id, None)

    def owed(self) -> list[Owed]:
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
        self._owed = {name: Owed(*one) for name, *one in owed}
        self._others = {name: Claim(*one) for name, *one in others}
