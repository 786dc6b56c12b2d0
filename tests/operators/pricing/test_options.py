"""Options are valued on their own forward, in quote currency and in coin, and marks give back their volatilities."""

import csv
import gzip
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.operators.core.pricing import black_value, years_to_expiry
from seawall.operators.core.pricing._option_models import (
    MarkState,
    black_valuation,
    implied_volatility,
    settlement_value,
)
from seawall.operators.core.pricing._option_sheet import GRID, OptionBook
from seawall_testing.reference_data import shared

prices = st.floats(1.0, 1e5)
moneyness = st.floats(0.3, 3.0)
years = st.floats(1e-3, 3.0)
volatilities = st.floats(0.05, 3.0)


def reference(f: float, k: float, t: float, v: float, call: bool, rate: float = 0.0) -> float:
    """Black's formula with the standard library."""
    d1 = math.log(f / k) / (v * math.sqrt(t)) + 0.5 * v * math.sqrt(t)
    d2 = d1 - v * math.sqrt(t)
    phi = lambda x: 0.5 * math.erfc(-x / math.sqrt(2.0))  # noqa: E731
    w = 1.0 if call else -1.0
    return math.exp(-rate * t) * w * (f * phi(w * d1) - k * phi(w * d2))


# Hull, Options, Futures and Other Derivatives, example 18.6: futures 60, strike 60, 4 months, 25 %, 9 %, put 3.35
def test_the_textbook_futures_option_has_its_printed_price() -> None:
    assert round(float(black_value(60.0, 60.0, 4 / 12, 0.25, False, 0.09)), 2) == 3.35


@given(prices, moneyness, years, volatilities, st.booleans(), st.floats(0.0, 0.2))
def test_the_value_agrees_with_the_formula(f: float, m: float, t: float, v: float, call: bool, rate: float) -> None:
    assert float(black_value(f, f * m, t, v, call, rate)) == pytest.approx(
        reference(f, f * m, t, v, call, rate), rel=1e-9, abs=1e-13 * f
    )


@given(prices, moneyness, years, volatilities)
def test_call_less_put_is_forward_less_strike(f: float, m: float, t: float, v: float) -> None:
    call, put = black_valuation(f, f * m, t, v, True), black_valuation(f, f * m, t, v, False)
    assert float(call.value - put.value) == pytest.approx(f - f * m, abs=1e-13 * f * (1 + m))
    assert float(call.delta - put.delta) == pytest.approx(1.0, abs=1e-14)


