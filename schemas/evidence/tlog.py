"""Checkpoints and proofs: what a transparency log asserts, and how one record is proven to somebody offline.

Decides whether a log signed a size and a root, whether enough witnesses saw the same, and whether a record is in it.

- *checkpoint*: origin, size and root, a signed note;
- *tlog-proof*: index, inclusion proof and checkpoint of one record in one file.

References
----------
c2sp.org/tlog-checkpoint, c2sp.org/tlog-proof.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from seawall.schemas.evidence.merkle import EMPTY_ROOT, HASH_SIZE, SIZE_MAX, leaf_hash, verify_inclusion
from seawall.schemas.evidence.note import Note, NoteError, NoteKey, decode_base64, encode_base64, open_note

_PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_PROOF_HASHES_MAX = 63
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log asserts: so many records, with this root."""

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


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint of a note's text; extension lines are allowed and ignored."""
    lines = text.split("\n")
    if len(lines) < 4 or not lines[0] or not _DECIMAL.fullmatch(lines[1]) or "" in lines[:-1] or lines[-1]:
        raise NoteError("not a checkpoint: origin, size and root must stand on its first three lines")
    root, size = decode_base64(lines[2]), int(lines[1])
    if len(root) != HASH_SIZE or size >= SIZE_MAX or (size == 0 and root != EMPTY_ROOT):
        raise NoteError("not a checkpoint: the root does not fit the size")
    return Checkpoint(lines[0], size, root)


def open_checkpoint(
    data: bytes, origin: str, log_key: NoteKey, witnesses: Sequence[NoteKey] = (), witnesses_min: int = 0
) -> tuple[Checkpoint, Note]:
    """Return the checkpoint when the log signed it for this origin and enough of the witnesses cosigned it."""
    note = open_note(data, [log_key, *witnesses])
    checkpoint = parse_checkpoint(note.text)
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
    """That one record is in a log, checkable offline with public keys only. ``extra`` is not authenticated."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """Return the file's bytes."""
        extra = [] if self.extra is None else [f"extra {encode_base64(self.extra)}"]
        lines = [_PROOF_HEADER, *extra, f"index {self.index}", *map(encode_base64, self.hashes), "", ""]
        return "\n".join(lines).encode() + self.checkpoint


def parse_proof(data: bytes) -> TlogProof:
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
    return TlogProof(int(index), tuple(map(decode_base64, lines)), checkpoint, extra)


def verify_proof(
    data: bytes, entry: bytes, origin: str, log_key: NoteKey, witnesses: Sequence[NoteKey] = (), witnesses_min: int = 0
) -> Checkpoint:
    """Return the checkpoint under which ``entry`` is proven; `NoteError` or `ProofError` otherwise."""
    proof = parse_proof(data)
    checkpoint, _ = open_checkpoint(proof.checkpoint, origin, log_key, witnesses, witnesses_min)
    verify_inclusion(leaf_hash(entry), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return checkpoint
