"""Not known is not zero: what has no price is an interval; an asset is valued by a path of any length or its peg."""

from pathlib import Path
from typing import Any

import pytest

from seawall_testing.core_states import cases_by_name
from seawall_testing.desk import T0, Json
from seawall_testing.pipeline import PipelineRun
from seawall_testing.risk_desk import (
    DAY,
    SECOND,
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
)
from seawall_testing.state_checks import check_resume_anywhere_and_run_on, check_resume_equals_uninterrupted

PEGGED = {"type": "asset", "asset": "USDT", "class": "stablecoin", "peg": "USD"}
BEYOND_TEN = [{"id": "leverage", "scope": "account:*", "measure": "leverage", "direction": "above", "hard": 10}]


def test_a_position_before_the_first_mark_counts_at_the_worse_end(tmp_path: Path) -> None:
    """Long 10 at 10,000: [0, last known x factor]; last known is the fill's price."""
    found = run(
        tmp_path, perpetual(), client(), deposit(0.1, "100", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "10000", holder="ann"), deposit(5, "1", holder="ann"),
    )  # fmt: skip
    assert found.measures("account:ann")["gross_notional"] >= 10 * 10_000


def test_an_account_that_cannot_be_valued_is_restricted_and_nothing_is_forced(tmp_path: Path) -> None:
    rules = [{"id": "reduce", "when": {"limit": "leverage", "level": "hard"},
              "commands": [{"kind": "CALL_MARGIN", "target": "account"}]}]  # fmt: skip
    found = run(
        tmp_path, perpetual(), client(), deposit(0.1, "100", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "10000", holder="ann"), deposit(5, "1", holder="ann"),
        limits=BEYOND_TEN, playbook=rules,
    )  # fmt: skip
    assert {kind for kind, _ in found.commands()} == {"REDUCE_ONLY"}


def test_a_contract_settled_in_a_stablecoin_without_a_market_counts_at_the_peg(tmp_path: Path) -> None:
    """1 x 30,000 USDT at 1 USD, or at worst 2 % below: between 29,400 and 30,000."""
    found = run(
        tmp_path, PEGGED, perpetual(quote="USDT", settlement="USDT"), client(), deposit(0.1, "100", holder="ann"),
        price(0.2, "BTC-PERP", "30000"), trade(1, "BTC-PERP", "buy", "1", "30000", holder="ann"),
        deposit(5, "1", holder="ann"), limits=BEYOND_TEN,
    )  # fmt: skip
    assert 29_400 <= found.measures("account:ann")["gross_notional"] <= 30_000 + 1e-6
    assert ("account:ann", "none", "hard") in found.breaches("leverage")


def test_an_asset_three_conversions_away_is_valued_by_the_path(tmp_path: Path) -> None:
    """10 X at 0.01 ETH, an ETH at 0.1 BTC, a BTC at 30,000 USD: 10 x 0.01 x 0.1 x 30,000 = 300."""
    found = run(
        tmp_path, spot("X/ETH", "X", "ETH"), spot("ETH/BTC", "ETH", "BTC"), spot(), client(),
        price(0.2, "BTC/USD", "30000"), price(0.3, "ETH/BTC", "0.1"), price(0.4, "X/ETH", "0.01"),
        deposit(1, "10", "X", holder="ann"), deposit(5, "1", holder="ann"),
    )  # fmt: skip
    assert found.measures("account:ann")["equity"] == pytest.approx(300 + 1, abs=1e-9)


