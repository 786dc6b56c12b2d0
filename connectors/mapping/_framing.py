"""Formats of foreign records: from bytes to values. JSON, or JSON, Avro and Protobuf as Schema Registries frame them.

Avro and Protobuf are read with the schema that a record names; that of framed JSON is not needed to read it. What reads
them is in the extra ``avro`` and is loaded only for a mapping that needs it.
"""

import io
import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

import msgspec

from seawall.connectors.mapping._fields import Value
from seawall.connectors.mapping._frames import exact, unframed
from seawall.connectors.mapping._protobuf import ProtobufReader
from seawall.connectors.mapping._schemas import EXTRA, SUFFIXES, SchemaFiles
from seawall.schemas.errors import Reason, Rejected, UsageError

Format = Literal["json", "registry-json", "registry-avro", "registry-protobuf"]
Decode = Callable[[bytes], Value]
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def open_format(top: dict[str, Any], directory: Path, file: str) -> Decode:
    """Return what decodes records of a format.

    Raises
    ------
    UsageError
        Schemas are missing, or the extra that reads Avro is not installed.
    """
    if top["format"] not in SUFFIXES:
        for name in ("schemas", "registry", "credentials"):
            if top[name]:
                raise UsageError(f"{file}: {name} is for format = 'registry-avro' or 'registry-protobuf'; take it away")
        return decode_json if top["format"] == "json" else decode_framed_json
    reader = AvroReader if top["format"] == "registry-avro" else ProtobufReader
    return reader(SchemaFiles(top, directory, file)).decode


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
    return decode_json(unframed(raw)[1])


class AvroReader:
    """Reads framed Avro with fastavro (extra ``avro``)."""

    def __init__(self, schemas: SchemaFiles) -> None:
        self._schemas = schemas
        try:
            import fastavro  # noqa: PLC0415 - extra avro
        except ImportError:
            raise UsageError(f"Avro needs the extra avro: {EXTRA}") from None
        self._fastavro = fastavro
        self._parsed: dict[int, Any] = {}

    def decode(self, raw: bytes) -> Value:
        """Return the record behind a registry's frame."""
        number, body = unframed(raw)
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
        return exact(found)

    def _schema(self, number: int) -> Any:
        found = self._parsed.get(number)
        if found is None:
            content = self._schemas.get(number)
            try:
                found = self._parsed[number] = self._fastavro.parse_schema(json.loads(content), named_schemas={})
            except Exception as error:
                raise self._schemas.unreadable(number, error) from None
        return found
