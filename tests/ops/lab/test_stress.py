"""Stress: scenarios as files, played on a run's own book by the code that runs live; reverse stress; the command."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from seawall.operators.core.pricing import black_value
from seawall.ops.cli._app import app
from seawall.ops.lab.stress import (
    System,
    built_in_scenarios,
    find_scenario,
    load_stress_plan,
    load_stress_plans,
    snapshot_system,
)
from seawall.ops.lab.stress._play import play_scenario, play_scenarios, search_breaking_point
from seawall.ops.lab.stress._system import SystemSnapshot, scenario_records
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, lines, mark, sequence, transfer
from seawall_testing.paths import SHARED
from seawall_testing.pipeline import MemoryBus, PipelineRun, journal_in_order, write_configuration

FACTS = SHARED / "vectors" / "risk_scenarios.json"
LIMITS: list[Json] = [
    {"id": "margin", "scope": "account:*", "measure": "margin_ratio", "warning": 0.8, "hard": 1.0},
    {"id": "exposure", "scope": "counterparty:*", "measure": "current_exposure", "hard": 200},
]
PLAYBOOK: list[Json] = [
    {
        "id": "call",
        "when": {"limit": "margin", "level": "hard"},
        "commands": [{"kind": "CALL_MARGIN", "target": "account"}],
    }
]
MARGIN = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05"}
HOUSE: list[Json] = [
    {"type": "counterparty", "counterparty": "alpha", "name": "alpha", "role": "venue"},
    {"type": "account", "account": "house/alpha", "counterparty": "alpha", "holder": "house", "venue": "alpha"},
]


def book() -> list[Json]:
    """Two clients: one long of BTC with much cash, one long of DOGE that 12 % of its position holds; hedged by us."""
    doge = {"base": "DOGE", "quantity_increment": "1"}
    records: list[Json] = [
        {"type": "asset", "asset": "USD", "class": "fiat"},
        instrument("BTC-PERP", base="BTC", **MARGIN),
        instrument("DOGE-PERP", **doge, **MARGIN),
        *account("strong"), *account("weak"), *HOUSE,
        transfer(T0, "t1", "strong", amount="900"), transfer(T0, "t2", "weak", amount="120"),
        transfer(T0, "t3", "house/alpha", amount="100000"),
        mark(T0, "100", "BTC-PERP"), mark(T0, "1", "DOGE-PERP"),
    ]  # fmt: skip
    for at, (who, name, quantity, price) in enumerate(
        (("strong", "BTC-PERP", "10", "100"), ("weak", "DOGE-PERP", "1000", "1"))
    ):
        terms = {"instrument": name, "quantity": quantity, "price": price}
        records += [fill(T0 + SECOND, f"c{at}", who, **terms), fill(T0 + SECOND, f"h{at}", "house/alpha", **terms)]
    return records


@pytest.fixture(scope="module")
def stood(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MemoryBus, SystemSnapshot]:
    folder, bus = tmp_path_factory.mktemp("desk"), MemoryBus()
    files = {"events.jsonl": lines(*book())}
    path = write_configuration(folder, files, LIMITS, PLAYBOOK, shards=2, exposure_change_min=0)
    sequence(path, bus)
    return path, bus, snapshot_system(load_configuration(path), bus)


def plan(folder: Path, text: str) -> Any:
    path = folder / "case.toml"
    path.write_text(text)
    return load_stress_plan(path)


def test_a_scenario_is_played_by_live_code_and_gives_what_the_same_marks_give_live(
    tmp_path: Path, stood: tuple[Path, MemoryBus, SystemSnapshot]
) -> None:
    """Its records, put after the run's own in its input, give the same breaches, commands and measures."""
    found = plan(tmp_path, "[[step]]\nat_s = 10\nprice = { DOGE = -0.1, BTC = -0.05 }\n").scenarios[0]
    result = play_scenario(found, stood[2])
    bus = MemoryBus()
    more = list(scenario_records(found, stood[2]))
    files = {"events.jsonl": lines(*book(), *more)}
    sequence(write_configuration(tmp_path / "live", files, LIMITS, PLAYBOOK, shards=2, exposure_change_min=0), bus)
    live = PipelineRun(journal_in_order(bus, 2), 2)
    assert result.breaches == {"margin account:weak": "hard"}
    assert live.breaches("margin") == [("account:weak", "none", "hard")]
    assert result.commands == {f"{kind} {target}": 1 for kind, target in live.commands()}
    assert result.accounts["weak"] == pytest.approx(live.measures("account:weak")["equity"] - 120)
    assert result.rejected == 0


