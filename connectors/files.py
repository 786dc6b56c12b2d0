"""Files: bounded inputs, atomic writes, and locks of partitions.

- `Lines` reads ``.jsonl`` and ``.jsonl.gz`` line by line; every line has a position from which reading can resume.
- `write_atomically` writes several files whole or not at all, so that they outlast a loss of power: contents first,
  names last.
- `lock_partition` lets one process of a host write a partition; the lock is the operating system's and dies with its
  process.
"""

import fcntl
import gzip
import hashlib
import os
import secrets
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, cast

from seawall.schemas.errors import BusError, PartitionLocked, UsageError

# Bounded files: the lines of ``.jsonl`` and ``.jsonl.gz``, with the place of each, resumable at any line.
#
# A line is what stands between two line feeds; the last one needs none. Empty lines are counted and skipped. A line
# over 256 KiB is never held whole: its first 64 KiB, its length and its SHA-256 are kept, so memory is bounded by the
# chunk. Offsets count uncompressed bytes.

CHUNK_BYTES = 1 << 18
LINE_BYTES_MAX = 256 * 1024
HEAD_BYTES = 64 * 1024


class Oversize(NamedTuple):
    """A line over the limit: its first bytes, its length and the SHA-256 of all of it."""

    head: bytes
    bytes: int
    sha256: str


Line = tuple[int, int, bytes | Oversize]
"""Number from 1, offset of the byte after it, content without the line feed."""


class Lines:
    """Reads a file's lines in chunks.

    Parameters
    ----------
    path
        A file; one that ends in ``.gz`` is decompressed.
    line, offset
        Where to begin: the number of the next line and the offset of its first byte.

    Raises
    ------
    UsageError
        The path is no readable file, or is shorter than ``offset``.
    """

    def __init__(self, path: Path, line: int = 1, offset: int = 0) -> None:
        self._path = path
        self._line, self._offset = line, offset
        self._rest = b""
        self._long: tuple[bytes, int, hashlib._Hash] | None = None
        try:
            self._file = _open(path)
            self._seek()
        except FileNotFoundError:
            raise UsageError(f"{path} does not exist; correct [inputs] events") from None
        except (OSError, EOFError, zlib.error) as error:
            raise self._unreadable(error) from None

    def read(self) -> list[Line]:
        """Return the lines of the next chunk, empty lines left out; an empty list only at the end of the file."""
        while True:
            chunk = self._chunk()
            if not chunk:
                return self._last()
            lines = self._split(chunk)
            if lines:
                return lines

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _seek(self) -> None:
        """Go to the offset; a line that ended with the file is over even where a line feed was appended since."""
        if self._offset == 0:
            return
        self._file.seek(self._offset - 1)
        before = self._file.read(1)
        if not before:
            raise UsageError(
                f"{self._path} is shorter than what was read from it before; restore it, inputs may only grow"
            )
        if before != b"\n":
            next_byte = self._file.read(1)
            if next_byte == b"\n":
                self._offset += 1
            else:
                self._rest = next_byte

    def _chunk(self) -> bytes:
        try:
            return self._file.read(CHUNK_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> UsageError:
        reason = getattr(error, "strerror", None) or str(error)
        return UsageError(f"{self._path} cannot be read: {reason}; correct [inputs] events")

    def _split(self, chunk: bytes) -> list[Line]:
        lines: list[Line] = []
        if self._long is not None:
            chunk = self._skip(chunk, lines)
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        number, offset = self._line, self._offset
        for content in whole:
            offset += len(content) + 1
            if content and (content[0] > 32 or content.strip()):
                lines.append((number, offset, content if len(content) <= LINE_BYTES_MAX else _oversize(content)))
            number += 1
        self._line, self._offset = number, offset
        if len(self._rest) > LINE_BYTES_MAX:
            self._long = (self._rest[:HEAD_BYTES], len(self._rest), hashlib.sha256(self._rest))
            self._rest = b""
        return lines

    def _skip(self, chunk: bytes, lines: list[Line]) -> bytes:
        """Take the next part of a long line; return what follows its end."""
        head, length, digest = self._long  # type: ignore[misc]
        part, feed, rest = chunk.partition(b"\n")
        digest.update(part)
        self._long = (head, length + len(part), digest)
        if feed:
            self._finish_long(lines, 1)
        return rest

    def _finish_long(self, lines: list[Line], feed: int) -> None:
        head, length, digest = self._long  # type: ignore[misc]
        self._long = None
        self._offset += length + feed
        lines.append((self._line, self._offset, Oversize(head, length, digest.hexdigest())))
        self._line += 1

    def _last(self) -> list[Line]:
        """Return the line that no line feed ends, if there is one."""
        lines: list[Line] = []
        if self._long is not None:
            self._finish_long(lines, 0)
        elif self._rest.strip():
            content, self._rest = self._rest, b""
            self._offset += len(content)
            lines.append((self._line, self._offset, content if len(content) <= LINE_BYTES_MAX else _oversize(content)))
            self._line += 1
        return lines


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def _oversize(content: bytes) -> Oversize:
    return Oversize(content[:HEAD_BYTES], len(content), hashlib.sha256(content).hexdigest())


# Files that are written whole or not at all, and that outlast a loss of power: contents first, names after.

NAME_MAX = 50  # characters of a name, up to 4 bytes each: with what is added it stays within the 255 of file systems


def write_atomically(files: Sequence[tuple[Path, bytes]]) -> None:
    """Write files, each in the place of one that stands there, and have the disk keep them; make their folders.

    Raises
    ------
    OSError
        One cannot be written; those before it may stand.
    """
    folders: set[Path] = set()
    for target, data in files:
        folders.update(_make_folder(target.parent))
        # A name of its own, even where process ids repeat, as in containers that share a folder.
        partial = target.with_name(f".{target.name[:NAME_MAX]}.{secrets.token_hex(8)}")
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except OSError:
            with suppress(OSError):
                partial.unlink()
            raise
    for folder in folders:
        _sync_folder(folder)


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; return those in which names have changed, or will."""
    changed = [folder]
    while not changed[-1].is_dir():
        changed.append(changed[-1].parent)
    folder.mkdir(parents=True, exist_ok=True)
    return changed


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# One writer per partition on one host: locks of the operating system, which die with their process.
#
# A lock is a file of its own beside the bus, locked while its descriptor is open; it says which process holds it.


def lock_partition(path: Path, topic: str, partition: int) -> int:
    """Take the lock of a partition of the bus ``path``; return the descriptor that holds it until it is closed.

    Raises
    ------
    PartitionLocked
        Another process of this host writes there.
    BusError
        Locks cannot be taken here.
    """
    bus = path.resolve()  # by whatever name it was opened
    folder = bus.with_name(bus.name + ".locks")
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder / f"{topic}-{partition}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BusError(f"{folder} cannot hold locks ({error.strerror}); make it and its folder writable") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode(errors="replace") or "unknown"
        os.close(descriptor)
        text = f"partition {partition} of {topic} in {path.name} is being written by process {holder}"
        raise PartitionLocked(f"{text}; wait for that run to end, or stop it") from error
    except OSError as error:
        os.close(descriptor)
        raise BusError(f"{folder} cannot hold locks ({error.strerror}); put the bus on a local disk") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor
