"""A minute's change of P&L is the sum of delta, gamma, vega, theta, funding, fees, new trades and what is unexplained.

The time of the tests begins 20 s into a minute: the first whole one goes from second 40 to second 100, and what is
priced in the slices that end at 39.6 and 99.6 stands then.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from seawall.operators.core.portfolio import _explain
from seawall_testing.core_states import cases_by_name
from seawall_testing.desk import T0, Json
from seawall_testing.pipeline import PipelineRun
from seawall_testing.reference.numbers import black
from seawall_testing.reference.streams import CONTESTED, FEATURES, Stream
from seawall_testing.risk_desk import (
    DAY,
    SECOND,
    YEAR,
    client,
    deposit,
    house,
    inverse,
    option,
    perpetual,
    price,
    run,
    spot,
    trade,
    watch,
)
from seawall_testing.state_checks import check_resume_anywhere_and_run_on

BEGIN_US, END_US = T0 + 39_600_000, T0 + 99_600_000
TERMS = ("delta", "gamma", "vega", "theta", "funding", "fees", "new_trades", "unexplained")


def explained(found: PipelineRun, scope: str) -> dict[str, float]:
    """Return the explain of the minute that ended at a second; its terms add up to its P&L."""
    rows = [
        row for record in found.topic("exposures") if record["as_of_us"] == END_US
        for row in record.get("explained", ()) if row["scope"] == scope
    ]  # fmt: skip
    assert len(rows) == 1
    assert sum(rows[0][term] for term in TERMS) == pytest.approx(rows[0]["pnl"], abs=1e-9)
    assert rows[0]["since_us"] == BEGIN_US
    return {term: rows[0][term] for term in ("pnl", *TERMS)}


def terms(**given: float) -> Any:
    """Return the terms that are given, all others 0, and the P&L that they add up to."""
    parts = {**dict.fromkeys(TERMS, 0.0), **given}
    return pytest.approx({"pnl": sum(parts.values()), **parts}, abs=1e-6)


def minute(folder: Path, *records: Json | list[Json], **more: Any) -> PipelineRun:
    """Run records, with a price before the minute begins and after it ends."""
    bought = [price(0.1, "BTC-PERP", "30000"), deposit(0.2, "100000"), trade(1, "BTC-PERP", "buy", "10", "30000")]
    ends = [price(39.5, "BTC-PERP", "30000"), *(price(second, "BTC-PERP", "31200") for second in (99.5, 101))]
    rest = [record for part in records for record in (part if isinstance(part, list) else [part])]
    rest = sorted([*bought, *ends, *rest], key=lambda record: int(record.get("event_time_us", 0)))
    return run(folder, perpetual(), house(venue="desk-venue"), rest, **{"pnl_explain": True, **more})


def test_prices_new_trades_and_fees_are_told_apart(tmp_path: Path) -> None:
    """10 held gain 1,200 each; 2 bought at 30,500 are worth 31,200 at the end; a fee of 7; deposits are no profit."""
    found = minute(
        tmp_path, price(50, "BTC-PERP", "31000"), trade(60, "BTC-PERP", "buy", "2", "30500", fee="7"),
        deposit(70, "5000"), deposit(71, "-3", purpose="fee"), price(90, "BTC-PERP", "31200"),
    )  # fmt: skip
    right = terms(delta=12_000, new_trades=1_400, fees=-10)
    assert explained(found, "account:desk") == right
    assert explained(found, "firm") == right


def test_a_position_that_was_closed_within_the_minute_counts_to_its_end_and_against_it(tmp_path: Path) -> None:
    """10 held gain 1,200 each to the end; they were sold at 31,000, 200 below that."""
    sold = trade(60, "BTC-PERP", "sell", "10", "31000")
    found = minute(tmp_path, price(50, "BTC-PERP", "31000"), sold, price(90, "BTC-PERP", "31200"))
    assert explained(found, "account:desk") == terms(delta=12_000, new_trades=-2_000)


def test_many_fills_of_a_slice_count_as_one_by_one(tmp_path: Path) -> None:
    """30 buys of 1 at 30,500, each with a fee of 1: 30 x 700."""
    fills = [
        trade(60 + n / 1e6, "BTC-PERP", "buy", "1", "30500", fee="1") for n in range(30)
    ]  # fmt: skip
    found = minute(tmp_path, fills, price(90, "BTC-PERP", "31200"))
    assert explained(found, "account:desk") == terms(delta=12_000, new_trades=21_000, fees=-30)


@pytest.mark.parametrize("books", [False, True])
def test_funding_is_told_apart(tmp_path: Path, books: bool) -> None:
    """A settled interval costs 10 x 31,000 x 0.0001 = 31; the next, of 3,000 years, accrues nothing."""
    settled = {
        "type": "funding", "event_time_us": T0 + 60 * SECOND, "venue": "desk-venue", "instrument": "BTC-PERP",
        "rate": "0.0001", "interval_us": 10**17, "price": "31000",
    }  # fmt: skip
    account = house(venue="desk-venue", books_funding=books)
    found = minute(tmp_path, account, settled, price(90, "BTC-PERP", "31200"))
    assert explained(found, "account:desk") == terms(delta=12_000, funding=-31)


def test_a_payment_of_what_accrued_is_no_profit(tmp_path: Path) -> None:
    """It accrued 31 and 31 are paid: 0. An interest of 4 is carry too."""
    settled = {
        "type": "funding", "event_time_us": T0 + 30 * SECOND, "venue": "desk-venue", "instrument": "BTC-PERP",
        "rate": "0.0001", "interval_us": 10**17, "price": "31000",
    }  # fmt: skip
    paid = [deposit(60, "-31", purpose="funding"), deposit(61, "4", purpose="interest")]
    found = minute(tmp_path, settled, paid, price(90, "BTC-PERP", "31200"))
    assert explained(found, "account:desk") == terms(delta=12_000, funding=4)


def test_a_clients_minute_is_turned_for_the_firm_and_an_agencys_left_out(tmp_path: Path) -> None:
    """Our 10 gain 12,000, the client's 1 gains 1,200 which we owe; what we hold for others as agents is not ours."""
    others = [*client("ann"), *client("agent", capacity="agency")]
    bought = [trade(2, "BTC-PERP", "buy", "1", "30000", holder=holder) for holder in ("ann", "agent")]
    found = minute(tmp_path, others, bought, price(90, "BTC-PERP", "31200"), shards=4)
    assert explained(found, "account:ann") == terms(delta=1_200)
    assert explained(found, "account:agent") == terms(delta=1_200)
    assert explained(found, "firm") == terms(delta=10_800)


