"""Options, funding, opening positions and the states of prices on the whole risk path.

An option is marked in its settlement asset, its greeks are Black-76's on its own forward, it settles at its expiry, and
a price that is missing, old or without a rate is named.
"""

from pathlib import Path
from typing import Any

import pytest

from seawall.operators.core.pricing._option_models import MICROSECONDS_PER_YEAR, black_valuation
from seawall_testing.desk import MS, SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.pipeline import PipelineRun, run_pipeline

DAY = 86_400 * SECOND
EXPIRY = T0 + 30 * DAY
COIN = {"base": "BTC", "quote": "USD", "settlement": "BTC", "inverse": True}
REFERENCE: list[Json] = [
    instrument("BTC-USD", kind="spot", base="BTC", quantity_increment="0.0001"),
    instrument("BTC-30D", kind="future", base="BTC", settlement="BTC", inverse=True, expiry_us=EXPIRY),
    *account("a"),
]
MARKS = [mark(T0 + 1, "50000", "BTC-USD"), mark(T0 + 1, "51000", "BTC-30D")]


def option(name: str = "C", **fields: Any) -> Json:
    terms = {"strike": "52000", "option_type": "call", "expiry_us": EXPIRY, "forward": "BTC-30D"}
    body = {key: value for key, value in {**COIN, **terms, **fields}.items() if value != ""}
    return instrument(name, kind="option", quantity_increment="0.1", **body)


def run_option_book(folder: Path, *records: Any, **top: Any) -> PipelineRun:
    return run_pipeline(folder, REFERENCE, *records, **top)


def bought(name: str = "C", price: str = "0.04", **fields: Any) -> Json:
    return fill(T0 + 3, f"f-{name}", instrument=name, quantity="2", price=price, **fields)


# --- options ----------------------------------------------------------------------------------------------------------


def test_a_coin_settled_option_has_the_value_in_coin_and_the_greeks_of_black_on_its_forward(
    tmp_path: Path,
) -> None:
    marked = mark(T0 + 2, "0.05", "C", implied_volatility="0.6")
    ran = run_option_book(tmp_path, option(), *MARKS, transfer(T0 + 2, "t", amount="1", asset="BTC"), marked, bought())
    held = ran.measures("account:a")
    left = (EXPIRY - ran.measured[-1].measures.moment.as_of_us) / MICROSECONDS_PER_YEAR
    wanted = black_valuation(51000.0, 52000.0, left, 0.6, True)
    profit = 2 * (float(wanted.value) / 51000 - 0.04) * 50000
    assert held["unrealised_pnl"] == pytest.approx(profit)
    assert held["equity"] == pytest.approx(50000 + profit)
    coins = 2 * 50000 / 51000  # what the coin is worth, per unit of forward
    assert held["gross_notional"] == pytest.approx(coins * 51000)
    net = coins * float(wanted.delta) * 51000 + 50000 - 2 * 0.04 * 50000  # with the coin, less the coin that it cost
    assert held["net_notional"] == pytest.approx(net)
    greeks = ran.measures("underlying:BTC")
    assert greeks["delta"] == pytest.approx(-net)  # a client's: from our side turned
    assert greeks["gamma"] == pytest.approx(-coins * float(wanted.gamma) * 51000**2 / 100)
    assert greeks["vega"] == pytest.approx(-coins * float(wanted.vega) / 100)
    assert greeks["theta"] == pytest.approx(-coins * float(wanted.theta) / 365)


def test_a_mark_without_a_volatility_gives_the_one_that_it_implies(tmp_path: Path) -> None:
    left = (EXPIRY - (T0 + 2)) / MICROSECONDS_PER_YEAR
    price = float(black_valuation(51000.0, 52000.0, left, 0.6, True).value) / 51000
    greeks = [
        run_option_book(tmp_path / str(at), option(), *MARKS, mark(T0 + 2, f"{price:.17f}", "C", **more), bought())
        for at, more in enumerate([{}, {"implied_volatility": "0.6"}])
    ]
    implied, given = (ran.measures("underlying:BTC") for ran in greeks)
    assert implied == pytest.approx(given, rel=1e-9)
    assert implied["vega"] != 0.0


