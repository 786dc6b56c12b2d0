"""Netting sets on the risk path: terms, replacement cost, SA-CCR, wrong-way risk, obligations, orders, margin models.

Collateral counts once, haircut against us on either side; what was agreed decides, not what is hoped; nothing is owed
twice. A measure that a book does not need is not in its rows.
"""

import random
from pathlib import Path
from typing import Any

import pytest

from seawall.operators.core.credit import exposure_at_default
from seawall_testing.desk import (
    SECOND,
    T0,
    Json,
    account,
    fill,
    instrument,
    lines,
    mark,
    rejects,
    sequence,
    transfer,
    write_desk,
)
from seawall_testing.pipeline import MemoryBus, PipelineRun, journal_in_order, run_pipeline

PERPETUAL = instrument("P", base="BTC", quantity_increment="0.001")
MARKED = mark(T0 + 1, "100", "P")


def terms(name: str = "a", holder: str = "a", **fields: Any) -> Json:
    return {"type": "netting_set", "netting_set": name, "counterparty": holder, **fields}


def traded(holder: str = "a", side: str = "buy", quantity: str = "10", price: str = "90", name: str = "P") -> Json:
    return fill(T0 + 5, f"f-{holder}-{name}", holder, instrument=name, side=side, quantity=quantity, price=price)


def posted(amount: str, purpose: str = "variation_margin", **fields: Any) -> Json:
    name = f"t-{purpose}-{len(fields)}-{amount}-{fields.get('account', '')}"
    return transfer(T0 + 4, name, amount=amount, purpose=purpose, **fields)


def saccr(ran: PipelineRun, margined: bool, notional: float, direction: str, value: float, **agreement: Any) -> Json:
    """Return what `seawall saccr` says of one crypto trade that is settled every day."""
    trade = {"id": "1", "asset_class": "CRYPTO", "hedging_set": "BTC/USD", "direction": direction,
             "notional": notional, "mtm": value, "M": 0.04}  # fmt: skip
    found: Json = exposure_at_default({"trades": [trade], "margin_agreement": {"margined": margined, **agreement}})
    return found


# --- terms ------------------------------------------------------------------------------------------------------------


def test_a_book_without_terms_has_no_potential_exposure_in_its_rows(tmp_path: Path) -> None:
    ran = run_pipeline(tmp_path, PERPETUAL, *account("a"), MARKED, traded())
    assert set(ran.measures("netting_set:a")) == {"current_exposure", "collateral_held"}
    assert "exposure_at_default" not in ran.measures("firm")


def test_a_limit_that_names_a_measure_makes_every_book_have_it(tmp_path: Path) -> None:
    limit = {"id": "ead", "scope": "netting_set:*", "measure": "exposure_at_default", "hard": 50}
    ran = run_pipeline(tmp_path, PERPETUAL, *account("a"), MARKED, traded(side="sell", price="110"), limits=[limit])
    wanted = saccr(ran, False, 1000.0, "long", -100.0, NICA=0)  # the client is short at 110: we are long and owe 100
    found = ran.measures("netting_set:a")
    assert found["exposure_at_default"] == pytest.approx(wanted["EAD"])
    assert found["potential_exposure"] == pytest.approx(wanted["PFE"])
    assert ran.breaches("ead") == [("netting_set:a", "none", "hard")]
    assert ran.measures("firm")["exposure_at_default"] == pytest.approx(wanted["EAD"])


@pytest.mark.parametrize(
    ("fields", "held", "uncalled"),
    [
        ({"threshold": "30", "minimum_transfer_amount": "5"}, 0.0, 35.0),
        ({"threshold": "30", "minimum_transfer_amount": "5"}, 80.0, 35.0),
        ({"threshold": "300"}, 0.0, 300.0),
        ({"minimum_transfer_amount": "5", "remargin_business_days": 5}, 60.0, 5.0),
    ],
)
def test_a_margined_set_has_the_figures_of_saccr_on_the_same_terms(
    tmp_path: Path, fields: Json, held: float, uncalled: float
) -> None:
    given = [posted(f"{held}")] if held else []
    ran = run_pipeline(tmp_path, PERPETUAL, *account("a"), terms(margined=True, **fields), MARKED, *given,
                   traded(side="sell", price="90"))  # fmt: skip
    days = 9 + fields.get("remargin_business_days", 1)
    wanted = saccr(ran, True, 1000.0, "long", 100.0, C=held, TH=float(fields.get("threshold", 0)),
                   MTA=float(fields.get("minimum_transfer_amount", 0)), NICA=0, mpor_days=days)  # fmt: skip
    found = ran.measures("netting_set:a")
    assert found["current_exposure"] == pytest.approx(wanted["RC"]) == max(100.0 - held, uncalled)
    assert found["potential_exposure"] == pytest.approx(wanted["PFE"])
    assert found["exposure_at_default"] == pytest.approx(wanted["EAD"])


