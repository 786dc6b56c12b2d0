"""Planning: the step of one writer, from an enforced frame to the commands for it.

1. What is heard (``hearing``) fires rules (``triggers``): a breach that rises to a level, a venue's status, a notice,
   an alert, a fill that a venue forced, an answer to a command (``loop``), and time.
2. Of what rules ask for, what may be given is chosen (``control``), unless the playbook states no terms.
3. What is not a machine's to give is withheld, and the audit says why (``reserved``).
4. Of the rest only what is more than what stands is given (``ladder``), within the rate budget. A rule with ``shadow``,
   or all with ``dry_run``, are decided and audited and not given.

A target has one writer: accounts, netting sets and counterparties their shard, everything wider the key ``all``.
"""

from typing import Any

import orjson

from seawall.operators.core.frames import Decision, Enforced, Frame, News, Planned
from seawall.operators.core.mitigation.asked import Asked, Computed
from seawall.operators.core.mitigation.compute import compute
from seawall.operators.core.mitigation.control import Budget, choose, slot_of
from seawall.operators.core.mitigation.hearing import Hearing
from seawall.operators.core.mitigation.ladder import Ladder
from seawall.operators.core.mitigation.loop import Change, Loop
from seawall.operators.core.mitigation.payload import expires_us, fitted, payload_of, shadowed, withheld
from seawall.operators.core.mitigation.reserved import merged, reserved
from seawall.operators.core.mitigation.triggers import Candidate
from seawall.operators.core.mitigation.witness import contradictions
from seawall.operators.core.policy import Policy
from seawall.operators.core.rows import Numbering
from seawall.operators.core.snapshot import pack, unpack
from seawall.schemas.dsse import COMMAND_BYTES_MAX
from seawall.schemas.errors import invariant
from seawall.schemas.records import Record

SCHEMA = "mitigation/3"
TOO_LARGE = "what it says does not fit into a command"


