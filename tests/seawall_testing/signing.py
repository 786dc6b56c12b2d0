"""Keys, key sets and signed documents for tests: everything derived from names, so that bytes never change."""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from seawall.schemas.dsse import b64url, pae, thumbprint
from seawall.schemas.evidence import keyset
from seawall.schemas.evidence.acceptance import Policy
from seawall.schemas.evidence.documents import COMMAND, HEARTBEAT, STATE
from seawall.schemas.evidence.keyset import KeySet, parse_keyset

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
            return {"kty": "OKP", "crv": "Ed25519", "x": b64url(raw)}
        numbers = self.private.public_key().public_numbers()
        x, y = (b64url(value.to_bytes(32, "big")) for value in (numbers.x, numbers.y))
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
    return parse_keyset(encode(keyset_document(**changes)))


def signatures(payload_type: str, value: bytes, signers: list[Holder]) -> list[dict[str, str]]:
    message = pae(payload_type, value)
    return [{"keyid": s.kid, "sig": base64.b64encode(s.sign(message)).decode()} for s in signers]


def header(value: bytes, signers: list[Holder], payload_type: str = COMMAND) -> bytes:
    """The ``dsse`` header of a value."""
    return encode({"payloadType": payload_type, "signatures": signatures(payload_type, value, signers)})


def envelope(value: bytes, signers: list[Holder], payload_type: str = keyset.PAYLOAD_TYPE) -> bytes:
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


POLICY = Policy("oms", "prod", ("risk/prod",))
