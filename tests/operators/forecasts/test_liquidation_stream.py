"""The liquidation map in the stream: all shards together, once a minute, and its multiplier as a measure of limits."""

from pathlib import Path

import numpy as np
import pytest

from seawall.operators.core.forecasts import MAP_STEPS, FirmForecastState, liquidation_map
from seawall.operators.core.forecasts import _cascades as cs
from seawall.operators.core.forecasts._cascades import DEPTH_UNKNOWN, cascade_ends
from seawall.operators.core.forecasts._sensitivities import SensitivityRows
from seawall.ops.reports import _exposures
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import MemoryBus, PipelineRun, run_pipeline

MARGIN = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05"}
ON: Json = {"forecasts": {"enabled": True}}
LIMITS: list[Json] = [
    {"id": "margin", "scope": "account:*", "measure": "margin_ratio", "hard": 1.0},
    {"id": "thin", "scope": "underlying:*", "measure": "cascade_multiplier", "soft": 1.2, "hard": 3.0},
    {"id": "edge", "scope": "firm", "measure": "cascade_distance", "direction": "below", "soft": 0.6},
]
ACCOUNTS = 12


def leveraged_book(minutes: int = 4) -> list[Json | list[Json]]:
    """Return accounts that are longer on margin the higher their number, and a price that is marked every 10 s."""
    found: list[Json | list[Json]] = [instrument(**MARGIN), instrument("BTC-PERP", base="BTC", **MARGIN)]
    found += [account(f"a{at}") for at in range(ACCOUNTS)]
    found += [transfer(T0, f"t{at}", f"a{at}", amount=str(49.5 - 4 * at)) for at in range(ACCOUNTS)]
    found += [mark(T0), mark(T0, name="BTC-PERP")]
    found += [fill(T0, f"f{at}", f"a{at}", quantity="1") for at in range(ACCOUNTS)]
    found += [mark(T0 + at * SECOND, f"{100 + at % 3}") for at in range(10, 60 * minutes, 10)]
    return found


