"""Verification, ``seawall verify``: is everything on the bus what was written there, and nothing missing?

Checks, partition by partition, streaming
-----------------------------------------
1. The journal: offsets and ids contiguous, every value a slice of its place, times that do not go back.
2. Every audit record: its place, its predecessor's hash, and the whole of its content, recomputed from the journal and
   from the records that it speaks of. So the last record of a partition is covered as well as the first.
3. Every other record: its id, its count, its key, and that the audit states its hash; commands: their signature.
4. A derived topic holds nothing that the audit does not know of, and lacks nothing that the journal gives.
5. Records that slices say were taken from topics that others write are there, byte for byte.
6. States that an engine left for another are whole; rows that nobody reads are named.
7. Where the sealers' keys are given: every checkpoint, the tiles, cosignatures.

A finding names topic, partition and offset, and its rule says why and what next. A run that was cut is told from one
that was changed; where inputs are bounded, also one whose topics were all cut at the same place.

`verify_limits` checks every ``limit`` event again as the sequencer did before it wrote it down: at the ``as_of`` of its
slice, against the limits of that time, with the key set that the configuration in force names.
"""

import hashlib
import re
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson

from seawall.connectors.bus import DERIVED, SNAPSHOTS_TOPIC, TOPICS, Bus, read_all, skip_foreign_records
from seawall.connectors.keys import Trust
from seawall.operators.core import audit
from seawall.operators.core.base import SNAPSHOT_MAGIC
from seawall.operators.core.limits import Policy
from seawall.ops.verify._findings import Report
from seawall.ops.verify._logs import LogCheck, Logs
from seawall.ops.verify._records import AuditChain, RecordCheck, all_records
from seawall.ops.verify._replay import EXTERNAL_TOPICS, InputProvenance
from seawall.schemas.errors import Rejected
from seawall.schemas.events import Limit, Release
from seawall.schemas.evidence import KeySet, LimitDocument, PublicKey, check_release
from seawall.schemas.records import Slice, Stored, decode_slice

# Limits in the journal against those that a maker and a checker signed.

# Whoever forges a slice spells it as he likes: with spaces, or with letters escaped. These stand in every spelling.
MARKS = (b'"limit"', b'"release"', b'"configuration"', b"\\u")


