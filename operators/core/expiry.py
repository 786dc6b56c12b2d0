"""Expiry: positions become cash at the settlement mark of their instrument, whenever either comes.

See contract.md, "Expiry".

Venues mark futures for settlement every day; what settles an expiry is the mark of the expiry itself. A fill that
arrives after it, or is undone after it, leaves a position that is settled as the others were.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from seawall.operators.core.ledger import Ledger
from seawall.operators.core.options import payoff
from seawall.operators.core.trades import Out, unit_value
from seawall.schemas import events as ev

# Final prices are means of the last half hour or hour; marks for settlement of other days are most of a day before.
EARLY_US = 3_600_000_000


def note_expiry(ledger: Ledger, record: ev.Instrument) -> None:
    """Expect the expiry that an instrument has now, or none."""
    number = ledger.directory.instruments[record.instrument]
    if record.expiry_us:
        ledger.expiring[number] = record.expiry_us
    else:
        ledger.expiring.pop(number, None)


def expect(ledger: Ledger, instruments: Iterable[int]) -> None:
    """Expect the expiry of instruments in which something was traded, which may have been settled before."""
    records = ledger.directory.instrument_records
    for number in sorted(set(instruments)):
        if expiry_us := records[number].expiry_us:
            ledger.expiring.setdefault(number, expiry_us)


def expire(ledger: Ledger, as_of_us: int, out: Out) -> None:
    """Turn positions in expired instruments into cash at their settlement mark, once it is known."""
    for number, expiry_us in list(ledger.expiring.items()):
        price = _settlement(ledger, number) if expiry_us <= as_of_us else None
        if price is None:
            continue
        del ledger.expiring[number]
        rows = ledger.positions.rows
        record = ledger.directory.instrument_records[number]
        value = unit_value(ledger, number, payoff(record, price) if record.kind == "option" else price)
        settlement = int(ledger.directory.arrays["settlement"][number])
        for slot in np.flatnonzero((rows["instrument"] == number) & (rows["units"] != 0)).tolist():
            local = int(rows["account"][slot])
            realised = ledger.positions.fill(slot, -int(rows["units"][slot]), value)
            ledger.balances.add(local << 20 | settlement, realised)
            ledger.open.add_one(local, int(rows["mark"][slot]), -1)
            ledger.touch_accounts(local)
        ledger.strategies.settle(number, value, settlement)
        out.decide("settled", {"instrument": record.instrument, "price": price})


def _settlement(ledger: Ledger, number: int) -> float | None:
    """Return the settlement mark of an expiry; an option has that of its underlying's, under either's name."""
    record = ledger.directory.instrument_records[number]
    price = _price_at(ledger, number, record)
    if price is None and record.forward:
        forward = ledger.directory.instruments.get(record.forward, -1)
        if forward >= 0 and ledger.directory.instrument_records[forward].expiry_us == record.expiry_us:
            price = _price_at(ledger, forward, record)
    return price


def _price_at(ledger: Ledger, number: int, record: Any) -> float | None:
    """Return the last mark for settlement of an instrument, unless it is of another day than the expiry."""
    price, time_us = ledger.marks.settlements.get(number, (0.0, -1))
    return price if time_us >= record.expiry_us - EARLY_US else None
