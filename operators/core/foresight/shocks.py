"""What a unit of each factor gains in every scenario: past hours at an hour's and a day's volatility, then stress.

Columns are :data:`SCENARIOS` of an hour, as many of a day, then the stress scenarios. A day's are the same hours at a
day's volatility: five hundred days are not to be had, and an hour's tails are no thinner than a day's. Contracts and
coins gain in proportion to what they are worth. Options are revalued by Black-76 on their moved forward, at their own
implied volatility, at the end of the horizon; in stress at once, with volatility moved too.

Inputs are captured (:func:`captured`) once a minute and when something new is held, and are the state: what follows
from them is computed again after a restore, to the same bits.
"""

from math import sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight.history import READY_MIN, SCENARIOS, History
from seawall.operators.core.foresight.horizon import PRIOR, YEAR_S
from seawall.operators.core.foresight.markets import HORIZONS_S, Markets
from seawall.operators.core.frames import Factors, LossBook
from seawall.operators.core.valuation.arithmetic import exp
from seawall.operators.core.valuation.options import black_value

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
Inputs = dict[str, Any]
LOSS_HORIZONS_S: Final = HORIZONS_S[2:]  # an hour, a day
LOG_MOVE_MAX: Final = 3.0  # a price times twenty
INVERSE, OPTION = 1, 2  # of Factors.kind
FORWARD, VOLATILITY, STRIKE, YEARS, CALL, COIN, RATE, SCALE = range(8)  # columns of options


def captured(book: LossBook, markets: Markets, stress: list[dict[str, Any]]) -> Inputs:
    """Return the inputs of all factors of which anything is held."""
    held = np.bincount(book.factor, minlength=len(book.factors.kind)).nonzero()[0]
    factors = book.factors
    spread = np.stack([_spread(markets, horizon, factors, held) for horizon in LOSS_HORIZONS_S])
    instruments = len(book.options[0])
    options = np.zeros((8, len(held)))
    inside = held < instruments
    options[:, inside] = book.options[:, held[inside]]
    own = [[_stressed(one, factors.name[at], bool(factors.stable[at])) for one in stress] for at in held.tolist()]
    pairs = [(factors.coin_name[at], bool(factors.coin_stable[at])) for at in held.tolist()]
    moving = (factors.coin[held] >= 0) | factors.coin_stable[held]
    coin = [[_stressed(one, *pair) for one in stress] for pair in pairs]
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


def shocks(inputs: Inputs, history: History) -> F8:
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
            _grown(units[:, place[half]].T * inputs["spread"][at, side][:, None])
            for side, half in enumerate((slice(None, count), slice(count, None)))
        )
        parts.append(_gains(inputs, own, coin, np.zeros(SCENARIOS), horizon / YEAR_S))
    parts.append(_gains(inputs, inputs["own"], inputs["coins"], inputs["volatility"], 0.0))
    return np.concatenate(parts, axis=1)


def cold(inputs: Inputs, history: History) -> NDArray[np.bool_]:
    """Return which captured factors follow an instrument of which too few hours are known."""
    found = np.zeros(len(inputs["factor"]), dtype=bool)
    for name in ("driver", "coin"):
        number = inputs[name]
        found |= (number >= 0) & (history.known(np.maximum(number, 0)) < READY_MIN)
    return found


def _gains(inputs: Inputs, own: F8, coin: F8, volatility: F8, years: float) -> F8:
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


def _spread(markets: Markets, horizon_s: int, factors: Factors, held: I8) -> F8:
    """Return the deviations of drivers and settlement assets of held factors, shape (2, factors).

    Those of an option are the wide prior's, where its underlying has no other instrument.
    """
    deviation, prior = markets.deviation(horizon_s), PRIOR * sqrt(horizon_s / YEAR_S)
    both = np.stack([factors.driver[held], factors.coin[held]])
    found = np.where(both >= 0, np.append(deviation, prior)[np.minimum(both, len(deviation))], 0.0)
    lone = (factors.kind[held] == OPTION) & (both[0] == held)
    return np.where(lone, np.stack([np.full(len(held), prior), found[1]]), found)


def _grown(returns: F8) -> F8:
    """Return simple returns of log returns."""
    return np.asarray(exp(np.clip(returns, -LOG_MOVE_MAX, LOG_MOVE_MAX)) - 1.0)


def _stressed(scenario: dict[str, Any], asset: str, stable: bool) -> float:
    if stable:
        return float(scenario["stablecoins"])
    moves = scenario["moves"]
    return float(moves.get(asset, moves.get("*", 0.0)))
