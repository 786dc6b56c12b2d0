"""Records of the output topics: each alone (id, count, key, headers, signature), and all of them along the audit chain.

An `AuditChain` reads the partition of every derived topic side by side with the audit and recomputes what each audit
record must say, byte by byte. What only a replay of the journal could recompute is taken from the record itself and
held by the chain.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from seawall.connectors.bus import Bus
from seawall.connectors.keys import Trust
from seawall.operators.core import audit
from seawall.operators.core.audit import origin_of
from seawall.operators.core.base import Decision
from seawall.ops.verify._findings import Report
from seawall.schemas import evidence
from seawall.schemas.errors import VerificationError
from seawall.schemas.evidence import state_type
from seawall.schemas.records import Stored

# Single records of an output topic: ids, counts, keys, headers and signatures, and a partition of them in order.
#
# What the audit says of them is `trail`'s to hold against them.

SIGNED = ("commands", "state")
KEYED = ("alerts", "breaches", "commands", "state")  # keys of the others are those of their partition


class RecordCheck:
    """Checks single records: ids, counts, headers, and the signatures of commands.

    Parameters
    ----------
    trust
        The public keys whose signatures are accepted, and how far those of revoked ones count.
    environment, issuer
        What commands must say.
    """

    def __init__(self, bus: Bus, trust: Trust, environment: str, issuer: str, report: Report) -> None:
        self.bus, self.report = bus, report
        self._trust, self._environment, self._issuer = trust, environment, issuer

    def header(self, topic: str, partition: int, stored: Stored, wanted: str | None, number: int) -> bool:
        """Check the id and the count of a record."""
        if wanted is not None and stored.headers.get("seawall-id") != wanted:
            found = stored.headers.get("seawall-id")
            self.report.add(topic, partition, stored.offset, f"has the id {found} where {wanted} belongs", "PLACE")
            return False
        if stored.headers.get("seawall-n") != str(number):
            found = stored.headers.get("seawall-n")
            self.report.add(
                topic, partition, stored.offset, f"counts {found} records before it, {number} stand", "PLACE"
            )
            return False
        if len(stored.headers) == 2 or (len(stored.headers) == 3 and topic in SIGNED and "dsse" in stored.headers):
            return True
        extra = sorted(set(stored.headers) - {"seawall-id", "seawall-n", *(["dsse"] if topic in SIGNED else [])})
        self.report.add(topic, partition, stored.offset, f"has headers that do not belong: {extra}", "PLACE")
        return False

    def signed(self, topic: str, partition: int, stored: Stored) -> None:
        """Check the signature, the issuer and the environment of a command or a state document."""
        fault = signature_fault(self._trust, topic, stored)
        if fault is not None:
            self.report.add(topic, partition, stored.offset, fault, "SIGNATURE")
            return
        content = orjson.loads(stored.value)
        if (content.get("env"), content.get("iss")) != (self._environment, self._issuer):
            who = f"{content.get('iss')} in {content.get('env')}"
            self.report.add(topic, partition, stored.offset, f"was issued by {who}, not {self._issuer}", "SIGNATURE")

    def revoked(self, topic: str, partition: int, stored: Stored, leaf: int) -> None:
        """Check that a key which was revoked since signed this before its revocation, by the place in the log."""
        if not self._trust.revoked:
            return
        envelope = stored.headers.get("dsse", "")
        if not self._trust.counts(envelope, origin_of(self._issuer, self._environment, partition), leaf):
            self.report.add(topic, partition, stored.offset, revoked_by(envelope, leaf), "SIGNATURE")


class PartitionStream:
    """One partition of a derived topic, read once from its start."""

    def __init__(self, check: RecordCheck, topic: str, partition: int, key: str) -> None:
        self._check, self._topic, self._partition, self._key = check, topic, partition, key
        self._records = all_records(check.bus, topic, partition, check.report)
        self._number = 0
        self.first: int | None = None
        self._advance()

    def _advance(self) -> None:
        self._next: Stored | None = next(self._records, None)
        self._id = "" if self._next is None else self._next.headers.get("seawall-id", "")

    def peek(self) -> Stored | None:
        """Return the next record, None at the end."""
        return self._next

    def next_offset(self) -> int | None:
        """Return the offset of the next record."""
        return None if self._next is None else self._next.offset

    def take(self, wanted: str | None = None) -> Stored:
        """Return the next record and go on; its id where one is wanted, count, key and signature are checked."""
        stored = self._next
        assert stored is not None
        report, topic = self._check.report, self._topic
        report.count(topic)
        self._check.header(topic, self._partition, stored, wanted, self._number)
        if stored.key != (_key(topic, stored.value) if topic in KEYED else self._key):
            report.add(
                topic, self._partition, stored.offset, f"has the key {stored.key!r}, which is not its own", "PLACE"
            )
        if topic in SIGNED:
            self._check.signed(topic, self._partition, stored)
        self._number += 1
        self._advance()
        return stored

    def of(self, prefix: str) -> list[Stored]:
        """Return the records whose id starts with ``prefix`` (``<partition>-<seq>-``), checking their order."""
        found: list[Stored] = []
        self.first = self.next_offset()
        while self._id.startswith(prefix):
            found.append(self.take(f"{prefix}{len(found)}"))
        return found


def all_records(bus: Bus, topic: str, partition: int, report: Report) -> Iterator[Stored]:
    """Yield a partition's records, noting holes in its offsets."""
    offset = 0
    while found := bus.read(topic, partition, offset):
        for stored in found:
            if stored.offset != offset:
                report.add(topic, partition, offset, f"offsets {offset} to {stored.offset - 1} are missing", "PLACE")
            offset = stored.offset + 1
            yield stored


