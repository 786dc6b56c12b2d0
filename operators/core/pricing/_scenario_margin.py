"""Scenario margin: the worst loss of option books over a grid of price and volatility moves.

The model comes first, as functions of arrays; `ScenarioBook` keeps its result up to date for the accounts of one shard
that ask for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import Columns, power
from seawall.operators.core.holdings import Directory, KeyNumbers, Positions, PositionSubset
from seawall.operators.core.pricing._marks import Marks
from seawall.operators.core.pricing._option_models import DAYS_PER_YEAR, black_value, years_to_expiry
from seawall.operators.core.pricing._option_sheet import OptionSheet
from seawall.schemas.configuration import MarginGrid, VolatilityMove

# Scenario margin of option books: the worst loss over a grid of price and volatility moves.
#
# 1. Every instrument is revalued once in every scenario, whoever holds it.
# 2. The profit and loss of a position is its size times that of its instrument; positions of one account on one
#    underlying add up scenario by scenario, and the worst of the sums is the margin of that account and underlying.
# 3. The margin of an account is the sum over its underlyings: no offset between them.
#
# Profit and loss is in the instrument's settlement asset, valued at today's mark of that asset: a coin-margined account
# is judged in coin, as its venue does; that its coin falls too is the business of haircuts and of the distance to
# liquidation.
#
# Accounts at a venue without a grid of its own have the built-in one, and so have underlyings that a venue's grids do
# not name. Grids of venues are data (schemas/configuration/grids), each figure with its source.
#
# References
# ----------
# Deribit, "Portfolio margin" (support article 25944756247837): price range of ±16 % in 9 buckets times volatility up,
# same and down. Deribit, pages/docs/portfoliomargin (older): the volatility shock (30 / days to expiry)^0.30 x 38 %.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]

_POWER_DAYS: Final = 30.0  # at which a volatility move is what its table says
_POWER_DAYS_MIN: Final = 1.0  # nearer expiries have the power of one day
_PROBE: Final = 1e-4  # price move at which a delta is measured
_NO_MOVE: Final = VolatilityMove()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One move of price and volatility: how much of a loss counts, in quote currency or coin, and what is let off it.

    ``price`` is a fraction, ``allowance`` an amount in the reporting currency.
    """

    price: float
    volatility: VolatilityMove = _NO_MOVE
    weight: float = 1.0
    coin_weight: float = 1.0
    allowance: float = 0.0


_BUILT_IN: Final = MarginGrid(
    moves=tuple(0.04 * step for step in range(-4, 5)),
    volatilities=tuple(VolatilityMove(relative=(move,), near_power=0.3, far_power=0.3) for move in (-0.38, 0.0, 0.38)),
)


def scenarios_of(grid: MarginGrid) -> tuple[Scenario, ...]:
    """Return every price move with every volatility move, then the extended ones.

    An extended move counts as if a linear position lost no more than at the edge of the price range, also in coin.
    """
    found = [Scenario(price, volatility) for price in grid.moves for volatility in grid.volatilities]
    for far in grid.extended:
        for move in far.moves:
            edge = copysign(far.price_range or abs(move), move)
            weight = far.weight * edge / move
            coin_weight = weight * (1.0 + move) / (1.0 + edge)
            found.append(Scenario(move, far.volatility, weight, coin_weight, far.dampener * (move / edge - 1.0)))
    return tuple(found)


BUILT_IN_SCENARIOS: Final = scenarios_of(_BUILT_IN)


@dataclass(frozen=True, slots=True)
class ScenarioInstruments:
    """Instruments that are revalued, one row each; only options use strike, volatility and call.

    Parameters
    ----------
    price : float64
        The forward for options, the mark for everything else, in quote currency per unit.
    inverse : bool
        Whether profit and loss is in coin: of a linear payoff ``1/price``, of an option its value over its forward.
    option, call : bool
    strike, expiry, volatility : float64
        Quote currency, years (0 for what never expires), fraction per year^½.
    """

    price: F8
    inverse: B1
    option: B1
    call: B1
    strike: F8
    expiry: F8
    volatility: F8


