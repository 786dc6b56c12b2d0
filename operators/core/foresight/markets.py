"""What forecasts know of markets: volatility by instrument and horizon, the common factor, how good both have been.

Horizons up to an hour are forecast from bars of a minute, the day from bars of an hour: over a day, the bounce between
bid and ask that a minute's return has in a thin market would count a hundred times over.
"""

from math import sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import totals
from seawall.operators.core.foresight.bars import Bars
from seawall.operators.core.foresight.factor import Factor
from seawall.operators.core.foresight.history import History
from seawall.operators.core.foresight.horizon import FLOOR, PRIOR, YEAR_S, Outcome
from seawall.operators.core.foresight.quantiles import LEVELS, SIDE
from seawall.operators.core.foresight.volatility import VolatilityForecasts
from seawall.operators.core.frames import Holdings
from seawall.operators.core.valuation.arithmetic import log

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
HORIZONS_S: Final = (60, 600, 3600, 86_400)
BARS_S: Final = {60: (60, 600, 3600), 3600: (86_400,)}  # horizons by the length of the bars that they are learned from
CALM_MIN: Final = 0.25  # of the day's volatility: a few quiet bars are no new regime
FACTOR_S: Final = 600  # the horizon whose returns teach the factor
HISTORY_S: Final = 3600  # the horizon whose returns are the scenarios of losses
STATES: Final = ("warming", "constant", "ready")


class QuantileScores:
    """Coverage, pinball loss and QLIKE of one horizon, over all outcomes so far."""

    def __init__(self) -> None:
        self.sums: F8 = np.zeros(2 + 2 * len(LEVELS))  # outcomes, QLIKE, then outcomes below and pinball loss by level

    def learn(self, outcome: Outcome) -> None:
        """Take a horizon that ended."""
        at = outcome.known.nonzero()[0]
        if not len(at):
            return
        came, forecast = outcome.returns[at], outcome.forecast[at]
        below = came <= outcome.quantiles[:, at]
        off = came - outcome.quantiles[:, at]
        levels = np.array(LEVELS)[:, None]
        pinball = np.maximum(levels * off, (levels - 1.0) * off)
        qlike = log(forecast) + came * came / forecast
        parts = [np.ones((1, len(at))), qlike[None], below.astype(np.float64), pinball]
        self.sums += totals(np.concatenate(parts))

    def row(self, horizon_s: int) -> dict[str, Any]:
        """Return the figures as they are published."""
        count, shape = max(float(self.sums[0]), 1.0), len(LEVELS)
        shares = (self.sums[2:] / count).tolist()
        levels = [f"{level:g}" for level in LEVELS]
        return {
            "horizon_s": horizon_s,
            "outcomes": int(self.sums[0]),
            "qlike": float(self.sums[1]) / count,
            "coverage": dict(zip(levels, shares[:shape], strict=True)),
            "pinball": dict(zip(levels, shares[shape:], strict=True)),
        }


class Markets:
    """Forecasts of all instruments of one shard; every shard hears all marks, so all know the same."""

    def __init__(self) -> None:
        self.factor = Factor()
        self.learners = [(Bars(length), VolatilityForecasts(length, of)) for length, of in BARS_S.items()]
        self.horizons = {seconds: one for _, learner in self.learners for seconds, one in learner.horizons.items()}
        self.scores = {horizon: QuantileScores() for horizon in HORIZONS_S}
        self.history: History | None = None  # kept where losses are measured
        self._deviations: dict[int, F8] = {}
        self._states: I8 = np.zeros(0, dtype=np.int64)

    def sample(self, book: Holdings, as_of_us: int) -> bool:
        """Take the marks at the end of a second; return whether a minute ended."""
        ended = [self._sample_one(bars, learner, book, as_of_us) for bars, learner in self.learners]
        if any(ended) or len(self._states) < len(book.price):
            for _, learner in self.learners:
                learner.grow(len(book.price))
            self.factor.grow(len(book.price))
            self._deviations = {}
        return ended[0]

    def _sample_one(self, bars: Bars, learner: VolatilityForecasts, book: Holdings, as_of_us: int) -> bool:
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
        return np.asarray(np.maximum(horizon.sides(), least)[SIDE] * horizon.quantiles.multiples[:, None])

    def _least(self) -> F8:
        """Return the least deviation over a second that is believed."""
        return np.asarray(CALM_MIN * np.sqrt(self.horizons[HORIZONS_S[-1]].variance() / HORIZONS_S[-1]))

    def states(self) -> I8:
        """Return the state of each instrument, a number of :data:`STATES`."""
        self.deviation(HORIZONS_S[0])
        return self._states

    def of_underlyings(self, book: Holdings) -> I8:
        """Return the instrument that stands for each underlying: its first priced one that is no option, or -1."""
        found = np.full(len(book.underlyings), -1, dtype=np.int64)
        known = (book.linear & (book.price > 0)).nonzero()[0][::-1]
        found[book.underlying[known]] = known  # of several the last assignment stays: the lowest number
        return found

    def prices(self, book: Holdings) -> F8:
        """Return the price of the instrument that stands for each underlying, NaN where none does."""
        stands = self.of_underlyings(book)
        return np.where(stands >= 0, book.price[np.maximum(stands, 0)], np.nan) if len(stands) else np.zeros(0)

    def rho_of(self, at: I8) -> F8:
        """Return the correlation with the factor of the instruments that stand for underlyings, 0 where none does."""
        if not len(at):
            return np.zeros(0)
        return np.where(at >= 0, self.factor.rho()[np.maximum(at, 0)], 0.0)

    def rows(self, book: Holdings) -> list[dict[str, Any]]:
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
                    f"{level:g}": quantile for level, quantile in zip(LEVELS, quantiles[horizon][number], strict=True)
                },
                "state": STATES[states.item(number)],
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
            self.history = History()
            self.history.restore(state[3])


def spread_of(markets: Markets, at: I8, horizon_s: int) -> F8:
    """Return the deviation of each underlying, of one without an instrument that of the wide prior."""
    found = markets.deviation(horizon_s)
    scale = sqrt(horizon_s / YEAR_S)
    if not len(found):
        return np.full(len(at), PRIOR * scale)
    known: F8 = np.where(at >= 0, np.maximum(found[np.maximum(at, 0)], FLOOR * scale), PRIOR * scale)
    return known
