"""Limits tighten fast, loosen slowly, never step far, never pass their floor, and say why they are where they are."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.operators.core.limits import _rules
from seawall.operators.core.limits._rules import (
    Binding,
    EffectiveBounds,
    ScalingInputs,
    ScalingRules,
    effective_bounds,
    rating_factors,
)
from seawall.schemas import measures

RULES = {"base": 100.0, "floor": 20.0, "ceiling": 120.0, "volatility_power": 1.0, "depth_power": 0.5,
         "tighten_per_s": 0.01, "loosen_per_s": 0.001, "step_max": 0.1}  # fmt: skip
CALM = {
    "volatility": 0.5,
    "stressed": 0.5,
    "volatility_reference": 0.5,
    "depth": 4.0,
    "depth_reference": 4.0,
    "rating": 1.0,
}


def one(value: float) -> np.ndarray:
    return np.array([value], np.float64)


def rules(below: bool = False, **changes: float) -> ScalingRules:
    return ScalingRules(*(one(x) for x in {**RULES, **changes}.values()), np.array([below]))


def market(**changes: float) -> ScalingInputs:
    return ScalingInputs(*(one(x) for x in {**CALM, **changes}.values()))


def bounds(
    previous: float | None = None, elapsed: float = 1.0, below: bool = False, **changes: float
) -> EffectiveBounds:
    mine = {name: value for name, value in changes.items() if name in RULES}
    theirs = {name: value for name, value in changes.items() if name in CALM}
    before = None if previous is None else one(previous)
    return effective_bounds(rules(below, **mine), market(**theirs), before, elapsed)


# what changes in calm markets, the target, and what determines it
TARGETS: list[tuple[dict[str, float], float, Binding]] = [
    ({}, 100.0, Binding.FORMULA),
    ({"volatility": 1.0, "stressed": 1.0}, 50.0, Binding.FORMULA),
    ({"volatility": 1.0}, 100 * 0.5 / 0.875, Binding.FORMULA),  # a quarter of it is still calm
    ({"volatility": 0.1}, 100.0, Binding.FORMULA),  # calmer than the reference does not raise it
    ({"volatility": 0.5, "stressed": 2.5}, 50.0, Binding.FORMULA),  # the stressed quarter holds it down in calm markets
    ({"depth": 1.0}, 50.0, Binding.FORMULA),  # a quarter of the depth, power one half
    ({"depth": 0.0}, 20.0, Binding.FLOOR),
    ({"rating": 0.3}, 30.0, Binding.FORMULA),
    ({"rating": 1.5}, 120.0, Binding.CEILING),
    ({"volatility": 50.0}, 20.0, Binding.FLOOR),
    ({"volatility": 1.0, "stressed": 1.0, "volatility_power": 2.0}, 25.0, Binding.FORMULA),
    ({"volatility": 1.0, "stressed": 1.0, "volatility_power": 0.0}, 100.0, Binding.FORMULA),
    ({"volatility": 1.0, "stressed": 1.0, "depth": 1.0}, 25.0, Binding.FORMULA),
]


@pytest.mark.parametrize(("changes", "target", "binding"), TARGETS)
def test_the_target_is_the_clamped_product_of_its_factors(
    changes: dict[str, float], target: float, binding: Binding
) -> None:
    found = bounds(**changes)
    assert found.target[0] == found.effective[0] == pytest.approx(target)
    assert found.binding[0] == binding


# where a limit stands, the target's rating factor, seconds, where it goes, and what determines it
MOVES = [
    (100.0, 0.5, 1.0, 99.0, Binding.TIGHTENING_SPEED),
    (100.0, 0.5, 0.0, 100.0, Binding.TIGHTENING_SPEED),
    (100.0, 0.5, 5.0, 95.0, Binding.TIGHTENING_SPEED),
    (100.0, 0.5, 3600.0, 90.0, Binding.STEP),
    (50.5, 0.5, 1.0, 50.0, Binding.FORMULA),
    (50.0, 1.0, 1.0, 50.1, Binding.LOOSENING_SPEED),
    (50.0, 1.0, 3600.0, 60.0, Binding.STEP),
    (99.99, 1.0, 1.0, 100.0, Binding.FORMULA),
    (100.0, 1.0, 1.0, 100.0, Binding.FORMULA),
    (20.0, 0.01, 1.0, 20.0, Binding.FLOOR),
    (10.0, 1.0, 1.0, 20.0, Binding.LOOSENING_SPEED),  # a new version raised its floor
]


@pytest.mark.parametrize(("stands", "rating", "seconds", "goes", "binding"), MOVES)
def test_a_limit_tightens_fast_loosens_slowly_and_never_steps_far(
    stands: float, rating: float, seconds: float, goes: float, binding: Binding
) -> None:
    found = bounds(stands, seconds, rating=rating)
    assert found.effective[0] == pytest.approx(goes)
    assert found.binding[0] == binding


def test_a_limit_from_below_is_the_mirror_image() -> None:
    found = bounds(100.0, 1.0, below=True, rating=0.9)
    assert found.target[0] == pytest.approx(100 / 0.9)
    assert (found.effective[0], found.binding[0]) == (pytest.approx(101.0), Binding.TIGHTENING_SPEED)
    assert bounds(110.0, 1.0, below=True).effective[0] == pytest.approx(109.9)
    assert bounds(below=True, rating=0.0).effective[0] == 120.0


@pytest.mark.parametrize(
    "missing", ["volatility", "stressed", "volatility_reference", "depth", "depth_reference", "rating"]
)
def test_what_is_not_known_does_not_loosen_and_may_tighten(missing: str) -> None:
    held = bounds(60.0, 10.0, **{missing: math.nan})
    assert (held.effective[0], held.binding[0]) == (60.0, Binding.MISSING_INPUT)
    other = {"rating": 0.3} if missing != "rating" else {"depth": 0.36}
    assert bounds(60.0, 10.0, **{missing: math.nan}, **other).effective[0] == pytest.approx(50.0)


def test_a_zero_reference_or_a_negative_depth_counts_as_not_known() -> None:
    assert bounds(60.0, depth_reference=0.0).binding[0] == Binding.MISSING_INPUT
    assert bounds(60.0, depth=-1.0).binding[0] == Binding.MISSING_INPUT


def test_a_new_limit_starts_at_its_target_beside_old_ones() -> None:
    both = ScalingRules(*(np.array([x, x]) for x in RULES.values()), np.array([False, False]))
    wild = ScalingInputs(*(np.array([x, x]) for x in {**CALM, "rating": 0.5}.values()))
    assert effective_bounds(both, wild, np.array([np.nan, 100.0]), 1.0).effective.tolist() == [50.0, 99.0]


def test_every_effective_limit_explains_its_factors() -> None:
    found = bounds(100.0, 5.0, volatility=1.0, stressed=2.0, depth=1.0)
    explained = found.explain(rules(), 0)
    assert explained == {
        "base": 100.0, "volatility": 1.25, "volatility_ratio": 0.4, "depth_ratio": 0.5, "rating": 1.0,
        "formula": pytest.approx(20.0), "floor": 20.0, "ceiling": 120.0, "target": pytest.approx(20.0),
        "effective": 95.0, "binding": "tightening_speed",
    }  # fmt: skip
    assert bounds(100.0, volatility=math.nan).explain(rules(), 0)["volatility"] is None


def test_an_unknown_rating_gets_the_tightest_factor() -> None:
    assert rating_factors(["A", None, "new"], {"A": 1.0, "C": 0.2}).tolist() == [1.0, 0.2, 0.2]
    assert rating_factors(["A", None], {}).tolist() == [1.0, 1.0]


inputs = st.one_of(st.just(math.nan), st.integers(0, 400).map(lambda n: n / 100))
paths = st.lists(st.tuples(inputs, inputs, inputs, st.integers(0, 300).map(lambda n: n / 10)), min_size=1, max_size=40)


def exact(volatility: float, depth: float, rating: float, start: Fraction, seconds: float) -> Fraction:
    """The rule once more with Fractions, one limit, powers 1 and 1."""
    blend = Fraction(3, 4) * Fraction(volatility) + Fraction(1, 8)
    ratio = min(Fraction(1), Fraction(1, 2) / blend) * min(Fraction(1), Fraction(depth) / 4) * Fraction(rating)
    target = min(max(100 * ratio, Fraction(20)), Fraction(120))
    speed = Fraction(1, 100) if target < start else Fraction(1, 1000)
    most = min(speed * Fraction(seconds), Fraction(1, 10)) * 100
    return min(max(target, start - most), start + most)


@given(paths, st.booleans())
def test_over_any_path_a_limit_stays_in_its_band_and_moves_no_faster_than_allowed(path: list[Any], below: bool) -> None:
    level: float = 100.0
    for volatility, depth, rating, seconds in path:
        found = bounds(level, seconds, below=below, volatility=volatility, depth=depth, rating=rating)
        after = float(found.effective[0])
        tightened = (after - level) if below else (level - after)
        assert 20.0 <= after <= 120.0
        assert -min(0.1 * seconds, 10.0) - 1e-9 <= tightened <= min(1.0 * seconds, 10.0) + 1e-9
        if any(math.isnan(x) for x in (volatility, depth, rating)):
            assert tightened >= 0.0
        level = after


@given(paths)
def test_any_path_agrees_with_the_rule_in_fractions(path: list[Any]) -> None:
    level, reference = 100.0, Fraction(100)
    for volatility, depth, rating, seconds in path:
        if any(math.isnan(x) for x in (volatility, depth, rating)):
            continue
        found = bounds(level, seconds, volatility=volatility, depth=depth, rating=rating, depth_power=1.0)
        level, reference = float(found.effective[0]), exact(volatility, depth, rating, reference, seconds)
        assert level == pytest.approx(float(reference), rel=1e-12)


@given(st.integers(0, 100).map(lambda n: n / 10), st.integers(0, 100).map(lambda n: n / 10), inputs)
def test_cutting_time_differently_changes_nothing_while_no_step_is_bound(
    first: float, second: float, rating: float
) -> None:
    start = 80.0
    if math.isnan(rating) or first + second > 9.0:
        return
    whole = bounds(start, first + second, rating=rating).effective[0]
    parts = bounds(float(bounds(start, first, rating=rating).effective[0]), second, rating=rating).effective[0]
    assert whole == pytest.approx(parts, rel=1e-12)


def test_the_default_speeds_make_a_valid_scaling() -> None:
    assert 0 < measures.LOOSEN_PER_S <= measures.TIGHTEN_PER_S
    assert _rules.CURRENT_WEIGHT + _rules.STRESSED_WEIGHT == 1.0