def test_an_independent_amount_counts_once_beside_variation_margin_and_lowers_what_may_stay_uncalled(
    tmp_path: Path,
) -> None:
    given = [posted("40"), posted("25", "independent_amount")]
    ran = run_pipeline(tmp_path, PERPETUAL, *account("a"), terms(margined=True, threshold="50"), MARKED, *given,
                   traded(side="sell", price="90"))  # fmt: skip
    found = ran.measures("netting_set:a")
    assert found["collateral_held"] == 65.0
    assert found["current_exposure"] == max(100.0 - 65.0, 50.0 - 25.0)


@pytest.mark.parametrize(("segregated", "exposed"), [(False, 160.0), (True, 100.0)])
def test_what_we_posted_is_exposure_unless_it_is_segregated(tmp_path: Path, segregated: bool, exposed: float) -> None:
    house = {**account("d", holder="house")[1]}
    gave = posted("60", "independent_amount", account="d", segregated=segregated)
    ran = run_pipeline(tmp_path, PERPETUAL, account("d")[0], house, terms("d", "d"), MARKED, gave, traded("d"))
    assert ran.measures("netting_set:d")["current_exposure"] == exposed


@pytest.mark.parametrize(
    ("eligible", "counted"),
    [({}, 90.0), ({"USDX": "0.25"}, 75.0), ({"USD": "0"}, 0.0)],
    ids=["no list: the asset's", "the agreement's", "not on the list"],
)
def test_the_haircut_of_the_agreement_comes_before_that_of_the_asset(
    tmp_path: Path, eligible: Json, counted: float
) -> None:
    ran = run_pipeline(
        tmp_path,
        {"type": "asset", "asset": "USDX", "class": "stablecoin", "haircut": "0.1"},
        instrument("USDX-USD", kind="spot", base="USDX"),
        *account("a"),
        terms(eligible=eligible),
        mark(T0 + 1, "1", "USDX-USD"),
        posted("100", asset="USDX"),
    )
    assert ran.measures("netting_set:a")["collateral_held"] == pytest.approx(counted)


@pytest.mark.parametrize(
    ("side", "fields", "call"),
    [
        ("sell", {"threshold": "30", "minimum_transfer_amount": "10"}, 70.0),
        ("sell", {"minimum_transfer_amount": "101"}, 0.0),
        ("sell", {"they_post": False}, 0.0),
        ("buy", {"our_threshold": "40"}, -60.0),
        ("buy", {"we_post": False}, 0.0),
        ("sell", {"rounding": "30"}, 120.0),
    ],
)
def test_calls_go_in_both_directions_by_the_terms_of_whoever_owes(
    tmp_path: Path, side: str, fields: Json, call: float
) -> None:
    ran = run_pipeline(tmp_path, PERPETUAL, *account("a"), terms(margined=True, **fields), MARKED,
                   traded(side=side, price="90"))  # fmt: skip
    assert ran.measures("netting_set:a")["margin_call"] == call


def test_terms_in_another_currency_are_at_its_rate(tmp_path: Path) -> None:
    ran = run_pipeline(
        tmp_path,
        instrument("EUR-USD", kind="spot", base="EUR"),
        PERPETUAL,
        *account("a"),
        terms(margined=True, threshold="100", currency="EUR"),
        MARKED,
        mark(T0 + 1, "1.25", "EUR-USD"),
        traded(side="sell", price="90"),
    )
    assert ran.measures("netting_set:a")["current_exposure"] == 125.0


# --- SA-CCR on the book -----------------------------------------------------------------------------------------------

CLASSES = {
    "EQ_SN": ("EQ", {"subclass": "SN"}),
    "EQ_IX": ("EQ", {"subclass": "IX"}),
    "CO_ENERGY": ("CO", {"hedging_set": "Energy", "commodity_type": "oil"}),
    "CO_ELECTRICITY": ("CO", {"hedging_set": "Energy", "commodity_type": "Electricity"}),
    "CR_BBB": ("CR", {"subclass": "BBB"}),
    "FX": ("FX", {}),
    "CRYPTO": ("CRYPTO", {}),
}


