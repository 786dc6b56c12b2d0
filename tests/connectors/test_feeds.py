"""Foreign feeds: records of other people's topics and files become input records by a TOML file, without code."""

import base64
import http.server
import io
import json
import struct
import threading
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.connectors.bus import Bus, open_bus
from seawall.connectors.mapping import RecordMapping, read_mapping
from seawall.schemas.errors import BusError, Reason, Rejected, UsageError
from seawall_testing.command_line import run_command
from seawall_testing.desk import T0, account, instrument, lines, rejects, slices, write_desk
from seawall_testing.paths import ROOT

MAPPING = """
format = "json"

[[skip]]
when = { kind = ["HEARTBEAT", "LOGON"] }

[[record]]
type = "fill"
when = { kind = "EXEC", "order.status" = ["FILLED", "PARTIAL"] }
[record.fields]
event_time_us = { from = "ts", time = "ms" }
fill_id = { join = ["venue", "exec_id"], with = ":" }
account = { from = "order.account", case = "lower", prefix = "desk/" }
instrument = { from = "sym", values = { ETHPERP = "ETH-PERP", BTCPERP = "BTC-PERP" } }
side = { from = "qty", sign = { positive = "buy", negative = "sell" } }
quantity = { from = "qty", absolute = true, scale = "0.01" }
price = "px"
venue = { constant = "hub" }
fee = { from = "fee", default = "0" }
strategy = { from = "tags.strategy", optional = true }

[[record]]
type = "mark"
when = { kind = "PRICE" }
[record.fields]
event_time_us = { from = "at", time = "iso" }
instrument = { from = "sym", values = { ETHPERP = "ETH-PERP" } }
price = "mid"
kind = { constant = "mid" }

[[record]]
type = "depth"
when = { kind = "BOOK" }
[record.fields]
event_time_us = { from = "ts", time = "ns" }
venue = { constant = "hub" }
instrument = { from = "sym" }
bids = { from = "b", pairs = ["p", "q"] }
asks = { from = "a" }
"""
MAPPING += """
[[record]]
type = "instrument"
when = { kind = "LISTED" }
[record.fields]
event_time_us = { from = "ts", time = "ms" }
instrument = "sym"
kind = { constant = "future" }
base = "b"
quote = { constant = "USD" }
settlement = { constant = "USD" }
quantity_increment = { constant = "0.001" }
expiry_us = { from = "delivery", time = "ms" }
"""
EXEC: dict[str, Any] = {
    "kind": "EXEC",
    "ts": 1_700_000_000_123,
    "venue": "HUB",
    "exec_id": 77,
    "order": {"account": "ALPHA", "status": "FILLED"},
    "sym": "ETHPERP",
    "qty": -1250,
    "px": "1634.250",
}


@pytest.fixture
def feed(tmp_path: Path) -> RecordMapping:
    (tmp_path / "oms.toml").write_text(MAPPING)
    return RecordMapping.load(tmp_path / "oms.toml")


def mapped(feed: RecordMapping, record: Any) -> Any:
    found = feed.read(record if isinstance(record, bytes) else json.dumps(record).encode())
    assert found is not None
    assert json.loads(found[1])["type"] in feed.kinds
    return found[0]


