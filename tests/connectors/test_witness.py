"""The witness: published requests are cosigned, and no two views of one log ever are, also when asked at once."""

import socket
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from seawall.connectors.transparency_log import Cosigner, request_cosignature
from seawall.connectors.witness import Witness, serve
from seawall.schemas.errors import CouldNotVerify
from seawall.schemas.evidence import public_jwk
from seawall.schemas.transparency import CosignatureRequest, NoteError, WitnessRefusal, _merkle, _notes
from seawall_testing.reference_data import read_vectors
from seawall_testing.signing import Holder
from seawall_testing.trees import hashes_of, tree_root

LOG, OTHER, WITNESS = Holder("log"), Holder("other log"), Holder("witness")
ORIGIN = "risk.example/audit/dev/audit/0"
LOG_KEY = _notes.NoteKey.named(ORIGIN, LOG.private.public_key().public_bytes_raw())
LEAVES = [_merkle.leaf_hash(bytes([index])) for index in range(20)]
REWRITTEN = [_merkle.leaf_hash(bytes([index + (index == 3)])) for index in range(20)]
FORK = [_merkle.leaf_hash(bytes([index + (index == 9)])) for index in range(20)]


class Signer:
    """A test key behind the protocol of signers."""

    def __init__(self, holder: Holder) -> None:
        self.keyid, self.alg, self.sign = holder.kid, holder.alg, holder.sign
        self._raw = holder.private.public_key().public_bytes_raw()

    def public_jwk(self) -> dict[str, str]:
        return public_jwk(self._raw)


@pytest.fixture
def witness(tmp_path):
    found = Witness(tmp_path / "witness.db", "witness.example/w1", Signer(WITNESS), {ORIGIN: [LOG_KEY]})
    yield found
    found.close()


def checkpoint(size: int, leaves: list[bytes] = LEAVES, origin: str = ORIGIN, signer: Holder = LOG) -> bytes:
    text = _notes.Checkpoint(origin, size, tree_root(leaves[:size])).text()
    key = _notes.NoteKey.named(origin, signer.private.public_key().public_bytes_raw())
    return key.sign(text, signer.sign).encode()


def request(old: int, size: int, leaves: list[bytes] = LEAVES, **options) -> CosignatureRequest:
    proof = _merkle.consistency_proof(old, size, hashes_of(leaves)) if old <= size else []
    return CosignatureRequest(old, tuple(proof), checkpoint(size, leaves, **options))


def ask(witness: Witness, asked: CosignatureRequest) -> int:
    try:
        lines = witness.add_checkpoint(asked.encode(), 1_700_000_000)
    except WitnessRefusal as refusal:
        return refusal.status
    merged = asked.merge(lines, [witness.key])
    found, opened = _notes.open_checkpoint(merged, ORIGIN, LOG_KEY, [witness.key], 1)
    assert opened.cosigned_at_s == ((witness.key, 1_700_000_000),)
    assert f"\n{found.size}\n" in opened.text
    return 200


def test_a_growing_log_is_cosigned_and_an_old_size_is_a_conflict(witness):
    assert ask(witness, request(0, 3)) == 200
    assert ask(witness, request(3, 8)) == 200
    assert ask(witness, request(8, 8)) == 200
    with pytest.raises(WitnessRefusal) as caught:
        witness.add_checkpoint(request(3, 9).encode(), 1)
    assert (caught.value.status, caught.value.size) == (409, 8)
    assert ask(witness, request(0, 9)) == 409
    assert ask(witness, request(8, 20)) == 200


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (request(8, 10, REWRITTEN), 422),
        (request(8, 8, [b"x" * 32] * 8), 409),
        (request(9, 8), 400),
        (request(8, 10, signer=OTHER), 403),
        (request(8, 10, origin="another.example/log"), 404),
        (CosignatureRequest(8, (), checkpoint(10)), 422),
        (CosignatureRequest(8, (bytes(32),) * 63, checkpoint(10)), 422),
        (CosignatureRequest(8, (), b"nonsense"), 400),
    ],
)
def test_what_does_not_extend_the_log_is_refused_as_specified(witness, asked, status):
    assert ask(witness, request(0, 8)) == 200
    assert ask(witness, asked) == status
    assert ask(witness, request(8, 9)) == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 1",
        b"old 01\n\nx",
        b"new 1\n\n",
        b"old -1\n\n",
        b"old 1\nzz\n\n",
        b"old \xff\n\n",
        b"old 1\n" + b"A" * 43 + b"=\n" * 64 + b"\n",
        b"old 1\n\n" + b"x" * 70_000,
    ],
)
def test_a_malformed_request_is_a_400(body):
    with pytest.raises(WitnessRefusal) as caught:
        CosignatureRequest.parse(body)
    assert caught.value.status == 400


def test_a_first_checkpoint_takes_no_proof(witness):
    assert ask(witness, CosignatureRequest(0, (bytes(32),), checkpoint(3))) == 422
    assert ask(witness, request(0, 0)) == 200
    assert ask(witness, request(0, 3)) == 200


