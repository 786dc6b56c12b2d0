"""SA-CCR: replacement cost, potential future exposure and exposure at default of netting sets (CRE52; `saccr.md`).

``exposure_at_default`` is what ``seawall saccr FILE.json`` runs. Every intermediate figure is in its result, unrounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seawall.operators.core.base import DocumentFields, shown_value
from seawall.operators.core.credit import _saccr_formulas as formulas
from seawall.operators.core.credit._saccr_formulas import AddOns, SizedTrade, aggregate_add_ons, size_trade
from seawall.operators.core.credit._saccr_inputs import (
    CRYPTO_REGIME_DEFAULT,
    CRYPTO_REGIMES,
    CryptoRegime,
    MarginTerms,
    SaccrTrade,
    combine_terms,
    read_margin_terms,
    read_trades,
)

# SA-CCR of one netting set: replacement cost, add-ons, multiplier, cap, and every figure on the way (CRE52).

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SupervisoryChoices:
    """Choices that the supervisor leaves to the bank: the crypto regime, and offset across interest-rate buckets."""

    regime: CryptoRegime
    bucket_offset: bool


def netting_set_result(
    parts: Sequence[tuple[tuple[SaccrTrade, ...], MarginTerms]], choices: SupervisoryChoices
) -> Figures:
    """Compute one netting set of one or more sub-sets, each with its own agreement, and apply the cap of CRE52.2."""
    terms = combine_terms([part for _, part in parts])
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
    parts: Sequence[tuple[tuple[SaccrTrade, ...], MarginTerms]],
    terms: MarginTerms,
    value: float,
    choices: SupervisoryChoices,
) -> Figures:
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
    uncalled = threshold + transfer - independent if terms.margined else 0.0
    cost = float(formulas.replacement_cost(value - held, uncalled))
    sized: list[SizedTrade] = []
    add_ons: list[AddOns] = []
    for trades, part in parts:
        sized += (members := [size_trade(trade, _maturity_factor(trade, part), choices.regime) for trade in trades])
        add_ons.append(aggregate_add_ons(members, choices.bucket_offset))
    figures = _add_on_figures(add_ons)
    multiplier = float(formulas.pfe_multiplier(value - held, figures["addon_aggregate"]))
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
        "notes": [*terms.notes, *_volatility_notes(sized)],
    }


def total_value(trades: Sequence[SaccrTrade]) -> float:
    """Return the market value V of trades, added in their order."""
    total = 0.0
    for trade in trades:
        total += trade.value
    return total


def allocate_collateral(values: list[float], collateral: float) -> list[float]:
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


def _maturity_factor(trade: SaccrTrade, terms: MarginTerms) -> float:
    if terms.margined:
        return float(formulas.margined_maturity_factor(terms.margin_period))
    return float(formulas.maturity_factor(trade.maturity))


def _add_on_figures(parts: list[AddOns]) -> Figures:
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


def _trade_figures(one: SizedTrade) -> Figures:
    return {
        "id": one.trade.id, "sd": one.duration, "adj": one.adjusted, "delta": one.delta, "mf": one.maturity_factor,
        "D": one.effective, "SF": one.factor,
    }  # fmt: skip


def _crypto_note(sized: list[SizedTrade], choices: SupervisoryChoices) -> Figures:
    if all(one.trade.asset_class != "CRYPTO" for one in sized):
        return {}
    regime = choices.regime
    return {"crypto_regime": {"name": regime.name, "status": regime.status, "source": regime.source}}


def _volatility_notes(sized: list[SizedTrade]) -> list[str]:
    """Say where an option came with another volatility than the prescribed one (CRE52.72 FAQ 2)."""
    notes = []
    for one in sized:
        trade = one.trade
        prescribed = one.row.volatility
        if trade.option is not None and trade.option.volatility is not None and trade.option.volatility != prescribed:
            given, wanted = shown_value(trade.option.volatility), shown_value(prescribed)
            notes.append(f"trade {trade.id}: sigma {given} is used; the supervisory volatility is {wanted}")
    return notes


# SA-CCR: replacement cost, potential future exposure and exposure at default of netting sets (CRE52).
#
# ``exposure_at_default`` is what ``seawall saccr FILE.json`` runs. Every intermediate figure is in its result,
# unrounded.
#
# A trade: ``id``, ``asset_class`` (IR, FX, CR, EQ, CO, CRYPTO), ``direction`` (long or short in the risk factor; an
# option's follows from its type and position and must agree), ``notional`` (domestic currency; for FX, EQ, CO and
# CRYPTO also ``price`` and ``units``; ``second_notional`` where neither leg of a pair is domestic), ``mtm``, ``M``
# (0.04 where value is settled daily), and for IR and CR ``S`` (default 0) and ``E``. ``hedging_set`` is the currency
# (IR), the pair (FX, CRYPTO: ``BTC/USD``) or Energy, Metals, Agricultural, Other (CO, with ``commodity_type``;
# Electricity has its own factor); CR and EQ name their ``entity`` and ``subclass`` (AAA to CCC, IX_IG, IX_SG; SN, IX,
# CRYPTO). Optional: ``option`` {type, position, P, K, T, [sigma], [lambda], [digital_payoff]}, ``cdo`` {attachment,
# detachment} (long is protection bought), ``transaction`` (``basis`` with the pair of factors as ``basis``, or
# ``volatility``).
#
# A margin agreement: ``margined``, ``C`` (or ``VM_held`` + ``NICA``), ``TH``, ``MTA``, ``NICA``, ``mpor_days`` or
# ``remargin_business_days``, and what raises the floor: ``number_of_trades``, ``illiquid``, ``long_disputes``;
# ``centrally_cleared`` lowers it, ``they_post: false`` makes the set unmargined.
#
# References
# ----------
# Basel Framework CRE52 (version effective 1 January 2023); BCBS 279 (March 2014, revised April 2014), Annex 4a and 4b,
# for the worked examples.


def exposure_at_default(document: object) -> Figures:
    """Compute SA-CCR for a parsed JSON document and return every figure on the way.

    Parameters
    ----------
    document
        One of five forms, of trades and margin agreements as at the top of this module. Times in years, rates as
        fractions, all amounts in one currency, signed from our side.

        1. A netting set: ``{"id", "trades": […], "margin_agreement": {…}}``; an absent agreement is an unmargined set
           without collateral. Optional: ``crypto_regime`` (``osfi``, the default, or ``basel``, to confirm),
           ``ir_bucket_offset`` (true).
        2. Several netting sets under one margin agreement (CRE52.75): ``{"netting_sets": [{"id", "trades"}, …],
           "margin_agreement": {…}}``. PFE is unmargined; the collateral is allocated in the order of the sets, to
           each at most what it owes (or is owed), the rest to the last.
        3. One netting set under several agreements (CRE52.74): ``{"sub_netting_sets": [{"trades",
           "margin_agreement"}, …]}``. One RC and one multiplier for the whole set, add-ons per part.
        4. A replacement-cost case (Annex 4b): ``{"V", "C", "TH", "MTA", "NICA"}``.
        5. A file of these: ``{"examples": […], "margin_agreement_examples": […]}``, or a plain list.

    Returns
    -------
    dict
        Ready for JSON: ``RC``, ``addon_by_class``, ``addon_aggregate``, ``intermediates`` per hedging set and entity,
        ``multiplier``, ``PFE``, ``EAD``, the figures per trade, ``notes``; ``{"results": […]}`` for form 5.

    Raises
    ------
    DocumentError
        For the first thing wrong, in one line naming netting set, trade, field and rule.

    Examples
    --------
    >>> swap = {"id": "1", "asset_class": "FX", "hedging_set": "EUR/USD", "direction": "long", "notional": 100.0,
    ...         "mtm": 1.0, "M": 1.0}
    >>> result = exposure_at_default({"trades": [swap]})
    >>> result["RC"], result["addon_by_class"], round(result["EAD"], 12)
    (1.0, {'FX': 4.0}, 7.0)
    """
    if isinstance(document, list):
        return {"results": [_one(entry, f"entry {number}") for number, entry in enumerate(document, 1)]}
    fields = DocumentFields(document, "")
    if not (fields.has("examples") or fields.has("margin_agreement_examples")):
        return _one(document, "")
    entries = [entry for name in ("examples", "margin_agreement_examples") if fields.has(name)
               for entry in fields.objects(name)]  # fmt: skip
    fields.finish()
    return {"results": [_one(entry, f"entry {number}") for number, entry in enumerate(entries, 1)]}


def _one(document: object, place: str) -> Figures:
    """Compute one netting set, agreement or replacement-cost case; ``place`` names it where it has no id."""
    named = DocumentFields(document, place)
    name = named.text("id", "")
    fields = DocumentFields(document, f"netting set {name}" if place and name else place)
    fields.text("id", ""), fields.text("units", "")
    regime = fields.choice("crypto_regime", tuple(CRYPTO_REGIMES), CRYPTO_REGIME_DEFAULT)
    choices = SupervisoryChoices(CRYPTO_REGIMES[regime], fields.flag("ir_bucket_offset", True))
    if fields.has("netting_sets"):
        result = _joint(fields, choices)
    elif fields.has("sub_netting_sets"):
        result = _divided(fields, choices)
    elif fields.has("trades") or not fields.has("V"):
        trades = _trades(fields, choices)
        terms = read_margin_terms(fields.values.get("margin_agreement"), fields.where, len(trades))
        result = netting_set_result([(trades, terms)], choices)
    else:
        result = _replacement_case(fields)
    fields.taken.add("margin_agreement")
    fields.finish()
    return {**({"id": name} if name else {}), **result}


def _trades(fields: DocumentFields, choices: SupervisoryChoices) -> tuple[SaccrTrade, ...]:
    trades = read_trades(fields.objects("trades"), fields.where)
    classes = {trade.asset_class for trade in trades}
    if choices.regime.own_netting_set and "CRYPTO" in classes and len(classes) > 1:
        others = ", ".join(sorted(classes - {"CRYPTO"}))
        fields.refuse("trades", "CRYPTO_MUST_HAVE_ITS_OWN_NETTING_SET", f"OSFI 4.2; here beside {others}")
    return trades


def _joint(fields: DocumentFields, choices: SupervisoryChoices) -> Figures:
    """Several netting sets under one margin agreement: CRE52.75 for RC, unmargined PFE per set (CRE52.76)."""
    sets: list[tuple[str, tuple[SaccrTrade, ...]]] = []
    for number, entry in enumerate(fields.objects("netting_sets"), 1):
        name = DocumentFields(entry, f"netting set number {number}").text("id", str(number))
        inner = DocumentFields(entry, f"netting set {name}")
        inner.text("id", ""), inner.text("units", "")
        sets.append((name, _trades(inner, choices)))
        inner.finish()
    trades = sum(len(members) for _, members in sets)
    terms = read_margin_terms(fields.values.get("margin_agreement"), fields.where, trades)
    values = [total_value(members) for _, members in sets]
    cost = formulas.joint_replacement_cost(np.array(values), terms.collateral)
    results: list[Figures] = []
    potential = 0.0
    for (name, members), held in zip(sets, allocate_collateral(values, terms.collateral), strict=True):
        plain = MarginTerms(collateral=held)
        one = exposure_figures([(members, plain)], plain, total_value(members), choices)
        del one["RC"], one["EAD"]  # both exist for the agreement only
        results.append({"id": name, **one})
        potential += one["PFE"]
    return {
        "margined": terms.margined, "C": terms.collateral, "RC": cost, "PFE": potential,
        "EAD": float(formulas.exposure(cost, potential)), "netting_sets": results, "notes": list(terms.notes),
    }  # fmt: skip


def _divided(fields: DocumentFields, choices: SupervisoryChoices) -> Figures:
    """One netting set under several margin agreements: one RC, one multiplier, add-ons per part (CRE52.74 FAQ 1)."""
    parts: list[tuple[tuple[SaccrTrade, ...], MarginTerms]] = []
    for number, entry in enumerate(fields.objects("sub_netting_sets"), 1):
        inner = DocumentFields(entry, f"sub netting set {number}")
        inner.text("id", "")
        trades = _trades(inner, choices)
        parts.append((trades, read_margin_terms(inner.values.get("margin_agreement"), inner.where, len(trades))))
        inner.taken.add("margin_agreement")
        inner.finish()
    return netting_set_result(parts, choices)


def _replacement_case(fields: DocumentFields) -> Figures:
    """Replacement cost alone, of V, C and the terms of a margined set (BCBS 279 Annex 4b)."""
    value, held = fields.number("V"), fields.number("C")
    threshold, transfer = fields.number("TH", low=0.0), fields.number("MTA", low=0.0)
    independent = fields.number("NICA")
    for field in ("VM", "IA_in_favour", "ICA_held", "ICA_posted_unsegregated"):
        fields.number(field, 0.0)  # how C and NICA came about
    surplus, uncalled = value - held, threshold + transfer - independent
    cost = float(formulas.replacement_cost(surplus, uncalled))
    return {"V": value, "C": held, "V_minus_C": surplus, "TH_MTA_NICA": uncalled, "RC": cost}
