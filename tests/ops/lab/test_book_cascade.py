"""Forced sales on a run's own book: the crisis desk, run once, and what scenarios force its accounts to sell."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from seawall.connectors.bus import open_bus
from seawall.operators.core.portfolio import Ledger
from seawall.ops.cli._app import app
from seawall.ops.demo.scenario import write_scenario
from seawall.ops.lab.stress import System, book_markets, snapshot_system
from seawall.ops.lab.stress._system import SystemSnapshot
from seawall.ops.run import run
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import ACCOUNT
from seawall_testing.desk import Json

EQUITY, MAINTENANCE = ACCOUNT.index("equity"), ACCOUNT.index("maintenance_margin")
FALL = """
id = "fall"
text = "all coins fall by a fifth"
[[step]]
at_s = 60
price = { "*" = -0.2 }
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_scenario(tmp_path_factory.mktemp("crisis"), 7).configuration
    run(load_configuration(path))
    return path


@pytest.fixture(scope="module")
def stood(desk: Path) -> SystemSnapshot:
    configuration = load_configuration(desk)
    bus = open_bus(configuration.bus, configuration.directory)
    found = snapshot_system(configuration, bus)
    bus.close()
    return found


@pytest.fixture
def ledgers(stood: SystemSnapshot) -> list[Ledger]:
    found = [one.ledger for one in System.restore(stood.system).exposure if one.ledger is not None]
    for ledger in found:
        ledger.measure(None)
    return found


@pytest.fixture(scope="module")
def answer(desk: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Json, str]:
    folder = tmp_path_factory.mktemp("fall")
    (folder / "fall.toml").write_text(FALL)
    call = ["stress", str(folder / "fall.toml"), "--on", str(desk), "--cascade", "--json"]
    done = CliRunner().invoke(app, [*call, "--report", str(folder / "page.html")])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), (folder / "page.html").read_text()


def test_accounts_begin_with_the_equity_and_the_margin_that_the_run_measured(
    stood: SystemSnapshot, ledgers: list[Ledger]
) -> None:
    book = book_markets(ledgers, stood.signals, {})
    accounts = book.accounts
    measured = [ledger.tables["account"].values for ledger in ledgers if ledger.directory.own]
    equity = accounts.cash + (accounts.coins * (1 - accounts.haircut)).sum(axis=1)
    assert equity == pytest.approx(np.concatenate([values[EQUITY] for values in measured]))
    assert accounts.required == pytest.approx(np.concatenate([values[MAINTENANCE] for values in measured]))
    assert book.unknown == ("USDE",)  # its one market sends marks and no books


def test_a_fall_closes_the_accounts_that_it_takes_below_their_margin_and_no_others(
    answer: tuple[Json, str], ledgers: list[Ledger]
) -> None:
    """By hand: equity and the gains per move that the run itself measures its distance to liquidation by."""
    due = []
    for ledger in (one for one in ledgers if one.directory.own):
        account, _, gain, _ = ledger.health.exposed()
        values = ledger.tables["account"].values
        change = np.bincount(account, -0.2 * gain, len(values[EQUITY]))
        broke = (values[EQUITY] + change < values[MAINTENANCE]) & (values[MAINTENANCE] > 0)
        due += [name for name, one in zip(ledger.directory.own_names, broke, strict=True) if one]
    (step,) = answer[0]["steps"]
    assert due and step["rounds"][0]["liquidated"] == len(due)
    assert {*due} <= {one["account"] for one in step["liquidated"]}


def test_forced_sales_move_the_price_by_their_share_in_the_depth_of_the_journal(
    answer: tuple[Json, str], stood: SystemSnapshot
) -> None:
    (step,) = answer[0]["steps"]
    rows = [stood.signals[name] for name in ("BTC-PERP", "BTC-26DEC25", "BTC-PERP-INVERSE") if name in stood.signals]
    assert [row.instrument for row in rows if row.depth] == ["BTC-PERP"]
    bids = rows[0].depth[1] * rows[0].price  # within 50 basis points
    price = 0.8
    for one in step["rounds"]:
        assert one["forced"]["BTC"] < 0
        price *= max(1 - 0.005 * -one["forced"]["BTC"] / bids, 0.0)
    assert step["shock"]["BTC"] == pytest.approx(-0.2)
    assert step["end"]["BTC"] == pytest.approx(price - 1) and step["end"]["BTC"] < -0.2


def test_the_page_tells_the_steps_and_what_is_assumed(answer: tuple[Json, str]) -> None:
    found, page = answer
    assert found["journal_sha256"] in page and "After 60 seconds" in page
    assert "Insurance funds and auto-deleveraging are the venues" in page and "No depth is known of USDE" in page


def test_a_cascade_takes_one_scenario_and_a_run(desk: Path) -> None:
    for more in ([], ["combined", "2022-05-terra"], ["combined", "--fail-if", "loss > 1"], ["combined", "--contagion"]):
        done = CliRunner().invoke(app, ["stress", *more, "--cascade", "--on", str(desk)])
        assert isinstance(done.exception, UsageError)