def test_greeks_follow_the_forward_and_not_the_spot_price(tmp_path: Path) -> None:
    marked = mark(T0 + 2, "0.05", "C", implied_volatility="0.6")
    moved = mark(T0 + 3 * SECOND, "60000", "BTC-30D")
    ran = run_option_book(tmp_path, option(), *MARKS, marked, bought(), moved)
    before, after = ran.measures("underlying:BTC", T0 + SECOND), ran.measures("underlying:BTC")
    assert after["delta"] < before["delta"] < 0.0


def test_an_option_without_a_forward_of_its_own_is_on_the_spot_of_its_underlying(tmp_path: Path) -> None:
    linear = option("P", forward="", settlement="USD", inverse=False, option_type="put")
    ran = run_option_book(
        tmp_path, linear, *MARKS, mark(T0 + 2, "4000", "P", implied_volatility="0.5"), bought("P", "3900")
    )
    left = (EXPIRY - ran.measured[-1].measures.moment.as_of_us) / MICROSECONDS_PER_YEAR
    wanted = black_valuation(50000.0, 52000.0, left, 0.5, False)
    assert ran.measures("account:a")["net_notional"] == pytest.approx(2 * 50000 * float(wanted.delta))
    assert ran.measures("account:a")["unrealised_pnl"] == pytest.approx(2 * (float(wanted.value) - 3900))


@pytest.mark.parametrize(
    ("fields", "settlement", "pays"),
    [
        ({}, "65000", 2 * 13000 / 65000),
        ({}, "51000", 0.0),
        ({"option_type": "put"}, "26000", 2 * 26000 / 26000),
        ({"settlement": "USD", "inverse": False}, "53000", 2 * 1000.0),
    ],
    ids=["a call in coin", "worthless", "a put in coin", "a call in dollars"],
)
@pytest.mark.parametrize("named", ["C", "F"], ids=["its own settlement mark", "its forward's"])
def test_an_option_pays_at_its_expiry_what_the_settlement_mark_of_its_underlying_gives(
    tmp_path: Path, fields: Json, settlement: str, pays: float, named: str
) -> None:
    soon = {"expiry_us": T0 + SECOND, "forward": "F"}
    future = instrument("F", kind="future", base="BTC", expiry_us=T0 + SECOND)
    ran = run_option_book(
        tmp_path,
        future,
        option(**soon, **fields),
        *MARKS,
        mark(T0 + 2, "51000", "F"),
        mark(T0 + 2, "0.05", "C", implied_volatility="0.6"),
        bought(),
        mark(T0 + 2 * SECOND, settlement, named, kind="settlement"),
    )
    coin = 1.0 if fields.get("settlement") == "USD" else 50000.0
    last = ran.measures("account:a")
    assert last["equity"] == pytest.approx((pays - 2 * 0.04) * coin)
    assert (last["gross_notional"], last["unrealised_pnl"]) == (0.0, 0.0)


def test_an_option_past_its_expiry_without_a_settlement_mark_is_named_and_keeps_its_last_mark(tmp_path: Path) -> None:
    ran = run_option_book(
        tmp_path,
        option(expiry_us=T0 + SECOND),
        *MARKS,
        mark(T0 + 2, "0.05", "C", implied_volatility="0.6"),
        bought(),
        mark(T0 + 3 * SECOND, "50001", "BTC-USD"),
    )
    assert ran.measures("account:a")["unrealised_pnl"] == pytest.approx(2 * 0.01 * 50001)
    assert states(ran, "expiring")[-1] == ["C"]
    assert [(alert["kind"], alert["scope"]) for alert in ran.topic("alerts")] == [("unsettled_expiry", "instrument:C")]


@pytest.mark.parametrize(("kind", "delta"), [("call", 1.0), ("put", -1.0)])
def test_an_option_without_a_volatility_counts_with_a_delta_of_one_and_is_named(
    tmp_path: Path, kind: str, delta: float
) -> None:
    above_any = mark(T0 + 2, "1.5", "C")  # more than a whole coin: no volatility gives that
    ran = run_option_book(tmp_path, option(option_type=kind), *MARKS, above_any, bought())
    assert ran.measures("account:a")["net_notional"] == pytest.approx(2 * delta * 50000 - 2 * 0.04 * 50000)
    assert states(ran, "unvalued")[-1] == ["C"]
    assert ("unvalued_option", "instrument:C") in [(alert["kind"], alert["scope"]) for alert in ran.topic("alerts")]


