"""Sizes: what to cut of each position so that a measure comes back within a bound, in what the market can take.

The measures that scale with positions (notionals, leverage, margin ratio) come back to ``keep`` times what they are
when every position is cut to ``keep`` times what it is. Of each instrument no more goes than ``participation`` of its
visible depth (the thinner side within 50 bp); of one without a known depth nothing does; and together no more than
``size_max``. Quantities are whole increments: what goes is rounded up, what the bounds allow down.
"""

import math
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from seawall.operators.core.frames import Book
from seawall.operators.core.mitigation.asked import worst_price

SCALE_WITH_POSITIONS = frozenset(
    {"gross_notional", "net_notional", "leverage", "margin_ratio", "initial_margin", "maintenance_margin", "delta"}
)
POSITIONS_MAX = 20  # named in one command: the largest


class Bounds(NamedTuple):
    """What may go at once: part of the visible depth, notional, and how far from a mark not older than ``fresh_us``."""

    participation: float
    size_max: float = math.inf
    price_bound: float | None = None
    fresh_us: int = 0


class Sized(NamedTuple):
    """Targets by instrument as decimal texts, the notional that goes, where a bound held it up, and worst prices."""

    targets: dict[str, str]
    notional: float
    bounded: list[str]
    prices: dict[str, str]


def keep_of(breach: dict[str, Any], limit: dict[str, Any] | None, to: str | None) -> float | None:
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


def reduce_positions(book: Book, account: int, keep: float, bounds: Bounds) -> Sized:
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
        wanted = math.ceil(abs(units) * (1.0 - keep))
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
    return Sized(targets, notional, bounded, prices)


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