@pytest.mark.parametrize("name", ["CRYPTO", "FX", "EQ_SN", "EQ_IX", "CO_ENERGY", "CO_METALS"])
def test_a_book_of_every_class_has_the_exposure_of_saccr_on_the_same_trades(tmp_path: Path, name: str) -> None:
    holdings = {"A": ("buy", "10"), "B": ("sell", "4"), "C": ("sell", "7")}
    assets = [{"type": "asset", "asset": asset, "class": "token", "sa_ccr_class": name} for asset in holdings]
    instruments = [instrument(f"{asset}-P", base=asset) for asset in holdings]
    marks = [mark(T0 + 1, "100", f"{asset}-P") for asset in holdings]
    house = {**account("d", holder="house")[1]}
    fills = [traded("d", side, quantity, "100", f"{asset}-P") for asset, (side, quantity) in holdings.items()]
    ran = run_pipeline(tmp_path, *assets, *instruments, account("d")[0], house, terms("d", "d"), *marks, *fills)
    asset_class, _, subclass = name.partition("_")
    trades = []
    for asset, (side, quantity) in holdings.items():
        body: Json = {"id": asset, "asset_class": asset_class, "direction": "long" if side == "buy" else "short",
                      "notional": 100.0 * float(quantity), "mtm": 0.0, "M": 0.04}  # fmt: skip
        if asset_class in ("CRYPTO", "FX"):
            body |= {"hedging_set": f"{asset}/USD"}
        elif asset_class == "CO":
            body |= {"hedging_set": subclass.title(), "commodity_type": asset}
        else:
            body |= {"entity": asset, "subclass": subclass}
        trades.append(body)
    wanted = exposure_at_default({"trades": trades})
    assert ran.measures("netting_set:d")["exposure_at_default"] == pytest.approx(wanted["EAD"])  # type: ignore[index]


@pytest.mark.parametrize("regime", ["osfi", "basel"])
def test_crypto_assets_have_the_parameters_of_the_chosen_regime(tmp_path: Path, regime: str) -> None:
    fills = traded(price="100")
    ran = run_pipeline(tmp_path, PERPETUAL, *account("a"), terms(), MARKED, fills, crypto_regime=regime)
    trade = {"id": "1", "asset_class": "CRYPTO", "hedging_set": "BTC/USD", "direction": "short",
             "notional": 1000.0, "mtm": 0.0, "M": 0.04}  # fmt: skip
    wanted = exposure_at_default({"trades": [trade], "crypto_regime": regime})
    assert ran.measures("netting_set:a")["exposure_at_default"] == pytest.approx(wanted["EAD"])  # type: ignore[index]


def test_positions_on_one_pair_offset_whatever_they_are_called_and_pairs_do_not(tmp_path: Path) -> None:
    dollar = {"type": "asset", "asset": "USDT", "class": "stablecoin", "peg": "USD"}
    names = {"P": PERPETUAL, "Q": instrument("Q", base="BTC", quote="USDT"), "E": instrument("E", base="ETH")}
    marks = [mark(T0 + 1, "100", name) for name in names]
    sides = {"P": "buy", "Q": "sell", "E": "sell"}
    fills = [traded("a", sides[name], "10", "100", name) for name in names]
    ran = run_pipeline(tmp_path, dollar, *names.values(), *account("a"), terms(), *marks, *fills)
    assert ran.measures("netting_set:a")["potential_exposure"] == pytest.approx(0.2 * 0.4 * 1000)


@pytest.mark.parametrize("rates", [("0.1", "0.1"), ("0.1", "0.2")], ids=["one margin class", "a class for each"])
def test_add_ons_do_not_depend_on_how_instruments_are_margined(tmp_path: Path, rates: tuple[str, str]) -> None:
    coin, euro = (
        instrument(name, base=name, initial_margin_rate=rate, maintenance_margin_rate="0.05")
        for name, rate in zip(("BTC", "EUR"), rates, strict=True)
    )
    marks = [mark(T0 + 1, "100", name) for name in ("BTC", "EUR")]
    fiat = {"type": "asset", "asset": "EUR", "class": "fiat"}
    ran = run_pipeline(tmp_path, fiat, coin, euro, *account("a"), terms(), *marks, traded(name="BTC", side="sell"),
                   traded(name="EUR", side="sell"))  # fmt: skip
    daily = (10 / 250) ** 0.5
    assert ran.measures("netting_set:a")["potential_exposure"] == pytest.approx(1000 * daily * (0.4 + 0.04))


