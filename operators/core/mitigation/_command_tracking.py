"""Command tracking: the state of each command, reconciled with acknowledgements, venue reports and fills."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from seawall.operators.core.base import AccountTrade, FillCauses, Measures
from seawall.operators.core.mitigation._triggers import member_scopes

# Command tracking: what became of each command, by what subscribers answer and by what venues and fills show.
#
# A command is ``sent``, then ``accepted``, ``partial``, ``unknown``, and ends ``completed``, ``rejected``, ``expired``,
# ``contradicted`` or ``superseded``. Whoever must answer (``subscribers``, or anyone where none are named) has
# ``acknowledge_s`` to answer at all, after which the command is *silent*, and ``complete_s`` to complete it, after
# which it is *late*; both are said once, and later answers still count. Each of these is a trigger of the playbook.
#
# An answer is not believed blindly: for ``verify_s`` after its completion it is held against what is seen
# (`contradictions`); a subscriber that takes back what it completed contradicts itself too. The same answer twice
# changes nothing.

NEVER_US = 1 << 62
ANSWER_RANKS = {"accepted": 1, "unknown": 1, "partial": 2, "completed": 3, "rejected": 3}
OPEN_STATES = ("sent", "accepted", "unknown", "partial")
BEGUN_STATES = ("accepted", "partial")
TRADES = ("REDUCE_POSITION",)
ANY_SUBSCRIBER = "*"
REPORTED_MAX = 64  # subscribers remembered of one command


class CommandChange(NamedTuple):
    """Something that became of a command: an answer's state, a deadline passed, a contradiction."""

    what: str
    command: dict[str, Any]
    evidence: str


def settled_state(state: str, answers: Iterable[str], expected: int) -> str:
    """Return the state of a command by the last answer of each subscriber; ``expected`` is how many must answer.

    Examples
    --------
    >>> settled_state("sent", ["completed", "accepted"], 2), settled_state("sent", ["completed", "rejected"], 2)
    ('accepted', 'rejected')
    >>> settled_state("accepted", ["completed"], 2), settled_state("accepted", ["completed"], 1)
    ('accepted', 'completed')
    """
    found = list(answers)
    for worst in ("rejected", "unknown", "partial"):
        if worst in found:
            return worst
    if len(found) >= expected and all(answer == "completed" for answer in found):
        return "completed"
    return "accepted" if len(found) >= expected or state == "accepted" else state


