"""Updates of the ledger that are no trades: reference records, events, reports and expiries."""

from decimal import Decimal
from typing import Any

import numpy as np

from seawall.operators.core.base import SliceRecords
from seawall.operators.core.credit import HOUSE
from seawall.operators.core.holdings import ORDERS_MAX, shard_of
from seawall.operators.core.portfolio._ledger import Ledger
from seawall.operators.core.pricing import payoff
from seawall.schemas import events as ev
from seawall.schemas.decimals import parse_quantity, parse_scale
from seawall.schemas.errors import Rejected
from seawall.schemas.evidence import LimitDocument

# Expiry: positions become cash at the settlement mark of their instrument, whenever either comes.
#
# See contract.md, "Expiry".
#
# Venues mark futures for settlement every day; what settles an expiry is the mark of the expiry itself. A fill that
# arrives after it, or is undone after it, leaves a position that is settled as the others were.

# Final prices are means of the last half hour or hour; marks for settlement of other days are most of a day before.
EARLY_US = 3_600_000_000


def note_expiry(ledger: Ledger, record: ev.Instrument) -> None:
    """Expect the expiry that an instrument has now, or none."""
    number = ledger.directory.instruments[record.instrument]
    if record.expires_us:
        ledger.expiring[number] = record.expires_us
    else:
        ledger.expiring.pop(number, None)


def settle_expired(ledger: Ledger, as_of_us: int, out: SliceRecords) -> None:
    """Turn positions in expired instruments into cash at their settlement mark, once it is known."""
    for number, expiry_us in list(ledger.expiring.items()):
        price = _settlement(ledger, number) if expiry_us <= as_of_us else None
        if price is None:
            continue
        del ledger.expiring[number]
        rows = ledger.positions.rows
        record = ledger.directory.instrument_records[number]
        value = ledger.unit_value(number, payoff(record, price) if record.kind == "option" else price)
        settlement = int(ledger.directory.arrays["settlement"][number])
        for slot in np.flatnonzero((rows["instrument"] == number) & (rows["units"] != 0)).tolist():
            local = int(rows["account"][slot])
            units, upfront = int(rows["units"][slot]), ledger.directory.arrays["upfront"].item(number)
            moved = ledger.positions.fill(slot, -units, value, upfront)
            ledger.balances.add(local << 20 | settlement, moved)
            ledger.open.add_one(local, int(rows["mark"][slot]), -1)
            if ledger.explain.on:
                ledger.explain.fill(local, number, -units, value)
            ledger.touch_accounts(local)
        ledger.strategies.settle(number, value, settlement)
        rows = ledger.before.rows
        rows["units"][rows["instrument"] == number] = rows["cost"][rows["instrument"] == number] = 0
        out.decide("settled", {"instrument": record.instrument, "price": price})


def _settlement(ledger: Ledger, number: int) -> float | None:
    """Return the settlement mark of an expiry; an option has that of its underlying's, under either's name."""
    record = ledger.directory.instrument_records[number]
    price = _price_at(ledger, number, record)
    if price is None and record.forward:
        forward = ledger.directory.instruments.get(record.forward, -1)
        if forward >= 0 and ledger.directory.instrument_records[forward].expires_us == record.expires_us:
            price = _price_at(ledger, forward, record)
    return price


def _price_at(ledger: Ledger, number: int, record: Any) -> float | None:
    """Return the last mark for settlement of an instrument, unless it is of another day than the expiry."""
    price, time_us = ledger.marks.settlements.get(number, (0.0, -1))
    return price if time_us >= record.expires_us - EARLY_US else None


def apply_reference(ledger: Ledger, records: list[Any], out: SliceRecords) -> None:
    """Take the reference records of a slice; alert where something is closed that is held."""
    for record in records:
        if not ledger.directory.apply(record):
            continue
        ledger.touch()
        if isinstance(record, ev.Instrument):
            note_expiry(ledger, record)
        if isinstance(record, ev.Asset):
            ledger.marks.lift_peg(ledger.directory.assets[record.asset], record.event_time_us)
        if getattr(record, "status", "active") == "closed":
            _report_closed(ledger, record, out)
    ledger.grow()
    ledger.marks.refresh()


