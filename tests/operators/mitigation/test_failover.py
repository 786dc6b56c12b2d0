"""Venue and feed failover: ill at once, well only after a while, and nothing halted comes back without people."""

import json
from pathlib import Path

import pytest

from seawall.operators.core.base import ExternalEvent
from seawall.operators.core.mitigation._venue_routing import VenueHealth
from seawall.schemas.errors import UsageError
from seawall_testing.desk import MS, SECOND, T0, Json, fill, instrument, mark, transfer
from seawall_testing.market_data import alerts, quote, watch_group
from seawall_testing.pipeline import PipelineRun, run_pipeline
from seawall_testing.playbooks import external_event, marks_every_second, rule, run_playbook, signal

TERMS: Json = {"acknowledge_s": 1000, "complete_s": 1000, "recover_s": 10}
LIMITS: list[Json] = [{"id": "room", "scope": "account:*", "measure": "gross_notional", "hard": 1e9}]
AWAY = ("REROUTE", "venue", {"compute": "weights"})
NAMES = ("one", "two", "six")


def status(at_s: float, state: str, venue: str = "one") -> Json:
    return external_event(at_s, "venue_status", venue=venue, status=state)


def run_three_venues(folder: Path, book: list[Json], *more: Json, until_s: int = 30) -> PipelineRun:
    """Run a house account with 1,000 at each of three venues, whose depth of 1,000,000 is heard every second."""
    base: list[Json] = [instrument(initial_margin_rate="0.1", maintenance_margin_rate="0.05")]
    for name in NAMES:
        base.append({"type": "counterparty", "counterparty": name, "name": name, "role": "venue"})
        base.append({"type": "account", "account": f"h-{name}", "counterparty": name, "holder": "house", "venue": name})
    depths = [signal(at, depth=3e6, seq=at, **dict.fromkeys(NAMES, 1e6)) for at in range(until_s)]
    money = [transfer(T0 + 2, f"t-{name}", f"h-{name}", amount="1000") for name in NAMES]
    events = [mark(T0 + 1, "100"), *money, fill(T0 + 3, "f", "h-one", quantity="2", price="100")]
    events = sorted(
        [*events, *depths, *more, *marks_every_second(until_s)], key=lambda event: int(event["event_time_us"])
    )
    return run_pipeline(folder, *base, *events, limits=LIMITS, playbook=book, shards=3, response=TERMS)


def given(ran: PipelineRun) -> list[tuple[int, str, str, str]]:
    """Return second, kind, target and weights of every command."""
    found = ran.topic("commands")
    return [((c["evidence"]["as_of_us"] - T0) // SECOND, c["type"], f"{c['target']['scope']}:{c['target']['id']}",
             c["action"].get("weights", "")) for c in found]  # fmt: skip


def test_an_outage_routes_around_the_venue_at_once_and_its_recovery_takes_the_time_that_the_terms_state(
    tmp_path: Path,
) -> None:
    book = [rule("away", {"venue_status": "degraded"}, AWAY), rule("back", {"venue_status": "recovered"}, AWAY)]
    ran = run_three_venues(tmp_path, book, status(2, "degraded"), status(5, "up"))
    assert given(ran) == [
        (2, "REROUTE", "venue:one", "six=50,two=50"),
        (15, "REROUTE", "venue:one", "one=34,six=33,two=33"),
    ]
    ((_, back),) = [tuple(ran.topic("commands"))]
    assert back["evidence"]["id"] == f"venue_recovered:one:{T0 + 15 * SECOND + 100 * MS}"


def test_a_venue_that_flaps_is_not_relied_on_until_it_has_been_well_without_a_break(tmp_path: Path) -> None:
    book = [rule("away", {"venue_status": "down", "scope": "venue:one"}, AWAY),
            rule("back", {"venue_status": "recovered"}, AWAY)]  # fmt: skip
    flaps = [status(at, state, "two") for at, state in ((1, "down"), (3, "up"), (9, "degraded"), (11, "up"))]
    ran = run_three_venues(tmp_path, book, *flaps, status(15, "down"))
    first, back = given(ran)
    assert first == (15, "REROUTE", "venue:one", "six=100")  # 4 s after it came up again, two is recovering
    assert (back[0], back[2]) == (21, "venue:two")  # 10 s after 11 s, not after 3 s


