"""Potential exposure: how long a margin period of business days is, and when the exposure is computed again."""

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from seawall.schemas.errors import UsageError
from seawall_testing.desk import T0, Json
from seawall_testing.risk_desk import client, perpetual, price, run, trade

QUANTILE = 2.3263478740408408  # of the normal distribution at 99 %
DAY_S = 86_400
TERMS: Json = {"type": "netting_set", "netting_set": "terms", "counterparty": "ann", "margined": True}
# The week of T0: Tuesday 2023-11-14; ten business days later it is Tuesday again, and a weekend day counts none.
PERIODS = [
    ("weekdays", 0, [], 14),
    ("a holiday within the period", 0, ["2023-11-23"], 15),
    ("two, and the weekend after them", 0, ["2023-11-23", "2023-11-28"], 16),
    ("a holiday on a Sunday is none", 0, ["2023-11-19"], 14),
    ("one that is over", 0, ["2023-11-13"], 14),
    ("from the Saturday before", -3, [], 13),
]


@pytest.mark.parametrize(("name", "offset", "holidays", "days"), PERIODS, ids=[row[0] for row in PERIODS])
def test_the_margin_period_lasts_until_the_tenth_business_day(
    tmp_path: Path, name: str, offset: int, holidays: list[str], days: int
) -> None:
    """A client is short 10 at 100, the price goes to 101 within ten seconds: 99 % of 10 x 101 x ln 1.01 / sqrt 10 s."""
    assert datetime.fromtimestamp(T0 / 1e6, UTC).date().isoformat() == "2023-11-14"
    at = offset * DAY_S
    found = run(
        tmp_path, perpetual(), client("ann", netting_set="terms"), TERMS, price(at + 0.1, "BTC-PERP", "100"),
        trade(at + 0.95, "BTC-PERP", "sell", "10", "100", holder="ann"), price(at + 10.95, "BTC-PERP", "101"),
        holidays=holidays,
    )  # fmt: skip
    right = QUANTILE * 1010 * math.log(1.01) / math.sqrt(10) * math.sqrt(days * DAY_S)
    assert found.measures("netting_set:terms")["potential_exposure_ew"] == pytest.approx(right, rel=1e-9)


def test_a_holiday_that_no_calendar_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holidays: 2023-02-30 is no day of the calendar; write YYYY-MM-DD"):
        run(tmp_path, perpetual(), holidays=["2023-02-30"])


@pytest.mark.parametrize(("share", "right"), [(None, 102.0), (0.3, 100.0), (0.0, 102.0)])
def test_potential_exposure_is_computed_again_once_its_set_has_moved_by_the_configured_share(
    tmp_path: Path, share: float | None, right: float
) -> None:
    """A client is short 10 at 100: add-on 0.2 x 0.4 x 1,000 = 80; at 102 V - C has moved by 20, a quarter of it."""
    more = {} if share is None else {"potential_exposure_change_min": share}
    terms = {**TERMS, "margined": False}
    found = run(
        tmp_path, perpetual(), client("ann", netting_set="terms"), terms, price(0.1, "BTC-PERP", "100"),
        trade(0.2, "BTC-PERP", "sell", "10", "100", holder="ann"), price(1.1, "BTC-PERP", "102"),
        price(1.9, "BTC-PERP", "102"), **more,
    )  # fmt: skip
    exposed = found.measures("netting_set:terms", T0 + 1_200_000)["potential_exposure"]
    assert exposed == pytest.approx(0.08 * 10 * right, rel=1e-9)
