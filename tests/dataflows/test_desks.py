"""Four desks in small files, run over the command line: every number is what a spreadsheet gives.

The arithmetic here is written from the contract ("What the numbers mean"), in fractions, and shares nothing with the
operators. Each playbook would hedge, call margin or halt: on the hedged book it commands nothing, and without one leg
exactly what the desk would want.
"""

import csv
import datetime as dt
import gzip
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import mpmath  # type: ignore[import-untyped]
import pytest

from seawall_testing.desk import SECOND, T0, Json
from seawall_testing.desk_files import DeskRun, read_records, run_desk, without
from seawall_testing.paths import SHARED

F = Fraction
NONE_SUCH = 1_000_000  # of a distance: no move takes the margin ratio to 1
CRYPTO_FACTOR = 0.4  # supervisory factor of crypto assets, `crypto_regime = "osfi"`
SETTLED_DAILY = math.sqrt(10 / 250)  # CRE52.48 with a maturity of ten business days
MARGINED = 1.5 * math.sqrt(10 / 250)  # CRE52.52
YEAR_US = 365 * 86_400 * SECOND


def agree(run: DeskRun, sheet: Mapping[str, Mapping[str, Fraction | float]]) -> None:
    """Compare every number of a spreadsheet with the last row of its scope."""
    found = run.last()
    wrong = [
        f"{scope} {name}: {found[scope][name]} and not {float(value)}"
        for scope, row in sheet.items()
        for name, value in row.items()
        if found[scope][name] != pytest.approx(float(value), rel=1e-9, abs=1e-6)
    ]
    assert wrong == []


def is_quiet(run: DeskRun) -> None:
    """Hold that nothing was rejected, breached or commanded."""
    assert [run.topic(name) for name in ("rejects", "breaches", "commands")] == [[], [], []]


def potential_exposure(owed: float, notionals: list[float], factor: float = SETTLED_DAILY) -> float:
    """PFE (CRE52.20 to 23): add-ons per pair of assets do not offset; ``owed`` is value less collateral."""
    add_on = sum(CRYPTO_FACTOR * factor * abs(notional) for notional in notionals)
    return min(1.0, 0.05 + 0.95 * math.exp(owed / (1.9 * add_on))) * add_on


def at_default(owed: float, notionals: list[float]) -> float:
    """EAD of a set that is not margined: 1.4 (RC + PFE) (CRE52.1 and 10)."""
    return 1.4 * (max(owed, 0.0) + potential_exposure(owed, notionals))


# --- cash and carry ---------------------------------------------------------------------------------------------------


def test_cash_and_carry_is_what_a_spreadsheet_gives(tmp_path: Path) -> None:
    """10 BTC spot against 10 BTC of a perpetual: all of it moves by the basis, the funding and the price of USDT."""
    run = run_desk(tmp_path / "desk", "cash_and_carry")
    is_quiet(run)
    usd, spot, perp = F("0.9985"), F(42_000), F(42_050)
    since = F(run.last()["account:carry"]["as_of_us"] - T0 - 3600 * SECOND, 3600 * SECOND)
    # Funding: the interval that closed at 3,600 s was paid with 41.3 where 10 x 41,005 x 0.0001 = 41.005 had accrued;
    # the payment is the truth. The next one accrues at the latest rate on the mark; the short receives.
    accrued = 10 * perp * F("0.0001") * since
    cash = 450_000 - 10 * 40_000 - 40 - 20 + F("41.3")
    profit = 10 * (40_020 - perp) + accrued
    coins = 10 * spot * usd
    equity = (cash + profit) * usd + coins * F("0.95")  # the haircut of BTC is for lending value
    owed = (cash + profit) * usd + coins  # what the venue owes us has none
    notional = 10 * perp * usd
    maintenance = notional * F("0.05")
    delta = coins - notional
    # A move m of BTC: equity + (0.95 coins - notional) m = 0.05 notional (1 + m).
    distance = (equity - maintenance) / (notional - coins * F("0.95") + maintenance)
    ead = at_default(float(owed), [float(notional)])
    agree(run, {
        "account:carry": {
            "equity": equity, "unrealised_pnl": profit * usd, "gross_notional": notional, "net_notional": delta,
            "maintenance_margin": maintenance, "initial_margin": notional / 10, "margin_ratio": maintenance / equity,
            "leverage": notional / equity, "distance_to_liquidation": distance,
        },
        "netting_set:carry": {"current_exposure": owed, "collateral_held": 0, "exposure_at_default": ead},
        "counterparty:binance": {"current_exposure": owed, "net_notional": delta, "exposure_at_default": ead},
        "underlying:BTC": {"delta": delta, "net_notional": delta, "gross_notional": notional},
        "underlying:USDT": {"delta": (cash + profit - accrued) * usd},
        "venue:binance": {"net_notional": delta},
        # Profit is what all is worth less what was paid in, at the price of its time.
        "firm": {"net_notional": delta, "current_exposure": owed, "pnl": owed - 450_000 * F("0.999")},
    })  # fmt: skip


