"""Market records: picks them out of a stream by their bytes, before they are decoded."""

import heapq
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from seawall.connectors.bus import TOPICS, Bus, Follower
from seawall.connectors.files import Lines
from seawall.connectors.mapping import RecordMapping, load_mappings
from seawall.dataflows._sources import FUTURE_US_MAX, POLL_RECORDS, Clock, check_future
from seawall.operators.core.journal import RecordSource
from seawall.operators.core.market import GroupBatcher, GroupItem
from seawall.schemas.configuration import Configuration
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import BusError, Rejected, UsageError
from seawall.schemas.events import NO_TIME, Instrument, Mark, Signal
from seawall.schemas.records import Stored

KINDS = b"trade|quote|depth|bar|funding|open_interest|liquidation|venue_status"
_KINDS = {*KINDS.decode().split("|"), "mark", "instrument", "notice"}
# What says more of a market without being its data: none of it alone makes a market to watch.
MORE = b"|instrument|notice"


def _one_of(kinds: bytes) -> Callable[[bytes], Any]:
    """Return what finds records of some kinds; a mark without a venue is somebody's settled price, not the market's."""
    found = rb'"type"\s*:\s*"(?:(?:%s)"|mark"(?=.*"venue"\s*:))|"venue"\s*:.*"type"\s*:\s*"mark"'
    return re.compile(found % kinds).search


_wanted, _readable = _one_of(KINDS), _one_of(KINDS + MORE)
_type = re.compile(rb'"type"\s*:\s*"([a-z_]+)"').search
_READABLE = frozenset((KINDS + MORE).split(b"|"))


class Skipped:
    """Number of market records that could not be read."""

    def __init__(self) -> None:
        self.count = 0


def read_event(raw: bytes, latest_us: int, skipped: Skipped, feed: RecordMapping | None = None) -> Any:
    """Return the market's record in some bytes, or one that tells of it; None where there is none that can be read."""
    try:
        line = raw if feed is None else _mapped(raw, feed)
        if _is_other(line) or not _readable(line):
            return None
        event = decode_event(line)
        check_future(event, latest_us)
    except Rejected:
        skipped.count += 1
        return None
    return None if isinstance(event, Mark) and not event.venue else event


def _is_other(line: bytes) -> bool:
    """Tell at half the cost that a record is none of the market's, as most are; False says nothing."""
    found = _type(line)
    if found is None or line.rfind(b'"type"') != found.start():
        return False
    kind = found[1]
    return kind not in _READABLE and (kind != b"mark" or line.rfind(b'"venue"') < 0)


def _mapped(raw: bytes, feed: RecordMapping) -> bytes:
    """Return a foreign record as an input record; nothing where it becomes none of the market's."""
    found = feed.read(raw) if may_hold_market_records(feed) else None
    return b"" if found is None else found[1]


def may_hold_market_records(feed: RecordMapping | None) -> bool:
    """Tell whether anything of a source can be the market's: of a mapping's, where it makes records of such kinds."""
    return feed is None or bool(feed.kinds & _KINDS)


def _is_market(raw: bytes, feed: RecordMapping | None) -> bool:
    """Tell whether some bytes are a record of the market."""
    try:
        return bool(_wanted(raw if feed is None else _mapped(raw, feed)))
    except Rejected:
        return False


def has_market_records(configuration: Configuration) -> bool:
    """Tell whether any file holds a record of the market; stops at the first."""
    feeds = load_mappings(configuration)
    for path, name in zip(configuration.events, configuration.sources, strict=True):
        feed = feeds.get(name)
        lines = Lines(configuration.directory / path)
        try:
            for chunk in iter(lines.read, []):
                raws = (raw for _, _, raw in chunk if isinstance(raw, bytes))
                if any(_is_market(raw, feed) for raw in raws):
                    return True
        finally:
            lines.close()
    return False


# Inputs of ``market``: raw venue records in one order, cut into intervals that end where stored signals end.

TAIL_RECORDS = 500


