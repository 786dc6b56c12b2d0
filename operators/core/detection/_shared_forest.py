"""Half-space trees that the keys of one asset class share: the forest, its compiled loop, and one key's calibration."""

import random
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from math import sqrt
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import pack_numbers, pack_parts, unpack_numbers, unpack_parts
from seawall.operators.core.detection._samples import GATE_ROWS_MAX, Detector, Sample, Score, ScoreState
from seawall.operators.core.detection._statistics import BINS, GATE_RANK, WARM_ROWS, RankHistogram, RobustMoments
from seawall.schemas.errors import SnapshotError, invariant

# Compiled loop: rows through half-space trees, with numba where it is installed.
#
# Compiled on the first batch, in memory and without fast-math; whole numbers in, whole numbers out, so results are
# equal with and without.


@cache
def compiled() -> Callable[..., Any] | None:
    """Return the compiled walk of rows through trees; None where numba is not installed."""
    try:
        from numba import njit  # noqa: PLC0415 - extra fast
    except ImportError:
        return None
    kernel: Callable[..., Any] = njit(nogil=True)(walk_trees)
    return kernel


def walk_trees(
    rows: Any, features: Any, thresholds: Any, latest: Any, reference: Any, height: int, size_min: float
) -> Any:  # pragma: no cover  (numba runs it)
    """Do for one row after another what ``HalfSpaceForest`` does for all at once."""
    totals = np.zeros(len(rows))
    for line in range(len(rows)):
        total = 0
        for tree in range(len(features)):
            node = 0
            weight = 1
            searching = True
            for depth in range(height + 1):
                latest[tree, node] += 1
                if searching:
                    mass = reference[tree, node]
                    total += mass * weight
                    searching = mass >= size_min
                    weight *= 2
                if depth < height:
                    node = 2 * node + (1 if rows[line, features[tree, node]] < thresholds[tree, node] else 2)
        totals[line] = total
    return totals


# Half-space trees in flat arrays: River's trees and River's scores, for one row or for many at once.
#
# A forest is drawn from its seed once and shared by all keys of an asset class. Its masses are whole numbers in two
# buffers, which plain Python reads one by one and numpy as arrays over the same memory. Between two turns of the
# window, scores depend on the reference masses only and learning only adds to the latest ones; so a batch that is cut
# at the turns gives the scores of its rows one after another, to the last bit. With numba (the extra ``fast``) the walk
# runs compiled, with equal results: whole numbers have no rounding.
#
# References
# ----------
# Tan, S. C., Ting, K. M. and Liu, T. F. (2011). Fast anomaly detection for streaming data. IJCAI 22; as in
# river.anomaly.HalfSpaceTrees 0.26.

TREES, HEIGHT, WINDOW_ROWS, FOREST_SEED = 25, 8, 250, 7
PADDING = 0.15  # of a node's range, at either end, in which it is not split
SIZE_SHARE = 0.1  # of the window: a node that holds less ends the search
FOREST_BATCH_MIN = 8  # rows from which arrays over all trees beat a loop, without numba

_FOREST_TAG = "forest01"

Floats = NDArray[np.float64]


