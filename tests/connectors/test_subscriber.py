"""Subscribers: whatever is lost, repeated or reordered, nothing takes effect twice or ends looser than it should."""

import hashlib
import itertools
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.connectors.subscriber import SqliteLedger, Subscriber, headers_of, sqlite_subscriber
from seawall.connectors.subscriber._ledger import FORGET_EVERY
from seawall.connectors.subscriber._ordering import SEEN_MAX, TRADING_MODE, Outcome, SeenCommand
from seawall.schemas.evidence import COMMAND, STATE, Command, KeySet, Refusal
from seawall.schemas.evidence._documents import HEARTBEAT
from seawall_testing import signing
from seawall_testing.signing import (
    NOW_US,
    POLICY,
    ROOTS,
    RecordingEffects,
    command,
    encode,
    heartbeat,
    keyset_document,
    people,
    record,
    state,
)

TARGET = "desk:eq-eu"
KEYS = signing.keys()


def new_subscriber(connection: sqlite3.Connection | None = None, **options) -> tuple[RecordingEffects, Subscriber]:
    effects = RecordingEffects()
    connection = connection or sqlite3.connect(":memory:", isolation_level=None)
    return effects, sqlite_subscriber(connection, POLICY, KEYS, effects, **options)


def issue(kind: str, seq: int, **changes):
    document = command(kind, seq, **changes)
    loosens = kind == "REINSTATE" or document["action"].get("direction") == "loosen"
    return record(document, *(people() if loosens else [signing.ISSUER]))


def outcome_of(subscriber: Subscriber, item) -> Outcome:
    return subscriber.receive(*item, NOW_US)[0].outcome


def test_each_command_of_an_orderly_stream_is_applied_once_and_a_second_delivery_changes_nothing():
    effects, subscriber = new_subscriber()
    stream = [
        issue(kind, seq) for seq, kind in enumerate(("REDUCE_ONLY", "HALT_TRADING", "REINSTATE", "CANCEL_ORDERS"), 1)
    ]
    assert [outcome_of(subscriber, item) for item in stream] == [Outcome.APPLIED] * 4
    done = list(effects.done)
    assert [outcome_of(subscriber, item) for item in stream] == [Outcome.DUPLICATE] * 4
    assert effects.done == done
    assert effects.mode[TARGET] == 0


def test_a_command_that_expired_since_it_was_applied_is_acknowledged_as_what_became_of_it():
    _, subscriber = new_subscriber()
    halt, release = issue("HALT_TRADING", 1), issue("REINSTATE", 2)
    assert [outcome_of(subscriber, item) for item in (halt, release)] == [Outcome.APPLIED] * 2
    later_us = NOW_US + 3_600_000_000
    for item in (halt, release, record(command("REINSTATE", 2), signing.MAKER)):
        (receipt,) = subscriber.receive(*item, later_us)
        assert receipt.outcome is Outcome.DUPLICATE
        assert receipt.acknowledgement("oms", later_us)["outcome"] == "completed"
    for other in (issue("HALT_TRADING", 1, id="another"), issue("HALT_TRADING", 3)):
        (receipt,) = subscriber.receive(*other, later_us)
        assert receipt.reason is Refusal.EXPIRED
        assert receipt.acknowledgement("oms", later_us)["outcome"] == "rejected"


KINDS = ("REDUCE_ONLY", "SUSPEND", "HALT_TRADING", "REINSTATE", "CANCEL_ORDERS", "limit 1", "limit 9")


def issue_kind(kind: str, seq: int):
    if not kind.startswith("limit"):
        return issue(kind, seq)
    direction = {"1": "tighten", "9": "loosen"}[kind[-1]]
    return issue("SET_LIMIT", seq, action={"direction": direction, "bound": f"{kind[-1]}.{seq}"})


