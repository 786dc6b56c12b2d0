"""Which supervisory risk factor each instrument stands on: class, hedging set, factor, correlation (CRE52.72).

The class of an underlying is its asset's ``sa_ccr_class``; without one a currency is ``FX``, a security ``EQ`` and
everything else ``CRYPTO``. A crypto asset and a currency pair are hedging sets by pair; a stablecoin stands for its peg
there, so that a contract on BTC/USDT and one on BTC/USD offset each other.

Within a hedging set the add-on is ``sqrt((sum r A)^2 + sum (1 - r^2) A^2)`` over its entities with ``A = SF x D``.
A pair is a set of one entity with ``r = 1``, which makes that ``|A|``: one formula serves every class but interest
rates, whose three maturity buckets have their own (CRE52.57).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.directory import Directory
from seawall.operators.core.saccr.saccr_parameters import SUPERVISORY, CryptoRegime, Supervisory
from seawall.schemas import events as ev

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
DEFAULT_CLASSES: Final = {"fiat": "FX", "security": "EQ"}
COMMODITY_SETS: Final = {"ELECTRICITY": "ENERGY"}  # one hedging set, two factors
YEAR_DAYS: Final = 365.0


@dataclass(frozen=True, slots=True)
class Factors:
    """By instrument: numbers of entity and hedging set, and the supervisory figures of each; ``rates`` marks IR."""

    entity: I8
    hedging_set: I8
    factor: F8
    correlation: F8
    volatility: F8
    rates: B1


def factors(directory: Directory, regime: CryptoRegime) -> Factors:
    """Return the risk factor of every instrument, by number."""
    entities: dict[tuple[str, ...], int] = {}
    sets: dict[tuple[str, ...], int] = {}
    rows: list[tuple[int, int, float, float, float, bool]] = []
    for record in directory.instrument_records:
        asset_class, subclass, names = _place(directory, record)
        figures = _figures(asset_class, subclass, regime)
        entity, hedging = names
        paired = asset_class in ("FX", "CRYPTO")
        rows.append((
            entities.setdefault((asset_class, *entity), len(entities)),
            sets.setdefault((asset_class, *hedging), len(sets)),
            figures.factor,
            1.0 if paired else figures.correlation,
            figures.volatility,
            asset_class == "IR",
        ))  # fmt: skip
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    kinds = (np.int64, np.int64, np.float64, np.float64, np.float64, np.bool_)
    return Factors(*(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)))


def class_of(directory: Directory, name: str) -> tuple[str, str]:
    """Return class and subclass of an asset as a risk factor.

    Examples
    --------
    >>> class_of(Directory(0, 1, "USD"), "BTC")
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
    asset_class, subclass = class_of(directory, underlying)
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


def _figures(asset_class: str, subclass: str, regime: CryptoRegime) -> Supervisory:
    if asset_class == "CRYPTO":
        return regime.parameters
    return SUPERVISORY[asset_class, subclass if asset_class not in ("FX", "IR") else ""]
