"""Where a cluster is and what Seawall's topics are called there: ``kafka://HOST:PORT,…[/PREFIX][?settings=FILE]``.

Decides the names: the topic ``journal`` is ``PREFIX.journal`` on the cluster, so that several journals share one;
topics that others write keep their names. ``settings`` names a TOML file with a table ``[kafka]``: how to
authenticate, and where secrets are.
"""

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from seawall.connectors.bus import TOPICS
from seawall.schemas.errors import UsageError
from seawall.schemas.kafka import KafkaTerms, load_kafka

# What subscribers write has no numbers of ours: it is read by the offsets of the cluster, as other people's topics are.
FOREIGN = ("acknowledgements",)
_SERVERS = re.compile(r"[A-Za-z0-9_.-]+:[0-9]{1,5}(,[A-Za-z0-9_.-]+:[0-9]{1,5})*")
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,100}")
EXAMPLE = "kafka://broker:9092/desk"


class Address(NamedTuple):
    """A cluster, the prefix of Seawall's topics there, and how to talk to it."""

    servers: str
    prefix: str
    terms: KafkaTerms

    def topic(self, name: str) -> str:
        """Return what a topic is called on the cluster."""
        return f"{self.prefix}.{name}" if self.prefix and name in TOPICS else name

    def name(self, topic: str) -> str:
        """Return the name of a topic of the cluster; empty where it is Seawall's under another prefix."""
        if not self.prefix:
            return topic
        head, _, name = topic.rpartition(".")
        return name if head == self.prefix and name in TOPICS else ("" if topic in TOPICS else topic)


def is_numbered(topic: str) -> bool:
    """Tell whether a topic's records carry their numbers, which are their offsets on every bus."""
    return topic in TOPICS and topic not in FOREIGN


def parse_address(url: str, base: Path) -> Address:
    """Return what a URL names.

    Raises
    ------
    UsageError
        It is none, or its settings cannot be read.
    """
    parts = urlsplit(url)
    prefix, query = parts.path.strip("/"), parse_qs(parts.query)
    if not _SERVERS.fullmatch(parts.netloc) or not _PREFIX.fullmatch(prefix) or set(query) - {"settings"}:
        raise UsageError(f'bus = "{url}" is no address of a cluster; write it like "{EXAMPLE}"')
    file = query.get("settings", [""])[-1]
    return Address(parts.netloc, prefix, load_kafka(base / file) if file else KafkaTerms())
