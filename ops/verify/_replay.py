"""Replay, ``seawall replay``: derives every record again from the journal and compares it with the stored one.

Keys, values and all headers but ``dsse`` are compared byte for byte; signatures are verified, those of revoked keys up
to the positions of their revocation. Public keys are enough.

Signals, acknowledgements and redrives are no function of the journal but inputs of it. Every slice names what its
interval took of them: topic, partition, offset and SHA-256. So a record that was changed, removed or swapped afterwards
is named, and in a bounded run a signal that was added too (others may go on acknowledging). Signals carry ids and
counts of their own besides. Digests are kept in 32 bytes per record.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from seawall.connectors.bus import DERIVED, Bus, read_all, skip_foreign_records
from seawall.connectors.keys import Trust
from seawall.operators.core.audit import origin_of
from seawall.operators.core.pipeline import Pipeline
from seawall.ops.verify._carry_over import EarlierDecisions, slices_in_order
from seawall.ops.verify._findings import Report
from seawall.ops.verify._records import SIGNED, revoked_by, signature_fault
from seawall.schemas.evidence import PublicKey
from seawall.schemas.records import REDRIVE, Record, Slice, Stored, check_not_older

# Inputs that slices name: records of ``signals``, ``acknowledgements`` and ``redrive``, against what stands there.

EXTERNAL_TOPICS = ("signals", "acknowledgements", REDRIVE)
RULE = "TAKEN"
DIGEST = 32
NOTHING = bytes(DIGEST)
AHEAD_MAX = 1_000_000  # records between two that were taken: a changed offset must not ask for all memory
AddFinding = Callable[[str, int, int | None, str, str], None]


class _Place(msgspec.Struct):
    group: int = -1
    seq: int = -1
    more: bool = False
    part: int = 0


class InputProvenance:
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

    def check(self, topic: str, partition: int, records: Iterable[Stored], add: AddFinding) -> int:
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


def _check_redrive(partition: int, stored: Stored, count: int, add: AddFinding) -> None:
    """Check place, key and headers of a redriven record; one that waits for a run is no finding."""
    headers = {"seawall-id": f"0-{stored.offset}-0", "seawall-n": str(stored.offset)}
    if partition:
        add(REDRIVE, partition, stored.offset, "the topic has one partition: this one is added", "STRANGER")
    elif count != stored.offset or stored.key != REDRIVE or stored.headers != headers:
        add(REDRIVE, partition, stored.offset, "key, headers or place are not those of the next redrive", RULE)


def _check_signal(partition: int, stored: Stored, before: _Place, count: int, add: AddFinding) -> _Place:
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


# ``seawall replay``: derive every record again from the journal, and compare it with what stands.


def replay(bus: Bus, trust: Trust | Mapping[str, PublicKey], shards: int) -> tuple[Report, int, float]:
    """Replay the journal; return the report, the number of slices, and the processor seconds that it took.

    Shards are replayed second by second side by side, because the second operator needs all of them. What an earlier
    version decided is not derived again: it is taken as it stands, and the report says how many slices that were.

    Raises
    ------
    UsageError
        A later version of Seawall decided on slices, and would have to derive them.
    """
    started = time.thread_time()
    report = Report()
    skip_foreign_records(bus, report.stranger)
    trust = trust if isinstance(trust, Trust) else Trust(trust, [])
    earlier = EarlierDecisions(bus)
    risk = Pipeline(shards, earlier=earlier)
    readers: dict[tuple[str, int], Iterator[Stored]] = {}
    slices = 0
    taken = InputProvenance()
    who = ("", "")

    def note(piece: Slice) -> None:
        nonlocal who
        if piece.configuration is not None:
            check_not_older(piece.configuration["code"])
            who = piece.configuration["issuer"], piece.configuration["environment"]
        taken.note(piece)

    for value in slices_in_order(bus, shards, note):
        slices += 1
        given = risk.step(value)
        if risk.recalls:
            report.earlier = slices
        for audited in given:
            log = origin_of(*who, audited.moment.partition), audited.records["audit"][-1].n
            for topic, records in audited.records.items():
                place = (topic, audited.moment.partition)
                reader = readers.setdefault(place, read_all(bus, *place, earlier.count(*place)))
                for record in records:
                    _compare(report, trust, place, record, next(reader, None), log)
    _report_strangers(report, bus, shards, readers, earlier)
    for topic in EXTERNAL_TOPICS:
        for partition in sorted(taken.partitions(topic) | set(bus.partitions(topic))):
            report.count(topic, taken.check(topic, partition, read_all(bus, topic, partition), report.add))
    return report, slices, round(time.thread_time() - started, 3)


def _report_strangers(
    report: Report,
    bus: Bus,
    shards: int,
    readers: dict[tuple[str, int], Iterator[Stored]],
    earlier: EarlierDecisions,
) -> None:
    """Report the first record of each partition that the journal does not give."""
    for topic in DERIVED:
        for partition in bus.partitions(topic):
            if topic == "rejects" and partition == shards:
                continue
            place = (topic, partition)
            left = next(readers.setdefault(place, read_all(bus, *place, earlier.count(*place))), None)
            if left is not None:
                report.add(topic, partition, left.offset, "the journal gives no such record", "STRANGER")


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
