"""Input records: what is accepted, and the rule that each bad record breaks."""

import json
from typing import Any

import jsonschema
import msgspec
import pytest

from seawall.schemas import decoding, generate
from seawall.schemas import events as ev
from seawall.schemas.decimals import PATTERN, Scale, number_text, parse_decimal, parse_quantity, parse_scale
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import Reason, Rejected

AT = 1_677_510_171_000_000
VENUE = {"event_time_us": AT, "venue": "x", "instrument": "ETH-PERP"}
GOOD: dict[str, dict[str, Any]] = {
    "asset": {"asset": "USDC", "class": "stablecoin", "peg": "USD", "haircut": "0.02"},
    "instrument": {
        "instrument": "ETH-PERP",
        "kind": "perpetual",
        "base": "ETH",
        "quote": "USD",
        "settlement": "USD",
        "quantity_increment": "0.001",
    },
    "schedule": {
        "venue": "x",
        "instrument": "ETH-PERP",
        "tiers": [{"notional_from": "0", "initial_margin_rate": "0.02", "maintenance_margin_rate": "0.01"}],
    },
    "collateral_schedule": {
        "venue": "x",
        "asset": "BTC",
        "tiers": [{"amount_from": "0", "haircut": "0.02"}, {"amount_from": "12.5", "haircut": "1"}],
        "cap": "100",
        "borrow_weight": "1.15",
    },
    "counterparty": {"counterparty": "c", "name": "Client & Söhne", "role": "client", "own_funds": "-1.5"},
    "netting_set": {"netting_set": "n", "counterparty": "c", "eligible": {"BTC": "0.1"}, "margined": True},
    "account": {"account": "a", "counterparty": "c", "holder": "house"},
    "mark": {"event_time_us": AT, "instrument": "ETH-PERP", "price": "1634.5", "kind": "last"},
    "trade": {**VENUE, "price": "1", "quantity": "2", "side": "buy"},
    "quote": {**VENUE, "bid": "1", "ask": "2", "bid_size": "0"},
    "depth": {**VENUE, "bids": [["1", "2"]], "asks": []},
    "bar": {**VENUE, "open": "1", "high": "2", "low": "1", "close": "2", "volume": "0", "interval_us": 60_000_000},
    "funding": {**VENUE, "rate": "-0.0001", "interval_us": 28_800_000_000},
    "open_interest": {**VENUE, "quantity": "0"},
    "liquidation": {**VENUE, "side": "sell", "price": "1", "quantity": "2"},
    "venue_status": {"event_time_us": AT, "venue": "x", "status": "down", "detail": ""},
    "notice": {"event_time_us": AT, "notice_id": "n", "subject": "c", "kind": "insolvency", "severity": 3},
    "signal": {
        "event_time_us": AT,
        "group": 0,
        "groups": 4,
        "seq": 0,
        "instruments": [{"instrument": "ETH-PERP", "price": 1634.5, "source": "mid", "time_us": AT}],
    },
    "fill": {
        "event_time_us": AT,
        "fill_id": "f",
        "account": "a",
        "instrument": "ETH-PERP",
        "side": "buy",
        "quantity": "1",
        "price": "2",
    },
    "order": {
        "event_time_us": AT,
        "order_id": "o",
        "account": "a",
        "instrument": "ETH-PERP",
        "side": "buy",
        "open_quantity": "0",
    },
    "collateral": {"event_time_us": AT, "transfer_id": "t", "account": "a", "asset": "USD", "amount": "-5"},
    "obligation": {
        "event_time_us": AT,
        "obligation_id": "o",
        "from": "house",
        "to": "c",
        "asset": "USD",
        "amount": "0",
        "kind": "loan",
    },
    "position_report": {"event_time_us": AT, "account": "a", "instrument": "ETH-PERP", "quantity": "-2"},
    "balance_report": {"event_time_us": AT, "account": "a", "asset": "USD", "amount": "-2", "kind": "opening"},
    "limit": {"event_time_us": AT, "document": {"any": [1, 2.5, "thing"]}},
    "release": {"event_time_us": AT, "document": {"any": [1, 2.5, "thing"]}},
    "acknowledgement": {"event_time_us": AT, "command_id": "c", "subscriber": "s", "outcome": "accepted"},
}
REJECTED: list[tuple[bytes, Reason]] = [
    (b"{", Reason.JSON_MUST_BE_VALID),
    (b'{"type":"mark"}x', Reason.JSON_MUST_BE_VALID),
    (b"\xef\xbb\xbf{}", Reason.JSON_MUST_BE_VALID),
    (b"[" * 100_000, Reason.JSON_MUST_BE_VALID),
    (b'{"a":' * 100_000, Reason.JSON_MUST_BE_VALID),
    (b"[]", Reason.RECORD_MUST_BE_AN_OBJECT),
    (b"null", Reason.RECORD_MUST_BE_AN_OBJECT),
    (b"12", Reason.RECORD_MUST_BE_AN_OBJECT),
    (b'"fill"', Reason.RECORD_MUST_BE_AN_OBJECT),
    (b"\xff\xfe{}", Reason.TEXT_MUST_BE_UTF_8),
    (
        b'{"type":"venue_status","event_time_us":1,"venue":"v","status":"up","detail":"\\ud800"}',
        Reason.TEXT_MUST_BE_UTF_8,
    ),
    (b"{}", Reason.TYPE_MUST_BE_KNOWN),
    (b'{"type":"comet"}', Reason.TYPE_MUST_BE_KNOWN),
    (b'{"type":["fill"]}', Reason.TYPE_MUST_BE_KNOWN),
    (b'{"type":"fill"}', Reason.FIELD_MUST_BE_PRESENT),
]
CHANGED: list[tuple[str, str, Any, Reason]] = [
    ("mark", "colour", "red", Reason.FIELD_MUST_BE_KNOWN),
    ("mark", "event_time_us", "soon", Reason.FIELD_MUST_HAVE_ITS_TYPE),
    ("mark", "event_time_us", True, Reason.FIELD_MUST_HAVE_ITS_TYPE),
    ("mark", "event_time_us", 1.5, Reason.FIELD_MUST_HAVE_ITS_TYPE),
    ("mark", "event_time_us", None, Reason.FIELD_MUST_HAVE_ITS_TYPE),
    ("mark", "event_time_us", -1, Reason.EVENT_TIME_MUST_NOT_BE_NEGATIVE),
    ("account", "event_time_us", -1, Reason.EVENT_TIME_MUST_NOT_BE_NEGATIVE),
    ("mark", "event_time_us", 1 << 63, Reason.FIELD_MUST_BE_IN_ITS_RANGE),
    ("instrument", "expiry_us", -1, Reason.EVENT_TIME_MUST_NOT_BE_NEGATIVE),
    ("mark", "price", "NaN", Reason.NUMBER_MUST_BE_FINITE),
    ("mark", "price", "-Infinity", Reason.NUMBER_MUST_BE_FINITE),
    ("mark", "price", float("nan"), Reason.NUMBER_MUST_BE_FINITE),
    ("mark", "price", "1e3", Reason.DECIMAL_MUST_BE_WELL_FORMED),
    ("mark", "price", "+1", Reason.DECIMAL_MUST_BE_WELL_FORMED),
    ("mark", "price", " 1", Reason.DECIMAL_MUST_BE_WELL_FORMED),
    ("mark", "price", "1_000", Reason.DECIMAL_MUST_BE_WELL_FORMED),
    ("mark", "price", "١", Reason.DECIMAL_MUST_BE_WELL_FORMED),
    ("mark", "price", "1\n", Reason.DECIMAL_MUST_BE_WELL_FORMED),
    ("mark", "price", "1." + "0" * 19, Reason.DECIMAL_MUST_BE_WELL_FORMED),
    ("mark", "price", 1e30, Reason.DECIMAL_MUST_BE_WELL_FORMED),
    ("mark", "price", "-1", Reason.PRICE_MUST_BE_POSITIVE),
    ("mark", "price", "0.00", Reason.PRICE_MUST_BE_POSITIVE),
    ("mark", "price", -1, Reason.PRICE_MUST_BE_POSITIVE),
    ("mark", "price", "", Reason.FIELD_MUST_HAVE_A_KNOWN_VALUE),
    ("mark", "price", True, Reason.FIELD_MUST_HAVE_ITS_TYPE),
    ("mark", "price", None, Reason.FIELD_MUST_HAVE_ITS_TYPE),
    ("mark", "venue", "", Reason.FIELD_MUST_HAVE_A_KNOWN_VALUE),
    ("mark", "venue", None, Reason.FIELD_MUST_HAVE_ITS_TYPE),
    ("mark", "kind", "best", Reason.FIELD_MUST_HAVE_A_KNOWN_VALUE),
    ("mark", "instrument", 5, Reason.FIELD_MUST_HAVE_ITS_TYPE),
    ("mark", "instrument", "ETH PERP\0", Reason.IDENTIFIER_MUST_MATCH_THE_CHARSET),
    ("mark", "instrument", "A" * 129, Reason.IDENTIFIER_MUST_MATCH_THE_CHARSET),
    ("fill", "fill_id", "ü", Reason.IDENTIFIER_MUST_MATCH_THE_CHARSET),
    ("fill", "quantity", "0", Reason.QUANTITY_MUST_BE_POSITIVE),
    ("fill", "quantity", "-1", Reason.QUANTITY_MUST_BE_POSITIVE),
    ("fill", "action", "bust", Reason.FIELDS_MUST_GO_TOGETHER),
    ("collateral", "instrument", "ETH-PERP", Reason.FIELDS_MUST_GO_TOGETHER),
    ("fill", "ref_fill_id", "g", Reason.FIELDS_MUST_GO_TOGETHER),
    ("order", "open_quantity", "-1", Reason.AMOUNT_MUST_NOT_BE_NEGATIVE),
    ("asset", "haircut", "1.5", Reason.FIELD_MUST_BE_IN_ITS_RANGE),
    ("instrument", "kind", "option", Reason.FIELDS_MUST_GO_TOGETHER),
    ("instrument", "kind", "future", Reason.FIELDS_MUST_GO_TOGETHER),
    ("instrument", "inverse", True, Reason.FIELDS_MUST_GO_TOGETHER),
    ("instrument", "quantity_increment", "0", Reason.PRICE_MUST_BE_POSITIVE),
    ("notice", "severity", 4, Reason.FIELD_MUST_BE_IN_ITS_RANGE),
    ("netting_set", "eligible", {"BTC": "2"}, Reason.FIELD_MUST_BE_IN_ITS_RANGE),
    ("netting_set", "margined", "yes", Reason.FIELD_MUST_HAVE_ITS_TYPE),
    ("depth", "bids", [["1", "2"]] * 51, Reason.FIELD_MUST_BE_IN_ITS_RANGE),
    ("depth", "bids", [["0", "2"]], Reason.PRICE_MUST_BE_POSITIVE),
    ("depth", "bids", [["1"]], Reason.FIELD_MUST_HAVE_ITS_TYPE),
    ("schedule", "tiers", [{"notional_from": "0"}], Reason.FIELD_MUST_HAVE_ITS_TYPE),
    ("collateral_schedule", "tiers", [], Reason.FIELD_MUST_BE_IN_ITS_RANGE),
    ("collateral_schedule", "tiers", [{"amount_from": "0"}], Reason.FIELD_MUST_HAVE_ITS_TYPE),
    ("collateral_schedule", "tiers", [{"amount_from": "1", "haircut": "0"}], Reason.FIELD_MUST_BE_IN_ITS_RANGE),
    ("collateral_schedule", "tiers", [{"amount_from": "0", "haircut": "1.1"}], Reason.FIELD_MUST_BE_IN_ITS_RANGE),
    ("collateral_schedule", "tiers", [{"amount_from": "0", "haircut": "0"}] * 2, Reason.FIELD_MUST_BE_IN_ITS_RANGE),
    ("collateral_schedule", "cap", "0", Reason.QUANTITY_MUST_BE_POSITIVE),
    ("collateral_schedule", "borrow_weight", "0.99", Reason.FIELD_MUST_BE_IN_ITS_RANGE),
    ("bar", "interval_us", 0, Reason.FIELD_MUST_BE_IN_ITS_RANGE),
    ("limit", "document", "signed", Reason.FIELD_MUST_HAVE_ITS_TYPE),
]


