"""Funding: a payment is matched to its accrual by account, instrument and interval, whichever comes first.

10 BTC long at 30,000 and a rate of 0.0001 an interval: 10 x 30,000 x 0.0001 = 30 are paid. Between two
records a share of the next interval accrues, less than 0.001 in the second that is looked at.
"""

from pathlib import Path
from typing import Any

import pytest

from seawall_testing.desk import T0, Json
from seawall_testing.risk_desk import SECOND, deposit, house, perpetual, price, run, trade

RATE, AT_US = "0.0001", T0 + 11 * SECOND


def settled(second: float, name: str = "BTC-PERP", **fields: Any) -> Json:
    return {
        "type": "funding", "event_time_us": T0 + round(second * SECOND), "venue": "desk-venue", "instrument": name,
        "rate": RATE, "interval_us": 8 * 3_600 * SECOND, **fields,
    }  # fmt: skip


def book(bought_at: float = 1) -> list[Json]:
    return [
        perpetual(), *house(venue="desk-venue"), price(0.1, "BTC-PERP", "30000"), deposit(0.2, "100000"),
        trade(bought_at, "BTC-PERP", "buy", "10", "30000"),
    ]  # fmt: skip


def test_a_payment_ahead_of_its_record_is_counted_once(tmp_path: Path) -> None:
    found = run(
        tmp_path, book(), deposit(10.05, "-30", purpose="funding"), settled(10.2), price(12, "BTC-PERP", "30000")
    )
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - 30, abs=0.01)


def test_a_payment_after_its_record_is_counted_once(tmp_path: Path) -> None:
    found = run(
        tmp_path, book(), settled(10.2), deposit(10.35, "-30", purpose="funding"), price(12, "BTC-PERP", "30000")
    )
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - 30, abs=0.01)


def test_a_payment_closes_the_accrual_of_one_contract(tmp_path: Path) -> None:
    """30 are paid on BTC; 100 ETH at 2,000 still owe 100 x 2,000 x 0.0001 = 20."""
    found = run(
        tmp_path, book(), perpetual("ETH-PERP", "ETH"), price(2, "ETH-PERP", "2000"),
        trade(3, "ETH-PERP", "buy", "100", "2000"), settled(10.2), settled(10.3, "ETH-PERP"),
        deposit(10.5, "-30", purpose="funding"), price(12, "BTC-PERP", "30000"),
    )  # fmt: skip
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - 30 - 20, abs=0.01)


def test_a_settled_record_pays_at_its_own_price(tmp_path: Path) -> None:
    """10 x 31,000 x 0.0001 = 31."""
    found = run(tmp_path, book(), settled(10.2, price="31000"), price(12, "BTC-PERP", "30000"))
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - 31, abs=0.01)


def test_a_fill_just_before_the_record_pays(tmp_path: Path) -> None:
    found = run(tmp_path, book(bought_at=10.01), settled(10.06), price(12, "BTC-PERP", "30000"))
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - 30, abs=0.01)


def test_a_fill_just_after_the_record_pays_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, book(bought_at=10.09), settled(10.06), price(12, "BTC-PERP", "30000"))
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000, abs=0.01)
