"""River detectors: any River anomaly detector or drift detector behind our protocols."""

import copy
import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Self

from river import anomaly, compose, preprocessing
from river.base.anomaly_detector import SupervisedAnomalyDetector

from seawall.operators.core.base import pack_parts, unpack_parts
from seawall.operators.core.detection._model_spec import IndependentKind
from seawall.operators.core.detection._samples import GatedDetector, Sample, Score, ScoreState
from seawall.operators.core.detection._statistics import UNUSUAL_RANK, WARM_ROWS
from seawall.operators.river._object_graphs import decode_graph, encode_graph
from seawall.schemas.errors import SnapshotError, UsageError

# Any River anomaly detector behind the protocol, without the traps that were measured in River 0.26.
#
# A detector of one's own is one function, which builds a blank estimator with a seed where it takes one::
#
#     def build():
#         return preprocessing.StandardScaler() | anomaly.LODA(n_random_cuts=50, seed=7)
#
#     detector = user_detector(("spread", "depth"), build)
#
# and it has what all detectors have: unusable numbers never reach it, warming up is a state, its score is a rank, it
# does not learn what it flags, it starts anew when that lasts, and it is saved and read back bit for bit.
# ``river_kind`` makes the same a kind of model for a registry, as champion or challenger.
#
# ``score`` leaves the estimator as it was: those known to be pure are asked directly, all others on a copy
# (PredictiveAnomalyDetection moves its threshold whenever it is asked). Raw scores say little across estimators, so the
# score is the raw one's rank among the last 250. Estimators that raise or answer nonsense before
# they have seen enough (HoltWinters: IndexError; SAD with a quantile: TypeError) are warming, not broken. Filters of
# River are not used: one never learns, the other locks in; ``GatedDetector`` does their work.
#
# Snapshots are flat (`encode_graph`): no pickle, and nothing in them that could run. They are read only under the River
# version that wrote them, whose objects they describe.

PURE = (anomaly.HalfSpaceTrees, anomaly.LODA, anomaly.OneClassSVM, anomaly.LocalOutlierFactor)
PLAIN = (preprocessing.StandardScaler, preprocessing.MinMaxScaler, preprocessing.MaxAbsScaler)
UNSEEDED = (anomaly.GaussianScorer,)  # it takes no seed and needs none: it could draw numbers, and never does
UNREADY = (IndexError, TypeError, ValueError, ZeroDivisionError, KeyError)
SEED = 7
RIVER = version("river")
_RELEASE = tuple(float(part) for part in RIVER.split(".")[:2])

RECENT_MAX = 250

_TAG = "river_02"
_NUMBERS = 4 + RECENT_MAX