def encoded(kind: str, /, **changes: Any) -> bytes:
    return json.dumps({"type": kind, **GOOD[kind], **changes}).encode()


def reason_of(line: bytes) -> Reason:
    with pytest.raises(Rejected) as caught:
        decode_event(line)
    assert caught.value.detail and len(caught.value.detail) < 400
    return caught.value.reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "future"}, ("expiry_us", "kind = perpetual")),
        ({"kind": "spot", "inverse": True}, ("kind is spot", "inverse = false")),
        ({"inverse": True}, ("settlement is USD, as quote is", "give the coin as settlement")),
    ],
)
def test_an_instrument_that_contradicts_itself_is_rejected_and_told_what_to_say(
    changes: dict[str, Any], said: tuple[str, ...]
) -> None:
    with pytest.raises(Rejected) as caught:
        decode_event(encoded("instrument", **changes))
    assert all(part in str(caught.value.detail) for part in said)


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_record_is_decoded_and_encodes_to_what_came_in(kind: str) -> None:
    event = decode_event(encoded(kind))
    assert json.loads(msgspec.json.encode(event)).items() >= {"type": kind}.items()
    assert decode_event(msgspec.json.encode(event)) == event


def test_every_record_type_of_the_contract_has_an_example_here() -> None:
    assert set(GOOD) == {cls.__struct_config__.tag for cls in ev.Event.__args__}