def test_without_its_perpetual_the_spot_is_sold(tmp_path: Path) -> None:
    """10 BTC at 40,000 USDT of 0.999: of 399,600 may 20,000 stay, and 379,600 are 9.494 contracts at 40,020."""
    run = run_desk(tmp_path / "desk", "cash_and_carry", without(read_records("cash_and_carry"), "f2", "t2"))
    (command,) = run.topic("commands")
    assert (command["type"], command["target"]) == ("HEDGE", {"scope": "underlying", "id": "BTC"})
    assert {name: command["action"][name] for name in ("side", "notional", "quantity", "instrument")} == {
        "side": "sell", "notional": "379600.00", "quantity": "9.494", "instrument": "BTCUSDT-PERP",
    }  # fmt: skip
    assert math.floor(F(379_600) / (40_020 * F("0.999")) * 1000) == 9494


def test_without_its_spot_the_perpetual_is_bought_back(tmp_path: Path) -> None:
    """10 contracts sold at 40,020 USDT of 0.999 are -399,799.8, and 379,799.8 too much: 9.499 contracts."""
    run = run_desk(tmp_path / "desk", "cash_and_carry", without(read_records("cash_and_carry"), "f1"))
    (command,) = run.topic("commands")
    assert command["type"] == "HEDGE"
    assert {name: command["action"][name] for name in ("side", "notional", "quantity")} == {
        "side": "buy", "notional": "379799.80", "quantity": "9.499",
    }  # fmt: skip


# --- basis ------------------------------------------------------------------------------------------------------------


def test_a_basis_desk_is_what_a_spreadsheet_gives(tmp_path: Path) -> None:
    """A future of 510,000 USD sold, a perpetual of 260,000 bought, 4 BTC of margin: no coin is left, at any price."""
    run = run_desk(tmp_path / "desk", "basis")
    is_quiet(run)
    coin, perp, future = F(54_000), F(54_027), F(54_810)
    bought, sold = F(260_000), F(510_000)
    profit = bought * (F(1, 60_000) - 1 / perp) - sold * (F(1, 61_200) - 1 / future)  # in coins
    longs, shorts = bought / perp, sold / future
    delta = 4 + profit + longs - shorts
    assert delta == 0
    equity, gross, net = (4 + profit) * coin, (longs + shorts) * coin, (longs - shorts) * coin
    maintenance = (longs * F("0.03") + shorts * F("0.02")) * coin
    initial = (longs * F("0.06") + shorts * F("0.04")) * coin
    owed = float(equity)
    agree(run, {
        "account:basis": {
            "equity": equity, "unrealised_pnl": profit * coin, "gross_notional": gross, "net_notional": delta,
            "maintenance_margin": maintenance, "initial_margin": initial, "margin_ratio": maintenance / equity,
            "leverage": gross / equity,
            "distance_to_liquidation": NONE_SUCH,  # neither equity in USD nor margin moves with the coin
        },
        "netting_set:basis": {
            "current_exposure": equity, "potential_exposure": potential_exposure(owed, [float(net)]),
            "exposure_at_default": at_default(owed, [float(net)]),
        },
        "underlying:BTC": {"delta": delta, "net_notional": delta, "gross_notional": gross, "concentration": 1},
        "firm": {"net_notional": delta, "current_exposure": equity, "pnl": equity - 4 * 60_000},
    })  # fmt: skip


