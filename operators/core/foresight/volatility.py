"""Bars of all instruments, their moves, and the forecasts over several horizons that learn from them (``horizon``).

A bar after silence stands for all the bars since the last one, its variance spread over them.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight.horizon import Horizon, Move, Outcome
from seawall.operators.core.valuation.arithmetic import log

F8 = NDArray[np.float64]
B1 = NDArray[np.bool_]
GAP_MAX: Final = 1440.0  # bars over which one return is spread at most


class Bar(NamedTuple):
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
        self.horizons = {horizon: Horizon(horizon // step_s, float(step_s)) for horizon in horizons_s}
        self._close: F8 = np.zeros(0)
        self._last: F8 = np.zeros(0)  # index of the last bar in which it was seen

    def observe(self, bar: Bar, index: int) -> dict[int, Outcome]:
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

    def _move(self, bar: Bar, index: int) -> Move:
        """Return the move of each instrument since its last bar, spread over the bars in between."""
        known = bar.seen & (self._close > 0)
        before = np.where(known, self._close, 1.0)
        returns = log(np.where(known, bar.close, 1.0) / before)
        high = np.maximum(np.where(known, bar.high, 1.0), before)
        low = np.minimum(np.where(known, bar.low, 1.0), before)
        widest, square = log(high / low), returns * returns
        bars = np.where(known, np.minimum(float(index) - self._last, GAP_MAX), 0.0)
        part = 1.0 / np.maximum(bars, 1.0)
        return Move((0.25 * widest * widest + 0.307 * square) * part, square * part, bars)

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