def test_a_venue_that_was_halted_gets_no_orders_however_well_it_is_until_people_release_it(tmp_path: Path) -> None:
    book = [rule("stop", {"venue_status": "down"}, ("HALT_TRADING", "venue")),
            rule("back", {"venue_status": "recovered"}, AWAY)]  # fmt: skip
    ran = run_three_venues(tmp_path, book, status(2, "down"), status(4, "up"))
    assert given(ran)[1:] == [(14, "REROUTE", "venue:one", "six=50,two=50")]


def test_where_withdrawals_are_blocked_nobody_asks_for_money_and_ahead_of_a_failure_all_that_is_free_goes(
    tmp_path: Path,
) -> None:
    pull = ("WITHDRAW_FUNDS", "counterparty", {"compute": "headroom", "size_max": 600})
    book = [rule("pull", {"any": [{"venue_status": "degraded"}, {"venue_status": "withdrawals_blocked"}]}, pull)]
    ran = run_three_venues(tmp_path / "1", book, status(2, "degraded"), until_s=4)
    assert [c["action"]["amount"] for c in ran.topic("commands")] == ["600.00"]  # 980 are free, 600 is the bound
    ran = run_three_venues(tmp_path / "2", book, status(2, "withdrawals_blocked"), until_s=4)
    assert ran.commands() == []
    assert [body["why"] for body in ran.audits("withheld")] == ["withdrawals are blocked there"]
    unbounded = [rule("pull", {"venue_status": "degraded"}, (*pull[:2], {"compute": "headroom"}))]
    ran = run_three_venues(tmp_path / "3", unbounded, status(2, "degraded"), until_s=4)
    assert [body["why"] for body in ran.audits("withheld")] == [
        "neither a limit nor size_max says how much to withdraw"
    ]


def test_money_of_what_is_wider_than_a_counterparty_is_not_computed(tmp_path: Path) -> None:
    wide = ("WITHDRAW_FUNDS", "venue", {"compute": "headroom", "size_max": 600})
    book = [rule("pull", {"venue_status": "degraded"}, wide)]
    with pytest.raises(UsageError, match="headroom is computed of account, netting_set, counterparty, not of venue"):
        run_three_venues(tmp_path / "1", book, status(2, "degraded"), until_s=4)
    # a journal may hold such a rule from before
    usual = [rule("pull", {"venue_status": "degraded"}, ("WITHDRAW_FUNDS", "counterparty", wide[2]))]
    values = run_three_venues(tmp_path / "2", usual, status(2, "degraded"), until_s=4).values
    ran = PipelineRun([value.replace(b'"target":"counterparty"', b'"target":"venue"') for value in values], 3)
    assert ran.commands() == []
    assert "wider than a counterparty" in ran.audits("withheld")[0]["why"]


def test_a_dead_feed_takes_its_venue_out_and_only_a_feed_that_speaks_steadily_brings_it_back(tmp_path: Path) -> None:
    book = [rule("away", {"venue_status": "down", "scope": "venue:one"}, AWAY),
            rule("back", {"venue_status": "recovered"}, AWAY)]  # fmt: skip
    dead = signal(2, {"kind": "dead_feed", "scope": "venue:two"}, seq=100)
    speaks = signal(6, {"kind": "feed_back", "scope": "venue:two"}, seq=101)
    ran = run_three_venues(tmp_path, book, dead, status(4, "down"), speaks)
    first, back = given(ran)
    assert first[3] == "six=100"
    assert (back[0], back[2]) == (16, "venue:two")


