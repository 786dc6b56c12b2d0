"""Firm-wide aggregation: the sums of all shards, once per second of event time.

Every shard ends every second with a slice, and with it sends its sums. When all shards have passed a second the sums
are added in order of shard, so the result does not depend on which arrived first, and become measures of the
key ``all``.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from seawall.operators.core.base import (
    CAUSES_MAX,
    UNWRITTEN,
    ComputationInputs,
    Doubt,
    Events,
    FillCauses,
    MeasuredSlice,
    Measures,
    MeasureTable,
    Moment,
    Outputs,
    RecordNumbering,
    ShardSummary,
    change_floor,
    decode_part,
    pack,
    unpack,
    widen_table,
)
from seawall.operators.core.portfolio._explain import explained_row
from seawall.schemas.errors import invariant
from seawall.schemas.measures import FIRM_WIDE_SCOPES, REQUESTED_SCOPES, UNEXPLAINED
from seawall.schemas.records import SLICE_BYTES_MAX

F8 = NDArray[np.float64]
Part = TypeVar("Part")
SCHEMA = "firm/5"
FIRM_KEY = "all"
FIRM_SCOPE_PLURALS = {"group": "groups", "underlying": "underlyings", "venue": "venues"}
PIECE_BYTES_MAX = SLICE_BYTES_MAX - 12 * 1024  # as a slice (architecture.md, "Slices"); headers come besides
OPTIONAL_SCOPE_PLURALS = {"instrument": "instruments", "asset": "assets", "issuer": "issuers", "strategy": "strategies"}


class FirmState:
    """The firm-wide aggregation: ``step(summary) -> [MeasuredSlice]``, empty until all shards have passed one."""

    def __init__(self) -> None:
        self.seq = -1
        self.configuration: dict[str, Any] = {}
        self._pending: dict[int, list[ShardSummary]] = {}
        self._last: dict[str, NDArray[np.float64]] = {}
        self._whole: NDArray[np.float64] | None = None  # all values of the last second, to see at once that none moved
        self._numbering = RecordNumbering(-1)
        self._named = {kind: NamedSums() for kind in REQUESTED_SCOPES}

    def step(self, summary: ShardSummary) -> list[MeasuredSlice]:
        """Take the sums of one shard at the end of a second; return the seconds now complete."""
        if summary.shard == 0 and summary.configuration is not None and not self.configuration:
            self.configuration = summary.configuration
            self._numbering.partition = self.configuration["shards"]
        parts = self._pending.setdefault(summary.as_of_us, [])
        parts.append(summary)
        # Each shard passes its seconds in order, so the last shard to pass one completes them in order too.
        if not self.configuration or len(parts) < self.configuration["shards"]:
            return []
        del self._pending[summary.as_of_us]
        return [self._measured(sorted(parts, key=lambda part: part.shard))]

    def _measured(self, parts: list[ShardSummary]) -> MeasuredSlice:
        self.seq += 1
        changed = parts[0].configuration
        if changed is not None:
            self.configuration = changed
        invariant([part.shard for part in parts] == list(range(len(parts))), "a second holds each shard once")
        tables = _tables(parts) | self._requested(parts)
        head = parts[0]
        exposures, alerts = self._exposures(tables, head.as_of_us), self._alerts(head)
        explained = [part.explained for part in parts if part.explained is not None]
        if explained:
            terms = np.stack(explained).cumsum(axis=0)[-1]
            tables["firm"] = widen_table(tables["firm"], (UNEXPLAINED,), terms[None, -1:])
            if head.explained_us[1] == head.as_of_us:
                exposures.append(self._explained(head, terms, len(exposures)))
        fills = [fill for part in parts for fill in part.fills]
        causes = FillCauses(fills[:CAUSES_MAX]) if fills else None  # whatever moved may be due to any of them
        external = [event for part in parts for event in part.news]
        records = ({"exposures": exposures} if exposures else {}) | ({"alerts": alerts} if alerts else {})
        moment = Moment(
            FIRM_KEY,
            self._numbering.partition,
            self.seq,
            head.as_of_us,
            max(part.cut_us for part in parts),
            second=True,
            end=head.end,
            inputs=[[part.shard, part.seq, part.digest] for part in parts],
        )
        computation = ComputationInputs(None, _parties(parts), head.routes, head.quotes, _strategies(parts))
        return MeasuredSlice(
            Measures(moment, tables, markets=head.markets, computation=computation, doubt=_doubt(parts)),
            Events(changed, head.limit_documents, external, causes),
            Outputs(moment, records, configuration=changed),
            forecasts=_of_all([part.forecast for part in parts]),
            losses=_of_all([part.losses for part in parts]),
        )

    def _requested(self, parts: list[ShardSummary]) -> dict[str, MeasureTable]:
        """Return the tables of the kinds of scope that limits name, which shards number each in its own way."""
        tables = {}
        for kind, sums in self._named.items():
            asked = [(part.shard, part.named[kind]) for part in parts if kind in part.named]
            if asked:
                tables[kind] = sums.table(REQUESTED_SCOPES[kind], asked)
                if "concentration" in REQUESTED_SCOPES[kind]:
                    _concentrate(tables[kind])
        return tables

    def _alerts(self, head: ShardSummary) -> list[Any]:
        """Return the alerts of signals, which shard 0 heard, as records."""
        place = {"shard": FIRM_KEY, "seq": self.seq, "as_of_us": head.as_of_us}
        return [
            self._numbering.record("alerts", self.seq, at, heard["scope"], orjson.dumps(place | heard))
            for at, heard in enumerate(head.alerts)
        ]

    def _exposures(self, tables: dict[str, MeasureTable], as_of_us: int) -> list[Any]:
        """Return the record of what moved, in the form of contract.md, "Output records"; none where nothing did."""
        change_min = float(self.configuration["exposure_change_min"])
        whole = np.concatenate([table.values.ravel() for table in tables.values()])
        if self._whole is not None and np.array_equal(whole, self._whole):
            return []
        self._whole = whole
        value: dict[str, Any] = {"shard": FIRM_KEY, "seq": self.seq, "as_of_us": as_of_us}
        value |= {"accounts": [], "netting_sets": [], "counterparties": []}
        firm = self._moved("firm", tables["firm"], change_min)
        value["firm"] = {k: v for k, v in firm[0].items() if k != "firm"} if firm else {}
        found = bool(firm)
        plurals = FIRM_SCOPE_PLURALS | {
            kind: plural for kind, plural in OPTIONAL_SCOPE_PLURALS.items() if kind in tables
        }
        for kind, plural in plurals.items():
            value[plural] = rows = self._moved(kind, tables[kind], change_min)
            found = found or bool(rows)
        if not found:
            return []
        pieces = _pieces(value, list(plurals.values()))
        return [self._numbering.record("exposures", self.seq, at, FIRM_KEY, text) for at, text in enumerate(pieces)]

    def _explained(self, head: ShardSummary, terms: F8, at: int) -> Any:
        """Return the record of the firm's P&L explain, number ``at`` of its second and topic."""
        lists = ("accounts", "netting_sets", "counterparties", *FIRM_SCOPE_PLURALS.values())
        value = {"shard": FIRM_KEY, "seq": self.seq, "as_of_us": head.as_of_us, "firm": {}}
        value |= dict.fromkeys(lists, ()) | {"explained": [explained_row("firm", head.explained_us[0], terms)]}
        return self._numbering.record("exposures", self.seq, at, FIRM_KEY, orjson.dumps(value))

    def _moved(self, kind: str, table: MeasureTable, change_min: float) -> list[dict[str, Any]]:
        last, values = self._last.get(kind), table.values
        if last is None or last.shape != values.shape:
            grown = np.zeros(values.shape)
            if last is not None:
                measures, scopes = min(len(last), len(values)), min(last.shape[1], values.shape[1])
                grown[:measures, :scopes] = last[:measures, :scopes]
            self._last[kind] = last = grown
        floors = np.array([[change_floor(measure)] for measure in table.measures])
        change_max = change_min * np.maximum(np.abs(last), floors) if change_min else np.zeros(1)
        moved = np.flatnonzero((np.abs(values - last) > change_max).any(axis=0))
        if not len(moved):
            return []
        last[:, moved] = values[:, moved]
        keys = (kind, *table.measures)
        found = [[table.names[i], *values[:, i].tolist()] for i in moved.tolist()]
        named = (zip(keys, row, strict=True) for row in found)
        return [{name: value for name, value in row if value or name != "theta"} for row in named]

    def begin_afresh(self, counts: dict[str, int]) -> None:
        """Go on after so many records by topic, and take it that nothing of what stands is still shown."""
        self._numbering.counts, self._whole = dict(counts), None
        self._last = {kind: np.full(values.shape, UNWRITTEN) for kind, values in self._last.items()}

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        state = {
            "seq": self.seq,
            "configuration": self.configuration,
            "pending": [[k, v] for k, v in sorted(self._pending.items())],
            "last": {kind: values.copy() for kind, values in self._last.items()},
            "counts": self._numbering.counts,
            "partition": self._numbering.partition,
            "named": {kind: sums.names for kind, sums in self._named.items()},
        }
        return pack(SCHEMA, state)

    @classmethod
    def restore(cls, data: bytes) -> "FirmState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls()
        self.seq, self.configuration, self._last = state["seq"], state["configuration"], state["last"]
        self._pending = {int(k): [decode_part(part, ShardSummary) for part in v] for k, v in state["pending"]}
        self._numbering.counts, self._numbering.partition = state["counts"], state["partition"]
        self._named = {kind: NamedSums(names) for kind, names in state["named"].items()}
        return self


