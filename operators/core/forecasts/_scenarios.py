"""Scenarios: gains of a unit of each risk factor, and loss measures of books over them.

Scenarios are past hours at an hour's and a day's volatility of now, then stress. Value at risk and expected shortfall
follow Acerbi and Tasche (2002).
"""

from math import sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import LossBook, RiskFactors, exp, ordered_sums
from seawall.operators.core.forecasts._markets import HORIZONS_S, MarketForecasts
from seawall.operators.core.forecasts._price_history import READY_MIN, SCENARIOS, ReturnHistory
from seawall.operators.core.forecasts._volatility import VOLATILITY_PRIOR, YEAR_S
from seawall.operators.core.pricing import black_value

# Gains of a unit of each factor in every scenario: past hours at an hour's and a day's volatility, then stress.
#
# Columns are :data:`SCENARIOS` of an hour, as many of a day, then the stress scenarios. A day's are the same hours at a
# day's volatility: five hundred days are not to be had, and an hour's tails are no thinner than a day's. Contracts and
# coins gain in proportion to what they are worth. Options are revalued by Black-76 on their moved forward, at their own
# implied volatility, at the end of the horizon; in stress at once, with volatility moved too.
#
# Inputs are captured (:func:`capture_inputs`) once a minute and when something new is held, and are the state: what
# follows from them is computed again after a restore, to the same bits.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
ScenarioInputs = dict[str, Any]
LOSS_HORIZONS_S: Final = HORIZONS_S[2:]  # an hour, a day
LOG_MOVE_MAX: Final = 3.0  # a price times twenty
INVERSE, OPTION = 1, 2  # of Factors.kind
FORWARD, VOLATILITY, STRIKE, YEARS, CALL, COIN, RATE, SCALE = range(8)  # columns of options


def capture_inputs(book: LossBook, markets: MarketForecasts, stress: list[dict[str, Any]]) -> ScenarioInputs:
    """Return the inputs of all factors of which anything is held."""
    held = np.bincount(book.factor, minlength=len(book.factors.kind)).nonzero()[0]
    factors = book.factors
    spread = np.stack([_driver_deviations(markets, horizon, factors, held) for horizon in LOSS_HORIZONS_S])
    instruments = len(book.options[0])
    options = np.zeros((8, len(held)))
    inside = held < instruments
    options[:, inside] = book.options[:, held[inside]]
    own = [[_stress_gains(one, factors.name[at], bool(factors.stable[at])) for one in stress] for at in held.tolist()]
    pairs = [(factors.coin_name[at], bool(factors.coin_stable[at])) for at in held.tolist()]
    moving = (factors.coin[held] >= 0) | factors.coin_stable[held]
    coin = [[_stress_gains(one, *pair) for one in stress] for pair in pairs]
    return {
        "factor": held,
        "driver": factors.driver[held],
        "coin": factors.coin[held],
        "kind": factors.kind[held],
        "spread": spread,
        "options": options,
        "own": np.array(own).reshape(len(held), len(stress)),
        "coins": np.array(coin).reshape(len(held), len(stress)) * moving[:, None],
        "volatility": np.array([one["volatility"] for one in stress]),
    }


def scenario_gains(inputs: ScenarioInputs, history: ReturnHistory) -> F8:
    """Return what a unit of each captured factor gains, shape (factors, 2 x SCENARIOS + stress)."""
    drivers, place = np.unique(np.concatenate([inputs["driver"], inputs["coin"]]), return_inverse=True)
    known = drivers >= 0
    units = np.zeros((SCENARIOS, len(drivers)))
    if known.any():
        units[:, known] = history.units(drivers[known])
    count = len(inputs["factor"])
    parts = []
    for at, horizon in enumerate(LOSS_HORIZONS_S):
        own, coin = (
            _simple_returns(units[:, place[half]].T * inputs["spread"][at, side][:, None])
            for side, half in enumerate((slice(None, count), slice(count, None)))
        )
        parts.append(_price_gains(inputs, own, coin, np.zeros(SCENARIOS), horizon / YEAR_S))
    parts.append(_price_gains(inputs, inputs["own"], inputs["coins"], inputs["volatility"], 0.0))
    return np.concatenate(parts, axis=1)


def warming_factors(inputs: ScenarioInputs, history: ReturnHistory) -> NDArray[np.bool_]:
    """Return which captured factors follow an instrument of which too few hours are known."""
    found = np.zeros(len(inputs["factor"]), dtype=bool)
    for name in ("driver", "coin"):
        number = inputs[name]
        found |= (number >= 0) & (history.known(np.maximum(number, 0)) < READY_MIN)
    return found


def _price_gains(inputs: ScenarioInputs, own: F8, coin: F8, volatility: F8, years: float) -> F8:
    """Return gains of a unit for moves of shape (factors, scenarios)."""
    kind = inputs["kind"][:, None]
    found = np.where(kind == INVERSE, (1.0 + coin) / (1.0 + own) - 1.0, (1.0 + own) * (1.0 + coin) - 1.0)
    at = (inputs["kind"] == OPTION).nonzero()[0]
    if len(at):
        found[at] = _option_gains(inputs["options"][:, at], own[at], coin[at], volatility, years)
    return found


