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


class Minutes:
    """Lowest, highest, sum and count of values per minute, for a bounded number of minutes."""

    def __init__(self, minutes_max: int) -> None:
        self._minutes_max = minutes_max
        self._buckets: deque[list[float]] = deque()  # minute, low, high, sum, count

    def add(self, time_us: int, value: float) -> None:
        """Count one value, at a time not before the last one."""
        minute = time_us // MINUTE_US
        if self._buckets and self._buckets[-1][0] == minute:
            last = self._buckets[-1]
            last[1], last[2] = min(last[1], value), max(last[2], value)
            last[3], last[4] = last[3] + value, last[4] + 1.0
        else:
            self._buckets.append([float(minute), value, value, value, 1.0])
        self.forget(time_us)

    def forget(self, time_us: int) -> None:
        """Drop the minutes that lie too far back from ``time_us``."""
        oldest = time_us // MINUTE_US - self._minutes_max
        while self._buckets and self._buckets[0][0] <= oldest:
            self._buckets.popleft()

    def clear(self) -> None:
        """Forget all."""
        self._buckets.clear()

    def low(self) -> float | None:
        """Return the lowest value; None when there are none."""
        return min((bucket[1] for bucket in self._buckets), default=None)

    def high(self) -> float | None:
        """Return the highest value; None when there are none."""
        return max((bucket[2] for bucket in self._buckets), default=None)

    def mean(self) -> float | None:
        """Return the average of the minutes' averages: a burst of prints does not outweigh the minutes around it."""
        if not self._buckets:
            return None
        return total(bucket[3] / bucket[4] for bucket in self._buckets) / len(self._buckets)

    def numbers(self) -> list[float]:
        """Return the state: five numbers for each minute."""
        return [number for bucket in self._buckets for number in bucket]

    def take(self, numbers: list[float]) -> None:
        """Take over a state that ``numbers`` returned."""
        self._buckets = deque(numbers[at : at + 5] for at in range(0, len(numbers), 5))
