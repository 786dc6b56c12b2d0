"""``seawall run``: the dataflows of a configuration, in one process or several.

1. Check keys, input files and the recovery store; make what a first run needs.
2. With bounded inputs ``market`` runs first, on Bytewax in the main thread; with live ones in a thread beside the rest.
3. ``sequence`` and ``seal`` run in a thread each; ``risk`` on Bytewax, in the main thread or in worker processes.
4. Bounded inputs end; live ones run until SIGTERM or SIGINT. Then each part ends after the one before it, so that what
   was journaled is decided on, and what was decided is sealed: ``sequence``, ``risk``, ``seal``.
"""

import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from seawall.connectors.bus import Bus, open_bus
from seawall.connectors.keys import PUBLIC, SEALERS, key_path, new_key
from seawall.connectors.limit_documents import read_key_sets
from seawall.connectors.replica import Replica
from seawall.connectors.signers import check_signer, open_signer
from seawall.connectors.topics import topic_partitions
from seawall.ops.health_server import answering
from seawall.ops.joins import check_joins
from seawall.ops.migration_mark import check_mark
from seawall.ops.ports import free_ports
from seawall.ops.sealing import SealThread
from seawall.ops.standby import StandbySequencer
from seawall.ops.stopping import Stop
from seawall.schemas.configuration import RUN_FILE, Configuration
from seawall.schemas.dsse import Signer
from seawall.schemas.errors import SeawallError, SnapshotError, UsageError
from seawall.schemas.telemetry import watching

if TYPE_CHECKING:
    from bytewax.dataflow import Dataflow

    from seawall.dataflows.sequence import Sequencer

log = logging.getLogger("seawall")
EPOCH = timedelta(seconds=1)
DATAFLOWS = ("market", "sequence", "risk", "seal")
RECOVERY = "recovery"
MARKET_RECOVERY = "recovery-market"
DAY_US = 86_400_000_000
WARN_DAYS = 14
STARTED_S = 5.0  # until a broker knows its topics again
SNAPSHOT_EXIT = 75  # of a worker process whose recovery store cannot be read (EX_TEMPFAIL)


@dataclass
class Totals:
    """What one dataflow did: ``seconds`` are processor seconds of its workers."""

    slices: int = 0
    events: int = 0
    seconds: float = 0.0


@dataclass
class Outcome:
    """What a run did, by dataflow; and how many records were rejected in all."""

    dataflows: dict[str, Totals] = field(default_factory=dict)
    rejected: int = 0

    def to_json(self) -> str:
        """Return the object of CONTRACT §5."""
        return json.dumps(asdict(self))


def prepare(configuration: Configuration) -> Bus:
    """Make what a first run needs: in ``dev`` the topics of a cluster and the key; return the bus.

    Raises
    ------
    UsageError
        There is no key, and none may be made here: not ``dev``, or the topics have records already. Or a cluster has
        no such topics, or with other partitions.
    """
    check_mark(configuration)
    bus = open_bus(configuration.bus, configuration.directory)
    bus.provide(topic_partitions(configuration), make=configuration.environment == "dev")
    if configuration.environment == "prod" and configuration.key_set is None:
        raise UsageError("keys of prod are vouched for: set [keys] set and set_sha256; see seawall keys propose --help")
    signer = _prepare_key(configuration, configuration.signer, PUBLIC, bool(bus.topics()))
    sealer = _prepare_key(configuration, configuration.sealer, SEALERS, bool(bus.partitions("checkpoints")))
    if configuration.key_set is not None:
        key_set, now_us = read_key_sets(configuration)[-1], time.time_ns() // 1000
        check_signer(signer, key_set, configuration.environment, now_us)
        check_signer(sealer, key_set, configuration.environment, now_us, "sealer")
        days = (key_set.document.exp_us - now_us) // DAY_US
        if days < WARN_DAYS:
            log.warning("key set version %d expires in %d days; publish the next one", key_set.version, days)
    return bus


def _prepare_key(configuration: Configuration, signer: str, public: str, used: bool) -> Signer:
    """Open a signer once, to refuse early; make the key of a first development run."""
    key = key_path(signer, configuration.directory)
    if key is not None and not key.exists() and not key.is_symlink():
        if configuration.environment != "dev":
            raise UsageError(f"the key {key} does not exist; keys of {configuration.environment} are never made here")
        if used:
            raise UsageError(f"the key {key} does not exist, but its run has records; bring the key back")
        new_key(key, public)
    return open_signer(signer, configuration.directory, public)


