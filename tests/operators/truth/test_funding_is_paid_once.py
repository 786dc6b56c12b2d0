"""Funding: a payment is matched to its accrual by account, instrument and interval, whichever comes first.

10 BTC long at 30,000 and a rate of 0.0001 an interval: 10 x 30,000 x 0.0001 = 30 are paid. Between two
records a share of the next interval accrues, less than 0.001 in the second that is looked at.
"""

from pathlib import Path
from typing import Any

import pytest

from seawall_testing.desk import T0, Json
from seawall_testing.risk_desk import SECOND, deposit, house, inverse, perpetual, price, run, spot, trade

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


def two(*records: Json | list[Json]) -> list[Any]:
    """Return the book with 100 ETH at 2,000 beside it, of which an interval owes 20."""
    eth = [perpetual("ETH-PERP", "ETH"), price(2, "ETH-PERP", "2000"), trade(3, "ETH-PERP", "buy", "100", "2000")]
    return [book(), eth, *records, price(12, "BTC-PERP", "30000")]


def test_two_payments_ahead_of_their_records_pay_two_contracts(tmp_path: Path) -> None:
    known = [settled(5, kind="predicted"), settled(5, "ETH-PERP", kind="predicted")]
    paid = [deposit(10.01, "-30", purpose="funding"), deposit(10.02, "-20", purpose="funding")]
    found = run(tmp_path, *two(known, paid, settled(10.2), settled(10.3, "ETH-PERP")))
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - 30 - 20, abs=0.01)


def test_a_rate_of_zero_leaves_no_interval_open(tmp_path: Path) -> None:
    paid = deposit(10.5, "-30", purpose="funding")
    found = run(tmp_path, book(), settled(10.2, rate="0"), settled(10.3), paid, price(12, "BTC-PERP", "30000"))
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - 30, abs=0.01)


@pytest.mark.parametrize("off_us", [-3000, 0, 3000])
def test_a_payment_that_names_its_interval_closes_it_also_by_another_clock(tmp_path: Path, off_us: int) -> None:
    """The older interval, of ETH, stays open: both are owed until that one is paid too."""
    named = {"instrument": "BTC-PERP", "interval_end_us": T0 + round(10.3 * SECOND) + off_us}
    paid = deposit(10.5, "-30", purpose="funding", **named)
    found = run(tmp_path, *two(settled(10.2, "ETH-PERP"), settled(10.3), paid))
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - 30 - 20, abs=0.01)
    ledger = next(one.ledger for one in found.exposures if one.ledger is not None and one.ledger.directory.own)
    assert [number for some in ledger.funding._open.values() for number, _ in some] == [
        ledger.directory.instruments["ETH-PERP"]
    ]


def test_a_payment_of_an_interval_long_ago_pays_no_other(tmp_path: Path) -> None:
    named = {"instrument": "BTC-PERP", "interval_end_us": T0 - 12 * 3_600 * SECOND}
    paid = deposit(10.1, "-7", purpose="funding", **named)
    found = run(tmp_path, book(), settled(5, kind="predicted"), paid, settled(10.2), price(12, "BTC-PERP", "30000"))
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - 7 - 30, abs=0.01)


@pytest.mark.parametrize("books", [False, True])
def test_a_record_that_comes_twice_is_owed_once(tmp_path: Path, books: bool) -> None:
    account = house(venue="desk-venue", books_funding=books)
    found = run(tmp_path, book(), account, settled(10.2), settled(10.2), price(12, "BTC-PERP", "30000"))
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - 30, abs=0.01)


@pytest.mark.parametrize("books", [False, True])
def test_records_of_before_that_a_venue_gives_again_are_owed_once(tmp_path: Path, books: bool) -> None:
    """Asked for its latest, a venue gives those of 5 s and 10.2 s; asked once more, both again: 60 in all."""
    account, latest = house(venue="desk-venue", books_funding=books), [settled(5), settled(10.2)]
    found = run(tmp_path, book(), account, *latest, *latest, price(12, "BTC-PERP", "30000"))
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - 60, abs=0.01)


def test_a_record_settles_at_a_late_mark_that_arrives_behind_it_in_its_slice(tmp_path: Path) -> None:
    """The last mark of a slice counts for all of it: 10 x 30,000 x 0.0001 = 30 are paid."""
    bought = [one for one in book() if one["type"] != "mark"]
    found = run(tmp_path, bought, settled(10.2), price(9.9, "BTC-PERP", "30000"), price(12, "BTC-PERP", "30000"))
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - 30, abs=0.01)


def test_a_late_fill_behind_a_record_does_not_pay_for_its_interval(tmp_path: Path) -> None:
    """It is stamped before the record and comes after it in its slice: it applies where it arrives, and 0 are paid."""
    bought = [one for one in book() if one["type"] != "fill"]
    late = trade(10.15, "BTC-PERP", "buy", "10", "30000")
    found = run(tmp_path, bought, settled(10.18), late, price(12, "BTC-PERP", "30000"))
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000, abs=0.01)


def test_what_is_settled_in_a_coin_that_has_no_price_yet_is_owed_once_it_has_one(tmp_path: Path) -> None:
    """300 of 100 USD bought and marked at 30,000 are 1 BTC: 0.0001 of it, at 30,000 each, are 3."""
    found = run(
        tmp_path, inverse(), spot(), house(venue="desk-venue"), price(0.1, "BTC-INV", "30000"),
        trade(1, "BTC-INV", "buy", "300", "30000"), settled(10, "BTC-INV"), price(10.5, "BTC/USD", "30000"),
        price(12, "BTC-INV", "30000"),
    )  # fmt: skip
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(-3, abs=0.01)


@pytest.mark.parametrize(("first", "second"), [(10.215, 10.229), (10.229, 10.215)])
def test_a_payment_beside_its_record_leaves_nothing_paid_ahead(tmp_path: Path, first: float, second: float) -> None:
    """7 were paid at 5 s, before anything was held; 30 beside the record; the record of 40.1 s is still to pay."""
    minute = {"interval_us": 60 * SECOND}
    pair = sorted(
        [settled(first, **minute), deposit(second, "-30", purpose="funding")], key=lambda one: one["event_time_us"]
    )
    found = run(
        tmp_path, book()[:-1], settled(0.5, **minute), deposit(5, "-7", purpose="funding"),
        trade(6, "BTC-PERP", "buy", "10", "30000"), *pair, settled(40.1, **minute), price(42, "BTC-PERP", "30000"),
    )  # fmt: skip
    equity = found.measures("account:desk", T0 + 41 * SECOND)["equity"]
    assert equity == pytest.approx(100_000 - 7 - 30 - 30, abs=30 / 60)


@pytest.mark.parametrize(("heard", "owed"), [(10.45, 0), (10.25, 30)])
def test_a_late_fill_is_of_when_it_arrives_for_funding_too(tmp_path: Path, heard: float, owed: float) -> None:
    """Traded at 9 s: heard at 10.45 s it pays nothing of the late record of 10.4 s; at 10.25 s all of 10.28 s."""
    late = trade(9, "BTC-PERP", "buy", "10", "30000")
    found = run(
        tmp_path, book()[:-1], price(heard - heard % 0.1, "BTC-PERP", "30000"), price(heard, "BTC-PERP", "30000"),
        late, settled(10.4 if owed == 0 else 10.28), price(12, "BTC-PERP", "30000"),
    )  # fmt: skip
    assert found.measures("account:desk", AT_US)["equity"] == pytest.approx(100_000 - owed, abs=0.01)
