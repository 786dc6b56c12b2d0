"""Model registry: models of many keys in bounded memory, with second-hit admission once it is full (TinyLFU).

`make_models` makes the usual registry: a composite per key, started from its asset class, and its challenger.
`RegisteredModels` puts a registry in the place of a group's models.
"""

import json
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from seawall import __version__
from seawall.operators.core.base import pack_parts, unpack_parts
from seawall.operators.core.detection._composite import CANDIDATE_SCORE, UNUSUAL_SCORE, Composite
from seawall.operators.core.detection._model_lifecycle import (
    TRIAL_TERMS,
    DriftDetector,
    LifecycleChange,
    ModelLifecycle,
    TrialTerms,
    new_page_hinkley,
)
from seawall.operators.core.detection._model_spec import (
    IndependentKind,
    Judgement,
    ModelChange,
    ModelEvent,
    ModelFamily,
    ModelKey,
    ModelKind,
    ModelKinds,
    ModelReport,
    ModelScope,
)
from seawall.operators.core.detection._samples import INVALID_SCORE, Sample, Score, ScoreState, is_usable
from seawall.operators.core.detection._shared_forest import FOREST_SEED, SharedForestKind
from seawall.schemas.errors import SnapshotError, UsageError

# Doorkeeper filter: admission to a full registry on the second visit, in a table of fixed size.

SLOTS_PER_KEY = 4
SLOTS_MIN = 1024
GENERATIONS = 250  # values of a slot; an entry counts in its own generation and the next

_DOORKEEPER_TAG = "doors_01"


class DoorkeeperFilter:
    """A table with one byte per slot: the generation in which a key of that slot knocked last.

    Two keys that share a slot let each other in: at worst one knock too early.

    Examples
    --------
    >>> door = DoorkeeperFilter(100)
    >>> door.admits("new"), door.admits("new")
    (False, True)
    """

    __slots__ = ("_generation", "_keys_max", "_slots", "_visits")

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._slots = bytearray(max(SLOTS_MIN, SLOTS_PER_KEY * keys_max))
        self._generation, self._visits = 1, 0

    def admits(self, key: str) -> bool:
        """Return whether ``key`` was seen in this generation or the last one; remember that it is seen now."""
        slot = zlib.crc32(key.encode("utf-8", "surrogatepass")) % len(self._slots)
        before = self._slots[slot]
        self._slots[slot] = self._generation
        self._visits += 1
        known = before != 0 and (self._generation - before) % GENERATIONS <= 1
        if self._visits >= self._keys_max:
            self._visits, self._generation = 0, self._generation % GENERATIONS + 1
        return known

    def snapshot(self) -> bytes:
        """Encode the table; a door on which nobody has knocked has none."""
        used = self._visits > 0 or self._generation > 1
        return pack_parts(_DOORKEEPER_TAG, [self._generation, self._visits], [bytes(self._slots) if used else b""])

    def restore(self, data: bytes) -> None:
        """Take over the state of a door; one for another number of keys knows nobody yet, and goes on from there."""
        (generation, visits), (slots,) = unpack_parts(_DOORKEEPER_TAG, data, 2, 1)
        self._generation, self._visits = int(generation), int(visits)
        self._slots = bytearray(slots) if len(slots) == len(self._slots) else bytearray(len(self._slots))


# A bounded registry of models: the least recently used key is forgotten, one-shot keys never get in when it is full.
#
# Ten million keys that come once each must cost neither memory nor the models of the keys that matter. While there is
# room every key gets a model at once. When there is none, a key must be seen a second time within about the next
# ``keys_max`` newcomers before it displaces the one that has been silent longest; a table of one byte per slot
# remembers who has knocked. An evicted key that comes back starts as a new one, from its asset class.
#
# A snapshot holds code version, parameters, seed and position, then the families, then the keys from the least to the
# most recently used, each as flat numbers. It is bounded by ``keys_max`` times two models, and read back whole or not.
#
# References
# ----------
# Einziger, G., Friedman, R. and Manes, B. (2017). TinyLFU: a highly efficient cache admission policy. ACM ToS 13(4).

CHANGES_MAX = 10_000  # undrained; beyond it the oldest are dropped
CLASSES_MAX = 256  # asset classes with a family of their own; further ones share the family of ""

_REGISTRY_TAG = "models01"
_NEW_KEY_SCORE = Score(0.0, ScoreState.WARMING)


class RegistryParameters(NamedTuple):
    """Parameters beside the kinds of models; part of every snapshot.

    Attributes
    ----------
    keys_max
        Models held at a time.
    terms
        How long trials last.
    seed
        Handed on by whoever makes the kinds; a snapshot of another seed is refused.
    description
        Names the kinds and their parameters; a snapshot of another description is refused.
    """

    keys_max: int = 100_000
    terms: TrialTerms = TRIAL_TERMS
    seed: int = 7
    description: str = ""