def test_a_mark_of_lower_standing_leaves_the_volatility_that_was_quoted(tmp_path: Path) -> None:
    quoted = [*MARKS, mark(T0 + 2, "0.05", "C", implied_volatility="0.6")]
    plain = run_option_book(tmp_path / "plain", option(), *quoted, bought())
    traded = run_option_book(tmp_path / "traded", option(), *quoted, mark(T0 + 2, "0.07", "C", kind="last"), bought())
    for measure in ("delta", "gamma", "vega"):
        assert traded.measures("underlying:BTC")[measure] == plain.measures("underlying:BTC")[measure]


# --- funding ----------------------------------------------------------------------------------------------------------

PERPETUAL = instrument("P", base="BTC")


def funding(at_us: int, rate: str = "0.001", kind: str = "predicted", **fields: Any) -> Json:
    body = {"venue": "v", "instrument": "P", "rate": rate, "interval_us": 8 * SECOND, "kind": kind, **fields}
    return {"type": "funding", "event_time_us": at_us, **body}


def funded(folder: Path, *records: Json, **options: Any) -> PipelineRun:
    held = [mark(T0 + 1, "100", "P"), fill(T0 + 2, "f", instrument="P", quantity="10", price="100")]
    return run_pipeline(
        folder, PERPETUAL, *account("a", **options), *held, *records, mark(T0 + 20 * SECOND, "100", "P")
    )


def test_funding_accrues_in_proportion_to_time_at_the_latest_rate(tmp_path: Path) -> None:
    ran = funded(tmp_path, funding(T0 + SECOND), mark(T0 + 5 * SECOND - 50 * MS, "100", "P"))
    assert ran.measures("account:a", T0 + 5 * SECOND)["unrealised_pnl"] == pytest.approx(-1000 * 0.001 * 4 / 8)
    assert ran.measures("account:a")["unrealised_pnl"] == pytest.approx(-1.0)  # one interval and no more


def test_a_rate_that_arrives_late_does_not_take_the_place_of_a_later_one(tmp_path: Path) -> None:
    late = [funding(T0 + SECOND), funding(T0 + 3 * SECOND, rate="0.002"), funding(T0 + 2 * SECOND, rate="0.5")]
    ran = funded(tmp_path / "rate", *late)
    assert ran.measures("account:a")["unrealised_pnl"] == pytest.approx(-2.0)
    paid = funding(T0 + 2 * SECOND, rate="0.003", kind="settled")  # what it brings is owed all the same
    ran = funded(tmp_path / "payment", *late[:2], paid)
    assert ran.measures("account:a")["unrealised_pnl"] == pytest.approx(-2.0 - 3.0)


def test_a_funding_payment_that_arrives_takes_the_place_of_what_was_accrued(tmp_path: Path) -> None:
    settled = funding(T0 + 8 * SECOND, kind="settled")
    paid = transfer(T0 + 9 * SECOND, "p", amount="-1", purpose="funding")
    flat = fill(T0 + 9 * SECOND + 1, "g", instrument="P", side="sell", quantity="10", price="100")
    ran = funded(tmp_path, funding(T0 + SECOND), settled, paid, flat)
    before, after = ran.measures("account:a", T0 + 9 * SECOND), ran.measures("account:a")
    assert before["equity"] == pytest.approx(-1.0, rel=0.2)
    assert (after["equity"], after["unrealised_pnl"]) == (-1.0, 0.0)


