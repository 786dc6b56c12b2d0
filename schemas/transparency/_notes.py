"""Signed notes, the checkpoints written in them, and the check of a witness before it cosigns one.

A note is a text and signature lines that a person can read and any language can check (C2SP signed-note). A checkpoint
states the size and root of a log (C2SP tlog-checkpoint); a proof shows that one record stands in it (C2SP tlog-proof).
A witness cosigns a checkpoint only where it extends the last one that it saw (C2SP tlog-witness, tlog-cosignature).
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from seawall.schemas.errors import VerificationError
from seawall.schemas.transparency._merkle import (
    EMPTY_ROOT,
    HASH_SIZE,
    SIZE_MAX,
    ProofError,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)

# Signed notes: a text and signature lines that a person can read and any language can check.
#
# Decides whether a text was signed by a key that we trust. Rules kept from C2SP signed-note: the text ends in a
# newline, no control characters, key names without spaces or ``+``; signatures by unknown keys are ignored; one false
# signature by a known key rejects the whole note. Cosignatures (C2SP tlog-cosignature v1) are signature lines of type
# 0x04 that carry the time at which a witness saw the text.
#
# Notes are signed with Ed25519 only: the specification assigns no other type that these tools would need, and the
# algorithm is part of the key id, so that a signature can never choose it.
#
# References
# ----------
# c2sp.org/signed-note, c2sp.org/tlog-cosignature, golang.org/x/mod/sumdb/note.

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
    """A public key that may sign notes; `NoteKey.parse` reads one, `vkey` writes it."""

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

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the key of ``name+hash+base64``; the hash is recomputed.

        Examples
        --------
        >>> NoteKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").name
        'PeterNeumann'
        """
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        data = decode_base64(encoded)
        if not _NAME.fullmatch(name) or len(data) != 33 or data[0] not in (ED25519, COSIGNATURE):
            raise NoteError(f"not the vkey of an Ed25519 key: {text[:80]!r}")
        key = cls(name, data[0], data[1:])
        if key.id.hex() != key_id:
            raise NoteError(f"the vkey of {name} names key id {key_id} but holds {key.id.hex()}")
        return key

    @classmethod
    def named(cls, name: str, public: bytes, type: int = ED25519) -> Self:
        """Return a raw public key under a name: type `ED25519` for a log, `COSIGNATURE` for a witness."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"a key name has no spaces and no plus sign: {name!r}")
        return cls(name, type, public)

    def sign(self, text: str, sign: Sign) -> "Note":
        """Return the text signed by this key, whose private half is behind ``sign``."""
        _check_text(text)
        return Note(text, (NoteSignature(self.name, self.id, sign(text.encode())),))

    def cosign(self, text: str, sign: Sign, time_s: int) -> "NoteSignature":
        """Return a cosignature/v1 line over a checkpoint's text: what this witness saw, and when (seconds)."""
        _check_text(text)
        if not 0 <= time_s < 1 << 63:
            raise ValueError(f"a cosignature time is 0 <= t < 2^63, not {time_s}")
        return NoteSignature(self.name, self.id, time_s.to_bytes(8, "big") + sign(cosigned_message(text, time_s)))


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: who, which key, and the bytes after the key id."""

    name: str
    key_id: bytes
    value: bytes

    def line(self) -> str:
        """Return the line as it stands in a note."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.value)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note as read. ``verified`` holds only what `Note.open` checked, and the time of each cosignature."""

    text: str
    signatures: tuple[NoteSignature, ...]
    verified: tuple[NoteKey, ...] = ()
    cosigned_at_s: tuple[tuple[NoteKey, int], ...] = ()

    def encode(self) -> bytes:
        """Return the note's bytes."""
        return (self.text + "\n" + "".join(signature.line() for signature in self.signatures)).encode()

    @classmethod
    def parse(cls, data: bytes) -> Self:
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
        return cls(text, tuple(_parse_signature(line) for line in lines))

    @classmethod
    def open(cls, data: bytes, keys: Iterable[NoteKey]) -> Self:
        """Return the note with the keys that signed it; `NoteError` when none of ``keys`` did, or one of them falsely.

        A key that signs twice counts once, by its first line.
        """
        note, known = cls.parse(data), {(key.name, key.id): key for key in keys}
        verified: list[NoteKey] = []
        times: list[tuple[NoteKey, int]] = []
        for signature in note.signatures:
            key = known.get((signature.name, signature.key_id))
            if key is None or key in verified:
                continue
            time_s = verify_note_signature(note.text, signature, key)
            verified.append(key)
            if time_s is not None:
                times.append((key, time_s))
        if not verified:
            raise NoteError("no known key signed the note")
        return replace(note, verified=tuple(verified), cosigned_at_s=tuple(times))


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


