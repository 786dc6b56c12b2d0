"""Scenario margin of the accounts that ask for it, kept up to date by what changed.

1. The profits of an instrument in the scenarios of the default grid are computed once, whoever holds it, and again when
   its price or volatility moved by ``MOVE_MIN``, that of an option after ten seconds too (``Repriced``).
2. Positions of one account on one underlying are a *pair*, which offsets within itself. A pair is revalued where units
   of it, profits of its instruments or the rate of their settlement asset changed since it was last.
3. The margin of an account is the sum of its pairs. It is taken when something of the account was traded and, for all
   accounts, every ``EVERY_US`` of event time.

What pairs lose follows from the book and the profits and is no state: after a restore all of it is computed again, to
the same bits, before it is next taken.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.book import Chosen, Positions
from seawall.operators.core.directory import Directory
from seawall.operators.core.index import Numbers
from seawall.operators.core.marks import Marks
from seawall.operators.core.options import MOVE_MIN, OptionSheet, Repriced
from seawall.operators.core.valuation.options import years_to_expiry
from seawall.operators.core.valuation.scenario_margin import (
    DEFAULT_GRID,
    Instruments,
    scenario_profits,
    worst_losses,
)

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
EVERY_US: Final = 10_000_000
VOLATILITY_UNKNOWN: Final = 1.5  # of an option that has none: the supervisory one of crypto (OSFI)


class ScenarioBook:
    """The accounts of one shard with scenario margin; ``margin`` is by own account, in the reporting currency."""

    def __init__(self, directory: Directory, marks: Marks, positions: Positions, sheet: OptionSheet) -> None:
        self._directory, self._marks, self._positions, self._sheet = directory, marks, positions, sheet
        self.margin: F8 = np.zeros(0)
        self._priced = Repriced()
        self._profits: F8 = np.zeros((0, len(DEFAULT_GRID)))
        self._all_us = 0
        self._forget()

    def learn(self, accounts: int) -> None:
        """Take what the directory has learned; ``accounts`` is the number of own ones."""
        self.margin = np.append(self.margin, np.zeros(accounts - len(self.margin)))
        more = len(self._directory.instrument_records) - self._priced.rows.size
        if more:
            self._priced.rows.append(more)
        self._profits = np.zeros((self._priced.rows.size, len(DEFAULT_GRID)))
        self._price(self._priced.rows["us"].nonzero()[0])
        self._forget()

    def measure(self, wanted: B1, touched: B1, as_of_us: int) -> None:
        """Bring ``margin`` up to date for the accounts that are due.

        Parameters
        ----------
        wanted, touched
            By account: whether it has scenario margin; whether anything was traded in it since the last call.
        """
        due = self._due(wanted, touched, as_of_us)
        if not due.any():
            return
        at = self._chosen.of(self._positions, wanted)
        self._extend(at)
        units = self._positions.rows["units"][at]
        used = np.zeros(len(self._profits), dtype=bool)
        used[self._instrument[(due[self._account] & (units != 0)).nonzero()[0]]] = True
        self._age(units, self._refresh(used.nonzero()[0], as_of_us))
        self._revalue(due)
        total = np.bincount(self._pair_account, self._loss, len(self.margin))
        self.margin = np.where(due, total, self.margin)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _due(self, wanted: B1, touched: B1, as_of_us: int) -> B1:
        if self._all_us and as_of_us < self._all_us + EVERY_US:
            return wanted & touched
        self._all_us = as_of_us
        return wanted

    def _forget(self) -> None:
        """Drop the pairs, which are made again from the positions."""
        self._chosen, self._numbers, self._epoch = Chosen("account"), Numbers(), -1
        self._pair, self._account, self._instrument = (np.zeros(0, dtype=np.int64) for _ in range(3))
        self._units, self._pair_account = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        self._loss, self._stale = np.zeros(0), np.zeros(0, dtype=bool)
        self._worth = np.zeros(0)

    def _extend(self, at: I8) -> None:
        """Take the positions ``at`` that came since the last call into their pairs; all of them where rows moved."""
        if self._epoch != self._positions.epoch:
            chosen = self._chosen
            self._forget()
            self._chosen, self._epoch = chosen, self._positions.epoch
        fresh = at[len(self._pair) :]
        if not len(fresh):
            return
        rows = self._positions.rows
        account, instrument = rows["account"][fresh], rows["instrument"][fresh]
        pair, new = self._numbers.take((account << 32) | self._directory.arrays["underlying"][instrument])
        self._pair = np.concatenate([self._pair, pair])
        self._account = np.concatenate([self._account, account])
        self._instrument = np.concatenate([self._instrument, instrument])
        self._units = np.concatenate([self._units, np.zeros(len(fresh), dtype=np.int64)])
        self._pair_account = np.concatenate([self._pair_account, account[new]])
        self._loss = np.concatenate([self._loss, np.zeros(len(new))])
        self._stale = np.concatenate([self._stale, np.ones(len(new), dtype=bool)])

    def _age(self, units: I8, repriced: I8) -> None:
        """Note which pairs have to be revalued: their units, profits or settlement rates are not what they were."""
        changed = units != self._units
        self._units = units
        worth = self._marks.asset_worth[self._directory.arrays["settlement"]]
        moved = np.ones(len(worth), dtype=bool) if len(worth) != len(self._worth) else worth != self._worth
        self._worth = worth
        moved[repriced] = True
        if moved.any():
            changed |= moved[self._instrument]
        self._stale[self._pair[changed]] = True

    def _revalue(self, due: B1) -> None:
        """Compute what the pairs of accounts that are due lose, where that is not known."""
        pairs = self._stale & due[self._pair_account]
        at = pairs[self._pair].nonzero()[0]
        if not len(at):
            return
        number = self._instrument[at]
        place, size = pairs.cumsum() - 1, self._units[at] * self._directory.arrays["size"][number]
        count = place.item(-1) + 1
        self._loss[pairs], _ = worst_losses(place[self._pair[at]], number, size, self._profits, self._worth, count)
        self._stale[pairs] = False

    def _refresh(self, at: I8, as_of_us: int) -> I8:
        """Bring the scenario profits of instruments up to date where price or volatility moved; return which."""
        arrays, terms = self._directory.arrays, self._sheet.terms
        across = self._marks.across()[at]
        price, volatility = self._marks.rows["price"][across], np.zeros(len(at))
        options = arrays["option"][at].nonzero()[0]
        if len(options):
            row = terms.row[at[options]]
            forward, known = self._sheet.forwards()[row], self._sheet.volatilities()[row]
            price[options] = np.where(np.isnan(forward), terms.strike[row], forward)
            volatility[options] = np.where(np.isnan(known), VOLATILITY_UNKNOWN, known)
        due = self._priced.due(at, price, volatility, as_of_us, MOVE_MIN, arrays["option"][at])
        self._price(due)
        return due

    def _price(self, at: I8) -> None:
        """Compute the scenario profits of instruments at the inputs that ``_priced`` holds; 0 without a price."""
        if not len(at):
            return
        arrays, terms, inputs = self._directory.arrays, self._sheet.terms, self._priced.rows
        option = arrays["option"][at]
        strike, expiry, call, coin = np.ones(len(at)), np.zeros(len(at)), np.zeros_like(option), arrays["inverse"][at]
        options = option.nonzero()[0]
        row = terms.row[at[options]]
        strike[options], call[options], coin[options] = terms.strike[row], terms.call[row], terms.coin[row]
        expiry[options] = years_to_expiry(terms.expiry_us[row], inputs["us"][at[options]])
        held = Instruments(inputs["forward"][at], coin, option, call, strike, expiry, inputs["volatility"][at])
        profits = scenario_profits(held, DEFAULT_GRID)
        self._profits[at] = np.where(np.isnan(profits), 0.0, profits)

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`."""
        return {"priced": self._priced.rows.snapshot(), "margin": self.margin.copy(), "all_us": self._all_us}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot; ``learn`` follows."""
        self._priced.rows.restore(state["priced"])
        self.margin, self._all_us = state["margin"], state["all_us"]
