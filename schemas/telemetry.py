"""Telemetry: counters of a process's own work, for its monitor; never part of a decision.

Nothing is counted unless somebody watches: `set_telemetry` before the dataflows are built puts a `Telemetry` in place,
and the parts that find one measure themselves. Clocks that are read for this are read beside the decisions, after them,
and nothing read here flows back, so bytes on topics are the same with and without (architecture.md, "The journal
rule").

Every part has numbers of its own and is in one thread at a time; a reader in another thread adds them up, so nothing is
locked.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

WORK_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
AGE_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
UTILISATION_S = 5.0  # between two looks at how much of the limits is used


class Timing:
    """A histogram of durations: ``counts[i]`` are those up to ``bounds[i]`` seconds, the last all that took longer."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = WORK_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Take one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def merge(self, counts: list[int], total: float) -> None:
        """Add the numbers of another one with the same bounds."""
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
        self.total += total


class Part:
    """The numbers of one part of a stage: one key of a step, or one partition of a sink.

    Attributes
    ----------
    work
        Seconds per batch.
    slices
        Values taken, a slice each where slices travel.
    snapshots, snapshot_bytes
        Seconds per snapshot, and bytes of the last one.
    ages
        Seconds from a slice's cut to the end of the stage, with live inputs.
    """

    __slots__ = ("ages", "slices", "snapshot_bytes", "snapshots", "stage", "work")

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.work, self.snapshots, self.ages = Timing(), Timing(), Timing(AGE_S)
        self.slices = self.snapshot_bytes = 0


class Telemetry:
    """Counters of one process.

    Parameters
    ----------
    live
        Whether inputs are live: only then is a slice's age one.
    folder
        Where worker processes leave their numbers, for the one that answers for them; empty: nowhere.
    """

    def __init__(self, live: bool, folder: str = "") -> None:
        self.live, self.folder = live, folder
        self.parts: list[Part] = []
        self.totals: dict[str, Callable[[], int]] = {}  # by metric, whoever counts it
        self.utilisation: dict[str, dict[str, float]] = {}  # by shard or ``all``: the most used share of each limit

    def part(self, stage: str) -> Part:
        """Return new numbers of a stage."""
        found = Part(stage)
        self.parts.append(found)
        return found

    def numbers(self) -> dict[str, Any]:
        """Return everything as plain values, to be sent to another process."""
        return {
            "parts": [
                [one.stage, one.slices, one.snapshot_bytes]
                + [[timing.counts, timing.total] for timing in (one.work, one.snapshots, one.ages)]
                for one in self.parts.copy()
            ],
            "totals": {name: count() for name, count in self.totals.copy().items()},
            "utilisation": self.utilisation.copy(),
        }

    @classmethod
    def current(cls) -> "Telemetry | None":
        """Return where to count, None where nobody watches."""
        return _current[0] if _current else None


_current: list[Telemetry] = []


def set_telemetry(telemetry: Telemetry | None) -> None:
    """Let what is built in this process from now on count here; None: nowhere."""
    _current[:] = [] if telemetry is None else [telemetry]
