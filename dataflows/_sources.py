"""Sources of the sequencer: bounded files and live topics, as records with their effective times.

A record counts at the highest event time seen so far in its source, so what is consumed is always a prefix of the
source. A record that cannot be decoded stands, rejected, at the time its source has reached, and moves no time; nor
does one from more than 24 hours after the clock at reading.
"""

from collections.abc import Callable, Iterator, Mapping

from seawall.connectors.bus import Bus, Follower
from seawall.connectors.files import Lines, Oversize
from seawall.connectors.mapping import RecordMapping
from seawall.operators.core.journal import RECORD_BYTES_MAX, ConvertedRecord, MergedRecord, RecordSource, RejectRecord
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import Reason, Rejected, UsageError
from seawall.schemas.events import NO_TIME, Event, Signal
from seawall.schemas.records import Redrive, Stored

FUTURE_US_MAX = 24 * 3600 * 1_000_000
NO_CLOCK_US = 1 << 62  # signals carry the times of records that were checked when they were made
POLL_RECORDS = 1000

Clock = Callable[[], int]
"""Microseconds since the epoch."""
Decoded = tuple[Event, Event | ConvertedRecord]
"""A record, and in which form the sequencer takes it."""


class FileSource:
    """The records of one bounded file.

    Parameters
    ----------
    number, place
        Its place in the merge, and what the journal calls it.
    lines
        The reader, at the position to begin from.
    high_us
        Highest event time before that position, -1 where there is none.
    clock
        Read once per chunk.
    feed
        What maps its records, where they are no input records.
    """

    def __init__(
        self,
        number: int,
        place: RecordSource,
        lines: Lines,
        high_us: int,
        clock: Clock,
        feed: RecordMapping | None = None,
    ) -> None:
        self.number, self.place = number, place
        self._lines, self._high_us, self._clock, self._feed = lines, high_us, clock, feed

    def items(self) -> Iterator[MergedRecord]:
        """Yield the records in order of lines."""
        source, high = self.number, self._high_us
        for lines in iter(self._lines.read, []):
            latest = self._clock() + FUTURE_US_MAX
            for number, offset, content in lines:
                try:
                    decoded = self._decoded(content, latest)
                except Rejected as rejected:
                    raw = content if isinstance(content, bytes) else content.head
                    refused = self._refused(number, content, rejected)
                    yield (high, source, number, offset, 0, refused, raw)
                    continue
                if decoded is None:
                    continue
                event, taken, raw = decoded
                time_us = event.event_time_us
                if time_us >= high:
                    high = time_us
                    yield (high, source, number, offset, 0, taken, raw)
                else:
                    yield (high, source, number, offset, int(time_us != NO_TIME), taken, raw)

    def first_time(self) -> int:
        """Return the event time of the first record that has one, -1 where none has; uses the source up."""
        return next((item[0] for item in self.items() if item[0] != NO_TIME), NO_TIME)

    def _decoded(self, content: bytes | Oversize, latest: int) -> tuple[Event, Event | ConvertedRecord, bytes] | None:
        if not isinstance(content, bytes):
            raise Rejected(Reason.RECORD_MUST_NOT_EXCEED_256_KIB, "")
        if self._feed is not None:
            mapped = map_record(self._feed, content)
            if mapped is None:
                return None
            check_future(mapped[0], latest)
            return (*mapped, content)
        event = decode_event(content)
        check_future(event, latest)
        return event, event, content

    def _refused(self, number: int, content: bytes | Oversize, rejected: Rejected) -> RejectRecord:
        if isinstance(content, bytes):
            return self.place.reject(number, rejected, content)
        return self.place.reject_oversize(number, *content)


class _Partition:
    """Reads one partition of a topic, whose records it gives as items.

    Parameters
    ----------
    number, place
        Its number among the sources, and its topic and partition.
    bus
        Where the topic is.
    offset, high_us
        The next record, and the highest event time before it.
    feed
        What maps its records, where they are no input records.
    """

    def __init__(
        self, number: int, place: RecordSource, bus: Bus, offset: int, high_us: int, feed: RecordMapping | None = None
    ) -> None:
        self.number, self.place = number, place
        self._bus, self._offset, self._high_us, self._feed = bus, offset, high_us, feed

    def _items(self, records: list[Stored], latest_us: int) -> list[MergedRecord]:
        """Return records as items; no effective time lies after ``latest_us``. Of a record without any it is -1."""
        items: list[MergedRecord] = []
        number, high, feed = self.number, self._high_us, self._feed
        for offset, _, _, value in records:
            event: Event
            taken: Event | RejectRecord | ConvertedRecord | None
            late = 0
            try:
                if len(value) > RECORD_BYTES_MAX:
                    raise Rejected(Reason.RECORD_MUST_NOT_EXCEED_256_KIB, f"the record has {len(value)} bytes")
                if feed is None:
                    event = taken = decode_event(value)
                elif (mapped := map_record(feed, value)) is not None:
                    event, taken = mapped
                else:
                    items.append((high, number, offset, 0, 0, None, value))
                    continue
                time_us = event.event_time_us
                if high <= time_us <= latest_us:
                    high = time_us
                else:
                    late, high = _reached(event, high, latest_us)
            except Rejected as rejected:
                taken = self.place.refuse(offset, rejected, value)
            items.append((high, number, offset, 0, late, taken, value))
        if items:
            self._high_us, self._offset = high, items[-1][2] + 1
        return items


