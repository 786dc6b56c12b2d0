"""Protocol of the bus: partitioned, append-only, offset-addressed topics (architecture.md, "The bus").

One small protocol, so that dataflows do not know what carries their records. A reader may be in another process while a
writer runs. A partition has one writer at a time, and a writer's records are stored, in order, once ``flush`` returns.
No implementation is imported here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
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


class Bus(Protocol):
    """Topics to read and write."""

    def topics(self) -> list[str]:
        """Return the topics that have records, sorted."""

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic that have records, sorted."""

    def known_partitions(self, topic: str) -> list[int]:
        """Return ``partitions`` for those who ask again and again, as of the last time they did; begin to ask again.

        The first answer is waited for. No other one makes the asker wait for a cluster.
        """

    def keep_to(self, topic: str, begun: bool, reader: str) -> None:
        """Raise, now and whenever ``known_partitions`` is asked, where offsets of a topic came to name other records.

        As of a topic of others on a cluster that was deleted and made anew since ``reader`` took any (``begun``).
        """

    def start(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that is kept: 0 where nothing expires."""

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last durable record, 0 where there is none."""

    def is_settled(self, topic: str, partition: int) -> bool:
        """Tell whether no transaction is under way there: one that a killed writer left is ended by the next writer."""

    def tail(
        self,
        topic: str,
        partition: int,
        offset: int,
        records_max: int = READ_RECORDS_MAX,
        bytes_max: int = READ_BYTES_MAX,
    ) -> list[Stored]:
        """Return what has arrived from ``offset`` on, for those who follow.

        Like ``read``, but of records written a moment ago it may know nothing yet; one answer costs no question to a
        cluster.
        """

    def may_have_more(self, topic: str, partition: int) -> bool:
        """Tell whether more may have stood behind what ``tail`` returned last, though that was less than was asked for.

        The next answers tell.
        """

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        records_max: int = READ_RECORDS_MAX,
        bytes_max: int = READ_BYTES_MAX,
    ) -> list[Stored]:
        """Return records from ``offset`` on, in order; at least one where there is one, none at the end."""

    def identity(self) -> str:
        """Return what is the same of two buses only where they hold the same topics, whatever their addresses."""

    @property
    def fences(self) -> bool:
        """Whether a writer that lives can be displaced, or only one that is dead succeeded."""

    def writer(self, partitions: Iterable[tuple[str, int]], take: bool = False) -> Writer:
        """Become the writer of partitions; raises PartitionLocked where somebody else is.

        On a cluster an earlier writer on another host is fenced instead: its next flush raises and writes nothing. With
        ``take`` one on this host is fenced too, where the bus can.
        """

    def copier(self, partitions: Iterable[tuple[str, int]], take: bool = False) -> Writer:
        """Become the writer of partitions that keeps the offsets of what is copied from another bus; as ``writer``.

        All are of Seawall's numbered topics, or all of others.
        """

    def pass_over(self, tell: Callable[[str, int, str], None]) -> None:
        """From now on pass over records of others on our topics of a cluster, and tell topic, partition and what.

        Without it whoever reads stops there. On the embedded bus such a record has an offset like any other; rows whose
        columns hold what no writer puts there are passed over always, and told here.
        """

    def provide(self, partitions: Mapping[str, int], make: bool) -> list[str]:
        """Check that topics exist with so many partitions; with ``make``, make them where none does, and name these.

        Raises
        ------
        UsageError
            A topic is missing, or has other partitions.
        """

    def close(self) -> None:
        """Let go of all resources."""


class FileBus:
    """Answers of a bus in files of this host, where nothing expires, moves or is under way: what was read is there."""

    fences = False

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic that have records, sorted."""
        raise NotImplementedError

    def known_partitions(self, topic: str) -> list[int]:
        """Return ``partitions``: nobody has to wait for that here."""
        return self.partitions(topic)

    def keep_to(self, topic: str, begun: bool, reader: str) -> None:
        """Do nothing: no topic is made anew here."""

    def start(self, topic: str, partition: int) -> int:
        """Return 0: nothing expires here."""
        return 0

    def is_settled(self, topic: str, partition: int) -> bool:
        """Return True: a transaction of a dead process is undone before anybody reads."""
        return True

    def may_have_more(self, topic: str, partition: int) -> bool:
        """Return False: what was returned is what is there."""
        return False

    def pass_over(self, tell: Callable[[str, int, str], None]) -> None:
        """Do nothing: every record has an offset, and is read."""

    def provide(self, partitions: Mapping[str, int], make: bool) -> list[str]:
        """Do nothing: a topic is there as soon as it has a record."""
        return []


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
