"""Distance to liquidation of options and quanto contracts is that of revaluation, not of a tangent."""

from fractions import Fraction
from pathlib import Path

import pytest

from seawall_testing.desk import T0
from seawall_testing.reference.numbers import black
from seawall_testing.risk_desk import (
    DAY,
    SECOND,
    YEAR,
    client,
    deposit,
    option,
    perpetual,
    price,
    run,
    spot,
    trade,
)

EXPIRY_US, AT_US = T0 + 30 * DAY, T0 + 2 * SECOND
YEARS = Fraction(EXPIRY_US - AT_US, YEAR)
MARK = "2060"


def surplus(move: float, collateral: int) -> float:
    """Return equity less maintenance margin (5 % of notional) of 10 straddles sold, after a move of the forward."""
    forward, strike, sigma = Fraction(30_000) * Fraction(1 + move), Fraction(30_000), Fraction(6, 10)
    sold = sum(black(call, forward, strike, YEARS, sigma, Fraction(0)) for call in (True, False))
    return float(collateral + 10 * (2 * int(MARK) - sold) - Fraction(1, 20) * 20 * forward)


def nearest(collateral: int) -> float:
    """Return the smaller of the moves up and down at which equity is no more than margin, by bisection."""
    found = []
    for end in (-0.999, 10.0):
        near, far = 0.0, end
        for _ in range(60):
            middle = (near + far) / 2
            near, far = (middle, far) if surplus(middle, collateral) > 0 else (near, middle)
        found.append(abs(near))
    return min(found)


@pytest.mark.parametrize("collateral", [40_000, 60_000, 120_000])
def test_the_distance_of_a_short_straddle_is_that_of_revaluation(collateral: int, tmp_path: Path) -> None:
    found = run(
        tmp_path, spot(), option("CALL", "30000", "call", EXPIRY_US), option("PUT", "30000", "put", EXPIRY_US),
        client(), price(0.1, "BTC/USD", "30000"), price(0.2, "CALL", MARK, implied_volatility="0.6"),
        price(0.3, "PUT", MARK, implied_volatility="0.6"), deposit(0.4, str(collateral), holder="ann"),
        trade(1, "CALL", "sell", "10", MARK, holder="ann"), trade(1.01, "PUT", "sell", "10", MARK, holder="ann"),
        deposit(5, "1", holder="ann"),
    )  # fmt: skip
    right = nearest(collateral)
    assert found.measures("account:ann", AT_US)["distance_to_liquidation"] == pytest.approx(right, rel=0.01)


def test_the_distance_of_a_quanto_contract_knows_that_its_coin_moves_too(tmp_path: Path) -> None:
    """Sold 5,000 x 0.000001 BTC a point at 2,000: 10 BTC of notional, 300,000 USD at 30,000, against 400,000.

    After a move m of both 300,000 m (1 + m) are lost and the margin is 15,000 (1 + m)^2; together they are 400,000.
    """
    quanto = perpetual("ETH-QUANTO", "ETH", settlement="BTC", contract_size="0.000001")
    found = run(
        tmp_path, spot(), quanto, client(), price(0.1, "BTC/USD", "30000"), price(0.2, "ETH-QUANTO", "2000"),
        deposit(0.3, "400000", holder="ann"), trade(1, "ETH-QUANTO", "sell", "5000", "2000", holder="ann"),
        price(5, "BTC/USD", "30000"),
    )  # fmt: skip
    square, slope, constant = 315_000, 330_000, 15_000 - 400_000
    right = (-slope + (slope**2 - 4 * square * constant) ** 0.5) / (2 * square)
    assert found.measures("account:ann")["distance_to_liquidation"] == pytest.approx(right, rel=1e-9)


SPECK = [
    spot(), option("CALL", "60000", "call", EXPIRY_US), price(0.1, "BTC/USD", "30000"),
    price(0.2, "CALL", "100", implied_volatility="0.6"),
]  # fmt: skip


def test_a_speck_of_an_option_moves_no_distance_beyond_the_grid(tmp_path: Path) -> None:
    """Short 1 at 30,000 with 500,000: the rise by m loses 30,000 m and needs 1,500 (1 + m): 498,500 / 31,500."""
    held = [*client(), deposit(0.4, "500000", holder="ann"), trade(1, "BTC-PERP", "sell", "1", "30000", holder="ann")]
    speck = trade(1.5, "CALL", "buy", "0.000001", "100", holder="ann")
    found = run(
        tmp_path, perpetual(), price(0.1, "BTC-PERP", "30000"), SPECK, held, speck, deposit(5, "1", holder="ann")
    )
    measures = found.measures("account:ann", AT_US)
    assert measures["distance_to_liquidation"] == pytest.approx(498_500 / 31_500, rel=1e-3)


def test_a_distance_without_the_option_is_exact_as_soon_as_it_is_sold(tmp_path: Path) -> None:
    held = [*client(), deposit(0.4, "10000", holder="ann"), trade(1, "BTC-PERP", "sell", "1", "30000", holder="ann")]
    options = [
        trade(1.1, "CALL", "buy", "5", "100", holder="ann"),
        trade(3.05, "CALL", "sell", "5", "100", holder="ann"),
    ]
    found = run(
        tmp_path, perpetual(), price(0.1, "BTC-PERP", "30000"), SPECK, held, options, deposit(3.5, "0.01", holder="ann")
    )
    measures = found.measures("account:ann", T0 + round(3.3 * SECOND))
    right = (measures["equity"] - 1_500) / 31_500
    assert measures["distance_to_liquidation"] == pytest.approx(right, rel=1e-9)


def test_the_last_known_volatility_outlives_a_mark_that_tells_none(tmp_path: Path) -> None:
    """A mark above the forward has no volatility; the call is valued at the 0.6 of before."""
    held = [*client(), deposit(0.4, "100000", holder="ann"), trade(1, "CALL", "buy", "10", "100", holder="ann")]
    odd = price(2, "CALL", "40000")
    found = run(tmp_path, SPECK, held, odd, deposit(4, "0.01", holder="ann"), deposit(5, "0.01", holder="ann"))
    before, after = (found.measures("account:ann", T0 + at * SECOND)["equity"] for at in (2, 4))
    assert after == pytest.approx(before, abs=1) and found.topic("rejects") == []
    assert [alert for alert in found.topic("alerts") if alert["kind"] == "unvalued_option"] == []
