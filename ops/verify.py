"""``seawall verify``: is everything on the bus what was written there, and nothing missing?

What is checked, partition by partition, streaming
--------------------------------------------------
1. The journal: offsets and ids contiguous, every value a slice of its place, times that do not go back.
2. Every audit record: its place, its predecessor's hash, and the whole of its content, recomputed from the journal and
   from the records that it speaks of. So the last record of a partition is covered as well as the first.
3. Every other record: its id, its count, its key, and that the audit states its hash; commands: their signature.
4. Nothing stands on a derived topic that the audit does not know of, and nothing that the journal gives is missing.

A finding names topic, partition and offset. A run that was cut is told from one that was changed.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from seawall.connectors.bus import TOPICS, Bus
from seawall.operators.core import audit
from seawall.operators.core.frames import Decision
from seawall.schemas import dsse
from seawall.schemas.errors import VerificationError
from seawall.schemas.records import Stored
from seawall.schemas.slices import Slice, decode_slice

DECIDED = ("alerts", "rejects", "breaches", "commands")
FINDINGS_MAX = 1000
INPUTS = frozenset({"signals", "acknowledgements"})


class Finding(NamedTuple):
    """Something that is not as it was written."""

    topic: str
    partition: int
    offset: int | None
    what: str

    def __str__(self) -> str:
        place = f"{self.topic}/{self.partition}"
        return f"{place}: {self.what}" if self.offset is None else f"{place} offset {self.offset}: {self.what}"


@dataclass
class Report:
    """What ``verify`` found: counts per topic, findings, and whether outputs are merely behind the journal."""

    records: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    behind: list[Finding] = field(default_factory=list)

    def add(self, topic: str, partition: int, offset: int | None, what: str) -> None:
        """Note a finding."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(topic, partition, offset, what))

    @property
    def good(self) -> bool:
        """Whether nothing was found and nothing is behind."""
        return not self.findings and not self.behind


class Seconds:
    """What the second operator must have been given: per second, each shard's slice."""

    def __init__(self) -> None:
        self.inputs: dict[int, list[list[Any]]] = {}
        self.configurations: dict[int, dict[str, Any]] = {}


def verify(bus: Bus, keys: dict[str, Ed25519PublicKey], environment: str, issuer: str) -> Report:
    """Verify every record on a bus.

    Parameters
    ----------
    keys
        The public keys whose signatures are accepted on commands.
    environment, issuer
        What the configuration says; commands of another are findings.
    """
    report = Report()
    check = _Check(bus, keys, environment, issuer, report)
    shards = check.shard_count()
    seconds = Seconds()
    for shard in range(shards):
        check.shard(shard, seconds)
    check.firm(shards, seconds)
    check.sequencer_rejects(shards)
    check.strangers(shards)
    return report


