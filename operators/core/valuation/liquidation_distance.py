"""How far prices must move until an account is liquidated: the relative move that takes its margin ratio to 1.

Health is equity less maintenance margin; an account is liquidated where health is 0. In spot, linear and inverse
contracts health is a straight line in the move, so one division finds the point. (An inverse position's coin profit
``size x (1/entry - 1/price)`` times the coin's price is linear in that price.) Option books are not straight: theirs is
found by revaluing at trial moves, within a bracket.

A move is a fraction of today's price: -0.2 is a fall by a fifth. It can fall by at most 1 and rise without bound; an
account that no move of that side liquidates is at infinity there.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.valuation.scenario_margin import Instruments, unit_values

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

# where option books are looked at first: past the last of them an account counts as safe
TRIAL_MOVES = (0.01, 0.02, 0.04, 0.08, 0.12, 0.16, 0.22, 0.3, 0.4, 0.5, 0.65, 0.8, 0.95)
TRIAL_RISES = (1.25, 1.6, 2.0, 3.0, 4.0, 5.0)  # beyond -1 there is no further fall
DISTANCE_MAX = 1_000_000.0  # stands for infinity, as the largest ratio does (contract.md, "Ratios")
HALVINGS = 40  # of a bracket at most 1 wide: to 1e-12


class Distance(NamedTuple):
    """The nearest fall (negative, or -inf) and the nearest rise (positive, or inf) at which health is 0."""

    down: F8
    up: F8

    @property
    def nearest(self) -> F8:
        """Return the size of the smaller of the two moves: 0 where an account is already there, inf where none is."""
        return np.minimum(-self.down, self.up)


def linear_distance(health: F8, slope: F8) -> Distance:
    """Return the distance of accounts whose health is a straight line in the move.

    Parameters
    ----------
    health : float64
        Equity less maintenance margin today.
    slope : float64
        Change of health per move of 1: for a linear position its signed notional less its maintenance margin, for an
        inverse one :func:`inverse_slope`, for a coin balance its value after haircut.

    Examples
    --------
    >>> distance = linear_distance(np.array([10.0, 10.0, -1.0]), np.array([100.0, 0.0, 5.0]))
    >>> distance.down.tolist(), distance.up.tolist(), distance.nearest.tolist()
    ([-0.1, -inf, 0.0], [inf, inf, 0.0], [0.1, inf, 0.0])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        move = -health / slope
    down = np.where((move < 0) & (move >= -1.0), move, -np.inf)
    up = np.where((move > 0) & np.isfinite(move), move, np.inf)
    over = health <= 0
    unknown = np.isnan(health) | np.isnan(slope)
    down = np.where(unknown, np.nan, np.where(over, 0.0, down))
    return Distance(down, np.where(unknown, np.nan, np.where(over, 0.0, up)))


