"""Protocol of the bus: partitioned, append-only, offset-addressed topics (architecture.md, "The bus").

One small protocol, so that dataflows do not know what carries their records. A reader may be in another process while a
writer runs. A partition has one writer at a time, and a writer's records are stored, in order, once ``flush`` returns.
What only a cluster needs (topics that are made, writers that are fenced) is `Cluster`. No implementation is
imported here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, runtime_checkable

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


def read_all(bus: Bus, topic: str, partition: int, offset: int = 0) -> Iterator[Stored]:
    """Yield the records of a partition, in order, from an offset on."""
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


# What a cluster adds to a bus: topics are made, living writers fenced, transactions left open, topics made anew.
#
# Callers that copy, take over or prepare a run ask ``cluster_of`` for it. On any other bus a topic is there with its
# first record, and a writer can only be succeeded once it is dead. Whoever judges a run calls ``skip_foreign_records``.

Tell = Callable[[str, int, str], None]


@runtime_checkable
class Cluster(Protocol):
    """Topics that are administered, on a bus that several hosts share."""

    @property
    def fences(self) -> bool:
        """Whether a writer that lives can be displaced, or only one that is dead succeeded."""

    def provide(self, partitions: Mapping[str, int], make: bool) -> list[str]:
        """Check that topics exist with so many partitions; with ``make``, make them where none does, and name these.

        Raises
        ------
        UsageError
            A topic is missing, or has other partitions.
        """

    def copier(self, partitions: Iterable[tuple[str, int]], take: bool = False) -> Writer:
        """Become the writer of partitions that keeps the offsets of what is copied from another bus; as ``writer``.

        All are of Seawall's numbered topics, or all of others.
        """

    def has_open_transaction(self, topic: str, partition: int) -> bool:
        """Tell whether a transaction is under way there; one that a killed writer left is ended by the next writer."""

    def pin_topic(self, topic: str, reader: str, begun: bool = False) -> None:
        """Note which topic of others ``reader`` reads; raise where it was made anew since any was read (``begun``)."""


class Unclustered:
    """Cluster of a bus that is none: nothing is made, fenced, left open or made anew."""

    fences = False

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def provide(self, partitions: Mapping[str, int], make: bool) -> list[str]:
        """Make nothing: a topic is there as soon as it has a record."""
        return []

    def copier(self, partitions: Iterable[tuple[str, int]], take: bool = False) -> Writer:
        """Become a writer as any other: offsets are the same on every bus."""
        return self._bus.writer(partitions)

    def has_open_transaction(self, topic: str, partition: int) -> bool:
        """Return False: a transaction of a dead process is undone before anybody reads."""
        return False

    def pin_topic(self, topic: str, reader: str, begun: bool = False) -> None:
        """Do nothing: no topic is made anew here."""


def cluster_of(bus: Bus) -> Cluster:
    """Return the cluster that a bus is, or what stands for one."""
    return bus if isinstance(bus, Cluster) else Unclustered(bus)


@runtime_checkable
class _OpenToOthers(Protocol):
    def skip_foreign_records(self, tell: Tell) -> None: ...


def skip_foreign_records(bus: Bus, tell: Tell) -> None:
    """From now on skip records that no writer of ours put on our topics, and tell topic, partition and what.

    Without it whoever reads them on a cluster stops there. On the embedded bus such a record has an offset like any
    other; rows whose columns hold what no writer puts there are skipped always, and told here.
    """
    if isinstance(bus, _OpenToOthers):
        bus.skip_foreign_records(tell)
