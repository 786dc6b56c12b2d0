"""DebtRank as first published: each node passes its distress on once.

On trees it agrees with the linear form (:func:`.models.debtrank`); on cycles it is lower, as what comes back to a node
that has spoken already is passed on no more.

References
----------
S. Battiston, M. Puliga, R. Kaushik, P. Tasca, G. Caldarelli, "DebtRank: too central to fail?", Scientific Reports 2,
2012.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from seawall.ops.lab.cascade.network import Network

F8 = NDArray[np.float64]


def single_hit(network: Network, h0: F8) -> F8:
    """Return the distress that initial distress comes to, both of shape (scenarios, nodes), from 0 to 1.

    Nodes with equity at or below 0 have h = 1 from the start, and pass it on as all others do.
    """
    alive = network.equity > 0
    by_lender = sparse.csr_array(network.by_borrower.T)
    impact = sparse.diags_array(np.where(alive, 1.0 / np.where(alive, network.equity, 1.0), 0.0)) @ by_lender
    impact.data = np.minimum(impact.data, 1.0)
    h = np.where(alive, h0, 1.0).T.copy()
    speaks, spoken = h > 0, np.zeros(h.shape, dtype=bool)
    while speaks.any():
        h = np.minimum(1.0, h + impact @ np.where(speaks, h, 0.0))
        spoken |= speaks
        speaks = (h > 0) & ~spoken
    return np.ascontiguousarray(h.T)


def economic_value(network: Network) -> F8:
    """Return the share of each node in all that is lent inside the network."""
    lent = network.lent
    return np.asarray(lent / lent.sum())


def rank(network: Network, h0: F8) -> F8:
    """Return DebtRank: the share of the economic value that is lost beyond what is lost at first."""
    value = economic_value(network)
    first = np.where(network.equity > 0, h0, 1.0)
    return np.asarray((single_hit(network, h0) - first) @ value)
