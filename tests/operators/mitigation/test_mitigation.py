"""Mitigation: the playbook turns breaches and news into commands; a target only ever gets tighter."""

import hashlib
import json
from pathlib import Path

import pytest

from seawall_testing.desk import MS, SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import PipelineRun, run_pipeline
from seawall_testing.playbooks import at_level, equity, external_event, payloads, rule, run_playbook

# --- rules ------------------------------------------------------------------------------------------------------------


def test_a_rule_fires_when_a_breach_rises_to_its_level(tmp_path: Path) -> None:
    ran = run_playbook(
        tmp_path, [rule("r", at_level("soft"), ("CALL_MARGIN", "account"))], equity(1, "-750"), equity(2, "-60")
    )
    assert ran.breaches("low") == [("account:a", "none", "warning"), ("account:a", "warning", "soft")]
    assert ran.commands() == [("CALL_MARGIN", "account:a")]
    assert payloads(ran)[0]["evidence"]["as_of_us"] == T0 + 2 * SECOND + 100 * MS


def test_a_jump_over_a_level_fires_its_rule_too_lower_levels_first(tmp_path: Path) -> None:
    book = [
        rule("h", at_level("hard"), ("SUSPEND", "account")),
        rule("s", at_level("soft"), ("REDUCE_ONLY", "account")),
        rule("w", at_level("warning"), ("CALL_MARGIN", "account")),
    ]
    ran = run_playbook(tmp_path, book, equity(1, "-950"))
    assert ran.breaches("low") == [("account:a", "none", "hard")]
    assert [(c["type"], c["reason"]["rule"]) for c in payloads(ran)] == [
        ("CALL_MARGIN", "w"),
        ("REDUCE_ONLY", "s"),
        ("SUSPEND", "h"),
    ]


def test_a_breach_that_falls_fires_nothing(tmp_path: Path) -> None:
    book = [
        rule("s", at_level("soft"), ("CALL_MARGIN", "account")),
        rule("w", at_level("warning"), ("CANCEL_ORDERS", "account")),
    ]
    ran = run_playbook(tmp_path, book, equity(1, "-950"), equity(2, "200"), equity(3, "700"))
    assert len(ran.breaches("low")) == 3
    assert len(ran.commands()) == 2


def test_a_rule_does_not_fire_again_for_a_target_before_its_cool_down_is_over(tmp_path: Path) -> None:
    book = [rule("r", at_level("hard"), ("CALL_MARGIN", "account"), cooldown_s=3)]
    swings = [equity(at, "-950" if at % 2 else "950") for at in range(1, 10)]
    ran = run_playbook(tmp_path, book, *swings)
    assert [c["evidence"]["as_of_us"] - T0 - 100 * MS for c in payloads(ran)] == [SECOND, 5 * SECOND, 9 * SECOND]


def test_the_cool_down_of_one_target_does_not_hold_up_another(tmp_path: Path) -> None:
    book = [rule("r", at_level("hard"), ("CALL_MARGIN", "account"), cooldown_s=100)]
    ran = run_playbook(tmp_path, book, equity(1, "-950"), equity(2, "-950", "h1"))
    assert ran.commands() == [("CALL_MARGIN", "account:a"), ("CALL_MARGIN", "account:h1")]


def test_several_commands_of_one_kind_for_one_target_are_all_given_under_ids_of_their_own(tmp_path: Path) -> None:
    cuts = [("SET_HAIRCUT", "account", {"asset": name, "haircut": 0.5}) for name in ("X", "Y")]
    ran = run_playbook(tmp_path, [rule("r", at_level("hard"), *cuts, cooldown_s=60)], equity(1, "-950"))
    assert [c["action"] for c in payloads(ran)] == [
        {"haircut": "0.5", "asset": asset, "direction": "tighten"} for asset in "XY"
    ]
    assert len({c["id"] for c in payloads(ran)}) == 2


def test_the_ladder_never_gets_looser(tmp_path: Path) -> None:
    book = [
        rule("halt", at_level("hard"), ("SUSPEND", "account")),
        rule("reduce", at_level("soft"), ("REDUCE_ONLY", "account")),
        rule("call", at_level("warning"), ("CALL_MARGIN", "account")),
    ]
    ran = run_playbook(tmp_path, book, equity(1, "-850"), equity(2, "-100"), equity(3, "950"), equity(4, "-850"))
    assert ran.commands() == [
        ("CALL_MARGIN", "account:a"),
        ("REDUCE_ONLY", "account:a"),
        ("SUSPEND", "account:a"),
        ("CALL_MARGIN", "account:a"),  # not on the ladder; REDUCE_ONLY would be looser than SUSPEND
    ]