class _Check:
    def __init__(
        self, bus: Bus, keys: dict[str, Ed25519PublicKey], environment: str, issuer: str, report: Report
    ) -> None:
        self.bus, self.keys, self.environment, self.issuer, self.report = bus, keys, environment, issuer, report
        self.rejects: list[tuple[int, int, int, str]] = []

    def shard_count(self) -> int:
        for stored in _all(self.bus, "journal", 0, self.report):
            try:
                return int((decode_slice(stored.value).configuration or {})["shards"])
            except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
                break
        known = self.bus.partitions("journal")
        if known:
            self.report.add("journal", 0, 0, "the first slice, which holds the configuration, is missing or changed")
        return max(known, default=-1) + 1

    # --- one shard --------------------------------------------------------------------------------------------------

    def shard(self, shard: int, seconds: Seconds) -> None:
        """Check the journal of a shard and everything derived from it, slice by slice."""
        trail = _Trail(self, str(shard), shard)
        before: Slice | None = None
        for stored in _all(self.bus, "journal", shard, self.report):
            piece = self._slice(stored, shard, before)
            if piece is None:
                before = None
                trail.skip()
                continue
            before = piece
            digest = hashlib.sha256(stored.value).hexdigest()
            if piece.second and not piece.more:
                seconds.inputs.setdefault(piece.as_of_us, []).append([shard, piece.seq, digest])
            if piece.configuration is not None and shard == 0:
                seconds.configurations[piece.as_of_us] = piece.configuration
            if piece.rejects is not None and shard == 0:
                self.rejects.append((piece.seq, stored.offset, piece.rejects.count, piece.rejects.sha256))
            trail.follow(piece.seq, piece.as_of_us, [[piece.seq, digest]], piece.configuration)
        trail.end()

    def _slice(self, stored: Stored, shard: int, before: Slice | None) -> Slice | None:
        def wrong(what: str) -> None:
            self.report.add("journal", shard, stored.offset, what)

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
        trail = _Trail(self, "all", shards)
        waiting: dict[str, Any] | None = None
        changes = sorted(seconds.configurations.items())
        for seq, as_of_us in enumerate(sorted(seconds.inputs)):
            while changes and changes[0][0] <= as_of_us:
                waiting = changes.pop(0)[1]
            trail.follow(seq, as_of_us, sorted(seconds.inputs[as_of_us]), waiting)
            waiting = None
        trail.end()

    def sequencer_rejects(self, shards: int) -> None:
        """Check the rejects that the sequencer wrote against the counts and hashes in the journal."""
        records = list(_all(self.bus, "rejects", shards, self.report))
        self.report.records["rejects"] = self.report.records.get("rejects", 0) + len(records)
        at = 0
        for number, stored in enumerate(records):
            self.header("rejects", shards, stored, _reject_id(stored.value), number)
            if stored.key != "sequence":
                text = f"has the key {stored.key!r}, which is not the sequencer's"
                self.report.add("rejects", shards, stored.offset, text)
        for _, offset, count, digest in self.rejects:
            part = records[at : at + count]
            if len(part) < count:
                text = f"the journal at offset {offset} states {count} rejects from number {at} on, {len(part)} stand"
                self.report.add("rejects", shards, at + len(part), text)
            elif audit.digest_values([stored.value for stored in part]) != digest:
                text = f"values are not those that the journal at offset {offset} states"
                last = part[-1].offset
                self.report.add("rejects", shards, part[0].offset, f"{text} (offsets {part[0].offset} to {last})")
            at += count
        for stored in records[at:]:
            self.report.add("rejects", shards, stored.offset, "the journal knows nothing of this record")

    def strangers(self, shards: int) -> None:
        """Find topics and partitions that no dataflow writes."""
        for topic in self.bus.topics():
            if topic not in TOPICS:
                self.report.add(topic, 0, None, "no dataflow writes a topic of this name")
                continue
            if topic in INPUTS:
                for partition in self.bus.partitions(topic):
                    for _ in _all(self.bus, topic, partition, self.report):
                        self.report.records[topic] = self.report.records.get(topic, 0) + 1
                continue
            most = shards if topic == "journal" else shards + 1
            for partition in self.bus.partitions(topic):
                if partition >= most:
                    self.report.add(topic, partition, 0, f"the journal has {shards} shards: this partition is added")

    # --- one record -------------------------------------------------------------------------------------------------

    def header(self, topic: str, partition: int, stored: Stored, wanted: str | None, number: int) -> bool:
        """Check the id and the count of a record."""
        if wanted is not None and stored.headers.get("seawall-id") != wanted:
            found = stored.headers.get("seawall-id")
            self.report.add(topic, partition, stored.offset, f"has the id {found} where {wanted} belongs")
            return False
        if stored.headers.get("seawall-n") != str(number):
            found = stored.headers.get("seawall-n")
            self.report.add(topic, partition, stored.offset, f"counts {found} records before it, {number} stand")
            return False
        extra = set(stored.headers) - {"seawall-id", "seawall-n", "dsse"}
        if extra or (topic != "commands" and "dsse" in stored.headers):
            self.report.add(topic, partition, stored.offset, f"has headers that do not belong: {sorted(extra)}")
            return False
        return True

    def command(self, partition: int, stored: Stored) -> None:
        """Check the signature, the issuer and the environment of a command."""
        try:
            dsse.verify(stored.value, stored.headers.get("dsse", ""), self.keys, dsse.COMMAND_TYPE)
            content = orjson.loads(stored.value)
        except (VerificationError, orjson.JSONDecodeError) as error:
            self.report.add("commands", partition, stored.offset, f"the signature does not hold: {error}")
            return
        if (content.get("env"), content.get("iss")) != (self.environment, self.issuer):
            who = f"{content.get('iss')} in {content.get('env')}"
            self.report.add("commands", partition, stored.offset, f"was issued by {who}, not {self.issuer}")


