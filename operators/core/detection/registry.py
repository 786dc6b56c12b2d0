"""A bounded registry of models: the least recently used key is forgotten, one-shot keys never get in when it is full.

Ten million keys that come once each must cost neither memory nor the models of the keys that matter. While there is
room every key gets a model at once. When there is none, a key must be seen a second time within about the next
``keys_max`` newcomers before it displaces the one that has been silent longest; a table of one byte per slot remembers
who has knocked. An evicted key that comes back starts as a new one, from its asset class.

A snapshot holds code version, parameters, seed and position, then the families, then the keys from the least to the
most recently used, each as flat numbers. It is bounded by ``keys_max`` times two models, and read back whole or not.

References
----------
Einziger, G., Friedman, R. and Manes, B. (2017). TinyLFU: a highly efficient cache admission policy. ACM ToS 13(4).
"""

import json
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from seawall import __version__
from seawall.operators.core.detection.doors import Door
from seawall.operators.core.detection.flat import from_parts, to_parts
from seawall.operators.core.detection.kinds import Family, Kinds
from seawall.operators.core.detection.lives import TERMS, Drift, Life, Terms, Told, page_hinkley
from seawall.operators.core.detection.models import Change, Event, ModelKey, Scope
from seawall.operators.core.detection.samples import INVALID, Sample, Score, State, is_usable
from seawall.schemas.errors import SnapshotError, UsageError

CHANGES_MAX = 10_000  # undrained; beyond it the oldest are dropped
CLASSES_MAX = 256  # asset classes with a family of their own; further ones share the family of ""

_TAG = "models01"
_NEW = Score(0.0, State.WARMING)


