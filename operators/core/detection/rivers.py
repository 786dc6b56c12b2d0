"""Any River anomaly detector behind the protocol, without the traps that were measured in River 0.26.

``score`` leaves the estimator as it was: those known to be pure are asked directly, all others on a copy
(PredictiveAnomalyDetection moves its threshold whenever it is asked). Raw scores say little across estimators, so the
score is the raw one's rank among the last 250. Estimators that raise or answer nonsense before
they have seen enough (HoltWinters: IndexError; SAD with a quantile: TypeError) are warming, not broken. Filters of
River are not used: one never learns, the other locks in; ``Gated`` does their work.

An estimator's inner state has no flat form, so its snapshot is a pickle, read back by an unpickler that knows River,
arrays and containers only, and only under the River version that wrote it.
"""

import copy
import io
import math
import pickle
import zlib
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Self

from river import anomaly, compose, preprocessing
from river.base.anomaly_detector import SupervisedAnomalyDetector

from seawall.operators.core.detection.flat import HEAD_BYTES, from_bytes, to_bytes
from seawall.operators.core.detection.moments import WARM_ROWS
from seawall.operators.core.detection.ranks import RECENT_MAX, RecentRanks
from seawall.operators.core.detection.samples import Sample, Score, State
from seawall.schemas.errors import SnapshotError

PURE = (anomaly.HalfSpaceTrees, anomaly.LODA, anomaly.OneClassSVM, anomaly.LocalOutlierFactor)
UNREADY = (IndexError, TypeError, ValueError, ZeroDivisionError, KeyError)
SEED = 7
RIVER = version("river")

_TAG = "river_01"
_NUMBERS = 5 + RECENT_MAX
_BUILTINS = frozenset(
    {"set", "frozenset", "list", "dict", "tuple", "range", "slice", "complex", "int", "float", "bool"}
)
_MODULES = ("river.", "collections", "numpy._core.", "numpy.random.")
_NAMES = frozenset({("numpy", "dtype"), ("numpy", "ndarray"), ("random", "Random"), ("functools", "partial")})


class RiverDetector:
    """A River estimator (or a pipeline that ends in one) as a detector.

    Parameters
    ----------
    names
        The features, passed to the estimator under these names; the last one is the target where it wants one.
    build
        Makes a new, seeded estimator: one without a seed cannot be replayed.

    Examples
    --------
    >>> from seawall.operators.core.detection.samples import observe
    >>> detector = RiverDetector(("price",), loda)
    >>> for row in range(600):
    ...     score = observe(detector, Sample(None, (100.0 + row * 37 % 101,)))
    >>> detector.score(Sample(None, (400.0,))).value > 0.99
    True
    """

    def __init__(self, names: tuple[str, ...], build: Callable[[], Any]) -> None:
        self._names, self._build = names, build
        self.estimator = build()
        self._pure = isinstance(_last(self.estimator), PURE)
        self._supervised = isinstance(_last(self.estimator), SupervisedAnomalyDetector)
        self._ranks = RecentRanks()
        self._rows = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The features."""
        return self._names

    def score(self, sample: Sample) -> Score:
        """Answer for one usable sample; the estimator stays as it was."""
        arguments = self._arguments(sample)
        raw = self._ask(arguments)
        if raw is None:
            return Score(0.0, State.WARMING, (), (None, arguments))
        if len(self._ranks.recent) < WARM_ROWS:
            return Score(0.0, State.WARMING, (), (raw, arguments))
        return Score(self._ranks.of(raw), State.READY, (), (raw, arguments))

    def learn(self, sample: Sample, score: Score) -> None:
        """Let the estimator learn, and count its raw score."""
        raw, arguments = score.detail
        self._rows += 1
        self.estimator.learn_one(*arguments)
        if raw is not None:
            self._ranks.learn(raw)

    def fresh(self) -> Self:
        """Make one that has seen nothing."""
        return type(self)(self._names, self._build)

    def snapshot(self) -> bytes:
        """Encode calibration and estimator."""
        body = pickle.dumps(self.estimator, protocol=5)
        wrote = (int(part) for part in RIVER.split(".")[:2])
        recent = [*self._ranks.recent, *[0.0] * (RECENT_MAX - len(self._ranks.recent))]
        head = [zlib.crc32(body), *wrote, self._rows, len(self._ranks.recent), *recent]
        return to_bytes(_TAG, head) + body

    def restore(self, data: bytes) -> None:
        """Take over the state of the same estimator under the same River version.

        Raises
        ------
        SnapshotError
            Another version wrote it, it is damaged, or it names a class that no estimator needs.
        """
        at = HEAD_BYTES + 8 * _NUMBERS
        numbers = from_bytes(_TAG, data[:at], _NUMBERS)
        wrote = ".".join(str(int(number)) for number in numbers[1:3])
        if not RIVER.startswith(wrote + "."):
            raise SnapshotError(f"river {wrote} wrote this snapshot, this is river {RIVER}")
        if zlib.crc32(data[at:]) != int(numbers[0]):
            raise SnapshotError("a snapshot of a River detector is damaged: its checksum does not match")
        self.estimator = _Unpickler(io.BytesIO(data[at:])).load()
        self._rows = int(numbers[3])
        self._ranks = RecentRanks(numbers[5 : 5 + int(numbers[4])])

    def _arguments(self, sample: Sample) -> tuple[Any, ...]:
        features = dict(zip(self._names, sample.values, strict=True))
        if not self._supervised:
            return (features,)
        target = features.pop(self._names[-1])
        return features, target

    def _ask(self, arguments: tuple[Any, ...]) -> float | None:
        estimator = self.estimator if self._pure else copy.deepcopy(self.estimator)
        try:
            raw = float(estimator.score_one(*arguments))
        except UNREADY:
            if self._rows >= WARM_ROWS:
                raise
            return None
        return raw if math.isfinite(raw) else None


def half_space_trees() -> Any:
    """Build HalfSpaceTrees, 25 trees of height 8 (twice that height costs 100 times the state)."""
    return compose.Pipeline(preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(n_trees=25, height=8, seed=SEED))


def loda() -> Any:
    """Build LODA, 25 random cuts."""
    return compose.Pipeline(preprocessing.StandardScaler(), anomaly.LODA(n_random_cuts=25, seed=SEED))


def one_class_svm() -> Any:
    """Build a linear OneClassSVM."""
    return compose.Pipeline(preprocessing.StandardScaler(), anomaly.OneClassSVM(nu=0.05))


def _last(estimator: Any) -> Any:
    return next(reversed(estimator.steps.values())) if isinstance(estimator, compose.Pipeline) else estimator


class _Unpickler(pickle.Unpickler):
    # A pickle is a program. This reader runs constructors of estimators, arrays and containers; methods, which pickle
    # fetches with getattr, are fetched from River's own objects only.

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _method
        known = (module == "builtins" and name in _BUILTINS) or (module, name) in _NAMES
        if known or module.startswith(_MODULES):
            return super().find_class(module, name)
        raise SnapshotError(f"a snapshot of a detector may not hold {module}.{name}")


def _method(owner: Any, name: str) -> Any:
    module = getattr(owner, "__module__", "") or type(owner).__module__
    if name.startswith("__") or not module.startswith("river."):
        raise SnapshotError(f"a snapshot of a detector may not hold {module}.{name}")
    return getattr(owner, name)
