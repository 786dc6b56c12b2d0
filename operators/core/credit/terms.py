"""The terms of the shard's netting sets as columns, in the reporting currency (``valuation/csa``)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.directory import Directory
from seawall.operators.core.saccr.saccr_parameters import margin_period_floor
from seawall.operators.core.valuation.csa import Terms
from seawall.schemas import events as ev

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
FLAGS: Final = ("margined", "they_post", "we_post")
AMOUNTS: Final = (
    "threshold",
    "minimum_transfer_amount",
    "our_threshold",
    "our_minimum_transfer_amount",
    "independent_amount",
    "rounding",
)


@dataclass(frozen=True, slots=True)
class Agreements:
    """Terms by netting set; ``currency`` is the asset that amounts are in, ``period`` the margin period in days.

    ``agreed`` marks sets with a record of their own; ``margined`` those in which they post variation margin; ``in_use``
    are the currencies in which any amount is not 0.
    ``eligible_haircut`` has a row for each set that lists what is eligible, at ``eligible_row`` (-1 for none), and a
    column per asset: its haircut, NaN where the list has it not.
    """

    flags: dict[str, B1]
    amounts: dict[str, F8]
    currency: I8
    period: F8
    agreed: B1
    enforceable: B1
    eligible_row: I8
    eligible_haircut: F8
    in_use: frozenset[int]

    @property
    def margined(self) -> B1:
        """Return which sets count as margined (CRE52.2: not those in which only we post)."""
        margined: B1 = self.flags["margined"] & self.flags["they_post"]
        return margined

    def at(self, asset_worth: F8) -> Terms:
        """Return the terms with amounts at today's rates; an amount in a currency without a rate counts 0."""
        rate = asset_worth[self.currency]
        margined, they_post, we_post = (self.flags[name] for name in FLAGS)
        amounts = (self.amounts[name] * rate for name in AMOUNTS) if (rate != 1.0).any() else self.amounts.values()
        return Terms(margined, they_post, we_post, *amounts)


def agreements(directory: Directory) -> Agreements:
    """Return the terms of every netting set that the directory numbers; the default terms where it has no record."""
    records = [directory.netting_set_records.get(name) for name in directory.netting_sets]
    sets = [record or ev.NettingSet(netting_set="-", counterparty="-") for record in records]
    amounts = {name: np.array([float(getattr(s, name)) for s in sets]) for name in AMOUNTS}
    currencies = [directory.assets[s.currency] if s.currency else 0 for s in sets]
    eligible_row, eligible_haircut = _eligible(directory, sets)
    return Agreements(
        flags={name: np.array([getattr(s, name) for s in sets], dtype=bool) for name in FLAGS},
        amounts=amounts,
        currency=np.array(currencies, dtype=np.int64),
        period=np.array([_period(s) for s in sets]),
        agreed=np.array([record is not None for record in records], dtype=bool),
        enforceable=np.array([s.enforceable for s in sets], dtype=bool),
        eligible_row=eligible_row,
        eligible_haircut=eligible_haircut,
        in_use=frozenset(currency for at, currency in enumerate(currencies) if any(a[at] for a in amounts.values())),
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
