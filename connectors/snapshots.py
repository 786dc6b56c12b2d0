"""The topic ``snapshots``: states of keyed steps as one engine left them, for another one to go on from.

A state is cut into records that fit on any bus, written in one transaction. A record's id names partition, the place at
which the state stands, and its part; of two states at one place the later counts. The state itself carries its checksum
and version.
"""

from typing import NamedTuple

from seawall.connectors.bus import Bus
from seawall.schemas.errors import SnapshotError

TOPIC = "snapshots"
PART_BYTES = 512 * 1024
READ_PARTS = 8


class Kept(NamedTuple):
    """A state and the place at which it stands: the last slice or second taken."""

    seq: int
    data: bytes


def publish(bus: Bus, partition: int, seq: int, data: bytes) -> None:
    """Append the state of a partition; nothing where its last one is the same."""
    writer = bus.writer([(TOPIC, partition)])
    try:
        end = writer.end(TOPIC, partition)
        last = bus.read(TOPIC, partition, end - 1, 1) if end else []
        if last and _place(last[0].headers)[0] == seq and _is_last(bus, partition, data):
            return
        parts = range(0, len(data), PART_BYTES)
        for at, first in enumerate(parts):
            headers = {"seawall-id": f"{partition}-{seq}-{at}", "seawall-n": str(end + at)}
            writer.append(TOPIC, partition, str(partition), data[first : first + PART_BYTES], headers)
        writer.flush()
    finally:
        writer.close()


def latest(bus: Bus, partition: int, seq: int | None = None) -> Kept | None:
    """Return the last state of a partition, or the one at ``seq``; None where there is none.

    Raises
    ------
    SnapshotError
        Parts of it are not there.
    """
    end = bus.end(TOPIC, partition)
    while end:
        found, last = _place(bus.read(TOPIC, partition, end - 1, 1)[0].headers)
        first = end - 1 - last
        if seq is None or found == seq:
            return Kept(found, _joined(bus, partition, first, found, last))
        end = first
    return None


def _is_last(bus: Bus, partition: int, data: bytes) -> bool:
    found = latest(bus, partition)
    return found is not None and found.data == data


def _joined(bus: Bus, partition: int, first: int, seq: int, last: int) -> bytes:
    found: list[bytes] = []
    while len(found) <= last:
        for stored in bus.read(TOPIC, partition, first + len(found), min(READ_PARTS, last + 1 - len(found))):
            if _place(stored.headers) != (seq, len(found)):
                raise SnapshotError(f"{TOPIC}/{partition} offset {stored.offset} is no part of the state at {seq}")
            found.append(stored.value)
    return b"".join(found)


def _place(headers: dict[str, str]) -> tuple[int, int]:
    """Return the place and the part that a record's id names."""
    _, seq, part = headers["seawall-id"].rsplit("-", 2)
    return int(seq), int(part)
