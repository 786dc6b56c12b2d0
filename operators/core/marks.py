"""Marks: the last price of every instrument, per venue and across venues, and what a unit is worth at it.

A *mark row* belongs to an instrument and either one venue or none; a position points at one mark row. A venue's row
without a price of its own uses the row across venues, where the latest mark of the best standing wins (CONTRACT §3).
An asset is priced by the mark of a spot instrument against the reporting currency, by its inverse, or through one
intermediate asset; with none of these it is unpriced and counts zero.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import Columns, integers, reals
from seawall.operators.core.directory import Directory
from seawall.schemas.slices import Marks as MarkColumns

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
STANDING = {"robust": 5, "mark": 4, "mid": 3, "index": 2, "last": 1}  # robust: across venues, from signals
ACROSS = -1
VECTOR_MIN = 8


class Marks:
    """Mark rows of one shard and the prices derived from them.

    Attributes
    ----------
    unit, worth
        Per mark row: the value of one unit of a position, and the worth of its settlement asset, both in the reporting
        currency and both 0 where the row has no price or its settlement asset is unpriced. Valid after ``price()``.
    asset_prices
        Per asset, in the reporting currency; NaN where unpriced. ``asset_worth`` has 0 there.
    at_par
        All settlement assets are worth exactly 1.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.rows = Columns({"instrument": "i8", "venue": "i8", "price": "f8", "time_us": "i8", "standing": "i8"})
        self._index: dict[tuple[int, int], int] = {}
        self._of: list[list[int]] = []
        self._across: I8 = np.zeros(0, dtype=np.int64)
        self.settlements: dict[int, float] = {}
        self.asset_prices: F8 = np.zeros(0)
        self.asset_worth: F8 = np.zeros(0)
        self.unit: F8 = np.zeros(0)
        self.worth: F8 = np.zeros(0)
        self.at_par = False
        self._worth_at: dict[int, F8] = {}
        self.venue_priced = self.venue_accounts = False
        self._fresh = False
        self._marked: set[int] | None = None  # instruments marked since somebody asked; None: maybe any

    def row(self, instrument: int, venue: int = ACROSS) -> int:
        """Return the mark row of an instrument at a venue (or across venues), made without a price where new."""
        row = self._index.get((instrument, venue))
        if row is None:
            row = self.rows.append(1, instrument=instrument, venue=venue, price=np.nan)
            self._index[instrument, venue] = row
            while len(self._of) <= instrument:
                self._of.append([])
            self._of[instrument].append(row)
            self.venue_accounts = self.venue_accounts or venue != ACROSS
            self._fresh = False
        return row

    def across(self) -> I8:
        """Return the row across venues of every instrument, by number."""
        known = len(self._directory.instrument_records)
        if len(self._across) != known:
            self._across = np.array([self.row(i) for i in range(known)], dtype=np.int64)
        return self._across

    def rows_of(self, instrument: int) -> list[int]:
        """Return all mark rows of an instrument."""
        return self._of[instrument] if instrument < len(self._of) else []

    def price_of(self, row: int) -> float:
        """Return the price that a mark row stands for, NaN where there is none."""
        prices = self.rows["price"]
        price = float(prices[row])
        return price if price == price else float(prices[self.row(self.rows["instrument"].item(row))])  # noqa: PLR0124

    def take_marked(self) -> list[int] | None:
        """Return the instruments that were marked since the last call, in order of number; None: maybe any of them."""
        marked, self._marked = self._marked, set()
        return None if marked is None or len(marked) >= VECTOR_MIN else sorted(marked)

    def apply(self, marks: MarkColumns) -> None:
        """Take the marks of a slice, at most one per (instrument, kind, venue)."""
        across = self.across()
        if not marks.kind and not marks.venue and len(marks.price) >= VECTOR_MIN:
            self._fresh, self._marked = False, None
            self._apply_many(across[integers(marks.instrument)], reals(marks.price), integers(marks.time_us))
            return
        if self._marked is not None:
            self._marked.update(marks.instrument)
        kinds = marks.kind or ["mark"] * len(marks.price)
        venues = marks.venue or [""] * len(marks.price)
        for instrument, price, time_us, kind, venue in zip(
            marks.instrument, marks.price, marks.time_us, kinds, venues, strict=True
        ):
            self._apply_one(instrument, price, time_us, kind, venue)

    def _apply_many(self, rows: I8, price: F8, time_us: I8) -> None:
        """Take plain marks; one that is late, or below a robust mark that stands, changes nothing."""
        stood, mark = self.rows["standing"][rows], STANDING["mark"]
        taken = (stood < mark) | ((stood == mark) & (time_us >= self.rows["time_us"][rows]))
        if not taken.all():
            rows, price, time_us = rows[taken], price[taken], time_us[taken]
        self.rows["price"][rows] = price
        self.rows["time_us"][rows] = time_us
        self.rows["standing"][rows] = STANDING["mark"]

    def _apply_one(self, instrument: int, price: float, time_us: int, kind: str, venue: str) -> None:
        if kind == "settlement":
            self.settlements[instrument] = price
            return
        targets = [self.row(instrument)]
        if venue:
            targets.append(self.row(instrument, self._directory.venue(venue)))
            self.venue_priced = True
        standing, rows = STANDING[kind], self.rows
        for row in targets:
            stood = rows["standing"].item(row)
            if standing > stood or (standing == stood and time_us >= rows["time_us"].item(row)):
                rows["price"][row] = price
                rows["time_us"][row] = time_us
                rows["standing"][row] = standing
        if self._fresh:
            self._reprice(instrument)

    def refresh(self) -> None:
        """Forget derived prices: the directory changed."""
        self._fresh = False

    def price(self) -> None:
        """Make ``unit``, ``worth`` and the asset prices those of the marks as they stand."""
        if self._fresh:
            return
        across, arrays = self.across(), self._directory.arrays
        instrument, price = self.rows["instrument"], self.rows["price"]
        price = np.where(np.isnan(price), price[across[instrument]], price)
        self._price_assets(arrays)
        settlement = arrays["settlement"][instrument]
        worth = self.asset_prices[settlement]
        for venue, prices in self._worth_at.items():
            worth = np.where(self.rows["venue"] == venue, prices[settlement], worth)
        marked = ~np.isnan(price) & ~np.isnan(worth)
        size = arrays["size"][instrument]
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(arrays["inverse"][instrument], -size / price, size * price) * worth
        self.unit, self.worth = np.where(marked, value, 0.0), np.where(marked, worth, 0.0)
        self.at_par = bool((self.worth == 1.0).all())
        self._fresh = True

    def _reprice(self, instrument: int) -> None:
        """Do what ``price`` does for the rows of one instrument; a spot instrument prices assets, so all of them."""
        arrays = self._directory.arrays
        if arrays["spot"].item(instrument):
            self._fresh = False
            return
        settlement = arrays["settlement"].item(instrument)
        size, prices = arrays["size"].item(instrument), self.rows["price"]
        across = prices.item(self._across.item(instrument))
        for row in self._of[instrument]:
            price = prices.item(row)
            price = across if price != price else price  # noqa: PLR0124
            worth = self._worth_at.get(self.rows["venue"].item(row), self.asset_prices).item(settlement)
            marked = price == price and worth == worth  # noqa: PLR0124 (no NaN, the quick way)
            value = -size / price if arrays["inverse"].item(instrument) else size * price
            self.unit[row] = value * worth if marked else 0.0
            self.worth[row] = worth if marked else 0.0
            self.at_par = self.at_par and worth == 1.0 and marked
        if not self.at_par:
            self.at_par = bool((self.worth == 1.0).all())

    def worth_at(self, venue: I8, asset: I8) -> F8:
        """Return what balances are worth at the marks of their account's venue (-1: none), elementwise; 0 unpriced."""
        worth = self.asset_worth[asset]
        for number, prices in self._worth_at.items():
            own = prices[asset]
            worth = np.where((venue == number) & ~np.isnan(own), own, worth)
        return worth

    @property
    def priced_apart(self) -> bool:
        """Tell whether any venue prices an asset on its own."""
        return bool(self._worth_at)

    def _price_assets(self, arrays: dict[str, Any]) -> None:
        """Price every asset, across venues and at each venue that marks a spot instrument; NaN where it is unpriced."""
        spots = arrays["spot"].nonzero()[0].tolist()
        self.asset_prices = self._solve(arrays, spots, ACROSS)
        self.asset_worth = np.where(np.isnan(self.asset_prices), 0.0, self.asset_prices)
        venues: set[int] = set()
        if self.venue_priced:
            rows = [self._index[pair] for pair in self._index if pair[1] != ACROSS and pair[0] in set(spots)]
            venues = {self.rows["venue"].item(row) for row in rows if not np.isnan(self.rows["price"].item(row))}
        self._worth_at = {venue: self._solve(arrays, spots, venue) for venue in sorted(venues)}

    def _solve(self, arrays: dict[str, Any], spots: list[int], venue: int) -> F8:
        """Return the price of every asset by the spot marks of a venue, those across where it has none."""
        prices = np.full(len(self._directory.assets), np.nan)
        prices[0] = 1.0
        edges = []
        for number in spots:
            price = self.price_of(self._index.get((number, venue), self._across.item(number)))
            if price == price:  # noqa: PLR0124 (no NaN)
                edges.append((arrays["base"].item(number), arrays["quote"].item(number), price))
        for _ in range(2):  # direct, then through one intermediate asset
            known = prices.copy()
            for base, quote, price in edges:
                if np.isnan(prices[base]) and not np.isnan(known[quote]):
                    prices[base] = price * known[quote]
                if np.isnan(prices[quote]) and not np.isnan(known[base]):
                    prices[quote] = known[base] / price
        return prices

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays and plain values."""
        pairs = [[k, v] for k, v in self.settlements.items()]
        return {"rows": self.rows.snapshot(), "venue_priced": self.venue_priced, "settlements": pairs}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.rows.restore(state["rows"])
        pairs = zip(self.rows["instrument"].tolist(), self.rows["venue"].tolist(), strict=True)
        self._index = {pair: row for row, pair in enumerate(pairs)}
        self._of = [[] for _ in range(len(self._directory.instrument_records))]
        for row, instrument in enumerate(self.rows["instrument"].tolist()):
            self._of[instrument].append(row)
        self.venue_priced = state["venue_priced"]
        self.venue_accounts = bool((self.rows["venue"] != ACROSS).any())
        self.settlements = {int(k): float(v) for k, v in state["settlements"]}
        self._fresh, self._marked = False, None
