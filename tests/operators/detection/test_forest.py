"""Half-space trees: River's own scores, in any batch, compiled or not."""

import numpy as np
import pytest
from river import anomaly

from seawall.operators.core.detection import HalfSpaceForest, _shared_forest
from seawall.operators.core.detection import _shared_forest as forests
from seawall.schemas.errors import SnapshotError


def rows(count, width=3, seed=1):
    return np.clip(np.random.default_rng(seed).normal(0.5, 0.15, (count, width)), 0.0, 1.0)


def river_scores(data):
    names = [f"f{index}" for index in range(data.shape[1])]
    trees, scores = anomaly.HalfSpaceTrees(n_trees=25, height=8, window_size=250, seed=7), []
    for row in data.tolist():
        sample = dict(zip(names, row, strict=True))
        scores.append(float(trees.score_one(sample)))
        trees.learn_one(sample)
    return scores


@pytest.fixture(params=["numpy", "numba"])
def way(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(forests, "compiled", lambda: None)
    elif _shared_forest.compiled() is None:
        pytest.skip("numba is not installed")


@pytest.mark.parametrize("batch", [1, 3, 32, 300, 1024])
def test_a_batch_of_any_size_gives_the_scores_of_river_to_the_last_bit(way, batch):
    data = rows(1100)
    forest = HalfSpaceForest(3)
    found = [forest.observe(data[at : at + batch]) for at in range(0, len(data), batch)]
    assert np.concatenate(found).tolist() == river_scores(data)


def test_what_is_compiled_is_the_function_that_python_runs_too():
    data, plain, whole = rows(600), HalfSpaceForest(3), HalfSpaceForest(3)
    for row in data[:500]:
        plain.learn(row.tolist())
        whole.learn(row.tolist())
    shape = (25, 511)
    views = [np.frombuffer(each, each.typecode).reshape(shape) for each in (plain._features, plain._thresholds)]
    masses = [np.frombuffer(each, "i").reshape(shape).copy() for each in (plain._latest, plain._reference)]
    totals = _shared_forest.walk_trees(data[500:], *views, *masses, 8, 25.0)
    assert (1 - totals / whole._score_max).tolist() == whole.observe(data[500:]).tolist()
    assert masses[0].ravel().tolist() == list(whole._latest)


def test_a_forest_read_back_goes_on_bit_for_bit_and_another_seed_is_refused():
    data, whole, first, second = rows(700), HalfSpaceForest(3), HalfSpaceForest(3), HalfSpaceForest(3)
    expected = whole.observe(data)
    head = first.observe(data[:333])
    second.restore(first.snapshot())
    assert [*head, *second.observe(data[333:])] == expected.tolist()
    assert second.snapshot() == whole.snapshot()
    with pytest.raises(SnapshotError, match="another seed"):
        HalfSpaceForest(3, seed=8).restore(whole.snapshot())
    with pytest.raises(SnapshotError):
        HalfSpaceForest(3).restore(whole.snapshot()[:-1])
