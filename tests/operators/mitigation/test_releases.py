"""Only a quorum of people releases a target; then it may be restricted anew, and its chain of commands goes on."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from seawall.dataflows import Sequencer
from seawall.operators.core.mitigation import DesiredState, ShardCommands
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import Rejected
from seawall.schemas.evidence import COMMAND, KeySet, check_release
from seawall_testing.desk import NOW, SECOND, T0, Json, account, instrument, lines, mark, rejects, transfer
from seawall_testing.pipeline import MemoryBus, PipelineRun, journal_in_order, write_configuration
from seawall_testing.playbooks import LIMIT, at_level, equity, marks_every_second, rule
from seawall_testing.signing import (
    CHECKER,
    CHECKER_OF_MAKER,
    ISSUER,
    MAKER,
    NOW_US,
    ROOTS,
    Holder,
    command,
    encode,
    envelope,
    keys,
)

STRANGER = Holder("stranger", "eve")


def released(*signers: Holder, kind: str = "REINSTATE", seq: int = 2, **changes: Any) -> Json:
    body = command(kind, seq, target="account:a", **changes)
    document: Json = json.loads(envelope(encode(body), list(signers), COMMAND))
    return document


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        (released(MAKER), "THRESHOLD_NOT_MET"),
        (released(MAKER, CHECKER_OF_MAKER), "THRESHOLD_NOT_MET"),
        (released(ISSUER), "ROLE_DOES_NOT_COVER"),
        (released(STRANGER, CHECKER), "THRESHOLD_NOT_MET"),
        (released(MAKER, CHECKER, kind="HALT_TRADING"), "DOCUMENT_MUST_BE_WELL_FORMED"),
        (released(MAKER, CHECKER, exp_us=NOW_US - SECOND), "EXPIRED"),
        (released(MAKER, CHECKER, env="test"), "WRONG_ENVIRONMENT"),
        (released(MAKER, CHECKER, iss="risk/other"), "WRONG_AUDIENCE"),
        ({"payload": "x"}, "DOCUMENT_MUST_BE_WELL_FORMED"),
    ],
)
def test_what_no_subscriber_would_take_is_rejected_by_name(document: Json, rule: str) -> None:
    with pytest.raises(Rejected, match=rule):
        check_release(document, keys(), "risk/prod", "prod", NOW_US)


def test_a_maker_and_a_checker_release_and_without_a_key_set_nobody_does() -> None:
    assert check_release(released(MAKER, CHECKER), keys(), "risk/prod", "prod", NOW_US).seq == 2
    with pytest.raises(Rejected, match="DOCUMENT_MUST_BE_EXPECTED"):
        check_release(released(MAKER, CHECKER), None, "risk/prod", "prod", NOW_US)


# --- in a run ---------------------------------------------------------------------------------------------------------

WINDOW: Json = {"iat_us": T0, "nbf_us": T0, "exp_us": T0 + 3600 * SECOND}
BOOK = [
    rule("stop", at_level("hard"), ("HALT_TRADING", "account")),
    rule("mild", at_level("soft"), ("REDUCE_ONLY", "account")),
]
TERMS: Json = {"acknowledge_s": 1000, "complete_s": 1000}


def run_released(folder: Path, document: Json, known: bool = True) -> tuple[PipelineRun, list[Json]]:
    """Halt an account at second 1, give a release at 5, let its equity break the limit again at 9."""
    release = {"type": "release", "event_time_us": T0 + 5 * SECOND, "document": document}
    events = [mark(T0 + 1, "100"), transfer(T0 + 2, "s", amount="1000"), *equity(1, "-950"), *equity(4, "950"), release]
    events += [*equity(9, "-850"), *marks_every_second(12)]
    events.sort(key=lambda event: int(event["event_time_us"]))
    files = {"events.jsonl": lines(instrument(), account("a"), *events)}
    top: Json = {"issuer": "risk/prod", "shards": 1, "exposure_change_min": 0}
    path = write_configuration(folder, files, [LIMIT], BOOK, response=TERMS, **top)
    bus = MemoryBus()
    sequencer = Sequencer(load_configuration(path), bus, lambda: NOW)
    if known:
        sequencer.standing.admission.keys = key_set()
    sequencer.run(threading.Event())
    return PipelineRun(journal_in_order(bus, 1), 1), rejects(bus, 1)


def key_set() -> KeySet:
    """Return a key set of a maker, a checker and the roots, for the time of the desk."""
    window = {"nbf_us": 0, "exp_us": T0 + 10_000 * SECOND}
    people = [one.entry(role, types=(COMMAND,), **window) for one, role in ((MAKER, "maker"), (CHECKER, "checker"))]
    listed = [*people, *(root.entry("root", types=(), **window) for root in ROOTS)]
    return keys(keys=listed, environment="dev", iat_us=0, exp_us=T0 + 10_000 * SECOND)


def test_a_released_target_is_restricted_anew_and_the_chain_of_its_commands_goes_on(tmp_path: Path) -> None:
    document = released(MAKER, CHECKER, env="dev", **WINDOW)
    ran, refused = run_released(tmp_path, document)
    assert refused == []
    assert ran.commands() == [("HALT_TRADING", "account:a"), ("REDUCE_ONLY", "account:a")]
    assert [body["outcome"] for body in ran.audits("release")] == ["released"]
    payloads = ran.topic("commands")
    assert [one["seq"] for one in payloads] == [1, 3]  # 2 was the people's
    assert payloads[1]["prev_id"] == command("REINSTATE", 2, target="account:a")["id"]


def test_a_release_that_answers_an_older_command_changes_nothing(tmp_path: Path) -> None:
    ran, _ = run_released(tmp_path, released(MAKER, CHECKER, seq=1, env="dev", **WINDOW))
    assert [body["outcome"] for body in ran.audits("release")] == ["stale"]
    assert ran.commands() == [("HALT_TRADING", "account:a")]


@pytest.mark.parametrize(("signers", "known"), [((MAKER,), True), ((MAKER, CHECKER), False)])
def test_a_release_without_its_quorum_is_a_reject_and_the_target_stays_halted(
    tmp_path: Path, signers: tuple[Holder, ...], known: bool
) -> None:
    ran, refused = run_released(tmp_path, released(*signers, env="dev", **WINDOW), known)
    assert len(refused) == 1
    assert ran.commands() == [("HALT_TRADING", "account:a")]


def test_what_people_released_is_no_longer_in_force_in_the_signed_state() -> None:
    desired = DesiredState()
    halt, release = (
        encode(command(kind, seq, target="account:a")) for seq, kind in enumerate(("HALT_TRADING", "REINSTATE"), 1)
    )
    desired._apply(halt)
    state = json.loads(desired._target("account:a", NOW_US).value)
    assert [one["type"] for one in state["in_force"]] == ["HALT_TRADING"]
    desired._apply(release)
    state = json.loads(desired._target("account:a", NOW_US).value)
    assert (state["in_force"], state["seq"]) == ([], 2)
    assert desired.step(ShardCommands(0, 1, False, [])) == []
