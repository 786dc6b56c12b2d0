"""Signals that stand already: where the clock cut, and of how many groups they are."""

from collections.abc import Iterator

import msgspec

from seawall.connectors.bus import Bus
from seawall.schemas.errors import UsageError
from seawall.schemas.events import Signal

TAIL_RECORDS = 500


def cuts_after(bus: Bus, closed_us: int) -> dict[int, dict[str, int]]:
    """Return the cuts that signals after a time were made of: end of the interval to offsets per live source."""
    found: dict[int, dict[str, int]] = {}
    for partition in bus.partitions("signals"):
        end = bus.end("signals", partition)
        while end > 0:
            start = max(0, end - TAIL_RECORDS)
            signals = [msgspec.json.decode(value, type=Signal) for value in _values(bus, partition, start, end)]
            found |= {s.event_time_us: s.sources for s in signals if s.event_time_us > closed_us and not s.more}
            if signals[0].event_time_us <= closed_us:
                break
            end = start
    return found


def _values(bus: Bus, partition: int, start: int, end: int) -> Iterator[bytes]:
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
        stood = msgspec.json.decode(first[0].value, type=Signal).groups if first else groups
        if stood != groups:
            raise UsageError(f"[market] groups is {groups} but signals were begun with {stood}; set it back")