def refused(feed: RecordMapping, record: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        feed.read(record if isinstance(record, bytes) else json.dumps(record).encode())
    return caught.value


# --- what a mapping makes -------------------------------------------------------------------------------------------


def test_renames_constants_joins_signs_scales_and_times_make_a_fill(feed: RecordMapping) -> None:
    fill = mapped(feed, EXEC)
    assert (fill.event_time_us, fill.fill_id, fill.account) == (1_700_000_000_123_000, "HUB:77", "desk/alpha")
    assert (fill.instrument, fill.side, fill.quantity, fill.price) == ("ETH-PERP", "sell", "12.50", "1634.250")
    assert (fill.venue, fill.fee, fill.strategy) == ("hub", "0", "")


def test_an_expiry_is_a_time_like_any_other(feed: RecordMapping) -> None:
    listed = {
        "kind": "LISTED",
        "ts": 1_700_000_000_000,
        "sym": "BTC-29DEC23",
        "b": "BTC",
        "delivery": 1_703_836_800_000,
    }
    assert mapped(feed, listed).expiry_us == 1_703_836_800_000_000


def test_optional_fields_and_defaults_give_way_to_what_stands(feed: RecordMapping) -> None:
    fill = mapped(feed, {**EXEC, "fee": 0.5, "tags": {"strategy": "carry"}})
    assert (fill.fee, fill.strategy) == ("0.5", "carry")
    assert mapped(feed, {**EXEC, "fee": None}).fee == "0"


def test_several_kinds_of_one_topic_go_to_several_kinds_of_records(feed: RecordMapping) -> None:
    mark = mapped(feed, {"kind": "PRICE", "at": "2023-11-14T23:13:20.5+01:00", "sym": "ETHPERP", "mid": 1634.5})
    assert (mark.event_time_us, mark.price, mark.kind) == (T0 + 500_000, "1634.5", "mid")
    book = {"kind": "BOOK", "ts": T0 * 1000 + 999, "sym": "ETH-PERP", "b": [{"p": "1", "q": 2}], "a": [["1.5", 0]]}
    depth = mapped(feed, book)
    assert (depth.event_time_us, depth.bids, depth.asks) == (T0, [("1", "2")], [("1.5", "0")])


def test_records_that_are_none_of_ours_are_skipped_and_unknown_ones_rejected(feed: RecordMapping) -> None:
    assert feed.read(b'{"kind":"HEARTBEAT"}') is None
    assert refused(feed, {"kind": "CANCEL"}).reason is Reason.RECORD_MUST_MATCH_THE_MAPPING
    assert read_mapping({**MARKS, "unmatched": "skip"}, "m.toml").read(b'{"kind":1}') is None


@pytest.mark.parametrize(
    ("change", "reason", "told"),
    [
        ({"px": None}, Reason.FIELD_MUST_BE_PRESENT, "oms.toml record 'fill' field price: nothing stands"),
        ({"px": "12,5"}, Reason.DECIMAL_MUST_BE_WELL_FORMED, "oms.toml record 'fill' field price"),
        ({"px": -1}, Reason.PRICE_MUST_BE_POSITIVE, "oms.toml record 'fill': "),
        ({"qty": 0}, Reason.FIELD_MUST_HAVE_A_KNOWN_VALUE, "field side: 0 is neither positive nor negative"),
        ({"qty": {}}, Reason.FIELD_MUST_HAVE_ITS_TYPE, "field side: {} is no number"),
        ({"sym": "XRP"}, Reason.FIELD_MUST_HAVE_A_KNOWN_VALUE, "'XRP' is none of ETHPERP, BTCPERP"),
        ({"ts": "soon"}, Reason.DECIMAL_MUST_BE_WELL_FORMED, "field event_time_us"),
        ({"order": {"account": "a b", "status": "FILLED"}}, Reason.IDENTIFIER_MUST_MATCH_THE_CHARSET, "account"),
        ({"order": {"account": [1], "status": "FILLED"}}, Reason.FIELD_MUST_HAVE_ITS_TYPE, "field account"),
    ],
)
def test_what_cannot_be_mapped_names_file_record_field_and_rule(
    feed: RecordMapping, change: dict[str, Any], reason: Reason, told: str
) -> None:
    rejected = refused(feed, {**EXEC, **change})
    assert rejected.reason is reason and told in rejected.detail


@pytest.mark.parametrize("raw", [b"{", b"[1]", b"\xff", b'{"a":NaN}', b"7", b"[" * 100_000])
def test_what_is_no_json_object_is_rejected(feed: RecordMapping, raw: bytes) -> None:
    assert refused(feed, raw).reason in (Reason.JSON_MUST_BE_VALID, Reason.RECORD_MUST_BE_AN_OBJECT)


MARKS: dict[str, Any] = {
    "record": [
        {
            "type": "mark",
            "when": {"kind": "m"},
            "fields": {
                "event_time_us": {"from": "t", "time": "us"},
                "instrument": "i",
                "price": {"from": "p", "scale": "0.001"},
            },
        }
    ]
}


@given(st.decimals("0.000000001", 10**9, places=9), st.integers(1_300_000_000_000_000, 1 << 52))
def test_scaling_is_exact_and_the_text_of_numbers_survives(price: Decimal, time_us: int) -> None:
    feed = read_mapping(MARKS, "m.toml")
    for shown in (f'"{price:f}"', f"{price:f}"):
        mark = mapped(feed, f'{{"kind":"m","t":{time_us},"i":"X","p":{shown}}}'.encode())
        assert Decimal(mark.price) == price * Decimal("0.001")
        assert mark.event_time_us == time_us


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers() | st.floats(allow_nan=False),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8),
       st.sampled_from(["ts", "px", "qty", "order", "sym", "exec_id", "kind"]))  # fmt: skip