class RecentRanks:
    """Exact rank among the last ``RECENT_MAX`` values, for scores of any scale and sign.

    Examples
    --------
    >>> ranks = RecentRanks()
    >>> for value in (0.961, 0.960, 0.962, 0.960):
    ...     ranks.learn(value)
    >>> ranks.of(0.988), ranks.of(0.960)
    (1.0, 0.25)
    """

    __slots__ = ("_sorted", "recent")

    def __init__(self, recent: list[float] | None = None) -> None:
        self.recent = deque(recent or [])
        self._sorted = sorted(self.recent)

    def of(self, value: float) -> float:
        """Return the share of recent values below ``value``, ties counted half; 0 when there are none."""
        ordered = self._sorted
        if not ordered:
            return 0.0
        below = bisect_left(ordered, value)
        if below == len(ordered) or ordered[below] != value:  # no ties, as for nearly every score: one search is enough
            return below / len(ordered)
        return (below + bisect_right(ordered, value)) / (2 * len(ordered))

    def learn(self, value: float) -> None:
        """Count ``value`` and forget the oldest beyond the bound."""
        self.recent.append(value)
        insort(self._sorted, value)
        if len(self.recent) > RECENT_MAX:
            del self._sorted[bisect_left(self._sorted, self.recent.popleft())]


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
    >>> from seawall.operators.core.detection._samples import observe
    >>> detector = RiverDetector(("price",), loda)
    >>> for row in range(600):
    ...     score = observe(detector, Sample(None, (100.0 + row * 37 % 101,)))
    >>> detector.score(Sample(None, (400.0,))).value > 0.99
    True
    """

    def __init__(self, names: tuple[str, ...], build: Callable[[], Any]) -> None:
        self._names, self._build = names, build
        self._use(build())
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
            return Score(0.0, ScoreState.WARMING, (), (None, arguments))
        if len(self._ranks.recent) < WARM_ROWS:
            return Score(0.0, ScoreState.WARMING, (), (raw, arguments))
        return Score(self._ranks.of(raw), ScoreState.READY, (), (raw, arguments))

    def learn(self, sample: Sample, score: Score) -> None:
        """Let the estimator learn, and count its raw score."""
        raw, arguments = score.detail
        self._rows += 1
        self._teach(arguments)
        if raw is not None:
            self._ranks.learn(raw)

    def fresh(self) -> Self:
        """Make one that has seen nothing."""
        return type(self)(self._names, self._build)

    def snapshot(self) -> bytes:
        """Encode calibration and estimator; raises SnapshotError when the estimator holds what has no flat form."""
        recent = [*self._ranks.recent, *[0.0] * (RECENT_MAX - len(self._ranks.recent))]
        head = [*_RELEASE, self._rows, len(self._ranks.recent), *recent]
        return pack_parts(_TAG, head, [encode_graph(self.estimator, self._build())])

    def restore(self, data: bytes) -> None:
        """Take over the state of the same estimator under the same River version."""
        numbers, (graph,) = unpack_parts(_TAG, data, _NUMBERS, 1)
        if tuple(numbers[:2]) != _RELEASE:
            wrote = ".".join(f"{part:.0f}" for part in numbers[:2])
            raise SnapshotError(f"a snapshot under River {wrote} cannot be read by {RIVER}: let it learn from history")
        self._use(decode_graph(graph, self._build()))
        self._rows = int(numbers[2])
        self._ranks = RecentRanks(numbers[4 : 4 + int(numbers[3])])

    def _use(self, estimator: Any) -> None:
        self.estimator = estimator
        self._steps, self._last = _plain_steps(estimator)

    def _arguments(self, sample: Sample) -> tuple[Any, ...]:
        features = dict(zip(self._names, sample.values, strict=True))
        if not self._supervised:
            return (features,)
        target = features.pop(self._names[-1])
        return features, target

    def _ask(self, arguments: tuple[Any, ...]) -> float | None:
        try:
            if self._steps:
                features = arguments[0]
                for step in self._steps:
                    features = step.transform_one(features)
                raw = float(self._last.score_one(features))
            else:
                estimator = self.estimator if self._pure else copy.deepcopy(self.estimator)
                raw = float(estimator.score_one(*arguments))
        except UNREADY:
            if self._rows >= WARM_ROWS:
                raise
            return None
        # Half-space trees say 0 all through their first window: a past of zeros would make everything after it unusual.
        return raw if math.isfinite(raw) and not getattr(self._last, "_first_window", False) else None

    def _teach(self, arguments: tuple[Any, ...]) -> None:
        if not self._steps:
            self.estimator.learn_one(*arguments)
            return
        features = arguments[0]
        for step in self._steps:
            step.learn_one(features)
            features = step.transform_one(features)
        self._last.learn_one(features)


def river_detector(
    names: tuple[str, ...], build: Callable[[], Any], level: float = UNUSUAL_RANK
) -> GatedDetector[RiverDetector]:
    """Make a River estimator into a detector with guard, warm-up, rank calibration and gated learning.

    Parameters
    ----------
    names
        The features, under which the estimator gets the values of a sample.
    build
        Makes a blank estimator: anything of River with ``score_one`` and ``learn_one``, one's own classes included.
    level
        Ranks from here on are unusual: not learned, until they have lasted for the gate's time box.

    Raises
    ------
    UsageError
        Two blanks differ: there is a random number in them that no seed decides, and nothing could be replayed.

    Examples
    --------
    >>> from river import anomaly, preprocessing
    >>> from seawall.operators.core.detection._samples import observe
    >>> def build():
    ...     return preprocessing.StandardScaler() | anomaly.LODA(n_random_cuts=10, seed=7)
    >>> detector = river_detector(("spread", "depth"), build)
    >>> scores = [observe(detector, Sample(None, (row * 37 % 101 / 100, row * 53 % 97 / 100))) for row in range(400)]
    >>> scores[0].state, scores[-1].state, detector.score(Sample(None, (9.0, -9.0))).value > 0.99
    (<ScoreState.WARMING: 'warming'>, <ScoreState.READY: 'ready'>, True)
    """
    blank = build()
    if not isinstance(_last(blank), UNSEEDED) and encode_graph(blank, blank) != encode_graph(other := build(), other):
        raise UsageError(
            f"two blanks of {type(_last(blank)).__name__} differ; give it a seed, or it cannot be replayed"
        )
    return GatedDetector(RiverDetector(names, build), level)


def river_kind(names: tuple[str, ...], build: Callable[[], Any], level: float = UNUSUAL_RANK) -> IndependentKind:
    """Make the same a kind of model: ``Registry(lambda: (river_kind(names, build),))``."""
    first = river_detector(names, build, level)
    return IndependentKind(first.fresh, level)


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


def _plain_steps(estimator: Any) -> tuple[tuple[Any, ...], Any]:
    """Return transformers and last step of a pipeline whose steps do nothing but learn and transform in turn.

    River's pipeline dispatches on every call; two steps called by hand give the same bits at less cost. What is more
    than that (unions, supervised transformers, filters) is left to River: no transformers, the estimator as last step.
    """
    if not isinstance(estimator, compose.Pipeline):
        return (), estimator
    *steps, last = estimator.steps.values()
    plain = all(type(step) in PLAIN for step in steps) and isinstance(last, PURE)
    return (tuple(steps), last) if plain else ((), estimator)


# River's drift detectors, for the life of models and never for alerts.
#
# As alarms on NAB, ADWIN and KSWIN score what a blind clock scores. What they are good for: noticing that a detector's
# score distribution has moved, so that a challenger should be trained. `PageHinkley` is the usual one, without River.


class RiverDrift:
    """Any River drift detector with the same ``update``: ADWIN costs 0.1 µs and 2 kB, KSWIN 130 µs.

    Parameters
    ----------
    build
        Makes a new one, seeded where it takes a seed.

    Examples
    --------
    >>> from river import drift
    >>> adwin = RiverDrift(drift.ADWIN)
    >>> any(adwin.update(0.0) for row in range(500)), any(adwin.update(1.0) for row in range(500))
    (False, True)
    """

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build
        self._detector = build()

    def update(self, score: float) -> bool:
        """Count one score; whether the distribution has moved."""
        self._detector.update(score)
        return bool(self._detector.drift_detected)

    def snapshot(self) -> bytes:
        """Encode the state."""
        return encode_graph(self._detector, self._build())

    def restore(self, data: bytes) -> None:
        """Take over a state of the same detector."""
        self._detector = decode_graph(data, self._build())
