"""Batch size never shows: singly, in small and in large batches, the same scores and the same state to the last bit."""

import numpy as np
import pytest

from seawall.operators.core.detection import (
    ARRAY_BATCH_MIN,
    Composite,
    CompositeArray,
    Sample,
    ScoreState,
    observe,
)
from seawall.operators.core.detection._composite_array import NO_TIME

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
