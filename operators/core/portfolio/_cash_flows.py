"""Cash flows of accounts that are not trades: contributions, and the funding of perpetuals."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.holdings import Balances, Directory, Positions, PositionSubset
from seawall.operators.core.pricing import Marks
from seawall.schemas import events as ev

# Contributions: what came into accounts or left them without being earned or lost, at what it was worth then.
#
# P&L is what an account is worth less these. What comes in an asset that nothing prices yet is worth nothing so far,
# and contributes what it is worth at its first price: it is no profit then.


class Contributions:
    """Net contributions of the accounts of one shard.

    Attributes
    ----------
    worth
        By account, in the reporting currency.
    """

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self.worth: NDArray[np.float64] = np.zeros(0)
        self._unpriced: dict[tuple[int, int], float] = {}  # amounts by account and asset

    def __bool__(self) -> bool:
        """Tell whether anything waits for a price."""
        return bool(self._unpriced)

    def grow(self, more: int) -> None:
        """Make room for more accounts."""
        self.worth = np.append(self.worth, np.zeros(more))

    def add(self, account: int, asset: int, amount: float) -> None:
        """Take an amount of an asset that came into an account, or (negative) left it."""
        self._marks.price()
        price = self._marks.asset_prices.item(asset)
        if price == price:  # noqa: PLR0124 (no NaN)
            self.worth[account] += amount * price
        else:
            self._unpriced[account, asset] = self._unpriced.get((account, asset), 0.0) + amount

    def price(self) -> bool:
        """Value what waits for a price and has one now; tell whether anything was."""
        waiting, self._unpriced = self._unpriced, {}
        for (account, asset), amount in waiting.items():
            self.add(account, asset, amount)
        return len(self._unpriced) < len(waiting)

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`."""
        return {"worth": self.worth.copy(), "unpriced": [[*key, amount] for key, amount in self._unpriced.items()]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.worth = state["worth"]
        self._unpriced = {(account, asset): amount for account, asset, amount in state["unpriced"]}


# Funding of perpetuals: what a position owes or earns before the payment stands in its account's balance.
#
# An account that books funding itself has each ``settled`` payment booked to its balance (contract.md, "Funding").
# Every other account accrues: within an interval the latest rate, in proportion to the time that passed, on the
# position as it is (venues pay who holds when the interval ends); at a ``settled`` record the whole payment; and
# nothing any more once
# ``collateral`` with the purpose ``funding`` has brought it. Longs pay a positive rate.
#
# An account without a venue follows the first venue that published for the instrument.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
NOWHERE = -1
ASSET = (1 << 20) - 1  # of a balance's key


class FundingRate(NamedTuple):
    """A rate per interval, since when it accrues, and of which time it is."""

    rate: float
    interval_us: int
    since_us: int
    heard_us: int


class FundingRates(NamedTuple):
    """Funding rates of every instrument, as arrays of shape (venues + 1, instruments).

    The last row is that of accounts without a venue. When an account was last paid is ``paid_us``, of shape (assets
    that ever were + 1, accounts): its row is ``paid_in`` of the asset, the first of which says never.
    """

    funded: NDArray[np.bool_]
    rate: F8
    interval_us: F8
    since_us: I8
    paid_us: I8
    paid_in: I8


class Funding:
    """Rates as they were last heard, what was settled and has not arrived, and since when accounts accrue.

    Attributes
    ----------
    known
        Rates by instrument and venue; without any nothing accrues.
    """

    def __init__(self, directory: Directory, marks: Marks, positions: Positions, balances: Balances) -> None:
        self._directory, self._marks = directory, marks
        self._positions, self._balances = positions, balances
        self.accrued = Balances()
        self.known: dict[tuple[int, int], FundingRate] = {}
        self._followed: dict[int, int] = {}
        self._paid_us: dict[int, int] = {}  # by account and asset, as balances are
        self._rows = PositionSubset()
        self._funded = 0
        self._paces: FundingRates | None = None

    def hear(self, event: ev.Funding) -> None:
        """Take a rate; a settled one is paid at once. One that is earlier than the last is no rate of now."""
        number, venue = self._directory.instruments[event.instrument], self._directory.venue(event.venue)
        rate, settled, time_us = float(event.rate), event.kind == "settled", event.event_time_us
        self._paces = None
        for place in (venue, NOWHERE) if self._followed.setdefault(number, venue) == venue else (venue,):
            known = self.known.get((number, place)) or FundingRate(rate, event.interval_us, time_us, time_us)
            if settled:
                self._pay(number, place, rate)
                known = known._replace(since_us=max(known.since_us, time_us))
            if time_us >= known.heard_us:
                known = FundingRate(rate, event.interval_us, known.since_us, time_us)
            self.known[number, place] = known

    def arrived(self, account: int, asset: int, as_of_us: int) -> None:
        """Reverse what an account accrued in an asset: its payment has come."""
        key = account << 20 | asset
        self.accrued.add(key, -self.accrued.amount(key))
        self._paid_us[key] = as_of_us
        self._paces = None

    def rates(self, instruments: int, interval_us: float) -> F8:
        """Return the latest rate of every instrument per some interval, of the venue followed; NaN where none."""
        found = np.full(instruments, np.nan)
        for number in self._followed:
            known = self.known[number, NOWHERE]
            found[number] = known.rate * (interval_us / known.interval_us)
        return found

    def unrealised(self, as_of_us: int, accounts: int) -> F8:
        """Return what each account has accrued, in the reporting currency."""
        accrued = self.accrued.rows
        worth = accrued["amount"] * self._marks.asset_worth[accrued["asset"]]
        total: F8 = np.bincount(accrued["account"], worth, accounts).astype(np.float64)
        rows, pace = self._pace(as_of_us)
        held = self._positions.rows
        notional = held["size"][rows] * np.abs(self._marks.unit[held["mark"][rows]])
        return total - np.bincount(held["account"][rows], notional * pace, accounts)

    def _pace(self, as_of_us: int) -> tuple[I8, F8]:
        """Return the rows of positions that accrue, and the part of their notional that they owe so far."""
        arrays, held = self._directory.arrays, self._positions.rows
        if self._funded != len(self.known):
            self._rows, self._funded = PositionSubset(), len(self.known)
        paces = self._known()
        at = self._rows.of(self._positions, paces.funded)
        account, instrument = held["account"][at], held["instrument"][at]
        of, paid = (arrays["venue"][account], instrument), paces.paid_in[arrays["settlement"][instrument]]
        passed = np.maximum(as_of_us - np.maximum(paces.since_us[of], paces.paid_us[paid, account]), 0)
        share = np.minimum(passed / paces.interval_us[of], 1.0)
        return at, np.where(arrays["books_funding"][account], 0.0, paces.rate[of] * share)

    def _known(self) -> FundingRates:
        """Return what is known as arrays, made again when anything was heard or the directory grew."""
        arrays = self._directory.arrays
        shape, accounts = (len(self._directory.venues) + 1, len(arrays["size"])), len(arrays["venue"])
        if self._paces is None or self._paces.rate.shape != shape or self._paces.paid_us.shape[1] != accounts:
            funded, assets = np.zeros(shape[1], dtype=bool), sorted({key & ASSET for key in self._paid_us})
            funded[list(self._followed)] = True
            paid_in = np.zeros(len(self._directory.assets), dtype=np.int64)
            paid_in[assets] = np.arange(1, len(assets) + 1)
            paid = np.zeros((len(assets) + 1, accounts), dtype=np.int64)
            for key, paid_us in self._paid_us.items():
                paid[paid_in.item(key & ASSET), key >> 20] = paid_us
            rate, interval, since = np.zeros(shape), np.ones(shape), np.zeros(shape, dtype=np.int64)
            for (number, place), (value, interval_us, since_us, _) in self.known.items():
                rate[place, number], interval[place, number], since[place, number] = value, interval_us, since_us
            self._paces = FundingRates(funded, rate, interval, since, paid, paid_in)
        return self._paces

    def _pay(self, number: int, place: int, rate: float) -> None:
        """Book a settled payment of one instrument's positions at a venue: to the balance, or to what is accrued."""
        self._marks.price()
        arrays, rows = self._directory.arrays, self._positions.rows
        at = np.flatnonzero((rows["instrument"] == number) & (rows["units"] != 0))
        at = at[arrays["venue"][rows["account"][at]] == place]
        mark = rows["mark"][at]
        priced = self._marks.worth[mark] != 0
        at, mark = at[priced], mark[priced]
        notional = rows["size"][at] * np.abs(self._marks.unit[mark] / self._marks.worth[mark])
        keys = (rows["account"][at] << 20) | int(arrays["settlement"][number])
        books = arrays["books_funding"][rows["account"][at]]
        self._balances.add_many(keys[books], -notional[books] * rate)
        self.accrued.add_many(keys[~books], -notional[~books] * rate)

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`."""
        return {
            "accrued": self.accrued.snapshot(),
            "rates": [[*key, *value] for key, value in self.known.items()],
            "followed": [[k, v] for k, v in self._followed.items()],
            "paid": [[k, v] for k, v in self._paid_us.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.accrued.restore(state["accrued"])
        self.known = {
            (number, place): FundingRate(float(rate), *times) for number, place, rate, *times in state["rates"]
        }
        self._followed = {int(k): int(v) for k, v in state["followed"]}
        self._paid_us = {int(k): int(v) for k, v in state["paid"]}
        self._paces = None
