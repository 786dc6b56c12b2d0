"""Results by the hash of what they are made of: the same question is answered once.

An entry is complete or not there: it is written beside its place and moved. Nothing else invalidates it, so a key must
hash all that shapes the content, the version of the code included.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Cache:
    """A folder of entries.

    Parameters
    ----------
    folder
        Where they stand; made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str, suffix: str) -> Path:
        """Return where the entry of a key stands, or will."""
        return self.folder / f"{key}{suffix}"

    def part(self, key: str, suffix: str, owner: int) -> Path:
        """Return where an entry stands while it is made for the process ``owner``."""
        path = self.path(key, suffix)
        return path.with_name(f"{path.name}.{owner}.part")

    def make(self, key: str, suffix: str, build: Callable[[Path], None], owner: int = 0) -> tuple[Path, bool]:
        """Return the entry, and whether it was there; what ``build`` writes to the path it is given becomes it.

        ``owner`` is the process for which it is made, where that is another one: who knows it can follow the part.
        """
        path = self.path(key, suffix)
        if path.exists():
            return path, True
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.part(key, suffix, owner or os.getpid())
        try:
            build(part)
            part.replace(path)
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
        return path, False


def default_folder() -> Path:
    """Return the folder of this user's entries: ``$XDG_CACHE_HOME/seawall/lab``, or below ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "seawall" / "lab"
