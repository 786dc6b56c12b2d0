"""Command control: choice, order and pace of the commands of one slice; it never loosens by itself.

`choose_commands` and `CommandBudget` pick and pace, `SeverityLadder` holds where each target is, and `reserved_reason`
says what only a person may give.
"""

from typing import Any

from seawall.operators.core.base import Measures
from seawall.operators.core.mitigation._requests import ComputationResult
from seawall.operators.core.mitigation._triggers import FIRM_WRITER, NEVER_US, CommandCandidate
from seawall.schemas.evidence import subject_of

# Control: which of the commands that rules ask for in one slice are given, in what order, and how many at a time.
#
# 1. Order: the higher ``priority`` first, then the safer kind, then as they were asked for.
# 2. Of what one target is asked for in one slot (the trading mode; a kind, for a haircut or limit with what it is
#    about) only the safest stays: the stricter mode, the larger haircut, the lower limit, the larger reduction.
# 3. Nothing that trades goes to a target that is halted, or is halted by the same slice.
# 4. A budget of ``commands_max`` in any ``per_s``. What is beyond it waits, in this order, for as long as it would have
#    been valid, from when it was last asked for. CANCEL_ORDERS and HALT_TRADING always pass and take nothing from it.

MODE_RANKS = {"REDUCE_ONLY": 1, "SUSPEND": 2, "HALT_TRADING": 2}
TARGET_STATES = ("active", "reducing", "halted")
STRICTNESS = {"REDUCE_ONLY": 1, "SUSPEND": 2, "HALT_TRADING": 3}
TRADING = frozenset({"HEDGE", "REDUCE_POSITION"})
# What prices that are not certain never cause, and what an account that nothing values may be given.
FORCING = TRADING | {
    "CALL_MARGIN", "RECALL_COLLATERAL", "WITHDRAW_FUNDS", "REROUTE", "HALT_TRADING", "SUSPEND", "BLOCK_COUNTERPARTY",
}  # fmt: skip
UNCERTAIN_REASON = "it rests on a price that is not certain, which only warns and restricts to reduce-only"
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
    return " ".join(filter(None, [target, "mode" if kind in MODE_RANKS else kind, subject_of(command)]))


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


def choose_commands(
    found: list[CommandCandidate], rules: list[dict[str, Any]], limits: dict[str, dict[str, Any]] | None = None
) -> list[CommandCandidate]:
    """Return the candidates of one slice that stay, in the order in which they are given."""
    if len(found) < 2:
        return found

    def command(candidate: CommandCandidate) -> dict[str, Any]:
        one: dict[str, Any] = rules[candidate.rule]["commands"][candidate.at]
        return one

    order = sorted(found, key=lambda c: (-rules[c.rule].get("priority", 0), SAFETY.index(command(c)["kind"])))
    best: dict[str, CommandCandidate] = {}
    for candidate in order:
        slot = slot_of(command(candidate), candidate.target)
        if slot not in best or strictness(command(candidate), limits) > strictness(command(best[slot]), limits):
            best[slot] = candidate
    stopped = {c.target for c in best.values() if MODE_RANKS.get(command(c)["kind"], 0) == 2}
    chosen = set(map(id, best.values()))
    return [c for c in order if id(c) in chosen and not (command(c)["kind"] in TRADING and c.target in stopped)]


