"""Exposure at default has the replacement cost of its slice, and greeks are of now."""

from fractions import Fraction
from pathlib import Path

import pytest

from seawall_testing.desk import T0
from seawall_testing.reference.numbers import black_delta
from seawall_testing.risk_desk import SECOND, YEAR, house, option, perpetual, price, run, spot, trade

ALPHA = 1.4  # CRE52.1


def test_exposure_at_default_is_never_less_than_alpha_times_replacement_cost(tmp_path: Path) -> None:
    """10 bought at 30,000 and marked 40,000: replacement cost 100,000, so at least 140,000."""
    found = run(
        tmp_path, perpetual(), house(netting_set="terms"),
        {"type": "netting_set", "netting_set": "terms", "counterparty": "desk-venue"},
        price(0.1, "BTC-PERP", "30000"), trade(1, "BTC-PERP", "buy", "10", "30000"), price(2, "BTC-PERP", "40000"),
        price(9, "BTC-PERP", "40000"),
    )  # fmt: skip
    row = found.measures("netting_set:terms", T0 + 3 * SECOND)
    assert row["current_exposure"] == pytest.approx(100_000)
    assert row["exposure_at_default"] >= ALPHA * 100_000


@pytest.mark.parametrize("second", [50, 55, 58])
def test_delta_before_an_expiry_is_of_now(second: int, tmp_path: Path) -> None:
    expiry_us = T0 + 60 * SECOND
    ticks = [price(10.5 + n, "BTC/USD", "30010") for n in range(70)]
    found = run(
        tmp_path, spot(), option("NEAR", "30000", "call", expiry_us), house(), price(0.1, "BTC/USD", "30010"),
        price(0.2, "NEAR", "20", implied_volatility="0.6"), trade(1, "NEAR", "buy", "10", "20"), ticks,
    )  # fmt: skip
    years = Fraction(expiry_us - found.slice_before(T0 + second * SECOND), YEAR)
    right = (
        10 * 30_010 * float(black_delta(True, Fraction(30_010), Fraction(30_000), years, Fraction(6, 10), Fraction(0)))
    )
    assert found.measures("underlying:BTC", T0 + second * SECOND)["delta"] == pytest.approx(right, abs=1e-3)
