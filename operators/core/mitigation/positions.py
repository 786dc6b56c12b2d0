"""Sizes of trades: REDUCE_POSITION of an account in absolute targets, HEDGE of an underlying in one instrument.

Both bring the measure of the limit that broke back below the level ``to``, as it stands now, take no more than
``participation`` of the visible depth, and with ``price_bound`` name the worst price: the mark across venues less (or
more than) that part. Without a fresh mark there is no price to be off from, so nothing is traded.
"""

import math
from decimal import Decimal
from typing import Any

from seawall.operators.core.mitigation.asked import (
    OVER_TIME,
    Asked,
    Computed,
    as_it_stands,
    money,
    nothing,
    over_time,
    worst_price,
)
from seawall.operators.core.mitigation.sizing import Bounds, hedge_notional, keep_of, reduce_positions

PARTICIPATION = 0.1
HEDGED = frozenset({"net_notional", "delta"})


def position(asked: Asked) -> Computed:
    """REDUCE_POSITION and HEDGE."""
    breach, command = asked.candidate.breach, asked.command
    if breach is None:
        return nothing("there is no measure to bring back: it was no limit that broke")
    limit = asked.limits.get(breach["limit"])
    if over_time(breach, asked.limits):
        return nothing(OVER_TIME)
    breach = as_it_stands(breach, asked.frame)
    if breach["value"] == 0:
        return nothing("nothing is left to cut")
    keep = keep_of(breach, limit, command.get("to"))
    if keep is None:
        return nothing(f"{breach['measure']} does not scale with positions")
    return _hedge(asked, breach, keep) if command["kind"] == "HEDGE" else _reduce(asked, keep)


def _participation(command: dict[str, Any]) -> float:
    return float(command.get("participation", PARTICIPATION))


def _reduce(asked: Asked, keep: float) -> Computed:
    command = asked.command
    kind, _, name = asked.candidate.target.partition(":")
    table, book = asked.frame.tables.get("account"), asked.frame.book
    if kind != "account" or table is None or book is None:
        return nothing("positions are cut account by account; name the account as target")
    size_max = float(command.get("size_max", math.inf))
    bounds = Bounds(_participation(command), size_max, command.get("price_bound"), asked.fresh_us)
    sized = reduce_positions(book, table.names.index(name), keep, bounds)
    if not sized.targets:
        return nothing("no position could go within the bounds on depth, size and price" if keep < 1
                       else "nothing is too much")  # fmt: skip
    action = {"targets": ",".join(f"{instrument}={text}" for instrument, text in sized.targets.items())}
    if sized.prices:
        action["limit_prices"] = ",".join(f"{instrument}={text}" for instrument, text in sized.prices.items())
    plan = {"keep": repr(keep), "participation": repr(bounds.participation), "notional": money(sized.notional)}
    if sized.bounded:
        plan["bounded"] = ",".join(sized.bounded)
    return Computed(action, plan, sized.notional)


def _hedge(asked: Asked, breach: dict[str, Any], keep: float) -> Computed:
    if breach["measure"] not in HEDGED:
        return nothing(f"a hedge brings net_notional or delta back, it adds to {breach['measure']}")
    command, value = asked.command, float(breach["value"])
    quote = (asked.frame.quotes or {}).get(command.get("instrument", ""))
    if "instrument" in command and (quote is None or quote[1] < asked.fresh_us):
        return nothing(f"{command['instrument']} has no fresh mark to hedge at")
    depth = _depth(asked) if quote is None else quote[4]
    participation = _participation(command)
    notional, bounded = hedge_notional(value, abs(value) * keep, participation, depth)
    if notional == 0:
        return nothing("no depth is visible to hedge in")
    plan = {"keep": repr(keep), "participation": repr(participation), "depth": money(depth), "bounded": str(bounded)}
    action = {"side": "sell" if notional < 0 else "buy", "notional": money(abs(notional))}
    if quote is not None:
        units = math.floor(abs(notional) / quote[2]) if quote[2] > 0 else 0
        if units == 0:
            return nothing("less than one increment is left to hedge")
        action["quantity"] = format(units * Decimal(quote[3]), "f")
        if "price_bound" in command:
            action["limit_price"] = worst_price(quote[0], notional < 0, float(command["price_bound"]))
    return Computed(action, plan, abs(notional))


def _depth(asked: Asked) -> float:
    """Return the visible depth of the underlying that is hedged."""
    name, markets = asked.candidate.target.partition(":")[2], asked.frame.markets
    if markets is None or name not in markets.names:
        return math.nan
    return markets.depth.item(markets.names.index(name))