def run(
    configuration: Configuration,
    only: Iterable[str] = (),
    workers: int = 1,
    processes: int = 1,
    replica: Replica | None = None,
) -> Outcome:
    """Run dataflows until their inputs end or a signal stops them.

    Parameters
    ----------
    only
        Names of dataflows; none means all.
    workers, processes
        Bytewax workers per process, and processes, of ``risk``.
    replica
        This process is one of several that run the same dataflows: it writes where no other does.

    Raises
    ------
    SeawallError
        Bad usage, or the world failed; restarting continues where it stopped.
    """
    wanted = tuple(only) or DATAFLOWS
    if replica is not None:
        _check_replica(configuration, wanted)
    bus = prepare(configuration)
    stop, threads = Stop(), list[threading.Thread]()
    if replica is not None:
        replica = replica._replace(stopped=stop.event.is_set, overdue=stop.overdue)
    with stop.on_signal(), answering(configuration, set(wanted), threads, stop.event.is_set):
        return _run(configuration, bus, wanted, workers, processes, stop, threads, replica)


def _check_replica(configuration: Configuration, wanted: tuple[str, ...]) -> None:
    if not configuration.topics:
        raise UsageError("--replica is for live topics: files are read again after a crash, which loses nothing")
    if "market" in wanted:
        text = "market has no replicas: what it answers depends on the order of arrival"
        raise UsageError(f"{text}; give --only sequence, --only risk or --only seal beside --replica")


def _run(
    configuration: Configuration,
    bus: Bus,
    wanted: tuple[str, ...],
    workers: int,
    processes: int,
    stop: Stop,
    threads: list[threading.Thread],
    replica: Replica | None,
) -> Outcome:
    """Run the wanted dataflows, each in one of ``threads`` but ``risk``, and count what they did."""
    outcome = Outcome()
    sequenced, decided = threading.Event(), threading.Event()
    for recovery in (store_of(configuration, replica), configuration.directory / MARKET_RECOVERY):
        if recovery.exists() and _is_new(bus):
            log.warning("the bus is new: the recovery store of another one is kept as %s", _set_aside(recovery))
    seal = None
    if "seal" in wanted:
        beside = "risk" in wanted  # then a signal ends risk first, and what it wrote is sealed before this ends
        stopped = (lambda: stop.error is not None) if beside else stop.event.is_set
        seal = SealThread(configuration, bus, decided.is_set if beside else None, stopped, stop.fail, replica)
    sequencer = _sequencer(configuration, bus, replica) if "sequence" in wanted else None
    try:
        if "market" in wanted:
            threads += _market(configuration, stop, workers, outcome)
        if sequencer is not None:
            threads.append(_start_sequence(configuration, sequencer, stop, sequenced, outcome))
        if seal is not None:
            threads.append(seal)
            seal.start()
        if "risk" in wanted:
            alone = "sequence" not in wanted
            totals = outcome.dataflows.setdefault("risk", Totals())
            _risk(configuration, stop, None if alone else sequenced, workers, processes, totals, replica)
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
        outcome.dataflows["seal"] = Totals(events=sealed, seconds=seal.seconds)
    return outcome


def _is_new(bus: Bus) -> bool:
    """Tell whether a bus holds nothing; a broker that has just been started again may say so for a moment."""
    deadline = time.monotonic() + (STARTED_S if bus.fences else 0.0)
    while not bus.topics():
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.2)
    return False


def _count(bus: Bus, configuration: Configuration, outcome: Outcome) -> None:
    if "market" in outcome.dataflows:
        outcome.dataflows["market"].slices = sum(bus.end("signals", group) for group in bus.partitions("signals"))
    if "risk" in outcome.dataflows:
        outcome.dataflows["risk"].slices = sum(bus.end("journal", shard) for shard in range(configuration.shards))
        if "sequence" in outcome.dataflows:
            outcome.dataflows["risk"].events = outcome.dataflows["sequence"].events


def _sequencer(configuration: Configuration, bus: Bus, replica: Replica | None) -> "Sequencer | StandbySequencer":
    """Return the sequencer; what it refuses it refuses here, before anything else runs, but for one that stands by."""
    from seawall.dataflows.sequence import Sequencer

    if replica is not None:
        return StandbySequencer(configuration, bus, replica, lambda: _save(configuration))
    check_joins(bus, configuration)
    sequencer = Sequencer(configuration, bus)
    _save(configuration)
    return sequencer


def _start_sequence(
    configuration: Configuration,
    sequencer: "Sequencer | StandbySequencer",
    stop: Stop,
    done: threading.Event,
    outcome: Outcome,
) -> threading.Thread:
    """Start the sequencer in a thread; ``done`` is set when it writes no more and what it wrote is to be decided on."""

    def work() -> None:
        started = time.thread_time()
        try:
            sequencer.run(stop.event)
            seconds = round(time.thread_time() - started, 3)
            outcome.dataflows["sequence"] = Totals(sequencer.slices, sequencer.events, seconds)
            if configuration.topics or not stop.event.is_set():
                done.set()
        except BaseException as error:
            stop.fail(error)

    thread = threading.Thread(target=work, name="sequence")
    thread.start()
    return thread


