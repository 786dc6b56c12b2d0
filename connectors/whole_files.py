"""Files that are written whole or not at all, and that outlast a loss of power: contents first, names after."""

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

NAME_MAX = 50  # characters of a name, up to 4 bytes each: with what is added it stays within the 255 of file systems


def write_whole(files: Sequence[tuple[Path, bytes]]) -> None:
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
