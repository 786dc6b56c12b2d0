"""Netting sets on every slice: replacement cost, potential exposure, exposure at default, wrong-way risk, margin calls.

1. ``V`` is what the positions of a set are worth to us at the marks across venues, ``C`` the collateral of
   `collateral_held`; a set without a record of its own, and without amounts kept apart, nets equity.
2. Replacement cost: ``max(V - C, 0)``, margined ``max(V - C, TH + MTA - NICA, 0)``.
3. Add-ons (`NettingGroups`), the multiplier, and ``EAD = 1.4 (RC + PFE)``; margined never more than the same set
   unmargined (CRE52.2). Contracts that settle every day count with the smallest maturity.
4. Counterparties add up their netting sets, and what they owe beside.

All of it is computed where the book needs it: a netting set has terms, something is owed, or a limit names such a
measure. Steps 1 and 2, and the exposure at default that follows from them, are those of every slice. Potential exposure
and wrong-way risk are computed again at the end of every second and when terms or reference data have changed, and in
between those of a set whose positions or balances have changed, or whose V - C has moved by more than
``potential_exposure_change_min`` of its add-on. Potential exposure at today's volatility waits for the end of the
second, when volatility itself is sampled.
"""

from collections.abc import Set
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import sum_by
from seawall.operators.core.credit import _saccr_formulas as formulas
from seawall.operators.core.credit._add_ons import (
    DAILY,
    EffectiveNotionals,
    NettingGroups,
    SupervisoryFactors,
    supervisory_factors,
)
from seawall.operators.core.credit._collateral_terms import (
    CollateralHeld,
    NettingAgreements,
    Obligations,
    SegregatedAmounts,
    collateral_held,
    margin_calls,
    margin_period_days,
    netting_agreements,
)
from seawall.operators.core.credit._market_dependence import (
    EwVolatility,
    ReturnCorrelations,
    potential_exposure,
    value_deviations,
)
from seawall.operators.core.credit._saccr_inputs import CRYPTO_REGIME_DEFAULT, CRYPTO_REGIMES
from seawall.operators.core.holdings import Balances, Directory, Positions, PositionSubset
from seawall.operators.core.pricing import AccountValues, Marks, OptionSheet
from seawall.schemas.measures import CREDIT, PARTY_CREDIT

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
UNMARGINED_DAYS: Final = 365.0  # the horizon of an unmargined set
GATHER_MIN: Final = 8  # netting sets for each that is due, from which only the positions of those are gathered
# Rows that stand between two computations: potential exposure as the terms have it and as unmargined, that at today's
# volatility, wrong-way risk, and the V - C and add-on of the computation.
CALLED, UNCALLED, TODAY, FLAG, SURPLUS, ADD_ON = range(6)


