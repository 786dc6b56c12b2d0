"""Accounts: rows of what is held, equity, margins, ratios, and delta per underlying.

What has no price is an interval, long [0, last known x factor] and short the negative of it. Measures are taken at
the worse end: equity at the low one, notional and margin at the high one. An account is unvalued where the interval
of its equity is wider than a tolerance of it.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from seawall_testing.reference.book import Book, balances, debts, position, running_funding, units
from seawall_testing.reference.ladders import Price, exactly
from seawall_testing.reference.numbers import ONE, ZERO, exact
from seawall_testing.reference.prices import (
    asset_price,
    forward,
    instrument_price,
    last_known,
    option_value,
)
from seawall_testing.reference.terms import (
    Json,
    Rules,
    is_upfront,
    lending_units,
    margin_rate,
    sign,
    size,
    underlying,
    unit_value,
)

RATIO_MAX = Fraction(1_000_000)


@dataclass
class Interval:
    """A sum of intervals."""

    low: Fraction = ZERO
    high: Fraction = ZERO

    def add(self, amount: Fraction, price: Price) -> None:
        """Add an amount at a price."""
        ends = sorted((amount * price.low, amount * price.high))
        self.low, self.high = self.low + ends[0], self.high + ends[1]


@dataclass(frozen=True)
class Row:
    """One position: value in its settlement asset against cost; notional and money delta in the reporting currency."""

    instrument: Json
    units: Fraction
    value: Price  # of the position, in the settlement asset
    cost: Fraction
    settlement: Price
    notional: Price
    delta: Fraction


@dataclass(frozen=True)
class Account:
    """Measures of one account in the reporting currency."""

    equity: Fraction
    unrealised_pnl: Fraction
    gross_notional: Fraction
    net_notional: Fraction
    initial_margin: Fraction
    maintenance_margin: Fraction
    margin_ratio: Fraction
    leverage: Fraction
    unvalued: bool
    rows: list[Row] = field(default_factory=list)


def asset_value(book: Book, asset: str, as_of_us: int, rules: Rules, venue: str | None) -> Price:
    """Return an asset's price; one that is not known is 0, the worse end of collateral."""
    found = asset_price(book, asset, as_of_us, rules, venue)
    across = asset_price(book, asset, as_of_us, rules)
    if found is None or across is None:
        return Price(ZERO, ZERO, "unvalued")
    # How far apart the two are of which one is not confirmed is found across venues.
    part = found.stands / across.stands
    return Price(across.low * part, across.high * part, found.state, found.stands)


def _opened_at(item: Json, units: Fraction, cost: Fraction) -> Fraction | None:
    """Return the price that a position was opened at on average."""
    if cost == 0:
        return None
    return -size(item) * units / cost if item.get("inverse", False) else cost / units / size(item)


def rows(book: Book, account: str, as_of_us: int, rules: Rules, venue: str | None) -> Iterator[Row]:
    """Yield the positions of an account that are not spot."""
    for key in sorted(key for key in book.trades if key[0] == account):
        instrument = book.terms.instruments[key[1]]
        if instrument["kind"] != "spot" and units(book, key) != 0:
            yield _row(book, key, instrument, as_of_us, rules, venue)


def _row(book: Book, key: tuple[str, str], item: Json, as_of_us: int, rules: Rules, venue: str | None) -> Row:
    held = position(book, key)
    settlement = asset_value(book, item["settlement"], as_of_us, rules, venue)
    if item["kind"] == "option":
        return _option_row(book, item, held.units, held.cost, settlement, as_of_us, rules, venue)
    price = instrument_price(book, key[1], as_of_us, rules, venue) or _unpriced(
        book, item, held.units, held.cost, rules
    )
    if price is None:
        return Row(
            item, held.units, exactly(held.cost, "missing"), held.cost, settlement, exactly(ZERO, "missing"), ZERO
        )
    inverse = item.get("inverse", False)
    if inverse and price.low == 0:  # 1/0: the value of a long inverse has no bound; the row is flagged by its state
        price = Price(price.high, price.high, price.state)
    ends = sorted(held.units * unit_value(item, end) for end in (price.low, price.high))
    stands = ZERO if price.state == "unvalued" else held.units * unit_value(item, price.stands)
    value = Price(ends[0], ends[1], price.state, stands)
    signed = [held.units * abs(unit_value(item, end)) for end in (price.low, price.high)]
    ends = sorted(one * end for one in signed for end in (settlement.low, settlement.high))
    notional = Price(ends[0], ends[-1], price.state)
    delta = _magnitude(notional) * (1 if held.units > 0 else -1)
    return Row(item, held.units, value, held.cost, settlement, notional, delta)


