"""Schemas of foreign records by their ids: files in a folder, filled from a Schema Registry where one is named.

Avro's are ``ID.avsc``, those of Protobuf ``ID.desc``: a ``FileDescriptorSet``, as ``protoc --descriptor_set_out``
writes it. A schema of an id never changes, so what was fetched once is kept: a restart, a replay of inputs and a test
need no network. Credentials (``user:password``) come from a file or the environment and are sent nowhere else.
Confluent's client of the registry is in the extra ``avro`` and is loaded only for what has to be fetched.
"""

import base64
import importlib
import os
from pathlib import Path
from typing import Any

from seawall.connectors.files import write_atomically
from seawall.schemas.errors import BusError, Reason, Rejected, UsageError

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
