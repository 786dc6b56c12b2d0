"""The converter of Hyperliquid's account export: what rows become, and what is said of rows that become nothing."""

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from seawall.connectors.venues.hyperliquid import Converted, convert
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import UsageError
from seawall_testing.paths import SHARED

DATA = SHARED / "data" / "hyperliquid_accounts_2023"

TRADES = """time,user,coin,side,px,sz,crossed
2023-02-27T15:02:26Z,0xaa,ETH,Ask,1655.5,0.0452,true
2023-02-27T15:04:12Z,0xaa,ETH,Bid,1658.8,0.05,true
2023-02-27T15:04:12Z,0xbb,ARB,Bid,1.25,300,false
"""
LEDGER = """time,user,delta_usd
2023-02-26T16:44:05Z,0xaa,4
2023-02-27T15:04:12Z,0xcc,-1.1
"""


def write(folder: Path, trades: str = TRADES, ledger: str = LEDGER) -> tuple[Path, Path]:
    (folder / "trades.csv").write_text(trades)
    (folder / "ledger.csv").write_text(ledger)
    return folder / "trades.csv", folder / "ledger.csv"


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trades_become_marks_and_fills_and_ledger_rows_become_collateral_in_order_of_time(tmp_path: Path) -> None:
    converted = convert(*write(tmp_path), tmp_path / "out")
    assert converted == Converted(fills=3, transfers=2, accounts=3, instruments=2)
    found = records(tmp_path / "out" / "events.jsonl")
    assert [record["type"] for record in found] == [
        "collateral", "mark", "fill", "collateral", "mark", "fill", "mark", "fill",
    ]  # fmt: skip
    assert found[0] == {
        "type": "collateral",
        "event_time_us": 1_677_429_845_000_000,
        "transfer_id": "t0",
        "account": "0xaa",
        "asset": "USD",
        "amount": "4",
    }
    assert found[1] == {
        "type": "mark",
        "event_time_us": 1_677_510_146_000_000,
        "instrument": "ETH-PERP",
        "price": "1655.5",
        "kind": "last",
    }
    assert found[2] == {
        "type": "fill",
        "event_time_us": 1_677_510_146_000_000,
        "fill_id": "f0",
        "account": "0xaa",
        "instrument": "ETH-PERP",
        "side": "sell",
        "quantity": "0.0452",
        "price": "1655.5",
    }
    assert [record["side"] for record in found if record["type"] == "fill"] == ["sell", "buy", "buy"]


def test_an_instrument_gets_the_smallest_increment_that_its_sizes_are_multiples_of(tmp_path: Path) -> None:
    convert(*write(tmp_path), tmp_path)
    increments = {
        record["instrument"]: record["quantity_increment"]
        for record in records(tmp_path / "reference.jsonl")
        if record["type"] == "instrument"
    }
    assert increments == {"ETH-PERP": "0.0001", "ARB-PERP": "1"}


def test_users_who_only_moved_money_have_accounts_too(tmp_path: Path) -> None:
    convert(*write(tmp_path), tmp_path)
    accounts = [record["account"] for record in records(tmp_path / "reference.jsonl") if record["type"] == "account"]
    assert accounts == ["0xaa", "0xbb", "0xcc"]


def test_every_record_is_one_that_the_contract_knows(tmp_path: Path) -> None:
    convert(*write(tmp_path), tmp_path)
    lines = [
        line for name in ("reference", "events") for line in (tmp_path / f"{name}.jsonl").read_bytes().splitlines()
    ]
    assert len([decode_event(line) for line in lines]) == 17


def test_rows_out_of_order_are_put_in_order_and_keep_their_names(tmp_path: Path) -> None:
    head, first, second, third = TRADES.splitlines()
    convert(*write(tmp_path, trades="\n".join([head, second, third, first])), tmp_path)
    fills = [record["fill_id"] for record in records(tmp_path / "events.jsonl") if record["type"] == "fill"]
    assert fills == ["f2", "f0", "f1"]


def test_gzipped_files_are_read_as_they_are(tmp_path: Path) -> None:
    for path in write(tmp_path):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    convert(tmp_path / "trades.csv", tmp_path / "ledger.csv", plain)
    convert(tmp_path / "trades.csv.gz", tmp_path / "ledger.csv.gz", packed)
    assert (plain / "events.jsonl").read_bytes() == (packed / "events.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("1658.8", "soon", "trades.csv line 3, column px: is 'soon', which is not a plain decimal"),
        ("1658.8", "1e3", "trades.csv line 3, column px: is '1e3', which is not a plain decimal"),
        ("1658.8", "0", "trades.csv line 3, column px: is 0, which is not positive"),
        ("1658.8", "", "trades.csv line 3, column px: is empty"),
        (",0.05,", ",-0.05,", "trades.csv line 3, column sz: is -0.05, which is not positive"),
        ("Bid,1658.8", "Buy,1658.8", "trades.csv line 3, column side: is 'Buy', neither Bid nor Ask"),
        ("0xbb,ARB", "0xbb,A B", "trades.csv line 4, column coin: is 'A B', which does not match"),
        ("2023-02-27T15:02:26Z", "yesterday", "trades.csv line 2, column time: 'yesterday' is not an ISO 8601 time"),
        ("2023-02-27T15:02:26Z", "2023-02-27T15:02:26", "trades.csv line 2, column time: '2023-02-27T15:02:26' has no"),
        ("px,sz", "price,size", "trades.csv line 1: no column px, sz"),
        (",ARB,Bid,1.25,300,false", "", "trades.csv line 4, column coin: is empty"),
    ],
)
def test_a_wrong_value_is_named_by_file_line_and_column(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    assert right in TRADES
    with pytest.raises(UsageError, match="^" + said.replace("'", ".")):
        convert(*write(tmp_path, trades=TRADES.replace(right, wrong)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_or_broken_file_is_an_error_of_usage(tmp_path: Path) -> None:
    trades, ledger = write(tmp_path)
    with pytest.raises(UsageError, match=r"nothing\.csv does not exist"):
        convert(tmp_path / "nothing.csv", ledger, tmp_path)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(trades.read_bytes())[:40])
    with pytest.raises(UsageError, match=r"cut\.csv\.gz cannot be read"):
        convert(tmp_path / "cut.csv.gz", ledger, tmp_path)


@pytest.mark.skipif(not DATA.exists(), reason=f"the public export is not at {DATA}")
def test_the_whole_public_export_is_converted_without_loss(tmp_path: Path) -> None:
    converted = convert(DATA / "non_mm_trades.csv.gz", DATA / "non_mm_ledger_updates.csv.gz", tmp_path)
    assert (converted.fills, converted.transfers) == (35_691, 560)
    found = records(tmp_path / "events.jsonl")
    times = [record["event_time_us"] for record in found]
    assert times == sorted(times)
    assert len(found) == 2 * 35_691 + 560
    moved = sum((Decimal(record["amount"]) for record in found if record["type"] == "collateral"), Decimal(0))
    with gzip.open(DATA / "non_mm_ledger_updates.csv.gz", "rt") as file:
        assert moved == sum((Decimal(line.split(",")[2]) for line in file.read().splitlines()[1:]), Decimal(0))
