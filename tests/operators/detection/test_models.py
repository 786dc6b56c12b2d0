"""The models of many keys: bounded, isolated, started from their class, resumed bit for bit."""

import random

import pytest

from seawall.operators.core.detection import (
    Composite,
    ModelEvent,
    ModelKey,
    ModelScope,
    Sample,
    ScoreState,
    make_models,
    observe,
    warm_start,
)
from seawall.schemas.errors import SnapshotError, UsageError

MINUTE_US = 60_000_000
COLUMNS = ("return", "spread")


def key(name, asset_class="perpetual"):
    return ModelKey(ModelScope.INSTRUMENT, name, asset_class)


def stream(rows, names, seed=1):
    chance = random.Random(seed)
    for row in range(rows):
        for name in names:
            yield key(name), Sample(row * MINUTE_US, (chance.gauss(0.0, 1.0), 5.0 + chance.gauss(0.0, 0.5)))


def test_a_key_scores_as_its_detector_would_alone():
    models, alone = make_models(COLUMNS), {name: Composite(COLUMNS) for name in "ab"}
    for own, sample in stream(300, "ab"):
        assert models.observe(own, sample) == observe(alone[own.name], sample)


@pytest.mark.parametrize("cut", [0, 1, 500, 1501])
def test_a_restart_in_mid_stream_continues_bit_for_bit(cut):
    samples = [*stream(500, "abc"), *stream(300, "abcd", seed=2)]
    whole, first, second = make_models(COLUMNS), make_models(COLUMNS), make_models(COLUMNS)
    expected = [whole.observe(*each)[:3] for each in samples]
    found = [first.observe(*each)[:3] for each in samples[:cut]]
    second.restore(first.snapshot())
    assert second.position == cut
    found += [second.observe(*each)[:3] for each in samples[cut:]]
    assert found == expected
    assert second.snapshot() == whole.snapshot()


def test_a_new_key_answers_at_once_with_what_its_class_knows_and_then_with_its_own():
    models = make_models(COLUMNS)
    for each in stream(2000, "ab"):
        models.observe(*each)
    assert models.drain() == []
    scores = [models.observe(key("new"), sample) for _, sample in stream(200, ["new"], seed=3)]
    assert {score.state for score in scores} == {ScoreState.READY}
    assert sum(score.value > 0.5 for score in scores) <= 5
    assert [change.event for change in models.drain()] == [ModelEvent.STARTED_FROM_CLASS, ModelEvent.WARMED_UP]
    stranger = models.observe(key("other", "option"), Sample(0, (0.0, 5.0)))
    assert stranger.state is ScoreState.WARMING


def test_a_lent_model_sees_at_once_what_its_class_has_never_seen():
    models = make_models(COLUMNS)
    for each in stream(2000, "ab"):
        models.observe(*each)
    for _, sample in stream(3, ["new"], seed=3):
        models.observe(key("new"), sample)
    assert models.observe(key("new"), Sample(4 * MINUTE_US, (0.0, 60.0))).value > 0.6


def test_the_least_recently_used_key_is_forgotten_and_one_shot_keys_displace_nobody():
    models = make_models(COLUMNS, keys_max=3)
    for each in stream(20, "abc"):
        models.observe(*each)
    for number in range(500):
        assert models.observe(key(f"junk{number}"), Sample(0, (0.0, 5.0))).state is ScoreState.WARMING
    assert all(key(name) in models for name in "abc")
    for _ in range(2):
        models.observe(key("b"), Sample(0, (0.0, 5.0)))
        models.observe(key("a"), Sample(0, (0.0, 5.0)))
        models.observe(key("new"), Sample(0, (0.0, 5.0)))
    assert key("new") in models
    assert key("c") not in models
    assert len(models) == 3
    assert [(change.event, change.key.name) for change in models.drain()] == [(ModelEvent.EVICTED, "c")]


def test_a_key_that_is_forgotten_starts_anew_and_others_go_on():
    models = make_models(COLUMNS)
    for each in stream(200, "ab"):
        models.observe(*each)
    models.forget(key("a"))
    models.forget(key("never seen"))
    sample = Sample(200 * MINUTE_US, (0.0, 5.0))
    assert models.observe(key("a"), sample).state is ScoreState.WARMING
    assert models.observe(key("b"), sample).state is ScoreState.READY


def test_an_unusable_sample_of_an_unknown_key_makes_no_model():
    models = make_models(COLUMNS)
    assert models.observe(key("a"), Sample(0, (float("nan"), 1.0))).state is ScoreState.INVALID
    assert len(models) == 0


def test_a_history_makes_the_same_models_as_having_lived_it():
    lived, warmed = make_models(COLUMNS), make_models(COLUMNS)
    for each in stream(400, "ab"):
        lived.observe(*each)
    assert warm_start(warmed, stream(400, "ab")) == 800
    assert warmed.snapshot() == lived.snapshot()


def test_a_snapshot_of_other_parameters_or_with_a_changed_byte_is_refused_and_changes_nothing():
    models = make_models(COLUMNS)
    for each in stream(30, "ab"):
        models.observe(*each)
    data = models.snapshot()
    other = make_models(COLUMNS)
    before = other.snapshot()
    for at in range(0, len(data), 97):
        with pytest.raises(SnapshotError):
            other.restore(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(SnapshotError):
            other.restore(data[:at])
    assert other.snapshot() == before
    with pytest.raises(SnapshotError, match="keys_max"):
        make_models(COLUMNS, keys_max=5).restore(data)
    with pytest.raises(SnapshotError, match="description"):
        make_models(("return", "depth")).restore(data)


def test_a_registry_for_no_key_is_bad_usage():
    with pytest.raises(UsageError, match="keys_max"):
        make_models(COLUMNS, keys_max=0)


def test_a_key_takes_three_kilobytes_at_five_columns():
    models = make_models(("a", "b", "c", "d", "e"))
    empty = len(models.snapshot())
    for row in range(400):
        models.observe(key("x"), Sample(row * MINUTE_US, tuple(float(row % (3 + n)) for n in range(5))))
    class_bytes = len(Composite(("a", "b", "c", "d", "e")).snapshot()) + 100
    assert len(models.snapshot()) - empty - class_bytes < 3300
