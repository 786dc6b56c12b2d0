"""Limits: compare measures with their levels, once per slice, and report every change of level.

`LimitsState` is the step; `limit_statuses` and `peak_utilisations` read from its state where every limit is.
"""

import hashlib
import zlib
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from seawall.operators.core.base import (
    NO_BREACHES,
    Breaches,
    Decision,
    Doubt,
    Events,
    FillCauses,
    Measures,
    MeasureTable,
    Moment,
    RecordNumbering,
    pack,
    unpack,
)
from seawall.operators.core.limits._cells import LevelChange, LimitCells
from seawall.operators.core.limits._rules import (
    DEFAULT_DENY,
    LEVELS,
    UNVALUED,
    UTILISATION_MAX,
    Limit,
    Policy,
    covering_scopes,
    covers_every_account,
)
from seawall.schemas.measures import FORECASTS, MEASURES, SHARD_SCOPES, forecast_measures
from seawall.schemas.records import Record

# Limits: compare measures with their levels, once per slice, and report every change of level.
#
# Limits arrive with the journal: in ``configuration`` events (a limits file) or as signed documents (`Policy`). What
# they say of one scope is in `Limit`, how all of them are evaluated at once in `LimitCells`. An account with a
# position that no limit covers is in hard breach of ``default-deny`` (contract.md, "Limits"), one of which nothing
# bounds what it is worth in that of ``unvalued_position`` (contract.md, "Not known is not zero").
#
# Rules it keeps
# --------------
# - Levels stand when other limits change; a limit that is removed, or that names another measure, leaves its levels
#   with a record to ``none``.
# - Limits that scale move once per second of event time; the audit hears of every move of 1 % of a base, with a hash of
#   all effective bounds, and a breach of such a limit carries the factors of its bound.
# - A limit whose validity has passed counts at its tightest: time alone never loosens.

SCHEMA = "limits/5"
EXAMPLES_MAX = 10
DENY, UNKNOWN = "default-deny", "unvalued_position"
OF_ACCOUNTS = (DENY, UNKNOWN)  # kinds of cells of limits that are built in
NEVER_US = 1 << 62
_UNRATED: dict[str, str] = {}


