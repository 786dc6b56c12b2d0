"""Clearing of debts, fire sales, and contagion through collateral that many share.

A clearing vector is found exactly by fictitious default (Eisenberg and Noe 2001, section 3). A sale of ``q`` units
takes the price to ``p exp(-q / depth)``; with Cifuentes' beta, ``depth`` is market cap / beta.

- :func:`sell_down`: a holder whose leverage ratio (equity / assets) falls below ``delever`` sells down to ``target``;
  below ``default`` it fails and sells all. Losses alone trigger sales; nobody buys back.
- :func:`clear_with_sales`: a node that cannot pay its debts in full sells all that it holds, which lowers everybody's
  assets, until payments and prices agree (Cifuentes, Ferrucci and Shin 2005): the equilibrium with the highest prices
  and payments.
- :func:`depeg`: a stablecoin loses its peg, and all who margin with it sell it. What a sale leaves unpaid is the
  lender's loss; by node, these losses are the shock of a network of claims (:func:`network_shock`).

References
----------
R. Cifuentes, G. Ferrucci, H. S. Shin, "Liquidity risk and contagion", Journal of the European Economic Association
3(2-3), 2005. Thresholds and form of impact: ox-inet-resilience/firesale_stresstest.
"""

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

from seawall.ops.lab.stress._network import TOLERANCE, Network

# One clearing vector, exactly, by fictitious default (Eisenberg and Noe 2001, section 3).
#
# All pay in full at first. Who then cannot is in default; what the defaulters pay follows from a linear system; who
# then cannot either joins them. After at most as many rounds as there are nodes nobody joins, and what is paid is the
# *greatest* clearing vector. It takes few rounds also where claims go round almost without loss, which contagion by
# rounds would follow for long. A shock may take more than a node has outside: what it lacks is taken from what it is
# paid first, and beyond that it pays nothing.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]


class Clearing(NamedTuple):
    """Payments of all nodes.

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


def clear_debts(network: Network, shock: F8 | None = None) -> Clearing:
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


# Fire sales: what has to be sold moves the price, and the price makes others sell.

B1 = NDArray[np.bool_]
ROUNDS_MAX: Final = 1_000
AT_REST: Final = 1e-12


def price_after(price: F8, sold: F8, depth: F8) -> F8:
    """Return prices after sales, all of shape (assets,)."""
    return np.asarray(price * np.exp(-sold / depth))


class Thresholds(NamedTuple):
    """Leverage ratios (equity / assets) at which a holder fails, sells, and to which it sells down."""

    default: float = 0.03
    delever: float = 0.04
    target: float = 0.05


STANDARD: Final = Thresholds()


class Holders(NamedTuple):
    """Holdings of all nodes.

    Attributes
    ----------
    equity, other : float64, shape (holders,)
        Own funds, and assets that cannot be sold (cash included).
    units : float64, shape (holders, assets)
        Of what can be sold.
    """

    equity: F8
    other: F8
    units: F8


class Sale(NamedTuple):
    """One round: units sold, shape (holders, assets), and prices after it, shape (assets,)."""

    sold: F8
    price: F8


class FireSale(NamedTuple):
    """Equilibrium of a fire sale; ``equity`` has the costs of selling in it."""

    price: F8
    equity: F8
    alive: B1
    rounds: tuple[Sale, ...]


def sell_down(held: Holders, price: F8, depth: F8, shock: F8, thresholds: Thresholds = STANDARD) -> FireSale:
    """Follow a fall of prices through all sales that it forces.

    Parameters
    ----------
    price, depth, shock : float64, shape (assets,)
        Prices before, units whose sale takes a price to 1/e of itself, and the fraction that prices lose at first.
    """
    now = price * (1 - shock)
    equity, units, other = held.equity + _along(held.units, now - price), held.units.copy(), held.other.copy()
    alive, rounds = np.ones(len(equity), dtype=bool), []
    for _ in range(ROUNDS_MAX):
        value = _along(units, now)
        assets = value + other
        failed = alive & (equity < thresholds.default * assets)
        delever = alive & ~failed & (equity < thresholds.delever * assets)
        wanted = np.where(delever, assets - equity / thresholds.target, 0.0)
        share = np.where(failed, 1.0, np.clip(wanted / np.where(value > 0, value, 1.0), 0.0, 1.0))
        sold = units * np.where(value > 0, share, 0.0)[:, None]
        alive &= ~failed
        if not (sold > 0).any():
            break
        then = price_after(now, sold.sum(axis=0), depth)
        # Sales are made on the way down: half of the impact is the sellers' own cost.
        units -= sold
        equity = equity + _along(sold, (then - now) / 2) + _along(units, then - now)
        now = then
        rounds.append(Sale(sold, now))
    return FireSale(now, equity, alive, tuple(rounds))


class ClearedSales(NamedTuple):
    """Payments and prices that agree."""

    clearing: Clearing
    price: F8
    sold: F8


def clear_with_sales(network: Network, units: F8, price: F8, depth: F8) -> ClearedSales:
    """Return the clearing of a network in which whoever cannot pay sells its units, at the prices that this makes.

    Parameters
    ----------
    units : float64, shape (nodes, assets)
        Held beside ``external_assets``, which hold the rest.
    price, depth : float64, shape (assets,)
        As for :func:`sell_down`; sellers get the price that all sales together come to.
    """
    now, sold = price, np.zeros_like(units)
    for _ in range(ROUNDS_MAX):
        found = clear_debts(replace(network, external_assets=network.external_assets + _along(units, now)))
        sold = np.where((found.worth < 0)[:, None], units, 0.0)
        then = price_after(price, sold.sum(axis=0), depth)
        if (np.abs(then - now) <= AT_REST * price).all():
            break
        now = then
    return ClearedSales(found, now, sold)


def _along(units: F8, price: F8) -> F8:
    return np.asarray((units * price).sum(axis=1))


# Contagion through collateral that many share: a stablecoin loses its peg, and all who margin with it sell it.
#
# 1. A loan is secured by coins and by the borrower's cash. When coins after haircut and cash fall below what is
#    required, the lender sells the coins.
# 2. Sales move the coin's price (``price_after``); lenders that go by one oracle see the fall of all venues and sell
#    too.
# 3. What a sale leaves unpaid is the lender's loss. By node, these losses are the shock of a network of claims
#    (``network_shock``), so that a lender's failure goes on to those who lent to it.
#
# The price only falls, so what comes to rest is the least sale that agrees with its own price.


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
    """Equilibrium after a depeg: prices, shape (venues, coins); closed loans; each loan's loss to its lender."""

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
