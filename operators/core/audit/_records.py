"""Audit: one record per decision and one per slice, each with the hash of the record before it in its partition.

The record of a slice states the SHA-256 of the journal values that went in and, per topic, the count and SHA-256 of the
values that came out, so that no byte on any topic is outside the evidence (architecture.md, "Evidence"). ``prev`` is
the RFC 6962 leaf hash of the record before, ``genesis`` for the first.
"""

import hashlib
from typing import Any

import orjson

from seawall.operators.core.base import Decision, Outputs, RecordNumbering, pack, unpack
from seawall.schemas import transparency
from seawall.schemas.records import Record

SCHEMA = "audit/1"
GENESIS = "genesis"
_record = tuple.__new__  # a record without the named tuple's constructor, which takes as long as hashing it
TOPICS = ("exposures", "alerts", "breaches", "commands", "rejects", "state", "forecasts")
DECIDED_TOPICS = ("alerts", "rejects", "breaches", "commands")  # each of their records is a decision


class AuditState:
    """The audit operator of one key: ``step(outputs) -> Outputs``, with the audit records."""

    def __init__(self, key: str, partition: int) -> None:
        self.key = key
        self.numbering = RecordNumbering(partition)
        self.prev = GENESIS

    def step(self, outputs: Outputs) -> Outputs:
        """Chain the audit records of one slice or second and put them behind all its other records."""
        moment, records, bodies = outputs.moment, outputs.records, outputs.decisions
        if outputs.configuration is not None:
            bodies = [*slice_decisions(outputs.configuration), *bodies]
        for topic in DECIDED_TOPICS:
            if topic in records:
                bodies = bodies + [record_decision(topic, record.id, record.value) for record in records[topic]]
        topics: dict[str, list[Any]] = {}
        for topic in TOPICS:
            if topic in records:
                topics[topic] = [len(records[topic]), digest_values([record.value for record in records[topic]])]
        times = moment.as_of_us, moment.cut_us
        done = slice_decision(moment.key, times, moment.inputs, topics, moment.end)
        return Outputs(moment, {**records, "audit": self.chain(moment.seq, [*bodies, done])})

    def chain(self, seq: int, decisions: list[Decision]) -> list[Record]:
        """Return the audit records of one slice, each with the hash of the one before it."""
        prev, key, partition, counts = self.prev, self.key, self.numbering.partition, self.numbering.counts
        n, found = counts.get("audit", 0), []
        for at, decision in enumerate(decisions):
            value = audit_value(key, seq, at, prev, decision)
            prev = hashlib.sha256(b"\0" + value).hexdigest()  # `leaf_hash`, without two calls for every record
            found.append(_record(Record, (key, value, f"{partition}-{seq}-{at}", n + at, "")))
        self.prev, counts["audit"] = prev, n + len(found)
        return found

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        state = {"key": self.key, "partition": self.numbering.partition, "prev": self.prev}
        return pack(SCHEMA, {**state, "counts": self.numbering.counts})

    @classmethod
    def restore(cls, data: bytes) -> "AuditState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(state["key"], state["partition"])
        self.prev, self.numbering.counts = state["prev"], state["counts"]
        return self


def audit_value(key: str, seq: int, at: int, prev: str, decision: Decision) -> bytes:
    """Return the value of one audit record.

    Written around its body: bytes that the encoder made take four times as long to keep as bytes of Python's own.
    """
    shard = '"all"' if key == "all" else key
    head = f'{{"shard":{shard},"seq":{seq},"n":{at},"prev":"{prev}","kind":"{decision.kind}","body":'
    return b"%b%b}" % (head.encode(), orjson.dumps(decision.body))


def leaf_hash(value: bytes) -> str:
    """Return the RFC 6962 leaf hash of a record's value, in hex."""
    return transparency.leaf_hash(value).hex()


def digest_values(values: list[bytes]) -> str:
    """Return SHA-256 over the values, each after its length in 4 bytes (big endian)."""
    total = hashlib.sha256()
    for value in values:
        total.update(len(value).to_bytes(4, "big"))
        total.update(value)
    return total.hexdigest()


def slice_decisions(configuration: dict[str, Any] | None) -> list[Decision]:
    """Return the decision that a change of configuration is."""
    if configuration is None:
        return []
    body = {
        "version": configuration["version"],
        "code": configuration["code"],
        "limits": {key: configuration["limits"][key] for key in ("version", "sha256")},
        "playbook": {key: configuration["playbook"][key] for key in ("version", "sha256")},
    }
    return [Decision("configuration", body)]


def record_decision(topic: str, record_id: str, value: bytes) -> Decision:
    """Return the audit entry of a record: its id and hash, what caused it, and the versions that shaped it."""
    content = orjson.loads(value)
    body: dict[str, Any] = {"topic": topic, "id": record_id, "sha256": hashlib.sha256(value).hexdigest()}
    if topic == "breaches":
        body |= {"causes": content["evidence"], "versions": {"limits": content["version"]}}
        body |= {"factors": content["factors"]} if "factors" in content else {}
    elif topic == "commands":
        evidence = content["evidence"]
        causes = [evidence["id"], *evidence["causes"]]
        body |= {"causes": causes, "versions": {"playbook": content["policy"]["version"]}}
    return Decision({"alerts": "alert", "rejects": "reject", "breaches": "breach", "commands": "command"}[topic], body)


def slice_decision(
    key: str, times: tuple[int, int], inputs: list[Any], topics: dict[str, list[Any]], end: bool
) -> Decision:
    """Return the record of a slice from its parts: ``(as_of_us, cut_us)``, what went in, what came out.

    ``cut_us`` is told where a clock was read, ``end`` marks the last one of a bounded run; both stand last, where the
    sealer looks for them.
    """
    as_of_us, cut_us = times
    body = {"as_of_us": as_of_us, "inputs": inputs, "topics": topics}
    if cut_us != as_of_us:
        body["cut_us"] = cut_us
    if end:
        body["end"] = True
    return Decision("second" if key == "all" else "slice", body)
