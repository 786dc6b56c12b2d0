"""What commands have computed: against brute force, against a solver, and end to end from the journal."""

import json
from fractions import Fraction
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest

from seawall.operators.core.base import OpenPositions
from seawall.operators.core.mitigation._funds import CounterpartyFunds, diversify
from seawall.operators.core.mitigation._sizes import SizeBounds, kept_share, reduce_positions
from seawall.operators.core.mitigation._venue_routing import IMPACT, VenueCapacity, venue_weights
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import PipelineRun, run_pipeline
from seawall_testing.playbooks import external_event, marks_every_second, rule

# --- diversification --------------------------------------------------------------------------------------------------


def small_case(rng: Random, size: int) -> tuple[list[CounterpartyFunds], dict[tuple[str, str], int]]:
    """Return a desk with small whole amounts, and costs between its names, some of them without a way."""
    names = "abcd"[:size]
    desk = [CounterpartyFunds(n, rng.randrange(9), rng.randrange(7), rng.randrange(6)) for n in names]
    costs = {(i, j): rng.choice((-1, 0, 1, 2, 5)) for i in names for j in names if i != j}
    return desk, costs


def brute_force(desk: list[CounterpartyFunds], costs: dict[tuple[str, str], int]) -> tuple[int, int]:
    """Return the most that can be moved and its least cost, by trying every whole plan."""
    over = [one for one in desk if one.exposure > one.limit]
    under = [one for one in desk if one.exposure <= one.limit]
    ways = [(i, j) for i in over for j in under if costs[i.name, j.name] >= 0]
    best = (0, 0)
    for amounts in product(*(range(int(min(i.free, i.exposure - i.limit)) + 1) for i, _ in ways)):
        plan = list(zip(ways, amounts, strict=True))
        if all(
            sum(n for (i, _), n in plan if i is one) <= min(one.free, one.exposure - one.limit) for one in over
        ) and all(sum(n for (_, j), n in plan if j is one) <= one.limit - one.exposure for one in under):
            moved = sum(amounts)
            cost = sum(costs[i.name, j.name] * n for (i, j), n in plan)
            best = min(best, (-moved, cost))
    return -best[0], best[1]


@pytest.mark.parametrize("seed", range(60))
def test_the_plan_moves_the_most_at_the_least_cost_that_trying_everything_finds(seed: int) -> None:
    rng = Random(seed)
    desk, costs = small_case(rng, 3 if seed % 2 else 4)
    plan = diversify(desk, costs, 1.0)
    moved = sum(one.units for one in plan.transfers)
    assert (moved, plan.cost) == brute_force(desk, costs)
    excess = sum(max(one.exposure - one.limit, 0) for one in desk)
    assert plan.short == excess - moved
    assert bool(plan.binding) == (plan.short > 0)


@pytest.mark.parametrize("seed", range(10))
def test_the_plan_costs_what_a_linear_programming_solver_finds(seed: int) -> None:
    scipy = pytest.importorskip("scipy.optimize", reason="scipy comes with river")
    rng = Random(seed)
    desk = [CounterpartyFunds(f"c{n:02}", rng.uniform(0, 9e6), rng.uniform(3e6, 8e6), 9e6) for n in range(12)]
    desk.append(CounterpartyFunds("custody", 0, 1e8, 0))  # there is always room somewhere
    costs = {(i.name, j.name): rng.randrange(1, 40) for i in desk for j in desk}
    plan = diversify(desk, costs, 1000.0)
    over = [one for one in desk if one.exposure > one.limit]
    under = [one for one in desk if one.exposure <= one.limit]
    ways = [(i, j) for i in over for j in under]
    units = {one.name: np.ceil((one.exposure - one.limit) / 1000) for one in over}
    room = {one.name: np.floor((one.limit - one.exposure) / 1000) for one in under}
    solved = scipy.linprog(
        [costs[i.name, j.name] for i, j in ways],
        A_ub=[[float(j is one) for _, j in ways] for one in under],
        b_ub=[room[one.name] for one in under],
        A_eq=[[float(i is one) for i, _ in ways] for one in over],
        b_eq=[units[one.name] for one in over],
        method="highs",
    )
    assert solved.status == 0
    assert plan.short == 0
    assert plan.cost == pytest.approx(solved.fun, rel=1e-9)