class HalfSpaceForest:
    """Half-space trees over values in 0..1.

    Parameters
    ----------
    width
        Number of values in a row.
    seed
        Equal seeds give equal trees.

    Examples
    --------
    >>> forest = HalfSpaceForest(2)
    >>> for row in range(600):
    ...     forest.learn((0.5 + row % 7 / 70, 0.5 + row % 5 / 50))
    >>> forest.score((0.55, 0.55)) < forest.score((0.05, 0.95))
    True
    """

    def __init__(
        self,
        width: int,
        trees: int = TREES,
        height: int = HEIGHT,
        window_rows: int = WINDOW_ROWS,
        seed: int = FOREST_SEED,
    ) -> None:
        self.width, self._trees, self._height, self._window_rows = width, trees, height, window_rows
        self._nodes = 2 ** (height + 1) - 1
        self._features, self._thresholds = array("i"), array("d")
        chance = random.Random(seed)
        for _ in range(trees):
            features, thresholds = _tree(chance, width, height)
            self._features.extend(features)
            self._thresholds.extend(thresholds)
        self._latest = array("i", bytes(4 * trees * self._nodes))
        self._reference = array("i", bytes(4 * trees * self._nodes))
        self._turn_rows, self._turned = 0, False
        self._score_max = float(trees * window_rows * self._nodes)
        self._size_min = SIZE_SHARE * window_rows

    def score(self, row: Sequence[float]) -> float:
        """Answer for one row, 0..1, the higher the lonelier; 0 in the first window. Changes nothing."""
        if not self._turned:
            return 0.0
        total: int = 0
        masses, size_min = self._reference, self._size_min
        features, thresholds = self._features, self._thresholds
        for base in range(0, self._trees * self._nodes, self._nodes):
            node, weight = 0, 1
            for _ in range(self._height):
                mass = masses[base + node]
                total += mass * weight
                if mass < size_min:
                    break
                at = base + node
                node = 2 * node + (1 if row[features[at]] < thresholds[at] else 2)
                weight <<= 1
            else:
                total += masses[base + node] * weight
        return 1.0 - total / self._score_max

    def learn(self, row: Sequence[float]) -> None:
        """Count one row along its paths, and turn the window when it is full."""
        masses, features, thresholds = self._latest, self._features, self._thresholds
        for base in range(0, self._trees * self._nodes, self._nodes):
            node = 0
            for _ in range(self._height):
                at = base + node
                masses[at] += 1
                node = 2 * node + (1 if row[features[at]] < thresholds[at] else 2)
            masses[base + node] += 1
        self._count(1)

    def observe(self, rows: Floats) -> Floats:
        """Score and learn rows one after another.

        Parameters
        ----------
        rows
            Shape (rows, width).

        Returns
        -------
        Shape (rows,); what ``score`` before ``learn`` would have answered for each.
        """
        invariant(rows.ndim == 2 and rows.shape[1] == self.width, f"rows of {rows.shape} given to {self.width} values")
        if compiled() is None and len(rows) < FOREST_BATCH_MIN:
            return np.array([self._observe_one(row) for row in rows.tolist()])
        found = np.zeros(len(rows))
        at = 0
        while at < len(rows):
            part = rows[at : at + self._window_rows - self._turn_rows]
            found[at : at + len(part)] = self._observe_part(np.ascontiguousarray(part))
            at += len(part)
        return found

    def _observe_one(self, row: Sequence[float]) -> float:
        """Score and learn in one walk: both take the same paths."""
        total: int = 0
        latest, reference, size_min = self._latest, self._reference, self._size_min
        features, thresholds = self._features, self._thresholds
        for base in range(0, self._trees * self._nodes, self._nodes):
            node, weight = 0, 1
            for _ in range(self._height):
                at = base + node
                latest[at] += 1
                if weight:
                    mass = reference[at]
                    total += mass * weight
                    weight = weight << 1 if mass >= size_min else 0
                node = 2 * node + (1 if row[features[at]] < thresholds[at] else 2)
            latest[base + node] += 1
            total += reference[base + node] * weight
        turned = self._turned
        self._count(1)
        return 1.0 - total / self._score_max if turned else 0.0

    def _observe_part(self, rows: Floats) -> Floats:
        shape = (self._trees, self._nodes)
        features, latest, reference = (
            np.frombuffer(each, "i").reshape(shape) for each in (self._features, self._latest, self._reference)
        )
        thresholds = np.frombuffer(self._thresholds, "d").reshape(shape)
        kernel = compiled() or _walk
        totals = kernel(rows, features, thresholds, latest, reference, self._height, self._size_min)
        turned = self._turned
        self._count(len(rows))
        return 1 - totals / self._score_max if turned else np.zeros(len(rows))

    def _count(self, rows: int) -> None:
        self._turn_rows += rows
        if self._turn_rows == self._window_rows:
            self._reference, self._latest = self._latest, array("i", bytes(4 * len(self._latest)))
            self._turn_rows, self._turned = 0, True

    def snapshot(self) -> bytes:
        """Encode the masses; the trees follow from width and seed, and a checksum of theirs says whether they do."""
        head = [self._turn_rows, self._turned, self._check()]
        masses = [np.frombuffer(each, "i").astype("<i4").tobytes() for each in (self._latest, self._reference)]
        return pack_parts(_FOREST_TAG, head, masses)

    def restore(self, data: bytes) -> None:
        """Take over the masses of a forest of the same parameters and seed."""
        (rows, turned, check), masses = unpack_parts(_FOREST_TAG, data, 3, 2)
        if check != self._check() or any(len(each) != 4 * len(self._latest) for each in masses):
            raise SnapshotError("a snapshot of a forest of another seed or shape was given to this one")
        self._turn_rows, self._turned = int(rows), bool(turned)
        self._latest, self._reference = (
            array("i", np.frombuffer(each, "<i4").astype("i").tobytes()) for each in masses
        )

    def _check(self) -> float:
        total = 0.0
        for threshold, feature in zip(self._thresholds, self._features, strict=True):
            total += threshold * (1 + feature)
        return total


