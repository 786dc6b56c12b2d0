"""What each strategy holds and has made: the fills that name it, from our side, whatever account they went through.

A fill of an account of ours counts as it is, one of a client's turned, one of an agency account not at all. The book is
that of ``book``, with *shares* in the place of accounts: what one account holds for one strategy, at average cost, and
in balances what was realised, spot trades and fees. Like everywhere, gross notional is that of accounts, added up.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.account_values import AccountValues
from seawall.operators.core.book import Balances, Positions
from seawall.operators.core.columns import sum_by
from seawall.operators.core.directory import Directory
from seawall.operators.core.marks import Marks
from seawall.operators.core.options import OptionSheet

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]


class StrategyBook:
    """The strategies of one shard and their shares, numbered in order of their first fill."""

    def __init__(self, directory: Directory, marks: Marks, sheet: OptionSheet) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._shares: dict[tuple[int, int], int] = {}  # by strategy and account
        self._directory, self._marks = directory, marks
        self.positions, self.balances = Positions(), Balances()
        self._values = AccountValues(directory, marks, self.positions, self.balances, sheet)

    def grow(self) -> None:
        """Make room for the instruments that the directory has just learned."""
        self.positions.classify(np.zeros(len(self._directory.instrument_records), dtype=np.int64), 1)

    def share(self, name: str, account: int) -> int:
        """Return the number of what an own account holds for a strategy; one that is first named gets the next."""
        number = self._numbers.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
        return self._shares.setdefault((number, account), len(self._shares))

    def shares(self, names: list[str], accounts: I8) -> I8:
        """Return the share of each fill, -1 where it names no strategy."""
        pairs = zip(names, accounts.tolist(), strict=True)
        return np.array([self.share(name, account) if name else -1 for name, account in pairs], dtype=np.int64)

    def take(self, share: I8, stake: F8, instrument: I8, units: I8, values: F8) -> tuple[I8, F8, F8]:
        """Take fills of derivatives in order.

        Parameters
        ----------
        share, stake, instrument
            By fill; of :meth:`shares`; ``stake`` is 1, -1 or 0.
        units, values
            Signed units, and the value of one in the settlement asset.

        Returns
        -------
        tuple
            Which of the fills count, their stakes, and what each of these realised.
        """
        at = ((share >= 0) & (stake != 0)).nonzero()[0]
        number, sign = instrument[at], stake[at]
        marks = self._marks.across()[number]
        slots = self.positions.slots(share[at], number, marks)
        realised, _ = self.positions.fill_many(slots, (sign * units[at]).astype(np.int64), values[at])
        return at, sign, realised

    def settle(self, instrument: int, value: float, settlement: int) -> None:
        """Turn the positions in an expired instrument into cash at the value of a unit."""
        rows = self.positions.rows
        for slot in np.flatnonzero((rows["instrument"] == instrument) & (rows["units"] != 0)).tolist():
            realised = self.positions.fill(slot, -int(rows["units"][slot]), value)
            self.balances.add(int(rows["account"][slot]) << 20 | settlement, realised)

    def places(self) -> list[tuple[str, int, int]]:
        """Return strategy, account and instrument of everything that is held, each once, in order of row."""
        rows, owners = self.positions.rows, list(self._shares)
        pairs = zip(*(rows[name][rows["units"] != 0].tolist() for name in ("account", "instrument")), strict=True)
        found = ((*owners[share], instrument) for share, instrument in pairs)
        return [(self.names[strategy], account, instrument) for strategy, account, instrument in dict.fromkeys(found)]

    def held(self) -> I8:
        """Return the instruments in which any strategy holds anything."""
        rows = self.positions.rows
        held: I8 = rows["instrument"][rows["units"] != 0]
        return held

    def sums(self) -> F8:
        """Return gross notional, net notional and P&L of every strategy at the marks across venues, shape (3, n)."""
        rows, paid, marks, count = self.positions.rows, self.balances.rows, self._marks, len(self.names)
        strategy = np.array([number for number, _ in self._shares], dtype=np.int64)
        owner, at = strategy[rows["account"]], rows["mark"]
        held = rows["size"] * marks.unit[at]
        notional = np.abs(held)
        signed = self._values.signed(held, notional)
        made = sum_by(owner, held - rows["cost"] * marks.worth[at], count)
        made += sum_by(strategy[paid["account"]], paid["amount"] * marks.asset_worth[paid["asset"]], count)
        return np.stack([sum_by(owner, notional, count), sum_by(owner, signed, count), made])

    def snapshot(self) -> list[Any]:
        """Return the state for :func:`snapshot.pack`."""
        shares = [list(pair) for pair in self._shares]
        return [list(self.names), shares, self.positions.snapshot(), self.balances.snapshot()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self.names = list(state[0])
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._shares = {(strategy, account): number for number, (strategy, account) in enumerate(state[1])}
        self.positions.restore(state[2])
        self.balances.restore(state[3])
        self.grow()
