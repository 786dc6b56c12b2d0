"""Desired state: every second a sign of life, per target what holds, and subscribers that use both."""

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from seawall.connectors.keys import open_signer
from seawall.connectors.subscriber import Subscriber, sqlite_subscriber
from seawall.operators.core.base import Moment, Outputs
from seawall.operators.core.mitigation import DesiredState, ShardCommands
from seawall.operators.core.mitigation._desired_state import FULL_EVERY_US, TARGETS_MAX
from seawall.schemas.evidence import STATE, AcceptancePolicy, KeySet, Refusal, _envelopes, state_type
from seawall.schemas.evidence._acceptance import VALUE_BYTES_MAX
from seawall_testing.command_line import bus_contents
from seawall_testing.crisis import CrisisRuns
from seawall_testing.signing import RecordingEffects

SECOND = 1_000_000
CONFIGURATION = {"shards": 2, "issuer": "risk/dev", "environment": "dev", "chained_states": True}


def wide(seq: int, as_of_us: int, *commands: bytes) -> Outputs:
    first = CONFIGURATION if seq == 0 else None
    moment = Moment("all", 2, seq, as_of_us, as_of_us + 7, second=True)
    records = {"commands": [_record(value) for value in commands]} if commands else {}
    return Outputs(moment, records, configuration=first)


def _record(value: bytes) -> Any:
    from seawall.schemas.records import Record

    return Record("k", value, "2-0-0", 0)


def command(kind: str, target: str, seq: int, iat_us: int = SECOND, **action: str) -> bytes:
    scope, _, name = target.partition(":")
    body = {"type": kind, "id": f"{target}/{seq}", "target": {"scope": scope, "id": name}, "epoch": 1, "seq": seq}
    return json.dumps({**body, "iat_us": iat_us, "action": action}).encode()


def second(state: DesiredState, seq: int, *commands: bytes, as_of_us: int | None = None) -> list[dict[str, Any]]:
    """Pass one second in which shard 0 gave these commands; return the documents."""
    at = as_of_us or (seq + 1) * SECOND
    assert state.step(ShardCommands(0, at, True, list(commands))) == []
    assert state.step(wide(seq, at)) == []
    (planned,) = state.step(ShardCommands(1, at, True, []))
    return [json.loads(record.value) for record in planned.records["state"]]


def kinds(document: dict[str, Any]) -> dict[str, list[str]]:
    return {
        f"{one['target']['scope']}:{one['target']['id']}": [held["type"] for held in one["in_force"]]
        for one in document["targets"]
    }


def test_a_second_waits_for_every_shard_and_only_what_lies_in_it_counts() -> None:
    state = DesiredState()
    halt, later = command("HALT_TRADING", "account:a", 1), command("HALT_TRADING", "account:b", 1)
    assert state.step(ShardCommands(1, SECOND, True, [halt])) == []
    assert state.step(ShardCommands(1, 2 * SECOND - 1, False, [later])) == []
    assert state.step(wide(0, SECOND)) == []
    (planned,) = state.step(ShardCommands(0, SECOND, True, []))
    documents = [json.loads(record.value) for record in planned.records["state"]]
    assert kinds(documents[0]) == {"account:a": ["HALT_TRADING"]}
    restored = DesiredState.restore(state.snapshot())
    assert restored.step(ShardCommands(0, 2 * SECOND, True, [])) == restored.step(wide(1, 2 * SECOND)) == []
    (planned,) = restored.step(ShardCommands(1, 2 * SECOND, True, []))
    assert kinds(json.loads(planned.records["state"][0].value)) == {"account:b": ["HALT_TRADING"]}


def test_the_order_in_which_shards_tell_changes_no_byte() -> None:
    told = [ShardCommands(0, SECOND, True, [command("SUSPEND", "account:a", 1)]), ShardCommands(1, SECOND, True, [])]
    found = []
    for items in ([*told, wide(0, SECOND)], [wide(0, SECOND), *told[::-1]], [told[1], wide(0, SECOND), told[0]]):
        state = DesiredState()
        found.append([planned.records["state"] for item in items for planned in state.step(item)])
    assert found[0] == found[1] == found[2]