def _tree(chance: random.Random, width: int, height: int) -> tuple[list[int], list[float]]:
    """Draw one tree, in the order of nodes of a heap: the children of node n are 2n + 1 and 2n + 2."""
    features, thresholds = [0] * (2 ** (height + 1) - 1), [0.0] * (2 ** (height + 1) - 1)

    def grow(node: int, left: int, limits: list[tuple[float, float]]) -> None:
        if left == 0:
            return
        on = chance.choices(range(width), [upper - lower for lower, upper in limits])[0]
        lower, upper = limits[on]
        gap = PADDING * (upper - lower)
        features[node], thresholds[node] = on, chance.uniform(lower + gap, upper - gap)
        grow(2 * node + 1, left - 1, [*limits[:on], (lower, thresholds[node]), *limits[on + 1 :]])
        grow(2 * node + 2, left - 1, [*limits[:on], (thresholds[node], upper), *limits[on + 1 :]])

    grow(0, height, [(0.0, 1.0)] * width)
    return features, thresholds


def _walk(
    rows: Floats,
    features: NDArray[np.int32],
    thresholds: Floats,
    latest: NDArray[np.int32],
    reference: NDArray[np.int32],
    height: int,
    size_min: float,
) -> Floats:
    """Walk all rows through all trees at once: totals of reference masses, and one more on each latest mass passed."""
    count, tree = len(rows), np.arange(len(features))
    node = np.zeros((count, len(features)), np.int64)
    line, searching = np.arange(count)[:, None], np.ones(node.shape, bool)
    totals = np.zeros(count, np.int64)
    for depth in range(height + 1):
        mass = np.where(searching, reference[tree, node], 0)
        totals += np.add.reduce(mass.astype(np.int64), axis=1) << depth
        np.add.at(latest, (np.broadcast_to(tree, node.shape), node), 1)
        if depth < height:
            searching &= mass >= size_min
            left = rows[line, features[tree, node]] < thresholds[tree, node]
            node = 2 * node + np.where(left, 1, 2)
    return totals.astype(np.float64)


# A key among the trees of its asset class: one forest for all members, a scale and a calibration for each.
#
# A member's values are told in standard deviations from its own robust mean, four to either side filling the trees'
# range of 0..1, so that members of different size share masses. Its score is the forest's, as a rank among the member's
# own past. Rows that look unusual to the member are kept from the forest, for ``GATE_ROWS_MAX`` at most: what lasts
# longer is normal.
#
# State: 0.6 kB and 24 bytes per feature for a key; 102 kB for the class.

REACH = 4.0  # standard deviations to either side of the mean that the trees can tell apart
ISOLATION_MIN = 1e-6  # of a row that no tree knows, the share of the greatest mass that it is said to have

