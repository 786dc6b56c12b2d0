"""Firm sums: one shard's part of the scopes that span shards, its strategies among them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import ordered_sums, sum_by
from seawall.operators.core.holdings import Balances, Directory, Positions
from seawall.operators.core.pricing import AccountValues, Marks, OptionSheet
from seawall.schemas.measures import COUNTERPARTY, HOLDING, INSTRUMENT, UNDERLYING

# Strategies: what each holds and has made, by the fills that name it, from our side, whatever account they went
# through.
#
# A fill of an account of ours counts as it is, one of a client's turned, one of an agency account not at all. The book
# is that of `Positions`, with *shares* in the place of accounts: what one account holds for one strategy, at average
# cost, and in balances what was realised, spot trades and fees. Like everywhere, gross notional is that of accounts,
# added up.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]


class StrategyBook:
    """The strategies of one shard and their shares, numbered in order of their first fill.

    Attributes
    ----------
    names
        Strategies in order of their first fill.
    known
        Shares by strategy and own account.
    """

    def __init__(self, directory: Directory, marks: Marks, sheet: OptionSheet) -> None:
        self.names: list[str] = []
        self.known: dict[tuple[str, int], int] = {}
        self._numbers: dict[str, int] = {}
        self._directory, self._marks = directory, marks
        self.positions, self.balances = Positions(), Balances()
        self._values = AccountValues(directory, marks, self.positions, self.balances, sheet)

    def grow(self) -> None:
        """Make room for the instruments that the directory has just learned."""
        self.positions.classify(np.zeros(len(self._directory.instrument_records), dtype=np.int64), 1)

    def share(self, name: str, account: int) -> int:
        """Return the number of what an own account holds for a strategy; one that is first named gets the next."""
        if self._numbers.setdefault(name, len(self.names)) == len(self.names):
            self.names.append(name)
        return self.known.setdefault((name, account), len(self.known))

    def shares(self, names: list[str], accounts: I8) -> I8:
        """Return the share of each fill, -1 where it names no strategy."""
        pairs = zip(names, accounts.tolist(), strict=True)
        return np.array([self.share(name, account) if name else -1 for name, account in pairs], dtype=np.int64)

    def take(self, share: I8, stake: F8, instrument: I8, units: I8, values: F8) -> tuple[I8, F8, F8]:
        """Take fills of derivatives in order.

        Parameters
        ----------
        share, stake, instrument
            By fill; of :meth:`shares`; ``stake`` is 1, -1 or 0.
        units, values
            Signed units, and the value of one in the settlement asset.

        Returns
        -------
        tuple
            Which of the fills count, their stakes, and what each of these realised.
        """
        at = ((share >= 0) & (stake != 0)).nonzero()[0]
        number, sign = instrument[at], stake[at]
        marks = self._marks.across()[number]
        slots = self.positions.slots(share[at], number, marks)
        realised, _ = self.positions.fill_many(slots, (sign * units[at]).astype(np.int64), values[at])
        return at, sign, realised

    def settle(self, instrument: int, value: float, settlement: int) -> None:
        """Turn the positions in an expired instrument into cash at the value of a unit."""
        rows = self.positions.rows
        for slot in np.flatnonzero((rows["instrument"] == instrument) & (rows["units"] != 0)).tolist():
            upfront = self._directory.arrays["upfront"].item(instrument)
            moved = self.positions.fill(slot, -int(rows["units"][slot]), value, upfront)
            self.balances.add(int(rows["account"][slot]) << 20 | settlement, moved)

    def places(self) -> list[tuple[str, int, int]]:
        """Return strategy, account and instrument of everything that is held, each once, in order of row."""
        rows, owners = self.positions.rows, list(self.known)
        pairs = zip(*(rows[name][rows["units"] != 0].tolist() for name in ("account", "instrument")), strict=True)
        found = ((*owners[share], instrument) for share, instrument in pairs)
        return list(dict.fromkeys(found))

    def held(self) -> I8:
        """Return the instruments in which any strategy holds anything."""
        rows = self.positions.rows
        held: I8 = rows["instrument"][rows["units"] != 0]
        return held

    def sums(self) -> F8:
        """Return gross notional, net notional and P&L of every strategy at the marks across venues, shape (3, n)."""
        rows, paid, marks, count = self.positions.rows, self.balances.rows, self._marks, len(self.names)
        strategy = np.array([self._numbers[name] for name, _ in self.known], dtype=np.int64)
        owner, at = strategy[rows["account"]], rows["mark"]
        held = rows["size"] * marks.unit[at]
        notional = np.abs(held)
        signed, spent = self._values.signed(held, notional), rows["cost"] * marks.worth[at]
        worth = paid["amount"] * marks.asset_worth[paid["asset"]]
        made = sum_by(owner, held - self._values.unpaid(spent), count)
        made = made + sum_by(strategy[paid["account"]], worth, count)  # a sum of nothing is of integers
        coins = sum_by(strategy, self._values.coins(worth, held, spent, len(strategy)), count)
        return np.stack([sum_by(owner, notional, count), sum_by(owner, signed, count) + coins, made])

    def snapshot(self) -> list[Any]:
        """Return the state for :func:`snapshot.pack`."""
        shares = [[self._numbers[name], account] for name, account in self.known]
        return [list(self.names), shares, self.positions.snapshot(), self.balances.snapshot()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self.names = list(state[0])
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self.known = {(self.names[strategy], account): number for number, (strategy, account) in enumerate(state[1])}
        self.positions.restore(state[2])
        self.balances.restore(state[3])
        self.grow()


# Sums of a shard for the scopes that span shards, at the end of a second.
#
# Firm, groups, underlyings and venues always; instruments, assets, issuers and strategies where a limit names one of
# their kind. An asset is what all accounts hold of it; from our side, what a client has with us is owed and counts
# negative. An issuer stands for its assets, for those pegged to them, and for the contracts on any of these.

NO_ISSUER = -1


class FirmSums:
    """The sums of one shard; positions and their values are the ledger's."""

    def __init__(
        self,
        directory: Directory,
        marks: Marks,
        positions: Positions,
        balances: Balances,
        sheet: OptionSheet,
        values: AccountValues,
        strategies: StrategyBook,
    ) -> None:
        self._directory, self._marks, self._sheet, self._values = directory, marks, sheet, values
        self._positions, self._balances, self._strategies = positions, balances, strategies
        self.asked: set[str] = set()  # kinds of scope that limits name
        self._owed: list[tuple[int, float]] = []

    def of(self, counterparty: F8, account_sums: tuple[F8, F8, F8], owed: list[tuple[int, float]]) -> dict[str, F8]:
        """Return the sums by kind of scope, each of shape (measures, scopes), of the book as it was last measured.

        Scopes are numbered as in the directory, alike in all shards.

        Parameters
        ----------
        counterparty
            The table of counterparties.
        account_sums
            Gross notional, net notional and P&L by account, from our side.
        owed
            Asset and worth of what is owed to us beside, and negative of what we owe.
        """
        arrays, directory, self._owed = self._directory.arrays, self._directory, owed
        firm = [2, 3, 4, 0, 5, 6, 7, 8] if len(counterparty) > len(COUNTERPARTY) else [2, 3, 4, 0]
        sums = {
            "firm": ordered_sums(counterparty[firm]),
            "underlying": self._by_underlying(arrays),
            "venue": _by(arrays["venue_or_none"], account_sums, len(directory.venues)),
            "group": np.zeros((len(counterparty), 0)),
        }
        if directory.groups:
            sums["group"] = _by(arrays["group"], tuple(counterparty), len(directory.groups))
            if len(counterparty) > len(COUNTERPARTY):  # a flag is no amount: the strongest of a group's counts
                strongest = np.zeros(len(directory.groups) + 1)
                np.maximum.at(strongest, arrays["group"], counterparty[-1])
                sums["group"][-1] = strongest[:-1]
        return sums

    def named(self) -> dict[str, tuple[list[str], F8]]:
        """Return names and sums, of shape (measures, scopes), of each kind of scope that was asked for."""
        makers = {
            "instrument": self._by_instrument,
            "asset": self._by_asset,
            "issuer": self._by_issuer,
            "strategy": self._by_strategy,
        }
        return {kind: make() for kind, make in makers.items() if kind in self.asked}

    def _by_strategy(self) -> tuple[list[str], F8]:
        return list(self._strategies.names), self._strategies.sums()

    def _by_instrument(self) -> tuple[list[str], F8]:
        signed, held, spent, notional = self._values.robust
        rows, arrays = self._positions.rows, self._directory.arrays
        names = [record.instrument for record in self._directory.instrument_records]
        stake = arrays["stake"][rows["account"]]
        sums = np.zeros((len(INSTRUMENT), len(names)))
        sums[:3] = _by(rows["instrument"], (notional, stake * signed, stake * (held - spent)), len(names))
        return names, sums

    def _by_asset(self) -> tuple[list[str], F8]:
        rows, arrays, count = self._balances.rows, self._directory.arrays, len(self._directory.assets)
        worth = rows["amount"] * self._marks.asset_worth[rows["asset"]]
        account = rows["account"]
        given = arrays["client"][account] * np.maximum(worth, 0.0)
        sums = np.zeros((len(HOLDING), count))
        sums[:3] = _by(rows["asset"], (np.abs(worth), arrays["sign"][account] * worth, given), count)
        for asset, value in self._owed:
            sums[:2, asset] += abs(value), value
        return list(self._directory.assets), sums

    def _by_issuer(self) -> tuple[list[str], F8]:
        """Return the sums of assets by issuer, with the notionals of contracts on them."""
        names: dict[str, int] = {}
        issuers = [self._directory.issuer(asset) for asset in self._directory.assets]
        of = np.array([names.setdefault(name, len(names)) if name else NO_ISSUER for name in issuers], dtype=np.int64)
        _, held = self._by_asset()
        issued, count = of != NO_ISSUER, len(names)
        sums = np.zeros((len(HOLDING), count))
        sums[:3] = _by(of[issued], tuple(held[:3, issued]), count)
        records = self._directory.instrument_records
        assets = np.array([self._directory.assets.get(r.underlying or r.base, 0) for r in records], dtype=np.int64)
        rows, (signed, _, _, notional) = self._positions.rows, self._values.robust
        on = of[assets][rows["instrument"]]
        at = (on != NO_ISSUER).nonzero()[0]
        ours = self._directory.arrays["stake"][rows["account"][at]] * signed[at]
        sums[:2] += _by(on[at], (notional[at], ours), count)
        return list(names), sums

    def _by_underlying(self, arrays: dict[str, Any]) -> F8:
        signed, held, spent, notional = self._values.robust
        rows, count = self._positions.rows, len(self._directory.underlyings)
        of = arrays["underlying"][rows["instrument"]]
        stake = arrays["stake"][rows["account"]]
        sums = np.zeros((len(UNDERLYING), count))
        sums[:3] = _by(of, (notional, stake * signed, stake * (held - spent)), count)
        sums[1] += self._coins_by_underlying(arrays)
        sums[3] = sums[1]  # the delta is the net notional
        if self._directory.has_option:
            at, option = self._values.options()
            units = stake[at] * rows["size"][at] * self._sheet.scale()[option]
            greeks = self._sheet.greeks
            sums[[4, 5, 7]] = _by(of[at], tuple(units * greeks[row][option] for row in (1, 2, 4)), count)
        return sums

    def _coins_by_underlying(self, arrays: dict[str, Any]) -> F8:
        """Return delta, which is net notional, of what is held beside positions, by underlying.

        That is every balance and debt in an asset that is an underlying, and every profit that is settled in one.
        """
        underlyings, count = self._directory.underlyings, len(self._directory.underlyings)
        of_asset = np.array([underlyings.get(name, count) for name in self._directory.assets], dtype=np.int64)
        of_asset[0] = count  # the reporting currency does not move
        rows, balances = self._positions.rows, self._balances.rows
        own = (of_asset[balances["asset"]] < count).nonzero()[0]
        account, of = balances["account"][own], of_asset[balances["asset"][own]]
        worth = self._values.worth_across[own]
        settled = of_asset[arrays["settlement"]]
        if (settled < count).any():
            _, held, spent, _ = self._values.robust
            at = (settled[rows["instrument"]] < count).nonzero()[0]
            account, of = np.append(account, rows["account"][at]), np.append(of, settled[rows["instrument"][at]])
            worth = np.append(worth, self._values.coin_profits(held, spent)[at])
        sums = sum_by(of, arrays["stake"][account] * worth, count).astype(np.float64)  # of nothing it is of integers
        for asset, value in self._owed:
            if of_asset.item(asset) < count:
                sums[of_asset.item(asset)] += value
        return sums


def _by(of: I8, columns: tuple[F8, ...], count: int) -> F8:
    """Return the sum of each column by number, shape (columns, count); numbers from ``count`` on are left out."""
    sums = np.empty((len(columns), count))
    for at, column in enumerate(columns):
        sums[at] = sum_by(of, column, count)[:count]
    return sums
