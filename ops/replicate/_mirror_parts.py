"""Parts of a run that a mirror may copy next, so that the topics of the copy agree at whatever moment the copying ends.

A part is the content of one transaction on the copy. The records themselves say which of them belong together, so
nothing depends on how fast the run writes:

1. `JournalParts`: whole steps over all shards, with the rejects that their slices state. A transaction becomes visible
   on one partition before another, so the newest step that was seen counts once every shard had nothing under way
   *after* it was seen, and was then read to its end. Of a shard with a transaction under way its own last step is left.
2. `DerivedParts`: whole slices of one partition as their audit states them, where their journal is on the copy.
3. `sealed_part`: checkpoints whose audit is there.
"""

from collections import Counter, deque
from itertools import takewhile
from typing import Any, NamedTuple

import msgspec
import orjson

from seawall.connectors.bus import Bus, cluster_of, written_topics
from seawall.ops.replicate._copy import BATCH_RECORDS, Ends, Part, read_batch, read_exactly
from seawall.schemas.errors import BusError, Gap
from seawall.schemas.records import Rejects, Stored
from seawall.schemas.transparency import parse_checkpoint, parse_note

HELD_MAX = 2 * BATCH_RECORDS  # slices of a shard in memory; only those of one step may be more
SLICES_MAX = 100  # of one transaction on a derived partition
Step = tuple[int, int, bool, bool]
FIRST: Step = (-1, 0, False, False)


class _Head(msgspec.Struct):
    """What a slice says of the step that it belongs to; the same in every shard, and later in every later step."""

    as_of_us: int
    more: bool = False
    second: bool = False
    rejects: Rejects | None = None
    sources: dict[str, list[int]] = {}

    def step(self) -> Step:
        return self.as_of_us, sum(at[0] for at in self.sources.values()), not self.more, self.second


class _Waiting(NamedTuple):
    step: Step
    rejected: int
    stored: Stored


_decode = msgspec.json.Decoder(_Head).decode


class JournalParts:
    """The journal of a source, in parts that end between two of its sequencer's transactions.

    Parameters
    ----------
    bus
        The source.
    shards
        Of the journal.
    ends
        Up to where each partition stands on the copy; whoever writes there keeps it.
    """

    def __init__(self, bus: Bus, shards: int, ends: Ends) -> None:
        self._bus, self._shards, self._ends = bus, range(shards), ends
        self._waiting = [deque[_Waiting]() for _ in self._shards]
        self._held_max = HELD_MAX

    def take(self) -> Part:
        """Return the next whole steps; nothing where none is known to be whole."""
        for shard in self._shards:
            self._read(shard)
        if not any(self._waiting):
            return {}
        newest = max(waiting[-1].step for waiting in self._waiting if waiting)
        bound = min(self._whole_until(shard, newest) for shard in self._shards)
        taken = {shard: self._pop(waiting, bound) for shard, waiting in enumerate(self._waiting)}
        if not any(taken.values()):
            held = max(map(len, self._waiting))
            self._held_max = 2 * held if held >= self._held_max else self._held_max
            return {}
        self._held_max = HELD_MAX
        part = {("journal", shard): [one.stored for one in some] for shard, some in taken.items() if some}
        stated = {one.step: one.rejected for some in taken.values() for one in some}
        place = "rejects", len(self._shards)
        if count := sum(stated.values()):
            part[place] = read_exactly(self._bus, *place, self._ends[place], count)
        return part

    def _whole_until(self, shard: int, newest: Step) -> tuple[Step, bool]:
        """Return the last step that a shard has wholly given, and whether that itself is among them."""
        settled, waiting = not cluster_of(self._bus).has_open_transaction("journal", shard), self._waiting[shard]
        ended = False
        while len(waiting) < self._held_max and not ended:
            ended = not self._read(shard)
        if settled and ended:
            return newest, True
        return (waiting[-1].step if waiting else FIRST), False

    def _read(self, shard: int) -> bool:
        """Read on, where there is room; tell whether anything came."""
        waiting = self._waiting[shard]
        if len(waiting) >= self._held_max:
            return False
        at = waiting[-1].stored.offset + 1 if waiting else self._ends["journal", shard]
        found = read_batch(self._bus, "journal", shard, at)
        waiting.extend(_waiting(shard, stored) for stored in found)
        return bool(found)

    @staticmethod
    def _pop(waiting: deque[_Waiting], bound: tuple[Step, bool]) -> list[_Waiting]:
        taken = list(takewhile(lambda one: (one.step, False) < bound, waiting))
        for _ in taken:
            waiting.popleft()
        return taken


