"""Carrying over: the state from which this version goes on with a journal that an earlier one decided up to its end.

The book is folded from the journal by the rules of today: positions, balances, prices, windows, limits. What was
decided on the way is taken from the records as they stand: levels of limits, commands, modes, cool-downs and deadlines,
the last document, ids, counts and hashes. So what comes next follows what subscribers have (decision 0039).
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import islice

import orjson

from seawall.connectors.bus import Bus, read_all
from seawall.operators.core.audit import GENESIS, leaf_hash
from seawall.operators.core.pipeline import Pipeline
from seawall.schemas.errors import UsageError
from seawall.schemas.records import Record, Slice, Stored, decides_alike, decode_slice

TAKEN = ("breaches", "commands")


class EarlierDecisions:
    """Records of slices that an earlier version decided, read partition by partition along the audit."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._readers: dict[tuple[str, int], Iterator[Stored]] = {}
        self._counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._prev: dict[int, str] = {}

    def take(self, partition: int, seq: int) -> dict[str, list[Record]]:
        """Return breaches and commands of the next slice or second of a partition.

        Raises
        ------
        UsageError
            The audit has no decision on it.
        """
        given = self._audited(partition, seq)
        self._counts[partition].update({topic: count for topic, (count, _) in given.items()})
        return {
            topic: [
                Record(one.key, one.value, one.headers["seawall-id"], one.offset)
                for one in islice(self._reader(topic, partition), given.get(topic, (0, ""))[0])
            ]
            for topic in TAKEN
        }

    def count(self, topic: str, partition: int) -> int:
        """Return how many records the earlier version left in a partition, of what was taken so far."""
        return self._counts[partition][topic]

    def end(self, partition: int) -> tuple[dict[str, int], str, str | None]:
        """Return what was taken of a partition: records by topic, hash of the last audit record, and of the document.

        The document is the last of desired state, which each heartbeat names.
        """
        count = self.count("state", partition)
        last = self._bus.read("state", partition, count - 1, 1) if count else []
        document = orjson.loads(last[0].value)["state_sha256"] if last else None
        return self._counts[partition], self._prev.get(partition, GENESIS), document

    def _reader(self, topic: str, partition: int) -> Iterator[Stored]:
        return self._readers.setdefault((topic, partition), read_all(self._bus, topic, partition))

    def _audited(self, partition: int, seq: int) -> dict[str, tuple[int, str]]:
        """Return count and hash by topic of what was decided on a slice."""
        for stored in self._reader("audit", partition):
            content = orjson.loads(stored.value)
            if content["seq"] != seq:
                break
            self._prev[partition] = leaf_hash(stored.value)
            self._counts[partition]["audit"] = stored.offset + 1
            if content["kind"] in ("slice", "second"):
                topics: dict[str, tuple[int, str]] = content["body"]["topics"]
                return topics
        text = f"audit/{partition} has no decision on slice {seq}, which an earlier version of Seawall was to decide"
        raise UsageError(f"{text}: let it finish (`seawall run` with --only risk, until it idles)")


def carry_over(bus: Bus, shards: int) -> Pipeline:
    """Return the state in which this version begins, behind all that an earlier one decided."""
    risk = Pipeline(shards, earlier=EarlierDecisions(bus))
    for value in slices_in_order(bus, shards, earlier=True):
        risk.step(value)
    risk.take_over()
    return risk


def slices_in_order(
    bus: Bus, shards: int, note: Callable[[Slice], None] = lambda piece: None, earlier: bool = False
) -> Iterator[bytes]:
    """Yield journal values in turns of ``(as_of_us, shard)``, so that seconds complete as they come.

    ``note`` is given each slice as its value is read; with ``earlier`` there are only those before this version's.
    """

    def stream(shard: int) -> Iterator[tuple[int, int, int, bytes]]:
        for stored in read_all(bus, "journal", shard):
            piece = decode_slice(stored.value)
            if earlier and piece.configuration is not None and decides_alike(piece.configuration["code"]):
                return
            note(piece)
            yield piece.as_of_us, shard, stored.offset, stored.value

    for *_, value in heapq.merge(*(stream(shard) for shard in range(shards))):
        yield value
