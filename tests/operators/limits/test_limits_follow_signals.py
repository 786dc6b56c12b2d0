"""Limits that scale, from venues' raw records to the breach: market measures, the journal carries, risk adapts."""

import json

import pytest

from seawall.connectors.bus import open_bus, read_all
from seawall.ops.run import run
from seawall.schemas.configuration import load_configuration
from seawall_testing.desk import T0, Json, account, fill, instrument, lines, transfer
from seawall_testing.market_data import market
from seawall_testing.pipeline import write_configuration

SECONDS, CRASH_AT = 45, 25
REFERENCE_VOLATILITY, REFERENCE_DEPTH = 1.0, 4000.0
LIMIT: Json = {
    "id": "eth",
    "scope": "underlying:ETH",
    "measure": "gross_notional",
    "hard": 1000.0,
    "floor": 120.0,
    "ceiling": 1000.0,
    "scaling": {
        "volatility_power": 1,
        "depth_power": 0.5,
        "reference_volatility": REFERENCE_VOLATILITY,
        "reference_depth": REFERENCE_DEPTH,
        "tighten_per_s": 0.2,
        "step_max": 0.2,
    },
}
COVER: Json = {"id": "cover", "scope": "account:*", "measure": "margin_ratio", "hard": 1e6}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Json]]:
    """Every topic of a run over raw records of three venues in which ETH falls by a tenth; ours is 150 of it."""
    folder = tmp_path_factory.mktemp("signals")
    book = [*account("a"), transfer(T0 + 1, "t", amount="100000"), fill(T0 + 2, "f")]
    files = {"book.jsonl": lines(instrument(), *book), "market.jsonl": lines(*market(SECONDS, crash_at=CRASH_AT))}
    configuration = load_configuration(write_configuration(folder, files, [LIMIT, COVER], shards=2))
    run(configuration)
    bus = open_bus(configuration.bus, configuration.directory)
    return {
        topic: [json.loads(r.value) for partition in bus.partitions(topic) for r in read_all(bus, topic, partition)]
        for topic in ("signals", "journal", "breaches", "audit")
    }


def test_a_bound_falls_with_the_volatility_and_the_depth_that_market_measured(found: dict[str, list[Json]]) -> None:
    (breach,) = (b for b in found["breaches"] if b["limit"] == "eth")
    factors, at_us = breach["factors"], breach["as_of_us"]
    rows = [row for s in found["signals"] if s["event_time_us"] < at_us for row in s["instruments"]]
    last = [row for row in rows if row.get("ew_volatility")][-1]  # once a second; what lies between is not journaled
    volatility, depth = last["ew_volatility"], min(last["depth"][1], last["depth"][5]) * last["price"]
    # No mark has told of a worse volatility yet, so today's is the stressed one too.
    assert factors["volatility"] == volatility
    assert factors["volatility_ratio"] == pytest.approx(REFERENCE_VOLATILITY / volatility)
    assert factors["depth_ratio"] == pytest.approx((depth / REFERENCE_DEPTH) ** 0.5)


def test_the_breach_is_passive_and_its_bound_was_never_below_the_floor(found: dict[str, list[Json]]) -> None:
    (breach,) = (b for b in found["breaches"] if b["limit"] == "eth")
    assert (breach["level"], breach["cause"]) == ("hard", "passive")
    moves = [m for r in found["audit"] if r["kind"] == "limits" for m in r["body"]["examples"]]
    bounds = [move["factors"]["effective"] for move in moves]
    assert bounds and min(bounds) >= LIMIT["floor"] and max(bounds) <= LIMIT["ceiling"]
    assert LIMIT["floor"] <= breach["bound"] < breach["value"]


def test_what_limits_saw_of_the_market_is_in_the_journal(found: dict[str, list[Json]]) -> None:
    told = [(s["seq"], row["ew_volatility"]) for s in found["signals"] for row in s["instruments"] if row.get("state")]
    for shard in range(2):
        heard = [
            e for p in found["journal"] if p["shard"] == shard for e in p.get("events", ()) if e["type"] == "signal"
        ]
        assert [(e["seq"], row["ew_volatility"]) for e in heard for row in e.get("instruments", ())] == told
