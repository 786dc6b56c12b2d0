"""The market's core: marks, features against slow formulas, rules, feeds, bad input, bounded memory, restarts."""

import json
import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.operators.core.market import GroupBatcher, GroupRecords, GroupState, IntervalEnd, instrument_group
from seawall.operators.core.market._instrument import (
    FAMILIES,
    LONG_RATE,
    SHORT_RATE,
    YEAR_US,
    PriceVolatility,
    WinsorisedMoments,
)
from seawall.operators.core.market._venues import depth_within, new_venue, order_flow, weighted_median
from seawall.schemas.configuration import MarketTerms
from seawall.schemas.records import Record
from seawall_testing.desk import SECOND, T0, Json, mark
from seawall_testing.market_data import (
    VENUES,
    alerts,
    decoded,
    depth,
    group_items,
    market,
    quote,
    signals,
    trade,
    venue_record,
    watch_group,
)

ONE = MarketTerms(groups=1)
prices = st.floats(0.01, 1e6)


# --- figures against slow formulas ------------------------------------------------------------------------------------


@given(st.lists(st.tuples(prices, st.integers(1, 5)), min_size=1, max_size=9))
def test_the_weighted_median_is_the_median_of_values_repeated_by_weight(pairs: list[tuple[float, int]]) -> None:
    repeated = [value for value, weight in pairs for _ in range(weight)]
    found = weighted_median([(value, float(weight)) for value, weight in pairs])
    assert found == pytest.approx(statistics.median(repeated), rel=1e-12)


@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=80))
def test_volatility_is_that_of_the_formulas(changes: list[float]) -> None:
    volatility = PriceVolatility()
    for change in changes:
        volatility.take(change, SECOND)
    rows = 60 - (-len(changes) % 10) if len(changes) > 60 else 60  # whole blocks of ten, and the one that has begun
    window = [change * change for change in changes[-rows:]]
    assert volatility.realised() == pytest.approx(math.sqrt(math.fsum(window) / len(window) / SECOND * YEAR_US))
    short = 0.0
    for row, change in enumerate(changes, 1):
        short += max(SHORT_RATE, 1 / row) * (change * change - short)
    assert volatility.ew() == pytest.approx(math.sqrt(short / SECOND * YEAR_US))


@given(st.lists(st.integers(-1000, 1000).map(lambda millionths: millionths / 1e6), min_size=2, max_size=20))
def test_while_a_series_is_new_its_z_is_that_of_all_values_before(changes: list[float]) -> None:
    volatility = PriceVolatility()
    for row, change in enumerate(changes):
        z, _ = volatility.take(change, SECOND)
        before = sum(c * c for c in changes[:row]) / row if row else 0.0
        assert z == pytest.approx(change / math.sqrt(before), rel=1e-9) if before else z == 0.0


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=19))
def test_moments_of_a_new_series_are_its_mean_and_variance(values: list[float]) -> None:
    moments = WinsorisedMoments(LONG_RATE)
    for value in values:
        moments.learn(value)
    assert moments.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
    assert moments.variance == pytest.approx(statistics.pvariance(values), rel=1e-6, abs=1e-9)


levels = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 9)), min_size=1, max_size=20)


@given(levels, st.sampled_from([-1.0, 1.0]))
def test_depth_within_a_band_is_the_quantity_of_its_levels(rows: list[tuple[int, int]], side: float) -> None:
    book = [(str(1000 + side * away), str(size)) for away, size in rows]
    for band, found in zip((10, 50, 100, 500), depth_within(book, 1000.0, side), strict=True):
        assert found == sum(size for away, size in rows if away * 10 <= band)


quotes = st.tuples(st.integers(90, 99), st.integers(1, 9), st.integers(100, 110), st.integers(1, 9))


@given(quotes, quotes)
def test_order_flow_is_that_of_the_paper(before: Any, after: Any) -> None:
    (b0, qb0, a0, qa0), (b1, qb1, a1, qa1) = before, after
    bid = qb1 - qb0 if b1 == b0 else (qb1 if b1 > b0 else -qb0)
    ask = qa1 - qa0 if a1 == a0 else (qa1 if a1 < a0 else -qa0)
    assert order_flow(tuple(map(float, before)), tuple(map(float, after))) == bid - ask


