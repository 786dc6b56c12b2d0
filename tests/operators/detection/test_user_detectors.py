"""Any River estimator can be plugged in: guarded, warmed up, ranked, gated, saved, and tried as a challenger."""

import math
import random

import pytest
from river import anomaly, base, compose, preprocessing, stats

from seawall.operators.core.detection import (
    UNUSUAL_SCORE,
    Composite,
    IndependentKind,
    ModelEvent,
    ModelKey,
    ModelRegistry,
    ModelScope,
    RegistryParameters,
    Sample,
    ScoreState,
    TrialTerms,
    observe,
)
from seawall.operators.river import river_detector, river_kind
from seawall.schemas.errors import UsageError

KEY = ModelKey(ModelScope.INSTRUMENT, "BTC-PERP", "perpetual")
NAMES = ("spread", "depth")


class Spread(base.AnomalyDetector):
    """A user's own estimator: distance of the sum from its mean, in standard deviations; broken before two rows."""

    def __init__(self):
        self.moments = stats.Var()
        self.largest = [0.0]

    def learn_one(self, x):
        self.moments.update(sum(x.values()))
        self.largest.append(max(self.largest[-1], sum(x.values())))
        del self.largest[:-3]

    def score_one(self, x):
        return abs(sum(x.values()) - self.moments.mean.get()) / math.sqrt(self.moments.get())


BUILDERS = {
    "a class of one's own": Spread,
    "in a pipeline": lambda: compose.Pipeline(preprocessing.StandardScaler(), Spread()),
    "filtered by River": lambda: anomaly.QuantileFilter(anomaly.LODA(10, 10, seed=7), q=0.99),
    "another of River": lambda: anomaly.LocalOutlierFactor(n_neighbors=3),
    "one with a target": lambda: anomaly.GaussianScorer(window_size=None, grace_period=20),
}
every_builder = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS.keys())


def samples(rows, seed=1):
    chance = random.Random(seed)
    return [Sample(row, (chance.gauss(5.0, 1.0), chance.gauss(50.0, 4.0))) for row in range(rows)]


@every_builder
def test_it_warms_up_is_ranked_and_never_sees_an_unusable_number(build):
    detector, twin = river_detector(NAMES, build), river_detector(NAMES, build)
    scores = [observe(detector, sample) for sample in samples(300)]
    for number, sample in enumerate(samples(300)):
        if number % 50 == 0:
            assert observe(twin, Sample(0, (math.nan, 1.0))).state is ScoreState.INVALID
        observe(twin, sample)
    assert scores[0].state is ScoreState.WARMING
    assert scores[-1].state is ScoreState.READY
    assert all(0.0 <= score.value <= 1.0 for score in scores)
    assert len(twin.snapshot()) == len(detector.snapshot())
    for sample in samples(50, seed=2):
        assert twin.score(sample) == detector.score(sample)


@every_builder
def test_it_continues_bit_for_bit_after_a_restart(build):
    first, second = river_detector(NAMES, build), river_detector(NAMES, build)
    for sample in samples(250):
        observe(first, sample)
    second.restore(first.snapshot())
    for sample in samples(50, seed=2):
        assert observe(second, sample) == observe(first, sample)
    assert second.snapshot() == first.snapshot()


def test_it_does_not_learn_what_it_flags_until_that_has_lasted():
    detector = river_detector(NAMES, Spread)
    for sample in samples(400):
        observe(detector, sample)
    flagged = [observe(detector, Sample(None, (90.0 + row % 7, 90.0))).value for row in range(1300)]
    assert min(flagged[:500]) > 0.99
    assert sorted(flagged[-100:])[50] < 0.9


@pytest.mark.parametrize("build", [lambda: anomaly.LODA(10, 10), anomaly.HalfSpaceTrees, random.Random])
def test_one_without_a_seed_is_refused_because_it_cannot_be_replayed(build):
    with pytest.raises(UsageError, match="seed"):
        river_detector(NAMES, build)


def test_it_can_challenge_the_composite():
    models = ModelRegistry(
        lambda: (IndependentKind(lambda: Composite(NAMES), UNUSUAL_SCORE), river_kind(NAMES, Spread)),
        RegistryParameters(terms=TrialTerms(trial_rows=100, rollback_rows=50)),
    )
    for sample in samples(600):
        models.observe(KEY, sample)
    trials = [change for change in models.drain() if change.event in (ModelEvent.KEPT, ModelEvent.PROMOTED)]
    assert len(trials) >= 2
    assert "unusual rows" in trials[0].text
    other = ModelRegistry(models._kinds, models.parameters)
    other.restore(models.snapshot())
    assert other.snapshot() == models.snapshot()
