"""Reader of venue messages: events out, everything else counted by name, order books kept.

The part that all venues share. An order book is kept from a snapshot and the changes after it, with at most
``LEVELS_KEPT_MAX`` levels a side; a gap drops the book until the next snapshot.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from seawall.connectors.venues._messages import (
    NOT_JSON,
    SHAPELESS,
    Message,
    Unreadable,
    as_decimal,
    decode,
    is_zero,
    told,
)
from seawall.schemas import events as ev
from seawall.schemas.decoding import check_event
from seawall.schemas.errors import Rejected

# Order books kept from a snapshot and the changes after it.
#
# A book is ``waiting`` until its first snapshot, ``live`` while every change follows the one before, and ``lost`` from
# the first sign that it does not: a gap in sequence numbers, a change of a level that is not there, bids above asks.
# Nothing is published from a book that is not live, and only a new snapshot makes a lost one live again.

LEVELS_KEPT_MAX = 50_000  # per side: a venue's whole book has a few thousand

State = Literal["waiting", "live", "lost"]


class Ladder:
    """One side of a book: sizes by price, best first. Prices are compared as numbers and kept as texts."""

    def __init__(self, descending: bool) -> None:
        self._sign = -1.0 if descending else 1.0
        self._keys: list[float] = []
        self._levels: dict[float, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, price: str) -> bool:
        return self._sign * float(price) in self._levels

    def set(self, price: str, size: str) -> None:
        """Set the size at a price; zero removes the level, if it is there."""
        key = self._sign * float(price)
        if is_zero(size):
            if self._levels.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
            return
        if key not in self._levels:
            insort(self._keys, key)
        self._levels[key] = (price, size)

    def clear(self) -> None:
        """Remove every level."""
        self._keys.clear()
        self._levels.clear()

    def best(self, count: int) -> list[tuple[str, str]]:
        """Return at most ``count`` levels, best first."""
        return [self._levels[key] for key in self._keys[:count]]

    def best_price(self) -> float | None:
        """Return the best price."""
        return self._sign * self._keys[0] if self._keys else None


class Book:
    """Both sides of one instrument's book, and whether they can be trusted."""

    def __init__(self) -> None:
        self.state: State = "waiting"
        self.sequence = -1
        self.bids = Ladder(descending=True)
        self.asks = Ladder(descending=False)
        self.changed_us = -1
        self.published_us = -1
        self.pending_us = -1  # the time of a change that was held back, or -1

    def begin(self, bids: list[tuple[str, str]], asks: list[tuple[str, str]], sequence: int) -> None:
        """Replace everything by a snapshot."""
        self.bids.clear()
        self.asks.clear()
        for price, size in bids:
            self.bids.set(price, size)
        for price, size in asks:
            self.asks.set(price, size)
        self.sequence, self.state = sequence, "live"

    def lose(self) -> None:
        """Drop what can no longer be trusted."""
        self.bids.clear()
        self.asks.clear()
        self.state, self.pending_us = "lost", -1

    def ladder(self, side: str) -> Ladder:
        """Return the side of ``buy`` or ``sell`` orders."""
        return self.bids if side == "buy" else self.asks

    def is_crossed(self) -> bool:
        """Tell whether the best bid is at or above the best ask."""
        bid, ask = self.bids.best_price(), self.asks.best_price()
        return bid is not None and ask is not None and bid >= ask

    def is_overfull(self) -> bool:
        """Tell whether a side has more levels than any venue's book."""
        return max(len(self.bids), len(self.asks)) > LEVELS_KEPT_MAX


# What all venue readers share: events out, everything else counted by name, books with a feed state.
#
# A reader takes one message at a time and returns its events, already checked by the rules of input records, so what it
# returns is never rejected for its form. What it leaves out stands in ``skipped`` by name: a message of a kind that it
# does not know, one that breaks a rule, one without content for the contract. In a list, one bad item costs only
# itself.
#
# Times are the venue's own where a message has one, else the time of receipt. Quantities are the venue's units:
# contracts where it trades contracts. An instrument is named by its symbol unless ``names`` gives it another name.