def moved_volatility(volatility: F8, expiry: F8, move: VolatilityMove) -> F8:
    """Return implied volatilities of options with ``expiry`` years to go after a move.

    Examples
    --------
    >>> shock = VolatilityMove(relative=(0.38,), near_power=0.3)
    >>> moved_volatility(np.ones(3), np.array([30.0, 15.0, 0.0]) / 365, shock).round(6).tolist()
    [1.38, 1.467835, 2.054193]
    """
    days = expiry * DAYS_PER_YEAR
    exponent = np.where(days < _POWER_DAYS, move.near_power, move.far_power)
    relative = _line(days, move.days, move.relative) * power(_POWER_DAYS / np.maximum(days, _POWER_DAYS_MIN), exponent)
    moved: F8 = np.maximum(volatility * (1.0 + relative) + _line(days, move.days, move.points), move.floor)
    return moved


def _line(days: F8, at: Sequence[float], moves: Sequence[float]) -> F8:
    """Return moves between those at some days; one move is the same at all. np.interp may fuse a product and a sum."""
    found = np.full(len(days), moves[0])
    for first, last, low, high in zip(at, at[1:], moves, moves[1:], strict=False):
        found += (high - low) * ((np.minimum(np.maximum(days, first), last) - first) / (last - first))
    return found


def scenario_profits(instruments: ScenarioInstruments, grid: Sequence[Scenario] = BUILT_IN_SCENARIOS) -> F8:
    """Return the profit of one unit of each instrument in each scenario, shape (instruments, scenarios), weighted.

    Profit is in the settlement asset. A future's value is its price, an inverse one's minus 1 / price.
    """
    inverse = instruments.inverse[:, None]
    price = instruments.price[:, None] * (1.0 + np.array([0.0, *(one.price for one in grid)]))  # today first
    with np.errstate(divide="ignore"):
        values = np.where(inverse, -1.0 / price, price)
    at = np.flatnonzero(instruments.option)
    if len(at):
        values[at] = _option_values(instruments, at, price[at], [_NO_MOVE, *(one.volatility for one in grid)])
    weights = np.where(inverse, [one.coin_weight for one in grid], [one.weight for one in grid])
    profits: F8 = (values[:, 1:] - values[:, :1]) * weights
    return profits