def test_a_payment_in_one_asset_leaves_what_accrues_in_others(tmp_path: Path) -> None:
    coin = [instrument("BTC-USD", kind="spot", base="BTC"), mark(T0 + 1, "100", "BTC-USD")]
    inverse = instrument("Q", base="BTC", settlement="BTC", inverse=True, quantity_increment="1", contract_size="100")
    other = [mark(T0 + 1, "100", "Q"), fill(T0 + 2, "q", instrument="Q", quantity="10", price="100")]
    paid = transfer(T0 + 5 * SECOND, "p", amount="-0.5", purpose="funding")
    both = [funding(T0 + SECOND), funding(T0 + SECOND, instrument="Q")]
    ran = funded(tmp_path, inverse, *coin, *other, *both, paid)
    # The second perpetual goes on to a whole interval (1,000 at 0.001); the first begins anew at its payment.
    assert ran.measures("account:a")["unrealised_pnl"] == pytest.approx(-1.0 - 1.0)
    then = mark(T0 + 7 * SECOND - 50 * MS, "100", "P")
    found = funded(tmp_path / "at 7 s", inverse, *coin, *other, *both, paid, then)
    assert found.measures("account:a", T0 + 7 * SECOND)["unrealised_pnl"] == pytest.approx(-2 / 8 - 6 / 8, rel=0.02)


# --- opening positions and reports ------------------------------------------------------------------------------------


def opening(quantity: str, name: str = "P", at_us: int = T0 + 10, **fields: Any) -> Json:
    body = {"account": "a", "instrument": name, "quantity": quantity, "kind": "opening", **fields}
    return {"type": "position_report", "event_time_us": at_us, **body}


@pytest.mark.parametrize("marked_us", [T0 + 1, T0 + SECOND], ids=["marked before", "marked later"])
@pytest.mark.parametrize("quantity", ["5", "-5"])
def test_an_opening_position_without_a_price_enters_at_its_first_mark(
    tmp_path: Path, marked_us: int, quantity: str
) -> None:
    records = sorted([mark(marked_us, "100", "P"), opening(quantity)], key=lambda r: int(r["event_time_us"]))
    ran = run_pipeline(tmp_path, PERPETUAL, *account("a"), *records, mark(T0 + 3 * SECOND, "101", "P"))
    last = ran.measures("account:a")
    assert (last["gross_notional"], last["unrealised_pnl"]) == (505.0, float(quantity))


def test_a_venues_quantity_is_compared_exactly(tmp_path: Path) -> None:
    """As a float 90071992547409.93 increments of 0.01 lies beside its neighbour; as text it does not."""
    fine = instrument("P", base="BTC", quantity_increment="0.0001")
    held = fill(T0 + 2, "f", instrument="P", quantity="900719925474.0993", price="1")
    report = {**opening("900719925474.0992", at_us=T0 + SECOND), "kind": "venue"}
    odd = {**opening("900719925474.09931", at_us=T0 + 2 * SECOND), "kind": "venue"}
    same = {**opening("900719925474.0993", at_us=T0 + 3 * SECOND), "kind": "venue"}
    ran = run_pipeline(tmp_path, fine, *account("a"), mark(T0 + 1, "1", "P"), held, report, odd, same)
    assert [alert["kind"] for alert in ran.topic("alerts")] == ["report_mismatch"] * 2


# --- venues' own marks ------------------------------------------------------------------------------------------------


def test_an_account_at_a_venue_is_margined_at_that_venues_price_of_its_collateral(tmp_path: Path) -> None:
    party = {"type": "counterparty", "counterparty": "hub", "name": "hub", "role": "venue"}
    house = {"type": "account", "account": "h", "counterparty": "hub", "holder": "house", "venue": "hub"}
    ran = run_pipeline(
        tmp_path,
        {"type": "asset", "asset": "USDX", "class": "stablecoin", "haircut": "0.1"},
        instrument("USDX-USD", kind="spot", base="USDX"),
        party,
        house,
        account("a"),
        mark(T0 + 1, "0.65", "USDX-USD", venue="hub"),
        mark(T0 + 2, "1", "USDX-USD"),
        transfer(T0 + 3, "t", "h", asset="USDX", amount="100"),
        transfer(T0 + 3, "u", "a", asset="USDX", amount="100"),
    )
    assert ran.measures("account:h")["equity"] == pytest.approx(100 * 0.65 * 0.9)
    assert ran.measures("account:a")["equity"] == pytest.approx(90.0)
    owed = ran.measures("counterparty:hub")["current_exposure"]
    assert owed == pytest.approx(100.0)  # at the price across venues, without haircut


