"""The closed loop: what became of each command, by what subscribers answer and by what venues and fills show.

A command is ``sent``, then ``accepted``, ``partial``, ``unknown``, and ends ``completed``, ``rejected``, ``expired``,
``contradicted`` or ``superseded``. Whoever must answer (``subscribers``, or anyone where none are named) has
``acknowledge_s`` to answer at all, after which the command is *silent*, and ``complete_s`` to complete it, after which
it is *late*; both are said once, and later answers still count. Each of these is a trigger of the playbook.

An answer is not believed blindly: for ``verify_s`` after its completion it is held against what is seen (``witness``);
a subscriber that takes back what it completed contradicts itself too. The same answer twice changes nothing.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

NEVER_US = 1 << 62
RANK = {"accepted": 1, "unknown": 1, "partial": 2, "completed": 3, "rejected": 3}
OPEN = ("sent", "accepted", "unknown", "partial")
BEGUN = ("accepted", "partial")
TRADES = ("REDUCE_POSITION",)
ANYONE = "*"
TOLD_MAX = 64  # subscribers remembered of one command


class Change(NamedTuple):
    """Something that became of a command: an answer's state, a deadline passed, a contradiction."""

    what: str
    command: dict[str, Any]
    evidence: str


def settled(state: str, answers: Iterable[str], expected: int) -> str:
    """Return the state of a command by the last answer of each subscriber; ``expected`` is how many must answer.

    Examples
    --------
    >>> settled("sent", ["completed", "accepted"], 2), settled("sent", ["completed", "rejected"], 2)
    ('accepted', 'rejected')
    >>> settled("accepted", ["completed"], 2), settled("accepted", ["completed"], 1)
    ('accepted', 'completed')
    """
    found = list(answers)
    for worst in ("rejected", "unknown", "partial"):
        if worst in found:
            return worst
    if len(found) >= expected and all(answer == "completed" for answer in found):
        return "completed"
    return "accepted" if len(found) >= expected or state == "accepted" else state


class Loop:
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
        found = (c for c in self.commands.values() if c["slot"] == slot and c["state"] in OPEN)
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

    def hear(self, id: str, subscriber: str, outcome: str, evidence: str, now_us: int) -> list[Change]:
        """Take an answer; return what it changed. Answers to unknown commands and of strangers change nothing."""
        command = self.commands.get(id)
        if command is None or (self._expected and subscriber not in self._expected):
            return []
        answers = command["answers"]
        before = answers.get(subscriber)
        if before == outcome or (before is not None and RANK[outcome] < RANK[before] and outcome == "accepted"):
            return []
        if before in ("completed", "rejected"):
            return [self._contradict(command, evidence)]
        if len(answers) < TOLD_MAX:
            answers[subscriber] = outcome
        return self._settle(command, evidence, now_us)

    def contradict(self, id: str, evidence: str) -> Change:
        """Take it that what a subscriber said it completed is not so."""
        return self._contradict(self.commands[id], evidence)

    def watched(self) -> list[dict[str, Any]]:
        """Return the commands that are held against what is seen: completed ones, and trades while they are made."""
        return [
            command
            for command in self.commands.values()
            if command["state"] == "completed" or (command["kind"] in TRADES and command["state"] in BEGUN)
        ]

    def close(self, target: str) -> None:
        """Forget the commands to a target: a person has taken over."""
        for id in [id for id, command in self.commands.items() if command["target"] == target]:
            del self.commands[id]

    def advance(self, now_us: int) -> list[Change]:
        """Return the deadlines that have passed; forget commands that are over."""
        found = []
        for id, command in list(self.commands.items()):
            found += self._overdue(command, now_us)
            over = command["state"] not in (*OPEN, "completed")
            if over or (command["state"] == "completed" and now_us >= command["end_us"]):
                del self.commands[id]
        self._set_due()
        return found

    def _settle(self, command: dict[str, Any], evidence: str, now_us: int) -> list[Change]:
        before = command["state"]
        state = settled(before, command["answers"].values(), max(len(self._expected), 1))
        command["state"] = state
        if state == before:
            return []
        if state == "completed":
            command["end_us"] = now_us + self._after_us["verify_s"]
            self.due_us = min(self.due_us, command["end_us"])
        elif state == "rejected":
            del self.commands[command["id"]]
        return [Change(state, command, evidence)]

    def _contradict(self, command: dict[str, Any], evidence: str) -> Change:
        command["state"] = "contradicted"
        del self.commands[command["id"]]
        return Change("contradicted", command, evidence)

    def _overdue(self, command: dict[str, Any], now_us: int) -> list[Change]:
        found: list[Change] = []
        if command["state"] not in OPEN:
            return found
        who = [name for name in self._expected or [ANYONE] if name not in command["answers"]]
        unanswered = bool(who) and (bool(self._expected) or not command["answers"])
        if command["answer_us"] <= now_us:
            command["answer_us"] = NEVER_US
            if unanswered:
                found.append(Change("silent", command, f"deadline:{','.join(who)[:80]}"))
        if command["done_us"] <= now_us:
            command["done_us"] = NEVER_US
            found.append(Change("late", command, "deadline:complete"))
        if command["end_us"] <= now_us:
            command["state"] = "expired"
            found.append(Change("expired", command, "deadline:expiry"))
        return found

    def _set_due(self) -> None:
        names = ("answer_us", "done_us", "end_us")
        self.due_us = min([NEVER_US, *(command[name] for command in self.commands.values() for name in names
                                       if command["state"] in OPEN or name == "end_us")])  # fmt: skip

    def snapshot(self) -> list[dict[str, Any]]:
        """Return the open commands as plain values."""
        return list(self.commands.values())

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Take over what ``snapshot`` returned."""
        self.commands = {command["id"]: command for command in state}
        self._set_due()
