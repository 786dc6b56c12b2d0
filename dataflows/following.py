"""Live topics, followed: which partitions there are, what has arrived, and what the clock cuts of it.

Records go in by (effective time, source, offset); what comes after a cut goes into a later slice. No partition is read
far ahead of another one, or memory would hold all of what waits.
"""

import time
from collections.abc import Mapping

from seawall.connectors.bus import Bus
from seawall.connectors.feeds import Feed
from seawall.dataflows.bounded import SIGNALS
from seawall.dataflows.inputs import POLL_RECORDS, Clock, RedriveSource, TopicSource
from seawall.operators.core.rejects import Place
from seawall.operators.core.sequence import Slicer
from seawall.operators.core.standing import Standing
from seawall.operators.core.ticks import Item
from seawall.schemas.configuration import Configuration
from seawall.schemas.events import NO_TIME
from seawall.schemas.redrives import REDRIVE

DISCOVER_SECONDS = 1.0
IDLE_SECONDS = 0.01
REST_SECONDS_MIN = 0.0005
ANSWER_SECONDS = 0.002  # between looks for the answer of a cluster that was asked late
# Before a cut a cluster is asked for more, which it has answered by the next look: less is left to take at the cut.
AHEAD_SECONDS, AHEAD_EVERY_SECONDS = 0.006, 0.002
PENDING_MAX = 10 * POLL_RECORDS  # of a partition that is ahead of another one; only records of one time may be more


class Following:
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
        self, configuration: Configuration, bus: Bus, standing: Standing, clock: Clock, feeds: Mapping[str, Feed]
    ) -> None:
        self._configuration, self._bus, self._clock, self._feeds = configuration, bus, clock, feeds
        self._standing = standing
        self._topics: list[TopicSource] = []
        self._pending: list[list[Item]] = []
        self.cut_us = self._limit_us = 0
        self.caught_up, self.behind, self._came = False, True, True
        self._discovered_at = -DISCOVER_SECONDS

    def first_time(self) -> int:
        """Return the first event time of what waits on the topics, or the clock's where none is there."""
        now = self._clock()
        places = [Place(topic, p) for topic in self._configuration.topics for p in self._bus.partitions(topic)]
        waiting = [self._source(0, place, self._begin(place), NO_TIME).first_time(now) for place in places]
        return min((first for first in waiting if first is not None), default=now)

    def take(self, slicer: Slicer) -> None:
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

    def _give(self, limit_us: int, slicer: Slicer) -> None:
        taken: list[Item] = []
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

    def discover(self, slicer: Slicer) -> None:
        """Find partitions that appeared since the last look."""
        known, positions = {source.place for source in self._topics}, self._standing.positions
        for topic in dict.fromkeys((*self._configuration.topics, SIGNALS, REDRIVE)):
            places = [Place(topic, partition) for partition in self._bus.known_partitions(topic)]
            if any(place not in known for place in places):
                self._bus.keep_to(topic, any(key.rpartition("/")[0] == topic for key in positions), "sequence")
            for place in places:
                if place not in known:
                    offset, _, high = positions.get(place.key) or [self._begin(place), 0, NO_TIME]
                    self._topics.append(self._source(slicer.add_place(place), place, offset, high))
                    self._pending.append([])

    def _source(self, number: int, place: Place, offset: int, high_us: int) -> TopicSource:
        """Return the source of one partition of a live topic."""
        if place.name == REDRIVE:
            return RedriveSource(number, place, self._bus, offset, high_us, self._feeds)
        return TopicSource(number, place, self._bus, offset, high_us, self._feeds.get(place.name))

    def _begin(self, place: Place) -> int:
        """Return where a topic that was never read is read from: what retention took before cannot be missed."""
        return self._bus.start(place.name, place.partition)
