"""What every detector keeps: scoring changes nothing, resume is bit-identical, bad input leaves no trace."""

import math
import random
from collections.abc import Callable

import pytest
from river import anomaly, compose, feature_extraction, preprocessing

from seawall.operators.core.detection import (
    UNUSUAL_SCORE,
    Composite,
    Detector,
    DeviationDetector,
    GatedDetector,
    ResidualBreaker,
    Sample,
    ScoreState,
    observe,
)
from seawall.operators.river import RiverDetector, half_space_trees, loda, one_class_svm
from seawall.schemas.errors import SnapshotError

MINUTE_US = 60_000_000


def radial():
    kernel = feature_extraction.RBFSampler(n_components=10, seed=7)
    return compose.Pipeline(preprocessing.StandardScaler(), kernel, anomaly.OneClassSVM(nu=0.1))


MAKERS: dict[str, Callable[[], Detector]] = {
    "composite": lambda: Composite(("price",)),
    "gated composite": lambda: GatedDetector(Composite(("price",)), level=UNUSUAL_SCORE, hold=False, box_rows=200),
    "deviation": lambda: DeviationDetector(("price",)),
    "gated deviation": lambda: GatedDetector(DeviationDetector(("price",)), level=0.99, box_rows=200),
    "residual breaker": lambda: ResidualBreaker(("price",)),
    "half-space trees": lambda: RiverDetector(("price",), half_space_trees),
    "loda": lambda: RiverDetector(("price",), loda),
    "gated loda": lambda: GatedDetector(RiverDetector(("price",), loda), box_rows=200),
    "one-class svm": lambda: RiverDetector(("price",), one_class_svm),
    "a user's pipeline": lambda: RiverDetector(("price",), radial),
    "a user's supervised scorer": lambda: RiverDetector(("price",), anomaly.StandardAbsoluteDeviation),
}
every_detector = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def series(rows: int, seed: int = 1) -> list[Sample]:
    chance = random.Random(seed)
    values = [100.0 + chance.gauss(0.0, 1.0) + (25.0 if 400 <= row < 420 else 0.0) for row in range(rows)]
    return [Sample(row * MINUTE_US, (value,)) for row, value in enumerate(values)]


@every_detector
def test_scoring_changes_nothing_and_equal_calls_give_equal_answers(make):
    detector = make()
    for sample in series(300):
        observe(detector, sample)
    before = detector.snapshot()
    probe = Sample(300 * MINUTE_US, (140.0,))
    assert detector.score(probe)[:3] == detector.score(probe)[:3]
    assert detector.snapshot() == before


@every_detector
@pytest.mark.parametrize("cut", [0, 1, 149, 401, 700])
def test_a_restart_in_mid_stream_continues_bit_for_bit(make, cut):
    samples = series(800)
    whole, first = make(), make()
    expected = [observe(whole, sample)[:3] for sample in samples]
    head = [observe(first, sample)[:3] for sample in samples[:cut]]
    second = make()
    second.restore(first.snapshot())
    assert head + [observe(second, sample)[:3] for sample in samples[cut:]] == expected
    assert second.snapshot() == whole.snapshot()


@every_detector
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_an_unusable_value_is_invalid_and_leaves_no_trace(make, value):
    detector = make()
    for sample in series(200):
        observe(detector, sample)
    before = detector.snapshot()
    assert observe(detector, Sample(0, (value,))).state is ScoreState.INVALID
    assert detector.snapshot() == before


@every_detector
def test_warming_up_is_a_state_and_ends(make):
    detector = make()
    states = [observe(detector, sample).state for sample in series(800)]
    assert states[0] is ScoreState.WARMING
    assert states[-1] is ScoreState.READY


@every_detector
def test_a_fresh_one_has_seen_nothing(make):
    detector = make()
    for sample in series(300):
        observe(detector, sample)
    assert detector.fresh().snapshot()[:200] == make().snapshot()[:200]


