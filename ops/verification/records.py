"""Single records of an output topic: ids, counts, keys, headers and signatures, and a partition of them in order.

What the audit says of them is `trail`'s to hold against them.
"""

from collections.abc import Iterator

import orjson

from seawall.connectors.bus import Bus
from seawall.connectors.trust import Trust
from seawall.operators.core.sealing import origin_of
from seawall.ops.verification.findings import Report
from seawall.schemas import dsse
from seawall.schemas.errors import VerificationError
from seawall.schemas.evidence.documents import state_type
from seawall.schemas.records import Stored

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


class Stream:
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
    kind = dsse.COMMAND_TYPE if topic == "commands" else state_type(stored.value)
    envelope = stored.headers.get("dsse", "")
    try:
        dsse.verify(stored.value, envelope, trust.issuers, kind)
    except VerificationError as error:
        return f"the signature does not hold: {error}"
    strangers = [kid for kid in dsse.key_ids(envelope) if not trust.knows(kid)]
    return f"has a signature by a key that nobody vouches for ({strangers[0]!r})" if strangers else None


def revoked_by(envelope: str, leaf: int) -> str:
    """Return what is wrong with a record whose signers were all revoked before this leaf of its log."""
    return f"is signed by {', '.join(dsse.key_ids(envelope))}, which was revoked before audit record {leaf} of this log"


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