@pytest.mark.parametrize(
    ("leg", "side", "notional", "quantity"),
    [
        ("f1", "sell", "480000.00", "48000"),  # without the future: 4 BTC and 260,000 are 500,000, 20,000 may stay
        ("f2", "buy", "240000.00", "24000"),  # without the perpetual: 240,000 less 500,000 x 61,200/61,200 x 1.02/1.02
    ],
)
def test_without_a_leg_the_basis_desk_is_hedged(
    tmp_path: Path, leg: str, side: str, notional: str, quantity: str
) -> None:
    run = run_desk(tmp_path / "desk", "basis", without(read_records("basis"), leg))
    (command,) = run.topic("commands")
    assert (command["type"], command["target"]) == ("HEDGE", {"scope": "underlying", "id": "BTC"})
    assert {name: command["action"][name] for name in ("side", "notional", "quantity")} == {
        "side": side, "notional": notional, "quantity": quantity,
    }  # fmt: skip


def test_without_its_margin_the_basis_desk_stops_and_buys_coins(tmp_path: Path) -> None:
    run = run_desk(tmp_path / "desk", "basis", without(read_records("basis"), "t1"))
    assert sorted(run.commands()) == [("HALT_TRADING", "account:basis"), ("HEDGE", "underlying:BTC")]
    (hedge,) = [one for one in run.topic("commands") if one["type"] == "HEDGE"]
    assert (hedge["action"]["side"], hedge["action"]["quantity"]) == ("buy", "22000")


# --- client book ------------------------------------------------------------------------------------------------------


class Client(NamedTuple):
    """A client's book at the end: collateral in USDT, contracts of each underlying, and profit in USDT."""

    paid_in: Fraction
    held: dict[str, int | Fraction]
    profit: Fraction


BTC, ETH, USDT = F(41_000), F(2_050), F("0.998")
CLIENTS = {
    "ann": Client(F(60_000), {"BTC": 5}, 5 * (BTC - 40_000)),
    "bob": Client(F(30_000), {"BTC": -3, "ETH": 20}, -3 * (BTC - 40_100) + 20 * (ETH - 2_000)),
    "cleo": Client(F(20_000), {"BTC": 2}, 2 * (BTC - 40_000)),  # through us as an agent
    "dan": Client(F(0), {"BTC": F(-1, 2)}, F(-1, 2) * (BTC - 40_000)),
}
PRICES = {"BTC": BTC * USDT, "ETH": ETH * USDT}


def client_rows(name: str, client: Client) -> dict[str, dict[str, Fraction | float]]:
    """Return the rows of a client whose set has no terms of its own."""
    notionals = {asset: held * PRICES[asset] for asset, held in client.held.items()}
    gross, net = sum(map(abs, notionals.values()), F(0)), sum(notionals.values(), F(0))
    collateral = client.paid_in * USDT * F("0.98")
    equity = collateral + client.profit * USDT
    maintenance = gross / 20
    owed = -float(equity)  # what they owe us beyond their collateral
    account: dict[str, Fraction | float] = {
        "equity": equity, "unrealised_pnl": client.profit * USDT, "gross_notional": gross, "net_notional": net,
        "maintenance_margin": maintenance, "initial_margin": gross / 10,
        "margin_ratio": maintenance / equity if equity > 0 else NONE_SUCH,
        "leverage": gross / equity if equity > 0 else NONE_SUCH,
    }  # fmt: skip
    # A move m against them: equity - |net| m = 0.05 gross (1 + m) where they are short, (1 - m) where long.
    against = abs(net) + maintenance * (1 if net < 0 else -1)
    account["distance_to_liquidation"] = (equity - maintenance) / against if equity > 0 else 0
    terms: dict[str, Fraction | float] = {
        "current_exposure": max(owed, 0.0), "collateral_held": collateral,
        "potential_exposure": potential_exposure(owed, [float(one) for one in notionals.values()]),
        "exposure_at_default": at_default(owed, [float(one) for one in notionals.values()]),
    }  # fmt: skip
    return {f"account:{name}": account, f"netting_set:{name}": terms, f"counterparty:{name}": terms}