def test_prices_that_diverge_between_venues_reach_the_playbook_from_the_venues_own_quotes(tmp_path: Path) -> None:
    apart = [
        quote(T0 + at * 500 * MS, 100.0 + 2 * (venue == "lake"), venue) for at in range(8) for venue in ("hub", "lake")
    ]
    told = [alert for found in watch_group(apart) for alert in json.loads(found.value).get("alerts", [])]
    assert [alert["kind"] for alert in told] == ["venue_gap"]
    book = [rule("one", {"feed": "diverging"}, ("SWITCH_STRATEGY_PROFILE", "underlying", {"profile": "one-venue"}))]
    heard = signal(3, {"kind": told[0]["kind"], "scope": told[0]["scope"]})
    assert run_playbook(tmp_path, book, heard, marks_every_second(5)).commands() == [
        ("SWITCH_STRATEGY_PROFILE", "underlying:ETH")
    ]


def test_a_feed_that_died_is_told_to_be_back_once_it_has_spoken_for_as_long_as_it_takes_to_call_it_dead() -> None:
    def both(start: int, end: int) -> list[Json]:
        return [
            quote(T0 + s * SECOND + (venue == "lake"), 100.0, venue)
            for s in range(start, end)
            for venue in ("hub", "lake")
        ]

    def lake(start: int, end: int) -> list[Json]:
        return [quote(T0 + s * SECOND + 1, 100.0, "lake") for s in range(start, end)]

    died = both(0, 20) + lake(20, 60)
    assert alerts(watch_group(died + both(60, 100))) == [("dead_feed", "venue:hub"), ("feed_back", "venue:hub")]
    flapping = died + both(60, 70) + lake(70, 120) + both(120, 130) + lake(130, 170)
    assert alerts(watch_group(flapping)) == [("dead_feed", "venue:hub")]


def test_a_hedge_that_a_venue_takes_away_is_heard_by_the_account_the_underlying_and_the_strategies(
    tmp_path: Path,
) -> None:
    book = [
        rule("stop-adding", {"fill": "adl"}, ("REDUCE_ONLY", "account")),
        rule("unhedged", {"fill": "adl"}, ("SWITCH_STRATEGY_PROFILE", "strategy", {"profile": "unhedged"})),
    ]
    opened = fill(T0 + SECOND, "f1", "h1", strategy="basis")
    other = fill(T0 + SECOND, "f2", "h2", strategy="carry", instrument="BTC-PERP")
    taken = fill(T0 + 3 * SECOND, "f3", "h1", source="adl", side="sell", quantity="1")
    btc = {**instrument("BTC-PERP", base="BTC"), "event_time_us": T0}
    ran = run_playbook(
        tmp_path, book, btc, mark(T0 + 5, "100", "BTC-PERP"), opened, other, taken, marks_every_second(5)
    )
    assert ran.commands() == [("REDUCE_ONLY", "account:h1"), ("SWITCH_STRATEGY_PROFILE", "strategy:basis")]
    assert ran.measures("account:h1")["gross_notional"] == pytest.approx(50.0)  # 1.5 less 1: known without any order


def test_health_goes_on_from_a_snapshot_like_one_that_never_stopped() -> None:
    whole, cut = VenueHealth(), VenueHealth()
    for health in (whole, cut):
        health.configure(TERMS)
    told = [("venue_status", "one", "down"), ("alert", "venue:two", "dead_feed"), ("venue_status", "one", "up"),
            ("alert", "venue:two", "feed_back"), ("venue_status", "one", "degraded")]  # fmt: skip
    for second, (kind, subject, state) in enumerate(told):
        at_us, one = T0 + second * SECOND, ExternalEvent(kind, subject, state, f"signal:0-{second}:0")
        before = cut.snapshot()
        cut = VenueHealth()
        cut.configure(TERMS)
        cut.restore(before)
        assert whole.hear(one, at_us) == cut.hear(one, at_us)
    later = T0 + 60 * SECOND
    assert [one.subject for one in whole.advance(later)] == [one.subject for one in cut.advance(later)] == ["two"]
    assert whole.states(later) == cut.states(later) == {"one": "degraded"}
