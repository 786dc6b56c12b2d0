"""The reference model gives the right numbers of the cases: what measures the code is measured here."""

from fractions import Fraction
from itertools import chain
from typing import Any

from seawall_testing.desk import T0, Json
from seawall_testing.reference.accounts import Account, account_measures, firm_deltas
from seawall_testing.reference.book import Book, book_at
from seawall_testing.reference.credit import Exposure, exposure
from seawall_testing.reference.numbers import black
from seawall_testing.reference.terms import CONTRACT
from seawall_testing.risk_desk import (
    DAY,
    SECOND,
    YEAR,
    client,
    deposit,
    house,
    inverse,
    option,
    perpetual,
    price,
    spot,
    trade,
)

PEGGED = {"type": "asset", "asset": "USDT", "class": "stablecoin", "peg": "USD"}


def at(second: float, *records: Json | list[Json]) -> tuple[Book, int]:
    """Return the model's book of some records at a second."""
    flat = list(chain.from_iterable(record if isinstance(record, list) else [record] for record in records))
    as_of_us = T0 + round(second * SECOND)
    return book_at(flat, as_of_us, CONTRACT), as_of_us


def account_at(name: str, second: float, *records: Json | list[Json]) -> Account:
    book, as_of_us = at(second, *records)
    return account_measures(book, name, as_of_us, CONTRACT)


def credit_at(name: str, second: float, *records: Json | list[Json]) -> Exposure:
    book, as_of_us = at(second, *records)
    return exposure(book, name, as_of_us, CONTRACT)


def deltas_at(second: float, *records: Json | list[Json]) -> dict[str, Fraction]:
    book, as_of_us = at(second, *records)
    return firm_deltas(book, as_of_us, CONTRACT)


def test_a_position_without_a_mark_is_an_interval() -> None:
    """[0, 10 x 10,000 x 3]: notional at its high end, equity 100 + (0 - 100,000), unvalued."""
    row = account_at(
        "ann", 5, perpetual(), client(), deposit(0.1, "100", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "10000", holder="ann"),
    )  # fmt: skip
    assert (row.gross_notional, row.equity, row.unvalued) == (300_000, 100 - 100_000, True)


def test_a_stablecoin_without_a_market_stands_at_its_peg_or_two_percent_below() -> None:
    row = account_at(
        "ann", 5, PEGGED, perpetual(quote="USDT", settlement="USDT"), client(), price(0.2, "BTC-PERP", "30000"),
        deposit(0.1, "1000", "USDT", holder="ann"), trade(1, "BTC-PERP", "buy", "1", "30000", holder="ann"),
    )  # fmt: skip
    assert (row.gross_notional, row.equity) == (30_000, 980)


def test_an_asset_is_valued_by_the_shortest_path_of_any_length() -> None:
    row = account_at(
        "ann", 5, spot("X/ETH", "X", "ETH"), spot("ETH/BTC", "ETH", "BTC"), spot(), client(),
        price(0.2, "BTC/USD", "30000"), price(0.3, "ETH/BTC", "0.1"), price(0.4, "X/ETH", "0.01"),
        deposit(1, "10", "X", holder="ann"),
    )  # fmt: skip
    assert row.equity == 300


def test_hedged_books_have_no_delta() -> None:
    carry = deltas_at(
        5, spot(), perpetual(), house(), price(0.1, "BTC/USD", "30000"), price(0.2, "BTC-PERP", "30000"),
        deposit(0.3, "300000"), trade(1, "BTC/USD", "buy", "10", "30000"),
        trade(1.1, "BTC-PERP", "sell", "10", "30000"),
    )  # fmt: skip
    assert carry["BTC"] == 0
    coin: list[Any] = [
        spot(), inverse(), house(), price(0.1, "BTC/USD", "30000"), price(0.2, "BTC-INV", "30000"),
        deposit(0.3, "1", "BTC"), trade(1.1, "BTC-INV", "sell", "300", "30000"),
    ]  # fmt: skip
    assert deltas_at(5, *coin)["BTC"] == 0
    assert deltas_at(5, *coin, price(3, "BTC/USD", "40000"), price(3.1, "BTC-INV", "40000"))["BTC"] == 0


def test_a_fresh_lower_rung_replaces_a_stale_higher_one() -> None:
    book: list[Any] = [
        perpetual(), client(), price(0.1, "BTC-PERP", "30000"), deposit(0.3, "100000", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "30000", holder="ann"),
    ]  # fmt: skip
    index = price(50, "BTC-PERP", "20000", kind="index")
    assert account_at("ann", 59, *book, index).equity == 100_000
    assert account_at("ann", 61, *book, index).equity == 0
    alone = price(50, "BTC-PERP", "20000", kind="mid", venue="one")
    assert account_at("ann", 61, *book, alone).equity == 0  # unconfirmed: the worse of both
    higher = price(50, "BTC-PERP", "40000", kind="mid", venue="one")
    assert account_at("ann", 61, *book, higher).equity == 100_000
    other = price(51, "BTC-PERP", "39990", kind="last", venue="two")
    assert account_at("ann", 61, *book, higher, other).equity == 200_000


