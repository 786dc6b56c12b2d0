"""Playbook cases: given a desk and events, the commands that must follow, and how much of the playbook the cases reach.

A file of cases is TOML that a risk officer can write::

    playbook = "venue_outage.toml"          # beside this file
    [desk."house/kraken"]                   # accounts; measures may be given too
    counterparty = "kraken"
    venue = "kraken"
    holder = "house"

    [[case]]
    name = "a venue that is down gets no new orders"
    when = [ { at_s = 1, venue_status = "down", of = "kraken" } ]
    then = [ { at_s = 1, kind = "HALT_TRADING", target = "venue:kraken" } ]
    never = [ "HEDGE" ]
    ends = { "venue:kraken" = "halted" }

``when`` takes ``venue_status``, ``notice``, ``alert``, ``feed`` and ``fill`` with ``of`` (a scope, or a venue's or
subject's name), ``limit`` with ``of``, ``level``, ``cause`` and ``value``, and ``answer`` with ``rule``, ``target`` and
``by``; with ``obeys = true`` every command is completed a step later. Commands come from the very operators that decide
in a run: one shard and the firm.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import orjson
from msgspec import UNSET, UnsetType
from msgspec import field as default

from seawall.operators.core.base import Breaches, Events, ExternalEvent, Measures, MeasureTable, Moment, Outputs
from seawall.operators.core.mitigation import MODE_RANKS, TARGET_STATES, MitigationState, PlaybookFault, playbook_faults
from seawall.operators.core.portfolio import FIRM_KEY
from seawall.schemas.configuration import (
    FEEDS,
    Feed,
    load_limits,
    load_playbook,
    load_response,
    playbook_section,
    read_toml,
)
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import ACCOUNT, SHARD_SCOPES, Level
from seawall.schemas.records import Record
from seawall.schemas.tables import Name, Number, Table, between, check_table

# Playing a case: a desk of accounts, both writers, and what they give step by step (``playbook_cases``).

START_US = 1_700_000_000_000_000
EXTERNAL_EVENTS = ("venue_status", "notice", "alert", "feed", "fill")


@dataclass
class Coverage:
    """Coverage of the cases: rules that asked for something, and rungs that targets went between."""

    rules: dict[str, bool]
    transitions: dict[str, bool]

    def reach(self, rule: str) -> None:
        """Note that a rule asked for something."""
        self.rules[rule] = True

    def go(self, rule: str, before: int, after: int) -> None:
        """Note that a rule moved a target."""
        if before != after:
            self.transitions[f"{rule}: {TARGET_STATES[before]} to {TARGET_STATES[after]}"] = True


class CaseDesk:
    """The accounts of a file of cases, as the operators see them."""

    def __init__(self, accounts: dict[str, dict[str, Any]], rules: list[Any], response: dict[str, Any]) -> None:
        self.accounts = accounts
        playbook = playbook_section(rules, response)
        self.configuration = {
            "issuer": "risk/cases", "environment": "test", "shards": 1, "reporting_currency": "USD", "epoch": 1,
            "limits": {"version": 1, "sha256": "", "limits": []}, "playbook": playbook,
        }  # fmt: skip

    def measured(self, key: str, seq: int, at_us: int, external: list[ExternalEvent]) -> tuple[Measures, Events]:
        """Return measures and events of the one shard or of the firm."""
        tables, owners, house = self._tables() if key != FIRM_KEY else self._wide()
        moment = Moment(key, 1 if key == FIRM_KEY else 0, seq, at_us, at_us)
        events = Events(self.configuration if seq == 0 else None, external=external)
        return Measures(moment, tables, owners=owners, house=house), events

    def _tables(self) -> tuple[dict[str, MeasureTable], list[tuple[str, ...]], frozenset[str]]:
        values = np.array([[float(one[m]) for one in self.accounts.values()] for m in ACCOUNT])
        tables = {"account": MeasureTable(list(self.accounts), ACCOUNT, values.reshape(len(ACCOUNT), -1))}
        owners, house = [], set()
        for name, one in self.accounts.items():
            held = [f"netting_set:{one['netting_set'] or name}", f"counterparty:{one['counterparty']}"]
            held += [f"{kind}:{one[kind]}" for kind in ("venue", "group") if one[kind]]
            owners.append(tuple(held))
            if one["holder"] == "house":
                house |= {f"account:{name}", *held[:2]}
        return tables, owners, frozenset(house)

    def _wide(self) -> tuple[dict[str, MeasureTable], list[tuple[str, ...]], frozenset[str]]:
        def table(kind: str) -> MeasureTable:
            names = list(dict.fromkeys(one[kind] for one in self.accounts.values() if one[kind]))
            return MeasureTable(names, (), np.zeros((0, len(names))))

        return {kind: table(kind) for kind in ("group", "venue")}, [], frozenset()


class CasePlay:
    """One case while it is played: both writers, what they gave, and the levels that limits stand at."""

    def __init__(self, desk: CaseDesk, coverage: Coverage, place: str, obeys: bool) -> None:
        self._desk, self._coverage, self._place, self._seq = desk, coverage, place, 0
        self._obeys = obeys
        self.writers = {"0": MitigationState("0", 0), FIRM_KEY: MitigationState(FIRM_KEY, 1)}
        self._levels: dict[tuple[str, str], str] = {}
        self.given: list[tuple[float, str, str, str]] = []
        self.ids: dict[tuple[str, str], list[str]] = {}  # rule and target -> its last commands
        self._obeyed: list[ExternalEvent] = []  # answers of a subscriber that does as it is told
        self.withheld: list[str] = []

    def step(self, second: float, events: list[dict[str, Any]]) -> None:
        """Let events happen and both writers decide."""
        at_us = START_US + int(second * 1_000_000)
        news = [*self._obeyed, *(item for event in events for item in self._news(event, at_us))]
        self._obeyed = []
        breaches = [self._breach(event, at_us) for event in events if "limit" in event]
        for key, writer in self.writers.items():
            mine = [b for b in breaches if (b["scope"].partition(":")[0] in SHARD_SCOPES) == (key != FIRM_KEY)]
            records = [Record("", orjson.dumps(b), f"case-{self._seq}-{at}", at) for at, b in enumerate(mine)]
            before = writer.places()
            planned = writer.step(*self._desk.measured(key, self._seq, at_us, news), Breaches(mine, records))
            self._take(planned, second, writer, before)
        self._seq += 1

    def _take(self, planned: Outputs, second: float, writer: MitigationState, before: dict[str, int]) -> None:
        mine: dict[tuple[str, str], list[str]] = {}
        for record in planned.records.get("commands", ()):
            payload = orjson.loads(record.value)
            rule = payload["reason"]["rule"]
            self.given.append((second, payload["type"], record.key, rule))
            mine.setdefault((rule, record.key), []).append(payload["id"])
            if self._obeys:
                self._obeyed.append(
                    ExternalEvent("acknowledgement", payload["id"], "completed", "acknowledgement:oms:0")
                )
            self._coverage.reach(rule)
            if payload["type"] in MODE_RANKS:
                self._coverage.go(rule, before.get(record.key, 0), MODE_RANKS[payload["type"]])
        self.ids |= mine
        for kind, body in planned.decisions:
            if kind in ("withheld", "shadowed"):
                self._coverage.reach(body["rule"])
            if kind == "withheld":
                self.withheld.append(f"{body['kind']} {body['target']}")

    def _news(self, event: dict[str, Any], at_us: int) -> list[ExternalEvent]:
        if "answer" in event:
            known = (event.get("rule", ""), event.get("target", ""))
            if known not in self.ids:
                raise UsageError(
                    f"{self._place}: at {event['at_s']} s rule {known[0]!r} has commanded {known[1]!r} nothing"
                )
            evidence = f"acknowledgement:{event['by']}:{at_us}"
            return [ExternalEvent("acknowledgement", id, event["answer"], evidence) for id in self.ids[known]]
        name = next((name for name in EXTERNAL_EVENTS if name in event), None)
        if name is None:
            return []
        kind = "alert" if name == "feed" else name
        state = FEEDS[event["feed"]] if name == "feed" else event[name]
        return [ExternalEvent(kind, event["of"], state, f"{kind}:{event['of']}:{at_us}")]

    def _breach(self, event: dict[str, Any], at_us: int) -> dict[str, Any]:
        key = (event["limit"], event["of"])
        before, level = self._levels.get(key, "none"), event.get("level", "hard")
        self._levels[key] = level
        return {
            "shard": 0, "seq": self._seq, "as_of_us": at_us, "limit": event["limit"], "version": 1,
            "scope": event["of"], "measure": event["measure"], "value": float(event["value"]),
            "bound": float(event["bound"]), "utilisation": 1.0, "level": level, "previous_level": before,
            "cause": event["cause"], "evidence": [f"case:{event['at_s']}"],
        }  # fmt: skip


# Cases for a playbook: what is given, what happens, what must follow; and how much of the playbook they reach.

_Text: TypeAlias = str | UnsetType


class AccountTable(Table, frozen=True):
    """A ``[desk.NAME]``: an account, and its measures where a case needs them."""

    counterparty: str
    venue: str = ""
    group: str = ""
    netting_set: str = ""
    holder: Literal["house", "counterparty"] = "counterparty"
    equity: Number = 0
    gross_notional: Number = 0
    net_notional: Number = 0
    unrealised_pnl: Number = 0
    initial_margin: Number = 0
    maintenance_margin: Number = 0
    margin_ratio: Number = 0
    leverage: Number = 0
    distance_to_liquidation: Number = 0


class EventTable(Table, frozen=True):
    """An entry of ``when``: what happens."""

    at_s: Annotated[float, between(0, 1e6)]
    of: str = ""
    venue_status: _Text = UNSET
    notice: _Text = UNSET
    alert: _Text = UNSET
    fill: _Text = UNSET
    limit: _Text = UNSET
    answer: _Text = UNSET
    feed: Feed | UnsetType = UNSET
    level: Literal["none", Level] | UnsetType = UNSET
    cause: Literal["active", "passive"] = "active"
    value: Number = 1
    bound: Number = 1
    measure: str = "margin_ratio"
    rule: _Text = UNSET
    target: _Text = UNSET
    by: Name = "oms"


class ExpectedTable(Table, frozen=True):
    """An entry of ``then``: a command that must follow."""

    kind: str
    target: str
    at_s: Number | UnsetType = UNSET
    rule: _Text = UNSET


class CaseTable(Table, frozen=True):
    """A ``[[case]]``."""

    name: str
    when: tuple[EventTable, ...]
    then: tuple[ExpectedTable, ...] = ()
    never: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    ends: dict[str, Any] = default(default_factory=dict)
    obeys: bool = False
    until_s: Annotated[float, between(0, 1e6)] = 0


class CasesFile(Table, frozen=True):
    """A file of cases."""

    playbook: str
    case: tuple[CaseTable, ...]
    desk: dict[str, AccountTable] = default(default_factory=dict)


@dataclass
class CaseOutcome:
    """One case: what it gave, and where that is not what it expects."""

    name: str
    faults: list[str]
    commands: list[tuple[float, str, str, str]] = field(default_factory=list)


def run_cases(file: Path) -> tuple[list[CaseOutcome], Coverage]:
    """Run all cases of a file; return what each gave, and what they cover together.

    Raises
    ------
    UsageError
        Naming the file, the case and what is wrong with it.
    """
    content = check_table(read_toml(file), CasesFile, file.name)
    playbook = file.parent / content["playbook"]
    rules, response = load_playbook(playbook), load_response(playbook)
    desk = CaseDesk(content["desk"], rules, response)
    coverage = Coverage({rule["id"]: False for rule in rules}, dict.fromkeys(possible_transitions(rules), False))
    return [_run(case, desk, coverage, file.name) for case in content["case"]], coverage


def possible_transitions(rules: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the moves on the ladder that rules can make, as ``rule: from to``."""
    reduced = {c["target"] for rule in rules for c in rule["commands"] if c["kind"] == "REDUCE_ONLY"}
    for rule in rules:
        for command in rule["commands"] if not rule.get("shadow") else ():
            place = MODE_RANKS.get(command["kind"], 0)
            if place:
                yield f"{rule['id']}: active to {TARGET_STATES[place]}"
            if place == 2 and command["target"] in reduced:
                yield f"{rule['id']}: reducing to halted"


