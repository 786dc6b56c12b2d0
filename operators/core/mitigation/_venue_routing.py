"""Venue routing: venues that may be relied on, and the routes of orders around one that fails."""

import math
from typing import Any, NamedTuple

from seawall.operators.core.base import ExternalEvent
from seawall.operators.core.mitigation._requests import ComputationRequest, ComputationResult, no_action, tightest_bound

# Failover with hysteresis: which venues may be relied on, by what they say of themselves and by their feeds.
#
# A venue is ill at once: by a status other than ``up``, or when its feed has died. It is well again only after it has
# been told to be ``up``, and its feed to speak again, for ``recover_s`` without a break; until then it is
# ``recovering``, and whatever breaks in begins the time anew. So a venue that flaps stays out. When the time is over
# this is news of its own, ``venue_status = "recovered"``, told once; what was halted stays halted until people release
# it.

NEVER_US = 1 << 62
VENUE_UP = "up"
RECOVERED, RECOVERING = "recovered", "recovering"
RECOVERED_EVENT = "venue_recovered"  # begins the evidence of a recovery
FEED_DIED, FEED_RETURNED = "dead_feed", "feed_back"  # alerts of the market dataflow on a venue


class _Venue(NamedTuple):
    """Venue: its last reported state, its dead feeds, and since when it has been well again."""

    told: str
    dead: list[str]  # the instrument groups that hear nothing of it
    well_us: int

    @property
    def ill(self) -> bool:
        """Return whether it may not be relied on, whatever the time."""
        return bool(self.dead) or self.told != VENUE_UP


class VenueHealth:
    """The venues that were ever ill and are not well yet; ``due_us`` is when the next of them recovers."""

    def __init__(self) -> None:
        self.due_us = NEVER_US
        self._recover_us = 0
        self._venues: dict[str, _Venue] = {}

    def configure(self, response: dict[str, Any]) -> None:
        """Take the terms of a playbook."""
        self._recover_us = int(float(response.get("recover_s", 0)) * 1_000_000)
        self._set_due()

    def hear(self, news: ExternalEvent, now_us: int) -> list[ExternalEvent]:
        """Take a venue's status or an alert on its feed; return that it recovered, where that takes no time."""
        kind, _, name = news.subject.partition(":")
        if news.kind == "venue_status":
            return self._change(news.subject, now_us, told=news.state)
        if news.kind == "alert" and kind == "venue" and news.state in (FEED_DIED, FEED_RETURNED):
            group = news.evidence.split(":")[1].partition("-")[0]  # signal:<group>-<seq>:<n>
            others = [one for one in self._venues[name].dead if one != group] if name in self._venues else []
            return self._change(name, now_us, dead=[*others, group] if news.state == FEED_DIED else others)
        return []

    def states(self, now_us: int) -> dict[str, str]:
        """Return the state of every venue that is not simply well: its status, ``dead_feed`` or ``recovering``."""
        found = {}
        for name, venue in self._venues.items():
            if venue.ill:
                found[name] = venue.told if venue.told != VENUE_UP else FEED_DIED
            elif now_us < venue.well_us + self._recover_us:
                found[name] = RECOVERING
        return found

    def advance(self, now_us: int) -> list[ExternalEvent]:
        """Return that venues recovered whose time is over; from here on they are well."""
        over = [
            name for name, venue in self._venues.items() if not venue.ill and venue.well_us + self._recover_us <= now_us
        ]
        for name in over:
            del self._venues[name]
        self._set_due()
        return [ExternalEvent("venue_status", name, RECOVERED, f"{RECOVERED_EVENT}:{name}:{now_us}") for name in over]

    def _change(self, name: str, now_us: int, **fields: Any) -> list[ExternalEvent]:
        before = self._venues.get(name, _Venue(VENUE_UP, [], 0))
        after = before._replace(**fields)
        if not (after.ill or name in self._venues):
            return []
        began = now_us if before.ill and not after.ill else before.well_us
        self._venues[name] = after._replace(well_us=began)
        self._set_due()
        return self.advance(now_us) if self.due_us <= now_us else []

    def _set_due(self) -> None:
        times = (venue.well_us + self._recover_us for venue in self._venues.values() if not venue.ill)
        self.due_us = min([NEVER_US, *times])

    def snapshot(self) -> list[Any]:
        """Return the state as plain values."""
        return [[name, *venue] for name, venue in self._venues.items()]

    def restore(self, state: list[Any]) -> None:
        """Take over what ``snapshot`` returned."""
        self._venues = {name: _Venue(*venue) for name, *venue in state}
        self._set_due()


