"""Checking TOML tables: each key has a kind, a default and a rule; a key that is unknown is answered with the nearest.

Rules return an empty string, or what must hold; the caller's error is one line that names file and key.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from seawall.schemas.errors import UsageError

Rule = Callable[[Any], str]
REQUIRED = object()
ABSENT = object()  # a default that leaves the key out


class Field(NamedTuple):
    """One key: its kind (``text integer number boolean texts table tables any``), default and rule."""

    kind: str
    default: Any = REQUIRED
    rule: Rule | None = None


Table = dict[str, Field]


def check_table(found: dict[str, Any], table: Table, place: str) -> dict[str, Any]:
    """Return the values of a table in the order of its definition, defaults filled in.

    Raises
    ------
    UsageError
        A key is unknown, missing, of another kind or against its rule.
    """
    for name in found:
        if name not in table:
            raise UsageError(f"{place}: there is no key {name!r}; did you mean {nearest(name, table)!r}?")
    values = {}
    for name, field in table.items():
        if name in found:
            values[name] = _checked(found[name], field, f"{place}: {name}")
        elif field.default is REQUIRED:
            raise UsageError(f"{place}: {name} is missing; add it")
        elif field.default is not ABSENT:
            values[name] = field.default
    return values


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return the valid word that is most like ``word``."""
    return next(iter(difflib.get_close_matches(word, list(valid), n=1, cutoff=0.0)), "")


def one_of(*words: str) -> Rule:
    """Return the rule that a text is one of ``words``."""
    listed = ", ".join(words)
    return lambda value: "" if value in words else f"must be one of {listed}; did you mean {nearest(value, words)!r}?"


def number_in(low: float, high: float) -> Rule:
    """Return the rule that a number lies in an interval, ends included."""
    return lambda value: "" if low <= value <= high else f"must lie between {low:g} and {high:g}"


def text_like(pattern: str) -> Rule:
    """Return the rule that a text matches a pattern."""
    return lambda value: "" if re.fullmatch(pattern, value) else f"must match {pattern}"


def _checked(value: Any, field: Field, place: str) -> Any:
    if not _KINDS[field.kind](value):
        raise UsageError(f"{place} is {str(value)[:60]!r}; it must be {_NAMES[field.kind]}")
    broken = field.rule(value) if field.rule is not None else ""
    if broken:
        raise UsageError(f"{place} is {str(value)[:60]!r}; it {broken}")
    return value


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "integer": _is_integer,
    "number": lambda value: _is_integer(value) or (isinstance(value, float) and math.isfinite(value)),
    "boolean": lambda value: isinstance(value, bool),
    "texts": lambda value: _is_list(value, str),
    "table": lambda value: isinstance(value, dict),
    "tables": lambda value: _is_list(value, dict),
    "any": lambda value: True,
}
_NAMES = {
    "text": "a text",
    "integer": "an integer",
    "number": "a finite number",
    "boolean": "true or false",
    "texts": "a list of texts",
    "table": "a table",
    "tables": "a list of tables",
}
