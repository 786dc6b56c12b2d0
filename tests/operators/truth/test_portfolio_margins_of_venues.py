"""Portfolio margin of an account is that of its venue's grid: worst scenario, charges, initial and maintenance factor.

The figures of Deribit's own worked example come out; the others are derived here, with Black's formula of the reference
model, from the rules and figures of ``schemas/configuration/grids``, written down again.
"""

import csv
import gzip
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath  # type: ignore[import-untyped]
import pytest

from seawall_testing.desk import SECOND, T0, Json, instrument, lines, sequence
from seawall_testing.pipeline import MemoryBus, PipelineRun, journal_in_order, write_configuration
from seawall_testing.reference.numbers import black
from seawall_testing.reference_data import shared
from seawall_testing.risk_desk import DAY, YEAR, deposit, house, option, perpetual, price, run, spot, trade, watch

AT_US = T0 + 2 * SECOND
EXPIRY = "BTC-27MAR26"  # 56 days ahead
Volatility = Callable[[float, float], float]  # of a volatility and days to expiry
Leg = tuple[bool, float, float, float, float]  # call, strike, volatility, size, years
MARGINS = ("initial_margin", "maintenance_margin")


def at_venue(venue: str = "deribit", **fields: Any) -> list[Json]:
    return house("desk", venue=venue, margin_model="scenario", **fields)


def grid(name: str, venue: str = "deribit", **fields: Any) -> Json:
    return {"portfolio_margin": {venue: {"grid": name, **fields}}}


def margins(found: PipelineRun, account: str = "desk", at_us: int | None = None) -> tuple[float, ...]:
    measures = found.measures(f"account:{account}", at_us)
    return tuple(measures[name] for name in MARGINS)


# --- Deribit's worked example -----------------------------------------------------------------------------------------


def inverse_of_one_dollar(name: str, **fields: Any) -> Json:
    return perpetual(name, settlement="BTC", inverse=True, contract_size="1", **fields)


def test_the_worked_example_of_deribit_comes_out(tmp_path: Path) -> None:
    """Answer to private/pme/simulate in Deribit's API documentation, 17 June 2024.

    Sizes are in base currency at the mark; the worst bucket is -16 %, worst_case 0.05968587238095239 BTC, roll_shock
    0.00315725898 BTC, and together 0.06284313098 BTC, of which 0.8 are 0.050274504784 BTC.
    """
    index, marks = "65666.19", {"BTC-PERP": "65910.57", "BTC-28JUN24": "67371.75"}
    coins = {"BTC-PERP": ("buy", "0.314538364"), "BTC-28JUN24": ("sell", "0.001187534")}
    dollars = {name: f"{Fraction(size) * Fraction(marks[name])}" for name, (_, size) in coins.items()}
    future = inverse_of_one_dollar("BTC-28JUN24", kind="future", expiry_us=T0 + 11 * DAY)
    found = run(
        tmp_path, spot(), inverse_of_one_dollar("BTC-PERP"), future, at_venue(), price(0.1, "BTC/USD", index),
        *(price(0.2, name, mark) for name, mark in marks.items()),
        *(trade(1, name, side, f"{float(Fraction(dollars[name])):.8f}", marks[name])
          for name, (side, _) in coins.items()),
        deposit(5, "1"), **grid("deribit"),
    )  # fmt: skip
    in_coin = [margin / float(index) for margin in margins(found)]
    assert in_coin == pytest.approx([0.06284313098, 0.050274504784], rel=1e-8)


def test_the_answer_of_deribit_for_one_short_perpetual_on_ether_comes_out(tmp_path: Path) -> None:
    """Answer of private/pme/simulate of 15 February 2026: worst +18 %, 0.152464 ETH, and a roll charge of 0.004997 ETH.

    The initial margin is 0.157461562265 ETH and the maintenance margin 0.125969249812 ETH.
    """
    ether = perpetual("ETH-PERP", "ETH", settlement="ETH", inverse=True, contract_size="1")
    dollars = f"{0.999487053 * 1949.49:.8f}"
    found = run(
        tmp_path, spot("ETH/USD", "ETH"), ether, at_venue(), price(0.1, "ETH/USD", "1949.34"),
        price(0.2, "ETH-PERP", "1949.49"), trade(1, "ETH-PERP", "sell", dollars, "1949.49"), deposit(5, "1"),
        **grid("deribit"),
    )  # fmt: skip
    in_coin = [margin / 1949.34 for margin in margins(found)]
    assert in_coin == pytest.approx([0.157461562265, 0.125969249812], rel=1e-8)


