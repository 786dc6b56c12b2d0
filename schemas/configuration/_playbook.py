"""Playbooks: what a ``[[rule]]`` and the terms of ``[response]`` may say (contract.md, "Playbook").

A rule has one trigger, or ``all`` or ``any`` of several. With ``[response]`` a playbook also says how commands are
watched and bounded; without it rules act one by one, and nothing waits for an answer.
"""

from typing import Annotated, Any, Literal, TypeAlias, get_args

from msgspec import UNSET, Meta, UnsetType

from seawall.schemas.decisions import CommandKind
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import LEVELS, MEASURES, Level
from seawall.schemas.tables import Name, Number, Table, between, check_table, ruled, unknown

RULES_MAX = 1_000
CONDITIONS_MAX = 8
COMMANDS: tuple[str, ...] = get_args(CommandKind)
PERMISSIVE = ("REINSTATE",)  # loosening takes m-of-n people (architecture.md, "Evidence"), so no rule may
DIRECTED = ("SET_LIMIT", "SET_HAIRCUT")  # these could loosen as well; a rule may only tighten
Feed = Literal["stale", "dead", "back", "diverging", "backwards"]
FEEDS: dict[Feed, str] = {
    "stale": "stale_feed",
    "dead": "dead_feed",
    "back": "feed_back",
    "diverging": "venue_gap",
    "backwards": "time_backwards",
}
VenueState = Literal["up", "degraded", "down", "withdrawals_blocked", "recovered"]
VENUE_STATES: tuple[str, ...] = get_args(VenueState)
"""What venues say, and that one has been well for ``recover_s`` again."""
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

_Text: TypeAlias = str | UnsetType
_Name: TypeAlias = Name | UnsetType
_Ratio: TypeAlias = Annotated[float, between(0, 1)] | UnsetType
_Size: TypeAlias = Annotated[float, between(0, 1e15)] | UnsetType
_Patience: TypeAlias = Annotated[float, between(0.001, 1e5)]


class Trigger(Table, frozen=True):
    """A trigger of a rule: exactly one of what can happen, and which of those."""

    limit: _Name = UNSET
    level: Level | UnsetType = UNSET
    alert: _Name = UNSET
    venue_status: VenueState | UnsetType = UNSET
    notice: Literal["rating", "regulation", "exploit", "insolvency", "reserves", "delisting", "outage"] | UnsetType = (
        UNSET
    )
    feed: Feed | UnsetType = UNSET
    fill: Literal["liquidation", "adl", "settlement", "manual"] | UnsetType = UNSET
    acknowledgement: (
        Literal["completed", "partial", "rejected", "unknown", "silent", "late", "expired", "contradicted"] | UnsetType
    ) = UNSET
    rule: _Name = UNSET
    scope: _Text = UNSET

    def __post_init__(self) -> None:
        triggers = [name for name in TRIGGERS if getattr(self, name) is not UNSET]
        if len(triggers) != 1:
            raise ValueError(f"needs exactly one of {', '.join(TRIGGERS)}; or join several with all or any")
        if (triggers == ["limit"]) != (self.level is not UNSET):
            raise ValueError(f"level belongs to a limit, and a limit needs one of {', '.join(LEVELS)}")
        if self.rule is not UNSET and triggers != ["acknowledgement"]:
            raise ValueError("rule says whose commands are answered; it belongs to acknowledgement")
        kind = (self.scope or "").partition(":")[0]
        if kind and kind not in (*MEASURES, "instrument", "notice"):
            raise ValueError(unknown("scope", kind, MEASURES))


class Condition(Trigger, frozen=True):
    """One of several triggers that a rule joins; ``anywhere`` where it need not be of the same target."""

    anywhere: bool | UnsetType = UNSET


_JOINED = ruled(f"joins 2 to {CONDITIONS_MAX} conditions", min_length=2, max_length=CONDITIONS_MAX)
_Conditions: TypeAlias = Annotated[tuple[Condition, ...], _JOINED] | UnsetType