@pytest.mark.parametrize("kinds", [
    ("HALT_TRADING", "REINSTATE", "REDUCE_ONLY", "CANCEL_ORDERS"),
    ("REDUCE_ONLY", "HALT_TRADING", "REINSTATE", "HALT_TRADING"),
    ("REINSTATE", "SUSPEND", "limit 1", "limit 9"),
    ("limit 9", "limit 1", "limit 9", "REINSTATE"),
    ("HALT_TRADING", "limit 1", "REINSTATE", "REDUCE_ONLY"),
])  # fmt: skip
def test_every_order_of_four_commands_ends_as_their_own_order_does_or_safer(kinds):
    items = [issue_kind(kind, seq) for seq, kind in enumerate(kinds, 1)]
    orderly, subscriber = new_subscriber()
    for item in items:
        subscriber.receive(*item, NOW_US)
    for permutation in itertools.permutations(items):
        effects, subscriber = new_subscriber()
        for item in permutation:
            assert subscriber.receive(*item, NOW_US)[0].reason is None
        check_not_looser(effects, orderly)
        assert len(effects.done) == len(set(effects.done))
        assert [outcome_of(subscriber, item) for item in permutation] == [Outcome.DUPLICATE] * 4


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=7), st.data())
@settings(max_examples=60, deadline=None)
def test_any_loss_repetition_and_order_never_ends_looser_once_all_arrived(kinds, data):
    items = [issue_kind(kind, seq) for seq, kind in enumerate(kinds, 1)]
    orderly, subscriber = new_subscriber()
    for item in items:
        subscriber.receive(*item, NOW_US)
    effects, subscriber = new_subscriber()
    first = data.draw(st.lists(st.sampled_from(items), max_size=10))
    for item in [*first, *data.draw(st.permutations(items))]:
        subscriber.receive(*item, NOW_US)
    check_not_looser(effects, orderly)
    assert len(effects.done) == len(set(effects.done))


def check_not_looser(effects: RecordingEffects, orderly: RecordingEffects) -> None:
    assert effects.mode.get(TARGET, 0) >= orderly.mode.get(TARGET, 0)
    for name, bound in orderly.settings.items():
        if "SET_LIMIT" in name and "tighten" in bound:
            assert effects.settings[name] == bound


def test_a_release_waits_for_what_was_lost_and_asks_for_the_state():
    effects, subscriber = new_subscriber()
    assert outcome_of(subscriber, issue("HALT_TRADING", 1)) is Outcome.APPLIED
    receipt = subscriber.receive(*issue("REINSTATE", 3), NOW_US)[0]
    assert (receipt.outcome, receipt.gap) == (Outcome.HELD, True)
    assert receipt.acknowledgement("oms", NOW_US)["outcome"] == "accepted"
    late = subscriber.receive(*issue("CANCEL_ORDERS", 2), NOW_US)
    assert [(item.outcome, item.gap) for item in late] == [(Outcome.APPLIED, True), (Outcome.APPLIED, False)]
    assert effects.mode[TARGET] == 0


def target_state(seq: int, *in_force: tuple[str, int], last: int | None = None) -> dict:
    listed = [
        {"epoch": 1, "seq": at, "id": signing.command_id(TARGET, 1, at), "type": kind, "action": {}}
        for kind, at in in_force
    ]
    head = {"target": {"scope": "desk", "id": "eq-eu"}, "epoch": 1, "seq": seq}
    return {**head, "id": signing.command_id(TARGET, 1, last or seq), "in_force": listed}


def test_a_state_snapshot_heals_a_lost_halt_and_never_loosens():
    effects, subscriber = new_subscriber()
    snapshot = record(state(1, target_state(2, ("HALT_TRADING", 2))), payload_type=STATE)
    assert outcome_of(subscriber, snapshot) is Outcome.APPLIED
    assert effects.mode[TARGET] == TRADING_MODE["HALT_TRADING"]
    empty = record(state(2, target_state(3)), payload_type=STATE)
    assert outcome_of(subscriber, empty) is Outcome.APPLIED
    assert effects.mode[TARGET] == TRADING_MODE["HALT_TRADING"]
    assert outcome_of(subscriber, issue("REINSTATE", 3)) is Outcome.APPLIED
    assert effects.mode[TARGET] == 0
    assert outcome_of(subscriber, issue("HALT_TRADING", 4)) is Outcome.APPLIED
    assert outcome_of(subscriber, issue("HALT_TRADING", 1)) is Outcome.REFUSED


def test_a_halt_that_a_snapshot_told_of_is_not_carried_out_again_when_it_comes():
    effects, subscriber = new_subscriber()
    snapshot = record(state(1, target_state(2, ("HALT_TRADING", 1), ("SUSPEND", 2))), payload_type=STATE)
    subscriber.receive(*snapshot, NOW_US)
    assert len(effects.done) == 2
    assert outcome_of(subscriber, issue("SUSPEND", 2)) is Outcome.DUPLICATE
    assert outcome_of(subscriber, issue("HALT_TRADING", 1)) is Outcome.DUPLICATE
    assert len(effects.done) == 2
    assert outcome_of(subscriber, issue("REINSTATE", 3)) is Outcome.APPLIED


