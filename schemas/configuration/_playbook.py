"""Playbooks: what a ``[[rule]]`` and the terms of ``[response]`` may say (contract.md, "Playbook").

A rule has one trigger, or ``all`` or ``any`` of several. With ``[response]`` a playbook also says how commands are
watched and bounded; without it rules act one by one, and nothing waits for an answer.
"""

from typing import Any, get_args

from seawall.schemas.decisions import CommandKind
from seawall.schemas.errors import UsageError
from seawall.schemas.events import IDENTIFIER_PATTERN
from seawall.schemas.measures import LEVELS, MEASURES
from seawall.schemas.tables import ABSENT, Field, Table, check_table, nearest, number_in, one_of, text_like

RULES_MAX = 1_000
CONDITIONS_MAX = 8
COMMANDS: tuple[str, ...] = get_args(CommandKind)
PERMISSIVE = ("REINSTATE",)  # loosening takes m-of-n people (architecture.md, "Evidence"), so no rule may
DIRECTED = ("SET_LIMIT", "SET_HAIRCUT")  # these could loosen as well; a rule may only tighten
FEEDS = {
    "stale": "stale_feed",
    "dead": "dead_feed",
    "back": "feed_back",
    "diverging": "venue_gap",
    "backwards": "time_backwards",
}
VENUE_STATES = ("up", "degraded", "down", "withdrawals_blocked", "recovered")
"""What venues say, and that one has been well for ``recover_s`` again."""
ANSWERS = ("completed", "partial", "rejected", "unknown", "silent", "late", "expired", "contradicted")
TRIGGERS = ("limit", "alert", "venue_status", "notice", "feed", "fill", "acknowledgement")
COMPUTED = {
    "REDUCE_POSITION": ("position",),
    "HEDGE": ("position",),
    "CALL_MARGIN": ("csa",),
    "RECALL_COLLATERAL": ("csa",),
    "WITHDRAW_FUNDS": ("headroom",),
    "REROUTE": ("weights", "diversify"),
    "SET_LIMIT": ("ratio",),
    "SET_HAIRCUT": ("volatility",),
}
"""What a command may have computed, by kind: ``compute = "…"``."""
POSITION_SCOPES = ("account", "netting_set", "counterparty")
"""What has its accounts in one shard, where what is free in them is known."""

_IDENTIFIER = text_like(IDENTIFIER_PATTERN)
_RULE: Table = {
    "id": Field("text", rule=_IDENTIFIER),
    "when": Field("table"),
    "commands": Field("tables"),
    "cooldown_s": Field("number", 0, number_in(0, 1e9)),
    "expires_s": Field("number", ABSENT, number_in(1, 1e6)),
    "dwell_s": Field("number", ABSENT, number_in(0.001, 1e6)),
    "repeat": Field("boolean", ABSENT),
    "priority": Field("integer", ABSENT, number_in(-1000, 1000)),
    "shadow": Field("boolean", ABSENT),
}
_TRIGGER: Table = {
    "limit": Field("text", ABSENT, _IDENTIFIER),
    "level": Field("text", ABSENT, one_of(*LEVELS)),
    "alert": Field("text", ABSENT, _IDENTIFIER),
    "venue_status": Field("text", ABSENT, one_of(*VENUE_STATES)),
    "notice": Field(
        "text",
        ABSENT,
        one_of("rating", "regulation", "exploit", "insolvency", "reserves", "delisting", "outage"),
    ),
    "feed": Field("text", ABSENT, one_of(*FEEDS)),
    "fill": Field("text", ABSENT, one_of("liquidation", "adl", "settlement", "manual")),
    "acknowledgement": Field("text", ABSENT, one_of(*ANSWERS)),
    "rule": Field("text", ABSENT, _IDENTIFIER),
    "scope": Field("text", ABSENT),
}
_CONDITION: Table = {**_TRIGGER, "anywhere": Field("boolean", ABSENT)}
_JOINED: Table = {
    "all": Field("tables", ABSENT),
    "any": Field("tables", ABSENT),
    "within_s": Field("number", 60, number_in(0.001, 1e6)),
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
    # how it is worked out, and when a person must
    "compute": Field("text", ABSENT),
    "to": Field("text", ABSENT, one_of("warning", "soft", "hard")),
    "participation": Field("number", ABSENT, number_in(0.0001, 1)),
    "price_bound": Field("number", ABSENT, number_in(0, 1)),
    "size_max": Field("number", ABSENT, number_in(0, 1e15)),
    "multiple": Field("number", ABSENT, number_in(0.01, 100)),
    "positions": Field("boolean", ABSENT),
    "human": Field("boolean", ABSENT),
}
BOUNDS = {
    "to": ("position", "headroom", "ratio"),
    "participation": ("position", "diversify"),
    "price_bound": ("position",),
    "size_max": ("position", "csa", "headroom", "weights", "diversify"),
    "multiple": ("volatility",),
    "positions": ("diversify",),
}
"""What bounds a computed command, and which computations heed it."""
HANDLING = ("kind", "target", "compute", "to", "human", "size_max", "multiple", "positions")
"""Keys of a command that are not passed on as its action."""

