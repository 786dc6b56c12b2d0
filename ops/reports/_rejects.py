"""Dead letters: rejected records, and their redrive once the cause is mended (architecture.md, "Failure").

1. A rejected record is named by its place on ``rejects``, PARTITION/OFFSET.
2. Redriving appends its original bytes, with who sends it and why, to the topic ``redrive``, which ``sequence`` follows
   like any input: a bounded run takes what stands there when it runs again, a live one within a second.
3. Whatever was sent once is never sent again, whoever asks and however often; what is rejected again is a new reject.
"""

import base64
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import orjson

from seawall import dataflows
from seawall.connectors.bus import Bus
from seawall.connectors.mapping import RecordMapping
from seawall.schemas.errors import BusError, Rejected, UsageError
from seawall.schemas.records import REDRIVE, SLICE_BYTES_MAX, Redrive, Stored

FLUSH_RECORDS = 500
_encode = msgspec.json.Encoder().encode


class DeadLetter(NamedTuple):
    """A rejected record.

    Attributes
    ----------
    place
        PARTITION/OFFSET on ``rejects``.
    id
        Its ``seawall-id``.
    body
        The value: ``reason``, ``detail``, ``source``, the original.
    redriven
        The offset on ``redrive`` where it was sent in again, -1 where it was not.
    """

    place: str
    id: str
    body: dict[str, Any]
    redriven: int

    @property
    def original(self) -> bytes:
        """The bytes that were rejected; of one over the size limit, the first of them."""
        if "original_base64" in self.body:
            return base64.b64decode(self.body["original_base64"])
        return str(self.body["original"]).encode()

    @property
    def source(self) -> str:
        """The file or topic that it came from, as the journal calls it."""
        found = self.body["source"]
        return str(found.get("file") or found.get("topic", ""))

    def where(self) -> str:
        """Return where it stood there."""
        found = self.body["source"]
        if "file" in found:
            return f"{found['file']} line {found['line']}"
        return f"{found['topic']}/{found['partition']} offset {found['offset']}"


class RedriveOutcome(NamedTuple):
    """Outcome of a record that was to be redriven: ``sent``, ``already`` or ``refused``, and why."""

    place: str
    state: str
    detail: str


def read_dead_letters(bus: Bus) -> Iterator[DeadLetter]:
    """Yield every rejected record, by partition and offset.

    Raises
    ------
    BusError
        A record is no reject.
    """
    sent = redriven(bus)
    for partition in bus.partitions("rejects"):
        for stored in _kept(bus, "rejects", partition):
            place = f"{partition}/{stored.offset}"
            try:
                body = orjson.loads(stored.value)
                letter = DeadLetter(place, stored.headers.get("seawall-id", ""), body, sent.get(place, -1))
                letter.where(), letter.original, letter.body["reason"]
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
                raise BusError(f"rejects/{place} is no reject; run `seawall verify` to see what was changed") from None
            yield letter


def redriven(bus: Bus) -> dict[str, int]:
    """Return where on ``redrive`` each place on ``rejects`` stands that was sent in again."""
    found = {}
    for stored in _kept(bus, REDRIVE, 0) if bus.partitions(REDRIVE) else ():
        try:
            found[Redrive.decode(stored.value).reject] = stored.offset
        except Rejected:  # somebody else's: the sequencer rejects it
            continue
    return found


def _kept(bus: Bus, topic: str, partition: int) -> Iterator[Stored]:
    """Yield the records of a partition that retention left, in order."""
    offset = bus.start(topic, partition)
    while found := bus.read(topic, partition, offset):
        yield from found
        offset = found[-1].offset + 1


def choose_dead_letters(
    found: Iterable[DeadLetter],
    places: Collection[str] = (),
    reasons: Collection[str] = (),
    sources: Collection[str] = (),
) -> list[DeadLetter]:
    """Return the letters of some places (or ids), reasons and sources; an empty collection does not choose.

    Raises
    ------
    UsageError
        A place names none.
    """
    wanted = set(places)
    chosen = [
        one
        for one in found
        if (not places or one.place in wanted or one.id in wanted)
        and (not reasons or one.body["reason"] in reasons)
        and (not sources or one.source in sources)
    ]
    missing = wanted - {one.place for one in chosen} - {one.id for one in chosen}
    if missing and not reasons and not sources:
        raise UsageError(f"there is no reject {min(missing)}; see: seawall rejects list")
    return chosen


