"""Sizes and settings: amounts to cut or hedge, and limits or haircuts to set, from the market's depth."""

import math
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from seawall.operators.core.base import OpenPositions
from seawall.operators.core.mitigation._requests import (
    CHANGE_LIMIT_FAULT,
    ComputationRequest,
    ComputationResult,
    amount_to_cent,
    current_breach,
    is_change_limit,
    no_action,
    rounding_noise,
    worst_price,
)

# Sizes: what to cut of each position so that a measure comes back within a bound, in what the market can take.
#
# The measures that scale with positions (notionals, leverage, margin ratio) come back to ``keep`` times what they are
# when every position is cut to ``keep`` times what it is. Of each instrument no more goes than ``participation`` of its
# visible depth (the thinner side within 50 bp); of one without a known depth nothing does; and together no more than
# ``size_max``. Quantities are whole increments: what goes is rounded up, what the bounds allow down.

SCALE_WITH_POSITIONS = frozenset(
    {"gross_notional", "net_notional", "leverage", "margin_ratio", "initial_margin", "maintenance_margin", "delta"}
)
POSITIONS_MAX = 20  # named in one command: the largest


class SizeBounds(NamedTuple):
    """Bounds of one trade: part of the visible depth, notional, and how far from a mark not older than ``fresh_us``."""

    participation: float
    size_max: float = math.inf
    price_bound: float | None = None
    fresh_us: int = 0


class SizedPositions(NamedTuple):
    """Targets by instrument as decimal texts, the notional that goes, where a bound held it up, and worst prices."""

    targets: dict[str, str]
    notional: float
    bounded: list[str]
    prices: dict[str, str]


def kept_share(breach: dict[str, Any], limit: dict[str, Any] | None, to: str | None) -> float | None:
    """Return which part of its positions brings a breach back below ``to``, or None where positions do not say.

    The bound aimed at is that of the breach, moved to the level ``to`` in the limit's own proportion, times the exit
    ratio, so that the level is left.
    """
    if breach["measure"] not in SCALE_WITH_POSITIONS or breach["value"] == 0:
        return None
    bound, exit_ratio = float(breach["bound"]), 1.0
    if limit is not None:
        exit_ratio = float(limit.get("exit_ratio", 1.0))
        if to is not None and to in limit and breach["level"] in limit and limit[breach["level"]]:
            bound *= float(limit[to]) / float(limit[breach["level"]])
    return min(max(abs(bound) * exit_ratio / abs(float(breach["value"])), 0.0), 1.0)


def reduce_positions(book: OpenPositions, account: int, keep: float, bounds: SizeBounds) -> SizedPositions:
    """Return the absolute targets that cut an account's positions to ``keep`` of what they are, the largest first.

    ``account`` is the shard's number of it. With a price bound an instrument without a fresh mark stays as it is.
    """
    mine = np.flatnonzero((book.accounts == account) & (book.units != 0))
    order = sorted(mine.tolist(), key=lambda row: (-book.notional.item(row), book.instruments.item(row)))
    targets: dict[str, str] = {}
    prices: dict[str, str] = {}
    bounded, notional = [], 0.0
    for row in order[:POSITIONS_MAX]:
        units, worth, instrument = book.units.item(row), book.notional.item(row), book.instruments.item(row)
        wanted = abs(units) * (1.0 - keep)
        wanted = math.ceil(wanted - rounding_noise(wanted))
        depth = book.depth.item(instrument) if instrument < len(book.depth) else math.nan
        takes = min(bounds.participation * depth, bounds.size_max - notional)
        if bounds.price_bound is not None and not book.time_us.item(instrument) >= bounds.fresh_us:
            takes = 0.0
        most = int(abs(units) * min(takes / worth, 1.0)) if takes > 0 and worth > 0 else 0
        cut = min(wanted, most)
        if cut < wanted:
            bounded.append(book.names[instrument])
        if cut:
            left = units - cut if units > 0 else units + cut
            targets[book.names[instrument]] = format(left * Decimal(book.increments[instrument]), "f")
            notional += worth * cut / abs(units)
            if bounds.price_bound is not None:
                price = book.price.item(instrument)
                prices[book.names[instrument]] = worst_price(price, units > 0, float(bounds.price_bound))
    return SizedPositions(targets, notional, bounded, prices)


def hedge_notional(value: float, bound: float, participation: float, depth: float) -> tuple[float, bool]:
    """Return the signed notional to trade so that an exposure comes back to its bound, and whether depth bounded it.

    Examples
    --------
    >>> hedge_notional(150.0, 100.0, 0.1, 1000.0), hedge_notional(-900.0, 100.0, 0.1, 1000.0)
    ((-50.0, False), (100.0, True))
    """
    excess = max(abs(value) - bound, 0.0)
    most = participation * depth if depth > 0 else 0.0
    size = min(excess, most)
    return (-size if value > 0 else size), size < excess


# Sizes of trades: REDUCE_POSITION of an account in absolute targets, HEDGE of an underlying in one instrument.
#
# Both bring the measure of the limit that broke back below the level ``to``, as it stands now, take no more than
# ``participation`` of the visible depth, and with ``price_bound`` name the worst price: the mark across venues less (or
# more than) that part. Without a fresh mark there is no price to be off from, so nothing is traded.

PARTICIPATION = 0.1
HEDGED = frozenset({"net_notional", "delta"})


def trade_size(request: ComputationRequest) -> ComputationResult:
    """REDUCE_POSITION and HEDGE."""
    breach, command = request.candidate.breach, request.command
    if breach is None:
        return no_action("there is no measure to bring back: it was no limit that broke")
    limit = request.limits.get(breach["limit"])
    if is_change_limit(breach, request.limits):
        return no_action(CHANGE_LIMIT_FAULT)
    breach = current_breach(breach, request.measures)
    if breach["value"] == 0:
        return no_action("nothing is left to cut")
    keep = kept_share(breach, limit, command.get("to"))
    if keep is None:
        return no_action(f"{breach['measure']} does not scale with positions")
    return _hedge(request, breach, keep) if command["kind"] == "HEDGE" else _reduce(request, keep)


