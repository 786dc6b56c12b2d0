"""Key sets: which keys are admitted, and who can change them."""

import base64
import contextlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from seawall.schemas.evidence import (
    KeySet,
    Malformed,
    _documents,
    _envelopes,
    _key_sets,
    encode_base64url,
    pae,
    thumbprint,
)
from seawall.schemas.evidence._envelopes import DuplicateName
from seawall.schemas.evidence._key_sets import RotationError
from seawall_testing import signing
from seawall_testing.reference_data import read_vectors
from seawall_testing.signing import ISSUER, ROOTS, Holder, encode, keyset_document

# RFC 7638 §3.1 (RSA) and RFC 8037 appendix A.3 (Ed25519).
RFC_7638_N = (
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
    "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5ha"
    "jrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
)
# DSSE protocol.md, test vectors: P-256 with SHA-256.
DSSE_X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
DSSE_Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
DSSE_SIG = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="


def test_thumbprints_are_those_of_the_rfcs():
    assert thumbprint({"kty": "RSA", "n": RFC_7638_N, "e": "AQAB"}) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    okp = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert thumbprint(okp) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_published_thumbprint_vectors_hold():
    published = read_vectors("rfc7638_thumbprint.json")
    assert thumbprint(published["jwk"]) == published["expected_sha256_b64url"]
    published = read_vectors("rfc8037_jws_ed25519.json")
    public = {name: published["private_jwk"][name] for name in ("kty", "crv", "x")}
    assert thumbprint(public) == published["thumbprint_sha256_b64url"]
    signing_input, _, signature = published["jws"].rpartition(".")
    raw = _key_sets.decode_base64url(public["x"])
    assert _key_sets.verify_signature("Ed25519", raw, signing_input.encode(), _key_sets.decode_base64url(signature))


def test_the_dsse_vector_verifies_as_es256():
    message = pae("http://example.com/HelloWorld", b"hello world")
    assert message == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    public = DSSE_X.to_bytes(32, "big") + DSSE_Y.to_bytes(32, "big")
    assert _key_sets.verify_signature("ES256", public, message, base64.b64decode(DSSE_SIG))
    assert not _key_sets.verify_signature("ES256", public, message + b".", base64.b64decode(DSSE_SIG))


def test_the_published_dsse_envelope_opens():
    published = read_vectors("dsse_protocol.json")
    header, payload = _envelopes.parse_envelope(json.dumps(published["envelope"]).encode())
    assert payload.decode() == published["payload"]
    public = int(published["X"]).to_bytes(32, "big") + int(published["Y"]).to_bytes(32, "big")
    assert _key_sets.verify_signature("ES256", public, pae(header.payload_type, payload), header.signatures[0].sig)
    assert Holder("x", alg="ES256").kid == Holder("x", alg="ES256").kid


def test_wycheproof_es256_signatures_are_judged_as_published():
    for group in read_vectors("wycheproof/ecdsa_secp256r1_sha256_p1363_test.json")["testGroups"]:
        point = bytes.fromhex(group["publicKey"]["uncompressed"])
        for case in group["tests"]:
            good = _key_sets.verify_signature(
                "ES256", point[1:], bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
            )
            assert good == (case["result"] == "valid"), (case["tcId"], case["comment"])


