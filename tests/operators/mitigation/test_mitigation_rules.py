"""Rules that join conditions, wait, rank and are bounded; and what they may not do."""

import json
from pathlib import Path

import pytest

from seawall.operators.core.mitigation._control import CommandBudget, choose_commands
from seawall.operators.core.mitigation._triggers import CommandCandidate
from seawall.schemas.configuration import read_playbook, read_response
from seawall.schemas.errors import UsageError
from seawall.schemas.evidence import COMMAND_BYTES_MAX
from seawall_testing.desk import MS, SECOND, T0, Json, account, fill, instrument, lines, mark, sequence, transfer
from seawall_testing.pipeline import MemoryBus, PipelineRun, journal_in_order, write_configuration
from seawall_testing.playbooks import LIMIT, at_level, equity, external_event, marks_every_second, rule, run_playbook

TERMS: Json = {"acknowledge_s": 1000, "complete_s": 1000}


def given(ran: PipelineRun) -> list[tuple[float, str, str]]:
    """Return when (in seconds), what and to whom, of every command."""
    found = [json.loads(record.value) for record in ran.records("commands")]
    return [
        ((c["evidence"]["as_of_us"] - T0 - 100 * MS) / SECOND, c["type"], f"{c['target']['scope']}:{c['target']['id']}")
        for c in found
    ]


def down(at_s: float, status: str = "down") -> Json:
    return external_event(at_s, "venue_status", venue="hub", status=status)


# --- conditions that are joined ---------------------------------------------------------------------------------------

BOTH: Json = {"all": [at_level("soft"), {"venue_status": "down"}], "within_s": 5}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([equity(1, "-850", "h1"), [down(3)]], [(3.0, "SUSPEND", "account:h1")]),
        ([[down(1)], equity(3, "-850", "h1")], [(3.0, "SUSPEND", "account:h1")]),
        ([[down(1)], [down(2, "up")], equity(3, "-850", "h1")], []),
        ([[down(1)], equity(3, "-850", "a")], []),  # the client has no account at the venue
        ([equity(1, "-850", "h1"), equity(2, "900", "h1"), [down(3)]], []),
    ],
)
def test_all_fires_for_a_target_when_the_last_of_its_conditions_comes_true_while_the_others_stand(
    tmp_path: Path, events: list[list[Json]], expected: list[tuple[float, str, str]]
) -> None:
    assert given(run_playbook(tmp_path, [rule("r", BOTH, ("SUSPEND", "account"))], *events)) == expected


def test_a_notice_counts_for_as_long_as_the_window_says(tmp_path: Path) -> None:
    when = {"all": [at_level("soft"), {"notice": "reserves", "anywhere": True}], "within_s": 5}
    told = external_event(1, "notice", notice_id="n", subject="USDE", kind="reserves", severity=2)
    book = [rule("r", when, ("SUSPEND", "account"))]
    assert given(run_playbook(tmp_path / "in", book, told, equity(5, "-850"))) == [(5.0, "SUSPEND", "account:a")]
    assert given(run_playbook(tmp_path / "out", book, told, marks_every_second(8), equity(9, "-850"))) == []


def test_a_condition_that_holds_anywhere_completes_every_target_for_which_the_others_hold(tmp_path: Path) -> None:
    when = {"all": [at_level("soft"), {"venue_status": "down", "anywhere": True}]}
    ran = run_playbook(
        tmp_path, [rule("r", when, ("SUSPEND", "account"))], equity(1, "-850"), equity(2, "-850", "h1"), down(3)
    )
    assert sorted(given(ran)) == [(3.0, "SUSPEND", "account:a"), (3.0, "SUSPEND", "account:h1")]
    ids = [json.loads(record.value)["evidence"] for record in ran.records("commands")]
    assert all(evidence["causes"] for evidence in ids), "the evidence names what else held"


def test_any_fires_with_each_of_its_conditions(tmp_path: Path) -> None:
    when = {"any": [at_level("soft"), {"venue_status": "down"}]}
    ran = run_playbook(tmp_path, [rule("r", when, ("CANCEL_ORDERS", "account"))], equity(1, "-850"), down(2))
    assert given(ran) == [
        (1.0, "CANCEL_ORDERS", "account:a"),
        (2.0, "CANCEL_ORDERS", "account:h1"),
        (2.0, "CANCEL_ORDERS", "account:h2"),
    ]


