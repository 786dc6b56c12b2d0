"""From the bytes of a foreign record to values: JSON, or JSON and Avro as Confluent's Schema Registry frames them.

A framed record is one zero byte, the schema's id in four bytes, most significant first, and the body
(https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/, "Wire format"). Avro bodies
are read with the schema that they name; that of framed JSON is not needed to read it.
"""

import io
import struct
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec

from seawall.connectors.feeds.registry import Schemas
from seawall.connectors.feeds.values import Value
from seawall.schemas.errors import Reason, Rejected, UsageError

FORMATS = ("json", "registry-json", "registry-avro")
HEAD = struct.Struct(">BI")
Decode = Callable[[bytes], Value]
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def open_format(top: dict[str, Any], directory: Path, file: str) -> Decode:
    """Return what decodes records of a format.

    Raises
    ------
    UsageError
        Schemas are missing, or the extra that reads Avro is not installed.
    """
    if top["format"] != "registry-avro":
        for name in ("schemas", "registry", "credentials"):
            if top[name]:
                raise UsageError(f"{file}: {name} is for format = 'registry-avro'; take it away")
        return decode_json if top["format"] == "json" else decode_framed_json
    return AvroReader(Schemas(top, directory, file)).decode


def decode_json(raw: bytes) -> Value:
    """Return a JSON object, numbers exact."""
    try:
        found = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidOperation) as error:
        raise Rejected(Reason.JSON_MUST_BE_VALID, str(error)[:200]) from None
    if not isinstance(found, dict):
        raise Rejected(Reason.RECORD_MUST_BE_AN_OBJECT, "the record is no object")
    return found


def decode_framed_json(raw: bytes) -> Value:
    """Return the JSON object behind a registry's frame."""
    return decode_json(_unframed(raw)[1])


def _unframed(raw: bytes) -> tuple[int, bytes]:
    """Return the schema's id and the body."""
    if len(raw) < HEAD.size or raw[0] != 0:
        raise Rejected(Reason.FRAME_MUST_BE_VALID, "it does not begin with a zero byte and the id of a schema")
    return HEAD.unpack_from(raw)[1], raw[HEAD.size :]


class AvroReader:
    """Reads framed Avro with fastavro (``pip install 'bytewax-seawall[avro]'``)."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        try:
            import fastavro
        except ImportError:
            raise UsageError("Avro needs the extra avro: pip install 'bytewax-seawall[avro]'") from None
        self._fastavro = fastavro
        self._parsed: dict[int, Any] = {}

    def decode(self, raw: bytes) -> Value:
        """Return the record behind a registry's frame."""
        number, body = _unframed(raw)
        schema = self._schema(number)
        stream = io.BytesIO(body)
        try:
            found = self._fastavro.schemaless_reader(stream, schema)
        except Exception as error:  # fastavro raises whatever the bytes make it trip over
            text = f"the body does not follow schema {number} ({type(error).__name__}: {str(error)[:100]})"
            raise Rejected(Reason.AVRO_MUST_FOLLOW_ITS_SCHEMA, text) from None
        if stream.tell() != len(body):
            text = f"{len(body) - stream.tell()} bytes follow the record of schema {number}"
            raise Rejected(Reason.AVRO_MUST_FOLLOW_ITS_SCHEMA, text)
        if not isinstance(found, dict):
            raise Rejected(Reason.RECORD_MUST_BE_AN_OBJECT, f"schema {number} is of no record")
        return _exact(found)

    def _schema(self, number: int) -> Any:
        found = self._parsed.get(number)
        if found is None:
            content = self._schemas.get(number)
            try:
                found = self._parsed[number] = self._fastavro.parse_schema(content, named_schemas={})
            except Exception as error:
                raise UsageError(f"{self._schemas.path(number)} is no Avro schema ({str(error)[:100]})") from None
        return found


def _exact(value: Value) -> Value:
    """Return Avro's values as JSON's: floats by their shortest text, bytes and fixed as text, UUIDs as text."""
    match value:
        case dict():
            return {name: _exact(item) for name, item in value.items()}
        case list():
            return [_exact(item) for item in value]
        case float():
            return Decimal(repr(value))
        case bytes():
            return value.decode(errors="replace")
        case _ if type(value).__name__ == "UUID":
            return str(value)
        case _:
            return value
