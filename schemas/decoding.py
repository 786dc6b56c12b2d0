"""Decoding of input records: from bytes to a checked event, or to the reason why it is rejected.

The fast decoder takes the common case in one step. A record that it refuses is decoded again slowly, so that the reason
names the field and the rule. Both give the same events. The checks hold texts and integers to their rules by the type
aliases of ``schemas/events.py``: identifiers, amounts, prices, quantities, times.
"""

import json
import math
import re
from collections.abc import Callable
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple, NoReturn, get_args, get_type_hints

import msgspec

from seawall.schemas import events as ev
from seawall.schemas.decimals import PATTERN as DECIMAL_PATTERN
from seawall.schemas.decimals import malformed, number_text
from seawall.schemas.errors import Reason, Rejected

# What the texts and integers of an input record must be, by the aliases of ``schemas/events.py``.

COUNT_MAX = (1 << 63) - 1
UNITS = {"seconds": 1_000_000.0, "milliseconds": 1_000.0, "nanoseconds": 0.001}
EXPIRED_US = 3_600_000_000  # before its record's own time an expiry may lie at most
KNOWN_IDENTIFIERS_MAX = 200_000
KNOWN_DECIMALS_MAX = 100_000
CLASSES: dict[str, type[Any]] = {cls.__struct_config__.tag: cls for cls in get_args(ev.Event)}

_identifier = re.compile(ev.IDENTIFIER_PATTERN).fullmatch
_decimal = re.compile(DECIMAL_PATTERN).fullmatch
_unsigned = re.compile(DECIMAL_PATTERN.removeprefix("-?")).fullmatch
_positive = re.compile("(?=.*[1-9])" + DECIMAL_PATTERN.removeprefix("-?")).fullmatch
_good: set[str] = set()  # identifiers that matched: most come again
_above_zero: set[str] = set()  # so do prices and quantities


def check_event(event: ev.Event) -> None:
    """Check the texts and integers of a record against their aliases, and fields that go together."""
    plain = _PLAIN.get(type(event))
    if plain is not None and plain(event):
        return
    rules = _RULES[type(event)]
    if rules.optional is not None and rules.optional(event) != rules.defaults:
        for name, check in rules.checks_optional:
            value = getattr(event, name)
            if value:
                check(name, value)
    for name, check in rules.checks_required:
        check(name, getattr(event, name))
    if rules.together is not None:
        rules.together(event)


# --- checks by alias --------------------------------------------------------------------------------------------------


def _check_identifier(name: str, value: str) -> None:
    if value not in _good:
        if _identifier(value) is None:
            raise Rejected(Reason.IDENTIFIER_MUST_MATCH_THE_CHARSET, f"{name} does not match {ev.IDENTIFIER_PATTERN}")
        if len(_good) >= KNOWN_IDENTIFIERS_MAX:
            _good.clear()
        _good.add(value)


def _check_new_identifier(name: str, value: str) -> None:
    if _identifier(value) is None:
        raise Rejected(Reason.IDENTIFIER_MUST_MATCH_THE_CHARSET, f"{name} does not match {ev.IDENTIFIER_PATTERN}")


def _check_amount(name: str, value: str) -> None:
    if _decimal(value) is None:
        _refuse_decimal(name, value, Reason.DECIMAL_MUST_BE_WELL_FORMED)


def _check_price(name: str, value: str) -> None:
    if _unsigned(value) is None or float(value) <= 0.0:
        _refuse_decimal(name, value, Reason.PRICE_MUST_BE_POSITIVE)


def _check_quantity(name: str, value: str) -> None:
    if _unsigned(value) is None or float(value) <= 0.0:
        _refuse_decimal(name, value, Reason.QUANTITY_MUST_BE_POSITIVE)


def _check_non_negative(name: str, value: str) -> None:
    if _unsigned(value) is None:
        _refuse_decimal(name, value, Reason.AMOUNT_MUST_NOT_BE_NEGATIVE)


def _check_fraction(name: str, value: str) -> None:
    if _unsigned(value) is None or float(value) > 1.0:
        _refuse_decimal(name, value, Reason.FIELD_MUST_BE_IN_ITS_RANGE)


def _refuse_decimal(name: str, value: str, reason: Reason) -> NoReturn:
    """Raise ``reason`` for a decimal of the wrong sign or range, or say that it is none."""
    if _decimal(value) is None:
        rejected = malformed(value)
        raise Rejected(rejected.reason, f"{name}: {rejected.detail}")
    raise Rejected(reason, f"{name} is {value}")


