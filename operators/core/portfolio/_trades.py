"""One slice for the ledger: reference records, marks, events, transfers, fills, expiries, in that order.

Fills move positions, balances and strategies, as arrays where a slice brings many. A fill or transfer whose id is
remembered changes nothing: with the same content it is audited as ``REPEATED``, with other content it is rejected
(contract.md, "Memory of fills"). A bust undoes the fill it names at its price, fee and strategy, a correction undoes it
and applies the new one. What names a correction means the fill that was corrected.
"""

from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import NO_ACCOUNTS, AccountActivity, MarginCall, SliceRecords, float_array, int_array
from seawall.operators.core.holdings import VECTOR_MIN, Balances, Directory, FillMemory, Positions
from seawall.operators.core.portfolio import _updates
from seawall.operators.core.portfolio._ledger import Ledger
from seawall.schemas import events as ev
from seawall.schemas.errors import Reason
from seawall.schemas.records import Fills, Marks, Slice, Transfers

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
Content = tuple[Any, ...]


COMPACT_EVERY = 64  # slices
EARNED = frozenset({"funding", "fee", "interest"})


def take_slice(ledger: Ledger, piece: Slice, out: SliceRecords) -> None:
    """Apply one slice to the ledger; what cannot be applied goes to ``out``."""
    ledger.filled = None
    if piece.reference:
        _updates.apply_reference(ledger, piece.reference, out)
    if piece.marks is not None:
        _apply_marks(ledger, piece.marks, piece.as_of_us)
    if piece.as_of_us > ledger.marks.due_us and ledger.marks.replace_old(piece.as_of_us):
        ledger.touch_values()
    if ledger.directory.pegs:
        ledger.marks.price_assets()
    settled = _settled(piece) if piece.events else []
    if piece.events:
        _updates.apply_events(ledger, [event for event in piece.events if event not in settled], out)
    if piece.transfers is not None:
        _apply_transfers(ledger, piece.transfers, piece.as_of_us, out)
    _take_fills(ledger, piece, settled, out)
    if ledger.expiring and min(ledger.expiring.values()) <= piece.as_of_us:
        _updates.settle_expired(ledger, piece.as_of_us, out)
    if piece.seq % COMPACT_EVERY == 0:
        ledger.positions.compact()
        ledger.before.compact()
        ledger.strategies.positions.compact()


def _take_fills(ledger: Ledger, piece: Slice, settled: list[ev.Funding], out: SliceRecords) -> None:
    """Apply the fills of a slice and settled funding between them; where there are none, the funding alone."""
    if settled and (piece.fills is None or not piece.fills.time_us):
        _updates.apply_events(ledger, settled, out)
        settled = []
    if piece.fills is not None:
        apply_fills(ledger, piece.fills, settled, out)
        if ledger.fills.forgotten:
            _keep_forgotten(ledger)
        if ledger.undone:
            _restate_undone(ledger)
        ledger.expect_expiry(piece.fills.instrument)


def _apply_marks(ledger: Ledger, marks: Marks, as_of_us: int) -> None:
    """Take the marks of a slice, and price what waits for one."""
    ledger.marks.apply(marks, as_of_us)
    if ledger.directory.has_option:
        ledger.sheet.take(marks)
    if ledger.unentered:
        _updates.enter_position_costs(ledger)
    if ledger.contributions and ledger.contributions.price():
        ledger.touch_values()
    ledger.touch_marks(marks.instrument)


def _settled(piece: Slice) -> list[ev.Funding]:
    """Return the settled funding of a slice, in order of event time: it comes after transfers and between fills."""
    settled = [event for event in piece.events if isinstance(event, ev.Funding) and event.kind == "settled"]
    return sorted(settled, key=attrgetter("event_time_us"))


