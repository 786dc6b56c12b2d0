"""Positions, balances and working orders of one shard, and how a fill changes them.

Rules it keeps
--------------
- A position is an exact integer of its instrument's quantity increment (contract.md, "Positions and values").
- A fill moves the position and its entry cost; what it closes is realised at average cost into the settlement asset.
  ``units x unit value`` is the value of a position in its settlement asset: ``size x price`` for linear contracts and
  ``-size / price`` for inverse ones, so that P&L is always a difference of values.
- A spot fill moves two balances, base and quote, and no position.
- The arithmetic is + - x / in a fixed order; the scalar and the vector path give the same bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import Columns, sum_by
from seawall.operators.core.holdings._key_index import ABSENT, KeyIndex
from seawall.schemas import events as ev

# The book: positions and balances of one shard, and what a fill does to them.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
VECTOR_MIN = 24  # below it the scalar path is faster than some thirty numpy calls (measured: equal near 20 fills)
ROUNDS_MAX = 3  # fills of one slice on one position, beyond these the scalar path takes over
COMPACT_MIN = 1024


class Balances:
    """Amounts per (account, asset), float64, rows in order of first use; a key is ``account << 20 | asset``."""

    def __init__(self) -> None:
        self.rows = Columns({"account": "i8", "asset": "i8", "amount": "f8"})
        self.assets: set[int] = set()
        self._index = KeyIndex()

    def slot(self, key: int) -> int:
        """Return the row of a key, made where there is none."""
        slot = self._index.find_one(key)
        if slot == ABSENT:
            slot = self.rows.append(1, account=key >> 20, asset=key & 0xFFFFF)
            self.assets.add(key & 0xFFFFF)
            self._index.put_one(key, slot)
        return slot

    def add(self, key: int, amount: float) -> None:
        """Add ``amount`` to one balance."""
        slot = self._index.find_one(key)
        if slot == ABSENT:
            slot = self.slot(key)  # before the columns are read: it makes new ones
        self.rows["amount"][slot] += amount

    def add_many(self, keys: I8, amounts: F8) -> None:
        """Add amounts in order, key by key."""
        slots = self._index.find(keys)
        for at in np.flatnonzero(slots == ABSENT).tolist():
            slots[at] = self.slot(int(keys[at]))
        np.add.at(self.rows["amount"], slots, amounts)

    def places(self, part: "Balances") -> I8:
        """Return the row of each balance that ``part`` has a row of."""
        return self._index.find((part.rows["account"] << 20) | part.rows["asset"])

    def amount(self, key: int) -> float:
        """Return one balance, 0 where there is none."""
        slot = self._index.find_one(key)
        return 0.0 if slot == ABSENT else float(self.rows["amount"][slot])

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays."""
        return self.rows.snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.rows.restore(state)
        self.assets = set(self.rows["asset"].tolist())
        self._index = KeyIndex()
        self._index.put((self.rows["account"] << 20) | self.rows["asset"], np.arange(self.rows.size))


class PositionSubset:
    """The rows of positions in certain instruments (or accounts), found once each: positions are appended."""

    def __init__(self, column: str = "instrument") -> None:
        self._column = column
        self._rows: I8 = np.zeros(0, dtype=np.int64)
        self._seen, self._epoch = 0, -1

    def of(self, positions: "Positions", wanted: NDArray[np.bool_]) -> I8:
        """Return the rows of positions in the instruments (or accounts) that ``wanted`` marks, by number."""
        rows = positions.rows
        if self._epoch != positions.epoch:
            self._rows, self._seen, self._epoch = self._rows[:0], 0, positions.epoch
        if rows.size > self._seen:
            more = np.flatnonzero(wanted[rows[self._column][self._seen :]]) + self._seen
            self._rows, self._seen = np.concatenate([self._rows, more]), rows.size
        return self._rows


