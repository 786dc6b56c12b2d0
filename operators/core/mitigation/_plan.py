"""Mitigation of one writer: ``step(measures, events, breaches) -> Outputs``, the commands for a slice or second."""

from collections.abc import Callable
from typing import Any

import orjson

from seawall.operators.core.base import (
    Breaches,
    Decision,
    Events,
    ExternalEvent,
    FillCauses,
    Measures,
    Outputs,
    RecordNumbering,
    pack,
    unpack,
)
from seawall.operators.core.limits import LEVELS, Policy
from seawall.operators.core.mitigation._command_tracking import CommandChange, CommandTracker, contradictions
from seawall.operators.core.mitigation._control import (
    UNBOUNDED,
    CommandBudget,
    SeverityLadder,
    choose_commands,
    doubtful_reason,
    reserved_reason,
    slot_of,
    with_computation,
)
from seawall.operators.core.mitigation._funds import collateral_by_terms, diversify_funds, withdrawable_funds
from seawall.operators.core.mitigation._payload import (
    fit_payload,
    payload_of,
    sha256_hex,
    shadowed_record,
    valid_for_us,
    withheld_record,
)
from seawall.operators.core.mitigation._requests import ComputationRequest, ComputationResult
from seawall.operators.core.mitigation._sizes import haircut_setting, limit_setting, trade_size
from seawall.operators.core.mitigation._triggers import (
    NEVER_US,
    CommandCandidate,
    TriggerEvent,
    Triggers,
    resolve_targets,
)
from seawall.operators.core.mitigation._venue_routing import VenueHealth, reroute_orders
from seawall.schemas.configuration import VENUE_STATES
from seawall.schemas.errors import invariant
from seawall.schemas.evidence import COMMAND_BYTES_MAX
from seawall.schemas.records import Record

# Computed actions: the action of a command whose rule says ``compute``, from the measures alone.
#
# Each returns the action, the plan for the evidence, and its size; or why it cannot be worked out, which withholds the
# command: a person sees what was asked for and decides.


def compute_action(requested: ComputationRequest) -> ComputationResult:
    """Work out the action of a command."""
    return _COMPUTATIONS[requested.command["kind"], requested.command["compute"]](requested)


_COMPUTATIONS: dict[tuple[str, str], Callable[[ComputationRequest], ComputationResult]] = {
    ("REDUCE_POSITION", "position"): trade_size,
    ("HEDGE", "position"): trade_size,
    ("CALL_MARGIN", "csa"): collateral_by_terms,
    ("RECALL_COLLATERAL", "csa"): collateral_by_terms,
    ("WITHDRAW_FUNDS", "headroom"): withdrawable_funds,
    ("REROUTE", "weights"): reroute_orders,
    ("REROUTE", "diversify"): diversify_funds,
    ("SET_LIMIT", "ratio"): limit_setting,
    ("SET_HAIRCUT", "volatility"): haircut_setting,
}


# Rule evaluation: what rules ask for because of breaches, news and answers to commands.
#
# A breach that rises over several levels at once is heard at each of them, the lower first. A level or a venue's status
# that is left ends the conditions that stood on it. What venues say also goes to `VenueHealth`, which may say more.

# The one rule that is built in: what nothing values may only be reduced.
UNVALUED_RULE: dict[str, Any] = {
    "id": "unvalued_position",
    "when": {"limit": "unvalued_position", "level": "hard"},
    "commands": [{"kind": "REDUCE_ONLY", "target": "account"}],
}
EVENT_SCOPES = {"venue_status": "venue", "notice": "notice"}  # of news that names its subject without saying what it is