def _report_repeated(out: SliceRecords, kind: str, at: int, name: str, same: bool) -> None:
    """Note that an id came again: for the audit with the same content, as a reject with other."""
    if same:
        out.decide("repeated", {"record": kind, "id": name, "rule": "REPEATED"})
    else:
        out.reject(kind, at, Reason.ID_MUST_NOT_BE_REUSED, f"{kind} id {name} was used before with other content")


def apply_fills(ledger: Ledger, fills: Fills, settled: list[ev.Funding], out: SliceRecords) -> None:
    """Apply the fills of a slice in order, and settled funding between them; what cannot be applied goes to ``out``.

    What was traded before an interval of funding ends pays for it, what is traded after it does not.
    """
    count, at = len(fills.id), 0
    for event in settled:
        while at < count and fills.time_us[at] <= event.event_time_us:
            _apply_fill(ledger, fills, at, out)
            at += 1
        ledger.funding.hear(event)
        ledger.touch_values()
    if not at and not fills.action and count >= VECTOR_MIN:
        instruments = int_array(fills.instrument)
        if not ledger.directory.arrays["spot"][instruments].any() and _apply_many(ledger, fills, instruments):
            return
    for left in range(at, count):
        _apply_fill(ledger, fills, left, out)


def _apply_many(ledger: Ledger, fills: Fills, instruments: Any) -> bool:
    """Apply fills of derivatives as arrays; do nothing and return False unless all their ids are new."""
    arrays = ledger.directory.arrays
    named, units, price = int_array(fills.account), int_array(fills.quantity), float_array(fills.price)
    fee, fee_asset, strategy = fills.fee or None, fills.fee_asset or None, fills.strategy or None
    columns = (named, instruments, units, price, fee, fee_asset, strategy, None)
    if not ledger.fills.add_new(fills.id, columns):
        return False
    ledger.filled = accounts = arrays["local"][named]
    values = ledger.unit_values(instruments, price)
    venue = arrays["venue"][accounts]
    marks = ledger.marks.across()[instruments]
    for at in np.flatnonzero(venue >= 0).tolist() if (venue >= 0).any() else ():
        marks[at] = ledger.marks.row(int(instruments[at]), int(venue[at]))
    slots = ledger.positions.slots(accounts, instruments, marks)
    realised, opened = ledger.positions.fill_many(slots, units, values)
    if ledger.directory.has_option:
        realised = _moved(ledger, instruments, units, values, realised)
    ledger.open.add_many(accounts, ledger.positions.rows["mark"][slots], opened, ledger.marks.rows.size)
    ledger.active[accounts] = True
    ledger.touch_accounts(accounts)
    settlement, assets = arrays["settlement"][instruments], None
    if fills.fee:
        assets = settlement
        if fills.fee_asset:
            rows = zip(fills.fee_asset, fills.fee, settlement.tolist(), strict=True)
            assets = np.array([ledger.asset_of(name) if name and paid else asset for name, paid, asset in rows])
    fees = float_array(fills.fee) if fills.fee else np.zeros(0)
    _pay(ledger.balances, accounts, settlement, realised, fees, assets)
    if ledger.explain.on:
        slots = ledger.explain.traded.slots(accounts, instruments, ledger.marks.across()[instruments])
        made, _ = ledger.explain.traded.fill_many(slots, units, values)
        _pay(ledger.explain.realised, accounts, settlement, made, fees, None)
        if assets is not None:
            ledger.explain.fees.add_many(accounts << 20 | assets, -fees)
    if fills.strategy:
        of, book = ledger.strategies.shares(fills.strategy, accounts), ledger.strategies
        counted, stake, realised = book.take(of, arrays["stake"][accounts], instruments, units, values)
        if ledger.directory.has_option:
            realised = _moved(ledger, instruments[counted], stake * units[counted], values[counted], realised)
        fees, assets = (fees, None) if assets is None else (stake * fees[counted], assets[counted])
        _pay(book.balances, of[counted], settlement[counted], realised, fees, assets)
    return True


