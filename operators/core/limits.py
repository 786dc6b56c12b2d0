"""Limits: compare measures with their levels, once per slice, and report every change of level.

A limit is scope x measure x direction with the levels warning, soft and hard. A scope enters a level as soon as its
measure reaches it. It leaves a level only below ``level x exit_ratio`` (direction below: above ``level / exit_ratio``),
and only after it stayed there for ``dwell_s`` of event time (hysteresis, so that a limit does not flap). An account
with a position that no limit covers is in hard breach of ``default-deny`` (CONTRACT §6).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from seawall.operators.core.frames import Enforced, Frame, Table
from seawall.operators.core.rows import Numbering
from seawall.operators.core.snapshot import pack, unpack
from seawall.schemas.measures import MEASURES, SHARD_SCOPES
from seawall.schemas.records import Record

F8 = NDArray[np.float64]
SCHEMA = "limits/1"
LEVELS = ("none", "warning", "soft", "hard")
NEVER = -1
COVERING = ("account", "netting_set", "counterparty")
DEFAULT_DENY = {
    "id": "default-deny",
    "scope": "account:*",
    "measure": "uncovered_position",
    "direction": "above",
    "hard": 1.0,
    "exit_ratio": 1.0,
    "dwell_s": 0,
}


@dataclass(slots=True)
class Standing:
    """Where the scopes of one limit stand: ``level`` 0..3, and since when they have been fit to leave it."""

    level: NDArray[np.int8]
    leaving_us: NDArray[np.int64]


class Limit:
    """One limit, with its bounds oriented so that larger is worse."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.id: str = document["id"]
        self.kind, _, self.name = document["scope"].partition(":")
        self.name = self.name or self.kind
        self.measure: str = document["measure"]
        self.below = document.get("direction", "above") == "below"
        self.bounds = [document.get(level) for level in LEVELS[1:]]
        orient = -1.0 if self.below else 1.0
        ratio = float(document.get("exit_ratio", 1.0))
        self.dwell_us = int(float(document.get("dwell_s", 0)) * 1_000_000)
        self.enter = np.array([np.inf if b is None else orient * float(b) for b in self.bounds])
        leave = [None if b is None else (float(b) / ratio if self.below else float(b) * ratio) for b in self.bounds]
        self.leave = np.array([np.inf if b is None else orient * b for b in leave])
        self.lowest = float(self.enter.min())

    def oriented(self, table: Table) -> F8:
        """Return the measure with larger meaning worse."""
        values: F8 = table.values[table.measures.index(self.measure)]
        return -values if self.below else values

    def utilisation(self, value: float, bound: float) -> float:
        """Return value over bound (direction below: bound over value), at most 1,000,000."""
        above, under = (bound, value) if self.below else (value, bound)
        return min(above / under, 1_000_000.0) if under > 0 else (1_000_000.0 if above > 0 else 0.0)