def test_a_set_that_is_not_enforceable_offsets_nothing(tmp_path: Path) -> None:
    other = instrument("Q", base="BTC")
    marks = [MARKED, mark(T0 + 1, "100", "Q")]
    fills = [traded("a", "buy", "10", "100"), traded("a", "sell", "10", "100", "Q")]
    ran = run_pipeline(tmp_path, PERPETUAL, other, *account("a"), terms(enforceable=False), *marks, *fills)
    assert ran.measures("netting_set:a")["potential_exposure"] == pytest.approx(0.2 * 0.4 * 2000)


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("kind", ["call", "put"])
def test_an_option_has_its_supervisory_delta_and_its_own_maturity(tmp_path: Path, side: str, kind: str) -> None:
    year = 365 * 86_400 * SECOND
    option = instrument(
        "O", kind="option", base="BTC", strike="120", option_type=kind, expiry_us=T0 + year // 2 + SECOND
    )
    spot = instrument("BTC-USD", kind="spot", base="BTC")
    house = {**account("d", holder="house")[1]}
    ran = run_pipeline(tmp_path, spot, option, account("d")[0], house, terms("d", "d"), mark(T0 + 1, "100", "BTC-USD"),
                   mark(T0 + 2, "20", "O", implied_volatility="0.8"), traded("d", side, "10", "20", "O"))  # fmt: skip
    bought = side == "buy"
    trade = {
        "id": "1", "asset_class": "CRYPTO", "hedging_set": "BTC/USD", "notional": 1000.0, "M": 0.5,
        "mtm": ran.measures("account:d")["unrealised_pnl"],
        "direction": "long" if bought == (kind == "call") else "short",
        "option": {"type": kind, "position": "bought" if bought else "sold", "P": 100.0, "K": 120.0, "T": 0.5},
    }  # fmt: skip
    wanted = exposure_at_default({"trades": [trade]})
    found = ran.measures("netting_set:d")["potential_exposure"]
    assert found == pytest.approx(wanted["PFE"], rel=1e-6)  # type: ignore[index]


def test_potential_exposure_from_volatility_grows_with_the_market_and_falls_with_what_is_held(tmp_path: Path) -> None:
    def at(moves: list[float], given: str) -> float:
        # Potential exposure is computed again every ten seconds of marks.
        marks = [mark(T0 + (at + 1) * 10 * SECOND, f"{price}", "P") for at, price in enumerate(moves)]
        flat = traded("a", "sell", "10", "100")
        ran = run_pipeline(tmp_path / f"{moves[1]}-{given}", PERPETUAL, *account("a"), terms(), MARKED, posted(given),
                       flat, *marks)  # fmt: skip
        return ran.measures("netting_set:a")["potential_exposure_ew"]

    calm, wild = [100, 100.1, 100, 100.1, 100], [100, 103, 100, 103, 100]
    assert 0.0 < at(calm, "0.01") < at(wild, "0.01")
    assert at(calm, "100000") == 0.0


def test_potential_exposure_follows_a_trade_and_a_price_at_once(tmp_path: Path) -> None:
    moved = [mark(T0 + SECOND, "200", "P"), fill(T0 + SECOND + 1, "more", instrument="P", side="sell", quantity="10")]
    ran = run_pipeline(tmp_path, PERPETUAL, *account("a"), *account("b"), terms(), terms("b", "b"), MARKED,
                   traded("a", "sell"), traded("b", "sell"), *moved, mark(T0 + 10 * SECOND, "200", "P"))  # fmt: skip

    def exposed(holder: str, at_us: int) -> float:
        return ran.measures(f"netting_set:{holder}", at_us)["potential_exposure"]

    opened, traded_us = T0 + SECOND // 10, T0 + SECOND + SECOND // 10
    assert exposed("a", traded_us) == pytest.approx(4 * exposed("a", opened))  # twice as much at twice the price
    assert exposed("b", traded_us) == pytest.approx(2 * exposed("b", opened))
    assert ran.measures("netting_set:b", traded_us)["current_exposure"] == 1100.0  # that follows every slice


