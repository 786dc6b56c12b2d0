"""Frame of a Schema Registry, and exact values: what the readers of Avro and Protobuf share.

A framed record is one zero byte, the schema's id in four bytes, most significant first, and the body
(https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/, "Wire format").
"""

import base64
import importlib
import io
import json
import os
import struct
from collections.abc import Callable
from datetime import UTC
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

import msgspec

from seawall.connectors.files import write_atomically
from seawall.connectors.mapping._fields import Value
from seawall.schemas.errors import BusError, Reason, Rejected, UsageError

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


# Schemas of foreign records by their ids: files in a folder, filled from a Schema Registry where one is named.
#
# Avro's are ``ID.avsc``, those of Protobuf ``ID.desc``: a ``FileDescriptorSet``, as ``protoc --descriptor_set_out``
# writes it. A schema of an id never changes, so what was fetched once is kept: a restart, a replay of inputs and a test
# need no network. Credentials (``user:password``) come from a file or the environment and are sent nowhere else.
# Confluent's client of the registry is in the extra ``avro`` and is loaded only for what has to be fetched.

TIMEOUT_S = 10
CLIENT = {"timeout": TIMEOUT_S, "max.retries": 2, "retries.wait.ms": 200}
SCHEMA_BYTES_MAX = 1 << 20
NOT_FOUND = 404
EXTRA = "pip install 'bytewax-seawall[avro]'"
SUFFIXES = {"registry-avro": ("AVRO", "avsc"), "registry-protobuf": ("PROTOBUF", "desc")}


class SchemaFiles:
    """The schemas of one mapping file.

    Parameters
    ----------
    top
        ``schemas`` (a folder), ``registry`` (an address or empty), ``credentials`` (``env:NAME`` or ``file:PATH``).
    directory
        What relative paths count from.
    file
        The mapping file's name, for errors.
    """

    def __init__(self, top: dict[str, Any], directory: Path, file: str) -> None:
        self._type, self._suffix = SUFFIXES[top["format"]]
        if not top["schemas"]:
            raise UsageError(f"{file}: format = {top['format']!r} needs schemas, a folder of files ID.{self._suffix}")
        self._folder: Path = directory / top["schemas"]
        self._url: str = top["registry"].rstrip("/")
        if self._url and not self._url.startswith(("http://", "https://")):
            raise UsageError(f"{file}: registry is no address; write 'https://registry:8081'")
        if top["credentials"] and not top["credentials"].startswith(("env:", "file:")):
            raise UsageError(f"{file}: credentials must be 'env:NAME' or 'file:PATH'; no secret stands in this file")
        self._credentials, self._directory = top["credentials"], directory
        if not self._url and not self._folder.is_dir():
            text = f"{self._folder} does not exist; put files ID.{self._suffix} there or name a registry"
            raise UsageError(f"{file}: {text}")

    def path(self, number: int) -> Path:
        """Return where the schema of an id is kept."""
        return self._folder / f"{number}.{self._suffix}"

    def get(self, number: int) -> bytes:
        """Return the schema of an id.

        Raises
        ------
        Rejected
            Nobody knows the id.
        BusError
            The registry did not answer.
        """
        path = self.path(number)
        if not path.exists():
            if not self._url:
                raise Rejected(Reason.SCHEMA_MUST_BE_KNOWN, f"there is no {path.name} in {self._folder.name}")
            write_atomically([(path, self._fetch(number))])
        try:
            return path.read_bytes()
        except OSError as error:
            raise self.unreadable(number, error) from None

    def unreadable(self, number: int, error: Exception) -> UsageError:
        """Return the error that says that what is kept is no schema."""
        return UsageError(f"{self.path(number)} is no schema ({str(error)[:100]}); take it away or bring it back")

    def _fetch(self, number: int) -> bytes:
        """Return what the registry holds, as it is kept."""
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - extra avro
            from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415 - extra avro
        except ImportError:
            raise UsageError(f"a Schema Registry needs the extra avro: {EXTRA}") from None
        conf = {"url": self._url, **CLIENT}
        if self._credentials:
            conf["basic.auth.user.info"] = self._secret().decode()
        form = "serialized" if self._type == "PROTOBUF" else None
        try:
            with SchemaRegistryClient(conf) as client:
                found = client.get_schema(number, fmt=form)
        except SchemaRegistryError as error:
            if error.http_status_code == NOT_FOUND:
                raise Rejected(Reason.SCHEMA_MUST_BE_KNOWN, f"{self._url} knows no schema {number}") from None
            text = f"{self._url} answers {error.http_status_code} for schema {number}"
            raise BusError(f"{text}; correct registry and credentials") from None
        except Exception as error:  # of HTTP, or what the answer makes the client trip over
            text = f"{self._url} gives no schema {number} ({str(error)[:200]}); bring the registry back, or put"
            raise BusError(f"{text} {self.path(number).name} into {self._folder}") from None
        if (found.schema_type or "AVRO") != self._type or found.references or len(found.schema_str) > SCHEMA_BYTES_MAX:
            text = f"schema {number} of {self._url} is no {self._type.capitalize()} schema in one piece"
            raise Rejected(Reason.SCHEMA_MUST_BE_KNOWN, text)
        return _descriptor_set(found.schema_str) if form else str(found.schema_str).encode()

    def _secret(self) -> bytes:
        kind, _, name = self._credentials.partition(":")
        if kind == "env":
            found = os.environ.get(name, "").encode()
        else:
            try:
                found = (self._directory / name).read_bytes().strip()
            except OSError as error:
                raise UsageError(f"the credentials in {name} cannot be read: {error.strerror}") from None
        if not found:
            raise UsageError(f"the credentials of the registry are empty; set {name}")
        return found


