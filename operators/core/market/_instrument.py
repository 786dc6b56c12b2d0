"""One instrument: its venues, its running figures, and the row of features that comes of them."""

from math import sqrt
from typing import Any

import msgspec

from seawall.operators.core.market._venues import (
    PRICE_KINDS,
    VenuePrice,
    VenueState,
    apply_event,
    new_venue,
    weighted_median,
)
from seawall.schemas import events as ev

# Running figures of one series: exponentially weighted moments that one wild value cannot poison, and volatility.
#
# Only + - x / and square roots, in a fixed order, so that a figure is the same on every host.
#
# References
# ----------
# J. P. Morgan/Reuters (1996). RiskMetrics Technical Document, 4th ed., section 5.2: exponentially weighted variance.

YEAR_US = 365.25 * 86_400 * 1_000_000
SHORT_RATE = 0.06  # RiskMetrics: a decay of .94
LONG_RATE = 0.01
FAR_Z2 = 25.0  # a squared deviation counts at most 25 variances once the series is known
VARIANCE_MIN = 1e-8  # one basis point squared: what a constant series may learn from at once
WARM_ROWS = 20
RETURN2_MAX = 1.0  # a move by the whole price counts as the largest there is
BLOCK_ROWS = 10
BLOCKS = 6  # the window of realised volatility: the last 51 to 60 rows, by whole blocks


class WinsorisedMoments(msgspec.Struct, array_like=True):
    """Exponentially weighted mean and variance, deviations winsorised."""

    rate: float
    mean: float = 0.0
    variance: float = 0.0
    rows: int = 0

    def z(self, value: float) -> float:
        """Return how many standard deviations ``value`` lies from the mean; 0 while there is no variance."""
        return (value - self.mean) / sqrt(self.variance) if self.variance > 0.0 else 0.0

    def learn(self, value: float) -> None:
        """Take in a value."""
        self.rows += 1
        if self.rows == 1:
            self.mean = value
            return
        rate = max(self.rate, 1.0 / self.rows)
        gap = value - self.mean
        squared = gap * gap
        if self.rows > WARM_ROWS:
            bound = max(FAR_Z2 * self.variance, VARIANCE_MIN * max(1.0, self.mean * self.mean))
            if squared > bound:
                squared, gap = bound, sqrt(bound) * (1.0 if gap > 0.0 else -1.0)
        self.mean += rate * gap
        self.variance = (1.0 - rate) * (self.variance + rate * squared)


class PriceVolatility(msgspec.Struct, array_like=True):
    """Volatility of one price, row by row.

    Attributes
    ----------
    short2, span_us
        RiskMetrics averages of squared returns and of the time between rows.
    long2
        The slow average that returns are measured against; it learns at most ``FAR_Z2`` times itself from a row.
    squares, spans_us
        Sums of squared returns and of times between rows, for each of the last ``BLOCKS`` blocks of ``BLOCK_ROWS``.
    """

    short2: float = 0.0
    span_us: float = 0.0
    long2: float = 0.0
    rows: int = 0
    squares: list[float] = []
    spans_us: list[int] = []

    def take(self, change: float, span_us: int) -> tuple[float, float]:
        """Take a return over a time; give its z against those before it, and short over long volatility."""
        squared = min(change * change, RETURN2_MAX)
        z = change / sqrt(self.long2) if self.long2 > 0.0 else 0.0
        self.rows += 1
        short, long = max(SHORT_RATE, 1.0 / self.rows), max(LONG_RATE, 1.0 / self.rows)
        self.short2 += short * (squared - self.short2)
        self.span_us += short * (span_us - self.span_us)
        bound = max(FAR_Z2 * self.long2, VARIANCE_MIN)
        learned = min(squared, bound) if self.rows > WARM_ROWS else squared
        self.long2 += long * (learned - self.long2)
        if self.rows % BLOCK_ROWS == 1:
            self.squares.append(0.0)
            self.spans_us.append(0)
            if len(self.squares) > BLOCKS:
                del self.squares[0], self.spans_us[0]
        self.squares[-1] += squared
        self.spans_us[-1] += span_us
        return z, sqrt(self.short2 / self.long2) if self.long2 > 0.0 else 1.0

    def ew(self) -> float:
        """Return the exponentially weighted volatility, a fraction per year^½."""
        return sqrt(self.short2 / self.span_us * YEAR_US) if self.span_us > 0.0 else 0.0

    def realised(self) -> float:
        """Return the realised volatility of the window, a fraction per year^½.

        References
        ----------
        Andersen, T. G., Bollerslev, T. (1998). Answering the skeptics. International Economic Review 39(4).
        """
        total, span = 0.0, 0
        for squared, span_us in zip(self.squares, self.spans_us, strict=True):
            total, span = total + squared, span + span_us
        return sqrt(total / span * YEAR_US) if span else 0.0