@settings(max_examples=60)
@given(st.floats(0.6, 1.6), st.floats(0.05, 2.0), st.floats(0.2, 1.5), st.booleans(), st.floats(0, 0.1))
def test_greeks_are_the_slopes_of_the_value(m: float, t: float, v: float, call: bool, rate: float) -> None:
    def value(f: float, years: float, volatility: float) -> float:
        return float(black_value(f, 100.0 * m, years, volatility, call, rate))

    f, h = 100.0, 1e-2
    greeks = black_valuation(f, 100.0 * m, t, v, call, rate)
    up, here, down = value(f + h, t, v), value(f, t, v), value(f - h, t, v)
    assert float(greeks.value) == here
    assert float(greeks.delta) == pytest.approx((up - down) / (2 * h), abs=1e-6)
    assert float(greeks.gamma) == pytest.approx((up - 2 * here + down) / (h * h), abs=1e-5)
    vega = (value(f, t, v + 1e-5) - value(f, t, v - 1e-5)) / 2e-5
    theta = -(value(f, t + 1e-6, v) - value(f, t - 1e-6, v)) / 2e-6
    assert float(greeks.vega) == pytest.approx(vega, rel=1e-5, abs=1e-5)
    assert float(greeks.theta) == pytest.approx(theta, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("call", [True, False])
@pytest.mark.parametrize("forward", [80.0, 100.0, 120.0])
@pytest.mark.parametrize(("expiry", "volatility"), [(0.0, 0.5), (-1.0, 0.5), (1.0, 0.0)])
def test_without_time_value_an_option_is_its_payoff(
    forward: float, call: bool, expiry: float, volatility: float
) -> None:
    valuation = black_valuation(forward, 100.0, expiry, volatility, call)
    assert float(valuation.value) == float(settlement_value(forward, 100.0, call))
    assert (float(valuation.gamma), float(valuation.vega), float(valuation.theta)) == (0.0, 0.0, 0.0)
    if forward != 100.0:
        assert float(valuation.delta) == (1.0 if call else -1.0) * (float(valuation.value) > 0)


@pytest.mark.parametrize("at", range(4))
def test_a_missing_mark_is_missing_in_every_figure_and_in_no_other_row(at: int) -> None:
    arguments = [np.full(3, x) for x in (100.0, 90.0, 0.5, 0.6)]
    arguments[at][1] = np.nan
    for figures in black_valuation(*arguments, np.array([True, False, True])):
        assert np.isnan(figures).tolist() == [False, True, False]


def test_settlement_pays_the_payoff_or_its_worth_in_coin() -> None:
    call, inverse = [True, True, False, False], [False, False, True, True]
    paid = settlement_value(50_000.0, [40_000.0, 60_000.0, 40_000.0, 60_000.0], call, inverse)
    assert paid.tolist() == [10_000.0, 0.0, 0.0, 0.2]


def test_years_run_to_expiry_and_stop_there() -> None:
    year = 365 * 86_400_000_000
    assert years_to_expiry([2 * year, year, 0], year).tolist() == [1.0, 0.0, 0.0]


@given(prices, moneyness, years, volatilities, st.booleans(), st.floats(0.0, 0.1))
def test_the_implied_volatility_gives_the_mark_back(
    f: float, m: float, t: float, v: float, call: bool, rate: float
) -> None:
    mark = float(black_value(f, f * m, t, v, call, rate))
    volatility, state = implied_volatility(mark, f, f * m, t, call, rate)
    if int(state) == MarkState.OK:
        assert float(black_value(f, f * m, t, float(volatility), call, rate)) == pytest.approx(
            mark, abs=2e-14 * f * (1 + m)
        )
        vega = float(black_valuation(f, f * m, t, v, call, rate).vega)
        if vega > 1e-5 * f:
            assert float(volatility) == pytest.approx(v, rel=1e-8)
    else:
        assert math.isnan(float(volatility))
        assert mark - max(math.exp(-rate * t) * (f - f * m) * (1 if call else -1), 0.0) < 1e-12 * f * (1 + m)


@pytest.mark.parametrize(
    ("mark", "expiry", "call", "state"),
    [
        (math.nan, 1.0, True, MarkState.MISSING),
        (5.0, 0.0, True, MarkState.MISSING),
        (5.0, math.nan, True, MarkState.MISSING),
        (20.0, 1.0, True, MarkState.BELOW_INTRINSIC),
        (0.0, 1.0, False, MarkState.BELOW_INTRINSIC),
        (120.0, 1.0, True, MarkState.ABOVE_BOUND),
        (100.0, 1.0, False, MarkState.ABOVE_BOUND),
        (119.99999999, 1e-5, True, MarkState.OUT_OF_RANGE),
        (25.0, 1.0, True, MarkState.OK),
    ],
)
def test_a_mark_without_volatility_has_a_state_that_says_why(
    mark: float, expiry: float, call: bool, state: MarkState
) -> None:
    volatility, found = implied_volatility(mark, 120.0, 100.0, expiry, call)
    assert int(found) == state
    assert math.isfinite(float(volatility)) == (state == MarkState.OK)


def test_a_volatility_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(3)
    f, v = rng.uniform(10, 1e5, 500), rng.uniform(0.05, 3, 500)
    k, t, call = f * rng.uniform(0.5, 2, 500), rng.uniform(0.01, 2, 500), rng.random(500) < 0.5
    mark = black_value(f, k, t, v, call)
    whole = implied_volatility(mark, f, k, t, call).volatility
    single = [float(implied_volatility(*row).volatility) for row in zip(mark, f, k, t, call, strict=True)]
    assert np.array_equal(whole, single, equal_nan=True)


def snapshots() -> list[Path]:
    return sorted(shared("data", "deribit_options").glob("deribit_options_snapshot_*.csv.gz"))


def columns(path: Path) -> dict[str, np.ndarray]:
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    names = (
        "underlying",
        "index_price",
        "strike",
        "time_to_maturity",
        "implied_volatility",
        "mark_price",
        "delta",
        "vega",
    )
    table = {name: np.array([float(row[name]) for row in rows]) for name in names}
    return {**table, "call": np.array([row["option_type"] == "call" for row in rows])}


def test_deribit_marks_are_repriced_from_their_volatilities_on_the_forward_and_not_on_the_index() -> None:
    forward_errors, index_errors = [], []
    for path in snapshots():
        t = columns(path)
        for price, errors in (("underlying", forward_errors), ("index_price", index_errors)):
            valuation = black_valuation(
                t[price], t["strike"], t["time_to_maturity"], t["implied_volatility"], t["call"]
            )
            error = np.abs(valuation.value / t[price] - t["mark_price"])
            errors.append((float(np.median(error)), float(np.quantile(error, 0.99))))
    assert forward_errors
    for (median, tail), (index_median, index_tail) in zip(forward_errors, index_errors, strict=True):
        assert median <= 5e-5 and tail <= 1e-3
        assert index_median >= 15 * median and index_tail >= 20 * tail


def test_deribit_greeks_and_volatilities_come_out() -> None:
    for path in snapshots():
        t = columns(path)
        terms = (t["underlying"], t["strike"], t["time_to_maturity"])
        greeks = black_valuation(*terms, t["implied_volatility"], t["call"])
        assert np.median(np.abs(greeks.delta - t["delta"])) < 1e-3
        assert np.median(np.abs(greeks.vega / 100 - t["vega"])) < 5e-3 * np.median(t["vega"])
        implied = implied_volatility(t["mark_price"] * t["underlying"], *terms, t["call"])
        found = implied.state == MarkState.OK
        assert set(implied.state.tolist()) <= {MarkState.OK, MarkState.BELOW_INTRINSIC}
        back = black_value(*terms, implied.volatility, t["call"]) / t["underlying"]
        assert np.max(np.abs(back - t["mark_price"])[found]) < 1e-14
        assert np.median(np.abs(implied.volatility - t["implied_volatility"])[found]) < 1e-3


class Sheet:
    """Five calls and five puts, each at a forward of 100, where its volatility is known."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.strike, self.call, self.volatility = rng.uniform(40, 250, 10), np.arange(10) % 2 == 0, 0.6
        self.terms = SimpleNamespace(call=self.call, strike=self.strike, rate=np.zeros(10))
        self.greeks, self.value = np.full((5, 10), 100.0), self.values_at(np.arange(10), np.full(10, 100.0))

    def __len__(self) -> int:
        return len(self.strike)

    def values_at(self, at: Any, forward: Any) -> Any:
        return black_value(forward, self.strike[at], 0.25, self.volatility, self.call[at])


@given(st.integers(0, 10_000), st.sampled_from([1.0, 5.0, 50.0]))
@settings(max_examples=60, deadline=None)
def test_moves_that_are_not_valued_change_no_bit_of_a_distance(seed: int, riches: float) -> None:
    """Books of six accounts, from lost to rich, options long and short; all moves valued is the truth."""
    rng = np.random.default_rng(seed)
    sheet, option, member = Sheet(rng), rng.integers(0, 10, 24), np.arange(24) % 6
    held, forward = rng.normal(0, 1, 24), np.full(24, 100.0)
    columns = (held, np.abs(held) * rng.uniform(0, 9), held * 50.0, option, forward, sheet.value[option])
    book = OptionBook(np.arange(6), member, *columns, sheet=cast(Any, sheet))
    needed, every = rng.uniform(-1, 40, 6), np.ones(len(GRID), dtype=bool)
    health = (needed + riches * rng.uniform(-10, 100, 6), needed, rng.normal(0, 100, 6), rng.normal(0, 5, 6))
    found = book.distances(*health)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OptionBook, "undecided", lambda *_: every)
        assert book.distances(*health).tobytes() == found.tobytes()
    rich, none = np.full((len(GRID), 6), 1e12), np.zeros(6, dtype=bool)
    assert book.undecided(rich, none).sum() == 2