def _participation(command: dict[str, Any]) -> float:
    return float(command.get("participation", PARTICIPATION))


def _reduce(request: ComputationRequest, keep: float) -> ComputationResult:
    command = request.command
    kind, _, name = request.candidate.target.partition(":")
    table, book = request.measures.tables.get("account"), request.measures.computation.book
    if kind != "account" or table is None or book is None:
        return no_action("positions are cut account by account; name the account as target")
    size_max = float(command.get("size_max", math.inf))
    bounds = SizeBounds(_participation(command), size_max, command.get("price_bound"), request.fresh_us)
    sized = reduce_positions(book, table.names.index(name), keep, bounds)
    if not sized.targets:
        return no_action("no position could go within the bounds on depth, size and price" if keep < 1
                       else "nothing is too much")  # fmt: skip
    action = {"targets": ",".join(f"{instrument}={text}" for instrument, text in sized.targets.items())}
    if sized.prices:
        action["limit_prices"] = ",".join(f"{instrument}={text}" for instrument, text in sized.prices.items())
    plan = {"keep": repr(keep), "participation": repr(bounds.participation), "notional": amount_to_cent(sized.notional)}
    if sized.bounded:
        plan["bounded"] = ",".join(sized.bounded)
    return ComputationResult(action, plan, sized.notional)


def _hedge(request: ComputationRequest, breach: dict[str, Any], keep: float) -> ComputationResult:
    if breach["measure"] not in HEDGED:
        return no_action(f"a hedge brings net_notional or delta back, it adds to {breach['measure']}")
    command, value = request.command, float(breach["value"])
    quote = (request.measures.computation.quotes or {}).get(command.get("instrument", ""))
    if "instrument" in command and (quote is None or quote[1] < request.fresh_us):
        return no_action(f"{command['instrument']} has no fresh mark to hedge at")
    depth = _depth(request) if quote is None else quote[4]
    participation = _participation(command)
    notional, bounded = hedge_notional(value, abs(value) * keep, participation, depth)
    if notional == 0:
        return no_action("no depth is visible to hedge in")
    plan = {
        "keep": repr(keep),
        "participation": repr(participation),
        "depth": amount_to_cent(depth),
        "bounded": str(bounded),
    }
    action = {"side": "sell" if notional < 0 else "buy", "notional": amount_to_cent(abs(notional))}
    if quote is not None:
        size = abs(notional) / quote[2] if quote[2] > 0 else 0.0
        units = math.floor(size + rounding_noise(size))
        if units == 0:
            return no_action("less than one increment is left to hedge")
        action["quantity"] = format(units * Decimal(quote[3]), "f")
        if "price_bound" in command:
            action["limit_price"] = worst_price(quote[0], notional < 0, float(command["price_bound"]))
    return ComputationResult(action, plan, abs(notional))


def _depth(request: ComputationRequest) -> float:
    """Return the visible depth of the underlying that is hedged."""
    name, markets = request.candidate.target.partition(":")[2], request.measures.markets
    if markets is None or name not in markets.names:
        return math.nan
    return markets.depth.item(markets.names.index(name))


# Settings: absolute values of SET_LIMIT and SET_HAIRCUT, worked out from what stands and from the market.
#
# A limit goes to ``ratio`` of its level ``to`` (hard where none is named; one from below to its ratio-th part upwards).
# A haircut covers ``multiple`` deviations of the asset's price over ``HAIRCUT_DAYS``, by the larger of today's and its
# usual volatility, and is never below the ``haircut`` that the rule states.

HAIRCUT_MULTIPLE = 3.0
HAIRCUT_DAYS = 1.0  # a coin can be sold within a day
YEAR_DAYS = 365.0


def limit_setting(request: ComputationRequest) -> ComputationResult:
    """SET_LIMIT."""
    command = request.command
    limit = request.limits.get(command["limit"])
    if limit is None:
        return no_action(f"there is no limit {command['limit']} in force")
    level = command.get("to", "hard")
    if level not in limit:
        return no_action(f"{command['limit']} has no level {level}")
    part, current = Decimal(repr(command["ratio"])), Decimal(repr(limit[level]))
    if part == 0:
        return no_action("a ratio of nothing is no limit; halt instead")
    value = current / part if limit.get("direction") == "below" else current * part
    text = format(round(value, 8).normalize(), "f")
    return ComputationResult({"value": text, "level": level}, {"stands": format(current, "f")}, 0.0)


def haircut_setting(request: ComputationRequest) -> ComputationResult:
    """SET_HAIRCUT."""
    command, markets = request.command, request.measures.markets
    if markets is None or command["asset"] not in markets.names:
        return no_action(f"no volatility of {command['asset']} is known")
    at = markets.names.index(command["asset"])
    known = [one for one in (markets.volatility.item(at), markets.reference.item(at)) if one > 0]
    if not known:
        return no_action(f"no volatility of {command['asset']} is known")
    multiple = float(command.get("multiple", HAIRCUT_MULTIPLE))
    covers = max(known) * multiple * math.sqrt(HAIRCUT_DAYS / YEAR_DAYS)
    haircut = max(min(math.ceil(covers * 10_000) / 10_000, 1.0), float(command.get("haircut", 0)))
    plan = {"volatility": repr(max(known)), "multiple": repr(multiple), "covers": repr(covers)}
    return ComputationResult({"haircut": format(Decimal(repr(haircut)), "f")}, plan, 0.0)
