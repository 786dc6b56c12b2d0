"""SA-CCR of one netting set: replacement cost, add-ons, multiplier, cap, and every figure on the way (CRE52)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seawall.operators.core.saccr import saccr_formulas as formulas
from seawall.operators.core.saccr.document import shown
from seawall.operators.core.saccr.saccr_addons import AddOns, Sized, aggregate, size_trade
from seawall.operators.core.saccr.saccr_document import Trade
from seawall.operators.core.saccr.saccr_parameters import SUPERVISORY, CryptoRegime
from seawall.operators.core.saccr.saccr_terms import MarginTerms, add_up

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Choices:
    """What the supervisor leaves to the bank: the crypto regime, and offset across interest-rate buckets."""

    regime: CryptoRegime
    bucket_offset: bool


def netting_set(parts: Sequence[tuple[tuple[Trade, ...], MarginTerms]], choices: Choices) -> Result:
    """Compute one netting set of one or more sub-sets, each with its own agreement, and apply the cap of CRE52.2."""
    terms = add_up([part for _, part in parts])
    value = total_value([trade for trades, _ in parts for trade in trades])
    result = exposure_figures(parts, terms, value, choices)
    result["EAD_unmargined"] = result["EAD_uncapped"] = result["EAD"]
    if terms.margined:
        plain = [(trades, part.unmargined()) for trades, part in parts]
        result["EAD_unmargined"] = exposure_figures(plain, terms.unmargined(), value, choices)["EAD"]
        result["EAD"] = min(result["EAD_uncapped"], result["EAD_unmargined"])
    result["cap_binds"] = result["EAD"] < result["EAD_uncapped"]
    return result


def exposure_figures(
    parts: Sequence[tuple[tuple[Trade, ...], MarginTerms]], terms: MarginTerms, value: float, choices: Choices
) -> Result:
    """Return RC, add-ons, multiplier, PFE and EAD of one netting set, not yet capped.

    Parameters
    ----------
    parts
        Sub-sets of trades, each with the terms that set its maturity factors; usually one.
    terms
        What all agreements amount to: they give the replacement cost and the multiplier.
    value
        Market value of all trades, V.
    """
    held, independent = terms.collateral, terms.net_independent_amount
    threshold, transfer = terms.threshold, terms.minimum_transfer_amount
    if terms.margined:
        cost = float(formulas.margined_replacement_cost(value, held, threshold, transfer, independent))
    else:
        cost = float(formulas.replacement_cost(value, held))
    sized: list[Sized] = []
    add_ons: list[AddOns] = []
    for trades, part in parts:
        sized += (members := [size_trade(trade, _maturity_factor(trade, part), choices.regime) for trade in trades])
        add_ons.append(aggregate(members, choices.bucket_offset))
    figures = _add_on_figures(add_ons)
    multiplier = float(formulas.pfe_multiplier(value, held, figures["addon_aggregate"]))
    potential = multiplier * figures["addon_aggregate"]
    return {
        "margined": terms.margined,
        "V": value,
        "C": held,
        **({"TH": threshold, "MTA": transfer, "NICA": independent} if terms.margined else {}),
        **({"mpor_days": terms.margin_period} if terms.margined and len(parts) == 1 else {}),
        "RC": cost,
        **figures,
        "multiplier": multiplier,
        "PFE": potential,
        "EAD": float(formulas.exposure(cost, potential)),
        "trades": [_trade_figures(one) for one in sized],
        **_crypto_note(sized, choices),
        "notes": [*terms.notes, *_volatility_notes(sized, choices)],
    }


def total_value(trades: Sequence[Trade]) -> float:
    """Return the market value V of trades, added in their order."""
    total = 0.0
    for trade in trades:
        total += trade.value
    return total


def allocate(values: list[float], collateral: float) -> list[float]:
    """Return the share of ``collateral`` that each netting set of an agreement gets (CRE52.76 FAQ 1).

    What we hold goes to the sets that owe us and what we posted to those that we owe, in order and at most their value;
    the rest goes to the last.
    """
    left, shares = collateral, []
    for value in values:
        share = min(max(value, 0.0), left) if collateral > 0 else max(min(value, 0.0), left)
        shares.append(share)
        left -= share
    shares[-1] += left
    return shares


def _maturity_factor(trade: Trade, terms: MarginTerms) -> float:
    if terms.margined:
        return float(formulas.margined_maturity_factor(terms.margin_period))
    return float(formulas.maturity_factor(trade.maturity))


def _add_on_figures(parts: list[AddOns]) -> Result:
    """Add up the add-ons of the parts of a set; where there are several, a part's steps carry its number."""
    by_class: dict[str, float] = {}
    steps: dict[str, float | list[float]] = {}
    total = 0.0
    for number, part in enumerate(parts, 1):
        total += part.total
        for asset_class, add_on in part.by_class.items():
            by_class[asset_class] = by_class.get(asset_class, 0.0) + add_on
        prefix = f"{number}." if len(parts) > 1 else ""
        steps.update({f"{prefix}{name}": step for name, step in part.intermediates.items()})
    return {"addon_by_class": by_class, "addon_aggregate": total, "intermediates": steps}


def _trade_figures(one: Sized) -> Result:
    return {
        "id": one.trade.id, "sd": one.duration, "adj": one.adjusted, "delta": one.delta, "mf": one.maturity_factor,
        "D": one.effective, "SF": one.factor,
    }  # fmt: skip


def _crypto_note(sized: list[Sized], choices: Choices) -> Result:
    if all(one.trade.asset_class != "CRYPTO" for one in sized):
        return {}
    regime = choices.regime
    return {"crypto_regime": {"name": regime.name, "status": regime.status, "source": regime.source}}


def _volatility_notes(sized: list[Sized], choices: Choices) -> list[str]:
    """Say where an option came with another volatility than the prescribed one (CRE52.72 FAQ 2)."""
    notes = []
    for one in sized:
        trade = one.trade
        crypto = trade.asset_class == "CRYPTO"
        row = choices.regime.parameters if crypto else SUPERVISORY[trade.asset_class, trade.subclass]
        prescribed = row.volatility
        if trade.option is not None and trade.option.volatility is not None and trade.option.volatility != prescribed:
            given, wanted = shown(trade.option.volatility), shown(prescribed)
            notes.append(f"trade {trade.id}: sigma {given} is used; the supervisory volatility is {wanted}")
    return notes