class TopicSource(_Partition):
    """The records of one partition of a live topic, which ``follower`` follows; the rest as above.

    Attributes
    ----------
    full, stale
        Whether the last poll gave all that was asked for, so that more is there; whether more may be there.
    """

    def __init__(
        self,
        number: int,
        place: RecordSource,
        bus: Bus,
        follower: Follower,
        offset: int,
        high_us: int,
        feed: RecordMapping | None = None,
    ) -> None:
        super().__init__(number, place, bus, offset, high_us, feed)
        self._follower = follower
        self.full = self.stale = False

    @property
    def high_us(self) -> int:
        """The highest event time of what was read, -1 where there is none."""
        return self._high_us

    def first_time(self, now_us: int) -> int | None:
        """Return the first effective time, ``now_us`` where no record that is taken has one, None without any.

        Uses the source up.
        """
        any_taken, records_max = False, 1
        while found := self._bus.read(self.place.name, self.place.partition, self._offset, records_max):
            for item in self._items(found, now_us):
                if item[5] is not None and item[0] != NO_TIME:
                    return item[0]
                any_taken = any_taken or item[5] is not None
            records_max = POLL_RECORDS
        return now_us if any_taken else None

    def poll(self, now_us: int, records_max: int = POLL_RECORDS) -> list[MergedRecord]:
        """Return what has arrived, at most ``records_max``; no effective time lies after ``now_us``.

        What stands before the first time of its topic has none and precedes everything, as in a file. By the time of
        reading an account would come after its fills, and the position that is kept would be the account's.
        """
        found = self._follower.poll(self.place.partition, self._offset, records_max)
        self.full, self.stale = len(found) >= records_max, self._follower.may_lag(self.place.partition)
        return self._items(found, now_us)


class SignalsSource(_Partition):
    """The signals of one group of a bounded run, all there before the first is read."""

    def items(self) -> Iterator[MergedRecord]:
        """Yield the records in order of offsets.

        Raises
        ------
        UsageError
            The last one does not end a run: what follows would be journaled in another order.
        """
        last = None
        while found := self._bus.read(self.place.name, self.place.partition, self._offset, POLL_RECORDS):
            yield from (items := self._items(found, NO_CLOCK_US))
            last = items[-1][5]
        if isinstance(last, Signal) and not last.end:
            raise UsageError(f"{self.place.key} does not end: market has not finished; run it to its end first")


class RedriveSource(TopicSource):
    """Rejected records that were sent in again; each is mapped as those of its first source are.

    They count from when they are read, whatever time they tell: after that which mended their cause.

    Parameters
    ----------
    feeds
        Of all sources that have one, by name.
    """

    def __init__(
        self,
        number: int,
        place: RecordSource,
        bus: Bus,
        follower: Follower,
        offset: int,
        high_us: int,
        feeds: Mapping[str, RecordMapping],
    ) -> None:
        super().__init__(number, place, bus, follower, offset, high_us)
        self._feeds, self._read_us = feeds, NO_TIME

    def items(self, now_us: int) -> Iterator[MergedRecord]:
        """Yield the records that are there when a bounded run begins."""
        while found := self._bus.read(self.place.name, self.place.partition, self._offset, POLL_RECORDS):
            yield from self._items(found, now_us)

    def poll(self, now_us: int, records_max: int = POLL_RECORDS) -> list[MergedRecord]:
        """Return what has arrived, at most ``records_max``, at the time of reading, which never goes back."""
        self._read_us = max(self._read_us, now_us)
        return [(self._read_us, *item[1:]) for item in super().poll(now_us, records_max)]

    def _items(self, records: list[Stored], latest_us: int) -> list[MergedRecord]:
        self._offset = records[-1].offset + 1 if records else self._offset
        return [self._item(stored.offset, stored.value, latest_us) for stored in records]

    def _item(self, offset: int, value: bytes, latest_us: int) -> MergedRecord:
        original = value
        try:
            redrive = Redrive.decode(value)
            original = redrive.content()
            event, line = redriven_event(original, self._feeds.get(redrive.source))
            check_future(event, latest_us + FUTURE_US_MAX)
            taken = ConvertedRecord(event, line, original)
        except Rejected as rejected:
            taken = ConvertedRecord(self.place.refuse(offset, rejected, original), b"", original)
        return (NO_TIME, self.number, offset, 0, 1, taken, value)


def map_record(feed: RecordMapping, original: bytes) -> Decoded | None:
    """Return the input record that a foreign one is, and how the sequencer takes it; None where it is skipped."""
    found = feed.read(original)
    return None if found is None else (found[0], ConvertedRecord(*found, original))


def redriven_event(content: bytes, feed: RecordMapping | None) -> tuple[Event, bytes]:
    """Return the input record in redriven bytes, and its own bytes.

    Raises
    ------
    Rejected
        It still cannot be accepted.
    """
    if feed is None:
        return decode_event(content), content
    found = feed.read(content)
    if found is None:
        raise Rejected(Reason.RECORD_MUST_MATCH_THE_MAPPING, "the mapping skips it")
    return found


def _reached(event: Event, high_us: int, latest_us: int) -> tuple[int, int]:
    """Return 1 where a record is earlier than its predecessor, and the time that its source has reached."""
    check_future(event, latest_us + FUTURE_US_MAX)
    time_us = event.event_time_us
    if time_us == NO_TIME:
        return 0, high_us
    return int(time_us < high_us), max(high_us, min(time_us, latest_us))


def check_future(event: Event, latest_us: int) -> None:
    """Refuse a record from after ``latest_us``."""
    if event.event_time_us > latest_us:
        raise Rejected(
            Reason.EVENT_TIME_MUST_NOT_BE_IN_THE_FUTURE, f"event_time_us {event.event_time_us} is over 24 h from now"
        )
