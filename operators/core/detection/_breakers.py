"""Circuit-breaker rules as trading venues run them, and the event-time windows that they look back on."""

from collections import deque
from math import inf

from seawall.operators.core.base import pack_numbers, unpack_numbers
from seawall.operators.core.detection._samples import VALUE_MAX
from seawall.operators.core.detection._statistics import ordered_total

# Event time for rules: a clock, and extremes and means minute by minute.

MINUTE_US = 60_000_000
BEHIND_MAX = 10  # rows in a row behind the latest one, after which that one is taken to be wrong


class EventClock:
    """The latest event time; rows behind it are not taken, unless ten in a row are.

    Examples
    --------
    >>> now = EventClock()
    >>> now.takes(5), now.takes(4), now.takes(5)
    (True, False, True)
    >>> now.takes(10**15), [now.takes(6 + row) for row in range(10)].count(True), now.restarted
    (True, 1, True)
    """

    __slots__ = ("_behind", "_us", "restarted")

    def __init__(self, us: int = 0, behind: int = 0) -> None:
        self._us, self._behind = us, behind
        self.restarted = False

    def takes(self, time_us: int) -> bool:
        """Move to ``time_us`` and say whether its row counts; ``restarted`` says whether time was set back for it."""
        self.restarted = False
        if time_us < self._us:
            self._behind += 1
            self.restarted = self._behind >= BEHIND_MAX
            if not self.restarted:
                return False
        self._us, self._behind = time_us, 0
        return True

    def numbers(self) -> list[float]:
        """Return the state."""
        return [self._us, self._behind]


