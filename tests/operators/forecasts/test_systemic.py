"""Systemic indicators: turbulence, absorption, stretch, pegs and contagion against their formulas; one composite."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seawall.operators.core.base import eigenvalues, mahalanobis, pack
from seawall.operators.core.forecasts import INDICATOR_WEIGHTS, STRESS_ALARM, MarketState, SystemicStress
from seawall.operators.core.forecasts._cascades import (
    NODES_MAX,
    claims_network,
    debt_rank_centralities,
    debt_rank_losses,
)
from seawall.operators.core.forecasts._systemic_stress import HOUR_MIN, EwmStatistics, ReturnComovement
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.paths import SHARED, TESTS
from seawall_testing.pipeline import PipelineRun, run_pipeline

VECTORS = SHARED / "vectors" / "risk_vectors.json"
QUIET = MarketState(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(3), [], {})
ON: Json = {"forecasts": {"enabled": True}}


def correlated(hours: int, rho: float = 0.7, count: int = 6, seed: int = 2) -> np.ndarray:
    """Return hourly prices of assets that all correlate by ``rho``, by 1 % deviations."""
    rng = np.random.default_rng(seed)
    common, own = rng.standard_normal((hours, 1)), rng.standard_normal((hours, count))
    return 100 * np.exp(0.01 * (rho**0.5 * common + (1 - rho) ** 0.5 * own).cumsum(axis=0))


def told(**known: Any) -> MarketState:
    return QUIET._replace(**known)


def learned(prices: np.ndarray) -> ReturnComovement:
    found = ReturnComovement()
    for hour, price in enumerate(prices):
        found.look(hour * HOUR_MIN, price)
    return found


# --- linear algebra ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5, 8, 17])
def test_eigenvalues_and_distances_are_those_of_lapack(count: int) -> None:
    rng = np.random.default_rng(count)
    drawn = rng.normal(size=(count, count + 3))
    matrix, values = drawn @ drawn.T, rng.normal(size=count)
    assert eigenvalues(matrix) == pytest.approx(np.linalg.eigvalsh(matrix)[::-1])
    assert mahalanobis(matrix, values) == pytest.approx(values @ np.linalg.solve(matrix, values))


def test_eigenvalues_of_a_singular_and_of_a_diagonal_matrix_are_exact_enough() -> None:
    assert eigenvalues(np.ones((4, 4))) == pytest.approx([4.0, 0.0, 0.0, 0.0], abs=1e-12)
    assert eigenvalues(np.diag([1.0, 3.0, 2.0])).tolist() == [3.0, 2.0, 1.0]


# --- turbulence and absorption ----------------------------------------------------------------------------------------


def test_turbulence_is_one_on_average_and_an_unusual_mix_of_moves_is_worse_than_a_usual_one() -> None:
    prices = correlated(300)
    moves, seen = ReturnComovement(), []
    for hour, price in enumerate(prices):
        moves.look(hour * HOUR_MIN, price)
        seen.append(moves.turbulence)
    assert moves.state == "ready"
    assert np.mean(seen[100:]) == pytest.approx(1.0, abs=0.2)
    together, against = learned(prices), learned(prices)
    together.look(300 * HOUR_MIN, prices[-1] * np.exp(0.03))
    against.look(300 * HOUR_MIN, prices[-1] * np.exp([0.03, -0.03] * 3))
    assert against.turbulence > 3 * together.turbulence > 3 * np.mean(seen[100:])


def test_a_fall_is_seen_within_the_minute_in_which_it_happens_and_is_no_longer_news_an_hour_later() -> None:
    prices = correlated(200)
    moves, first = learned(prices), 199 * HOUR_MIN
    for minute in range(1, 130):
        moves.look(first + minute, prices[-1] * (0.8 if minute >= 30 else 1.0))
        if minute in (29, 30, 89, 90):
            assert (moves.turbulence > 50) == (minute in (30, 89))


def test_absorption_rises_when_everything_moves_as_one() -> None:
    prices = correlated(400, rho=0.3)
    moves = learned(prices)
    usual = moves.absorption
    for hour, price in enumerate(correlated(30, rho=0.98, seed=5), 400):
        moves.look(hour * HOUR_MIN, price * prices[-1] / 100)
    assert moves.absorption > usual + 0.2
    assert moves.shift > 3.0
    assert moves.absorption_state == "ready"


@pytest.mark.parametrize(
    ("prices", "state"),
    [
        (correlated(20), "warming"),
        (np.full((100, 4), 7.0), "constant"),
        (np.repeat(correlated(100, count=2), 2, axis=1), "singular"),
        (correlated(100, count=1), "warming"),
        (np.full((100, 3), np.nan), "warming"),
    ],
    ids=["too few hours", "prices that never move", "the same asset twice", "one asset", "no prices"],
)
def test_what_cannot_be_known_is_a_state(prices: np.ndarray, state: str) -> None:
    moves = learned(prices)
    assert moves.state == state
    assert np.isfinite([moves.turbulence, moves.absorption, moves.shift]).all()
    assert (moves.turbulence > 0) == (state == "singular")


def test_an_asset_that_comes_later_counts_once_it_is_known() -> None:
    prices = correlated(200)
    some = np.where(np.arange(200)[:, None] < 120, [1.0] * 5 + [np.nan], 1.0) * prices
    moves = ReturnComovement()
    for hour, price in enumerate(some):
        moves.look(hour * HOUR_MIN, price[: 5 if hour < 60 else 6])
    assert moves.state == "ready"
    assert moves.turbulence == pytest.approx(learned(prices).turbulence, rel=0.5)


# --- what is usual ----------------------------------------------------------------------------------------------------


def test_a_stretch_is_a_distance_in_deviations_once_enough_is_known() -> None:
    usual, rng = EwmStatistics(0.999, 1e-6), np.random.default_rng(1)
    for _ in range(40):
        usual.learn(np.array([0.5, np.nan]))
    assert np.isnan(usual.stretch(np.array([0.5, 1.0]))).all()
    for value in rng.normal(0.5, 0.1, 2000):
        usual.learn(np.array([value, np.nan]))
    assert usual.stretch(np.array([0.9, 1.0]))[0] == pytest.approx(4.0, rel=0.15)


# --- contagion --------------------------------------------------------------------------------------------------------


def test_linear_debtrank_gives_the_published_examples() -> None:
    if not VECTORS.exists():
        pytest.skip("the published examples are not beside this checkout")
    for case in json.loads(VECTORS.read_text())["debtrank"]:
        claims, funds = np.array(case["interbank_assets_A_ij_i_lends_to_j"]), np.array(case["equity"])
        lost = debt_rank_losses(claims, funds, np.array([case["h0"]]))[0]
        assert lost == pytest.approx(case["h_2015_linear"], abs=1e-9)
        share = float((lost - case["h0"]) @ funds / funds.sum())
        assert share == pytest.approx(case["loss_2015_equity_weighted"], abs=1e-9)


def test_the_most_central_is_whom_most_have_lent_to_and_unknown_own_funds_neither_count_nor_pass_on() -> None:
    claims = [("hub", name, 6.0) for name in "abc"] + [("a", "b", 1.0), ("hub", "x", 100.0), ("x", "c", 50.0)]
    found = claims_network(claims, {"hub": 20.0, "a": 10.0, "b": 10.0, "c": 10.0})
    central = dict(zip(found.names, debt_rank_centralities(found).tolist(), strict=True))
    assert central["hub"] == pytest.approx((6 + 6.6 + 6) / 30)
    assert central["x"] == pytest.approx(10 / 50)  # c has lent it more than it has
    assert central["c"] == 0.0


def test_a_large_network_keeps_its_largest_nodes() -> None:
    claims = [(f"n{at}", "hub", float(at)) for at in range(1, 101)]
    found = claims_network(claims, {})
    assert len(found.names) == NODES_MAX
    assert {"hub", "n100"} <= set(found.names)
    assert "n1" not in found.names


# --- the composite ----------------------------------------------------------------------------------------------------


def test_calm_is_0_and_each_part_alone_takes_the_composite_to_its_weight() -> None:
    state = SystemicStress()
    state.look(0, QUIET)
    assert state.stress == 0.0
    assert {part.state for part in state.parts.values()} == {"warming", "empty"}
    state.look(1, told(collateral=np.array([100.0, 60.0, 30.0])))
    assert state.parts["stablecoin_share"][:2] == (0.6, 1.0)
    assert state.stress == pytest.approx(INDICATOR_WEIGHTS["stablecoin_share"])
    claims = [("x", "a", 50.0), ("x", "b", 50.0)]
    state.look(2, told(claims=claims, own_funds={"a": 50.0, "b": 50.0, "x": 1.0}))
    assert (state.stress, state.central) == (pytest.approx(INDICATOR_WEIGHTS["network_centrality"]), "x")


def test_funding_and_open_interest_are_stretched_where_they_leave_what_is_usual() -> None:
    state, rng = SystemicStress(), np.random.default_rng(3)
    for hour in range(100):
        noise = rng.normal(size=4)
        state.look(hour * 60, told(funding=1e-4 + 1e-5 * noise[:2], interest=np.exp(0.02 * noise[2:] + 5)))
    assert state.stress < 0.3
    state.look(6001, told(funding=np.full(2, 1e-3), interest=np.exp([5.5, 5.5])))
    assert [state.parts[name].score for name in ("funding_stretch", "open_interest_stretch")] == [1.0, 1.0]
    assert state.stress == pytest.approx(1 - 0.7 * 0.7)


def test_a_crash_takes_the_composite_over_its_alarm_at_once_and_fades_over_hours() -> None:
    state, prices = SystemicStress(), correlated(200)
    for hour, price in enumerate(prices):
        state.look(hour * 60, told(price=price))
    before = state.stress
    seen = []
    for minute in range(199 * 60 + 1, 199 * 60 + 1001, 10):
        state.look(minute, told(price=prices[-1] * 0.7))
        seen.append(state.stress)
    assert before < STRESS_ALARM / 2
    assert seen[0] >= STRESS_ALARM
    assert seen[12] > 0.7 * seen[0]
    assert seen[-1] < 0.6 * seen[0]
    assert state.rank < 1.0
    assert 200 <= len(state._history) <= 220


def test_indicators_go_on_from_a_snapshot_with_the_same_bits() -> None:
    rng = np.random.default_rng(9)
    whole, part = SystemicStress(), SystemicStress()
    for at, price in enumerate(correlated(120)):
        known = told(price=price, funding=rng.normal(size=2), interest=rng.random(2), collateral=np.ones(3))
        for state in (whole, part):
            state.look(at * 45, known)
        if at % 31 == 7:
            kept = part.snapshot()
            part = SystemicStress()
            part.restore(kept)
    assert pack("x", {"state": whole.snapshot()}) == pack("x", {"state": part.snapshot()})


WORKER = """
import hashlib
import sys
sys.path[:0] = sys.argv[1:]
from test_systemic import digest
print(digest())
"""


def digest() -> str:
    """Return a hash of the state after a hundred hours of forty assets, perpetuals and a network."""
    rng, state = np.random.default_rng(8), SystemicStress()
    claims = [
        (f"n{a}", f"n{b}", float(w)) for a, b, w in zip(*rng.integers(0, 30, (2, 200)), rng.random(200), strict=True)
    ]
    funds = {f"n{at}": 1.0 + at for at in range(30)}
    for hour, price in enumerate(100 + rng.random((100, 40)).cumsum(axis=0)):
        known = told(price=price, funding=rng.random(9), interest=rng.random(9), claims=claims, own_funds=funds)
        state.look(60 * hour, known)
    return hashlib.sha256(pack("x", {"state": [state.snapshot(), state.stress]})).hexdigest()


def test_the_bits_do_not_depend_on_the_features_of_the_processor() -> None:
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    features = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": features}
    command = [sys.executable, "-c", WORKER, str(Path(__file__).parent), str(TESTS)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest()


# --- in the stream ----------------------------------------------------------------------------------------------------


def stablecoin_book() -> list[Json | list[Json]]:
    """Return two clients with stablecoins, own funds and a debt between them; the peg breaks in the third minute."""
    spot = {"kind": "spot", "base": "USDT", "underlying": "USDT"}
    tether = {"type": "asset", "asset": "USDT", "class": "stablecoin", "peg": "USD"}
    loan = {"obligation_id": "o1", "from": "b", "to": "a", "asset": "USD", "amount": "40", "kind": "loan"}
    parties: list[Json | list[Json]] = []
    for name in "ab":
        party, own = account(name)
        parties.append([{**party, "own_funds": "50"}, own])
    return [
        tether,
        instrument(initial_margin_rate="0.1", maintenance_margin_rate="0.05"),
        instrument("USDT-USD", **spot),
        *parties,
        mark(T0),
        mark(T0, "1", "USDT-USD"),
        transfer(T0, "t1", "a", asset="USDT", amount="60"),
        transfer(T0, "t2", "b", asset="USD", amount="40"),
        {"type": "obligation", "event_time_us": T0, **loan},
        {"type": "open_interest", "event_time_us": T0, "venue": "b", "instrument": "ETH-PERP", "quantity": "5"},
        fill(T0, "f1", "b", quantity="0.1"),
        *(mark(T0 + at * SECOND, f"{100 + at % 3}") for at in range(10, 120, 10)),
        mark(T0 + 130 * SECOND, "0.9", "USDT-USD"),
        *(mark(T0 + at * SECOND) for at in range(140, 240, 10)),
    ]


@pytest.fixture(scope="module")
def depeg_pipeline(tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    limits: list[Json] = [
        {"id": "margin", "scope": "account:*", "measure": "margin_ratio", "hard": 1.0},
        {"id": "stress", "scope": "firm", "measure": "systemic_stress", "warning": 0.7, "hard": 0.95},
        {"id": "pegs", "scope": "firm", "measure": "stablecoin_share", "soft": 0.5},
    ]
    halt = {"kind": "CANCEL_ORDERS", "target": "firm"}
    playbook: list[Json] = [{"id": "calm", "when": {"limit": "stress", "level": "warning"}, "commands": [halt]}]
    return run_pipeline(
        tmp_path_factory.mktemp("desk"), *stablecoin_book(), limits=limits, playbook=playbook, shards=2, **ON
    )


def rows(ran: PipelineRun) -> list[Json]:
    return [value["systemic"] for value in ran.topic("forecasts") if "systemic" in value]


def test_the_composite_and_its_parts_are_published_once_a_minute_with_their_states(depeg_pipeline: PipelineRun) -> None:
    first, *_, last = rows(depeg_pipeline)
    assert len(rows(depeg_pipeline)) == 5
    assert {name: part["weight"] for name, part in first["parts"].items()} == INDICATOR_WEIGHTS
    assert first["parts"]["turbulence"]["state"] == "warming"
    assert first["parts"]["stablecoin_share"]["value"] == pytest.approx(0.6)
    assert first["parts"]["stablecoin_share"]["score"] == 0.0
    assert last["parts"]["stablecoin_share"]["score"] == 1.0
    assert last["most_central"] == "house"  # which holds what both have paid in
    assert last["parts"]["network_centrality"]["value"] > 0


def test_a_limit_on_the_composite_sets_off_a_playbook_like_any_other(depeg_pipeline: PipelineRun) -> None:
    assert depeg_pipeline.breaches("stress") == [("firm", "none", "warning")]
    assert depeg_pipeline.breaches("pegs")[0] == ("firm", "none", "soft")
    assert ("CANCEL_ORDERS", "firm") in depeg_pipeline.commands()
    known = depeg_pipeline.measures("firm")
    last = rows(depeg_pipeline)[-1]
    assert known["systemic_stress"] == last["systemic_stress"]
    assert {name: known[name] for name in INDICATOR_WEIGHTS} == {
        name: part["value"] for name, part in last["parts"].items()
    }


def test_open_interest_is_journaled_where_forecasts_are_made_and_else_left_to_the_market(
    depeg_pipeline: PipelineRun, tmp_path: Path
) -> None:
    assert any(b"open_interest" in value for value in depeg_pipeline.values)
    without = run_pipeline(tmp_path, *stablecoin_book())
    assert not any(b'"open_interest"' in value for value in without.values)
