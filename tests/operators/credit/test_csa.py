"""Collateral terms: what counts as held, what is called, what is returned, in both directions."""

import math
from dataclasses import astuple
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.operators.core.credit import _saccr_formulas as formulas
from seawall.operators.core.credit._collateral_terms import (
    CollateralHeld,
    CollateralPieces,
    CollateralTerms,
    collateral_held,
    margin_calls,
)

DEFAULTS: dict[str, Any] = {"margined": True, "they_post": True, "we_post": True, "threshold": 0.0,
                            "minimum_transfer_amount": 0.0, "our_threshold": 0.0, "our_minimum_transfer_amount": 0.0,
                            "independent_amount": 0.0, "rounding": 0.0}  # fmt: skip


def terms(**changes: Any) -> CollateralTerms:
    return CollateralTerms(*(np.array([value]) for value in {**DEFAULTS, **changes}.values()))


def held(*pieces: tuple[float, float, bool, bool]) -> CollateralHeld:
    """Collateral of one netting set from pieces (value, haircut, independent, segregated)."""
    if not pieces:
        return CollateralHeld(*(np.zeros(1) for _ in range(5)))
    value, haircut, independent, segregated = (np.array(column) for column in zip(*pieces, strict=True))
    return collateral_held(
        CollateralPieces(np.zeros(len(pieces), np.int64), value, haircut, independent, segregated), 1
    )


def cost(agreed: CollateralTerms, value: float, collateral: CollateralHeld) -> float:
    """Replacement cost of V and C; margined where they post variation margin (CRE52.2, 52.18)."""
    uncalled = agreed.threshold + agreed.minimum_transfer_amount - collateral.net_independent
    margined = agreed.margined & agreed.they_post
    return formulas.replacement_cost(value - collateral.collateral, np.where(margined, uncalled, 0.0)).item()


# BCBS 279 Annex 4b: terms, V, pieces of collateral, then C, NICA and RC as printed
ANNEX_4B: list[tuple[dict[str, float], float, list[tuple[float, float, bool, bool]], float, float, float]] = [
    ({"minimum_transfer_amount": 1.0}, 80.0, [(80.0, 0, False, False), (10.0, 0, True, False)], 90.0, 10.0, 0.0),
    (
        {"minimum_transfer_amount": 1.0},
        80.0,
        [(79.5, 0, False, False), (10.0, 0, True, False), (-10.0, 0, True, False)],
        79.5,
        0.0,
        1.0,
    ),
    ({}, -50.0, [(-50.0, 0, False, False), (-10.0, 0, True, True)], -50.0, 0.0, 0.0),
    ({}, -50.0, [(-50.0, 0, False, False), (-10.0, 0, True, False)], -60.0, -10.0, 10.0),
    ({}, 50.0, [(60.0, 0, False, False), (20.0, 0, True, False)], 80.0, 20.0, 0.0),
]


@pytest.mark.parametrize(("changes", "value", "pieces", "c", "nica", "rc"), ANNEX_4B)
def test_the_examples_of_annex_4b_come_out_of_the_pieces_of_collateral(
    changes: dict[str, float],
    value: float,
    pieces: list[tuple[float, float, bool, bool]],
    c: float,
    nica: float,
    rc: float,
) -> None:
    collateral = held(*pieces)
    assert (collateral.collateral[0], collateral.net_independent[0]) == (c, nica)
    assert cost(terms(**changes), value, collateral) == rc


def test_haircuts_reduce_what_we_hold_and_increase_what_we_posted() -> None:
    assert held((100.0, 0.2, False, False)).collateral[0] == 80.0
    assert held((-100.0, 0.2, False, False)).collateral[0] == -120.0


def test_collateral_of_theirs_counts_even_segregated_and_ours_does_not() -> None:
    assert held((100.0, 0.0, True, True)).net_independent[0] == 100.0
    ours = held((-100.0, 0.0, True, True))
    assert (ours.collateral[0], ours.delivered[0]) == (0.0, -100.0)


