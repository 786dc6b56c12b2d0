"""``sequence``: raw records in; the journal and the rejects out.

The only dataflow that looks at clocks and at arrival order; it writes down what it chose (DESIGN §1). With bounded
inputs not even it chooses: the journal is a function of the bytes of inputs and configuration, wherever it was killed.

1. On start, fold the journal: directory, ordinals, ids, positions, the last tick.
2. Merge the files from there by (effective time, place in ``events``, line), and after them the signals that ``market``
   has made of them; cut, and write whole steps.
3. Then follow the live topics and the signals, cutting by the clock.

Run by ``seawall run``, or on its own: ``python -m bytewax.run "seawall.dataflows.sequence:flow('desk.toml')"``.
"""

import heapq
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import msgspec

from seawall.connectors.bus import Bus, open_bus
from seawall.connectors.feeds import load_feeds
from seawall.connectors.files import Lines
from seawall.connectors.limit_documents import Stored, read_documents, read_key_sets
from seawall.dataflows.inputs import POLL_RECORDS, Clock, FileSource, RedriveSource, SignalsSource, TopicSource
from seawall.dataflows.upgrading import check_drained
from seawall.operators.core.rejects import Place
from seawall.operators.core.sequence import Slicer
from seawall.operators.core.standing import Standing
from seawall.operators.core.ticks import Item
from seawall.schemas.configuration import Configuration, journaled, load_configuration
from seawall.schemas.errors import BusError, Rejected, UsageError
from seawall.schemas.events import NO_TIME
from seawall.schemas.redrives import REDRIVE
from seawall.schemas.telemetry import watching

if TYPE_CHECKING:
    from bytewax.dataflow import Dataflow

log = logging.getLogger("seawall")
BATCH = 1000
FLUSH_SECONDS_MAX = 0.2
FLUSH_BYTES_MAX = 2 * 1024 * 1024
IDLE_SECONDS = 0.005
DISCOVER_SECONDS = 1.0
READ_RECORDS = 5000
PENDING_MAX = 10 * POLL_RECORDS  # of a partition that is ahead of another one; only records of one time may be more
SIGNALS = "signals"


def wall_clock() -> int:
    """Return microseconds since the epoch."""
    return time.time_ns() // 1000


