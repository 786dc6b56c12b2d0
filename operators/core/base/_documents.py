"""Strict reading of JSON documents that people write: every refusal is one line with place, field and rule.

Whatever is missing, unknown, repeated or not a finite number is refused; nothing is guessed.

Examples
--------
>>> fields = DocumentFields({"notionl": 5}, "trade 1")
>>> fields.text("notional", "0")
'0'
>>> fields.finish()
Traceback (most recent call last):
...
seawall.operators.core.base._documents.DocumentError: trade 1, field notionl: FIELD_IS_UNKNOWN_HERE (did you mean notional?)
"""  # noqa: E501

import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

NUMBER_MAX = 1e20  # twenty digits, as everywhere in the contract; squares stay finite
ENTRIES_MAX = 1_000_000
DESCRIPTIONS = frozenset({
    "description", "frequency", "generated_by", "label", "name", "nature", "note", "parameters", "published",
    "recomputed_unmargined_cap", "recomputed_unrounded", "rounding", "source", "sources",
})  # fmt: skip
T = TypeVar("T")


class DocumentError(ValueError):
    """A document that cannot be taken: where it stands, and the rule it breaks. The message is one line."""

    def __init__(self, where: str, field: str, rule: str, detail: str = "") -> None:
        self.where, self.field, self.rule = where, field, rule
        place = ", ".join(part for part in (where, f"field {field}" if field else "") if part)
        super().__init__(" ".join(f"{place or 'document'}: {rule}{f' ({detail})' if detail else ''}".split()))


class DocumentFields:
    """The fields of one JSON object, taken one by one; ``finish`` refuses those that nobody took."""

    def __init__(self, value: object, where: str, prefix: str = "") -> None:
        self.where, self.prefix = where, prefix
        if not isinstance(value, Mapping):
            self.refuse("", "MUST_BE_AN_OBJECT", f"got {shown_value(value)}")
        self.values: Mapping[str, Any] = value
        self.taken: set[str] = set()

    def refuse(self, field: str, rule: str, detail: str = "") -> NoReturn:
        """Raise the error for ``field``."""
        raise DocumentError(self.where, f"{self.prefix}{field}".rstrip("."), rule, detail)

    def has(self, field: str) -> bool:
        """Return whether ``field`` is there and not null."""
        self.taken.add(field)
        return self.values.get(field) is not None

    def take(self, field: str, convert: Callable[[str, Any], T], default: T | None) -> T:
        """Return the converted value of ``field``, or ``default`` where it is absent."""
        if self.has(field):
            return convert(field, self.values[field])
        if default is None:
            self.refuse(field, "FIELD_IS_REQUIRED")
        return default

    def number(self, field: str, default: float | None = None, low: float = -NUMBER_MAX) -> float:
        """Return a finite number of at least ``low``."""

        def convert(name: str, value: Any) -> float:
            if isinstance(value, bool) or not isinstance(value, int | float):
                self.refuse(name, "MUST_BE_A_NUMBER", f"got {shown_value(value)}")
            if not abs(value) <= NUMBER_MAX:  # NaN too
                self.refuse(name, "MUST_BE_FINITE_AND_AT_MOST_1E20", f"got {shown_value(value)}")
            if value < low:
                self.refuse(name, "MUST_NOT_BE_NEGATIVE" if low == 0 else f"MUST_BE_AT_LEAST_{low:g}", f"got {value}")
            return float(value)

        return self.take(field, convert, default)

    def positive(self, field: str) -> float:
        """Return a number above 0."""
        value = self.number(field)
        if value <= 0:
            self.refuse(field, "MUST_BE_POSITIVE", f"got {value:g}")
        return value

    def count(self, field: str) -> int:
        """Return a whole number, 0 where it is absent."""
        value = self.number(field, 0.0, low=0.0)
        if value != int(value):
            self.refuse(field, "MUST_BE_A_WHOLE_NUMBER", f"got {value:g}")
        return int(value)

    def flag(self, field: str, default: bool) -> bool:
        """Return true or false."""
        value = self.values.get(field, default)
        self.taken.add(field)
        if not isinstance(value, bool):
            self.refuse(field, "MUST_BE_TRUE_OR_FALSE", f"got {shown_value(value)}")
        return value

    def text(self, field: str, default: str | None = None) -> str:
        """Return a text; a whole number is taken as its digits."""

        def convert(name: str, value: Any) -> str:
            if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > 128:
                self.refuse(name, "MUST_BE_A_TEXT_OF_AT_MOST_128_CHARACTERS", f"got {shown_value(value)}")
            return str(value).strip()

        value = self.take(field, convert, default)
        if not value and default is None:
            self.refuse(field, "FIELD_IS_REQUIRED")
        return value

    def choice(self, field: str, names: tuple[str, ...], default: str | None = None) -> str:
        """Return which of ``names`` the text is, upper and lower case being the same."""
        value = self.text(field, default)
        for name in names:
            if name.lower() == value.lower():
                return name
        self.refuse(field, f"MUST_BE_ONE_OF_{'|'.join(names)}", f"got {shown_value(value)}")

    def objects(self, field: str) -> list[Any]:
        """Return a list that has entries."""
        value = self.values.get(field)
        self.taken.add(field)
        if not isinstance(value, list) or not value:
            self.refuse(field, "MUST_BE_A_LIST_THAT_IS_NOT_EMPTY", f"got {shown_value(value)}")
        if len(value) > ENTRIES_MAX:
            self.refuse(field, f"MUST_NOT_EXCEED_{ENTRIES_MAX}_ENTRIES")
        return value

    def finish(self) -> None:
        """Refuse the fields that nobody took."""
        for field in self.values:
            if field not in self.taken and field not in DESCRIPTIONS:
                near = get_close_matches(str(field), [*self.taken, *DESCRIPTIONS], n=1)
                self.refuse(str(field), "FIELD_IS_UNKNOWN_HERE", f"did you mean {near[0]}?" if near else "")


def parse_json(text: str | bytes) -> object:
    """Return the JSON value of ``text``; refuse repeated keys, NaN, infinities and anything that is not JSON.

    Raises
    ------
    DocumentError
        With the position of what is wrong.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            names = [name for name, _ in pairs]
            raise DocumentError("", next(n for n in names if names.count(n) > 1), "FIELD_MUST_NOT_BE_REPEATED")
        return result

    def refuse_constant(name: str) -> NoReturn:
        raise DocumentError("", "", "MUST_BE_FINITE_AND_AT_MOST_1E20", f"got {name}")

    try:
        parsed: object = json.loads(text, object_pairs_hook=unique, parse_constant=refuse_constant)
    except DocumentError:
        raise
    except (ValueError, RecursionError) as error:
        raise DocumentError("", "", "MUST_BE_JSON", str(error)[:200]) from error
    return parsed


def shown_value(value: object) -> str:
    """Return a value as a message shows it: JSON, at most 60 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
