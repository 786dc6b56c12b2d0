"""Mirror, ``seawall mirror``: copies all topics of a live run to a second bus, such as another region's.

1. What the journal takes in is copied first (signals, acknowledgements, redrives), then the journal, then what was
   derived from it, then what seals that: at whatever moment the mirror ends, the topics of the copy agree, and a run
   begins there as after a crash. ``_mirror_parts.py`` says what one transaction holds.
2. The copy itself says where to go on, after its first and last records were compared with the source: nothing is kept
   elsewhere, and a mirror that was killed loses and repeats nothing.
3. While either cluster does not answer the mirror waits, as long as ``outage_s`` says, then it ends.

Live input topics (``[inputs] topics``) are other people's and stay where they are: the journal has what was accepted,
and a run on the copy follows topics of its own region under names of their own, because positions of a topic count
there from the beginning. ``snapshots`` are left out too: states are computed again.

A partition is written under the name by which a dataflow writes it, so on a cluster a run that begins on the copy
fences the mirror, whose next transaction fails; on the embedded bus the mirror's locks keep a run away while it lives.
On a cluster the writers are opened when there is something to write, after the records of the copy were compared: a
copy on which a run went on differs from the source by its bytes, and nobody is fenced there. Then all of them are, at
once: one that opened later would fence the run that has begun on the copy meanwhile, before its own first transaction
fails.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from seawall.connectors.bus import ANY_PARTITIONS, TOPICS, Bus, Writer, open_bus, topic_partitions, written_topics
from seawall.connectors.bus.kafka import is_numbered, parse_address
from seawall.ops.replicate._mirror_parts import (
    DerivedParts,
    JournalParts,
    Part,
    TopicPartition,
    read_exactly,
    row,
    sealed_part,
    time_of,
)
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import BusError, Divergence, Gap, PartitionLocked, UsageError

# The copy that a mirror writes: whose it may be, up to where it stands, and its writers.
#
# A partition is written under the name by which a dataflow writes it, so on a cluster a run that begins on the copy
# fences the mirror, whose next transaction fails; on the embedded bus the mirror's locks keep a run away while it
# lives. On a cluster writers are opened when there is something to write, after what stands was compared: a copy on
# which a run went on is told from the source by its bytes, and nobody is fenced there. Then all of them are, at once:
# one that opened later would fence the run that has begun on the copy meanwhile, before its own first transaction
# fails.

JOIN_RECORDS = 100  # compared before the join, and as many at the beginning
INPUTS = ("signals", "acknowledgements", "redrive")
ADVICE = "choose a bus, or a prefix, that nobody has used; if a run has begun there, this mirror has done its part"


class TargetGrown(BusError):
    """A writer before this one had records under way, which stand now and are compared before the next try."""


def mirrored_partitions(configuration: Configuration) -> list[list[TopicPartition]]:
    """Return the partitions of a run that are mirrored, by writer, as its dataflows have them."""
    shards = configuration.shards
    journal = [*(("journal", shard) for shard in range(shards)), ("rejects", shards)]
    derived = [[(topic, part) for topic in written_topics(part, shards)] for part in range(shards + 1)]
    taken = [*(("signals", group) for group in range(configuration.market.groups)), *((name, 0) for name in INPUTS[1:])]
    sealed = [("checkpoints", part) for part in range(shards + 1)]
    return [journal, *derived, *([place] for place in (*taken, *sealed))]


class MirrorTarget:
    """Writes parts to the copy, each in a transaction of its own.

    Parameters
    ----------
    begin, there
        The source and the copy.
    groups
        Partitions by writer.
    copied
        Counts records by topic as they come to stand.

    Attributes
    ----------
    ends
        Up to where each partition of the copy stands.

    Raises
    ------
    Divergence
        The copy holds other records than the source, or more.
    Gap
        Retention took records of the source before they were copied.
    """

    def __init__(self, begin: Bus, there: Bus, groups: list[list[TopicPartition]], copied: Counter[str]) -> None:
        self._bus, self._copied = there, copied
        self._groups = {place: tuple(group) for group in groups for place in group}
        self._writers: dict[tuple[TopicPartition, ...], Writer] = {}
        self._under_way: list[tuple[Writer, Part]] = []
        _check_nothing_else(there, set(self._groups))
        self.ends = {place: there.end(*place) for place in self._groups}
        for place, stands in self.ends.items():
            _check_joins(begin, there, place, stands)
        if not there.fences:
            self._open(self._groups.values())  # who writes any part of the copy is found before anything is written

    def put(self, part: Part) -> None:
        """Begin to write a part, whose places have one writer; ``flush`` says whether it stands."""
        if not part:
            return
        group = self._groups[next(iter(part))]
        if group not in self._writers:
            named = is_numbered(group[0][0])
            self._open([one for one in self._groups.values() if is_numbered(one[0][0])] if named else [group])
        writer = self._writers[group]
        for (topic, partition), records in part.items():
            for stored in records:
                writer.append(topic, partition, stored.key, stored.value, stored.headers)
        writer.submit()
        self._under_way.append((writer, part))

    def flush(self) -> None:
        """Return once everything that was put stands."""
        for writer, part in self._under_way:
            writer.flush()
            for place, records in part.items():
                self.ends[place] += len(records)
                self._copied[place[0]] += len(records)
        self._under_way.clear()

    def close(self) -> None:
        """Let the partitions go; what was not flushed may stand or not."""
        for writer in self._writers.values():
            with contextlib.suppress(BusError):
                writer.close()
        self._writers.clear()

    def _open(self, groups: Iterable[tuple[TopicPartition, ...]]) -> None:
        """Become the writer of groups of partitions that stand where they were compared."""
        fresh = [group for group in dict.fromkeys(groups) if group not in self._writers]
        for group in fresh:
            # Locks of one host name no cluster: the source's run would hold those of the copy. `take` does without.
            named = is_numbered(group[0][0])
            self._writers[group] = self._bus.writer(group, take=True) if named else self._bus.copier(group)
        for topic, partition in (place for group in fresh for place in group):
            stood = self.ends[topic, partition]
            if (end := self._writers[self._groups[topic, partition]].end(topic, partition)) != stood:
                text = f"{topic}/{partition} on the target grew from {stood} records to {end} meanwhile"
                raise TargetGrown(f"{text}: a writer before this one had them under way")


def _check_nothing_else(there: Bus, known: set[TopicPartition]) -> None:
    for topic in there.topics():
        for partition in there.partitions(topic) if topic in TOPICS else ():
            if (topic, partition) not in known:
                text = f"the target holds {topic}/{partition}, which a mirror of this run does not write"
                raise Divergence(f"{text}: {ADVICE}")


def _check_joins(begin: Bus, there: Bus, place: TopicPartition, stands: int) -> None:
    """Compare the first and the last records that stand in a partition of the copy with those of the source."""
    topic, partition = place
    if (first := begin.start(*place)) > stands:
        text = f"{topic}/{partition} begins at {first} on the source, and {stands} records stand on the target"
        raise Gap(f"{text}: retention took those in between; lengthen it, and restore them from a backup")
    if stands > (end := begin.end(*place) if stands else 0):
        text = f"{topic}/{partition} holds {stands} records on the target, more than the {end} of the source"
        raise Divergence(f"{text}: {ADVICE}")
    for at in {first, max(first, stands - JOIN_RECORDS)}:
        count = min(JOIN_RECORDS, stands - at)
        pairs = zip(*(read_exactly(bus, topic, partition, at, count) for bus in (begin, there)), strict=True)
        for number, (wanted, found) in enumerate(pairs, at):
            if wanted != found or list(wanted.headers.items()) != list(found.headers.items()):
                text = f"{topic}/{partition} offset {number} on the target is not what the source has there"
                raise Divergence(f"{text}: {ADVICE}")


# ``seawall mirror``: all topics of a run on a second bus, such as the cluster of another region, while it goes on.
#
# 1. What the journal takes in is copied first (signals, acknowledgements, redrives), then the journal, then what was
#    derived from it, then what seals that: whatever moment the mirror ends at, what stands on the copy joins, and a run
#    begins there as after a crash. ``mirror_parts.py`` says what one transaction holds.
# 2. The copy itself says where to go on, after its first and last records were compared with the source: nothing is
#    kept elsewhere, and a mirror that was killed loses and repeats nothing.
# 3. While either cluster does not answer the mirror waits, as long as ``outage_s`` says, then it ends.
#
# Live input topics (``[inputs] topics``) are other people's and stay where they are: the journal has what was accepted,
# and a run on the copy follows topics of its own region under names of their own, because positions of a topic count
# there from the beginning. ``snapshots`` are left out too: states are computed again.

ROUND_S = 0.2  # between two looks at the source: what it asks of a cluster costs as much as a small run
RETRY_S = 1.0
SILENT_S = 2.0  # what a killed writer left under way on the source is nobody's to wait for
BUSY_RECORDS = 200  # of a round: the next follows at once
OUTAGE_S = 300.0  # of a bus that has no terms of its own
ReportLine = Callable[[str], None]


class MirrorLag(NamedTuple):
    """How far the copy is behind: slices, audit records, and the newest slice's event time in seconds."""

    slices: int
    audited: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.slices:,} slices and {self.audited:,} audit records behind, {self.seconds:.1f} s of event time"