def test_a_row_of_features_is_what_the_records_say() -> None:
    records = [
        quote(T0 + 1, 100.0, half_bp=2.0),
        quote(T0 + 2, 100.2, "lake", half_bp=5.0),
        depth(T0 + 3, 100.0, 4.0),
        mark(T0 + 4, "99", kind="index", venue="hub"),
        trade(T0 + SECOND + 1, 101.0, quantity="3"),
        trade(T0 + SECOND + 2, 101.0, quantity="1", side="sell"),
        quote(T0 + SECOND + 3, 101.0, half_bp=2.0),
        venue_record(T0 + SECOND + 4, "liquidation", side="sell", price="100", quantity="2"),
        venue_record(T0 + SECOND + 5, "funding", rate="0.0001", interval_us=28_800_000_000),
        venue_record(T0 + SECOND + 6, "open_interest", quantity="900"),
    ]
    *_, first, second, last = signals(watch_group(records))
    row = next(
        row for signal in (first, second, last) for row in signal.instruments if row.state and row.price > 100.15
    )
    assert set(row.features) == {name for names in FAMILIES.values() for name in names}
    assert row.source == "robust" and row.price == pytest.approx((101.0 + 100.2) / 2)
    assert row.features["trade_imbalance"] == pytest.approx(0.5)
    assert row.features["spread_bp"] == pytest.approx(4.0, rel=1e-3)
    assert row.features["venue_divergence_bp"] == pytest.approx((101.0 / row.price - 1) * 1e4, rel=1e-6)
    assert row.depth == pytest.approx([4.0, 8.0, 12.0, 16.0] * 2, abs=4.0)
    assert row.features["open_interest_drop"] == 0.0
    assert row.features["order_flow_imbalance"] != 0.0


# --- marks ------------------------------------------------------------------------------------------------------------


def test_one_venue_of_three_that_breaks_does_not_move_the_robust_mark() -> None:
    records = [quote(T0 + at, 100.0 if venue != "hub" else 50.0, venue) for at, venue in enumerate(VENUES, 1)]
    row = signals(watch_group(records))[0].instruments[0]
    assert (row.price, row.source) == (pytest.approx(100.0), "robust")
    assert {venue.venue: venue.price for venue in row.venues}["hub"] == pytest.approx(50.0)


def test_a_stale_venue_leaves_the_robust_mark_and_says_so() -> None:
    records = [quote(T0 + 1, 50.0, "hub")]
    records += [quote(T0 + at * SECOND + 2, 100.0, venue) for at in range(1, 40) for venue in ("lake", "port")]
    row = signals(watch_group(records))[-2].instruments[0]
    assert row.price == pytest.approx(100.0)
    assert [venue.venue for venue in row.venues if venue.stale] == ["hub"]


def test_a_venue_that_is_down_leaves_the_robust_mark_until_it_is_up() -> None:
    def status(at_us: int, word: str) -> dict[str, Any]:
        return {"type": "venue_status", "event_time_us": at_us, "venue": "hub", "status": word}

    pair = [(50.0, "hub"), (100.0, "lake")]
    records = [status(T0, "down"), *(quote(T0 + 1, price, venue) for price, venue in pair)]
    records += [status(T0 + SECOND, "up"), *(quote(T0 + SECOND + 1, price, venue) for price, venue in pair)]
    found = [row.price for signal in signals(watch_group(records)) for row in signal.instruments]
    assert found[0] == pytest.approx(100.0) and found[-1] == pytest.approx(75.0)


def test_a_mark_outranks_a_mid_and_a_mid_a_last() -> None:
    venue = new_venue()
    found = []
    for event in decoded([trade(T0, 1.0), quote(T0 + 1, 2.0), mark(T0 + 2, "3", venue="hub")]):
        from seawall.operators.core.market._venues import apply_event

        apply_event(venue, event)
        best = venue.best(T0 + 3, SECOND)
        assert best is not None
        found.append(round(best[1].value, 6))
    assert found == [1.0, 2.0, 3.0]


# --- alerts -----------------------------------------------------------------------------------------------------------


def test_a_crash_trips_the_circuit_breaker_the_band_and_the_detector_each_once() -> None:
    found = alerts(watch_group(market(330, crash_at=280)))
    assert sorted(found) == [(kind, "instrument:ETH-PERP") for kind in ("anomaly", "circuit_breaker", "price_band")]


def test_a_quiet_market_raises_no_rule() -> None:
    assert {kind for kind, _ in alerts(watch_group(market(300)))} <= {"anomaly"}


def test_an_alert_says_why_in_one_sentence() -> None:
    found = [
        alert for s in signals(watch_group(market(330, crash_at=280))) for alert in s.alerts if alert.kind == "anomaly"
    ]
    assert found[0].text.startswith("ETH-PERP: unusual price, score 0.")
    assert "return_z" in found[0].text
    assert sum(found[0].contributions.values()) == pytest.approx(1.0)


