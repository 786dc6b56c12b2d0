"""Limit cells: every (limit, scope) of one kind of scope as columns, and changes of measures over time windows.

Fifty thousand cells cost a few vector operations per slice.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import Columns, MeasureTable
from seawall.operators.core.limits._bounds import ScaledBounds
from seawall.operators.core.limits._rules import Limit

# Limits per time window: how far a measure has moved within the last ``window_s``, for many cells at once.
#
# The window is kept as :data:`BUCKETS` equal parts, each with the best value seen in it, and the part that is running.
# So it looks back at least ``window_s`` and at most one part longer, and costs the same memory however many slices
# there are. A cell begins with the first value that it is given: what stood before is not known to have moved.
#
# References
# ----------
# FIX 5.0 SP2: RiskLimitVelocityPeriod (2336).

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
BUCKETS: Final = 12
_SLOTS: Final = BUCKETS + 1
NEW: Final = -1


class ChangeWindows:
    """The windows of some cells, in the order in which they were added; values are oriented: larger is worse."""

    def __init__(self) -> None:
        self.cell: I8 = np.zeros(0, dtype=np.int64)
        self._width: I8 = np.zeros(0, dtype=np.int64)
        self._ring: F8 = np.zeros((_SLOTS, 0))
        self._last: F8 = np.zeros(0)
        self._bucket: I8 = np.zeros(0, dtype=np.int64)

    def add(self, cells: I8, window_us: I8) -> None:
        """Add cells with their window lengths."""
        more = len(cells)
        self.cell = np.append(self.cell, cells)
        self._width = np.append(self._width, np.maximum(window_us // BUCKETS, 1))
        self._ring = np.concatenate([self._ring, np.zeros((_SLOTS, more))], axis=1)
        self._last = np.append(self._last, np.zeros(more))
        self._bucket = np.append(self._bucket, np.full(more, NEW, dtype=np.int64))

    def change(self, values: F8, as_of_us: int) -> F8:
        """Take the values at ``as_of_us``; return how much worse each is than the best one in its window."""
        bucket = (as_of_us - 1) // self._width
        step = bucket - self._bucket
        if step.any():
            self._turn(values, step)
            self._bucket = bucket
        at = bucket % _SLOTS
        places = np.arange(len(values))
        self._ring[at, places] = np.minimum(self._ring[at, places], values)
        self._last = values.copy()
        moved: F8 = values - self._ring.min(axis=0)
        return moved

    def _turn(self, values: F8, step: I8) -> None:
        """Begin new parts; in those that passed in silence the last value stood."""
        new = self._bucket == NEW
        self._ring[:, new] = values[new]
        self._last[new] = values[new]
        for passed in range(1, _SLOTS + 1):
            which = np.flatnonzero(~new & (step >= passed))
            if not len(which):
                return
            self._ring[(self._bucket[which] + passed) % _SLOTS, which] = self._last[which]

    def standing(self) -> dict[int, float]:
        """Return how far each cell's measure has moved in its window, as of the last value."""
        moved = (self._last - self._ring.min(axis=0)).tolist() if len(self.cell) else []
        return dict(zip(self.cell.tolist(), moved, strict=True))

    def take_from(self, other: "ChangeWindows", cells: dict[int, int]) -> None:
        """Take over the history of cells that stay: from their number in ``other`` to their number here."""
        place = {cell: at for at, cell in enumerate(self.cell.tolist())}
        pairs = [(at, place[cells[cell]]) for at, cell in enumerate(other.cell.tolist()) if cell in cells]
        if pairs:
            before, after = (np.array(part, dtype=np.int64) for part in zip(*pairs, strict=True))
            self._ring[:, after] = other._ring[:, before]
            self._last[after] = other._last[before]
            self._bucket[after] = other._bucket[before]

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        return [self.cell, self._width, self._ring.copy(), self._last.copy(), self._bucket.copy()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self.cell, self._width, self._ring, self._last, self._bucket = state


# Cells: every (limit, scope) of one kind of scope, as columns, so that fifty thousand cost a few vector operations.
#
# Procedure, once per slice
# -------------------------
# 1. Scopes that appeared since get their cells: one per starred limit, and those of limits that waited for their name.
# 2. Gather the measures, orient them so that larger is worse, take the change over the window where a limit has one.
# 3. Only cells that hold a level or reach the lowest one are looked at further; the others cost one comparison.
# 4. Up at once; each level is left by itself, once the measure was beyond its exit bound for ``dwell_us``.
#
# 5. Where prices are in doubt, a level that does not hold at their better end is not certain: ``lacks`` says by how
#    many levels. Once it is certain it is told again.
#
# Cells keep the order in which they came; it never shows, because changes are reported in order of limit and scope.

NEVER = -1
NUMBERS = np.array([1, 2, 3], dtype=np.int8)  # of the levels
LEAVING = ("leaving_1_us", "leaving_2_us", "leaving_3_us")  # by level: since when a cell is beyond its exit bound


class LevelChange(NamedTuple):
    """A cell that changed its level; ``value`` is the measure, or its change over the window.

    ``certain`` is the highest level that holds at the better end of prices that are in doubt.
    """

    order: int
    column: int
    cell: int
    limit: Limit
    value: float
    before: int
    after: int
    certain: int = 3


class LimitCells:
    """The cells of the limits on one kind of scope."""

    def __init__(self, limits: list[Limit]) -> None:
        self.limits = limits
        self.columns = Columns(
            {"limit": "i8", "column": "i8", "level": "i1", "lacks": "i1", **dict.fromkeys(LEAVING, "i8")}
        )
        self.scaled = ScaledBounds(limits)
        self.windows = ChangeWindows()
        self.known = 0
        self.raised = False  # some cell stands at a level
        self.doubted = False  # some level is not certain
        self.restless = False  # a level is about to be left, or windows roll: time alone may change something
        self._enter = _filled([limit.enter for limit in limits])
        self._leave = _filled([limit.leave for limit in limits])
        self._lowest_of = np.array([limit.lowest for limit in limits])
        self._reading = np.array([limit.reading for limit in limits])
        self._dwell = np.array([limit.dwell_us for limit in limits], dtype=np.int64)
        self._window = np.array([limit.window_us for limit in limits], dtype=np.int64)
        self._starred = np.array([at for at, limit in enumerate(limits) if limit.starred], dtype=np.int64)
        self._named: dict[str, list[int]] = {}
        for at, limit in enumerate(limits):
            if not limit.starred:
                self._named.setdefault(limit.name, []).append(at)
        self._shape: tuple[tuple[str, ...], int] | None = None  # of the tables that ``_flat`` indexes
        self._flat: I8 = np.zeros(0, dtype=np.int64)
        self._signs: F8 = np.zeros(0)
        self._scale: F8 | None = None
        self._lowest: F8 = np.zeros(0)

    # --- scopes -----------------------------------------------------------------------------------------------------

    def grow(self, table: MeasureTable) -> None:
        """Make the cells of the scopes that the table has more than before."""
        count = table.values.shape[1]
        if count > self.known:
            fresh = np.arange(self.known, count)
            limits, columns = [np.repeat(self._starred, len(fresh))], [np.tile(fresh, len(self._starred))]
            for column in range(self.known, count) if self._named else ():
                found = self._named.get(table.names[column])
                if found:
                    limits.append(np.array(found, dtype=np.int64))
                    columns.append(np.full(len(found), column, dtype=np.int64))
            self.known = count
            self._append(np.concatenate(limits), np.concatenate(columns))
        if self._shape != (table.measures, count):
            self._shape = (table.measures, count)
            self._index(table)

    def _append(self, limit: I8, column: I8) -> None:
        first = self.columns.append(len(limit), limit=limit, column=column, **dict.fromkeys(LEAVING, NEVER))
        moving = np.flatnonzero(self._window[limit] > 0)
        self.windows.add(first + moving, self._window[limit[moving]])
        self.scaled.add(limit, column, first)
        self._shape = None

    def _index(self, table: MeasureTable) -> None:
        """Find every cell's place in the table, and its lowest bound."""
        limit, count = self.columns["limit"], table.values.shape[1]
        rows = np.array([table.measures.index(one.source) for one in self.limits], dtype=np.int64)
        self._flat = rows[limit] * count + self.columns["column"]
        self._signs = self._reading[limit]
        leaving = any(bool((self.columns[name] != NEVER).any()) for name in LEAVING)
        self.restless = leaving or len(self.windows.cell) > 0
        self.bound()

    def bound(self) -> None:
        """Take the effective bounds as they stand."""
        limit = self.columns["limit"]
        lowest = self._lowest_of[limit]
        self._scale = self.scaled.scales(len(limit))
        self._lowest = lowest if self._scale is None else lowest * self._scale

    # --- levels -----------------------------------------------------------------------------------------------------

    def evaluate(self, table: MeasureTable, as_of_us: int, doubt: tuple[F8, F8] | None = None) -> list[LevelChange]:
        """Move all cells to ``as_of_us``; return the changes of level.

        ``doubt``: the first measures at their better end, and by scope how much any other may be better.
        """
        if self._shape != (table.measures, table.values.shape[1]):
            self.grow(table)
        level = self.columns["level"]
        values: F8 = table.values.take(self._flat) * self._signs
        if len(self.windows.cell):
            moving = self.windows.cell
            values[moving] = self.windows.change(values[moving], as_of_us)
        near = values >= self._lowest
        at = (near | (level > 0) if self.raised else near).nonzero()[0]
        if not len(at) or (doubt is None and not self.doubted):
            return self._move(at, values[at], as_of_us) if len(at) else []
        before = level.copy()
        changes = self._move(at, values[at], as_of_us)
        return self._doubt(values if doubt is None else self._better(values, table, *doubt), before, changes)

    def _better(self, values: F8, table: MeasureTable, better: F8, amounts: F8) -> F8:
        """Return the values of cells at the better end of prices in doubt, oriented as they are."""
        row, column = np.divmod(self._flat, table.values.shape[1])
        found = values - amounts[column]
        at = (row < len(better)).nonzero()[0]
        at = at[self._window[self.columns["limit"][at]] == 0]
        found[at] = better[row[at], column[at]] * self._signs[at]
        return np.minimum(found, values)

    def _doubt(self, values: F8, before: NDArray[np.int8], changes: list[LevelChange]) -> list[LevelChange]:
        """Find which levels are certain; return the changes with that, and levels that have become certain."""
        level, lacks, scale = self.columns["level"], self.columns["lacks"], self._scale
        at = ((level > 0) | (lacks > 0)).nonzero()[0]
        enter = self._enter[self.columns["limit"][at]]
        sure = _reached(enter if scale is None else enter * scale[at, None], values[at])
        was = before[at] - lacks[at]
        now = np.minimum(level[at], np.maximum(was, sure))
        lacks[at], self.doubted = level[at] - now, bool((now < level[at]).any())
        certain = dict(zip(at.tolist(), now.tolist(), strict=True))
        changes = [change._replace(certain=certain.get(change.cell, change.after)) for change in changes]
        risen = at[(now > was) & (level[at] == before[at])]
        places = {cell: place for place, cell in enumerate(at.tolist())}
        for cell in risen.tolist():
            place = places[cell]
            one = self._change(cell, values.item(cell), was.item(place), level.item(cell))
            changes.append(one._replace(certain=now.item(place)))
        return changes

    def _move(self, at: I8, values: F8, as_of_us: int) -> list[LevelChange]:
        columns, level = self.columns, self.columns["level"]
        of, before = columns["limit"][at], level[at]
        enter, leave = self._enter[of], self._leave[of]
        if self._scale is not None:
            enter, leave = enter * self._scale[at, None], leave * self._scale[at, None]
        held = before[:, None] >= NUMBERS
        below = held & (values[:, None] < leave)
        since = np.stack([columns[name][at] for name in LEAVING], axis=1)
        reached = _reached(enter, values)
        if not below.any() and (reached <= before).all() and (since == NEVER).all():
            self.restless = len(self.windows.cell) > 0
            return []
        since = np.where(below, np.where(since == NEVER, as_of_us, since), NEVER)
        left = below & (as_of_us - since >= self._dwell[of, None])
        level[at] = after = np.maximum(reached, ((held & ~left) * NUMBERS).max(axis=1))
        since[after[:, None] < NUMBERS] = NEVER
        for number, name in enumerate(LEAVING):
            columns[name][at] = since[:, number]
        self.restless = bool((since != NEVER).any()) or len(self.windows.cell) > 0
        changed = (after != before).nonzero()[0].tolist()
        self.raised = bool(level.any())
        return [self._change(at.item(i), values.item(i), before.item(i), after.item(i)) for i in changed]

    def _change(self, cell: int, value: float, before: int, after: int) -> LevelChange:
        limit = self.limits[self.columns["limit"].item(cell)]
        return LevelChange(
            limit.order, self.columns["column"].item(cell), cell, limit, limit.sign * value, before, after
        )

    def bound_of(self, cell: int, level: int) -> float:
        """Return the effective bound of a cell at a level, 0 where its limit has none there."""
        limit = self.limits[self.columns["limit"].item(cell)]
        bound = limit.bounds[level - 1]
        if bound is None:
            return 0.0
        return float(bound) * (1.0 if self._scale is None else self._scale.item(cell))

    def set_levels(self, names: list[str], levels: dict[tuple[str, str], int]) -> None:
        """Set the level of every cell by limit and scope, 0 where none is given; timers of those that change end."""
        pairs = [(self.limits[limit], names[column]) for limit, column in _pairs(self.columns)]
        given = np.array([levels.get((limit.id, limit.scope_of(name)), 0) for limit, name in pairs], dtype=np.int8)
        for leaving in LEAVING:
            self.columns[leaving][given != self.columns["level"]] = NEVER
        self.columns["level"][:], self.columns["lacks"][:] = given, 0  # what was told was told as certain
        self.raised, self.doubted = bool(given.any()), False

    # --- changes of limits ------------------------------------------------------------------------------------------

    def take_from(self, other: "LimitCells", names: list[str], count: int) -> list[LevelChange]:
        """Take over what stands of the same scopes of the same limits; return the levels of limits that are gone.

        Parameters
        ----------
        other
            The cells before the change.
        names, count
            Scopes of this kind, of which ``other`` knew the first ``count``.
        """
        self.grow(
            MeasureTable(names, tuple(dict.fromkeys(limit.source for limit in self.limits)), np.empty((0, count)))
        )
        place = {limit.identity: at for at, limit in enumerate(self.limits)}
        mine = {pair: cell for cell, pair in enumerate(_pairs(self.columns))}
        kept: dict[int, int] = {}
        gone = []
        for cell, (limit, column) in enumerate(_pairs(other.columns)):
            now = mine.get((place.get(other.limits[limit].identity, -1), column))
            if now is not None:
                kept[cell] = now
            elif other.columns["level"].item(cell):
                gone.append(other._change(cell, 0.0, other.columns["level"].item(cell), 0))
        before, after = (np.array(part, dtype=np.int64) for part in (list(kept), list(kept.values())))
        for name in ("level", "lacks", *LEAVING):
            self.columns[name][after] = other.columns[name][before]
        self.windows.take_from(other.windows, kept)
        self.scaled.take_from(other.scaled, kept)
        self.raised, self.doubted = bool(self.columns["level"].any()), bool(self.columns["lacks"].any())
        self._shape = None
        return gone

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays; the limits themselves stand elsewhere."""
        windows, scaled = self.windows.snapshot(), self.scaled.snapshot()
        return {"known": self.known, "cells": self.columns.snapshot(), "windows": windows, "scaled": scaled}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.known = state["known"]
        self.columns.restore(state["cells"])
        self.windows.restore(state["windows"])
        self.scaled.restore(state["scaled"])
        self.raised, self.doubted = bool(self.columns["level"].any()), bool(self.columns["lacks"].any())


def _filled(bounds: list[F8]) -> F8:
    """Return the bounds of limits, a level that one lacks standing where its next higher one does."""
    rows = np.array(bounds).reshape(-1, 3)
    filled: F8 = np.minimum.accumulate(rows[:, ::-1], axis=1)[:, ::-1]
    return filled


def _reached(bounds: F8, values: F8) -> NDArray[np.int8]:
    """Return the highest level, 1 to 3, whose bound each value reaches; 0 for none."""
    reached: NDArray[np.int8] = (values[:, None] >= bounds).sum(axis=1, dtype=np.int8)
    return reached


def _pairs(columns: Columns) -> list[tuple[int, int]]:
    return list(zip(columns["limit"].tolist(), columns["column"].tolist(), strict=True))