@pytest.mark.parametrize(
    "kind, name", [("SET_LIMIT", "limit"), ("SET_HAIRCUT", "asset"), ("REDUCE_POSITION", "instrument")]
)
def test_of_two_commands_of_a_kind_about_different_things_the_earlier_one_counts_when_it_comes_later(kind, name):
    actions = [{"direction": "tighten", name: of} for of in ("A", "B")]
    effects, subscriber = new_subscriber()
    items = [issue(kind, seq, action=action) for seq, action in enumerate(actions, 1)]
    assert [outcome_of(subscriber, item) for item in reversed(items)] == [Outcome.APPLIED] * 2
    assert effects.done == [signing.command_id(TARGET, 1, seq) for seq in (2, 1)]


def test_a_state_restores_a_lost_limit_though_a_later_one_about_another_came():
    effects, subscriber = new_subscriber()
    first, second = ({"direction": "tighten", "limit": name, "value": "5"} for name in ("gross", "var"))
    assert outcome_of(subscriber, issue("SET_LIMIT", 2, action=second)) is Outcome.APPLIED
    told = target_state(2, ("SET_LIMIT", 1), ("SET_LIMIT", 2))
    for entry, action in zip(told["in_force"], (first, second), strict=True):
        entry["action"] = action
    assert outcome_of(subscriber, record(state(1, told), payload_type=STATE)) is Outcome.APPLIED
    assert effects.done == [signing.command_id(TARGET, 1, seq) for seq in (2, 1)]
    assert outcome_of(subscriber, issue("SET_LIMIT", 1, action=first)) is Outcome.DUPLICATE


def test_a_ledger_of_an_earlier_version_goes_on():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _, subscriber = new_subscriber(connection)
    assert (
        outcome_of(subscriber, issue("SET_LIMIT", 2, action={"direction": "tighten", "limit": "var"}))
        is Outcome.APPLIED
    )
    connection.execute("ALTER TABLE seawall_seen DROP COLUMN about")
    _, subscriber = new_subscriber(connection)
    late = issue("SET_LIMIT", 1, action={"direction": "tighten", "limit": "gross"})
    assert outcome_of(subscriber, late) is Outcome.SUPERSEDED


def test_what_was_held_is_judged_again_when_its_turn_comes():
    effects, subscriber = new_subscriber()
    assert outcome_of(subscriber, issue("REINSTATE", 2)) is Outcome.HELD
    receipts = subscriber.receive(*issue("HALT_TRADING", 1), NOW_US + 61_000_000)
    assert [(receipt.outcome, receipt.reason) for receipt in receipts] == [
        (Outcome.APPLIED, None),
        (Outcome.REFUSED, Refusal.EXPIRED),
    ]
    assert effects.mode[TARGET] == TRADING_MODE["HALT_TRADING"]
    assert outcome_of(subscriber, issue("REINSTATE", 2)) is Outcome.DUPLICATE
    assert outcome_of(subscriber, issue("REINSTATE", 3)) is Outcome.APPLIED


def test_what_was_held_is_refused_once_its_key_is_revoked():
    effects, subscriber = new_subscriber()
    assert outcome_of(subscriber, issue("REINSTATE", 2)) is Outcome.HELD
    revoked = {"status": "revoked", "revoked_after": [{"origin": "risk/audit", "size": 4}]}
    listed = [
        entry | revoked if entry["owner"] == "ada" and "root" not in entry["roles"] else entry
        for entry in signing.entries()
    ]
    subscriber.rotate(next_keys(subscriber, keys=listed))
    receipts = subscriber.receive(*issue("HALT_TRADING", 1), NOW_US)
    assert receipts[1].reason is Refusal.THRESHOLD_NOT_MET
    assert effects.mode[TARGET] == TRADING_MODE["HALT_TRADING"]


def test_what_was_held_and_then_passed_over_is_refused_and_forgotten():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _, subscriber = new_subscriber(connection)
    assert outcome_of(subscriber, issue("REINSTATE", 3)) is Outcome.HELD
    receipts = subscriber.receive(*record(state(1, target_state(5)), payload_type=STATE), NOW_US)
    assert [receipt.reason for receipt in receipts] == [None, Refusal.STALE_SEQ]
    assert SqliteLedger(connection).held("risk/prod", TARGET) == []


