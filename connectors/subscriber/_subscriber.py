"""Subscriber: receives signed commands and gives each its effect exactly once. Needs neither Bytewax nor a broker.

Decides, with `acceptance` (steps 1 to 8) and `ordering` (9), and then

10. writes the effect and the mark in one transaction, so that a crash leaves both or neither;
11. returns a receipt, from which the caller acknowledges after the commit.

Whoever consumes a topic calls `Subscriber.receive` per record, commits his offset after it returned, and may deliver
any record again: a duplicate is acknowledged again, expired or not, and has no effect. Restrictive commands fail
towards being applied, permissive ones towards being refused or held. When heartbeats stop, or an issuer contradicts
itself, the subscriber enters its own safe state; it leaves the first by itself, the second only by `clear`.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from seawall.connectors.subscriber._ledger import Ledger, SqliteLedger
from seawall.connectors.subscriber._ordering import (
    Outcome,
    advance_mark,
    check_sequence,
    check_state_entry,
    linked_hash,
    missed_restrictions,
    next_held_command,
    order_command,
    seen_command,
    seen_restriction,
)
from seawall.schemas.evidence import (
    HEADER,
    AcceptancePolicy,
    Command,
    Document,
    Heartbeat,
    InForce,
    KeySet,
    Refusal,
    Refused,
    State,
)

# What a subscriber's caller provides and gets back: effects, and a receipt per document.
#
# Decides nothing; states the contract of an effect, and how an outcome is acknowledged on the topic
# ``acknowledgements``.

T_contra = TypeVar("T_contra", contravariant=True)
ACKNOWLEDGED = {
    Outcome.APPLIED: "completed",
    Outcome.HELD: "accepted",
    Outcome.SUPERSEDED: "accepted",
    Outcome.REFUSED: "rejected",
}


class Effects(Protocol[T_contra]):
    """Effects of commands. Every method writes within the transaction that it is given, and nowhere else.

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
    """Outcome of one document. ``gap`` asks the caller to fetch a signed state snapshot."""

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


# A subscriber: receives signed commands and gives each its effect exactly once.

SILENCE, CONTRADICTION = "silence", "contradiction"
SHOWN_MAX = 5  # contradictions of one state that a receipt names
T = TypeVar("T")


