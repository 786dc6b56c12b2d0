"""Fire sales: what has to be sold moves the price, and the price makes others sell.

Two kinds, over several assets that many hold:

- :func:`sell_down`: a holder whose leverage ratio (equity / assets) falls below ``delever`` sells down to ``target``;
  below ``default`` it fails and sells all. Losses alone trigger sales; nobody buys back.
- :func:`clear_with_sales`: who cannot pay its debts in full sells all that it holds, which lowers what everybody's
  assets are worth, until payments and prices agree (Cifuentes, Ferrucci and Shin 2005). What comes out is the
  equilibrium with the highest prices and payments.

A sale of ``q`` units takes the price to ``p exp(-q / depth)``. With Cifuentes' beta, ``depth`` is market cap / beta.

References
----------
R. Cifuentes, G. Ferrucci, H. S. Shin, "Liquidity risk and contagion", Journal of the European Economic Association
3(2-3), 2005. Thresholds and form of impact: ox-inet-resilience/firesale_stresstest.
"""

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.ops.lab.cascade.clearing import Clearing, clear
from seawall.ops.lab.cascade.network import Network

F8 = NDArray[np.float64]
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
    """Who holds what.

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


class SoldDown(NamedTuple):
    """Where a fire sale came to rest; ``equity`` has the costs of selling in it."""

    price: F8
    equity: F8
    alive: B1
    rounds: tuple[Sale, ...]


def sell_down(held: Holders, price: F8, depth: F8, shock: F8, thresholds: Thresholds = STANDARD) -> SoldDown:
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
    return SoldDown(now, equity, alive, tuple(rounds))


class Cleared(NamedTuple):
    """Payments and prices that agree."""

    clearing: Clearing
    price: F8
    sold: F8


def clear_with_sales(network: Network, units: F8, price: F8, depth: F8) -> Cleared:
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
        found = clear(replace(network, external_assets=network.external_assets + _along(units, now)))
        sold = np.where((found.worth < 0)[:, None], units, 0.0)
        then = price_after(price, sold.sum(axis=0), depth)
        if (np.abs(then - now) <= AT_REST * price).all():
            break
        now = then
    return Cleared(found, now, sold)


def _along(units: F8, price: F8) -> F8:
    return np.asarray((units * price).sum(axis=1))
