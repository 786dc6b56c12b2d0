"""Group batches: an ordered stream of raw records, split by instrument group and interval.

A record belongs to the interval in which its effective time lies, or to the first that is still open. An interval ends
for the groups that it touched; a second ends for all of them, so that silence is noticed: with bounded inputs each in
which anything happened, live every one until ten minutes after the last record: what is silent by then was reported.
"""

from typing import Any

from seawall.operators.core.market._group import GroupRecords, IntervalEnd, instrument_group
from seawall.schemas import events as ev

SECOND_US = 1_000_000
SILENCE_US = 600 * SECOND_US
CHUNK = 4_096  # records that wait for the end of their interval, per group
GroupItem = tuple[int, GroupRecords | IntervalEnd]


class GroupBatcher:
    """Cuts one stream into items per group.

    Parameters
    ----------
    groups, interval_us
        How many groups there are, and how long an interval is.
    every_second
        Seconds in which nothing happened end too (live inputs).

    Attributes
    ----------
    sources
        What the next ``IntervalEnd`` says of live sources; the reader sets it when it has given an interval.
    closed_us
        End of the last interval or second that was closed.
    """

    def __init__(self, groups: int, interval_us: int, every_second: bool = False) -> None:
        self._groups, self._interval_us, self._every_second = groups, interval_us, every_second
        self.sources: dict[str, int] = {}
        self.closed_us = 0
        self.ended = False
        self._open_us = self._newest_us = 0
        self._second_open = False
        self._touched: set[int] = set()
        self._spoke: dict[str, int] = {}  # in the second that is open: when each venue did last
        self._waiting: dict[int, list[Any]] = {}
        self._items: list[GroupItem] = []

    def add(self, time_us: int, event: Any) -> None:
        """Take the next record at its effective time; one that describes an instrument opens and touches nothing."""
        if isinstance(event, ev.Instrument):
            self._waiting.setdefault(instrument_group(event.instrument, self._groups), []).append(event)
            return
        tick = max((time_us // self._interval_us + 1) * self._interval_us, self.closed_us + self._interval_us)
        if tick > self._open_us:
            self.close_to(tick - self._interval_us, waits=True)
            self._open_us = self._newest_us = tick
        self.ended = False
        if isinstance(event, ev.VenueStatus | ev.Notice):
            for group in range(self._groups):
                self._give(group, event)
        else:
            self._spoke[event.venue] = max(self._spoke.get(event.venue, 0), min(event.event_time_us, time_us))
            self._give(instrument_group(event.instrument, self._groups), event)

    def close_to(self, as_of_us: int, waits: bool = False) -> None:
        """End what ends by ``as_of_us``; with ``waits``, a second only when a record lies beyond it."""
        if self._open_us and self._open_us <= as_of_us:
            self._close(self._open_us)
        if not self.closed_us:
            return
        next_us = (self.closed_us // SECOND_US + 1) * SECOND_US
        if self._every_second:
            for second_us in range(next_us, min(as_of_us, self._newest_us + SILENCE_US) + 1, SECOND_US):
                self._end_second(second_us)
        elif waits and self._second_open and next_us <= as_of_us:
            self._end_second(next_us)

    def finish(self) -> None:
        """End a bounded run at a full second."""
        if self.ended or not (self._open_us or self.closed_us):
            return
        if self._open_us and self._open_us % SECOND_US:
            self._close(self._open_us)
        self._end_second(self._open_us or -(-self.closed_us // SECOND_US) * SECOND_US, end=True)
        self.ended = True

    def take(self) -> list[GroupItem]:
        """Return what the groups are to be given, in order; records of the open interval may be among it."""
        found, self._items = self._items, []
        return found

    def _give(self, group: int, event: Any) -> None:
        self._touched.add(group)
        waiting = self._waiting.setdefault(group, [])
        waiting.append(event)
        if len(waiting) >= CHUNK:
            self._items.append((group, GroupRecords(waiting)))
            del self._waiting[group]

    def flush(self) -> None:
        """Hand out the records of the open interval, so that a snapshot after ``take`` misses none."""
        for group in sorted(self._waiting):
            self._items.append((group, GroupRecords(self._waiting[group])))
        self._waiting.clear()

    def _close(self, as_of_us: int) -> None:
        if as_of_us % SECOND_US == 0:
            self._end_second(as_of_us)
            return
        self.flush()
        close = IntervalEnd(as_of_us, sources=self.sources)
        self._items += [(group, close) for group in sorted(self._touched)]
        self._after(as_of_us)
        self._second_open = True

    def _end_second(self, as_of_us: int, end: bool = False) -> None:
        self.flush()
        close = IntervalEnd(as_of_us, second=True, end=end, sources=self.sources, heard=self._spoke)
        self._spoke = {}
        self._items += [(group, close) for group in range(self._groups)]
        self._after(as_of_us)
        self._second_open = False

    def _after(self, as_of_us: int) -> None:
        self._touched.clear()
        self.closed_us, self._open_us = max(as_of_us, self.closed_us), 0

    # --- state ------------------------------------------------------------------------------------------------------

    def state(self) -> list[Any]:
        """Return the state after ``flush`` and ``take`` as plain values."""
        times = [self.closed_us, self._open_us, self._newest_us]
        return [*times, self._second_open, self.ended, sorted(self._touched), self.sources, self._spoke]

    def restore(self, state: list[Any]) -> None:
        """Take over what ``state`` returned; stores of before do not say which venues spoke."""
        times, flags, (touched, self.sources, *spoke) = state[:3], state[3:5], state[5:]
        self.closed_us, self._open_us, self._newest_us = times
        self._second_open, self.ended = flags
        self._touched, self._spoke = set(touched), spoke[0] if spoke else {}
