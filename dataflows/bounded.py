"""The bounded inputs of a run, opened where its journal stands and merged into one stream.

Files are merged by (effective time, place in ``events``, line), and after them the signals that ``market`` has made of
them. What was sent in again comes after everything else.
"""

import heapq
from collections.abc import Iterator, Mapping
from itertools import chain

from seawall.connectors.bus import Bus
from seawall.connectors.feeds import Feed
from seawall.connectors.files import Lines
from seawall.dataflows.inputs import Clock, FileSource, RedriveSource, SignalsSource
from seawall.operators.core.rejects import Place
from seawall.operators.core.standing import Standing
from seawall.operators.core.ticks import Item
from seawall.schemas.configuration import Configuration
from seawall.schemas.events import NO_TIME
from seawall.schemas.redrives import REDRIVE

SIGNALS = "signals"


class Bounded:
    """The bounded inputs of a configuration.

    Parameters
    ----------
    configuration, bus
        Where they are.
    standing
        How far the journal has them.
    clock
        Microseconds since the epoch.
    feeds
        What maps foreign records, by source.

    Attributes
    ----------
    places
        What the journal calls the sources, by their numbers.

    Raises
    ------
    UsageError
        A file cannot be read.
    """

    def __init__(
        self, configuration: Configuration, bus: Bus, standing: Standing, clock: Clock, feeds: Mapping[str, Feed]
    ) -> None:
        self._configuration, self._bus, self._clock, self._feeds = configuration, bus, clock, feeds
        self._standing = standing
        self._files = self._open_files()
        self.places = [Place(name) for name in configuration.sources]
        self._signals = [] if configuration.topics else self._open_signals()
        self._redriven = iter(()) if configuration.topics else self._open_redriven()

    def items(self) -> Iterator[Item]:
        """Return all records in their order, once."""
        read = [source.items() for source in self._files] + [source.items() for source in self._signals]
        return chain(_merged(read), self._redriven)

    def first_time(self) -> int | None:
        """Return the first event time of all files, None where none has one."""
        times = []
        for source, path in zip(self._files, self._configuration.events, strict=True):
            lines = Lines(self._configuration.directory / path)
            feed = self._feeds.get(source.place.name)
            times.append(FileSource(source.number, source.place, lines, NO_TIME, self._clock, feed).first_time())
            lines.close()
        return min((first for first in times if first != NO_TIME), default=None)

    def _open_files(self) -> list[FileSource]:
        configuration = self._configuration
        sources = []
        for number, (path, name) in enumerate(zip(configuration.events, configuration.sources, strict=True)):
            line, offset, high = self._standing.positions.get(name, [1, 0, NO_TIME])
            lines = Lines(configuration.directory / path, line, offset)
            sources.append(FileSource(number, Place(name), lines, high, self._clock, self._feeds.get(name)))
        return sources

    def _open_signals(self) -> list[SignalsSource]:
        """Return the signals, which are read from the first step on: ``market`` has ended by then."""
        sources = []
        for group in range(self._configuration.market.groups):
            place = Place(SIGNALS, group)
            offset, _, high = self._standing.positions.get(place.key, [0, 0, NO_TIME])
            sources.append(SignalsSource(len(self.places), place, self._bus, offset, high))
            self.places.append(place)
        return sources

    def _open_redriven(self) -> Iterator[Item]:
        """Return what was sent in again by now, which comes after everything else."""
        if not self._bus.partitions(REDRIVE):
            return iter(())
        place = Place(REDRIVE, 0)
        offset, _, high = self._standing.positions.get(place.key, [0, 0, NO_TIME])
        self.places.append(place)
        source = RedriveSource(len(self.places) - 1, place, self._bus, offset, high, self._feeds)
        return source.items(self._clock())


def _merged(sources: list[Iterator[Item]]) -> Iterator[Item]:
    """Merge sources by (effective time, number of the source); each is in order itself."""
    return sources[0] if len(sources) == 1 else heapq.merge(*sources)
