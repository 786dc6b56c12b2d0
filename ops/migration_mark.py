"""The mark of a migration in a run's folder: which bus may not be used, and why.

While records are copied the target may not run: half a journal would be continued. Once they stand there the source may
not: two journals would grow from one.
"""

from pathlib import Path
from typing import NamedTuple

import orjson

from seawall.connectors.whole_files import write_whole
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import UsageError

MARK = "migration.json"
COPYING, MOVED = "copying", "moved"


class Mark(NamedTuple):
    """From which bus to which, and whether that is over."""

    state: str
    source: str
    target: str


def bus_of(configuration: Configuration) -> str:
    """Return the bus of a configuration without the file that its settings are in."""
    return configuration.bus.partition("?")[0]


def write_mark(folder: Path, mark: Mark) -> None:
    """Write the mark, whole or not at all."""
    write_whole([(folder / MARK, orjson.dumps(mark._asdict()))])


def check_source(source: Configuration, target: Configuration) -> None:
    """Refuse to move a journal from where it is no longer, or not wholly; the same move may be begun again.

    Raises
    ------
    UsageError
        The journal has moved from the source to another bus than the target, or the source is an unfinished copy.
    """
    mark = _mark_in(source.directory)
    if mark is not None and (mark.source, mark.target) != (bus_of(source), bus_of(target)):
        check_mark(source)


def check_mark(configuration: Configuration) -> None:
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


def _mark_in(folder: Path) -> Mark | None:
    """Return the mark of a folder, None where there is none that can be read."""
    try:
        return Mark(**orjson.loads((folder / MARK).read_bytes()))
    except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
        return None