# Routing: over which venues the orders of one that fails go, and in what parts.
#
# A part w of a flow F that goes to a venue costs its fee and moves its book: fee + IMPACT x w F / depth per unit. The
# parts that cost least together have equal marginal cost wherever they are not bounded, w = depth (m - fee) / (2 IMPACT
# F), and m is found by halving an interval a fixed number of times, so every host finds the same. A venue takes no more
# than its limit leaves (its headroom), nothing where it is not healthy or its depth is unknown. Parts are whole per
# cent.

IMPACT = 0.005  # depth is what stands within 50 bp, so taking all of it moves the price by that
HALVINGS = 60
PERCENT_TOTAL = 100


class VenueCapacity(NamedTuple):
    """A venue: visible depth and our headroom in the reporting currency, its taker fee as a fraction."""

    name: str
    depth: float
    fee: float
    headroom: float


def venue_weights(venues: list[VenueCapacity], flow: float) -> dict[str, int]:
    """Return the per cent of a flow that each venue gets; together less than 100 where headroom is short.

    Examples
    --------
    >>> even = [VenueCapacity("a", 1e6, 0.0005, 1e9), VenueCapacity("b", 1e6, 0.0005, 1e9)]
    >>> venue_weights(even, 1e5)
    {'a': 50, 'b': 50}
    >>> venue_weights([even[0], even[1]._replace(headroom=2e4)], 1e5)
    {'a': 80, 'b': 20}
    >>> venue_weights([even[0]._replace(headroom=3e4)], 1e5)
    {'a': 30}
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
    return _whole(able, parts(high), most, math.floor(wanted * PERCENT_TOTAL + 1e-6))


def reroute_orders(request: ComputationRequest) -> ComputationResult:
    """REROUTE of orders: the parts of venues that can be relied on, of the flow that our positions at one stand for.

    The venue itself takes part again only where it is news that it has recovered.
    """
    measures, failing = request.measures, request.candidate.target.partition(":")[2]
    table, routes = measures.tables.get("venue"), measures.computation.routes or {}
    if table is None:
        return no_action("there are no venues")
    gross = dict(zip(table.names, table.values[table.measures.index("gross_notional")].tolist(), strict=False))
    back = request.candidate.evidence["id"].startswith(f"{RECOVERED_EVENT}:{failing}:")
    able = [name for name in sorted(routes) if name not in request.ill and (back or name != failing)]
    venues = [
        VenueCapacity(name, routes[name][0], routes[name][1], _room(name, gross.get(name, 0.0), request))
        for name in able
    ]
    found = venue_weights(venues, max(gross.get(failing, 0.0), 1.0))
    if not found:
        return no_action("no other venue is healthy, has visible depth and has room under its limit")
    plan = {one.name: f"depth {one.depth:.0f} fee {one.fee!r} room {one.headroom:.0f}" for one in venues}
    action = {"from": failing, "weights": ",".join(f"{name}={part}" for name, part in found.items())}
    return ComputationResult(action, plan, 0.0)


def _room(name: str, gross: float, request: ComputationRequest) -> float:
    """Return what the limits on a venue, and on the counterparty that it is, leave of gross notional."""
    kinds = ("venue", "counterparty")
    return min(tightest_bound(kind, name, "gross_notional", request.limits) for kind in kinds) - gross


def sum_in_order(values: list[float]) -> float:
    """Return the sum, first to last."""
    total = 0.0
    for value in values:
        total += value
    return total


def _whole(venues: list[VenueCapacity], parts: list[float], most: list[float], total: int) -> dict[str, int]:
    """Return whole per cents that add up to ``total``: what is missing goes to the largest remainders with room."""
    whole = [math.floor(part * PERCENT_TOTAL + 1e-6) for part in parts]
    order = sorted(range(len(parts)), key=lambda at: (whole[at] - parts[at] * PERCENT_TOTAL, venues[at].name))
    for at in order:
        if sum(whole) < total and (whole[at] + 1) / PERCENT_TOTAL <= most[at] + 1e-9:
            whole[at] += 1
    return {venue.name: part for venue, part in zip(venues, whole, strict=True) if part}
