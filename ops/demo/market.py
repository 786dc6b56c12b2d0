"""The demo's markets: a simulated crash modelled on the evening of 10 October 2025, in thirteen minutes.

What it keeps of the facts: bitcoin falls from 122,000 to below 107,000 and to about 101,400 on one venue, ether by
16 %, SOL by 31 %; depth vanishes; the stablecoin USDe trades at 0.65 on one venue while it holds elsewhere. Who trades
and what happens to them is invented. Prices are straight lines between knots plus bounded noise, from + - x / alone, so
a seed gives the same bytes on every host.
"""

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

START_US = 1_760_129_100_000_000  # 2025-10-10T20:45:00Z
END_S = 780
VENUES = ("binance", "hyperliquid", "okx")
Knots = tuple[tuple[float, float], ...]


class Placed(NamedTuple):
    """A record and when it stands in the file, which differs from its event time where it comes late."""

    at_us: int
    record: dict[str, Any] | bytes


class Listing(NamedTuple):
    """An instrument of the demo: where it trades, its ticks and increments, and what its price follows."""

    instrument: str
    kind: str
    follows: str
    venues: tuple[str, ...]
    price_places: int
    quantity_places: int
    initial: str
    maintenance: str
    inverse: bool = False
    basis: Knots = ((0, 1.0),)


_BASIS_FUTURE: Knots = ((0, 1.012), (480, 1.010), (550, 0.996), (780, 1.003))
LISTINGS = {
    listing.instrument: listing
    for listing in (
        Listing("BTC-PERP", "perpetual", "BTC", VENUES, 1, 3, "0.05", "0.025"),
        Listing("ETH-PERP", "perpetual", "ETH", VENUES, 2, 2, "0.06", "0.03"),
        Listing("SOL-PERP", "perpetual", "SOL", VENUES, 3, 1, "0.1", "0.05"),
        Listing("BTC-PERP-INVERSE", "perpetual", "BTC", ("binance", "okx"), 1, 0, "0.05", "0.025", inverse=True),
        Listing("BTC-26DEC25", "future", "BTC", ("okx",), 1, 3, "0.06", "0.03", basis=_BASIS_FUTURE),
        Listing("BTC/USD", "spot", "BTC", ("binance", "okx"), 1, 4, "", ""),
        Listing("ETH/USD", "spot", "ETH", ("binance", "okx"), 2, 3, "", ""),
        Listing("USDE/USD", "spot", "USDE", ("binance", "okx"), 4, 0, "", ""),
    )
}
PERPETUALS = ("BTC-PERP", "ETH-PERP", "SOL-PERP")

# Seconds after START_US, price.
_LEVELS: dict[str, Knots] = {
    "BTC": (
        *((0, 122_000), (300, 121_500), (330, 119_700), (420, 116_400), (480, 113_000)),
        *((520, 109_500), (550, 106_600), (575, 107_900), (600, 109_600), (660, 112_200), (780, 113_100)),
    ),
    "ETH": (
        *((0, 4_370), (300, 4_350), (330, 4_270), (420, 4_120), (480, 3_960)),
        *((520, 3_800), (552, 3_670), (580, 3_730), (600, 3_790), (660, 3_880), (780, 3_900)),
    ),
    "SOL": (
        *((0, 222), (300, 220), (330, 215), (420, 204), (480, 190)),
        *((520, 171), (555, 153.2), (580, 160), (600, 167), (660, 178), (780, 182)),
    ),
    "USDE": ((0, 1.0), (330, 0.9995), (480, 0.996), (560, 0.968), (600, 0.985), (780, 0.998)),
}
# What one venue trades at, relative to the others.
_WICKS: dict[tuple[str, str], Knots] = {
    ("binance", "BTC"): ((0, 1.0), (535, 1.0), (550, 0.9511), (560, 0.968), (590, 0.999), (780, 1.0)),
    ("binance", "ETH"): ((0, 1.0), (535, 1.0), (552, 0.970), (590, 0.999), (780, 1.0)),
    ("binance", "SOL"): ((0, 1.0), (535, 1.0), (555, 0.940), (590, 0.998), (780, 1.0)),
    ("binance", "USDE"): ((0, 1.0), (500, 1.0), (562, 0.6715), (590, 0.78), (640, 0.95), (780, 0.999)),
}
_NOISE: Knots = ((0, 0.0001), (300, 0.0002), (500, 0.0008), (620, 0.0006), (780, 0.0003))  # half width, a fraction
_SPREAD: Knots = ((0, 0.0001), (300, 0.0002), (510, 0.002), (550, 0.008), (620, 0.001), (780, 0.0003))
_DEPTH: Knots = ((0, 1.0), (300, 0.8), (420, 0.4), (510, 0.1), (550, 0.02), (620, 0.2), (780, 0.5))
_TOP_USD = 900_000.0  # value of the best level in quiet times
# Marks come faster as markets do: from second, one round of all venues every so many milliseconds.
_ROUNDS = ((0, 1_000), (300, 500), (510, 250), (620, 500), (END_S, 0))


