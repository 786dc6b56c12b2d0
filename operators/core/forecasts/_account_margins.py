"""Margin forecasts of accounts: the probability that each comes to its margin level, and the rows that are written.

`AccountHabits` is what is known of an account beside its book: what it usually holds, how it trades, pays in, and has
broken before.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import ForecastInputs, MeasureTable, exp, log
from seawall.operators.core.forecasts._markets import (
    HORIZONS_S,
    VOLATILITY_STATES,
    MarketForecasts,
    underlying_deviations,
)
from seawall.operators.core.forecasts._models import (
    ACCOUNT_LAYOUT,
    MODEL_NAMES,
    SAMPLING_PERIOD_S,
    LevelModels,
    leading_terms,
    sample_forecasts,
)
from seawall.operators.core.forecasts._sensitivities import SensitivityRows, health_deviation, standardised_distance
from seawall.schemas.measures import ACCOUNT, PROBABILITIES

# Habits of accounts: what it usually holds, how it trades, pays in, and has broken before.
#
# Everything is weighted exponentially in event time and moves once per minute; between two looks an account is taken to
# have stood as at the first.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
DAY_S: Final = 86_400.0
GROSS_SQUARE, RATIO_MEAN, FILLS, PAID, BREACHES, LAST_GROSS, LAST_RATIO, LAST_PAID = range(8)
TIMES_S: Final = (DAY_S, DAY_S, DAY_S, 3 * DAY_S, 30 * DAY_S)  # of the first five
TREND_SHIFT: Final = 0.02  # a ratio below it is as good as none


class HabitValues(NamedTuple):
    """Per account: mean square of gross notional over a day, mean margin ratio, fills a day, sums paid in, breaches."""

    gross_square: F8
    ratio: F8
    fills: F8
    paid: F8
    breaches: F8


class AccountHabits:
    """Habits of the accounts of one shard, by number."""

    def __init__(self) -> None:
        self._rows: F8 = np.zeros((8, 0))
        self._us = 0

    def look(self, as_of_us: int, gross: F8, ratio: F8, contributed: F8, filled: I8) -> None:
        """Move to a time: what stood since the last look is taken in, then what stands now is noted.

        ``filled`` holds the account of every fill since.
        """
        self.grow(len(gross))
        rows, elapsed = self._rows, (as_of_us - self._us) / 1e6 if self._us else 0.0
        keep = exp(-elapsed / np.array(TIMES_S))
        for mean, last in ((GROSS_SQUARE, LAST_GROSS), (RATIO_MEAN, LAST_RATIO)):
            now = rows[last] * rows[last] if mean == GROSS_SQUARE else rows[last]
            rows[mean] = keep[mean] * rows[mean] + (1.0 - keep[mean]) * now
        for count in (FILLS, PAID, BREACHES):
            rows[count] *= keep[count]
        rows[FILLS] += np.bincount(filled, minlength=len(gross))[: len(gross)]
        rows[PAID] += np.maximum(contributed - rows[LAST_PAID], 0.0)
        rows[LAST_GROSS], rows[LAST_RATIO], rows[LAST_PAID] = gross, ratio, contributed
        self._us = as_of_us

    def broke(self, accounts: I8) -> None:
        """Note that accounts crossed their level."""
        self._rows[BREACHES, accounts] += 1.0

    def habits(self) -> HabitValues:
        """Return what is usual."""
        return HabitValues(*self._rows[:LAST_GROSS])

    def grow(self, count: int) -> None:
        """Make room for accounts."""
        more = count - self._rows.shape[1]
        if more > 0:
            self._rows = np.concatenate([self._rows, np.zeros((8, more))], axis=1)

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        return [self._rows.copy(), self._us]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self._rows, self._us = state


def expected_growth(gross: F8, gross_square: F8, horizon_s: float) -> F8:
    """Return by how much a book's risk over a horizon differs from that of the book as it stands.

    Positions go back to what is usual within a day: the mean square over the horizon is a mixture of today's and the
    usual one, ``1 - (1 - exp(-h)) / h`` of the latter with ``h`` in days. Who is small today and was large yesterday
    will be large.
    """
    days = horizon_s / DAY_S
    usual = 1.0 - (1.0 - float(exp(-days))) / days
    safe = np.where(gross > 0, gross, 1.0)
    mixed = (1.0 - usual) + usual * gross_square / (safe * safe)
    return np.where(gross > 0, np.sqrt(mixed), 1.0)


def margin_terms(distance: F8, ratio: F8, concentration: F8, equity: F8, habits: HabitValues) -> F8:
    """Return the terms of the calibration, shape (7, accounts), in the order of ``ACCOUNT_TERMS``."""
    near = -log(distance)
    trend = log((ratio + TREND_SHIFT) / (habits.ratio + TREND_SHIFT))
    paid = log(1.0 + habits.paid / np.maximum(equity, 1e-9))
    rate, broken = log(1.0 + habits.fills) / 3.0, log(1.0 + habits.breaches)
    odds = np.minimum(np.maximum(log(np.maximum(ratio, 1e-9) / np.maximum(1.0 - ratio, 1e-9)), -8.0), 3.0)
    return np.stack([np.ones(len(near)), near, concentration - 1.0, trend, paid, rate, broken, odds])


# Margin forecasts: probability of each account to come to its margin level within each horizon.
#
# Levels are those of the limit in force on ``margin_ratio`` of all accounts, where there is one; else 1, the hard one.
# The measures are those of the hard level; an account that is there already has 1, one without a margin 0.

WrittenForecasts = dict[
    tuple[str, int], tuple[I8, F8, F8]
]  # by level and horizon: accounts, terms, what every model says
MARGIN_LEVELS: Final = ("soft", "hard")
EQUITY, GROSS, MAINTENANCE, RATIO = (
    ACCOUNT.index(name) for name in ("equity", "gross_notional", "maintenance_margin", "margin_ratio")
)
MEASURED_S: Final = (3600, 86_400)  # of PROBABILITIES
HOUR_US: Final = int(SAMPLING_PERIOD_S) * 1_000_000


class MarginForecasts:
    """The forecasts of the margin levels of one shard's accounts, by number.

    ``measured`` has shape (``PROBABILITIES``, accounts); ``written`` is the probability within a day that was written
    last, -1 for none; ``crossed``, of shape (``MARGIN_LEVELS``, accounts), when each last came to each level.
    """

    def __init__(self) -> None:
        self.bounds: dict[str, float] = {"hard": 1.0}
        self.models = {(level, horizon): LevelModels(horizon) for level in MARGIN_LEVELS for horizon in HORIZONS_S}
        self.measured: F8 = np.zeros((len(PROBABILITIES), 0))
        self.written: F8 = np.zeros(0)
        self._accounts = AccountHabits()
        self.crossed: F8 = np.zeros((len(MARGIN_LEVELS), 0))
        self._at_level: F8 = np.zeros((len(MARGIN_LEVELS), 0))  # 1 where it stands there

    def configure(self, limits: list[dict[str, Any]]) -> None:
        """Take the levels from the limits in force."""
        self.bounds = {"hard": 1.0}
        for limit in limits:
            named = (limit["scope"], limit["measure"], limit["direction"])
            if named == ("account:*", "margin_ratio", "above") and "window_s" not in limit:  # no limit on its speed
                self.bounds = {level: float(limit[level]) for level in MARGIN_LEVELS if level in limit} or {"hard": 1.0}
                return

    def grow(self, count: int) -> None:
        """Make room for accounts."""
        more = count - len(self.written)
        if more > 0:
            self.crossed, self._at_level, self.measured = (
                np.concatenate([rows, np.zeros((len(rows), more))], axis=1)
                for rows in (self.crossed, self._at_level, self.measured)
            )
            self.written = np.append(self.written, np.full(more, -1.0))
            self._accounts.grow(count)

    def resolve(self, as_of_us: int) -> None:
        """Score what is due."""
        for (level, _), models in self.models.items():
            models.resolve(as_of_us, self.crossed[MARGIN_LEVELS.index(level)])

    def note(self, ratio: F8, as_of_us: int) -> None:
        """Note who came to a level."""
        for at, level in enumerate(MARGIN_LEVELS):
            there = ratio >= self.bounds.get(level, np.inf)
            came = (there & (self._at_level[at] == 0.0)).nonzero()[0]
            self._at_level[at] = there
            self.crossed[at, came] = as_of_us
            if not len(came):
                continue
            for horizon in HORIZONS_S:
                self.models[level, horizon].record.broke(came)
            if level == "hard":
                self._accounts.broke(came)

    def look(self, as_of_us: int, values: F8, book: ForecastInputs, filled: list[int]) -> None:
        """Take how accounts stand and what they traded since the last minute, of which habits are made."""
        ratio = np.minimum(values[RATIO], 1.0)
        self._accounts.look(as_of_us, values[GROSS], ratio, book.contributed, np.array(filled, dtype=np.int64))

    def forecast(
        self, held: SensitivityRows, book: ForecastInputs, values: F8, markets: MarketForecasts
    ) -> WrittenForecasts:
        """Forecast every account with a margin that is not at a level already, and take what limits may be on."""
        count, habits = values.shape[1], self._accounts.habits()
        by_underlying = markets.of_underlyings(book)
        rho = markets.rho_of(by_underlying)
        focus = _herfindahl_index(held, count)
        found = {}
        for level, bound in self.bounds.items():
            active = ((values[MAINTENANCE] > 0) & (values[RATIO] < bound)).nonzero()[0]
            health = (bound * values[EQUITY] - values[MAINTENANCE])[active]
            for horizon in HORIZONS_S:
                spread = health_deviation(
                    held, bound, underlying_deviations(markets, by_underlying, horizon), rho, count
                )[active]
                growth = expected_growth(values[GROSS], habits.gross_square, horizon)[active]
                near = standardised_distance(health, spread * growth)
                usual = type(habits)(*(row[active] for row in habits))
                about = margin_terms(near, values[RATIO][active], focus[active], values[EQUITY][active], usual)
                found[level, horizon] = active, about, self.models[level, horizon].forecast(about, active)
        self._measure(found, values)
        return found

    def keep(self, said: WrittenForecasts, as_of_us: int) -> None:
        """Keep forecasts to learn from: all, or the most endangered half of a bounded number and some of the others."""
        for (level, horizon), (active, about, models) in said.items():
            chosen, weights = sample_forecasts(models[-1])
            self.models[level, horizon].expect(active, models, as_of_us)
            self.models[level, horizon].wait(active[chosen], as_of_us, about[:, chosen], models[:, chosen], weights)

    def at_hard(self, table: MeasureTable) -> F8:
        """Return each account's equity at its hard level."""
        return np.asarray(table.values[MAINTENANCE] / self.bounds.get("hard", 1.0))

    def scores(self) -> list[dict[str, Any]]:
        """Return how good forecasts have been, as it is published."""
        own = [(level, models) for (level, _), models in self.models.items() if level in self.bounds]
        return [models.row("margin_ratio", level) for level, models in own]

    def _measure(self, said: WrittenForecasts, values: F8) -> None:
        hard = "hard" if "hard" in self.bounds else next(iter(self.bounds))
        for at, horizon in enumerate(MEASURED_S):
            active, _, models = said[hard, horizon]
            measured = self.measured[at]
            measured[:] = values[RATIO] >= self.bounds[hard]
            measured[active] = models[self.models[hard, horizon].scores.champion]

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self, used: bool) -> dict[str, Any]:
        """Return the state as arrays; where nothing was forecast only what costs nothing."""
        models = [[level, horizon, one.snapshot()] for (level, horizon), one in self.models.items()] if used else []
        rows = [self.crossed.copy(), self._at_level.copy(), self.measured.copy(), self.written.copy()]
        accounts = self._accounts.snapshot() if used else []
        return {"bounds": self.bounds, "accounts": accounts, "models": models, "rows": rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.bounds = state["bounds"]
        if state["models"]:
            self._accounts.restore(state["accounts"])
            for level, horizon, one in state["models"]:
                self.models[level, horizon].restore(one)
        self.crossed, self._at_level, self.measured, self.written = state["rows"]


def _herfindahl_index(held: SensitivityRows, count: int) -> F8:
    """Return the Herfindahl index of each account's exposures, 1 for a single one."""
    size = np.abs(held.gain)
    total = np.bincount(held.account, size, count)
    squares = np.bincount(held.account, size * size, count)
    return np.where(total > 0, squares / np.where(total > 0, total * total, 1.0), 1.0)


# Rows of margin forecasts that are written: those that traded or are in danger, and moved.

ENDANGERED: Final = 0.01  # probability within a day from which an account is written whenever it moves
FORECAST_CHANGE_MIN: Final = 0.05  # of what was written last: what stands on the topic is what is believed
SHORT_MIN: Final = 0.001  # horizons below an hour are written from here on
NO_ACCOUNTS: I8 = np.zeros(0, dtype=np.int64)


def margin_forecast_rows(
    forecasts: MarginForecasts,
    said: WrittenForecasts,
    table: MeasureTable,
    traded: list[int],
    hourly: bool,
    states: list[str],
    lost: F8,
) -> list[dict[str, Any]]:
    """Return what is to be written of accounts, in order of number; take it as written.

    Parameters
    ----------
    said
        What was forecast.
    traded
        Numbers of accounts that traded in this second.
    hourly
        Whether all are written.
    states, lost
        By account: what is wrong with its volatilities, and what closing it out would cost.
    """
    now, written = forecasts.measured[-1], forecasts.written
    has = table.values[MAINTENANCE] > 0
    touched = np.zeros(len(now), dtype=bool)
    touched[traded] = True
    last = np.maximum(written, 0.0)
    moved = (np.abs(now - last) > FORECAST_CHANGE_MIN * np.maximum(last, SHORT_MIN)) | (written < 0)
    wanted = has & (hourly | (moved & (touched | (now >= ENDANGERED) | (last >= ENDANGERED))))
    emptied = ~has & (written > 0)
    written[wanted], written[emptied] = now[wanted], -1.0
    rows = [_flat(table.names[account]) for account in emptied.nonzero()[0].tolist()]
    for kind, (active, about, models) in said.items():
        chosen = wanted[active].nonzero()[0]
        found = active[chosen], about[:, chosen], models[:, chosen]
        rows += _level_rows(forecasts, table, kind, *found, states, lost)
    return rows


def volatility_faults(markets: MarketForecasts, book: ForecastInputs, count: int) -> list[str]:
    """Return what is wrong with each account's volatilities, empty where nothing is."""
    state = markets.states()[book.instrument] if len(book.instrument) else NO_ACCOUNTS
    held = np.abs(book.gain)
    unknown = np.bincount(book.account, held * (state == 0), count) > 0
    still = np.bincount(book.account, held * (state == 2), count) == 0
    names = np.where(unknown, "no_volatility", np.where(still, VOLATILITY_STATES[1], ""))
    return [str(name) for name in names.tolist()]


def _level_rows(
    forecasts: MarginForecasts,
    table: MeasureTable,
    kind: tuple[str, int],
    accounts: I8,
    about: F8,
    models: F8,
    states: list[str],
    lost: F8,
) -> list[dict[str, Any]]:
    """Return the rows of one kind of forecast, a level and a horizon."""
    level, horizon = kind
    own = forecasts.models[level, horizon]
    why, champion = leading_terms(ACCOUNT_LAYOUT, own.contributions(about, accounts)), own.scores.champion
    rows = []
    for place, account in enumerate(accounts.tolist()):
        probability = models.item(champion, place)
        if horizon < SAMPLING_PERIOD_S and probability < SHORT_MIN:
            continue
        row: dict[str, Any] = {"scope": f"account:{table.names[account]}", "measure": "margin_ratio", "level": level}
        row |= {"horizon_s": horizon, "probability": probability, "state": states[account] or own.state}
        row |= {"model": MODEL_NAMES[champion], "contributions": why[place]}
        if level == "hard":
            row["loss_given_breach"] = lost.item(account)
        rows.append(row)
    return rows


def _flat(name: str) -> dict[str, Any]:
    head = {"scope": f"account:{name}", "measure": "margin_ratio", "level": "hard", "horizon_s": MEASURED_S[-1]}
    return {**head, "probability": 0.0, "state": "flat"}
