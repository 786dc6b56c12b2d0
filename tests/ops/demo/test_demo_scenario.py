"""The demo's scenario: the same bytes from the same seed, the facts it claims, records that the contract knows."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from seawall.ops.demo._world import EXPIRY_US, UNCOVERED
from seawall.ops.demo.scenario import LATE, REPEATED, Scenario, write_scenario
from seawall.schemas.configuration import load_configuration
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import Rejected

SEED = 7
FILES = ("reference.jsonl", "events.jsonl", "limits.toml", "playbook.toml", "desk.toml")
Records = list[dict[str, Any]]


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return write_scenario(tmp_path_factory.mktemp("demo"), SEED)


@pytest.fixture(scope="module")
def accepted(scenario: Scenario) -> Records:
    """The records that decode, reference records first."""
    found = []
    for line in lines(scenario):
        try:
            decode_event(line)
        except Rejected:
            continue
        found.append(json.loads(line))
    return found


def lines(scenario: Scenario) -> list[bytes]:
    folder = scenario.configuration.parent
    return [line for name in FILES[:2] for line in (folder / name).read_bytes().splitlines()]


def prices(records: Records, venue: str, instrument: str) -> list[float]:
    wanted = {"type": "mark", "venue": venue, "instrument": instrument}
    return [float(r["price"]) for r in records if wanted.items() <= r.items()]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(scenario: Scenario, tmp_path: Path) -> None:
    write_scenario(tmp_path / "same", SEED)
    write_scenario(tmp_path / "other", SEED + 1)
    for name in FILES:
        assert (tmp_path / "same" / name).read_bytes() == (scenario.configuration.parent / name).read_bytes()
    assert (tmp_path / "other" / "events.jsonl").read_bytes() != (tmp_path / "same" / "events.jsonl").read_bytes()


def test_it_is_large_enough_to_be_interesting_and_small_enough_to_be_quick(scenario: Scenario) -> None:
    assert 20_000 <= scenario.records <= 40_000
    assert 600 <= (scenario.end_us - scenario.start_us) / 1e6 <= 900
    assert scenario.fills > 2_000


def test_the_files_are_a_valid_configuration_whose_rules_name_limits_that_exist(scenario: Scenario) -> None:
    configuration = load_configuration(scenario.configuration)
    assert (configuration.shards, configuration.slice_ms) == (4, 250)
    kinds = {command["kind"] for rule in configuration.playbook for command in rule["commands"]}
    assert len(kinds) >= 8


def test_every_account_but_one_has_a_limit_of_its_own(scenario: Scenario, accepted: Records) -> None:
    scopes = {limit["scope"] for limit in load_configuration(scenario.configuration).limits}
    bare = [
        r["account"]
        for r in accepted
        if r["type"] == "account" and not {f"account:{r['account']}", f"netting_set:{r.get('netting_set')}"} & scopes
    ]
    assert bare == [UNCOVERED]


def test_the_markets_do_what_they_did_on_that_evening(accepted: Records) -> None:
    for instrument, first, fallen in (("BTC-PERP", 122_000, 0.873), ("ETH-PERP", 4_370, 0.84), ("SOL-PERP", 222, 0.69)):
        calm = prices(accepted, "hyperliquid", instrument)
        assert calm[0] == pytest.approx(first, rel=0.002)
        assert min(calm) / first == pytest.approx(fallen, abs=0.01)
    assert 106_000 < min(prices(accepted, "okx", "BTC-PERP")) < 107_000
    assert min(prices(accepted, "binance", "BTC-PERP")) == pytest.approx(101_389, rel=0.003)
    assert min(prices(accepted, "binance", "USDE/USD")) == pytest.approx(0.65, abs=0.003)
    assert min(prices(accepted, "okx", "USDE/USD")) > 0.95


def test_depth_vanishes_when_prices_gap(scenario: Scenario, accepted: Records) -> None:
    sizes: dict[bool, list[float]] = {True: [], False: []}
    for record in accepted:
        if record["type"] == "quote" and record["instrument"] == "BTC-PERP":
            second = (record["event_time_us"] - scenario.start_us) / 1e6
            if second < 200 or 540 < second < 560:
                sizes[second < 200].append(float(record["bid_size"]))
    calm, gapping = (sum(sizes[quiet]) / len(sizes[quiet]) for quiet in (True, False))
    assert gapping < 0.1 * calm


def test_all_that_happens_to_a_desk_happens(accepted: Records) -> None:
    kinds = Counter(record["type"] for record in accepted)
    assert kinds.keys() >= {
        "asset", "instrument", "schedule", "counterparty", "netting_set", "account", "mark", "quote", "depth",
        "funding", "open_interest", "liquidation", "venue_status", "notice", "fill", "order", "collateral",
        "obligation", "position_report", "balance_report",
    }  # fmt: skip
    states = {(r["venue"], r["status"]) for r in accepted if r["type"] == "venue_status"}
    assert {("binance", "degraded"), ("binance", "withdrawals_blocked"), ("binance", "up")} <= states
    fills = [r for r in accepted if r["type"] == "fill"]
    assert {r.get("source", "order") for r in fills} == {"order", "liquidation", "adl"}
    assert {r.get("action", "new") for r in fills} == {"new", "correct", "bust"}


def test_broken_records_are_there_and_are_no_more_than_announced(scenario: Scenario, accepted: Records) -> None:
    rejected = len(lines(scenario)) - len(accepted)
    later = 12 - rejected  # those that only the book can tell: unknown names, reused ids, increments, the far future
    assert scenario.rejected == 12
    assert rejected == 6
    assert later == 6


def test_some_records_come_late_and_some_fills_twice(scenario: Scenario, accepted: Records) -> None:
    dated = [r for r in accepted if "event_time_us" in r and r["event_time_us"] < scenario.end_us + 10**9]
    latest, late = 0, 0
    for record in dated:
        late += record["event_time_us"] < latest
        latest = max(latest, record["event_time_us"])
    assert late == LATE + REPEATED
    twice = Counter(json.dumps(r) for r in dated if r["type"] == "fill")
    assert sum(count - 1 for count in twice.values()) == REPEATED


def test_a_bust_repeats_the_fill_that_it_undoes_and_comes_after_it(accepted: Records) -> None:
    fills = [r for r in accepted if r["type"] == "fill"]
    at = {r["fill_id"]: number for number, r in reversed(list(enumerate(fills)))}
    for action, same in (("bust", ("side", "quantity", "price")), ("correct", ("side", "quantity"))):
        (changed,) = (r for r in fills if r.get("action") == action and r["fill_id"] != "x3")
        original = fills[at[changed["ref_fill_id"]]]
        assert all(changed[name] == original[name] for name in (*same, "account", "instrument"))
        assert at[original["fill_id"]] < at[changed["fill_id"]]


def test_only_the_marks_of_its_own_venue_put_cedar_beyond_its_limit(accepted: Records) -> None:
    """An account with a venue is margined at that venue's marks, collateral included (contract.md, "Prices")."""
    worst = {venue: max(cedar_margin_ratios(accepted, venue)) for venue in ("binance", "okx")}
    assert worst["binance"] > 1.0
    assert worst["okx"] < 0.5


