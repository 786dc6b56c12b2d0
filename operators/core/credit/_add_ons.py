"""Trades of SA-CCR from the positions of a book: risk factors, effective notionals, and what nets (CRE52.30-52.73).

What follows from trades is `_saccr_formulas`, which the documents of ``seawall saccr`` go through too.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import sum_by
from seawall.operators.core.credit import _saccr_formulas as formulas
from seawall.operators.core.credit._saccr_formulas import HedgingSets, supervisory_row
from seawall.operators.core.credit._saccr_inputs import BUSINESS_DAYS_PER_YEAR, MATURITY_FLOOR_DAYS, CryptoRegime
from seawall.operators.core.holdings import Directory, KeyNumbers, Positions
from seawall.operators.core.pricing import MICROSECONDS_PER_YEAR, Marks, OptionSheet, years_to_expiry
from seawall.schemas import events as ev

# Supervisory risk factors of instruments: class, hedging set, factor, correlation (CRE52.72).
#
# The class of an underlying is its asset's ``sa_ccr_class``; without one a currency is ``FX``, a security ``EQ`` and
# everything else ``CRYPTO``. A crypto asset and a currency pair are hedging sets by pair; a stablecoin stands for its
# peg there, so that a contract on BTC/USDT and one on BTC/USD offset each other.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
DEFAULT_CLASSES: Final = {"fiat": "FX", "security": "EQ"}
COMMODITY_SETS: Final = {"ELECTRICITY": "ENERGY"}  # one hedging set, two factors
YEAR_DAYS: Final = 365.0


@dataclass(frozen=True, slots=True)
class SupervisoryFactors:
    """By instrument: numbers of entity and hedging set, and the supervisory figures of each.

    ``rates`` marks interest rates, ``long`` what has a supervisory duration: rates and credit (CRE52.34); ``alone``
    what is the one entity of its hedging set.
    """

    entity: I8
    hedging_set: I8
    factor: F8
    correlation: F8
    volatility: F8
    rates: B1
    long: B1
    alone: B1


def supervisory_factors(directory: Directory, regime: CryptoRegime) -> SupervisoryFactors:
    """Return the risk factor of every instrument, by number."""
    entities: dict[tuple[str, ...], int] = {}
    sets: dict[tuple[str, ...], int] = {}
    rows: list[tuple[int, int, float, float, float, bool, bool, bool]] = []
    for record in directory.instrument_records:
        asset_class, subclass, (entity, hedging) = _place(directory, record)
        figures = supervisory_row(asset_class, subclass, regime)
        rows.append((
            entities.setdefault((asset_class, *entity), len(entities)),
            sets.setdefault((asset_class, *hedging), len(sets)),
            figures.factor,
            figures.correlation,
            figures.volatility,
            asset_class == "IR",
            asset_class in ("IR", "CR"),
            asset_class in ("FX", "CRYPTO"),
        ))  # fmt: skip
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    kinds = (np.int64, np.int64, np.float64, np.float64, np.float64, np.bool_, np.bool_, np.bool_)
    return SupervisoryFactors(*(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)))


def underlying_class(directory: Directory, name: str) -> tuple[str, str]:
    """Return class and subclass of an asset as a risk factor.

    Examples
    --------
    >>> underlying_class(Directory(0, 1, "USD"), "BTC")
    ('CRYPTO', '')
    """
    record = directory.asset_records.get(name)
    if record is not None and record.sa_ccr_class:
        asset_class, _, subclass = record.sa_ccr_class.upper().partition("_")
        return asset_class, subclass
    if name == directory.currency:
        return "FX", ""
    return DEFAULT_CLASSES.get(record.asset_class if record is not None else "coin", "CRYPTO"), ""


def _place(directory: Directory, record: ev.Instrument) -> tuple[str, str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return class, subclass, and the names of entity and hedging set of an instrument."""
    underlying = record.underlying or record.base
    asset_class, subclass = underlying_class(directory, underlying)
    if asset_class in ("FX", "CRYPTO"):
        pair = (underlying, _pegged(directory, record.quote))
        return asset_class, subclass, (pair, pair)
    if asset_class == "CO":
        commodity = subclass or "OTHER"
        return asset_class, commodity, ((underlying,), (COMMODITY_SETS.get(commodity, commodity),))
    if asset_class == "IR":
        return asset_class, subclass, ((underlying, record.instrument), (record.quote,))
    return asset_class, subclass or ("SN" if asset_class == "EQ" else "BBB"), ((underlying,), ())


