"""Inputs of a run: bounded files merged into one stream, live topics followed, and the clock of live runs.

Bounded inputs are opened where the journal ends and merged by (effective time, number of the source, line). Live topics
are looked for every second; what has arrived is given in order of effective time, and the clock closes intervals. One
clock reading far ahead would leave nothing to close, so a clock that jumps stops the run.
"""

import heapq
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from seawall.connectors.bus import Bus, Follower
from seawall.connectors.files import Lines
from seawall.connectors.mapping import RecordMapping
from seawall.dataflows._sources import POLL_RECORDS, Clock, FileSource, RedriveSource, SignalsSource, TopicSource
from seawall.operators.core.journal import JournalState, MergedRecord, RecordSequencer, RecordSource
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import ClockError
from seawall.schemas.events import NO_TIME
from seawall.schemas.records import REDRIVE

# The clock of live runs: it cuts slices, so one reading far ahead would leave nothing to cut until it is reached.
#
# What a clock said stands in the journal, so no later reading mends it. A reading is compared with a clock that nobody
# sets, which goes on while the machine sleeps where the system has one that does (Linux).

JUMP_MAX_S = 60  # services that keep a clock right move it by far less
SECOND_NS = 1_000_000_000


def steady_ns() -> int:
    """Return nanoseconds of a clock that nobody sets."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def wall_clock() -> int:
    """Return microseconds since the epoch."""
    return time.time_ns() // 1000


class WallClock:
    """Microseconds since the epoch, as long as the machine's clock does not jump.

    Parameters
    ----------
    wall_ns, steady_ns
        Nanoseconds of the machine's clock, and of one that nobody sets.

    Raises
    ------
    ClockError
        From one call to the next the clock moved more than ``JUMP_MAX_S`` further, or less far, than time did.

    Examples
    --------
    >>> WallClock(lambda: 5_000, lambda: 0)()
    5
    """

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns, steady_ns: Callable[[], int] = steady_ns) -> None:
        self._wall_ns, self._steady_ns = wall_ns, steady_ns
        self._wall, self._steady = wall_ns(), steady_ns()

    def __call__(self) -> int:
        """Return what the clock says."""
        wall, steady = self._wall_ns(), self._steady_ns()
        jump_s = ((wall - self._wall) - (steady - self._steady)) / SECOND_NS
        if abs(jump_s) > JUMP_MAX_S:
            text = f"the clock of this machine, by which live slices are cut, jumped by {jump_s:+,.0f} s"
            raise ClockError(f"{text}; see to its time service (chronyc tracking, timedatectl), then run this again")
        self._wall, self._steady = wall, steady
        return wall // 1000


def clock_of(configuration: Configuration) -> Clock:
    """Return the clock of a run; of bounded inputs it only decides what lies in the future, so it may jump."""
    return WallClock() if configuration.topics else wall_clock


def ahead_s(as_of_us: int, now_us: int) -> float:
    """Return how far, in seconds, a journal that ends at ``as_of_us`` is ahead of the clock, 0 within what is usual."""
    ahead = (as_of_us - now_us) / 1e6
    return ahead if ahead > JUMP_MAX_S else 0.0


# The bounded inputs of a run, opened where its journal stands and merged into one stream.
#
# Files are merged by (effective time, place in ``events``, line), and after them the signals that ``market`` has made
# of them. What was sent in again comes after everything else.

SIGNALS = "signals"


class FileInputs:
    """The bounded inputs of a configuration.

    Parameters
    ----------
    configuration, bus
        Where they are.
    standing
        How far the journal has them.
    clock
        Microseconds since the epoch.
    feeds
        What maps foreign records, by source.

    Attributes
    ----------
    places
        What the journal calls the sources, by their numbers.

    Raises
    ------
    UsageError
        A file cannot be read.
    """

    def __init__(
        self,
        configuration: Configuration,
        bus: Bus,
        standing: JournalState,
        clock: Clock,
        feeds: Mapping[str, RecordMapping],
    ) -> None:
        self._configuration, self._bus, self._clock, self._feeds = configuration, bus, clock, feeds
        self._journal_state = standing
        self._files = self._open_files()
        self.places = [RecordSource(name) for name in configuration.sources]
        self._signals = [] if configuration.topics else self._open_signals()
        self._redriven = iter(()) if configuration.topics else self._open_redriven()

    def items(self) -> Iterator[MergedRecord]:
        """Return all records in their order, once."""
        read = [source.items() for source in self._files] + [source.items() for source in self._signals]
        return chain(_merged(read), self._redriven)

    def first_time(self) -> int | None:
        """Return the first event time of all files, None where none has one."""
        times = []
        for source, path in zip(self._files, self._configuration.events, strict=True):
            lines = Lines(self._configuration.directory / path)
            feed = self._feeds.get(source.place.name)
            times.append(FileSource(source.number, source.place, lines, NO_TIME, self._clock, feed).first_time())
            lines.close()
        return min((first for first in times if first != NO_TIME), default=None)

    def _open_files(self) -> list[FileSource]:
        configuration = self._configuration
        sources = []
        for number, (path, name) in enumerate(zip(configuration.events, configuration.sources, strict=True)):
            line, offset, high = self._journal_state.positions.get(name, [1, 0, NO_TIME])
            lines = Lines(configuration.directory / path, line, offset)
            sources.append(FileSource(number, RecordSource(name), lines, high, self._clock, self._feeds.get(name)))
        return sources

    def _open_signals(self) -> list[SignalsSource]:
        """Return the signals, which are read from the first step on: ``market`` has ended by then."""
        sources = []
        for group in range(self._configuration.market.groups):
            place = RecordSource(SIGNALS, group)
            offset, _, high = self._journal_state.positions.get(place.key, [0, 0, NO_TIME])
            sources.append(SignalsSource(len(self.places), place, self._bus, offset, high))
            self.places.append(place)
        return sources

    def _open_redriven(self) -> Iterator[MergedRecord]:
        """Return what was sent in again by now, which comes after everything else."""
        if not self._bus.partitions(REDRIVE):
            return iter(())
        place = RecordSource(REDRIVE, 0)
        offset, _, high = self._journal_state.positions.get(place.key, [0, 0, NO_TIME])
        self.places.append(place)
        follower = self._bus.follow(REDRIVE)
        source = RedriveSource(len(self.places) - 1, place, self._bus, follower, offset, high, self._feeds)
        return source.items(self._clock())


def _merged(sources: list[Iterator[MergedRecord]]) -> Iterator[MergedRecord]:
    """Merge sources by (effective time, number of the source); each is in order itself."""
    return sources[0] if len(sources) == 1 else heapq.merge(*sources)


# Live topics, followed: which partitions there are, what has arrived, and what the clock cuts of it.
#
# Records go in by (effective time, source, offset); what comes after a cut goes into a later slice. No partition is
# read far ahead of another one, or memory would hold all of what waits.

DISCOVER_SECONDS = 1.0
IDLE_SECONDS = 0.01
REST_SECONDS_MIN = 0.0005
ANSWER_SECONDS = 0.002  # between looks for the answer of a cluster that was asked late
# Before a cut a cluster is asked for more, which it has answered by the next look: less is left to take at the cut.
AHEAD_SECONDS, AHEAD_EVERY_SECONDS = 0.006, 0.002
PENDING_MAX = 10 * POLL_RECORDS  # of a partition that is ahead of another one; only records of one time may be more


class LiveInputs:
    """The live topics of a configuration.

    Parameters
    ----------
    configuration, bus
        Where they are.
    standing
        How far the journal has them.
    clock
        Microseconds since the epoch.
    feeds
        What maps foreign records, by source.

    Attributes
    ----------
    cut_us
        What the clock cut last, 0 before the first time.
    behind
        Whether the last look left records that had arrived.
    caught_up
        Whether the last look found all that is there: the next may wait until records have come together.
    """

    def __init__(
        self,
        configuration: Configuration,
        bus: Bus,
        standing: JournalState,
        clock: Clock,
        feeds: Mapping[str, RecordMapping],
    ) -> None:
        self._configuration, self._bus, self._clock, self._feeds = configuration, bus, clock, feeds
        self._journal_state = standing
        self._followers: dict[str, Follower] = {}
        self._topics: list[TopicSource] = []
        self._pending: list[list[MergedRecord]] = []
        self.cut_us = self._limit_us = 0
        self.caught_up, self.behind, self._came = False, True, True
        self._discovered_at = -DISCOVER_SECONDS

    def first_time(self) -> int:
        """Return the first event time of what waits on the topics, or the clock's where none is there."""
        now = self._clock()
        places = [RecordSource(topic, p) for topic in self._configuration.topics for p in self._bus.partitions(topic)]
        waiting = [self._source(0, place, self._begin(place), NO_TIME).first_time(now) for place in places]
        return min((first for first in waiting if first is not None), default=now)

    def take(self, slicer: RecordSequencer) -> None:
        """Take what has arrived and cut what is due.

        1. Poll every partition but those that are far ahead of another one. Where one may have more, nothing after its
           last record is cut yet.
        2. What is older than stragglers are waited for goes in, in order of (effective time, source, offset): at the
           end of an interval only its last records are left to take.
        3. When all partitions are caught up, the clock cuts, even in silence.
        """
        now = self._clock()
        slice_us = self._configuration.slice_ms * 1000
        limit = now - self._configuration.wait_ms * 1000
        self.caught_up, self.behind, self._came = True, False, False
        due = limit // slice_us * slice_us
        for source, pending in zip(self._topics, self._pending, strict=True):
            if len(pending) >= PENDING_MAX and pending[-1][0] > self._limit_us:
                limit = min(limit, pending[-1][0])
                continue
            arrived = source.poll(now)
            pending.extend(arrived)
            self._came = self._came or bool(arrived)
            self.behind = self.behind or source.full
            if source.full or source.stale:
                self.caught_up = False
                if pending or source.high_us != NO_TIME:
                    limit = min(limit, max(pending[-1][0], 0) if pending else source.high_us)
        self._limit_us = limit
        self._give(min(limit, due), slicer)
        if limit >= due > self.cut_us:
            slicer.cut(due, now)
            self.cut_us = due
        else:
            self._give(limit, slicer)

    def rest_s(self) -> float:
        """Return how long to let records come together: at most until the next interval is about to be, or is cut.

        Where more may be there it is no time, or a moment in which an answer is waited for.
        """
        if not self.caught_up:
            return 0.0 if self._came else ANSWER_SECONDS
        due_us = self.cut_us + (self._configuration.slice_ms + self._configuration.wait_ms) * 1000
        left_s = (due_us - self._clock()) / 1e6
        early_s = left_s - AHEAD_SECONDS
        return max(REST_SECONDS_MIN, min(IDLE_SECONDS, early_s if early_s > 0 else min(AHEAD_EVERY_SECONDS, left_s)))

    def _give(self, limit_us: int, slicer: RecordSequencer) -> None:
        taken: list[MergedRecord] = []
        for pending in self._pending:
            count = next((at for at, item in enumerate(pending) if item[0] >= limit_us), len(pending))
            taken += pending[:count]
            del pending[:count]
        taken.sort()  # no two have one source and one offset
        slicer.add(taken)

    def is_due(self) -> bool:
        """Tell whether to look for new partitions, and begin to wait anew."""
        if time.monotonic() - self._discovered_at < DISCOVER_SECONDS:
            return False
        self._discovered_at = time.monotonic()
        return True

    def discover(self, slicer: RecordSequencer) -> None:
        """Find partitions that appeared since the last look."""
        known, positions = {source.place for source in self._topics}, self._journal_state.positions
        for topic in dict.fromkeys((*self._configuration.topics, SIGNALS, REDRIVE)):
            for place in [RecordSource(topic, partition) for partition in self._follower(topic).partitions()]:
                if place not in known:
                    offset, _, high = positions.get(place.key) or [self._begin(place), 0, NO_TIME]
                    self._topics.append(self._source(slicer.add_place(place), place, offset, high))
                    self._pending.append([])

    def _follower(self, topic: str) -> Follower:
        """Return the follower of a topic, which knows whether the journal has any record of it."""
        if topic not in self._followers:
            begun = any(key.rpartition("/")[0] == topic for key in self._journal_state.positions)
            self._followers[topic] = self._bus.follow(topic, "sequence", begun)
        return self._followers[topic]

    def _source(self, number: int, place: RecordSource, offset: int, high_us: int) -> TopicSource:
        """Return the source of one partition of a live topic."""
        bus, follower = self._bus, self._follower(place.name)
        if place.name == REDRIVE:
            return RedriveSource(number, place, bus, follower, offset, high_us, self._feeds)
        return TopicSource(number, place, bus, follower, offset, high_us, self._feeds.get(place.name))

    def _begin(self, place: RecordSource) -> int:
        """Return where a topic that was never read is read from: what retention took before cannot be missed."""
        return self._bus.start(place.name, place.partition)
