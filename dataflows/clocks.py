"""The clock of live runs: it cuts slices, so one reading far ahead would leave nothing to cut until it is reached.

What a clock said stands in the journal, so no later reading mends it. A reading is compared with a clock that nobody
sets, which goes on while the machine sleeps where the system has one that does (Linux).
"""

import time
from collections.abc import Callable

from seawall.dataflows.inputs import Clock
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import ClockError

JUMP_MAX_S = 60  # services that keep a clock right move it by far less
SECOND_NS = 1_000_000_000


def steady_ns() -> int:
    """Return nanoseconds of a clock that nobody sets."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def wall_clock() -> int:
    """Return microseconds since the epoch."""
    return time.time_ns() // 1000


class WallClock:
    """Microseconds since the epoch, as long as the machine's clock does not jump.

    Parameters
    ----------
    wall_ns, steady_ns
        Nanoseconds of the machine's clock, and of one that nobody sets.

    Raises
    ------
    ClockError
        From one call to the next the clock moved more than ``JUMP_MAX_S`` further, or less far, than time did.

    Examples
    --------
    >>> WallClock(lambda: 5_000, lambda: 0)()
    5
    """

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns, steady_ns: Callable[[], int] = steady_ns) -> None:
        self._wall_ns, self._steady_ns = wall_ns, steady_ns
        self._wall, self._steady = wall_ns(), steady_ns()

    def __call__(self) -> int:
        """Return what the clock says."""
        wall, steady = self._wall_ns(), self._steady_ns()
        jump_s = ((wall - self._wall) - (steady - self._steady)) / SECOND_NS
        if abs(jump_s) > JUMP_MAX_S:
            text = f"the clock of this machine, by which live slices are cut, jumped by {jump_s:+,.0f} s"
            raise ClockError(f"{text}; see to its time service (chronyc tracking, timedatectl), then run this again")
        self._wall, self._steady = wall, steady
        return wall // 1000


def clock_of(configuration: Configuration) -> Clock:
    """Return the clock of a run; of bounded inputs it only decides what lies in the future, so it may jump."""
    return WallClock() if configuration.topics else wall_clock


def ahead_s(as_of_us: int, now_us: int) -> float:
    """Return how far, in seconds, a journal that ends at ``as_of_us`` is ahead of the clock, 0 within what is usual."""
    ahead = (as_of_us - now_us) / 1e6
    return ahead if ahead > JUMP_MAX_S else 0.0