def test_a_set_where_only_we_post_is_unmargined() -> None:
    only_us = terms(they_post=False, threshold=1e6)
    assert cost(only_us, 5.0, held()) == 5.0
    assert cost(terms(threshold=1e6), 5.0, held()) == 1e6


# terms, V, delivered, then the call: negative where we owe it
CALLS: list[tuple[str, dict[str, Any], float, float, float]] = [
    ("all of the exposure", {}, 30.0, 0.0, 30.0),
    ("what is beyond the threshold", {"threshold": 10.0}, 30.0, 0.0, 20.0),
    ("nothing within it", {"threshold": 50.0}, 30.0, 0.0, 0.0),
    ("not below the minimum transfer", {"minimum_transfer_amount": 31.0}, 30.0, 0.0, 0.0),
    ("from the minimum on, in full", {"minimum_transfer_amount": 30.0}, 30.0, 0.0, 30.0),
    ("the other direction", {}, -30.0, 0.0, -30.0),
    ("our threshold", {"our_threshold": 20.0}, -30.0, 0.0, -10.0),
    ("our minimum", {"our_minimum_transfer_amount": 31.0}, -30.0, 0.0, 0.0),
    ("our threshold is not theirs", {"our_threshold": 1e6}, 30.0, 0.0, 30.0),
    ("excess goes back", {}, 30.0, 50.0, -20.0),
    ("ours comes back first", {}, 5.0, -20.0, 25.0),
    ("an independent amount beside it", {"threshold": 10.0, "independent_amount": 7.0}, 30.0, 0.0, 27.0),
    ("counted once when it is there", {"independent_amount": 7.0}, 30.0, 37.0, 0.0),
    ("in their favour", {"independent_amount": -7.0}, 0.0, 0.0, -7.0),
    ("deliveries are rounded up", {"rounding": 10.0}, 31.0, 0.0, 40.0),
    ("returns are rounded down", {"rounding": 10.0}, 0.0, 37.0, -30.0),
    ("they do not post", {"they_post": False}, 30.0, 0.0, 0.0),
    ("we do not post", {"we_post": False}, -30.0, 0.0, 0.0),
    (
        "unmargined but for the independent amount",
        {"margined": False, "independent_amount": 5.0},
        30.0,
        0.0,
        5.0,
    ),
]


@pytest.mark.parametrize(("name", "changes", "value", "delivered", "call"), CALLS, ids=[c[0] for c in CALLS])
def test_a_call_brings_what_was_delivered_to_what_is_required(
    name: str, changes: dict[str, Any], value: float, delivered: float, call: float
) -> None:
    assert margin_calls(terms(**changes), np.array([value]), np.array([delivered]), np.zeros(1))[0] == call


