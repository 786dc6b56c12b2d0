"""Margin as venues compute it, the worst loss over a grid, and how far prices are from a liquidation."""

import math
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.operators.core.pricing import black_value
from seawall.operators.core.pricing._liquidation_distance import nearest_distance
from seawall.operators.core.pricing._margin import (
    MarginTier,
    ScheduleError,
    ScheduleTable,
    open_interest_scaled_rate,
)
from seawall.operators.core.pricing._option_sheet import DISTANCE_MAX
from seawall.operators.core.pricing._scenario_margin import (
    BUILT_IN_SCENARIOS,
    ScenarioInstruments,
    moved_volatility,
    scenario_profits,
    scenarios_of,
    worst_losses,
)
from seawall.schemas.configuration import MarginGrid, VolatilityMove
from seawall_testing.reference_data import read_vectors

# dYdX v4 x/perpetuals/types/liquidity_tier_test.go: base ppm, lower, upper, open interest, notional, initial margin
DYDX = [
    (200_000, 0, 0, 0, 500_000, 100_000),
    (567_243, 0, 0, 0, 123_456, 70_030),
    (200_000, 1_000_000_000_000, 2_000_000_000_000, 1_500_000_000_000, 500_000, 300_000),
    (200_000, 25_000_000_000_000, 50_000_000_000_000, 80_000_000_000_000, 500_000, 500_000),
    (200_000, 25_000_000_000_000, 60_000_000_000_000, 28_123_456_789_123, 500_000, 135_697),
]


def dydx_initial_margin(base_ppm: int, lower: int, upper: int, interest: int, notional: int) -> int:
    """The venue rounds a margin up to the next unit; a float a hair above a whole number is that number."""
    return math.ceil(float(open_interest_scaled_rate(base_ppm / 1e6, interest, lower, upper)) * notional - 1e-6)


@pytest.mark.parametrize("case", DYDX)
def test_open_interest_scales_the_initial_margin_as_on_dydx(case: tuple[int, ...]) -> None:
    assert dydx_initial_margin(*case[:5]) == case[5]


def test_all_dydx_vectors_come_out() -> None:
    file = read_vectors("risk_vectors.json")
    for v in file["dydx_open_interest_scaled_margin"]:
        names = ("base_imf_ppm", "oi_lower_cap", "oi_upper_cap", "open_interest_notional", "quote_quantums")
        assert dydx_initial_margin(*(v[name] for name in names)) == v["expected_im"]


# a schedule in the form of Binance's: notional from, initial rate, maintenance rate, deducted maintenance amount
BINANCE = [
    MarginTier(0, 0.008, 0.004, 0),
    MarginTier(50_000, 0.01, 0.005, 50),
    MarginTier(250_000, 0.02, 0.01, 1_300),
    MarginTier(3_000_000, 0.05, 0.025, 46_300),
]


def test_deductions_make_the_maintenance_margin_continuous() -> None:
    table = ScheduleTable.of([BINANCE])
    for tier in BINANCE[1:]:
        around = np.array([np.nextafter(tier.notional_from, 0), tier.notional_from])
        below, at = table.margins(np.zeros(2, np.int64), around)[1]
        assert at == pytest.approx(below)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10**9)), min_size=1, max_size=30))
def test_every_position_is_margined_at_the_tier_of_its_notional(rows: list[tuple[int, int]]) -> None:
    schedules = [BINANCE, [MarginTier(0, 0.1, 0.05)], [MarginTier(0, 0.5, 0.5), MarginTier(1_000, 1.0, 1.0)]]
    instrument, notional = np.array([r[0] for r in rows]), np.array([float(r[1]) for r in rows])
    initial, maintenance = ScheduleTable.of(schedules).margins(instrument, notional)
    for n, (which, amount) in enumerate(rows):
        tier = [t for t in schedules[which] if t.notional_from <= amount][-1]
        exact = max(amount * Fraction(str(tier.maintenance_rate)) - Fraction(str(tier.deduction)), Fraction(0))
        assert maintenance[n] == pytest.approx(float(exact), rel=1e-12)
        assert initial[n] == pytest.approx(float(amount * Fraction(str(tier.initial_rate))), rel=1e-12)


