"""Lending value goes by venue and asset, with tiers, caps and weights of debts; what is owed to us is market value."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from seawall_testing.core_states import cases_by_name
from seawall_testing.desk import T0, Json
from seawall_testing.pipeline import PipelineRun
from seawall_testing.risk_desk import SECOND, client, deposit, house, inverse, perpetual, price, run, spot, trade
from seawall_testing.state_checks import check_resume_anywhere_and_run_on

VENUE = {"type": "counterparty", "counterparty": "hub", "name": "hub", "role": "venue"}
TIERS = [("0", "0.1"), ("5", "0.5")]  # 10 count 5 x 0.9 + 5 x 0.5 = 7
LENT_OF_TEN = 7


def schedule(asset: str = "BTC", tiers: list[tuple[str, str]] | None = None, **fields: Any) -> Json:
    listed = [{"amount_from": start, "haircut": haircut} for start, haircut in (TIERS if tiers is None else tiers)]
    return {"type": "collateral_schedule", "venue": "hub", "asset": asset, "tiers": listed, **fields}


def desk(folder: Path, *records: Json | list[Json], **more: Any) -> PipelineRun:
    """Run an account of ours at the hub, with BTC at 30,000."""
    account = house(venue="hub")
    return run(folder, VENUE, spot(), perpetual(), account, price(0.1, "BTC/USD", "30000"), *records, **more)


def equity(found: PipelineRun, second: float | None = None) -> float:
    until_us = None if second is None else T0 + round(second * SECOND)
    return (found.measures("account:desk") if until_us is None else found.measures("account:desk", until_us))["equity"]


def test_tiers_as_okx_publishes_them_count_what_lies_in_each(tmp_path: Path) -> None:
    """Announcement of April 2025 ("discount rate tiers for multiple tokens"), token X by coins held, after the change.

    0.85 up to 120 m, 0.79 up to 200 m, 0.76 up to 250 m. 210 m count 120 x 0.85 + 80 x 0.79 + 10 x 0.76 = 172.8 m.
    """
    tiers = [("0", "0.15"), ("120000000", "0.21"), ("200000000", "0.24"), ("250000000", "0.27")]
    found = desk(
        tmp_path, spot("X/USD", "X"), schedule("X", tiers), price(0.1, "X/USD", "0.07"), deposit(1, "210000000", "X"),
        deposit(5, "1"),
    )  # fmt: skip
    assert equity(found) == pytest.approx(float(172_800_000 * Fraction(7, 100)) + 1, abs=1e-6)


def test_a_last_tier_that_counts_nothing_as_bybit_publishes_it(tmp_path: Path) -> None:
    """Response of `GET /v5/spot-margin-trade/collateral` in Bybit's manual: 0.85 up to 1,000,000 coins, then 0."""
    found = desk(
        tmp_path, schedule(tiers=[("0", "0.15"), ("1000000", "1")]), deposit(1, "1500000", "BTC"), deposit(5, "1")
    )
    assert equity(found) == pytest.approx(850_000 * 30_000 + 1)


def test_nothing_counts_beyond_the_cap(tmp_path: Path) -> None:
    """At most 6 of 10 count: 5 x 0.9 + 1 x 0.5."""
    found = desk(tmp_path, schedule(cap="6"), deposit(1, "10", "BTC"), deposit(5, "1"))
    assert equity(found) == pytest.approx(5 * 30_000 + 1)


def test_a_debt_weighs_more_in_equity_and_what_the_venue_owes_is_market_value(tmp_path: Path) -> None:
    """500,000 and -10 BTC at 30,000: 500,000 - 1.2 x 300,000 of equity, and 200,000 that the venue owes."""
    found = desk(
        tmp_path, schedule(borrow_weight="1.2"), deposit(1, "500000"), deposit(2, "-10", "BTC", purpose="withdrawal"),
        deposit(5, "0.01"),
    )  # fmt: skip
    assert equity(found) == pytest.approx(140_000.01)
    assert found.measures("netting_set:desk")["current_exposure"] == pytest.approx(200_000.01)