def test_whatever_arrives_becomes_a_record_or_a_reject(value: Any, name: str) -> None:
    import tomllib

    feed = read_mapping(tomllib.loads(MAPPING), "oms.toml")
    try:
        feed.read(json.dumps({**EXEC, name: value}).encode())
    except Rejected as rejected:
        assert rejected.detail


# --- what cannot hold is said when the mapping is read --------------------------------------------------------------


def linted(change: str, by: str, tmp_path: Path) -> str:
    assert change in MAPPING
    (tmp_path / "oms.toml").write_text(MAPPING.replace(change, by, 1))
    done = run_command("map", "check", tmp_path / "oms.toml")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    return done.stderr


@pytest.mark.parametrize(
    ("change", "by", "told"),
    [
        ('type = "fill"', 'type = "fil"', "record 'fil': type 'fil' is no input record; did you mean 'fill'?"),
        ('price = "px"', 'prise = "px"', "record 'fill': fill has no field 'prise'; did you mean 'price'?"),
        ('price = "px"', "", "record 'fill': fill needs price"),
        ("absolute = true", "absolut = true", "field quantity: there is no key 'absolut'; did you mean 'absolute'?"),
        ('time = "ms"', 'time = "m"', "time is 'm'; it must be one of"),
        (', time = "ms"', "", "field event_time_us is a time; say which"),
        ('scale = "0.01"', 'scale = "much"', "field quantity: scale is 'much'"),
        ('positive = "buy"', 'positive = "bye"', "sign 'bye' is none of buy, sell; did you mean 'buy'?"),
        ('constant = "mid"', 'constant = "middle"', "is none of mark, index, mid, last, settlement"),
        ('venue = { constant = "hub" }', 'venue = { constant = "hub", from = "v" }', "it has from and constant"),
        ('price = "px"', 'price = { from = "px", optional = true }', "field price is required"),
        ('price = "px"', 'price = { from = "px", case = "lower" }', "field price is a decimal; case is for a text"),
        ('when = { kind = "EXEC"', "when = { kind = 1.5", "when kind is 1.5"),
        ('format = "json"', 'format = "xml"', "format is 'xml'"),
        ('format = "json"', 'format = "json"\nschemas = "s"', "schemas is for format = 'registry-avro'"),
        ('fee = { from = "fee", default = "0" }', 'fee = { from = "fee", default = "x" }', "field fee: default"),
    ],
)
def test_a_mapping_that_cannot_hold_is_refused_naming_record_field_and_rule(
    change: str, by: str, told: str, tmp_path: Path
) -> None:
    assert told in linted(change, by, tmp_path)


def test_a_rule_that_no_record_can_reach_is_refused() -> None:
    [one] = MARKS["record"]
    with pytest.raises(UsageError, match="'second' is never reached: record 'mark' has no when"):
        read_mapping({"record": [{**one, "when": {}}, {**one, "name": "second"}]}, "m.toml")
    with pytest.raises(UsageError, match="stands twice"):
        read_mapping({"record": [one, one]}, "m.toml")