def test_venues_that_stay_apart_are_an_alert_and_a_moment_apart_is_none() -> None:
    def apart(seconds: float) -> list[tuple[str, str]]:
        steps = range(int(seconds * 10))
        pair = [("hub", 100.0), ("lake", 102.0)]
        records = [quote(T0 + step * 100_000 + 1, price, venue) for step in steps for venue, price in pair]
        records += [quote(T0 + (len(steps) + 1) * 100_000, 100.0, venue) for venue, _ in pair]
        return alerts(watch_group(records))

    assert apart(2) == [("venue_gap", "instrument:ETH-PERP")]
    assert apart(0.5) == []


def test_a_feed_that_stops_is_told_once_and_a_venue_that_stops_as_a_whole_too() -> None:
    both = [quote(T0 + s * SECOND, 100.0, venue, name) for s in range(20) for venue in ("hub", "lake") for name in "AB"]
    hub_a_stops = [quote(T0 + s * SECOND, 100.0, "hub", "B") for s in range(20, 60)]
    lake = [quote(T0 + s * SECOND + 1, 100.0, "lake", name) for s in range(20, 60) for name in "AB"]
    one_feed = sorted(both + hub_a_stops + lake, key=lambda record: record["event_time_us"])
    assert alerts(watch_group(one_feed)) == [("stale_feed", "instrument:A")]
    whole_venue = sorted(both + lake, key=lambda record: record["event_time_us"])
    assert alerts(watch_group(whole_venue)) == [("dead_feed", "venue:hub")]


def test_a_venue_lives_while_any_group_hears_of_it_and_a_feed_of_it_that_stops_is_told() -> None:
    terms, (gone, alive) = MarketTerms(groups=4), ("BTC-PERP", "ETH-PERP")
    assert instrument_group(gone, 4) != instrument_group(alive, 4)

    def told(until_s: int, again_s: int = 300) -> list[tuple[str, str]]:
        seconds = [(s, name) for s in range(300) for name in (gone, alive) if name == alive or s < 20]
        hub = [quote(T0 + s * SECOND, 100.0, "hub", name) for s, name in seconds if s < until_s or s >= again_s]
        lake = [quote(T0 + s * SECOND + 1, 100.0, "lake", name) for s in range(300) for name in (gone, alive)]
        groups = {number: GroupState(number, terms) for number in range(4)}
        records = sorted(hub + lake, key=lambda record: record["event_time_us"])
        return alerts(record for number, item in group_items(records, terms) for record in groups[number].step(item))

    assert told(300) == [("stale_feed", f"instrument:{gone}")]
    assert told(100) == [("stale_feed", f"instrument:{gone}"), ("dead_feed", "venue:hub")]
    again = [("feed_back", "venue:hub")]
    assert told(100, 150) == [("stale_feed", f"instrument:{gone}"), ("dead_feed", "venue:hub"), *again]


def test_venues_that_another_group_hears_come_back_in_the_order_in_which_they_spoke() -> None:
    terms, (ours, theirs) = MarketTerms(groups=4), ("BTC-PERP", "ETH-PERP")
    venues = [f"venue-{letter}" for letter in "fcaebd"]
    records = [
        quote(T0 + s * SECOND + at, 100.0, venue, name)
        for s in range(300)
        for at, venue in enumerate(venues)
        for name in (ours, theirs)
        if s < 100 or (s >= 150 and name == theirs)
    ]
    records += [quote(T0 + s * SECOND + 9, 100.0, "lake", ours) for s in range(300)]  # so that seconds end
    records.sort(key=lambda record: record["event_time_us"])
    group = GroupState(instrument_group(ours, 4), terms)
    found = [
        record
        for at, item in group_items(records, terms)
        if at == instrument_group(ours, 4)
        for record in group.step(item)
    ]
    back = [scope for kind, scope in alerts(found) if kind == "feed_back"]
    assert back == [f"venue:{venue}" for venue in venues]


