"""Parts of a run in this process: ``market`` and ``risk`` on Bytewax, the sealer's thread, and their common stop.

After a signal ``sequence`` ends first and ``risk`` decides on what it wrote, so that a run which was stopped verifies;
not for ever, because orchestrators wait and then kill. After a failure everything ends at once.

The sealer compares the log with the audit before it starts. Where audit records or tiles are missing, or the recovery
store is of another bus, the store is set aside, and the log is built again from its start and compared with what was
sealed. What is still missing at the end stops the run.
"""

import gc
import importlib
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bytewax.run import cli_main

from seawall.connectors.bus import Bus, Replica, kafka
from seawall.connectors.bus import failures as bus_failures
from seawall.connectors.transparency_log import check_all_sealed, is_log_stored
from seawall.operators.stateful import failures as step_failures
from seawall.ops.run._preparation import MARKET_RECOVERY, SEAL_RECOVERY, local_store, recovery_store
from seawall.ops.run._recovery import open_recovery, own_error, recovery_store_error, set_recovery_aside
from seawall.ops.run._standby import wait_to_seal
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import PartitionLocked, SnapshotError

if TYPE_CHECKING:
    from bytewax.dataflow import Dataflow

# Stopping the parts of a run: on a signal, or because one of them failed.

DRAIN_S = 20.0  # Kubernetes kills after 30 s, and sealing and the engine's last snapshot come after this
ANSWER_S = 5.0  # more, and a cluster that does not answer is no longer waited for: a killed run loses as little


class Stop:
    """Set once, by a signal or a failure: every part of the run looks at it."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.error: BaseException | None = None
        self._at_s = math.inf

    @contextmanager
    def on_signal(self) -> Iterator[None]:
        """Stop cleanly on SIGTERM and SIGINT while the block runs; then they are whose they were."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in before:
            signal.signal(number, lambda *_: self._receive())
        try:
            yield
        finally:
            kafka.uncap_waiting()
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    def ask(self) -> None:
        """Stop because somebody asks for it."""
        self._at_s = min(self._at_s, time.monotonic())
        self.event.set()

    def _receive(self) -> None:
        self.ask()
        kafka.cap_waiting(DRAIN_S + ANSWER_S)

    def overdue(self) -> bool:
        """Tell whether to stop with work left: something failed, or what is left has taken too long."""
        return self.error is not None or time.monotonic() - self._at_s > DRAIN_S

    def fail(self, error: BaseException) -> None:
        """Stop because of an error, of ours where the engine raised one; the first one counts."""
        self.error = self.error or own_error(error) or error
        self.event.set()


# ``market`` and ``risk`` on Bytewax in this process: where they go on from, and which of our errors ended them.

log = logging.getLogger("seawall")
SWITCH_S = 0.0005  # Python's own 5 ms may be waited for at each call of a transaction committed beside other work


@dataclass
class DataflowTotals:
    """Totals of one dataflow: ``seconds`` are processor seconds of its workers."""

    slices: int = 0
    events: int = 0
    seconds: float = 0.0


def run_market(configuration: Configuration, stop: Stop, workers: int, totals: DataflowTotals) -> None:
    """Run market; a recovery store that cannot be read is set aside once and the inputs are read again."""
    from seawall.dataflows.market import build  # noqa: PLC0415 - a process loads only the dataflows that it runs

    def note(events: int) -> None:
        totals.events = events

    def make() -> "Dataflow":
        return build(configuration, stop.event.is_set, note)

    for attempt in (1, 2):
        try:
            run_engine(configuration, MARKET_RECOVERY, make, workers, totals)
            return
        except SnapshotError as error:
            if attempt == 2 or stop.error is not None:
                raise
            log.warning(
                "%s; it is kept as %s and the inputs are read again",
                error,
                set_recovery_aside(configuration.directory / MARKET_RECOVERY).name,
            )


def load_dataflows(wanted: Iterable[str], engine: str) -> None:
    """Import the dataflows of a run before its threads begin.

    Threads that import parts of one package at the same moment ended runs: with Python 3.11 importlib's own locks raise
    ``KeyError`` there.
    """
    for name in wanted:
        if name in {"market", "seal"} or (name == "risk" and engine != "local"):
            importlib.import_module(f"seawall.dataflows.{name}")


def run_risk(
    configuration: Configuration,
    stopped: Callable[[], bool],
    sequenced: threading.Event | None,
    workers: int,
    totals: DataflowTotals,
    addresses: list[str],
    process: int,
    replica: Replica | None,
) -> None:
    """Run risk, as one process of those at ``addresses`` where there are several."""
    from seawall.dataflows.risk import build  # noqa: PLC0415 - a process loads only the dataflows that it runs

    finished: Callable[[], bool] | None = None if sequenced is None else sequenced.is_set

    def make() -> "Dataflow":
        return build(configuration, finished, stopped, replica)

    run_engine(configuration, recovery_store(configuration, replica).name, make, workers, totals, addresses, process)