def test_a_client_book_is_what_a_spreadsheet_gives(tmp_path: Path) -> None:
    run = run_desk(tmp_path / "desk", "client_book")
    is_quiet(run)
    for name, client in CLIENTS.items():
        agree(run, client_rows(name, client))


def test_a_client_under_a_margin_agreement_may_owe_its_threshold_and_the_least_transfer(tmp_path: Path) -> None:
    """RC of a margined set is max(V - C, TH + MTA - NICA, 0); its EAD is at most that of the set without (CRE52.2)."""
    run = run_desk(tmp_path / "desk", "client_book")
    notional, held = float(30 * ETH * USDT), float(100 * USDT * F("0.98"))
    value = float(30 * (ETH - 2_000) * USDT)  # eve sold 30 ETH at 2,000: she owes us 1,500 USDT
    margined = potential_exposure(value - held, [notional], MARGINED)
    agree(run, {
        "account:eve": {"equity": held - value, "margin_ratio": NONE_SUCH, "distance_to_liquidation": 0},
        "netting_set:eve-csa": {
            "current_exposure": 2_000 + 500, "collateral_held": held, "potential_exposure": margined,
            "exposure_at_default": min(1.4 * (2_500 + margined), at_default(value - held, [notional])),
            "margin_call": 0,  # below her threshold
        },
    })  # fmt: skip


def test_a_client_book_and_its_hedge_add_up_to_nothing(tmp_path: Path) -> None:
    """Ours are the turned positions of principals and the hedge: -5 + 3 + 0.5 + 1.5 BTC and -20 + 30 - 10 ETH."""
    run = run_desk(tmp_path / "desk", "client_book")
    hedge = F(3, 2) * (BTC - 40_000) - 10 * (ETH - 2_000)
    principals = [client.profit for name, client in CLIENTS.items() if name != "cleo"] + [-30 * (ETH - 2_000)]
    at_venue = (30_000 + hedge) * USDT
    notionals = [float(F(3, 2) * PRICES["BTC"]), float(10 * PRICES["ETH"])]
    assert hedge - sum(principals) == -300  # bob sold at 40,100, 100 above the hedge
    # Our own cash is 30,000 at the venue; what principals paid in lies in the vault and is owed to them.
    profit = -300 * USDT + 30_000 * (USDT - F("0.999"))
    agree(run, {
        "account:hedge": {
            "equity": (30_000 * F("0.98") + hedge) * USDT, "net_notional": F(3, 2) * PRICES["BTC"] - 10 * PRICES["ETH"],
        },
        "counterparty:okx": {
            "current_exposure": at_venue, "exposure_at_default": at_default(float(at_venue), notionals),
        },
        "counterparty:custody": {"current_exposure": 90_100 * USDT, "exposure_at_default": 1.4 * 90_100 * 0.998},
        "underlying:BTC": {"delta": 0, "pnl": -300 * USDT},
        "underlying:ETH": {"delta": 0, "pnl": 0},
        "underlying:USDT": {"delta": (30_000 - 300) * USDT},
        "firm": {"pnl": profit, "current_exposure": at_venue + 90_100 * USDT + 500 * USDT + 2_500},
    })  # fmt: skip


def changed(fill_or_transfer: str, **fields: str) -> list[Json]:
    """Return the records of the client book with one fill or transfer changed."""
    return [
        {**one, **fields} if fill_or_transfer in (one.get("fill_id"), one.get("transfer_id")) else one
        for one in read_records("client_book")
    ]


def test_without_its_hedge_the_client_book_is_hedged(tmp_path: Path) -> None:
    """1.5 BTC short at 40,000 USDT of 0.999 are -59,940, and 10,000 may stay."""
    run = run_desk(tmp_path / "desk", "client_book", without(read_records("client_book"), "f7"))
    (command,) = run.topic("commands")
    assert (command["type"], command["target"]) == ("HEDGE", {"scope": "underlying", "id": "BTC"})
    assert (command["action"]["side"], command["action"]["notional"]) == ("buy", "49940.00")