_RESPONSE: Table = {
    "mode": Field("text", "act", one_of("act", "dry_run")),
    "subscribers": Field("texts", []),
    "acknowledge_s": Field("number", 10, number_in(0.001, 1e5)),
    "complete_s": Field("number", 60, number_in(0.001, 1e5)),
    "verify_s": Field("number", 30, number_in(0.001, 1e5)),
    "commands_max": Field("integer", 60, number_in(1, 100_000)),
    "per_s": Field("number", 60, number_in(0.001, 1e5)),
    "human_above": Field("number", ABSENT, number_in(0, 1e15)),
    "recover_s": Field("number", 300, number_in(0, 1e6)),
}


def read_response(content: dict[str, Any], file: str) -> dict[str, Any]:
    """Return the terms of ``[response]``, defaults filled in; empty where a playbook has none.

    Attributes of the result
    ------------------------
    mode
        ``dry_run`` decides and audits everything and commands nothing.
    subscribers
        Who must answer each command; empty: one answer of anyone is enough.
    acknowledge_s, complete_s
        After which silence a command is ``silent``; after which time without completion it is ``late``.
    verify_s
        For how long a completed command is held against what venues and fills show.
    commands_max, per_s
        The rate budget of each writer; CANCEL_ORDERS and HALT_TRADING always pass.
    human_above
        Sizes above it, in the reporting currency, wait for a person.
    recover_s
        For how long a venue must be well again before it counts as recovered.
    """
    if "response" not in content:
        return {}
    found = content["response"]
    if not isinstance(found, dict):
        raise UsageError(f"{file} [response]: it must be a table")
    return check_table(found, _RESPONSE, f"{file} [response]")


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
    top: Table = {"rule": Field("tables", []), "response": Field("table", ABSENT)}
    tables = check_table(content, top, file)["rule"]
    if len(tables) > RULES_MAX:
        raise UsageError(f"{file}: {len(tables)} rules, at most {RULES_MAX}")
    rules = [_rule(table, f"{file} [[rule]] {table.get('id', number)}") for number, table in enumerate(tables, 1)]
    names = [rule["id"] for rule in rules]
    for at, rule in enumerate(rules):
        if rule["id"] in names[:at]:
            raise UsageError(f"{file}: the rule id {rule['id']!r} is taken; give each rule its own")
        _check_names(rule, file, limits, names, "response" in content)
    return rules


