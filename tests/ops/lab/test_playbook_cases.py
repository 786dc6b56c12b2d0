"""``seawall playbook``: the ready playbooks hold their own cases, and lint finds what is wrong with others."""

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seawall.operators.core.mitigation import playbook_faults
from seawall.ops.cli._app import app
from seawall.ops.lab import run_cases
from seawall.schemas.configuration import load_playbook, load_response, read_playbook, read_response
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import FORECASTS, read_limits
from seawall_testing.desk import Json
from seawall_testing.paths import OPS
from seawall_testing.playbooks import at_level, rule

LIBRARY = OPS / "playbooks"
READY = ("venue_outage", "stablecoin_depeg", "flash_crash", "client_default", "feed_failure", "model_drift",
         "fat_finger", "collateral_spiral", "early_tightening")  # fmt: skip
runner = CliRunner()


def test_the_library_is_what_it_says_it_is() -> None:
    files = {path.name.removesuffix(".toml") for path in LIBRARY.glob("*.toml")}
    assert files == {*READY, *(f"{name}.cases" for name in READY)}
    listed = runner.invoke(app, ["playbook", "ready"]).stdout
    assert all(name in listed for name in READY)


@pytest.mark.parametrize("name", READY)
def test_every_case_of_a_ready_playbook_holds_and_together_they_reach_every_rule(name: str) -> None:
    outcomes, coverage = run_cases(LIBRARY / f"{name}.cases.toml")
    assert {outcome.name: outcome.faults for outcome in outcomes if outcome.faults} == {}
    assert [rule for rule, reached in coverage.rules.items() if not reached] == []
    assert sum(coverage.transitions.values()) >= 2


@pytest.mark.parametrize("name", READY)
def test_lint_finds_nothing_in_a_ready_playbook(name: str) -> None:
    file = LIBRARY / f"{name}.toml"
    assert playbook_faults(load_playbook(file), load_response(file)) == []


@pytest.mark.parametrize("name", READY)
def test_a_ready_playbook_forces_no_trading_in_our_own_books(name: str) -> None:
    commands = [c for rule in load_playbook(LIBRARY / f"{name}.toml") for c in rule["commands"]]
    assert all(c["target"] in ("account", "netting_set") for c in commands if c["kind"] in ("HEDGE", "REDUCE_POSITION"))


# --- test -------------------------------------------------------------------------------------------------------------

BOOK = """
[[rule]]
id = "stop"
when = { venue_status = "down" }
commands = [ { kind = "HALT_TRADING", target = "venue" } ]
[[rule]]
id = "never-tried"
when = { venue_status = "degraded" }
commands = [ { kind = "REROUTE", target = "venue" } ]
"""


def cases(folder: Path, then: str, more: str = "") -> Path:
    (folder / "book.toml").write_text(BOOK)
    (folder / "cases.toml").write_text(
        'playbook = "book.toml"\n[[case]]\nname = "down"\nwhen = [ { at_s = 2, venue_status = "down", of = "x" } ]\n'
        f"then = [ {then} ]\n{more}\n"
    )
    return folder / "cases.toml"


def test_a_case_that_holds_exits_0_and_coverage_names_what_was_not_reached(tmp_path: Path) -> None:
    file = cases(tmp_path, '{ at_s = 2, kind = "HALT_TRADING", target = "venue:x" }', 'ends = { "venue:x" = "halted" }')
    done = runner.invoke(app, ["playbook", "test", str(file)])
    assert done.exit_code == 0
    assert "rules: 1 of 2; not reached: never-tried" in done.stdout
    assert "transitions: 1 of 1" in done.stdout
    found = json.loads(runner.invoke(app, ["playbook", "test", str(file), "--json"]).stdout)
    assert found["good"] is True
    assert found["coverage"]["rules"] == {"stop": True, "never-tried": False}


@pytest.mark.parametrize(
    ("then", "more", "fault"),
    [
        ('{ at_s = 3, kind = "HALT_TRADING", target = "venue:x" }', "", "HALT_TRADING to venue:x at 3 s was not given"),
        ('{ kind = "SUSPEND", target = "venue:x" }', "", "SUSPEND to venue:x was not given"),
        ("", 'never = [ "HALT_TRADING" ]', "is in never"),
        ("", 'never = [ "*" ]', "was not expected"),
        ("", 'ends = { "venue:x" = "active" }', "venue:x ends halted, not active"),
        ("", 'withheld = [ "HEDGE venue:x" ]', "was not withheld"),
    ],
)
def test_a_case_that_does_not_hold_exits_1_and_says_what_it_found(
    tmp_path: Path, then: str, more: str, fault: str
) -> None:
    done = runner.invoke(app, ["playbook", "test", str(cases(tmp_path, then, more))])
    assert done.exit_code == 1
    assert fault in done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[case]]\nname = "x"\nwhen = [ { at_s = 1, venue_statu = "down" } ]', "did you mean 'venue_status'"),
        ('[[case]]\nname = "x"\nwhen = [ { at_s = 1, answer = "completed", rule = "stop", target = "y" } ]', "nothing"),
    ],
)
def test_a_mistake_in_a_case_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "book.toml").write_text(BOOK)
    (tmp_path / "cases.toml").write_text(f'playbook = "book.toml"\n{text}\n')
    with pytest.raises(UsageError, match=r"cases\.toml") as raised:
        run_cases(tmp_path / "cases.toml")
    assert message in str(raised.value)


