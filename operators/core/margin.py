"""Margins of accounts whose venue does not charge a plain rate: published schedules, and scenarios for option books.

``schedule``
    Initial and maintenance margin at the tier of each position's own notional at its venue (``margin_schedule``); where
    the schedule is scaled by open interest, the initial rate rises with it. A position without a schedule has the rates
    of its instrument.
``scenario``
    The worst loss over the default grid, both as initial and as maintenance margin (``scenario_book``).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.book import Chosen, Positions
from seawall.operators.core.directory import Directory
from seawall.operators.core.marks import Marks
from seawall.operators.core.options import OptionSheet
from seawall.operators.core.scenario_book import ScenarioBook
from seawall.operators.core.valuation.margin_schedule import ScheduleTable, Tier, open_interest_scaled_rate
from seawall.schemas import events as ev

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]


class Schedules:
    """The published schedules by venue and instrument, and the open interest that scales some of them."""

    def __init__(self, directory: Directory) -> None:
        records = [r for r in directory.schedules.values() if r.tiers and r.status == "active"]
        self._table = ScheduleTable.of([[_tier(tier) for tier in r.tiers] for r in records])
        self._row = np.full((len(directory.venues) + 1, len(directory.instruments)), -1, dtype=np.int64)
        for at, record in enumerate(records):
            venue = directory.venues.get(record.venue, len(directory.venues))
            self._row[venue, directory.instruments[record.instrument]] = at
        self._row[-1] = -1  # accounts without a venue have the rates of the instrument
        self._lower = np.array([float(r.open_interest_lower or 0) for r in records])
        self._upper = np.array([float(r.open_interest_upper or 0) for r in records])
        self._names = [(r.venue, r.instrument) for r in records]

    def margins(
        self, venue: I8, instrument: I8, notional: F8, rates: tuple[F8, F8], interest: dict[tuple[str, str], float]
    ) -> tuple[F8, F8, F8]:
        """Return initial and maintenance margin of positions, and what the latter gains per move of 1.

        ``interest`` is open interest, a notional, by venue and instrument.
        """
        row = self._row[venue, instrument]
        initial, maintenance = notional * rates[0], notional * rates[1]
        slope = maintenance.copy()
        at = (row >= 0).nonzero()[0]
        if len(at):
            of, size = row[at], notional[at]
            tiered, maintenance[at] = self._table.margins(of, size)
            slope[at] = self._table.maintenance_slope(of, size) * size
            open_interest = np.array([interest.get(name, 0.0) for name in self._names])
            safe = np.where(size > 0, size, 1.0)
            scaled = open_interest_scaled_rate(tiered / safe, open_interest[of], self._lower[of], self._upper[of])
            initial[at] = np.where(size > 0, scaled * size, 0.0)
        return initial, maintenance, slope


class MarginBook:
    """The accounts of one shard that have a schedule or a scenario model."""

    def __init__(self, directory: Directory, marks: Marks, positions: Positions, sheet: OptionSheet) -> None:
        self._directory, self._marks, self._positions = directory, marks, positions
        self._interest: dict[tuple[str, str], float] = {}
        self._scenarios = ScenarioBook(directory, marks, positions, sheet)
        self._slope = np.zeros(0)
        self._tiered: tuple[I8, F8] = (np.zeros(0, dtype=np.int64), np.zeros(0))  # positions, what each gains
        self._version = -1
        self._by_schedule = Chosen()
        self._schedules: Schedules

    def hear(self, event: ev.OpenInterest) -> None:
        """Take the open interest of an instrument at a venue, in instrument units."""
        self._interest[event.venue, event.instrument] = float(event.quantity)

    def interest(self, names: list[str]) -> F8:
        """Return the open interest of instruments, over all venues, in their units; NaN where none was heard of."""
        found: dict[str, float] = {}
        for (_, name), quantity in self._interest.items():
            found[name] = found.get(name, 0.0) + quantity
        return np.array([found.get(name, np.nan) for name in names], dtype=np.float64)

    def apply(self, account: F8, notional: F8, touched: B1, as_of_us: int | None) -> None:
        """Put the margins of the accounts concerned into the rows of the table ``account``.

        Parameters
        ----------
        account
            The table; its rows 4 and 5 are initial and maintenance margin.
        notional
            By position, absolute, at the marks of its account.
        touched
            By account: whether anything was traded in it since the last call.
        as_of_us
            None: scenario margins stay as they are.
        """
        self._learn(account.shape[1])
        arrays = self._directory.arrays
        if arrays["schedule"].any():
            self._schedule(account, notional, arrays["schedule"])
        if arrays["scenario"].any():
            if as_of_us is not None:
                self._scenarios.measure(arrays["scenario"], touched, as_of_us)
            at = arrays["scenario"].nonzero()[0]
            account[4, at] = account[5, at] = self._scenarios.margin[at]

    def slopes(self, rated: F8) -> F8:
        """Return what each account's maintenance margin gains per move of 1: the rated one's is given.

        A schedule's is that of its tiers; a scenario margin stays as it is.
        """
        arrays = self._directory.arrays
        return np.where(arrays["scenario"], 0.0, np.where(arrays["schedule"], self._slope, rated))

    def position_slopes(self, rated: F8, account: I8) -> F8:
        """Return what the maintenance margin of each position gains per move of 1, as in :meth:`slopes`."""
        slope = np.where(self._directory.arrays["scenario"][account], 0.0, rated)
        slope[self._tiered[0]] = self._tiered[1]
        return slope

    def _learn(self, accounts: int) -> None:
        if self._version == self._directory.version:
            return
        self._version = self._directory.version
        self._schedules = Schedules(self._directory)
        self._by_schedule = Chosen("account")
        self._scenarios.learn(accounts)
        self._slope = np.zeros(accounts)

    def _schedule(self, account: F8, notional: F8, wanted: B1) -> None:
        arrays, rows = self._directory.arrays, self._positions.rows
        at = self._by_schedule.of(self._positions, wanted)
        of, number = rows["account"][at], rows["instrument"][at]
        margin_class = arrays["class"][number]
        rates = arrays["class_initial"][margin_class], arrays["class_maintenance"][margin_class]
        interest = self._interest_notionals()
        initial, maintenance, slope = self._schedules.margins(
            arrays["venue"][of], number, notional[at], rates, interest
        )
        count = account.shape[1]
        self._slope, self._tiered = np.bincount(of, slope, count).astype(np.float64), (at, slope)
        account[4] = np.where(wanted, np.bincount(of, initial, count), account[4])
        account[5] = np.where(wanted, np.bincount(of, maintenance, count), account[5])

    def _interest_notionals(self) -> dict[tuple[str, str], float]:
        """Return open interest as notionals in the reporting currency."""
        directory, marks, across = self._directory, self._marks, self._marks.across()
        numbers = {key: directory.instruments[key[1]] for key in self._interest}
        increments = {key: float(directory.instrument_records[n].quantity_increment) for key, n in numbers.items()}
        return {
            key: quantity / increments[key] * abs(marks.unit.item(across.item(numbers[key])))
            for key, quantity in self._interest.items()
        }

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`."""
        return {
            "interest": [[*key, quantity] for key, quantity in self._interest.items()],
            **self._scenarios.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self._interest = {(venue, name): float(quantity) for venue, name, quantity in state["interest"]}
        self._scenarios.restore(state)
        self._version = -1


def _tier(tier: ev.Tier) -> Tier:
    return Tier(
        float(tier.notional_from),
        float(tier.initial_margin_rate),
        float(tier.maintenance_margin_rate),
        float(tier.deduction),
    )
