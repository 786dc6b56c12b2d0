"""Transparency logs on disk, and the witnesses that cosign their checkpoints.

`LogFolder` holds the tiles and the latest checkpoint of one audit partition, readable by anybody. `Cosigner` asks
witnesses over HTTP (C2SP tlog-witness) once a checkpoint is stored, with a proof from the size that each cosigned last.
A witness that does not answer holds nothing up: the checkpoint is stored without its line, and the next one asks again
after a pause. Clocks decide here only when somebody is asked; no record depends on them.
"""

import errno
import functools
import http.client
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from seawall.connectors.bus import Bus
from seawall.connectors.files import write_atomically
from seawall.schemas.errors import CouldNotVerify, Divergence, SeawallError, UsageError
from seawall.schemas.evidence import decode_base64url
from seawall.schemas.transparency import (
    COSIGNATURE,
    REQUEST_BYTES_MAX,
    Checkpoint,
    CosignatureRequest,
    Note,
    NoteError,
    NoteKey,
    Tile,
    TileFile,
    WitnessRefusal,
    consistency_proof,
    tile_hashes,
)

# Logs on disk: the tiles and the latest checkpoint of an audit partition, readable by anybody's tools.
#
# Below ``tiles/audit/<partition>/`` stands a C2SP tlog-tiles log: ``tile/…`` and ``checkpoint``. Files are replaced
# whole and are on the disk before anything is said of them; a tile's bytes follow from its place, so writing one again
# changes nothing. `seawall.dataflows.seal` decides when.

CHECKPOINTS_TOPIC = "checkpoints"
CHECKPOINT_FILE = "checkpoint"
FILE_HINTS = {
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "free disk space, or have the quota raised",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
}


class LogFolder:
    """The files of one log.

    Parameters
    ----------
    path
        ``tiles/audit/<partition>`` of a run's folder.

    Raises
    ------
    SeawallError
        A file cannot be written: the disk is full, say. What was written before stands, and the next run goes on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, path: str) -> bytes:
        """Return a tile; the whole of it where the part that was asked for is no longer kept.

        Raises
        ------
        FileNotFoundError
            There is neither.
        """
        try:
            return (self.path / path).read_bytes()
        except FileNotFoundError:
            tile = Tile.parse(path)
            return tile.cut((self.path / tile.full.path).read_bytes())

    def write(self, files: Sequence[TileFile]) -> None:
        """Write tiles so that they outlast a loss of power; the parts of a full one, superfluous now, are removed."""
        if not files:
            return
        with self._errors_with_hints():
            targets = [self.path / path for path, _ in files]
            write_atomically([(target, data) for target, (_, data) in zip(targets, files, strict=True)])
            for target in targets:
                parts = target.with_name(target.name + ".p")
                if parts.is_dir():
                    for part in parts.iterdir():
                        part.unlink()
                    parts.rmdir()

    def publish(self, checkpoint: bytes) -> None:
        """Replace the latest checkpoint."""
        with self._errors_with_hints():
            write_atomically([(self.path / CHECKPOINT_FILE, checkpoint)])

    def has_tiles(self, size: int) -> bool:
        """Tell whether each tile of a log of ``size`` records is there, as long as it must be.

        Two questions to the file system for 256 records.
        """
        return all(map(self._has, Tile.of_log(size)))

    def _has(self, tile: Tile) -> bool:
        for path in dict.fromkeys((tile.full.path, tile.path)):
            try:
                length = (self.path / path).stat().st_size
            except OSError:
                continue
            return tile.is_held(length)
        return False

    def checkpoint(self) -> bytes | None:
        """Return the latest checkpoint as a signed note, None before the first."""
        target = self.path / CHECKPOINT_FILE
        return target.read_bytes() if target.exists() else None

    @contextmanager
    def _errors_with_hints(self) -> Iterator[None]:
        """Say where the system's error came from, and what to do about it."""
        try:
            yield
        except OSError as error:
            hint = FILE_HINTS.get(error.errno or 0, "look at the disk and at what is in the way")
            text = f"the log in {self.path} cannot be written ({error}); {hint}, and run again to continue"
            raise SeawallError(text) from error

    @classmethod
    def of_partition(cls, base: Path, partition: int) -> Self:
        """Return the log of an audit partition in a run's folder."""
        return cls(base / "tiles" / "audit" / str(partition))


def log_key(origin: str, jwk: dict[str, str]) -> NoteKey:
    """Return the key of a log from a sealer's public key; `UsageError` for any but Ed25519, which is all notes know."""
    if jwk.get("kty") != "OKP":
        raise UsageError(f"checkpoints are signed with Ed25519 only; the sealer's key {jwk.get('kid')} is another")
    return NoteKey.named(origin, decode_base64url(jwk["x"]))


