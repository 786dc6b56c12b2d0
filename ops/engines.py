"""``seawall migrate --to flink|bytewax``: the states of ``risk``, from one engine to the other.

1. Nobody may be deciding: the run on Bytewax is stopped, or the job on Flink stopped and drained.
2. To Flink: the states in the recovery store are published on ``snapshots``. A job that is submitted without a
   savepoint begins with them, and reads the journal from there on.
3. To Bytewax: the states that the job published when it stopped, which must be of one moment and of the last slice that
   was decided, become a recovery store; the one before is set aside.

Nothing that was decided changes, and nothing is decided twice: what either engine makes again is compared with what
stands. Both topics and states stay where they are, so a move may be made again, and either engine may be killed.
"""

import hashlib
from pathlib import Path
from typing import Any

from seawall.connectors.bus import Bus, open_bus
from seawall.connectors.recovery import set_aside
from seawall.connectors.snapshots import TOPIC, Kept, latest, publish
from seawall.operators.core.keyed_risk import FirmRisk, ShardRisk, check_join
from seawall.operators.core.risk import Unsigned
from seawall.ops.engine_store import Parts, Place, read_store, write_store
from seawall.ops.migration_mark import check_mark
from seawall.ops.preparing import RECOVERY
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import InvariantError, SnapshotError, UsageError

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
    check_mark(configuration)
    bus, shards = open_bus(configuration.bus, configuration.directory), configuration.shards
    try:
        bus.writer([("audit", partition) for partition in range(shards + 1)]).close()
        move = _to_flink if engine == "flink" else _to_bytewax
        places = move(bus, shards, configuration.directory / RECOVERY)
    finally:
        bus.close()
    return {"all" if place == shards else str(place): seq for place, seq in places.items()}


def _to_flink(bus: Bus, shards: int, recovery: Path) -> dict[int, int]:
    parts, places = read_store(recovery, shards)
    told = [places[shard][0] - 1 for shard in range(shards)]
    new = FirmRisk(shards, Unsigned()).parts()
    states: list[Any] = [ShardRisk.of(parts[shard], told[shard], Unsigned()) for shard in range(shards)]
    states.append(FirmRisk.of(new | parts[shards], told, Unsigned()))
    for partition, state in enumerate(states):
        publish(bus, partition, state.seq, state.snapshot())
    return {partition: state.seq for partition, state in enumerate(states)}


def _to_bytewax(bus: Bus, shards: int, recovery: Path) -> dict[int, int]:
    kept = [_last(bus, partition) for partition in range(shards + 1)]
    states = [ShardRisk.restore(one.data, Unsigned()) for one in kept[:shards]]
    firm = FirmRisk.restore(kept[shards].data, Unsigned())
    try:
        check_join(states, firm)
    except InvariantError as error:
        raise SnapshotError(f"the states on {TOPIC} are not of one moment: {error}; {AGAIN}") from None
    parts: dict[int, Parts] = {shard: state.parts() for shard, state in enumerate(states)}
    places: dict[int, Place] = {
        shard: (one.seq + 1, _digest(bus, shard, one.seq)) for shard, one in enumerate(kept[:shards])
    }
    if recovery.exists():
        set_aside(recovery)
    write_store(recovery, parts | {shards: firm.parts()}, places)
    return {partition: one.seq for partition, one in enumerate(kept)}


def _last(bus: Bus, partition: int) -> Kept:
    """Return the last state of a partition, which must be that of the last audit record."""
    found, end = latest(bus, partition), bus.end("audit", partition)
    if found is None:
        raise SnapshotError(f"{TOPIC}/{partition} holds no state: {AGAIN}")
    last = bus.read("audit", partition, end - 1, 1) if end else []
    seq = int(last[0].headers["seawall-id"].split("-")[1]) if last else -1
    if seq != found.seq:
        raise SnapshotError(f"{TOPIC}/{partition} ends with the state at {found.seq}, the audit at {seq}: {AGAIN}")
    return found


def _digest(bus: Bus, shard: int, seq: int) -> str:
    """Return the hash of a slice, by which the store is known to be of this journal."""
    return hashlib.sha256(bus.read("journal", shard, seq, 1)[0].value).hexdigest()