def test_the_order_in_which_counterparties_are_named_changes_nothing() -> None:
    desk = [
        CounterpartyFunds("a", 50, 30, 50),
        CounterpartyFunds("b", 0, 10, 0),
        CounterpartyFunds("c", 0, 10, 0),
        CounterpartyFunds("d", 0, 10, 0),
    ]
    assert diversify(desk, {}, 1.0) == diversify(desk[::-1], {}, 1.0)


@pytest.mark.parametrize(
    ("desk", "costs", "binding"),
    [
        ([CounterpartyFunds("a", 9, 4, 9), CounterpartyFunds("b", 1, 3, 0)], {}, ["limit:b"]),
        ([CounterpartyFunds("a", 9, 4, 2), CounterpartyFunds("b", 0, 9, 0)], {}, ["free:a"]),
        ([CounterpartyFunds("a", 9, 4, 9), CounterpartyFunds("b", 0, 9, 0)], {("a", "b"): -1}, ["way:a"]),
        ([CounterpartyFunds("a", 9, 4, 9), CounterpartyFunds("b", 8, 4, 9)], {}, ["way:a", "way:b"]),
    ],
)
def test_where_no_plan_is_enough_it_says_what_binds(
    desk: list[CounterpartyFunds], costs: dict[tuple[str, str], int], binding: list[str]
) -> None:
    plan = diversify(desk, costs, 1.0)
    assert plan.short > 0
    assert plan.binding == binding


# --- routing ----------------------------------------------------------------------------------------------------------


def cost_of(parts: dict[str, float], venues: list[VenueCapacity], flow: float) -> float:
    return sum(part * (v.fee + IMPACT * part * flow / v.depth) for v in venues for part in [parts.get(v.name, 0.0)])


@pytest.mark.parametrize("seed", range(15))
def test_no_other_whole_parts_cost_plainly_less(seed: int) -> None:
    rng = Random(seed)
    flow = 1e6
    venues = [
        VenueCapacity(n, rng.uniform(2e5, 5e6), rng.choice((0.0002, 0.0005, 0.001)), rng.uniform(4e5, 2e6))
        for n in "abc"
    ]
    found = venue_weights(venues, flow)
    assert sum(found.values()) == 100
    assert all(found.get(v.name, 0) / 100 * flow <= v.headroom for v in venues)
    best = min(
        cost_of({"a": a / 100, "b": b / 100, "c": (100 - a - b) / 100}, venues, flow)
        for a in range(101)
        for b in range(101 - a)
        if all(p / 100 * flow <= v.headroom for v, p in zip(venues, (a, b, 100 - a - b), strict=True))
    )
    assert cost_of({name: part / 100 for name, part in found.items()}, venues, flow) <= best * 1.002 + 1e-9


def test_a_venue_without_depth_or_room_gets_nothing() -> None:
    venues = [
        VenueCapacity("dark", 0.0, 0.0, 1e9),
        VenueCapacity("full", 1e6, 0.0, -1.0),
        VenueCapacity("good", 1e6, 0.001, 1e9),
    ]
    assert venue_weights(venues, 1e6) == {"good": 100}
    assert venue_weights(venues[:2], 1e6) == {}


# --- sizes ------------------------------------------------------------------------------------------------------------


def a_book(units: list[int], notional: list[float], depth: list[float]) -> OpenPositions:
    count = len(units)
    names, increments = [f"i{n}" for n in range(count)], ["0.01"] * count
    owner = np.zeros(count, dtype=np.int64)
    price, time_us = np.full(count, 100.0), np.full(count, T0)
    columns = (np.arange(count), np.array(units), np.array(notional), names, increments, np.array(depth))
    return OpenPositions(owner, *columns, price, time_us)