def _pegged(directory: Directory, name: str) -> str:
    record = directory.asset_records.get(name)
    return record.peg if record is not None and record.asset_class == "stablecoin" and record.peg else name


# Effective notionals of positions and the price of every underlying, as SA-CCR and its neighbours take them.

DAILY: Final = float(formulas.maturity_factor(0.0))  # of contracts that are settled every day (CRE52.32 FAQ 1)
YEARS_MIN: Final = MATURITY_FLOOR_DAYS / BUSINESS_DAYS_PER_YEAR


class EffectiveNotionals:
    """Effective notionals and what else depends on directory and book; made again when either is numbered anew."""

    def __init__(
        self, directory: Directory, positions: Positions, sheet: OptionSheet, factors: SupervisoryFactors
    ) -> None:
        self._directory, self._positions, self._sheet, self._factors = directory, positions, sheet, factors
        records = directory.instrument_records
        self._expiry_us = np.array([r.expires_us for r in records], dtype=np.int64)
        arrays = directory.arrays
        sets = arrays["netting_set"]
        houses = np.bincount(sets, arrays["sign"] > 0, len(directory.netting_sets))
        total = np.bincount(sets, minlength=len(directory.netting_sets))
        self._mixed = bool(((houses > 0) & (houses < total)).any())
        self._dated = dated_bilateral(directory)
        self._marked = _representatives(directory)

    def prices(self, marks: Marks) -> F8:
        """Return the mark of every underlying, by number: its spot's, or the first contract's on it; NaN for none."""
        prices = marks.rows["price"][marks.across()[np.maximum(self._marked, 0)]]
        return np.where(self._marked >= 0, prices, np.nan)

    def _years(self, as_of_us: int) -> F8:
        """Return the years to the expiry of every instrument, 0 past it and for those without one."""
        years: F8 = np.maximum(self._expiry_us - as_of_us, 0) / MICROSECONDS_PER_YEAR
        return years

    def bucket(self, as_of_us: int) -> I8 | None:
        """Return the maturity bucket of every instrument where any is of interest rates (CRE52.57)."""
        return formulas.maturity_bucket(self._years(as_of_us)) if self._factors.rates.any() else None

    def turned(self, signed: F8) -> F8:
        """Return signed notionals of positions from our side, or all of them turned where no set has both sides."""
        return signed * self._directory.arrays["sign"][self._positions.rows["account"]] if self._mixed else signed

    def effective(self, turned: F8, rows: I8, margined: B1, as_of_us: int) -> tuple[F8, F8]:
        """Return the effective notionals of positions as unmargined and by the terms of their sets.

        Neither has the maturity factor common to a set: that of daily settlement, or of the margin period where the set
        is ``margined``. Options have their supervisory delta. Options, and contracts with an expiry that nobody settles
        every day (`dated_bilateral`), have their own maturity where their set is not margined; only in that the two
        differ, so without any they are one array.

        Parameters
        ----------
        turned
            By position: signed notional, of :meth:`turned`.
        rows
            The positions wanted.
        """
        effective = turned[rows]
        account, number = (self._positions.rows[name][rows] for name in ("account", "instrument"))
        if self._factors.long.any():
            years = self._years(as_of_us)
            duration = np.where(self._factors.long, formulas.supervisory_duration(0.0, years), 1.0)
            effective = effective * duration[number]
        by_terms = effective
        dated = None if self._dated is None else self._dated[0][account] & self._dated[1][number]
        if dated is not None and dated.any():
            longer = formulas.maturity_factor(self._years(as_of_us)) / DAILY
            of_set = self._directory.arrays["netting_set"][account]
            by_terms = effective * np.where(dated & ~margined[of_set], longer[number], 1.0)
            effective = effective * np.where(dated, longer[number], 1.0)
        if not self._directory.has_option:
            return effective, by_terms
        at = self._directory.arrays["option"][number].nonzero()[0]
        option, account = self._sheet.terms.row[number[at]], account[at]
        delta, ratio = self._figures()
        units = self._positions.rows["size"][rows[at]] * (self._sheet.scale() * self._sheet.greeks[3] * delta)[option]
        sign = self._directory.arrays["sign"][account] if self._mixed else 1.0
        of_set = self._directory.arrays["netting_set"][account]
        by_terms, effective = by_terms.copy(), effective.copy()
        effective[at] = units * ratio[option] * sign
        by_terms[at] = units * np.where(margined[of_set], 1.0, ratio[option]) * sign
        return effective, by_terms

    def _figures(self) -> tuple[F8, F8]:
        """Return, by option, the supervisory delta of a bought one and its maturity factor over that of a day."""
        terms, priced, greeks = self._sheet.terms, self._sheet.priced, self._sheet.greeks
        left = years_to_expiry(terms.expiry_us, priced["us"])
        forward = np.where(greeks[3] > 0, greeks[3], terms.strike)
        volatility = self._factors.volatility[terms.instrument]
        delta = formulas.option_delta(forward, terms.strike, volatility, np.maximum(left, YEARS_MIN), terms.call, True)
        return delta, formulas.maturity_factor(left) / DAILY


