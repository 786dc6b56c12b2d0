"""The situation: what computed commands start from, kept only where a playbook has something computed.

Of a shard its open positions with price and visible depth of their instruments; for the second operator what we have
at each counterparty and could withdraw or move, depth and fee of each venue, what instruments to hedge with cost, and
which strategies are where. Arrays are copied, because a frame must not change after it was made.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.frames import Book, Trades
from seawall.operators.core.ledger import Ledger
from seawall.operators.core.volatility import ASKS_50_BP, BIDS_50_BP, SIGNAL_AGE_US_MAX, VolatilityState
from seawall.schemas import events as ev
from seawall.schemas.slices import Fills

Depths = dict[str, list[Any]]  # "venue instrument" -> [depth in the reporting currency, event time]


NEEDS_MARKETS = frozenset({"position", "volatility"})
MOVED_MAX = 8  # positions of a counterparty that may be moved: the largest


def asked_of(configuration: dict[str, Any]) -> frozenset[str]:
    """Return what the rules of a configuration have computed.

    And ``positions`` and ``strategy`` where they ask for these, ``watch`` where commands are held against trades.
    """
    found = set()
    watches = ("REDUCE_ONLY", "REDUCE_POSITION") if configuration["playbook"].get("response") else ()
    for command in (command for rule in configuration["playbook"]["rules"] for command in rule["commands"]):
        found |= {command["compute"]} if "compute" in command else set()
        found |= {"positions"} if command.get("positions") else set()
        found |= {"watch"} if command["kind"] in watches else set()
        found |= {"strategy"} if command["target"] == "strategy" else set()
    return frozenset(found)


def hedges_of(configuration: dict[str, Any]) -> list[str]:
    """Return the instruments that the rules of a configuration hedge with."""
    commands = (command for rule in configuration["playbook"]["rules"] for command in rule["commands"])
    return sorted({c["instrument"] for c in commands if c["kind"] == "HEDGE" and "compute" in c and "instrument" in c})


def book_of(ledger: Ledger, depth: Any) -> Book:
    """Return the open positions of a shard as they were measured last."""
    rows, records = ledger.positions.rows, ledger.directory.instrument_records
    held, across, marks = np.flatnonzero(rows["units"]), ledger.marks.across(), ledger.marks.rows
    return Book(
        rows["account"][held],
        rows["instrument"][held],
        rows["units"][held],
        ledger.notionals()[held],
        [record.instrument for record in records],
        [record.quantity_increment for record in records],
        depth,
        marks["price"][across],
        marks["time_us"][across],
    )


def trades_of(ledger: Ledger, fills: Fills) -> Trades:
    """Return the fills of a slice with the positions that they led to."""
    directory = ledger.directory
    names = {number: directory.instrument_records[number].instrument for number in set(fills.instrument)}
    local = directory.arrays["local"][np.array(fills.account, dtype=np.int64)]
    after = ledger.positions.units_of(local, np.array(fills.instrument, dtype=np.int64))
    return Trades(names, fills.instrument, fills.quantity, fills.price, after.tolist())


def parties_of(ledger: Ledger, depth: NDArray[np.float64] | None) -> dict[str, list[Any]]:
    """Return what we have at each counterparty at which we have accounts of our own.

    Exposure, free funds, gross notional, highest taker fee, and where ``depth`` (by instrument) is given the largest
    positions: account, instrument, units, notional, margin that moving frees and needs, increment, visible depth.
    """
    directory, accounts, parties = ledger.directory, ledger.tables["account"], ledger.tables["counterparty"]
    gross, equity, initial = (
        accounts.values[accounts.measures.index(name)] for name in ("gross_notional", "equity", "initial_margin")
    )
    fees, found = _fees(ledger), dict[str, list[Any]]()
    for at, number in enumerate(directory.own):
        record = directory.account_records[number]
        if record.holder == "house" and at < len(equity):
            column = directory.counterparties[record.counterparty]
            fee = fees.get(record.counterparty, 0.0)
            row = found.setdefault(record.counterparty, [parties.values[0].item(column), 0.0, 0.0, fee, []])
            row[1] += max(equity.item(at) - initial.item(at), 0.0)
            row[2] += gross.item(at)
            if depth is not None and gross.item(at) > 0:
                row[4] += _movable(ledger, at, initial.item(at) / gross.item(at), depth)
    return found


def _movable(ledger: Ledger, account: int, frees: float, depth: NDArray[np.float64]) -> list[list[Any]]:
    """Return the largest positions of an account; each frees its part of the account's initial margin."""
    rows, records = ledger.positions.rows, ledger.directory.instrument_records
    mine = np.flatnonzero((rows["account"] == account) & (rows["units"] != 0))
    notional = ledger.notionals()[mine]
    largest = np.argsort(-notional, kind="stable")[:MOVED_MAX].tolist()
    found = []
    for at in largest:
        number = rows["instrument"].item(mine.item(at))
        record, units = records[number], rows["units"].item(mine.item(at))
        needs = max(frees, float(record.initial_margin_rate or 0))
        deep = float(np.nan_to_num(depth[number])) if number < len(depth) else 0.0
        found.append([ledger.directory.own_names[account], record.instrument, units, notional.item(at), frees, needs,
                      record.quantity_increment, deep])  # fmt: skip
    return found


