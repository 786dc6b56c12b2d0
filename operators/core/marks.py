"""Marks: the last price of every instrument, per venue and across venues, and what a unit is worth at it.

A *mark row* belongs to an instrument and either one venue or none; a position points at one mark row. A venue's row
without a price of its own uses the row across venues, where the latest mark of the best standing wins (CONTRACT §3).
An asset is priced by the mark of a spot instrument against the reporting currency, by its inverse, or through one
intermediate asset; with none of these it is unpriced and counts zero.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import Columns
from seawall.operators.core.directory import Directory
from seawall.schemas.slices import Marks as MarkColumns

F8 = NDArray[np.float64]
STANDING = {"mark": 4, "mid": 3, "index": 2, "last": 1}
ACROSS = -1


class Marks:
    """Mark rows of one shard and the prices derived from them."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.rows = Columns({"instrument": "i8", "venue": "i8", "price": "f8", "time_us": "i8", "standing": "i4"})
        self._index: dict[tuple[int, int], int] = {}
        self._across = np.zeros(0, dtype=np.int64)
        self.settlements: dict[int, float] = {}
        self.asset_prices: F8 = np.zeros(0)
        self._priced: tuple[F8, F8] | None = None

    def row(self, instrument: int, venue: int = ACROSS) -> int:
        """Return the mark row of an instrument at a venue (or across venues), made without a price where new."""
        row = self._index.get((instrument, venue))
        if row is None:
            row = self.rows.append(1, instrument=instrument, venue=venue, price=np.nan)
            self._index[instrument, venue] = row
            self._priced = None
        return row

    def across(self) -> NDArray[np.int64]:
        """Return the row across venues of every instrument, by number."""
        known = len(self._directory.instrument_records)
        if len(self._across) != known:
            self._across = np.array([self.row(i) for i in range(known)], dtype=np.int64)
        return self._across

    def apply(self, marks: MarkColumns) -> None:
        """Take the marks of a slice, at most one per (instrument, kind, venue)."""
        self._priced = None
        if not marks.kind and not marks.venue:
            rows = self.across()[marks.instrument]
            self.rows["price"][rows] = marks.price
            self.rows["time_us"][rows] = marks.time_us
            self.rows["standing"][rows] = STANDING["mark"]
            return
        kinds = marks.kind or ["mark"] * len(marks.price)
        venues = marks.venue or [""] * len(marks.price)
        for instrument, price, time_us, kind, venue in zip(
            marks.instrument, marks.price, marks.time_us, kinds, venues, strict=True
        ):
            self._apply_one(instrument, price, time_us, kind, venue)

    def _apply_one(self, instrument: int, price: float, time_us: int, kind: str, venue: str) -> None:
        if kind == "settlement":
            self.settlements[instrument] = price
            return
        targets = [self.row(instrument)]
        if venue:
            targets.append(self.row(instrument, self._directory.venue(venue)))
        for row in targets:
            if STANDING[kind] >= self.rows["standing"][row]:
                self.rows["price"][row] = price
                self.rows["time_us"][row] = time_us
                self.rows["standing"][row] = STANDING[kind]

    def refresh(self) -> None:
        """Forget derived prices: the directory changed."""
        self._priced = None

    def unit_values(self) -> tuple[F8, F8]:
        """Return, per mark row, the value of one unit and the worth of its settlement asset, both in the reporting
        currency. Both are 0 where the row has no price or its settlement asset is unpriced.
        """
        if self._priced is None:
            across = self.across()
            arrays = self._directory.arrays
            instrument, price = self.rows["instrument"], self.rows["price"]
            price = np.where(np.isnan(price), price[across[instrument]], price)
            self._price_assets(arrays)
            worth = self.asset_prices[arrays["settlement"][instrument]]
            marked = ~np.isnan(price) & ~np.isnan(worth)
            size = arrays["size"][instrument]
            with np.errstate(divide="ignore", invalid="ignore"):
                value = np.where(arrays["inverse"][instrument], -size / price, size * price) * worth
            self._priced = np.where(marked, value, 0.0), np.where(marked, worth, 0.0)
        return self._priced

    def own_priced(self) -> bool:
        """Tell whether any venue has a mark of its own."""
        return bool(np.any((self.rows["venue"] >= 0) & ~np.isnan(self.rows["price"])))

    def _price_assets(self, arrays: dict[str, Any]) -> None:
        """Price every asset; NaN where it is unpriced."""
        prices = np.full(len(self._directory.assets), np.nan)
        prices[0] = 1.0
        edges = []
        across = self.across()
        for number in np.flatnonzero(arrays["spot"]).tolist():
            price = float(self.rows["price"][across[number]])
            if price == price:  # not NaN
                edges.append((int(arrays["base"][number]), int(arrays["quote"][number]), price))
        for _ in range(2):  # direct, then through one intermediate asset
            known = prices.copy()
            for base, quote, price in edges:
                if np.isnan(prices[base]) and not np.isnan(known[quote]):
                    prices[base] = price * known[quote]
                if np.isnan(prices[quote]) and not np.isnan(known[base]):
                    prices[quote] = known[base] / price
        self.asset_prices = prices

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays and plain values."""
        return {"rows": self.rows.snapshot(), "settlements": [[k, v] for k, v in self.settlements.items()]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.rows.restore(state["rows"])
        pairs = zip(self.rows["instrument"].tolist(), self.rows["venue"].tolist(), strict=True)
        self._index = {pair: row for row, pair in enumerate(pairs)}
        self.settlements = {int(k): float(v) for k, v in state["settlements"]}
        self._priced = None
