"""The situation: what computed commands start from, kept only where a playbook has something computed.

Of a shard its open positions with the visible depth of their instruments; for the second operator what we have at each
counterparty and could withdraw, and depth and fee of each venue. Arrays are copied, because a frame must not change
after it was made.
"""

from typing import Any

import numpy as np

from seawall.operators.core.frames import Book
from seawall.operators.core.ledger import Ledger
from seawall.operators.core.volatility import ASKS_50_BP, BIDS_50_BP, SIGNAL_AGE_US_MAX
from seawall.schemas import events as ev

Depths = dict[str, list[Any]]  # "venue instrument" -> [depth in the reporting currency, event time]


def asked_of(configuration: dict[str, Any]) -> frozenset[str]:
    """Return what the rules of a configuration have computed."""
    commands = (command for rule in configuration["playbook"]["rules"] for command in rule["commands"])
    return frozenset(command["compute"] for command in commands if "compute" in command)


def book_of(ledger: Ledger, depth: Any) -> Book:
    """Return the open positions of a shard as they were measured last."""
    rows, records = ledger.positions.rows, ledger.directory.instrument_records
    held = np.flatnonzero(rows["units"])
    return Book(
        rows["account"][held],
        rows["instrument"][held],
        rows["units"][held],
        ledger.notionals()[held],
        [record.instrument for record in records],
        [record.quantity_increment for record in records],
        depth,
    )


def parties_of(ledger: Ledger) -> dict[str, list[float]]:
    """Return exposure to, and free funds at, each counterparty at which we have accounts of our own."""
    directory, accounts, parties = ledger.directory, ledger.tables["account"], ledger.tables["counterparty"]
    equity, initial = (accounts.values[accounts.measures.index(name)] for name in ("equity", "initial_margin"))
    found: dict[str, list[float]] = {}
    for at, number in enumerate(directory.own):
        record = directory.account_records[number]
        if record.holder == "house" and at < len(equity):
            column = directory.counterparties[record.counterparty]
            row = found.setdefault(record.counterparty, [parties.values[0].item(column), 0.0])
            row[1] += max(equity.item(at) - initial.item(at), 0.0)
    return found


def hear_depths(depths: Depths, events: list[Any]) -> None:
    """Take what signals say of the books of single venues."""
    for event in events:
        for row in event.instruments if isinstance(event, ev.Signal) else ():
            for venue in row.venues:
                if venue.depth and not venue.stale:
                    worth = min(venue.depth[BIDS_50_BP], venue.depth[ASKS_50_BP]) * venue.price
                    depths[f"{venue.venue} {row.instrument}"] = [worth, venue.time_us]


def routes_of(ledger: Ledger, depths: Depths, as_of_us: int) -> dict[str, list[float]]:
    """Return visible depth and the highest taker fee of each venue of which any depth is known."""
    fees: dict[str, float] = {}
    for (venue, _), schedule in ledger.directory.schedules.items():
        fees[venue] = max(fees.get(venue, 0.0), float(schedule.taker_fee_rate or 0))
    found: dict[str, list[float]] = {}
    for key, (worth, time_us) in sorted(depths.items()):
        venue = key.partition(" ")[0]
        if as_of_us - time_us <= SIGNAL_AGE_US_MAX:
            row = found.setdefault(venue, [0.0, fees.get(venue, 0.0)])
            row[0] += worth
    return found
