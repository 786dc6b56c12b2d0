"""How far this host's clock may be off, as its kernel knows it from the time service that disciplines it.

The kernel's answer is that of ``ntp_adjtime(2)`` asked with nothing to change: the offset that is being corrected, the
largest error it vouches for, and whether any service disciplines the clock at all.
"""

import ctypes
from typing import NamedTuple

UNSYNCHRONISED = 5  # TIME_ERROR, the state that is returned
NANO = 0x2000  # STA_NANO: the offset counts nanoseconds


class ClockState(NamedTuple):
    """Seconds the clock is being corrected by, the largest error in seconds, and whether a service disciplines it."""

    offset_s: float
    error_max_s: float
    synchronised: bool


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),  # more than the kernel writes
    )


def clock_state() -> ClockState | None:
    """Return what the kernel says of the clock, None where it does not say."""
    try:
        ask = ctypes.CDLL(None, use_errno=True).ntp_adjtime
    except (AttributeError, OSError):
        return None
    found = _Timex()
    state = ask(ctypes.byref(found))
    if state < 0:
        return None
    unit = 1e-9 if found.status & NANO else 1e-6
    return ClockState(found.offset * unit, found.maxerror * 1e-6, state != UNSYNCHRONISED)