class LimitsState:
    """The limits operator of one key (a shard, or ``all``): ``step(measures, events) -> Breaches``."""

    def __init__(self, key: str, partition: int) -> None:
        self.key = key
        self.numbering = RecordNumbering(partition)
        self.policy = Policy()
        self._kinds = SHARD_SCOPES if key != "all" else {k: v for k, v in MEASURES.items() if k not in SHARD_SCOPES}
        self._inbox: list[dict[str, Any]] = []  # changes of limits that wait for a slice that decides
        self._encoded: bytes | None = None
        self._cells: dict[str, LimitCells] = {}
        self._covering: set[str] = set()
        self._covers_all = False
        self._forecast_names: frozenset[str] = frozenset()  # the forecasts that are made, so that limits may be on them
        self._changes_us = -1  # when the limits in force change by themselves; before the first slice: at once
        self._built_us, self._scaled_us = -1, 0
        self._seen: dict[str, MeasureTable] | None = None  # what was evaluated last: nothing new, nothing to do
        self._bare: tuple[Any, NDArray[np.float64]] = (None, np.zeros(0))
        self._ratings: tuple[Any, ...] = (None, {})

    @property
    def version(self) -> int:
        """The version of the limits in force."""
        return self.policy.version

    def step(self, measures: Measures, events: Events) -> Breaches:
        """Evaluate all limits on one slice or second."""
        moment = measures.moment
        if events.configuration is not None:
            self._forecast_names = forecast_measures(events.configuration.get("forecasts", {}))
            self._inbox.append({"configuration": events.configuration["limits"]})
        for document in events.limit_documents:
            self._inbox.append({"document": document})
        if not moment.decides:
            return NO_BREACHES
        changed = bool(self._inbox) or moment.as_of_us >= self._changes_us
        decisions = self._read_inbox(moment.as_of_us) if self._inbox else []
        breaches = self._rebuild(measures, events.causes) if changed else []
        if measures.markets is not None:
            decisions += self._scale(measures)
        for found in self._evaluate(measures):
            breaches.append(self._breach(moment, events.causes, *found))
        if not breaches and not decisions:
            return NO_BREACHES
        records = [self._record(moment.seq, at, breach) for at, breach in enumerate(breaches)]
        return Breaches(breaches, records, decisions)

    # --- which limits -----------------------------------------------------------------------------------------------

    def _read_inbox(self, as_of_us: int) -> list[Decision]:
        """Take changes of configuration and signed documents; return what was decided."""
        inbox, self._inbox, self._encoded = self._inbox, [], None
        decisions = []
        for item in inbox:
            if "configuration" in item:
                self.policy.configure(item["configuration"])
            else:
                decisions.append(Decision("limit_document", self.policy.apply(item["document"], as_of_us)))
        return decisions

    def _rebuild(self, measures: Measures, causes: FillCauses | None) -> list[dict[str, Any]]:
        """Make the cells of the limits in force, what stands of those that stay kept; return the breaches that end."""
        before = self._cells
        self._build(measures.moment.as_of_us)
        ended = []
        for kind, old in before.items():
            table = measures.tables.get("account" if kind in OF_ACCOUNTS else kind)
            if table is None:
                continue
            for change in self._cells.get(kind, LimitCells([])).take_from(old, table.names, old.known):
                end = change._replace(value=_end_value(table, change))
                ended.append(self._breach(measures.moment, causes, end, table, old))
        return ended

    def _build(self, as_of_us: int) -> None:
        in_force, changes_us = self.policy.in_force(as_of_us)
        self._built_us = as_of_us
        self._changes_us = NEVER_US if changes_us is None else changes_us
        limits: dict[str, list[Limit]] = {}
        for order, (document, expired) in enumerate(in_force):
            if document["measure"] in FORECASTS and document["measure"] not in self._forecast_names:
                continue
            if document["scope"].partition(":")[0] in self._kinds:
                limit = Limit(document, order, expired)
                limits.setdefault(limit.kind, []).append(limit)
        if self.key != "all":
            limits[DENY] = [Limit(DEFAULT_DENY, len(in_force))]
            limits[UNKNOWN] = [Limit(UNVALUED, len(in_force) + 1)]
        self._covering = {document["scope"] for document, _ in in_force}
        self._covers_all = covers_every_account(self._covering)
        self._cells = {kind: LimitCells(found) for kind, found in limits.items()}
        self._seen, self._bare = None, (None, np.zeros(0))

    # --- evaluating -------------------------------------------------------------------------------------------------

    def _evaluate(self, measures: Measures) -> list[tuple[LevelChange, MeasureTable, LimitCells]]:
        """Return the changes of level, in order of limit and scope."""
        found: list[tuple[LevelChange, MeasureTable, LimitCells]] = []
        tables = measures.tables
        if tables is self._seen and not any(cells.restless for cells in self._cells.values()):
            return found
        self._seen = tables
        for kind, cells in self._cells.items():
            if kind == UNKNOWN and measures.doubt is None and not cells.raised:
                continue  # as in nearly every slice
            built_in, doubt = self._uncovered if kind == DENY else self._unvalued, None
            table = built_in(measures) if kind in OF_ACCOUNTS else tables.get(kind)
            if table is not None:
                if measures.doubt is not None and kind not in OF_ACCOUNTS:
                    doubt = _doubt_of(measures.doubt, kind, table)
                for change in cells.evaluate(table, measures.moment.as_of_us, doubt):
                    found.append((change, table, cells))
        found.sort(key=lambda item: item[0][:2])
        return found

    def evaluated(self, measures: Measures) -> list[tuple[MeasureTable, LimitCells]]:
        """Return the cells of each kind of scope beside its measures, which were evaluated."""
        found = ((self._table(kind, measures), cells) for kind, cells in self._cells.items() if kind not in OF_ACCOUNTS)
        return [(table, cells) for table, cells in found if table is not None]

    def _table(self, kind: str, measures: Measures) -> MeasureTable | None:
        if kind == UNKNOWN:
            return self._unvalued(measures)
        return self._uncovered(measures) if kind == DENY else measures.tables.get(kind)

    def _unvalued(self, measures: Measures) -> MeasureTable | None:
        """Return the measure of ``unvalued_position``: 1 for accounts of which nothing bounds what they are worth.

        Where one factor is out for very many of them, that is told of the factor, and of none of them.
        """
        doubt, table = measures.doubt, measures.tables.get("account")
        if table is None:
            return None
        found = (
            np.zeros(table.values.shape[1]) if doubt is None else (doubt.unvalued & ~doubt.spared).astype(np.float64)
        )
        return MeasureTable(table.names, ("unvalued_position",), found.reshape(1, -1))

    def _uncovered(self, measures: Measures) -> MeasureTable | None:
        """Return the measure of ``default-deny``: 1 for accounts that hold a position and that no limit covers."""
        if measures.positions is None:
            return None
        names, held = measures.tables["account"].names, measures.positions
        if self._covers_all:
            if not self._cells[DENY].raised:
                return None
            return MeasureTable(names, ("uncovered_position",), np.zeros((1, len(held))))
        if self._bare[0] is not measures.owners or len(self._bare[1]) != len(held):
            pairs = zip(names[: len(held)], measures.owners, strict=False)
            bare = [float(self._covering.isdisjoint(covering_scopes(name, owners))) for name, owners in pairs]
            self._bare = (measures.owners, np.array(bare))
        return MeasureTable(names, ("uncovered_position",), (held * self._bare[1]).reshape(1, -1))

    # --- scaling ----------------------------------------------------------------------------------------------------

    def _scale(self, measures: Measures) -> list[Decision]:
        """Move the bounds that scale with the market; return what the audit hears of it."""
        assert measures.markets is not None
        elapsed_s = (measures.moment.as_of_us - self._scaled_us) / 1e6 if self._scaled_us else 0.0
        self._scaled_us = measures.moment.as_of_us
        moved: list[tuple[float, dict[str, Any]]] = []
        count, digest = 0, hashlib.sha256()
        for kind, cells in self._cells.items():
            table = self._table(kind, measures)
            if table is None:
                continue
            cells.grow(table)
            if not cells.scaled:
                continue
            cells.scaled.update(measures.markets, table.names, self._rated(kind, measures), elapsed_s)
            cells.bound()
            self._seen = None
            at, change = cells.scaled.moved()
            count += len(at)
            digest.update(cells.scaled.columns["effective"].tobytes())
            largest = np.argsort(-np.abs(change), kind="stable")[:EXAMPLES_MAX].tolist()
            moved += [(abs(change.item(i)), self._moved(cells, at.item(i), table)) for i in largest]
        if not count:
            return []
        moved.sort(key=lambda item: -item[0])
        largest_first = [one for _, one in moved[:EXAMPLES_MAX]]
        body = {"version": self.version, "moved": count, "sha256": digest.hexdigest(), "examples": largest_first}
        return [Decision("limits", body)]

    def _moved(self, cells: LimitCells, at: int, table: MeasureTable) -> dict[str, Any]:
        limit = cells.limits[cells.scaled.columns["limit"].item(at)]
        name = table.names[cells.scaled.columns["column"].item(at)]
        return {"limit": limit.id, "scope": limit.scope_of(name), "factors": cells.scaled.factors(at)}

    def _rated(self, kind: str, measures: Measures) -> dict[str, str]:
        """Return the rating of each scope of a kind that has a rated counterparty; one object until one changes."""
        if self._ratings[0] is not measures.ratings or self._ratings[2] != len(measures.owners):
            self._ratings = (measures.ratings, _ratings(measures), len(measures.owners))
        found: dict[str, str] = self._ratings[1].get(kind, _UNRATED)
        return found

    def take_levels(self, measures: Measures, levels: dict[tuple[str, str], int]) -> None:
        """Let limits stand at the levels that were told last, by limit and scope."""
        for kind, cells in self._cells.items():
            table = measures.tables.get("account" if kind in OF_ACCOUNTS else kind)
            if table is not None:
                cells.set_levels(table.names, levels)
        self._seen = None

    # --- records ----------------------------------------------------------------------------------------------------

    def _breach(
        self, moment: Moment, causes: FillCauses | None, change: LevelChange, table: MeasureTable, cells: LimitCells
    ) -> dict[str, Any]:
        limit, name = change.limit, table.names[change.column]
        bound = cells.bound_of(change.cell, max(change.before, change.after))
        fills = causes.of(limit.kind, name) if causes is not None else []
        marks = [f"journal:{moment.key}:{moment.seq}"] if moment.key != "all" else [f"second:{moment.as_of_us}"]
        factors = cells.scaled.explain(change.cell)
        breach = {
            "shard": moment.partition if moment.key != "all" else "all",
            "seq": moment.seq,
            "as_of_us": moment.as_of_us,
            "limit": limit.id,
            "version": self.version,
            "scope": limit.scope_of(name),
            "measure": limit.measure,
            "value": change.value,
            "bound": bound,
            "utilisation": limit.utilisation(change.value, bound),
            "level": LEVELS[change.after],
            "previous_level": LEVELS[change.before],
            "cause": "unvalued" if limit.id == UNKNOWN else "active" if fills else "passive",
            "evidence": marks + fills,
        }
        if change.certain < change.after:
            breach["certain"] = LEVELS[change.certain]
        return breach if factors is None else {**breach, "factors": factors}

    def _record(self, seq: int, at: int, breach: dict[str, Any]) -> Record:
        return self.numbering.record("breaches", seq, at, breach["scope"], orjson.dumps(breach))

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state as bytes; the limits' texts are encoded once per change."""
        if self._encoded is None:
            self._encoded = zlib.compress(msgspec.json.encode(self.policy.snapshot()), 1)
        state = {
            "key": self.key,
            "partition": self.numbering.partition,
            "counts": dict(self.numbering.counts),
            "policy": self._encoded,
            "inbox": self._inbox,
            "foreseen": sorted(self._forecast_names),
            "times": [self._built_us, self._scaled_us],
            "cells": {kind: cells.snapshot() for kind, cells in self._cells.items()},
        }
        return pack(SCHEMA, state)

    @classmethod
    def restore(cls, data: bytes) -> "LimitsState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(state["key"], state["partition"])
        self.numbering.counts, self._inbox = state["counts"], state["inbox"]
        self.policy.restore(msgspec.json.decode(zlib.decompress(state["policy"])))
        self._forecast_names = frozenset(state["foreseen"])
        built_us, self._scaled_us = state["times"]
        if built_us >= 0:
            self._build(built_us)
        for kind, cells in state["cells"].items():
            self._cells[kind].restore(cells)
        return self


