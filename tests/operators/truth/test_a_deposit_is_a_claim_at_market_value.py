"""A deposit at a venue is owed to us at market value: haircuts belong to lending value."""

from pathlib import Path

import pytest

from seawall_testing.risk_desk import deposit, house, price, run, spot

COIN = {"type": "asset", "asset": "BTC", "class": "coin", "haircut": "0.1"}
TERMS = {"type": "netting_set", "netting_set": "terms", "counterparty": "desk-venue"}
OWED = 100 * 30_000  # what is lost if the venue defaults


def test_a_deposit_is_owed_in_full_without_terms(tmp_path: Path) -> None:
    found = run(
        tmp_path, COIN, spot(), house(), price(0.1, "BTC/USD", "30000"), deposit(0.3, "100", "BTC"), deposit(5, "0.01")
    )
    assert found.measures("netting_set:desk")["current_exposure"] == pytest.approx(OWED + 0.01, abs=1e-6)


def test_a_deposit_is_owed_in_full_with_terms(tmp_path: Path) -> None:
    found = run(
        tmp_path, COIN, spot(), house(netting_set="terms"), TERMS, price(0.1, "BTC/USD", "30000"),
        deposit(0.3, "100", "BTC"), deposit(5, "0.01"),
    )  # fmt: skip
    assert found.measures("netting_set:terms")["current_exposure"] == pytest.approx(OWED + 0.01, abs=1e-6)
    assert found.measures("counterparty:desk-venue")["current_exposure"] == pytest.approx(OWED + 0.01, abs=1e-6)
