"""What slices say was taken from ``signals``, ``acknowledgements`` and ``redrive``, against what stands there.

Every slice names what its tick took: topic, partition, offset and SHA-256. So a record that was changed, removed or
swapped after it was taken is named, and in a bounded run a signal that was added too (others may go on acknowledging).
Signals carry ids and counts of their own besides. Digests are kept in 32 bytes per record.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from seawall.schemas.records import Stored
from seawall.schemas.redrives import REDRIVE
from seawall.schemas.slices import Slice

TAKEN = ("signals", "acknowledgements", REDRIVE)
RULE = "TAKEN"
DIGEST = 32
NOTHING = bytes(DIGEST)
AHEAD_MAX = 1_000_000  # records between two that were taken: a changed offset must not ask for all memory
Add = Callable[[str, int, int | None, str, str], None]


class _Place(msgspec.Struct):
    group: int = -1
    seq: int = -1
    more: bool = False
    part: int = 0


class Taken:
    """The digests of what was taken, by topic, partition and offset."""

    def __init__(self) -> None:
        self._digests: dict[tuple[str, int], bytearray] = {}
        self._ended = False

    def note(self, piece: Slice) -> None:
        """Take what a slice says; slices of one tick say the same. What makes no sense is the audit's to name."""
        self._ended = piece.end
        for entry in piece.taken:
            try:
                self._note(*entry)
            except (TypeError, ValueError):
                continue

    def _note(self, topic: Any, partition: Any, offset: Any, digest: Any) -> None:
        known = self._digests.setdefault((topic, partition), bytearray())
        end = (offset + 1) * DIGEST
        if 0 < end <= len(known) + AHEAD_MAX * DIGEST and len(found := bytes.fromhex(digest)) == DIGEST:
            known.extend(bytes(max(end - len(known), 0)))
            known[end - DIGEST : end] = found

    def partitions(self, topic: str) -> set[int]:
        """Return the partitions of a topic that anything was taken from."""
        return {partition for name, partition in self._digests if name == topic}

    def check(self, topic: str, partition: int, records: Iterable[Stored], add: Add) -> int:
        """Compare a partition with what was taken of it; return how many records stand."""
        digests = self._digests.get((topic, partition), bytearray())
        taken = len(digests) // DIGEST
        count, before = 0, _Place()
        for stored in records:
            wanted = bytes(digests[stored.offset * DIGEST : (stored.offset + 1) * DIGEST])
            if wanted and wanted != NOTHING and hashlib.sha256(stored.value).digest() != wanted:
                add(topic, partition, stored.offset, "the value is not the one that the journal says was taken", RULE)
            elif (not wanted or wanted == NOTHING) and self._ended and topic == "signals":
                add(topic, partition, stored.offset, "the journal took no such record: added", RULE)
            if topic == "signals":
                before = _check_signal(partition, stored, before, count, add)
            elif topic == REDRIVE:
                _check_redrive(partition, stored, count, add)
            count = stored.offset + 1
        for offset in range(count, taken):
            add(topic, partition, offset, "the journal says that it was taken, but it is missing", RULE)
        return count


def _check_redrive(partition: int, stored: Stored, count: int, add: Add) -> None:
    """Check place, key and headers of a redriven record; one that waits for a run is no finding."""
    headers = {"seawall-id": f"0-{stored.offset}-0", "seawall-n": str(stored.offset)}
    if partition:
        add(REDRIVE, partition, stored.offset, "the topic has one partition: this one is added", "STRANGER")
    elif count != stored.offset or stored.key != REDRIVE or stored.headers != headers:
        add(REDRIVE, partition, stored.offset, "key, headers or place are not those of the next redrive", RULE)


def _check_signal(partition: int, stored: Stored, before: _Place, count: int, add: Add) -> _Place:
    """Check place, key and headers of a signal; return its place."""
    try:
        place = msgspec.json.decode(stored.value, type=_Place)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        add("signals", partition, stored.offset, f"the value is no signal ({error})", RULE)
        return before
    part = before.part + 1 if before.more else 0
    place.part = part
    headers = {"seawall-id": f"{partition}-{place.seq}-{part}", "seawall-n": str(stored.offset)}
    follows = place.seq == before.seq + (not before.more)
    if place.group != partition or not follows or (count != stored.offset):
        add(
            "signals",
            partition,
            stored.offset,
            f"holds signal {place.seq} of group {place.group}: not the next one",
            RULE,
        )
    elif stored.key != str(partition) or stored.headers != headers:
        add("signals", partition, stored.offset, f"key or headers are not those of signal {place.seq}", RULE)
    return place
