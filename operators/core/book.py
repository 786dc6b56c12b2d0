"""The book: positions and balances of one shard, and what a fill does to them.

Rules it keeps
--------------
- A position is an exact integer of its instrument's quantity increment (CONTRACT §3).
- A fill moves the position and its entry cost; what it closes is realised at average cost into the settlement asset.
  ``units x unit value`` is the value of a position in its settlement asset: ``size x price`` for linear contracts and
  ``-size / price`` for inverse ones, so that P&L is always a difference of values.
- A spot fill moves two balances, base and quote, and no position.
- The arithmetic is + - x / in a fixed order; the scalar and the vector path give the same bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import Columns

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
VECTOR_MIN = 24  # below it the scalar path is faster than some thirty numpy calls (measured: equal near 20 fills)
ROUNDS_MAX = 3  # fills of one slice on one position, beyond these the scalar path takes over
COMPACT_MIN = 1024


class Balances:
    """Amounts per (account, asset), float64, rows in order of first use."""

    def __init__(self) -> None:
        self.rows = Columns({"account": "i4", "asset": "i4", "amount": "f8"})
        self._index: dict[int, int] = {}

    def slots(self, keys: list[int]) -> list[int]:
        """Return the row of each key ``account << 20 | asset``; rows not there yet are made."""
        get = self._index.get
        found = [get(key, -1) for key in keys]
        if min(found, default=0) < 0:
            for key in keys:
                if key not in self._index:
                    self._index[key] = self.rows.append(1, account=key >> 20, asset=key & 0xFFFFF)
            found = [self._index[key] for key in keys]
        return found

    def add(self, key: int, amount: float) -> None:
        """Add ``amount`` to one balance."""
        slot = self.slots([key])[0]  # first: it may add a row, which makes new columns
        self.rows["amount"][slot] += amount

    def add_many(self, keys: list[int], amounts: F8) -> None:
        """Add amounts in order, key by key."""
        slots = self.slots(keys)
        np.add.at(self.rows["amount"], slots, amounts)

    def amount(self, key: int) -> float:
        """Return one balance, 0 where there is none."""
        slot = self._index.get(key)
        return 0.0 if slot is None else float(self.rows["amount"][slot])

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays."""
        return self.rows.snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.rows.restore(state)
        keys = (self.rows["account"].astype(np.int64) << 20) | self.rows["asset"]
        self._index = dict(zip(keys.tolist(), range(self.rows.size), strict=True))


class Positions:
    """Open positions per (account, instrument): units, entry cost and the mark they are margined at."""

    def __init__(self) -> None:
        self.rows = Columns({"account": "i4", "instrument": "i4", "mark": "i4", "units": "i8", "cost": "f8"})
        self._index: dict[int, int] = {}

    def slot(self, account: int, instrument: int, mark: int) -> int:
        """Return the row of a position, made where there is none."""
        key = account << 24 | instrument
        slot = self._index.get(key)
        if slot is None:
            slot = self._index[key] = self.rows.append(1, account=account, instrument=instrument, mark=mark)
        return slot

    def slots(self, accounts: I8, instruments: I8, marks: I8) -> I8:
        """Return the rows of many positions; ``marks`` are used for the rows that are made."""
        keys = ((accounts << 24) | instruments).tolist()
        get = self._index.get
        found = np.fromiter((get(key, -1) for key in keys), np.int64, len(keys))
        for at in np.flatnonzero(found < 0).tolist():
            found[at] = self.slot(int(accounts[at]), int(instruments[at]), int(marks[at]))
        return found

    def fill(self, slot: int, units: int, value: float) -> float:
        """Apply one fill of ``units`` (signed) at ``value`` per unit; return what it realised, in settlement units."""
        rows = self.rows
        held, cost = int(rows["units"][slot]), float(rows["cost"][slot])
        after = held + units
        if held == 0 or (held > 0) == (units > 0):
            realised, cost = 0.0, cost + units * value
        elif (after > 0) == (held > 0) and after != 0:
            released = cost * (-units / held)
            realised, cost = -units * value - released, cost - released
        else:
            realised, cost = held * value - cost, after * value
        rows["units"][slot], rows["cost"][slot] = after, cost
        return realised

    def fill_many(self, slots: I8, units: I8, values: F8) -> F8:
        """Apply fills in order; return what each realised. Repeated positions are taken in rounds."""
        realised = np.zeros(len(slots))
        left = np.arange(len(slots))
        for _ in range(ROUNDS_MAX):
            if not len(left):
                return realised
            _, first = np.unique(slots[left], return_index=True)
            if len(first) == len(left):
                realised[left] = self._round(slots[left], units[left], values[left])
                return realised
            first.sort()
            now = left[first]
            realised[now] = self._round(slots[now], units[now], values[now])
            left = np.delete(left, first)
        for at in left.tolist():
            realised[at] = self.fill(int(slots[at]), int(units[at]), float(values[at]))
        return realised

    def _round(self, slots: I8, units: I8, values: F8) -> F8:
        """Apply fills on distinct positions with the formulas of :meth:`fill`, elementwise."""
        held, cost = self.rows["units"][slots], self.rows["cost"][slots]
        after = held + units
        opens = (held == 0) | ((held > 0) == (units > 0))
        part = ~opens & ((after > 0) == (held > 0)) & (after != 0)
        released = cost * (-units / np.where(held == 0, 1, held))
        realised = np.where(opens, 0.0, np.where(part, -units * values - released, held * values - cost))
        self.rows["cost"][slots] = np.where(opens, cost + units * values, np.where(part, cost - released, after * values))
        self.rows["units"][slots] = after
        return realised

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
        return self.rows.snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.rows.restore(state)
        self._reindex()

    def _reindex(self) -> None:
        keys = (self.rows["account"].astype(np.int64) << 24) | self.rows["instrument"]
        self._index = dict(zip(keys.tolist(), range(self.rows.size), strict=True))