REGISTRY_PARAMETERS = RegistryParameters()


class ModelRegistry:
    """Models of many keys; keeps the protocol ``Models``.

    Parameters
    ----------
    kinds
        Makes the kinds of one asset class: the first answers at first, a second is its challenger.
    parameters
        Bounds and terms.
    make_drift
        Makes the drift detector of one key.

    Notes
    -----
    Bytes per key: 2.8 kB for a composite of five columns and 0.3 kB for its life; twice the former while a rival is
    tried.

    Examples
    --------
    >>> from seawall.operators.core.detection._composite import UNUSUAL_SCORE, Composite
    >>> from seawall.operators.core.detection._model_spec import IndependentKind
    >>> models = ModelRegistry(lambda: (IndependentKind(lambda: Composite(("return",)), UNUSUAL_SCORE),))
    >>> key = ModelKey(ModelScope.INSTRUMENT, "BTC-PERP", "perpetual")
    >>> scores = [models.observe(key, Sample(None, (row % 7 / 1000.0,))) for row in range(400)]
    >>> scores[0].state, scores[-1].state, models.observe(key, Sample(None, (0.5,))).value > 0.8
    (<ScoreState.WARMING: 'warming'>, <ScoreState.READY: 'ready'>, True)
    """

    def __init__(
        self,
        kinds: ModelKinds,
        parameters: RegistryParameters = REGISTRY_PARAMETERS,
        make_drift: Callable[[], DriftDetector] = new_page_hinkley,
    ) -> None:
        made = kinds()
        if not 1 <= len(made) <= 2 or parameters.keys_max < 1:
            raise UsageError(
                "a registry needs one kind of model or two (champion, challenger), and keys_max of 1 or more"
            )
        self._names = made[0].make().names
        self.position = 0
        self._kinds, self.parameters, self._make_drift = kinds, parameters, make_drift
        self._families: dict[str, ModelFamily] = {}
        self._lives: OrderedDict[ModelKey, ModelLifecycle] = OrderedDict()
        self._changes: list[ModelChange] = []
        self._doorkeeper = DoorkeeperFilter(parameters.keys_max)

    def __len__(self) -> int:
        return len(self._lives)

    def __contains__(self, key: ModelKey) -> bool:
        return key in self._lives

    def names_of(self, key: ModelKey) -> tuple[str, ...]:
        """Return what the contributions of this key's scores refer to."""
        life = self._lives.get(key)
        return self._names if life is None else life.champion.names

    def life(self, key: ModelKey) -> ModelLifecycle:
        """Return the life of a key that has a model: its version, its rival and the record of the trial."""
        return self._lives[key]

    def observe(self, key: ModelKey, sample: Sample, tripped: bool = False) -> Score:
        """Score a sample of ``key`` and learn it; see ``Models``."""
        self.position += 1
        if not is_usable(sample):
            return INVALID_SCORE
        life = self._lives.get(key)
        if life is None:
            life = self._admit(key)
            if life is None:
                return _NEW_KEY_SCORE
        else:
            self._lives.move_to_end(key)
        score, stated = life.observe(sample, tripped)
        if stated is not None:
            self._report(key, life, stated)
        return score

    def forget(self, key: ModelKey) -> None:
        """Drop the model of a key; one that is not there is no error. What its class learned from it stays."""
        self._lives.pop(key, None)

    def drain(self) -> list[ModelChange]:
        """Return what has happened since the last call, oldest first."""
        changes, self._changes = self._changes, []
        return changes

    def snapshot(self) -> bytes:
        """Encode the whole state; drain first, changes are not part of it."""
        provenance = {
            "code": __version__,
            **_described(self.parameters),
            "keys": list(self._lives),
            "classes": list(self._families),
        }
        families = [family.snapshot() for family in self._families.values()]
        lives = [life.snapshot() for life in self._lives.values()]
        head = json.dumps(provenance, separators=(",", ":")).encode()
        numbers = [float(self.position), float(zlib.crc32(head)), float(len(families)), float(len(lives))]
        body = pack_parts(_REGISTRY_TAG, [], [*families, *lives, self._doorkeeper.snapshot()])
        return pack_parts(_REGISTRY_TAG, numbers, [head, body])

    def restore(self, data: bytes) -> None:
        """Take over a state of the same kinds and parameters; see ``Models``."""
        (position, check, classes, keys), (head, body) = unpack_parts(_REGISTRY_TAG, data, 4, 2)
        if zlib.crc32(head) != int(check):
            raise SnapshotError("a snapshot of models is damaged: the checksum of its head does not match")
        stated = json.loads(head)
        _check(stated, self.parameters)
        _, parts = unpack_parts(_REGISTRY_TAG, body, 0, int(classes) + int(keys) + 1)
        families: dict[str, ModelFamily] = {}
        lives: OrderedDict[ModelKey, ModelLifecycle] = OrderedDict()
        doorkeeper = DoorkeeperFilter(self.parameters.keys_max)
        for name, part in zip(stated["classes"], parts, strict=False):
            families[name] = ModelFamily(self._kinds)
            families[name].restore(part)
        for (scope, name, asset_class), part in zip(stated["keys"], parts[int(classes) : -1], strict=True):
            key = ModelKey(ModelScope(scope), name, asset_class)
            lives[key] = ModelLifecycle(families[_class_of(key, families)], self.parameters.terms, self._make_drift)
            lives[key].restore(part)
        doorkeeper.restore(parts[-1])
        self.position, self._changes = int(position), []
        self._families, self._lives, self._doorkeeper = families, lives, doorkeeper

    def _admit(self, key: ModelKey) -> ModelLifecycle | None:
        if len(self._lives) >= self.parameters.keys_max:
            if not self._doorkeeper.admits("\0".join(key)):
                return None
            gone, old = self._lives.popitem(last=False)
            self._report(gone, old, LifecycleChange(ModelEvent.EVICTED, "it was silent longest"))
        life = ModelLifecycle(self._family(key), self.parameters.terms, self._make_drift)
        self._lives[key] = life
        stated = life.start()
        if stated is not None:
            self._report(key, life, stated)
        return life

    def _family(self, key: ModelKey) -> ModelFamily:
        name = key.asset_class if len(self._families) < CLASSES_MAX else _class_of(key, self._families)
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = ModelFamily(self._kinds)
        return family

    def _report(self, key: ModelKey, life: ModelLifecycle, stated: LifecycleChange) -> None:
        self._changes.append(ModelChange(key, stated.event, life.version, self.position, stated.text))
        if len(self._changes) > CHANGES_MAX:
            del self._changes[0]


