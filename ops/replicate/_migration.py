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

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import orjson

from seawall.connectors.bus import ANY_PARTITIONS, TOPICS, Bus, cluster_of, topic_partitions
from seawall.connectors.files import write_atomically
from seawall.ops.replicate._copy import (
    UNUSED,
    CopyTerms,
    Ends,
    Progress,
    TopicPartition,
    check_nothing_else,
    copy,
    open_buses,
)
from seawall.schemas.configuration import RUN_FILE, UNCHANGEABLE, Configuration
from seawall.schemas.errors import BusError, UsageError

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
    moved = Counter[str]()
    with open_buses(source.bus, target.bus, source.directory) as (begin, there):
        ends = source_ends(begin, source)
        if not ends:
            raise UsageError(f"{source.bus} holds no records; there is nothing to move")
        with closing(begin.writer(ends)):
            mark = MigrationMark(COPYING, bus_of(source), bus_of(target))
            prepare_target(there, ends, target)
            write_mark(source.directory, mark)
            copy(begin, there, ends, CopyTerms(), seen, read_back=True)
            for reader, topics in (("sequence", target.topics), ("market", target.market_topics)):
                for topic in topics:
                    cluster_of(there).pin_topic(topic, reader)  # live: the copy has the offsets of what was read
            write_mark(source.directory, mark._replace(state=MOVED))
    for (topic, _), end in ends.items():
        moved[topic] += end
    if target.path != (run_file := target.directory / RUN_FILE):
        write_atomically([(run_file, target.path.read_bytes())])
    return dict(moved)


def prepare_target(there: Bus, ends: Ends, target: Configuration) -> None:
    """Make the topics of a development target; raise Divergence where it holds partitions that are not copied."""
    wanted = topic_partitions(target)
    for topic in [topic for topic, count in wanted.items() if count == ANY_PARTITIONS]:
        found = [partition for name, partition in ends if name == topic]
        if found and target.environment == "dev":
            wanted[topic] = max(found) + 1  # live inputs are made for as many as they have now
    cluster_of(there).provide(wanted, make=target.environment == "dev")
    told = f"{target.bus} holds {{}}, which the source does not have: {UNUSED}"
    check_nothing_else(there, (*there.topics(), *target.topics), ends, told)


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


def source_ends(bus: Bus, configuration: Configuration) -> dict[TopicPartition, int]:
    """Return up to where each partition is copied: live inputs first, the journal last, as nothing is whole without it.

    Raises
    ------
    BusError
        Retention has taken records: what is left would get other offsets.
    """
    topics = [*configuration.topics, *(topic for topic in TOPICS if topic != "journal"), "journal"]
    ends = {}
    for topic in dict.fromkeys(topics):
        for partition in bus.partitions(topic):
            if first := bus.start(topic, partition):
                text = f"{topic}/{partition} begins at {first}: what retention took cannot be copied"
                raise BusError(f"{text}; begin another journal, or bring those records back")
            ends[topic, partition] = bus.end(topic, partition)
    return ends
