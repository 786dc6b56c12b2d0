"""Marks: the last price of every instrument, per venue and across venues, and what a unit is worth at it.

A *mark row* belongs to an instrument and either one venue or none; a position points at one mark row. A venue's row
without a price of its own uses the row across venues, where the latest mark of the best standing wins (contract.md,
"Prices"). An asset is priced by the mark of a spot instrument against the reporting currency, by its inverse, or
through one intermediate asset; with none of these it is unpriced and counts zero.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import Columns, float_array, int_array
from seawall.operators.core.holdings import Directory
from seawall.schemas.records import Marks as MarkColumns

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
SOURCE_RANKS = {"robust": 5, "mark": 4, "mid": 3, "index": 2, "last": 1}  # robust: across venues, from signals
ACROSS_VENUES = -1
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
    worth_there
        By venue that prices an asset on its own: the prices of all assets there.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.rows = Columns({"instrument": "i8", "venue": "i8", "price": "f8", "time_us": "i8", "standing": "i8"})
        self._index: dict[tuple[int, int], int] = {}
        self._of: list[list[int]] = []
        self._across: I8 = np.zeros(0, dtype=np.int64)
        self.settlements: dict[int, tuple[float, int]] = {}  # the last of each instrument, and its time
        self.asset_prices: F8 = np.zeros(0)
        self.asset_worth: F8 = np.zeros(0)
        self.unit: F8 = np.zeros(0)
        self.worth: F8 = np.zeros(0)
        self.at_par = False
        self.worth_there: dict[int, F8] = {}
        self.venue_priced = self.venue_accounts = False
        self._fresh = self._assets_fresh = False  # what units are worth, and what assets are, is that of the marks
        self._marked: set[int] | None = None  # instruments marked since somebody asked; None: maybe any

    def row(self, instrument: int, venue: int = ACROSS_VENUES) -> int:
        """Return the mark row of an instrument at a venue (or across venues), made without a price where new."""
        row = self._index.get((instrument, venue))
        if row is None:
            row = self.rows.append(1, instrument=instrument, venue=venue, price=np.nan)
            self._index[instrument, venue] = row
            while len(self._of) <= instrument:
                self._of.append([])
            self._of[instrument].append(row)
            self.venue_accounts = self.venue_accounts or venue != ACROSS_VENUES
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
            instruments = int_array(marks.instrument)
            if self._directory.arrays["spot"][instruments].any():
                self._assets_fresh = False
            self._apply_many(across[instruments], float_array(marks.price), int_array(marks.time_us))
            return
        if self._marked is not None:
            self._marked.update(marks.instrument)
        kinds = marks.kind or ["mark"] * len(marks.price)
        venues = marks.venue or [""] * len(marks.price)
        taken: list[tuple[int, float, int, int]] = []
        for instrument, price, time_us, kind, venue in zip(
            marks.instrument, marks.price, marks.time_us, kinds, venues, strict=True
        ):
            if kind == "settlement":
                if time_us >= self.settlements.get(instrument, (0.0, 0))[1]:
                    self.settlements[instrument] = price, time_us
                continue
            taken.append((self.row(instrument), price, time_us, SOURCE_RANKS[kind]))
            if venue:
                taken.append((self.row(instrument, self._directory.venue(venue)), price, time_us, SOURCE_RANKS[kind]))
                self.venue_priced = True
        self._apply_few(taken)
        marked = set(marks.instrument)
        spot = self._directory.arrays["spot"]
        if any(spot.item(instrument) for instrument in marked):  # it prices assets, so everything
            self._fresh = self._assets_fresh = False
        elif self._fresh:
            self._reprice(marked)

    def _apply_many(self, rows: I8, price: F8, time_us: I8) -> None:
        """Take plain marks; one that is late, or below a robust mark that stands, changes nothing."""
        sources, mark = self.rows["standing"][rows], SOURCE_RANKS["mark"]
        taken = (sources < mark) | ((sources == mark) & (time_us >= self.rows["time_us"][rows]))
        if not taken.all():
            rows, price, time_us = rows[taken], price[taken], time_us[taken]
        self.rows["price"][rows] = price
        self.rows["time_us"][rows] = time_us
        self.rows["standing"][rows] = SOURCE_RANKS["mark"]

    def _apply_few(self, marks: list[tuple[int, float, int, int]]) -> None:
        """Take marks one by one: row, price, time and standing of each."""
        prices, times, standings = (self.rows[name] for name in ("price", "time_us", "standing"))
        for row, price, time_us, standing in marks:
            sources = standings.item(row)
            if standing > sources or (standing == sources and time_us >= times.item(row)):
                prices[row], times[row], standings[row] = price, time_us, standing

    def refresh(self) -> None:
        """Forget derived prices: the directory changed."""
        self._fresh = self._assets_fresh = False

    def price(self) -> None:
        """Make ``unit``, ``worth`` and the asset prices those of the marks as they stand."""
        if self._fresh:
            return
        across, arrays = self.across(), self._directory.arrays
        instrument, price = self.rows["instrument"], self.rows["price"]
        price = np.where(np.isnan(price), price[across[instrument]], price)
        if not self._assets_fresh:
            self._price_assets(arrays)
        settlement = arrays["settlement"][instrument]
        worth = self.asset_prices[settlement]
        for venue, prices in self.worth_there.items():
            worth = np.where(self.rows["venue"] == venue, prices[settlement], worth)
        marked = ~np.isnan(price) & ~np.isnan(worth)
        size = arrays["size"][instrument]
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(arrays["inverse"][instrument], -size / price, size * price) * worth
        self.unit, self.worth = np.where(marked, value, 0.0), np.where(marked, worth, 0.0)
        self.at_par = bool((self.worth == 1.0).all())
        self._fresh = True

    def _reprice(self, instruments: set[int]) -> None:
        """Do what ``price`` does for the rows of instruments other than spot."""
        for instrument in instruments:
            self._reprice_one(instrument)
        if not self.at_par:
            self.at_par = bool((self.worth == 1.0).all())

    def _reprice_one(self, instrument: int) -> None:
        arrays = self._directory.arrays
        settlement = arrays["settlement"].item(instrument)
        size, prices = arrays["size"].item(instrument), self.rows["price"]
        across = prices.item(self._across.item(instrument))
        for row in self._of[instrument]:
            price = prices.item(row)
            price = across if price != price else price  # noqa: PLR0124
            worth = self.worth_there.get(self.rows["venue"].item(row), self.asset_prices).item(settlement)
            marked = price == price and worth == worth  # noqa: PLR0124 (no NaN, the quick way)
            value = -size / price if arrays["inverse"].item(instrument) else size * price
            self.unit[row] = value * worth if marked else 0.0
            self.worth[row] = worth if marked else 0.0
            self.at_par = self.at_par and worth == 1.0 and marked

    def worth_at(self, venue: I8, asset: I8) -> F8:
        """Return what balances are worth at the marks of their account's venue (-1: none), elementwise; 0 unpriced."""
        worth = self.asset_worth[asset]
        for number, prices in self.worth_there.items():
            own = prices[asset]
            worth = np.where((venue == number) & ~np.isnan(own), own, worth)
        return worth

    def _price_assets(self, arrays: dict[str, Any]) -> None:
        """Price every asset, across venues and at each venue that marks a spot instrument; NaN where it is unpriced."""
        self._assets_fresh = True
        spots = arrays["spot"].nonzero()[0].tolist()
        pairs = [(arrays["base"].item(number), arrays["quote"].item(number)) for number in spots]
        standing = self.rows["price"].tolist()
        across = [standing[self._across.item(number)] for number in spots]
        self.asset_prices = self._solve(pairs, across)
        self.asset_worth = np.where(np.isnan(self.asset_prices), 0.0, self.asset_prices)
        self.worth_there = {
            venue: self._solve(pairs, [own.get(number, price) for number, price in zip(spots, across, strict=True)])
            for venue, own in sorted(self._spot_prices(spots, standing).items())
        }

    def _spot_prices(self, spots: list[int], standing: list[float]) -> dict[int, dict[int, float]]:
        """Return the prices of spot instruments at each venue that has its own, by number; ``standing`` is by row."""
        found: dict[int, dict[int, float]] = {}
        for number in spots if self.venue_priced else ():
            for row in self._of[number]:
                price, venue = standing[row], self.rows["venue"].item(row)
                if venue != ACROSS_VENUES and price == price:  # noqa: PLR0124 (no NaN)
                    found.setdefault(venue, {})[number] = price
        return found

    def _solve(self, pairs: list[tuple[int, int]], spot: list[float]) -> F8:
        """Return the price of every asset by the prices of spot instruments, each a pair of base and quote asset."""
        prices = {0: 1.0}
        edges = [(*pair, price) for pair, price in zip(pairs, spot, strict=True) if price == price]  # noqa: PLR0124
        for _ in range(2):  # direct, then through one intermediate asset
            known = prices.copy()
            for base, quote, price in edges:
                if base not in prices and quote in known:
                    prices[base] = price * known[quote]
                if quote not in prices and base in known:
                    prices[quote] = known[base] / price
        found = np.full(len(self._directory.assets), np.nan)
        found[list(prices)] = list(prices.values())
        return found

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays and plain values."""
        settled = [[number, *last] for number, last in self.settlements.items()]
        return {"rows": self.rows.snapshot(), "venue_priced": self.venue_priced, "settlements": settled}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.rows.restore(state["rows"])
        pairs = zip(self.rows["instrument"].tolist(), self.rows["venue"].tolist(), strict=True)
        self._index = {pair: row for row, pair in enumerate(pairs)}
        self._of = [[] for _ in range(len(self._directory.instrument_records))]
        for row, instrument in enumerate(self.rows["instrument"].tolist()):
            self._of[instrument].append(row)
        self.venue_priced = state["venue_priced"]
        self.venue_accounts = bool((self.rows["venue"] != ACROSS_VENUES).any())
        self.settlements = {number: (float(price), time_us) for number, price, time_us in state["settlements"]}
        self._fresh, self._assets_fresh, self._marked = False, False, None
