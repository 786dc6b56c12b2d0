"""Computed actions: what a command asks for where its rule says ``compute``, from the frame alone.

Each returns the action, the plan for the evidence, and its size; or why it cannot be worked out, which withholds the
command: a person sees what was asked for and decides.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seawall.operators.core.columns import totals
from seawall.operators.core.frames import Frame
from seawall.operators.core.mitigation.diversify import Party, diversify
from seawall.operators.core.mitigation.routing import Venue, weights
from seawall.operators.core.mitigation.sizing import hedge_notional, keep_of, reduce_positions
from seawall.operators.core.mitigation.targets import members
from seawall.operators.core.mitigation.triggers import Candidate

PARTICIPATION = 0.1
UNIT = 1_000.0  # diversification moves whole thousands


class Computed(NamedTuple):
    """What was worked out; ``fault`` says why nothing was."""

    action: dict[str, str]
    plan: dict[str, str]
    size: float
    fault: str = ""


class Asked(NamedTuple):
    """What a computation starts from: the command, whom for, the frame, the limits as configured, venues' states."""

    command: dict[str, Any]
    candidate: Candidate
    frame: Frame
    limits: dict[str, dict[str, Any]]
    venues: dict[str, str]
    currency: str


def compute(asked: Asked) -> Computed:
    """Work out the action of a command."""
    return _HOW[asked.command["kind"], asked.command["compute"]](asked)


