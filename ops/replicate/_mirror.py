"""Mirror, ``seawall mirror``: copies all topics of a live run to a second bus, such as another region's.

1. What the journal takes in is copied first (signals, acknowledgements, redrives), then the journal, then what was
   derived from it, then what seals that: at whatever moment the mirror ends, the topics of the copy agree, and a run
   begins there as after a crash. ``_mirror_parts.py`` says what one transaction holds.
2. The copy is made on the terms of ``_copy.py`` for a target that a run may have begun on: that run fences the mirror,
   and a mirror that comes later finds the copy to be another one.
3. While either cluster does not answer the mirror waits, as long as ``outage_s`` says, then it ends.

Live input topics (``[inputs] topics``) are other people's and stay where they are: the journal has what was accepted,
and a run on the copy follows topics of its own region under names of their own, because positions of a topic count
there from the beginning. ``snapshots`` are left out too: states are computed again.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import NamedTuple

from seawall.connectors.bus import ANY_PARTITIONS, TOPICS, Bus, cluster_of, topic_partitions, written_topics
from seawall.connectors.bus.kafka import parse_address
from seawall.ops.replicate._copy import (
    UNUSED,
    Copy,
    CopyTerms,
    Part,
    TargetGrown,
    TopicPartition,
    check_nothing_else,
    open_buses,
)
from seawall.ops.replicate._mirror_parts import DerivedParts, JournalParts, sealed_part, time_of
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import BusError, Divergence, Gap, PartitionLocked, UsageError

INPUTS = ("signals", "acknowledgements", "redrive")
ADVICE = f"{UNUSED}; if a run has begun there, this mirror has done its part"
TERMS = CopyTerms(compared=100, other=ADVICE, late=True)
ROUND_S = 0.2  # between two looks at the source: what it asks of a cluster costs as much as a small run
RETRY_S = 1.0
SILENT_S = 2.0  # what a killed writer left under way on the source is nobody's to wait for
BUSY_RECORDS = 200  # of a round: the next follows at once
OUTAGE_S = 300.0  # of a bus that has no terms of its own
ReportLine = Callable[[str], None]


def mirrored_partitions(configuration: Configuration) -> list[list[TopicPartition]]:
    """Return the partitions of a run that are mirrored, by writer, as its dataflows have them."""
    shards = configuration.shards
    journal = [*(("journal", shard) for shard in range(shards)), ("rejects", shards)]
    derived = [[(topic, part) for topic in written_topics(part, shards)] for part in range(shards + 1)]
    taken = [*(("signals", group) for group in range(configuration.market.groups)), *((name, 0) for name in INPUTS[1:])]
    sealed = [("checkpoints", part) for part in range(shards + 1)]
    return [journal, *derived, *([place] for place in (*taken, *sealed))]


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


class Mirror(Copy):
    """Copy of one run on another bus: brought up round by round to what is known to be whole on the source."""

    def __init__(self, configuration: Configuration, source: Bus, target: Bus, copied: Counter[str]) -> None:
        groups, shards = mirrored_partitions(configuration), configuration.shards
        known = [place for group in groups for place in group]
        told = f"the target holds {{}}, which a mirror of this run does not write: {ADVICE}"
        check_nothing_else(target, (topic for topic in target.topics() if topic in TOPICS), known, told)
        super().__init__(source, target, groups, TERMS, copied)
        self._journal = JournalParts(source, shards, self.ends)
        self._derived = [DerivedParts(source, partition, shards, self.ends) for partition in range(shards + 1)]
        self._inputs = [place for place in known if place[0] in INPUTS]

    def round(self) -> int:
        """Copy what is known to be whole by now; return the number of records."""
        before = self._copied.total()
        journal = self._journal.take()  # whatever it took in stands on the source by now
        for place in self._inputs:
            self.bring(place, self._source.end(*place))
        self._put_all([journal])
        self._put_all(parts.take() for parts in self._derived)
        self._put_all(sealed_part(self._source, partition, self.ends) for partition in range(len(self._derived)))
        return self._copied.total() - before

    def _put_all(self, parts: Iterable[Part]) -> None:
        """Write parts of different writers side by side; return when all of them stand."""
        for part in parts:
            self.put(part)
        self.flush()

    def source_ends(self, *topics: str) -> dict[TopicPartition, int]:
        """Return up to where partitions stand on the source: those of some topics, or all."""
        return {place: self._source.end(*place) for place in self.ends if not topics or place[0] in topics}

    def lag(self) -> MirrorLag:
        """Return how far the copy is behind by what the source says now."""
        ends, owed = self.source_ends("journal", "audit"), Counter[str]()
        for place, end in ends.items():
            owed[place[0]] += max(0, end - self.ends[place])
        seconds = (_newest_us(self._source, ends) - _newest_us(self._target, self.ends)) / 1e6
        return MirrorLag(owed["journal"], owed["audit"], max(0.0, seconds))


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
            with (
                open_buses(configuration.bus, url, configuration.directory) as buses,
                closing(Mirror(configuration, *buses, copied)) as one,
            ):
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


def _prepare(configuration: Configuration, url: str) -> None:
    """Check that the buses are two and have the topics; make those of the copy of a development run."""
    wanted = {topic: count for topic, count in topic_partitions(configuration).items() if count != ANY_PARTITIONS}
    with open_buses(configuration.bus, url, configuration.directory) as (begin, there):
        if begin.identity() == there.identity():
            raise UsageError(f"--to {url} names the bus of the run itself; name another one")
        cluster_of(begin).provide(wanted, make=False)
        cluster_of(there).provide(wanted, make=configuration.environment == "dev")


def _outage_s(configuration: Configuration, url: str) -> float:
    """Return how long the more patient of the two buses is waited for."""
    clusters = [one for one in (configuration.bus, url) if one.startswith("kafka:")]
    return max((parse_address(one, configuration.directory).terms.outage_s for one in clusters), default=OUTAGE_S)


def _newest_us(bus: Bus, ends: Mapping[TopicPartition, int]) -> int:
    """Return the time of the newest slice of a journal, 0 where it has none."""
    last = [bus.read(*place, end - 1, 1) for place, end in ends.items() if place[0] == "journal" and end]
    return max((time_of(found[0]) for found in last if found), default=0)