def conditions_of(rule: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the triggers of a rule: its one, or those that it joins."""
    when = rule["when"]
    found: list[dict[str, Any]] = when.get("all") or when.get("any") or [when]
    return found


def _rule(table: dict[str, Any], place: str) -> dict[str, Any]:
    rule = check_table(table, _RULE, place)
    rule["when"] = _when(rule["when"], f"{place}: when")
    if rule.get("repeat") and "dwell_s" not in rule:
        raise UsageError(f"{place}: repeat says again every dwell_s while it stands; add dwell_s")
    if not rule["commands"]:
        raise UsageError(f"{place}: no commands; add one")
    rule["commands"] = [_command(command, f"{place}: command {at}") for at, command in enumerate(rule["commands"], 1)]
    return rule


def _when(table: dict[str, Any], place: str) -> dict[str, Any]:
    joined = [name for name in ("all", "any") if name in table]
    if not joined:
        return _trigger(check_table(table, _TRIGGER, place), place)
    found = check_table(table, _JOINED, place)
    if "all" in found and all(condition.get("anywhere") for condition in found["all"]):
        raise UsageError(f"{place}: all conditions hold anywhere; leave anywhere out of the one that names the target")
    if len(joined) > 1:
        raise UsageError(f"{place}: all and any exclude each other; write a rule for each")
    listed = found[joined[0]]
    if not 2 <= len(listed) <= CONDITIONS_MAX:
        raise UsageError(f"{place}: {joined[0]} joins 2 to {CONDITIONS_MAX} conditions, here are {len(listed)}")
    found[joined[0]] = [
        _trigger(check_table(condition, _CONDITION, f"{place}: condition {at}"), f"{place}: condition {at}")
        for at, condition in enumerate(listed, 1)
    ]
    return found


def _trigger(table: dict[str, Any], place: str) -> dict[str, Any]:
    triggers = [name for name in TRIGGERS if name in table]
    if len(triggers) != 1:
        raise UsageError(f"{place} needs exactly one of {', '.join(TRIGGERS)}; or join several with all or any")
    if (triggers == ["limit"]) != ("level" in table):
        raise UsageError(f"{place}: level belongs to a limit, and a limit needs one of {', '.join(LEVELS)}")
    if "rule" in table and triggers != ["acknowledgement"]:
        raise UsageError(f"{place}: rule says whose commands are answered; it belongs to acknowledgement")
    kind = table.get("scope", "").partition(":")[0]
    if kind and kind not in (*MEASURES, "instrument", "notice"):
        raise UsageError(f"{place}: there is no scope {kind!r}; did you mean {nearest(kind, MEASURES)!r}?")
    return table


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
    _check_compute(command, place)
    return command


def _check_compute(command: dict[str, Any], place: str) -> None:
    kind, how = command["kind"], command.get("compute")
    if how is not None and how not in COMPUTED.get(kind, ()):
        known = ", ".join(COMPUTED.get(kind, ())) or "nothing"
        raise UsageError(f"{place}: {kind} can have {known} computed, not {how!r}")
    for name, heeded in BOUNDS.items():
        if name in command and how is None:
            raise UsageError(f"{place}: {name} bounds what is computed; add compute or leave it out")
        if name in command and how not in heeded:
            raise UsageError(f"{place}: {name} bounds {', '.join(heeded)}, not {how}; leave it out")
    if how == "headroom" and command["target"] not in POSITION_SCOPES:
        raise UsageError(
            f"{place}: headroom is computed of {', '.join(POSITION_SCOPES)}, not of {command['target']}; target one"
        )
    needed = {"ratio": ("limit", "ratio"), "volatility": ("asset",)}.get(how or "", ())
    for name in needed:
        if name not in command:
            raise UsageError(f"{place}: compute = {how!r} needs {name}; add it")


def _check_names(rule: dict[str, Any], file: str, limits: list[str] | None, rules: list[str], watched: bool) -> None:
    """Check the limits and rules that a rule names."""
    place = f"{file} [[rule]] {rule['id']}"
    for condition in conditions_of(rule):
        named, other = condition.get("limit"), condition.get("rule")
        if named is not None and limits is not None and named not in (*limits, "default-deny"):
            close = nearest(named, [*limits, "default-deny"])
            raise UsageError(f"{place}: there is no limit {named!r}; did you mean {close!r}?")
        if other is not None and other not in rules:
            raise UsageError(f"{place}: there is no rule {other!r}; did you mean {nearest(other, rules)!r}?")
        if "acknowledgement" in condition and not watched:
            raise UsageError(f"{place}: answers are only heard with terms; add a table [response]")
