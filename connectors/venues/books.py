"""Order books kept from a snapshot and the changes after it.

A book is ``waiting`` until its first snapshot, ``live`` while every change follows the one before, and ``lost`` from
the first sign that it does not: a gap in sequence numbers, a change of a level that is not there, bids above asks.
Nothing is published from a book that is not live, and only a new snapshot makes a lost one live again.
"""

from bisect import bisect_left, insort
from typing import Literal

from seawall.connectors.venues.messages import is_zero

LEVELS_KEPT_MAX = 50_000  # per side: a venue's whole book has a few thousand

State = Literal["waiting", "live", "lost"]


class Ladder:
    """One side of a book: sizes by price, best first. Prices are compared as numbers and kept as texts."""

    def __init__(self, descending: bool) -> None:
        self._sign = -1.0 if descending else 1.0
        self._keys: list[float] = []
        self._levels: dict[float, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, price: str) -> bool:
        return self._sign * float(price) in self._levels

    def set(self, price: str, size: str) -> None:
        """Set the size at a price; zero removes the level, if it is there."""
        key = self._sign * float(price)
        if is_zero(size):
            if self._levels.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
            return
        if key not in self._levels:
            insort(self._keys, key)
        self._levels[key] = (price, size)

    def clear(self) -> None:
        """Remove every level."""
        self._keys.clear()
        self._levels.clear()

    def best(self, count: int) -> list[tuple[str, str]]:
        """Return at most ``count`` levels, best first."""
        return [self._levels[key] for key in self._keys[:count]]

    def best_price(self) -> float | None:
        """Return the best price."""
        return self._sign * self._keys[0] if self._keys else None


class Book:
    """Both sides of one instrument's book, and whether they can be trusted."""

    def __init__(self) -> None:
        self.state: State = "waiting"
        self.sequence = -1
        self.bids = Ladder(descending=True)
        self.asks = Ladder(descending=False)
        self.changed_us = -1
        self.published_us = -1
        self.pending_us = -1  # the time of a change that was held back, or -1

    def begin(self, bids: list[tuple[str, str]], asks: list[tuple[str, str]], sequence: int) -> None:
        """Replace everything by a snapshot."""
        self.bids.clear()
        self.asks.clear()
        for price, size in bids:
            self.bids.set(price, size)
        for price, size in asks:
            self.asks.set(price, size)
        self.sequence, self.state = sequence, "live"

    def lose(self) -> None:
        """Drop what can no longer be trusted."""
        self.bids.clear()
        self.asks.clear()
        self.state, self.pending_us = "lost", -1

    def ladder(self, side: str) -> Ladder:
        """Return the side of ``buy`` or ``sell`` orders."""
        return self.bids if side == "buy" else self.asks

    def is_crossed(self) -> bool:
        """Tell whether the best bid is at or above the best ask."""
        bid, ask = self.bids.best_price(), self.asks.best_price()
        return bid is not None and ask is not None and bid >= ask

    def is_overfull(self) -> bool:
        """Tell whether a side has more levels than any venue's book."""
        return max(len(self.bids), len(self.asks)) > LEVELS_KEPT_MAX
