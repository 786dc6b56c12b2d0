"""A peg is a cap once there was a market; one that broke stays broken until the market was back, or people lift it."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from seawall_testing.core_states import cases_by_name
from seawall_testing.desk import T0, Json
from seawall_testing.pipeline import PipelineRun
from seawall_testing.risk_desk import SECOND, client, deposit, price, run, spot
from seawall_testing.state_checks import check_resume_anywhere_and_run_on

STABLE = {"type": "asset", "asset": "USDX", "class": "stablecoin", "peg": "USD"}
MARKET = spot("USDX/USD", "USDX")


def held(folder: Path, *records: Json | list[Json], **more: Any) -> PipelineRun:
    """Run a client who holds 1,000 of a stablecoin with a market."""
    terms = {"shards": 1, "peg_return_s": 300, **more}
    return run(folder, STABLE, MARKET, client(), in_order(*records, deposit(1, "1000", "USDX", holder="ann")), **terms)


def in_order(*records: Json | list[Json]) -> list[Json]:
    """Return records by time."""
    flat = chain.from_iterable(one if isinstance(one, list) else [one] for one in records)
    return sorted(flat, key=lambda record: record["event_time_us"])


def marks(value: str, *seconds: float) -> list[Json]:
    return [price(second, "USDX/USD", value) for second in seconds]


def beats(*seconds: float) -> list[Json]:
    """Return deposits of a cent of a coin that nothing prices, so that there are slices to look at."""
    return [deposit(second, "0.01", "USDX", holder="ann") for second in seconds]


def value(found: PipelineRun, second: float) -> float:
    """Return what a unit counts in the last slice before a second, to a few cents of beats."""
    return found.measures("account:ann", T0 + round(second * SECOND))["equity"] / 1_000


def kinds(found: PipelineRun) -> list[str]:
    return [alert["kind"] for alert in found.topic("alerts") if alert["kind"].startswith("peg_")]


def test_a_peg_priced_in_the_same_step_as_its_market_caps_it(tmp_path: Path) -> None:
    """STETH at 2,100 promises to equal ETH at 2,000, both marked in one slice: 10 count 20,000."""
    token = {"type": "asset", "asset": "STETH", "class": "token", "peg": "ETH"}
    found = run(
        tmp_path, token, spot("STETH/USD", "STETH"), spot("ETH/USD", "ETH"), client(),
        price(0.1, "STETH/USD", "2100"), price(0.1, "ETH/USD", "2000"), deposit(1, "10", "STETH", holder="ann"),
        deposit(3, "1", holder="ann"),
    )  # fmt: skip
    assert found.measures("account:ann")["equity"] == pytest.approx(20_001)


def test_a_stablecoin_that_goes_to_0_and_falls_silent_is_not_lifted_back(tmp_path: Path) -> None:
    """From 1 to 0.0001 within 40 s, then a week without a mark."""
    week = 7 * 86_400.0
    fall = [*marks("1", 0.1), *marks("0.5", 5), *marks("0.01", 10, 20), *marks("0.0001", 30, 40)]
    found = held(tmp_path, *fall, *beats(3_600, week, week + 2))
    assert value(found, 41) == pytest.approx(0.0001, rel=1e-3)
    assert value(found, week + 3) == pytest.approx(0.0001, rel=1e-3)
    assert kinds(found) == ["peg_broken"]
    assert found.topic("exposures")[-1].get("depegged", ["USDX"]) == ["USDX"]


def test_one_tick_to_0_and_silence_is_no_broken_peg_and_stays_at_its_price(tmp_path: Path) -> None:
    found = held(tmp_path, marks("1", 0.1), marks("0.0001", 10), beats(3_600, 3_602))
    assert value(found, 3_603) == pytest.approx(0.0001, rel=1e-3)
    assert kinds(found) == []


def test_one_at_088_is_halted_and_comes_back(tmp_path: Path) -> None:
    """Below 0.98 from 10 to 50 s: broken from 40 s on. It trades again at 1.01 from 650 s, which counts alone until
    300 s of marks have passed; then 1 is the cap again.
    """
    back = marks("1.01", *range(650, 971, 20))
    found = held(tmp_path, marks("1.01", 0.1), marks("0.88", *range(10, 51, 5)), back, beats(12, 600, 940, 980, 985))
    looked = [(5, 1), (30, 0.88), (601, 0.88), (700, 1.01), (941, 1.01), (981, 1)]
    assert [value(found, at) for at, _ in looked] == pytest.approx([right for _, right in looked], rel=1e-3)
    assert kinds(found) == ["peg_broken", "peg_returned"]


def test_a_gap_in_its_marks_begins_the_return_anew(tmp_path: Path) -> None:
    """Back from 100 s, silent from 300 to 500 s: not before 800 s."""
    back = [*marks("1.01", *range(100, 301, 20)), *marks("1.01", *range(500, 821, 20))]
    found = held(tmp_path, marks("0.88", 0.1, 15, 31), back, beats(600, 790, 830, 835))
    assert [value(found, at) for at in (601, 791, 831)] == pytest.approx([1.01, 1.01, 1], rel=1e-3)


def test_a_dip_that_ends_within_the_time_of_confirmation_breaks_nothing(tmp_path: Path) -> None:
    found = held(tmp_path, marks("1", 0.1), marks("0.5", 10, 35), marks("1.01", 39), beats(20, 41, 43))
    assert [value(found, at) for at in (21, 42)] == pytest.approx([0.5, 1], rel=1e-3)
    assert kinds(found) == []


def test_a_promise_that_moves_away_breaks_a_peg_once_the_market_stayed_below_it(tmp_path: Path) -> None:
    """ETH rises at 50 s over a token that stays: it is below from then, not from its last mark of before."""
    token = {"type": "asset", "asset": "STETH", "class": "token", "peg": "ETH"}
    still = [price(at, "STETH/USD", "2000") for at in (0.1, 20, 40, 55, 70, 79, 81)]
    found = run(
        tmp_path, token, spot("STETH/USD", "STETH"), spot("ETH/USD", "ETH"), client(),
        in_order(
            still, price(0.1, "ETH/USD", "2000"), price(50, "ETH/USD", "2500"),
            deposit(1, "10", "STETH", holder="ann"), deposit(83, "1", holder="ann"),
        ),
    )  # fmt: skip
    told = [alert["as_of_us"] for alert in found.topic("alerts") if alert["kind"] == "peg_broken"]
    assert told == [T0 + 81 * SECOND + SECOND // 10]


def test_a_new_asset_record_lifts_a_broken_peg(tmp_path: Path) -> None:
    lifted = {**STABLE, "event_time_us": T0 + 60 * SECOND}
    rise = marks("1.01", 55, 65)
    found = held(tmp_path, marks("0.88", 0.1, 15, 31), rise, lifted, beats(57, 62, 64))
    assert [value(found, at) for at in (58, 63)] == pytest.approx([1.01, 1], rel=1e-3)
    assert kinds(found) == ["peg_broken", "peg_returned"]


def test_the_memory_of_a_peg_is_saved_and_restored_anywhere(tmp_path: Path) -> None:
    back = marks("1.01", *range(60, 381, 20))
    found = held(tmp_path, marks("1", 0.1), marks("0.88", *range(10, 51, 5)), back, beats(12, 55, 200, 390))
    check_resume_anywhere_and_run_on(cases_by_name(found, 1)["exposure-0"])


def test_terms_of_pegs_are_in_the_journal_where_they_are_not_the_default(tmp_path: Path) -> None:
    plain, own = held(tmp_path / "a", marks("1", 2), peg_return_s=3600), held(tmp_path / "b", marks("1", 2))
    found = [run.exposures[0].configuration for run in (plain, own)]
    assert [one.get("peg_return_s") for one in found] == [None, 300]
    assert "peg_tolerance" not in found[0]