def _save(configuration: Configuration) -> None:
    """Keep the configuration as ``run.toml``, whole or not at all, once the journal goes with it."""
    saved = configuration.directory / RUN_FILE
    if configuration.path != saved:
        partial = saved.with_name(f".{RUN_FILE}.{os.getpid()}")
        partial.write_bytes(configuration.path.read_bytes())
        partial.replace(saved)


def store_of(configuration: Configuration, replica: Replica | None) -> Path:
    """Return the recovery store of ``risk``; each replica has its own."""
    return configuration.directory / (RECOVERY if replica is None else f"{RECOVERY}-{replica.name}")


def _set_aside(folder: Path) -> str:
    from seawall.connectors.recovery import set_aside

    return set_aside(folder).name


# --- market -----------------------------------------------------------------------------------------------------------


def _market(configuration: Configuration, stop: Stop, workers: int, outcome: Outcome) -> list[threading.Thread]:
    """Run market to its end, or start it in a thread beside live inputs; not where the inputs hold nothing for it."""
    from seawall.dataflows.market_inputs import has_market_records

    live = bool(configuration.topics)
    if not live and not has_market_records(configuration):
        return []
    totals = outcome.dataflows.setdefault("market", Totals())
    if not live:
        _run_market(configuration, stop, workers, totals)
        return []

    def work() -> None:
        try:
            _run_market(configuration, stop, workers, totals)
        except BaseException as error:
            stop.fail(error)

    thread = threading.Thread(target=work, name="market")
    thread.start()
    return [thread]


def _run_market(configuration: Configuration, stop: Stop, workers: int, totals: Totals) -> None:
    """Run market; a recovery store that cannot be read is set aside once and the inputs are read again."""
    from seawall.dataflows.market import build

    def note(events: int) -> None:
        totals.events = events

    def make() -> "Dataflow":
        return build(configuration, stop.event.is_set, note)

    for attempt in (1, 2):
        try:
            _engine(configuration, MARKET_RECOVERY, make, workers, totals)
            return
        except SnapshotError as error:
            if attempt == 2 or stop.error is not None:
                raise
            log.warning(
                "%s; it is kept as %s and the inputs are read again",
                error,
                _set_aside(configuration.directory / MARKET_RECOVERY),
            )


# --- risk -------------------------------------------------------------------------------------------------------------


def _risk(
    configuration: Configuration,
    stop: Stop,
    sequenced: threading.Event | None,
    workers: int,
    processes: int,
    totals: Totals,
    replica: Replica | None,
) -> None:
    """Run risk; a recovery store that cannot be read is set aside once and the journal replayed.

    Where live inputs are sequenced in this process, a signal ends the sequencer, and risk ends at the journal's end.
    """
    drains = sequenced is not None and bool(configuration.topics)
    stopped = stop.overdue if drains else stop.event.is_set
    for attempt in (1, 2):
        try:
            if processes > 1:
                _risk_processes(configuration, stop, stopped, sequenced, workers, processes, totals, replica)
            else:
                _bytewax(configuration, stopped, sequenced, workers, totals, [], 0, replica)
            return
        except SnapshotError as error:
            if attempt == 2 or stop.error is not None:
                raise
            kept = _set_aside(store_of(configuration, replica))
            log.warning("%s; it is kept as %s and the journal is replayed", error, kept)


def _bytewax(
    configuration: Configuration,
    stopped: Callable[[], bool],
    sequenced: threading.Event | None,
    workers: int,
    totals: Totals,
    addresses: list[str],
    process: int,
    replica: Replica | None,
) -> None:
    from seawall.dataflows.risk import build

    finished: Callable[[], bool] | None = None if sequenced is None else sequenced.is_set

    def make() -> "Dataflow":
        return build(configuration, finished, stopped, replica)

    _engine(configuration, store_of(configuration, replica).name, make, workers, totals, addresses, process)


def _engine(
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

    from seawall.connectors.failures import failures as outside
    from seawall.connectors.failures import own_error
    from seawall.connectors.recovery import open_recovery
    from seawall.operators._coat import failures

    recovery = open_recovery(configuration.directory / store)
    flow = make()
    gc.collect()
    gc.freeze()  # what is loaded stays; and the rows of a slice are no cycles to look for
    gc.set_threshold(100_000, 50, 50)
    before = time.process_time() - time.thread_time()
    own = time.thread_time()
    try:
        cli_main(
            flow,
            workers_per_process=workers,
            process_id=process if addresses else None,
            addresses=list(addresses) or None,
            epoch_interval=EPOCH,
            recovery_config=recovery,
        )
    except BaseException as error:
        known = own_error(error, failures)
        outside.clear()
        failures.clear()
        if known is None:
            raise
        raise known from error
    finally:
        totals.seconds = round(time.thread_time() - own, 3) if workers == 1 else round(time.process_time() - before, 3)


def _risk_processes(
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
    from seawall.connectors.recovery import open_recovery

    open_recovery(store_of(configuration, replica))
    telemetry = watching()
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(processes))
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "seawall.ops.worker", str(configuration.path), str(number), addresses, str(workers)]
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
