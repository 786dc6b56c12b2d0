"""Margins of accounts whose venue does not charge a plain rate: published schedules, and scenarios for option books.

``schedule``
    Initial and maintenance margin at the tier of each position's own notional at its venue (``margin_schedule``); where
    the schedule is scaled by open interest, the initial rate rises with it. A position without a schedule has the rates
    of its instrument.
``scenario``
    The worst loss over the default grid (``scenario_margin``), both as initial and as maintenance margin. An account is
    computed again when something of it was traded and, with all others, every ``EVERY_US`` of event time; the profits
    of an instrument in the scenarios follow its price and volatility from ``MOVE_MIN`` on.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.book import Chosen, Positions
from seawall.operators.core.directory import Directory
from seawall.operators.core.marks import Marks
from seawall.operators.core.options import MOVE_MIN, OptionSheet, Repriced
from seawall.operators.core.valuation.margin_schedule import ScheduleTable, Tier, open_interest_scaled_rate
from seawall.operators.core.valuation.options import years_to_expiry
from seawall.operators.core.valuation.scenario_margin import (
    DEFAULT_GRID,
    Instruments,
    scenario_margins,
    scenario_profits,
)
from seawall.schemas import events as ev

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
EVERY_US: Final = 10_000_000
VOLATILITY_UNKNOWN: Final = 1.5  # of an option that has none: the supervisory one of crypto (OSFI)


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
        self._directory, self._marks, self._positions, self._sheet = directory, marks, positions, sheet
        self._interest: dict[tuple[str, str], float] = {}
        self._priced = Repriced()
        self._margin, self._slope = np.zeros(0), np.zeros(0)
        self._all_us = 0
        self._version = -1
        self._profits: F8 = np.zeros((0, len(DEFAULT_GRID)))
        self._by_schedule, self._by_scenario = Chosen(), Chosen()
        self._schedules: Schedules

    def hear(self, event: ev.OpenInterest) -> None:
        """Take the open interest of an instrument at a venue, in instrument units."""
        self._interest[event.venue, event.instrument] = float(event.quantity)

    def apply(self, account: F8, notional: F8, touched: set[int], as_of_us: int | None) -> None:
        """Put the margins of the accounts concerned into the rows of the table ``account``.

        Parameters
        ----------
        account
            The table; its rows 4 and 5 are initial and maintenance margin.
        notional
            By position, absolute, at the marks of its account.
        touched
            Accounts in which anything was traded since the last call.
        as_of_us
            None: scenario margins stay as they are.
        """
        self._learn(account.shape[1])
        arrays = self._directory.arrays
        if arrays["schedule"].any():
            self._schedule(account, notional, arrays["schedule"])
        if arrays["scenario"].any():
            if as_of_us is not None:
                self._scenario(touched, as_of_us, arrays["scenario"])
            at = arrays["scenario"].nonzero()[0]
            account[4, at] = account[5, at] = self._margin[at]

    def slopes(self, rated: F8) -> F8:
        """Return what each account's maintenance margin gains per move of 1: the rated one's is given.

        A schedule's is that of its tiers; a scenario margin stays as it is.
        """
        arrays = self._directory.arrays
        return np.where(arrays["scenario"], 0.0, np.where(arrays["schedule"], self._slope, rated))

    def _learn(self, accounts: int) -> None:
        if self._version == self._directory.version:
            return
        self._version = self._directory.version
        self._schedules = Schedules(self._directory)
        self._by_schedule, self._by_scenario = Chosen("account"), Chosen("account")
        self._margin = np.append(self._margin, np.zeros(accounts - len(self._margin)))
        self._slope = np.zeros(accounts)
        more = len(self._directory.instrument_records) - self._priced.rows.size
        if more:
            self._priced.rows.append(more)
        self._profits = np.zeros((self._priced.rows.size, len(DEFAULT_GRID)))
        self._price(self._priced.rows["us"].nonzero()[0])

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
        self._slope = np.bincount(of, slope, count).astype(np.float64)
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

    def _scenario(self, touched: set[int], as_of_us: int, wanted: B1) -> None:
        rows, arrays = self._positions.rows, self._directory.arrays
        at = self._by_scenario.of(self._positions, wanted)
        at = at[rows["units"][at] != 0]
        due = wanted.copy()
        if as_of_us < self._all_us + EVERY_US and self._all_us:
            due[:] = False
            among = np.array(sorted(touched), dtype=np.int64)
            due[among] = wanted[among]
            at = at[due[rows["account"][at]]]
        else:
            self._all_us = as_of_us
        number = rows["instrument"][at]
        used = np.zeros(len(self._profits), dtype=bool)
        used[number] = True
        self._refresh(used.nonzero()[0], as_of_us)
        found = scenario_margins(
            rows["account"][at],
            arrays["underlying"][number],
            number,
            rows["size"][at] * arrays["size"][number],
            self._profits,
            self._marks.asset_worth[arrays["settlement"]],
            len(wanted),
        )
        self._margin[due] = found.margin[due]

    def _refresh(self, at: I8, as_of_us: int) -> None:
        """Bring the scenario profits of instruments up to date where price or volatility moved."""
        arrays, terms = self._directory.arrays, self._sheet.terms
        across = self._marks.across()[at]
        price, volatility = self._marks.rows["price"][across], np.zeros(len(at))
        options = arrays["option"][at].nonzero()[0]
        if len(options):
            row = terms.row[at[options]]
            forward, known = self._sheet.forwards()[row], self._sheet.volatilities()[row]
            price[options] = np.where(np.isnan(forward), terms.strike[row], forward)
            volatility[options] = np.where(np.isnan(known), VOLATILITY_UNKNOWN, known)
        self._price(self._priced.due(at, price, volatility, as_of_us, MOVE_MIN))

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
        return {
            "interest": [[*key, quantity] for key, quantity in self._interest.items()],
            "priced": self._priced.rows.snapshot(),
            "margin": self._margin.copy(),
            "all_us": self._all_us,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self._interest = {(venue, name): float(quantity) for venue, name, quantity in state["interest"]}
        self._priced.rows.restore(state["priced"])
        self._margin, self._all_us = state["margin"], state["all_us"]
        self._version = -1


def _tier(tier: ev.Tier) -> Tier:
    return Tier(
        float(tier.notional_from),
        float(tier.initial_margin_rate),
        float(tier.maintenance_margin_rate),
        float(tier.deduction),
    )
