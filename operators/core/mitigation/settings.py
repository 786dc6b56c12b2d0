"""Settings: absolute values of SET_LIMIT and SET_HAIRCUT, worked out from what stands and from the market.

A limit goes to ``ratio`` of its level ``to`` (hard where none is named; one from below to its ratio-th part upwards).
A haircut covers ``multiple`` deviations of the asset's price over ``DAYS``, by the larger of today's and its usual
volatility, and is never below the ``haircut`` that the rule states.
"""

import math
from decimal import Decimal

from seawall.operators.core.mitigation.asked import Asked, Computed, nothing

MULTIPLE = 3.0
DAYS = 1.0  # a coin can be sold within a day
YEAR_DAYS = 365.0


def ratio(asked: Asked) -> Computed:
    """SET_LIMIT."""
    command = asked.command
    limit = asked.limits.get(command["limit"])
    if limit is None:
        return nothing(f"there is no limit {command['limit']} in force")
    level = command.get("to", "hard")
    if level not in limit:
        return nothing(f"{command['limit']} has no level {level}")
    part, stands = Decimal(repr(command["ratio"])), Decimal(repr(limit[level]))
    if part == 0:
        return nothing("a ratio of nothing is no limit; halt instead")
    value = stands / part if limit.get("direction") == "below" else stands * part
    text = format(round(value, 8).normalize(), "f")
    return Computed({"value": text, "level": level}, {"stands": format(stands, "f")}, 0.0)


def volatility(asked: Asked) -> Computed:
    """SET_HAIRCUT."""
    command, markets = asked.command, asked.frame.markets
    if markets is None or command["asset"] not in markets.names:
        return nothing(f"no volatility of {command['asset']} is known")
    at = markets.names.index(command["asset"])
    known = [one for one in (markets.volatility.item(at), markets.reference.item(at)) if one > 0]
    if not known:
        return nothing(f"no volatility of {command['asset']} is known")
    multiple = float(command.get("multiple", MULTIPLE))
    covers = max(known) * multiple * math.sqrt(DAYS / YEAR_DAYS)
    haircut = max(min(math.ceil(covers * 10_000) / 10_000, 1.0), float(command.get("haircut", 0)))
    plan = {"volatility": repr(max(known)), "multiple": repr(multiple), "covers": repr(covers)}
    return Computed({"haircut": format(Decimal(repr(haircut)), "f")}, plan, 0.0)