def warm_start(models: ModelRegistry, history: Iterable[tuple[ModelKey, Sample]]) -> int:
    """Let models learn a past before they answer: no scores, no changes. Return how many samples there were.

    Give it what the live input will continue, in the same order; nothing of it may come again. A registry that has
    learned a history equals one that has lived it, to the last bit.
    """
    begin = models.position
    for key, sample in history:
        models.observe(key, sample)
    models.drain()
    return models.position - begin


def _described(parameters: RegistryParameters) -> dict[str, object]:
    return {**parameters._asdict(), "terms": list(parameters.terms)}


def _check(stated: dict[str, object], parameters: RegistryParameters) -> None:
    for name, value in _described(parameters).items():
        if stated.get(name) != value:
            raise SnapshotError(
                f"a snapshot of models with {name} {stated.get(name)!r} was given to ones with {value!r}"
            )


def _class_of(key: ModelKey, families: dict[str, ModelFamily]) -> str:
    return key.asset_class if key.asset_class in families else ""


# Usual models of a registry: a composite per key, started from its asset class, and its challenger.
#
# models = make_models(("return z", "spread", "depth"))
# score = models.observe(ModelKey(Scope.INSTRUMENT, "BTC-PERP", "perpetual"), Sample(time_us, values))
# changes = models.drain()
# state = models.snapshot()                # and in the next process: make_models(same arguments).restore(state)


def make_models(
    columns: tuple[str, ...],
    keys_max: int = 100_000,
    terms: TrialTerms = TRIAL_TERMS,
    challenger: bool = False,
    seed: int = FOREST_SEED,
) -> ModelRegistry:
    """Make the usual models of keys that all have ``columns``.

    Parameters
    ----------
    columns
        Names of a sample's values. They must mean the same for every key of an asset class: returns, basis points,
        ratios or logarithms, and never a price.
    keys_max
        Models held at a time, 3 kB each at five columns; the least recently used one goes.
    terms
        How long trials last.
    challenger
        Whether each key's composite is challenged by half-space trees that its asset class shares: 1 kB more per key
        and about twice the cost per sample.
    seed
        Of the trees.
    """

    def kinds() -> tuple[ModelKind, ...]:
        champion = IndependentKind(lambda: Composite(columns), UNUSUAL_SCORE)
        return (champion, SharedForestKind(columns, seed)) if challenger else (champion,)

    described = ("composite against class trees: " if challenger else "composite: ") + ", ".join(columns)
    return ModelRegistry(kinds, RegistryParameters(keys_max, terms, seed, described))


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
