"""``seawall run``: the dataflows of a configuration, in one process or several.

1. Check keys, input files and the recovery store; make what a first run needs.
2. With bounded inputs ``market`` runs first, on Bytewax in the main thread; with live ones in a thread beside the rest.
3. ``sequence`` and ``seal`` run in a thread each; ``risk`` on Bytewax, in the main thread or in worker processes.
4. Bounded inputs end; live ones run until SIGTERM or SIGINT. Then each part ends after the one before it, so that what
   was journaled is decided on, and what was decided is sealed: ``sequence``, ``risk``, ``seal``.
"""

import json
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from seawall import dataflows
from seawall.connectors.bus import Bus, Replica
from seawall.ops.run._engine_change import carry_states
from seawall.ops.run._health_server import serve_health
from seawall.ops.run._parts import (
    DataflowTotals,
    SealThread,
    Stop,
    load_dataflows,
    run_local_risk,
    run_market,
    run_risk,
    tune_interpreter,
)
from seawall.ops.run._preparation import local_store, prepare_run, recovery_store, save_configuration, set_stores_aside
from seawall.ops.run._recovery import set_recovery_aside
from seawall.ops.run._standby import StandbySequencer
from seawall.ops.run.worker import run_processes
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import SnapshotError, UsageError

log = logging.getLogger("seawall")
ENGINES = ("bytewax", "local")  # of ``risk``
DATAFLOWS = ("market", "sequence", "risk", "seal")


@dataclass
class RunOutcome:
    """Outcome of a run, by dataflow; and how many records were rejected in all."""

    dataflows: dict[str, DataflowTotals] = field(default_factory=dict)
    rejected: int = 0

    def to_json(self) -> str:
        """Return the object of contract.md, "Command line"."""
        return json.dumps(asdict(self))


def run(
    configuration: Configuration,
    only: Iterable[str] = (),
    workers: int = 1,
    processes: int = 1,
    replica: Replica | None = None,
    engine: str = "bytewax",
) -> RunOutcome:
    """Run dataflows until their inputs end or a signal stops them.

    Parameters
    ----------
    only
        Names of dataflows; none means all.
    workers, processes
        Bytewax workers per process, and processes, of ``risk``.
    replica
        This process is one of several that run the same dataflows: it writes where no other does.
    engine
        What hosts ``risk``: ``bytewax``, or ``local``, a plain loop in this process.

    Raises
    ------
    SeawallError
        Bad usage, or the world failed; restarting continues where it stopped.
    """
    wanted = tuple(only) or DATAFLOWS
    _check_engine(engine, workers, processes, replica)
    if replica is not None:
        _check_replica(configuration, wanted)
    bus = prepare_run(configuration, wanted)
    load_dataflows(wanted, engine)
    stop, threads = Stop(), list[threading.Thread]()
    if replica is not None:
        replica = replica._replace(stopped=stop.event.is_set, overdue=stop.overdue)
    with stop.on_signal(), serve_health(configuration, set(wanted), threads, stop.event.is_set, replica):
        return _run(configuration, bus, wanted, workers, processes, stop, threads, replica, engine)


def _check_engine(engine: str, workers: int, processes: int, replica: Replica | None) -> None:
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine}: an engine is one of {', '.join(ENGINES)}")
    if engine == "local" and (workers > 1 or processes > 1 or replica is not None):
        raise UsageError("--engine local is one loop: it has no --workers, --processes or --replica")


def _check_replica(configuration: Configuration, wanted: tuple[str, ...]) -> None:
    if not configuration.topics:
        raise UsageError("--replica is for live topics: files are read again after a crash, which loses nothing")
    if "market" in wanted:
        text = "market has no replicas: what it answers depends on the order of arrival"
        raise UsageError(f"{text}; give --only sequence, --only risk or --only seal beside --replica")


