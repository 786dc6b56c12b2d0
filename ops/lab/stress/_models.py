"""Contagion by claims: Eisenberg–Noe, Furfine and DebtRank, rankings of failures, and joint shocks.

==============  =======================  ==========================================  =============================
model           a node passes on         which its lenders lose by                   made to fail
==============  =======================  ==========================================  =============================
Eisenberg–Noe   what it cannot pay       their share in all that it owes             external assets become 0
Furfine         1 once equity is gone    their claim less what is recovered          its equity is taken
DebtRank        h, what of equity is     claim / own equity, in h, up to 1           h = 1
                gone
==============  =======================  ==========================================  =============================

A node with equity at or below 0 has failed before any shock. Under Furfine and DebtRank (where its h is 1) its lenders
carry that loss in every scenario, under Eisenberg–Noe what it then cannot pay; none of that counts as an effect of the
shock. Made to fail, such a node changes nothing under Furfine and DebtRank; under Eisenberg–Noe it pays less still.

References
----------
L. Eisenberg, T. Noe, "Systemic Risk in Financial Systems", Management Science 47(2), 2001. C. Furfine, "Interbank
exposures: quantifying the risk of contagion", Journal of Money, Credit and Banking 35(1), 2003. M. Bardoscia, S.
Battiston, F. Caccioli, G. Caldarelli, "DebtRank: a microscopic foundation for shock propagation", PLoS ONE 10(6), 2015.
S. Battiston, M. Puliga, R. Kaushik, P. Tasca, G. Caldarelli, "DebtRank: too central to fail?", Scientific Reports 2,
2012.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import bdtrik, ndtri

from seawall.ops.lab.stress._network import (
    I8,
    TOLERANCE,
    ContagionModel,
    ContagionOutcome,
    Network,
    Shocks,
    contagion_outcome,
)
from seawall.schemas.errors import UsageError

# Models of contagion by claims: Eisenberg–Noe, Furfine, and DebtRank in its linear form, for many scenarios at once.

F8 = NDArray[np.float64]
NodeNumbers = NDArray[np.int64]
B1 = NDArray[np.bool_]


def eisenberg_noe(network: Network) -> ContagionModel:
    """Return the clearing model: a node's losses are of assets, and what it passes on is what it falls short by.

    All debts of a node, those outside included, share alike in what it can pay. What spreads from nothing is the least
    shortfall, so payments are the greatest clearing vector.
    """
    owed = network.owed
    buffer = network.external_assets + network.lent - owed
    share = np.where(owed > 0, 1.0 / np.where(owed > 0, owed, 1.0), 0.0)
    weights = sparse.csr_array(sparse.diags_array(share) @ network.by_borrower)

    def respond(losses: F8, node: NodeNumbers) -> F8:
        return np.clip(losses - buffer[node], 0.0, owed[node])

    def fails(losses: F8, node: NodeNumbers) -> B1:
        return np.asarray(losses - buffer[node] > TOLERANCE * owed[node])

    return ContagionModel(weights, respond, owed, fails, _as_it_is, network.external_assets)


def furfine(network: Network, recovery: float = 0.0) -> ContagionModel:
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

    def fails(losses: F8, node: NodeNumbers) -> B1:
        return np.asarray(losses >= equity[node])

    def respond(losses: F8, node: NodeNumbers) -> F8:
        return np.asarray(fails(losses, node).astype(np.float64))

    return ContagionModel(weights, respond, np.ones(network.nodes), fails, _as_it_is, np.maximum(equity, 0.0))


def debtrank(network: Network) -> ContagionModel:
    """Return linear DebtRank: a node passes its relative loss of equity on in proportion.

    Each claim is set against the equity of *its own* lender, and ``h`` comes to rest at the least solution of
    ``h = min(1, h0 + Lambda h)``, which is where ``h(t+1) = min(1, h(t) + Lambda (h(t) - h(t-1)))`` ends.
    """
    equity = network.equity
    alive = equity > 0
    against = np.where(alive, 1.0 / np.where(alive, equity, 1.0), 0.0)
    weights = sparse.csr_array(network.by_borrower @ sparse.diags_array(against))

    def respond(losses: F8, node: NodeNumbers) -> F8:
        return np.where(alive[node], np.minimum(losses, 1.0), 1.0)

    def fails(losses: F8, node: NodeNumbers) -> B1:
        return respond(losses, node) >= 1.0

    def lost(losses: F8, node: NodeNumbers) -> F8:
        return np.where(alive[node], np.minimum(losses, 1.0) * equity[node], 0.0)

    return ContagionModel(weights, respond, np.ones(network.nodes), fails, lost, np.ones(network.nodes))


def _as_it_is(losses: F8, node: NodeNumbers) -> F8:
    return losses


# DebtRank as first published: each node passes its distress on once.
#
# On trees it agrees with the linear form (:func:`.models.debtrank`); on cycles it is lower, as what comes back to a
# node that has spoken already is passed on no more.
#
# References
# ----------
# S. Battiston, M. Puliga, R. Kaushik, P. Tasca, G. Caldarelli, "DebtRank: too central to fail?", Scientific Reports 2,
# 2012.


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


def single_hit_debtrank(network: Network, h0: F8) -> F8:
    """Return DebtRank: the share of the economic value that is lost beyond what is lost at first."""
    value = economic_value(network)
    first = np.where(network.equity > 0, h0, 1.0)
    return np.asarray((single_hit(network, h0) - first) @ value)


# Which counterparties' failure hurts most: each alone, and together as the cover standards of clearing houses ask.
#
# Cover 2 asks what the joint failure of the two that together hurt most would cost (CPMI-IOSCO, Principles for
# Financial Market Infrastructures, principle 4). All pairs of the ``candidates`` that hurt most alone are tried, so the
# answer is exact among these; a wider cover adds one node at a time to the best set so far.

Progress = Callable[[int], None]


class Failure(NamedTuple):
    """Effect of a set of nodes that fail together."""

    nodes: tuple[str, ...]
    contagion: float
    failures: int


class Ranking(NamedTuple):
    """All nodes, the worst first, and the worst set of each size from 2 on."""

    alone: list[Failure]
    covers: list[Failure]


def rank_failures(
    model: ContagionModel,
    names: Sequence[str],
    cover: int = 2,
    candidates: int = 40,
    seen: Progress = lambda done: None,
) -> Ranking:
    """Return what failures cost others, nodes one by one and in sets of up to ``cover``.

    Of equal ones the first by number comes first. ``seen`` is told how many of the single failures are done.
    """
    if not 1 <= cover <= candidates:
        raise UsageError(f"cover {cover} must be at least 1 and at most the {candidates} candidates")
    found = contagion_outcome(model, Shocks.sweep(model), seen)
    order = np.argsort(-found.contagion, kind="stable")
    alone = [_failure(names, (int(at),), found, int(at)) for at in order]
    tried = sorted(order[:candidates].tolist())
    covers: list[Failure] = []
    best: tuple[int, ...] = ()
    for size in range(2, min(cover, len(tried)) + 1):
        sets: list[tuple[int, ...]] = (
            list(combinations(tried, 2)) if size == 2 else [(*best, at) for at in tried if at not in best]
        )
        together = contagion_outcome(model, _joint(model, sets))
        worst = int(together.contagion.argmax())
        best = sets[worst]
        covers.append(_failure(names, best, together, worst))
    return Ranking(alone, covers)


def _joint(model: ContagionModel, sets: Sequence[tuple[int, ...]]) -> Shocks:
    node: I8 = np.array(sets, dtype=np.int64)
    scenario = np.repeat(np.arange(len(sets)), node.shape[1])
    return Shocks.failing(model, scenario, node.reshape(-1), len(sets))


def _failure(names: Sequence[str], nodes: tuple[int, ...], found: ContagionOutcome, at: int) -> Failure:
    return Failure(tuple(names[node] for node in nodes), float(found.contagion[at]), int(found.failures[at]))


# Joint shocks drawn at random, from a seed, and what can be said of the losses that they come to.
#
# Failures are tied by one common factor: a node fails when ``sqrt(rho) Z + sqrt(1 - rho) e`` falls below the quantile
# of its own probability (Vasicek 2002; the Basel formula). The same seed gives the same scenarios, whatever the model.

DRAWN_AT_ONCE: Final = 200


class Estimate(NamedTuple):
    """A figure with the interval that holds it with the stated confidence."""

    value: float
    low: float
    high: float


class Losses(NamedTuple):
    """Statistics of a sample of losses."""

    mean: Estimate
    quantile: Estimate
    shortfall: Estimate
    scenarios: int


def joint_failures(model: ContagionModel, probability: F8, correlation: float, count: int, seed: int) -> Shocks:
    """Return scenarios in which nodes are made to fail together.

    Parameters
    ----------
    probability : float64, shape (nodes,)
        Of failing, from 0 to 1.
    correlation
        Of the nodes' worth, from 0 to below 1.
    """
    if not 0 <= correlation < 1:
        raise UsageError(f"correlation {correlation} must be at or above 0 and below 1")
    wrong = ~((probability >= 0) & (probability <= 1))
    if wrong.any():
        row = int(wrong.argmax())
        raise UsageError(f"probability, node {row}: {probability[row]} must lie between 0 and 1")
    draw, bar = np.random.default_rng(seed), ndtri(probability)
    scenario, node = [], []
    for first in range(0, count, DRAWN_AT_ONCE):
        size = min(DRAWN_AT_ONCE, count - first)
        common, own = draw.standard_normal((size, 1)), draw.standard_normal((size, len(bar)))
        fell = (np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own < bar).nonzero()
        scenario.append(fell[0] + first)
        node.append(fell[1])
    return Shocks.failing(model, np.concatenate(scenario), np.concatenate(node), count)


def estimate_losses(losses: F8, level: float = 0.99, confidence: float = 0.95) -> Losses:
    """Return mean, quantile and expected shortfall of losses with their confidence intervals.

    Mean and shortfall have intervals of the normal approximation, the quantile that of the order statistics whose ranks
    are binomial (no assumption on the distribution; as wide as the sample where it is too small to say).
    """
    if len(losses) < 2:
        raise UsageError(f"{len(losses)} scenarios say nothing of a distribution; run at least 2")
    count, ordered = len(losses), np.sort(losses)
    z = float(ndtri(0.5 + confidence / 2))
    mean = float(losses.mean())
    error = z * float(losses.std(ddof=1)) / count**0.5
    at = min(int(np.ceil(level * count)) - 1, count - 1)
    low, high = (int(np.ceil(bdtrik(0.5 + side * confidence / 2, count, level))) for side in (-1, 1))
    quantile = float(ordered[at])
    tail = ordered[at:]
    worst = float(tail.mean())
    spread = (float(tail.var()) + level * (worst - quantile) ** 2) / len(tail)  # of the mean of a tail cut at a guess
    return Losses(
        Estimate(mean, mean - error, mean + error),
        Estimate(quantile, float(ordered[max(low - 1, 0)]), float(ordered[min(high, count - 1)])),
        Estimate(worst, worst - z * spread**0.5, worst + z * spread**0.5),
        count,
    )
