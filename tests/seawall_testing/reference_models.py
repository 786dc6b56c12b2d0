"""Slow, obvious reference models: contagion round by round as the papers write it, and SA-CCR straight from the JSON.

They share no code with what they check. SA-CCR follows CRE52 paragraph by paragraph, with ``math`` and Fractions only;
it knows plain trades, options and tranches of the five classes and of crypto.
"""

import math
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.ops.lab.stress._network import Network

# Slow, obvious references of contagion: one scenario at a time, round by round, as the papers write them.

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


# --- SA-CCR, straight from the JSON: no module of the package

TABLE = {  # CRE52.72: factor, correlation, volatility
    "IR": (0.005, None, 0.5), "FX": (0.04, None, 0.15), "AAA": (0.0038, 0.5, 1.0), "AA": (0.0038, 0.5, 1.0),
    "A": (0.0042, 0.5, 1.0), "BBB": (0.0054, 0.5, 1.0), "BB": (0.0106, 0.5, 1.0), "B": (0.016, 0.5, 1.0),
    "CCC": (0.06, 0.5, 1.0), "IX_IG": (0.0038, 0.8, 0.8), "IX_SG": (0.0106, 0.8, 0.8), "SN": (0.32, 0.5, 1.2),
    "IX": (0.2, 0.8, 0.75), "Electricity": (0.4, 0.4, 1.5), "CO": (0.18, 0.4, 0.7), "CRYPTO": (0.4, None, 1.5),
}  # fmt: skip


def saccr_row(trade: dict[str, Any]) -> tuple[float, float | None, float]:
    if trade["asset_class"] == "CO":
        return TABLE["Electricity" if trade["commodity_type"] == "Electricity" else "CO"]
    return TABLE[trade.get("subclass") or trade["asset_class"]]


def saccr_delta(trade: dict[str, Any]) -> float:
    sign = 1.0 if trade.get("direction") == "long" else -1.0
    if "cdo" in trade:
        return sign * 15 / ((1 + 14 * trade["cdo"]["attachment"]) * (1 + 14 * trade["cdo"]["detachment"]))
    if "option" not in trade:
        return sign
    o, vol = trade["option"], saccr_row(trade)[2]
    d = (math.log(o["P"] / o["K"]) + 0.5 * vol**2 * o["T"]) / (vol * math.sqrt(o["T"]))
    phi = NormalDist().cdf
    return {
        ("call", "bought"): phi(d), ("call", "sold"): -phi(d), ("put", "bought"): -phi(-d), ("put", "sold"): phi(-d),
    }[o["type"], o["position"]]  # fmt: skip


def effective_notional(trade: dict[str, Any], mpor: float | None) -> float:
    notional = trade["notional"]
    if trade["asset_class"] in ("IR", "CR"):
        sd = (math.exp(-0.05 * trade.get("S", 0)) - math.exp(-0.05 * trade["E"])) / 0.05
        notional *= max(sd, 10 / 250)
    mf = math.sqrt(min(max(trade["M"], 10 / 250), 1)) if mpor is None else 1.5 * math.sqrt(mpor / 250)
    return notional * saccr_delta(trade) * mf


def add_on(trades: list[dict[str, Any]], mpor: float | None) -> float:
    total = 0.0
    for key in {(t["asset_class"], t.get("hedging_set")) for t in trades}:
        members = [t for t in trades if (t["asset_class"], t.get("hedging_set")) == key]
        d = [effective_notional(t, mpor) for t in members]
        if key[0] == "IR":
            b = [
                math.fsum(x for x, t in zip(d, members, strict=True) if (t["E"] >= 1) + (t["E"] > 5) == n)
                for n in range(3)
            ]
            square = b[0] ** 2 + b[1] ** 2 + b[2] ** 2 + 1.4 * b[0] * b[1] + 1.4 * b[1] * b[2] + 0.6 * b[0] * b[2]
            total += 0.005 * math.sqrt(max(square, 0.0))
        elif key[0] in ("FX", "CRYPTO"):
            total += saccr_row(members[0])[0] * abs(math.fsum(d))
        else:
            entities = [t.get("entity") or t["commodity_type"] for t in members]
            names = {e: saccr_row(t) for e, t in zip(entities, members, strict=True)}
            by_name = {n: math.fsum(x for x, e in zip(d, entities, strict=True) if e == n) for n in names}
            a = {n: names[n][0] * by_name[n] for n in names}
            rho = {n: names[n][1] or 0.0 for n in names}
            systematic = math.fsum(rho[n] * a[n] for n in names)
            total += math.sqrt(systematic**2 + math.fsum((1 - rho[n] ** 2) * a[n] ** 2 for n in names))
    return total


def replacement_cost(value: Any, held: Any, terms: dict[str, Any] | None) -> Fraction:
    """Exact: CRE52.10 without terms, CRE52.18 with them."""
    cost = max(Fraction(value) - Fraction(held), Fraction(0))
    if terms is None:
        return cost
    return max(cost, Fraction(terms["TH"]) + Fraction(terms["MTA"]) - Fraction(terms["NICA"]))


def ead(document: dict[str, Any]) -> float:
    agreement = document.get("margin_agreement", {})
    value = sum((Fraction(t["mtm"]) for t in document["trades"]), Fraction(0))
    held = Fraction(agreement.get("C", 0))
    results = []
    for margined in {False, bool(agreement.get("margined"))}:
        add = add_on(document["trades"], agreement["mpor_days"] if margined else None)
        excess = float(min(value - held, Fraction(0)))
        multiplier = min(1.0, 0.05 + 0.95 * math.exp(excess / (2 * 0.95 * add))) if add > 0 else 1.0
        cost = replacement_cost(value, held, agreement if margined else None)
        results.append(1.4 * (float(cost) + multiplier * add))
    return min(results)