def test_check_with_a_sample_counts_what_becomes_of_it_and_apply_prints_it(tmp_path: Path) -> None:
    (tmp_path / "oms.toml").write_text(MAPPING)
    (tmp_path / "sample.jsonl").write_bytes(lines(EXEC, {"kind": "LOGON"}, {**EXEC, "px": "x"}))
    done = run_command("map", "check", tmp_path / "oms.toml", "--sample", tmp_path / "sample.jsonl", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["records"] == {"fill": 1, "skipped": 1, "DECIMAL_MUST_BE_WELL_FORMED": 1}
    assert [one["line"] for one in told["findings"]] == [3]
    done = run_command("map", "apply", tmp_path / "oms.toml", tmp_path / "sample.jsonl")
    assert done.returncode == 1 and "line 3: DECIMAL_MUST_BE_WELL_FORMED" in done.stderr
    assert [json.loads(line)["fill_id"] for line in done.stdout.splitlines()] == ["HUB:77"]


def test_the_documented_mapping_makes_what_it_says() -> None:
    import tomllib

    text = (ROOT / "ops/docs/manual/feeds.md").read_text().split("# oms.toml\n")[1].split("```")[0]
    feed = read_mapping(tomllib.loads(text), "oms.toml")
    assert mapped(feed, EXEC).quantity == "12.50"
    levels, at_ns = [{"price": 1, "size": "2"}], 1_700_000_000_123_000_000
    assert mapped(feed, {"kind": "BOOK", "ts": at_ns, "sym": "ETHPERP", "b": levels, "a": []}).bids == [("1", "2")]


# --- framed records -------------------------------------------------------------------------------------------------

TRADE_SCHEMA = {
    "type": "record",
    "name": "Trade",
    "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "symbol", "type": "string"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}},
        {"name": "quantity", "type": "double"},
        {"name": "taker", "type": ["null", {"type": "enum", "name": "Side", "symbols": ["B", "S"]}]},
    ],
}
TRADES: dict[str, Any] = {
    "format": "registry-avro",
    "schemas": "schemas",
    "record": [
        {
            "type": "trade",
            "fields": {
                "event_time_us": {"from": "at", "time": "ms"},
                "venue": {"constant": "hub"},
                "instrument": "symbol",
                "price": "price",
                "quantity": "quantity",
                "side": {"from": "taker", "values": {"B": "buy", "S": "sell"}, "optional": True},
            },
        }
    ],
}


def framed(number: int, **fields: Any) -> bytes:
    from datetime import UTC, datetime

    body = io.BytesIO()
    at = datetime.fromtimestamp(T0 / 1e6, UTC)
    record = {"at": at, "symbol": "ETH-PERP", "price": Decimal("1634.2500"), "quantity": 0.1, "taker": "B", **fields}
    fastavro.schemaless_writer(body, fastavro.parse_schema(TRADE_SCHEMA), record)
    return struct.pack(">BI", 0, number) + body.getvalue()


def test_framed_avro_is_read_with_the_schema_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/7.avsc").write_text(json.dumps(TRADE_SCHEMA))
    feed = read_mapping(TRADES, "trades.toml", tmp_path)
    trade = mapped(feed, framed(7))
    assert (trade.event_time_us, trade.price, trade.quantity, trade.side) == (T0, "1634.2500", "0.1", "buy")
    assert mapped(feed, framed(7, taker=None)).side == ""
    assert refused(feed, framed(8)).reason is Reason.SCHEMA_MUST_BE_KNOWN
    assert refused(feed, framed(7)[:-3]).reason is Reason.AVRO_MUST_FOLLOW_ITS_SCHEMA
    assert refused(feed, framed(7) + b"\0").reason is Reason.AVRO_MUST_FOLLOW_ITS_SCHEMA
    assert refused(feed, b"{}").reason is Reason.FRAME_MUST_BE_VALID


def test_framed_json_is_read_behind_its_frame() -> None:
    feed = read_mapping({**MARKS, "format": "registry-json"}, "m.toml")
    assert mapped(feed, struct.pack(">BI", 0, 3) + b'{"kind":"m","t":1700000000000000,"i":"X","p":5}').price == "0.005"
    assert refused(feed, b'{"kind":"m"}').reason is Reason.FRAME_MUST_BE_VALID


