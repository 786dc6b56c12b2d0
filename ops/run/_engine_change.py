"""Changes of engine and of version: the states of ``risk`` go to another engine, or from earlier rules to these.

With ``seawall migrate --to flink|bytewax``:

1. Nobody may be deciding: the run on Bytewax is stopped, or the job on Flink stopped and drained.
2. To Flink: the states in the recovery store are published on ``snapshots``. A job that is submitted without a
   savepoint begins with them, and reads the journal from there on.
3. To Bytewax: the states that the job published when it stopped, which must be of one moment and of the last slice that
   was decided, become a recovery store; the one before is set aside.

Nothing that was decided changes, and nothing is decided twice: both engines' records are compared with those that are
stored. Topics and states stay in place, so a move may be made again, and either engine may be killed.

Every state in the recovery store is bytes of our own, so a change of engine only has to find them. Of the last
execution, the states before the epoch at which it would resume count. Tables and meanings are those of Bytewax 0.21, as
`seawall.ops.run._recovery` makes them.
"""

import contextlib
import hashlib
import io
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import seawall
from seawall import dataflows
from seawall.connectors.bus import SNAPSHOTS_TOPIC, Bus, KeptSnapshot, engine_key, open_bus
from seawall.connectors.keys import Trust
from seawall.operators.core.pipeline import Pipeline
from seawall.ops import verify as verification
from seawall.ops.replicate import check_migration_mark
from seawall.ops.run._preparation import LOCAL_RECOVERY, RECOVERY
from seawall.ops.run._recovery import is_recovery_sound, open_recovery, set_recovery_aside
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import InvariantError, SnapshotError, UsageError
from seawall.schemas.records import check_decided_alike, check_not_older, decides_alike, decode_slice

# The states of ``risk`` in Bytewax's recovery store, read and written by key.

STORE = "part-0.sqlite3"
JOURNAL = "risk.journal"
STEPS = ("risk.pipeline.shard", "risk.pipeline.firm")  # the steps that keep the states (`seawall.dataflows.risk`)
EPOCH = 2  # of what is written: the first that an execution has after its own start
LATEST = """
select step_id, state_key, ser_change, max(snap_epoch) from snaps
where snap_epoch < ? and step_id like 'risk.%' group by step_id, state_key
"""
Place = tuple[int, str]


class _PlainReader(pickle.Unpickler):
    """Reads numbers, text, bytes and tuples of them, which is all that ``risk`` gives the engine to keep."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse: whatever has a class or a function in it could run code."""
        raise UsageError(f"the recovery store holds {module}.{name}, which nothing of Seawall writes: do not use it")


def read_plain(data: bytes) -> Any:
    """Return what the engine pickled; raise UsageError where it holds anything but plain values."""
    try:
        return _PlainReader(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, LookupError, AttributeError, ImportError) as error:
        raise UsageError(
            f"the recovery store holds what cannot be read ({error}): let the journal be replayed"
        ) from error


def read_store(folder: Path, shards: int) -> tuple[list[bytes], list[Place]]:
    """Return the state of every shard and, last, that of the firm, and each shard's next offset in the journal.

    Raises
    ------
    UsageError
        There is no sound store, or it lacks a state.
    """
    if not is_recovery_sound(folder):
        raise UsageError(f"{folder} holds no recovery store of Bytewax: nothing of it can be moved")
    with contextlib.closing(sqlite3.connect(folder / STORE)) as store:
        (epoch,) = store.execute(
            "select coalesce(min(worker_frontier), max(resume_epoch)) from exs left join fronts using (ex_num) "
            "where ex_num = (select max(ex_num) from exs)"
        ).fetchone()
        rows = {(step, key): read_plain(kept) for step, key, kept, _ in store.execute(LATEST, (epoch,)) if kept}
    states = [rows.get(_row(partition, shards)) for partition in range(shards + 1)]
    places = [rows.get((JOURNAL, str(shard))) for shard in range(shards)]
    if not all(isinstance(state, bytes) for state in states) or not all(isinstance(place, tuple) for place in places):
        raise UsageError(f"{folder} holds no whole state of risk: let the run go on for a second first")
    return [bytes(state) for state in states if state], [place for place in places if place]


def _row(partition: int, shards: int) -> tuple[str, str]:
    """Return step and key of a state."""
    return STEPS[partition == shards], engine_key(partition)


