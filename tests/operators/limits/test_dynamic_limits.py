"""Limits that move with the market, with time and with their documents: tighten fast, loosen slowly, always explained.

Never above the ceiling, never below the floor, never a big step; what leaves, leaves with a record; time only tightens.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.operators.core.base import Events, MarketConditions, Measures, MeasureTable, Moment
from seawall.operators.core.limits import LimitsState
from seawall.operators.core.limits._cells import BUCKETS, ChangeWindows, LimitCells
from seawall.operators.core.limits._rules import Limit
from seawall.operators.core.pricing import VolatilityState
from seawall.operators.core.pricing._volatility import FAST_S, RETURNS_MIN, YEAR_S
from seawall.schemas.decimals import parse_decimal
from seawall.schemas.errors import UsageError
from seawall.schemas.generate import decode_output
from seawall.schemas.measures import check_limits
from seawall_testing.desk import MS, SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import run_pipeline

SCALED: Json = {
    "id": "scaled",
    "scope": "underlying:*",
    "measure": "gross_notional",
    "warning": 80.0,
    "hard": 100.0,
    "floor": 20.0,
    "ceiling": 120.0,
    "scaling": {"reference_volatility": 0.5, "tighten_per_s": 0.01, "loosen_per_s": 0.001, "step_max": 0.1},
}


def checked(*limits: Json) -> list[Json]:
    return check_limits([dict(limit) for limit in limits], "limits")


def markets(volatility: float, stressed: float = float("nan"), depth: float = float("nan")) -> MarketConditions:
    one = [np.array([value]) for value in (volatility, stressed, float("nan"), depth, 4.0)]
    return MarketConditions(["BTC"], *one)


def measured(seq: int, value: float, limits: list[Json] | None = None, **fields: Any) -> tuple[Measures, Events]:
    """Return a second of the firm, or with ``kind`` a slice of a shard, with one scope."""
    kind, measure = fields.pop("kind", "underlying"), fields.pop("measure", "gross_notional")
    table = MeasureTable(fields.pop("names", ["BTC"]), (measure,), np.array([[value]]))
    section = None if limits is None else {"limits": {"version": 1, "sha256": str(limits), "limits": limits}}
    at_us, decides = fields.pop("as_of_us", T0 + seq * SECOND), fields.pop("decides", True)
    moment = Moment(fields.pop("key", "all"), fields.pop("partition", 4), seq, at_us, 0, decides)
    events = Events(section, fields.pop("limit_documents", []), causes=fields.pop("causes", None))
    return Measures(moment, fields.pop("tables", {kind: table}), **fields), events


def effective(state: LimitsState) -> float:
    return float(state._cells["underlying"].scaled.columns["effective"][0])


# --- moving with the market -------------------------------------------------------------------------------------------


def test_a_bound_tightens_fast_and_loosens_slowly() -> None:
    state = LimitsState("all", 4)
    found = []
    for seq, volatility in enumerate([0.5, *[1.0] * 60, *[0.5] * 60]):
        state.step(*measured(seq, 0.0, checked(SCALED) if not seq else None, markets=markets(volatility)))
        found.append(effective(state))
    assert found[0] == 100.0
    assert found[1:4] == pytest.approx([99.0, 98.0, 97.0])
    assert found[60] == pytest.approx(50.0)
    assert found[63] - found[60] == pytest.approx(0.3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 50), st.integers(1, 600)), min_size=2, max_size=40))
def test_a_bound_never_rises_fast_never_steps_far_and_stays_between_floor_and_ceiling(
    path: list[tuple[float, int]],
) -> None:
    state, seq = LimitsState("all", 4), 0
    state.step(*measured(0, 0.0, checked(SCALED), markets=markets(path[0][0])))
    before = effective(state)
    for volatility, gap in path:
        seq += gap
        state.step(*measured(seq, 0.0, markets=markets(volatility)))
        now = effective(state)
        assert 20.0 <= now <= 120.0
        assert now - before <= min(0.001 * gap, 0.1) * 100.0 + 1e-9
        assert before - now <= min(0.01 * gap, 0.1) * 100.0 + 1e-9
        before = now


def test_a_quarter_of_the_volatility_that_counts_is_the_stressed_one() -> None:
    state = LimitsState("all", 4)
    state.step(*measured(0, 0.0, checked(SCALED), markets=markets(0.5, stressed=2.5)))
    assert effective(state) == pytest.approx(100.0 * 0.5 / (0.75 * 0.5 + 0.25 * 2.5))


def test_a_stressed_volatility_that_the_limit_states_counts_where_it_is_the_larger() -> None:
    limit = {**SCALED, "scaling": {"reference_volatility": 0.5, "stressed_volatility": 2.5}}
    state = LimitsState("all", 4)
    state.step(*measured(0, 0.0, checked(limit), markets=markets(0.5, stressed=0.6)))
    assert effective(state) == pytest.approx(50.0)


def test_what_is_not_known_tightens_at_most() -> None:
    state = LimitsState("all", 4)
    state.step(*measured(0, 0.0, checked(SCALED), markets=markets(1.0)))
    tightened = effective(state)
    for seq in range(1, 100):
        state.step(*measured(seq, 0.0, markets=markets(float("nan"))))
    assert effective(state) == tightened == 50.0


def test_a_breach_by_a_bound_that_moved_is_passive_and_carries_the_factors_that_give_it() -> None:
    state = LimitsState("all", 4)
    state.step(*measured(0, 45.0, checked(SCALED), markets=markets(0.5)))
    breaches = []
    for seq in range(1, 70):
        breaches += state.step(*measured(seq, 45.0, markets=markets(1.0))).values
    (breach,) = breaches
    assert (breach["level"], breach["cause"]) == ("warning", "passive")
    factors = breach["factors"]
    assert breach["bound"] == pytest.approx(80.0 * factors["effective"] / factors["base"])
    product = factors["volatility_ratio"] * factors["depth_ratio"] * factors["rating"]
    assert factors["formula"] == pytest.approx(factors["base"] * product)
    assert factors["target"] == min(max(factors["formula"], factors["floor"]), factors["ceiling"])
    assert factors["binding"] == "tightening_speed"


def test_depth_counts_where_the_limit_asks_for_it() -> None:
    deep = {**SCALED, "scaling": {"volatility_power": 0, "depth_power": 0.5}}
    for limit, expected in ((deep, 50.0), (SCALED, 100.0)):
        state = LimitsState("all", 4)
        state.step(*measured(0, 0.0, checked(limit), markets=markets(0.5, depth=1.0)))
        assert effective(state) == pytest.approx(expected)


def test_the_rating_of_the_counterparty_scales_the_limits_of_its_accounts() -> None:
    rated = {**SCALED, "scope": "account:*", "measure": "equity", "scaling": {"rating": {"A": 1.0, "B": 0.5}}}
    owners = [("netting_set:n", "counterparty:p")]
    state = LimitsState("0", 0)
    step = {"kind": "account", "measure": "equity", "key": "0", "partition": 0, "owners": owners, "names": ["a"]}
    nan = markets(float("nan"))
    (breach,) = state.step(*measured(0, 45.0, checked(rated), ratings={"p": "B"}, markets=nan, **step)).values
    assert (breach["level"], breach["bound"], breach["factors"]["rating"]) == ("warning", 40.0, 0.5)


def test_the_audit_hears_of_every_move_of_one_percent_once() -> None:
    state = LimitsState("all", 4)
    state.step(*measured(0, 0.0, checked(SCALED), markets=markets(0.5)))
    found = [state.step(*measured(seq, 0.0, markets=markets(1.0))).decisions for seq in range(1, 80)]
    bodies = [decision.body for decisions in found for decision in decisions if decision.kind == "limits"]
    assert 49 <= len(bodies) <= 50  # from 100 to 50, by 1 a second
    assert bodies[0]["examples"][0]["scope"] == "underlying:BTC"
    assert [body["moved"] for body in bodies] == [1] * len(bodies)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"floor": 0.0}, "needs 0 < floor"),
        ({"floor": 101.0}, "needs 0 < floor"),
        ({"ceiling": 99.0}, "needs 0 < floor"),
        ({"scaling": {"loosen_per_s": 0.5}}, "loosen_per_s must not exceed"),
        ({"scaling": {"ratng": {}}}, "did you mean 'rating'"),
        ({"scaling": {"rating": {"A": 1.0}}}, "has no rating"),
        ({"window_s": 60}, "does not scale"),
    ],
)
def test_a_scaling_that_breaks_a_rule_is_refused_with_the_rule(change: Json, rule: str) -> None:
    with pytest.raises(UsageError, match=rule):
        checked({**SCALED, **change})


def test_a_limit_that_scales_needs_its_floor_and_one_that_does_not_has_none() -> None:
    with pytest.raises(UsageError, match="needs a floor"):
        checked({key: value for key, value in SCALED.items() if key != "floor"})
    with pytest.raises(UsageError, match="add scaling or remove them"):
        checked({key: value for key, value in SCALED.items() if key != "scaling"})


# --- volatility -------------------------------------------------------------------------------------------------------


def sampled(prices: list[float], times_s: list[float]) -> VolatilityState:
    state = VolatilityState()
    for price, at in zip(prices, times_s, strict=True):
        state.sample(np.array([price]), np.array([T0 + int(at * SECOND)]))
    return state


def slow_rate(prices: list[float], times: list[float], constant: float) -> float:
    """Say the weighted variance rate one step at a time."""
    rate, age = 0.0, 0.0
    for at in range(1, len(prices)):
        elapsed = times[at] - times[at - 1]
        seen = (prices[at] / prices[at - 1] - 1) ** 2 / elapsed
        rate = (rate * age + seen * elapsed) / (age + elapsed) if age + elapsed < constant else (
            (rate + elapsed / min(age, constant) * seen) / (1 + elapsed / min(age, constant)) if age else seen
        )  # fmt: skip
        age += elapsed
    return rate


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(50, 200), st.integers(1, 300)), min_size=2, max_size=60))
def test_volatility_is_that_of_a_slow_model(path: list[tuple[float, int]]) -> None:
    prices, times = [price for price, _ in path], np.cumsum([gap for _, gap in path]).astype(float).tolist()
    state = sampled(prices, times)
    assert state.rows["fast"][0] == pytest.approx(slow_rate(prices, times, FAST_S), rel=1e-9)


LEAST, MOST = parse_decimal(f"0.{'1':0>18}"), parse_decimal("9" * 20)  # of what the contract takes for a price
PRICES = st.sampled_from([0.0, LEAST, MOST]) | st.floats(LEAST, 200) | st.floats(LEAST, MOST)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), PRICES, st.integers(-5, 900)), min_size=1, max_size=120))
def test_marks_taken_one_by_one_give_the_same_bits_as_all_at_once(path: list[tuple[int, float, int]]) -> None:
    together, alone = VolatilityState(), VolatilityState()
    price, time_us = np.full(4, np.nan), np.full(4, T0)
    for number, value, gap_s in path:
        price[number], time_us[number] = value, time_us[number] + gap_s * SECOND
        together.sample(price, time_us)
        alone.sample_one(3, price.item(3), time_us.item(3))  # both know four instruments
        alone.sample_one(number, value, time_us.item(number))
    kept, other = together.snapshot(), alone.snapshot()
    assert {name: kept[name].tobytes() for name in kept} == {name: other[name].tobytes() for name in other}


def test_prices_at_both_ends_of_what_the_contract_takes_give_a_volatility_without_an_overflow(tmp_path: Path) -> None:
    """Back and forth between them each microsecond, which nothing exceeds."""
    ran, state = run_pipeline(tmp_path, instrument(), mark(T0, "100")), VolatilityState()
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for at in range(1, 2 * RETURNS_MIN):
            state.sample(np.array([MOST if at % 2 else LEAST]), np.array([T0 + at]))
        found = state.markets(ran.exposures[0].ledger.directory, T0 + SECOND)  # type: ignore[union-attr]
    assert np.isfinite(found.volatility[0]) and found.volatility[0] > 1e40
    assert np.isfinite(found.stressed[0]) and found.stressed[0] >= found.volatility[0]


def test_a_mark_that_stands_still_in_time_adds_nothing() -> None:
    state = sampled([100.0, 101.0], [0.0, 1.0])
    before = state.snapshot()["fast"].copy()
    for _ in range(50):
        state.sample(np.array([101.0]), np.array([T0 + SECOND]))
    assert (state.snapshot()["fast"] == before).all()


def test_volatility_is_unknown_before_enough_returns_and_then_that_of_the_marks(tmp_path: Path) -> None:
    move = 0.001
    prices = [100.0 * (1 + move * (at % 2)) for at in range(RETURNS_MIN + 2)]
    base: list[Any] = [instrument(), instrument("ETH-C", kind="option", strike="1", option_type="call",
                                                expiry_us=T0 + 9_000_000_000_000)]  # fmt: skip
    marks = [mark(T0 + at * SECOND, repr(price)) for at, price in enumerate(prices)]
    ran = run_pipeline(tmp_path, *base, *marks, limits=[SCALED])
    shard = [one.measures for one in ran.measured if one.measures.moment.key == "0"]
    known = [f.markets.volatility[0] for f in shard if f.markets is not None]
    assert np.isnan(known[: RETURNS_MIN - 1]).all()
    assert known[-1] == pytest.approx(move * YEAR_S**0.5, rel=0.01)


def test_a_journaled_signal_comes_before_the_marks_while_it_is_fresh(tmp_path: Path) -> None:
    ran = run_pipeline(tmp_path, instrument(), mark(T0, "100"))
    directory = ran.exposures[0].ledger.directory  # type: ignore[union-attr]
    state = sampled([100.0 + at % 2 for at in range(60)], list(range(60)))
    state.hear(0, T0 + 59 * SECOND, 0.7, 1000.0)
    soon, late = (state.markets(directory, T0 + at * SECOND) for at in (60, 200))
    assert (soon.volatility[0], soon.depth[0], soon.depth_reference[0]) == (0.7, 1000.0, 1000.0)
    assert late.volatility[0] != 0.7
    assert np.isnan(late.depth[0])


def test_signals_tell_volatility_and_the_thinner_side_of_the_book_within_fifty_basis_points(tmp_path: Path) -> None:
    ran = run_pipeline(tmp_path, instrument(), mark(T0, "100"))
    directory = ran.exposures[0].ledger.directory  # type: ignore[union-attr]
    sides = [1.0, 8.0, 9.0, 9.0, 2.0, 5.0, 9.0, 9.0]
    told = SimpleNamespace(instrument="ETH-PERP", price=100.0, time_us=T0 + 1, depth=sides, ew_volatility=0.7)
    silent = SimpleNamespace(instrument="ETH-PERP", price=100.0, time_us=T0 + 2, depth=[], ew_volatility=0.0)
    unknown = SimpleNamespace(instrument="BTC-PERP", price=1.0, time_us=T0 + 2, depth=sides, ew_volatility=9.0)
    state = sampled([100.0], [0.0])
    state.hear_signals([told, silent, unknown], directory.instruments)
    found = state.markets(directory, T0 + SECOND)
    assert (found.volatility[0], found.stressed[0], found.depth[0]) == (0.7, 0.7, 500.0)


# --- windows ----------------------------------------------------------------------------------------------------------


def exact(values: list[float], times: list[int], window: int) -> float:
    """Return how far the last value lies above the least that stood within the window."""
    now = times[-1]
    inside = [v for v, t in zip(values, times, strict=True) if t > now - window]
    earlier = [v for v, t in zip(values, times, strict=True) if t <= now - window]
    return values[-1] - min(inside + earlier[-1:])


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(1, 40)), min_size=1, max_size=40))
def test_a_window_looks_back_its_length_and_at_most_one_part_more(path: list[tuple[float, int]]) -> None:
    window = 120 * SECOND
    windows = ChangeWindows()
    windows.add(np.array([0]), np.array([window]))
    values, times, now = [], [], T0
    for value, gap in path:
        now += gap * SECOND
        values, times = [*values, value], [*times, now]
        found = float(windows.change(np.array([value]), now)[0])
        assert exact(values, times, window) <= found + 1e-9
        assert found <= exact(values, times, window + window // BUCKETS + SECOND) + 1e-9


def test_a_limit_per_time_window_counts_what_a_measure_rose_in_it_and_forgets() -> None:
    fast = {"id": "fast", "scope": "underlying:*", "measure": "gross_notional", "hard": 50.0, "window_s": 60}
    state, found = LimitsState("all", 4), []
    for seq, value in [(0, 1000.0), (30, 1040.0), (50, 1055.0), (200, 1055.0), (230, 1099.0)]:
        found += [(seq, b["level"], b["value"]) for b in state.step(
            *measured(seq, value, checked(fast) if not seq else None)).values]  # fmt: skip
    assert found == [(50, "hard", 55.0), (200, "none", 0.0)]


def test_a_fall_is_a_negative_change_of_a_limit_below() -> None:
    fall = {"id": "fall", "scope": "underlying:*", "measure": "gross_notional", "direction": "below",
            "soft": -10.0, "hard": -20.0, "window_s": 60, "exit_ratio": 0.5}  # fmt: skip
    state, found = LimitsState("all", 4), []
    for seq, value in enumerate([100.0, 95.0, 88.0, 79.0, 89.0, 91.0, 96.0]):
        found += [(b["level"], b["value"], b["utilisation"]) for b in state.step(
            *measured(seq, value, checked(fall) if not seq else None)).values]  # fmt: skip
    assert found == [("soft", -12.0, 1.2), ("hard", -21.0, 1.05), ("soft", -9.0, 0.45), ("none", -4.0, 0.4)]


# --- limits that come and go ------------------------------------------------------------------------------------------

PLAIN: Json = {"id": "plain", "scope": "underlying:*", "measure": "gross_notional", "soft": 50.0, "hard": 100.0}


def test_a_limit_removed_while_breached_leaves_with_a_record_to_none() -> None:
    state = LimitsState("all", 4)
    state.step(*measured(0, 70.0, checked(PLAIN)))
    (left,) = state.step(*measured(1, 70.0, [])).values
    assert (left["limit"], left["previous_level"], left["level"]) == ("plain", "soft", "none")
    assert (left["value"], left["bound"]) == (70.0, 50.0)


def test_a_limit_removed_in_a_slice_that_does_not_decide_leaves_at_the_next_that_does() -> None:
    state = LimitsState("all", 4)
    state.step(*measured(0, 70.0, checked(PLAIN)))
    removed = measured(1, 0.0, [], decides=False)
    assert state.step(*removed).values == []
    resumed = LimitsState.restore(state.snapshot())
    assert [b["level"] for b in resumed.step(*measured(2, 70.0)).values] == ["none"]


def test_a_limit_that_now_names_another_scope_leaves_the_old_one() -> None:
    state = LimitsState("all", 4)
    state.step(*measured(0, 70.0, checked({**PLAIN, "scope": "underlying:BTC"})))
    breaches = state.step(*measured(1, 70.0, checked({**PLAIN, "scope": "underlying:ETH"}))).values
    assert [(b["scope"], b["level"]) for b in breaches] == [("underlying:BTC", "none")]


def test_an_account_that_a_new_limit_covers_leaves_default_deny(tmp_path: Path) -> None:
    step = {"kind": "account", "measure": "equity", "key": "0", "partition": 0, "owners": [("counterparty:a",)],
            "names": ["a"], "positions": np.array([True])}  # fmt: skip
    state = LimitsState("0", 0)
    assert [b["level"] for b in state.step(*measured(0, 1.0, [], **step)).values] == ["hard"]
    cover = checked({"id": "cover", "scope": "account:*", "measure": "equity", "hard": 1e9})
    assert [b["level"] for b in state.step(*measured(1, 1.0, cover, **step)).values] == ["none"]


def test_a_limit_past_its_validity_counts_at_its_tightest_and_one_before_it_not_at_all() -> None:
    later = {**PLAIN, "valid_from_us": T0 + 2 * SECOND, "valid_to_us": T0 + 4 * SECOND}
    state, found = LimitsState("all", 4), []
    for seq in range(6):
        found += [(seq, b["level"], b["bound"]) for b in state.step(
            *measured(seq, 70.0, checked(later) if not seq else None)).values]  # fmt: skip
    assert found == [(2, "soft", 50.0), (4, "hard", 50.0)]


def test_a_scaled_limit_past_its_validity_falls_to_its_floor_and_loosens_slowly_when_renewed() -> None:
    state = LimitsState("all", 4)
    state.step(*measured(0, 0.0, checked({**SCALED, "valid_to_us": T0 + 2 * SECOND}), markets=markets(0.5)))
    state.step(*measured(2, 0.0, markets=markets(0.5)))
    assert effective(state) == 20.0
    state.step(*measured(3, 0.0, checked(SCALED), markets=markets(0.5)))
    assert effective(state) == pytest.approx(20.1)


def test_a_bound_goes_on_from_where_it_is_when_the_limit_changes() -> None:
    state = LimitsState("all", 4)
    state.step(*measured(0, 0.0, checked(SCALED), markets=markets(1.0)))
    state.step(*measured(1, 0.0, checked({**SCALED, "hard": 110.0}), markets=markets(0.5)))
    assert effective(state) == pytest.approx(50.0 + 0.001 * 110.0)


# --- cells against a slow model ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_named_and_starred_limits_on_growing_scopes_stand_as_in_a_slow_model(data: st.DataObject) -> None:
    names = list("abcdefgh")
    ratios, scopes = st.sampled_from([1.0, 0.5]), st.sampled_from(["*", *names])
    limits: list[Json] = [
        {
            "id": f"l{at}",
            "scope": f"account:{data.draw(scopes)}",
            "measure": "equity",
            "hard": data.draw(st.floats(1, 99)),
            "exit_ratio": data.draw(ratios),
        }
        for at in range(data.draw(st.integers(1, 6)))
    ]
    cells = LimitCells([Limit(limit, at) for at, limit in enumerate(limits)])
    level: dict[tuple[str, str], int] = {}
    count = 0
    for now in range(12):
        count = min(len(names), count + data.draw(st.integers(0, 3)))
        values = [data.draw(st.floats(0, 100)) for _ in range(count)]
        changes = cells.evaluate(MeasureTable(names, ("equity",), np.array(values).reshape(1, -1)), now)
        wanted = []
        for limit in limits:
            for name, value in zip(names, values, strict=False):
                if limit["scope"] not in ("account:*", f"account:{name}"):
                    continue
                held = level.get((limit["id"], name), 0)
                new = 3 if value >= limit["hard"] or (held and value >= limit["hard"] * limit["exit_ratio"]) else 0
                if new != held:
                    wanted.append((limit["id"], name, held, new))
                level[limit["id"], name] = new
        found = [(c.limit.id, names[c.column], c.before, c.after) for c in sorted(changes, key=lambda c: c[:2])]
        assert found == wanted


def test_a_level_that_was_told_by_others_is_certain_and_is_not_told_again() -> None:
    """The measure is 50 at its worse end and 0 at its better one; the level stands as others had told it."""
    cells = LimitCells([Limit({"id": "l", "scope": "account:*", "measure": "equity", "hard": 10})])
    table, doubt = MeasureTable(["a"], ("equity",), np.array([[50.0]])), (np.zeros((0, 0)), np.array([50.0]))
    assert [(one.after, one.certain) for one in cells.evaluate(table, T0, doubt)] == [(3, 0)]
    cells.set_levels(["a"], {("l", "account:a"): 3})
    assert cells.evaluate(table, T0 + SECOND) == []


# --- our own books ----------------------------------------------------------------------------------------------------


def test_a_breach_by_price_alone_forces_no_trading_in_our_own_books_and_the_audit_says_so(tmp_path: Path) -> None:
    venue = {"type": "counterparty", "counterparty": "hub", "name": "hub", "role": "venue"}
    house = {"type": "account", "account": "h", "counterparty": "hub", "holder": "house", "venue": "hub"}
    gross = {"id": "g", "scope": "account:*", "measure": "gross_notional", "soft": 250.0, "hard": 500.0}
    kinds = [
        {"kind": "REDUCE_POSITION", "target": "account", "ratio": 0.5},
        {"kind": "REDUCE_ONLY", "target": "account"},
    ]
    cut = {"id": "cut", "when": {"limit": "g", "level": "soft"}, "commands": kinds}
    ran = run_pipeline(
        tmp_path, instrument(), venue, house, account("a"), transfer(T0, "t", amount="900"), mark(T0 + 1, "100"),
        fill(T0 + 2, "f", "h", quantity="2"), fill(T0 + 3, "g", "a", quantity="2"), mark(T0 + SECOND, "200"),
        fill(T0 + 2 * SECOND, "h", "h", quantity="2", price="200"), limits=[gross], playbook=[cut],
    )  # fmt: skip
    assert ran.commands() == [
        ("REDUCE_ONLY", "account:h"),
        ("REDUCE_POSITION", "account:a"),
        ("REDUCE_ONLY", "account:a"),
    ]
    (withheld,) = ran.audits("withheld")
    assert (withheld["kind"], withheld["target"], withheld["rule"]) == ("REDUCE_POSITION", "account:h", "cut")


def test_an_active_breach_may_reduce_our_own_position(tmp_path: Path) -> None:
    house = {"type": "account", "account": "h", "counterparty": "a", "holder": "house"}
    gross = {"id": "g", "scope": "account:*", "measure": "gross_notional", "soft": 250.0}
    cut = {"id": "cut", "when": {"limit": "g", "level": "soft"},
           "commands": [{"kind": "REDUCE_POSITION", "target": "account"}]}  # fmt: skip
    ran = run_pipeline(
        tmp_path, instrument(), account("a"), house, mark(T0 + 1, "100"), fill(T0 + 2, "f", "h", quantity="3"),
        limits=[gross], playbook=[cut],
    )  # fmt: skip
    assert ran.commands() == [("REDUCE_POSITION", "account:h")]


def test_a_breach_of_a_scaled_limit_in_a_whole_run_has_its_factors_in_record_and_audit(tmp_path: Path) -> None:
    limit = {**SCALED, "hard": 150.0, "warning": 140.0, "ceiling": 150.0, "scaling": {"reference_volatility": 0.01}}
    prices = [repr(100.0 + at % 2) for at in range(RETURNS_MIN + 40)]
    ran = run_pipeline(
        tmp_path, instrument(), account("a"), transfer(T0, "t", amount="900"), mark(T0 + 1, "100"),
        fill(T0 + 2, "f", "a", quantity="1"), *[mark(T0 + at * SECOND + MS, p) for at, p in enumerate(prices)],
        limits=[limit],
    )  # fmt: skip
    breaches = [b for b in ran.topic("breaches") if b["limit"] == "scaled"]
    assert [b["level"] for b in breaches] == ["warning", "hard"]
    audited = [json.loads(r.value)["body"] for r in ran.records("audit") if json.loads(r.value)["kind"] == "breach"]
    assert [b["factors"] for b in breaches] == [b["factors"] for b in audited if "factors" in b]
    assert ran.audits("limits")
    for topic in ("breaches", "audit"):
        for record in ran.records(topic):
            decode_output(topic, record.value)
