"""Market forecasts of one shard: bars, volatility by instrument and horizon, correlations, and scores of both.

Every shard receives all marks, so all shards have the same market forecasts.
"""

from math import sqrt
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import ForecastInputs, log, ordered_sums
from seawall.operators.core.forecasts._price_history import CommonFactor, ReturnHistory
from seawall.operators.core.forecasts._volatility import (
    QUANTILE_LEVELS,
    SIDE_OF_LEVEL,
    VOLATILITY_FLOOR,
    VOLATILITY_PRIOR,
    YEAR_S,
    BarMove,
    HorizonOutcome,
    HorizonVolatility,
)

# Bars of all instruments, their moves, and the forecasts over several horizons that learn from them.
#
# A bar after silence stands for all the bars since the last one, its variance spread over them.

F8 = NDArray[np.float64]
B1 = NDArray[np.bool_]
GAP_MAX: Final = 1440.0  # bars over which one return is spread at most


class PriceBar(NamedTuple):
    """One interval of all instruments: prices of shape (instruments,), and where any was seen."""

    close: F8
    high: F8
    low: F8
    seen: B1


class VolatilityForecasts:
    """Forecasts of all instruments over several horizons; rows are numbered as in the directory.

    Parameters
    ----------
    step_s
        Length of a bar.
    horizons_s
        Multiples of it.
    """

    def __init__(self, step_s: int, horizons_s: tuple[int, ...]) -> None:
        self.step_s = step_s
        self.horizons = {horizon: HorizonVolatility(horizon // step_s, float(step_s)) for horizon in horizons_s}
        self._close: F8 = np.zeros(0)
        self._last: F8 = np.zeros(0)  # index of the last bar in which it was seen

    def observe(self, bar: PriceBar, index: int) -> dict[int, HorizonOutcome]:
        """Take the bar numbered ``index`` from the epoch; return the horizons that end with it, by their length."""
        self.grow(len(bar.close))
        move = self._move(bar, index)
        self._close = np.where(bar.seen, bar.close, self._close)
        self._last = np.where(bar.seen, float(index), self._last)
        found = {}
        for seconds, horizon in self.horizons.items():
            outcome = horizon.observe(move, self._close, index)
            if outcome is not None:
                found[seconds] = outcome
        return found

    def _move(self, bar: PriceBar, index: int) -> BarMove:
        """Return the move of each instrument since its last bar, spread over the bars in between."""
        known = bar.seen & (self._close > 0)
        before = np.where(known, self._close, 1.0)
        returns = log(np.where(known, bar.close, 1.0) / before)
        high = np.maximum(np.where(known, bar.high, 1.0), before)
        low = np.minimum(np.where(known, bar.low, 1.0), before)
        widest, square = log(high / low), returns * returns
        bars = np.where(known, np.minimum(float(index) - self._last, GAP_MAX), 0.0)
        part = 1.0 / np.maximum(bars, 1.0)
        return BarMove((0.25 * widest * widest + 0.307 * square) * part, square * part, bars)

    def grow(self, count: int) -> None:
        """Make room for instruments."""
        if count > len(self._close):
            more = np.zeros(count - len(self._close))
            self._close, self._last = np.append(self._close, more), np.append(self._last, more)
            for horizon in self.horizons.values():
                horizon.grow(count)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays."""
        horizons = [[seconds, horizon.snapshot()] for seconds, horizon in self.horizons.items()]
        return {"close": self._close.copy(), "last": self._last.copy(), "horizons": horizons}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self._close, self._last = state["close"], state["last"]
        for seconds, horizon in state["horizons"]:
            self.horizons[seconds].restore(horizon)


# Bars of event time, from the marks as they stand at the end of each second in which anything happened.

I8 = NDArray[np.int64]


class OpenBars:
    """The open bar of every instrument, ``length_s`` long; rows are numbered as in the directory."""

    def __init__(self, length_s: int) -> None:
        self._length_us = length_s * 1_000_000
        self.index = -1
        self._rows: F8 = np.zeros((4, 0))  # close, high, low, event time of the last mark taken
        self._seen: NDArray[np.bool_] = np.zeros(0, dtype=bool)

    def sample(self, price: F8, time_us: I8, as_of_us: int) -> tuple[PriceBar, int] | None:
        """Take marks (NaN: none) as they stand before ``as_of_us``; return the bar that this time completes."""
        self._grow(len(price))
        index = (as_of_us - 1) // self._length_us
        done = None
        if index != self.index:
            if self.index >= 0:
                close, high, low = self._rows[:3].copy()
                done = PriceBar(close, high, low, self._seen), self.index
            self.index, self._seen = index, np.zeros(len(self._seen), dtype=bool)
        fresh = (time_us > self._rows[3]) & (price > 0)
        close, high, low, last = self._rows
        first = fresh & ~self._seen
        high[:] = np.where(first, price, np.where(fresh, np.maximum(high, price), high))
        low[:] = np.where(first, price, np.where(fresh, np.minimum(low, price), low))
        close[:] = np.where(fresh, price, close)
        last[:] = np.where(fresh, time_us, last)
        self._seen = self._seen | fresh
        return done

    def _grow(self, count: int) -> None:
        more = count - len(self._seen)
        if more > 0:
            self._rows = np.concatenate([self._rows, np.zeros((4, more))], axis=1)
            self._seen = np.append(self._seen, np.zeros(more, dtype=bool))

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        return [self.index, self._rows.copy(), self._seen.copy()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self.index, self._rows, self._seen = state


# Market forecasts: volatility by instrument and horizon, the common factor, how good both have been.
#
# Horizons up to an hour are forecast from bars of a minute, the day from bars of an hour: over a day, the bounce
# between bid and ask that a minute's return has in a thin market would count a hundred times over.

HORIZONS_S: Final = (60, 600, 3600, 86_400)
BARS_S: Final = {60: (60, 600, 3600), 3600: (86_400,)}  # horizons by the length of the bars that they are learned from
CALM_MIN: Final = 0.25  # of the day's volatility: a few quiet bars are no new regime
FACTOR_S: Final = 600  # the horizon whose returns teach the factor
HISTORY_S: Final = 3600  # the horizon whose returns are the scenarios of losses
VOLATILITY_STATES: Final = ("warming", "constant", "ready")


class QuantileScores:
    """Coverage, pinball loss and QLIKE of one horizon, over all outcomes so far."""

    def __init__(self) -> None:
        self.sums: F8 = np.zeros(
            2 + 2 * len(QUANTILE_LEVELS)
        )  # outcomes, QLIKE, then outcomes below and pinball loss by level

    def learn(self, outcome: HorizonOutcome) -> None:
        """Take a horizon that ended."""
        at = outcome.known.nonzero()[0]
        if not len(at):
            return
        came, forecast = outcome.returns[at], outcome.forecast[at]
        below = came <= outcome.quantiles[:, at]
        off = came - outcome.quantiles[:, at]
        levels = np.array(QUANTILE_LEVELS)[:, None]
        pinball = np.maximum(levels * off, (levels - 1.0) * off)
        qlike = log(forecast) + came * came / forecast
        parts = [np.ones((1, len(at))), qlike[None], below.astype(np.float64), pinball]
        self.sums += ordered_sums(np.concatenate(parts))

    def row(self, horizon_s: int) -> dict[str, Any]:
        """Return the figures as they are published."""
        count, shape = max(float(self.sums[0]), 1.0), len(QUANTILE_LEVELS)
        shares = (self.sums[2:] / count).tolist()
        levels = [f"{level:g}" for level in QUANTILE_LEVELS]
        return {
            "horizon_s": horizon_s,
            "outcomes": int(self.sums[0]),
            "qlike": float(self.sums[1]) / count,
            "coverage": dict(zip(levels, shares[:shape], strict=True)),
            "pinball": dict(zip(levels, shares[shape:], strict=True)),
        }


class MarketForecasts:
    """Forecasts of all instruments of one shard; every shard hears all marks, so all know the same."""

    def __init__(self) -> None:
        self.factor = CommonFactor()
        self.learners = [(OpenBars(length), VolatilityForecasts(length, of)) for length, of in BARS_S.items()]
        self.horizons = {seconds: one for _, learner in self.learners for seconds, one in learner.horizons.items()}
        self.scores = {horizon: QuantileScores() for horizon in HORIZONS_S}
        self.history: ReturnHistory | None = None  # kept where losses are measured
        self._deviations: dict[int, F8] = {}
        self._states: I8 = np.zeros(0, dtype=np.int64)

    def sample(self, book: ForecastInputs, as_of_us: int) -> bool:
        """Take the marks at the end of a second; return whether a minute ended."""
        ended = [self._sample_one(bars, learner, book, as_of_us) for bars, learner in self.learners]
        if any(ended) or len(self._states) < len(book.price):
            for _, learner in self.learners:
                learner.grow(len(book.price))
            self.factor.grow(len(book.price))
            self._deviations = {}
        return ended[0]

    def _sample_one(self, bars: OpenBars, learner: VolatilityForecasts, book: ForecastInputs, as_of_us: int) -> bool:
        done = bars.sample(book.price, book.time_us, as_of_us)
        for horizon, outcome in learner.observe(*done).items() if done is not None else ():
            self.scores[horizon].learn(outcome)
            if horizon == FACTOR_S:
                self.factor.learn(outcome)
            if horizon == HISTORY_S and self.history is not None:
                self.history.learn(outcome)
        return done is not None

    def deviation(self, horizon_s: int) -> F8:
        """Return the forecast standard deviation of each instrument's return over a horizon."""
        if not self._deviations:
            least = self._least()
            for seconds, horizon in self.horizons.items():
                self._deviations[seconds] = np.maximum(np.sqrt(horizon.variance()), least * float(np.sqrt(seconds)))
            hour = self.horizons[FACTOR_S]
            self._states = np.where(~hour.warm(), 0, np.where(hour.constant(), 1, 2))
        return self._deviations[horizon_s]

    def _quantiles(self, horizon_s: int) -> F8:
        """Return the quantiles of each instrument's return over a horizon, shape (levels, instruments)."""
        horizon, least = self.horizons[horizon_s], self._least() * float(np.sqrt(horizon_s))
        return np.asarray(np.maximum(horizon.sides(), least)[SIDE_OF_LEVEL] * horizon.quantiles.multiples[:, None])

    def _least(self) -> F8:
        """Return the least deviation over a second that is believed."""
        return np.asarray(CALM_MIN * np.sqrt(self.horizons[HORIZONS_S[-1]].variance() / HORIZONS_S[-1]))

    def states(self) -> I8:
        """Return the state of each instrument, a number of :data:`VOLATILITY_STATES`."""
        self.deviation(HORIZONS_S[0])
        return self._states

    def of_underlyings(self, book: ForecastInputs) -> I8:
        """Return the instrument that stands for each underlying: its first priced one that is no option, or -1."""
        found = np.full(len(book.underlyings), -1, dtype=np.int64)
        known = (book.linear & (book.price > 0)).nonzero()[0][::-1]
        found[book.underlying[known]] = known  # of several the last assignment stays: the lowest number
        return found

    def prices(self, book: ForecastInputs) -> F8:
        """Return the price of the instrument that stands for each underlying, NaN where none does."""
        by_underlying = self.of_underlyings(book)
        return (
            np.where(by_underlying >= 0, book.price[np.maximum(by_underlying, 0)], np.nan)
            if len(by_underlying)
            else np.zeros(0)
        )

    def rho_of(self, at: I8) -> F8:
        """Return the correlation with the factor of the instruments that stand for underlyings, 0 where none does."""
        if not len(at):
            return np.zeros(0)
        return np.where(at >= 0, self.factor.rho()[np.maximum(at, 0)], 0.0)

    def rows(self, book: ForecastInputs) -> list[dict[str, Any]]:
        """Return volatility (a fraction per year^½) and quantiles of each instrument, as they are published."""
        states, priced = self.states(), ((book.price > 0) & book.linear).nonzero()[0].tolist()
        deviations = {horizon: self.deviation(horizon).tolist() for horizon in HORIZONS_S}
        quantiles = {horizon: self._quantiles(horizon).T.tolist() for horizon in HORIZONS_S}
        return [
            {
                "scope": f"instrument:{book.names[number]}",
                "horizon_s": horizon,
                "volatility": deviations[horizon][number] * sqrt(YEAR_S / horizon),
                "quantiles": {
                    f"{level:g}": quantile
                    for level, quantile in zip(QUANTILE_LEVELS, quantiles[horizon][number], strict=True)
                },
                "state": VOLATILITY_STATES[states.item(number)],
            }
            for number in priced
            for horizon in HORIZONS_S
        ]

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        scores = [[horizon, one.sums.copy()] for horizon, one in self.scores.items()]
        learners = [[bars.snapshot(), learner.snapshot()] for bars, learner in self.learners]
        history = None if self.history is None else self.history.snapshot()
        return [learners, self.factor.snapshot(), scores, history]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        for (bars, learner), (drawn, learned) in zip(self.learners, state[0], strict=True):
            bars.restore(drawn)
            learner.restore(learned)
        self.factor.restore(state[1])
        for horizon, sums in state[2]:
            self.scores[horizon].sums = sums
        if state[3] is not None:
            self.history = ReturnHistory()
            self.history.restore(state[3])


def underlying_deviations(markets: MarketForecasts, at: I8, horizon_s: int) -> F8:
    """Return the deviation of each underlying, of one without an instrument that of the wide prior."""
    found = markets.deviation(horizon_s)
    scale = sqrt(horizon_s / YEAR_S)
    if not len(found):
        return np.full(len(at), VOLATILITY_PRIOR * scale)
    known: F8 = np.where(
        at >= 0, np.maximum(found[np.maximum(at, 0)], VOLATILITY_FLOOR * scale), VOLATILITY_PRIOR * scale
    )
    return known
