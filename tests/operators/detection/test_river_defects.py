"""Nine defects of River 0.26, each shown to be there and shown not to reach us."""

import math
import random

import pytest
from river import anomaly, stats, time_series

from seawall.operators.core.detection import DeviationDetector, GatedDetector, Sample, ScoreState, observe
from seawall.operators.core.detection._statistics import RobustMoments
from seawall.operators.river import RiverDetector, half_space_trees, loda, one_class_svm


def feed(detector, values):
    return [observe(detector, Sample(None, (value,))) for value in values]


def gauss(rows, mean=100.0, deviation=1.0, seed=5):
    chance = random.Random(seed)
    return [chance.gauss(mean, deviation) for _ in range(rows)]


def moments_of(values):
    moments = RobustMoments()
    for value in values:
        moments.learn(value, moments.distance(value))
    return moments


def test_1_a_gate_that_does_not_protect_still_learns():
    river = anomaly.ThresholdFilter(anomaly.StandardAbsoluteDeviation(), threshold=3, protect_anomaly_detector=False)
    untaught = river.score_one(None, 150.0)
    for value in gauss(200):
        river.learn_one(None, value)
    assert river.score_one(None, 150.0) == untaught
    gated = GatedDetector(DeviationDetector(("x",)), hold=False)
    feed(gated, gauss(300))
    assert feed(gated, [100.0])[0].value < 0.9 < feed(gated, [120.0])[0].value


def test_2_a_constant_stream_is_normal_and_farther_out_scores_no_less():
    river = anomaly.GaussianScorer(window_size=None, grace_period=10)
    for _ in range(100):
        river.learn_one(None, 5.0)
    assert river.score_one(None, 5.0) == 1.0
    detector = DeviationDetector(("x",))
    assert feed(detector, [5.0] * 300)[-1].value <= 0.5
    detector = DeviationDetector(("x",))
    feed(detector, gauss(500))
    squares = [max(detector.score(Sample(None, (100.0 + z,))).detail) for z in (5.0, 8.0, 8.5, 9.0)]
    assert squares == sorted(squares)
    assert len(set(squares)) == 4


def test_3_a_volatile_stream_that_falls_flat_keeps_a_variance_above_zero():
    moments = RobustMoments()
    for value in gauss(500, 0.0, 1e6) + [1.0] * 20_000:
        moments.learn(value, moments.distance(value))
        assert moments.variance >= 0.0
    detector = DeviationDetector(("x",))
    assert all(0.0 <= score.value <= 1.0 for score in feed(detector, gauss(500, 0.0, 1e6) + [1.0] * 500))


@pytest.mark.parametrize(("mean", "deviation"), [(1e9, 10.0), (1e10, 100.0), (65_000.0, 0.01)])
def test_4_the_variance_of_large_numbers_is_right(mean, deviation):
    values = gauss(4000, mean, deviation)
    river = stats.EWVar(0.001)
    for value in values:
        river.update(value)
    ours = math.sqrt(moments_of(values).variance)
    assert 0.85 * deviation < ours < 1.1 * deviation
    if mean >= 1e9:
        assert not 0.85 * deviation**2 < river.get() < 1.1 * deviation**2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("build", [half_space_trees, loda, one_class_svm])
def test_5_one_unusable_number_does_not_poison_a_model(bad, build):
    mean = stats.EWMean()
    for value in (1.0, math.nan, 1.0):
        mean.update(value)
    assert math.isnan(mean.get())
    clean, dirty = RiverDetector(("x",), build), RiverDetector(("x",), build)
    values = gauss(600)
    expected = feed(clean, values)
    feed(dirty, values[:300])
    feed(dirty, [bad] * 10)
    assert feed(dirty, values[300:]) == expected[300:]


def holt_winters():
    return anomaly.PredictiveAnomalyDetection(time_series.HoltWinters(alpha=0.3, beta=0.1))


def test_6_asking_an_impure_estimator_does_not_move_it_and_its_warm_up_errors_are_warming():
    river = holt_winters()
    with pytest.raises(IndexError):
        river.score_one({}, 1.0)
    for value in gauss(50):
        river.learn_one({}, value)
    before = river.dynamic_mae.get()
    river.score_one({}, 130.0)
    assert river.dynamic_mae.get() != before
    detector = RiverDetector(("x",), holt_winters)
    scores = feed(detector, gauss(400))
    assert scores[0].state is ScoreState.WARMING
    assert scores[-1].state is ScoreState.READY
    probe = Sample(None, (130.0,))
    assert len({detector.score(probe).detail[0] for _ in range(5)}) == 1


def test_7_a_protected_detector_does_not_lock_in_after_a_level_shift():
    river = anomaly.ThresholdFilter(anomaly.StandardAbsoluteDeviation(), threshold=3, protect_anomaly_detector=True)
    for value in gauss(300) + gauss(3000, 200.0):
        if not river.classify(river.score_one(None, value)):
            river.learn_one(None, value)
    assert river.score_one(None, 200.0) > 3
    gated = GatedDetector(DeviationDetector(("x",)), box_rows=500)
    feed(gated, gauss(300) + gauss(3000, 200.0))
    assert feed(gated, [200.0])[0].value < 0.9


def test_8_a_score_of_little_range_is_calibrated_by_rank():
    detector = RiverDetector(("x", "y", "z"), half_space_trees)
    chance = random.Random(6)
    for _ in range(1000):
        observe(detector, Sample(None, tuple(chance.gauss(0.0, 1.0) for _ in range(3))))
    normal = [detector.score(Sample(None, tuple(chance.gauss(0.0, 1.0) for _ in range(3)))) for _ in range(500)]
    far = detector.score(Sample(None, (6.0, 6.0, -6.0)))
    middle = sorted(score.detail[0] for score in normal)[250]
    assert far.detail[0] - middle < 0.1
    assert far.value > 0.95
    assert sorted(score.value for score in normal)[250] < 0.8


def test_9_a_model_without_a_seed_cannot_be_replayed_and_ours_all_can():
    def run(build):
        detector = RiverDetector(("x",), build)
        return [score.detail for score in feed(detector, gauss(900))]

    assert run(half_space_trees) == run(half_space_trees)
    assert run(loda) == run(loda)
    assert run(lambda: anomaly.LODA(seed=None)) != run(lambda: anomaly.LODA(seed=None))
