"""Progress of the workers in a recovery store, read by a process of its own and never by the engine's.

The engine brings an SQLite of its own. A second copy in the same process does not see the first one's locks, which are
the process's: it takes itself for the only reader, empties the index of the log that the engine is using, and lets go
of the engine's locks when it closes (https://sqlite.org/howtocorrupt.html, 2.2.1). A run whose health did so died with
"database disk image is malformed". So this module is also a small program, which answers a line for a line.
"""

import contextlib
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

QUERY = "select max(ex_num), min(worker_frontier) from fronts where ex_num = (select max(ex_num) from exs)"


class WorkerProgress:
    """Asks one store. The process that looks begins with the first question and ends with this one.

    Parameters
    ----------
    store
        The file, which need not be there yet.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._process: subprocess.Popen[str] | None = None

    def __call__(self) -> tuple[int, int] | None:
        """Return the execution and the epoch that all its workers have reached; None where no store says so."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-E", "-S", __file__, str(self._store)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed: the next question begins another one
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline().split()
        return (int(answer[0]), int(answer[1])) if answer else None

    def close(self) -> None:
        """End the process that looks."""
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate()
            self._process = None


def read_progress(store: Path) -> str:
    """Return the two numbers of a store, or nothing where it is not there, is being made or was set aside."""
    if not store.exists():
        return ""
    try:
        with contextlib.closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as found:
            execution, epoch = found.execute(QUERY).fetchone()
    except sqlite3.Error:
        return ""
    return "" if execution is None else f"{execution} {epoch}"


def main() -> None:
    """Answer until nobody asks any more; whoever asks ends by a signal, and this by the end of its input."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    store = Path(sys.argv[1])
    for _ in sys.stdin:
        print(read_progress(store), flush=True)


if __name__ == "__main__":
    main()
