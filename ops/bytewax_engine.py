"""``market`` and ``risk`` on Bytewax in this process: where they go on from, and which of our errors ended them."""

import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from seawall.connectors.failures import failures as outside
from seawall.connectors.failures import own_error
from seawall.connectors.recovery import open_recovery, set_aside, store_error
from seawall.connectors.replica import Replica
from seawall.ops.preparing import MARKET_RECOVERY, store_of
from seawall.ops.stopping import Stop
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import SnapshotError

if TYPE_CHECKING:
    from bytewax.dataflow import Dataflow

log = logging.getLogger("seawall")
SWITCH_S = 0.0005  # Python's own 5 ms may be waited for at each call of a transaction committed beside other work


@dataclass
class Totals:
    """What one dataflow did: ``seconds`` are processor seconds of its workers."""

    slices: int = 0
    events: int = 0
    seconds: float = 0.0


def run_market(configuration: Configuration, stop: Stop, workers: int, totals: Totals) -> None:
    """Run market; a recovery store that cannot be read is set aside once and the inputs are read again."""
    from seawall.dataflows.market import build

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
                set_aside(configuration.directory / MARKET_RECOVERY).name,
            )


def run_risk(
    configuration: Configuration,
    stopped: Callable[[], bool],
    sequenced: threading.Event | None,
    workers: int,
    totals: Totals,
    addresses: list[str],
    process: int,
    replica: Replica | None,
) -> None:
    """Run risk, as one process of those at ``addresses`` where there are several."""
    from seawall.dataflows.risk import build

    finished: Callable[[], bool] | None = None if sequenced is None else sequenced.is_set

    def make() -> "Dataflow":
        return build(configuration, finished, stopped, replica)

    run_engine(configuration, store_of(configuration, replica).name, make, workers, totals, addresses, process)


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
    totals: Totals,
    addresses: Sequence[str] = (),
    process: int = 0,
) -> None:
    """Run a dataflow on Bytewax with its recovery store; raise our error where one is behind the engine's."""
    from bytewax.run import cli_main

    from seawall.operators._coat import failures

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
        known = own_error(error, failures) or store_error(configuration.directory / store, error)
        outside.clear()
        failures.clear()
        if known is None:
            raise
        raise known from error
    finally:
        totals.seconds = round(time.thread_time() - own, 3) if workers == 1 else round(time.process_time() - before, 3)