def test_a_loss_is_of_profit_of_what_clients_cannot_pay_and_of_failed_counterparties(
    tmp_path: Path, stood: tuple[Path, MemoryBus, SystemSnapshot]
) -> None:
    """A fall of 50 %: our hedge loses 500, the client pays 120 of it; turned on paper we earn as much as we lose."""
    found = play_scenario(plan(tmp_path, "[[step]]\nprice = { DOGE = -0.5 }\n").scenarios[0], stood[2])
    assert found.shortfall == pytest.approx(380)
    assert found.loss == pytest.approx(found.pnl_loss + 380)
    assert found.pnl_loss == pytest.approx(0, abs=1e-6)
    failing = play_scenario(
        plan(tmp_path, "[[step]]\nprice = { DOGE = -0.5 }\nfailed = ['weak']\n").scenarios[0], stood[2]
    )
    assert failing.failed == pytest.approx(380)


def test_an_option_that_a_fall_makes_worthless_loses_all_of_its_value(tmp_path: Path) -> None:
    terms = {"base": "BTC", "quantity_increment": "1", "expiry_us": T0 + 5 * 86_400 * SECOND}
    records = [
        instrument("F", kind="future", **terms),
        instrument("C", kind="option", strike="50000", option_type="call", forward="F", **terms),
        *HOUSE, transfer(T0, "t", "house/alpha", amount="100000"), mark(T0, "50000", "F"),
        mark(T0, "2000", "C", implied_volatility="0.6"),
        fill(T0 + SECOND, "f", "house/alpha", instrument="C", quantity="10", price="2000"),
    ]  # fmt: skip
    path, bus = write_configuration(tmp_path, {"events.jsonl": lines(*records)}, [], shards=1), MemoryBus()
    sequence(path, bus)
    falls = "[[step]]\nprice = { BTC = 0 }\n[grid]\n'price.BTC' = [-0.1, -0.4, -0.5, -0.8, -0.999999]\n"
    played = play_scenarios(plan(tmp_path, falls).scenarios, snapshot_system(load_configuration(path), bus))
    assert [one.rejected for one in played] == [0] * 5
    left = 5 * 86_400 / (365 * 86_400)
    worth = 10 * float(black_value(50_000.0, 50_000.0, left, 0.6, True))
    assert played[0].loss < worth
    assert [one.loss for one in played[1:]] == pytest.approx([worth] * 4, rel=1e-4)


def test_playing_changes_nothing_for_the_next_scenario(
    tmp_path: Path, stood: tuple[Path, MemoryBus, SystemSnapshot]
) -> None:
    scenarios = plan(
        tmp_path, "[[step]]\nprice = { DOGE = -0.1 }\n[grid]\n'price.DOGE' = [-0.5, -0.1, -0.5]\n"
    ).scenarios
    one, two, three = play_scenarios(scenarios, stood[2])
    assert one._replace(label="") == three._replace(label="")
    assert one.loss > two.loss


