"""Cascades through prices: fire sales, liquidations on exchanges, coins that lose their peg."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.ops.lab.stress._clearing import (
    Holders,
    Loans,
    clear_debts,
    clear_with_sales,
    depeg,
    network_shock,
    price_after,
    sell_down,
)
from seawall.ops.lab.stress._exchange import Accounts, Books, Cascade, Markets, liquidate, make_books, walk_books
from seawall.ops.lab.stress._network import make_network
from seawall.schemas.errors import UsageError
from seawall_testing.paths import SHARED

PATH = SHARED / "vectors" / "risk_vectors.json"
VECTORS: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {}
needs_vectors = pytest.mark.skipif(not VECTORS, reason="the known answers in shared/vectors are not here")


def even_books(depth: np.ndarray, within: float) -> Books:
    """Return books with ``depth`` units on each side evenly spread over a distance, and on at that density."""
    return make_books(np.array([within]), depth[:, None].copy(), depth[:, None].copy())


def f8(*values: float) -> Any:
    return np.array(values, dtype=np.float64)


# --- fire sales -------------------------------------------------------------------------------------------------------


@needs_vectors
def test_the_impact_of_a_sale_is_the_known_answer() -> None:
    for case in VECTORS["fire_sale_cifuentes"]:
        depth = f8(case["market_cap"] / case["beta"])
        assert price_after(f8(1), f8(case["sold"]), depth)[0] == pytest.approx(case["price_after"], rel=1e-12)


@needs_vectors
def test_selling_down_to_a_leverage_ratio_ends_in_the_known_collapse() -> None:
    given_, known = (VECTORS["fire_sale_threshold_example"][name] for name in ("inputs", "result"))
    other = f8(*given_["other"]) + f8(*given_["cash"])
    held = Holders(f8(*given_["equity"]), other, f8(*given_["tradable_units"])[:, None])
    found = sell_down(held, f8(given_["price0"]), f8(given_["market_cap"] / given_["beta"]), f8(0))
    for one, expected in zip(found.rounds, known["rounds"], strict=True):
        assert one.sold[:, 0] == pytest.approx(expected["sold"])
        assert one.price[0] == pytest.approx(expected["price"], abs=1e-8)
    assert found.price[0] == pytest.approx(known["price"], rel=1e-12)
    assert found.alive.tolist() == known["alive"]
    assert found.equity == pytest.approx(known["equity"], abs=1e-6)


def test_holders_of_one_asset_fail_by_what_holders_of_another_sell() -> None:
    """The first holds only asset 0, the third only asset 1; the second, who holds both, carries the fall over."""
    units = np.array([[50.0, 0], [50.0, 50.0], [0, 50.0]])
    held = Holders(f8(3, 5, 4), f8(50, 0, 50), units)
    found = sell_down(held, f8(1, 1), f8(200, 200), f8(0.06, 0))
    assert found.price[1] < 1
    alone = sell_down(
        Holders(held.equity[[0, 2]], held.other[[0, 2]], units[[0, 2]]), f8(1, 1), f8(200, 200), f8(0.06, 0)
    )
    assert alone.price[1] == 1
    assert found.equity[2] < alone.equity[1]


def test_clearing_with_sales_pays_less_than_clearing_at_unmoved_prices() -> None:
    network = make_network(([1, 2], [0, 1], [60.0, 50.0]), [0, 5, 5])
    units = np.array([[50.0], [60.0], [10.0]])
    still = clear_with_sales(network, units, f8(1), f8(1e12))
    moved = clear_with_sales(network, units, f8(1), f8(40))
    assert still.clearing.payments.tolist() == pytest.approx([50, 50, 0])
    assert (moved.clearing.payments <= still.clearing.payments + 1e-9).all()
    assert moved.clearing.payments[1] < 50
    assert moved.price[0] == pytest.approx(np.exp(-110 / 40), rel=1e-9)
    assets = network.external_assets + units[:, 0] * moved.price[0]
    again = clear_debts(make_network(([1, 2], [0, 1], [60.0, 50.0]), assets))
    assert again.payments == pytest.approx(moved.clearing.payments)


# --- books ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.floats(0.1, 400), st.booleans())
def test_walking_a_book_is_filling_it_unit_by_unit(units: float, buys: bool) -> None:
    side = np.array([[10.0, 30.0, 60.0]])
    books = make_books(f8(0.01, 0.05, 0.2), side, side)
    average, last = walk_books(books, f8(100), f8(units if buys else -units))
    steps = 20_000
    filled = (np.arange(steps) + 0.5) * units / steps
    away = np.interp(filled, [0, 10, 30, 60, 1_060], [0, 0.01, 0.05, 0.2, 5.2])
    away = away if buys else np.minimum(away, 1)
    sign = 1 if buys else -1
    assert average[0] == pytest.approx(100 * (1 + sign * away.mean()), rel=1e-5, abs=1e-5)
    assert last[0] == pytest.approx(100 * (1 + sign * away[-1]), rel=1e-3, abs=1e-2)


def test_a_book_that_does_not_grow_is_refused() -> None:
    flat = np.array([[10.0, 10.0]])
    with pytest.raises(UsageError, match="bids, row 0: must grow"):
        make_books(f8(0.01, 0.02), flat, flat)


# --- exchanges --------------------------------------------------------------------------------------------------------


def one_market(depth: float = 1e9, fund: float = 0.0) -> Markets:
    zero = np.zeros(1, dtype=np.int64)
    return Markets(zero, zero, f8(1), even_books(f8(depth), 0.01), f8(0), f8(fund))


def accounts(*rows: tuple[float, float], coins: float = 0.0) -> Accounts:
    position, cash = f8(*(row[0] for row in rows)), f8(*(row[1] for row in rows))
    held = np.full((len(rows), 1), coins)
    return Accounts(position[:, None], np.ones((len(rows), 1)), cash, held, f8(0), f8(0.05))


@needs_vectors
def test_auto_deleveraging_closes_the_other_side_at_the_bankruptcy_price_as_dydx_documents() -> None:
    known = VECTORS["dydx_deleverage_doc_example"]
    found = liquidate(one_market(), accounts((500, 100), (-500, 100)), f8(known["price_jump_to"] - 1))
    assert found.rounds[0].mark.tolist() == [known["price_jump_to"]]
    assert found.equity[0] - 100 == pytest.approx(known["A_profit"])
    assert found.equity[1] == pytest.approx(known["B_final"], abs=1e-9)
    assert found.deleveraged[:, 0].tolist() == [-500, 0]
    assert found.unfilled.tolist() == [0]
    assert found.price.tolist() == [known["price_jump_to"]]  # nothing went to the book


def test_the_fund_fills_holes_before_anybody_is_deleveraged() -> None:
    found = liquidate(one_market(fund=1_000), accounts((500, 100), (-500, 100)), f8(1))
    assert found.fund_used[0] == pytest.approx(400, rel=1e-4)
    assert not found.deleveraged.any()
    assert found.equity[0] == pytest.approx(600)


def test_money_is_neither_made_nor_lost_by_deleveraging() -> None:
    held = accounts((500, 100), (-300, 100), (-100, 400), (-100, 20))
    found = liquidate(one_market(), held, f8(1))
    before = held.cash + held.position[:, 0] * 1.0
    assert found.equity.sum() == pytest.approx(before.sum() + found.unfilled.sum())
    assert (found.equity >= -1e-9).all()


def test_the_most_profitable_and_leveraged_are_deleveraged_first() -> None:
    held = accounts((100, 5), (100, 500), (-100, 10))
    found = liquidate(one_market(), held, f8(1))
    assert found.deleveraged[:, 0].tolist() == [-100, 0, 0]


def fall(depth: float, coins: bool = False) -> Cascade:
    """Longs of 100 with equity from 7 to 12 each, in cash or in coins that move with the price."""
    equity = np.linspace(7, 12, 20)
    rows = [(100.0, 0.0 if coins else float(one)) for one in equity]
    held = accounts(*rows)._replace(coins=equity[:, None] * coins)
    return liquidate(one_market(depth), held, f8(-0.025))


def test_thinner_books_make_longer_cascades_and_lower_prices() -> None:
    deep, middle, thin = fall(1e6), fall(1_000), fall(200)
    assert deep.liquidated.sum() < middle.liquidated.sum() < thin.liquidated.sum() == 20
    assert len(deep.rounds) < len(thin.rounds)
    assert deep.price[0] > middle.price[0] > thin.price[0]


def test_collateral_that_falls_with_the_market_makes_a_margin_spiral() -> None:
    assert fall(1_000, coins=True).price[0] < fall(1_000).price[0]
    assert fall(1_000, coins=True).liquidated.sum() > fall(1_000).liquidated.sum()


def two_venues(oracle: float) -> Cascade:
    """One asset at two venues; the first falls by 30 %, longs stand at the second."""
    number = np.arange(2)
    markets = Markets(
        np.zeros(2, dtype=np.int64), number, f8(1, 1), even_books(f8(1e4, 1e4), 0.01), f8(oracle, oracle), f8(0, 0)
    )
    position = np.array([[0.0, 100.0]])
    held = Accounts(position, np.ones((1, 2)), f8(10), np.zeros((1, 2)), f8(0, 0), f8(0.05, 0.05))
    return liquidate(markets, held, f8(-0.3, 0))


def test_an_oracle_shared_between_venues_carries_a_fall_from_one_to_the_other() -> None:
    assert not two_venues(0.0).liquidated.any()
    assert two_venues(1.0).liquidated.all()
    assert two_venues(1.0).price[1] < 1


# --- coins ------------------------------------------------------------------------------------------------------------


def test_a_depeg_goes_from_venue_to_venue_only_through_a_shared_price_and_on_to_the_lenders_lenders() -> None:
    loans = Loans(
        np.array([0, 1]), np.array([0, 1]), f8(90, 90), f8(0, 0), f8(90, 90), np.array([[100.0], [100.0]])
    )  # fmt: skip
    price, depth, haircut = np.array([[0.85], [1.0]]), np.array([[300.0], [300.0]]), f8(0.05)
    apart = depeg(loans, price, depth, haircut, 0.0)
    shared = depeg(loans, price, depth, haircut, 1.0)
    assert apart.closed.tolist() == [True, False]
    assert shared.closed.tolist() == [True, True]
    assert apart.price[0, 0] == pytest.approx(0.85 * np.exp(-1 / 3))
    assert apart.loss[0] == pytest.approx(90 - 100 * apart.price[0, 0])
    network = make_network(([2, 2], [0, 1], [20.0, 20.0]), [25, 25, 5])
    shock = network_shock(loans, shared, 3)
    assert shock[:2] == pytest.approx(shared.loss)
    assert clear_debts(network, np.minimum(shock, network.external_assets)).payments[0] < 20
