"""From bytes to an input record, or to the reason why not.

Almost every record takes the fast path: msgspec decodes and checks types in about a microsecond, then the texts are
checked (``schemas/checks.py``). Whatever fails there is read again slowly, by the standard library, which finds the
reason, and accepts what the fast path cannot: JSON numbers in decimal fields, by their text.
"""

import json
import math
from typing import Any, NoReturn

import msgspec

from seawall.schemas import events as ev
from seawall.schemas.checks import CLASSES, check_event
from seawall.schemas.decimals import number_text
from seawall.schemas.errors import Reason, Rejected

_decoder: msgspec.json.Decoder[ev.Event] = msgspec.json.Decoder(ev.Event)
_DECIMALS: list[Any] = [
    ev.Amount,
    ev.Price,
    ev.Quantity,
    ev.Size,
    ev.NonNegative,
    ev.Fraction,
    list[ev.Tier],
    list[tuple[ev.Price, ev.Size]],
    dict[ev.Identifier, ev.Fraction],
]


class _Number(str):
    """The text of a JSON number."""

    __slots__ = ()


def decode_event(line: bytes) -> ev.Event:
    """Decode one input record.

    Parameters
    ----------
    line
        The record's bytes, without the line's end.

    Returns
    -------
    Event
        One of the structs of ``schemas/events.py``. What the record names may still be unknown.

    Raises
    ------
    Rejected
        With the rule that the record breaks.

    Examples
    --------
    >>> decode_event(b'{"type":"mark","event_time_us":1,"instrument":"ETH-PERP","price":1634.25}').price
    '1634.25'
    """
    try:
        event = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        event = _decode_slowly(line)
    else:
        # `in` takes its left side for a number first, which costs more than the search.
        if line.rfind(b'""') >= 0 or (event.event_time_us < 0 and b"event_time_us" in line):
            event = _decode_slowly(line)
    check_event(event)
    return event


def _decode_slowly(line: bytes) -> ev.Event:
    record = _load(line)
    if not isinstance(record, dict):
        raise Rejected(Reason.RECORD_MUST_BE_AN_OBJECT, f"the record is {_kind(record)}")
    tag = record.pop("type", None)
    cls = CLASSES.get(tag) if type(tag) is str else None
    if cls is None:
        shown = "absent" if tag is None else repr(tag)[:60]
        raise Rejected(Reason.TYPE_MUST_BE_KNOWN, f"type is {shown}")
    fields = {field.encode_name: field for field in msgspec.structs.fields(cls)}
    for name in record:
        if name not in fields:
            raise Rejected(Reason.FIELD_MUST_BE_KNOWN, f"{tag} has no field {_shown(name)}")
    for name, field in fields.items():
        if name in record:
            record[name] = _settle(name, field.type, record[name])
        elif field.required:
            raise Rejected(Reason.FIELD_MUST_BE_PRESENT, f"{tag} needs {name}")
    return _convert(record, cls)


def _load(line: bytes) -> Any:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise Rejected(Reason.TEXT_MUST_BE_UTF_8, f"byte {error.start} is not UTF-8") from None
    try:
        return json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant)
    except RecursionError:
        raise Rejected(Reason.JSON_MUST_BE_VALID, "nested too deeply") from None
    except ValueError as error:
        raise Rejected(Reason.JSON_MUST_BE_VALID, str(error)[:200]) from None


def _refuse_constant(text: str) -> NoReturn:
    raise Rejected(Reason.NUMBER_MUST_BE_FINITE, f"{text} is not a JSON number")


def _settle(name: str, hint: Any, value: Any) -> Any:
    """Give numbers in ``value`` the form that the field's type asks for; refuse empty texts."""
    settled = _numbers(value, hint in _DECIMALS)
    if settled == "" and hint is not str:
        raise Rejected(Reason.FIELD_MUST_HAVE_A_KNOWN_VALUE, f"{name} is empty; leave it out instead")
    if hint == ev.Time and settled == ev.NO_TIME:
        raise Rejected(Reason.EVENT_TIME_MUST_NOT_BE_NEGATIVE, f"{name} is {settled}")
    return settled


def _numbers(value: Any, decimal: bool) -> Any:
    if isinstance(value, _Number):
        return number_text(value) if decimal else _plain_number(value)
    if isinstance(value, list):
        return [_numbers(item, decimal) for item in value]
    if isinstance(value, dict):
        return {key: _numbers(item, decimal) for key, item in value.items()}
    return value


def _plain_number(text: str) -> int | float:
    if text.lstrip("-").isdigit():
        if len(text) > 1_000:
            raise Rejected(Reason.FIELD_MUST_BE_IN_ITS_RANGE, f"{_shown(text)} is too long")
        return int(text)
    number = float(text)
    if not math.isfinite(number):
        raise Rejected(Reason.NUMBER_MUST_BE_FINITE, f"{_shown(text)} is beyond any float")
    return number


def _convert(record: dict[str, Any], cls: type[Any]) -> ev.Event:
    try:
        event: ev.Event = msgspec.convert(record, cls)
        msgspec.json.encode(event)  # lone surrogates cannot be written
    except UnicodeEncodeError:
        raise Rejected(Reason.TEXT_MUST_BE_UTF_8, "a string holds half of a surrogate pair") from None
    except msgspec.ValidationError as error:
        known = str(error).startswith("Invalid enum value")
        reason = Reason.FIELD_MUST_HAVE_A_KNOWN_VALUE if known else Reason.FIELD_MUST_HAVE_ITS_TYPE
        raise Rejected(reason, str(error)[:200]) from None
    return event


def _kind(value: Any) -> str:
    if isinstance(value, _Number):
        return "a number"
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "no object")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:60] + "…")