def test_a_dwell_lets_a_rule_fire_only_where_its_condition_stood_for_that_long(tmp_path: Path) -> None:
    book = [rule("r", at_level("hard"), ("HALT_TRADING", "account"), dwell_s=3)]
    stays = run_playbook(tmp_path / "stays", book, equity(1, "-950"), marks_every_second(8))
    assert given(stays) == [(4.0, "HALT_TRADING", "account:a")]
    cured = run_playbook(tmp_path / "cured", book, equity(1, "-950"), equity(2, "900"), marks_every_second(8))
    assert given(cured) == []


def test_a_rule_that_repeats_fires_after_every_dwell_for_as_long_as_its_condition_stands(tmp_path: Path) -> None:
    book = [rule("r", at_level("hard"), ("CALL_MARGIN", "account"), dwell_s=3, repeat=True)]
    ran = run_playbook(
        tmp_path, book, equity(1, "-950"), marks_every_second(9), equity(9, "950"), marks_every_second(16)[9:]
    )
    assert [at for at, *_ in given(ran)] == [4.0, 7.0]


def test_a_scope_keeps_a_rule_to_what_it_names(tmp_path: Path) -> None:
    book = [rule("r", {**at_level("hard"), "scope": "account:h1"}, ("SUSPEND", "account"))]
    ran = run_playbook(tmp_path, book, equity(1, "-950"), equity(2, "-950", "h1"))
    assert given(ran) == [(2.0, "SUSPEND", "account:h1")]


def test_a_fill_that_a_venue_forces_is_a_trigger_for_its_account_and_for_the_underlying(tmp_path: Path) -> None:
    book = [
        rule("adl", {"fill": "adl"}, ("REDUCE_ONLY", "account")),
        rule("bare", {"fill": "adl"}, ("SWITCH_STRATEGY_PROFILE", "underlying", {"profile": "unhedged"})),
    ]
    taken = fill(T0 + 2 * SECOND, "f2", "h1", source="adl", side="sell")
    ran = run_playbook(tmp_path, book, fill(T0 + SECOND, "f1", "h1"), taken, marks_every_second(4))
    assert [(kind, target) for _, kind, target in given(ran)] == [
        ("REDUCE_ONLY", "account:h1"),
        ("SWITCH_STRATEGY_PROFILE", "underlying:ETH"),
    ]
    assert {json.loads(r.value)["evidence"]["id"] for r in ran.records("commands")} == {"fill:f2"}


# --- what is given of what is asked for -------------------------------------------------------------------------------


def test_of_two_commands_on_one_ladder_in_one_slice_only_the_stricter_is_given(tmp_path: Path) -> None:
    book = [
        rule("mild", at_level("soft"), ("REDUCE_ONLY", "account")),
        rule("strict", at_level("hard"), ("HALT_TRADING", "account")),
    ]
    ran = run_playbook(tmp_path, book, equity(1, "-950"), response=TERMS)
    assert given(ran) == [(1.0, "HALT_TRADING", "account:a")]


def test_priority_decides_the_order_and_cancels_come_first_among_equals(tmp_path: Path) -> None:
    book = [
        rule("a", at_level("hard"), ("CALL_MARGIN", "account"), ("CANCEL_ORDERS", "account")),
        rule("b", at_level("hard"), ("BLOCK_COUNTERPARTY", "counterparty"), priority=5),
    ]
    ran = run_playbook(tmp_path, book, equity(1, "-950"), response=TERMS)
    assert [kind for _, kind, _ in given(ran)] == ["BLOCK_COUNTERPARTY", "CANCEL_ORDERS", "CALL_MARGIN"]


def test_the_larger_haircut_wins_and_a_smaller_one_later_is_not_given(tmp_path: Path) -> None:
    def cut(name: str, level: str, haircut: float) -> Json:
        return rule(name, at_level(level), ("SET_HAIRCUT", "account", {"asset": "ETH", "haircut": haircut}))

    book = [cut("warn", "warning", 0.2), cut("soft", "soft", 0.5), cut("hard", "hard", 0.3)]
    ran = run_playbook(tmp_path, book, equity(1, "-850"), equity(2, "-100"), response=TERMS)
    assert [json.loads(r.value)["action"]["haircut"] for r in ran.records("commands")] == ["0.5"]


def test_nothing_trades_in_what_is_halted(tmp_path: Path) -> None:
    book = [rule("r", at_level("hard"), ("REDUCE_POSITION", "account", {"ratio": 0.5}), ("SUSPEND", "account"))]
    ran = run_playbook(tmp_path, book, equity(1, "-950"), response=TERMS)
    assert given(ran) == [(1.0, "SUSPEND", "account:a")]


