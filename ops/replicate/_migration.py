"""Migration, ``seawall migrate``: moves a journal and all its topics from one bus to another, record by record.

1. Both configurations lie in one folder and say the same of whatever never changes. Nobody may be writing.
2. From then until everything was compared, a mark in the folder keeps runs from the target.
3. Topics are copied, the journal last. The target must hold what the source begins with: a copy that was killed goes on
   where it stopped, and a target with other records is refused.
4. Every record is read back from both and compared: offset, key, headers, value.
5. The mark then keeps runs from the source: a journal has one bus. ``run.toml`` becomes the new configuration.

Keys, recovery stores and tiles stay where they are. Offsets are the same on every bus, so states go on as they were.
The mark names the bus that may not be used, and why: while records are copied the target may not run, or half a journal
would be continued; afterwards the source may not, or two journals would grow from one.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from seawall.connectors.bus import ANY_PARTITIONS, TOPICS, Bus, open_bus, topic_partitions
from seawall.connectors.files import write_atomically
from seawall.schemas.configuration import UNCHANGEABLE, Configuration
from seawall.schemas.errors import BusError, Divergence, Gap, UsageError
from seawall.schemas.records import Stored

# The mark of a migration in a run's folder: which bus may not be used, and why.
#
# While records are copied the target may not run: half a journal would be continued. Once they stand there the source
# may not: two journals would grow from one.

MARK = "migration.json"
COPYING, MOVED = "copying", "moved"


class MigrationMark(NamedTuple):
    """From which bus to which, and whether that is over."""

    state: str
    source: str
    target: str


def bus_of(configuration: Configuration) -> str:
    """Return the bus of a configuration without the file that its settings are in."""
    return configuration.bus.partition("?")[0]


def write_mark(folder: Path, mark: MigrationMark) -> None:
    """Write the mark, whole or not at all."""
    write_atomically([(folder / MARK, orjson.dumps(mark._asdict()))])


def check_source(source: Configuration, target: Configuration) -> None:
    """Refuse to move a journal from where it is no longer, or not wholly; the same move may be begun again.

    Raises
    ------
    UsageError
        The journal has moved from the source to another bus than the target, or the source is an unfinished copy.
    """
    mark = _mark_in(source.directory)
    if mark is not None and (mark.source, mark.target) != (bus_of(source), bus_of(target)):
        check_migration_mark(source)


def check_migration_mark(configuration: Configuration) -> None:
    """Refuse to run on a bus that a migration says is not to be used.

    Raises
    ------
    UsageError
        The copy is not whole, or the journal has moved.
    """
    path = configuration.directory / MARK
    if not path.exists():
        return
    mark = _mark_in(configuration.directory)
    if mark is None:
        raise UsageError(f"{path} is unreadable; run `seawall migrate` again, which writes it anew")
    if mark.state == COPYING and bus_of(configuration) == mark.target:
        raise UsageError(
            f"{mark.target} holds an unfinished copy of {mark.source}; run `seawall migrate` again to finish it"
        )
    if mark.state == MOVED and bus_of(configuration) == mark.source:
        raise UsageError(
            f"this journal has moved from {mark.source} to {mark.target}; run with that bus, or move it back with "
            f"`seawall migrate`"
        )


def _mark_in(folder: Path) -> MigrationMark | None:
    """Return the mark of a folder, None where there is none that can be read."""
    try:
        return MigrationMark(**orjson.loads((folder / MARK).read_bytes()))
    except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
        return None


# ``seawall migrate``: a journal and all its topics, from one bus to another, record by record.
#
# 1. Both configurations lie in one folder and say the same of whatever never changes. Nobody may be writing.
# 2. From then until everything was compared, a mark in the folder keeps runs from the target.
# 3. Topics are copied, the journal last. What stands on the target must be what the source begins with: a copy that was
#    killed goes on where it stopped, and a target with other records is refused.
# 4. Every record is read back from both and compared: offset, key, headers, value.
# 5. The mark then keeps runs from the source: a journal has one bus. ``run.toml`` becomes the new configuration.
#
# Keys, recovery stores and tiles stay where they are. Offsets are the same on every bus, so states go on as they were.

BATCH_RECORDS = 1000
Progress = Callable[[int], None]


class PartitionSize(NamedTuple):
    """A partition, and how many records it holds on the source."""

    topic: str
    partition: int
    end: int


def migrate(source: Configuration, target: Configuration, seen: Progress = lambda count: None) -> dict[str, int]:
    """Move everything to another bus; return the records by topic.

    Parameters
    ----------
    source, target
        Configurations in one folder, the same but for ``bus``.
    seen
        Is told of every batch that was copied or compared, in records.

    Raises
    ------
    UsageError
        The configurations do not fit, the target is none, or the journal has moved from the source before.
    PartitionLocked
        A run on the source is alive.
    Divergence
        The target holds other records.
    """
    check_configurations(source, target)
    check_source(source, target)
    begin, there = open_bus(source.bus, source.directory), open_bus(target.bus, target.directory)
    places = source_partitions(begin, source)
    if not places:
        raise UsageError(f"{source.bus} holds no records; there is nothing to move")
    locks = begin.writer([(place.topic, place.partition) for place in places])
    try:
        mark = MigrationMark(COPYING, bus_of(source), bus_of(target))
        prepare_target(there, places, target)
        write_mark(source.directory, mark)
        copy_all(begin, there, places, seen)
        _keep(there, target)
        write_mark(source.directory, mark._replace(state=MOVED))
    finally:
        locks.close()
        begin.close()
        there.close()
    return {topic: sum(p.end for p in group) for topic, group in itertools.groupby(places, key=lambda p: p.topic)}


def prepare_target(there: Bus, places: list[PartitionSize], target: Configuration) -> None:
    """Make the topics of a development target; raise Divergence where it holds partitions that are not copied."""
    there.provide(_wanted(target, places), make=target.environment == "dev")
    _check_nothing_else(there, places, target)


def copy_all(begin: Bus, there: Bus, places: list[PartitionSize], seen: Progress) -> None:
    """Copy partitions in the order given, then read back and compare every record."""
    for topic, group in itertools.groupby(places, key=lambda place: place.topic):
        _copy(begin, there, topic, list(group), seen)
    for place in places:
        _compare(begin, there, place, place.end, seen)
        if there.end(place.topic, place.partition) != place.end:
            raise Divergence(f"{place.topic}/{place.partition} grew meanwhile; stop whoever writes there")


def _keep(there: Bus, target: Configuration) -> None:
    """Note of the live inputs that the copies are what was read: their offsets are those of the source."""
    for reader, topics in (("sequence", target.topics), ("market", target.market_topics)):
        for topic in topics:
            there.keep_to(topic, False, reader)


def check_configurations(source: Configuration, target: Configuration) -> None:
    """Check that two configurations are of one journal on two buses; raise UsageError where they are not."""
    if source.directory != target.directory:
        text = f"{target.path.name} lies in another folder; keys, recovery stores and tiles stay in {source.directory}"
        raise UsageError(f"{text}: put it there")
    if bus_of(source) == bus_of(target):
        raise UsageError(f"both configurations name the bus {source.bus}; set another one in {target.path.name}")
    terms = [(name, getattr(source, name), getattr(target, name)) for name in (*UNCHANGEABLE, "topics", "sources")]
    for name, was, now in [*terms, ("[market] groups", source.market.groups, target.market.groups)]:
        if was != now:
            raise UsageError(f"{target.path.name}: {name} is {now!r} but {was!r} in {source.path.name}; set it back")


def source_partitions(bus: Bus, configuration: Configuration) -> list[PartitionSize]:
    """Return the partitions to copy: live inputs first, the journal last, so that no half of it is without its rest.

    Raises
    ------
    BusError
        Retention has taken records: what is left would get other offsets.
    """
    topics = [*configuration.topics, *(topic for topic in TOPICS if topic != "journal"), "journal"]
    places = []
    for topic in dict.fromkeys(topics):
        for partition in bus.partitions(topic):
            if first := bus.start(topic, partition):
                text = f"{topic}/{partition} begins at {first}: what retention took cannot be copied"
                raise BusError(f"{text}; begin another journal, or bring those records back")
            places.append(PartitionSize(topic, partition, bus.end(topic, partition)))
    return places


def _wanted(target: Configuration, places: list[PartitionSize]) -> dict[str, int]:
    """Return the partitions that the target is to have; live inputs are made for as many as they have now."""
    wanted = topic_partitions(target)
    for topic in [topic for topic, count in wanted.items() if count == ANY_PARTITIONS]:
        found = [place.partition for place in places if place.topic == topic]
        if found and target.environment == "dev":
            wanted[topic] = max(found) + 1
    return wanted


def _check_nothing_else(there: Bus, places: list[PartitionSize], target: Configuration) -> None:
    known = {(place.topic, place.partition) for place in places}
    for topic in dict.fromkeys((*there.topics(), *target.topics)):
        for partition in there.partitions(topic):
            if (topic, partition) not in known:
                text = f"{target.bus} holds {topic}/{partition}, which the source does not have"
                raise Divergence(f"{text}: choose a bus, or a prefix, that nobody has used")


def _copy(begin: Bus, there: Bus, topic: str, places: list[PartitionSize], seen: Progress) -> None:
    """Bring all partitions of a topic up to the source; compare what stands before."""
    writer = there.copier([(topic, place.partition) for place in places])
    try:
        for place in places:
            stands = writer.end(topic, place.partition)
            if stands > place.end:
                raise Divergence(f"{topic}/{place.partition} holds {stands} records, more than the {place.end} to copy")
            _compare(begin, there, place, stands, seen)
            for number, stored in enumerate(records(begin, topic, place.partition, stands, place.end), stands):
                if stored.offset != number:
                    text = f"{topic}/{place.partition} has no record {number}: its offsets have gaps"
                    raise Gap(f"{text}, which no other bus can give it; begin another journal there")
                writer.append(topic, place.partition, stored.key, stored.value, stored.headers)
                if (number + 1) % BATCH_RECORDS == 0:
                    writer.flush()
                    seen(BATCH_RECORDS)
            writer.flush()
    finally:
        writer.close()


def _compare(begin: Bus, there: Bus, place: PartitionSize, end: int, seen: Progress) -> None:
    """Compare the records before ``end`` on both sides, every byte of them."""
    one = records(begin, place.topic, place.partition, 0, end)
    other = records(there, place.topic, place.partition, 0, end)
    for number, (wanted, found) in enumerate(itertools.zip_longest(one, other)):
        if wanted != found or list(wanted.headers.items()) != list(found.headers.items()):
            text = f"{place.topic}/{place.partition} offset {number} on the target is not what the source has there"
            raise Divergence(f"{text}: choose a bus, or a prefix, that nobody has used")
        if number % BATCH_RECORDS == 0:
            seen(BATCH_RECORDS)


def records(bus: Bus, topic: str, partition: int, offset: int, end: int) -> Iterator[Stored]:
    """Yield the records of a partition from ``offset`` to before ``end``."""
    while offset < end and (found := bus.read(topic, partition, offset, min(BATCH_RECORDS, end - offset))):
        yield from found
        offset = found[-1].offset + 1


def save(target: Configuration, run_file: Path) -> None:
    """Keep the new configuration as that of the folder, whole or not at all."""
    if target.path != run_file:
        write_atomically([(run_file, target.path.read_bytes())])


def migration_json(moved: dict[str, int], target: Configuration) -> str:
    """Return what was moved as a JSON object."""
    return json.dumps({"bus": target.bus, "records": moved})
