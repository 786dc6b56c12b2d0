"""Envelopes: strict JSON, and detached signatures over it (DSSE v1.0.2).

The value on a topic stays plain JSON; its envelope travels in the header ``dsse``. Anything that two parsers could
understand differently (a name that stands twice, a number that is no safe integer, a depth beyond ``DEPTH_MAX``) is
refused before a signature is looked at. Signatures are Ed25519, or ES256 where a key store has no Ed25519.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn, Protocol

import msgspec
import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from seawall.schemas.errors import VerificationError

# Signed documents read strictly: what two parsers could understand differently is refused.
#
# Decides what a signed JSON document and the ``dsse`` header beside it say. Rules: UTF-8 without byte order mark, one
# object, no name twice in any object, integers below 2^53 in magnitude and no other numbers (decimals are strings), no
# lone surrogates, bounded depth; base64 canonical; at most 16 signatures.
#
# References
# ----------
# RFC 8259 §4 and §6 on names and numbers; DSSE v1.0.2 envelope; Bishop Fox's survey of 49 JSON parsers that differ.

INTEGER_MAX = (1 << 53) - 1
DEPTH_MAX = 32
SIGNATURES_MAX = 16


class Malformed(ValueError):
    """The bytes are not a document of this kind; the message says what is wrong."""


class DuplicateName(Malformed):
    """An object has one name twice, and parsers disagree on which one counts."""


class Signature(NamedTuple):
    """One signature of an envelope. ``keyid`` is a hint for looking the key up and decides nothing."""

    keyid: str
    sig: bytes


class Header(NamedTuple):
    """The detached envelope: everything of DSSE but the payload."""

    payload_type: str
    signatures: tuple[Signature, ...]


def parse_strict(value: bytes) -> dict[str, Any]:
    """Return the object in ``value``; raise `Malformed` or `DuplicateName`.

    Examples
    --------
    >>> parse_strict(b'{"a": 1}')
    {'a': 1}
    """
    try:
        text = value.decode("utf-8")
        # msgspec is the stricter grammar (no NaN, no bare control characters); json tells names apart and keeps order.
        msgspec.json.decode(value)
        document = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_no_number, parse_constant=_no_number
        )
        text.encode("utf-8")
    except Malformed:
        raise
    except (ValueError, RecursionError, msgspec.DecodeError) as error:
        raise Malformed(f"not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise Malformed("not a JSON object")
    _check_tree(document, DEPTH_MAX)
    return document


def parse_header(text: bytes) -> Header:
    """Return the header's parts; unknown fields are ignored, as DSSE asks; an unset keyid is an empty one."""
    document = parse_strict(text)
    payload_type, listed = document.get("payloadType"), document.get("signatures")
    if not isinstance(payload_type, str) or not isinstance(listed, list):
        raise Malformed("the envelope has no payloadType or no signatures")
    if not 1 <= len(listed) <= SIGNATURES_MAX:
        raise Malformed(f"the envelope has {len(listed)} signatures, of 1 to {SIGNATURES_MAX}")
    return Header(payload_type, tuple(_signature(item) for item in listed))


def parse_envelope(text: bytes) -> tuple[Header, bytes]:
    """Return header and payload of a whole DSSE envelope, the form in files and archives."""
    payload = parse_strict(text).get("payload")
    if not isinstance(payload, str):
        raise Malformed("the envelope has no payload")
    return parse_header(text), decode_base64(payload)


def decode_base64(text: str) -> bytes:
    """Return the bytes of canonical base64, standard or URL-safe (DSSE takes both), always padded."""
    standard = text.replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(standard.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise Malformed(f"not base64: {text[:60]!r}") from error
    if base64.b64encode(data).decode() != standard:
        raise Malformed(f"base64 is not canonical: {text[:60]!r}")
    return data


def _signature(item: Any) -> Signature:
    if not isinstance(item, dict):
        raise Malformed("a signature is not an object")
    keyid, sig = item.get("keyid") or "", item.get("sig")
    if not isinstance(keyid, str) or not isinstance(sig, str):
        raise Malformed("a signature has no sig, or a keyid that is not text")
    return Signature(keyid, decode_base64(sig))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise DuplicateName("an object has one name twice")
    return document


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > INTEGER_MAX:
        raise Malformed(f"the integer {text[:40]} is beyond 2^53")
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise Malformed(f"the number {text[:40]} is not an integer; decimals are strings")


def _check_tree(item: Any, depth: int) -> None:
    if depth < 0:
        raise Malformed(f"nested deeper than {DEPTH_MAX}")
    if isinstance(item, dict):
        for name, child in item.items():
            _check_tree(name, depth)
            _check_tree(child, depth - 1)
    elif isinstance(item, list):
        for child in item:
            _check_tree(child, depth - 1)
    elif isinstance(item, str) and not item.isascii():
        try:
            item.encode("utf-8")
        except UnicodeEncodeError as error:
            raise Malformed("a string has a lone surrogate") from error


# DSSE v1.0.2, detached: the value on a topic stays plain JSON, its envelope travels in the header ``dsse``.
#
# Signed bytes are ``PAE(payloadType, value)``. The algorithm belongs to the key, never to the message; the key id is
# only a hint for finding the key; a threshold counts distinct keys. Keys are JWKs, their ids RFC 7638 thumbprints.
# Envelopes are read as strictly as subscribers read them (`evidence.strict`): what one of them refuses is not verified
# here.

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


def sign_payload(signer: Signer, payload_type: str, value: bytes) -> str:
    """Return the detached envelope of a value, as the text of the header ``dsse``."""
    signature = base64.b64encode(signer.sign(pae(payload_type, value))).decode()
    envelope = {"payloadType": payload_type, "signatures": [{"keyid": signer.keyid, "sig": signature}]}
    return orjson.dumps(envelope).decode()


def verify_envelope(
    value: bytes, envelope: str, keys: Mapping[str, PublicKey], payload_type: str, threshold: int = 1
) -> bytes:
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


def envelope_key_ids(envelope: str) -> list[str]:
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


def encode_base64url(raw: bytes) -> str:
    """Return URL-safe base64 without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the RFC 7638 thumbprint of a JWK: SHA-256 over its required members in lexical order."""
    members = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}[jwk["kty"]]
    return encode_base64url(hashlib.sha256(orjson.dumps({name: jwk[name] for name in members})).digest())


def public_jwk(raw: bytes) -> dict[str, str]:
    """Return the JWK of a raw Ed25519 public key (RFC 8037), with ``kid``, ``alg`` and ``use``."""
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(raw)}
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
    if encode_base64url(raw) != jwk[name]:
        raise ValueError(f"{name} is not canonical base64url")
    if len(raw) != 32:
        raise ValueError(f"{name} has {len(raw)} bytes instead of 32")
    return raw