def test_a_ready_playbook_can_be_copied_and_tried_where_it_lies(tmp_path: Path) -> None:
    assert runner.invoke(app, ["playbook", "ready", "fat_finger", "--to", str(tmp_path)]).exit_code == 0
    assert runner.invoke(app, ["playbook", "test", str(tmp_path / "fat_finger.cases.toml")]).exit_code == 0


# --- lint -------------------------------------------------------------------------------------------------------------

LIMITS: list[Json] = [
    {"id": "low", "scope": "account:*", "measure": "equity", "soft": 1, "hard": 2},
    {"id": "wide", "scope": "venue:*", "measure": "gross_notional", "hard": 2},
]
REDUCE = ("REDUCE_ONLY", "account")
WIDE: Json = {"limit": "wide", "level": "hard"}
HEARD = rule("heard", {"any": [{"acknowledgement": name} for name in ("silent", "rejected", "contradicted")]},
             ("HALT_TRADING", "account"), ("HALT_TRADING", "venue"))  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "response", "kind", "text"),
    [
        ([rule("r", at_level("warning"), ("SUSPEND", "account"))], {}, "unreachable", "no level warning"),
        ([rule("r", at_level("soft"), ("SUSPEND", "venue"))], {}, "unreachable", "does not hear"),
        ([rule("r", WIDE, ("SUSPEND", "account"))], {}, "unreachable", "does not hear"),
        ([rule("r", {"all": [WIDE, at_level("soft")]}, ("SUSPEND", "account"))], {}, "unreachable", "does not hear"),
        ([rule("r", {"alert": "x"}, ("SUSPEND", "account"), dwell_s=90)], {}, "unreachable", "lengthen within_s"),
        (
            [rule("r", at_level("soft"), ("SUSPEND", "account")), rule("s", at_level("soft"), REDUCE)],
            {}, "fights", "only the stricter",
        ),
        (
            [rule("r", at_level("soft"), ("SUSPEND", "account"), ("REDUCE_POSITION", "account"))],
            {}, "fights", "nothing trades in what is halted",
        ),
        ([rule("r", at_level("soft"), ("SUSPEND", "account"))], {"response": {}}, "no way out", "silent, rejected"),
        (
            [HEARD, rule("r", {"acknowledgement": "late"}, ("CANCEL_ORDERS", "account"))],
            {"response": {}}, "no way out", "without end",
        ),
    ],
)  # fmt: skip
def test_lint_names_the_rule_what_is_wrong_and_what_to_do(
    rules: list[Json], response: Json, kind: str, text: str
) -> None:
    content = {"rule": rules, **response}
    found = playbook_faults(read_playbook(content, "p.toml", ["low", "wide"]), read_response(content, "p.toml"), LIMITS)
    assert [fault.kind for fault in found] == [kind]
    assert text in found[0].text


def test_a_ladder_in_time_is_no_fight_and_answered_commands_have_a_way_out() -> None:
    rules = [
        rule("first", at_level("soft"), ("REDUCE_ONLY", "account")),
        rule("then", at_level("soft"), ("HALT_TRADING", "account"), dwell_s=60),
        HEARD,
    ]
    content = {"rule": rules, "response": {}}
    assert playbook_faults(read_playbook(content, "p", ["low"]), read_response(content, "p"), LIMITS) == []


def test_lint_on_the_command_line_exits_1_where_it_finds_something(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(BOOK + "[response]\n")
    done = runner.invoke(app, ["playbook", "lint", str(tmp_path / "p.toml")])
    assert done.exit_code == 1
    assert "p.toml [[rule]] stop: no way out" in done.stdout
    (tmp_path / "p.toml").write_text(BOOK)
    assert runner.invoke(app, ["playbook", "lint", str(tmp_path / "p.toml"), "--json"]).stdout.strip() == "[]"


def test_the_limits_that_early_tightening_asks_for_are_ones_that_forecasts_can_meet() -> None:
    head = (LIBRARY / "early_tightening.toml").read_text().split("\n[response]")[0]
    text = "\n".join(
        line.removeprefix("#").removeprefix("   ") for line in head.splitlines() if line.startswith("#   ")
    )
    limits = read_limits(tomllib.loads(text), "early_tightening.toml")
    assert {limit["measure"] for limit in limits} <= FORECASTS
    named = {limit["id"] for limit in limits}
    rules = load_playbook(LIBRARY / "early_tightening.toml", sorted(named))
    assert {rule["when"]["limit"] for rule in rules if "limit" in rule["when"]} == named
