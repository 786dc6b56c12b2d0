"""DSSE v1.0.2, detached: the value on a topic stays plain JSON, its envelope travels in the header ``dsse``.

Signed bytes are ``PAE(payloadType, value)``. The algorithm belongs to the key, never to the message; the key id is only
a hint for finding the key; a threshold counts distinct keys. Keys are JWKs, their ids RFC 7638 thumbprints. Envelopes
are read as strictly as subscribers read them (`evidence.strict`): what one of them refuses is not verified here.
"""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from seawall.schemas.errors import VerificationError
from seawall.schemas.evidence.strict import Header, Malformed, parse_header

COMMAND_TYPE = "application/vnd.seawall.command.v1+json"
COMMAND_BYTES_MAX = 4096
ENVELOPE_BYTES_MAX = 16 * 1024


class Signer(Protocol):
    """A private key, wherever it lies."""

    keyid: str
    alg: str

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""

    def public_jwk(self) -> dict[str, str]:
        """Return the public key as a JWK with its ``kid``."""


class PublicKey(Protocol):
    """A public key, whatever its algorithm."""

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raise ``InvalidSignature`` unless the signature over the data is this key's."""


class Es256Key:
    """A P-256 key whose signatures are 64 raw bytes (RFC 7518 §3.4), for key stores without Ed25519."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raise ``InvalidSignature`` unless the signature over the data is this key's."""
        if len(signature) != 64:
            raise InvalidSignature
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        self._key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))


def pae(payload_type: str, body: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding of a typed body."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def sign(signer: Signer, payload_type: str, value: bytes) -> str:
    """Return the detached envelope of a value, as the text of the header ``dsse``."""
    signature = base64.b64encode(signer.sign(pae(payload_type, value))).decode()
    envelope = {"payloadType": payload_type, "signatures": [{"keyid": signer.keyid, "sig": signature}]}
    return orjson.dumps(envelope).decode()


def verify(value: bytes, envelope: str, keys: Mapping[str, PublicKey], payload_type: str, threshold: int = 1) -> bytes:
    """Return ``value`` when ``threshold`` distinct known keys signed exactly these bytes as ``payload_type``.

    Parameters
    ----------
    keys
        Public keys by key id, of those that may sign this type.

    Raises
    ------
    VerificationError
        The envelope is malformed, of another type, or too few of its signatures are good.
    """
    header = _header(envelope)
    if header.payload_type != payload_type:
        raise VerificationError(f"the envelope is for {header.payload_type!r}, not {payload_type!r}")
    message = pae(payload_type, value)
    good: set[str] = set()
    for keyid, signature in header.signatures:
        key = keys.get(keyid)
        if key is None:
            continue
        try:
            key.verify(signature, message)
        except InvalidSignature as error:
            raise VerificationError(f"the signature by key {keyid} does not fit the value") from error
        good.add(keyid)
    if len(good) < threshold:
        raise VerificationError(f"{len(good)} of {threshold} needed signatures are by known keys")
    return value


def key_ids(envelope: str) -> list[str]:
    """Return the key ids that an envelope names; none where it cannot be read."""
    try:
        return [signature.keyid for signature in _header(envelope).signatures]
    except VerificationError:
        return []


def _header(envelope: str) -> Header:
    """Return the parts of an envelope, read as subscribers read it."""
    text = envelope.encode(errors="surrogatepass")
    if len(text) > ENVELOPE_BYTES_MAX:
        raise VerificationError(f"the envelope exceeds {ENVELOPE_BYTES_MAX} bytes")
    try:
        return parse_header(text)
    except Malformed as error:
        raise VerificationError(f"the envelope is malformed: {error}") from error


# --- keys as JWK ----------------------------------------------------------------------------------------------------


def b64url(raw: bytes) -> str:
    """Return URL-safe base64 without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the RFC 7638 thumbprint of a JWK: SHA-256 over its required members in lexical order."""
    members = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}[jwk["kty"]]
    return b64url(hashlib.sha256(orjson.dumps({name: jwk[name] for name in members})).digest())


def public_jwk(raw: bytes) -> dict[str, str]:
    """Return the JWK of a raw Ed25519 public key (RFC 8037), with ``kid``, ``alg`` and ``use``."""
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64url(raw)}
    return {**jwk, "kid": thumbprint(jwk), "alg": "Ed25519", "use": "sig"}


def public_keys(jwks: Mapping[str, Any]) -> dict[str, PublicKey]:
    """Return the Ed25519 and ES256 keys of a JWKS by key id.

    Raises
    ------
    VerificationError
        A key is malformed, or its ``kid`` is not its thumbprint.
    """
    listed = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(listed, list):
        raise VerificationError('a key set is an object with a list "keys"')
    found: dict[str, PublicKey] = {}
    for jwk in listed:
        try:
            key, kid = _public_key(jwk), thumbprint(jwk)
        except (KeyError, TypeError, ValueError) as error:
            raise VerificationError(f"a public key is malformed: {error}") from error
        if jwk.get("kid", kid) != kid:
            raise VerificationError(f"key {jwk['kid']} does not have its own thumbprint {kid} as id")
        found[kid] = key
    return found


def _public_key(jwk: Mapping[str, str]) -> PublicKey:
    """Return the key of a JWK whose members all say the same.

    The 32 bytes of an X25519 key would load as well, and a second spelling of the same bytes has another thumbprint:
    one person's key would count twice towards a threshold.
    """
    kind = (jwk["kty"], jwk["crv"], jwk.get("alg"))
    if kind in {("OKP", "Ed25519", alg) for alg in ("Ed25519", "EdDSA", None)}:
        return Ed25519PublicKey.from_public_bytes(_coordinate(jwk, "x"))
    if kind in {("EC", "P-256", alg) for alg in ("ES256", None)}:
        point = b"\x04" + _coordinate(jwk, "x") + _coordinate(jwk, "y")
        return Es256Key(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))
    raise ValueError("only Ed25519 (kty OKP) and ES256 (kty EC, P-256) keys are known")


def _coordinate(jwk: Mapping[str, str], name: str) -> bytes:
    raw = base64.urlsafe_b64decode(jwk[name] + "=" * (-len(jwk[name]) % 4))
    if b64url(raw) != jwk[name]:
        raise ValueError(f"{name} is not canonical base64url")
    if len(raw) != 32:
        raise ValueError(f"{name} has {len(raw)} bytes instead of 32")
    return raw
