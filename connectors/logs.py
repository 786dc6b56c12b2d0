"""Logs on disk: the tiles and the latest checkpoint of an audit partition, readable by anybody's tools.

Below ``tiles/audit/<partition>/`` stands a C2SP tlog-tiles log: ``tile/…`` and ``checkpoint``. Files are replaced
whole and are on the disk before anything is said of them; a tile's bytes follow from its place, so writing one again
changes nothing. `seawall.dataflows.logs` decides when.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from seawall.connectors.bus import Bus
from seawall.connectors.whole_files import write_whole
from seawall.schemas.errors import Divergence, SeawallError, UsageError
from seawall.schemas.evidence.keyset import decode_base64url
from seawall.schemas.evidence.merkle import HASH_SIZE
from seawall.schemas.evidence.note import NoteError, NoteKey, note_key, parse_note
from seawall.schemas.evidence.tiles import ENTRIES, File, parse_tile_path, tile_path, tiles_of
from seawall.schemas.evidence.tlog import Checkpoint, parse_checkpoint

TOPIC = "checkpoints"
CHECKPOINT = "checkpoint"
HINTS = {
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
            level, number, width = parse_tile_path(path)
            whole = (self.path / tile_path(level, number)).read_bytes()
            return whole[: width * 32] if isinstance(level, int) else whole

    def write(self, files: Sequence[File]) -> None:
        """Write tiles so that they outlast a loss of power; the parts of a full one, superfluous now, are removed."""
        if not files:
            return
        with self._told():
            targets = [self.path / path for path, _ in files]
            write_whole([(target, data) for target, (_, data) in zip(targets, files, strict=True)])
            for target in targets:
                parts = target.with_name(target.name + ".p")
                if parts.is_dir():
                    for part in parts.iterdir():
                        part.unlink()
                    parts.rmdir()

    def publish(self, checkpoint: bytes) -> None:
        """Replace the latest checkpoint."""
        with self._told():
            write_whole([(self.path / CHECKPOINT, checkpoint)])

    def has_tiles(self, size: int) -> bool:
        """Tell whether each tile of a log of ``size`` records is there, as long as it must be.

        Two questions to the file system for 256 records.
        """
        return all(self._has(level, number, width) for level, number, width in tiles_of(size))

    def _has(self, level: int | str, number: int, width: int) -> bool:
        for path in dict.fromkeys((tile_path(level, number), tile_path(level, number, width))):
            try:
                length = (self.path / path).stat().st_size
            except OSError:
                continue
            return length > width if level == ENTRIES else length >= width * HASH_SIZE
        return False

    def checkpoint(self) -> bytes | None:
        """Return the latest checkpoint as a signed note, None before the first."""
        target = self.path / CHECKPOINT
        return target.read_bytes() if target.exists() else None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say where the system's error came from, and what to do about it."""
        try:
            yield
        except OSError as error:
            hint = HINTS.get(error.errno or 0, "look at the disk and at what is in the way")
            text = f"the log in {self.path} cannot be written ({error}); {hint}, and run again to continue"
            raise SeawallError(text) from error


def log_folder(base: Path, partition: int) -> LogFolder:
    """Return the log of an audit partition in a run's folder."""
    return LogFolder(base / "tiles" / "audit" / str(partition))


def log_key(origin: str, jwk: dict[str, str]) -> NoteKey:
    """Return the key of a log from a sealer's public key; `UsageError` for any but Ed25519, which is all notes know."""
    if jwk.get("kty") != "OKP":
        raise UsageError(f"checkpoints are signed with Ed25519 only; the sealer's key {jwk.get('kid')} is another")
    return note_key(origin, decode_base64url(jwk["x"]))


def last_checkpoint(bus: Bus, partition: int) -> tuple[int, Checkpoint | None]:
    """Return how many checkpoints of a partition stand, and the last."""
    end = bus.end(TOPIC, partition)
    found = bus.read(TOPIC, partition, end - 1, 1) if end else []
    return end, parse_checkpoint(parse_note(found[0].value).text) if found else None


def is_standing(bus: Bus, base: Path, partition: int) -> bool:
    """Return whether audit and files of a log are there for what was sealed; where not, it is built from its start.

    A tile may be gone although its checkpoint stands, as where a disk forgot what it had.
    """
    _, sealed = last_checkpoint(bus, partition)
    folder = log_folder(base, partition)
    try:
        published = folder.checkpoint()
        size = None if published is None else parse_checkpoint(parse_note(published).text).size
    except (OSError, NoteError):
        return False
    if sealed is None:
        return size is None
    return size == sealed.size and bus.end("audit", partition) >= sealed.size and folder.has_tiles(sealed.size)


def check_whole(bus: Bus, partition: int) -> None:
    """Raise `Divergence` where fewer audit records stand than were sealed, now that no more will come."""
    _, sealed = last_checkpoint(bus, partition)
    end = bus.end("audit", partition)
    if sealed is not None and end < sealed.size:
        text = f"audit/{partition} ends after {end} records, but {sealed.size} were sealed: the log was cut"
        raise Divergence(f"{text}; run all dataflows to derive it again, and run seawall verify")
