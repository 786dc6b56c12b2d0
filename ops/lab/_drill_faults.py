"""Faults of a drill: the plan, the supervised run they hit, and the probes that tell whether it still decides.

All faults are real: SIGKILL, a locked bus, silence, changed bytes. A plan is a TOML file::

    config = "desk.toml"         # live, of dev or test; the drill starts it, starts it again when it ends, and stops it
    topic = "fills"              # where the drill sends its marks and probes
    instrument = "ETH-PERP"      # known to the run, with a margin rate
    price = "100"                # at which the drill marks it, every feed_s
    feed_s = 0.5
    within_s = 60                # what has not come by then has not come

    [[fault]]
    kind = "kill"                # kill | cut | freeze | skew | corrupt
    after_s = 5                  # from the recovery of the one before
    hold_s = 2                   # how long it lasts (cut, freeze), or until the run is started again (kill, corrupt)
    skew_s = 90000               # skew: how far ahead the clock of a producer is

A probe is a new client with a position and nothing to hold it. Its margin ratio is beyond every level, so limits and
playbook that are in force answer with a command that names it. The feed marks the instrument, so that the probe has a
price and silence is the drill's own choice.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import orjson

from seawall.connectors.bus import Bus, open_bus
from seawall.ops.run import RECOVERY
from seawall.schemas.configuration import Configuration, load_configuration, read_toml
from seawall.schemas.errors import BusError, UsageError
from seawall.schemas.tables import Table, between, check_table

# Plan of a drill: its faults, their times, the configuration, and the probe.


class Fault(Table, frozen=True):
    """One fault of the schedule."""

    kind: Literal["kill", "cut", "freeze", "skew", "corrupt"]
    after_s: Annotated[float, between(0, 86_400)] = 2.0
    hold_s: Annotated[float, between(0, 3600)] = 2.0
    skew_s: Annotated[float, between(1, 10 * 365 * 86_400)] = 90_000.0


class DrillFile(Table, frozen=True):
    """A drill as its file has it."""

    config: str
    topic: str
    instrument: str
    fault: tuple[Fault, ...]
    price: str = "100"
    feed_s: Annotated[float, between(0.05, 60)] = 0.5
    within_s: Annotated[float, between(1, 3600)] = 60.0

    def __post_init__(self) -> None:
        if not self.fault:
            raise ValueError("nothing fails; add a [[fault]]")


class DrillPlan(NamedTuple):
    """A checked plan."""

    configuration: Configuration
    topic: str
    instrument: str
    price: str
    feed_s: float
    within_s: float
    faults: tuple[Fault, ...]
    content: dict[str, Any]


def load_drill(path: Path) -> DrillPlan:
    """Return the plan of a file.

    Raises
    ------
    UsageError
        The file, or the configuration that it names, is not as it must be.
    """
    content = read_toml(path)
    top = check_table(content, DrillFile, path.name)
    configuration = load_configuration(path.parent / top["config"])
    _check(configuration, top, path.name)
    kept = {name: top[name] for name in ("topic", "instrument", "price", "feed_s", "within_s")}
    return DrillPlan(configuration, **kept, faults=tuple(Fault(**one) for one in top["fault"]), content=content)


def _check(configuration: Configuration, top: dict[str, Any], name: str) -> None:
    if configuration.environment == "prod":
        raise UsageError(
            f"{name}: {top['config']} is of prod; a drill puts accounts of its own into the book: use test"
        )
    if top["topic"] not in configuration.topics:
        live = ", ".join(configuration.topics) or "none: it has no live topics"
        raise UsageError(f"{name}: topic {top['topic']!r} is not one that the run reads; choose from {live}")
    sqlite = configuration.bus.startswith("sqlite:")
    if not sqlite and any(one["kind"] == "cut" for one in top["fault"]):
        raise UsageError(f"{name}: cut works on the embedded bus; cut a cluster's network with its own tools")


# A run under supervision: started, killed for good, started again when it ends, as a supervisor would.

RESTART_S: Final = 0.2
STOP_S: Final = 60.0


class SupervisedRun:
    """``seawall run`` of a configuration in a process group of its own; a context that leaves nothing running.

    Attributes
    ----------
    ended
        When it ended unasked, one monotonic time each; whoever looks takes them.
    """

    def __init__(self, config: Path, log: Path) -> None:
        self._command = [sys.executable, "-c", "from seawall.ops.cli._app import main; main()", "run", str(config)]
        self._log, self._lock = log.open("ab"), threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._held = threading.Event()
        self._closing = threading.Event()
        self.ended: list[float] = []
        self.starts = 0
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def __enter__(self) -> "SupervisedRun":
        self._start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self.kill()
        self._log.close()

    def kill(self) -> None:
        """Kill the whole process group with SIGKILL."""
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def hold(self) -> None:
        """Do not start it again until :meth:`release`."""
        self._held.set()

    def release(self) -> None:
        """Start it again whenever it has ended."""
        self._held.clear()

    def stop(self) -> int:
        """Ask it to end, and return its exit code; it is not started again."""
        self._closing.set()
        self._thread.join()
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        return process.wait(STOP_S)

    def _start(self) -> None:
        with self._lock:
            self.starts += 1
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.DEVNULL, stderr=self._log, start_new_session=True
            )

    def _watch(self) -> None:
        noted: subprocess.Popen[bytes] | None = None
        while not self._closing.wait(0.02):
            process = self._process
            assert process is not None
            if process.poll() is None:
                continue
            if process is not noted:
                self.ended.append(time.monotonic())
                noted = process
            if not self._held.is_set() and time.monotonic() - self.ended[-1] >= RESTART_S:
                self._start()


# Probe of a drill: accounts of its own that must be commanded about, so long as the system decides.

Json = dict[str, Any]
RETRY_S = 0.2


class Probes:
    """Sends marks and probes to a live topic, and looks for what the system makes of them; a context."""

    def __init__(self, drill: DrillPlan, name: str) -> None:
        self._drill, self._name, self._lock = drill, name, threading.Lock()
        self._bus = open_bus(drill.configuration.bus, drill.configuration.directory)
        self._count, self._frozen, self._closing = 0, threading.Event(), threading.Event()
        self._at: dict[tuple[str, int], int] = {}
        self._commanded: dict[str, float] = {}
        self._thread = threading.Thread(target=self._feed, name="feed", daemon=True)

    def __enter__(self) -> "Probes":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._bus.close()

    @property
    def bus(self) -> Bus:
        """Return the bus, for reading."""
        return self._bus

    def freeze(self) -> None:
        """Send no marks until :meth:`thaw`."""
        self._frozen.set()

    def thaw(self) -> None:
        """Send marks again."""
        self._frozen.clear()

    def probe(self) -> tuple[str, float]:
        """Send a probe; return its account and when it was sent."""
        self._count += 1
        name, now_us = f"drill/{self._name}/{self._count}", time.time_ns() // 1000
        drill = self._drill
        fill = {"fill_id": f"f-{name}", "account": name, "instrument": drill.instrument, "side": "buy"}
        party = {"counterparty": name, "event_time_us": now_us}
        self._send(
            {"type": "counterparty", **party, "name": "drill", "role": "client"},
            {"type": "account", **party, "account": name, "holder": "counterparty"},
            {"type": "fill", "event_time_us": now_us, **fill, "quantity": "1", "price": drill.price},
        )
        return name, time.monotonic()

    def mark(self, ahead_s: float = 0.0) -> None:
        """Send a mark whose producer's clock is ahead."""
        at_us = time.time_ns() // 1000 + round(ahead_s * 1e6)
        body = {"instrument": self._drill.instrument, "price": self._drill.price}
        self._send({"type": "mark", "event_time_us": at_us, **body})

    def commanded(self, name: str) -> float | None:
        """Return when a command about a probe was first seen on the topic; None: not yet."""
        now = time.monotonic()
        for value in self.fresh("commands"):
            target = orjson.loads(value)["target"]["id"]
            self._commanded.setdefault(target, now)
        return self._commanded.get(name)

    def fresh(self, topic: str) -> list[bytes]:
        """Return the values that came on a topic since it was last looked at; none while the bus cannot be read."""
        found: list[bytes] = []
        try:
            for partition in self._bus.partitions(topic):
                while stored := self._bus.read(topic, partition, self._at.get((topic, partition), 0)):
                    found += [one.value for one in stored]
                    self._at[topic, partition] = stored[-1].offset + 1
        except BusError:
            return found
        return found

    def _feed(self) -> None:
        while not self._closing.wait(self._drill.feed_s):
            if not self._frozen.is_set():
                self.mark()

    def _send(self, *records: Json) -> None:
        """Append records, again and again while the bus is cut."""
        with self._lock:
            while not self._closing.is_set():
                try:
                    writer = self._bus.writer([(self._drill.topic, 0)])
                    for record in records:
                        writer.append(self._drill.topic, 0, "", orjson.dumps(record), {})
                    writer.flush()
                    writer.close()
                    return
                except BusError:
                    time.sleep(RETRY_S)