# One instrument: its venues, its running figures, and the row of features that comes of them.
#
# Features, by the family that a detector judges together
# --------------------------------------------------------
# price
#     ``return_z``, the return since the last row in standard deviations (RiskMetrics); ``volatility_ratio``, short over
#     long volatility.
# book
#     ``spread_bp``, the tightest relative spread of any venue; ``book_imbalance``, (bid - ask) / (bid + ask) of the
#     sizes within 50 bp.
# depth
#     ``depth_ratio``, quantity within 50 bp of all venues over its running mean (a crash empties the book first).
# flow
#     ``order_flow_imbalance`` at the best quotes in units of the usual size there (Cont, Kukanov, Stoikov 2014);
#     ``trade_imbalance``, (bought - sold) / (bought + sold) by the taker's side; ``liquidation_intensity``, forced
#     notional over the usual traded notional of a row.
# carry
#     ``basis_z``, the premium over the index in standard deviations (the reference of venues' price limits).
# funding
#     ``funding_z``, the latest funding rate in standard deviations.
# interest
#     ``open_interest_drop``, how far open interest lies below its running mean.
# venues
#     ``venue_divergence_bp``, the largest distance of a venue's mark from the robust one.
# feed
#     ``update_gap_ratio``, time since the last update over the usual one; ``clock_skew_ms``, how far stamps lie behind
#     the newest time seen in the group.
#
# A family is judged only where all of its features are known, so that a feed that begins late is not an anomaly.
#
# References
# ----------
# Cont, R., Kukanov, A., Stoikov, S. (2014). The price impact of order book events. J. Financial Econometrics 12(1).
# J. P. Morgan/Reuters (1996). RiskMetrics Technical Document, 4th ed.

FAMILIES: dict[str, tuple[str, ...]] = {
    "price": ("return_z", "volatility_ratio"),
    "book": ("spread_bp", "book_imbalance"),
    "depth": ("depth_ratio",),
    "flow": ("order_flow_imbalance", "trade_imbalance", "liquidation_intensity"),
    "carry": ("basis_z",),
    "funding": ("funding_z",),
    "interest": ("open_interest_drop",),
    "venues": ("venue_divergence_bp",),
    "feed": ("update_gap_ratio", "clock_skew_ms"),
}
FAMILY_NUMBERS = {family: number for number, family in enumerate(FAMILIES)}
NO_SLOT = -1
VENUES_MAX = 24  # a further venue of one instrument takes the place of the one that was silent longest
WEIGHTS = (2.0, 2.0, 1.0)  # of a mark, a mid and a last price in the robust mark
BAND_50 = 1
USUAL_RATE = 0.02


