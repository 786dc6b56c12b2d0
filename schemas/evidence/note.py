"""Signed notes: a text and signature lines that a person can read and any language can check.

Decides whether a text was signed by a key that we trust. Rules kept from C2SP signed-note: the text ends in a newline,
no control characters, key names without spaces or ``+``; signatures by unknown keys are ignored; one false signature by
a known key rejects the whole note. Cosignatures (C2SP tlog-cosignature v1) are signature lines of type 0x04 that carry
the time at which a witness saw the text.

Notes are signed with Ed25519 only: the specification assigns no other type that these tools would need, and the
algorithm is part of the key id, so that a signature can never choose it.

References
----------
c2sp.org/signed-note, c2sp.org/tlog-cosignature, golang.org/x/mod/sumdb/note.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from seawall.schemas.errors import VerificationError

ED25519 = 0x01
COSIGNATURE = 0x04
NOTE_BYTES_MAX = 1_000_000
SIGNATURES_MAX = 100  # the specification asks for at least 16; golang.org/x/mod accepts 100
_DASH = "— "

Sign = Callable[[bytes], bytes]
"""Returns the Ed25519 signature of a message: a signer's ``sign``, wherever its key lies."""
_NAME = re.compile(r"[^\s+]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteError(VerificationError):
    """The note is malformed, or not signed as the caller asks."""


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key that may sign notes; `parse_vkey` reads one, `vkey` writes it."""

    name: str
    type: int
    public: bytes

    @property
    def id(self) -> bytes:
        """The four bytes that stand before each signature: ``SHA-256(name || 0x0A || type || key)[:4]``."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        """The key as one line of text."""
        return f"{self.name}+{self.id.hex()}+{encode_base64(bytes([self.type]) + self.public)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: who, which key, and the bytes after the key id."""

    name: str
    key_id: bytes
    value: bytes

    def line(self) -> str:
        """Return the line as it stands in a note."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.value)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note as read. ``verified`` holds only what `open_note` checked, and the time of each cosignature."""

    text: str
    signatures: tuple[Signature, ...]
    verified: tuple[NoteKey, ...] = ()
    cosigned_at_s: tuple[tuple[NoteKey, int], ...] = ()

    def encode(self) -> bytes:
        """Return the note's bytes."""
        return (self.text + "\n" + "".join(signature.line() for signature in self.signatures)).encode()


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding."""
    return base64.b64encode(data).decode()


def decode_base64(text: str) -> bytes:
    """Return the bytes of canonical standard base64; any other spelling is a `NoteError`."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise NoteError(f"not base64: {text[:60]!r}") from error
    if encode_base64(data) != text:
        raise NoteError(f"base64 is not canonical: {text[:60]!r}")
    return data


def parse_vkey(text: str) -> NoteKey:
    """Return the key of ``name+hash+base64``; the hash is recomputed.

    Examples
    --------
    >>> parse_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").name
    'PeterNeumann'
    """
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    data = decode_base64(encoded)
    if not _NAME.fullmatch(name) or len(data) != 33 or data[0] not in (ED25519, COSIGNATURE):
        raise NoteError(f"not the vkey of an Ed25519 key: {text[:80]!r}")
    key = NoteKey(name, data[0], data[1:])
    if key.id.hex() != key_id:
        raise NoteError(f"the vkey of {name} names key id {key_id} but holds {key.id.hex()}")
    return key


def note_key(name: str, public: bytes, type: int = ED25519) -> NoteKey:
    """Return a raw public key under a name: type `ED25519` for a log, `COSIGNATURE` for a witness."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a key name has no spaces and no plus sign: {name!r}")
    return NoteKey(name, type, public)


def sign_note(text: str, key: NoteKey, sign: Sign) -> Note:
    """Return the text signed by this key, whose private half is behind ``sign``."""
    _check_text(text)
    return Note(text, (Signature(key.name, key.id, sign(text.encode())),))


def cosign(text: str, key: NoteKey, sign: Sign, time_s: int) -> Signature:
    """Return a cosignature/v1 line over a checkpoint's text: what this witness saw, and when (seconds)."""
    _check_text(text)
    if not 0 <= time_s < 1 << 63:
        raise ValueError(f"a cosignature time is 0 <= t < 2^63, not {time_s}")
    return Signature(key.name, key.id, time_s.to_bytes(8, "big") + sign(cosigned_message(text, time_s)))


def cosigned_message(text: str, time_s: int) -> bytes:
    """Return the bytes under a cosignature/v1."""
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def parse_note(data: bytes) -> Note:
    """Return the note's parts, nothing verified."""
    if len(data) > NOTE_BYTES_MAX:
        raise NoteError(f"the note exceeds {NOTE_BYTES_MAX} bytes")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteError("the note is not UTF-8") from error
    head, separator, tail = whole.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise NoteError("the note has no signature block after its last empty line")
    text = head + "\n"
    _check_text(whole)
    lines = tail[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise NoteError(f"the note has more than {SIGNATURES_MAX} signatures")
    return Note(text, tuple(_parse_signature(line) for line in lines))


def open_note(data: bytes, keys: Iterable[NoteKey]) -> Note:
    """Return the note with the keys that signed it; `NoteError` when none of ``keys`` did, or one of them falsely.

    A key that signs twice counts once, by its first line.
    """
    note, known = parse_note(data), {(key.name, key.id): key for key in keys}
    verified: list[NoteKey] = []
    times: list[tuple[NoteKey, int]] = []
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None or key in verified:
            continue
        time_s = verify_signature(note.text, signature, key)
        verified.append(key)
        if time_s is not None:
            times.append((key, time_s))
    if not verified:
        raise NoteError("no known key signed the note")
    return replace(note, verified=tuple(verified), cosigned_at_s=tuple(times))


def verify_signature(text: str, signature: Signature, key: NoteKey) -> int | None:
    """Return the time of a cosignature, ``None`` for a plain signature; raise `NoteError` when it is false."""
    message, value, time_s = text.encode(), signature.value, None
    if key.type == COSIGNATURE:
        time_s, value = int.from_bytes(value[:8], "big"), value[8:]
        if time_s >= 1 << 63:
            raise NoteError(f"the cosignature of {key.name} has an impossible time")
        message = cosigned_message(text, time_s)
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(value, message)
    except (InvalidSignature, ValueError) as error:
        raise NoteError(f"false signature of {key.name}+{key.id.hex()}") from error
    return time_s


def _parse_signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not _NAME.fullmatch(name):
        raise NoteError(f"not a signature line: {line[:80]!r}")
    data = decode_base64(encoded)
    if len(data) < 5:
        raise NoteError(f"the signature of {name} is too short")
    return Signature(name, data[:4], data[4:])


def _check_text(text: str) -> None:
    if not text.endswith("\n") or _CONTROL.search(text):
        raise NoteError("a note ends in a newline and has no control characters")
