"""Models of a group: the protocol of detectors of one family of features, and detectors of one's own behind it.

`LifecycleModels` is the usual implementation, `RegisteredModels` takes any River estimator or any ``Detector``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from seawall.operators.core.detection import (
    CANDIDATE_SCORE,
    ModelEvent,
    ModelKey,
    ModelRegistry,
    ModelScope,
    Sample,
    Score,
    ScoreState,
)

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


# Detectors of one's own in the place of a group's models, with the same lifecycle: any River estimator, any
# ``Detector``.
#
#     def build():
#         return preprocessing.StandardScaler() | anomaly.LODA(n_random_cuts=50, seed=7)
#
#     def make_models(columns):
#         return RegisteredModels(columns, ModelRegistry(lambda: (river_kind(columns, build),)))
#
#     signals = sw.watch_market("market", items, terms, make_models)
#
# Each family of features has a registry: with a second kind of model that one challenges the first; drift, trials and
# rollback are those of `ModelLifecycle`. It judges row by row, at the estimator's own cost.


class RegisteredModels:
    """A registry by slot; keeps the protocol ``FamilyModels`` of a group.

    Parameters
    ----------
    columns
        Names of the features of a family.
    models
        A new registry whose kinds have these names and whose ``keys_max`` is no less than ``instruments_max``.

    Examples
    --------
    >>> from seawall.operators.core.detection._registry import make_models
    >>> models = RegisteredModels(("spread_bp",), make_models(("spread_bp",)))
    >>> slot = models.take("spot")
    >>> models.observe([slot], 0, [(1.0,)], [False])[0].ready
    False
    """

    def __init__(self, columns: tuple[str, ...], models: ModelRegistry) -> None:
        self._columns, self._models = columns, models
        self._classes: dict[int, str] = {}
        self._free: list[int] = []

    def take(self, asset_class: str = "") -> int:
        """Return a slot for a new member of an asset class."""
        slot = self._free.pop() if self._free else len(self._classes)
        self._classes[slot] = asset_class
        return slot

    def give_back(self, slot: int) -> None:
        """Forget the models of a slot; its class keeps what it learned from them."""
        self._models.forget(self._key(slot))
        del self._classes[slot]
        self._free.append(slot)

    def observe(
        self, slots: list[int], time_us: int, rows: list[tuple[float, ...]], tripped: list[bool]
    ) -> list[Judgement]:
        """Score and learn one row for each of ``slots``, in their order; an unusable row leaves no trace."""
        found = []
        for slot, row, trip in zip(slots, rows, tripped, strict=True):
            key = self._key(slot)
            names = self._models.names_of(key)  # of the model that answers: another may, after this row
            score = self._models.observe(key, Sample(time_us, row), trip)
            why = self._explain(names, score) if score.value >= CANDIDATE_SCORE else {}
            found.append(Judgement(score.value, score.state is ScoreState.READY, why))
        return found

    def drain(self) -> list[ModelReport]:
        """Return what has happened to models since the last call."""
        return [ModelReport(int(c.key.name), c.event, c.version, c.text) for c in self._models.drain()]

    def snapshot(self) -> list[Any]:
        """Return the registry, whose slots there are, and which are free."""
        return [self._models.snapshot(), list(self._classes.items()), self._free]

    def restore(self, state: list[Any]) -> None:
        """Take over a state of the same columns and kinds."""
        self._models.restore(state[0])
        self._classes, self._free = dict(state[1]), list(state[2])

    def _key(self, slot: int) -> ModelKey:
        return ModelKey(ModelScope.INSTRUMENT, str(slot), self._classes[slot])

    def _explain(self, names: tuple[str, ...], score: Score) -> dict[str, float]:
        """Return the share of each feature; a detector that gives none explains nothing."""
        shares = dict.fromkeys(self._columns, 0.0)
        for name, share in zip(names, score.contributions, strict=False):
            column = name if name in shares else name.rpartition(" ")[0]
            shares[column] += share
        return {name: share for name, share in shares.items() if share > 0.0}
