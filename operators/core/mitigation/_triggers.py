"""Triggers: the rules of a playbook that fire, and their targets."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from seawall.operators.core.base import ExternalEvent, Measures
from seawall.operators.core.holdings import shard_of
from seawall.schemas.configuration import FEEDS, conditions_of
from seawall.schemas.measures import SHARD_SCOPES

# Targets: which accounts, sets, parties and wider scopes a trigger stands for.
#
# A target has one writer (architecture.md, "Evidence"): accounts, netting sets and counterparties their shard,
# everything wider the key ``all``, which never addresses those three.

FIRM_WRITER = "all"


def resolve_targets(
    kind: str, scope: str, measures: Measures, news: ExternalEvent | None, configuration: dict[str, Any]
) -> list[str]:
    """Return the targets of one kind that a scope stands for, of those that the writer of a slice may address."""
    if (kind in SHARD_SCOPES) == (measures.moment.key == FIRM_WRITER):
        return []
    name = scope.partition(":")[2]
    if kind == "firm":
        return ["firm"]
    if kind == "strategy" and not scope.startswith("strategy:"):
        return _strategies(scope, name, measures, news)
    if measures.moment.key == FIRM_WRITER:
        return _firm_target(kind, scope, name, measures, news)
    if news is not None and news.kind in ("venue_status", "notice"):
        subject = f"venue:{name}" if news.kind == "venue_status" else f"counterparty:{name}"
        if kind == "counterparty":
            mine = shard_of(name, configuration["shards"]) == measures.moment.partition
            return [f"counterparty:{name}"] if mine else []
        return member_scopes(kind, subject, measures)
    if scope.startswith(f"{kind}:"):
        return [scope]
    return member_scopes(kind, scope, measures)


def _firm_target(kind: str, scope: str, name: str, measures: Measures, news: ExternalEvent | None) -> list[str]:
    """Return the target across shards: the scope itself, the venue of a status, what a notice is about."""
    if news is None or news.kind not in ("venue_status", "notice"):
        return [scope] if scope.startswith(f"{kind}:") else []
    if news.kind == "venue_status":
        return [f"venue:{name}"] if kind == "venue" else []
    table = measures.tables.get(kind)
    return [f"{kind}:{name}"] if table is not None and name in table.names else []


def _strategies(scope: str, name: str, measures: Measures, news: ExternalEvent | None) -> list[str]:
    """Return the strategies that hold something in a scope, at the venue of a status, in what a notice is about."""
    scopes = [scope]
    if news is not None and news.kind in ("venue_status", "notice"):
        kinds = ("venue",) if news.kind == "venue_status" else ("counterparty", "underlying", "instrument")
        scopes = [f"{kind}:{name}" for kind in kinds]
    found = (strategy for one in scopes for strategy in (measures.computation.strategies or {}).get(one, ()))
    return [f"strategy:{strategy}" for strategy in dict.fromkeys(found)]


def member_scopes(kind: str, scope: str, measures: Measures) -> list[str]:
    """Return the scopes of ``kind`` that hold, or are held by, the accounts of a scope, in order of account."""
    table = measures.tables.get("account")
    if table is None:
        return []
    found: dict[str, None] = {}
    for name, owners in zip(table.names, measures.owners, strict=False):
        circle = (f"account:{name}", *owners)
        if scope in circle:
            found.update((member, None) for member in circle if member.startswith(f"{kind}:"))
    return list(found)


# Triggers: which rules fire, from what breaches, news and answers say.
#
# A rule with one trigger and without ``dwell_s`` fires as its trigger is heard. The others are kept per target: a
# condition on a limit or a venue *stands* until the level or the status is left, one on an alert, a notice, a fill or
# an answer holds for ``within_s``. ``all`` fires when the last of its conditions comes true, ``any`` with each of them,
# and either only after it stood for ``dwell_s``, with ``repeat`` again after every further one. A condition with
# ``anywhere`` holds for every target.
#
# Nothing here looks at a slice in which nothing is heard and nothing is due.

NEVER_US = 1 << 62
EVERY_TARGET = "*"
LASTING_CONDITIONS = ("limit", "venue_status")
Resolve = Callable[[str, str, ExternalEvent | None], list[str]]
HeldCondition = list[Any]  # until when (NEVER_US: while it stands), evidence, breach
Key = tuple[str, ...]


class TriggerEvent(NamedTuple):
    """One trigger: ``key`` says of what kind and value, ``scope`` whom it is about."""

    key: Key
    scope: str
    evidence: dict[str, Any]
    breach: dict[str, Any] | None = None
    news: ExternalEvent | None = None
    rule: str = ""


class CommandCandidate(NamedTuple):
    """A command that a rule asks for: numbers of the rule and of the command in it, target, evidence, breach."""

    rule: int
    at: int
    target: str
    evidence: dict[str, Any]
    breach: dict[str, Any] | None


def condition_key(condition: dict[str, Any]) -> Key:
    """Return the key that a trigger of this condition has."""
    if "limit" in condition:
        return ("limit", condition["limit"], condition["level"])
    if "feed" in condition:
        return ("alert", FEEDS[condition["feed"]])
    name = next(name for name in ("alert", "venue_status", "notice", "fill", "acknowledgement") if name in condition)
    return (name, condition[name])


class Triggers:
    """The rules of one writer by what they wait for, and the conditions that hold.

    ``due_us`` is when something changes by time alone.
    """

    def __init__(self, rules: list[dict[str, Any]]) -> None:
        self.rules = rules
        self.due_us = NEVER_US
        self._index: dict[Key, list[tuple[int, int, dict[str, Any]]]] = {}
        self._kept = [bool("dwell_s" in rule or "all" in rule["when"] or "any" in rule["when"]) for rule in rules]
        self._held: dict[
            tuple[int, int], dict[str, dict[str, HeldCondition]]
        ] = {}  # rule and condition -> target -> scope
        self._pending: dict[tuple[int, str], int] = {}  # rule and target -> when its dwell is over
        for number, rule in enumerate(rules):
            for at, condition in enumerate(conditions_of(rule)):
                self._index.setdefault(condition_key(condition), []).append((number, at, condition))

    def hear(self, trigger: TriggerEvent, now_us: int, resolve: Resolve) -> list[CommandCandidate]:
        """Return the commands of the rules that a trigger fires, rules in order."""
        found: list[CommandCandidate] = []
        for number, at, condition in self._index.get(trigger.key, ()):
            if not _concerns(condition, trigger):
                continue
            if self._kept[number]:
                found += self._keep(number, at, trigger, now_us, resolve)
            else:
                found += self._commands(number, trigger, resolve)
        return found

    def end(self, key: Key, scope: str) -> None:
        """Take it that a standing condition is over for a scope."""
        for number, at, _ in self._index.get(key, ()) if self._held else ():
            targets = self._held.get((number, at), {})
            for target in list(targets):
                targets[target].pop(scope, None)
                if not targets[target]:
                    del targets[target]
            self._drop_pending(number)

    def advance(self, now_us: int) -> list[CommandCandidate]:
        """Return the commands of rules whose dwell is over; forget what held until now."""
        for targets in self._held.values():
            for target in list(targets):
                targets[target] = {scope: held for scope, held in targets[target].items() if held[0] > now_us}
                if not targets[target]:
                    del targets[target]
        for number in {rule for rule, _ in self._pending}:
            self._drop_pending(number)
        over = [key for key, due_us in self._pending.items() if due_us <= now_us]
        found: list[CommandCandidate] = []
        for number, target in sorted(over):
            del self._pending[number, target]
            found += self._fired(number, target)
            if self.rules[number].get("repeat"):
                self._begin(number, [target], now_us)
        self._set_due()
        return found

    # --- conditions that are kept -----------------------------------------------------------------------------------

    def _keep(
        self, number: int, at: int, trigger: TriggerEvent, now_us: int, resolve: Resolve
    ) -> list[CommandCandidate]:
        rule = self.rules[number]
        condition = conditions_of(rule)[at]
        until_us = NEVER_US
        if trigger.key[0] not in LASTING_CONDITIONS:
            until_us = now_us + int(float(rule["when"].get("within_s", 60)) * 1_000_000)
        kinds = dict.fromkeys(command["target"] for command in rule["commands"])
        targets = [target for kind in kinds for target in resolve(kind, trigger.scope, trigger.news)]
        if condition.get("anywhere"):
            targets = [EVERY_TARGET]
        place = self._held.setdefault((number, at), {})
        for target in targets:
            place.setdefault(target, {})[trigger.scope] = [until_us, trigger.evidence, trigger.breach]
        fired = [target for target in self._candidates(number, targets) if self._holds(number, target)]
        found = self._begin(number, fired, now_us)
        self._set_due()
        return found

    def _begin(self, number: int, targets: list[str], now_us: int) -> list[CommandCandidate]:
        """Fire a rule for targets, or begin its dwell."""
        dwell_us = int(float(self.rules[number].get("dwell_s", 0)) * 1_000_000)
        if not dwell_us:
            return [candidate for target in targets for candidate in self._fired(number, target)]
        for target in targets:
            self._pending.setdefault((number, target), now_us + dwell_us)
        return []

    def _candidates(self, number: int, targets: list[str]) -> list[str]:
        """Return targets, or all that any condition of the rule holds for where one holds for every target."""
        if targets != [EVERY_TARGET]:
            return targets
        conditions = range(len(conditions_of(self.rules[number])))
        known = (target for at in conditions for target in self._held.get((number, at), ()) if target != EVERY_TARGET)
        return list(dict.fromkeys(known))

    def _holds(self, number: int, target: str) -> bool:
        found = [self._of(number, at, target) for at in range(len(conditions_of(self.rules[number])))]
        return all(found) if "all" in self.rules[number]["when"] else any(found)

    def _of(self, number: int, at: int, target: str) -> dict[str, HeldCondition]:
        targets = self._held.get((number, at), {})
        return targets.get(target) or targets.get(EVERY_TARGET) or {}

    def _fired(self, number: int, target: str) -> Iterator[CommandCandidate]:
        """Yield the commands of a rule to a target; the evidence is the last condition's, with the others' ids."""
        conditions = range(len(conditions_of(self.rules[number])))
        held = [entry for at in conditions for entry in self._of(number, at, target).values()]
        _, evidence, breach = held[-1]
        others = [other["id"] for _, other, _ in held[:-1]]
        kind = target.partition(":")[0]
        for at, command in enumerate(self.rules[number]["commands"]):
            if command["target"] == kind:
                yield CommandCandidate(number, at, target, {**evidence, "with": others} if others else evidence, breach)

    def _commands(self, number: int, trigger: TriggerEvent, resolve: Resolve) -> Iterator[CommandCandidate]:
        for at, command in enumerate(self.rules[number]["commands"]):
            for target in resolve(command["target"], trigger.scope, trigger.news):
                yield CommandCandidate(number, at, target, trigger.evidence, trigger.breach)

    def _drop_pending(self, number: int) -> None:
        for rule, target in [key for key in self._pending if key[0] == number]:
            if not self._holds(rule, target):
                del self._pending[rule, target]

    def _set_due(self) -> None:
        held = (entry[0] for targets in self._held.values() for scopes in targets.values() for entry in scopes.values())
        self.due_us = min([NEVER_US, *self._pending.values(), *held])

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> list[Any]:
        """Return what holds and what is pending as flat rows; rules by name, so that they outlive a new playbook."""
        names = [rule["id"] for rule in self.rules]
        held = [
            [names[number], at, target, scope, *entry]
            for (number, at), targets in self._held.items()
            for target, scopes in targets.items()
            for scope, entry in scopes.items()
        ]
        return [held, [[names[number], target, due_us] for (number, target), due_us in self._pending.items()]]

    def restore(self, state: list[Any], before: list[dict[str, Any]] | None = None) -> None:
        """Take over what ``snapshot`` returned; what rules and conditions that are gone kept is forgotten.

        ``before``: the rules that it is of, where they were others.
        """
        numbers = {rule["id"]: number for number, rule in enumerate(self.rules)}
        old = {rule["id"]: conditions_of(rule) for rule in (self.rules if before is None else before)}
        for name, at, target, scope, *entry in state[0]:
            number = numbers.get(name)
            conditions = conditions_of(self.rules[number]) if number is not None and self._kept[number] else []
            if number is not None and old[name][at] in conditions:
                stays = conditions[at : at + 1] == [old[name][at]]  # a rule may name one condition twice
                now = at if stays else conditions.index(old[name][at])
                self._held.setdefault((number, now), {}).setdefault(target, {})[scope] = entry
        for name, target, due_us in state[1]:
            if name in numbers and self._kept[numbers[name]]:
                self._pending[numbers[name], target] = due_us
        for number in {rule for rule, _ in self._pending} if before is not None else ():
            self._drop_pending(number)
        self._set_due()


def _concerns(condition: dict[str, Any], trigger: TriggerEvent) -> bool:
    wanted, rule = condition.get("scope"), condition.get("rule")
    if rule is not None and rule != trigger.rule:
        return False
    if wanted is None or wanted == trigger.scope:
        return True
    kind, _, name = wanted.partition(":")
    return name == EVERY_TARGET and trigger.scope.startswith(f"{kind}:")
