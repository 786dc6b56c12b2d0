"""Account values: values of positions and balances, by a fixed number of vector operations over the book.

An account with a venue is margined at that venue's own marks, exposures are at the marks across venues (contract.md,
"Prices"); where no venue prices anything apart the two are one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import sum_by
from seawall.operators.core.holdings import Balances, Directory, Positions, PositionSubset
from seawall.operators.core.pricing._margin import MarginBook
from seawall.operators.core.pricing._marks import Marks
from seawall.operators.core.pricing._option_sheet import DISTANCE_MAX, OptionBook, OptionSheet
from seawall.schemas.measures import RATIO_MAX

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
EMPTY: F8 = np.zeros(0)


WORTH_MIN = 1e-6  # of a holding, in the reporting currency: what sums of floats leave of one that is gone is less


class AccountValues:
    """Values of the shard's positions and balances, in the reporting currency, as of the last call.

    Attributes
    ----------
    robust
        By position, at the marks across venues: signed notional, worth, entry cost, absolute notional.
    margined
        By position, at the marks of its account's venue: worth, entry cost, absolute notional.
    lent_there, lent_across
        By balance: what it counts as collateral, at its account's venue and at the marks across venues. Its venue
        weighs debts more, where it says so; across venues they are what they are.
    worth_across, worth_there
        By balance: what it is worth without haircut, at the marks across venues and at those of its account's venue.
    holds_coins
        By account, after `value_coins`: whether it has anything of an asset that moves with the markets.
    by_class
        Gross notional by account and margin class, shape (accounts, classes); None where a venue's marks stand apart
        from those across venues.
    """

    def __init__(
        self, directory: Directory, marks: Marks, positions: Positions, balances: Balances, sheet: OptionSheet
    ) -> None:
        self._directory, self._marks, self._positions = directory, marks, positions
        self._balances, self._sheet = balances, sheet
        self.robust: tuple[F8, F8, F8, F8] = (EMPTY, EMPTY, EMPTY, EMPTY)
        self.margined: tuple[F8, F8, F8] = (EMPTY, EMPTY, EMPTY)
        self.lent_there: F8 = EMPTY
        self.lent_across: F8 = EMPTY
        self.worth_across: F8 = EMPTY
        self.worth_there: F8 = EMPTY
        self.by_class: F8 | None = None
        self.holds_coins: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self._option_rows = PositionSubset()
        self._options: tuple[Any, Any, I8] = (None, None, np.zeros(0, dtype=np.int64))
        self._held, self._spare, self._signs = np.zeros(0), np.zeros(0), np.zeros(0)

    def value_positions(self, account: F8, count: int) -> tuple[F8, F8, F8]:
        """Fill the rows of positions of ``account``; return gross, net and unrealised at the marks across venues."""
        arrays, rows, marks, bins = self._directory.arrays, self._positions.rows, self._marks, self._positions.bins
        owner, at = rows["account"], rows["mark"]
        held, scratch = self._scratch(len(owner))
        np.take(marks.unit, at, out=held, mode="clip")
        np.multiply(rows["size"], held, out=held)
        spent = rows["cost"] if marks.at_par else rows["cost"] * marks.worth[at]
        notional = np.abs(held, out=scratch)
        signed = self.signed(held, notional) if self._directory.has_inverse or self._directory.has_option else held
        worths, net = self._worths_and_nets(held, signed, count)
        # One sum per margin class serves gross notional and both margins.
        gross = sum_by(rows["bin"], notional, count * bins).reshape(count, bins)
        account[2] = net
        account[3] = worths - sum_by(owner, spent, count)
        _across(gross, arrays["class_initial"], account[4])
        _across(gross, arrays["class_maintenance"], account[5])
        _across(gross, None, account[1])
        self.robust, self.margined = (signed, held, spent, notional), (held, spent, notional)
        self.by_class = None if marks.venue_priced else gross
        if not marks.venue_priced:
            return account[1], net, account[3].copy()
        at = marks.across()[rows["instrument"]]
        held = rows["size"] * marks.unit[at]
        notional = np.abs(held)
        signed = self.signed(held, notional)
        spent = rows["cost"] * marks.worth[at]
        self.robust = (signed, held, spent, notional)
        worths, net = self._worths_and_nets(held, signed, count)
        return sum_by(owner, notional, count), net, worths - sum_by(owner, spent, count)

    def _worths_and_nets(self, held: F8, signed: F8, count: int) -> tuple[F8, F8]:
        """Return what positions are worth and their signed notionals by account; what is alike is summed once."""
        owner = self._positions.rows["account"]
        if self._directory.has_inverse:
            return sum_by(owner, held, count), sum_by(owner, signed, count)
        if signed is held or not self._directory.has_option:
            total = sum_by(owner, held, count)
            return total, total
        at, _ = self.options()
        worth, of = held[at], owner[at]
        held[at] = 0.0
        alike = sum_by(owner, held, count)
        held[at] = worth
        return alike + sum_by(of, worth, count), alike + sum_by(of, signed[at], count)

    def signed(self, held: F8, notional: F8) -> F8:
        """Return signed notionals of positions worth ``held``; those of options, in ``notional`` too, by underlying.

        An option's gross notional is that of what it is an option on, its net notional is weighted with its delta.
        """
        rows, directory = self._positions.rows, self._directory
        if len(self._signs) < len(held):
            self._signs = np.empty(2 * len(held))
        signed = self._signs[: len(held)]
        np.copyto(signed, held)
        if directory.has_inverse:
            signed = np.where(directory.arrays["inverse"][rows["instrument"]], -held, held)
        if directory.has_option:
            at, of = self.options()
            units = rows["size"][at] * self._sheet.scale()[of]
            signed[at], notional[at] = units * self._sheet.greeks[0][of], np.abs(units) * self._sheet.greeks[3][of]
        return signed

    def options(self) -> tuple[I8, I8]:
        """Return the rows of option positions, and the row of the option sheet of each."""
        at = self._option_rows.of(self._positions, self._directory.arrays["option"])
        if self._options[0] is not at or self._options[1] is not self._sheet.terms:
            self._options = at, self._sheet.terms, self._sheet.terms.row[self._positions.rows["instrument"][at]]
        return at, self._options[2]

    def _scratch(self, size: int) -> tuple[F8, F8]:
        """Return two arrays that live until the next valuation: fresh ones cost as much as the arithmetic."""
        if len(self._held) < size:
            self._held, self._spare = np.empty(2 * size), np.empty(2 * size)
        return self._held[:size], self._spare[:size]

    def value_balances(self, count: int) -> tuple[F8, F8, F8]:
        """Return the collateral of every account after haircuts, at its venue's marks and across; and its worth before.

        The worth before haircuts is that of the marks across venues.
        """
        rows, directory = self._balances.rows, self._directory
        asset, owner = rows["asset"], rows["account"]
        self.worth_across = self.worth_there = worth = rows["amount"] * self._marks.asset_worth[asset]
        total = sum_by(owner, worth, count)
        self.lent_there = self.lent_across = worth
        lent, lending, weight = total, directory.lending, np.ones(1)
        if directory.has_haircut:
            share = 1.0 - directory.arrays["haircut"][asset]
            if lending is not None:
                share, weight = lending.shares(directory.arrays["venue"][owner], asset, rows["amount"], share)
            self.lent_there = self.lent_across = np.where(worth > 0, worth * share, worth)
            lent = sum_by(owner, self.lent_across, count)
        if self._marks.worth_there:
            self.worth_there = rows["amount"] * self._marks.worth_at(directory.arrays["venue"][owner], asset)
        elif lending is None:
            return lent, lent, total
        there = self.worth_there
        self.lent_there = np.where(there > 0, there * share, there * weight) if directory.has_haircut else there
        return sum_by(owner, self.lent_there, count), lent, total

    def value_coins(self, count: int) -> tuple[F8, F8] | None:
        """Return by account what is held in assets that move, beside positions: balances, and profits settled in them.

        They are without haircut, at the marks of its venue and at those across venues. None where nobody holds any.
        """
        moves, balances = self._directory.arrays["moves"], self._balances.rows
        if not (self._directory.has_coin or any(map(moves.item, self._balances.assets))):
            return None
        unpriced = np.isnan(self._marks.asset_prices[balances["asset"]]) & (balances["amount"] != 0)
        held = moves[balances["asset"]] & ((np.abs(self.worth_across) > WORTH_MIN) | unpriced)
        self.holds_coins = np.bincount(balances["account"], held, count) > 0
        across = self.coins(self.worth_across, self.robust[1], self.robust[2], count)
        if not (self._marks.worth_there or self._marks.venue_priced):
            return across, across
        return self.coins(self.worth_there, self.margined[0], self.margined[1], count), across

    def coins(self, worth: F8, held: F8, spent: F8, count: int) -> F8:
        """Return by account the worth of balances and the profits of positions that are in assets that move."""
        arrays, balances, rows = self._directory.arrays, self._balances.rows, self._positions.rows
        moves = arrays["moves"]
        found = sum_by(balances["account"], np.where(moves[balances["asset"]], worth, 0.0), count)
        if self._directory.has_coin:
            settled = moves[arrays["settlement"]][rows["instrument"]]
            profit = self.coin_profits(held, spent)
            found = found + sum_by(rows["account"], np.where(settled, profit, 0.0), count)
        return found

    def unpaid(self, spent: F8) -> F8:
        """Return by position what is left of entry costs without premiums, which have left the balance."""
        if self._directory.has_option:
            spent = spent.copy()
            spent[self._paid_up()] = 0.0
        return spent

    def _paid_up(self) -> I8:
        """Return the positions in options whose premium was paid."""
        at, _ = self.options()
        found: I8 = at[self._directory.arrays["upfront"][self._positions.rows["instrument"][at]]]
        return found

    def premiums(self, spent: F8, count: int) -> F8:
        """Return by account what was paid for the options that it holds, in entry costs ``spent`` by position."""
        at = self._paid_up()
        return sum_by(self._positions.rows["account"][at], spent[at], count)

    def coin_profits(self, held: F8, spent: F8) -> F8:
        """Return by position what its profit gains with its settlement asset beside what it gains with its price.

        An option's delta is of its whole value, also where that is paid in coin: what is left is what it cost.
        """
        spent = self.unpaid(spent)
        profit = held - spent
        if self._directory.has_option:
            at, of = self.options()
            profit[at] = np.where(self._sheet.terms.coin[of], -spent[at], profit[at])
        return profit

    def given(self, count: int) -> F8:
        """Return by account what of its balances counts as collateral given, debts left out."""
        return sum_by(self._balances.rows["account"], np.maximum(self.lent_across, 0.0), count)

    def unit_notionals(self) -> F8:
        """Return the notional of one unit of every instrument at the marks across venues; of options by underlying."""
        notional = np.abs(self._marks.unit[self._marks.across()])
        if self._directory.has_option:
            terms, forward = self._sheet.terms, self._sheet.forwards()
            price = np.where(np.isnan(forward), terms.strike, forward)
            arrays = self._directory.arrays
            worth = self._marks.asset_worth[arrays["settlement"][terms.instrument]]
            coins = np.where(terms.coin, 1.0, price)
            notional[terms.instrument] = arrays["size"][terms.instrument] * coins * worth
        return notional


def _across(gross: F8, rates: F8 | None, out: F8) -> None:
    """Sum over margin classes of gross notional times a rate (1 where there is none), class by class in order."""
    out[:] = gross[:, 0] if rates is None else gross[:, 0] * rates[0]
    for at in range(1, gross.shape[1]):
        out += gross[:, at] if rates is None else gross[:, at] * rates[at]


# Liquidation distance: the relative move of prices that takes the margin ratio of an account to 1.
#
# Health is equity less maintenance margin; an account is liquidated where health is 0. In spot, linear and inverse
# contracts health is a straight line in the move, so one division finds the point. (An inverse position's coin profit
# ``size x (1/entry - 1/price)`` times the coin's price is linear in that price.) Options count by their delta.
#
# A move is a fraction of today's price: -0.2 is a fall by a fifth. It can fall by at most 1 and rise without bound; an
# account that no move of that side liquidates is at infinity there.


def nearest_distance(equity: F8, maintenance: F8, slope: F8) -> F8:
    """Return the size of the nearest move that takes each margin ratio to 1, where health is a straight line in it.

    1,000,000 where there is none, and where there is no maintenance margin (no positions, or none that need one).

    Parameters
    ----------
    slope : float64
        Change of health per move of 1: for a linear position its signed notional less its maintenance margin, for an
        inverse one what it cost, with the other sign, for a coin balance its value after haircut.

    Examples
    --------
    >>> nearest_distance(np.array([20.0, 20.0, 1.0, 5.0]), np.array([10.0, 10.0, 2.0, 0.0]), np.full(4, 50.0)).tolist()
    [0.2, 0.2, 0.0, 1000000.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        move = (equity - maintenance) / np.abs(slope)
    move = np.minimum(np.fmax(move, 0.0), DISTANCE_MAX)  # 0 / 0 is an account that is there already
    move[((slope > 0) & (move > 1.0)) | (maintenance <= 0)] = DISTANCE_MAX
    return move


def nearest_root(health: F8, slope: F8, curve: F8) -> F8:
    """Return the size of the nearest move at which ``health + slope m + curve m^2`` is 0, 1,000,000 for none.

    Prices fall by no more than all of themselves.

    Examples
    --------
    >>> nearest_root(np.array([6.0, 6.0, 1.0]), np.array([-5.0, 7.0, 0.0]), np.array([1.0, 2.0, 1.0])).tolist()
    [2.0, 1000000.0, 1000000.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = slope * slope - 4.0 * curve * health
        part = -0.5 * (slope + np.copysign(np.sqrt(turn), slope))
        roots = np.stack([part / curve, health / part])
    sizes = np.where(np.isfinite(roots) & (roots >= -1.0), np.abs(roots), DISTANCE_MAX)
    return np.where(health <= 0, 0.0, np.minimum(sizes.min(axis=0), DISTANCE_MAX))


# Liquidation distances of accounts: ratios, and the straight lines by which health follows the market.


class LiquidationDistances:
    """The distances of the shard's accounts; positions, balances and their values are the ledger's.

    Attributes
    ----------
    revalued
        By account: the distance of the last revaluation, part of the state; NaN for accounts without options.
    """

    def __init__(
        self,
        directory: Directory,
        positions: Positions,
        balances: Balances,
        sheet: OptionSheet,
        margins: MarginBook,
        values: AccountValues,
    ) -> None:
        self._directory, self._positions, self._balances = directory, positions, balances
        self._sheet, self._margins, self._values = sheet, margins, values
        self.revalued: F8 = EMPTY
        self._rated = (-1, False)  # at which version of the directory options have a maintenance rate

    def distance(self, account: F8, count: int, due: NDArray[np.bool_]) -> F8:
        """Return the move of all coins together that takes each margin ratio to 1.

        Health is a straight line in the move, or a parabola. Where an account has options it is revalued, which costs a
        valuation of them for each move that is tried: for the accounts that are ``due``; the distances of others stand.
        """
        moves = self._directory.arrays["moves"]
        coins = any(map(moves.item, self._balances.assets))
        directory = self._directory
        slope = self._slope(count) if coins or directory.has_coin else account[2] - self._required_slope(account[5])
        curve = self._curvature(count) if directory.has_coin else None
        if curve is not None:
            slope = slope - curve[1]
        found = nearest_distance(account[0], account[5], slope)
        if curve is not None:
            bent = curve[0] != 0
            found[bent] = nearest_root(account[0] - account[5], slope, curve[0])[bent]
            found[account[5] <= 0] = DISTANCE_MAX
        if directory.has_option:
            self._revalue(found, account, slope, np.zeros(count) if curve is None else curve[0], due)
        return found

    def _curvature(self, count: int) -> tuple[F8, F8] | None:
        """Return what health gains per square of the move, and what margins gain per move beyond their notional.

        A contract that is settled in a coin which its price is not in (quanto) moves with both: profit and margin are
        products of two that move. None where there is no such contract.
        """
        arrays, rows = self._directory.arrays, self._positions.rows
        moves = arrays["moves"]
        twice = moves[arrays["settlement"]] & ~(arrays["inverse"] | arrays["option"] | moves[arrays["quote"]])
        if not twice.any():
            return None
        number, account, (held, _, notional) = rows["instrument"], rows["account"], self._values.margined
        required = notional * arrays["class_maintenance"][arrays["class"][number]]
        both = twice[number]
        curve = sum_by(account, np.where(both, held - required, 0.0), count)
        return curve, sum_by(account, np.where(both, required, 0.0), count)

    def _revalue(self, found: F8, account: F8, slope: F8, curve: F8, due: NDArray[np.bool_]) -> None:
        """Put in the distances of accounts with options: those of full revaluation, not of a tangent."""
        at, option = self._values.options()
        held = self._positions.rows["units"][at] != 0
        at, option = at[held], option[held]
        holders = np.zeros(len(found), dtype=bool)
        holders[self._positions.rows["account"][at]] = True
        if len(self.revalued) < len(found):
            self.revalued = np.append(self.revalued, np.full(len(found) - len(self.revalued), np.nan))
        self.revalued[~holders] = np.nan
        due = (due | np.isnan(self.revalued)) & holders
        chosen = due[self._positions.rows["account"][at]]
        book = OptionBook.of(self._directory, self._positions, self._sheet, at[chosen], option[chosen])
        self.revalued[due] = found[due]
        if book is not None:
            of = book.accounts
            self.revalued[of] = book.distances(account[0, of], account[5, of], slope[of], curve[of])
        found[holders] = self.revalued[holders]

    def _required_slope(self, maintenance: F8) -> F8:
        """Return what maintenance margins gain per move of 1, where everything is settled in cash.

        A rated one grows with the price, but not an option's, whose notional is counted by its delta.
        """
        directory, arrays, rows = self._directory, self._directory.arrays, self._positions.rows
        needs = maintenance
        if directory.has_option and self._options_are_rated():
            at, _ = self._values.options()
            rate = arrays["class_maintenance"][arrays["class"][rows["instrument"][at]]]
            needs = maintenance - sum_by(rows["account"][at], self._values.margined[2][at] * rate, len(maintenance))
        if directory.has_schedule or directory.has_scenario:
            needs = self._margins.slopes(needs)
        return needs

    def _slope(self, count: int) -> F8:
        """Return what each account's health gains per move of 1 of all assets but currencies and stablecoins."""
        gain, required, coins = self.gains()
        needs = sum_by(self._positions.rows["account"], required, count)
        if self._directory.has_schedule or self._directory.has_scenario:
            needs = self._margins.slopes(needs)
        held = sum_by(self._positions.rows["account"], gain, count)
        return held - needs + sum_by(self._balances.rows["account"], coins, count)

    def gains(self) -> tuple[F8, F8, F8]:
        """Return per move of 1 what each position gains, what its margin by rate gains, and what each balance gains.

        A linear contract gains with its price, unless its quote asset moves alike, and its profit with the asset that
        it settles in; an inverse one loses what it cost; an option goes by its delta.
        """
        arrays, rows, balances = self._directory.arrays, self._positions.rows, self._balances.rows
        number, (held, spent, notional) = rows["instrument"], self._values.margined
        moves, spent = arrays["moves"], self._values.unpaid(spent)
        slope = np.where(moves[arrays["quote"]][number], 0.0, held)
        slope += np.where(moves[arrays["settlement"]][number], held - spent, 0.0)
        inverse = arrays["inverse"][number]
        slope = np.where(inverse, -spent, slope)
        required = np.where(inverse, 0.0, notional * arrays["class_maintenance"][arrays["class"][number]])
        if self._directory.has_option:
            at, of = self._values.options()
            delta = rows["size"][at] * self._sheet.scale()[of] * self._sheet.greeks[0][of]
            slope[at] = np.where(self._sheet.terms.coin[of], delta - spent[at], delta)
            required[at] = 0.0
        return slope, required, np.where(moves[balances["asset"]], self._values.lent_there, 0.0)

    def exposed(self) -> tuple[I8, I8, F8, F8]:
        """Return the book as it was last measured, row by row: account, instrument, and per move of 1 what equity
        gains and what maintenance margin does. A balance of coins stands at the first instrument on that coin.
        """
        gain, required, coins = self.gains()
        rows, balances = self._positions.rows, self._balances.rows
        parts = self._margin_parts(required, len(self._directory.own))
        instrument = self._instrument_of()[balances["asset"]]
        at = ((coins != 0.0) & (instrument >= 0)).nonzero()[0]
        return (
            np.concatenate([rows["account"], balances["account"][at]]),
            np.concatenate([rows["instrument"], instrument[at]]),
            np.concatenate([gain, coins[at]]),
            np.concatenate([required * parts[rows["account"]], np.zeros(len(at))]),
        )

    def _instrument_of(self) -> I8:
        """Return the first instrument on each asset, -1 where there is none."""
        base = self._directory.arrays["base"]
        first = np.full(len(self._directory.assets), -1, dtype=np.int64)
        first[base[::-1]] = np.arange(len(base))[::-1]
        return first

    def _margin_parts(self, required: F8, count: int) -> F8:
        """Return by account how much the margin really gains per move, as a multiple of what it does by rates."""
        rated = sum_by(self._positions.rows["account"], required, count)
        if not (self._directory.has_schedule or self._directory.has_scenario):
            return np.ones(count)
        return np.where(rated > 0, self._margins.slopes(rated) / np.where(rated > 0, rated, 1.0), 0.0)

    def _options_are_rated(self) -> bool:
        """Tell whether any option has a maintenance rate."""
        if self._rated[0] != self._directory.version:
            arrays = self._directory.arrays
            rates = arrays["class_maintenance"][arrays["class"]]
            self._rated = self._directory.version, bool(rates[arrays["option"]].any())
        return self._rated[1]

    def alone(self, equity: F8, maintenance: F8) -> F8:
        """Return the nearest move of one underlying alone that takes each margin ratio to 1; 1,000,000 for none.

        The move of an underlying is that of its contracts and of what is held in it; what a contract makes in a coin
        moves with that coin. Costs a sort of the book, so it is computed where a limit names it.
        """
        arrays, rows, balances = self._directory.arrays, self._positions.rows, self._balances.rows
        number, (held, spent, _) = rows["instrument"], self._values.margined
        profit = held - self._values.unpaid(spent)
        settled = np.where(arrays["moves"][arrays["settlement"]][number], profit, 0.0)
        coins = np.where(arrays["moves"][balances["asset"]], self._values.lent_there, 0.0)
        of_asset = self._of_assets()
        account = np.concatenate([rows["account"], rows["account"], balances["account"]])
        underlying = [arrays["underlying"][number], of_asset[arrays["settlement"][number]], of_asset[balances["asset"]]]
        slope = np.concatenate([self._price_slopes(), settled, coins])
        keys, member = np.unique((account << 32) | np.concatenate(underlying), return_inverse=True)
        of, nearest = keys >> 32, np.full(len(equity), DISTANCE_MAX)
        slopes = sum_by(member, slope, len(keys))
        np.minimum.at(nearest, of, nearest_distance(equity[of], maintenance[of], slopes))
        return nearest

    def _price_slopes(self) -> F8:
        """Return by position what health gains per move of 1 of its price alone, its coin standing still."""
        arrays, rows = self._directory.arrays, self._positions.rows
        number, account, (held, _, notional) = rows["instrument"], rows["account"], self._values.margined
        inverse = arrays["inverse"][number]
        slope = np.where(inverse, -held, held)
        required = np.where(inverse, 0.0, notional * arrays["class_maintenance"][arrays["class"][number]])
        if self._directory.has_option:
            at, of = self._values.options()
            delta = rows["size"][at] * self._sheet.scale()[of] * self._sheet.greeks[0][of]
            slope[at] = np.where(self._sheet.terms.coin[of], delta - held[at], delta)
            required[at] = 0.0
        if self._directory.has_schedule or self._directory.has_scenario:
            required = self._margins.position_slopes(required, account)
        return slope - required

    def _of_assets(self) -> I8:
        """Return the underlying that each asset is, or a number of its own beyond them."""
        underlyings = self._directory.underlyings
        own = len(underlyings)
        found = [underlyings.get(name, own + number) for name, number in self._directory.assets.items()]
        return np.array(found, dtype=np.int64)


def fill_margin_ratios(account: F8) -> None:
    """Fill margin ratio and leverage: 0 without positions, 1,000,000 at most and without equity.

    See contract.md, "Ratios".
    """
    equity, ratios = account[0], account[6:8]
    has_equity = equity > 0
    ratios[0], ratios[1] = account[5], account[1]
    used = ratios > 0
    ratios /= np.where(has_equity, equity, 1.0)
    np.minimum(ratios, RATIO_MAX, out=ratios)
    ratios[:, ~has_equity] = RATIO_MAX
    ratios[~used] = 0.0
