"""Worker processes of ``risk``: the parent starts and ends them, each of them reports its numbers.

Run with ``python -m``, this module is one worker, started by ``seawall run --processes N``. Its standard input says
that the journal is complete (``end``) or that it is to stop (``stop``, or the input closes: the parent is gone). Its
standard output is the processor seconds it took. With ``--metrics=FOLDER`` it writes its numbers into a file there,
replaced as a whole every second.

A worker whose parent was killed must not live on: it holds partitions, and a new run would be refused. It has a moment
to end well, and no more: while the engine waits for a peer that never comes it hears nothing.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import seawall
from seawall.connectors.bus import Replica
from seawall.ops.ports import free_ports
from seawall.ops.run._parts import DataflowTotals, Stop, run_risk
from seawall.ops.run._preparation import recovery_store
from seawall.ops.run._recovery import open_recovery
from seawall.schemas.configuration import Configuration, load_configuration
from seawall.schemas.errors import SeawallError, SnapshotError, VersionMismatch
from seawall.schemas.telemetry import Telemetry, set_telemetry

# How worker processes hand over their numbers: a file each, replaced whole every second, beside no run's data.

EVERY_S = 1.0


class WorkerMetrics:
    """The numbers of worker processes, for the process that answers for them."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="seawall-metrics-", ignore_cleanup_errors=True)
        self.folder = self._folder.name

    def numbers(self) -> list[dict[str, Any]]:
        """Return what each worker said last."""
        return [json.loads(path.read_bytes()) for path in sorted(Path(self.folder).glob("*.json"))]

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()


class WorkerMetricsWriter(threading.Thread):
    """Hands the numbers of this worker process over, until the process ends."""

    def __init__(self, folder: str, number: int, live: bool) -> None:
        super().__init__(name="telemetry", daemon=True)
        self._path, self._ended = Path(folder) / f"{number}.json", threading.Event()
        self._telemetry = Telemetry(live)
        set_telemetry(self._telemetry)

    def run(self) -> None:
        """Write now and then."""
        while not self._ended.wait(EVERY_S) and self._path.parent.is_dir():
            self.hand()

    def hand(self) -> None:
        """Write once."""
        partial = self._path.with_suffix(".part")
        partial.write_text(json.dumps(self._telemetry.numbers()))
        partial.replace(self._path)


# ``risk`` in several processes of this process group: started, told when to end, and ended when one of them dies.

SNAPSHOT_EXIT = 75  # of a worker process whose recovery store cannot be read (EX_TEMPFAIL)


