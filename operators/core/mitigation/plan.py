"""Planning: the step of one writer, from an enforced frame to the commands for it.

1. What is heard fires rules (``triggers``): a breach that rises to a level (a jump over one counts), a venue's status,
   a notice, an alert, a fill that a venue forced, an answer to a command (``loop``), and time.
2. Of what rules ask for, what may be given is chosen (``control``), unless the playbook states no terms.
3. A target stands at ``active``, ``reducing`` or ``halted`` and no command of a playbook ever moves it back: release is
   a human's (DESIGN §5), a REINSTATE that people signed and that is journaled. Within ``cooldown_s`` a rule says
   nothing to a target twice.
4. What may not be given is withheld, and the audit says why: trading in our own books because of prices alone, ever;
   with ``[response]`` any trading in our own books, what a rule reserves for people, and sizes above ``human_above``.
   A rule with ``shadow``, or all with ``dry_run``, are decided and audited and not given.

A target has one writer: accounts, netting sets and counterparties their shard, everything wider the key ``all``.
"""

from typing import Any

import orjson

from seawall.operators.core.frames import Decision, Enforced, Frame, News, Planned
from seawall.operators.core.limit_rules import LEVELS
from seawall.operators.core.mitigation.compute import Asked, Computed, compute
from seawall.operators.core.mitigation.control import LADDER, TRADING, Budget, choose, slot_of, strictness
from seawall.operators.core.mitigation.loop import Change, Loop
from seawall.operators.core.mitigation.payload import expires_us, payload_of, sha256
from seawall.operators.core.mitigation.targets import WIDE_KEY, resolve
from seawall.operators.core.mitigation.triggers import Candidate, Heard, Triggers
from seawall.operators.core.mitigation.witness import contradictions
from seawall.operators.core.rows import Numbering
from seawall.operators.core.snapshot import pack, unpack
from seawall.schemas.errors import invariant
from seawall.schemas.records import Record

SCHEMA = "mitigation/2"
COMMAND_BYTES_MAX = 4096
VENUE_STATES = ("up", "degraded", "down", "withdrawals_blocked")


