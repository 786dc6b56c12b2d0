"""How good forecasts have been: every one is scored when its outcome is known.

Brier score and log loss by model, discounted so that the last few hundred outcomes count; a table of what was forecast
against what came, without discount. The model that is believed is the champion. It loses its place by rule: when its
forecasts and their outcomes have come apart by more than :data:`LOST` standard deviations and another's discounted log
loss is lower. It is then ``lost`` until its own figures are back.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import totals
from seawall.operators.core.valuation.arithmetic import log

F8 = NDArray[np.float64]
BOUNDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7)
MEMORY: Final = 2000.0  # outcomes: what the discounted figures stand for
LOST: Final = 3.0
READY_MIN: Final = 5.0  # outcomes of either kind before a model is more than warming


class Scores:
    """Figures of several models over the same forecasts: rows are models, the champion is one of them."""

    def __init__(self, models: int, champion: int) -> None:
        self.champion = champion
        self.count = self.hits = 0.0
        self.tables: F8 = np.zeros((models, len(BOUNDS) + 1, 3))  # forecasts, their sum, outcomes
        self.recent: F8 = np.zeros((models, 5))  # weight, log loss, Brier score, outcome less forecast, its variance
        self._own = 0.0  # outcomes by the share of their horizon that is their own

    def learn(self, forecasts: F8, outcomes: F8, weights: F8) -> bool:
        """Take forecasts of shape (models, cases), what came, and how much of each is its own; return a new champion.

        True where the champion changed.
        """
        self.count += len(outcomes)
        self.hits += float(totals(outcomes))
        self._own += float(totals(weights * outcomes))
        fade = max(0.0, 1.0 - len(outcomes) / MEMORY)
        for model, said in enumerate(forecasts):
            bins = np.searchsorted(np.array(BOUNDS), said, side="right")
            for column, values in enumerate((np.ones(len(said)), said, outcomes)):
                self.tables[model, :, column] += np.bincount(bins, values, len(BOUNDS) + 1)
            loss = -log(np.where(outcomes > 0, said, 1.0 - said))
            off = outcomes - said
            parts = (np.ones(len(said)), loss, off * off, weights * off, weights * said * (1.0 - said))
            self.recent[model] = fade * self.recent[model] + totals(np.stack(parts))
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
        return np.asarray(np.abs(self.recent[:, 3]) > LOST * spread)

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
