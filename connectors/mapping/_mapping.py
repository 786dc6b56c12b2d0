"""A feed: one mapping file, read and checked, and what it makes of a foreign record.

1. ``[[skip]]`` rules name records that are none of Seawall's; of the others the first ``[[record]]`` that fits counts.
2. Its fields are made and written as an input record, which is then read like any other: every rule of contract.md,
   "Encoding" and "Input records" holds for it, and what breaks one is rejected by the same reason.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from seawall.connectors.mapping._fields import ABSENT, Make, Value, compile_field, find, path_of, shown, text_of
from seawall.connectors.mapping._framing import Decode, Format, open_format
from seawall.schemas.configuration import Configuration, read_toml
from seawall.schemas.decoding import CLASSES, decode_event
from seawall.schemas.errors import Reason, Rejected, UsageError
from seawall.schemas.events import Event
from seawall.schemas.tables import Table, check_table, nearest


class SkipTable(Table, frozen=True):
    """A ``[[skip]]``: foreign records that are none of Seawall's."""

    when: dict[str, Any]


class RecordTable(Table, frozen=True):
    """A ``[[record]]``: which foreign records it is for, and how the fields of an input record are made of them."""

    type: str
    fields: dict[str, Any]
    name: str = ""
    when: dict[str, Any] = msgspec.field(default_factory=dict)


class MappingFile(Table, frozen=True):
    """A mapping as its file has it."""

    record: tuple[RecordTable, ...]
    format: Format = "json"
    schemas: str = ""
    registry: str = ""
    credentials: str = ""
    unmatched: Literal["reject", "skip"] = "reject"
    skip: tuple[SkipTable, ...] = ()


class PresentTable(Table, frozen=True):
    """A condition on whether anything stands at a path."""

    present: bool


Condition = Callable[[Value], bool]
_encode = msgspec.json.Encoder().encode


class RecordRule(NamedTuple):
    """One ``[[record]]``: its name, when it counts, the type it makes and how its fields are made."""

    name: str
    when: Condition
    type: str
    fields: list[tuple[str, Make]]


class RecordMapping:
    """What a mapping file makes of foreign records.

    Attributes
    ----------
    kinds
        The types of input records it can make.
    lines
        Whether records may stand one per line in a file; framed ones hold any byte.
    """

    def __init__(
        self, file: str, decode: Decode, lines: bool, skips: list[Condition], rules: list[RecordRule], rest: bool
    ):
        self._file, self._decode, self._skips, self._rules, self._skip_rest = file, decode, skips, rules, rest
        self.lines = lines
        self.kinds = frozenset(rule.type for rule in rules)

    def read(self, raw: bytes) -> tuple[Event, bytes] | None:
        """Return the input record of a foreign one and its bytes; None where the mapping skips it.

        Raises
        ------
        Rejected
            It cannot be read or mapped, or breaks a rule of input records; the detail names file, record and field.
        BusError
            A schema registry did not answer.
        """
        record = self._decode(raw)
        if any(skip(record) for skip in self._skips):
            return None
        rule = next((rule for rule in self._rules if rule.when(record)), None)
        if rule is None:
            if self._skip_rest:
                return None
            raise Rejected(Reason.RECORD_MUST_MATCH_THE_MAPPING, f"{self._file}: no record of the mapping is for it")
        made = {"type": rule.type}
        for name, make in rule.fields:
            value = make(record)
            if value is not ABSENT:
                made[name] = value
        line = _encode(made)
        try:
            return decode_event(line), line
        except Rejected as rejected:
            raise Rejected(rejected.reason, f"{self._file} {rule.name}: {rejected.detail}") from None

    @classmethod
    def load(cls, path: Path) -> "RecordMapping":
        """Read a mapping file.

        Raises
        ------
        UsageError
            It cannot hold; names the record, the field and the rule.
        """
        return read_mapping(read_toml(path), path.name, path.absolute().parent)


def load_mappings(configuration: Configuration) -> dict[str, RecordMapping]:
    """Return the feed of each source that has one, by the source's name in the journal."""
    feeds = {name: RecordMapping.load(path) for name, path in configuration.mappings.items()}
    for name, feed in feeds.items():
        if name in configuration.sources and not feed.lines:
            text = f"{name} is a file of lines, and framed records may hold line feeds; put them on a topic"
            raise UsageError(f"{configuration.path.name} [inputs] mappings: {text}")
    return feeds


def read_mapping(content: dict[str, Any], file: str, directory: Path = Path()) -> RecordMapping:
    """Check the content of a mapping file; raises as ``RecordMapping.load``."""
    top = check_table(content, MappingFile, file)
    decode = open_format(top, directory, file)
    skips = [_condition(one["when"], f"{file} [[skip]]") for one in top["skip"]]
    rules: list[RecordRule] = []
    caught = ""
    for found in top["record"]:
        rule = _rule(found, file)
        if caught:
            raise UsageError(f"{file} {rule.name} is never reached: {caught} has no when, so it takes every record")
        if any(rule.name == other.name for other in rules):
            raise UsageError(f"{file} {rule.name} stands twice; give each [[record]] a name of its own")
        caught = "" if found["when"] else rule.name
        rules.append(rule)
    if not rules:
        raise UsageError(f"{file} has no [[record]]; add one per kind of foreign record")
    return RecordMapping(file, decode, top["format"] == "json", skips, rules, top["unmatched"] == "skip")


def _rule(found: dict[str, Any], file: str) -> RecordRule:
    name = f"record {found['name'] or found['type']!r}"
    place = f"{file} {name}"
    kind = CLASSES.get(found["type"])
    if kind is None:
        near = nearest(found["type"], CLASSES)
        raise UsageError(f"{place}: type {found['type']!r} is no input record; did you mean {near!r}?")
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    fields = []
    for field, spec in found["fields"].items():
        if field not in known:
            near = nearest(field, known)
            raise UsageError(f"{place}: {found['type']} has no field {field!r}; did you mean {near!r}?")
        fields.append((field, compile_field(spec, known[field], f"{place} field {field}")))
    missing = [field for field, one in known.items() if one.required and field not in found["fields"]]
    if missing:
        raise UsageError(f"{place}: {found['type']} needs {', '.join(missing)}; say where from, or a constant")
    return RecordRule(name, _condition(found["when"], place), found["type"], fields)


def _condition(when: dict[str, Any], place: str) -> Condition:
    """Return whether all of ``when`` holds: a path and the value, list of values or ``{present}`` that it must have."""
    tests = [_test(path_of(path, f"{place} when"), wanted, f"{place} when {path}") for path, wanted in when.items()]
    return lambda record: all(test(record) for test in tests)


def _test(path: tuple[str, ...], wanted: Any, place: str) -> Condition:
    if isinstance(wanted, dict):
        present = check_table(wanted, PresentTable, place)["present"]
        return lambda record: (find(record, path) not in (ABSENT, None)) == present
    words = wanted if isinstance(wanted, list) else [wanted]
    if not words or not all(isinstance(word, str | int) for word in words):
        raise UsageError(f"{place} is {shown(wanted)}; write a text, a whole number, true, false or a list of them")
    texts = {text_of(word) for word in words}

    def test(record: Value) -> bool:
        value = find(record, path)
        return isinstance(value, str | int) and text_of(value) in texts

    return test