def _report_closed(ledger: Ledger, record: Any, out: SliceRecords) -> None:
    """Alert when something is closed that still has positions (contract.md, "Reference")."""
    ledger.grow()
    rows, directory = ledger.positions.rows, ledger.directory
    open_rows = rows["units"] != 0
    if isinstance(record, ev.Instrument):
        held = bool((open_rows & (rows["instrument"] == directory.instruments[record.instrument])).any())
        scope = f"instrument:{record.instrument}"
    elif isinstance(record, ev.Account | ev.Counterparty | ev.NettingSet):
        kind = {ev.Account: "account", ev.Counterparty: "counterparty", ev.NettingSet: "netting_set"}[type(record)]
        name = getattr(record, kind)
        own = [directory.account_records[number] for number in directory.own]
        members = [i for i, a in enumerate(own) if (getattr(a, kind) or a.account) == name]
        held = any(ledger.open.by_account[i] for i in members)
        scope = f"{kind}:{name}"
    else:
        return
    if held:
        out.alert("closed_with_positions", scope, 2, f"{scope} was closed and still has positions")


# --- events ---------------------------------------------------------------------------------------------------------


def apply_events(ledger: Ledger, events: list[Any], out: SliceRecords) -> None:
    """Take the events of a slice that change the book: reports, orders, limits, debts, open interest, funding."""
    directory = ledger.directory
    for event in events:
        match event:
            case ev.PositionReport() | ev.BalanceReport():
                local = directory.local[directory.accounts[event.account]]
                if local >= 0:
                    _apply_report(ledger, event, local, out)
            case ev.Order():
                _apply_order(ledger, event, out)
            case ev.Limit():
                document, _ = LimitDocument.of_envelope(event.document)
                ledger.ask([*document.set, *document.override])
                ledger.touch()
            case ev.Obligation():
                _apply_obligation(ledger, event)
            case ev.OpenInterest():
                ledger.margins.hear(event)
                if directory.has_schedule:
                    ledger.touch_values()
            case ev.Funding():
                ledger.funding.hear(event)
                ledger.touch_values()
            case ev.Acknowledgement():
                out.decide("acknowledgement", {"command_id": event.command_id, "outcome": event.outcome})
            case _:
                pass


def _apply_order(ledger: Ledger, event: ev.Order, out: SliceRecords) -> None:
    directory = ledger.directory
    local, number = directory.local[directory.accounts[event.account]], directory.instruments[event.instrument]
    scale = parse_scale(directory.instrument_records[number].quantity_increment)
    if local >= 0 and not ledger.orders.take(event, local, number, parse_quantity(event.open_quantity, scale)):
        text = f"there are more than {ORDERS_MAX} working orders; {event.order_id} is not counted"
        out.alert("orders_full", f"account:{event.account}", 2, text)
    ledger.touch_values()


def _apply_obligation(ledger: Ledger, event: ev.Obligation) -> None:
    directory = ledger.directory
    if event.from_ != HOUSE and shard_of(event.from_, directory.shards) == directory.shard:
        directory.counterparty(event.from_)
        ledger.credit.named = True
        ledger.credit.obligations.take(event, ledger.asset_of(event.asset))
        ledger.touch()
    elif event.from_ == HOUSE and shard_of(event.to, directory.shards) == directory.shard:
        directory.counterparty(event.to)
        ledger.credit.obligations.take(event, ledger.asset_of(event.asset))
        ledger.touch()