@pytest.mark.parametrize(("line", "reason"), REJECTED, ids=range(len(REJECTED)))
def test_a_line_that_is_no_record_is_rejected_by_the_rule_it_breaks(line: bytes, reason: Reason) -> None:
    assert reason_of(line) == reason


def test_a_schedule_that_is_out_of_order_is_named_with_its_field_and_what_to_do() -> None:
    tiers = [{"amount_from": start, "haircut": "0"} for start in (0, 20, 10)]  # numbers are read by their text
    with pytest.raises(Rejected) as caught:
        decode_event(encoded("collateral_schedule", tiers=tiers))
    detail = caught.value.detail
    assert "collateral_schedule: tiers" in detail and "[0.0, 20.0, 10.0]: order them by amount_from" in detail


@pytest.mark.parametrize(("kind", "field", "value", "reason"), CHANGED)
def test_a_bad_field_is_rejected_by_the_rule_it_breaks(kind: str, field: str, value: Any, reason: Reason) -> None:
    assert reason_of(encoded(kind, **{field: value})) == reason


def test_decimals_that_were_seen_are_remembered_by_their_text_and_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "KNOWN_DECIMALS_MAX", 3)
    known: set[str] = set()
    monkeypatch.setattr(decoding, "_above_zero", known)
    mark: dict[str, Any] = {"type": "mark", "event_time_us": AT, "instrument": "ETH-PERP"}
    decode_event(json.dumps(mark | {"price": "1"}).encode())  # from here on the instrument is known
    for price in ("0.5", "0.50", "7", "8", "9", "0.5"):
        for _ in range(2):
            assert decode_event(json.dumps(mark | {"price": price}).encode()).price == price
        assert price in known
        assert len(known) <= 3
        for bad in (f"-{price}", f"{price}.0.0", f"{price} ", "0", "0.0"):
            with pytest.raises(Rejected):
                decode_event(json.dumps(mark | {"price": bad}).encode())