# --- books of options -------------------------------------------------------------------------------------------------


def value(leg: Leg, forward: float, volatility: float) -> float:
    call, strike, _, _, years = leg
    return float(
        black(call, Fraction(forward), Fraction(strike), Fraction(years), Fraction(max(volatility, 0.0)), Fraction(0))
    )


def loss(legs: list[Leg], forward: float, move: float, shock: Volatility, coin: bool) -> float:
    """Return what a book loses by a move of the forward and of volatilities, in coin or in quote currency."""
    lost, moved = 0.0, forward * (1 + move)
    for leg in legs:
        _, _, volatility, size, years = leg
        before = value(leg, forward, volatility) / (forward if coin else 1.0)
        after = value(leg, moved, shock(volatility, years * 365)) / (moved if coin else 1.0)
        lost -= size * (after - before)
    return lost


def same(volatility: float, days: float) -> float:
    return volatility


def deribit_up(volatility: float, days: float) -> float:
    return max(volatility * (1 + 0.5 * (30 / max(days, 1)) ** (0.3 if days < 30 else 0.13)), 0.5)


def deribit_down(volatility: float, days: float) -> float:
    return max(volatility * (1 - 0.25 * (30 / max(days, 1)) ** (0.3 if days < 30 else 0.13)), 0.0)


def deribit(legs: list[Leg], forward: float, coin: float = 0.0) -> float:
    """Return the initial margin of a book of BTC options on one forward, settled in dollars or in a coin of a price."""
    unit = coin or 1.0
    steps = [0.04 * step for step in range(-4, 5)]
    standard = [
        loss(legs, forward, move, shock, bool(coin)) * unit
        for move in steps
        for shock in (deribit_down, same, deribit_up)
    ]
    extended = []
    for move in (-0.66, -0.33, 0.5, 1, 2, 3, 4, 5):
        lost = loss(legs, forward, move, deribit_up, bool(coin)) * unit * 0.16 / abs(move)
        if coin:  # the loss in dollars there, turned into coin at the edge of the range
            lost *= (1 + move) / (1 + (0.16 if move > 0 else -0.16))
        extended.append(lost - (abs(move) / 0.16 - 1) * 100_000)
    rolled: dict[float, float] = {}
    for call, strike, volatility, size, years in legs:
        f, k, s = mpmath.mpf(forward), mpmath.mpf(strike), mpmath.mpf(volatility) * mpmath.sqrt(years)
        delta = mpmath.ncdf(mpmath.log(f / k) / s + s / 2) - (0 if call else 1)
        worth = value((call, strike, volatility, size, years), forward, volatility)
        net = (float(delta) - worth / forward) * coin if coin else float(delta) * forward
        rolled[years] = rolled.get(years, 0.0) + size * net
    roll = sum(abs(net) * max(0.075 * years, 0.01) for years, net in rolled.items())
    return max([0.0, *standard, *extended]) + roll


def book(legs: list[Leg], venue: str = "deribit") -> list[Json]:
    """Return the records of options settled in dollars on BTC/USD at 30,000."""
    options = [
        option(f"O{n}", f"{leg[1]:.0f}", "call" if leg[0] else "put", AT_US + round(leg[4] * YEAR))
        for n, leg in enumerate(legs)
    ]
    return [
        spot(), *options, *at_venue(venue), price(0.1, "BTC/USD", "30000"),
        *(price(0.2, f"O{n}", "900", implied_volatility=f"{leg[2]}") for n, leg in enumerate(legs)),
        *(trade(1 + n / 100, f"O{n}", "buy" if leg[3] > 0 else "sell", f"{abs(leg[3])}", "900")
          for n, leg in enumerate(legs)),
        deposit(2, "1"),
    ]  # fmt: skip


STRADDLE: list[Leg] = [(True, 30_000.0, 0.6, -10.0, 20 / 365), (False, 30_000.0, 0.6, -10.0, 20 / 365)]
STRANGLE: list[Leg] = [(True, 60_000.0, 0.7, -500.0, 20 / 365), (False, 15_000.0, 0.3, -500.0, 60 / 365)]
HEDGED: list[Leg] = [(True, 30_000.0, 0.6, -10.0, 20 / 365), (True, 30_000.0, 0.5, 10.0, 90 / 365)]


