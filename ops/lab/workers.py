"""Long work in processes, with bars that show how far each is and how long it will take."""

import gc
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from types import TracebackType
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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

        Jobs begin in their order, so one may wait for what an earlier one makes, as long as it looks at ``given_up``.
        ``together`` names one bar over all of them, where there are too many for a bar each.
        """
        listed = list(jobs)
        self._number += 1
        for place, job in enumerate(listed):
            self._shared[place] = job.first
        futures = [self._pool.submit(_call, self._number, place, job) for place, job in enumerate(listed)]
        with bars() as shown:
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


def bars() -> Progress:
    """Return progress bars with the time left, on a terminal; nothing is shown elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not sys.stderr.isatty())


def teller(place: int) -> Callable[[float], None]:
    """Return what a job calls to say how far it is."""

    def tell(at: float) -> None:
        if _reached is not None:
            _reached[place] = float(at)

    return tell


def given_up() -> bool:
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
