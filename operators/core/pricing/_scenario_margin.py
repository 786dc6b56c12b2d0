"""Scenario margin: the worst loss of option books over a grid of price and volatility moves.

The model comes first, as functions of arrays; `ScenarioBook` keeps its result up to date for the accounts of one shard
that ask for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seawall.operators.core.base import Columns, power
from seawall.operators.core.holdings import Directory, KeyNumbers, Positions, PositionSubset
from seawall.operators.core.pricing._marks import Marks
from seawall.operators.core.pricing._option_models import DAYS_PER_YEAR, black_value, years_to_expiry
from seawall.operators.core.pricing._option_sheet import OptionSheet

# Scenario margin of option books: the worst loss over a named grid of price and volatility moves.
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
# References
# ----------
# Deribit, "Portfolio margin" (support article 25944756247837): price range of ±16 % in 9 buckets times volatility up,
# same and down; extended table of larger moves with volatility up, of which a fraction counts. Deribit,
# pages/docs/portfoliomargin (older): the volatility shock (30 / days to expiry)^0.30 x 38 %.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]

SHOCK: Final = 0.38  # relative move of an implied volatility with 30 days to go
SHOCK_EXPONENT: Final = 0.30
SHOCK_DAYS: Final = 30.0
SHOCK_DAYS_MIN: Final = 1.0  # nearer expiries are shocked like one day


@dataclass(frozen=True, slots=True)
class Scenario:
    """One move: of the price (a fraction), of volatility (-1 down, 0 same, 1 up), and how much of the loss counts."""

    price: float
    volatility: int
    weight: float = 1.0


BUCKETS: Final = tuple(0.04 * step for step in range(-4, 5))
DEFAULT_GRID: Final = tuple(Scenario(price, volatility) for price in BUCKETS for volatility in (-1, 0, 1))
# the moves are Deribit's; the weight, which makes a linear position lose what it loses at 16 %, is our choice
EXTENDED_GRID: Final = DEFAULT_GRID + tuple(
    Scenario(move, 1, 0.16 / abs(move)) for move in (-0.66, -0.33, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
)
GRIDS: Final = {"default": DEFAULT_GRID, "extended": EXTENDED_GRID}


@dataclass(frozen=True, slots=True)
class ScenarioInstruments:
    """Instruments that are revalued, one row each; only options use strike, expiry, volatility and call.

    Parameters
    ----------
    price : float64
        The forward for options, the mark for everything else, in quote currency per unit.
    inverse : bool
        Whether profit and loss is in coin: of a linear payoff ``1/price``, of an option its value over its forward.
    option, call : bool
    strike, expiry, volatility : float64
        Quote currency, years, fraction per year^½.
    """

    price: F8
    inverse: B1
    option: B1
    call: B1
    strike: F8
    expiry: F8
    volatility: F8


@dataclass(frozen=True, slots=True)
class ScenarioMargins:
    """Margin per account and, below it, per account and underlying with the scenario that is worst for it."""

    margin: F8
    account: I8
    underlying: I8
    loss: F8
    worst: I8


def volatility_shock(expiry: ArrayLike) -> F8:
    """Return the relative volatility move of options with ``expiry`` years to go.

    Examples
    --------
    >>> [round(float(volatility_shock(days / 365)), 6) for days in (30, 15, 7, 1)]
    [0.38, 0.467835, 0.588018, 1.054193]
    """
    days = np.maximum(np.asarray(expiry, np.float64) * DAYS_PER_YEAR, SHOCK_DAYS_MIN)
    shock: F8 = SHOCK * power(SHOCK_DAYS / days, SHOCK_EXPONENT)
    return shock


def unit_values(instruments: ScenarioInstruments, price_move: ArrayLike, volatility_move: ArrayLike) -> F8:
    """Return the value of one unit, in its settlement asset, after relative moves of its price and volatility.

    A future's value is its price, an inverse one's minus 1 / price: only differences of it mean anything.
    """
    price = instruments.price * (1.0 + np.asarray(price_move, np.float64))
    volatility = np.maximum(instruments.volatility * (1.0 + np.asarray(volatility_move, np.float64)), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        linear = np.where(instruments.inverse, -1.0 / price, price)
        at = np.flatnonzero(instruments.option)
        if len(at):
            value = black_value(
                price[at], instruments.strike[at], instruments.expiry[at], volatility[at], instruments.call[at]
            )
            linear[at] = np.where(instruments.inverse[at], value / price[at], value)
    return linear


def scenario_profits(instruments: ScenarioInstruments, grid: Sequence[Scenario] = DEFAULT_GRID) -> F8:
    """Return the profit of one unit of each instrument in each scenario, shape (instruments, scenarios), weighted."""
    price = np.array([0.0, *(one.price for one in grid)])  # today first
    moved = instruments.price[:, None] * (1.0 + price)
    with np.errstate(divide="ignore"):
        values = np.where(instruments.inverse[:, None], -1.0 / moved, moved)
    at = np.flatnonzero(instruments.option)
    if len(at):
        values[at] = _option_values(instruments, at, price, np.array([0.0, *(one.volatility for one in grid)]))
    profits: F8 = (values[:, 1:] - values[:, :1]) * np.array([one.weight for one in grid])
    return profits


def _option_values(instruments: ScenarioInstruments, at: I8, price: F8, volatility: F8) -> F8:
    """Return the values of the options ``at`` in every scenario: all in one call, which costs as much as one."""
    moves = volatility_shock(instruments.expiry[at])[:, None] * volatility
    spread = ScenarioInstruments(
        *(np.repeat(getattr(instruments, field)[at], len(price)) for field in ScenarioInstruments.__slots__)
    )
    values = unit_values(spread, np.tile(price, len(at)), moves.ravel())
    return values.reshape(len(at), len(price))


def scenario_margins(
    account: I8, underlying: I8, instrument: I8, size: F8, profits: F8, settlement_price: F8, accounts: int
) -> ScenarioMargins:
    """Return the worst loss of each account, underlying by underlying.

    Parameters
    ----------
    account, underlying, instrument : int64, shape (positions,)
        Account below ``accounts``; instrument is a row of ``profits``.
    size : float64, shape (positions,)
        Signed units, contract size included.
    profits : float64, shape (instruments, scenarios)
        Of :func:`scenario_profits`, which is computed once for all accounts.
    settlement_price : float64, shape (instruments,)
        Today's mark of the settlement asset in the reporting currency.

    Returns
    -------
    ScenarioMargins
        Losses in the reporting currency, at least 0. A position without a mark makes its account's margin NaN.

    Examples
    --------
    >>> future = ScenarioInstruments(*(np.array([x]) for x in (100.0, False, False, False, 0.0, 0.0, 0.0)))
    >>> one = np.zeros(1, np.int64)
    >>> found = scenario_margins(one, one, one, np.array([-2.0]), scenario_profits(future), np.ones(1), 1)
    >>> round(float(found.margin[0]), 9), DEFAULT_GRID[found.worst[0]].price
    (32.0, 0.16)
    """
    keys, member = np.unique((account << 32) | underlying, return_inverse=True)
    loss, worst = worst_losses(member, instrument, size, profits, settlement_price, len(keys))
    margin = np.bincount(keys >> 32, weights=loss, minlength=accounts).astype(np.float64)
    return ScenarioMargins(margin, keys >> 32, keys & 0xFFFFFFFF, loss, worst)


def worst_losses(group: I8, instrument: I8, size: F8, profits: F8, settlement_price: F8, groups: int) -> tuple[F8, I8]:
    """Return the worst loss, at least 0, of each group of positions that offset each other, and its scenario.

    Parameters are those of :func:`scenario_margins`, by position; ``group`` is below ``groups``.
    """
    # one weighted count over (position, scenario): each sum still runs over its positions in their order
    weights = profits[instrument] * (size * settlement_price[instrument])[:, None]
    scenarios = profits.shape[1]
    places = group[:, None] * scenarios + np.arange(scenarios)
    total = np.bincount(places.ravel(), weights.ravel(), groups * scenarios).reshape(groups, scenarios)
    worst = total.argmin(axis=1)
    return np.maximum(-total[np.arange(groups), worst], 0.0), worst


# Scenario margin of the accounts that ask for it, kept up to date by what changed.
#
# 1. The profits of an instrument in the scenarios of the default grid are computed once, whoever holds it, and again
#    when its price or volatility moved by ``MOVE_MIN``, that of an option after ``AGE_MAX_US`` too.
# 2. Positions of one account on one underlying are a *pair*, which offsets within itself. A pair is revalued where
#    units of it, profits of its instruments or the rate of their settlement asset changed since it was last.
# 3. The margin of an account is the sum of its pairs. It is taken when something of the account was traded and, for all
#    accounts, every ``EVERY_US`` of event time.
#
# What pairs lose follows from the book and the profits and is no state: after a restore all of it is computed again, to
# the same bits, before it is next taken.

EVERY_US: Final = 10_000_000
MOVE_MIN: Final = 5e-4  # of price or volatility
AGE_MAX_US: Final = 10_000_000
VOLATILITY_UNKNOWN: Final = 1.5  # of an option that has none: the supervisory one of crypto (OSFI)


class ScenarioBook:
    """The accounts of one shard with scenario margin; ``margin`` is by own account, in the reporting currency."""

    def __init__(self, directory: Directory, marks: Marks, positions: Positions, sheet: OptionSheet) -> None:
        self._directory, self._marks, self._positions, self._sheet = directory, marks, positions, sheet
        self.margin: F8 = np.zeros(0)
        self._priced = Columns({"price": "f8", "volatility": "f8", "us": "i8"})  # at what profits were computed
        self._profits: F8 = np.zeros((0, len(DEFAULT_GRID)))
        self._all_us = 0
        self._forget()

    def learn(self, accounts: int) -> None:
        """Take what the directory has learned; ``accounts`` is the number of own ones."""
        self.margin = np.append(self.margin, np.zeros(accounts - len(self.margin)))
        more = len(self._directory.instrument_records) - self._priced.size
        if more:
            self._priced.append(more)
        self._profits = np.zeros((self._priced.size, len(DEFAULT_GRID)))
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
        """Compute the scenario profits of instruments at the inputs that ``_priced`` holds; 0 without a price."""
        if not len(at):
            return
        arrays, terms, inputs = self._directory.arrays, self._sheet.terms, self._priced
        option = arrays["option"][at]
        strike, expiry, call, coin = np.ones(len(at)), np.zeros(len(at)), np.zeros_like(option), arrays["inverse"][at]
        options = option.nonzero()[0]
        row = terms.row[at[options]]
        strike[options], call[options], coin[options] = terms.strike[row], terms.call[row], terms.coin[row]
        expiry[options] = years_to_expiry(terms.expiry_us[row], inputs["us"][at[options]])
        held = ScenarioInstruments(inputs["price"][at], coin, option, call, strike, expiry, inputs["volatility"][at])
        profits = scenario_profits(held, DEFAULT_GRID)
        self._profits[at] = np.where(np.isnan(profits), 0.0, profits)

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