def last_checkpoint(bus: Bus, partition: int) -> tuple[int, Checkpoint | None]:
    """Return how many checkpoints of a partition stand, and the last."""
    end = bus.end(CHECKPOINTS_TOPIC, partition)
    found = bus.read(CHECKPOINTS_TOPIC, partition, end - 1, 1) if end else []
    return end, Checkpoint.parse(Note.parse(found[0].value).text) if found else None


def is_log_stored(bus: Bus, base: Path, partition: int) -> bool:
    """Return whether audit and files of a log are there for what was sealed; where not, it is built from its start.

    A tile may be gone although its checkpoint stands, as where a disk forgot what it had.
    """
    _, sealed = last_checkpoint(bus, partition)
    folder = LogFolder.of_partition(base, partition)
    try:
        published = folder.checkpoint()
        size = None if published is None else Checkpoint.parse(Note.parse(published).text).size
    except (OSError, NoteError):
        return False
    if sealed is None:
        return size is None
    return size == sealed.size and bus.end("audit", partition) >= sealed.size and folder.has_tiles(sealed.size)


def check_all_sealed(bus: Bus, partition: int) -> None:
    """Raise `Divergence` where fewer audit records stand than were sealed, now that no more will come."""
    _, sealed = last_checkpoint(bus, partition)
    end = bus.end("audit", partition)
    if sealed is not None and end < sealed.size:
        text = f"audit/{partition} ends after {end} records, but {sealed.size} were sealed: the log was cut"
        raise Divergence(f"{text}; run all dataflows to derive it again, and run seawall verify")


# Client of a witness: asks for a cosignature over HTTP (C2SP tlog-witness).

TIMEOUT_S = 10
SHOWN_MAX = 200  # characters of an answer that is none


def request_cosignature(url: str, request: CosignatureRequest, witness: NoteKey) -> bytes:
    """Return the checkpoint with the witness's cosignature.

    Raises
    ------
    WitnessRefusal
        The witness refused; with ``size`` set, ask again with a proof from there.
    CouldNotVerify
        The witness could not be reached, or its answer could not be read: the checkpoint stands without it.
    """
    try:
        lines = _post_request(f"{url.rstrip('/')}/add-checkpoint", request.encode())
    except OSError as error:
        raise CouldNotVerify(f"the witness at {url} did not answer: {error}") from error
    except (http.client.HTTPException, ValueError) as error:
        text = f"the witness at {url} gave no answer that can be read ({repr(error)[:SHOWN_MAX]})"
        raise CouldNotVerify(f"{text}; check the address under witnesses") from error
    return request.merge(lines, [witness])


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    """Return what asks, as `urllib.request.urlopen` does, but follows no redirect: whom to ask is configured."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _post_request(target: str, body: bytes) -> bytes:
    """Return what answers; raise `WitnessRefusal` where the witness refuses, what the library does where none does."""
    try:
        with _opener().open(target, body, TIMEOUT_S) as answer:
            found: bytes = answer.read(REQUEST_BYTES_MAX)
            return found
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(4096).decode("utf-8", "replace").strip()
        if 300 <= error.code < 400:
            text = f"{target} redirects ({error.code}), which is not followed"
            raise CouldNotVerify(f"{text}; name the address itself under witnesses") from error
        sized = error.headers.get("Content-Type") == "text/x.tlog.size" and text.isdecimal()
        raise WitnessRefusal(error.code, text, int(text) if sized else None) from error


# Asking witnesses: what a sealer does once its checkpoint stands.

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
        self._sizes[witness] = Checkpoint.parse(Note.parse(checkpoint).text).size
        return answered

    def _request(self, witness: tuple[str, NoteKey], checkpoint: bytes) -> CosignatureRequest:
        old, size = self._sizes[witness], Checkpoint.parse(Note.parse(checkpoint).text).size
        if old > size:
            raise CouldNotVerify(f"it has seen {old} records, more than the {size} of this checkpoint")
        try:
            proof = consistency_proof(old, size, tile_hashes(self._read, size))
        except (OSError, ValueError) as error:
            raise CouldNotVerify(f"the tiles give no proof ({error}); run seawall verify") from error
        return CosignatureRequest(old, tuple(proof), checkpoint)


def parse_witness(text: str) -> tuple[str, NoteKey]:
    """Return address and key of ``URL VKEY``."""
    url, _, vkey = text.partition(" ")
    try:
        key = NoteKey.parse(vkey.strip())
    except NoteError as error:
        raise UsageError(f'witnesses: {text[:80]!r} is not "URL VKEY" ({error})') from error
    if key.type != COSIGNATURE or not url.startswith(("http://", "https://")):
        raise UsageError(f'witnesses: {text[:80]!r} is not "URL VKEY" of a witness (an http address, a key of type 4)')
    return url, key
