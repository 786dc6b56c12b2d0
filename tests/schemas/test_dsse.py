"""DSSE envelopes: verification returns exactly the bytes that were signed, by a key that was asked for, or raises."""

import base64
import itertools
from collections.abc import Callable

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from seawall.schemas.errors import VerificationError
from seawall.schemas.evidence import _envelopes

# RFC 8032 §7.1: secret key, public key, message, signature of TEST 1, TEST 2, TEST 3 and TEST SHA(abc).
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd"
        "454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
        "3dca179c138ac17ad9bef1177331a704",
    ),
]
VALUE = b'{"id":"1","type":"HALT_TRADING","target":"account:C-7"}'


class SeedSigner:
    """A signer whose key is given by its 32 secret bytes."""

    alg = "Ed25519"

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        raw = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self._jwk = _envelopes.public_jwk(raw)
        self.keyid = self._jwk["kid"]

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def public_jwk(self) -> dict[str, str]:
        return dict(self._jwk)


ANN, BEN, EVE = (SeedSigner(bytes.fromhex(vector[0])) for vector in RFC_8032[:3])


def keys_of(*signers: SeedSigner) -> dict[str, Ed25519PublicKey]:
    return _envelopes.public_keys({"keys": [signer.public_jwk() for signer in signers]})


def envelope(*signers: SeedSigner, value: bytes = VALUE, kind: str = _envelopes.COMMAND_TYPE) -> str:
    entries = [orjson.loads(_envelopes.sign_payload(signer, kind, value))["signatures"][0] for signer in signers]
    return orjson.dumps({"payloadType": kind, "signatures": entries}).decode()


def refused(value: bytes, text: str, keys: dict[str, Ed25519PublicKey], **options: int) -> bool:
    try:
        _envelopes.verify_envelope(value, text, keys, _envelopes.COMMAND_TYPE, **options)
    except VerificationError:
        return True
    return False


# --- published vectors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032, ids=["1", "2", "3", "SHA(abc)"])
def test_signatures_are_those_of_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    signer = SeedSigner(bytes.fromhex(seed))
    assert signer.public_jwk()["x"] == _envelopes.encode_base64url(bytes.fromhex(public))
    assert signer.sign(bytes.fromhex(message)).hex() == signature


def test_the_encoding_is_that_of_the_dsse_protocol() -> None:
    # secure-systems-lab/dsse, protocol.md v1.0.2, section "Test Vectors".
    assert _envelopes.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_lengths_in_the_encoding_count_bytes() -> None:
    assert _envelopes.pae("ü", "€".encode()) == "DSSEv1 2 ü 3 €".encode()
    assert _envelopes.pae("", b"") == b"DSSEv1 0  0 "


def test_no_two_typed_bodies_share_an_encoding() -> None:
    words = ["", " ", "1", "a", "a 1", " 1 a", "1 a 1"]
    encodings = {_envelopes.pae(kind, body.encode()) for kind, body in itertools.product(words, words)}
    assert len(encodings) == len(words) ** 2


def test_a_thumbprint_is_that_of_rfc_8037() -> None:
    # RFC 8037 appendix A.2 and A.3.
    jwk = _envelopes.public_jwk(bytes.fromhex(RFC_8032[0][1]))
    assert jwk["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert jwk["kid"] == _envelopes.thumbprint(jwk) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_thumbprint_is_that_of_rfc_7638() -> None:
    # RFC 7638 §3.1: optional members have no part in it.
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3okn"
        "jhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qM"
        "QvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJz"
        "KnqDKgw"
    )
    jwk = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert _envelopes.thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


# --- what is accepted -----------------------------------------------------------------------------------------------


def test_a_good_envelope_returns_the_very_bytes_that_were_signed() -> None:
    assert _envelopes.verify_envelope(VALUE, envelope(ANN), keys_of(ANN, BEN), _envelopes.COMMAND_TYPE) is VALUE


def test_the_envelope_of_a_value_never_changes_its_bytes() -> None:
    assert _envelopes.sign_payload(ANN, _envelopes.COMMAND_TYPE, VALUE) == (
        '{"payloadType":"application/vnd.seawall.command.v1+json","signatures":[{"keyid":"'
        'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","sig":"'
        + base64.b64encode(ANN.sign(b"DSSEv1 39 application/vnd.seawall.command.v1+json 55 " + VALUE)).decode()
        + '"}]}'
    )