class Subscriber(Generic[T]):
    """One system that obeys commands.

    Parameters
    ----------
    policy
        Who we are and whom we obey.
    keys
        The pinned key set, or the newest that follows from it; `rotate` moves it on. Resets of issuers that the
        ledger has not taken yet are taken at once.
    ledger, effects
        Where marks are kept and what commands do; both in one database.
    heartbeat_grace_us
        How long after a heartbeat's expiry silence becomes the safe state.
    """

    def __init__(
        self,
        policy: AcceptancePolicy,
        keys: KeySet,
        ledger: Ledger[T],
        effects: Effects[T],
        heartbeat_grace_us: int = 0,
    ) -> None:
        self.policy, self.keys = policy, keys
        self._ledger, self._effects, self._grace_us = ledger, effects, heartbeat_grace_us
        self._reset(keys)

    def receive(self, value: bytes, headers: Iterable[tuple[str, bytes]], now_us: int) -> list[Receipt]:
        """Take one record; return its receipt first, then those of held commands that it released.

        Never raises for what the record holds: that is a receipt with a reason. What the database or an effect raises
        passes through with nothing written, and the record is to be delivered again.
        """
        headers = list(headers)
        try:
            document = self.policy.accept(value, headers, self.keys, now_us)
        except Refused as refused:
            refusal = Receipt(Outcome.REFUSED, refused.document, refused.reason, refused.detail)
            return [self._repeated(refused.document) or refusal]
        with self._ledger.transaction() as transaction:
            try:
                if isinstance(document, Command):
                    header = next(content for name, content in headers if name == HEADER)
                    taken = self._take(transaction, document, value, header)
                    return [taken, *self._release(transaction, document.iss, str(document.target), now_us)]
                self._check_count(document, now_us)
                if isinstance(document, State):
                    self._check_entries(document, now_us)
                    whole = self._link(document, value)
                    self._keep(document, now_us)
                    contradictions, released = self._state(transaction, document, now_us)
                    if contradictions:
                        self._set_safe(transaction, CONTRADICTION, True)
                        text = "; ".join(contradictions[:SHOWN_MAX])
                        return [Receipt(Outcome.REFUSED, document, Refusal.EQUIVOCATION, text), *released]
                    return [Receipt(Outcome.APPLIED, document, gap=not whole), *released]
                self._check_state_came(document)
                self._keep(document, now_us)
                self._set_safe(transaction, SILENCE, False)
                return [Receipt(Outcome.APPLIED, document)]
            except Refused as refused:
                if refused.reason is Refusal.EQUIVOCATION:
                    self._set_safe(transaction, CONTRADICTION, True)
                return [Receipt(Outcome.REFUSED, document, refused.reason, refused.detail)]

    def watch(self, now_us: int) -> bool:
        """Enter the safe state when an issuer's last heartbeat has expired; return whether any safe state holds.

        Call it on a timer. An issuer never heard of is silent from the start.
        """
        with self._ledger.transaction() as transaction:
            expiries = [self._ledger.latest(iss, Heartbeat.__name__)[1] for iss in self.policy.issuers]
            if min(expiries, default=0) + self._grace_us < now_us:
                self._set_safe(transaction, SILENCE, True)
            return self._is_safe()

    def clear(self) -> None:
        """Leave the safe state that a contradiction brought: a person has looked into it."""
        with self._ledger.transaction() as transaction:
            self._set_safe(transaction, CONTRADICTION, False)

    def rotate(self, envelope: bytes) -> None:
        """Take the next key set, or raise `RotationError`; forget the issuers that it resets.

        Keep the envelope where the next start finds it: a start pins the newest key set that it ever took.
        """
        successor = self.keys.rotate(envelope)
        self._reset(successor)
        self.keys = successor

    def _reset(self, keys: KeySet) -> None:
        """Forget the issuers that a key set resets; the ledger counts resets, so each is taken once.

        A key set need not come by `rotate`: a start may find it, or a kill may have come before it was taken.
        """
        if not keys.document.reset_seq:
            return
        with self._ledger.transaction():
            for issuer, count in keys.document.reset_seq.items():
                if count > int(self._ledger.setting(f"reset {issuer}") or 0):
                    self._ledger.forget(issuer)
                    for kind in (State, Heartbeat):
                        self._ledger.set_setting(_last_seen_key(issuer, kind), "")
                    self._ledger.set_setting(f"reset {issuer}", str(count))

    # --- commands ---------------------------------------------------------------------------------------------------

    def _take(self, transaction: T, command: Command, value: bytes, header: bytes) -> Receipt:
        """Give a received command its outcome."""
        iss, target = command.iss, str(command.target)
        mark = self._ledger.mark(iss, target)
        seen = self._ledger.seen(iss, target, mark.head, seen_command(command, Outcome.REFUSED))
        outcome = order_command(command, mark, seen, self.keys.epoch_floor(iss), self.policy.jump_max)
        if outcome is Outcome.DUPLICATE:
            first = next(other.outcome for other in seen if other.id == command.id)
            return Receipt(outcome, command, first=first)
        if outcome is Outcome.HELD:
            self._ledger.hold(iss, target, command.id, value, header)
        return self._write(transaction, command, outcome)

    def _repeated(self, document: Document | None) -> Receipt | None:
        """Return the receipt of a command that had its outcome before: no time or key set takes that back."""
        if not isinstance(document, Command):
            return None
        near = seen_command(document, Outcome.REFUSED)
        with self._ledger.transaction():
            seen = self._ledger.seen(document.iss, str(document.target), (near.epoch, near.seq), near)
        same = (near.epoch, near.seq, near.id, near.type)
        found = (other.outcome for other in seen if (other.epoch, other.seq, other.id, other.type) == same)
        first = next(found, None)
        return None if first is None else Receipt(Outcome.DUPLICATE, document, first=first)

    def _release(self, transaction: T, iss: str, target: str, now_us: int) -> Iterator[Receipt]:
        """Give held commands their outcome for as long as one's turn has come."""
        while True:
            held = [(msgspec.json.decode(item[0], type=Command), item) for item in self._ledger.held(iss, target)]
            command = next_held_command(self._ledger.mark(iss, target), [waiting for waiting, _ in held])
            if command is None:
                return
            self._ledger.let_go(iss, target, command.id)
            record = next(item for waiting, item in held if waiting is command)
            yield self._settle(transaction, command, *record, now_us)

    def _settle(self, transaction: T, command: Command, value: bytes, header: bytes, now_us: int) -> Receipt:
        """Accept a held command anew: while it waited it may have expired, its key been revoked, or others come."""
        iss, target = command.iss, str(command.target)
        mark = self._ledger.mark(iss, target)
        near = self._ledger.seen(iss, target, mark.head, seen_command(command, Outcome.HELD))
        try:
            self.policy.accept(value, [(HEADER, header)], self.keys, now_us)
            others = [other for other in near if other.id != command.id]
            outcome = order_command(command, mark, others, self.keys.epoch_floor(iss), self.policy.jump_max)
        except Refused as refused:
            receipt = self._write(transaction, command, Outcome.REFUSED)
            return replace(receipt, reason=refused.reason, detail=refused.detail)
        return self._write(transaction, command, outcome)

    def _write(self, transaction: T, command: Command, outcome: Outcome) -> Receipt:
        """Step 10: the effect, what was seen and the mark, all in this transaction."""
        iss, target = command.iss, str(command.target)
        if outcome is Outcome.APPLIED:
            self._effects.apply(transaction, command)
        self._ledger.note(iss, target, seen_command(command, outcome))
        mark = self._ledger.mark(iss, target)
        mark = advance_mark(mark, (command.epoch, command.seq), self._ledger.seen(iss, target, mark.head))
        self._ledger.set_mark(iss, target, mark)
        return Receipt(outcome, command, gap=mark.position != mark.head)

    # --- state and heartbeat ----------------------------------------------------------------------------------------

    def _check_count(self, document: Document, now_us: int) -> None:
        """Snapshots and heartbeats only move on: an older one would hide what happened since."""
        last, exp_us = self._ledger.latest(document.iss, type(document).__name__)
        last_seen_us = int(self._ledger.setting(_last_seen_key(document.iss, type(document))) or exp_us)
        check_sequence(document, last, now_us - last_seen_us, self.policy.jump_max)

    def _check_entries(self, state: State, now_us: int) -> None:
        """Check all entries before one of them has an effect."""
        floor, jump_max = self.keys.epoch_floor(state.iss), self.policy.jump_max
        for entry in state.targets:
            check_state_entry(state, entry, self._ledger.mark(state.iss, str(entry.target)), floor, jump_max, now_us)

    def _keep(self, document: Document, now_us: int) -> None:
        """Remember how far the issuer has come, and until when it is heard: only once nothing refuses the document."""
        self._ledger.set_latest(document.iss, type(document).__name__, document.seq, document.exp_us)
        self._ledger.set_setting(_last_seen_key(document.iss, type(document)), str(now_us))

    def _link(self, state: State, value: bytes) -> bool:
        """Remember a state document if those before it came, or that one is missing, and tell which.

        Where a part of the same second is missing, only the heartbeat after it tells: it could be one that came before.
        """
        name = f"state {state.iss}"
        last, _ = self._ledger.latest(state.iss, State.__name__)
        linked = linked_hash(state, hashlib.sha256(value).hexdigest(), self._ledger.setting(name), last)
        self._ledger.set_setting(name, linked)
        return linked != ""

    def _check_state_came(self, document: Document) -> None:
        """A heartbeat is no sign of life while the state that it names, or one before that, is held back from us."""
        wanted = document.state_sha256 if isinstance(document, Heartbeat) else None
        if wanted is not None and self._ledger.setting(f"state {document.iss}") != wanted:
            text = f"the state {wanted[:16]} that {document.iss} names, or one before it, never came"
            text = f"{text}; the next full one heals it"
            raise Refused(Refusal.STATE_MISSING, text, document)

    def _state(self, transaction: T, state: State, now_us: int) -> tuple[list[str], list[Receipt]]:
        """Apply restrictions that never came, and close gaps. A snapshot never loosens: that takes people.

        Return where the state contradicts what came, and the receipts of what it released. A target of which it does
        keeps no other from being healed: a halt that only the state tells of must not wait until that is looked into.
        """
        contradictions, receipts = list[str](), list[Receipt]()
        for entry in state.targets:
            iss, target = state.iss, str(entry.target)
            mark, position = self._ledger.mark(iss, target), (entry.epoch, entry.seq)
            if entry.epoch < self.keys.epoch_floor(iss) or position <= mark.head:
                continue
            seen = self._ledger.seen(iss, target, mark.head)
            if any((other.epoch, other.seq) == position and other.id != entry.id for other in seen):
                contradictions.append(f"{iss} to {target} at {position}: another command")
                continue
            for missed in missed_restrictions(entry.in_force, mark, seen):
                self._effects.restore(transaction, target, missed)
                self._ledger.note(iss, target, seen_restriction(missed))
            moved = replace(mark, head_epoch=entry.epoch, head_seq=entry.seq, head_id=entry.id)
            self._ledger.set_mark(iss, target, advance_mark(moved, position, seen))
            receipts += self._release(transaction, iss, target, now_us)
        return contradictions, receipts

    # --- safe state -------------------------------------------------------------------------------------------------

    def _is_safe(self) -> bool:
        return any(self._ledger.setting(why) for why in (SILENCE, CONTRADICTION))

    def _set_safe(self, transaction: T, why: str, active: bool) -> None:
        before = self._is_safe()
        self._ledger.set_setting(why, "active" if active else "")
        if self._is_safe() != before:
            self._effects.set_safe_state(transaction, active, why)


def _last_seen_key(iss: str, kind: type[Document]) -> str:
    """Return the name under which the ledger keeps when the last document of a kind came."""
    return f"heard {kind.__name__} {iss}"


def sqlite_subscriber(
    connection: sqlite3.Connection,
    policy: AcceptancePolicy,
    keys: KeySet,
    effects: Effects[sqlite3.Connection],
    grace_us: int = 0,
) -> Subscriber[sqlite3.Connection]:
    """Return a subscriber whose marks and effects share this SQLite connection (``isolation_level=None``)."""
    return Subscriber(policy, keys, SqliteLedger(connection), effects, grace_us)


def headers_of(items: Sequence[tuple[str, bytes | None]] | dict[str, str]) -> list[tuple[str, bytes]]:
    """Return headers as `Subscriber.receive` takes them: from a broker's list, or from ``seawall dump``'s object."""
    if isinstance(items, dict):
        return [(name, text.encode(errors="surrogatepass")) for name, text in items.items()]
    return [(name, content or b"") for name, content in items]