def test_an_option_follows_its_forward() -> None:
    expiry_us = T0 + 30 * DAY
    row = account_at(
        "desk", 5, spot(), option("CALL", "30000", "call", expiry_us), house(), price(0.1, "BTC/USD", "30000"),
        price(0.2, "CALL", "2000", implied_volatility="0.6"), deposit(0.3, "100000"),
        trade(1, "CALL", "buy", "10", "2000"), price(2, "BTC/USD", "24000"),
    )  # fmt: skip
    years = Fraction(30 * DAY - 5 * SECOND, YEAR)
    right = 80_000 + 10 * black(True, Fraction(24_000), Fraction(30_000), years, Fraction(6, 10), Fraction(0))
    assert abs(row.equity - right) < Fraction(1, 10**20)


def test_a_deposit_is_a_claim_at_market_value_with_and_without_terms() -> None:
    coin = {"type": "asset", "asset": "BTC", "class": "coin", "haircut": "0.1"}
    terms = {"type": "netting_set", "netting_set": "s", "counterparty": "desk-venue"}
    for fields, name in (({}, "desk"), ({"netting_set": "s"}, "s")):
        found = credit_at(
            name, 5, coin, spot(), house(**fields), terms, price(0.1, "BTC/USD", "30000"), deposit(0.3, "100", "BTC")
        )
        assert (found.current_exposure, found.margin_call) == (3_000_000, 0)


def test_a_payment_is_counted_once_whichever_comes_first() -> None:
    def settled(second: float, **fields: str) -> Json:
        return {
            "type": "funding", "event_time_us": T0 + round(second * SECOND), "venue": "desk-venue",
            "instrument": "BTC-PERP", "rate": "0.0001", "interval_us": 8 * 3_600 * SECOND, **fields,
        }  # fmt: skip

    book: list[Any] = [
        perpetual(), house(venue="desk-venue"), price(0.1, "BTC-PERP", "30000"), deposit(0.2, "100000"),
        trade(1, "BTC-PERP", "buy", "10", "30000"),
    ]  # fmt: skip
    for events in (
        (settled(10.2), deposit(10.35, "-30", purpose="funding")),
        (deposit(10.05, "-30", purpose="funding"), settled(10.2)),
    ):
        assert abs(account_at("desk", 10.4, *book, *events).equity - 99_970) < Fraction(1, 1000)
    assert account_at("desk", 10.2, *book, settled(10.2, price="31000")).equity == 100_000 - 31


def test_a_forward_of_a_year_has_the_maturity_factor_of_a_year() -> None:
    forward = perpetual("FWD", kind="future", expiry_us=T0 + YEAR)
    terms = {"type": "netting_set", "netting_set": "s", "counterparty": "desk-dealer"}
    found = credit_at(
        "s", 5, spot(), forward, house(role="dealer", netting_set="s"), terms, price(0.2, "FWD", "30000"),
        trade(1, "FWD", "buy", "10", "30000"),
    )  # fmt: skip
    assert abs(found.add_on - 120_000) < 1


def test_a_call_is_the_smallest_multiple_that_covers_what_is_required() -> None:
    """Lost are 3 x 0.1 and 1 x 0.2: 0.5 exactly, and so is the call."""
    terms = {"type": "netting_set", "netting_set": "s", "counterparty": "ann", "margined": True, "rounding": "0.1"}
    found = credit_at(
        "s", 5, perpetual(), client(netting_set="s"), terms, price(0.1, "BTC-PERP", "100"),
        trade(1, "BTC-PERP", "buy", "3", "100.1", holder="ann"),
        trade(2, "BTC-PERP", "buy", "1", "100.2", holder="ann"),
    )  # fmt: skip
    assert found.margin_call == Fraction(1, 2)


def test_a_funding_record_is_settled_at_a_late_mark_of_its_slice() -> None:
    """1 short at a rate of -0.001, first marked behind the record in its slice: 2,000 x 0.001 are owed."""
    record = {
        "type": "funding", "event_time_us": T0 + 10 * SECOND, "venue": "any", "instrument": "BTC-PERP",
        "rate": "-0.001", "interval_us": 3_600 * SECOND,
    }  # fmt: skip
    book, _ = at(
        10.05, perpetual(), client(), trade(1, "BTC-PERP", "sell", "1", "2000", holder="ann"), record,
        price(9.5, "BTC-PERP", "2000"),
    )  # fmt: skip
    assert [accrual.amount for accrual in book.accruals] == [Fraction(-2)]
