"""Shocks of depth and volatility reach risk as ``market`` would tell them: in signals, to the limits that scale."""

import json
from pathlib import Path

import pytest

from seawall.connectors.bus import open_bus
from seawall.ops.lab.stress import load_stress_plan, snapshot_system
from seawall.ops.lab.stress._play import ScenarioResult, play_scenario
from seawall.ops.lab.stress._system import SystemSnapshot, scenario_records
from seawall.ops.run import run
from seawall.schemas.configuration import load_configuration
from seawall.schemas.records import decode_slice
from seawall_testing.desk import T0, Json, account, fill, instrument, lines, transfer
from seawall_testing.market_data import market
from seawall_testing.pipeline import write_configuration

SECONDS = 12
FASTEST = {"tighten_per_s": 1.0, "step_max": 1.0}


def limit(id: str, **scaling: float) -> Json:
    """Return a limit of 1,000 on ETH, of which we hold some 150; it falls to 120 at most."""
    head = {"id": id, "scope": "underlying:ETH", "measure": "gross_notional", "hard": 1000.0}
    return {**head, "floor": 120.0, "ceiling": 1000.0, "scaling": {**scaling, **FASTEST}}


LIMITS: list[Json] = [
    limit("thin", depth_power=0.5, reference_depth=4000.0),
    limit("wild", volatility_power=1, reference_volatility=1.0),
    {"id": "cover", "scope": "account:*", "measure": "margin_ratio", "hard": 1e6},
]


@pytest.fixture(scope="module")
def stood(tmp_path_factory: pytest.TempPathFactory) -> SystemSnapshot:
    """A run over raw records of three venues, in which nothing happens."""
    folder = tmp_path_factory.mktemp("signals")
    book = [*account("a"), transfer(T0 + 1, "t", amount="100000"), fill(T0 + 2, "f")]
    files = {"book.jsonl": lines(instrument(), *book), "market.jsonl": lines(*market(SECONDS))}
    configuration = load_configuration(write_configuration(folder, files, LIMITS, shards=2))
    run(configuration)
    bus = open_bus(configuration.bus, configuration.directory)
    try:
        return snapshot_system(configuration, bus)
    finally:
        bus.close()


def stressed(folder: Path, stood: SystemSnapshot, step: str) -> tuple[ScenarioResult, list[Json]]:
    """Return what a step comes to, and the rows of signals that it is told by."""
    (folder / "case.toml").write_text(f"[[step]]\nat_s = 5\n{step}\n")
    scenario = load_stress_plan(folder / "case.toml").scenarios[0]
    records = json.loads(json.dumps(list(scenario_records(scenario, stood))))
    return play_scenario(scenario, stood), [
        row for one in records if one["type"] == "signal" for row in one["instruments"]
    ]


@pytest.mark.parametrize(
    ("step", "breached"),
    [
        ("", set()),
        ("depth = { ETH = 0.01 }", {"thin underlying:ETH"}),
        ("volatility = { ETH = 20 }", {"wild underlying:ETH"}),
        ("depth = { '*' = 0.01 }\nvolatility = { '*' = 20 }", {"thin underlying:ETH", "wild underlying:ETH"}),
        ("depth = { BTC = 0.01 }\nvolatility = { BTC = 20 }", set()),
    ],
)
def test_a_bound_falls_below_what_is_held_though_no_price_moves(
    tmp_path: Path, stood: SystemSnapshot, step: str, breached: set[str]
) -> None:
    found, _ = stressed(tmp_path, stood, step)
    assert found.breaches == dict.fromkeys(breached, "hard")
    assert (found.rejected, found.pnl_loss) == (0, pytest.approx(0, abs=1e-9))


def test_the_last_signal_is_told_again_with_its_depth_and_volatility_times_the_shock(
    tmp_path: Path, stood: SystemSnapshot
) -> None:
    last = stood.signals["ETH-PERP"]
    _, rows = stressed(tmp_path, stood, "depth = { ETH = 0.25 }\nvolatility = { ETH = 3 }\nprice = { ETH = -0.1 }")
    (row,) = rows
    assert row["price"] == pytest.approx(last.price * 0.9)
    assert row["depth"] == pytest.approx([size * 0.25 for size in last.depth]) and min(last.depth) > 0
    assert row["ew_volatility"] == pytest.approx(last.ew_volatility * 3) and last.ew_volatility > 0
    assert row["realised_volatility"] == pytest.approx(last.realised_volatility * 3)
    assert [one["depth"] for one in row["venues"]] == [[size * 0.25 for size in one.depth] for one in last.venues]


def test_the_journal_of_such_a_scenario_carries_the_signal(tmp_path: Path, stood: SystemSnapshot) -> None:
    found, rows = stressed(tmp_path, stood, "depth = { ETH = 0.01 }")
    told = [event for value in found.journal for event in decode_slice(value).events]
    carried = {tuple(row.depth) for event in told for row in getattr(event, "instruments", ())}
    assert carried == {tuple(row["depth"]) for row in rows} != set()
