"""``seawall exposures --explain`` shows the last minute of every scope, as the topic has it."""

import json
from pathlib import Path

import pytest

from seawall_testing.command_line import run_command
from seawall_testing.desk import lines
from seawall_testing.pipeline import write_configuration
from seawall_testing.risk_desk import deposit, house, perpetual, price, trade


def desk(folder: Path, **top: bool) -> Path:
    records = lines(
        perpetual(), house(), price(0.1, "BTC-PERP", "30000"), deposit(0.2, "100000"),
        trade(1, "BTC-PERP", "buy", "10", "30000"), price(39.5, "BTC-PERP", "30000"),
        price(99.5, "BTC-PERP", "31200"),
        price(101, "BTC-PERP", "31200"),
    )  # fmt: skip
    path = write_configuration(folder, {"events.jsonl": records}, shards=1, **top)
    assert run_command("run", path, "--engine", "local").returncode == 0
    return path


def test_the_last_minute_of_every_scope_is_shown(tmp_path: Path) -> None:
    path = desk(tmp_path, pnl_explain=True)
    rows = json.loads(run_command("exposures", path, "--explain", "--json").stdout)
    told = {row["scope"]: row["delta"] for row in rows}
    assert told == dict.fromkeys(("account:desk", "firm"), pytest.approx(12_000))
    shown = run_command("exposures", path, "--explain").stdout
    assert "unexplained" in shown and "account:desk" in shown
    assert run_command("replay", path).returncode == 0


def test_a_run_that_explains_nothing_says_how_to(tmp_path: Path) -> None:
    found = run_command("exposures", desk(tmp_path), "--explain")
    assert found.returncode == 2 and "pnl_explain = true" in found.stderr
