"""A bust undoes its fill: afterwards the position has the average entry that it would have had without it."""

from fractions import Fraction
from pathlib import Path

import pytest

from seawall_testing.desk import T0, Json
from seawall_testing.reference.numbers import black_delta
from seawall_testing.risk_desk import YEAR, client, deposit, house, option, perpetual, price, run, spot, trade


def bust(second: float, of: Json) -> Json:
    kept = {key: of[key] for key in ("account", "instrument", "side", "quantity", "price")}
    event = trade(second, of["instrument"], of["side"], of["quantity"], of["price"], holder=of["account"])
    return {**event, **kept, "action": "bust", "ref_fill_id": of["fill_id"]}


def test_a_bust_leaves_the_average_entry_as_it_was(tmp_path: Path) -> None:
    """1 bought at 100 and 1 at 200; without the second, at 110: 1 x (110 - 100) = 10 unrealised, the rest cash."""
    second = trade(2, "BTC-PERP", "buy", "1", "200", holder="ann")
    found = run(
        tmp_path, perpetual(), client(), price(0.1, "BTC-PERP", "110"), deposit(0.2, "1000", holder="ann"),
        trade(1, "BTC-PERP", "buy", "1", "100", holder="ann"), second, bust(3, second), deposit(5, "1", holder="ann"),
    )  # fmt: skip
    row = found.measures("account:ann")
    assert row["equity"] == pytest.approx(1_011)
    assert row["unrealised_pnl"] == pytest.approx(10)


def test_a_bust_leaves_no_collateral(tmp_path: Path) -> None:
    """Without the second fill: 1,001 of deposits are held and the client has 10 of value."""
    second = trade(2, "BTC-PERP", "buy", "1", "200", holder="ann")
    terms = {"type": "netting_set", "netting_set": "s", "counterparty": "ann", "margined": True}
    found = run(
        tmp_path, perpetual(), client(netting_set="s"), terms, price(0.1, "BTC-PERP", "110"),
        deposit(0.2, "1000", holder="ann"), trade(1, "BTC-PERP", "buy", "1", "100", holder="ann"), second,
        bust(3, second), deposit(5, "1", holder="ann"),
    )  # fmt: skip
    assert found.measures("netting_set:s")["collateral_held"] == pytest.approx(1_001)


def test_the_premium_of_an_upfront_option_leaves_the_balance(tmp_path: Path) -> None:
    """1,000 deposited, a premium of 300 paid: 700 are held."""
    terms = {"type": "netting_set", "netting_set": "s", "counterparty": "ann", "margined": True}
    found = run(
        tmp_path, spot(), option("CALL", "30000", "call", T0 + YEAR), client(netting_set="s"), terms,
        price(0.1, "BTC/USD", "30000"), price(0.2, "CALL", "300", implied_volatility="0.6"),
        deposit(0.3, "1000", holder="ann"), trade(1, "CALL", "buy", "1", "300", holder="ann"),
        price(5, "BTC/USD", "30000"),
    )  # fmt: skip
    assert found.measures("netting_set:s")["collateral_held"] == pytest.approx(700)


def test_a_bust_ahead_of_its_fill_in_one_slice_is_applied_after_it(tmp_path: Path) -> None:
    """Within a slice corrections come after what they correct: nothing is held, and 1,000 remain."""
    filled = trade(1.05, "BTC-PERP", "buy", "1", "100", holder="ann")
    ahead = {**bust(1.02, filled), "fill_id": "ahead"}
    found = run(
        tmp_path, perpetual(), client(), price(0.1, "BTC-PERP", "110"), deposit(0.2, "1000", holder="ann"), ahead,
        filled, price(5, "BTC-PERP", "110"),
    )  # fmt: skip
    assert found.measures("account:ann")["equity"] == pytest.approx(1_000)


def test_an_option_with_a_premium_that_is_settled_daily_is_not_discounted(tmp_path: Path) -> None:
    """Nothing is paid when it is bought, so nothing is financed: Black without discount, whatever the rate."""
    expiry_us = T0 + YEAR // 2
    margined = option("CALL", "30000", "call", expiry_us, premium="futures_style", discount_rate="0.2")
    found = run(
        tmp_path, spot(), margined, house(), price(0.1, "BTC/USD", "30000"),
        price(0.2, "CALL", "2000", implied_volatility="0.6"), trade(1, "CALL", "buy", "1", "2000"),
        price(5, "BTC/USD", "30000"),
    )  # fmt: skip
    slope = black_delta(True, Fraction(30_000), Fraction(30_000), Fraction(1, 2), Fraction(6, 10), Fraction(0))
    assert found.measures("underlying:BTC")["delta"] == pytest.approx(float(30_000 * slope), rel=1e-5)