def _run(  # noqa: PLR0913 - what one run is made of
    configuration: Configuration,
    bus: Bus,
    wanted: tuple[str, ...],
    workers: int,
    processes: int,
    stop: Stop,
    threads: list[threading.Thread],
    replica: Replica | None,
    engine: str,
) -> RunOutcome:
    """Run the wanted dataflows, each in one of ``threads`` but ``risk``, and count what they did."""
    outcome = RunOutcome()
    sequenced, decided = threading.Event(), threading.Event()
    set_stores_aside(configuration, bus, replica)
    seal = None
    sequencer = _sequencer(configuration, bus, replica) if "sequence" in wanted else None
    tune_interpreter(bool(configuration.topics))
    try:
        if "seal" in wanted:  # it may set its store aside, as only the one run may whose sequencer was let in
            beside = "risk" in wanted  # then a signal ends risk first, and what it wrote is sealed before this ends
            stopped = (lambda: stop.error is not None) if beside else stop.event.is_set
            seal = SealThread(configuration, bus, decided.is_set if beside else None, stopped, stop.fail, replica)
        if "market" in wanted:
            threads += _market(configuration, stop, workers, outcome)
        if sequencer is not None:
            threads.append(_start_sequence(configuration, sequencer, stop, sequenced, outcome))
        if seal is not None:
            threads.append(seal)
            seal.start()
        if "risk" in wanted:
            alone = "sequence" not in wanted
            totals = outcome.dataflows.setdefault("risk", DataflowTotals())
            _risk(configuration, bus, stop, None if alone else sequenced, workers, processes, totals, replica, engine)
            decided.set()
    except BaseException as error:
        stop.fail(error)
        raise
    finally:
        for part in threads:
            part.join()
        if sequencer is not None and not any(part.name == "sequence" for part in threads):
            sequencer.close()
    if stop.error is not None:
        raise stop.error
    outcome.rejected = sum(bus.end("rejects", partition) for partition in bus.partitions("rejects"))
    _count(bus, configuration, outcome)
    if seal is not None:
        sealed = sum(bus.end("audit", partition) for partition in range(configuration.shards + 1))
        outcome.dataflows["seal"] = DataflowTotals(events=sealed, seconds=seal.seconds)
    return outcome


def _count(bus: Bus, configuration: Configuration, outcome: RunOutcome) -> None:
    if "market" in outcome.dataflows:
        outcome.dataflows["market"].slices = sum(bus.end("signals", group) for group in bus.partitions("signals"))
    if "risk" in outcome.dataflows:
        outcome.dataflows["risk"].slices = sum(bus.end("journal", shard) for shard in range(configuration.shards))
        if "sequence" in outcome.dataflows:
            outcome.dataflows["risk"].events = outcome.dataflows["sequence"].events


def _sequencer(
    configuration: Configuration, bus: Bus, replica: Replica | None
) -> "dataflows.Sequencer | StandbySequencer":
    """Return the sequencer; what it refuses it refuses here, before anything else runs, but for one that stands by."""
    if replica is not None:
        return StandbySequencer(configuration, bus, replica, lambda: save_configuration(configuration))
    dataflows.check_compatibility(bus, configuration)
    sequencer = dataflows.Sequencer(configuration, bus)
    save_configuration(configuration)
    return sequencer


def _start_sequence(
    configuration: Configuration,
    sequencer: "dataflows.Sequencer | StandbySequencer",
    stop: Stop,
    done: threading.Event,
    outcome: RunOutcome,
) -> threading.Thread:
    """Start the sequencer in a thread; ``done`` is set when it writes no more and what it wrote is to be decided on."""

    def work() -> None:
        started = time.thread_time()
        try:
            sequencer.run(stop.event)
            seconds = round(time.thread_time() - started, 3)
            outcome.dataflows["sequence"] = DataflowTotals(sequencer.slices, sequencer.events, seconds)
            if configuration.topics or not stop.event.is_set():
                done.set()
        except BaseException as error:
            stop.fail(error)

    thread = threading.Thread(target=work, name="sequence")
    thread.start()
    return thread


def _market(configuration: Configuration, stop: Stop, workers: int, outcome: RunOutcome) -> list[threading.Thread]:
    """Run market to its end, or start it in a thread beside live inputs; not where the inputs hold nothing for it."""
    live = bool(configuration.topics)
    if not live and not dataflows.has_market_records(configuration):
        return []
    totals = outcome.dataflows.setdefault("market", DataflowTotals())
    if not live:
        run_market(configuration, stop, workers, totals)
        return []

    def work() -> None:
        try:
            run_market(configuration, stop, workers, totals)
        except BaseException as error:
            stop.fail(error)

    thread = threading.Thread(target=work, name="market")
    thread.start()
    return [thread]


def _risk(  # noqa: PLR0913 - what risk is run with
    configuration: Configuration,
    bus: Bus,
    stop: Stop,
    sequenced: threading.Event | None,
    workers: int,
    processes: int,
    totals: DataflowTotals,
    replica: Replica | None,
    engine: str,
) -> None:
    """Run risk; a recovery store that cannot be read is set aside once and the journal replayed.

    Where live inputs are sequenced in this process, a signal ends the sequencer, and risk ends at the journal's end.
    """
    drains = sequenced is not None and bool(configuration.topics)
    stopped = stop.overdue if drains else stop.event.is_set
    store = local_store(configuration) if engine == "local" else recovery_store(configuration, replica)
    for attempt in (1, 2):
        try:
            carry_states(configuration, bus, store)
            if engine == "local":
                run_local_risk(configuration, stopped, sequenced, totals)
            elif processes > 1:
                run_processes(configuration, stop, stopped, sequenced, workers, processes, totals, replica)
            else:
                run_risk(configuration, stopped, sequenced, workers, totals, [], 0, replica)
            return
        except SnapshotError as error:
            if attempt == 2 or stop.error is not None:
                raise
            kept = set_recovery_aside(store).name
            log.warning("%s; it is kept as %s and the journal is replayed", error, kept)
