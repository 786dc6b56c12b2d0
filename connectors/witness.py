"""A small witness, and how a sealer asks one: C2SP tlog-witness over HTTP.

The witness keeps one row per log in SQLite. Reading the last size, checking, and storing the new one are one write
transaction that commits before the answer leaves, so that of two requests at once only one is cosigned. Run it where
the log's operator has no say::

    python -m seawall.connectors.witness --key witness.pem --name witness.example/w1 --database witness.db \\
        --log "risk.example/audit/prod/audit/0+c74f20a3+ARpc2Q…" --port 7380
"""

import argparse
import functools
import http.client
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from seawall.connectors.keys import FileSigner
from seawall.schemas.dsse import Signer
from seawall.schemas.errors import CouldNotVerify
from seawall.schemas.evidence.keyset import decode_base64url
from seawall.schemas.evidence.note import COSIGNATURE, NoteKey, cosign, note_key, parse_vkey
from seawall.schemas.evidence.witnessing import (
    REQUEST_BYTES_MAX,
    Request,
    WitnessRefusal,
    check_request,
    merge_cosignatures,
    parse_request,
)

TIMEOUT_S = 10
BUSY_S = 5  # that another user of the database is waited for: the answer must come before who asks gives up
SHOWN_MAX = 200  # characters of an answer that is none
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS witnessed (origin TEXT PRIMARY KEY, size INT, root BLOB, checkpoint BLOB) WITHOUT ROWID"
)


class Witness:
    """Cosigns checkpoints that extend what it has seen.

    Parameters
    ----------
    database
        Its memory. Losing it is losing the witness: start a new one under a new key.
    signer
        An Ed25519 key used for nothing else.
    logs
        The trusted keys of each log, by origin.
    """

    def __init__(self, database: Path, name: str, signer: Signer, logs: Mapping[str, Sequence[NoteKey]]) -> None:
        self._db = sqlite3.connect(database, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(_SCHEMA)
        self._lock = threading.Lock()
        self._logs, self._sign = logs, signer.sign
        self.key = note_key(name, decode_base64url(signer.public_jwk()["x"]), COSIGNATURE)

    def add_checkpoint(self, body: bytes, time_s: int) -> bytes:
        """Return the cosignature line, after the new size and root are durable; raise `WitnessRefusal` otherwise."""
        request = parse_request(body)
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                rows = self._db.execute("SELECT origin, size, root FROM witnessed").fetchall()
                last = {origin: (size, root) for origin, size, root in rows}
                checkpoint, note = check_request(request, self._logs, last)
                line = cosign(note.text, self.key, self._sign, time_s).line().encode()
                row = checkpoint.origin, checkpoint.size, checkpoint.root, request.checkpoint
                self._db.execute("INSERT OR REPLACE INTO witnessed VALUES (?, ?, ?, ?)", row)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a disk that is full ends it of itself, one that is busy does not
                    self._db.execute("ROLLBACK")
                raise
        return line

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def serve(witness: Witness, host: str, port: int, clock: Callable[[], float] = time.time) -> ThreadingHTTPServer:
    """Return a server for the witness, listening; the caller runs ``serve_forever``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # keep-alive, as the specification asks
        timeout = TIMEOUT_S

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > REQUEST_BYTES_MAX:
                self.close_connection = True
                self._answer(413, b"the request is too large\n")
                return
            body = self.rfile.read(int(length))
            if self.path != "/add-checkpoint":
                self._answer(404, b"POST /add-checkpoint\n")
                return
            try:
                self._answer(200, witness.add_checkpoint(body, int(clock())))
            except WitnessRefusal as refusal:
                if refusal.size is not None:
                    self._answer(refusal.status, f"{refusal.size}\n".encode(), "text/x.tlog.size")
                else:
                    self._answer(refusal.status, f"{refusal}\n".encode())

        def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent: what a request says is not to be trusted with a terminal."""

    return ThreadingHTTPServer((host, port), Handler)


def request_cosignature(url: str, request: Request, witness: NoteKey) -> bytes:
    """Return the checkpoint with the witness's cosignature.

    Raises
    ------
    WitnessRefusal
        The witness refused; with ``size`` set, ask again with a proof from there.
    CouldNotVerify
        The witness could not be reached, or its answer could not be read: the checkpoint stands without it.
    """
    try:
        lines = _post(f"{url.rstrip('/')}/add-checkpoint", request.encode())
    except OSError as error:
        raise CouldNotVerify(f"the witness at {url} did not answer: {error}") from error
    except (http.client.HTTPException, ValueError) as error:
        text = f"the witness at {url} gave no answer that can be read ({repr(error)[:SHOWN_MAX]})"
        raise CouldNotVerify(f"{text}; check the address under witnesses") from error
    return merge_cosignatures(request.checkpoint, lines, [witness])


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    """Return what asks, as `urllib.request.urlopen` does, but follows no redirect: whom to ask is configured."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _post(target: str, body: bytes) -> bytes:
    """Return what answers; raise `WitnessRefusal` where the witness refuses, what the library does where none does."""
    try:
        with _opener().open(target, body, TIMEOUT_S) as answer:
            found: bytes = answer.read(REQUEST_BYTES_MAX)
            return found
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(4096).decode("utf-8", "replace").strip()
        if 300 <= error.code < 400:
            text = f"{target} redirects ({error.code}), which is not followed"
            raise CouldNotVerify(f"{text}; name the address itself under witnesses") from error
        sized = error.headers.get("Content-Type") == "text/x.tlog.size" and text.isdecimal()
        raise WitnessRefusal(error.code, text, int(text) if sized else None) from error


def main() -> None:
    """Run a witness until stopped."""
    parser = argparse.ArgumentParser(description="Run a C2SP tlog-witness.")
    parser.add_argument("--key", type=Path, required=True, help="Ed25519 PKCS#8 PEM, mode 0600, used for nothing else")
    parser.add_argument("--name", required=True)
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--log", action="append", required=True, help="vkey of a log, its name the origin; repeatable")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7380)
    arguments = parser.parse_args()
    keys = [parse_vkey(text) for text in arguments.log]
    logs = {key.name: [other for other in keys if other.name == key.name] for key in keys}
    witness = Witness(arguments.database, arguments.name, FileSigner(arguments.key), logs)
    print(witness.key.vkey, flush=True)
    serve(witness, arguments.host, arguments.port).serve_forever()


if __name__ == "__main__":
    main()
