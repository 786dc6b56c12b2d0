"""Bad prices and outages that concern everybody at once force nothing: prints, own fills, dust, dead feeds, pegs."""

import csv
import gzip
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from seawall_testing.desk import T0, Json
from seawall_testing.paths import SHARED
from seawall_testing.pipeline import PipelineRun
from seawall_testing.risk_desk import SECOND, client, deposit, house, perpetual, price, run, spot, trade

LINK = SHARED / "data" / "crash_mar_2020" / "BINANCE-LINKUSDT-SPOT-1h-2020-03.csv.gz"
LIMITS = [
    {"id": "margin", "scope": "account:*", "measure": "margin_ratio", "direction": "above", "soft": 0.8, "hard": 1.0},
    {"id": "leverage", "scope": "account:*", "measure": "leverage", "direction": "above", "hard": 15},
]
PLAYBOOK = [
    {"id": f"{limit}-{level}-{kind}", "when": {"limit": limit, "level": level},
     "commands": [{"kind": kind, "target": "account"}]}
    for limit, level in (("margin", "soft"), ("margin", "hard"), ("leverage", "hard"))
    for kind in ("CALL_MARGIN", "SUSPEND")
]  # fmt: skip
MANY = 200
PEGGED = {"type": "asset", "asset": "USDT", "class": "stablecoin", "peg": "USD"}
USDT = spot("USDT/USD", "USDT", "USD")
HOUR, WEEK = 3_600, 7 * 86_400


def decided(folder: Path, *records: Json | list[Json], **terms: Any) -> PipelineRun:
    """Run records in order of time under limits whose breaches call for margin and suspend."""
    flat = chain.from_iterable(one if isinstance(one, list) else [one] for one in records)
    events = sorted(flat, key=lambda record: record.get("event_time_us", 0))
    return run(folder, events, limits=LIMITS, playbook=PLAYBOOK, slice_ms=1000, **terms)


def names(count: int = MANY) -> list[str]:
    return [f"c{number}" for number in range(count)]


def told(found: PipelineRun) -> list[tuple[str, str]]:
    return [(alert["kind"], alert["scope"]) for alert in found.topic("alerts")]


def at(found: PipelineRun, scope: str, second: float) -> dict[str, float]:
    """Return measures as they stood in the last slice before a second."""
    return found.measures(scope, T0 + round(second * SECOND))


