"""Collateral terms of netting sets, and debts: the arithmetic of a credit support annex, for the sets of one shard.

Everything is signed from our side: value that they owe us and collateral that they gave us count positive.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.credit._saccr_inputs import margin_period_floor
from seawall.operators.core.holdings import Balances, Directory
from seawall.schemas import events as ev

# Netting-set collateral terms: what is held, what may stay uncalled, and what is to be called or returned.
#
# Everything is signed from our side: value that they owe us and collateral that they gave us count positive.
#
# 1. Collateral received counts less its haircut, collateral posted plus the haircut that it is given (CRE52.11): none
#    in this book, where what the other side owes us for a deposit is its market value.
# 2. Variation margin and independent amounts count once each: C = net variation margin + NICA.
# 3. NICA is every independent amount received, segregated or not, less those that we posted unsegregated; what we
#    posted into a bankruptcy-remote account comes back and counts nowhere (CRE52.17).
# 4. A call brings what was delivered to what is required: exposure beyond the threshold of the side that owes, plus the
#    independent amount beside it, not inside it. Nothing moves below the minimum transfer amount of the side that
#    would transfer. What is delivered is rounded up, what is returned is rounded down.
#
# Arrays have the shape (netting sets,) or (holdings,), amounts are in the reporting currency.
#
# References
# ----------
# Basel Framework CRE52.10-52.19. ISDA 1994 Credit Support Annex (New York law), paragraphs 3 and 13(b): delivery and
# return amounts, threshold, minimum transfer amount, rounding.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
DAY_US: Final = 86_400_000_000
PERIOD_DAYS_MAX: Final = 1e6  # beyond it, dates would overflow
ROUNDING_NOISE: Final = 1e-10  # of an amount in units: a million times what summing doubles loses


@dataclass(frozen=True, slots=True)
class CollateralTerms:
    """Terms of netting sets; ``threshold`` and ``minimum_transfer_amount`` are theirs, ``our_…`` ours.

    ``independent_amount`` is what one side owes beside variation margin: positive in our favour. ``rounding`` is the
    unit of a transfer, 0 for none.
    """

    margined: B1
    they_post: B1
    we_post: B1
    threshold: F8
    minimum_transfer_amount: F8
    our_threshold: F8
    our_minimum_transfer_amount: F8
    independent_amount: F8
    rounding: F8


@dataclass(frozen=True, slots=True)
class CollateralPieces:
    """Pieces of collateral: value before haircut (negative: posted by us), haircut (a fraction), and what it is.

    ``received`` marks what others gave us, where that is known: of an account of ours a positive value is a debt.
    """

    netting_set: I8
    value: F8
    haircut: F8
    independent: B1
    segregated: B1
    received: B1 | None = None


@dataclass(frozen=True, slots=True)
class CollateralHeld:
    """Collateral of each netting set after haircuts.

    ``variation`` is net variation margin, ``net_independent`` NICA, ``collateral`` C. ``delivered``, and of it
    ``independent`` for independent amounts, also count what we posted into segregated accounts: it was asked for and
    given, and only a call needs it.
    """

    variation: F8
    net_independent: F8
    collateral: F8
    delivered: F8
    independent: F8


def collateral_held(holdings: CollateralPieces, netting_sets: int) -> CollateralHeld:
    """Return what is held per netting set; an unpriced piece is value 0 here and is reported by the caller.

    Examples
    --------
    >>> both = np.zeros(2, np.int64)
    >>> pieces = CollateralPieces(both, np.array([80.0, 12.5]), np.array([0.0, 0.2]), np.array([False, True]), both > 0)
    >>> held = collateral_held(pieces, 1)
    >>> float(held.variation[0]), float(held.net_independent[0]), float(held.collateral[0])
    (80.0, 10.0, 90.0)
    """
    ours, counted = holdings.value < 0, holdings.value
    if holdings.haircut.any():
        counted = counted * np.where(ours, 1.0 + holdings.haircut, 1.0 - holdings.haircut)
    remote = ours & holdings.segregated
    if not (holdings.independent.any() or holdings.segregated.any()):
        variation = np.bincount(holdings.netting_set, counted, netting_sets).astype(np.float64)
        none = np.zeros(netting_sets)
        return CollateralHeld(variation, none, variation, variation, none)
    variation = _totals(holdings.netting_set, counted, ~holdings.independent & ~remote, netting_sets)
    independent = _totals(holdings.netting_set, counted, holdings.independent & ~remote, netting_sets)
    given_remote = _totals(holdings.netting_set, counted, remote, netting_sets)
    remote_independent = _totals(holdings.netting_set, counted, remote & holdings.independent, netting_sets)
    held = variation + independent
    return CollateralHeld(variation, independent, held, held + given_remote, independent + remote_independent)


def margin_calls(terms: CollateralTerms, value: F8, delivered: F8, independent: F8) -> F8:
    """Return the transfers that are due now on netting sets of market value ``value``: positive from them to us.

    Parameters
    ----------
    terms
        An unmargined set calls for its independent amount, or gives it back, and no deposit beside it.
    value : float64
        Market value of the trades; NaN (a missing mark) gives NaN amounts.
    delivered, independent : float64
        Those of `CollateralHeld`; the second alone counts in a set that is not margined.

    Examples
    --------
    >>> one, yes = (lambda x: np.array([x])), np.array([True])
    >>> terms = CollateralTerms(yes, yes, yes, *(one(x) for x in (10.0, 1.0, 0.0, 1.0, 5.0, 0.5)))
    >>> float(margin_calls(terms, one(42.2), one(20.0), one(0.0))[0])
    17.5
    """
    theirs = np.where(terms.margined & terms.they_post, np.maximum(value - terms.threshold, 0.0), 0.0 * value)
    ours = np.where(terms.margined & terms.we_post, np.maximum(-value - terms.our_threshold, 0.0), 0.0 * value)
    required = theirs - ours + terms.independent_amount
    held = np.where(terms.margined, delivered, independent)
    change = required - held
    from_them = np.where(change >= terms.minimum_transfer_amount, np.maximum(change, 0.0), 0.0 * change)
    from_us = np.where(-change >= terms.our_minimum_transfer_amount, np.maximum(-change, 0.0), 0.0 * change)
    call = _rounded(from_them, np.maximum(-held, 0.0), terms.rounding)
    return call - _rounded(from_us, np.maximum(held, 0.0), terms.rounding)


def _totals(netting_set: I8, values: F8, chosen: B1, netting_sets: int) -> F8:
    weights = np.where(chosen, values, 0.0)
    return np.bincount(netting_set, weights=weights, minlength=netting_sets).astype(np.float64)


def _rounded(amount: F8, returnable: F8, unit: F8) -> F8:
    """Return a transfer in whole units: what of it gives back rounded down, the rest up.

    What is within :data:`ROUNDING_NOISE` of a whole number of units is that number: amounts are decimals that floating
    point holds to some sixteen digits, and a unit more for the seventeenth would be wrong. A unit that divides 1, as
    cents do, divides: so three tenths are 0.3, which 3 x 0.1 is not.
    """
    if not unit.any():
        return amount
    back, step = np.minimum(amount, returnable), np.where(unit > 0, unit, 1.0)
    whole, parts = _whole(back / step, np.floor) + _whole((amount - back) / step, np.ceil), np.rint(1.0 / step)
    exact = np.abs(parts * step - 1.0) <= ROUNDING_NOISE
    return np.where(unit > 0, np.where(exact, whole / np.where(exact, parts, 1.0), whole * step), amount)


def _whole(units: F8, rounding: Callable[[F8], F8]) -> F8:
    nearest = np.rint(units)
    return np.where(np.abs(units - nearest) <= ROUNDING_NOISE * (1.0 + nearest), nearest, rounding(units))


# The terms of the shard's netting sets as columns, in the reporting currency (`CollateralTerms`).

FLAGS: Final = ("margined", "they_post", "we_post")
TERM_AMOUNTS: Final = (
    "threshold",
    "minimum_transfer_amount",
    "our_threshold",
    "our_minimum_transfer_amount",
    "independent_amount",
    "rounding",
)


@dataclass(frozen=True, slots=True)
class NettingAgreements:
    """Terms by netting set; ``currency`` is the asset that amounts are in, ``period`` the margin period in days.

    ``flags`` and ``amounts`` have a row for each of ``FLAGS`` and ``TERM_AMOUNTS``. ``agreed`` marks sets with a record
    of their own; ``margined`` those in which they post variation margin (CRE52.2: not those in which only we post);
    ``in_use`` are the currencies in which any amount is not 0.
    ``eligible_haircut`` has a row for each set that lists what is eligible, at ``eligible_row`` (-1 for none), and a
    column per asset: its haircut, NaN where the list has it not.
    """

    flags: B1
    amounts: F8
    currency: I8
    period: F8
    agreed: B1
    margined: B1
    enforceable: B1
    eligible_row: I8
    eligible_haircut: F8
    in_use: frozenset[int]

    def at(self, asset_worth: F8) -> CollateralTerms:
        """Return the terms with amounts at today's rates; an amount in a currency without a rate counts 0."""
        return CollateralTerms(*self.flags, *(self.amounts * asset_worth[self.currency]))


