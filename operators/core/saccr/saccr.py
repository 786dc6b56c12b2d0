"""SA-CCR: replacement cost, potential future exposure and exposure at default of netting sets (CRE52).

``exposure_at_default`` is what ``seawall saccr FILE.json`` runs. Every intermediate figure is in its result, unrounded.

A trade: ``id``, ``asset_class`` (IR, FX, CR, EQ, CO, CRYPTO), ``direction`` (long or short in the risk factor; an
option's follows from its type and position and must agree), ``notional`` (domestic currency; for FX, EQ, CO and
CRYPTO also ``price`` and ``units``; ``second_notional`` where neither leg of a pair is domestic), ``mtm``, ``M``
(0.04 where value is settled daily), and for IR and CR ``S`` (default 0) and ``E``. ``hedging_set`` is the currency
(IR), the pair (FX, CRYPTO: ``BTC/USD``) or Energy, Metals, Agricultural, Other (CO, with ``commodity_type``;
Electricity has its own factor); CR and EQ name their ``entity`` and ``subclass`` (AAA to CCC, IX_IG, IX_SG; SN, IX,
CRYPTO). Optional: ``option`` {type, position, P, K, T, [sigma], [lambda], [digital_payoff]}, ``cdo`` {attachment,
detachment} (long is protection bought), ``transaction`` (``basis`` with the pair of factors as ``basis``, or
``volatility``).

A margin agreement: ``margined``, ``C`` (or ``VM_held`` + ``NICA``), ``TH``, ``MTA``, ``NICA``, ``mpor_days`` or
``remargin_business_days``, and what raises the floor: ``number_of_trades``, ``illiquid``, ``long_disputes``;
``centrally_cleared`` lowers it, ``they_post: false`` makes the set unmargined.

References
----------
Basel Framework CRE52 (version effective 1 January 2023); BCBS 279 (March 2014, revised April 2014), Annex 4a and 4b,
for the worked examples.
"""

from typing import Any

import numpy as np

from seawall.operators.core.saccr import saccr_formulas as formulas
from seawall.operators.core.saccr.document import Fields
from seawall.operators.core.saccr.saccr_document import Trade, read_trades
from seawall.operators.core.saccr.saccr_netting import Choices, allocate, exposure_figures, netting_set, total_value
from seawall.operators.core.saccr.saccr_parameters import CRYPTO_REGIME_DEFAULT, CRYPTO_REGIMES
from seawall.operators.core.saccr.saccr_terms import MarginTerms, read_terms

Result = dict[str, Any]


def exposure_at_default(document: object) -> Result:
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
    fields = Fields(document, "")
    if not (fields.has("examples") or fields.has("margin_agreement_examples")):
        return _one(document, "")
    entries = [entry for name in ("examples", "margin_agreement_examples") if fields.has(name)
               for entry in fields.objects(name)]  # fmt: skip
    fields.finish()
    return {"results": [_one(entry, f"entry {number}") for number, entry in enumerate(entries, 1)]}


def _one(document: object, place: str) -> Result:
    """Compute one netting set, agreement or replacement-cost case; ``place`` names it where it has no id."""
    named = Fields(document, place)
    name = named.text("id", "")
    fields = Fields(document, f"netting set {name}" if place and name else place)
    fields.text("id", ""), fields.text("units", "")
    regime = fields.choice("crypto_regime", tuple(CRYPTO_REGIMES), CRYPTO_REGIME_DEFAULT)
    choices = Choices(CRYPTO_REGIMES[regime], fields.flag("ir_bucket_offset", True))
    if fields.has("netting_sets"):
        result = _joint(fields, choices)
    elif fields.has("sub_netting_sets"):
        result = _divided(fields, choices)
    elif fields.has("trades") or not fields.has("V"):
        trades = _trades(fields, choices)
        terms = read_terms(fields.values.get("margin_agreement"), fields.where, len(trades))
        result = netting_set([(trades, terms)], choices)
    else:
        result = _replacement_case(fields)
    fields.taken.add("margin_agreement")
    fields.finish()
    return {**({"id": name} if name else {}), **result}


def _trades(fields: Fields, choices: Choices) -> tuple[Trade, ...]:
    trades = read_trades(fields.objects("trades"), fields.where)
    classes = {trade.asset_class for trade in trades}
    if choices.regime.own_netting_set and "CRYPTO" in classes and len(classes) > 1:
        others = ", ".join(sorted(classes - {"CRYPTO"}))
        fields.refuse("trades", "CRYPTO_MUST_HAVE_ITS_OWN_NETTING_SET", f"OSFI 4.2; here beside {others}")
    return trades


def _joint(fields: Fields, choices: Choices) -> Result:
    """Several netting sets under one margin agreement: CRE52.75 for RC, unmargined PFE per set (CRE52.76)."""
    sets: list[tuple[str, tuple[Trade, ...]]] = []
    for number, entry in enumerate(fields.objects("netting_sets"), 1):
        name = Fields(entry, f"netting set number {number}").text("id", str(number))
        inner = Fields(entry, f"netting set {name}")
        inner.text("id", ""), inner.text("units", "")
        sets.append((name, _trades(inner, choices)))
        inner.finish()
    trades = sum(len(members) for _, members in sets)
    terms = read_terms(fields.values.get("margin_agreement"), fields.where, trades)
    values = [total_value(members) for _, members in sets]
    cost = formulas.joint_replacement_cost(np.array(values), terms.collateral)
    results: list[Result] = []
    potential = 0.0
    for (name, members), held in zip(sets, allocate(values, terms.collateral), strict=True):
        plain = MarginTerms(collateral=held)
        one = exposure_figures([(members, plain)], plain, total_value(members), choices)
        del one["RC"], one["EAD"]  # both exist for the agreement only
        results.append({"id": name, **one})
        potential += one["PFE"]
    return {
        "margined": terms.margined, "C": terms.collateral, "RC": cost, "PFE": potential,
        "EAD": float(formulas.exposure(cost, potential)), "netting_sets": results, "notes": list(terms.notes),
    }  # fmt: skip


def _divided(fields: Fields, choices: Choices) -> Result:
    """One netting set under several margin agreements: one RC, one multiplier, add-ons per part (CRE52.74 FAQ 1)."""
    parts: list[tuple[tuple[Trade, ...], MarginTerms]] = []
    for number, entry in enumerate(fields.objects("sub_netting_sets"), 1):
        inner = Fields(entry, f"sub netting set {number}")
        inner.text("id", "")
        trades = _trades(inner, choices)
        parts.append((trades, read_terms(inner.values.get("margin_agreement"), inner.where, len(trades))))
        inner.taken.add("margin_agreement")
        inner.finish()
    return netting_set(parts, choices)


def _replacement_case(fields: Fields) -> Result:
    """Replacement cost alone, of V, C and the terms of a margined set (BCBS 279 Annex 4b)."""
    value, held = fields.number("V"), fields.number("C")
    threshold, transfer = fields.number("TH", low=0.0), fields.number("MTA", low=0.0)
    independent = fields.number("NICA")
    for field in ("VM", "IA_in_favour", "ICA_held", "ICA_posted_unsegregated"):
        fields.number(field, 0.0)  # how C and NICA came about
    cost = float(formulas.margined_replacement_cost(value, held, threshold, transfer, independent))
    return {
        "V": value,
        "C": held,
        "V_minus_C": value - held,
        "TH_MTA_NICA": threshold + transfer - independent,
        "RC": cost,
    }
