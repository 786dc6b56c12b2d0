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
