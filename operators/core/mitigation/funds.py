"""Money: CALL_MARGIN and RECALL_COLLATERAL by terms, WITHDRAW_FUNDS, and REROUTE of what we have at counterparties."""

import math
from decimal import Decimal
from typing import Any

import numpy as np

from seawall.operators.core.columns import totals
from seawall.operators.core.mitigation.asked import (
    OVER_TIME,
    Asked,
    Computed,
    as_it_stands,
    bound_of,
    money,
    nothing,
    over_time,
)
from seawall.operators.core.mitigation.diversify import Holding, Party, Plan, Transfer, diversify
from seawall.operators.core.mitigation.positions import PARTICIPATION
from seawall.operators.core.mitigation.sizing import keep_of
from seawall.operators.core.mitigation.targets import members

UNIT = 1_000.0  # amounts are counted in whole thousands: excesses rounded up, room and free funds down
BLOCKED = "withdrawals_blocked"


def csa(asked: Asked) -> Computed:
    """CALL_MARGIN and RECALL_COLLATERAL: what the terms of the target's netting sets make due now."""
    table = asked.frame.tables.get("netting_set")
    if table is None or "margin_call" not in table.measures:
        return nothing("no netting set has terms; describe them, or leave compute out")
    row = table.values[table.measures.index("margin_call")]
    sets = [scope.partition(":")[2] for scope in members("netting_set", asked.candidate.target, asked.frame)]
    due = {name: row.item(table.names.index(name)) for name in sets}
    amount = float(totals(np.array([value for _, value in sorted(due.items()) if value > 0])))
    if amount <= 0:
        return nothing("nothing is due under the terms")
    plan = {name: money(value) for name, value in sorted(due.items()) if value > 0}
    return Computed({"amount": money(amount), "currency": asked.currency}, plan, amount)


def headroom(asked: Asked) -> Computed:
    """WITHDRAW_FUNDS: what is over the level aimed at, of what is free there and within the stated size.

    Ahead of a failing venue, where no limit broke, all that is free goes, as far as ``size_max`` says.
    """
    breach, frame, target = asked.candidate.breach, asked.frame, asked.candidate.target
    if asked.ill.get(target.partition(":")[2]) == BLOCKED:
        return nothing("withdrawals are blocked there")
    if breach is None and "size_max" not in asked.command:
        return nothing("neither a limit nor size_max says how much to withdraw")
    if breach is not None and breach["measure"] != "current_exposure":
        return nothing("only a limit on current_exposure says how much to withdraw")
    if breach is not None and over_time(breach, asked.limits):
        return nothing(OVER_TIME)
    table = frame.tables.get("account")
    if table is None:
        return nothing("the accounts of a target that is wider than a counterparty are not known in one place")
    excess = math.inf if breach is None else _excess(asked, breach)
    equity, initial = (table.values[table.measures.index(name)] for name in ("equity", "initial_margin"))
    free = 0.0
    for account in members("account", target, frame):
        at = table.names.index(account.partition(":")[2])
        free += max(equity.item(at) - initial.item(at), 0.0) if account in frame.house else 0.0
    amount = min(excess, free, float(asked.command.get("size_max", math.inf)))
    if amount <= 0:
        return nothing("nothing of ours is free there")
    plan = {"free": money(free)} | ({"excess": money(excess)} if math.isfinite(excess) else {})
    return Computed({"amount": money(amount), "currency": asked.currency}, plan, amount)


def _excess(asked: Asked, breach: dict[str, Any]) -> float:
    breach = as_it_stands(breach, asked.frame)
    keep = keep_of({**breach, "measure": "gross_notional"}, asked.limits.get(breach["limit"]), asked.command.get("to"))
    return float(breach["value"]) * (1.0 - (1.0 if keep is None else keep))


def spread(asked: Asked) -> Computed:
    """REROUTE of the firm's money, and with ``positions`` of its positions, back under the limits on counterparties."""
    moves = bool(asked.command.get("positions"))
    parties = [_party(name, row, asked, moves) for name, row in sorted((asked.frame.parties or {}).items())]
    known = [one for one in parties if math.isfinite(one.limit) or math.isfinite(one.gross_limit)]
    participation = float(asked.command.get("participation", PARTICIPATION))
    plan = diversify(known, {}, UNIT, participation=participation)
    told = {"cost": money(float(plan.cost) * UNIT / 10_000), "short": money(float(plan.short) * UNIT)}
    if plan.binding:
        told["binding"] = ",".join(plan.binding)
    if not plan.transfers and not plan.moves:
        return nothing(f"no transfer helps; what binds: {', '.join(plan.binding) or 'nothing is over its limit'}")
    action = {"currency": asked.currency}
    if plan.transfers:
        action["transfers"] = ",".join(f"{one.source}>{one.to}={_amount(one)}" for one in plan.transfers)
    if plan.moves:
        action["moves"] = ",".join(_moved(plan, asked))
    size = UNIT * float(sum(one.units for one in (*plan.transfers, *plan.moves)))
    return Computed(action, told, size, ours=bool(plan.moves))


def _party(name: str, row: list[Any], asked: Asked, moves: bool) -> Party:
    """Return a counterparty with its limits; one that may not be relied on receives nothing more."""
    exposure, free, gross, fee, held = row
    holdings: dict[str, Holding] = {}
    for _, instrument, _, notional, frees, needs, _, depth in held if moves else ():
        before = holdings.get(instrument, Holding(instrument, 0.0, frees, needs, depth))
        holdings[instrument] = before._replace(
            notional=before.notional + notional, frees=min(before.frees, frees), needs=max(before.needs, needs)
        )
    limit = bound_of("counterparty", name, "current_exposure", asked.limits)
    gross_limit = bound_of("counterparty", name, "gross_notional", asked.limits) if moves else math.inf
    if name in asked.ill:
        limit, gross_limit = min(limit, max(exposure, 0.0)), min(gross_limit, max(gross, 0.0))
        free = 0.0 if asked.ill[name] == BLOCKED else free
    return Party(name, exposure, limit, free, gross, gross_limit, tuple(holdings.values()), fee)


def _amount(one: Transfer) -> str:
    units = one.units * int(UNIT)
    return str(units) if isinstance(units, int) else money(math.floor(units * 100) / 100)


def _moved(plan: Plan, asked: Asked) -> list[str]:
    """Return the moves as ``from>to:account:instrument=quantity``, whole increments, account by account."""
    found = []
    for one in plan.moves:
        left = float(one.units) * UNIT
        rows = [row for row in (asked.frame.parties or {})[one.source][4] if row[1] == one.instrument]
        for account, instrument, units, notional, _, _, increment, _ in rows:
            part = min(left / notional, 1.0) if notional > 0 else 0.0
            whole, left = math.floor(abs(units) * part), left - notional * part
            if whole:
                signed = whole if units > 0 else -whole
                quantity = format(signed * Decimal(increment), "f")
                found.append(f"{one.source}>{one.to}:{account}:{instrument}={quantity}")
    return found
