"""Obligations: debts beside positions and collateral."""

from typing import Any, NamedTuple

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
    """Open obligations by id, in order of their first record.

    Attributes
    ----------
    owed
        Debts to the house; what the house or others owe is in `claims` alone.
    """

    def __init__(self) -> None:
        self.owed: dict[str, Debt] = {}
        self._others: dict[str, Claim] = {}

    def take(self, event: ev.Obligation, asset: int) -> None:
        """Take the state of an obligation of which this shard has the debtor; one that is paid or at 0 is gone."""
        counts = event.kind in COUNTED and event.status in OPEN and float(event.amount) > 0
        if counts and event.to == HOUSE:
            self._others.pop(event.obligation_id, None)
            self.owed[event.obligation_id] = Debt(event.from_, asset, float(event.amount))
        elif counts:
            self.owed.pop(event.obligation_id, None)
            self._others[event.obligation_id] = Claim(event.from_, event.to, asset, float(event.amount))
        else:
            self.owed.pop(event.obligation_id, None)
            self._others.pop(event.obligation_id, None)

    def claims(self) -> list[Claim]:
        """Return what anybody owes anybody, in order of their first record, debts to the house first."""
        ours = [Claim(owed.counterparty, HOUSE, owed.asset, owed.amount) for owed in self.owed.values()]
        return ours + list(self._others.values())

    def snapshot(self) -> list[Any]:
        """Return the state for :func:`snapshot.pack`."""
        return [[[name, *one] for name, one in kept.items()] for kept in (self.owed, self._others)]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        owed, others = state
        self.owed = {name: Debt(*one) for name, *one in owed}
        self._others = {name: Claim(*one) for name, *one in others}
