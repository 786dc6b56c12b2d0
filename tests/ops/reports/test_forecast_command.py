"""``seawall forecast`` on a run with forecasts: who is next and why, how good that was, what moves would force."""

import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from seawall.connectors.bus import open_bus
from seawall.connectors.keys import Trust
from seawall.ops.cli._app import app
from seawall.ops.reports import _forecasts
from seawall.ops.reports._forecasts import cascade_words, print_systemic
from seawall.ops.run import run
from seawall.ops.verify import replay, verify
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, lines, mark, transfer
from seawall_testing.pipeline import write_configuration

ON: Json = {"forecasts": {"enabled": True}}
MARGIN = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05"}


def events() -> bytes:
    """Return two hours of two accounts in two shards, one of them near its margin, until the price jumps."""
    rng = np.random.default_rng(5)
    prices = 100 * np.exp(0.0005 * rng.standard_normal(240).cumsum())
    marks = [mark(T0 + at * 30 * SECOND, f"{price:.4f}") for at, price in enumerate(prices.tolist(), 1)]
    return lines(
        instrument(**MARGIN),
        account("safe"),
        account("near"),
        transfer(T0, "t1", "safe", amount="1000"),
        transfer(T0, "t2", "near", amount="12"),
        mark(T0),
        fill(T0, "f1", "safe", quantity="1"),
        fill(T0, "f2", "near", quantity="1"),
        *marks,
        mark(T0 + 7300 * SECOND, "85"),
    )


def begun(folder: Path, **top: Any) -> Path:
    path = write_configuration(folder, {"events.jsonl": events()}, [], [], shards=2, **top)
    run(load_configuration(path))
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return begun(tmp_path_factory.mktemp("desk"), **ON)