def test_every_second_has_a_heartbeat_that_names_the_last_state_and_only_changes_are_told() -> None:
    state = DesiredState()
    first = second(state, 0, command("HALT_TRADING", "account:a", 1), command("CALL_MARGIN", "account:b", 1))
    assert [len(document.get("targets", [])) for document in first] == [2, 0]
    (quiet,) = second(state, 1)
    assert quiet["state_sha256"] == first[1]["state_sha256"]
    assert (quiet["iat_us"], quiet["exp_us"] - quiet["iat_us"]) == (2 * SECOND + 7, 5 * SECOND)
    changed = second(state, 2, command("REDUCE_ONLY", "account:b", 2))
    assert kinds(changed[0]) == {"account:b": ["CALL_MARGIN", "REDUCE_ONLY"]}
    full = second(state, 3, as_of_us=SECOND + FULL_EVERY_US)
    assert set(kinds(full[0])) == {"account:a", "account:b"}


def test_each_state_names_the_one_before_it_and_a_full_one_begins_anew() -> None:
    state, before = DesiredState(), None
    many = [command("HALT_TRADING", f"account:a{n}", 1) for n in range(TARGETS_MAX + 1)]
    at = [SECOND, 2 * SECOND, 3 * SECOND, SECOND + FULL_EVERY_US]
    ordered = [[many[0]], many[1:], [], []]
    named = []
    for seq, (as_of_us, commands) in enumerate(zip(at, ordered, strict=True)):
        assert state.step(ShardCommands(0, as_of_us, True, commands)) == []
        assert state.step(wide(seq, as_of_us)) == []
        (planned,) = state.step(ShardCommands(1, as_of_us, True, []))
        state = DesiredState.restore(state.snapshot())
        for record in planned.records["state"]:
            document = json.loads(record.value)
            if "targets" in document:
                named.append((document["prev_sha256"], before))
                before = hashlib.sha256(record.value).hexdigest()
            else:
                assert document["state_sha256"] == before
    assert [told is None for told, _ in named] == [True, False, True, False]
    assert all(told in (None, wanted) for told, wanted in named)


def test_the_highest_rung_holds_a_setting_is_replaced_and_an_action_is_over_after_an_hour() -> None:
    state = DesiredState()
    second(state, 0, command("HALT_TRADING", "account:a", 1), command("REDUCE_ONLY", "account:a", 2))
    second(state, 1, command("SET_LIMIT", "account:a", 3, value="5"), command("SET_LIMIT", "account:a", 4, value="4"))
    (told, _) = second(state, 2, command("CANCEL_ORDERS", "account:a", 5))
    held = {one["type"]: one for one in told["targets"][0]["in_force"]}
    assert set(held) == {"HALT_TRADING", "SET_LIMIT", "CANCEL_ORDERS"}
    assert (held["SET_LIMIT"]["seq"], held["SET_LIMIT"]["action"]) == (4, {"value": "4"})
    (told, _) = second(state, 3, as_of_us=3602 * SECOND)
    assert kinds(told) == {"account:a": ["HALT_TRADING", "SET_LIMIT"]}


def test_a_full_document_from_memory_says_what_a_restored_state_says_while_hours_end() -> None:
    state = DesiredState()
    second(state, 0, command("HALT_TRADING", "account:a", 1), command("CALL_MARGIN", "account:b", 1))
    for seq, at in enumerate((61, 1800, 3540, 3601, 3700, 5401), 1):
        twin = DesiredState.restore(state.snapshot())
        asked = [command("CANCEL_ORDERS", "account:a", 2, iat_us=at * SECOND)] if at == 1800 else []
        said = second(state, seq, *asked, as_of_us=at * SECOND)
        assert said == second(twin, seq, *asked, as_of_us=at * SECOND)
        assert set(kinds(said[0])) == {"account:a", "account:b"}
    assert kinds(said[0]) == {"account:a": ["HALT_TRADING"], "account:b": []}


