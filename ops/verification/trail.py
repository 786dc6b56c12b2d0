"""Following the audit: one chain, and with it every record that it speaks of.

A `Trail` reads the partition of every derived topic side by side with the audit and recomputes what each audit record
must say, byte by byte. What only a replay of the journal could recompute is taken from the record itself and held by
the chain.
"""

from typing import Any

import orjson

from seawall.operators.core import audit
from seawall.operators.core.frames import Decision
from seawall.ops.verification.records import SIGNED, RecordCheck, Stream
from seawall.schemas.records import Stored

DECIDED = ("alerts", "rejects", "breaches", "commands")


class Trail:
    """Follows the audit of one key and, with it, the partition of every derived topic."""

    def __init__(self, check: RecordCheck, key: str, partition: int) -> None:
        self._check, self._key, self._partition = check, key, partition
        self._streams = {topic: Stream(check, topic, partition, key) for topic in (*audit.TOPICS, "audit")}
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
        told = _decision(stored.value)
        try:
            prev = orjson.loads(stored.value)["prev"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            prev = None
        if told is None or decision is None or prev != self._prev:
            report.add("audit", *place, "does not follow the record before it, or cannot be read", "CHAIN")
        elif "topic" in told.body and told.kind == decision.kind:
            topic = str(told.body["topic"])
            report.add(
                topic, self._partition, None, f"record {told.body.get('id')} is not what was audited (audit {place[1]})"
            )
        elif told.kind in ("slice", "second") and told.kind == decision.kind:
            self._blame_slice(told, decision, place)
        else:
            report.add("audit", *place, f"is not record {at} of slice {seq}", "CHAIN")

    def _blame_slice(self, told: Decision, decision: Decision, place: tuple[int, int]) -> None:
        report = self._check.report
        if told.body.get("inputs") != decision.body["inputs"] or told.body.get("as_of_us") != decision.body["as_of_us"]:
            what = f"slice {decision.body['inputs']} is not what was audited (audit offset {place[1]})"
            report.add("journal", self._partition if self._key != "all" else 0, None, what, "JOURNAL")
        want, have = told.body.get("topics", {}), decision.body["topics"]
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