class NamedSums:
    """Adds up tables of shards that number their scopes differently, by name; names keep the order of their first."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = list(names)
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._places: dict[int, list[int]] = {}  # by shard: the number of each of its scopes

    def table(self, measures: tuple[str, ...], parts: list[tuple[int, tuple[list[str], F8]]]) -> MeasureTable:
        """Return the sum of the tables of shards, in order of shard.

        Each part is a shard with its names, which only ever grow, and values of shape (measures, names).
        """
        placed = [(self._place(shard, names), values) for shard, (names, values) in parts]
        total = np.zeros((len(measures), len(self.names)))
        for places, values in placed:
            total[:, places] += values
        return MeasureTable(self.names, measures, total)

    def _place(self, shard: int, names: list[str]) -> list[int]:
        places = self._places.setdefault(shard, [])
        for name in names[len(places) :]:
            places.append(self._numbers.setdefault(name, len(self.names)))
            if places[-1] == len(self.names):
                self.names.append(name)
        return places


def _doubt(parts: list[ShardSummary]) -> Doubt | None:
    """Return by how much measures of all shards may be better, None where all their prices are certain."""
    total = sum(part.doubt for part in parts)
    return Doubt(total=total) if total else None


def _of_all(parts: list[Part | None]) -> list[Part]:
    """Return what every shard tells; nothing where one does not."""
    found = [part for part in parts if part is not None]
    return found if len(found) == len(parts) else []


def _strategies(parts: list[ShardSummary]) -> dict[str, list[str]] | None:
    """Return by scope the strategies of all shards, each once."""
    if parts[0].strategies is None:
        return None
    found: dict[str, dict[str, None]] = {}
    for part in parts:
        for scope, names in (part.strategies or {}).items():
            found.setdefault(scope, {}).update(dict.fromkeys(names))
    return {scope: list(names) for scope, names in found.items()}


def _parties(parts: list[ShardSummary]) -> dict[str, list[Any]] | None:
    """Return the counterparties of all shards, each of which has one shard."""
    if parts[0].parties is None:
        return None
    return {name: row for part in parts for name, row in (part.parties or {}).items()}


def _tables(parts: list[ShardSummary]) -> dict[str, MeasureTable]:
    """Add the sums of all shards, in order of shard; every shard numbers groups, underlyings and venues alike."""
    names = {"firm": ["firm"], **dict(zip(("group", "underlying", "venue"), parts[0].names or [], strict=True))}
    tables = {}
    for kind, all_measures in FIRM_WIDE_SCOPES.items():
        sums = [part.sums[kind] for part in parts if kind in part.sums]
        measures = all_measures[: max(map(len, sums), default=len(all_measures))]  # some where a book needs them
        total = np.zeros((len(measures), len(names[kind])))
        for one in sums:
            table = one.reshape(len(one), -1)
            strongest = np.maximum(total[-1, : table.shape[1]], table[-1]) if measures[-1] == "wrong_way" else None
            total[: len(one), : table.shape[1]] += table
            if strongest is not None and len(one) == len(measures):
                total[-1, : table.shape[1]] = strongest
        tables[kind] = MeasureTable(names[kind], measures, total)
    _concentrate(tables["underlying"])
    return tables


def _pieces(value: dict[str, Any], plurals: list[str]) -> list[bytes]:
    """Return a record of exposures, in several where it is too large for a bus: half of the longest list goes on."""
    text, longest = orjson.dumps(value), max(plurals, key=lambda plural: len(value[plural]))
    half = len(value[longest]) // 2
    if len(text) <= PIECE_BYTES_MAX or not half:
        return [text]
    rest = value | {"firm": {}} | {plural: [] for plural in plurals} | {longest: value[longest][half:]}
    return _pieces(value | {longest: value[longest][:half]}, plurals) + _pieces(rest, plurals)


def _concentrate(table: MeasureTable) -> None:
    """Fill the share of each scope in the gross notional of all of its kind."""
    gross = table.values[table.measures.index("gross_notional")]
    total = float(gross.cumsum()[-1]) if len(gross) else 0.0
    table.values[table.measures.index("concentration")] = gross / total if total > 0 else 0.0