BOOKS_MAX = 20_000
NAMES_SHOWN_MAX = 200  # kinds of skipped messages counted apart; the rest is counted as one

Levels = list[tuple[str, str]]


class Reader:
    """Base of the readers; one instance reads one connection.

    Parameters
    ----------
    names
        Instrument by venue symbol; a symbol that is not in it names itself.
    levels
        Levels per side of a ``depth`` event, 1 to 50.
    depth_interval_us
        At least this much event time between two ``depth`` events of an instrument; 0 gives one per change. The last
        state of an interval is never lost: it comes with the next change or with ``finish``.
    """

    venue = ""
    title = ""
    sequenced = True  # whether a book's changes carry numbers that show a lost one
    may_cross = False  # whether the venue's own books cross for moments; elsewhere that is a sign of a lost change

    def __init__(
        self, names: Mapping[str, str] | None = None, levels: int = ev.LEVELS_MAX, depth_interval_us: int = 0
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self.first_line: dict[str, int] = {}
        self.messages = 0
        self.lost: dict[str, str] = {}  # symbol -> why its book cannot be trusted
        self.symbols: dict[str, str] = {}  # instrument -> symbol, of all instruments met
        self._names = dict(names or {})
        self._levels = max(1, min(levels, ev.LEVELS_MAX))
        self._depth_interval_us = depth_interval_us
        self._books: dict[str, Book] = {}
        self._described: dict[str, bytes] = {}
        self._out: list[ev.Event] = []
        self._message = Message(-1, "", b"", 0)

    def read(self, message: Message) -> list[ev.Event]:
        """Return the events of one message."""
        self._out, self._message = [], message
        self.messages += 1
        try:
            self.handle(decode(message.content))
        except SHAPELESS as error:
            self.skip(f"malformed: {told(error)}")
            if not self.sequenced and str(error).startswith(NOT_JSON):
                self.lose_books("a message could not be read and the venue numbers none", message.received_us)
        return self._out

    def finish(self) -> list[ev.Event]:
        """Return the depth that was held back; nothing comes after this."""
        self._out = []
        for symbol, book in self._books.items():
            if book.pending_us >= 0:
                self._emit_depth(symbol, book, book.pending_us)
        return self._out

    def handle(self, body: Any) -> None:
        """Take a decoded message: ``emit``, ``skip`` or change books."""
        raise NotImplementedError

    def terms(self, symbol: str) -> dict[str, Any] | None:
        """Return what the venue's naming rules say of an instrument, or None where a name does not tell it."""
        return None

    # --- for subclasses -----------------------------------------------------------------------------------------------

    def received_us(self) -> int:
        """Return the time at which the message was received."""
        if self._message.received_us < 0:
            raise Unreadable("no time: the message has none and its time of receipt is not known")
        return self._message.received_us

    def url(self) -> str:
        """Return the address that the message answers."""
        return self._message.url

    def skip(self, name: str) -> None:
        """Count what is left out under a name."""
        if name not in self.skipped and len(self.skipped) >= NAMES_SHOWN_MAX:
            name = "of other kinds"
        self.skipped[name] += 1
        self.first_line.setdefault(name, self._message.line)

    def instrument(self, symbol: str) -> str:
        """Return the instrument of a symbol."""
        name = self._names.get(symbol, symbol)
        self.symbols[name] = symbol
        return name

    def emit(self, event: ev.Event) -> None:
        """Give an event out, if it keeps the rules of input records."""
        try:
            check_event(event)
        except Rejected as rejected:
            kind = type(event).__struct_config__.tag
            self.skip(f"malformed: {kind}: {rejected.reason.value}")
        else:
            self._out.append(event)

    def each(self, items: Iterable[Any], take: Callable[[Any], None]) -> None:
        """Take items one by one; an unreadable one costs only itself."""
        for item in items:
            try:
                take(item)
            except SHAPELESS as error:
                self.skip(f"malformed: {told(error)}")

    def describe(self, instrument: ev.Instrument, as_sent: bytes = b"") -> None:
        """Give out an instrument's record unless the last one of it said the same."""
        said = as_sent or repr(instrument).encode()
        if self._described.get(instrument.instrument) == said:
            self.skip("repeated: instrument as described before")
            return
        self._described[instrument.instrument] = said
        self.emit(instrument)

    @property
    def described(self) -> frozenset[str]:
        """Instruments of which a record was given out."""
        return frozenset(self._described)

    # --- books --------------------------------------------------------------------------------------------------------

    def book(self, symbol: str) -> Book:
        """Return the book of a symbol."""
        found = self._books.get(symbol)
        if found is None:
            if len(self._books) >= BOOKS_MAX:
                raise Unreadable(f"more than {BOOKS_MAX} books")
            found = self._books[symbol] = Book()
        return found

    def begin_book(self, symbol: str, bids: Levels, asks: Levels, sequence: int, time_us: int) -> None:
        """Take a snapshot; a book that was lost is live again."""
        self.book(symbol).begin(bids, asks, sequence)
        if self.lost.pop(symbol, None) is not None:
            status = "degraded" if self.lost else "up"
            self._emit_status(status, time_us, f"the book of {symbol} is in sequence again")
        self.publish(symbol, time_us)

    def lose_book(self, symbol: str, why: str, time_us: int) -> None:
        """Stop trusting a book, and say so as a state of the venue's feed."""
        self.book(symbol).lose()
        self.skip(f"book lost: {why}")
        if symbol not in self.lost:
            self.lost[symbol] = why
            self._emit_status("degraded", time_us, f"the book of {symbol} is not known until its next snapshot: {why}")

    def lose_books(self, why: str, time_us: int) -> None:
        """Stop trusting every live book."""
        for symbol, book in self._books.items():
            if book.state == "live":
                self.lose_book(symbol, why, max(time_us, book.changed_us))

    @contextmanager
    def keeping(self, symbol: str, time_us: int) -> Iterator[None]:
        """Lose the book when the block finds its message unreadable: a change left out would make it silently wrong."""
        try:
            yield
        except SHAPELESS as error:
            if self.book(symbol).state == "live":
                self.lose_book(symbol, told(error), time_us)
            raise

    def publish(self, symbol: str, time_us: int) -> None:
        """Give the book out as ``depth``, now or when its interval has passed."""
        book = self.book(symbol)
        book.changed_us = time_us
        if book.is_overfull():
            self.lose_book(symbol, "more levels than any book has", time_us)
        elif book.is_crossed():
            self._hold_crossed(symbol, book, time_us)
        elif book.published_us >= 0 and 0 <= time_us - book.published_us < self._depth_interval_us:
            book.pending_us = time_us
        else:
            self._emit_depth(symbol, book, time_us)

    def _hold_crossed(self, symbol: str, book: Book, time_us: int) -> None:
        if self.may_cross:
            self.skip("depth: bids at or above asks, held until they part")
            book.pending_us = -1
        else:
            self.lose_book(symbol, "bids at or above asks", time_us)

    def _emit_depth(self, symbol: str, book: Book, time_us: int) -> None:
        book.published_us, book.pending_us = time_us, -1
        self.emit(
            ev.Depth(
                event_time_us=time_us,
                venue=self.venue,
                instrument=self.instrument(symbol),
                bids=book.bids.best(self._levels),
                asks=book.asks.best(self._levels),
            )
        )

    def _emit_status(self, status: Any, time_us: int, detail: str) -> None:
        self.emit(ev.VenueStatus(event_time_us=time_us, venue=self.venue, status=status, detail=detail))


def pairs(items: Any, name: str) -> Levels:
    """Return levels sent as lists of price and size.

    Raises
    ------
    Unreadable
        One of them is something else: a book with a hole is no book.
    """
    if not isinstance(items, list):
        raise Unreadable(f"{name} is no list")
    levels: Levels = []
    for item in items:
        if not isinstance(item, list) or len(item) < 2:
            raise Unreadable(f"{name} has a level that is no list of price and size")
        levels.append((as_decimal(item[0], f"{name} price"), as_decimal(item[1], f"{name} size")))
    return levels
