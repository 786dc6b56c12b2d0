"""Detectors of many instruments, one kind per family of features, behind a small factory.

``Models`` is what a group needs of them; ``living.LivingModels`` is what it is given unless one asks for another.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from seawall.operators.core.detection.models import Event


class Judgement(NamedTuple):
    """The answer to one row: 0..1, whether it may be used, and what an unusual one is made of."""

    value: float
    ready: bool
    contributions: dict[str, float]


class Told(NamedTuple):
    """What happened to the model of a slot: the event, how often the answering model was replaced, and why."""

    slot: int
    event: Event
    version: int
    text: str


class Models(Protocol):
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

    def drain(self) -> list[Told]:
        """Return what has happened to models since the last call; it is no part of the state."""

    def snapshot(self) -> Any:
        """Return the whole state as plain values."""

    def restore(self, state: Any) -> None:
        """Take over a state."""


Factory = Callable[[tuple[str, ...]], Models]
"""Makes the models of a family from the names of its features."""
