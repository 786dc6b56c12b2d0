"""The liquidation map in the stream: each shard maps its own books, the second operator adds the maps up and cascades.

What is forced is a sum over accounts, and an account stands in one shard, so maps add up. Volatilities and betas are
the same in all shards. Once per minute of event time in which anything happened.

Measures of an underlying, and of the firm the worst of all underlyings:

- ``cascade_multiplier``: how many times its size a move becomes once what it forces has fed back, the worst of moves
  of up to 20 % either way; 100 where one does not come to rest, and never more.
- ``cascade_distance``: the size of the smallest move that does not come to rest, 1 where every move of the map does.

Where nothing is exposed, and before the first map, they are 1.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight import liquidation as lq
from seawall.operators.core.foresight.markets import Markets, spread_of
from seawall.operators.core.foresight.passage import Exposed, paired
from seawall.operators.core.frames import Holdings
from seawall.schemas.measures import ACCOUNT

F8 = NDArray[np.float64]
B1 = NDArray[np.bool_]
DAY_S: Final = 86_400
EQUITY, MARGIN = ACCOUNT.index("equity"), ACCOUNT.index("maintenance_margin")
MOVE_MAX: Final = 0.2  # the moves that the multiplier is the worst of
MULTIPLIER_MAX: Final = 100.0
MOVED: Final = 0.05  # of what is exposed: a map that moved by less since it was written last is not written again
NEAR = np.abs(np.array(lq.STEPS)) <= MOVE_MAX


class ShardMap(NamedTuple):
    """What the books of one shard, or of several, are forced to.

    ``forced`` has shape (4, underlyings, steps): sold and bought by a move of the underlying alone, then with all
    others following by their beta. ``exposed`` is the notional held of each underlying, long and short together.
    """

    forced: F8
    exposed: F8


class CascadeMap(NamedTuple):
    """The maps of all underlyings, and what becomes of their moves; shapes (underlyings,) and (underlyings, steps)."""

    books: ShardMap
    depth: F8
    depth_known: B1
    grown: F8
    diverges_at: F8


def shard_map(book: Holdings, accounts: F8, markets: Markets) -> ShardMap:
    """Return the map of one shard's books; ``accounts`` are the values of its table."""
    steps, count = np.array(lq.STEPS), len(book.underlyings)
    stands = markets.of_underlyings(book)
    volatility, rho = spread_of(markets, stands, DAY_S), markets.rho_of(stands)
    held = paired(book.account, book.underlying[book.instrument], book.gain, book.margin)
    health = accounts[EQUITY] - accounts[MARGIN]
    alone = lq.liquidation_map(held, health, held.gain - held.margin, count, steps)
    slopes = lq.beta_slopes(held, volatility, rho, len(health))
    followed = lq.liquidation_map(held, health, slopes, count, steps)
    return ShardMap(np.stack([*alone, *followed]), _exposed(held, count))


def depths_of(book: Holdings, markets: Markets) -> F8:
    """Return the visible depth of each underlying: that of the instrument that stands for it, NaN where unknown."""
    stands = markets.of_underlyings(book)
    return np.where(stands >= 0, book.depth[np.maximum(stands, 0)], np.nan) if len(stands) else np.zeros(0)


def together(parts: list[ShardMap]) -> ShardMap:
    """Return the sum of the maps of shards, in order of shard; one may know more underlyings."""
    count = max(len(part.exposed) for part in parts)
    forced, exposed = np.zeros((4, count, len(lq.STEPS))), np.zeros(count)
    for part in parts:
        known = len(part.exposed)
        forced[:, :known] += part.forced
        exposed[:known] += part.exposed
    return ShardMap(forced, exposed)


def cascaded(books: ShardMap, known: F8) -> CascadeMap:
    """Return what becomes of moves of each underlying, with the depths that are known (NaN: the stated default)."""
    steps = np.array(lq.STEPS)
    depth, good = lq.depths(known, books.exposed)
    ends = lq.cascade(lq.LiquidationMap(books.forced[2], books.forced[3]), depth, steps)
    return CascadeMap(books, depth, good, lq.multipliers(ends, steps), lq.first_divergence(ends, steps))


def measures(found: CascadeMap) -> F8:
    """Return ``cascade_multiplier`` and ``cascade_distance`` of each underlying, shape (2, underlyings)."""
    worst = np.minimum(found.grown[:, NEAR].max(axis=1, initial=1.0), MULTIPLIER_MAX)
    return np.stack([worst, np.where(np.isnan(found.diverges_at), 1.0, np.abs(found.diverges_at))])


def row(found: CascadeMap, at: int, name: str) -> dict[str, Any]:
    """Return the map of one underlying as it is published; null stands for a multiplier without bound."""
    sides = ("alone_sold", "alone_bought", "with_betas_sold", "with_betas_bought")
    forced = {side: found.books.forced[place, at].tolist() for place, side in enumerate(sides)}
    grown, first = found.grown[at].tolist(), found.diverges_at.item(at)
    return {
        "scope": f"underlying:{name}",
        "depth": found.depth.item(at),
        "depth_known": bool(found.depth_known[at]),
        **forced,
        "cascade_multiplier": [value if value < np.inf else None for value in grown],
        "diverges_at": None if np.isnan(first) else first,
    }


def moved(now: ShardMap, last: ShardMap) -> list[int]:
    """Return the underlyings whose map is no longer what was written last; ``last`` may know fewer of them."""
    before = _grown(last, now)
    change = np.abs(now.forced - before.forced).max(axis=(0, 2), initial=0.0)
    size = np.maximum(now.exposed, before.exposed)
    wanted = (change > MOVED * size) | ((now.exposed > 0) != (before.exposed > 0))
    return [int(at) for at in wanted.nonzero()[0]]


def held(books: ShardMap) -> list[int]:
    """Return the underlyings of which anything is held."""
    return [int(at) for at in (books.exposed > 0).nonzero()[0]]


def written(now: ShardMap, last: ShardMap, at: list[int]) -> ShardMap:
    """Return what is written last once the maps of some underlyings are."""
    kept = _grown(last, now)
    kept.forced[:, at], kept.exposed[at] = now.forced[:, at], now.exposed[at]
    return kept


def nothing() -> ShardMap:
    """Return the map of no books."""
    return ShardMap(np.zeros((4, 0, len(lq.STEPS))), np.zeros(0))


def _grown(last: ShardMap, now: ShardMap) -> ShardMap:
    """Return a copy of ``last`` with as many underlyings as ``now``."""
    return together([last, ShardMap(np.zeros_like(now.forced), np.zeros_like(now.exposed))])


def _exposed(held: Exposed, count: int) -> F8:
    return np.bincount(held.underlying, np.abs(held.gain), count).astype(np.float64)