def test_a_client_with_too_little_collateral_is_called(tmp_path: Path) -> None:
    """Equity 16,000 x 0.98 x 0.999 = 15,664.32 under margin 9,990; at the soft level of 0.5 it would be 19,980."""
    run = run_desk(tmp_path / "desk", "client_book", changed("t3", amount="16000"))
    (command,) = run.topic("commands")
    assert (command["type"], command["target"]) == ("CALL_MARGIN", {"scope": "account", "id": "ann"})
    assert command["action"] == {"amount": "4315.68", "currency": "USD"}


def test_a_client_who_owes_too_much_is_blocked(tmp_path: Path) -> None:
    """Half a BTC sold at 37,000 under a mark of 40,000 owes us 1,500 USDT."""
    run = run_desk(tmp_path / "desk", "client_book", changed("f5", price="37000"))
    assert run.commands() == [("BLOCK_COUNTERPARTY", "counterparty:dan")]


def test_what_an_agency_client_falls_short_of_is_ours_and_its_profit_is_not(tmp_path: Path) -> None:
    """cleo bought at 50,000 and has 20,000 x 0.98 - 18,000 = 1,600 USDT; without her deposit she owes 18,000."""
    folder = tmp_path
    with_it = run_desk(folder / "with", "client_book", changed("f4", price="50000"))
    alone = run_desk(
        folder / "alone", "client_book", [one for one in changed("f4", price="50000") if one.get("transfer_id") != "t5"]
    )
    agree(with_it, {"netting_set:cleo": {"current_exposure": 0}, "account:cleo": {"equity": 1_600 * USDT}})
    agree(alone, {"netting_set:cleo": {"current_exposure": 18_000 * USDT}})
    for run in (with_it, alone):
        agree(run, {"underlying:BTC": {"delta": 0, "pnl": -300 * USDT}})


# --- options market maker ---------------------------------------------------------------------------------------------

SNAPSHOT = SHARED / "data" / "deribit_options" / "deribit_options_snapshot_20260131T092102Z.csv.gz"
BOOK = {"BTC-27MAR26-90000-C": -10, "BTC-27MAR26-78000-P": -10, "BTC-27MAR26-100000-C": 15, "BTC-27MAR26-70000-P": 15}
HEDGE_CONTRACTS = 250_000  # of 10 USD, sold
PERP_AT_FIRST, PERP, FORWARD, INDEX = F("82953.5"), F(81_010), F(81_600), F(81_000)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Quoted(NamedTuple):
    """A row of the snapshot: terms, mark in coin and volatility."""

    strike: Fraction
    call: bool
    expiry_us: int
    mark: Fraction
    volatility: Fraction
    row: dict[str, str]


def time_us(text: str) -> int:
    return (dt.datetime.fromisoformat(text) - EPOCH) // dt.timedelta(microseconds=1)


@pytest.fixture(scope="module")
def snapshot() -> dict[str, Quoted]:
    if not SNAPSHOT.exists():
        pytest.skip("the snapshot of Deribit's options is not on this machine")
    with gzip.open(SNAPSHOT, "rt") as file:
        rows = {row["instrument_name"]: row for row in csv.DictReader(file) if row["instrument_name"] in BOOK}
    return {
        name: Quoted(
            F(row["strike"]), row["option_type"] == "call", time_us(row["expiry_datetime"]), F(row["mark_price"]),
            F(row["implied_volatility"]).limit_denominator(10_000), row,
        )
        for name, row in rows.items()
    }  # fmt: skip


def option_terms(name: str, one: Quoted, coin: Json) -> Json:
    """Return the instrument record of an option in coin."""
    terms = {"strike": str(one.strike), "option_type": one.row["option_type"], "expiry_us": one.expiry_us}
    rates = {"initial_margin_rate": "0.15", "maintenance_margin_rate": "0.075", "quantity_increment": "0.1"}
    body = {"type": "instrument", "instrument": name, "kind": "option", "forward": "BTC-27MAR26"}
    return {**body, **coin, **terms, **rates}


