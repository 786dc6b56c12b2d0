"""River models in a dataflow: any River anomaly detector behind ``sw.detect`` and ``sw.watch_market``.

Anomaly detectors, drift detectors, and their state without pickle. Importing this package imports River; no operator,
dataflow or command does (a benchmark does). The guide is guides/river-models.md.
"""

from collections.abc import Callable
from typing import Any

from seawall.operators.core.detection import (
    FamilyModels,
    ModelRegistry,
    ModelsFactory,
    RegisteredModels,
    RegistryParameters,
    new_page_hinkley,
)
from seawall.operators.river._detectors import (
    RiverDetector,
    RiverDrift,
    half_space_trees,
    loda,
    one_class_svm,
    river_detector,
    river_kind,
)
from seawall.operators.river._object_graphs import decode_graph, encode_graph

__all__ = [
    "RiverDetector",
    "RiverDrift",
    "decode_graph",
    "encode_graph",
    "half_space_trees",
    "loda",
    "one_class_svm",
    "river_detector",
    "river_kind",
    "river_models",
]


def river_models(
    build: Callable[[], Any], drift: Callable[[], Any] | None = None, keys_max: int = 100_000
) -> ModelsFactory:
    """Make a River estimator the model of every instrument, for ``sw.watch_market(..., make_models=...)``.

    Parameters
    ----------
    build
        Makes a blank estimator with a seed where it takes one; anything of River with ``score_one`` and ``learn_one``.
        It is made once for each instrument and family of features.
    drift
        Makes the drift detector of each model, such as ``river.drift.ADWIN``; Page-Hinkley where it is None. Drift only
        asks for a new model; it never alerts.
    keys_max
        Instruments whose models are kept; no less than ``[market] instruments_max``.

    Examples
    --------
    >>> from river import drift
    >>> models = river_models(loda, drift.ADWIN)(("spread_bp", "imbalance"))
    >>> slot = models.take("perpetual")
    >>> models.observe([slot], 0, [(1.0, 0.2)], [False])[0].ready
    False
    """

    def make(columns: tuple[str, ...]) -> FamilyModels:
        watch = new_page_hinkley if drift is None else lambda: RiverDrift(drift)
        models = ModelRegistry(lambda: (river_kind(columns, build),), RegistryParameters(keys_max), watch)
        return RegisteredModels(columns, models)

    return make