def _option_gains(options: F8, own: F8, coin: F8, volatility: F8, years: float) -> F8:
    """Return gains of a unit of options, in the reporting currency."""
    rows = [options[at][:, None] for at in range(8)]
    now = black_value(rows[FORWARD], rows[STRIKE], rows[YEARS], rows[VOLATILITY], rows[CALL] > 0, rows[RATE])
    forward, left = rows[FORWARD] * (1.0 + own), np.maximum(rows[YEARS] - years, 0.0)
    moved = black_value(forward, rows[STRIKE], left, rows[VOLATILITY] * (1.0 + volatility), rows[CALL] > 0, rows[RATE])
    in_coin = rows[COIN] > 0
    before = np.where(in_coin, now / rows[FORWARD], now)
    after = np.where(in_coin, moved / forward, moved)
    return np.asarray(rows[SCALE] * (after * (1.0 + coin) - before))


def _driver_deviations(markets: MarketForecasts, horizon_s: int, factors: RiskFactors, held: I8) -> F8:
    """Return the deviations of drivers and settlement assets of held factors, shape (2, factors).

    Those of an option are the wide prior's, where its underlying has no other instrument.
    """
    deviation, prior = markets.deviation(horizon_s), VOLATILITY_PRIOR * sqrt(horizon_s / YEAR_S)
    both = np.stack([factors.driver[held], factors.coin[held]])
    found = np.where(both >= 0, np.append(deviation, prior)[np.minimum(both, len(deviation))], 0.0)
    isolated = (factors.kind[held] == OPTION) & (both[0] == held)
    return np.where(isolated, np.stack([np.full(len(held), prior), found[1]]), found)


def _simple_returns(returns: F8) -> F8:
    """Return simple returns of log returns."""
    return np.asarray(exp(np.clip(returns, -LOG_MOVE_MAX, LOG_MOVE_MAX)) - 1.0)


def _stress_gains(scenario: dict[str, Any], asset: str, stable: bool) -> float:
    if stable:
        return float(scenario["stablecoins"])
    moves = scenario["moves"]
    return float(moves.get(asset, moves.get("*", 0.0)))


# Loss measures of books over scenarios: value at risk, expected shortfall, and the worst of a named grid.
#
# Scenarios weigh alike. Value at risk is the smallest loss that a share of at least 99 % does not exceed; expected
# shortfall the mean of the worst 2.5 %, of which a scenario that lies across the bound counts with its part (Acerbi and
# Tasche 2002, definition 2.6). A book that gains in all of them loses 0.

SCOPES_AT_ONCE: Final = 64  # rows at once: their profits in a thousand scenarios stay in the cache of a core


def scenario_profits(scope: I8, factor: I8, amount: F8, moves: F8, scopes: int) -> F8:
    """Return the profit of each scope in each scenario, shape (scopes, scenarios).

    Parameters
    ----------
    scope, factor : int64, shape (rows,)
        Whose, ascending; and the row of ``moves``.
    amount : float64, shape (rows,)
        What each row holds of its factor.
    moves : float64, shape (factors, scenarios)
        What a unit of each factor gains.

    Examples
    --------
    >>> at = np.array([0, 0, 2]), np.array([0, 1, 1]), np.array([10.0, -5.0, 1.0])
    >>> scenario_profits(*at, np.array([[0.1, -0.1], [0.2, 0.0]]), 3).tolist()
    [[0.0, -1.0], [0.0, 0.0], [0.2, 0.0]]
    """
    found = np.zeros((scopes, moves.shape[1]))
    for first in range(0, len(scope), SCOPES_AT_ONCE):
        rows = slice(first, first + SCOPES_AT_ONCE)
        of, gained = scope[rows], amount[rows, None] * moves[factor[rows]]
        starts = np.append(0, (of[1:] != of[:-1]).nonzero()[0] + 1)
        found[of[starts]] += np.add.reduceat(gained, starts, axis=0)
    return found


def value_at_risk(gained: F8, tail: float = 0.01) -> F8:
    """Return the loss that a share ``1 - tail`` of scenarios does not exceed, at least 0, of each row.

    Examples
    --------
    >>> value_at_risk(-np.arange(1.0, 101.0)[None]).tolist()
    [99.0]
    """
    at = int(np.floor(tail * gained.shape[1] + 1e-9))
    return np.maximum(-np.partition(gained, at, axis=1)[:, at], 0.0)


def expected_shortfall(gained: F8, tail: float = 0.025) -> F8:
    """Return the mean loss of the worst share ``tail`` of scenarios, at least 0, of each row.

    Examples
    --------
    >>> expected_shortfall(-np.arange(1.0, 101.0)[None]).tolist()
    [99.2]
    """
    mass = tail * gained.shape[1]
    whole = int(np.floor(mass + 1e-9))
    worst = np.sort(np.partition(gained, whole, axis=1)[:, : whole + 1], axis=1)
    total = ordered_sums(worst[:, :whole]) + max(mass - whole, 0.0) * worst[:, whole]
    return np.asarray(np.maximum(-total / mass, 0.0))


def worst_scenario(gained: F8) -> tuple[F8, I8]:
    """Return the largest loss of each row, at least 0, and the scenario that makes it."""
    at = gained.argmin(axis=1)
    return np.maximum(-gained[np.arange(len(gained)), at], 0.0), at