def test_a_state_snapshot_frees_what_was_held():
    effects, subscriber = new_subscriber()
    assert outcome_of(subscriber, issue("REINSTATE", 4)) is Outcome.HELD
    receipts = subscriber.receive(*record(state(1, target_state(3)), payload_type=STATE), NOW_US)
    assert [receipt.outcome for receipt in receipts] == [Outcome.APPLIED, Outcome.APPLIED]
    assert effects.done == [signing.command_id(TARGET, 1, 4)]


def test_every_subset_of_lost_commands_is_healed_by_the_next_snapshot():
    kinds = ("REDUCE_ONLY", "CANCEL_ORDERS", "HALT_TRADING", "SUSPEND")
    for lost in itertools.chain.from_iterable(itertools.combinations(range(4), n) for n in range(5)):
        effects, subscriber = new_subscriber()
        for seq, kind in enumerate(kinds, 1):
            if seq - 1 not in lost:
                subscriber.receive(*issue(kind, seq), NOW_US)
        snapshot = state(1, target_state(4, ("HALT_TRADING", 3), ("SUSPEND", 4)))
        subscriber.receive(*record(snapshot, payload_type=STATE), NOW_US)
        assert effects.mode[TARGET] == TRADING_MODE["HALT_TRADING"]
        assert len(effects.done) == len(set(effects.done))
        assert outcome_of(subscriber, issue("CANCEL_ORDERS", 5)) is Outcome.APPLIED


def test_of_a_state_only_targets_that_are_ours_and_its_signers_own_are_taken():
    limited = [signing.ISSUER.entry("issuer", targets=["desk:eq-*"]), *signing.entries()[1:]]
    keys = KeySet.parse(encode(keyset_document(keys=limited)))
    effects = RecordingEffects()
    policy = replace(POLICY, targets=("desk:*",))
    subscriber = sqlite_subscriber(sqlite3.connect(":memory:", isolation_level=None), policy, keys, effects)
    entries = [target_state(1, ("HALT_TRADING", 1)) | {"target": {"scope": scope, "id": name}}
               for scope, name in (("desk", "eq-eu"), ("desk", "us"), ("venue", "eq-x"))]  # fmt: skip
    assert outcome_of(subscriber, record(state(1, *entries), payload_type=STATE)) is Outcome.APPLIED
    assert effects.mode == {TARGET: TRADING_MODE["HALT_TRADING"]}


@pytest.mark.parametrize(("changes", "reason"), [
    ({"epoch": 2**52}, Refusal.JUMP_TOO_FAR),
    ({"seq": 2**52}, Refusal.JUMP_TOO_FAR),
    ({"in_force": [{"epoch": 1, "seq": 2**52, "id": "a", "type": "SUSPEND", "action": {}}]}, Refusal.JUMP_TOO_FAR),
    ({"epoch": 0}, Refusal.PAYLOAD_MALFORMED),
    ({"seq": -1}, Refusal.PAYLOAD_MALFORMED),
    ({"id": "a b"}, Refusal.PAYLOAD_MALFORMED),
])  # fmt: skip
def test_a_state_with_one_entry_out_of_bounds_has_no_effect_and_the_next_one_has(changes, reason):
    effects, subscriber = new_subscriber()
    halted = target_state(1, ("HALT_TRADING", 1))
    spoilt = target_state(1) | {"target": {"scope": "desk", "id": "us"}} | changes
    receipt = subscriber.receive(*record(state(1, halted, spoilt), payload_type=STATE), NOW_US)[0]
    assert (receipt.reason, effects.done) == (reason, [])
    assert outcome_of(subscriber, record(state(1, halted), payload_type=STATE)) is Outcome.APPLIED
    assert effects.mode == {TARGET: TRADING_MODE["HALT_TRADING"]}