def test_no_breach_no_command_and_no_playbook_no_command(tmp_path: Path) -> None:
    assert run_playbook(tmp_path / "1", [rule("r", at_level("hard"), ("SUSPEND", "account"))]).commands() == []
    assert run_playbook(tmp_path / "2", [], equity(1, "-950")).commands() == []


# --- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("account", ["account:h1"]),
        ("netting_set", ["netting_set:n"]),
        ("counterparty", ["counterparty:hub"]),
        ("firm", []),
        ("venue", []),
    ],
)
def test_a_breach_of_an_account_addresses_what_holds_it_within_its_shard(
    tmp_path: Path, target: str, found: list[str]
) -> None:
    ran = run_playbook(tmp_path, [rule("r", at_level("hard"), ("SUSPEND", target))], equity(1, "-950", "h1"), shards=3)
    assert [name for _, name in ran.commands()] == found


def test_a_breach_of_a_counterparty_addresses_all_of_its_accounts(tmp_path: Path) -> None:
    limit = {"id": "low", "scope": "counterparty:*", "measure": "current_exposure", "hard": 1500}
    ran = run_playbook(
        tmp_path, [rule("r", at_level("hard"), ("SUSPEND", "account"))], equity(1, "0", "h1"), limits=[limit]
    )
    assert ran.commands() == [("SUSPEND", "account:h1"), ("SUSPEND", "account:h2")]


def test_a_breach_across_shards_addresses_the_firm_and_never_an_account(tmp_path: Path) -> None:
    limit = {"id": "low", "scope": "firm", "measure": "current_exposure", "hard": 1500}
    book = [rule("r", at_level("hard"), ("ENTER_DEGRADED_MODE", "firm"), ("SUSPEND", "account"), ("SUSPEND", "venue"))]
    ran = run_playbook(tmp_path, book, limits=[limit], shards=3)
    assert ran.commands() == [("ENTER_DEGRADED_MODE", "firm")]
    assert payloads(ran)[0]["target"] == {"scope": "firm", "id": "firm"}
    assert {audited.moment.partition for audited in ran.audited if "commands" in audited.records} == {3}


def test_a_venues_status_addresses_the_venue_and_the_accounts_there(tmp_path: Path) -> None:
    commands = [
        ("HALT_TRADING", "venue"),
        ("CANCEL_ORDERS", "account"),
        ("REROUTE", "group"),
        ("REROUTE", "counterparty"),
    ]
    book = [rule("r", {"venue_status": "down"}, *commands)]
    events = [
        external_event(1, "venue_status", venue="hub", status="degraded"),
        external_event(2, "venue_status", venue="hub", status="down"),
    ]
    ran = run_playbook(tmp_path, book, *events, shards=3)
    assert sorted(ran.commands()) == [
        ("CANCEL_ORDERS", "account:h1"),
        ("CANCEL_ORDERS", "account:h2"),
        ("HALT_TRADING", "venue:hub"),
        ("REROUTE", "counterparty:hub"),
    ]
    assert {c["evidence"]["id"] for c in payloads(ran)} == {f"venue_status:hub:{T0 + 2 * SECOND}"}


def test_a_notice_addresses_its_subject_and_its_accounts(tmp_path: Path) -> None:
    book = [
        rule(
            "r",
            {"notice": "insolvency"},
            ("BLOCK_COUNTERPARTY", "counterparty"),
            ("SUSPEND", "account"),
            ("REROUTE", "venue"),
        )
    ]
    event = external_event(1, "notice", notice_id="n1", subject="a", kind="insolvency", severity=3)
    ran = run_playbook(tmp_path, book, event, {**event, "notice_id": "n2", "kind": "rating"}, shards=3)
    assert ran.commands() == [("BLOCK_COUNTERPARTY", "counterparty:a"), ("SUSPEND", "account:a")]
    assert payloads(ran)[0]["evidence"]["id"] == "notice:n1"


def test_an_alert_addresses_its_scope_and_no_namesake_of_it(tmp_path: Path) -> None:
    commands = [
        ("CANCEL_ORDERS", "account"),
        ("SUSPEND", "counterparty"),
        ("HALT_TRADING", "venue"),
        ("SUSPEND", "group"),
    ]
    book = [rule("r", {"alert": "report_mismatch"}, *commands)]
    event = external_event(1, "position_report", account="h1", instrument="ETH-PERP", quantity="3")
    ran = run_playbook(tmp_path, book, event, shards=3)
    assert ran.commands() == [("CANCEL_ORDERS", "account:h1"), ("SUSPEND", "counterparty:hub")]