class MitigationState:
    """The mitigation operator of one key: ``step(enforced) -> Planned``."""

    def __init__(self, key: str, partition: int, playbook: dict[str, Any] | None = None) -> None:
        self.key = key
        self.numbering = Numbering(partition)
        self.configuration: dict[str, Any] = {}
        self.response: dict[str, Any] = {}
        self.hearing, self.loop, self.budget = Hearing(), Loop(), Budget()
        self.ladder, self.policy = Ladder(), Policy()
        self._playbook = playbook
        self._amended = False  # whether documents say more of the limits than the configuration
        self._limits: dict[str, dict[str, Any]] | None = None  # in force, made when a command asks
        self._decisions: list[Decision] = []
        self._releases: list[bytes] = []
        self._ends: dict[str, int] = {}  # until when what has another try in this step may wait, by slot

    def step(self, enforced: Enforced) -> Planned:
        """Plan the commands of one frame."""
        frame = enforced.frame
        self._decisions, self._releases, self._limits, self._ends = [], [], None, {}
        if frame.configuration is not None:
            self._configure(self._with_playbook(frame.configuration))
        for document in frame.limit_documents:
            self.policy.apply(document, frame.as_of_us)
            self._amended = True
        found = self.hearing.breaches(enforced) if enforced.breaches else []
        for news in frame.news:
            found += self._news(news, frame)
        found += self.hearing.due(frame)
        if self.response:
            found = self._watched(found, frame)
        commands: list[Record] = []
        for candidate in found:
            record = self._command(candidate, frame, len(commands))
            if record is not None:
                commands.append(record)
        return Planned(enforced, commands, self._decisions, releases=self._releases)

    def place(self, target: str) -> int:
        """Return where a target stands: 0 active, 1 reducing, 2 halted."""
        return self.ladder.place(target)

    def places(self) -> dict[str, int]:
        """Return where every target that was ever commanded stands."""
        return self.ladder.places()

    def _with_playbook(self, configuration: dict[str, Any]) -> dict[str, Any]:
        return configuration if self._playbook is None else {**configuration, "playbook": self._playbook}

    def _configure(self, configuration: dict[str, Any]) -> None:
        self.configuration = configuration
        self.response = configuration["playbook"].get("response", {})
        before = self.hearing.triggers.rules
        self.hearing.configure(configuration)
        for candidate in self.budget.renumber(before, self.hearing.triggers.rules):
            self._decisions.append(withheld(candidate, before[candidate.rule], "the new playbook does not ask for it"))
        self.policy.configure(configuration["limits"])
        self._amended = self._amended and bool(configuration["limits"].get("documents"))
        self.loop.configure(self.response)
        self.budget.configure(self.response)

    # --- what is heard ----------------------------------------------------------------------------------------------

    def _news(self, news: News, frame: Frame) -> list[Candidate]:
        """Return what rules ask for because of one piece of news."""
        if news.kind == "release":
            self._release(news)
            return []
        if news.kind == "acknowledgement":
            subscriber = news.evidence.split(":")[1]
            changes = self.loop.hear(news.subject, subscriber, news.state, news.evidence, frame.as_of_us)
            return self._changed(changes, frame)
        return self.hearing.news(news, frame)

    def _release(self, news: News) -> None:
        """Take it that people released a target: from here on it may be restricted anew."""
        payload = orjson.loads(news.state)
        released = self.ladder.release(news.subject, payload["seq"], payload["id"])
        if released is None:
            return
        body = {"target": news.subject, "id": payload["id"], "outcome": "released" if released else "stale"}
        self._decisions.append(Decision("release", body))
        if released:
            self.loop.close(news.subject)
            self._releases.append(news.state.encode())

    def _changed(self, changes: list[Change], frame: Frame) -> list[Candidate]:
        """Return what rules ask for because of what became of commands; the audit hears of it."""
        for what, command, evidence in changes:
            body = {"command_id": command["id"], "kind": command["kind"], "target": command["target"], "state": what}
            self._decisions.append(Decision("command_state", {**body, "evidence": evidence}))
        return self.hearing.changes(changes, frame)

    def _watched(self, found: list[Candidate], frame: Frame) -> list[Candidate]:
        """Add what time and contradictions ask for, and what waited; return what stays of all of it."""
        now_us = frame.as_of_us
        if self.loop.commands and (frame.causes is not None or now_us >= self.loop.due_us):
            changes = [self.loop.contradict(*one) for one in contradictions(self.loop.watched(), frame)]
            found = found + self._changed(changes, frame)
        if now_us >= self.loop.due_us:
            found = found + self._changed(self.loop.advance(now_us), frame)
        if now_us >= self.budget.due_us:
            again, gone = self.budget.take(now_us)
            asked = {self._slot(candidate) for candidate in found}
            self._ends = {slot: end_us for slot, (end_us, _) in again.items() if slot not in asked}
            found = [candidate for _, candidate in again.values()] + found
            for candidate in gone:
                self._withhold(candidate, "it waited for the rate budget for longer than it is valid")
        return choose(found, self.hearing.triggers.rules, self._in_force(now_us)) if len(found) > 1 else found

    # --- what is given ----------------------------------------------------------------------------------------------

    def _in_force(self, now_us: int) -> dict[str, dict[str, Any]]:
        """Return the limits in force by id."""
        if self._limits is None:
            self._limits = {limit["id"]: limit for limit, _ in self.policy.in_force(now_us)[0]}
        return self._limits

    def _slot(self, candidate: Candidate) -> str:
        return slot_of(self.hearing.triggers.rules[candidate.rule]["commands"][candidate.at], candidate.target)

    def _command(self, candidate: Candidate, frame: Frame, at: int) -> Record | None:
        """Return the record of one command; None where it is not given."""
        rule, now_us = self.hearing.triggers.rules[candidate.rule], frame.as_of_us
        command, limits = rule["commands"][candidate.at], self._in_force(now_us)
        computed = self._computed(candidate, command, frame) if "compute" in command else None
        why = reserved(candidate, command, frame, computed, self.response, limits)
        if why:
            self._withhold(candidate, why, computed)
            return None
        in_shadow = rule.get("shadow", False) or self.response.get("mode") == "dry_run"
        target = f"shadow {candidate.target}" if in_shadow else candidate.target
        told, slot, bounded = merged(command, computed), slot_of(command, target), bool(self.response)
        if not self.ladder.admits(told, slot, target, limits, bounded):
            return None
        if self.ladder.cools(rule, candidate.at, target, now_us):
            return None
        if not in_shadow and not self.budget.allows(command["kind"], now_us):
            self._wait(slot, candidate, self._ends.get(slot, now_us + expires_us(rule)), limits)
            return None
        payload = payload_of(candidate, rule, frame, self.configuration, self.ladder.chain(target), computed, limits)
        given = payload if in_shadow else fitted(payload)
        if given is None:
            self._withhold(candidate, TOO_LARGE, computed)
            return None
        self.ladder.fire(rule, candidate.at, target, now_us)
        self.ladder.give(given, told, slot, target, limits, bounded)
        if in_shadow:
            self._decisions.append(shadowed(given, candidate.target))
            return None
        if bounded:
            given["supersedes"] = self.loop.issue(given, slot, target, rule, now_us, expires_us(rule))
        return self._record(given, frame, at, target)

    def _record(self, payload: dict[str, Any], frame: Frame, at: int, target: str) -> Record:
        value = orjson.dumps(payload)
        invariant(len(value) <= COMMAND_BYTES_MAX, f"a command exceeds {COMMAND_BYTES_MAX} bytes")
        return self.numbering.record("commands", frame.seq, at, target, value)

    def _computed(self, candidate: Candidate, command: dict[str, Any], frame: Frame) -> Computed:
        ill = self.hearing.venues.states(frame.as_of_us)
        ill |= dict.fromkeys(self.ladder.standing("venue"), "halted")
        limits, configuration = self._in_force(frame.as_of_us), self.configuration
        stale_us = int(float(configuration.get("mark_max_age_s", 60)) * 1_000_000)
        currency = configuration["reporting_currency"]
        return compute(Asked(command, candidate, frame, limits, ill, currency, frame.as_of_us - stale_us))

    def _wait(self, slot: str, candidate: Candidate, end_us: int, limits: dict[str, dict[str, Any]]) -> None:
        """Let a command wait for the budget; of two for one slot the safer does."""
        before = self.budget.waiting.get(slot)
        kept = candidate if before is None else choose([candidate, before[1]], self.hearing.triggers.rules, limits)[0]
        if not self.budget.wait(slot, candidate, end_us, kept is candidate):
            self._withhold(candidate, "the rate budget is used up and too many commands wait for it")

    def _withhold(self, candidate: Candidate, why: str, computed: Computed | None = None) -> None:
        """Tell the audit of a command that is not given; with what was worked out for a person."""
        self._decisions.append(withheld(candidate, self.hearing.triggers.rules[candidate.rule], why, computed))

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        state = {
            "key": self.key,
            "partition": self.numbering.partition,
            "counts": self.numbering.counts,
            "configuration": self.configuration,
            "kept": [part.snapshot() for part in (self.hearing, self.loop, self.budget, self.ladder)],
            "policy": self.policy.snapshot() if self._amended else None,
        }
        return pack(SCHEMA, state)

    @classmethod
    def restore(cls, data: bytes, playbook: dict[str, Any] | None = None) -> "MitigationState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(state["key"], state["partition"], playbook)
        self.numbering.counts = state["counts"]
        if state["configuration"]:
            self._configure(self._with_playbook(state["configuration"]))
        hearing, loop, budget, ladder = state["kept"]
        self.hearing.restore(hearing)
        self.loop.restore(loop)
        self.budget.restore(budget)
        self.ladder.restore(ladder)
        if state["policy"] is not None:
            self.policy.restore(state["policy"])
            self._amended = True
        return self
