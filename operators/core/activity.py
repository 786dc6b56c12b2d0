"""What accounts did in a slice, as the watch over their conduct takes it: fills, orders, movements, margin calls."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import integers
from seawall.operators.core.directory import Directory
from seawall.operators.core.ledger import Ledger
from seawall.schemas import events as ev
from seawall.schemas.slices import Slice

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
NOBODY: I8 = np.zeros(0, dtype=np.int64)


class Call(NamedTuple):
    """A margin call, as an ``obligation`` record tells of it: whose, since when collateral is due, whether open."""

    obligation: str
    counterparty: int
    since_us: int
    open: bool


class Activity(NamedTuple):
    """What happened to the accounts of a shard; accounts by their number in the shard's tables.

    ``concentration`` stands at the end of a second in which the shard traded: the Herfindahl index of each account's
    positions by value, 0 without positions, 1 with a single one.
    """

    filled: I8
    ended: list[int]
    touched: list[int]
    calls: list[Call]
    counterparty: I8
    concentration: F8 | None


def activity_of(piece: Slice, ledger: Ledger, traded: bool) -> Activity:
    """Return what a slice says of the accounts in a ledger that has taken it; ``traded`` in the second that it ends."""
    directory = ledger.directory
    filled, touched = NOBODY, []
    if ledger.filled is not None:
        filled = ledger.filled
    elif piece.fills is not None:
        accounts = piece.fills.account
        filled = directory.arrays["local"][integers(accounts)]
    if piece.transfers is not None:
        touched = [directory.local[account] for account in piece.transfers.account]
    ended, calls = _events(piece, directory, touched) if piece.events else ([], [])
    concentration = concentrations(ledger) if traded and piece.second and not piece.more else None
    return Activity(filled, ended, touched, calls, directory.arrays["counterparty"], concentration)


def concentrations(ledger: Ledger) -> F8:
    """Return the Herfindahl index of every own account, from the book as it was last measured."""
    rows, gross = ledger.positions.rows, ledger.tables["account"].values[1]
    value = rows["size"] * ledger.marks.unit[rows["mark"]]
    squares = np.bincount(rows["account"], value * value, len(gross))
    return np.where(gross > 0.0, squares / np.where(gross > 0.0, gross * gross, 1.0), 0.0)


def _events(piece: Slice, directory: Directory, touched: list[int]) -> tuple[list[int], list[Call]]:
    """Return the accounts of orders that ended, and margin calls; add the accounts of all orders to ``touched``."""
    ended: list[int] = []
    calls: list[Call] = []
    for event in piece.events:
        if isinstance(event, ev.Order):
            account = directory.local[directory.accounts[event.account]]
            touched.append(account)
            if float(event.open_quantity) == 0.0:
                ended.append(account)
        elif isinstance(event, ev.Obligation) and event.kind == "margin_call":
            party = directory.counterparties.get(event.from_)
            if party is not None:
                is_open = event.status == "open" and float(event.amount) > 0.0
                calls.append(Call(event.obligation_id, party, event.due_us or event.event_time_us, is_open))
    return ended, calls
