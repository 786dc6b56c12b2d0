"""Risk in memory: records go through the sequencer and the core of risk, and every measure and record is kept.

Nothing here needs an engine or a test runner, so it also loads in Flink's environment.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seawall.connectors.bus import ReadingFollower
from seawall.operators.core.base import MeasuredSlice, Outputs
from seawall.operators.core.detection import AccountBehaviourState
from seawall.operators.core.forecasts import FirmForecastState, ForecastState
from seawall.operators.core.pipeline import Decider, UnsignedCommands
from seawall.operators.core.portfolio import FIRM_KEY, ExposureState, FirmState
from seawall.schemas.records import Record, Slice, Stored, decode_slice
from seawall_testing.desk import Json, lines, sequence

# A bus in memory, with the bus's protocol: for tests that stop a writer at every place.


class MemoryBus:
    """Topics as lists."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[Stored]] = {}

    def topics(self) -> list[str]:
        return sorted({topic for topic, _ in self.records})

    def partitions(self, topic: str) -> list[int]:
        return sorted(partition for name, partition in self.records if name == topic)

    def end(self, topic: str, partition: int) -> int:
        return len(self.records.get((topic, partition), []))

    def read(
        self, topic: str, partition: int, offset: int, records_max: int = 1000, bytes_max: int = 1 << 22
    ) -> list[Stored]:
        return self.records.get((topic, partition), [])[offset : offset + records_max]

    def follow(self, topic: str, reader: str = "", begun: bool = False) -> ReadingFollower:
        return ReadingFollower(self, topic)

    def start(self, topic: str, partition: int) -> int:
        return 0

    def identity(self) -> str:
        return f"memory:{id(self)}"

    def writer(self, partitions: Iterable[tuple[str, int]], take: bool = False) -> "MemoryWriter":
        return MemoryWriter(self)

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryWriter:
    """Buffers until ``flush``."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._buffer: list[tuple[str, int, str, bytes, dict[str, str]]] = []

    def append(self, topic: str, partition: int, key: str, value: bytes, headers: dict[str, str]) -> None:
        self._buffer.append((topic, partition, key, value, headers))

    def flush(self) -> None:
        for topic, partition, key, value, headers in self._buffer:
            records = self._bus.records.setdefault((topic, partition), [])
            records.append(Stored(len(records), key, headers, value))
        self._buffer.clear()

    def submit(self) -> None:
        self.flush()

    def is_idle(self) -> bool:
        return True

    def end(self, topic: str, partition: int) -> int:
        waiting = sum(1 for record in self._buffer if record[:2] == (topic, partition))
        return self._bus.end(topic, partition) + waiting

    def close(self) -> None:
        self._buffer.clear()


# Runs records through the sequencer and the core of risk, in memory, and keeps every measure and record to look at.


def toml_tables(name: str, tables: Iterable[Json]) -> str:
    """Return dicts as TOML tables of one array."""
    return "".join(
        f"[[{name}]]\n" + "".join(f"{key} = {_inline(value)}\n" for key, value in table.items()) for table in tables
    )


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_inline(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)


def write_configuration(
    folder: Path,
    files: dict[str, bytes],
    limits: Iterable[Json] = (),
    playbook: Iterable[Json] = (),
    inputs: list[str] | None = None,
    response: Json | None = None,
    **top: Any,
) -> Path:
    """Write input files, limits, playbook and the configuration that names them; return the configuration's path."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "limits.toml").write_text(toml_tables("limit", limits))
    terms = "" if response is None else "[response]\n" + "".join(f"{k} = {_inline(v)}\n" for k, v in response.items())
    (folder / "playbook.toml").write_text(terms + toml_tables("rule", playbook))
    settings = "".join(f"{key} = {_inline(value)}\n" for key, value in top.items())
    events = json.dumps(list(files) if inputs is None else inputs)
    (folder / "desk.toml").write_text(
        f"{settings}[inputs]\nevents = {events}\n"
        "[limits]\nfile = 'limits.toml'\n[mitigation]\nplaybook = 'playbook.toml'\n"
    )
    return folder / "desk.toml"


def journal_in_order(bus: Any, shards: int) -> list[bytes]:
    """Return all journal values in order of ``as_of``, shard and seq."""
    found: list[tuple[int, int, int, bytes]] = []
    for shard in range(shards):
        for stored in bus.read("journal", shard, 0, 1_000_000, 1 << 40):
            found.append((decode_slice(stored.value).as_of_us, shard, stored.offset, stored.value))
    return [value for *_, value in sorted(found, key=lambda item: item[:3])]