class CommandBudget:
    """Budget of commands that a writer may still give; ``waiting`` are the candidates beyond it, with their ends."""

    def __init__(self) -> None:
        self.count_max, self.per_us = 0, 0
        self.given: list[int] = []
        self.waiting: dict[str, tuple[int, CommandCandidate]] = {}

    def configure(self, response: dict[str, Any]) -> None:
        """Take the terms of a playbook; without any nothing is bounded."""
        self.count_max = int(response.get("commands_max", 0))
        self.per_us = int(float(response.get("per_s", 0)) * 1_000_000)

    def allows(self, kind: str, now_us: int) -> bool:
        """Tell whether a command of a kind may be given now, and count it."""
        if not self.count_max or kind in UNBOUNDED:
            return True
        if self.is_spent(now_us):
            return False
        self.given.append(now_us)
        return True

    def is_spent(self, now_us: int) -> bool:
        """Tell whether no bounded command may be given now; forget those that no longer count."""
        self.given = [at for at in self.given if at > now_us - self.per_us]
        return bool(self.count_max) and len(self.given) >= self.count_max

    def wait(self, slot: str, candidate: CommandCandidate, end_us: int, stricter: bool = True) -> bool:
        """Let a candidate wait; tell whether there was room.

        It takes the place of an earlier one of its slot, unless that one restricts more (``stricter`` is false).
        """
        if slot not in self.waiting and len(self.waiting) >= WAITING_MAX:
            return False
        if stricter or slot not in self.waiting:
            self.waiting[slot] = (end_us, candidate)
        return True

    def take(self, now_us: int) -> tuple[dict[str, tuple[int, CommandCandidate]], list[CommandCandidate]]:
        """Return what may have another try, as in ``waiting``, and what waited for too long; both stop waiting."""
        waiting, self.waiting = self.waiting, {}
        return (
            {slot: (end_us, candidate) for slot, (end_us, candidate) in waiting.items() if end_us > now_us},
            [candidate for end_us, candidate in waiting.values() if end_us <= now_us],
        )

    def renumber(self, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[CommandCandidate]:
        """Let what waits name its rule among those of a new playbook; return what no rule of it asks for any more."""
        waiting, self.waiting, gone = self.waiting, {}, list[CommandCandidate]()
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
        """Time from which a waiting candidate may be tried again."""
        return self.given[0] + self.per_us if self.waiting and self.given else NEVER_US

    def snapshot(self) -> list[Any]:
        """Return the state as plain values."""
        return [self.given, [[slot, end_us, list(one)] for slot, (end_us, one) in self.waiting.items()]]

    def restore(self, state: list[Any]) -> None:
        """Take over what ``snapshot`` returned."""
        self.given = list(state[0])
        self.waiting = {slot: (end_us, CommandCandidate(*one)) for slot, end_us, one in state[1]}


# Severity ladder: where every target stands, the chain of its commands, and what was set there.
#
# A target stands at ``active``, ``reducing`` or ``halted`` and no command of a playbook ever moves it back, nor loosens
# a limit or haircut that one set: release is a human's (architecture.md, "Decisions"), a REINSTATE that people signed
# and that is journaled. It counts only where its ``seq`` is above that of the last command to its target, and gives
# back how the target may trade; what was set stays set. Subscribers ask for more: with them it waits until every
# command before it came. Within ``cooldown_s`` a rule says nothing to a target twice.

SETTINGS = ("SET_LIMIT", "SET_HAIRCUT")
Limits = dict[str, dict[str, Any]]


class SeverityLadder:
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
        rung, mode = MODE_RANKS.get(command["kind"], 0), self.place(target)
        if rung and rung <= mode:
            return False
        if not bounded:
            return True
        if slot in self._set and strictness(command, limits) < self._set[slot]:
            return False
        return not (command["kind"] in TRADING and mode >= 2)

    def cools(self, rule: dict[str, Any], at: int, target: str, now_us: int) -> bool:
        """Tell whether a rule gave this command to this target within its cool-down."""
        last = self._fired.get(f"{rule['id']} {at} {target}")
        return last is not None and now_us - last < int(float(rule.get("cooldown_s", 0)) * 1_000_000)

    def give(
        self, payload: dict[str, Any], command: dict[str, Any], slot: str, target: str, limits: Limits, bounded: bool
    ) -> None:
        """Take it that a command was given."""
        place = max(MODE_RANKS.get(command["kind"], 0), self.place(target))
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


# Commands that are not a machine's to give, and why: the audit has it as ``withheld``, with what was worked out.
#
# - Trading in our own books because of prices alone, ever; with ``[response]`` any trading in our own books.
# - Closing out a counterparty's account where its terms do not say ``close_out``.
# - What the playbook reserves for people, sizes above its bounds, and what would loosen a limit in force.

OWN_TRADING_REASON = "trading in our own books takes a person"
Command = dict[str, Any]


def reserved_reason(
    candidate: CommandCandidate,
    command: Command,
    measures: Measures,
    computed: ComputationResult | None,
    response: dict[str, Any],
    limits: dict[str, dict[str, Any]],
) -> str:
    """Say why a command is not a machine's to give; empty where it is. Wide targets hold our own books."""
    if command["kind"] in TRADING and (measures.moment.key == FIRM_WRITER or candidate.target in measures.house):
        if candidate.breach is not None and candidate.breach["cause"] == "passive":
            return "a passive breach never forces trading in our own books"
        if response:
            return OWN_TRADING_REASON
    elif command["kind"] in TRADING and response and candidate.target not in measures.closable:
        return "its terms do not let us close it out (close_out)"
    if command.get("human"):
        return "the playbook reserves it for a person"
    if computed is not None and (computed.fault or computed.ours):
        return computed.fault or OWN_TRADING_REASON
    return _too_large(command, computed, response) or (_loosens(command, computed, limits) if response else "")


def doubtful_reason(breach: dict[str, Any] | None, command: Command, measures: Measures) -> str:
    """Say why prices that are not certain do not let a command be given; empty where they do."""
    if breach is None or not (breach.get("doubted") or breach["cause"] == "unvalued"):
        return ""
    if command["kind"] in FORCING or (breach["cause"] == "unvalued" and command["kind"] != "REDUCE_ONLY"):
        return UNCERTAIN_REASON
    kind, _, name = breach["scope"].partition(":")
    if not breach.get("doubted") or measures.doubt is None or kind != "account":
        return ""
    spared = measures.doubt.spared[measures.tables["account"].names.index(name)]
    return "its price is out for very many accounts, which is for people" if spared else ""


def _too_large(command: Command, computed: ComputationResult | None, response: dict[str, Any]) -> str:
    if computed is None:
        return ""
    bounds = [float(one) for one in (command.get("size_max"), response.get("human_above")) if one is not None]
    over = [bound for bound in bounds if computed.size > bound]
    return f"its size of {computed.size:.0f} is above {min(over):.0f}, which takes a person" if over else ""


def _loosens(command: Command, computed: ComputationResult | None, limits: dict[str, dict[str, Any]]) -> str:
    """Say whether a SET_LIMIT would loosen the limit that it names."""
    limit = limits.get(command.get("limit", "")) if command["kind"] == "SET_LIMIT" else None
    described = with_computation(command, computed)
    if limit is None or "value" not in described:
        return ""
    bound = next(limit[level] for level in (command.get("to", "hard"), "hard", "soft", "warning") if level in limit)
    if strictness(described, limits) >= strictness({**described, "value": bound}, limits):
        return ""
    return f"a value of {described['value']} would loosen {limit['id']}, which stands at {bound:g}; that takes people"


def with_computation(command: Command, computed: ComputationResult | None) -> Command:
    """Return a command with what was worked out for it."""
    return command if computed is None else {**command, **computed.action}