def netting_agreements(directory: Directory) -> NettingAgreements:
    """Return the terms of every netting set that the directory numbers; the default terms where it has no record."""
    records = [directory.netting_set_records.get(name) for name in directory.netting_sets]
    sets = [record or ev.NettingSet(netting_set="-", counterparty="-") for record in records]
    flags = np.array([[getattr(s, name) for s in sets] for name in FLAGS], dtype=bool)
    amounts = np.array([[float(getattr(s, name)) for s in sets] for name in TERM_AMOUNTS])
    currencies = [directory.assets[s.currency] if s.currency else 0 for s in sets]
    eligible_row, eligible_haircut = _eligible(directory, sets)
    return NettingAgreements(
        flags=flags,
        amounts=amounts,
        currency=np.array(currencies, dtype=np.int64),
        period=np.array([_period(s) for s in sets]),
        agreed=np.array([record is not None for record in records], dtype=bool),
        margined=flags[0] & flags[1],
        enforceable=np.array([s.enforceable for s in sets], dtype=bool),
        eligible_row=eligible_row,
        eligible_haircut=eligible_haircut,
        in_use=frozenset(currency for at, currency in enumerate(currencies) if amounts[:, at].any()),
    )


def _eligible(directory: Directory, sets: list[ev.NettingSet]) -> tuple[I8, F8]:
    listing = [number for number, s in enumerate(sets) if s.eligible]
    row = np.full(len(sets), -1, dtype=np.int64)
    row[listing] = np.arange(len(listing))
    haircut = np.full((len(listing) + 1, len(directory.assets)), np.nan)  # one row more: -1 must lead somewhere
    for place, number in enumerate(listing):
        for asset, value in sets[number].eligible.items():
            haircut[place, directory.assets[asset]] = float(value)
    return row, haircut