def option_records(quoted: dict[str, Quoted], wings: bool = True, hedged: bool = True) -> list[Json]:
    """Return instruments, marks and fills of the book; 30 s later index, forward and perpetual have moved."""
    start = time_us(next(iter(quoted.values())).row["timestamp"])
    coin = {"base": "BTC", "quote": "USD", "settlement": "BTC", "inverse": True}
    future = {
        "kind": "future",
        "quantity_increment": "1",
        "contract_size": "10",
        "expiry_us": quoted["BTC-27MAR26-90000-C"].expiry_us,
    }
    records: list[Json] = [{"type": "instrument", "instrument": "BTC-27MAR26", **coin, **future}]

    def at(second: float, record: str, **fields: object) -> None:
        records.append({"type": record, "event_time_us": start + round(second * SECOND), **fields})

    def mark(second: float, name: str, price: object, **fields: object) -> None:
        at(second, "mark", instrument=name, price=str(price), venue="deribit", **fields)

    def fill(name: str, quantity: int, price: object) -> None:
        side = "buy" if quantity > 0 else "sell"
        at(
            1,
            "fill",
            fill_id=name,
            account="options",
            instrument=name,
            side=side,
            quantity=str(abs(quantity)),
            price=str(price),
        )

    records += [option_terms(name, one, coin) for name, one in quoted.items()]
    first = quoted["BTC-27MAR26-90000-C"].row
    mark(0, "BTC/USD", first["index_price"], kind="index")
    mark(0, "BTC-27MAR26", first["futures_price"])
    mark(0, "BTC-PERPETUAL", "82953.5")
    at(0, "depth", venue="deribit", instrument="BTC-PERPETUAL", bids=[["82950", "500000"]], asks=[["82960", "500000"]])
    for name, one in quoted.items():
        mark(0, name, one.row["mark_price"], implied_volatility=f"{float(one.volatility):.4f}")
    at(1, "collateral", transfer_id="t1", account="options", asset="BTC", amount="30")
    for name, quantity in BOOK.items():
        if wings or quantity < 0:
            fill(name, quantity, quoted[name].row["mark_price"])
    if hedged:
        fill("BTC-PERPETUAL", -HEDGE_CONTRACTS, "82953.5")
    for second in (30, 32):
        mark(second, "BTC/USD", INDEX, kind="index")
        mark(second, "BTC-27MAR26", FORWARD)
        mark(second, "BTC-PERPETUAL", PERP)
    return records


class Greeks(NamedTuple):
    """Of one option on one coin: value and delta in coins, gamma per 1 % and vega per point in USD of the forward."""

    value: float
    delta: float
    gamma: float
    vega: float


def black(one: Quoted, forward: Fraction, as_of_us: int) -> Greeks:
    """Black-76, undiscounted, in 50 digits."""
    with mpmath.workdps(50):
        years = mpmath.mpf(one.expiry_us - as_of_us) / YEAR_US
        ahead, strike = (mpmath.mpf(x.numerator) / x.denominator for x in (forward, one.strike))
        spread = mpmath.mpf(one.volatility.numerator) / one.volatility.denominator * mpmath.sqrt(years)
        d1 = mpmath.log(ahead / strike) / spread + spread / 2
        sign = 1 if one.call else -1
        value = sign * (ahead * mpmath.ncdf(sign * d1) - strike * mpmath.ncdf(sign * (d1 - spread)))
        gamma = mpmath.npdf(d1) / spread * ahead / 100
        vega = ahead * mpmath.npdf(d1) * mpmath.sqrt(years) / 100
        return Greeks(*map(float, (value / ahead, sign * mpmath.ncdf(sign * d1), gamma, vega)))