class Redriver:
    """Sends rejected records in again.

    Parameters
    ----------
    bus
        Where they stand.
    feeds
        The mappings of sources that have one, as configured now.
    by, why
        Who sends them, and what was mended.
    """

    def __init__(self, bus: Bus, feeds: dict[str, RecordMapping], by: str, why: str) -> None:
        self._bus, self._feeds, self._by, self._why = bus, feeds, by, why

    def send(self, chosen: list[DeadLetter], replacement: str = "", dry: bool = False) -> list[RedriveOutcome]:
        """Send letters that would be accepted now, as far as they can be judged alone; say what became of each.

        Raises
        ------
        PartitionLocked
            Somebody else is sending at this moment.
        """
        if dry:
            return [self._judged(one, replacement, one.redriven)[0] for one in chosen]
        writer = self._bus.writer([(REDRIVE, 0)])
        try:
            sent, outcomes = redriven(self._bus), []  # once more, now that nobody else can send
            for number, one in enumerate(chosen, 1):
                outcome, redrive = self._judged(one, replacement, sent.get(one.place, -1))
                outcomes.append(outcome)
                if redrive is not None:
                    at = writer.end(REDRIVE, 0)
                    headers = {"seawall-id": f"0-{at}-0", "seawall-n": str(at)}
                    writer.append(REDRIVE, 0, REDRIVE, _encode(redrive), headers)
                if number % FLUSH_RECORDS == 0:
                    writer.flush()
            writer.flush()
            return outcomes
        finally:
            writer.close()

    def _judged(self, letter: DeadLetter, replacement: str, redriven_at: int) -> tuple[RedriveOutcome, Redrive | None]:
        if redriven_at >= 0:
            return RedriveOutcome(
                letter.place, "already", f"it was sent in again at {REDRIVE}/0 offset {redriven_at}"
            ), None
        if letter.body.get("truncated") and not replacement:
            text = f"only its first {len(letter.original)} of {letter.body['bytes']} bytes were kept, because no record"
            text += " may exceed 256 KiB; send smaller records to its source, or one in its place with --replace"
            return RedriveOutcome(letter.place, "refused", text), None
        source = self._source(letter)
        content = replacement.encode() or letter.original
        try:
            dataflows.redriven_event(content, self._feeds.get(source))
        except Rejected as rejected:
            return RedriveOutcome(letter.place, "refused", f"it would be rejected again: {rejected}"), None
        redrive = self._record(letter, source, replacement)
        if len(_encode(redrive)) > SLICE_BYTES_MAX:
            return RedriveOutcome(letter.place, "refused", "it is too large together with its replacement"), None
        return RedriveOutcome(letter.place, "sent", "it is taken by the next run, or by the one that is alive"), redrive

    def _record(self, letter: DeadLetter, source: str, replacement: str) -> Redrive:
        kept = {name: letter.body[name] for name in ("original", "original_base64") if name in letter.body}
        return Redrive(
            reject=letter.place,
            source=source,
            reason=letter.body["reason"],
            by=self._by,
            why=self._why,
            at_us=time.time_ns() // 1000,
            replacement=replacement,
            **kept,
        )

    def _source(self, letter: DeadLetter) -> str:
        """Return the source whose mapping counts: the first one's, where a redriven record was rejected again.

        What ``risk`` rejects comes from the journal, as an input record.
        """
        source = letter.source
        if source == "journal":
            return ""
        if source == REDRIVE:
            stored = self._bus.read(REDRIVE, 0, letter.body["source"]["offset"], 1)
            try:
                return Redrive.decode(stored[0].value).source
            except (Rejected, IndexError):
                return ""
        return source
