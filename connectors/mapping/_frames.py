"""Frame of a Schema Registry, and exact values: what the readers of Avro and Protobuf share.

A framed record is one zero byte, the schema's id in four bytes, most significant first, and the body
(https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/, "Wire format").
"""

import struct
from decimal import Decimal

from seawall.connectors.mapping._fields import Value
from seawall.schemas.errors import Reason, Rejected

HEAD = struct.Struct(">BI")


def unframed(raw: bytes) -> tuple[int, bytes]:
    """Return the schema's id and the body."""
    if len(raw) < HEAD.size or raw[0] != 0:
        raise Rejected(Reason.FRAME_MUST_BE_VALID, "it does not begin with a zero byte and the id of a schema")
    return HEAD.unpack_from(raw)[1], raw[HEAD.size :]


def exact(value: Value) -> Value:
    """Return values as JSON's: floats by their shortest text, bytes and fixed as text, UUIDs as text."""
    match value:
        case dict():
            return {name: exact(item) for name, item in value.items()}
        case list():
            return [exact(item) for item in value]
        case float():
            return Decimal(repr(value))
        case bytes():
            return value.decode(errors="replace")
        case _ if type(value).__name__ == "UUID":
            return str(value)
        case _:
            return value
