"""Contagion by claims: known answers, equality with slow obvious references, and what each model promises."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from seawall.ops.lab.stress import (
    Shocks,
    contagion_outcome,
    debtrank,
    eisenberg_noe,
    estimate_losses,
    furfine,
    joint_failures,
    settle_scenarios,
)
from seawall.ops.lab.stress._clearing import clear_debts
from seawall.ops.lab.stress._models import economic_value, rank_failures, single_hit, single_hit_debtrank
from seawall.ops.lab.stress._network import Network, make_network, unshocked_state
from seawall.schemas.errors import UsageError
from seawall_testing.bench import benchmark
from seawall_testing.paths import SHARED
from seawall_testing.reference_models import slow_clearing, slow_debtrank, slow_furfine

BANKS = SHARED / "data" / "interbank_networks"


def _vectors() -> dict[str, Any]:
    path = SHARED / "vectors" / "risk_vectors.json"
    return json.loads(path.read_text()) if path.exists() else {}


VECTORS = _vectors()
needs_vectors = pytest.mark.skipif(not VECTORS, reason="the known answers in shared/vectors are not here")
needs_banks = pytest.mark.skipif(not BANKS.exists(), reason="the bank networks in shared/data are not here")


def _cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case.get("name", str(at))) for at, case in enumerate(VECTORS.get(name, []))]


def from_table(lent: Any, **sheet: Any) -> Network:
    """Return a network from a table of what its rows lend to its columns."""
    table = np.array(lent, dtype=float)
    lender, borrower = table.nonzero()
    return make_network((lender, borrower, table[lender, borrower]), **sheet)


def clearing_network(case: dict[str, Any]) -> Network:
    owed = np.array(case.get("L_ij_owed_by_i_to_j", case.get("L")), dtype=float)
    debts = case.get("external_debt") or np.zeros(len(owed))
    return from_table(owed.T, external_assets=case["e"], external_liabilities=debts)


# --- known answers ----------------------------------------------------------------------------------------------------


@needs_vectors
@pytest.mark.parametrize("case", _cases("eisenberg_noe"))
def test_a_clearing_is_the_known_answer(case: dict[str, Any]) -> None:
    network = clearing_network(case)
    found = clear_debts(network)
    assert network.owed.tolist() == case["p_bar"]
    assert found.payments == pytest.approx(case["p_star"], abs=1e-9)
    assert found.equity == pytest.approx(case["equity"], abs=1e-9)
    assert [list(names) for names in found.rounds] == case["fictitious_default_rounds"]
    rest = unshocked_state(eisenberg_noe(network))
    assert network.owed - rest.passed[0] == pytest.approx(case["p_star"], abs=1e-9)
    assert (rest.passed[0] > 1e-9).nonzero()[0].tolist() == case["defaulted"]


@needs_vectors
def test_of_several_clearing_vectors_the_greatest_is_returned() -> None:
    network = clearing_network(VECTORS["eisenberg_noe_nonunique"])
    assert clear_debts(network).payments.tolist() == [1.0, 1.0]
    assert unshocked_state(eisenberg_noe(network)).passed.tolist() == [[0.0, 0.0]]


def ring() -> Network:
    meta = VECTORS["neva_ring_meta"]
    return from_table(
        meta["interbank_assets"], external_assets=meta["ext_assets"], external_liabilities=meta["ext_liab"]
    )


@needs_vectors
@pytest.mark.parametrize("case", _cases("neva_ring"))
def test_the_ring_of_neva_comes_to_the_known_equities(case: dict[str, Any]) -> None:
    network, shock = ring(), np.array(case["shock"])
    assert network.equity == pytest.approx(VECTORS["neva_ring_meta"]["E0"])
    assert clear_debts(network, shock).worth == pytest.approx(case["eisenberg_noe_equity"], abs=1e-9)
    by_model = {"eisenberg_noe": eisenberg_noe(network), "furfine": furfine(network)}
    for name, model in by_model.items():
        (rest,) = settle_scenarios(model, Shocks.dense(shock[None]))
        assert network.equity - rest.losses[0] == pytest.approx(case[f"{name}_equity"], abs=1e-9)
    (rest,) = settle_scenarios(debtrank(network), Shocks.dense((shock / network.equity)[None]))
    assert network.equity * (1 - rest.losses[0]) == pytest.approx(case["linear_debtrank_equity"], abs=1e-9)


def debtrank_network(case: dict[str, Any]) -> Network:
    lent = case["interbank_assets_A_ij_i_lends_to_j"]
    return from_table(lent, external_assets=np.full(len(lent), 100.0), equity=case["equity"])


@needs_vectors
@pytest.mark.parametrize("case", _cases("debtrank"))
def test_debtrank_of_both_kinds_is_the_known_answer(case: dict[str, Any]) -> None:
    network, h0 = debtrank_network(case), np.array([case["h0"]], dtype=float)
    assert single_hit(network, h0)[0] == pytest.approx(case["h_2012_single_hit"], abs=1e-9)
    assert economic_value(network) == pytest.approx(case["v_economic_value"], abs=1e-9)
    assert single_hit_debtrank(network, h0)[0] == pytest.approx(case["R_2012"], abs=1e-9)
    model = debtrank(network)
    (rest,) = settle_scenarios(model, Shocks.dense(h0))
    assert rest.passed[0] == pytest.approx(case["h_2015_linear"], abs=1e-9)
    lost = contagion_outcome(model, Shocks.dense(h0)).contagion[0] / network.equity.sum()
    assert lost == pytest.approx(case["loss_2015_equity_weighted"], abs=1e-9)


def test_each_claim_is_set_against_the_equity_of_its_own_lender_not_of_the_last_node() -> None:
    """The reference implementation neva captures its loop's index late and scales all by the last node's equity."""
    network = from_table([[0, 5, 0], [0, 0, 4], [0, 0, 0]], external_assets=[9, 9, 9], equity=[20, 10, 8])
    (rest,) = settle_scenarios(debtrank(network), Shocks.dense(np.array([[0, 0, 1.0]])))
    assert rest.passed[0] == pytest.approx([0.1, 0.4, 1.0])  # by the last node's equity: [0.3125, 0.5, 1.0]


# --- what each model promises -----------------------------------------------------------------------------------------


@st.composite
def networks(draw: st.DrawFn, nodes_max: int = 7) -> Network:
    nodes = draw(st.integers(2, nodes_max))
    amounts = st.integers(0, 12).map(lambda value: float(max(value - 5, 0)))
    table = np.array(draw(st.lists(amounts, min_size=nodes * nodes, max_size=nodes * nodes))).reshape(nodes, nodes)
    np.fill_diagonal(table, 0.0)
    columns = st.lists(st.integers(0, 9).map(float), min_size=nodes, max_size=nodes)
    equity = st.lists(st.integers(-1, 9).map(float), min_size=nodes, max_size=nodes)
    return from_table(table, external_assets=draw(columns), external_liabilities=draw(columns), equity=draw(equity))


@settings(max_examples=40, deadline=None)
@given(networks())
def test_the_clearing_vector_is_the_one_that_pays_most(network: Network) -> None:
    """E&N, lemma 4: whoever maximises what is paid in all, given limited liability, finds the greatest vector."""
    owed = network.owed
    share = network.by_borrower.toarray() / np.where(owed > 0, owed, 1.0)[:, None]
    bounds = [(0.0, most) for most in owed]
    best = linprog(-np.ones(len(owed)), np.eye(len(owed)) - share.T, network.external_assets, bounds=bounds)
    assert clear_debts(network).payments == pytest.approx(best.x, abs=1e-6)
    assert owed - unshocked_state(eisenberg_noe(network)).passed[0] == pytest.approx(best.x, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(networks(), st.lists(st.integers(0, 20).map(float), min_size=7, max_size=7))
@example(from_table([[0, 0, 0], [9, 0, 0], [0, 9, 0]], external_assets=[1, 5, 0]), [6.0] + [0.0] * 6)
@example(from_table([[0, 9], [9, 0]], external_assets=[1, 0]), [6.0] + [0.0] * 6)
def test_a_shock_may_take_more_than_a_node_has_outside(network: Network, taken: list[float]) -> None:
    shock = np.array(taken[: network.nodes])
    (rest,) = settle_scenarios(eisenberg_noe(network), Shocks.dense(shock[None]))
    assert clear_debts(network, shock).payments == pytest.approx(network.owed - rest.passed[0], abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(networks())
def test_scenarios_at_once_are_the_slow_reference_one_by_one(network: Network) -> None:
    for model, slow in ((eisenberg_noe, slow_clearing), (furfine, slow_furfine), (debtrank, slow_debtrank)):
        made = model(network)
        rests = {rest.first: rest for rest in settle_scenarios(made, Shocks.sweep(made))}
        for node in range(network.nodes):
            assert rests[0].passed[node] == pytest.approx(slow(network, node), abs=1e-7), (model.__name__, node)


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(0, 6), st.integers(0, 6))
def test_a_second_failure_never_makes_losses_less(network: Network, one: int, two: int) -> None:
    one, two = one % network.nodes, two % network.nodes
    for model in (eisenberg_noe(network), furfine(network), debtrank(network)):
        shocks = Shocks.failing(model, np.array([0, 1, 1]), np.array([one, one, two]), 2)
        (rest,) = settle_scenarios(model, shocks)
        assert (rest.passed[1] >= rest.passed[0] - 1e-9).all()


def test_a_node_without_equity_has_failed_before_any_shock_and_counts_in_none() -> None:
    network = from_table([[0, 5, 0], [0, 0, 4], [0, 0, 0]], external_assets=[9, 9, 9], equity=[20, 10, 0])
    for model in (furfine(network), debtrank(network)):
        assert unshocked_state(model).passed[0, 2] == 1.0
        found = contagion_outcome(model, Shocks.sweep(model))
        assert found.hit.tolist() == [1, 1, 0]
        assert found.contagion[2] == 0.0


def test_claims_that_go_round_almost_without_loss_clear_exactly() -> None:
    owed = np.array([[0, 1.0], [1.0, 0]])
    network = from_table(owed.T, external_assets=[0.0, 0.0], external_liabilities=[1e-7, 1e-7])
    assert clear_debts(network).payments == pytest.approx([0.0, 0.0], abs=1e-9)


def test_what_is_not_a_network_is_refused_with_the_row() -> None:
    with pytest.raises(UsageError, match=r"amount, row 1: -2.0 must be finite and at or above 0"):
        make_network(([0, 1], [1, 0], [1.0, -2.0]), [1.0, 1.0])
    with pytest.raises(UsageError, match=r"borrower, row 0: 7 is not a node; there are 2"):
        make_network(([0], [7], [1.0]), [1.0, 1.0])
    with pytest.raises(UsageError, match=r"claim, row 0: 1 is a claim on itself"):
        make_network(([1], [1], [1.0]), [1.0, 1.0])


# --- chance and order -------------------------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_scenarios_and_the_share_of_failures_asked_for() -> None:
    network = from_table(np.zeros((50, 50)), external_assets=np.ones(50))
    model, odds = furfine(network), np.full(50, 0.1)
    drawn = [joint_failures(model, odds, 0.2, 4_000, seed) for seed in (3, 3, 4)]
    assert np.array_equal(drawn[0].node, drawn[1].node)
    assert not np.array_equal(drawn[0].node[:50], drawn[2].node[:50])
    per_scenario = contagion_outcome(model, drawn[0]).hit
    mean = estimate_losses(per_scenario.astype(float), confidence=0.9999).mean
    assert mean.low < 5.0 < mean.high
    assert per_scenario.var() > 4 * 50 * 0.1 * 0.9  # the common factor: alone, the variance would be 4.5


def test_confidence_intervals_hold_the_true_figures_as_often_as_they_say() -> None:
    draw, held = np.random.default_rng(5), np.zeros(3)
    truth = (1.0, -np.log(0.05), 1 - np.log(0.05))  # of an exponential: mean, 95 % quantile, shortfall
    for _ in range(400):
        found = estimate_losses(draw.exponential(size=800), level=0.95)
        held += [one.low <= true <= one.high for one, true in zip(found[:3], truth, strict=True)]
    assert (held / 400 > 0.91).all()
    assert (held / 400 < 0.985).all()


def test_the_worst_pair_may_hold_none_but_the_third_worst() -> None:
    """Nodes 0 and 1 ruin the same lender; 2 ruins another: 0 with 2 hurts more than 0 with 1."""
    table = np.zeros((5, 5))
    table[3, 0], table[3, 1], table[4, 2] = 10.0, 9.0, 5.0
    network = from_table(
        table, external_assets=[1, 1, 1, 1, 1], external_liabilities=[1, 1, 1, 0, 0], equity=[1, 1, 1, 8, 4]
    )
    model = debtrank(network)
    found = rank_failures(model, network.names)
    assert [one.nodes[0] for one in found.alone[:3]] == ["0", "1", "2"]
    assert found.covers[0].nodes == ("0", "2")
    assert found.covers[0].contagion == pytest.approx(12.0)


# --- the bank networks ------------------------------------------------------------------------------------------------


@needs_banks
@pytest.mark.parametrize("quarter", ["2019Q4", "2023Q1"])
def test_failures_among_4548_banks_equal_the_slow_reference_on_samples(quarter: str) -> None:
    files = (BANKS / f"ai4risk_{kind}_{quarter}.csv.gz" for kind in ("nodes", "edge"))
    loaded = benchmark("_bank_networks").read_network(*files)
    network = loaded.network
    assert network.nodes == 4_548
    assert len(network.amount) + loaded.negative_claims == {"2019Q4": 12_423, "2023Q1": 12_462}[quarter]
    sample = np.array([0, 5, 43, 900])
    for model, slow in ((eisenberg_noe, slow_clearing), (furfine, slow_furfine), (debtrank, slow_debtrank)):
        made = model(network)
        passed = np.concatenate(
            [rest.passed for rest in settle_scenarios(made, Shocks.failing(made, np.arange(4), sample, 4))]
        )
        for at, node in enumerate(sample.tolist()):
            scale = np.maximum(made.scale, 1.0)
            assert np.abs(passed[at] - slow(network, node)).max() <= 1e-9 * scale.max(), (model.__name__, node)