class _Trail:
    """Follows the audit of one key and, with it, the partition of every derived topic."""

    def __init__(self, check: _Check, key: str, partition: int) -> None:
        self._check, self._key, self._partition = check, key, partition
        self._streams = {topic: _Stream(check, topic, partition) for topic in (*audit.TOPICS, "audit")}
        if key == "all":
            del self._streams["rejects"]  # that partition of rejects is the sequencer's
        self._prev = audit.GENESIS
        self._behind = False
        self._slices = 0

    def skip(self) -> None:
        """Note that a slice cannot be read, so that what follows from it cannot be recomputed."""
        self._slices += 1

    def follow(self, seq: int, as_of_us: int, inputs: list[Any], configuration: dict[str, Any] | None) -> None:
        """Check what one slice (or second) gave."""
        self._slices += 1
        if self._behind:
            return
        records = {topic: s.of(f"{self._partition}-{seq}-") for topic, s in self._streams.items()}
        found = records.pop("audit")
        if not found and self._streams["audit"].peek() is None:
            self._behind = True
            what = f"ends before {'second' if self._key == 'all' else 'slice'} {seq}: unfinished or cut"
            self._check.report.behind.append(Finding("audit", self._partition, None, what))
            return
        self._chain(seq, found, self._expected(as_of_us, inputs, configuration, records, found))

    def end(self) -> None:
        """Check that nothing is left that no slice gave."""
        left = self._streams["audit"].peek()
        if left is not None and self._key != "all" and _seq(left) >= self._slices:
            what = f"ends before slice {_seq(left)}, which was audited: the journal was cut"
            self._check.report.add("journal", self._partition, self._slices, what)
        for topic, stream in self._streams.items():
            while (stored := stream.peek()) is not None:
                what = "the journal gives no such record: added, or the journal was cut"
                if not self._behind or topic == "audit":
                    self._check.report.add(topic, self._partition, stored.offset, what)
                else:
                    self._check.report.behind.append(
                        Finding(topic, self._partition, stored.offset, "has no audit record yet: unfinished or cut")
                    )
                stream.take()

    def _expected(
        self,
        as_of_us: int,
        inputs: list[Any],
        configuration: dict[str, Any] | None,
        records: dict[str, list[Stored]],
        found: list[Stored],
    ) -> list[Decision | None]:
        """Return what the audit must say; None for decisions that only the journal's replay can recompute."""
        expected: list[Decision | None] = list(audit.slice_decisions(configuration))
        told = [r for topic in DECIDED for r in ((topic, s) for s in records.get(topic, ()))]
        expected += [None] * max(0, len(found) - len(expected) - len(told) - 1)
        for topic, stored in told:
            try:
                expected.append(audit.record_decision(topic, stored.headers.get("seawall-id", ""), stored.value))
            except (orjson.JSONDecodeError, KeyError, TypeError):
                expected.append(Decision(topic, {"sha256": "unreadable"}))
        topics = {
            topic: [len(part), audit.digest_values([s.value for s in part])] for topic, part in records.items() if part
        }
        kind = "second" if self._key == "all" else "slice"
        expected.append(Decision(kind, {"as_of_us": as_of_us, "inputs": inputs, "topics": topics}))
        return expected

    def _chain(self, seq: int, found: list[Stored], expected: list[Decision | None]) -> None:
        """Compare the audit records of a slice with what they must say, byte by byte."""
        report = self._check.report
        if len(found) < len(expected):
            what = f"{len(found)} audit records stand for slice {seq}, {len(expected)} belong"
            offset = found[-1].offset if found else self._streams["audit"].next_offset()
            report.add("audit", self._partition, offset, what)
        for at, stored in enumerate(found):
            wanted = expected[at] if at < len(expected) else None
            value = stored.value
            decision = wanted or _decision(value)
            if decision is None or value != audit.audit_value(self._key, seq, at, self._prev, decision):
                self._blame(stored, seq, at, decision)
            self._prev = audit.leaf_hash(value)

    def _blame(self, stored: Stored, seq: int, at: int, decision: Decision | None) -> None:
        """Say which record is wrong: the audit record, or the one that it speaks of."""
        report, place = self._check.report, (self._partition, stored.offset)
        told = _decision(stored.value)
        try:
            prev = orjson.loads(stored.value)["prev"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            prev = None
        if told is None or decision is None or prev != self._prev:
            report.add("audit", *place, "does not follow the record before it, or cannot be read")
        elif "topic" in told.body and told.kind == decision.kind:
            topic = str(told.body["topic"])
            report.add(
                topic, self._partition, None, f"record {told.body.get('id')} is not what was audited (audit {place[1]})"
            )
        elif told.kind in ("slice", "second") and told.kind == decision.kind:
            self._blame_slice(told, decision, place)
        else:
            report.add("audit", *place, f"is not record {at} of slice {seq}")

    def _blame_slice(self, told: Decision, decision: Decision, place: tuple[int, int]) -> None:
        report = self._check.report
        if told.body.get("inputs") != decision.body["inputs"] or told.body.get("as_of_us") != decision.body["as_of_us"]:
            what = f"slice {decision.body['inputs']} is not what was audited (audit offset {place[1]})"
            report.add("journal", self._partition if self._key != "all" else 0, None, what)
        want, have = told.body.get("topics", {}), decision.body["topics"]
        for topic in sorted(set(want) | set(have)):
            if want.get(topic) != have.get(topic):
                counts = f"{have.get(topic, [0])[0]} records stand, {want.get(topic, [0])[0]} were audited"
                first = self._streams[topic].first if topic in self._streams else None
                report.add(
                    topic, self._partition, first, f"values are not those audited at offset {place[1]} ({counts})"
                )
        report.add("audit", *place, "states other values than those that stand, or was changed itself")


class _Stream:
    """One partition of a derived topic, read once from its start."""

    def __init__(self, check: _Check, topic: str, partition: int) -> None:
        self._check, self._topic, self._partition = check, topic, partition
        self._records = _all(check.bus, topic, partition, check.report)
        self._next: Stored | None = next(self._records, None)
        self._number = 0
        self.first: int | None = None

    def peek(self) -> Stored | None:
        """Return the next record, None at the end."""
        return self._next

    def next_offset(self) -> int | None:
        """Return the offset of the next record."""
        return None if self._next is None else self._next.offset

    def take(self) -> Stored:
        """Return the next record and go on; its count, key and signature are checked."""
        stored = self._next
        assert stored is not None
        report, topic = self._check.report, self._topic
        report.records[topic] = report.records.get(topic, 0) + 1
        self._check.header(topic, self._partition, stored, None, self._number)
        if stored.key != _key(topic, self._partition, stored.value):
            report.add(topic, self._partition, stored.offset, f"has the key {stored.key!r}, which is not its own")
        if topic == "commands":
            self._check.command(self._partition, stored)
        self._number += 1
        self._next = next(self._records, None)
        return stored

    def of(self, prefix: str) -> list[Stored]:
        """Return the records whose id starts with ``prefix`` (``<partition>-<seq>-``), checking their order."""
        found: list[Stored] = []
        self.first = self.next_offset()
        while self._next is not None and self._next.headers.get("seawall-id", "").startswith(prefix):
            self._check.header(self._topic, self._partition, self._next, f"{prefix}{len(found)}", self._number)
            found.append(self.take())
        return found


def _all(bus: Bus, topic: str, partition: int, report: Report) -> Iterator[Stored]:
    """Yield a partition's records, noting holes in its offsets."""
    offset = 0
    while found := bus.read(topic, partition, offset):
        for stored in found:
            if stored.offset != offset:
                report.add(topic, partition, offset, f"offsets {offset} to {stored.offset - 1} are missing")
            offset = stored.offset + 1
            yield stored


def _seq(stored: Stored) -> int:
    """Return the slice that a record's id names, -1 where it names none."""
    parts = stored.headers.get("seawall-id", "").split("-")
    return int(parts[1]) if len(parts) == 3 and parts[1].isdecimal() else -1


def _reject_id(value: bytes) -> str | None:
    """Return the id that a sequencer's reject must have: the place of its source."""
    try:
        source = orjson.loads(value)["source"]
        if "file" in source:
            return f"{source['file']}-{source['line']}"
        return f"{source['topic']}-{source['partition']}-{source['offset']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def _decision(value: bytes) -> Decision | None:
    try:
        content = orjson.loads(value)
        return Decision(str(content["kind"]), dict(content["body"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _key(topic: str, partition: int, value: bytes) -> str | None:
    """Return the key that a record of these contents must have."""
    try:
        content = orjson.loads(value)
        if topic == "commands":
            target = content["target"]
            return "firm" if target["scope"] == "firm" else f"{target['scope']}:{target['id']}"
        if topic in ("breaches", "alerts"):
            return str(content["scope"])
        return str(content["shard"]) if topic != "rejects" else str(partition)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
