"""Sensitivities of measures to prices, and the probability that a book's joint move crosses a level.

A forecast needs two things of a book: how far a measure is from its level, and the deviation of what moves it. Both are
linear in the moves of underlyings, so they are sums over rows.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import ForecastInputs, MeasureTable, sum_by

# Structural probability of first passage: that a book's joint move takes an account over a level at any time within a
# horizon.
#
# Health at a level L is ``L x equity - maintenance margin``, linear in the moves of underlyings for spot, linear and
# inverse contracts (``liquidation_distance``). Its standard deviation follows from forecast volatilities and one common
# factor: an underlying moves by ``rho`` with the market and by the rest alone, so a covariance always exists, however
# few the returns that it was learned from. The distance is health in units of that deviation, and the probability of
# first passage is twice that of ending beyond it (the reflection principle), with the tails of a
# Student t of four degrees of freedom.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
STUDENT_4_SCALE: Final = 1.4142135623730951  # a Student t of 4 degrees has a variance of 2
DISTANCE_MAX: Final = 400.0
DISTANCE_MIN: Final = 0.05


class SensitivityRows(NamedTuple):
    """Sensitivities, one row per account and underlying: gain of equity and of margin per move of 1."""

    account: I8
    underlying: I8
    gain: F8
    margin: F8


def sum_sensitivities(account: I8, underlying: I8, gain: F8, margin: F8) -> SensitivityRows:
    """Return rows added up by account and underlying, in order of both."""
    keys, member = np.unique((account << 32) | underlying, return_inverse=True)
    count = len(keys)
    sums = [np.bincount(member, part, count).astype(np.float64) for part in (gain, margin)]
    return SensitivityRows(keys >> 32, keys & 0xFFFFFFFF, sums[0], sums[1])


def health_deviation(held: SensitivityRows, level: float, volatility: F8, rho: F8, accounts: int) -> F8:
    """Return the standard deviation of each account's health at a level over a horizon.

    Parameters
    ----------
    volatility, rho : float64, shape (underlyings,)
        Over that horizon, as fractions; and the correlation with the common factor.
    """
    moved = (level * held.gain - held.margin) * volatility[held.underlying]
    shared = rho[held.underlying]
    common = np.bincount(held.account, moved * shared, accounts)
    alone = np.bincount(held.account, moved * moved * (1.0 - shared * shared), accounts)
    result: F8 = np.sqrt(common * common + alone)
    return result


def standardised_distance(health: F8, spread: F8) -> F8:
    """Return health in units of its deviation, held within bounds; far where nothing moves."""
    safe = np.where(spread > 0, spread, 1.0)
    units = np.where(spread > 0, health / safe, DISTANCE_MAX)
    return np.minimum(np.maximum(units, DISTANCE_MIN), DISTANCE_MAX)


# Sensitivities of measures to prices: gain of each scope's measure per move of 1 of each underlying.
#
# Measures that add up over what is held, and ratios of two of them:
#
# - accounts: ``equity``, ``unrealised_pnl``, ``gross_notional``, ``net_notional``, ``maintenance_margin``,
#   ``margin_ratio`` and ``leverage``;
# - netting sets: ``current_exposure``; counterparties: that, ``gross_notional``, ``net_notional``, ``pnl``;
# - firm, groups, underlyings, venues: ``gross_notional``, ``net_notional``, ``pnl``.
#
# An exposure of 0 has further to go than to its level: its gap counts from what the other side is owed. Through sets
# that are in our favour and others that are not, a counterparty's exposure moves as the sum of all.

FIRM_MEASURES: Final = ("gross_notional", "net_notional", "pnl")  # rows of what shards tell of scopes that span them
RATIO_PARTS: Final = {"margin_ratio": "maintenance_margin", "leverage": "gross_notional"}  # over equity


class LevelGap(NamedTuple):
    """Distance of each scope from a level, and what moves it.

    ``gap`` is what is left, above 0 on this side; ``scale`` what the whole way is; ``level`` times gain less margin of
    ``held`` (scopes in its column ``account``) is what a gap gains or loses per move.
    """

    gap: F8
    scale: F8
    level: float
    held: SensitivityRows


class Sensitivities:
    """Sensitivities of a shard's measures, each found once."""

    def __init__(self, book: ForecastInputs, tables: dict[str, MeasureTable]) -> None:
        self._book, self._tables = book, tables
        self._held: dict[tuple[str, str], SensitivityRows | None] = {}

    def gap(self, kind: str, measure: str, below: bool, bound: float) -> LevelGap | None:
        """Return the gap of every scope of a kind to a level of a measure, None for a measure that has none."""
        key = kind, measure
        if key not in self._held:
            self._held[key] = self._lean(kind, measure)
        held, table = self._held[key], self._tables[kind]
        if held is None:
            return None
        values = table.values[table.measures.index(measure)]
        if measure in RATIO_PARTS:
            part = table.values[table.measures.index(RATIO_PARTS[measure])]
            whole = bound * table.values[table.measures.index("equity")]
            return LevelGap(part - whole if below else whole - part, np.abs(whole), bound, held)
        if measure == "current_exposure":
            values = np.where(values > 0, values, np.minimum(self._surplus(kind), 0.0))
        return plain_gap(values, below, bound, held)

    def wide(self, kind: str) -> F8:
        """Return what a shard adds to the sensitivities of wider scopes, shape (FIRM_MEASURES, scopes, underlyings)."""
        book = self._book
        owned, under = book.owned, book.underlying[book.instrument]
        width = len(book.underlyings)
        scope, count = under, width
        if kind != "underlying":
            whole = np.zeros(len(owned.sign), dtype=np.int64), 1
            of, count = {"venue": (owned.venue, owned.venues), "group": (owned.group, owned.groups)}.get(kind, whole)
            scope = of[book.account]
        stake = owned.stake[book.account]
        inside = (scope < count).nonzero()[0]
        place = scope[inside] * width + under[inside]
        parts = (np.abs(book.signed), stake * book.signed, stake * book.gain)
        sums = [sum_by(place, part[inside], count * width).reshape(count, width) for part in parts]
        return np.stack(sums)

    def _lean(self, kind: str, measure: str) -> SensitivityRows | None:
        book, owned = self._book, self._book.owned
        gain = self._gain(kind, measure)
        if gain is None:
            return None
        of = {"account": np.arange(len(owned.sign)), "netting_set": owned.netting_set}.get(kind, owned.counterparty)
        margin = np.zeros(len(gain))
        if measure in RATIO_PARTS:
            margin = book.margin if measure == "margin_ratio" else np.abs(book.signed)
        return nonzero_sensitivities(
            of[book.account], book.underlying[book.instrument], gain, margin, len(book.underlyings)
        )

    def _gain(self, kind: str, measure: str) -> F8 | None:
        """Return what a measure gains per move by row of the book."""
        book, owned = self._book, self._book.owned
        sign, stake = owned.sign[book.account], owned.stake[book.account]
        size = np.abs(book.signed)
        if kind == "account":
            held = np.where(book.signed != 0.0, book.gain, 0.0)
            return {
                "equity": book.gain, "unrealised_pnl": held, "gross_notional": size, "net_notional": book.signed,
                "maintenance_margin": book.margin, "margin_ratio": book.gain, "leverage": book.gain,
            }.get(measure)  # fmt: skip
        if measure == "current_exposure":
            return sign * book.gain
        if kind == "netting_set":
            return None
        return {"gross_notional": size, "net_notional": stake * book.signed, "pnl": stake * book.gain}.get(measure)

    def _surplus(self, kind: str) -> F8:
        """Return what each scope owes us above what it has with us, below 0 where we owe it."""
        owned, table = self._book.owned, self._tables["account"]
        of = owned.netting_set if kind == "netting_set" else owned.counterparty
        equity = table.values[table.measures.index("equity")]
        return sum_by(of, owned.sign * equity, self._tables[kind].values.shape[1])


def plain_gap(values: F8, below: bool, bound: float, held: SensitivityRows) -> LevelGap:
    """Return the gap of a measure that is a plain sum to a level."""
    return LevelGap(values - bound if below else bound - values, np.maximum(np.abs(values), abs(bound)), 1.0, held)


def nonzero_sensitivities(scope: I8, underlying: I8, gain: F8, margin: F8, underlyings: int) -> SensitivityRows:
    """Return rows added up by scope and underlying, in order of both; those that are 0 left out."""
    place = scope * underlyings + underlying
    count = (int(place.max()) + 1) if len(place) else 0
    sums = [sum_by(place, part, count) for part in (gain, margin)]
    at = ((sums[0] != 0.0) | (sums[1] != 0.0)).nonzero()[0]
    width = max(underlyings, 1)
    return SensitivityRows(at // width, at % width, sums[0][at], sums[1][at])


def sensitivities_of_matrix(matrix: F8) -> SensitivityRows:
    """Return the sensitivities of one measure, shape (scopes, underlyings), as rows."""
    scope, underlying = matrix.nonzero()
    return SensitivityRows(scope, underlying, matrix[scope, underlying], np.zeros(len(scope)))
