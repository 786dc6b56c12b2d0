"""Tiles, checkpoints and proofs: paths as specified, and a log that verifies from its files alone."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.schemas.transparency import LogEdge, NoteError, _merkle, _notes, _tiles
from seawall.schemas.transparency._merkle import ProofError
from seawall_testing.reference_data import read_vectors
from seawall_testing.trees import tree_root

LOG = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESSES = [Ed25519PrivateKey.from_private_bytes(bytes(range(i, i + 32))) for i in (1, 2)]
ORIGIN = "risk.example/audit/dev/audit/0"
LOG_KEY = _notes.NoteKey.named(ORIGIN, LOG.public_key().public_bytes_raw())
WITNESS_KEYS = [
    _notes.NoteKey.named(f"witness.example/{i}", key.public_key().public_bytes_raw(), _notes.COSIGNATURE)
    for i, key in enumerate(WITNESSES)
]


def entry(index: int) -> bytes:
    return f'{{"seq":{index}}}'.encode()


def build(count: int) -> tuple[LogEdge, dict[str, bytes]]:
    edge, files = LogEdge(), {}
    for index in range(count):
        files.update(edge.extend([entry(index)]))
    files.update(edge.partial_tiles())
    return edge, files


def signed(edge: LogEdge, witnesses: int = 0) -> bytes:
    text = _notes.Checkpoint(ORIGIN, edge.size, edge.root()).text()
    lines = [WITNESS_KEYS[i].cosign(text, WITNESSES[i].sign, 1_700_000_000).line() for i in range(witnesses)]
    return LOG_KEY.sign(text, LOG.sign).encode() + "".join(lines).encode()


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("tile/0/000", (0, 0, 256)),
        ("tile/0/x001/x234/067", (0, 1234067, 256)),
        ("tile/1/x001/234.p/8", (1, 1234, 8)),
        ("tile/entries/x003/x057/500.p/255", ("entries", 3057500, 255)),
    ],
)
def test_a_tile_path_is_written_and_read_as_specified(path, parts):
    assert _tiles.Tile(*parts).path == path
    assert _tiles.Tile.parse(path) == parts


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0",
        "tile/00/000",
        "tile/0/x000/001",
        "tile/0/001.p/256",
        "tile/0/001.p/0",
        "tile/0/001.p/05",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/123/456",
        "tile/data/000",
        "/tile/0/000",
        "tile/0/../000",
        "tile/0/x001/000.p/300",
        "",
    ],
)
def test_any_other_spelling_of_a_tile_path_is_refused(path):
    with pytest.raises(ValueError, match="path"):
        _tiles.Tile.parse(path)


def test_published_go_paths_agree_once_the_height_is_dropped():
    for path, (height, level, number, width) in read_vectors("tlog_sumdb_format.json")["tile_paths"]:
        spelled = path.replace(f"tile/{height}/", "tile/", 1).replace("tile/data", "tile/entries")
        full = width == 1 << height
        ours = _tiles.Tile(_tiles.ENTRIES if level < 0 else level, number, 256 if full else width).path
        assert ours == (spelled.split(".p/")[0] if full else spelled)


def test_the_published_record_hash_and_tree_text_are_ours():
    published = read_vectors("tlog_sumdb_format.json")
    root = _merkle.leaf_hash(b"hello world")
    assert _notes.encode_base64(root) == published["record_hash_hello_world_b64"]
    assert _notes.Checkpoint("go.sum database tree", 123456789012, root).text() == published["format_tree"]
    assert _notes.Checkpoint.parse(published["format_tree"]).size == 123456789012


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_gives_back_its_entries(entries):
    assert _tiles.decode_bundle(_tiles.encode_bundle(entries)) == entries


def test_a_cut_bundle_is_refused():
    data = _tiles.encode_bundle([b"abc", b"de"])
    for cut in (1, 4, 6, 8):
        with pytest.raises(ValueError, match="within a record"):
            _tiles.decode_bundle(data[:cut])


@given(st.integers(0, 700), st.integers(0, 700))
@settings(max_examples=25, deadline=None)
def test_a_log_restored_anywhere_goes_on_as_if_nothing_had_happened(count, at):
    edge, files = build(count)
    restored = LogEdge()
    for index in range(min(at, count)):
        restored.extend([entry(index)])
    restored = LogEdge.restore(restored.snapshot())
    again = {}
    for index in range(restored.size, count):
        again.update(restored.extend([entry(index)]))
    again.update(restored.partial_tiles())
    assert (restored.size, restored.root()) == (edge.size, edge.root())
    assert again.items() <= files.items()


def test_tiles_above_the_second_level_are_right():
    count = 256 * 256 + 256 * 3 + 5
    edge, files = build(count)
    hashes = [_merkle.leaf_hash(entry(index)) for index in range(count)]
    assert edge.root() == tree_root(hashes)
    assert LogEdge.restore(edge.snapshot()).root() == edge.root()
    hash_at = _tiles.tile_hashes(files.__getitem__, count)
    for index in (0, 255, 256, 65535, 65536, count - 6, count - 1):
        proof = _merkle.inclusion_proof(index, count, hash_at)
        _merkle.verify_inclusion(hashes[index], index, count, proof, edge.root())
    for old in (1, 255, 256, 300, 65536, 65537, count - 1):
        proof = _merkle.consistency_proof(old, count, hash_at)
        _merkle.verify_consistency(old, tree_root(hashes[:old]), count, edge.root(), proof)
    assert files["tile/2/000.p/1"] == tree_root(hashes[:65536])


@pytest.mark.parametrize(
    "bad",
    [
        bytes(8) + b"\x01\x00\x01" + bytes(31),
        bytes(8) + b"\x01\x00\x05" + bytes(160),
        bytes(8),
        bytes(9) + b"\x00\x05ab",
    ],
)
def test_bytes_that_are_no_snapshot_of_a_log_are_refused(bad):
    with pytest.raises(ValueError, match=r"snapshot|within a record"):
        LogEdge.restore(bad)


def test_an_entry_that_does_not_fit_a_bundle_is_refused():
    with pytest.raises(ValueError, match="65535"):
        LogEdge().extend([b"", bytes(65536)])


def test_a_proof_file_proves_its_record_and_no_other():
    edge, files = build(300)
    hashes = _merkle.inclusion_proof(77, 300, _tiles.tile_hashes(files.__getitem__, 300))
    proof = _notes.TlogProof(77, tuple(hashes), signed(edge, 2), b"context")
    assert _notes.TlogProof.parse(proof.encode()) == proof
    checkpoint = _notes.TlogProof.verify(proof.encode(), entry(77), ORIGIN, LOG_KEY, WITNESS_KEYS, 2)
    assert checkpoint.size == 300
    with pytest.raises(ProofError):
        _notes.TlogProof.verify(proof.encode(), entry(78), ORIGIN, LOG_KEY)
    with pytest.raises(NoteError, match="is of"):
        _notes.TlogProof.verify(proof.encode(), entry(77), ORIGIN + "1", LOG_KEY)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"c2sp.org/tlog-proof@v2\nindex 0\n\n",
        b"c2sp.org/tlog-proof@v1\n\n",
        b"c2sp.org/tlog-proof@v1\nindex 01\n\n",
        b"c2sp.org/tlog-proof@v1\nindex -1\n\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\nzz\n\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + b"A" * 43 + b"=\n",
        b"c2sp.org/tlog-proof@v1\nextra x\nindex 0\n\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + (b"A" * 43 + b"=\n") * 64 + b"\n",
    ],
)
def test_a_malformed_proof_file_is_refused(bad):
    with pytest.raises(NoteError):
        _notes.TlogProof.verify(bad, b"", ORIGIN, LOG_KEY)


def test_a_witness_counts_once_and_only_if_asked_for():
    edge, _ = build(3)
    with pytest.raises(NoteError, match="1 of at least 2"):
        _notes.open_checkpoint(signed(edge, 1), ORIGIN, LOG_KEY, WITNESS_KEYS, 2)
    same_key = _notes.NoteKey.named("witness.example/alias", WITNESS_KEYS[0].public, _notes.COSIGNATURE)
    text = _notes.Checkpoint(ORIGIN, edge.size, edge.root()).text()
    alias = same_key.cosign(text, WITNESSES[0].sign, 1).line().encode()
    with pytest.raises(NoteError, match="1 of at least 2"):
        _notes.open_checkpoint(signed(edge, 1) + alias, ORIGIN, LOG_KEY, [WITNESS_KEYS[0], same_key], 2)


def test_witnesses_alone_do_not_make_a_checkpoint():
    edge, _ = build(3)
    text = _notes.Checkpoint(ORIGIN, edge.size, edge.root()).text()
    line = WITNESS_KEYS[0].cosign(text, WITNESSES[0].sign, 1).line()
    with pytest.raises(NoteError, match="did not sign"):
        _notes.open_checkpoint((text + "\n" + line).encode(), ORIGIN, LOG_KEY, WITNESS_KEYS, 1)


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n",
        "o\n-1\nAAAA\n",
        "o\n01\n" + "A" * 43 + "=\n",
        "\n1\n" + "A" * 43 + "=\n",
        "o\n1\nAAAA\n",
        "o\n0\n" + "A" * 43 + "=\n",
        "o\n99999999999999999999\n" + "A" * 43 + "=\n",
        "o\n1\n" + "A" * 43 + "=",
        "o\n1\n" + "A" * 43 + "=\n\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(text):
    with pytest.raises(NoteError):
        _notes.Checkpoint.parse(text)


def test_published_witness_requests_have_consistent_signed_checkpoints():
    published = read_vectors("witness_consistency.json")
    key = _notes.NoteKey(published["origin"], _notes.ED25519, bytes.fromhex(published["log_pubkey_hex"]))
    roots: dict[int, bytes] = {}
    for request in published["requests"]:
        head, _, checkpoint_note = request.encode().partition(b"\n\n")
        old, *hashes = head.decode().split("\n")
        checkpoint, _ = _notes.open_checkpoint(checkpoint_note, published["origin"], key)
        size = int(old.removeprefix("old "))
        proof = [_notes.decode_base64(text) for text in hashes]
        if size:
            _merkle.verify_consistency(size, roots[size], checkpoint.size, checkpoint.root, proof)
        roots[checkpoint.size] = checkpoint.root