def cosigned_message(text: str, time_s: int) -> bytes:
    """Return the bytes under a cosignature/v1."""
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def verify_note_signature(text: str, signature: NoteSignature, key: NoteKey) -> int | None:
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


def _parse_signature(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not _NAME.fullmatch(name):
        raise NoteError(f"not a signature line: {line[:80]!r}")
    data = decode_base64(encoded)
    if len(data) < 5:
        raise NoteError(f"the signature of {name} is too short")
    return NoteSignature(name, data[:4], data[4:])


def _check_text(text: str) -> None:
    if not text.endswith("\n") or _CONTROL.search(text):
        raise NoteError("a note ends in a newline and has no control characters")


# Checkpoints and proofs: what a transparency log asserts, and how one record is proven to somebody offline.
#
# Decides whether a log signed a size and a root, whether enough witnesses saw the same, and whether a record is in it.
#
# - *checkpoint*: origin, size and root, a signed note;
# - *tlog-proof*: index, inclusion proof and checkpoint of one record in one file.
#
# References
# ----------
# c2sp.org/tlog-checkpoint, c2sp.org/tlog-proof.

_PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_PROOF_HASHES_MAX = 63
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Checkpoint of a log: it has so many records, with this root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        r"""Return the text that is signed.

        Examples
        --------
        >>> Checkpoint("example.com/log", 0, EMPTY_ROOT).text()
        'example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n'
        """
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the checkpoint of a note's text; extension lines are allowed and ignored."""
        lines = text.split("\n")
        if len(lines) < 4 or not lines[0] or not _DECIMAL.fullmatch(lines[1]) or "" in lines[:-1] or lines[-1]:
            raise NoteError("not a checkpoint: origin, size and root must stand on its first three lines")
        root, size = decode_base64(lines[2]), int(lines[1])
        if len(root) != HASH_SIZE or size >= SIZE_MAX or (size == 0 and root != EMPTY_ROOT):
            raise NoteError("not a checkpoint: the root does not fit the size")
        return cls(lines[0], size, root)


def open_checkpoint(
    data: bytes, origin: str, log_key: NoteKey, witnesses: Sequence[NoteKey] = (), witnesses_min: int = 0
) -> tuple[Checkpoint, Note]:
    """Return the checkpoint when the log signed it for this origin and enough of the witnesses cosigned it."""
    note = Note.open(data, [log_key, *witnesses])
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != origin:
        raise NoteError(f"the checkpoint is of {checkpoint.origin}, not of {origin}")
    if log_key not in note.verified:
        raise NoteError(f"the log key {log_key.name} did not sign the checkpoint")
    seen = {key.public for key in note.verified if key in witnesses}
    if len(seen) < witnesses_min:
        raise NoteError(f"{len(seen)} of at least {witnesses_min} witnesses cosigned the checkpoint")
    return checkpoint, note


@dataclass(frozen=True, slots=True)
class TlogProof:
    """Proof that one record is in a log, checked offline with public keys only. ``extra`` is not authenticated."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """Return the file's bytes."""
        extra = [] if self.extra is None else [f"extra {encode_base64(self.extra)}"]
        lines = [_PROOF_HEADER, *extra, f"index {self.index}", *map(encode_base64, self.hashes), "", ""]
        return "\n".join(lines).encode() + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the parts of a tlog-proof file, nothing verified; `NoteError` when it is malformed."""
        head, separator, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise NoteError("the proof's head is not ASCII") from error
        if not separator or lines.pop(0) != _PROOF_HEADER:
            raise NoteError(f"the proof does not begin with {_PROOF_HEADER}")
        extra = decode_base64(lines.pop(0)[6:]) if lines and lines[0].startswith("extra ") else None
        word, _, index = lines.pop(0).partition(" ") if lines else ("", "", "")
        if word != "index" or not _DECIMAL.fullmatch(index) or len(lines) > _PROOF_HASHES_MAX:
            raise NoteError("the proof has no index line, or too many hashes")
        return cls(int(index), tuple(map(decode_base64, lines)), checkpoint, extra)

    @classmethod
    def verify(
        cls,
        data: bytes,
        entry: bytes,
        origin: str,
        log_key: NoteKey,
        witnesses: Sequence[NoteKey] = (),
        witnesses_min: int = 0,
    ) -> Checkpoint:
        """Return the checkpoint under which ``entry`` is proven; `NoteError` or `ProofError` otherwise."""
        proof = cls.parse(data)
        checkpoint, _ = open_checkpoint(proof.checkpoint, origin, log_key, witnesses, witnesses_min)
        verify_inclusion(leaf_hash(entry), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
        return checkpoint


# Witnessing: whether a log's new checkpoint extends what this witness saw before.
#
# Decides on a C2SP tlog-witness ``add-checkpoint`` request. A witness that somebody else runs makes rewriting history
# visible: it cosigns a log's checkpoints only along one growing tree, so that two views cannot both be cosigned.
#
# The decision is pure; the caller reads the last size and root, decides and stores the new ones in one transaction,
# because of the race that the specification describes.
#
# References
# ----------
# c2sp.org/tlog-witness, c2sp.org/tlog-cosignature.

REQUEST_BYTES_MAX = 64 * 1024
_PROOF_LINES_MAX = 63
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class CosignatureRequest:
    """An ``add-checkpoint`` request as read; nothing verified."""

    old_size: int
    proof: tuple[bytes, ...]
    checkpoint: bytes

    def encode(self) -> bytes:
        """Return the request's body."""
        lines = [f"old {self.old_size}", *map(encode_base64, self.proof), "", ""]
        return "\n".join(lines).encode() + self.checkpoint

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Return the request's parts; a `WitnessRefusal` with 400 when it is malformed."""
        head, separator, checkpoint = body.partition(b"\n\n")
        try:
            first, *lines = head.decode("ascii").split("\n")
            match = _OLD.fullmatch(first)
            if not separator or match is None or len(lines) > _PROOF_LINES_MAX or len(body) > REQUEST_BYTES_MAX:
                raise NoteError("not an add-checkpoint request")
            return cls(int(match[1]), tuple(map(decode_base64, lines)), checkpoint)
        except (NoteError, UnicodeDecodeError) as error:
            raise WitnessRefusal(400, str(error)) from error

    def merge(self, lines: bytes, witnesses: Sequence[NoteKey]) -> bytes:
        """Return the checkpoint with those lines of an answer that are good cosignatures by known witnesses."""
        known = {(key.name, key.id) for key in witnesses}
        present = Note.parse(self.checkpoint)
        answered = Note.open(present.text.encode() + b"\n" + lines, witnesses)
        added = [line for line in answered.signatures if (line.name, line.key_id) in known]
        listed = {(line.name, line.key_id) for line in present.signatures}
        fresh = [line for line in added if (line.name, line.key_id) not in listed]
        return self.checkpoint + "".join(line.line() for line in fresh).encode()

    def check(
        self, logs: Mapping[str, Sequence[NoteKey]], last: Mapping[str, tuple[int, bytes]]
    ) -> tuple[Checkpoint, Note]:
        """Return the checkpoint that may be cosigned, or raise `WitnessRefusal`.

        Parameters
        ----------
        logs
            The keys trusted for each origin.
        last
            Size and root last cosigned, by origin; read in the transaction that will store the new ones.
        """
        checkpoint, note = _open_checkpoint(self, logs)
        if self.old_size > checkpoint.size:
            raise WitnessRefusal(400, "the old size exceeds the checkpoint's")
        size, root = last.get(checkpoint.origin, (0, b""))
        if self.old_size != size:
            raise WitnessRefusal(409, f"the last checkpoint that was cosigned has size {size}", size)
        if size == checkpoint.size and root and root != checkpoint.root:
            raise WitnessRefusal(409, "another root for the same size: keep both, they prove a split view", size)
        if size == 0:
            if self.proof:
                raise WitnessRefusal(422, "a proof from size 0 must be empty")
            return checkpoint, note
        try:
            verify_consistency(size, root, checkpoint.size, checkpoint.root, self.proof)
        except ProofError as error:
            raise WitnessRefusal(422, str(error)) from error
        return checkpoint, note


class WitnessRefusal(VerificationError):
    """The witness does not cosign; ``status`` is the HTTP status that the specification gives the reason."""

    def __init__(self, status: int, text: str, size: int | None = None) -> None:
        super().__init__(text)
        self.status, self.size = status, size


def _open_checkpoint(request: CosignatureRequest, logs: Mapping[str, Sequence[NoteKey]]) -> tuple[Checkpoint, Note]:
    try:
        checkpoint = Checkpoint.parse(Note.parse(request.checkpoint).text)
    except NoteError as error:
        raise WitnessRefusal(400, str(error)) from error
    if checkpoint.origin not in logs:
        raise WitnessRefusal(404, f"no log of this name: {checkpoint.origin[:80]}")
    try:
        return checkpoint, Note.open(request.checkpoint, logs[checkpoint.origin])
    except NoteError as error:
        raise WitnessRefusal(403, str(error)) from error
