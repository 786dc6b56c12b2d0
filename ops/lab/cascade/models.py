"""Models of contagion by claims: Eisenberg–Noe, Furfine, and DebtRank in its linear form, for many scenarios at once.

==============  =======================  ==========================================  =============================
model           a node passes on         which its lenders lose by                   made to fail
==============  =======================  ==========================================  =============================
Eisenberg–Noe   what it cannot pay       their share in all that it owes             external assets become 0
Furfine         1 once equity is gone    their claim less what is recovered          its equity is taken
DebtRank        h, what of equity is     claim / own equity, in h, up to 1           h = 1
                gone
==============  =======================  ==========================================  =============================

A node with equity at or below 0 has failed before any shock. Under Furfine and DebtRank (where its h is 1) its lenders
carry that loss in every scenario, under Eisenberg–Noe what it then cannot pay; of what the shock does, none of that is
part. Made to fail, such a node changes nothing under Furfine and DebtRank; under Eisenberg–Noe it pays less still.

References
----------
L. Eisenberg, T. Noe, "Systemic Risk in Financial Systems", Management Science 47(2), 2001. C. Furfine, "Interbank
exposures: quantifying the risk of contagion", Journal of Money, Credit and Banking 35(1), 2003. M. Bardoscia, S.
Battiston, F. Caccioli, G. Caldarelli, "DebtRank: a microscopic foundation for shock propagation", PLoS ONE 10(6), 2015.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from seawall.ops.lab.cascade.contagion import TOLERANCE, Model
from seawall.ops.lab.cascade.network import Network
from seawall.schemas.errors import UsageError

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]


def eisenberg_noe(network: Network) -> Model:
    """Return the clearing model: a node's losses are of assets, and what it passes on is what it falls short by.

    All debts of a node, those outside included, share alike in what it can pay. What spreads from nothing is the least
    shortfall, so payments are the greatest clearing vector.
    """
    owed = network.owed
    buffer = network.external_assets + network.lent - owed
    share = np.where(owed > 0, 1.0 / np.where(owed > 0, owed, 1.0), 0.0)
    weights = sparse.csr_array(sparse.diags_array(share) @ network.by_borrower)

    def respond(losses: F8, node: I8) -> F8:
        return np.clip(losses - buffer[node], 0.0, owed[node])

    def fails(losses: F8, node: I8) -> B1:
        return np.asarray(losses - buffer[node] > TOLERANCE * owed[node])

    return Model(weights, respond, owed, fails, _as_it_is, network.external_assets)


def furfine(network: Network, recovery: float = 0.0) -> Model:
    """Return the model of round-by-round default: a node fails when its losses reach its equity.

    Parameters
    ----------
    recovery
        What lenders get back of a claim on a failed node, from 0 to below 1.
    """
    if not 0 <= recovery < 1:
        raise UsageError(f"recovery {recovery} must be at or above 0 and below 1")
    equity = network.equity
    weights = network.by_borrower * (1.0 - recovery)

    def fails(losses: F8, node: I8) -> B1:
        return np.asarray(losses >= equity[node])

    def respond(losses: F8, node: I8) -> F8:
        return np.asarray(fails(losses, node).astype(np.float64))

    return Model(weights, respond, np.ones(network.nodes), fails, _as_it_is, np.maximum(equity, 0.0))


def debtrank(network: Network) -> Model:
    """Return linear DebtRank: a node passes its relative loss of equity on in proportion.

    Each claim is set against the equity of *its own* lender, and ``h`` comes to rest at the least solution of
    ``h = min(1, h0 + Lambda h)``, which is where ``h(t+1) = min(1, h(t) + Lambda (h(t) - h(t-1)))`` ends.
    """
    equity = network.equity
    alive = equity > 0
    against = np.where(alive, 1.0 / np.where(alive, equity, 1.0), 0.0)
    weights = sparse.csr_array(network.by_borrower @ sparse.diags_array(against))

    def respond(losses: F8, node: I8) -> F8:
        return np.where(alive[node], np.minimum(losses, 1.0), 1.0)

    def fails(losses: F8, node: I8) -> B1:
        return respond(losses, node) >= 1.0

    def lost(losses: F8, node: I8) -> F8:
        return np.where(alive[node], np.minimum(losses, 1.0) * equity[node], 0.0)

    return Model(weights, respond, np.ones(network.nodes), fails, lost, np.ones(network.nodes))


def _as_it_is(losses: F8, node: I8) -> F8:
    return losses
