"""``seawall convert``: recordings and OHLCV files become inputs that ``seawall run`` takes."""

import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from seawall.connectors.venues import (
    ConversionResult,
    ConvertOptions,
    convert_bars,
    convert_messages,
    read_bars,
    read_messages,
)
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import UsageError
from seawall_testing.command_line import seawall
from seawall_testing.paths import SHARED

DATA = SHARED / "data"
RAW = DATA / "raw_venue_messages_2021"
LIMITS = """[[limit]]
id = "client-margin"
scope = "account:*"
measure = "margin_ratio"
direction = "above"
hard = 1.0
"""
DESK = """shards = 1
[inputs]
events = [{events}]
[limits]
file = "limits.toml"
"""
KRAKEN = """wss://futures.kraken.com/ws/v1 <-> 1626994927.139662
wss://futures.kraken.com/ws/v1 <- 1626994927.582819: {"event":"subscribe"}
1626994927.5: {"feed":"trade","product_id":"PI_XBTUSD","side":"buy","type":"fill","time":1626994927500,"qty":2.5,\
"price":7}

1626994927.6: {"feed":"trade","product_id":"PI_XBTUSD","side":"sell","type":"liquidation","time":1626994920000,"qty":1,\
"price":6.5}
not a message
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def convert(path: Path, venue: str = "kraken_futures", **options: Any) -> tuple[ConversionResult, list[dict[str, Any]]]:
    out = io.BytesIO()
    done = convert_messages(venue, path, ConvertOptions({}, **options), out)
    lines = out.getvalue().splitlines()
    assert [decode_event(line) for line in lines]
    return done, [json.loads(line) for line in lines]


def test_records_come_in_the_order_of_time_behind_the_venue_and_its_instruments(tmp_path: Path) -> None:
    done, records = convert(written(tmp_path / "k.ws", KRAKEN), describe=True)
    assert [record["type"] for record in records] == ["counterparty", "instrument", "trade", "liquidation", "trade"]
    assert records[1]["quantity_increment"] == "0.1"
    assert (records[1]["settlement"], records[1]["inverse"]) == ("BTC", True)
    assert done.refused == 1
    assert done.lines()[1].startswith("left out 1 malformed: not JSON")
    assert done.lines()[1].endswith("(first in line 6)")


def test_instruments_without_a_record_are_named(tmp_path: Path) -> None:
    done, _ = convert(written(tmp_path / "k.ws", KRAKEN))
    assert done.undescribed == ["PI_XBTUSD"]
    assert "1 instruments need instrument records" in done.lines()[-1]


def test_names_are_pairs(tmp_path: Path) -> None:
    path = written(tmp_path / "k.ws", KRAKEN)
    done = seawall("convert", "kraken_futures", path, "--name", "PI_XBTUSD=XBT", "--describe", cwd=tmp_path)
    assert '"instrument":"XBT"' in done.stdout
    done = seawall("convert", "kraken_futures", path, "--name", "A", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "seawall: --name A: write SYMBOL=INSTRUMENT\n")


def test_a_recording_may_be_gzipped_or_have_no_times_and_a_damaged_one_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "k.ws.gz"
    path.write_bytes(gzip.compress(KRAKEN.encode()))
    assert [message.line for message in read_messages(path)] == [3, 5, 6]
    assert [m.received_us for m in read_messages(path)] == [1_626_994_927_500_000, 1_626_994_927_600_000, -1]
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(UsageError, match=r"k\.ws\.gz cannot be read"):
        list(read_messages(path))


def test_the_command_line_converts_and_strict_tells_by_its_exit_code(tmp_path: Path) -> None:
    path = written(tmp_path / "k.ws", KRAKEN)
    done = seawall("convert", "kraken_futures", path, "--name", "PI_XBTUSD=BTC", "--strict", "--json")
    assert done.returncode == 1
    assert json.loads(done.stderr)["refused"] == 1
    assert {json.loads(line).get("instrument", "BTC") for line in done.stdout.splitlines()} == {"BTC"}
    unknown = seawall("convert", "krakn", path)
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (2, 1)
    assert "did you mean kraken_futures?" in unknown.stderr


@pytest.mark.parametrize(
    ("venue", "files"),
    [
        ("binance", ["BINANCE_FUTURES.ws.1.0.gz"]),
        ("deribit", ["DERIBIT.0.gz", "DERIBIT.ws.1.0.gz"]),
        ("dydx", ["DYDX.ws.1.0.gz"]),
        ("kraken_futures", ["KRAKEN_FUTURES.ws.1.0.gz"]),
    ],
)
def test_a_run_takes_a_converted_recording_without_a_single_reject(
    venue: str, files: list[str], tmp_path: Path
) -> None:
    if not all((RAW / name).exists() for name in files):
        pytest.skip("the recorded messages are not here")
    names = []
    for number, name in enumerate(files):
        out = tmp_path / f"{number}.jsonl"
        with out.open("wb") as file:
            convert_messages(venue, RAW / name, ConvertOptions({}, 5, 1_000_000, True), file)
        names.append(f'"{out.name}"')
    written(tmp_path / "limits.toml", LIMITS)
    desk = written(tmp_path / "desk.toml", DESK.format(events=", ".join(names)))
    done = seawall("run", desk, "--strict", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["rejected"] == 0


# --- OHLCV ------------------------------------------------------------------------------------------------------------

ROWS = "{0},1.0,2,0.5,1.5,10\n{1},1.5,2,1,1e0,0\n"
FORMS = {
    "milliseconds": "open_time_ms,open,high,low,close,volume\n" + ROWS.format(1_600_000_000_000, 1_600_000_060_000),
    "seconds": "timestamp,open,high,low,close,volume\n" + ROWS.format(1_600_000_000, 1_600_000_060),
    "microseconds": "Open time,Open,High,Low,Close,Volume\n"
    + ROWS.format(1_600_000_000_000_000, 1_600_000_060_000_000),
    "nanoseconds": "ts,open,high,low,close,vol\n" + ROWS.format(1_600_000_000 * 10**9, 1_600_000_060 * 10**9),
    "texts without a zone": "date,open,high,low,close,volume\n"
    + ROWS.format("2020-09-13 12:26:40", "2020-09-13 12:27:40"),
    "texts with a zone": "time,open,high,low,close,volume\n"
    + ROWS.format("2020-09-13T14:26:40+02:00", "2020-09-13T14:27:40+02:00"),
    "closing times": "close_time,open,high,low,close,volume\n" + ROWS.format(1_600_000_060, 1_600_000_120),
    "no header": ROWS.format(1_600_000_000_000, 1_600_000_060_000),
    "a publisher's line": "https://www.example.com\nunix,date,symbol,open,high,low,close,Volume BTC,Volume USDT\n"
    "1600000060,2020-09-13,X,1.5,2,1,1,0,7\n1600000000,2020-09-13,X,1.0,2,0.5,1.5,10,7\n",
    "klines": "1600000000000,1.0,2,0.5,1.5,10,1600000059999,9,9,9,9,0\n"
    "1600000060000,1.5,2,1,1,0,1600000119999,9,9,9,9,0\n",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_file_gives_the_same_bars(form: str, tmp_path: Path) -> None:
    bars = read_bars(written(tmp_path / "x.csv", FORMS[form]), "v", "X")
    assert bars.interval_us == 60_000_000
    assert not bars.skipped
    first, second = bars.events
    assert (first.event_time_us, second.event_time_us) == (1_600_000_060_000_000, 1_600_000_120_000_000)
    assert (first.open, first.low, first.close, first.volume) == ("1.0", "0.5", "1.5", "10")
    assert (second.close, second.volume) == ("1", "0")


def test_rows_that_break_a_rule_are_left_out_by_name_and_missing_bars_are_counted(tmp_path: Path) -> None:
    at_s = 1_700_000_000
    rows = ["0,1,1,1,1,1", "60,1,1,1,1,1", "120,1,1,1,1,1", "120,1,1,1,1,1", "180,0,1,0,1,1", "240,nan,1,1,1,1"]
    rows += ["300,1,1,2,1,1", "x,1,1,1,1,1", "360,1", "420,1,1,1,1,-1", "480,1,1,1,1,1"]
    dated = [re.sub(r"^\d+", lambda found: str(at_s + int(found[0])), row) for row in rows]
    bars = read_bars(written(tmp_path / "x.csv", "time,open,high,low,close,volume\n" + "\n".join(dated)), "v", "X")
    assert [bar.event_time_us // 1_000_000 - at_s for bar in bars.events] == [60, 120, 180, 540]
    assert bars.missing == 5
    assert bars.skipped == {
        "repeated: the same row again": 1,
        "malformed: PRICE_MUST_BE_POSITIVE": 1,
        "malformed: open: NUMBER_MUST_BE_FINITE": 1,
        "malformed: open or close outside low to high": 1,
        "malformed: time is neither a number nor ISO 8601": 1,
        "malformed: a row with too few columns": 1,
        "malformed: AMOUNT_MUST_NOT_BE_NEGATIVE": 1,
    }
    assert bars.first_line["repeated: the same row again"] == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no header"),
        ("time,open,high,low,close\n1,1,1,1,1\n", "no header"),
        ("1,2,3\n", "3 columns"),
        ("time,open,high,low,close,volume\n60,1,1,1,1,1\n", "--interval-s"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_in_one_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        read_bars(written(tmp_path / "x.csv", text), "v", "X")


@pytest.mark.parametrize(
    ("name", "bars", "missing", "repeated"),
    [
        ("crash_may_2021/BINANCE-LTCUSDT-SPOT-1m-2021-04-20_05-20.csv.gz", 42_916, 283, 0),
        ("crash_mar_2020/BINANCE-BTCUSDT-SPOT-5m-2020-03-01_03-12.csv.gz", 3_398, 25, 1),
        ("pump_and_dump/series/BINANCE-SNGLSBTC-SPOT-1m-2020-02_03.csv.gz", 42_657, 542, 0),
    ],
)
def test_published_series_have_the_bars_that_their_description_counts(
    name: str, bars: int, missing: int, repeated: int
) -> None:
    if not (DATA / name).exists():
        pytest.skip("the published series are not here")
    out = io.BytesIO()
    done = convert_bars(DATA / name, "binance", "X", 0, "", out)
    assert (done.events["bar"], done.notes["bars missing"], done.skipped.total()) == (bars, missing, repeated)
    assert decode_event(out.getvalue().splitlines()[-1])
