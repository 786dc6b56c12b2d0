"""What a cluster adds to a bus: topics are made, living writers fenced, transactions left open, topics made anew.

Callers that copy, take over or prepare a run ask ``cluster_of`` for it. On any other bus a topic is there with its
first record, and a writer can only be succeeded once it is dead. Whoever judges a run calls ``skip_foreign_records``.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, runtime_checkable

from seawall.connectors.bus._protocol import Bus, Writer

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
