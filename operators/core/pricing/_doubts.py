"""Doubts: what is held at prices that are not known, old, not confirmed or only promised (contract.md, "Prices").

Every such price is an interval, and measures are taken at its worse end. Beside it stands what they would be at the
better end: what holds there too is certain. Nothing is computed where no such price is held.
"""

from typing import Any

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
        rows, at = self._marks.rows, self._standing(at)
        since = rows["time_us"][at]
        unknown = np.isnan(rows["price"][at]) | (since < as_of_us - self.end_us)
        old = since < as_of_us - self._age_us
        for left, age_us in ((~old, self._age_us), (~unknown, self.end_us)):
            self.due_us = min(self.due_us, int(since[left & ~unknown].min(initial=NEVER_US)) + age_us)
        state: I8 = np.where(unknown, UNKNOWN, np.where(old, STALE, FRESH))
        return state

    def _standing(self, at: I8) -> I8:
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

    def apply(
        self, account: F8, values: AccountValues, across: tuple[F8, F8, F8], as_of_us: int
    ) -> tuple[F8, F8]:
        """Take measures of accounts to the worse end; return what P&L is at it from our side, and what is exposed.

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
        low, high = self._positions_at(account, values, across, as_of_us)
        for asset in self.states[1].nonzero()[0].tolist():
            moved = self._asset_at(asset, account, values, count)
            low, high = low + moved[0], high + moved[1]
        account[[0, 3]] += low
        sign, unrealised = self._directory.arrays["sign"], across[2] + self._shift
        return unrealised + np.where(sign > 0, low, high), unrealised + np.where(sign > 0, high, low)

    def _positions_at(
        self, account: F8, values: AccountValues, across: tuple[F8, F8, F8], as_of_us: int
    ) -> tuple[F8, F8]:
        """Take positions at prices in doubt to the worse end; return what equity moves, at the worse end and beyond."""
        arrays, rows, marks, count = self._directory.arrays, self._positions.rows, self._marks, account.shape[1]
        settled = arrays["settlement"][rows["instrument"]]
        at = ((rows["units"] != 0) & ((self.states[0][rows["mark"]] > 0) | (self.states[1][settled] > 0))).nonzero()[0]
        owner, number, mark, units = (rows[name][at] for name in ("account", "instrument", "mark", "size"))
        state, cost, asset = self.states[0][mark], rows["cost"][at], settled[at]
        worth, f = marks.worth_at(arrays["venue"][owner], asset), self._terms["unvalued_factor"]
        tested, better, bounded = self._ends(at, state, as_of_us)
        part = np.sort(units * tested - cost, axis=0) * worth
        best = np.maximum(part[1], (units * better - cost).max(axis=0) * worth)
        held, spent, notional = (column[at] for column in values.margined)
        base, option = held - spent, arrays["option"][number]
        most = worth * np.where(self.states[1][asset] == UNKNOWN, f, 1.0)
        size = np.where(option, notional, np.abs(units) * np.abs(tested).max(axis=0) * most)
        rate = np.stack([np.ones(len(at)), *(arrays[f"class_{n}"][arrays["class"][number]] for n in ("initial", "maintenance"))])
        for row, more in zip((1, 4, 5), rate * (size - notional), strict=True):
            account[row] += sum_by(owner, more, count)
        account[2] += sum_by(owner, np.where(option, 0.0, np.sign(units) * (size - notional)), count)
        wide, there = values.robust[3][at], values.robust[1][at] - values.robust[2][at]
        if across[0].base is not account:
            across[0][:] += sum_by(owner, size - wide, count)
        across[1][:] += sum_by(owner, np.where(option, 0.0, np.sign(units) * (size - wide)), count)
        self._shift = sum_by(owner, base - there, count)
        self._better[0] += sum_by(owner, best - part[0], count)
        for row, less in enumerate(rate * size, 1):
            self._better[row] += sum_by(owner, less, count)
        unknown = state == UNKNOWN
        self._width += sum_by(owner, np.where(unknown, part[1] - part[0], 0.0), count)
        self._unbounded[owner[(unknown & ~bounded) | np.isnan(marks.asset_prices[asset])]] = True
        for one in np.unique(number[unknown]).tolist():
            name = self._directory.instrument_records[one].instrument
            self._factors.append(("instrument", name, np.unique(owner[unknown & (number == one)])))
        self._patch(at, values, units, size, part, worth * cost, option)
        upfront = np.where(arrays["upfront"][number], worth * cost - spent, 0.0)
        account[0] += sum_by(owner, upfront, count)
        return sum_by(owner, part[0] - base, count), sum_by(owner, part[1] - base, count)

    def _patch(
        self, at: I8, values: AccountValues, units: F8, size: F8, part: F8, spent: F8, option: NDArray[np.bool_]
    ) -> None:
        """Let wider scopes add the ends that are worse for us: notionals of positions, worths and entry costs."""
        signs, values.by_class = self._directory.arrays["sign"][self._positions.rows["account"][at]], None
        signed, *robust = (column.copy() for column in values.robust)
        margined = [column.copy() for column in values.margined] if self._marks.venue_priced else robust
        worse = np.where(signs > 0, part[0], part[1])
        for held, cost, notional in (robust, margined):
            held[at], cost[at], notional[at] = worse + spent, spent, size
        signed[at] = np.where(option, signed[at], np.sign(units) * size)
        values.robust = signed, robust[0], robust[1], robust[2]
        values.margined = margined[0], margined[1], margined[2]

    def _ends(self, at: I8, state: I8, as_of_us: int) -> tuple[F8, F8, NDArray[np.bool_]]:
        """Return what a unit of each position is worth in its settlement asset: the two ends that are tested, those
        that are possible, and whether anything bounds it.

        Last known is the last price, else what the position was opened at.
        """
        rows, marks, arrays = self._positions.rows, self._marks, self._directory.arrays
        number, mark, f = rows["instrument"][at], rows["mark"][at], self._terms["unvalued_factor"]
        inverse, size, standing = arrays["inverse"][number], arrays["size"][number], self._standing(rows["mark"][at])
        price = marks.rows["price"][standing]
        with np.errstate(invalid="ignore", divide="ignore"):
            value = np.where(inverse, -size / price, size * price)
            modelled = marks.unit[mark] / marks.worth[mark]
        value = np.where(arrays["option"][number] & np.isfinite(modelled), modelled, value)
        value = np.where(np.isnan(value), rows["cost"][at] / rows["size"][at], value)
        other = value.copy()
        for place in ((state == STALE) & ~arrays["option"][number]).nonzero()[0].tolist():
            new = marks.unconfirmed(standing.item(place), as_of_us)
            ratio = new / price.item(place)
            other[place] *= 1.0 / ratio if inverse.item(place) else ratio
        unknown, doubted = state == UNKNOWN, state >= STALE
        least, most = np.where(inverse, value / f, 0.0), np.where(inverse, value / f, value * f)
        tested = np.stack([np.where(unknown, least, value), np.where(unknown, most, other)])
        better = np.stack([np.where(doubted, np.where(inverse, value * f, 0.0), value), np.where(doubted, most, value)])
        return tested, better, (value != 0) & ~inverse

    def _asset_at(self, asset: int, account: F8, values: AccountValues, count: int) -> tuple[F8, F8]:
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
        low = high = np.zeros(count)
        if state == PEGGED:
            low = -self._terms["peg_haircut"] * longs
        elif state == UNKNOWN:
            low, high = f * shorts - longs, f * longs - shorts
            self._width += high - low
            self._factors.append(("asset", list(self._directory.assets)[asset], worth.nonzero()[0]))
        self._better[0] += f * longs - shorts - low
        return low, high

    # --- what of it counts ------------------------------------------------------------------------------------------

    def conclude(self, account: F8, holding: NDArray[np.bool_]) -> None:
        """Find, once the table of accounts is complete, what holds at the better end too and who is unvalued."""
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
                note = notes.setdefault(names[one], {"state": "unvalued", "missing": [], "mend": mend})
                note["missing"].append(name)
        arrays, sets = self._directory.arrays, len(self._directory.netting_sets)
        of = {"netting_set": (arrays["netting_set"], sets), "counterparty": (arrays["counterparty"], len(self._directory.counterparties))}
        sums = {kind: sum_by(places, amounts, size) for kind, (places, size) in of.items()}
        total = float(amounts.cumsum()[-1]) if len(amounts) else 0.0
        self.found = Doubt(better, {"account": amounts, **sums}, total, unvalued, spared, notes, feeds)

    def _mend(self, kind: str, name: str) -> str:
        """Return what would give a factor a price."""
        if kind == "instrument":
            return f"add a mark of {name}"
        pair = f"{name}/{self._directory.currency}"
        return f"declare a peg, or add a spot instrument {pair} and its mark"
