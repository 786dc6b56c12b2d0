"""Asking witnesses: what a sealer does once its checkpoint stands.

Decides when a witness is asked, and with which proof: from the size that it cosigned last. A witness that does not
answer holds nothing up: the checkpoint stands without its line, and the next one asks again after a pause. Clocks
decide here only when somebody is asked; no record depends on it.
"""

import logging
import time
from collections.abc import Callable

from seawall.connectors.witness import request_cosignature
from seawall.schemas.errors import CouldNotVerify, UsageError
from seawall.schemas.evidence.merkle import consistency_proof
from seawall.schemas.evidence.note import COSIGNATURE, NoteError, NoteKey, parse_note, parse_vkey
from seawall.schemas.evidence.tiles import tile_hashes
from seawall.schemas.evidence.tlog import parse_checkpoint
from seawall.schemas.evidence.witnessing import Request, WitnessRefusal

log = logging.getLogger("seawall")
PAUSE_S = 1.0  # between two questions to one witness: its cosignatures are evidence, not part of the stream
PAUSE_AFTER_FAILURE_S = 60.0


class Cosigner:
    """Collects the cosignatures of one log's latest checkpoint.

    Parameters
    ----------
    read
        Returns a tile of the log.
    witnesses
        ``URL VKEY`` of each; `UsageError` where one is neither.
    """

    def __init__(self, read: Callable[[str], bytes], witnesses: tuple[str, ...]) -> None:
        self._read = read
        self._witnesses = [parse_witness(text) for text in witnesses]
        self._sizes = dict.fromkeys(self._witnesses, 0)
        self._ask_at = dict.fromkeys(self._witnesses, 0.0)

    def cosigned(self, checkpoint: bytes, last: bool = False) -> bytes:
        """Return the checkpoint with the lines of all witnesses that gave one; ``last`` asks without a pause."""
        for witness in self._witnesses:
            if last or time.monotonic() >= self._ask_at[witness]:
                checkpoint = self._ask(witness, checkpoint)
        return checkpoint

    def _ask(self, witness: tuple[str, NoteKey], checkpoint: bytes) -> bytes:
        url, key = witness
        self._ask_at[witness] = time.monotonic() + PAUSE_S
        try:
            try:
                answered = request_cosignature(url, self._request(witness, checkpoint), key)
            except WitnessRefusal as refusal:
                if refusal.size is None or refusal.size == self._sizes[witness]:
                    raise
                self._sizes[witness] = refusal.size  # what it saw before this process began
                answered = request_cosignature(url, self._request(witness, checkpoint), key)
        except (WitnessRefusal, CouldNotVerify, NoteError) as error:
            self._ask_at[witness] = time.monotonic() + PAUSE_AFTER_FAILURE_S
            log.warning("the checkpoint stands without the witness %s: %s", key.name, error)
            return checkpoint
        self._sizes[witness] = parse_checkpoint(parse_note(checkpoint).text).size
        return answered

    def _request(self, witness: tuple[str, NoteKey], checkpoint: bytes) -> Request:
        old, size = self._sizes[witness], parse_checkpoint(parse_note(checkpoint).text).size
        if old > size:
            raise CouldNotVerify(f"it has seen {old} records, more than the {size} of this checkpoint")
        try:
            proof = consistency_proof(old, size, tile_hashes(self._read, size))
        except (OSError, ValueError) as error:
            raise CouldNotVerify(f"the tiles give no proof ({error}); run seawall verify") from error
        return Request(old, tuple(proof), checkpoint)


def parse_witness(text: str) -> tuple[str, NoteKey]:
    """Return address and key of ``URL VKEY``."""
    url, _, vkey = text.partition(" ")
    try:
        key = parse_vkey(vkey.strip())
    except NoteError as error:
        raise UsageError(f'witnesses: {text[:80]!r} is not "URL VKEY" ({error})') from error
    if key.type != COSIGNATURE or not url.startswith(("http://", "https://")):
        raise UsageError(f'witnesses: {text[:80]!r} is not "URL VKEY" of a witness (an http address, a key of type 4)')
    return url, key
