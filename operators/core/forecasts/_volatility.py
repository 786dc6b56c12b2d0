"""Volatility forecasts per instrument and horizon, learned online from bars, with quantiles for each side.

`HorizonVolatility` forecasts the variance, `AsymmetricScale` a deviation for losses and one for gains, and
`AdaptiveQuantiles` the multiples of these.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import (
    cross_products,
    exp,
    log,
    ordered_mean,
    ordered_sums,
    solve_positive_definite,
    weighted_sum,
)

# Quantiles that keep their coverage when the market changes: adaptive conformal inference.
#
# A quantile is a multiple of the deviation that is forecast for its side (`AsymmetricScale`). After each outcome its
# multiple moves against the error of its coverage, ``q <- q - eta * scale * (mean(outcome <= q) - level)``, the online
# form of the pinball loss's subgradient: whatever the market does, the share of outcomes below the quantile tends to
# its level. All instruments move one multiple together, each with an equal share, because tails are rare in each and
# alike in all.
#
# References
# ----------
# I. Gibbs, E. Candès, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021, eq. 2 (the same feedback,
# on the level). A. Angelopoulos, E. Candès, R. Tibshirani, "Conformal PID Control for Time Series Prediction", NeurIPS
# 2023, eq. 4: quantile tracking, the feedback on the quantile itself with a step in proportion to its size, as here.

F8 = NDArray[np.float64]
QUANTILE_LEVELS: Final = (0.01, 0.05, 0.95, 0.99)
STUDENT_4_QUANTILES: Final = (-2.6494967, -1.5074372, 1.5074372, 2.6494967)  # of variance 1: where tracking begins
SIDE_OF_LEVEL: Final = np.array([0, 0, 1, 1])  # of falls, of rises: whose deviation each level is a multiple of
QUANTILE_STEP: Final = 0.03
SCALE_MIN: Final = 0.5  # of a standard deviation: a multiple near 0 could never leave it


class AdaptiveQuantiles:
    """The multiples of one horizon, one per level of :data:`QUANTILE_LEVELS`."""

    def __init__(self) -> None:
        self.multiples: F8 = np.array(STUDENT_4_QUANTILES)

    def learn(self, outcomes: F8) -> None:
        """Take the outcomes of all instruments whose horizon ended, in units of each side's deviation, shape (2, n)."""
        if not outcomes.shape[-1]:
            return
        below = outcomes[SIDE_OF_LEVEL] <= self.multiples[:, None]
        miss = ordered_mean(below.astype(np.float64)) - np.array(QUANTILE_LEVELS)
        self.multiples = self.multiples - QUANTILE_STEP * np.maximum(np.abs(self.multiples), SCALE_MIN) * miss


# The deviation that quantiles of losses and of gains are multiples of: one for each side, pooled over all forecasters.
#
# The mixture that forecasts a variance follows whoever was right of late, and after a shock leaps to twice what comes:
# right for the mean of squares, too much for a tail. So quantiles stand on the plain mean of all deviations, that of
# the mixture included (averaging quantiles: Lichtendahl, Grushka-Cockayne and Winkler, "Is It Better to Average
# Probabilities or Quantiles?", Management Science 59, 2013; equal weights, since weights learned from a few shocks are
# worse: Timmermann, "Forecast Combinations", Handbook of Economic Forecasting 2006). Among them are, for each side,
# those of its own bad news: twice the mean square of falls, or of rises (realised semivariance: Barndorff-Nielsen,
# Kinnebrock and Shephard 2010; Patton and Sheppard, "Good Volatility, Bad Volatility", Rev. Econ. Stat. 97, 2015),
# where that is above the variance of the same half-life: bad news widens a side, good news does not narrow the other.

B1 = NDArray[np.bool_]
SIDES: Final = 2  # falls, rises


