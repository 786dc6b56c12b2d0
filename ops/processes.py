"""``risk`` in several processes of this process group: started, told when to end, and ended when one of them dies."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import seawall
from seawall.connectors.recovery import open_recovery
from seawall.connectors.replica import Replica
from seawall.ops.bytewax_engine import Totals
from seawall.ops.ports import free_ports
from seawall.ops.preparing import store_of
from seawall.ops.stopping import Stop
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import SeawallError, SnapshotError
from seawall.schemas.telemetry import watching

SNAPSHOT_EXIT = 75  # of a worker process whose recovery store cannot be read (EX_TEMPFAIL)


def run_processes(
    configuration: Configuration,
    stop: Stop,
    stopped: Callable[[], bool],
    sequenced: threading.Event | None,
    workers: int,
    processes: int,
    totals: Totals,
    replica: Replica | None,
) -> None:
    """Run risk in processes of this process group; they hear by their standard input that the journal is complete."""

    open_recovery(store_of(configuration, replica))
    telemetry = watching()
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(processes))
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "seawall.ops.worker", str(configuration.path), str(number), addresses, str(workers)]
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
    told = stopping = False
    while any(child.poll() is None for child in children):
        if sequenced is not None and sequenced.is_set() and not told:
            told = True
            _tell(children, "end\n")
        if stopped() and not stopping:
            stopping = True
            _tell(children, "stop\n")
        if any(child.poll() for child in children):
            deadline = time.monotonic() + 10
            while any(child.poll() is None for child in children) and time.monotonic() < deadline:
                time.sleep(0.05)
            for child in children:
                child.kill()
        time.sleep(0.01)


def _tell(children: list["subprocess.Popen[str]"], line: str) -> None:
    for child in children:
        assert child.stdin is not None
        try:
            child.stdin.write(line)
            child.stdin.flush()
        except BrokenPipeError:
            pass
