"""SA-CCR gives every printed figure of the Basel examples and agrees with a slow reference on any other set."""

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.operators.core.base import DocumentError, parse_json, sum_by
from seawall.operators.core.credit import _saccr_formulas as formulas
from seawall.operators.core.credit import exposure_at_default
from seawall.operators.core.credit._saccr_inputs import SUPERVISORY, margin_period_floor
from seawall_testing import reference_models as reference
from seawall_testing.reference_data import read_vectors

# BCBS 279 Annex 4a (CRE99): the trades of the five examples, in thousands of USD
SWAPTION = {"type": "put", "position": "bought", "P": 0.06, "K": 0.05, "sigma": 0.5, "T": 1}
RATES: list[dict[str, Any]] = [
    {
        "id": "ir1",
        "asset_class": "IR",
        "hedging_set": "USD",
        "direction": "long",
        "notional": 10_000,
        "mtm": 30,
        "M": 10,
        "S": 0,
        "E": 10,
    },
    {
        "id": "ir2",
        "asset_class": "IR",
        "hedging_set": "USD",
        "direction": "short",
        "notional": 10_000,
        "mtm": -20,
        "M": 4,
        "S": 0,
        "E": 4,
    },
    {
        "id": "ir3",
        "asset_class": "IR",
        "hedging_set": "EUR",
        "notional": 5_000,
        "mtm": 50,
        "M": 11,
        "S": 1,
        "E": 11,
        "option": SWAPTION,
    },
]
CREDIT: list[dict[str, Any]] = [
    {
        "id": "cr1",
        "asset_class": "CR",
        "entity": "Firm A",
        "subclass": "AA",
        "direction": "long",
        "notional": 10_000,
        "mtm": 20,
        "M": 3,
        "E": 3,
    },
    {
        "id": "cr2",
        "asset_class": "CR",
        "entity": "Firm B",
        "subclass": "BBB",
        "direction": "short",
        "notional": 10_000,
        "mtm": -40,
        "M": 6,
        "E": 6,
    },
    {
        "id": "cr3",
        "asset_class": "CR",
        "entity": "CDX.IG 5y",
        "subclass": "IX_IG",
        "direction": "long",
        "notional": 10_000,
        "mtm": 0,
        "M": 5,
        "E": 5,
    },
]
COMMODITIES: list[dict[str, Any]] = [
    {
        "id": "co1",
        "asset_class": "CO",
        "hedging_set": "Energy",
        "commodity_type": "Crude Oil",
        "direction": "long",
        "notional": 10_000,
        "mtm": -50,
        "M": 0.75,
    },
    {
        "id": "co2",
        "asset_class": "CO",
        "hedging_set": "Energy",
        "commodity_type": "Crude Oil",
        "direction": "short",
        "notional": 20_000,
        "mtm": -30,
        "M": 2,
    },
    {
        "id": "co3",
        "asset_class": "CO",
        "hedging_set": "Metals",
        "commodity_type": "Silver",
        "direction": "long",
        "notional": 10_000,
        "mtm": 100,
        "M": 5,
    },
]
WEEKLY = {"margined": True, "mpor_days": 14, "TH": 0, "MTA": 5, "NICA": 150, "VM_held": 50, "C": 200}

# trades, margin agreement, then as printed: RC, add-ons by class, multiplier, EAD
EXAMPLES = {
    1: (RATES, None, 60, {"IR": 347}, 1, 569),
    2: (CREDIT, None, 0, {"CR": 282}, 0.965, 381),
    3: (COMMODITIES, None, 20, {"CO": 3841}, 1, 5406),
    4: (RATES + CREDIT, None, 40, {"IR": 347, "CR": 282}, 1, 936),
    5: (RATES + COMMODITIES, WEEKLY, 0, {"IR": 123, "CO": 1278}, 0.958, 1879),
}
# BCBS 279 Annex 4b: V, C, TH, MTA, NICA, then V - C, TH + MTA - NICA, RC
MARGIN_CASES = [
    (80, 90, 0, 1, 10, -10, -9, 0),
    (80, 79.5, 0, 1, 0, 0.5, 1, 1),
    (-50, -50, 0, 0, 0, 0, 0, 0),
    (-50, -60, 0, 0, -10, 10, 10, 10),
    (50, 80, 0, 0, 20, -30, -20, 0),
]


