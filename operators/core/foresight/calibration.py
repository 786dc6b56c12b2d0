"""Calibration on outcomes, online: logistic regression whose prior is the structural model.

Weights have a normal prior; each batch of outcomes is one Newton step from where they stand, and what they were learned
from stays in the precision (the Laplace approximation, updated in turn: Spiegelhalter and Lauritzen 1990). River's
``linear_model.LogisticRegression`` takes one gradient step per outcome, keeps no precision, so that its rate must be
chosen by looking at results, and calls the C library's ``exp``, whose bits differ between hosts (architecture.md, "Same
bits").

Horizons overlap: an account that is looked at every hour gives 24 outcomes of the same day, which say about as much as
one. Each counts for the share of its horizon that is its own (Lopez de Prado 2018, chapter 4, "uniqueness").
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import totals
from seawall.operators.core.foresight.linear import moments, product, solve
from seawall.operators.core.valuation.arithmetic import exp

F8 = NDArray[np.float64]
LOG_ODDS_MAX: Final = 13.8  # one in a million


def probability(log_odds: F8) -> F8:
    """Return the probability of log-odds, which are held between one in a million and all but one."""
    bounded = np.minimum(np.maximum(log_odds, -LOG_ODDS_MAX), LOG_ODDS_MAX)
    return np.asarray(1.0 / (1.0 + exp(-bounded)))


class Logistic:
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
        return product(self.weights, terms)

    def learn(self, terms: F8, outcomes: F8, weights: F8) -> None:
        """Take one batch of outcomes (0 or 1), each of which counts ``weights``."""
        guess = probability(self.log_odds(terms))
        self._precision = self._precision + moments(terms * (weights * guess * (1.0 - guess)), terms)
        self.weights = self.weights + solve(self._precision, totals(terms * (weights * (outcomes - guess))))

    def snapshot(self) -> list[Any]:
        """Return the state as arrays."""
        return [self.weights.copy(), self._precision.copy()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self.weights, self._precision = state