def _moved(ledger: Ledger, instruments: I8, units: Any, values: F8, realised: F8) -> F8:
    """Return what fills moved in balances: what they realised, and all that they cost of options paid up front."""
    return np.where(ledger.directory.arrays["upfront"][instruments], -units * values, realised)


def _pay(balances: Balances, owner: I8, settlement: I8, realised: F8, fees: F8, assets: I8 | None) -> None:
    """Add what fills realised to balances, less their fees where there are any; ``assets`` are those of the fees."""
    keys = owner << 20
    if assets is None:
        balances.add_many(keys | settlement, realised)
        return
    # Each fill's result, then its fee: the order of the scalar path, so that sums have the same bits.
    pairs = np.stack([keys | settlement, keys | assets], axis=1)
    amounts = np.stack([realised, -fees], axis=1)
    moved = np.stack([np.ones(len(fees), dtype=bool), fees != 0], axis=1)
    balances.add_many(pairs[moved], amounts[moved])


def _apply_fill(ledger: Ledger, fills: Fills, at: int, out: SliceRecords) -> None:
    """Apply one fill, repetition, bust or correction."""
    action = fills.action[at] if fills.action else "new"
    ref = fills.ref[at] if fills.ref else ""
    name = fills.id[at]
    fee, fee_asset = fills.fee[at] if fills.fee else 0.0, fills.fee_asset[at] if fills.fee_asset else ""
    strategy = fills.strategy[at] if fills.strategy else ""
    content = (fills.account[at], fills.instrument[at], fills.quantity[at], fills.price[at], fee, fee_asset, strategy)
    remembered = (*content, "" if action == "new" else f"{action}:{ref}")
    before = ledger.fills.original(name)
    if before is not None:
        _report_repeated(out, "fill", at, name, before == remembered)
        return
    if action != "new":
        first = _first_of(ledger.fills, ref)
        known = None if first is None else ledger.fills.content(first)
        if first is None or known is None:
            text = f"{action} {name} names {ref}, which is no fill that is remembered and stands"
            out.reject("fill", at, Reason.FILL_MUST_BE_KNOWN, text)
            return
        if action == "bust" and known[:4] != content[:4]:
            text = f"bust {name} does not repeat account, instrument, side, quantity and price of fill {ref}"
            out.reject("fill", at, Reason.FIELDS_MUST_GO_TOGETHER, text)
            return
        _move(ledger, known, -1)
        ledger.undone[known[0], known[1]] = ledger.undone[content[0], content[1]] = None
        ledger.fills.amend(first, None if action == "bust" else (*content, ""))
        out.decide(action, {"id": name, "ref": ref})
    ledger.fills.add(name, remembered)
    if action != "bust":
        _move(ledger, content, 1)


def _keep_forgotten(ledger: Ledger) -> None:
    """Add the fills that are remembered no longer to what positions were before; those that were settled are over."""
    arrays, forgotten = ledger.directory.arrays, ledger.fills.forgotten
    ledger.fills.forgotten = []
    over = int_array(ledger.directory.expires_us) != 0
    over[int_array(list(ledger.expiring))] = False
    over |= arrays["spot"]
    for accounts, instruments, units, price, *_, refs in forgotten:
        number = int_array(instruments)
        kept = ~over[number]
        if any(refs):
            kept &= np.array([not ref for ref in refs])
        local, traded = arrays["local"][int_array(accounts)[kept]], number[kept]
        slots = ledger.before.slots(local, traded, np.full(len(traded), -1))
        values = ledger.unit_values(traded, float_array(price)[kept])
        ledger.before.fill_many(slots, int_array(units)[kept], values)


