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


@pytest.mark.parametrize("between", [0, 2_500])
def test_a_bust_of_what_closed_a_position_brings_back_its_entry(tmp_path: Path, between: int) -> None:
    """1 bought at 100 and sold at 150, which is busted: 110 - 100 = 10 unrealised, also where the purchase is
    forgotten (1,000 ids are remembered, and bob trades in between)."""
    closing = trade(9, "BTC-PERP", "sell", "1", "150", holder="ann")
    others = [
        trade(2 + n / 1_000, "BTC-PERP", "buy" if n % 2 else "sell", "1", "110", holder="bob") for n in range(between)
    ]
    found = run(
        tmp_path, perpetual(), client("ann"), client("bob"), price(0.1, "BTC-PERP", "110"),
        deposit(0.2, "1000", holder="ann"), trade(1, "BTC-PERP", "buy", "1", "100", holder="ann"), others, closing,
        bust(10, closing), deposit(12, "1", holder="ann"), shards=1, fill_memory=1_000,
    )  # fmt: skip
    row = found.measures("account:ann")
    assert row["equity"] == pytest.approx(1_011)
    assert row["unrealised_pnl"] == pytest.approx(10)


def test_a_correction_stands_in_the_place_of_what_it_corrects(tmp_path: Path) -> None:
    """1 at 100, 1 at 200, 1 sold at 300; the first was at 160: entry 180, realised 120, unrealised 110 - 180 = -70."""
    first = trade(1, "BTC-PERP", "buy", "1", "100", holder="ann")
    right = {**bust(4, first), "action": "correct", "price": "160"}
    found = run(
        tmp_path, perpetual(), client(), price(0.1, "BTC-PERP", "110"), deposit(0.2, "1000", holder="ann"), first,
        trade(2, "BTC-PERP", "buy", "1", "200", holder="ann"), trade(3, "BTC-PERP", "sell", "1", "300", holder="ann"),
        right, deposit(6, "1", holder="ann"),
    )  # fmt: skip
    row = found.measures("account:ann")
    assert row["equity"] == pytest.approx(1_001 + 120 - 70)
    assert row["unrealised_pnl"] == pytest.approx(-70)


def test_a_transfer_that_comes_again_for_another_purpose_is_rejected(tmp_path: Path) -> None:
    paid = deposit(1, "5")
    again = {**paid, "event_time_us": T0 + 2_000_000, "purpose": "fee"}
    found = run(tmp_path, house(), paid, again, deposit(5, "1"))
    assert [reject["reason"] for reject in found.topic("rejects")] == ["ID_MUST_NOT_BE_REUSED"]


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