_MEMBER_TAG = "member01"
_HEAD = 2


class TreePosition(NamedTuple):
    """Position of a row: squared distance per feature, its nodes in the trees, and how few rows share them."""

    squares: list[float]
    row: tuple[float, ...]
    loneliness: float


class ForestMember:
    """One key's detector over its class's forest.

    Parameters
    ----------
    names
        The features.
    forest
        The class's; shared, and not part of the member's snapshot.
    """

    def __init__(self, names: tuple[str, ...], forest: HalfSpaceForest) -> None:
        self._names, self._forest = names, forest
        self._moments = [RobustMoments() for _ in names]
        self._ranks = RankHistogram()
        self._unusual_rows = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """The features."""
        return self._names

    def score(self, sample: Sample) -> Score:
        """Answer for one usable sample; changes nothing."""
        squares, row = [], []
        for moments, value in zip(self._moments, sample.values, strict=True):
            squares.append(moments.distance(value))
            wide = 2.0 * REACH * sqrt(moments.variance)
            place = 0.5 + (value - moments.mean) / wide if wide > 0.0 else 0.5
            row.append(min(max(place, 0.0), 1.0))
        loneliness = 1.0 / max(1.0 - self._forest.score(row), ISOLATION_MIN)
        found = TreePosition(squares, tuple(row), loneliness)
        if self._moments[0].count < WARM_ROWS or self._ranks.total < WARM_ROWS:
            return Score(0.0, ScoreState.WARMING, (), found)
        return Score(self._ranks.of(loneliness), ScoreState.READY, (), found)

    def learn(self, sample: Sample, score: Score) -> None:
        """Take in a sample, and let the class take it in unless it is unusual."""
        place: TreePosition = score.detail
        for moments, value, squared in zip(self._moments, sample.values, place.squares, strict=True):
            moments.learn(value, squared)
        warm = self._moments[0].count >= WARM_ROWS
        unusual = score.state is ScoreState.READY and score.value > GATE_RANK
        self._unusual_rows = self._unusual_rows + 1.0 if unusual else 0.0
        if warm and (not unusual or self._unusual_rows > GATE_ROWS_MAX):
            self._forest.learn(place.row)
        if warm and place.loneliness > 1.0:
            self._ranks.learn(place.loneliness, score.value)

    def fresh(self) -> Self:
        """Make one of the same class that has seen nothing."""
        return type(self)(self._names, self._forest)

    def snapshot(self) -> bytes:
        """Encode the member, without its class."""
        moments = [number for each in self._moments for number in (each.mean, each.variance, each.count)]
        return pack_numbers(_MEMBER_TAG, [self._unusual_rows, self._ranks.total, *self._ranks.counts, *moments])

    def restore(self, data: bytes) -> None:
        """Take over the state of a member with the same features."""
        numbers = unpack_numbers(_MEMBER_TAG, data, _HEAD + BINS + 3 * len(self._names))
        self._unusual_rows, total = numbers[:_HEAD]
        self._ranks.load(numbers[_HEAD : _HEAD + BINS], total)
        rest = numbers[_HEAD + BINS :]
        self._moments = [RobustMoments(*rest[at : at + 3]) for at in range(0, len(rest), 3)]


class SharedForestKind:
    """The kind whose detectors share one forest per asset class; see ``ModelKind``.

    Parameters
    ----------
    names
        The features.
    seed
        Equal seeds give equal trees.
    """

    unusual = GATE_RANK

    def __init__(self, names: tuple[str, ...], seed: int = FOREST_SEED) -> None:
        self._names, self._forest = names, HalfSpaceForest(len(names), seed=seed)

    def make(self) -> Detector:
        """Make a member of the class."""
        return ForestMember(self._names, self._forest)

    def snapshot(self) -> bytes:
        """Encode the forest."""
        return self._forest.snapshot()

    def restore(self, data: bytes) -> None:
        """Take over the state of a forest of the same features and seed."""
        self._forest.restore(data)
