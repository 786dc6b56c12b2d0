"""Standing decays: a fresh price of a lower rung replaces a stale higher one; options follow their forward."""

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
    house,
    option,
    perpetual,
    price,
    run,
    spot,
    trade,
)


def test_a_fresh_index_replaces_a_mark_that_went_stale(tmp_path: Path) -> None:
    """100,000 + 10 x (20,000 - 30,000) = 0: the mark is older than 60 s, the index is not."""
    index = [price(70 + 10 * n, "BTC-PERP", "20000", kind="index") for n in range(180)]
    found = run(
        tmp_path, perpetual(), client(), price(0.1, "BTC-PERP", "30000"), deposit(0.3, "100000", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "30000", holder="ann"), index,
    )  # fmt: skip
    assert found.measures("account:ann")["equity"] == pytest.approx(0, abs=1e-6)


def test_a_mid_that_a_second_source_confirms_replaces_a_mark_that_went_stale(tmp_path: Path) -> None:
    mids = [
        price(70 + 10 * n + at, "BTC-PERP", "20000", kind="mid", venue=venue)
        for n in range(180) for at, venue in enumerate(("one", "two"))
    ]  # fmt: skip
    venues = [{"type": "counterparty", "counterparty": name, "name": name, "role": "venue"} for name in ("one", "two")]
    found = run(
        tmp_path, perpetual(), client(), venues, price(0.1, "BTC-PERP", "30000"), deposit(0.3, "100000", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "30000", holder="ann"), mids,
    )  # fmt: skip
    assert found.measures("account:ann")["equity"] == pytest.approx(0, abs=1e-6)


def test_an_option_follows_its_forward_between_its_own_marks(tmp_path: Path) -> None:
    """A call on 10 at 30,000 with a month left: Black at the last known 0.6 on the forward of now, 24,000."""
    expiry_us, at_us = T0 + 30 * DAY, T0 + 4 * SECOND
    found = run(
        tmp_path, spot(), option("CALL", "30000", "call", expiry_us), house(), price(0.1, "BTC/USD", "30000"),
        price(0.2, "CALL", "2000", implied_volatility="0.6"), deposit(0.3, "100000"),
        trade(1, "CALL", "buy", "10", "2000"), price(2, "BTC/USD", "24000"), deposit(5, "1"),
    )  # fmt: skip
    years = Fraction(expiry_us - found.slice_before(at_us), YEAR)
    value = black(True, Fraction(24_000), Fraction(30_000), years, Fraction(6, 10), Fraction(0))
    right = float(100_000 - 10 * 2_000 + 10 * value)
    assert found.measures("account:desk", at_us)["equity"] == pytest.approx(right, abs=1e-3)
