"""The tables of netting sets and counterparties, signed from our side (contract.md, "Signs"), without ``credit``."""

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import sum_by
from seawall.operators.core.directory import Directory
from seawall.schemas.measures import COUNTERPARTY, NETTING_SET

F8 = NDArray[np.float64]


def netting_sets(directory: Directory, exposed: F8, lent: F8) -> F8:
    """Return current exposure and collateral held of netting sets on default terms, shape (2, sets).

    ``exposed`` and ``lent`` are by account: equity at marks across venues, and its part that is collateral.
    """
    arrays, sets = directory.arrays, len(directory.netting_sets)
    table = np.empty((len(NETTING_SET), sets))
    table[0] = np.maximum(sum_by(arrays["netting_set"], arrays["sign"] * exposed, sets), 0.0)
    table[1] = sum_by(arrays["netting_set"], arrays["client"] * lent, sets)
    return table


def counterparties(directory: Directory, netting_set: F8, account_sums: tuple[F8, F8, F8]) -> F8:
    """Return the measures ``COUNTERPARTY`` of all counterparties, shape (measures, counterparties).

    ``account_sums`` are gross notional, net notional and P&L by account, from our side.
    """
    arrays, count = directory.arrays, len(directory.counterparties)
    owner, of = arrays["netting_set_counterparty"], arrays["counterparty"]
    table = np.empty((len(COUNTERPARTY), count))
    for row in range(2):
        table[row] = sum_by(owner, netting_set[row], count)
    for row, column in enumerate(account_sums, 2):
        table[row] = sum_by(of, column, count)
    return table