# --- states -----------------------------------------------------------------------------------------------------------


def states(ran: PipelineRun, kind: str) -> list[list[str]]:
    return [record.get(kind, []) for record in ran.topic("exposures") if record["shard"] != "all"]


def test_marks_that_stop_are_named_though_nothing_else_happens_to_what_is_held(tmp_path: Path) -> None:
    other = [mark(T0 + at * SECOND, "1", "Q") for at in range(1, 90, 10)]
    held = fill(T0 + 2, "f", instrument="P", quantity="1", price="100")
    ran = run_pipeline(
        tmp_path, PERPETUAL, instrument("Q"), *account("a"), mark(T0 + 1, "100", "P"), held, *other,
        mark(T0 + 91 * SECOND, "99", "P"),
    )  # fmt: skip
    found = states(ran, "stale")
    assert [names for names in found if names] == [["P"]]
    assert found[-1] == []
    assert [(alert["kind"], alert["scope"]) for alert in ran.topic("alerts")] == [("stale_mark", "instrument:P")]


def test_what_is_held_without_a_mark_and_balances_without_a_rate_are_named_and_at_the_worse_end(tmp_path: Path) -> None:
    held = fill(T0 + 2, "f", instrument="P", quantity="1", price="100")
    ran = run_pipeline(tmp_path, PERPETUAL, *account("a"), transfer(T0 + 1, "t", asset="XYZ", amount="9"), held)
    assert (states(ran, "missing")[-1], states(ran, "unpriced")[-1]) == (["P"], ["XYZ"])
    assert ran.measures("account:a")["equity"] == -100.0
    assert {alert["kind"] for alert in ran.topic("alerts")} == {"missing_mark", "unpriced_asset"}


def test_terms_and_debts_in_a_currency_without_a_rate_are_named(tmp_path: Path) -> None:
    terms = {"type": "netting_set", "netting_set": "a", "counterparty": "a", "margined": True, "threshold": "9",
             "currency": "EUR"}  # fmt: skip
    debt = {"type": "obligation", "event_time_us": T0 + SECOND, "obligation_id": "d", "from": "a", "to": "house",
            "asset": "JPY", "amount": "5", "kind": "loan"}  # fmt: skip
    ran = run_pipeline(
        tmp_path, PERPETUAL, *account("a"), terms, mark(T0 + 1, "100", "P"), debt, mark(T0 + 3 * SECOND, "9")
    )
    assert {alert["scope"] for alert in ran.topic("alerts")} == {"asset:EUR", "asset:JPY"}
    assert states(ran, "unpriced")[-1] == ["EUR", "JPY"]


# --- distance to liquidation ------------------------------------------------------------------------------------------

RATES = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05"}
BOOKS: dict[str, list[Json]] = {
    "long": [fill(T0 + 3, "f", instrument="L", quantity="10", price="100"), transfer(T0 + 2, "t", amount="200")],
    "short": [
        fill(T0 + 3, "f", instrument="L", side="sell", quantity="10", price="100"),
        transfer(T0 + 2, "t", amount="200"),
    ],
    "coin collateral": [
        fill(T0 + 3, "f", instrument="L", quantity="10", price="100"),
        transfer(T0 + 2, "t", amount="3", asset="ETH"),
    ],
    "inverse": [
        fill(T0 + 3, "f", instrument="I", quantity="1000", price="90"),
        transfer(T0 + 2, "t", amount="4", asset="ETH"),
    ],
    "hedged": [
        fill(T0 + 3, "f", instrument="L", side="sell", quantity="10", price="100"),
        fill(T0 + 3, "g", instrument="I", quantity="400", price="110"),
        transfer(T0 + 2, "t", amount="300"),
    ],
}


