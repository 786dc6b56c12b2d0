"""Circuit-breaker rules, alerts and drift: each rule's sentence, and what must not trip it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.operators.core.detection import (
    AlertRule,
    AlertState,
    LookBackBand,
    PageHinkley,
    PremiumBand,
    ReferenceBand,
    Score,
    ScoreState,
    explain_score,
)
from seawall.operators.core.detection._breakers import MinuteExtremes
from seawall.schemas.errors import SnapshotError

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US


def ready(value):
    return Score(value, ScoreState.READY)


def test_a_fall_of_the_set_fraction_within_the_hour_trips_the_look_back_band():
    band = LookBackBand(0.1)
    trips = [band.check(minute * MINUTE_US, 100.0 - minute) for minute in range(15)]
    assert [minute for minute, trip in enumerate(trips) if trip] == [10]
    assert trips[10] == "price 90 is 10.0 % below its 60-minute high 100"


def test_a_slow_fall_of_the_same_size_does_not_trip_the_look_back_band():
    band = LookBackBand(0.1)
    assert not any(band.check(minute * MINUTE_US, 100.0 - minute / 20) for minute in range(600))


def test_after_a_trip_the_look_back_restarts():
    band = LookBackBand(0.1)
    assert band.check(0, 100.0) is None
    assert band.check(MINUTE_US, 85.0)
    assert band.check(2 * MINUTE_US, 70.0) is None
    assert band.check(4 * MINUTE_US, 80.0) is None
    assert band.check(5 * MINUTE_US, 92.0)


def test_one_print_outside_the_reference_band_does_not_trip_it_but_fifteen_seconds_do():
    band = ReferenceBand()
    for second in range(0, 300, 5):
        assert band.check(second * SECOND_US, 100.0) is None
    assert band.check(300 * SECOND_US, 110.0) is None
    assert band.check(301 * SECOND_US, 100.0) is None
    trips = [band.check((305 + second) * SECOND_US, 110.0) for second in range(20)]
    assert trips[15] == "price 110 was outside 5 % of 100 for 15 s"
    assert sum(trip is not None for trip in trips) == 1


def test_a_premium_far_from_its_average_trips_and_a_steady_one_does_not():
    band = PremiumBand()
    assert not any(band.check(minute * MINUTE_US, 101.5, 100.0) for minute in range(10))
    assert band.check(10 * MINUTE_US, 104.0, 100.0) == "price 104 is above its limit 103.5 at index 100"
    assert band.check(11 * MINUTE_US, 94.0, 100.0) == "price 94 is below its limit 100 at index 100"


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_an_unusable_price_trips_nothing_and_moves_no_reference(price):
    look_back, reference, premium = LookBackBand(0.1), ReferenceBand(), PremiumBand()
    for minute in range(5):
        assert look_back.check(minute * MINUTE_US, 100.0) is None
        assert reference.check(minute * MINUTE_US, 100.0) is None
        assert look_back.check(minute * MINUTE_US, price) is None
        assert reference.check(minute * MINUTE_US, price) is None
        assert premium.check(minute * MINUTE_US, price, 100.0) is None


def test_time_going_backwards_is_ignored():
    band = LookBackBand(0.1)
    band.check(10 * MINUTE_US, 100.0)
    assert band.check(9 * MINUTE_US, 50.0) is None
    assert band.check(11 * MINUTE_US, 99.0) is None


def test_on_hourly_bars_the_look_back_of_an_hour_is_one_bar():
    band, hour_us = LookBackBand(0.07), 60 * MINUTE_US
    trips = [band.check(hour * hour_us, price) for hour, price in enumerate((100.0, 99.0, 91.0, 90.5))]
    assert [hour for hour, trip in enumerate(trips) if trip] == [2]


RULES = {
    "look-back": (lambda: LookBackBand(0.05), lambda rule, time_us, price: rule.check(time_us, price)),
    "reference": (ReferenceBand, lambda rule, time_us, price: rule.check(time_us, price)),
    "premium": (PremiumBand, lambda rule, time_us, price: rule.check(time_us, price, 100.0)),
}


@pytest.mark.parametrize(("make", "ask"), RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("cut", [0, 1, 137, 300])
def test_a_rule_that_restarts_in_mid_stream_continues_bit_for_bit(make, ask, cut):
    chance = random.Random(5)
    rows, time_us, price = [], 0, 100.0
    for _ in range(600):
        time_us += chance.choice((1, 5, 20, 60)) * SECOND_US
        price *= 1.0 + chance.gauss(0.0, 0.02)
        rows.append((time_us, price))
    whole, first, second = make(), make(), make()
    expected = [ask(whole, *row) for row in rows]
    found = [ask(first, *row) for row in rows[:cut]]
    second.restore(first.snapshot())
    assert found + [ask(second, *row) for row in rows[cut:]] == expected
    assert any(expected)
    assert second.snapshot() == whole.snapshot()
    with pytest.raises(SnapshotError):
        make().restore(whole.snapshot()[:-4])


def test_an_alarm_needs_persistence_and_resumes_from_its_snapshot():
    alarm = AlertState(AlertRule(0.9, persistence_rows=3, refractory_rows=2))
    assert [alarm.rings(ready(value)) for value in (0.95, 0.95, 0.1, 0.95, 0.95)] == [False] * 5
    other = AlertState(alarm.rule)
    other.restore(alarm.snapshot())
    assert other.rings(ready(0.95))


def test_a_warming_score_never_rings():
    alarm = AlertState(AlertRule(0.0))
    assert not alarm.rings(Score(0.0, ScoreState.WARMING))
    assert explain_score((), Score(0.0, ScoreState.INVALID)) == "no score: invalid"


def test_drift_is_found_once_and_resumes_from_its_snapshot():
    drift = PageHinkley()
    for row in range(500):
        assert not drift.update(0.2 + 0.1 * (row % 2))
    other = PageHinkley()
    other.restore(drift.snapshot())
    found = [other.update(0.8) for _ in range(300)]
    assert found == [drift.update(0.8) for _ in range(300)]
    assert sum(found) == 1


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 30)), min_size=1, max_size=60))
def test_extremes_are_those_of_all_values_of_the_last_minutes(steps):
    seen, rows, now = MinuteExtremes(5), [], 0
    for seconds, value in steps:
        now += seconds
        rows.append((now // 60, value))
        seen.add(now * SECOND_US, float(value))
        kept = [value for minute, value in rows if minute > now // 60 - 5]
        assert (seen.low(), seen.high()) == (min(kept), max(kept))
        again = MinuteExtremes(5)
        again.take(seen.numbers())
        assert again.numbers() == seen.numbers()
        assert len(seen.numbers()) <= 1 + 2 * 2 * 5