def test_the_greeks_here_are_those_that_the_venue_publishes(snapshot: dict[str, Quoted]) -> None:
    for one in snapshot.values():
        found = black(one, F(one.row["futures_price"]), time_us(one.row["timestamp"]))
        assert found.delta == pytest.approx(float(one.row["delta"]), abs=0.002)
        assert found.vega == pytest.approx(float(one.row["vega"]), rel=0.01)
        assert found.value == pytest.approx(float(one.mark), abs=2e-4)


def test_an_options_market_maker_is_what_a_spreadsheet_gives(tmp_path: Path, snapshot: dict[str, Quoted]) -> None:
    run = run_desk(
        tmp_path / "desk", "options_market_maker", read_records("options_market_maker"), option_records(snapshot)
    )
    is_quiet(run)
    as_of_us = run.last()["underlying:BTC"]["as_of_us"]
    model = {name: black(one, FORWARD, as_of_us) for name, one in snapshot.items()}
    coin = float(INDEX)

    def total(name: str) -> float:
        return math.fsum(BOOK[one] * getattr(greeks, name) for one, greeks in model.items())

    cash = 30 - math.fsum(quantity * float(snapshot[name].mark) for name, quantity in BOOK.items())  # after premiums
    sold = F(10 * HEDGE_CONTRACTS)
    cash += float(-sold * (1 / PERP_AT_FIRST - 1 / PERP))
    perps = float(sold / PERP)
    at_venue = math.fsum(quantity * float(snapshot[name].mark) for name, quantity in BOOK.items())
    options = sum(map(abs, BOOK.values()))
    delta = (cash + total("delta") - perps) * coin
    equity, owed = (cash + at_venue) * coin, (cash + total("value")) * coin
    maintenance, gross = (0.075 * options + 0.01 * perps) * coin, (options + perps) * coin
    in_usd = float(INDEX / FORWARD)  # value in coins is that over the forward, and coins are worth the index
    agree(run, {
        "account:options": {
            "equity": equity, "maintenance_margin": maintenance, "margin_ratio": maintenance / equity,
            "initial_margin": (0.15 * options + 0.02 * perps) * coin, "gross_notional": gross,
            "leverage": gross / equity, "net_notional": delta,
        },
        "netting_set:options": {"current_exposure": owed, "collateral_held": 0},
        "underlying:BTC": {
            "delta": delta, "gamma": total("gamma") * in_usd, "vega": total("vega") * in_usd,
            "gross_notional": gross,
        },
        "firm": {"current_exposure": owed, "net_notional": delta},
    })  # fmt: skip


def test_without_its_perpetual_the_options_book_is_hedged(tmp_path: Path, snapshot: dict[str, Quoted]) -> None:
    records = option_records(snapshot, hedged=False)
    run = run_desk(tmp_path / "desk", "options_market_maker", read_records("options_market_maker"), records)
    (command,) = run.topic("commands")
    assert (command["type"], command["target"]) == ("HEDGE", {"scope": "underlying", "id": "BTC"})
    row = next(iter(snapshot.values())).row
    index, forward = (
        float(snapshot["BTC-27MAR26-90000-C"].row["index_price"]),
        F(snapshot["BTC-27MAR26-90000-C"].row["futures_price"]),
    )
    as_of_us = command["evidence"]["as_of_us"]
    assert as_of_us // SECOND == time_us(row["timestamp"]) // SECOND + 1
    coins = 30.0 + math.fsum(
        quantity * (black(snapshot[name], forward, as_of_us).delta - float(snapshot[name].mark))
        for name, quantity in BOOK.items()
    )
    assert command["action"]["side"] == "sell"
    assert float(command["action"]["notional"]) == pytest.approx(coins * index - 20_000, abs=0.01)
    assert int(command["action"]["quantity"]) == pytest.approx(
        (coins * index - 20_000) / 10 * float(PERP_AT_FIRST) / index, abs=1
    )


def test_without_the_options_that_it_bought_the_book_is_short_of_volatility(
    tmp_path: Path, snapshot: dict[str, Quoted]
) -> None:
    records = option_records(snapshot, wings=False)
    run = run_desk(tmp_path / "desk", "options_market_maker", read_records("options_market_maker"), records)
    assert run.commands() == [("REDUCE_ONLY", "firm:firm")]
