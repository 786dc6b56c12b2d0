"""Not known is not zero: what has no price is an interval; an asset is valued by a path of any length or its peg."""

from pathlib import Path

import pytest

from seawall_testing.risk_desk import client, deposit, perpetual, price, run, spot, to_come, trade

PEGGED = {"type": "asset", "asset": "USDT", "class": "stablecoin", "peg": "USD"}
BEYOND_TEN = [{"id": "leverage", "scope": "account:*", "measure": "leverage", "direction": "above", "hard": 10}]


def test_a_position_before_the_first_mark_counts_at_the_worse_end(tmp_path: Path) -> None:
    """Long 10 at 10,000: [0, last known x factor]; last known is the fill's price."""
    found = run(
        tmp_path, perpetual(), client(), deposit(0.1, "100", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "10000", holder="ann"), deposit(5, "1", holder="ann"),
    )  # fmt: skip
    assert found.measures("account:ann")["gross_notional"] >= 10 * 10_000


def test_an_account_that_cannot_be_valued_is_restricted_and_nothing_is_forced(tmp_path: Path) -> None:
    rules = [{"id": "reduce", "when": {"limit": "leverage", "level": "hard"},
              "commands": [{"kind": "CALL_MARGIN", "target": "account"}]}]  # fmt: skip
    found = run(
        tmp_path, perpetual(), client(), deposit(0.1, "100", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "10000", holder="ann"), deposit(5, "1", holder="ann"),
        limits=BEYOND_TEN, playbook=rules,
    )  # fmt: skip
    assert {kind for kind, _ in found.commands()} == {"REDUCE_ONLY"}


def test_a_contract_settled_in_a_stablecoin_without_a_market_counts_at_the_peg(tmp_path: Path) -> None:
    """1 x 30,000 USDT at 1 USD, or at worst 2 % below: between 29,400 and 30,000."""
    found = run(
        tmp_path, PEGGED, perpetual(quote="USDT", settlement="USDT"), client(), deposit(0.1, "100", holder="ann"),
        price(0.2, "BTC-PERP", "30000"), trade(1, "BTC-PERP", "buy", "1", "30000", holder="ann"),
        deposit(5, "1", holder="ann"), limits=BEYOND_TEN,
    )  # fmt: skip
    assert 29_400 <= found.measures("account:ann")["gross_notional"] <= 30_000 + 1e-6
    assert ("account:ann", "none", "hard") in found.breaches("leverage")


def test_an_asset_three_conversions_away_is_valued_by_the_path(tmp_path: Path) -> None:
    """10 X at 0.01 ETH, an ETH at 0.1 BTC, a BTC at 30,000 USD: 10 x 0.01 x 0.1 x 30,000 = 300."""
    found = run(
        tmp_path, spot("X/ETH", "X", "ETH"), spot("ETH/BTC", "ETH", "BTC"), spot(), client(),
        price(0.2, "BTC/USD", "30000"), price(0.3, "ETH/BTC", "0.1"), price(0.4, "X/ETH", "0.01"),
        deposit(1, "10", "X", holder="ann"), deposit(5, "1", holder="ann"),
    )  # fmt: skip
    assert found.measures("account:ann")["equity"] == pytest.approx(300 + 1, abs=1e-9)


def test_a_desk_in_usdt_without_a_feed_of_it_stands_at_the_peg_for_a_week(tmp_path: Path) -> None:
    """50,000 USDT and 1 x (31,000 - 30,000) of profit at the peg, at worst 2 % below: from 49,980 to 51,000."""
    week = 7 * 86_400
    found = run(
        tmp_path, PEGGED, perpetual(quote="USDT", settlement="USDT"), client(),
        deposit(0.1, "50000", "USDT", holder="ann"), price(0.2, "BTC-PERP", "30000"),
        trade(1, "BTC-PERP", "buy", "1", "30000", holder="ann"),
        *(price(2 + 3_600 * hour, "BTC-PERP", "31000") for hour in range(week // 3_600)), slice_ms=1000,
    )  # fmt: skip
    assert 0.98 * 51_000 <= found.measures("account:ann")["equity"] <= 51_000
    assert found.commands() == []
