"""Detectors of one's own in the place of a group's models, with the same life: any River estimator, any ``Detector``.

    def build():
        return preprocessing.StandardScaler() | anomaly.LODA(n_random_cuts=50, seed=7)

    def make_models(columns):
        return RegisteredModels(columns, Registry(lambda: (user_kind(columns, build),)))

    signals = sw.watch_market("market", items, terms, make_models)

Each family of features has a registry: with a second kind of model that one challenges the first; drift, trials and
rollback are those of ``detection.lives``. It judges row by row, at the estimator's own cost.
"""

from typing import Any

from seawall.operators.core.detection.composite import CANDIDATE_SCORE
from seawall.operators.core.detection.models import ModelKey, Scope
from seawall.operators.core.detection.registry import Registry
from seawall.operators.core.detection.samples import Sample, Score, State
from seawall.operators.core.market.models import Judgement, Told


class RegisteredModels:
    """A registry by slot; keeps the protocol ``Models`` of a group.

    Parameters
    ----------
    columns
        Names of the features of a family.
    models
        A new registry whose kinds have these names and whose ``keys_max`` is no less than ``instruments_max``.

    Examples
    --------
    >>> from seawall.operators.core.detection.factory import make_models
    >>> models = RegisteredModels(("spread_bp",), make_models(("spread_bp",)))
    >>> slot = models.take("spot")
    >>> models.observe([slot], 0, [(1.0,)], [False])[0].ready
    False
    """

    def __init__(self, columns: tuple[str, ...], models: Registry) -> None:
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
            found.append(Judgement(score.value, score.state is State.READY, why))
        return found

    def drain(self) -> list[Told]:
        """Return what has happened to models since the last call."""
        return [Told(int(c.key.name), c.event, c.version, c.text) for c in self._models.drain()]

    def snapshot(self) -> list[Any]:
        """Return the registry, whose slots there are, and which are free."""
        return [self._models.snapshot(), list(self._classes.items()), self._free]

    def restore(self, state: list[Any]) -> None:
        """Take over a state of the same columns and kinds."""
        self._models.restore(state[0])
        self._classes, self._free = dict(state[1]), list(state[2])

    def _key(self, slot: int) -> ModelKey:
        return ModelKey(Scope.INSTRUMENT, str(slot), self._classes[slot])

    def _explain(self, names: tuple[str, ...], score: Score) -> dict[str, float]:
        """Return the share of each feature; a detector that gives none explains nothing."""
        shares = dict.fromkeys(self._columns, 0.0)
        for name, share in zip(names, score.contributions, strict=False):
            column = name if name in shares else name.rpartition(" ")[0]
            shares[column] += share
        return {name: share for name, share in shares.items() if share > 0.0}