def test_coins_and_contracts_settled_in_them_are_explained(tmp_path: Path) -> None:
    """2 BTC gain 1,200 each. 300 inverse contracts of 100 USD bought at 30,000 were worth 0 and are, at 31,200,
    30,000 x (1/30,000 - 1/31,200) BTC. 1 BTC that comes at 30,600 gains 600, 0.5 bought at 31,000 gains 100.
    """
    found = run(
        tmp_path, spot(), inverse(), house(), price(0.1, "BTC/USD", "30000"), price(0.1, "BTC-INV", "30000"),
        deposit(0.2, "2", "BTC"), trade(1, "BTC-INV", "buy", "300", "30000"), price(39.5, "BTC/USD", "30000"),
        price(50, "BTC/USD", "30600"), deposit(51, "1", "BTC"), trade(60, "BTC/USD", "buy", "0.5", "31000"),
        [price(99.5, name, "31200") for name in ("BTC/USD", "BTC-INV")], price(101, "BTC/USD", "31200"),
        pnl_explain=True,
    )  # fmt: skip
    contracts = 30_000 * (1 / 30_000 - 1 / 31_200) * 31_200
    assert explained(found, "account:desk") == terms(delta=2_400 + contracts + 600, new_trades=100)


# --- options ----------------------------------------------------------------------------------------------------------

STRIKE, EXPIRY_US = Fraction(31_000), T0 + 30 * DAY


def value(forward: Fraction, sigma: Fraction, second: Fraction) -> Fraction:
    return black(True, forward, STRIKE, (EXPIRY_US - T0 - second * SECOND) / Fraction(YEAR), sigma, Fraction(0))


def options(folder: Path, **more: Any) -> PipelineRun:
    """Run 10 calls held while the forward goes from 30,000 to 30,300, and the volatility from 60 to 62 points."""
    marks = [(39.5, "30000", "0.60"), (90, "30300", "0.62"), (99.5, "30300", "0.62"), (101, "30300", "0.62")]
    quoted = [
        record for second, forward, sigma in marks for record in (
            price(second, "BTC/USD", forward), price(second, "C", "2000", implied_volatility=sigma)
        )
    ]  # fmt: skip
    return run(
        folder, spot(), option("C", "31000", "call", EXPIRY_US), house(), price(0.1, "BTC/USD", "30000"),
        deposit(0.2, "100000"), price(0.3, "C", "2000", implied_volatility="0.6"), trade(1, "C", "buy", "10", "2000"),
        quoted, **{"pnl_explain": True, **more},
    )  # fmt: skip


def test_an_option_is_explained_by_the_terms_of_its_series(tmp_path: Path) -> None:
    """The derivatives are differences of Black's value to 50 digits; the rest of the series stays unexplained."""
    found = explained(options(tmp_path), "account:desk")
    forward, sigma, second = Fraction(30_000), Fraction(6, 10), Fraction(BEGIN_US - T0, SECOND)
    step, bump, tick = Fraction(1, 1000), Fraction(1, 10**6), Fraction(1)
    up, here, low = (value(forward + n * step, sigma, second) for n in (1, 0, -1))
    first, curve = (up - low) / (2 * step), (up - 2 * here + low) / step**2
    slope = (value(forward, sigma + bump, second) - value(forward, sigma - bump, second)) / (2 * bump)
    decay = (value(forward, sigma, second + tick) - value(forward, sigma, second - tick)) / (2 * tick)
    whole = value(Fraction(30_300), Fraction(62, 100), second + 60) - here
    parts = {"delta": first * 300, "gamma": curve * 300**2 / 2, "vega": slope * Fraction(2, 100), "theta": decay * 60}
    for term, right in parts.items():
        assert found[term] == pytest.approx(float(10 * right), rel=1e-6), term
    assert found["pnl"] == pytest.approx(float(10 * whole), rel=1e-9)
    assert found["unexplained"] == pytest.approx(float(10 * (whole - sum(parts.values()))), abs=1e-4)
    assert abs(found["unexplained"]) < 0.01 * abs(found["pnl"])