class Instrument(msgspec.Struct, array_like=True):
    """The state of one instrument in its group; sums and extremes are since the last row of features."""

    name: str
    venues: dict[str, VenueState] = {}
    volatility: PriceVolatility = msgspec.field(default_factory=PriceVolatility)
    basis: WinsorisedMoments = msgspec.field(default_factory=lambda: WinsorisedMoments(USUAL_RATE))
    funding: WinsorisedMoments = msgspec.field(default_factory=lambda: WinsorisedMoments(USUAL_RATE))
    interest: WinsorisedMoments = msgspec.field(default_factory=lambda: WinsorisedMoments(USUAL_RATE))
    depth: WinsorisedMoments = msgspec.field(default_factory=lambda: WinsorisedMoments(USUAL_RATE))
    turnover: WinsorisedMoments = msgspec.field(default_factory=lambda: WinsorisedMoments(USUAL_RATE))
    gap: WinsorisedMoments = msgspec.field(default_factory=lambda: WinsorisedMoments(USUAL_RATE))
    index: VenuePrice = msgspec.field(default_factory=VenuePrice)
    funding_z: float = 0.0
    open_interest: float = 0.0
    bought: float = 0.0
    sold: float = 0.0
    liquidated: float = 0.0
    skew_us: int = 0
    events: int = 0
    backwards: int = 0
    several: bool = False
    row_price: float = 0.0
    row_us: int = 0
    apart_since_us: int = 0
    tripped: bool = False  # a circuit breaker, since the last row
    said: dict[str, int] = {}
    slots: list[int] = msgspec.field(default_factory=lambda: [NO_SLOT] * len(FAMILIES))  # of its models, by family

    # --- events -----------------------------------------------------------------------------------------------------

    def apply(self, event: Any, high_us: int) -> None:
        """Take one raw record; ``high_us`` is the newest event time seen in the group."""
        venue = self.venue(event.venue)
        self.events += 1
        if not apply_event(venue, event):
            self.backwards += 1
            return
        self.skew_us = max(self.skew_us, high_us - event.event_time_us)
        match event:
            case ev.Trade():
                self._traded(event.side, float(event.price) * float(event.quantity))
            case ev.Bar():
                self._traded("", float(event.close) * float(event.volume))
            case ev.Liquidation():
                self.liquidated += float(event.price) * float(event.quantity)
            case ev.OpenInterest():
                self.open_interest = float(event.quantity)
                self.interest.learn(self.open_interest)
            case ev.Funding():
                rate = float(event.rate)
                self.funding_z = self.funding.z(rate)
                self.funding.learn(rate)
            case ev.Mark() if event.kind == "index":
                self.index = VenuePrice(float(event.price), event.event_time_us)
            case _:
                pass

    def venue(self, name: str) -> VenueState:
        """Return the state of a venue, made where it is new."""
        venue = self.venues.get(name)
        if venue is None:
            if len(self.venues) >= VENUES_MAX:
                del self.venues[min(self.venues, key=lambda known: self.venues[known].heard_us)]
            venue = self.venues[name] = new_venue()
        return venue

    def _traded(self, side: str, notional: float) -> None:
        self.bought += notional if side == "buy" else (0.0 if side else 0.5 * notional)
        self.sold += notional if side == "sell" else (0.0 if side else 0.5 * notional)

    # --- marks ------------------------------------------------------------------------------------------------------

    def marks(self, as_of_us: int, stale_us: int, down: set[str]) -> list[ev.SignalVenue]:
        """Return each venue's mark, in order of name; stale ones say so, and so do those of venues that are down."""
        found = []
        for name in sorted(self.venues):
            venue = self.venues[name]
            best = venue.best(as_of_us, stale_us)
            if best is not None:
                kind, price = best
                stale = name in down or as_of_us - price.time_us > venue.patience_us(stale_us)
                found.append(
                    ev.SignalVenue(
                        venue=name,
                        price=price.value,
                        kind=PRICE_KINDS[kind],
                        time_us=price.time_us,
                        depth=venue.depth,
                        stale=stale,
                    )
                )
        self.several = self.several or len(found) > 1
        return found

    # --- features ---------------------------------------------------------------------------------------------------

    def features(self, price: float, time_us: int, fresh: list[ev.SignalVenue]) -> dict[str, float]:
        """Return the row of features at a robust price, learn it, and begin the next row.

        Parameters
        ----------
        price, time_us
            The robust mark and the newest time in it.
        fresh
            The venues' marks that are not stale.
        """
        found: dict[str, float] = {}
        if self.row_price > 0.0:
            span_us = max(time_us - self.row_us, 0)
            ratio = self._gap_ratio(span_us)
            z, volatility = self.volatility.take(price / self.row_price - 1.0, span_us)
            found |= {"return_z": z, "volatility_ratio": volatility}
            found |= {"update_gap_ratio": ratio, "clock_skew_ms": self.skew_us / 1000.0}
        self._book_features(fresh, found)
        self._flow_features(found)
        if self.index.value > 0.0:
            basis = price / self.index.value - 1.0
            found["basis_z"] = self.basis.z(basis)
            self.basis.learn(basis)
        if self.funding.rows:
            found["funding_z"] = self.funding_z
        if self.interest.rows:
            mean = self.interest.mean
            found["open_interest_drop"] = max(0.0, 1.0 - self.open_interest / mean) if mean > 0.0 else 0.0
        if self.several and fresh:
            found["venue_divergence_bp"] = max(abs(mark.price / price - 1.0) for mark in fresh) * 10_000.0
        self._begin_row(price, time_us)
        return found

    def _book_features(self, fresh: list[ev.SignalVenue], found: dict[str, float]) -> None:
        bids = asks = 0.0
        spreads = []
        for mark in fresh:
            venue = self.venues[mark.venue]
            if venue.bid > 0.0 and venue.ask > 0.0:
                spreads.append((venue.ask - venue.bid) / (0.5 * (venue.ask + venue.bid)))
            if venue.depth:
                half = len(venue.depth) // 2
                bids, asks = bids + venue.depth[BAND_50], asks + venue.depth[half + BAND_50]
        whole = bids + asks
        if spreads:
            found["spread_bp"] = min(spreads) * 10_000.0
            found["book_imbalance"] = (bids - asks) / whole if whole > 0.0 else 0.0
        if whole > 0.0:
            found["depth_ratio"] = whole / self.depth.mean if self.depth.mean > 0.0 else 1.0
            self.depth.learn(whole)

    def _flow_features(self, found: dict[str, float]) -> None:
        flow = size = 0.0
        for name in sorted(self.venues):
            venue = self.venues[name]
            flow, size = flow + venue.flow, size + venue.best_size
            venue.flow = 0.0
        traded = self.bought + self.sold
        usual = self.turnover.mean
        if size > 0.0 or self.turnover.rows or traded > 0.0:
            found["order_flow_imbalance"] = flow / size if size > 0.0 else 0.0
            found["trade_imbalance"] = (self.bought - self.sold) / traded if traded > 0.0 else 0.0
            found["liquidation_intensity"] = self.liquidated / usual if usual > 0.0 else 0.0
        if self.turnover.rows or traded > 0.0:
            self.turnover.learn(traded)

    def _gap_ratio(self, span_us: int) -> float:
        ratio = span_us / self.gap.mean if self.gap.mean > 0.0 else 1.0
        self.gap.learn(float(span_us))
        return ratio

    def _begin_row(self, price: float, time_us: int) -> None:
        self.row_price, self.row_us = price, time_us
        self.bought = self.sold = self.liquidated = 0.0
        self.skew_us = self.events = self.backwards = 0


def robust_mark(marks: list[ev.SignalVenue]) -> tuple[float, int, list[ev.SignalVenue]]:
    """Return the weighted median of the venues' marks, the newest time in it, and the marks that it is made of.

    Stale marks are left out, unless all are: then the newest one stands.
    """
    fresh = [mark for mark in marks if not mark.stale] or [max(marks, key=lambda mark: mark.time_us)]
    price = weighted_median([(mark.price, WEIGHTS[PRICE_KINDS.index(mark.kind)]) for mark in fresh])
    return price, max(mark.time_us for mark in fresh), fresh


def total_depth(fresh: list[ev.SignalVenue]) -> list[float]:
    """Return the quantity within each band over venues, bids then asks; empty where no book was seen."""
    books = [mark.depth for mark in fresh if mark.depth]
    if not books:
        return []
    found = [0.0] * len(books[0])
    for book in books:
        found = [one + other for one, other in zip(found, book, strict=True)]
    return found
