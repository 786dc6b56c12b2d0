"""Volatility and depth of every underlying, from what the journal holds: marks, and signals where there are any.

Sampled once per second of event time from the marks across venues. A mark that did not change its time is silence, not
calm: it adds nothing. Variance rates are exponentially weighted in event time by an implicit Euler step, which needs no
exponential (architecture.md, "Same bits"): ``v <- (v + w r^2/dt) / (1 + w)`` with ``w = dt / time constant``, stable
for every gap. While the record is shorter than the time constant, its own length takes that place, so that the first
returns do not weigh more than the later ones.

Three horizons: *today's* volatility over minutes, the *reference* over days, and the *stressed* one, the worst that
today's has been, forgotten over half a year. A volatility is known after :data:`RETURNS_MIN` returns, the reference
after a day. Marks of options say nothing of their underlying's volatility and are left out.

A price is a decimal of at most 20 digits and 18 places (contract.md, "Encoding"), so a positive one lies between 1e-18
and 1e20. From one end to the other within a microsecond is a rate of 1e82 a second, far from where a float64 overflows.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import Columns, MarketConditions
from seawall.operators.core.holdings import Directory

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
FAST_S: Final = 900.0
SLOW_S: Final = 7 * 86_400.0
PEAK_S: Final = 180 * 86_400.0
SIGNAL_AGE_US_MAX: Final = 60_000_000
RETURNS_MIN: Final = 30
BIDS_50_BP, ASKS_50_BP = 1, 5  # of a signal's depth: within 10, 50, 100 and 500 bp, bids then asks
REFERENCE_AFTER_S: Final = 86_400.0
YEAR_S: Final = 365 * 86_400.0
_ZERO: Final = ("price", "fast", "slow", "peak", "age_s", "depth", "depth_slow", "told")


class InstrumentSignal(Protocol):
    """Values of a journaled signal for one instrument; 0 and empty where it has none."""

    @property
    def instrument(self) -> str:
        """Return its id."""

    @property
    def price(self) -> float:
        """Return its price in the quote currency."""

    @property
    def time_us(self) -> int:
        """Return the event time of the newest price in it."""

    @property
    def depth(self) -> list[float]:
        """Return the quantity within 10, 50, 100 and 500 bp, bids then asks."""

    @property
    def ew_volatility(self) -> float:
        """Return the exponentially weighted volatility, a fraction per year^½."""


class VolatilityState:
    """Volatility of every instrument; rows are numbered as in the directory."""

    def __init__(self) -> None:
        times = {"time_us": "i8", "returns": "i8", "told_us": "i8", "depth_us": "i8"}
        self.rows = Columns({**dict.fromkeys(_ZERO, "f8"), **times})

    def hear_signals(self, rows: Iterable[InstrumentSignal], instruments: Mapping[str, int]) -> None:
        """Take what the signals of a slice say: EW volatility, and the thinner side of the book within 50 bp."""
        for row in rows:
            number = instruments.get(row.instrument)
            if number is not None:
                depth = min(row.depth[BIDS_50_BP], row.depth[ASKS_50_BP]) * row.price if row.depth else None
                self.hear(number, row.time_us, row.ew_volatility or None, depth)

    def hear(self, instrument: int, time_us: int, volatility: float | None, depth: float | None) -> None:
        """Take a journaled signal: a volatility (fraction per year^½) and a depth (in the reporting currency)."""
        self._reserve(instrument + 1)
        rows = self.rows
        if volatility is not None and time_us >= rows["told_us"].item(instrument):
            rows["told"][instrument], rows["told_us"][instrument] = volatility, time_us
        if depth is not None and time_us >= rows["depth_us"].item(instrument):
            before, since = rows["depth_slow"].item(instrument), rows["depth_us"].item(instrument)
            weight = (time_us - since) / 1e6 / SLOW_S
            rows["depth_slow"][instrument] = depth if not since else (before + weight * depth) / (1.0 + weight)
            rows["depth"][instrument], rows["depth_us"][instrument] = depth, time_us

    def sample(self, price: F8, time_us: I8) -> None:
        """Take the marks across venues as they stand: price (NaN: none) and event time of every instrument."""
        self._reserve(len(price))
        rows, count = self.rows, len(price)
        fresh = ((time_us > rows["time_us"][:count]) & (price > 0)).nonzero()[0]
        if not len(fresh):
            return
        before, now, at_us = rows["price"][fresh], price[fresh], time_us[fresh]
        moved = (before > 0).nonzero()[0]
        if len(moved):
            self._learn(fresh[moved], now[moved] / before[moved] - 1.0, at_us[moved])
        rows["price"][fresh], rows["time_us"][fresh] = now, at_us

    def sample_one(self, at: int, price: float, time_us: int) -> None:
        """Do what :meth:`sample` does for one instrument; the same operations in the same order, so the same bits."""
        self._reserve(at + 1)
        rows = self.rows
        before_us = rows["time_us"].item(at)
        if time_us <= before_us or not price > 0:
            return
        before = rows["price"].item(at)
        rows["price"][at], rows["time_us"][at] = price, time_us
        if before > 0:
            change, elapsed = price / before - 1.0, (time_us - before_us) / 1e6
            rate = change * change / elapsed
            rows["age_s"][at] = age = rows["age_s"].item(at) + elapsed
            rows["returns"][at] = returns = rows["returns"].item(at) + 1
            rows["fast"][at] = fast = _weighted_one(rows["fast"].item(at), rate, elapsed, age, FAST_S)
            rows["slow"][at] = _weighted_one(rows["slow"].item(at), rate, elapsed, age, SLOW_S)
            faded = rows["peak"].item(at) / (1.0 + elapsed / PEAK_S)
            rows["peak"][at] = max(faded, fast) if returns >= RETURNS_MIN else 0.0

    def _learn(self, at: I8, change: F8, at_us: I8) -> None:
        rows = self.rows
        elapsed = (at_us - rows["time_us"][at]) / 1e6
        rate = change * change / elapsed
        rows["age_s"][at] = age = rows["age_s"][at] + elapsed
        rows["returns"][at] = returns = rows["returns"][at] + 1
        rows["fast"][at] = fast = _weighted(rows["fast"][at], rate, elapsed, age, FAST_S)
        rows["slow"][at] = _weighted(rows["slow"][at], rate, elapsed, age, SLOW_S)
        faded = rows["peak"][at] / (1.0 + elapsed / PEAK_S)
        rows["peak"][at] = np.where(returns >= RETURNS_MIN, np.maximum(faded, fast), 0.0)

    def markets(self, directory: Directory, as_of_us: int) -> MarketConditions:
        """Return what is known of each underlying: of its first instrument, by number, of which it is known."""
        rows, count = self.rows, self.rows.size
        warm = rows["returns"] >= RETURNS_MIN
        old = (rows["age_s"] >= REFERENCE_AFTER_S) & (rows["slow"] > 0)  # a market that stood still is no measure
        is_fresh = (rows["told_us"] > 0) & (as_of_us - rows["told_us"] <= SIGNAL_AGE_US_MAX)
        today = np.where(is_fresh, rows["told"], np.where(warm, _yearly(rows["fast"]), np.nan))
        stressed = np.where(warm, np.fmax(_yearly(rows["peak"]), today), today)
        deep = (rows["depth_us"] > 0) & (as_of_us - rows["depth_us"] <= SIGNAL_AGE_US_MAX)
        found = (
            today,
            stressed,
            np.where(old, _yearly(rows["slow"]), np.nan),
            np.where(deep, rows["depth"], np.nan),
            np.where(deep, rows["depth_slow"], np.nan),
        )
        underlying = directory.arrays["underlying"][:count]
        linear = np.array([record.kind != "option" for record in directory.instrument_records[:count]], dtype=bool)
        names = list(directory.underlyings)
        return MarketConditions(names, *(_first_known(values, linear, underlying, len(names)) for values in found))

    def depths(self, as_of_us: int) -> F8:
        """Return the visible depth of every instrument, NaN where it is not known or too old."""
        rows = self.rows
        deep = (rows["depth_us"] > 0) & (as_of_us - rows["depth_us"] <= SIGNAL_AGE_US_MAX)
        return np.where(deep, rows["depth"], np.nan)

    def _reserve(self, count: int) -> None:
        if count > self.rows.size:
            self.rows.append(count - self.rows.size)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays."""
        return self.rows.snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.rows.restore(state)


def _weighted(before: F8, rate: F8, elapsed: F8, age: F8, constant_s: float) -> F8:
    """Return the weighted rate one step on; a record shorter than the time constant is averaged over its length."""
    span = np.minimum(age - elapsed, constant_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = elapsed / span
        result: F8 = np.where(span > 0, (before + weight * rate) / (1.0 + weight), rate)
    return result


def _weighted_one(before: float, rate: float, elapsed: float, age: float, constant_s: float) -> float:
    span = min(age - elapsed, constant_s)
    if span <= 0:
        return rate
    weight = elapsed / span
    return (before + weight * rate) / (1.0 + weight)


def _yearly(rate: F8) -> F8:
    result: F8 = np.sqrt(rate * YEAR_S)
    return result


def _first_known(values: F8, linear: NDArray[np.bool_], underlying: I8, count: int) -> F8:
    result = np.full(count, np.nan)
    known = (linear & ~np.isnan(values)).nonzero()[0][::-1]
    result[underlying[known]] = values[known]  # of several the last assignment stays: the lowest number
    return result