def _check_time(name: str, value: int) -> None:
    if ev.TIME_MIN_US <= value < ev.TIME_MAX_US or (value == ev.NO_TIME and name == "event_time_us"):
        return
    reason = Reason.EVENT_TIME_MUST_NOT_BE_NEGATIVE if value < 0 else Reason.FIELD_MUST_BE_IN_ITS_RANGE
    raise Rejected(reason, f"{name} is {value}, not a time from 2009 to 2200 in microseconds{_likely_unit(value)}")


def _likely_unit(value: int) -> str:
    """Return what a number that is no time in microseconds would be in another unit, empty where in none."""
    for unit, factor in UNITS.items() if value <= COUNT_MAX else ():
        if ev.TIME_MIN_US <= value * factor < ev.TIME_MAX_US:
            return f"; it is one in {unit}: give {round(value * factor)}"
    return ""


def _check_expiry(name: str, value: int) -> None:
    """Check the form of an expiry; `_check_instrument` checks its time, where the instrument has one."""
    if not 0 <= value <= COUNT_MAX:
        reason = Reason.EVENT_TIME_MUST_NOT_BE_NEGATIVE if value < 0 else Reason.FIELD_MUST_BE_IN_ITS_RANGE
        raise Rejected(reason, f"{name} is {value}")


def _check_count(name: str, value: int) -> None:
    if not 1 <= value <= COUNT_MAX:
        raise Rejected(Reason.FIELD_MUST_BE_IN_ITS_RANGE, f"{name} is {value}")


def _check_severity(name: str, value: int) -> None:
    if not 0 <= value <= 3:
        raise Rejected(Reason.FIELD_MUST_BE_IN_ITS_RANGE, f"{name} is {value}, not 0 to 3")


def _check_tiers(name: str, value: list[ev.Tier]) -> None:
    for tier in value:
        for field in ("notional_from", "initial_margin_rate", "maintenance_margin_rate", "deduction"):
            _check_non_negative(f"{name}.{field}", getattr(tier, field))
    for before, tier in zip([None, *value], value, strict=False):
        start = float(tier.notional_from)
        if start != 0 if before is None else start <= float(before.notional_from):
            raise Rejected(Reason.FIELD_MUST_BE_IN_ITS_RANGE, f"{name} must begin at 0 and rise, not go to {start:g}")
        if not float(tier.maintenance_margin_rate) <= float(tier.initial_margin_rate) <= 1:
            text = f"{name} from {start:g}: the maintenance rate is at most the initial rate, and that at most 1"
            raise Rejected(Reason.FIELD_MUST_BE_IN_ITS_RANGE, text)


def _check_haircuts(name: str, value: list[ev.HaircutTier]) -> None:
    starts = [-1.0]
    for tier in value:
        _check_non_negative(f"{name}.amount_from", tier.amount_from)
        _check_fraction(f"{name}.haircut", tier.haircut)
        starts.append(float(tier.amount_from))
    if not value or starts[1] != 0 or any(after <= before for before, after in pairwise(starts)):
        text = f"collateral_schedule: {name} must begin at amount_from 0 and rise, not go {starts[1:]}"
        raise Rejected(Reason.FIELD_MUST_BE_IN_ITS_RANGE, f"{text[:300]}: order them by amount_from")


def _check_levels(name: str, value: list[tuple[str, str]]) -> None:
    if len(value) > ev.LEVELS_MAX:
        raise Rejected(Reason.FIELD_MUST_BE_IN_ITS_RANGE, f"{name} has {len(value)} levels, at most {ev.LEVELS_MAX}")
    for price, size in value:
        _check_price(name, price)
        _check_non_negative(name, size)


def _check_eligible(name: str, value: dict[str, str]) -> None:
    for asset, haircut in value.items():
        _check_identifier(name, asset)
        _check_fraction(f"{name}.{asset}", haircut)


def _check_rows(name: str, value: list[ev.SignalRow]) -> None:
    for row in value:
        _check_identifier(f"{name}.instrument", row.instrument)
        _check_float_price(f"{name}.price", row.price)
        for venue in row.venues:
            _check_identifier(f"{name}.venues.venue", venue.venue)
            _check_float_price(f"{name}.venues.price", venue.price)