class RuleEvaluation:
    """The rules of one writer, what holds of their conditions, and how venues are."""

    def __init__(self) -> None:
        self.triggers, self.venues = Triggers([]), VenueHealth()
        self._configuration: dict[str, Any] = {}

    def configure(self, configuration: dict[str, Any]) -> None:
        """Take the rules of a configuration; what rules of the same name had heard stays heard."""
        kept, before = self.triggers.snapshot(), self.triggers.rules
        self._configuration = configuration
        self.triggers = Triggers([*configuration["playbook"]["rules"], UNVALUED_RULE])
        self.triggers.restore(kept, before)
        self.venues.configure(configuration["playbook"].get("response", {}))

    def breaches(self, breaches: Breaches, measures: Measures) -> list[CommandCandidate]:
        """Return what rules ask for because levels of limits changed."""
        found: list[CommandCandidate] = []
        for breach, record in zip(breaches.values, breaches.records, strict=True):
            before, level = LEVELS.index(breach["previous_level"]), LEVELS.index(breach["level"])
            for left in range(level + 1, before + 1):
                self.triggers.end(("limit", breach["limit"], LEVELS[left]), breach["scope"])
            for risen in range(before + 1, level + 1):
                key = ("limit", breach["limit"], LEVELS[risen])
                evidence = {"topic": "breaches", "id": record.id, "sha256": sha256_hex(record.value)}
                doubted = risen > LEVELS.index(breach.get("certain", breach["level"]))
                judged = {**breach, "doubted": True} if doubted else breach
                found += self._on_trigger(TriggerEvent(key, breach["scope"], evidence, judged), measures)
        return found

    def news(self, news: ExternalEvent, measures: Measures) -> list[CommandCandidate]:
        """Return what rules ask for because of a status, a notice, an alert or a fill."""
        reported = self.venues.hear(news, measures.moment.as_of_us)
        return [candidate for one in (news, *reported) for candidate in self._news(one, measures)]

    def changes(self, changes: list[CommandChange], measures: Measures) -> list[CommandCandidate]:
        """Return what rules ask for because of what became of commands."""
        found: list[CommandCandidate] = []
        for what, command, _ in changes:
            why = {"topic": "commands", "id": command["id"]}
            trigger = TriggerEvent(("acknowledgement", what), command["target"], why, None, None, command["rule"])
            found += self._on_trigger(trigger, measures)
        return found

    def due(self, measures: Measures) -> list[CommandCandidate]:
        """Return what rules ask for because time has passed."""
        found: list[CommandCandidate] = []
        if measures.moment.as_of_us >= self.venues.due_us:
            for news in self.venues.advance(measures.moment.as_of_us):
                found += self._news(news, measures)
        if measures.moment.as_of_us >= self.triggers.due_us:
            found += self.triggers.advance(measures.moment.as_of_us)
        return found

    def _news(self, news: ExternalEvent, measures: Measures) -> list[CommandCandidate]:
        scope = f"{EVENT_SCOPES[news.kind]}:{news.subject}" if news.kind in EVENT_SCOPES else news.subject
        for status in VENUE_STATES if news.kind == "venue_status" else ():
            if status != news.state:
                self.triggers.end((news.kind, status), scope)
        return self._on_trigger(
            TriggerEvent((news.kind, news.state), scope, {"id": news.evidence}, None, news), measures
        )

    def _on_trigger(self, trigger: TriggerEvent, measures: Measures) -> list[CommandCandidate]:
        def targets(kind: str, scope: str, news: ExternalEvent | None) -> list[str]:
            return resolve_targets(kind, scope, measures, news, self._configuration)

        return self.triggers.hear(trigger, measures.moment.as_of_us, targets)

    def snapshot(self) -> list[Any]:
        """Return the state as plain values."""
        return [self.triggers.snapshot(), self.venues.snapshot()]

    def restore(self, state: list[Any]) -> None:
        """Take over what ``snapshot`` returned."""
        self.triggers.restore(state[0])
        self.venues.restore(state[1])


