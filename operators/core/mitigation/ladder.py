"""The ladder: where every target stands, the chain of its commands, and what was set there.

A target stands at ``active``, ``reducing`` or ``halted`` and no command of a playbook ever moves it back, nor loosens a
limit or haircut that one set: release is a human's (architecture.md, "Decisions"), a REINSTATE that people signed and
that is journaled. It counts only where its ``seq`` is above that of the last command to its target, and gives back how
the target may trade; what was set stays set. Subscribers ask for more: with them it waits until every command before it
came. Within ``cooldown_s`` a rule says nothing to a target twice.
"""

from typing import Any

from seawall.operators.core.mitigation.control import LADDER, TRADING, strictness

SETTINGS = ("SET_LIMIT", "SET_HAIRCUT")
Limits = dict[str, dict[str, Any]]


class Ladder:
    """The targets of one writer."""

    def __init__(self) -> None:
        self._targets: dict[str, list[Any]] = {}  # target -> [seq, previous id, place on the ladder]
        self._fired: dict[str, int] = {}  # "rule command target" -> when it fired last
        self._set: dict[str, float] = {}  # slot -> how strict what was set there is

    def place(self, target: str) -> int:
        """Return where a target stands: 0 active, 1 reducing, 2 halted."""
        return int(self._targets[target][2]) if target in self._targets else 0

    def places(self) -> dict[str, int]:
        """Return where every target that was ever commanded stands."""
        return {target: int(row[2]) for target, row in self._targets.items()}

    def standing(self, kind: str) -> list[str]:
        """Return the names of the targets of a kind that are not active."""
        return [name[len(kind) + 1 :] for name, row in self._targets.items() if row[2] and name.startswith(f"{kind}:")]

    def chain(self, target: str) -> list[Any]:
        """Return seq and id of the last command to a target; 0 and None where there was none."""
        return list(self._targets.get(target, (0, None))[:2])

    def admits(self, command: dict[str, Any], slot: str, target: str, limits: Limits, bounded: bool) -> bool:
        """Tell whether a command is more than what stands.

        Never a lower or equal rung; with ``bounded`` (terms) neither a looser setting nor trading in what is halted.
        """
        rung, stands = LADDER.get(command["kind"], 0), self.place(target)
        if rung and rung <= stands:
            return False
        if not bounded:
            return True
        if slot in self._set and strictness(command, limits) < self._set[slot]:
            return False
        return not (command["kind"] in TRADING and stands >= 2)

    def cools(self, rule: dict[str, Any], at: int, target: str, now_us: int) -> bool:
        """Tell whether a rule gave this command to this target within its cool-down."""
        last = self._fired.get(f"{rule['id']} {at} {target}")
        return last is not None and now_us - last < int(float(rule.get("cooldown_s", 0)) * 1_000_000)

    def give(
        self, payload: dict[str, Any], command: dict[str, Any], slot: str, target: str, limits: Limits, bounded: bool
    ) -> None:
        """Take it that a command was given."""
        place = max(LADDER.get(command["kind"], 0), self.place(target))
        self._targets[target] = [payload["seq"], payload["id"], place]
        if bounded and command["kind"] in SETTINGS:
            self._set[slot] = strictness(command, limits)

    def fire(self, rule: dict[str, Any], at: int, target: str, now_us: int) -> None:
        """Begin the cool-down of a rule's command to a target."""
        self._fired[f"{rule['id']} {at} {target}"] = now_us

    def release(self, target: str, seq: int, id: str) -> bool | None:
        """Take a release by people; tell whether its ``seq`` is above what stands, None where nothing ever did."""
        state = self._targets.get(target)
        if state is None:
            return None
        if seq <= state[0]:
            return False
        state[:] = [seq, id, 0]
        return True

    def snapshot(self) -> list[Any]:
        """Return the state as plain values."""
        return [self._targets, self._fired, self._set]

    def restore(self, state: list[Any]) -> None:
        """Take over what ``snapshot`` returned."""
        self._targets, self._fired, self._set = state
