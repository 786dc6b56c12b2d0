"""What a venue, a feed or a coin does to very many accounts: nobody is called or traded out for lack of a price.

Every desk here has limits of margin and leverage that call, restrict and trade. Where nobody is commanded a test beside
it has the same desk at a price that is known, so that silence is no silence of the rules.
"""

import csv
import gzip
from collections import Counter
from pathlib import Path

import pytest

from seawall.schemas.configuration import Configuration
from seawall_testing.desk import Json
from seawall_testing.paths import SHARED
from seawall_testing.pipeline import PipelineRun
from seawall_testing.risk_desk import client, deposit, house, perpetual, price, run, spot, to_come, trade

LINK_HOURS = SHARED / "data" / "crash_mar_2020" / "BINANCE-LINKUSDT-SPOT-1h-2020-03.csv.gz"
HOUR, DAY = 3_600, 86_400
LIMITS = [
    {"id": "margin", "scope": "account:*", "measure": "margin_ratio", "direction": "above", "soft": 0.8, "hard": 1.0},
    {"id": "leverage", "scope": "account:*", "measure": "leverage", "direction": "above", "soft": 15, "hard": 20},
    {"id": "owed", "scope": "netting_set:*", "measure": "exposure_at_default", "direction": "above", "hard": 1e12},
]
TRADED = {"kind": "REDUCE_POSITION", "target": "account", "compute": "position", "to": "warning"}
PLAYBOOK = [
    {"id": f"{limit}-{level}", "when": {"limit": limit, "level": level}, "commands": commands}
    for limit in ("margin", "leverage")
    for level, commands in (
        ("soft", [{"kind": "CALL_MARGIN", "target": "account"}, {"kind": "REDUCE_ONLY", "target": "account"}]),
        ("hard", [{"kind": "CALL_MARGIN", "target": "account"}, TRADED]),
    )
]  # fmt: skip
FORCED = {"CALL_MARGIN", "REDUCE_POSITION", "HEDGE", "HALT_TRADING", "REROUTE"}
USDT = {"type": "asset", "asset": "USDT", "class": "stablecoin", "peg": "USD"}
USDT_MARKET = spot("USDT/USD", "USDT", "USD")


def decided(folder: Path, *records: Json | list[Json], **more: object) -> PipelineRun:
    flat = [one for record in records for one in (record if isinstance(record, list) else [record])]
    undated = [one for one in flat if "event_time_us" not in one]
    dated = sorted((one for one in flat if "event_time_us" in one), key=lambda one: int(one["event_time_us"]))
    return run(folder, undated, dated, limits=LIMITS, playbook=PLAYBOOK, slice_ms=1000, **more)


def forced(found: PipelineRun) -> list[tuple[str, str]]:
    """Return the commands that call margin, trade, hedge, halt or move money."""
    return [command for command in found.commands() if command[0] in FORCED]


def holders(count: int, money: str, *trades: tuple[str, str, str, str], second: float = 1) -> list[Json]:
    """Return clients c0, c1, … with money and trades of (instrument, side, quantity, price)."""
    found: list[Json] = []
    for name in (f"c{n}" for n in range(count)):
        found += [*client(name), deposit(0.2, money, holder=name)]
        found += [trade(second + n / 100, *one, holder=name) for n, one in enumerate(trades)]
    return found


def every_minute(name: str, value: str, start: int, end: int) -> list[Json]:
    return [price(second + 0.5, name, value) for second in range(start, end, 60)]


# One print far from the market


def link_around_the_low() -> tuple[list[float], float]:
    """Return how the hour before that of the low opened, that hour and the two after it; and the low."""
    if not LINK_HOURS.exists():
        pytest.skip("no reference data (../shared/data)")
    with gzip.open(LINK_HOURS, "rt") as file:
        bars = list(csv.DictReader(file))
    at = min(range(len(bars)), key=lambda n: float(bars[n]["low"]))
    return [float(bars[n]["open"]) for n in (at - 1, at, at + 1, at + 2)], float(bars[at]["low"])


def link_desk(opens: list[float], low: list[Json]) -> list[Json | list[Json]]:
    """Return 50 clients long and 50 short at twice leverage through the hours around the low, a mark every hour."""
    entry = f"{opens[0]:.4f}"
    sides = [
        [*client(f"{side}{n}"), deposit(0.2, f"{500 * opens[0]:.2f}", holder=f"{side}{n}"),
         trade(1, "LINK", side, "1000", entry, holder=f"{side}{n}")]
        for side in ("buy", "sell") for n in range(50)
    ]  # fmt: skip
    hours = [price(HOUR * n + 0.1, "LINK", f"{value:.4f}") for n, value in enumerate(opens)]
    return [perpetual("LINK", "LINK"), *sides, *hours, low, price(HOUR * len(opens), "LINK", f"{opens[-1]:.4f}")]