# The faults: each begins, is noticed or not, and ends. All are real: SIGKILL, a locked bus, silence, changed bytes.

Noticed = Callable[[], bool]
FLIPPED = 4096


def begin_fault(
    fault: Fault, drill: DrillPlan, system: SupervisedRun, probes: Probes
) -> tuple[Callable[[], None], Noticed, str]:
    """Begin a fault; return what ends it, what tells whether it was noticed, and what notices it."""
    return _FAULTS[fault.kind](fault, drill, system, probes)


def _kill(
    fault: Fault, drill: DrillPlan, system: SupervisedRun, probes: Probes
) -> tuple[Callable[[], None], Noticed, str]:
    ended = len(system.ended)
    system.hold()
    system.kill()
    return system.release, lambda: len(system.ended) > ended, "the supervisor saw the process end"


def _corrupt(
    fault: Fault, drill: DrillPlan, system: SupervisedRun, probes: Probes
) -> tuple[Callable[[], None], Noticed, str]:
    """Kill the run and change the head of every file of its recovery store."""
    folder = drill.configuration.directory
    stores = _stores(folder)
    system.hold()
    system.kill()
    for file in sorted((folder / RECOVERY).glob("*")):
        size = file.stat().st_size
        with file.open("r+b") as store:
            store.write(b"\xff" * min(size, FLIPPED))
    return system.release, lambda: _stores(folder) > stores, "the run set the store aside"


