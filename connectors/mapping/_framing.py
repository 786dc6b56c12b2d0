"""Framing of foreign records: from bytes to values. JSON, or JSON and Avro as Confluent's Schema Registry frames them.

Schemas are files ``ID.avsc`` in a folder, filled from a Schema Registry where one is named. ``fastavro`` (extra
``avro``) is loaded only for a mapping of Avro records.
"""

import base64
import io
import json
import os
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

import msgspec

from seawall.connectors.files import write_atomically
from seawall.connectors.mapping._fields import Value
from seawall.schemas.errors import BusError, Reason, Rejected, UsageError

# Schemas by their ids: files ``ID.avsc`` in a folder, filled from a Schema Registry where one is named.
#
# A schema of an id never changes, so what was fetched once is kept: a restart, a replay of inputs and a test need no
# network. Credentials (``user:password``) come from a file or the environment and are sent nowhere else.

TIMEOUT_S = 10
SCHEMA_BYTES_MAX = 1 << 20
NOT_FOUND = 404


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
        if not top["schemas"]:
            raise UsageError(f"{file}: format = 'registry-avro' needs schemas, a folder of files ID.avsc")
        self._folder: Path = directory / top["schemas"]
        self._url: str = top["registry"].rstrip("/")
        if self._url and not self._url.startswith(("http://", "https://")):
            raise UsageError(f"{file}: registry is no address; write 'https://registry:8081'")
        if top["credentials"] and not top["credentials"].startswith(("env:", "file:")):
            raise UsageError(f"{file}: credentials must be 'env:NAME' or 'file:PATH'; no secret stands in this file")
        self._credentials, self._directory = top["credentials"], directory
        if not self._url and not self._folder.is_dir():
            raise UsageError(f"{file}: {self._folder} does not exist; put files ID.avsc there or name a registry")

    def path(self, number: int) -> Path:
        """Return where the schema of an id is kept."""
        return self._folder / f"{number}.avsc"

    def get(self, number: int) -> Any:
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
            self._keep(path, self._fetch(number))
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} is no schema ({error}); take it away or bring it back") from None

    def _keep(self, path: Path, schema: str) -> None:
        write_atomically([(path, schema.encode())])

    def _fetch(self, number: int) -> str:
        request = urllib.request.Request(f"{self._url}/schemas/ids/{number}")
        request.add_header("Accept", "application/vnd.schemaregistry.v1+json")
        if self._credentials:
            request.add_header("Authorization", "Basic " + base64.b64encode(self._secret()).decode())
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                found = json.loads(answer.read(SCHEMA_BYTES_MAX))
            if found.get("schemaType", "AVRO") != "AVRO" or found.get("references"):
                text = f"schema {number} of {self._url} is no Avro schema in one piece"
                raise Rejected(Reason.SCHEMA_MUST_BE_KNOWN, text)
            return str(found["schema"])
        except urllib.error.HTTPError as error:
            if error.code == NOT_FOUND:
                raise Rejected(Reason.SCHEMA_MUST_BE_KNOWN, f"{self._url} knows no schema {number}") from None
            raise BusError(
                f"{self._url} answers {error.code} for schema {number}; correct registry and credentials"
            ) from None
        except (OSError, ValueError, KeyError) as error:
            raise BusError(f"{self._url} gives no schema {number} ({error}); bring the registry back, or put "
                           f"{number}.avsc into {self._folder}") from None  # fmt: skip

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


# From the bytes of a foreign record to values: JSON, or JSON and Avro as Confluent's Schema Registry frames them.
#
# A framed record is one zero byte, the schema's id in four bytes, most significant first, and the body
# (https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/, "Wire format"). Avro bodies
# are read with the schema that they name; that of framed JSON is not needed to read it.

Format = Literal["json", "registry-json", "registry-avro"]
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
    return AvroReader(SchemaFiles(top, directory, file)).decode


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

    def __init__(self, schemas: SchemaFiles) -> None:
        self._schemas = schemas
        try:
            import fastavro  # noqa: PLC0415 - extra avro
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
