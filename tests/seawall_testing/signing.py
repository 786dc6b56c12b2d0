"""Signed documents for tests: keys, key sets, commands, limit documents, and a subscriber that records their effects.

Keys follow from the names of their holders, so the bytes never change.
"""

import base64
import hashlib
import json
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from msgspec import to_builtins

from seawall.connectors.keys import SEALER_KEYS_FILE, new_key
from seawall.connectors.subscriber import TRADING_MODE
from seawall.schemas.evidence import (
    COMMAND,
    LIMIT_DOCUMENT_TYPE,
    STATE,
    AcceptancePolicy,
    Command,
    InForce,
    KeySet,
    LimitDocument,
    Signer,
    _key_sets,
    encode_base64url,
    pae,
    thumbprint,
)
from seawall.schemas.evidence._documents import HEARTBEAT
from seawall_testing.desk import SECOND, T0, Json

# Keys, key sets and signed documents for tests: everything derived from names, so that bytes never change.

NOW_US = 1_763_688_000_000_000
HOUR_US = 3_600_000_000
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SIGNED = (COMMAND, STATE, HEARTBEAT)


@dataclass(frozen=True)
class Holder:
    """A key and whose it is; the private key follows from the name."""

    name: str
    owner: str = ""
    alg: str = "Ed25519"

    @property
    def seed(self) -> bytes:
        return hashlib.sha256(self.name.encode()).digest()

    @property
    def private(self) -> Any:
        if self.alg == "Ed25519":
            return ed25519.Ed25519PrivateKey.from_private_bytes(self.seed)
        return ec.derive_private_key(int.from_bytes(self.seed, "big") % P256_ORDER, ec.SECP256R1())

    def jwk(self) -> dict[str, str]:
        if self.alg == "Ed25519":
            raw = self.private.public_key().public_bytes_raw()
            return {"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(raw)}
        numbers = self.private.public_key().public_numbers()
        x, y = (encode_base64url(value.to_bytes(32, "big")) for value in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}

    @property
    def kid(self) -> str:
        return thumbprint(self.jwk())

    def sign(self, message: bytes) -> bytes:
        if self.alg == "Ed25519":
            return self.private.sign(message)
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def entry(self, *roles: str, types: tuple[str, ...] = SIGNED, **changes: Any) -> dict[str, Any]:
        """The key as it stands in a key set."""
        entry = {
            **self.jwk(), "alg": self.alg, "use": "sig", "kid": self.kid,
            "owner": self.owner or self.name, "roles": list(roles), "types": list(types), "status": "active",
            "nbf_us": NOW_US - HOUR_US, "exp_us": NOW_US + 1000 * HOUR_US,
        }  # fmt: skip
        return entry | changes


ISSUER = Holder("issuer", "risk engine")
STANDBY = Holder("standby", "risk engine", "ES256")
MAKER, CHECKER = Holder("maker", "ada"), Holder("checker", "bob")
CHECKER_OF_MAKER = Holder("second key of ada", "ada")
ROOTS = [Holder(f"root {name}", name) for name in ("ada", "bob", "cleo")]


def entries() -> list[dict[str, Any]]:
    """The keys of the usual key set."""
    people = [MAKER.entry("maker", types=(COMMAND,)), CHECKER.entry("checker", types=(COMMAND,))]
    people.append(CHECKER_OF_MAKER.entry("checker", types=(COMMAND,)))
    return [ISSUER.entry("issuer"), STANDBY.entry("issuer"), *people, *(root.entry("root", types=()) for root in ROOTS)]


def keyset_document(**changes: Any) -> dict[str, Any]:
    """The usual key set: one issuer and its standby, two people, three roots of which two must sign."""
    document = {
        "v": 1, "version": 1, "prev_sha256": None, "environment": "prod", "iat_us": NOW_US - HOUR_US,
        "exp_us": NOW_US + 1000 * HOUR_US, "keys": entries(), "thresholds": {"root": 2, "permissive": 2},
    }  # fmt: skip
    return document | changes


def encode(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def keys(**changes: Any) -> KeySet:
    return KeySet.parse(encode(keyset_document(**changes)))


def signatures(payload_type: str, value: bytes, signers: list[Holder]) -> list[dict[str, str]]:
    message = pae(payload_type, value)
    return [{"keyid": s.kid, "sig": base64.b64encode(s.sign(message)).decode()} for s in signers]


def header(value: bytes, signers: list[Holder], payload_type: str = COMMAND) -> bytes:
    """The ``dsse`` header of a value."""
    return encode({"payloadType": payload_type, "signatures": signatures(payload_type, value, signers)})


def envelope(value: bytes, signers: list[Holder], payload_type: str = _key_sets.KEY_SET_TYPE) -> bytes:
    """The whole DSSE envelope, as in files."""
    payload = base64.b64encode(value).decode()
    return encode(
        {"payload": payload, "payloadType": payload_type, "signatures": signatures(payload_type, value, signers)}
    )


def command_id(target: str, epoch: int, seq: int) -> str:
    return hashlib.sha256(f"{target} {epoch} {seq}".encode()).hexdigest()


def command(
    kind: str = "HALT_TRADING", seq: int = 1, epoch: int = 1, target: str = "desk:eq-eu", **changes: Any
) -> dict[str, Any]:
    """One command with every field; ``prev_id`` is that of the one before it."""
    scope, _, name = target.partition(":")
    document = {
        "v": 1, "type": kind, "id": command_id(target, epoch, seq), "iss": "risk/prod", "aud": ["oms"], "env": "prod",
        "target": {"scope": scope, "id": name}, "epoch": epoch, "seq": seq,
        "prev_id": command_id(target, epoch, seq - 1) if seq > 1 else None, "supersedes": None, "iat_us": NOW_US,
        "nbf_us": NOW_US, "exp_us": NOW_US + 60_000_000, "effect_until_us": None, "action": {},
        "reason": {"rule": "gross_notional", "observed": "125000000.25", "bound": "120000000"},
        "policy": {"version": 12, "sha256": "0" * 64}, "evidence": {"id": "0-17-1", "causes": []},
    }  # fmt: skip
    return document | changes


def record(
    document: dict[str, Any] | bytes, *signers: Holder, payload_type: str = COMMAND
) -> tuple[bytes, list[tuple[str, bytes]]]:
    """A signed record as it arrives: value and headers."""
    value = document if isinstance(document, bytes) else encode(document)
    return value, [("dsse", header(value, list(signers) or [ISSUER], payload_type))]


def people() -> tuple[Holder, Holder]:
    return MAKER, CHECKER


def state(seq: int, *targets: dict[str, Any], **changes: Any) -> dict[str, Any]:
    document = {
        "v": 1, "iss": "risk/prod", "aud": ["*"], "env": "prod", "seq": seq, "iat_us": NOW_US, "nbf_us": NOW_US,
        "exp_us": NOW_US + 60_000_000, "prev_sha256": None, "targets": list(targets),
    }  # fmt: skip
    return document | changes


def heartbeat(seq: int, now_us: int = NOW_US, **changes: Any) -> dict[str, Any]:
    document = {
        "v": 1, "iss": "risk/prod", "aud": ["*"], "env": "prod", "seq": seq, "iat_us": now_us, "nbf_us": now_us,
        "exp_us": now_us + 5_000_000, "state_sha256": None,
    }  # fmt: skip
    return document | changes


POLICY = AcceptancePolicy("oms", "prod", ("risk/prod",))


# Signed limit documents and the key set of the people who sign them, for tests.

FOREVER = (1 << 53) - 1
CLERK = Holder("clerk", "cleo")
COVER: Json = {"id": "cover", "scope": "account:*", "measure": "gross_notional", "soft": 100.5, "hard": 500.0}


def limit_key_set_bytes(environment: str = "prod", **changes: Any) -> bytes:
    """Return a key set with a maker, a checker, the maker's second key, one without a role here, and three roots."""
    window = {"nbf_us": 0, "exp_us": FOREVER, "types": (LIMIT_DOCUMENT_TYPE,)}
    people = [MAKER.entry("maker", **window), CHECKER.entry("checker", **window)]
    people += [CHECKER_OF_MAKER.entry("checker", **window), CLERK.entry("witness", **window)]
    roots = [root.entry("root", **{**window, "types": ()}) for root in ROOTS]
    fields = {"keys": people + roots, "environment": environment, "exp_us": FOREVER, "iat_us": 0}
    return encode(keyset_document(**{**fields, **changes}))


def limit_key_set(**changes: Any) -> KeySet:
    return KeySet.parse(limit_key_set_bytes(**changes))


def key_set_entry(signer: Signer, role: str, types: tuple[str, ...] = ()) -> Json:
    """Return a key set's entry for a signer."""
    window = {"nbf_us": 0, "exp_us": FOREVER, "status": "active"}
    return {**signer.public_jwk(), "owner": role, "roles": [role], "types": list(types), **window}


def write_key_set(path: Path, environment: str = "prod", more: tuple[Json, ...] = ()) -> str:
    """Write a key set file, with further entries; return the hash to pin."""
    people = KeySet.parse(limit_key_set_bytes(environment)).document.keys
    listed = [to_builtins(key) for key in people]
    listed = [{name: value for name, value in entry.items() if value is not None} for entry in listed]
    value = limit_key_set_bytes(environment, keys=[*listed, *more])
    path.write_bytes(envelope(value, ROOTS[:2]) + b"\n")
    return KeySet.parse(value).sha256


def make_desk_keys(desk: Path) -> None:
    """Make the keys of a prod desk, which its key set then names as issuer and sealer."""
    folder = desk.parent
    issuer, sealer = new_key(folder / "keys" / "prod.pem"), new_key(folder / "keys" / "sealer.pem", SEALER_KEYS_FILE)
    pinned = write_key_set(
        folder / "keyset.jsonl", more=(key_set_entry(issuer, "issuer", SIGNED), key_set_entry(sealer, "sealer"))
    )
    desk.write_text(re.sub(r'set_sha256 = "\w+"', f'set_sha256 = "{pinned}"', desk.read_text()))


def limit_document(version: int = 1, prev: str | None = None, **changes: Any) -> bytes:
    """Return the bytes of a document that sets one limit on every account."""
    document = {
        "v": 1, "iss": "risk/prod", "env": "prod", "version": version, "prev_sha256": prev, "iat_us": T0,
        "valid_from_us": 0, "valid_to_us": T0 + 10_000 * SECOND, "reason": "calibration", "comment": "first limits",
        "set": [COVER], "remove": [], "override": [],
    }  # fmt: skip
    return LimitDocument.encode({**document, **changes})


def signed_limit_document(value: bytes, *signers: Holder) -> Json:
    """Return the envelope of a document signed by these people."""
    return LimitDocument.envelope(value, signatures(LIMIT_DOCUMENT_TYPE, value, list(signers)))


def limit_document_sha256(value: bytes) -> str:
    return LimitDocument.parse(value).sha256


def limit_event(at_us: int, envelope: Json) -> Json:
    return {"type": "limit", "event_time_us": at_us, "document": envelope}


def tampered(envelope: Json, **changes: Any) -> Json:
    """Return an envelope whose payload says something else under the same signatures."""
    payload = json.loads(base64.b64decode(envelope["payload"]))
    return {**envelope, "payload": base64.b64encode(json.dumps({**payload, **changes}).encode()).decode()}


# A desk that records what commands do to it, in memory and, where it has a table, in the transaction.


class RecordingEffects:
    """Effects for tests: ``done`` lists command ids, ``mode`` the rung each target stands on."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.mode: dict[str, int] = {}
        self.settings: dict[str, str] = {}
        self.safe = False

    def apply(self, transaction: sqlite3.Connection, command: Command) -> None:
        self.done.append(command.id)
        self._set(str(command.target), command.type, command.action)

    def restore(self, transaction: sqlite3.Connection, target: str, in_force: InForce) -> None:
        self.done.append(in_force.id)
        self._set(target, in_force.type, in_force.action)

    def set_safe_state(self, transaction: sqlite3.Connection, active: bool, why: str) -> None:
        self.safe = active

    def _set(self, target: str, kind: str, action: dict) -> None:
        if kind in TRADING_MODE:
            self.mode[target] = max(TRADING_MODE[kind], self.mode.get(target, 0))
        elif kind == "REINSTATE":
            self.mode[target] = 0
        else:
            self.settings[f"{target} {kind}"] = json.dumps(action)
