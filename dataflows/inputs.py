"""Sources of the sequencer: bounded files and live topics, as records with their effective times.

A record counts at the highest event time seen so far in its source, so what is consumed is always a prefix of the
source. A record that cannot be decoded stands, rejected, at the time its source has reached, and moves no time; nor
does one from more than 24 hours after the clock at reading.
"""

from collections.abc import Callable, Iterator

from seawall.connectors.bus import Bus
from seawall.connectors.files import Lines, Oversize
from seawall.operators.core.rejects import (
    RECORD_BYTES_MAX,
    Place,
    RejectRecord,
    refuse_record,
    reject_oversize,
    reject_record,
)
from seawall.operators.core.ticks import Item
from seawall.schemas.decode import decode_event
from seawall.schemas.errors import Reason, Rejected, UsageError
from seawall.schemas.events import NO_TIME, Event, Signal
from seawall.schemas.records import Stored

FUTURE_US_MAX = 24 * 3600 * 1_000_000
NO_CLOCK_US = 1 << 62  # signals carry the times of records that were checked when they were made
POLL_RECORDS = 1000

Clock = Callable[[], int]
"""Microseconds since the epoch."""


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
    """

    def __init__(self, number: int, place: Place, lines: Lines, high_us: int, clock: Clock) -> None:
        self.number, self.place = number, place
        self._lines, self._high_us, self._clock = lines, high_us, clock

    def items(self) -> Iterator[Item]:
        """Yield the records in order of lines."""
        source, high = self.number, self._high_us
        for lines in iter(self._lines.read, []):
            latest = self._clock() + FUTURE_US_MAX
            for number, offset, content in lines:
                try:
                    event, raw = self._decoded(number, content, latest)
                except Rejected as rejected:
                    raw = content if isinstance(content, bytes) else content.head
                    refused = self._refused(number, content, rejected)
                    yield (high, source, number, offset, 0, refused, raw)
                    continue
                time_us = event.event_time_us
                if time_us >= high:
                    high = time_us
                    yield (high, source, number, offset, 0, event, raw)
                else:
                    yield (high, source, number, offset, int(time_us != NO_TIME), event, raw)

    def first_time(self) -> int:
        """Return the event time of the first record that has one, -1 where none has; uses the source up."""
        return next((item[0] for item in self.items() if item[0] != NO_TIME), NO_TIME)

    def _decoded(self, number: int, content: bytes | Oversize, latest: int) -> tuple[Event, bytes]:
        if not isinstance(content, bytes):
            raise Rejected(Reason.RECORD_MUST_NOT_EXCEED_256_KIB, "")
        event = decode_event(content)
        check_future(event, latest)
        return event, content

    def _refused(self, number: int, content: bytes | Oversize, rejected: Rejected) -> RejectRecord:
        if isinstance(content, bytes):
            return reject_record(self.place, number, rejected, content)
        return reject_oversize(self.place, number, *content)


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
    """

    def __init__(self, number: int, place: Place, bus: Bus, offset: int, high_us: int) -> None:
        self.number, self.place = number, place
        self._bus, self._offset, self._high_us = bus, offset, high_us

    def _items(self, records: list[Stored], latest_us: int) -> list[Item]:
        """Return records as items; no effective time lies after ``latest_us``."""
        items = []
        for stored in records:
            items.append(self._item(stored.offset, stored.value, latest_us))
            self._offset = stored.offset + 1
        return items

    def _item(self, offset: int, value: bytes, latest_us: int) -> Item:
        event: Event | RejectRecord
        late = 0
        try:
            if len(value) > RECORD_BYTES_MAX:
                raise Rejected(Reason.RECORD_MUST_NOT_EXCEED_256_KIB, f"the record has {len(value)} bytes")
            event = decode_event(value)
            check_future(event, latest_us + FUTURE_US_MAX)
            if event.event_time_us != NO_TIME:
                late = int(event.event_time_us < self._high_us)
                self._high_us = max(self._high_us, min(event.event_time_us, latest_us))
        except Rejected as rejected:
            event = refuse_record(self.place, offset, rejected, value)
        return (self._high_us, self.number, offset, 0, late, event, value)


class TopicSource(_Partition):
    """The records of one partition of a live topic."""

    def poll(self, now_us: int, records_max: int = POLL_RECORDS) -> list[Item]:
        """Return what has arrived, at most ``records_max``; no effective time lies after ``now_us``."""
        found = self._bus.tail(self.place.name, self.place.partition, self._offset, records_max)
        return [item if item[0] != NO_TIME else (now_us, *item[1:]) for item in self._items(found, now_us)]

    def first_time(self, now_us: int) -> int | None:
        """Return the effective time of the first record, None where none is there; uses the source up."""
        found = self._bus.read(self.place.name, self.place.partition, self._offset, 1)
        times = [item[0] for item in self._items(found, now_us)]
        return (now_us if times[0] == NO_TIME else times[0]) if times else None


class SignalsSource(_Partition):
    """The signals of one group of a bounded run, all there before the first is read."""

    def items(self) -> Iterator[Item]:
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


def check_future(event: Event, latest_us: int) -> None:
    """Refuse a record from after ``latest_us``."""
    if event.event_time_us > latest_us:
        raise Rejected(
            Reason.EVENT_TIME_MUST_NOT_BE_IN_THE_FUTURE, f"event_time_us {event.event_time_us} is over 24 h from now"
        )