class CreditBook:
    """Credit measures of one shard. Positions, balances, marks and options are the ledger's."""

    def __init__(
        self, directory: Directory, marks: Marks, positions: Positions, balances: Balances, sheet: OptionSheet
    ) -> None:
        self._directory, self._marks, self._positions = directory, marks, positions
        self._balances, self._sheet = balances, sheet
        self.named = False
        self.pledges, self.obligations = SegregatedAmounts(), Obligations()
        self.volatility, self.comovement = EwVolatility(), ReturnCorrelations()
        self._known, self._numbered = -1, (-1, -1)  # versions of the directory and of positions that are learned
        self._touched, self._looked, self._moved = True, False, False
        self._waiting: B1 = np.zeros(0, dtype=bool)
        self._current: F8 = np.zeros((ADD_ON + 1, 0))
        self.regime = CRYPTO_REGIME_DEFAULT
        self._change_min: float
        self._calendar: np.busdaycalendar
        self._agreements: NettingAgreements
        self._factors: SupervisoryFactors
        self._groups: NettingGroups
        self._class_factor: F8 | None
        self._wrong: WrongWayRisk
        self._notionals: EffectiveNotionals

    @property
    def needed(self) -> bool:
        """Tell whether the book needs these measures."""
        return self.named or bool(self._directory.netting_set_records) or self.pledges.kept

    def configure(self, terms: dict[str, Any]) -> None:
        """Take the regime of crypto assets, the calendar, and when potential exposure is computed again."""
        self.regime = terms.get("crypto_regime", CRYPTO_REGIME_DEFAULT)
        self._change_min = terms["potential_exposure_change_min"]
        self._calendar = np.busdaycalendar(holidays=np.array(terms["holidays"], dtype="datetime64[D]"))
        self._known = -1

    def touch(self) -> None:
        """Note that something that all netting sets depend on, other than a mark, has changed."""
        self._touched = True

    @property
    def waits(self) -> bool:
        """Tell whether some potential exposure waits for the end of the second."""
        return self._moved or bool(self._waiting.any())

    def look(self, as_of_us: int) -> None:
        """Take the prices of this second for the volatility of underlyings; the next ``measure`` is of its end."""
        self._learn()
        self._looked = True
        prices = self._notionals.prices(self._marks)
        self.volatility.see(prices, as_of_us)
        self.comovement.see(prices, as_of_us)

    def measure(
        self, exposed: F8, unrealised: F8, collateral: F8, values: AccountValues, touched: B1, as_of_us: int
    ) -> tuple[F8, F8]:
        """Return the rows of netting sets, shape (2 + ``CREDIT``, sets), and those of counterparties.

        Parameters
        ----------
        exposed, unrealised, collateral
            By account, at marks across venues: equity, its part that is unrealised, and collateral without debts.
        values
            Signed and gross notionals of positions.
        touched
            By account: whether positions or balances have changed since the last call.
        """
        self._learn()
        agreed, sets = self._agreements, len(self._directory.netting_sets)
        arrays = self._directory.arrays
        of, sign = arrays["netting_set"], arrays["sign"]
        surplus = sum_by(of, sign * exposed, sets)
        uncalled: F8 | float = 0.0
        rows = np.zeros((2 + len(CREDIT), sets))
        rows[1] = sum_by(of, arrays["client"] * collateral, sets)
        apart = agreed.agreed | self.pledges.sets(of, sets) if self.pledges.kept else agreed.agreed
        if apart.any():
            value, held = sum_by(of, sign * unrealised, sets), self._held(rows, apart)
            surplus = np.where(apart, value - held.collateral, surplus)
            terms = agreed.at(self._marks.asset_worth)
            uncalled = terms.threshold + terms.minimum_transfer_amount - held.net_independent
            uncalled = np.where(agreed.margined, uncalled, 0.0)
            rows[6] = np.where(agreed.agreed, margin_calls(terms, value, held.delivered, held.independent), 0.0)
        cost = formulas.replacement_cost(surplus, uncalled)
        if not agreed.enforceable.all():
            alone = sum_by(of, np.maximum(sign * exposed, 0.0), sets)
            cost = np.where(agreed.enforceable, cost, alone)
            surplus = np.where(agreed.enforceable, surplus, np.maximum(surplus, alone))
        rows[0] = cost
        at = self._due(of, touched, surplus)
        if len(at):
            flags = self._wrong.flags(of, arrays["netting_set_counterparty"], self._balances, self._positions)
            self._current[:2, at], self._current[ADD_ON, at] = self._potential(at, surplus[at], values, as_of_us)
            self._current[FLAG, at], self._current[SURPLUS, at], self._waiting[at] = flags[at], surplus[at], True
        if self._looked and self._waiting.any():
            at = self._waiting.nonzero()[0]
            self._current[TODAY, at] = self._today(at, surplus[at], values.robust[0], as_of_us)
            self._waiting[:] = False
        self._looked, self._moved = False, bool((surplus != self._current[SURPLUS]).any())
        rows[2], rows[3] = self._current[CALLED], self._default(cost, surplus)
        rows[4:6] = self._current[TODAY : FLAG + 1]
        return rows, self._counterparties(rows)

    def assets(self) -> Set[int]:
        """Return the assets that terms of netting sets and debts are in."""
        if not self.needed:
            return frozenset()
        self._learn()
        return self._agreements.in_use.union([owed.asset for owed in self.obligations.owed.values()])

    # --- parts ------------------------------------------------------------------------------------------------------

    def _learn(self) -> None:
        """Derive from the directory what changes with it, and take new positions into their groups."""
        directory = self._directory
        stale = self._known != directory.version
        numbered = (self._positions.epoch, self._positions.rows.size)
        if not stale and numbered == self._numbered:
            return
        self._numbered = numbered
        if stale:
            self._agreements = netting_agreements(directory)
            self._factors = supervisory_factors(directory, CRYPTO_REGIMES[self.regime])
            self._wrong = WrongWayRisk(directory, self.comovement)
            self._notionals = EffectiveNotionals(directory, self._positions, self._sheet, self._factors)
            self._known = directory.version
        if stale or not self._groups.fits(self._positions):
            self._groups = NettingGroups(self._factors, directory, self._agreements.enforceable)
        self._groups.extend(self._positions)
        if stale:
            arrays = directory.arrays
            self._class_factor = self._groups.class_factors(arrays["class"], len(arrays["class_initial"]))

    def _default(self, cost: F8, surplus: F8) -> F8:
        """Return the exposure at default of every set: alpha times replacement cost of now and potential exposure.

        A margined one is never more than the same set unmargined (CRE52.2).
        """
        agreed, called = self._agreements, self._current[CALLED]
        capping = formulas.exposure(np.maximum(surplus, 0.0), self._current[UNCALLED])
        default = np.where(agreed.margined, np.minimum(formulas.exposure(cost, called), capping), capping)
        if not agreed.enforceable.all():  # the replacement cost of sets that do not net is that of their parts
            default = np.where(agreed.enforceable, default, formulas.exposure(cost, called))
        return default

    def _due(self, of: I8, touched: B1, surplus: F8) -> I8:
        """Return the netting sets whose potential exposure is computed now."""
        sets = len(self._agreements.agreed)
        if not (self._touched or self._looked):
            current = self._current
            due: B1 = np.abs(surplus - current[SURPLUS]) > self._change_min * current[ADD_ON]
            due[of[touched.nonzero()[0]]] = True
            found: I8 = due.nonzero()[0]
            return found
        if self._touched:
            more = sets - self._current.shape[1]
            self._current = np.pad(self._current, ((0, 0), (0, more)))
            self._waiting = np.ones(sets, dtype=bool)
        self._touched = False
        return np.arange(sets)

    def _held(self, rows: F8, apart: B1) -> CollateralHeld:
        """Return the collateral of every set by its terms; fill the row of what is held for the sets ``apart``."""
        arrays, agreed = self._directory.arrays, self._agreements
        sign, of = arrays["sign"], arrays["netting_set"]
        holdings = self.pledges.holdings(self._balances, sign, of, self._marks.asset_worth, self._haircut)
        assert holdings.received is not None
        received = np.where(holdings.received, holdings.value * (1.0 - holdings.haircut), 0.0)
        theirs = sum_by(holdings.netting_set, received, len(agreed.agreed))
        rows[1] = np.where(apart, theirs, rows[1])
        return collateral_held(holdings, len(agreed.agreed))

    def _haircut(self, netting_set: I8, place: I8, value: F8) -> F8:
        """Return the haircut of holdings: the agreement's, without a list its venue's or the asset's.

        What a list does not name counts nothing when received.
        """
        lending, arrays, rows = self._directory.lending, self._directory.arrays, self._balances.rows
        asset = rows["asset"][place]
        haircut: F8 = arrays["haircut"][asset]
        if lending is not None:
            venue, amount = arrays["venue"][rows["account"][place]], rows["amount"][place]
            haircut = 1.0 - lending.shares(venue, asset, amount, 1.0 - haircut)[0]
        agreed = self._agreements
        if len(agreed.eligible_haircut) == 1:  # no agreement lists anything
            return haircut
        listed = agreed.eligible_row[netting_set]
        theirs = agreed.eligible_haircut[listed, asset]
        refused = np.where(value > 0, 1.0, haircut)
        return np.where(listed < 0, haircut, np.where(np.isnan(theirs), refused, theirs))

    def _potential(self, at: I8, surplus: F8, values: AccountValues, as_of_us: int) -> tuple[F8, F8]:
        """Return the potential exposure of the sets ``at`` by their terms and as unmargined, shape (2, sets), and the
        smaller of their two add-ons; ``surplus`` is V - C.
        """
        agreed = self._agreements
        daily, by_terms = self._add_ons(at, values, as_of_us)
        margined, uncalled = agreed.margined[at], DAILY * daily[at]
        if not margined.any():
            potential = _potential_exposure(surplus, uncalled[None])
            return np.concatenate([potential, potential]), uncalled
        called = np.where(margined, formulas.margined_maturity_factor(agreed.period[at]) * by_terms[at], uncalled)
        both = np.stack([called, uncalled])
        return _potential_exposure(surplus, both), both.min(axis=0)

    def _near(self, at: I8) -> slice | I8:
        """Return the positions of the netting sets ``at``, or all: a gather costs several times what a pass does."""
        if GATHER_MIN * len(at) >= self._groups.sets:
            return slice(None)
        due = np.zeros(self._groups.sets, dtype=bool)
        due[at] = True
        return due[self._groups.set_of].nonzero()[0]

    def _add_ons(self, at: I8, values: AccountValues, as_of_us: int) -> tuple[F8, F8]:
        """Return the add-ons of the netting sets ``at``, at their places, as unmargined and by their terms.

        Both are without the maturity factor that a set has in common.
        """
        groups, bucket = self._groups, self._notionals.bucket(as_of_us)
        turned = self._notionals.turned(values.robust[0])
        isolated = self._isolated(at, turned, values)
        daily, by_terms = self._notionals.effective(turned, groups.joint, self._agreements.margined, as_of_us)
        whole = isolated + groups.add_ons(daily, bucket)
        return whole, whole if by_terms is daily else isolated + groups.add_ons(by_terms, bucket)

    def _isolated(self, at: I8, turned: F8, values: AccountValues) -> F8:
        """Return the add-ons of lone positions by netting set.

        Gross notionals by margin class are summed already; where a class has one supervisory factor, what is left of
        them without joint positions serves.
        """
        groups, rows = self._groups, self._positions.rows
        if values.by_class is None or self._class_factor is None:
            near = self._near(at)
            return sum_by(groups.set_of[near], np.abs(turned[near]) * groups.factor_of[near], groups.sets)
        shape = values.by_class.shape
        joint = sum_by(rows["bin"][groups.joint], values.robust[3][groups.joint], values.by_class.size)
        left, each = values.by_class - joint.reshape(shape), np.zeros(shape[0])
        for place, factor in enumerate(self._class_factor.tolist()):
            each += left[:, place] * factor
        return sum_by(self._directory.arrays["netting_set"], each, groups.sets)

    def _today(self, at: I8, surplus: F8, signed: F8, as_of_us: int) -> F8:
        """Return the potential exposure of the sets ``at`` at today's volatility, over margin period or a year."""
        volatility, groups, agreed = self.volatility.per_second(), self._groups, self._agreements
        if not volatility.any():
            return np.zeros(len(at))
        turned, near = self._notionals.turned(signed), self._near(at)
        underlying = self._directory.arrays["underlying"]
        known = underlying < len(volatility)
        each = np.where(known, volatility[np.where(known, underlying, 0)], 0.0)  # by instrument
        isolated = each[self._positions.rows["instrument"][near]]
        isolated *= turned[near]
        isolated *= groups.is_lone[near]
        joint = groups.net(turned[groups.joint]) * each[groups.instrument]
        of, of_joint, sets = groups.set_of[near], groups.netting_set, groups.sets
        shared = sum_by(of, isolated, sets) + sum_by(of_joint, joint, sets)
        own = sum_by(of, isolated * isolated, sets) + sum_by(of_joint, joint * joint, sets)
        days = margin_period_days(agreed.period[at], as_of_us, self._calendar)
        days = np.where(agreed.margined[at], days, UNMARGINED_DAYS)
        return potential_exposure(surplus, value_deviations(shared[at], own[at]), days)

    def _counterparties(self, rows: F8) -> F8:
        """Return what the counterparties add to their exposures: the sums of ``PARTY_CREDIT``, by counterparty."""
        owner, count = self._directory.arrays["netting_set_counterparty"], len(self._directory.counterparties)
        parties = np.zeros((len(PARTY_CREDIT), count))
        for place, row in enumerate((2, 3, 4)):
            parties[place] = sum_by(owner, rows[row], count)
        for owed in self.obligations.owed.values():
            number = self._directory.counterparties[owed.counterparty]
            parties[3, number] += owed.amount * self._marks.asset_worth.item(owed.asset)
        if rows[5].any():
            np.maximum.at(parties[4], owner, rows[5])
        return parties

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :func:`snapshot.pack`; all else follows from directory and positions."""
        return {
            "named": self.named,
            "pledges": self.pledges.snapshot(),
            "obligations": self.obligations.snapshot(),
            "volatility": self.volatility.snapshot(),
            "comovement": self.comovement.snapshot(),
            "touched": self._touched,
            "moved": self._moved,
            "standing": self._current.copy(),
            "waiting": self._waiting.nonzero()[0].tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.named = state["named"]
        self.pledges.restore(state["pledges"])
        self.obligations.restore(state["obligations"])
        self.volatility.restore(state["volatility"])
        self.comovement.restore(state["comovement"])
        self._touched, self._moved, self._current = state["touched"], state["moved"], state["standing"]
        self._waiting = np.zeros(self._current.shape[1], dtype=bool)
        self._waiting[state["waiting"]] = True
        self._known = -1


def _potential_exposure(surplus: F8, add_on: F8) -> F8:
    """Return potential exposures of add-ons, shape (cases, sets): the multiplier counts where V - C is negative."""
    potential = np.where(surplus >= 0, add_on, 0.0)
    case, at = ((surplus < 0) & (add_on > 0)).nonzero()
    part = add_on[case, at]
    potential[case, at] = formulas.pfe_multiplier(surplus[at], part) * part
    return potential


# Wrong-way risk: what is worth least exactly when the counterparty fails.
#
# A netting set is flagged with 1 where a balance in it, or the underlying of a position in it, is issued by its
# counterparty or by one of the same group, or promises to equal an asset that is (a stablecoin pegged to such a token
# falls with it). Otherwise with the correlation of its balances with what the counterparty or its group issued, the
# largest of them, from ``CORRELATED_MIN`` on (`ReturnCorrelations`).

NO_ISSUER = -1
CORRELATED_MIN: Final = 0.5  # our choice: a quarter of what moves one moves the other


class WrongWayRisk:
    """The issuers of assets and the groups of counterparties, as numbers that are equal where they are connected."""

    def __init__(self, directory: Directory, comovement: ReturnCorrelations) -> None:
        numbers: dict[str, int] = {}
        self._issuer = np.array([_issuer(directory, name, numbers) for name in directory.assets], dtype=np.int64)
        assets = [directory.assets.get(r.underlying or r.base, 0) for r in directory.instrument_records]
        self._underlying = self._issuer[np.array(assets, dtype=np.int64)]
        self._party = np.array([_connected(directory, n, numbers) for n in directory.counterparties], dtype=np.int64)
        self._rows, self._comovement = PositionSubset(), comovement
        self._number = np.array(
            [directory.underlyings.get(name, NO_ISSUER) for name in directory.assets], dtype=np.int64
        )
        issued = (self._issuer != NO_ISSUER) & (self._number != NO_ISSUER)
        self._issued = list(zip(self._number[issued].tolist(), self._issuer[issued].tolist(), strict=True))
        comovement.watch([number for number, _ in self._issued])
        self.possible = bool((self._issuer != NO_ISSUER).any())

    def flags(self, netting_set: I8, owner: I8, balances: Balances, positions: Positions) -> F8:
        """Return how strong the wrong-way risk of every netting set is, 0.0 for none to 1.0.

        Parameters
        ----------
        netting_set
            By account.
        owner
            By netting set: its counterparty.
        """
        flags = np.zeros(len(owner))
        if not self.possible:
            return flags
        held, rows = balances.rows, positions.rows
        of = netting_set[held["account"]]
        self._correlate(flags, of, owner, balances)
        flags[of[(self._issuer[held["asset"]] == self._party[owner[of]]) & (held["amount"] != 0)]] = 1.0
        at = self._rows.of(positions, self._underlying != NO_ISSUER)
        of = netting_set[rows["account"][at]]
        same = self._underlying[rows["instrument"][at]] == self._party[owner[of]]
        flags[of[same & (rows["units"][at] != 0)]] = 1.0
        return flags

    def _correlate(self, flags: F8, of: I8, owner: I8, balances: Balances) -> None:
        """Raise the flags of sets in which a balance moves with what their counterparty issued."""
        held = balances.rows
        found = self._comovement.found
        if found is None:
            found = self._comovement.correlations()
        number, party = self._number[held["asset"]], self._party[owner[of]]
        for proxy, issuer in self._issued:
            known = (number != NO_ISSUER) & (party == issuer) & (held["amount"] != 0)
            at = (known & (number < found.shape[1])).nonzero()[0]
            alike = found[self._comovement.proxies.index(proxy), number[at]]
            np.maximum.at(flags, of[at], np.where(alike >= CORRELATED_MIN, alike, 0.0))


def _issuer(directory: Directory, name: str, numbers: dict[str, int]) -> int:
    """Return the number of whoever issued an asset, or what it is pegged to; ``NO_ISSUER`` for none."""
    issuer = directory.issuer(name)
    return _connected(directory, issuer, numbers) if issuer else NO_ISSUER


def _connected(directory: Directory, counterparty: str, numbers: dict[str, int]) -> int:
    """Return one number for all counterparties of a group, and one each for those without."""
    record = directory.counterparty_records.get(counterparty)
    name = f"group {record.group}" if record is not None and record.group else counterparty
    return numbers.setdefault(name, len(numbers))
