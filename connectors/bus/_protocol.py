"""Protocol of the bus: partitioned, append-only, offset-addressed topics (architecture.md, "The bus").

One small protocol, so that dataflows do not know what carries their records. A reader may be in another process while a
writer runs. A partition has one writer at a time, and a writer's records are stored, in order, once ``flush`` returns.
What only a cluster needs (topics that are made, writers that are fenced) is in ``_clusters``. No implementation is
imported here.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

from seawall.schemas.configuration import Configuration
from seawall.schemas.records import Stored

TOPICS = (
    "signals",
    "journal",
    "exposures",
    "alerts",
    "breaches",
    "commands",
    "audit",
    "acknowledgements",
    "rejects",
    "forecasts",
    "checkpoints",
    "state",
    "snapshots",
    "redrive",
)
READ_RECORDS_MAX = 1000
READ_BYTES_MAX = 4 * 1024 * 1024


class Writer(Protocol):
    """Appends to partitions that nobody else writes meanwhile."""

    def append(self, topic: str, partition: int, key: str, value: bytes, headers: dict[str, str]) -> None:
        """Take one record; it may stay in memory until ``flush``."""

    def submit(self) -> None:
        """Begin to make everything appended durable, all or nothing; the next call here waits for it and raises."""

    def is_idle(self) -> bool:
        """Tell whether nothing that was submitted is still under way."""

    def flush(self) -> None:
        """Make everything appended durable, all or nothing; raises BusError when it cannot."""

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record, those not flushed yet included."""

    def close(self) -> None:
        """Let the partitions go; what was not flushed is not written."""


class Follower(Protocol):
    """One topic as a consumer sees it that polls for what arrives; no answer costs it a question to a cluster."""

    def partitions(self, wait: bool = False) -> list[int]:
        """Return the partitions that have records, as of the last call, and begin to look again.

        The first answer is waited for, and with ``wait`` every one.

        Raises
        ------
        BusError
            The topic was deleted and made anew since its reader took records, so its offsets name other ones.
        """

    def poll(
        self, partition: int, offset: int, records_max: int = READ_RECORDS_MAX, bytes_max: int = READ_BYTES_MAX
    ) -> list[Stored]:
        """Return what has arrived from ``offset`` on; like ``Bus.read``, but it may lag behind the last writes."""

    def may_lag(self, partition: int) -> bool:
        """Tell whether more may stand behind the last answer, though that was less than was asked for."""


class Bus(Protocol):
    """Topics to read and write."""

    def topics(self) -> list[str]:
        """Return the topics that have records, sorted."""

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic that have records, sorted."""

    def start(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that is kept: 0 where nothing expires."""

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last durable record, 0 where there is none."""

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        records_max: int = READ_RECORDS_MAX,
        bytes_max: int = READ_BYTES_MAX,
    ) -> list[Stored]:
        """Return records from ``offset`` on, in order; at least one where there is one, none at the end."""

    def follow(self, topic: str, reader: str = "", begun: bool = False) -> Follower:
        """Return a follower of a topic, which the bus closes with itself.

        With a ``reader`` it notices where a topic of others is no longer the one that this reader took records of
        (``begun``: in a run of before).
        """

    def writer(self, partitions: Iterable[tuple[str, int]], take: bool = False) -> Writer:
        """Become the writer of partitions; raises PartitionLocked where somebody else is.

        On a cluster an earlier writer on another host is fenced instead: its next flush raises and writes nothing. With
        ``take`` one on this host is fenced too, where the bus can.
        """

    def identity(self) -> str:
        """Return what is the same of two buses only where they hold the same topics, whatever their addresses."""

    def close(self) -> None:
        """Let go of all resources."""


class FileBus:
    """Answers of a bus in files of this host, where nothing expires or moves: what was read is there."""

    def start(self, topic: str, partition: int) -> int:
        """Return 0: nothing expires here."""
        return 0

    def follow(self: "Bus", topic: str, reader: str = "", begun: bool = False) -> "ReadingFollower":
        """Return a follower of a topic; none is made anew here."""
        return ReadingFollower(self, topic)


class ReadingFollower:
    """Follower of a topic on a bus whose reads know of everything at once."""

    def __init__(self, bus: Bus, topic: str) -> None:
        self._bus, self._topic = bus, topic

    def partitions(self, wait: bool = False) -> list[int]:
        """Return the partitions that have records: nobody has to wait for that here."""
        return self._bus.partitions(self._topic)

    def poll(
        self, partition: int, offset: int, records_max: int = READ_RECORDS_MAX, bytes_max: int = READ_BYTES_MAX
    ) -> list[Stored]:
        """Return all that is there from ``offset`` on, up to what is asked for."""
        return self._bus.read(self._topic, partition, offset, records_max, bytes_max)

    def may_lag(self, partition: int) -> bool:
        """Return False: what was returned is what is there."""
        return False


def headers_by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by name; where one stands twice, the earlier is kept as ``NAME (twice)`` for ``verify`` to name.

    The last one counts here and the first one elsewhere, and subscribers refuse both.
    """
    found: dict[str, str] = {}
    for name, text in pairs:
        if name in found:
            found[f"{name} (twice)"] = found[name]
        found[name] = text
    return found


def read_all(bus: Bus, topic: str, partition: int) -> Iterator[Stored]:
    """Yield the records of a partition, in order."""
    offset = 0
    while found := bus.read(topic, partition, offset):
        yield from found
        offset = found[-1].offset + 1


# How many partitions each topic of a configuration has (architecture.md, "Exactly once").

ANY_PARTITIONS = 0


def topic_partitions(configuration: Configuration) -> dict[str, int]:
    """Return the partitions of Seawall's topics, and ``ANY`` for the live inputs, which others make."""
    counts = dict.fromkeys(TOPICS, configuration.shards + 1)
    counts |= {
        "journal": configuration.shards,
        "signals": configuration.market.groups,
        "acknowledgements": 1,
        "redrive": 1,
    }
    return {topic: ANY_PARTITIONS for topic in configuration.topics if topic not in TOPICS} | counts
