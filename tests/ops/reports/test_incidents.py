"""``seawall incidents``: causes, commands and answers in order, from the topics of a real run."""

import json
from pathlib import Path
from typing import Any

import pytest

from seawall.connectors.bus import open_bus, read_all
from seawall_testing.command_line import run_command
from seawall_testing.desk import SECOND, T0, Json, account, instrument, lines, mark, transfer
from seawall_testing.pipeline import write_configuration
from seawall_testing.playbooks import LIMIT, acknowledgement, at_level, equity, external_event, marks_every_second, rule

TERMS: Json = {"subscribers": ["oms"], "acknowledge_s": 3, "complete_s": 8}
BOOK = [
    rule("restrict", at_level("soft"), ("REDUCE_ONLY", "account"), expires_s=20),
    rule("silent", {"acknowledgement": "silent"}, ("HALT_TRADING", "account"), cooldown_s=600, expires_s=15),
    rule("venue", {"venue_status": "down"}, ("CANCEL_ORDERS", "account"), expires_s=20),
    rule("ours", at_level("hard"), ("REDUCE_POSITION", "account"), expires_s=20),
]


def run_desk(folder: Path, answers: list[Json]) -> Path:
    hub = {"type": "counterparty", "counterparty": "hub", "name": "hub", "role": "venue"}
    house = {"type": "account", "account": "h", "counterparty": "hub", "holder": "house", "venue": "hub"}
    events = [mark(T0 + 1, "100"), transfer(T0 + 2, "s", amount="1000"), transfer(T0 + 2, "h", "h", amount="1000")]
    events += [*equity(1, "-850"), *equity(2, "-950", "h"), *equity(6, "950", "h"), *marks_every_second(25), *answers]
    events += [
        external_event(3, "venue_status", venue="hub", status="down"),
        external_event(9, "venue_status", venue="hub", status="up"),
    ]
    events.sort(key=lambda event: int(event["event_time_us"]))
    files = {"events.jsonl": lines(instrument(), hub, house, account("a"), *events)}
    path = write_configuration(folder, files, [LIMIT], BOOK, shards=1, response=TERMS)
    done = run_command("run", path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def answered_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    first = run_desk(tmp_path_factory.mktemp("first"), [])
    bus = open_bus("sqlite:seawall.db", first.parent)
    found = [json.loads(s.value) for part in bus.partitions("commands") for s in read_all(bus, "commands", part)]
    bus.close()
    cancel = next(c for c in found if c["type"] == "CANCEL_ORDERS")
    answers = [acknowledgement(4, cancel, "accepted"), acknowledgement(5, cancel, "completed")]
    return run_desk(tmp_path_factory.mktemp("then"), answers)


def incidents(desk: Path, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run_command("incidents", desk, "--json", *options).stdout)
    return found


def test_what_is_open_is_shown_and_all_that_is_over_only_where_asked(answered_run: Path) -> None:
    assert [one["cause"] for one in incidents(answered_run)] == ["limit low on account:a"]
    causes = [one["cause"] for one in incidents(answered_run, "--all")]
    assert causes == ["limit low on account:a", "limit low on account:h", "venue hub"]


def test_a_story_is_told_in_order_with_cause_command_deadline_and_escalation(answered_run: Path) -> None:
    (one,) = incidents(answered_run)
    times = [line["at_us"] for line in one["story"]]
    assert times == sorted(times)
    told = [line["text"] for line in one["story"]]
    parts = ("none to soft", "REDUCE_ONLY to account:a", "is silent", "HALT_TRADING to account:a")
    found = [next(at for at, text in enumerate(told) if part in text) for part in parts]
    assert found == sorted(found)
    assert one["restricted"] == {"account:a": "halted"}
    assert {c["kind"]: c["state"] for c in one["commands"]} == {"REDUCE_ONLY": "superseded", "HALT_TRADING": "expired"}


def test_answers_stand_under_the_incident_of_their_command(answered_run: Path) -> None:
    venue = next(one for one in incidents(answered_run, "--all") if one["cause"] == "venue hub")
    assert [line["text"] for line in venue["story"]] == [
        "down",
        "CANCEL_ORDERS to account:h by rule venue",
        "oms answers accepted to CANCEL_ORDERS to account:h",
        "oms answers completed to CANCEL_ORDERS to account:h",
        "up",
    ]
    assert venue["open"] is False


def test_what_was_withheld_for_a_person_is_told_with_the_reason(answered_run: Path) -> None:
    house = next(one for one in incidents(answered_run, "--all") if one["cause"] == "limit low on account:h")
    assert any("REDUCE_POSITION to account:h by rule ours withheld: " in line["text"] for line in house["story"])


def test_on_a_terminal_an_incident_says_what_only_people_can_release(answered_run: Path) -> None:
    text = run_command("incidents", answered_run).stdout
    assert "account:a stands at halted until people release it" in text
    assert text.splitlines()[-1] == "1 open of 3 incidents"


def test_verify_and_replay_hold_for_a_run_with_answers(answered_run: Path) -> None:
    assert run_command("verify", answered_run).returncode == 0
    assert run_command("replay", answered_run).returncode == 0
    assert incidents(answered_run)[0]["opened_us"] > T0 + SECOND
