"""Order books as what can be sold and bought within each distance of the price, for many markets at once."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.schemas.errors import UsageError

F8 = NDArray[np.float64]


class Books(NamedTuple):
    """Cumulative depth.

    Attributes
    ----------
    distance : float64, shape (levels,)
        Fractions of the price, ascending from above 0.
    bids, asks : float64, shape (markets, levels)
        Units within each distance, growing along the levels.
    """

    distance: F8
    bids: F8
    asks: F8

    @property
    def near(self) -> F8:
        """Return what stands at the first distance, both sides: the weight of a market in an oracle."""
        return np.asarray(self.bids[:, 0] + self.asks[:, 0])

    def thinned(self, factor: F8 | float) -> "Books":
        """Return the books with this much of their depth left."""
        left = np.broadcast_to(np.asarray(factor, dtype=np.float64), (len(self.bids),))[:, None]
        return Books(self.distance, self.bids * left, self.asks * left)


def make_books(distance: F8, bids: F8, asks: F8) -> Books:
    """Return checked books.

    Raises
    ------
    UsageError
        Distances or depths that do not grow from above 0: such a book has no density to go on at.
    """
    for name, side in (("distance", distance[None]), ("bids", bids), ("asks", asks)):
        wrong = ~(np.diff(side, axis=1, prepend=0.0) > 0).all(axis=1)
        if wrong.any():
            raise UsageError(
                f"{name}, row {int(wrong.argmax())}: must grow from above 0, level by level; merge equal ones"
            )
    return Books(distance, bids, asks)


def even_books(depth: F8, within: float) -> Books:
    """Return books with ``depth`` units on each side evenly spread over a distance, and on at that density."""
    return make_books(np.array([within]), depth[:, None].copy(), depth[:, None].copy())


def walk(books: Books, price: F8, orders: F8) -> tuple[F8, F8]:
    """Return the average price that market orders meet and the last one, each of shape (markets,).

    Parameters
    ----------
    price, orders : float64, shape (markets,)
        Prices before, and units: above 0 bought, below 0 sold. A seller finds nobody below a price of 0, and gives the
        rest away at 0.
    """
    average, last = price.astype(np.float64).copy(), price.astype(np.float64).copy()
    for at in orders.nonzero()[0].tolist():
        sells = bool(orders[at] < 0)
        away, mean = _distance(books.distance, (books.bids if sells else books.asks)[at], abs(orders[at]), sells)
        sign = -1.0 if sells else 1.0
        average[at], last[at] = price[at] * (1 + sign * mean), price[at] * (1 + sign * away)
    return average, last


def _distance(distance: F8, depth: F8, units: float, sells: bool) -> tuple[float, float]:
    """Return how far an order goes, and how far it goes on average; a sale at most the whole price."""
    edges, amounts = np.concatenate([[0.0], distance]), np.concatenate([[0.0], depth])
    if units > amounts[-1]:
        density = (amounts[-1] - amounts[-2]) / (edges[-1] - edges[-2])
        edges, amounts = np.append(edges, edges[-1] + (units - amounts[-1]) / density), np.append(amounts, units)
    away, filled = float(np.interp(units, amounts, edges)), units
    if sells and away > 1:
        away, filled = 1.0, float(np.interp(1.0, edges, amounts))
    inside = amounts < filled
    edges, amounts = np.append(edges[inside], away), np.append(amounts[inside], filled)
    cost = float((np.diff(amounts) * (edges[1:] + edges[:-1]) / 2).sum())
    return away, (cost + away * (units - filled)) / units
