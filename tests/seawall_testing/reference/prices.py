"""Prices: instruments by the ladders, assets in the reporting currency, options from their forward."""

from dataclasses import replace
from fractions import Fraction

from seawall_testing.reference.book import Book
from seawall_testing.reference.ladders import Price, exactly, ladder_price, latest
from seawall_testing.reference.numbers import ONE, YEAR_US, ZERO, black, black_delta, exact
from seawall_testing.reference.terms import Json, Rules, underlying


def instrument_price(book: Book, name: str, as_of_us: int, rules: Rules, venue: str | None = None) -> Price | None:
    """Return the price of an instrument that stands for valuation, or for margin at a venue."""
    return ladder_price(book.marks, name, as_of_us, rules, venue)


def last_known(book: Book, name: str) -> Fraction | None:
    """Return the last price of an instrument."""
    mark = latest(mark for mark in book.marks if mark["instrument"] == name)
    return None if mark is None else exact(mark["price"])


def asset_price(book: Book, asset: str, as_of_us: int, rules: Rules, venue: str | None = None) -> Price | None:
    """Return an asset in the reporting currency by the shortest path of spot instruments, else at its peg."""
    if asset == rules.reporting:
        return exactly(ONE)
    found = _path(book, asset, as_of_us, rules, venue)
    peg = book.terms.assets.get(asset, {}).get("peg")
    if peg is None or (found is None and not rules.intervals):
        return found
    promised = asset_price(book, peg, as_of_us, rules, venue)
    if promised is None or (found is not None and peg_is_broken(book, asset, as_of_us, rules)):
        return found
    if found is not None:  # once it has had a market the peg is at most a cap
        ends = (min(a, b) for a, b in ((found.low, promised.low), (found.high, promised.high)))
        return Price(*ends, found.state, min(found.stands, promised.stands))
    return Price(promised.low * (1 - rules.peg_haircut), promised.high, "pegged")


def peg_is_broken(book: Book, asset: str, as_of_us: int, rules: Rules) -> bool:
    """Tell whether an asset's market has left its peg for long enough, and has not been back for long enough.

    It has left where it is more than the tolerance below. Both are counted by the times of its own marks, from where it
    crossed (which a mark of what it promises may do), and anew after a gap in them, or after another `asset` record.
    """
    if (asset, as_of_us) in book.broken:
        return book.broken[asset, as_of_us]
    record = book.terms.assets[asset]
    lifted, broken, since, heard = record.get("event_time_us", 0), False, 0, 0
    spots = {name for name, item in book.terms.instruments.items() if item["kind"] == "spot"}
    ends = {mark["arrived_us"] // rules.slice_us + 1 for mark in book.marks if mark["instrument"] in spots}
    for end_us in sorted(end * rules.slice_us for end in ends):
        if lifted < end_us and lifted:
            broken, since, lifted = False, lifted if heard else 0, 0
        then = replace(book, marks=[mark for mark in book.marks if mark["arrived_us"] < end_us], broken={})
        price, promised = (
            _path(then, asset, end_us, rules, None), asset_price(then, record["peg"], end_us, rules)
        )  # fmt: skip
        if price is None or promised is None:
            continue
        at_us, gap_us = _marked_us(then, asset), _marked_us(then, asset) - heard
        below = price.low < promised.low * (1 - rules.peg_tolerance)
        if below == broken:
            since = 0
        else:
            if not since or gap_us > rules.mark_max_age_us:
                since = max(at_us, _marked_us(then, record["peg"]))
            if at_us - since >= (rules.peg_return_us if broken else rules.confirm_us):
                broken, since = below, 0
        heard = at_us
    book.broken[asset, as_of_us] = broken
    return broken


def _marked_us(book: Book, asset: str) -> int:
    """Return the time of the newest mark of an asset's own market."""
    own = {name for name, item in book.terms.instruments.items() if item["kind"] == "spot" and item["base"] == asset}
    return max((mark["event_time_us"] for mark in book.marks if mark["instrument"] in own), default=0)


def _path(book: Book, asset: str, as_of_us: int, rules: Rules, venue: str | None) -> Price | None:
    """Walk the spot instruments breadth first; of two paths of one length the first by the names of instruments."""
    spots = sorted(name for name, item in book.terms.instruments.items() if item["kind"] == "spot")
    reached: dict[str, Price] = {asset: exactly(ONE)}
    frontier, hops = [asset], 0
    while frontier and rules.reporting not in reached and (rules.intervals or hops < 2):
        ahead: list[str] = []
        for here in frontier:
            for name in spots:
                _step(book, name, here, reached, ahead, as_of_us, rules, venue)
        frontier, hops = ahead, hops + 1
    return reached.get(rules.reporting)


def _step(
    book: Book, name: str, here: str, reached: dict[str, Price], ahead: list[str], as_of_us: int, rules: Rules,
    venue: str | None,
) -> None:  # fmt: skip
    item = book.terms.instruments[name]
    if here not in (item["base"], item["quote"]):
        return
    there = item["quote"] if here == item["base"] else item["base"]
    price = None if there in reached else instrument_price(book, name, as_of_us, rules, venue)
    if price is None:
        return
    low, high = (price.low, price.high) if here == item["base"] else (1 / price.high, 1 / price.low)
    so_far = reached[here]
    state = price.state if so_far.state == "fresh" else so_far.state
    stands = so_far.stands * (price.stands if here == item["base"] else 1 / price.stands)
    reached[there] = Price(so_far.low * low, so_far.high * high, state, stands)
    ahead.append(there)


def volatility(book: Book, name: str) -> Fraction | None:
    """Return the last known volatility of an option."""
    mark = latest(m for m in book.marks if m["instrument"] == name and "implied_volatility" in m)
    return None if mark is None else exact(mark["implied_volatility"])


def forward(book: Book, option: Json, as_of_us: int, rules: Rules) -> Price | None:
    """Return an option's forward across venues: the mark of what it names, else the underlying's spot mark."""
    if "forward" in option:
        return instrument_price(book, option["forward"], as_of_us, rules)
    spots = [
        name for name, item in sorted(book.terms.instruments.items())
        if item["kind"] == "spot" and item["base"] == underlying(option) and item["quote"] == option["quote"]
    ]  # fmt: skip
    return instrument_price(book, spots[0], as_of_us, rules) if spots else None


def option_value(
    book: Book, option: Json, as_of_us: int, rules: Rules, venue: str | None
) -> tuple[Price, Fraction] | None:
    """Return value per unit and delta per unit of the forward, both from the same inputs; none where one is missing."""
    ahead, sigma = forward(book, option, as_of_us, rules), volatility(book, option["instrument"])
    if ahead is None or sigma is None:
        return None
    ahead = exactly(ahead.stands, ahead.state)  # an option follows the price of its forward that stands
    years = max(Fraction(option["expiry_us"] - as_of_us, YEAR_US), ZERO)
    call, strike, rate = option["option_type"] == "call", exact(option["strike"]), exact(option.get("discount_rate", 0))
    if option.get("premium", "upfront") != "upfront":
        rate = ZERO  # a premium that is settled daily is not discounted
    ends = sorted(black(call, end, strike, years, sigma, rate) for end in (ahead.low, ahead.high))
    value = Price(ends[0], ends[1], ahead.state)
    if option.get("inverse", False):
        value = Price(value.low / ahead.high, value.high / ahead.low, value.state)
    return value, black_delta(call, ahead.low, strike, years, sigma, rate)
