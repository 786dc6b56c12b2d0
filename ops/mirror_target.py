"""The copy that a mirror writes: whose it may be, up to where it stands, and its writers.

A partition is written under the name by which a dataflow writes it, so on a cluster a run that begins on the copy
fences the mirror, whose next transaction fails; on the embedded bus the mirror's locks keep a run away while it lives.
On a cluster writers are opened when there is something to write, after what stands was compared: a copy on which a run
went on is told from the source by its bytes, and nobody is fenced there. Then all of them are, at once: one that opened
later would fence the run that has begun on the copy meanwhile, before its own first transaction fails.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable

from seawall.connectors.appending import written_topics
from seawall.connectors.bus import TOPICS, Bus, Writer
from seawall.connectors.kafka.address import is_numbered
from seawall.ops.mirror_parts import Part, Place, exactly
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import BusError, Divergence, Gap

JOIN_RECORDS = 100  # compared before the join, and as many at the beginning
INPUTS = ("signals", "acknowledgements", "redrive")
ELSE = "choose a bus, or a prefix, that nobody has used; if a run has begun there, this mirror has done its part"


class Grown(BusError):
    """A writer before this one had records under way, which stand now and are compared before the next try."""


def owned(configuration: Configuration) -> list[list[Place]]:
    """Return the partitions of a run that are mirrored, by writer, as its dataflows have them."""
    shards = configuration.shards
    journal = [*(("journal", shard) for shard in range(shards)), ("rejects", shards)]
    derived = [[(topic, part) for topic in written_topics(part, shards)] for part in range(shards + 1)]
    taken = [*(("signals", group) for group in range(configuration.market.groups)), *((name, 0) for name in INPUTS[1:])]
    sealed = [("checkpoints", part) for part in range(shards + 1)]
    return [journal, *derived, *([place] for place in (*taken, *sealed))]


class Target:
    """Writes parts to the copy, each in a transaction of its own.

    Parameters
    ----------
    begin, there
        The source and the copy.
    groups
        Partitions by writer.
    copied
        Counts records by topic as they come to stand.

    Attributes
    ----------
    ends
        Up to where each partition of the copy stands.

    Raises
    ------
    Divergence
        The copy holds other records than the source, or more.
    Gap
        Retention took records of the source before they were copied.
    """

    def __init__(self, begin: Bus, there: Bus, groups: list[list[Place]], copied: Counter[str]) -> None:
        self._bus, self._copied = there, copied
        self._groups = {place: tuple(group) for group in groups for place in group}
        self._writers: dict[tuple[Place, ...], Writer] = {}
        self._under_way: list[tuple[Writer, Part]] = []
        _check_nothing_else(there, set(self._groups))
        self.ends = {place: there.end(*place) for place in self._groups}
        for place, stands in self.ends.items():
            _check_joins(begin, there, place, stands)
        if not there.fences:
            self._open(self._groups.values())  # who writes any part of the copy is found before anything is written

    def put(self, part: Part) -> None:
        """Begin to write a part, whose places have one writer; ``flush`` says whether it stands."""
        if not part:
            return
        group = self._groups[next(iter(part))]
        if group not in self._writers:
            named = is_numbered(group[0][0])
            self._open([one for one in self._groups.values() if is_numbered(one[0][0])] if named else [group])
        writer = self._writers[group]
        for (topic, partition), records in part.items():
            for stored in records:
                writer.append(topic, partition, stored.key, stored.value, stored.headers)
        writer.submit()
        self._under_way.append((writer, part))

    def flush(self) -> None:
        """Return once everything that was put stands."""
        for writer, part in self._under_way:
            writer.flush()
            for place, records in part.items():
                self.ends[place] += len(records)
                self._copied[place[0]] += len(records)
        self._under_way.clear()

    def close(self) -> None:
        """Let the partitions go; what was not flushed may stand or not."""
        for writer in self._writers.values():
            with contextlib.suppress(BusError):
                writer.close()
        self._writers.clear()

    def _open(self, groups: Iterable[tuple[Place, ...]]) -> None:
        """Become the writer of groups of partitions that stand where they were compared."""
        fresh = [group for group in dict.fromkeys(groups) if group not in self._writers]
        for group in fresh:
            # Locks of one host name no cluster: the source's run would hold those of the copy. `take` does without.
            named = is_numbered(group[0][0])
            self._writers[group] = self._bus.writer(group, take=True) if named else self._bus.copier(group)
        for topic, partition in (place for group in fresh for place in group):
            stood = self.ends[topic, partition]
            if (end := self._writers[self._groups[topic, partition]].end(topic, partition)) != stood:
                text = f"{topic}/{partition} on the target grew from {stood} records to {end} meanwhile"
                raise Grown(f"{text}: a writer before this one had them under way")


def _check_nothing_else(there: Bus, known: set[Place]) -> None:
    for topic in there.topics():
        for partition in there.partitions(topic) if topic in TOPICS else ():
            if (topic, partition) not in known:
                text = f"the target holds {topic}/{partition}, which a mirror of this run does not write"
                raise Divergence(f"{text}: {ELSE}")


def _check_joins(begin: Bus, there: Bus, place: Place, stands: int) -> None:
    """Compare the first and the last records that stand in a partition of the copy with those of the source."""
    topic, partition = place
    if (first := begin.start(*place)) > stands:
        text = f"{topic}/{partition} begins at {first} on the source, and {stands} records stand on the target"
        raise Gap(f"{text}: retention took those in between; lengthen it, and restore them from a backup")
    if stands > (end := begin.end(*place) if stands else 0):
        text = f"{topic}/{partition} holds {stands} records on the target, more than the {end} of the source"
        raise Divergence(f"{text}: {ELSE}")
    for at in {first, max(first, stands - JOIN_RECORDS)}:
        count = min(JOIN_RECORDS, stands - at)
        pairs = zip(*(exactly(bus, topic, partition, at, count) for bus in (begin, there)), strict=True)
        for number, (wanted, found) in enumerate(pairs, at):
            if wanted != found or list(wanted.headers.items()) != list(found.headers.items()):
                text = f"{topic}/{partition} offset {number} on the target is not what the source has there"
                raise Divergence(f"{text}: {ELSE}")
