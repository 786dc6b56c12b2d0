"""The ledger of one shard: directory, marks, positions, balances and the memory of fills, and their valuation.

Valuation is a fixed number of vector operations over the book, whatever its size, and nothing at all where nothing that
is held has moved.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.book import Balances, Chosen, Positions
from seawall.operators.core.credit.credit import CreditBook
from seawall.operators.core.credit.orders import WorkingOrders, worst_growth
from seawall.operators.core.directory import Directory
from seawall.operators.core.frames import Table
from seawall.operators.core.funding import Funding
from seawall.operators.core.margin import MarginBook
from seawall.operators.core.marks import ACROSS, Marks
from seawall.operators.core.memory import Memory
from seawall.operators.core.options import OptionSheet
from seawall.operators.core.valuation.liquidation_distance import nearest_distance
from seawall.schemas.measures import (
    ACCOUNT,
    COUNTERPARTY,
    CREDIT,
    NETTING_SET,
    ORDERS,
    PARTY_CREDIT,
    RATIO_MAX,
    UNDERLYING,
)

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
FILL = (0, 0, 0, 0.0, 0.0, "", "")  # account, instrument, units, price, fee, fee asset, action and reference
TRANSFER = (0, "", 0.0)  # account, asset, amount


class Ledger:
    """The book of one shard. :mod:`fills` changes it; :meth:`measure` revalues all of it."""

    def __init__(self, shard: int, configuration: dict[str, Any]) -> None:
        self.directory = Directory(shard, configuration["shards"], configuration["reporting_currency"])
        self.marks = Marks(self.directory)
        self.sheet = OptionSheet(self.directory, self.marks)
        self.positions, self.balances = Positions(), Balances()
        self._option_rows = Chosen()
        self._options: tuple[Any, Any, I8] = (None, None, np.zeros(0, dtype=np.int64))
        self.funding = Funding(self.directory, self.marks, self.positions, self.balances)
        self.credit = CreditBook(self.directory, self.marks, self.positions, self.balances, self.sheet)
        self.margins = MarginBook(self.directory, self.marks, self.positions, self.sheet)
        self.orders = WorkingOrders()
        self.filled: I8 | None = None  # accounts of the fills of this slice, where these were taken as arrays
        self.fills = Memory(configuration["fill_memory"], FILL)
        self.transfers = Memory(configuration["fill_memory"], TRANSFER)
        self.open_count: I8 = np.zeros(0, dtype=np.int64)
        self.open_at: I8 = np.zeros(0, dtype=np.int64)
        self.opened = 0  # how often positions opened or closed since the start: who keeps something of them looks here
        self.contributed: F8 = np.zeros(0)
        self.active: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self.touched: NDArray[np.bool_] = np.zeros(0, dtype=bool)  # accounts that changed since the last valuation
        self.expiring: dict[int, int] = {}
        self.unentered: dict[tuple[int, int], int] = {}  # opened without a price, before the first mark
        self.tables: dict[str, Table] = {}
        self._wide: dict[str, F8] | None = None
        self._account_sums: tuple[F8, F8, F8] = (np.zeros(0), np.zeros(0), np.zeros(0))
        self._lent_there: F8 = np.zeros(0)  # by balance: what it counts as collateral, at its account's venue
        self._margined: tuple[F8, F8, F8] = (np.zeros(0), np.zeros(0), np.zeros(0))
        self.mark_age_us_max = self.measured_us = 0
        self._changed = True
        self._held, self._spare = np.zeros(0), np.zeros(0)
        self._robust: tuple[F8, F8, F8, F8] = (np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0))

    def configure(self, configuration: dict[str, Any]) -> None:
        """Take what may change between configurations."""
        self.fills.size_max = self.transfers.size_max = configuration["fill_memory"]
        self.mark_age_us_max = int(configuration["mark_max_age_s"] * 1_000_000)
        self.credit.configure(configuration)
        self.touch()

    # --- what changed -----------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Note that something that all measures depend on, other than a mark, has changed."""
        self._changed = True
        self.credit.touch()

    def touch_accounts(self, accounts: int | I8) -> None:
        """Note that positions or balances of own accounts have changed."""
        self._changed = True
        self.touched[accounts] = True

    def touch_values(self) -> None:
        """Note that what the book is worth has changed, as with a mark: what is held has not."""
        self._changed = True

    def touch_marks(self, instruments: list[int]) -> None:
        """Note that marks came: a change, unless nothing held here is valued at them."""
        if self._changed or len(instruments) > 8:
            self._changed = True
            return
        spot, open_at, forwards = self.directory.arrays["spot"], self.open_at, self.sheet.terms.forwards
        for instrument in instruments:
            rows = self.marks.rows_of(instrument)
            if (
                spot.item(instrument)
                or instrument in forwards
                or any(row < len(open_at) and open_at.item(row) for row in rows)
            ):
                self._changed = True

    def moves_with_time(self) -> bool:
        """Tell whether measures change though nothing happens: greeks, what accrues and what waits for a second do."""
        return self.directory.has_option or bool(self.funding) or self.credit.waits

    def take_changed(self) -> bool:
        """Tell whether anything changed since the last call."""
        changed, self._changed = self._changed, False
        return changed

    def grow(self) -> None:
        """Make room for what the directory has just learned."""
        more = len(self.directory.own) - len(self.open_count)
        if more > 0:
            self.open_count = np.append(self.open_count, np.zeros(more, dtype=np.int64))
            self.contributed = np.append(self.contributed, np.zeros(more))
            self.active = np.append(self.active, np.zeros(more, dtype=bool))
            self.touched = np.append(self.touched, np.zeros(more, dtype=bool))
        arrays = self.directory.arrays
        self.positions.classify(arrays["class"], len(arrays["class_initial"]))
        if self.directory.has_option:
            self.sheet.learn()

    def count_one(self, account: int, mark: int, opened: int) -> None:
        """Count a position opened (1) or closed (-1) in an account and at a mark row."""
        if opened:
            self._room(mark)
            self.opened += 1
            self.open_count[account] += opened
            self.open_at[mark] += opened

    def count_open(self, accounts: I8, marks: I8, opened: I8) -> None:
        """Count many positions opened and closed."""
        self._room(self.marks.rows.size - 1)
        if opened.any():  # most fills change the size of a position that stays open
            self.opened += 1
            np.add.at(self.open_count, accounts, opened)
            np.add.at(self.open_at, marks, opened)

    def _room(self, mark: int) -> None:
        if mark >= len(self.open_at):
            self.open_at = np.append(self.open_at, np.zeros(mark + 64 - len(self.open_at), dtype=np.int64))

    def mark_row(self, account: int, instrument: int) -> int:
        """Return the mark row at which an own account's position is margined: its venue's, or the one across."""
        venue = self.directory.arrays["venue"].item(account)
        return self.marks.row(instrument, venue if venue >= 0 else ACROSS)

    # --- valuation --------------------------------------------------------------------------------------------------

    def measure(self, as_of_us: int, exact: bool = False) -> dict[str, Table]:
        """Revalue the book at ``as_of``; return the tables ``account``, ``netting_set`` and ``counterparty``.

        Values are in the reporting currency (ratios: plain numbers). ``exact``: options are repriced wherever anything
        moved.
        """
        self.measured_us = as_of_us
        self.marks.price()
        if self.directory.has_option:
            self.sheet.refresh(self.options_held(), as_of_us, exact)
        if exact and self.credit.needed:
            self.credit.look(as_of_us)
        return self._measure(as_of_us)

    def remeasure(self) -> dict[str, Table]:
        """Compute the tables of the last :meth:`measure` again, after a restore."""
        self.marks.price()
        return self._measure(None)

    def _measure(self, as_of_us: int | None) -> dict[str, Table]:
        """Compute the tables; without a time nothing that is kept between slices moves."""
        arrays, directory = self.directory.arrays, self.directory
        count = len(directory.own)
        account_measures = (*ACCOUNT, *ORDERS) if self.orders.seen else ACCOUNT
        account = np.empty((len(account_measures), count))
        gross, net, unrealised = self._value_positions(account, count)
        collateral, lent, worth = self._value_balances(count)
        if self.funding:
            accrued = self.funding.unrealised(self.measured_us, count)
            unrealised = unrealised + accrued
            account[3] += accrued
        account[0] = collateral + account[3]
        if self.directory.has_schedule or self.directory.has_scenario:
            self.margins.apply(account, self._margined[2], self.touched, as_of_us)
        _ratios(account)
        account[8] = self._distance(account, count)
        if self.orders.seen:
            account[9:] = self._worst_case(account)
        pnl = worth + unrealised - self.contributed
        netting_set, credit = self._netting_sets(lent, unrealised)
        counterparty = np.concatenate([self._counterparties(netting_set, gross, net, pnl), credit])
        deep = len(credit) > 0
        self.tables = {
            "account": Table(directory.own_names, account_measures, account),
            "netting_set": Table(directory.netting_set_names, (*NETTING_SET, *CREDIT)[: len(netting_set)], netting_set),
            "counterparty": Table(
                directory.counterparty_names, (*COUNTERPARTY, *PARTY_CREDIT) if deep else COUNTERPARTY, counterparty
            ),
        }
        self._wide = None
        self._account_sums = (gross, arrays["sign"] * net, arrays["stake"] * pnl)
        self.touched[:] = False
        return self.tables

    def _value_positions(self, account: F8, count: int) -> tuple[F8, F8, F8]:
        """Fill the rows of positions of ``account``; return gross, net and unrealised at the marks across venues."""
        arrays, rows, marks, bins = self.directory.arrays, self.positions.rows, self.marks, self.positions.bins
        owner, at = rows["account"], rows["mark"]
        held, scratch = self._scratch(len(owner))
        np.take(marks.unit, at, out=held, mode="clip")
        np.multiply(rows["size"], held, out=held)
        spent = rows["cost"] if marks.at_par else rows["cost"] * marks.worth[at]
        notional = np.abs(held, out=scratch)
        signed = self._signed(held, notional) if self.directory.has_inverse or self.directory.has_option else held
        worths, net = self._worths_and_nets(held, signed, count)
        # One sum per margin class serves gross notional and both margins.
        gross = _sum(rows["bin"], notional, count * bins).reshape(count, bins)
        account[2] = net
        account[3] = worths - _sum(owner, spent, count)
        _across(gross, arrays["class_initial"], account[4])
        _across(gross, arrays["class_maintenance"], account[5])
        _across(gross, None, account[1])
        self._robust, self._margined = (signed, held, spent, notional), (held, spent, notional)
        if not marks.venue_priced:
            return account[1], net, account[3].copy()
        at = marks.across()[rows["instrument"]]
        held = rows["size"] * marks.unit[at]
        notional = np.abs(held)
        signed = self._signed(held, notional)
        spent = rows["cost"] * marks.worth[at]
        self._robust = (signed, held, spent, notional)
        worths, net = self._worths_and_nets(held, signed, count)
        return _sum(owner, notional, count), net, worths - _sum(owner, spent, count)

    def _worths_and_nets(self, held: F8, signed: F8, count: int) -> tuple[F8, F8]:
        """Return what positions are worth and their signed notionals by account; what is alike is summed once."""
        owner = self.positions.rows["account"]
        if self.directory.has_inverse:
            return _sum(owner, held, count), _sum(owner, signed, count)
        if signed is held or not self.directory.has_option:
            total = _sum(owner, held, count)
            return total, total
        at, _ = self.options()
        worth, of = held[at], owner[at]
        held[at] = 0.0
        alike = _sum(owner, held, count)
        held[at] = worth
        return alike + _sum(of, worth, count), alike + _sum(of, signed[at], count)

    def _signed(self, held: F8, notional: F8) -> F8:
        """Return signed notionals of positions worth ``held``; those of options, in ``notional`` too, by underlying.

        An option's gross notional is that of what it is an option on, its net notional is weighted with its delta.
        """
        rows, directory = self.positions.rows, self.directory
        signed = held.copy()
        if directory.has_inverse:
            signed = np.where(directory.arrays["inverse"][rows["instrument"]], -held, held)
        if directory.has_option:
            at, of = self.options()
            units = rows["size"][at] * self.sheet.scale()[of]
            signed[at], notional[at] = units * self.sheet.greeks[0][of], np.abs(units) * self.sheet.greeks[3][of]
        return signed

    def options(self) -> tuple[I8, I8]:
        """Return the rows of option positions, and the row of the option sheet of each."""
        at = self._option_rows.of(self.positions, self.directory.arrays["option"])
        if self._options[0] is not at or self._options[1] is not self.sheet.terms:
            self._options = at, self.sheet.terms, self.sheet.terms.row[self.positions.rows["instrument"][at]]
        return at, self._options[2]

    def options_held(self) -> I8:
        """Return the rows of the option sheet in which anything is held."""
        known = len(self.open_at)
        instrument, opened = self.marks.rows["instrument"][:known], self.open_at[: self.marks.rows.size]
        held = np.bincount(instrument, opened != 0, len(self.directory.instrument_records))
        return held[self.sheet.terms.instrument].nonzero()[0]

    def _scratch(self, size: int) -> tuple[F8, F8]:
        """Return two arrays that live until the next valuation: fresh ones cost as much as the arithmetic."""
        if len(self._held) < size:
            self._held, self._spare = np.empty(2 * size), np.empty(2 * size)
        return self._held[:size], self._spare[:size]

    def _value_balances(self, count: int) -> tuple[F8, F8, F8]:
        """Return the collateral of every account after haircuts, at its venue's marks and across; and its worth before.

        The worth before haircuts is that of the marks across venues.
        """
        rows, directory = self.balances.rows, self.directory
        asset, owner = rows["asset"], rows["account"]
        worth = rows["amount"] * self.marks.asset_worth[asset]
        total = _sum(owner, worth, count)
        self._lent_there = self._lent(worth) if directory.has_haircut else worth
        lent = _sum(owner, self._lent_there, count) if directory.has_haircut else total
        if not self.marks.priced_apart:
            return lent, lent, total
        there = rows["amount"] * self.marks.worth_at(directory.arrays["venue"][owner], asset)
        self._lent_there = self._lent(there)
        return _sum(owner, self._lent_there, count), lent, total

    def _lent(self, worth: F8) -> F8:
        """Return what balances count as collateral: less their haircut where they are positive."""
        haircut = self.directory.arrays["haircut"][self.balances.rows["asset"]]
        return np.where(worth > 0, worth * (1.0 - haircut), worth)

    def _distance(self, account: F8, count: int) -> F8:
        """Return the move of all coins together that takes each margin ratio to 1, by the straight lines of health."""
        moves = self.directory.arrays["moves"]
        coins = any(moves.item(asset) for asset in self.balances.assets)
        directory = self.directory
        slope = self._slope(count) if coins or directory.has_coin else account[2] - self._required_slope(account[5])
        return nearest_distance(account[0], account[5], slope)

    def _required_slope(self, maintenance: F8) -> F8:
        """Return what maintenance margins gain per move of 1, where everything is settled in cash.

        A rated one grows with the price, but not an option's, whose notional is counted by its delta.
        """
        directory, arrays, rows = self.directory, self.directory.arrays, self.positions.rows
        needs = maintenance
        if directory.has_option:
            at, _ = self.options()
            rate = arrays["class_maintenance"][arrays["class"][rows["instrument"][at]]]
            needs = maintenance - _sum(rows["account"][at], self._margined[2][at] * rate, len(maintenance))
        if directory.has_schedule or directory.has_scenario:
            needs = self.margins.slopes(needs)
        return needs

    def _slope(self, count: int) -> F8:
        """Return what each account's health gains per move of 1 of all assets but currencies and stablecoins.

        A linear contract gains with its price, unless its quote asset moves alike, and its profit with the asset that
        it settles in; an inverse one loses what it cost (``liquidation_distance``); an option goes by its delta.
        """
        arrays, rows, balances = self.directory.arrays, self.positions.rows, self.balances.rows
        number, (held, spent, notional) = rows["instrument"], self._margined
        moves = arrays["moves"]
        slope = np.where(moves[arrays["quote"]][number], 0.0, held)
        slope += np.where(moves[arrays["settlement"]][number], held - spent, 0.0)
        inverse = arrays["inverse"][number]
        slope = np.where(inverse, -spent, slope)
        required = np.where(inverse, 0.0, notional * arrays["class_maintenance"][arrays["class"][number]])
        if self.directory.has_option:
            at, of = self.options()
            delta = rows["size"][at] * self.sheet.scale()[of] * self.sheet.greeks[0][of]
            slope[at] = np.where(self.sheet.terms.coin[of], delta - spent[at], delta)
            required[at] = 0.0
        coins = np.where(moves[balances["asset"]], self._lent_there, 0.0)
        needs = _sum(rows["account"], required, count)
        if self.directory.has_schedule or self.directory.has_scenario:
            needs = self.margins.slopes(needs)
        return _sum(rows["account"], slope, count) - needs + _sum(balances["account"], coins, count)

    def _worst_case(self, account: F8) -> F8:
        """Return gross notional and initial margin as if the worse side of all working orders were filled."""
        of, number, bought, sold = self.orders.pairs()
        growth = worst_growth(self.positions.units_of(of, number), bought, sold)
        notional = growth * self._unit_notionals()[number]
        arrays = self.directory.arrays
        margin = notional * arrays["class_initial"][arrays["class"][number]]
        count = account.shape[1]
        return np.stack([account[1] + _sum(of, notional, count), account[4] + _sum(of, margin, count)])

    def _unit_notionals(self) -> F8:
        """Return the notional of one unit of every instrument at the marks across venues; of options by underlying."""
        notional = np.abs(self.marks.unit[self.marks.across()])
        if self.directory.has_option:
            terms, forward = self.sheet.terms, self.sheet.forwards()
            price = np.where(np.isnan(forward), terms.strike, forward)
            arrays = self.directory.arrays
            worth = self.marks.asset_worth[arrays["settlement"][terms.instrument]]
            coins = np.where(terms.coin, 1.0, price)
            notional[terms.instrument] = arrays["size"][terms.instrument] * coins * worth
        return notional

    def _netting_sets(self, lent: F8, unrealised: F8) -> tuple[F8, F8]:
        """Return the table of netting sets, signed from our side, and what counterparties have of it (CONTRACT §3)."""
        arrays, directory, exposed = self.directory.arrays, self.directory, lent + unrealised
        if self.credit.needed:
            touched = self.touched
            return self.credit.measure(exposed, unrealised, self._robust[0], lent, touched, self.measured_us)
        sets = len(directory.netting_sets)
        table = np.empty((len(NETTING_SET), sets))
        table[0] = np.maximum(_sum(arrays["netting_set"], arrays["sign"] * exposed, sets), 0.0)
        table[1] = _sum(arrays["netting_set"], arrays["client"] * lent, sets)
        return table, np.empty((0, len(directory.counterparties)))

    def _counterparties(self, netting_set: F8, gross: F8, net: F8, pnl: F8) -> F8:
        """Return the table of counterparties, signed from our side."""
        arrays, count = self.directory.arrays, len(self.directory.counterparties)
        owner, of = arrays["netting_set_counterparty"], arrays["counterparty"]
        table = np.empty((len(COUNTERPARTY), count))
        table[0] = _sum(owner, netting_set[0], count)
        table[1] = _sum(owner, netting_set[1], count)
        table[2] = _sum(of, gross, count)
        table[3] = _sum(of, arrays["sign"] * net, count)
        table[4] = _sum(of, arrays["stake"] * pnl, count)
        return table

    def wide(self) -> dict[str, F8]:
        """Return the sums over firm, groups, underlyings and venues of the book as it was last measured.

        Each has shape (measures, scopes); scopes are numbered as in the directory, alike in all shards.
        """
        if self._wide is None:
            arrays, directory = self.directory.arrays, self.directory
            counterparty = self.tables["counterparty"].values
            firm = [2, 3, 4, 0, 5, 6, 7, 8] if len(counterparty) > len(COUNTERPARTY) else [2, 3, 4, 0]
            self._wide = {
                "firm": _totals(counterparty[firm]),
                "underlying": self._by_underlying(arrays),
                "venue": _by(arrays["venue_or_none"], self._account_sums, len(directory.venues)),
                "group": np.zeros((len(counterparty), 0)),
            }
            if directory.groups:
                self._wide["group"] = _by(arrays["group"], tuple(counterparty), len(directory.groups))
        return self._wide

    def _by_underlying(self, arrays: dict[str, Any]) -> F8:
        signed, held, spent, notional = self._robust
        rows, count = self.positions.rows, len(self.directory.underlyings)
        of = arrays["underlying"][rows["instrument"]]
        sign, stake = arrays["sign"][rows["account"]], arrays["stake"][rows["account"]]
        sums = np.zeros((len(UNDERLYING), count))
        sums[:4] = _by(of, (notional, sign * signed, stake * (held - spent), stake * signed), count)
        if self.directory.has_option:
            at, option = self.options()
            units = stake[at] * rows["size"][at] * self.sheet.scale()[option]
            greeks = self.sheet.greeks
            sums[4:6] = _by(of[at], (units * greeks[1][option], units * greeks[2][option]), count)
        return sums

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`; what the book is valued at is computed again."""
        return {
            "directory": self.directory.snapshot(),
            "marks": self.marks.snapshot(),
            "sheet": self.sheet.snapshot(),
            "funding": self.funding.snapshot(),
            "credit": self.credit.snapshot(),
            "margins": self.margins.snapshot(),
            "orders": self.orders.snapshot(),
            "touched": self.touched.nonzero()[0].tolist(),
            "unentered": [[*key, units] for key, units in self.unentered.items()],
            "measured_us": self.measured_us,
            "positions": self.positions.snapshot(),
            "balances": self.balances.snapshot(),
            "fills": self.fills.snapshot(),
            "transfers": self.transfers.snapshot(),
            "open_count": self.open_count.copy(),
            "open_at": self.open_at.copy(),
            "contributed": self.contributed.copy(),
            "active": self.active.copy(),
            "expiring": [[k, v] for k, v in self.expiring.items()],
            "changed": self._changed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.directory.restore(state["directory"])
        self.marks.restore(state["marks"])
        self.sheet.restore(state["sheet"])
        self.measured_us = state["measured_us"]
        self.positions.restore(state["positions"])
        self.balances.restore(state["balances"])
        self.fills.restore(state["fills"])
        self.transfers.restore(state["transfers"])
        arrays = self.directory.arrays
        self.positions.classify(arrays["class"], len(arrays["class_initial"]))
        self.open_count, self.open_at = state["open_count"], state["open_at"]
        self.contributed, self.active = state["contributed"], state["active"]
        self.expiring = {int(k): int(v) for k, v in state["expiring"]}
        self.funding.restore(state["funding"])
        self.credit.restore(state["credit"])
        self.margins.restore(state["margins"])
        self.orders.restore(state["orders"])
        self.touched = np.zeros(len(self.active), dtype=bool)
        self.touched[state["touched"]] = True
        self.unentered = {(account, number): units for account, number, units in state["unentered"]}
        self._changed = state["changed"]


def _ratios(account: F8) -> None:
    """Fill margin ratio and leverage by CONTRACT §3: 0 without positions, 1,000,000 at most and without equity."""
    equity, ratios = account[0], account[6:8]
    has_equity = equity > 0
    ratios[0], ratios[1] = account[5], account[1]
    used = ratios > 0
    ratios /= np.where(has_equity, equity, 1.0)
    np.minimum(ratios, RATIO_MAX, out=ratios)
    ratios[:, ~has_equity] = RATIO_MAX
    ratios[~used] = 0.0


def _across(gross: F8, rates: F8 | None, out: F8) -> None:
    """Sum over margin classes of gross notional times a rate (1 where there is none), class by class in order."""
    out[:] = gross[:, 0] if rates is None else gross[:, 0] * rates[0]
    for at in range(1, gross.shape[1]):
        out += gross[:, at] if rates is None else gross[:, at] * rates[at]


def _by(of: I8, columns: tuple[F8, ...], count: int) -> F8:
    """Return the sum of each column by number, shape (columns, count); numbers from ``count`` on are left out."""
    sums = np.empty((len(columns), count))
    for at, column in enumerate(columns):
        sums[at] = _sum(of, column, count)[:count]
    return sums


def _totals(rows: F8) -> F8:
    """Return the sum of each row, first to last."""
    totals: F8 = rows.cumsum(axis=1)[:, -1] if rows.shape[1] else np.zeros(len(rows))
    return totals


def _sum(of: I8, weights: F8, count: int) -> F8:
    """Return the sum of the weights of each number, in order of rows (DESIGN §1)."""
    return np.asarray(np.bincount(of, weights, count), dtype=np.float64)
