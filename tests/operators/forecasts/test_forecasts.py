"""Foresight: volatilities and quantiles learned online, probabilities of breach calibrated on what came, all scored."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seawall.operators.core.base import pack, solve_positive_definite
from seawall.operators.core.forecasts import (
    QUANTILE_LEVELS,
    ForecastState,
    MarginForecasts,
    OnlineLogistic,
    PriceBar,
    VolatilityForecasts,
    logistic_probability,
    sum_sensitivities,
)
from seawall.operators.core.forecasts._account_margins import expected_growth
from seawall.operators.core.forecasts._models import (
    MODEL_NAMES,
    SAMPLE_MAX,
    SHAPE,
    BreachRecord,
    ForecastScores,
    LevelModels,
    sample_forecasts,
)
from seawall.operators.core.forecasts._sensitivities import health_deviation
from seawall.operators.core.forecasts._volatility import VOLATILITY_PRIOR, YEAR_S, AsymmetricScale
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, lines, mark, transfer, write_desk
from seawall_testing.pipeline import PipelineRun, run_pipeline

HOUR = 3600 * SECOND
MARGIN = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05"}
LIMITS: list[Json] = [{"id": "margin", "scope": "account:*", "measure": "margin_ratio", "soft": 0.8, "hard": 1.0}]
ON: Json = {"forecasts": {"enabled": True}}


def walk(steps: int, deviations: Any, seed: int = 3, count: int = 4) -> list[PriceBar]:
    """Return bars of a random walk: close to close by a normal return, the range from it alone."""
    rng = np.random.default_rng(seed)
    returns = rng.standard_normal((steps, count)) * np.broadcast_to(deviations, (steps,))[:, None]
    close = 100.0 * np.exp(returns.cumsum(axis=0))
    before = np.vstack([np.full(count, 100.0), close[:-1]])
    seen = np.ones(count, dtype=bool)
    return [
        PriceBar(now, np.maximum(now, was), np.minimum(now, was), seen) for now, was in zip(close, before, strict=True)
    ]


# --- volatility and quantiles -----------------------------------------------------------------------------------------


def test_a_volatility_that_changes_is_followed_and_quantiles_keep_their_coverage() -> None:
    deviations = np.repeat([0.001, 0.004, 0.002], 1200)
    forecasts, below, count = VolatilityForecasts(60, (60, 600)), np.zeros(len(QUANTILE_LEVELS)), 0
    for index, bar in enumerate(walk(len(deviations), deviations)):
        outcome = forecasts.observe(bar, index).get(60)
        if outcome is not None:
            below += (outcome.returns <= outcome.quantiles)[:, outcome.known].sum(axis=1)
            count += int(outcome.known.sum())
    assert np.abs(below / count - np.array(QUANTILE_LEVELS)).max() < 0.01
    found = np.sqrt(forecasts.horizons[600].variance() / 10)
    assert found == pytest.approx(
        np.full(4, 0.002), rel=0.5
    )  # the range of such a bar is its return: half of the square
    assert bool(forecasts.horizons[600].warm().all())


def test_a_fall_widens_the_side_of_falls_and_leaves_that_of_rises_within_the_variance() -> None:
    sides, own = AsymmetricScale(np.array([8.0, 32.0])), np.full((2, 3), 0.0001)
    sides.grow(3)
    known = np.ones(3, dtype=bool)
    calm = sides.deviations(own, own, known)
    assert calm == pytest.approx(np.full((2, 3), 0.01))
    sides.learn(np.array([-0.1]), np.array([1]))
    falls, rises = sides.deviations(own, own, known)
    assert rises.tolist() == calm[1].tolist()
    assert falls[1] > falls[0] > calm[0, 0], "one that fell tells of the others, too"
    assert falls[0] == falls[2]


def test_sides_without_an_instrument_that_is_known_stand_for_themselves() -> None:
    sides = AsymmetricScale(np.array([8.0, 32.0]))
    assert sides.deviations(np.zeros((2, 0)), np.zeros((9, 0)), np.zeros(0, dtype=bool)).shape == (2, 0)
    sides.grow(1)
    found = sides.deviations(np.full((2, 1), 4.0), np.full((9, 1), 4.0), np.zeros(1, dtype=bool))
    assert found == pytest.approx(np.full((2, 1), 2.0))


def test_what_is_not_known_yet_has_a_wide_prior_and_what_never_moves_a_floor() -> None:
    forecasts = VolatilityForecasts(60, (60, 600))
    still = PriceBar(np.full(2, 5.0), np.full(2, 5.0), np.full(2, 5.0), np.ones(2, dtype=bool))
    forecasts.observe(still, 0)
    assert np.sqrt(forecasts.horizons[600].variance()) == pytest.approx(
        np.full(2, VOLATILITY_PRIOR * (600 / YEAR_S) ** 0.5)
    )
    assert not forecasts.horizons[600].warm().any()
    for index in range(1, 400):
        forecasts.observe(still, index)
    assert forecasts.horizons[600].warm().all()
    assert forecasts.horizons[600].constant().all()
    assert (forecasts.horizons[600].variance() > 0).all()


def test_a_return_after_silence_counts_for_all_the_bars_in_between() -> None:
    dense, sparse = VolatilityForecasts(60, (600,)), VolatilityForecasts(60, (600,))
    for index, bar in enumerate(walk(3000, 0.002)):
        dense.observe(bar, index)
        sparse.observe(bar._replace(seen=np.full(4, index % 5 == 0)), index)
    ratio = sparse.horizons[600].variance() / dense.horizons[600].variance()
    assert 0.4 < ratio.mean() < 2.5


def test_a_wick_is_held_to_what_is_usual() -> None:
    forecasts, bars = VolatilityForecasts(60, (600,)), walk(200, 0.001)
    for index, bar in enumerate(bars[:-1]):
        forecasts.observe(bar, index)
    before = forecasts.horizons[600].variance()
    forecasts.observe(bars[-1]._replace(low=np.full(4, 0.01)), 199)
    assert (forecasts.horizons[600].variance() < 10 * before).all()


def test_volatilities_go_on_from_a_snapshot_with_the_same_bits() -> None:
    bars = walk(300, 0.002)
    whole, part = VolatilityForecasts(60, (60, 600)), VolatilityForecasts(60, (60, 600))
    for index, bar in enumerate(bars):
        whole.observe(bar, index)
        if index == 123:
            state = part.snapshot()
            part = VolatilityForecasts(60, (60, 600))
            part.restore(state)
        part.observe(bar, index)
    assert pack("x", part.snapshot()) == pack("x", whole.snapshot())


# --- first passage ----------------------------------------------------------------------------------------------------


def test_the_deviation_of_a_book_is_that_of_its_covariance() -> None:
    rng = np.random.default_rng(5)
    owner, underlying = rng.integers(0, 6, 40), rng.integers(0, 4, 40)
    gain, margin = rng.normal(size=40), rng.random(40) * 0.1
    spread, rho = rng.random(4) * 0.1, np.array([0.9, 0.5, -0.3, 0.98])
    covariance = np.outer(spread * rho, spread * rho)
    np.fill_diagonal(covariance, spread**2)
    held = sum_sensitivities(owner, underlying, gain, margin)
    found = health_deviation(held, 0.8, spread, rho, 6)
    for one in range(6):
        x = np.bincount(underlying[owner == one], (0.8 * gain - margin)[owner == one], 4)
        assert found[one] == pytest.approx(np.sqrt(x @ covariance @ x))


def test_who_is_small_today_and_was_large_yesterday_will_be_large() -> None:
    growth = expected_growth(np.array([10.0, 100.0, 0.0]), np.array([10_000.0, 10_000.0, 1.0]), 86_400)
    assert growth[0] > 3
    assert growth[1:] == pytest.approx([1.0, 1.0])
    assert expected_growth(np.array([10.0]), np.array([10_000.0]), 60)[0] < 1.1


# --- calibration and scores -------------------------------------------------------------------------------------------


def test_a_small_system_is_solved_as_any_library_does() -> None:
    rng = np.random.default_rng(1)
    half = rng.normal(size=(7, 12))
    right = rng.normal(size=7)
    assert solve_positive_definite(half @ half.T, right) == pytest.approx(np.linalg.solve(half @ half.T, right))


def test_calibration_finds_what_outcomes_follow() -> None:
    rng, model = np.random.default_rng(2), OnlineLogistic((-1.0, 1.5), 4.0)
    for _ in range(200):
        terms = np.stack([np.ones(50), rng.normal(size=50)])
        came = (rng.random(50) < logistic_probability(-2.0 + 0.7 * terms[1])).astype(float)
        model.learn(terms, came, np.ones(50))
    assert model.weights == pytest.approx([-2.0, 0.7], abs=0.1)


def test_a_forecast_is_learned_from_only_when_its_horizon_is_past() -> None:
    models, terms = LevelModels(3600), np.ones((8, 3))
    models.wait(np.arange(3), T0, terms, models.forecast(terms, np.arange(3)), np.ones(3))
    crossed = np.array([T0 + 60 * SECOND, 0, T0 - 60 * SECOND])
    before = pack("x", models.snapshot()[0])  # type: ignore[arg-type]
    models.resolve(T0 + HOUR, crossed)
    assert models.pending.size == 3
    assert pack("x", models.snapshot()[0]) == before  # type: ignore[arg-type]
    models.resolve(T0 + HOUR + 1, crossed)
    assert models.pending.size == 0
    assert (models.scores.count, models.scores.hits) == (3, 1.0)
    assert pack("x", models.snapshot()[0]) != before  # type: ignore[arg-type]


def test_an_account_that_stands_longer_than_forecast_is_believed_and_one_that_breaks_again_and_again_too() -> None:
    record, day = BreachRecord(), 86_400.0
    for at in range(11):
        record.expect(np.array([0, 1]), np.array([1.0, 1.0]) / day, T0 + at * int(day) * SECOND)
        if at % 2:
            record.broke(np.array([1]))
    stood, broken, new = record.log_odds(np.array([0, 1, 7])).tolist()
    fade = np.exp(-1 / 30)
    expected = sum(fade**k for k in range(1, 11))  # a day's worth each, faded with a month
    broke = sum(fade**k for k in (9, 7, 5, 3, 1))
    assert stood == pytest.approx(np.log(SHAPE / (expected + SHAPE)))
    assert broken == pytest.approx(np.log((broke + SHAPE) / (expected + SHAPE)))
    assert new == 0.0
    again = BreachRecord()
    again.restore(record.snapshot())
    assert pack("x", again.snapshot()) == pack("x", record.snapshot())  # type: ignore[arg-type]


def test_a_champion_that_has_lost_its_calibration_is_demoted_by_rule() -> None:
    first = MODEL_NAMES.index("record")
    rng, scores = np.random.default_rng(4), ForecastScores(len(MODEL_NAMES), first)
    for _ in range(40):
        came = (rng.random(50) < 0.1).astype(float)
        said = np.full((len(MODEL_NAMES), 50), 0.1)
        said[first] = 0.5
        scores.learn(said, came, np.ones(50))
    assert bool(scores.lost()[first])
    assert scores.champion != first
    assert scores.ready


def test_of_many_accounts_a_bounded_number_is_kept_that_stands_for_all() -> None:
    said = np.random.default_rng(6).random(1000)
    chosen, weights = sample_forecasts(said)
    assert len(chosen) <= SAMPLE_MAX
    assert weights.sum() == pytest.approx(1000)
    assert set(np.argsort(-said)[:10].tolist()) <= set(chosen.tolist())


# --- through the whole of risk ----------------------------------------------------------------------------------------


def falling(hours: int, step: float = 0.0, jump_s: int = 0, to: float = 60.0) -> list[Json]:
    """Return the records of two accounts, one near its margin, while a price wavers and then jumps."""
    rng, price, records = np.random.default_rng(11), 100.0, []
    for at in range(0, hours * 3600, 20):
        price *= float(np.exp(0.0004 * rng.standard_normal() + step))
        now = to if jump_s and at >= jump_s else price
        records.append(mark(T0 + at * SECOND, f"{now:.4f}"))
    return records


def margin_book(*more: Any, **fields: Any) -> list[Any]:
    return [
        instrument(**MARGIN, **fields),
        account("safe"),
        account("near"),
        transfer(T0, "t1", "safe", amount="1000"),
        transfer(T0, "t2", "near", amount="12"),
        mark(T0),
        fill(T0, "f1", "safe", quantity="1"),
        fill(T0, "f2", "near", quantity="1"),
        *more,
    ]


@pytest.fixture(scope="module")
def jump_pipeline(tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    """Two hours of a quiet price, then a jump over every level at once."""
    return run_pipeline(tmp_path_factory.mktemp("desk"), *margin_book(*falling(3, jump_s=9000)), limits=LIMITS, **ON)


def rows(ran: PipelineRun, name: str, level: str = "hard", horizon_s: int = 86_400) -> list[Json]:
    return [
        row
        for value in ran.topic("forecasts")
        for row in value["forecasts"]
        if (row["scope"], row["level"], row["horizon_s"]) == (f"account:{name}", level, horizon_s)
    ]


def test_the_account_near_its_margin_is_the_likelier_to_break_and_the_nearer_level_the_likelier_to_come(
    jump_pipeline: PipelineRun,
) -> None:
    near, safe, soft = (
        rows(jump_pipeline, "near")[-1],
        rows(jump_pipeline, "safe")[-1],
        rows(jump_pipeline, "near", "soft")[-1],
    )
    assert near["probability"] > 10 * safe["probability"]
    assert soft["probability"] > near["probability"]
    assert near["probability"] > rows(jump_pipeline, "near", horizon_s=3600)[-1]["probability"]
    assert "distance" in near["contributions"]


def test_before_outcomes_are_known_no_forecast_is_ready(jump_pipeline: PipelineRun) -> None:
    states = {row["state"] for row in rows(jump_pipeline, "near")}
    assert states == {"no_volatility", "warming"}
    assert rows(jump_pipeline, "near")[0]["state"] == "no_volatility"


def test_a_jump_over_several_levels_at_once_is_an_outcome_of_each(jump_pipeline: PipelineRun) -> None:
    assert ("account:near", "none", "hard") in jump_pipeline.breaches("margin")
    state = jump_pipeline.foresight[0]
    crossed = state.margins.crossed[:, state.margins.crossed.max(axis=0) > 0]
    assert crossed.shape == (2, 1)
    assert crossed[0, 0] == crossed[1, 0] >= T0 + 9000 * SECOND


def test_scores_are_published_every_hour_with_outcomes_that_are_known(jump_pipeline: PipelineRun) -> None:
    published = [value for value in jump_pipeline.topic("forecasts") if "scores" in value]
    assert [value["as_of_us"] // HOUR for value in published] == sorted({v["as_of_us"] // HOUR for v in published})
    minutes = {row["horizon_s"]: row for row in published[-1]["scores"] if row["level"] == "hard"}
    assert minutes[60]["outcomes"] > minutes[86_400]["outcomes"] == 0
    assert published[-1]["quantiles"][0]["outcomes"] > 100
    assert {row["scope"] for row in published[-1]["volatility"]} == {"instrument:ETH-PERP"}


def test_a_limit_on_a_probability_is_a_limit_like_any_other(tmp_path: Path) -> None:
    early = {"id": "early", "scope": "account:*", "measure": "breach_probability_24h", "hard": 0.05}
    found = run_pipeline(tmp_path, *margin_book(*falling(1)), limits=[*LIMITS, early], **ON)
    assert ("account:near", "none", "hard") in found.breaches("early")
    assert all(scope == "account:near" for scope, _, _ in found.breaches("early"))
    assert found.measures("account:near")["breach_probability_24h"] > 0.05


def test_an_account_that_is_emptied_is_forecast_flat_and_one_in_breach_not_at_all(tmp_path: Path) -> None:
    out = fill(T0 + 3000 * SECOND, "f3", "near", side="sell", quantity="1")
    records = sorted([*falling(1), out], key=lambda one: one["event_time_us"])
    last = rows(run_pipeline(tmp_path, *margin_book(*records), limits=LIMITS, **ON), "near")[-1]
    assert (last["state"], last["probability"]) == ("flat", 0.0)


def test_a_price_that_never_moves_is_a_state_and_no_certainty(tmp_path: Path) -> None:
    still = [mark(T0 + at * SECOND, "100") for at in range(0, 7300, 20)]
    last = rows(run_pipeline(tmp_path, *margin_book(*still), limits=LIMITS, **ON), "near")[-1]
    assert last["state"] == "constant"
    assert 0.0 < last["probability"] < 0.5


def test_forecasts_go_on_from_a_snapshot_with_the_same_bytes(jump_pipeline: PipelineRun) -> None:
    state, again = ForecastState(0), []
    for at, one in enumerate(jump_pipeline.exposed):
        if at % 37 == 0:
            state = ForecastState.restore(state.snapshot())
        again += [record.value for record in state.step(jump_pipeline.watched[at]).outputs.records.get("forecasts", [])]
        assert one.measures.moment.seq == jump_pipeline.watched[at].measures.moment.seq
    assert again == [record.value for record in jump_pipeline.records("forecasts") if record.key == "0"]


def test_a_limit_on_how_fast_margins_rise_is_no_level_of_their_forecast() -> None:
    margins = MarginForecasts()
    speed = {"id": "fast", "scope": "account:*", "measure": "margin_ratio", "direction": "above"}
    speed |= {"soft": 0.2, "hard": 0.3}
    margins.configure([{**speed, "window_s": 60}])
    assert margins.bounds == {"hard": 1.0}
    margins.configure([{**speed, "window_s": 60}, speed])
    assert margins.bounds == {"soft": 0.2, "hard": 0.3}


def test_nothing_is_forecast_unless_the_configuration_says_so(tmp_path: Path) -> None:
    found = run_pipeline(tmp_path, *margin_book(*falling(1)), limits=LIMITS)
    assert not found.records("forecasts")
    assert "forecasts" not in json.loads(found.values[0])["configuration"]
    unused = found.foresight[0].snapshot()
    assert len(unused) < 1000
    assert ForecastState.restore(unused).snapshot() == unused


def test_a_limit_on_a_forecast_that_nobody_makes_is_refused_with_the_key_that_helps(tmp_path: Path) -> None:
    path = write_desk(tmp_path, {"events.jsonl": lines()})
    path.write_text(path.read_text() + "[limits]\nfile = 'limits.toml'\n")
    (tmp_path / "limits.toml").write_text(
        "[[limit]]\nid = 'early'\nscope = 'account:*'\nmeasure = 'breach_probability_1h'\nhard = 0.5\n"
    )
    with pytest.raises(UsageError, match=r"early is on breach_probability_1h.*enabled = true under \[forecasts\]"):
        load_configuration(path)
