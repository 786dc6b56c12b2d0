"""Writes the conformance cases: ``python generate.py [FOLDER]``, the tests folder on the path; same bytes every time.

A case is a changed copy of one good record. The threats are those of the threat table in the design notes: forged,
replayed, reordered, dropped, rolled back, equivocating, misdirected, expired, downgraded, malformed, over-authorised.
"""

import base64
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from seawall.schemas.evidence import COMMAND, KEY_SET_TYPE, STATE, KeySet, encode_base64url, thumbprint
from seawall.schemas.evidence._documents import HEARTBEAT
from seawall_testing.signing import (
    CHECKER,
    CHECKER_OF_MAKER,
    HOUR_US,
    ISSUER,
    MAKER,
    NOW_US,
    ROOTS,
    STANDBY,
    Holder,
    command,
    encode,
    entries,
    header,
    heartbeat,
    keyset_document,
    state,
)

SECOND_US = 1_000_000
PEOPLE = [MAKER, CHECKER]


@dataclass(frozen=True)
class Case:
    """One folder."""

    why: str
    outcome: str = "applied"
    reason: str | None = None
    value: bytes = encode(command())
    headers: tuple[bytes, ...] | None = None
    signers: tuple[Holder, ...] = (ISSUER,)
    payload_type: str = COMMAND
    keyset: bytes = encode(keyset_document())
    before: tuple[tuple[bytes, bytes], ...] = ()
    policy: dict[str, Any] = field(default_factory=dict)
    now_us: int = NOW_US + SECOND_US
    before_us: int | None = None

    def files(self) -> dict[str, bytes]:
        """The files of the folder."""
        headers = self.headers
        if headers is None:
            headers = (header(self.value, list(self.signers), self.payload_type),)
        policy = {"audience": "oms", "environment": "prod", "issuers": ["risk/prod"], "targets": ["desk:*"]}
        expect = {
            "why": self.why, "document": "keyset" if self.payload_type == KEY_SET_TYPE else "record",
            "now_us": self.now_us, "policy": policy | {"skew_us": 5 * SECOND_US} | self.policy,
            "outcome": self.outcome, "reason": self.reason,
        }  # fmt: skip
        files = {"value.json": self.value, "keyset.json": self.keyset}
        files["expect.json"] = json.dumps(expect, indent=2, ensure_ascii=False).encode() + b"\n"
        for index, content in enumerate(headers):
            files["dsse.json" if index == 0 else f"dsse.{index + 1}.json"] = content
        if self.before:
            at = {} if self.before_us is None else {"now_us": self.before_us}
            earlier = [{"value": base64.b64encode(v).decode(), "dsse": [h.decode()], **at} for v, h in self.before]
            files["before.json"] = json.dumps(earlier, indent=2).encode() + b"\n"
        return files


def ok(why: str, **changes: Any) -> Case:
    """A case whose document is applied, or whatever ``outcome`` says."""
    return Case(why, **changes)


def fail(reason: str, why: str, **changes: Any) -> Case:
    """A case that is refused."""
    return Case(why, "refused", reason, **changes)


def signed(*args: Any, signers: tuple[Holder, ...] = (ISSUER,), **changes: Any) -> tuple[bytes, bytes]:
    """An earlier record: value and header."""
    value = encode(command(*args, **changes))
    return value, header(value, list(signers))


def text(**changes: Any) -> bytes:
    """The value of a changed command."""
    return encode(command(**changes))


