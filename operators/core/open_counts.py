"""How many positions are open, by account and by mark: what is nowhere held needs no value and no look at its price."""

import numpy as np
from numpy.typing import NDArray

I8 = NDArray[np.int64]
SPARE = 64


class OpenCounts:
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