class DerivedParts:
    """What ``risk`` wrote to one partition of its topics, in parts of whole slices; parameters as above."""

    def __init__(self, bus: Bus, partition: int, shards: int, ends: Ends) -> None:
        self._bus, self._partition, self._ends = bus, partition, ends
        self._topics = [topic for topic in written_topics(partition, shards) if topic != "audit"]

    def take(self) -> Part:
        """Return the next slices whose journal stands on the copy, at most ``SLICES_MAX``; nothing where none is."""
        audit, stated = self._audited()
        if not audit:
            return {}
        places = [(topic, self._partition) for topic in self._topics if stated[topic]]
        part = {place: read_exactly(self._bus, *place, self._ends[place], stated[place[0]]) for place in places}
        return {**part, ("audit", self._partition): audit}

    def _audited(self) -> tuple[list[Stored], Counter[str]]:
        """Return the audit of the next whole slices, and how many records it states by topic."""
        read, whole, slices, stated = list[Stored](), 0, 0, Counter[str]()
        at = self._ends["audit", self._partition]
        while not whole and (found := read_batch(self._bus, "audit", self._partition, at)):
            for stored in found:
                read.append(stored)
                body = _closing(self._partition, stored)
                if body is None:
                    continue
                if slices == SLICES_MAX or not self._stands(body["inputs"]):
                    return read[:whole], stated
                whole, slices = len(read), slices + 1
                stated.update({topic: count for topic, (count, _) in body["topics"].items()})
            at = found[-1].offset + 1
        return read[:whole], stated

    def _stands(self, inputs: list[list[Any]]) -> bool:
        """Tell whether the journal that a slice or second was decided on stands on the copy."""
        return all(self._ends["journal", shard[0] if shard else self._partition] > seq for *shard, seq, _ in inputs)


def sealed_part(bus: Bus, partition: int, ends: Ends) -> Part:
    """Return the next checkpoints of a partition, as far as the audit that they seal stands on the copy."""
    place = "checkpoints", partition
    found = read_batch(bus, *place, ends[place])
    audited = ends["audit", partition]
    taken = list(takewhile(lambda one: parse_checkpoint(parse_note(one.value).text).size <= audited, found))
    return {place: taken} if taken else {}


def time_of(stored: Stored) -> int:
    """Return the ``as_of_us`` of a slice."""
    return _decode(stored.value).as_of_us


def _waiting(shard: int, stored: Stored) -> _Waiting:
    try:
        head = _decode(stored.value)
    except msgspec.MsgspecError as error:
        text = f"journal/{shard} offset {stored.offset} is no slice ({error})"
        raise Gap(f"{text}; run `seawall verify` on the source") from None
    return _Waiting(head.step(), 0 if head.rejects is None else head.rejects.count, stored)


def _closing(partition: int, stored: Stored) -> dict[str, Any] | None:
    """Return what an audit record says of its slice or second as a whole, None where it is not the one that does."""
    try:
        found = orjson.loads(stored.value)
        return dict(found["body"]) if found["kind"] in ("slice", "second") else None
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        text = f"audit/{partition} offset {stored.offset} is no audit record ({error})"
        raise BusError(f"{text}; run `seawall verify` on the source") from None
