"""How long a cluster that does not answer is waited for: ``outage_s``, and no longer once a process is to end.

Who stops a run in an outage would otherwise wait for every wait that is left, one after the other, until the run is
killed. A cluster that answers is given all the time it takes.
"""

import math
import time

CALL_S_MIN = 2.0  # enough for a cluster that answers
_until = [math.inf]  # of the monotonic clock; one for all clients of a process


def hurry(seconds: float) -> None:
    """From ``seconds`` on wait in this process for no cluster that does not answer."""
    _until[0] = min(_until[0], time.monotonic() + seconds)


def wait_again() -> None:
    """Wait for clusters again: for a process that goes on after a run."""
    _until[0] = math.inf


def is_over(deadline: float) -> bool:
    """Tell whether a deadline of the monotonic clock has passed, or the process is to end."""
    return time.monotonic() > min(deadline, _until[0])


def allowed_s(seconds: float) -> float:
    """Return how long a call that may take so many seconds may take now."""
    return min(seconds, max(CALL_S_MIN, _until[0] - time.monotonic()))
