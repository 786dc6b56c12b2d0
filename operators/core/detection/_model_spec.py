"""Model specification: keys, events and kinds of models, and the protocol of the models of one family of features.

A dataflow holds one ``ModelRegistry`` per engine key (an instrument group, a shard), calls ``observe`` for each sample
in its own order, drains the changes in the same step, and stores ``snapshot()`` when its engine asks. The result is a
function of the order of samples alone: no clock, no random source.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

from seawall.operators.core.base import pack_parts, unpack_parts
from seawall.operators.core.detection._samples import Detector, Sample, Score, ScoreState
from seawall.operators.core.detection._statistics import WARM_ROWS


class ModelScope(StrEnum):
    """Scope of a model."""

    INSTRUMENT = "instrument"
    ASSET_CLASS = "asset_class"
    COUNTERPARTY = "counterparty"


class ModelKey(NamedTuple):
    """Key of a model: the series whose normal behaviour it learns.

    Attributes
    ----------
    scope, name
        Together the identity, such as an instrument's identifier or a counterparty's.
    asset_class
        Which family it belongs to: where a new key starts from, and with whom it shares trees; "" for none. Anything
        whose members behave alike will do: a sort of perpetual swap, a rating of counterparties.
    """

    scope: ModelScope
    name: str
    asset_class: str = ""


class ModelEvent(StrEnum):
    """Event in the life of a key's model."""

    STARTED_FROM_CLASS = "started_from_class"  # it answers with the class's experience until it has its own
    WARMED_UP = "warmed_up"  # it answers with its own experience from here on
    DRIFTED = "drifted"  # its scores' distribution moved: a successor is being trained
    PROMOTED = "promoted"  # the rival answers from here on
    ROLLED_BACK = "rolled_back"  # the model that was replaced answers again
    KEPT = "kept"  # the trial ended, the champion stays
    EVICTED = "evicted"  # forgotten, as the least recently used


class ModelChange(NamedTuple):
    """One event in a model's life.

    Attributes
    ----------
    key
        Whose model.
    event
        What happened.
    version
        How often this key's answering model has been replaced, after the event.
    position
        How many samples the models had been shown.
    text
        The figures that decided, in one sentence.
    """

    key: ModelKey
    event: ModelEvent
    version: int
    position: int
    text: str


# Kinds of models: what makes a detector for one key, and what the detectors of one asset class share.
#
# An asset class is a ``ModelFamily``: its kinds, and a pool that learns from all members that have warmed up. A new key
# of the class starts with what the pool knows. That needs values that mean the same for every member: returns, basis
# points, ratios, logarithms, and never a price.

LENDING_ROWS = 2.0 * WARM_ROWS  # of members' experience before a pool lends any
POOL_STRIDE = 8  # every eighth row of a member teaches its class

_TAG = "family01"


class ModelKind(Protocol):
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


ModelKinds: TypeAlias = Callable[[], tuple[ModelKind, ...]]


@runtime_checkable
class ExperienceLender(Protocol):
    """A detector whose experience another key may begin with."""

    def lend(self) -> Self:
        """Make a detector for a new key that begins with what is usual for this one."""


class IndependentKind:
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


class ModelFamily:
    """One asset class: its kinds, the first of which answers at first, and the pool of its members' experience."""

    def __init__(self, kinds: ModelKinds, pool: Detector | None = None) -> None:
        self.kinds = kinds()
        self._pool = self.kinds[0].make() if pool is None else pool
        self._learned = 0.0

    def lend(self) -> Detector | None:
        """Make a detector that begins with the class's experience; None while there is too little of it."""
        if self._learned < LENDING_ROWS or not isinstance(self._pool, ExperienceLender):
            return None
        return self._pool.lend()

    def learn(self, sample: Sample, score: Score) -> None:
        """Let the class learn a member's sample, as that member's first kind of detector judged it."""
        if score.state is ScoreState.READY:
            self._pool.learn(sample, score)
            self._learned += 1.0

    def snapshot(self) -> bytes:
        """Encode the pool and what each kind shares."""
        return pack_parts(_TAG, [self._learned], [self._pool.snapshot(), *(kind.snapshot() for kind in self.kinds)])

    def restore(self, data: bytes) -> None:
        """Take over the state of a family of the same kinds."""
        numbers, (pool, *shared) = unpack_parts(_TAG, data, 1, 1 + len(self.kinds))
        self._learned = numbers[0]
        self._pool.restore(pool)
        for kind, part in zip(self.kinds, shared, strict=True):
            kind.restore(part)


# Detectors of many instruments, one kind per family of features, behind a small factory.
#
# ``FamilyModels`` is what a group needs of them; ``LifecycleModels`` is what it is given unless one asks for another.


class Judgement(NamedTuple):
    """The answer to one row: 0..1, whether it may be used, and what an unusual one is made of."""

    value: float
    ready: bool
    contributions: dict[str, float]


class ModelReport(NamedTuple):
    """Event of the model of a slot: its kind, how often the answering model was replaced, and why."""

    slot: int
    event: ModelEvent
    version: int
    text: str


class FamilyModels(Protocol):
    """Detectors of one family of features, by slot."""

    def take(self, asset_class: str = "") -> int:
        """Return a slot for a new member of an asset class."""

    def give_back(self, slot: int) -> None:
        """Forget what the detector of a slot has learned."""

    def observe(
        self, slots: list[int], time_us: int, rows: list[tuple[float, ...]], tripped: list[bool]
    ) -> list[Judgement]:
        """Score and learn one row for each of ``slots``, which must differ.

        ``tripped`` says whether a circuit-breaker rule tripped since the slot's last row: incidents that a rule
        confirms are what rivals are judged by.
        """

    def drain(self) -> list[ModelReport]:
        """Return what has happened to models since the last call; it is no part of the state."""

    def snapshot(self) -> Any:
        """Return the whole state as plain values."""

    def restore(self, state: Any) -> None:
        """Take over a state."""


ModelsFactory = Callable[[tuple[str, ...]], FamilyModels]
"""Makes the models of a family from the names of its features."""