class Registry(http.server.BaseHTTPRequestHandler):
    """Knows schema 7, of Avro, and 5, of Protobuf, to whoever gives the right credentials."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        allowed = self.headers["Authorization"] == "Basic dXNlcjpzZWNyZXQ="
        found = self._schemas().get(self.path.partition("?")[0])
        self.send_response(200 if allowed and found else 404 if allowed else 401)
        self.end_headers()
        self.wfile.write(json.dumps(found if allowed and found else {}).encode())

    @staticmethod
    def _schemas() -> dict[str, dict[str, str]]:
        serialized = base64.b64encode(protobuf_schema()).decode()
        return {
            "/schemas/ids/7": {"schema": json.dumps(TRADE_SCHEMA)},
            "/schemas/ids/5": {"schemaType": "PROTOBUF", "schema": serialized},
        }

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Registry.asked.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_schemas_are_fetched_once_with_credentials_and_kept(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY", "user:secret")
    content = {**TRADES, "registry": registry, "credentials": "env:REGISTRY"}
    for _ in range(2):
        assert mapped(read_mapping(content, "trades.toml", tmp_path), framed(7)).instrument == "ETH-PERP"
    assert Registry.asked == ["/schemas/ids/7"]
    assert json.loads((tmp_path / "schemas/7.avsc").read_text()) == TRADE_SCHEMA
    feed = read_mapping(content, "trades.toml", tmp_path)
    assert refused(feed, framed(9)).reason is Reason.SCHEMA_MUST_BE_KNOWN
    monkeypatch.setenv("REGISTRY", "user:wrong")
    with pytest.raises(BusError, match="answers 401 for schema 9") as caught:
        feed.read(framed(9))
    assert "wrong" not in str(caught.value)


def protobuf_schema() -> bytes:
    """Return the descriptor of a schema in which the message Trade is the second of its file."""
    from google.protobuf import descriptor_pb2

    file = descriptor_pb2.FileDescriptorProto(name="default", package="hub", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    file.message_type.add(name="Other")
    side = file.enum_type.add(name="Side")
    for number, name in enumerate(("B", "S")):
        side.value.add(name=name, number=number)
    trade = file.message_type.add(name="Trade")
    of = descriptor_pb2.FieldDescriptorProto
    fields = [("at", of.TYPE_MESSAGE, ".google.protobuf.Timestamp"), ("symbol", of.TYPE_STRING, "")]
    fields += [("price", of.TYPE_STRING, ""), ("quantity", of.TYPE_FLOAT, ""), ("taker", of.TYPE_ENUM, ".hub.Side")]
    for number, (name, kind, named) in enumerate(fields, 1):
        one = trade.field.add(name=name, number=number, type=kind, label=of.LABEL_OPTIONAL)
        if named:
            one.type_name = named
    return bytes(file.SerializeToString())


def framed_protobuf(number: int, place: bytes = b"\x02\x02") -> bytes:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(protobuf_schema()))
    trade: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("hub.Trade"))()
    trade.at.FromMicroseconds(T0)
    trade.symbol, trade.price, trade.quantity, trade.taker = "ETH-PERP", "1634.2500", 0.1, 1
    return struct.pack(">BI", 0, number) + place + bytes(trade.SerializeToString())


def test_framed_protobuf_is_read_with_the_message_that_it_names(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY", "user:secret")
    content = {**TRADES, "format": "registry-protobuf"}
    fetched = {**content, "registry": registry, "credentials": "env:REGISTRY"}
    for table in (fetched, content):  # what was fetched once needs no registry
        feed = read_mapping(table, "trades.toml", tmp_path)
        trade = mapped(feed, framed_protobuf(5))
        assert (trade.event_time_us, trade.price, trade.quantity, trade.side) == (T0, "1634.2500", "0.1", "sell")
    assert Registry.asked == ["/schemas/ids/5?format=serialized"] and (tmp_path / "schemas/5.desc").is_file()
    for place in (b"\x02\x09", b"\x80", b"\x01"):  # the number of a message below zero, none, less than none
        assert refused(feed, struct.pack(">BI", 0, 5) + place).reason is Reason.FRAME_MUST_BE_VALID
    assert refused(feed, framed_protobuf(5, b"\x02\x08")).reason is Reason.PROTOBUF_MUST_FOLLOW_ITS_SCHEMA
    assert refused(feed, framed_protobuf(5)[:-3]).reason is Reason.PROTOBUF_MUST_FOLLOW_ITS_SCHEMA
    assert refused(feed, framed_protobuf(6)).reason is Reason.SCHEMA_MUST_BE_KNOWN
    feed = read_mapping(fetched, "trades.toml", tmp_path)
    assert refused(feed, framed_protobuf(7)).reason is Reason.SCHEMA_MUST_BE_KNOWN  # that is one of Avro


def test_a_registry_that_does_not_answer_stops_the_run_instead_of_rejecting(tmp_path: Path) -> None:
    feed = read_mapping({**TRADES, "registry": "http://127.0.0.1:9"}, "trades.toml", tmp_path)
    with pytest.raises(BusError, match="bring the registry back"):
        feed.read(framed(7))


# --- in a run -------------------------------------------------------------------------------------------------------


def write_foreign(folder: Path, records: bytes, mapping: str = MAPPING) -> Path:
    """Write a desk whose book is a file of somebody else's."""
    reference = lines(instrument(), account("desk/alpha"))
    path = write_desk(folder, {"reference.jsonl": reference, "oms.jsonl": records}, shards=2)
    (folder / "oms.toml").write_text(mapping)
    path.write_text(path.read_text() + 'mappings = { "oms.jsonl" = "oms.toml" }\n')
    return path