def _unpriced(book: Book, item: Json, units: Fraction, cost: Fraction, rules: Rules) -> Price | None:
    known = last_known(book, item["instrument"]) or _opened_at(item, units, cost)
    return Price(ZERO, known * rules.unvalued_factor, "unvalued") if rules.intervals and known is not None else None


def _option_row(
    book: Book, item: Json, held: Fraction, cost: Fraction, settlement: Price, as_of_us: int, rules: Rules,
    venue: str | None,
) -> Row:  # fmt: skip
    at = venue if rules.standing_decays else None  # before, notional and greeks of options knew no venue
    quote, ahead = asset_value(book, item["quote"], as_of_us, rules, at), forward(book, item, as_of_us, rules)
    model = option_value(book, item, as_of_us, rules, venue)
    price = model[0] if model is not None and rules.options_from_forward else None
    if venue is not None and any(
        mark["instrument"] == item["instrument"] and mark.get("venue") == venue for mark in book.marks
    ):  # a venue's own option mark serves the margin of accounts there
        price = None
    price = price or instrument_price(book, item["instrument"], as_of_us, rules, venue)
    price, quote = price or _unpriced(book, item, held, cost, rules), exactly(quote.stands, quote.state)
    if model is not None and ahead is not None:  # an option follows the price of its forward that stands
        ahead = exactly(ahead.stands, ahead.state)
    whole = held * size(item)
    ends = [cost, cost] if price is None else sorted((whole * price.low, whole * price.high))
    value = Price(ends[0], ends[1], "missing" if price is None else price.state)
    # Without a forward the strike stands in its place, and without a volatility an option moves with all of it.
    slope = model[1] if model is not None else ONE if item["option_type"] == "call" else -ONE
    ahead = ahead or exactly(exact(item["strike"]), "missing")
    if item.get("inverse", False):  # a unit of an inverse option is on a unit of the coin that it settles in
        ahead, quote = exactly(ONE), exactly(asset_value(book, item["settlement"], as_of_us, rules, at).stands)
    notional = sorted((whole * ahead.low * quote.low, whole * ahead.high * quote.high))
    return Row(
        item, held, value, cost, settlement, Price(notional[0], notional[1]), whole * slope * ahead.low * quote.low
    )


def _magnitude(price: Price) -> Fraction:
    return max(abs(price.low), abs(price.high))


def ratio(above: Fraction, equity: Fraction) -> Fraction:
    """Return margin or notional over equity: 0 without any, the largest where equity is not positive."""
    if above == 0:
        return ZERO
    return RATIO_MAX if equity <= 0 else min(above / equity, RATIO_MAX)


def account_measures(book: Book, account: str, as_of_us: int, rules: Rules) -> Account:
    """Return the measures of an account."""
    terms = book.terms.accounts[account]
    venue = terms.get("venue")
    found = list(rows(book, account, as_of_us, rules, venue))
    held, pnl = defaultdict[str, Interval](Interval), Interval()
    for asset, amount in balances(book, account, rules).items():
        held[asset].add(lending_units(book.terms, terms, asset, amount), exactly(ONE))
    for row in found:
        paid = row.cost if is_upfront(row.instrument, rules) else ZERO
        gained = Price(row.value.low - row.cost, row.value.high - row.cost)
        pnl.add(row.settlement.stands, gained)
        held[row.instrument["settlement"]].add(ONE, Price(gained.low + paid, gained.high + paid))
    equity = Interval()
    for asset, amount in held.items():  # all that is held and made in one asset is at one price
        worth = asset_value(book, asset, as_of_us, rules, venue)
        equity.low += worth.worse(amount.low)
        equity.high += -worth.worse(-amount.high)
    for amount, worth in open_funding(book, account, found, as_of_us, rules, venue):
        equity.add(amount, exactly(worth.stands))
        pnl.add(amount, exactly(worth.stands))
    margins = [_margins(book, terms, row) for row in found]
    gross = sum((_magnitude(row.notional) for row in found), ZERO)
    net = sum(account_deltas(book, account, as_of_us, rules, venue, moving=True).values(), ZERO)
    initial, maintenance = (sum((margin[n] for margin in margins), ZERO) for n in (0, 1))
    wide = equity.high - equity.low > rules.unvalued_tolerance * abs(equity.high)
    low = equity.low
    return Account(
        low, pnl.low, gross, net, initial, maintenance, ratio(maintenance, low), ratio(gross, low),
        rules.intervals and wide, found,
    )  # fmt: skip


