"""SA-CCR of the live book follows CRE52 for trades that are not settled daily: maturity and duration."""

import math
from pathlib import Path

import pytest

from seawall_testing.desk import T0, instrument
from seawall_testing.risk_desk import YEAR, deposit, house, perpetual, price, run, spot, trade

TERMS = {"type": "netting_set", "netting_set": "terms", "counterparty": "desk-dealer"}


def test_a_forward_of_a_year_has_the_maturity_factor_of_a_year(tmp_path: Path) -> None:
    """10 x 30,000, supervisory factor 40 %, sqrt(1 year / 1 year): 120,000."""
    forward = perpetual("FWD", kind="future", expiry_us=T0 + YEAR)
    found = run(
        tmp_path, spot(), forward, house(role="dealer", netting_set="terms"), TERMS, price(0.1, "BTC/USD", "30000"),
        price(0.2, "FWD", "30000"), trade(1, "FWD", "buy", "10", "30000"), deposit(5, "0.01"),
    )  # fmt: skip
    assert found.measures("netting_set:terms")["potential_exposure"] == pytest.approx(120_000, rel=1e-4)


def test_a_future_at_a_venue_that_is_settled_daily_has_the_floor_of_ten_days(tmp_path: Path) -> None:
    """CRE52.32 FAQ 1: 120,000 x sqrt(10/250) = 24,000."""
    future = perpetual("FUT", kind="future", expiry_us=T0 + YEAR)
    terms = {**TERMS, "counterparty": "desk-venue"}
    found = run(
        tmp_path, spot(), future, house(netting_set="terms"), terms, price(0.1, "BTC/USD", "30000"),
        price(0.2, "FUT", "30000"), trade(1, "FUT", "buy", "10", "30000"), deposit(5, "0.01"),
    )  # fmt: skip
    assert found.measures("netting_set:terms")["potential_exposure"] == pytest.approx(24_000, rel=1e-9)


def test_credit_has_its_supervisory_duration(tmp_path: Path) -> None:
    """1,000,000 on a BBB name for five years: 0.54 % x (1 - exp(-0.05 x 5)) / 0.05 x 1 (a year or more) x notional."""
    name = {"type": "asset", "asset": "ACME", "class": "security", "sa_ccr_class": "CR_BBB"}
    contract = instrument(
        "CDS",
        kind="future",
        base="ACME",
        quote="USD",
        settlement="USD",
        quantity_increment="0.01",
        expiry_us=T0 + 5 * YEAR,
    )
    found = run(
        tmp_path, name, contract, house(role="dealer", netting_set="terms"), TERMS, price(0.2, "CDS", "100"),
        trade(1, "CDS", "buy", "10000", "100"), deposit(5, "0.01"),
    )  # fmt: skip
    right = 0.0054 * (1 - math.exp(-0.25)) / 0.05 * 1_000_000
    assert found.measures("netting_set:terms")["potential_exposure"] == pytest.approx(right, rel=1e-4)