def run_processes(
    configuration: Configuration,
    stop: Stop,
    stopped: Callable[[], bool],
    sequenced: threading.Event | None,
    workers: int,
    processes: int,
    totals: DataflowTotals,
    replica: Replica | None,
) -> None:
    """Run risk in processes of this process group; they hear by their standard input that the journal is complete."""

    open_recovery(recovery_store(configuration, replica))
    telemetry = Telemetry.current()
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(processes))
    children = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "seawall.ops.run.worker",
                str(configuration.path),
                str(number),
                addresses,
                str(workers),
            ]
            + [f"--code={seawall.__version__}"]
            + ([] if sequenced is None else ["--told"])
            + ([] if telemetry is None else [f"--metrics={telemetry.folder}"])
            + ([] if replica is None else ["--replica", replica.name, str(replica.takeover_s)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    _attend(children, stopped, sequenced)
    for child in children:
        assert child.stdout is not None
        lines = child.stdout.read().split()  # the engine prints its own notes before
        totals.seconds += float(lines[-1]) if lines and not child.returncode else 0.0
    failed = [child.returncode for child in children if child.returncode]
    if SNAPSHOT_EXIT in failed:
        raise SnapshotError("a worker process could not read the recovery store")
    if failed and stop.error is None:
        raise SeawallError(f"a worker process ended with exit {failed[0]}; see above, and run again to continue")


def _attend(
    children: list["subprocess.Popen[str]"], stopped: Callable[[], bool], sequenced: threading.Event | None
) -> None:
    """Pass on the end of the journal and that it is time to stop; when one process dies, the others are ended."""
    notified = stopping = False
    while any(child.poll() is None for child in children):
        if sequenced is not None and sequenced.is_set() and not notified:
            notified = True
            _send(children, "end\n")
        if stopped() and not stopping:
            stopping = True
            _send(children, "stop\n")
        if any(child.poll() for child in children):
            deadline = time.monotonic() + 10
            while any(child.poll() is None for child in children) and time.monotonic() < deadline:
                time.sleep(0.05)
            for child in children:
                child.kill()
        time.sleep(0.01)


def _send(children: list["subprocess.Popen[str]"], line: str) -> None:
    for child in children:
        assert child.stdin is not None
        try:
            child.stdin.write(line)
            child.stdin.flush()
        except BrokenPipeError:
            pass


# A worker process of ``risk``, started by ``seawall run --processes N``.

ORPHAN_S = 3.0
PEER_LOST = "PanicException"  # how the engine says that the connection to another process broke; a BaseException


def main() -> int:
    """Run one worker process; return its exit code."""
    path, number, addresses, workers = sys.argv[1:5]
    stop, totals = Stop(), DataflowTotals()
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    sequenced = threading.Event() if "--told" in sys.argv else None
    threading.Thread(target=_listen, args=(stop, sequenced), daemon=True).start()
    try:
        _check_code(sys.argv[5:])
        configuration, peers = load_configuration(path), addresses.split(";")
        for option in sys.argv[5:]:
            if option.startswith("--metrics="):
                WorkerMetricsWriter(option.partition("=")[2], int(number), bool(configuration.topics)).start()
        replica = None
        if "--replica" in sys.argv:
            name, takeover_s = sys.argv[sys.argv.index("--replica") + 1 :][:2]
            overdue = stop.overdue if sequenced is None else stop.event.is_set  # which is told when it is overdue
            replica = Replica(name, float(takeover_s), stop.event.is_set, overdue)
        run_risk(configuration, stop.event.is_set, sequenced, int(workers), totals, peers, int(number), replica)
    except SnapshotError as error:
        print(f"seawall: {error}", file=sys.stderr)
        return SNAPSHOT_EXIT
    except SeawallError as error:
        print(f"seawall: {error}", file=sys.stderr)
        return error.exit_code
    except BaseException as error:
        if type(error).__name__ != PEER_LOST:
            raise
        print(f"seawall: worker {number} stopped, because another worker process ended", file=sys.stderr)
        return 1
    try:
        print(totals.seconds, flush=True)
    except BrokenPipeError:
        os._exit(1)  # the parent is gone; whatever ends now would complain of the pipe again
    return 0


def _check_code(options: list[str]) -> None:
    """Refuse to work for a parent of another version: the package was replaced while it ran."""
    parent = next((option.partition("=")[2] for option in options if option.startswith("--code=")), "")
    if parent and parent != seawall.__version__:
        text = f"this worker is of Seawall {seawall.__version__}, and the run that started it of {parent}"
        raise VersionMismatch(f"{text}: the package was replaced meanwhile; stop the run and start it again")


def _listen(stop: Stop, sequenced: threading.Event | None) -> None:
    for line in sys.stdin:
        if line.strip() == "end" and sequenced is not None:
            sequenced.set()
        elif line.strip() == "stop":
            stop.ask()
    stop.ask()
    time.sleep(ORPHAN_S)
    os._exit(1)  # as after a kill: what was not committed is done again


def run_and_exit(work: Callable[[], int]) -> NoReturn:
    """Do some work and end this process with its exit code, but do not take the interpreter down before.

    The engine's threads that listen to other processes live on after a peer was lost; one that then asks for an
    interpreter which is gone (``PyGILState_Ensure``) is a segmentation fault instead of the exit code.
    """
    try:
        code = work()
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run_and_exit(main)