def test_beyond_the_budget_commands_wait_their_turn_but_cancels_and_halts_never_do(tmp_path: Path) -> None:
    everything = ("CALL_MARGIN", "account"), ("CANCEL_ORDERS", "account"), ("HALT_TRADING", "account")
    book = [rule("r", at_level("hard"), *everything, expires_s=30)]
    blows = [equity(1, "-950", name) for name in ("a", "h1", "h2")]
    ran = run_playbook(
        tmp_path, book, *blows, marks_every_second(20), response={**TERMS, "commands_max": 1, "per_s": 5}
    )
    at = {kind: [time for time, one, _ in given(ran) if one == kind] for kind, _ in everything}
    assert at["CANCEL_ORDERS"] == at["HALT_TRADING"] == [1.0, 1.0, 1.0]
    assert at["CALL_MARGIN"][0] == 1.0
    assert all(later - earlier >= 5 for earlier, later in zip(at["CALL_MARGIN"], at["CALL_MARGIN"][1:], strict=False))
    assert len(at["CALL_MARGIN"]) == 3


def test_what_waits_longer_than_it_is_valid_is_withheld_and_the_audit_says_so(tmp_path: Path) -> None:
    book = [rule("r", at_level("hard"), ("CALL_MARGIN", "account"), expires_s=2)]
    blows = [equity(1, "-950", name) for name in ("a", "h1")]
    ran = run_playbook(
        tmp_path, book, *blows, marks_every_second(20), response={**TERMS, "commands_max": 1, "per_s": 10}
    )
    assert len(given(ran)) == 1
    assert [body["why"] for body in ran.audits("withheld")] == [
        "it waited for the rate budget for longer than it is valid"
    ]


@pytest.mark.parametrize(("again", "expected"), [(False, [1.0, 11.0]), (True, [1.0, 11.0, 21.0])])
def test_another_try_lets_nothing_wait_for_longer_unless_it_is_asked_for_again(
    tmp_path: Path, again: bool, expected: list[float]
) -> None:
    book = [rule("r", at_level("hard"), ("CALL_MARGIN", "account"), expires_s=15)]
    blows = [equity(1, "-950", name) for name in ("h1", "h2", "a")]
    blows += [equity(5, "900"), equity(11, "-900")] if again else []
    ran = run_playbook(
        tmp_path, book, *blows, marks_every_second(60), response={**TERMS, "commands_max": 1, "per_s": 10}
    )
    assert [at for at, _, _ in given(ran)] == expected
    assert len(ran.audits("withheld")) == 3 - len(expected)


def test_a_rule_in_shadow_is_audited_and_moves_nothing(tmp_path: Path) -> None:
    book = [
        rule("try", at_level("soft"), ("HALT_TRADING", "account"), shadow=True),
        rule("real", at_level("soft"), ("REDUCE_ONLY", "account")),
    ]
    ran = run_playbook(tmp_path, book, equity(1, "-850"))
    assert given(ran) == [(1.0, "REDUCE_ONLY", "account:a")]
    assert [(body["rule"], body["kind"], body["target"]) for body in ran.audits("shadowed")] == [
        ("try", "HALT_TRADING", "account:a")
    ]


def test_a_dry_run_decides_what_the_real_run_does_and_commands_nothing(tmp_path: Path) -> None:
    book = [rule("r", at_level("hard"), ("CALL_MARGIN", "account"), ("SUSPEND", "account"))]
    real = run_playbook(tmp_path / "real", book, equity(1, "-950"), response=TERMS)
    dry = run_playbook(tmp_path / "dry", book, equity(1, "-950"), response={**TERMS, "mode": "dry_run"})
    assert dry.commands() == []
    assert [(b["kind"], b["target"]) for b in dry.audits("shadowed")] == real.commands()


def test_with_terms_trading_in_our_own_books_takes_a_person_whatever_the_cause(tmp_path: Path) -> None:
    reduce = ("REDUCE_POSITION", "account", {"ratio": 0.5})
    terms = {"type": "netting_set", "netting_set": "a", "counterparty": "a", "event_time_us": T0 + 3}
    book = [rule("r", at_level("hard"), reduce)]
    blows = [fill(T0 + SECOND, "f", "h1", price="1000"), equity(1, "-950", "h1"), equity(2, "-950")]
    ran = run_playbook(tmp_path / "allowed", book, {**terms, "close_out": True}, *blows, response=TERMS)
    assert given(ran) == [(2.0, "REDUCE_POSITION", "account:a")]
    ((ours, why),) = [(body["target"], body["why"]) for body in ran.audits("withheld")]
    assert (ours, "our own books" in why) == ("account:h1", True)
    refused = run_playbook(tmp_path / "refused", book, terms, *blows, response=TERMS)
    assert given(refused) == []
    assert ("account:a", "its terms do not let us close it out (close_out)") in [
        (body["target"], body["why"]) for body in refused.audits("withheld")
    ]