def test_the_memory_survives_a_restart(tmp_path, witness):
    assert ask(witness, request(0, 8)) == 200
    again = Witness(tmp_path / "witness.db", "witness.example/w1", Signer(WITNESS), {ORIGIN: [LOG_KEY]})
    assert ask(again, request(0, 10, FORK)) == 409
    assert ask(again, request(8, 10)) == 200
    again.close()


def test_of_many_views_at_once_only_one_is_cosigned(witness):
    assert ask(witness, request(0, 8)) == 200
    views = [request(8, size, leaves) for size in range(10, 20) for leaves in (LEAVES, FORK)]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda asked: ask(witness, asked), views))
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 422}


def test_published_requests_are_cosigned_and_their_race_is_not(tmp_path):
    published = read_vectors("witness_consistency.json")
    key = _notes.NoteKey(published["origin"], _notes.ED25519, bytes.fromhex(published["log_pubkey_hex"]))
    witness = Witness(tmp_path / "w.db", "w.example", Signer(WITNESS), {published["origin"]: [key]})
    first, second, third = (text.encode() for text in published["requests"])
    for body in (first, third):
        assert _notes.Note.open(body.partition(b"\n\n")[2] + witness.add_checkpoint(body, 7), [witness.key]).verified
    with pytest.raises(WitnessRefusal) as caught:
        witness.add_checkpoint(second, 8)
    assert (caught.value.status, caught.value.size) == (409, 5)
    witness.close()


def test_a_commit_that_fails_is_no_cosignature_and_the_next_request_is_answered(witness, tmp_path, monkeypatch):
    monkeypatch.setattr("seawall.connectors.witness.BUSY_S", 0.1)
    impatient = Witness(tmp_path / "witness.db", "witness.example/w1", Signer(WITNESS), {ORIGIN: [LOG_KEY]})
    with closing(sqlite3.connect(tmp_path / "witness.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM witnessed").fetchall()  # who reads keeps a rollback journal's writer from its end
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            impatient.add_checkpoint(request(0, 5).encode(), 1)
        reader.execute("ROLLBACK")
    assert ask(witness, request(0, 5)) == 200  # nothing was kept of what failed, nor is its lock
    assert ask(impatient, request(5, 9)) == 200
    impatient.close()


def test_over_http_a_sealer_gets_its_cosignature_and_learns_the_size(witness):
    server = serve(witness, "127.0.0.1", 0, lambda: 1_700_000_000.5)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        merged = request_cosignature(url, request(0, 8), witness.key)
        _notes.open_checkpoint(merged, ORIGIN, LOG_KEY, [witness.key], 1)
        with pytest.raises(WitnessRefusal) as caught:
            request_cosignature(url, request(3, 9), witness.key)
        assert (caught.value.status, caught.value.size) == (409, 8)
        with pytest.raises(NoteError):
            stranger = _notes.NoteKey.named("w", OTHER.private.public_key().public_bytes_raw(), _notes.COSIGNATURE)
            request_cosignature(url, request(8, 9), stranger)
        with pytest.raises(WitnessRefusal) as caught:
            request_cosignature(url + "/other", request(9, 10), witness.key)
        assert caught.value.status == 404
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with pytest.raises(CouldNotVerify):
        request_cosignature(url, request(9, 10), witness.key)


NO_ANSWERS = {
    "another protocol": b"SSH-2.0-OpenSSH_9\r\n",
    "cut chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nabc",
    "a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    "a refusal in cut chunks": b"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "a redirect to what is no address": b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
}
WITNESS_KEY = _notes.NoteKey.named("w", WITNESS.private.public_key().public_bytes_raw(), _notes.COSIGNATURE)


@contextmanager
def answering(data: bytes) -> Iterator[str]:
    """Yield the address of something that answers one request with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_an_answer_that_is_none_leaves_the_checkpoint_without_its_witness(name):
    asked = checkpoint(8)
    with answering(NO_ANSWERS[name]) as address:
        assert Cosigner(lambda path: b"", (f"{address} {WITNESS_KEY.vkey}",)).cosigned(asked) == asked


def test_a_redirect_is_not_followed_and_the_error_says_what_to_do():
    with answering(NO_ANSWERS["a redirect"]) as address, pytest.raises(CouldNotVerify, match="name the address itself"):
        request_cosignature(address, request(0, 8), WITNESS_KEY)


def test_a_tile_that_is_gone_leaves_the_checkpoint_without_its_witness():
    def gone(path: str) -> bytes:
        raise FileNotFoundError(path)

    asked = checkpoint(8)
    seen = b"HTTP/1.1 409 Conflict\r\nContent-Type: text/x.tlog.size\r\nContent-Length: 2\r\n\r\n3\n"
    with answering(seen) as address:
        assert Cosigner(gone, (f"{address} {WITNESS_KEY.vkey}",)).cosigned(asked) == asked
