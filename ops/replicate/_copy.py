"""Copies of a bus: partitions of one bus on another, every record at its offset.

Backup, restore, migration and mirror are policies on this: each says which partitions, in which order, and until when.

1. What stands on the target already is compared with the source before anything is written: all of it, or its first and
   last records. A target that holds other records, or more, is refused.
2. The target itself says where to go on. Nothing is kept elsewhere: a copy that was killed loses and repeats nothing.
3. A part is the content of one transaction: ``put`` begins it, and after ``flush`` it stands.
4. Partitions are written under the names by which dataflows write them. The locks of the embedded bus keep a run away.
   On a cluster whoever opens a writer fences the one before it, so a copy on which a run may have begun (``late``)
   opens its writers only when there is something to write, after what stands was compared: a run that went on there is
   told by its bytes, and not fenced. Then all are opened at once: one that opened later would fence the run that has
   begun meanwhile, before this copy's next transaction fails.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from time import sleep
from typing import NamedTuple

from seawall.connectors.bus import READ_RECORDS_MAX, Bus, Writer, cluster_of, open_bus
from seawall.schemas.errors import BusError, Divergence, Gap
from seawall.schemas.records import Stored

BATCH_RECORDS = READ_RECORDS_MAX
VISIBLE_S = 0.01
UNUSED = "choose a bus, or a prefix, that nobody has used"
TopicPartition = tuple[str, int]
Part = dict[TopicPartition, list[Stored]]
Ends = Mapping[TopicPartition, int]
Progress = Callable[[int], None]


class TargetGrown(BusError):
    """A writer before this one had records under way, which stand now and are compared before the next try."""


class CopyTerms(NamedTuple):
    """How a copy treats what it finds on the target, and its advice where it refuses that."""

    compared: int | None = None  # records at either end of what stands in a partition; None for all
    other: str = UNUSED  # where the target holds other records
    expired: str = "lengthen it, and restore them from a backup"  # where retention took what comes next
    late: bool = False  # a run may have begun on the target


class Copy:
    """Partitions of a source on a target; what stands there is compared when this is made.

    Parameters
    ----------
    groups
        Partitions by writer.
    copied
        Counts records by topic as they come to stand.
    seen
        Is told of every batch that was copied or compared, in records.

    Attributes
    ----------
    ends
        Up to where each partition of the target stands.

    Raises
    ------
    PartitionLocked
        Somebody else writes the target.
    Divergence
        The target holds other records than the source, or more.
    Gap
        Retention took records of the source before they were copied.
    """

    def __init__(
        self,
        source: Bus,
        target: Bus,
        groups: Iterable[Iterable[TopicPartition]],
        terms: CopyTerms,
        copied: Counter[str],
        seen: Progress = lambda count: None,
    ) -> None:
        self._source, self._target, self._terms, self._copied, self._seen = source, target, terms, copied, seen
        self._groups = {place: group for group in map(tuple, groups) for place in group}
        self._writers: dict[TopicPartition, Writer] = {}
        self._under_way: Counter[TopicPartition] = Counter()
        self.ends: dict[TopicPartition, int] = {}
        try:
            if terms.late and cluster_of(target).fences:
                self.ends = {place: target.end(*place) for place in self._groups}
            else:
                self._open()  # who writes any part of the copy is found before anything is written
            for place in self.ends:
                self._check_stands(place)
        except BaseException:
            self.close()
            raise

    def bring(self, place: TopicPartition, end: int) -> None:
        """Copy a partition from where it stands to before ``end``."""
        at = self.ends[place]
        while at < end:
            found = read_next(self._source, *place, at, end - at)
            self.put({place: found})
            at += len(found)
        self.flush()

    def put(self, part: Part) -> None:
        """Begin to write a part, whose places have one writer; ``flush`` says whether it stands."""
        if not part:
            return
        if not self._writers:
            self._open()
        writer = self._writers[next(iter(part))]
        for place, records in part.items():
            for stored in records:
                writer.append(*place, stored.key, stored.value, stored.headers)
            self._under_way[place] += len(records)
            self._seen(len(records))
        writer.submit()

    def flush(self) -> None:
        """Return once everything that was put stands."""
        for writer in dict.fromkeys(self._writers[place] for place in self._under_way):
            writer.flush()
        for place, count in self._under_way.items():
            self.ends[place] += count
            self._copied[place[0]] += count
        self._under_way.clear()

    def compare(self, place: TopicPartition, first: int, end: int) -> None:
        """Compare the records from ``first`` to before ``end`` on both sides, every byte of them."""
        while first < end:
            wanted = read_next(self._source, *place, first, end - first)
            found = self._target.read(*place, first, len(wanted))
            pairs = zip_longest(wanted[: len(found) or 1], found)
            for number, (one, other) in enumerate(pairs, first):
                if one != other or list(one.headers.items()) != list(other.headers.items()):
                    text = f"{place[0]}/{place[1]} offset {number} on the target is not what the source has there"
                    raise Divergence(f"{text}: {self._terms.other}")
            first += len(found)
            self._seen(len(found))

    def close(self) -> None:
        """Let the partitions go; what was not flushed may stand or not."""
        for writer in dict.fromkeys(self._writers.values()):
            with suppress(BusError):
                writer.close()
        self._writers.clear()

    def _open(self) -> None:
        """Become the writer of all partitions; those that were compared must stand where they stood then."""
        for group in dict.fromkeys(self._groups.values()):
            # Locks of one host name no cluster: the source's run would hold those of the copy. `take` does without.
            writer = cluster_of(self._target).copier(group, take=self._terms.late)
            self._writers |= dict.fromkeys(group, writer)
        for place, writer in self._writers.items():
            end = writer.end(*place)
            if (stood := self.ends.setdefault(place, end)) != end:
                text = f"{place[0]}/{place[1]} on the target grew from {stood} records to {end} meanwhile"
                raise TargetGrown(f"{text}: a writer before this one had them under way")

    def _check_stands(self, place: TopicPartition) -> None:
        """Compare what stands in a partition of the target with the source."""
        name, stands = f"{place[0]}/{place[1]}", self.ends[place]
        if (first := self._source.start(*place)) > stands:
            text = f"{name} begins at {first} on the source, and {stands} records stand on the target"
            raise Gap(f"{text}: retention took those in between; {self._terms.expired}")
        if stands > (end := self._source.end(*place) if stands else 0):
            text = f"{name} holds {stands} records on the target, more than the {end} of the source"
            raise Divergence(f"{text}: {self._terms.other}")
        count = stands - first if self._terms.compared is None else min(self._terms.compared, stands - first)
        for at in {first, stands - count}:
            self.compare(place, at, at + count)


def copy(
    source: Bus,
    target: Bus,
    ends: Ends,
    terms: CopyTerms,
    seen: Progress = lambda count: None,
    read_back: bool = False,
) -> Counter[str]:
    """Bring partitions of a target up to the source, in the order of ``ends``; return the records copied by topic.

    Those of one topic have one writer. With ``read_back`` every record is read from both sides again and compared when
    all stand. Raises as `Copy` does, and Divergence where somebody else writes to the target meanwhile.
    """
    topics: dict[str, list[TopicPartition]] = {}
    for place in ends:
        topics.setdefault(place[0], []).append(place)
    copied = Counter[str]()
    with closing(Copy(source, target, topics.values(), terms, copied, seen)) as one:
        for place, end in ends.items():
            one.bring(place, end)
    for place, end in ends.items() if read_back else ():
        one.compare(place, 0, end)
        if target.end(*place) != end:
            raise Divergence(f"{place[0]}/{place[1]} grew meanwhile; stop whoever writes there")
    return copied


@contextmanager
def open_buses(source: str, target: str, folder: Path) -> Iterator[tuple[Bus, Bus]]:
    """Open two buses, whose paths count from a folder, and close them again."""
    with closing(open_bus(source, folder)) as one, closing(open_bus(target, folder)) as other:
        yield one, other


def check_nothing_else(target: Bus, topics: Iterable[str], known: Iterable[TopicPartition], told: str) -> None:
    """Raise Divergence where topics of a target hold other partitions; ``told`` has a ``{}`` for the first of them."""
    wanted = set(known)
    for place in ((topic, partition) for topic in topics for partition in target.partitions(topic)):
        if place not in wanted:
            raise Divergence(told.format(f"{place[0]}/{place[1]}"))


def read_batch(bus: Bus, topic: str, partition: int, offset: int, count: int | None = None) -> list[Stored]:
    """Return what stands from an offset on, none at the end; raise Gap where records are missing in between."""
    found = bus.read(topic, partition, offset, BATCH_RECORDS if count is None else min(BATCH_RECORDS, count))
    for number, stored in enumerate(found, offset):
        if stored.offset != number:
            text = f"{topic}/{partition} has no record {number}: its offsets have gaps, which no other bus can give it"
            raise Gap(f"{text}; run `seawall verify` on the source")
    return found


def read_next(bus: Bus, topic: str, partition: int, offset: int, count: int) -> list[Stored]:
    """Return one or more of so many records of which is known that they were written: they are there in a moment.

    Raises
    ------
    Gap
        Nothing is under way, and they are not there.
    """
    settled = False
    while not (found := read_batch(bus, topic, partition, offset, count)):
        if settled:
            text = f"{topic}/{partition} ends at {offset}, {count} records were stated from there on"
            raise Gap(f"{text}; run `seawall verify` on the source")
        # What was under way until then is read once more.
        settled = not cluster_of(bus).has_open_transaction(topic, partition)
        if not settled:
            sleep(VISIBLE_S)
    return found


def read_exactly(bus: Bus, topic: str, partition: int, offset: int, count: int) -> list[Stored]:
    """Return so many records of a transaction of which another partition's part was seen; raises Gap as `read_next`."""
    found: list[Stored] = []
    while len(found) < count:
        found += read_next(bus, topic, partition, offset + len(found), count - len(found))
    return found