# --- wrong-way risk and groups ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issuer", "group", "flag"), [("a", "", 1.0), ("sister", "g", 1.0), ("sister", "", 0.0)],
    ids=["its own", "its sister's", "a stranger's"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["collateral", "position", "peg"])
def test_what_a_counterparty_or_its_group_issued_is_wrong_way(
    tmp_path: Path, issuer: str, group: str, flag: float, how: str
) -> None:
    party, own = account("a")
    member = {"group": group} if group else {}
    sister = {"type": "counterparty", "counterparty": "sister", "name": "s", "role": "issuer", **member}
    token = {"type": "asset", "asset": "FTT", "class": "token", "issuer": issuer}
    pegged = {"type": "asset", "asset": "WFTT", "class": "token", "peg": "FTT"}
    what = {
        "collateral": posted("5", asset="FTT"),
        "peg": posted("5", asset="WFTT"),
        "position": traded("a", name="F"),
    }[how]
    ran = run_pipeline(tmp_path, {**party, **member}, sister, own, token, pegged, instrument("F", base="FTT"), terms(),
                   mark(T0 + 1, "90", "F"), what)  # fmt: skip
    assert ran.measures("netting_set:a")["wrong_way"] == flag
    assert ran.measures("counterparty:a")["wrong_way"] == flag


@pytest.mark.parametrize(("asset", "alike"), [("SOL", True), ("BTC", False)])
def test_collateral_that_moves_with_what_its_counterparty_issued_is_wrong_way(
    tmp_path: Path, asset: str, alike: bool
) -> None:
    rng, level, marks = random.Random(3), {"FTT": 20.0, "SOL": 30.0, "BTC": 40_000.0}, []
    for minute in range(90):
        shared, own = rng.gauss(0, 0.01), rng.gauss(0, 0.01)
        for name, change in (("FTT", shared), ("SOL", 1.5 * shared + 0.2 * own), ("BTC", own)):
            level[name] *= 1 + change
            marks.append(mark(T0 + minute * 60 * SECOND + 1, f"{level[name]:.6f}", f"{name}-USD"))
    ran = run_pipeline(
        tmp_path,
        {"type": "asset", "asset": "FTT", "class": "token", "issuer": "b"},
        *(instrument(f"{name}-USD", kind="spot", base=name) for name in level),
        *account("b"),
        *account("c"),
        terms("b", "b"),
        terms("c", "c"),
        transfer(T0, "t", "b", asset=asset, amount="1"),
        transfer(T0, "u", "c", asset=asset, amount="1"),
        *marks,
    )
    early, late = (ran.measures("netting_set:b", at)["wrong_way"] for at in (T0 + 30 * 60 * SECOND, T0 + 9000 * SECOND))
    assert early == 0.0  # an hour has to pass before a correlation counts
    assert (0.8 < late < 1.0) if alike else late == 0.0
    assert ran.measures("counterparty:b")["wrong_way"] == late
    assert ran.measures("netting_set:c")["wrong_way"] == 0.0


def test_a_group_adds_up_counterparties_of_all_shards_and_follows_those_that_move(tmp_path: Path) -> None:
    names = [f"c{at}" for at in range(6)]
    members = [[{**account(name)[0], "group": "g"}, account(name)[1]] for name in names]
    fills = [traded(name, "sell") for name in names]
    moved = {**members[0][0], "group": "h", "event_time_us": T0 + 2 * SECOND}
    ran = run_pipeline(tmp_path, PERPETUAL, *members, *[terms(n, n) for n in names], MARKED, *fills, moved, shards=3)
    one = ran.measures(f"counterparty:{names[0]}")
    before, after = ran.measures("group:g", T0 + SECOND), ran.measures("group:g")
    for measure in ("current_exposure", "potential_exposure", "exposure_at_default"):
        assert one[measure] > 0.0
        assert before[measure] == pytest.approx(6 * one[measure])
        assert after[measure] == pytest.approx(5 * one[measure])
        assert ran.measures("group:h")[measure] == pytest.approx(one[measure])


# --- obligations ------------------------------------------------------------------------------------------------------


def obligation(at_us: int, amount: str, **fields: Any) -> Json:
    body = {"obligation_id": "o", "from": "lender", "to": "house", "asset": "USD", "kind": "loan", "amount": amount}
    return {"type": "obligation", "event_time_us": at_us, **body, **fields}


