"""Fields of a mapped record: where each value comes from, and how it becomes what an input record holds.

A field's rule is checked when the mapping is read and compiled to one function. Numbers are read exactly, to the last
digit; a text becomes a decimal, a time, a boolean or a side only where it says so without doubt.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any, Literal, get_args, get_origin

import msgspec

from seawall.schemas.decimals import malformed, number_text
from seawall.schemas.errors import Reason, Rejected, UsageError
from seawall.schemas.events import FieldKind, field_kind
from seawall.schemas.tables import Table, check_table, nearest

# Values of foreign records: where they stand, and how each becomes what a field of an input record takes.
#
# Decoded records hold texts, integers, ``Decimal`` (every JSON number with a point or an exponent, by its text),
# booleans, None, lists and objects; from Avro also times. Nothing is a float: scaling is exact.

Value = Any
Convert = Callable[[Value], Value]
ABSENT = object()
UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 0}
NS_PER_US = 1_000
TEXT_MAX = 60
INTEGER_END = 10**20  # what a decimal string can hold before the point
_EXACT = Context(prec=120, traps=[Inexact, InvalidOperation, Overflow])
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def find(record: Value, path: tuple[str, ...]) -> Value:
    """Return what stands at a path, ``ABSENT`` where nothing does; in a list a segment is a position from 0."""
    for segment in path:
        if isinstance(record, dict):
            record = record.get(segment, ABSENT)
        elif isinstance(record, list) and segment.isdigit() and int(segment) < len(record):
            record = record[int(segment)]
        else:
            return ABSENT
    return record


def text_of(value: Value) -> str:
    """Return a text, an integer or a boolean as text: identifiers are often numbers elsewhere."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{shown(value)} is no text")


def decimal_of(value: Value) -> str:
    """Return a number, or a text that is one, as a decimal string."""
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        return number_text(str(value))
    raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{shown(value)} is no number")


def integer_of(value: Value) -> int:
    """Return a whole number, or a text that is one."""
    try:
        number = Decimal(decimal_of(value))
    except InvalidOperation:  # pragma: no cover - decimal_of has checked it
        raise malformed(str(value)) from None
    if number != int(number):
        raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{shown(value)} is no whole number")
    return int(number)


def boolean_of(value: Value) -> bool:
    """Return a boolean, or one of the texts true and false."""
    found = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
    if isinstance(found, bool):
        return found
    raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{shown(value)} is neither true nor false")