def _restate_undone(ledger: Ledger) -> None:
    """Give positions in which fills were undone the entry cost that they would have without them (contract.md, "Busts
    and corrections").

    Each is traded again from what it was before the oldest fill that is remembered, in order of arrival, corrected
    fills in the places of the first. What it paid in all stays, so what the entry cost gains realised profit gains too.
    A position that was settled meanwhile is no longer what its fills say: nothing of an entry cost is left there.
    """
    undone, ledger.undone = ledger.undone, {}
    fills: dict[tuple[int, int], list[Content]] = {pair: [] for pair in undone}
    for content in ledger.fills.in_force(undone):
        fills[content[0], content[1]].append(content)
    for (account, number), traded in fills.items():
        local, arrays = ledger.directory.local[account], ledger.directory.arrays
        if arrays["spot"].item(number):
            continue
        slot, book = ledger.positions.slot(local, number, ledger.mark_row(local, number)), ledger.before
        at, held = book.slot(local, number, -1), ledger.positions.rows
        before = book.rows["units"].item(at), book.rows["cost"].item(at)
        for _, _, units, price, *_, ref in traded:
            if not ref:
                book.fill(at, units, ledger.unit_value(number, price))
        units, cost = book.rows["units"].item(at), book.rows["cost"].item(at)
        book.set(at, *before)
        if units == held["units"].item(slot):
            moved = cost - held["cost"].item(slot)
            held["cost"][slot] = cost
            if not arrays["upfront"].item(number):
                ledger.balances.add(local << 20 | arrays["settlement"].item(number), moved)


def _first_of(fills: FillMemory, name: str) -> str | None:
    """Return the fill that a correction of a correction corrects in the end; None for a bust, and what is forgotten.

    What stands of a fill and all its corrections is kept once, under its own id: whichever of them is named, the last
    correction is what is undone.
    """
    while (original := fills.original(name)) is not None:
        action, _, ref = original[7].partition(":")
        if action != "correct":
            return name if not action else None
        name = ref
    return None


def _move(ledger: Ledger, content: Content, direction: int) -> None:
    """Move position and balances of an account, and of a strategy, by a fill (``direction`` 1) or its reversal (-1)."""
    account, number, quantity, price, fee, fee_asset, strategy = content[:7]
    arrays, local = ledger.directory.arrays, ledger.directory.local[account]
    ledger.active[local] = True
    ledger.touch_accounts(local)
    units, spot = direction * quantity, arrays["spot"].item(number)
    mark = -1 if spot else ledger.mark_row(local, number)
    slot, held = _trade(ledger, (ledger.positions, ledger.balances), local, number, mark, units, price)
    if slot >= 0:
        rows = ledger.positions.rows
        opened = (rows["units"].item(slot) != 0) - (held != 0)
        if opened:
            ledger.open.add_one(local, rows["mark"].item(slot), opened)
    paid = ledger.asset_of(fee_asset) if fee_asset else arrays["settlement"].item(number)
    if fee:
        ledger.balances.add(local << 20 | paid, -direction * fee)
    if ledger.explain.on:
        across, book = -1 if spot else ledger.marks.row(number), (ledger.explain.traded, ledger.explain.realised)
        _trade(ledger, book, local, number, across, units, price, upfront=False)
        if fee:
            ledger.explain.fees.add(local << 20 | paid, -direction * fee)
    stake = int(arrays["stake"].item(local))
    if not strategy or not stake:
        return
    shares = ledger.strategies
    one = shares.known.get((strategy, local), -1)
    if one < 0:
        one = shares.share(strategy, local)
    mark = -1 if spot else ledger.marks.row(number)
    _trade(ledger, (shares.positions, shares.balances), one, number, mark, stake * units, price)
    if fee:
        shares.balances.add(one << 20 | paid, -stake * direction * fee)