def test_a_restored_system_decides_like_one_that_never_stopped(stood: tuple[Path, MemoryBus, SystemSnapshot]) -> None:
    values = journal_in_order(stood[1], 2)
    whole, half = System(2), System(2)
    for value in values:
        whole.step(value)
    for value in values[: len(values) // 2]:
        half.step(value)
    half = System.restore(half.snapshot())
    for value in values[len(values) // 2 :]:
        half.step(value)
    states = [(system.snapshot()["shards"], system.snapshot()["firm"]) for system in (whole, half)]
    assert states[0] == states[1]


def test_an_outage_blocked_withdrawals_a_stale_feed_and_thin_books_go_together(
    tmp_path: Path, stood: tuple[Path, MemoryBus, SystemSnapshot]
) -> None:
    text = """
[[step]]
at_s = 60
price = { "*" = -0.05 }
depth = { "*" = 0.1 }
volatility = { "*" = 2 }
funding = { "*" = -0.001 }
haircut = { ETH = 0.3 }
venues = { alpha = "withdrawals_blocked" }
stale = ["DOGE"]
[[step]]
at_s = 120
price = { "*" = -0.2 }
venues = { alpha = "down" }
"""
    scenario = plan(tmp_path, text).scenarios[0]
    records = list(scenario_records(scenario, stood[2]))
    assert [r["status"] for r in records if r["type"] == "venue_status"] == ["withdrawals_blocked", "down"]
    assert {r["instrument"] for r in records if r["type"] == "mark"} == {"BTC-PERP"}
    found = play_scenario(scenario, stood[2])
    assert found.rejected == 0
    assert "strong" in found.accounts
    assert "weak" not in found.accounts  # its feed is stale: the book does not see the fall


def test_followers_move_with_the_driver_by_correlation_and_ratio(
    tmp_path: Path, stood: tuple[Path, MemoryBus, SystemSnapshot]
) -> None:
    text = "[[step]]\nprice = { BTC = -0.2 }\n[follow]\ndriver = 'BTC'\ncorrelation = 0.5\nratio = { DOGE = 1.5 }\n"
    records = list(scenario_records(plan(tmp_path, text).scenarios[0], stood[2]))
    prices = {r["instrument"]: float(r["price"]) for r in records if r["type"] == "mark"}
    assert prices == pytest.approx({"BTC-PERP": 80, "DOGE-PERP": 0.85})


def test_marks_between_steps_go_there_in_a_straight_line(
    tmp_path: Path, stood: tuple[Path, MemoryBus, SystemSnapshot]
) -> None:
    text = "every_s = 10\n[[step]]\nat_s = 40\nprice = { BTC = -0.4 }\n"
    records = list(scenario_records(plan(tmp_path, text).scenarios[0], stood[2]))
    prices = [float(r["price"]) for r in records if r["type"] == "mark" and r["instrument"] == "BTC-PERP"]
    assert prices == pytest.approx([90, 80, 70, 60])


def test_a_recorded_path_takes_the_place_of_a_price(
    tmp_path: Path, stood: tuple[Path, MemoryBus, SystemSnapshot]
) -> None:
    (tmp_path / "btc.csv").write_text("open_time_ms,close\n1000,50\n61000,45\n121000,40\n999000,1\n")
    found = plan(tmp_path, "[[path]]\nprice = 'BTC'\nfile = 'btc.csv'\nto_ms = 900000\n").scenarios[0]
    assert [(step.at_us, round(step.price["BTC"], 9)) for step in found.steps] == [
        (60_000_000, -0.1),
        (120_000_000, -0.2),
    ]


# --- reverse ----------------------------------------------------------------------------------------------------------


REVERSE = "[[step]]\nprice = { DOGE = -0.5, BTC = -0.5 }\n[reverse]\n"


def test_a_reverse_stress_finds_the_planted_weakness(
    tmp_path: Path, stood: tuple[Path, MemoryBus, SystemSnapshot]
) -> None:
    """Margin ratio 1 where 120 - 1000 d = 0.05 x 1000 (1 - d): the fall d of DOGE is 7.37 %; BTC alone takes 89 %."""
    found = plan(tmp_path, f"{REVERSE}limit = 'margin'\n")
    directions = search_breaking_point(found.scenarios[0], found.reverse, stood[2])
    first, *_, last = directions
    assert "DOGE" in first.direction or first.direction == "together"
    assert first.size == pytest.approx(70 / 950, abs=2e-4)
    assert first.result is not None
    assert first.result.breaches == {"margin account:weak": "hard"}
    by_name = {one.direction: one for one in directions}
    assert by_name["BTC as given"].size == pytest.approx(850 / 950, abs=2e-4)
    assert by_name["DOGE turned"].multiple is None
    assert last.multiple is None


def test_a_reverse_stress_finds_what_breaks_the_firm(
    tmp_path: Path, stood: tuple[Path, MemoryBus, SystemSnapshot]
) -> None:
    """The firm loses what the client cannot pay, 1000 d - 120, and so 100 at a fall of 22 %."""
    found = plan(tmp_path, f"{REVERSE}firm = true\nown_funds = 100\napart = false\n")
    (only,) = search_breaking_point(found.scenarios[0], found.reverse, stood[2])
    assert only.size == pytest.approx(0.22, abs=2e-4)


def test_a_reverse_stress_of_an_unknown_limit_names_those_there_are(
    tmp_path: Path, stood: tuple[Path, MemoryBus, SystemSnapshot]
) -> None:
    found = plan(tmp_path, f"{REVERSE}limit = 'margins'\n")
    with pytest.raises(UsageError, match="there is no limit 'margins' in this run; choose from margin, exposure"):
        search_breaking_point(found.scenarios[0], found.reverse, stood[2])


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[step]]\nprise = { BTC = -0.5 }\n", "[[step]] 1: there is no key 'prise'; did you mean 'price'?"),
        ("[[step]]\nprice = { BTC = -1.5 }\n", "price: BTC is '-1.5'; it must lie between -0.999999 and 10000"),
        (
            "[[step]]\nvenues = { a = 'gone' }\n",
            "a is 'gone'; it must be one of degraded, down, up, with",
        ),
        ("id = 'x'\n", "nothing happens; add a [[step]] or a [[path]]"),
        ("[[step]]\n[grid]\n'prices.BTC' = [1]\n", "name a table of the steps and a key in it, such as price.BTC"),
        ("[[step]]\n[reverse]\nfirm = true\n", "own_funds is missing; say what the firm can lose"),
        ("[[step]]\n[reverse]\n", "nothing"),
        ("[[step\n", "is not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_a_scenario_is_refused_with_the_key_and_what_to_do(
    tmp_path: Path, text: str, said: str
) -> None:
    if said == "nothing":
        assert plan(tmp_path, text).reverse == {}
        return
    with pytest.raises(UsageError) as refused:
        plan(tmp_path, text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_reverse_search_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "search.toml").write_text(f"{REVERSE}loss = 5\n")
    with pytest.raises(UsageError, match=r"search.toml: a reverse search stands alone"):
        load_stress_plans([tmp_path / "search.toml", find_scenario("combined")])


def test_an_unknown_scenario_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean '2021-05-19'"):
        find_scenario("2021-05-20")


def _scenario_facts() -> dict[str, Any]:
    return {one["id"]: one for one in json.loads(FACTS.read_text())["scenarios"]} if FACTS.exists() else {}


def test_each_of_the_six_crises_has_a_scenario_and_every_scenario_its_sources() -> None:
    names = {"2020-03-black-thursday", "2021-05-19", "2022-05-terra", "2022-06-3ac", "2022-11-ftx", "2025-10-cascade"}
    assert names <= set(built_in_scenarios())
    for name in built_in_scenarios():
        found = load_stress_plan(find_scenario(name)).scenarios[0]
        assert found.text
        assert found.sources


@pytest.mark.skipif(not FACTS.exists(), reason="the facts of crises in shared/vectors are not here")
@pytest.mark.parametrize(
    ("name", "fact", "asset", "low_from"),
    [
        ("2020-03-black-thursday", "2020-03-12_black_thursday", "BTC", ("to", "from")),
        ("2021-05-19", "2021-05-19", "BTC", ("to", "from")),
        ("2022-05-terra", "2022-05_terra_luna", "LUNA", ("to", "from")),
        ("2022-11-ftx", "2022-11_ftx", "BTC", ("pct",)),
        ("2025-10-cascade", "2025-10-10_cascade", "BTC", ("pct",)),
    ],
)
def test_the_moves_of_a_crisis_are_those_of_the_facts(
    name: str, fact: str, asset: str, low_from: tuple[str, ...]
) -> None:
    move = next(one for one in _scenario_facts()[fact]["moves"] if one["asset"] == asset and low_from[0] in one)
    expected = move["pct"] / 100 if low_from == ("pct",) else move["to"] / move["from"] - 1
    steps = load_stress_plan(find_scenario(name)).scenarios[0].steps
    found = next((step.price[asset] for step in reversed(steps) if asset in step.price), math.nan)
    assert found == pytest.approx(expected, abs=0.0006)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from seawall.connectors.bus import SqliteBus

    folder = tmp_path_factory.mktemp("run")
    files = {"events.jsonl": lines(*book())}
    path = write_configuration(folder, files, LIMITS, PLAYBOOK, shards=2, exposure_change_min=0)
    sequence(path, SqliteBus(folder / "seawall.db"))
    return path


def test_the_command_reports_gates_and_keeps_what_it_computed(finished_path: Path, tmp_path: Path) -> None:
    (tmp_path / "fall.toml").write_text("[[step]]\nprice = { DOGE = -0.5 }\n")
    call = [
        "stress",
        str(tmp_path / "fall.toml"),
        "--on",
        str(finished_path),
        "--cache",
        str(tmp_path / "cache"),
        "--json",
    ]
    first = CliRunner().invoke(app, [*call, "--fail-if", "loss > 300"])
    again = CliRunner().invoke(app, [*call, "--fail-if", "loss > 400"])
    assert (first.exit_code, again.exit_code) == (1, 0)
    told, kept = json.loads(first.stdout.splitlines()[0]), json.loads(again.stdout)
    assert (told["cached"], kept["cached"]) == (False, True)
    assert told["figures"]["loss"] == kept["figures"]["loss"] == pytest.approx(380)
    assert told["failed"] == ["loss > 300: loss is 380"]


def test_a_scenario_can_be_kept_as_the_journal_that_risk_goes_on_with(finished_path: Path, tmp_path: Path) -> None:
    from seawall.connectors.bus import open_bus
    from seawall.ops.lab.stress import System

    out = tmp_path / "kept"
    done = CliRunner().invoke(
        app,
        ["stress", "combined", "--on", str(finished_path), "--cache", str(tmp_path / "c"), "--dir", str(out), "--json"],
    )
    assert done.exit_code == 0, done.output
    bus, system = open_bus("sqlite:seawall.db", finished_path.parent), System(2)
    for value in [*journal_in_order(bus, 2), *(out / "journal.jsonl").read_bytes().splitlines()]:
        system.step(value)
    lost = json.loads((out / "result.json").read_text())["accounts"]["strong"]
    found = [one.measures.tables for one in system.measured.values()]
    table = next(t["account"] for t in found if "strong" in t.get("account", [[]])[0])
    assert table.values[0, table.names.index("strong")] == pytest.approx(900 + lost)


def test_the_command_lists_its_scenarios_and_says_what_is_missing(finished_path: Path) -> None:
    assert "2022-11-ftx" in CliRunner().invoke(app, ["stress"]).stdout
    refused = CliRunner().invoke(app, ["stress", "2022-11-ftx"])
    assert isinstance(refused.exception, UsageError)
    assert "--on is missing" in str(refused.exception)