class Parameters(NamedTuple):
    """What decides beside the kinds of models; part of every snapshot.

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
    terms: Terms = TERMS
    seed: int = 7
    description: str = ""


PARAMETERS = Parameters()


class Registry:
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
    >>> from seawall.operators.core.detection.composite import UNUSUAL_SCORE, Composite
    >>> from seawall.operators.core.detection.kinds import Separate
    >>> models = Registry(lambda: (Separate(lambda: Composite(("return",)), UNUSUAL_SCORE),))
    >>> key = ModelKey(Scope.INSTRUMENT, "BTC-PERP", "perpetual")
    >>> scores = [models.observe(key, Sample(None, (row % 7 / 1000.0,))) for row in range(400)]
    >>> scores[0].state, scores[-1].state, models.observe(key, Sample(None, (0.5,))).value > 0.8
    (<State.WARMING: 'warming'>, <State.READY: 'ready'>, True)
    """

    def __init__(
        self, kinds: Kinds, parameters: Parameters = PARAMETERS, make_drift: Callable[[], Drift] = page_hinkley
    ) -> None:
        made = kinds()
        if not 1 <= len(made) <= 2 or parameters.keys_max < 1:
            raise UsageError(
                "a registry needs one kind of model or two (champion, challenger), and keys_max of 1 or more"
            )
        self._names = made[0].make().names
        self.position = 0
        self._kinds, self.parameters, self._make_drift = kinds, parameters, make_drift
        self._families: dict[str, Family] = {}
        self._lives: OrderedDict[ModelKey, Life] = OrderedDict()
        self._changes: list[Change] = []
        self._door = Door(parameters.keys_max)

    def __len__(self) -> int:
        return len(self._lives)

    def __contains__(self, key: ModelKey) -> bool:
        return key in self._lives

    def names_of(self, key: ModelKey) -> tuple[str, ...]:
        """Return what the contributions of this key's scores refer to."""
        life = self._lives.get(key)
        return self._names if life is None else life.champion.names

    def life(self, key: ModelKey) -> Life:
        """Return the life of a key that has a model: its version, its rival and the record of the trial."""
        return self._lives[key]

    def observe(self, key: ModelKey, sample: Sample, tripped: bool = False) -> Score:
        """Score a sample of ``key`` and learn it; see ``Models``."""
        self.position += 1
        if not is_usable(sample):
            return INVALID
        life = self._lives.get(key)
        if life is None:
            life = self._admit(key)
            if life is None:
                return _NEW
        else:
            self._lives.move_to_end(key)
        score, told = life.observe(sample, tripped)
        if told is not None:
            self._tell(key, life, told)
        return score

    def forget(self, key: ModelKey) -> None:
        """Drop the model of a key; one that is not there is no error. What its class learned from it stays."""
        self._lives.pop(key, None)

    def drain(self) -> list[Change]:
        """Return what has happened since the last call, oldest first."""
        changes, self._changes = self._changes, []
        return changes

    def snapshot(self) -> bytes:
        """Encode the whole state; drain first, changes are not part of it."""
        provenance = {
            "code": __version__,
            **_told(self.parameters),
            "keys": list(self._lives),
            "classes": list(self._families),
        }
        families = [family.snapshot() for family in self._families.values()]
        lives = [life.snapshot() for life in self._lives.values()]
        head = json.dumps(provenance, separators=(",", ":")).encode()
        numbers = [float(self.position), float(zlib.crc32(head)), float(len(families)), float(len(lives))]
        body = to_parts(_TAG, [], [*families, *lives, self._door.snapshot()])
        return to_parts(_TAG, numbers, [head, body])

    def restore(self, data: bytes) -> None:
        """Take over a state of the same kinds and parameters; see ``Models``."""
        (position, check, classes, keys), (head, body) = from_parts(_TAG, data, 4, 2)
        if zlib.crc32(head) != int(check):
            raise SnapshotError("a snapshot of models is damaged: the checksum of its head does not match")
        told = json.loads(head)
        _check(told, self.parameters)
        _, parts = from_parts(_TAG, body, 0, int(classes) + int(keys) + 1)
        families: dict[str, Family] = {}
        lives: OrderedDict[ModelKey, Life] = OrderedDict()
        door = Door(self.parameters.keys_max)
        for name, part in zip(told["classes"], parts, strict=False):
            families[name] = Family(self._kinds)
            families[name].restore(part)
        for (scope, name, asset_class), part in zip(told["keys"], parts[int(classes) : -1], strict=True):
            key = ModelKey(Scope(scope), name, asset_class)
            lives[key] = Life(families[_class_of(key, families)], self.parameters.terms, self._make_drift)
            lives[key].restore(part)
        door.restore(parts[-1])
        self.position, self._changes = int(position), []
        self._families, self._lives, self._door = families, lives, door

    def _admit(self, key: ModelKey) -> Life | None:
        if len(self._lives) >= self.parameters.keys_max:
            if not self._door.admits("\0".join(key)):
                return None
            gone, old = self._lives.popitem(last=False)
            self._tell(gone, old, Told(Event.EVICTED, "it was silent longest"))
        life = Life(self._family(key), self.parameters.terms, self._make_drift)
        self._lives[key] = life
        told = life.start()
        if told is not None:
            self._tell(key, life, told)
        return life

    def _family(self, key: ModelKey) -> Family:
        name = key.asset_class if len(self._families) < CLASSES_MAX else _class_of(key, self._families)
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = Family(self._kinds)
        return family

    def _tell(self, key: ModelKey, life: Life, told: Told) -> None:
        self._changes.append(Change(key, told.event, life.version, self.position, told.text))
        if len(self._changes) > CHANGES_MAX:
            del self._changes[0]


def warm_start(models: Registry, history: Iterable[tuple[ModelKey, Sample]]) -> int:
    """Let models learn a past before they answer: no scores, no changes. Return how many samples there were.

    Give it what the live input will continue, in the same order; nothing of it may come again. A registry that has
    learned a history equals one that has lived it, to the last bit.
    """
    begin = models.position
    for key, sample in history:
        models.observe(key, sample)
    models.drain()
    return models.position - begin


def _told(parameters: Parameters) -> dict[str, object]:
    return {**parameters._asdict(), "terms": list(parameters.terms)}


def _check(told: dict[str, object], parameters: Parameters) -> None:
    for name, value in _told(parameters).items():
        if told.get(name) != value:
            raise SnapshotError(f"a snapshot of models with {name} {told.get(name)!r} was given to ones with {value!r}")


def _class_of(key: ModelKey, families: dict[str, Family]) -> str:
    return key.asset_class if key.asset_class in families else ""
