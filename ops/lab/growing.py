"""A file of lines that another process is still writing, read to its end as it grows.

What is made stands as a part first and is moved to its place when it is whole (``cache``). Its bytes are the same
whoever makes it, so once the part is gone the rest is read from that place.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from seawall.ops.lab.workers import given_up

POLL_S = 0.02


class Growing(NamedTuple):
    """Where a file stands when it is whole, and where until then."""

    path: Path
    part: Path

    def lines(self) -> Iterator[bytes]:
        """Yield its lines, and wait for those that are not written yet.

        Raises
        ------
        InterruptedError
            Whoever wrote it failed.
        """
        file = self._opened()
        try:
            left = b""
            while True:
                whole = not self.part.exists()
                if whole:
                    file = self._at_its_place(file)
                while piece := file.readline():
                    left += piece
                    if left.endswith(b"\n"):
                        yield left
                        left = b""
                if whole:
                    return
                self._wait()
        finally:
            file.close()

    def _opened(self) -> IO[bytes]:
        while True:
            for path in (self.path, self.part):
                try:
                    return path.open("rb")
                except FileNotFoundError:
                    continue
            self._wait()

    def _at_its_place(self, file: IO[bytes]) -> IO[bytes]:
        """Return the whole file, at the place to which the part was read."""
        at = file.tell()
        file.close()
        try:
            whole = self.path.open("rb")
        except FileNotFoundError:
            raise InterruptedError(f"{self.path.name} was not made to its end") from None
        whole.seek(at)
        return whole

    def _wait(self) -> None:
        if given_up():
            raise InterruptedError(f"{self.path.name} is not made any more")
        time.sleep(POLL_S)