class Sequencer:
    """Writes the journal of one configuration.

    Parameters
    ----------
    configuration
        What to read and how to cut it.
    bus
        Where journal and rejects stand, and live topics.
    standing
        What an earlier fold of this journal returned.
    take
        Fence whoever cuts this journal, where the bus can.
    clock
        Microseconds since the epoch; with bounded inputs it decides only what lies in the future.

    Raises
    ------
    UsageError
        An input cannot be read, or the configuration changed what never may.
    PartitionLocked
        Another sequencer of this journal is alive.

    Notes
    -----
    Each flush is one transaction of whole steps over all shards, so after a crash all shards stand at the same tick.
    """

    def __init__(
        self,
        configuration: Configuration,
        bus: Bus,
        clock: Clock = wall_clock,
        take: bool = False,
        standing: Standing | None = None,
    ) -> None:
        self._configuration, self._bus, self._clock = configuration, bus, clock
        self._shards = configuration.shards
        written = [("journal", shard) for shard in range(self._shards)]
        self._writer = bus.writer([*written, ("rejects", self._shards)], take)
        try:
            self._writer.end("journal", 0)  # from here on no earlier sequencer writes: what is folded is all there is
            self.standing = fold(bus, self._shards, standing)
            key_set = self._key_set()
            event = journaled(configuration, self.standing.configuration, key_set)
            check_drained(bus, self._shards, self.standing.configuration)
            self._feeds = load_feeds(configuration)
            self._files = self._open_files()
            self._places = [Place(name) for name in configuration.sources]
            self._signals = [] if configuration.topics else self._open_signals()
            redriven = iter(()) if configuration.topics else self._open_redriven()
            self._topics: list[TopicSource] = []
            first = NO_TIME if self.standing.as_of_us else self._first_time()
            self._slicer = Slicer(self.standing, event, self._places, configuration.slice_ms * 1000, first)
            self._adopt(read_documents(configuration))
            self.standing.admission.check_measures()
        except BaseException:
            self._writer.close()
            raise
        read = merge([source.items() for source in self._files] + [source.items() for source in self._signals])
        self._merged: Iterator[Item] | None = chain(read, redriven)
        self._pending: list[list[Item]] = []
        self._cut_us = self._limit_us = 0
        self._idle = False
        self._complaints: set[str] = set()
        self._unflushed, self._flushed_at = 0, time.monotonic()
        self._discovered_at = -DISCOVER_SECONDS
        self.slices = 0
        telemetry = watching()
        self._watched = None if telemetry is None else telemetry.part("sequence")
        if telemetry is not None:
            telemetry.totals |= {"events": lambda: self.events, "late_events": lambda: self.late}

    @property
    def events(self) -> int:
        """Records taken, rejected ones left out."""
        return self._slicer.records - self._slicer.rejected

    @property
    def rejected(self) -> int:
        """Records rejected."""
        return self._slicer.rejected

    @property
    def late(self) -> int:
        """Records earlier than their predecessors, or than an interval that was cut."""
        return self._slicer.late

    def run(self, stop: threading.Event) -> None:
        """Work until bounded inputs end or ``stop`` is set; flush and let the journal go."""
        try:
            while not stop.is_set() and self.step():
                if self._idle:
                    stop.wait(self._rest_s())
            self._flush()
        finally:
            self.close()

    def step(self) -> bool:
        """Do a bounded amount of work; return False when bounded inputs are finished and there are no live ones."""
        if self._merged is None:
            self._follow()
            return True
        taken = 0
        add = self._slicer.add
        for item in islice(self._merged, BATCH):
            add(item)
            taken += 1
        if taken == BATCH:
            self._append()
            self._flush_if_due()
            return True
        self._merged = None
        live = bool(self._configuration.topics)
        if not live:
            self._slicer.finish()
        self._append()
        self._flush()
        return live

    def close(self) -> None:
        """Let the journal go; what was not flushed is not written."""
        self._writer.close()

    # --- limit documents --------------------------------------------------------------------------------------------

    def _key_set(self) -> dict[str, Any] | None:
        """Take the last key set; return what the journal says of it."""
        sets = read_key_sets(self._configuration) if self._configuration.limit_documents else []
        if not sets:
            return None
        self.standing.admission.keys = sets[-1]
        return {"version": sets[-1].version, "sha256": sets[-1].sha256}

    def _adopt(self, documents: list[Stored]) -> None:
        """Journal the limit documents of the configuration that the journal does not have yet."""
        policy = self.standing.admission.policy
        for stored in documents:
            version, sha256 = stored.document.version, stored.document.sha256
            if version == policy.version and sha256 != policy.sha256:
                raise UsageError(f"{stored.path}: the journal has another version {version}; take this file away")
            ratifies = version in policy.unratified and len(stored.keys) > 1 and version == policy.version
            if version > policy.version or ratifies:
                try:
                    self._slicer.adopt(stored.envelope)
                except Rejected as error:
                    raise UsageError(f"{stored.path}: {error.reason}: {error.detail}") from error

    def _adopt_arrived(self) -> None:
        """Take what people signed while the run goes on; what may not be taken is said once and left alone."""
        try:
            found = read_documents(self._configuration)
        except UsageError as error:
            self._complain(str(error))
            return
        for stored in found:
            try:
                self._adopt([stored])
            except UsageError as error:
                self._complain(str(error))

    def _complain(self, text: str) -> None:
        if text not in self._complaints:
            self._complaints.add(text)
            log.warning("%s", text)

    # --- bounded files ----------------------------------------------------------------------------------------------

    def _open_files(self) -> list[FileSource]:
        configuration = self._configuration
        sources = []
        for number, (path, name) in enumerate(zip(configuration.events, configuration.sources, strict=True)):
            line, offset, high = self.standing.positions.get(name, [1, 0, NO_TIME])
            lines = Lines(configuration.directory / path, line, offset)
            sources.append(FileSource(number, Place(name), lines, high, self._clock, self._feeds.get(name)))
        return sources

    def _open_signals(self) -> list[SignalsSource]:
        """Return the signals of a bounded run, which are read from the first step on: ``market`` has ended by then."""
        sources = []
        for group in range(self._configuration.market.groups):
            place = Place(SIGNALS, group)
            offset, _, high = self.standing.positions.get(place.key, [0, 0, NO_TIME])
            sources.append(SignalsSource(len(self._places), place, self._bus, offset, high))
            self._places.append(place)
        return sources

    def _open_redriven(self) -> Iterator[Item]:
        """Return what was sent in again by now, which comes after everything else."""
        if not self._bus.partitions(REDRIVE):
            return iter(())
        place = Place(REDRIVE, 0)
        offset, _, high = self.standing.positions.get(place.key, [0, 0, NO_TIME])
        self._places.append(place)
        source = RedriveSource(len(self._places) - 1, place, self._bus, offset, high, self._feeds)
        return source.items(self._clock())

    def _first_time(self) -> int:
        """Return the first event time of all files; where none has one, that of the live topics, or the clock."""
        times = []
        for source, path in zip(self._files, self._configuration.events, strict=True):
            lines = Lines(self._configuration.directory / path)
            feed = self._feeds.get(source.place.name)
            times.append(FileSource(source.number, source.place, lines, NO_TIME, self._clock, feed).first_time())
            lines.close()
        found = [first for first in times if first != NO_TIME]
        if not found and self._configuration.topics:
            now = self._clock()
            places = [Place(topic, p) for topic in self._configuration.topics for p in self._bus.partitions(topic)]
            waiting = [self._topic(0, place, self._begin(place), NO_TIME).first_time(now) for place in places]
            return min((first for first in waiting if first is not None), default=now)
        return min(found, default=0)

    # --- live topics ------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Read what has arrived and cut what is due.

        1. Poll every partition but those that are far ahead of another one, or memory would hold all of what waits.
           One that gave a full batch may have more: nothing after its last record is cut yet.
        2. What is older than stragglers are waited for goes in, in order of (effective time, source, offset): at the
           end of an interval only its last records are left to take.
        3. When all partitions are caught up, the clock cuts, even in silence.
        """
        self._discover()
        now = self._clock()
        slice_us = self._configuration.slice_ms * 1000
        limit, self._idle = now - self._configuration.wait_ms * 1000, True
        due = limit // slice_us * slice_us
        for source, pending in zip(self._topics, self._pending, strict=True):
            if len(pending) >= PENDING_MAX and pending[-1][0] > self._limit_us:
                limit = min(limit, pending[-1][0])
                continue
            arrived = source.poll(now)
            pending.extend(arrived)
            self._idle = self._idle and not arrived and not source.full
            if source.full and (pending or source.high_us != NO_TIME):
                limit = min(limit, pending[-1][0] if pending else source.high_us)
        self._limit_us = limit
        self._take(min(limit, due))
        if limit >= due > self._cut_us:
            self._slicer.cut(due, now)
            self._cut_us = due
        else:
            self._take(limit)
        self._append()
        if self._unflushed:
            self._flush()

    def _rest_s(self) -> float:
        """Return how long to wait where nothing arrived: at most until the next interval is to be cut."""
        due_us = self._cut_us + (self._configuration.slice_ms + self._configuration.wait_ms) * 1000
        left_s = (due_us - self._clock()) / 1e6
        return left_s if 0 < left_s < IDLE_SECONDS else IDLE_SECONDS

    def _take(self, limit_us: int) -> None:
        taken: list[Item] = []
        for pending in self._pending:
            count = next((at for at, item in enumerate(pending) if item[0] >= limit_us), len(pending))
            taken += pending[:count]
            del pending[:count]
        taken.sort()  # no two have one source and one offset
        add, skip = self._slicer.add, self._slicer.skip
        for item in taken:
            skip(item) if item[5] is None else add(item)

    def _discover(self) -> None:
        """Find partitions that appeared since the last look."""
        if time.monotonic() - self._discovered_at < DISCOVER_SECONDS:
            return
        self._discovered_at = time.monotonic()
        if self._configuration.limit_documents:
            self._adopt_arrived()
        known = {source.place for source in self._topics}
        for topic in dict.fromkeys((*self._configuration.topics, SIGNALS, REDRIVE)):
            for partition in self._bus.partitions(topic):
                place = Place(topic, partition)
                if place not in known:
                    offset, _, high = self.standing.positions.get(place.key) or [self._begin(place), 0, NO_TIME]
                    self._topics.append(self._topic(self._slicer.add_place(place), place, offset, high))
                    self._pending.append([])

    def _topic(self, number: int, place: Place, offset: int, high_us: int) -> TopicSource:
        """Return the source of one partition of a live topic."""
        if place.name == REDRIVE:
            return RedriveSource(number, place, self._bus, offset, high_us, self._feeds)
        return TopicSource(number, place, self._bus, offset, high_us, self._feeds.get(place.name))

    def _begin(self, place: Place) -> int:
        """Return where a topic that was never read is read from: what retention took before cannot be missed."""
        return self._bus.start(place.name, place.partition)

    # --- writing ----------------------------------------------------------------------------------------------------

    def _append(self) -> None:
        """Give the finished steps to the writer."""
        append, rejects = self._writer.append, self._shards
        for slices, refused in self._slicer.steps:
            for record in refused:
                number = str(self._writer.end("rejects", rejects))
                append("rejects", rejects, "sequence", record.value, {"seawall-id": record.id, "seawall-n": number})
                self._unflushed += len(record.value)
            for shard, seq, value in slices:
                number = str(seq)
                append("journal", shard, str(shard), value, {"seawall-id": f"{shard}-{seq}-0", "seawall-n": number})
                self._unflushed += len(value)
            self.slices += len(slices)
        self._slicer.steps.clear()

    def _flush_if_due(self) -> None:
        if self._unflushed >= FLUSH_BYTES_MAX or time.monotonic() - self._flushed_at >= FLUSH_SECONDS_MAX:
            self._flush()

    def _flush(self) -> None:
        if self._unflushed:
            began = time.perf_counter()
            self._writer.flush()
            if self._watched is not None:
                self._watched.work.observe(time.perf_counter() - began)
                if self._cut_us:  # of live inputs
                    self._watched.ages.observe((self._clock() - self._cut_us) / 1e6)
        self._unflushed, self._flushed_at = 0, time.monotonic()


def merge(sources: list[Iterator[Item]]) -> Iterator[Item]:
    """Merge sources by (effective time, number of the source); each is in order itself."""
    return sources[0] if len(sources) == 1 else heapq.merge(*sources)


def fold(bus: Bus, shards: int, standing: Standing | None = None, follow: bool = False) -> Standing:
    """Return where the journal stands.

    Parameters
    ----------
    standing
        What an earlier fold returned, to go on from there.
    follow
        Look at what has arrived as one who follows: cheaper, and the newest records may be left for the next time.

    Raises
    ------
    UsageError
        The journal has more shards than the configuration.
    BusError
        A slice is missing or cannot be read.
    """
    partitions = bus.partitions("journal")
    if partitions and partitions[-1] >= shards:
        raise UsageError(f"shards is {shards} but the journal has partition {partitions[-1]}; set shards back")
    standing = standing or Standing(shards)
    for shard in range(shards):
        for value in _values(bus, shard, standing.seqs[shard], follow):
            try:
                standing.apply(shard, value)
            except msgspec.MsgspecError as error:
                raise BusError(
                    f"journal partition {shard} offset {standing.seqs[shard]} is no slice: {error}"
                ) from None
    return standing


def flow(path: str) -> "Dataflow":
    """Return the dataflow of a configuration file, for ``bytewax.run``."""
    from seawall.dataflows.driver import build

    configuration = load_configuration(path)
    return build(configuration, lambda: Sequencer(configuration, open_bus(configuration.bus, configuration.directory)))


def _values(bus: Bus, shard: int, offset: int, follow: bool) -> Iterable[bytes]:
    read = bus.tail if follow else bus.read
    while records := read("journal", shard, offset, READ_RECORDS):
        for record in records:
            yield record.value
        offset = records[-1].offset + 1