def test_what_is_owed_to_us_is_settlement_exposure_until_it_is_paid_also_without_an_account(tmp_path: Path) -> None:
    lender = {"type": "counterparty", "counterparty": "lender", "name": "l", "role": "lender"}
    others = [obligation(T0 + 3, "9", obligation_id="x", **{"from": "house", "to": "lender"}),
              obligation(T0 + 3, "9", obligation_id="y", kind="estimate")]  # fmt: skip
    failed = obligation(T0 + 2 * SECOND, "40", status="failed")
    paid = obligation(T0 + 4 * SECOND, "40", status="paid")
    ran = run_pipeline(tmp_path, PERPETUAL, *account("a"), lender, obligation(T0 + 2, "70"), *others, failed, paid)
    found = [ran.measures("counterparty:lender", T0 + at * SECOND)["settlement_exposure"] for at in (1, 3, 5)]
    assert found == [70.0, 40.0, 0.0]
    assert ran.measures("firm", T0 + 1 * SECOND)["settlement_exposure"] == 70.0


# --- working orders ---------------------------------------------------------------------------------------------------


def order(name: str, side: str, quantity: str, at_us: int = T0 + SECOND, **fields: Any) -> Json:
    body = {"order_id": name, "account": "a", "instrument": "P", "side": side, "open_quantity": quantity}
    return {"type": "order", "event_time_us": at_us, **body, **fields}


@pytest.mark.parametrize(
    ("orders", "worst"),
    [
        ([order("1", "buy", "5")], 1500.0),
        ([order("1", "sell", "5")], 1000.0),
        ([order("1", "sell", "25"), order("2", "buy", "3")], 1500.0),
        ([order("1", "buy", "5"), order("2", "buy", "6")], 2100.0),
        ([order("1", "buy", "5", reduce_only=True)], 1000.0),
        ([order("1", "buy", "5"), order("1", "buy", "2", T0 + 2 * SECOND)], 1200.0),
        ([order("1", "buy", "5"), order("1", "buy", "0", T0 + 2 * SECOND)], 1000.0),
        ([order("1", "buy", "5", instrument="Q")], 1250.0),
        ([order("1", "buy", "5"), order("1", "buy", "5", instrument="Q")], 1750.0),
    ],
)
def test_working_orders_count_as_if_the_worse_side_were_filled(
    tmp_path: Path, orders: list[Json], worst: float
) -> None:
    rates = {"initial_margin_rate": "0.1"}
    other = instrument("Q", base="ETH", **rates)
    ran = run_pipeline(
        tmp_path, {**PERPETUAL, **rates}, other, *account("a"), MARKED, mark(T0 + 1, "50", "Q"), traded(),
                   *orders)  # fmt: skip
    found = ran.measures("account:a")
    assert found["gross_notional"] == 1000.0
    assert found["worst_case_notional"] == pytest.approx(worst)
    assert found["worst_case_initial_margin"] == pytest.approx(0.1 * worst)


# --- margin models ----------------------------------------------------------------------------------------------------

TIERS = [
    {"notional_from": "0", "initial_margin_rate": "0.05", "maintenance_margin_rate": "0.025"},
    {"notional_from": "600", "initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05", "deduction": "15"},
]


def at_hub(name: str = "h", **fields: Any) -> list[Json]:
    party = {"type": "counterparty", "counterparty": "hub", "name": "hub", "role": "venue"}
    body = {"type": "account", "account": name, "counterparty": "hub", "holder": "house", "venue": "hub"}
    return [party, {**body, "margin_model": "schedule", **fields}]


def schedule(**fields: Any) -> Json:
    return {"type": "schedule", "venue": "hub", "instrument": "P", "tiers": TIERS, **fields}


def test_a_schedule_charges_the_tier_of_the_positions_notional_at_its_venues_mark(tmp_path: Path) -> None:
    own = mark(T0 + 2, "90", "P", venue="hub")
    ran = run_pipeline(tmp_path, PERPETUAL, schedule(), *at_hub(), own, mark(T0 + 3, "100", "P"), traded("h"))
    found = ran.measures("account:h")
    assert (found["initial_margin"], found["maintenance_margin"]) == pytest.approx((90.0, 900 * 0.05 - 15))


