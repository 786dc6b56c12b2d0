"""The states that one engine left for another on ``snapshots``: whole, in order, and with their checksums.

No record was decided from the topic alone, so the audit says nothing of it; a state that somebody wrote with its own
checksum is found by ``seawall replay`` once an engine has gone on from it.
"""

import re
import zlib

from seawall.connectors.bus import Bus
from seawall.connectors.snapshots import TOPIC
from seawall.operators.core.snapshot import MAGIC
from seawall.ops.verification.findings import Report
from seawall.schemas.records import Stored

RULE = "STATE"


def verify_states(bus: Bus, report: Report) -> None:
    """Add a finding for every record that is no part of a state where it stands, and for every damaged state."""
    for partition in bus.partitions(TOPIC):
        state, offset = _State(partition, bus.start(TOPIC, partition)), bus.start(TOPIC, partition)
        while found := bus.read(TOPIC, partition, offset):
            for stored in found:
                report.count(TOPIC)
                for at, what in state.take(stored):
                    report.add(TOPIC, partition, at, what, RULE)
            offset = found[-1].offset + 1
        for at, what in state.close():
            report.add(TOPIC, partition, at, what, RULE)


class _State:
    """The state whose parts are being read."""

    def __init__(self, partition: int, offset: int) -> None:
        self._partition, self._next = partition, offset
        self._first = -1
        self._place = ("", -1)
        self._head, self._sum = b"", 0

    def take(self, stored: Stored) -> list[tuple[int, str]]:
        """Take a record; return offset and text of what is wrong with it or with the state before it."""
        named = re.fullmatch(rf"{self._partition}-(-?[0-9]+)-([0-9]+)", stored.headers.get("seawall-id", ""))
        place = (named[1], int(named[2])) if named else ("", -1)
        follows = place == (self._place[0], self._place[1] + 1) and self._first >= 0
        number = {"seawall-id": stored.headers.get("seawall-id"), "seawall-n": str(stored.offset)}
        found: list[tuple[int, str]] = []
        if stored.offset != self._next or stored.headers != number or stored.key != str(self._partition):
            found.append((stored.offset, "key, headers or place are not those of the next part of a state"))
        elif not follows and place[1] != 0:
            found.append((stored.offset, "is no part of the state before it, and not the first of another"))
        self._next = stored.offset + 1
        if not follows:
            found = self.close() + found
            self._first, self._head, self._sum = (stored.offset if place[1] == 0 else -1), stored.value[:8], 0
        self._place = place
        self._sum = zlib.crc32(stored.value if follows else stored.value[8:], self._sum)
        return found

    def close(self) -> list[tuple[int, str]]:
        """Return what is wrong with the state whose parts came last."""
        if self._first < 0 or self._head == MAGIC + self._sum.to_bytes(4, "big"):
            return []
        return [(self._first, "the state that begins here is damaged or not whole: its checksum does not match")]
