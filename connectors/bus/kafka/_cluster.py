"""Cluster: its address, the names of Seawall's topics there, and time-outs.

A URL ``kafka://HOST:PORT,…[/PREFIX][?settings=FILE]`` decides the names: the topic ``journal`` is ``PREFIX.journal`` on
the cluster, so that several journals share one; topics that others write keep their names. ``settings`` names a TOML
file with a table ``[kafka]``: how to authenticate, and where secrets are.

A cluster that does not answer is waited for ``outage_s``, and no longer once the process is to end: who stops a run in
an outage would otherwise wait for every wait that is left, one after the other. A cluster that answers is given all the
time it takes. This module does not load librdkafka.
"""

import math
import re
import time
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from seawall.connectors.bus._protocol import TOPICS
from seawall.schemas.configuration import KafkaTerms
from seawall.schemas.errors import UsageError

# Address of a cluster and the names of Seawall's topics there: ``kafka://HOST:PORT,…[/PREFIX][?settings=FILE]``.

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

    @classmethod
    def parse(cls, url: str, base: Path) -> Self:
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
        return cls(parts.netloc, prefix, KafkaTerms.load(base / file) if file else KafkaTerms())


def is_numbered(topic: str) -> bool:
    """Tell whether a topic's records carry their numbers, which are their offsets on every bus."""
    return topic in TOPICS and topic not in FOREIGN


# Patience with a cluster that does not answer: ``outage_s``, and no longer once a process is to end.

CALL_S_MIN = 2.0  # enough for a cluster that answers
_until = [math.inf]  # of the monotonic clock; one for all clients of a process


def cap_waiting(seconds: float) -> None:
    """From ``seconds`` on wait in this process for no cluster that does not answer."""
    _until[0] = min(_until[0], time.monotonic() + seconds)


def uncap_waiting() -> None:
    """Wait for clusters again: for a process that goes on after a run."""
    _until[0] = math.inf


def is_deadline_over(deadline: float) -> bool:
    """Tell whether a deadline of the monotonic clock has passed, or the process is to end."""
    return time.monotonic() > min(deadline, _until[0])


def allowed_call_s(seconds: float) -> float:
    """Return how long a call that may take so many seconds may take now."""
    return min(seconds, max(CALL_S_MIN, _until[0] - time.monotonic()))
