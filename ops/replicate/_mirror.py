"""Parts of a run that a mirror may copy next, so that the topics of the copy agree at whatever moment the copying ends.

A part is the content of one transaction on the copy. The records themselves say which of them belong together, so
nothing depends on how fast the run writes:

1. `JournalParts`: whole steps over all shards, with the rejects that their slices state. A transaction becomes visible
   on one partition before another, so the newest step that was seen counts once every shard had nothing under way
   *after* it was seen, and was then read to its end. Of a shard with a transaction under way its own last step is left.
2. `DerivedParts`: whole slices of one partition as their audit states them, where their journal is on the copy.
3. `sealed_part`: checkpoints whose audit is there.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import takewhile
from typing import Any, NamedTuple

import msgspec
import orjson

from seawall.connectors.bus import ANY_PARTITIONS, TOPICS, Bus, cluster_of, topic_partitions, written_topics
from seawall.connectors.bus.kafka import Address
from seawall.ops.replicate._copy import (
    BATCH_RECORDS,
    UNUSED,
    Copy,
    CopyTerms,
    Ends,
    Part,
    TargetGrown,
    TopicPartition,
    check_nothing_else,
    open_buses,
    read_batch,
    read_exactly,
)
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import BusError, Divergence, Gap, PartitionLocked, UsageError
from seawall.schemas.records import Rejects, Stored
from seawall.schemas.transparency import Checkpoint, Note

HELD_MAX = 2 * BATCH_RECORDS  # slices of a shard in memory; only those of one step may be more
SLICES_MAX = 100  # of one transaction on a derived partition
Step = tuple[int, int, bool, bool]
FIRST: Step = (-1, 0, False, False)


class _Head(msgspec.Struct):
    """What a slice says of the step that it belongs to; the same in every shard, and later in every later step."""

    as_of_us: int
    more: bool = False
    second: bool = False
    rejects: Rejects | None = None
    sources: dict[str, list[int]] = {}

    def step(self) -> Step:
        return self.as_of_us, sum(at[0] for at in self.sources.values()), not self.more, self.second


class _Waiting(NamedTuple):
    step: Step
    rejected: int
    stored: Stored


_decode = msgspec.json.Decoder(_Head).decode


class JournalParts:
    """The journal of a source, in parts that end between two of its sequencer's transactions.

    Parameters
    ----------
    bus
        The source.
    shards
        Of the journal.
    ends
        Up to where each partition stands on the copy; whoever writes there keeps it.
    """

    def __init__(self, bus: Bus, shards: int, ends: Ends) -> None:
        self._bus, self._shards, self._ends = bus, range(shards), ends
        self._waiting = [deque[_Waiting]() for _ in self._shards]
        self._held_max = HELD_MAX

    def take(self) -> Part:
        """Return the next whole steps; nothing where none is known to be whole."""
        for shard in self._shards:
            self._read(shard)
        if not any(self._waiting):
            return {}
        newest = max(waiting[-1].step for waiting in self._waiting if waiting)
        bound = min(self._whole_until(shard, newest) for shard in self._shards)
        taken = {shard: self._pop(waiting, bound) for shard, waiting in enumerate(self._waiting)}
        if not any(taken.values()):
            held = max(map(len, self._waiting))
            self._held_max = 2 * held if held >= self._held_max else self._held_max
            return {}
        self._held_max = HELD_MAX
        part = {("journal", shard): [one.stored for one in some] for shard, some in taken.items() if some}
        stated = {one.step: one.rejected for some in taken.values() for one in some}
        place = "rejects", len(self._shards)
        if count := sum(stated.values()):
            part[place] = read_exactly(self._bus, *place, self._ends[place], count)
        return part

    def _whole_until(self, shard: int, newest: Step) -> tuple[Step, bool]:
        """Return the last step that a shard has wholly given, and whether that itself is among them."""
        settled, waiting = not cluster_of(self._bus).has_open_transaction("journal", shard), self._waiting[shard]
        ended = False
        while len(waiting) < self._held_max and not ended:
            ended = not self._read(shard)
        if settled and ended:
            return newest, True
        return (waiting[-1].step if waiting else FIRST), False

    def _read(self, shard: int) -> bool:
        """Read on, where there is room; tell whether anything came."""
        waiting = self._waiting[shard]
        if len(waiting) >= self._held_max:
            return False
        at = waiting[-1].stored.offset + 1 if waiting else self._ends["journal", shard]
        found = read_batch(self._bus, "journal", shard, at)
        waiting.extend(_waiting(shard, stored) for stored in found)
        return bool(found)

    @staticmethod
    def _pop(waiting: deque[_Waiting], bound: tuple[Step, bool]) -> list[_Waiting]:
        taken = list(takewhile(lambda one: (one.step, False) < bound, waiting))
        for _ in taken:
            waiting.popleft()
        return taken


class DerivedParts:
    """What ``risk`` wrote to one partition of its topics, in parts of whole slices; parameters as above."""

    def __init__(self, bus: Bus, partition: int, shards: int, ends: Ends) -> None:
        self._bus, self._partition, self._ends = bus, partition, ends
        self._topics = [topic for topic in written_topics(partition, shards) if topic != "audit"]

    def take(self) -> Part:
        """Return the next slices whose journal stands on the copy, at most ``SLICES_MAX``; nothing where none is."""
        audit, stated = self._audited()
        if not audit:
            return {}
        places = [(topic, self._partition) for topic in self._topics if stated[topic]]
        part = {place: read_exactly(self._bus, *place, self._ends[place], stated[place[0]]) for place in places}
        return {**part, ("audit", self._partition): audit}

    def _audited(self) -> tuple[list[Stored], Counter[str]]:
        """Return the audit of the next whole slices, and how many records it states by topic."""
        read, whole, slices, stated = list[Stored](), 0, 0, Counter[str]()
        at = self._ends["audit", self._partition]
        while not whole and (found := read_batch(self._bus, "audit", self._partition, at)):
            for stored in found:
                read.append(stored)
                body = _closing(self._partition, stored)
                if body is None:
                    continue
                if slices == SLICES_MAX or not self._stands(body["inputs"]):
                    return read[:whole], stated
                whole, slices = len(read), slices + 1
                stated.update({topic: count for topic, (count, _) in body["topics"].items()})
            at = found[-1].offset + 1
        return read[:whole], stated

    def _stands(self, inputs: list[list[Any]]) -> bool:
        """Tell whether the journal that a slice or second was decided on stands on the copy."""
        return all(self._ends["journal", shard[0] if shard else self._partition] > seq for *shard, seq, _ in inputs)


def sealed_part(bus: Bus, partition: int, ends: Ends) -> Part:
    """Return the next checkpoints of a partition, as far as the audit that they seal stands on the copy."""
    place = "checkpoints", partition
    found = read_batch(bus, *place, ends[place])
    audited = ends["audit", partition]
    taken = list(takewhile(lambda one: Checkpoint.parse(Note.parse(one.value).text).size <= audited, found))
    return {place: taken} if taken else {}


def time_of(stored: Stored) -> int:
    """Return the ``as_of_us`` of a slice."""
    return _decode(stored.value).as_of_us


def _waiting(shard: int, stored: Stored) -> _Waiting:
    try:
        head = _decode(stored.value)
    except msgspec.MsgspecError as error:
        text = f"journal/{shard} offset {stored.offset} is no slice ({error})"
        raise Gap(f"{text}; run `seawall verify` on the source") from None
    return _Waiting(head.step(), 0 if head.rejects is None else head.rejects.count, stored)


def _closing(partition: int, stored: Stored) -> dict[str, Any] | None:
    """Return what an audit record says of its slice or second as a whole, None where it is not the one that does."""
    try:
        found = orjson.loads(stored.value)
        return dict(found["body"]) if found["kind"] in ("slice", "second") else None
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        text = f"audit/{partition} offset {stored.offset} is no audit record ({error})"
        raise BusError(f"{text}; run `seawall verify` on the source") from None


# Mirror, ``seawall mirror``: copies all topics of a live run to a second bus, such as another region's.
#
# 1. What the journal takes in is copied first (signals, acknowledgements, redrives), then the journal, then what was
#    derived from it, then what seals that: at whatever moment the mirror ends, the topics of the copy agree, and a run
#    begins there as after a crash. What one transaction holds is said above.
# 2. The copy is made on the terms of ``_copy.py`` for a target that a run may have begun on: that run fences the
#    mirror, and a mirror that comes later finds the copy to be another one.
# 3. While either cluster does not answer the mirror waits, as long as ``outage_s`` says, then it ends.
#
# Live input topics (``[inputs] topics``) are other people's and stay where they are: the journal has what was accepted,
# and a run on the copy follows topics of its own region under names of their own, because positions of a topic count
# there from the beginning. ``snapshots`` are left out too: states are computed again.

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
    return max((Address.parse(one, configuration.directory).terms.outage_s for one in clusters), default=OUTAGE_S)


def _newest_us(bus: Bus, ends: Mapping[TopicPartition, int]) -> int:
    """Return the time of the newest slice of a journal, 0 where it has none."""
    last = [bus.read(*place, end - 1, 1) for place, end in ends.items() if place[0] == "journal" and end]
    return max((time_of(found[0]) for found in last if found), default=0)
