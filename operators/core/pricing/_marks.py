"""Marks: the price of every instrument, per venue and across venues, and what a unit is worth at it.

A *mark row* belongs to an instrument and either one venue or none; a position points at one mark row. A venue's row
without a `mark` or `index` of its own uses the row across venues. Of every row the latest mark of each rung is kept
(`RUNGS`; a venue's own two come first on its ladder, and those below are of all venues), and
one of them stands: the highest that is no older than ``mark_max_age_s``. A mid or last price below a rung that is known
stands only once it is confirmed, by a second source or by the time for which it holds its level; until then the older
price of the higher rung does. Where nothing is fresh the newest stands (contract.md, "Prices").
An asset is priced by the marks of spot instruments on
the shortest path to the reporting currency, each way round; what has never had a market stands at its peg; with neither
it is unpriced and counts zero.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import Columns, float_array, int_array
from seawall.operators.core.holdings import Directory
from seawall.schemas.records import Marks as MarkColumns

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
RUNGS = ("robust", "mark", "index", "mid", "last")  # best first; robust: across venues, from signals
RUNG = {name: number for number, name in enumerate(RUNGS)}
MARK, MID = RUNG["mark"], RUNG["mid"]
VENUE_LADDER = (MARK, RUNG["index"], RUNG["robust"], MID, RUNG["last"])  # the first two of the venue itself
OWN, SHARED = VENUE_LADDER[:2], VENUE_LADDER[2:]
UNKNOWN = len(RUNGS)  # the rung of a row without a price
NEVER_US = 1 << 62
ACROSS_VENUES = -1
VECTOR_MIN = 8


@dataclass(slots=True)
class Peg:
    """Memory of an asset that promises to equal another and has had a market.

    Attributes
    ----------
    broken
        The market has been more than ``peg_tolerance`` below for ``confirm_s``, and not been back for ``peg_return_s``.
    since_us
        Since when the market says the opposite of that, by the times of its marks; 0: it does not.
    marked_us
        The time of its last mark.
    """

    broken: bool = False
    since_us: int = 0
    marked_us: int = 0


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
    market
        By asset that is on a path: its price by its market alone, and the instrument that it is next to.
    depegged
        Assets whose peg is broken.
    set_back
        How often a row came to stand at an older mark than before.
    due_us
        Before that time alone changes no price that stands.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        kinds = {"instrument": "i8", "venue": "i8", "price": "f8", "time_us": "i8", "standing": "i8"}
        # Derived: whether marks of several rungs are known, and until when the rung that stands is fresh.
        self.rows = Columns(kinds | {"mixed": "b1", "due_us": "i8"})
        # By rung, with as many rows: the latest mark, who gave it, since when it holds its level, and the latest that
        # named no venue before the last one that did.
        kinds = {"price": "f8", "time_us": "i8", "source": "i8", "level": "f8", "since_us": "i8"}
        kinds |= {"bare": "f8", "bare_us": "i8"}
        self._rungs = [Columns(kinds) for _ in RUNGS]
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
        self.market: dict[int, tuple[float, int]] = {}
        self.venue_priced = self.venue_accounts = False
        self._fresh = self._assets_fresh = False  # what units are worth, and what assets are, is that of the marks
        self._pegs: dict[int, Peg] = {}  # by number of an asset
        self.depegged: set[int] = set()
        self._max_age_us, self._confirm_us, self._confirm_tolerance = NEVER_US, 0, 0.0
        self._peg_tolerance, self._peg_return_us = 0.0, 0
        self.due_us, self.set_back = NEVER_US, 0
        self._marked: set[int] | None = None  # instruments marked since somebody asked; None: maybe any

    def configure(
        self,
        max_age_us: int,
        confirm_us: int,
        confirm_tolerance: float,
        peg_tolerance: float = 0.0,
        peg_return_us: int = 0,
    ) -> None:
        """Take when a price is too old, when a ``mid`` or ``last`` is confirmed, and when a peg is broken and back.

        Every ladder is looked at again.
        """
        self._max_age_us, self._confirm_us, self._confirm_tolerance = max_age_us, confirm_us, confirm_tolerance
        self._peg_tolerance, self._peg_return_us = peg_tolerance, peg_return_us
        self.rows["due_us"][self.rows["mixed"]] = self.due_us = 0

    def row(self, instrument: int, venue: int = ACROSS_VENUES) -> int:
        """Return the mark row of an instrument at a venue (or across venues), made without a price where new."""
        row = self._index.get((instrument, venue))
        if row is None:
            row = self.rows.append(
                1, instrument=instrument, venue=venue, price=np.nan, standing=UNKNOWN, due_us=NEVER_US
            )
            for rung in self._rungs:
                rung.append(1, price=np.nan)
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

    def apply(self, marks: MarkColumns, as_of_us: int) -> None:
        """Take the marks of a slice, at most one per (instrument, kind, venue); ages are those at ``as_of``."""
        across = self.across()
        if not marks.kind and not marks.venue and len(marks.price) >= VECTOR_MIN:
            self._fresh, self._marked = False, None
            instruments = int_array(marks.instrument)
            if self._directory.arrays["spot"][instruments].any():
                self._assets_fresh = False
            self._apply_many(across[instruments], float_array(marks.price), int_array(marks.time_us), as_of_us)
            return
        if self._marked is not None:
            self._marked.update(marks.instrument)
        kinds = marks.kind or ["mark"] * len(marks.price)
        venues = marks.venue or [""] * len(marks.price)
        taken: list[tuple[int, float, int, int, int]] = []
        for instrument, price, time_us, kind, venue in zip(
            marks.instrument, marks.price, marks.time_us, kinds, venues, strict=True
        ):
            if kind == "settlement":
                if time_us >= self.settlements.get(instrument, (0.0, 0))[1]:
                    self.settlements[instrument] = price, time_us
                continue
            source = self._directory.venue(venue) if venue else ACROSS_VENUES
            taken.append((self.row(instrument), price, time_us, RUNG[kind], source))
            if venue:
                taken.append((self.row(instrument, source), price, time_us, RUNG[kind], source))
                self.venue_priced = True
        self._apply_few(taken, as_of_us)
        marked = set(marks.instrument)
        spot = self._directory.arrays["spot"]
        if any(spot.item(instrument) for instrument in marked):  # it prices assets, so everything
            self._fresh = self._assets_fresh = False
        elif self._fresh:
            self._reprice(marked)

    def _apply_many(self, rows: I8, price: F8, time_us: I8, as_of_us: int) -> None:
        """Take plain marks; one that is late changes nothing."""
        rung, known = self._rungs[MARK], self.rows
        taken = time_us >= rung["time_us"][rows]
        if not taken.all():
            rows, price, time_us = rows[taken], price[taken], time_us[taken]
        rung["price"][rows], rung["time_us"][rows], rung["source"][rows] = price, time_us, ACROSS_VENUES
        standing = known["standing"][rows]
        mixed = known["mixed"][rows] | ((standing != MARK) & (standing != UNKNOWN))
        if mixed.any():
            known["mixed"][rows] = mixed
            old = time_us < as_of_us - self._max_age_us
            chosen = mixed & (old | (self._rungs[0]["time_us"][rows] > 0))
            for row in rows[chosen].tolist():
                self._choose(row, as_of_us)
            until_us = time_us[mixed & ~chosen] + self._max_age_us
            known["due_us"][rows[mixed & ~chosen]] = until_us
            self.due_us = min(self.due_us, until_us.min(initial=NEVER_US).item())
            rows, price, time_us = rows[~chosen], price[~chosen], time_us[~chosen]
        self.set_back += int((time_us < known["time_us"][rows]).any())  # what stood was newer, and of a lower rung
        known["price"][rows], known["time_us"][rows], known["standing"][rows] = price, time_us, MARK

    def _apply_few(self, marks: list[tuple[int, float, int, int, int]], as_of_us: int) -> None:
        """Take marks one by one: row, price, time, rung and source of each."""
        for row, price, time_us, number, source in marks:
            rung, is_own = self._rungs[number], self.rows["venue"].item(row) == ACROSS_VENUES or number in OWN
            if time_us < rung["time_us"].item(row):
                if source == ACROSS_VENUES and time_us >= rung["bare_us"].item(row):
                    rung["bare"][row], rung["bare_us"][row] = price, time_us
                continue
            if number >= MID:
                level, silent_us = rung["level"].item(row), time_us - rung["time_us"].item(row)
                if not (level and silent_us <= self._max_age_us and self._is_near(price, level)):
                    rung["level"][row], rung["since_us"][row] = price, time_us
            if source != ACROSS_VENUES == rung["source"].item(row):
                rung["bare"][row], rung["bare_us"][row] = rung["price"][row], rung["time_us"][row]
            rung["price"][row], rung["time_us"][row], rung["source"][row] = price, time_us, source
            if is_own and self.rows["standing"].item(row) in (number, UNKNOWN) and not self.rows["mixed"].item(row):
                self._stand(row, number)
            elif is_own:
                self.rows["mixed"][row] = True
        self._choose_of(dict.fromkeys(self.rows["instrument"].item(row) for row, *_ in marks), as_of_us)

    def _choose_of(self, instruments: Iterable[int], as_of_us: int) -> None:
        """Let marks that came confirm those of other venues, and give way to others on the ladders of venues."""
        mixed, standing, times = self.rows["mixed"], self.rows["standing"], [rung["time_us"] for rung in self._rungs]
        for instrument in instruments:
            rows, across = self._of[instrument], self._index[instrument, ACROSS_VENUES]
            if len(rows) > 1 and times[0].item(across) + times[MID].item(across) + times[-1].item(across):
                for row in rows:
                    mixed[row] |= row != across and standing.item(row) != UNKNOWN
            for row in rows:
                if mixed.item(row):
                    self._choose(row, as_of_us)

    def _stand(self, row: int, number: int) -> None:
        """Let the latest mark of a rung stand for a row."""
        rung, rows, at = self._rungs[number], self.rows, self._row_of(row, number)
        self.set_back += rung["time_us"].item(at) < rows["time_us"].item(row)
        rows["price"][row], rows["time_us"][row] = rung["price"][at], rung["time_us"][at]
        rows["standing"][row] = number

    def _row_of(self, row: int, number: int) -> int:
        """Return the row whose marks stand on a rung of a row's ladder."""
        return self._index[self.rows["instrument"].item(row), ACROSS_VENUES] if number in SHARED else row

    def _choose(self, row: int, as_of_us: int) -> None:
        """Let the highest rung of a row stand that is fresh, or the newest where none is.

        A ``mid`` or ``last`` below a rung that was ever known takes part once it is confirmed.
        """
        times = [rung["time_us"].item(self._row_of(row, number)) for number, rung in enumerate(self._rungs)]
        ladder = range(UNKNOWN) if self.rows["venue"].item(row) == ACROSS_VENUES else VENUE_LADDER
        higher = [number for number in ladder if number < MID and times[number]]
        lower = [number for number in ladder if number >= MID and times[number]]
        allowed = higher + [
            number for number in lower if not higher or self._is_confirmed(self._row_of(row, MID), number)
        ]
        fresh = [number for number in allowed if times[number] >= as_of_us - self._max_age_us] if higher else []
        best = fresh[0] if fresh else max(allowed, key=times.__getitem__)
        self._stand(row, best)
        self.rows["due_us"][row] = until_us = times[best] + self._max_age_us if fresh else NEVER_US
        self.due_us = min(self.due_us, until_us)

    def _is_confirmed(self, row: int, number: int) -> bool:
        """Tell whether the mark of a rung holds its level long enough, or a second source was close to it in its time.

        Sources are venues, and whoever names none; the row is that across venues.
        """
        rung, rows = self._rungs[number], self.rows
        price, time_us, source = (rung[name].item(row) for name in ("price", "time_us", "source"))
        if time_us - rung["since_us"].item(row) >= self._confirm_us:
            return True
        for other in self._of[rows["instrument"].item(row)]:
            if other != row and rows["venue"].item(other) in (source, ACROSS_VENUES):
                continue
            for one in self._rungs:
                latest = (one["source"].item(other), one["time_us"].item(other), one["price"].item(other))
                bare = (ACROSS_VENUES, one["bare_us"].item(other), one["bare"].item(other))
                for who, when_us, near in (latest,) if latest[0] == ACROSS_VENUES else (latest, bare):
                    in_time = when_us > 0 and when_us >= time_us - self._max_age_us
                    if who != source and in_time and self._is_near(near, price):
                        return True
        return False

    def _is_near(self, price: float, other: float) -> bool:
        return abs(price / other - 1.0) <= self._confirm_tolerance

    def replace_old(self, as_of_us: int) -> bool:
        """Let fresh prices take the place of those that are too old by now; tell whether any did."""
        rows, before = self.rows, self.rows["standing"].copy()
        for row in (rows["due_us"] < as_of_us).nonzero()[0].tolist():
            self._choose(row, as_of_us)
        self.due_us = rows["due_us"].min(initial=NEVER_US).item()
        changed = (rows["standing"] != before).nonzero()[0]
        if len(changed):
            self._fresh, self._marked = False, None
            if self._directory.arrays["spot"][rows["instrument"][changed]].any():
                self._assets_fresh = False
        return len(changed) > 0

    def unconfirmed(self, row: int, as_of_us: int) -> float:
        """Return the fresh ``mid`` or ``last`` that an old price of a row stands against, else what stands itself."""
        for number in (MID, RUNG["last"]):
            rung, at = self._rungs[number], self._row_of(row, number)
            if rung["time_us"].item(at) >= as_of_us - self._max_age_us and rung["time_us"].item(at):
                return float(rung["price"][at])
        return float(self.rows["price"][row])

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
        self.price_assets()
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

    def price_assets(self) -> None:
        """Price every asset, across venues and at each venue that marks a spot instrument; NaN where it is unpriced.

        Assets with a peg are to be priced in every slice that marks one: what is remembered of a peg is state.
        """
        if self._assets_fresh:
            return
        self._assets_fresh, of, arrays = True, self.across(), self._directory.arrays
        spots = arrays["spot"].nonzero()[0].tolist()
        pairs = [(number, arrays["base"].item(number), arrays["quote"].item(number)) for number in spots]
        standing = self.rows["price"].tolist()
        across = [standing[of.item(number)] for number in spots]
        self.market = market = dict[int, tuple[float, int]]()
        self.asset_prices = self._solve(pairs, across, market)
        if self._directory.pegs and self._remember_pegs(market):
            self.asset_prices = self._solve(pairs, across, market)
        self.asset_worth = np.where(np.isnan(self.asset_prices), 0.0, self.asset_prices)
        self.worth_there = {
            venue: self._solve(pairs, [own.get(number, price) for number, price in zip(spots, across, strict=True)], {})
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

    def _remember_pegs(self, market: dict[int, tuple[float, int]]) -> bool:
        """Learn from the markets of assets whether their pegs hold; tell whether any came back."""
        times, of, back = self.rows["time_us"], self._across, False
        marked_us = {asset: times.item(of.item(number)) for asset, (_, number) in market.items()}
        for asset, promise in self._directory.pegs.items():
            promised = self.asset_prices.item(promise)
            if asset not in market or promised != promised:  # noqa: PLR0124 (NaN)
                continue
            peg, at_us = self._pegs.setdefault(asset, Peg()), marked_us[asset]
            below = market[asset][0] < promised * (1.0 - self._peg_tolerance)
            if below == peg.broken:
                peg.since_us = 0
            else:
                if not peg.since_us or at_us - peg.marked_us > self._max_age_us:
                    peg.since_us = max(at_us, marked_us.get(promise, 0))
                if at_us - peg.since_us >= (self._peg_return_us if peg.broken else self._confirm_us):
                    peg.broken, peg.since_us, back = below, 0, back or not below
                    self.depegged ^= {asset}
            peg.marked_us = at_us
        return back

    def lift_peg(self, asset: int, time_us: int) -> None:
        """Let an asset's peg count again from a time: people gave it a new record."""
        if asset in self._pegs:
            self._pegs[asset].broken, self._pegs[asset].since_us = False, max(time_us, 0)
            self.depegged.discard(asset)

    def _solve(self, pairs: list[tuple[int, int, int]], spot: list[float], market: dict[int, tuple[float, int]]) -> F8:
        """Return the price of every asset by the prices of spot instruments, each with its base and quote asset.

        The shortest path to the reporting currency counts. A peg that is not broken is a cap for what has a market, and
        the price of what has never had one; it never raises a price (contract.md, "Prices"). ``market`` takes the price
        of each asset by its market alone, and the instrument that it is next to.
        """
        prices = {0: 1.0}
        pegs = {asset: peg for asset, peg in self._directory.pegs.items() if asset not in self.depegged}
        edges = [(*pair, price) for pair, price in zip(pairs, spot, strict=True) if price == price]  # noqa: PLR0124
        while True:
            step = self._step(edges, prices)
            market |= step
            found = {asset: price for asset, (price, _) in step.items()}
            if not found:  # no market leads further: what has a peg alone stands at it, and may lead on
                alone = {asset: peg for asset, peg in pegs.items() if asset not in prices and asset not in self._pegs}
                found = {asset: prices[peg] for asset, peg in alone.items() if peg in prices}
            if not found:
                break
            prices |= found
            while over := {a: prices[peg] for a, peg in pegs.items() if prices.get(a, 0.0) > prices.get(peg, np.inf)}:
                prices |= over
        solved = np.full(len(self._directory.assets), np.nan)
        solved[list(prices)] = list(prices.values())
        return solved

    def _step(self, edges: list[tuple[int, int, int, float]], known: dict[int, float]) -> dict[int, tuple[float, int]]:
        """Return the prices of assets that are one conversion further than those that are known, and by what."""
        found: dict[int, tuple[float, int]] = {}
        for number, base, quote, price in edges:
            if base not in known and base not in found and quote in known:
                found[base] = price * known[quote], number
            if quote not in known and quote not in found and base in known:
                found[quote] = known[base] / price, number
        return found

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays and plain values."""
        settled = [[number, *last] for number, last in self.settlements.items()]
        rungs = [rung.snapshot() for rung in self._rungs]
        known = {"venue_priced": self.venue_priced, "settlements": settled, "rungs": rungs}
        known["pegs"] = [[asset, *astuple(peg)] for asset, peg in self._pegs.items()]
        return {"rows": self.rows.snapshot(without=("mixed", "due_us")), **known}

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
        self._pegs = {asset: Peg(*memory) for asset, *memory in state["pegs"]}
        self.depegged = {asset for asset, peg in self._pegs.items() if peg.broken}
        for rung, kept in zip(self._rungs, state["rungs"], strict=True):
            rung.restore(kept)
        known = np.stack([rung["time_us"] > 0 for rung in self._rungs])
        for row in (self.rows["venue"] != ACROSS_VENUES).nonzero()[0].tolist():
            has_own = self.rows["standing"].item(row) != UNKNOWN
            known[list(SHARED), row] = has_own and known[list(SHARED), self._row_of(row, MID)]
        mixed = known.sum(axis=0) > 1
        self.rows["mixed"][:], self.rows["due_us"][:], self.due_us = mixed, np.where(mixed, 0, NEVER_US), 0
        self._fresh, self._assets_fresh, self._marked = False, False, None