@pytest.mark.parametrize(("make", "kind"), [(heartbeat, HEARTBEAT), (state, STATE)])
def test_no_document_uses_all_numbers_up_and_who_was_away_for_a_month_is_not_locked_out(make, kind):
    _, subscriber = new_subscriber()

    def refusal(seq: int, now_us: int) -> Refusal | None:
        times = {"iat_us": now_us, "nbf_us": now_us, "exp_us": now_us + 5_000_000}
        return subscriber.receive(*record(make(seq, **times), payload_type=kind), now_us)[0].reason

    assert refusal(2**53 - 1, NOW_US) is Refusal.JUMP_TOO_FAR
    begun, month_us = 40 * 365 * 86_400 * 100, 30 * 86_400_000_000  # slices of 10 ms for 40 years
    assert refusal(begun, NOW_US) is None
    assert refusal(begun + POLICY.jump_max + 1, NOW_US) is Refusal.JUMP_TOO_FAR
    assert refusal(begun + month_us // 1000, NOW_US + month_us) is None
    assert refusal(begun + month_us // 1000 - 1, NOW_US + month_us) is Refusal.STALE_SEQ


def test_silence_brings_the_safe_state_and_a_heartbeat_ends_it():
    effects, subscriber = new_subscriber(grace_us=1_000_000)
    assert subscriber.watch(NOW_US)
    assert effects.safe
    subscriber.receive(*record(heartbeat(1), payload_type=HEARTBEAT), NOW_US)
    assert not effects.safe
    assert not subscriber.watch(NOW_US + 6_000_000)
    assert subscriber.watch(NOW_US + 6_000_001)
    assert (
        subscriber.receive(*record(heartbeat(1), payload_type=HEARTBEAT), NOW_US + 20_000_000)[0].reason
        is Refusal.EXPIRED
    )
    assert effects.safe


def test_heartbeats_that_name_a_state_which_never_came_do_not_put_silence_off():
    effects, subscriber = new_subscriber()
    snapshot = encode(state(1))
    subscriber.receive(*record(snapshot, payload_type=STATE), NOW_US)
    for second in range(1, 31):
        named = hashlib.sha256(snapshot).hexdigest() if second == 1 else "0" * 64
        now_us = NOW_US + second * 1_000_000
        beat = heartbeat(second, now_us, state_sha256=named)
        receipt = subscriber.receive(*record(beat, payload_type=HEARTBEAT), now_us)[0]
        assert receipt.reason is (None if second == 1 else Refusal.STATE_MISSING)
        assert subscriber.watch(now_us) == effects.safe == (second > 6)


def chain(*full: bool) -> list[bytes]:
    """State documents, one a second, each naming the one before it, unless it is a full one."""
    values: list[bytes] = []
    for seq, needs_none in enumerate(full, 1):
        before = None if needs_none else hashlib.sha256(values[-1]).hexdigest()
        values.append(encode(state(seq, prev_sha256=before)))
    return values


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.sets(st.integers(0, 8)))
def test_a_heartbeat_counts_when_every_state_since_the_last_full_one_came(full, lost):
    full = [True, *full]
    values = chain(*full)
    _, subscriber = new_subscriber()
    for at, value in enumerate(values):
        if at not in lost:
            assert outcome_of(subscriber, record(value, payload_type=STATE)) is Outcome.APPLIED
        since = max(before for before in range(at + 1) if full[before])
        beat = heartbeat(at, state_sha256=hashlib.sha256(value).hexdigest())
        missing = not lost.isdisjoint(range(since, at + 1))
        reason = subscriber.receive(*record(beat, payload_type=HEARTBEAT), NOW_US)[0].reason
        assert reason is (Refusal.STATE_MISSING if missing else None)


def test_the_first_part_of_a_full_state_that_comes_again_takes_nothing_back():
    _, subscriber = new_subscriber()
    first = encode(state(1))
    second = encode(state(1, prev_sha256=hashlib.sha256(first).hexdigest()))
    for value in (first, second, first):
        assert outcome_of(subscriber, record(value, payload_type=STATE)) is Outcome.APPLIED
    beat = heartbeat(1, state_sha256=hashlib.sha256(second).hexdigest())
    assert outcome_of(subscriber, record(beat, payload_type=HEARTBEAT)) is Outcome.APPLIED


def test_states_of_an_earlier_version_name_none_before_them_and_a_heartbeat_vouches_for_the_last():
    _, subscriber = new_subscriber()
    values = []
    for seq in (1, 2, 2, 5):
        document = state(seq)
        del document["prev_sha256"]
        values.append(encode(document | {"nbf_us": NOW_US - len(values)}))
    for value in values:
        assert outcome_of(subscriber, record(value, payload_type=STATE)) is Outcome.APPLIED
    for value, reason in ((values[-1], None), (values[-2], Refusal.STATE_MISSING)):
        beat = heartbeat(5, state_sha256=hashlib.sha256(value).hexdigest())
        assert subscriber.receive(*record(beat, payload_type=HEARTBEAT), NOW_US)[0].reason is reason


def test_the_first_state_behind_a_gap_asks_for_a_full_one():
    _, subscriber = new_subscriber()
    values = chain(True, False, False, False, True)
    gaps = [subscriber.receive(*record(values[at], payload_type=STATE), NOW_US)[0].gap for at in (0, 2, 3, 4)]
    assert gaps == [False, True, True, False]


@pytest.mark.parametrize("lost", [None, 0, 1, 2])
@pytest.mark.parametrize("again", [0, 1, 2])
def test_parts_of_one_second_may_come_again_and_none_may_be_missing(lost, again):
    """A consumer that starts again is given the last records anew, in order."""
    first = encode(state(1))
    parts, named = [], first
    for _ in range(3):
        named = encode(state(2, prev_sha256=hashlib.sha256(named).hexdigest()))
        parts.append(named)
    came = [part for at, part in enumerate(parts) if at != lost]
    _, subscriber = new_subscriber()
    for value in (first, *came, *came[again:]):
        subscriber.receive(*record(value, payload_type=STATE), NOW_US)
    beat = heartbeat(2, state_sha256=hashlib.sha256(named).hexdigest())
    reason = subscriber.receive(*record(beat, payload_type=HEARTBEAT), NOW_US)[0].reason
    assert reason is (None if lost is None else Refusal.STATE_MISSING)


def test_a_contradiction_brings_the_safe_state_until_a_person_clears_it():
    effects, subscriber = new_subscriber()
    subscriber.receive(*issue("REDUCE_ONLY", 1), NOW_US)
    receipt = subscriber.receive(*issue("HALT_TRADING", 1, id="another"), NOW_US)[0]
    assert receipt.reason is Refusal.EQUIVOCATION
    assert receipt.acknowledgement("oms", NOW_US)["outcome"] == "rejected"
    assert effects.safe
    subscriber.receive(*record(heartbeat(1), payload_type=HEARTBEAT), NOW_US)
    assert effects.safe
    subscriber.clear()
    assert not effects.safe


def test_a_state_that_contradicts_one_target_heals_the_others_and_what_it_frees_is_acknowledged():
    effects, subscriber = new_subscriber()
    subscriber.receive(*issue("HALT_TRADING", 2, target="desk:b"), NOW_US)
    assert outcome_of(subscriber, issue("REINSTATE", 2, target="desk:a")) is Outcome.HELD
    entries = []
    for name, id in (("a", None), ("b", "another"), ("c", None)):
        ids = [signing.command_id(f"desk:{name}", 1, seq) for seq in (1, 2)]
        seq = 1 if name == "a" else 2
        halt = {"epoch": 1, "seq": seq, "id": ids[seq - 1], "type": "HALT_TRADING", "action": {}}
        place = {"target": {"scope": "desk", "id": name}, "epoch": 1, "seq": seq, "id": id or ids[seq - 1]}
        entries.append({**place, "in_force": [halt]})
    first, *released = subscriber.receive(*record(state(1, *entries), payload_type=STATE), NOW_US)
    assert first.reason is Refusal.EQUIVOCATION and "desk:b at (1, 2)" in first.detail and effects.safe
    assert [receipt.document.id for receipt in released] == [signing.command_id("desk:a", 1, 2)]
    assert effects.mode["desk:c"] == TRADING_MODE["HALT_TRADING"]


def test_a_bad_signature_never_acts_and_is_not_acknowledged():
    effects, subscriber = new_subscriber()
    value, headers = issue("HALT_TRADING", 1)
    receipt = subscriber.receive(value.replace(b"eq-eu", b"eq-us"), headers, NOW_US)[0]
    assert receipt.reason is Refusal.BAD_SIGNATURE
    assert receipt.acknowledgement("oms", NOW_US) is None
    assert effects.done == []
    assert not effects.safe


@given(st.integers(0, 8 * len(encode(command())) - 1))
@settings(max_examples=80, deadline=None)
def test_no_changed_bit_of_a_command_is_accepted(bit):
    effects, subscriber = new_subscriber()
    value, headers = issue("HALT_TRADING", 1)
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    assert outcome_of(subscriber, (bytes(changed), headers)) is Outcome.REFUSED
    assert effects.done == []


def test_unsigned_metadata_decides_nothing():
    _, subscriber = new_subscriber()
    value, headers = issue("HALT_TRADING", 1)
    assert outcome_of(subscriber, (value, [("seawall-id", b"x"), *headers, ("key", b"desk:us")])) is Outcome.APPLIED
    assert headers_of({"dsse": headers[0][1].decode()}) == headers
    assert headers_of([("dsse", headers[0][1]), ("x", None)]) == [*headers, ("x", b"")]


def test_an_effect_that_fails_leaves_no_mark(tmp_path):
    connection = sqlite3.connect(tmp_path / "oms.db", isolation_level=None)
    effects, subscriber = new_subscriber(connection)
    effects.apply = lambda *_: (_ for _ in ()).throw(OSError("gateway down"))
    with pytest.raises(OSError, match="gateway"):
        subscriber.receive(*issue("HALT_TRADING", 1), NOW_US)
    again, subscriber = new_subscriber(connection)
    assert outcome_of(subscriber, issue("HALT_TRADING", 1)) is Outcome.APPLIED
    assert len(again.done) == 1


def test_a_commit_that_a_reader_blocks_leaves_no_mark_and_no_open_transaction(tmp_path):
    connection = sqlite3.connect(tmp_path / "oms.db", isolation_level=None, timeout=0)
    _, subscriber = new_subscriber(connection)
    reader = sqlite3.connect(tmp_path / "oms.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM seawall_mark").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        subscriber.receive(*issue("HALT_TRADING", 1), NOW_US)
    reader.execute("COMMIT")
    assert outcome_of(subscriber, issue("HALT_TRADING", 1)) is Outcome.APPLIED
    assert subscriber.watch(NOW_US)
    reader.close()
    connection.close()


def test_marks_survive_a_restart(tmp_path):
    for expected in (Outcome.APPLIED, Outcome.DUPLICATE):
        connection = sqlite3.connect(tmp_path / "oms.db", isolation_level=None)
        _, subscriber = new_subscriber(connection)
        assert outcome_of(subscriber, issue("HALT_TRADING", 1)) is expected
        connection.close()


def test_the_caller_may_hold_the_transaction():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    effects = RecordingEffects()
    subscriber = Subscriber(POLICY, KEYS, SqliteLedger(connection, owns_transaction=False), effects)
    connection.execute("BEGIN")
    subscriber.receive(*issue("HALT_TRADING", 1), NOW_US)
    connection.execute("ROLLBACK")
    connection.execute("BEGIN")
    assert outcome_of(subscriber, issue("HALT_TRADING", 1)) is Outcome.APPLIED
    connection.execute("COMMIT")
    assert outcome_of(subscriber, issue("HALT_TRADING", 1)) is Outcome.DUPLICATE


def test_the_ledger_is_bounded_and_what_lies_behind_it_is_refused():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _, subscriber = new_subscriber(connection)
    for seq in range(1, 4):
        assert outcome_of(subscriber, issue("CANCEL_ORDERS", seq)) is Outcome.APPLIED
    ledger = SqliteLedger(connection)
    for seq in range(4, SEEN_MAX + FORGET_EVERY + 1):  # as if it had gone on
        ledger.note("risk/prod", TARGET, SeenCommand(1, seq, f"id{seq}", f"id{seq - 1}", "HEDGE", Outcome.APPLIED))
    assert len(ledger.seen("risk/prod", TARGET, (0, 0))) == SEEN_MAX
    receipt = subscriber.receive(*issue("CANCEL_ORDERS", 1), NOW_US)[0]
    assert receipt.reason is Refusal.STALE_SEQ


def test_beyond_a_gap_what_the_ledger_may_have_forgotten_is_refused_and_the_rest_is_a_duplicate():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    effects, subscriber = new_subscriber(connection)
    assert outcome_of(subscriber, issue("HEDGE", 2)) is Outcome.APPLIED
    assert outcome_of(subscriber, issue("HEDGE", 1 + FORGET_EVERY)) is Outcome.APPLIED
    ledger = SqliteLedger(connection)
    for seq in range(2 + FORGET_EVERY, SEEN_MAX + FORGET_EVERY + 1):  # as if it had gone on
        ledger.note(
            "risk/prod", TARGET, SeenCommand(1, seq, f"id{seq}", f"id{seq - 1}", "CALL_MARGIN", Outcome.APPLIED)
        )
    assert subscriber.receive(*issue("HEDGE", 2), NOW_US)[0].reason is Refusal.STALE_SEQ
    assert outcome_of(subscriber, issue("HEDGE", 1 + FORGET_EVERY)) is Outcome.DUPLICATE
    assert len(effects.done) == 2


def test_two_targets_and_two_issuers_do_not_touch_each_other():
    effects, subscriber = new_subscriber()
    other = command("HALT_TRADING", 1, target="desk:us")
    assert outcome_of(subscriber, issue("HALT_TRADING", 7)) is Outcome.APPLIED
    assert outcome_of(subscriber, record(other)) is Outcome.APPLIED
    assert set(effects.mode) == {TARGET, "desk:us"}


# --- rotation with a live subscriber ---


def next_keys(subscriber: Subscriber, **changes) -> bytes:
    current = subscriber.keys
    document = keyset_document(version=current.version + 1, prev_sha256=current.sha256) | changes
    return signing.envelope(encode(document), ROOTS)


def test_a_whole_rotation_loses_no_command_and_ends_with_the_old_key_refused():
    effects, subscriber = new_subscriber()
    new = signing.Holder("issuer of next year", "risk engine")
    old_entry, new_entry, rest = signing.ISSUER.entry("issuer"), new.entry("issuer"), signing.entries()[1:]
    send = lambda seq, key: subscriber.receive(*record(command("CANCEL_ORDERS", seq), key), NOW_US)[0]  # noqa: E731
    assert send(1, signing.ISSUER).outcome is Outcome.APPLIED
    subscriber.rotate(next_keys(subscriber, keys=[old_entry, new_entry | {"status": "verify-only"}, *rest]))
    assert send(2, signing.ISSUER).outcome is Outcome.APPLIED
    assert send(3, new).outcome is Outcome.APPLIED
    retired = old_entry | {"status": "verify-only", "exp_us": NOW_US + 60_000_000}
    subscriber.rotate(next_keys(subscriber, keys=[retired, new_entry, *rest]))
    assert send(4, signing.ISSUER).outcome is Outcome.APPLIED
    revoked = old_entry | {"status": "revoked", "revoked_after": [{"origin": "risk/audit", "size": 4}]}
    subscriber.rotate(next_keys(subscriber, keys=[revoked, new_entry, *rest]))
    assert send(5, signing.ISSUER).reason is Refusal.KEY_REVOKED
    assert send(5, new).outcome is Outcome.APPLIED
    assert len(effects.done) == 5


def test_a_compromise_is_healed_by_floor_and_reset():
    _, subscriber = new_subscriber()
    thief = issue("CANCEL_ORDERS", 1_000_000, epoch=1_000_000)
    assert outcome_of(subscriber, thief) is Outcome.APPLIED
    assert subscriber.receive(*issue("HALT_TRADING", 2, epoch=2), NOW_US)[0].reason is Refusal.STALE_EPOCH
    subscriber.rotate(next_keys(subscriber, epoch_floor={"risk/prod": 2}, reset_seq={"risk/prod": 1}))
    assert outcome_of(subscriber, issue("HALT_TRADING", 2, epoch=2)) is Outcome.APPLIED
    assert subscriber.receive(*issue("HALT_TRADING", 3, epoch=1), NOW_US)[0].reason is Refusal.STALE_EPOCH


def test_a_reset_is_taken_once_though_the_key_set_came_by_a_start_and_not_by_rotation():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _, subscriber = new_subscriber(connection)
    assert outcome_of(subscriber, issue("CANCEL_ORDERS", 9, epoch=900_000)) is Outcome.APPLIED
    keys = KeySet.parse(encode(keyset_document(reset_seq={"risk/prod": 1})))
    for expected in (Outcome.APPLIED, Outcome.DUPLICATE):
        started = sqlite_subscriber(connection, POLICY, keys, RecordingEffects())
        assert outcome_of(started, issue("HALT_TRADING", 1)) is expected


def test_a_state_that_a_thief_counted_far_ahead_is_healed_by_the_next_epoch():
    effects, subscriber = new_subscriber()
    thief = target_state(NOW_US // 1000)
    assert outcome_of(subscriber, record(state(1, thief), payload_type=STATE)) is Outcome.APPLIED
    assert subscriber.receive(*issue("HALT_TRADING", 2), NOW_US)[0].reason is Refusal.STALE_SEQ
    subscriber.rotate(next_keys(subscriber, epoch_floor={"risk/prod": 2}))
    assert outcome_of(subscriber, issue("HALT_TRADING", 2, epoch=2)) is Outcome.APPLIED
    assert effects.mode[TARGET] == TRADING_MODE["HALT_TRADING"]


def test_commands_of_the_pinned_document_types_only():
    _, subscriber = new_subscriber()
    assert KeySet.parse(encode(keyset_document())).sha256 == subscriber.keys.sha256
    assert Command.__struct_fields__[:2] == ("v", "iss")
    value, _ = issue("HALT_TRADING", 1)
    header = signing.header(value, [signing.ISSUER], COMMAND.replace("command", "limits"))
    assert subscriber.receive(value, [("dsse", header)], NOW_US)[0].reason is Refusal.TYPE_NOT_ALLOWED
