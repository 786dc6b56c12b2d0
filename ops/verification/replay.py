"""``seawall replay``: derive every record again from the journal, and compare it with what stands.

Keys, values and all headers but ``dsse`` are compared byte for byte; signatures are verified, those of revoked keys up
to the positions of their revocation. Public keys are enough.
Signals are no function of the journal but an input of it: they are compared with the hashes that slices state.
"""

import time
from collections.abc import Callable, Iterator, Mapping

from seawall.connectors.appending import DERIVED
from seawall.connectors.bus import Bus, read_all
from seawall.connectors.trust import Trust
from seawall.operators.core.risk import Risk
from seawall.operators.core.sealing import origin_of
from seawall.ops.verification.findings import Report
from seawall.ops.verification.records import SIGNED, revoked_by, signature_fault
from seawall.ops.verification.taken import TAKEN, Taken
from seawall.schemas.dsse import PublicKey
from seawall.schemas.records import Record, Stored
from seawall.schemas.slices import Slice, decode_slice
from seawall.schemas.versions import check_decides


def replay(bus: Bus, trust: Trust | Mapping[str, PublicKey], shards: int) -> tuple[Report, int, float]:
    """Replay the journal; return the report, the number of slices, and the processor seconds that it took.

    Shards are replayed second by second side by side, because the second operator needs all of them.

    Raises
    ------
    VersionMismatch
        Another version of Seawall decided on slices, and would have to derive them.
    """
    started = time.thread_time()
    report = Report()
    bus.pass_over(report.stranger)
    trust = trust if isinstance(trust, Trust) else Trust(trust, [])
    risk = Risk(shards)
    readers: dict[tuple[str, int], Iterator[Stored]] = {}
    slices = 0
    taken = Taken()
    who = ("", "")

    def note(piece: Slice) -> None:
        nonlocal who
        if piece.configuration is not None:
            check_decides(piece.configuration, piece.shard, piece.seq)
            who = piece.configuration["issuer"], piece.configuration["environment"]
        taken.note(piece)

    for value in in_order(bus, shards, note):
        slices += 1
        for audited in risk.step(value):
            log = origin_of(*who, audited.partition), audited.records["audit"][-1].n
            for topic, records in audited.records.items():
                place = (topic, audited.partition)
                reader = readers.setdefault(place, read_all(bus, *place))
                for record in records:
                    _compare(report, trust, place, record, next(reader, None), log)
    for topic in DERIVED:
        for partition in bus.partitions(topic):
            if topic == "rejects" and partition == shards:
                continue
            left = next(readers.setdefault((topic, partition), read_all(bus, topic, partition)), None)
            if left is not None:
                report.add(topic, partition, left.offset, "the journal gives no such record", "STRANGER")
    for topic in TAKEN:
        for partition in sorted(taken.partitions(topic) | set(bus.partitions(topic))):
            report.count(topic, taken.check(topic, partition, read_all(bus, topic, partition), report.add))
    return report, slices, round(time.thread_time() - started, 3)


def in_order(bus: Bus, shards: int, note: Callable[[Slice], None] = lambda piece: None) -> Iterator[bytes]:
    """Yield journal values in turns of ``(as_of_us, shard)``, so that seconds complete as they come.

    ``note`` is given each slice as its value is read.
    """
    import heapq

    def stream(shard: int) -> Iterator[tuple[int, int, int, bytes]]:
        for stored in read_all(bus, "journal", shard):
            piece = decode_slice(stored.value)
            note(piece)
            yield piece.as_of_us, shard, stored.offset, stored.value

    for *_, value in heapq.merge(*(stream(shard) for shard in range(shards))):
        yield value


def _compare(
    report: Report,
    trust: Trust,
    place: tuple[str, int],
    record: Record,
    stored: Stored | None,
    log: tuple[str, int],
) -> None:
    """Compare a record with the one that stands; ``log`` is the place of its slice's last audit record."""
    topic, partition = place
    if stored is None:
        if not any((found.topic, found.partition) == place for found in report.behind):
            what = f"ends before record {record.id}: unfinished or cut"
            report.lag(topic, partition, None, what)
        return
    report.count(topic)
    headers = {name: text for name, text in stored.headers.items() if name != "dsse"}
    if stored.key != record.key or headers != record.headers():
        report.add(topic, partition, stored.offset, f"key or headers are not those of record {record.id}", "PLACE")
    elif stored.value != record.value:
        report.add(topic, partition, stored.offset, f"the value is not that of record {record.id}")
    elif topic in SIGNED:
        envelope = stored.headers.get("dsse", "")
        fault = signature_fault(trust, topic, stored)
        if fault is None and not trust.counts(envelope, *log):
            fault = revoked_by(envelope, log[1])
        if fault is not None:
            report.add(topic, partition, stored.offset, fault, "SIGNATURE")