def test_positions_are_cut_by_what_is_needed_and_never_by_more_than_the_visible_depth_takes() -> None:
    book = a_book([1000, -500, 70, 8], [1e6, 5e5, 7e4, 100.0], [1e7, 1e6, np.nan, 1e9])
    sized = reduce_positions(book, 0, 0.75, SizeBounds(participation=0.1))
    assert sized.targets == {"i0": "7.50", "i1": "-4.00", "i3": "0.06"}
    assert sized.bounded == ["i1", "i2"]  # a tenth of 1,000,000 and no known depth
    assert sized.notional == pytest.approx(2.5e5 + 1e5 + 25.0)


def test_what_doubles_lose_cuts_no_increment_more_than_is_needed() -> None:
    """100 x (1 - 0.7) is 30.000000000000004 in doubles, and 30 increments go."""
    sized = reduce_positions(a_book([100], [1e4], [1e9]), 0, 0.7, SizeBounds(participation=1.0))
    assert sized.targets == {"i0": "0.70"}


def test_a_close_out_of_very_many_increments_leaves_none() -> None:
    """What doubles lose is never half an increment: a part in 1e10 of 1e12 of them would leave a hundred."""
    sized = reduce_positions(a_book([10**12], [1e4], [1e9]), 0, 0.0, SizeBounds(participation=1.0))
    assert sized.targets == {"i0": "0.00"}


@pytest.mark.parametrize(
    ("to", "expected"), [(None, 0.9 * 1.0 / 1.25), ("soft", 0.9 * 0.8 / 1.25), ("warning", 0.9 * 0.5 / 1.25)]
)
def test_what_is_kept_brings_the_measure_below_the_level_aimed_at(to: str | None, expected: float) -> None:
    limit = {"id": "m", "warning": 0.5, "soft": 0.8, "hard": 1.0, "exit_ratio": 0.9}
    breach = {"limit": "m", "level": "hard", "measure": "margin_ratio", "value": 1.25, "bound": 1.0}
    assert kept_share(breach, limit, to) == pytest.approx(expected)
    assert kept_share({**breach, "measure": "equity"}, limit, to) is None


# --- end to end -------------------------------------------------------------------------------------------------------

RATIO: Json = {"id": "margin", "scope": "account:*", "measure": "margin_ratio", "soft": 0.3, "hard": 0.5}
TERMS: Json = {"acknowledge_s": 1000, "complete_s": 1000}


def signal(at_s: float, depth: float, **venues: float) -> Json:
    """Return a signal with the depth of an instrument, and of single venues."""
    at_us = int(T0 + at_s * SECOND)
    row = {"instrument": "ETH-PERP", "price": 100.0, "source": "mark", "time_us": at_us, "state": "ready"}
    row |= {"depth": [depth / 100] * 8}
    row["venues"] = [
        {"venue": name, "price": 100.0, "kind": "mark", "time_us": at_us, "depth": [worth / 100] * 8}
        for name, worth in venues.items()
    ]
    return {"type": "signal", "event_time_us": at_us, "group": 0, "groups": 1, "seq": 0, "instruments": [row]}


def client_desk(
    folder: Path, book: list[Json], *more: Json | list[Json], terms: Json, **options: object
) -> PipelineRun:
    client = {"type": "netting_set", "netting_set": "a", "counterparty": "a", **terms}
    party, holder = account("a")
    events = [mark(T0 + 1, "100"), transfer(T0 + 2, "t", amount="40"), fill(T0 + 3, "f", quantity="1", price="100")]
    events += [e for item in more for e in (item if isinstance(item, list) else [item])]
    events.sort(key=lambda event: int(event["event_time_us"]))
    rates = instrument(maintenance_margin_rate="0.1", initial_margin_rate="0.1")
    return run_pipeline(folder, rates, party, client, holder, *events, limits=[RATIO], playbook=book, **options)  # type: ignore[arg-type]


CLOSE = ("REDUCE_POSITION", "account", {"compute": "position", "to": "soft", "participation": 0.1, "price_bound": 0.02})