def fx(name: str = "1", **fields: Any) -> dict[str, Any]:
    return {
        "id": name,
        "asset_class": "FX",
        "hedging_set": "EUR/USD",
        "direction": "long",
        "notional": 100.0,
        "mtm": 0.0,
        "M": 1.0,
        **fields,
    }


def only(*trades: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return exposure_at_default({"trades": list(trades), **fields})


def same_as_printed(value: float, printed: float, digits: int = 0) -> bool:
    """Within half a unit of the last printed digit (CRE99.20)."""
    return abs(value - printed) <= 0.5 * 10.0**-digits + 1e-9


@pytest.mark.parametrize("number", EXAMPLES)
def test_the_printed_figures_of_the_basel_examples_come_out(number: int) -> None:
    trades, agreement, cost, add_ons, multiplier, ead = EXAMPLES[number]
    result = only(*trades, **({"margin_agreement": agreement} if agreement else {}))
    assert result["RC"] == cost
    assert set(result["addon_by_class"]) == set(add_ons)
    assert all(same_as_printed(result["addon_by_class"][name], printed) for name, printed in add_ons.items())
    assert same_as_printed(result["multiplier"], multiplier, 3)
    assert same_as_printed(result["EAD"], ead)
    assert result["notes"] == []
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(("v", "c", "th", "mta", "nica", "net", "uncalled", "cost"), MARGIN_CASES)
def test_the_margin_agreements_of_annex_4b_come_out(
    v: float, c: float, th: float, mta: float, nica: float, net: float, uncalled: float, cost: float
) -> None:
    result = exposure_at_default({"V": v, "C": c, "TH": th, "MTA": mta, "NICA": nica})
    assert (result["V_minus_C"], result["TH_MTA_NICA"], result["RC"]) == (net, uncalled, cost)


def test_the_cap_at_the_unmargined_exposure_is_computed_and_does_not_bind_in_example_5() -> None:
    result = only(*RATES, *COMMODITIES, margin_agreement=WEEKLY)
    assert result["mpor_days"] == 14
    assert same_as_printed(result["EAD_unmargined"], 5779.7, 1)
    assert not result["cap_binds"]


def test_a_huge_threshold_is_capped_at_the_unmargined_exposure() -> None:
    result = only(fx(mtm=5.0), margin_agreement={"margined": True, "TH": 1e6, "C": 0, "remargin_business_days": 1})
    assert result["RC"] == 1e6
    assert result["EAD"] == result["EAD_unmargined"] == pytest.approx(1.4 * (5.0 + 4.0))
    assert result["cap_binds"]


def test_every_figure_of_the_vector_file_comes_out() -> None:
    file = read_vectors("saccr_examples.json")
    results = exposure_at_default(file)["results"]
    assert len(results) == len(file["examples"]) + len(file["margin_agreement_examples"]) == 10
    for example, result in zip(file["examples"], results, strict=False):
        recomputed, published = example["recomputed_unrounded"], example["published"]
        for name in ("addon_aggregate", "V", "C", "RC", "multiplier", "PFE", "EAD", "addon_by_class"):
            assert result[name] == pytest.approx(recomputed[name], rel=1e-13), (result["id"], name)
        for name, value in recomputed["intermediates"].items():
            assert result["intermediates"][name] == pytest.approx(value, rel=1e-12), (result["id"], name)
        for trade, expected in zip(result["trades"], recomputed["trades"], strict=True):
            assert trade["id"] == expected.pop("id")
            numbers = {name: value for name, value in expected.items() if value is not None}
            assert {name: trade[name] for name in numbers} == pytest.approx(numbers, rel=1e-13)
        for name, value in published.get("intermediates", {}).items():
            assert same_as_printed(abs(result["intermediates"][name]), abs(value)), (result["id"], name)
        by_id = {trade["id"]: trade for trade in result["trades"]}
        for field, digits in (("adj", 0), ("sd", 2), ("delta", 2)):
            assert all(
                same_as_printed(by_id[name][field], value, digits) for name, value in published.get(field, {}).items()
            )
    for case, result in zip(file["margin_agreement_examples"], results[5:], strict=True):
        assert {name: result[name] for name in case["published"]} == case["published"]


# one trade, its add-on by hand: notional x delta x maturity factor x supervisory factor
HAND = [
    ({"asset_class": "FX", "hedging_set": "EUR/USD"}, 100 * 0.04),
    ({"asset_class": "FX", "hedging_set": "EUR/GBP", "second_notional": 120.0}, 120 * 0.04),
    ({"asset_class": "EQ", "entity": "ACME"}, 100 * 0.32),
    ({"asset_class": "EQ", "entity": "SPX", "subclass": "index"}, 100 * 0.2),
    ({"asset_class": "EQ", "entity": "a bitcoin fund", "subclass": "CRYPTO"}, 100 * 0.4),
    ({"asset_class": "CRYPTO", "hedging_set": "BTC/USD"}, 100 * 0.4),
    ({"asset_class": "CO", "hedging_set": "Energy", "commodity_type": "Electricity"}, 100 * 0.4),
    ({"asset_class": "CO", "hedging_set": "agriculture", "commodity_type": "Corn"}, 100 * 0.18),
    ({"asset_class": "CR", "entity": "X", "subclass": "CCC", "E": 1.0}, 100 * (1 - math.exp(-0.05)) / 0.05 * 0.06),
    ({"asset_class": "IR", "hedging_set": "USD", "E": 0.01}, 100 * 0.04 * 0.005),
    (
        {"asset_class": "IR", "hedging_set": "USD", "E": 1.0, "transaction": "basis", "basis": "3M/6M"},
        100 * (1 - math.exp(-0.05)) / 0.05 * 0.0025,
    ),
    ({"asset_class": "EQ", "entity": "SPX", "subclass": "IX", "transaction": "volatility"}, 100 * 0.2 * 5),
    ({"asset_class": "EQ", "entity": "ACME", "notional": None, "price": 25.0, "units": 4}, 100 * 0.32),
    ({"asset_class": "FX", "hedging_set": "EUR/USD", "M": 0.25}, 100 * 0.5 * 0.04),
    ({"asset_class": "FX", "hedging_set": "EUR/USD", "M": 0.0}, 100 * 0.2 * 0.04),
]


@pytest.mark.parametrize(("fields", "expected"), HAND)
def test_the_add_on_of_one_trade_is_what_one_computes_by_hand(fields: dict[str, Any], expected: float) -> None:
    trade = {"id": "1", "direction": "long", "notional": 100.0, "mtm": 0.0, "M": 1.0, **fields}
    assert only(trade)["addon_aggregate"] == pytest.approx(expected, rel=1e-12)


def test_basis_and_volatility_trades_do_not_offset_plain_ones() -> None:
    plain = {
        "id": "1",
        "asset_class": "EQ",
        "entity": "SPX",
        "subclass": "IX",
        "direction": "long",
        "notional": 10.0,
        "mtm": 0,
        "M": 1,
    }
    other = {**plain, "id": "2", "direction": "short", "transaction": "volatility"}
    third = {**plain, "id": "3", "direction": "short", "transaction": "basis", "basis": "SPX/NDX"}
    assert only(plain, other, third)["addon_by_class"] == {"EQ": pytest.approx(2.0 + 10.0 + 1.0)}


def test_the_basel_crypto_set_is_used_by_name_and_says_that_it_is_to_be_confirmed() -> None:
    trade = {**fx(), "asset_class": "CRYPTO", "hedging_set": "BTC/USD"}
    osfi, basel = only(trade), only(trade, crypto_regime="basel")
    assert (osfi["addon_aggregate"], basel["addon_aggregate"]) == (40.0, 32.0)
    assert (osfi["crypto_regime"]["status"], basel["crypto_regime"]["status"]) == ("sourced", "to confirm")


def test_crypto_pairs_do_not_offset_each_other() -> None:
    coin = {**fx(), "asset_class": "CRYPTO", "hedging_set": "BTC/USD"}
    against = {**coin, "id": "2", "hedging_set": "BTC/EUR", "direction": "short"}
    assert only(coin, {**against, "hedging_set": "BTC/USD"})["addon_aggregate"] == 0.0
    assert only(coin, against)["addon_aggregate"] == 80.0


def test_a_tranche_and_an_nth_to_default_have_the_supervisory_delta() -> None:
    tranche = {**CREDIT[0], "cdo": {"attachment": 0.03, "detachment": 0.07}}
    assert only(tranche)["trades"][0]["delta"] == pytest.approx(15 / (1.42 * 1.98))
    assert only({**tranche, "direction": "short"})["trades"][0]["delta"] == pytest.approx(-15 / (1.42 * 1.98))


def test_a_digital_is_a_collar_capped_at_its_payoff() -> None:
    option = {"type": "call", "position": "bought", "P": 100.0, "K": 100.0, "T": 1.0}
    far = {
        "id": "1",
        "asset_class": "EQ",
        "entity": "ACME",
        "mtm": 0,
        "M": 1,
        "option": {**option, "digital_payoff": 10.0},
    }
    wide = only(far)["trades"][0]
    legs = [only({**far, "notional": 100.0, "option": {**option, "K": k}})["trades"][0]["delta"] for k in (95.0, 105.0)]
    assert wide["adj"] == 100.0 * 10.0 / 10.0
    assert wide["D"] == pytest.approx(100.0 * (legs[0] - legs[1]))
    near = only({**far, "option": {**option, "digital_payoff": 10.0, "T": 1e-6}})
    assert near["trades"][0]["D"] == 10.0 / 0.32
    assert near["addon_aggregate"] == pytest.approx(10.0)


def test_a_negative_rate_needs_its_shift_and_then_has_a_delta() -> None:
    trade = {**RATES[2], "option": {**SWAPTION, "P": -0.002, "K": -0.001, "lambda": 0.01}}
    d = (math.log(0.008 / 0.009) + 0.125) / 0.5
    assert only(trade)["trades"][0]["delta"] == pytest.approx(-0.5 * math.erfc(d / math.sqrt(2)))


def test_sets_under_one_agreement_have_joint_replacement_cost_and_unmargined_pfe() -> None:
    sets = [{"id": "a", "trades": [fx(mtm=30.0)]}, {"id": "b", "trades": [fx(mtm=-10.0)]}]
    terms = {"margined": True, "C": 20.0, "remargin_business_days": 1}
    result = exposure_at_default({"netting_sets": sets, "margin_agreement": terms})
    assert result["RC"] == 10.0
    assert [one["C"] for one in result["netting_sets"]] == [20.0, 0.0]
    assert result["PFE"] == sum(one["PFE"] for one in result["netting_sets"])
    assert result["netting_sets"][0]["addon_aggregate"] == 4.0
    posted = exposure_at_default({"netting_sets": sets, "margin_agreement": {**terms, "C": -25.0}})
    assert posted["RC"] == 30.0 + 15.0


def test_a_set_under_two_agreements_has_one_replacement_cost_and_add_ons_per_part() -> None:
    margined = {
        "trades": [fx("1", mtm=5.0)],
        "margin_agreement": {"margined": True, "C": 2.0, "MTA": 1.0, "mpor_days": 10},
    }
    plain = {"trades": [fx("2", mtm=-1.0, direction="short")]}
    result = exposure_at_default({"sub_netting_sets": [margined, plain]})
    assert result["RC"] == 2.0
    assert result["addon_aggregate"] == pytest.approx(4.0 * 0.3 + 4.0)  # no offset between the parts


def test_the_margin_period_has_the_floors_of_the_standard() -> None:
    assert margin_period_floor(1, False, 10, False, 0) == 10
    assert margin_period_floor(5, False, 10, False, 2) == 14
    assert margin_period_floor(1, True, 9_000, False, 0) == 5
    assert margin_period_floor(1, False, 5_001, False, 0) == 20
    assert margin_period_floor(1, False, 10, True, 3) == 40
    low = only(fx(), margin_agreement={"margined": True, "C": 0, "mpor_days": 4})
    assert low["mpor_days"] == 10 and "below its floor" in low["notes"][0]


def test_what_the_input_says_twice_differently_is_noted() -> None:
    agreement = {**WEEKLY, "C": 180}
    assert only(*RATES, margin_agreement=agreement)["notes"] == ["C 180 is used; it is not VM_held + NICA = 200"]
    unusual = {**RATES[2], "option": {**SWAPTION, "sigma": 0.6}}
    assert only(unusual)["notes"] == ["trade ir3: sigma 0.6 is used; the supervisory volatility is 0.5"]


BAD_TRADES = [
    ({"notional": -1}, "trade 1, field notional: MUST_NOT_BE_NEGATIVE (got -1)"),
    ({"notional": "5"}, 'trade 1, field notional: MUST_BE_A_NUMBER (got "5")'),
    ({"notional": True}, "trade 1, field notional: MUST_BE_A_NUMBER (got true)"),
    ({"notional": float("nan")}, "trade 1, field notional: MUST_BE_FINITE_AND_AT_MOST_1E20 (got NaN)"),
    ({"notional": 10**400}, "trade 1, field notional: MUST_BE_FINITE_AND_AT_MOST_1E20"),
    ({"mtm": None}, "trade 1, field mtm: FIELD_IS_REQUIRED"),
    ({"M": None}, "trade 1, field M: FIELD_IS_REQUIRED"),
    ({"M": -1}, "trade 1, field M: MUST_NOT_BE_NEGATIVE"),
    ({"direction": "up"}, 'trade 1, field direction: MUST_BE_ONE_OF_long|short (got "up")'),
    ({"direction": None}, "trade 1, field direction: FIELD_IS_REQUIRED"),
    ({"asset_class": "FXX"}, "trade 1, field asset_class: MUST_BE_ONE_OF_IR|FX|CR|EQ|CO|CRYPTO"),
    ({"hedging_set": "EURUSD"}, "trade 1, field hedging_set: MUST_BE_A_PAIR_OF_TWO_SUCH_AS_EUR/USD"),
    ({"notionl": 1}, "trade 1, field notionl: FIELD_IS_UNKNOWN_HERE (did you mean notional?)"),
    ({"units": 3, "price": 1}, "trade 1, field notional: GIVE_NOTIONAL_OR_PRICE_AND_UNITS_NOT_BOTH"),
    ({"option": []}, "trade 1, field option: MUST_BE_AN_OBJECT"),
    ({"option": {"type": "call", "position": "bought", "P": 1, "T": 1}}, "trade 1, field option.K: FIELD_IS_REQUIRED"),
    (
        {"option": {"type": "call", "position": "bought", "P": 1, "K": 0, "T": 1}},
        "field option.K: MUST_BE_POSITIVE_AFTER_ADDING_LAMBDA",
    ),
    ({"option": {"type": "call", "position": "bought", "P": 1, "K": 1, "T": 0}}, "field option.T: MUST_BE_POSITIVE"),
    (
        {"option": {"type": "put", "position": "bought", "P": 1, "K": 1, "T": 1}},
        "field direction: DIRECTION_MUST_AGREE_WITH_OPTION",
    ),
    ({"cdo": {"attachment": 0, "detachment": 1}}, "field cdo: TRANCHE_MUST_BE_OF_CLASS_CR"),
    ({"transaction": "basis"}, "trade 1, field basis: FIELD_IS_REQUIRED"),
    ({"asset_class": "IR", "hedging_set": "USD", "S": 2, "E": 2}, "field E: END_MUST_LIE_AFTER_START_AND_TODAY"),
    ({"asset_class": "IR", "hedging_set": "USD"}, "trade 1, field E: FIELD_IS_REQUIRED"),
    (
        {"asset_class": "CR", "entity": "X", "subclass": "ZZ", "E": 1},
        "field subclass: MUST_BE_ONE_OF_AAA|AA|A|BBB|BB|B|CCC|IX_IG|IX_SG",
    ),
    ({"asset_class": "CR", "entity": "X", "E": 1}, "trade 1, field subclass: FIELD_IS_REQUIRED"),
    (
        {"asset_class": "CO", "hedging_set": "Oil", "commodity_type": "WTI"},
        "field hedging_set: MUST_BE_ONE_OF_Energy|Metals",
    ),
    ({"asset_class": "CO", "hedging_set": "Metals", "commodity_type": "Electricity"}, "ELECTRICITY_MUST_BE_IN_ENERGY"),
]


@pytest.mark.parametrize(("fields", "message"), BAD_TRADES)
def test_a_bad_trade_is_refused_with_one_line_that_names_it_the_field_and_the_rule(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(DocumentError) as refusal:
        only(fx(**fields))
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "field trades: MUST_BE_A_LIST_THAT_IS_NOT_EMPTY"),
        (5, "document: MUST_BE_AN_OBJECT (got 5)"),
        ({"trades": []}, "field trades: MUST_BE_A_LIST_THAT_IS_NOT_EMPTY"),
        ({"trades": [3]}, "trade number 1: MUST_BE_AN_OBJECT (got 3)"),
        ({"trades": [fx(), fx()]}, "trade 1, field id: TRADE_ID_MUST_BE_UNIQUE"),
        (
            {"trades": [fx("1"), fx("2", hedging_set="USD/EUR")]},
            "trade 2, field hedging_set: PAIR_MUST_BE_QUOTED_ONE_WAY",
        ),
        (
            {"trades": [CREDIT[0], {**CREDIT[1], "entity": "Firm A"}]},
            "trade cr2, field subclass: ENTITY_MUST_HAVE_ONE_SUBCLASS",
        ),
        (
            {"trades": [fx(), {**fx("2"), "asset_class": "CRYPTO"}]},
            "field trades: CRYPTO_MUST_HAVE_ITS_OWN_NETTING_SET",
        ),
        ({"trades": [fx()], "crypto_regime": "mars"}, "field crypto_regime: MUST_BE_ONE_OF_osfi|basel"),
        (
            {"trades": [fx()], "margin_agreement": {"margined": "yes"}},
            "field margin_agreement.margined: MUST_BE_TRUE_OR_FALSE",
        ),
        ({"trades": [fx()], "margin_agreement": {"margined": True, "C": 1}}, "MARGIN_PERIOD_IS_REQUIRED"),
        (
            {"trades": [fx()], "margin_agreement": {"margined": True, "mpor_days": 10}},
            "field margin_agreement.C: FIELD_IS_REQUIRED",
        ),
        ({"trades": [fx()], "margin_agreement": {"TH": -1}}, "field margin_agreement.TH: MUST_NOT_BE_NEGATIVE"),
        ({"trades": [fx()], "margin_agreement": {"MPOR": 1}}, "field margin_agreement.MPOR: FIELD_IS_UNKNOWN_HERE"),
        ({"examples": [{"id": "x", "trades": [fx(mtm="a")]}]}, "netting set x, trade 1, field mtm: MUST_BE_A_NUMBER"),
        ({"V": 1, "C": 1, "TH": 0, "MTA": 0}, "field NICA: FIELD_IS_REQUIRED"),
        ([{"trades": [fx()], "V": 1}], "entry 1, field V: FIELD_IS_UNKNOWN_HERE"),
    ],
)
def test_a_bad_document_is_refused_with_one_line(document: Any, message: str) -> None:
    with pytest.raises(DocumentError) as refusal:
        exposure_at_default(document)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"a":1,"a":2}', "FIELD_MUST_NOT_BE_REPEATED"),
        ("[NaN]", "MUST_BE_FINITE"),
        ("{", "MUST_BE_JSON"),
        (b"\xff", "MUST_BE_JSON"),
        ("[" * 100_000, "MUST_BE_JSON"),
    ],
)
def test_text_that_is_not_strict_json_is_refused(text: str | bytes, rule: str) -> None:
    with pytest.raises(DocumentError, match=rule):
        parse_json(text)