def verify_limits(bus: Bus, key_sets: Mapping[str, KeySet], report: Report) -> None:
    """Add a finding for every limit document in the journal that the rules of its time refuse.

    Parameters
    ----------
    key_sets
        By the SHA-256 of each.
    """
    for shard in bus.partitions("journal"):
        fold = _Fold(key_sets)
        for stored in read_all(bus, "journal", shard):
            if not any(mark in stored.value for mark in MARKS):
                continue
            try:
                piece = decode_slice(stored.value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # a finding of its own, of whoever reads the whole journal
            for what in fold.step(piece):
                report.add("journal", shard, stored.offset, what, "LIMITS")


class _Fold:
    """The limits of one shard's journal, with what must be true of the next document."""

    def __init__(self, key_sets: Mapping[str, KeySet]) -> None:
        self._key_sets, self._keys = key_sets, None
        self._policy = Policy()
        self._who = ("", "")

    def step(self, piece: Slice) -> list[str]:
        """Take a slice; return what is wrong with its documents."""
        if piece.configuration is not None:
            self._configure(piece.configuration)
        found = []
        for event in piece.events:
            if not isinstance(event, Limit | Release):
                continue
            if self._keys is None:
                found.append("holds a limit document whose key set is not at hand: [keys] set names another, or none")
                continue
            try:
                if isinstance(event, Release):
                    check_release(event.document, self._keys, *self._who, piece.as_of_us)
                    continue
                LimitDocument.admit(event.document, self._policy, self._keys, *self._who, piece.as_of_us)
                self._policy.apply(event.document, piece.as_of_us)
            except Rejected as error:
                found.append(f"a limit document does not hold: {error.reason}: {error.detail}")
        return found

    def _configure(self, configuration: dict[str, object]) -> None:
        limits = configuration["limits"]
        assert isinstance(limits, dict)
        self._policy.configure(limits)
        named = limits.get("key_set") or {}
        self._keys = self._key_sets.get(named.get("sha256", ""))  # type: ignore[assignment]
        self._who = (str(configuration["issuer"]), str(configuration["environment"]))


# The states that one engine left for another on ``snapshots``: whole, in order, and with their checksums.
#
# No record was decided from the topic alone, so the audit says nothing of it; a state that somebody wrote with its own
# checksum is found by ``seawall replay`` once an engine has gone on from it.

RULE = "STATE"


def verify_states(bus: Bus, report: Report) -> None:
    """Add a finding for every record that is no part of a state where it stands, and for every damaged state."""
    for partition in bus.partitions(SNAPSHOTS_TOPIC):
        state, offset = _State(partition, bus.start(SNAPSHOTS_TOPIC, partition)), bus.start(SNAPSHOTS_TOPIC, partition)
        while found := bus.read(SNAPSHOTS_TOPIC, partition, offset):
            for stored in found:
                report.count(SNAPSHOTS_TOPIC)
                for at, what in state.take(stored):
                    report.add(SNAPSHOTS_TOPIC, partition, at, what, RULE)
            offset = found[-1].offset + 1
        for at, what in state.close():
            report.add(SNAPSHOTS_TOPIC, partition, at, what, RULE)


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
        if self._first < 0 or self._head == SNAPSHOT_MAGIC + self._sum.to_bytes(4, "big"):
            return []
        return [(self._first, "the state that begins here is damaged or not whole: its checksum does not match")]


# ``seawall verify``: everything on the bus is what was written there, and nothing is missing.


class Seconds:
    """Input that the firm step must have been given: per second, each shard's slice."""

    def __init__(self) -> None:
        self.inputs: dict[int, list[list[Any]]] = {}
        self.cuts: dict[int, int] = {}
        self.configurations: dict[int, dict[str, Any]] = {}
        self.ends: set[int] = set()


def verify(
    bus: Bus,
    trust: Trust | Mapping[str, PublicKey],
    environment: str,
    issuer: str,
    logs: Logs | None = None,
    topics: Collection[str] = (),
    bounded: bool = False,
) -> Report:
    """Verify every record on a bus.

    Parameters
    ----------
    trust
        The public keys whose signatures are accepted on commands and state documents, and which were revoked.
    environment, issuer
        What the configuration says; commands of another are findings.
    logs
        What verifies checkpoints and tiles; None leaves them out.
    topics
        Live inputs that stand on the same bus.
    bounded
        Whether the inputs end: then the journal of a run that is finished ends with a slice that says so. Without it a
        journal that was cut together with all that follows from it, and with its checkpoints, cannot be told from a
        shorter one.
    """
    report = Report()
    skip_foreign_records(bus, report.stranger)
    trust = trust if isinstance(trust, Trust) else Trust(trust, [])
    check = _Check(bus, RecordCheck(bus, trust, environment, issuer, report), report, bounded)
    shards = check.shard_count()
    if not shards:
        check.empty(None if logs is None else logs.folder)
    seconds = Seconds()
    for shard in range(shards):
        check.shard(shard, seconds)
    check.firm(shards, seconds)
    check.sequencer_rejects(shards)
    check.inputs()
    check.strangers(shards, topics)
    verify_states(bus, report)
    for partition in range(shards + 1 if logs is not None and shards else 0):
        assert logs is not None
        LogCheck(bus, partition, issuer, environment, logs, report).run()
    return report


class _Check:
    def __init__(self, bus: Bus, records: RecordCheck, report: Report, bounded: bool) -> None:
        self.bus, self.records, self.report, self.bounded = bus, records, report, bounded
        self.rejects: dict[tuple[int, int], tuple[str, int, str]] = {}
        self.taken = InputProvenance()

    def shard_count(self) -> int:
        for stored in all_records(self.bus, "journal", 0, self.report):
            try:
                return int((decode_slice(stored.value).configuration or {})["shards"])
            except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
                break
        known = self.bus.partitions("journal")
        if known:
            what = "the first slice, which holds the configuration, is missing or changed"
            self.report.add("journal", 0, 0, what, "JOURNAL")
        return max(known, default=-1) + 1

    def empty(self, folder: Path | None) -> None:
        """Note what cannot be where the journal holds nothing: what follows from one, and bounded inputs that ended."""
        left = [topic for topic in (*DERIVED, "checkpoints") if self.bus.partitions(topic)]
        if folder is not None and any(folder.glob("tiles/audit/*/checkpoint")):
            left.append("tiles")
        if left:
            self.report.add("journal", 0, None, f"holds nothing, though {', '.join(left)} follow from it", "JOURNAL")
        elif self.bounded:  # a run of nothing has its last slices too
            what = "holds nothing, and its bounded inputs have an end: unfinished or cut"
            self.report.lag("journal", 0, None, what)

    # --- one shard --------------------------------------------------------------------------------------------------

    def shard(self, shard: int, seconds: Seconds) -> None:
        """Check the journal of a shard and everything derived from it, slice by slice."""
        trail = AuditChain(self.records, str(shard), shard)
        before: Slice | None = None
        ended = not self.bounded
        for stored in all_records(self.bus, "journal", shard, self.report):
            self.report.count("journal")
            piece = self._slice(stored, shard, before)
            ended = not self.bounded or piece is None or piece.end
            if piece is None:
                before = None
                trail.skip()
                continue
            before = piece
            self.taken.note(piece)
            digest = hashlib.sha256(stored.value).hexdigest()
            if piece.second and not piece.more:
                seconds.inputs.setdefault(piece.as_of_us, []).append([shard, piece.seq, digest])
                seconds.cuts[piece.as_of_us] = max(piece.cut_us, seconds.cuts.get(piece.as_of_us, 0))
                seconds.ends |= {piece.as_of_us} if piece.end else set()
            if piece.configuration is not None and shard == 0:
                seconds.configurations[piece.as_of_us] = piece.configuration
            if piece.rejects is not None:
                # Every slice of a step states them, but no one shard hears of every step; sources tell steps apart.
                step = piece.as_of_us, sum(position[0] for position in piece.sources.values())
                stated = piece.rejects.count, piece.rejects.sha256
                self.rejects.setdefault(step, (f"journal/{shard} offset {stored.offset}", *stated))
            times = piece.as_of_us, piece.cut_us
            trail.follow(piece.seq, times, [[piece.seq, digest]], piece.configuration, piece.end)
        if not ended:
            self.report.lag("journal", shard, None, "ends before its bounded inputs do: unfinished or cut")
        trail.end()

    def _slice(self, stored: Stored, shard: int, before: Slice | None) -> Slice | None:
        def wrong(what: str) -> None:
            self.report.add("journal", shard, stored.offset, what, "JOURNAL")

        try:
            piece = decode_slice(stored.value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            wrong(f"the value is no slice ({error})")
            return None
        if (piece.shard, piece.seq) != (shard, stored.offset):
            wrong(f"holds slice {piece.seq} of shard {piece.shard}: removed, added or swapped")
            return None
        headers = {"seawall-id": f"{shard}-{piece.seq}-0", "seawall-n": str(piece.seq)}
        if stored.headers != headers or stored.key != str(shard):
            wrong(f"key or headers are not those of slice {piece.seq}")
        if before is not None and (piece.as_of_us < before.as_of_us or piece.seq != before.seq + 1):
            wrong("does not follow the slice before it")
        return piece

    # --- the second operator ----------------------------------------------------------------------------------------

    def firm(self, shards: int, seconds: Seconds) -> None:
        """Check what the second operator wrote, second by second."""
        trail = AuditChain(self.records, "all", shards)
        waiting: dict[str, Any] | None = None
        changes = sorted(seconds.configurations.items())
        for seq, as_of_us in enumerate(sorted(seconds.inputs)):
            while changes and changes[0][0] <= as_of_us:
                waiting = changes.pop(0)[1]
            times, inputs = (as_of_us, seconds.cuts[as_of_us]), sorted(seconds.inputs[as_of_us])
            trail.follow(seq, times, inputs, waiting, as_of_us in seconds.ends)
            waiting = None
        trail.end()

    def sequencer_rejects(self, shards: int) -> None:
        """Check the rejects that the sequencer wrote against the counts and hashes in the journal."""
        records = list(all_records(self.bus, "rejects", shards, self.report))
        self.report.count("rejects", len(records))
        at = 0
        for number, stored in enumerate(records):
            self.records.header("rejects", shards, stored, _reject_id(stored.value), number)
            if stored.key != "sequence":
                text = f"has the key {stored.key!r}, which is not the sequencer's"
                self.report.add("rejects", shards, stored.offset, text, "PLACE")
        for _, (place, count, digest) in sorted(self.rejects.items()):
            part = records[at : at + count]
            if len(part) < count:
                text = f"{place} states {count} rejects from number {at} on, {len(part)} stand"
                self.report.add("rejects", shards, at + len(part), text)
            elif audit.digest_values([stored.value for stored in part]) != digest:
                text = f"values are not those that {place} states"
                last = part[-1].offset
                self.report.add("rejects", shards, part[0].offset, f"{text} (offsets {part[0].offset} to {last})")
            at += count
        for stored in records[at:]:
            self.report.add("rejects", shards, stored.offset, "the journal knows nothing of this record", "STRANGER")

    def inputs(self) -> None:
        """Check what was taken from topics that others write."""
        for topic in EXTERNAL_TOPICS:
            for partition in sorted(self.taken.partitions(topic) | set(self.bus.partitions(topic))):
                records = all_records(self.bus, topic, partition, self.report)
                self.report.count(topic, self.taken.check(topic, partition, records, self.report.add))

    def strangers(self, shards: int, topics: Collection[str]) -> None:
        """Find topics and partitions that no dataflow writes."""
        for topic in self.bus.topics():
            if topic not in TOPICS and topic not in topics:
                self.report.add(topic, 0, None, "no dataflow writes a topic of this name", "STRANGER")
                continue
            if topic in EXTERNAL_TOPICS or topic in topics:
                continue
            most = shards if topic == "journal" else shards + 1
            for partition in self.bus.partitions(topic):
                if partition >= most:
                    what = f"the journal has {shards} shards: this partition is added"
                    self.report.add(topic, partition, 0, what, "STRANGER")


def _reject_id(value: bytes) -> str | None:
    """Return the id that a sequencer's reject must have: the place of its source."""
    try:
        source = orjson.loads(value)["source"]
        if "file" in source:
            return f"{source['file']}-{source['line']}"
        return f"{source['topic']}-{source['partition']}-{source['offset']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
