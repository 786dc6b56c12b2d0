"""Probability models of one level and horizon: calibrated on outcomes, scored when the outcome is known.

`LevelModels` holds a champion and its challengers; `OnlineLogistic` calibrates them, `BreachRecord` corrects them by
the account's own record, and `ForecastScores` decides by rule which one is believed.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import (
    Columns,
    cross_products,
    exp,
    log,
    ordered_sums,
    solve_positive_definite,
    weighted_sum,
)

# Calibration on outcomes, online: logistic regression whose prior is the structural model.
#
# Weights have a normal prior; each batch of outcomes is one Newton step from where they stand, and what they were
# learned from stays in the precision (the Laplace approximation, updated in turn: Spiegelhalter and Lauritzen 1990).
# River's
# ``linear_model.LogisticRegression`` takes one gradient step per outcome, keeps no precision, so that its rate must be
# chosen by looking at results, and calls the C library's ``exp``, whose bits differ between hosts (architecture.md,
# "Same bits").
#
# Horizons overlap: an account that is looked at every hour gives 24 outcomes of the same day, which say about as much
# as one. Each counts for the share of its horizon that is its own (Lopez de Prado 2018, chapter 4, "uniqueness").

F8 = NDArray[np.float64]
LOG_ODDS_MAX: Final = 13.8  # one in a million


def logistic_probability(log_odds: F8) -> F8:
    """Return the probability of log-odds, which are held between one in a million and all but one."""
    bounded = np.minimum(np.maximum(log_odds, -LOG_ODDS_MAX), LOG_ODDS_MAX)
    return np.asarray(1.0 / (1.0 + exp(-bounded)))


class OnlineLogistic:
    """Weights over named terms, the first of which is constant.

    Parameters
    ----------
    prior
        Means of the weights before any outcome.
    precision
        Of each of them: a quarter of the outcomes that weigh as much.
    """

    def __init__(self, prior: tuple[float, ...], precision: float) -> None:
        self.weights: F8 = np.array(prior)
        self._precision: F8 = np.diag([precision] * len(prior))

    def log_odds(self, terms: F8) -> F8:
        """Return log-odds for terms of shape (terms, cases)."""
        return weighted_sum(self.weights, terms)

    def learn(self, terms: F8, outcomes: F8, weights: F8) -> None:
        """Take one batch of outcomes (0 or 1), each of which counts ``weights``."""
        guess = logistic_probability(self.log_odds(terms))
        self._precision = self._precision + cross_products(terms * (weights * guess * (1.0 - guess)), terms)
        self.weights = self.weights + solve_positive_definite(
            self._precision, ordered_sums(terms * (weights * (outcomes - guess)))
        )

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        return [self.weights.copy(), self._precision.copy()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self.weights, self._precision = state


# Each account's own record: how often it has broken, against how often it was forecast to.
#
# Accounts differ in what no term tells: some stand near their margin for weeks and never break, some break again and
# again. Let an account's rate be the forecast one times a factor of its own, from a gamma distribution of mean 1 and
# shape :data:`SHAPE`. After ``k`` breaches where ``e`` were expected the factor's mean is ``(k + SHAPE) / (e +
# SHAPE)``: the credibility of actuaries (Buhlmann and Gisler 2005), the frailty of survival analysis (Vaupel and others
# 1979). What was expected is known at once, without waiting for a horizon to end: an hour survived counts when it is
# past. Both fade with a month.

I8 = NDArray[np.int64]
SHAPE: Final = 5.0  # breaches that the prior weighs: as many as make a model ready
FADE_S: Final = 30 * 86_400.0
EXPECTED, BROKEN, RATE = range(3)


class BreachRecord:
    """Breaches expected and come of every account, and the rate (per second) that is expected now."""

    def __init__(self) -> None:
        self._rows: F8 = np.zeros((3, 0))
        self._us = 0

    def log_odds(self, accounts: I8) -> F8:
        """Return what their record adds to the log-odds of accounts."""
        known = np.minimum(accounts, self._rows.shape[1] - 1)
        if not self._rows.shape[1]:
            return np.zeros(len(accounts))
        rows = np.where(accounts < self._rows.shape[1], self._rows[:, known], 0.0)
        return log((rows[BROKEN] + SHAPE) / (rows[EXPECTED] + SHAPE))

    def expect(self, accounts: I8, rate: F8, as_of_us: int) -> None:
        """Take in what was expected since the last call, then what is now, of these accounts alone."""
        elapsed_s, self._us = (as_of_us - self._us) / 1e6 if self._us else 0.0, as_of_us
        rows = self._rows
        rows[EXPECTED] += rows[RATE] * elapsed_s
        rows[: BROKEN + 1] *= float(exp(-elapsed_s / FADE_S))
        if len(accounts):
            self._grow(int(accounts.max()) + 1)
        self._rows[RATE] = 0.0
        self._rows[RATE, accounts] = rate

    def broke(self, accounts: I8) -> None:
        """Note that accounts have come to their level."""
        self._grow(int(accounts.max()) + 1)
        self._rows[BROKEN, accounts] += 1.0

    def _grow(self, count: int) -> None:
        more = count - self._rows.shape[1]
        if more > 0:
            self._rows = np.concatenate([self._rows, np.zeros((3, more))], axis=1)

    def snapshot(self) -> list[object]:
        """Return the state as arrays."""
        return [self._rows.copy(), self._us]

    def restore(self, state: list[object]) -> None:
        """Take the state of a snapshot."""
        rows, us = state
        assert isinstance(rows, np.ndarray)
        assert isinstance(us, int)
        self._rows, self._us = rows, us


# Forecast scores: every forecast is scored when its outcome is known.
#
# Brier score and log loss by model, discounted so that the last few hundred outcomes count; a table of what was
# forecast against what came, without discount. The model that is believed is the champion. It loses its place by rule:
# when its forecasts and their outcomes have come apart by more than :data:`CHAMPION_LOST_MIN` standard deviations and
# another's discounted log loss is lower. It is then ``lost`` until its own figures are back.

CALIBRATION_BOUNDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7)
SCORE_MEMORY: Final = 2000.0  # outcomes: what the discounted figures stand for
CHAMPION_LOST_MIN: Final = 3.0
READY_MIN: Final = 5.0  # outcomes of either kind before a model is more than warming


class ForecastScores:
    """Figures of several models over the same forecasts: rows are models, the champion is one of them."""

    def __init__(self, models: int, champion: int) -> None:
        self.champion = champion
        self.count = self.hits = 0.0
        self.tables: F8 = np.zeros((models, len(CALIBRATION_BOUNDS) + 1, 3))  # forecasts, their sum, outcomes
        self.recent: F8 = np.zeros((models, 5))  # weight, log loss, Brier score, outcome less forecast, its variance
        self._own = 0.0  # outcomes by the share of their horizon that is their own

    def learn(self, forecasts: F8, outcomes: F8, weights: F8) -> bool:
        """Take forecasts of shape (models, cases), what came, and how much of each is its own; return a new champion.

        True where the champion changed.
        """
        self.count += len(outcomes)
        self.hits += float(ordered_sums(outcomes))
        self._own += float(ordered_sums(weights * outcomes))
        fade = max(0.0, 1.0 - len(outcomes) / SCORE_MEMORY)
        for model, said in enumerate(forecasts):
            bins = np.searchsorted(np.array(CALIBRATION_BOUNDS), said, side="right")
            for column, values in enumerate((np.ones(len(said)), said, outcomes)):
                self.tables[model, :, column] += np.bincount(bins, values, len(CALIBRATION_BOUNDS) + 1)
            loss = -log(np.where(outcomes > 0, said, 1.0 - said))
            off = outcomes - said
            parts = (np.ones(len(said)), loss, off * off, weights * off, weights * said * (1.0 - said))
            self.recent[model] = fade * self.recent[model] + ordered_sums(np.stack(parts))
        return self._choose()

    @property
    def ready(self) -> bool:
        """Tell whether enough outcomes of either kind are known to believe a probability."""
        return self._own >= READY_MIN

    def log_loss(self) -> F8:
        """Return the discounted log loss of each model."""
        return np.asarray(self.recent[:, 1] / np.maximum(self.recent[:, 0], 1.0))

    def brier(self) -> F8:
        """Return the discounted Brier score of each model."""
        return np.asarray(self.recent[:, 2] / np.maximum(self.recent[:, 0], 1.0))

    def lost(self) -> NDArray[np.bool_]:
        """Return which models have lost their calibration."""
        spread = np.sqrt(np.maximum(self.recent[:, 4], 1.0))
        return np.asarray(np.abs(self.recent[:, 3]) > CHAMPION_LOST_MIN * spread)

    def _choose(self) -> bool:
        loss = self.log_loss()
        best = int(np.argmin(loss))
        if not (self.ready and self.lost()[self.champion] and loss[best] < loss[self.champion]):
            return False
        self.champion = best
        return True

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        return [self.champion, self.count, self.hits, self._own, self.tables.copy(), self.recent.copy()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self.champion, self.count, self.hits, self._own, self.tables, self.recent = state


# The models of one level and horizon: champion and challengers over the same accounts, and the outcomes they wait for.
#
# Five models stand for every forecast:
#
# - ``structural``: the distance of passage alone, calibrated;
# - ``ratio``: the margin ratio alone through the same calibration;
# - ``full``: the distance with concentration, margin trend, deposits, order rate and earlier breaches;
# - ``pool``: the mean of the log-odds of the three. A pool errs less than its members where they err differently
#   (Genest and Zidek 1986, the logarithmic opinion pool);
# - ``record``: the pool times the account's own record (`BreachRecord`), where the champion begins.
#
# A forecast that was made at t waits until t + horizon is past; only then is it scored and learned from.

ACCOUNT_TERMS: Final = (
    "constant",
    "distance",
    "concentration",
    "margin_trend",
    "deposits",
    "order_rate",
    "earlier_breaches",
)
RATIO_TERM: Final = len(ACCOUNT_TERMS)
MODEL_NAMES: Final = ("structural", "ratio", "full", "pool", "record")
PRIOR_INTERCEPT: Final = -1.2  # log-odds of first passage one deviation away (t(4): 0.23)
PRIOR_SLOPE: Final = (
    1.5  # per e-fold of the distance: what t(4) has near it, less than it has far off, where books change
)
PRIOR_PRECISION: Final = 4.0
SAMPLING_PERIOD_S: Final = 3600.0  # between two looks at one account
SAMPLE_MAX: Final = 256  # forecasts kept per hour and level to learn from
REASONS_MAX: Final = 3


class ModelLayout(NamedTuple):
    """Names of the terms, the constant first, and of the models; which terms each member uses, with its prior.

    Behind the members stand their pool and the pool with its record; the last member tells why.
    """

    terms: tuple[str, ...]
    names: tuple[str, ...]
    used: tuple[list[int], ...]
    priors: tuple[tuple[float, ...], ...]


ACCOUNT_LAYOUT: Final = ModelLayout(
    (*ACCOUNT_TERMS, "margin_ratio"),
    MODEL_NAMES,
    ([0, 1], [0, RATIO_TERM], list(range(len(ACCOUNT_TERMS)))),
    ((PRIOR_INTERCEPT, PRIOR_SLOPE), (0.0, 1.0), (PRIOR_INTERCEPT, PRIOR_SLOPE, 0.0, 0.0, 0.0, 0.0, 0.0)),
)


class LevelModels:
    """Forecasts of one level within one horizon."""

    def __init__(self, horizon_s: int, layout: ModelLayout = ACCOUNT_LAYOUT) -> None:
        self.horizon_s, self.horizon_us = horizon_s, horizon_s * 1_000_000
        self.layout = layout
        self.weight = min(1.0, SAMPLING_PERIOD_S / horizon_s)
        self.members = [OnlineLogistic(prior, PRIOR_PRECISION) for prior in layout.priors]
        self.scores = ForecastScores(len(layout.names), len(layout.names) - 1)
        self.record = BreachRecord()
        names = [*(f"t{at}" for at in range(len(layout.terms))), *(f"p{at}" for at in range(len(layout.names)))]
        names.append("weight")
        self.pending = Columns({"account": "i8", "made_us": "i8"} | dict.fromkeys(names, "f8"))
        self._names = names

    def forecast(self, terms: F8, accounts: I8) -> F8:
        """Return the probabilities of all models, shape (models, accounts)."""
        odds = [member.log_odds(terms[used]) for member, used in zip(self.members, self.layout.used, strict=True)]
        pooled = np.zeros(terms.shape[1])
        for one in odds:
            pooled += one
        pooled /= len(odds)
        return logistic_probability(np.stack([*odds, pooled, pooled + self.record.log_odds(accounts)]))

    def expect(self, accounts: I8, said: F8, as_of_us: int) -> None:
        """Note what is forecast of all accounts, shape (models, accounts): their record is held against it."""
        self.record.expect(accounts, said[-2] / self.horizon_s, as_of_us)

    def contributions(self, terms: F8, accounts: I8) -> F8:
        """Return what each term of the full model adds to the log-odds, the record last: (terms + 1, accounts)."""
        own = self.members[-1].weights[:, None] * terms[self.layout.used[-1]]
        return np.concatenate([own, self.record.log_odds(accounts)[None]])

    @property
    def state(self) -> str:
        """Return ``warming``, ``ready``, or ``lost`` where the champion has come apart from what happens."""
        if not self.scores.ready:
            return "warming"
        return "lost" if bool(self.scores.lost()[self.scores.champion]) else "ready"

    def wait(self, accounts: I8, as_of_us: int, terms: F8, said: F8, weights: F8) -> None:
        """Remember forecasts until their outcome is known; ``weights`` undo the choice of accounts."""
        values = dict(zip(self._names, [*terms, *said, weights], strict=True))
        self.pending.append(len(accounts), account=accounts, made_us=as_of_us, **values)

    def resolve(self, before_us: int, crossed_us: I8) -> bool:
        """Score and learn from forecasts whose horizon ended before a time; return whether the champion changed.

        Parameters
        ----------
        crossed_us
            By account: when it last crossed the level, 0 never.
        """
        rows = self.pending
        if not rows.size or rows["made_us"].item(0) + self.horizon_us >= before_us:
            return False
        due = rows["made_us"] + self.horizon_us < before_us
        known = {name: rows[name][due] for name in ("account", "made_us", *self._names)}
        rows.keep(~due)
        outcomes = (crossed_us[known["account"]] > known["made_us"]).astype(np.float64)
        terms = np.stack([known[f"t{at}"] for at in range(len(self.layout.terms))])
        weights = self.weight * known["weight"]
        changed = self.scores.learn(
            np.stack([known[f"p{at}"] for at in range(len(self.layout.names))]), outcomes, weights
        )
        for member, used in zip(self.members, self.layout.used, strict=True):
            member.learn(terms[used], outcomes, weights)
        return changed

    def row(self, measure: str, level: str) -> dict[str, Any]:
        """Return how good forecasts have been, as it is published."""
        scores = self.scores
        figures = zip(
            self.layout.names, scores.log_loss().tolist(), scores.brier().tolist(), scores.lost(), strict=True
        )
        return {
            "measure": measure,
            "level": level,
            "horizon_s": self.horizon_s,
            "state": self.state,
            "champion": self.layout.names[scores.champion],
            "outcomes": int(scores.count),
            "breaches": int(scores.hits),
            "models": {n: {"log_loss": a, "brier": b, "lost": bool(c)} for n, a, b, c in figures},
            "bounds": list(CALIBRATION_BOUNDS),
            "table": scores.tables[scores.champion].tolist(),
        }

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        members = [member.snapshot() for member in self.members]
        return [members, self.scores.snapshot(), self.pending.snapshot(), self.record.snapshot()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        for member, one in zip(self.members, state[0], strict=True):
            member.restore(one)
        self.scores.restore(state[1])
        self.pending.restore(state[2])
        self.record.restore(state[3])


def sample_forecasts(said: F8) -> tuple[I8, F8]:
    """Return the forecasts to keep, and how many each stands for.

    All, or the most endangered half of a bounded number and some of the others.
    """
    count = len(said)
    if count <= SAMPLE_MAX:
        return np.arange(count), np.ones(count)
    order = np.argsort(-said, kind="stable")
    top, rest = order[: SAMPLE_MAX // 2], np.sort(order[SAMPLE_MAX // 2 :])
    some = rest[:: -(-len(rest) // (SAMPLE_MAX // 2))]
    weights = np.append(np.ones(len(top)), np.full(len(some), len(rest) / len(some)))
    return np.append(top, some), weights


def leading_terms(layout: ModelLayout, added: F8) -> list[dict[str, float]]:
    """Return by column of ``added`` the terms that move the log-odds most, largest first; the constant is none."""
    names = [*(layout.terms[at] for at in layout.used[-1]), "own_record"][1:]
    by_name = sorted(range(len(names)), key=names.__getitem__)  # of terms that move alike the first by name
    labels, rows = [names[at] for at in by_name], added[1:][by_name]
    order = np.argsort(-np.abs(rows), axis=0, kind="stable")[:REASONS_MAX]
    largest = np.take_along_axis(rows, order, axis=0)
    return [
        {labels[at]: value for at, value in zip(*pair, strict=True)}
        for pair in zip(order.T.tolist(), largest.T.tolist(), strict=True)
    ]