def write_store(folder: Path, states: list[bytes], places: list[Place]) -> None:
    """Make a recovery store that Bytewax resumes from; ``folder`` must not exist. Whole or not there at all."""
    fresh = folder.with_name(f".{folder.name}.moving")
    with contextlib.suppress(FileNotFoundError):
        for file in fresh.iterdir():
            file.unlink()
        fresh.rmdir()
    open_recovery(fresh)
    with contextlib.closing(sqlite3.connect(fresh / STORE)) as store, store:
        rows = [(step, key, EPOCH, pickle.dumps(kept)) for step, key, kept in _rows(states, places)]
        store.executemany("insert into snaps (step_id, state_key, snap_epoch, ser_change) values (?, ?, ?, ?)", rows)
        store.execute("insert into exs (ex_num, worker_count, resume_epoch) values (0, 1, 1)")
        store.execute("insert into fronts (ex_num, worker_index, worker_frontier) values (0, 0, ?)", (EPOCH + 1,))
        store.execute("insert or replace into commits (part_index, commit_epoch) values (0, ?)", (EPOCH - 1,))
    fresh.rename(folder)


def _rows(states: list[bytes], places: list[Place]) -> Iterator[tuple[str, str, Any]]:
    yield from ((*_row(partition, len(places)), state) for partition, state in enumerate(states))
    yield from ((JOURNAL, str(shard), place) for shard, place in enumerate(places))


# ``seawall migrate --to flink|bytewax``: the states of ``risk``, from one engine to the other.

ENGINES = ("bytewax", "flink")
AGAIN = "stop the job with flink stop --drain, which publishes its states, and try again"


def change_engine(configuration: Configuration, engine: str) -> dict[str, int]:
    """Move the states of ``risk`` to an engine; return the last slice of each shard, the last second of ``all``.

    Raises
    ------
    UsageError
        The bus is none that Flink reads, or there are no states to move.
    PartitionLocked
        A run on Bytewax is alive.
    SnapshotError
        The states on ``snapshots`` are not of one moment, or not of the last one.
    """
    if engine not in ENGINES:
        raise UsageError(f"--to {engine}: an engine is one of {', '.join(ENGINES)}")
    if not configuration.bus.startswith("kafka:"):
        raise UsageError(f'bus = "{configuration.bus}": Flink reads from Kafka; move there first (seawall migrate)')
    check_migration_mark(configuration)
    bus, shards = open_bus(configuration.bus, configuration.directory), configuration.shards
    try:
        bus.writer([("audit", partition) for partition in range(shards + 1)]).close()
        move = _to_flink if engine == "flink" else _to_bytewax
        places = move(bus, shards, configuration.directory / RECOVERY)
    finally:
        bus.close()
    return {"all" if place == shards else str(place): seq for place, seq in places.items()}


def _to_flink(bus: Bus, shards: int, recovery: Path) -> dict[int, int]:
    states, _ = read_store(recovery, shards)
    places = _places(states)
    for partition, state in enumerate(states):
        KeptSnapshot(places[partition], state).publish(bus, partition)
    return places


def _to_bytewax(bus: Bus, shards: int, recovery: Path) -> dict[int, int]:
    kept = [_last(bus, partition) for partition in range(shards + 1)]
    states = [one.data for one in kept]
    try:
        found = _places(states)
    except InvariantError as error:
        raise SnapshotError(f"the states on {SNAPSHOTS_TOPIC} are not of one moment: {error}; {AGAIN}") from None
    if recovery.exists():
        set_recovery_aside(recovery)
    write_store(recovery, states, [(one.seq + 1, _digest(bus, at, one.seq)) for at, one in enumerate(kept[:shards])])
    return found


def _places(states: list[bytes]) -> dict[int, int]:
    """Return the last slice of each shard and the last second of the firm, which must be of one moment."""
    risk = Pipeline.restore(states)
    return {partition: one.seq for partition, one in enumerate(risk.parts())}


def _last(bus: Bus, partition: int) -> KeptSnapshot:
    """Return the last state of a partition, which must be that of the last audit record."""
    found, end = KeptSnapshot.latest(bus, partition), bus.end("audit", partition)
    if found is None:
        raise SnapshotError(f"{SNAPSHOTS_TOPIC}/{partition} holds no state: {AGAIN}")
    last = bus.read("audit", partition, end - 1, 1) if end else []
    seq = int(last[0].headers["seawall-id"].split("-")[1]) if last else -1
    if seq != found.seq:
        raise SnapshotError(
            f"{SNAPSHOTS_TOPIC}/{partition} ends with the state at {found.seq}, the audit at {seq}: {AGAIN}"
        )
    return found