# Planning: the step of one writer, from what was found in a slice to the commands for it.
#
# 1. What is heard fires rules (`RuleEvaluation`): a breach that rises to a level, a venue's status, a notice,
#    an alert, a fill that a venue forced, an answer to a command (`CommandTracker`), and time.
# 2. Of what rules ask for, what may be given is chosen (`choose_commands`), unless the playbook states no terms.
# 3. What is not a machine's to give is withheld, and the audit says why (`reserved_reason`).
# 4. Of the rest only what is more than what stands is given (`SeverityLadder`), within the rate budget. A rule with
#    ``shadow``, or all with ``dry_run``, are decided and audited and not given.
#
# A target has one writer: accounts, netting sets and counterparties their shard, everything wider the key ``all``.

SCHEMA = "mitigation/3"
TOO_LARGE = "what it says does not fit into a command"


class MitigationState:
    """The mitigation operator of one key: ``step(measures, events, breaches) -> Outputs``.

    Attributes
    ----------
    due_us
        When something is to be decided by time alone; without breaches and events before it no step is needed.
    watches
        Whether fills are held against commands, so that a slice with any is to be looked at.
    """

    def __init__(self, key: str, partition: int, playbook: dict[str, Any] | None = None) -> None:
        self.key = key
        self.numbering = RecordNumbering(partition)
        self.configuration: dict[str, Any] = {}
        self.response: dict[str, Any] = {}
        self.hearing, self.loop, self.budget = RuleEvaluation(), CommandTracker(), CommandBudget()
        self.ladder, self.policy = SeverityLadder(), Policy()
        self._playbook = playbook
        self._amended = False  # whether documents say more of the limits than the configuration
        self._limits: dict[str, dict[str, Any]] | None = None  # in force, made when a command asks
        self._decisions: list[Decision] = []
        self._releases: list[bytes] = []
        self._ends: dict[str, int] = {}  # until when what has another try in this step may wait, by slot
        self.due_us, self.watches = NEVER_US, False

    def step(self, measures: Measures, events: Events, breaches: Breaches) -> Outputs:
        """Plan the commands of one slice or second."""
        commands: list[Record] = []
        for candidate in self._candidates(measures, events, breaches):
            record = self._command(candidate, measures, len(commands))
            if record is not None:
                commands.append(record)
        self._set_due()
        records = {"commands": commands} if commands else {}
        return Outputs(measures.moment, records, self._decisions, self._releases)

    def recall(
        self, measures: Measures, events: Events, breaches: Breaches, given: list[dict[str, Any]]
    ) -> list[bytes]:
        """Hear what a slice held that an earlier version decided, and take its commands as given; return releases.

        What is in shadow is planned anew. What the rules ask for beyond what was given waits where the budget is spent,
        and is else not given.
        """
        found, now_us = self._candidates(measures, events, breaches), measures.moment.as_of_us
        slots = {self._take_given(payload, now_us) for payload in given}
        for candidate in found:
            rule, slot = self.hearing.triggers.rules[candidate.rule], self._slot(candidate)
            bounded = rule["commands"][candidate.at]["kind"] not in UNBOUNDED
            if rule.get("shadow", False) or self.response.get("mode") == "dry_run":
                self._command(candidate, measures, 0)
            elif slot not in slots and bounded and self.budget.is_spent(now_us):
                self._wait(slot, candidate, self._ends.get(slot, now_us + valid_for_us(rule)), self._in_force(now_us))
        self._set_due()
        return self._releases

    def _take_given(self, payload: dict[str, Any], now_us: int) -> str:
        """Take a command that stands as given; return its slot."""
        command = {"kind": payload["type"], **payload["action"]}
        kind, name = payload["target"]["scope"], payload["target"]["id"]
        target = kind if kind == "firm" else f"{kind}:{name}"
        slot, bounded, limits = slot_of(command, target), bool(self.response), self._in_force(now_us)
        rule = next(one for one in self.hearing.triggers.rules if one["id"] == payload["reason"]["rule"])
        for at, one in enumerate(rule["commands"]):
            if (one["kind"], one["target"]) == (payload["type"], kind) and slot_of(one, target) == slot:
                self.ladder.fire(rule, at, target, now_us)
        self.budget.allows(payload["type"], now_us)
        self.ladder.give(payload, command, slot, target, limits, bounded)
        if bounded:
            self.loop.issue(payload, slot, target, rule, now_us, valid_for_us(rule))
        return slot

    def _candidates(self, measures: Measures, events: Events, breaches: Breaches) -> list[CommandCandidate]:
        """Return what rules ask for because of one slice or second."""
        self._decisions, self._releases, self._limits, self._ends = [], [], None, {}
        if events.configuration is not None:
            self._configure(self._with_playbook(events.configuration))
        for document in events.limit_documents:
            self.policy.apply(document, measures.moment.as_of_us)
            self._amended = True
        found = self.hearing.breaches(breaches, measures) if breaches.values else []
        for external in events.external:
            found += self._news(external, measures)
        found += self.hearing.due(measures)
        return self._watched(found, measures, events.causes) if self.response else found

    def _set_due(self) -> None:
        self.due_us = min(self.hearing.venues.due_us, self.hearing.triggers.due_us)
        self.watches = bool(self.response and self.loop.commands)
        if self.response:
            self.due_us = min(self.due_us, self.loop.due_us, self.budget.due_us)

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
            self._decisions.append(
                withheld_record(candidate, before[candidate.rule], "the new playbook does not ask for it")
            )
        self.policy.configure(configuration["limits"])
        self._amended = self._amended and bool(configuration["limits"].get("documents"))
        self.loop.configure(self.response)
        self.budget.configure(self.response)

    # --- what is heard ----------------------------------------------------------------------------------------------

    def _news(self, news: ExternalEvent, measures: Measures) -> list[CommandCandidate]:
        """Return what rules ask for because of one piece of news."""
        if news.kind == "release":
            self._release(news)
            return []
        if news.kind == "acknowledgement":
            subscriber = news.evidence.split(":")[1]
            changes = self.loop.hear(news.subject, subscriber, news.state, news.evidence, measures.moment.as_of_us)
            return self._changed(changes, measures)
        return self.hearing.news(news, measures)

    def _release(self, news: ExternalEvent) -> None:
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

    def _changed(self, changes: list[CommandChange], measures: Measures) -> list[CommandCandidate]:
        """Return what rules ask for because of what became of commands; the audit hears of it."""
        for what, command, evidence in changes:
            body = {"command_id": command["id"], "kind": command["kind"], "target": command["target"], "state": what}
            self._decisions.append(Decision("command_state", {**body, "evidence": evidence}))
        return self.hearing.changes(changes, measures)

    def _watched(
        self, found: list[CommandCandidate], measures: Measures, causes: FillCauses | None
    ) -> list[CommandCandidate]:
        """Add what time and contradictions ask for, and what waited; return what stays of all of it."""
        now_us = measures.moment.as_of_us
        if self.loop.commands and (causes is not None or now_us >= self.loop.due_us):
            changes = [self.loop.contradict(*one) for one in contradictions(self.loop.watched(), measures, causes)]
            found = found + self._changed(changes, measures)
        if now_us >= self.loop.due_us:
            found = found + self._changed(self.loop.advance(now_us), measures)
        if now_us >= self.budget.due_us:
            again, gone = self.budget.take(now_us)
            requested = {self._slot(candidate) for candidate in found}
            self._ends = {slot: end_us for slot, (end_us, _) in again.items() if slot not in requested}
            found = [candidate for _, candidate in again.values()] + found
            for candidate in gone:
                self._withhold(candidate, "it waited for the rate budget for longer than it is valid")
        return choose_commands(found, self.hearing.triggers.rules, self._in_force(now_us)) if len(found) > 1 else found

    # --- what is given ----------------------------------------------------------------------------------------------

    def _in_force(self, now_us: int) -> dict[str, dict[str, Any]]:
        """Return the limits in force by id."""
        if self._limits is None:
            self._limits = {limit["id"]: limit for limit, _ in self.policy.in_force(now_us)[0]}
        return self._limits

    def _slot(self, candidate: CommandCandidate) -> str:
        return slot_of(self.hearing.triggers.rules[candidate.rule]["commands"][candidate.at], candidate.target)

    def _command(self, candidate: CommandCandidate, measures: Measures, at: int) -> Record | None:
        """Return the record of one command; None where it is not given."""
        rule, now_us = self.hearing.triggers.rules[candidate.rule], measures.moment.as_of_us
        command, limits = rule["commands"][candidate.at], self._in_force(now_us)
        computed = self._computed(candidate, command, measures) if "compute" in command else None
        why = doubtful_reason(candidate.breach, command, measures)
        why = why or reserved_reason(candidate, command, measures, computed, self.response, limits)
        if why:
            self._withhold(candidate, why, computed)
            return None
        in_shadow = rule.get("shadow", False) or self.response.get("mode") == "dry_run"
        target = f"shadow {candidate.target}" if in_shadow else candidate.target
        reported, slot, bounded = with_computation(command, computed), slot_of(command, target), bool(self.response)
        if not self.ladder.admits(reported, slot, target, limits, bounded):
            return None
        if self.ladder.cools(rule, candidate.at, target, now_us):
            return None
        if not in_shadow and not self.budget.allows(command["kind"], now_us):
            self._wait(slot, candidate, self._ends.get(slot, now_us + valid_for_us(rule)), limits)
            return None
        payload = payload_of(candidate, rule, measures, self.configuration, self.ladder.chain(target), computed, limits)
        given = payload if in_shadow else fit_payload(payload)
        if given is None:
            self._withhold(candidate, TOO_LARGE, computed)
            return None
        self.ladder.fire(rule, candidate.at, target, now_us)
        self.ladder.give(given, reported, slot, target, limits, bounded)
        if in_shadow:
            self._decisions.append(shadowed_record(given, candidate.target))
            return None
        if bounded:
            given["supersedes"] = self.loop.issue(given, slot, target, rule, now_us, valid_for_us(rule))
        return self._record(given, measures, at, target)

    def _record(self, payload: dict[str, Any], measures: Measures, at: int, target: str) -> Record:
        value = orjson.dumps(payload)
        invariant(len(value) <= COMMAND_BYTES_MAX, f"a command exceeds {COMMAND_BYTES_MAX} bytes")
        return self.numbering.record("commands", measures.moment.seq, at, target, value)

    def _computed(self, candidate: CommandCandidate, command: dict[str, Any], measures: Measures) -> ComputationResult:
        ill = self.hearing.venues.states(measures.moment.as_of_us)
        ill |= dict.fromkeys(self.ladder.standing("venue"), "halted")
        limits, configuration = self._in_force(measures.moment.as_of_us), self.configuration
        stale_us = int(float(configuration.get("mark_max_age_s", 60)) * 1_000_000)
        currency = configuration["reporting_currency"]
        return compute_action(
            ComputationRequest(command, candidate, measures, limits, ill, currency, measures.moment.as_of_us - stale_us)
        )

    def _wait(self, slot: str, candidate: CommandCandidate, end_us: int, limits: dict[str, dict[str, Any]]) -> None:
        """Let a command wait for the budget; of two for one slot the safer does."""
        before = self.budget.waiting.get(slot)
        kept = (
            candidate
            if before is None
            else choose_commands([candidate, before[1]], self.hearing.triggers.rules, limits)[0]
        )
        if not self.budget.wait(slot, candidate, end_us, kept is candidate):
            self._withhold(candidate, "the rate budget is used up and too many commands wait for it")

    def _withhold(self, candidate: CommandCandidate, why: str, computed: ComputationResult | None = None) -> None:
        """Tell the audit of a command that is not given; with what was worked out for a person."""
        self._decisions.append(withheld_record(candidate, self.hearing.triggers.rules[candidate.rule], why, computed))

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
        self._set_due()
        return self