def _stores(folder: Path) -> int:
    return len(list(folder.glob(f"{RECOVERY}*")))


def _cut(
    fault: Fault, drill: DrillPlan, system: SupervisedRun, probes: Probes
) -> tuple[Callable[[], None], Noticed, str]:
    """Lock the database of the embedded bus for everybody else."""
    ended = len(system.ended)
    path = drill.configuration.directory / drill.configuration.bus.removeprefix("sqlite:")
    lock = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")

    def end() -> None:
        lock.execute("ROLLBACK")
        lock.close()

    return end, lambda: len(system.ended) > ended, "the run stopped, because it could not write"


def _freeze(
    fault: Fault, drill: DrillPlan, system: SupervisedRun, probes: Probes
) -> tuple[Callable[[], None], Noticed, str]:
    probes.freeze()
    probes.fresh("alerts")
    scope = drill.instrument.encode()

    def noticed() -> bool:
        return any(b"stale_mark" in one and scope in one for one in probes.fresh("alerts"))

    return probes.thaw, noticed, "an alert says that the mark is stale"


def _skew(
    fault: Fault, drill: DrillPlan, system: SupervisedRun, probes: Probes
) -> tuple[Callable[[], None], Noticed, str]:
    probes.fresh("rejects")
    probes.mark(fault.skew_s)
    reason = b"EVENT_TIME_MUST_NOT_BE_IN_THE_FUTURE"
    return (lambda: None), lambda: any(reason in one for one in probes.fresh("rejects")), "the record was rejected"


_FAULTS = {"kill": _kill, "corrupt": _corrupt, "cut": _cut, "freeze": _freeze, "skew": _skew}


def wait_until(holds: Callable[[], bool], until: float) -> float | None:
    """Return when something first held, None where it did not until then."""
    while True:
        if holds():
            return time.monotonic()
        if time.monotonic() >= until:
            return None
        time.sleep(0.02)
