"""One instrument at one venue: its last prices, its book, and what passed since the last row of features.

A record that is older than the newest one of its feed moves nothing: it is counted, since a feed whose time goes
backwards is broken, and prices of yesterday are no prices. Quotes that cross (bid above ask) are left out as well.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from seawall.schemas import events as ev

BANDS_BP = (10, 50, 100, 500)
PRICE_KINDS: tuple[Literal["mark", "mid", "last"], ...] = ("mark", "mid", "last")
ROUNDING_BP = 1e-6  # a level exactly at the edge of a band lies in it
BEST_SIZE_RATE = 0.05
GAP_RATE = 0.05
GAPS_MIN = 5  # before that nobody knows how often a feed speaks
PATIENCE_GAPS = 5


class VenuePrice(msgspec.Struct, array_like=True):
    """A price of one kind and its time; 0 where there is none."""

    value: float = 0.0
    time_us: int = 0


class VenueState(msgspec.Struct, array_like=True):
    """The state of one feed: an instrument at a venue.

    Attributes
    ----------
    prices
        Mark, mid and last.
    bid, ask, bid_size, ask_size
        Best quotes; 0 where unknown.
    depth
        Quantity within each of ``BANDS_BP``, bids then asks; empty where no book was seen.
    heard_us, gap_us, gaps
        Newest event time of the feed, the usual time between two of them, and how many were seen.
    backwards, crossed
        Records whose time went backwards, and quotes whose bid stood above the ask.
    flow, best_size
        Order-flow imbalance at the best quotes since the last row, and the usual size there.
    silent
        The feed was found stale, and has not spoken since.
    """

    prices: list[VenuePrice]
    bid: float = 0.0
    ask: float = 0.0
    bid_size: float = 0.0
    ask_size: float = 0.0
    depth: list[float] = []
    heard_us: int = 0
    gap_us: float = 0.0
    gaps: int = 0
    backwards: int = 0
    crossed: int = 0
    flow: float = 0.0
    best_size: float = 0.0
    silent: bool = False

    def hears(self, time_us: int) -> bool:
        """Take the time of a record; whether the record may be used."""
        if time_us < self.heard_us:
            self.backwards += 1
            return False
        if self.heard_us and time_us > self.heard_us:
            self.gaps += 1
            self.gap_us += max(GAP_RATE, 1.0 / self.gaps) * (time_us - self.heard_us - self.gap_us)
        self.heard_us, self.silent = time_us, False
        return True

    def keep_to(self, as_of_us: int) -> None:
        """Take what is stamped after ``as_of_us`` as of then: what came after it would be refused until that time."""
        if self.heard_us > as_of_us:
            if self.gaps:
                self.gap_us = max(self.gap_us - max(GAP_RATE, 1.0 / self.gaps) * (self.heard_us - as_of_us), 0.0)
            self.heard_us = as_of_us
            self.prices = [VenuePrice(price.value, min(price.time_us, as_of_us)) for price in self.prices]

    def patience_us(self, stale_us: int) -> float:
        """Return how long the feed may be silent: as set, and longer where it seldom speaks."""
        return max(float(stale_us), PATIENCE_GAPS * self.gap_us)

    def is_stale(self, as_of_us: int, stale_us: int) -> bool:
        """Tell whether the feed has been silent for too long."""
        return as_of_us - self.heard_us > self.patience_us(stale_us)

    def quote(self, time_us: int, bid: float, ask: float, bid_size: float, ask_size: float) -> None:
        """Take best quotes, and add what they changed to the flow."""
        if bid > ask:
            self.crossed += 1
            return
        if bid_size > 0.0 and ask_size > 0.0:
            size = 0.5 * (bid_size + ask_size)
            if self.bid_size > 0.0 and self.ask_size > 0.0:
                self.flow += order_flow(
                    (self.bid, self.bid_size, self.ask, self.ask_size), (bid, bid_size, ask, ask_size)
                )
                self.best_size += BEST_SIZE_RATE * (size - self.best_size)
            else:
                self.best_size = size
        self.bid, self.ask, self.bid_size, self.ask_size = bid, ask, bid_size, ask_size
        self.prices[1] = VenuePrice(0.5 * (bid + ask), time_us)

    def book(self, time_us: int, bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]) -> None:
        """Take an order book, best first."""
        if not bids or not asks:
            return
        bid, ask = float(bids[0][0]), float(asks[0][0])
        if bid > ask:
            self.crossed += 1
            return
        self.quote(time_us, bid, ask, float(bids[0][1]), float(asks[0][1]))
        middle = 0.5 * (bid + ask)
        self.depth = [*depth_within(bids, middle, -1.0), *depth_within(asks, middle, 1.0)]

    def best(self, as_of_us: int, stale_us: int) -> tuple[int, VenuePrice] | None:
        """Return which kind of price counts, and the price: of those not stale the best standing, else the newest."""
        known = [(kind, price) for kind, price in enumerate(self.prices) if price.value > 0.0]
        patience_us = self.patience_us(stale_us)
        for kind, price in known:
            if as_of_us - price.time_us <= patience_us:
                return kind, price
        return max(known, key=lambda pair: pair[1].time_us, default=None)


def new_venue() -> VenueState:
    """Return a venue that nothing was heard from."""
    return VenueState([VenuePrice(), VenuePrice(), VenuePrice()])


def depth_within(levels: Sequence[tuple[str, str]], middle: float, side: float) -> list[float]:
    """Return the quantity between the middle and each of ``BANDS_BP`` on one side (-1 bids, 1 asks).

    A lower bound where the book that was published ends before the band does.

    Examples
    --------
    >>> depth_within([("99.95", "1"), ("99.6", "2"), ("98", "4")], 100.0, -1.0)
    [1.0, 3.0, 3.0, 7.0]
    """
    found = [0.0] * len(BANDS_BP)
    for price, size in levels:
        away_bp = side * (float(price) / middle - 1.0) * 10_000.0
        for band, width in enumerate(BANDS_BP):
            if away_bp <= width + ROUNDING_BP:
                found[band] += float(size)
    return found


def order_flow(before: tuple[float, float, float, float], after: tuple[float, float, float, float]) -> float:
    """Return the order flow that one change of the best quotes (bid, size, ask, size) stands for.

    References
    ----------
    Cont, R., Kukanov, A., Stoikov, S. (2014). The price impact of order book events. Journal of Financial Econometrics
    12(1), equation 1.

    Examples
    --------
    >>> before = (99.0, 5.0, 101.0, 5.0)
    >>> order_flow(before, (99.0, 7.0, 101.0, 5.0)), order_flow(before, (98.0, 7.0, 101.0, 5.0))
    (2.0, -5.0)
    """
    bid0, bid_size0, ask0, ask_size0 = before
    bid1, bid_size1, ask1, ask_size1 = after
    bought = (bid_size1 if bid1 >= bid0 else 0.0) - (bid_size0 if bid1 <= bid0 else 0.0)
    sold = (ask_size1 if ask1 <= ask0 else 0.0) - (ask_size0 if ask1 >= ask0 else 0.0)
    return bought - sold


def weighted_median(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the weighted median of (value, weight): the middle between two where the weights balance exactly.

    Half of the weight may lie without moving it far, so one venue of three that breaks does not.

    Examples
    --------
    >>> weighted_median([(100.0, 1.0), (101.0, 1.0), (5.0, 1.0)]), weighted_median([(100.0, 1.0), (102.0, 1.0)])
    (100.0, 101.0)
    """
    ordered = sorted(pairs)
    half = 0.0
    for _, weight in ordered:
        half += weight
    half *= 0.5
    passed = 0.0
    for at, (value, weight) in enumerate(ordered):
        passed += weight
        if passed == half and at + 1 < len(ordered):
            return 0.5 * (value + ordered[at + 1][0])
        if passed >= half:
            return value
    raise ValueError("a median needs a value")


def apply_event(venue: VenueState, event: Any) -> bool:
    """Take a record of prices or of the book; whether it was usable (trades and bars also count as last price)."""
    time_us = event.event_time_us
    if not venue.hears(time_us):
        return False
    match event:
        case ev.Trade():
            venue.prices[2] = VenuePrice(float(event.price), time_us)
        case ev.Quote():
            sizes = float(event.bid_size or 0), float(event.ask_size or 0)
            venue.quote(time_us, float(event.bid), float(event.ask), *sizes)
        case ev.Depth():
            venue.book(time_us, event.bids, event.asks)
        case ev.Bar():
            venue.prices[2] = VenuePrice(float(event.close), time_us)
        case ev.Mark() if event.kind in PRICE_KINDS:
            venue.prices[PRICE_KINDS.index(event.kind)] = VenuePrice(float(event.price), time_us)
        case _:
            pass
    return True
