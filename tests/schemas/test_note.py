"""Signed notes and cosignatures: published notes, real ones of sum.golang.org and Rekor, and what must be refused."""

import base64
import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from seawall.schemas.transparency import COSIGNATURE, NoteError, NoteKey, _merkle, _notes
from seawall_testing.reference_data import read_vectors, vector_names

# golang/mod sumdb/note: the key, text and signature of its example.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# RFC 8032 §7.1: seed, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
]  # fmt: skip
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.mark.parametrize(("seed", "message", "signature"), RFC_8032)
def test_the_library_signs_the_vectors_of_rfc_8032(seed, message, signature):
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    assert key.sign(bytes.fromhex(message)).hex() == signature


def test_all_vectors_of_rfc_8032_are_signed_byte_for_byte():
    for case in read_vectors("rfc8032_ed25519.json")["vectors"]:
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(case["seed"]))
        assert key.public_key().public_bytes_raw().hex() == case["pk"]
        assert key.sign(bytes.fromhex(case["msg"])).hex() == case["sig"]


def test_wycheproof_ed25519_signatures_are_judged_as_published():
    for group in read_vectors("wycheproof/ed25519_test.json")["testGroups"]:
        key = NoteKey("w", _notes.ED25519, bytes.fromhex(group["publicKey"]["pk"]))
        public = Ed25519PublicKey.from_public_bytes(key.public)
        for case in group["tests"]:
            try:
                public.verify(bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
                verdict = "valid"
            except Exception:
                verdict = "invalid"
            assert verdict == case["result"], case["comment"]


def test_the_go_example_is_signed_byte_for_byte_and_opens():
    private = Ed25519PrivateKey.from_private_bytes(PETER_SEED)
    signed = _notes.NoteKey.parse(PETER).sign(TEXT, private.sign)
    assert signed.encode() == (TEXT + "\n" + SIGNATURE).encode()
    opened = _notes.Note.open(signed.encode(), [_notes.NoteKey.parse(PETER)])
    assert opened.text == TEXT
    assert opened.verified == (_notes.NoteKey.parse(PETER),)
    assert _notes.NoteKey.parse(PETER).vkey == PETER


def test_published_notes_are_judged_as_published():
    published = read_vectors("signed_note.json")
    for case in published["valid"]:
        opened = _notes.Note.open(case["note"].encode(), map(_notes.NoteKey.parse, case["vkeys"]))
        assert len(opened.verified) == len(case["vkeys"]), case["name"]
        assert opened.encode() == case["note"].encode()
    for case in published["invalid"]:
        with pytest.raises(NoteError):
            _notes.Note.open(case["note"].encode(), map(_notes.NoteKey.parse, case["vkeys"]))


@pytest.mark.parametrize("vkey", [
    "", "a+b", PETER[:-4], PETER.replace("c74f20a3", "c74f20a4"), PETER.replace("Peter", "Pe ter"),
    "x+00000000+AA==", PETER.upper(),
])  # fmt: skip
def test_a_key_that_does_not_hash_to_its_id_is_refused(vkey):
    with pytest.raises(NoteError):
        _notes.NoteKey.parse(vkey)


@pytest.mark.parametrize(("name", "bad"), [
    ("no signatures", TEXT),
    ("cut", (TEXT + "\n" + SIGNATURE)[:-1]),
    ("escape sequence", "\x1b[31m" + TEXT + "\n" + SIGNATURE),
    ("other text", "x" + TEXT + "\n" + SIGNATURE),
    ("garbage", TEXT + "\n" + SIGNATURE + "x\n"),
    ("false signature first", TEXT + "\n" + SIGNATURE.replace("9UG", "9UH")),
    ("hyphen for dash", TEXT + "\n" + SIGNATURE.replace("—", "-")),
    ("sloppy base64", TEXT + "\n" + SIGNATURE.replace("nAM=", "nAN=")),
])  # fmt: skip
def test_a_damaged_note_is_refused(name, bad):
    with pytest.raises(NoteError):
        _notes.Note.open(bad.encode(), [_notes.NoteKey.parse(PETER)])


def test_a_key_that_signs_twice_counts_once():
    opened = _notes.Note.open((TEXT + "\n" + SIGNATURE * 2).encode(), [_notes.NoteKey.parse(PETER)])
    assert len(opened.verified) == 1


def test_a_cosignature_binds_its_time():
    text = "example.com/log\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    key = _notes.NoteKey.named("witness.example", PRIVATE.public_key().public_bytes_raw(), COSIGNATURE)
    line = key.cosign(text, PRIVATE.sign, 1_700_000_000)
    opened = _notes.Note.open((text + "\n" + line.line()).encode(), [key])
    assert opened.cosigned_at_s == ((key, 1_700_000_000),)
    moved = _notes.NoteSignature(line.name, line.key_id, (1_700_000_001).to_bytes(8, "big") + line.value[8:])
    with pytest.raises(NoteError, match="false signature"):
        _notes.Note.open((text + "\n" + moved.line()).encode(), [key])


def test_the_published_layout_of_cosignatures_is_ours():
    published = read_vectors("cosignature_v1.json")
    assert _notes.NoteKey.parse(published["vkey_type04"]).type == COSIGNATURE
    text = published["message_example"].split("\n", 2)[2]
    assert _notes.cosigned_message(text, 1679315147).decode() == published["message_example"]
    layout = base64.b64decode(published["timestamp_vector"]["sig_b64"])
    assert int.from_bytes(layout[4:12], "big") == published["timestamp_vector"]["unix"]


@pytest.mark.parametrize("name", vector_names("rekor2") or ["none.json"])
def test_real_rekor_entries_verify_with_their_log_key(name):
    entry = read_vectors(f"rekor2/{name}")
    inclusion = entry["tlogEntry"]["inclusionProof"]
    data = inclusion["checkpoint"]["envelope"].encode()
    key = rekor_key(entry, data)
    checkpoint, _ = _notes.open_checkpoint(data, key.name, key)
    leaf = _merkle.leaf_hash(base64.b64decode(entry["tlogEntry"]["canonicalizedBody"]))
    hashes = [base64.b64decode(value) for value in inclusion["hashes"]]
    _merkle.verify_inclusion(leaf, int(inclusion["logIndex"]), checkpoint.size, hashes, checkpoint.root)


def rekor_key(entry: dict, checkpoint: bytes) -> NoteKey:
    """The log's key among those published with the entry: the one whose note key id signed the checkpoint."""
    parsed = _notes.Note.parse(checkpoint)
    for log in entry["tlogs"]:
        der = base64.b64decode(log["publicKey"]["rawBytes"])
        key = NoteKey(parsed.signatures[0].name, _notes.ED25519, der[-32:])
        if key.id == parsed.signatures[0].key_id:
            return key
    raise AssertionError("no published key signed this checkpoint")


@given(st.binary(max_size=400))
def test_no_bytes_make_the_parser_fail_otherwise(data):
    with contextlib.suppress(NoteError):
        assert _notes.Note.parse(data).encode() == data


@given(st.integers(0, 8 * len(SIGNATURE.encode()) - 1))
def test_no_changed_bit_of_a_signature_line_is_accepted(bit):
    data = bytearray((TEXT + "\n" + SIGNATURE).encode())
    data[len(TEXT.encode()) + 1 + bit // 8] ^= 1 << bit % 8
    with pytest.raises(NoteError):
        _notes.Note.open(bytes(data), [_notes.NoteKey.parse(PETER)])
