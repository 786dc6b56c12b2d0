"""TOML tables as structs: msgspec checks them, and what it refuses is told in one form.

A table is a subclass of :class:`Table`. Its fields carry types and bounds; what several keys must hold together is
checked in ``__post_init__``, which raises ValueError. A refusal is one line: the file, the table, the key and its
value, the rule, and where a name is not known the nearest one that is. ``schemas/generate.py`` writes a JSON Schema of
each kind of file for editors.
"""

import difflib
import math
import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, inspect

from seawall.schemas.errors import UsageError
from seawall.schemas.events import IDENTIFIER_PATTERN

SHOWN_MAX = 60  # characters of a value in a refusal
INTEGER_END = 1 << 63
_PATTERN_HEAD, _PATTERN_TAIL = "^(?:", r")(?!\n)$"  # $ alone lets a text end with a line feed
_TOKEN = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_NAMES: dict[type, str] = {
    inspect.StrType: "a text",
    inspect.IntType: "an integer",
    inspect.FloatType: "a finite number",
    inspect.BoolType: "true or false",
    inspect.ListType: "a list",
    inspect.VarTupleType: "a list",
    inspect.DictType: "a table",
    inspect.StructType: "a table",
}
Steps = list[Any]  # keys, and positions from 0


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a TOML file; a field whose default is UNSET is left out where the file leaves it out."""


def between(low: float, high: float) -> Meta:
    """Return the rule that a number lies in an interval, ends included."""
    return Meta(ge=low, le=high)


def text_like(pattern: str) -> Meta:
    """Return the rule that a whole text matches a pattern."""
    return Meta(pattern=f"{_PATTERN_HEAD}{pattern}{_PATTERN_TAIL}")


def ruled(rule: str, secret: bool = False, **bounds: Any) -> Meta:
    """Return bounds with words of their own for the rule; what is ``secret`` is never shown."""
    return Meta(extra={"rule": rule, "secret": secret}, **bounds)


Number = Annotated[float, between(-sys.float_info.max, sys.float_info.max)]
"""Any finite number."""
Integer = Annotated[int, between(-INTEGER_END, INTEGER_END - 1)]
"""Any integer that a journal can hold."""
Name = Annotated[str, text_like(IDENTIFIER_PATTERN)]


def check_table(found: Any, kind: Any, place: str) -> Any:
    """Return the values of a table as the file has them, in the order of its definition, defaults filled in.

    Parameters
    ----------
    kind
        A :class:`Table`, or a list of one.
    place
        The file, or the table where it is not the whole file.

    Raises
    ------
    UsageError
        A key is unknown, missing, of another type or against its rule.

    Examples
    --------
    >>> class Feed(Table, frozen=True):
    ...     wait_s: Annotated[float, between(0, 10)] = 1
    ...     topics: tuple[str, ...] = ()
    >>> check_table({"topics": ["fills"]}, Feed, "desk.toml")
    {'wait_s': 1, 'topics': ['fills']}
    >>> check_table({"wait": 2}, Feed, "desk.toml")
    Traceback (most recent call last):
    seawall.schemas.errors.UsageError: desk.toml: there is no key 'wait'; did you mean 'wait_s'?
    """
    try:
        checked = msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise UsageError(_refusal(str(error), found, kind, place)) from None
    return _filled(found, checked, place)


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return the valid word that is most like ``word``."""
    return next(iter(difflib.get_close_matches(word, list(valid), n=1, cutoff=0.0)), "")


def unknown(what: str, word: str, valid: Iterable[str]) -> str:
    """Return the words that refuse a name which does not exist.

    Examples
    --------
    >>> unknown("target", "acount", ["account", "venue"])
    "there is no target 'acount'; did you mean 'account'?"
    """
    return f"there is no {what} {word!r}; did you mean {nearest(word, valid)!r}?"


def _filled(found: Any, checked: Any, place: str) -> Any:
    """Return what the file says, an integer as an integer, with what the struct has where the file says nothing."""
    if isinstance(checked, msgspec.Struct):
        given = {} if found is UNSET else found
        values = ((key, given.get(key, UNSET), getattr(checked, name)) for name, key in _keys(type(checked)))
        return {key: _filled(own, value, f"{place}: {key}") for key, own, value in values if value is not UNSET}
    if found is UNSET:
        return list(checked) if isinstance(checked, tuple) else checked
    if isinstance(checked, list | tuple):
        return [_filled(one, value, place) for one, value in zip(found, checked, strict=True)]
    if isinstance(checked, dict):
        return {key: _filled(found[key], value, f"{place}: {key}") for key, value in checked.items()}
    if isinstance(checked, float) and isinstance(found, int) and abs(found) >= INTEGER_END:
        raise UsageError(f"{place} is {_shown(found)}; it must be a finite number")
    return found


