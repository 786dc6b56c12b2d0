"""Collateral: what is segregated is safe, a debt is owed in full, and a venue's marks serve all of its margin."""

from pathlib import Path

import pytest

from seawall_testing.desk import T0, Json
from seawall_testing.risk_desk import (
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
    to_come,
    trade,
)

COIN = {"type": "asset", "asset": "BTC", "class": "coin", "haircut": "0.1"}


def test_a_segregated_deposit_is_no_exposure_without_terms(tmp_path: Path) -> None:
    """CRE52.17: what is bankruptcy remote comes back; 5 that are not segregated remain. A set without a record has
    default terms, and with a record of them the code says 5."""
    found = run(
        tmp_path, perpetual(), house(), deposit(0.3, "1000", segregated=True), deposit(0.4, "5"),
        price(5, "BTC-PERP", "100"),
    )  # fmt: skip
    assert found.measures("netting_set:desk")["current_exposure"] == pytest.approx(5)


def test_a_clients_debt_in_a_coin_is_claimed_in_full_and_no_more(tmp_path: Path) -> None:
    """1 BTC withdrawn on credit at 30,000 and nothing else: 30,000 are owed to us, and as much is lost on default."""
    terms = {"type": "netting_set", "netting_set": "s", "counterparty": "ann"}
    found = run(
        tmp_path, COIN, spot(), client(netting_set="s"), terms, price(0.1, "BTC/USD", "30000"),
        deposit(0.3, "-1", "BTC", holder="ann"), price(5, "BTC/USD", "30000"),
    )  # fmt: skip
    assert found.measures("netting_set:s")["current_exposure"] == pytest.approx(30_000)


def test_our_debt_in_a_coin_counts_in_full(tmp_path: Path) -> None:
    """40,000 at the venue less 1 BTC owed to it at 30,000: 10,000."""
    terms = {"type": "netting_set", "netting_set": "s", "counterparty": "desk-venue"}
    found = run(
        tmp_path, COIN, spot(), house(netting_set="s"), terms, price(0.1, "BTC/USD", "30000"), deposit(0.2, "40000"),
        deposit(0.3, "-1", "BTC"), price(5, "BTC/USD", "30000"),
    )  # fmt: skip
    assert found.measures("netting_set:s")["current_exposure"] == pytest.approx(10_000)


def test_collateral_held_is_the_same_with_and_without_a_record_of_the_defaults(tmp_path: Path) -> None:
    """1,000 USD received less 0.01 BTC owed at 30,000 are the same book, whoever wrote down its terms."""
    records: list[Json | list[Json]] = [
        spot(), client("ann"), client("bob", netting_set="s"),
        {"type": "netting_set", "netting_set": "s", "counterparty": "bob"},
        price(0.1, "BTC/USD", "30000"),
    ]  # fmt: skip
    for name in ("ann", "bob"):
        records += [deposit(0.2, "1000", holder=name), deposit(0.3, "-0.01", "BTC", holder=name)]
    found = run(tmp_path, *records, price(5, "BTC/USD", "30000"))
    held = found.measures("netting_set:ann")["collateral_held"], found.measures("netting_set:s")["collateral_held"]
    assert held[0] == pytest.approx(held[1])


@to_come("options at a venue ignore its mark of the forward")
def test_an_option_is_margined_at_the_venues_own_mark_of_its_forward(tmp_path: Path) -> None:
    """The venue marks 29,000 and others 30,000: notional of one call there is 29,000."""
    found = run(
        tmp_path, spot(), option("CALL", "30000", "call", T0 + YEAR), house(venue="desk-venue"),
        price(0.1, "BTC/USD", "29000", venue="desk-venue"), price(0.2, "BTC/USD", "30000"),
        price(0.3, "CALL", "2000", implied_volatility="0.6"), deposit(0.4, "10000"),
        trade(1, "CALL", "buy", "1", "2000"), deposit(5, "1"),
    )  # fmt: skip
    assert found.measures("account:desk")["gross_notional"] == pytest.approx(29_000)


def test_accrued_funding_is_valued_at_the_venues_own_marks(tmp_path: Path) -> None:
    """30 USDT are owed; the venue marks USDT/USD 0.9 and others 1: 100,000 - 27 in the end (collateral is in USD)."""
    owed: Json = {
        "type": "funding", "event_time_us": T0 + 10 * SECOND, "venue": "desk-venue", "instrument": "BTC-PERP",
        "rate": "0.0001", "interval_us": 8 * 3_600 * SECOND,
    }  # fmt: skip
    found = run(
        tmp_path, spot("USDT/USD", "USDT", "USD"), perpetual(quote="USDT", settlement="USDT"),
        house(venue="desk-venue"), price(0.1, "USDT/USD", "0.9", venue="desk-venue"), price(0.2, "USDT/USD", "1"),
        price(0.3, "BTC-PERP", "30000"), deposit(0.4, "100000"), trade(1, "BTC-PERP", "buy", "10", "30000"), owed,
        price(12, "BTC-PERP", "30000"),
    )  # fmt: skip
    assert found.measures("account:desk", T0 + 11 * SECOND)["equity"] == pytest.approx(100_000 - 27, abs=0.01)