@pytest.mark.parametrize("kind", GOOD)
def test_each_required_field_must_be_present(kind: str) -> None:
    cls = type(decode_event(encoded(kind)))
    for field in msgspec.structs.fields(cls):
        if field.required:
            record = {"type": kind, **GOOD[kind]}
            del record[field.encode_name]
            assert reason_of(json.dumps(record).encode()) == Reason.FIELD_MUST_BE_PRESENT


def test_a_json_number_is_read_by_its_decimal_text() -> None:
    line = b'{"type":"mark","event_time_us":1700000000000000,"instrument":"A","price":0.1000000000000000055}'
    assert reason_of(line) == Reason.DECIMAL_MUST_BE_WELL_FORMED
    mark = decode_event(line.replace(b"0055}", b"}"))
    assert isinstance(mark, ev.Mark) and mark.price == "0.100000000000000"


@pytest.mark.parametrize(("text", "plain"), [("1e3", "1000"), ("2E-3", "0.002"), ("7.10", "7.10"), ("-0.5e1", "-5")])
def test_exponents_are_written_out(text: str, plain: str) -> None:
    assert number_text(text) == plain


@pytest.mark.parametrize("text", ["1e21", "1e-19", "1e999999999", "-1e999999999"])
def test_numbers_beyond_the_range_of_decimals_are_rejected(text: str) -> None:
    with pytest.raises(Rejected):
        number_text(text)


