"""Money: CALL_MARGIN and RECALL_COLLATERAL by terms, WITHDRAW_FUNDS, and REROUTE of what we have at counterparties."""

import math
from decimal import Decimal
from typing import Any

import numpy as np

from seawall.operators.core.base import ordered_sums
from seawall.operators.core.mitigation._diversification import (
    CounterpartyFunds,
    PositionHolding,
    Transfer,
    TransferPlan,
    diversify,
)
from seawall.operators.core.mitigation._requests import (
    CHANGE_LIMIT_FAULT,
    ComputationRequest,
    ComputationResult,
    amount_to_cent,
    current_breach,
    is_change_limit,
    no_action,
    tightest_bound,
)
from seawall.operators.core.mitigation._sizes import PARTICIPATION, kept_share
from seawall.operators.core.mitigation._triggers import member_scopes

UNIT = 1_000.0  # amounts are counted in whole thousands: excesses rounded up, room and free funds down
BLOCKED = "withdrawals_blocked"


def collateral_by_terms(request: ComputationRequest) -> ComputationResult:
    """CALL_MARGIN and RECALL_COLLATERAL: what the terms of the target's netting sets make due now."""
    table = request.frame.tables.get("netting_set")
    if table is None or "margin_call" not in table.measures:
        return no_action("no netting set has terms; describe them, or leave compute out")
    row = table.values[table.measures.index("margin_call")]
    sets = [scope.partition(":")[2] for scope in member_scopes("netting_set", request.candidate.target, request.frame)]
    due = {name: row.item(table.names.index(name)) for name in sets}
    amount = float(ordered_sums(np.array([value for _, value in sorted(due.items()) if value > 0])))
    if amount <= 0:
        return no_action("nothing is due under the terms")
    plan = {name: amount_to_cent(value) for name, value in sorted(due.items()) if value > 0}
    return ComputationResult({"amount": amount_to_cent(amount), "currency": request.currency}, plan, amount)


def withdrawable_funds(request: ComputationRequest) -> ComputationResult:
    """WITHDRAW_FUNDS: what is over the level aimed at, of what is free there and within the stated size.

    Ahead of a failing venue, where no limit broke, all that is free goes, as far as ``size_max`` says.
    """
    breach, frame, target = request.candidate.breach, request.frame, request.candidate.target
    if request.ill.get(target.partition(":")[2]) == BLOCKED:
        return no_action("withdrawals are blocked there")
    if breach is None and "size_max" not in request.command:
        return no_action("neither a limit nor size_max says how much to withdraw")
    if breach is not None and breach["measure"] != "current_exposure":
        return no_action("only a limit on current_exposure says how much to withdraw")
    if breach is not None and is_change_limit(breach, request.limits):
        return no_action(CHANGE_LIMIT_FAULT)
    table = frame.tables.get("account")
    if table is None:
        return no_action("the accounts of a target that is wider than a counterparty are not known in one place")
    excess = math.inf if breach is None else _excess(request, breach)
    equity, initial = (table.values[table.measures.index(name)] for name in ("equity", "initial_margin"))
    free = 0.0
    for account in member_scopes("account", target, frame):
        at = table.names.index(account.partition(":")[2])
        free += max(equity.item(at) - initial.item(at), 0.0) if account in frame.house else 0.0
    amount = min(excess, free, float(request.command.get("size_max", math.inf)))
    if amount <= 0:
        return no_action("nothing of ours is free there")
    plan = {"free": amount_to_cent(free)} | ({"excess": amount_to_cent(excess)} if math.isfinite(excess) else {})
    return ComputationResult({"amount": amount_to_cent(amount), "currency": request.currency}, plan, amount)


def _excess(request: ComputationRequest, breach: dict[str, Any]) -> float:
    breach = current_breach(breach, request.frame)
    keep = kept_share(
        {**breach, "measure": "gross_notional"}, request.limits.get(breach["limit"]), request.command.get("to")
    )
    return float(breach["value"]) * (1.0 - (1.0 if keep is None else keep))


def diversify_funds(request: ComputationRequest) -> ComputationResult:
    """REROUTE of the firm's money, and with ``positions`` of its positions, back under the limits on counterparties."""
    moves = bool(request.command.get("positions"))
    parties = [_party(name, row, request, moves) for name, row in sorted((request.frame.parties or {}).items())]
    known = [one for one in parties if math.isfinite(one.limit) or math.isfinite(one.gross_limit)]
    participation = float(request.command.get("participation", PARTICIPATION))
    plan = diversify(known, {}, UNIT, participation=participation)
    figures = {
        "cost": amount_to_cent(float(plan.cost) * UNIT / 10_000),
        "short": amount_to_cent(float(plan.short) * UNIT),
    }
    if plan.binding:
        figures["binding"] = ",".join(plan.binding)
    if not plan.transfers and not plan.moves:
        return no_action(f"no transfer helps; what binds: {', '.join(plan.binding) or 'nothing is over its limit'}")
    action = {"currency": request.currency}
    if plan.transfers:
        action["transfers"] = ",".join(f"{one.source}>{one.to}={_amount(one)}" for one in plan.transfers)
    if plan.moves:
        action["moves"] = ",".join(_moved(plan, request))
    size = UNIT * float(sum(one.units for one in (*plan.transfers, *plan.moves)))
    return ComputationResult(action, figures, size, ours=bool(plan.moves))


def _party(name: str, row: list[Any], request: ComputationRequest, moves: bool) -> CounterpartyFunds:
    """Return a counterparty with its limits; one that may not be relied on receives nothing more."""
    exposure, free, gross, fee, held = row
    holdings: dict[str, PositionHolding] = {}
    for _, instrument, _, notional, frees, needs, _, depth in held if moves else ():
        before = holdings.get(instrument, PositionHolding(instrument, 0.0, frees, needs, depth))
        holdings[instrument] = before._replace(
            notional=before.notional + notional, frees=min(before.frees, frees), needs=max(before.needs, needs)
        )
    limit = tightest_bound("counterparty", name, "current_exposure", request.limits)
    gross_limit = tightest_bound("counterparty", name, "gross_notional", request.limits) if moves else math.inf
    if name in request.ill:
        limit, gross_limit = min(limit, max(exposure, 0.0)), min(gross_limit, max(gross, 0.0))
        free = 0.0 if request.ill[name] == BLOCKED else free
    return CounterpartyFunds(name, exposure, limit, free, gross, gross_limit, tuple(holdings.values()), fee)


def _amount(one: Transfer) -> str:
    units = one.units * int(UNIT)
    return str(units) if isinstance(units, int) else amount_to_cent(math.floor(units * 100) / 100)


def _moved(plan: TransferPlan, request: ComputationRequest) -> list[str]:
    """Return the moves as ``from>to:account:instrument=quantity``, whole increments, account by account."""
    found = []
    for one in plan.moves:
        left = float(one.units) * UNIT
        rows = [row for row in (request.frame.parties or {})[one.source][4] if row[1] == one.instrument]
        for account, instrument, units, notional, _, _, increment, _ in rows:
            part = min(left / notional, 1.0) if notional > 0 else 0.0
            whole, left = math.floor(abs(units) * part), left - notional * part
            if whole:
                signed = whole if units > 0 else -whole
                quantity = format(signed * Decimal(increment), "f")
                found.append(f"{one.source}>{one.to}:{account}:{instrument}={quantity}")
    return found
