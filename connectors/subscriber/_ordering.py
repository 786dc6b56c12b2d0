"""Ordering: admits a genuine command to effect, or refuses it. Step 9 of a subscriber.

Decides by what was seen of this issuer and target. Commands of one target form a chain: ``seq`` counts by one and
``prev_id`` names the command before. The *head* is the last command up to which the chain is unbroken; the *mark* is
the highest position seen.

- a lower epoch: STALE_EPOCH. The same position with another id, or two successors of one command: EQUIVOCATION.
- what restricts is applied at once, gap or not; when it arrives after a later command of its kind (about the same
  asset, limit or instrument) it is only noted, and so reordering never ends in a looser state than order would have;
- what lies before all that a full ledger remembers is STALE_SEQ: it may have had its effect. A state restores the rest;
- what loosens is applied only as the head's successor, held until then, and only noted when later commands are there.

No document counts further ahead than ``jump_max`` (JUMP_TOO_FAR), or one that a thief signed would use all numbers up.
States and heartbeats heal who was away, for however long, so to them time is granted too: they count slices, which last
a millisecond or longer, and no target is given more than a command per millisecond.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from seawall.schemas.evidence._acceptance import Refusal, Refused
from seawall.schemas.evidence._documents import Command, Document, InForce, State, TargetState, subject_of

TRADING_MODE = {"REDUCE_ONLY": 1, "SUSPEND": 2, "HALT_TRADING": 3}  # one ladder: a higher rung holds all below it
SEEN_MAX = 1024  # commands that a ledger remembers per issuer and target; the oldest are forgotten first
COUNT_US_MIN = 1_000  # nothing is counted faster: the shortest slice lasts a millisecond


class Outcome(StrEnum):
    """Outcome of a command at its subscriber."""

    APPLIED = "applied"
    HELD = "held"
    SUPERSEDED = "superseded"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class SeenCommand:
    """A command as the ledger remembers it.

    ``about`` is None in what an earlier version remembered, which counts as being about anything.
    """

    epoch: int
    seq: int
    id: str
    prev_id: str | None
    type: str
    outcome: Outcome
    supersedes: str | None = None
    about: str | None = None


@dataclass(frozen=True, slots=True)
class HighWaterMark:
    """Position of the last command that an issuer gave to one target. ``head_*`` is the end of the unbroken chain."""

    epoch: int = 0
    seq: int = 0
    head_epoch: int = 0
    head_seq: int = 0
    head_id: str | None = None

    @property
    def position(self) -> tuple[int, int]:
        """The highest (epoch, seq) seen."""
        return self.epoch, self.seq

    @property
    def head(self) -> tuple[int, int]:
        """The (epoch, seq) up to which nothing is missing."""
        return self.head_epoch, self.head_seq


def order_command(
    command: Command, mark: HighWaterMark, seen: Sequence[SeenCommand], epoch_floor: int, jump_max: int
) -> Outcome:
    """Return what to do with a command; raise `Refused` for STALE_EPOCH, STALE_SEQ, JUMP_TOO_FAR or EQUIVOCATION.

    Parameters
    ----------
    seen
        What the ledger remembers of this issuer and target: all beyond the head, and whatever shares the command's
        place, id or predecessor.
    """
    _check_equivocation(command, seen)
    if any(other.id == command.id for other in seen):
        return Outcome.DUPLICATE
    if command.epoch < max(mark.epoch, epoch_floor):
        raise Refused(Refusal.STALE_EPOCH, f"epoch {command.epoch}, at least {max(mark.epoch, epoch_floor)}", command)
    base = max(mark.epoch, epoch_floor)
    if command.epoch > base + jump_max or command.seq > mark.seq + jump_max:
        raise Refused(Refusal.JUMP_TOO_FAR, f"from {mark.position} to {(command.epoch, command.seq)}", command)
    healed = command.id == mark.head_id  # a state snapshot told of it before it came
    if _position(command) <= mark.head and not healed:
        raise Refused(Refusal.STALE_SEQ, f"seq {command.seq} lies before {mark.head_seq}", command)
    beyond = [other for other in seen if _position(other) > mark.head]
    if len(beyond) >= SEEN_MAX and _position(command) < _position(beyond[0]):
        text = f"seq {command.seq} lies before {beyond[0].seq}, the oldest of {len(beyond)} remembered beyond a gap"
        raise Refused(Refusal.STALE_SEQ, text, command)  # it may have come, had its effect and been forgotten
    if not (command.restrictive or healed or command.prev_id == mark.head_id):
        return Outcome.HELD
    later = [other for other in seen if other.outcome is Outcome.APPLIED and _position(other) > _position(command)]
    return Outcome.SUPERSEDED if any(_overtakes(other, command) for other in later) else Outcome.APPLIED


def check_sequence(document: Document, last: int, elapsed_us: int, jump_max: int) -> None:
    """Raise `Refused` for a state or heartbeat that counts back (STALE_SEQ) or too far ahead (JUMP_TOO_FAR).

    Parameters
    ----------
    last, elapsed_us
        The last ``seq`` of its issuer and kind, and how long ago it came; -1 and the time since 1970 before the first.
    """
    if document.seq < last:
        raise Refused(Refusal.STALE_SEQ, f"seq {document.seq}, the last was {last}", document)
    if document.seq > last + jump_max + max(elapsed_us, 0) // COUNT_US_MIN:
        raise Refused(Refusal.JUMP_TOO_FAR, f"from seq {last} to {document.seq} in {elapsed_us} us", document)


def linked_hash(state: State, sha256: str, before: str, last: int) -> str:
    """Return the hash of the last state document up to which none is missing, empty where one is.

    Parameters
    ----------
    sha256
        Of this document.
    before, last
        What this function returned of the one that came before, and the ``seq`` of that one.
    """
    if state.prev_sha256 in (msgspec.UNSET, before):
        return sha256
    if state.prev_sha256 is None and (state.seq > last or not before):
        return sha256
    return before if state.seq == last else ""  # a part of that second again, or behind one that is missing


def check_state_entry(
    state: State, entry: TargetState, mark: HighWaterMark, epoch_floor: int, jump_max: int, now_us: int
) -> None:
    """Raise `Refused` (JUMP_TOO_FAR) for a state of which an entry, or what it says is in force, counts too far ahead.

    Whatever its ``seq`` then hides, commands of the next epoch reach the target, and ``jump_max`` bounds the epoch.
    """
    epoch_max = max(mark.epoch, epoch_floor) + jump_max
    seq_max = max(mark.seq, now_us // COUNT_US_MIN) + jump_max
    items: list[TargetState | InForce] = [entry, *entry.in_force]
    for item in items:
        if item.epoch > epoch_max or item.seq > seq_max:
            text = f"the entry of {entry.target} goes from {mark.position} to {(item.epoch, item.seq)}"
            raise Refused(Refusal.JUMP_TOO_FAR, text, state)


def advance_mark(mark: HighWaterMark, position: tuple[int, int], seen: Sequence[SeenCommand]) -> HighWaterMark:
    """Return the mark once this position is known: the highest one, and the head as far as the chain now goes."""
    epoch, seq = max(mark.position, position)
    mark = replace(mark, epoch=epoch, seq=seq)
    by_predecessor = {other.prev_id: other for other in seen if other.outcome is not Outcome.HELD}
    while (successor := by_predecessor.get(mark.head_id)) is not None:
        if _position(successor) <= mark.head:
            break
        mark = replace(mark, head_epoch=successor.epoch, head_seq=successor.seq, head_id=successor.id)
    return mark


def next_held_command(mark: HighWaterMark, held: Sequence[Command]) -> Command | None:
    """Return a held command whose turn has come, or has passed, if there is one."""
    for command in held:
        if mark.head_id in (command.prev_id, command.id) or _position(command) <= mark.head:
            return command
    return None


def missed_restrictions(in_force: Sequence[InForce], mark: HighWaterMark, seen: Sequence[SeenCommand]) -> list[InForce]:
    """Return the restrictions of a state snapshot that never came here, nor anything later of their kind."""
    applied = [other for other in seen if other.outcome is Outcome.APPLIED]

    def came(item: InForce) -> bool:
        return any(_is_same(other, item) and _position(other) >= _position(item) for other in applied)

    return [item for item in in_force if item.restrictive and _position(item) > mark.head and not came(item)]


def seen_command(command: Command, outcome: Outcome) -> SeenCommand:
    """Return what the ledger keeps of a command."""
    ids = command.id, command.prev_id
    return SeenCommand(
        command.epoch, command.seq, *ids, command.type, outcome, command.supersedes, subject_of(command.action)
    )


def seen_restriction(item: InForce) -> SeenCommand:
    """Return what the ledger keeps of a restriction that only a snapshot told of; its predecessor stays unknown."""
    return SeenCommand(item.epoch, item.seq, item.id, "", item.type, Outcome.APPLIED, about=subject_of(item.action))


def _check_equivocation(command: Command, seen: Sequence[SeenCommand]) -> None:
    tests: list[tuple[str, Callable[[SeenCommand], bool]]] = [
        ("another command stands at its place", lambda o: o.id != command.id and _position(o) == _position(command)),
        ("its id stands at another place", lambda o: o.id == command.id and _position(o) != _position(command)),
        ("its predecessor has another successor", lambda o: o.id != command.id and _before(o) == _before(command)),
    ]
    for text, test in tests:
        if any(test(other) for other in seen):
            raise Refused(
                Refusal.EQUIVOCATION, f"{command.iss} to {command.target} at {_position(command)}: {text}", command
            )


def _overtakes(later: SeenCommand, command: Command) -> bool:
    """Return whether a later command makes this one without effect: it names it, or sets the same thing."""
    if later.supersedes == command.id or not command.restrictive:
        return True
    rung, rung_later = TRADING_MODE.get(command.type, 0), TRADING_MODE.get(later.type, 0)
    return rung <= rung_later if rung and rung_later else _is_same(later, command)


def _is_same(other: SeenCommand, item: Command | InForce) -> bool:
    """Return whether two commands set the same thing: one kind, about one asset, limit or instrument."""
    return other.type == item.type and other.about in (None, subject_of(item.action))


def _position(item: Command | SeenCommand | InForce) -> tuple[int, int]:
    return item.epoch, item.seq


def _before(item: Command | SeenCommand) -> tuple[int, str | None]:
    return item.epoch, item.prev_id
