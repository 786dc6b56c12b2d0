"""Readers by venue, and conversion of recordings: venue messages and OHLCV files as JSON lines of input records.

The venue's counterparty record comes first, then instruments, then events in order of event time: a venue does not send
them in that order (its first message holds earlier trades), so the events of a file are held and sorted.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from seawall.connectors.venues._bars import read_bars
from seawall.connectors.venues._binance import Binance
from seawall.connectors.venues._bitmex_bybit import Bitmex, Bybit
from seawall.connectors.venues._deribit_okx import Deribit, Okx
from seawall.connectors.venues._kraken_dydx import Dydx, KrakenFutures
from seawall.connectors.venues._messages import read_messages
from seawall.connectors.venues._reader import Reader
from seawall.schemas import events as ev
from seawall.schemas.decoding import check_event
from seawall.schemas.errors import Rejected, UsageError

VENUES: dict[str, type[Reader]] = {
    reader.venue: reader for reader in (Binance, Bitmex, Bybit, Deribit, Dydx, KrakenFutures, Okx)
}

NAMED_MAX = 10  # instruments named in a report
PLACES_MAX = 18
_encode = msgspec.json.Encoder().encode


def open_venue(name: str, **options: Any) -> Reader:
    """Return a new reader of a venue's messages.

    Parameters
    ----------
    name
        One of ``VENUES``.
    **options
        As of ``Reader``: ``names``, ``levels``, ``depth_interval_us``.

    Raises
    ------
    UsageError
        There is no such venue; names the nearest one.
    """
    found = VENUES.get(name.lower().replace("-", "_"))
    if found is None:
        near = difflib.get_close_matches(name.lower(), VENUES, 1, 0.4)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(VENUES)}"
        raise UsageError(f"no venue {name} is known; {hint}")
    return found(**options)


class ConvertOptions(NamedTuple):
    """Options of reading messages; see ``Reader``."""

    names: Mapping[str, str]
    levels: int = ev.LEVELS_MAX
    depth_interval_us: int = 0
    describe: bool = False


class ConversionResult(NamedTuple):
    """Result of converting a file."""

    messages: int
    events: Counter[str]
    skipped: Counter[str]
    first_line: dict[str, int]
    lost: dict[str, str]
    undescribed: list[str]
    notes: dict[str, int]

    @property
    def refused(self) -> int:
        """Return how many were unknown or malformed, or lost a book."""
        return sum(
            count for name, count in self.skipped.items() if name.startswith(("unknown:", "malformed:", "book lost:"))
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return self._asdict() | {"refused": self.refused}

    def lines(self) -> list[str]:
        """Return the report for a person."""
        events = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.events.items())) or "none"
        summary = [f"{self.messages:,} messages; events: {events}"]
        for name, count in self.skipped.most_common():
            summary.append(f"left out {count:,} {name} (first in line {self.first_line[name]})")
        summary += [f"{count:,} {name}" for name, count in self.notes.items() if count]
        summary += [f"the book of {symbol} is not known at the end: {why}" for symbol, why in self.lost.items()]
        if self.undescribed:
            shown = ", ".join(self.undescribed[:NAMED_MAX]) + (", …" if len(self.undescribed) > NAMED_MAX else "")
            summary.append(f"{len(self.undescribed)} instruments need instrument records in another input: {shown}")
        return summary


def convert_messages(venue: str, path: Path, options: ConvertOptions, out: IO[bytes]) -> ConversionResult:
    """Write the events of a recording.

    Raises
    ------
    UsageError
        The venue is not known or the file cannot be read.
    """
    reader = open_venue(venue, names=options.names, levels=options.levels, depth_interval_us=options.depth_interval_us)
    events = [event for message in read_messages(path) for event in reader.read(message)]
    events += reader.finish()
    described = _described(reader, events) if options.describe else []
    undescribed = sorted(set(reader.symbols) - reader.described - {record.instrument for record in described})
    counted = _write(reader.venue, reader.title, described, events, out)
    return ConversionResult(reader.messages, counted, reader.skipped, reader.first_line, reader.lost, undescribed, {})


def convert_bars(
    path: Path, venue: str, instrument: str, interval_s: int, stamp: str, out: IO[bytes]
) -> ConversionResult:
    """Write the bars of an OHLCV file.

    Raises
    ------
    UsageError
        Venue or instrument are missing or no identifiers, or the file cannot be read.
    """
    for option, value in (("--venue", venue), ("--instrument", instrument)):
        if not value:
            raise UsageError(f"ohlcv files do not say it: give {option}")
    if stamp not in ("", "open", "close"):
        raise UsageError(f"--stamp {stamp}: choose open or close")
    bars = read_bars(path, venue, instrument, interval_s * 1_000_000, stamp)  # type: ignore[arg-type]
    counted = _write(venue, venue, [], bars.events, out)
    rows = len(bars.events) + bars.skipped.total()
    return ConversionResult(
        rows, counted, bars.skipped, bars.first_line, {}, [instrument], {"bars missing": bars.missing}
    )


def _write(
    venue: str, title: str, described: list[ev.Instrument], events: Iterable[ev.Event], out: IO[bytes]
) -> Counter[str]:
    """Write records in the order of the module's docstring; count them by type."""
    party = ev.Counterparty(counterparty=venue, name=title, role="venue")
    try:
        check_event(party)
    except Rejected as rejected:
        raise UsageError(f"--venue {venue}: {rejected.detail}") from None
    counted: Counter[str] = Counter()
    ordered = sorted(events, key=lambda event: event.event_time_us)  # reference records have no time: -1
    for event in chain([party], described, ordered):
        counted[str(type(event).__struct_config__.tag)] += 1
        out.write(_encode(event) + b"\n")
    return counted


def _described(reader: Reader, events: list[ev.Event]) -> list[ev.Instrument]:
    """Return records of the instruments that the venue described by their names only.

    The increment is the smallest decimal that every quantity seen is a multiple of.
    """
    places = dict.fromkeys(sorted(set(reader.symbols) - reader.described), 0)
    for event in events:
        name = getattr(event, "instrument", "")
        if name in places:
            places[name] = max(places[name], *map(_places, _quantities(event)))
    found = []
    for name, count in places.items():
        terms = reader.terms(reader.symbols[name])
        if terms is not None:
            increment = f"0.{'1':0>{min(count, PLACES_MAX)}}" if count else "1"
            found.append(ev.Instrument(instrument=name, quantity_increment=increment, **terms))
    return found


def _quantities(event: ev.Event) -> list[str]:
    """Return the quantities of an event, and a zero."""
    if isinstance(event, ev.Trade | ev.Liquidation | ev.OpenInterest):
        return ["0", event.quantity]
    if isinstance(event, ev.Quote):
        return ["0", event.bid_size, event.ask_size]
    if isinstance(event, ev.Depth):
        return ["0", *(size for _, size in event.bids), *(size for _, size in event.asks)]
    return ["0"]


def _places(quantity: str) -> int:
    return len(quantity.partition(".")[2].rstrip("0"))