class CommandTracker:
    """The commands of one writer that are not over yet; ``due_us`` is the next deadline."""

    def __init__(self) -> None:
        self.commands: dict[str, dict[str, Any]] = {}
        self.due_us = NEVER_US
        self._expected: list[str] = []
        self._after_us = {"acknowledge_s": 0, "complete_s": 0, "verify_s": 0}

    def configure(self, response: dict[str, Any]) -> None:
        """Take the terms of a playbook."""
        self._expected = list(response.get("subscribers", []))
        for name in self._after_us:
            self._after_us[name] = int(float(response.get(name, 0)) * 1_000_000)

    def open_in(self, slot: str) -> dict[str, Any] | None:
        """Return the command of a slot that is still open."""
        found = (c for c in self.commands.values() if c["slot"] == slot and c["state"] in OPEN_STATES)
        return next(found, None)

    def issue(
        self, payload: dict[str, Any], slot: str, target: str, rule: dict[str, Any], now_us: int, expires_us: int
    ) -> str | None:
        """Take a command as sent; return the id of the open one that it stands for from here on."""
        id = payload["id"]
        before = self.open_in(slot)
        if before is not None:
            del self.commands[before["id"]]
        answer_us, done_us = (now_us + self._after_us[name] for name in ("acknowledge_s", "complete_s"))
        self.commands[id] = {
            "id": id, "kind": payload["type"], "target": target, "slot": slot, "rule": rule["id"], "state": "sent",
            "sent_us": now_us, "answer_us": answer_us, "done_us": done_us, "end_us": now_us + expires_us,
            "answers": {}, "action": payload["action"],
        }  # fmt: skip
        self.due_us = min(self.due_us, answer_us, done_us, now_us + expires_us)
        return None if before is None else before["id"]

    def hear(self, id: str, subscriber: str, outcome: str, evidence: str, now_us: int) -> list[CommandChange]:
        """Take an answer; return what it changed. Answers to unknown commands and of strangers change nothing."""
        command = self.commands.get(id)
        if command is None or (self._expected and subscriber not in self._expected):
            return []
        answers = command["answers"]
        before = answers.get(subscriber)
        if before == outcome or (
            before is not None and ANSWER_RANKS[outcome] < ANSWER_RANKS[before] and outcome == "accepted"
        ):
            return []
        if before in ("completed", "rejected"):
            return [self._contradict(command, evidence)]
        if len(answers) < REPORTED_MAX:
            answers[subscriber] = outcome
        return self._settle(command, evidence, now_us)

    def contradict(self, id: str, evidence: str) -> CommandChange:
        """Take it that what a subscriber said it completed is not so."""
        return self._contradict(self.commands[id], evidence)

    def watched(self) -> list[dict[str, Any]]:
        """Return the commands that are held against what is seen: completed ones, and trades while they are made."""
        return [
            command
            for command in self.commands.values()
            if command["state"] == "completed" or (command["kind"] in TRADES and command["state"] in BEGUN_STATES)
        ]

    def close(self, target: str) -> None:
        """Forget the commands to a target: a person has taken over."""
        for id in [id for id, command in self.commands.items() if command["target"] == target]:
            del self.commands[id]

    def advance(self, now_us: int) -> list[CommandChange]:
        """Return the deadlines that have passed; forget commands that are over."""
        found = []
        for id, command in list(self.commands.items()):
            found += self._overdue(command, now_us)
            over = command["state"] not in (*OPEN_STATES, "completed")
            if over or (command["state"] == "completed" and now_us >= command["end_us"]):
                del self.commands[id]
        self._set_due()
        return found

    def _settle(self, command: dict[str, Any], evidence: str, now_us: int) -> list[CommandChange]:
        before = command["state"]
        state = settled_state(before, command["answers"].values(), max(len(self._expected), 1))
        command["state"] = state
        if state == before:
            return []
        if state == "completed":
            command["end_us"] = now_us + self._after_us["verify_s"]
            self.due_us = min(self.due_us, command["end_us"])
        elif state == "rejected":
            del self.commands[command["id"]]
        return [CommandChange(state, command, evidence)]

    def _contradict(self, command: dict[str, Any], evidence: str) -> CommandChange:
        command["state"] = "contradicted"
        del self.commands[command["id"]]
        return CommandChange("contradicted", command, evidence)

    def _overdue(self, command: dict[str, Any], now_us: int) -> list[CommandChange]:
        found: list[CommandChange] = []
        if command["state"] not in OPEN_STATES:
            return found
        who = [name for name in self._expected or [ANY_SUBSCRIBER] if name not in command["answers"]]
        unanswered = bool(who) and (bool(self._expected) or not command["answers"])
        if command["answer_us"] <= now_us:
            command["answer_us"] = NEVER_US
            if unanswered:
                found.append(CommandChange("silent", command, f"deadline:{','.join(who)[:80]}"))
        if command["done_us"] <= now_us:
            command["done_us"] = NEVER_US
            found.append(CommandChange("late", command, "deadline:complete"))
        if command["end_us"] <= now_us:
            command["state"] = "expired"
            found.append(CommandChange("expired", command, "deadline:expiry"))
        return found

    def _set_due(self) -> None:
        names = ("answer_us", "done_us", "end_us")
        self.due_us = min([NEVER_US, *(command[name] for command in self.commands.values() for name in names
                                       if command["state"] in OPEN_STATES or name == "end_us")])  # fmt: skip

    def snapshot(self) -> list[dict[str, Any]]:
        """Return the open commands as plain values."""
        return list(self.commands.values())

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Take over what ``snapshot`` returned."""
        self.commands = {command["id"]: command for command in state}
        self._set_due()


# Acknowledgement reconciliation: does what venues and fills show agree with what subscribers say they did?
#
# Positions are re-derived from fills, never from our own commands. What contradicts a subscriber:
#
# - a target that was halted and still fills orders, one that may only reduce and adds;
# - orders that were cancelled and still work, positions that were cut and still stand, when the time to verify is over;
# - a close-out at a price worse than its bound, from when it was begun.
#
# Fills that a venue forced (liquidation, auto-deleveraging, settlement) are no doing of a subscriber's.

STOPPING_MODES = ("HALT_TRADING", "SUSPEND")
PRICE_TOLERANCE = 1 + 1e-9
Command = dict[str, Any]


def contradictions(watched: list[Command], measures: Measures, causes: FillCauses | None) -> Iterator[tuple[str, str]]:
    """Yield the id of each command that this slice contradicts, and by what."""
    for command in watched:
        found = next(_against(command, measures, causes), None)
        if found is not None:
            yield command["id"], found


def _against(command: Command, measures: Measures, causes: FillCauses | None) -> Iterator[str]:
    kind, target = command["kind"], command["target"]
    over = command["state"] == "completed" and measures.moment.as_of_us >= command["end_us"]
    if causes is not None and not over:
        if kind in STOPPING_MODES:
            scope, _, name = target.partition(":")
            yield from causes.orders_of(scope, name)
        elif kind == "REDUCE_ONLY":
            yield from _adding(target, measures, causes)
        elif kind == "REDUCE_POSITION":
            yield from _worse(command, causes)
    if over and kind == "CANCEL_ORDERS":
        yield from (f"orders:{name}" for name in _working(target, measures))
    if over and kind == "REDUCE_POSITION":
        yield from (f"position:{name}" for name in _uncut(command, measures))


def _trades(account: str, causes: FillCauses) -> Iterator[tuple[AccountTrade, bool]]:
    """Yield the trades of an account's own, each with whether they made the position larger, or smaller, together."""
    trades = list(causes.trades_of(account))
    for trade in trades:
        change = sum(one.units for one in trades if one.instrument == trade.instrument)
        if trade.units * change > 0:
            yield trade, abs(trade.after) > abs(trade.after - change)