@pytest.mark.parametrize("legs", [STRADDLE, STRANGLE, HEDGED], ids=["straddle", "far strangle", "calendar"])
def test_the_margin_at_deribit_is_the_worst_bucket_and_the_roll_charge(tmp_path: Path, legs: list[Leg]) -> None:
    right = deribit(legs, 30_000.0)
    assert margins(run(tmp_path, book(legs), **grid("deribit"))) == pytest.approx([right, 0.8 * right], rel=2e-6)


def test_a_far_strangle_is_judged_by_the_extended_table() -> None:
    inside = max(
        loss(STRANGLE, 30_000.0, 0.04 * step, shock, coin=False)
        for step in range(-4, 5)
        for shock in (deribit_down, same, deribit_up)
    )
    assert deribit(STRANGLE, 30_000.0) > 2 * inside


def okx_shocks() -> list[Volatility]:
    def line(days: float, ends: tuple[float, float, float]) -> float:
        low, middle, high = ends
        return low + (middle - low) * days / 30 if days < 30 else middle + (high - middle) * min(days / 30 - 1, 1)

    def shock(sign: int, relative: bool) -> Volatility:
        ends = (0.5, 0.35, 0.25) if relative else (0.3, 0.25, 0.2)
        return lambda v, days: max(v + sign * line(days, ends) * (v if relative else 1.0), 0.0)

    return [same, *(shock(sign, relative) for sign in (-1, 1) for relative in (False, True))]


@pytest.mark.parametrize("legs", [STRADDLE, STRANGLE, HEDGED], ids=["straddle", "far strangle", "calendar"])
def test_the_margin_at_okx_is_the_worst_of_spot_shock_and_half_the_extreme_move(
    tmp_path: Path, legs: list[Leg]
) -> None:
    spot_shock = [
        loss(legs, 30_000.0, move, shock, coin=False)
        for move in (-0.12, -0.08, -0.04, 0.0, 0.04, 0.08, 0.12)
        for shock in okx_shocks()
    ]
    extreme = [loss(legs, 30_000.0, move, same, coin=False) / 2 for move in (-0.24, 0.24)]
    right = max([0.0, *spot_shock, *extreme])
    assert margins(run(tmp_path, book(legs), **grid("okx"))) == pytest.approx([1.3 * right, right], rel=2e-6)


