"""Records of one slice: ``exposures`` rows that moved, ``alerts`` and ``rejects``, with their ids and counts."""

from functools import cache
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from seawall.operators.core.base._messages import Decision, ExternalEvent, MeasureTable
from seawall.schemas.errors import Reason
from seawall.schemas.measures import RATIOS, SHARD_SCOPES
from seawall.schemas.records import Record, Slice

UNWRITTEN = 1e300  # in place of what was written last: from there every value has moved
ROWS_MAX = 1000  # rows of a record: about 300 bytes each, far below the 512 KiB of the bus
SCOPE_PLURALS = {"account": "accounts", "netting_set": "netting_sets", "counterparty": "counterparties"}


@cache
def row_type(kind: str, measures: tuple[str, ...]) -> type[msgspec.Struct]:
    """Return the type of a row: as structs they are made and encoded three times as fast as dicts."""
    fields: list[Any] = [(kind, str), *((name, float) for name in measures)]
    if kind == "account":
        fields += [("state", str | None, None), ("missing", list[str], []), ("mend", str, "")]
    return msgspec.defstruct(f"{kind}_row", fields, gc=False, omit_defaults=True)


def change_floor(measure: str) -> float:
    """Return the least that changes of a measure are held against: 1 of the reporting currency, of a ratio 0.01."""
    return 0.01 if measure in RATIOS else 1.0