def test_wycheproof_ed25519_signatures_are_judged_as_published():
    for group in read_vectors("wycheproof/ed25519_test.json")["testGroups"]:
        public = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            good = _key_sets.verify_signature("Ed25519", public, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            assert good == (case["result"] == "valid"), (case["tcId"], case["comment"])


def test_small_order_keys_are_not_admitted_though_libraries_take_them():
    for case in read_vectors("ed25519_speccheck_cases.json")[:2]:
        assert _key_sets.verify_signature(
            "Ed25519", *(bytes.fromhex(case[name]) for name in ("pub_key", "message", "signature"))
        )
        with pytest.raises(Malformed, match="small order"):
            KeySet.parse(encode(with_key(x=encode_base64url(bytes.fromhex(case["pub_key"])))))


@pytest.mark.parametrize(
    "point",
    [
        "01" + "00" * 31,
        "00" * 32,
        "ec" + "ff" * 30 + "7f",
        "00" * 31 + "80",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ],
)
def test_every_spelling_of_a_small_order_point_is_refused(point):
    with pytest.raises(Malformed, match="small order"):
        KeySet.parse(encode(with_key(x=encode_base64url(bytes.fromhex(point)))))


def with_key(**changes) -> dict:
    """A key set whose first key is changed, its kid following the change unless given."""
    first, *rest = signing.entries()
    changed = first | changes
    if "kid" not in changes:
        changed["kid"] = thumbprint(changed)
    return keyset_document(keys=[changed, *rest])


def test_the_usual_key_set_is_read_and_its_hash_is_that_of_its_bytes():
    value = encode(keyset_document())
    keys = KeySet.parse(value)
    assert isinstance(keys, KeySet)
    assert keys.by_kid[ISSUER.kid].covers("issuer", _documents.COMMAND)
    assert [key["kid"] for key in keys.jwks()["keys"]] == [entry["kid"] for entry in signing.entries()]
    assert set(keys.jwks()["keys"][0]) == {"kty", "crv", "x", "alg", "use", "kid"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (with_key(alg="ES256"), "not the algorithm"),
        (with_key(kid="kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"), "thumbprint"),
        (with_key(x="AAAA"), "bytes"),
        (with_key(x="!!!"), "base64url"),
        (with_key(status="revoked"), "revoked_after"),
        (with_key(revoked_after=[{"origin": "o", "size": 3}]), "revoked_after"),
        (with_key(roles=["king"]), "not a key set"),
        (with_key(secret="d"), "not a key set"),
        (with_key(use="enc"), "not a key set"),
        (keyset_document(keys=[*signing.entries(), signing.entries()[0]]), "twice"),
        (keyset_document(thresholds={"root": 4}), "threshold"),
        (keyset_document(thresholds={"root": 0}), "not a key set"),
        (keyset_document(version=0), "not a key set"),
        (keyset_document(environment="production"), "not a key set"),
        (keyset_document(extra=1), "not a key set"),
    ],
)
def test_a_wrong_key_set_is_refused(document, message):
    with pytest.raises(Malformed, match=message):
        KeySet.parse(encode(document))


def test_a_point_off_the_curve_is_refused():
    standby = signing.STANDBY.entry("issuer", y=encode_base64url(bytes(32)))
    standby["kid"] = thumbprint(standby)
    with pytest.raises(Malformed, match="P-256"):
        KeySet.parse(encode(keyset_document(keys=[standby, *signing.entries()[2:]])))


# --- strict parsing ---


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b'{"a":1}x',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1.5}',
        b'{"a":1e3}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":"\\ud800"}',
        b'{"\\udc00":1}',
        b'{"a":"\xff"}',
        b"{'a':1}",
        b'{"a":01}',
        b'{"a":"\n"}',
        b'{"a":1,}',
        b"{" + b'"a":{' * 5000,
        b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"a":+1}',
        b'{"a":' + b"9" * 5000 + b"}",
        b"\x00",
        b'{"a":/*x*/1}',
    ],
)
def test_what_parsers_could_read_differently_is_refused(text):
    with pytest.raises(Malformed):
        _envelopes.parse_strict(text)


@pytest.mark.parametrize("text", [b'{"a":1,"a":1}', b'{"b":{"a":1,"\\u0061":2}}', b'{"b":[{"a":1,"a":2}]}'])
def test_a_name_that_stands_twice_is_refused_however_it_is_spelled(text):
    with pytest.raises(DuplicateName):
        _envelopes.parse_strict(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    )
)
def test_any_honest_document_is_read_as_it_is(inner):
    try:
        text = json.dumps({"a": inner}).encode()
        expected = json.loads(text)
    except UnicodeEncodeError:
        return
    if "\\ud" not in text.decode() or json.dumps(expected, ensure_ascii=False).isprintable():
        assert _envelopes.parse_strict(text) == expected


@given(st.binary(max_size=200))
def test_no_bytes_make_the_header_parser_fail_otherwise(data):
    with contextlib.suppress(Malformed):
        _envelopes.parse_header(data)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b'{"payloadType":"t","signatures":[]}',
        b'{"payloadType":"t","signatures":{}}',
        b'{"signatures":[{"sig":"AA=="}]}',
        b'{"payloadType":"t","signatures":[{"keyid":"k"}]}',
        b'{"payloadType":"t","signatures":[{"keyid":1,"sig":"AA=="}]}',
        b'{"payloadType":"t","signatures":[{"sig":"AB=="}]}',
        b'{"payloadType":"t","signatures":[{"sig":"AA"}]}',
        b'{"payloadType":"t","signatures":[{"sig":"A A="}]}',
        b'{"payloadType":"t","signatures":[' + b",".join([b'{"sig":"AA=="}'] * 17) + b"]}",
    ],
)
def test_a_malformed_header_is_refused(text):
    with pytest.raises(Malformed):
        _envelopes.parse_header(text)