@pytest.mark.parametrize(
    ("depth", "more", "response", "given", "why"),
    [
        (1e6, {}, {}, "0.30", ""),
        (100.0, {}, {}, "0.90", ""),  # a tenth of 100
        (None, {}, {}, None, "no position could go within the bounds on depth, size and price"),
        (1e6, {"size_max": 10}, {}, "0.90", ""),
        (1e6, {}, {"human_above": 5}, None, "above 5"),
    ],
)
def test_a_client_is_closed_out_within_size_participation_and_price(
    tmp_path: Path, depth: float | None, more: Json, response: Json, given: str | None, why: str
) -> None:
    book = [rule("close", {"limit": "margin", "level": "hard"}, (*CLOSE[:2], {**CLOSE[2], **more}))]
    told = [] if depth is None else [signal(1, depth)]
    falls = transfer(T0 + 2 * SECOND, "w", amount="-30")
    ran = client_desk(
        tmp_path, book, told, falls, marks_every_second(3), terms={"close_out": True}, response={**TERMS, **response}
    )
    commands, withheld = ran.topic("commands"), ran.audits("withheld")
    if given is None:
        assert commands == []
        assert why in withheld[0]["why"]
        return
    bounds = {"participation": "0.1", "price_bound": "0.02", "limit_prices": "ETH-PERP=98"}
    assert commands[0]["action"] == {"targets": f"ETH-PERP={given}", **bounds}
    assert commands[0]["evidence"]["plan"]["participation"] == "0.1"


