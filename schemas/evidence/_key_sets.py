"""Key sets: the rights of each key (type, environment, issuer, validity), and their rotation.

A key set is a signed document itself. The first one is pinned by its hash; each next one counts only with the
signatures of the root owners of the set before it and of its own.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from seawall.schemas.errors import VerificationError
from seawall.schemas.evidence._envelopes import (
    INTEGER_MAX,
    Header,
    Malformed,
    Signature,
    encode_base64url,
    pae,
    parse_envelope,
    parse_strict,
    thumbprint,
)

# Key sets: which key may sign what, where, for whom and until when.
#
# Decides whether a key speaks with authority. A key set is a JSON Web Key Set with our fields beside each key, signed
# as one document (`rotation` says by whom). The algorithm belongs to the key: Ed25519, or ES256 for key stores that
# lack it; a message never chooses. ``kid`` is the key's RFC 7638 thumbprint and is recomputed on reading.
#
# Status says what may still be done with a key:
#
# - ``active``: signs and verifies inside its validity window;
# - ``verify-only``: verifies inside its window, and no signer starts with it: a key announced, or being retired;
# - ``revoked``: verifies nothing new; ``revoked_after`` names the log positions up to which what it signed stays good.
#   Positions, not a time: a thief chooses the times that he signs, but not what was sealed before.
#
# References
# ----------
# RFC 7517, 7518 §3.4, 7638, 8037; Tink's key status; TUF 1.0.34 §6.1 (thresholds count distinct holders).

KEY_SET_TYPE = "application/vnd.seawall.keyset.v1+json"
KEYS_MAX = 1024
Role = Literal["issuer", "maker", "checker", "sealer", "witness", "root"]
Status = Literal["active", "verify-only", "revoked"]
Microseconds = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]
Count = Annotated[int, msgspec.Meta(ge=1, le=INTEGER_MAX)]
_P = 2**255 - 19
_Y8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL_ORDER_Y = {0, 1, _P - 1, _Y8, _P - _Y8}  # the points of order 1, 2, 4 and 8: some signatures verify for any text


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place in a log: the first ``size`` leaves of ``origin``."""

    origin: str
    size: Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key of the set: a JWK and what it may do. Patterns are a name, ``*``, or a prefix and ``*``."""

    kty: Literal["OKP", "EC"]
    crv: Literal["Ed25519", "P-256"]
    x: str
    y: str | None = None
    alg: Literal["Ed25519", "ES256"]
    use: Literal["sig"]
    kid: str
    owner: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    roles: tuple[Role, ...]
    types: tuple[str, ...]
    issuers: tuple[str, ...] = ("*",)
    targets: tuple[str, ...] = ("*",)
    status: Status
    nbf_us: Microseconds
    exp_us: Microseconds
    revoked_after: tuple[Position, ...] | None = None

    def covers(self, role: Role, payload_type: str) -> bool:
        """Return whether the key has this role for documents of this type."""
        return role in self.roles and payload_type in self.types

    def speaks_for(self, issuer: str, target: str | None = None) -> bool:
        """Return whether the key may speak as this issuer, and to this target."""
        return matches_pattern(self.issuers, issuer) and (target is None or matches_pattern(self.targets, target))

    def valid_at(self, now_us: int, skew_us: int = 0) -> bool:
        """Return whether the validity window is open at this time."""
        return self.nbf_us - skew_us <= now_us <= self.exp_us + skew_us

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Return whether the signature over these bytes is this key's."""
        return verify_signature(self.alg, self.public_bytes(), message, signature)

    def jwk(self) -> dict[str, str]:
        """Return the public key alone, as a JWK."""
        found = {name: getattr(self, name) for name in ("kty", "crv", "x", "y", "kid", "alg", "use")}
        return {name: value for name, value in found.items() if value is not None}

    def public_bytes(self) -> bytes:
        """Return the raw public key: 32 bytes for Ed25519, x and y for P-256."""
        return decode_base64url(self.x) + (decode_base64url(self.y) if self.y is not None else b"")


class KeySetDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The signed document, field by field."""

    v: Literal[1]
    version: Count
    prev_sha256: str | None
    environment: Literal["dev", "test", "prod"]
    iat_us: Microseconds
    exp_us: Microseconds
    keys: Annotated[tuple[Key, ...], msgspec.Meta(max_length=KEYS_MAX)]
    thresholds: dict[Literal["root", "permissive"], Count]
    epoch_floor: dict[str, Count] = {}
    reset_seq: dict[str, Count] = {}


@dataclass(frozen=True, slots=True)
class KeySet:
    """A key set as read from its exact bytes; ``sha256`` is what the next version names as its predecessor."""

    document: KeySetDocument
    sha256: str
    by_kid: Mapping[str, Key]

    @property
    def version(self) -> int:
        """The version, counted from 1 without gaps."""
        return self.document.version

    def threshold(self, of: Literal["root", "permissive"]) -> int:
        """Return how many different owners must sign; two where nothing is said."""
        return self.document.thresholds.get(of, 2)

    def keys_with(self, role: Role) -> list[Key]:
        """Return the keys that have a role and are not revoked."""
        return [key for key in self.document.keys if role in key.roles and key.status != "revoked"]

    def epoch_floor(self, issuer: str) -> int:
        """Return the lowest epoch that an issuer may still use."""
        return self.document.epoch_floor.get(issuer, 1)

    def jwks(self) -> dict[str, Any]:
        """Return the public keys alone, all that a foreign verifier needs."""
        return {"keys": [key.jwk() for key in self.document.keys if key.status != "revoked"]}

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Return the key set in these bytes, its signatures not yet verified; raise `Malformed`."""
        try:
            document = msgspec.convert(parse_strict(value), KeySetDocument, strict=True)
        except msgspec.ValidationError as error:
            raise Malformed(f"not a key set: {error}") from error
        by_kid = {key.kid: key for key in document.keys}
        if len(by_kid) != len(document.keys):
            raise Malformed("a key stands in the key set twice")
        for key in document.keys:
            _check_key(key)
        if _unreachable(document):
            raise Malformed("fewer owners hold root keys than the root threshold asks for")
        return cls(document, hashlib.sha256(value).hexdigest(), by_kid)

    @classmethod
    def of_issuers(cls, jwks: Mapping[str, Any], environment: Literal["dev", "test"]) -> Self:
        """Return a key set in which every key of a plain JWKS is an issuer: for trying things out, never for ``prod``.

        Nobody vouches for such a set, nothing in it can loosen, and it never expires.
        """
        types = tuple(f"application/vnd.seawall.{kind}.v1+json" for kind in ("command", "state", "heartbeat"))
        rights = {
            "owner": "dev",
            "roles": ["issuer"],
            "types": types,
            "status": "active",
            "nbf_us": 0,
            "exp_us": INTEGER_MAX,
        }
        names = ("kty", "crv", "x", "y", "alg", "use", "kid")
        listed = [{name: jwk[name] for name in names if name in jwk} | rights for jwk in jwks["keys"]]
        keys = tuple(msgspec.convert(entry, Key) for entry in listed)
        for key in keys:
            _check_key(key)
        document = KeySetDocument(
            v=1,
            version=1,
            prev_sha256=None,
            environment=environment,
            iat_us=0,
            exp_us=INTEGER_MAX,
            keys=keys,
            thresholds={},
        )
        return cls(document, "", {key.kid: key for key in keys})

    @classmethod
    def open_pinned(cls, envelope: bytes, sha256: str) -> "KeySet":
        """Return the first key set when it is the one whose SHA-256 was pinned, signed by its own root threshold."""
        header, value, keys = _read_key_set(envelope)
        if keys.sha256 != sha256:
            raise RotationError(f"the key set is {keys.sha256}, not the pinned {sha256}")
        _check_threshold(keys, header.signatures, value, "its own")
        return keys

    def rotate(self, envelope: bytes) -> "KeySet":
        """Return the next key set, or raise `RotationError` and leave the present one in force."""
        header, value, successor = _read_key_set(envelope)
        if successor.version != self.version + 1:
            raise RotationError(f"version {successor.version} does not follow version {self.version}")
        if successor.document.prev_sha256 != self.sha256:
            raise RotationError(f"version {successor.version} names another predecessor than {self.sha256}")
        if successor.document.environment != self.document.environment:
            raise RotationError("a key set never changes its environment")
        _check_threshold(self, header.signatures, value, "the present")
        _check_threshold(successor, header.signatures, value, "its own")
        _check_floors(self, successor)
        return successor