def journal(bus: Bus) -> tuple[list[str], list[float]]:
    """Names of fills and prices of marks in the journal of two shards."""
    found = [piece for shard in range(2) for piece in slices(bus, shard)]
    marks = [price for piece in found[: bus.end("journal", 0)] if piece.marks for price in piece.marks.price]
    return [name for piece in found if piece.fills for name in piece.fills.id], marks


FOREIGN = lines(
    {"kind": "LOGON"},
    {"kind": "PRICE", "at": "2023-11-14T22:13:20.001Z", "sym": "ETHPERP", "mid": 1634.5},
    {**EXEC, "sym": "ETHUSDT"},
    EXEC,
    {**EXEC, "exec_id": 78, "order": {"account": "NOBODY", "status": "FILLED"}},
    {**EXEC, "exec_id": 77, "ts": EXEC["ts"] + 1},
)


def test_a_foreign_file_runs_without_code_and_what_is_rejected_keeps_its_own_bytes(tmp_path: Path) -> None:
    path = write_foreign(tmp_path, FOREIGN)
    assert run_command("run", path).returncode == 0
    bus = open_bus("sqlite:seawall.db", tmp_path)
    assert journal(bus) == (["HUB:77", "HUB:77"], [1634.5])
    [one, other] = rejects(bus, 2)
    assert (one["reason"], other["reason"]) == ("FIELD_MUST_HAVE_A_KNOWN_VALUE", "ACCOUNT_MUST_BE_KNOWN")
    assert json.loads(one["original"]) == {**EXEC, "sym": "ETHUSDT"}
    assert json.loads(other["original"])["order"]["account"] == "NOBODY"
    assert one["source"] == {"file": "oms.jsonl", "line": 3}
    bus.close()
    assert run_command("verify", tmp_path).returncode == 0
    assert run_command("replay", tmp_path).returncode == 0


def test_the_journal_of_a_mapped_file_is_that_of_the_file_that_map_apply_prints(tmp_path: Path) -> None:
    foreign = write_foreign(tmp_path / "foreign", lines(EXEC, {**EXEC, "exec_id": 79, "ts": EXEC["ts"] + 1500}))
    printed = run_command("map", "apply", foreign.parent / "oms.toml", foreign.parent / "oms.jsonl")
    assert printed.returncode == 0
    own = write_foreign(tmp_path / "own", printed.raw)
    own.write_text(own.read_text().replace('mappings = { "oms.jsonl" = "oms.toml" }\n', ""))
    for path in (foreign, own):
        assert run_command("run", path, "--only", "sequence").returncode == 0
    got, wanted = (open_bus("sqlite:seawall.db", path.parent) for path in (foreign, own))
    for shard in range(2):
        pairs = zip(slices(got, shard), slices(wanted, shard), strict=True)
        assert all(one.fills == other.fills and one.as_of_us == other.as_of_us for one, other in pairs)
    got.close()
    wanted.close()


def test_a_record_is_redriven_through_the_mapping_that_was_mended(tmp_path: Path) -> None:
    path = write_foreign(tmp_path, FOREIGN)
    assert run_command("run", path).returncode == 0
    tried = run_command("rejects", "redrive", path, "--source", "oms.jsonl", "--why", "nothing yet")
    assert tried.returncode == 1 and "it would be rejected again: FIELD_MUST_HAVE_A_KNOWN_VALUE" in tried.stdout
    mapping = tmp_path / "oms.toml"
    mapping.write_text(
        MAPPING.replace('ETHPERP = "ETH-PERP", BTCPERP', 'ETHPERP = "ETH-PERP", ETHUSDT = "ETH-PERP", BTCPERP')
    )
    done = run_command(
        "rejects", "redrive", path, "--reason", "FIELD_MUST_HAVE_A_KNOWN_VALUE", "--why", "ETHUSDT was new"
    )
    assert done.returncode == 0, done.stdout
    assert run_command("run", path).returncode == 0
    bus = open_bus("sqlite:seawall.db", tmp_path)
    assert journal(bus)[0] == ["HUB:77", "HUB:77", "HUB:77"]
    bus.close()
    assert run_command("verify", tmp_path).returncode == 0