class MirrorResult(NamedTuple):
    """What a mirror has copied, by topic, and how far behind it ended; None where the source did not answer."""

    records: dict[str, int]
    lag: MirrorLag | None


class Mirror:
    """Copies one run to one other bus; what stands there is compared when this is made.

    Parameters
    ----------
    configuration
        Of the run.
    begin, there
        The source and the copy.
    copied
        Counts records by topic as they come to stand on the copy.

    Raises
    ------
    Divergence, Gap
        The copy is not of this run, or what comes next is gone from the source.
    """

    def __init__(self, configuration: Configuration, begin: Bus, there: Bus, copied: Counter[str]) -> None:
        self._begin, self._there, self._copied, shards = begin, there, copied, configuration.shards
        groups = mirrored_partitions(configuration)
        self._target = MirrorTarget(begin, there, groups, copied)
        self.ends = ends = self._target.ends
        self._journal = JournalParts(begin, shards, ends)
        self._derived = [DerivedParts(begin, partition, shards, ends) for partition in range(shards + 1)]
        self._inputs = [place for group in groups for place in group if place[0] in INPUTS]

    def round(self) -> int:
        """Copy what is known to be whole by now; return the number of records."""
        before = self._copied.total()
        journal = self._journal.take()  # whatever it took in stands on the source by now
        for place in self._inputs:
            while found := row(self._begin, *place, self.ends[place]):
                self._put({place: found})
        self._put(journal)
        self._put(*(parts.take() for parts in self._derived))
        self._put(*(sealed_part(self._begin, partition, self.ends) for partition in range(len(self._derived))))
        return self._copied.total() - before

    def _put(self, *parts: Part) -> None:
        """Write parts of different writers side by side; return when all of them stand."""
        for part in parts:
            self._target.put(part)
        self._target.flush()

    def source_ends(self, *topics: str) -> dict[TopicPartition, int]:
        """Return up to where partitions stand on the source: those of some topics, or all."""
        return {place: self._begin.end(*place) for place in self.ends if not topics or place[0] in topics}

    def lag(self) -> MirrorLag:
        """Return how far the copy is behind by what the source says now."""
        ends, owed = self.source_ends("journal", "audit"), Counter[str]()
        for place, end in ends.items():
            owed[place[0]] += max(0, end - self.ends[place])
        seconds = (_newest_us(self._begin, ends) - _newest_us(self._there, self.ends)) / 1e6
        return MirrorLag(owed["journal"], owed["audit"], max(0.0, seconds))

    def close(self) -> None:
        """Let the copy go."""
        self._target.close()


