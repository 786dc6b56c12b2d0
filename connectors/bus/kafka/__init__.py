"""Apache Kafka as the bus: the same records at the same offsets, on a cluster (``bus = "kafka://HOST:PORT/PREFIX"``).

Names are loaded when they are asked for, and librdkafka with those that need it.
"""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.connectors.bus.kafka._bus import KafkaBus as KafkaBus
    from seawall.connectors.bus.kafka._clients import read_secret as read_secret
    from seawall.connectors.bus.kafka._cluster import Address as Address
    from seawall.connectors.bus.kafka._cluster import cap_waiting as cap_waiting
    from seawall.connectors.bus.kafka._cluster import is_numbered as is_numbered
    from seawall.connectors.bus.kafka._cluster import uncap_waiting as uncap_waiting
    from seawall.connectors.bus.kafka._point_reader import PointReader as PointReader
    from seawall.connectors.bus.kafka._provision import grants as grants

_HOMES = {
    "Address": "seawall.connectors.bus.kafka._cluster",
    "KafkaBus": "seawall.connectors.bus.kafka._bus",
    "PointReader": "seawall.connectors.bus.kafka._point_reader",
    "cap_waiting": "seawall.connectors.bus.kafka._cluster",
    "grants": "seawall.connectors.bus.kafka._provision",
    "is_numbered": "seawall.connectors.bus.kafka._cluster",
    "read_secret": "seawall.connectors.bus.kafka._clients",
    "uncap_waiting": "seawall.connectors.bus.kafka._cluster",
}
__all__ = [
    "Address",
    "KafkaBus",
    "PointReader",
    "cap_waiting",
    "grants",
    "is_numbered",
    "read_secret",
    "uncap_waiting",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