def test_url_safe_base64_and_unknown_members_are_accepted() -> None:
    content = orjson.loads(envelope(ANN))
    content["later"] = {"a": 1}
    content["signatures"][0]["extension"] = None
    content["signatures"][0]["sig"] = content["signatures"][0]["sig"].replace("+", "-").replace("/", "_")
    assert not refused(VALUE, orjson.dumps(content).decode(), keys_of(ANN))


def test_a_signature_by_a_stranger_neither_helps_nor_hurts() -> None:
    assert not refused(VALUE, envelope(EVE, ANN), keys_of(ANN))
    assert refused(VALUE, envelope(EVE, ANN), keys_of(ANN, BEN), threshold=2)


def test_a_threshold_counts_distinct_keys() -> None:
    keys = keys_of(ANN, BEN)
    assert not refused(VALUE, envelope(ANN, BEN), keys, threshold=2)
    assert not refused(VALUE, envelope(BEN, ANN), keys, threshold=2)
    assert refused(VALUE, envelope(ANN), keys, threshold=2)
    assert refused(VALUE, envelope(ANN, ANN), keys, threshold=2)
    assert refused(VALUE, envelope(ANN, BEN), keys, threshold=3)


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_change_of_any_bit_of_the_value_is_refused() -> None:
    text, keys = envelope(ANN), keys_of(ANN)
    for at, bit in itertools.product(range(len(VALUE)), range(8)):
        changed = bytearray(VALUE)
        changed[at] ^= 1 << bit
        assert refused(bytes(changed), text, keys), (at, bit)


def test_a_change_of_any_bit_of_the_envelope_is_refused() -> None:
    raw, keys = envelope(ANN).encode(), keys_of(ANN)
    for at, bit in itertools.product(range(len(raw)), range(7)):
        changed = bytearray(raw)
        changed[at] ^= 1 << bit
        assert refused(VALUE, changed.decode(), keys), (at, bit)


def test_a_value_cut_short_or_grown_is_refused() -> None:
    text, keys = envelope(ANN), keys_of(ANN)
    for changed in (b"", VALUE[:-1], VALUE[1:], VALUE + b"\n", b" " + VALUE, VALUE + VALUE):
        assert refused(changed, text, keys)


def test_a_signature_for_another_type_is_refused_even_when_relabelled() -> None:
    other = envelope(ANN, kind="application/vnd.seawall.audit.v1+json")
    assert refused(VALUE, other, keys_of(ANN))
    assert refused(VALUE, other.replace("audit", "command"), keys_of(ANN))


def test_a_key_id_cannot_make_another_key_count() -> None:
    text = envelope(EVE).replace(EVE.keyid, ANN.keyid)
    assert refused(VALUE, text, keys_of(ANN))
    twice = envelope(ANN, ANN).replace(ANN.keyid, BEN.keyid, 1)
    assert refused(VALUE, twice, keys_of(ANN, BEN), threshold=2)


def test_no_known_key_at_all_is_refused() -> None:
    assert refused(VALUE, envelope(EVE), keys_of(ANN))
    assert refused(VALUE, envelope(ANN), {})


def _without(member: str) -> str:
    content = orjson.loads(envelope(ANN))
    (content if member in content else content["signatures"][0]).pop(member)
    return orjson.dumps(content).decode()


def _with_signature(change: Callable[[str], object]) -> str:
    content = orjson.loads(envelope(ANN))
    content["signatures"][0]["sig"] = change(content["signatures"][0]["sig"])
    return orjson.dumps(content).decode()


