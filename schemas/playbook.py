"""Playbooks: what a ``[[rule]]`` may say (CONTRACT §6, DESIGN §5)."""

from typing import Any, get_args

from seawall.schemas.decisions import CommandKind
from seawall.schemas.errors import UsageError
from seawall.schemas.events import IDENTIFIER_PATTERN
from seawall.schemas.measures import MEASURES
from seawall.schemas.tables import ABSENT, Field, Table, check_table, nearest, number_in, one_of, text_like
from seawall.schemas.thresholds import LEVELS

RULES_MAX = 1_000
COMMANDS: tuple[str, ...] = get_args(CommandKind)
PERMISSIVE = ("REINSTATE",)  # loosening takes m-of-n people (DESIGN §6), so no rule may
DIRECTED = ("SET_LIMIT", "SET_HAIRCUT")  # these could loosen as well; a rule may only tighten
TRIGGERS = ("limit", "alert", "venue_status", "notice")

_RULE: Table = {
    "id": Field("text", rule=text_like(IDENTIFIER_PATTERN)),
    "when": Field("table"),
    "commands": Field("tables"),
    "cooldown_s": Field("number", 0, number_in(0, 1e9)),
    "expires_s": Field("number", ABSENT, number_in(1, 1e6)),
}
_WHEN: Table = {
    "limit": Field("text", ABSENT, text_like(IDENTIFIER_PATTERN)),
    "level": Field("text", ABSENT, one_of(*LEVELS)),
    "alert": Field("text", ABSENT, text_like(IDENTIFIER_PATTERN)),
    "venue_status": Field("text", ABSENT, one_of("up", "degraded", "down", "withdrawals_blocked")),
    "notice": Field(
        "text",
        ABSENT,
        one_of("rating", "regulation", "exploit", "insolvency", "reserves", "delisting", "outage"),
    ),
}
_COMMAND: Table = {
    "kind": Field("text"),
    "target": Field("text"),
    # what the command asks for, passed on as its action
    "ratio": Field("number", ABSENT, number_in(0, 1)),
    "haircut": Field("number", ABSENT, number_in(0, 1)),
    "value": Field("number", ABSENT),
    "direction": Field("text", ABSENT, one_of("tighten")),
    **{name: Field("text", ABSENT) for name in ("amount", "asset", "instrument", "limit", "profile", "text", "venue")},
}


def read_playbook(content: dict[str, Any], file: str, limits: list[str] | None = None) -> list[dict[str, Any]]:
    """Return the rules of a playbook, checked, defaults filled in.

    Parameters
    ----------
    limits
        Ids that rules may name; None to leave that unchecked.

    Raises
    ------
    UsageError
        Naming the file, the rule and the nearest valid name.
    """
    tables = check_table(content, {"rule": Field("tables", [])}, file)["rule"]
    if len(tables) > RULES_MAX:
        raise UsageError(f"{file}: {len(tables)} rules, at most {RULES_MAX}")
    rules = [_rule(table, f"{file} [[rule]] {table.get('id', number)}") for number, table in enumerate(tables, 1)]
    seen: set[str] = set()
    for rule in rules:
        if rule["id"] in seen:
            raise UsageError(f"{file}: the rule id {rule['id']!r} is taken; give each rule its own")
        seen.add(rule["id"])
        _check_limit(rule, file, limits)
    return rules


def _rule(table: dict[str, Any], place: str) -> dict[str, Any]:
    rule = check_table(table, _RULE, place)
    rule["when"] = check_table(rule["when"], _WHEN, f"{place}: when")
    triggers = [name for name in TRIGGERS if name in rule["when"]]
    if len(triggers) != 1:
        raise UsageError(f"{place}: when needs exactly one of {', '.join(TRIGGERS)}; write a rule for each")
    if (triggers == ["limit"]) != ("level" in rule["when"]):
        raise UsageError(f"{place}: level belongs to a limit, and a limit needs one of {', '.join(LEVELS)}")
    if not rule["commands"]:
        raise UsageError(f"{place}: no commands; add one")
    rule["commands"] = [_command(command, f"{place}: command {at}") for at, command in enumerate(rule["commands"], 1)]
    return rule


def _command(table: dict[str, Any], place: str) -> dict[str, Any]:
    command = check_table(table, _COMMAND, place)
    kind, target = command["kind"], command["target"]
    if kind not in COMMANDS:
        raise UsageError(f"{place}: there is no kind {kind!r}; did you mean {nearest(kind, COMMANDS)!r}?")
    if kind in PERMISSIVE:
        raise UsageError(f"{place}: {kind} loosens, which takes people; a rule may only restrict")
    if kind in DIRECTED:
        command["direction"] = "tighten"  # inside the signature: subscribers take it from one key only when it says so
    elif "direction" in command:
        raise UsageError(f"{place}: direction belongs to {' and '.join(DIRECTED)}; leave it out of {kind}")
    if target not in MEASURES:
        raise UsageError(f"{place}: there is no target {target!r}; did you mean {nearest(target, MEASURES)!r}?")
    return command


def _check_limit(rule: dict[str, Any], file: str, limits: list[str] | None) -> None:
    named = rule["when"].get("limit")
    if limits is None or named is None or named in limits or named == "default-deny":
        return
    close = nearest(named, [*limits, "default-deny"])
    raise UsageError(f"{file} [[rule]] {rule['id']}: there is no limit {named!r}; did you mean {close!r}?")
