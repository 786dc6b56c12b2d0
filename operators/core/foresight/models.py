"""The models of one level and horizon: champion and challengers over the same accounts, and the outcomes they wait for.

Four models stand for every forecast:

- ``structural``: the distance of passage alone, calibrated;
- ``ratio``: the margin ratio alone through the same calibration;
- ``full``: the distance with concentration, margin trend, deposits, order rate and earlier breaches;
- ``pool``: the mean of the log-odds of the three, where the champion begins. A pool errs less than its members
  where they err differently (Genest and Zidek 1986, the logarithmic opinion pool).

A forecast that was made at t waits until t + horizon is past; only then is it scored and learned from.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import Columns
from seawall.operators.core.foresight.calibration import Logistic, probability
from seawall.operators.core.foresight.scores import Scores

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
TERMS: Final = ("constant", "distance", "concentration", "margin_trend", "deposits", "order_rate", "earlier_breaches")
RATIO_TERM: Final = len(TERMS)
MODELS: Final = ("structural", "ratio", "full", "pool")
POOL: Final = MODELS.index("pool")
INTERCEPT: Final = -1.2  # log-odds of first passage one deviation away (t(4): 0.23)
SLOPE: Final = 1.5  # per e-fold of the distance: what t(4) has near it, less than it has far off, where books change
PRECISION: Final = 4.0
EVERY_S: Final = 3600.0  # between two looks at one account
_USED = ([0, 1], [0, RATIO_TERM], list(range(len(TERMS))))
_PRIORS = ((INTERCEPT, SLOPE), (0.0, 1.0), (INTERCEPT, SLOPE, 0.0, 0.0, 0.0, 0.0, 0.0))


class Models:
    """Forecasts of one level within one horizon."""

    def __init__(self, horizon_s: int) -> None:
        self.horizon_us = horizon_s * 1_000_000
        self.weight = min(1.0, EVERY_S / horizon_s)
        self.members = [Logistic(prior, PRECISION) for prior in _PRIORS]
        self.scores = Scores(len(MODELS), POOL)
        names = [*(f"t{at}" for at in range(RATIO_TERM + 1)), *(f"p{at}" for at in range(len(MODELS))), "weight"]
        self.pending = Columns({"account": "i8", "made_us": "i8"} | dict.fromkeys(names, "f8"))
        self._names = names

    def forecast(self, terms: F8) -> F8:
        """Return the probabilities of all models, shape (models, accounts)."""
        odds = [member.log_odds(terms[used]) for member, used in zip(self.members, _USED, strict=True)]
        pooled = (odds[0] + odds[1] + odds[2]) / 3.0
        return probability(np.stack([*odds, pooled]))

    def contributions(self, terms: F8) -> F8:
        """Return what each term of the full model adds to the log-odds, shape (terms, accounts)."""
        return np.asarray(self.members[2].weights[:, None] * terms[_USED[2]])

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
        terms = np.stack([known[f"t{at}"] for at in range(RATIO_TERM + 1)])
        weights = self.weight * known["weight"]
        changed = self.scores.learn(np.stack([known[f"p{at}"] for at in range(len(MODELS))]), outcomes, weights)
        for member, used in zip(self.members, _USED, strict=True):
            member.learn(terms[used], outcomes, weights)
        return changed

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        return [[member.snapshot() for member in self.members], self.scores.snapshot(), self.pending.snapshot()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        for member, one in zip(self.members, state[0], strict=True):
            member.restore(one)
        self.scores.restore(state[1])
        self.pending.restore(state[2])