def test_what_a_rule_reserves_for_people_is_withheld(tmp_path: Path) -> None:
    book = [rule("r", at_level("hard"), ("WITHDRAW_FUNDS", "counterparty", {"human": True}))]
    ran = run_playbook(tmp_path, book, equity(1, "-950"))
    assert given(ran) == []
    assert [body["why"] for body in ran.audits("withheld")] == ["the playbook reserves it for a person"]


# --- the parts alone --------------------------------------------------------------------------------------------------


def test_choosing_keeps_one_candidate_per_slot() -> None:
    haircuts = [{"asset": "X", "haircut": 0.1}, {"asset": "Y", "haircut": 0.1}, {"asset": "X", "haircut": 0.4}]
    commands = [{"kind": "SUSPEND"}, {"kind": "REDUCE_ONLY"}, *({"kind": "SET_HAIRCUT", **one} for one in haircuts)]
    rules = [{"id": "r", "commands": commands}]
    found = [CommandCandidate(0, at, "account:a", {"id": "e"}, None) for at in range(len(commands))]
    assert [candidate.at for candidate in choose_commands(found, rules)] == [0, 3, 4]


def test_a_budget_of_nothing_allows_everything_and_one_that_is_used_up_frees_itself() -> None:
    budget = CommandBudget()
    assert all(budget.allows("CALL_MARGIN", 0) for _ in range(1000))
    budget.configure({"commands_max": 2, "per_s": 1})
    assert [budget.allows("CALL_MARGIN", at) for at in (0, 1, 2, 1_000_001)] == [True, True, False, True]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"all": [at_level("soft")]}, "joins 2 to 8"),
        ({"all": [at_level("soft"), at_level("hard")], "any": [at_level("soft"), at_level("hard")]}, "exclude"),
        ({"limit": "low"}, "needs one of warning"),
        ({"alert": "x", "venue_status": "up"}, "exactly one"),
        ({"acknowledgement": "silent"}, "[response]"),
        ({"limit": "low", "level": "soft", "rule": "r"}, "belongs to acknowledgement"),
        ({"venue_status": "down", "scope": "venu:x"}, "did you mean 'venue'"),
        ({"all": [{"alert": "x", "anywhere": True}, {"alert": "y", "anywhere": True}]}, "anywhere"),
    ],
)
def test_a_wrong_condition_is_named_with_what_to_do(when: Json, message: str) -> None:
    with pytest.raises(UsageError, match="rule"):
        read_playbook({"rule": [rule("r", when, ("SUSPEND", "account"))]}, "p.toml", ["low"])
    with pytest.raises(UsageError) as raised:
        read_playbook({"rule": [rule("r", when, ("SUSPEND", "account"))]}, "p.toml", ["low"])
    assert message in str(raised.value)


def test_the_name_of_the_rule_that_is_built_in_is_taken() -> None:
    with pytest.raises(UsageError, match="the rule id 'unvalued_position' is taken"):
        read_playbook({"rule": [rule("unvalued_position", at_level("hard"), ("SUSPEND", "account"))]}, "p.toml")


def test_terms_have_defaults_and_a_wrong_key_is_named() -> None:
    assert read_response({}, "p.toml") == {}
    assert read_response({"response": {}}, "p.toml")["commands_max"] == 60
    with pytest.raises(UsageError, match="did you mean 'subscribers'"):
        read_response({"response": {"subscriber": ["x"]}}, "p.toml")


# --- what fits into a command -----------------------------------------------------------------------------------------


def test_a_command_with_more_causes_than_it_has_room_for_names_the_first_and_how_many_more(tmp_path: Path) -> None:
    when = {"any": [{"notice": "exploit"}, {"notice": "insolvency"}], "within_s": 60}
    told = [
        external_event(2 + at / 1000, "notice", notice_id=f"n{at}", subject=f"coin{at}", kind="exploit", severity=3)
        for at in range(300)
    ]
    ran = run_playbook(tmp_path, [rule("r", when, ("ENTER_DEGRADED_MODE", "firm"))], told, marks_every_second(5))
    commands = ran.records("commands")
    assert len(commands) == 300 and all(len(record.value) <= COMMAND_BYTES_MAX for record in commands)
    *_, last = ran.topic("commands")
    causes = last["evidence"]["causes"]
    kept = len(causes) - 1
    assert kept > 50 and causes[-1] == f"more:{299 - kept}"


