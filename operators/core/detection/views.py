"""Five views of one series, each with moments and a range that refuse to learn a crisis.

The views are the classical ones: the **level** itself; its **drift** from a slow running mean; its deviation from the
**hour** of the day's usual level; its **change** since the last row; its **volatility**. Each keeps

* robust moments (``moments``): mean and variance that a crisis hardly moves;
* the range of all it has seen, as a circuit breaker has: leaving it by some share of its width is evidence. A range at
  most doubles per row, so that one spike does not blind it, and shrinks by 2e-5 per row, half in 35,000.

References
----------
CME Group, Dynamic Circuit Breakers: a band around a look-back high and low.
"""

from math import inf, sqrt
from typing import NamedTuple

from seawall.operators.core.detection.moments import WARM_ROWS, distance, learned

VIEWS = ("level", "drift", "hour", "change", "volatility")
DRIFT_RATE = 0.01
VOLATILITY_RATE = 0.05
HOUR_RATE = 0.2  # a memory of about five days for each hour of the day
HOURS = 24
RANGE_DECAY = 1e-5  # per row and side
EVIDENCE_HALF = 0.2  # leaving the range by a fifth of its width is half of full evidence
HOUR_US = 3_600_000_000
UNKNOWN = inf  # of a level that was never seen; no usable value reaches it, and unlike NaN it equals itself

_LEVEL, _DRIFT, _HOUR, _CHANGE, _VOLATILITY = range(5)
NUMBERS = 5 * len(VIEWS) + HOURS + 6  # of one column's state


class Looks(NamedTuple):
    """One row seen through the five views; None where a view has no opinion yet."""

    values: tuple[float | None, ...]
    distances: tuple[float, ...]  # squared standard deviations from the mean, at most DISTANCE_MAX
    evidence: tuple[float, ...]  # 0..1: how far outside the range


class Column:
    """The state of one series: 55 floats, 440 bytes.

    Examples
    --------
    >>> column = Column()
    >>> for row in range(400):
    ...     column.learn(100.0 + row % 5, None, column.look(100.0 + row % 5, None))
    >>> looks = column.look(110.0, None)
    >>> round(looks.evidence[0], 2), looks.distances[2]
    (0.88, 0.0)
    """

    __slots__ = ("count", "energy", "high", "hour", "hour_count", "hour_mean", "hour_sum", "last", "low",
                 "mean", "slow", "variance")  # fmt: skip

    def __init__(self) -> None:
        self.mean = [0.0] * 5
        self.variance = [0.0] * 5
        self.count = [0.0] * 5
        self.low = [0.0] * 5
        self.high = [0.0] * 5
        self.hour_mean = [UNKNOWN] * HOURS
        self.hour = -1.0
        self.hour_sum = 0.0
        self.hour_count = 0.0
        self.last = UNKNOWN
        self.slow = 0.0
        self.energy = 0.0

    def look(self, value: float, time_us: int | None) -> Looks:
        """See ``value`` through the five views; changes nothing."""
        values = self._values(value, time_us)
        distances, evidence = [0.0] * 5, [0.0] * 5
        for view, seen in enumerate(values):
            count = self.count[view]
            if seen is None or count == 0.0:
                continue
            distances[view] = distance(self.mean[view], self.variance[view], count, seen)
            if count > WARM_ROWS and not self.low[view] <= seen <= self.high[view]:
                evidence[view] = _evidence(seen, self.low[view], self.high[view])
        return Looks(values, tuple(distances), tuple(evidence))

    def learn(self, value: float, time_us: int | None, looks: Looks) -> None:
        """Take in ``value``, of which ``looks`` is what ``look`` answered."""
        for view, seen in enumerate(looks.values):
            if seen is not None:
                self.count[view] = count = self.count[view] + 1.0
                self.mean[view], self.variance[view] = learned(
                    self.mean[view], self.variance[view], count, seen, looks.distances[view]
                )
                self._learn_range(view, seen)
        first = self.last == UNKNOWN
        change = 0.0 if first else value - self.last
        self.slow = value if first else self.slow + DRIFT_RATE * (value - self.slow)
        self.energy += VOLATILITY_RATE * (change * change - self.energy)
        self.last = value
        if time_us is not None:
            self._learn_hour(value, time_us // HOUR_US % HOURS)

    def numbers(self) -> list[float]:
        """Return the state as a flat list of fixed length."""
        scalars = [self.hour, self.hour_sum, self.hour_count, self.last, self.slow, self.energy]
        arrays = self.mean + self.variance + self.count + self.low + self.high
        return arrays + self.hour_mean + scalars

    def take(self, numbers: list[float]) -> None:
        """Take over a state that ``numbers`` returned."""
        self.mean, self.variance, self.count, self.low, self.high = (numbers[at : at + 5] for at in range(0, 25, 5))
        self.hour_mean = numbers[25 : 25 + HOURS]
        self.hour, self.hour_sum, self.hour_count, self.last, self.slow, self.energy = numbers[25 + HOURS :]

    def lend(self) -> None:
        """Forget what belongs to one series in time and keep what is usual: how a series like it may begin.

        Volatility begins at its mean. Counts fall to those of a column that has just warmed up, so that the new
        series' own rows soon outweigh the borrowed ones.
        """
        self.hour, self.hour_sum, self.hour_count = -1.0, 0.0, 0.0
        self.last, self.slow, self.energy = UNKNOWN, 0.0, self.mean[_VOLATILITY] * self.mean[_VOLATILITY]
        self.count = [min(count, WARM_ROWS + 1.0) for count in self.count]

    def _values(self, value: float, time_us: int | None) -> tuple[float | None, ...]:
        first = self.last == UNKNOWN
        change = 0.0 if first else value - self.last
        drift = 0.0 if first else value - self.slow
        level = UNKNOWN if time_us is None else self.hour_mean[time_us // HOUR_US % HOURS]
        energy = self.energy + VOLATILITY_RATE * (change * change - self.energy)
        return value, drift, None if level == UNKNOWN else value - level, change, sqrt(energy)

    def _learn_range(self, view: int, seen: float) -> None:
        low, high = self.low[view], self.high[view]
        if self.count[view] == 1.0:
            self.low[view] = self.high[view] = seen
            return
        width = high - low
        if self.count[view] > WARM_ROWS and width > 0.0:
            low, high = low + RANGE_DECAY * width, high - RANGE_DECAY * width
            seen = min(max(seen, low - width), high + width)
        self.low[view], self.high[view] = min(low, seen), max(high, seen)

    def _learn_hour(self, value: float, hour: int) -> None:
        if hour != self.hour:
            if self.hour_count > 0.0:
                left, level = int(self.hour), self.hour_sum / self.hour_count
                usual = self.hour_mean[left]
                self.hour_mean[left] = level if usual == UNKNOWN else usual + HOUR_RATE * (level - usual)
            self.hour, self.hour_sum, self.hour_count = float(hour), 0.0, 0.0
        self.hour_sum += value
        self.hour_count += 1.0


def _evidence(seen: float, low: float, high: float) -> float:
    excess = seen - high if seen > high else low - seen
    return excess / (excess + EVIDENCE_HALF * (high - low or excess))
