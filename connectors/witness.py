"""Witness: a small server that cosigns checkpoints which extend what it has seen (C2SP tlog-witness).

The witness keeps one row per log in SQLite. Reading the last size, checking, and storing the new one are one write
transaction that commits before the answer leaves, so that of two requests at once only one is cosigned. Run it where
the log's operator has no access::

    python -m seawall.connectors.witness --key witness.pem --name witness.example/w1 --database witness.db \\
        --log "risk.example/audit/prod/audit/0+c74f20a3+ARpc2Q…" --port 7380
"""

import argparse
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from seawall.connectors.keys import FileSigner
from seawall.connectors.transparency_log import TIMEOUT_S
from seawall.schemas.evidence import Signer, decode_base64url
from seawall.schemas.transparency import COSIGNATURE, REQUEST_BYTES_MAX, CosignatureRequest, NoteKey, WitnessRefusal

BUSY_S = 5  # that another user of the database is waited for: the answer must come before who asks gives up
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
        self.key = NoteKey.named(name, decode_base64url(signer.public_jwk()["x"]), COSIGNATURE)

    def add_checkpoint(self, body: bytes, time_s: int) -> bytes:
        """Return the cosignature line, after the new size and root are durable; raise `WitnessRefusal` otherwise."""
        request = CosignatureRequest.parse(body)
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                rows = self._db.execute("SELECT origin, size, root FROM witnessed").fetchall()
                last = {origin: (size, root) for origin, size, root in rows}
                checkpoint, note = request.check(self._logs, last)
                line = self.key.cosign(note.text, self._sign, time_s).line().encode()
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
    keys = [NoteKey.parse(text) for text in arguments.log]
    logs = {key.name: [other for other in keys if other.name == key.name] for key in keys}
    witness = Witness(arguments.database, arguments.name, FileSigner(arguments.key), logs)
    print(witness.key.vkey, flush=True)
    serve(witness, arguments.host, arguments.port).serve_forever()


if __name__ == "__main__":
    main()