def cedar_margin_ratios(records: Records, venue: str) -> list[float]:
    """Margin ratios of the account as it changes, the slow way: cash, position and collateral at a venue's marks."""
    cash = held = usde = usd = 0.0
    mark, peg, ratios = 0.0, 1.0, []
    for r in records:
        if r["type"] == "fill" and r["account"] == "cedar-trading/binance":
            signed = float(r["quantity"]) * (1 if r["side"] == "buy" else -1)
            cash, held = cash - signed * float(r["price"]) - float(r.get("fee", 0)), held + signed
        elif r["type"] == "collateral" and r["account"] == "cedar-trading/binance":
            usde, usd = (usde + float(r["amount"]), usd) if r["asset"] == "USDE" else (usde, usd + float(r["amount"]))
        elif r["type"] == "mark" and r.get("venue") == venue:
            mark = float(r["price"]) if r["instrument"] == "BTC-PERP" else mark
            peg = float(r["price"]) if r["instrument"] == "USDE/USD" else peg
            equity = usde * 0.9 * peg + usd + cash + held * mark
            if held:
                ratios.append(0.025 * held * mark / equity if equity > 0 else 1e6)
    return ratios


def test_the_story_is_told_in_order_and_within_it(scenario: Scenario) -> None:
    times = [moment.time_us for moment in scenario.moments]
    assert times[0] == scenario.start_us
    assert times[-1] < scenario.end_us < EXPIRY_US
    assert all(earlier < later for earlier, later in pairwise(times))