def dated_bilateral(directory: Directory) -> tuple[B1, B1] | None:
    """Return which own accounts are no venue's, and which instruments have an expiry and are no options.

    A position in one of these by one of those is a bilateral trade, whose maturity is its own (CRE52.48); what a venue
    settles every day has the smallest (CRE52.32 FAQ 1). None where there can be no such position.
    """
    parties, records = directory.counterparty_records, directory.instrument_records
    owners = (parties.get(directory.account_records[number].counterparty) for number in directory.own)
    bilateral = np.array([party is None or party.role != "venue" for party in owners], dtype=bool)
    dated = np.array([bool(r.expires_us) and r.kind != "option" for r in records], dtype=bool)
    return (bilateral, dated) if bilateral.any() and dated.any() else None


def _representatives(directory: Directory) -> I8:
    """Return by underlying the instrument whose mark is its price, -1 for none: spot first, then the first contract."""
    found = np.full(len(directory.underlyings), -1, dtype=np.int64)
    spots = set[str]()
    for number, record in enumerate(directory.instrument_records):
        name = record.underlying or record.base
        at = directory.underlyings.get(name)
        if at is None or record.kind == "option":
            continue
        if found[at] < 0 or (record.kind == "spot" and name not in spots):
            found[at] = number
        if record.kind == "spot":
            spots.add(name)
    return found


# SA-CCR add-ons of a whole book: one pass over positions, one over what nets, one over netting sets (CRE52.30-52.73).
#
# 1. Every position belongs to a *group*, which nets fully: its netting set and the entity its instrument stands on. In
#    a set that is not enforceable every position is a group of its own.
# 2. The effective notional of a group is the sum of its positions'; ``A`` is that times the supervisory factor.
# 3. Groups are the entities of `HedgingSets`; hedging sets of one netting set add up plainly.
#
# Most positions are *lone*: linear, settled daily, alone in their group, of a class with one entity a set. Their
# add-on is the size of their notional times their factor, so that one sum over positions serves; all others are *joint*
# and take the whole way. Groups are numbered in order of their first position, which makes the sums those of the
# journal. They follow from positions and directory and are no state.

LONE_POSITION = 1 << 60  # keys of positions that net with nothing


