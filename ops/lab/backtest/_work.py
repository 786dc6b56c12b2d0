"""Long work of the lab: worker processes, a cache of results by content hash, and files read while they grow."""

import gc
import hashlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import seawall

# Results by the hash of what they are made of: the same question is answered once.
#
# An entry is complete or not there: it is written beside its place and moved. Nothing else invalidates it, so a key
# must hash all that shapes the content, the version of the code included.


class Cache:
    """A folder of entries.

    Parameters
    ----------
    folder
        Where they stand; made when first written to. None: with this user's, ``$XDG_CACHE_HOME/seawall/lab`` or below
        ``~/.cache``.
    """

    def __init__(self, folder: Path | None) -> None:
        # Who has no home, as in a container, names a folder.
        self.folder = folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seawall" / "lab"

    @staticmethod
    def key(content: Any) -> str:
        """Return the key of plain values: their SHA-256, and that of the code that makes something of them."""
        return hashlib.sha256(msgspec.json.encode([code_sha256(), content], order="sorted")).hexdigest()

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


@lru_cache(maxsize=1)
def code_sha256() -> str:
    """Return the SHA-256 over all of Seawall's code as it is installed: a version number forgets local changes."""
    base = Path(seawall.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(_modules(base)):
        digest.update(f"{file.relative_to(base).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _modules(package: Path) -> Iterator[Path]:
    """Yield the files of a package and of those in it, through links too, where it is installed from a checkout."""
    if (package / "__init__.py").is_file():
        yield from package.glob("*.py")
        for folder in package.iterdir():
            if folder.is_dir():
                yield from _modules(folder)


# Long work in processes, with bars that show how far each is and how long it will take.

POLL_S = 0.25
_reached: Any = None  # of a worker process: how far each place is
_ended: Any = None  # of a worker process: the number of the last run of which a job failed
_run = 0  # of a worker process: the number of the run that its job is of


class Job(NamedTuple):
    """One piece of work: its label, from where to where its bar goes, and what is called, with its place first."""

    label: str
    first: float
    last: float
    call: Callable[..., Any]
    arguments: tuple[Any, ...]


class Workers:
    """A pool of processes; used as a context.

    Parameters
    ----------
    processes
        How many; 0 for one per processor.
    places_max
        Jobs that may be given at once.
    """

    def __init__(self, processes: int = 0, places_max: int = 65_536) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads of the caller that hold locks
        self._shared = context.Array("d", places_max)
        self.processes = processes or os.cpu_count() or 1
        self._ended, self._number = context.Value("q", 0), 0
        self._pool = ProcessPoolExecutor(self.processes, context, _begin, (self._shared, self._ended))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)

    def run(self, jobs: Iterable[Job], together: str = "") -> list[Any]:
        """Run jobs and return their results in order; the first error is raised and ends the rest.

        Jobs begin in their order, so one may wait for what an earlier one makes, as long as it looks at
        ``is_abandoned``. ``together`` names one bar over all of them, where there are too many for a bar each.
        """
        listed = list(jobs)
        self._number += 1
        for place, job in enumerate(listed):
            self._shared[place] = job.first
        futures = [self._pool.submit(_call, self._number, place, job) for place, job in enumerate(listed)]
        with progress_bars() as shown:
            if together:
                tasks = [shown.add_task(together, total=len(listed))]
            else:
                tasks = [shown.add_task(job.label, total=1) for job in listed]
            self._follow(futures, listed, tasks, shown)
        return [future.result() for future in futures]

    def _follow(self, futures: list["Future[Any]"], jobs: list[Job], tasks: list[Any], shown: Progress) -> None:
        open_ = set(futures)
        while open_:
            done, open_ = wait(open_, POLL_S, FIRST_EXCEPTION)
            if any(future.exception() is not None for future in done):
                self._ended.value = self._number
                for future in open_:
                    future.cancel()
                return
            shares = [1.0 if future.done() else self._share(at, jobs[at]) for at, future in enumerate(futures)]
            for task, share in zip(tasks, shares if len(tasks) == len(shares) else [sum(shares)], strict=True):
                shown.update(task, completed=share)

    def _share(self, place: int, job: Job) -> float:
        """Return how much of a job is done, from 0 to 1."""
        length = max(job.last - job.first, 1.0)
        return float(min(max((self._shared[place] - job.first) / length, 0.0), 1.0))


def progress_bars() -> Progress:
    """Return progress bars with the time left, on a terminal; nothing is shown elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not sys.stderr.isatty())


def progress_reporter(place: int) -> Callable[[float], None]:
    """Return what a job calls to say how far it is."""

    def tell(at: float) -> None:
        if _reached is not None:
            _reached[place] = float(at)

    return tell


def is_abandoned() -> bool:
    """Tell a job whether nobody waits for it any more: another one failed, or the process that asked for it is gone."""
    parent = multiprocessing.parent_process()
    return (_ended is not None and _ended.value >= _run) or (parent is not None and not parent.is_alive())


def _call(run: int, place: int, job: Job) -> Any:
    global _run  # noqa: PLW0603 - of this process, which has one job at a time
    _run = run
    return job.call(place, *job.arguments)


def _begin(shared: Any, ended: Any) -> None:
    global _reached, _ended
    _reached, _ended = shared, ended
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    gc.freeze()  # as in a live run: what is loaded stays, and the rows of a slice are no cycles to look for
    gc.set_threshold(100_000, 50, 50)


def _end_with_parent() -> None:
    """End this process when the one that asked for its work is gone, even by a kill: nobody takes the result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# A file of lines that another process is still writing, read to its end as it grows.
#
# What is made stands as a part first and is moved to its place when it is whole (``cache``). Its bytes are the same
# whoever makes it, so once the part is gone the rest is read from that place.

GROWTH_POLL_S = 0.02


class GrowingFile(NamedTuple):
    """Path of a file when it is whole, and its path until then."""

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
        if is_abandoned():
            raise InterruptedError(f"{self.path.name} is not made any more")
        time.sleep(GROWTH_POLL_S)