def keys(changed: Holder | None = None, rest: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """A key set in which one holder's entry is changed, or the document itself."""
    listed = [entry | changes if changed and entry["kid"] == changed.kid else entry for entry in entries()]
    return encode(keyset_document(keys=listed, **(rest or {})))


def states() -> tuple[bytes, bytes, bytes, bytes]:
    """A full state, two that each follow from the one before, and another full one."""
    found = [encode(state(1))]
    for seq in (2, 3):
        found.append(encode(state(seq, prev_sha256=hashlib.sha256(found[-1]).hexdigest())))
    return found[0], found[1], found[2], encode(state(4))


def alive(why: str, make: Callable[..., Case], came: tuple[bytes, ...], named: bytes) -> Case:
    """A case of a heartbeat that names one state, after others came."""
    before = tuple((value, header(value, [ISSUER], STATE)) for value in came)
    value = encode(heartbeat(5, state_sha256=hashlib.sha256(named).hexdigest()))
    return make(why, value=value, payload_type=HEARTBEAT, before=before)


def raw(before: str, after: str) -> bytes:
    """A good command's text with something replaced, signed as it then stands."""
    good = encode(command()).decode()
    assert before in good
    return good.replace(before, after, 1).encode("utf-8", "surrogatepass")


def good_cases() -> Iterator[tuple[str, Case]]:
    """What must be taken."""
    value = encode(command())
    reinstate = text(kind="REINSTATE", seq=2)
    yield "halt", ok("a plain command by the issuer")
    yield "halt_es256", ok("by the standby key, whose algorithm is ES256", signers=(STANDBY,))
    yield "halt_unknown_signature_beside", ok("a signature by an unknown key is ignored", signers=(Holder("x"), ISSUER))
    false = header(value, [STANDBY, ISSUER]).replace(b'"sig":"', b'"sig":"A', 1)
    broken = json.loads(header(value, [STANDBY, ISSUER]))
    broken["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    assert false != encode(broken)
    yield "halt_false_signature_beside", ok("one good signature is enough for a halt", headers=(encode(broken),))
    urlsafe = header(value, [ISSUER]).decode().replace("+", "-").replace("application/vnd", "application|vnd")
    head, _, tail = urlsafe.partition('"sig":"')
    urlsafe = head.replace("|", "/").replace("-json", "+json") + '"sig":"' + tail.replace("/", "_")
    yield "halt_urlsafe_base64", ok("DSSE takes both alphabets", headers=(urlsafe.encode(),))
    yield "halt_wildcard_audience", ok("meant for everybody", value=text(aud=["*"]))
    yield "halt_verify_only_key", ok("a key being announced verifies", keyset=keys(ISSUER, status="verify-only"))
    yield "halt_after_gap", ok("what restricts does not wait for what was lost", value=text(seq=5), before=(signed(),))
    yield "halt_first_seen_late", ok("a subscriber that starts late", value=text(seq=41))
    yield "halt_clock_behind", ok("what restricts tolerates skew", value=text(nbf_us=NOW_US + 5 * SECOND_US))
    yield "halt_clock_ahead", ok("what restricts tolerates skew", now_us=NOW_US + 64 * SECOND_US)
    yield (
        "halt_expired_keyset",
        ok("withholding a key set must not stop a halt", keyset=keys(rest={"exp_us": NOW_US - 1})),
    )
    yield "halt_new_epoch", ok("the next epoch goes on", value=text(epoch=2, seq=2), before=(signed(),))
    yield "halt_duplicate", ok("delivered twice", outcome="duplicate", before=((value, header(value, [ISSUER])),))
    yield "halt_duplicate_expired", ok(
        "delivered again an hour later: what became of it stands", outcome="duplicate", now_us=NOW_US + HOUR_US,
        before=((value, header(value, [ISSUER])),), before_us=NOW_US,
    )  # fmt: skip
    yield "reinstate_by_maker_and_checker", ok("two people", value=reinstate, signers=tuple(PEOPLE), before=(signed(),))
    yield (
        "reinstate_waits_for_gap",
        ok("held until the one before comes", outcome="held", value=reinstate, signers=tuple(PEOPLE)),
    )
    yield (
        "limit_tightened",
        ok("tightening needs no people", value=text(kind="SET_LIMIT", action={"direction": "tighten", "bound": "1"})),
    )
    yield (
        "limit_loosened",
        ok(
            "loosening by two people",
            value=text(kind="SET_LIMIT", action={"direction": "loosen", "bound": "9"}),
            signers=tuple(PEOPLE),
        ),
    )
    yield "reduce_only_late", ok(
        "reordered behind a stricter command", outcome="superseded", value=text(kind="REDUCE_ONLY", seq=2),
        before=(signed(), signed(seq=3)),
    )  # fmt: skip
    yield (
        "halt_late",
        ok("reordered behind a milder one", value=text(seq=1), before=(signed(kind="REDUCE_ONLY", seq=2),)),
    )
    for name, limit, outcome in (("limit_late", "var", "applied"), ("limit_late_same", "gross", "superseded")):
        tighter = {"direction": "tighten", "limit": limit, "bound": "1"}
        later = signed(kind="SET_LIMIT", action=tighter | {"limit": "gross"}, seq=2)
        yield name, ok(
            "reordered behind a command about another limit, or the same", outcome=outcome,
            value=text(kind="SET_LIMIT", action=tighter, seq=1), before=(later,),
        )  # fmt: skip
    yield "heartbeat", ok("a sign of life", value=encode(heartbeat(1)), payload_type=HEARTBEAT)
    in_force = [{"epoch": 1, "seq": 3, "id": "h1", "type": "HALT_TRADING", "action": {}}]
    target = {"target": {"scope": "desk", "id": "eq-eu"}, "epoch": 1, "seq": 3, "id": "h1", "in_force": in_force}
    yield "state", ok("a snapshot heals a lost halt", value=encode(state(1, target)), payload_type=STATE)
    told = encode(state(1, target))
    yield (
        "state_of_other_target",
        ok(
            "of a state, only what its signers speak for is taken: the desk's first command still counts",
            signers=(STANDBY,),
            keyset=keys(ISSUER, targets=["desk:us-*"]),
            before=((told, header(told, [ISSUER], STATE)),),
        ),
    )
    full, _, last, _ = chain = states()
    whole = "every state that it vouches for came, one of them twice"
    yield "heartbeat_after_states", alive(whole, ok, chain[:2] + chain[1:3], last)
    yield "heartbeat_after_full_state", alive("a full state needs none before it", ok, (full, last, chain[3]), chain[3])
    days_us = 30 * 24 * HOUR_US
    late = encode(heartbeat(10**9, NOW_US + days_us))
    yield "heartbeat_after_a_month", ok(
        "time is granted to who was away", value=late, payload_type=HEARTBEAT, now_us=NOW_US + days_us,
        before=((encode(heartbeat(1)), header(encode(heartbeat(1)), [ISSUER], HEARTBEAT)),), before_us=NOW_US,
    )  # fmt: skip


def forged_cases() -> Iterator[tuple[str, Case]]:
    """Signatures and headers."""
    value = encode(command())
    good = header(value, [ISSUER])
    sig = json.loads(good)["signatures"][0]

    def headers(*items: dict[str, Any], kind: str = COMMAND) -> tuple[bytes]:
        return (encode({"payloadType": kind, "signatures": list(items)}),)

    flipped = bytearray(value)
    flipped[40] ^= 1
    yield "forged", fail("BAD_SIGNATURE", "one bit of the value differs", value=bytes(flipped), headers=(good,))
    yield (
        "signature_flipped",
        fail("BAD_SIGNATURE", "one bit of the signature differs", headers=headers(sig | {"sig": flip(sig["sig"])})),
    )
    yield "signature_cut", fail("BAD_SIGNATURE", "63 bytes", headers=headers(sig | {"sig": cut(sig["sig"])}))
    yield "signature_empty", fail("BAD_SIGNATURE", "no bytes at all", headers=headers(sig | {"sig": ""}))
    yield (
        "signature_alg_none",
        fail("BAD_SIGNATURE", "a message cannot choose", headers=headers(sig | {"alg": "none", "sig": ""})),
    )
    yield (
        "signature_sloppy_base64",
        fail("HEADER_MALFORMED", "unused bits set", headers=headers(sig | {"sig": sig["sig"][:-3] + "h=="})),
    )
    yield "value_cut", fail("BAD_SIGNATURE", "the value is cut", value=value[:-9], headers=(good,))
    yield (
        "value_spaced",
        fail("BAD_SIGNATURE", "re-serialised on the way", value=value.replace(b":", b": ", 1), headers=(good,)),
    )
    yield "unknown_key", fail("KEY_UNKNOWN", "signed by a stranger", signers=(Holder("mallory"),))
    yield (
        "keyid_of_another",
        fail("BAD_SIGNATURE", "the key id is only a hint", headers=headers(sig | {"keyid": STANDBY.kid})),
    )
    yield "keyid_missing", fail("KEY_UNKNOWN", "no key id", headers=headers({"sig": sig["sig"]}))
    yield (
        "type_confused",
        fail(
            "BAD_SIGNATURE",
            "signed as a heartbeat",
            headers=(header(value, [ISSUER], HEARTBEAT).replace(b"heartbeat", b"command"),),
        ),
    )
    yield "type_unknown", fail("TYPE_NOT_ALLOWED", "signed as something else", payload_type="application/json")
    yield "header_missing", fail("HEADER_MISSING", "the signature was stripped", headers=())
    yield "header_twice", fail("HEADER_NOT_UNIQUE", "two readers could take different ones", headers=(good, good))
    yield "header_not_json", fail("HEADER_MALFORMED", "not JSON", headers=(b"dsse",))
    yield (
        "header_duplicate_name",
        fail("HEADER_MALFORMED", "a name twice", headers=(good.replace(b"{", b'{"payloadType":"x",', 1),)),
    )
    yield "header_no_signatures", fail("HEADER_MALFORMED", "an empty list", headers=headers())
    yield "header_17_signatures", fail("HEADER_MALFORMED", "too many to check", headers=headers(*[sig] * 17))
    yield "header_oversize", fail("HEADER_TOO_LARGE", "beyond 16 KiB", headers=(good + b" " * 16_384,))
    yield "value_oversize", fail("VALUE_TOO_LARGE", "beyond 4 KiB", value=text(reason={"text": "x" * 5000}))
    yield (
        "key_revoked",
        fail(
            "KEY_REVOKED",
            "the key was stolen",
            keyset=keys(ISSUER, status="revoked", revoked_after=[{"origin": "o", "size": 9}]),
        ),
    )
    yield (
        "key_expired",
        fail("KEY_OUT_OF_WINDOW", "the key's time is over", keyset=keys(ISSUER, exp_us=NOW_US - HOUR_US)),
    )
    yield (
        "key_not_yet",
        fail("KEY_OUT_OF_WINDOW", "the key's time has not come", keyset=keys(ISSUER, nbf_us=NOW_US + HOUR_US)),
    )
    yield "key_for_other_type", fail("ROLE_DOES_NOT_COVER", "signs snapshots only", keyset=keys(ISSUER, types=[STATE]))
    yield (
        "key_for_other_target",
        fail("ROLE_DOES_NOT_COVER", "not for this desk", keyset=keys(ISSUER, targets=["desk:us-*"])),
    )
    yield (
        "key_for_other_issuer",
        fail("ROLE_DOES_NOT_COVER", "speaks for another", keyset=keys(ISSUER, issuers=["risk/asia"])),
    )
    yield "halt_by_people", fail("ROLE_DOES_NOT_COVER", "a maker is no issuer", signers=tuple(PEOPLE))


def meaning_cases() -> Iterator[tuple[str, Case]]:
    """What was signed, but must not be obeyed."""
    yield (
        "json_duplicate_name",
        fail(
            "DUPLICATE_NAME", "the last of two wins somewhere", value=raw('"env":"prod"', '"env":"test","env":"prod"')
        ),
    )
    yield (
        "json_duplicate_name_escaped",
        fail("DUPLICATE_NAME", "the same name, escaped", value=raw('"action":{}', '"action":{"a":1,"\\u0061":2}')),
    )
    for name, after in (
        ("float", '{"a":1.5}'), ("exponent", '{"a":1e400}'), ("big_integer", '{"a":9007199254740993}'),
        ("nan", '{"a":NaN}'),
        ("lone_surrogate", '{"a":"\\ud800"}'), ("control", '{"a":"\x1b[31m"}'),
        ("deep", '{"a":' + "[" * 40 + "]" * 40 + "}"),
        ("invalid_utf8", '{"a":"\udcff"}'), ("comment", "{/**/}"), ("not_object", "[]"),
    ):  # fmt: skip
        yield (
            f"json_{name}",
            fail("PAYLOAD_MALFORMED", f"{name} in a signed document", value=raw('"action":{}', f'"action":{after}')),
        )
    yield "json_bom", fail("PAYLOAD_MALFORMED", "a byte order mark", value=b"\xef\xbb\xbf" + encode(command()))
    yield "json_trailing", fail("PAYLOAD_MALFORMED", "something after the end", value=encode(command()) + b"{}")
    yield "field_unknown", fail("PAYLOAD_MALFORMED", "a field that some obey", value=text(force=True))
    yield "field_missing", fail("PAYLOAD_MALFORMED", "no expiry", value=raw(f'"exp_us":{NOW_US + 60 * SECOND_US},', ""))
    yield "field_of_other_type", fail("PAYLOAD_MALFORMED", "epoch as text", value=text(epoch="1"))
    yield "kind_unknown", fail("PAYLOAD_MALFORMED", "no such command", value=text(kind="SELL_EVERYTHING"))
    yield "version_unknown", fail("PAYLOAD_MALFORMED", "version 2", value=text(v=2))
    yield "epoch_zero", fail("PAYLOAD_MALFORMED", "epochs begin at 1", value=text(epoch=0))
    yield "unicode_lookalike", fail("PAYLOAD_MALFORMED", "a Cyrillic letter", value=text(target="desk:еq-eu"))
    yield "unicode_separator", fail("PAYLOAD_MALFORMED", "a line separator in an id", value=text(id="a\u2028b"))
    yield "newline_in_issuer", fail("PAYLOAD_MALFORMED", "log injection", value=text(iss="risk/prod\nINFO ok"))
    yield "wrong_environment", fail("WRONG_ENVIRONMENT", "a test command in production", value=text(env="test"))
    yield (
        "keyset_of_other_environment",
        fail("WRONG_ENVIRONMENT", "a dev key", keyset=keys(rest={"environment": "dev"})),
    )
    yield "wrong_audience", fail("WRONG_AUDIENCE", "for somebody else", value=text(aud=["treasury"]))
    yield "wrong_issuer", fail("WRONG_AUDIENCE", "an issuer that we do not obey", value=text(iss="risk/asia"))
    yield "wrong_target", fail("WRONG_TARGET", "a target that we do not serve", value=text(target="venue:x"))
    yield "expired", fail("EXPIRED", "an hour late", now_us=NOW_US + HOUR_US)
    yield (
        "not_yet_valid",
        fail("NOT_YET_VALID", "in an hour", value=text(nbf_us=NOW_US + HOUR_US, exp_us=NOW_US + 2 * HOUR_US)),
    )
    yield (
        "issued_in_the_future",
        fail("ISSUED_IN_THE_FUTURE", "a clock an hour ahead", value=text(iat_us=NOW_US + HOUR_US)),
    )


def order_cases() -> Iterator[tuple[str, Case]]:
    """Replay, order and authority."""
    reinstate, people, halted = text(kind="REINSTATE", seq=2), tuple(PEOPLE), (signed(),)

    def loose(reason: str, why: str, signers: tuple[Holder, ...], **changes: Any) -> Case:
        return fail(reason, why, **{"value": reinstate, "before": halted, **changes}, signers=signers)

    yield (
        "stale_epoch",
        fail("STALE_EPOCH", "a paused producer wakes up", value=text(seq=2), before=(signed(epoch=2, seq=3),)),
    )
    yield (
        "epoch_below_floor",
        fail("STALE_EPOCH", "the root owners raised the floor", keyset=keys(rest={"epoch_floor": {"risk/prod": 2}})),
    )
    healed = encode(
        state(1, {"target": {"scope": "desk", "id": "eq-eu"}, "epoch": 1, "seq": 9, "id": "h9", "in_force": []})
    )
    yield (
        "stale_seq",
        fail("STALE_SEQ", "older than the state snapshot", before=((healed, header(healed, [ISSUER], STATE)),)),
    )
    yield "equivocation", fail("EQUIVOCATION", "two commands at one place", value=text(id="other"), before=halted)
    fork = (*halted, signed(kind="CANCEL_ORDERS", seq=2))
    yield (
        "equivocation_fork",
        fail("EQUIVOCATION", "two successors of one", value=text(seq=3, prev_id=command()["id"]), before=fork),
    )
    yield (
        "equivocation_id_reused",
        fail("EQUIVOCATION", "one id at two places", value=text(seq=2, id=command()["id"]), before=halted),
    )
    yield (
        "fast_forward_epoch",
        fail("JUMP_TOO_FAR", "uses all epochs up", value=text(epoch=2**53 - 1, seq=2), before=halted),
    )
    yield "fast_forward_seq", fail("JUMP_TOO_FAR", "uses all numbers up", value=text(seq=2**53 - 1), before=halted)
    yield "state_replayed", fail(
        "STALE_SEQ", "an older snapshot", value=encode(state(1)), payload_type=STATE,
        before=((encode(state(2)), header(encode(state(2)), [ISSUER], STATE)),),
    )  # fmt: skip
    yield (
        "heartbeat_expired",
        fail(
            "EXPIRED",
            "recorded and played later",
            value=encode(heartbeat(1)),
            payload_type=HEARTBEAT,
            now_us=NOW_US + HOUR_US,
        ),
    )
    counted = {"target": {"scope": "desk", "id": "eq-eu"}, "epoch": 1, "seq": 9, "id": "h9", "in_force": []}
    ahead = [{"epoch": 1, "seq": 2**52, "id": "h10", "type": "SUSPEND", "action": {}}]
    for name, reason, why, changes in (
        ("jump_epoch", "JUMP_TOO_FAR", "uses all epochs up", {"epoch": 2**52}),
        ("jump_seq", "JUMP_TOO_FAR", "more than a command per millisecond since 1970", {"seq": 2**52}),
        ("jump_in_force", "JUMP_TOO_FAR", "what is in force counts too", {"in_force": ahead}),
        ("epoch_zero", "PAYLOAD_MALFORMED", "epochs begin at 1", {"epoch": 0}),
        ("seq_negative", "PAYLOAD_MALFORMED", "numbers begin at 0", {"seq": -1}),
        ("identifier", "PAYLOAD_MALFORMED", "a line break in an id", {"id": "h9\n"}),
    ):  # fmt: skip
        value = encode(state(1, counted | changes))
        yield f"state_{name}", fail(reason, why, value=value, payload_type=STATE)
    full, _, last, _ = states()
    lost = "a state was held back, and the one after it was not"
    yield "heartbeat_missing_state", alive(lost, partial(fail, "STATE_MISSING"), (full, last), last)
    value = encode(heartbeat(2**53 - 1))
    yield "heartbeat_jump", fail("JUMP_TOO_FAR", "uses all numbers up", value=value, payload_type=HEARTBEAT)
    yield "reinstate_by_issuer", loose("ROLE_DOES_NOT_COVER", "an automated key never loosens", (ISSUER,))
    yield "reinstate_by_one", loose("THRESHOLD_NOT_MET", "a maker alone", (MAKER,))
    yield "reinstate_by_one_twice", loose("THRESHOLD_NOT_MET", "one signature, listed twice", (MAKER, MAKER))
    yield (
        "reinstate_by_one_owner",
        loose("THRESHOLD_NOT_MET", "maker and checker are one person", (MAKER, CHECKER_OF_MAKER)),
    )
    yield "reinstate_two_checkers", loose("THRESHOLD_NOT_MET", "nobody made it", (CHECKER, CHECKER_OF_MAKER))
    yield (
        "reinstate_expired_keyset",
        loose("KEY_SET_EXPIRED", "what loosens needs current keys", people, keyset=keys(rest={"exp_us": NOW_US - 1})),
    )
    yield (
        "reinstate_clock_behind",
        loose(
            "NOT_YET_VALID",
            "what loosens tolerates no skew",
            people,
            value=text(kind="REINSTATE", seq=2, nbf_us=NOW_US + 2 * SECOND_US),
        ),
    )
    yield (
        "limit_loosened_by_issuer",
        loose(
            "ROLE_DOES_NOT_COVER",
            "loosening takes people",
            (ISSUER,),
            value=text(kind="SET_LIMIT", action={"direction": "loosen"}),
        ),
    )
    yield (
        "limit_direction_missing",
        loose("ROLE_DOES_NOT_COVER", "not said to tighten", (ISSUER,), value=text(kind="SET_LIMIT")),
    )


def rotation_cases() -> Iterator[tuple[str, Case]]:
    """The next key set."""
    base = encode(keyset_document(epoch_floor={"risk/prod": 2}))
    following = keyset_document(version=2, prev_sha256=KeySet.parse(base).sha256, epoch_floor={"risk/prod": 2})
    small = {"x": encode_base64url(bytes(32))}
    listed = entries()
    weak = listed[0] | small | {"kid": thumbprint(listed[0] | small)}
    newcomers = [Holder(f"new root {index}").entry("root", types=()) for index in range(2)]
    twin = Holder("second root key of ada", "ada")
    refused = "ROTATION_REFUSED"

    def turn(case: Case, signers: tuple[Holder, ...] = tuple(ROOTS[:2]), keyset: bytes = base, **changes: Any) -> Case:
        return replace(
            case, value=encode(following | changes), signers=signers, keyset=keyset, payload_type=KEY_SET_TYPE
        )

    yield "keyset_next", turn(ok("two of three root owners"))
    yield "keyset_skips_version", turn(fail(refused, "version 3 after 1"), version=3)
    yield "keyset_rolled_back", turn(fail(refused, "the version that is there"), version=1)
    yield "keyset_wrong_predecessor", turn(fail(refused, "follows another history"), prev_sha256="0" * 64)
    yield "keyset_one_owner", turn(fail(refused, "one of two"), (ROOTS[0],))
    yield "keyset_one_owner_twice", turn(fail(refused, "one owner listed twice"), (ROOTS[0], ROOTS[0]))
    with_twin = encode(keyset_document(keys=[*listed, twin.entry("root", types=())], epoch_floor={"risk/prod": 2}))
    follows_twin = KeySet.parse(with_twin).sha256
    yield (
        "keyset_one_owner_two_keys",
        turn(fail(refused, "owners count, not keys"), (ROOTS[0], twin), with_twin, prev_sha256=follows_twin),
    )
    yield "keyset_by_issuer", turn(fail(refused, "an issuer is no root"), (ISSUER, STANDBY))
    yield "keyset_takeover", turn(fail(refused, "the new owners did not sign"), keys=[*listed[:5], *newcomers])
    yield "keyset_other_environment", turn(fail(refused, "becomes dev"), environment="dev")
    yield "keyset_floor_lowered", turn(fail(refused, "lets old commands in again"), epoch_floor={"risk/prod": 1})
    yield "keyset_small_order_key", turn(fail(refused, "a key for which anything verifies"), keys=[weak, *listed[1:]])
    yield "keyset_key_twice", turn(fail(refused, "one key, two entries"), keys=[listed[0], *listed])
    yield (
        "keyset_wrong_kid",
        turn(
            fail(refused, "a name that is not its thumbprint"),
            keys=[listed[0] | {"kid": listed[1]["kid"]}, *listed[2:]],
        ),
    )


def flip(encoded: str) -> str:
    """Base64 of the same bytes with one bit changed."""
    data = bytearray(base64.b64decode(encoded))
    data[10] ^= 1
    return base64.b64encode(data).decode()


def cut(encoded: str) -> str:
    """Base64 of all bytes but the last."""
    return base64.b64encode(base64.b64decode(encoded)[:-1]).decode()


def cases() -> dict[str, Case]:
    """All cases by folder name."""
    parts = (good_cases, forged_cases, meaning_cases, order_cases, rotation_cases)
    found = [(name + ("_fail" if case.outcome == "refused" else ""), case) for part in parts for name, case in part()]
    assert len(dict(found)) == len(found)
    return dict(found)


def main(folder: Path) -> None:
    """Write every case."""
    for name, case in cases().items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file, content in case.files().items():
            (folder / name / file).write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
