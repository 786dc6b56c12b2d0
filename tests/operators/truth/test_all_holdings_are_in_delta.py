"""Holdings are one table: spot balances and coin collateral count in delta, net notional, hedges and default-deny."""

from pathlib import Path

import pytest

from seawall_testing.desk import SECOND, T0, Json
from seawall_testing.risk_desk import client, deposit, house, inverse, perpetual, price, run, spot, trade


def hedged_book() -> list[Json]:
    """Return 10 BTC bought spot against 10 BTC sold as a perpetual at one price: delta 0."""
    return [
        spot(), perpetual(), *house(), price(0.1, "BTC/USD", "30000"), price(0.2, "BTC-PERP", "30000"),
        deposit(0.3, "300000"), trade(1, "BTC/USD", "buy", "10", "30000"),
        trade(1.1, "BTC-PERP", "sell", "10", "30000"), deposit(5, "1"),
    ]  # fmt: skip


def test_spot_against_a_perpetual_has_no_delta(tmp_path: Path) -> None:
    found = run(tmp_path, hedged_book())
    assert found.measures("underlying:BTC")["delta"] == pytest.approx(0, abs=1e-6)
    assert found.measures("firm")["net_notional"] == pytest.approx(0, abs=1e-6)


def test_coin_margin_under_a_short_inverse_contract_has_no_delta(tmp_path: Path) -> None:
    """1 BTC is +30,000; 300 contracts of 100 USD sold at 30,000 are -30,000: worth in USD 30,000 at any price."""
    found = run(
        tmp_path, spot(), inverse(), house(), price(0.1, "BTC/USD", "30000"), price(0.2, "BTC-INV", "30000"),
        deposit(0.3, "1", "BTC"), trade(1.1, "BTC-INV", "sell", "300", "30000"), deposit(5, "1"),
    )  # fmt: skip
    assert found.measures("underlying:BTC")["delta"] == pytest.approx(0, abs=1e-6)


def test_coin_margin_under_a_short_inverse_contract_has_no_delta_at_another_price(tmp_path: Path) -> None:
    """At 40,000: margin 1 BTC, profit -30,000 x (1/30,000 - 1/40,000) = -0.25 BTC, contracts -0.75 BTC: 0."""
    found = run(
        tmp_path, spot(), inverse(), house(), price(0.1, "BTC/USD", "30000"), price(0.2, "BTC-INV", "30000"),
        deposit(0.3, "1", "BTC"), trade(1.1, "BTC-INV", "sell", "300", "30000"),
        price(3, "BTC/USD", "40000"), price(3.1, "BTC-INV", "40000"), deposit(5, "1"),
    )  # fmt: skip
    assert found.measures("underlying:BTC")["delta"] == pytest.approx(0, abs=1e-6)


def test_no_hedge_is_asked_for_a_flat_book(tmp_path: Path) -> None:
    limits = [{"id": "delta", "scope": "underlying:*", "measure": "delta", "direction": "below", "hard": -100_000}]
    found = run(tmp_path, hedged_book(), limits=limits)
    assert found.breaches("delta") == []


def test_default_deny_covers_an_account_that_holds_only_spot(tmp_path: Path) -> None:
    found = run(
        tmp_path, spot(), client(), price(0.1, "BTC/USD", "30000"), deposit(0.3, "300000", holder="ann"),
        trade(1, "BTC/USD", "buy", "10", "30000", holder="ann"), deposit(5, "1", holder="ann"), limits=[],
    )  # fmt: skip
    assert ("account:ann", "none", "hard") in found.breaches("default-deny")


def debt(second: float, creditor: str, debtor: str, amount: str) -> Json:
    return {
        "type": "obligation", "event_time_us": T0 + round(second * SECOND), "obligation_id": f"{debtor}{second}",
        "from": debtor, "to": creditor, "asset": "BTC", "amount": amount, "kind": "loan",
    }  # fmt: skip


def test_a_coin_that_was_lent_is_still_held(tmp_path: Path) -> None:
    """3 BTC of which 2 are lent to the venue: 1 in the account and 2 owed to us, 90,000 as before."""
    found = run(
        tmp_path, spot(), house(), price(0.1, "BTC/USD", "30000"), deposit(0.3, "3", "BTC"),
        deposit(2, "-2", "BTC"), debt(2, "house", "desk-venue", "2"), deposit(5, "1"),
    )  # fmt: skip
    assert found.measures("counterparty:desk-venue")["net_notional"] == pytest.approx(90_000)
    assert found.measures("firm")["net_notional"] == pytest.approx(90_000)
    assert found.measures("underlying:BTC")["delta"] == pytest.approx(90_000)


def test_a_coin_that_was_borrowed_is_owed(tmp_path: Path) -> None:
    """2 BTC borrowed and in the account are +60,000 and -60,000."""
    found = run(
        tmp_path, spot(), house(), price(0.1, "BTC/USD", "30000"), deposit(2, "2", "BTC"),
        debt(2, "desk-venue", "house", "2"), deposit(5, "1"),
    )  # fmt: skip
    assert found.measures("counterparty:desk-venue")["net_notional"] == pytest.approx(0, abs=1e-6)
    assert found.measures("underlying:BTC")["delta"] == pytest.approx(0, abs=1e-6)


def test_a_strategy_counts_the_coins_that_it_bought(tmp_path: Path) -> None:
    """1 BTC bought spot and sold as a perpetual by one strategy: gross 30,000 of positions, net 0."""
    limits = [{"id": "far", "scope": "strategy:*", "measure": "net_notional", "direction": "above", "hard": 1e30}]
    trades = [
        trade(1 + n, name, side, "1", "30000", strategy="carry")
        for n, (name, side) in enumerate((("BTC/USD", "buy"), ("BTC-PERP", "sell")))
    ]
    found = run(
        tmp_path, spot(), perpetual(), house(), price(0.1, "BTC/USD", "30000"), price(0.2, "BTC-PERP", "30000"),
        trades, deposit(5, "1"), limits=limits,
    )  # fmt: skip
    row = found.measures("strategy:carry")
    assert row["net_notional"] == pytest.approx(0, abs=1e-6)
    assert row["gross_notional"] == pytest.approx(30_000)


def test_what_sums_of_floats_leave_is_no_holding(tmp_path: Path) -> None:
    """0.1 and 0.2 BTC bought and 0.3 sold are nothing, whatever 0.1 + 0.2 - 0.3 is."""
    sides = (("buy", "0.1"), ("buy", "0.2"), ("sell", "0.3"))
    trades = [trade(1 + n, "BTC/USD", side, size, "30000") for n, (side, size) in enumerate(sides)]
    found = run(tmp_path, spot(), house(), price(0.1, "BTC/USD", "30000"), trades, deposit(6, "1"))
    held = [one.measures.positions.tolist() for one in found.measured if one.measures.positions is not None]
    assert any(map(any, held)) and not any(held[-1])


def test_a_debt_counts_to_the_cent_where_nothing_else_of_its_asset_is_held(tmp_path: Path) -> None:
    """1.0216 BTC at 30,278.45 are 30,932.46."""
    found = run(
        tmp_path, spot(), house(), price(0.1, "BTC/USD", "30278.45"), deposit(0.3, "100"),
        debt(2, "house", "desk-venue", "1.0216"), deposit(5, "1"),
    )  # fmt: skip
    assert found.measures("underlying:BTC")["delta"] == pytest.approx(1.0216 * 30_278.45, abs=1e-6)