class MinuteExtremes:
    """Lowest and highest value of a bounded number of minutes.

    Kept are only values that can still become an extreme: in each minute at most one low, below all later ones, and one
    high, above all later ones. So both answers are at hand, and a calm hour takes a handful of numbers.

    References
    ----------
    Lemire, D. (2006). Streaming maximum-minimum filter using no more than three comparisons per element.

    Examples
    --------
    >>> seen = MinuteExtremes(60)
    >>> for minute, value in enumerate((5.0, 3.0, 4.0)):
    ...     seen.add(minute * MINUTE_US, value)
    >>> seen.low(), seen.high(), len(seen.numbers())
    (3.0, 5.0, 9)
    """

    def __init__(self, minutes_max: int) -> None:
        self._minutes_max = minutes_max
        self._lows: deque[tuple[float, float]] = deque()  # minute, value
        self._highs: deque[tuple[float, float]] = deque()

    def add(self, time_us: int, value: float) -> None:
        """Count one value, at a time not before the last one."""
        minute = float(time_us // MINUTE_US)
        lows, highs = self._lows, self._highs
        while lows and lows[-1][1] >= value:
            lows.pop()
        if not lows or lows[-1][0] != minute:
            lows.append((minute, value))
        while highs and highs[-1][1] <= value:
            highs.pop()
        if not highs or highs[-1][0] != minute:
            highs.append((minute, value))
        self.forget(time_us)

    def forget(self, time_us: int) -> None:
        """Drop the minutes that lie too far back from ``time_us``."""
        oldest = time_us // MINUTE_US - self._minutes_max
        for kept in (self._lows, self._highs):
            while kept and kept[0][0] <= oldest:
                kept.popleft()

    def clear(self) -> None:
        """Forget all."""
        self._lows.clear()
        self._highs.clear()

    def low(self) -> float | None:
        """Return the lowest value; None when there are none."""
        return self._lows[0][1] if self._lows else None

    def high(self) -> float | None:
        """Return the highest value; None when there are none."""
        return self._highs[0][1] if self._highs else None

    def numbers(self) -> list[float]:
        """Return the state: how many lows, then two numbers for each low and high."""
        pairs = [number for kept in (self._lows, self._highs) for pair in kept for number in pair]
        return [float(len(self._lows)), *pairs]

    def take(self, numbers: list[float]) -> None:
        """Take over a state that ``numbers`` returned."""
        pairs = [(numbers[at], numbers[at + 1]) for at in range(1, len(numbers), 2)]
        self._lows, self._highs = deque(pairs[: int(numbers[0])]), deque(pairs[int(numbers[0]) :])


class MinuteMeans:
    """Sum and count of values per minute, for a bounded number of minutes."""

    def __init__(self, minutes_max: int) -> None:
        self._minutes_max = minutes_max
        self._buckets: deque[list[float]] = deque()  # minute, sum, count

    def add(self, time_us: int, value: float) -> None:
        """Count one value, at a time not before the last one."""
        minute = time_us // MINUTE_US
        if self._buckets and self._buckets[-1][0] == minute:
            last = self._buckets[-1]
            last[1], last[2] = last[1] + value, last[2] + 1.0
        else:
            self._buckets.append([float(minute), value, 1.0])
        while self._buckets and self._buckets[0][0] <= minute - self._minutes_max:
            self._buckets.popleft()

    def clear(self) -> None:
        """Forget all."""
        self._buckets.clear()

    def mean(self) -> float | None:
        """Return the average of the minutes' averages: a burst of prints does not outweigh the minutes around it."""
        if not self._buckets:
            return None
        return ordered_total(bucket[1] / bucket[2] for bucket in self._buckets) / len(self._buckets)

    def numbers(self) -> list[float]:
        """Return the state: three numbers for each minute."""
        return [number for bucket in self._buckets for number in bucket]

    def take(self, numbers: list[float]) -> None:
        """Take over a state that ``numbers`` returned."""
        self._buckets = deque(numbers[at : at + 3] for at in range(0, len(numbers), 3))


# Circuit-breaker rules as trading venues run them: deterministic, in event time, with bounded state.
#
# * ``LookBackBand``, after CME's Dynamic Circuit Breaker: the price may not rise a set fraction above the lowest, nor
#   fall as far below the highest, price of the past hour. A trip pauses for two minutes, then the look-back restarts.
# * ``ReferenceBand``, after the US Limit Up-Limit Down plan: a band around the average of the past five minutes, 5 %
#   wide, that must be left for 15 seconds; a trip pauses for five minutes.
# * ``PremiumBand``, after OKX's price limits: a band around the index that follows the average premium of the contract
#   over five minutes, inside a hard band around the index alone.
#
# Each answers with the trip's reason, or None. Time that goes backwards and prices that are not above zero are ignored:
# such a row neither trips a rule nor moves its reference. When ten rows in a row lie behind, the one ahead of them was
# wrong, and the rule starts anew from them: one false time stamp must not switch a rule off until that time comes.
#
# References
# ----------
# CME Group, "Dynamic Circuit Breakers"; SEC National Market System Plan to Address Extraordinary Market Volatility;
# OKX, "Price limit rules".

SECOND_US = 1_000_000

_NEVER = -inf  # a time that none is
_LOOK_BACK_TAG, _REFERENCE_TAG, _PREMIUM_TAG = "lookbk02", "refbnd02", "premiu02"


class LookBackBand:
    """Trip when the price moves by ``fraction`` against the past ``look_back_minutes``.

    Examples
    --------
    >>> band = LookBackBand(fraction=0.05)
    >>> [band.check(minute * 60_000_000, price) for minute, price in enumerate((100.0, 98.0, 94.0, 93.0, 92.5))]
    [None, None, 'price 94 is 6.0 % below its 60-minute high 100', None, None]
    """

    def __init__(self, fraction: float, look_back_minutes: int = 60, pause_us: int = 2 * MINUTE_US) -> None:
        self._fraction, self._minutes, self._pause_us = fraction, look_back_minutes, pause_us
        # One minute more, so that a bar exactly one look-back ago is seen: on hourly bars an hour is one step.
        self._seen = MinuteExtremes(look_back_minutes + 1)
        self._now, self._open_us = EventClock(), 0

    def check(self, time_us: int, price: float) -> str | None:
        """Take one price and say why it trips the rule, if it does."""
        if not 0.0 < price <= VALUE_MAX or not self._now.takes(time_us):
            return None
        if self._now.restarted:
            self._seen.clear()
            self._open_us = 0
        if time_us < self._open_us:
            return None
        self._seen.forget(time_us)
        low, high = self._seen.low() or price, self._seen.high() or price
        reason = None
        if price <= high * (1.0 - self._fraction):
            reason = (
                f"price {price:g} is {100 - 100 * price / high:.1f} % below its {self._minutes}-minute high {high:g}"
            )
        elif price >= low * (1.0 + self._fraction):
            reason = f"price {price:g} is {100 * price / low - 100:.1f} % above its {self._minutes}-minute low {low:g}"
        if reason is not None:
            self._seen.clear()
            self._open_us = time_us + self._pause_us
        self._seen.add(time_us, price)
        return reason

    def snapshot(self) -> bytes:
        """Encode the state: at most 32 bytes per minute of the look-back, most of the time far less."""
        return pack_numbers(_LOOK_BACK_TAG, self.numbers())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same rule."""
        self.take(unpack_numbers(_LOOK_BACK_TAG, data))

    def numbers(self) -> list[float]:
        """Return the state as a flat list."""
        return [*self._now.numbers(), self._open_us, *self._seen.numbers()]

    def take(self, numbers: list[float]) -> None:
        """Take over what ``numbers`` returned."""
        now_us, behind, open_us, *seen = numbers
        self._now, self._open_us = EventClock(int(now_us), int(behind)), int(open_us)
        self._seen.take(seen)


class ReferenceBand:
    """Trip when the price stays outside ``fraction`` around its five-minute average for ``persistence_us``."""

    def __init__(
        self,
        fraction: float = 0.05,
        persistence_us: int = 15 * SECOND_US,
        reference_minutes: int = 5,
        pause_us: int = 5 * MINUTE_US,
    ) -> None:
        self._fraction, self._persistence_us, self._pause_us = fraction, persistence_us, pause_us
        self._seen = MinuteMeans(reference_minutes)
        self._now, self._open_us = EventClock(), 0
        self._outside_since_us: int | None = None

    def check(self, time_us: int, price: float) -> str | None:
        """Take one price and say why it trips the rule, if it does."""
        if not 0.0 < price <= VALUE_MAX or not self._now.takes(time_us):
            return None
        if self._now.restarted:
            self._seen.clear()
            self._open_us, self._outside_since_us = 0, None
        if time_us < self._open_us:
            return None
        reference = self._seen.mean()
        if reference is None or abs(price - reference) <= self._fraction * reference:
            self._outside_since_us = None
            self._seen.add(time_us, price)
            return None
        if self._outside_since_us is None:
            self._outside_since_us = time_us
        outside_us = time_us - self._outside_since_us
        if outside_us < self._persistence_us:
            return None
        self._outside_since_us, self._open_us = None, time_us + self._pause_us
        self._seen.clear()
        return (
            f"price {price:g} was outside {100 * self._fraction:g} % of {reference:g} for {outside_us // SECOND_US} s"
        )

    def snapshot(self) -> bytes:
        """Encode the state: at most 24 bytes per minute of the reference."""
        return pack_numbers(_REFERENCE_TAG, self.numbers())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same rule."""
        self.take(unpack_numbers(_REFERENCE_TAG, data))

    def numbers(self) -> list[float]:
        """Return the state as a flat list."""
        since_us = _NEVER if self._outside_since_us is None else self._outside_since_us
        return [*self._now.numbers(), self._open_us, since_us, *self._seen.numbers()]

    def take(self, numbers: list[float]) -> None:
        """Take over what ``numbers`` returned."""
        now_us, behind, open_us, since_us, *seen = numbers
        self._now, self._open_us = EventClock(int(now_us), int(behind)), int(open_us)
        self._outside_since_us = None if since_us == _NEVER else int(since_us)
        self._seen.take(seen)


class PremiumBand:
    """Trip when a derivative's price leaves the band around its index.

    Upper limit: min(max(index, index × (1 + inner) + premium), index × (1 + outer)), and the lower one mirrored.
    """

    def __init__(self, inner: float = 0.02, outer: float = 0.05, premium_minutes: int = 5) -> None:
        self._inner, self._outer = inner, outer
        self._premiums = MinuteMeans(premium_minutes)
        self._now = EventClock()

    def check(self, time_us: int, price: float, index: float) -> str | None:
        """Take price and index of one moment and say why they trip the rule, if they do."""
        if not (0.0 < price <= VALUE_MAX and 0.0 < index <= VALUE_MAX) or not self._now.takes(time_us):
            return None
        if self._now.restarted:
            self._premiums.clear()
        premium = self._premiums.mean() or 0.0
        upper = min(max(index, index * (1.0 + self._inner) + premium), index * (1.0 + self._outer))
        lower = max(min(index, index * (1.0 - self._inner) + premium), index * (1.0 - self._outer))
        self._premiums.add(time_us, price - index)
        if price > upper:
            return f"price {price:g} is above its limit {upper:g} at index {index:g}"
        if price < lower:
            return f"price {price:g} is below its limit {lower:g} at index {index:g}"
        return None

    def snapshot(self) -> bytes:
        """Encode the state: at most 24 bytes per minute of the average premium."""
        return pack_numbers(_PREMIUM_TAG, self.numbers())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same rule."""
        self.take(unpack_numbers(_PREMIUM_TAG, data))

    def numbers(self) -> list[float]:
        """Return the state as a flat list."""
        return [*self._now.numbers(), *self._premiums.numbers()]

    def take(self, numbers: list[float]) -> None:
        """Take over what ``numbers`` returned."""
        now_us, behind, *premiums = numbers
        self._now = EventClock(int(now_us), int(behind))
        self._premiums.take(premiums)