def test_a_header_takes_both_alphabets_and_ignores_unknown_fields():
    text = b'{"payloadType":"t","signatures":[{"sig":"-_-_","alg":"none"},{"sig":"+/+/"}],"x":null}'
    assert [s.sig for s in _envelopes.parse_header(text).signatures] == [b"\xfb\xff\xbf"] * 2


# --- rotation ---


def first() -> KeySet:
    value = encode(keyset_document())
    return _key_sets.KeySet.open_pinned(signing.envelope(value, ROOTS[:2]), KeySet.parse(value).sha256)


def next_document(current: KeySet, **changes) -> dict:
    return keyset_document(version=current.version + 1, prev_sha256=current.sha256) | changes


def test_a_rotation_by_enough_old_and_new_owners_is_taken():
    current = first()
    newcomer = Holder("root dana", "dana")
    keys = [*signing.entries()[:-1], newcomer.entry("root", types=())]
    value = encode(next_document(current, keys=keys))
    assert current.rotate(signing.envelope(value, ROOTS[:2])).version == 2
    both = current.rotate(signing.envelope(value, [ROOTS[0], ROOTS[2], ROOTS[1], newcomer]))
    assert newcomer.kid in both.by_kid


@pytest.mark.parametrize(
    ("changes", "signers", "message"),
    [
        ({}, ROOTS[:1], "1 of 2 owners of the present"),
        ({}, [ROOTS[0], ROOTS[0]], "1 of 2 owners of the present"),
        ({}, [ISSUER, signing.MAKER], "0 of 2 owners of the present"),
        ({"version": 3}, ROOTS, "does not follow"),
        ({"version": 1}, ROOTS, "does not follow"),
        ({"prev_sha256": "0" * 64}, ROOTS, "predecessor"),
        ({"prev_sha256": None}, ROOTS, "predecessor"),
        ({"environment": "test"}, ROOTS, "environment"),
        ({"thresholds": {"root": 3, "permissive": 2}}, ROOTS[:2], "2 of 3 owners of its own"),
        (
            {"keys": [*signing.entries()[:5], *(Holder(f"new {i}").entry("root", types=()) for i in range(2))]},
            ROOTS,
            "0 of 2 owners of its own",
        ),
    ],
)
def test_a_rotation_that_breaks_a_rule_is_refused(changes, signers, message):
    current = first()
    value = encode(next_document(current, **changes))
    with pytest.raises(RotationError, match=message):
        current.rotate(signing.envelope(value, signers))


def test_two_root_keys_of_one_owner_count_once():
    twin = Holder("another root key", "ada")
    document = keyset_document(keys=[*signing.entries(), twin.entry("root", types=())])
    value = encode(document)
    with pytest.raises(RotationError, match="1 of 2 owners"):
        _key_sets.KeySet.open_pinned(signing.envelope(value, [ROOTS[0], twin]), KeySet.parse(value).sha256)


def test_the_first_key_set_is_the_pinned_one():
    value = encode(keyset_document())
    with pytest.raises(RotationError, match="pinned"):
        _key_sets.KeySet.open_pinned(signing.envelope(value, ROOTS), "0" * 64)


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"{}",
        signing.envelope(encode(keyset_document()), ROOTS, _documents.COMMAND),
        b'{"payload":1}',
        bytes(2 << 20),
    ],
)
def test_what_is_no_key_set_envelope_is_refused(envelope):
    with pytest.raises(RotationError):
        first().rotate(envelope)


def test_floors_only_rise_except_by_a_reset():
    current = first()
    value = encode(next_document(current, epoch_floor={"risk/prod": 43}))
    raised = current.rotate(signing.envelope(value, ROOTS))
    assert raised.epoch_floor("risk/prod") == 43
    lowered = signing.envelope(encode(next_document(raised, epoch_floor={"risk/prod": 42})), ROOTS)
    with pytest.raises(RotationError, match="epoch floor"):
        raised.rotate(lowered)
    value = encode(next_document(raised, epoch_floor={"risk/prod": 2}, reset_seq={"risk/prod": 1}))
    reset = raised.rotate(signing.envelope(value, ROOTS))
    assert reset.epoch_floor("risk/prod") == 2
    with pytest.raises(RotationError, match="reset counter"):
        reset.rotate(signing.envelope(encode(next_document(reset)), ROOTS))


def test_es256_signs_here_as_it_verifies():
    holder = Holder("p256", alg="ES256")
    assert isinstance(holder.private, ec.EllipticCurvePrivateKey)
    entry = KeySet.parse(encode(with_key(**holder.jwk(), alg="ES256"))).by_kid[holder.kid]
    assert entry.verifies(b"m", holder.sign(b"m"))
    assert not entry.verifies(b"m", holder.sign(b"m")[:-1])
