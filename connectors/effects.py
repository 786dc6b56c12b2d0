"""What a subscriber's caller provides and gets back: effects, and a receipt per document.

Decides nothing; states the contract of an effect, and how an outcome is acknowledged on the topic ``acknowledgements``.
"""

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from seawall.schemas.evidence.acceptance import Refusal
from seawall.schemas.evidence.documents import Command, Document, InForce
from seawall.schemas.evidence.ordering import Outcome

T_contra = TypeVar("T_contra", contravariant=True)
ACKNOWLEDGED = {
    Outcome.APPLIED: "completed",
    Outcome.HELD: "accepted",
    Outcome.SUPERSEDED: "accepted",
    Outcome.REFUSED: "rejected",
}


class Effects(Protocol[T_contra]):
    """What commands do here. Every method writes within the transaction that it is given, and nowhere else.

    An effect outside the database (an order gateway across the network) is written as an intent in the same transaction
    and carried out afterwards by the command's id, which the other side must treat as idempotent.
    """

    def apply(self, transaction: T_contra, command: Command) -> None:
        """Carry out one command.

        HALT_TRADING, SUSPEND and REDUCE_ONLY are one ladder: a milder one never lifts a stricter one, only REINSTATE
        does, or the automated key that may halt could also release.
        """
        ...

    def restore(self, transaction: T_contra, target: str, in_force: InForce) -> None:
        """Carry out a restriction that a signed state snapshot says is in force, whose command never came."""
        ...

    def set_safe_state(self, transaction: T_contra, active: bool, why: str) -> None:
        """Enter or leave the safe state of this system's own choosing.

        It is entered with the first reason and left with the last one, each told as ``why``: they may differ.
        """
        ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one document. ``gap`` asks the caller to fetch a signed state snapshot."""

    outcome: Outcome
    document: Document | None = None
    reason: Refusal | None = None
    detail: str = ""
    gap: bool = False
    first: Outcome | None = None  # of a duplicate: what became of it the first time

    def acknowledgement(self, subscriber: str, now_us: int) -> dict[str, Any] | None:
        """Return the `acknowledgement` record of a command; None for what has no genuine command to name."""
        if not isinstance(self.document, Command):
            return None
        detail = f"{self.reason}: {self.detail}" if self.reason else self.outcome.value
        head = {"type": "acknowledgement", "event_time_us": now_us, "command_id": self.document.id}
        outcome = ACKNOWLEDGED[self.first or self.outcome]
        return {**head, "subscriber": subscriber, "outcome": outcome, "detail": detail}
