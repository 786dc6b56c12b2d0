"""What counterparties owe us beside positions and collateral: loans, withdrawals and settlements that are outstanding.

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


class Obligations:
    """Debts to the house by obligation id."""

    def __init__(self) -> None:
        self._owed: dict[str, Owed] = {}

    def take(self, event: ev.Obligation, asset: int) -> None:
        """Take the state of an obligation of a counterparty of this shard; one that is paid or at 0 is gone."""
        counts = event.to == HOUSE and event.kind in COUNTED and event.status in OPEN and float(event.amount) > 0
        if counts:
            self._owed[event.obligation_id] = Owed(event.from_, asset, float(event.amount))
        else:
            self._owed.pop(event.obligation_id, None)

    def owed(self) -> list[Owed]:
        """Return all debts, in order of their first record."""
        return list(self._owed.values())

    def snapshot(self) -> list[Any]:
        """Return the state for :func:`snapshot.pack`."""
        return [[name, *owed] for name, owed in self._owed.items()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self._owed = {name: Owed(counterparty, asset, amount) for name, counterparty, asset, amount in state}
