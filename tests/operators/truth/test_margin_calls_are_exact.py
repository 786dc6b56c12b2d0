"""Margin calls are rounded in exact decimals, and a set that is not margined gives no deposit back.

Required is the value beyond the threshold, here 0; a delivery is rounded up to the unit and a return down.
"""

from fractions import Fraction
from pathlib import Path
from random import Random

import pytest

from seawall_testing.desk import Json
from seawall_testing.reference.numbers import exact, up
from seawall_testing.risk_desk import client, deposit, house, perpetual, price, run, trade

CLIENTS, UNIT = 200, Fraction(1, 10)


def test_calls_are_the_smallest_multiple_that_covers_what_is_required(tmp_path: Path) -> None:
    """Each client has lost q x (entry - 100), exactly; nothing is held of them."""
    random, records, right = Random(7), list[Json](), dict[str, Fraction]()
    for n in range(CLIENTS):
        name = f"c{n}"
        quantity, entry = f"{random.randrange(1, 2000) / 100:.2f}", f"{100 + random.randrange(1, 500) / 10:.1f}"
        records += client(name, netting_set=f"s{n}")
        records.append(
            {"type": "netting_set", "netting_set": f"s{n}", "counterparty": name, "margined": True, "rounding": "0.1"}
        )
        records.append(trade(1, "BTC-PERP", "buy", quantity, entry, holder=name))
        right[f"s{n}"] = up(exact(quantity) * (exact(entry) - 100), UNIT)
    found = run(tmp_path, perpetual(), price(0.1, "BTC-PERP", "100"), records, price(5, "BTC-PERP", "100"))
    calls = {name: found.measures(f"netting_set:{name}")["margin_call"] for name in right}
    wrong = [name for name in right if calls[name] != pytest.approx(float(right[name]), abs=1e-6)]
    assert wrong == []


def test_a_set_that_is_not_margined_calls_for_no_deposit_back(tmp_path: Path) -> None:
    terms = {"type": "netting_set", "netting_set": "terms", "counterparty": "desk-venue"}
    found = run(tmp_path, perpetual(), house(netting_set="terms"), terms, deposit(0.3, "1000"), deposit(5, "1"))
    assert found.measures("netting_set:terms")["margin_call"] == 0


@pytest.mark.parametrize("segregated", [False, True])
def test_an_independent_amount_that_we_delivered_is_called_for_no_more(tmp_path: Path, segregated: bool) -> None:
    terms = {"type": "netting_set", "netting_set": "terms", "counterparty": "desk-venue", "independent_amount": "-100"}
    given = deposit(0.3, "100", purpose="independent_amount", segregated=segregated)
    found = run(tmp_path, perpetual(), house(netting_set="terms"), terms, given, deposit(5, "1"))
    assert found.measures("netting_set:terms")["margin_call"] == 0