def test_a_deposit_is_owed_in_full_whatever_its_venue_lends_on_it(tmp_path: Path) -> None:
    found = desk(tmp_path, schedule(), deposit(1, "10", "BTC"), deposit(5, "0.01"))
    assert equity(found) == pytest.approx(LENT_OF_TEN * 30_000 + 0.01)
    assert found.measures("netting_set:desk")["current_exposure"] == pytest.approx(300_000.01)


@pytest.mark.parametrize("terms", [[], [{"type": "netting_set", "netting_set": "terms", "counterparty": "ann"}]])
def test_what_a_client_gave_us_counts_by_the_schedule_of_its_venue(terms: list[Json], tmp_path: Path) -> None:
    """10 BTC count 7 x 30,000 against a loss of 10 x 25,000: 40,000 are not covered, with terms and without."""
    fields = {"venue": "hub", **({"netting_set": "terms"} if terms else {})}
    found = run(
        tmp_path, VENUE, spot(), perpetual("P", "X"), client(**fields), terms, schedule(),
        price(0.1, "BTC/USD", "30000"), price(0.1, "P", "100000"), deposit(1, "10", "BTC", holder="ann"),
        trade(2, "P", "buy", "10", "100000", holder="ann"), price(4, "P", "75000"), price(6, "P", "75000"),
    )  # fmt: skip
    name = "netting_set:terms" if terms else "netting_set:ann"
    assert found.measures(name)["current_exposure"] == pytest.approx(40_000)
    assert found.measures("account:ann")["equity"] == pytest.approx(-40_000)


def test_the_haircut_of_the_asset_counts_elsewhere_and_once_the_schedule_is_closed(tmp_path: Path) -> None:
    coin = {"type": "asset", "asset": "BTC", "class": "coin", "haircut": "0.05"}
    closed = {**schedule(), "status": "closed", "event_time_us": T0 + 3 * SECOND}
    found = desk(
        tmp_path, coin, schedule(), house("other", venue="elsewhere"), deposit(1, "10", "BTC"),
        deposit(1, "10", "BTC", holder="other"), deposit(2, "1"), closed, deposit(4, "1"), deposit(5, "1"),
    )  # fmt: skip
    assert equity(found, 3) == pytest.approx(LENT_OF_TEN * 30_000 + 1)
    assert equity(found) == pytest.approx(0.95 * 300_000 + 3)
    assert found.measures("account:other")["equity"] == pytest.approx(0.95 * 300_000)


def test_the_distance_to_liquidation_is_where_the_margin_ratio_is_1(tmp_path: Path) -> None:
    """10 BTC of which 7 count, and 12 long: a fall by the distance of both marks takes the ratio to 1."""
    held = [
        schedule(), inverse(maintenance_margin_rate="0.05"), price(0.1, "BTC-PERP", "30000"),
        price(0.1, "BTC-INV", "30000"), deposit(1, "10", "BTC"), trade(2, "BTC-PERP", "buy", "12", "30000"),
        trade(2.5, "BTC-INV", "sell", "500", "30000"), deposit(4, "1"),
    ]  # fmt: skip
    before = desk(tmp_path / "now", *held, deposit(5, "0.01")).measures("account:desk")
    part = 1 - before["distance_to_liquidation"]
    assert 0 < part < 1
    moved = [price(6, name, f"{30_000 * part:.12f}") for name in ("BTC/USD", "BTC-PERP", "BTC-INV")]
    after = desk(tmp_path / "then", *held, *moved, deposit(8, "0.01")).measures("account:desk")
    assert after["margin_ratio"] == pytest.approx(1, abs=1e-5)  # the deposit of the last second is beside it


def test_a_state_with_schedules_is_saved_and_restored_anywhere(tmp_path: Path) -> None:
    found = desk(
        tmp_path, schedule(cap="8", borrow_weight="1.1"), deposit(1, "10", "BTC"), schedule("USD", [("0", "0.01")]),
        deposit(2, "-3", "BTC", purpose="withdrawal"), deposit(5, "-9", "BTC", purpose="withdrawal"), deposit(6, "1"),
        shards=1,
    )  # fmt: skip
    check_resume_anywhere_and_run_on(cases_by_name(found, 1)["exposure-0"])
