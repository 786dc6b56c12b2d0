"""Contagion through collateral that many share: a stablecoin loses its peg, and all who margin with it sell it.

1. A loan is secured by coins and by the borrower's cash. When coins after haircut and cash fall below what is required,
   the lender sells the coins.
2. Sales move the coin's price (``price_after``); lenders that go by one oracle see the fall of all venues and sell too.
3. What a sale leaves unpaid is the lender's loss. By node, these losses are the shock of a network of claims
   (``network_shock``), so that a lender's failure goes on to those who lent to it.

The price only falls, so what comes to rest is the least sale that agrees with its own price.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.ops.lab.cascade.fire_sale import price_after

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]


class Loans(NamedTuple):
    """Loans secured by coins, one row per loan.

    Attributes
    ----------
    lender, venue : int64
        Who bears what is not paid, by node of the network; where the coins are valued and sold.
    owed, cash, required : float64
        The debt, cash posted beside the coins, and what collateral after haircut must come to.
    units : float64, shape (loans, coins)
        Posted.
    """

    lender: I8
    venue: I8
    owed: F8
    cash: F8
    required: F8
    units: F8


class Depegged(NamedTuple):
    """Where it came to rest: prices, shape (venues, coins); which loans were closed; each loan's loss to its lender."""

    price: F8
    closed: B1
    loss: F8
    rounds: int


def depeg(loans: Loans, price: F8, depth: F8, haircut: F8, oracle_weight: float) -> Depegged:
    """Return what follows when coins stand at these prices.

    Parameters
    ----------
    price, depth : float64, shape (venues, coins)
        After the shock, and units whose sale takes a price to 1/e of itself.
    haircut : float64, shape (coins,)
    oracle_weight
        0: each venue values coins by its own price; 1: all by the mean of venues, weighted by depth.
    """
    closed, now, rounds = np.zeros(len(loans.owed), dtype=bool), price, 0
    while True:
        shared = (now * depth).sum(axis=0) / depth.sum(axis=0)
        mark = now + oracle_weight * (shared - now)
        worth = (loans.units * mark[loans.venue] * (1 - haircut)).sum(axis=1) + loans.cash
        joined = ~closed & (worth < loans.required)
        if not joined.any():
            break
        rounds += 1
        closed |= joined
        sold = np.zeros_like(price)
        np.add.at(sold, loans.venue, np.where(closed[:, None], loans.units, 0.0))
        now = price_after(price, sold, depth)
    got = (loans.units * now[loans.venue]).sum(axis=1) + loans.cash
    return Depegged(now, closed, np.where(closed, np.maximum(loans.owed - got, 0.0), 0.0), rounds)


def network_shock(loans: Loans, found: Depegged, nodes: int) -> F8:
    """Return what each node of a network loses by its loans, shape (nodes,)."""
    return np.asarray(np.bincount(loans.lender, found.loss, nodes), dtype=np.float64)
