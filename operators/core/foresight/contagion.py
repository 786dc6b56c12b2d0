"""Contagion: what the default of each counterparty would cost all others, by linear DebtRank on what is owed now.

A loss of own funds makes the claims on whoever lost them worth less in proportion, which costs his creditors, and so on
until nothing moves: ``h(t+1) = min(1, h(t) + Lambda (h(t) - h(t-1)))`` with ``Lambda_ij = A_ij / E_i`` for what i has
lent to j. The centrality of j is the share of everybody else's own funds that is lost when j defaults.

References
----------
M. Bardoscia, S. Battiston, F. Caccioli, G. Caldarelli, "DebtRank: a microscopic foundation for shock propagation",
PLoS ONE 10 (2015). S. Battiston, M. Puliga, R. Kaushik, P. Tasca, G. Caldarelli, "DebtRank: too central to fail?",
Scientific Reports 2 (2012).
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import totals

F8 = NDArray[np.float64]
NODES_MAX: Final = 48  # those with the largest claims and debts
ROUNDS_MAX: Final = 200
SMALL: Final = 1e-10  # a share of own funds below which nothing is passed on
HOUSE: Final = "house"

Claim = tuple[str, str, float]  # who owes, whom, amount in the reporting currency


class Network(NamedTuple):
    """Nodes by name, what each has lent to each (lender, borrower), and own funds, NaN where nobody told of them."""

    names: list[str]
    claims: F8
    own_funds: F8


def network(claims: list[Claim], own_funds: dict[str, float]) -> Network:
    """Return the largest nodes of a list of claims and what they owe each other."""
    size: dict[str, float] = {}
    for borrower, lender, amount in claims:
        for name in (borrower, lender):
            size[name] = size.get(name, 0.0) + amount
    names = sorted(sorted(size, key=lambda name: (-size[name], name))[:NODES_MAX])
    numbers = {name: number for number, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)))
    for borrower, lender, amount in claims:
        if borrower in numbers and lender in numbers and borrower != lender:
            matrix[numbers[lender], numbers[borrower]] += amount
    funds = np.array([own_funds.get(name, np.nan) for name in names], dtype=np.float64)
    return Network(names, matrix, funds)


def losses(claims: F8, own_funds: F8, shocks: F8) -> F8:
    """Return the share of own funds that each node has lost once shocks have gone through, shape (shocks, nodes).

    Parameters
    ----------
    claims : float64, shape (nodes, nodes)
        What the row has lent to the column.
    own_funds : float64, shape (nodes,)
        Whoever has none, or of whom nobody knows, passes on only what it is shocked with itself.
    shocks : float64, shape (shocks, nodes)
        Shares of own funds that are lost at first.
    """
    known = np.isfinite(own_funds) & (own_funds > 0)
    weight = np.where(known[:, None], claims / np.where(known, own_funds, 1.0)[:, None], 0.0)
    lost, fresh = shocks.copy(), shocks.copy()
    for _ in range(ROUNDS_MAX):
        passed = np.zeros(lost.shape)
        for borrower in range(len(own_funds)):
            passed += fresh[:, borrower : borrower + 1] * weight[:, borrower]
        after = np.minimum(1.0, lost + passed)
        fresh = after - lost
        lost = after
        if not (fresh > SMALL).any():
            break
    return lost


def centralities(of: Network) -> F8:
    """Return the share of all others' own funds that each node's default would cost, 0 where nobody's are known."""
    funds = np.where(np.isfinite(of.own_funds) & (of.own_funds > 0), of.own_funds, 0.0)
    lost = losses(of.claims, of.own_funds, np.eye(len(funds)))
    others = totals(funds) - funds
    paid = totals(lost * funds) - funds * lost.diagonal()
    return np.where(others > 0, paid / np.where(others > 0, others, 1.0), 0.0)
