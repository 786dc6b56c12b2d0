"""Scenario margin of option books: the worst loss over a named grid of price and volatility moves.

1. Every instrument is revalued once in every scenario, whoever holds it.
2. The profit and loss of a position is its size times that of its instrument; positions of one account on one
   underlying add up scenario by scenario, and the worst of the sums is the margin of that account and underlying.
3. The margin of an account is the sum over its underlyings: no offset between them.

Profit and loss is in the instrument's settlement asset, valued at today's mark of that asset: a coin-margined account
is judged in coin, as its venue does; that its coin falls too is the business of haircuts and of the distance to
liquidation.

References
----------
Deribit, "Portfolio margin" (support article 25944756247837): price range of ±16 % in 9 buckets times volatility up,
same and down; extended table of larger moves with volatility up, of which a fraction counts. Deribit,
pages/docs/portfoliomargin (older): the volatility shock (30 / days to expiry)^0.30 x 38 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seawall.operators.core.valuation.arithmetic import power
from seawall.operators.core.valuation.options import DAYS_PER_YEAR, black_value

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
class Instruments:
    """What is revalued, one row each; only options use strike, expiry, volatility and call.

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


def unit_values(instruments: Instruments, price_move: ArrayLike, volatility_move: ArrayLike) -> F8:
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


def scenario_profits(instruments: Instruments, grid: Sequence[Scenario] = DEFAULT_GRID) -> F8:
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


def _option_values(instruments: Instruments, at: I8, price: F8, volatility: F8) -> F8:
    """Return the values of the options ``at`` in every scenario: all in one call, which costs as much as one."""
    moves = volatility_shock(instruments.expiry[at])[:, None] * volatility
    spread = Instruments(*(np.repeat(getattr(instruments, field)[at], len(price)) for field in Instruments.__slots__))
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
    >>> future = Instruments(*(np.array([x]) for x in (100.0, False, False, False, 0.0, 0.0, 0.0)))
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
