"""Scenarios: gains of a unit of each risk factor, and loss measures of books over them.

Scenarios are past hours at an hour's and a day's volatility of now, then stress. Value at risk and expected shortfall
follow Acerbi and Tasche (2002).
"""

from math import sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import LossBook, RiskFactors, ShardLosses, exp, ordered_sums
from seawall.operators.core.forecasts._markets import HORIZONS_S, MarketForecasts
from seawall.operators.core.forecasts._price_history import READY_MIN, SCENARIOS, ReturnHistory
from seawall.operators.core.forecasts._volatility import VOLATILITY_PRIOR, YEAR_S
from seawall.operators.core.pricing import black_value
from seawall.schemas.configuration import STANDARD_SCENARIOS
from seawall.schemas.measures import LOSSES

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


# Loss forecasts of the counterparties of one shard, and of the firm as the sum of the shards' profits by scenario.

# Loss measures of the counterparties of one shard, and what the firm's are added up from.
#
# Procedure, at the end of a second
# ---------------------------------
# 1. Once a minute of event time, and when something new is held, the scenarios are taken anew (`scenario_gains`).
# 2. Counterparties that traded are measured again; the others once a minute, the longest waiting first. At most
#    :data:`ROWS_MAX` rows of the book are revalued in one second: a large book's minute is spread over its seconds.
# 3. The profits of the whole book in every scenario go to the firm, which adds up shards: losses do not add,
#    profits in one scenario do.
#
# States: ``unpriced`` where something held has no price and so counts for nothing, or an option has no volatility or no
# forward; ``warming`` where something held follows an instrument with too few hours of its own; else ``ready``.


B1 = NDArray[np.bool_]
MINUTE_US: Final = 60_000_000
ROWS_MAX: Final = 8_000
LOSS_CHANGE_MIN: Final = 0.05  # of what was written last, or of 1 where that is more
LOSS_STATES: Final = ("ready", "warming", "unpriced")
READY, WARMING, UNPRICED = range(3)


def loss_measures(gained: F8) -> tuple[F8, I8]:
    """Return the measures ``LOSSES`` of profits in all scenarios, shape (measures, scopes), and the worst in stress."""
    hour, day, stress = gained[:, :SCENARIOS], gained[:, SCENARIOS : 2 * SCENARIOS], gained[:, 2 * SCENARIOS :]
    worst, at = worst_scenario(stress)
    tails = [tail(part) for part in (day, hour) for tail in (value_at_risk, expected_shortfall)]
    return np.stack([*tails, worst]), at


def loss_row(scope: str, state: int, measures: list[float], worst: str) -> dict[str, Any]:
    """Return what is published of one scope."""
    return {"scope": scope, "state": LOSS_STATES[state], **dict(zip(LOSSES, measures, strict=True)), "worst": worst}