def said(*arguments: str | Path) -> Any:
    done = CliRunner().invoke(app, ["forecast", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_run_with_forecasts_replays_byte_for_byte_and_verifies(path: Path) -> None:
    configuration = load_configuration(path)
    bus, trust = open_bus(configuration.bus, configuration.directory), Trust.load(configuration)
    replayed, _, _ = replay(bus, trust.issuers, configuration.shards)
    assert replayed.good, [str(finding) for finding in replayed.findings]
    assert replayed.records["forecasts"] > 2
    verified = verify(bus, trust, configuration.environment, configuration.issuer)
    assert verified.good, [str(finding) for finding in verified.findings]


def test_a_changed_forecast_is_found(tmp_path: Path) -> None:
    configuration = load_configuration(begun(tmp_path, **ON))
    bus = open_bus(configuration.bus, configuration.directory)
    with sqlite3.connect(tmp_path / "seawall.db") as opened:
        opened.execute("update records set value = replace(value, 'near', 'mear') where topic = 'forecasts'")
    verified = verify(bus, Trust.load(configuration), configuration.environment, configuration.issuer)
    assert "forecasts" in {finding.topic for finding in verified.findings}


def test_the_likeliest_to_break_stands_first_with_its_reasons_in_words(path: Path) -> None:
    found = said(path)["forecasts"]
    assert found[0]["scope"] == "account:near"
    assert [row["probability"] for row in found] == sorted((row["probability"] for row in found), reverse=True)
    shown = CliRunner().invoke(app, ["forecast", str(path)], env={"COLUMNS": "200"}).stdout
    assert "account:near" in shown
    assert "level" in _forecasts.forecast_reasons(found[0])


def test_as_of_shows_what_stood_then(path: Path) -> None:
    early = said(path, "--as-of", str(T0 + 1800 * SECOND))
    assert early["as_of_us"] <= T0 + 1800 * SECOND
    assert {row["state"] for row in early["forecasts"]} <= {"no_volatility", "warming"}


def test_scores_of_all_shards_are_added_up_and_drawn(path: Path, tmp_path: Path) -> None:
    minute = next(row for row in said(path)["scores"] if row["horizon_s"] == 60)
    assert minute["outcomes"] >= 2
    assert sum(count for count, _, _ in minute["table"]) == minute["outcomes"]
    drawn = CliRunner().invoke(app, ["forecast", str(path), "--score", "--plot", str(tmp_path / "plot.png")])
    assert drawn.exit_code == 0, drawn.output
    assert "outcomes" in drawn.stdout
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_map_shows_what_a_fall_would_force_and_that_depth_is_assumed(path: Path) -> None:
    (found,) = said(path, "--map", "--as-of", str(T0 + 7000 * SECOND))["underlyings"]
    assert found["scope"] == "underlying:ETH"
    assert not found["depth_known"]
    assert found["alone_sold"][0] == pytest.approx(100, rel=0.1)  # near's one coin; safe's stands at -50 %
    assert found["alone_sold"][50] == 0.0
    assert found["cascade_multiplier"][50] == 1.0
    shown = CliRunner().invoke(app, ["forecast", str(path), "--map"])
    assert "no signal told of it" in shown.stdout


def test_losses_are_told_for_the_firm_first_and_then_for_who_would_cost_most(tmp_path: Path) -> None:
    where = begun(tmp_path, forecasts={"enabled": True, "losses": True})
    rows = said(where)["losses"]
    assert [row["scope"] for row in rows] == ["firm", "counterparty:near", "counterparty:safe"]
    assert all(row["var_99_1h"] < row["var_99"] < row["es_975"] for row in rows)
    shown = CliRunner().invoke(app, ["forecast", str(where)], env={"COLUMNS": "200"}).stdout
    assert "Losses in USD" in shown
    assert f"{rows[0]['stress_loss']:,.2f}" in shown
    early = said(where, "--as-of", str(T0 + 60 * SECOND))["losses"]
    assert early != rows
    assert {row["state"] for row in early} == {"warming"}


def test_where_losses_are_not_measured_nothing_is_told_of_them(path: Path) -> None:
    assert said(path)["losses"] == []
    assert "Losses" not in CliRunner().invoke(app, ["forecast", str(path)]).stdout


def test_a_run_without_forecasts_says_which_key_makes_them(tmp_path: Path) -> None:
    configuration = load_configuration(begun(tmp_path))
    with pytest.raises(UsageError, match=r"enabled = true under \[forecasts\]"):
        _forecasts.report_forecasts(open_bus(configuration.bus, configuration.directory), None)


def test_systemic_stress_and_what_would_feed_itself_are_told_in_words(path: Path) -> None:
    found = said(path)
    assert found["systemic"]["parts"]["turbulence"]["state"] == "warming"
    assert [row["scope"] for row in found["cascades"]] == ["underlying:ETH"]
    shown = CliRunner().invoke(app, ["forecast", str(path)], env={"COLUMNS": "200"}).stdout
    assert "Systemic stress 0.00 of 1, calm, above the worst of 0% of the last 2 hours" in shown
    assert "not known yet: fewer than two days have been seen" in shown
    assert "underlying:ETH: a move of up to 20 % becomes up to" in shown
    assert "(depth assumed)" in shown


def test_parts_that_raise_the_composite_most_stand_first() -> None:
    known = {"turbulence": (16.0, 0.6), "absorption_ratio": (0.9, 0.9), "network_centrality": (0.2, 0.4)}
    parts = {name: {"value": a, "score": b, "weight": 0.5, "state": "ready"} for name, (a, b) in known.items()}
    row = {"systemic_stress": 0.7, "rank": 0.99, "hours": 720, "most_central": "hub", "parts": parts}
    out = io.StringIO()
    print_systemic(row, Console(width=160, file=out))
    text = out.getvalue()
    assert "0.70 of 1, alarm, above the worst of 99% of the last 720 hours" in text
    assert text.index("explains 90%") < text.index("4.0 times as large as usual") < text.index("the default of hub")


def test_a_move_that_does_not_end_is_said_to_be_without_end() -> None:
    row = {"scope": "underlying:BTC", "cascade_multiplier": None, "diverges_at": -0.07, "depth_known": True}
    assert (
        cascade_words(row)
        == "underlying:BTC: a move of up to 20 % would not come to rest, from -7% on it does not stop"
    )