def test_a_foreign_topic_of_framed_avro_and_one_of_json_are_followed_live(tmp_path: Path) -> None:
    from seawall.dataflows import Sequencer
    from seawall.schemas.configuration import load_configuration
    from seawall_testing.pipeline import MemoryBus

    path = write_desk(tmp_path, {"reference.jsonl": lines(instrument(), account("desk/alpha"))}, shards=2)
    (tmp_path / "oms.toml").write_text(MAPPING)
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/7.avsc").write_text(json.dumps(TRADE_SCHEMA))
    trades = [f"{name} = {json.dumps(TRADES[name])}" for name in ("format", "schemas")]
    fields = "\n".join(f"{name} = {_toml(spec)}" for name, spec in TRADES["record"][0]["fields"].items())
    (tmp_path / "trades.toml").write_text("\n".join([*trades, '[[record]]\ntype = "trade"\n[record.fields]', fields]))
    own = 'topics = ["oms", "trades"]\nmappings = { oms = "oms.toml", trades = "trades.toml" }\n'
    path.write_text(path.read_text() + own)
    bus, clock = MemoryBus(), count(T0 + 10_000_000, 100_000)
    sequencer = Sequencer(load_configuration(path), bus, lambda: next(clock))
    writer = bus.writer([("oms", 0), ("trades", 0)])
    for record in FOREIGN.splitlines():
        writer.append("oms", 0, "", record, {})
    for value in (framed(7), b"junk", framed(7, symbol="UNKNOWN")):
        writer.append("trades", 0, "", value, {})
    writer.flush()
    for _ in range(10):
        sequencer.step()
    assert journal(bus) == (["HUB:77", "HUB:77"], [1634.5])
    reasons = [(one["source"]["topic"], one["reason"]) for one in rejects(bus, 2)]
    assert sorted(reasons) == [
        ("oms", "ACCOUNT_MUST_BE_KNOWN"),
        ("oms", "FIELD_MUST_HAVE_A_KNOWN_VALUE"),
        ("trades", "FRAME_MUST_BE_VALID"),
        ("trades", "INSTRUMENT_MUST_BE_KNOWN"),
    ]
    [junk] = [one for one in rejects(bus, 2) if one["reason"] == "FRAME_MUST_BE_VALID"]
    assert junk["original"] == "junk"


def _toml(spec: Any) -> str:
    if not isinstance(spec, dict):
        return json.dumps(spec)
    return "{ " + ", ".join(f"{key} = {_toml(value)}" for key, value in spec.items()) + " }"


def test_market_hears_of_mapped_records_too(tmp_path: Path) -> None:
    book = {"kind": "BOOK", "sym": "ETH-PERP", "b": [{"p": "99", "q": 2}], "a": [["101", 1]]}
    records = lines(*({**book, "ts": (T0 + at * 100_000) * 1000} for at in range(20)))
    path = write_foreign(tmp_path, records)
    assert run_command("run", path).returncode == 0
    bus = open_bus("sqlite:seawall.db", tmp_path)
    assert sum(bus.end("signals", group) for group in bus.partitions("signals")) > 10
    assert 100.0 in journal(bus)[1]
    bus.close()


@pytest.mark.parametrize(
    ("mappings", "told"),
    [
        ('{ "oms.json" = "oms.toml" }', "'oms.json' is neither among events nor topics; did you mean 'oms.jsonl'?"),
        ('{ "oms.jsonl" = 1 }', "mappings: oms.jsonl is '1'; it must be a text"),
        ('{ "oms.jsonl" = "none.toml" }', "none.toml does not exist"),
        ('{ "oms.jsonl" = "framed.toml" }', "framed records may hold line feeds"),
    ],
)
def test_a_configuration_that_names_no_such_source_or_mapping_is_refused(
    mappings: str, told: str, tmp_path: Path
) -> None:
    path = write_foreign(tmp_path, FOREIGN)
    (tmp_path / "framed.toml").write_text(MAPPING.replace('"json"', '"registry-json"', 1))
    path.write_text(path.read_text().replace('{ "oms.jsonl" = "oms.toml" }', mappings))
    done = run_command("run", path)
    assert done.returncode == 2 and told in done.stderr


def test_seawalls_own_topics_are_not_mapped(tmp_path: Path) -> None:
    path = write_foreign(tmp_path, FOREIGN)
    path.write_text(
        path.read_text().replace('mappings = { "oms.jsonl"', 'topics = ["signals"]\nmappings = { "signals"')
    )
    done = run_command("run", path)
    assert done.returncode == 2 and "signals holds records of Seawall's own" in done.stderr
