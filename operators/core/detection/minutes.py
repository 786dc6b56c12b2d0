"""Event time for rules: where they stand, and what they have seen minute by minute."""

from collections import deque

from seawall.operators.core.detection.moments import total

MINUTE_US = 60_000_000
BEHIND_MAX = 10  # rows in a row behind the latest one, after which that one is taken to be wrong


class Now:
    """The latest event time; rows behind it are not taken, unless ten in a row are.

    Examples
    --------
    >>> now = Now()
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


class Extremes:
    """Lowest and highest value of a bounded number of minutes.

    Kept are only values that can still become an extreme: in each minute at most one low, below all later ones, and one
    high, above all later ones. So both answers are at hand, and a calm hour takes a handful of numbers.

    References
    ----------
    Lemire, D. (2006). Streaming maximum-minimum filter using no more than three comparisons per element.

    Examples
    --------
    >>> seen = Extremes(60)
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


class Means:
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
        return total(bucket[1] / bucket[2] for bucket in self._buckets) / len(self._buckets)

    def numbers(self) -> list[float]:
        """Return the state: three numbers for each minute."""
        return [number for bucket in self._buckets for number in bucket]

    def take(self, numbers: list[float]) -> None:
        """Take over a state that ``numbers`` returned."""
        self._buckets = deque(numbers[at : at + 3] for at in range(0, len(numbers), 3))
