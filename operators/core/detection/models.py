"""The models of many keys behind one small door: what a dataflow asks of them, and what it makes them from.

A dataflow holds one ``Models`` per engine key (an instrument group, a shard), calls ``observe`` for each sample in its
own order, drains the changes in the same step, and stores ``snapshot()`` when its engine asks. Everything behind the
door is a pure function of the order of samples: no clock, no random source. ``registry.Registry`` keeps this protocol,
``factory.make_models`` makes the usual one.
"""

from enum import StrEnum
from typing import NamedTuple, Protocol

from seawall.operators.core.detection.samples import Sample, Score


class Scope(StrEnum):
    """What a model is of."""

    INSTRUMENT = "instrument"
    ASSET_CLASS = "asset_class"
    COUNTERPARTY = "counterparty"


class ModelKey(NamedTuple):
    """Whose normal behaviour a model learns.

    Attributes
    ----------
    scope, name
        Together the identity, such as an instrument's identifier or a counterparty's.
    asset_class
        Which family it belongs to: where a new key starts from, and with whom it shares trees; "" for none. Anything
        whose members behave alike will do: a sort of perpetual swap, a rating of counterparties.
    """

    scope: Scope
    name: str
    asset_class: str = ""


class Event(StrEnum):
    """What happened to a key's model."""

    STARTED_FROM_CLASS = "started_from_class"  # it answers with the class's experience until it has its own
    WARMED_UP = "warmed_up"  # it answers with its own experience from here on
    DRIFTED = "drifted"  # its scores' distribution moved: a successor is being trained
    PROMOTED = "promoted"  # the rival answers from here on
    ROLLED_BACK = "rolled_back"  # the model that was replaced answers again
    KEPT = "kept"  # the trial ended, the champion stays
    EVICTED = "evicted"  # forgotten, as the least recently used


class Change(NamedTuple):
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
    event: Event
    version: int
    position: int
    text: str


class Models(Protocol):
    """Models of many keys, bounded in memory.

    Attributes
    ----------
    position
        How many samples have been shown: with it a restored dataflow knows where its input goes on.
    """

    position: int

    def names_of(self, key: ModelKey) -> tuple[str, ...]:
        """Return what the contributions of this key's scores refer to."""

    def observe(self, key: ModelKey, sample: Sample, tripped: bool = False) -> Score:
        """Score a sample of ``key`` and learn it, as the model's own gate decides.

        ``tripped`` says that a circuit-breaker rule tripped on this sample: incidents that a rule confirms are what a
        challenger is judged by. Unusable samples are answered INVALID and leave no trace.
        """

    def drain(self) -> list[Change]:
        """Return what has happened to models since the last call, oldest first."""

    def snapshot(self) -> bytes:
        """Encode the whole state, flat; equal states give equal bytes."""

    def restore(self, data: bytes) -> None:
        """Take over a state of the same parameters and code; raises SnapshotError, and changes nothing, otherwise."""