amounts = st.integers(-10_000, 10_000).map(lambda n: n / 4)
sizes = st.integers(0, 100_000).map(lambda n: n / 2)
years = st.sampled_from([0.01, 0.04, 0.25, 0.999, 1.0, 3.0, 5.0, 5.001, 30.0])


@st.composite
def trades(draw: st.DrawFn, name: str) -> dict[str, Any]:
    cls = draw(st.sampled_from(["IR", "FX", "CR", "EQ", "CO"]))
    start = draw(st.sampled_from([0.0, 0.5, 2.0]))
    trade: dict[str, Any] = {
        "id": name,
        "asset_class": cls,
        "direction": draw(st.sampled_from(["long", "short"])),
        "notional": draw(sizes),
        "mtm": draw(amounts),
        "M": draw(years),
    }
    if cls in ("IR", "CR"):
        trade |= {"S": start, "E": start + draw(years)}
    if cls == "IR":
        trade["hedging_set"] = draw(st.sampled_from(["USD", "EUR"]))
    elif cls == "FX":
        trade["hedging_set"] = draw(st.sampled_from(["EUR/USD", "EUR/GBP"]))
    elif cls == "CR":
        trade["entity"], trade["subclass"] = draw(st.sampled_from([("A", "AAA"), ("B", "CCC"), ("I", "IX_SG")]))
    elif cls == "EQ":
        trade["entity"], trade["subclass"] = draw(st.sampled_from([("A", "SN"), ("B", "SN"), ("I", "IX")]))
    else:
        trade["hedging_set"], trade["commodity_type"] = draw(
            st.sampled_from([("Energy", "Electricity"), ("Energy", "Oil"), ("Metals", "Gold"), ("Other", "Weather")])
        )
    if draw(st.booleans()):
        kind, position = draw(
            st.sampled_from([("call", "bought"), ("call", "sold"), ("put", "bought"), ("put", "sold")])
        )
        strike, expiry = draw(st.sampled_from([0.02, 0.05, 0.2])), draw(years)
        trade["option"] = {"type": kind, "position": position, "P": 0.05, "K": strike, "T": expiry}
        trade["direction"] = "long" if (kind == "call") == (position == "bought") else "short"
    elif cls == "CR":
        trade["cdo"] = {"attachment": 0.03, "detachment": draw(st.sampled_from([0.07, 1.0]))}
    return trade