@pytest.mark.parametrize("unit", ["0.1", "0.01", "0.05", "0.25", "1000"])
def test_a_call_is_the_double_nearest_to_a_decimal_multiple_of_the_unit(unit: str) -> None:
    """Three tenths are 0.3, where 3 x 0.1 in floating point is 0.30000000000000004."""
    values = np.arange(1, 2000) / 1000.0
    many = CollateralTerms(*(np.broadcast_to(row, values.shape) for row in astuple(terms(rounding=float(unit)))))
    none = np.zeros(len(values))
    right = [float(-(-Fraction(n, 1000) // Fraction(unit)) * Fraction(unit)) for n in range(1, 2000)]
    assert margin_calls(many, values, none, none).tolist() == right


def test_a_set_without_a_value_has_no_call_rather_than_a_small_one() -> None:
    found = margin_calls(terms(), np.array([np.nan]), np.array([5.0]), np.zeros(1))
    assert math.isnan(found[0])


amounts = st.integers(-400, 400).map(lambda n: n / 4)
sizes = st.integers(0, 100).map(lambda n: n / 4)
pieces = st.tuples(st.integers(0, 3), amounts, st.sampled_from([0.0, 0.25, 0.5]), st.booleans(), st.booleans())


@given(st.lists(pieces, min_size=1))
def test_collateral_agrees_with_a_sum_of_fractions(rows: list[tuple[int, float, float, bool, bool]]) -> None:
    netting_set, value, haircut, independent, segregated = (np.array(column) for column in zip(*rows, strict=True))
    found = collateral_held(CollateralPieces(netting_set, value, haircut, independent, segregated), 4)
    for n in range(4):
        c = nica = delivered = Fraction(0)
        for _, v, h, ind, seg in (row for row in rows if row[0] == n):
            counted = Fraction(v) * (1 - Fraction(h) if v > 0 else 1 + Fraction(h))
            delivered += counted
            if not (v < 0 and seg):
                c += counted
                nica += counted if ind else 0
        assert (found.collateral[n], found.net_independent[n], found.delivered[n]) == (c, nica, delivered)
        assert found.variation[n] == c - nica


csa = st.fixed_dictionaries({
    "margined": st.booleans(), "they_post": st.booleans(), "we_post": st.booleans(), "threshold": sizes,
    "minimum_transfer_amount": sizes, "our_threshold": sizes, "our_minimum_transfer_amount": sizes,
    "independent_amount": amounts, "rounding": st.sampled_from([0.0, 0.25, 10.0]),
})  # fmt: skip


@given(csa, amounts, amounts, amounts)
def test_after_the_transfer_nothing_more_is_due_but_what_rounding_left(
    agreed: dict[str, Any], value: float, delivered: float, independent: float
) -> None:
    """Of a set that is not margined the independent amount alone is asked for: no deposit comes back."""
    agreement = terms(**agreed)
    found = margin_calls(agreement, np.array([value]), np.array([delivered]), np.array([independent]))
    call, required = float(found[0]), agreed["independent_amount"]
    if agreed["margined"] and agreed["they_post"]:
        required += max(value - agreed["threshold"], 0.0)
    if agreed["margined"] and agreed["we_post"]:
        required -= max(-value - agreed["our_threshold"], 0.0)
    if call:
        after = (delivered if agreed["margined"] else independent) + call
        assert abs(required - after) <= 2 * agreed["rounding"]
        assert call <= 0 or call >= agreed["minimum_transfer_amount"] - agreed["rounding"]


@given(csa, amounts, amounts, amounts)
def test_the_other_side_computes_the_same_transfer(
    agreed: dict[str, Any], value: float, delivered: float, independent: float
) -> None:
    swapped = {
        "they_post": agreed["we_post"],
        "we_post": agreed["they_post"],
        "threshold": agreed["our_threshold"],
        "our_threshold": agreed["threshold"],
        "minimum_transfer_amount": agreed["our_minimum_transfer_amount"],
        "our_minimum_transfer_amount": agreed["minimum_transfer_amount"],
        "independent_amount": -agreed["independent_amount"],
    }
    ours = margin_calls(terms(**agreed), np.array([value]), np.array([delivered]), np.array([independent]))
    back = terms(**{**agreed, **swapped})
    theirs = margin_calls(back, np.array([-value]), np.array([-delivered]), np.array([-independent]))
    assert ours[0] == -theirs[0]


@given(csa, amounts, st.lists(pieces, min_size=1))
def test_replacement_cost_agrees_with_fractions(agreed: dict[str, Any], value: float, rows: list[Any]) -> None:
    collateral = held(*[row[1:] for row in rows])
    c, nica = Fraction(float(collateral.collateral[0])), Fraction(float(collateral.net_independent[0]))
    right = max(Fraction(value) - c, Fraction(0))
    if agreed["margined"] and agreed["they_post"]:
        right = max(right, Fraction(agreed["threshold"]) + Fraction(agreed["minimum_transfer_amount"]) - nica)
    assert cost(terms(**agreed), value, collateral) == right
