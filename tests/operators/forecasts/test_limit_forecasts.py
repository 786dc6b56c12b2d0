"""Breach forecasts of limits on any kind of scope: structural, calibrated on outcomes, scored, and measures too."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seawall.operators.core.base import pack
from seawall.operators.core.forecasts import FirmForecastState, ForecastState
from seawall.operators.core.forecasts._sensitivities import Sensitivities
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, lines, mark, sequence, transfer
from seawall_testing.pipeline import MemoryBus, PipelineRun, journal_in_order, run_pipeline, write_configuration

ON: Json = {"forecasts": {"enabled": True}}
HOUR_S = 3600
BTC = {"base": "BTC", "maintenance_margin_rate": "0.05", "initial_margin_rate": "0.1"}
LIMITS: list[Json] = [
    {"id": "large", "scope": "counterparty:*", "measure": "gross_notional", "soft": 1050.0, "hard": 1100.0},
    {"id": "owes", "scope": "netting_set:*", "measure": "current_exposure", "hard": 40.0},
    {"id": "poor", "scope": "account:a", "measure": "equity", "direction": "below", "soft": 60.0, "hard": 20.0},
    {"id": "lever", "scope": "account:*", "measure": "leverage", "hard": 30.0},
    {"id": "venue", "scope": "venue:V", "measure": "gross_notional", "hard": 1300.0},
    {"id": "losing", "scope": "firm", "measure": "pnl", "direction": "below", "soft": -3.0, "hard": -8.0},
    {"id": "eth", "scope": "underlying:ETH", "measure": "net_notional", "direction": "below", "hard": -1300.0},
    {"id": "wrong", "scope": "counterparty:*", "measure": "wrong_way", "hard": 1.0},
    {"id": "likely", "scope": "counterparty:*", "measure": "breach_probability_24h", "hard": 0.02},
    {"id": "early", "scope": "firm", "measure": "breach_probability_24h", "hard": 0.02},
    {"id": "there", "scope": "venue:*", "measure": "breach_probability_1h", "soft": 0.99},
]


def walk(seconds: int, step_s: int, seed: int = 4) -> list[Json]:
    """Return marks of two underlyings that waver together."""
    rng, prices, records = np.random.default_rng(seed), np.array([100.0, 50_000.0]), []
    for at in range(0, seconds, step_s):
        common, own = rng.standard_normal(), rng.standard_normal(2)
        prices = prices * np.exp(0.0012 * (0.7 * common + 0.7 * own))
        for name, price in zip(("ETH-PERP", "BTC-PERP"), prices.tolist(), strict=True):
            records.append(mark(T0 + at * SECOND, f"{price:.4f}", name))
    return records


def book_of_three(*more: Any) -> list[Any]:
    venue = {"type": "counterparty", "counterparty": "V", "name": "V", "role": "venue"}
    own = {"type": "account", "account": "own", "counterparty": "V", "holder": "house", "venue": "V"}
    records = [
        instrument(maintenance_margin_rate="0.05", initial_margin_rate="0.1"), instrument("BTC-PERP", **BTC),
        venue, own,
        account("a"), account("b"),
        transfer(T0, "t1", "a", amount="100"), transfer(T0, "t2", "b", amount="5000"),
        transfer(T0, "t3", "own", amount="900"),
        mark(T0), mark(T0, "50000", "BTC-PERP"),
        fill(T0 + 1, "f1", "a", quantity="5"),
        fill(T0 + 2, "f2", "a", instrument="BTC-PERP", price="50000", quantity="0.01", side="sell"),
        fill(T0 + 3, "f3", "b", quantity="1", side="sell"),
        fill(T0 + 4, "f4", "own", quantity="5.2"),
        fill(T0 + 5, "f5", "own", instrument="BTC-PERP", price="50000", quantity="0.01", side="sell"),
        *more,
    ]  # fmt: skip
    flat = [item for record in records for item in (record if isinstance(record, list) else [record])]
    return sorted(flat, key=lambda one: one.get("event_time_us", 0))


@pytest.fixture(scope="module")
def hour_pipeline(tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    """An hour and a bit, a mark a minute, over two shards."""
    return run_pipeline(tmp_path_factory.mktemp("desk"), *book_of_three(*walk(3900, 60)), limits=LIMITS, shards=2, **ON)


def rows(ran: PipelineRun, limit: str, level: str = "hard", horizon_s: int = 86_400) -> list[Json]:
    found = [row for value in ran.topic("forecasts") for row in value["forecasts"]]
    return [r for r in found if (r.get("limit"), r["level"], r["horizon_s"]) == (limit, level, horizon_s)]


def test_every_limit_on_what_moves_with_prices_has_its_forecasts(hour_pipeline: PipelineRun) -> None:
    named = {row["limit"] for value in hour_pipeline.topic("forecasts") for row in value["forecasts"] if "limit" in row}
    assert named == {"large", "owes", "poor", "lever", "venue", "losing", "eth"}
    assert {row["scope"] for row in rows(hour_pipeline, "large")} == {
        "counterparty:V",
        "counterparty:a",
        "counterparty:b",
    }
    assert {row["scope"] for row in rows(hour_pipeline, "poor")} == {"account:a"}
    assert {row["scope"] for row in rows(hour_pipeline, "losing")} == {"firm"}


def test_a_nearer_level_and_a_longer_horizon_are_likelier(hour_pipeline: PipelineRun) -> None:
    for limit in ("large", "poor", "losing"):
        soft, hard = rows(hour_pipeline, limit, "soft")[-1], rows(hour_pipeline, limit)[-1]
        assert soft["probability"] > hard["probability"]
        assert hard["probability"] > rows(hour_pipeline, limit, horizon_s=HOUR_S)[-1]["probability"]
        assert 0.0 < hard["probability"] < 1.0


def test_states_are_named_until_volatility_and_outcomes_are_known(hour_pipeline: PipelineRun) -> None:
    states = [row["state"] for row in rows(hour_pipeline, "losing")]
    assert states[0] == "no_volatility"
    assert states[-1] == "warming"


def test_probabilities_are_measures_of_every_kind_of_scope(hour_pipeline: PipelineRun) -> None:
    firm = hour_pipeline.measures("firm")["breach_probability_24h"]
    assert firm == pytest.approx(rows(hour_pipeline, "losing")[-1]["probability"], rel=0.06)
    assert ("firm", "none", "hard") in hour_pipeline.breaches("early")
    assert ("counterparty:V", "none", "hard") in hour_pipeline.breaches("likely")
    assert hour_pipeline.measures("counterparty:V")["breach_probability_24h"] > 0.02


def test_a_scope_that_stands_at_its_level_has_probability_one_and_no_forecast(tmp_path: Path) -> None:
    limits = [LIMITS[0] | {"soft": 900.0, "hard": 1010.0}, LIMITS[-1] | {"scope": "counterparty:*"}]
    found = run_pipeline(tmp_path, *book_of_three(*walk(300, 60)), limits=limits, **ON)
    assert found.measures("counterparty:V")["breach_probability_1h"] == 1.0
    assert ("counterparty:V", "none", "soft") in found.breaches("there")
    assert {row["scope"] for row in rows(found, "large")} == {"counterparty:a", "counterparty:b"}


def test_a_crossing_within_the_horizon_is_the_outcome_that_is_learned_from_after_it(tmp_path: Path) -> None:
    jump = [mark(T0 + 5000 * SECOND, "145"), mark(T0 + 9100 * SECOND, "145")]
    found = run_pipeline(tmp_path, *book_of_three(*walk(4900, 100), *jump), limits=LIMITS[:1], **ON)
    scores = [value["scores"] for value in found.topic("forecasts") if "scores" in value][-1]
    hour = {row["level"]: row for row in scores if row.get("limit") == "large" and row["horizon_s"] == HOUR_S}
    assert hour["hard"]["outcomes"] == hour["soft"]["outcomes"] > 0
    assert hour["hard"]["breaches"] == 2  # V and a, of which both were forecast within the hour before
    day = next(row for row in scores if row.get("limit") == "large" and row["horizon_s"] == 86_400)
    assert day["outcomes"] == 0


SLOPES = [
    ("account", "equity"), ("account", "unrealised_pnl"), ("account", "gross_notional"), ("account", "net_notional"),
    ("account", "maintenance_margin"), ("netting_set", "current_exposure"), ("counterparty", "gross_notional"),
    ("counterparty", "net_notional"), ("counterparty", "pnl"), ("counterparty", "current_exposure"),
]  # fmt: skip


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    """A book whose prices then move by 1 %, up the one and down the other."""
    moves = [mark(T0 + 10 * SECOND, "101"), mark(T0 + 10 * SECOND, "49500", "BTC-PERP"), mark(T0 + 20 * SECOND, "101")]
    return run_pipeline(tmp_path_factory.mktemp("moved"), *book_of_three(*moves), limits=LIMITS, **ON)


@pytest.mark.parametrize(("kind", "measure"), SLOPES)
def test_measures_lean_on_prices_as_they_follow_them(moved: PipelineRun, kind: str, measure: str) -> None:
    before = next(one for one in moved.exposed if one.holdings is not None)
    after = moved.exposed[-1]
    assert before.holdings is not None
    leanings = Sensitivities(before.holdings, before.measures.tables)
    gap = leanings.gap(kind, measure, below=True, bound=-1e6)
    assert gap is not None
    sizes = np.array([{"ETH": 0.01, "BTC": -0.01}[name] for name in before.holdings.underlyings])
    gained = gap.held.gain * sizes[gap.held.underlying]
    count = before.measures.tables[kind].values.shape[1]
    found = np.bincount(gap.held.account, gained, count)
    now, then = (one.measures.tables[kind] for one in (after, before))
    change = now.values[now.measures.index(measure)] - then.values[then.measures.index(measure)]
    owed = then.values[then.measures.index(measure)] != 0 if measure == "current_exposure" else np.ones(count, bool)
    assert owed.any()
    assert found[owed] == pytest.approx(change[owed], abs=1e-9)


def test_ratios_lean_as_the_health_that_they_stand_for(moved: PipelineRun) -> None:
    one = next(one for one in moved.exposed if one.holdings is not None)
    assert one.holdings is not None
    table = one.measures.tables["account"]
    equity, gross = (table.values[table.measures.index(name)] for name in ("equity", "gross_notional"))
    gap = Sensitivities(one.holdings, one.measures.tables).gap("account", "leverage", below=False, bound=30.0)
    assert gap is not None
    assert gap.gap == pytest.approx(30.0 * equity - gross)
    assert gap.level * gap.held.gain - gap.held.margin == pytest.approx(30.0 * gap.held.gain - np.abs(gap.held.gain))


def test_what_shards_tell_of_limits_on_the_firm_is_the_same_after_a_snapshot(tmp_path: Path) -> None:
    losing = {"id": "losing", "scope": "firm", "measure": "pnl", "direction": "below", "hard": -8.0}
    limits = [{**losing, "valid_from_us": T0 - SECOND}]
    ran = run_pipeline(tmp_path, *book_of_three(*walk(240, 60)), limits=limits, **ON)
    state, told = ForecastState(0), []
    for watched, whole in zip(ran.watched, [x for x in ran.measured if x.measures.moment.key == "0"], strict=True):
        state = ForecastState.restore(state.snapshot())
        found = [one.summary and one.summary.forecast for one in (state.step(watched), whole)]
        assert pack("told", {"": found[0]}) == pack("told", {"": found[1]})
        told += [] if found[1] is None else list(found[1].sensitivities)
    assert set(told) == {"firm"}


def test_a_breach_of_a_limit_on_a_forecast_ends_when_both_are_taken_away(tmp_path: Path) -> None:
    bus, usual = MemoryBus(), {"id": "usual", "scope": "account:*", "measure": "gross_notional", "hard": 1e9}
    sure = {"id": "sure", "scope": "account:*", "measure": "breach_probability_1h", "direction": "below", "hard": 2.0}
    records = [instrument(maintenance_margin_rate="0.05"), account("a"), mark(T0), fill(T0 + 1, "f", "a")]
    first = {"first.jsonl": lines(*records, mark(T0 + 61 * SECOND, "101"))}
    path = write_configuration(tmp_path, first, [usual, sure], shards=1)
    path.write_text(path.read_text() + "[forecasts]\nenabled = true\n")
    sequence(path, bus)
    later = {**first, "later.jsonl": lines(mark(T0 + 70 * SECOND, "102"))}
    sequence(write_configuration(tmp_path, later, [usual], shards=1), bus)
    levels = [(found["limit"], found["level"]) for found in PipelineRun(journal_in_order(bus, 1), 1).topic("breaches")]
    assert levels == [("sure", "hard"), ("sure", "none")]


def test_forecasts_of_limits_go_on_from_a_snapshot_with_the_same_bytes(hour_pipeline: PipelineRun) -> None:
    shards, again = [ForecastState(0), ForecastState(1)], []
    wide, wider = FirmForecastState(2), []
    for at, one in enumerate(hour_pipeline.watched):
        if at % 29 == 0:
            shards = [ForecastState.restore(state.snapshot()) for state in shards]
        again += [
            record.value
            for record in shards[one.measures.moment.partition].step(one).outputs.records.get("forecasts", [])
        ]
    for at, one in enumerate(hour_pipeline.wide):
        if at % 7 == 0:
            wide = FirmForecastState.restore(wide.snapshot())
        wider += [record.value for record in wide.step(one).outputs.records.get("forecasts", [])]
    assert again == [record.value for record in hour_pipeline.records("forecasts") if record.key != "all"]
    assert wider == [record.value for record in hour_pipeline.records("forecasts") if record.key == "all"]
    assert shards[0].snapshot() == hour_pipeline.foresight[0].snapshot()
    assert wide.snapshot() == hour_pipeline.systemic.snapshot()
