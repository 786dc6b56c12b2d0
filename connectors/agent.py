"""A signing agent: the key lives in a process of its own, which signs no two different commands for one place.

Decides what is signed with a key that nothing else can reach. The agent re-checks each document (type, shape, issuer,
environment, and that it only restricts) and keeps a ledger of what it signed: the same bytes get the same signature
back, other bytes for one (target, epoch, seq) are refused, as validators' remote signers do against double signing. So
whoever takes over the risk process cannot make it equivocate, loosen, or speak for another environment.

Requests and answers are one JSON object each, after its length in four bytes, on a Unix socket of mode 0600::

    python -m seawall.connectors.agent --signer file:keys/prod.pem --socket agent.sock --ledger agent.db \\
        --issuer risk/prod --environment prod
"""

import argparse
import base64
import json
import os
import socket
import socketserver
import sqlite3
import struct
import threading
from pathlib import Path
from typing import Any

import msgspec

from seawall.connectors.keys import AGENT_TIMEOUT_S, AgentRefusal, open_signer, receive_frame, send_frame
from seawall.schemas.errors import SeawallError, UsageError
from seawall.schemas.evidence import (
    DOCUMENTS,
    Command,
    Document,
    Malformed,
    Signer,
    State,
    pae,
    parse_strict,
    restricts,
)

_SCHEMA = "CREATE TABLE IF NOT EXISTS signed (place TEXT PRIMARY KEY, message BLOB, signature BLOB) WITHOUT ROWID"
_PEER = struct.Struct("3i")  # pid, uid, gid of SO_PEERCRED


class Agent:
    """The checks and the ledger before the key.

    Parameters
    ----------
    ledger
        What was signed; written and synced before a signature leaves.
    """

    def __init__(self, signer: Signer, ledger: Path, issuer: str, environment: str) -> None:
        self._signer, self._issuer, self._environment = signer, issuer, environment
        self._db = sqlite3.connect(ledger, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(_SCHEMA)
        self._lock = threading.Lock()

    def public_jwk(self) -> dict[str, str]:
        """Return the public key."""
        return self._signer.public_jwk()

    def sign(self, message: bytes) -> bytes:
        """Return the signature over a document's PAE; raise `AgentRefusal` for what must not be signed."""
        place = self._place(message)
        if place is None:
            return self._signer.sign(message)
        with self._lock:
            row = self._db.execute("SELECT message, signature FROM signed WHERE place = ?", (place,)).fetchone()
            if row is not None and row[0] != message:
                text = f"other bytes were signed for {place}; look who signed them"
                raise AgentRefusal(f"{text}, or after a loss that the epoch was raised for begin a new ledger")
            if row is not None:
                return bytes(row[1])
            signature = self._signer.sign(message)
            self._db.execute("INSERT INTO signed VALUES (?, ?, ?)", (place, message, signature))
        return signature

    def close(self) -> None:
        """Close the ledger."""
        self._db.close()

    def _place(self, message: bytes) -> str | None:
        """Return what can be signed only once, None for the probe of a signer's start."""
        payload_type, value = parse_pae(message)
        if (payload_type, value) == ("application/vnd.seawall.self-test", b"{}"):
            return None
        if payload_type not in DOCUMENTS:
            raise AgentRefusal(f"no document of type {payload_type[:80]!a} is signed here")
        try:
            document: Document = msgspec.convert(parse_strict(value), DOCUMENTS[payload_type], strict=True)
        except (Malformed, msgspec.ValidationError) as error:
            raise AgentRefusal(f"the document is malformed: {error}") from error
        if (document.iss, document.env) != (self._issuer, self._environment):
            raise AgentRefusal(f"the document is by {document.iss} for {document.env}, this agent is not")
        if not restricts(document):
            raise AgentRefusal("what loosens is signed by people, not by an agent")
        place = [type(document).__name__, document.iss, document.seq]
        if isinstance(document, State) and document.targets:
            place.append(str(document.targets[0].target))  # a large state is several documents of one seq
        if isinstance(document, Command):
            place = ["Command", document.iss, str(document.target), document.epoch, document.seq]
        return json.dumps(place)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    agent: Agent


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        connection: socket.socket = self.request
        connection.settimeout(AGENT_TIMEOUT_S)
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        if _PEER.unpack(peer)[1] not in (os.getuid(), 0):
            return
        assert isinstance(self.server, _Server)
        try:
            send_frame(connection, _answer(self.server.agent, receive_frame(connection)))
        except (OSError, ValueError):
            return  # the client left, or spoke something else


def serve(agent: Agent, path: Path) -> socketserver.ThreadingUnixStreamServer:
    """Return a server on the socket ``path``, listening, its mode 0600; the caller runs ``serve_forever``.

    Raises
    ------
    UsageError
        Another agent listens there, whose ledger keeps what was signed from being signed otherwise.
    """
    with socket.socket(socket.AF_UNIX) as other:
        if other.connect_ex(str(path)) == 0:
            raise UsageError(f"another signing agent listens at {path}; stop it, or name another --socket")
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        server = _Server(str(path), _Handler)
    finally:
        os.umask(before)
    server.agent = agent
    return server


def parse_pae(message: bytes) -> tuple[str, bytes]:
    """Return payload type and payload of a DSSE pre-authentication encoding; raise `AgentRefusal`."""
    parts = message.split(b" ", 2)
    try:
        length = int(parts[1])
        payload_type, _, rest = parts[2][:length].decode("ascii"), parts[2][length : length + 1], parts[2][length + 1 :]
        payload = rest.split(b" ", 1)[1]
    except (IndexError, ValueError) as error:
        raise AgentRefusal("the message is no DSSE encoding") from error
    if pae(payload_type, payload) != message:
        raise AgentRefusal("the message is no DSSE encoding")
    return payload_type, payload


def _answer(agent: Agent, request: Any) -> dict[str, Any]:
    try:
        if request.get("op") == "public":
            return {"jwk": agent.public_jwk()}
        signature = agent.sign(base64.b64decode(request["message"], validate=True))
        return {"signature": base64.b64encode(signature).decode()}
    except (SeawallError, AttributeError, KeyError, TypeError, ValueError) as error:
        return {"refused": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Run an agent until stopped."""
    parser = argparse.ArgumentParser(description="Run a signing agent on a Unix socket.")
    parser.add_argument("--signer", required=True, help="where the key is: file:, exec: or pkcs11:")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--environment", choices=["dev", "test", "prod"], required=True)
    arguments = parser.parse_args()
    signer = open_signer(arguments.signer, Path.cwd())
    agent = Agent(signer, arguments.ledger, arguments.issuer, arguments.environment)
    with serve(agent, arguments.socket) as server:
        print(signer.keyid, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