def money(value: float) -> str:
    """Return an amount to the cent, upwards away from nothing.

    Examples
    --------
    >>> money(13.3333), money(0.0)
    ('13.34', '0.00')
    """
    cents = -int(-value * 100 // 1)
    return f"{cents // 100}.{cents % 100:02d}"


def _nothing(why: str) -> Computed:
    return Computed({}, {}, 0.0, why)


def _position(asked: Asked) -> Computed:
    """REDUCE_POSITION of an account: absolute targets; HEDGE of an underlying: the notional to trade."""
    breach, command = asked.candidate.breach, asked.command
    participation = float(command.get("participation", PARTICIPATION))
    if breach is None:
        return _nothing("there is no measure to bring back: it was no limit that broke")
    limit = asked.limits.get(breach["limit"])
    breach = _today(breach, asked.frame)
    if breach["value"] == 0:
        return _nothing("nothing is left to cut")
    keep = keep_of(breach, limit, command.get("to"))
    if keep is None:
        return _nothing(f"{breach['measure']} does not scale with positions")
    if command["kind"] == "HEDGE":
        return _hedge(asked, breach, keep, participation)
    kind, _, name = asked.candidate.target.partition(":")
    table, book = asked.frame.tables.get("account"), asked.frame.book
    if kind != "account" or table is None or book is None:
        return _nothing("positions are cut account by account; name the account as target")
    size_max = float(command.get("size_max", math.inf))
    sized = reduce_positions(book, table.names.index(name), keep, participation, size_max)
    if not sized.targets:
        return _nothing("no position could go within the depth that is visible" if keep < 1 else "nothing is too much")
    targets = ",".join(f"{instrument}={text}" for instrument, text in sized.targets.items())
    plan = {"keep": repr(keep), "participation": repr(participation), "notional": money(sized.notional)}
    if sized.bounded:
        plan["bounded"] = ",".join(sized.bounded)
    return Computed({"targets": targets}, plan, sized.notional)


def _today(breach: dict[str, Any], frame: Frame) -> dict[str, Any]:
    """Return a breach with the value that its measure has now: a rule may fire long after its limit broke."""
    kind, _, name = breach["scope"].partition(":")
    table = frame.tables.get(kind)
    if table is None or breach["measure"] not in table.measures or (name or kind) not in table.names:
        return breach
    value = table.values.item(table.measures.index(breach["measure"]), table.names.index(name or kind))
    return {**breach, "value": value}


def _hedge(asked: Asked, breach: dict[str, Any], keep: float, participation: float) -> Computed:
    name, markets = asked.candidate.target.partition(":")[2], asked.frame.markets
    depth = math.nan
    if markets is not None and name in markets.names:
        depth = markets.depth.item(markets.names.index(name))
    value = float(breach["value"])
    notional, bounded = hedge_notional(value, abs(value) * keep, participation, depth)
    if notional == 0:
        return _nothing("no depth is visible to hedge in")
    plan = {"keep": repr(keep), "participation": repr(participation), "depth": money(depth), "bounded": str(bounded)}
    side = "sell" if notional < 0 else "buy"
    return Computed({"side": side, "notional": money(abs(notional))}, plan, abs(notional))


def _csa(asked: Asked) -> Computed:
    """CALL_MARGIN and RECALL_COLLATERAL: what the terms of the target's netting sets make due now."""
    table = asked.frame.tables.get("netting_set")
    if table is None or "margin_call" not in table.measures:
        return _nothing("no netting set has terms; describe them, or leave compute out")
    row = table.values[table.measures.index("margin_call")]
    sets = [scope.partition(":")[2] for scope in members("netting_set", asked.candidate.target, asked.frame)]
    due = {name: row.item(table.names.index(name)) for name in sets}
    amount = float(totals(np.array([value for _, value in sorted(due.items()) if value > 0])))
    if amount <= 0:
        return _nothing("nothing is due under the terms")
    plan = {name: money(value) for name, value in sorted(due.items()) if value > 0}
    return Computed({"amount": money(amount), "currency": asked.currency}, plan, amount)


def _headroom(asked: Asked) -> Computed:
    """WITHDRAW_FUNDS: what is over the level aimed at, of what is free there and within the stated size."""
    breach, frame = asked.candidate.breach, asked.frame
    if breach is None or breach["measure"] != "current_exposure":
        return _nothing("only a limit on current_exposure says how much to withdraw")
    breach = _today(breach, frame)
    keep = keep_of({**breach, "measure": "gross_notional"}, asked.limits.get(breach["limit"]), asked.command.get("to"))
    table = frame.tables["account"]
    equity, initial = (table.values[table.measures.index(name)] for name in ("equity", "initial_margin"))
    free = 0.0
    for account in members("account", asked.candidate.target, frame):
        at = table.names.index(account.partition(":")[2])
        free += max(equity.item(at) - initial.item(at), 0.0) if account in frame.house else 0.0
    excess = float(breach["value"]) * (1.0 - (1.0 if keep is None else keep))
    amount = min(excess, free, float(asked.command.get("size_max", math.inf)))
    if amount <= 0:
        return _nothing("nothing of ours is free there")
    plan = {"excess": money(excess), "free": money(free)}
    return Computed({"amount": money(amount), "currency": asked.currency}, plan, amount)


def _weights(asked: Asked) -> Computed:
    """REROUTE: the parts of the other venues."""
    frame, failing = asked.frame, asked.candidate.target.partition(":")[2]
    table, routes = frame.tables.get("venue"), frame.routes or {}
    if table is None:
        return _nothing("there are no venues")
    gross = dict(zip(table.names, table.values[table.measures.index("gross_notional")].tolist(), strict=False))
    healthy = [name for name in routes if name != failing and asked.venues.get(name, "up") == "up"]
    venues = [
        Venue(
            name,
            routes[name][0],
            routes[name][1],
            _limit_of("venue", name, "gross_notional", asked.limits) - gross.get(name, 0.0),
        )
        for name in sorted(healthy)
    ]
    found = weights(venues, max(gross.get(failing, 0.0), 1.0))
    if not found:
        return _nothing("no other venue is healthy, has visible depth and has room under its limit")
    plan = {one.name: f"depth {one.depth:.0f} fee {one.fee!r} room {one.headroom:.0f}" for one in venues}
    action = {"from": failing, "weights": ",".join(f"{name}={part}" for name, part in found.items())}
    return Computed(action, plan, 0.0)


def _diversify(asked: Asked) -> Computed:
    """REROUTE of the firm's money: the cheapest transfers that bring counterparties back under their limits."""
    parties = [
        Party(name, exposure, _limit_of("counterparty", name, "current_exposure", asked.limits), free)
        for name, (exposure, free) in sorted((asked.frame.parties or {}).items())
    ]
    plan = diversify([one for one in parties if math.isfinite(one.limit)], {}, UNIT)
    if not plan.transfers:
        return _nothing(f"no transfer helps; what binds: {', '.join(plan.binding) or 'nothing is over its limit'}")
    moves = ",".join(f"{one.source}>{one.to}={one.units * int(UNIT)}" for one in plan.transfers)
    size = UNIT * sum(one.units for one in plan.transfers)
    told = {"cost": money(plan.cost * UNIT / 10_000), "short": money(plan.short * UNIT)}
    if plan.binding:
        told["binding"] = ",".join(plan.binding)
    return Computed({"transfers": moves, "currency": asked.currency}, told, size)


def _limit_of(kind: str, name: str, measure: str, limits: dict[str, dict[str, Any]]) -> float:
    """Return the tightest soft bound (hard, where there is none) on a measure of a scope; infinity without any."""
    scopes = (f"{kind}:{name}", f"{kind}:*")
    bounds = [
        float(limit.get("soft", limit.get("hard", math.inf)))
        for limit in limits.values()
        if limit["scope"] in scopes and limit["measure"] == measure and limit.get("direction", "above") == "above"
    ]
    return min(bounds, default=math.inf)


_HOW: dict[tuple[str, str], Callable[[Asked], Computed]] = {
    ("REDUCE_POSITION", "position"): _position,
    ("HEDGE", "position"): _position,
    ("CALL_MARGIN", "csa"): _csa,
    ("RECALL_COLLATERAL", "csa"): _csa,
    ("WITHDRAW_FUNDS", "headroom"): _headroom,
    ("REROUTE", "weights"): _weights,
    ("REROUTE", "diversify"): _diversify,
}