def test_theta_of_an_underlying_is_what_a_day_costs(tmp_path: Path) -> None:
    """The derivative of Black's value by time, times a day, of 10 calls."""
    us, found = options(tmp_path).dated_measures("underlying:BTC", T0 + 95 * SECOND)
    second, forward, sigma = Fraction(us - T0, SECOND), Fraction(30_300), Fraction(62, 100)
    decay = (value(forward, sigma, second + 1) - value(forward, sigma, second - 1)) / 2
    assert found["theta"] == pytest.approx(float(10 * decay * 86_400), rel=1e-6)


def test_an_option_that_expires_counts_as_delta(tmp_path: Path) -> None:
    """A call of 31,000 is settled at 32,000: 10 x 1,000, whatever its last mark; nothing is unexplained."""
    expiry_us = T0 + 70 * SECOND
    found = run(
        tmp_path, spot(), option("C", "31000", "call", expiry_us), house(), price(0.1, "BTC/USD", "31500"),
        deposit(0.2, "100000"), price(0.3, "C", "700", implied_volatility="0.6"), trade(1, "C", "buy", "10", "700"),
        price(39.5, "BTC/USD", "31500"), price(75, "C", "32000", kind="settlement"), price(99.5, "BTC/USD", "32000"),
        price(101, "BTC/USD", "32000"), pnl_explain=True,
    )  # fmt: skip
    row = explained(found, "account:desk")
    assert row["unexplained"] == pytest.approx(0, abs=1e-6)
    assert (row["delta"], row["theta"]) == (row["pnl"], 0.0)


# --- unexplained, and states ------------------------------------------------------------------------------------------


def test_what_is_unexplained_breaks_a_limit(tmp_path: Path) -> None:
    """A limit that names it is enough; nothing is written of accounts before a minute ends."""
    limits = [
        {"id": one, "scope": scope, "measure": "unexplained", "direction": "above", "soft": 1}
        for one, scope in (("a", "account:*"), ("f", "firm"))
    ]  # fmt: skip
    found = options(tmp_path, limits=limits, pnl_explain=False)
    row = explained(found, "account:desk")
    assert row["unexplained"] > 1
    broken = {b["limit"]: b for b in found.topic("breaches")}
    assert {name: b["value"] for name, b in broken.items()} == dict.fromkeys("af", row["unexplained"])
    assert {b["as_of_us"] for b in broken.values()} == {END_US}
    assert found.measures("firm")["unexplained"] == row["unexplained"]


def test_nothing_is_explained_unless_it_is_asked_for(tmp_path: Path) -> None:
    found = options(tmp_path, pnl_explain=False)
    assert not any("explained" in record for record in found.topic("exposures"))
    assert "pnl" not in found.measures("account:desk")
    assert found.slices[0].configuration is not None and "pnl_explain" not in found.slices[0].configuration


MINUTES_US = 3 * SECOND
LINEAR = [name for name in (*FEATURES, *CONTESTED) if name not in ("options", "unmarked")]


@pytest.mark.parametrize("seed", range(4))
def test_a_book_without_options_is_explained_to_rounding(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random streams, minutes of three seconds: all of what P&L changed by has a name."""
    monkeypatch.setattr(_explain, "MINUTE_US", MINUTES_US)
    stream = Stream(seed, LINEAR)
    found = run(tmp_path, list(stream.events), limits=watch(), pnl_explain=True, shards=1 + seed % 2)
    rows = [row for record in found.topic("exposures") for row in record.get("explained", ())]
    assert len(rows) > 10
    for row in rows:
        assert abs(row["unexplained"]) <= 1e-6 + 1e-9 * sum(abs(row[term]) for term in TERMS), row
    assert all(any(row[term] for row in rows) for term in ("delta", "funding", "fees", "new_trades"))


def test_an_explain_resumes_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every slice, between the ends of minutes too, a state goes on from its snapshot with the same bytes."""
    monkeypatch.setattr(_explain, "MINUTE_US", MINUTES_US)
    stream = Stream(1, [*FEATURES])
    measures = ("account", "unexplained"), ("account", "drawdown")
    found = run(tmp_path, list(stream.events)[:110], limits=watch(*measures), pnl_explain=True, shards=2)
    assert any("explained" in record for record in found.topic("exposures"))
    cases = cases_by_name(found, 2)
    for name in ("exposure-0", "exposure-1", "firm", "limits-0"):
        check_resume_anywhere_and_run_on(cases[name])
