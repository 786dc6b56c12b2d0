"""Counterparty exposure of netting sets: replacement cost, margin calls, and exposure at default by SA-CCR (Basel
CRE52).

Everything is signed from our side. Value less collateral of a set is, per account, our equity at market value: of our
own account at a venue what the venue owes us, of a client's account what the client owes us. What we posted under
segregation is safe and does not count; collateral that is held from others is cut by the set's haircuts (else the
asset's), what we posted is a claim at market value.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from fractions import Fraction

from seawall_testing.reference.accounts import Row, asset_value, open_funding, rows
from seawall_testing.reference.book import Book, balances
from seawall_testing.reference.numbers import ONE, YEAR_US, ZERO, down, exact, exponential, root, supervisory_delta, up
from seawall_testing.reference.prices import forward
from seawall_testing.reference.terms import Json, Rules, haircut, is_upfront, lending_units, sign, underlying

ALPHA = Fraction(14, 10)  # CRE52.1
FACTORS = {  # OSFI's interim class of crypto assets, CRE52.72 for the others: factor, correlation, option volatility
    "CRYPTO": (Fraction(40, 100), ZERO, Fraction(150, 100)),
    "FX": (Fraction(4, 100), ZERO, Fraction(15, 100)),
    "EQ": (Fraction(32, 100), Fraction(1, 2), Fraction(120, 100)),
}
BUSINESS_YEAR = 250  # CRE52.48


@dataclass(frozen=True)
class Exposure:
    """Measures of one netting set, and what a call asks for: positive from them, negative from us."""

    value: Fraction
    held: Fraction
    current_exposure: Fraction
    exposure_at_default: Fraction
    add_on: Fraction
    margin_call: Fraction


def members(book: Book, netting_set: str) -> list[str]:
    """Return the accounts of a set; an account without one is a set of its own."""
    return sorted(name for name, item in book.terms.accounts.items() if item.get("netting_set", name) == netting_set)


def terms_of_set(book: Book, netting_set: str) -> Json:
    """Return the terms of a set; without a record the defaults."""
    return book.terms.netting_sets.get(netting_set, {})


def _kept(book: Book, terms: Json, account: Json, asset: str, rules: Rules, amount: Fraction) -> Fraction:
    """Return the share of a holder's balance that counts; what an agreement does not list is not received."""
    if terms.get("eligible") and asset not in terms["eligible"] and -sign(account) * amount > 0:
        return ZERO
    held = balances(book, account["account"], rules)[asset]
    cut = ONE - lending_units(book.terms, account, asset, held) / held if held > 0 else haircut(book.terms, asset)
    cut = exact(terms["eligible"][asset]) if asset in terms.get("eligible", {}) else cut
    if account["holder"] == "house" and rules.deposits_at_market:
        cut = ZERO
    if not terms:  # nets equity, which is less of a deposit by its haircut
        return ONE - cut if amount > 0 else ONE
    if not rules.deposits_at_market and terms and sign(account) * amount > 0:
        return ONE + cut
    return ONE if amount < 0 and rules.deposits_at_market else ONE - cut


def value_less_collateral(book: Book, name: str, as_of_us: int, rules: Rules) -> Fraction:
    """Return V - C of one account from our side."""
    account = book.terms.accounts[name]
    terms = terms_of_set(book, account.get("netting_set", name))
    total = ZERO
    parts = pieces(book, name, rules)
    if not terms and not rules.deposits_at_market:  # before, a set without a record netted equity as it was
        parts = {(asset, False, False): amount for asset, amount in balances(book, name, rules).items()}
    for (asset, _, segregated), amount in parts.items():
        if not (segregated and sign(account) * amount > 0):
            price = asset_value(book, asset, as_of_us, rules, None)
            total += amount * _kept(book, terms, account, asset, rules, amount) * price.stands
    found = list(rows(book, name, as_of_us, rules, None))
    for row in found:
        paid = row.cost if is_upfront(row.instrument, rules) else ZERO
        end = row.value.high if account["holder"] == "house" else row.value.low  # what is worse for us
        total += (end - row.cost + paid) * row.settlement.stands
    for amount, price in open_funding(book, name, found, as_of_us, rules, None):
        total += amount * price.stands
    return sign(account) * total


@dataclass(frozen=True)
class Held:
    """Collateral of an account from our side after haircuts.

    ``net`` is C, ``independent`` the part of it that is NICA, ``received`` what came from them, and ``remote`` what we
    posted into segregated accounts: delivered as a call sees it, and counted nowhere else (CRE52.17); of it
    ``remote_independent`` for independent amounts.
    """

    net: Fraction = ZERO
    independent: Fraction = ZERO
    received: Fraction = ZERO
    remote: Fraction = ZERO
    remote_independent: Fraction = ZERO