def at(knots: Knots, second: float) -> float:
    """Return the value of a line through ``knots`` at ``second``; constant outside of them."""
    for (left, low), (right, high) in pairwise(knots):
        if second < right:
            return low + (high - low) * max(0.0, second - left) / (right - left)
    return knots[-1][1]


def fair(instrument: str, venue: str, second: float) -> float:
    """Return an instrument's price at a venue without noise."""
    listing = LISTINGS[instrument]
    wick = at(_WICKS.get((venue, listing.follows), ((0, 1.0),)), second)
    return at(_LEVELS[listing.follows], second) * at(listing.basis, second) * wick


def price_text(instrument: str, price: float) -> str:
    """Return a price as decimal text, rounded to the instrument's tick."""
    return f"{price:.{LISTINGS[instrument].price_places}f}"


def quantity_text(instrument: str, units: int) -> str:
    """Return a quantity of increments as decimal text, without sign."""
    places = LISTINGS[instrument].quantity_places
    whole, part = divmod(abs(units), 10**places)
    return f"{whole}.{part:0{places}d}" if places else str(whole)


def traded_price(rng: Random, instrument: str, venue: str, at_us: int, side: str) -> str:
    """Return what a taker of ``side`` pays or gets: the fair price, half a spread and some luck."""
    second = (at_us - START_US) / 1e6
    half = at(_SPREAD, second) / 2 * (1 if side == "buy" else -1)
    luck = (rng.random() - 0.5) * at(_NOISE, second)
    return price_text(instrument, fair(instrument, venue, second) * (1 + half + luck))


def market_records(rng: Random) -> Iterator[Placed]:
    """Yield marks, quotes, depth, open interest, predicted funding and public liquidations, not in order of time."""
    yield from _marks(rng)
    for second in range(END_S):
        for number, venue in enumerate(VENUES):
            for instrument in PERPETUALS:
                time_us = START_US + second * 1_000_000 + 300_000 + number * 7_000
                yield from _book(rng, venue, instrument, second, time_us)


def _marks(rng: Random) -> Iterator[Placed]:
    drift = {(venue, name): 0.0 for name, listing in LISTINGS.items() for venue in listing.venues}
    for (begin, every_ms), (end, _) in pairwise(_ROUNDS):
        for ms in range(begin * 1_000, end * 1_000, every_ms):
            # The venue that breaks reports first: across venues the latest mark wins (contract.md, "Prices").
            for number, venue in enumerate(VENUES):
                time_us = START_US + ms * 1_000 + 20_000 + number * 6_000
                for instrument, listing in LISTINGS.items():
                    if venue in listing.venues:
                        second = (time_us - START_US) / 1e6
                        calm = 0.1 if listing.follows == "USDE" else 1.0
                        step = (rng.random() - 0.5) * 2 * at(_NOISE, second) * calm
                        drift[venue, instrument] = 0.7 * drift[venue, instrument] + step
                        price = fair(instrument, venue, second) * (1 + drift[venue, instrument])
                        yield placed(
                            time_us, "mark", instrument=instrument, price=price_text(instrument, price), venue=venue
                        )


def _book(rng: Random, venue: str, instrument: str, second: int, time_us: int) -> Iterator[Placed]:
    """Yield what a venue publishes about its order book in one second, each kind at its own pace."""
    where = {"venue": venue, "instrument": instrument}
    price, half, size = fair(instrument, venue, second), at(_SPREAD, second) / 2, at(_DEPTH, second)
    places = 10 ** LISTINGS[instrument].quantity_places
    top = max(1, int(_TOP_USD * size * (0.5 + rng.random()) / price * places))
    if second % 2 == 0:
        bid, ask = (price_text(instrument, price * (1 + sign * half)) for sign in (-1, 1))
        sizes = {"bid_size": quantity_text(instrument, top), "ask_size": quantity_text(instrument, 2 * top)}
        yield placed(time_us, "quote", **where, bid=bid, ask=ask, **sizes)
    if second % 10 == 5:
        levels = [(1 + step, quantity_text(instrument, top * (1 + step))) for step in range(5)]
        bids, asks = (
            [[price_text(instrument, price * (1 + sign * half * step)), size_text] for step, size_text in levels]
            for sign in (-1, 1)
        )
        yield placed(time_us + 1_000, "depth", **where, bids=bids, asks=asks)
    if second % 30 == 10:
        held = quantity_text(instrument, int(4e9 * (0.6 + 0.4 * size) / price * places))
        yield placed(time_us + 2_000, "open_interest", **where, quantity=held)
    if second % 60 == 20:
        rate = f"{0.0001 - 0.0009 * (1 - size):.6f}"
        yield placed(time_us + 3_000, "funding", **where, rate=rate, interval_us=28_800_000_000, kind="predicted")
    if 500 <= second < 620 and rng.random() < 0.3:
        forced = {"side": "sell", "price": price_text(instrument, price * (1 - half))}
        yield placed(time_us + 4_000, "liquidation", **where, **forced, quantity=quantity_text(instrument, 3 * top))


def placed(time_us: int, type_: str, /, **fields: Any) -> Placed:
    """Return a record that stands where its event time says."""
    return Placed(time_us, {"type": type_, "event_time_us": time_us, **fields})