def _descriptor_set(encoded: str) -> bytes:
    """Return a file's descriptor, as the registry gives it, as a set of one file."""
    descriptor_pb2: Any = importlib.import_module("google.protobuf.descriptor_pb2")
    file = descriptor_pb2.FileDescriptorProto.FromString(base64.standard_b64decode(encoded))
    file.name = file.name or "default"
    return bytes(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())


# Protobuf behind a registry's frame, read by the descriptors of its schemas into the values of a mapping.
#
# Before a body stands the place of its message in the schema: how many numbers, and the numbers, as zigzag varints;
# zero alone is the first message. A field without presence has its default where it was not sent.

MESSAGE_PLACE_BITS_MAX = 28


class ProtobufReader:
    """Reads framed Protobuf by the descriptors of its schemas (extra ``avro``)."""

    def __init__(self, schemas: SchemaFiles) -> None:
        self._schemas = schemas
        try:
            message_factory: Any = importlib.import_module("google.protobuf.message_factory")
        except ImportError:
            raise UsageError(f"Protobuf needs the extra avro: {EXTRA}") from None
        self._class_of = message_factory.GetMessageClass
        self._parsed: dict[int, tuple[Any, Any]] = {}

    def decode(self, raw: bytes) -> Value:
        """Return the record behind a registry's frame and the place of its message."""
        number, body = unframed(raw)
        place, at = _message_place(body)
        try:
            message = self._class_of(self._descriptor(number, place)).FromString(body[at:])
        except (Rejected, BusError, UsageError):
            raise
        except Exception as error:  # it raises whatever the bytes make it trip over
            text = f"the body does not follow schema {number} ({type(error).__name__}: {str(error)[:100]})"
            raise Rejected(Reason.PROTOBUF_MUST_FOLLOW_ITS_SCHEMA, text) from None
        return _message_values(message)

    def _descriptor(self, number: int, place: list[int]) -> Any:
        """Return the descriptor of a message: its place among those of the file, then of the message around it."""
        found = self._parsed.get(number)
        if found is None:
            content = self._schemas.get(number)
            try:
                found = self._parsed[number] = _parse_descriptors(content)
            except Exception as error:
                raise self._schemas.unreadable(number, error) from None
        pool, file = found
        one, names = file, [file.package] if file.package else []
        for depth, at in enumerate(place):
            one = (one.nested_type if depth else one.message_type)[at]
            names.append(one.name)
        return pool.FindMessageTypeByName(".".join(names))


def _parse_descriptors(content: bytes) -> tuple[Any, Any]:
    """Return a pool of a set's files, and the last file, which is the schema itself."""
    descriptor_pb2: Any = importlib.import_module("google.protobuf.descriptor_pb2")
    pool: Any = importlib.import_module("google.protobuf.descriptor_pool").DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(content).file
    own = {file.name for file in files}
    for name in dict.fromkeys(name for file in files for name in file.dependency if name not in own):
        if not name.startswith(("google/protobuf/", "google/type/")):  # what comes with Protobuf is a module here
            raise ValueError(f"it imports {name}, which is not in it")
        known = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    for file in files:
        pool.Add(file)
    return pool, files[-1]


def _message_place(body: bytes) -> tuple[list[int], int]:
    """Return the place of a message in its schema, and where its bytes begin."""
    numbers: list[int] = []
    at, left = 0, 1
    while left > 0:
        value = shift = 0
        while True:
            if at >= len(body) or shift > MESSAGE_PLACE_BITS_MAX:
                raise Rejected(Reason.FRAME_MUST_BE_VALID, "it does not say which message of its schema it is")
            value |= (body[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if body[at - 1] < 0x80:
                break
        value = value >> 1 ^ -(value & 1)
        if value < 0:
            raise Rejected(Reason.FRAME_MUST_BE_VALID, "it names a message of its schema by a number below zero")
        numbers.append(value)
        left = numbers[0] + 1 - len(numbers)
    return numbers[1:] or [0], at


def _message_values(message: Any) -> Value:
    """Return the fields of a message by their names in the schema; one that can be absent and is, is left out."""
    if message.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
        return message.ToDatetime(tzinfo=UTC)
    fields = message.DESCRIPTOR.fields
    there = [one for one in fields if not one.has_presence or message.HasField(one.name)]
    return {one.name: _field_value(one, getattr(message, one.name)) for one in there}


def _field_value(field: Any, value: Any) -> Value:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        of = field.message_type.fields_by_name["value"]
        return {str(key): _item_value(of, item) for key, item in value.items()}
    if field.is_repeated:
        return [_item_value(field, item) for item in value]
    return _item_value(field, value)


def _item_value(field: Any, value: Any) -> Value:
    """Return one value: enums by their names, floats by their shortest text, bytes as text."""
    if field.message_type is not None:
        return _message_values(value)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return value if named is None else named.name
    if field.type != field.TYPE_FLOAT:
        return exact(value)
    import numpy as np  # noqa: PLC0415 - the command line starts without it

    return Decimal(str(np.float32(value)))


# Formats of foreign records: from bytes to values. JSON, or JSON, Avro and Protobuf as Schema Registries frame them.
#
# Avro and Protobuf are read with the schema that a record names; that of framed JSON is not needed to read it. What
# reads them is in the extra ``avro`` and is loaded only for a mapping that needs it.

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
