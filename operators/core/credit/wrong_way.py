"""Wrong-way risk: what is worth least exactly when the counterparty fails.

A netting set is flagged with 1 where a balance in it, or the underlying of a position in it, is issued by its
counterparty or by one of the same group, or promises to equal an asset that is (a stablecoin pegged to such a token
falls with it). Otherwise with the correlation of its balances with what the counterparty or its group issued, the
largest of them, from ``CORRELATED_MIN`` on (``comovement``).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.book import Balances, Chosen, Positions
from seawall.operators.core.credit.comovement import Comovement
from seawall.operators.core.directory import Directory

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
NOBODY = -1
CORRELATED_MIN: Final = 0.5  # our choice: a quarter of what moves one moves the other


class WrongWay:
    """The issuers of assets and the groups of counterparties, as numbers that are equal where they are connected."""

    def __init__(self, directory: Directory, comovement: Comovement) -> None:
        numbers: dict[str, int] = {}
        self._issuer = np.array([_issuer(directory, name, numbers) for name in directory.assets], dtype=np.int64)
        assets = [directory.assets.get(r.underlying or r.base, 0) for r in directory.instrument_records]
        self._underlying = self._issuer[np.array(assets, dtype=np.int64)]
        self._party = np.array([_connected(directory, n, numbers) for n in directory.counterparties], dtype=np.int64)
        self._rows, self._comovement = Chosen(), comovement
        self._number = np.array([directory.underlyings.get(name, NOBODY) for name in directory.assets], dtype=np.int64)
        issued = (self._issuer != NOBODY) & (self._number != NOBODY)
        self._issued = list(zip(self._number[issued].tolist(), self._issuer[issued].tolist(), strict=True))
        comovement.watch([number for number, _ in self._issued])
        self.possible = bool((self._issuer != NOBODY).any())

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
        at = self._rows.of(positions, self._underlying != NOBODY)
        of = netting_set[rows["account"][at]]
        same = self._underlying[rows["instrument"][at]] == self._party[owner[of]]
        flags[of[same & (rows["units"][at] != 0)]] = 1.0
        return flags

    def _correlate(self, flags: F8, of: I8, owner: I8, balances: Balances) -> None:
        """Raise the flags of sets in which a balance moves with what their counterparty issued."""
        held = balances.rows
        found = self._comovement.correlations()
        number, party = self._number[held["asset"]], self._party[owner[of]]
        for proxy, issuer in self._issued:
            known = (number != NOBODY) & (party == issuer) & (held["amount"] != 0)
            at = (known & (number < found.shape[1])).nonzero()[0]
            alike = found[self._comovement.proxies.index(proxy), number[at]]
            np.maximum.at(flags, of[at], np.where(alike >= CORRELATED_MIN, alike, 0.0))


def _issuer(directory: Directory, name: str, numbers: dict[str, int]) -> int:
    """Return the number of whoever issued an asset, or what it is pegged to; ``NOBODY`` for none."""
    issuer = directory.issuer(name)
    return _connected(directory, issuer, numbers) if issuer else NOBODY


def _connected(directory: Directory, counterparty: str, numbers: dict[str, int]) -> int:
    """Return one number for all counterparties of a group, and one each for those without."""
    record = directory.counterparty_records.get(counterparty)
    name = f"group {record.group}" if record is not None and record.group else counterparty
    return numbers.setdefault(name, len(numbers))
