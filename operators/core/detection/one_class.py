"""The linear one-class SVM on standardised features, as plain arithmetic: River's numbers at half of River's cost.

River's pipeline of ``StandardScaler`` and ``OneClassSVM`` costs 10 µs per row of five features, most of it in dispatch,
so that a guard and a calibration of 3 µs around it are a third more. The same operations in the same order are 40
lines, give the same scores to the last bit (a test compares them), and their state is a handful of numbers.

References
----------
Schölkopf, B. et al. (2001). Estimating the support of a high-dimensional distribution. Neural Computation 13(7);
trained by stochastic gradient descent as in river.anomaly.OneClassSVM 0.26.
"""

from math import sqrt
from typing import Self

from seawall.operators.core.detection.flat import from_bytes, to_bytes
from seawall.operators.core.detection.moments import WARM_ROWS
from seawall.operators.core.detection.ranks import RECENT_MAX, RecentRanks
from seawall.operators.core.detection.samples import Sample, Score, State

LEARN_RATE = 0.01
NU = 0.05

_TAG = "oneclas1"
_HEAD = 3


class OneClass:
    """Rank of the one-class SVM's score among the last 250.

    Parameters
    ----------
    names
        The features.
    nu
        Bound on the share of outliers, 0..1.

    Examples
    --------
    >>> from seawall.operators.core.detection.samples import observe
    >>> detector = OneClass(("spread", "depth"))
    >>> scores = [observe(detector, Sample(None, (row % 7 / 7, row % 5 / 5))) for row in range(300)]
    >>> scores[0].state, scores[-1].state
    (<State.WARMING: 'warming'>, <State.READY: 'ready'>)
    """

    def __init__(self, names: tuple[str, ...], nu: float = NU) -> None:
        self._names, self._l2 = names, nu / 2.0
        self._count, self._intercept = 0.0, 1.0
        self._means = [0.0] * len(names)
        self._variances = [0.0] * len(names)
        self._weights = [0.0] * len(names)
        self._ranks = RecentRanks()

    @property
    def names(self) -> tuple[str, ...]:
        """The features."""
        return self._names

    def score(self, sample: Sample) -> Score:
        """Answer for one usable sample; changes nothing."""
        dot = 0.0
        for value, mean, variance, weight in zip(
            sample.values, self._means, self._variances, self._weights, strict=True
        ):
            if variance:
                dot += weight * ((value - mean) / sqrt(variance))
        raw = dot + self._intercept - self._intercept  # River takes it off again, which rounds
        if len(self._ranks.recent) < WARM_ROWS:
            return Score(0.0, State.WARMING, (), raw)
        return Score(self._ranks.of(raw), State.READY, (), raw)

    def learn(self, sample: Sample, score: Score) -> None:
        """Standardise by all rows so far, then take one step of gradient descent."""
        self._count += 1.0
        means, variances, weights, scaled = self._means, self._variances, self._weights, []
        dot = 0.0
        for index, value in enumerate(sample.values):
            before = means[index]
            means[index] = mean = before + (value - before) / self._count
            variance = variances[index]
            variance += ((value - before) * (value - mean) - variance) / self._count
            variances[index] = variance
            standard = (value - mean) / sqrt(variance) if variance > 0.0 else 0.0
            scaled.append(standard)
            dot += weights[index] * standard
        slope = -1.0 if dot + self._intercept <= 1.0 else 0.0
        self._intercept -= LEARN_RATE * slope + 2.0 * LEARN_RATE * self._l2
        for index, standard in enumerate(scaled):
            weights[index] -= LEARN_RATE * (standard * slope + weights[index] * self._l2)
        self._ranks.learn(score.detail)

    def fresh(self) -> Self:
        """Make one that has seen nothing."""
        return type(self)(self._names, 2.0 * self._l2)

    def snapshot(self) -> bytes:
        """Encode the state."""
        recent = [*self._ranks.recent, *[0.0] * (RECENT_MAX - len(self._ranks.recent))]
        head = [self._count, self._intercept, len(self._ranks.recent)]
        return to_bytes(_TAG, [*head, *recent, *self._means, *self._variances, *self._weights])

    def restore(self, data: bytes) -> None:
        """Take over a state of the same features."""
        width = len(self._names)
        numbers = from_bytes(_TAG, data, _HEAD + RECENT_MAX + 3 * width)
        self._count, self._intercept, recent = numbers[0], numbers[1], int(numbers[2])
        self._ranks = RecentRanks(numbers[_HEAD : _HEAD + recent])
        rest = numbers[_HEAD + RECENT_MAX :]
        self._means, self._variances, self._weights = (rest[at : at + width] for at in range(0, 3 * width, width))
