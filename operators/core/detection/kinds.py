"""Kinds of models: what makes a detector for one key, and what the detectors of one asset class share.

An asset class is a ``Family``: its kinds, and a pool that learns from all members that have warmed up. A new key of the
class starts with what the pool knows. That needs values that mean the same for every member: returns, basis points,
ratios, logarithms, and never a price.
"""

from collections.abc import Callable
from typing import Protocol, Self, TypeAlias, runtime_checkable

from seawall.operators.core.detection.flat import from_parts, to_parts
from seawall.operators.core.detection.moments import WARM_ROWS
from seawall.operators.core.detection.samples import Detector, Sample, Score, State

LENDING_ROWS = 2.0 * WARM_ROWS  # of members' experience before a pool lends any
POOL_STRIDE = 8  # every eighth row of a member teaches its class

_TAG = "family01"


class Kind(Protocol):
    """One sort of detector within one asset class.

    Attributes
    ----------
    unusual
        Scores from here on are unusual; in ordinary times well below one row in ten reaches them.
    """

    unusual: float

    def make(self) -> Detector:
        """Make a detector for one key, with nothing seen."""

    def snapshot(self) -> bytes:
        """Encode what the detectors of this kind share; empty when they share nothing."""

    def restore(self, data: bytes) -> None:
        """Take over what ``snapshot`` gave."""


Kinds: TypeAlias = Callable[[], tuple[Kind, ...]]


@runtime_checkable
class Lender(Protocol):
    """A detector whose experience another key may begin with."""

    def lend(self) -> Self:
        """Make a detector for a new key that begins with what is usual for this one."""


class Separate:
    """A kind whose detectors share nothing.

    Parameters
    ----------
    make
        Makes a detector; equal ones each time it is called.
    unusual
        Scores from here on are unusual.
    """

    def __init__(self, make: Callable[[], Detector], unusual: float = 0.99) -> None:
        self._make, self.unusual = make, unusual

    def make(self) -> Detector:
        """Make a detector for one key."""
        return self._make()

    def snapshot(self) -> bytes:
        """Nothing is shared."""
        return b""

    def restore(self, data: bytes) -> None:
        """Nothing is shared."""


class Family:
    """One asset class: its kinds, the first of which answers at first, and the pool of its members' experience."""

    def __init__(self, kinds: Kinds, pool: Detector | None = None) -> None:
        self.kinds = kinds()
        self._pool = self.kinds[0].make() if pool is None else pool
        self._learned = 0.0

    def lend(self) -> Detector | None:
        """Make a detector that begins with the class's experience; None while there is too little of it."""
        if self._learned < LENDING_ROWS or not isinstance(self._pool, Lender):
            return None
        return self._pool.lend()

    def learn(self, sample: Sample, score: Score) -> None:
        """Let the class learn a member's sample, as that member's first kind of detector judged it."""
        if score.state is State.READY:
            self._pool.learn(sample, score)
            self._learned += 1.0

    def snapshot(self) -> bytes:
        """Encode the pool and what each kind shares."""
        return to_parts(_TAG, [self._learned], [self._pool.snapshot(), *(kind.snapshot() for kind in self.kinds)])

    def restore(self, data: bytes) -> None:
        """Take over the state of a family of the same kinds."""
        numbers, (pool, *shared) = from_parts(_TAG, data, 1, 1 + len(self.kinds))
        self._learned = numbers[0]
        self._pool.restore(pool)
        for kind, part in zip(self.kinds, shared, strict=True):
            kind.restore(part)
