"""Each feature rises with what it is named after; notices reach the instruments and venues that they concern."""

import random
from typing import Any

import pytest

from seawall.operators.core.market._group import NOTICES_MAX
from seawall.schemas import events as ev
from seawall_testing.desk import SECOND, T0, instrument, mark
from seawall_testing.market_data import alerts, depth, quote, signals, trade, venue_record, watch_group


def driven(number: int, **last: Any) -> ev.SignalRow:
    """Return the last row of an instrument whose every feature had ordinary values for a minute, and then ``last``."""
    chance = random.Random(number)
    records = []
    for second in range(61):
        now, wild = T0 + second * SECOND, second == 60
        price = 100.0 + chance.random() + (last.get("jump", 0.0) if wild else 0.0)
        half_bp = last.get("half_bp", 2.0) if wild else 2.0
        size = last.get("size", 4.0) if wild else 4.0 + chance.random()
        rate = last.get("rate", 0.0001) if wild else 0.0001 * (1 + chance.random())
        index = 100.0 * (1.0 - (last.get("premium", 0.0) if wild else 0.001 * chance.random()))
        held = last.get("held", 900.0) if wild else 900.0 + chance.random()
        forced = last.get("forced", 0.0) if wild else 0.0
        records += [
            quote(now, price, half_bp=half_bp),
            quote(now + 1, price * (1 + last.get("apart", 0.0) * wild), "lake", half_bp=half_bp),
            depth(now + 2, price, size),
            mark(now + 3, f"{index:.6f}", kind="index", venue="hub"),
            trade(now + 4, price, side=last.get("side", "buy") if wild else chance.choice(["buy", "sell"])),
            venue_record(now + 5, "funding", rate=f"{rate:.9f}", interval_us=28_800_000_000),
            venue_record(now + 6, "open_interest", quantity=f"{held:.3f}"),
        ]
        if forced:
            records.append(venue_record(now + 7, "liquidation", side="sell", price="100", quantity=f"{forced}"))
    rows = [row for signal in signals(watch_group(records)) for row in signal.instruments if row.state]
    return rows[-1]


@pytest.mark.parametrize(
    ("feature", "last"),
    [
        ("return_z", {"jump": 20.0}),
        ("volatility_ratio", {"jump": 20.0}),
        ("spread_bp", {"half_bp": 50.0}),
        ("basis_z", {"premium": 0.1}),
        ("funding_z", {"rate": 0.01}),
        ("open_interest_drop", {"held": 300.0}),
        ("liquidation_intensity", {"forced": 500.0}),
        ("venue_divergence_bp", {"apart": 0.02}),
    ],
)
def test_a_feature_rises_with_what_it_is_named_after(feature: str, last: dict[str, float]) -> None:
    before, after = driven(1).features[feature], driven(1, **last).features[feature]
    assert after > 2.0 * abs(before) + 0.3


def test_depth_and_its_ratio_fall_when_the_book_empties() -> None:
    assert driven(1, size=0.5).features["depth_ratio"] < 0.3 < driven(1).features["depth_ratio"]


def test_a_late_update_and_a_late_clock_show() -> None:
    steady = [quote(T0 + s * SECOND, 100.0 + s % 3) for s in range(30)]
    late = [quote(T0 + 40 * SECOND, 101.0), quote(T0 + 41 * SECOND, 1.0, name="OTHER")]
    late += [quote(T0 + 40 * SECOND + 300_000, 101.0), quote(T0 + 42 * SECOND, 101.0)]
    found = [row for signal in signals(watch_group([*steady, *late])) for row in signal.instruments]
    rows = [row for row in found if row.state and row.instrument == "ETH-PERP"]
    assert max(row.features.get("update_gap_ratio", 0.0) for row in rows) > 5.0
    assert max(row.features.get("clock_skew_ms", 0.0) for row in rows) == pytest.approx(700.0)


# --- notices --------------------------------------------------------------------------------------------------------


def notice(at_us: int, subject: str, severity: int = 2) -> dict[str, Any]:
    body = {"notice_id": f"n-{subject}", "subject": subject, "kind": "exploit", "severity": severity}
    return {"type": "notice", "event_time_us": at_us, **body}


def test_a_notice_is_told_of_the_instrument_of_what_it_is_made_of_and_of_a_venue_that_is_heard() -> None:
    assert alerts(watch_group([quote(T0, 100.0), notice(T0 + 5, "ETH-PERP")])) == [("notice", "instrument:ETH-PERP")]
    assert alerts(watch_group([quote(T0, 100.0), notice(T0 + 5, "hub")])) == [("notice", "venue:hub")]
    described = {**instrument(), "event_time_us": T0}
    found = watch_group([described, quote(T0, 100.0), quote(T0, 7.0, name="OTHER"), notice(T0 + 5, "ETH")])
    told = [alert for signal in signals(found) for alert in signal.alerts]
    assert [(alert.kind, alert.scope, alert.severity) for alert in told] == [("notice", "instrument:ETH-PERP", 2)]
    assert told[0].text == "ETH-PERP: notice n-ETH of exploit, severity 2, on ETH"


def test_a_notice_of_severity_zero_or_on_what_nobody_watches_is_no_alert() -> None:
    quiet = [notice(T0 + 5, "ETH-PERP", severity=0), notice(T0 + 6, "SOL"), notice(T0 + 7, "lake")]
    assert alerts(watch_group([quote(T0, 100.0), *quiet])) == []


def test_a_flood_of_notices_is_bounded() -> None:
    records = [quote(T0, 100.0), *(notice(T0 + 1 + at, "hub") for at in range(5_000))]
    found = watch_group(records)
    assert len(alerts(found)) == NOTICES_MAX
    assert sum(signal.events for signal in signals(found)) == len(records)