def test_the_low_of_linkusdt_in_march_2020_calls_and_liquidates_nobody(tmp_path: Path) -> None:
    """0.0001 against 3.06, printed half an hour after the last mark: not before a second source or 30 s of it."""
    opens, low = link_around_the_low()
    assert low == pytest.approx(0.0001)
    at = HOUR + 1_800
    prints = [price(at, "LINK", f"{low:.4f}", kind="last", venue="one"),
              price(at + 3, "LINK", f"{opens[2]:.4f}", kind="last", venue="one")]  # fmt: skip
    found = decided(tmp_path, *link_desk(opens, prints))
    assert forced(found) == []  # to restrict is allowed while two prices stand against each other
    assert found.measures("account:buy7")["equity"] == pytest.approx(500 * opens[0] + 1000 * (opens[-1] - opens[0]))


def test_a_mark_at_the_low_of_linkusdt_calls_all_who_are_long_and_nobody_else(tmp_path: Path) -> None:
    """Long 1,000 at half their money each: the loss is all of twice the equity, so the rules above do bite."""
    opens, low = link_around_the_low()
    found = decided(tmp_path, *link_desk(opens, [price(HOUR + 1_800, "LINK", f"{low:.4f}")]))
    assert {key for _, key in forced(found)} == {f"account:buy{n}" for n in range(50)}


@pytest.mark.parametrize("quoted", ["1000", "500", "2000"])
def test_an_own_fill_beside_the_market_moves_cash_alone(quoted: str, tmp_path: Path) -> None:
    """1 bought at p and marked 1,000: equity 3,000 + (1,000 - p), notional 1,000 for its holder and for all others."""
    found = decided(
        tmp_path, perpetual(), price(0.1, "BTC-PERP", "1000"), holders(20, "3000", ("BTC-PERP", "buy", "1", "1000")),
        client("odd"), deposit(0.2, "3000", holder="odd"), trade(2, "BTC-PERP", "buy", "1", quoted, holder="odd"),
        price(5, "BTC-PERP", "1000"),
    )  # fmt: skip
    odd, other = found.measures("account:odd"), found.measures("account:c7")
    assert odd["equity"] == pytest.approx(3_000 + 1_000 - float(quoted))
    seen = [other["equity"], odd["gross_notional"], other["gross_notional"]]
    assert seen == pytest.approx([3_000, 1_000, 1_000])
    assert found.commands() == []


def test_an_own_fill_is_no_price_where_there_is_no_other(tmp_path: Path) -> None:
    """200 paid for what nobody marks: it is nothing to call for, and profits of others do not come of it."""
    found = decided(
        tmp_path, perpetual(), holders(10, "1000", ("BTC-PERP", "buy", "1", "100")),
        client("odd"), deposit(0.2, "1000", holder="odd"), trade(2, "BTC-PERP", "buy", "1", "200", holder="odd"),
        deposit(5, "1", holder="odd"),
    )  # fmt: skip
    assert forced(found) == []
    assert found.measures("account:c7")["unrealised_pnl"] <= 0


# What nobody prices


def dusty(count: int, ending: float = 10) -> list[Json]:
    """Return clients who hold a contract and 5 of a token that has no price, at three and a half of leverage."""
    found = holders(count, "1000", ("BTC-PERP", "buy", "35", "100"))
    found += [deposit(0.3, "5", "DUST", holder=f"c{n}") for n in range(count)]
    return [
        {"type": "asset", "asset": "DUST", "class": "token"}, perpetual(), price(0.1, "BTC-PERP", "100"), *found,
        price(ending, "BTC-PERP", "100"),
    ]  # fmt: skip


def test_a_dust_token_without_a_price_at_every_account_gives_no_command(tmp_path: Path) -> None:
    found = decided(tmp_path, dusty(500))
    assert found.commands() == []
    assert found.breaches() == []
    assert found.measures("account:c7")["equity"] == pytest.approx(1_000)


def test_a_dust_token_that_loses_its_price_gives_no_command(tmp_path: Path) -> None:
    """Once it was 0.001, then its market is silent for an hour."""
    market = [spot("DUST/USD", "DUST", "USD"), price(0.15, "DUST/USD", "0.001")]
    found = decided(tmp_path, market, dusty(200, HOUR))
    assert found.commands() == []


def test_a_dust_contract_that_nobody_marks_gives_no_forced_command(tmp_path: Path) -> None:
    """1 of a contract at 0.01 beside 1,000 of equity: less than any tolerance of it."""
    found = decided(
        tmp_path, dusty(100), perpetual("DUST-PERP", "DUST"),
        [trade(2, "DUST-PERP", "buy", "1", "0.01", holder=f"c{n}") for n in range(100)], deposit(9, "1", holder="c1"),
    )  # fmt: skip
    assert found.commands() == []