class Positions:
    """Open positions per (account, instrument): units, entry cost and the mark they are margined at."""

    def __init__(self) -> None:
        self.rows = Columns(
            {"account": "i8", "instrument": "i8", "mark": "i8", "units": "i8", "cost": "f8", "bin": "i8", "size": "f8"}
        )
        self._index = KeyIndex()
        self._probe: I8 = np.zeros(0, dtype=np.int64)
        self.bins_of: I8 = np.zeros(0, dtype=np.int64)
        self.bins = 1
        self.epoch = 0  # raised whenever rows move

    def slot(self, account: int, instrument: int, mark: int) -> int:
        """Return the row of a position, made where there is none."""
        key = account << 24 | instrument
        slot = self._index.find_one(key)
        if slot == ABSENT:
            at = account * self.bins + self.bins_of.item(instrument)
            slot = self.rows.append(1, account=account, instrument=instrument, mark=mark, bin=at)
            self._index.put_one(key, slot)
        return slot

    def classify(self, bins_of: I8, bins: int) -> None:
        """Take the margin class of every instrument, of ``bins``: ``bin`` is then ``account x bins + class``."""
        if bins != self.bins or not np.array_equal(bins_of[: len(self.bins_of)], self.bins_of):
            self.rows["bin"][:] = self.rows["account"] * bins + bins_of[self.rows["instrument"]]
        self.bins_of, self.bins = bins_of, bins

    def slots(self, accounts: I8, instruments: I8, marks: I8) -> I8:
        """Return the rows of many positions; ``marks`` are used for the rows that are made."""
        keys = (accounts << 24) | instruments
        found = self._index.find(keys)
        if (found == ABSENT).any():
            absent = np.flatnonzero(found == ABSENT)
            first = absent[np.sort(np.unique(keys[absent], return_index=True)[1])]
            account, instrument = accounts[first], instruments[first]
            bins = account * self.bins + self.bins_of[instrument]
            at = self.rows.append(len(first), account=account, instrument=instrument, mark=marks[first], bin=bins)
            self._index.put(keys[first], np.arange(at, at + len(first)))
            found[absent] = self._index.find(keys[absent])
        return found

    def find(self, accounts: I8, instruments: I8) -> I8:
        """Return the rows of pairs of account and instrument, -1 where there is no position."""
        return self._index.find((accounts << 24) | instruments)

    def units_of(self, accounts: I8, instruments: I8) -> I8:
        """Return the units held in pairs of account and instrument, 0 where there is no position."""
        found = self._index.find((accounts << 24) | instruments)
        units: I8 = np.where(found == ABSENT, 0, self.rows["units"][np.maximum(found, 0)] if self.rows.size else 0)
        return units

    def fill(self, slot: int, units: int, value: float, upfront: bool = False) -> float:
        """Apply one fill of ``units`` (signed) at ``value`` per unit; return what it moved, in settlement units.

        That is what it realised, and of what is paid ``upfront`` all that it cost.
        """
        rows = self.rows
        held, cost = rows["units"].item(slot), rows["cost"].item(slot)
        after = held + units
        if held == 0 or (held > 0) == (units > 0):
            realised, cost = 0.0, cost + units * value
        elif (after > 0) == (held > 0) and after != 0:
            released = cost * (-units / held)
            realised, cost = -units * value - released, cost - released
        else:
            realised, cost = held * value - cost, after * value
        rows["units"][slot], rows["cost"][slot], rows["size"][slot] = after, cost, after
        return -units * value if upfront else realised

    def set(self, slot: int, units: int, cost: float) -> None:
        """Set a position to ``units`` at an entry cost."""
        rows = self.rows
        rows["units"][slot], rows["cost"][slot], rows["size"][slot] = units, cost, units

    def fill_many(self, slots: I8, units: I8, values: F8) -> tuple[F8, I8]:
        """Apply fills in order; return what each realised, and +1 where it opened a position, -1 where it closed one.

        Fills on one position are taken in rounds, a few of them as arrays and the rest one by one.
        """
        first = self._first(slots)
        if first.all():
            return self._round(slots, units, values)
        realised, opened = np.zeros(len(slots)), np.zeros(len(slots), dtype=np.int64)
        left = np.arange(len(slots))
        for _ in range(ROUNDS_MAX):
            now = left[first]
            realised[now], opened[now] = self._round(slots[now], units[now], values[now])
            left = left[~first]
            if not len(left):
                return realised, opened
            first = self._first(slots[left])
        for at in left.tolist():
            slot = int(slots[at])
            held = int(self.rows["units"][slot])
            realised[at] = self.fill(slot, int(units[at]), float(values[at]))
            opened[at] = (held + int(units[at]) != 0) - (held != 0)
        return realised, opened

    def _first(self, slots: I8) -> NDArray[np.bool_]:
        """Return which places hold a row for the first time: the last writer of a row's place, going backwards."""
        if len(self._probe) < self.rows.size:
            self._probe = np.zeros(2 * self.rows.size, dtype=np.int64)
        numbers = np.arange(len(slots))
        self._probe[slots[::-1]] = numbers[::-1]
        first: NDArray[np.bool_] = self._probe[slots] == numbers
        return first

    def _round(self, slots: I8, units: I8, values: F8) -> tuple[F8, I8]:
        """Apply fills on distinct positions with the formulas of :meth:`fill`, elementwise."""
        held, cost = self.rows["units"][slots], self.rows["cost"][slots]
        after = held + units
        opens = (held == 0) | ((held > 0) == (units > 0))
        part = ~opens & ((after > 0) == (held > 0)) & (after != 0)
        released = cost * (-units / np.where(held == 0, 1, held))
        realised = np.where(opens, 0.0, np.where(part, -units * values - released, held * values - cost))
        self.rows["cost"][slots] = np.where(
            opens, cost + units * values, np.where(part, cost - released, after * values)
        )
        self.rows["units"][slots] = self.rows["size"][slots] = after
        return realised, (after != 0).astype(np.int64) - (held != 0)

    def compact(self) -> None:
        """Drop closed positions once they are more than half of the rows."""
        size = self.rows.size
        if size < COMPACT_MIN:
            return
        open_rows = self.rows["units"] != 0
        if 2 * int(np.count_nonzero(open_rows)) < size:
            self.rows.keep(open_rows)
            self._reindex()

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays."""
        return self.rows.snapshot(without=("size", "bin"))

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.rows.restore(state)
        self.rows["size"][:] = self.rows["units"]
        self.bins = 0  # `classify` follows and fills `bin`
        self._reindex()

    def _reindex(self) -> None:
        self.epoch += 1
        self._index = KeyIndex()
        self._index.put((self.rows["account"] << 24) | self.rows["instrument"], np.arange(self.rows.size))


# Counts of open positions, by account and by mark: what is nowhere held needs no value and no look at its price.

SPARE = 64


class OpenPositionCounts:
    """Open positions counted.

    Attributes
    ----------
    by_account
        By own account, shape (accounts,).
    at_mark
        By row of the marks, shape (rows or more,); later rows have none.
    changes
        How often positions opened or closed since the start: who keeps something of them looks here.
    """

    def __init__(self) -> None:
        self.by_account: I8 = np.zeros(0, dtype=np.int64)
        self.at_mark: I8 = np.zeros(0, dtype=np.int64)
        self.changes = 0

    def grow(self, more: int) -> None:
        """Make room for accounts."""
        self.by_account = np.append(self.by_account, np.zeros(more, dtype=np.int64))

    def add_one(self, account: int, mark: int, opened: int) -> None:
        """Count a position opened (1) or closed (-1) in an account and at a mark row."""
        if opened:
            self._room(mark)
            self.changes += 1
            self.by_account[account] += opened
            self.at_mark[mark] += opened

    def add_many(self, accounts: I8, marks: I8, opened: I8, rows: int) -> None:
        """Count many positions opened and closed; the marks have so many rows."""
        self._room(rows - 1)
        if opened.any():  # most fills change the size of a position that stays open
            self.changes += 1
            np.add.at(self.by_account, accounts, opened)
            np.add.at(self.at_mark, marks, opened)

    def is_held_at(self, mark: int) -> bool:
        """Tell whether any position is open at a mark row."""
        return mark < len(self.at_mark) and self.at_mark.item(mark) > 0

    def _room(self, mark: int) -> None:
        if mark >= len(self.at_mark):
            self.at_mark = np.append(self.at_mark, np.zeros(mark + SPARE - len(self.at_mark), dtype=np.int64))


# Working orders, counted at their worst case: as if all of one side were filled and none of the other.
#
# For every account and instrument that is ``max(|position + bought|, |position - sold|)``; orders that may only reduce
# add nothing. An order stands until its open quantity is 0. Its id is one of its account and instrument: venues number
# orders by instrument, and each from the same numbers.

ORDERS_MAX = 1_000_000


class WorkingOrders:
    """The open orders of a shard's accounts: signed units by account, instrument and id."""

    def __init__(self) -> None:
        self._orders: dict[tuple[int, int, str], int] = {}
        self.seen = False
        self._pairs: tuple[I8, I8, I8, I8] | None = None  # as long as no order changes

    def take(self, event: ev.Order, account: int, instrument: int, units: int) -> bool:
        """Take an order's state; return False where there is no room for one more."""
        self.seen, self._pairs = True, None
        order = account, instrument, event.order_id
        if units == 0 or event.reduce_only:
            self._orders.pop(order, None)
            return True
        if len(self._orders) >= ORDERS_MAX and order not in self._orders:
            return False
        self._orders[order] = units if event.side == "buy" else -units
        return True

    def __len__(self) -> int:
        return len(self._orders)

    def pairs(self) -> tuple[I8, I8, I8, I8]:
        """Return account, instrument, units bought and units sold of every pair with orders.

        Sums are of integers, so they do not depend on the order of orders.
        """
        if self._pairs is None:
            self._pairs = self._added()
        return self._pairs

    def worst_case(self, positions: Positions, notional: F8, rate: F8, accounts: int) -> F8:
        """Return by how much gross notional and initial margin of every account exceed today's in the worst case.

        Parameters
        ----------
        positions
            What is held.
        notional, rate
            By instrument: of one unit, in the reporting currency; the initial margin as a fraction of it.
        """
        of, number, bought, sold = self.pairs()
        more = worst_case_growth(positions.units_of(of, number), bought, sold) * notional[number]
        return np.stack([sum_by(of, more, accounts), sum_by(of, more * rate[number], accounts)])

    def _added(self) -> tuple[I8, I8, I8, I8]:
        rows = [(account, instrument, units) for (account, instrument, _), units in self._orders.items()]
        account, instrument, units = np.array(rows, dtype=np.int64).reshape(-1, 3).T
        keys, first, member = np.unique((account << 24) | instrument, return_index=True, return_inverse=True)
        bought, sold = np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.int64)
        np.add.at(bought, member, np.maximum(units, 0))
        np.add.at(sold, member, np.maximum(-units, 0))
        return account[first], instrument[first], bought, sold

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`."""
        return {"orders": [[name, a, i, units] for (a, i, name), units in self._orders.items()], "seen": self.seen}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self._orders = {(account, instrument, name): units for name, account, instrument, units in state["orders"]}
        self.seen = state["seen"]
        self._pairs = None


def worst_case_growth(held: I8, bought: I8, sold: I8) -> I8:
    """Return by how many units the worst case exceeds what is held.

    Examples
    --------
    >>> worst_case_growth(np.array([5, 5, -5]), np.array([2, 0, 0]), np.array([3, 12, 3])).tolist()
    [2, 2, 3]
    """
    size = np.abs(held)
    growth: I8 = np.maximum(np.maximum(np.abs(held + bought), np.abs(held - sold)), size) - size
    return growth