def _stray_bits(text: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return text[:-3] + alphabet[alphabet.index(text[-3]) + 1] + "=="


def _with_signatures(signatures: object) -> str:
    return orjson.dumps({"payloadType": _envelopes.COMMAND_TYPE, "signatures": signatures}).decode()


MALFORMED = [
    envelope(ANN)[:-1] + ',"signatures":[]}',  # of two of one name parsers take either
    '{"payloadType":"text/plain",' + envelope(ANN)[1:],
    envelope(ANN)[:-1] + ',"x":1.5}',
    envelope(ANN)[:-1] + ',"x":' + "[" * 40 + "]" * 40 + "}",
    _with_signatures([{"keyid": 5, "sig": "AA=="}, *orjson.loads(envelope(ANN))["signatures"]]),
    "",
    "null",
    "[]",
    "5",
    '"text"',
    "{}",
    "not json",
    "[" * 5000,
    "\ud800",
    envelope(ANN) + "x",
    "\ufeff" + envelope(ANN),
    envelope(),
    envelope(*[ANN] * 17),
    envelope(ANN)[:-1] + ',"padding":"' + "x" * _envelopes.ENVELOPE_BYTES_MAX + '"}',
    _without("payloadType"),
    _without("signatures"),
    _without("sig"),
    _without("keyid"),
    _with_signatures({"keyid": "a"}),
    _with_signatures("text"),
    _with_signatures([None]),
    envelope(ANN).replace(f'"{_envelopes.COMMAND_TYPE}"', f'["{_envelopes.COMMAND_TYPE}"]'),
    _with_signature(lambda sig: None),
    _with_signature(lambda sig: 7),
    _with_signature(lambda sig: ""),
    _with_signature(lambda sig: sig[:-4]),
    _with_signature(lambda sig: sig.rstrip("=")),
    _with_signature(lambda sig: sig + "="),
    _with_signature(lambda sig: sig + "AAAA"),
    _with_signature(lambda sig: sig[:8] + "\n" + sig[8:]),
    _with_signature(lambda sig: " " + sig),
    _with_signature(lambda sig: "é" + sig[1:]),
    _with_signature(_stray_bits),
]


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_envelope_is_refused(text: str) -> None:
    with pytest.raises(VerificationError) as caught:
        _envelopes.verify_envelope(VALUE, text, keys_of(ANN), _envelopes.COMMAND_TYPE)
    assert len(str(caught.value)) < 400


def test_a_signature_made_larger_by_the_group_order_is_refused() -> None:
    # RFC 8032 §5.1.7 asks for S < L; without the check a second signature could be made from a good one.
    order = 2**252 + 27742317777372353535851937790883648493
    raw = base64.b64decode(orjson.loads(envelope(ANN))["signatures"][0]["sig"])
    larger = raw[:32] + (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")
    assert refused(VALUE, _with_signature(lambda sig: base64.b64encode(larger).decode()), keys_of(ANN))


# --- key sets -------------------------------------------------------------------------------------------------------


def test_a_key_set_gives_its_keys_by_thumbprint() -> None:
    assert list(keys_of(ANN, BEN)) == [ANN.keyid, BEN.keyid]
    bare = {name: ANN.public_jwk()[name] for name in ("kty", "crv", "x")}
    assert list(_envelopes.public_keys({"keys": [bare]})) == [ANN.keyid]


@pytest.mark.parametrize(
    "change",
    [
        {"kid": BEN.keyid},
        {"kid": ""},
        {"x": BEN.public_jwk()["x"]},
        {"x": "AAAA"},
        {"x": ""},
        {"x": 5},
        {"kty": "none"},
    ],
)
def test_a_key_that_is_not_what_its_id_says_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(VerificationError):
        _envelopes.public_keys({"keys": [{**ANN.public_jwk(), **change}]})


@pytest.mark.parametrize(
    "change",
    [{"kty": "EC", "crv": "P-256", "y": "AA"}, {"crv": "X25519"}, {"crv": None}, {"alg": "ES256"}],
    ids=["P-256", "X25519", "no curve", "another algorithm"],
)
def test_the_bytes_of_a_key_of_another_kind_are_not_taken_for_ed25519(change: dict[str, object]) -> None:
    jwk = {name: value for name, value in {**ANN.public_jwk(), **change}.items() if name != "kid"}
    with pytest.raises(VerificationError, match="only Ed25519"):
        _envelopes.public_keys({"keys": [jwk]})


@pytest.mark.parametrize(
    "spell", [lambda x: x + "=", lambda x: x[:-1] + chr(ord(x[-1]) + 1)], ids=["padded", "stray bits"]
)
def test_one_key_in_two_spellings_does_not_count_twice(spell: Callable[[str], str]) -> None:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": spell(ANN.public_jwk()["x"])}
    with pytest.raises(VerificationError, match="not canonical"):
        _envelopes.public_keys({"keys": [ANN.public_jwk(), jwk]})


@pytest.mark.parametrize("keys", [None, 5, {}, "text"])
def test_a_key_set_that_is_none_is_refused(keys: object) -> None:
    for jwks in ({"keys": keys}, keys):
        with pytest.raises(VerificationError, match="key set"):
            _envelopes.public_keys(jwks)  # type: ignore[arg-type]