def _adding(target: str, measures: Measures, causes: FillCauses) -> Iterator[str]:
    """Yield the trades of a target's accounts that made a position larger."""
    for account in member_scopes("account", target, measures):
        yield from (trade.id for trade, larger in _trades(account.partition(":")[2], causes) if larger)


def _worse(command: Command, causes: FillCauses) -> Iterator[str]:
    """Yield the trades that cut a position at a worse price than the command allows."""
    bounds = {name: float(text) for name, text in _texts(command, "limit_prices").items()}
    for trade, larger in _trades(command["target"].partition(":")[2], causes) if bounds else ():
        bound = bounds.get(trade.instrument, trade.price)
        if not larger and (trade.price < bound if trade.units < 0 else trade.price > bound):
            yield trade.id


def _uncut(command: Command, measures: Measures) -> Iterator[str]:
    """Yield the instruments in which more stands than a close-out was to leave."""
    table, book = measures.tables.get("account"), measures.computation.book
    name = command["target"].partition(":")[2]
    if table is None or book is None or name not in table.names:
        return
    mine = book.accounts == table.names.index(name)
    for instrument, text in _texts(command, "targets").items():
        number = book.names.index(instrument)
        rows = np.flatnonzero(mine & (book.instruments == number))
        left = sum(book.units.item(row) for row in rows) * Decimal(book.increments[number])
        if abs(left) > abs(Decimal(text)):
            yield instrument


def _texts(command: Command, name: str) -> dict[str, str]:
    """Return the values by instrument that an action gives as ``instrument=value,…``."""
    listed = command["action"].get(name, "")
    return {part.rpartition("=")[0]: part.rpartition("=")[2] for part in listed.split(",")} if listed else {}


def _working(target: str, measures: Measures) -> Iterator[str]:
    """Yield the accounts of a target in which orders still work."""
    table = measures.tables.get("account")
    if table is None or "worst_case_notional" not in table.measures:
        return
    worst, gross = (table.values[table.measures.index(name)] for name in ("worst_case_notional", "gross_notional"))
    for name in member_scopes("account", target, measures):
        at = table.names.index(name.partition(":")[2])
        if at < table.values.shape[1] and worst.item(at) > gross.item(at) * PRICE_TOLERANCE:
            yield name