class NettingGroups:
    """Groups of positions that net with each other, and the risk factor of each.

    Attributes
    ----------
    set_of, is_lone, factor_of
        By position: its netting set; 1.0 and its supervisory factor if it is lone, otherwise 0.
    joint, joint_of
        The rows of joint positions, and the group of each, numbered among groups of joint positions.
    netting_set, instrument
        By group of joint positions: its set, and an instrument that stands for it.
    """

    def __init__(self, factors: SupervisoryFactors, directory: Directory, enforceable: B1) -> None:
        arrays = directory.arrays
        self._factors, self._netting_set, self._enforceable = factors, arrays["netting_set"], enforceable
        self.sets, self._dated = len(directory.netting_sets), dated_bilateral(directory)
        self._may_be_isolated = factors.alone & ~arrays["option"]
        self._own_maturity = np.zeros(0, dtype=bool)
        self._numbers = KeyNumbers()
        self._of, self._group_set, self._group_instrument = (np.zeros(0, dtype=np.int64) for _ in range(3))
        self.set_of: I8 = np.zeros(0, dtype=np.int64)
        self._epoch = -1
        self._split(np.zeros(0, dtype=np.int64))

    def fits(self, positions: Positions) -> bool:
        """Tell whether the groups are of these positions, of which more may have come since."""
        return self._epoch in (-1, positions.epoch)

    def extend(self, positions: Positions) -> None:
        """Take the positions that came since the last call."""
        rows, first = positions.rows, len(self._of)
        self._epoch = positions.epoch
        if rows.size == first:
            return
        instrument = rows["instrument"][first:]
        of_set = self._netting_set[rows["account"][first:]]
        keys = np.where(
            self._enforceable[of_set],
            (of_set << 24) | self._factors.entity[instrument],
            LONE_POSITION | np.arange(first, rows.size),
        )
        group, new = self._numbers.take(keys)
        self._of = np.concatenate([self._of, group])
        self._group_set = np.concatenate([self._group_set, of_set[new]])
        self._group_instrument = np.concatenate([self._group_instrument, instrument[new]])
        self.set_of = np.concatenate([self.set_of, of_set])
        if self._dated is None:
            more = np.zeros(len(instrument), dtype=bool)
        else:
            more = self._dated[0][rows["account"][first:]] & self._dated[1][instrument]
        self._own_maturity = np.concatenate([self._own_maturity, more])
        self._split(rows["instrument"])

    def _split(self, instrument: I8) -> None:
        """Tell lone positions from joint ones; derive the columns by group of the latter and by hedging set."""
        figures = self._factors
        own_maturity = np.bincount(self._of, self._own_maturity) > 0
        joint = (np.bincount(self._of) > 1) | ~self._may_be_isolated[self._group_instrument] | own_maturity
        isolated = ~joint[self._of]
        self.is_lone = isolated.astype(np.float64)
        self.factor_of = np.where(isolated, figures.factor[instrument], 0.0)
        self.joint = np.flatnonzero(~isolated)
        self.joint_of = (joint.cumsum() - 1)[self._of[self.joint]]
        self.netting_set, self.instrument = self._group_set[joint], self._group_instrument[joint]
        cells, rates = self.netting_set << 24 | figures.hedging_set[self.instrument], figures.rates[self.instrument]
        cell = first = np.arange(len(cells))
        if not figures.alone[self.instrument].all():
            cells = np.where(self._enforceable[self.netting_set], cells, LONE_POSITION | cell)
            _, first, cell = np.unique(cells, return_index=True, return_inverse=True)
        self._cell_set = self.netting_set[first]
        factor, correlation = figures.factor[self.instrument], figures.correlation[self.instrument]
        self._hedging_sets = HedgingSets(cell, factor, correlation, rates[first])

    def class_factors(self, margin_class: I8, classes: int) -> F8 | None:
        """Return the supervisory factor that lone positions of each margin class have; None where one has several.

        ``margin_class`` is by instrument.
        """
        may = self._may_be_isolated
        least, most = np.full(classes, np.inf), np.zeros(classes)
        np.minimum.at(least, margin_class[may], self._factors.factor[may])
        np.maximum.at(most, margin_class[may], self._factors.factor[may])
        return most if bool(((least == most) | (most == 0.0)).all()) else None

    def net(self, amounts: F8) -> F8:
        """Return the sum of amounts by joint position of each of their groups."""
        return sum_by(self.joint_of, amounts, len(self.netting_set))

    def add_ons(self, effective: F8, bucket: I8 | None) -> F8:
        """Return what joint positions add to each netting set, without the maturity factor that it has in common.

        Parameters
        ----------
        effective
            By joint position: effective notional, in the reporting currency, either sign.
        bucket
            By instrument: its maturity bucket, where any is of interest rates.
        """
        if not len(self.joint):
            return np.zeros(self.sets)
        bucket = bucket if bucket is None else bucket[self.instrument]
        return sum_by(self._cell_set, self._hedging_sets.add_ons(self.net(effective), bucket), self.sets)
