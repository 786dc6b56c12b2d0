"""Batch size never shows: singly, in small and in large batches, the same scores and the same state to the last bit."""

import math

import numpy as np
import pytest

from seawall.operators.core.detection import (
    ARRAY_BATCH_MIN,
    Composite,
    CompositeArray,
    DeviationArray,
    DeviationDetector,
    Sample,
    ScoreState,
    _deviations,
    observe,
)
from seawall.operators.core.detection._composite_array import NO_TIME
from seawall.operators.core.detection._statistics import BINS

KEYS = 24
MINUTE_US = 60_000_000


def feed(rows=900, columns=2):
    chance = np.random.default_rng(3)
    values = 100.0 + chance.normal(size=(rows, KEYS, columns)) * (1.0 + np.arange(KEYS))[:, None]
    values[100:110, 3] += 80.0
    values[180, 5, 1] = np.nan
    values[200:, 7] = 42.0
    values[250, 9] = 1e12
    times = np.arange(rows)[:, None] * 7 * MINUTE_US + np.zeros(KEYS, int)
    times[:, 11] = NO_TIME
    return times, values


def test_a_batch_of_keys_scores_as_each_key_alone():
    times, values = feed()
    bank, singles = CompositeArray(KEYS, ("a", "b")), [Composite(("a", "b")) for _ in range(KEYS)]
    keys = np.arange(KEYS)
    assert KEYS >= ARRAY_BATCH_MIN
    for row in range(len(values)):
        batch = bank.observe(keys, times[row], values[row])
        for key, single in enumerate(singles):
            when = None if times[row, key] == NO_TIME else int(times[row, key])
            score = observe(single, Sample(when, tuple(values[row, key].tolist())))
            assert (batch.values[key], batch.ready[key]) == (score.value, score.state is ScoreState.READY)
    assert [row.tolist() for row in bank.state] == [single.numbers() for single in singles]


@pytest.mark.parametrize("cut", [1, 5, 15, 16, 20])
def test_the_split_into_batches_has_no_effect(cut):
    times, values = feed(rows=300)
    whole, split = CompositeArray(KEYS, ("a", "b")), CompositeArray(KEYS, ("a", "b"))
    keys = np.arange(KEYS)
    for row in range(len(values)):
        expected = whole.observe(keys, times[row], values[row]).values
        parts = [
            split.observe(keys[part], times[row, part], values[row, part]) for part in (slice(cut), slice(cut, None))
        ]
        assert np.concatenate([part.values for part in parts]).tolist() == expected.tolist()
    assert split.snapshot() == whole.snapshot()


def test_a_restored_bank_continues_bit_for_bit():
    times, values = feed(rows=300)
    keys = np.arange(KEYS)
    whole = CompositeArray(KEYS, ("a", "b"))
    for row in range(200):
        whole.observe(keys, times[row], values[row])
    other = CompositeArray(KEYS, ("a", "b"))
    other.restore(whole.snapshot())
    for row in range(200, 300):
        assert (
            other.observe(keys, times[row], values[row]).values.tolist()
            == whole.observe(keys, times[row], values[row]).values.tolist()
        )


@pytest.fixture(params=["numpy", "numba"])
def way(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(_deviations, "compiled", lambda: None)
    elif _deviations.compiled() is None:
        pytest.skip("numba is not installed")


@pytest.mark.parametrize("batch", [1, 15, KEYS])
def test_the_largest_z_of_a_batch_is_that_of_each_key_alone(way, batch):
    _, values = feed(rows=400)
    bank, singles = DeviationArray(KEYS, ("a", "b")), [DeviationDetector(("a", "b")) for _ in range(KEYS)]
    for row in range(len(values)):
        parts = [np.arange(begin, min(begin + batch, KEYS)) for begin in range(0, KEYS, batch)]
        found = [bank.observe(keys, values[row, keys]) for keys in parts]
        scores = [observe(single, Sample(None, tuple(values[row, key].tolist()))) for key, single in enumerate(singles)]
        assert np.concatenate([part.values for part in found]).tolist() == [score.value for score in scores]
        ready = np.concatenate([part.ready for part in found]).tolist()
        assert ready == [score.state is ScoreState.READY for score in scores]
    assert [state.tolist() for state in bank.state] == [single.numbers() for single in singles]
    other = DeviationArray(KEYS, ("a", "b"))
    other.restore(bank.snapshot())
    assert other.snapshot() == bank.snapshot()


def test_one_row_in_one_call_is_the_largest_z_of_its_key_alone(way):
    _, values = feed(rows=600)
    bank, single = DeviationArray(2, ("a", "b")), DeviationDetector(("a", "b"))
    for row in values[:, 0].tolist():
        score = observe(single, Sample(None, tuple(row)))
        assert bank.observe_one(1, tuple(row)) == (score.value if score.state is ScoreState.READY else None)
    assert bank.state[1].tolist() == single.numbers()
    before = bank.snapshot()
    assert [bank.observe_one(1, (1.0, bad)) for bad in (math.nan, math.inf, -math.inf, 1e101)] == [None] * 4
    assert bank.snapshot() == before


def test_counts_are_halved_alike_however_rows_come(way):
    chance = np.random.default_rng(3)
    bank, single = DeviationArray(1, ("a",)), DeviationDetector(("a",))
    single.take([199_990.0, *[199_990.0 if place == 40 else 0.0 for place in range(BINS)], 1.0, 2.0, 400.0])
    bank.state[0] = single.numbers()
    for value in chance.normal(1.0, 2.0, 30).tolist():
        assert bank.observe_one(0, (value,)) == observe(single, Sample(None, (value,))).value
    assert bank.state[0].tolist() == single.numbers()
    assert bank.state[0, 0] < 110_000.0


def test_a_key_outside_of_a_bank_is_refused_and_touches_nothing(way):
    bank = DeviationArray(2, ("a",))
    before = bank.snapshot()
    with pytest.raises(IndexError):
        bank.observe_one(2, (1.0,))
    assert bank.snapshot() == before