class When(Trigger, frozen=True):
    """What a rule waits for: one trigger, or ``all`` or ``any`` of several ``within_s``."""

    all: _Conditions = UNSET
    any: _Conditions = UNSET
    within_s: Annotated[float, between(0.001, 1e6)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.all is UNSET and self.any is UNSET:
            if self.within_s is not UNSET:
                raise ValueError("within_s joins several conditions; leave it out, or join them with all or any")
            return super().__post_init__()
        for name in Trigger.__struct_fields__:
            if getattr(self, name) is not UNSET:
                raise ValueError(f"{name} stands beside joined conditions; write it into one of them")
        if self.all is not UNSET and all(one.anywhere is True for one in self.all):
            raise ValueError("all conditions hold anywhere; leave anywhere out of the one that names the target")
        if self.all is not UNSET and self.any is not UNSET:
            raise ValueError("all and any exclude each other; write a rule for each")


class CommandTable(Table, frozen=True):
    """A command of a rule: what it asks for, how that is worked out, and when a person must decide."""

    kind: str
    target: str
    ratio: _Ratio = UNSET
    haircut: _Ratio = UNSET
    value: Number | UnsetType = UNSET
    direction: Literal["tighten"] | UnsetType = UNSET
    amount: _Text = UNSET
    asset: _Text = UNSET
    instrument: _Text = UNSET
    limit: _Text = UNSET
    profile: _Text = UNSET
    text: _Text = UNSET
    venue: _Text = UNSET
    compute: _Text = UNSET
    to: Level | UnsetType = UNSET
    participation: Annotated[float, between(0.0001, 1)] | UnsetType = UNSET
    price_bound: _Ratio = UNSET
    size_max: _Size = UNSET
    multiple: Annotated[float, between(0.01, 100)] | UnsetType = UNSET
    positions: bool | UnsetType = UNSET
    human: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.kind not in COMMANDS:
            raise ValueError(unknown("kind", self.kind, COMMANDS))
        if self.kind in PERMISSIVE:
            raise ValueError(f"{self.kind} loosens, which takes people; a rule may only restrict")
        if self.kind not in DIRECTED and self.direction is not UNSET:
            raise ValueError(f"direction belongs to {' and '.join(DIRECTED)}; leave it out of {self.kind}")
        if self.target not in MEASURES:
            raise ValueError(unknown("target", self.target, MEASURES))
        self._check_compute()

    def _check_compute(self) -> None:
        how = self.compute
        if how is not UNSET and how not in COMPUTED.get(self.kind, ()):
            known = ", ".join(COMPUTED.get(self.kind, ())) or "nothing"
            raise ValueError(f"{self.kind} can have {known} computed, not {how!r}")
        for name, heeded in BOUNDS.items():
            if getattr(self, name) is not UNSET and how is UNSET:
                raise ValueError(f"{name} bounds what is computed; add compute or leave it out")
            if getattr(self, name) is not UNSET and how not in heeded:
                raise ValueError(f"{name} bounds {', '.join(heeded)}, not {how}; leave it out")
        if how == "headroom" and self.target not in POSITION_SCOPES:
            scopes = ", ".join(POSITION_SCOPES)
            raise ValueError(f"headroom is computed of {scopes}, not of {self.target}; target one")
        for name in {"ratio": ("limit", "ratio"), "volatility": ("asset",)}.get(how or "", ()):
            if getattr(self, name) is UNSET:
                raise ValueError(f"compute = {how!r} needs {name}; add it")


class RuleTable(Table, frozen=True):
    """A ``[[rule]]``: what it waits for, and what it commands then."""

    id: Name
    when: When
    commands: tuple[CommandTable, ...]
    cooldown_s: Annotated[float, between(0, 1e9)] = 0
    expires_s: Annotated[float, between(1, 1e6)] | UnsetType = UNSET
    dwell_s: Annotated[float, between(0.001, 1e6)] | UnsetType = UNSET
    repeat: bool | UnsetType = UNSET
    priority: Annotated[int, between(-1000, 1000)] | UnsetType = UNSET
    shadow: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.repeat and self.dwell_s is UNSET:
            raise ValueError("repeat says again every dwell_s while it stands; add dwell_s")
        if not self.commands:
            raise ValueError("no commands; add one")


class ResponseTable(Table, frozen=True):
    """The terms of ``[response]``.

    Attributes
    ----------
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

    mode: Literal["act", "dry_run"] = "act"
    subscribers: tuple[str, ...] = ()
    acknowledge_s: _Patience = 10
    complete_s: _Patience = 60
    verify_s: _Patience = 30
    commands_max: Annotated[int, between(1, 100_000)] = 60
    per_s: _Patience = 60
    human_above: _Size = UNSET
    recover_s: Annotated[float, between(0, 1e6)] = 300


class PlaybookFile(Table, frozen=True):
    """A playbook."""

    rule: Annotated[tuple[RuleTable, ...], Meta(max_length=RULES_MAX)] = ()
    response: ResponseTable | UnsetType = UNSET


def read_response(content: dict[str, Any], file: str) -> dict[str, Any]:
    """Return the terms of ``[response]``, defaults filled in; empty where a playbook has none."""
    response: dict[str, Any] = check_table(content, PlaybookFile, file).get("response", {})
    return response


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
    rules: list[dict[str, Any]] = check_table(content, PlaybookFile, file)["rule"]
    names = [rule["id"] for rule in rules]
    for at, rule in enumerate(rules):
        if rule["id"] in (*names[:at], "unvalued_position"):  # the one that is built in
            raise UsageError(f"{file}: the rule id {rule['id']!r} is taken; give each rule its own")
        if "all" in rule["when"] or "any" in rule["when"]:
            rule["when"].setdefault("within_s", 60)
        for command in rule["commands"]:
            if command["kind"] in DIRECTED:  # inside the signature: subscribers take it from one key only where it says
                command["direction"] = "tighten"
        _check_names(rule, file, limits, names, "response" in content)
    return rules


def conditions_of(rule: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the triggers of a rule: its one, or those that it joins."""
    when = rule["when"]
    found: list[dict[str, Any]] = when.get("all") or when.get("any") or [when]
    return found


def _check_names(rule: dict[str, Any], file: str, limits: list[str] | None, rules: list[str], watched: bool) -> None:
    """Check the limits and rules that a rule names."""
    place = f"{file} [[rule]] {rule['id']}"
    for condition in conditions_of(rule):
        named, other = condition.get("limit"), condition.get("rule")
        if named is not None and limits is not None and named not in (*limits, "default-deny"):
            raise UsageError(f"{place}: {unknown('limit', named, [*limits, 'default-deny'])}")
        if other is not None and other not in rules:
            raise UsageError(f"{place}: {unknown('rule', other, rules)}")
        if "acknowledgement" in condition and not watched:
            raise UsageError(f"{place}: answers are only heard with terms; add a table [response]")