def _check_float_price(name: str, value: float) -> None:
    if not 0.0 < value < float("inf"):
        raise Rejected(Reason.PRICE_MUST_BE_POSITIVE, f"{name} is {value}")


def _check_alerts(name: str, value: list[ev.SignalAlert]) -> None:
    for alert in value:
        _check_identifier(f"{name}.kind", alert.kind)
        _check_identifier(f"{name}.scope", alert.scope.partition(":")[2])
        _check_severity(f"{name}.severity", alert.severity)


def _check_instrument(event: ev.Instrument) -> None:
    if event.kind == "option" and not (event.strike and event.option_type and event.expiry_us):
        raise Rejected(Reason.FIELDS_MUST_GO_TOGETHER, "an option has strike, option_type and expiry_us")
    if event.kind == "future" and not event.expiry_us:
        text = "a future has expiry_us, without which it is never settled: give it, or kind = perpetual"
        raise Rejected(Reason.FIELDS_MUST_GO_TOGETHER, text)
    if event.inverse and event.kind == "spot":
        text = "inverse is true and kind is spot, which is never inverse: give inverse = false, or the kind of contract"
        raise Rejected(Reason.FIELDS_MUST_GO_TOGETHER, text)
    if event.inverse and event.settlement == event.quote != event.base:
        text = f"inverse is true and settlement is {event.settlement}, as quote is; an inverse contract settles in coin"
        raise Rejected(Reason.FIELDS_MUST_GO_TOGETHER, f"{text}: give the coin as settlement, or inverse = false")
    if event.kind == "option" and event.quote == event.base:
        text = f"quote is {event.quote}, as base is; an option marked in coin has inverse = true"
        raise Rejected(Reason.FIELDS_MUST_GO_TOGETHER, f"{text}, and as quote the currency of its strike")
    if event.kind in ("spot", "perpetual") or not event.expiry_us:
        return  # an expiry that a venue gives one of these counts for nothing
    _check_time("expiry_us", event.expiry_us)
    if event.status != "closed" and event.expiry_us < event.event_time_us - EXPIRED_US:
        text = f"expiry_us is {event.expiry_us}, more than an hour before the record's own time, {event.event_time_us}"
        advice = "give the instrument with status closed, or its expiry in microseconds"
        raise Rejected(Reason.FIELD_MUST_BE_IN_ITS_RANGE, f"{text}: {advice}")


def _check_asset(event: ev.Asset) -> None:
    if event.sa_ccr_class and event.sa_ccr_class.upper() not in ev.SA_CCR_CLASSES:
        known = ", ".join(ev.SA_CCR_CLASSES)
        raise Rejected(
            Reason.FIELD_MUST_HAVE_A_KNOWN_VALUE, f"sa_ccr_class is {event.sa_ccr_class}, not one of {known}"
        )


def _check_collateral_schedule(event: ev.CollateralSchedule) -> None:
    if float(event.borrow_weight) < 1:
        text = (
            f"collateral_schedule: borrow_weight is {event.borrow_weight}; a debt counts at least once: give 1 or more"
        )
        raise Rejected(Reason.FIELD_MUST_BE_IN_ITS_RANGE, text)


def _check_collateral(event: ev.Collateral) -> None:
    if event.purpose != "funding" and (event.instrument or event.interval_end_us):
        raise Rejected(
            Reason.FIELDS_MUST_GO_TOGETHER, "instrument and interval_end_us say what was paid with purpose funding"
        )


def _check_fill(event: ev.Fill) -> None:
    if (event.action != "new") != bool(event.ref_fill_id):
        raise Rejected(Reason.FIELDS_MUST_GO_TOGETHER, "a correct or bust has ref_fill_id, a new fill has none")


Check = Callable[[str, Any], None]
_CHECKS: list[tuple[Any, Check]] = [
    (ev.Identifier, _check_identifier),
    (ev.Amount, _check_amount),
    (ev.Price, _check_price),
    (ev.Quantity, _check_quantity),
    (ev.Size, _check_non_negative),
    (ev.NonNegative, _check_non_negative),
    (ev.Fraction, _check_fraction),
    (ev.Time, _check_time),
    (ev.Expiry, _check_expiry),
    (ev.Count, _check_count),
    (ev.Severity, _check_severity),
    (list[ev.Tier], _check_tiers),
    (list[ev.HaircutTier], _check_haircuts),
    (list[tuple[ev.Price, ev.Size]], _check_levels),
    (dict[ev.Identifier, ev.Fraction], _check_eligible),
    (list[ev.SignalRow], _check_rows),
    (list[ev.SignalAlert], _check_alerts),
]
_NEVER_REPEATED = frozenset({"fill_id", "transfer_id", "order_id", "notice_id", "obligation_id"})
_TOGETHER: dict[type[Any], Callable[[Any], None]] = {
    ev.Asset: _check_asset,
    ev.Instrument: _check_instrument,
    ev.CollateralSchedule: _check_collateral_schedule,
    ev.Collateral: _check_collateral,
    ev.Fill: _check_fill,
}