# A feed that dies


def dead_feed(count: int, *more: Json) -> list[Json | list[Json]]:
    """Return clients long of what has one feed, which dies for an hour; another feed goes on and the first returns."""
    return [
        perpetual(), perpetual("ETH-PERP", "ETH"), price(0.1, "BTC-PERP", "100"),
        holders(count, "1000", ("BTC-PERP", "buy", "50", "100")), every_minute("ETH-PERP", "10", 2, HOUR),
        *more, price(HOUR + 10, "BTC-PERP", "101"), price(HOUR + 20, "BTC-PERP", "101"),
    ]  # fmt: skip


def test_the_only_feed_of_an_asset_dies_for_an_hour_and_nobody_of_2000_is_called(tmp_path: Path) -> None:
    found = decided(tmp_path, *dead_feed(2_000), shards=2)
    assert found.commands() == []
    assert found.breaches() == []
    told = {(alert["kind"], alert["scope"]) for alert in found.topic("alerts")}
    assert len(told) == 1  # one incident: of the feed
    assert {scope for _, scope in told} == {"instrument:BTC-PERP"}


def test_trades_that_reduce_pass_while_the_feed_is_dead(tmp_path: Path) -> None:
    """Each sells 30 of 50 at 98: 20 at the last price of 100 are left, and 1,000 - 30 x 2 of equity; none is named."""
    sold = [trade(1_800, "BTC-PERP", "sell", "30", "98", holder=f"c{n}") for n in range(200)]
    found = decided(tmp_path, *dead_feed(200, *sold))
    before_us = found.slices[0].as_of_us + 3_000_000_000
    row = found.measures("account:c7", before_us)
    assert row["gross_notional"] == pytest.approx(20 * 100)
    assert row["equity"] == pytest.approx(1_000 - 30 * 2)
    assert found.commands() == []
    assert not [alert for alert in found.topic("alerts") if alert["scope"].startswith("account:")]


def test_a_feed_that_comes_back_far_lower_calls_when_it_is_back_and_not_before(tmp_path: Path) -> None:
    """50 x (82 - 100) of 1,000 leaves 100 under 5 % of 4,100: called by the first mark, an hour late."""
    found = decided(tmp_path, *dead_feed(100, price(HOUR + 5, "BTC-PERP", "82")))
    called = Counter(kind for kind, _ in forced(found))
    assert called["CALL_MARGIN"] >= 100
    first = min(record["as_of_us"] for record in found.topic("breaches"))
    assert first >= found.slices[0].as_of_us + HOUR * 1_000_000


# Stablecoins


def test_a_stablecoin_that_goes_to_0_and_falls_silent_calls_who_holds_it(tmp_path: Path) -> None:
    """1,000 USDT behind 50 x 100 count 0.1 for an hour of silence: it is a price, and its peg does not lift it."""
    fall = [price(at, "USDT/USD", value) for at, value in ((10, "0.5"), (20, "0.01"), (30, "0.0001"), (60, "0.0001"))]
    found = decided(
        tmp_path, USDT, USDT_MARKET, perpetual(), price(0.1, "USDT/USD", "1"), price(0.1, "BTC-PERP", "100"),
        client(), deposit(0.2, "1000", "USDT", holder="ann"), trade(1, "BTC-PERP", "buy", "50", "100", holder="ann"),
        fall, every_minute("BTC-PERP", "100", 60, HOUR),
    )  # fmt: skip
    for after_s in (100, HOUR - 120):
        row = found.measures("account:ann", found.slices[0].as_of_us + after_s * 1_000_000)
        assert row["equity"] == pytest.approx(1_000 * 0.0001)
    assert {key for _, key in forced(found)} == {"account:ann"}


def test_a_stablecoin_halted_at_088_is_worth_that_until_its_market_is_back(tmp_path: Path) -> None:
    """1,000 USDT at 0.88 count 880 through half an hour of halt; back at 1 for an hour they count 1,000."""
    halted, back = [price(10 + 10 * n, "USDT/USD", "0.88") for n in range(5)], 1_900
    found = decided(
        tmp_path, USDT, USDT_MARKET, perpetual(), price(0.1, "USDT/USD", "1"), price(0.1, "BTC-PERP", "100"),
        client(), deposit(0.2, "1000", "USDT", holder="ann"), trade(1, "BTC-PERP", "buy", "20", "100", holder="ann"),
        halted,
        every_minute("BTC-PERP", "100", 60, 6_000),
        [price(back + 30 * n, "USDT/USD", "1") for n in range(130)],
    )  # fmt: skip
    halt_us = found.slices[0].as_of_us + 1_500 * 1_000_000
    assert found.measures("account:ann", halt_us)["equity"] == pytest.approx(880)
    assert found.measures("account:ann")["equity"] == pytest.approx(1_000)
    assert found.commands() == []


