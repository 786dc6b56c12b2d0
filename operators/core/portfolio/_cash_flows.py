"""Cash flows of accounts that are not trades: contributions, and the funding of perpetuals."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import sum_by
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
# position as it is (venues pay who holds when the interval ends); at a ``settled`` record the whole interval, once, at
# the price that it names or else at the mark. A payment (``collateral`` with the purpose ``funding``) closes the
# interval of the contract and the end that it names, otherwise the oldest that is open in its account and asset; one
# that comes before its record pays the interval that is running, which then is not accrued. The payment is the truth,
# and the end of an interval is the same where it is within half of one. Longs pay a positive rate.
#
# An account without a venue follows the first venue that published for the instrument.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
NOWHERE = -1
SETTLED_MAX = 32  # ends of intervals remembered: a venue asked for its latest gives those of before again


class FundingRate(NamedTuple):
    """A rate per interval, since when it accrues, of which time it is, and which intervals were settled last."""

    rate: float
    interval_us: int
    since_us: int
    heard_us: int
    settled: tuple[int, ...] = ()


class FundingRates(NamedTuple):
    """Funding rates of every instrument, as arrays of shape (venues + 1, instruments).

    The last row is that of accounts without a venue.
    """

    funded: NDArray[np.bool_]
    rate: F8
    interval_us: F8
    since_us: I8


class Funding:
    """Rates as they were last heard, intervals that are settled and not paid, and what was paid ahead of its record.

    Attributes
    ----------
    known
        Rates by instrument and venue; without any nothing accrues.
    accrued
        What settled intervals owe each account in each asset until they are paid.
    booked
        Where to note what is booked to balances, for who explains P&L.
    """

    def __init__(self, directory: Directory, marks: Marks, positions: Positions, balances: Balances) -> None:
        self._directory, self._marks = directory, marks
        self._positions, self._balances = positions, balances
        self.accrued = Balances()
        self.booked: Balances | None = None
        self.known: dict[tuple[int, int], FundingRate] = {}
        self._followed: dict[int, int] = {}
        self._open: dict[int, dict[tuple[int, int], float]] = {}  # by account and asset: by contract and interval's end
        # By account and contract (or ``~asset`` where no contract is known yet): when the running interval was paid.
        self._ahead: dict[tuple[int, int], int] = {}
        self._rows = PositionSubset()
        self._funded = 0
        self._paces: FundingRates | None = None
        self._paid: tuple[Any, I8] = (None, np.zeros(0, dtype=np.int64))

    def hear(self, event: ev.Funding) -> None:
        """Take a rate; a settled one is paid at once. One that is earlier than the last is no rate of now."""
        number, venue = self._directory.instruments[event.instrument], self._directory.venue(event.venue)
        rate, settled, time_us = float(event.rate), event.kind == "settled", event.event_time_us
        self._paces = None
        for place in (venue, NOWHERE) if self._followed.setdefault(number, venue) == venue else (venue,):
            known = self.known.get((number, place)) or FundingRate(rate, event.interval_us, time_us, time_us)
            if settled and time_us not in known.settled:
                self._pay(number, place, event)
                ends = (*known.settled, time_us)[-SETTLED_MAX:]
                known = known._replace(since_us=max(known.since_us, time_us), settled=ends)
            if time_us >= known.heard_us:
                known = known._replace(rate=rate, interval_us=event.interval_us, heard_us=time_us)
            self.known[number, place] = known

    def arrived(self, account: int, asset: int, as_of_us: int, contract: int = -1, end_us: int = 0) -> None:
        """Close the interval that a payment is for: of the contract named, else the oldest that is open.

        Where none is open the payment is ahead of its record: it pays what is running.
        """
        key, venue = account << 20 | asset, self._directory.arrays["venue"].item(account)
        waiting = self._open.get(key, {})
        fitting = (number_end for number_end in waiting if contract in (-1, number_end[0]))
        if end_us:
            near = {number: known.interval_us // 2 for (number, place), known in self.known.items() if place == venue}
            fitting = ((number, us) for number, us in fitting if abs(us - end_us) <= near[number])
        found = next(fitting, None)
        if found is None:
            running = contract if contract >= 0 else self._most_run(account, asset, as_of_us)
            self._ahead[account, running if running >= 0 else ~asset] = end_us or as_of_us
            self._paid = (None, self._paid[1])
            return
        amount = waiting.pop(found)
        if not waiting:  # exactly nothing is left, whatever sums of floats say
            del self._open[key]
            amount = self.accrued.amount(key)
        self.accrued.add(key, -amount)

    def rates(self, instruments: int, interval_us: float) -> F8:
        """Return the latest rate of every instrument per some interval, of the venue followed; NaN where none."""
        found = np.full(instruments, np.nan)
        for number in self._followed:
            known = self.known[number, NOWHERE]
            found[number] = known.rate * (interval_us / known.interval_us)
        return found

    def unrealised(self, as_of_us: int, accounts: int) -> tuple[F8, F8]:
        """Return what each account has accrued, in the reporting currency: at its venue's marks, and across venues."""
        owed, held, marks = self.accrued.rows, self._positions.rows, self._marks
        rows, pace = self._pace(as_of_us)
        ways = [(marks.asset_worth[owed["asset"]], marks.across()[held["instrument"][rows]])]
        if marks.venue_priced:
            venue = self._directory.arrays["venue"][owed["account"]]
            ways.append((marks.worth_at(venue, owed["asset"]), held["mark"][rows]))
        found = []
        for worth, mark in ways:
            running = sum_by(held["account"][rows], held["size"][rows] * np.abs(marks.unit[mark]) * pace, accounts)
            found.append(sum_by(owed["account"], owed["amount"] * worth, accounts) - running)
        return found[-1], found[0]

    def _pace(self, as_of_us: int) -> tuple[I8, F8]:
        """Return the rows of positions that accrue, and the part of their notional that they owe so far."""
        arrays, held = self._directory.arrays, self._positions.rows
        if self._funded != len(self.known):
            self._rows, self._funded = PositionSubset(), len(self.known)
        paces = self._known()
        at = self._rows.of(self._positions, paces.funded)
        account = held["account"][at]
        of = (arrays["venue"][account], held["instrument"][at])
        since = np.maximum(paces.since_us[of], self._paid_us()[at]) if self._ahead else paces.since_us[of]
        share = np.minimum(np.maximum(as_of_us - since, 0) / paces.interval_us[of], 1.0)
        return at, np.where(arrays["books_funding"][account], 0.0, paces.rate[of] * share)

    def _paid_us(self) -> I8:
        """Return by row of positions when the running interval was paid, 0 where it was not."""
        key = (self._positions.epoch, self._positions.rows.size)
        if self._paid[0] != key:
            named = {pair: paid_us for pair, paid_us in self._ahead.items() if pair[1] >= 0}
            pairs = np.array(list(named), dtype=np.int64).reshape(-1, 2)
            slots = self._positions.find(pairs[:, 0], pairs[:, 1])
            paid = np.zeros(self._positions.rows.size, dtype=np.int64)
            there = slots >= 0
            paid[slots[there]] = np.array(list(named.values()), dtype=np.int64)[there]
            self._paid = (key, paid)
        return self._paid[1]

    def _most_run(self, account: int, asset: int, as_of_us: int) -> int:
        """Return the contract of an account, settled in an asset, whose unpaid interval has run furthest; -1: none."""
        arrays, rows = self._directory.arrays, self._positions.rows
        venue, found, most = arrays["venue"].item(account), -1, 0.0
        held = rows["instrument"][(rows["account"] == account) & (rows["units"] != 0)]
        for number in sorted(held[arrays["settlement"][held] == asset].tolist()):
            known = self.known.get((number, venue))
            if known is None or (account, number) in self._ahead:
                continue
            share = (as_of_us - known.since_us) / known.interval_us
            if share > most:
                found, most = number, share
        return found

    def _known(self) -> FundingRates:
        """Return what is known as arrays, made again when anything was heard or the directory grew."""
        shape = (len(self._directory.venues) + 1, len(self._directory.arrays["size"]))
        if self._paces is None or self._paces.rate.shape != shape:
            funded = np.zeros(shape[1], dtype=bool)
            funded[list(self._followed)] = True
            rate, interval, since = np.zeros(shape), np.ones(shape), np.zeros(shape, dtype=np.int64)
            for (number, place), known in self.known.items():
                rate[place, number], interval[place, number] = known.rate, known.interval_us
                since[place, number] = known.since_us
            self._paces = FundingRates(funded, rate, interval, since)
        return self._paces

    def _pay(self, number: int, place: int, event: ev.Funding) -> None:
        """Book a settled interval of one instrument's positions at a venue: to the balance, or to what is accrued."""
        self._marks.price()
        arrays, rows = self._directory.arrays, self._positions.rows
        at = np.flatnonzero((rows["instrument"] == number) & (rows["units"] != 0))
        at = at[arrays["venue"][rows["account"][at]] == place]
        size, marks, mark = arrays["size"].item(number), self._marks, rows["mark"][at]
        price = marks.rows["price"][mark]
        price = np.where(np.isnan(price), marks.rows["price"][marks.across()[number]], price)
        price = np.full(len(at), float(event.price)) if event.price else price
        unit = size / price if arrays["inverse"].item(number) else size * price
        if not event.price:  # what is owed does not wait until the asset that it is owed in has a price
            priced = marks.worth[mark] != 0
            unit[priced] = np.abs(marks.unit[mark[priced]] / marks.worth[mark[priced]])
            at, unit = at[np.isfinite(unit)], unit[np.isfinite(unit)]
        amounts = -(rows["size"][at] * unit) * float(event.rate)
        at, amounts = at[amounts != 0], amounts[amounts != 0]  # of nothing no payment comes
        accounts = rows["account"][at]
        keys = (accounts << 20) | int(arrays["settlement"][number])
        books = arrays["books_funding"][accounts]
        self._balances.add_many(keys[books], amounts[books])
        if self.booked is not None:
            self.booked.add_many(keys[books], amounts[books])
        owed = ~books & ~self._paid_ahead(accounts, number, event)
        self.accrued.add_many(keys[owed], amounts[owed])
        for key, amount in zip(keys[owed].tolist(), amounts[owed].tolist(), strict=True):
            self._open.setdefault(key, {})[number, event.event_time_us] = amount

    def _paid_ahead(self, accounts: I8, number: int, event: ev.Funding) -> NDArray[np.bool_]:
        """Return which accounts have paid the interval before its record came; forget what was paid for older ones."""
        found = np.zeros(len(accounts), dtype=bool)
        if self._ahead:
            half_us, unnamed = event.interval_us // 2, ~self._directory.arrays["settlement"].item(number)
            for at, account in enumerate(accounts.tolist()):
                for key in ((account, number), (account, unnamed)):
                    paid_us = self._ahead.get(key)
                    if paid_us is not None and not found[at] and paid_us <= event.event_time_us + half_us:
                        del self._ahead[key]
                        found[at] = paid_us > event.event_time_us - half_us
            self._paid = (None, self._paid[1])
        return found

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`."""
        return {
            "accrued": self.accrued.snapshot(),
            "rates": [[*key, *value[:-1], list(value.settled)] for key, value in self.known.items()],
            "followed": [[k, v] for k, v in self._followed.items()],
            "open": [[key, *one, amount] for key, some in self._open.items() for one, amount in some.items()],
            "ahead": [[*key, paid_us] for key, paid_us in self._ahead.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.accrued.restore(state["accrued"])
        self.known = {
            (number, place): FundingRate(float(rate), interval_us, since_us, heard_us, tuple(ends))
            for number, place, rate, interval_us, since_us, heard_us, ends in state["rates"]
        }
        self._followed = {int(k): int(v) for k, v in state["followed"]}
        self._open = {}
        for key, number, end_us, amount in state["open"]:
            self._open.setdefault(key, {})[number, end_us] = float(amount)
        self._ahead = {(account, number): paid_us for account, number, paid_us in state["ahead"]}
        self._paces, self._paid = None, (None, self._paid[1])