def open_funding(
    book: Book, account: str, found: list[Row], as_of_us: int, rules: Rules, venue: str | None
) -> Iterator[tuple[Fraction, Price]]:
    """Yield unpaid funding with the price of its asset: whole intervals, and the running one's share."""
    for accrual in book.accruals:
        if accrual.account == account:
            yield accrual.amount, asset_value(book, accrual.asset, as_of_us, rules, venue)
    for row in found:
        share, rate = running_funding(book, account, row.instrument["instrument"], as_of_us)
        if share and row.value.state != "missing":
            worth = abs(row.value.stands) if row.instrument["kind"] == "perpetual" else ZERO
            yield -worth * (1 if row.units > 0 else -1) * rate * share, row.settlement


def _margins(book: Book, account: Json, row: Row) -> tuple[Fraction, Fraction]:
    notional = _magnitude(row.notional)
    found = []
    for side in ("initial", "maintenance"):
        rate, deduction = margin_rate(book.terms, account, row.instrument, notional, side)
        found.append(max(notional * rate - (deduction if side == "maintenance" else ZERO), ZERO))
    return found[0], found[1]


def account_deltas(
    book: Book, account: str, as_of_us: int, rules: Rules, venue: str | None = None, moving: bool = False
) -> dict[str, Fraction]:
    """Return money delta per underlying: positions, and with them all balances that are not the reporting currency.

    A settlement coin's unrealised profit counts as a balance: so an inverse contract at its entry against its coin is
    flat. ``moving``: without balances and profits in currencies and stablecoins, as net notional counts them.
    """
    still = {rules.reporting} | {
        name for name, item in book.terms.assets.items() if moving and item["class"] in ("fiat", "stablecoin")
    }
    found: dict[str, Fraction] = defaultdict(Fraction)
    for row in rows(book, account, as_of_us, rules, venue):
        found[underlying(row.instrument)] += row.delta
        if rules.all_holdings and row.instrument["settlement"] not in still:
            paid = row.cost if is_upfront(row.instrument, rules) else ZERO
            # The delta of an option is of its whole value, also where that is paid in coin.
            in_coin = row.instrument["kind"] == "option" and row.instrument.get("inverse", False)
            worth = ZERO if in_coin else row.value.low
            found[row.instrument["settlement"]] += (worth - row.cost + paid) * row.settlement.stands
    if rules.all_holdings:
        for asset, amount in balances(book, account, rules).items():
            if asset not in still:
                found[asset] += amount * asset_value(book, asset, as_of_us, rules, venue).stands
    return found


def firm_deltas(book: Book, as_of_us: int, rules: Rules) -> dict[str, Fraction]:
    """Return delta per underlying from our side; what we hold as an agent stays out."""
    found: dict[str, Fraction] = defaultdict(Fraction)
    for name, account in book.terms.accounts.items():
        if account.get("capacity", "principal") == "principal":
            for asset, delta in account_deltas(book, name, as_of_us, rules).items():
                found[asset] += sign(account) * delta
    for _, asset, amount in debts(book):
        if asset != rules.reporting:
            found[asset] += amount * asset_value(book, asset, as_of_us, rules, None).stands
    return found


def party_net_notional(book: Book, party: str, as_of_us: int, rules: Rules) -> Fraction:
    """Return a counterparty's net notional from our side: of accounts not held as agent, and of debts in no money."""
    money = {rules.reporting} | {n for n, item in book.terms.assets.items() if item["class"] in ("fiat", "stablecoin")}
    found = ZERO
    for name, account in book.terms.accounts.items():
        if account["counterparty"] == party and account.get("capacity", "principal") == "principal":
            found += sign(account) * sum(account_deltas(book, name, as_of_us, rules, moving=True).values(), ZERO)
    for other, asset, amount in debts(book):
        if other == party and asset not in money:
            found += amount * asset_value(book, asset, as_of_us, rules, None).stands
    return found
