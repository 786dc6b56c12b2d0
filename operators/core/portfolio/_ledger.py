"""Ledger of one shard: directory, marks, positions, balances and the memory of fills, and their valuation.

Valuation is a fixed number of vector operations over the book, whatever its size, and nothing at all where nothing that
is held has moved.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import MeasureTable, sum_by
from seawall.operators.core.credit import CreditBook
from seawall.operators.core.holdings import (
    Balances,
    Directory,
    FillMemory,
    OpenPositionCounts,
    Positions,
    WorkingOrders,
)
from seawall.operators.core.portfolio._cash_flows import Contributions, Funding
from seawall.operators.core.portfolio._explain import PnlExplain
from seawall.operators.core.portfolio._firm_sums import FirmSums, StrategyBook
from seawall.operators.core.pricing import (
    ACROSS_VENUES,
    AccountValues,
    Doubts,
    LiquidationDistances,
    MarginBook,
    Marks,
    OptionSheet,
    fill_margin_ratios,
)
from seawall.schemas.configuration import JOURNAL_DEFAULTS
from seawall.schemas.measures import (
    ACCOUNT,
    COUNTERPARTY,
    CREDIT,
    NETTING_SET,
    ORDERS,
    PARTY_CREDIT,
    REQUESTED_SCOPES,
    STANDALONE,
)

# The tables of netting sets and counterparties, signed from our side (contract.md, "Signs"), without ``credit``.

F8 = NDArray[np.float64]


def netting_set_measures(directory: Directory, exposed: F8, given: F8) -> F8:
    """Return current exposure and collateral held of netting sets on default terms, shape (2, sets).

    ``exposed`` and ``given`` are by account: equity at marks across venues, and collateral without debts.
    """
    arrays, sets = directory.arrays, len(directory.netting_sets)
    table = np.empty((len(NETTING_SET), sets))
    table[0] = np.maximum(sum_by(arrays["netting_set"], arrays["sign"] * exposed, sets), 0.0)
    table[1] = sum_by(arrays["netting_set"], arrays["client"] * given, sets)
    return table


def counterparty_measures(directory: Directory, netting_set: F8, account_sums: tuple[F8, F8, F8]) -> F8:
    """Return the measures ``COUNTERPARTY`` of all counterparties, shape (measures, counterparties).

    ``account_sums`` are gross notional, net notional and P&L by account, from our side.
    """
    arrays, count = directory.arrays, len(directory.counterparties)
    owner, of = arrays["netting_set_counterparty"], arrays["counterparty"]
    table = np.empty((len(COUNTERPARTY), count))
    for row in range(2):
        table[row] = sum_by(owner, netting_set[row], count)
    for row, column in enumerate(account_sums, 2):
        table[row] = sum_by(of, column, count)
    return table


# The ledger of one shard: directory, marks, positions, balances and the memory of fills, and their valuation.

I8 = NDArray[np.int64]
# Account, instrument, units, price, fee, its asset, strategy, action and reference
FILL = (0, 0, 0, 0.0, 0.0, "", "", "")
# Account, asset, amount, purpose, whether segregated, contract and the interval's end
TRANSFER = (0, "", 0.0, "deposit", False, -1, 0)


class Ledger:
    """The book of one shard. `take_slice` changes it; :meth:`measure` revalues all of it."""

    def __init__(self, shard: int, configuration: dict[str, Any]) -> None:
        self.directory = Directory(shard, configuration["shards"], configuration["reporting_currency"])
        self.marks = Marks(self.directory)
        self.sheet = OptionSheet(self.directory, self.marks)
        self.positions, self.balances = Positions(), Balances()
        self.funding = Funding(self.directory, self.marks, self.positions, self.balances)
        self.credit = CreditBook(self.directory, self.marks, self.positions, self.balances, self.sheet)
        self.margins = MarginBook(self.directory, self.marks, self.positions, self.sheet)
        self.doubts = Doubts(self.directory, self.marks, self.positions, self.balances, self.sheet)
        self.orders = WorkingOrders()
        self.values = AccountValues(self.directory, self.marks, self.positions, self.balances, self.sheet)
        self.health = LiquidationDistances(
            self.directory, self.positions, self.balances, self.sheet, self.margins, self.values
        )
        self.strategies = StrategyBook(self.directory, self.marks, self.sheet)
        self.wide = FirmSums(
            self.directory,
            self.marks,
            self.positions,
            self.balances,
            self.sheet,
            self.values,
            self.strategies,
        )
        self.filled: I8 | None = None  # accounts of the fills of this slice, where these were taken as arrays
        self.fills = FillMemory(configuration["fill_memory"], FILL, keeps_forgotten=True)
        self.undone: dict[tuple[int, int], None] = {}  # accounts and instruments of fills that this slice undid
        self.before = Positions()  # as they were before the oldest fill that is remembered
        self.transfers = FillMemory(configuration["fill_memory"], TRANSFER)
        self.open = OpenPositionCounts()
        self.contributions = Contributions(self.marks)
        self.explain = PnlExplain(
            self.directory,
            self.marks,
            self.positions,
            self.balances,
            self.sheet,
            self.funding,
            self.contributions,
        )
        self.account_pnl: F8 = np.zeros(0)  # by account from its holder's side, as last measured
        self.active: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self.touched: NDArray[np.bool_] = np.zeros(0, dtype=bool)  # accounts that changed since the last valuation
        self.expiring: dict[int, int] = {}
        self.unentered: dict[tuple[int, int], int] = {}  # opened without a price, before the first mark
        self.tables: dict[str, MeasureTable] = {}
        self._wide: dict[str, F8] | None = None
        self._debts: list[tuple[int, float]] = []  # asset and worth of what is owed to us, of what we owe negative
        self._account_sums: tuple[F8, F8, F8] = (np.zeros(0), np.zeros(0), np.zeros(0))
        self.mark_age_us_max = self.measured_us = 0
        self._changed = True
        self._options_held: tuple[Any, I8] = (None, np.zeros(0, dtype=np.int64))
        self.holding: NDArray[np.bool_] = np.zeros(0, dtype=bool)  # accounts with a position, or with coins
        self._sure: tuple[int, ...] | None = None  # what was held when no price of it was in doubt
        self._alone = False  # whether a limit names the distance of one underlying alone

    def configure(self, configuration: dict[str, Any]) -> None:
        """Take what may change between configurations."""
        self.fills.size_max = self.transfers.size_max = configuration["fill_memory"]
        self.mark_age_us_max = int(configuration["mark_max_age_s"] * 1_000_000)
        terms = JOURNAL_DEFAULTS | configuration
        confirm_us, return_us = (int(terms[name] * 1_000_000) for name in ("confirm_s", "peg_return_s"))
        near, below = terms["confirm_tolerance"], terms["peg_tolerance"]
        self.marks.configure(self.mark_age_us_max, confirm_us, near, below, return_us)
        self.credit.configure(terms)
        self.doubts.configure(terms, self.mark_age_us_max)
        self.margins.configure(configuration)
        self.ask(configuration["limits"]["limits"])
        self.explain.switch(bool(configuration.get("pnl_explain")))
        self.touch()

    def ask(self, limits: Iterable[Mapping[str, Any]]) -> None:
        """Compute from now on what limits name, where it is computed on demand only."""
        named = [(limit["scope"].partition(":")[0], limit["measure"]) for limit in limits]
        kinds, measures = {kind for kind, _ in named}, {measure for _, measure in named}
        self.wide.asked.update(REQUESTED_SCOPES.keys() & kinds)
        self.credit.named = self.credit.named or not measures.isdisjoint({*CREDIT, *PARTY_CREDIT})
        self._alone = self._alone or not measures.isdisjoint(STANDALONE)
        self.orders.seen = self.orders.seen or self._alone or not measures.isdisjoint(ORDERS)
        self.explain.ask(named)

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
        spot, forwards, marks = self.directory.arrays["spot"], self.sheet.terms.forwards, self.marks
        for number in instruments:
            if spot.item(number) or number in forwards or any(map(self.open.is_held_at, marks.rows_of(number))):
                self._changed = True

    def moves_with_time(self) -> bool:
        """Tell whether measures change though nothing happens: greeks, what accrues and what waits for a second do."""
        return self.directory.has_option or bool(self.funding.known) or self.credit.waits

    def take_changed(self) -> bool:
        """Tell whether anything changed since the last call."""
        changed, self._changed = self._changed, False
        return changed

    def grow(self) -> None:
        """Make room for what the directory has just learned."""
        more = len(self.directory.own) - len(self.open.by_account)
        if more > 0:
            self.open.grow(more)
            self.contributions.grow(more)
            self.active = np.append(self.active, np.zeros(more, dtype=bool))
            self.touched = np.append(self.touched, np.zeros(more, dtype=bool))
        arrays = self.directory.arrays
        self.positions.classify(arrays["class"], len(arrays["class_initial"]))
        self.before.classify(np.zeros(len(arrays["class"]), dtype=np.int64), 1)
        self.strategies.grow()
        self.explain.grow()
        if self.directory.has_option:
            self.sheet.learn()

    def expect_expiry(self, instruments: Iterable[int]) -> None:
        """Expect the expiry of instruments in which something was traded, which may have been settled before."""
        for number in sorted(set(instruments)):
            if expires_us := self.directory.expires_us[number]:
                self.expiring.setdefault(number, expires_us)

    def asset_of(self, name: str) -> int:
        """Return the number of an asset, which nothing may have named before."""
        number = self.directory.assets.get(name, -1)
        if not 0 <= number < len(self.marks.asset_prices):
            number = self.directory.asset(name)
            self.marks.refresh()
            self.directory.forget_arrays()
        return number

    def unit_value(self, instrument: int, price: float) -> float:
        """Return the value of one unit of a position at a price, in the settlement asset."""
        arrays = self.directory.arrays
        size: float = arrays["size"].item(instrument)
        return -size / price if arrays["inverse"].item(instrument) else size * price

    def unit_values(self, instruments: I8, price: F8) -> F8:
        """Return the values of one unit of positions at prices, as :meth:`unit_value`."""
        arrays = self.directory.arrays
        size = arrays["size"][instruments]
        return np.where(arrays["inverse"][instruments], -size / price, size * price)

    def mark_row(self, account: int, instrument: int) -> int:
        """Return the mark row at which an own account's position is margined: its venue's, or the one across."""
        venue = self.directory.arrays["venue"].item(account)
        return self.marks.row(instrument, venue if venue >= 0 else ACROSS_VENUES)

    # --- valuation --------------------------------------------------------------------------------------------------

    def measure(self, as_of_us: int | None, exact: bool = False) -> dict[str, MeasureTable]:
        """Revalue the book at ``as_of``; return the tables ``account``, ``netting_set`` and ``counterparty``.

        Values are in the reporting currency (ratios: plain numbers). ``exact``: this is the end of a second, of which
        the volatility of underlyings learns. Without a time the tables are those of the last call again, as after a
        restore.
        """
        self.marks.price()
        if as_of_us is None:
            self.sheet.apply_values()
            return self._measure(None, False)
        self.measured_us = as_of_us
        if self.directory.has_option:
            self.sheet.refresh(self.options_held(), as_of_us)
        if exact and self.credit.needed:
            self.credit.look(as_of_us)
        return self._measure(as_of_us, exact)

    def options_held(self) -> I8:
        """Return the rows of the option sheet in which anything is held; found anew where that may have changed."""
        key = (self.open.changes, self.marks.rows.size, self.directory.version)
        if key != self._options_held[0] or self.strategies.names:
            known = len(self.open.at_mark)
            instrument, opened = self.marks.rows["instrument"][:known], self.open.at_mark[: self.marks.rows.size]
            held = np.bincount(instrument, opened != 0, len(self.directory.instrument_records))
            held[self.strategies.held()] = 1
            self._options_held = key, held[self.sheet.terms.instrument].nonzero()[0]
        return self._options_held[1]

    def _measure(self, as_of_us: int | None, exact: bool) -> dict[str, MeasureTable]:
        """Compute the tables; without a time nothing that is kept between slices moves."""
        arrays, directory = self.directory.arrays, self.directory
        count = len(directory.own)
        account_measures = (*ACCOUNT, *(ORDERS if self.orders.seen else ()), *(STANDALONE if self._alone else ()))
        account = np.empty((len(account_measures), count))
        gross, net, unrealised = self.values.value_positions(account, count)
        collateral, lent, worth = self.values.value_balances(count)
        if self.funding.known:
            there, accrued = self.funding.unrealised(self.measured_us, count)
            unrealised = unrealised + accrued
            account[3] += there
        account[0] = collateral + account[3]
        if directory.has_option:  # whose premium has left the balance: what they are worth stands beside it
            account[0] += self.values.premiums(self.values.margined[1], count)
            unrealised = unrealised + self.values.premiums(self.values.robust[2], count)
        made, exposed, doubted = unrealised, unrealised, self._is_doubted()
        if doubted:
            made, exposed = self.doubts.apply(account, self.values, (gross, net, unrealised), self.measured_us)
        if self.directory.has_schedule or self.directory.has_scenario:
            self.margins.apply(account, self.values.margined[2], self.touched, as_of_us)
        fill_margin_ratios(account)
        near = 2.0 * account[5] > account[0]  # more than half of what an account has is its maintenance margin
        due = np.ones(count, dtype=bool) if exact else self.touched & near & (as_of_us is not None)
        account[8] = self.health.distance(account, count, due)
        coins = self.values.value_coins(count)
        self.holding = self.open.by_account > 0
        if coins is not None:
            account[2] += coins[0]
            net = net + coins[1]
            self.holding |= self.values.holds_coins
        if self.orders.seen:
            rate = arrays["class_initial"][arrays["class"]]
            more = self.orders.worst_case(self.positions, self.values.unit_notionals(), rate, count)
            account[9:11] = account[[1, 4]] + more
        if self._alone:
            account[11] = self.health.alone(account[0], account[5])
        self.account_pnl = worth + unrealised - self.contributions.worth
        owed = np.where(arrays["sign"] > 0, worth, lent) if directory.has_haircut else lent
        netting_set, credit = self._netting_sets(owed + exposed, self.values.given(count), exposed)
        self.doubts.found = self.doubts.conclude(account, self.holding) if doubted else None
        sums = (gross, arrays["stake"] * net, arrays["stake"] * (worth + made - self.contributions.worth))
        counterparty = np.concatenate([counterparty_measures(directory, netting_set, sums), credit])
        self._debts = []
        if self.credit.obligations.owed or self.credit.obligations.others:
            self._add_debts(counterparty)
        deep = len(credit) > 0
        self.tables = {
            "account": MeasureTable(directory.own_names, account_measures, account),
            "netting_set": MeasureTable(
                directory.netting_set_names, (*NETTING_SET, *CREDIT)[: len(netting_set)], netting_set
            ),
            "counterparty": MeasureTable(
                directory.counterparty_names, (*COUNTERPARTY, *PARTY_CREDIT) if deep else COUNTERPARTY, counterparty
            ),
        }
        self._wide = None
        self._account_sums = sums
        self.touched[:] = False
        return self.tables

    def _add_debts(self, counterparty: F8) -> None:
        """Add debts in what moves to the net notional of counterparties, and keep all of them."""
        for one in self.credit.obligations.ours():
            value = one.amount * self.marks.asset_worth.item(one.asset)
            self._debts.append((one.asset, value))
            if self.directory.arrays["moves"].item(one.asset):
                counterparty[3, self.directory.counterparties[one.counterparty]] += value

    def _is_doubted(self) -> bool:
        """Tell whether anything is held at a price that is in doubt; looked for where that may have changed."""
        held = self._what_is_held()
        if held == self._sure and self.measured_us <= self.doubts.due_us:
            return False
        doubted = self.doubts.look(self.open.at_mark, self.measured_us)
        self._sure = None if doubted else held
        return doubted

    def _what_is_held(self) -> tuple[int, ...]:
        """Return what changes where something else is held or priced otherwise: counts since the process began."""
        return self.open.changes, len(self.balances.assets), self.directory.version, self.marks.set_back

    def _netting_sets(self, exposed: F8, given: F8, unrealised: F8) -> tuple[F8, F8]:
        """Return the table of netting sets, and what counterparties have of it beside `counterparty_measures`.

        ``exposed`` is what each account is worth to its holder: a deposit of ours is a claim at market value, what a
        client has given us counts less its haircut.
        """
        if self.credit.needed:
            return self.credit.measure(exposed, unrealised, given, self.values, self.touched, self.measured_us)
        return netting_set_measures(self.directory, exposed, given), np.empty((0, len(self.directory.counterparties)))

    def wide_sums(self) -> dict[str, F8]:
        """Return the sums over what spans shards of the book as it was last measured (`FirmSums`)."""
        if self._wide is None:
            self._wide = self.wide.of(self.tables["counterparty"].values, self._account_sums, self._debts)
        return self._wide

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
            "revalued": self.health.revalued.copy(),
            "orders": self.orders.snapshot(),
            "strategies": self.strategies.snapshot(),
            "asked": [sorted(self.wide.asked), self._alone],
            "touched": self.touched.nonzero()[0].tolist(),
            "unentered": [[*key, units] for key, units in self.unentered.items()],
            "measured_us": self.measured_us,
            "positions": self.positions.snapshot(),
            "before": self.before.snapshot(),
            "balances": self.balances.snapshot(),
            "fills": self.fills.snapshot(),
            "transfers": self.transfers.snapshot(),
            "open_count": self.open.by_account.copy(),
            "open_at": self.open.at_mark.copy(),
            "contributions": self.contributions.snapshot(),
            "active": self.active.copy(),
            "expiring": [[k, v] for k, v in self.expiring.items()],
            "changed": self._changed,
            "doubts": [self.doubts.due_us, self._sure is not None and self._sure == self._what_is_held()],
            "explain": self.explain.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.directory.restore(state["directory"])
        self.marks.restore(state["marks"])
        self.sheet.restore(state["sheet"])
        self.measured_us = state["measured_us"]
        for name in ("positions", "before", "balances", "fills", "transfers"):
            getattr(self, name).restore(state[name])
        arrays = self.directory.arrays
        self.positions.classify(arrays["class"], len(arrays["class_initial"]))
        self.before.classify(np.zeros(len(arrays["class"]), dtype=np.int64), 1)
        self.open.by_account, self.open.at_mark = state["open_count"], state["open_at"]
        self.active = state["active"]
        self.contributions.restore(state["contributions"])
        self.expiring = {int(k): int(v) for k, v in state["expiring"]}
        self.funding.restore(state["funding"])
        self.credit.restore(state["credit"])
        self.margins.restore(state["margins"])
        self.health.revalued = state["revalued"]
        self.orders.restore(state["orders"])
        self.strategies.restore(state["strategies"])
        requested, self._alone = state["asked"]
        self.wide.asked.update(requested)
        self.touched = np.zeros(len(self.active), dtype=bool)
        self.touched[state["touched"]] = True
        self.unentered = {(account, number): units for account, number, units in state["unentered"]}
        self._changed = state["changed"]
        self.doubts.due_us, is_sure = state["doubts"]  # the next look comes when it would have come
        self._sure = self._what_is_held() if is_sure else None
        self.explain.restore(state["explain"])
