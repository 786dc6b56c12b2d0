"""One clearing vector, exactly, by fictitious default (Eisenberg and Noe 2001, section 3).

All pay in full at first. Who then cannot is in default; what the defaulters pay follows from a linear system; who then
cannot either joins them. After at most as many rounds as there are nodes nobody joins, and what is paid is the
*greatest* clearing vector. It takes few rounds also where claims go round almost without loss, which contagion by
rounds would follow for long. A shock may take more than a node has outside: what it lacks is taken from what it is paid
first, and beyond that it pays nothing.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

from seawall.ops.lab.cascade.contagion import TOLERANCE
from seawall.ops.lab.cascade.network import Network

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]


class Clearing(NamedTuple):
    """What everybody pays.

    Attributes
    ----------
    payments : float64, shape (nodes,)
        The greatest clearing vector.
    worth : float64, shape (nodes,)
        Assets less all debts; below 0 in default. Equity is the part above 0.
    rounds
        Who is in default after each round.
    """

    payments: F8
    worth: F8
    rounds: tuple[tuple[int, ...], ...]

    @property
    def equity(self) -> F8:
        """Return what is left to owners."""
        return np.maximum(self.worth, 0.0)


def clear(network: Network, shock: F8 | None = None) -> Clearing:
    """Return the clearing of a network whose external assets have lost ``shock``."""
    assets = network.external_assets if shock is None else network.external_assets - shock
    owed = network.owed
    share = np.where(owed > 0, 1.0 / np.where(owed > 0, owed, 1.0), 0.0)
    inflow = sparse.csr_array((sparse.diags_array(share) @ network.by_borrower).T)
    paid, broken = owed.copy(), np.zeros(network.nodes, dtype=bool)
    rounds: list[tuple[int, ...]] = []
    while True:
        worth = assets + inflow @ paid - owed
        joined = (worth < -TOLERANCE * owed) & ~broken
        if not joined.any():
            return Clearing(paid, _exact(worth), tuple(rounds))
        broken |= joined
        rounds.append(tuple(broken.nonzero()[0].tolist()))
        paid = _paid(inflow, assets, owed, broken)


def _paid(inflow: sparse.csr_array, assets: F8, owed: F8, broken: NDArray[np.bool_]) -> F8:
    """Return what is paid when exactly these are in default.

    First only those pay that have something without the rest of the defaulters, then those as well that get something
    from the ones that pay. What is paid so grows up to the solution, and no system is singular: of nodes in default
    that owe only each other, one at least pays nothing.
    """
    at = broken.nonzero()[0]
    among, known = inflow[at][:, at], assets[at] + (inflow @ np.where(broken, 0.0, owed))[at]
    found, pays = np.zeros(len(at)), known >= 0
    while True:
        some = pays.nonzero()[0]
        if len(some):
            system = sparse.eye_array(len(some), format="csc") - sparse.csc_array(among[some][:, some])
            found[some] = np.clip(np.atleast_1d(spsolve(system, known[some])), 0.0, owed[at[some]])
        more = (known + among @ found > 0) & ~pays
        if not more.any():
            paid = owed.copy()
            paid[at] = found
            return paid
        pays |= more


def _exact(worth: F8) -> F8:
    """Return worths with the rounding of a sum that should be 0 taken away."""
    size = np.abs(worth).max(initial=0.0)
    return np.where(np.abs(worth) <= TOLERANCE * size, 0.0, worth)