class AsymmetricScale:
    """The mean squares of falls and rises of every instrument over one horizon.

    Parameters
    ----------
    halves
        Half-lives in horizons, the slowest last.
    """

    def __init__(self, halves: F8) -> None:
        self._gain = (1.0 - exp(-0.6931471805599453 / halves))[None, :, None]
        self.squares: F8 = np.zeros((SIDES, len(halves), 0))

    def grow(self, more: int) -> None:
        """Make room for further instruments."""
        self.squares = np.concatenate([self.squares, np.zeros((*self.squares.shape[:2], more))], axis=2)

    def learn(self, returns: F8, at: NDArray[np.int64]) -> None:
        """Take the log returns of the instruments ``at``, over a horizon that ended."""
        fall, square = returns < 0, returns * returns
        both = 2.0 * np.stack([np.where(fall, square, 0.0), np.where(fall, 0.0, square)])[:, None]
        last = self.squares[:, :, at]
        self.squares[:, :, at] = last + self._gain * (both - last)

    def deviations(self, own: F8, others: F8, known: B1) -> F8:
        """Return the deviation on each side, shape (2, instruments).

        Parameters
        ----------
        own
            Variances of each instrument at the half-lives of this, shape (half-lives, instruments).
        others
            All variances that are forecast, shape (forecasters, instruments).
        known
            Which instruments tell of the market.
        """
        sides = np.maximum(self.squares, own)
        if not known.any():
            market = sides
        else:
            slowest = log(own[-1])
            ratio = ordered_mean((log(sides) - slowest)[:, :, known])
            market = exp(slowest + ratio[:, :, None])
        shared = ordered_sums(np.sqrt(others).T)
        apart = ordered_sums(np.sqrt(np.concatenate([sides, market], axis=1)).transpose(0, 2, 1))
        return np.asarray((shared + apart) / (len(others) + 2 * own.shape[0]))


# Volatility forecasts per instrument and horizon, learned online from bars.
#
# Procedure, once per bar
# -----------------------
# 1. A bar gives a return and a realised variance ``0.25 log(high/low)^2 + 0.307 return^2``, the mean of the squared
#    return and the estimate of Garman and Klass (1980, eq. 19 with the previous close as open): as unbiased as the
#    square, with a third of its noise. One wick is held to a multiple of what is usual, so that a bad print does not
#    own the forecast.
# 2. Exponentially weighted variances take it, with half-lives of a half to 32 horizons (as Corsi, "A Simple Approximate
#    Long-Memory Model of Realized Volatility", J. Fin. Econometrics 7, 2009). Each also stands for the whole market:
#    the instrument's slowest one times the mean ratio of all instruments. A crash is seen in all of them at once, with
#    less noise.
# 3. Where a horizon begins, their logarithms forecast that of the variance to come by a regression with forgetting, the
#    same for all instruments (heterogeneous autoregression), put right for the mean by its own past ratio (Duan 1983).
# 4. The forecast is a mixture of all of these. Weights follow each one's discounted loss ``log v + realised/v`` (QLIKE,
#    Patton 2011), with a share for all alike, so that another regime's forecaster is back within a few horizons.
# 5. Quantiles are multiples (`AdaptiveQuantiles`) of a deviation for each side, pooled over all of these
#    (`AsymmetricScale`).
# 6. Where it ends, all of it learns. A horizon that was not observed for four fifths of its bars teaches nothing. A bar
#    after silence stands for all the bars since the last one, its variance spread over them.
#
# States: ``warming`` below :data:`BARS_MIN` bars, with a wide prior; ``constant`` where prices have not moved, with a
# floor; else ``ready``.

YEAR_S: Final = 365 * 86_400.0
VOLATILITY_PRIOR: Final = 1.5  # of a year, where nothing is known yet: more than most coins have
VOLATILITY_FLOOR: Final = 0.01  # of a year: what a pegged coin has
BARS_MIN: Final = 30
SCALES: Final = (0.5, 2.0, 8.0, 32.0)  # half-lives, in horizons
WICK_MAX: Final = 30.0  # a bar's variance in multiples of the largest weighted one, if its return is not larger
SEEN_MIN: Final = 0.8
FORGET: Final = 0.998  # of the regression, per horizon
DISCOUNT: Final = 0.98  # of losses, per horizon
WEIGHT_RATE: Final = 0.1  # weight of a loss in the mixture
LOSS_MAX: Final = 20.0
SHARED_WEIGHT: Final = 0.1  # of the weight, for all forecasters alike
SMEARING_RATE: Final = 0.02
SLOWEST_SCALE: Final = (
    2  # of SCALES from here on there are variances of falls and of rises: fewer outcomes tell nothing
)
_COUNT = len(SCALES)
FORECASTERS: Final = 2 * _COUNT  # own weighted variances, the market's of all scales but the slowest, the regression
_TERMS = 2 * _COUNT