def test_the_initial_rate_rises_with_open_interest_as_on_dydx(tmp_path: Path) -> None:
    scaled = schedule(tiers=TIERS[:1], open_interest_lower="100000", open_interest_upper="200000")
    interest = {"type": "open_interest", "event_time_us": T0 + SECOND, "venue": "hub", "instrument": "P",
                "quantity": "1500"}  # fmt: skip
    ran = run_pipeline(tmp_path, PERPETUAL, scaled, *at_hub(), MARKED, traded("h"), interest)
    before, after = ran.measures("account:h", T0 + SECOND // 2), ran.measures("account:h")
    assert before["initial_margin"] == pytest.approx(50.0)
    assert after["initial_margin"] == pytest.approx(1000 * (0.05 + 0.5 * 0.95))
    assert after["maintenance_margin"] == before["maintenance_margin"] == pytest.approx(25.0)


def test_a_scenario_margin_is_the_worst_loss_of_the_grid_and_follows_trades_and_time(tmp_path: Path) -> None:
    later = fill(T0 + 3 * SECOND, "g", "h", instrument="P", quantity="10", price="100")
    moved = mark(T0 + 30 * SECOND, "200", "P")
    ran = run_pipeline(tmp_path, PERPETUAL, *at_hub(margin_model="scenario"), MARKED, traded("h"), later, moved)
    found = [ran.measures("account:h", T0 + at * SECOND)["maintenance_margin"] for at in (2, 5, 31)]
    assert found == pytest.approx([160.0, 320.0, 640.0])


def test_a_bought_option_risks_its_value_and_a_sold_one_more_under_scenarios(tmp_path: Path) -> None:
    option = instrument("O", kind="option", base="BTC", strike="100", option_type="call",
                        expiry_us=T0 + 86_400 * 30 * SECOND)  # fmt: skip
    spot = instrument("BTC-USD", kind="spot", base="BTC")
    accounts = [*at_hub("long", margin_model="scenario"), at_hub("short", margin_model="scenario")[1]]
    marks = [mark(T0 + 1, "100", "BTC-USD"), mark(T0 + 2, "7", "O", implied_volatility="0.6")]
    fills = [traded("long", "buy", "10", "7", "O"), traded("short", "sell", "10", "7", "O")]
    ran = run_pipeline(tmp_path, spot, option, *accounts, *marks, *fills)
    long, short = (ran.measures(f"account:{name}")["maintenance_margin"] for name in ("long", "short"))
    assert 0.0 < long <= 70.0 < short < 160.0


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "reason", "named"),
    [
        (terms(threshold="-1"), "AMOUNT_MUST_NOT_BE_NEGATIVE", "threshold"),
        (terms(eligible={"USD": "1.5"}), "FIELD_MUST_BE_IN_ITS_RANGE", "eligible"),
        (
            instrument("O", kind="option", option_type="call", expiry_us=T0 + SECOND),
            "FIELDS_MUST_GO_TOGETHER",
            "strike",
        ),
        (schedule(tiers=[{**TIERS[1]}]), "FIELD_MUST_BE_IN_ITS_RANGE", "tiers"),
        (schedule(tiers=[TIERS[0], TIERS[0]]), "FIELD_MUST_BE_IN_ITS_RANGE", "tiers"),
        (
            schedule(tiers=[{**TIERS[0], "maintenance_margin_rate": "0.06"}]),
            "FIELD_MUST_BE_IN_ITS_RANGE",
            "maintenance",
        ),
        (
            {"type": "asset", "asset": "X", "class": "token", "sa_ccr_class": "EQUITY"},
            "FIELD_MUST_HAVE_A_KNOWN_VALUE",
            "sa_ccr_class",
        ),
    ],
    ids=["negative threshold", "haircut", "option without strike", "tiers that begin late",
         "tiers that stand still", "maintenance above initial", "unknown class"],
)  # fmt: skip
def test_terms_that_cannot_be_are_refused_by_name_and_the_rest_goes_on(
    tmp_path: Path, record: Json, reason: str, named: str
) -> None:
    bus = MemoryBus()
    path = write_desk(tmp_path, {"e.jsonl": lines(PERPETUAL, account("a"), record, MARKED, traded())}, shards=1)
    sequence(path, bus)
    (found,) = rejects(bus, 1)
    assert (found["reason"], named in found["detail"]) == (reason, True)
    assert PipelineRun(journal_in_order(bus, 1), 1).measures("account:a")["gross_notional"] == 1000.0