def test_a_desk_in_usdt_without_a_feed_of_it_stands_at_the_peg_for_a_week(tmp_path: Path) -> None:
    """50,000 USDT and 1 x (31,000 - 30,000) of profit at the peg, at worst 2 % below: from 49,980 to 51,000."""
    week = 7 * 86_400
    found = run(
        tmp_path, PEGGED, perpetual(quote="USDT", settlement="USDT"), client(),
        deposit(0.1, "50000", "USDT", holder="ann"), price(0.2, "BTC-PERP", "30000"),
        trade(1, "BTC-PERP", "buy", "1", "30000", holder="ann"),
        *(price(2 + 3_600 * hour, "BTC-PERP", "31000") for hour in range(week // 3_600)), slice_ms=1000,
    )  # fmt: skip
    assert 0.98 * 51_000 <= found.measures("account:ann")["equity"] <= 51_000
    assert found.commands() == []


# --- what forces, and what does not -----------------------------------------------------------------------------------

MARGIN = [{"id": "margin", "scope": "account:*", "measure": "margin_ratio", "direction": "above", "hard": 1}]
CALLED = [
    {"id": f"{limit}-call", "when": {"limit": limit, "level": "hard"},
     "commands": [{"kind": kind, "target": "account"} for kind in ("CALL_MARGIN", "HALT_TRADING", "REDUCE_ONLY")]}
    for limit in ("margin", "leverage")
]  # fmt: skip


def decided(folder: Path, *records: Json | list[Json], **more: Any) -> PipelineRun:
    return run(folder, *records, **{"limits": [*MARGIN, *BEYOND_TEN], "playbook": CALLED, "slice_ms": 1000, **more})


def rows(found: PipelineRun, name: str) -> list[Json]:
    """Return what rows of an account said beside its measures, one after the other."""
    written = (row for record in found.topic("exposures") for row in record["accounts"] if row["account"] == name)
    return [{key: row[key] for key in ("state", "missing", "mend") if key in row} for row in written]


def named(found: PipelineRun, state: str) -> list[str]:
    """Return what the last record of the shard names under a state of prices."""
    last = [record for record in found.topic("exposures") if record["shard"] == 0][-1]
    return last.get(state, [])


def before_the_first_mark(*more: Json | list[Json]) -> list[Json | list[Json]]:
    """Return a client with 100 of equity who buys 10 at 10,000."""
    bought = trade(1, "BTC-PERP", "buy", "10", "10000", holder="ann")
    return [perpetual(), client(), deposit(0.1, "100", holder="ann"), bought, deposit(5, "1", holder="ann"), *more]


def test_a_row_says_that_its_account_is_unvalued_and_what_mends_it_until_it_is_valued(tmp_path: Path) -> None:
    found = decided(tmp_path, *before_the_first_mark(price(6, "BTC-PERP", "10000"), deposit(8, "1", holder="ann")))
    said = rows(found, "ann")
    assert {"state": "unvalued", "missing": ["BTC-PERP"], "mend": "add a mark of BTC-PERP"} in said
    assert said[-1] == {}
    assert found.breaches("unvalued_position") == [("account:ann", "none", "hard"), ("account:ann", "hard", "none")]
    assert {b["cause"] for b in found.topic("breaches") if b["limit"] == "unvalued_position"} == {"unvalued"}


def test_equity_is_at_the_end_that_is_worse_for_longs_and_for_shorts(tmp_path: Path) -> None:
    """Long 10 from 10,000: 0 - 100,000; short: 100,000 - 3 x 100,000; with 101 of cash each."""
    for side, worst in (("buy", -100_000), ("sell", -200_000)):
        one = trade(1, "BTC-PERP", side, "10", "10000", holder="ann")
        found = run(
            tmp_path / side, perpetual(), client(), deposit(0.1, "100", holder="ann"), one,
            deposit(5, "1", holder="ann"),
        )  # fmt: skip
        assert found.measures("account:ann")["equity"] == pytest.approx(101 + worst)


def test_cash_alone_stays_exact_and_an_unpriced_coin_is_no_collateral(tmp_path: Path) -> None:
    found = decided(
        tmp_path, client(), deposit(0.1, "100.25", holder="ann"), deposit(1, "7", "DUST", holder="ann"),
        deposit(5, "1", holder="ann"),
    )  # fmt: skip
    assert found.measures("account:ann")["equity"] == 101.25
    assert found.breaches() == []


def test_a_debt_in_a_coin_without_any_price_has_no_bound(tmp_path: Path) -> None:
    found = decided(
        tmp_path, client(), deposit(0.1, "100000", holder="ann"), deposit(1, "-7", "DUST", holder="ann"),
        deposit(5, "1", holder="ann"),
    )  # fmt: skip
    assert rows(found, "ann")[-1]["missing"] == ["DUST"]
    assert found.commands() == [("REDUCE_ONLY", "account:ann")]


def test_a_contract_in_an_asset_without_peg_and_market_is_unvalued_and_says_what_to_declare(tmp_path: Path) -> None:
    found = decided(
        tmp_path, perpetual(quote="USDT", settlement="USDT"), client(), deposit(0.1, "100", holder="ann"),
        price(0.2, "BTC-PERP", "30000"), trade(1, "BTC-PERP", "buy", "1", "30000", holder="ann"),
        deposit(5, "1", holder="ann"),
    )  # fmt: skip
    mend = "declare a peg, or add a spot instrument USDT/USD and its mark"
    assert rows(found, "ann")[-1] == {"state": "unvalued", "missing": ["USDT"], "mend": mend}
    assert found.commands() == [("REDUCE_ONLY", "account:ann")]


def test_an_inverse_contract_without_a_price_has_no_bound(tmp_path: Path) -> None:
    found = decided(
        tmp_path, spot(), inverse(), client(), price(0.1, "BTC/USD", "30000"), deposit(0.2, "10", "BTC", holder="ann"),
        trade(1, "BTC-INV", "buy", "3", "30000", holder="ann"), deposit(5, "1", holder="ann"),
    )  # fmt: skip
    assert rows(found, "ann")[-1]["missing"] == ["BTC-INV"]


def test_a_pegged_price_is_named_and_forces_nothing_though_the_breach_is_seen(tmp_path: Path) -> None:
    found = decided(
        tmp_path, PEGGED, perpetual(quote="USDT", settlement="USDT"), client(), deposit(0.1, "100", holder="ann"),
        price(0.2, "BTC-PERP", "30000"), trade(1, "BTC-PERP", "buy", "1", "30000", holder="ann"),
        deposit(5, "1", holder="ann"),
    )  # fmt: skip
    assert ("account:ann", "none", "hard") in found.breaches("leverage")
    assert found.commands() == [("REDUCE_ONLY", "account:ann")]
    assert named(found, "pegged") == ["USDT"]
    assert "asset_at_peg" in {alert["kind"] for alert in found.topic("alerts")}


def test_a_stale_price_forces_nothing_and_the_call_comes_once_it_is_certain(tmp_path: Path) -> None:
    """Long 10 from 100 with 500, at a mark of before; a withdrawal leaves 20, which is less than 5 % of 1,000."""
    found = decided(
        tmp_path, perpetual(), client(), price(0.1, "BTC-PERP", "100"), deposit(0.2, "500", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "100", holder="ann"), deposit(100, "-480", holder="ann"),
        price(110, "BTC-PERP", "100"), deposit(112, "0.01", holder="ann"),
    )  # fmt: skip
    first, second = (b for b in found.topic("breaches") if b["limit"] == "margin")
    assert (first["level"], first["certain"], second["previous_level"], second["level"]) == (
        "hard", "none", "none", "hard",
    )  # fmt: skip
    assert "certain" not in second
    times = {kind: at for (kind, _), at in zip(found.commands(), commanded(found), strict=True)}
    assert times["REDUCE_ONLY"] < T0 + 102 * SECOND < T0 + 110 * SECOND < times["CALL_MARGIN"]


def commanded(found: PipelineRun) -> list[int]:
    return [command["evidence"]["as_of_us"] for command in found.topic("commands")]


def test_dust_at_an_old_price_holds_no_call_back(tmp_path: Path) -> None:
    found = decided(
        tmp_path, perpetual(), perpetual("DUST-PERP", "DUST"), client(), price(0.1, "DUST-PERP", "0.01"),
        price(0.2, "BTC-PERP", "100"), deposit(0.3, "500", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "100", holder="ann"),
        trade(2, "DUST-PERP", "buy", "1", "0.01", holder="ann"), price(99, "BTC-PERP", "100"),
        deposit(100, "-480", holder="ann"), deposit(112, "0.01", holder="ann"),
    )  # fmt: skip
    assert "CALL_MARGIN" in {kind for kind, _ in found.commands()}


def test_a_price_past_its_age_is_not_known_any_more_though_nothing_happens(tmp_path: Path) -> None:
    """Long 1 from 100: of 1,000 the 100 are gone at worst; 3 x 100 at most against 5 % of equity is unvalued."""
    found = decided(
        tmp_path, perpetual(), client(), price(0.1, "BTC-PERP", "100"), deposit(0.2, "1000", holder="ann"),
        trade(1, "BTC-PERP", "buy", "1", "100", holder="ann"), deposit(200, "1", holder="ann"),
        deposit(2_000, "1", holder="ann"), price_max_age_s=600,
    )  # fmt: skip
    assert found.measures("account:ann", T0 + 500 * SECOND)["equity"] == pytest.approx(1_001)
    assert found.measures("account:ann")["equity"] == pytest.approx(1_002 - 100)
    assert found.commands() == [("REDUCE_ONLY", "account:ann")]
    assert named(found, "missing") == ["BTC-PERP"]


def test_an_outage_of_the_only_feed_is_one_alert_and_no_command_and_what_reduces_passes(tmp_path: Path) -> None:
    """40 clients; a price of before is not known after 600 s, and all of them break limits at the worse end."""
    holders = [
        [*client(name), deposit(0.2, "90", holder=name), trade(1, "BTC-PERP", "buy", "1", "100", holder=name)]
        for name in (f"c{n}" for n in range(40))
    ]  # fmt: skip
    found = decided(
        tmp_path, perpetual(), perpetual("ETH-PERP", "ETH"), price(0.1, "BTC-PERP", "100"), *holders,
        *(price(2 + 60 * minute, "ETH-PERP", "10") for minute in range(60)),
        trade(3_600, "BTC-PERP", "sell", "1", "100", holder="c7"), price(3_605, "ETH-PERP", "10"), price_max_age_s=600,
    )  # fmt: skip
    assert found.commands() == []
    told = [alert["scope"] for alert in found.topic("alerts") if alert["kind"] == "unvalued_feed"]
    assert told == ["instrument:BTC-PERP"]
    assert found.breaches("unvalued_position") == []
    assert found.measures("account:c7")["gross_notional"] == 0


def test_a_peg_declared_after_its_market_ended_raises_nothing(tmp_path: Path) -> None:
    """USDT at 0.5, last marked an hour ago, gets a peg: 0 at worst, of 1,000."""
    declared = {**PEGGED, "event_time_us": T0 + 3_600 * SECOND}
    found = decided(
        tmp_path, spot("USDT/USD", "USDT"), client(), price(0.1, "USDT/USD", "0.5"),
        deposit(0.2, "1000", "USDT", holder="ann"), declared, deposit(3_700, "1", holder="ann"), price_max_age_s=600,
    )  # fmt: skip
    assert found.measures("account:ann")["equity"] == pytest.approx(1)


def test_states_of_doubt_are_saved_and_restored_anywhere(tmp_path: Path) -> None:
    found = decided(
        tmp_path, *before_the_first_mark(price(6, "BTC-PERP", "10000"), deposit(80, "1", holder="ann")),
        price_max_age_s=120, shards=1,
    )  # fmt: skip
    cases = cases_by_name(found, 1)
    for name in ("exposure-0", "limits-0"):
        check_resume_anywhere_and_run_on(cases[name])


def test_the_terms_of_intervals_are_in_the_journal_where_they_are_not_the_default(tmp_path: Path) -> None:
    own, plain = decided(tmp_path / "a", deposit(1, "1"), peg_haircut=0.1), decided(tmp_path / "b", deposit(1, "1"))
    assert own.exposures[0].configuration["peg_haircut"] == 0.1
    assert "peg_haircut" not in plain.exposures[0].configuration


def test_a_row_says_what_mends_each_price_that_is_missing(tmp_path: Path) -> None:
    found = decided(
        tmp_path, perpetual(quote="USDT", settlement="USDT"), client(), deposit(0.1, "100", holder="ann"),
        trade(1, "BTC-PERP", "buy", "1", "30000", holder="ann"), deposit(5, "1", holder="ann"),
    )  # fmt: skip
    row = rows(found, "ann")[-1]
    assert row["missing"] == ["BTC-PERP", "USDT"]
    assert row["mend"] == ("add a mark of BTC-PERP; declare a peg, or add a spot instrument USDT/USD and its mark")


def test_a_look_at_the_age_of_prices_comes_at_one_time_whenever_a_process_was_restarted(tmp_path: Path) -> None:
    """An option is worth another amount in every slice that is measured: that of 60.25 s is, because a mark is old."""
    found = run(
        tmp_path, spot(), perpetual(), perpetual("ETH-PERP", "ETH"), option("CALL", "30000", "call", T0 + 30 * DAY),
        house(), deposit(0.1, "100000"), price(0.2, "BTC/USD", "30000"), price(0.2, "BTC-PERP", "30000"),
        price(0.2, "CALL", "2000", implied_volatility="0.6"), trade(1, "CALL", "buy", "1", "2000"),
        trade(1, "BTC-PERP", "sell", "1", "30000"),
        *(price(50.05, name, value) for name, value in (("BTC/USD", "30001"), ("BTC-PERP", "30001"))),
        *(price(second, "ETH-PERP", "1000") for second in (55.05, 60.25, 60.45, 61.05)),
        shards=1, exposure_change_min=0,
    )  # fmt: skip
    check_resume_equals_uninterrupted(cases_by_name(found, 1)["exposure-0"])