def nearest_distance(equity: F8, maintenance: F8, slope: F8) -> F8:
    """Return the size of the nearest move that takes each margin ratio to 1, as one number for tables of measures.

    The nearest of :func:`linear_distance`, with 1,000,000 for infinity, and for an account without a maintenance margin
    (it has no positions, or none that need one).

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


def inverse_slope(notional: F8, unrealised: F8) -> F8:
    """Return the slope of inverse positions whose profit lies in the coin that moves.

    ``notional`` is signed and ``unrealised`` the profit today, both in quote currency. The maintenance margin of an
    inverse position is a fraction of a notional that does not move with the price, so it has no part in the slope.
    """
    return notional + unrealised


def distances(
    account: I8, underlying: I8, slope: F8, moves: NDArray[np.bool_], health: F8
) -> tuple[Distance, I8, I8, Distance]:
    """Return how far each account is from liquidation: (a) all non-fiat assets together, (b) each underlying alone.

    Parameters
    ----------
    account, underlying : int64, shape (rows,)
        Of every position and every balance; any order.
    slope : float64, shape (rows,)
        As in :func:`linear_distance`, row by row.
    moves : bool, shape (rows,)
        False for fiat, which stays as it is.
    health : float64, shape (accounts,)

    Returns
    -------
    tuple
        The distance of each account with all together; then account, underlying and distance of each pair in use.

    Examples
    --------
    >>> zero = np.zeros(2, np.int64)
    >>> rows = (zero, np.array([1, 2]), np.array([50.0, -40.0]), np.ones(2, bool))
    >>> together, _, alone, single = distances(*rows, np.array([5.0]))
    >>> together.down.tolist(), alone.tolist(), single.down.tolist(), single.up.tolist()
    ([-0.5], [1, 2], [-0.1, -inf], [inf, 0.125])
    """
    moved = np.where(moves, slope, 0.0)
    together = linear_distance(health, _totals(account, moved, len(health)))
    at = np.flatnonzero(moves)
    keys, member = np.unique((account[at] << 32) | underlying[at], return_inverse=True)
    of = keys >> 32
    single = linear_distance(health[of], _totals(member, moved[at], len(keys)))
    return together, of, keys & 0xFFFFFFFF, single


def option_book_health(
    account: I8, held: Instruments, size: F8, settlement_price: F8, health: F8, slope: F8
) -> Callable[[F8], F8]:
    """Return the health of accounts as a function of the move of all their underlyings, options revalued.

    Parameters
    ----------
    account : int64, shape (positions,)
        Of the option positions only.
    held : Instruments, shape (positions,)
        The instrument of each position.
    size, settlement_price : float64, shape (positions,)
        Signed units; today's mark of the settlement asset in the reporting currency (1 for it itself).
    health, slope : float64, shape (accounts,)
        Equity less maintenance margin today, and the slope of everything that is no option.

    Notes
    -----
    Volatility and the maintenance margin of options stay as they are; what an inverse option pays in coin is valued at
    the moved coin.
    """
    today = unit_values(held, 0.0, 0.0)

    def health_at(move: F8) -> F8:
        moved = move[account]
        price = settlement_price * np.where(held.inverse, 1.0 + moved, 1.0)
        profit = size * (unit_values(held, moved, 0.0) - today) * price
        return health + slope * move + _totals(account, profit, len(health))

    return health_at


def revalued_distance(health_at: Callable[[F8], F8], accounts: int) -> Distance:
    """Return the distance of accounts with options: the first trial move that liquidates, then halving back from it.

    Parameters
    ----------
    health_at
        Health of every account, given the move of every account (float64, shape (accounts,)). A pure function; it is
        called about 110 times.
    accounts
        Number of accounts.

    Notes
    -----
    Between two neighbouring trial moves health is taken to cross 0 at most once. A book that is liquidated only in a
    gap narrower than that is not found; the scenario margin of its own venue sees a coarser grid still.
    """
    start = health_at(np.zeros(accounts))
    down = -_first_crossing(lambda size: health_at(-size), start, (*TRIAL_MOVES, 1.0 - 1e-9))
    up = _first_crossing(health_at, start, (*TRIAL_MOVES, 1.0, *TRIAL_RISES))
    return Distance(down, up)


def _totals(group: I8, values: F8, groups: int) -> F8:
    """Return the sum of each group, added in the order of the rows."""
    return np.bincount(group, weights=values, minlength=groups).astype(np.float64)


def _first_crossing(health_at: Callable[[F8], F8], start: F8, trials: tuple[float, ...]) -> F8:
    safe, broken = np.zeros(len(start)), np.full(len(start), np.inf)
    found = start <= 0
    broken[found] = 0.0
    for trial in trials:
        if found.all():
            break
        crossed = ~found & (health_at(np.full(len(start), trial)) <= 0)
        broken[crossed] = trial
        found |= crossed
        safe[~found] = trial
    inside = np.isfinite(broken) & (broken > 0)
    for _ in range(HALVINGS if inside.any() else 0):
        middle = np.where(inside, 0.5 * (safe + broken), 0.0)
        over = health_at(middle) <= 0
        broken = np.where(inside & over, middle, broken)
        safe = np.where(inside & ~over, middle, safe)
    return np.where(np.isnan(start), np.nan, broken)
