"""The faults: each begins, is noticed or not, and ends. All are real: SIGKILL, a locked bus, silence, changed bytes."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from seawall.ops.lab.drill.plan import Drill, Fault
from seawall.ops.lab.drill.probe import Probes
from seawall.ops.lab.drill.system import Supervised
from seawall.ops.preparing import RECOVERY

Seen = Callable[[], bool]
FLIPPED = 4096


def begin(fault: Fault, drill: Drill, system: Supervised, probes: Probes) -> tuple[Callable[[], None], Seen, str]:
    """Begin a fault; return what ends it, what tells whether it was noticed, and what notices it."""
    return _FAULTS[fault.kind](fault, drill, system, probes)


def _kill(fault: Fault, drill: Drill, system: Supervised, probes: Probes) -> tuple[Callable[[], None], Seen, str]:
    ended = len(system.ended)
    system.hold()
    system.kill()
    return system.release, lambda: len(system.ended) > ended, "the supervisor saw the process end"


def _corrupt(fault: Fault, drill: Drill, system: Supervised, probes: Probes) -> tuple[Callable[[], None], Seen, str]:
    """Kill the run and change the head of every file of its recovery store."""
    folder = drill.configuration.directory
    stood = _stores(folder)
    system.hold()
    system.kill()
    for file in sorted((folder / RECOVERY).glob("*")):
        size = file.stat().st_size
        with file.open("r+b") as store:
            store.write(b"\xff" * min(size, FLIPPED))
    return system.release, lambda: _stores(folder) > stood, "the run set the store aside"


def _stores(folder: Path) -> int:
    return len(list(folder.glob(f"{RECOVERY}*")))


def _cut(fault: Fault, drill: Drill, system: Supervised, probes: Probes) -> tuple[Callable[[], None], Seen, str]:
    """Lock the database of the embedded bus for everybody else."""
    ended = len(system.ended)
    path = drill.configuration.directory / drill.configuration.bus.removeprefix("sqlite:")
    lock = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")

    def end() -> None:
        lock.execute("ROLLBACK")
        lock.close()

    return end, lambda: len(system.ended) > ended, "the run stopped, because it could not write"


def _freeze(fault: Fault, drill: Drill, system: Supervised, probes: Probes) -> tuple[Callable[[], None], Seen, str]:
    probes.freeze()
    probes.fresh("alerts")
    scope = drill.instrument.encode()

    def noticed() -> bool:
        return any(b"stale_mark" in one and scope in one for one in probes.fresh("alerts"))

    return probes.thaw, noticed, "an alert says that the mark is stale"


def _skew(fault: Fault, drill: Drill, system: Supervised, probes: Probes) -> tuple[Callable[[], None], Seen, str]:
    probes.fresh("rejects")
    probes.mark(fault.skew_s)
    reason = b"EVENT_TIME_MUST_NOT_BE_IN_THE_FUTURE"
    return (lambda: None), lambda: any(reason in one for one in probes.fresh("rejects")), "the record was rejected"


_FAULTS = {"kill": _kill, "corrupt": _corrupt, "cut": _cut, "freeze": _freeze, "skew": _skew}


def wait(holds: Callable[[], bool], until: float) -> float | None:
    """Return when something first held, None where it did not until then."""
    while True:
        if holds():
            return time.monotonic()
        if time.monotonic() >= until:
            return None
        time.sleep(0.02)
