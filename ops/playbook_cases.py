"""Cases for a playbook: what is given, what happens, what must follow; and how much of the playbook they reach.

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
``by``; with ``obeys = true`` whatever is commanded is completed a step later. Commands are given by the very operator
that decides in a run, one shard and the second operator.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seawall.operators.core.limit_rules import LEVELS
from seawall.operators.core.mitigation.control import LADDER, STATES
from seawall.ops.playbook_play import Coverage, Desk, Play
from seawall.schemas.configuration import read_toml
from seawall.schemas.events import IDENTIFIER_PATTERN
from seawall.schemas.measures import ACCOUNT
from seawall.schemas.playbook import FEEDS, read_playbook, read_response
from seawall.schemas.tables import ABSENT, Field, check_table, number_in, one_of, text_like

_FILE = {
    "playbook": Field("text"),
    "desk": Field("table", {}),
    "case": Field("tables"),
}
_ACCOUNT = {
    "counterparty": Field("text"),
    "venue": Field("text", ""),
    "group": Field("text", ""),
    "netting_set": Field("text", ""),
    "holder": Field("text", "counterparty", one_of("house", "counterparty")),
    **{measure: Field("number", 0) for measure in ACCOUNT},
}
_CASE = {
    "name": Field("text"),
    "when": Field("tables"),
    "then": Field("tables", []),
    "never": Field("texts", []),
    "withheld": Field("texts", []),
    "ends": Field("table", {}),
    "obeys": Field("boolean", False),
    "until_s": Field("number", 0, number_in(0, 1e6)),
}
_EVENT = {
    "at_s": Field("number", rule=number_in(0, 1e6)),
    "of": Field("text", ""),
    **{name: Field("text", ABSENT) for name in ("venue_status", "notice", "alert", "fill", "limit", "answer")},
    "feed": Field("text", ABSENT, one_of(*FEEDS)),
    "level": Field("text", ABSENT, one_of("none", *LEVELS[1:])),
    "cause": Field("text", "active", one_of("active", "passive")),
    "value": Field("number", 1),
    "bound": Field("number", 1),
    "measure": Field("text", "margin_ratio"),
    "rule": Field("text", ABSENT),
    "target": Field("text", ABSENT),
    "by": Field("text", "oms", text_like(IDENTIFIER_PATTERN)),
}
_EXPECTED = {
    "at_s": Field("number", ABSENT),
    "kind": Field("text"),
    "target": Field("text"),
    "rule": Field("text", ABSENT),
}


@dataclass
class Outcome:
    """One case: what it gave, and where that is not what it expects."""

    name: str
    faults: list[str]
    commands: list[tuple[float, str, str, str]] = field(default_factory=list)


def run_cases(file: Path) -> tuple[list[Outcome], Coverage]:
    """Run all cases of a file; return what each gave, and what they cover together.

    Raises
    ------
    UsageError
        Naming the file, the case and what is wrong with it.
    """
    content = check_table(read_toml(file), _FILE, file.name)
    playbook = file.parent / content["playbook"]
    found = read_toml(playbook)
    rules, response = read_playbook(found, playbook.name), read_response(found, playbook.name)
    desk = Desk({name: check_table(table, _ACCOUNT, f"{file.name} [desk.{name}]")
                 for name, table in content["desk"].items()}, rules, response)  # fmt: skip
    coverage = Coverage({rule["id"]: False for rule in rules}, dict.fromkeys(possible(rules), False))
    cases = [check_table(case, _CASE, f"{file.name} [[case]] {at}") for at, case in enumerate(content["case"], 1)]
    return [_run(case, desk, coverage, file.name) for case in cases], coverage


def possible(rules: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the moves on the ladder that rules can make, as ``rule: from to``."""
    reduced = {c["target"] for rule in rules for c in rule["commands"] if c["kind"] == "REDUCE_ONLY"}
    for rule in rules:
        for command in rule["commands"] if not rule.get("shadow") else ():
            place = LADDER.get(command["kind"], 0)
            if place:
                yield f"{rule['id']}: active to {STATES[place]}"
            if place == 2 and command["target"] in reduced:
                yield f"{rule['id']}: reducing to halted"


# --- one case ---------------------------------------------------------------------------------------------------------


def _run(case: dict[str, Any], desk: Desk, coverage: Coverage, file: str) -> Outcome:
    place = f"{file} [[case]] {case['name']}"
    events = [check_table(event, _EVENT, f"{place}: when {at}") for at, event in enumerate(case["when"], 1)]
    play = Play(desk, coverage, place, case["obeys"])
    last_s = max([case["until_s"], *(event["at_s"] for event in events)])
    for second in sorted({*range(int(last_s) + 1), *(event["at_s"] for event in events), last_s}):
        play.step(second, [event for event in events if event["at_s"] == second])
    return Outcome(case["name"], list(_faults(case, play, place)), play.given)


def _faults(case: dict[str, Any], play: Play, place: str) -> Iterator[str]:
    """Yield what a case expects and did not get, and what it got and must not."""
    left = list(play.given)
    for at, table in enumerate(case["then"], 1):
        wanted = check_table(table, _EXPECTED, f"{place}: then {at}")
        match = next((given for given in left if _is(given, wanted)), None)
        if match is None:
            yield f"then {at}: {_told(wanted)} was not given"
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
        if STATES[place_now] != state:
            yield f"{target} ends {STATES[place_now]}, not {state}"


def _is(given: tuple[float, str, str, str], wanted: dict[str, Any]) -> bool:
    second, kind, target, rule = given
    right = (kind, target) == (wanted["kind"], wanted["target"]) and wanted.get("rule", rule) == rule
    return right and wanted.get("at_s", second) == second


def _told(wanted: dict[str, Any]) -> str:
    when = f" at {wanted['at_s']:g} s" if "at_s" in wanted else ""
    return f"{wanted['kind']} to {wanted['target']}{when}"
