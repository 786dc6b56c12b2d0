"""The table ``[kafka]`` of a configuration: security, durability, patience and compression, checked.

See contract.md, "Configuration".

A secret never stands in a configuration: ``password``, ``key_password`` and ``client_secret`` name a file (``file:``)
or an environment variable (``env:``) that holds it.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from seawall.schemas.errors import UsageError
from seawall.schemas.tables import Field, Table, check_table, number_in, one_of

COMPRESSIONS = ("lz4", "zstd", "snappy", "gzip", "none")
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "PLAIN")
SECRETS = ("key_password", "password", "client_secret")
_SECRET = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)?")

_KAFKA: Table = {
    "tls": Field("boolean", False),
    "ca": Field("text", ""),
    "certificate": Field("text", ""),
    "key": Field("text", ""),
    "key_password": Field("text", ""),
    "sasl": Field("text", "", one_of("", *MECHANISMS)),
    "username": Field("text", ""),
    "password": Field("text", ""),
    "token_url": Field("text", ""),
    "client_id": Field("text", ""),
    "client_secret": Field("text", ""),
    "scope": Field("text", ""),
    "outage_s": Field("integer", 300, number_in(5, 900)),
    "compression": Field("text", COMPRESSIONS[0], one_of(*COMPRESSIONS)),
    "replication": Field("integer", 0, number_in(0, 9)),
    "min_insync_replicas": Field("integer", 0, number_in(0, 9)),
    "retention_hours": Field("integer", 0, number_in(0, 1_000_000)),
}


class KafkaTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How to talk to a cluster.

    Attributes
    ----------
    directory
        What relative paths count from.
    tls, ca, certificate, key, key_password
        Encryption; ``certificate`` and ``key`` are PEM files by which we authenticate.
    sasl, username, password
        Authentication by name; with OAUTHBEARER instead ``token_url``, ``client_id``, ``client_secret``, ``scope``.
    outage_s
        How long a run waits for a cluster that answered before and no longer does, until it stops; at most 900, because
        no cluster takes longer transactions by default.
    compression
        Of what a run writes.
    replication, min_insync_replicas
        Of topics made by ``seawall topics create``; 0: three and two where there are three brokers.
    retention_hours
        Of ``acknowledgements``, which others write; 0: for ever, as all that a run writes and numbers.
    """

    directory: Path = Path()
    tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""
    key_password: str = ""
    sasl: str = ""
    username: str = ""
    password: str = ""
    token_url: str = ""
    client_id: str = ""
    client_secret: str = ""
    scope: str = ""
    outage_s: int = 300
    compression: str = COMPRESSIONS[0]
    replication: int = 0
    min_insync_replicas: int = 0
    retention_hours: int = 0


def read_kafka(table: dict[str, Any], directory: Path, file: str) -> KafkaTerms:
    """Check a table ``[kafka]``.

    Raises
    ------
    UsageError
        Naming what is wrong and the nearest valid name.
    """
    for name in SECRETS:
        if name in table and not _SECRET.fullmatch(str(table[name])):  # and never say what stands there
            raise UsageError(f'{file} [kafka]: {name} must be "env:NAME" or "file:PATH"; no secret stands in this file')
    found = check_table(table, _KAFKA, f"{file} [kafka]")
    if bool(found["certificate"]) != bool(found["key"]):
        raise UsageError(f"{file} [kafka]: certificate and key go together; name both or neither")
    wanted = {"OAUTHBEARER": ("token_url", "client_id", "client_secret"), "": ()}
    for name in wanted.get(found["sasl"], ("username", "password")):
        if not found[name]:
            raise UsageError(f"{file} [kafka]: sasl = {found['sasl']!r} needs {name}")
    return KafkaTerms(directory=directory, **found)


def load_kafka(path: Path) -> KafkaTerms:
    """Read the table ``[kafka]`` of a TOML file, which may hold other tables too."""
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} holds no settings of a cluster ({error}); correct ?settings= in bus") from None
    return read_kafka(tables.get("kafka", {}), path.absolute().parent, path.name)