class RecordNumbering:
    """Ids and counts of the records of one partition: ``<partition>-<seq>-<n>`` and how many came before."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.counts: dict[str, int] = {}

    def record(self, topic: str, seq: int, at: int, key: str, value: bytes) -> Record:
        """Return the record that is number ``at`` of its slice and topic."""
        n = self.counts.get(topic, 0)
        self.counts[topic] = n + 1
        return Record(key, value, f"{self.partition}-{seq}-{at}", n)


class ShardRecordWriter:
    """Writes what a shard says, slice by slice; its state is what was written last."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.numbering = RecordNumbering(shard)
        self._last: dict[str, NDArray[np.float64]] = {kind: np.zeros((0, 0)) for kind in SHARD_SCOPES}
        self._bounds: dict[str, NDArray[np.float64]] = {}  # derived from what was written last
        self._change_min = -1.0
        self._noted: dict[str, dict[str, Any]] = {}  # what rows of accounts said last beside measures
        self._floors = {
            kind: np.array([[change_floor(measure)] for measure in measures]) for kind, measures in SHARD_SCOPES.items()
        }

    def renoted(self, table: MeasureTable, notes: dict[str, dict[str, Any]]) -> list[int]:
        """Return the accounts of which rows say other than they did last, and take that as written."""
        before, self._noted = self._noted, notes
        if before == notes:
            return []
        known = table.names[: table.values.shape[1]]
        return [at for at, name in enumerate(known) if before.get(name) != notes.get(name)]

    def begin_afresh(self, counts: dict[str, int]) -> None:
        """Go on after so many records by topic, and take it that nothing of what stands is still shown: all is told."""
        self.numbering.counts, self._bounds, self._noted = dict(counts), {}, {}
        self._last = {kind: np.full(values.shape, UNWRITTEN) for kind, values in self._last.items()}

    def moved(self, kind: str, table: MeasureTable, change_min: float) -> NDArray[np.int64]:
        """Return the scopes of which any measure moved by more than ``change_min``, and take them as written."""
        last, values = self._last[kind], table.values
        beyond: Any
        moved: NDArray[np.int64]
        if last.shape != values.shape:
            last = self._grown(kind, values)
        if not change_min:
            beyond = values != last
            moved = beyond.any(axis=0).nonzero()[0]
            last[:, moved] = values[:, moved]
            return moved
        bound = self._bounds.get(kind)
        if bound is None or bound.shape != last.shape or change_min != self._change_min:
            self._bounds[kind] = bound = change_min * np.maximum(np.abs(last), self._floors[kind][: len(last)])
            self._change_min = change_min
        change = values - last
        beyond = np.abs(change, out=change) > bound
        moved = beyond.any(axis=0).nonzero()[0]  # `np.flatnonzero` costs several times as much for a small mask
        now = values[:, moved]
        last[:, moved] = now
        bound[:, moved] = change_min * np.maximum(np.abs(now), self._floors[kind][: len(last)])
        return moved

    def _grown(self, kind: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what was written last in the shape of ``values``: there are more scopes, or other measures."""
        last, grown = self._last[kind], np.zeros(values.shape)
        measures, scopes = min(len(last), len(values)), min(last.shape[1], values.shape[1])
        grown[:measures, :scopes] = last[:measures, :scopes]
        self._last[kind] = grown
        return grown

    def snapshot(self) -> dict[str, Any]:
        """Return the state: counts and what was written last."""
        last = {k: v.copy() for k, v in self._last.items()}
        return {"counts": dict(self.numbering.counts), "last": last, "noted": self._noted}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.numbering.counts = dict(state["counts"])
        self._last, self._noted = state["last"], state["noted"]
        self._bounds = {}


class SliceRecords:
    """The records, audit decisions and news of one slice, in order."""

    def __init__(self, writer: ShardRecordWriter, piece: Slice) -> None:
        self._writer, self._piece = writer, piece
        self.records: dict[str, list[Record]] = {}
        self.decisions: list[Decision] = []
        self.news: list[ExternalEvent] = []
        self._head = {"shard": piece.shard, "seq": piece.seq, "as_of_us": piece.as_of_us}

    def exposures(
        self,
        tables: dict[str, MeasureTable],
        states: dict[str, list[str]],
        change_min: float,
        told: bool = False,
        notes: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """Write the rows that moved, with the states of prices; where these are to be ``told``, without rows too.

        ``notes`` are what rows of accounts say beside their measures.
        """
        groups: dict[str, list[msgspec.Struct]] = {}
        for kind in SCOPE_PLURALS:
            groups[kind], table = [], tables.get(kind)
            if table is not None:
                moved = self._writer.moved(kind, table, change_min)
                if notes is not None and kind == "account":
                    moved = np.union1d(moved, np.array(self._writer.renoted(table, notes), dtype=np.int64))
                if len(moved):
                    groups[kind] = _rows(kind, table, moved)
                    if notes and kind == "account":
                        _note(groups[kind], notes)
        total = max(sum(map(len, groups.values())), int(told))
        for first in range(0, total, ROWS_MAX):
            value: dict[str, Any] = dict(self._head)
            skip, room = first, ROWS_MAX
            for kind, found in groups.items():
                value[SCOPE_PLURALS[kind]] = part = found[skip : skip + room] if room else []
                skip, room = max(0, skip - len(found)), room - len(part)
            value |= states
            self._add("exposures", str(self._writer.shard), msgspec.json.encode(value))

    def explained(self, rows: list[dict[str, Any]]) -> None:
        """Write the P&L explain of accounts."""
        for first in range(0, len(rows), ROWS_MAX):
            empty: dict[str, Any] = {plural: [] for plural in SCOPE_PLURALS.values()}
            value = orjson.dumps({**self._head, **empty, "explained": rows[first : first + ROWS_MAX]})
            self._add("exposures", str(self._writer.shard), value)

    def alert(self, kind: str, scope: str, severity: int, text: str) -> None:
        """Write an alert of a rule: score 1, no contributions."""
        value = {
            **self._head,
            "kind": kind,
            "scope": scope,
            "score": 1.0,
            "severity": severity,
            "text": text,
            "contributions": {},
        }
        self.news.append(ExternalEvent("alert", scope, kind, self._next_id("alerts")))
        self._add("alerts", scope, orjson.dumps(value))

    def reject(self, kind: str, at: int, reason: Reason, detail: str) -> None:
        """Write a reject with the original bytes of a fill or transfer of this slice."""
        source = {"topic": "journal", "partition": self._writer.shard, "offset": self._piece.seq, kind: at}
        original = self._piece.originals.get(f"{kind}:{at}", "")
        value = {"reason": reason.value, "detail": detail, "source": source, "original": original}
        self._add("rejects", str(self._writer.shard), orjson.dumps(value))

    def decide(self, kind: str, body: dict[str, Any]) -> None:
        """Note a decision for the audit."""
        self.decisions.append(Decision(kind, body))

    def _next_id(self, topic: str) -> str:
        return f"{self._writer.shard}-{self._piece.seq}-{len(self.records.get(topic, ()))}"

    def _add(self, topic: str, key: str, value: bytes) -> None:
        records = self.records.setdefault(topic, [])
        records.append(self._writer.numbering.record(topic, self._piece.seq, len(records), key, value))


def _note(rows: list[Any], notes: dict[str, dict[str, Any]]) -> None:
    """Let rows of accounts say what is noted of them."""
    for row in rows:
        for name, value in notes.get(row.account, {}).items():
            setattr(row, name, value)


def _rows(kind: str, table: MeasureTable, moved: NDArray[np.int64]) -> list[msgspec.Struct]:
    """Return the rows of some scopes."""
    names = map(table.names.__getitem__, moved.tolist())
    return list(map(row_type(kind, table.measures), names, *table.values[:, moved].tolist()))