def run_local_risk(
    configuration: Configuration,
    stopped: Callable[[], bool],
    sequenced: threading.Event | None,
    totals: DataflowTotals,
) -> None:
    """Run risk in a plain loop, without an engine."""
    from seawall.dataflows import LocalRisk  # noqa: PLC0415 - a process loads only the dataflows that it runs

    own = time.thread_time()
    finished: Callable[[], bool] | None = None if sequenced is None else sequenced.is_set
    LocalRisk(configuration, local_store(configuration), finished, stopped).run()
    totals.seconds = round(time.thread_time() - own, 3)


def tune_interpreter(live: bool) -> None:
    """Let the garbage collector look seldom: what is loaded stays, and the rows of a slice are no cycles.

    With ``live`` inputs a thread that commits gets the interpreter from one that computes sooner, too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    if live:
        sys.setswitchinterval(SWITCH_S)


def run_engine(
    configuration: Configuration,
    store: str,
    make: Callable[[], "Dataflow"],
    workers: int,
    totals: DataflowTotals,
    addresses: Sequence[str] = (),
    process: int = 0,
) -> None:
    """Run a dataflow on Bytewax with its recovery store; raise our error where one is behind the engine's."""
    recovery = open_recovery(configuration.directory / store)
    flow = make()
    tune_interpreter(bool(configuration.topics))
    before = time.process_time() - time.thread_time()
    own = time.thread_time()
    try:
        cli_main(
            flow,
            workers_per_process=workers,
            process_id=process if addresses else None,
            addresses=list(addresses) or None,
            epoch_interval=timedelta(seconds=configuration.snapshot_s),
            recovery_config=recovery,
        )
    except BaseException as error:
        known = own_error(error, step_failures) or recovery_store_error(configuration.directory / store, error)
        bus_failures.clear()
        step_failures.clear()
        if known is None:
            raise
        raise known from error
    finally:
        totals.seconds = round(time.thread_time() - own, 3) if workers == 1 else round(time.process_time() - before, 3)


# The ``seal`` part of ``seawall run``: the sealer on Bytewax in a thread beside the others.

EPOCH = timedelta(seconds=1)


class SealThread(threading.Thread):
    """Seals until the audit is complete or the run stops.

    Parameters
    ----------
    finished
        Tells that no more audit records will come; None: records say so themselves.
    stopped
        Tells that the run is to stop.
    failed
        Is told what went wrong.
    replica
        Wait until nobody else seals.
    """

    def __init__(
        self,
        configuration: Configuration,
        bus: Bus,
        finished: Callable[[], bool] | None,
        stopped: Callable[[], bool],
        failed: Callable[[BaseException], None],
        replica: Replica | None = None,
    ) -> None:
        super().__init__(name="seal")
        self._configuration, self._bus = configuration, bus
        self._finished, self._stopped, self._failed = finished, stopped, failed
        self._replica = replica
        self._store = recovery_store(configuration, replica, SEAL_RECOVERY)
        self.seconds = 0.0
        if replica is None:
            _check_recovery(self._store, configuration, bus)

    def run(self) -> None:
        """Run the dataflow."""
        started = time.thread_time()
        try:
            if self._replica is None:
                self._seal_whole()
            else:
                self._take_turns(self._replica)
        except BaseException as error:
            self._failed(error)
        self.seconds = round(time.thread_time() - started, 3)

    def _take_turns(self, replica: Replica) -> None:
        """Wait until nobody seals, and seal; who is displaced waits again, because it may have been only slow."""
        while wait_to_seal(self._configuration, self._bus, replica, self._finished, self._stopped):
            _check_recovery(self._store, self._configuration, self._bus)
            try:
                self._seal_whole()
                return
            except BaseException as error:
                displaced = own_error(error)
                if not isinstance(displaced, PartitionLocked):
                    raise
                if displaced in bus_failures:
                    bus_failures.remove(displaced)
                log.warning("replica %s seals no longer: %s", replica.name, displaced)

    def _seal_whole(self) -> None:
        """Seal; a recovery store that cannot be read is set aside once and the log is sealed again."""
        try:
            self._seal()
        except SnapshotError as error:
            kept = set_recovery_aside(self._store).name
            log.warning("%s; it is kept as %s and the log is sealed again", error, kept)
            self._seal()

    def _seal(self) -> None:
        from seawall.dataflows.seal import build  # noqa: PLC0415 - a process loads only the dataflows that it runs

        recovery = open_recovery(self._store)
        flow = build(self._configuration, self._finished, self._stopped, self._replica is not None)
        try:
            cli_main(flow, epoch_interval=EPOCH, recovery_config=recovery)
        except BaseException as error:
            if own_error(error) is None and (failed := recovery_store_error(self._store, error)) is not None:
                raise failed from error
            raise
        for partition in range(0 if self._stopped() else self._configuration.shards + 1):
            check_all_sealed(self._bus, partition)


def _check_recovery(folder: Path, configuration: Configuration, bus: Bus) -> None:
    """Set the recovery store aside where it does not go with what stands."""
    partitions = range(configuration.shards + 1)
    sound = all(is_log_stored(bus, configuration.directory, partition) for partition in partitions)
    if folder.exists() and not (sound and bus.topics()):
        log.warning(
            "the logs are sealed again from their start; the old recovery store is %s", set_recovery_aside(folder).name
        )
