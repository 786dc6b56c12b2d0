"""Slow, obvious references of contagion: one scenario at a time, round by round, as the papers write them."""

import numpy as np
from numpy.typing import NDArray

from seawall.ops.lab.cascade.network import Network

F8 = NDArray[np.float64]


def slow_clearing(network: Network, failing: int) -> F8:
    """Return what each node falls short by when one's external assets are 0; all pay in full at first."""
    total = np.bincount(network.borrower, network.amount, network.nodes) + network.external_liabilities
    assets = network.external_assets.copy()
    assets[failing] = 0.0
    paid = total.copy()
    while True:
        share = np.where(total > 0, paid / np.where(total > 0, total, 1.0), 0.0)
        got = np.bincount(network.lender, network.amount * share[network.borrower], network.nodes)
        then = np.minimum(total, assets + got)
        if np.abs(then - paid).max() <= 1e-13 * max(float(total.max()), 1.0):
            return total - then
        paid = then


def slow_furfine(network: Network, failing: int) -> F8:
    """Return 1 for each node that has failed, recovery 0."""
    failed = network.equity <= 0
    failed[failing] = True
    while True:
        lost = np.zeros(network.nodes)
        for lender, borrower, amount in zip(network.lender, network.borrower, network.amount, strict=True):
            lost[lender] += amount if failed[borrower] else 0.0
        then = failed | (lost >= network.equity)
        if (then == failed).all():
            return failed.astype(float)
        failed = then


def slow_debtrank(network: Network, failing: int) -> F8:
    """Return h by ``h(t+1) = min(1, h(t) + Lambda (h(t) - h(t-1)))``, h(0) = 0."""
    alive = network.equity > 0
    impact = network.amount / np.where(alive, network.equity, np.inf)[network.lender]
    before, h = np.zeros(network.nodes), np.where(alive, 0.0, 1.0)
    h[failing] = 1.0
    for _ in range(100_000):
        grown = np.bincount(network.lender, impact * (h - before)[network.borrower], network.nodes)
        then = np.minimum(1.0, h + grown)
        if np.abs(then - h).max() <= 1e-13:
            return then
        before, h = h, then
    raise AssertionError("does not come to rest")