class LossForecasts:
    """The losses of one shard's counterparties, by number: ``values`` has shape (``LOSSES``, counterparties)."""

    def __init__(self) -> None:
        self.stress = STANDARD_SCENARIOS
        self.values: F8 = np.zeros((len(LOSSES), 0))
        self._written: F8 = np.full((len(LOSSES), 0), np.nan)
        self._about: I8 = np.zeros((3, 0), dtype=np.int64)  # when measured, 0: due at once; state; worst scenario
        self._inputs: ScenarioInputs | None = None
        self._moves: F8 = np.zeros((0, 0))
        self._cold: B1 = np.zeros(0, dtype=bool)

    def configure(self, stress: list[dict[str, Any]]) -> None:
        """Take the stress scenarios."""
        if stress != self.stress:
            self.stress, self._inputs = stress, None
            self._about[0] = 0

    def update(
        self, book: LossBook, markets: MarketForecasts, history: ReturnHistory, traded: I8, as_of_us: int, minute: bool
    ) -> tuple[I8, ShardLosses]:
        """Measure what is due; return the counterparties that were, and what the firm is told."""
        self.grow(len(book.names))
        if self._inputs is None or minute or self._news(book):
            self._inputs = capture_inputs(book, markets, self.stress)
            self._derive(history)
        elif not len(self._moves):
            self._derive(history)
        self._about[0, book.party_of[traded]] = 0
        due = self._due(book, as_of_us)
        self._measure(book, due, as_of_us)
        return due, ShardLosses(self._whole(book), self._worst_state(book))

    def rows(self, book: LossBook, at: I8, everything: bool) -> list[dict[str, Any]]:
        """Return what is to be written of the counterparties ``at``: all, or what moved; take it as written."""
        now, last = self.values[:, at], self._written[:, at]
        moved = np.isnan(last) | (np.abs(now - last) > LOSS_CHANGE_MIN * np.maximum(np.abs(last), 1.0))
        chosen = at[everything | moved.any(axis=0)]
        self._written[:, chosen] = self.values[:, chosen]
        return [
            loss_row(
                f"counterparty:{book.names[one]}",
                self._about.item(1, one),
                self.values[:, one].tolist(),
                self.stress[self._about.item(2, one)]["name"],
            )
            for one in chosen.tolist()
        ]

    def grow(self, count: int) -> None:
        """Make room for counterparties."""
        more = count - self.values.shape[1]
        if more > 0:
            self.values = np.concatenate([self.values, np.zeros((len(LOSSES), more))], axis=1)
            self._written = np.concatenate([self._written, np.full((len(LOSSES), more), np.nan)], axis=1)
            self._about = np.concatenate([self._about, np.zeros((3, more), dtype=np.int64)], axis=1)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _news(self, book: LossBook) -> bool:
        """Tell whether anything is held that no scenario is known of."""
        assert self._inputs is not None
        known = np.zeros(len(book.factors.kind), dtype=bool)
        inside = self._inputs["factor"]
        if len(inside) and inside.item(-1) >= len(known):
            return True
        known[inside] = True
        return not known[book.factor].all()

    def _derive(self, history: ReturnHistory) -> None:
        """Compute what follows from the inputs."""
        assert self._inputs is not None
        self._moves, self._cold = scenario_gains(self._inputs, history), warming_factors(self._inputs, history)

    def _due(self, book: LossBook, as_of_us: int) -> I8:
        """Return who is measured now, longest waiting first: those that traded, then those of a minute ago."""
        since = self._about[0]
        order = np.argsort(since, kind="stable")
        order = order[since[order] <= as_of_us - MINUTE_US]
        size = np.bincount(book.party, minlength=len(since))[order]
        within = size.cumsum() - size < ROWS_MAX
        return np.asarray(order[within])

    def _measure(self, book: LossBook, due: I8, as_of_us: int) -> None:
        wanted = np.zeros(self.values.shape[1], dtype=bool)
        wanted[due] = True
        at = wanted[book.party].nonzero()[0]
        place = wanted.cumsum() - 1
        parties = wanted.nonzero()[0]
        factor = self._place(book)[book.factor[at]]
        of = place[book.party[at]]
        gained = scenario_profits(of, factor, book.amount[at], self._moves, len(parties))
        values, worst = loss_measures(gained)
        self.values[:, parties] = values
        warming = np.bincount(of, self._cold[factor], len(parties)) > 0
        self._about[0, parties] = as_of_us
        self._about[1, parties] = np.where(book.unpriced[parties], UNPRICED, np.where(warming, WARMING, READY))
        self._about[2, parties] = worst

    def _place(self, book: LossBook) -> I8:
        """Return the row of each factor among the captured ones."""
        assert self._inputs is not None
        place = np.zeros(len(book.factors.kind), dtype=np.int64)
        place[self._inputs["factor"]] = np.arange(len(self._inputs["factor"]))
        return place

    def _whole(self, book: LossBook) -> F8:
        """Return the profit of the whole book in every scenario."""
        assert self._inputs is not None
        amount = np.bincount(book.factor, book.amount, len(book.factors.kind))[self._inputs["factor"]]
        if not len(amount):
            return np.zeros(2 * SCENARIOS + len(self.stress))
        return ordered_sums((amount[:, None] * self._moves).T)

    def _worst_state(self, book: LossBook) -> int:
        if book.unpriced.any():
            return UNPRICED
        return WARMING if bool(self._cold[self._place(book)[book.factor]].any()) else READY

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays."""
        rows = [self.values.copy(), self._written.copy(), self._about.copy()]
        return {"rows": rows, "inputs": self._inputs, "stress": self.stress}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.values, self._written, self._about = state["rows"]
        self._inputs, self.stress = state["inputs"], state["stress"]
        self._moves = np.zeros((0, 0))


# Losses of the firm: profits of all shards' books in the same scenarios, added up in order of shard.
#
# Every shard hears all marks, so all have the same scenarios in the same order, and profits add where losses do not.

HOUR_US: Final = 3_600_000_000


class FirmLosses:
    """The measures ``LOSSES`` of the firm: ``values``, as the last second had them."""

    def __init__(self) -> None:
        self.enabled = False
        self.values: F8 = np.zeros(len(LOSSES))
        self._stress = STANDARD_SCENARIOS
        self._written: F8 = np.full(len(LOSSES), np.nan)
        self._hour = -1

    def configure(self, section: dict[str, Any]) -> None:
        """Take whether losses are measured, and the stress scenarios."""
        self.enabled = bool(section.get("enabled") and section.get("losses"))
        self._stress = scenarios_of(section)

    def update(self, parts: list[ShardLosses], as_of_us: int) -> dict[str, Any] | None:
        """Take what the shards tell at the end of a second; return what is to be written, once an hour in any case."""
        total = np.zeros(len(parts[0].profits))
        for part in parts:
            total += part.profits
        values, worst = loss_measures(total[None])
        self.values = values[:, 0]
        hour, last = as_of_us // HOUR_US, self._written
        moved = np.isnan(last) | (np.abs(self.values - last) > LOSS_CHANGE_MIN * np.maximum(np.abs(last), 1.0))
        if hour == self._hour and not moved.any():
            return None
        self._hour, self._written = hour, self.values
        state = max(part.state for part in parts)
        return loss_row("firm", state, self.values.tolist(), self._stress[worst.item(0)]["name"])

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays."""
        rows = [self.values.copy(), self._written.copy()]
        return {"enabled": self.enabled, "rows": rows, "hour": self._hour, "stress": self._stress}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.enabled, self._hour, self._stress = state["enabled"], state["hour"], state["stress"]
        self.values, self._written = state["rows"]


def scenarios_of(section: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the scenarios of a configuration's ``[forecasts]``."""
    return section.get("stress") or STANDARD_SCENARIOS
