"""Lint of playbooks: rules that cannot fire, contradict each other, or lead nowhere.

- *unreachable*: no writer both hears the rule's conditions and may give its commands; the limit lacks the level; a wait
  is longer than what it waits for counts.
- *fights*: the same trigger asks one target for two strictnesses of the same thing, or to trade in what it halts.
- *no way out*: a command of which silence, refusal or contradiction is heard by no rule; a rule that answers its own
  answers at once.
"""

from itertools import combinations
from typing import Any, NamedTuple

from seawall.operators.core.mitigation._control import MODE_RANKS, TRADING, slot_of, strictness
from seawall.operators.core.mitigation._triggers import LASTING_CONDITIONS, condition_key
from seawall.schemas.configuration import conditions_of
from seawall.schemas.measures import SHARD_SCOPES

MUST_BE_HEARD = ("silent", "rejected", "contradicted")
BELOW_VENUE = frozenset(SHARD_SCOPES)
ALWAYS_HEARD = ("venue_status", "notice", "alert", "feed", "fill")
Rule = dict[str, Any]


class PlaybookFault(NamedTuple):
    """One finding: its rule of the playbook, what kind it is of, and what to do."""

    rule: str
    kind: str
    text: str


def playbook_faults(
    rules: list[Rule], response: dict[str, Any], limits: list[dict[str, Any]] | None = None
) -> list[PlaybookFault]:
    """Return what is wrong with a playbook, rule by rule; ``limits`` are those that it will run with, if known."""
    found: list[PlaybookFault] = []
    known = None if limits is None else {limit["id"]: limit for limit in limits}
    for rule in rules:
        found += _unreachable(rule, rules, known)
    for one, other in combinations(rules, 2):
        found += _conflicts(one, other)
    for rule in rules:
        found += _rule_conflicts(rule)
        found += _no_way_out(rule, rules, response)
    return found


# --- unreachable ------------------------------------------------------------------------------------------------------


def _unreachable(rule: Rule, rules: list[Rule], limits: dict[str, Any] | None) -> list[PlaybookFault]:
    found = []
    for condition in conditions_of(rule):
        limit = None if limits is None else limits.get(condition.get("limit", ""))
        if limit is not None and condition["level"] not in limit:
            text = f"the limit {limit['id']} has no level {condition['level']}; name one that it has"
            found.append(PlaybookFault(rule["id"], "unreachable", text))
    for command in rule["commands"]:
        if not _reaches(rule, command, rules, limits):
            text = (
                f"{command['kind']} to {command['target']}: whoever may give it does not hear what the rule waits for"
            )
            found.append(PlaybookFault(rule["id"], "unreachable", text))
    within_s, dwell_s = rule["when"].get("within_s", 60), rule.get("dwell_s", 0)
    passing = [condition for condition in conditions_of(rule) if condition_key(condition)[0] not in LASTING_CONDITIONS]
    if passing and dwell_s > within_s:
        text = f"it waits for {dwell_s} s, but what it waits for counts for {within_s} s; lengthen within_s"
        found.append(PlaybookFault(rule["id"], "unreachable", text))
    return found


def _reaches(rule: Rule, command: dict[str, Any], rules: list[Rule], limits: dict[str, Any] | None) -> bool:
    wide = command["target"] not in BELOW_VENUE
    observed = [_is_observed(condition, wide, command["target"], rules, limits) for condition in conditions_of(rule)]
    return all(observed) if "all" in rule["when"] else any(observed)


def _is_observed(
    condition: dict[str, Any], wide: bool, target: str, rules: list[Rule], limits: dict[str, Any] | None
) -> bool:
    """Tell whether the writer of a target can hear a condition about it."""
    if any(name in condition for name in ALWAYS_HEARD):
        return True
    if "acknowledgement" in condition:
        matching = [rule for rule in rules if condition.get("rule") in (None, rule["id"])]
        targets = {command["target"] for rule in matching for command in rule["commands"]}
        return any((one not in SHARD_SCOPES) == wide and (not wide or target in (one, "firm")) for one in targets)
    limit = None if limits is None else limits.get(condition["limit"])
    if limit is None:
        return True  # not known, or default-deny
    scope = limit["scope"].partition(":")[0]
    if condition.get("anywhere"):
        return (scope not in SHARD_SCOPES) == wide
    return (target in (scope, "firm") and scope not in SHARD_SCOPES) if wide else scope in SHARD_SCOPES


# --- fights -----------------------------------------------------------------------------------------------------------


def _conflicts(one: Rule, other: Rule) -> list[PlaybookFault]:
    """Return where two rules with a trigger in common ask one target for different things."""
    shared = {_trigger(c) for c in conditions_of(one)} & {_trigger(c) for c in conditions_of(other)}
    later = one.get("dwell_s", 0) != other.get("dwell_s", 0)  # a ladder: first the one, then the other
    if not shared or later or "all" in one["when"] or "all" in other["when"]:
        return []
    found = []
    for mine in one["commands"]:
        for theirs in other["commands"]:
            found += _clash(other["id"], mine, theirs, f"{one['id']} asks the same target for")
    return found


def _rule_conflicts(rule: Rule) -> list[PlaybookFault]:
    pairs = combinations(rule["commands"], 2)
    return [
        fault for one, other in pairs for fault in _clash(rule["id"], one, other, "it also asks the same target for")
    ]


def _clash(rule: str, one: dict[str, Any], other: dict[str, Any], head: str) -> list[PlaybookFault]:
    if one["target"] != other["target"]:
        return []
    kinds = {one["kind"], other["kind"]}
    if kinds & TRADING and any(MODE_RANKS.get(kind, 0) == 2 for kind in kinds):
        return [
            PlaybookFault(rule, "fights", f"{head} {one['kind']}: nothing trades in what is halted; keep one of them")
        ]
    same = slot_of(one, "x") == slot_of(other, "x") and strictness(one) != strictness(other)
    if same:
        return [PlaybookFault(rule, "fights", f"{head} {one['kind']}: only the stricter is given; keep that")]
    return []


def _trigger(condition: dict[str, Any]) -> tuple[Any, ...]:
    return (condition_key(condition), condition.get("scope"), condition.get("rule"))


# --- no way out -------------------------------------------------------------------------------------------------------


def _no_way_out(rule: Rule, rules: list[Rule], response: dict[str, Any]) -> list[PlaybookFault]:
    if not response or rule.get("shadow"):
        return []
    answered = [condition for condition in conditions_of(rule) if "acknowledgement" in condition]
    if answered:
        own = [c for c in answered if c.get("rule") in (None, rule["id"])]
        if own and not rule["cooldown_s"] and not all(command["kind"] in MODE_RANKS for command in rule["commands"]):
            text = "it answers its own commands' answers at once, without end; add cooldown_s"
            return [PlaybookFault(rule["id"], "no way out", text)]
        return []
    observed = {
        condition["acknowledgement"]
        for other in rules
        for condition in conditions_of(other)
        if "acknowledgement" in condition and condition.get("rule") in (None, rule["id"]) and not other.get("shadow")
    }
    missing = [name for name in MUST_BE_HEARD if name not in observed]
    if not missing or all(command.get("human") for command in rule["commands"]):
        return []
    text = f"no rule hears that its commands are {', '.join(missing)}; add one, when = {{ acknowledgement = … }}"
    return [PlaybookFault(rule["id"], "no way out", text)]