def test_a_command_whose_action_does_not_fit_is_withheld_and_stops_nothing(tmp_path: Path) -> None:
    commands = [("SUSPEND", "account"), ("CANCEL_ORDERS", "account", {"text": "x" * 4000})]
    ran = run_playbook(tmp_path, [rule("r", at_level("soft"), *commands)], equity(1, "-850"), marks_every_second(3))
    assert ran.commands() == [("SUSPEND", "account:a")]
    assert [audit["why"] for audit in ran.audits("withheld")] == ["what it says does not fit into a command"]


# --- a new playbook ---------------------------------------------------------------------------------------------------

SOFT_RULE = rule("soft", at_level("soft"), ("REDUCE_ONLY", "account"))
OTHER = rule("other", at_level("hard"), ("BLOCK_COUNTERPARTY", "account"))


@pytest.mark.parametrize(
    ("playbook", "later"),
    [
        ([SOFT_RULE], ["REDUCE_ONLY"]),
        ([SOFT_RULE, OTHER], ["REDUCE_ONLY"]),
        ([OTHER], []),
        ([rule("soft", at_level("soft"), ("SUSPEND", "account"))], []),
    ],
)
def test_what_waits_for_the_budget_is_what_its_rule_asked_for_whatever_a_new_playbook_says(
    tmp_path: Path, playbook: list[Json], later: list[str]
) -> None:
    base = [instrument(), account("a"), account("b"), mark(T0 + 1, "100")]
    base += [transfer(T0 + 2, f"start-{name}", name, amount="1000") for name in "ab"]
    base += [*equity(1, "-850", "a"), *equity(1, "-850", "b"), *marks_every_second(2)[1:]]
    bus, terms = MemoryBus(), {**TERMS, "commands_max": 1, "per_s": 10}
    for rules, events in (([OTHER, SOFT_RULE], base), (playbook, base + marks_every_second(20)[2:])):
        path = write_configuration(tmp_path, {"e.jsonl": lines(*events)}, [LIMIT], rules, shards=1, response=terms)
        sequence(path, bus)
    ran = PipelineRun(journal_in_order(bus, 1), 1)
    assert ran.commands() == [("REDUCE_ONLY", "account:a"), *((kind, "account:b") for kind in later)]
    assert len(ran.audits("withheld")) == 1 - len(later)


# --- a new playbook and what its conditions had heard -----------------------------------------------------------------

SOFT, DOWN = at_level("soft"), {"venue_status": "down"}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"when": {"all": [SOFT, DOWN]}}, {"when": {"all": [SOFT, DOWN]}}, [5.0]),
        ({"when": {"all": [SOFT, DOWN]}}, {"when": {"all": [DOWN, SOFT]}}, [5.0]),
        ({"when": {"all": [SOFT, DOWN]}}, {"when": {"all": [at_level("hard"), DOWN]}}, []),
        ({"when": {"all": [SOFT, SOFT, DOWN]}}, {"when": {"all": [SOFT, SOFT, DOWN]}}, [5.0]),
        ({"when": SOFT, "dwell_s": 6}, {"when": SOFT, "dwell_s": 6}, [7.0]),
        ({"when": SOFT, "dwell_s": 6}, {"when": at_level("hard"), "dwell_s": 6}, []),
    ],
)
def test_under_a_new_playbook_a_condition_holds_where_it_held_before_and_no_other_in_its_place(
    tmp_path: Path, before: Json, after: Json, expected: list[float]
) -> None:
    hub = {"type": "counterparty", "counterparty": "hub", "name": "hub", "role": "venue"}
    base = [hub, {"type": "account", "account": "h", "counterparty": "hub", "holder": "house", "venue": "hub"}]
    base += [instrument(), mark(T0 + 1, "100"), transfer(T0 + 2, "start", "h", amount="1000")]
    base += [*equity(1, "-850", "h"), *marks_every_second(2)[1:]]
    more = [*marks_every_second(4)[2:], down(5), *marks_every_second(12)[5:]]
    bus = MemoryBus()
    for fields, events in ((before, base), (after, base + more)):
        rules = [{**rule("r", {}, ("SUSPEND", "account")), **fields}]
        path = write_configuration(tmp_path, {"e.jsonl": lines(*events)}, [LIMIT], rules, shards=1)
        sequence(path, bus)
    assert [round(at) for at, *_ in given(PipelineRun(journal_in_order(bus, 1), 1))] == expected
