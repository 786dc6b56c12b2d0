"""Margin of accounts whose venue does not charge a plain rate: published schedules, and scenarios for option books.

The schedules come first, as functions of arrays; `MarginBook` applies them to the accounts of one shard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from seawall.operators.core.holdings import Directory, Positions, PositionSubset
from seawall.operators.core.pricing._marks import Marks
from seawall.operators.core.pricing._option_sheet import OptionSheet
from seawall.operators.core.pricing._scenario_margin import ScenarioBook
from seawall.schemas import events as ev
from seawall.schemas.configuration import PortfolioMargin

# Margin rates as venues publish them: fixed, tiered by notional with a deduction, scaled by open interest.
#
# Everything is elementwise over positions. Notionals are absolute amounts in one currency, rates fractions of notional.
#
# References
# ----------
# Binance, "Leverage and margin of USDⓈ-M futures": tiers with a maintenance amount that is deducted, so that the
# requirement is continuous. dYdX v4 chain @84d4664, ``x/perpetuals/types/liquidity_tier.go`` (open-interest scaling)
# and
# ``x/liquidations/keeper/liquidations.go`` (fillable price).

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
TIERS_MAX = 256


@dataclass(frozen=True, slots=True)
class MarginTier:
    """One step of a schedule: rates from a notional on, and what is deducted from the maintenance margin there."""

    notional_from: float
    initial_rate: float
    maintenance_rate: float
    deduction: float = 0.0


class ScheduleError(ValueError):
    """A schedule that cannot be: the instrument, the tier and the rule, in one line."""


@dataclass(frozen=True, slots=True)
class ScheduleTable:
    """The tiers of many instruments, arrays of shape (instruments, tiers) padded with tiers that begin at infinity."""

    notional_from: F8
    initial_rate: F8
    maintenance_rate: F8
    deduction: F8

    @classmethod
    def of(cls, schedules: Sequence[Sequence[MarginTier]]) -> "ScheduleTable":
        """Return the table of one schedule per instrument, in their order; a fixed rate is a schedule of one tier.

        Raises
        ------
        ScheduleError
            Where the tiers do not begin at 0, do not rise, or a rate is not in [0, 1] with maintenance <= initial.
        """
        width = max((len(tiers) for tiers in schedules), default=1)
        table = np.zeros((4, len(schedules), max(width, 1)))
        table[0] = np.inf
        for number, tiers in enumerate(schedules):
            _check(number, tiers)
            for place, tier in enumerate(tiers):
                table[:, number, place] = tier.notional_from, tier.initial_rate, tier.maintenance_rate, tier.deduction
        return cls(table[0], table[1], table[2], table[3])

    def margins(self, instrument: I8, notional: F8) -> tuple[F8, F8]:
        """Return initial and maintenance margin of positions, each at the tier of its own notional.

        Parameters
        ----------
        instrument : int64, shape (positions,)
            Row of the table.
        notional : float64, shape (positions,)
            Absolute notional.

        Returns
        -------
        tuple of float64, shape (positions,)
            Initial and maintenance margin; the maintenance margin never below 0.

        Examples
        --------
        >>> table = ScheduleTable.of([[MarginTier(0, 0.01, 0.005), MarginTier(50_000, 0.02, 0.01, 250)]])
        >>> [m.tolist() for m in table.margins(np.array([0, 0]), np.array([50_000.0, 100_000.0]))]
        [[1000.0, 2000.0], [250.0, 750.0]]
        """
        tier = np.count_nonzero(notional[:, None] >= self.notional_from[instrument], axis=1) - 1
        at = (instrument, np.maximum(tier, 0))
        maintenance = np.maximum(notional * self.maintenance_rate[at] - self.deduction[at], 0.0)
        return notional * self.initial_rate[at], maintenance

    def maintenance_slope(self, instrument: I8, notional: F8) -> F8:
        """Return the maintenance rate at the margin: the change of the requirement per unit of notional."""
        tier = np.count_nonzero(notional[:, None] >= self.notional_from[instrument], axis=1) - 1
        rates: F8 = self.maintenance_rate[instrument, np.maximum(tier, 0)]
        return rates


def open_interest_scaled_rate(base: ArrayLike, open_interest: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> F8:
    """Return the initial margin rate, which rises from ``base`` to 1 as open interest goes from ``lower`` to ``upper``.

    ``open_interest`` and its bounds are notionals in one currency. An ``upper`` of 0 means that nothing is scaled.

    Examples
    --------
    >>> open_interest_scaled_rate(0.5, [0.0, 1.5e6, 9e6], 1e6, 2e6).tolist()
    [0.5, 0.75, 1.0]
    """
    rate, low, high = (np.asarray(x, np.float64) for x in (base, lower, upper))
    interest = np.asarray(open_interest, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(high > low, (interest - low) / (high - low), np.where(interest > high, 1.0, 0.0))
    scale = np.minimum(np.maximum(np.where(high > 0, scale, 0.0), 0.0), 1.0)
    scaled: F8 = np.minimum(rate + scale * (1.0 - rate), 1.0)
    return scaled


def _check(number: int, tiers: Sequence[MarginTier]) -> None:
    if not tiers or tiers[0].notional_from != 0 or len(tiers) > TIERS_MAX:
        raise ScheduleError(f"schedule {number}: TIERS_MUST_BEGIN_AT_0 and be 1 to {TIERS_MAX}")
    for place, tier in enumerate(tiers):
        if place and not tier.notional_from > tiers[place - 1].notional_from:
            raise ScheduleError(
                f"schedule {number}, tier {place}: NOTIONAL_FROM_MUST_RISE (got {tier.notional_from:g})"
            )
        if not 0 <= tier.maintenance_rate <= tier.initial_rate <= 1 or not tier.deduction >= 0:
            raise ScheduleError(
                f"schedule {number}, tier {place}: RATES_MUST_BE_0_TO_1_AND_MAINTENANCE_NOT_ABOVE_INITIAL"
            )


# Margins of accounts whose venue does not charge a plain rate: published schedules, and scenarios for option books.
#
# ``schedule``
#     Initial and maintenance margin at the tier of each position's own notional at its venue (`ScheduleTable`); where
#     the schedule is scaled by open interest, the initial rate rises with it. A position without a schedule has the
#     rates of its instrument.
# ``scenario``
#     The worst loss over the grid of the account's venue, times its factors of initial and maintenance margin
#     (`ScenarioBook`). Over the built-in grid, where the configuration names none for the venue, both are that loss.

B1 = NDArray[np.bool_]


class MarginSchedules:
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
        self._scenarios = {"": ScenarioBook(directory, marks, positions, sheet, ())}  # by venue; "" for all others
        self._terms = {"": PortfolioMargin(initial_factor=1.0)}
        self._at: dict[str, B1] = {}
        self._slope = np.zeros(0)
        self._tiered: tuple[I8, F8] = (np.zeros(0, dtype=np.int64), np.zeros(0))  # positions, what each gains
        self._version = -1
        self._by_schedule = PositionSubset()
        self._schedules: MarginSchedules

    def configure(self, configuration: Mapping[str, Any]) -> None:
        """Take the grids of venues; where any has changed all scenario margins are computed anew."""
        found = msgspec.convert(configuration.get("portfolio_margin", {}), dict[str, PortfolioMargin])
        if (terms := {"": self._terms[""], **found}) != self._terms:
            self._terms, self._version = terms, -1
            book = self._directory, self._marks, self._positions, self._sheet
            self._scenarios = {venue: ScenarioBook(*book, one.grids) for venue, one in terms.items()}

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
            for venue, book in self._scenarios.items():
                terms, wanted = self._terms[venue], self._at[venue]
                if as_of_us is not None:
                    book.measure(wanted, touched, as_of_us)
                account[4, wanted] = book.margin[wanted] * terms.initial_factor
                account[5, wanted] = book.margin[wanted] * terms.maintenance_factor

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
        self._schedules = MarginSchedules(self._directory)
        self._by_schedule = PositionSubset("account")
        self._slope = np.zeros(accounts)
        arrays, venues = self._directory.arrays, self._directory.venues
        left = arrays["scenario"]
        for venue, book in reversed(self._scenarios.items()):
            book.learn(accounts)
            self._at[venue] = left & (arrays["venue"] == venues.get(venue, -2)) if venue else left
            left = left & ~self._at[venue]

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
        venues = {venue: book.snapshot() for venue, book in self._scenarios.items() if venue}
        return {
            "interest": [[*key, quantity] for key, quantity in self._interest.items()],
            **self._scenarios[""].snapshot(),
            **({"venues": venues} if venues else {}),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self._interest = {(venue, name): float(quantity) for venue, name, quantity in state["interest"]}
        for venue, book in self._scenarios.items():
            book.restore(state["venues"][venue] if venue else state)
        self._version = -1


def _tier(tier: ev.Tier) -> MarginTier:
    return MarginTier(
        float(tier.notional_from),
        float(tier.initial_margin_rate),
        float(tier.maintenance_margin_rate),
        float(tier.deduction),
    )