def _digest(bus: Bus, shard: int, seq: int) -> str:
    """Return the hash of a slice, by which the store is known to be of this journal."""
    return hashlib.sha256(bus.read("journal", shard, seq, 1)[0].value).hexdigest()


# ``seawall migrate --to 0.2``: a journal that an earlier version decided up to its end goes on under this one's rules.
#
# The journal alone says that it did: in one transaction every shard gets a slice with the configuration of this version
# (``code``). The states of that place follow from the records (``ops/verify/_carry_over.py``), so that whoever has none
# makes them: after a kill, on another host, from a copy, without the recovery store.


def change_version(configuration: Configuration, series: str) -> dict[str, int]:
    """Carry a journal on under the rules of this version; return the first slice of each shard that they decide.

    Nothing where they decide already. No byte that stands is changed.

    Raises
    ------
    UsageError
        This is another version, or what stands is not decided up to its end or does not verify.
    PartitionLocked
        A run is alive.
    """
    own = ".".join(seawall.__version__.split(".")[:2])
    if series not in (own, seawall.__version__):
        raise UsageError(f"--to {series}: this is Seawall {seawall.__version__}, which carries a journal on to {own}")
    check_migration_mark(configuration)
    bus, shards = open_bus(configuration.bus, configuration.directory), configuration.shards
    try:
        dataflows.check_journal(bus, configuration)
        dataflows.check_compatibility(bus, configuration)
        bus.writer([("audit", partition) for partition in range(shards + 1)]).close()
        with contextlib.closing(dataflows.Sequencer(configuration, bus, takes_over=True)) as sequencer:
            if not sequencer.earlier:
                return {}
            _check_verified(configuration, bus)
            first = {str(shard): bus.end("journal", shard) for shard in range(shards)}
            risk = verification.carry_over(bus, shards)
            _keep_states(risk, bus, configuration.directory / RECOVERY)
            for partition, one in enumerate(risk.parts() if configuration.bus.startswith("kafka:") else ()):
                KeptSnapshot(one.seq, one.snapshot()).publish(bus, partition)  # with which a job on Flink begins
            sequencer.take_over()
    finally:
        bus.close()
    return first


def _check_verified(configuration: Configuration, bus: Bus) -> None:
    """Refuse to carry on what does not verify: from here on it would count as it stands."""
    trust, logs = Trust.load(configuration), verification.trusted_logs(configuration)
    who = configuration.environment, configuration.issuer
    report = verification.verify(bus, trust, *who, logs, configuration.topics)
    if report.findings:
        raise UsageError(f"{report.findings[0]}: what stands is carried on only where `seawall verify` finds nothing")


def carry_states(configuration: Configuration, bus: Bus, store: Path) -> None:
    """Make the states of ``risk`` in a store that has none, where an earlier version decided what they follow from.

    Raises
    ------
    UsageError
        A later version did.
    VersionMismatch
        The journal was not carried on.
    """
    kept = store.exists() if store.name == LOCAL_RECOVERY else is_recovery_sound(store)
    first = [] if kept else bus.read("journal", 0, 0, 1)
    configured = (decode_slice(first[0].value).configuration or {}) if first else {}
    if decides_alike(configured.get("code", "")):
        return
    check_not_older(configured["code"])
    risk = verification.carry_over(bus, configuration.shards)
    if (end := risk.shards[0].seq + 1) == bus.end("journal", 0):
        check_decided_alike(configured, 0, end)
    _keep_states(risk, bus, store)


def _keep_states(risk: Pipeline, bus: Bus, store: Path) -> None:
    places = [(one.seq + 1, _digest(bus, shard, one.seq)) for shard, one in enumerate(risk.shards)]
    if store.exists():
        set_recovery_aside(store)
    if store.name == LOCAL_RECOVERY:
        store.mkdir(parents=True)
        dataflows.LocalRisk.keep_states(store, risk.snapshots(), [digest for _, digest in places])
    else:
        write_store(store, risk.snapshots(), places)