def _apply_report(ledger: Ledger, event: ev.PositionReport | ev.BalanceReport, local: int, out: SliceRecords) -> None:
    """An opening report sets the book before anything moved; a venue's report is compared with it."""
    kind = event.kind
    if kind == "opening" and ledger.active[local]:
        text = f"an opening report for {event.account} came after its first fill or transfer and was not applied"
        out.alert("late_opening", f"account:{event.account}", 2, text)
        return
    if isinstance(event, ev.PositionReport):
        _apply_position_report(ledger, event, local, out)
        return
    key = local << 20 | ledger.asset_of(event.asset)
    held, reported = ledger.balances.amount(key), float(event.amount)
    if kind == "opening":
        ledger.balances.add(key, reported - held)
        ledger.contributions.add(local, key & 0xFFFFF, reported - held)
        if ledger.explain.on:
            ledger.explain.transfer(key, reported - held, "deposit")
        ledger.touch_accounts(local)
    elif abs(held - reported) > 1e-9 * max(abs(held), abs(reported), 1.0):
        _report_difference(out, event, f"a balance of {reported} in {event.asset}", held)


def _apply_position_report(ledger: Ledger, event: ev.PositionReport, local: int, out: SliceRecords) -> None:
    number = ledger.directory.instruments[event.instrument]
    record = ledger.directory.instrument_records[number]
    slot = ledger.positions.slot(local, number, ledger.mark_row(local, number))
    held, mark = (int(ledger.positions.rows[name][slot]) for name in ("units", "mark"))
    try:
        reported = parse_quantity(event.quantity, parse_scale(record.quantity_increment))
    except Rejected:  # the sequencer lets a venue say what no position of ours can be
        _report_position(out, event, record, held)
        return
    if event.kind != "opening":
        if held != reported:
            _report_position(out, event, record, held)
        return
    price = float(event.entry_price) if event.entry_price else ledger.marks.price_of(mark)
    known = price == price  # noqa: PLR0124 (no NaN)
    value = ledger.unit_value(number, price) if known else 0.0
    cost = reported * value
    ledger.positions.set(slot, reported, cost)
    ledger.before.set(ledger.before.slot(local, number, -1), reported, cost)
    _contribute(ledger, local, number, cost)
    if ledger.explain.on and known:
        ledger.explain.fill(local, number, reported - held, value)
    ledger.unentered.pop((local, number), None)
    if not known and reported:
        ledger.unentered[local, number] = reported
    ledger.open.add_one(local, mark, (reported != 0) - (held != 0))
    ledger.touch_accounts(local)
    ledger.expect_expiry((number,))


def _contribute(ledger: Ledger, local: int, number: int, cost: float) -> None:
    """Note what an option of an opening report had cost: its premium left the balance before the book began."""
    arrays = ledger.directory.arrays
    if arrays["upfront"].item(number):
        settlement = arrays["settlement"].item(number)
        ledger.contributions.add(local, settlement, cost)
        if ledger.explain.on:
            ledger.explain.moved.add(local << 20 | settlement, cost)


def enter_position_costs(ledger: Ledger) -> None:
    """Give positions that were opened without a price the cost of their first mark."""
    for (local, number), units in list(ledger.unentered.items()):
        slot = ledger.positions.slot(local, number, ledger.mark_row(local, number))
        price = ledger.marks.price_of(int(ledger.positions.rows["mark"][slot]))
        if price == price:  # noqa: PLR0124 (no NaN)
            cost = units * ledger.unit_value(number, price)
            for book, at in ((ledger.positions, slot), (ledger.before, ledger.before.slot(local, number, -1))):
                book.rows["cost"][at] += cost
            _contribute(ledger, local, number, cost)
            del ledger.unentered[local, number]
            ledger.touch_values()


def _report_position(out: SliceRecords, event: ev.PositionReport, record: ev.Instrument, held: int) -> None:
    theirs, ours = Decimal(event.quantity), Decimal(record.quantity_increment) * held
    _report_difference(out, event, f"a position of {_plain_number(theirs)} in {event.instrument}", _plain_number(ours))


def _report_difference(out: SliceRecords, event: ev.PositionReport | ev.BalanceReport, theirs: str, ours: Any) -> None:
    text = f"the venue reports {theirs} for {event.account}, our book has {ours}"
    out.alert("report_mismatch", f"account:{event.account}", 2, text)


def _plain_number(number: Decimal) -> str:
    """Return a number without an exponent or zeros at its end."""
    return f"{number.normalize():f}" if number else "0"
