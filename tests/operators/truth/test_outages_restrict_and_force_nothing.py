"""Prices that are not known any more, for everybody at once: one incident of the feed, and nothing that forces."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from seawall_testing.desk import T0, Json
from seawall_testing.pipeline import PipelineRun
from seawall_testing.risk_desk import SECOND, client, deposit, house, perpetual, price, run, spot, trade

LIMITS = [
    {"id": "margin", "scope": "account:*", "measure": "margin_ratio", "direction": "above", "soft": 0.8, "hard": 1.0},
    {"id": "leverage", "scope": "account:*", "measure": "leverage", "direction": "above", "hard": 15},
    {"id": "firm", "scope": "firm", "measure": "gross_notional", "direction": "above", "hard": 1e9},
]
FORCING = ("CALL_MARGIN", "SUSPEND", "HALT_TRADING", "BLOCK_COUNTERPARTY")
PLAYBOOK = [
    {"id": f"{limit}-{level}-{kind}", "when": {"limit": limit, "level": level},
     "commands": [{"kind": kind, "target": "account"}]}
    for limit, level in (("margin", "soft"), ("margin", "hard"), ("leverage", "hard")) for kind in FORCING[:2]
]  # fmt: skip
HOUR = 3_600
TERMS = {"price_max_age_s": 600, "slice_ms": 1000}  # a price is not known any more ten minutes after its last


def decided(folder: Path, *records: Json | list[Json], **terms: Any) -> PipelineRun:
    """Run records in order of time under limits whose breaches call for margin and suspend."""
    flat = chain.from_iterable(one if isinstance(one, list) else [one] for one in records)
    events = sorted(flat, key=lambda record: record.get("event_time_us", 0))
    return run(folder, events, limits=LIMITS, playbook=PLAYBOOK, **{**TERMS, **terms})


def names(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def told(found: PipelineRun, kind: str) -> list[Json]:
    return [alert for alert in found.topic("alerts") if alert["kind"] == kind]


def at(found: PipelineRun, scope: str, second: float) -> dict[str, float]:
    """Return measures as they stood in the last slice before a second."""
    return found.measures(scope, T0 + round(second * SECOND))


def holders(count: int, units: str, name: str = "BTC-PERP", at_price: str = "100") -> list[Json]:
    """Return clients with 1,000 of money and something bought."""
    found: list[Json] = []
    for one in names(count):
        found += [*client(one), deposit(0.2, "1000", holder=one), trade(1, name, "buy", units, at_price, holder=one)]
    return found


def beats(until: float, name: str = "ETH-PERP", every: float = 30) -> list[Json]:
    """Return marks of something else, so that time goes on."""
    return [price(2 + every * beat, name, "10") for beat in range(int(until / every))]


@pytest.mark.parametrize("units", ["1", "30"])
def test_the_only_feed_of_one_asset_dies_for_an_hour_with_2000_clients(units: str, tmp_path: Path) -> None:
    """Of 30 at 100 the worse end is 1,000 - 3,000: below 0, which is told and calls nobody. 2 of 30 may be sold."""
    back = [price(HOUR + 10 * beat, "BTC-PERP", "101") for beat in range(5)]
    found = decided(
        tmp_path, perpetual(), perpetual("ETH-PERP", "ETH"), price(0.1, "BTC-PERP", "100"), holders(2_000, units),
        beats(HOUR + 60), trade(2_000, "BTC-PERP", "sell", units, "100", holder="c7"), back,
    )  # fmt: skip
    assert {kind for kind, _ in found.commands()} <= {"REDUCE_ONLY"}
    assert found.commands() == []
    feeds = told(found, "unvalued_feed")
    assert len({alert["scope"] for alert in feeds}) == 1
    assert told(found, "unvalued_position") == []
    assert at(found, "account:c7", 2_010)["gross_notional"] == 0
    assert at(found, "account:c7", 2_010)["equity"] == pytest.approx(1_000)
    assert found.measures("account:c8")["equity"] == pytest.approx(1_000 + int(units) * 1)


def test_an_outage_of_a_feed_is_told_once_and_again_when_it_comes_again(tmp_path: Path) -> None:
    """However many slices look at it: in the first after 600 s from the last mark, of 0.1 s and of 3,640 s."""
    again = [price(HOUR + 10 * beat, "BTC-PERP", "100") for beat in range(5)]
    found = decided(
        tmp_path, perpetual(), perpetual("ETH-PERP", "ETH"), price(0.1, "BTC-PERP", "100"), holders(50, "30"),
        beats(2 * HOUR), again, shards=1,
    )  # fmt: skip
    seconds = [(alert["as_of_us"] - T0) / SECOND for alert in told(found, "unvalued_feed")]
    first, second = seconds
    assert 0 <= first - (0.1 + 600) <= 31
    assert 0 <= second - (HOUR + 40 + 600) <= 31
    assert {breach["certain"] for breach in found.topic("breaches") if breach["level"] != "none"} == {"none"}


def test_what_few_hold_without_a_price_restricts_them_and_nobody_else(tmp_path: Path) -> None:
    """One of 50 clients holds 30 of what died: that one is reduce-only, at its own name; none is called."""
    found = decided(
        tmp_path, perpetual(), perpetual("ETH-PERP", "ETH"), price(0.1, "BTC-PERP", "100"),
        price(0.1, "ETH-PERP", "10"), holders(50, "10", "ETH-PERP", "10"), client("ann"),
        deposit(0.2, "1000", holder="ann"), trade(1, "BTC-PERP", "buy", "30", "100", holder="ann"), beats(1_500),
    )  # fmt: skip
    assert found.commands() == [("REDUCE_ONLY", "account:ann")]
    assert ("account:ann", "none", "hard") in found.breaches("unvalued_position")
    assert told(found, "unvalued_feed") == []


def test_dust_that_lost_its_price_at_every_account_gives_no_command(tmp_path: Path) -> None:
    """5 of money each, at most 15: below the least that counts. The feed is not told as out either."""
    found = decided(
        tmp_path, perpetual("ETH-PERP", "ETH"), spot("DUST/USD", "DUST"), house("own"),
        {"type": "asset", "asset": "DUST", "class": "token"}, price(0.1, "ETH-PERP", "10"),
        price(0.1, "DUST/USD", "0.01"), deposit(0.3, "1000", holder="own"), deposit(0.4, "500", "DUST", holder="own"),
        *([*client(name), deposit(0.2, "1000", holder=name), deposit(0.3, "500", "DUST", holder=name),
           trade(1, "ETH-PERP", "buy", "10", "10", holder=name)] for name in names(200)),
        beats(1_500),
    )  # fmt: skip
    assert found.commands() == []
    assert found.breaches() == []
    assert told(found, "unvalued_feed") == []
    assert at(found, "account:c3", 30)["equity"] == pytest.approx(1_005)
    assert found.measures("account:c3")["equity"] == pytest.approx(1_000)


def test_a_stablecoin_that_fell_silent_at_0_is_not_known_in_the_end_and_lifts_nobody(tmp_path: Path) -> None:
    """50,000 at 0.0001 are 5; not known any more they are 0 at the worse end, a day later too, and never 50,000."""
    pegged = {"type": "asset", "asset": "USDT", "class": "stablecoin", "peg": "USD"}
    found = decided(
        tmp_path, pegged, spot("USDT/USD", "USDT"), perpetual("ETH-PERP", "ETH"), price(0.1, "USDT/USD", "1"),
        *([*client(name), deposit(0.2, "50000", "USDT", holder=name)] for name in names(100)),
        [price(10 + 5 * step, "USDT/USD", value) for step, value in enumerate(["0.5", "0.01", "0.0001"])],
        beats(2 * HOUR), price(86_400, "ETH-PERP", "10"), price(86_402, "ETH-PERP", "10"),
    )  # fmt: skip
    for second in (30, HOUR, 2 * HOUR, 86_401):
        assert max(at(found, f"account:{name}", second)["equity"] for name in names(100)) <= 5 + 1e-9
    assert found.commands() == []


def test_many_desks_in_usdt_stand_at_the_peg_whatever_the_age_of_prices(tmp_path: Path) -> None:
    """A peg without a market is not old: 10,000 and 0.1 x 1,000, tested 2 % below, for a week."""
    pegged = {"type": "asset", "asset": "USDT", "class": "stablecoin", "peg": "USD"}
    week = 7 * 24
    found = decided(
        tmp_path, pegged, perpetual(quote="USDT", settlement="USDT"), price(0.1, "BTC-PERP", "30000"),
        *([*client(name), deposit(0.1, "10000", "USDT", holder=name),
           trade(1, "BTC-PERP", "buy", "0.1", "30000", holder=name)] for name in names(100)),
        *(price(2 + HOUR * hour, "BTC-PERP", "31000") for hour in range(week)),
        price_max_age_s=7_200,
    )  # fmt: skip
    assert {round(found.measures(f"account:{name}")["equity"], 6) for name in names(100)} == {0.98 * 10_100}
    assert found.commands() == []
    assert found.breaches() == []
    assert found.topic("exposures")[-1].get("pegged", ["USDT"]) == ["USDT"]