def quotes_of(ledger: Ledger, names: list[str], depth: NDArray[np.float64]) -> dict[str, list[Any]]:
    """Return price, its time, worth and size of an increment, and visible depth of instruments that are known."""
    marks, across, numbers = ledger.marks, ledger.marks.across(), ledger.directory.instruments
    found = {}
    for name in names:
        number = numbers.get(name)
        if number is not None and number < len(depth):
            row, increment = across.item(number), ledger.directory.instrument_records[number].quantity_increment
            price, time_us = marks.rows["price"].item(row), marks.rows["time_us"].item(row)
            found[name] = [price, time_us, abs(marks.unit.item(row)), increment, depth.item(number)]
    return found


def strategies_of(ledger: Ledger) -> dict[str, list[str]]:
    """Return by scope the strategies that hold something in it: accounts and what holds them, and what is held."""
    directory, found = ledger.directory, dict[str, dict[str, None]]()
    for name, account, instrument in ledger.strategies.places():
        record = directory.instrument_records[instrument]
        scopes = [f"account:{directory.own_names[account]}", *directory.owners[account], "firm"]
        scopes += [f"instrument:{record.instrument}", f"underlying:{record.underlying or record.base}"]
        for scope in scopes:
            found.setdefault(scope, {})[name] = None
    return {scope: list(names) for scope, names in found.items()}


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
    fees, found = _fees(ledger), dict[str, list[float]]()
    for key, (worth, time_us) in sorted(depths.items()):
        venue = key.partition(" ")[0]
        if as_of_us - time_us <= SIGNAL_AGE_US_MAX:
            row = found.setdefault(venue, [0.0, fees.get(venue, 0.0)])
            row[0] += worth
    return found


def wide_situation(
    ledger: Ledger, asked: frozenset[str], hedges: list[str], markets: VolatilityState, depths: Depths, as_of_us: int
) -> dict[str, Any]:
    """Return what a shard adds to the situation of the second operator; shard 0 alone tells of markets."""
    first = ledger.directory.shard == 0
    positions = markets.depths(as_of_us) if "positions" in asked else None
    return {
        "parties": parties_of(ledger, positions) if "diversify" in asked else None,
        "routes": routes_of(ledger, depths, as_of_us) if "weights" in asked else None,
        "quotes": quotes_of(ledger, hedges, markets.depths(as_of_us)) if hedges and first else None,
        "strategies": strategies_of(ledger) if "strategy" in asked else None,
    }


def _fees(ledger: Ledger) -> dict[str, float]:
    """Return the highest taker fee of each venue."""
    fees: dict[str, float] = {}
    for (venue, _), schedule in ledger.directory.schedules.items():
        fees[venue] = max(fees.get(venue, 0.0), float(schedule.taker_fee_rate or 0))
    return fees