def test_a_straddle_of_a_deribit_snapshot_is_margined_in_coin(tmp_path: Path) -> None:
    """Ten BTC straddles sold at the strike nearest to their forward, with the volatilities that Deribit gave."""
    path = shared("data", "deribit_options", "deribit_options_snapshot_20260130T042515Z.csv.gz")
    with gzip.open(path, "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["currency"] == "BTC" and row["underlying_name"] == EXPIRY]
    near = min(rows, key=lambda row: abs(float(row["strike"]) - float(row["underlying"])))
    pair = {row["option_type"]: row for row in rows if row["strike"] == near["strike"]}
    forward, index = f"{float(near['underlying']):.2f}", near["index_price"]
    years, strike = float(near["time_to_maturity"]), f"{float(near['strike']):.0f}"
    expiry_us = AT_US + round(years * YEAR)
    coin = {"settlement": "BTC", "inverse": True, "forward": "F"}
    legs: list[Leg] = [
        (kind == "call", float(strike), round(float(row["implied_volatility"]), 6), -10.0, years)
        for kind, row in pair.items()
    ]
    found = run(
        tmp_path, spot(), perpetual("F", kind="future", expiry_us=expiry_us), at_venue(),
        *(option(f"O-{kind}", strike, kind, expiry_us, **coin) for kind in pair),
        price(0.1, "BTC/USD", index), price(0.1, "F", forward),
        *(price(0.2, f"O-{kind}", f"{float(row['mark_price']):.10f}", implied_volatility=row["implied_volatility"])
          for kind, row in pair.items()),
        *(trade(1, f"O-{kind}", "sell", "10", f"{float(row['mark_price']):.10f}") for kind, row in pair.items()),
        deposit(2, "1"), **grid("deribit"),
    )  # fmt: skip
    right = deribit(legs, float(forward), float(index))
    assert len(legs) == 2 and 0.1 < right / (10 * float(index)) < 0.4
    assert margins(found) == pytest.approx([right, 0.8 * right], rel=2e-6)


# --- configuration ----------------------------------------------------------------------------------------------------


def test_without_a_grid_both_margins_are_the_loss_over_the_built_in_grid_and_the_journal_is_as_before(
    tmp_path: Path,
) -> None:
    plain = run(tmp_path / "a", book(STRADDLE))
    elsewhere = run(tmp_path / "b", book(STRADDLE), **grid("deribit", "other"))
    initial, maintenance = margins(plain)
    assert initial == maintenance == pytest.approx(built_in(STRADDLE), rel=2e-6)
    assert margins(elsewhere) == (initial, maintenance)
    said = [ran.exposures[0].configuration for ran in (plain, elsewhere)]
    assert ["portfolio_margin" in one for one in said] == [False, True]


def built_in(legs: list[Leg]) -> float:
    def shock(sign: int) -> Volatility:
        return lambda v, days: max(v * (1 + sign * 0.38 * (30 / max(days, 1)) ** 0.3), 0.0)

    steps = [0.04 * step for step in range(-4, 5)]
    return max(loss(legs, 30_000.0, move, shock(sign), coin=False) for move in steps for sign in (-1, 0, 1))


def test_the_factors_of_the_configuration_take_the_place_of_the_files(tmp_path: Path) -> None:
    own = margins(run(tmp_path / "a", book(STRADDLE), **grid("okx", initial_factor=1.5, maintenance_factor=1.1)))
    shipped = margins(run(tmp_path / "b", book(STRADDLE), **grid("okx")))
    assert own == pytest.approx([shipped[1] * 1.5, shipped[1] * 1.1], rel=1e-12)


def test_margins_follow_a_change_of_the_grid_at_once_and_go_back(tmp_path: Path) -> None:
    """Half a second after each change nothing was traded and ten seconds have not passed since all were computed."""
    bus, told, events = MemoryBus(), [], book(STRADDLE)
    for at, venues in enumerate((grid("deribit"), grid("okx"), {})):
        events.append(deposit(3 + at / 2, "1"))
        path = write_configuration(tmp_path, {"e.jsonl": lines(*events)}, watch(), shards=1, **venues)
        sequence(path, bus)
        told.append(margins(PipelineRun(journal_in_order(bus, 1), 1)))
    right, later = deribit(STRADDLE, 30_000.0), built_in(STRADDLE)
    assert told[0] == pytest.approx([right, 0.8 * right], rel=2e-6)
    assert told[1][0] == pytest.approx(1.3 * told[1][1], rel=1e-12) and told[1][1] < told[0][1]
    assert told[2] == pytest.approx([later, later], rel=2e-6)


def test_an_underlying_that_the_grids_do_not_name_has_the_built_in_grid(tmp_path: Path) -> None:
    other = [spot("DOT/USD", "DOT"), instrument("DOT-PERP", base="DOT")]
    found = run(
        tmp_path, *other, at_venue("hub"), price(0.1, "DOT/USD", "10"), price(0.2, "DOT-PERP", "10"),
        trade(1, "DOT-PERP", "buy", "100", "10"), deposit(5, "1"), **grid("deribit", "hub"),
    )  # fmt: skip
    assert margins(found) == pytest.approx([160.0, 0.8 * 160.0])


def test_a_grid_of_ones_own_charges_options_that_are_net_short_at_a_strike(tmp_path: Path) -> None:
    """At one strike 20 puts sold and 10 calls bought: 10 net short, each charged 1 % of the underlying."""
    legs: list[Leg] = [(True, 30_000.0, 0.6, 10.0, 20 / 365), (False, 30_000.0, 0.6, -20.0, 20 / 365)]
    tmp_path.joinpath("mine.toml").write_text(
        "initial_factor = 2\n[[grids]]\nmoves = [-0.1, 0.1]\nshort_option = 0.01\n"
    )
    right = max(loss(legs, 30_000.0, move, same, coin=False) for move in (-0.1, 0.1)) + 10 * 0.01 * 30_000
    found = run(tmp_path, book(legs), **grid("mine.toml"))
    assert margins(found) == pytest.approx([2 * right, right], rel=2e-6)