class LimitsState:
    """The limits operator of one key (a shard, or ``all``): ``step(frame) -> Enforced``."""

    def __init__(self, key: str, partition: int) -> None:
        self.key = key
        self.numbering = Numbering(partition)
        self.version = 0
        self.limits: list[Limit] = []
        self._documents: list[dict[str, Any]] = []
        self._standing: dict[str, Standing] = {}
        self._covers_all = False

    def step(self, frame: Frame) -> Enforced:
        """Evaluate all limits on one frame."""
        if frame.configuration is not None:
            self._configure(frame.configuration["limits"])
        breaches: list[dict[str, Any]] = []
        if frame.decides:
            for limit in self.limits:
                breaches += self._evaluate(limit, frame)
        records = [self._record(frame.seq, at, breach) for at, breach in enumerate(breaches)]
        return Enforced(frame, breaches, records)

    def _configure(self, section: dict[str, Any]) -> None:
        self.version = section["version"]
        kinds = SHARD_SCOPES if self.key != "all" else set(MEASURES) - set(SHARD_SCOPES)
        documents = section["limits"]
        self._documents = documents
        self.limits = [Limit(d) for d in documents if d["scope"].partition(":")[0] in kinds]
        if self.key != "all":
            self.limits.append(Limit(DEFAULT_DENY))
        kept = {limit.id for limit in self.limits}
        self._standing = {name: standing for name, standing in self._standing.items() if name in kept}
        covering_all = ("account:*", "counterparty:*", "netting_set:*", "firm")
        self._covers_all = any(d["scope"] in covering_all for d in documents)

    # --- one limit --------------------------------------------------------------------------------------------------

    def _evaluate(self, limit: Limit, frame: Frame) -> list[dict[str, Any]]:
        table = self._uncovered(frame) if limit.id == "default-deny" else frame.tables.get(limit.kind)
        if table is None:
            return []
        values = limit.oriented(table)
        standing = self._standing.get(limit.id)
        if standing is None or len(standing.level) < len(values):
            standing = self._standing[limit.id] = _grown(standing, len(values))
        first, last = 0, len(values)
        if limit.name not in ("*", "firm"):
            try:
                first = table.names.index(limit.name, 0, len(values))
            except ValueError:
                return []
            last = first + 1
        values = values[first:last]
        near: NDArray[np.bool_] = (standing.level[first:last] > 0) | (values >= limit.lowest)
        at = near.nonzero()[0]  # np.flatnonzero costs 1 us more, per limit and slice
        if not len(at):
            return []
        before, after = _move(limit, values[at], standing, at + first, frame.as_of_us)
        return [
            self._breach(limit, frame, table, first + place, was, now)
            for place, was, now in zip(at.tolist(), before, after, strict=True)
            if was != now
        ]

    def _uncovered(self, frame: Frame) -> Table | None:
        """Return the measure of ``default-deny``: 1 for accounts that hold a position and that no limit covers."""
        if self._covers_all or frame.positions is None:
            return None
        scopes = {d["scope"] for d in self._documents}
        names = frame.tables["account"].names
        bare = [float(not (covering(names[i], frame.owners[i]) & scopes)) for i in range(len(frame.positions))]
        return Table(names, ("uncovered_position",), (frame.positions * np.array(bare)).reshape(1, -1))

    def _breach(self, limit: Limit, frame: Frame, table: Table, at: int, before: int, level: int) -> dict[str, Any]:
        name = table.names[at]
        scope = "firm" if limit.kind == "firm" else f"{limit.kind}:{name}"
        bound = float(limit.bounds[max(before, level) - 1] or 0.0)
        value = float(table.values[table.measures.index(limit.measure), at])
        causes = frame.causes.of(limit.kind, name) if frame.causes is not None else []
        marks = [f"journal:{frame.key}:{frame.seq}"] if frame.key != "all" else [f"second:{frame.as_of_us}"]
        return {
            "shard": frame.partition if frame.key != "all" else "all",
            "seq": frame.seq,
            "as_of_us": frame.as_of_us,
            "limit": limit.id,
            "version": self.version,
            "scope": scope,
            "measure": limit.measure,
            "value": value,
            "bound": bound,
            "utilisation": limit.utilisation(value, bound),
            "level": LEVELS[level],
            "previous_level": LEVELS[before],
            "cause": "active" if causes else "passive",
            "evidence": marks + causes,
        }

    def _record(self, seq: int, at: int, breach: dict[str, Any]) -> Record:
        return self.numbering.record("breaches", seq, at, breach["scope"], orjson.dumps(breach))

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        standing = {k: [s.level.copy(), s.leaving_us.copy()] for k, s in self._standing.items()}
        section = {"version": self.version, "limits": self._documents}
        counts = dict(self.numbering.counts)
        partition = self.numbering.partition
        state = {"key": self.key, "partition": partition, "counts": counts, "section": section, "standing": standing}
        return pack(SCHEMA, state)

    @classmethod
    def restore(cls, data: bytes) -> "LimitsState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(state["key"], state["partition"])
        self._configure(state["section"])
        self.numbering.counts = state["counts"]
        self._standing = {k: Standing(level, leaving) for k, (level, leaving) in state["standing"].items()}
        return self


def covering(name: str, owners: tuple[str, ...]) -> set[str]:
    """Return the scopes of limits that cover an account: those that name what it is part of, or all of its kind."""
    return {f"account:{name}", *owners, *(f"{owner.partition(':')[0]}:*" for owner in owners)}


def _grown(standing: Standing | None, count: int) -> Standing:
    """Return room for ``count`` scopes, the new ones at no level."""
    grown = Standing(np.zeros(count, dtype=np.int8), np.full(count, NEVER, dtype=np.int64))
    if standing is not None:
        grown.level[: len(standing.level)] = standing.level
        grown.leaving_us[: len(standing.level)] = standing.leaving_us
    return grown


def _move(
    limit: Limit, values: F8, standing: Standing, at: NDArray[np.int64], as_of_us: int
) -> tuple[list[int], list[int]]:
    """Move the scopes ``at`` of a limit, which have a level or reach one; return their levels before and after.

    1. The entered level is the highest whose bound is reached; the held level the highest whose exit bound still is.
    2. Up at once. Down, to the higher of the two, after ``dwell_us`` below the exit bound.
    """
    levels, leavings = standing.level[at].tolist(), standing.leaving_us[at].tolist()
    entered, held = _reached(limit.enter, values), _reached(limit.leave, values)
    after = []
    for place, level, leaving, up, stay in zip(at.tolist(), levels, leavings, entered, held, strict=True):
        target = max(up, min(stay, level))
        started = as_of_us if leaving == NEVER else leaving
        due = target < level and as_of_us - started >= limit.dwell_us
        standing.leaving_us[place] = started if target < level and not due else NEVER
        standing.level[place] = now = target if target > level or due else level
        after.append(now)
    return levels, after


def _reached(bounds: F8, values: F8) -> list[int]:
    """Return the highest level, 1 to 3, whose bound each value reaches; 0 for none."""
    warning, soft, hard = bounds.tolist()
    return [3 if v >= hard else 2 if v >= soft else 1 if v >= warning else 0 for v in values.tolist()]
