"""Doubts: intervals of prices that are not known, old, not confirmed or only promised (contract.md, "Prices").

Every such price is an interval, and measures are taken at its worse end. Beside it stands what they would be at the
better end: what holds there too is certain. Nothing is computed where no such price is held.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import Doubt, sum_by
from seawall.operators.core.holdings import Balances, Directory, Positions
from seawall.operators.core.pricing._liquidation_distance import AccountValues, fill_margin_ratios
from seawall.operators.core.pricing._marks import NEVER_US, Marks
from seawall.operators.core.pricing._option_sheet import OptionSheet

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
FRESH, PEGGED, STALE, UNKNOWN = range(4)
FEED_ACCOUNTS_MIN = 5  # accounts that one factor leaves unvalued, from which it is the feed that is out
BETTER = 8  # measures of accounts that have a better end of their own: those up to the leverage


class PositionEnds(NamedTuple):
    """Positions at the ends of their prices, in the reporting currency.

    ``part`` is gain at both ends that are tested, in order, ``best`` the largest that is possible, ``size`` the largest
    notional, ``spent`` the entry cost, and ``bounded`` says whether anything bounds a price that is not known.
    """

    part: F8
    best: F8
    size: F8
    spent: F8
    bounded: NDArray[np.bool_]


class Doubts:
    """The prices of a shard that are in doubt, and what they do to measures; holdings and marks are the ledger's.

    Attributes
    ----------
    due_us
        Until when no price that is held comes into another state by time alone; -1 where that is not known.
    found
        What is in doubt of the measures that were computed last, None for nothing.
    """

    def __init__(
        self, directory: Directory, marks: Marks, positions: Positions, balances: Balances, sheet: OptionSheet
    ) -> None:
        self._directory, self._marks, self._sheet = directory, marks, sheet
        self._positions, self._balances = positions, balances
        self.due_us = -1
        self.found: Doubt | None = None
        self.states: tuple[I8, I8] = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))  # of rows, of assets
        self._terms: dict[str, float] = {}
        self._age_us = self.end_us = NEVER_US  # when a price is old, and when it is not known any more

    def configure(self, terms: dict[str, Any], age_us: int) -> None:
        """Take what intervals reach to, when an account is unvalued, and when a price is not known any more."""
        self._terms, self._age_us, self.due_us = terms, age_us, -1
        self.end_us = int(terms["price_max_age_s"] * 1_000_000) or NEVER_US

    # --- states of prices -------------------------------------------------------------------------------------------

    def look(self, at_mark: I8, as_of_us: int) -> bool:
        """Find the states of all prices that are held, by mark row and by asset; tell whether any is in doubt."""
        rows, directory = self._marks.rows, self._directory
        held = at_mark[: rows.size].nonzero()[0]
        numbers, self.due_us = rows["instrument"][held], NEVER_US
        found = np.zeros(rows.size, dtype=np.int64)
        if self._marks.venue_priced:
            held = np.unique(np.concatenate([held, self._marks.across()[numbers]]))
        found[held] = self._of_rows(held, as_of_us)
        if directory.has_option:
            self._of_options(found, held, as_of_us)
        assets = np.zeros(len(directory.assets), dtype=np.int64)
        for asset in self._balances.assets.union(directory.arrays["settlement"][numbers].tolist()):
            assets[asset] = self._of_asset(asset, as_of_us)
        self.states = found, assets
        return bool(found.any() or assets.any())

    def _of_rows(self, at: I8, as_of_us: int) -> I8:
        """Return the states of mark rows by age; note when the next of them changes."""
        rows, at = self._marks.rows, self._marked(at)
        since = rows["time_us"][at]
        unknown = np.isnan(rows["price"][at]) | (since < as_of_us - self.end_us)
        old = since < as_of_us - self._age_us
        for left, age_us in ((~old, self._age_us), (~unknown, self.end_us)):
            self.due_us = min(self.due_us, int(since[left & ~unknown].min(initial=NEVER_US)) + age_us)
        state: I8 = np.where(unknown, UNKNOWN, np.where(old, STALE, FRESH))
        return state

    def _marked(self, at: I8) -> I8:
        """Return mark rows, in the place of a venue's without a price the one across."""
        rows = self._marks.rows
        found: I8 = np.where(np.isnan(rows["price"][at]), self._marks.across()[rows["instrument"][at]], at)
        return found

    def _of_options(self, found: I8, held: I8, as_of_us: int) -> None:
        """Put in the states of options that are valued from their forward: those of its mark."""
        terms = self._sheet.terms
        option = terms.row[self._marks.rows["instrument"][held]]
        at, option = held[option >= 0], option[option >= 0]
        valued = np.isfinite(self._sheet.value[option]) & (terms.forward[option] >= 0)
        found[at[valued]] = self._of_rows(self._marks.across()[terms.forward[option[valued]]], as_of_us)

    def _of_asset(self, asset: int, as_of_us: int) -> int:
        """Return the state of an asset's price: the worst of those on its path."""
        marks, arrays = self._marks, self._directory.arrays
        if not asset:
            return FRESH
        if np.isnan(marks.asset_prices[asset]):
            return UNKNOWN
        if asset not in marks.market:
            return max(PEGGED, self._of_asset(self._directory.pegs[asset], as_of_us))
        number = marks.market[asset][1]
        base, quote = arrays["base"].item(number), arrays["quote"].item(number)
        own = self._of_rows(marks.across()[[number]], as_of_us).item()
        return max(own, self._of_asset(quote if base == asset else base, as_of_us))

    def pegged(self) -> list[str]:
        """Return the assets held that stand at their peg."""
        names = list(self._directory.assets)
        return [names[number] for number in (self.states[1] == PEGGED).nonzero()[0].tolist()]

    # --- intervals --------------------------------------------------------------------------------------------------

    def apply(self, account: F8, values: AccountValues, across: tuple[F8, F8, F8], as_of_us: int) -> tuple[F8, F8]:
        """Take measures of accounts to the worse end; return P&L at it from our side, and what is exposed.

        Parameters
        ----------
        account
            The table, equity and unrealised P&L filled in; margins are those of plain rates.
        across
            By account, at marks across venues: gross notional and net notional, which move too, and unrealised P&L.
        """
        count = account.shape[1]
        self._better = np.zeros((4, count))  # of equity, gross notional and margins: by how much it is better
        self._width, self._unbounded = np.zeros(count), np.zeros(count, dtype=bool)
        self._factors: list[tuple[str, str, I8]] = []
        self._ends_of = {asset: self._ends_of_asset(asset, as_of_us) for asset in self.states[1].nonzero()[0].tolist()}
        self._values = values
        low, high = self._positions_at(account, values, across, as_of_us)
        for asset, ends in self._ends_of.items():
            moved = self._asset_at(asset, ends, values, count)
            account[0] += moved[0]
            if self.states[1][asset] != STALE:  # an exposure in an asset of which two prices are known takes the older
                low, high = low + moved[0], high + moved[1]
        sign, unrealised = self._directory.arrays["sign"], across[2]
        return unrealised + np.where(sign > 0, low, high), unrealised + np.where(sign > 0, high, low)

    def _positions_at(
        self, account: F8, values: AccountValues, across: tuple[F8, F8, F8], as_of_us: int
    ) -> tuple[F8, F8]:
        """Take positions at prices in doubt to the worse end; return what P&L moves across venues, at both ends."""
        arrays, rows, marks, count = self._directory.arrays, self._positions.rows, self._marks, account.shape[1]
        wide = marks.across()[rows["instrument"]] if marks.venue_priced else rows["mark"]
        settled = arrays["settlement"][rows["instrument"]]
        doubted = (self.states[0][rows["mark"]] > 0) | (self.states[0][wide] > 0) | (self.states[1][settled] > 0)
        at = ((rows["units"] != 0) & doubted).nonzero()[0]
        owner, asset, number = rows["account"][at], settled[at], rows["instrument"][at]
        there = self._at_ends(at, rows["mark"][at], marks.worth_at(arrays["venue"][owner], asset), as_of_us)
        held, spent, notional = (column[at] for column in values.margined)
        moved = sum_by(owner, there.part[0] - held + spent, count)
        upfront = sum_by(owner, np.where(arrays["upfront"][number], there.spent - spent, 0.0), count)
        account[0] += moved + upfront  # a premium that was paid has left the balance
        account[3] += moved
        more, option = there.size - notional, arrays["option"][number]
        account[2] += sum_by(owner, np.where(option, 0.0, np.sign(rows["size"][at]) * more), count)
        rates = [arrays[name][arrays["class"][number]] for name in ("class_initial", "class_maintenance")]
        for place, (row, rate) in enumerate(zip((1, 4, 5), (np.ones(len(at)), *rates), strict=True), 1):
            account[row] += sum_by(owner, rate * more, count)
            self._better[place] += sum_by(owner, rate * there.size, count)
        self._better[0] += sum_by(owner, there.best - there.part[0], count)
        self._note_unknown(at, there)
        if not marks.venue_priced:
            across[1][:] += sum_by(owner, np.where(option, 0.0, np.sign(rows["size"][at]) * more), count)
            self._patch(at, values, there, there)
            return moved + upfront, sum_by(owner, there.part[1] - held + spent, count) + upfront
        wider = self._at_ends(at, wide[at], marks.asset_worth[asset], as_of_us)
        held, spent, notional = (column[at] for column in values.robust[1:])
        across[0][:] += sum_by(owner, wider.size - notional, count)
        across[1][:] += sum_by(owner, np.where(option, 0.0, np.sign(rows["size"][at]) * (wider.size - notional)), count)
        self._patch(at, values, there, wider)
        low, high = (sum_by(owner, part - held + spent, count) + upfront for part in wider.part)
        return low, high

    def _note_unknown(self, at: I8, there: "PositionEnds") -> None:
        """Note how wide accounts are because of positions that have no price, and which these are."""
        rows, count = self._positions.rows, len(self._width)
        owner, number, unknown = (
            rows["account"][at],
            rows["instrument"][at],
            self.states[0][rows["mark"][at]] == UNKNOWN,
        )
        self._width += sum_by(owner, np.where(unknown, there.part[1] - there.part[0], 0.0), count)
        unpriced = np.isnan(self._marks.asset_prices[self._directory.arrays["settlement"][number]])
        self._unbounded[owner[(unknown & ~there.bounded) | unpriced]] = True
        for one in np.unique(number[unknown]).tolist():
            name = self._directory.instrument_records[one].instrument
            self._factors.append(("instrument", name, np.unique(owner[unknown & (number == one)])))

    def _patch(self, at: I8, values: AccountValues, there: "PositionEnds", wider: "PositionEnds") -> None:
        """Let wider scopes add the worse ends: worths of positions, entry costs and notionals."""
        values.by_class = None
        signed, *robust = (column.copy() for column in values.robust)
        margined = [column.copy() for column in values.margined] if self._marks.venue_priced else robust
        for (held, cost, notional), ends in ((robust, wider), (margined, there)):
            held[at], cost[at], notional[at] = ends.part[0] + ends.spent, ends.spent, ends.size
        option = self._directory.arrays["option"][self._positions.rows["instrument"][at]]
        signed[at] = np.where(option, signed[at], np.sign(self._positions.rows["size"][at]) * wider.size)
        values.robust = signed, robust[0], robust[1], robust[2]
        values.margined = margined[0], margined[1], margined[2]

    def _at_ends(self, at: I8, mark: I8, worth: F8, as_of_us: int) -> "PositionEnds":
        """Return what positions gained at the ends of their prices at mark rows, settlement assets worth ``worth``.

        Last known is the last price, else what the position was opened at.
        """
        rows, marks, arrays = self._positions.rows, self._marks, self._directory.arrays
        number, units, cost, f = (
            rows["instrument"][at],
            rows["size"][at],
            rows["cost"][at],
            self._terms["unvalued_factor"],
        )
        inverse, size, marked = arrays["inverse"][number], arrays["size"][number], self._marked(mark)
        price, option, state = marks.rows["price"][marked], arrays["option"][number], self.states[0][mark]
        with np.errstate(invalid="ignore", divide="ignore"):
            value = np.where(inverse, -size / price, size * price)
            modelled = marks.unit[mark] / marks.worth[mark]
        value = np.where(option & np.isfinite(modelled), modelled, value)
        value = np.where(np.isnan(value), cost / units, value)
        other = value.copy()
        old = ((state == STALE) & ~option).nonzero()[0]
        of, member = np.unique(marked[old], return_inverse=True)  # a feed that is out may leave all positions old
        beside = np.array([marks.unconfirmed(row, as_of_us) for row in of.tolist()], dtype=np.float64)
        ratio = beside[member] / price[old]
        other[old] *= np.where(inverse[old], 1.0 / ratio, ratio)
        unknown, doubted = state == UNKNOWN, state >= STALE
        least, most = np.where(inverse, value / f, 0.0), np.where(inverse, value / f, value * f)
        tested = np.stack([np.where(unknown, least, value), np.where(unknown, most, other)])
        better = np.stack([np.where(doubted, np.where(inverse, value * f, 0.0), value), np.where(doubted, most, value)])
        part = np.sort(units * tested - cost, axis=0) * worth
        top = np.ones(len(self.states[1]))
        top[list(self._ends_of)] = [high for _, high in self._ends_of.values()]
        notional = np.abs(units) * np.abs(tested).max(axis=0) * worth * top[arrays["settlement"][number]]
        notional = np.where(option, self._values.margined[2][at], notional)
        best = np.maximum(part[1], (units * better - cost).max(axis=0) * worth)
        return PositionEnds(part, best, notional, worth * cost, (value != 0) & ~inverse)

    def _ends_of_asset(self, asset: int, as_of_us: int) -> tuple[float, float]:
        """Return the ends of an asset's price that are tested, as parts of the price that stands."""
        state, current = self.states[1].item(asset), self._marks.asset_prices.item(asset)
        if state == UNKNOWN:
            return 0.0, self._terms["unvalued_factor"]
        if state == PEGGED:
            return 1.0 - self._terms["peg_haircut"], 1.0
        low, high = self._prices_of_asset(asset, as_of_us)
        return low / current, high / current

    def _prices_of_asset(self, asset: int, as_of_us: int) -> tuple[float, float]:
        """Return an asset's price where old ones stand, and where prices that are not confirmed do, in order."""
        marks, arrays = self._marks, self._directory.arrays
        if asset not in marks.market:
            return marks.asset_prices.item(asset), marks.asset_prices.item(asset)
        number, peg = marks.market[asset][1], self._directory.pegs.get(asset, -1)
        row = marks.across().item(number)
        base, quote = arrays["base"].item(number), arrays["quote"].item(number)
        price = current = marks.rows["price"].item(row)
        if self._of_rows(np.array([row]), as_of_us).item() == STALE:
            price = marks.unconfirmed(row, as_of_us)
        ends = self._prices_of_asset(quote if base == asset else base, as_of_us)
        if base == asset:
            low, high = ends[0] * min(price, current), ends[1] * max(price, current)
        else:
            low, high = ends[0] / max(price, current), ends[1] / min(price, current)
        if peg < 0 or asset in marks.depegged:
            return low, high
        caps = self._prices_of_asset(peg, as_of_us)
        return min(low, caps[0]), min(high, caps[1])

    def _asset_at(self, asset: int, ends: tuple[float, float], values: AccountValues, count: int) -> tuple[F8, F8]:
        """Return what equity moves where all that is held and made in an asset is at the ends of its price."""
        balances, rows, state = self._balances.rows, self._positions.rows, self.states[1].item(asset)
        mine = balances["asset"] == asset
        owner = balances["account"][mine]
        if np.isnan(self._marks.asset_prices[asset]):  # nothing is known but that it is worth something
            self._unbounded[owner[balances["amount"][mine] < 0]] = True
            held = np.abs(sum_by(owner, balances["amount"][mine], count))
            settled = self._directory.arrays["settlement"][rows["instrument"]] == asset
            held += sum_by(rows["account"][settled], np.abs(rows["size"][settled]), count)
            self._factors.append(("asset", list(self._directory.assets)[asset], held.nonzero()[0]))
            return np.zeros(count), np.zeros(count)
        settled = (self._directory.arrays["settlement"][rows["instrument"]] == asset).nonzero()[0]
        made = values.margined[0][settled] - values.unpaid(values.margined[1])[settled]
        worth = sum_by(owner, values.lent_there[mine], count) + sum_by(rows["account"][settled], made, count)
        longs, shorts, f = np.maximum(worth, 0.0), np.minimum(worth, 0.0), self._terms["unvalued_factor"] - 1.0
        low = (ends[0] - 1.0) * longs + (ends[1] - 1.0) * shorts
        high = (ends[1] - 1.0) * longs + (ends[0] - 1.0) * shorts
        if state == UNKNOWN:
            self._width += high - low
            self._factors.append(("asset", list(self._directory.assets)[asset], worth.nonzero()[0]))
        self._better[0] += f * longs - shorts - low
        return low, high

    # --- what of it counts ------------------------------------------------------------------------------------------

    def conclude(self, account: F8, holding: NDArray[np.bool_]) -> Doubt:
        """Return, once the table of accounts is complete, what holds at the better end too and who is unvalued."""
        better = account[:BETTER].copy()
        better[0] += self._better[0]
        better[3] += self._better[0]
        better[[1, 4, 5]] = np.maximum(better[[1, 4, 5]] - self._better[1:], 0.0)
        fill_margin_ratios(better)
        amounts = self._better[0] + self._better[1]
        equity = np.abs(account[0] + self._width)
        room = np.maximum(self._terms["unvalued_floor"], self._terms["unvalued_tolerance"] * equity)
        unvalued = self._unbounded | (self._width > room)
        notes, feeds, spared = dict[str, dict[str, Any]](), list[str](), np.zeros(len(unvalued), dtype=bool)
        names = self._directory.own_names
        for kind, name, owners in self._factors:
            concerned = owners[unvalued[owners]]
            if len(concerned) >= max(FEED_ACCOUNTS_MIN, self._terms["unvalued_max_share"] * holding.sum()):
                feeds.append(f"{kind}:{name}")
                spared[concerned] = True
            mend = self._mend(kind, name)
            for one in concerned.tolist():
                note = notes.setdefault(names[one], {"state": "unvalued", "missing": [], "mend": ""})
                note["missing"].append(name)
                note["mend"] = f"{note['mend']}; {mend}" if note["mend"] else mend
        arrays, sets = self._directory.arrays, len(self._directory.netting_sets)
        of = {
            "netting_set": (arrays["netting_set"], sets),
            "counterparty": (arrays["counterparty"], len(self._directory.counterparties)),
        }
        sums = {kind: sum_by(places, amounts, size) for kind, (places, size) in of.items()}
        total = float(amounts.cumsum()[-1]) if len(amounts) else 0.0
        return Doubt(better, {"account": amounts, **sums}, total, unvalued, spared, notes, feeds)

    def _mend(self, kind: str, name: str) -> str:
        """Return what would give a factor a price."""
        if kind == "instrument":
            return f"add a mark of {name}"
        pair = f"{name}/{self._directory.currency}"
        return f"declare a peg, or add a spot instrument {pair} and its mark"