def test_a_call_asks_for_what_the_terms_make_due_and_for_nothing_where_nothing_is(tmp_path: Path) -> None:
    book = [rule("call", {"limit": "margin", "level": "soft"}, ("CALL_MARGIN", "account", {"compute": "csa"}))]
    terms = {"margined": True, "they_post": True, "threshold": "10", "minimum_transfer_amount": "5", "rounding": "1"}
    owes = client_desk(
        tmp_path / "owes", book, marks_every_second(1), mark(T0 + 3 * SECOND // 2, "30"), terms=terms, response=TERMS
    )
    (command,) = owes.topic("commands")
    measures = owes.measures("netting_set:a")
    assert command["action"]["amount"] == f"{measures['margin_call']:.2f}"
    assert measures["margin_call"] > 0
    book = [
        rule("call", {"limit": "margin", "level": "soft"}, ("RECALL_COLLATERAL", "netting_set", {"compute": "csa"}))
    ]
    least = {**terms, "minimum_transfer_amount": "5000"}
    not_due = client_desk(
        tmp_path / "due", book, marks_every_second(1), mark(T0 + 3 * SECOND // 2, "30"), terms=least, response=TERMS
    )
    assert not_due.commands() == []
    assert [body["why"] for body in not_due.audits("withheld")] == ["nothing is due under the terms"]


def venue_desk(
    folder: Path, book: list[Json], limits: list[Json], *more: Json | list[Json], shards: int = 3
) -> PipelineRun:
    """Run a house account at each of three venues, 1,000 each, with a position of 200 at the first."""
    base: list[Json] = [instrument(initial_margin_rate="0.1", maintenance_margin_rate="0.05")]
    for name in ("one", "two", "six"):
        base.append({"type": "counterparty", "counterparty": name, "name": name, "role": "venue"})
        base.append({"type": "account", "account": f"h-{name}", "counterparty": name, "holder": "house", "venue": name})
        schedule = {"type": "schedule", "venue": name, "instrument": "ETH-PERP", "taker_fee_rate": "0.0005"}
        base.append(schedule)
    events = [
        mark(T0 + 1, "100"),
        *(transfer(T0 + 2, f"t-{n}", f"h-{n}", amount="1000") for n in ("one", "two", "six")),
    ]
    events.append(fill(T0 + 3, "f", "h-one", quantity="2", price="100"))
    events += [e for item in more for e in (item if isinstance(item, list) else [item])]
    events.sort(key=lambda event: int(event["event_time_us"]))
    return run_pipeline(folder, *base, *events, limits=limits, playbook=book, shards=shards, response=TERMS)


def test_orders_of_a_failing_venue_go_to_healthy_ones_by_depth_and_room(tmp_path: Path) -> None:
    book = [rule("away", {"venue_status": "down"}, ("REROUTE", "venue", {"compute": "weights"}))]
    limits = [{"id": "room", "scope": "venue:two", "measure": "gross_notional", "soft": 50, "hard": 90}]
    depths = signal(1, 1e6, one=1e6, two=1e6, six=1e6)
    down = external_event(2, "venue_status", venue="one", status="down")
    ran = venue_desk(tmp_path / "1", book, limits, depths, down, marks_every_second(4))
    (command,) = ran.topic("commands")
    assert command["action"] == {"from": "one", "weights": "six=75,two=25"}  # 50 of 200 is all the room at two
    ill = external_event(1.5, "venue_status", venue="six", status="degraded")
    ran = venue_desk(tmp_path / "2", book, limits, depths, ill, down, marks_every_second(4))
    assert ran.topic("commands")[0]["action"]["weights"] == "two=25"


def test_money_over_the_limit_at_a_venue_is_withdrawn_as_far_as_it_is_free(tmp_path: Path) -> None:
    limits = [{"id": "at", "scope": "counterparty:*", "measure": "current_exposure", "soft": 800}]
    limits[0] |= {"hard": 5000, "exit_ratio": 0.9}
    pull = ("WITHDRAW_FUNDS", "counterparty", {"compute": "headroom", "to": "soft"})
    book = [rule("pull", {"limit": "at", "level": "soft", "scope": "counterparty:one"}, pull)]
    (command,) = venue_desk(tmp_path / "1", book, limits, marks_every_second(1)).topic("commands")
    assert command["action"] == {"amount": "280.00", "currency": "USD"}  # 1,000 to 0.9 x 800
    book = [
        rule(
            "pull",
            {"limit": "at", "level": "soft", "scope": "counterparty:one"},
            (*pull[:2], {**pull[2], "size_max": 9}),
        )
    ]
    (command,) = venue_desk(tmp_path / "2", book, limits, marks_every_second(1)).topic("commands")
    assert command["action"]["amount"] == "9.00"  # within the stated limit


def test_the_firms_money_is_spread_by_the_cheapest_plan(tmp_path: Path) -> None:
    limits = [
        {"id": "one", "scope": "counterparty:one", "measure": "current_exposure", "soft": 8_000, "hard": 90_000},
        {"id": "two", "scope": "counterparty:two", "measure": "current_exposure", "soft": 5_000, "hard": 90_000},
        {"id": "six", "scope": "counterparty:six", "measure": "current_exposure", "soft": 90_000, "hard": 95_000},
    ]
    book = [rule("spread", {"notice": "rating"}, ("REROUTE", "firm", {"compute": "diversify"}))]
    more = [transfer(T0 + 4, "big", "h-one", amount="19000")]
    told = external_event(2, "notice", notice_id="n", subject="one", kind="rating", severity=1)
    ran = venue_desk(tmp_path, book, limits, more, told, marks_every_second(4))
    (command,) = ran.topic("commands")
    moves = dict(move.split("=") for move in command["action"]["transfers"].split(","))
    assert set(moves) == {"one>six"} | ({"one>two"} & set(moves))
    assert sum(map(int, moves.values())) == 12_000
    assert json.loads(ran.records("commands")[0].value)["evidence"]["plan"]["short"] == "0.00"


def test_depths_of_single_venues_are_journaled_only_where_a_playbook_weighs_venues(tmp_path: Path) -> None:
    depths = signal(1, 1e6, one=1e6)
    plain = [rule("away", {"venue_status": "down"}, ("REROUTE", "venue"))]
    weighs = [rule("away", {"venue_status": "down"}, ("REROUTE", "venue", {"compute": "weights"}))]
    for book, there in ((plain, False), (weighs, True)):
        ran = venue_desk(tmp_path / str(there), book, [], depths, marks_every_second(2), shards=1)
        rows = [row for piece in ran.slices for event in piece.events for row in getattr(event, "instruments", ())]
        assert [bool(row.venues) for row in rows] == [there]


def test_a_limit_on_a_change_over_time_sizes_no_close_out_and_no_call(tmp_path: Path) -> None:
    rates = instrument(initial_margin_rate="0.1", maintenance_margin_rate="0.05")
    terms = {"type": "netting_set", "netting_set": "a", "counterparty": "a", "close_out": True}
    party, holder = account("a")
    events = [mark(T0 + 1, "100"), transfer(T0 + 2, "t", amount="100000"), fill(T0 + 3, "f0", quantity="100")]
    events += [signal(140, 1e9), fill(T0 + 150 * SECOND + 5, "f1", quantity="6"), *marks_every_second(160)]
    events.sort(key=lambda event: int(event["event_time_us"]))
    limits = [
        {"id": "speed", "scope": "account:*", "measure": "gross_notional", "hard": 500, "window_s": 60},
        {"id": "ratio", "scope": "account:*", "measure": "margin_ratio", "hard": 0.0001, "window_s": 60},
    ]
    book = [rule("cut", {"limit": "speed", "level": "hard"}, ("REDUCE_POSITION", "account", {"compute": "position"})),
            rule("call", {"limit": "ratio", "level": "hard"}, ("CALL_MARGIN", "account"))]  # fmt: skip
    ran = run_pipeline(tmp_path, rates, party, terms, holder, *events, limits=limits, playbook=book, response=TERMS)
    assert [(command["type"], command["action"]) for command in ran.topic("commands")] == [("CALL_MARGIN", {})]
    (withheld,) = ran.audits("withheld")
    assert withheld["kind"] == "REDUCE_POSITION" and "change over time" in withheld["why"]


def test_a_limit_on_a_change_over_time_takes_no_room_from_a_venue(tmp_path: Path) -> None:
    book = [rule("away", {"venue_status": "down"}, ("REROUTE", "venue", {"compute": "weights"}))]
    limits = [{"id": "speed", "scope": "venue:two", "measure": "gross_notional", "hard": 50, "window_s": 60}]
    down = external_event(2, "venue_status", venue="one", status="down")
    ran = venue_desk(tmp_path, book, limits, signal(1, 1e6, one=1e6, two=1e6, six=1e6), down, marks_every_second(4))
    assert ran.topic("commands")[0]["action"]["weights"] == "six=50,two=50"


def test_a_call_of_whole_cents_is_not_a_cent_larger_for_the_noise_of_doubles(tmp_path: Path) -> None:
    limits = [{"id": "ratio", "scope": "account:*", "measure": "margin_ratio", "hard": 0.5}]
    book = [rule("call", {"limit": "ratio", "level": "hard"}, ("CALL_MARGIN", "account"))]
    perpetual = instrument(maintenance_margin_rate="0.1", initial_margin_rate="0.2")
    events = [mark(T0 + 1, "100"), transfer(T0 + 2, "t", amount="18.9"), fill(T0 + 3, "f", quantity="1")]
    ran = run_pipeline(tmp_path, perpetual, *account("a"), *events, limits=limits, playbook=book)
    missing = Fraction("0.1") * 100 / Fraction("0.5") - Fraction("18.9")
    assert missing == Fraction("1.10") and -int(-(10.0 / 0.5 - 18.9) * 100 // 1) == 111  # as doubles have it
    assert [command["action"]["amount"] for command in ran.topic("commands")] == ["1.10"]


def test_a_call_at_a_bound_of_nothing_names_no_amount(tmp_path: Path) -> None:
    limits = [{"id": "any", "scope": "account:*", "measure": "margin_ratio", "hard": 0}]
    book = [rule("call", {"limit": "any", "level": "hard"}, ("CALL_MARGIN", "account"))]
    events = [mark(T0 + 1, "100"), transfer(T0 + 2, "t", amount="40"), fill(T0 + 3, "f", quantity="1")]
    ran = run_pipeline(tmp_path, instrument(), *account("a"), *events, limits=limits, playbook=book)
    assert [command["action"] for command in ran.topic("commands")] == [{}]
