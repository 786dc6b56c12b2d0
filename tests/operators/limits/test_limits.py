"""Limits: up at once, down only below the exit bound for the dwell, and what nothing limits is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.operators.core.base import Events, Measures, MeasureTable, Moment
from seawall.operators.core.limits import LEVELS, LimitsState
from seawall.schemas.measures import DRAWDOWN, FORECASTS, MEASURES
from seawall_testing.desk import MS, SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import PipelineRun, run_pipeline

LIMIT: Json = {
    "id": "m",
    "scope": "account:*",
    "measure": "equity",
    "direction": "above",
    "warning": 10.0,
    "soft": 20.0,
    "hard": 30.0,
    "exit_ratio": 0.9,
    "dwell_s": 0,
}


def measured(
    seq: int,
    values: list[float],
    limits: list[Json] | None = None,
    at_s: float | None = None,
    measure: str = "equity",
    **fields: Any,
) -> tuple[Measures, Events]:
    """Return a slice with accounts a, b, … and one measure."""
    names = [chr(ord("a") + at) for at in range(len(values))]
    table = MeasureTable(names, (measure,), np.array([values]))
    configuration = None if limits is None else {"limits": {"version": 1, "sha256": "", "limits": limits}}
    moment = Moment("0", 0, seq, int((seq if at_s is None else at_s) * SECOND), 0, fields.get("decides", True))
    return Measures(moment, fields.get("tables", {"account": table})), Events(configuration)


def levels(values: list[float], times_s: list[float] | None = None, **changes: Any) -> list[str]:
    """Return the level of account ``a`` after each value, as the reported changes of level tell it."""
    state, level, found = LimitsState("0", 0), "none", []
    for seq, value in enumerate(values):
        at_s = None if times_s is None else times_s[seq]
        found_now = state.step(*measured(seq, [value], [{**LIMIT, **changes}] if seq == 0 else None, at_s))
        for breach in found_now.values:
            assert breach["previous_level"] == level
            level = breach["level"]
        found.append(level)
    return found


# --- levels -----------------------------------------------------------------------------------------------------------


def test_a_level_is_entered_as_soon_as_its_bound_is_reached() -> None:
    assert levels([9.999, 10, 19.9, 20, 30, 1e9]) == ["none", "warning", "warning", "soft", "hard", "hard"]


def test_a_jump_over_levels_is_one_change() -> None:
    assert levels([0, 35, 0]) == ["none", "hard", "none"]


def test_a_level_is_left_only_below_its_exit_bound() -> None:
    assert levels([30, 29, 27, 26.9, 18, 17.9, 9, 8.9]) == [
        "hard",
        "hard",
        "hard",
        "soft",
        "soft",
        "warning",
        "warning",
        "none",
    ]


def test_a_level_is_left_only_after_the_dwell() -> None:
    times = [0, 1, 1.9, 2, 3]
    assert levels([30, 0, 0, 0, 0], times, dwell_s=1) == ["hard", "hard", "hard", "none", "none"]


def test_the_dwell_starts_again_when_the_value_comes_back() -> None:
    times = [0, 1, 1.5, 1.9, 2.5, 2.9]
    assert levels([30, 0, 29, 0, 0, 0], times, dwell_s=1) == ["hard", "hard", "hard", "hard", "hard", "none"]


def test_a_higher_level_is_entered_at_once_while_the_dwell_of_a_lower_one_runs() -> None:
    assert levels([20, 0, 30, 0, 0], [0, 0.5, 0.6, 0.7, 1.7], dwell_s=1) == ["soft", "soft", "hard", "hard", "none"]


def test_a_limit_below_is_worse_the_smaller_the_value_and_left_above_its_level_over_the_exit_ratio() -> None:
    below = {"direction": "below", "warning": 30.0, "soft": 20.0, "hard": 10.0, "exit_ratio": 0.5}
    assert levels([31, 30, 20, 10, 20, 20.1, 40.1, 60, 60.1], **below) == [
        "none",
        "warning",
        "soft",
        "hard",
        "hard",
        "soft",
        "warning",
        "warning",
        "none",
    ]


def test_levels_that_a_limit_does_not_have_are_passed_over() -> None:
    only = {key: value for key, value in LIMIT.items() if key not in ("warning", "soft")}
    state = LimitsState("0", 0)
    found = [state.step(*measured(seq, [v], [only] if not seq else None)).values for seq, v in enumerate([25, 30, 0])]
    assert [[(b["previous_level"], b["level"], b["bound"]) for b in breaches] for breaches in found] == [
        [],
        [("none", "hard", 30.0)],
        [("hard", "none", 30.0)],
    ]


@pytest.mark.parametrize(
    ("direction", "value", "bound", "utilisation"),
    [("above", 15.0, 10.0, 1.5), ("below", 5.0, 10.0, 2.0), ("below", 0.0, 10.0, 1e6), ("below", -1.0, 10.0, 1e6)],
)
def test_utilisation_is_how_much_of_the_bound_is_used(
    direction: str, value: float, bound: float, utilisation: float
) -> None:
    limit = {"id": "m", "scope": "account:*", "measure": "equity", "direction": direction, "hard": bound}
    (breach,) = LimitsState("0", 0).step(*measured(0, [value], [limit])).values
    assert (breach["utilisation"], breach["value"], breach["bound"]) == (utilisation, value, bound)


def slow(values: list[float], times: list[int], enter: list[float], leave: list[float], dwell: int) -> list[int]:
    """Say what the level is after each value, one rule at a time; each level is left by a timer of its own."""
    level, found = 0, []
    since: dict[int, int] = {}
    for value, now in zip(values, times, strict=True):
        kept = 0
        for one in range(1, level + 1):
            if value >= leave[one - 1]:
                since.pop(one, None)
            if value >= leave[one - 1] or now - since.setdefault(one, now) < dwell:
                kept = one
        level = max(kept, sum(value >= bound for bound in enter))
        since = {one: begun for one, begun in since.items() if one <= level}
        found.append(level)
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 40), st.integers(0, 4)), min_size=1, max_size=40),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([1.0, 0.9, 0.4]),
)
def test_levels_are_those_of_a_slow_model(steps: list[tuple[float, int]], dwell: int, ratio: float) -> None:
    values = [value for value, _ in steps]
    times = np.cumsum([gap for _, gap in steps]).tolist()
    bounds = [10.0, 20.0, 30.0]
    wanted = slow(values, times, bounds, [bound * ratio for bound in bounds], dwell)
    found = levels(values, [float(at) for at in times], dwell_s=dwell, exit_ratio=ratio)
    assert found == [LEVELS[level] for level in wanted]


def test_scopes_of_a_limit_move_on_their_own() -> None:
    state = LimitsState("0", 0)
    state.step(*measured(0, [0, 0, 0], [LIMIT]))
    first = state.step(*measured(1, [35, 0, 12]))
    second = state.step(*measured(2, [35, 35, 0, 20]))
    assert [(b["scope"], b["level"]) for b in first.values] == [("account:a", "hard"), ("account:c", "warning")]
    assert [(b["scope"], b["level"]) for b in second.values] == [
        ("account:b", "hard"),
        ("account:c", "none"),
        ("account:d", "soft"),
    ]


def test_a_limit_on_one_scope_leaves_the_others_alone_and_waits_for_its_own() -> None:
    state = LimitsState("0", 0)
    assert state.step(*measured(0, [99], [{**LIMIT, "scope": "account:c"}])).values == []
    assert [b["scope"] for b in state.step(*measured(1, [99, 99, 99])).values] == ["account:c"]


def test_a_frame_that_does_not_decide_moves_no_level() -> None:
    state = LimitsState("0", 0)
    assert state.step(*measured(0, [99], [LIMIT], decides=False, tables={})).values == []
    assert len(state.step(*measured(1, [99])).values) == 1


def test_levels_stand_when_other_limits_change_and_their_new_bounds_count(tmp_path: Path) -> None:
    state = LimitsState("0", 0)
    state.step(*measured(0, [22], [LIMIT]))
    other = {**LIMIT, "id": "other", "hard": 1000.0}
    assert state.step(*measured(1, [22], [LIMIT, other])).values[0]["limit"] == "other"
    tightened = state.step(*measured(2, [22], [{**LIMIT, "hard": 21.0, "soft": 20.5}, other])).values
    assert [(b["limit"], b["previous_level"], b["level"]) for b in tightened] == [("m", "soft", "hard")]


# --- in a whole run ---------------------------------------------------------------------------------------------------

COVER: Json = {"id": "cover", "scope": "account:*", "measure": "leverage", "hard": 1e9}


def run_house_and_client(folder: Path, limits: list[Json], *more: Any, **options: Any) -> PipelineRun:
    hub = {"type": "counterparty", "counterparty": "hub", "name": "hub", "role": "venue", "group": "hubs"}
    house = {"type": "account", "account": "h", "counterparty": "hub", "holder": "house", "venue": "hub"}
    base = [instrument(), hub, {**house, "netting_set": "n"}, account("a"), mark(T0 + 1, "100")]
    base += [fill(T0 + 2, "f", "h", quantity="2"), fill(T0 + 2, "g", "a", quantity="1")]
    return run_pipeline(folder, *base, *more, limits=limits, **options)


def test_an_account_with_a_position_that_no_limit_covers_is_in_hard_breach(tmp_path: Path) -> None:
    ran = run_house_and_client(tmp_path, [], fill(T0 + SECOND, "x", "a", quantity="1", side="sell"))
    assert ran.breaches() == [
        ("account:h", "none", "hard"),
        ("account:a", "none", "hard"),
        ("account:a", "hard", "none"),
    ]
    first = ran.topic("breaches")[0]
    assert (first["limit"], first["cause"], first["evidence"][1:]) == ("default-deny", "active", ["fill:f"])


@pytest.mark.parametrize(
    "scope",
    [
        "account:h",
        "netting_set:n",
        "counterparty:hub",
        "venue:hub",
        "account:*",
        "netting_set:*",
        "counterparty:*",
        "venue:*",
        "group:hubs",
        "group:*",
        "firm",
    ],
)
def test_a_limit_of_any_scope_that_holds_the_account_covers_it(tmp_path: Path, scope: str) -> None:
    kind = scope.partition(":")[0]
    limit = {"id": "cover", "scope": scope, "measure": MEASURES[kind][0], "hard": 1e12}
    uncovered = {scope for scope, _, _ in run_house_and_client(tmp_path, [limit]).breaches("default-deny")}
    assert "account:h" not in uncovered


def test_a_limit_of_another_scope_does_not_cover(tmp_path: Path) -> None:
    limit = {"id": "cover", "scope": "counterparty:a", "measure": "pnl", "hard": 1e12}
    assert run_house_and_client(tmp_path, [limit]).breaches("default-deny") == [("account:h", "none", "hard")]


def test_a_breach_after_a_fill_is_active_and_one_after_a_mark_passive(tmp_path: Path) -> None:
    gross = {"id": "g", "scope": "counterparty:*", "measure": "gross_notional", "soft": 150, "hard": 300}
    ran = run_house_and_client(tmp_path, [COVER, gross], mark(T0 + SECOND, "200"))
    found = [(b["scope"], b["level"], b["cause"], b["evidence"]) for b in ran.topic("breaches")]
    journal = "journal:0:"
    assert found[0] == ("counterparty:hub", "soft", "active", [f"{journal}0", "fill:f"])
    second = next(p.seq for p in ran.slices if p.as_of_us == T0 + SECOND + 100 * MS)
    assert found[1:] == [
        ("counterparty:hub", "hard", "passive", [f"{journal}{second}"]),
        ("counterparty:a", "soft", "passive", [f"{journal}{second}"]),
    ]


@pytest.mark.parametrize(
    ("scope", "measure", "found"),
    [
        ("firm", "gross_notional", "firm"),
        ("group:*", "gross_notional", "group:hubs"),
        ("venue:hub", "net_notional", "venue:hub"),
        ("underlying:ETH", "gross_notional", "underlying:ETH"),
    ],
)
def test_wide_scopes_are_evaluated_once_a_second_by_the_second_operator(
    tmp_path: Path, scope: str, measure: str, found: str
) -> None:
    limit = {"id": "wide", "scope": scope, "measure": measure, "soft": 150}
    ran = run_house_and_client(tmp_path, [COVER, limit], mark(T0 + SECOND + 1, "10"), shards=3)
    breaches = [b for b in ran.topic("breaches") if b["limit"] == "wide"]
    assert [(b["scope"], b["level"], b["shard"]) for b in breaches] == [(found, "soft", "all"), (found, "none", "all")]
    assert [b["as_of_us"] for b in breaches] == [T0 + 100 * MS, T0 + 2 * SECOND]  # the last slice of each second
    assert breaches[0]["evidence"][0] == f"second:{T0 + 100 * MS}"


def test_breaches_name_the_version_of_the_limits(tmp_path: Path) -> None:
    limit = {"id": "m", "scope": "account:*", "measure": "equity", "hard": 1}
    ran = run_house_and_client(tmp_path, [limit], transfer(T0 + SECOND, "t"))
    assert {breach["version"] for breach in ran.topic("breaches")} == {1}


MADE = {"account": "h", "netting_set": "n", "counterparty": "hub", "group": "hubs", "underlying": "ETH", "venue": "hub",
        "instrument": "ETH-PERP", "asset": "ETH", "issuer": "hub", "strategy": "carry"}  # fmt: skip


COMPUTED = [(kind, one) for kind, ms in MEASURES.items() for one in ms if one not in FORECASTS]  # see test_forecasts.py


@pytest.mark.parametrize(("kind", "measure"), COMPUTED)
def test_every_measure_of_every_scope_can_be_limited_and_is_computed_for_it(
    tmp_path: Path, kind: str, measure: str
) -> None:
    scope = kind if kind == "firm" else f"{kind}:{MADE[kind]}"
    limit = {"id": "any", "scope": scope, "measure": measure, "hard": 1e12}
    issued = {"type": "asset", "asset": "ETH", "class": "token", "issuer": "hub"}
    ran = run_house_and_client(tmp_path, [COVER, limit], issued, fill(T0 + 3, "s", "h", strategy="carry"), shards=2)
    assert ("pnl" if measure == DRAWDOWN else measure) in ran.measures(scope)  # it is how far that has fallen
    assert ran.breaches("any") == []
