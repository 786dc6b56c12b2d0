"""Protobuf behind a registry's frame, read by the descriptors of its schemas into the values of a mapping.

Before a body stands the place of its message in the schema: how many numbers, and the numbers, as zigzag varints; zero
alone is the first message. A field without presence has its default where it was not sent.
"""

import importlib
from datetime import UTC
from decimal import Decimal
from typing import Any

import numpy as np

from seawall.connectors.mapping._fields import Value
from seawall.connectors.mapping._frames import exact, unframed
from seawall.connectors.mapping._schemas import EXTRA, SchemaFiles
from seawall.schemas.errors import BusError, Reason, Rejected, UsageError

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
    return Decimal(str(np.float32(value))) if field.type == field.TYPE_FLOAT else exact(value)
