"""Standing decays: a fresh price of a lower rung replaces a stale higher one; options follow their forward."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from seawall_testing.core_states import cases_by_name
from seawall_testing.desk import T0, Json
from seawall_testing.pipeline import PipelineRun
from seawall_testing.reference.numbers import black
from seawall_testing.risk_desk import (
    DAY,
    SECOND,
    YEAR,
    client,
    deposit,
    house,
    option,
    perpetual,
    price,
    run,
    spot,
    trade,
)
from seawall_testing.state_checks import check_resume_anywhere_and_run_on


def test_a_fresh_index_replaces_a_mark_that_went_stale(tmp_path: Path) -> None:
    """100,000 + 10 x (20,000 - 30,000) = 0: the mark is older than 60 s, the index is not."""
    index = [price(70 + 10 * n, "BTC-PERP", "20000", kind="index") for n in range(180)]
    found = run(
        tmp_path, perpetual(), client(), price(0.1, "BTC-PERP", "30000"), deposit(0.3, "100000", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "30000", holder="ann"), index,
    )  # fmt: skip
    assert found.measures("account:ann")["equity"] == pytest.approx(0, abs=1e-6)


def test_a_mid_that_a_second_source_confirms_replaces_a_mark_that_went_stale(tmp_path: Path) -> None:
    mids = [
        price(70 + 10 * n + at, "BTC-PERP", "20000", kind="mid", venue=venue)
        for n in range(180) for at, venue in enumerate(("one", "two"))
    ]  # fmt: skip
    venues = [{"type": "counterparty", "counterparty": name, "name": name, "role": "venue"} for name in ("one", "two")]
    found = run(
        tmp_path, perpetual(), client(), venues, price(0.1, "BTC-PERP", "30000"), deposit(0.3, "100000", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "30000", holder="ann"), mids,
    )  # fmt: skip
    assert found.measures("account:ann")["equity"] == pytest.approx(0, abs=1e-6)


def held(folder: Path, *marks: Json | list[Json], **more: Any) -> PipelineRun:
    """Run a client who bought 10 at 30,000 with 100,000, the mark, and further marks."""
    venues = [{"type": "counterparty", "counterparty": name, "name": name, "role": "venue"} for name in ("one", "two")]
    return run(
        folder, perpetual(), client(), venues, price(0.1, "BTC-PERP", "30000"), deposit(0.3, "100000", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "30000", holder="ann"), *marks, **more,
    )  # fmt: skip


def beats(*seconds: int) -> list[Json]:
    """Return small deposits, so that there is a slice to look at."""
    return [deposit(second, "0.01", holder="ann") for second in seconds]


def equity(found: PipelineRun, second: int) -> float:
    return found.measures("account:ann", T0 + second * SECOND + SECOND)["equity"]


def test_a_mid_is_confirmed_at_once_by_that_of_another_venue(tmp_path: Path) -> None:
    mids = [
        price(61, "BTC-PERP", "40000", kind="mid", venue="one"),
        price(65, "BTC-PERP", "40001", kind="mid", venue="two"),
    ]
    found = held(tmp_path, mids, beats(63, 64, 66, 67))
    assert equity(found, 63) == pytest.approx(100_000, abs=1)
    assert equity(found, 66) == pytest.approx(200_010, abs=1)


def test_a_mid_of_one_venue_is_confirmed_by_its_level_after_the_time_that_was_configured(tmp_path: Path) -> None:
    mids = [price(61 + n, "BTC-PERP", "40000", kind="mid", venue="one") for n in range(9)]
    for folder, confirm_s, wanted in (("a", 5, 200_000), ("b", 30, 100_000)):
        found = held(tmp_path / folder, mids, beats(67, 68), confirm_s=confirm_s)
        assert equity(found, 67) == pytest.approx(wanted, abs=1)


def test_an_unconfirmed_price_brings_no_older_one_back_and_never_stands_by_growing_old(tmp_path: Path) -> None:
    """The index of 21,000 is older than 60 s and newer than the mark; one trade at 27,000 changes nothing."""
    index, last = (
        price(100, "BTC-PERP", "21000", kind="index"),
        price(165, "BTC-PERP", "27000", kind="last", venue="one"),
    )
    found = held(tmp_path, index, last, beats(101, 164, 166, 167, 250, 251))
    assert [equity(found, second) for second in (101, 164, 166, 250)] == pytest.approx([10_000] * 4, abs=1)


def test_measures_are_at_the_worse_of_a_stale_price_and_one_that_is_not_confirmed(tmp_path: Path) -> None:
    """Long 10 from 30,000 with 100,000: a mid of 24,000 against the mark of before; unheard for 60 s it is gone."""
    found = held(tmp_path, price(65, "BTC-PERP", "24000", kind="mid", venue="one"), beats(63, 66, 67, 130, 131))
    assert [equity(found, second) for second in (63, 66, 130)] == pytest.approx([100_000, 40_000, 100_000], abs=1)


def test_silence_confirms_nothing(tmp_path: Path) -> None:
    """An hour lies between two quotes of one level: nobody knows that it held."""
    mids = [price(at, "BTC-PERP", "40000", kind="mid", venue="one") for at in (100, 3700)]
    found = held(tmp_path, mids, beats(3701, 3702))
    assert equity(found, 3701) == pytest.approx(100_000, abs=1)


def test_a_mark_that_comes_to_stand_again_is_stale_from_then_whenever_a_process_was_restarted(tmp_path: Path) -> None:
    """Mids of one level take the place of the mark; at another level it is back, and past its age."""
    mids = [price(20 + 5 * n, "BTC-PERP", "29000", kind="mid", venue="one") for n in range(12)]
    jump = price(78, "BTC-PERP", "20000", kind="mid", venue="one")
    found = held(tmp_path, mids, jump, beats(*range(76, 140)), shards=1)
    told = [alert["as_of_us"] for alert in found.topic("alerts") if alert["kind"] == "stale_mark"]
    assert T0 + 78 * SECOND <= told[0] <= T0 + 79 * SECOND
    check_resume_anywhere_and_run_on(cases_by_name(found, 1)["exposure-0"])


def test_another_age_counts_for_prices_that_stand_already(tmp_path: Path) -> None:
    late = price(50, "BTC-PERP", "20000", kind="index")
    found = held(tmp_path, late, beats(51, 100), shards=1, mark_max_age_s=3600)
    ledger = found.exposures[0].ledger
    assert ledger is not None and equity(found, 51) == pytest.approx(100_000, abs=1)
    ledger.marks.configure(60 * SECOND, 30 * SECOND, 0.01)
    assert ledger.marks.due_us < T0 + 100 * SECOND and ledger.marks.replace_old(T0 + 100 * SECOND)
    assert ledger.marks.price_of(ledger.marks.row(ledger.directory.instruments["BTC-PERP"])) == 20_000


def test_an_option_follows_its_forward_between_its_own_marks(tmp_path: Path) -> None:
    """A call on 10 at 30,000 with a month left: Black at the last known 0.6 on the forward of now, 24,000."""
    expiry_us, at_us = T0 + 30 * DAY, T0 + 4 * SECOND
    found = run(
        tmp_path, spot(), option("CALL", "30000", "call", expiry_us), house(), price(0.1, "BTC/USD", "30000"),
        price(0.2, "CALL", "2000", implied_volatility="0.6"), deposit(0.3, "100000"),
        trade(1, "CALL", "buy", "10", "2000"), price(2, "BTC/USD", "24000"), deposit(5, "1"),
    )  # fmt: skip
    years = Fraction(expiry_us - found.slice_before(at_us), YEAR)
    value = black(True, Fraction(24_000), Fraction(30_000), years, Fraction(6, 10), Fraction(0))
    right = float(100_000 - 10 * 2_000 + 10 * value)
    assert found.measures("account:desk", at_us)["equity"] == pytest.approx(right, abs=1e-3)


def test_a_restored_ladder_takes_new_instruments(tmp_path: Path) -> None:
    """When a price gets too old, after an instrument came, a row that never had one is not looked at."""
    late = perpetual("ETH-PERP", "ETH", event_time_us=T0 + 3 * SECOND)
    found = held(
        tmp_path, perpetual("SOL-PERP", "SOL"), price(2, "BTC-PERP", "30000", kind="index"), late,
        price(6, "ETH-PERP", "2000"), price(70, "ETH-PERP", "2001"), price(80, "ETH-PERP", "2002"),
    )  # fmt: skip
    check_resume_anywhere_and_run_on(cases_by_name(found, 1)["exposure-0"])