# --- payloads ---------------------------------------------------------------------------------------------------------


def chain(ran: PipelineRun) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for record in ran.records("commands"):
        found.setdefault(record.key, []).append(json.loads(record.value))
    return found


def test_seq_and_prev_id_chain_the_commands_of_each_target(tmp_path: Path) -> None:
    book = [
        rule(level, at_level(level), ("CALL_MARGIN", "account"), ("CANCEL_ORDERS", "account"))
        for level in ("soft", "hard")
    ]
    ran = run_playbook(tmp_path, book, equity(1, "-850"), equity(1.5, "-950", "h1"), equity(2, "-100"))
    found = chain(ran)
    assert {target: len(commands) for target, commands in found.items()} == {"account:a": 4, "account:h1": 4}
    for commands in found.values():
        assert [c["seq"] for c in commands] == [1, 2, 3, 4]
        assert [c["prev_id"] for c in commands] == [None, *(c["id"] for c in commands[:-1])]
    assert {c["epoch"] for commands in found.values() for c in commands} == {1}


def test_ids_are_distinct_hashes_and_the_same_in_every_run(tmp_path: Path) -> None:
    book = [rule("r", at_level("hard"), ("CALL_MARGIN", "account"), ("CANCEL_ORDERS", "account"))]
    one, two = (run_playbook(tmp_path / n, book, equity(1, "-950"), equity(1, "-950", "h1")) for n in "12")
    ids = [c["id"] for c in payloads(one)]
    assert len(set(ids)) == len(ids) == 4
    assert all(len(bytes.fromhex(found)) == 32 for found in ids)
    assert [r.value for r in one.records("commands")] == [r.value for r in two.records("commands")]


def test_validity_counts_from_the_cut_and_lasts_as_the_rule_says(tmp_path: Path) -> None:
    book = [
        rule("default", at_level("hard"), ("CALL_MARGIN", "account")),
        rule("short", at_level("hard"), ("CANCEL_ORDERS", "account"), expires_s=5),
    ]
    ran = run_playbook(tmp_path, book, equity(1, "-950"))
    cut = next(p.cut_us for p in ran.slices if p.as_of_us == T0 + SECOND + 100 * MS)
    assert [(c["iat_us"], c["nbf_us"], c["exp_us"] - cut) for c in payloads(ran)] == [
        (cut, cut, 60 * SECOND),
        (cut, cut, 5 * SECOND),
    ]


def test_a_command_states_who_why_and_by_which_policy(tmp_path: Path) -> None:
    book = [rule("r", at_level("hard"), ("REDUCE_POSITION", "account", {"ratio": 0.5}))]
    ran = run_playbook(tmp_path, book, equity(1, "-950"), issuer="risk/desk")
    (command,), (breach,) = payloads(ran), [r for r in ran.records("breaches") if b'"low"' in r.value]
    assert (command["iss"], command["env"], command["v"]) == ("risk/desk", "dev", 1)
    assert command["target"] == {"scope": "account", "id": "a"}
    assert command["action"] == {"ratio": "0.5"}
    reason = {"rule": "r", "limit": "low", "scope": "account:a", "measure": "equity", "level": "hard"}
    assert command["reason"] == {**reason, "observed": "50.0", "bound": "100.0"}
    assert command["evidence"]["sha256"] == hashlib.sha256(breach.value).hexdigest()
    assert (command["evidence"]["topic"], command["evidence"]["id"]) == ("breaches", breach.id)
    configuration = ran.slices[0].configuration or {}
    assert command["policy"] == {key: configuration["playbook"][key] for key in ("version", "sha256")}


def test_a_margin_call_asks_for_what_brings_the_ratio_back_rounded_up_to_the_cent(tmp_path: Path) -> None:
    limit = {"id": "low", "scope": "account:*", "measure": "margin_ratio", "hard": 0.3}
    book = [rule("r", at_level("hard"), ("CALL_MARGIN", "account"))]
    rates = {"maintenance_margin_rate": "0.1"}
    ran = run_pipeline(
        tmp_path,
        instrument(**rates),
        account("a"),
        mark(T0 + 1, "100"),
        transfer(T0 + 1, "t", amount="20"),
        fill(T0 + 2, "f", quantity="1", price="100"),
        limits=[limit],
        playbook=book,
    )
    (command,) = payloads(ran)
    assert command["action"] == {"amount": "13.34", "currency": "USD"}  # 10 / 0.3 - 20 = 13.333…