def _trade(
    ledger: Ledger,
    book: tuple[Positions, Balances],
    owner: int,
    number: int,
    mark: int,
    units: int,
    price: float,
    upfront: bool = True,
) -> tuple[int, int]:
    """Move what an owner holds; return the row of the position and its units before, -1 for a spot trade.

    ``upfront`` is false in a book in which premiums that are paid up front count as entry costs all the same.
    """
    positions, balances = book
    arrays = ledger.directory.arrays
    if arrays["spot"].item(number):
        amount = units * arrays["size"].item(number)
        balances.add(owner << 20 | int(arrays["base"][number]), amount)
        balances.add(owner << 20 | int(arrays["quote"][number]), -(amount * price))
        return -1, 0
    slot = positions.slot(owner, number, mark)
    held = positions.rows["units"].item(slot)
    moved = positions.fill(slot, units, ledger.unit_value(number, price), upfront and arrays["upfront"].item(number))
    balances.add(owner << 20 | arrays["settlement"].item(number), moved)
    return slot, held


# --- transfers ------------------------------------------------------------------------------------------------------


def _apply_transfers(ledger: Ledger, transfers: Transfers, as_of_us: int, out: SliceRecords) -> None:
    directory = ledger.directory
    for at, (name, account, asset, amount) in enumerate(
        zip(transfers.id, transfers.account, transfers.asset, transfers.amount, strict=True)
    ):
        purpose = transfers.purpose[at] if transfers.purpose else "deposit"
        segregated = bool(transfers.segregated) and transfers.segregated[at]
        contract = transfers.instrument[at] if transfers.instrument else -1
        end_us = transfers.interval_end_us[at] if transfers.interval_end_us else 0
        content = (account, asset, amount, purpose, segregated, contract, end_us)
        before = ledger.transfers.original(name)
        if before is not None:
            _report_repeated(out, "transfer", at, name, before == content)
            continue
        ledger.transfers.add(name, content)
        local = directory.local[account]
        number = ledger.asset_of(asset)
        ledger.balances.add(local << 20 | number, amount)
        ledger.credit.pledges.take(local << 20 | number, amount, purpose == "independent_amount", segregated)
        if purpose == "funding":
            ledger.funding.arrived(local, number, as_of_us, contract, end_us)
        if ledger.explain.on:
            ledger.explain.transfer(local << 20 | number, amount, purpose)
        if purpose not in EARNED:
            ledger.contributions.add(local, number, amount)
        ledger.active[local] = True
        ledger.touch_accounts(local)


# Account activity of a slice, for the watch over behaviour: fills, orders, movements, margin calls.


def activity_of(piece: Slice, ledger: Ledger, traded: bool) -> AccountActivity:
    """Return what a slice says of the accounts in a ledger that has taken it; ``traded`` in the second that it ends."""
    directory = ledger.directory
    filled, touched = NO_ACCOUNTS, []
    if ledger.filled is not None:
        filled = ledger.filled
    elif piece.fills is not None:
        filled = directory.arrays["local"][piece.fills.account]
    if piece.transfers is not None:
        touched = [directory.local[account] for account in piece.transfers.account]
    ended, calls = _events(piece, directory, touched) if piece.events else ([], [])
    concentration = position_concentrations(ledger) if traded and piece.second and not piece.more else None
    return AccountActivity(filled, ended, touched, calls, directory.arrays["counterparty"], concentration)


def position_concentrations(ledger: Ledger) -> F8:
    """Return the Herfindahl index of every own account, from the book as it was last measured."""
    rows, gross = ledger.positions.rows, ledger.tables["account"].values[1]
    value = rows["size"] * ledger.marks.unit[rows["mark"]]
    squares = np.bincount(rows["account"], value * value, len(gross))
    return np.where(gross > 0.0, squares / np.where(gross > 0.0, gross * gross, 1.0), 0.0)


def _events(piece: Slice, directory: Directory, touched: list[int]) -> tuple[list[int], list[MarginCall]]:
    """Return the accounts of orders that ended, and margin calls; add the accounts of all orders to ``touched``."""
    ended: list[int] = []
    calls: list[MarginCall] = []
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
                calls.append(MarginCall(event.obligation_id, party, event.due_us or event.event_time_us, is_open))
    return ended, calls