# --- one case ---------------------------------------------------------------------------------------------------------


def _run(case: dict[str, Any], desk: CaseDesk, coverage: Coverage, file: str) -> CaseOutcome:
    place = f"{file} [[case]] {case['name']}"
    events = case["when"]
    play = CasePlay(desk, coverage, place, case["obeys"])
    last_s = max([case["until_s"], *(event["at_s"] for event in events)])
    for second in sorted({*range(int(last_s) + 1), *(event["at_s"] for event in events), last_s}):
        play.step(second, [event for event in events if event["at_s"] == second])
    return CaseOutcome(case["name"], list(_faults(case, play, place)), play.given)


def _faults(case: dict[str, Any], play: CasePlay, place: str) -> Iterator[str]:
    """Yield what a case expects and did not get, and what it got and must not."""
    left = list(play.given)
    for at, wanted in enumerate(case["then"], 1):
        match = next((given for given in left if _is(given, wanted)), None)
        if match is None:
            yield f"then {at}: {_described(wanted)} was not given"
        else:
            left.remove(match)
    yield from (f"{kind} was given at {second:g} s to {target} by {rule} and is in never"
                for second, kind, target, rule in play.given if kind in case["never"])  # fmt: skip
    if "*" in case["never"]:
        yield from (
            f"{kind} to {target} at {second:g} s by {rule} was not expected" for second, kind, target, rule in left
        )
    yield from (f"{wanted} was not withheld" for wanted in case["withheld"] if wanted not in play.withheld)
    for target, state in case["ends"].items():
        place_now = max(writer.place(target) for writer in play.writers.values())
        if TARGET_STATES[place_now] != state:
            yield f"{target} ends {TARGET_STATES[place_now]}, not {state}"


def _is(given: tuple[float, str, str, str], wanted: dict[str, Any]) -> bool:
    second, kind, target, rule = given
    right = (kind, target) == (wanted["kind"], wanted["target"]) and wanted.get("rule", rule) == rule
    return right and wanted.get("at_s", second) == second


def _described(wanted: dict[str, Any]) -> str:
    when = f" at {wanted['at_s']:g} s" if "at_s" in wanted else ""
    return f"{wanted['kind']} to {wanted['target']}{when}"


# Reading a playbook without playing it (``seawall playbook lint``).


def lint_playbook(playbook: Path, limits: Path | None) -> tuple[int, list[PlaybookFault]]:
    """Return how many rules a playbook has, and what is wrong with them under the limits that it will run with."""
    known = None if limits is None else load_limits(limits)
    rules = load_playbook(playbook, None if known is None else [limit["id"] for limit in known])
    return len(rules), playbook_faults(rules, load_response(playbook), known)
