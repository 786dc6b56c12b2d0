"""Control: which of the commands that rules ask for in one slice are given, in what order, and how many at a time.

1. Order: the higher ``priority`` first, then the safer kind, then as they were asked for.
2. Of what one target is asked for in one slot (the trading mode; a kind, for a haircut or limit with what it is about)
   only the safest stays: the stricter mode, the larger haircut, the lower limit, the larger reduction.
3. Nothing that trades goes to a target that is halted, or is halted by the same slice.
4. A budget of ``commands_max`` in any ``per_s``. What is beyond it waits, in this order, for as long as it would have
   been valid, from when it was last asked for. CANCEL_ORDERS and HALT_TRADING always pass and take nothing from it.
"""

from typing import Any

from seawall.operators.core.mitigation.triggers import NEVER_US, Candidate
from seawall.schemas.evidence.documents import about

LADDER = {"REDUCE_ONLY": 1, "SUSPEND": 2, "HALT_TRADING": 2}
STATES = ("active", "reducing", "halted")
STRICTNESS = {"REDUCE_ONLY": 1, "SUSPEND": 2, "HALT_TRADING": 3}
TRADING = frozenset({"HEDGE", "REDUCE_POSITION"})
UNBOUNDED = frozenset({"CANCEL_ORDERS", "HALT_TRADING"})
SAFETY = (
    "CANCEL_ORDERS", "HALT_TRADING", "SUSPEND", "REDUCE_ONLY", "BLOCK_COUNTERPARTY", "ENTER_DEGRADED_MODE", "REROUTE",
    "SWITCH_STRATEGY_PROFILE", "SET_LIMIT", "SET_HAIRCUT", "WITHDRAW_FUNDS", "CALL_MARGIN", "RECALL_COLLATERAL",
    "REDUCE_POSITION", "HEDGE",
)  # fmt: skip
WAITING_MAX = 10_000


def slot_of(command: dict[str, Any], target: str) -> str:
    """Return what at most one open command may be about at a time: a target's mode, or a kind and its object."""
    kind = command["kind"]
    return " ".join(filter(None, [target, "mode" if kind in LADDER else kind, about(command)]))


def strictness(command: dict[str, Any], limits: dict[str, dict[str, Any]] | None = None) -> float:
    """Return a number that is the larger the more a command restricts, among those of one slot.

    Examples
    --------
    >>> below = {"low": {"id": "low", "direction": "below"}}
    >>> told = {"kind": "SET_LIMIT", "limit": "low", "value": 5}
    >>> strictness(told) > strictness(told | {"value": 6})
    True
    >>> strictness(told, below) > strictness(told | {"value": 4}, below)
    True
    """
    kind = command["kind"]
    if kind in STRICTNESS:
        return float(STRICTNESS[kind])
    if kind == "SET_LIMIT" and "value" in command:
        limit = (limits or {}).get(command.get("limit", ""), {})
        return float(command["value"]) * (1.0 if limit.get("direction") == "below" else -1.0)
    if kind == "SET_LIMIT":
        return -float(command.get("ratio", 1))  # a part of what stands: the smaller, the stricter
    return float(command.get("haircut", command.get("ratio", 0)))


def choose(
    found: list[Candidate], rules: list[dict[str, Any]], limits: dict[str, dict[str, Any]] | None = None
) -> list[Candidate]:
    """Return the candidates of one slice that stay, in the order in which they are given."""
    if len(found) < 2:
        return found

    def command(candidate: Candidate) -> dict[str, Any]:
        one: dict[str, Any] = rules[candidate.rule]["commands"][candidate.at]
        return one

    order = sorted(found, key=lambda c: (-rules[c.rule].get("priority", 0), SAFETY.index(command(c)["kind"])))
    best: dict[str, Candidate] = {}
    for candidate in order:
        slot = slot_of(command(candidate), candidate.target)
        if slot not in best or strictness(command(candidate), limits) > strictness(command(best[slot]), limits):
            best[slot] = candidate
    stopped = {c.target for c in best.values() if LADDER.get(command(c)["kind"], 0) == 2}
    chosen = set(map(id, best.values()))
    return [c for c in order if id(c) in chosen and not (command(c)["kind"] in TRADING and c.target in stopped)]


class Budget:
    """How many commands a writer may still give; ``waiting`` are the candidates beyond it, with their ends."""

    def __init__(self) -> None:
        self.count_max, self.per_us = 0, 0
        self.given: list[int] = []
        self.waiting: dict[str, tuple[int, Candidate]] = {}

    def configure(self, response: dict[str, Any]) -> None:
        """Take the terms of a playbook; without any nothing is bounded."""
        self.count_max = int(response.get("commands_max", 0))
        self.per_us = int(float(response.get("per_s", 0)) * 1_000_000)

    def allows(self, kind: str, now_us: int) -> bool:
        """Tell whether a command of a kind may be given now, and count it."""
        if not self.count_max or kind in UNBOUNDED:
            return True
        self.given = [at for at in self.given if at > now_us - self.per_us]
        if len(self.given) >= self.count_max:
            return False
        self.given.append(now_us)
        return True

    def wait(self, slot: str, candidate: Candidate, end_us: int, stricter: bool = True) -> bool:
        """Let a candidate wait; tell whether there was room.

        It takes the place of an earlier one of its slot, unless that one restricts more (``stricter`` is false).
        """
        if slot not in self.waiting and len(self.waiting) >= WAITING_MAX:
            return False
        if stricter or slot not in self.waiting:
            self.waiting[slot] = (end_us, candidate)
        return True

    def take(self, now_us: int) -> tuple[dict[str, tuple[int, Candidate]], list[Candidate]]:
        """Return what may have another try, as in ``waiting``, and what waited for too long; both stop waiting."""
        waiting, self.waiting = self.waiting, {}
        return (
            {slot: (end_us, candidate) for slot, (end_us, candidate) in waiting.items() if end_us > now_us},
            [candidate for end_us, candidate in waiting.values() if end_us <= now_us],
        )

    def renumber(self, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[Candidate]:
        """Let what waits name its rule among those of a new playbook; return what no rule of it asks for any more."""
        waiting, self.waiting, gone = self.waiting, {}, list[Candidate]()
        numbers = {rule["id"]: number for number, rule in enumerate(after)}
        for slot, (end_us, candidate) in waiting.items():
            rule, at = before[candidate.rule], candidate.at
            number = numbers.get(rule["id"])
            if number is not None and after[number]["commands"][at : at + 1] == [rule["commands"][at]]:
                self.waiting[slot] = end_us, candidate._replace(rule=number)
            else:
                gone.append(candidate)
        return gone

    @property
    def due_us(self) -> int:
        """When a waiting candidate may be tried again."""
        return self.given[0] + self.per_us if self.waiting and self.given else NEVER_US

    def snapshot(self) -> list[Any]:
        """Return the state as plain values."""
        return [self.given, [[slot, end_us, list(one)] for slot, (end_us, one) in self.waiting.items()]]

    def restore(self, state: list[Any]) -> None:
        """Take over what ``snapshot`` returned."""
        self.given = list(state[0])
        self.waiting = {slot: (end_us, Candidate(*one)) for slot, end_us, one in state[1]}
