"""Limit documents: what a ``[[limit]]`` may say (CONTRACT §6)."""

from typing import Any

from seawall.schemas.errors import UsageError
from seawall.schemas.events import IDENTIFIER_PATTERN
from seawall.schemas.measures import MEASURES
from seawall.schemas.tables import ABSENT, Field, Table, check_table, nearest, number_in, one_of, text_like

LEVELS = ("warning", "soft", "hard")
LIMITS_MAX = 10_000
_NOT_NEGATIVE = number_in(0, 1e12)

# window_s, floor, ceiling and scaling belong to the contract; until they are evaluated a limit that has one is refused,
# because a limit that does less than it says is worse than none.
UNSUPPORTED = ("window_s", "floor", "ceiling", "scaling", "valid_from_us", "valid_to_us")

_LIMIT: Table = {
    "id": Field("text", rule=text_like(IDENTIFIER_PATTERN)),
    "scope": Field("text"),
    "measure": Field("text"),
    "direction": Field("text", "above", one_of("above", "below")),
    "warning": Field("number", ABSENT),
    "soft": Field("number", ABSENT),
    "hard": Field("number", ABSENT),
    "exit_ratio": Field("number", 1.0, number_in(1e-9, 1)),
    "dwell_s": Field("number", 0, _NOT_NEGATIVE),
    "window_s": Field("number", ABSENT, _NOT_NEGATIVE),
    "floor": Field("number", ABSENT),
    "ceiling": Field("number", ABSENT),
    "scaling": Field("table", ABSENT),
    "valid_from_us": Field("integer", ABSENT, _NOT_NEGATIVE),
    "valid_to_us": Field("integer", ABSENT, _NOT_NEGATIVE),
    "owner": Field("text", ABSENT),
}


def read_limits(content: dict[str, Any], file: str) -> list[dict[str, Any]]:
    """Return the limits of a limits file, checked, defaults filled in.

    Raises
    ------
    UsageError
        Naming the file, the limit and the nearest valid name.
    """
    tables = check_table(content, {"limit": Field("tables", [])}, file)["limit"]
    if len(tables) > LIMITS_MAX:
        raise UsageError(f"{file}: {len(tables)} limits, at most {LIMITS_MAX}")
    limits = [_limit(table, f"{file} [[limit]] {table.get('id', number)}") for number, table in enumerate(tables, 1)]
    seen: set[str] = set()
    for limit in limits:
        if limit["id"] in seen or limit["id"] == "default-deny":
            raise UsageError(f"{file}: the limit id {limit['id']!r} is taken; give each limit its own")
        seen.add(limit["id"])
    return limits


def check_scope(scope: str, place: str) -> str:
    """Return the kind of a scope ``kind:NAME``, ``kind:*`` or ``firm``; raise UsageError for any other."""
    kind, colon, name = scope.partition(":")
    if kind not in MEASURES:
        raise UsageError(f"{place}: there is no scope {kind!r}; did you mean {nearest(kind, MEASURES)!r}?")
    if (kind == "firm") == bool(colon):
        raise UsageError(f"{place}: scope is {scope!r}; write firm, or {kind}:NAME or {kind}:*")
    broken = "" if kind == "firm" or name == "*" else text_like(IDENTIFIER_PATTERN)(name)
    if broken:
        raise UsageError(f"{place}: the name in scope {scope!r} {broken}")
    return kind


def _limit(table: dict[str, Any], place: str) -> dict[str, Any]:
    limit = check_table(table, _LIMIT, place)
    measures = MEASURES[check_scope(limit["scope"], place)]
    if limit["measure"] not in measures:
        wanted = limit["measure"]
        raise UsageError(
            f"{place}: {limit['scope']} has no measure {wanted!r}; did you mean {nearest(wanted, measures)!r}?"
        )
    for name in UNSUPPORTED:
        if name in limit:
            raise UsageError(f"{place}: {name} is not evaluated by this version; remove it")
    _check_levels(limit, place)
    return limit


def _check_levels(limit: dict[str, Any], place: str) -> None:
    levels = [limit[level] for level in LEVELS if level in limit]
    if not levels:
        raise UsageError(f"{place}: no level; give at least one of {', '.join(LEVELS)}")
    if levels != sorted(levels, reverse=limit["direction"] == "below"):
        order = "fall" if limit["direction"] == "below" else "rise"
        raise UsageError(f"{place}: the levels must {order} from warning to hard")