def closed_intervals(bus: Bus, closed_us: int) -> dict[int, dict[str, int]]:
    """Return the cuts that signals after a time were made of: end of the interval to offsets per live source."""
    found: dict[int, dict[str, int]] = {}
    for partition in bus.partitions("signals"):
        end = bus.end("signals", partition)
        while end > 0:
            start = max(0, end - TAIL_RECORDS)
            signals = [msgspec.json.decode(value, type=Signal) for value in _signal_values(bus, partition, start, end)]
            found |= {s.event_time_us: s.sources for s in signals if s.event_time_us > closed_us and not s.more}
            if signals[0].event_time_us <= closed_us:
                break
            end = start
    return found


def _signal_values(bus: Bus, partition: int, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        records = bus.read("signals", partition, start, end - start)
        yield from (stored.value for stored in records)
        start = records[-1].offset + 1


def check_groups(bus: Bus, groups: int) -> None:
    """Refuse another number of groups than stands on the topic: partitions are groups.

    Raises
    ------
    UsageError
        The number changed.
    """
    for partition in bus.partitions("signals"):
        first = bus.read("signals", partition, 0, 1)
        stored_groups = msgspec.json.decode(first[0].value, type=Signal).groups if first else groups
        if stored_groups != groups:
            raise UsageError(f"[market] groups is {groups} but signals were begun with {stored_groups}; set it back")


# Inputs of ``market``: raw venue records of files and live topics, in one order, cut into intervals.
#
# 1. Files are merged by (effective time, place in ``events``, line), as ``sequence`` does.
# 2. Live topics follow; the clock cuts, and each signal says up to which offsets it was made. A restart finds these
#    cuts on the topic and repeats them, so that the same signals come again, whatever the clock says by then.
#
# Records that are none of the market's are passed over unread, and whole topics where ``[inputs] market_topics`` or a
# mapping says so; those that cannot be read are counted: ``sequence`` alone rejects them (architecture.md, "The
# sequencer").

BATCH = 2_000
PENDING_MAX = 1_000_000
DISCOVER_SECONDS = 1.0


class Taken(NamedTuple):
    """One step of a file: effective time, number of the file, next line, next byte, and a record or None."""

    time_us: int
    number: int
    line: int
    offset: int
    event: Any


class FileReader:
    """The market's records of all files in merge order, from given positions (next line, next byte, effective time)."""

    def __init__(self, configuration: Configuration, positions: dict[str, list[int]], clock: Clock) -> None:
        self.positions = positions
        self.skipped = Skipped()
        self._clock = clock
        self._names = configuration.sources
        feeds = load_mappings(configuration)
        self._feeds = [feeds.get(name) for name in self._names]
        self._lines = []
        for path, name in zip(configuration.events, self._names, strict=True):
            line, offset, _ = positions.setdefault(name, [1, 0, NO_TIME])
            self._lines.append(Lines(configuration.directory / path, line, offset))
        self._merged = heapq.merge(*(self._steps(number) for number in range(len(self._names))))

    def read(self) -> Iterator[tuple[int, Any]]:
        """Yield effective time and record, at most ``BATCH`` steps at a time; nothing at the end."""
        for step in self._merged:
            self.positions[self._names[step.number]] = [step.line, step.offset, step.time_us]
            yield step.time_us, step.event

    def close(self) -> None:
        """Close the files."""
        for lines in self._lines:
            lines.close()

    def _steps(self, number: int) -> Iterator[Taken]:
        high, feed = self.positions[self._names[number]][2], self._feeds[number]
        for chunk in iter(self._lines[number].read, []):
            latest = self._clock() + FUTURE_US_MAX
            for line, offset, raw in chunk:
                event = read_event(raw, latest, self.skipped, feed) if isinstance(raw, bytes) else None
                if event is not None:
                    high = high if isinstance(event, Instrument) else max(high, event.event_time_us)
                    yield Taken(high, number, line + 1, offset, event)
            yield Taken(high, number, line + 1, offset, None)


class TopicReader:
    """One partition of a live topic: records that are read but not yet cut."""

    def __init__(
        self,
        bus: Bus,
        follower: Follower,
        place: RecordSource,
        offset: int,
        high_us: int,
        skipped: Skipped,
        feed: RecordMapping | None = None,
    ) -> None:
        self.place = place
        self._follower = follower
        self._bus, self._read, self._skipped, self._feed = bus, offset, skipped, feed
        self.high_us = self._cut_us = high_us
        self._pending: list[tuple[int, int, Any]] = []  # effective time, offset, record

    @property
    def position(self) -> int:
        """The offset up to which everything was cut."""
        return self._pending[0][1] if self._pending else self._read

    @property
    def state(self) -> list[int]:
        """``position``, and the highest event time before it: what waits is read again, at times of its own."""
        return [self.position, self._cut_us if self._pending else self.high_us]

    def poll(self, now_us: int, interval_us: int) -> bool:
        """Read what has arrived, unless too much of several intervals waits; tell whether more may be there."""
        pending = self._pending
        if len(pending) >= PENDING_MAX and pending[0][0] // interval_us < pending[-1][0] // interval_us:
            return True
        partition = self.place.partition
        found = self._take_in(self._follower.poll(partition, self._read, POLL_RECORDS), now_us)
        return found >= POLL_RECORDS or self._follower.may_lag(partition)

    def _take_in(self, found: list[Stored], now_us: int) -> int:
        for stored in found:
            event = read_event(stored.value, now_us + FUTURE_US_MAX, self._skipped, self._feed)
            if event is not None:
                if not isinstance(event, Instrument):
                    self.high_us = max(self.high_us, min(event.event_time_us, now_us))
                self._pending.append((self.high_us, stored.offset, event))
        self._read = found[-1].offset + 1 if found else self._read
        return len(found)

    def newest_us(self) -> int:
        """Return the effective time of the last record that was read."""
        return self._pending[-1][0] if self._pending else self.high_us

    def times(self) -> Iterator[int]:
        """Yield the effective times of what waits, in order."""
        return (time_us for time_us, _, _ in self._pending)

    def take_before(self, limit_us: int) -> list[Any]:
        """Return the records before a time, and let them go."""
        count = next((at for at, entry in enumerate(self._pending) if entry[0] >= limit_us), len(self._pending))
        return self._cut(count)

    def take_up_to(self, offset: int, now_us: int) -> list[Any]:
        """Return the records before an offset, as an earlier run cut them.

        Raises
        ------
        BusError
            The topic ends before that offset.
        """
        while self._read < offset:
            found = self._bus.read(self.place.name, self.place.partition, self._read, POLL_RECORDS)
            if not self._take_in(found, now_us):
                place = f"{self.place.name}/{self.place.partition}"
                raise BusError(f"signals were made of {place} up to offset {offset}, but it ends at {self._read}")
        return self._cut(next((at for at, entry in enumerate(self._pending) if entry[1] >= offset), len(self._pending)))

    def _cut(self, count: int) -> list[Any]:
        taken = [event for _, _, event in self._pending[:count]]
        self._cut_us = self._pending[count - 1][0] if count else self._cut_us
        del self._pending[:count]
        return taken


class MarketReader:
    """Everything that ``market`` reads, as items for the groups.

    Parameters
    ----------
    configuration
        What to read and how to cut it.
    bus
        Where live topics and earlier signals are.
    state
        What ``snapshot`` returned, None to begin.
    clock
        Microseconds since the epoch.
    """

    def __init__(self, configuration: Configuration, bus: Bus, state: bytes | None, clock: Clock) -> None:
        self._configuration, self._bus, self._clock = configuration, bus, clock
        terms = configuration.market
        check_groups(bus, terms.groups)
        self.live = bool(configuration.topics)
        self._cutter = GroupBatcher(terms.groups, terms.interval_us, every_second=self.live)
        saved: dict[str, Any] = {"files": {}, "topics": {}, "cutter": None}
        if state is not None:
            saved = msgspec.json.decode(state)
            self._cutter.restore(saved["cutter"])
        self._files: FileReader | None = FileReader(configuration, saved["files"], clock)
        self._positions = saved["files"]
        self._known: dict[str, list[int]] = saved["topics"]
        self._topics: dict[str, TopicReader] = {}
        self._feeds = load_mappings(configuration)
        self._skipped = self._files.skipped
        self._cuts = sorted(closed_intervals(bus, self._cutter.closed_us).items()) if self.live else []
        read = [(key, begin[0]) for key, begin in self._known.items()]
        read += [one for _, sources in self._cuts for one in sources.items()]
        self._begun = {key.rpartition("/")[0] for key, offset in read if offset > 0}
        self._followers: dict[str, Follower] = {}
        self._discovered_at = -DISCOVER_SECONDS
        self.events = 0

    def read(self) -> list[GroupItem] | None:
        """Return the next items, [] where nothing came, None at the end of bounded inputs."""
        if self._files is not None:
            self._read_files()
        elif not self.live:
            return None
        elif self._cuts:
            self._repeat()
        else:
            self._follow()
        self._cutter.flush()
        return self._cutter.take()

    def snapshot(self) -> bytes:
        """Return where the inputs stand, after ``read``."""
        topics = self._known | {key: reader.state for key, reader in self._topics.items()}
        return msgspec.json.encode({"files": self._positions, "topics": topics, "cutter": self._cutter.state()})

    def close(self) -> None:
        """Let go of the files and the bus."""
        if self._files is not None:
            self._files.close()
        self._bus.close()

    # --- files ------------------------------------------------------------------------------------------------------

    def _read_files(self) -> None:
        assert self._files is not None
        for count, (time_us, event) in enumerate(self._files.read(), 1):
            if event is not None:
                self._add(time_us, event)
            if count >= BATCH or event is None:
                return
        self._files.close()
        self._files = None
        if not self.live:
            self._cutter.finish()

    def _add(self, time_us: int, event: Any) -> None:
        self._cutter.add(time_us, event)
        self.events += not isinstance(event, Instrument)

    # --- live topics ------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Read what has arrived and cut what is due; one that may have more is cut no further than it was read."""
        self._discover()
        now, interval_us = self._clock(), self._configuration.market.interval_us
        due = (now - self._configuration.wait_ms * 1000) // interval_us * interval_us
        for reader in self._topics.values():
            if reader.poll(now, interval_us):
                due = min(due, reader.newest_us() // interval_us * interval_us)
        for as_of_us in self._intervals(due):
            for key in sorted(self._topics):
                for event in self._topics[key].take_before(as_of_us):
                    self._add(as_of_us - interval_us, event)
            self._note_sources()
        self._cutter.close_to(due)

    def _intervals(self, due_us: int) -> list[int]:
        """Return the ends of the intervals before ``due_us`` in which records wait; late ones count to the first."""
        interval_us = self._configuration.market.interval_us
        floor = self._cutter.closed_us + interval_us
        found = set()
        for reader in self._topics.values():
            for time_us in reader.times():
                if time_us >= due_us:
                    break
                found.add(max((time_us // interval_us + 1) * interval_us, floor))
        return sorted(found)

    def _repeat(self) -> None:
        """Cut once as an earlier run did."""
        as_of_us, sources = self._cuts.pop(0)
        self._discover(sources)
        interval_us = self._configuration.market.interval_us
        for key in sorted(self._topics):
            for event in self._topics[key].take_up_to(sources.get(key, 0), self._clock()):
                self._add(as_of_us - interval_us, event)
        self._note_sources()
        self._cutter.close_to(as_of_us)

    def _note_sources(self) -> None:
        self._cutter.sources = {key: self._topics[key].position for key in sorted(self._topics)}

    def _discover(self, named: dict[str, int] | None = None) -> None:
        """Find partitions that appeared, or those that an earlier cut names."""
        if named is None and time.monotonic() - self._discovered_at < DISCOVER_SECONDS:
            return
        self._discovered_at = time.monotonic()
        for topic in self._configuration.market_topics:
            feed = self._feeds.get(topic)
            if topic in TOPICS or not may_hold_market_records(feed):
                continue  # Seawall's own: signals may be followed, but are not what they are made of
            follower = self._follower(topic)
            for place in [RecordSource(topic, partition) for partition in follower.partitions(wait=named is not None)]:
                if place.key not in self._topics and (named is None or place.key in named):
                    offset, high_us = self._known.get(place.key) or [self._bus.start(*place), NO_TIME]
                    self._topics[place.key] = TopicReader(
                        self._bus, follower, place, offset, high_us, self._skipped, feed
                    )

    def _follower(self, topic: str) -> Follower:
        """Return the follower of a topic, which knows whether a state or a cut of before took any record of it."""
        if topic not in self._followers:
            self._followers[topic] = self._bus.follow(topic, "market", topic in self._begun)
        return self._followers[topic]


Stopped = Callable[[], bool]