def collateral_held(book: Book, name: str, as_of_us: int, rules: Rules) -> Held:
    """Return an account's balances as collateral: independent amounts and the rest once each."""
    account = book.terms.accounts[name]
    terms = terms_of_set(book, account.get("netting_set", name))
    net, apart, received, remote, remote_apart = ZERO, ZERO, ZERO, ZERO, ZERO
    for (asset, independent, segregated), part in pieces(book, name, rules).items():
        price = asset_value(book, asset, as_of_us, rules, None).stands
        value = -sign(account) * part * _kept(book, terms, account, asset, rules, part) * price
        if segregated and value < 0:
            remote += value
            remote_apart += value if independent else ZERO
            continue
        net += value
        apart += value if independent else ZERO
        received += max(value, ZERO) if account["holder"] != "house" else ZERO  # our own debt is no collateral
    return Held(net, apart, received, remote, remote_apart)


def pieces(book: Book, name: str, rules: Rules) -> dict[tuple[str, bool, bool], Fraction]:
    """Return an account's balances by asset, apart what is an independent amount and what is segregated."""
    found: dict[tuple[str, bool, bool], Fraction] = defaultdict(Fraction)
    for asset, amount in balances(book, name, rules).items():
        found[asset, False, False] += amount
    for transfer in book.transfers:
        kind = transfer.get("purpose") == "independent_amount", transfer.get("segregated", False)
        if transfer["account"] == name and any(kind):
            found[transfer["asset"], *kind] += exact(transfer["amount"])
            found[transfer["asset"], False, False] -= exact(transfer["amount"])
    return found


def exposure(book: Book, netting_set: str, as_of_us: int, rules: Rules) -> Exposure:
    """Return the exposure of a set."""
    terms, names = terms_of_set(book, netting_set), members(book, netting_set)
    excess = [value_less_collateral(book, name, as_of_us, rules) for name in names]
    kept = [collateral_held(book, name, as_of_us, rules) for name in names]
    held, apart = sum((one.net for one in kept), ZERO), sum((one.independent for one in kept), ZERO)
    received = sum((one.received for one in kept), ZERO)
    net, value = sum(excess, ZERO), sum(excess, ZERO) + held
    call = margin_call(terms, value, held, kept, rules)
    if not terms.get("enforceable", True):
        return _separate(book, names, excess, Exposure(value, received, ZERO, ZERO, ZERO, call), as_of_us, rules)
    trades = [trade for name in names for trade in _trades(book, name, as_of_us, rules)]
    cost, add_on = max(net, ZERO), _add_on(trades, None)
    ead = unmargined = _ead(net, cost, add_on)
    if terms.get("margined", False) and terms.get("they_post", True):
        gap = exact(terms.get("threshold", 0)) + exact(terms.get("minimum_transfer_amount", 0)) - apart
        cost = max(net, gap, ZERO)  # CRE52.18
        ead = min(_ead(net, cost, _add_on(trades, _period(terms))), unmargined)  # CRE52.2
    return Exposure(value, received, cost, ead, add_on, call)


def _separate(
    book: Book, names: list[str], excess: list[Fraction], whole: Exposure, as_of_us: int, rules: Rules
) -> Exposure:
    """Return the exposure of a set that does not net: its accounts apart, every trade's add-on, no multiplier."""
    cost, add_on = ZERO, ZERO
    for name, net in zip(names, excess, strict=True):
        alone = sum((_add_on([trade], None) for trade in _trades(book, name, as_of_us, rules)), ZERO)
        cost, add_on = cost + max(net, ZERO), add_on + alone
    return replace(whole, current_exposure=cost, exposure_at_default=ALPHA * (cost + add_on), add_on=add_on)


