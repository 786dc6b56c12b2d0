"""A print, a dust token, an own fill or a dead feed forces nothing; a peg never raises a price and hides no silence."""

from pathlib import Path

import pytest

from seawall_testing.desk import Json
from seawall_testing.pipeline import PipelineRun
from seawall_testing.risk_desk import client, deposit, perpetual, price, run, spot, trade

LIMITS = [
    {"id": "margin", "scope": "account:*", "measure": "margin_ratio", "direction": "above", "soft": 0.8, "hard": 1.0},
    {"id": "leverage", "scope": "account:*", "measure": "leverage", "direction": "above", "hard": 15},
]
PLAYBOOK = [
    {"id": f"{limit}-{level}", "when": {"limit": limit, "level": level},
     "commands": [{"kind": "CALL_MARGIN", "target": "account"}]}
    for limit, level in (("margin", "soft"), ("margin", "hard"), ("leverage", "hard"))
]  # fmt: skip
PEGGED = {"type": "asset", "asset": "USDT", "class": "stablecoin", "peg": "USD"}
USDT = spot("USDT/USD", "USDT", "USD")


def decided(folder: Path, *records: Json | list[Json]) -> PipelineRun:
    return run(folder, *records, limits=LIMITS, playbook=PLAYBOOK, slice_ms=1000)


def test_one_print_far_below_the_mark_calls_nobody(tmp_path: Path) -> None:
    """LINKUSDT of March 2020: one trade at 0.0001 against 3.06, while the mark is more than a minute old."""
    found = decided(
        tmp_path, perpetual("LINK", "LINK"), client(), price(0.1, "LINK", "3.06"), deposit(0.2, "1000", holder="ann"),
        trade(1, "LINK", "buy", "1000", "3.06", holder="ann"), price(70, "LINK", "0.0001", kind="last", venue="one"),
        price(73, "LINK", "3.05", kind="last", venue="one"), price(80, "LINK", "3.05"),
    )  # fmt: skip
    assert found.commands() == []


def test_an_own_fill_at_twice_the_market_moves_cash_alone(tmp_path: Path) -> None:
    """1 bought at 200 and marked 100: equity 1,000 + 1 x (100 - 200) = 900, notional 100."""
    found = decided(
        tmp_path, perpetual(), client(), price(0.1, "BTC-PERP", "100"), deposit(0.2, "1000", holder="ann"),
        trade(1, "BTC-PERP", "buy", "1", "200", holder="ann"), deposit(5, "0.01", holder="ann"),
    )  # fmt: skip
    row = found.measures("account:ann")
    assert row["gross_notional"] == pytest.approx(100)
    assert row["equity"] == pytest.approx(900.01)


def test_a_dust_token_without_a_price_gives_no_command(tmp_path: Path) -> None:
    holders = [
        [*client(name), deposit(0.2, "1000", holder=name), deposit(0.3, "5", "DUST", holder=name),
         trade(1, "BTC-PERP", "buy", "1", "100", holder=name)]
        for name in (f"c{n}" for n in range(20))
    ]  # fmt: skip
    found = decided(
        tmp_path, perpetual(), {"type": "asset", "asset": "DUST", "class": "token"}, price(0.1, "BTC-PERP", "100"),
        *holders, price(5, "BTC-PERP", "100"),
    )  # fmt: skip
    assert found.commands() == []
    assert found.breaches() == []


def test_a_feed_that_dies_for_an_hour_is_one_incident_and_calls_nobody(tmp_path: Path) -> None:
    """2,000 clients hold what has one feed; another feed goes on. What reduces is taken."""
    holders = [
        [*client(name), deposit(0.2, "1000", holder=name), trade(1, "BTC-PERP", "buy", "1", "100", holder=name)]
        for name in (f"c{n}" for n in range(2_000))
    ]  # fmt: skip
    found = decided(
        tmp_path, perpetual(), perpetual("ETH-PERP", "ETH"), price(0.1, "BTC-PERP", "100"), *holders,
        *(price(2 + 60 * minute, "ETH-PERP", "10") for minute in range(60)),
        trade(3_600, "BTC-PERP", "sell", "1", "100", holder="c7"), price(3_605, "ETH-PERP", "10"),
    )  # fmt: skip
    assert found.commands() == []
    assert len({(alert["kind"], alert["scope"]) for alert in found.topic("alerts")}) == 1
    assert found.measures("account:c7")["gross_notional"] == 0


def test_a_stablecoin_that_went_to_nothing_and_fell_silent_stays_there(tmp_path: Path) -> None:
    """50,000 USDT at a last price of 0.0001: no more than 5, an hour later too."""
    found = decided(
        tmp_path, PEGGED, USDT, perpetual(), client(), price(0.1, "USDT/USD", "1"),
        deposit(0.2, "50000", "USDT", holder="ann"),
        price(10, "USDT/USD", "0.0001"), *(price(20 + 60 * minute, "BTC-PERP", "100") for minute in range(60)),
    )  # fmt: skip
    assert found.measures("account:ann")["equity"] <= 5 + 1e-9


def test_a_stablecoin_that_is_halted_below_its_peg_comes_back_with_its_market(tmp_path: Path) -> None:
    """At 0.88 and halted for half an hour 44,000 at most; with the market back at 1 for half an hour 50,000."""
    back = [price(1_900 + 10 * n, "USDT/USD", "1") for n in range(180)]
    found = decided(
        tmp_path, PEGGED, USDT, perpetual(), client(), price(0.1, "USDT/USD", "1"),
        deposit(0.2, "50000", "USDT", holder="ann"),
        price(10, "USDT/USD", "0.88"), *(price(20 + 60 * minute, "BTC-PERP", "100") for minute in range(30)), back,
    )  # fmt: skip
    halted_us = found.slices[0].as_of_us + 1_500_000_000
    assert found.measures("account:ann", halted_us)["equity"] <= 44_000 + 1e-6
    assert found.measures("account:ann")["equity"] == pytest.approx(50_000)


def test_a_peg_is_a_cap_once_there_is_a_market(tmp_path: Path) -> None:
    """min(1.05, 1) x 50,000 = 50,000."""
    found = decided(
        tmp_path, PEGGED, USDT, client(), price(0.1, "USDT/USD", "1.05"), deposit(0.2, "50000", "USDT", holder="ann"),
        deposit(5, "0.01", holder="ann"),
    )  # fmt: skip
    assert found.measures("account:ann")["equity"] == pytest.approx(50_000.01)
