"""Apache Kafka as the bus: the same records at the same offsets, on a cluster (``bus = "kafka://HOST:PORT/PREFIX"``).

Names are loaded when they are asked for, and librdkafka with those that need it.
"""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.connectors.bus.kafka._bus import KafkaBus
    from seawall.connectors.bus.kafka._clients import read_secret
    from seawall.connectors.bus.kafka._cluster import Address, cap_waiting, uncap_waiting
    from seawall.connectors.bus.kafka._point_reader import PointReader
    from seawall.connectors.bus.kafka._provision import grants

_HOMES = {
    "Address": "seawall.connectors.bus.kafka._cluster",
    "KafkaBus": "seawall.connectors.bus.kafka._bus",
    "PointReader": "seawall.connectors.bus.kafka._point_reader",
    "cap_waiting": "seawall.connectors.bus.kafka._cluster",
    "grants": "seawall.connectors.bus.kafka._provision",
    "read_secret": "seawall.connectors.bus.kafka._clients",
    "uncap_waiting": "seawall.connectors.bus.kafka._cluster",
}
__all__ = [
    "Address",
    "KafkaBus",
    "PointReader",
    "cap_waiting",
    "grants",
    "read_secret",
    "uncap_waiting",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
