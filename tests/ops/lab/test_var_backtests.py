"""Backtests of value at risk and expected shortfall give the published answers, and none where they have no power."""

from typing import Any

import numpy as np
import pytest

from seawall.ops.lab.backtest._var_tests import (
    HOUR_US,
    MULTIPLIERS,
    Observation,
    acerbi_szekely,
    binomial,
    conditional_coverage,
    cumulative,
    evaluate_figures,
    independence,
    kupiec,
    null_distribution,
    traffic_light,
    transitions,
    z2,
    zone_bounds,
)
from seawall_testing.reference_data import read_vectors


@pytest.fixture(scope="module")
def known() -> Any:
    return read_vectors("risk_vectors.json")


def test_kupiec_gives_every_known_answer(known: Any) -> None:
    for case in known["kupiec_pof"]:
        found = kupiec(case["T"], case["x"], case["p"])
        assert found.statistic == pytest.approx(case["recomputed"], rel=1e-9, abs=1e-9)
        assert found.p_value == pytest.approx(case["p_value"], rel=1e-9, abs=1e-12)
        if case["published"] is not None:
            assert found.statistic == pytest.approx(case["published"], rel=2e-2 if case["published"] < 1 else 1e-3)


def test_the_binomial_test_gives_its_known_answer(known: Any) -> None:
    case = known["binomial_z"]
    found = binomial(case["T"], case["x"], case["p"])
    assert found == pytest.approx((case["z"], case["p2"]), rel=1e-9)
    assert found == pytest.approx((case["published_z"], case["published_p"]), abs=1e-5)


def test_christoffersen_gives_every_known_answer(known: Any) -> None:
    for case in known["christoffersen"]:
        hits = [at in case["hit_indices_0based"] for at in range(case["T"])]
        assert list(transitions(hits)) == case["n00_n01_n10_n11"]
        alone, both = independence(hits), conditional_coverage(hits, 0.01)
        assert alone == pytest.approx((case["LR_ind"], case["p_ind"]), rel=1e-9)
        assert kupiec(case["T"], len(case["hit_indices_0based"]), 0.01).statistic == pytest.approx(case["LR_uc"])
        assert both == pytest.approx((case["LR_cc"], case["p_cc"]), rel=1e-9)


def test_the_traffic_light_gives_basels_table(known: Any) -> None:
    for row in known["basel_traffic_light_250_99"]:
        light = traffic_light(250, row["exceptions"], 0.01)
        assert (light.zone, light.multiplier) == (row["zone"], row["MAR32_multiplier"])
        assert 100 * light.cumulative == pytest.approx(row["cum_prob_pct"], rel=1e-9)
        assert round(100 * light.cumulative, 2) == pytest.approx(row["cum_prob_pct_published"], abs=0.011)
    assert len(MULTIPLIERS) == len(known["basel_traffic_light_250_99"])


def test_the_zones_of_other_samples_begin_where_they_are_known_to(known: Any) -> None:
    for row in known["basel_zone_boundaries"]:
        assert zone_bounds(row["T"], row["p"]) == (row["amber_from"], row["red_from"])
        assert traffic_light(row["T"], row["amber_from"], row["p"]).multiplier == (
            1.7 if (row["T"], row["p"]) == (250, 0.01) else None
        )


@pytest.mark.parametrize("observations", [1, 5, 6, 250])
def test_a_sample_without_a_hit_is_green_however_few_it_holds(observations: int) -> None:
    assert traffic_light(observations, 0, 0.01).zone == traffic_light(observations, 0, 1e-6).zone == "green"
    assert traffic_light(observations, observations, 0.01).zone == "red"


def test_kupiec_and_the_traffic_light_may_disagree() -> None:
    assert kupiec(250, 6, 0.01).p_value > 0.05
    assert traffic_light(250, 6, 0.01).zone == "amber"
    assert kupiec(250, 0, 0.01).p_value < 0.05
    assert traffic_light(250, 0, 0.01).zone == "green"


def test_simulated_critical_values_of_expected_shortfall_are_the_known_ones(known: Any) -> None:
    for case in known["acerbi_szekely_Z2"]["published"]:
        tail = np.inf if case["dist"] == "normal" else 3.0
        found = np.quantile(null_distribution(case["N"], 1 - case["level"], tail), 1 - case["test_level"])
        assert found == pytest.approx(case["critical"], abs=0.012)
        refused = case["test_stat_example"] < found if "test_stat_example" in case else False
        assert refused == (case["dist"] == "normal")
    for case in known["acerbi_szekely_Z2"]["monte_carlo"]:
        spread = 0.1 if case["q"] < 0.001 else 0.01
        assert np.quantile(null_distribution(case["N"], 0.025), case["q"]) == pytest.approx(case["crit"], abs=spread)


def test_z2_is_its_formula_and_near_nothing_for_right_forecasts() -> None:
    rng = np.random.default_rng(5)
    pnl = rng.normal(size=20_000)
    var, es = np.full(20_000, 1.959964), np.full(20_000, 2.337803)
    by_hand = sum(x / (20_000 * 0.025 * 2.337803) for x in pnl if x < -1.959964) + 1
    assert z2(pnl, var, es, 0.025) == pytest.approx(by_hand)
    assert abs(z2(pnl, var, es, 0.025)) < 0.12
    some = slice(1_000)  # each simulated twin of the test has as many
    assert acerbi_szekely(3 * pnl[some], var[some], es[some], 0.025).p_value == 0.0


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: kupiec(0, 0, 0.01), "one observation"),
        (lambda: kupiec(10, 11, 0.01), "no more hits"),
        (lambda: kupiec(10, 1, 1.0), "between 0 and 1"),
        (lambda: independence([True]), "two observations"),
        (lambda: z2([1.0], [1.0], [0.0], 0.025), "must be positive"),
        (lambda: z2([1.0], [1.0, 2.0], [1.0], 0.025), "one value per observation"),
    ],
)
def test_what_cannot_be_tested_is_refused_by_name(call: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        call()


def observed(count: int, step_us: int = HOUR_US) -> list[Observation]:
    pnl = np.random.default_rng(11).normal(size=count)
    return [Observation(at * step_us, x, 2.326348, 2.337803, 1.959964) for at, x in enumerate(pnl)]


def test_right_hourly_figures_pass_every_test_and_halved_ones_fail() -> None:
    good = evaluate_figures("firm", "hour", observed(2_000))
    assert good.tests is not None
    assert (good.refused, good.tests.light.zone) == ([], "green")
    halved = [
        one._replace(var_99=one.var_99 / 2, var_975=one.var_975 / 2, es_975=one.es_975 / 2) for one in observed(2_000)
    ]
    assert {"kupiec", "conditional", "shortfall", "traffic light"} <= set(
        evaluate_figures("firm", "hour", halved).refused
    )


def test_too_few_observations_are_said_to_give_no_power() -> None:
    for every, least in (("hour", 600), ("day", 250)):
        few = evaluate_figures("firm", every, observed(least - 1, 24 * HOUR_US))
        assert few.tests is None
        assert (
            few.reason
            == f"{least - 1} observations of one {every} give the tests no power; at least {least} are needed"
        )
        assert evaluate_figures("firm", every, observed(least, 24 * HOUR_US)).tests is not None


def test_observations_that_overlap_are_refused() -> None:
    close = observed(2_000, HOUR_US // 2)
    with pytest.raises(ValueError, match="less than one hour apart"):
        evaluate_figures("firm", "hour", close)
    assert cumulative(250, 250, 0.01) == pytest.approx(1.0)