@pytest.fixture(scope="module")
def leveraged_pipeline(tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    return run_pipeline(tmp_path_factory.mktemp("desk"), *leveraged_book(), limits=LIMITS, shards=3, **ON)


def published(ran: PipelineRun) -> list[Json]:
    return [value for value in ran.topic("forecasts") if "liquidations" in value]


def test_the_map_of_all_shards_is_published_with_depth_that_is_assumed(leveraged_pipeline: PipelineRun) -> None:
    (row,) = published(leveraged_pipeline)[0]["liquidations"]  # of BTC nothing is held
    assert row["scope"] == "underlying:ETH"
    assert not row["depth_known"]
    assert row["depth"] == pytest.approx(DEPTH_UNKNOWN * 100 * ACCOUNTS)
    assert row["alone_sold"][0] == pytest.approx(100 * ACCOUNTS)
    assert row["with_betas_sold"] == row["alone_sold"]
    assert row["alone_sold"][50] == 0.0


def test_a_map_that_stays_as_it_was_written_is_not_written_again(tmp_path: Path) -> None:
    found = run_pipeline(tmp_path, *leveraged_book(0), *(mark(T0 + at * SECOND) for at in range(10, 300, 10)), **ON)
    assert len(published(found)) == 1


def test_the_map_of_several_shards_is_that_of_one(leveraged_pipeline: PipelineRun, tmp_path: Path) -> None:
    alone = run_pipeline(tmp_path, *leveraged_book(), limits=LIMITS, shards=1, **ON)
    for ours, theirs in zip(published(leveraged_pipeline), published(alone), strict=True):
        assert ours["liquidations"] == theirs["liquidations"]


def test_a_multiplier_is_a_limit_like_any_other_and_so_is_the_first_move_that_does_not_come_to_rest(
    leveraged_pipeline: PipelineRun,
) -> None:
    assert leveraged_pipeline.breaches("thin") == [("underlying:ETH", "none", "hard")]
    assert leveraged_pipeline.breaches("edge") == [("firm", "none", "soft")]
    row = published(leveraged_pipeline)[-1]["liquidations"][0]
    known = leveraged_pipeline.measures("underlying:ETH")
    near = [grown for grown, move in zip(row["cascade_multiplier"], MAP_STEPS, strict=True) if abs(move) <= cs.MOVE_MAX]
    assert known["cascade_multiplier"] == leveraged_pipeline.measures("firm")["cascade_multiplier"] == max(near) > 3.0
    assert known["cascade_distance"] == abs(row["diverges_at"])
    assert row["cascade_multiplier"][MAP_STEPS.index(row["diverges_at"])] is None
    assert leveraged_pipeline.measures("underlying:BTC")["cascade_multiplier"] == 1.0


def test_the_stream_goes_on_from_a_snapshot_with_the_same_bytes(leveraged_pipeline: PipelineRun) -> None:
    state, again = FirmForecastState(3), []
    for at, one in enumerate(leveraged_pipeline.wide):
        if at % 7 == 3:
            state = FirmForecastState.restore(state.snapshot())
        again += state.step(one).outputs.records.get("forecasts", [])
    assert again == [record for record in leveraged_pipeline.records("forecasts") if record.key == "all"]
    assert again


def test_what_is_shown_on_demand_is_what_the_stream_published(leveraged_pipeline: PipelineRun) -> None:
    bus = MemoryBus()
    writer = bus.writer([("journal", shard) for shard in range(3)])
    for value, piece in zip(leveraged_pipeline.values, leveraged_pipeline.slices, strict=True):
        writer.append("journal", piece.shard, "", value, {})
    writer.flush()
    last = published(leveraged_pipeline)[-1]
    shown = _exposures.report_liquidations(bus, 3, last["as_of_us"], lambda: None)
    assert shown.underlyings == last["liquidations"]
    scopes = _exposures.report_exposures(bus, 3, None, lambda: None).scopes
    firm = next(one for one in scopes if one.scope == "firm")
    assert [limit.limit for limit in firm.limits] == ["edge"]


def test_nothing_spans_shards_where_nothing_is_forecast(tmp_path: Path) -> None:
    found = run_pipeline(tmp_path, *leveraged_book(1), limits=LIMITS[:1])
    assert not found.records("forecasts")
    assert "cascade_multiplier" not in found.measures("firm")
    assert len(found.systemic.snapshot()) < 500


def test_the_map_is_who_is_beyond_its_margin_when_the_whole_book_is_revalued_at_a_moved_price(tmp_path: Path) -> None:
    """Full revaluation by the ledger itself: the price is moved in the input, and margin ratios are looked up."""
    known = published(run_pipeline(tmp_path, *leveraged_book(0), **ON))[-1]["liquidations"][0]
    for move in (-0.3, -0.17, -0.02, 0.0, 0.25):
        moved = mark(T0 + 5 * SECOND, f"{100 * (1 + move):.6f}")
        found = run_pipeline(tmp_path / f"{move}", *leveraged_book(0), moved)
        forced = sum(found.measures(f"account:a{at}")["margin_ratio"] >= 1.0 for at in range(ACCOUNTS))
        assert known["alone_sold"][MAP_STEPS.index(move)] == pytest.approx(100 * forced)
        assert (forced > 0) == (move < 0)


def test_underlyings_that_one_shard_has_yet_to_meet_are_added_up() -> None:
    small = cs.ShardLiquidationMap(np.ones((4, 1, len(MAP_STEPS))), np.ones(1))
    large = cs.ShardLiquidationMap(np.full((4, 2, len(MAP_STEPS)), 2.0), np.full(2, 2.0))
    both = cs.ShardLiquidationMap.sum([small, large])
    assert both.exposed.tolist() == [3.0, 2.0]
    assert both.forced[:, :, 7].tolist() == [[3.0, 2.0]] * 4
    assert cs.moved_underlyings(both, small) == [0, 1]
    assert cs.moved_underlyings(both, cs.record_written_map(both, small, [0])) == [1]
    assert cs.moved_underlyings(both, cs.record_written_map(both, small, [0, 1])) == []


def test_a_move_that_does_not_come_to_rest_has_the_largest_multiplier_that_a_limit_sees() -> None:
    books = cs.ShardLiquidationMap(np.zeros((4, 2, len(MAP_STEPS))), np.array([10_000.0, 0.0]))
    books.forced[2, 0, :45] = 10_000.0
    found = books.cascade(np.array([40.0, np.nan]))
    assert cs.cascade_measures(found).T.tolist() == [[cs.MULTIPLIER_MAX, 0.06], [1.0, 1.0]]
    assert found.row(0, "ETH")["diverges_at"] == -0.06


def test_many_underlyings_cascade_as_each_does_alone() -> None:
    rng = np.random.default_rng(4)
    gain, steps = rng.normal(size=90) * 100, np.array(MAP_STEPS)
    held = SensitivityRows(np.arange(90), np.arange(90) % 3, gain, 0.05 * np.abs(gain))
    found = liquidation_map(held, rng.uniform(1, 40, 90), held.gain - held.margin, 3, steps)
    depth = np.array([1e9, 2000.0, 1.0])
    together = cascade_ends(found, depth, steps)
    for at in range(3):
        one = type(found)(found.sold[at : at + 1], found.bought[at : at + 1])
        assert np.array_equal(cascade_ends(one, depth[at : at + 1], steps)[0], together[at])
