"""How measures lean on prices: what each scope's measure gains per move of 1 of each underlying.

Measures that add up over what is held, and ratios of two of them:

- accounts: ``equity``, ``unrealised_pnl``, ``gross_notional``, ``net_notional``, ``maintenance_margin``,
  ``margin_ratio`` and ``leverage``;
- netting sets: ``current_exposure``; counterparties: that, ``gross_notional``, ``net_notional``, ``pnl``;
- firm, groups, underlyings, venues: ``gross_notional``, ``net_notional``, ``pnl``.

An exposure of 0 has further to go than to its level: its gap counts from what the other side is owed. Through sets that
are in our favour and others that are not, a counterparty's exposure leans as the sum of all.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import sum_by
from seawall.operators.core.foresight.passage import Exposed
from seawall.operators.core.frames import Holdings, Table

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
WIDE: Final = ("gross_notional", "net_notional", "pnl")  # rows of what shards tell of scopes that span them
RATIOS: Final = {"margin_ratio": "maintenance_margin", "leverage": "gross_notional"}  # over equity


class Gap(NamedTuple):
    """How far each scope is from a level, and what moves it.

    ``gap`` is what is left, above 0 on this side; ``scale`` what the whole way is; ``level`` times gain less margin of
    ``held`` (scopes in its column ``account``) is what a gap gains or loses per move.
    """

    gap: F8
    scale: F8
    level: float
    held: Exposed


class Leanings:
    """What a shard's measures lean on, each found once."""

    def __init__(self, book: Holdings, tables: dict[str, Table]) -> None:
        self._book, self._tables = book, tables
        self._held: dict[tuple[str, str], Exposed | None] = {}

    def gap(self, kind: str, measure: str, below: bool, bound: float) -> Gap | None:
        """Return the gap of every scope of a kind to a level of a measure, None for a measure that has none."""
        key = kind, measure
        if key not in self._held:
            self._held[key] = self._lean(kind, measure)
        held, table = self._held[key], self._tables[kind]
        if held is None:
            return None
        values = table.values[table.measures.index(measure)]
        if measure in RATIOS:
            part = table.values[table.measures.index(RATIOS[measure])]
            whole = bound * table.values[table.measures.index("equity")]
            return Gap(part - whole if below else whole - part, np.abs(whole), bound, held)
        if measure == "current_exposure":
            values = np.where(values > 0, values, np.minimum(self._surplus(kind), 0.0))
        return plain_gap(values, below, bound, held)

    def wide(self, kind: str) -> F8:
        """Return what a shard adds to the leanings of scopes that span shards, shape (WIDE, scopes, underlyings)."""
        book = self._book
        owned, under = book.owned, book.underlying[book.instrument]
        width = len(book.underlyings)
        scope, count = under, width
        if kind != "underlying":
            whole = np.zeros(len(owned.sign), dtype=np.int64), 1
            of, count = {"venue": (owned.venue, owned.venues), "group": (owned.group, owned.groups)}.get(kind, whole)
            scope = of[book.account]
        sign, stake = owned.sign[book.account], owned.stake[book.account]
        inside = (scope < count).nonzero()[0]
        place = scope[inside] * width + under[inside]
        parts = (np.abs(book.signed), sign * book.signed, stake * book.gain)
        sums = [sum_by(place, part[inside], count * width).reshape(count, width) for part in parts]
        return np.stack(sums)

    def _lean(self, kind: str, measure: str) -> Exposed | None:
        book, owned = self._book, self._book.owned
        gain = self._gain(kind, measure)
        if gain is None:
            return None
        of = {"account": np.arange(len(owned.sign)), "netting_set": owned.netting_set}.get(kind, owned.counterparty)
        margin = np.zeros(len(gain))
        if measure in RATIOS:
            margin = book.margin if measure == "margin_ratio" else np.abs(book.signed)
        return gathered(of[book.account], book.underlying[book.instrument], gain, margin, len(book.underlyings))

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
        return {"gross_notional": size, "net_notional": sign * book.signed, "pnl": stake * book.gain}.get(measure)

    def _surplus(self, kind: str) -> F8:
        """Return what each scope owes us above what it has with us, below 0 where we owe it."""
        owned, table = self._book.owned, self._tables["account"]
        of = owned.netting_set if kind == "netting_set" else owned.counterparty
        equity = table.values[table.measures.index("equity")]
        return sum_by(of, owned.sign * equity, self._tables[kind].values.shape[1])


def plain_gap(values: F8, below: bool, bound: float, held: Exposed) -> Gap:
    """Return the gap of a measure that is a plain sum to a level."""
    return Gap(values - bound if below else bound - values, np.maximum(np.abs(values), abs(bound)), 1.0, held)


def gathered(scope: I8, underlying: I8, gain: F8, margin: F8, underlyings: int) -> Exposed:
    """Return rows added up by scope and underlying, in order of both; those that are 0 left out."""
    place = scope * underlyings + underlying
    count = (int(place.max()) + 1) if len(place) else 0
    sums = [sum_by(place, part, count) for part in (gain, margin)]
    at = ((sums[0] != 0.0) | (sums[1] != 0.0)).nonzero()[0]
    width = max(underlyings, 1)
    return Exposed(at // width, at % width, sums[0][at], sums[1][at])


def of_matrix(leaning: F8) -> Exposed:
    """Return the leanings of one measure, shape (scopes, underlyings), as rows."""
    scope, underlying = leaning.nonzero()
    return Exposed(scope, underlying, leaning[scope, underlying], np.zeros(len(scope)))
