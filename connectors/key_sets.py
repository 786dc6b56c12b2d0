"""Key sets as files: a folder with ``0001.json``, ``0002.json``, …, or one file with an envelope per line."""

import re
from pathlib import Path

import orjson

from seawall.schemas.errors import UsageError

FILE_BYTES_MAX = 16 * 1024 * 1024  # of a file with all versions
VERSION = re.compile(r"[0-9]{4}\.json")


def versions(folder: Path) -> list[Path]:
    """Return the files of the key sets in a folder, in order."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if VERSION.fullmatch(path.name))


def envelopes(path: Path) -> list[bytes]:
    """Return the envelopes of all key sets at a path, in order; `UsageError` where there are none."""
    try:
        found = [_bounded(file) for file in versions(path)] if path.is_dir() else _of_file(_bounded(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name a key set's file or folder") from error
    found = [envelope for envelope in found if envelope.strip()]
    if not found:
        raise UsageError(f"{path} holds no key set; make one with: seawall keys propose {path}")
    return found


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise UsageError(f"{path} has more than {FILE_BYTES_MAX} bytes, and no key set does; name a key set's file")
    return content


def _of_file(content: bytes) -> list[bytes]:
    """Return the one envelope of a file, or those of its lines."""
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.splitlines()
    return [content]
