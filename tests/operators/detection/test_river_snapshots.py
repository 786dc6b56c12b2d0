"""River's objects as text and numbers: what is read back goes on bit for bit, and nothing in it can run."""

import json
import random
import zlib

import numpy as np
import pytest
from river import (
    anomaly,
    compose,
    covariance,
    drift,
    feature_extraction,
    preprocessing,
    sketch,
    stats,
    time_series,
    utils,
)

from seawall.operators.core.base import pack_numbers, pack_parts
from seawall.operators.core.detection import PageHinkley, Sample, observe
from seawall.operators.river import (
    RiverDetector,
    RiverDrift,
    _object_graphs,
    decode_graph,
    encode_graph,
    half_space_trees,
    loda,
    one_class_svm,
)
from seawall.schemas.errors import SnapshotError

BUILDERS = {
    "half-space trees": half_space_trees,
    "loda": loda,
    "one-class svm": one_class_svm,
    "local outlier factor": lambda: anomaly.LocalOutlierFactor(n_neighbors=5),
    "gaussian with window": lambda: anomaly.GaussianScorer(window_size=50, grace_period=20),
    "predictive": lambda: anomaly.PredictiveAnomalyDetection(time_series.HoltWinters(alpha=0.3, beta=0.1)),
    "predictive snarimax": lambda: anomaly.PredictiveAnomalyDetection(time_series.SNARIMAX(p=3, d=0, q=0)),
    "absolute deviation of a quantile": lambda: anomaly.StandardAbsoluteDeviation(stats.Quantile(0.5)),
    "kernel": lambda: compose.Pipeline(feature_extraction.RBFSampler(seed=3), anomaly.OneClassSVM()),
    "windowed scaler": lambda: compose.Pipeline(preprocessing.StandardScaler(window_size=30), anomaly.LODA(5, 10, 3)),
    "union of views": lambda: compose.Pipeline(
        compose.TransformerUnion(preprocessing.MinMaxScaler(), compose.FuncTransformer(doubled)), anomaly.LODA(5, 10, 3)
    ),
}


def doubled(features):
    return {f"{name} twice": 2.0 * value for name, value in features.items()}


def series(rows, seed=1):
    chance = random.Random(seed)
    return [Sample(None, (chance.gauss(0.0, 1.0), chance.gauss(5.0, 2.0))) for _ in range(rows)]


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS.keys())
def test_an_estimator_that_was_read_back_goes_on_bit_for_bit(build):
    first, second = RiverDetector(("x", "y"), build), RiverDetector(("x", "y"), build)
    for sample in series(320):
        observe(first, sample)
    second.restore(first.snapshot())
    assert second.snapshot() == first.snapshot()
    for sample in series(60, seed=2):
        assert observe(second, sample) == observe(first, sample)
    assert second.snapshot() == first.snapshot()


DRIFTS = {
    "ADWIN": lambda: RiverDrift(drift.ADWIN),
    "KSWIN": lambda: RiverDrift(lambda: drift.KSWIN(seed=3)),
    "Page-Hinkley of River": lambda: RiverDrift(drift.PageHinkley),
    "Page-Hinkley": PageHinkley,
}


@pytest.mark.parametrize("make", DRIFTS.values(), ids=DRIFTS.keys())
def test_a_drift_detector_goes_on_bit_for_bit(make):
    chance = random.Random(4)
    scores = [chance.random() / 2 + (0.4 if row > 700 else 0.0) for row in range(1200)]
    whole, first, second = make(), make(), make()
    expected = [whole.update(score) for score in scores]
    found = [first.update(score) for score in scores[:500]]
    second.restore(first.snapshot())
    assert found + [second.update(score) for score in scores[500:]] == expected
    assert second.snapshot() == whole.snapshot()


def test_statistics_sketches_and_what_is_shared_between_them_come_back():
    shared = stats.EWMean(0.1)
    whole = {
        "shared": [shared, shared],
        "rolling": utils.Rolling(stats.Var, window_size=5),
        "covariance": covariance.EmpiricalCovariance(),
        "heavy": sketch.HeavyHitters(),
        "numbers": (1, -(2**80), 0.1 + 0.2, float("inf"), -0.0, None, True, "text", b"\x00"),
        "arrays": [np.arange(6.0).reshape(2, 3), np.float32(0.1), {3, 1}, frozenset({"a"})],
        ("a", 1): {2: 3.0},
    }
    for value in range(9):
        shared.update(value)
        whole["rolling"].update(value)
        whole["covariance"].update({"x": value, "y": value % 3})
        whole["heavy"].update(value % 2)
    found = decode_graph(encode_graph(whole, {}), {})
    assert found["shared"][0] is found["shared"][1]
    assert encode_graph(found, {}) == encode_graph(whole, {})
    assert found["numbers"] == whole["numbers"]
    assert found["arrays"][0].tolist() == whole["arrays"][0].tolist()
    assert found["rolling"].get() == whole["rolling"].get()


EMPTY, HELD = ["tuple", "", []], [["list", "", []]] * 3


def planted(node):
    text = json.dumps(node).encode()
    return pack_parts(
        _object_graphs._TAG, [float(zlib.crc32(text))], [text, pack_numbers(_object_graphs._FLOATS, []), b""]
    )


@pytest.mark.parametrize(
    "node",
    [
        ["class", "os", "system"],
        ["class", "builtins", "eval"],
        ["class", "river.drift.adwin", "base"],
        ["new", "subprocess", "Popen", EMPTY, None, *HELD],
        ["call", "river.anomaly.loda", "LODA", EMPTY, None, *HELD],
        ["function", "os:system"],
        ["method", ["list", "", []], "append"],
        ["method", ["new", "river.anomaly.loda", "LODA", EMPTY, None, *HELD], "__init__"],
        ["ref", 7],
        ["list", "f", 1],
        ["bytes", 3],
        ["nonsense"],
        7,
    ],
)
def test_a_snapshot_that_names_foreign_code_or_what_is_not_there_is_refused(node):
    with pytest.raises(SnapshotError):
        decode_graph(planted(node), loda())


def test_a_changed_byte_is_refused_and_leaves_the_detector_as_it_was():
    first, second = RiverDetector(("x", "y"), loda), RiverDetector(("x", "y"), loda)
    for sample in series(200):
        observe(first, sample)
    data, before = first.snapshot(), second.snapshot()
    for at in range(0, len(data), 211):
        with pytest.raises(SnapshotError):
            second.restore(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert second.snapshot() == before


def test_what_has_no_flat_form_is_named():
    with pytest.raises(SnapshotError, match="generator"):
        encode_graph([(row for row in ())], {})
    with pytest.raises(SnapshotError, match="array of objects"):
        encode_graph(np.array([object()]), {})
    with pytest.raises(SnapshotError, match="doubled, which its blank does not"):
        encode_graph([doubled], [])
    with pytest.raises(SnapshotError, match="share the name"):
        encode_graph([], [(lambda: 1), (lambda: 2)])


def test_half_space_trees_are_stored_as_arrays():
    detector = RiverDetector(("x", "y"), half_space_trees)
    for sample in series(10):
        observe(detector, sample)
    nodes = 25 * 511
    assert len(detector.snapshot()) < 18 * nodes + 12_000
