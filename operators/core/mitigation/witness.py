"""The witness: does what venues and fills show agree with what subscribers say they did?

Positions are re-derived from fills, never from our own commands. What contradicts a subscriber:

- a target that was halted and still fills orders, one that may only reduce and adds;
- orders that were cancelled and still work, positions that were cut and still stand, when the time to verify is over;
- a close-out at a price worse than its bound, from when it was begun.

Fills that a venue forced (liquidation, auto-deleveraging, settlement) are no doing of a subscriber's.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np

from seawall.operators.core.frames import Frame, Trade
from seawall.operators.core.mitigation.targets import members

STOPPED = ("HALT_TRADING", "SUSPEND")
MARGIN = 1 + 1e-9
Command = dict[str, Any]


def contradictions(watched: list[Command], frame: Frame) -> Iterator[tuple[str, str]]:
    """Yield the id of each command that this frame contradicts, and by what."""
    for command in watched:
        found = next(_against(command, frame), None)
        if found is not None:
            yield command["id"], found


def _against(command: Command, frame: Frame) -> Iterator[str]:
    kind, target = command["kind"], command["target"]
    over = command["state"] == "completed" and frame.as_of_us >= command["end_us"]
    if frame.causes is not None and not over:
        if kind in STOPPED:
            scope, _, name = target.partition(":")
            yield from frame.causes.orders_of(scope, name)
        elif kind == "REDUCE_ONLY":
            yield from _adding(target, frame)
        elif kind == "REDUCE_POSITION":
            yield from _worse(command, frame)
    if over and kind == "CANCEL_ORDERS":
        yield from (f"orders:{name}" for name in _working(target, frame))
    if over and kind == "REDUCE_POSITION":
        yield from (f"position:{name}" for name in _uncut(command, frame))


def _trades(account: str, frame: Frame) -> Iterator[tuple[Trade, bool]]:
    """Yield the trades of an account's own, each with whether they made the position larger, or smaller, together."""
    trades = [] if frame.causes is None else list(frame.causes.trades_of(account))
    for trade in trades:
        change = sum(one.units for one in trades if one.instrument == trade.instrument)
        if trade.units * change > 0:
            yield trade, abs(trade.after) > abs(trade.after - change)


def _adding(target: str, frame: Frame) -> Iterator[str]:
    """Yield the trades of a target's accounts that made a position larger."""
    for account in members("account", target, frame):
        yield from (trade.id for trade, larger in _trades(account.partition(":")[2], frame) if larger)


def _worse(command: Command, frame: Frame) -> Iterator[str]:
    """Yield the trades that cut a position at a worse price than the command allows."""
    bounds = {name: float(text) for name, text in _texts(command, "limit_prices").items()}
    for trade, larger in _trades(command["target"].partition(":")[2], frame) if bounds else ():
        bound = bounds.get(trade.instrument, trade.price)
        if not larger and (trade.price < bound if trade.units < 0 else trade.price > bound):
            yield trade.id


def _uncut(command: Command, frame: Frame) -> Iterator[str]:
    """Yield the instruments in which more stands than a close-out was to leave."""
    table, book = frame.tables.get("account"), frame.book
    name = command["target"].partition(":")[2]
    if table is None or book is None or name not in table.names:
        return
    mine = book.accounts == table.names.index(name)
    for instrument, text in _texts(command, "targets").items():
        number = book.names.index(instrument)
        rows = np.flatnonzero(mine & (book.instruments == number))
        left = sum(book.units.item(row) for row in rows) * Decimal(book.increments[number])
        if abs(left) > abs(Decimal(text)):
            yield instrument


def _texts(command: Command, name: str) -> dict[str, str]:
    """Return the values by instrument that an action gives as ``instrument=value,…``."""
    listed = command["action"].get(name, "")
    return {part.rpartition("=")[0]: part.rpartition("=")[2] for part in listed.split(",")} if listed else {}


def _working(target: str, frame: Frame) -> Iterator[str]:
    """Yield the accounts of a target in which orders still work."""
    table = frame.tables.get("account")
    if table is None or "worst_case_notional" not in table.measures:
        return
    worst, gross = (table.values[table.measures.index(name)] for name in ("worst_case_notional", "gross_notional"))
    for name in members("account", target, frame):
        at = table.names.index(name.partition(":")[2])
        if at < table.values.shape[1] and worst.item(at) > gross.item(at) * MARGIN:
            yield name