@pytest.mark.parametrize("name", BOOKS)
def test_moving_all_prices_by_the_distance_takes_the_margin_ratio_to_one(tmp_path: Path, name: str) -> None:
    def at(move: float, folder: Path) -> dict[str, float]:
        price = f"{100 * (1 + move):.12f}"
        instruments = [
            instrument("ETH-USD", kind="spot"),
            instrument("L", **RATES),
            instrument("I", inverse=True, settlement="ETH", quantity_increment="1", **RATES),
        ]
        marks = [mark(T0 + 1, price, n) for n in ("ETH-USD", "L", "I")]
        return run_pipeline(folder, *instruments, *account("a"), *marks, *BOOKS[name]).measures("account:a")

    today = at(0.0, tmp_path / "0")
    assert 0.0 < today["margin_ratio"] < 1.0
    distance = today["distance_to_liquidation"]
    ratios = [at(sign * distance, tmp_path / f"{sign}")["margin_ratio"] for sign in (-1, 1)]
    assert any(ratio == pytest.approx(1.0, rel=1e-6) for ratio in ratios)


@pytest.mark.parametrize("name", BOOKS)
def test_moving_the_nearest_underlying_alone_by_its_distance_takes_the_margin_ratio_to_one(
    tmp_path: Path, name: str
) -> None:
    limit = {"id": "alone", "scope": "account:*", "measure": "distance_to_liquidation_alone", "direction": "below",
             "hard": 1e-9}  # fmt: skip
    beside = fill(T0 + 3, "h", instrument="B", side="sell", quantity="4", price="100")

    def at(eth: float, btc: float) -> dict[str, float]:
        prices = dict.fromkeys(("ETH-USD", "L", "I"), f"{100 * (1 + eth):.12f}") | {"B": f"{100 * (1 + btc):.12f}"}
        instruments = [
            instrument("ETH-USD", kind="spot"),
            instrument("L", **RATES),
            instrument("I", inverse=True, settlement="ETH", quantity_increment="1", **RATES),
            instrument("B", base="BTC", **RATES),
        ]
        marks = [mark(T0 + 1, price, n) for n, price in prices.items()]
        folder = tmp_path / f"{eth}-{btc}"
        return run_pipeline(folder, *instruments, *account("a"), *marks, *BOOKS[name], beside, limits=[limit]).measures(
            "account:a"
        )

    distance = at(0.0, 0.0)["distance_to_liquidation_alone"]
    moves = [(distance, 0.0), (-distance, 0.0), (0.0, distance), (0.0, -distance)]
    ratios = [at(*move)["margin_ratio"] for move in moves]
    assert max(ratios) == pytest.approx(1.0, rel=1e-6)
    assert max(at(eth / 2, btc / 2)["margin_ratio"] for eth, btc in moves) < 1.0


def test_an_option_alone_moves_by_its_delta_and_a_margin_by_scenarios_stands(tmp_path: Path) -> None:
    limit = {"id": "alone", "scope": "account:*", "measure": "distance_to_liquidation_alone", "hard": 1e9}
    models = [{**account("s", margin_model="scenario")[1], "counterparty": "a"}, *account("a")]
    held = [bought(), fill(T0 + 3, "g", "s", instrument="C", side="sell", quantity="2", price="0.04")]
    ran = run_option_book(tmp_path, option(), *models, *MARKS, mark(T0 + 2, "0.05", "C", implied_volatility="0.6"),
              *(transfer(T0 + 2, name, name, amount="90000") for name in "as"), *held, limits=[limit])  # fmt: skip
    assert ran.measures("account:a")["distance_to_liquidation_alone"] == 1_000_000.0  # needs no margin
    seller = ran.measures("account:s")
    # The coin that it was paid moves too, and is in its net notional.
    found = (seller["equity"] - seller["maintenance_margin"]) / abs(seller["net_notional"])
    assert seller["distance_to_liquidation_alone"] == pytest.approx(found, rel=1e-9)


def test_an_account_without_positions_is_at_no_distance_and_one_without_equity_at_none(tmp_path: Path) -> None:
    lost = fill(T0 + 3, "f", "b", instrument="L", quantity="10", price="120")
    ran = run_pipeline(tmp_path, instrument("L", **RATES), *account("a"), *account("b"), mark(T0 + 1, "100", "L"),
                   transfer(T0 + 2, "t"), lost)  # fmt: skip
    assert ran.measures("account:a")["distance_to_liquidation"] == 1_000_000.0
    beyond = ran.measures("account:b")
    assert (beyond["distance_to_liquidation"], beyond["margin_ratio"], beyond["leverage"]) == (0.0, 1e6, 1e6)