def test_a_cutter_goes_on_from_its_state_and_from_one_that_names_no_venues() -> None:
    records = decoded([quote(T0 + s * SECOND // 2, 100.0, "hub") for s in range(4)])
    whole, first = GroupBatcher(1, ONE.interval_us), GroupBatcher(1, ONE.interval_us)
    for cutter, events in ((whole, records), (first, records[:3])):
        for event in events:
            cutter.add(event.event_time_us, event)
    first.flush()
    states = [first.state(), first.state()[:7]]
    told = []
    for state in states:
        second = GroupBatcher(1, ONE.interval_us)
        second.restore(state)
        second.add(records[3].event_time_us, records[3])
        second.finish()
        told.append([item.heard for _, item in second.take() if isinstance(item, IntervalEnd)])
    whole.finish()
    assert told[0] == [item.heard for _, item in whole.take() if isinstance(item, IntervalEnd)][-len(told[0]) :]
    assert len(told[0]) == len(told[1])


def test_a_feed_that_stays_away_when_its_venue_is_back_is_told() -> None:
    def said(start: int, end: int, names: str) -> list[Json]:
        hub = [quote(T0 + s * SECOND, 100.0, "hub", name) for s in range(start, end) for name in names]
        return hub + [quote(T0 + s * SECOND + 1, 100.0, "lake", name) for s in range(start, end) for name in "AB"]

    def told(records: list[Json]) -> list[tuple[str, str]]:
        return alerts(watch_group(sorted(records, key=lambda record: record["event_time_us"])))

    stale = ("stale_feed", "instrument:A")
    died = said(0, 20, "AB") + said(20, 60, "") + said(60, 200, "B")
    assert told(died) == [("dead_feed", "venue:hub"), ("feed_back", "venue:hub"), stale]
    status = [{"type": "venue_status", "event_time_us": T0 + s * SECOND + 2, "venue": "hub", "status": word}
              for s, word in ((19, "down"), (100, "up"))]  # fmt: skip
    assert told(said(0, 20, "AB") + said(20, 200, "B") + status) == [stale]


@pytest.mark.parametrize("instruments_max", [3, 300, 2000])
def test_a_group_that_was_full_comes_back_with_room_for_another_number_of_instruments(instruments_max: int) -> None:
    full = MarketTerms(groups=1, instruments_max=3)
    group = GroupState(0, full)
    for _, item in group_items(
        [quote(T0 + s * SECOND, 100.0, name=f"I{at}") for s in range(3) for at in range(5)], full
    ):
        group.step(item)
    back = GroupState.restore(group.snapshot(), MarketTerms(groups=1, instruments_max=instruments_max))
    assert len(back.registry) == 3


def test_live_silence_is_told_though_nothing_comes_any_more() -> None:
    group, cutter = GroupState(0, ONE), GroupBatcher(1, ONE.interval_us, every_second=True)
    for event in decoded([quote(T0 + s * SECOND, 100.0) for s in range(10)]):
        cutter.add(event.event_time_us, event)
    cutter.close_to(T0 + 3600 * SECOND)
    found = [record for _, item in cutter.take() for record in group.step(item)]
    assert alerts(found) == [("dead_feed", "venue:hub")]


# --- bad input --------------------------------------------------------------------------------------------------------


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def test_time_that_goes_backwards_moves_no_mark_and_is_told() -> None:
    records = [quote(T0 + SECOND, 100.0), *(trade(T0 + at, 5.0) for at in range(6)), quote(T0 + 2 * SECOND, 100.1)]
    found = watch_group(records)
    assert alerts(found) == [("time_backwards", "instrument:ETH-PERP")]
    assert {round(row.price) for signal in signals(found) for row in signal.instruments} == {100}


def read_live(read: list[tuple[int, Json]], until_us: int) -> list[Record]:
    """Return what a group says of records that are read at times of their own."""
    group, cutter = GroupState(0, ONE), GroupBatcher(1, ONE.interval_us, every_second=True)
    for at_us, record in read:
        cutter.add(at_us, *decoded([record]))
    cutter.close_to(until_us)
    return [record for _, item in cutter.take() for record in group.step(item)]


@pytest.mark.parametrize("ahead_s", [0, 60, 23 * 3600])
def test_one_stamp_from_the_future_holds_up_neither_the_mark_nor_the_silence_of_its_feed(ahead_s: int) -> None:
    read = [(T0 + s * SECOND, quote(T0 + s * SECOND, 100.0 if s < 60 else 80.0)) for s in range(70)]
    read[50] = read[50][0], quote(T0 + (50 + ahead_s) * SECOND, 100.0)
    found = read_live(read, T0 + 600 * SECOND)
    *_, last = [row for signal in signals(found) for row in signal.instruments]
    assert round(last.price) == 80 and last.time_us == T0 + 69 * SECOND
    assert alerts(found)[0] == ("circuit_breaker", "instrument:ETH-PERP")
    assert ("dead_feed", "venue:hub") in alerts(found)


def test_a_constant_feed_is_never_unusual_and_its_first_move_is() -> None:
    records = [quote(T0 + s * SECOND, 100.0) for s in range(400)]
    assert alerts(watch_group(records)) == []
    assert ("anomaly", "instrument:ETH-PERP") in alerts(watch_group([*records, quote(T0 + 400 * SECOND, 101.0)]))


def test_a_jump_by_a_million_poisons_nothing() -> None:
    calm = market(500)
    wild = [trade(T0 + 300 * SECOND + 200_000, 1e8, venue) for venue in VENUES]
    wild += [quote(T0 + 300 * SECOND + 200_001, 1e8, venue) for venue in VENUES]
    found = watch_group(sorted(calm + wild, key=lambda record: record["event_time_us"]))
    assert all(finite(json.loads(record.value)) for record in found)
    assert ("circuit_breaker", "instrument:ETH-PERP") in alerts(found)
    late = [row for signal in signals(found)[-40:] for row in signal.instruments if row.features]
    assert all(0.05 < row.features["volatility_ratio"] < 50 for row in late)
    assert all(abs(row.features["return_z"]) < 20 for row in late)


def test_duplicate_times_and_crossed_quotes_leave_the_mark_in_place() -> None:
    crossed = venue_record(T0 + 5, "quote", bid="120", ask="80", bid_size="1", ask_size="1")
    found = signals(watch_group([quote(T0 + 5, 100.0), quote(T0 + 5, 100.2), crossed, crossed]))
    assert found[0].instruments[0].price == pytest.approx(100.2)


def test_a_key_that_floods_costs_one_entry_and_a_million_keys_do_not_grow_memory() -> None:
    terms = MarketTerms(groups=1, instruments_max=50)
    group = GroupState(0, terms)
    template = decoded([trade(T0, 100.0)])[0]
    flood = [template] * 20_000
    group.step(GroupRecords(flood))
    assert len(group.registry) == 1
    import msgspec

    for start in range(0, 100_000, 5_000):
        batch = [msgspec.structs.replace(template, instrument=f"K{number}") for number in range(start, start + 5_000)]
        group.step(GroupRecords(batch))
        group.step(IntervalEnd(T0 + SECOND * (start + 1), second=True))
        assert len(group.registry) == terms.instruments_max
        group.step(GroupRecords([template] * 2))
    assert group.registry.evicted < 5_000
    assert group.registry.find("ETH-PERP") is not None
    assert len(group.snapshot()) < 500_000


def test_a_forgotten_instrument_starts_cold_and_its_detectors_have_seen_nothing() -> None:
    terms = MarketTerms(groups=1, instruments_max=1)
    before = [quote(T0 + s * SECOND, 100.0 + s % 7) for s in range(300)]
    other = [quote(T0 + 300 * SECOND + at, 5.0, name="OTHER") for at in range(2)]
    after = [quote(T0 + s * SECOND, 900.0 + s % 7) for s in range(301, 321)]
    found = signals(watch_group(before + other + after, terms))
    states = [row.state for signal in found for row in signal.instruments if row.state]
    assert states[299 - 1] == "ready" and set(states[-19:]) == {"warming"}


# --- restarts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 7, 50])
def test_a_group_that_is_restored_in_mid_stream_continues_bit_for_bit(every: int) -> None:
    given_items = [item for _, item in group_items(market(40, names=("A", "B")), ONE)]
    whole, restored = GroupState(0, ONE), GroupState(0, ONE)
    for at, item in enumerate(given_items):
        assert restored.step(item) == whole.step(item)
        if at % every == 0:
            restored = GroupState.restore(restored.snapshot(), ONE)
    assert restored.snapshot() == whole.snapshot()


def test_batches_of_many_instruments_give_what_single_ones_give() -> None:
    names = [f"N{number:02d}" for number in range(20)]
    together = signals(watch_group(market(30, names=names)))
    for name in names[:3]:
        alone = [r for r in market(30, names=names) if r["instrument"] == name]
        rows = {s.event_time_us: row for s in signals(watch_group(alone)) for row in s.instruments if row.state}
        for signal in together:
            for row in signal.instruments:
                if row.instrument == name and row.state:
                    assert (row.score, row.price) == (
                        rows[signal.event_time_us].score,
                        rows[signal.event_time_us].price,
                    )


def test_a_record_never_grows_beyond_what_the_bus_and_the_sequencer_take() -> None:
    records = [quote(T0 + 1, 100.0, f"venue-{v}", f"N{n}") for n in range(100) for v in range(30)]
    found = watch_group(records)
    assert max(len(record.value) for record in found) < 256 * 1024
    assert [record.id for record in found[:3]] == ["0-0-0", "0-0-1", "0-0-2"]
    assert [signal.more for signal in signals(found)[:3]] == [True, True, False]
    assert sum(len(signal.instruments) for signal in signals(found)[:3]) == 100