class MitigationState:
    """The mitigation operator of one key: ``step(enforced) -> Planned``."""

    def __init__(self, key: str, partition: int, playbook: dict[str, Any] | None = None) -> None:
        self.key = key
        self.numbering = Numbering(partition)
        self.configuration: dict[str, Any] = {}
        self.response: dict[str, Any] = {}
        self.triggers, self.loop, self.budget = Triggers([]), Loop(), Budget()
        self._playbook = playbook
        self._targets: dict[str, list[Any]] = {}  # target -> [seq, previous id, place on the ladder]
        self._fired: dict[str, int] = {}  # "rule target" -> when it fired last
        self._set: dict[str, float] = {}  # slot -> how strict what was set there is
        self._venues: dict[str, str] = {}  # venue -> its last status
        self._limits: dict[str, dict[str, Any]] = {}  # as configured, for what is computed
        self._decisions: list[Decision] = []
        self._releases: list[bytes] = []

    def step(self, enforced: Enforced) -> Planned:
        """Plan the commands of one frame."""
        frame = enforced.frame
        if frame.configuration is not None:
            self._configure(self._with_playbook(frame.configuration))
        self._decisions, self._releases = [], []
        found = self._heard(enforced, frame) if enforced.breaches or frame.news else []
        if frame.as_of_us >= self.triggers.due_us:
            found += self.triggers.advance(frame.as_of_us)
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
        return int(self._targets[target][2]) if target in self._targets else 0

    def places(self) -> dict[str, int]:
        """Return where every target that was ever commanded stands."""
        return {target: int(row[2]) for target, row in self._targets.items()}

    def _with_playbook(self, configuration: dict[str, Any]) -> dict[str, Any]:
        return configuration if self._playbook is None else {**configuration, "playbook": self._playbook}

    def _configure(self, configuration: dict[str, Any]) -> None:
        kept = self.triggers.snapshot()
        self.configuration = configuration
        self.response = configuration["playbook"].get("response", {})
        self.triggers = Triggers(configuration["playbook"]["rules"])
        self.triggers.restore(kept)
        self._limits = {limit["id"]: limit for limit in configuration["limits"]["limits"]}
        self.loop.configure(self.response)
        self.budget.configure(self.response)

    # --- what is heard ----------------------------------------------------------------------------------------------

    def _heard(self, enforced: Enforced, frame: Frame) -> list[Candidate]:
        """Return what rules ask for because of breaches and news."""
        found: list[Candidate] = []
        for breach, record in zip(enforced.breaches, enforced.records, strict=True):
            before, level = LEVELS.index(breach["previous_level"]), LEVELS.index(breach["level"])
            for left in range(level + 1, before + 1):
                self.triggers.end(("limit", breach["limit"], LEVELS[left]), breach["scope"])
            for risen in range(before + 1, level + 1):
                key = ("limit", breach["limit"], LEVELS[risen])
                evidence = {"topic": "breaches", "id": record.id, "sha256": sha256(record.value)}
                found += self._hear(Heard(key, breach["scope"], evidence, breach), frame)
        for news in frame.news:
            found += self._news(news, frame)
        return found

    def _release(self, news: News) -> None:
        """Take it that people released a target: from here on it may be restricted anew.

        Only a release of what stands counts, one that follows the last command to its target.
        """
        state = self._targets.get(news.subject)
        if state is None:
            return
        payload = orjson.loads(news.state)
        current = payload["seq"] > state[0]
        self._decisions.append(
            Decision(
                "release", {"target": news.subject, "id": payload["id"], "outcome": "released" if current else "stale"}
            )
        )
        if current:
            state[:] = [payload["seq"], payload["id"], 0]
            self.loop.close(news.subject)
            self._releases.append(news.state.encode())

    def _news(self, news: News, frame: Frame) -> list[Candidate]:
        if news.kind == "release":
            self._release(news)
            return []
        if news.kind == "acknowledgement":
            subscriber = news.evidence.split(":")[1]
            changes = self.loop.hear(news.subject, subscriber, news.state, news.evidence, frame.as_of_us)
            return self._changed(changes, frame)
        scope = news.subject if news.kind in ("alert", "fill") else f"{news.kind}:{news.subject}"
        if news.kind == "venue_status":
            self._venues[news.subject] = news.state
        for status in VENUE_STATES if news.kind == "venue_status" else ():
            if status != news.state:
                self.triggers.end((news.kind, status), scope)
        return self._hear(Heard((news.kind, news.state), scope, {"id": news.evidence}, None, news), frame)

    def _hear(self, heard: Heard, frame: Frame) -> list[Candidate]:
        def targets(kind: str, scope: str, news: News | None) -> list[str]:
            return resolve(kind, scope, frame, news, self.configuration)

        return self.triggers.hear(heard, frame.as_of_us, targets)

    def _changed(self, changes: list[Change], frame: Frame) -> list[Candidate]:
        """Return what rules ask for because of what became of commands; the audit hears of it."""
        found: list[Candidate] = []
        for what, command, evidence in changes:
            body = {"command_id": command["id"], "kind": command["kind"], "target": command["target"], "state": what}
            self._decisions.append(Decision("command_state", {**body, "evidence": evidence}))
            why = {"topic": "commands", "id": command["id"]}
            heard = Heard(("acknowledgement", what), command["target"], why, None, None, command["rule"])
            found += self._hear(heard, frame)
        return found

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
            found = again + found
            for candidate in gone:
                self._withhold(candidate, "it waited for the rate budget for longer than it is valid")
        return choose(found, self.triggers.rules)

    # --- what is given ----------------------------------------------------------------------------------------------

    def _command(self, candidate: Candidate, frame: Frame, at: int) -> Record | None:
        """Return the record of one command; None where it is not given."""
        rule = self.triggers.rules[candidate.rule]
        command = rule["commands"][candidate.at]
        computed = self._computed(candidate, command, frame) if "compute" in command else None
        why = self._reserved(candidate, command, frame, computed)
        if why:
            self._withhold(candidate, why, computed)
            return None
        shadow = rule.get("shadow", False) or self.response.get("mode") == "dry_run"
        target = f"shadow {candidate.target}" if shadow else candidate.target
        state = self._targets.setdefault(target, [0, None, 0])
        place = LADDER.get(command["kind"], 0)
        slot = slot_of(command, target)
        if (place and place <= state[2]) or self._looser(command, slot, state):
            return None
        if self._cools(rule, candidate, target, frame.as_of_us):
            return None
        if not shadow and not self.budget.allows(command["kind"], frame.as_of_us):
            self._wait(slot, candidate, frame.as_of_us + expires_us(rule))
            return None
        self._fired[f"{rule['id']} {candidate.at} {target}"] = frame.as_of_us
        payload = payload_of(candidate, rule, frame, self.configuration, state, computed)
        state[:] = [payload["seq"], payload["id"], max(place, state[2])]
        if self.response and command["kind"] in ("SET_LIMIT", "SET_HAIRCUT"):
            self._set[slot] = strictness(command)
        if shadow:
            self._decisions.append(Decision("shadowed", _shadowed(payload, candidate.target)))
            return None
        if self.response:
            before = self.loop.issue(
                payload["id"], command["kind"], target, slot, rule["id"], frame.as_of_us, expires_us(rule)
            )
            payload["supersedes"] = before
        return self._record(payload, frame, at, target)

    def _record(self, payload: dict[str, Any], frame: Frame, at: int, target: str) -> Record:
        value = orjson.dumps(payload)
        invariant(len(value) <= COMMAND_BYTES_MAX, f"a command exceeds {COMMAND_BYTES_MAX} bytes")
        return self.numbering.record("commands", frame.seq, at, target, value)

    def _computed(self, candidate: Candidate, command: dict[str, Any], frame: Frame) -> Computed:
        currency = self.configuration["reporting_currency"]
        return compute(Asked(command, candidate, frame, self._limits, self._venues, currency))

    def _reserved(self, candidate: Candidate, command: dict[str, Any], frame: Frame, computed: Computed | None) -> str:
        """Say why a command is not a machine's to give; empty where it is. Wide targets hold our own books."""
        ours = self.key == WIDE_KEY or candidate.target in frame.house
        if command["kind"] in TRADING and ours:
            if candidate.breach is not None and candidate.breach["cause"] == "passive":
                return "a passive breach never forces trading in our own books"
            if self.response:
                return "trading in our own books takes a person"
        elif command["kind"] in TRADING and self.response and candidate.target not in frame.closable:
            return "its terms do not let us close it out (close_out)"
        if command.get("human"):
            return "the playbook reserves it for a person"
        return "" if computed is None else computed.fault or self._too_large(command, computed)

    def _too_large(self, command: dict[str, Any], computed: Computed) -> str:
        bounds = [float(one) for one in (command.get("size_max"), self.response.get("human_above")) if one is not None]
        over = [bound for bound in bounds if computed.size > bound]
        return f"its size of {computed.size:.0f} is above {min(over):.0f}, which takes a person" if over else ""

    def _looser(self, command: dict[str, Any], slot: str, state: list[Any]) -> bool:
        """Tell whether a command would loosen what was set, or trade in what is halted."""
        if not self.response:
            return False
        if slot in self._set and strictness(command) < self._set[slot]:
            return True
        return command["kind"] in TRADING and state[2] >= 2

    def _cools(self, rule: dict[str, Any], candidate: Candidate, target: str, now_us: int) -> bool:
        last = self._fired.get(f"{rule['id']} {candidate.at} {target}")
        return last is not None and now_us - last < int(float(rule.get("cooldown_s", 0)) * 1_000_000)

    def _wait(self, slot: str, candidate: Candidate, end_us: int) -> None:
        if not self.budget.wait(slot, candidate, end_us):
            self._withhold(candidate, "the rate budget is used up and too many commands wait for it")

    def _withhold(self, candidate: Candidate, why: str, computed: Computed | None = None) -> None:
        """Tell the audit of a command that is not given; with what was worked out for a person."""
        rule = self.triggers.rules[candidate.rule]
        body = {"rule": rule["id"], "kind": rule["commands"][candidate.at]["kind"], "target": candidate.target}
        body |= {"breach": candidate.evidence["id"], "why": why}
        if computed is not None and computed.action:
            body |= {"action": computed.action}
        self._decisions.append(Decision("withheld", body))

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        state = {
            "key": self.key,
            "partition": self.numbering.partition,
            "counts": self.numbering.counts,
            "configuration": self.configuration,
            "targets": self._targets,
            "fired": self._fired,
            "set": self._set,
            "venues": self._venues,
            "kept": [self.triggers.snapshot(), self.loop.snapshot(), self.budget.snapshot()],
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
        self._targets, self._fired, self._set = state["targets"], state["fired"], state["set"]
        self._venues = state["venues"]
        triggers, loop, budget = state["kept"]
        self.triggers.restore(triggers)
        self.loop.restore(loop)
        self.budget.restore(budget)
        return self


def _shadowed(payload: dict[str, Any], target: str) -> dict[str, Any]:
    """Return what the audit hears of a command that was not given."""
    head = {"rule": payload["reason"]["rule"], "kind": payload["type"], "target": target}
    return {**head, "id": payload["id"], "action": payload["action"], "evidence": payload["evidence"]["id"]}
