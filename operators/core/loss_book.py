"""The book of a shard as losses see it: who holds how much of what, and what that depends on.

Positions count at the marks across venues, as P&L does; what a position cost counts where its settlement asset moves,
and so does a balance of such an asset. Stablecoins stand still in history and move in stress scenarios.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.directory import Directory
from seawall.operators.core.frames import Factors, LossBook
from seawall.operators.core.ledger import Ledger
from seawall.operators.core.options import OptionSheet
from seawall.operators.core.valuation.options import years_to_expiry

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
LINEAR, INVERSE, OPTION, ASSET = range(4)
STILL: Final = -1
VOLATILITY_UNKNOWN: Final = 1.5  # of an option that has none: the supervisory one of crypto (OSFI)
FORWARD, VOLATILITY, STRIKE, YEARS, CALL, COIN, RATE, SCALE = range(8)


class LossBooks:
    """Makes loss books; keeps what follows from the directory until that changes."""

    def __init__(self) -> None:
        self._known: tuple[int, int] = (-1, -1)
        self._factors: Factors

    def of(self, ledger: Ledger, as_of_us: int) -> LossBook:
        """Return the book as it was last measured."""
        directory, arrays = ledger.directory, ledger.directory.arrays
        if self._known != (directory.version, len(directory.assets)):
            self._known, self._factors = (directory.version, len(directory.assets)), factors_of(directory, ledger.sheet)
        party, factor, amount, unpriced = _rows(ledger, self._factors)
        at = (amount != 0.0).nonzero()[0]
        at = at[np.argsort(party[at], kind="stable")]
        bare = np.bincount(party[unpriced], minlength=len(directory.counterparties)) > 0
        options = option_columns(ledger, as_of_us)
        names = list(directory.counterparty_names)
        return LossBook(party[at], factor[at], amount[at], names, arrays["counterparty"], bare, self._factors, options)


def _rows(ledger: Ledger, factors: Factors) -> tuple[I8, I8, F8, I8]:
    """Return counterparty, factor and amount of every row, and the rows without a price."""
    directory, rows, balances = ledger.directory, ledger.positions.rows, ledger.balances.rows
    arrays, (_, held, spent, _) = ledger.directory.arrays, ledger.robust()
    stake, of = arrays["stake"], arrays["counterparty"]
    number, owner = rows["instrument"], rows["account"]
    kind = factors.kind[number]
    counted = np.where(kind == OPTION, rows["size"], held)
    settled = arrays["settlement"][number]
    moving = (factors.coin[number] != STILL) | factors.coin_stable[number]
    worth = balances["amount"] * ledger.marks.asset_worth[balances["asset"]]
    assets = len(directory.instrument_records) + balances["asset"]
    matters = (factors.driver[assets] != STILL) | factors.stable[assets]
    account = np.concatenate([owner, owner, balances["account"]])
    amount = np.concatenate([counted, np.where(moving, -spent, 0.0), np.where(matters, worth, 0.0)])
    bare = (rows["units"] != 0) & (held == 0.0)
    if directory.has_option:
        unvalued = np.zeros(len(directory.instrument_records), dtype=bool)
        terms, sheet = ledger.sheet.terms, ledger.sheet
        unvalued[terms.instrument] = ~(np.isfinite(sheet.volatilities()) & np.isfinite(sheet.forwards()))
        bare |= (rows["units"] != 0) & unvalued[number]
    poor = (balances["amount"] != 0.0) & np.isnan(ledger.marks.asset_prices[balances["asset"]])
    factor = np.concatenate([number, len(directory.instrument_records) + settled, assets])
    unpriced = np.concatenate([bare, np.zeros(len(bare), dtype=bool), poor]).nonzero()[0]
    return of[account], factor, stake[account] * amount, unpriced


def factors_of(directory: Directory, sheet: OptionSheet) -> Factors:
    """Return the factors of a directory: its instruments, then its assets."""
    arrays, records, assets = directory.arrays, directory.instrument_records, list(directory.assets)
    first = _first(arrays["base"], len(assets), ~arrays["option"])
    moves = arrays["moves"]
    own = np.where(moves, first, STILL)
    stable = np.array([_is_stable(directory, name) for name in assets], dtype=bool)
    settled, none = arrays["settlement"], np.full(len(assets), STILL)
    driver = np.where(arrays["option"], _forwards(directory, sheet), np.arange(len(records)))
    kind = np.where(arrays["option"], OPTION, np.where(arrays["inverse"], INVERSE, LINEAR))
    underlyings = list(directory.underlyings)
    return Factors(
        np.concatenate([driver, own]),
        np.concatenate([own[settled], none]),
        np.concatenate([kind, np.full(len(assets), ASSET)]),
        np.concatenate([np.zeros(len(records), dtype=bool), stable]),
        np.concatenate([stable[settled], np.zeros(len(assets), dtype=bool)]),
        [underlyings[at] for at in arrays["underlying"].tolist()] + assets,
        [assets[at] for at in settled.tolist()] + [""] * len(assets),
    )


def _forwards(directory: Directory, sheet: OptionSheet) -> I8:
    """Return the forward of each option, the first other instrument on its underlying, or itself where neither is."""
    arrays = directory.arrays
    first = _first(arrays["underlying"], len(directory.underlyings), ~arrays["option"])
    found = first[arrays["underlying"]]
    terms = sheet.terms
    found[terms.instrument] = np.where(terms.forward >= 0, terms.forward, found[terms.instrument])
    return np.where(found >= 0, found, np.arange(len(found)))


def _first(of: I8, count: int, wanted: NDArray[np.bool_]) -> I8:
    """Return the first wanted row of each number, -1 where there is none."""
    found = np.full(count, STILL, dtype=np.int64)
    rows = wanted.nonzero()[0][::-1]
    found[of[rows]] = rows  # of several the last assignment stays: the lowest row
    return found


def _is_stable(directory: Directory, name: str) -> bool:
    record = directory.asset_records.get(name)
    return record is not None and record.asset_class == "stablecoin" and name != directory.currency


def option_columns(ledger: Ledger, as_of_us: int) -> F8:
    """Return what revaluing options takes, shape (8, instruments): forward, volatility, strike, years, call, coin, rate
    and what a unit of its value is worth in the reporting currency. Zeros for other kinds.

    An option without a forward counts with its strike, one without a volatility with the supervisory one.
    """
    directory, sheet = ledger.directory, ledger.sheet
    found = np.zeros((8, len(directory.instrument_records)))
    if not directory.has_option:
        return found
    terms, arrays, number = sheet.terms, directory.arrays, sheet.terms.instrument
    forward, volatility = sheet.forwards(), sheet.volatilities()
    worth = ledger.marks.asset_worth[arrays["settlement"][number]]
    found[:, number] = np.stack(
        [
            np.where(np.isfinite(forward), forward, terms.strike),
            np.where(np.isfinite(volatility), volatility, VOLATILITY_UNKNOWN),
            terms.strike,
            years_to_expiry(terms.expiry_us, as_of_us),
            terms.call.astype(np.float64),
            terms.coin.astype(np.float64),
            terms.rate,
            arrays["size"][number] * worth,
        ]
    )
    return found
