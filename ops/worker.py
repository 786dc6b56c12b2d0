"""A worker process of ``risk``, started by ``seawall run --processes N``.

Its standard input tells it that the journal is complete (``end``) or that it is to stop (``stop``, or the input closes:
the parent is gone). Its standard output is the processor seconds it took. With ``--metrics=FOLDER`` it leaves there
what it counts about its work.

A worker whose parent was killed must not live on: it holds partitions, and a new run would be refused. It has a moment
to end well, and no more: while the engine waits for a peer that never comes it hears nothing.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import seawall
from seawall.connectors.replica import Replica
from seawall.ops.bytewax_engine import Totals, run_risk
from seawall.ops.metrics.workers import Handing
from seawall.ops.processes import SNAPSHOT_EXIT
from seawall.ops.stopping import Stop
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import SeawallError, SnapshotError, VersionMismatch

ORPHAN_S = 3.0
PEER_LOST = "PanicException"  # how the engine says that the connection to another process broke; a BaseException


def main() -> int:
    """Run one worker process; return its exit code."""
    path, number, addresses, workers = sys.argv[1:5]
    stop, totals = Stop(), Totals()
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    sequenced = threading.Event() if "--told" in sys.argv else None
    threading.Thread(target=_listen, args=(stop, sequenced), daemon=True).start()
    try:
        _check_code(sys.argv[5:])
        configuration, peers = load_configuration(path), addresses.split(";")
        for option in sys.argv[5:]:
            if option.startswith("--metrics="):
                Handing(option.partition("=")[2], int(number), bool(configuration.topics)).start()
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


def leave(work: Callable[[], int]) -> NoReturn:
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
    leave(main)
