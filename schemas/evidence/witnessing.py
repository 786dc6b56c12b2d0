"""Witnessing: whether a log's new checkpoint extends what this witness saw before.

Decides on a C2SP tlog-witness ``add-checkpoint`` request. A witness that somebody else runs makes rewriting history
visible: it cosigns a log's checkpoints only along one growing tree, so that two views cannot both be cosigned.

The decision is pure; the caller reads the last size and root, decides and stores the new ones in one transaction,
because of the race that the specification describes.

References
----------
c2sp.org/tlog-witness, c2sp.org/tlog-cosignature.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seawall.schemas.errors import VerificationError
from seawall.schemas.evidence.merkle import ProofError, verify_consistency
from seawall.schemas.evidence.note import (
    Note,
    NoteError,
    NoteKey,
    decode_base64,
    encode_base64,
    open_note,
    parse_note,
)
from seawall.schemas.evidence.tlog import Checkpoint, parse_checkpoint

REQUEST_BYTES_MAX = 64 * 1024
_PROOF_LINES_MAX = 63
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Request:
    """An ``add-checkpoint`` request as read; nothing verified."""

    old_size: int
    proof: tuple[bytes, ...]
    checkpoint: bytes

    def encode(self) -> bytes:
        """Return the request's body."""
        lines = [f"old {self.old_size}", *map(encode_base64, self.proof), "", ""]
        return "\n".join(lines).encode() + self.checkpoint


class WitnessRefusal(VerificationError):
    """The witness does not cosign; ``status`` is the HTTP status that the specification gives the reason."""

    def __init__(self, status: int, text: str, size: int | None = None) -> None:
        super().__init__(text)
        self.status, self.size = status, size


def parse_request(body: bytes) -> Request:
    """Return the request's parts; a `WitnessRefusal` with 400 when it is malformed."""
    head, separator, checkpoint = body.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
        match = _OLD.fullmatch(first)
        if not separator or match is None or len(lines) > _PROOF_LINES_MAX or len(body) > REQUEST_BYTES_MAX:
            raise NoteError("not an add-checkpoint request")
        return Request(int(match[1]), tuple(map(decode_base64, lines)), checkpoint)
    except (NoteError, UnicodeDecodeError) as error:
        raise WitnessRefusal(400, str(error)) from error


def check_request(
    request: Request, logs: Mapping[str, Sequence[NoteKey]], last: Mapping[str, tuple[int, bytes]]
) -> tuple[Checkpoint, Note]:
    """Return the checkpoint that may be cosigned, or raise `WitnessRefusal`.

    Parameters
    ----------
    logs
        The keys trusted for each origin.
    last
        Size and root last cosigned, by origin; read in the transaction that will store the new ones.
    """
    checkpoint, note = _open(request, logs)
    if request.old_size > checkpoint.size:
        raise WitnessRefusal(400, "the old size exceeds the checkpoint's")
    size, root = last.get(checkpoint.origin, (0, b""))
    if request.old_size != size:
        raise WitnessRefusal(409, f"the last checkpoint that was cosigned has size {size}", size)
    if size == checkpoint.size and root and root != checkpoint.root:
        raise WitnessRefusal(409, "another root for the same size: keep both, they prove a split view", size)
    if size == 0:
        if request.proof:
            raise WitnessRefusal(422, "a proof from size 0 must be empty")
        return checkpoint, note
    try:
        verify_consistency(size, root, checkpoint.size, checkpoint.root, request.proof)
    except ProofError as error:
        raise WitnessRefusal(422, str(error)) from error
    return checkpoint, note


def merge_cosignatures(checkpoint: bytes, lines: bytes, witnesses: Sequence[NoteKey]) -> bytes:
    """Return the checkpoint with those lines of a witness's answer that are good cosignatures by known witnesses."""
    known = {(key.name, key.id) for key in witnesses}
    answered = open_note(parse_note(checkpoint).text.encode() + b"\n" + lines, witnesses)
    added = [line for line in answered.signatures if (line.name, line.key_id) in known]
    present = {(line.name, line.key_id) for line in parse_note(checkpoint).signatures}
    fresh = [line for line in added if (line.name, line.key_id) not in present]
    return checkpoint + "".join(line.line() for line in fresh).encode()


def _open(request: Request, logs: Mapping[str, Sequence[NoteKey]]) -> tuple[Checkpoint, Note]:
    try:
        checkpoint = parse_checkpoint(parse_note(request.checkpoint).text)
    except NoteError as error:
        raise WitnessRefusal(400, str(error)) from error
    if checkpoint.origin not in logs:
        raise WitnessRefusal(404, f"no log of this name: {checkpoint.origin[:80]}")
    try:
        return checkpoint, open_note(request.checkpoint, logs[checkpoint.origin])
    except NoteError as error:
        raise WitnessRefusal(403, str(error)) from error
