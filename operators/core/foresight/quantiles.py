"""Quantiles that keep their coverage when the market changes: adaptive conformal inference.

A quantile is a multiple of the deviation that is forecast for its side (``sides``). After each outcome its multiple
moves against the error of its coverage, ``q <- q - eta * scale * (mean(outcome <= q) - level)``, the online form of
the pinball loss's subgradient: whatever the market does, the share of outcomes below the quantile tends to its level.
All instruments move one multiple together, each with an equal share, because tails are rare in each and alike in all.

References
----------
I. Gibbs, E. Candès, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021, eq. 2 (the same feedback, on
the level). A. Angelopoulos, E. Candès, R. Tibshirani, "Conformal PID Control for Time Series Prediction", NeurIPS 2023,
eq. 4: quantile tracking, the feedback on the quantile itself with a step in proportion to its size, as here.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight.linear import mean

F8 = NDArray[np.float64]
LEVELS: Final = (0.01, 0.05, 0.95, 0.99)
STUDENT_4: Final = (-2.6494967, -1.5074372, 1.5074372, 2.6494967)  # of variance 1: where tracking begins
SIDE: Final = np.array([0, 0, 1, 1])  # of falls, of rises: whose deviation each level is a multiple of
STEP: Final = 0.03
SCALE_MIN: Final = 0.5  # of a standard deviation: a multiple near 0 could never leave it


class Quantiles:
    """The multiples of one horizon, one per level of :data:`LEVELS`."""

    def __init__(self) -> None:
        self.multiples: F8 = np.array(STUDENT_4)

    def learn(self, outcomes: F8) -> None:
        """Take the outcomes of all instruments whose horizon ended, in units of each side's deviation, shape (2, n)."""
        if not outcomes.shape[-1]:
            return
        below = outcomes[SIDE] <= self.multiples[:, None]
        miss = mean(below.astype(np.float64)) - np.array(LEVELS)
        self.multiples = self.multiples - STEP * np.maximum(np.abs(self.multiples), SCALE_MIN) * miss