class HorizonOutcome(NamedTuple):
    """A horizon that ended: the log return, the variance realised and that forecast, where ``known``."""

    returns: F8
    realised: F8
    forecast: F8
    known: B1
    quantiles: F8


class BarMove(NamedTuple):
    """Move of each bar since the one before: variance, squared return, how many; 0 where it is not known."""

    variance: F8
    square: F8
    bars: F8


class HorizonVolatility:
    """The forecasts over one horizon of ``length`` bars of ``step_s`` seconds."""

    def __init__(self, length: int, step_s: float) -> None:
        self.length, self.step_s = length, step_s
        halves = np.maximum(np.array(SCALES) * length, 1.0)
        self._fade = -0.6931471805599453 / halves
        self._prior = VOLATILITY_PRIOR * VOLATILITY_PRIOR * step_s / YEAR_S
        self._floor = VOLATILITY_FLOOR * VOLATILITY_FLOOR * step_s / YEAR_S
        self.quantiles, self._sides = AdaptiveQuantiles(), AsymmetricScale(np.array(SCALES[SLOWEST_SCALE:]))
        self._ridge = np.diag([20.0] + [50.0] * (_TERMS - 1))
        self._prior_theta = np.array([0.0] + [1.0 / (_TERMS - 1)] * (_TERMS - 1))
        self._theta = self._prior_theta.copy()
        self._square, self._right = np.zeros((_TERMS, _TERMS)), np.zeros(_TERMS)
        self._smear = 1.0
        self._weighted: F8 = np.zeros((_COUNT, 0))
        self._losses: F8 = np.zeros((FORECASTERS, 0))
        self._sums: F8 = np.zeros((4, 0))  # variance and bars seen in this horizon, price where it began, bars in all
        # what was forecast at its beginning: variances, the mixture last, then the deviations of both sides
        self._made: F8 = np.zeros((FORECASTERS + 1 + SIDES, 0))
        self._terms: F8 = np.zeros((_TERMS, 0))
        self._index = -1

    def grow(self, count: int) -> None:
        """Make room for instruments."""
        more = count - self._weighted.shape[1]
        if more > 0:
            for name in ("_weighted", "_losses", "_sums", "_made", "_terms"):
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.zeros((len(array), more))], axis=1))
            self._sides.grow(more)

    def observe(self, move: "BarMove", price: F8, index: int) -> HorizonOutcome | None:
        """Take one bar, numbered ``index`` from the epoch; return the horizon that it ends."""
        self._learn_bar(move)
        begins = (index + 1) // self.length
        if begins == self._index:
            return None
        fresh = index + 1 - begins * self.length <= (1.0 - SEEN_MIN) * self.length
        outcome = self._end(price) if begins == self._index + 1 and fresh else None
        self._index = begins
        self._begin(np.where(fresh, price, 0.0))
        return outcome

    def variance(self) -> F8:
        """Return the forecast variance of a horizon that begins now, of every instrument."""
        return self._mixture(self._forecasts()[0])

    def sides(self) -> F8:
        """Return the deviations of falls and rises over a horizon that begins now, shape (2, instruments)."""
        return self._apart(self._all()[0])

    def warm(self) -> B1:
        """Return which instruments have been seen often enough."""
        return np.asarray(self._sums[3] >= BARS_MIN)

    def constant(self) -> B1:
        """Return which instruments have been seen and have not moved."""
        return np.asarray((self._weighted[-1] <= self._floor) & (self._sums[3] > 0))

    # --- bars -------------------------------------------------------------------------------------------------------

    def _learn_bar(self, move: "BarMove") -> None:
        variance, square, bars = move
        seen, count = bars > 0, self._sums[3]
        usual = WICK_MAX * np.maximum(self._weighted.max(axis=0), self._floor)
        bound = np.where(count > 10, usual, 1e3 * self._prior)
        taken = np.where(seen, np.minimum(variance, np.maximum(square, bound)), 0.0)
        gain = np.maximum(1.0 - exp(self._fade[:, None] * bars), bars / (count + np.maximum(bars, 1.0)))
        self._weighted = self._weighted + gain * (taken - self._weighted)
        self._sums[0] += taken * bars
        self._sums[1] += bars
        self._sums[3] += bars

    def _forecasts(self) -> tuple[F8, F8]:
        """Return what every forecaster says, shape (forecasters, instruments), and the terms of the regression."""
        few = self._sums[3] < BARS_MIN
        own = np.where(few, self._prior, np.maximum(self._weighted, self._floor)) * self.length
        logs = log(own)
        known = (~few).nonzero()[0]
        ratio = ordered_mean((logs - logs[-1])[:, known]) if len(known) else np.zeros(_COUNT)
        market = (logs[-1] + ratio[:, None])[:-1]
        terms = np.concatenate([np.ones((1, own.shape[1])), logs, market])
        guess = weighted_sum(self._theta, terms)
        bounded = np.minimum(np.maximum(guess, logs.min(axis=0) - 1.0), logs.max(axis=0) + 1.0)
        regressed = np.where(few, own[0], exp(bounded) * self._smear)
        return np.concatenate([own, exp(market), regressed[None]]), terms

    def _mixture(self, forecasts: F8) -> F8:
        odds = exp(self._losses.min(axis=0) - self._losses)
        weights = (1.0 - SHARED_WEIGHT) * odds / ordered_sums(odds.T) + SHARED_WEIGHT / FORECASTERS
        return ordered_sums((weights * forecasts).T)

    def _all(self) -> tuple[F8, F8]:
        """Return what every forecaster and, last, the mixture says, and the terms of the regression."""
        forecasts, terms = self._forecasts()
        return np.concatenate([forecasts, self._mixture(forecasts)[None]]), terms

    def _apart(self, variances: F8) -> F8:
        return self._sides.deviations(variances[SLOWEST_SCALE:_COUNT], variances, self.warm())

    def _begin(self, price: F8) -> None:
        variances, self._terms = self._all()
        self._made = np.concatenate([variances, self._apart(variances)])
        self._sums[0], self._sums[1], self._sums[2] = 0.0, 0.0, price

    def _end(self, price: F8) -> HorizonOutcome:
        spent, seen, before, count = self._sums
        known = (seen >= SEEN_MIN * self.length) & (before > 0) & (price > 0) & (count >= BARS_MIN)
        returns = log(np.where(known, price, 1.0) / np.where(known, before, 1.0))
        realised = np.maximum(spent * self.length / np.maximum(seen, 1.0), self._floor * self.length)
        mixed, apart = self._made[FORECASTERS], self._made[FORECASTERS + 1 :]
        quantiles = apart[SIDE_OF_LEVEL] * self.quantiles.multiples[:, None]
        at = known.nonzero()[0]
        if len(at):
            self._regress(self._terms[:, at], log(realised[at]), realised[at] / self._made[FORECASTERS - 1, at])
            ratio = realised[at] / self._made[:FORECASTERS, at]
            loss = 0.5 * (log(self._made[:FORECASTERS, at]) + ratio)
            loss = np.minimum(loss - loss.min(axis=0), LOSS_MAX)
            self._losses[:, at] = DISCOUNT * self._losses[:, at] + WEIGHT_RATE * loss
            self.quantiles.learn(returns[at] / apart[:, at])
            self._sides.learn(returns[at], at)
        return HorizonOutcome(returns, realised, mixed, known, quantiles)

    def _regress(self, terms: F8, target: F8, ratio: F8) -> None:
        guess = weighted_sum(self._theta, terms)
        target = guess + np.minimum(np.maximum(target - guess, -4.0), 4.0)
        self._square = FORGET * self._square + cross_products(terms)
        self._right = FORGET * self._right + ordered_sums(terms * target)
        prior = weighted_sum(self._prior_theta, self._ridge)
        self._theta = solve_positive_definite(self._square + self._ridge, self._right + prior)
        self._smear += SMEARING_RATE * (float(ordered_mean(np.minimum(ratio * self._smear, 10.0))) - self._smear)

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays."""
        arrays = {name: getattr(self, name).copy() for name in _STATE}
        own = {"multiples": self.quantiles.multiples.copy(), "sides": self._sides.squares.copy()}
        return {**arrays, **own, "numbers": [self._smear, self._index]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        for name in _STATE:
            setattr(self, name, state[name])
        self.quantiles.multiples, self._sides.squares = state["multiples"], state["sides"]
        self._smear, self._index = state["numbers"]


_STATE = ("_theta", "_square", "_right", "_weighted", "_losses", "_sums", "_made", "_terms")
