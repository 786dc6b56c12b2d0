"""Signed documents: commands, state snapshots and heartbeats, as a subscriber reads them.

Decides which kinds only restrict and which may loosen. Shapes are closed: an unknown field is refused, because a field
that one side obeys and the other ignores is a disagreement about what was ordered. Times are microseconds; decimals
inside ``action`` and ``reason`` are strings.
"""

from typing import Any, Literal

import msgspec

from seawall.schemas.evidence._envelopes import COMMAND_TYPE
from seawall.schemas.evidence._key_sets import Count, Microseconds

COMMAND = COMMAND_TYPE
STATE = "application/vnd.seawall.state.v1+json"
HEARTBEAT = "application/vnd.seawall.heartbeat.v1+json"

RESTRICTIVE = frozenset({
    "HALT_TRADING", "SUSPEND", "REDUCE_ONLY", "CANCEL_ORDERS", "REROUTE", "HEDGE", "REDUCE_POSITION", "CALL_MARGIN",
    "RECALL_COLLATERAL", "BLOCK_COUNTERPARTY", "WITHDRAW_FUNDS", "SWITCH_STRATEGY_PROFILE", "ENTER_DEGRADED_MODE",
})  # fmt: skip
EITHER = frozenset(
    {"SET_LIMIT", "SET_HAIRCUT"}
)  # restrictive only when the signed action says ``"direction": "tighten"``
KINDS = RESTRICTIVE | EITHER | {"REINSTATE"}
ABOUT = ("asset", "limit", "instrument")  # fields of an action: two of one kind that differ in one both hold


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Target that a command addresses."""

    scope: str
    id: str

    def __str__(self) -> str:
        return f"{self.scope}:{self.id}"


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields that every signed document has."""

    v: Literal[1]
    iss: str
    aud: tuple[str, ...]
    env: Literal["dev", "test", "prod"]
    seq: Microseconds
    iat_us: Microseconds
    nbf_us: Microseconds
    exp_us: Microseconds


class Command(Document, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One command: ``seq`` counts per issuer and target, ``prev_id`` names the command before it.

    See contract.md, "Commands".
    """

    type: str
    id: str
    target: Target
    epoch: Count
    prev_id: str | None
    supersedes: str | None = None
    effect_until_us: Microseconds | None = None
    action: dict[str, Any] = {}
    reason: dict[str, Any] = {}
    policy: dict[str, Any] = {}
    evidence: dict[str, Any] = {}

    @property
    def restrictive(self) -> bool:
        """Return whether the command only takes away: such a one fails towards being applied."""
        return only_takes_away(self.type, self.action)


class InForce(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command that is in force, inside a state snapshot."""

    epoch: Count
    seq: Microseconds
    id: str
    type: str
    action: dict[str, Any]

    @property
    def restrictive(self) -> bool:
        """Return whether it only takes away; nothing else is taken from a snapshot."""
        return only_takes_away(self.type, self.action)


class TargetState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """State of one target after command ``id`` at (epoch, seq)."""

    target: Target
    epoch: Count
    seq: Microseconds
    id: str
    in_force: tuple[InForce, ...]


class State(Document, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A signed snapshot of what is desired: what heals a lost command.

    ``prev_sha256`` names the state document before it; None where nothing before it is needed, as a full one begins.
    Absent, in journals that an earlier version began, it says nothing.
    """

    prev_sha256: str | msgspec.UnsetType | None = msgspec.UNSET
    targets: tuple[TargetState, ...]


class Heartbeat(Document, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A sign of life that expires soon: what makes silence visible."""

    state_sha256: str | None = None


DOCUMENTS: dict[str, type[Document]] = {COMMAND: Command, STATE: State, HEARTBEAT: Heartbeat}


def state_type(value: bytes) -> str:
    """Return the payload type of a value of the topic ``state``: state documents list targets, heartbeats do not."""
    return STATE if b'"targets":[' in value else HEARTBEAT


def subject_of(action: dict[str, Any]) -> str:
    """Return what an action is about, besides its target: the asset, limit or instrument; empty where it names none.

    Examples
    --------
    >>> subject_of({"asset": "BTC", "haircut": "0.2"})
    'BTC'
    """
    return " ".join(str(action[name]) for name in ABOUT if name in action)


def only_takes_away(kind: str, action: dict[str, Any]) -> bool:
    """Return whether a command of this kind with this action can only restrict."""
    return kind in RESTRICTIVE or (kind in EITHER and action.get("direction") == "tighten")


def restricts(document: Document) -> bool:
    """Return whether a document can only restrict: all but permissive commands, whatever a snapshot leaves out."""
    return not isinstance(document, Command) or document.restrictive