@st.composite
def netting_sets(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 8))
    document: dict[str, Any] = {"trades": [draw(trades(str(n))) for n in range(count)]}
    terms = {
        "margined": draw(st.booleans()),
        "C": draw(amounts),
        "TH": draw(sizes),
        "MTA": draw(sizes),
        "NICA": draw(amounts),
    }
    return {**document, "margin_agreement": {**terms, "mpor_days": draw(st.integers(10, 60))}}


@settings(deadline=None, max_examples=500)
@given(netting_sets())
def test_any_netting_set_agrees_with_the_slow_reference(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    result = exposure_at_default(document)
    assert document == before
    agreement = document["margin_agreement"]
    value = sum(trade["mtm"] for trade in document["trades"])
    cost = reference.replacement_cost(value, agreement["C"], agreement if agreement["margined"] else None)
    assert result["RC"] == float(cost)
    assert result["EAD"] == pytest.approx(reference.ead(document), rel=1e-11, abs=1e-7)


@settings(deadline=None, max_examples=40)
@given(netting_sets(), st.randoms())
def test_the_order_of_trades_changes_nothing_but_rounding(document: dict[str, Any], random: Any) -> None:
    shuffled = {**document, "trades": random.sample(document["trades"], len(document["trades"]))}
    expected = exposure_at_default(document)
    assert exposure_at_default(shuffled)["EAD"] == pytest.approx(expected["EAD"], rel=1e-9, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(netting_sets())
def test_exposure_is_never_negative_and_never_above_the_unmargined_one(document: dict[str, Any]) -> None:
    result = exposure_at_default(document)
    assert 0.0 <= result["EAD"] <= result["EAD_unmargined"]
    assert 0.05 <= result["multiplier"] <= 1.0


def test_columns_give_the_bits_of_the_document_path() -> None:
    rng = np.random.default_rng(5)
    sets, pairs = rng.integers(0, 20, 400), rng.integers(0, 3, 400)
    signed, value = rng.normal(0, 1e4, 400).round(2), rng.normal(0, 100, 400).round(2)
    effective = signed * formulas.maturity_factor(0.04)
    cells, entity = np.unique(sets * 3 + pairs, return_inverse=True)
    hedging = formulas.HedgingSets(
        np.arange(len(cells)), np.full(len(cells), 0.4), np.zeros(len(cells)), np.zeros(len(cells), dtype=bool)
    )
    add_ons = sum_by(cells // 3, hedging.add_ons(sum_by(entity, effective, len(cells)), None), 20)
    held = rng.normal(0, 300, 20).round(2)
    surplus = np.bincount(sets, weights=value, minlength=20) - held
    ead = formulas.exposure(formulas.replacement_cost(surplus), formulas.pfe_multiplier(surplus, add_ons) * add_ons)
    for number in range(20):
        rows = [
            {
                "id": str(i),
                "asset_class": "CRYPTO",
                "hedging_set": f"C{pairs[i]}/USD",
                "notional": float(abs(signed[i])),
                "mtm": float(value[i]),
                "M": 0.04,
                "direction": "long" if signed[i] > 0 else "short",
            }
            for i in np.flatnonzero(sets == number)
        ]
        rows.sort(key=lambda row: row["hedging_set"])  # columns add pairs in their order, a document in order of use
        result = only(*rows, margin_agreement={"C": float(held[number])})
        assert result["addon_aggregate"] == add_ons[number]
        assert result["EAD"] == pytest.approx(ead[number], rel=1e-12)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["IR", "CR", "long", "EUR/USD"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "T", "K", "type", "C"]), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(deadline=None)
@given(netting_sets(), st.data())
def test_whatever_stands_in_a_field_the_answer_is_finite_or_one_line_of_refusal(
    document: dict[str, Any], data: st.DataObject
) -> None:
    """One field of the document, at any depth, is replaced, removed or added."""
    target: Any = document
    while isinstance(target, list | dict) and target:
        keys = list(range(len(target))) if isinstance(target, list) else [*target, "netting_sets", "cdo", "basis", "V"]
        key = data.draw(st.sampled_from(keys))
        inner = target[key] if isinstance(target, list) else target.get(key)
        if not isinstance(inner, list | dict) or data.draw(st.integers(0, 3)) == 0:
            target[key] = data.draw(json_values)
            break
        target = inner
    try:
        result = exposure_at_default(document)
    except DocumentError as refusal:
        assert "\n" not in str(refusal) and refusal.rule
    else:
        json.dumps(result, allow_nan=False)


def test_every_row_of_the_supervisory_table_is_that_of_the_standard() -> None:
    names = {"ENERGY": "CO", "METALS": "CO", "AGRICULTURAL": "CO", "OTHER": "CO", "ELECTRICITY": "Electricity", "": ""}
    for (asset_class, subclass), found in SUPERVISORY.items():
        if (asset_class, subclass) == ("EQ", "CRYPTO"):
            assert (found.factor, found.correlation, found.volatility) == (
                0.4,
                0.5,
                1.5,
            )  # OSFI 4.2, indirect exposures
            continue
        factor, correlation, volatility = reference.TABLE[names.get(subclass, subclass) or asset_class]
        assert (found.factor, found.correlation, found.volatility) == (factor, correlation or 0.0, volatility)


def test_the_supervisory_table_is_that_of_the_vector_file() -> None:
    classes = {"IR": ("IR", ""), "FX": ("FX", ""), "Equity single name": ("EQ", "SN"), "Equity index": ("EQ", "IX")}
    prefixes = {"Credit single name": ("CR", ""), "Credit index": ("CR", "IX_"), "Commodity": ("CO", "")}
    for row in read_vectors("saccr_examples.json")["parameters"]["supervisory"]:
        if row["asset_class"] in classes:
            key = classes[row["asset_class"]]
        else:
            asset_class, prefix = prefixes[row["asset_class"]]
            key = asset_class, prefix + row["subclass"].upper().replace("OIL/GAS", "ENERGY")
        expected = (row["SF"], row["correlation"] or 0.0, row["option_vol"])
        assert (SUPERVISORY[key].factor, SUPERVISORY[key].correlation, SUPERVISORY[key].volatility) == expected


def test_without_offset_the_maturity_buckets_of_rates_add_up() -> None:
    result = only(*RATES[:2], ir_bucket_offset=False)
    buckets = result["intermediates"]["IR.USD.buckets"]
    assert result["addon_aggregate"] == pytest.approx(0.005 * sum(abs(bucket) for bucket in buckets))
    assert only(*RATES[:2])["addon_aggregate"] < result["addon_aggregate"]


def test_a_set_without_any_add_on_has_no_potential_exposure() -> None:
    result = only(fx("1"), fx("2", direction="short", mtm=-5.0))
    assert (result["addon_aggregate"], result["multiplier"], result["PFE"], result["EAD"]) == (0.0, 0.05, 0.0, 0.0)
    assert only(fx(notional=0.0, mtm=3.0))["multiplier"] == 1.0


@pytest.mark.parametrize("pair", ["BTC/BTC", "/USD", "BTC/", "A/B/C", "/"])
def test_a_pair_is_two_different_names(pair: str) -> None:
    with pytest.raises(DocumentError, match="MUST_BE_A_PAIR_OF_TWO"):
        only(fx(hedging_set=pair))


@pytest.mark.parametrize("name", [True, "", "x" * 129, 1.5, ["1"]])
def test_an_id_is_a_short_text(name: object) -> None:
    with pytest.raises(DocumentError, match="trade number 1, field id: "):
        only({**fx(), "id": name})