@pytest.mark.parametrize(
    ("tiers", "rule"),
    [
        ([], "TIERS_MUST_BEGIN_AT_0"),
        ([MarginTier(1, 0.1, 0.05)], "TIERS_MUST_BEGIN_AT_0"),
        ([MarginTier(0, 0.1, 0.05), MarginTier(0, 0.2, 0.1)], "NOTIONAL_FROM_MUST_RISE"),
        ([MarginTier(0, 0.1, 0.2)], "MAINTENANCE_NOT_ABOVE_INITIAL"),
        ([MarginTier(0, 0.1, -0.1)], "RATES_MUST_BE_0_TO_1"),
        ([MarginTier(0, math.nan, 0.1)], "RATES_MUST_BE_0_TO_1"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(tiers: list[MarginTier], rule: str) -> None:
    with pytest.raises(ScheduleError, match=rule):
        ScheduleTable.of([tiers])


def book(rows: list[tuple[float, bool, bool, bool, float, float, float]]) -> ScenarioInstruments:
    price, inverse, option, call, strike, expiry, volatility = zip(*rows, strict=True)
    flags = [np.array(x, np.bool_) for x in (inverse, option, call)]
    return ScenarioInstruments(np.array(price), *flags, np.array(strike), np.array(expiry), np.array(volatility))


FUTURE = (100.0, False, False, False, 0.0, 0.0, 0.0)
INVERSE = (100.0, True, False, False, 0.0, 0.0, 0.0)
CALL = (100.0, False, True, True, 110.0, 30 / 365, 0.6)
PUT = (100.0, False, True, False, 90.0, 30 / 365, 0.6)
COIN_PUT = (100.0, True, True, False, 90.0, 30 / 365, 0.6)


UP = BUILT_IN_SCENARIOS[2].volatility
FAR = {"moves": [-0.66, -0.33, 0.5, 1, 2, 3, 4, 5], "price_range": 0.16}
EXTENDED = scenarios_of(msgspec.convert({"moves": [-0.16, 0.0, 0.16], "extended": [FAR]}, MarginGrid))


def test_the_built_in_grid_is_nine_prices_times_three_volatilities() -> None:
    prices = [round(one.price, 2) for one in BUILT_IN_SCENARIOS[::3]]
    assert prices == [-0.16, -0.12, -0.08, -0.04, 0.0, 0.04, 0.08, 0.12, 0.16]
    assert [one.volatility.relative for one in BUILT_IN_SCENARIOS[:3]] == [(-0.38,), (0.0,), (0.38,)]
    assert len(BUILT_IN_SCENARIOS) == 27


def test_the_volatility_shock_is_the_published_function_of_days_to_expiry() -> None:
    # deribit.com/pages/docs/portfoliomargin (older): (30 / days)^0.30 x 38 %
    for days, shock in ((30, 0.38), (15, 0.4678348770710682), (7, 0.588017919340109), (1, 1.0541926235754289)):
        moved = moved_volatility(np.ones(1), np.array([days / 365]), UP)
        assert moved[0] - 1.0 == pytest.approx(shock, rel=1e-12)
    at_once, in_a_day = (float(moved_volatility(np.ones(1), np.array([at]), UP)[0]) for at in (0.0, 1 / 365))
    assert at_once == in_a_day


def test_a_volatility_moves_in_a_line_between_days_by_points_and_not_below_its_floor() -> None:
    years = np.array([0.0, 15.0, 30.0, 90.0]) / 365
    points = VolatilityMove(days=(0.0, 30.0, 60.0), points=(0.30, 0.25, 0.20))
    assert moved_volatility(np.full(4, 0.5), years, points) == pytest.approx([0.8, 0.775, 0.75, 0.7], rel=1e-12)
    far = VolatilityMove(relative=(-0.25,), near_power=0.3, far_power=0.13, floor=0.3)
    later = 0.5 * (1 - 0.25 * (30 / 90) ** 0.13)
    expected = [0.3, 0.5 * (1 - 0.25 * 2**0.3), 0.375, later]
    assert moved_volatility(np.full(4, 0.5), years, far) == pytest.approx(expected, rel=1e-12)


def margins(
    rows: list[tuple[float, bool, bool, bool, float, float, float]], sizes: list[float], **more: Any
) -> tuple[float, int]:
    """Return the margin of an account that holds each row in its size, and the worst scenario of its first group."""
    n = len(rows)
    group = np.array(more.get("underlying", np.zeros(n, np.int64)))
    profits = scenario_profits(book(rows), more.get("grid", BUILT_IN_SCENARIOS))
    price = np.array(more.get("settlement", [1.0] * n))
    loss, worst = worst_losses(group, np.arange(n), np.array(sizes), profits, price, int(group.max()) + 1)
    return float(loss.sum()), int(worst[0])


def test_a_future_loses_its_edge_of_the_range() -> None:
    assert margins([FUTURE], [3.0])[0] == pytest.approx(48.0)
    assert margins([FUTURE], [-3.0])[0] == pytest.approx(48.0)


def test_an_inverse_future_is_judged_in_its_coin() -> None:
    # long 1,000 USD at 100: (1/100 - 1/84) x 1,000 coin, at 100 USD a coin
    assert margins([INVERSE], [1000.0], settlement=[100.0])[0] == pytest.approx((1 / 84 - 1 / 100) * 1000 * 100)


def test_a_short_option_is_worst_at_the_far_price_with_volatility_up_and_a_long_one_loses_at_most_its_value() -> None:
    margin, worst = margins([CALL], [-1.0])
    scenario = BUILT_IN_SCENARIOS[worst]
    assert (round(scenario.price, 2), scenario.volatility) == (0.16, UP)
    shocked = float(black_value(116.0, 110.0, 30 / 365, 0.6 * 1.38, True))
    value = float(black_value(100.0, 110.0, 30 / 365, 0.6, True))
    assert margin == pytest.approx(shocked - value)
    assert margins([CALL], [1.0])[0] < value


def test_hedges_offset_on_one_underlying_and_not_across_two() -> None:
    assert margins([FUTURE, FUTURE], [1.0, -1.0])[0] == 0.0
    assert margins([FUTURE, FUTURE], [1.0, -1.0], underlying=[0, 1])[0] == pytest.approx(32.0)


def test_the_extended_grid_sees_what_a_far_short_option_hides() -> None:
    far = (100.0, False, True, True, 400.0, 30 / 365, 0.6)
    assert margins([far], [-1.0])[0] < 0.01
    assert margins([far], [-1.0], grid=EXTENDED)[0] > 5.0


def test_a_missing_mark_makes_the_margin_missing_and_not_small() -> None:
    assert math.isnan(margins([FUTURE, (math.nan, *FUTURE[1:])], [1.0, -1.0])[0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 4), st.integers(-50, 50)), min_size=1))
def test_scenario_margin_agrees_with_a_loop_over_positions(rows: list[tuple[int, int, int, int]]) -> None:
    instruments = [FUTURE, INVERSE, CALL, PUT, COIN_PUT]
    settlement = np.array([1.0, 100.0, 1.0, 1.0, 100.0])
    profits = scenario_profits(book(instruments))
    a, u, i, s = (np.array(column) for column in zip(*rows, strict=True))
    loss, _ = worst_losses(a * 2 + u, i, s.astype(float), profits, settlement, 8)
    for account in range(4):
        for underlying in range(2):
            mine = [r for r in rows if r[0] == account and r[1] == underlying]
            unit = [
                [Fraction(float(profits[k, j])) * Fraction(float(settlement[k])) for k in range(5)] for j in range(27)
            ]
            worst = min((sum(size * unit[j][k] for _, _, k, size in mine) for j in range(27)), default=Fraction(0))
            expected = float(max(-worst, Fraction(0)))
            assert loss[account * 2 + underlying] == pytest.approx(expected, rel=1e-9, abs=1e-9)


# equity, maintenance margin and slope of health, then the nearest move; entry price 100
DISTANCE = [
    ("long", 20.0, 5.0, 100.0 - 5.0, 15 / 95),
    ("short", 20.0, 5.0, -100.0 - 5.0, 15 / 105),
    ("flat", 20.0, 5.0, 0.0, DISTANCE_MAX),
    ("nothing at stake", 20.0, 0.0, 100.0, DISTANCE_MAX),
    ("a fall by more than everything", 205.0, 5.0, 100.0, DISTANCE_MAX),
    ("a fall to nothing, the largest there is", 105.0, 5.0, 100.0, 1.0),
    ("already there", 4.0, 5.0, 100.0, 0.0),
    ("exactly there", 5.0, 5.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("name", "equity", "maintenance", "slope", "move"), DISTANCE, ids=[row[0] for row in DISTANCE])
def test_the_distance_of_a_linear_account_is_one_division(
    name: str, equity: float, maintenance: float, slope: float, move: float
) -> None:
    found = nearest_distance(np.array([equity]), np.array([maintenance]), np.array([slope]))
    assert found[0] == pytest.approx(move)


@given(st.integers(-20, 20), st.integers(0, 20), st.integers(50, 200))
def test_at_the_distance_found_the_margin_ratio_is_one(contracts: int, coins: int, entry: int) -> None:
    """An inverse position with its collateral in the same coin, revalued with Fractions at the move that was found."""
    price, size = Fraction(100), Fraction(contracts * 100)  # size in USD
    maintenance = abs(size) * Fraction(1, 20)

    def equity(p: Fraction) -> Fraction:
        return (coins + size / entry - size / p) * p

    unrealised = float((size / entry - size / price) * price)
    slope = coins * 100.0 + float(size) + unrealised  # what it cost, with the other sign
    figures = (np.array([figure]) for figure in (float(equity(price)), float(maintenance), slope))
    move = nearest_distance(*figures).item()
    if contracts and equity(price) <= maintenance:
        assert move == 0.0
    elif move < DISTANCE_MAX:
        at = price * (1 - Fraction(move) if slope > 0 else 1 + Fraction(move))
        assert at == 0 or abs(float(equity(at) - maintenance)) < 1e-6 * max(1.0, move) * 100


def test_the_rate_at_the_margin_is_that_of_the_tier() -> None:
    notional = np.array([0.0, 49_999.0, 50_000.0, 1e9])
    assert ScheduleTable.of([BINANCE]).maintenance_slope(np.zeros(4, np.int64), notional).tolist() == [
        0.004,
        0.004,
        0.005,
        0.025,
    ]


def test_beyond_the_range_a_linear_position_loses_what_it_loses_at_its_edge_also_in_coin() -> None:
    linear, coin = scenario_profits(book([FUTURE, INVERSE]), EXTENDED)
    assert linear[3:] == pytest.approx([-16.0] * 2 + [16.0] * 6)
    assert coin[3:] == pytest.approx([1 / 100 - 1 / 84] * 2 + [1 / 100 - 1 / 116] * 6)
