"""Rotation of key sets: only the holders of the present one, and those of the next, can change who is trusted.

Decides whether a new key set replaces the present one. TUF's rule for roots: the next version is exactly one higher,
names the SHA-256 of its predecessor, and is signed by the root threshold of the old set *and* by that of the new one.
Owners are counted, not keys: one person with two keys is one. A version in between may have expired, the last may not.

The first key set is pinned by its hash: nothing that travels can introduce it.

References
----------
TUF 1.0.34 §5.3 (update the root role), §6.1.
"""

from collections.abc import Iterable, Sequence

from seawall.schemas.dsse import pae
from seawall.schemas.errors import VerificationError
from seawall.schemas.evidence.keyset import PAYLOAD_TYPE, Key, KeySet, parse_keyset
from seawall.schemas.evidence.strict import Header, Malformed, Signature, parse_envelope

KEYSET_BYTES_MAX = 1 << 20


class RotationError(VerificationError):
    """The key set does not follow from the one that is trusted."""


def open_pinned(envelope: bytes, sha256: str) -> KeySet:
    """Return the first key set when it is the one whose SHA-256 was pinned, signed by its own root threshold."""
    header, value, keys = _read(envelope)
    if keys.sha256 != sha256:
        raise RotationError(f"the key set is {keys.sha256}, not the pinned {sha256}")
    _check_threshold(keys, header.signatures, value, "its own")
    return keys


def rotate(current: KeySet, envelope: bytes) -> KeySet:
    """Return the next key set, or raise `RotationError` and leave the present one in force."""
    header, value, following = _read(envelope)
    if following.version != current.version + 1:
        raise RotationError(f"version {following.version} does not follow version {current.version}")
    if following.document.prev_sha256 != current.sha256:
        raise RotationError(f"version {following.version} names another predecessor than {current.sha256}")
    if following.document.environment != current.document.environment:
        raise RotationError("a key set never changes its environment")
    _check_threshold(current, header.signatures, value, "the present")
    _check_threshold(following, header.signatures, value, "its own")
    _check_floors(current, following)
    return following


def follow(current: KeySet, envelopes: Iterable[bytes], now_us: int) -> KeySet:
    """Return the last key set of a chain, which must not have expired; versions up to the present one are skipped."""
    for envelope in envelopes:
        _, _, candidate = _read(envelope)
        if candidate.version > current.version:
            current = rotate(current, envelope)
    if current.document.exp_us < now_us:
        raise RotationError(f"key set version {current.version} has expired")
    return current


def owners_signing(keys: Sequence[Key], signatures: Sequence[Signature], message: bytes) -> set[str]:
    """Return the distinct owners among ``keys`` whose signature over the message is good."""
    by_kid = {key.kid: key for key in keys}
    owners: set[str] = set()
    for signature in signatures:
        key = by_kid.get(signature.keyid)
        if key is not None and key.owner not in owners and key.verifies(message, signature.sig):
            owners.add(key.owner)
    return owners


def _read(envelope: bytes) -> tuple[Header, bytes, KeySet]:
    if len(envelope) > KEYSET_BYTES_MAX:
        raise RotationError(f"a key set envelope is at most {KEYSET_BYTES_MAX} bytes")
    try:
        header, value = parse_envelope(envelope)
        if header.payload_type != PAYLOAD_TYPE:
            raise RotationError(f"the envelope holds a {header.payload_type[:80]}, not a key set")
        return header, value, parse_keyset(value)
    except Malformed as error:
        raise RotationError(str(error)) from error


def _check_threshold(keys: KeySet, signatures: Sequence[Signature], value: bytes, whose: str) -> None:
    roots = [key for key in keys.keys_with("root") if key.status == "active"]
    owners = owners_signing(roots, signatures, pae(PAYLOAD_TYPE, value))
    if len(owners) < keys.threshold("root"):
        raise RotationError(f"{len(owners)} of {keys.threshold('root')} owners of {whose} root keys signed")


def _check_floors(current: KeySet, following: KeySet) -> None:
    """Epoch floors and reset counters only rise: lowering one would let an old command in again.

    The exception is a reset, which starts an issuer's count anew: the way back after a thief has used up the epochs
    (TUF 1.0.34 §5.4, recovery from fast-forward).
    """
    before, after = current.document, following.document
    for issuer, count in before.reset_seq.items():
        if after.reset_seq.get(issuer, 0) < count:
            raise RotationError(f"the reset counter of {issuer} falls below {count}")
    for issuer, floor in before.epoch_floor.items():
        reset = after.reset_seq.get(issuer, 0) > before.reset_seq.get(issuer, 0)
        if not reset and following.epoch_floor(issuer) < floor:
            raise RotationError(f"the epoch floor of {issuer} falls below {floor}")