@every_detector
def test_scores_stay_between_zero_and_one_through_constants_zeros_jumps_and_time_going_backwards(make):
    detector = make()
    values = [5.0] * 200 + [0.0] * 50 + [5.0e6] + [5.0] * 200 + [-1.0, 1e-300, 1e12] + [5.0] * 100
    for row, value in enumerate(values):
        score = observe(detector, Sample((1000 - row // 2) * MINUTE_US, (value,)))
        assert 0.0 <= score.value <= 1.0


def test_a_composite_keeps_its_bytes_whatever_it_has_seen():
    detector = Composite(("price", "spread", "depth"))
    small = len(detector.snapshot())
    for sample in series(2000):
        observe(detector, Sample(sample.time_us, sample.values * 3))
    assert len(detector.snapshot()) == small < 3000


def test_a_damaged_or_foreign_snapshot_is_refused():
    data = Composite(("price",)).snapshot()
    for bad in (
        data[:-8],
        data[:-1],
        data[:30] + bytes([data[30] ^ 1]) + data[31:],
        b"",
        DeviationDetector(("price",)).snapshot(),
    ):
        with pytest.raises(SnapshotError):
            Composite(("price",)).restore(bad)
    with pytest.raises(SnapshotError):
        Composite(("price", "volume")).restore(data)


def test_the_contributions_name_what_made_the_score():
    detector = Composite(("price", "volume"))
    for sample in series(390):
        observe(detector, Sample(sample.time_us, (sample.values[0], 10.0 + sample.values[0] % 1.0)))
    score = detector.score(Sample(390 * MINUTE_US, (100.0, 60.0)))
    assert score.value > 0.7
    assert (
        sum(share for name, share in zip(detector.names, score.contributions, strict=True) if "volume" in name) > 0.99
    )
    assert abs(sum(score.contributions) - 1.0) < 1e-9


def test_a_level_shift_is_learned_as_the_new_normal_after_its_time_box():
    detector = GatedDetector(DeviationDetector(("price",)), box_rows=300)
    chance = random.Random(3)
    for _ in range(500):
        observe(detector, Sample(None, (chance.gauss(100.0, 1.0),)))
    scores = [observe(detector, Sample(None, (chance.gauss(150.0, 1.0),))).value for _ in range(600)]
    assert min(scores[:299]) > 0.99
    assert detector.swaps == 1
    assert sorted(scores[300:])[150] < 0.9


def test_a_short_incident_is_not_learned_and_its_clone_is_dropped():
    detector = GatedDetector(DeviationDetector(("price",)), box_rows=300)
    chance = random.Random(4)
    for _ in range(500):
        observe(detector, Sample(None, (chance.gauss(100.0, 1.0),)))
    for _ in range(100):
        observe(detector, Sample(None, (chance.gauss(150.0, 1.0),)))
    for _ in range(200):
        observe(detector, Sample(None, (chance.gauss(100.0, 1.0),)))
    assert detector.swaps == 0
    assert detector.score(Sample(None, (150.0,))).value > 0.99


def test_a_range_breaker_is_not_blinded_by_one_spike():
    breaker = ResidualBreaker(("price",), view="level")
    for sample in series(300):
        observe(breaker, sample)
    observe(breaker, Sample(None, (1e6,)))
    for sample in series(300):
        observe(breaker, sample)
    assert breaker.score(Sample(None, (150.0,))).value > 0.5


def clustered(rows, seed=3):
    """Return values whose volatility comes and goes, as that of markets does."""
    chance, level, found = random.Random(seed), 0.0, []
    for _ in range(rows):
        level = 0.98 * level + 0.15 * chance.gauss(0.0, 1.0)
        found.append(math.exp(level) * chance.gauss(0.0, 1.0))
    return found


@pytest.mark.parametrize(
    "make", [lambda: Composite(("x",)), lambda: DeviationDetector(("x",))], ids=["composite", "deviation"]
)
def test_a_rank_is_the_share_of_ordinary_rows_below_it(make):
    detector = make()
    whole = 2.0 if isinstance(detector, Composite) else 1.0
    values = [observe(detector, Sample(None, (value,))).value for value in clustered(8000)][2000:]
    ranks = [value * whole for value in values if value < 0.5 or whole == 1.0]
    above = {rank: sum(value > rank - 1e-9 for value in ranks) / len(ranks) for rank in (0.5, 0.9, 0.99)}
    assert 0.35 < above[0.5] < 0.6
    assert 0.05 < above[0.9] < 0.12
    assert above[0.99] < 0.025
