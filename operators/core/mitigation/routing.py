"""Routing: over which venues the orders of one that fails go, and in what parts.

A part w of a flow F that goes to a venue costs its fee and moves its book: fee + IMPACT x w F / depth per unit. The
parts that cost least together have equal marginal cost wherever they are not bounded, w = depth (m - fee) / (2 IMPACT
F), and m is found by halving an interval a fixed number of times, so every host finds the same. A venue takes no more
than its limit leaves (its headroom), nothing where it is not healthy or its depth is unknown. Parts are whole per cent.
"""

import math
from typing import NamedTuple

from seawall.operators.core.mitigation.asked import Asked, Computed, bound_of, nothing
from seawall.operators.core.mitigation.failover import AGAIN

IMPACT = 0.005  # depth is what stands within 50 bp, so taking all of it moves the price by that
HALVINGS = 60
WHOLE = 100


class Venue(NamedTuple):
    """A venue: visible depth and our headroom in the reporting currency, its taker fee as a fraction."""

    name: str
    depth: float
    fee: float
    headroom: float


def weights(venues: list[Venue], flow: float) -> dict[str, int]:
    """Return the per cent of a flow that each venue gets; together less than 100 where headroom is short.

    Examples
    --------
    >>> even = [Venue("a", 1e6, 0.0005, 1e9), Venue("b", 1e6, 0.0005, 1e9)]
    >>> weights(even, 1e5)
    {'a': 50, 'b': 50}
    >>> weights([even[0], even[1]._replace(headroom=2e4)], 1e5), weights([even[0]._replace(headroom=3e4)], 1e5)
    ({'a': 80, 'b': 20}, {'a': 30})
    """
    able = [venue for venue in venues if venue.depth > 0 and venue.headroom > 0]
    if not able or not flow > 0:
        return {}
    most = [min(venue.headroom / flow, 1.0) for venue in able]
    wanted = min(sum_in_order(most), 1.0)

    def parts(marginal: float) -> list[float]:
        free = [venue.depth * (marginal - venue.fee) / (2 * IMPACT * flow) for venue in able]
        return [min(max(part, 0.0), bound) for part, bound in zip(free, most, strict=True)]

    low = 0.0
    high = max(venue.fee + 2 * IMPACT * flow / venue.depth for venue in able)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum_in_order(parts(middle)) < wanted else (low, middle)
    return _whole(able, parts(high), most, math.floor(wanted * WHOLE + 1e-6))


def reroute(asked: Asked) -> Computed:
    """REROUTE of orders: the parts of venues that can be relied on, of the flow that our positions at one stand for.

    The venue itself takes part again only where it is news that it has recovered.
    """
    frame, failing = asked.frame, asked.candidate.target.partition(":")[2]
    table, routes = frame.tables.get("venue"), frame.routes or {}
    if table is None:
        return nothing("there are no venues")
    gross = dict(zip(table.names, table.values[table.measures.index("gross_notional")].tolist(), strict=False))
    back = asked.candidate.evidence["id"].startswith(f"{AGAIN}:{failing}:")
    able = [name for name in sorted(routes) if name not in asked.ill and (back or name != failing)]
    venues = [Venue(name, routes[name][0], routes[name][1], _room(name, gross.get(name, 0.0), asked)) for name in able]
    found = weights(venues, max(gross.get(failing, 0.0), 1.0))
    if not found:
        return nothing("no other venue is healthy, has visible depth and has room under its limit")
    plan = {one.name: f"depth {one.depth:.0f} fee {one.fee!r} room {one.headroom:.0f}" for one in venues}
    action = {"from": failing, "weights": ",".join(f"{name}={part}" for name, part in found.items())}
    return Computed(action, plan, 0.0)


def _room(name: str, gross: float, asked: Asked) -> float:
    """Return what the limits on a venue, and on the counterparty that it is, leave of gross notional."""
    kinds = ("venue", "counterparty")
    return min(bound_of(kind, name, "gross_notional", asked.limits) for kind in kinds) - gross


def sum_in_order(values: list[float]) -> float:
    """Return the sum, first to last."""
    total = 0.0
    for value in values:
        total += value
    return total


def _whole(venues: list[Venue], parts: list[float], most: list[float], total: int) -> dict[str, int]:
    """Return whole per cents that add up to ``total``: what is missing goes to the largest remainders with room."""
    whole = [math.floor(part * WHOLE + 1e-6) for part in parts]
    order = sorted(range(len(parts)), key=lambda at: (whole[at] - parts[at] * WHOLE, venues[at].name))
    for at in order:
        if sum(whole) < total and (whole[at] + 1) / WHOLE <= most[at] + 1e-9:
            whole[at] += 1
    return {venue.name: part for venue, part in zip(venues, whole, strict=True) if part}