def verify_signature(alg: str, public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether a raw signature (64 bytes for both algorithms) over the message is by this raw public key."""
    if len(signature) != 64:
        return False
    try:
        if alg == "Ed25519":
            ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        else:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public)
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            point.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def matches_pattern(patterns: tuple[str, ...], name: str) -> bool:
    """Return whether one of the patterns is the name, ``*``, or a prefix of it that ends in ``*``."""
    return any(p == name or (p.endswith("*") and name.startswith(p[:-1])) for p in patterns)


def decode_base64url(text: str) -> bytes:
    """Return the bytes of canonical unpadded URL-safe base64; raise `Malformed`."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise Malformed(f"not base64url: {text[:60]!r}") from error
    if encode_base64url(data) != text:
        raise Malformed(f"base64url is not canonical: {text[:60]!r}")
    return data


def _unreachable(document: KeySetDocument) -> bool:
    owners = {key.owner for key in document.keys if "root" in key.roles and key.status == "active"}
    return len(owners) < document.thresholds.get("root", 2)


def _check_key(key: Key) -> None:
    """Raise unless the key is of the curve that it says, of full order, and named by its thumbprint."""
    if (key.kty, key.crv, key.y is None) not in (("OKP", "Ed25519", True), ("EC", "P-256", False)):
        raise Malformed(f"key {key.kid}: kty, crv and coordinates do not fit")
    if key.alg != {"OKP": "Ed25519", "EC": "ES256"}[key.kty]:
        raise Malformed(f"key {key.kid}: {key.alg} is not the algorithm of a {key.kty} key")
    public = key.public_bytes()
    if len(public) != (32 if key.kty == "OKP" else 64):
        raise Malformed(f"key {key.kid}: the public key has {len(public)} bytes")
    if key.kty == "OKP":
        y = int.from_bytes(public, "little") & ((1 << 255) - 1)
        if y >= _P or y in _SMALL_ORDER_Y:
            raise Malformed(f"key {key.kid}: of small order, or not canonical")
    else:
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public)
        except ValueError as error:
            raise Malformed(f"key {key.kid}: not a point of P-256") from error
    if thumbprint({"kty": key.kty, "crv": key.crv, "x": key.x, "y": key.y or ""}) != key.kid:
        raise Malformed(f"key {key.kid}: the kid is not the key's thumbprint")
    if (key.status == "revoked") != (key.revoked_after is not None):
        raise Malformed(f"key {key.kid}: revoked_after and the status revoked go together")


# Rotation of key sets: only the holders of the present one, and those of the next, can change who is trusted.
#
# Decides whether a new key set replaces the present one. TUF's rule for roots: the next version is exactly one higher,
# names the SHA-256 of its predecessor, and is signed by the root threshold of the old set *and* by that of the new one.
# Owners are counted, not keys: one person with two keys is one. A version in between may have expired, the last may
# not.
#
# The first key set is pinned by its hash: nothing that travels can introduce it.
#
# References
# ----------
# TUF 1.0.34 §5.3 (update the root role), §6.1.

KEY_SET_BYTES_MAX = 1 << 20


class RotationError(VerificationError):
    """The key set does not follow from the one that is trusted."""


def owners_signing(keys: Sequence[Key], signatures: Sequence[Signature], message: bytes) -> set[str]:
    """Return the distinct owners among ``keys`` whose signature over the message is good."""
    by_kid = {key.kid: key for key in keys}
    owners: set[str] = set()
    for signature in signatures:
        key = by_kid.get(signature.keyid)
        if key is not None and key.owner not in owners and key.verifies(message, signature.sig):
            owners.add(key.owner)
    return owners


def _read_key_set(envelope: bytes) -> tuple[Header, bytes, KeySet]:
    if len(envelope) > KEY_SET_BYTES_MAX:
        raise RotationError(f"a key set envelope is at most {KEY_SET_BYTES_MAX} bytes")
    try:
        header, value = parse_envelope(envelope)
        if header.payload_type != KEY_SET_TYPE:
            raise RotationError(f"the envelope holds a {header.payload_type[:80]}, not a key set")
        return header, value, KeySet.parse(value)
    except Malformed as error:
        raise RotationError(str(error)) from error


def _check_threshold(keys: KeySet, signatures: Sequence[Signature], value: bytes, whose: str) -> None:
    roots = [key for key in keys.keys_with("root") if key.status == "active"]
    owners = owners_signing(roots, signatures, pae(KEY_SET_TYPE, value))
    if len(owners) < keys.threshold("root"):
        raise RotationError(f"{len(owners)} of {keys.threshold('root')} owners of {whose} root keys signed")


def _check_floors(current: KeySet, successor: KeySet) -> None:
    """Epoch floors and reset counters only rise: lowering one would let an old command in again.

    The exception is a reset, which starts an issuer's count anew: the way back after a thief has used up the epochs
    (TUF 1.0.34 §5.4, recovery from fast-forward).
    """
    before, after = current.document, successor.document
    for issuer, count in before.reset_seq.items():
        if after.reset_seq.get(issuer, 0) < count:
            raise RotationError(f"the reset counter of {issuer} falls below {count}")
    for issuer, floor in before.epoch_floor.items():
        reset = after.reset_seq.get(issuer, 0) > before.reset_seq.get(issuer, 0)
        if not reset and successor.epoch_floor(issuer) < floor:
            raise RotationError(f"the epoch floor of {issuer} falls below {floor}")
