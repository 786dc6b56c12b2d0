"""SA-CCR once more, slow and obvious, straight from the JSON: no module of the package, ``math`` and Fractions only.

It follows CRE52 paragraph by paragraph and knows plain trades, options and tranches of the five classes and of crypto.
"""

import math
from fractions import Fraction
from statistics import NormalDist
from typing import Any

TABLE = {  # CRE52.72: factor, correlation, volatility
    "IR": (0.005, None, 0.5), "FX": (0.04, None, 0.15), "AAA": (0.0038, 0.5, 1.0), "AA": (0.0038, 0.5, 1.0),
    "A": (0.0042, 0.5, 1.0), "BBB": (0.0054, 0.5, 1.0), "BB": (0.0106, 0.5, 1.0), "B": (0.016, 0.5, 1.0),
    "CCC": (0.06, 0.5, 1.0), "IX_IG": (0.0038, 0.8, 0.8), "IX_SG": (0.0106, 0.8, 0.8), "SN": (0.32, 0.5, 1.2),
    "IX": (0.2, 0.8, 0.75), "Electricity": (0.4, 0.4, 1.5), "CO": (0.18, 0.4, 0.7), "CRYPTO": (0.4, None, 1.5),
}  # fmt: skip


def row(trade: dict[str, Any]) -> tuple[float, float | None, float]:
    if trade["asset_class"] == "CO":
        return TABLE["Electricity" if trade["commodity_type"] == "Electricity" else "CO"]
    return TABLE[trade.get("subclass") or trade["asset_class"]]


def delta(trade: dict[str, Any]) -> float:
    sign = 1.0 if trade.get("direction") == "long" else -1.0
    if "cdo" in trade:
        return sign * 15 / ((1 + 14 * trade["cdo"]["attachment"]) * (1 + 14 * trade["cdo"]["detachment"]))
    if "option" not in trade:
        return sign
    o, vol = trade["option"], row(trade)[2]
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
    return notional * delta(trade) * mf


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
            total += row(members[0])[0] * abs(math.fsum(d))
        else:
            entities = [t.get("entity") or t["commodity_type"] for t in members]
            names = {e: row(t) for e, t in zip(entities, members, strict=True)}
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