def _option_values(instruments: ScenarioInstruments, at: I8, price: F8, moves: Sequence[VolatilityMove]) -> F8:
    """Return the values of the options ``at`` in every scenario: all in one call, which costs as much as one."""
    expiry, strike, call = instruments.expiry[at], instruments.strike[at], instruments.call[at]
    moved = {move: moved_volatility(instruments.volatility[at], expiry, move) for move in set(moves)}
    volatility = np.stack([moved[move] for move in moves], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = black_value(price, strike[:, None], expiry[:, None], volatility, call[:, None])
        values: F8 = np.where(instruments.inverse[at][:, None], value / price, value)
    return values


def worst_losses(
    group: I8, instrument: I8, size: F8, profits: F8, settlement_price: F8, groups: int, allowance: float | F8 = 0.0
) -> tuple[F8, I8]:
    """Return the worst loss, at least 0, of each group of positions that offset each other, and its scenario.

    Parameters
    ----------
    group, instrument, size : shape (positions,)
        Group below ``groups``; instrument is a row of ``profits``; signed units, contract size included.
    profits : float64, shape (instruments, scenarios)
        Of :func:`scenario_profits`, which is computed once for all accounts.
    settlement_price : float64, shape (instruments,)
        Today's mark of the settlement asset in the reporting currency.
    allowance : float64, shape (groups, scenarios)
        What is let off a loss.

    Examples
    --------
    >>> future = ScenarioInstruments(*(np.array([x]) for x in (100.0, False, False, False, 0.0, 0.0, 0.0)))
    >>> one = np.zeros(1, np.int64)
    >>> loss, worst = worst_losses(one, one, np.array([-2.0]), scenario_profits(future), np.ones(1), 1)
    >>> round(float(loss[0]), 9), BUILT_IN_SCENARIOS[worst[0]].price
    (32.0, 0.16)
    """
    # one weighted count over (position, scenario): each sum still runs over its positions in their order
    weights = profits[instrument] * (size * settlement_price[instrument])[:, None]
    scenarios = profits.shape[1]
    places = group[:, None] * scenarios + np.arange(scenarios)
    total = np.bincount(places.ravel(), weights.ravel(), groups * scenarios).reshape(groups, scenarios) + allowance
    worst = total.argmin(axis=1)
    return np.maximum(-total[np.arange(groups), worst], 0.0), worst


def net_amounts(group: I8, key: NDArray[Any], amount: F8) -> tuple[I8, F8]:
    """Return the sums of amounts by group and key, and the group of each.

    Examples
    --------
    >>> of, net = net_amounts(np.array([0, 0, 1]), np.array([7, 7, 8]), np.array([3.0, -1.0, 5.0]))
    >>> of.tolist(), net.tolist()
    ([0, 1], [2.0, 5.0])
    """
    _, rank = np.unique(key, return_inverse=True)
    keys, member = np.unique((group << 32) | rank, return_inverse=True)
    of: I8 = keys >> 32
    return of, np.bincount(member, amount).astype(np.float64)


# Scenario margin of the accounts that ask for it, kept up to date by what changed.
#
# 1. The profits of an instrument in the scenarios of its grid are computed once, whoever holds it, and again when its
#    price or volatility moved by ``MOVE_MIN``, that of an option after ``AGE_MAX_US`` too.
# 2. Positions of one account on one underlying are a *pair*, which offsets within itself. A pair is revalued where
#    units of it, profits of its instruments or the rate of their settlement asset changed since it was last.
# 3. What a pair loses is its worst scenario, and what its grid charges for net deltas by expiry and for options that
#    are net short at a strike.
# 4. The margin of an account is the sum of its pairs. It is taken when something of the account was traded and, for all
#    accounts, every ``EVERY_US`` of event time.
#
# What pairs lose follows from the book and the profits and is no state: after a restore all of it is computed again, to
# the same bits, before it is next taken.

EVERY_US: Final = 10_000_000
MOVE_MIN: Final = 5e-4  # of price or volatility
AGE_MAX_US: Final = 10_000_000
VOLATILITY_UNKNOWN: Final = 1.5  # of an option that has none: the supervisory one of crypto (OSFI)


class ScenarioBook:
    """The accounts of one shard with the grids of one venue, or with the built-in one.

    Attributes
    ----------
    margin
        By own account, in the reporting currency, before the factors of initial and maintenance margin.
    """

    def __init__(
        self, directory: Directory, marks: Marks, positions: Positions, sheet: OptionSheet, grids: Sequence[MarginGrid]
    ) -> None:
        self._directory, self._marks, self._positions, self._sheet = directory, marks, positions, sheet
        self.margin: F8 = np.zeros(0)
        self._priced = Columns({"price": "f8", "volatility": "f8", "us": "i8"})  # at what profits were computed
        self._grids = [(grid, scenarios_of(grid)) for grid in (*grids, _BUILT_IN)]
        width = max(len(scenarios) for _, scenarios in self._grids)
        padded = [[*(one.allowance for one in found), *[0.0] * (width - len(found))] for _, found in self._grids]
        self._allowance = np.array(padded)
        self._charges = any(grid.roll_rate or grid.roll_min or grid.short_option for grid in grids)
        self._profits: F8 = np.zeros((0, width))
        self._all_us = 0
        self._forget()

    def learn(self, accounts: int) -> None:
        """Take what the directory has learned; ``accounts`` is the number of own ones."""
        self.margin = np.append(self.margin, np.zeros(accounts - len(self.margin)))
        more = len(self._directory.instrument_records) - self._priced.size
        if more:
            self._priced.append(more)
        named = {name: number for number, (grid, _) in enumerate(self._grids) for name in grid.underlyings}
        others = next(number for number, (grid, _) in enumerate(self._grids) if not grid.underlyings)
        of = self._directory.arrays["underlying"]
        self._grid = np.array([named.get(name, others) for name in self._directory.underlyings], dtype=np.int64)[of]
        self._expires = np.array(self._directory.expires_us, dtype=np.int64)
        self._profits = np.zeros((self._priced.size, self._profits.shape[1]))
        self._strike, self._roll, self._short = np.zeros((3, self._priced.size))
        self._price(self._priced["us"].nonzero()[0])
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
        self._chosen, self._numbers, self._epoch = PositionSubset("account"), KeyNumbers(), -1
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
        group, count = place[self._pair[at]], place.item(-1) + 1
        grid = np.zeros(count, dtype=np.int64)
        grid[group] = self._grid[number]
        loss, _ = worst_losses(group, number, size, self._profits, self._worth, count, self._allowance[grid])
        self._loss[pairs] = loss + self._charge(group, number, size, count) if self._charges else loss
        self._stale[pairs] = False

    def _charge(self, group: I8, number: I8, size: F8, count: int) -> F8:
        """Return what each group is charged for its net deltas by expiry, and for options net short by strike."""
        worth = size * self._worth[number]
        of, net = net_amounts(group, self._expires[number], worth * self._roll[number])
        charge = np.bincount(of, np.abs(net), count).astype(np.float64)
        of, net = net_amounts(group, self._strike[number], worth * self._short[number])
        return charge + np.bincount(of, np.maximum(-net, 0.0), count)

    def _refresh(self, at: I8, as_of_us: int) -> I8:
        """Bring the scenario profits of instruments up to date where price or volatility moved; return which."""
        arrays, terms = self._directory.arrays, self._sheet.terms
        across = self._marks.across()[at]
        price, volatility = self._marks.rows["price"][across], np.zeros(len(at))
        options = arrays["option"][at].nonzero()[0]
        if len(options):
            row = terms.row[at[options]]
            forward, known = self._sheet.forwards()[row], self._sheet.volatility[row]
            price[options] = np.where(np.isnan(forward), terms.strike[row], forward)
            volatility[options] = np.where(np.isnan(known), VOLATILITY_UNKNOWN, known)
        priced, since = self._priced, as_of_us - self._priced["us"][at]
        over = _moved(price, priced["price"][at]) | _moved(volatility, priced["volatility"][at])
        wanted = (priced["us"][at] == 0) | ((since >= AGE_MAX_US) & arrays["option"][at]) | over
        due: I8 = at[wanted]
        priced["price"][due], priced["volatility"][due], priced["us"][due] = price[wanted], volatility[wanted], as_of_us
        self._price(due)
        return due

    def _price(self, at: I8) -> None:
        """Compute what instruments do in their scenarios at the inputs that ``_priced`` holds; 0 without a price."""
        for number in np.unique(self._grid[at]).tolist():
            self._price_on(number, at[self._grid[at] == number])

    def _price_on(self, number: int, at: I8) -> None:
        arrays, terms, inputs = self._directory.arrays, self._sheet.terms, self._priced
        option = arrays["option"][at]
        strike, call, coin = np.ones(len(at)), np.zeros_like(option), arrays["inverse"][at]
        options = option.nonzero()[0]
        row = terms.row[at[options]]
        strike[options], call[options], coin[options] = terms.strike[row], terms.call[row], terms.coin[row]
        expiry = years_to_expiry(self._expires[at], inputs["us"][at])
        held = ScenarioInstruments(inputs["price"][at], coin, option, call, strike, expiry, inputs["volatility"][at])
        grid, scenarios = self._grids[number]
        profits = scenario_profits(held, scenarios)
        self._profits[at, : len(scenarios)] = np.where(np.isnan(profits), 0.0, profits)
        if self._charges:
            probed = scenario_profits(held, (Scenario(-_PROBE), Scenario(_PROBE)))
            delta = np.nan_to_num(probed[:, 1] - probed[:, 0]) / (2.0 * _PROBE)
            self._roll[at] = delta * np.maximum(grid.roll_rate * expiry, grid.roll_min)
            self._short[at] = np.where(option, np.nan_to_num(np.where(coin, 1.0, held.price)) * grid.short_option, 0.0)
            self._strike[at] = strike

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`."""
        return {"priced": self._priced.snapshot(), "margin": self.margin.copy(), "all_us": self._all_us}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot; ``learn`` follows."""
        self._priced.restore(state["priced"])
        self.margin, self._all_us = state["margin"], state["all_us"]


def _moved(now: F8, then: F8) -> B1:
    moved: B1 = (np.abs(now - then) > MOVE_MIN * np.abs(then)) | (np.isnan(now) != np.isnan(then))
    return moved