class _Rules(NamedTuple):
    """The checks of one record type; ``optional`` reads all optional fields at once, to compare with ``defaults``."""

    checks_required: list[tuple[str, Check]]
    checks_optional: list[tuple[str, Check]]
    optional: Callable[[Any], Any] | None
    defaults: Any
    together: Callable[[Any], None] | None


def _rules(cls: type[Any]) -> _Rules:
    hints = get_type_hints(cls, include_extras=True)
    required: list[tuple[str, Check]] = []
    optional: list[tuple[str, Check]] = []
    defaults: list[Any] = []
    for field in msgspec.structs.fields(cls):
        check = _check_of(field.name, hints[field.name])
        if check is not None and field.required:
            required.append((field.name, check))
        elif check is not None:
            optional.append((field.name, check))
            defaults.append(field.default if field.default is not msgspec.NODEFAULT else field.default_factory())
    if not optional:
        return _Rules(required, [], None, None, _TOGETHER.get(cls))
    read = attrgetter(*(name for name, _ in optional))
    return _Rules(required, optional, read, tuple(defaults) if len(defaults) > 1 else defaults[0], _TOGETHER.get(cls))


def _check_of(name: str, hint: Any) -> Check | None:
    if name in _NEVER_REPEATED:
        return _check_new_identifier
    return next((check for alias, check in _CHECKS if alias == hint), None)


_RULES: dict[type[Any], _Rules] = {cls: _rules(cls) for cls in CLASSES.values()}


_fill_options = attrgetter(*(name for name, _ in _RULES[ev.Fill].checks_optional))
_fill_defaults = _RULES[ev.Fill].defaults


def _is_above_zero(text: str) -> bool:
    """Tell whether a text is a decimal above zero, and remember it if so."""
    if _positive(text) is None:
        return False
    if len(_above_zero) >= KNOWN_DECIMALS_MAX:
        _above_zero.clear()
    _above_zero.add(text)
    return True


def _is_plain_mark(event: ev.Mark) -> bool:
    """Tell whether a mark keeps all rules, at a third of the cost; False says nothing."""
    return (
        event.instrument in _good
        and (event.price in _above_zero or _is_above_zero(event.price))
        and ev.TIME_MIN_US <= event.event_time_us < ev.TIME_MAX_US
        and (not event.venue or event.venue in _good)
        and not event.implied_volatility
    )


def _is_plain_fill(event: ev.Fill) -> bool:
    """Tell whether a fill keeps all rules and has no optional field; False says nothing."""
    return (
        event.account in _good
        and event.instrument in _good
        and (event.quantity in _above_zero or _is_above_zero(event.quantity))
        and (event.price in _above_zero or _is_above_zero(event.price))
        and _identifier(event.fill_id) is not None
        and ev.TIME_MIN_US <= event.event_time_us < ev.TIME_MAX_US
        and _fill_options(event) == _fill_defaults
        and event.action == "new"
    )


_PLAIN: dict[type[Any], Callable[[Any], bool]] = {ev.Mark: _is_plain_mark, ev.Fill: _is_plain_fill}


# From bytes to an input record, or to the reason why not.
#
# Almost every record takes the fast path: msgspec decodes and checks types in about a microsecond, then the texts are
# checked (``schemas/decoding.py``). Whatever fails there is read again slowly, by the standard library, which finds the
# reason, and accepts what the fast path cannot: JSON numbers in decimal fields, by their text.

_decoder: msgspec.json.Decoder[ev.Event] = msgspec.json.Decoder(ev.Event)
_DECIMALS: list[Any] = [
    ev.Amount,
    ev.Price,
    ev.Quantity,
    ev.Size,
    ev.NonNegative,
    ev.Fraction,
    list[ev.Tier],
    list[ev.HaircutTier],
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
