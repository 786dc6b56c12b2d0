"""Running figures of one series: exponentially weighted moments that one wild value cannot poison, and volatility.

Only + - x / and square roots, in a fixed order, so that a figure is the same on every host.

References
----------
J. P. Morgan/Reuters (1996). RiskMetrics Technical Document, 4th ed., section 5.2: exponentially weighted variance.
"""

from math import sqrt

import msgspec

YEAR_US = 365.25 * 86_400 * 1_000_000
SHORT_RATE = 0.06  # RiskMetrics: a decay of .94
LONG_RATE = 0.01
FAR_Z2 = 25.0  # a squared deviation counts at most 25 variances once the series is known
VARIANCE_MIN = 1e-8  # one basis point squared: what a constant series may learn from at once
WARM_ROWS = 20
RETURN2_MAX = 1.0  # a move by the whole price counts as the largest there is
BLOCK_ROWS = 10
BLOCKS = 6  # the window of realised volatility: the last 51 to 60 rows, by whole blocks


class Moments(msgspec.Struct, array_like=True):
    """Exponentially weighted mean and variance, deviations winsorised."""

    rate: float
    mean: float = 0.0
    variance: float = 0.0
    rows: int = 0

    def z(self, value: float) -> float:
        """Return how many standard deviations ``value`` lies from the mean; 0 while there is no variance."""
        return (value - self.mean) / sqrt(self.variance) if self.variance > 0.0 else 0.0

    def learn(self, value: float) -> None:
        """Take in a value."""
        self.rows += 1
        if self.rows == 1:
            self.mean = value
            return
        rate = max(self.rate, 1.0 / self.rows)
        gap = value - self.mean
        squared = gap * gap
        if self.rows > WARM_ROWS:
            bound = max(FAR_Z2 * self.variance, VARIANCE_MIN * max(1.0, self.mean * self.mean))
            if squared > bound:
                squared, gap = bound, sqrt(bound) * (1.0 if gap > 0.0 else -1.0)
        self.mean += rate * gap
        self.variance = (1.0 - rate) * (self.variance + rate * squared)


class Volatility(msgspec.Struct, array_like=True):
    """Volatility of one price, row by row.

    Attributes
    ----------
    short2, span_us
        RiskMetrics averages of squared returns and of the time between rows.
    long2
        The slow average that returns are measured against; it learns at most ``FAR_Z2`` times itself from a row.
    squares, spans_us
        Sums of squared returns and of times between rows, for each of the last ``BLOCKS`` blocks of ``BLOCK_ROWS``.
    """

    short2: float = 0.0
    span_us: float = 0.0
    long2: float = 0.0
    rows: int = 0
    squares: list[float] = []
    spans_us: list[int] = []

    def take(self, change: float, span_us: int) -> tuple[float, float]:
        """Take a return over a time; give its z against those before it, and short over long volatility."""
        squared = min(change * change, RETURN2_MAX)
        z = change / sqrt(self.long2) if self.long2 > 0.0 else 0.0
        self.rows += 1
        short, long = max(SHORT_RATE, 1.0 / self.rows), max(LONG_RATE, 1.0 / self.rows)
        self.short2 += short * (squared - self.short2)
        self.span_us += short * (span_us - self.span_us)
        bound = max(FAR_Z2 * self.long2, VARIANCE_MIN)
        learned = min(squared, bound) if self.rows > WARM_ROWS else squared
        self.long2 += long * (learned - self.long2)
        if self.rows % BLOCK_ROWS == 1:
            self.squares.append(0.0)
            self.spans_us.append(0)
            if len(self.squares) > BLOCKS:
                del self.squares[0], self.spans_us[0]
        self.squares[-1] += squared
        self.spans_us[-1] += span_us
        return z, sqrt(self.short2 / self.long2) if self.long2 > 0.0 else 1.0

    def ew(self) -> float:
        """Return the exponentially weighted volatility, a fraction per year^½."""
        return sqrt(self.short2 / self.span_us * YEAR_US) if self.span_us > 0.0 else 0.0

    def realised(self) -> float:
        """Return the realised volatility of the window, a fraction per year^½.

        References
        ----------
        Andersen, T. G., Bollerslev, T. (1998). Answering the skeptics. International Economic Review 39(4).
        """
        total, span = 0.0, 0
        for squared, span_us in zip(self.squares, self.spans_us, strict=True):
            total, span = total + squared, span + span_us
        return sqrt(total / span * YEAR_US) if span else 0.0