@pytest.mark.parametrize(
    ("text", "increment", "number"),
    [
        ("1.25", "0.01", 125),
        ("-3", "1", -3),
        ("0.075", "0.025", 3),
        ("20", "10", 2),
        ("1.100", "0.1", 11),
        ("0", "5", 0),
    ],
)
def test_quantities_are_exact_integers_of_the_increment(text: str, increment: str, number: int) -> None:
    assert parse_quantity(text, parse_scale(increment)) == number


@pytest.mark.parametrize(
    ("text", "increment", "reason"),
    [
        ("1.255", "0.01", Reason.QUANTITY_MUST_BE_A_MULTIPLE_OF_THE_INCREMENT),
        ("0.03", "0.025", Reason.QUANTITY_MUST_BE_A_MULTIPLE_OF_THE_INCREMENT),
        ("5", "10", Reason.QUANTITY_MUST_BE_A_MULTIPLE_OF_THE_INCREMENT),
        ("9" * 20, "0.000000000000000001", Reason.QUANTITY_MUST_FIT_IN_64_BITS),
        ("x", "1", Reason.DECIMAL_MUST_BE_WELL_FORMED),
    ],
)
def test_other_quantities_are_rejected(text: str, increment: str, reason: Reason) -> None:
    with pytest.raises(Rejected) as caught:
        parse_quantity(text, parse_scale(increment))
    assert caught.value.reason == reason


def test_a_decimal_becomes_the_nearest_float() -> None:
    assert parse_decimal("-0.1") == -0.1
    assert parse_scale("100") == Scale(0, 100)
    with pytest.raises(Rejected):
        parse_decimal("1e3")


def test_the_json_schemas_are_those_that_the_structs_generate() -> None:
    for name, text in generate.documents().items():
        assert (generate.FOLDER / name).read_text() == text, f"{name} is old: run python -m seawall.schemas.generate"


@pytest.mark.parametrize("kind", GOOD)
def test_good_records_satisfy_the_json_schema_and_records_with_an_unknown_field_do_not(kind: str) -> None:
    schema = json.loads(generate.documents()["input.json"])
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate({"type": kind, **GOOD[kind]})
    assert not validator.is_valid({"type": kind, **GOOD[kind], "colour": "red"})


def test_the_json_schema_takes_decimals_as_text_or_number() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(generate.documents()["input.json"]))
    mark = {"type": "mark", **GOOD["mark"]}
    assert validator.is_valid({**mark, "price": 1.5})
    assert not validator.is_valid({**mark, "price": "1e5"})
    assert PATTERN in generate.documents()["input.json"].replace("\\\\", "\\")