def mirror(
    configuration: Configuration,
    url: str,
    follow: bool,
    stop: threading.Event,
    tell: ReportLine = lambda line: None,
    lag_s: float = 10.0,
) -> MirrorResult:
    """Copy a run to another bus: what stands there now, or with ``follow`` until ``stop`` is set.

    Parameters
    ----------
    url
        The other bus, relative to the configuration's folder.
    tell
        Is told the lag every ``lag_s`` seconds, and what is waited for.

    Raises
    ------
    UsageError
        Both are one bus, or a topic is missing.
    PartitionLocked
        Somebody else writes the copy: a run has begun there, or another mirror.
    Divergence, Gap
        The copy is not of this run, or retention took what was to be copied.
    BusError
        A bus did not answer for as long as an outage may last, or refused before anything was copied.
    """
    _prepare(configuration, url)
    copied, worked_at, told_at = Counter[str](), 0.0, time.monotonic()
    while not stop.is_set():
        try:
            with _opened(configuration, url, copied) as one:
                for _ in _rounds(one, follow, stop):
                    worked_at = time.monotonic()
                    if worked_at - told_at >= lag_s:
                        tell(str(one.lag()))
                        told_at = worked_at
                return MirrorResult(dict(copied), one.lag())
        except (PartitionLocked, Divergence, Gap):
            raise
        except BusError as error:
            waits = worked_at and time.monotonic() - worked_at <= _outage_s(configuration, url)
            if not waits and not isinstance(error, TargetGrown):
                raise
            tell(f"waits: {error}")
        stop.wait(RETRY_S)
    return MirrorResult(dict(copied), None)