def _doubt_of(doubt: Doubt, kind: str, table: MeasureTable) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the measures of a kind of scope at their better end, and by how much others may be better."""
    amounts = doubt.amounts.get(kind)
    if amounts is None:
        amounts = np.full(table.values.shape[1], doubt.total)
    return (doubt.better if kind == "account" else np.zeros((0, 0))), amounts


def _end_value(table: MeasureTable, change: LevelChange) -> float:
    """Return the value at which a limit that is gone ends, 0 where its measure is no longer computed either."""
    measure = change.limit.measure
    return float(table.values[table.measures.index(measure), change.column]) if measure in table.measures else 0.0


def _ratings(measures: Measures) -> dict[str, dict[str, str]]:
    """Return the rating of every account, netting set and counterparty whose counterparty has one, by kind."""
    found: dict[str, dict[str, str]] = {"account": {}, "netting_set": {}, "counterparty": measures.ratings}
    table = measures.tables.get("account")
    for name, owners in zip(table.names if table is not None else (), measures.owners, strict=False):
        named = dict(owner.split(":", 1) for owner in reversed(owners))
        rating = measures.ratings.get(named.get("counterparty", ""))
        if rating:
            found["account"][name] = rating
            found["netting_set"][named.get("netting_set", name)] = rating
    return found


# Limit status on every scope: value, effective bounds, level, utilisation, and the factors of its bound.
#
# Read from the state of the limits operator beside the measures that it evaluated last; nothing is changed.


class LimitStatus(NamedTuple):
    """One limit on one scope; ``bounds`` are the effective ones from warning to hard, None where it has none.

    ``utilisation`` is of the highest level that the limit has.
    """

    limit: str
    scope: str
    measure: str
    value: float
    bounds: tuple[float | None, float | None, float | None]
    level: str
    utilisation: float
    factors: dict[str, Any] | None


def limit_statuses(state: LimitsState, measures: Measures) -> list[LimitStatus]:
    """Return every limit on every scope, those most used first."""
    found = []
    for table, cells in state.evaluated(measures):
        levels, moving = cells.columns["level"].tolist(), cells.windows.standing()
        pairs = zip(cells.columns["limit"].tolist(), cells.columns["column"].tolist(), strict=True)
        for cell, (number, column) in enumerate(pairs):
            limit = cells.limits[number]
            value = float(table.values[table.measures.index(limit.source), column])
            value = limit.sign * moving[cell] if cell in moving else value
            bounds = [None if limit.bounds[at] is None else cells.bound_of(cell, at + 1) for at in range(3)]
            highest = next(bound for bound in reversed(bounds) if bound is not None)
            scope = "firm" if limit.kind == "firm" else f"{limit.kind}:{table.names[column]}"
            found.append(
                LimitStatus(
                    limit.id,
                    scope,
                    limit.measure,
                    value,
                    (bounds[0], bounds[1], bounds[2]),
                    LEVELS[levels[cell]],
                    limit.utilisation(value, highest),
                    cells.scaled.explain(cell),
                )
            )
    return sorted(found, key=lambda one: (-one.utilisation, one.scope, one.limit))


def peak_utilisations(state: LimitsState, measures: Measures) -> dict[str, float]:
    """Return how much of each limit is used on the scope that uses most of it, in a few vector operations.

    Limits with windows are left out: what counts for them is a change, which only evaluating them tells.
    """
    found: dict[str, float] = {}
    for table, cells in state.evaluated(measures):
        cells.grow(table)
        used = np.zeros(len(cells.limits))
        np.maximum.at(used, cells.columns["limit"], _shares(table, cells))
        for limit, share in zip(cells.limits, used.tolist(), strict=True):
            if not limit.window_us:
                found[limit.id] = max(found.get(limit.id, 0.0), share)
    return found


def _shares(table: MeasureTable, cells: LimitCells) -> NDArray[np.float64]:
    """Return the utilisation of every cell's highest level, as ``Limit.utilisation`` has it."""
    at, limits = cells.columns["limit"], cells.limits
    highest = np.array([next(float(b) for b in reversed(one.bounds) if b is not None) for one in limits])
    forward = np.array([one.below == (bound < 0) for one, bound in zip(limits, highest.tolist(), strict=True)])[at]
    rows = np.array([table.measures.index(one.source) for one in limits], dtype=np.int64)
    signs = np.array([one.sign for one in limits])[at]
    scale = cells.scaled.scales(len(at))
    bounds = highest[at] if scale is None else highest[at] * scale
    values = table.values[rows[at], cells.columns["column"]]
    over, under = np.where(forward, values, bounds), np.where(forward, bounds, values)
    plain = under * np.where(bounds >= 0, 1.0, -1.0) > 0
    shares = np.clip(over / np.where(plain, under, 1.0), 0.0, UTILISATION_MAX)
    beyond = np.where(signs * values > signs * bounds, UTILISATION_MAX, 0.0)
    return np.where(plain, shares, beyond)