def plain_of(value: Value) -> Value:
    """Return a list or an object as it is, its numbers as decimal strings."""
    if isinstance(value, list):
        return [plain_of(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain_of(item) for name, item in value.items()}
    return decimal_of(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else value


def time_reader(unit: str, zone: str) -> Convert:
    """Return what makes microseconds since the epoch of a time.

    Parameters
    ----------
    unit
        ``s``, ``ms``, ``us``, ``ns`` since the epoch (``ns`` rounded down), or ``iso``.
    zone
        ``UTC`` where ISO times without an offset are meant so; empty: such times are rejected.
    """
    if unit == "iso":
        return lambda value: _iso_us(value, zone)

    def read(value: Value) -> int:
        if type(value) is int:
            return value * UNITS[unit] if unit != "ns" else value // NS_PER_US
        if isinstance(value, datetime):
            return _micros(value, zone)
        number = _decimal(value)
        exact = _EXACT.divide(number, Decimal(NS_PER_US)) if unit == "ns" else _EXACT.multiply(number, UNITS[unit])
        return int(exact // 1)

    return read


def _iso_us(value: Value, zone: str) -> int:
    if isinstance(value, datetime):
        return _micros(value, zone)
    try:
        found = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{shown(value)} is no ISO 8601 time") from None
    return _micros(found, zone)


def _micros(found: datetime, zone: str) -> int:
    if found.tzinfo is None and zone != "UTC":
        raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{found} has no offset; say zone = 'UTC' if that is meant")
    past = (found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH
    return (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds


def scaled(value: Value, factor: Decimal) -> Value:
    """Return a number times a factor, exactly."""
    return _EXACT.multiply(_decimal(value), factor)


def absolute(value: Value) -> Value:
    """Return a number without its sign."""
    return abs(_decimal(value))


def sign_of(value: Value) -> str:
    """Return ``positive`` or ``negative``; zero has no side."""
    number = _decimal(value)
    if not number:
        raise Rejected(Reason.FIELD_MUST_HAVE_A_KNOWN_VALUE, "0 is neither positive nor negative")
    return "positive" if number > 0 else "negative"


def pairs_of(value: Value, members: tuple[str, ...]) -> list[list[str]]:
    """Return a list of objects or lists as a list of pairs, such as the levels of a book."""
    if not isinstance(value, list):
        raise Rejected(Reason.FIELD_MUST_HAVE_ITS_TYPE, f"{shown(value)} is no list")
    pairs = []
    for item in value:
        pair = [find(item, (member,)) for member in members]
        if ABSENT in pair:
            raise Rejected(Reason.FIELD_MUST_BE_PRESENT, f"{shown(item)} has no {' and '.join(members)}")
        pairs.append([decimal_of(one) for one in pair])
    return pairs


def shown(value: Value) -> str:
    """Return a value for an error message, cut short."""
    text = repr(str(value) if isinstance(value, Decimal | date) else value)
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "…"


def _decimal(value: Value) -> Decimal:
    if type(value) is int and -INTEGER_END < value < INTEGER_END:
        return Decimal(value)
    try:
        return Decimal(decimal_of(value))
    except InvalidOperation:  # pragma: no cover - decimal_of has checked it
        raise malformed(str(value)) from None


# One field of a mapped record: where it comes from and what is done to it, checked when the mapping is read.
#
# What is done, in this order: ``from`` or ``join`` finds it, ``default`` stands in where it is absent or null, ``sign``
# or ``values`` translate it, ``absolute`` and ``scale`` calculate, ``case``, ``prefix`` and ``suffix`` shape the text,
# and the kind of the field (text, decimal, time, …) decides how it is written.

Make = Callable[[Value], Value]
"""From a decoded foreign record to the field's value; ``ABSENT`` where the field is left out."""

_SIGNS = ("positive", "negative")


class FieldTable(Table, frozen=True):
    """A field of a ``[[record]]`` that says more than the path it comes from."""

    from_: Any = msgspec.field(default=None, name="from")
    constant: Any = None
    join: tuple[str, ...] = ()
    with_: str = msgspec.field(default="-", name="with")
    default: Any = None
    optional: bool = False
    values: dict[str, Any] = msgspec.field(default_factory=dict)
    sign: dict[str, Any] = msgspec.field(default_factory=dict)
    absolute: bool = False
    scale: Any = None
    time: Literal["", "s", "ms", "us", "ns", "iso"] = ""
    zone: Literal["", "UTC"] = ""
    case: Literal["", "lower", "upper"] = ""
    prefix: str = ""
    suffix: str = ""
    pairs: tuple[str, ...] = ()


def compile_field(spec: Any, field: msgspec.structs.FieldInfo, place: str) -> Make:
    """Return what makes a field of a record.

    Parameters
    ----------
    spec
        What the mapping says: a path, or a :class:`FieldTable`.
    field
        The field of the input record, as ``msgspec.structs.fields`` describes it.
    place
        File, record and field, for errors.

    Raises
    ------
    UsageError
        The mapping cannot hold: what is wrong, where, and what would do.
    """
    kind = field_kind(field.type)
    found = check_table({"from": spec} if isinstance(spec, str) else _table(spec, place), FieldTable, place)
    _check(found, kind, place)
    if found["optional"] and field.required:
        raise UsageError(f"{place} is required; optional leaves it out, give a default or take optional away")
    if found["constant"] is not None:
        value = _written(found["constant"], kind, field.type, place, "constant")
        return lambda record: value
    steps = [*_translations(found, kind, field.type, place), *_shapes(found, kind, place)]
    default = found["default"]
    if default is not None:
        default = _written(default, kind, field.type, place, "default")
    return _maker(_finder(found, place), steps, default, found["optional"], place)


def _maker(get: Make, steps: list[Make], default: Any, optional: bool, place: str) -> Make:
    def make(record: Value) -> Value:
        value = get(record)
        if value is ABSENT or value is None:
            if default is not None:
                return default
            if optional:
                return ABSENT
            raise Rejected(Reason.FIELD_MUST_BE_PRESENT, f"{place}: nothing stands where it comes from")
        try:
            for step in steps:
                value = step(value)
        except Rejected as rejected:
            raise Rejected(rejected.reason, f"{place}: {rejected.detail}") from None
        return value

    return make


def _table(spec: Any, place: str) -> dict[str, Any]:
    if not isinstance(spec, dict):
        raise UsageError(f"{place} is {spec!r}; write the path it comes from, or a table with from or constant")
    return spec


def _check(found: dict[str, Any], kind: FieldKind, place: str) -> None:
    """Check what goes together, and what the kind of the field can be asked."""
    ways = [name for name in ("from", "join", "constant") if found[name] not in (None, [])]
    if len(ways) != 1:
        raise UsageError(f"{place} needs one of from, join and constant; it has {' and '.join(ways) or 'none'}")
    if kind == "time" and ways == ["from"] and not found["time"]:
        raise UsageError(f"{place} is a time; say which: time = 's', 'ms', 'us', 'ns' or 'iso'")
    for name, kinds in (
        ("time", ("time",)),
        ("scale", ("decimal", "integer")),
        ("absolute", ("decimal",)),
        ("sign", ("text",)),
        ("case", ("text",)),
        ("prefix", ("text",)),
        ("suffix", ("text",)),
        ("join", ("text",)),
        ("values", ("text", "boolean", "integer", "decimal")),
        ("pairs", ("pairs",)),
    ):
        if found[name] and kind not in kinds:
            raise UsageError(f"{place} is a {kind}; {name} is for a {' or '.join(kinds)}")
    if found["zone"] and found["time"] != "iso":
        raise UsageError(f"{place}: zone goes with time = 'iso'; take it away")
    if found["sign"] and (found["values"] or set(found["sign"]) != set(_SIGNS)):
        raise UsageError(f"{place}: sign needs positive and negative, and no values beside it")
    if found["pairs"] and len(found["pairs"]) != 2:
        raise UsageError(f"{place}: pairs names two members, price and size")


def _finder(found: dict[str, Any], place: str) -> Make:
    if found["join"]:
        paths, between = [path_of(path, place) for path in found["join"]], found["with"]

        def join(record: Value) -> Value:
            parts = [find(record, path) for path in paths]
            if any(part is ABSENT or part is None for part in parts):
                return ABSENT
            try:
                return between.join(map(text_of, parts))
            except Rejected as rejected:
                raise Rejected(rejected.reason, f"{place}: {rejected.detail}") from None

        return join
    path = path_of(found["from"], place)
    return lambda record: find(record, path)


def path_of(path: Any, place: str) -> tuple[str, ...]:
    """Return the segments of a path: ``a.b.0``, or a list of segments where names contain points."""
    segments = path.split(".") if isinstance(path, str) else path
    if not isinstance(segments, list) or not segments or not all(isinstance(one, str) and one for one in segments):
        raise UsageError(f"{place}: {path!r} is no path; write 'order.id', or ['a.b', 'c'] where names hold points")
    return tuple(segments)


def _translations(found: dict[str, Any], kind: FieldKind, hint: Any, place: str) -> list[Make]:
    """Return what replaces values by others: by sign, or by what they are."""
    table = {str(key): _written(value, kind, hint, place, "values") for key, value in found["values"].items()}
    sides = {key: _written(value, kind, hint, place, "sign") for key, value in found["sign"].items()}
    if sides:
        return [lambda value: sides[sign_of(value)]]
    if not table:
        return []
    listed = ", ".join(table)

    def translate(value: Value) -> Value:
        word = str(value) if isinstance(value, Decimal) else text_of(value)
        if word not in table:
            raise Rejected(Reason.FIELD_MUST_HAVE_A_KNOWN_VALUE, f"{shown(value)} is none of {listed}")
        return table[word]

    return [translate]


def _shapes(found: dict[str, Any], kind: FieldKind, place: str) -> list[Make]:
    steps: list[Make] = []
    if found["absolute"]:
        steps.append(absolute)
    if found["scale"] is not None:
        factor = _factor(found["scale"], place)
        steps.append(lambda value: scaled(value, factor))
    if kind == "time":
        return [*steps, time_reader(found["time"], found["zone"])]
    if kind == "pairs":
        members = tuple(found["pairs"]) or ("0", "1")
        return [*steps, lambda value: pairs_of(value, members)]
    steps.append(_WRITE[kind])
    case, prefix, suffix = found["case"], found["prefix"], found["suffix"]
    if case:
        steps.append(str.lower if case == "lower" else str.upper)
    if prefix or suffix:
        steps.append(lambda value: f"{prefix}{value}{suffix}")
    return steps


def _factor(scale: Any, place: str) -> Decimal:
    try:
        factor = Decimal(str(scale))
    except InvalidOperation:
        factor = Decimal("NaN")
    if isinstance(scale, bool) or not factor.is_finite() or not factor:
        raise UsageError(f"{place}: scale is {scale!r}; write a number such as '0.001' or '-1'")
    return factor


def _written(value: Any, kind: FieldKind, hint: Any, place: str, name: str) -> Value:
    """Return a value of the mapping itself as the field takes it; one that it cannot take is an error now."""
    if get_origin(hint) is Literal and value not in get_args(hint):
        words = [word for word in get_args(hint) if word]
        raise UsageError(f"{place}: {name} {value!r} is none of {', '.join(words)}; did you mean "
                         f"{nearest(str(value), words)!r}?")  # fmt: skip
    try:
        exact = Decimal(repr(value)) if isinstance(value, float) else value
        return integer_of(exact) if kind == "time" else _WRITE.get(kind, plain_of)(exact)
    except Rejected as rejected:
        raise UsageError(f"{place}: {name}: {rejected.detail}") from None


_WRITE: dict[str, Make] = {
    "text": text_of,
    "decimal": decimal_of,
    "integer": integer_of,
    "boolean": boolean_of,
    "plain": plain_of,
}
