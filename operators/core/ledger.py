"""The ledger of one shard: directory, marks, positions, balances and the memory of fills, and their valuation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.book import Balances, Positions
from seawall.operators.core.directory import Directory
from seawall.operators.core.frames import Table
from seawall.operators.core.marks import ACROSS, Marks
from seawall.operators.core.memory import Memory

F8 = NDArray[np.float64]
FILL_COLUMNS = 7  # account, instrument, units, price, fee, fee asset, action and reference
TRANSFER_COLUMNS = 3  # account, asset, amount


class Ledger:
    """The book of one shard. Operators change it through :mod:`fills`; :meth:`value` revalues all of it."""

    def __init__(self, shard: int, configuration: dict[str, Any]) -> None:
        self.directory = Directory(shard, configuration["shards"], configuration["reporting_currency"])
        self.marks = Marks(self.directory)
        self.positions, self.balances = Positions(), Balances()
        self.fills = Memory(configuration["fill_memory"], FILL_COLUMNS)
        self.transfers = Memory(configuration["fill_memory"], TRANSFER_COLUMNS)
        self.open_count = np.zeros(0, dtype=np.int64)
        self.contributed = np.zeros(0)
        self.active = np.zeros(0, dtype=bool)
        self.expiring: dict[int, int] = {}
        self.reported: dict[str, list[str]] = {}
        self.tables: dict[str, Table] | None = None
        self.wide: dict[str, dict[str, list[float]]] = {}
        self._changed = self._wide_stale = False
        self._position_values: tuple[F8, F8, F8] = (np.zeros(0), np.zeros(0), np.zeros(0))
        self.mark_age_us_max = 0

    def configure(self, configuration: dict[str, Any]) -> None:
        """Take what may change between configurations."""
        self.fills.size_max = self.transfers.size_max = configuration["fill_memory"]
        self.mark_age_us_max = int(configuration["mark_max_age_s"] * 1_000_000)

    def touch(self) -> None:
        """Note that something that the measures depend on has changed."""
        self._changed = True

    def take_changed(self) -> bool:
        """Tell whether anything changed since the last call."""
        changed, self._changed = self._changed, False
        self._wide_stale = self._wide_stale or changed
        return changed

    def grow(self) -> None:
        """Make room for accounts that the directory has just learned."""
        more = len(self.directory.own) - len(self.open_count)
        if more > 0:
            self.open_count = np.append(self.open_count, np.zeros(more, dtype=np.int64))
            self.contributed = np.append(self.contributed, np.zeros(more))
            self.active = np.append(self.active, np.zeros(more, dtype=bool))
        arrays = self.directory.arrays
        self.positions.classify(arrays["class"], len(arrays["class_initial"]))

    def mark_row(self, account: int, instrument: int) -> int:
        """Return the mark row at which an own account's position is margined: its venue's, or the one across."""
        venue = int(self.directory.arrays["venue"][account])
        return self.marks.row(instrument, venue if venue >= 0 else ACROSS)

    # --- valuation --------------------------------------------------------------------------------------------------

    def value(self) -> dict[str, F8]:
        """Revalue the book; all values in the reporting currency, per own account.

        Returns
        -------
        dict
            ``equity gross net unrealised initial maintenance collateral pnl`` at the marks that margin the account,
            ``robust_gross robust_net`` at the marks across venues.
        """
        arrays, rows = self.directory.arrays, self.positions.rows
        count = len(self.directory.own)
        unit, worth = self.marks.unit_values()
        account, at, cost = rows["account"], rows["mark"], rows["cost"]
        held = rows["size"] * unit[at]
        spent = cost if (worth == 1.0).all() else cost * worth[at]
        linear = not arrays["inverse"].any()
        net = held if linear else np.where(arrays["inverse"][rows["instrument"]], -held, held)
        worths = np.bincount(account, held, count)
        # One sum per margin class serves gross notional and both margins.
        gross = np.bincount(rows["bin"], np.abs(held), count * self.positions.bins).reshape(count, self.positions.bins)
        book = {
            "unrealised": worths - np.bincount(account, spent, count),
            "net": worths if linear else np.bincount(account, net, count),
            "gross": _across(gross, np.ones(self.positions.bins)),
            "initial": _across(gross, arrays["class_initial"]),
            "maintenance": _across(gross, arrays["class_maintenance"]),
        }
        self._value_balances(book, count)
        book["equity"] = book["collateral"] + book["unrealised"]
        book["pnl"] = book["balances"] + book["unrealised"] - self.contributed
        self._value_robust(book, net, held, spent, count)
        return book

    def _value_balances(self, book: dict[str, F8], count: int) -> None:
        rows = self.balances.rows
        asset, amount = rows["asset"], rows["amount"]
        prices = np.nan_to_num(self.marks.asset_prices, nan=0.0)
        worth = amount * prices[asset]
        haircut = self.directory.arrays["haircut"][asset]
        book["balances"] = np.bincount(rows["account"], worth, count)
        lent = np.where(worth > 0, worth * (1.0 - haircut), worth)
        book["collateral"] = np.bincount(rows["account"], lent, count)

    def _value_robust(self, book: dict[str, F8], net: F8, held: F8, spent: F8, count: int) -> None:
        """Value at the marks across venues, which above the account decide (CONTRACT §3)."""
        rows = self.positions.rows
        if not self.marks.own_priced():
            book["robust_gross"], book["robust_net"] = book["gross"], book["net"]
            self._position_values = (net, held, spent)
            return
        unit, worth = self.marks.unit_values()
        at = self.marks.across()[rows["instrument"]]
        held = rows["size"] * unit[at]
        net = np.where(self.directory.arrays["inverse"][rows["instrument"]], -held, held)
        book["robust_gross"] = np.bincount(rows["account"], np.abs(held), count)
        book["robust_net"] = np.bincount(rows["account"], net, count)
        self._position_values = (net, held, rows["cost"] * worth[at])

    def refresh_wide(self) -> None:
        """Sum what the second operator needs: firm, groups, underlyings and venues, as ``name -> measures``."""
        if not self._wide_stale and self.wide:
            return
        self._wide_stale = False
        assert self.tables is not None
        arrays, directory = self.directory.arrays, self.directory
        cp = self.tables["counterparty"].values
        firm = [float(np.cumsum(row)[-1]) if len(row) else 0.0 for row in (cp[2], cp[3], cp[4], cp[0])]
        self.wide = {"firm": {"firm": firm}, "group": {}, "underlying": {}, "venue": {}}
        for name, number in directory.counterparties.items():
            record = directory.counterparty_records.get(name)
            if record is not None and record.group:
                row = self.wide["group"].setdefault(record.group, [0.0] * len(cp))
                self.wide["group"][record.group] = [a + float(b) for a, b in zip(row, cp[:, number], strict=True)]
        net, held, spent = self._position_values
        rows = self.positions.rows
        signed = arrays["sign"][rows["account"]]
        columns = (np.abs(net), signed * net, signed * arrays["principal"][rows["account"]] * (held - spent))
        if not len(net):
            return
        self._sum_wide("underlying", list(directory.underlyings), arrays["underlying"][rows["instrument"]], columns)
        venue = arrays["venue"][rows["account"]]
        self._sum_wide("venue", list(directory.venues), np.where(venue < 0, len(directory.venues), venue), columns)

    def _sum_wide(self, kind: str, names: list[str], of: NDArray[np.int64], columns: tuple[F8, F8, F8]) -> None:
        sums = [np.bincount(of, column, len(names)).tolist() for column in columns]
        self.wide[kind] = {name: [s[i] for s in sums] for i, name in enumerate(names) if any(s[i] for s in sums)}

    def stale(self, as_of_us: int) -> list[str]:
        """Return the instruments held here whose mark is older than ``mark_max_age_s``, in order of number."""
        rows = self.marks.rows
        limit = as_of_us - self.mark_age_us_max
        if not (rows["time_us"] < limit).any():
            return []
        held = self.positions.rows["mark"][self.positions.rows["units"] != 0]
        old = np.bincount(held, minlength=rows.size)[: rows.size] > 0
        old &= rows["time_us"] < limit
        if not old.any():
            return []
        numbers = np.unique(rows["instrument"][old]).tolist()
        return [self.directory.instrument_records[number].instrument for number in numbers]

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`."""
        tables = self.tables
        return {
            "directory": self.directory.snapshot(),
            "marks": self.marks.snapshot(),
            "positions": self.positions.snapshot(),
            "balances": self.balances.snapshot(),
            "fills": self.fills.snapshot(),
            "transfers": self.transfers.snapshot(),
            "open_count": self.open_count.copy(),
            "contributed": self.contributed.copy(),
            "active": self.active.copy(),
            "expiring": [[k, v] for k, v in self.expiring.items()],
            "reported": self.reported,
            "changed": self._changed,
            "valued": tables is not None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot. Measures are computed again: they are a function of the rest."""
        self.directory.restore(state["directory"])
        self.marks.restore(state["marks"])
        self.positions.restore(state["positions"])
        self.balances.restore(state["balances"])
        self.fills.restore(state["fills"])
        self.transfers.restore(state["transfers"])
        arrays = self.directory.arrays
        self.positions.classify(arrays["class"], len(arrays["class_initial"]))
        self.open_count, self.contributed = state["open_count"], state["contributed"]
        self.active = state["active"]
        self.expiring = {int(k): int(v) for k, v in state["expiring"]}
        self.reported = state["reported"]
        self._changed = state["changed"]
        self._wide_stale = True
        self.tables = None


def _across(gross: F8, rates: F8) -> F8:
    """Return the sum over margin classes of gross notional times a rate, class by class in order."""
    total = gross[:, 0] * rates[0]
    for at in range(1, len(rates)):
        total = total + gross[:, at] * rates[at]
    return total
