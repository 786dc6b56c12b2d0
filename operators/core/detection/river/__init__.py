"""River behind the protocols of detection: anomaly detectors, drift detectors, and their state without pickle.

Importing this package imports River; nothing else in Seawall does.
"""

from seawall.operators.core.detection.river._detectors import (
    RiverDetector,
    RiverDrift,
    half_space_trees,
    loda,
    one_class_svm,
    river_detector,
    river_kind,
)
from seawall.operators.core.detection.river._object_graphs import decode_graph, encode_graph

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
]
