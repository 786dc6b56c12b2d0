"""Wrong-way risk: what is worth least exactly when the counterparty fails.

A netting set is flagged where a balance in it, or the underlying of a position in it, is issued by its counterparty or
by one of the same group, or promises to equal an asset that is (a stablecoin pegged to such a token falls with it).
"""

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.book import Balances, Chosen, Positions
from seawall.operators.core.directory import Directory

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
NOBODY = -1


class WrongWay:
    """The issuers of assets and the groups of counterparties, as numbers that are equal where they are connected."""

    def __init__(self, directory: Directory) -> None:
        numbers: dict[str, int] = {}
        self._issuer = np.array([_issuer(directory, name, numbers) for name in directory.assets], dtype=np.int64)
        assets = [directory.assets.get(r.underlying or r.base, 0) for r in directory.instrument_records]
        self._underlying = self._issuer[np.array(assets, dtype=np.int64)]
        self._party = np.array([_connected(directory, n, numbers) for n in directory.counterparties], dtype=np.int64)
        self._rows = Chosen()
        self.possible = bool((self._issuer != NOBODY).any())

    def flags(self, netting_set: I8, owner: I8, balances: Balances, positions: Positions) -> F8:
        """Return 1.0 for every netting set with wrong-way risk, 0.0 for the others.

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
        flags[of[(self._issuer[held["asset"]] == self._party[owner[of]]) & (held["amount"] != 0)]] = 1.0
        at = self._rows.of(positions, self._underlying != NOBODY)
        of = netting_set[rows["account"][at]]
        same = self._underlying[rows["instrument"][at]] == self._party[owner[of]]
        flags[of[same & (rows["units"][at] != 0)]] = 1.0
        return flags


def _issuer(directory: Directory, name: str, numbers: dict[str, int]) -> int:
    """Return the number of whoever issued an asset, or what it is pegged to; ``NOBODY`` for none."""
    issuer = directory.issuer(name)
    return _connected(directory, issuer, numbers) if issuer else NOBODY


def _connected(directory: Directory, counterparty: str, numbers: dict[str, int]) -> int:
    """Return one number for all counterparties of a group, and one each for those without."""
    record = directory.counterparty_records.get(counterparty)
    name = f"group {record.group}" if record is not None and record.group else counterparty
    return numbers.setdefault(name, len(numbers))