def _period(record: ev.NettingSet) -> float:
    """Return the margin period of risk in business days: what is stated, never below its floor (CRE52.50)."""
    floor = margin_period_floor(max(float(record.remargin_business_days), 1.0), False, 0, False, 0)
    return max(float(record.margin_period_business_days), floor)


def margin_period_days(period: F8, as_of_us: int, calendar: np.busdaycalendar) -> F8:
    """Return the length in days of margin periods that begin now: to the last of their business days.

    Parameters
    ----------
    period
        Business days, by netting set.
    calendar
        What a business day is: a weekday that is no holiday. Days are those of UTC.

    Examples
    --------
    >>> saturday = 1_766_793_600_000_000  # 2025-12-27
    >>> margin_period_days(np.array([1.0, 10.0]), saturday, np.busdaycalendar(holidays=["2026-01-01"])).tolist()
    [2.0, 16.0]
    """
    today = np.datetime64(as_of_us // DAY_US, "D")
    last = np.busday_offset(
        today, np.minimum(period, PERIOD_DAYS_MAX).astype(np.int64), roll="backward", busdaycal=calendar
    )
    days: F8 = (last - today).astype(np.float64)
    return days


# Independent and segregated amounts: parts of balances, kept beside these, which are one number each.
#
# Most transfers are neither, so nothing is kept for them. Together with the balances this gives the holdings of every
# netting set, from our side (`collateral_held`): what an account of ours holds there we have posted, what a client's
# account holds with us they have.

SEGREGATED_KINDS = (
    (True, False),
    (False, True),
    (True, True),
)  # (independent, segregated), in the order of ``SegregatedAmounts.parts``


class SegregatedAmounts:
    """Independent and segregated parts of balances, by (account, asset)."""

    def __init__(self) -> None:
        self.parts = {kind: Balances() for kind in SEGREGATED_KINDS}
        self.kept = False  # there is anything

    def take(self, key: int, amount: float, independent: bool, segregated: bool) -> None:
        """Take a transfer that is either or both; a negative amount gives back."""
        if independent or segregated:
            self.kept = True
            self.parts[independent, segregated].add(key, amount)

    def sets(self, netting_set: I8, count: int) -> B1:
        """Return which netting sets have anything kept apart; ``netting_set`` is by account."""
        found = np.zeros(count, dtype=bool)
        for part in self.parts.values():
            found[netting_set[part.rows["account"]]] = True
        return found

    def holdings(
        self,
        balances: Balances,
        sign: F8,
        netting_set: I8,
        worth: F8,
        haircut: Callable[[I8, I8, F8], F8],
    ) -> CollateralPieces:
        """Return what is held by netting set.

        Parameters
        ----------
        balances
            All amounts; what is neither independent nor segregated is what the parts leave of them.
        sign, netting_set
            By account: 1 for our own, -1 for clients'; the number of its set.
        worth
            By asset, in the reporting currency.
        haircut
            Of netting sets, rows of balances and values, elementwise.
        """
        rows = balances.rows
        account, asset, amount = rows["account"], rows["asset"], rows["amount"]
        independent = segregated = np.zeros(len(account), dtype=bool)
        place = np.arange(len(account))
        for kind, part in self.parts.items():
            if not part.rows.size:
                continue
            if amount is rows["amount"]:
                amount = amount.copy()
            np.subtract.at(amount, balances.places(part), part.rows["amount"])
            place = np.concatenate([place, balances.places(part)])
            account = np.concatenate([account, part.rows["account"]])
            asset = np.concatenate([asset, part.rows["asset"]])
            amount = np.concatenate([amount, part.rows["amount"]])
            independent = np.concatenate([independent, np.full(part.rows.size, kind[0])])
            segregated = np.concatenate([segregated, np.full(part.rows.size, kind[1])])
        of, value = netting_set[account], -sign[account] * amount * worth[asset]
        received = (sign[account] < 0) & (value > 0)  # a haircut is for what others gave us, not for what they owe us
        return CollateralPieces(
            netting_set=of,
            value=value,
            haircut=np.where(received, haircut(of, place, value), 0.0),
            independent=independent,
            segregated=segregated,
            received=received,
        )

    def snapshot(self) -> list[Any]:
        """Return the state for :func:`snapshot.pack`."""
        return [part.snapshot() for part in self.parts.values()]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        for part, rows in zip(self.parts.values(), state, strict=True):
            part.restore(rows)
            self.kept = self.kept or bool(part.rows.size)


# Obligations: what counterparties owe us beside positions and collateral, as loans, withdrawals and settlements that
# are outstanding. What is owed otherwise, by the house or from one counterparty to another, is kept for contagion
# alone.
#
# Settlement exposure is the sum of what a counterparty owes the house and has not paid. A margin call is not part of
# it, because what it asks for is current exposure already, nor is an estimate, which nobody owes yet.

HOUSE = "house"
COUNTED = frozenset({"loan", "withdrawal", "settlement"})
OPEN = frozenset({"open", "failed"})


class Debt(NamedTuple):
    """One debt to the house, in its asset; what the house owes is negative."""

    counterparty: str
    asset: int
    amount: float


class Claim(NamedTuple):
    """Debt of one party to another, in its asset; either may be the house."""

    borrower: str
    lender: str
    asset: int
    amount: float


class Obligations:
    """Open obligations by id, in order of their first record.

    Attributes
    ----------
    owed
        Debts to the house.
    others
        What the house or others owe.
    """

    def __init__(self) -> None:
        self.owed: dict[str, Debt] = {}
        self.others: dict[str, Claim] = {}

    def take(self, event: ev.Obligation, asset: int) -> None:
        """Take the state of an obligation of which this shard has the debtor; one that is paid or at 0 is gone."""
        counts = event.kind in COUNTED and event.status in OPEN and float(event.amount) > 0
        if counts and event.to == HOUSE:
            self.others.pop(event.obligation_id, None)
            self.owed[event.obligation_id] = Debt(event.from_, asset, float(event.amount))
        elif counts:
            self.owed.pop(event.obligation_id, None)
            self.others[event.obligation_id] = Claim(event.from_, event.to, asset, float(event.amount))
        else:
            self.owed.pop(event.obligation_id, None)
            self.others.pop(event.obligation_id, None)

    def ours(self) -> list[Debt]:
        """Return what is owed to the house, and with negative amounts what it owes."""
        owing = (one for one in self.others.values() if one.borrower == HOUSE)
        return [*self.owed.values(), *(Debt(one.lender, one.asset, -one.amount) for one in owing)]

    def claims(self) -> list[Claim]:
        """Return what anybody owes anybody, in order of their first record, debts to the house first."""
        ours = [Claim(owed.counterparty, HOUSE, owed.asset, owed.amount) for owed in self.owed.values()]
        return ours + list(self.others.values())

    def snapshot(self) -> list[Any]:
        """Return the state for :func:`snapshot.pack`."""
        return [[[name, *one] for name, one in kept.items()] for kept in (self.owed, self.others)]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        owed, others = state
        self.owed = {name: Debt(*one) for name, *one in owed}
        self.others = {name: Claim(*one) for name, *one in others}
