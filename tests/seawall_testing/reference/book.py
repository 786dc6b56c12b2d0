"""Book: events up to a time to positions, balances and open funding accruals, exactly.

1. Events apply in the order of the list (event time, source position). Within a slice transfers come before fills,
   settled funding stands between fills by the end of its interval, a bust or correction comes after what it corrects,
   and the marks of the slice are those of all that happens in it. A repetition, and a correction of an unknown fill,
   change nothing.
2. A position is the list of its fills in force. Average cost follows from folding that list, so that a bust leaves
   the book as though the fill had never been (or, by the rules of before, as a trade the other way).
3. At expiry and with a settlement mark a position is closed at it, and so is what is traded or undone afterwards.
4. A settled funding record makes an accrual per account that holds the instrument; a payment closes one.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate

from seawall_testing.reference.ladders import ladder_price
from seawall_testing.reference.numbers import ZERO, exact
from seawall_testing.reference.terms import Json, Rules, Terms, is_upfront, size, terms_of, unit_value

Key = tuple[str, str]  # account, instrument
OPENING = "opening"  # of a position that was there before: its premium is not in the balance that was reported
SETTLEMENT_DAY_US = 3_600_000_000  # a settlement mark older than an hour before the expiry is of another day


@dataclass(frozen=True)
class Trade:
    """One fill in force: signed units and price."""

    fill_id: str
    units: Fraction
    price: Fraction


@dataclass(frozen=True)
class Position:
    """A position: signed units, average cost of them and what was realised, in the settlement asset."""

    units: Fraction
    cost: Fraction
    realised: Fraction


@dataclass(frozen=True)
class Accrual:
    """Funding of one interval that has not been paid: an amount of the settlement asset, signed for the holder."""

    account: str
    instrument: str
    asset: str
    interval_end_us: int
    amount: Fraction


@dataclass
class Book:
    """Everything held at a time."""

    terms: Terms
    trades: dict[Key, list[Trade]] = field(default_factory=lambda: defaultdict(list))
    transfers: list[Json] = field(default_factory=list)
    obligations: dict[str, Json] = field(default_factory=dict)
    fees: dict[str, tuple[Key, Fraction]] = field(default_factory=dict)  # by fill: (account, asset) and amount
    booked_funding: dict[Key, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    accruals: list[Accrual] = field(default_factory=list)
    ahead: dict[Key, int] = field(default_factory=dict)  # by account and contract or asset: paid before its record
    marks: list[Json] = field(default_factory=list)  # with when they were taken, as `arrived_us`
    broken: dict[tuple[str, int], bool] = field(default_factory=dict)  # pegs that were looked at, by asset and time
    rates: dict[Key, list[Json]] = field(default_factory=lambda: defaultdict(list))  # by (venue, instrument)
    paid_us: dict[Key, int] = field(default_factory=dict)  # by (account, asset): of the rules of before
    seen: set[str] = field(default_factory=set)
    fill_keys: dict[str, Key] = field(default_factory=dict)
    waiting: list[Json] = field(default_factory=list)  # corrections ahead of their fill in a slice


def arrivals(events: Sequence[Json]) -> list[int]:
    """Return when each event is taken: at its time, or where it arrives if that is later."""
    return list(accumulate((event.get("event_time_us", 0) for event in events), max))


def book_at(events: Sequence[Json], as_of_us: int, rules: Rules) -> Book:
    """Return the book of all events that were taken at or before a time."""
    before = [(at_us, event) for at_us, event in zip(arrivals(events), events, strict=True) if at_us <= as_of_us]
    book = Book(terms_of(event for _, event in before))
    marks: dict[int, list[Json]] = defaultdict(list)
    for at, event in before:
        if event["type"] == "mark":
            marks[at // rules.slice_us].append({**event, "arrived_us": at})
    number = None
    for at, event in sorted(before, key=lambda pair: _place(*pair, rules)):
        if number != at // rules.slice_us:
            number = at // rules.slice_us
            book.waiting.clear()
            book.marks += marks[number]
        _expire(book, at)
        _apply(book, event, rules)
    _expire(book, as_of_us)
    return book


def _place(at_us: int, event: Json, rules: Rules) -> tuple[int, int, int, int]:
    """Return where an event stands: its slice, what comes first in one, and its time; fills are of when they arrive.

    Of one time fills come before settled funding, but for late ones: these stand where they arrive.
    """
    settled = event["type"] == "funding" and event.get("kind", "settled") == "settled"
    rank = 2 if settled else {"collateral": 1, "fill": 2}.get(event["type"], 0)
    is_late = event.get("event_time_us", at_us) < at_us
    return at_us // rules.slice_us, rank, event["event_time_us"] if settled else at_us, int(settled or is_late)


def _apply(book: Book, event: Json, rules: Rules) -> None:
    if event["type"] == "fill":
        _fill(book, event, rules)
        if event.get("action", "new") == "new":
            for late in [late for late in book.waiting if late["ref_fill_id"] == event["fill_id"]]:
                book.waiting.remove(late)
                _fill(book, late, rules)
    elif event["type"] == "collateral":
        if _is_new(book, event["transfer_id"]):
            book.transfers.append(event)
            if event.get("purpose") == "funding":
                _pay(book, event, rules)
    elif event["type"] == "obligation":
        book.obligations[event["obligation_id"]] = event
    elif event.get("kind") == "opening":
        _open(book, event)
    elif event["type"] == "funding":
        book.rates[event["venue"], event["instrument"]].append(event)
        if event.get("kind", "settled") == "settled":
            _accrue(book, event, rules)


def _open(book: Book, event: Json) -> None:
    if event["type"] == "balance_report":
        book.transfers.append(event)
    else:
        trade = Trade(OPENING, exact(event["quantity"]), exact(event["entry_price"]))
        book.trades[event["account"], event["instrument"]].append(trade)


def _is_new(book: Book, name: str) -> bool:
    known = name in book.seen
    book.seen.add(name)
    return not known


def _fill(book: Book, event: Json, rules: Rules) -> None:
    action = event.get("action", "new")
    if action != "new" and event["ref_fill_id"] not in book.fill_keys:
        book.waiting.append(event)
        return
    if not _is_new(book, event["fill_id"]):
        return
    key = (event["account"], event["instrument"])
    units = exact(event["quantity"]) * (1 if event["side"] == "buy" else -1)
    trade = Trade(event["fill_id"], units, exact(event["price"]))
    if action == "new":
        book.trades[key].append(trade)
        book.fill_keys[event["fill_id"]] = key
        _fee(book, event, event["fill_id"])
    else:
        _undo(book, event, trade, rules)


def _undo(book: Book, event: Json, trade: Trade, rules: Rules) -> None:
    """Take a fill out of the book (bust) or put another in its place (correct)."""
    reference = event["ref_fill_id"]
    key = book.fill_keys[reference]
    trades = book.trades[key]
    place = next((n for n, old in enumerate(trades) if old.fill_id == reference), None)
    if place is None:
        return
    old = trades[place]
    del book.fees[reference]  # it was charged for a fill that never was; a correction carries the new one
    if event["action"] == "correct":
        _fee(book, event, reference)
    kept = [Trade(reference, trade.units, trade.price)] if event["action"] == "correct" else []
    if rules.undone_as_never:
        trades[place : place + 1] = kept
        return
    trades[place] = Trade("", old.units, old.price)
    trades.append(Trade("", -old.units, old.price))
    trades.extend(kept)


def _fee(book: Book, event: Json, fill_id: str) -> None:
    instrument = book.terms.instruments[event["instrument"]]
    default: str = instrument["quote"] if instrument["kind"] == "spot" else instrument["settlement"]
    book.fees[fill_id] = (event["account"], event.get("fee_asset", default)), exact(event.get("fee", 0))


def _expire(book: Book, at_us: int) -> None:
    """Close what has expired and has a settlement mark; an option at the mark of its forward or underlying."""
    for name, instrument in book.terms.instruments.items():
        expiry = instrument.get("expiry_us")
        if instrument["kind"] not in ("future", "option") or expiry is None or expiry > at_us:
            continue
        names = (name,) if instrument["kind"] == "future" else (name, instrument.get("forward", ""))
        marks = [
            mark for mark in book.marks
            if mark["instrument"] in names and mark.get("kind") == "settlement"
            and mark["event_time_us"] >= expiry - SETTLEMENT_DAY_US
        ]  # fmt: skip
        if not marks:
            continue
        price = exact(marks[-1]["price"])
        if instrument["kind"] == "option":
            move = price - exact(instrument["strike"])
            price = max(move if instrument["option_type"] == "call" else -move, ZERO)
        for key in [key for key in book.trades if key[1] == name and units(book, key) != 0]:
            book.trades[key].append(Trade("", -units(book, key), price))


def debts(book: Book) -> list[tuple[str, str, Fraction]]:
    """Return counterparty, asset and amount of what stands owed to the house, and negative of what it owes."""
    found = []
    for one in book.obligations.values():
        if one["kind"] not in ("loan", "withdrawal", "settlement") or one.get("status", "open") == "paid":
            continue
        if one["to"] == "house":
            found.append((one["from"], one["asset"], exact(one["amount"])))
        elif one["from"] == "house":
            found.append((one["to"], one["asset"], -exact(one["amount"])))
    return found


def units(book: Book, key: Key) -> Fraction:
    """Return the signed units of a position."""
    return sum((trade.units for trade in book.trades.get(key, ())), ZERO)


def position(book: Book, key: Key) -> Position:
    """Fold the fills of a position: average cost, realised where it shrinks."""
    instrument = book.terms.instruments[key[1]]
    held, cost, realised = ZERO, ZERO, ZERO
    for trade in book.trades.get(key, ()):
        worth, rest = (
            unit_value(instrument, trade.price) if trade.price or not instrument.get("inverse") else ZERO,
            trade.units,
        )
        if held * rest < 0:
            closed = min(abs(rest), abs(held)) * (1 if held > 0 else -1)
            released = cost * closed / held
            realised += closed * worth - released
            held, cost, rest = held - closed, cost - released, rest + closed
        held, cost = held + rest, cost + rest * worth
    return Position(held, cost, realised)


def _accrue(book: Book, event: Json, rules: Rules) -> None:
    """Accrue one interval on what each account holds; longs pay a positive rate."""
    name = event["instrument"]
    instrument = book.terms.instruments[name]
    first = next(venue for venue, instrument in book.rates if instrument == name)
    for account, terms in book.terms.accounts.items():
        held = units(book, (account, name))
        if terms.get("venue", first) != event["venue"] or held == 0:
            continue
        price = _funding_price(book, event, terms.get("venue"), rules)
        if price is None:
            continue
        amount = -held * abs(unit_value(instrument, price)) * exact(event["rate"])
        accrual = Accrual(account, name, instrument["settlement"], event["event_time_us"], amount)
        if terms.get("books_funding", False):
            book.booked_funding[account, accrual.asset] += amount
        elif not (rules.funding_matched and _was_paid(book, accrual, event["interval_us"])):
            book.accruals.append(accrual)


def _funding_price(book: Book, event: Json, venue: str | None, rules: Rules) -> Fraction | None:
    if rules.funding_matched and "price" in event:
        return exact(event["price"])
    found = ladder_price(book.marks, event["instrument"], event["event_time_us"], rules, venue)
    return None if found is None else found.stands


def running_funding(book: Book, account: str, name: str, as_of_us: int) -> tuple[Fraction, Fraction]:
    """Return the share of the interval that has passed since it began, and the latest rate; an account's own venue's.

    An account without a venue follows the venue that published first. The interval began with the last settled
    record, or with the first record of all.
    """
    venues = [venue for venue, instrument in book.rates if instrument == name]
    venue = book.terms.accounts[account].get("venue", venues[0] if venues else "")
    heard = book.rates.get((venue, name), [])
    if not heard or book.terms.accounts[account].get("books_funding", False):
        return ZERO, ZERO
    began = [event["event_time_us"] for event in heard if event.get("kind", "settled") == "settled"]
    since = max([heard[0]["event_time_us"], *began])
    asset = book.terms.instruments[name]["settlement"]
    since = max(since, book.paid_us.get((account, asset), since), book.ahead.get((account, name), since))
    latest = max(heard, key=lambda event: event["event_time_us"])
    passed = Fraction(as_of_us - since, latest["interval_us"])
    return min(max(passed, ZERO), Fraction(1)), exact(latest["rate"])


def _was_paid(book: Book, accrual: Accrual, interval_us: int) -> bool:
    """Tell that an interval was paid ahead of its record, within its second half; such a payment counts once."""
    keys = [(accrual.account, accrual.instrument), (accrual.account, accrual.asset)]
    paid_us = next((book.ahead.pop(key) for key in keys if key in book.ahead), 0)
    return paid_us > accrual.interval_end_us - interval_us // 2


def _matches(payment: Json, accrual: Accrual) -> bool:
    return bool(
        payment["account"] == accrual.account
        and payment["asset"] == accrual.asset
        and payment.get("instrument", accrual.instrument) == accrual.instrument
        and payment.get("interval_end_us", accrual.interval_end_us) == accrual.interval_end_us
    )


def _pay(book: Book, event: Json, rules: Rules) -> None:
    matching = [accrual for accrual in book.accruals if _matches(event, accrual)]
    if not rules.funding_matched:
        matching = [a for a in book.accruals if (a.account, a.asset) == (event["account"], event["asset"])]
        book.accruals = [accrual for accrual in book.accruals if accrual not in matching]
        book.paid_us[event["account"], event["asset"]] = event["event_time_us"]
    elif matching:
        book.accruals.remove(matching[0])
    else:
        slice_end_us = (event["event_time_us"] // rules.slice_us + 1) * rules.slice_us  # where the journal places it
        book.ahead[event["account"], _running_contract(book, event)] = slice_end_us


def _running_contract(book: Book, payment: Json) -> str:
    """Return the contract that a payment ahead of its record pays: the one named, or of those that the account holds,
    settled in that asset, the one whose interval has run furthest; the asset where there is none.
    """
    if "instrument" in payment:
        return str(payment["instrument"])
    account, at_us = payment["account"], payment["event_time_us"]
    found = str(payment["asset"])
    most = ZERO
    for _, name in book.rates:
        if book.terms.instruments[name]["settlement"] != payment["asset"] or not units(book, (account, name)):
            continue
        share, _ = running_funding(book, account, name, at_us)
        if share > most:
            found, most = name, share
    return found


def balances(book: Book, account: str, rules: Rules) -> dict[str, Fraction]:
    """Return an account's balance per asset: transfers, what fills moved, fees and booked funding."""
    found: dict[str, Fraction] = defaultdict(Fraction)
    for transfer in book.transfers:
        if transfer["account"] == account:
            found[transfer["asset"]] += exact(transfer["amount"])
    for key in [key for key in book.trades if key[0] == account]:
        _moved(book, key, found, rules)
    for (holder, asset), fee in book.fees.values():
        found[asset] -= fee if holder == account else ZERO
    for (holder, asset), amount in book.booked_funding.items():
        found[asset] += amount if holder == account else ZERO
    return found


def _moved(book: Book, key: Key, found: dict[str, Fraction], rules: Rules) -> None:
    """Add what the fills of a position moved: both assets of spot, an upfront premium, else what is realised."""
    instrument = book.terms.instruments[key[1]]
    if instrument["kind"] == "spot":
        for trade in book.trades[key]:
            found[instrument["base"]] += trade.units * size(instrument)
            found[instrument["quote"]] -= trade.units * size(instrument) * trade.price
        return
    held = position(book, key)
    paid = held.realised
    if is_upfront(instrument, rules):
        opened = (trade for trade in book.trades[key] if trade.fill_id == OPENING)
        paid += sum((trade.units * unit_value(instrument, trade.price) for trade in opened), ZERO) - held.cost
    found[instrument["settlement"]] += paid