class PipelineRun:
    """Everything that risk made of some journal values."""

    def __init__(self, values: list[bytes], shards: int) -> None:
        self.values = values
        self.slices: list[Slice] = []
        self.measured: list[MeasuredSlice] = []
        self.audited: list[Outputs] = []
        self.exposed: list[MeasuredSlice] = []  # as the exposure operator made them
        self.watched: list[MeasuredSlice] = []  # with the alerts of accounts
        self.exposures = [ExposureState(shard) for shard in range(shards)]
        self.conduct = [AccountBehaviourState(shard) for shard in range(shards)]
        self.foresight = [ForecastState(shard) for shard in range(shards)]
        self._deciders = [Decider(str(shard), shard, UnsignedCommands()) for shard in range(shards)]
        self._firm, self._firm_decider = FirmState(), Decider(FIRM_KEY, shards, UnsignedCommands())
        self.systemic = FirmForecastState(shards)
        self.wide: list[MeasuredSlice] = []  # seconds as the firm made them
        for value in values:
            self._step(value)

    def _step(self, value: bytes) -> None:
        piece = decode_slice(value)
        self.slices.append(piece)
        measured = self.exposures[piece.shard].step(piece, hashlib.sha256(value).hexdigest())
        self.exposed.append(measured)
        measured = self.conduct[piece.shard].step(measured)
        self.watched.append(measured)
        measured = self.foresight[piece.shard].step(measured)
        self.measured.append(measured)
        self.audited.append(self._deciders[piece.shard].step(measured))
        for second in self._firm.step(measured.summary) if measured.summary is not None else ():
            self.wide.append(second)
            self.measured.append(self.systemic.step(second))
            self.audited.append(self._firm_decider.step(self.measured[-1]))

    def records(self, topic: str) -> list[Record]:
        """Return all records of a topic, in the order in which they came."""
        return [record for audited in self.audited for record in audited.records.get(topic, [])]

    def topic(self, topic: str) -> list[Json]:
        """Return the values of all records of a topic."""
        return [json.loads(record.value) for record in self.records(topic)]

    def audits(self, kind: str) -> list[Json]:
        """Return the bodies of all audit records of a kind."""
        return [record["body"] for record in self.topic("audit") if record["kind"] == kind]

    def measures(self, scope: str, at_us: int | None = None) -> dict[str, float]:
        """Return the measures of a scope as they stood last, or last at ``at_us``."""
        return self.dated_measures(scope, at_us)[1]

    def dated_measures(self, scope: str, at_us: int | None = None) -> tuple[int, dict[str, float]]:
        """Return the measures of a scope as they stood last, or last at ``at_us``, and of when they are."""
        kind, _, name = scope.partition(":")
        for one in reversed(self.measured):
            table = one.measures.tables.get(kind)
            if table is None or (at_us is not None and one.measures.moment.as_of_us > at_us):
                continue
            if (name or kind) in table.names[: table.values.shape[1]]:
                column = table.values[:, table.names.index(name or kind)].tolist()
                return one.measures.moment.as_of_us, dict(zip(table.measures, column, strict=True))
        raise LookupError(scope)

    def slice_before(self, at_us: int) -> int:
        """Return the time of the last slice at or before some time: what measures then are measures of."""
        return max(piece.as_of_us for piece in self.slices if piece.as_of_us <= at_us)

    def breaches(self, limit: str | None = None) -> list[tuple[str, str, str]]:
        """Return scope, level before and level after of every breach (of a limit)."""
        return [
            (b["scope"], b["previous_level"], b["level"])
            for b in self.topic("breaches")
            if limit is None or b["limit"] == limit
        ]

    def commands(self) -> list[tuple[str, str]]:
        """Return kind and target of every command."""
        return [(json.loads(r.value)["type"], r.key) for r in self.records("commands")]


def run_pipeline(
    folder: Path,
    *records: Json | list[Json] | bytes,
    limits: Iterable[Json] = (),
    playbook: Iterable[Json] = (),
    shards: int = 1,
    **top: Any,
) -> PipelineRun:
    """Sequence records and run risk on the journal."""
    bus = MemoryBus()
    top = {"exposure_change_min": 0, **top}
    path = write_configuration(folder, {"events.jsonl": lines(*records)}, limits, playbook, shards=shards, **top)
    sequence(path, bus)
    return PipelineRun(journal_in_order(bus, shards), shards)