def margin_call(terms: Json, value: Fraction, held: Fraction, kept: list[Held], rules: Rules) -> Fraction:
    """Return what is called, exactly: positive from them, negative from us, 0 below the minimum transfer amount.

    Required is the value beyond the threshold of who owes it, and the independent amount beside it. What gives back
    what the other side had delivered is rounded down to the unit, the rest up. A set that is not margined calls for
    its independent amount alone, and gives nothing else back.
    """
    margined = terms.get("margined", False)
    theirs = max(value - exact(terms.get("threshold", 0)), ZERO) if margined and terms.get("they_post", True) else ZERO
    ours = max(-value - exact(terms.get("our_threshold", 0)), ZERO) if margined and terms.get("we_post", True) else ZERO
    delivered = held + sum((one.remote for one in kept), ZERO)
    if not margined and rules.deposits_at_market:
        delivered = sum((one.independent + one.remote_independent for one in kept), ZERO)
    missing = theirs - ours + exact(terms.get("independent_amount", 0)) - delivered
    least = "minimum_transfer_amount" if missing > 0 else "our_minimum_transfer_amount"
    if missing == 0 or abs(missing) < exact(terms.get(least, 0)):
        return ZERO
    unit = exact(terms.get("rounding", 0))
    back = min(abs(missing), max(-delivered if missing > 0 else delivered, ZERO))
    rounded = down(back, unit) + up(abs(missing) - back, unit)
    return rounded if missing > 0 else -rounded


def _period(terms: Json) -> Fraction:
    """Return the margin period of risk in business days: at least 9 + N (CRE52.50)."""
    floor = 9 + int(terms.get("remargin_business_days", 1))
    return Fraction(max(int(terms.get("margin_period_business_days", 10)), floor))


@dataclass(frozen=True)
class Trade:
    """One position as SA-CCR sees it; delta carries our sign."""

    asset_class: str
    hedging_set: str
    notional: Fraction
    delta: Fraction
    maturity: Fraction  # years


def _trades(book: Book, name: str, as_of_us: int, rules: Rules) -> list[Trade]:
    """Build a trade of each position: spot and collateral are none."""
    account = book.terms.accounts[name]
    return [_trade(book, account, row, as_of_us, rules) for row in rows(book, name, as_of_us, rules, None)]


def _trade(book: Book, account: Json, row: Row, as_of_us: int, rules: Rules) -> Trade:
    item = row.instrument
    kind = str(book.terms.assets.get(underlying(item), {}).get("sa_ccr_class", "CRYPTO"))
    years = max(Fraction(item.get("expiry_us", as_of_us) - as_of_us, YEAR_US), ZERO)
    delta = ONE if row.units > 0 else -ONE
    if item["kind"] == "option":
        ahead = forward(book, item, as_of_us, rules)
        if ahead is not None and years > 0:
            call, strike = item["option_type"] == "call", exact(item["strike"])
            delta *= supervisory_delta(call, ahead.stands, strike, years, FACTORS[kind][2])
    settled_daily = item["kind"] in ("perpetual", "future") and _is_venue(book, account)
    maturity = years if (rules.bilateral_maturity and not settled_daily) or item["kind"] == "option" else ZERO
    notional = max(abs(row.notional.low), abs(row.notional.high))
    return Trade(kind, f"{underlying(item)}/{_pegged(book, item['quote'])}", notional, sign(account) * delta, maturity)


def _pegged(book: Book, asset: str) -> str:
    """Return what a stablecoin stands for in a pair."""
    record = book.terms.assets.get(asset, {})
    return str(record.get("peg", asset)) if record.get("class") == "stablecoin" else asset


def _is_venue(book: Book, account: Json) -> bool:
    return bool(book.terms.counterparties.get(account["counterparty"], {}).get("role") == "venue")


def _add_on(trades: list[Trade], period: Fraction | None) -> Fraction:
    """Sum hedging sets: full offset within one pair, none between; maturity factor by CRE52.48 or 52.52."""
    floor = Fraction(10, BUSINESS_YEAR)
    sums: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for trade in trades:
        years = min(max(trade.maturity, floor), ONE)
        factor = root(years) if period is None else Fraction(3, 2) * root(period / BUSINESS_YEAR)
        sums[trade.asset_class, trade.hedging_set] += trade.notional * trade.delta * factor
    single = sum((FACTORS[kind][0] * abs(total) for (kind, _), total in sums.items() if kind != "EQ"), ZERO)
    equities = [FACTORS["EQ"][0] * total for (kind, _), total in sums.items() if kind == "EQ"]
    rho = FACTORS["EQ"][1]
    square = (rho * sum(equities, ZERO)) ** 2 + sum(((1 - rho**2) * one**2 for one in equities), ZERO)
    return single + root(square)


def _ead(net: Fraction, cost: Fraction, add_on: Fraction) -> Fraction:
    """Return alpha x (RC + multiplier x add-on), CRE52.1 and 52.23."""
    if add_on == 0:
        return ALPHA * cost
    floor = Fraction(5, 100)
    share = floor + (1 - floor) * exponential(net / (2 * (1 - floor) * add_on)) if net < 0 else ONE
    return ALPHA * (cost + min(ONE, share) * add_on)