def test_a_desk_in_usdt_without_a_feed_of_it_works_for_a_week_and_is_commanded_nothing(tmp_path: Path) -> None:
    """40 clients with 5,000 USDT and 1 x 20,000 each, and a house account at a venue; a mark and a trade an hour."""
    week = 7 * DAY
    linear = perpetual(quote="USDT", settlement="USDT")
    holders_of_usdt = [
        [*client(f"c{n}"), deposit(0.2, "5000", "USDT", holder=f"c{n}"),
         trade(1, "BTC-PERP", "buy", "1", "20000", holder=f"c{n}")] for n in range(40)
    ]  # fmt: skip
    trades = [
        trade(HOUR * hour + 5, "BTC-PERP", "buy" if hour % 2 else "sell", "0.5", "20000", holder=f"c{hour % 40}")
        for hour in range(1, week // HOUR)
    ]  # fmt: skip
    found = decided(
        tmp_path, USDT, linear, house("at-venue"), deposit(0.2, "100000", "USDT", holder="at-venue"),
        trade(1, "BTC-PERP", "sell", "40", "20000", holder="at-venue"), *holders_of_usdt, trades,
        [price(HOUR * hour + 0.1, "BTC-PERP", "20000") for hour in range(week // HOUR + 1)],
    )  # fmt: skip
    assert found.commands() == []
    assert found.breaches() == []
    row = found.measures("account:c39")
    assert 0.98 * 5_000 <= row["equity"] <= 5_000


def test_a_dollar_desk_holding_what_promises_an_unpriced_coin_is_commanded_nothing(tmp_path: Path) -> None:
    """A token pegged to a coin that nobody prices: neither is known, both count nothing, nobody is called."""
    token = {"type": "asset", "asset": "STX", "class": "token", "peg": "XX"}
    found = decided(tmp_path, token, dusty(50), [deposit(2, "3", "STX", holder=f"c{n}") for n in range(50)])
    assert found.commands() == []


# To come: intervals


UNMARKED = "what has no price counts 0 yet, and nothing is said of it"


def exposed(found: PipelineRun) -> dict[str, Json]:
    """Return the last row of every account that was written."""
    return {row["account"]: row for record in found.topic("exposures") for row in record["accounts"]}


@to_come(UNMARKED)
def test_one_client_of_many_whose_position_nobody_priced_is_restricted_alone(tmp_path: Path) -> None:
    """100 of equity behind 10 x 100: [0, 3,000] is wider than any tolerance of it. 100 others have a market."""
    found = decided(
        tmp_path, perpetual(), perpetual("X-PERP", "X"), price(0.1, "BTC-PERP", "100"),
        holders(100, "1000", ("BTC-PERP", "buy", "10", "100")), client("odd"), deposit(0.2, "100", holder="odd"),
        trade(1, "X-PERP", "buy", "10", "100", holder="odd"), deposit(5, "1", holder="odd"),
    )  # fmt: skip
    assert set(found.commands()) == {("REDUCE_ONLY", "account:odd")}
    assert [name for name, row in exposed(found).items() if row.get("state") == "unvalued"] == ["odd"]
    assert {(b["limit"], b["cause"]) for b in found.topic("breaches")} >= {("unvalued_position", "unvalued")}


@to_come(UNMARKED)
def test_what_nobody_ever_priced_at_every_client_is_one_incident_of_the_feed(tmp_path: Path) -> None:
    found = decided(
        tmp_path, perpetual(), holders(100, "100", ("BTC-PERP", "buy", "10", "100")), deposit(5, "1", holder="c1")
    )
    assert forced(found) == []
    assert Counter(alert["kind"] for alert in found.topic("alerts"))["unvalued_feed"] == 1


@to_come(UNMARKED)
def test_a_feed_that_is_dead_for_longer_than_a_price_lasts_is_one_incident_and_forces_nothing(tmp_path: Path) -> None:
    """2,000 clients and a price that ends after ten minutes: then it is not known, for fifty minutes."""
    assert "price_max_age_s" in Configuration.__struct_fields__
    found = decided(tmp_path, *dead_feed(2_000), price_max_age_s=600)
    assert forced(found) == []
    assert Counter(alert["kind"] for alert in found.topic("alerts"))["unvalued_feed"] == 1
    assert all(row.get("state") != "unvalued" for row in exposed(found).values())  # the market is back