def signature_fault(trust: Trust, topic: str, stored: Stored) -> str | None:
    """Return what is wrong with the signatures of a command or a state document, None where they hold."""
    kind = evidence.COMMAND_TYPE if topic == "commands" else state_type(stored.value)
    envelope = stored.headers.get("dsse", "")
    try:
        evidence.verify_envelope(stored.value, envelope, trust.issuers, kind)
    except VerificationError as error:
        return f"the signature does not hold: {error}"
    strangers = [kid for kid in evidence.envelope_key_ids(envelope) if not trust.knows(kid)]
    return f"has a signature by a key that nobody vouches for ({strangers[0]!r})" if strangers else None


def revoked_by(envelope: str, leaf: int) -> str:
    """Return what is wrong with a record whose signers were all revoked before this leaf of its log."""
    signers = ", ".join(evidence.envelope_key_ids(envelope))
    return f"is signed by {signers}, which was revoked before audit record {leaf} of this log"


def _key(topic: str, value: bytes) -> str | None:
    """Return the key that a record of these contents must have, on a topic whose keys say what it is about."""
    try:
        content = orjson.loads(value)
        if topic == "commands":
            target = content["target"]
            return "firm" if target["scope"] == "firm" else f"{target['scope']}:{target['id']}"
        return str(content["iss" if topic == "state" else "scope"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


# Following the audit: one chain, and with it every record that it speaks of.

DECIDED = ("alerts", "rejects", "breaches", "commands")


class AuditChain:
    """Follows the audit of one key and, with it, the partition of every derived topic."""

    def __init__(self, check: RecordCheck, key: str, partition: int) -> None:
        self._check, self._key, self._partition = check, key, partition
        self._streams = {topic: PartitionStream(check, topic, partition, key) for topic in (*audit.TOPICS, "audit")}
        if key == "all":
            del self._streams["rejects"]  # that partition of rejects is the sequencer's
        self._prev = audit.GENESIS
        self._behind = False
        self._slices = 0

    def skip(self) -> None:
        """Note that a slice cannot be read, so that what follows from it cannot be recomputed."""
        self._slices += 1

    def follow(
        self, seq: int, times: tuple[int, int], inputs: list[Any], configuration: dict[str, Any] | None, end: bool
    ) -> None:
        """Check what one slice (or second) gave; ``times`` are its as_of_us and cut_us."""
        self._slices += 1
        if self._behind:
            return
        records = {topic: s.of(f"{self._partition}-{seq}-") for topic, s in self._streams.items()}
        found = records.pop("audit")
        if not found and self._streams["audit"].peek() is None:
            self._behind = True
            what = f"ends before {'second' if self._key == 'all' else 'slice'} {seq}: unfinished or cut"
            self._check.report.lag("audit", self._partition, None, what)
            return
        for topic in SIGNED if found else ():
            for stored in records.get(topic, ()):
                self._check.revoked(topic, self._partition, stored, found[-1].offset)
        self._chain(seq, found, self._expected(times, inputs, configuration, records, found, end))

    def end(self) -> None:
        """Check that nothing is left that no slice gave."""
        left = self._streams["audit"].peek()
        if left is not None and self._key != "all" and _seq(left) >= self._slices:
            what = f"ends before slice {_seq(left)}, which was audited: the journal was cut"
            self._check.report.add("journal", self._partition, self._slices, what, "JOURNAL")
        for topic, stream in self._streams.items():
            while (stored := stream.peek()) is not None:
                what = "the journal gives no such record: added, or the journal was cut"
                if not self._behind or topic == "audit":
                    self._check.report.add(topic, self._partition, stored.offset, what, "STRANGER")
                else:
                    what = "has no audit record yet: unfinished or cut"
                    self._check.report.lag(topic, self._partition, stored.offset, what)
                stream.take()

    def _expected(
        self,
        times: tuple[int, int],
        inputs: list[Any],
        configuration: dict[str, Any] | None,
        records: dict[str, list[Stored]],
        found: list[Stored],
        end: bool,
    ) -> list[Decision | None]:
        """Return what the audit must say; None for decisions that only the journal's replay can recompute."""
        expected: list[Decision | None] = list(audit.slice_decisions(configuration))
        decided = [r for topic in DECIDED for r in ((topic, s) for s in records.get(topic, ()))]
        expected += [None] * max(0, len(found) - len(expected) - len(decided) - 1)
        for topic, stored in decided:
            try:
                expected.append(audit.record_decision(topic, stored.headers.get("seawall-id", ""), stored.value))
            except (orjson.JSONDecodeError, KeyError, TypeError):
                expected.append(Decision(topic, {"sha256": "unreadable"}))
        topics = {
            topic: [len(part), audit.digest_values([s.value for s in part])] for topic, part in records.items() if part
        }
        expected.append(audit.slice_decision(self._key, times, inputs, topics, end))
        return expected

    def _chain(self, seq: int, found: list[Stored], expected: list[Decision | None]) -> None:
        """Compare the audit records of a slice with what they must say, byte by byte."""
        report = self._check.report
        if len(found) < len(expected):
            what = f"{len(found)} audit records stand for slice {seq}, {len(expected)} belong"
            offset = found[-1].offset if found else self._streams["audit"].next_offset()
            report.add("audit", self._partition, offset, what, "CHAIN")
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
        decided = _decision(stored.value)
        try:
            prev = orjson.loads(stored.value)["prev"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            prev = None
        if decided is None or decision is None or prev != self._prev:
            report.add("audit", *place, "does not follow the record before it, or cannot be read", "CHAIN")
        elif "topic" in decided.body and decided.kind == decision.kind:
            topic = str(decided.body["topic"])
            report.add(
                topic,
                self._partition,
                None,
                f"record {decided.body.get('id')} is not what was audited (audit {place[1]})",
            )
        elif decided.kind in ("slice", "second") and decided.kind == decision.kind:
            self._blame_slice(decided, decision, place)
        else:
            report.add("audit", *place, f"is not record {at} of slice {seq}", "CHAIN")

    def _blame_slice(self, decided: Decision, decision: Decision, place: tuple[int, int]) -> None:
        report = self._check.report
        if (
            decided.body.get("inputs") != decision.body["inputs"]
            or decided.body.get("as_of_us") != decision.body["as_of_us"]
        ):
            what = f"slice {decision.body['inputs']} is not what was audited (audit offset {place[1]})"
            report.add("journal", self._partition if self._key != "all" else 0, None, what, "JOURNAL")
        want, have = decided.body.get("topics", {}), decision.body["topics"]
        for topic in sorted(set(want) | set(have)):
            if want.get(topic) != have.get(topic):
                counts = f"{have.get(topic, [0])[0]} records stand, {want.get(topic, [0])[0]} were audited"
                first = self._streams[topic].first if topic in self._streams else None
                report.add(
                    topic, self._partition, first, f"values are not those audited at offset {place[1]} ({counts})"
                )
        report.add("audit", *place, "states other values than those that stand, or was changed itself", "CHAIN")


def _seq(stored: Stored) -> int:
    """Return the slice that a record's id names, -1 where it names none."""
    parts = stored.headers.get("seawall-id", "").split("-")
    return int(parts[1]) if len(parts) == 3 and parts[1].isdecimal() else -1


def _decision(value: bytes) -> Decision | None:
    try:
        content = orjson.loads(value)
        return Decision(str(content["kind"]), dict(content["body"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