def crash_hours(first: str = "1583971200000", count: int = 24) -> list[Json]:
    """Return the hours of 12 March 2020, in the fields of the file."""
    if not LINK.exists():
        pytest.skip("needs ../shared/data/crash_mar_2020")
    with gzip.open(LINK, "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["open_time_ms"] >= first]
    return rows[:count]


def link_desk(hours: list[Json], low_kind: str) -> list[Json]:
    """Return accounts in LINK and its prices: marks at the open and close of each hour, its low at one venue between.

    The marks are older than a minute when the low comes. At the lowest close, 1.9 or above, equity of ``long`` is
    3,000 + 1,000 x (1.9 - 3.817) > 1,000 over a margin of 95, so only a low may call.
    """
    prices: list[Json] = []
    for number, row in enumerate(hours):
        start = 10 + number * HOUR
        prices += [price(start, "LINK-PERP", row["open"]), price(start, "LINK/USD", row["open"])]
        for name in ("LINK-PERP", "LINK/USD"):
            prices.append(price(start + 1_800, name, row["low"], kind=low_kind, venue="binance"))
            prices.append(price(start + 3_590, name, row["close"]))
    opening = hours[0]["open"]
    return [
        perpetual("LINK-PERP", "LINK"), spot("LINK/USD", "LINK"), perpetual(), price(0.1, "BTC-PERP", "8000"),
        *client("long"), deposit(0.2, "3000", holder="long"), *house("own"), deposit(0.2, "3000", holder="own"),
        *client("pledged"), deposit(0.3, "1000", "LINK", holder="pledged"), *prices,
        trade(20, "LINK-PERP", "buy", "1000", opening, holder="long"),
        trade(20, "LINK-PERP", "buy", "1000", opening, holder="own"),
        trade(21, "BTC-PERP", "buy", "0.2", "8000", holder="pledged"),
        *(price(30 + 50 * beat, "BTC-PERP", "8000") for beat in range(len(hours) * HOUR // 50)),
    ]  # fmt: skip


def test_the_low_of_link_of_march_2020_calls_and_liquidates_nobody(tmp_path: Path) -> None:
    hours = crash_hours()
    assert min(float(row["low"]) for row in hours) == 0.0001
    assert min(float(row["close"]) for row in hours) >= 1.9
    found = decided(tmp_path, link_desk(hours, "last"))
    assert found.commands() == []
    lowest = min(float(row["close"]) for row in hours)
    right = 3_000 + 1_000 * (lowest - float(hours[0]["open"]))
    assert at(found, "account:long", 10 + 24 * HOUR)["equity"] == pytest.approx(right)


def test_the_same_low_as_a_mark_would_have_called(tmp_path: Path) -> None:
    """So that the test before can fail: 3,000 + 1,000 x (0.0001 - 3.817) is below 0."""
    found = decided(tmp_path, link_desk(crash_hours(), "mark"))
    assert {kind for kind, _ in found.commands()} >= {"CALL_MARGIN"}


@pytest.mark.parametrize("silent_s", [0, 7_200])
def test_a_fill_at_twice_the_market_moves_the_cash_of_its_trader_alone(silent_s: int, tmp_path: Path) -> None:
    """1 bought at 200 and marked 100: 1,000 + 1 x (100 - 200) = 900. Everybody else has 1 bought at 100."""
    holders = [
        [*client(name), deposit(0.2, "1000", holder=name), trade(1, "BTC-PERP", "buy", "1", "100", holder=name)]
        for name in names()
    ]  # fmt: skip
    end = silent_s + 10
    found = decided(
        tmp_path, perpetual(), price(0.1, "BTC-PERP", "100"), client(), deposit(0.2, "1000", holder="ann"), *holders,
        trade(end, "BTC-PERP", "buy", "1", "200", holder="ann"), deposit(end + 5, "0.01", holder="ann"),
    )  # fmt: skip
    row = found.measures("account:ann")
    assert (row["equity"], row["gross_notional"]) == pytest.approx((900.01, 100))
    for name in names():
        other = found.measures(f"account:{name}")
        assert (other["equity"], other["gross_notional"]) == pytest.approx((1_000, 100))
    assert found.commands() == []


@pytest.mark.parametrize("came", ["deposit", "fill"])
def test_dust_without_a_price_at_every_account_gives_no_command(came: str, tmp_path: Path) -> None:
    """500 of a token, as a gift or bought at 0.01: at most 3 x 5 of money, below any tolerance."""
    set_terms = {"type": "netting_set", "margined": True, "counterparty": "c0", "netting_set": "c0"}
    accounts = [*names(), "venue-1", "venue-2"]

    def dust(name: str) -> Json:
        bought = trade(2, "DUST/USD", "buy", "500", "0.01", holder=name)
        return bought if came == "fill" else deposit(2, "500", "DUST", holder=name)

    found = decided(
        tmp_path, perpetual(), {"type": "asset", "asset": "DUST", "class": "token"}, spot("DUST/USD", "DUST"),
        house("venue-1"), house("venue-2", "dealer"), *(client(name) for name in names()), set_terms,
        price(0.1, "BTC-PERP", "100"), [deposit(0.2, "1000", holder=name) for name in accounts],
        [trade(1, "BTC-PERP", "buy", "1", "100", holder=name) for name in accounts], [dust(name) for name in accounts],
        *(price(5 + 30 * beat, "BTC-PERP", "100") for beat in range(20)),
    )  # fmt: skip
    assert found.commands() == []
    assert found.breaches() == []
    cash = 1_000 - 5 * (came == "fill")
    assert {round(found.measures(f"account:{name}")["equity"], 6) for name in accounts} == {cash}


def test_a_stablecoin_that_goes_to_0_and_falls_silent_lifts_nobody_back_and_forces_no_more(tmp_path: Path) -> None:
    """200 desks of 50,000 USDT at 0.0001: 5 each at most, an hour and a day later too. Commands come while it falls."""
    holders = [[*client(name), deposit(0.2, "50000", "USDT", holder=name)] for name in names()]
    trades = [trade(1, "BTC-PERP", "buy", "1", "100", holder=name) for name in names()]
    fall = [price(10 + 5 * step, "USDT/USD", value) for step, value in enumerate(["0.9", "0.5", "0.01", "0.0001"])]
    found = decided(
        tmp_path, PEGGED, USDT, perpetual(), price(0.1, "USDT/USD", "1"), price(0.1, "BTC-PERP", "100"), *holders,
        trades, fall, *(price(20 + 30 * beat, "BTC-PERP", "100") for beat in range(2 * HOUR // 30)),
        *(price(86_400 + 30 * beat, "BTC-PERP", "100") for beat in range(3)),
    )  # fmt: skip
    for second in (30, HOUR, 2 * HOUR, 86_500):
        assert max(at(found, f"account:{name}", second)["equity"] for name in names()) <= 5 + 1e-9
    silent_us = T0 + (25 + 61) * SECOND
    late = [one["payload"]["iat_us"] if "payload" in one else one["iat_us"] for one in found.topic("commands")]
    assert late == [] or max(late) <= silent_us


def test_one_at_088_is_halted_for_a_day_and_comes_back_for_everybody(tmp_path: Path) -> None:
    """44,000 of 50,000 while it is away; 50,000 once its market was back for the time that a return takes."""
    day = 86_400
    holders = [[*client(name), deposit(0.2, "50000", "USDT", holder=name)] for name in names(50)]
    away = [price(10 + 5 * step, "USDT/USD", "0.88") for step in range(10)]
    back = [price(day + 20 * step, "USDT/USD", "1.001") for step in range(40)]
    found = decided(
        tmp_path, PEGGED, USDT, perpetual(), price(0.1, "USDT/USD", "1"), *holders, away, back,
        *(price(20 + 600 * beat, "BTC-PERP", "100") for beat in range(day // 600)), peg_return_s=300,
    )  # fmt: skip
    for name in names(50):
        looked = [at(found, f"account:{name}", second)["equity"] for second in (HOUR, 20 * HOUR)]
        assert max(looked) <= 44_000 + 1e-6
        assert found.measures(f"account:{name}")["equity"] == pytest.approx(50_000)
    assert found.commands() == []
    pegs = [kind for kind, _ in told(found) if kind.startswith("peg_")]
    assert set(pegs) == {"peg_broken", "peg_returned"}


def test_many_desks_in_usdt_without_a_feed_of_it_run_for_a_week(tmp_path: Path) -> None:
    """10,000 USDT and 0.1 x (31,000 - 30,000): at the peg 10,100, at worst 2 % below."""
    holders = [
        [*client(name), deposit(0.1, "10000", "USDT", holder=name),
         trade(1, "BTC-PERP", "buy", "0.1", "30000", holder=name)]
        for name in names(100)
    ]  # fmt: skip
    hours = [price(2 + HOUR * hour, "BTC-PERP", "31000") for hour in range(WEEK // HOUR)]
    found = decided(
        tmp_path, PEGGED, perpetual(quote="USDT", settlement="USDT"), price(0.2, "BTC-PERP", "30000"), *holders, hours,
    )  # fmt: skip
    for name in names(100):
        assert 0.98 * 10_100 - 1e-6 <= found.measures(f"account:{name}")["equity"] <= 10_100 + 1e-6
    assert found.commands() == []
    assert found.breaches() == []