def _rounds(one: Mirror, follow: bool, stop: threading.Event) -> Iterator[None]:
    """Copy round by round: until all stands that stood at first, with ``follow`` until ``stop`` is set."""
    goal = {} if follow else one.source_ends()
    moved_at = time.monotonic()
    while not stop.is_set():
        began = time.monotonic()
        copied = one.round()
        yield
        moved_at = began if copied else moved_at
        reached = all(one.ends[place] >= end for place, end in goal.items())
        if not follow and (reached or began - moved_at > SILENT_S):
            return
        if copied < BUSY_RECORDS:
            stop.wait(max(0.0, ROUND_S - (time.monotonic() - began)))


@contextmanager
def _opened(configuration: Configuration, url: str, copied: Counter[str]) -> Iterator[Mirror]:
    with _buses(configuration, url) as (begin, there):
        one = Mirror(configuration, begin, there, copied)
        try:
            yield one
        finally:
            one.close()


@contextmanager
def _buses(configuration: Configuration, url: str) -> Iterator[tuple[Bus, Bus]]:
    begin = open_bus(configuration.bus, configuration.directory)
    try:
        there = open_bus(url, configuration.directory)
        try:
            yield begin, there
        finally:
            there.close()
    finally:
        begin.close()


def _prepare(configuration: Configuration, url: str) -> None:
    """Check that the buses are two and have the topics; make those of the copy of a development run."""
    wanted = {topic: count for topic, count in topic_partitions(configuration).items() if count != ANY_PARTITIONS}
    with _buses(configuration, url) as (begin, there):
        if begin.identity() == there.identity():
            raise UsageError(f"--to {url} names the bus of the run itself; name another one")
        begin.provide(wanted, make=False)
        there.provide(wanted, make=configuration.environment == "dev")


def _outage_s(configuration: Configuration, url: str) -> float:
    """Return how long the more patient of the two buses is waited for."""
    clusters = [one for one in (configuration.bus, url) if one.startswith("kafka:")]
    return max((parse_address(one, configuration.directory).terms.outage_s for one in clusters), default=OUTAGE_S)


def _newest_us(bus: Bus, ends: Mapping[TopicPartition, int]) -> int:
    """Return the time of the newest slice of a journal, 0 where it has none."""
    last = [bus.read(*place, end - 1, 1) for place, end in ends.items() if place[0] == "journal" and end]
    return max((time_of(found[0]) for found in last if found), default=0)