def test_haircuts_of_two_assets_of_one_target_are_both_in_force_and_a_second_of_one_replaces_it() -> None:
    state = DesiredState()
    cuts = [command("SET_HAIRCUT", "account:a", at, asset=name, haircut=cut)
            for at, (name, cut) in enumerate((("X", "0.2"), ("Y", "0.3"), ("X", "0.4")), 1)]  # fmt: skip
    (told, _) = second(state, 0, *cuts)
    assert [one["action"]["haircut"] for one in told["targets"][0]["in_force"]] == ["0.4", "0.3"]


def test_many_targets_are_split_into_documents_that_subscribers_take() -> None:
    state = DesiredState()
    many = [command(kind, f"account:{'x' * 110}{n}", at, **{"text": "y" * 60})
            for n in range(TARGETS_MAX + 10) for at, kind in enumerate(("HALT_TRADING", "CALL_MARGIN"), 1)]  # fmt: skip
    documents = second(state, 0, *many)
    assert [len(document.get("targets", [])) for document in documents] == [TARGETS_MAX, 10, 0]
    assert max(len(json.dumps(document)) for document in documents) < VALUE_BYTES_MAX[STATE]


@pytest.fixture(scope="module")
def crisis_folder(crisis_run: CrisisRuns) -> Path:
    """The folder of a finished run."""
    return crisis_run(4, per_second=30).folder


def subscriber(folder: Path) -> tuple[Subscriber[sqlite3.Connection], RecordingEffects]:
    keys = KeySet.of_issuers(json.loads((folder / "keys" / "public.jwks.json").read_text()), "dev")
    desk = RecordingEffects()
    connection = sqlite3.connect(":memory:", isolation_level=None)
    return sqlite_subscriber(connection, AcceptancePolicy("oms", "dev", ("risk/dev",)), keys, desk), desk


def documents(folder: Path, topic: str) -> list[tuple[bytes, list[tuple[str, bytes]], int]]:
    return [
        (value, [(name, text.encode()) for name, text in headers], json.loads(value)["iat_us"])
        for records in bus_contents(folder, [topic]).values()
        for _, _, headers, value in records
    ]


def test_a_subscriber_that_heard_no_command_reaches_the_same_modes_from_the_states(crisis_folder: Path) -> None:
    listener, heard = subscriber(crisis_folder)
    for record in documents(crisis_folder, "commands"):
        listener.receive(*record)
    healed, desk = subscriber(crisis_folder)
    for record in documents(crisis_folder, "state"):
        assert healed.receive(*record)[0].reason is None
    assert desk.mode == heard.mode
    assert desk.mode


def test_a_heartbeat_whose_state_was_held_back_is_no_sign_of_life(crisis_folder: Path) -> None:
    records = documents(crisis_folder, "state")
    states = [at for at, record in enumerate(records) if state_type(record[0]) == STATE]
    last = states[-1]
    listener, desk = subscriber(crisis_folder)
    for at, record in enumerate(records):
        if at != last:
            receipt = listener.receive(*record)[0]
    assert receipt.reason is Refusal.STATE_MISSING
    assert listener.watch(records[-1][2] + 10_000_000)
    assert desk.safe


def test_a_state_held_back_between_others_is_missed(crisis_folder: Path) -> None:
    records = documents(crisis_folder, "state")
    states = [at for at, record in enumerate(records) if state_type(record[0]) == STATE]
    assert len(states) > 2
    for lost in states[:-1]:
        listener, _ = subscriber(crisis_folder)
        receipts = [listener.receive(*record)[0] for at, record in enumerate(records) if at != lost]
        assert receipts[-1].reason is Refusal.STATE_MISSING


def test_every_state_of_a_run_is_signed_by_the_issuer(crisis_folder: Path) -> None:
    keys = _envelopes.public_keys(json.loads((crisis_folder / "keys" / "public.jwks.json").read_text()))
    for value, headers, _ in documents(crisis_folder, "state"):
        envelope = dict(headers)["dsse"].decode()
        assert _envelopes.verify_envelope(value, envelope, keys, state_type(value)) == value
    assert open_signer("file:keys/dev.pem", crisis_folder).keyid in keys