@lru_cache(maxsize=256)
def _keys(kind: type[msgspec.Struct]) -> tuple[tuple[str, str], ...]:
    return tuple((field.name, field.encode_name) for field in msgspec.structs.fields(kind))


# --- the form of a refusal --------------------------------------------------------------------------------------------


def _refusal(error: str, found: Any, kind: Any, place: str) -> str:
    """Return our words for what msgspec refuses: ``Expected `int` <= 5 - at `$.market.groups```."""
    message, _, at = error.rpartition(" - at `") if error.endswith("`") and " - at `" in error else (error, "", "$")
    path: Steps = []
    for key, index in _TOKEN.findall(at.rstrip("`")):
        path.append(_culprit(error, found, kind, path) if index == "..." else int(index) if index else key)
    info = _type_at(inspect.type_info(kind), path)
    known = re.fullmatch(r"Object (contains unknown|missing required) field `(.*)`", message)
    if known is not None:
        where, key = _place(found, path, place), known[2]
        if known[1] == "missing required":
            return f"{where}: {key} is missing; add it"
        return f"{where}: {unknown('key', key, [field.encode_name for field in info.fields])}"
    if not message.startswith(("Expected `", "Invalid enum value")):  # the words of a __post_init__
        return f"{_place(found, path, place)}: {message}"
    value = _at(found, path)
    words = info.extra if isinstance(info, inspect.Metadata) and info.extra else {}
    own = words.get("rule", "") if words.get("secret") or ", got " not in message else ""
    rule = own or _rule(_bare(info), value, message)
    here = _place(found, path[:-1], place) + (f": {path[-1]}" if path and isinstance(path[-1], str) else "")
    here += f" {path[-1] + 1}" if path and isinstance(path[-1], int) else ""
    return f"{here} {rule}" if words.get("secret") else f"{here} is {_shown(value)}; it {rule}"


def _place(found: Any, path: Steps, place: str) -> str:
    """Return file and table: ``desk.toml [market]``, ``book.toml [[rule]] margin-call: when``."""
    for at, step in enumerate(path):
        found = found[step]
        if isinstance(step, int):
            name = (found.get("id") or found.get("name")) if isinstance(found, dict) else None
            place += f" {name if isinstance(name, str) else step + 1}"
        elif at:
            place += f": {step}"
        else:
            place += f" [[{step}]]" if isinstance(found, list) else f" [{step}]"
    return place


def _culprit(error: str, found: Any, kind: Any, path: Steps) -> str:
    """Return the key of the table at a path whose value is refused; msgspec says only that one is."""
    table = _at(found, path)
    for key, value in table.items():
        try:
            msgspec.convert(_replaced(found, path, {key: value}), kind)
        except msgspec.ValidationError as again:
            if str(again) == error:
                return str(key)
    return str(next(iter(table)))  # pragma: no cover - one of them is refused


def _replaced(found: Any, path: Steps, value: Any) -> Any:
    if not path:
        return value
    copy = dict(found) if isinstance(found, dict) else list(found)
    copy[path[0]] = _replaced(found[path[0]], path[1:], value)
    return copy


def _at(found: Any, path: Steps) -> Any:
    for step in path:
        found = found[step]
    return found


def _bare(info: Any) -> Any:
    return info.type if isinstance(info, inspect.Metadata) else info


def _type_at(info: Any, path: Steps) -> Any:
    for step in path:
        info = _bare(info)
        if isinstance(info, inspect.StructType):
            info = next(field.type for field in info.fields if field.encode_name == step)
        else:
            info = info.value_type if isinstance(info, inspect.DictType) else info.item_type
    return info


def _rule(info: Any, value: Any, message: str) -> str:
    if isinstance(info, inspect.LiteralType):
        words = [str(word) for word in info.values]
        return f"must be one of {', '.join(words)}; did you mean {nearest(str(value), words)!r}?"
    if ", got " in message or (isinstance(value, float) and math.isnan(value)):
        return f"must be {_NAMES[type(info)]}"
    if isinstance(info, inspect.StrType) and info.pattern:
        return f"must match {info.pattern.removeprefix(_PATTERN_HEAD).removesuffix(_PATTERN_TAIL)}"
    if isinstance(info, inspect.IntType | inspect.FloatType) and info.le != sys.float_info.max:
        return f"must lie between {info.ge:g} and {info.le:g}"
    if isinstance(info, inspect.VarTupleType):
        return f"must have at most {info.max_length} entries"
    return f"must be {_NAMES[type(info)]}"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return repr(str(value)[:SHOWN_MAX])
