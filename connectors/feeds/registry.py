"""Schemas by their ids: files ``ID.avsc`` in a folder, filled from a Schema Registry where one is named.

A schema of an id never changes, so what was fetched once is kept: a restart, a replay of inputs and a test need no
network. Credentials (``user:password``) come from a file or the environment and are sent nowhere else.
"""

import base64
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from seawall.connectors.whole_files import write_whole
from seawall.schemas.errors import BusError, Reason, Rejected, UsageError

TIMEOUT_S = 10
SCHEMA_BYTES_MAX = 1 << 20
NOT_FOUND = 404


class Schemas:
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
        write_whole([(path, schema.encode())])

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
